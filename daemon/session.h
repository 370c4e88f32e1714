/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_SESSION_H
#define DHASH_SESSION_H

/*
 * The folder of a deployment, for people and their tools, as the operations guide has it:
 *   sessions/<id>/session.log deploy.log monitor.log rollback.log incident-report.md hooks/
 * The database is what counts; these files are written after it, in order, on a thread of their
 * own, and a failure to write them is logged and stops nothing.
 */

#include <jansson.h>

#include "daemon/core/core.h"

struct event_base;
struct scribe;

int scribe_new(struct event_base *base, const char *state_dir, struct scribe **ret);
/* Writes what is queued, then ends. */
void scribe_free(struct scribe *s);

/* The folder of a deployment; a new string, owned by the caller. */
char *session_path(const char *state_dir, const char *id, const char *file /* or NULL */);

/* Makes the folder; -EEXIST when the id is taken.  For the loop: it need not be on disk yet. */
int session_reserve(const char *state_dir, const char *id);

/* Makes the folder that holds the sessions, and the one of a deployment that the database knows
 * (NULL: of none): a power cut may have taken it away.  At the start. */
int session_restore(const char *state_dir, const char *id);

/* Returns when the folder is on disk, with what was synced in it.  Not for the loop. */
int session_sync(const char *state_dir, const char *id);

/* Appends one line, stamped, to a file of the session. */
__attribute__((format(printf, 5, 6))) void
session_log(struct scribe *s, const char *id, const char *file, usec_t wall, const char *fmt, ...);
/* The head of session.log with the guide's fields, unless it has been begun. */
void session_begin(struct scribe *s, const struct deployment *d);
/* Writes a whole file atomically; text is owned by the callee. */
void session_write(struct scribe *s, const char *id, const char *file, char *text);

/* The incident report with the guide's headings, from store_show()'s object. A new string. */
char *incident_report(const json_t *deployment);

#endif
