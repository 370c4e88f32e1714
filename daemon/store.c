/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's side of the store: opening and closing, handing batches over, reporting what the
 * writer thread (store_thread.c) has finished.
 */

#include "daemon/store.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/store_internal.h"
#include "daemon/worker.h"

/* --- lists --- */

void
work_list_init(struct work_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

void
work_list_add(struct work_list *l, struct work *w)
{
	w->next = NULL;
	*l->last = w;
	l->last = &w->next;
}

struct work *
work_list_take(struct work_list *l)
{
	struct work *w = l->first;

	if (w && !(l->first = w->next))
		l->last = &l->first;
	return w;
}

void
work_list_move(struct work_list *to, struct work_list *from)
{
	if (!from->first)
		return;
	*to->last = from->first;
	to->last = from->last;
	work_list_init(from);
}

static void
work_list_free(struct work_list *l)
{
	struct work *w;

	while ((w = work_list_take(l)))
		work_free(w);
}

void
work_free(struct work *w)
{
	batch_free(w->batch);
	free(w->service);
	free(w->environment);
	free(w->text);
	free(w->rows);
	free(w);
}

/* --- reports --- */

static void
copy_problem(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	str_copy(s->shown, sizeof s->shown, s->problem);
	pthread_mutex_unlock(&s->lock);
}

static void
report(struct store *s, struct work *w)
{
	switch (w->kind) {
	case WORK_COMMIT:
		s->n_waiting--;
		if (w->done)
			w->done(w->arg);
		break;
	case WORK_QUERY:
		w->answer(w);
		break;
	case WORK_STATE:
		copy_problem(s);
		if (s->on_state)
			s->on_state(s->on_state_arg, store_failed(s));
		break;
	}
	work_free(w);
}

static bool
report_finished(struct store *s)
{
	bool any = false;

	for (;;) {
		struct work *w;

		pthread_mutex_lock(&s->lock);
		w = work_list_take(&s->finished);
		pthread_mutex_unlock(&s->lock);
		if (!w)
			return any;
		report(s, w);
		any = true;
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

/* --- opening --- */

static int
set_aside(const char *path, const char *why, char **ret_note)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char stamp[USEC_TEXT_MAX], *aside;
	int r = 0;

	aside = xasprintf("%s.corrupt-%s", path, wall_format_compact(stamp, now_realtime()));
	for (size_t i = 0; i < ARRAY_SIZE(suffixes) && r == 0; i++) {
		char *from = xasprintf("%s%s", path, suffixes[i]);
		char *to = xasprintf("%s%s", aside, suffixes[i]);

		if (rename(from, to) < 0 && errno != ENOENT)
			r = -errno;
		free(from);
		free(to);
	}
	if (r == 0)
		*ret_note =
			xasprintf("%s is damaged (%s): set aside as %s, and begun anew; a "
				  "deployment that was live in it is not guarded any more, look "
				  "after it by hand",
				  path, why, aside);
	free(aside);
	return r;
}

/*
 * No file, or an empty one (or of one byte, the same to SQLite), beside a log that is not empty:
 * SQLite would delete the log and begin anew without a word, and it never leaves the two like that
 * itself.  NULL, or what is wrong.
 */
static const char *
log_without_database(const char *path)
{
	char *wal = xasprintf("%s-wal", path);
	struct stat st;
	bool log = stat(wal, &st) == 0 && st.st_size > 0;

	free(wal);
	if (!log)
		return NULL;
	if (stat(path, &st) < 0)
		return errno == ENOENT ? "it is gone, and its log is not" : NULL;
	return st.st_size <= 1 ? "it is empty, and its log is not" : NULL;
}

static int
read_through(const char *path)
{
	static char block[64 << 10];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	ssize_t n = 1;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while (n > 0) {
		n = read(fd, block, sizeof block);
		if (n < 0)
			r = -errno;
	}
	close(fd);
	return r;
}

/* SQLite calls damaged what the disk did not give just now (EIO, ENXIO): that is another matter,
 * and no reason to begin anew.  0 when every byte of database and log can be read. */
static int
readable(const char *path)
{
	char *wal = xasprintf("%s-wal", path);
	int r = read_through(path);

	if (r == 0)
		r = read_through(wal);
	free(wal);
	return r;
}

static int
open_error(int r)
{
	switch (r) {
	case SQLITE_OK:
		return 0;
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

/*
 * It holds the frozen configurations, and with HookEnvironment= perhaps secrets: the group that may
 * read the sessions asks us instead.  The log takes after the file.  Nothing is opened that exists:
 * closing it would drop the locks of a connection in this process.
 */
static void
keep_private(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	else if (errno == EEXIST)
		(void)chmod(path, 0600);
}

/* SQLITE_CORRUPT only where it is found twice, and all can be read. */
static int
open_readable(struct store *s, char **ret_error)
{
	int r, unread;

	keep_private(s->path);
	r = db_open(s->path, &s->db, ret_error);
	if (r != SQLITE_CORRUPT)
		return r;
	free(*ret_error);
	unread = readable(s->path);
	if (unread == 0)
		return db_open(s->path, &s->db, ret_error);
	*ret_error = xasprintf("it cannot be read: %s", strerror(-unread));
	return SQLITE_IOERR;
}

/* Adds why it failed to what was done before. */
static int
fails(int r, const char *why, char **ret_note)
{
	char *before = *ret_note;

	*ret_note = before ? xasprintf("%s; then: %s", before, why) : xstrdup(why);
	free(before);
	return r;
}

static int
open_db(struct store *s, char **ret_note)
{
	const char *lost = log_without_database(s->path);
	char *error = NULL;
	int r = SQLITE_CORRUPT;

	if (lost) {
		error = xstrdup(lost);
	} else {
		r = open_readable(s, &error);
	}
	if (r == SQLITE_CORRUPT || r == SQLITE_NOTADB) {
		int moved = set_aside(s->path, error, ret_note);

		if (moved < 0)
			fails(moved, error, ret_note);
		free(error);
		if (moved < 0)
			return fails(moved, "it cannot be set aside", ret_note);
		keep_private(s->path);
		r = db_open(s->path, &s->db, &error);
	}
	if (r != SQLITE_OK)
		fails(r, error, ret_note);
	free(error);
	if (r != SQLITE_OK)
		return open_error(r);
	/* SQLite passes over a failed fsync of the folder; the names of file and log hang on it. */
	return folder_sync(s->path);
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
	store_try_write(s, true);
	copy_problem(s);
	r = thread_start(&s->thread, store_thread_main, s);
	s->started = r == 0;
	return r;
}

static struct store *
store_new(const char *path)
{
	struct store *s = xcalloc(1, sizeof *s);
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->db_lock, NULL);
	work_list_init(&s->todo);
	work_list_init(&s->finished);
	work_list_init(&s->pending);
	s->fd = -1;
	s->path = xstrdup(path);
	return s;
}

static void
release(struct store *s)
{
	if (s->ev)
		event_free(s->ev);
	if (s->fd >= 0)
		close(s->fd);
	work_list_free(&s->todo);
	work_list_free(&s->pending);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->db_lock);
	store_close_db(s);
	free(s->path);
	free(s);
}

int
store_open(struct event_base *base, const char *path, struct store **ret, char **ret_note)
{
	struct store *s = store_new(path);
	int r;

	*ret_note = NULL;
	r = open_db(s, ret_note);
	if (r == 0)
		r = start(s, base);
	if (r < 0) {
		release(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* What a done() or an answer hands over now still counts, so this goes on until there is nothing.
 */
void
store_close(struct store *s)
{
	if (!s)
		return;
	do {
		if (s->started) {
			pthread_mutex_lock(&s->lock);
			s->ending = true;
			pthread_cond_broadcast(&s->wake);
			pthread_mutex_unlock(&s->lock);
			pthread_join(s->thread, NULL);
			s->started = false;
		}
		report_finished(s);
		s->started = s->todo.first && thread_start(&s->thread, store_thread_main, s) == 0;
	} while (s->started);
	release(s);
}

/* --- the rest --- */

const char *
store_failed(const struct store *s)
{
	return s->shown[0] ? s->shown : NULL;
}

unsigned
store_waiting(const struct store *s)
{
	return s->n_waiting;
}

void
store_on_state(struct store *s, void (*fn)(void *arg, const char *problem), void *arg)
{
	s->on_state = fn;
	s->on_state_arg = arg;
}

int
store_load(struct store *s, struct store_clock *ret_clock, struct store_recovered **ret,
	   size_t *ret_n)
{
	char *error = NULL;
	int r = -EIO;

	pthread_mutex_lock(&s->db_lock);
	if (store_reopen(s, &error) == SQLITE_OK)
		r = db_load(s->db, ret_clock, ret, ret_n);
	pthread_mutex_unlock(&s->db_lock);
	free(error);
	return r;
}

void
store_enqueue(struct store *s, struct work *w)
{
	pthread_mutex_lock(&s->lock);
	work_list_add(&s->todo, w);
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
	s->n_waiting++;
	store_enqueue(s, w);
}
