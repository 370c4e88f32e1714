/* SPDX-License-Identifier: Apache-2.0 */
/* Opening below a folder, by openat2() and without it: both must come to the same. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/tree.h"

static char dir[64];
static int base;

static void
make(const char *name, bool folder)
{
	int fd;

	if (folder) {
		ck_assert_int_eq(mkdirat(base, name, 0755), 0);
		return;
	}
	fd = openat(base, name, O_WRONLY | O_CREAT, 0644);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void
set_up(void)
{
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	base = open(dir, O_PATH | O_DIRECTORY);
	make("folder", true);
	make("folder/inner", true);
	make("folder/inner/file", false);
	make("file", false);
	ck_assert_int_eq(symlinkat("folder", base, "link"), 0);
	ck_assert_int_eq(symlinkat("file", base, "filelink"), 0);
	ck_assert_int_eq(symlinkat("/etc", base, "folder/out"), 0);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
tear_down(void)
{
	close(base);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* As systemd's RestrictSUIDSGID= does it; for this process and for good. */
static void
forbid_openat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	ck_assert_int_eq(syscall(SYS_openat2, base, ".", NULL, 0), -1);
	ck_assert_int_eq(errno, ENOSYS);
}

static const struct {
	const char *path;
	int flags, result;
} cases[] = {
	{"", O_PATH | O_DIRECTORY, 0},
	{".", O_RDONLY | O_DIRECTORY, 0},
	{"file", O_RDONLY, 0},
	{"file", O_RDONLY | O_DIRECTORY, -ENOTDIR},
	{"file/", O_RDONLY, -ENOTDIR},
	{"file/x", O_RDONLY, -ENOTDIR},
	{"folder", O_RDONLY | O_DIRECTORY, 0},
	{"folder/", O_PATH, 0},
	{"folder/inner/file", O_RDONLY, 0},
	{"folder//inner///file", O_RDONLY, 0},
	{"folder/./inner", O_PATH, 0},
	{"missing", O_RDONLY, -ENOENT},
	{"missing/file", O_RDONLY, -ENOENT},
	{"folder/missing", O_PATH, -ENOENT},
	{"filelink", O_RDONLY, -ELOOP},
	{"filelink", O_PATH, -ELOOP},
	{"filelink", O_PATH | O_NOFOLLOW, 0},
	{"link", O_RDONLY | O_DIRECTORY, -ELOOP},
	{"link", O_PATH | O_DIRECTORY, -ELOOP},
	{"link/inner", O_PATH, -ELOOP},
	{"folder/out", O_PATH | O_DIRECTORY, -ELOOP},
	{"folder/out/passwd", O_RDONLY, -ELOOP},
	{"..", O_PATH, -EXDEV},
	{"folder/../..", O_PATH, -EXDEV},
	{"/etc/passwd", O_RDONLY, -EXDEV},
};

START_TEST(opens)
{
	if (_i == 1)
		forbid_openat2();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = -1, r = tree_open(base, cases[i].path, cases[i].flags, &fd);

		ck_assert_msg(r == cases[i].result, "\"%s\" with %o: %d, not %d", cases[i].path,
			      (unsigned)cases[i].flags, r, cases[i].result);
		ck_assert_int_eq(fd >= 0, r == 0);
		if (fd >= 0)
			close(fd);
	}
}
END_TEST

/* No descriptor is left behind, however it ends. */
START_TEST(leaves_none_open)
{
	int before, after, fd;

	if (_i == 1)
		forbid_openat2();
	before = dup(base);
	close(before);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (tree_open(base, cases[i].path, cases[i].flags, &fd) == 0)
			close(fd);
	after = dup(base);
	close(after);
	ck_assert_int_eq(before, after);
}
END_TEST

START_TEST(makes_and_removes)
{
	int fd;

	if (_i == 1)
		forbid_openat2();
	ck_assert_int_eq(tree_make(base, "a/b/c", 0755, NULL, NULL, &fd), 0);
	close(fd);
	ck_assert_int_eq(faccessat(base, "a/b/c", F_OK, 0), 0);
	ck_assert_int_eq(tree_make(base, "link/x", 0755, NULL, NULL, &fd), -ELOOP);
	ck_assert_int_eq(tree_remove(base, "a"), 0);
	ck_assert_int_eq(tree_remove(base, "folder"), 0);
	ck_assert_int_lt(faccessat(base, "folder", F_OK, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert_int_eq(access("/etc/passwd", F_OK), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("tree");
	TCase *t = tcase_create("openat2 and without");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, opens, 0, 2);
	tcase_add_loop_test(t, leaves_none_open, 0, 2);
	tcase_add_loop_test(t, makes_and_removes, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
