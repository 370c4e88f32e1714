/* SPDX-License-Identifier: Apache-2.0 */

/* What text may not carry to a terminal or a journal, and files that are whole or absent. */

#include "common/util.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(escapes)
{
	static const struct {
		const char *raw, *shown;
	} rows[] = {
		{"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		 "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"a\nb\r\tc", "a\\x0ab\\x0d\\x09"
			      "c"},
		{"\x1b[2J\x7f", "\\x1b[2J\\x7f"},
		{"\xc2\x9b"
		 "1m",
		 "\\xc2\\x9b"
		 "1m"}, /* CSI as one C1 character */
		{"\xff\xc3", "\\xff\\xc3"},
		{"\xc0\xaf", "\\xc0\\xaf"}, /* overlong */
		{"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
		{"\xe2\x82", "\\xe2\\x82"}, /* cut short */
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *s = str_escape(rows[i].raw);

		ck_assert_str_eq(s, rows[i].shown);
		free(s);
	}
}
END_TEST

START_TEST(names)
{
	char longest[66];

	memset(longest, 'a', 65);
	longest[65] = '\0';
	ck_assert(!name_valid(longest));
	longest[64] = '\0';
	ck_assert(name_valid(longest) && name_valid("a.b_c-1"));
	ck_assert(!name_valid("") && !name_valid("..") && !name_valid("-x") && !name_valid("a/b"));
	ck_assert(!name_valid("a\n") && !name_valid("a+b") && tag_valid("v1+b.2"));
	ck_assert(!tag_valid("../v1") && !tag_valid("v1 "));
}
END_TEST

static size_t
entries(const char *folder)
{
	DIR *d = opendir(folder);
	size_t n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

START_TEST(files)
{
	char folder[] = "/tmp/dhash-util-XXXXXX", *deep, *path, *text;
	struct stat st;
	size_t len;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	deep = xasprintf("%s/a//b/c/", folder);
	path = xasprintf("%s/a/b/c/file", folder);
	ck_assert_int_eq(mkdir_p(deep, 0700), 0);
	ck_assert_int_eq(mkdir_p(deep, 0700), 0);
	ck_assert_int_eq(file_write_atomic(path, "old", 3, 0640), 0);
	ck_assert_int_eq(file_write_atomic(path, "newer", 5, 0600), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(file_read(AT_FDCWD, path, 5, &text, &len), 0);
	ck_assert_str_eq(text, "newer");
	free(text);
	ck_assert_int_eq(file_read(AT_FDCWD, path, 4, &text, &len), -EFBIG);
	ck_assert_int_eq(file_read(AT_FDCWD, deep, 4, &text, &len), -EISDIR);
	ck_assert_int_eq(mkdir_p(path, 0700), -ENOTDIR);
	/* A rename that fails leaves neither a half nor a temporary file. */
	ck_assert_int_lt(file_write_atomic(deep, "x", 1, 0600), 0);
	ck_assert_uint_eq(entries(deep), 1);
	ck_assert_int_eq(unlink(path), 0);
	for (const char *const *p = (const char *const[]){"a/b/c", "a/b", "a", "", NULL}; *p; p++) {
		free(path);
		path = xasprintf("%s/%s", folder, *p);
		ck_assert_int_eq(rmdir(path), 0);
	}
	free(path);
	free(deep);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("util");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, escapes);
	tcase_add_test(t, names);
	tcase_add_test(t, files);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
