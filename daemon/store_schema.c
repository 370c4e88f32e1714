/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the database: its settings, its check, and the numbered migrations. */

#include "daemon/store_internal.h"

#include <errno.h>
#include <stddef.h>

#include "common/log.h"
#include "common/util.h"

enum { CHECKPOINT_PAGES = 1000 };

#define TEXT(f)                                                                                    \
	{                                                                                          \
#f, COL_TEXT, offsetof(struct deployment, f), sizeof(((struct deployment *)0)->f)  \
	}
#define TIME(f)                                                                                    \
	{                                                                                          \
#f, COL_TIME, offsetof(struct deployment, f), sizeof(usec_t)                       \
	}
#define UINT(f)                                                                                    \
	{                                                                                          \
#f, COL_UINT, offsetof(struct deployment, f), sizeof(unsigned)                     \
	}
#define BOOL(f)                                                                                    \
	{                                                                                          \
#f, COL_BOOL, offsetof(struct deployment, f), sizeof(bool)                         \
	}

const struct column deployment_columns[] = {
	TEXT(id),
	TEXT(service),
	TEXT(environment),
	TEXT(tag),
	TEXT(previous_tag),
	TEXT(lead),
	UINT(actor_uid),
	BOOL(forced),
	TEXT(reason),
	{"state", COL_STATE, offsetof(struct deployment, state), sizeof(enum dstate)},
	TEXT(outcome),
	TIME(created_at),
	TIME(created_wall),
	TIME(entered_at),
	TIME(entered_wall),
	TIME(deployed_at),
	TIME(t0),
	TIME(decided_at),
	TIME(decided_wall),
	TIME(restored_at),
	TIME(restored_wall),
	TIME(ended_at),
	TIME(ended_wall),
	UINT(attempt),
	UINT(rollbacks),
	UINT(auto_rollbacks),
	TEXT(rollback_reason),
	BOOL(rollback_auto),
	BOOL(rollback_forced),
	TEXT(rollback_to),
	TEXT(rollback_file),
	TEXT(backup),
	TEXT(backup_sha256),
	TEXT(target),
	TEXT(target_sha256),
	BOOL(target_verified),
};
const size_t deployment_columns_len = ARRAY_SIZE(deployment_columns);

/*
 * Migration i brings version i to i + 1, in one transaction with the new version's number.  Never
 * change one that was released: add another.
 */
static const char *const migrations[] = {
	"CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), core INTEGER, wall INTEGER,"
	" boottime INTEGER, boot_id TEXT);"
	"CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), batch INTEGER);"
	"CREATE TABLE deployments (id TEXT PRIMARY KEY, service TEXT, environment TEXT, tag TEXT,"
	" previous_tag TEXT, lead TEXT, actor_uid INTEGER, forced INTEGER, reason TEXT, state TEXT,"
	" outcome TEXT, created_at INTEGER, created_wall INTEGER, entered_at INTEGER,"
	" entered_wall INTEGER, deployed_at INTEGER, t0 INTEGER, decided_at INTEGER,"
	" decided_wall INTEGER, restored_at INTEGER, restored_wall INTEGER, ended_at INTEGER,"
	" ended_wall INTEGER, attempt INTEGER, rollbacks INTEGER, auto_rollbacks INTEGER,"
	" rollback_reason TEXT, rollback_auto INTEGER, rollback_forced INTEGER, rollback_to TEXT,"
	" rollback_file TEXT, backup TEXT, backup_sha256 TEXT, target TEXT, target_sha256 TEXT, "
	"target_verified "
	"INTEGER,"
	" config TEXT);"
	"CREATE INDEX deployments_by_place ON deployments (service, environment, created_at);"
	"CREATE TABLE samples (deployment TEXT, at INTEGER, wall INTEGER, kind INTEGER, result "
	"INTEGER,"
	" took INTEGER, flags INTEGER, detail TEXT, rate TEXT, latency TEXT);"
	"CREATE INDEX samples_by_deployment ON samples (deployment, at);"
	"CREATE TABLE decisions (deployment TEXT, at INTEGER, wall INTEGER, kind TEXT, automatic "
	"INTEGER,"
	" actor_uid INTEGER, rule TEXT, text TEXT, evidence TEXT);"
	"CREATE INDEX decisions_by_deployment ON decisions (deployment, at);"
	"CREATE TABLE alerts (deployment TEXT, cause INTEGER, level INTEGER, raised_at INTEGER,"
	" raised_wall INTEGER, resolved_at INTEGER, resolved_wall INTEGER, text TEXT,"
	" PRIMARY KEY (deployment, cause, level, raised_at));"
	"CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT, environment "
	"TEXT,"
	" deployment TEXT, json TEXT);"
	"CREATE INDEX events_by_deployment ON events (deployment, seq);"
	"CREATE TABLE backups (path TEXT PRIMARY KEY, sha256 TEXT, service TEXT, environment TEXT,"
	" deployment TEXT, tag TEXT, emergency INTEGER, corrupt INTEGER, bytes INTEGER,"
	" created_wall INTEGER, verified_wall INTEGER);"
	"CREATE INDEX backups_by_place ON backups (service, environment, created_wall);"
	"CREATE TABLE bad_tags (service TEXT, environment TEXT, tag TEXT, why TEXT, wall INTEGER,"
	" PRIMARY KEY (service, environment, tag));"
	"CREATE TABLE audit (wall INTEGER, uid INTEGER, pid INTEGER, act TEXT, target TEXT, reason "
	"TEXT,"
	" granted INTEGER);",
};

int
db_exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

sqlite3_stmt *
db_prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *s = NULL;

	while ((s = sqlite3_next_stmt(db, s)))
		if (streq(sqlite3_sql(s), sql) && !sqlite3_stmt_busy(s))
			break;
	if (!s && sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL) != SQLITE_OK)
		return NULL;
	sqlite3_clear_bindings(s);
	return s;
}

static int
pragma_number(sqlite3 *db, const char *sql, int *ret)
{
	sqlite3_stmt *s;
	int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);

	if (r != SQLITE_OK)
		return r;
	r = sqlite3_step(s);
	if (r == SQLITE_ROW)
		*ret = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	return r == SQLITE_ROW ? SQLITE_OK : r;
}

/* quick_check says "ok" in one row, or what is wrong in several. */
static int
check(sqlite3 *db, char **ret_error)
{
	sqlite3_stmt *s;
	int r = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL);
	const char *text;

	if (r != SQLITE_OK)
		return r;
	r = sqlite3_step(s);
	text = r == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
	if (r == SQLITE_ROW && text && streq(text, "ok")) {
		r = SQLITE_OK;
	} else if (r == SQLITE_ROW) {
		*ret_error = xstrdup(text ? text : "damaged");
		r = SQLITE_CORRUPT;
	}
	sqlite3_finalize(s);
	return r;
}

static int
migrate_to(sqlite3 *db, int version)
{
	char set[64];
	int r = db_exec(db, "BEGIN IMMEDIATE");

	snprintf(set, sizeof set, "PRAGMA user_version = %d", version);
	if (r == SQLITE_OK)
		r = db_exec(db, migrations[version - 1]);
	if (r == SQLITE_OK)
		r = db_exec(db, set);
	if (r == SQLITE_OK)
		r = db_exec(db, "COMMIT");
	return r; /* a failure closes the connection, and that rolls back */
}

static int
migrate(sqlite3 *db, char **ret_error)
{
	int version = 0, r = pragma_number(db, "PRAGMA user_version", &version);

	if (r == SQLITE_OK && version > (int)ARRAY_SIZE(migrations)) {
		*ret_error = xasprintf("it has version %d, this program knows %zu at most", version,
				       ARRAY_SIZE(migrations));
		return SQLITE_SCHEMA;
	}
	while (r == SQLITE_OK && version < (int)ARRAY_SIZE(migrations))
		r = migrate_to(db, ++version);
	return r;
}

/* SQLite answers a setting that it did not take with the old value and no error. */
static int
require(sqlite3 *db, const char *sql, const char *value, char **ret_error)
{
	sqlite3_stmt *s;
	int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);

	if (r != SQLITE_OK)
		return r;
	r = sqlite3_step(s);
	if (r == SQLITE_ROW && streq((const char *)sqlite3_column_text(s, 0), value)) {
		r = SQLITE_OK;
	} else if (r == SQLITE_ROW || r == SQLITE_DONE) {
		*ret_error = xasprintf("\"%s\" was not accepted", sql);
		r = SQLITE_ERROR;
	}
	sqlite3_finalize(s);
	return r;
}

/*
 * In place of SQLite's own checkpoint, which passes over every failure: a disk that takes the log
 * and not the database would go unnoticed until the log has filled it.
 */
static int
on_log_grown(void *arg, sqlite3 *db, const char *name, int pages)
{
	int r = SQLITE_OK;

	if (pages >= CHECKPOINT_PAGES)
		r = sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	return r == SQLITE_BUSY || r == SQLITE_LOCKED ? SQLITE_OK : r;
}

static int
set_up(sqlite3 *db, char **ret_error)
{
	/* EXCLUSIVE before WAL: the index of the log then lives in memory, and nobody gets in. */
	static const char *const settings[][2] = {
		{"PRAGMA locking_mode = EXCLUSIVE", "exclusive"},
		{"PRAGMA journal_mode = WAL", "wal"},
	};
	int r = SQLITE_OK;

	sqlite3_wal_hook(db, on_log_grown, NULL);
	for (size_t i = 0; r == SQLITE_OK && i < ARRAY_SIZE(settings); i++)
		r = require(db, settings[i][0], settings[i][1], ret_error);
	if (r == SQLITE_OK)
		r = db_exec(db, "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON;"
				/* takes the lock now, not at the first commit */
				"BEGIN IMMEDIATE; COMMIT");
	if (r == SQLITE_OK)
		r = require(db, "PRAGMA synchronous", "2", ret_error);
	if (r == SQLITE_OK)
		r = check(db, ret_error);
	return r == SQLITE_OK ? migrate(db, ret_error) : r;
}

/* --- memory --- */

static struct sqlite3_mem_methods own_memory;

static void *
store_malloc(int n)
{
	void *p = own_memory.xMalloc(n);

	return p ? p : out_of_memory();
}

static void *
store_realloc(void *old, int n)
{
	void *p = own_memory.xRealloc(old, n);

	return p ? p : out_of_memory();
}

/* The lines of its layer for files name call, file and error; the rest we say ourselves. */
static void
on_sqlite_log(void *arg, int code, const char *text)
{
	bool of_system = strncmp(text, "os_unix", 7) == 0;

	log_event(LOG_KIND_STORE_ERROR, of_system ? LOG_WARNING : LOG_DEBUG, NULL, "SQLite: %s",
		  text);
}

void
store_set_up_library(void)
{
	struct sqlite3_mem_methods m;

	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &own_memory);
	m = own_memory;
	m.xMalloc = store_malloc;
	m.xRealloc = store_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &m);
	sqlite3_config(SQLITE_CONFIG_LOG, on_sqlite_log, NULL);
}

/* --- opening --- */

char *
db_error(sqlite3 *db)
{
	/* SQLite keeps the system's number for opening, not for a COMMIT. */
	int last = errno, code = sqlite3_errcode(db), system = sqlite3_system_errno(db);

	system = system != 0 ? system : last;
	if (system != 0 && (code == SQLITE_IOERR || code == SQLITE_CANTOPEN))
		return xasprintf("%s (%s)", sqlite3_errmsg(db), strerror(system));
	return xstrdup(sqlite3_errmsg(db));
}

int
db_open(const char *path, sqlite3 **ret, char **ret_error)
{
	sqlite3 *db = NULL;
	int r = sqlite3_open_v2(path, &db,
				SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
				NULL);

	*ret_error = NULL;
	if (r == SQLITE_OK)
		r = set_up(db, ret_error);
	if (r != SQLITE_OK) {
		if (!*ret_error)
			*ret_error = db ? db_error(db) : xstrdup(sqlite3_errstr(r));
		sqlite3_close(db);
		return r;
	}
	*ret = db;
	return SQLITE_OK;
}
