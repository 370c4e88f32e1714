/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a rollback hook may be given, and that it sees the very one that was looked at. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/admit.h"

static char dir[64];
static char *folder, *stage;

static char *
at(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static void
write_file(const char *name, const char *text)
{
	char *path = at(name);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	free(path);
}

static void
set_up(void)
{
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	folder = at("backups");
	stage = at("stage");
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	ck_assert_int_eq(mkdir(stage, 0755), 0);
	write_file("backups/a.zip", "hello");
	write_file("outside.zip", "secret");
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
tear_down(void)
{
	free(folder);
	free(stage);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char hello[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
static const char other[] = "0cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/* Gives the descriptor, or an error that comes with a reason. */
static int
open_it(const char *name, const char *sha256, uid_t owner)
{
	char *file = at(name), *why = NULL;
	int r = admit_open(folder, file, sha256, owner, &why);

	ck_assert_int_eq(r < 0, why != NULL);
	free(why);
	free(file);
	return r;
}

START_TEST(admitted)
{
	int fd = open_it("backups/a.zip", "", 12345);

	ck_assert_int_ge(fd, 0);
	close(fd);
	fd = open_it("backups/a.zip", hello, 12345);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(refused)
{
	char *a = at("backups/a.zip"), *link = at("backups/link.zip"), *fifo = at("backups/f.zip");

	ck_assert_int_eq(symlink(a, link), 0);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_eq(open_it("backups/a.zip", other, 0), -EBADMSG);
	ck_assert_int_eq(open_it("outside.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/../outside.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/sub/a.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/.a.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/-a.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/a b.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/a.tar", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/.zip", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/", "", 0), -EPERM);
	ck_assert_int_eq(open_it("backups/missing.zip", "", 0), -ENOENT);
	ck_assert_int_eq(open_it("backups/link.zip", "", 0), -ELOOP);
	ck_assert_int_eq(open_it("backups/f.zip", "", 0), -EPERM);
	free(fifo);
	free(link);
	free(a);
}
END_TEST

/* A second name: of whoever makes the backups it may be, of others not. */
START_TEST(second_names)
{
	char *outside = at("outside.zip"), *hard = at("backups/h.zip");
	int fd;

	ck_assert_int_eq(link(outside, hard), 0);
	ck_assert_int_eq(open_it("backups/h.zip", "", geteuid() + 1), -EPERM);
	fd = open_it("backups/h.zip", "", geteuid());
	ck_assert_int_ge(fd, 0);
	close(fd);
	free(hard);
	free(outside);
}
END_TEST

START_TEST(folder_that_is_a_link)
{
	char *away = at("away"), *file = at("backups/outside.zip"), *why = NULL;

	ck_assert_int_eq(rename(folder, away), 0);
	ck_assert_int_eq(symlink(dir, folder), 0);
	ck_assert_int_lt(admit_open(folder, file, "", 0, &why), 0);
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(unlink(folder), 0);
	free(why);
	free(file);
	free(away);
}
END_TEST

static void
assert_staged(const char *path)
{
	char *text, *sidecar = xasprintf("%s.sha256", path), *line;
	size_t len;

	ck_assert_int_eq(file_read(AT_FDCWD, path, 100, &text, &len), 0);
	ck_assert_str_eq(text, "hello");
	ck_assert_int_eq(file_read(AT_FDCWD, sidecar, 200, &line, &len), 0);
	ck_assert_ptr_nonnull(strstr(line, hello));
	free(line);
	free(sidecar);
	free(text);
}

START_TEST(staged)
{
	char *a = at("backups/a.zip"), *why = NULL, *path = NULL;
	int fd = admit_open(folder, a, hello, geteuid(), &why);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(admit_stage(fd, a, hello, stage, &path, &why), 0);
	assert_staged(path);
	/* Whatever stands under the old name now. */
	ck_assert_int_eq(unlink(a), 0);
	write_file("backups/a.zip", "secret");
	assert_staged(path);
	free(path);
	free(a);
	close(fd);
}
END_TEST

/* Another file system: a copy, and what was changed in between is found out. */
START_TEST(staged_elsewhere)
{
	char *a = at("backups/a.zip"), *why = NULL, *path = NULL,
	     away[] = "/dev/shm/dhash-test-XXXXXX";
	int fd = admit_open(folder, a, hello, geteuid(), &why);

	ck_assert_int_ge(fd, 0);
	ck_assert_ptr_nonnull(mkdtemp(away));
	ck_assert_int_eq(admit_stage(fd, a, hello, away, &path, &why), 0);
	assert_staged(path);
	nftw(away, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(path);
	ck_assert_int_eq(mkdir(away, 0700), 0);
	write_file("backups/a.zip", "hullo");
	ck_assert_int_eq(admit_stage(fd, a, hello, away, &path, &why), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(why, "is not the file that was verified"));
	nftw(away, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(why);
	free(a);
	close(fd);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("admit");
	TCase *t = tcase_create("admit");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, admitted);
	tcase_add_test(t, refused);
	tcase_add_test(t, second_names);
	tcase_add_test(t, folder_that_is_a_link);
	tcase_add_test(t, staged);
	tcase_add_test(t, staged_elsewhere);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
