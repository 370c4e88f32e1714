/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_STORE_H
#define DHASH_STORE_H

/*
 * History and crash-safe state in SQLite: one connection, WAL, synchronous=FULL, EXCLUSIVE, on its
 * own writer thread.  Batches are committed in the order of store_commit(), several together when
 * the disk is slow; queries run on the same thread, between batches, and see everything committed
 * before.
 *
 * After an I/O error the store stops acknowledging, closes, opens again and checks; while it
 * cannot, it is read-only and says so (store_failed()); batches wait, and are never reported as
 * done.
 */

#include <jansson.h>

#include "daemon/core/core.h"

struct event_base;
struct store;
struct batch;

/*
 * Of SQLite as a whole, before the first store_open().  Lack of memory ends the program as in
 * xmalloc(), for SQLite would bind NULL in place of a text, say; and what it finds wrong is logged,
 * as its errors alone do not tell which call of the system failed, and why.
 */
void store_set_up_library(void);

/*
 * Opens or creates PATH, runs the numbered migrations, and starts the writer thread.  A damaged
 * file is renamed to PATH.corrupt-<time> and reported through *ret_note (owned by the caller, or
 * NULL). Errors: -EBUSY when another process has it open, -ENOTSUP when it was written by a newer
 * version, else -errno; *ret_note then says why in words, or is NULL.
 */
int store_open(struct event_base *base, const char *path, struct store **ret, char **ret_note);
/*
 * Tries once more to commit what is queued, answers what is due, and closes.  Batches that cannot
 * be written then are dropped without their done().
 */
void store_close(struct store *s);
/* NULL while all is well, else why commits cannot be made now. */
const char *store_failed(const struct store *s);
/* How many batches were handed over and are not reported as done. */
unsigned store_waiting(const struct store *s);
/* Calls fn on the loop when that changes; problem is NULL when all is well again. */
void store_on_state(struct store *s, void (*fn)(void *arg, const char *problem), void *arg);

/* Core time goes on across restarts: the pair written with every batch. */
struct store_clock {
	bool valid;
	usec_t core, wall, boottime;
	char boot_id[40];
};

struct store_recovered {
	struct deployment deployment; /* policy is not filled in: parse `config` */
	char *config;           /* owned: environment's configuration, as given to batch_create() */
	struct sample *samples; /* owned; since deployed_at, in order */
	size_t n_samples;
	struct alert *alerts; /* owned; open ones */
	size_t n_alerts;
};

/* Before the loop runs: what is needed to go on.  The newest deployment of each
 * service/environment. */
int store_load(struct store *s, struct store_clock *ret_clock, struct store_recovered **ret,
	       size_t *ret_n);
void store_recovered_free(struct store_recovered *r, size_t n);

/* A transaction in the making.  Everything is copied. */
struct batch *batch_new(const struct store_clock *clock);
void batch_free(struct batch *b);
bool batch_empty(const struct batch *b);
void batch_deployment(struct batch *b, const struct deployment *d);
/* The configuration frozen with a new deployment; in the same batch as its first
 * batch_deployment(). */
void batch_config(struct batch *b, const char *deployment_id, const char *config);
void batch_sample(struct batch *b, const char *deployment_id, const struct sample *s);
void batch_decision(struct batch *b, const char *deployment_id, const struct decision *d);
void batch_alert(struct batch *b, const struct alert *a);
/* The event stream: `json` (borrowed) gets its sequence number and is kept; see store_events(). */
void batch_event(struct batch *b, const char *service, const char *environment,
		 const char *deployment_id, json_t *json);

struct backup_row {
	char path[PATH_MAX_LEN];
	char sha256[DIGEST_MAX_LEN];
	char service[NAME_MAX_LEN], environment[NAME_MAX_LEN];
	char deployment[DEPLOYMENT_ID_MAX];
	char tag[TAG_MAX_LEN]; /* the release that was in place when it was taken; "" unknown */
	bool emergency;
	bool corrupt; /* failed verification */
	int64_t bytes;
	usec_t created_wall;
	usec_t verified_wall; /* last successful verification; 0 = never */
};
void batch_backup(struct batch *b, const struct backup_row *r); /* insert, or update by path */
/* Marks a tag bad for an environment, or clears it. */
void batch_bad_tag(struct batch *b, const char *service, const char *environment, const char *tag,
		   bool bad, const char *why);
/* Audit trail: an operator's act, granted or not. */
void batch_audit(struct batch *b, unsigned uid, int pid, const char *act, const char *target,
		 const char *reason, bool granted);

/* Hands the batch over; `done` runs on the loop when it is on disk (never on failure: it waits). */
void store_commit(struct store *s, struct batch *b /* owned */, void (*done)(void *arg), void *arg);

/*
 * Queries: run on the writer thread, answered on the loop with a new JSON value (owned by the
 * callee) or NULL with an errno-style error.  Every call gets exactly one answer.
 */
typedef void store_json_fn(void *arg, int error, json_t *json);
struct store_filter {
	const char *service, *environment, *deployment; /* NULL = any */
	int64_t after;                                  /* events: sequence numbers over this */
	unsigned limit;
};
/* Array of deployments, newest first; fields as in dhash-protocol(7), made by deployment_to_json().
 */
void store_history(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg);
/* One deployment with "decisions", "alerts", "samples" (last `limit`); -ENOENT when unknown. */
void store_show(struct store *s, const char *deployment_id, unsigned limit, store_json_fn *fn,
		void *arg);
/* Array of {"seq":…, …} in order, at most limit. */
void store_events(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg);
void store_backups(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg);
/*
 * One object: {"succeeded":bool} did the newest attempt of tag succeed there,
 * {"bad":bool,"why":text} is it marked bad, {"previous":tag|""} the last tag that succeeded there,
 * {"in_place":tag|""} what is there now as far as is known, {"deployments":n} how many ever got as
 * far as the deploy step there.
 */
void store_tag_facts(struct store *s, const char *service, const char *environment, const char *tag,
		     store_json_fn *fn, void *arg);

typedef void store_rows_fn(void *arg, int error, struct backup_row *rows /* borrowed */, size_t n);
/* Backups of an environment taken before `before_wall` (0 = all), newest first. */
void store_backup_rows(struct store *s, const char *service, const char *environment,
		       usec_t before_wall, store_rows_fn *fn, void *arg);
/* Backups of any place whose path begins with `stem`. */
void store_backups_named(struct store *s, const char *stem, store_rows_fn *fn, void *arg);

/* Shared JSON views of the core's structs, for store, status and events alike (json_view.c). */
json_t *deployment_to_json(const struct deployment *d);
json_t *sample_to_json(const struct sample *s);
/* "since_ms" is null: only the caller knows what time it is. */
json_t *evidence_to_json(const struct evidence *e);
json_t *decision_to_json(const struct decision *d);
json_t *alert_to_json(const struct alert *a);
json_t *backup_to_json(const struct backup_row *b);

#endif
