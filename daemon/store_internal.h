/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_STORE_INTERNAL_H
#define DHASH_STORE_INTERNAL_H

/*
 * What the store's own files share: store.c (the loop's side), store_thread.c (the writer thread),
 * store_ask.c (queries on their way to it), store_schema.c (open, migrations), store_write.c
 * (records), store_read.c (rows), store_query.c (their answers).  db_*() run on the writer thread,
 * or before it starts.
 */

#include <pthread.h>
#include <sqlite3.h>

#include "daemon/store.h"

enum record_kind {
	REC_DEPLOYMENT,
	REC_CONFIG,
	REC_SAMPLE,
	REC_DECISION,
	REC_ALERT,
	REC_EVENT,
	REC_BACKUP,
	REC_BAD_TAG,
	REC_AUDIT
};

struct record {
	struct record *next;
	enum record_kind kind;
	char id[DEPLOYMENT_ID_MAX];
	union {
		struct deployment deployment;
		struct sample sample;
		struct decision decision;
		struct alert alert;
		struct backup_row backup;
		char *config; /* owned */
		struct {
			char service[NAME_MAX_LEN], environment[NAME_MAX_LEN];
			char *json; /* owned */
		} event;
		struct {
			char service[NAME_MAX_LEN], environment[NAME_MAX_LEN], tag[TAG_MAX_LEN];
			bool bad;
			char why[TEXT_MAX_LEN];
		} bad_tag;
		struct {
			unsigned uid;
			int pid;
			char act[64], target[160], reason[TEXT_MAX_LEN];
			bool granted;
		} audit;
	} u;
};

struct batch {
	struct store_clock clock;
	struct record *first, **last;
};

/* --- work for the thread --- */

enum work_kind { WORK_COMMIT, WORK_QUERY, WORK_STATE };

struct work {
	struct work *next;
	enum work_kind kind;
	/* commit */
	struct batch *batch; /* owned */
	int64_t number;      /* counts batches for ever: the last one in is in the database too */
	void (*done)(void *arg);
	void *arg;
	/* query: run on the thread, answered on the loop */
	void (*query)(sqlite3 *db, struct work *w);
	void (*answer)(struct work *w);
	char *service, *environment, *text; /* owned */
	struct store_filter filter;         /* points to the three */
	usec_t before;
	json_t *json;            /* owned, until answered */
	struct backup_row *rows; /* owned */
	size_t n_rows;
	int error;
	store_json_fn *json_fn;
	store_rows_fn *rows_fn;
};

struct work_list {
	struct work *first, **last;
};
void work_list_init(struct work_list *l);
void work_list_add(struct work_list *l, struct work *w);
struct work *work_list_take(struct work_list *l); /* or NULL */
void work_list_move(struct work_list *to, struct work_list *from);
void work_free(struct work *w);

enum { PROBLEM_MAX = 400 };

struct store {
	pthread_t thread;
	bool started;
	pthread_mutex_t db_lock; /* held while the connection is in use */

	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under lock */
	struct work_list todo, finished;
	bool ending;
	char problem[PROBLEM_MAX]; /* "" = none */

	/* the thread's, once it runs */
	char *path;               /* owned */
	sqlite3 *db;              /* NULL = must be opened again */
	bool settled;             /* what the connection shows is known to be on the disk itself */
	struct work_list pending; /* batches that are not on disk yet */
	int64_t number;           /* of the newest batch */
	usec_t trim_at;           /* of the thread: when memory may be given back again */
	usec_t wait, next_try;    /* after a failure; CLOCK_MONOTONIC */

	/* the loop's */
	int fd; /* eventfd: something is finished */
	struct event *ev;
	char shown[PROBLEM_MAX]; /* copy of problem */
	unsigned n_waiting;
	void (*on_state)(void *arg, const char *problem);
	void *on_state_arg;
};

void *store_thread_main(void *arg); /* of struct store */
/* Commits what is pending if the time for it has come, or `now_or_never`. */
void store_try_write(struct store *s, bool now_or_never);
/* Opens the connection if it is closed.  SQLite's result code; *ret_error (owned) on failure. */
int store_reopen(struct store *s, char **ret_error);
void store_enqueue(struct store *s, struct work *w);
void store_close_db(struct store *s);

/* --- the database --- */

/* Opens, checks and migrates.  SQLite's result code; *ret_error (owned) says what failed. */
int db_open(const char *path, sqlite3 **ret, char **ret_error);
int db_exec(sqlite3 *db, const char *sql);
/* A statement kept prepared for the connection's life.  NULL on failure. */
sqlite3_stmt *db_prepare(sqlite3 *db, const char *sql);
/* The text of the last failure, with the system's word for it (errno was 0 before).  Owned by the
 * caller. */
char *db_error(sqlite3 *db);

/* Every record of the batch, in the transaction that is open. */
int db_write(sqlite3 *db, const struct batch *b);
/* The number of the last batch that is in: written in its transaction. */
int db_write_number(sqlite3 *db, int64_t number);
int db_read_number(sqlite3 *db, int64_t *ret);

int
db_load(sqlite3 *db, struct store_clock *ret_clock, struct store_recovered **ret, size_t *ret_n);
int db_read_deployment(sqlite3_stmt *s, struct deployment *d);
sqlite3_stmt *db_select_deployments(sqlite3 *db, const char *tail);
int db_errno(int r); /* of SQLite's code */
void db_column_text(sqlite3_stmt *s, int i, char *dst, size_t n);
/* A series is a JSON array: result, gauge, span, bad, bad_warn, total, value. */
enum { SERIES_LEN = 7 };
/* Rows of samples and alerts, as these SELECTs give them. */
#define SAMPLE_COLUMNS                                                                             \
	"SELECT at, wall, kind, result, took, flags, detail, rate, latency FROM samples "
void db_read_sample(sqlite3_stmt *s, struct sample *p);
#define ALERT_COLUMNS                                                                              \
	"SELECT deployment, cause, level, raised_at, raised_wall, resolved_at, resolved_wall, "    \
	"text FROM alerts "
int db_read_alert(sqlite3_stmt *s, struct alert *a); /* -EBADMSG: of no known kind */

json_t *db_history(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_show(sqlite3 *db, const char *id, unsigned limit, int *ret_error);
json_t *db_events(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_backups(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_tag_facts(sqlite3 *db, const char *service, const char *environment, const char *tag,
		     int *ret_error);
int db_backup_rows(sqlite3 *db, const char *service, const char *environment, usec_t before_wall,
		   struct backup_row **ret, size_t *ret_n);
int db_backups_named(sqlite3 *db, const char *stem, struct backup_row **ret, size_t *ret_n);

/* One row per column of struct deployment: used for writing, loading and the schema alike. */
enum column_type { COL_TEXT, COL_TIME, COL_UINT, COL_BOOL, COL_STATE };
struct column {
	const char *name;
	enum column_type type;
	size_t offset, size;
};
extern const struct column deployment_columns[];
extern const size_t deployment_columns_len;

#endif
