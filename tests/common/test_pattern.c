/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/pattern.h"
#include "common/util.h"

static const struct {
	const char *expression;
	bool whole;
	const char *text;
	bool matches;
} cases[] = {
	{"ok", false, "it is ok.", true},
	{"ok", true, "it is ok.", false},
	{"a|b", true, "b", true},
	{"a|b", true, "bc", false},
	{"5\\d\\d", true, "503", true},
	{"5\\d\\d", true, "5dd", false},
	{"\\D+", true, "abc", true},
	{"\\D+", true, "a1c", false},
	{"\\w+\\s\\w+", true, "two words", true},
	{"\\bup\\b", false, "is up now", true},
	{"\\bup\\b", false, "upper", false},
	{"1\\.2", true, "1.2", true},
	{"1\\.2", true, "1x2", false},
	{"[[:digit:]]+", true, "42", true},
	{"[]a]+", true, "]a", true},
	{"\\<x", true, "<x", true},
	{"(a|b)?(c*)?", true, "bcc", true},
	{"(([0-9]{1,3})\\.){3}[0-9]{1,3}", true, "10.0.0.1", true},
	{"a{1000}", false, "a", false},
	{"a+++", true, "aa", true},
};

START_TEST(means_what_people_expect)
{
	char why[PATTERN_WHY_MAX];
	regex_t re;

	ck_assert_int_eq(pattern_compile(cases[_i].expression, cases[_i].whole, &re, why), 0);
	ck_assert_msg((regexec(&re, cases[_i].text, 0, NULL, 0) == 0) == cases[_i].matches,
		      "%s on %s", cases[_i].expression, cases[_i].text);
	regfree(&re);
}
END_TEST

static const char *const refused[] = {
	"\\x41", "\\pL", "(a)\\1", "[\\d]", "a\\z", "\\Qa\\E", "(",
	"a)|(b", "[a",   "a{2,1}", "\\",    "a)|b", "x)",
};

/* What would be read as something else is told, with a reason. */
START_TEST(refuses_what_it_would_misread)
{
	char why[PATTERN_WHY_MAX] = "";
	regex_t re;

	for (int whole = 0; whole < 2; whole++) {
		ck_assert_int_lt(pattern_compile(refused[_i], whole, &re, why), 0);
		ck_assert_str_ne(why, "");
	}
}
END_TEST

/* regcomp() would take gigabytes, or for ever, or all of the stack. */
START_TEST(refuses_what_costs_too_much)
{
	char why[PATTERN_WHY_MAX] = "", deep[20001];
	const char *const costly[] = {
		"a{250}{250}",    "(a{1,200}b{1,200}){9}",
		"()*{0,255}",     "(a*)*",
		"(|a)+",          "(^|b?){3}",
		"[0-9]*********", "a++++++++++++++++++++++++++++++++++++++++++++",
		"a{99999999999}", deep,
	};
	regex_t re;

	memset(deep, '(', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(costly); i++)
		ck_assert_msg(pattern_compile(costly[i], PATTERN_WHOLE, &re, why) < 0 && *why,
			      "%.60s", costly[i]);
}
END_TEST

static const struct {
	const char *expression;
	size_t column;
} bad[] = {
	{"(", 1},    {"ab(c", 3}, {"(a)(b|c", 4}, {"(a|[b", 4},  {"a{2,1}", 6}, {"a[b](", 5},
	{"äö[x", 3}, {"ab\\", 3}, {"ab\\x41", 4}, {"x[\\d]", 3}, {"a)|(b", 2},
};

START_TEST(says_where_it_goes_wrong)
{
	ck_assert_msg(pattern_bad_column(bad[_i].expression) == bad[_i].column, "%s: column %zu",
		      bad[_i].expression, pattern_bad_column(bad[_i].expression));
}
END_TEST

START_TEST(any_case_is_as_asked)
{
	char why[PATTERN_WHY_MAX];
	regex_t re;

	ck_assert_int_eq(pattern_compile("rolled.back", PATTERN_ANY_CASE, &re, why), 0);
	ck_assert_int_eq(regexec(&re, "it was ROLLED-BACK", 0, NULL, 0), 0);
	regfree(&re);
	ck_assert_int_eq(pattern_compile("rolled.back", 0, &re, why), 0);
	ck_assert_int_ne(regexec(&re, "it was ROLLED-BACK", 0, NULL, 0), 0);
	regfree(&re);
	ck_assert(pattern_has_capital("rolled-Back"));
	ck_assert(!pattern_has_capital("rolled-\\Wback\\"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("pattern");
	TCase *t = tcase_create("pattern");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, means_what_people_expect, 0, ARRAY_SIZE(cases));
	tcase_add_loop_test(t, refuses_what_it_would_misread, 0, ARRAY_SIZE(refused));
	tcase_add_test(t, refuses_what_costs_too_much);
	tcase_add_loop_test(t, says_where_it_goes_wrong, 0, ARRAY_SIZE(bad));
	tcase_add_test(t, any_case_is_as_asked);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
