/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_ACT_INTERNAL_H
#define DHASH_ACT_INTERNAL_H

/*
 * What the files of the acts share: act.c (life, gates), act_backup.c, act_choose.c (what to go
 * back to), act_release.c (deploy and rollback: hooks and the built-in engine).
 *
 * An act is started by an effect, and ends with exactly one answer: the event that repeats the
 * effect's attempt.  Answering frees it.
 */

#include "common/log.h"
#include "daemon/daemon.h"
#include "daemon/release/backup.h"

enum act_kind { ACT_GATES, ACT_BACKUP, ACT_CHOOSE, ACT_DEPLOY, ACT_ROLLBACK };

struct act {
	struct job job; /* first: a job is cast back to its act */
	struct act *next;
	struct target *target; /* NULL: the target is gone, only clean up */
	struct daemon *daemon;
	enum act_kind kind;
	unsigned attempt;
	struct deployment d;   /* as it was when the act began */
	struct conf_env *conf; /* owned: a reload or the next deployment must not take it away */
	struct hook *hook;     /* running */
	bool in_worker, emergency;

	/* what the worker works on, and finds */
	char *file;      /* owned */
	char *note_path; /* owned: remembers the release from before a deploy */
	struct backup_made made;
	struct backup_row *rows; /* owned: candidates, best first; or those of the name */
	size_t n_rows, chosen;
	bool rows_known; /* the store could be asked which of that name there are */
	bool recorded;   /* made, and in the database, before a restart */
	unsigned n_corrupt;
	bool any_verified;
	char *error; /* owned */
	int result;
};

struct act *
act_new(struct target *t, enum act_kind kind, const struct deployment *d, unsigned attempt);
void act_free(struct act *a);
/* Posts the answer, unless nobody is left to hear it.  The act lives on. */
void act_answer(struct act *a, struct core_event *e);
/* Posts a hook's end, and frees the act. */
void act_answer_hook(struct act *a, enum hook_outcome outcome, const char *text);
/* `work` runs on a worker thread, then `done` on the loop: it has to clear in_worker. */
void act_submit(struct act *a, void (*work)(struct job *), void (*done)(struct job *));

struct log_fields act_log_fields(const struct act *a); /* borrowed from the act */

/* The folder that paths of the configuration are relative to. */
const char *act_root(const struct conf_env *conf);
/* Releases in folders, and the way back is the rename of `current`. */
bool act_uses_engine(const struct conf_env *c);
/* The folder that has `current` and releases/. */
const char *act_releases(const struct conf_env *c);
/* The file that remembers which release was in place before; owned by the caller. */
char *act_previous_release_note(const struct daemon *d, const char *id);

#endif
