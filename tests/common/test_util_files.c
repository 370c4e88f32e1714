/* SPDX-License-Identifier: Apache-2.0 */
/* The half of util.c that reads and writes files and makes folders. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/util.h"

/* --- a folder of its own for each test, which is where the test stands --- */

static char folder[64];

static void
enter_folder(void)
{
	strcpy(folder, "/tmp/dhash-test-util-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	umask(022);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
leave_folder(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void
put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

static void
holds(const char *path, const char *text)
{
	char *is;
	size_t len;

	ck_assert_int_eq(file_read(AT_FDCWD, path, 1 << 20, &is, &len), 0);
	ck_assert_str_eq(is, text);
	free(is);
}

static unsigned
mode_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static int counted;

static int
count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	counted += ftw->level > 0;
	return 0;
}

/* How many files and folders there are below this one. */
static int
entries(void)
{
	counted = 0;
	ck_assert_int_eq(nftw(".", count_one, 8, FTW_PHYS), 0);
	return counted;
}

/* --- reading --- */

START_TEST(a_file_is_read_up_to_its_limit)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 100000};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *data = xmalloc(sizes[i]), *text = NULL;
		size_t n = sizes[i], len = 4711;

		memset(data, 'x', n);
		put("f", data, n);
		ck_assert_int_eq(file_read(AT_FDCWD, "f", n, &text, &len), 0);
		ck_assert_uint_eq(len, n);
		ck_assert_mem_eq(text, data, n);
		ck_assert_int_eq(text[n], '\0');
		free(text);
		text = data;
		len = 4711;
		if (n > 0) {
			ck_assert_int_eq(file_read(AT_FDCWD, "f", n - 1, &text, &len), -EFBIG);
			ck_assert(text == data && len == 4711);
		}
		free(data);
	}
}
END_TEST

START_TEST(a_nul_counts_as_any_byte)
{
	char *text;
	size_t len;

	put("f", "a\0b", 3);
	ck_assert_int_eq(file_read(AT_FDCWD, "f", 3, &text, &len), 0);
	ck_assert_uint_eq(len, 3);
	ck_assert_mem_eq(text, "a\0b", 4);
	free(text);
}
END_TEST

/* A file of /proc says that its size is 0. */
START_TEST(a_file_without_a_size_is_read_too)
{
	char *text;
	size_t len;

	ck_assert_int_eq(file_read(AT_FDCWD, "/proc/self/status", 1 << 20, &text, &len), 0);
	ck_assert_uint_gt(len, 100);
	ck_assert_int_eq(strncmp(text, "Name:", 5), 0);
	free(text);
}
END_TEST

static void
unreadable(const char *path, int error)
{
	char *text = (char *)path;
	size_t len = 4711;
	int r = file_read(AT_FDCWD, path, 100, &text, &len);

	ck_assert_msg(r == error, "%s gives %s, not %s", path, strerror(-r), strerror(-error));
	ck_assert(text == path && len == 4711);
}

/* Check ends a test that hangs: a pipe without a writer must not hold the reader. */
START_TEST(only_regular_files_are_read)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(mkdir("dir", 0700), 0);
	ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
	ck_assert_int_eq(symlink("loop", "loop"), 0);
	unreadable("fifo", -EINVAL);
	unreadable("/dev/zero", -EINVAL);
	unreadable("dir", -EISDIR);
	unreadable("socket", -ENXIO);
	unreadable("missing", -ENOENT);
	unreadable("dangling", -ENOENT);
	unreadable("loop", -ELOOP);
	unreadable("", -ENOENT);
	close(fd);
}
END_TEST

START_TEST(a_file_is_read_beside_a_folder_that_is_open)
{
	char *text;
	size_t len;
	int fd;

	ck_assert_int_eq(mkdir("dir", 0700), 0);
	put("dir/f", "in", 2);
	put("f", "out", 3);
	fd = open("dir", O_PATH | O_DIRECTORY);
	ck_assert_int_eq(file_read(fd, "f", 9, &text, &len), 0);
	ck_assert_str_eq(text, "in");
	free(text);
	close(fd);
}
END_TEST

/* --- writing --- */

START_TEST(a_written_file_has_its_content_and_mode)
{
	static const unsigned modes[] = {0600, 0640, 0644, 0666, 0400};

	umask(077);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		ck_assert_int_eq(file_write_atomic("f", "new", 3, modes[i]), 0);
		ck_assert_uint_eq(mode_of("f"), modes[i]);
		holds("f", "new");
	}
	ck_assert_int_eq(file_write_atomic("f", "", 0, 0600), 0);
	holds("f", "");
	ck_assert_int_eq(entries(), 1);
}
END_TEST

/* Who has the old one open reads the old one to its end: it is replaced, not written over. */
START_TEST(a_written_file_replaces_the_old_one_whole)
{
	char buf[8] = "";
	int fd;

	put("f", "old", 3);
	ck_assert_int_eq(link("f", "other-name"), 0);
	fd = open("f", O_RDONLY);
	ck_assert_int_eq(file_write_atomic("f", "newer", 5, 0600), 0);
	ck_assert_int_eq(read(fd, buf, sizeof buf), 3);
	ck_assert_str_eq(buf, "old");
	close(fd);
	holds("f", "newer");
	holds("other-name", "old");
}
END_TEST

START_TEST(a_symlink_in_place_is_replaced_and_not_followed)
{
	struct stat st;

	put("victim", "mine", 4);
	ck_assert_int_eq(symlink("victim", "f"), 0);
	ck_assert_int_eq(file_write_atomic("f", "new", 3, 0600), 0);
	ck_assert_int_eq(lstat("f", &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	holds("victim", "mine");
	holds("f", "new");
}
END_TEST

START_TEST(a_failed_write_leaves_the_old_file_and_nothing_else)
{
	ck_assert_int_eq(mkdir("dir", 0700), 0);
	put("dir/inside", "x", 1);
	ck_assert_int_eq(file_write_atomic("dir", "new", 3, 0600), -EISDIR);
	ck_assert_int_eq(file_write_atomic("missing/f", "new", 3, 0600), -ENOENT);
	ck_assert_int_eq(file_write_atomic("dir/inside/f", "new", 3, 0600), -ENOTDIR);
	ck_assert_int_eq(entries(), 2);
	holds("dir/inside", "x");
}
END_TEST

START_TEST(a_full_disk_leaves_the_old_file_and_nothing_else)
{
	static char big[100000];
	struct rlimit limit = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};

	put("f", "old", 3);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = 1000;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(file_write_atomic("f", big, sizeof big, 0600), -EFBIG);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	holds("f", "old");
	ck_assert_int_eq(entries(), 1);
}
END_TEST

START_TEST(a_file_is_written_by_any_form_of_path)
{
	char *whole = xasprintf("%s/whole", folder);

	ck_assert_int_eq(mkdir("d", 0700), 0);
	ck_assert_int_eq(file_write_atomic(whole, "1", 1, 0600), 0);
	ck_assert_int_eq(file_write_atomic("d/below", "2", 1, 0600), 0);
	ck_assert_int_eq(file_write_atomic("./d/../here", "3", 1, 0600), 0);
	holds("whole", "1");
	holds("d/below", "2");
	holds("here", "3");
	free(whole);
}
END_TEST

/* --- folders --- */

START_TEST(folders_are_made_with_their_mode_and_those_above)
{
	char *whole = xasprintf("%s/w/x", folder);

	umask(0);
	ck_assert_int_eq(mkdir_p("a/b/c", 0750), 0);
	ck_assert_uint_eq(mode_of("a"), 0750);
	ck_assert_uint_eq(mode_of("a/b"), 0750);
	ck_assert_uint_eq(mode_of("a/b/c"), 0750);
	ck_assert_int_eq(mkdir_p("a/d//e/", 0700), 0);
	ck_assert_uint_eq(mode_of("a/d/e"), 0700);
	ck_assert_uint_eq(mode_of("a"), 0750);
	ck_assert_int_eq(mkdir_p(whole, 0755), 0);
	ck_assert_uint_eq(mode_of("w/x"), 0755);
	umask(027);
	ck_assert_int_eq(mkdir_p("masked", 0777), 0);
	ck_assert_uint_eq(mode_of("masked"), 0750);
	free(whole);
}
END_TEST

START_TEST(a_folder_that_is_there_stays_as_it_is)
{
	ck_assert_int_eq(mkdir("d", 0711), 0);
	ck_assert_int_eq(symlink("d", "link"), 0);
	ck_assert_int_eq(mkdir_p("d", 0700), 0);
	ck_assert_int_eq(mkdir_p("link/e", 0700), 0);
	ck_assert_int_eq(mkdir_p("link", 0700), 0);
	ck_assert_uint_eq(mode_of("d"), 0711);
	ck_assert_uint_eq(mode_of("d/e"), 0700);
	ck_assert_int_eq(mkdir_p("/", 0700), 0);
	ck_assert_int_eq(mkdir_p("//", 0700), 0);
	ck_assert_int_eq(mkdir_p(".", 0700), 0);
	/* Nothing can be made there, and it is there. */
	ck_assert_int_eq(mkdir_p("/proc/self/fd", 0700), 0);
}
END_TEST

START_TEST(what_is_in_the_way_of_a_folder_is_named)
{
	put("file", "x", 1);
	ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
	ck_assert_int_eq(mkdir_p("file", 0700), -ENOTDIR);
	ck_assert_int_eq(mkdir_p("file/below", 0700), -ENOTDIR);
	ck_assert_int_eq(mkdir_p("new/../file/below", 0700), -ENOTDIR);
	ck_assert_int_eq(mkdir_p("dangling", 0700), -ENOENT);
	ck_assert_int_eq(mkdir_p("", 0700), -ENOENT);
	ck_assert_int_eq(mkdir_p("/proc/dhash-cannot", 0700), -ENOENT);
	holds("file", "x");
}
END_TEST

static TCase *
group(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, enter_folder, leave_folder);
	return t;
}

static Suite *
files_suite(void)
{
	Suite *s = suite_create("util/files");
	TCase *t = group("reading");

	tcase_add_test(t, a_file_is_read_up_to_its_limit);
	tcase_add_test(t, a_nul_counts_as_any_byte);
	tcase_add_test(t, a_file_without_a_size_is_read_too);
	tcase_add_test(t, only_regular_files_are_read);
	tcase_add_test(t, a_file_is_read_beside_a_folder_that_is_open);
	suite_add_tcase(s, t);
	t = group("writing");
	tcase_add_test(t, a_written_file_has_its_content_and_mode);
	tcase_add_test(t, a_written_file_replaces_the_old_one_whole);
	tcase_add_test(t, a_symlink_in_place_is_replaced_and_not_followed);
	tcase_add_test(t, a_failed_write_leaves_the_old_file_and_nothing_else);
	tcase_add_test(t, a_full_disk_leaves_the_old_file_and_nothing_else);
	tcase_add_test(t, a_file_is_written_by_any_form_of_path);
	suite_add_tcase(s, t);
	t = group("folders");
	tcase_add_test(t, folders_are_made_with_their_mode_and_those_above);
	tcase_add_test(t, a_folder_that_is_there_stays_as_it_is);
	tcase_add_test(t, what_is_in_the_way_of_a_folder_is_named);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner *r = srunner_create(files_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
