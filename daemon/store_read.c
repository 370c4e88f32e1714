/* SPDX-License-Identifier: Apache-2.0 */
/* Rows into structs, and loading at the start. */

#include <errno.h>
#include <math.h>

#include "common/util.h"
#include "daemon/store_internal.h"

static void
db_column_text(sqlite3_stmt *s, int i, char *dst, size_t n)
{
	const char *text = (const char *)sqlite3_column_text(s, i);

	str_copy(dst, n, text ? text : "");
}

static int
read_column(sqlite3_stmt *s, int i, const struct column *c, struct deployment *d)
{
	void *field = (char *)d + c->offset;
	const char *text;
	int state;

	switch (c->type) {
	case COL_TEXT:
		db_column_text(s, i, field, c->size);
		break;
	case COL_TIME:
		*(usec_t *)field = sqlite3_column_int64(s, i);
		break;
	case COL_UINT:
		*(unsigned *)field = (unsigned)sqlite3_column_int64(s, i);
		break;
	case COL_BOOL:
		*(bool *)field = sqlite3_column_int(s, i) != 0;
		break;
	case COL_STATE:
		text = (const char *)sqlite3_column_text(s, i);
		state = dstate_from_name(text ? text : "");
		if (state < 0)
			return -EBADMSG;
		*(enum dstate *)field = (enum dstate)state;
		break;
	}
	return 0;
}

/* "SELECT id, service, …, config FROM deployments <tail>" */
static sqlite3_stmt *
db_select_deployments(sqlite3 *db, const char *tail)
{
	char sql[2048];
	size_t n = (size_t)snprintf(sql, sizeof sql, "SELECT ");

	for (size_t i = 0; i < deployment_columns_len; i++)
		n += (size_t)snprintf(sql + n, sizeof sql - n, "%s, ", deployment_columns[i].name);
	snprintf(sql + n, sizeof sql - n, "config FROM deployments %s", tail);
	return db_prepare(db, sql);
}

static int
db_read_deployment(sqlite3_stmt *s, struct deployment *d)
{
	memset(d, 0, sizeof *d);
	for (size_t i = 0; i < deployment_columns_len; i++) {
		int r = read_column(s, (int)i, &deployment_columns[i], d);

		if (r < 0)
			return r;
	}
	return 0;
}

static int
db_errno(int r)
{
	return r == SQLITE_DONE || r == SQLITE_OK ? 0 : r == SQLITE_NOMEM ? -ENOMEM : -EIO;
}

static void
read_series(sqlite3_stmt *s, int i, struct series *ret)
{
	const char *text = (const char *)sqlite3_column_text(s, i);
	json_t *a = text ? json_loads(text, 0, NULL) : NULL;

	*ret = (struct series){.result = RESULT_NO_DATA, .value = NAN};
	if (json_array_size(a) == 8) {
		json_t *value = json_array_get(a, 7);

		ret->result = (enum result)json_integer_value(json_array_get(a, 0));
		ret->gauge = json_integer_value(json_array_get(a, 1)) != 0;
		ret->span = json_integer_value(json_array_get(a, 2));
		ret->bad = json_number_value(json_array_get(a, 3));
		ret->bad_warn = json_number_value(json_array_get(a, 4));
		ret->total = json_number_value(json_array_get(a, 5));
		ret->value = json_is_number(value) ? json_number_value(value) : NAN;
	}
	json_decref(a);
}

static void
db_read_sample(sqlite3_stmt *s, struct sample *p)
{
	int flags = sqlite3_column_int(s, 5);

	memset(p, 0, sizeof *p);
	p->at = sqlite3_column_int64(s, 0);
	p->wall = sqlite3_column_int64(s, 1);
	p->kind = (enum sample_kind)(sqlite3_column_int(s, 2) & 1);
	p->result = (enum result)(sqlite3_column_int(s, 3) & 3);
	p->took = sqlite3_column_int64(s, 4);
	p->all_failed = flags & 1;
	p->infra_critical = flags & 2;
	p->infra_known = flags & 4;
	db_column_text(s, 6, p->detail, sizeof p->detail);
	if (p->kind == SAMPLE_METRICS) {
		read_series(s, 7, &p->rate);
		read_series(s, 8, &p->latency);
	}
}

#define SAMPLE_COLUMNS "SELECT at, wall, kind, result, took, flags, detail, rate, latency FROM samples "

static void
read_alert(sqlite3_stmt *s, struct alert *a)
{
	memset(a, 0, sizeof *a);
	db_column_text(s, 0, a->deployment, sizeof a->deployment);
	a->cause = (enum cause)sqlite3_column_int(s, 1);
	a->level = (enum level)sqlite3_column_int(s, 2);
	a->raised_at = sqlite3_column_int64(s, 3);
	a->raised_wall = sqlite3_column_int64(s, 4);
	a->resolved_at = sqlite3_column_int64(s, 5);
	a->resolved_wall = sqlite3_column_int64(s, 6);
	db_column_text(s, 7, a->text, sizeof a->text);
}

static bool
alert_valid(const struct alert *a)
{
	return a->cause >= 0 && a->cause < _CAUSE_MAX &&
	       (a->level == LEVEL_WARNING || a->level == LEVEL_CRITICAL);
}

#define ALERT_COLUMNS                                                                              \
	"SELECT deployment, cause, level, raised_at, raised_wall, resolved_at, resolved_wall, text "     \
	"FROM alerts "

/* --- loading at the start ---------------------------------------------------------------------------- */

static int
load_samples(sqlite3 *db, struct store_recovered *r)
{
	sqlite3_stmt *s = db_prepare(db, SAMPLE_COLUMNS "WHERE deployment = ?1 AND at >= ?2 ORDER BY at, "
							"rowid LIMIT ?3");
	int rc;

	if (!s)
		return -EIO;
	sqlite3_bind_text(s, 1, r->deployment.id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, r->deployment.deployed_at);
	sqlite3_bind_int(s, 3, LOADED_SAMPLES_MAX);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		r->samples = xrealloc(r->samples, (r->n_samples + 1) * sizeof *r->samples);
		db_read_sample(s, &r->samples[r->n_samples++]);
	}
	sqlite3_reset(s);
	return db_errno(rc);
}

static int
load_alerts(sqlite3 *db, struct store_recovered *r)
{
	sqlite3_stmt *s = db_prepare(db, ALERT_COLUMNS "WHERE deployment = ?1 AND resolved_at = 0");
	int rc;

	if (!s)
		return -EIO;
	sqlite3_bind_text(s, 1, r->deployment.id, -1, SQLITE_STATIC);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		struct alert a;

		read_alert(s, &a);
		if (!alert_valid(&a))
			continue;
		r->alerts = xrealloc(r->alerts, (r->n_alerts + 1) * sizeof *r->alerts);
		r->alerts[r->n_alerts++] = a;
	}
	sqlite3_reset(s);
	return db_errno(rc);
}

static int
load_clock(sqlite3 *db, struct store_clock *c)
{
	sqlite3_stmt *s = db_prepare(db, "SELECT core, wall, boottime, boot_id FROM clock");
	int rc;

	memset(c, 0, sizeof *c);
	if (!s)
		return -EIO;
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		c->valid = true;
		c->core = sqlite3_column_int64(s, 0);
		c->wall = sqlite3_column_int64(s, 1);
		c->boottime = sqlite3_column_int64(s, 2);
		db_column_text(s, 3, c->boot_id, sizeof c->boot_id);
		rc = SQLITE_DONE;
	}
	sqlite3_reset(s);
	return db_errno(rc);
}

int
db_load(sqlite3 *db, struct store_clock *ret_clock, struct store_recovered **ret, size_t *ret_n)
{
	struct store_recovered *v = NULL;
	sqlite3_stmt *s;
	size_t n = 0;
	int rc, r = load_clock(db, ret_clock);

	s = db_select_deployments(db, "AS d WHERE d.rowid = (SELECT rowid FROM deployments WHERE service = "
				   "d.service AND environment = d.environment ORDER BY created_at DESC, rowid "
				   "DESC LIMIT 1)");
	if (r < 0 || !s)
		return r < 0 ? r : -EIO;
	while (r == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		const char *config = (const char *)sqlite3_column_text(s, (int)deployment_columns_len);

		v = xrealloc(v, (n + 1) * sizeof *v);
		memset(&v[n], 0, sizeof v[n]);
		r = db_read_deployment(s, &v[n].deployment);
		v[n++].config = config ? xstrdup(config) : NULL;
	}
	if (r == 0)
		r = db_errno(rc);
	sqlite3_reset(s);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = load_alerts(db, &v[i]);
		if (r == 0 && v[i].deployment.deployed_at != 0)
			r = load_samples(db, &v[i]);
	}
	if (r < 0) {
		store_recovered_free(v, n);
		return r;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

void
store_recovered_free(struct store_recovered *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(r[i].config);
		free(r[i].samples);
		free(r[i].alerts);
	}
	free(r);
}

