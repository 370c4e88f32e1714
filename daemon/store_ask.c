/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries on their way to the writer thread and back: what they ask is copied, what they answer is
 * handed over on the loop.  The SQL is in store_query.c.
 */

#include "common/util.h"
#include "daemon/store_internal.h"

static char *
copy_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void
answer_json(struct work *w)
{
	if (w->error < 0) {
		json_decref(w->json);
		w->json = NULL;
	}
	w->json_fn(w->arg, w->error, w->json);
}

static void
answer_rows(struct work *w)
{
	w->rows_fn(w->arg, w->error, w->rows, w->n_rows);
}

static struct work *
query_new(void (*query)(sqlite3 *db, struct work *w), const char *service, const char *environment,
	  const char *text, void *arg)
{
	struct work *w = xcalloc(1, sizeof *w);

	w->kind = WORK_QUERY;
	w->query = query;
	w->answer = answer_json;
	w->service = copy_or_null(service);
	w->environment = copy_or_null(environment);
	w->text = copy_or_null(text);
	w->filter = (struct store_filter){.service = w->service, .environment = w->environment};
	w->arg = arg;
	return w;
}

static void
query_history(sqlite3 *db, struct work *w)
{
	w->json = db_history(db, &w->filter, &w->error);
}

static void
query_show(sqlite3 *db, struct work *w)
{
	w->json = db_show(db, w->text, w->filter.limit, &w->error);
}

static void
query_events(sqlite3 *db, struct work *w)
{
	w->filter.deployment = w->text;
	w->json = db_events(db, &w->filter, &w->error);
}

static void
query_backups(sqlite3 *db, struct work *w)
{
	w->json = db_backups(db, &w->filter, &w->error);
}

static void
query_tag_facts(sqlite3 *db, struct work *w)
{
	w->json = db_tag_facts(db, w->service, w->environment, w->text, &w->error);
}

static void
query_backup_rows(sqlite3 *db, struct work *w)
{
	w->error = db_backup_rows(db, w->service, w->environment, w->before, &w->rows, &w->n_rows);
}

static void
query_backups_named(sqlite3 *db, struct work *w)
{
	w->error = db_backups_named(db, w->text, &w->rows, &w->n_rows);
}

static void
ask(struct store *s, struct work *w, store_json_fn *fn)
{
	w->json_fn = fn;
	store_enqueue(s, w);
}

void
store_history(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg)
{
	struct work *w = query_new(query_history, f->service, f->environment, NULL, arg);

	w->filter.limit = f->limit;
	ask(s, w, fn);
}

void
store_show(struct store *s, const char *deployment_id, unsigned limit, store_json_fn *fn, void *arg)
{
	struct work *w = query_new(query_show, NULL, NULL, deployment_id, arg);

	w->filter.limit = limit;
	ask(s, w, fn);
}

void
store_events(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg)
{
	struct work *w = query_new(query_events, f->service, f->environment, f->deployment, arg);

	w->filter.after = f->after;
	w->filter.limit = f->limit;
	ask(s, w, fn);
}

void
store_backups(struct store *s, const struct store_filter *f, store_json_fn *fn, void *arg)
{
	struct work *w = query_new(query_backups, f->service, f->environment, NULL, arg);

	w->filter.limit = f->limit;
	ask(s, w, fn);
}

void
store_tag_facts(struct store *s, const char *service, const char *environment, const char *tag,
		store_json_fn *fn, void *arg)
{
	ask(s, query_new(query_tag_facts, service, environment, tag, arg), fn);
}

void
store_backup_rows(struct store *s, const char *service, const char *environment, usec_t before_wall,
		  store_rows_fn *fn, void *arg)
{
	struct work *w = query_new(query_backup_rows, service, environment, NULL, arg);

	w->before = before_wall;
	w->answer = answer_rows;
	w->rows_fn = fn;
	store_enqueue(s, w);
}

void
store_backups_named(struct store *s, const char *stem, store_rows_fn *fn, void *arg)
{
	struct work *w = query_new(query_backups_named, NULL, NULL, stem, arg);

	w->answer = answer_rows;
	w->rows_fn = fn;
	store_enqueue(s, w);
}
