/* SPDX-License-Identifier: Apache-2.0 */
/* Rows into structs, and loading at the start. */

#include <errno.h>
#include <math.h>

#include "common/util.h"
#include "daemon/store_internal.h"

void
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
sqlite3_stmt *
db_select_deployments(sqlite3 *db, const char *tail)
{
	char sql[2048];
	size_t n = (size_t)snprintf(sql, sizeof sql, "SELECT ");

	for (size_t i = 0; i < deployment_columns_len; i++)
		n += (size_t)snprintf(sql + n, sizeof sql - n, "%s, ", deployment_columns[i].name);
	snprintf(sql + n, sizeof sql - n, "config FROM deployments %s", tail);
	return db_prepare(db, sql);
}

int
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

int
db_errno(int r)
{
	return r == SQLITE_DONE || r == SQLITE_OK ? 0 : r == SQLITE_NOMEM ? -ENOMEM : -EIO;
}

static double
read_number(const json_t *j)
{
	return json_is_number(j) ? json_number_value(j) : NAN;
}

static void
read_series(sqlite3_stmt *s, int i, struct series *ret)
{
	const char *text = (const char *)sqlite3_column_text(s, i);
	json_t *a = text ? json_loads(text, 0, NULL) : NULL;

	*ret = (struct series){.result = RESULT_NO_DATA, .value = NAN};
	if (json_array_size(a) == SERIES_LEN) {
		ret->result = (enum result)(json_integer_value(json_array_get(a, 0)) & 3);
		ret->gauge = json_integer_value(json_array_get(a, 1)) != 0;
		ret->span = json_integer_value(json_array_get(a, 2));
		ret->bad = read_number(json_array_get(a, 3));
		ret->bad_warn = read_number(json_array_get(a, 4));
		ret->total = read_number(json_array_get(a, 5));
		ret->value = read_number(json_array_get(a, 6));
	}
	json_decref(a);
}

void
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

int
db_read_alert(sqlite3_stmt *s, struct alert *a)
{
	int cause = sqlite3_column_int(s, 1), level = sqlite3_column_int(s, 2);

	if (cause < 0 || cause >= _CAUSE_MAX || level < LEVEL_WARNING || level > LEVEL_CRITICAL)
		return -EBADMSG;
	memset(a, 0, sizeof *a);
	db_column_text(s, 0, a->deployment, sizeof a->deployment);
	a->cause = (enum cause)cause;
	a->level = (enum level)level;
	a->raised_at = sqlite3_column_int64(s, 3);
	a->raised_wall = sqlite3_column_int64(s, 4);
	a->resolved_at = sqlite3_column_int64(s, 5);
	a->resolved_wall = sqlite3_column_int64(s, 6);
	db_column_text(s, 7, a->text, sizeof a->text);
	return 0;
}

/* --- loading at the start --- */

static int
load_samples(sqlite3 *db, struct store_recovered *r)
{
	sqlite3_stmt *s = db_prepare(db, SAMPLE_COLUMNS
				     "WHERE deployment = ?1 AND at >= ?2 ORDER BY at, rowid");
	size_t cap = 0;
	int rc;

	if (!s)
		return -EIO;
	sqlite3_bind_text(s, 1, r->deployment.id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, r->deployment.deployed_at);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		if (r->n_samples == cap) {
			cap = cap ? cap * 2 : 64;
			r->samples = xrealloc(r->samples, cap * sizeof *r->samples);
		}
		db_read_sample(s, &r->samples[r->n_samples++]);
	}
	sqlite3_reset(s);
	return db_errno(rc);
}

static int
load_alerts(sqlite3 *db, struct store_recovered *r)
{
	sqlite3_stmt *s =
		db_prepare(db, ALERT_COLUMNS
			   "WHERE deployment = ?1 AND resolved_at = 0 ORDER BY raised_at, rowid");
	struct alert a;
	int rc;

	if (!s)
		return -EIO;
	sqlite3_bind_text(s, 1, r->deployment.id, -1, SQLITE_STATIC);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		if (db_read_alert(s, &a) < 0)
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

/* The newest deployment of each place. */
static int
load_deployments(sqlite3 *db, struct store_recovered **v, size_t *n)
{
	sqlite3_stmt *s = db_select_deployments(
		db,
		"AS d WHERE d.rowid = (SELECT rowid FROM deployments WHERE service = d.service "
		"AND environment = d.environment ORDER BY created_at DESC, rowid DESC LIMIT 1)");
	int rc, r = 0;

	if (!s)
		return -EIO;
	while (r == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		const char *config =
			(const char *)sqlite3_column_text(s, (int)deployment_columns_len);

		*v = xrealloc(*v, (*n + 1) * sizeof **v);
		memset(&(*v)[*n], 0, sizeof **v);
		r = db_read_deployment(s, &(*v)[*n].deployment);
		(*v)[(*n)++].config = config ? xstrdup(config) : NULL;
	}
	sqlite3_reset(s);
	return r == 0 ? db_errno(rc) : r;
}

int
db_load(sqlite3 *db, struct store_clock *ret_clock, struct store_recovered **ret, size_t *ret_n)
{
	struct store_recovered *v = NULL;
	struct store_clock clock;
	size_t n = 0;
	int r = load_clock(db, &clock);

	if (r == 0)
		r = load_deployments(db, &v, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = load_alerts(db, &v[i]);
		if (r == 0 && v[i].deployment.deployed_at != 0)
			r = load_samples(db, &v[i]);
	}
	if (r < 0) {
		store_recovered_free(v, n);
		return r;
	}
	*ret_clock = clock;
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
