/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer thread and its queue.
 *
 * Invariants: batches are committed in the order they came; a batch is reported as done only after the
 * COMMIT that holds it returned OK; after any failure the connection is closed, opened and checked anew
 * before anything is tried again, because a failed fsync says once that data is lost and then forgets it.
 */

#include "daemon/store.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/store_internal.h"

enum work_kind { WORK_COMMIT, WORK_QUERY, WORK_STATE };

struct work {
	struct work *next;
	enum work_kind kind;
	/* commit */
	struct batch *batch; /* owned */
	void (*done)(void *arg);
	void *arg;
	/* query: run on the thread, answered on the loop */
	void (*query)(sqlite3 *db, struct work *w);
	void (*answer)(struct work *w);
	char *service, *environment, *text; /* owned */
	struct store_filter filter;
	usec_t before;
	json_t *json;
	struct backup_row *rows; /* owned */
	size_t n_rows;
	int error;
	store_json_fn *json_fn;
	store_rows_fn *rows_fn;
};

struct work_list {
	struct work *first, **last;
};

struct store {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work_list todo, finished;
	bool ending, started;
	int fd;
	struct event *ev;
	char *path;         /* owned */
	sqlite3 *db;        /* the thread's, once it runs; NULL = must be opened again */
	char problem[320];  /* under lock; "" = none */
	char shown[320];    /* loop's copy */
	void (*on_state)(void *arg, const char *problem);
	void *on_state_arg;
};

/* --- lists ---------------------------------------------------------------------------------------------- */

static void
list_init(struct work_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void
list_add(struct work_list *l, struct work *w)
{
	w->next = NULL;
	*l->last = w;
	l->last = &w->next;
}

static void
list_move(struct work_list *to, struct work_list *from)
{
	if (!from->first)
		return;
	*to->last = from->first;
	to->last = from->last;
	list_init(from);
}

static void
work_free(struct work *w)
{
	batch_free(w->batch);
	free(w->service);
	free(w->environment);
	free(w->text);
	free(w->rows);
	free(w);
}

/* --- the thread -------------------------------------------------------------------------------------------- */

static void
tell_loop(struct store *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->fd, &one, sizeof one);

	(void)n;
}

static void
set_problem(struct store *s, const char *problem)
{
	pthread_mutex_lock(&s->lock);
	if (!streq(s->problem, problem)) {
		struct work *w = xcalloc(1, sizeof *w);

		str_copy(s->problem, sizeof s->problem, problem);
		w->kind = WORK_STATE;
		list_add(&s->finished, w);
		tell_loop(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void
finish(struct store *s, struct work_list *done)
{
	pthread_mutex_lock(&s->lock);
	list_move(&s->finished, done);
	pthread_mutex_unlock(&s->lock);
	tell_loop(s);
}

/* Everything in one transaction; false: nothing of it counts. */
static bool
commit(struct store *s, const struct work_list *batches, char **ret_error)
{
	int r = db_exec(s->db, "BEGIN IMMEDIATE");

	for (const struct work *w = batches->first; w && r == SQLITE_OK; w = w->next)
		r = db_write(s->db, w->batch);
	if (r == SQLITE_OK)
		r = db_exec(s->db, "COMMIT");
	if (r == SQLITE_OK)
		return true;
	*ret_error = xasprintf("cannot write %s: %s", s->path, sqlite3_errmsg(s->db));
	return false;
}

static void
close_db(struct store *s)
{
	sqlite3_stmt *st;

	while (s->db && (st = sqlite3_next_stmt(s->db, NULL)))
		sqlite3_finalize(st);
	sqlite3_close(s->db);
	s->db = NULL;
}

/* Waits before the next try; false when the store is to end. */
static bool
pause_for(struct store *s, unsigned seconds)
{
	struct timespec until;
	bool ending;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	pthread_mutex_lock(&s->lock);
	while (!s->ending && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
		;
	ending = s->ending;
	pthread_mutex_unlock(&s->lock);
	return !ending;
}

static bool
reopen(struct store *s)
{
	char *error = NULL, *text;

	close_db(s);
	if (db_open(s->path, &s->db, &error) == SQLITE_OK)
		return true;
	text = xasprintf("cannot open %s again: %s", s->path, error);
	set_problem(s, text);
	free(text);
	free(error);
	return false;
}

/* Until it is on disk, or the store ends (then nothing was acknowledged, and nothing is lost by that). */
static bool
commit_surely(struct store *s, struct work_list *batches)
{
	unsigned wait = 1;

	for (;;) {
		char *error = NULL;

		if ((s->db || reopen(s)) && commit(s, batches, &error)) {
			set_problem(s, "");
			return true;
		}
		if (error)
			set_problem(s, error);
		free(error);
		close_db(s);
		if (!pause_for(s, wait))
			return false;
		wait = MIN(wait * 2, 30);
	}
}

static void
run_query(struct store *s, struct work *w)
{
	if (!s->db && !reopen(s))
		w->error = -EIO;
	else
		w->query(s->db, w);
}

/* Takes what there is: leading commits together, or one query. */
static void
serve(struct store *s, struct work_list *taken)
{
	while (taken->first) {
		struct work_list group;
		bool query = taken->first->kind == WORK_QUERY;

		list_init(&group);
		do {
			struct work *w = taken->first;

			taken->first = w->next;
			list_add(&group, w);
		} while (taken->first && !query && taken->first->kind == WORK_COMMIT);
		if (!taken->first)
			taken->last = &taken->first;
		if (query)
			run_query(s, group.first);
		else if (!commit_surely(s, &group)) {
			while (group.first) {
				struct work *w = group.first;

				group.first = w->next;
				work_free(w);
			}
			continue;
		}
		finish(s, &group);
	}
}

static void *
thread_main(void *arg)
{
	struct store *s = arg;
	struct work_list taken;

	list_init(&taken);
	for (;;) {
		pthread_mutex_lock(&s->lock);
		while (!s->todo.first && !s->ending)
			pthread_cond_wait(&s->wake, &s->lock);
		list_move(&taken, &s->todo);
		pthread_mutex_unlock(&s->lock);
		if (!taken.first)
			return NULL;
		serve(s, &taken);
	}
}

/* --- the loop's side --------------------------------------------------------------------------------------- */

static void
report(struct store *s, struct work *w)
{
	switch (w->kind) {
	case WORK_COMMIT:
		if (w->done)
			w->done(w->arg);
		break;
	case WORK_QUERY:
		w->answer(w);
		break;
	case WORK_STATE:
		pthread_mutex_lock(&s->lock);
		str_copy(s->shown, sizeof s->shown, s->problem);
		pthread_mutex_unlock(&s->lock);
		if (s->on_state)
			s->on_state(s->on_state_arg, s->shown[0] ? s->shown : NULL);
		break;
	}
	work_free(w);
}

static void
report_finished(struct store *s)
{
	for (;;) {
		struct work *w;

		pthread_mutex_lock(&s->lock);
		w = s->finished.first;
		if (w && !(s->finished.first = w->next))
			s->finished.last = &s->finished.first;
		pthread_mutex_unlock(&s->lock);
		if (!w)
			return;
		report(s, w);
	}
}

static void
on_finished(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof count);

	(void)n;
	report_finished(arg);
}

static int
sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? xasprintf("%.*s", (int)MAX(1, slash - path), path) : xstrdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	free(folder);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int
set_aside(const char *path, const char *why, char **ret_note)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char stamp[USEC_TEXT_MAX], *aside;
	int r = 0;

	aside = xasprintf("%s.corrupt-%s", path, wall_format_compact(stamp, now_realtime()));
	for (size_t i = 0; i < ARRAY_SIZE(suffixes) && r == 0; i++) {
		char *from = xasprintf("%s%s", path, suffixes[i]), *to = xasprintf("%s%s", aside, suffixes[i]);

		if (rename(from, to) < 0 && errno != ENOENT)
			r = -errno;
		free(from);
		free(to);
	}
	*ret_note = xasprintf("%s is damaged (%s): set aside as %s, and begun anew; live deployments in it "
			      "are not guarded any more, look after them by hand",
			      path, why, aside);
	free(aside);
	return r;
}

static int
open_error(int r)
{
	switch (r) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_SCHEMA:
		return -ENOTSUP;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
		return -EACCES;
	case SQLITE_FULL:
		return -ENOSPC;
	default:
		return -EIO;
	}
}

static bool
damaged(int r)
{
	return r == SQLITE_CORRUPT || r == SQLITE_NOTADB;
}

static void
release(struct store *s)
{
	if (s->ev)
		event_free(s->ev);
	if (s->fd >= 0)
		close(s->fd);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	close_db(s);
	free(s->path);
	free(s);
}

static int
start(struct store *s, struct event_base *base)
{
	int r;

	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->fd < 0)
		return -errno;
	s->ev = event_new(base, s->fd, EV_READ | EV_PERSIST, on_finished, s);
	if (!s->ev || event_add(s->ev, NULL) < 0)
		return -ENOMEM;
	r = -pthread_create(&s->thread, NULL, thread_main, s);
	s->started = r == 0;
	return r;
}

int
store_open(struct event_base *base, const char *path, struct store **ret, char **ret_note)
{
	struct store *s = xcalloc(1, sizeof *s);
	char *error = NULL;
	int r;

	*ret_note = NULL;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	list_init(&s->todo);
	list_init(&s->finished);
	s->fd = -1;
	s->path = xstrdup(path);
	r = db_open(path, &s->db, &error);
	if (damaged(r)) {
		int moved = set_aside(path, error, ret_note);

		free(error);
		error = NULL;
		r = moved < 0 ? SQLITE_CANTOPEN : db_open(path, &s->db, &error);
	}
	free(error);
	r = r == SQLITE_OK ? sync_folder(path) : open_error(r);
	if (r == 0)
		r = start(s, base);
	if (r < 0) {
		release(s);
		return r;
	}
	*ret = s;
	return 0;
}

void
store_close(struct store *s)
{
	if (!s)
		return;
	if (s->started) {
		pthread_mutex_lock(&s->lock);
		s->ending = true;
		pthread_cond_broadcast(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	report_finished(s);
	release(s);
}

const char *
store_failed(const struct store *s)
{
	return s->shown[0] ? s->shown : NULL;
}

void
store_on_state(struct store *s, void (*fn)(void *arg, const char *problem), void *arg)
{
	s->on_state = fn;
	s->on_state_arg = arg;
}

int
store_load(struct store *s, struct store_clock *ret_clock, struct store_recovered **ret, size_t *ret_n)
{
	/* The thread has nothing to do yet, and the connection is serialized. */
	return db_load(s->db, ret_clock, ret, ret_n);
}

static void
enqueue(struct store *s, struct work *w)
{
	pthread_mutex_lock(&s->lock);
	list_add(&s->todo, w);
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

void
store_commit(struct store *s, struct batch *b, void (*done)(void *arg), void *arg)
{
	struct work *w = xcalloc(1, sizeof *w);

	w->kind = WORK_COMMIT;
	w->batch = b;
	w->done = done;
	w->arg = arg;
	enqueue(s, w);
}

/* --- queries -------------------------------------------------------------------------------------------------- */

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
ask(struct store *s, struct work *w, store_json_fn *fn)
{
	w->json_fn = fn;
	enqueue(s, w);
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
	struct work *w = query_new(query_events, NULL, NULL, f->deployment, arg);

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
	enqueue(s, w);
}
