/* SPDX-License-Identifier: Apache-2.0 */
/* `started`: claimed once, on disk before it counts, and telling one process from every other. */

#include <sys/syscall.h>

#include "tests/daemon/run/fixture.h"

/* The system's, but for folders when the disk under them is to fail. */
static bool folders_fail;

int
fsync(int fd)
{
	struct stat st;

	if (folders_fail && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

static struct hook_files
files_of(const char *txid)
{
	struct hook_files f;

	ck_assert_int_eq(hook_files_init(&f, dir, txid), 0);
	return f;
}

START_TEST(claimed_once)
{
	struct hook_files f = files_of("t");
	struct hook_started s;
	int fd;

	ck_assert_int_eq(started_read(&f, &s), -ENOENT);
	ck_assert_int_eq(started_claim(&f), 0);
	ck_assert_int_eq(started_claim(&f), -EEXIST);
	ck_assert_int_eq(started_read(&f, &s), 0);
	ck_assert_int_eq(s.pid, getpid());
	fd = started_open(&s);
	ck_assert_int_ge(fd, 0);
	close(fd);
	hook_files_done(&f);
}
END_TEST

/* The runner gives up then, and runs nothing: nothing may say that it did. */
START_TEST(claim_that_is_not_on_disk)
{
	struct hook_files f = files_of("t");
	struct hook_started s;

	folders_fail = true;
	ck_assert_int_eq(started_claim(&f), -EIO);
	ck_assert_int_eq(started_read(&f, &s), -ENOENT);
	folders_fail = false;
	ck_assert_int_eq(started_claim(&f), 0);
	hook_files_done(&f);
}
END_TEST

START_TEST(names_and_folders)
{
	static const char *const bad[] = {"", ".", "..", "../t", "a/b", "-t", "t\n", "t t", NULL};
	struct hook_files f;
	char *txid;

	for (const char *const *b = bad; *b; b++)
		ck_assert_msg(hook_files_init(&f, dir, *b) == -EINVAL, "\"%s\" was taken", *b);
	ck_assert_int_eq(hook_files_init(&f, "", "t"), -EINVAL);
	ck_assert_int_eq(hook_files_init(&f, "/tmp/a\nb", "t"), -EINVAL);
	ck_assert_int_eq(hook_files_from_request(&f, "/x/y.started", &txid), -EINVAL);
	ck_assert_int_eq(hook_files_from_request(&f, "/x/.request", &txid), -EINVAL);
	ck_assert_int_eq(hook_files_from_request(&f, "/t.request", &txid), 0);
	ck_assert_str_eq(txid, "t");
	ck_assert_str_eq(f.folder, "/");
	hook_files_done(&f);
	free(txid);
	ck_assert_int_eq(hook_files_from_request(&f, "t.request", &txid), 0);
	ck_assert_str_eq(f.result, "./t.result");
	hook_files_done(&f);
	free(txid);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("request");
	TCase *t = tcase("request");

	tcase_add_test(t, claimed_once);
	tcase_add_test(t, claim_that_is_not_on_disk);
	tcase_add_test(t, names_and_folders);
	suite_add_tcase(s, t);
	return run_suite(s);
}
