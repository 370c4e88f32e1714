/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer thread: it alone uses the connection, but for store_load(), which takes db_lock.
 *
 * Invariants: batches are committed in the order they came, all that wait in one transaction; a
 * batch is reported as done only when it is on the disk.  After any failure the connection is
 * closed, opened and checked anew before anything is tried again, because a failed fsync says once
 * that data is lost and then forgets it.
 *
 * A commit that failed may be found in the log all the same when the file is opened again: written,
 * but only in the system's memory.  So before the first commit of a connection the log is copied
 * into the database (which dirties and syncs those pages anew: it "settles"), and the number of the
 * last batch that is in tells which ones must not be written twice.
 */

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/store_internal.h"

enum { RETRY_MAX_SECONDS = 30 };

static usec_t
now_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

/* --- to the loop --- */

static void
tell_loop(struct store *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->fd, &one, sizeof one);

	(void)n; /* full means that the loop is told already */
}

static void
set_problem(struct store *s, const char *problem)
{
	pthread_mutex_lock(&s->lock);
	if (!streq(s->problem, problem)) {
		struct work *w = xcalloc(1, sizeof *w);

		str_copy(s->problem, sizeof s->problem, problem);
		w->kind = WORK_STATE;
		work_list_add(&s->finished, w);
		tell_loop(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void
finish(struct store *s, struct work_list *done)
{
	if (!done->first)
		return;
	pthread_mutex_lock(&s->lock);
	work_list_move(&s->finished, done);
	pthread_mutex_unlock(&s->lock);
	tell_loop(s);
}

/* --- commits --- */

void
store_close_db(struct store *s)
{
	sqlite3_stmt *st;

	while (s->db && (st = sqlite3_next_stmt(s->db, NULL)))
		sqlite3_finalize(st);
	sqlite3_close(s->db);
	s->db = NULL;
	s->settled = false;
}

int
store_reopen(struct store *s, char **ret_error)
{
	char *error = NULL;
	int r;

	if (s->db)
		return SQLITE_OK;
	r = db_open(s->path, &s->db, &error);
	if (r != SQLITE_OK)
		*ret_error = xasprintf("cannot open %s again: %s", s->path, error);
	free(error);
	return r;
}

/* Reports those of the pending batches that are in after all. */
static void
finish_until(struct store *s, int64_t number)
{
	struct work_list in;

	work_list_init(&in);
	while (s->pending.first && s->pending.first->number <= number)
		work_list_add(&in, work_list_take(&s->pending));
	finish(s, &in);
}

/* The log of a connection may be a new file. */
static int
settle_folder(struct store *s, char **ret_error)
{
	int r = s->settled ? 0 : folder_sync(s->path);

	if (r == 0)
		return SQLITE_OK;
	*ret_error = xasprintf("cannot write the folder of %s: %s", s->path, strerror(-r));
	store_close_db(s);
	return SQLITE_IOERR;
}

static int
settle(struct store *s)
{
	int64_t number;
	int r;

	if (s->settled)
		return SQLITE_OK;
	r = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	if (r == SQLITE_OK)
		r = db_read_number(s->db, &number);
	if (r != SQLITE_OK)
		return r;
	s->settled = true;
	s->number = MAX(s->number, number);
	finish_until(s, number);
	return SQLITE_OK;
}

/* Everything in one transaction; on failure nothing of it counts. */
static int
commit(struct store *s)
{
	int64_t last = 0;
	int r = db_exec(s->db, "BEGIN IMMEDIATE");

	for (const struct work *w = s->pending.first; w && r == SQLITE_OK; w = w->next) {
		r = db_write(s->db, w->batch);
		last = w->number;
	}
	if (r == SQLITE_OK)
		r = db_write_number(s->db, last);
	if (r == SQLITE_OK)
		r = db_exec(s->db, "COMMIT");
	return r;
}

static int
write_pending(struct store *s, char **ret_error)
{
	int r = store_reopen(s, ret_error);

	if (r != SQLITE_OK)
		return r;
	errno = 0;
	r = settle_folder(s, ret_error);
	if (r != SQLITE_OK)
		return r;
	r = settle(s);
	if (r == SQLITE_OK && s->pending.first)
		r = commit(s);
	if (r != SQLITE_OK) {
		char *why = db_error(s->db);

		*ret_error = xasprintf("cannot write %s: %s", s->path, why);
		free(why);
		store_close_db(s);
		return r;
	}
	finish(s, &s->pending);
	return SQLITE_OK;
}

static bool
healthy(const struct store *s)
{
	return !s->pending.first && s->db && s->settled;
}

/* `now_or_never`: the store ends, so do not wait for the time of the next try. */
void
store_try_write(struct store *s, bool now_or_never)
{
	char *error = NULL;

	if (healthy(s) || (!now_or_never && now_monotonic() < s->next_try))
		return;
	if (write_pending(s, &error) == SQLITE_OK) {
		s->wait = s->next_try = 0;
		set_problem(s, "");
		return;
	}
	set_problem(s, error);
	free(error);
	s->wait = s->wait ? MIN(s->wait * 2, RETRY_MAX_SECONDS * USEC_PER_SEC) : USEC_PER_SEC;
	s->next_try = now_monotonic() + s->wait;
}

/* --- queries --- */

/* Answered while commits fail, too, as long as the file can be read. */
static void
run_query(struct store *s, struct work *w)
{
	struct work_list done;
	char *error = NULL;

	if (store_reopen(s, &error) == SQLITE_OK)
		w->query(s->db, w);
	else
		w->error = -EIO;
	free(error);
	if (w->error == -EIO)
		store_close_db(s); /* to be checked before it is used again */
	work_list_init(&done);
	work_list_add(&done, w);
	finish(s, &done);
}

/* --- the thread --- */

/* Waits for work, the next try, or the end; false: the end, and nothing is left to do. */
static bool
wait_for_work(struct store *s, struct work_list *ret_taken, bool *ret_ending)
{
	struct timespec until = {.tv_sec = s->next_try / USEC_PER_SEC,
				 .tv_nsec = s->next_try % USEC_PER_SEC * 1000};
	bool idle = healthy(s);
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (!s->todo.first && !s->ending && r != ETIMEDOUT)
		r = idle ? pthread_cond_wait(&s->wake, &s->lock)
			 : pthread_cond_timedwait(&s->wake, &s->lock, &until);
	work_list_move(ret_taken, &s->todo);
	*ret_ending = s->ending;
	pthread_mutex_unlock(&s->lock);
	return ret_taken->first || !*ret_ending;
}

static void
serve(struct store *s, struct work_list *taken, bool ending)
{
	struct work *w;

	while ((w = work_list_take(taken))) {
		if (w->kind == WORK_COMMIT) {
			w->number = ++s->number;
			work_list_add(&s->pending, w);
			continue;
		}
		store_try_write(s, ending); /* a query sees what was handed over before it */
		run_query(s, w);
	}
	store_try_write(s, ending);
}

enum { FREE_MAX_BYTES = 4 << 20 };
static const usec_t trim_every_usec = USEC_PER_MINUTE;

/*
 * What piled up while the disk stood still is free again, in pieces that malloc() would keep for
 * good.  They are given back to the machine, by this thread, as the loop must not wait for it.
 */
static void
give_back_memory(struct store *s)
{
	usec_t now = now_boottime();

	if (now < s->trim_at)
		return;
	s->trim_at = now + trim_every_usec;
	if (mallinfo2().fordblks > FREE_MAX_BYTES)
		malloc_trim(0);
}

void *
store_thread_main(void *arg)
{
	struct store *s = arg;
	struct work_list taken;
	bool ending;

	work_list_init(&taken);
	while (wait_for_work(s, &taken, &ending)) {
		pthread_mutex_lock(&s->db_lock);
		serve(s, &taken, ending);
		pthread_mutex_unlock(&s->db_lock);
		give_back_memory(s);
	}
	store_try_write(s, true);
	return NULL;
}
