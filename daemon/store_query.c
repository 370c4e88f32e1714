/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries: rows into the JSON of the protocol.  A statement that could not be prepared is NULL;
 * SQLite takes that in bind and step and answers MISUSE, so only collect() and its like look at the
 * result.
 */

#include <errno.h>

#include "common/util.h"
#include "daemon/json_view.h"
#include "daemon/store_internal.h"

enum { ROWS_MAX = 10000 };

static int
limit_of(unsigned limit)
{
	return limit == 0 || limit > ROWS_MAX ? ROWS_MAX : (int)limit;
}

static void
bind(sqlite3_stmt *s, int i, const char *text)
{
	sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC); /* NULL binds NULL: any */
}

static const char *
column(sqlite3_stmt *s, int i)
{
	const char *text = (const char *)sqlite3_column_text(s, i);

	return text ? text : "";
}

/* Every row as JSON; one that cannot be shown is left out, rather than failing the rest. */
static json_t *
collect(sqlite3_stmt *s, json_t *(*row)(sqlite3_stmt *s), int *ret_error)
{
	json_t *rows = json_array();
	int rc;

	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		json_t *o = row(s);

		if (o)
			json_array_append_new(rows, o);
	}
	sqlite3_reset(s);
	*ret_error = db_errno(rc);
	return rows;
}

static sqlite3_stmt *
with_filter(sqlite3_stmt *s, const struct store_filter *f)
{
	bind(s, 1, f->service);
	bind(s, 2, f->environment);
	sqlite3_bind_int(s, 3, limit_of(f->limit));
	return s;
}

#define BY_PLACE "WHERE (?1 IS NULL OR service = ?1) AND (?2 IS NULL OR environment = ?2) "

/* --- deployments --- */

static json_t *
deployment_row(sqlite3_stmt *s)
{
	struct deployment d;

	return db_read_deployment(s, &d) == 0 ? deployment_to_json(&d) : NULL;
}

json_t *
db_history(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	sqlite3_stmt *s =
		db_select_deployments(db, BY_PLACE "ORDER BY created_at DESC, rowid DESC LIMIT ?3");

	return collect(with_filter(s, f), deployment_row, ret_error);
}

static json_t *
decision_row(sqlite3_stmt *s)
{
	const char *rule = (const char *)sqlite3_column_text(s, 4);
	json_t *evidence = json_loads(column(s, 6), 0, NULL);

	return json_pack("{s:o, s:o, s:b, s:I, s:o, s:o, s:o}", "kind", view_text(column(s, 1)),
			 "at", view_time(sqlite3_column_int64(s, 0)), "automatic",
			 sqlite3_column_int(s, 2), "actor_uid",
			 (json_int_t)sqlite3_column_int64(s, 3), "rule",
			 rule ? view_text(rule) : json_null(), "text", view_text(column(s, 5)),
			 "evidence", evidence ? evidence : json_null());
}

static json_t *
decisions_of(sqlite3 *db, const char *id, int *ret_error)
{
	sqlite3_stmt *s =
		db_prepare(db, "SELECT wall, kind, automatic, actor_uid, rule, text, evidence "
			       "FROM decisions WHERE deployment = ?1 ORDER BY at, rowid");

	bind(s, 1, id);
	return collect(s, decision_row, ret_error);
}

static json_t *
alert_row(sqlite3_stmt *s)
{
	struct alert a;

	return db_read_alert(s, &a) == 0 ? alert_to_json(&a) : NULL;
}

static json_t *
alerts_of(sqlite3 *db, const char *id, int *ret_error)
{
	sqlite3_stmt *s =
		db_prepare(db, ALERT_COLUMNS "WHERE deployment = ?1 ORDER BY raised_at, rowid");

	bind(s, 1, id);
	return collect(s, alert_row, ret_error);
}

static json_t *
sample_row(sqlite3_stmt *s)
{
	struct sample p;

	db_read_sample(s, &p);
	return sample_to_json(&p);
}

static json_t *
samples_of(sqlite3 *db, const char *id, unsigned limit, int *ret_error)
{
	sqlite3_stmt *s = db_prepare(
		db, SAMPLE_COLUMNS "WHERE rowid IN (SELECT rowid FROM samples WHERE deployment = "
				   "?1 ORDER BY at DESC, rowid DESC LIMIT ?2) ORDER BY at, rowid");

	bind(s, 1, id);
	sqlite3_bind_int(s, 2, limit_of(limit));
	return collect(s, sample_row, ret_error);
}

static int
find_deployment(sqlite3 *db, const char *id, struct deployment *ret)
{
	sqlite3_stmt *s = db_select_deployments(db, "WHERE id = ?1");
	int rc, r;

	bind(s, 1, id);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		r = db_read_deployment(s, ret);
	else
		r = rc == SQLITE_DONE ? -ENOENT : db_errno(rc);
	sqlite3_reset(s);
	return r;
}

json_t *
db_show(sqlite3 *db, const char *id, unsigned limit, int *ret_error)
{
	struct deployment d;
	json_t *o;
	int r = find_deployment(db, id, &d);

	*ret_error = r;
	if (r < 0)
		return NULL;
	o = deployment_to_json(&d);
	json_object_set_new(o, "decisions", decisions_of(db, id, &r));
	if (r == 0)
		json_object_set_new(o, "alerts", alerts_of(db, id, &r));
	if (r == 0)
		json_object_set_new(o, "samples", samples_of(db, id, limit, &r));
	*ret_error = r;
	return o;
}

/* --- events --- */

static json_t *
event_row(sqlite3_stmt *s)
{
	json_t *e = json_loads(column(s, 1), 0, NULL);
	json_t *o = json_pack("{s:I}", "seq", (json_int_t)sqlite3_column_int64(s, 0));

	if (e)
		json_object_update_missing(o, e);
	json_decref(e);
	return o;
}

#define EVENTS_OF(which)                                                                           \
	"SELECT seq, json FROM events " BY_PLACE "AND seq > ?4 " which "ORDER BY seq LIMIT ?3"

json_t *
db_events(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	/* Two texts, so that each has the index that fits. */
	sqlite3_stmt *s =
		db_prepare(db, f->deployment ? EVENTS_OF("AND deployment = ?5 ") : EVENTS_OF(""));

	with_filter(s, f);
	sqlite3_bind_int64(s, 4, f->after);
	if (f->deployment)
		bind(s, 5, f->deployment);
	return collect(s, event_row, ret_error);
}

/* --- backups --- */

#define BACKUP_COLUMNS                                                                             \
	"SELECT path, sha256, service, environment, deployment, tag, emergency, corrupt, bytes, "  \
	"created_wall, verified_wall FROM backups "

static void
read_backup(sqlite3_stmt *s, struct backup_row *b)
{
	memset(b, 0, sizeof *b);
	db_column_text(s, 0, b->path, sizeof b->path);
	db_column_text(s, 1, b->sha256, sizeof b->sha256);
	db_column_text(s, 2, b->service, sizeof b->service);
	db_column_text(s, 3, b->environment, sizeof b->environment);
	db_column_text(s, 4, b->deployment, sizeof b->deployment);
	db_column_text(s, 5, b->tag, sizeof b->tag);
	b->emergency = sqlite3_column_int(s, 6) != 0;
	b->corrupt = sqlite3_column_int(s, 7) != 0;
	b->bytes = sqlite3_column_int64(s, 8);
	b->created_wall = sqlite3_column_int64(s, 9);
	b->verified_wall = sqlite3_column_int64(s, 10);
}

static json_t *
backup_row_to_json(sqlite3_stmt *s)
{
	struct backup_row b;

	read_backup(s, &b);
	return backup_to_json(&b);
}

json_t *
db_backups(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	sqlite3_stmt *s = db_prepare(db, BACKUP_COLUMNS BY_PLACE
				     "ORDER BY created_wall DESC, rowid DESC LIMIT ?3");

	return collect(with_filter(s, f), backup_row_to_json, ret_error);
}

static int
backup_rows(sqlite3_stmt *s, struct backup_row **ret, size_t *ret_n)
{
	struct backup_row *v = NULL;
	size_t n = 0;
	int rc;

	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		v = xrealloc(v, (n + 1) * sizeof *v);
		read_backup(s, &v[n++]);
	}
	sqlite3_reset(s);
	if (db_errno(rc) < 0) {
		free(v);
		return db_errno(rc);
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int
db_backup_rows(sqlite3 *db, const char *service, const char *environment, usec_t before_wall,
	       struct backup_row **ret, size_t *ret_n)
{
	sqlite3_stmt *s = db_prepare(db, BACKUP_COLUMNS
				     "WHERE service = ?1 AND environment = ?2 AND (?3 = 0 OR "
				     "created_wall < ?3) ORDER BY created_wall DESC, rowid DESC");

	bind(s, 1, service);
	bind(s, 2, environment);
	sqlite3_bind_int64(s, 3, before_wall);
	return backup_rows(s, ret, ret_n);
}

int
db_backups_named(sqlite3 *db, const char *stem, struct backup_row **ret, size_t *ret_n)
{
	/* No path holds the byte FF behind a whole character: the range is that of the prefix. */
	sqlite3_stmt *s = db_prepare(db, BACKUP_COLUMNS
				     "WHERE path >= ?1 AND path < ?1 || x'ff' ORDER BY path");

	bind(s, 1, stem);
	return backup_rows(s, ret, ret_n);
}

/* --- facts of a tag --- */

#define HERE "WHERE service = ?1 AND environment = ?2 "
#define NEWEST "ORDER BY created_at DESC, rowid DESC LIMIT 1"

/* First column of the first row, or null: one JSON value. */
static json_t *
fact(sqlite3 *db, const char *sql, const char *const place[3], int *ret_error)
{
	sqlite3_stmt *s = db_prepare(db, sql);
	json_t *value = NULL;
	int rc;

	for (int i = 0; i < sqlite3_bind_parameter_count(s); i++)
		bind(s, i + 1, place[i]);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		value = sqlite3_column_type(s, 0) == SQLITE_INTEGER
				? json_integer(sqlite3_column_int64(s, 0))
				: view_text(column(s, 0));
	sqlite3_reset(s);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		*ret_error = db_errno(rc);
	return value ? value : json_null();
}

json_t *
db_tag_facts(sqlite3 *db, const char *service, const char *environment, const char *tag,
	     int *ret_error)
{
	const char *const place[] = {service, environment, tag};
	/* Of several attempts the newest counts: a rollback takes an earlier success back. */
	json_t *succeeded = fact(db,
				 "SELECT state = 'succeeded' FROM deployments " HERE
				 "AND tag = ?3 AND deployed_at != 0 " NEWEST,
				 place, ret_error);
	json_t *why = fact(db, "SELECT why FROM bad_tags " HERE "AND tag = ?3", place, ret_error);
	json_t *previous =
		fact(db, "SELECT tag FROM deployments " HERE "AND state = 'succeeded' " NEWEST,
		     place, ret_error);
	/* What is there now, as far as can be told: a rollback that failed leaves it open. */
	json_t *in_place = fact(
		db,
		"SELECT CASE WHEN state = 'rolled-back' AND rollback_to != '' THEN rollback_to "
		"WHEN state IN ('rolled-back', 'failed') THEN previous_tag "
		"WHEN state = 'rollback-failed' THEN '' ELSE tag END "
		"FROM deployments " HERE "AND deployed_at != 0 " NEWEST,
		place, ret_error);
	json_t *made = fact(db, "SELECT count(*) FROM deployments " HERE "AND deployed_at != 0",
			    place, ret_error);
	json_t *o = json_pack(
		"{s:b, s:b, s:s, s:s, s:s, s:O}", "succeeded", json_integer_value(succeeded) == 1,
		"bad", !json_is_null(why), "why", json_is_string(why) ? json_string_value(why) : "",
		"previous", json_is_string(previous) ? json_string_value(previous) : "", "in_place",
		json_is_string(in_place) ? json_string_value(in_place) : "", "deployments", made);

	json_decref(succeeded);
	json_decref(why);
	json_decref(previous);
	json_decref(in_place);
	json_decref(made);
	return o;
}
