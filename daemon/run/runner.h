/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_RUNNER_H
#define DHASH_RUN_RUNNER_H

/*
 * The runner's work, from the claim of a transaction to its result, whatever asked for it.
 *
 *                    exits by itself
 *   STAGE_RUNNING ──────────────────────────────────────────────→ STAGE_DRAINING → STAGE_ENDED
 *        │ deadline, or SIGTERM to us                                  ↑
 *        └→ STAGE_TERMINATING (TERM to the group) ── all gone ─────────┤
 *                │ kill_usec                                           │
 *                └→ STAGE_KILLING (KILL to all descendants) ─ all gone ┘
 *
 * When the command exits by itself, what it left running is left alone: a deploy hook may have
 * started the service.  At a deadline nothing is: all orphans come to us, as we are a subreaper.
 * When we are killed the command is killed with us: it was started, and has no result.
 */

#include "daemon/run/command.h"
#include "daemon/run/output.h"
#include "daemon/run/request.h"

enum stage { STAGE_RUNNING, STAGE_TERMINATING, STAGE_KILLING, STAGE_DRAINING, STAGE_ENDED };

struct runner {
	const struct hook_files *files;
	const struct hook_request *r; /* what is run; NULL: nothing */
	struct command command;
	struct output output;
	int signals, timer; /* owned */
	int room;           /* owned: for the result, or an error */
	enum stage stage;
	usec_t began, killing_since;
	bool exited; /* the command itself; wait_status and took are valid */
	int wait_status;
	usec_t took;
	char *fault; /* owned; why it could not be run */
	bool timed_out, cancelled, survivors;
	bool checked; /* nothing was to be run, and all of it could be */
};

void runner_init(struct runner *u);
void runner_done(struct runner *u);
/* First of all: signals, descriptors and children as the rest of it needs them. */
void runner_detach(void);
/* Exit statuses of the program: RUNNER_OK, or why the transaction is not ours. */
int runner_claim(const struct runner *u);
/* After the claim: runs r, or nothing where there is none, and writes the result. */
int runner_work(struct runner *u);
/* A line for whoever started the runner by hand, and for the journal. */
void runner_complain(const char *what, const char *why);

#endif
