/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_FOLLOW_H
#define DHASH_CLIENT_FOLLOW_H

/*
 * Waiting: the event stream of a deployment to its end, or of everything for as long as it is
 * wanted.  A restart of the daemon is ridden out: the stream goes on after the last event seen.
 */

#include <jansson.h>
#include <stdbool.h>

#include "client/client.h"
#include "common/time-util.h"

struct stream;

struct follow {
	struct client *client;
	const char *id;                    /* deployment, or NULL: endless */
	const char *service, *environment; /* filters of an endless one, or NULL */
	int64_t after;                     /* events up to this one are known */
	usec_t deadline;                   /* CLOCK_BOOTTIME; USEC_INFINITY = none */
	bool patient;                      /* the daemon was there a moment ago: wait for it */
	bool ndjson;                       /* print events as JSON, where JSON was asked for */
	json_t *deployment;                /* owned; the newest that is known */

	/* private */
	struct stream *stream; /* owned */
	usec_t heard, progressed;
	unsigned delay_ms;
	bool away;
};

/* EXIT_OK: the deployment has ended, f->deployment tells how.  EXIT_RUNNING: Ctrl-C or the deadline
 * came first; *ret_detached says which.  Else what was reported already. */
int follow_run(struct follow *f, bool *ret_detached);
void follow_done(struct follow *f);

/* The number of the newest event there is; 0 when none, or when it cannot be had. */
int64_t follow_position(struct client *c);

/* "in 15min" of --timeout as a deadline. */
usec_t follow_deadline(const struct args *a);

/* Waits for a deployment that was just begun, and says how it ended; returns its exit code. */
int follow_to_the_end(struct client *c, const char *id, int64_t after, int if_rolled_back);

/* The exit code of a deployment's state; -1 while it is live. */
int follow_exit_code(const char *state, int if_rolled_back);

#endif
