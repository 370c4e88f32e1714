/* SPDX-License-Identifier: Apache-2.0 */
/* Killed at any moment, and damaged files: what was acknowledged is there, or its loss is reported.
 */

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/daemon/store_fixture.h"

/* --- killed --- */

struct writer {
	struct fixture f;
	int fd, next, acknowledged;
};

static void
on_acknowledged(void *arg)
{
	struct writer *w = arg;

	w->acknowledged++;
	if (write(w->fd, &w->acknowledged, sizeof w->acknowledged) != sizeof w->acknowledged)
		_exit(2);
}

/* Commits batch after batch, up to eight at a time, until it is killed. */
static void
write_for_ever(const char *path, int fd, int last)
{
	struct writer w = {.fd = fd, .next = last + 1, .acknowledged = last};

	str_copy(w.f.path, sizeof w.f.path, path);
	if (fixture_try_open(&w.f) < 0)
		_exit(3);
	for (;;) {
		while (w.next - w.acknowledged <= 8)
			store_commit(w.f.store, numbered(w.next++, "some padding"), on_acknowledged,
				     &w);
		event_base_loop(w.f.base, EVLOOP_ONCE);
	}
}

/* The last number that the child acknowledged before it was killed, or `last`. */
static int
kill_a_writer(const char *path, int last, long after_usec)
{
	struct timespec pause = {.tv_nsec = after_usec * 1000};
	int fds[2], n, status;
	pid_t child;

	ck_assert_int_eq(pipe(fds), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20); /* so that the child need not wait for us */
	fflush(stdout);
	child = fork();
	if (child == 0) {
		close(fds[0]);
		write_for_ever(path, fds[1], last);
	}
	close(fds[1]);
	nanosleep(&pause, NULL);
	kill(child, SIGKILL);
	while (read(fds[0], &n, sizeof n) == sizeof n) {
		ck_assert_int_eq(n, last + 1);
		last = n;
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFSIGNALED(status), "the child ended by itself with %d",
		      WEXITSTATUS(status));
	close(fds[0]);
	return last;
}

/* Numbers in the file; they go on from `before`, whose sequence number *seq is. */
static int
read_numbers(struct fixture *f, int before, int64_t *seq)
{
	size_t n;

	do {
		json_t *v = events_after(f, *seq);

		n = json_array_size(v);
		for (size_t i = 0; i < n; i++) {
			ck_assert_int_eq(event_field(v, i, "n"), ++before);
			*seq = event_field(v, i, "seq");
		}
		json_decref(v);
	} while (n > 0);
	return before;
}

START_TEST(nothing_acknowledged_is_lost_by_kill)
{
	const char *given = getenv("DHASH_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)now_realtime();
	struct fixture f;
	int acknowledged, there = 0, most = 0;
	int64_t seq = 0;

	printf("seed: DHASH_TEST_SEED=%u\n", seed);
	fixture_folder(&f);
	for (int i = 0; i < 30; i++) {
		long after = rand_r(&seed) % (i % 3 ? 30000 : 6000);

		acknowledged = kill_a_writer(f.path, there, after);
		fixture_open(&f);
		ck_assert_msg(!f.note, "%s", f.note);
		most = MAX(most, acknowledged - there);
		there = read_numbers(&f, there, &seq);
		ck_assert_int_ge(there, acknowledged);
		fixture_close(&f);
	}
	ck_assert_int_gt(most, 0); /* else nothing was tried */
	fixture_end(&f);
}
END_TEST

/* Made and migrated, or not there yet: half of it is never taken for damage. */
START_TEST(killed_while_it_is_made)
{
	unsigned seed = (unsigned)now_realtime();

	printf("seed: %u\n", seed);
	for (int i = 0; i < 60; i++) {
		long after = rand_r(&seed) % 6000;
		int64_t seq = 0;
		struct fixture f;
		int acknowledged;

		fixture_folder(&f);
		acknowledged = kill_a_writer(f.path, 0, after);
		fixture_open(&f);
		ck_assert_msg(!f.note, "after %ld us: %s", after, f.note);
		ck_assert_int_ge(read_numbers(&f, 0, &seq), acknowledged);
		fixture_end(&f);
	}
}
END_TEST

/* --- damaged --- */

/* "dhashd.db.corrupt-20240101-120000" and the end, and nothing more. */
static char *
find_aside(const struct fixture *f, const char *end)
{
	static const char begin[] = "dhashd.db.corrupt-";
	const size_t len = strlen(begin) + strlen("20240101-120000");
	DIR *d = opendir(f->dir);
	char *found = NULL;
	struct dirent *e;

	while (!found && (e = readdir(d)))
		if (strncmp(e->d_name, begin, strlen(begin)) == 0 && strlen(e->d_name) >= len &&
		    streq(e->d_name + len, end))
			found = xasprintf("%s/%s", f->dir, e->d_name);
	closedir(d);
	return found;
}

/* Opening reports the damage, keeps the old file as it is, and begins with an empty one. */
static void
assert_set_aside(struct fixture *f)
{
	struct stat before, after;
	char *aside;

	ck_assert_int_eq(stat(f->path, &before), 0);
	fixture_open(f);
	ck_assert_msg(f->note, "%ld bytes were taken for a sound database", (long)before.st_size);
	aside = find_aside(f, "");
	ck_assert_ptr_nonnull(aside);
	ck_assert_msg(strstr(f->note, aside), "%s is not in: %s", aside, f->note);
	ck_assert_int_eq(stat(aside, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert_int_eq(before.st_size, after.st_size);
	ck_assert_ptr_null(store_failed(f->store));
	assert_counts_to(f, 0);
	commit_and_wait(f, numbered(1, ""));
	assert_counts_to(f, 1);
	free(aside);
}

static void
make_history(struct fixture *f, int n)
{
	struct batch *all = batch_new(some_clock());

	fixture_begin(f);
	for (int i = 1; i <= n; i++) {
		json_t *o = json_pack("{s:i, s:s}", "n", i, "text", "something happened here");

		batch_event(all, "shop", "production", "deploy-1", o);
		json_decref(o);
	}
	commit_and_wait(f, all);
	fixture_close(f);
}

static void
overwrite(const char *path, long from, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char *garbage = xmalloc(n);

	memset(garbage, 0xA5, n);
	ck_assert_int_eq(pwrite(fd, garbage, n, from), (ssize_t)n);
	close(fd);
	free(garbage);
}

START_TEST(damaged_pages_are_set_aside)
{
	struct fixture f;
	struct stat st;

	make_history(&f, 300);
	ck_assert_int_eq(stat(f.path, &st), 0);
	overwrite(f.path, 4096, (size_t)st.st_size - 4096);
	assert_set_aside(&f);
	fixture_end(&f);
}
END_TEST

START_TEST(no_database_at_all_is_set_aside)
{
	struct fixture f;

	fixture_folder(&f);
	overwrite(f.path, 0, 5000);
	assert_set_aside(&f);
	fixture_end(&f);
}
END_TEST

START_TEST(truncated_file_is_set_aside)
{
	unsigned seed = (unsigned)now_realtime();

	printf("seed: %u\n", seed);
	for (int i = 0; i < 12; i++) {
		struct fixture f;
		struct stat st;
		long size;

		make_history(&f, 100);
		ck_assert_int_eq(stat(f.path, &st), 0);
		size = i < 3 ? 2 + i * 99 : 2 + rand_r(&seed) % ((long)st.st_size - 2);
		ck_assert_int_eq(truncate(f.path, size), 0);
		assert_set_aside(&f);
		fixture_end(&f);
	}
}
END_TEST

/* SQLite alone would delete the log here and say nothing. */
START_TEST(emptied_file_with_a_log_is_set_aside)
{
	struct fixture f;
	char *wal, *aside;

	make_history(&f, 10);
	ck_assert_int_eq(truncate(f.path, 0), 0);
	wal = xasprintf("%s-wal", f.path);
	overwrite(wal, 0, 10000);
	assert_set_aside(&f);
	aside = find_aside(&f, "-wal");
	ck_assert_ptr_nonnull(aside);
	free(aside);
	free(wal);
	fixture_end(&f);
}
END_TEST

/* Likewise where the file was removed, or renamed, without its log. */
START_TEST(log_without_its_file_is_set_aside)
{
	struct fixture f;
	char *wal, *aside;

	fixture_folder(&f);
	wal = xasprintf("%s-wal", f.path);
	overwrite(wal, 0, 10000);
	fixture_open(&f);
	ck_assert_msg(f.note && strstr(f.note, "it is gone, and its log is not"), "%s",
		      f.note ? f.note : "nothing was said");
	aside = find_aside(&f, "-wal");
	ck_assert_ptr_nonnull(aside);
	commit_and_wait(&f, numbered(1, ""));
	assert_counts_to(&f, 1);
	free(aside);
	free(wal);
	fixture_end(&f);
}
END_TEST

/* The end of the log is lost with what was not synced: what stands before it counts. */
START_TEST(torn_log_keeps_whole_commits)
{
	struct fixture f;
	int64_t seq = 0;
	int acknowledged, there;
	char *wal;
	struct stat st;

	fixture_folder(&f);
	acknowledged = kill_a_writer(f.path, 0, 60000);
	wal = xasprintf("%s-wal", f.path);
	if (stat(wal, &st) == 0 && st.st_size > 40000)
		ck_assert_int_eq(truncate(wal, st.st_size - 5000), 0);
	fixture_open(&f);
	ck_assert_ptr_null(f.note);
	there = read_numbers(&f, 0, &seq); /* gapless */
	commit_and_wait(&f, numbered(there + 1, ""));
	ck_assert_int_eq(read_numbers(&f, there, &seq), there + 1);
	ck_assert_int_ge(acknowledged, 0);
	free(wal);
	fixture_end(&f);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		nothing_acknowledged_is_lost_by_kill, killed_while_it_is_made,
		damaged_pages_are_set_aside,          no_database_at_all_is_set_aside,
		truncated_file_is_set_aside,          emptied_file_with_a_log_is_set_aside,
		log_without_its_file_is_set_aside,    torn_log_keeps_whole_commits,
	};

	return run_suite("store-crash", tests, ARRAY_SIZE(tests), 60);
}
