/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_JOURNAL_H
#define DHASH_CLIENT_JOURNAL_H

/*
 * Reading the journal, by sd-journal; knows nothing of how it is shown.
 *
 * Anybody may send the journal a record that says DHASH_DEPLOYMENT=.  Only what journald itself
 * found out is believed: _SYSTEMD_UNIT is dhashd.service, or the unit of one of its hooks,
 * dhash-hook@<deployment>.<step>….service; and a hook's unit speaks for its own deployment only.
 * systemd's own records about these units (from process 1) are there as well.
 */

#include <stdbool.h>

#include "common/time-util.h"

struct journal;

enum journal_source {
	JOURNAL_DAEMON,
	JOURNAL_HOOK,
	JOURNAL_SYSTEMD,
	_JOURNAL_SOURCE_MAX,
};
const char *journal_source_name(enum journal_source s);

enum journal_field {
	JF_MESSAGE,
	JF_MESSAGE_ID,
	JF_KIND,
	JF_SERVICE,
	JF_ENVIRONMENT,
	JF_DEPLOYMENT,
	JF_TAG,
	JF_RULE,
	JF_DECISION,
	JF_ACTOR_UID,
	JF_UNIT, /* that sent it, or that systemd speaks of */
	_JF_MAX,
};

struct journal_record {
	usec_t at; /* wall time at which journald took it */
	int priority;
	enum journal_source source;
	char *field[_JF_MAX]; /* owned; escaped, capped; NULL where it has none */
};
void journal_record_done(struct journal_record *r);

/*
 * The machine's journal, or the one copied to `directory`; of one deployment, or of everything
 * where id is NULL.  Errors: -EACCES, it may not be read; -ENOENT, there is none; else what the
 * system says.
 */
int journal_open(const char *directory, const char *id, struct journal **ret);
void journal_free(struct journal *j);

/* Where the next step begins: before everything, behind everything, or at a moment. */
int journal_seek_head(struct journal *j);
int journal_seek_tail(struct journal *j);
int journal_seek_time(struct journal *j, usec_t wall);

/* To the next record that is believed, or the one before: 1, or 0 at the end.  A 0 backwards leaves
 * the place where it is: seek before going on. */
int journal_next(struct journal *j);
int journal_previous(struct journal *j);

/* The record that was stepped to. */
void journal_get(struct journal *j, struct journal_record *ret);

/* --- following --- */

/* From now on hooks that begin later are found as well; costs more per record. */
int journal_follow(struct journal *j);
/* What to poll for, and for how long at most (-1 = without end); then, whatever happened,
 * journal_process(), and journal_next() again. */
int journal_poll_fd(struct journal *j, short *ret_events, int *ret_timeout_ms);
int journal_process(struct journal *j);

#endif
