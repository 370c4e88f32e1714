/* SPDX-License-Identifier: Apache-2.0 */
/* `started`: claimed once, and on disk before it counts.  `result`: told whatever the disk is like.
 */

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

/* And a disk without room for one more file: what writes atomically asks for one here. */
static bool disk_full;

int
mkostemp(char *name, int flags)
{
	static unsigned n;

	if (disk_full) {
		errno = ENOSPC;
		return -1;
	}
	snprintf(name + strlen(name) - 6, 7, "%06u", n++);
	return open(name, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
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
	pid_t pid;

	ck_assert_int_eq(started_holder(&f, &pid), -ENOENT);
	ck_assert_int_eq(started_open(&f), -ENOENT);
	ck_assert_int_ge(started_claim(&f), 0);
	ck_assert_int_eq(started_claim(&f), -EEXIST);
	hook_files_done(&f);
}
END_TEST

/* The runner gives up then, and runs nothing: nothing may say that it did. */
START_TEST(claim_that_is_not_on_disk)
{
	struct hook_files f = files_of("t");
	pid_t pid;

	folders_fail = true;
	ck_assert_int_eq(started_claim(&f), -EIO);
	ck_assert_int_eq(started_holder(&f, &pid), -ENOENT);
	folders_fail = false;
	ck_assert_int_ge(started_claim(&f), 0);
	hook_files_done(&f);
}
END_TEST

static const struct hook_ending failed = {
	.r = {.outcome = HOOK_FAILED, .exit_status = 3, .text = "exit status 3 after 1s"},
	.output_bytes = 7,
};

static void
assert_result(const struct hook_files *f)
{
	struct hook_result r;

	ck_assert_int_eq(result_read(f, &r), 0);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, 3);
	ck_assert_str_eq(r.text, "exit status 3 after 1s");
}

/* The command has filled the disk: how it ended is told all the same. */
START_TEST(result_on_a_full_disk)
{
	struct hook_files f = files_of("t");
	struct hook_result r;
	char *text;
	int room = result_reserve(&f);

	ck_assert_int_ge(room, 0);
	ck_assert_int_eq(result_read(&f, &r), -ENOENT); /* room is no result */
	disk_full = true;
	ck_assert_int_eq(result_write(&f, room, &failed), 0);
	assert_result(&f);
	text = read_text("t.result");
	ck_assert_int_eq(text[strlen(text) - 1], '}'); /* and nothing behind it */
	free(text);
	ck_assert(!exists("t.result.reserved"));
	hook_files_done(&f);
	/* Where there was no room from the beginning it is an error, as it was. */
	f = files_of("u");
	ck_assert_int_eq(result_write(&f, -ENOSPC, &failed), -ENOSPC);
	disk_full = false;
	ck_assert_int_eq(result_write(&f, -ENOSPC, &failed), 0);
	assert_result(&f);
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
	tcase_add_test(t, result_on_a_full_disk);
	tcase_add_test(t, names_and_folders);
	suite_add_tcase(s, t);
	return run_suite(s);
}
