/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is full, slow, or lies: nothing is acknowledged that is not on it, the loop goes on,
 * and what waited is written once and in order when it is well again.  The system's fdatasync() and
 * fsync() are replaced for this program.
 */

#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/daemon/store_fixture.h"

static atomic_int syncs, sync_fails, database_fails, folder_fails, folder_failures, sync_takes_ms;

/* And not its log. */
static bool
is_database(int fd)
{
	char link[64], name[128];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof name);
	return n > 3 && memcmp(name + n - 3, ".db", 3) == 0;
}

static bool
is_folder(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int
synced(long call, int fd)
{
	int ms = atomic_load(&sync_takes_ms);

	if (ms > 0)
		poll(NULL, 0, ms);
	if (atomic_load(&sync_fails) || (atomic_load(&database_fails) && is_database(fd))) {
		errno = EIO;
		return -1;
	}
	if (atomic_load(&folder_fails) && is_folder(fd)) {
		atomic_fetch_add(&folder_failures, 1);
		errno = EIO;
		return -1;
	}
	atomic_fetch_add(&syncs, 1);
	return (int)syscall(call, fd);
}

int
fdatasync(int fd)
{
	return synced(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	return synced(SYS_fsync, fd);
}

/* After so many reads of the database that are well so many fail. */
static atomic_int reads_pass, reads_fail;

static bool
read_fails(int fd)
{
	if (atomic_load(&reads_fail) <= 0 || !is_database(fd) ||
	    atomic_fetch_sub(&reads_pass, 1) > 0)
		return false;
	atomic_fetch_sub(&reads_fail, 1);
	errno = EIO;
	return true;
}

ssize_t
pread64(int fd, void *buf, size_t n, off64_t at)
{
	return read_fails(fd) ? -1 : syscall(SYS_pread64, fd, buf, n, at);
}

ssize_t
read(int fd, void *buf, size_t n)
{
	return read_fails(fd) ? -1 : syscall(SYS_read, fd, buf, n);
}

/* --- acknowledged means synced --- */

struct commit {
	struct fixture *f;
	int n, syncs_before;
};

static void
on_synced(void *arg)
{
	struct commit *c = arg;

	ck_assert_int_gt(atomic_load(&syncs), c->syncs_before);
	c->n++;
}

START_TEST(done_means_synced)
{
	struct fixture f;

	fixture_begin(&f);
	for (int i = 0; i < 20; i++) {
		struct commit c = {.f = &f};

		c.syncs_before = atomic_load(&syncs);
		store_commit(f.store, numbered(i + 1, ""), on_synced, &c);
		turn_until(&f, &c.n, 1);
	}
	fixture_end(&f);
}
END_TEST

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	count_up(arg);
}

START_TEST(slow_disk_commits_together_and_the_loop_goes_on)
{
	struct timeval tick = {.tv_usec = 5000};
	struct event *ev;
	struct fixture f;
	int done = 0, ticks = 0, before;

	fixture_begin(&f);
	ev = event_new(f.base, -1, EV_PERSIST, on_tick, &ticks);
	event_add(ev, &tick);
	before = atomic_load(&syncs);
	atomic_store(&sync_takes_ms, 150);
	for (int i = 0; i < 400; i++)
		store_commit(f.store, numbered(i + 1, ""), count_up, &done);
	turn_until(&f, &done, 400);
	atomic_store(&sync_takes_ms, 0);
	ck_assert_int_lt(atomic_load(&syncs) - before, 20);
	ck_assert_int_ge(ticks, 5);
	assert_counts_to(&f, 400);
	event_free(ev);
	fixture_end(&f);
}
END_TEST

/* --- failing --- */

struct watch {
	struct fixture *f;
	int failures, recoveries;
	int acknowledged; /* the last one; each is one more */
	bool in_trouble;
	int syncs_before; /* an acknowledgement needs more than these */
	char problem[400];
};

static void
on_state(void *arg, const char *problem)
{
	struct watch *w = arg;

	ck_assert_int_eq(problem != NULL, store_failed(w->f->store) != NULL);
	if (problem) {
		str_copy(w->problem, sizeof w->problem, problem);
		w->failures++;
	} else {
		w->recoveries++;
	}
}

struct numbered_done {
	struct watch *w;
	int n;
};

static void
on_numbered(void *arg)
{
	struct numbered_done *d = arg;

	ck_assert_msg(!d->w->in_trouble, "batch %d was acknowledged while nothing could be written",
		      d->n);
	ck_assert_int_gt(atomic_load(&syncs), d->w->syncs_before);
	ck_assert_int_eq(d->n, ++d->w->acknowledged);
}

enum { FAULT_BATCHES = 60 };

static void
hand_over(struct watch *w, struct numbered_done *args, int from, int n, const char *padding)
{
	for (int i = from; i < from + n; i++) {
		args[i] = (struct numbered_done){w, i + 1};
		store_commit(w->f->store, numbered(i + 1, padding), on_numbered, &args[i]);
	}
}

START_TEST(lying_disk)
{
	static struct numbered_done args[FAULT_BATCHES];
	struct fixture f;
	struct watch w = {.f = &f};
	struct store_filter filter = {.limit = 1};
	struct answer a = {0};

	fixture_begin(&f);
	store_on_state(f.store, on_state, &w);
	hand_over(&w, args, 0, 10, "");
	turn_until(&f, &w.acknowledged, 10);
	w.in_trouble = true;
	atomic_store(&sync_fails, 1);
	hand_over(&w, args, 10, 10, "");
	turn_until(&f, &w.failures, 1);
	ck_assert_ptr_nonnull(strstr(w.problem, f.path));
	ck_assert_msg(strstr(w.problem, "Input/output error"), "%s", w.problem);
	/* What can be read is still answered, at once. */
	store_events(f.store, &filter, on_json, &a);
	turn_until(&f, &a.n, 1);
	ck_assert_int_eq(a.error, 0);
	ck_assert_uint_eq(json_array_size(a.json), 1);
	json_decref(a.json);
	hand_over(&w, args, 20, 10, ""); /* these wait behind the others */
	ck_assert_int_eq(w.acknowledged, 10);
	w.in_trouble = false;
	w.syncs_before = atomic_load(&syncs);
	atomic_store(&sync_fails, 0);
	turn_until(&f, &w.acknowledged, 30);
	turn_until(&f, &w.recoveries, 1);
	ck_assert_ptr_null(store_failed(f.store));
	assert_counts_to(&f, 30); /* none twice, though the failed ones may have been found again */
	fixture_close(&f);
	fixture_open(&f);
	assert_counts_to(&f, 30);
	fixture_end(&f);
}
END_TEST

enum { LONG_LOG_BATCHES = 300 };

/* Commits go to the log only; the place that they are copied to when it grows is the one that
 * fails.
 */
START_TEST(disk_that_takes_the_log_only)
{
	static struct numbered_done args[LONG_LOG_BATCHES];
	static char padding[20000];
	struct fixture f;
	struct watch w = {.f = &f};

	memset(padding, 'x', sizeof padding - 1);
	fixture_begin(&f);
	store_on_state(f.store, on_state, &w);
	atomic_store(&database_fails, 1);
	hand_over(&w, args, 0, LONG_LOG_BATCHES, padding); /* 6 MB */
	turn_until(&f, &w.failures, 1);
	ck_assert_msg(strstr(w.problem, "Input/output error"), "%s", w.problem);
	atomic_store(&database_fails, 0);
	turn_until(&f, &w.acknowledged, LONG_LOG_BATCHES);
	turn_until(&f, &w.recoveries, 1);
	assert_counts_to(&f, LONG_LOG_BATCHES);
	fixture_end(&f);
}
END_TEST

/* After a failure the log may be another file: it counts when its name is on the disk, too. */
START_TEST(folder_that_is_not_written)
{
	static struct numbered_done args[2];
	struct fixture f;
	struct watch w = {.f = &f};

	fixture_begin(&f);
	store_on_state(f.store, on_state, &w);
	hand_over(&w, args, 0, 1, "");
	turn_until(&f, &w.acknowledged, 1);
	w.in_trouble = true;
	atomic_store(&sync_fails, 1);
	hand_over(&w, args, 1, 1, "");
	turn_until(&f, &w.failures, 1);
	atomic_store(&folder_fails, 1);
	atomic_store(&sync_fails, 0);
	turn_until(&f, &w.failures, 2);
	ck_assert_msg(strstr(w.problem, "folder"), "%s", w.problem);
	ck_assert_int_gt(atomic_load(&folder_failures), 0);
	w.in_trouble = false;
	w.syncs_before = atomic_load(&syncs);
	atomic_store(&folder_fails, 0);
	turn_until(&f, &w.acknowledged, 2);
	assert_counts_to(&f, 2);
	fixture_end(&f);
}
END_TEST

/* The end of a store whose disk fails: it ends, and acknowledges nothing. */
START_TEST(end_with_a_failing_disk)
{
	struct fixture f;
	int done = 0;

	fixture_begin(&f);
	commit_and_wait(&f, numbered(1, ""));
	atomic_store(&sync_fails, 1);
	store_commit(f.store, numbered(2, ""), count_up, &done);
	fixture_close(&f);
	ck_assert_int_eq(done, 0);
	atomic_store(&sync_fails, 0);
	fixture_open(&f);
	ck_assert_ptr_null(f.note);
	ck_assert_ptr_null(store_failed(f.store));
	fixture_end(&f);
}
END_TEST

static void
limit_files(rlim_t bytes)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = MIN(bytes, limit.rlim_max);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(full_disk)
{
	static struct numbered_done args[FAULT_BATCHES];
	static char padding[20000];
	struct timeval tick = {.tv_usec = 5000};
	struct fixture f;
	struct watch w = {.f = &f};
	struct event *ev;
	int ticks = 0;

	signal(SIGXFSZ, SIG_IGN);
	memset(padding, 'x', sizeof padding - 1);
	fixture_begin(&f);
	store_on_state(f.store, on_state, &w);
	ev = event_new(f.base, -1, EV_PERSIST, on_tick, &ticks);
	event_add(ev, &tick);
	limit_files(200000);
	hand_over(&w, args, 0, FAULT_BATCHES, padding); /* 1.2 MB */
	turn_until(&f, &w.failures, 1);
	ck_assert_ptr_nonnull(store_failed(f.store));
	ck_assert_ptr_nonnull(strstr(w.problem, f.path));
	ck_assert_int_lt(w.acknowledged, FAULT_BATCHES);
	ticks = 0;
	turn_until(&f, &ticks, 10);
	limit_files(RLIM_INFINITY);
	turn_until(&f, &w.acknowledged, FAULT_BATCHES);
	turn_until(&f, &w.recoveries, 1);
	ck_assert_ptr_null(store_failed(f.store));
	assert_counts_to(&f, FAULT_BATCHES);
	event_free(ev);
	fixture_end(&f);
}
END_TEST

/* SQLite calls it damaged, and what is damaged is set aside: a live deployment would be forgotten.
 */
START_TEST(unreadable_is_not_damaged)
{
	struct fixture f;

	fixture_begin(&f);
	commit_and_wait(&f, numbered(1, ""));
	fixture_close(&f);
	for (int i = 0; i < 40; i++) {
		atomic_store(&reads_pass, i / 2);
		atomic_store(&reads_fail, i % 2 ? 1 : 1000);
		if (fixture_try_open(&f) == 0) {
			ck_assert_msg(!f.note, "%s", f.note);
			fixture_close(&f);
		} else {
			ck_assert_msg(f.note && strstr(f.note, "Input/output error"), "%s",
				      f.note ? f.note : "(nothing)");
			free(f.note);
		}
	}
	atomic_store(&reads_fail, 0);
	fixture_open(&f);
	assert_counts_to(&f, 1);
	fixture_end(&f);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		done_means_synced,
		slow_disk_commits_together_and_the_loop_goes_on,
		lying_disk,
		end_with_a_failing_disk,
		full_disk,
		disk_that_takes_the_log_only,
		folder_that_is_not_written,
		unreadable_is_not_damaged,
	};

	return run_suite("store-fault", tests, ARRAY_SIZE(tests), 60);
}
