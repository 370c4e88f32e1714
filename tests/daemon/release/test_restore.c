/* SPDX-License-Identifier: Apache-2.0 */

/* Restores: all of the old state or all of the new one for each path, whatever happens. */

#include "tests/daemon/release/kit.h"

#include <signal.h>
#include <time.h>

#include "daemon/release/swap.h"
#include "daemon/release/tree.h"

static char *error;
static struct backup_made made;

#define both STRV("app", "conf")

/* A state of the service: some files that all say which one they belong to. */
enum { N_FILES = 24, FILE_LEN = 6000 };

static void
make_state(char version)
{
	char path[64], data[FILE_LEN];

	kit_remove("root");
	memset(data, version, sizeof data);
	for (unsigned i = 0; i < N_FILES; i++) {
		snprintf(path, sizeof path, "root/app/%c-%u", i % 2 ? version : 'd', i % 4);
		folder(path);
		snprintf(path, sizeof path, "root/app/%c-%u/%u", i % 2 ? version : 'd', i % 4, i);
		put(path, data, sizeof data);
	}
	put(version == 'a' ? "root/app/a-1/only" : "root/app/b-3/only", data, sizeof data);
	put("root/conf", data, sizeof data);
}

static unsigned long walked;
static char walked_version;

static int
on_walk(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t len;
	char *data;

	(void)ftw;
	if (type != FTW_F)
		return type == FTW_D ? 0 : 1;
	ck_assert_int_eq(st->st_size, FILE_LEN);
	data = get(path, &len);
	if (walked++ == 0)
		walked_version = data[0];
	ck_assert_msg(data[0] == walked_version && memcmp(data, data + 1, len - 1) == 0,
		      "%s is not wholly of state %c", path, walked_version);
	free(data);
	return 0;
}

/* Which state a path is in; anything between two states fails the test. */
static char
state_of(const char *path, unsigned long n_files)
{
	walked = 0;
	ck_assert_int_eq(nftw(path, on_walk, 16, FTW_PHYS), 0);
	ck_assert_uint_eq(walked, n_files);
	return walked_version;
}

static void
expect_state(char version)
{
	ck_assert_int_eq(state_of("root/app", N_FILES + 1), version);
	ck_assert_int_eq(state_of("root/conf", 1), version);
}

static void
setup(void)
{
	kit_setup();
	error = NULL;
	make_state('a');
	expect_ok(backup_create("a.zip", "root", both, NULL, &made, &error));
}

static int
restore(char *const *paths)
{
	return backup_restore("a.zip", made.sha256, "root", paths, NULL, &error);
}

START_TEST(round_trip_keeps_the_old)
{
	struct timespec times[2] = {{.tv_sec = 1500000000}, {.tv_sec = 1500000000}};
	struct stat st;

	make_state('a');
	ck_assert_int_eq(chmod("root/app/d-0/0", 0400), 0);
	ck_assert_int_eq(symlink("/etc/passwd", "root/app/out"), 0);
	ck_assert_int_eq(chmod("root/app/d-2", 0555), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, "root/app/d-2", times, 0), 0);
	expect_ok(backup_create("a.zip", "root", both, NULL, &made, &error));
	make_state('b');
	expect_ok(restore(both));
	ck_assert_int_eq(stat("root/app/d-0/0", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0400);
	ck_assert_int_eq(stat("root/app/d-2", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0555);
	ck_assert_int_eq(st.st_mtime, 1500000000);
	ck_assert_int_eq(lstat("root/app/out", &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	ck_assert_int_eq(unlink("root/app/out"), 0);
	expect_state('a');
	ck_assert_uint_eq(count_names("root", ".dhash-old-"), 2);
	ck_assert_uint_eq(count_names("root", ""), 6);
}
END_TEST

/* One old state is kept, not all of them; it is the one before. */
START_TEST(older_ones_go)
{
	char path[PATH_MAX];
	struct dirent *d;
	DIR *dir;

	for (unsigned i = 0; i < 3; i++) {
		kit_remove("root/app");
		folder("root/app/x");
		put_text("root/app/x/n", i == 2 ? "last" : "earlier");
		ck_assert_int_eq(chmod("root/app/x", 0555), 0);
		expect_ok(restore(STRV("app")));
		ck_assert_uint_eq(count_names("root", ".dhash-old-"), 1);
	}
	dir = opendir("root");
	while ((d = readdir(dir)) != NULL) {
		if (strncmp(d->d_name, ".dhash-old-", 11) != 0)
			continue;
		snprintf(path, sizeof path, "root/%s/app/x/n", d->d_name);
		expect_text(path, "last");
	}
	closedir(dir);
	expect_ok(restore(STRV("conf"))); /* another path's old state is not this one's */
	ck_assert_uint_eq(count_names("root", ".dhash-old-"), 2);
}
END_TEST

START_TEST(into_nothing)
{
	kit_remove("root");
	folder("root");
	expect_ok(restore(both));
	expect_state('a');
	ck_assert_uint_eq(count_names("root", ""), 4);
	folder("elsewhere");
	expect_ok(backup_restore("a.zip", made.sha256, "elsewhere", STRV("app"), NULL, &error));
	ck_assert(!exists("elsewhere/conf"));
	ck_assert_int_eq(state_of("elsewhere/app", N_FILES + 1), 'a');
}
END_TEST

/* A folder comes in the place of a file and the other way round. */
START_TEST(kinds_may_differ)
{
	kit_remove("root");
	folder("root/conf/sub");
	put_text("root/app", "a file now");
	expect_ok(restore(both));
	expect_state('a');
}
END_TEST

START_TEST(root_itself)
{
	folder("root/sub");
	expect_ok(backup_create("a.zip", "root", STRV("."), NULL, &made, &error));
	make_state('b');
	expect_ok(restore(STRV(".")));
	expect_state('a');
	ck_assert(exists("root/sub"));
	ck_assert_uint_eq(count_names(".", ".dhash-old-"), 1);
}
END_TEST

START_TEST(refused_before_anything_changes)
{
	atomic_bool cancelled = true;

	make_state('b');
	folder("root/other");
	ck_assert_int_eq(restore(STRV("app", "other")), -ENOENT);
	expect_sentence(&error, "holds nothing of");
	made.sha256[0] = made.sha256[0] == '0' ? '1' : '0';
	ck_assert_int_eq(restore(both), -EBADMSG);
	expect_sentence(&error, "nothing was changed");
	ck_assert_int_eq(backup_restore("a.zip", NULL, "root", both, &cancelled, &error),
			 -ECANCELED);
	expect_sentence(&error, "cancelled");
	expect_state('b');
	ck_assert_uint_eq(count_names("root", ".dhash-"), 0);
	expect_ok(backup_restore("a.zip", NULL, "root", both, NULL, &error));
	expect_state('a');
}
END_TEST

/* Who may write beside the target could put a link on the way to it: it is not followed. */
/* A damaged name makes an entry another one, that nobody asked for: its checksum still tells. */
START_TEST(entries_that_were_not_asked_for_are_judged)
{
	struct item items[] = {FILE_ITEM("app/a", "one"), FILE_ITEM("etc/b", "many words of two")};
	char *zip;
	size_t len;

	make_archive("two.zip", items, 2);
	zip = get("two.zip", &len);
	for (char *p = zip; (size_t)(p - zip) + 5 < len; p++)
		if (memcmp(p, "etc/b", 5) == 0) {
			/* Behind the name of the local header come an extra field and the data. */
			p[5 + (unsigned char)p[-2] + 2] ^= 1;
			break;
		}
	put("two.zip", zip, len);
	free(zip);
	folder("root/app");
	put_text("root/app/old", "old");
	ck_assert_int_eq(backup_restore("two.zip", NULL, "root", STRV("app"), NULL, &error),
			 -EBADMSG);
	expect_sentence(&error, "damaged");
	expect_text("root/app/old", "old");
}
END_TEST

START_TEST(parent_swapped_for_a_link)
{
	char *const *paths = STRV("deep/app");

	folder("root/deep");
	ck_assert_int_eq(rename("root/app", "root/deep/app"), 0);
	expect_ok(backup_create("a.zip", "root", paths, NULL, &made, &error));
	ck_assert_int_eq(rename("root/deep", "victim"), 0);
	put_text("victim/app/mine", "keep");
	ck_assert_int_eq(symlink("../victim", "root/deep"), 0);
	ck_assert_int_eq(restore(paths), -ELOOP);
	expect_sentence(&error, "symbolic link");
	expect_text("victim/app/mine", "keep");
	ck_assert_uint_eq(count_names("victim", ""), 3);
}
END_TEST

/* The target itself may be a link: it is replaced, not followed. */
START_TEST(target_is_a_link)
{
	kit_remove("root/app");
	folder("victim");
	put_text("victim/mine", "keep");
	ck_assert_int_eq(symlink("../victim", "root/app"), 0);
	expect_ok(restore(both));
	expect_state('a');
	expect_text("victim/mine", "keep");
	ck_assert_uint_eq(count_names("victim", ""), 3);
}
END_TEST

static void
open_stage(struct stage *s, const char *leaf)
{
	int fd = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_eq(stage_init(s, fd, leaf, leaf, "20240101-120000", &error), 0);
}

/* The third swap fails: the two before it, one over something and one over nothing, are undone. */
START_TEST(failed_swap_is_undone)
{
	struct stage v[3];

	open_stage(&v[0], "conf");
	open_stage(&v[1], "fresh");
	open_stage(&v[2], "app");
	ck_assert_int_eq(mkdirat(v[0].fd, "conf", 0700), 0);
	ck_assert_int_eq(mkdirat(v[1].fd, "fresh", 0700), 0);
	ck_assert_int_eq(stages_swap(v, 3, &error), -ENOENT);
	expect_sentence(&error, "nothing was changed");
	for (unsigned i = 0; i < 3; i++)
		stage_done(&v[i], v[i].swapped);
	expect_state('a');
	ck_assert(!exists("root/fresh"));
	ck_assert_uint_eq(count_names("root", ""), 4);
}
END_TEST

/* What a crash left goes; what another restore is working in stays. */
START_TEST(leftovers)
{
	struct stage mine;

	folder("root/.dhash-new-20230101-000000-00000000/app/x");
	ck_assert_int_eq(chmod("root/.dhash-new-20230101-000000-00000000/app", 0), 0);
	folder("root/.dhash-old-20230101-000000-00000000/app/x");
	folder("root/.dhash-old-20230101-000000-11111111/other");
	open_stage(&mine, "other");
	ck_assert_uint_eq(count_names("root", ".dhash-new-"), 1);
	expect_ok(restore(STRV("app")));
	ck_assert(exists("root/.dhash-old-20230101-000000-11111111/other"));
	ck_assert(!exists("root/.dhash-old-20230101-000000-00000000"));
	ck_assert_uint_eq(count_names("root", ".dhash-new-"), 1);
	stage_done(&mine, false);
	ck_assert_uint_eq(count_names("root", ".dhash-new-"), 0);
}
END_TEST

/* Somebody writes another valid archive of the same length over ours and back, all the time: what
 * comes out is ours or nothing, though the digest may have seen the one and unpacking the other. */
START_TEST(archive_swapped_after_its_hash)
{
	static const struct item good[] = {FILE_ITEM("app/f", "good")};
	static const struct item evil[] = {FILE_ITEM("app/f", "evil")};
	size_t good_len, evil_len;
	char *good_zip, *evil_zip;
	unsigned restored = 0;
	pid_t pid;

	make_archive("evil.zip", evil, 1);
	make_archive("good.zip", good, 1);
	digest_of("good.zip", made.sha256);
	good_zip = get("good.zip", &good_len);
	evil_zip = get("evil.zip", &evil_len);
	ck_assert_uint_eq(good_len, evil_len);
	pid = fork();
	if (pid == 0) {
		int fd = open("good.zip", O_WRONLY | O_CLOEXEC);

		while (pwrite(fd, evil_zip, evil_len, 0) > 0 &&
		       pwrite(fd, good_zip, good_len, 0) > 0)
			;
		_exit(1);
	}
	for (unsigned i = 0; i < 300; i++) {
		int r = backup_restore("good.zip", made.sha256, "root", STRV("app"), NULL, &error);

		ck_assert_msg(r == 0 || r == -EBADMSG, "%d, %s", r, error ? error : "-");
		restored += r == 0;
		free(error);
		error = NULL;
		if (restored > 0)
			expect_text("root/app/f", "good");
	}
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	free(good_zip);
	free(evil_zip);
}
END_TEST

/* --- kill -9 ---------------------------------------------------------------------------------- */

_Noreturn static void
restore_for_ever(const struct backup_made *a, const struct backup_made *b)
{
	for (;;) {
		if (backup_restore("b.zip", b->sha256, "root", both, NULL, &error) < 0 ||
		    backup_restore("a.zip", a->sha256, "root", both, NULL, &error) < 0)
			_exit(1);
	}
}

START_TEST(killed_at_any_moment)
{
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid(), seen[2] = {0};
	struct backup_made b;

	if (getenv("DHASH_TEST_SEED"))
		seed = (unsigned)strtoul(getenv("DHASH_TEST_SEED"), NULL, 0);
	fprintf(stderr, "killed_at_any_moment: DHASH_TEST_SEED=%u\n", seed);
	srand(seed);
	make_state('b');
	expect_ok(backup_create("b.zip", "root", both, NULL, &b, &error));
	for (unsigned i = 0; i < 60; i++) {
		struct timespec pause = {.tv_nsec = rand() % 12000000};
		pid_t pid = fork();
		int status;

		if (pid == 0)
			restore_for_ever(&made, &b);
		nanosleep(&pause, NULL);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		seen[state_of("root/app", N_FILES + 1) == 'b']++;
		state_of("root/conf", 1);
	}
	expect_ok(restore(both));
	expect_state('a');
	ck_assert_uint_eq(count_names("root", ".dhash-new-"), 0);
	ck_assert_uint_eq(count_names("root", ".dhash-old-"), 2);
	ck_assert_msg(seen[0] > 0 && seen[1] > 0, "the kills missed the swaps: %u, %u", seen[0],
		      seen[1]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("restore");
	TCase *t = tcase_create("restore");

	tcase_add_checked_fixture(t, setup, kit_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, round_trip_keeps_the_old);
	tcase_add_test(t, older_ones_go);
	tcase_add_test(t, into_nothing);
	tcase_add_test(t, kinds_may_differ);
	tcase_add_test(t, root_itself);
	tcase_add_test(t, refused_before_anything_changes);
	tcase_add_test(t, entries_that_were_not_asked_for_are_judged);
	tcase_add_test(t, parent_swapped_for_a_link);
	tcase_add_test(t, target_is_a_link);
	tcase_add_test(t, failed_swap_is_undone);
	tcase_add_test(t, leftovers);
	tcase_add_test(t, archive_swapped_after_its_hash);
	tcase_add_test(t, killed_at_any_moment);
	suite_add_tcase(s, t);
	return run_suite(s);
}
