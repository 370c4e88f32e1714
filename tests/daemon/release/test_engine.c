/* SPDX-License-Identifier: Apache-2.0 */

/* The built-in engine: releases/<tag>, `current`, and what is in the way. */

#include "tests/daemon/release/kit.h"

#include <signal.h>
#include <sys/file.h>
#include <time.h>

#include "daemon/release/marker.h"

static char *error, *previous;

static const struct item app_v1[] = {FILE_ITEM("app/run", "one"), FILE_ITEM("app/conf", "1")};
static const struct item app_v2[] = {FILE_ITEM("app/run", "two"), FILE_ITEM("app/conf", "2")};

static void
setup(void)
{
	kit_setup();
	error = previous = NULL;
	make_archive("v1.tar.gz", app_v1, 2);
	make_archive("v2.zip", app_v2, 2);
}

static int
deploy(const char *tag, const char *artifact)
{
	free(previous);
	previous = NULL;
	return engine_deploy("base", tag, artifact, NULL, &previous, &error);
}

static void
expect_current(const char *tag)
{
	char *now = NULL;

	ck_assert_int_eq(engine_current("base", &now), 0);
	ck_assert_str_eq(now, tag);
	free(now);
}

START_TEST(deploy_and_back)
{
	char target[64] = "", *now = NULL;
	struct stat st;

	folder("base");
	ck_assert_int_eq(engine_current("base", &now), -ENOENT);
	expect_ok(deploy("v1", "v1.tar.gz"));
	ck_assert_ptr_null(previous);
	expect_current("v1");
	expect_text("base/current/app/run", "one");
	expect_ok(deploy("v2+rc.1", "v2.zip"));
	ck_assert_str_eq(previous, "v1");
	expect_text("base/current/app/run", "two");
	ck_assert_int_gt(readlink("base/current", target, sizeof target - 1), 0);
	ck_assert_str_eq(target, "releases/v2+rc.1");
	expect_ok(engine_check("base", "v1", &error));
	expect_ok(engine_switch("base", "v1", &error));
	expect_ok(engine_switch("base", "v1", &error));
	expect_text("base/current/app/run", "one");
	ck_assert_int_eq(stat("base/current/", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
	ck_assert_uint_eq(count_names("base", ""), 4);
	ck_assert_uint_eq(count_names("base/releases", ""), 4);
	free(previous);
}
END_TEST

START_TEST(every_format)
{
	static const char *const names[] = {"a.tar", "b.tar.gz", "c.tar.xz", "d.tar.zst", "e.zip"};
	static const struct item items[] = {
		{.name = "./", .mode = S_IFDIR | 0700},
		{.name = "./bin/run", .mode = S_IFREG | 0755, .data = "run"},
		{.name = "./bin/same", .mode = S_IFREG | 0755, .hardlink = "./bin/run"},
		{.name = "./latest", .mode = S_IFLNK | 0777, .link = "bin/run"},
		{.name = "./bin", .mode = S_IFDIR | 0750},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		bool zip = strstr(names[i], ".zip");
		struct stat st, same;

		if (zip) {
			struct item few[] = {items[0], items[1], items[3], items[4]};

			make_archive(names[i], few, 4);
		} else {
			make_archive(names[i], items, 5);
		}
		expect_ok(deploy(names[i], names[i]));
		expect_text("base/current/latest", "run");
		ck_assert_int_eq(stat("base/current/bin/run", &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0755);
		ck_assert_int_eq(st.st_mtime, 1700000000);
		ck_assert_int_eq(zip || (stat("base/current/bin/same", &same) == 0 &&
					 same.st_ino == st.st_ino),
				 true);
		ck_assert_int_eq(stat("base/current/bin", &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0750);
		ck_assert_int_eq(stat("base/current/", &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0755);
	}
	free(previous);
}
END_TEST

START_TEST(a_tag_never_changes)
{
	expect_ok(deploy("v1", "v1.tar.gz"));
	put_text("base/releases/v1/app/run", "touched");
	expect_ok(deploy("v1", "v1.tar.gz"));
	ck_assert_str_eq(previous, "v1");
	expect_text("base/releases/v1/app/run", "touched"); /* kept as it is, not unpacked again */
	ck_assert_int_eq(deploy("v1", "v2.zip"), -EEXIST);
	expect_sentence(&error, "a tag never changes");
	expect_current("v1");
}
END_TEST

START_TEST(what_is_incomplete_is_replaced)
{
	folder("base/releases/v1/half");
	folder("base/releases/.v1.partial-00000000/x");
	folder("base/releases/.v2.partial-00000000/x");
	ck_assert_int_eq(engine_check("base", "v1", &error), -ENOENT);
	free(error);
	error = NULL;
	ck_assert_int_eq(engine_switch("base", "v1", &error), -ENOENT);
	expect_sentence(&error, "not complete");
	expect_ok(deploy("v1", "v1.tar.gz"));
	ck_assert(!exists("base/releases/v1/half"));
	ck_assert_uint_eq(count_names("base/releases", ".v1"), 0);
	ck_assert_uint_eq(count_names("base/releases", ".v2"), 0); /* nobody is at work there */
	put_text("base/releases/v1/.dhash-release", "tag=v1\nsha2");
	ck_assert_int_eq(engine_switch("base", "v1", &error), -ENOENT);
	expect_sentence(&error, "not complete");
	ck_assert_int_eq(engine_switch("base", "v9", &error), -ENOENT);
	expect_sentence(&error, "v9");
	free(previous);
}
END_TEST

/* A crash left them, at this tag or another that is never tried again; one at work is let be. */
START_TEST(leftovers_of_any_tag_go)
{
	int fd;

	folder("base/releases/.v0.9.partial-0123abcd/app");
	put_text("base/releases/.v0.9.partial-0123abcd/app/big", "half of it");
	folder("base/releases/.v1.partial-0123abcd");
	folder("base/releases/.v2.partial-4567cdef");
	folder("base/releases/.somebody-elses");
	fd = open("base/releases/.v2.partial-4567cdef", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	expect_ok(deploy("v1", "v1.tar.gz"));
	ck_assert(!exists("base/releases/.v0.9.partial-0123abcd"));
	ck_assert(!exists("base/releases/.v1.partial-0123abcd"));
	ck_assert(exists("base/releases/.v2.partial-4567cdef"));
	ck_assert(exists("base/releases/.somebody-elses"));
	close(fd);
	expect_ok(deploy("v2", "v2.zip"));
	ck_assert(!exists("base/releases/.v2.partial-4567cdef"));
	free(previous);
}
END_TEST

START_TEST(current_in_the_way)
{
	char *now = NULL;

	folder("base/current");
	ck_assert_int_eq(deploy("v1", "v1.tar.gz"), -EEXIST);
	expect_sentence(&error, "ln -s releases/");
	ck_assert_int_eq(engine_current("base", &now), -EEXIST);
	ck_assert(!exists("base/releases"));
	ck_assert_int_eq(rmdir("base/current"), 0);
	static const char *const bad[] = {"/etc", "releases/../../etc", "releases/", "other/v1",
					  "releases/v1/x"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(symlink(bad[i], "base/current"), 0);
		ck_assert_int_eq(deploy("v1", "v1.tar.gz"), -EINVAL);
		expect_sentence(&error, "ln -sfn releases/");
		ck_assert_int_eq(engine_current("base", &now), -EINVAL);
		ck_assert_int_eq(unlink("base/current"), 0);
	}
	ck_assert(!exists("base/releases"));
}
END_TEST

/* What was in use before dhashd came has no marker, and must be reachable all the same. */
START_TEST(a_release_made_by_hand_is_adopted)
{
	folder("base/releases/v0");
	put_text("base/releases/v0/run", "by hand");
	ck_assert_int_eq(symlink("releases/v0", "base/current"), 0);
	expect_ok(deploy("v1", "v1.tar.gz"));
	ck_assert_str_eq(previous, "v0");
	expect_ok(engine_switch("base", "v0", &error));
	expect_text("base/current/run", "by hand");
	ck_assert_int_eq(deploy("v0", "v1.tar.gz"), -EEXIST);
	expect_sentence(&error, "a tag never changes");
}
END_TEST

START_TEST(bad_arguments)
{
	static const char *const tags[] = {"", ".", "..", "../x", "a/b", "-x", ".hidden", "a b"};
	static const struct item reserved[] = {FILE_ITEM(MARKER_NAME, "tag=v1\nsha256=\n")};
	atomic_bool cancelled = true;

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		ck_assert_int_eq(deploy(tags[i], "v1.tar.gz"), -EINVAL);
		expect_sentence(&error, "no release tag");
		ck_assert_int_eq(engine_switch("base", tags[i], &error), -EINVAL);
		expect_sentence(&error, "no release tag");
	}
	ck_assert(!exists("base"));
	ck_assert_int_eq(engine_switch("base", "v1", &error), -ENOENT);
	expect_sentence(&error, "base");
	ck_assert_int_eq(deploy("v1", "missing.tar.gz"), -ENOENT);
	expect_sentence(&error, "missing.tar.gz");
	make_archive("r.tar", reserved, 1);
	ck_assert_int_eq(deploy("v1", "r.tar"), -EPERM);
	expect_sentence(&error, MARKER_NAME);
	ck_assert_int_eq(engine_deploy("base", "v1", "v1.tar.gz", &cancelled, &previous, &error),
			 -ECANCELED);
	expect_sentence(&error, "cancelled");
	ck_assert_uint_eq(count_names("base/releases", ""), 2);
	ck_assert_int_eq(symlink("/etc", "base/releases/v1"), 0);
	ck_assert_int_eq(deploy("v1", "v1.tar.gz"), -ELOOP);
	expect_sentence(&error, "v1");
}
END_TEST

_Noreturn static void
deploy_for_ever(unsigned round)
{
	for (unsigned n = 1;; n++) {
		char tag[32];

		snprintf(tag, sizeof tag, "t%u-%u", round, n);
		if (deploy(tag, n % 2 ? "v2.zip" : "v1.tar.gz") < 0)
			_exit(1);
	}
}

/* Killed while it deploys the one and the other by turns: `current` always names a whole release.
 */
START_TEST(killed_at_any_moment)
{
	unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();

	if (getenv("DHASH_TEST_SEED"))
		seed = (unsigned)strtoul(getenv("DHASH_TEST_SEED"), NULL, 0);
	fprintf(stderr, "killed_at_any_moment: DHASH_TEST_SEED=%u\n", seed);
	srand(seed);
	expect_ok(deploy("t0", "v1.tar.gz"));
	for (unsigned i = 0; i < 40; i++) {
		struct timespec pause = {.tv_nsec = rand() % 8000000};
		char *now = NULL, *path, *run;
		pid_t pid = fork();
		int status;

		if (pid == 0)
			deploy_for_ever(i);
		nanosleep(&pause, NULL);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		ck_assert_int_eq(engine_current("base", &now), 0);
		expect_ok(engine_switch("base", now, &error));
		run = get("base/current/app/run", NULL);
		expect_text("base/current/app/conf", streq(run, "one") ? "1" : "2");
		path = xasprintf("base/releases/%s", now);
		ck_assert(exists(path));
		free(path);
		free(run);
		free(now);
	}
	free(previous);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("engine");
	TCase *t = tcase_create("engine");

	tcase_add_checked_fixture(t, setup, kit_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, deploy_and_back);
	tcase_add_test(t, every_format);
	tcase_add_test(t, a_tag_never_changes);
	tcase_add_test(t, what_is_incomplete_is_replaced);
	tcase_add_test(t, leftovers_of_any_tag_go);
	tcase_add_test(t, current_in_the_way);
	tcase_add_test(t, a_release_made_by_hand_is_adopted);
	tcase_add_test(t, bad_arguments);
	tcase_add_test(t, killed_at_any_moment);
	suite_add_tcase(s, t);
	return run_suite(s);
}
