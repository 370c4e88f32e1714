/* SPDX-License-Identifier: Apache-2.0 */
/* Queries: rows into the JSON of the protocol. */

#include <errno.h>

#include "common/util.h"
#include "daemon/json_view.h"
#include "daemon/store_internal.h"

enum { ROWS_MAX = 10000 };

/* --- queries ------------------------------------------------------------------------------------------- */

static int
limit_of(unsigned limit)
{
	return limit == 0 || limit > ROWS_MAX ? ROWS_MAX : (int)limit;
}

static void
bind_filter(sqlite3_stmt *s, const struct store_filter *f)
{
	sqlite3_bind_text(s, 1, f->service, -1, SQLITE_STATIC); /* NULL binds NULL: any */
	sqlite3_bind_text(s, 2, f->environment, -1, SQLITE_STATIC);
	sqlite3_bind_int(s, 3, limit_of(f->limit));
}

#define BY_PLACE "WHERE (?1 IS NULL OR service = ?1) AND (?2 IS NULL OR environment = ?2) "

json_t *
db_history(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	sqlite3_stmt *s = db_select_deployments(db, BY_PLACE "ORDER BY created_at DESC, rowid DESC LIMIT ?3");
	json_t *rows = json_array();
	struct deployment d;
	int rc = SQLITE_ERROR;

	if (s)
		bind_filter(s, f);
	while (s && (rc = sqlite3_step(s)) == SQLITE_ROW)
		if (db_read_deployment(s, &d) == 0)
			json_array_append_new(rows, deployment_to_json(&d));
	sqlite3_reset(s);
	*ret_error = db_errno(rc);
	return rows;
}

static json_t *
decisions_of(sqlite3 *db, const char *id, int *rc)
{
	sqlite3_stmt *s = db_prepare(db, "SELECT wall, kind, automatic, actor_uid, rule, text, evidence FROM "
					 "decisions WHERE deployment = ?1 ORDER BY at, rowid");
	json_t *rows = json_array();
	char at[USEC_TEXT_MAX];

	*rc = SQLITE_ERROR;
	if (s)
		sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
	while (s && (*rc = sqlite3_step(s)) == SQLITE_ROW) {
		const char *evidence = (const char *)sqlite3_column_text(s, 6);
		json_t *ev = evidence ? json_loads(evidence, 0, NULL) : NULL;

		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:b, s:i, s:s?, s:s, s:o}", "at",
					wall_format(at, sqlite3_column_int64(s, 0)), "kind",
					sqlite3_column_text(s, 1), "automatic", sqlite3_column_int(s, 2),
					"actor_uid", sqlite3_column_int(s, 3), "rule",
					sqlite3_column_text(s, 4), "text", sqlite3_column_text(s, 5),
					"evidence", ev ? ev : json_null()));
	}
	sqlite3_reset(s);
	return rows;
}

static json_t *
alerts_of(sqlite3 *db, const char *id, int *rc)
{
	sqlite3_stmt *s = db_prepare(db, ALERT_COLUMNS "WHERE deployment = ?1 ORDER BY raised_at");
	json_t *rows = json_array();
	struct alert a;

	*rc = SQLITE_ERROR;
	if (s)
		sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
	while (s && (*rc = sqlite3_step(s)) == SQLITE_ROW) {
		read_alert(s, &a);
		if (alert_valid(&a))
			json_array_append_new(rows, alert_to_json(&a));
	}
	sqlite3_reset(s);
	return rows;
}

static json_t *
samples_of(sqlite3 *db, const char *id, unsigned limit, int *rc)
{
	sqlite3_stmt *s = db_prepare(db, SAMPLE_COLUMNS "WHERE deployment = ?1 ORDER BY at DESC, rowid DESC "
							"LIMIT ?2");
	json_t *rows = json_array();
	struct sample p;

	*rc = SQLITE_ERROR;
	if (s) {
		sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
		sqlite3_bind_int(s, 2, limit_of(limit));
	}
	while (s && (*rc = sqlite3_step(s)) == SQLITE_ROW) {
		db_read_sample(s, &p);
		json_array_insert_new(rows, 0, sample_to_json(&p));
	}
	sqlite3_reset(s);
	return rows;
}

json_t *
db_show(sqlite3 *db, const char *id, unsigned limit, int *ret_error)
{
	sqlite3_stmt *s = db_select_deployments(db, "WHERE id = ?1");
	struct deployment d;
	json_t *o;
	int rc = SQLITE_ERROR, r;

	if (s) {
		sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
		rc = sqlite3_step(s);
	}
	r = rc == SQLITE_ROW ? db_read_deployment(s, &d) : rc == SQLITE_DONE ? -ENOENT : db_errno(rc);
	sqlite3_reset(s);
	*ret_error = r;
	if (r < 0)
		return NULL;
	o = deployment_to_json(&d);
	json_object_set_new(o, "decisions", decisions_of(db, id, &rc));
	if (db_errno(rc) == 0)
		json_object_set_new(o, "alerts", alerts_of(db, id, &rc));
	if (db_errno(rc) == 0)
		json_object_set_new(o, "samples", samples_of(db, id, limit, &rc));
	*ret_error = db_errno(rc);
	return o;
}

json_t *
db_events(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	sqlite3_stmt *s = db_prepare(db, "SELECT seq, json FROM events WHERE seq > ?1 AND "
					 "(?2 IS NULL OR deployment = ?2) ORDER BY seq LIMIT ?3");
	json_t *rows = json_array();
	int rc = SQLITE_ERROR;

	if (s) {
		sqlite3_bind_int64(s, 1, f->after);
		sqlite3_bind_text(s, 2, f->deployment, -1, SQLITE_STATIC);
		sqlite3_bind_int(s, 3, limit_of(f->limit));
	}
	while (s && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		json_t *e = json_loads((const char *)sqlite3_column_text(s, 1), 0, NULL), *o;

		o = json_pack("{s:I}", "seq", (json_int_t)sqlite3_column_int64(s, 0));
		json_object_update_new(o, e ? e : json_object());
		json_array_append_new(rows, o);
	}
	sqlite3_reset(s);
	*ret_error = db_errno(rc);
	return rows;
}

#define BACKUP_COLUMNS                                                                             \
	"SELECT path, sha256, service, environment, deployment, tag, emergency, corrupt, bytes, "        \
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
backup_to_json(const struct backup_row *b)
{
	char created[USEC_TEXT_MAX], verified[USEC_TEXT_MAX];

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:s, s:s?}", "path", b->path,
			 "sha256", b->sha256, "service", b->service, "environment", b->environment,
			 "deployment", b->deployment, "tag", b->tag, "emergency", (int)b->emergency,
			 "corrupt", (int)b->corrupt, "bytes", (json_int_t)b->bytes, "created_at",
			 wall_format(created, b->created_wall), "verified_at",
			 b->verified_wall ? wall_format(verified, b->verified_wall) : NULL);
}

json_t *
db_backups(sqlite3 *db, const struct store_filter *f, int *ret_error)
{
	sqlite3_stmt *s = db_prepare(db, BACKUP_COLUMNS BY_PLACE "ORDER BY created_wall DESC LIMIT ?3");
	json_t *rows = json_array();
	struct backup_row b;
	int rc = SQLITE_ERROR;

	if (s)
		bind_filter(s, f);
	while (s && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		read_backup(s, &b);
		json_array_append_new(rows, backup_to_json(&b));
	}
	sqlite3_reset(s);
	*ret_error = db_errno(rc);
	return rows;
}

int
db_backup_rows(sqlite3 *db, const char *service, const char *environment, usec_t before_wall,
	       struct backup_row **ret, size_t *ret_n)
{
	sqlite3_stmt *s = db_prepare(db, BACKUP_COLUMNS "WHERE service = ?1 AND environment = ?2 AND "
							"(?3 = 0 OR created_wall < ?3) ORDER BY created_wall "
							"DESC");
	struct backup_row *v = NULL;
	size_t n = 0;
	int rc;

	if (!s)
		return -EIO;
	sqlite3_bind_text(s, 1, service, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 2, environment, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, before_wall);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		v = xrealloc(v, (n + 1) * sizeof *v);
		read_backup(s, &v[n++]);
	}
	sqlite3_reset(s);
	*ret = v;
	*ret_n = n;
	return db_errno(rc);
}

static int
one_text(sqlite3_stmt *s, char *buf, size_t n)
{
	int rc = s ? sqlite3_step(s) : SQLITE_ERROR;

	if (rc == SQLITE_ROW)
		db_column_text(s, 0, buf, n);
	sqlite3_reset(s);
	return rc;
}

static sqlite3_stmt *
fact(sqlite3 *db, const char *sql, const char *service, const char *environment, const char *tag)
{
	sqlite3_stmt *s = db_prepare(db, sql);

	if (!s)
		return NULL;
	sqlite3_bind_text(s, 1, service, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 2, environment, -1, SQLITE_STATIC);
	if (sqlite3_bind_parameter_count(s) > 2)
		sqlite3_bind_text(s, 3, tag, -1, SQLITE_STATIC);
	return s;
}

json_t *
db_tag_facts(sqlite3 *db, const char *service, const char *environment, const char *tag, int *ret_error)
{
	char count[32] = "0", previous[TAG_MAX_LEN] = "", why[TEXT_MAX_LEN] = "", made[32] = "0";
	int succeeded, bad, last, all;

	/* The newest attempt of the tag here is the one that counts: a later rollback takes it back. */
	succeeded = one_text(fact(db, "SELECT state = 'succeeded' FROM deployments WHERE service = ?1 AND "
				      "environment = ?2 AND tag = ?3 AND deployed_at != 0 ORDER BY created_at "
				      "DESC, rowid DESC LIMIT 1",
				  service, environment, tag),
			     count, sizeof count);
	bad = one_text(fact(db, "SELECT why FROM bad_tags WHERE service = ?1 AND environment = ?2 AND "
				"tag = ?3",
			    service, environment, tag),
		       why, sizeof why);
	last = one_text(fact(db, "SELECT CASE WHEN state = 'rolled-back' THEN previous_tag ELSE tag END FROM "
				 "deployments WHERE service = ?1 AND environment = ?2 AND deployed_at != 0 "
				 "ORDER BY created_at DESC, rowid DESC LIMIT 1",
			     service, environment, tag),
			previous, sizeof previous);
	all = one_text(fact(db, "SELECT count(*) FROM deployments WHERE service = ?1 AND environment = ?2 "
				"AND deployed_at != 0",
			    service, environment, tag),
		       made, sizeof made);
	*ret_error = succeeded == SQLITE_ERROR || bad == SQLITE_ERROR || last == SQLITE_ERROR ||
				     all == SQLITE_ERROR
			     ? -EIO
			     : 0;
	return json_pack("{s:b, s:b, s:s, s:s, s:I}", "succeeded", streq(count, "1"), "bad",
			 bad == SQLITE_ROW, "why", why, "previous", previous, "deployments",
			 (json_int_t)strtoll(made, NULL, 10));
}
