/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_REQUESTS_INTERNAL_H
#define DHASH_REQUESTS_INTERNAL_H

/*
 * What the files of the operators' requests share: requests.c (dispatch, audit, who waits),
 * request_acts.c (deploy, rollback, abort), request_reads.c (views).  Each request_…() answers its
 * request, now or later, exactly once.
 */

#include "daemon/daemon.h"

/* A string of a request's arguments, "" where there is none; a flag, false where there is none. */
const char *arg_text(const json_t *o, const char *key);
bool arg_flag(const json_t *o, const char *key);

/* The target that the arguments name; NULL after an error was answered. */
struct target *request_target(struct daemon *d, struct ctl_request *r, const json_t *args);
/* Answers that there is no such service or environment. */
void request_unknown(struct daemon *d, struct ctl_request *r, const char *service,
		     const char *environment);
/* True after it was answered that nothing can be changed now. */
bool request_refuse_read_only(struct daemon *d, struct ctl_request *r);

/* Notes who waits for the core's answer; owned by the daemon until it is taken. */
struct asked *asked_new(struct daemon *d, struct ctl_request *r, enum ctl_op op,
			const struct peer *p, const struct target *t, const char *reason);
struct asked *asked_take(struct daemon *d, uint64_t token);
void asked_free(struct asked *a);

/* request_acts.c */
void request_deploy(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body);
void request_rollback(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body);
void request_abort(struct daemon *d, struct ctl_request *r, const struct peer *p, const char *id,
		   json_t *body);

/* request_reads.c */
void request_version(struct daemon *d, struct ctl_request *r);
void request_status(struct daemon *d, struct ctl_request *r, json_t *query);
void request_rows(struct daemon *d, struct ctl_request *r, enum ctl_op op, json_t *query);
void request_show(struct daemon *d, struct ctl_request *r, const char *id);
void request_explain(struct daemon *d, struct ctl_request *r, json_t *query);
void request_verify(struct daemon *d, struct ctl_request *r, json_t *body);
void request_config(struct daemon *d, struct ctl_request *r);
void request_events(void *arg, struct ctl_request *r, int64_t after, const char *deployment,
		    unsigned limit);

#endif
