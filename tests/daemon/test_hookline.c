/* SPDX-License-Identifier: Apache-2.0 */
/* Hook lines: what becomes a word, and what a specifier may and may not turn into. */

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "common/util.h"
#include "daemon/conf.h"

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct specifiers values = {
	.environment = "production",
	.tag = "v1.2.3",
	.backup = "/backups/a b.zip",
	.deployment = "deploy-1",
	.service = "shop",
};

/* Newly owned words, with the specifiers in. */
static char **
words_of(const char *line, const struct specifiers *v)
{
	char **split = NULL, **words, *error = NULL;

	ck_assert_msg(hook_line_split(line, &split, &error) == 0, "%s: %s", line, error);
	words = specifiers_expandv(split, v);
	strv_free(split);
	return words;
}

static void
assert_words(const char *line, const char *const *want)
{
	char **v = words_of(line, &values);
	size_t n = strv_len((char *const *)want);

	ck_assert_msg(strv_len(v) == n, "<%s> is %zu words", line, strv_len(v));
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(streq(v[i], want[i]), "<%s>, word %zu: <%s> is not <%s>", line, i,
			      v[i], want[i]);
	strv_free(v);
}

START_TEST(words)
{
	assert_words("a", WORDS("a"));
	assert_words("  a\t b  ", WORDS("a", "b"));
	assert_words("a 'b c' \"d e\"", WORDS("a", "b c", "d e"));
	assert_words("a b'c'\"d\"e", WORDS("a", "bcde"));
	assert_words("a '' \"\" b", WORDS("a", "", "", "b"));
	assert_words("a 'it''s' \"'\" '\"'", WORDS("a", "its", "'", "\""));
	assert_words("a\\ b c\\\\d \\'e \\\"f", WORDS("a b", "c\\d", "'e", "\"f"));
	assert_words("a \"b\\\"c\" 'd\\'e'", WORDS("a", "b\"c", "d'e"));
	assert_words("a b\\", WORDS("a", "b\\"));
	assert_words("a \xc3\xa4 \xff", WORDS("a", "\xc3\xa4", "\xff"));
}
END_TEST

/* There is no shell: what it would act on is text. */
START_TEST(no_shell)
{
	assert_words("a $HOME ${X} `id` $(id) ; & | > < * ? [a] ~ # !",
		     WORDS("a", "$HOME", "${X}", "`id`", "$(id)", ";", "&", "|", ">", "<", "*", "?",
			   "[a]", "~", "#", "!"));
}
END_TEST

START_TEST(specifiers)
{
	assert_words("scripts/deploy_dhash.sh --env %e --tag %t",
		     WORDS("scripts/deploy_dhash.sh", "--env", "production", "--tag", "v1.2.3"));
	assert_words("r --backup %b --env %e --force",
		     WORDS("r", "--backup", "/backups/a b.zip", "--env", "production", "--force"));
	assert_words("a %i/%s%%%t '%e' \"%t\"",
		     WORDS("a", "deploy-1/shop%v1.2.3", "production", "v1.2.3"));
	assert_words("%s", WORDS("shop"));
}
END_TEST

/* A percent sign is written %%; a backslash before one makes it plain, too, and never swallows what
 * follows. */
START_TEST(percent_signs)
{
	assert_words("a %% 100%% %%t", WORDS("a", "%", "100%", "%t"));
	assert_words("a 100\\% \\%t \\%z \\%%t", WORDS("a", "100%", "%t", "%z", "%v1.2.3"));
	assert_words("a '\\%t' \"\\%t\"", WORDS("a", "%t", "%t"));
}
END_TEST

/* What is put in is data: not split, not looked through again, and still a word when empty. */
START_TEST(values_are_data)
{
	static const struct specifiers odd = {
		.environment = "a b", .tag = "%b", .backup = "", .service = "'\"\\\n;"};
	char **v = words_of("x %e %t %b %i --%s", &odd);

	ck_assert_uint_eq(strv_len(v), 6);
	ck_assert_str_eq(v[1], "a b");
	ck_assert_str_eq(v[2], "%b");
	ck_assert_str_eq(v[3], "");
	ck_assert_str_eq(v[4], ""); /* none given */
	ck_assert_str_eq(v[5], "--'\"\\\n;");
	strv_free(v);
}
END_TEST

START_TEST(refused)
{
	static const struct {
		const char *line, *why;
	} bad[] = {
		{"", "no command"},
		{" \t ", "no command"},
		{"'' a", "the command is empty"},
		{"\"\"", "the command is empty"},
		{"a 'b", "a quote (') is not closed"},
		{"a \"b", "a quote (\") is not closed"},
		{"a \"b\\\"", "a quote (\") is not closed"},
		{"a %x", "unknown specifier %x; known are %e %t %b %i %s and %%"},
		{"a '%x'", "unknown specifier %x"},
		{"a % b", "unknown specifier % "},
		{"a %", "a lone % at the end; write %%"},
		{"a %%%", "a lone % at the end"},
		{"a %T", "unknown specifier %T"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char **v = NULL, *error = NULL;

		ck_assert_msg(hook_line_split(bad[i].line, &v, &error) == -EINVAL, "<%s> was taken",
			      bad[i].line);
		ck_assert_msg(strstr(error, bad[i].why) != NULL, "<%s>: %s", bad[i].line, error);
		ck_assert_ptr_null(v);
		free(error);
	}
}
END_TEST

static bool
uses(const char *line, char specifier)
{
	char **v = NULL, *error = NULL;
	bool yes;

	ck_assert_int_eq(hook_line_split(line, &v, &error), 0);
	yes = specifiers_use(v, specifier);
	strv_free(v);
	return yes;
}

START_TEST(which_are_used)
{
	ck_assert(uses("r --backup %b", 'b'));
	ck_assert(uses("r x%%%b", 'b'));
	ck_assert(!uses("r %%b", 'b'));
	ck_assert(!uses("r \\%b", 'b'));
	ck_assert(!uses("r %t b", 'b'));
	ck_assert(!specifiers_use(NULL, 'b'));
}
END_TEST

START_TEST(one_string)
{
	char *path = specifiers_expand("/srv/%s-%t.tar.gz", &values);

	ck_assert_str_eq(path, "/srv/shop-v1.2.3.tar.gz");
	free(path);
	path = specifiers_expand("", &values);
	ck_assert_str_eq(path, "");
	free(path);
	path = specifiers_expand("50%", &values); /* never read past its end */
	ck_assert_str_eq(path, "50%");
	free(path);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {words,           no_shell, specifiers,     percent_signs,
				      values_are_data, refused,  which_are_used, one_string};
	Suite *suite = suite_create("hookline");
	TCase *tc = tcase_create("hookline");
	SRunner *runner;
	int failed;

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
