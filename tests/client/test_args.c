/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: what is taken, what is refused, and what the documents say of it. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>

#include "client/cli.h"
#include "client/client.h"
#include "common/util.h"

static struct args args;
static char *error;

/* Parses words separated by '|'. */
static int
parse(const char *words)
{
	static char line[1024];
	char *argv[32];
	int argc = 1, r;

	free(error);
	error = NULL;
	argv[0] = line;
	snprintf(line, sizeof line, "%s", words);
	for (char *p = strtok(line, "|"); p; p = strtok(NULL, "|"))
		argv[argc++] = p;
	r = args_parse(argc, argv, &args, &error);
	ck_assert_int_eq(r == 0, error == NULL);
	return r;
}

START_TEST(taken)
{
	ck_assert_int_eq(parse("deploy|--env|production|--tag=v1.0.0+b1|--reason|it is|--no-wait"),
			 0);
	ck_assert_str_eq(args.command->name, "deploy");
	ck_assert_str_eq(args.value[OPT_ENV], "production");
	ck_assert_str_eq(args.value[OPT_TAG], "v1.0.0+b1");
	ck_assert_str_eq(args.value[OPT_REASON], "it is");
	ck_assert(given(&args, OPT_NO_WAIT) && !given(&args, OPT_FORCE));
	ck_assert_int_eq(parse("--socket|/s|--json|status|a"), 0);
	ck_assert_str_eq(args.value[OPT_SOCKET], "/s");
	ck_assert_str_eq(args.word[0], "a");
	ck_assert_int_eq(parse("--env|e|status|--|a"), 0);
	ck_assert_uint_eq(args.n_words, 1);
	ck_assert_int_eq(parse("status|--env|a|--env|b"), 0);
	ck_assert_str_eq(args.value[OPT_ENV], "b");
	ck_assert_int_eq(parse("deploy|-h"), 0);
	ck_assert(given(&args, OPT_HELP));
	ck_assert_int_eq(parse("rollback|--env|e|--reason|--yes"), 0); /* the reason is "--yes" */
	ck_assert(!given(&args, OPT_YES));
	ck_assert_int_eq(parse("--version"), 0);
	ck_assert_str_eq(args.command->name, "version");
	ck_assert_int_eq(parse(""), 0);
	ck_assert_ptr_null(args.command);
}
END_TEST

static const struct {
	const char *words, *says;
} refused[] = {
	{"depoly", "unknown command depoly; did you mean deploy?"},
	{"frobnicate", "unknown command frobnicate"},
	{"status|--ev|x", "did you mean --env?"},
	{"status|--force", "unknown option --force"},
	{"--force|status", "status takes no --force"},
	{"status|-x", "unknown option -x"},
	{"status|--env", "--env needs ENVIRONMENT"},
	{"status|--json=yes", "--json takes no value"},
	{"status|a|b", "unexpected argument \"b\""},
	{"history|a", "unexpected argument \"a\""},
	{"deploy|--env|e", "deploy needs --tag TAG"},
	{"rollback", "rollback needs --env ENVIRONMENT"},
	{"status|--env|../x", "is no name"},
	{"deploy|--env|e|--tag|a b", "is no release tag"},
	{"deploy|--env|e|--tag|v|--timeout|soon", "is no time span"},
	{"deploy|--env|e|--tag|v|--wait|--no-wait", "exclude each other"},
	{"history|--limit|-1", "is no number"},
	{"history|--limit|99999999999", "is no number"},
	{"history|--limit|00", "is no number from 1 on"},
	{"status|--socket=", "--socket is empty: it needs PATH"},
	{"status|--version", "unknown option --version"},
};

START_TEST(refusals)
{
	ck_assert_int_eq(parse(refused[_i].words), -EINVAL);
	ck_assert_msg(strstr(error, refused[_i].says), "%s: %s", refused[_i].words, error);
}
END_TEST

/* --- the documents --- */

static char *
document(const char *path)
{
	char *text;
	size_t len;
	int r = file_read(AT_FDCWD, path, 1 << 20, &text, &len);

	ck_assert_msg(r == 0, "cannot read %s: %s (run from the top of the tree)", path,
		      strerror(-r));
	return text;
}

/* The part of a page from one line to another. */
static char *
section(const char *text, const char *from, const char *to)
{
	const char *begin = strstr(text, from), *end = begin ? strstr(begin, to) : NULL;

	ck_assert_msg(begin && end, "the page has no %s … %s", from, to);
	return xasprintf("%.*s", (int)(end - begin), begin);
}

/* "…\n.Cm deploy" up to the next command of the synopsis. */
static bool
synopsis_has(const char *synopsis, const struct command *c, enum opt o)
{
	char *begin = xasprintf("\n.Cm %s\n", c->name), *flag, *rest, *end;
	const char *at = strstr(synopsis, begin);
	bool found = false;

	ck_assert_msg(at, "the synopsis has no command %s", c->name);
	rest = xstrdup(at + 1);
	end = strstr(rest, "\n.Nm");
	if (end)
		end[1] = '\0';
	for (flag = rest; !found && (flag = strstr(flag, "Fl -")); flag += 4)
		found = strcspn(flag + 4, " \n") == strlen(options[o].name) &&
			strncmp(flag + 4, options[o].name, strlen(options[o].name)) == 0;
	free(rest);
	free(begin);
	return found;
}

START_TEST(manual_has_the_commands)
{
	char *page = document("man/dhash.1");
	char *synopsis = section(page, ".Sh SYNOPSIS", ".Sh DESCRIPTION");
	char *list = section(page, "The commands are", "The options\n");
	size_t n = 0;

	for (size_t i = 0; i < commands_len; i++) {
		char *item = xasprintf("\n.It Cm %s", commands[i].name);
		const char *at = strstr(list, item);

		ck_assert_msg(at && strchr(" \n", at[strlen(item)]), "dhash(1) lists no command %s",
			      commands[i].name);
		for (int o = 0; o < _OPT_MAX; o++)
			ck_assert_msg(opt_global(o) || synopsis_has(synopsis, &commands[i], o) ==
							       !!(commands[i].options & (1u << o)),
				      "dhash(1): --%s of %s differs from the program",
				      options[o].name, commands[i].name);
		free(item);
	}
	for (const char *p = list; (p = strstr(p, "\n.It ")); p++)
		n++;
	ck_assert_uint_eq(n, commands_len);
	free(list);
	free(synopsis);
	free(page);
}
END_TEST

START_TEST(manual_has_the_options)
{
	char *page = document("man/dhash.1");
	char *list = section(page, "The options\n", ".Ss Confirmation");
	size_t n = 0;

	for (int i = 0; i < _OPT_MAX; i++) {
		char *item =
			xasprintf("\n.It Fl -%s%s%s", options[i].name, options[i].arg ? " Ar " : "",
				  options[i].arg ? options[i].arg : "");
		const char *at = strstr(list, item);

		ck_assert_msg(at && strchr(" \n", at[strlen(item)]), "dhash(1) has no \"%s\"",
			      item + 1);
		free(item);
	}
	for (const char *p = list; (p = strstr(p, "\n.It ")); p++)
		n++;
	ck_assert_uint_eq(n, _OPT_MAX);
	free(list);
	free(page);
}
END_TEST

START_TEST(manual_has_the_exit_codes)
{
	static const int codes[] = {EXIT_OK,      EXIT_FAILED,      EXIT_USAGE,
				    EXIT_NOTHING, EXIT_UNKNOWN,     EXIT_ROLLED_BACK,
				    EXIT_RUNNING, EXIT_UNREACHABLE, EXIT_DENIED};
	char *page = document("man/dhash.1");
	char *list = section(page, ".Sh EXIT STATUS", ".Sh EXAMPLES");
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		char *item = xasprintf("\n.It %d\n", codes[i]);

		ck_assert_msg(strstr(list, item) != NULL, "dhash(1) has no exit status %d",
			      codes[i]);
		free(item);
	}
	for (const char *p = list; (p = strstr(p, "\n.It ")); p++)
		n++;
	ck_assert_uint_eq(n, ARRAY_SIZE(codes));
	free(list);
	free(page);
}
END_TEST

/* Looks for a word that stands by itself. */
static bool
has_word(const char *text, const char *word)
{
	size_t len = strlen(word);
	static const char part[] = "abcdefghijklmnopqrstuvwxyz-";

	for (const char *p = text; (p = strstr(p, word)); p++)
		if ((p == text || !strchr(part, p[-1])) && (!p[len] || !strchr(part, p[len])))
			return true;
	return false;
}

START_TEST(short_options)
{
	static const char *const wrong[] = {"logs|-n", "logs|-n|0", "logs|-x",    "logs|-fn",
					    "logs|-",  "status|-f", "status|-n|5"};

	ck_assert_int_eq(parse("logs|-n|5|-f"), 0);
	ck_assert_str_eq(args.value[OPT_LINES], "5");
	ck_assert(given(&args, OPT_FOLLOW));
	ck_assert_int_eq(parse("-n7|logs|deploy-1"), 0);
	ck_assert_str_eq(args.value[OPT_LINES], "7");
	ck_assert_str_eq(args.word[0], "deploy-1");
	ck_assert_int_eq(parse("logs|--|-n"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(parse(wrong[i]) < 0 || streq(args.word[0], "-"), "%s", wrong[i]);
}
END_TEST

START_TEST(completions_know_all)
{
	static const struct {
		const char *path, *dashes;
	} files[] = {
		{"etc/completions/dhash.bash", "--"},
		{"etc/completions/_dhash", "--"},
		{"etc/completions/dhash.fish", "-l "},
	};

	for (size_t f = 0; f < ARRAY_SIZE(files); f++) {
		char *text = document(files[f].path);

		for (size_t i = 0; i < commands_len; i++)
			ck_assert_msg(has_word(text, commands[i].name), "%s lacks %s",
				      files[f].path, commands[i].name);
		for (int o = 0; o < _OPT_MAX; o++) {
			char *word = xasprintf("%s%s", files[f].dashes, options[o].name);

			ck_assert_msg(has_word(text, word), "%s lacks %s", files[f].path, word);
			free(word);
		}
		free(text);
	}
}
END_TEST

/* The part of a file that tells the options of a command; a short form stands for some of them. */
static bool
completes(char *text, const char *from, const char *to, const char *const *forms, enum opt o)
{
	char *part = section(text, from, to), *word = xasprintf("--%s", options[o].name);
	bool found = has_word(part, word);

	for (; !found && *forms; forms += 2)
		found = streq(forms[1], options[o].name) && strstr(part, forms[0]);
	free(word);
	free(part);
	return found;
}

/* Fish has a line per option, with the commands that take it. */
static bool
fish_completes(char *text, const struct command *c, enum opt o)
{
	char *from = xasprintf(" -l %s ", options[o].name);
	char *at = strstr(text, from), *line, *quoted;
	bool found;

	ck_assert_ptr_nonnull(at);
	while (at > text && at[-1] != '\n')
		at--;
	line = xasprintf("%.*s", (int)(strstr(at, from) - at), at);
	quoted = strstr(line, "$uses");
	found = quoted && has_word(quoted, c->name);
	free(line);
	free(from);
	return found;
}

/* After each command the options that it takes, and no others. */
START_TEST(completions_know_what_goes_with_what)
{
	static const char *const none[] = {NULL};
	static const char *const zsh[] = {"$env",  "env",     "$service", "service",
					  "$wait", "wait",    "$wait",    "no-wait",
					  "$wait", "timeout", NULL};
	char *bash = document("etc/completions/dhash.bash");
	char *z = document("etc/completions/_dhash"),
	     *fish = document("etc/completions/dhash.fish");

	for (size_t i = 0; i < commands_len; i++) {
		const struct command *c = &commands[i];
		char *in_bash = xasprintf("\t%s) words=", c->name);
		char *in_zsh = xasprintf("\t%s) _arguments", c->name);

		for (int o = 0; c->options && o < _OPT_MAX; o++) {
			bool takes = c->options & (1u << o);

			if (opt_global(o))
				continue;
			ck_assert_msg(completes(bash, in_bash, ";;", none, o) == takes,
				      "dhash.bash: --%s of %s", options[o].name, c->name);
			ck_assert_msg(completes(z, in_zsh, ";;", zsh, o) == takes,
				      "_dhash: --%s of %s", options[o].name, c->name);
			ck_assert_msg(fish_completes(fish, c, o) == takes, "dhash.fish: --%s of %s",
				      options[o].name, c->name);
		}
		free(in_bash);
		free(in_zsh);
	}
	free(bash);
	free(z);
	free(fish);
}
END_TEST

START_TEST(tables_are_whole)
{
	for (int o = 0; o < _OPT_MAX; o++)
		ck_assert(options[o].name && options[o].help &&
			  (options[o].type == OPT_FLAG) == !options[o].arg);
	for (size_t i = 0; i < commands_len; i++) {
		ck_assert(commands[i].help && commands[i].max_words <= WORDS_MAX);
		ck_assert((commands[i].required & ~commands[i].options) == 0);
		ck_assert(commands[i].run || streq(commands[i].name, "help"));
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client/args");
	TCase *t = tcase_create("args");
	SRunner *sr;
	int failed;

	tcase_add_test(t, taken);
	tcase_add_loop_test(t, refusals, 0, ARRAY_SIZE(refused));
	tcase_add_test(t, manual_has_the_commands);
	tcase_add_test(t, manual_has_the_options);
	tcase_add_test(t, manual_has_the_exit_codes);
	tcase_add_test(t, short_options);
	tcase_add_test(t, completions_know_all);
	tcase_add_test(t, completions_know_what_goes_with_what);
	tcase_add_test(t, tables_are_whole);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
