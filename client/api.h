/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_API_H
#define DHASH_CLIENT_API_H

/*
 * dhash-protocol(7) as functions: a request, its JSON, and what a failure means for the operator
 * and the exit code.
 */

#include <jansson.h>

#include "client/client.h"

struct failure {
	int exit;      /* enum exit_code */
	bool away;     /* nobody answered, or not now: it may come back */
	bool unsure;   /* the request went out: whether it was carried out is not known */
	json_t *error; /* owned: {"error":{"kind","message","detail"}}, always there */
};
void failure_done(struct failure *f);
/* Says it with the hints that fit, as JSON too where that was asked for; returns the exit code. */
int failure_report(struct client *c, const struct failure *f);
/* The daemon's word for it, "" when it has none. */
const char *failure_kind(const struct failure *f);
/* The deployment that is in the way, where the daemon names one; owned. */
char *failure_holder(const struct failure *f);

/* The exit code of an error's kind and HTTP status. */
int api_exit_code(const char *kind, long status);

/* "/v1/status?service=a&environment=b"; owned.  NULL leaves a parameter out; both are valid names,
 * so nothing needs escaping. */
char *api_path(const char *base, const char *service, const char *environment);

/* One request.  body (stolen) may be NULL.  Returns 0, or -1 with *ret_failure filled in. */
int api_try(struct client *c, const char *method, const char *path, json_t *body,
	    unsigned timeout_s, json_t **ret, struct failure *ret_failure);

/* The same, failures reported: returns an exit code; EXIT_OK means that *ret is there. */
__attribute__((format(printf, 3, 4))) int
api_get(struct client *c, json_t **ret, const char *fmt, ...);
/* EXIT_OK, or why not, reported: whether they are names of something.  An empty list does not tell
 * "nothing yet" from a name that is misspelt. */
int api_known(struct client *c, const char *service, const char *environment);
int api_post(struct client *c, const char *path, json_t *body, unsigned timeout_s, json_t **ret);

/* Fills in a failure of the connection (conn.h) or of an answer that is not 2xx. */
void failure_from_errno(struct failure *f, const char *socket, int error);
void failure_from_answer(struct failure *f, long status, const char *body, size_t len);

#endif
