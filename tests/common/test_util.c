/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/util.h"

#define E_ACUTE "\xc3\xa9"
#define EURO "\xe2\x82\xac"
#define ROCKET "\xf0\x9f\x9a\x80"

static const struct {
	const char *text;
	size_t room;
	const char *kept;
} copies[] = {
	{"abc", 4, "abc"},
	{"abc", 3, "ab"},
	{"abc", 1, ""},
	{"", 1, ""},
	{"a" E_ACUTE, 4, "a" E_ACUTE},
	{"a" E_ACUTE, 3, "a"},
	{"a" EURO, 5, "a" EURO},
	{"a" EURO, 4, "a"},
	{"a" EURO, 3, "a"},
	{"a" EURO "b", 5, "a" EURO},
	{"a" ROCKET, 6, "a" ROCKET},
	{"a" ROCKET, 5, "a"},
	{"a" ROCKET, 4, "a"},
	{"a" ROCKET, 3, "a"},
	{"a" ROCKET ROCKET, 9, "a" ROCKET},
	{ROCKET, 2, ""},
	{EURO, 1, ""},
};

START_TEST(a_copy_is_cut_between_characters)
{
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
		char buf[16];

		memset(buf, '#', sizeof buf);
		ck_assert_int_eq(str_copy(buf, copies[i].room, copies[i].text),
				 strlen(copies[i].text) < copies[i].room);
		ck_assert_msg(streq(buf, copies[i].kept), "\"%s\" in %zu bytes is \"%s\"",
			      copies[i].text, copies[i].room, buf);
		ck_assert_int_eq(buf[copies[i].room], '#');
	}
}
END_TEST

START_TEST(a_copy_of_what_is_no_text_ends_as_well)
{
	char buf[8] = "#######";

	ck_assert(!str_copy(buf, 6, "\x80\x80\x80\x80\x80\x80\x80\x80\x80"));
	ck_assert_uint_lt(strlen(buf), 6);
	strcpy(buf, "abcdef");
	ck_assert(str_copy(buf, sizeof buf, buf + 2));
	ck_assert_str_eq(buf, "cdef");
}
END_TEST

static const struct {
	const char *raw, *escaped;
} escapes[] = {
	{"", ""},
	{"plain text, \"quoted\" \\ and \\x0a", "plain text, \"quoted\" \\ and \\x0a"},
	{E_ACUTE EURO ROCKET, E_ACUTE EURO ROCKET},
	{"a\nb\r\tc", "a\\x0ab\\x0d\\x09c"},
	{"\x01\x1b[31m\x7f", "\\x01\\x1b[31m\\x7f"},
	/* C1 in UTF-8, and the first that is none */
	{"\xc2\x80\xc2\x85\xc2\x9b\xc2\x9f\xc2\xa0",
	 "\\xc2\\x80\\xc2\\x85\\xc2\\x9b\\xc2\\x9f\xc2\xa0"},
	/* C1 as a bare byte, a stray continuation, never valid bytes */
	{"\x9bK", "\\x9bK"},
	{"\xbf\xfe\xff", "\\xbf\\xfe\\xff"},
	/* overlong: '/', NUL, 3 and 4 bytes, and the first valid ones beside */
	{"\xc0\xaf\xc1\xbf", "\\xc0\\xaf\\xc1\\xbf"},
	{"\xc0\x80", "\\xc0\\x80"},
	{"\xe0\x9f\xbf\xe0\xa0\x80", "\\xe0\\x9f\\xbf\xe0\xa0\x80"},
	{"\xf0\x8f\xbf\xbf\xf0\x90\x80\x80", "\\xf0\\x8f\\xbf\\xbf\xf0\x90\x80\x80"},
	/* surrogates, and their neighbours */
	{"\xed\x9f\xbf\xed\xa0\x80\xed\xbf\xbf\xee\x80\x80",
	 "\xed\x9f\xbf\\xed\\xa0\\x80\\xed\\xbf\\xbf\xee\x80\x80"},
	/* the last code point, and what is beyond */
	{"\xf4\x8f\xbf\xbf\xf4\x90\x80\x80\xf5\x80\x80\x80",
	 "\xf4\x8f\xbf\xbf\\xf4\\x90\\x80\\x80\\xf5\\x80\\x80\\x80"},
	/* cut off, at the end and before another */
	{"\xc3", "\\xc3"},
	{"\xe2\x82", "\\xe2\\x82"},
	{"\xf0\x9f\x9a", "\\xf0\\x9f\\x9a"},
	{"\xe2\x82" E_ACUTE "\xf0\x9f\x9a!", "\\xe2\\x82" E_ACUTE "\\xf0\\x9f\\x9a!"},
	/* separators and marks of direction, and their neighbours */
	{"\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaf",
	 "\xe2\x80\xa7\\xe2\\x80\\xa8\\xe2\\x80\\xa9\xe2\x80\xaf"},
	{"\xe2\x80\xaa\xe2\x80\xae", "\\xe2\\x80\\xaa\\xe2\\x80\\xae"},
	{"\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xaa",
	 "\xe2\x81\xa5\\xe2\\x81\\xa6\\xe2\\x81\\xa9\xe2\x81\xaa"},
};

START_TEST(what_is_no_harmless_text_is_escaped)
{
	for (size_t i = 0; i < ARRAY_SIZE(escapes); i++) {
		char *once = str_escape(escapes[i].raw), *twice = str_escape(once);

		ck_assert_str_eq(once, escapes[i].escaped);
		ck_assert_str_eq(twice, once);
		free(once);
		free(twice);
	}
}
END_TEST

START_TEST(vectors_of_strings)
{
	char **v = xcalloc(3, sizeof *v);

	v[0] = xstrdup("a");
	v[1] = xasprintf("%s%d", "b", 1);
	ck_assert_uint_eq(strv_len(v), 2);
	ck_assert_uint_eq(strv_len(v + 2), 0);
	ck_assert_uint_eq(strv_len(NULL), 0);
	strv_free(v);
	strv_free(xcalloc(1, sizeof *v));
	strv_free(NULL);
}
END_TEST

/* 130 times 'a', of which a row takes the last ones. */
#define TEN "aaaaaaaaaa"
static const char many[] = TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN;
static const char *
last(size_t n)
{
	return many + sizeof many - 1 - n;
}

START_TEST(names_and_tags_are_fit_for_paths)
{
	static const char *const good[] = {"a", "A-Z.a_z-09", "_x", "0", "a..b", "v1.0.0"};
	static const char *const bad[] = {"",    ".",    "..",   ".x",    "-x",  "a/b",
					  "a b", "a\nb", "a\n",  E_ACUTE, "a%b", "a:b",
					  "a@b", "a\\b", "../x", "a;b",   "a*",  "a\x7f"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(name_valid(good[i]) && tag_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(!name_valid(bad[i]) && !tag_valid(bad[i]), "%s", bad[i]);
	ck_assert(name_valid(last(64)) && !name_valid(last(65)));
	ck_assert(tag_valid(last(128)) && !tag_valid(last(129)));
	ck_assert(tag_valid("v1.0.0+build.7") && !name_valid("v1.0.0+build.7"));
	ck_assert(tag_valid("1+2+3") && tag_valid("1++") && !tag_valid("1+ 2"));
}
END_TEST

START_TEST(the_nearest_name_is_offered_where_one_is_near)
{
	static const char *const names[] = {"HealthURL", "MetricsURL", "Threshold", "Watch",
					    "Until",     "For",        "production"};
	static const struct {
		const char *word, *near;
	} words[] = {
		{"Treshold", "Threshold"},
		{"Thresholds", "Threshold"},
		{"Tresholds", "Threshold"},
		{"Theshlod", "Threshold"},
		{"Untli", "Until"},
		{"Threshold", "Threshold"},
		{"healthurl", "HealthURL"},
		{"HEALTH_URL", "HealthURL"},
		{"prodcution", "production"},
		{"PRODUCTION", "production"},
		{"prdctin", "production"}, /* 3 of 10 */
		{"prdctn", NULL},          /* 4 */
		{"Wtch", "Watch"},
		{"Wxyh", NULL},
		{"Fo", "For"},
		{"Fu", NULL},
		{"Foob", NULL}, /* half of it */
		{"x", NULL},
		{"", NULL},
		{"something else altogether", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *near = nearest_name(words[i].word, names, ARRAY_SIZE(names));

		ck_assert_msg(near == words[i].near ||
				      (near && words[i].near && streq(near, words[i].near)),
			      "near \"%s\" is %s", words[i].word, near ? near : "none");
	}
	ck_assert_ptr_null(nearest_name("x", NULL, 0));
}
END_TEST

START_TEST(long_words_are_compared_up_to_the_longest_name)
{
	const char *const names[] = {last(64), last(65)};

	ck_assert_ptr_eq(nearest_name(last(62), names, 2), names[0]);
	ck_assert_ptr_null(nearest_name(last(65), names + 1, 1));
	ck_assert_ptr_null(nearest_name(many, names, 2));
}
END_TEST

/* --- memory --- */

/* AddressSanitizer would rather abort than say no; so it says a warning first. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

START_TEST(no_memory_ends_the_process_with_its_status)
{
	int pipefd[2], status;
	static char text[1 << 14];
	volatile size_t all = SIZE_MAX / 2;
	pid_t pid;

	ck_assert_int_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipefd[1], STDERR_FILENO);
		xcalloc(all, 16);
		_exit(0);
	}
	close(pipefd[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_ge(read(pipefd[0], text, sizeof text - 1), 0);
	close(pipefd[0]);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), EX_OSERR);
	ck_assert_ptr_nonnull(strstr(text, "out of memory: ending; what counts is on disk\n"));
}
END_TEST

static Suite *
util_suite(void)
{
	Suite *s = suite_create("util");
	TCase *t = tcase_create("strings");

	tcase_add_test(t, a_copy_is_cut_between_characters);
	tcase_add_test(t, a_copy_of_what_is_no_text_ends_as_well);
	tcase_add_test(t, what_is_no_harmless_text_is_escaped);
	tcase_add_test(t, vectors_of_strings);
	tcase_add_test(t, names_and_tags_are_fit_for_paths);
	tcase_add_test(t, the_nearest_name_is_offered_where_one_is_near);
	tcase_add_test(t, long_words_are_compared_up_to_the_longest_name);
	tcase_add_test(t, no_memory_ends_the_process_with_its_status);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner *r = srunner_create(util_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
