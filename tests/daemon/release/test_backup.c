/* SPDX-License-Identifier: Apache-2.0 */

/* Backups as they are made: judged by Debian's own sha256sum and unzip, and by what is in them. */

#include "tests/daemon/release/kit.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static char *error;

#define app_paths STRV("app")

static void
setup(void)
{
	kit_setup();
	error = NULL;
	folder("root/app/etc");
	folder("root/app/empty");
	put_text("root/app/one", "eins\n");
	put_text("root/app/etc/conf", "key=value\n");
}

static int
create(const char *file, char *const *paths, struct backup_made *made)
{
	return backup_create(file, "root", paths, NULL, made, &error);
}

static void
judged_by_debian(const char *where, const char *name)
{
	char *sidecar = xasprintf("%s.sha256", name);
	char *const *sum = STRV("sha256sum", "--strict", "-c", sidecar);
	char *const *unzip = STRV("unzip", "-tqq", (char *)name);

	ck_assert_int_eq(run_in(where, sum), 0);
	ck_assert_int_eq(run_in(where, unzip), 0);
	free(sidecar);
}

START_TEST(debian_agrees)
{
	struct backup_made made;
	char sha256[DIGEST_HEX];
	struct stat st;

	expect_ok(create("backups/dhash-production-20240101-120000.zip", app_paths, &made));
	judged_by_debian("backups", "dhash-production-20240101-120000.zip");
	digest_of("backups/dhash-production-20240101-120000.zip", sha256);
	ck_assert_str_eq(made.sha256, sha256);
	ck_assert_int_eq(stat("backups/dhash-production-20240101-120000.zip", &st), 0);
	ck_assert_int_eq(made.bytes, st.st_size);
	ck_assert_uint_eq(made.entries, 5);
	ck_assert_uint_eq(made.skipped, 0);
	ck_assert_uint_eq(count_names("backups", "."), 2); /* "." and "..": no temporary */
	expect_ok(backup_verify("backups/dhash-production-20240101-120000.zip", made.sha256, NULL,
				NULL, &error));
}
END_TEST

/* unzip is another reader than ours: what it unpacks must be what was there. */
START_TEST(unzip_gives_it_back)
{
	char *const *unzip = STRV("unzip", "-qq", "../b.zip");
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1600000000}};
	struct backup_made made;
	char target[20] = "";
	struct stat st;
	char *big = xmalloc(3000000), *again;
	size_t len;

	for (size_t i = 0; i < 3000000; i++)
		big[i] = (char)(i * 2654435761U >> 13);
	put("root/app/big", big, 3000000);
	ck_assert_int_eq(chmod("root/app/one", 0750), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, "root/app/one", times, 0), 0);
	ck_assert_int_eq(symlink("etc/conf", "root/app/link"), 0);
	ck_assert_int_eq(link("root/app/one", "root/app/same"), 0);
	expect_ok(create("b.zip", app_paths, &made));
	folder("out");
	ck_assert_int_eq(run_in("out", unzip), 0);
	expect_text("out/app/etc/conf", "key=value\n");
	expect_text("out/app/same", "eins\n");
	again = get("out/app/big", &len);
	ck_assert_uint_eq(len, 3000000);
	ck_assert_mem_eq(again, big, len);
	ck_assert_int_eq(stat("out/app/one", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0750);
	ck_assert_int_eq(st.st_mtime, 1600000000);
	ck_assert_int_gt(readlink("out/app/link", target, sizeof target - 1), 0);
	ck_assert_str_eq(target, "etc/conf");
	ck_assert(exists("out/app/empty"));
	free(big);
	free(again);
}
END_TEST

START_TEST(special_files_are_counted)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "root/app/socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct backup_made made;

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	close(fd);
	ck_assert_int_eq(mkfifo("root/app/fifo", 0600), 0);
	ck_assert_int_eq(chmod("root/app/one", 04755), 0);
	ck_assert_int_eq(chmod("root/app/etc", 02755), 0);
	expect_ok(create("b.zip", app_paths, &made));
	ck_assert_uint_eq(made.skipped, 2);
	ck_assert_uint_eq(made.stripped, 2);
	ck_assert_uint_eq(made.entries, 5);
	expect_ok(backup_restore("b.zip", made.sha256, "root", app_paths, NULL, &error));
}
END_TEST

/* A file under /sys says it has 4096 bytes and has fewer, like one that shrinks while it is read.
 */
START_TEST(shorter_than_it_said)
{
	char *const *paths = STRV("mm/transparent_hugepage/enabled");
	struct backup_made made;

	if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) < 0)
		return;
	expect_ok(backup_create("b.zip", "/sys/kernel", paths, NULL, &made, &error));
	judged_by_debian(".", "b.zip");
}
END_TEST

START_TEST(names_stay_byte_for_byte)
{
	static const char *const names[] = {"gr\xc3\xbc\xc3\x9f", "latin1-\xfc", "e\xcc\x81",
					    "new\nline",          "back\\slash", " blank "};
	struct backup_made made;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path = xasprintf("root/app/%s", names[i]);

		put_text(path, names[i]);
		free(path);
	}
	expect_ok(create("b.zip", app_paths, &made));
	kit_remove("root/app");
	expect_ok(backup_restore("b.zip", made.sha256, "root", app_paths, NULL, &error));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path = xasprintf("root/app/%s", names[i]);

		expect_text(path, names[i]);
		free(path);
	}
}
END_TEST

START_TEST(paths_name_what_they_mean)
{
	char *absolute = xasprintf("%s/root/app/etc", kit_dir);
	char *outside = xasprintf("%s/other", kit_dir);
	char *in_zip = xasprintf("%s/other/x", kit_dir + 1);
	char *const *paths = STRV("./app/one", absolute, outside);
	char *const *nested = STRV("app/etc", "app", "app/one", "app");
	char *const *list = STRV("unzip", "-tqq", "b.zip", "app/one", "app/etc/conf", in_zip);
	struct backup_made made;

	folder("other");
	put_text("other/x", "x");
	expect_ok(create("b.zip", paths, &made));
	ck_assert_uint_eq(made.entries, 5);
	ck_assert_int_eq(run_in(".", list), 0);
	expect_ok(create("b.zip", nested, &made));
	ck_assert_uint_eq(made.entries, 5);
	free(absolute);
	free(outside);
	free(in_zip);
}
END_TEST

START_TEST(bad_paths_are_refused)
{
	static const struct {
		const char *path, *sentence;
		int r;
	} rows[] = {{"missing", "missing", -ENOENT},   {"app/missing", "missing", -ENOENT},
		    {"../other", "\"..\"", -EINVAL},   {"/", "backup path", -EINVAL},
		    {"", "backup path", -EINVAL},      {"link/etc", "symbolic link", -ELOOP},
		    {"app/one/x", "app/one", -ENOTDIR}};
	static char *const none[] = {NULL};
	struct backup_made made;

	ck_assert_int_eq(symlink("app", "root/link"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = create("backups/b.zip", STRV("app/etc", rows[i].path), &made);

		ck_assert_int_eq(r, rows[i].r);
		expect_sentence(&error, rows[i].sentence);
	}
	ck_assert_int_eq(create("backups/b.zip", none, &made), -EINVAL);
	expect_sentence(&error, "BackupPaths=");
	ck_assert_int_eq(create("root/app/backups/b.zip", app_paths, &made), -EINVAL);
	expect_sentence(&error, "lies inside");
	ck_assert_uint_eq(count_names("backups", ""), 2);
}
END_TEST

/* What may not be read is an error that says so, not a backup with a hole in it. */
START_TEST(unreadable_is_an_error)
{
	struct backup_made made;
	int r;

	ck_assert_int_eq(chmod("root/app/one", 0), 0);
	if (access("root/app/one", R_OK) == 0)
		return; /* root reads everything */
	r = create("backups/b.zip", app_paths, &made);
	ck_assert_int_eq(r, -EACCES);
	expect_sentence(&error, "app/one");
	ck_assert_uint_eq(count_names("backups", ""), 2);
}
END_TEST

START_TEST(times_outside_of_what_a_zip_holds)
{
	struct timespec before[2] = {{.tv_sec = -1000}, {.tv_sec = -1000}};
	struct timespec after[2] = {{.tv_sec = 5000000000}, {.tv_sec = 5000000000}};
	struct backup_made made;
	struct stat st;

	put_text("root/app/late", "x");
	ck_assert_int_eq(utimensat(AT_FDCWD, "root/app/one", before, 0), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, "root/app/late", after, 0), 0);
	expect_ok(create("backups/b.zip", app_paths, &made));
	expect_ok(backup_restore("backups/b.zip", made.sha256, "root", app_paths, NULL, &error));
	ck_assert_int_eq(stat("root/app/one", &st), 0);
	ck_assert_int_eq(st.st_mtime, 0);
	ck_assert_int_eq(stat("root/app/late", &st), 0);
	ck_assert_int_eq(st.st_mtime, UINT32_MAX);
}
END_TEST

/* What no restore would take is refused before a byte of it is read, also when it comes last. */
START_TEST(too_much_is_refused_at_once)
{
	struct backup_made made;

	ck_assert_int_eq(truncate("root/app/one", ((int64_t)64 << 30) + 1), 0); /* a hole */
	ck_assert_int_eq(create("backups/b.zip", app_paths, &made), -EFBIG);
	expect_sentence(&error, "app/one");
	ck_assert_uint_eq(count_names("backups", ""), 2);
}
END_TEST

START_TEST(leftover_and_older_file_give_way)
{
	struct backup_made first, second;

	folder("backups");
	put_text("backups/.b.zip.partial", "left by a crash");
	expect_ok(create("backups/b.zip", app_paths, &first));
	put_text("root/app/one", "changed\n");
	expect_ok(create("backups/b.zip", app_paths, &second));
	ck_assert_str_ne(first.sha256, second.sha256);
	judged_by_debian("backups", "b.zip");
	ck_assert_uint_eq(count_names("backups", ""), 4);
}
END_TEST

START_TEST(cancelled_leaves_nothing)
{
	atomic_bool cancelled = true;
	struct backup_made made;

	ck_assert_int_eq(
		backup_create("backups/b.zip", "root", app_paths, &cancelled, &made, &error),
		-ECANCELED);
	expect_sentence(&error, "cancelled");
	ck_assert_uint_eq(count_names("backups", ""), 2);
}
END_TEST

/* A disk that is full: a limit on the file's size gives the same failed write. */
START_TEST(failed_write_leaves_nothing)
{
	struct rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};
	struct backup_made made;
	char *data = xmalloc(1000000);

	for (size_t i = 0; i < 1000000; i++)
		data[i] = (char)rand();
	put("root/app/big", data, 1000000);
	free(data);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(create("backups/b.zip", app_paths, &made), -EFBIG);
	expect_sentence(&error, "cannot write");
	ck_assert_uint_eq(count_names("backups", ""), 2);
}
END_TEST

/* Only the list of entries grows with their number, and that by some hundred bytes each. */
START_TEST(memory_stays_flat)
{
	struct rusage before, after;
	struct backup_made made;
	char path[64];

	for (unsigned i = 0; i < 20000; i++) {
		if (i % 1000 == 0) {
			snprintf(path, sizeof path, "root/app/%u", i / 1000);
			folder(path);
		}
		snprintf(path, sizeof path, "root/app/%u/%u", i / 1000, i);
		put(path, path, 40);
	}
	getrusage(RUSAGE_SELF, &before);
	expect_ok(create("b.zip", app_paths, &made));
	getrusage(RUSAGE_SELF, &after);
	ck_assert_uint_eq(made.entries, 20025);
	ck_assert_msg(SANITIZED || after.ru_maxrss - before.ru_maxrss < 32 * 1024,
		      "grew by %ld KiB", after.ru_maxrss - before.ru_maxrss);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("backup");
	TCase *t = tcase_create("create");

	tcase_add_checked_fixture(t, setup, kit_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, debian_agrees);
	tcase_add_test(t, unzip_gives_it_back);
	tcase_add_test(t, special_files_are_counted);
	tcase_add_test(t, shorter_than_it_said);
	tcase_add_test(t, names_stay_byte_for_byte);
	tcase_add_test(t, paths_name_what_they_mean);
	tcase_add_test(t, bad_paths_are_refused);
	tcase_add_test(t, unreadable_is_an_error);
	tcase_add_test(t, times_outside_of_what_a_zip_holds);
	tcase_add_test(t, too_much_is_refused_at_once);
	tcase_add_test(t, leftover_and_older_file_give_way);
	tcase_add_test(t, cancelled_leaves_nothing);
	tcase_add_test(t, failed_write_leaves_nothing);
	tcase_add_test(t, memory_stays_flat);
	suite_add_tcase(s, t);
	return run_suite(s);
}
