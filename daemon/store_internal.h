/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_STORE_INTERNAL_H
#define DHASH_STORE_INTERNAL_H

/*
 * What the store's own files share: store.c (thread and queue), store_schema.c (open, migrations),
 * store_write.c (records), store_read.c (queries).  db_*() run on the writer thread, or before it starts.
 */

#include <sqlite3.h>

#include "daemon/store.h"

enum record_kind { REC_DEPLOYMENT, REC_CONFIG, REC_SAMPLE, REC_DECISION, REC_ALERT, REC_EVENT, REC_BACKUP,
		   REC_BAD_TAG, REC_AUDIT };

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

/* Opens, checks and migrates.  SQLite's result code; *ret_error (owned) says what failed. */
int db_open(const char *path, sqlite3 **ret, char **ret_error);
int db_exec(sqlite3 *db, const char *sql);
/* Every record of the batch, in the transaction that is open. */
int db_write(sqlite3 *db, const struct batch *b);

/* A statement kept prepared for the connection's life.  NULL on failure. */
sqlite3_stmt *db_prepare(sqlite3 *db, const char *sql);

int db_load(sqlite3 *db, struct store_clock *ret_clock, struct store_recovered **ret, size_t *ret_n);
json_t *db_history(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_show(sqlite3 *db, const char *id, unsigned limit, int *ret_error);
json_t *db_events(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_backups(sqlite3 *db, const struct store_filter *f, int *ret_error);
json_t *db_tag_facts(sqlite3 *db, const char *service, const char *environment, const char *tag,
		     int *ret_error);
int db_backup_rows(sqlite3 *db, const char *service, const char *environment, usec_t before_wall,
		   struct backup_row **ret, size_t *ret_n);

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
