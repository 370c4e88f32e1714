/* SPDX-License-Identifier: Apache-2.0 */
/* Selectors: what they match, and where a bad one is wrong. */

#include <check.h>
#include <errno.h>

#include "common/util.h"
#include "daemon/check/selector.h"

static const struct label labels[] = {{"code", "503"}, {"method", "GET"}, {"path", "/a\"b\\c\nd"}};

static void
matches(const char *text, bool expected)
{
	struct selector *s = NULL;
	char *error = NULL;
	int r = selector_parse(text, &s, &error);

	ck_assert_msg(r == 0, "%s: %s", text, error ? error : "");
	ck_assert_str_eq(selector_name(s), "m");
	ck_assert_msg(selector_matches(s, labels, ARRAY_SIZE(labels)) == expected, "%s", text);
	selector_free(s);
}

START_TEST(matching)
{
	static const struct {
		const char *text;
		bool expected;
	} rows[] = {
		{"m", true},
		{" m ", true},
		{"m{}", true},
		{"m{code=\"503\"}", true},
		{"m { code = \"503\" , }", true},
		{"m{code=\"50\"}", false},
		{"m{code!=\"503\"}", false},
		{"m{code!=\"200\"}", true},
		{"m{code=~\"5..\"}", true},
		{"m{code=~\"5.\"}", false}, /* the whole value, not a part of it */
		{"m{code=~\"03\"}", false},
		{"m{code=~\"4..|5..\"}", true},
		{"m{code=~\"4|503\"}", true}, /* the alternatives are anchored together */
		{"m{code=~\"5|4\"}", false},
		{"m{code!~\"5..\"}", false},
		{"m{code!~\"4..\"}", true},
		{"m{code=~\"5..\",method=\"GET\"}", true},
		{"m{code=~\"5..\",method=\"POST\"}", false},
		{"m{absent=\"\"}", true}, /* a label that is not there is empty */
		{"m{absent!=\"\"}", false},
		{"m{absent=~\".*\"}", true},
		{"m{absent=~\".+\"}", false},
		{"m{path=\"/a\\\"b\\\\c\\nd\"}", true},
		{"m{code='503'}", true},
		{"m{code=~\"\"}", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		matches(rows[i].text, rows[i].expected);
}
END_TEST

START_TEST(errors_name_their_column)
{
	static const struct {
		const char *text, *part;
	} rows[] = {
		{"", "column 1"},
		{"9m", "column 1"},
		{"m x", "column 3"},
		{"m{", "column 3"},
		{"m{code}", "column 7"},
		{"m{code=}", "column 8"},
		{"m{code=503}", "column 8"},
		{"m{code=\"503}", "column"},
		{"m{code=\"503\"", "column"},
		{"m{code=\"503\"}x", "column 14"},
		{"m{code==\"503\"}", "column 8"},
		{"m{code=~\"(\"}", "column"},
		{"m{code=~\"[\"}", "column"},
		{"m{code=\"\\q\"}", "column"},
		{"m{=\"x\"}", "column 3"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct selector *s = NULL;
		char *error = NULL;

		ck_assert_msg(selector_parse(rows[i].text, &s, &error) == -EINVAL, "%s",
			      rows[i].text);
		ck_assert_msg(error && strstr(error, rows[i].part), "%s: \"%s\" lacks \"%s\"",
			      rows[i].text, error ? error : "", rows[i].part);
		free(error);
	}
}
END_TEST

START_TEST(cut_at_every_byte)
{
	static const char text[] = "m{code=~\"5..|4[0-9]+\",path!~\"/x\\\\.y\",method!=\"GET\",}";

	for (size_t n = 0; n < sizeof text; n++) {
		char *cut = xstrdup(text), *error = NULL;
		struct selector *s = NULL;

		cut[n < sizeof text - 1 ? n : sizeof text - 1] = '\0';
		cut = xrealloc(cut, strlen(cut) + 1);
		ck_assert((selector_parse(cut, &s, &error) == 0) == (s != NULL));
		ck_assert((error == NULL) == (s != NULL));
		selector_free(s);
		free(error);
		free(cut);
	}
}
END_TEST

/* The value of a label in Requests= that an expression is tried on; 1, 0, or -1 where it is
 * refused.
 */
static int
tried(const char *expression, const char *value)
{
	char *text = xasprintf("m{code=~\"%s\"}", expression), *error = NULL;
	char name[] = "code", *copy = xstrdup(value);
	struct label label = {.name = name, .value = copy};
	struct selector *s = NULL;
	int r = -1;

	if (selector_parse(text, &s, &error) == 0)
		r = selector_matches(s, &label, 1);
	else
		ck_assert_ptr_nonnull(error);
	selector_free(s);
	free(error);
	free(copy);
	free(text);
	return r;
}

START_TEST(expressions_mean_what_prometheus_says)
{
	static const struct {
		const char *expression, *value;
		int expect;
	} rows[] = {
		{"5\\\\d\\\\d", "503", 1},
		{"5\\\\d\\\\d", "5dd", 0},
		{"\\\\D+", "abc", 1},
		{"\\\\D+", "a1c", 0},
		{"\\\\w+\\\\.x", "ab.x", 1},
		{"\\\\w+\\\\.x", "ab_x", 0},
		{"[0-9]+", "12", 1},
		{"[[:digit:]]x", "1x", 1},
		{"[]a]+", "]a", 1},
		{"\\\\<b\\\\>", "<b>", 1},
		{"[\\\\d]", "5", -1},
		{"\\\\pL", "a", -1},
		{"(a)\\\\1", "aa", -1},
		{"\\\\x41", "A", -1},
		{"(?i)a", "A", -1},
		{"a\\\\", "a", -1},
		{"5..", "15000", 0},
		{"a|b", "b", 1},
		{"", "", 1},
		{"[", "[", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_msg(tried(rows[i].expression, rows[i].value) == rows[i].expect,
			      "%s on %s: %d expected", rows[i].expression, rows[i].value,
			      rows[i].expect);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("selector");
	TCase *t = tcase_create("text");
	SRunner *r;
	int failed;

	tcase_add_test(t, matching);
	tcase_add_test(t, expressions_mean_what_prometheus_says);
	tcase_add_test(t, errors_name_their_column);
	tcase_add_test(t, cut_at_every_byte);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
