/* SPDX-License-Identifier: Apache-2.0 */
/* Records into rows, and the making of batches. */

#include "common/util.h"
#include "daemon/json_view.h"
#include "daemon/store_internal.h"

/* --- batches --- */

struct batch *
batch_new(const struct store_clock *clock)
{
	struct batch *b = xcalloc(1, sizeof *b);

	b->clock = *clock;
	b->last = &b->first;
	return b;
}

static void
record_free(struct record *r)
{
	if (r->kind == REC_CONFIG)
		free(r->u.config);
	if (r->kind == REC_EVENT)
		free(r->u.event.json);
	free(r);
}

void
batch_free(struct batch *b)
{
	while (b && b->first) {
		struct record *r = b->first;

		b->first = r->next;
		record_free(r);
	}
	free(b);
}

bool
batch_empty(const struct batch *b)
{
	return !b->first;
}

static struct record *
add(struct batch *b, enum record_kind kind, const char *id)
{
	struct record *r = xcalloc(1, sizeof *r);

	r->kind = kind;
	if (id)
		str_copy(r->id, sizeof r->id, id);
	*b->last = r;
	b->last = &r->next;
	return r;
}

void
batch_deployment(struct batch *b, const struct deployment *d)
{
	add(b, REC_DEPLOYMENT, d->id)->u.deployment = *d;
}

void
batch_config(struct batch *b, const char *deployment_id, const char *config)
{
	add(b, REC_CONFIG, deployment_id)->u.config = xstrdup(config);
}

void
batch_sample(struct batch *b, const char *deployment_id, const struct sample *s)
{
	add(b, REC_SAMPLE, deployment_id)->u.sample = *s;
}

void
batch_decision(struct batch *b, const char *deployment_id, const struct decision *d)
{
	add(b, REC_DECISION, deployment_id)->u.decision = *d;
}

void
batch_alert(struct batch *b, const struct alert *a)
{
	add(b, REC_ALERT, a->deployment)->u.alert = *a;
}

void
batch_event(struct batch *b, const char *service, const char *environment,
	    const char *deployment_id, json_t *json)
{
	struct record *r = add(b, REC_EVENT, deployment_id);

	str_copy(r->u.event.service, sizeof r->u.event.service, service);
	str_copy(r->u.event.environment, sizeof r->u.event.environment, environment);
	r->u.event.json = json_dumps(json, JSON_COMPACT);
}

void
batch_backup(struct batch *b, const struct backup_row *row)
{
	add(b, REC_BACKUP, NULL)->u.backup = *row;
}

void
batch_bad_tag(struct batch *b, const char *service, const char *environment, const char *tag,
	      bool bad, const char *why)
{
	struct record *r = add(b, REC_BAD_TAG, NULL);

	str_copy(r->u.bad_tag.service, sizeof r->u.bad_tag.service, service);
	str_copy(r->u.bad_tag.environment, sizeof r->u.bad_tag.environment, environment);
	str_copy(r->u.bad_tag.tag, sizeof r->u.bad_tag.tag, tag);
	str_copy(r->u.bad_tag.why, sizeof r->u.bad_tag.why, why);
	r->u.bad_tag.bad = bad;
}

void
batch_audit(struct batch *b, unsigned uid, int pid, const char *act, const char *target,
	    const char *reason, bool granted)
{
	struct record *r = add(b, REC_AUDIT, NULL);

	r->u.audit.uid = uid;
	r->u.audit.pid = pid;
	r->u.audit.granted = granted;
	str_copy(r->u.audit.act, sizeof r->u.audit.act, act);
	str_copy(r->u.audit.target, sizeof r->u.audit.target, target);
	str_copy(r->u.audit.reason, sizeof r->u.audit.reason, reason ? reason : "");
}

/* --- binding --- */

static void
bind_text(sqlite3_stmt *s, int i, const char *text)
{
	sqlite3_bind_text(s, i, text, -1, SQLITE_TRANSIENT);
}

static void
bind_json(sqlite3_stmt *s, int i, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;

	sqlite3_bind_text(s, i, text, -1, free);
	json_decref(json);
}

static int
run(sqlite3_stmt *s)
{
	int r = sqlite3_step(s);

	sqlite3_reset(s);
	return r == SQLITE_DONE ? SQLITE_OK : r;
}

static void
bind_column(sqlite3_stmt *s, int i, const struct column *c, const struct deployment *d)
{
	const void *field = (const char *)d + c->offset;

	switch (c->type) {
	case COL_TEXT:
		bind_text(s, i, field);
		break;
	case COL_TIME:
		sqlite3_bind_int64(s, i, *(const usec_t *)field);
		break;
	case COL_UINT:
		sqlite3_bind_int64(s, i, *(const unsigned *)field);
		break;
	case COL_BOOL:
		sqlite3_bind_int(s, i, *(const bool *)field);
		break;
	case COL_STATE:
		bind_text(s, i, dstate_name(*(const enum dstate *)field));
		break;
	}
}

/* INSERT … ON CONFLICT UPDATE of every column but config, which is written once. */
static int
write_deployment(sqlite3 *db, const struct deployment *d)
{
	char sql[4096], values[512] = "", names[1024] = "", sets[2048] = "";
	size_t n = 0, v = 0, u = 0;
	sqlite3_stmt *s;

	for (size_t i = 0; i < deployment_columns_len; i++) {
		const char *name = deployment_columns[i].name, *comma = i ? "," : "";

		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", comma, name);
		v += (size_t)snprintf(values + v, sizeof values - v, "%s?%zu", comma, i + 1);
		u += (size_t)snprintf(sets + u, sizeof sets - u, "%s%s=?%zu", comma, name, i + 1);
	}
	snprintf(sql, sizeof sql,
		 "INSERT INTO deployments (%s) VALUES (%s) ON CONFLICT (id) DO UPDATE SET %s",
		 names, values, sets);
	s = db_prepare(db, sql);
	if (!s)
		return sqlite3_errcode(db);
	for (size_t i = 0; i < deployment_columns_len; i++)
		bind_column(s, (int)i + 1, &deployment_columns[i], d);
	return run(s);
}

static int
write_config(sqlite3 *db, const struct record *r)
{
	sqlite3_stmt *s = db_prepare(db, "UPDATE deployments SET config = ?2 WHERE id = ?1");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, r->id);
	bind_text(s, 2, r->u.config);
	return run(s);
}

static json_t *
series_row(const struct series *s)
{
	return json_pack("[iiIoooo]", (int)s->result, (int)s->gauge, (json_int_t)s->span,
			 view_number(s->bad), view_number(s->bad_warn), view_number(s->total),
			 view_number(s->value));
}

static int
write_sample(sqlite3 *db, const struct record *r)
{
	const struct sample *p = &r->u.sample;
	sqlite3_stmt *s =
		db_prepare(db, "INSERT INTO samples (deployment, at, wall, kind, result, took, "
			       "flags, detail, rate, latency) VALUES "
			       "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, r->id);
	sqlite3_bind_int64(s, 2, p->at);
	sqlite3_bind_int64(s, 3, p->wall);
	sqlite3_bind_int(s, 4, (int)p->kind);
	sqlite3_bind_int(s, 5, (int)p->result);
	sqlite3_bind_int64(s, 6, p->took);
	sqlite3_bind_int(s, 7, p->all_failed | p->infra_critical << 1 | p->infra_known << 2);
	bind_text(s, 8, p->detail);
	if (p->kind == SAMPLE_METRICS) {
		bind_json(s, 9, series_row(&p->rate));
		bind_json(s, 10, series_row(&p->latency));
	}
	return run(s);
}

static int
write_decision(sqlite3 *db, const struct record *r)
{
	const struct decision *d = &r->u.decision;
	bool rule = d->evidence.rule < _RULE_MAX;
	sqlite3_stmt *s =
		db_prepare(db, "INSERT INTO decisions (deployment, at, wall, kind, automatic, "
			       "actor_uid, rule, text, evidence) VALUES "
			       "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, r->id);
	sqlite3_bind_int64(s, 2, d->at);
	sqlite3_bind_int64(s, 3, d->wall);
	bind_text(s, 4, decision_kind_name(d->kind));
	sqlite3_bind_int(s, 5, d->automatic);
	sqlite3_bind_int64(s, 6, d->actor_uid);
	bind_text(s, 7, rule ? rule_kind_name(d->evidence.rule) : NULL);
	bind_text(s, 8, d->text);
	if (rule) {
		json_t *view = decision_to_json(d);

		bind_json(s, 9, json_incref(json_object_get(view, "evidence")));
		json_decref(view);
	}
	return run(s);
}

static int
write_alert(sqlite3 *db, const struct alert *a)
{
	sqlite3_stmt *s = db_prepare(
		db, "INSERT OR REPLACE INTO alerts (deployment, cause, level, raised_at, "
		    "raised_wall, resolved_at, resolved_wall, text) VALUES "
		    "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, a->deployment);
	sqlite3_bind_int(s, 2, (int)a->cause);
	sqlite3_bind_int(s, 3, (int)a->level);
	sqlite3_bind_int64(s, 4, a->raised_at);
	sqlite3_bind_int64(s, 5, a->raised_wall);
	sqlite3_bind_int64(s, 6, a->resolved_at);
	sqlite3_bind_int64(s, 7, a->resolved_wall);
	bind_text(s, 8, a->text);
	return run(s);
}

static int
write_event(sqlite3 *db, const struct record *r)
{
	sqlite3_stmt *s =
		db_prepare(db, "INSERT INTO events (service, environment, deployment, json) "
			       "VALUES (?1, ?2, ?3, ?4)");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, r->u.event.service);
	bind_text(s, 2, r->u.event.environment);
	bind_text(s, 3, r->id[0] ? r->id : NULL);
	bind_text(s, 4, r->u.event.json);
	return run(s);
}

static int
write_backup(sqlite3 *db, const struct backup_row *b)
{
	sqlite3_stmt *s = db_prepare(
		db, "INSERT OR REPLACE INTO backups (path, sha256, service, environment, "
		    "deployment, tag, emergency, corrupt, bytes, created_wall, "
		    "verified_wall) VALUES "
		    "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, b->path);
	bind_text(s, 2, b->sha256);
	bind_text(s, 3, b->service);
	bind_text(s, 4, b->environment);
	bind_text(s, 5, b->deployment);
	bind_text(s, 6, b->tag);
	sqlite3_bind_int(s, 7, b->emergency);
	sqlite3_bind_int(s, 8, b->corrupt);
	sqlite3_bind_int64(s, 9, b->bytes);
	sqlite3_bind_int64(s, 10, b->created_wall);
	sqlite3_bind_int64(s, 11, b->verified_wall);
	return run(s);
}

static int
write_bad_tag(sqlite3 *db, const struct record *r, usec_t wall)
{
	sqlite3_stmt *s = db_prepare(
		db, r->u.bad_tag.bad ? "INSERT OR REPLACE INTO bad_tags (service, environment, "
				       "tag, why, wall) VALUES (?1, ?2, ?3, ?4, ?5)"
				     : "DELETE FROM bad_tags WHERE service = ?1 AND "
				       "environment = ?2 AND tag = ?3");

	if (!s)
		return sqlite3_errcode(db);
	bind_text(s, 1, r->u.bad_tag.service);
	bind_text(s, 2, r->u.bad_tag.environment);
	bind_text(s, 3, r->u.bad_tag.tag);
	if (r->u.bad_tag.bad) {
		bind_text(s, 4, r->u.bad_tag.why);
		sqlite3_bind_int64(s, 5, wall);
	}
	return run(s);
}

static int
write_audit(sqlite3 *db, const struct record *r, usec_t wall)
{
	sqlite3_stmt *s =
		db_prepare(db, "INSERT INTO audit (wall, uid, pid, act, target, reason, granted) "
			       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");

	if (!s)
		return sqlite3_errcode(db);
	sqlite3_bind_int64(s, 1, wall);
	sqlite3_bind_int64(s, 2, r->u.audit.uid);
	sqlite3_bind_int(s, 3, r->u.audit.pid);
	bind_text(s, 4, r->u.audit.act);
	bind_text(s, 5, r->u.audit.target);
	bind_text(s, 6, r->u.audit.reason);
	sqlite3_bind_int(s, 7, r->u.audit.granted);
	return run(s);
}

static int
write_clock(sqlite3 *db, const struct store_clock *c)
{
	sqlite3_stmt *s =
		db_prepare(db, "INSERT OR REPLACE INTO clock (id, core, wall, boottime, boot_id) "
			       "VALUES (1, ?1, ?2, ?3, ?4)");

	if (!s)
		return sqlite3_errcode(db);
	sqlite3_bind_int64(s, 1, c->core);
	sqlite3_bind_int64(s, 2, c->wall);
	sqlite3_bind_int64(s, 3, c->boottime);
	bind_text(s, 4, c->boot_id);
	return run(s);
}

static int
write_record(sqlite3 *db, const struct record *r, usec_t wall)
{
	switch (r->kind) {
	case REC_DEPLOYMENT:
		return write_deployment(db, &r->u.deployment);
	case REC_CONFIG:
		return write_config(db, r);
	case REC_SAMPLE:
		return write_sample(db, r);
	case REC_DECISION:
		return write_decision(db, r);
	case REC_ALERT:
		return write_alert(db, &r->u.alert);
	case REC_EVENT:
		return write_event(db, r);
	case REC_BACKUP:
		return write_backup(db, &r->u.backup);
	case REC_BAD_TAG:
		return write_bad_tag(db, r, wall);
	case REC_AUDIT:
		return write_audit(db, r, wall);
	}
	return SQLITE_MISUSE;
}

int
db_write_number(sqlite3 *db, int64_t number)
{
	sqlite3_stmt *s =
		db_prepare(db, "INSERT OR REPLACE INTO progress (id, batch) VALUES (1, ?1)");

	if (!s)
		return sqlite3_errcode(db);
	sqlite3_bind_int64(s, 1, number);
	return run(s);
}

int
db_read_number(sqlite3 *db, int64_t *ret)
{
	sqlite3_stmt *s = db_prepare(db, "SELECT batch FROM progress");
	int r;

	if (!s)
		return sqlite3_errcode(db);
	r = sqlite3_step(s);
	if (r == SQLITE_ROW || r == SQLITE_DONE)
		*ret = r == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	sqlite3_reset(s);
	return r == SQLITE_ROW || r == SQLITE_DONE ? SQLITE_OK : r;
}

int
db_write(sqlite3 *db, const struct batch *b)
{
	int r = SQLITE_OK;

	for (const struct record *rec = b->first; rec && r == SQLITE_OK; rec = rec->next)
		r = write_record(db, rec, b->clock.wall);
	return r == SQLITE_OK && b->clock.valid ? write_clock(db, &b->clock) : r;
}
