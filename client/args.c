/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing the command line by the tables; every mistake is answered with the right way near it. */

#include <errno.h>

#include "client/cli.h"
#include "client/text.h"
#include "common/time-util.h"
#include "common/util.h"

static int
wrong(char **ret_error, char *text)
{
	*ret_error = text;
	return -EINVAL;
}

/* Like wrong(), with the nearest of the names. */
static int
unknown(char **ret_error, const char *what, const char *word, const char *dashes,
	const char *const *names, size_t n)
{
	const char *near = nearest_name(word, names, n);
	char *text = xasprintf("unknown %s %s%s%s%s%s%s", what, dashes, word,
			       near ? "; did you mean " : "", near ? dashes : "", near ? near : "",
			       near ? "?" : "");

	return wrong(ret_error, text);
}

static int
find_command(const char *word, const struct command **ret, char **ret_error)
{
	const char *names[32];

	for (size_t i = 0; i < commands_len; i++) {
		names[i] = commands[i].name;
		if (streq(word, names[i])) {
			*ret = &commands[i];
			return 0;
		}
	}
	return unknown(ret_error, "command", word, "", names, commands_len);
}

static bool
accepts(const struct command *c, enum opt o)
{
	return opt_global(o) || !c || c->options & (1u << o);
}

static int
find_option(const struct command *c, const char *word, size_t len, enum opt *ret, char **ret_error)
{
	const char *names[_OPT_MAX];
	size_t n = 0;
	char *copy;
	int r;

	for (int i = 0; i < _OPT_MAX; i++) {
		if (!accepts(c, i))
			continue;
		names[n++] = options[i].name;
		if (strlen(options[i].name) == len && strncmp(options[i].name, word, len) == 0) {
			*ret = i;
			return 0;
		}
	}
	copy = xasprintf("%.*s", (int)len, word);
	r = unknown(ret_error, "option", copy, "--", names, n);
	free(copy);
	return r;
}

static bool
number_valid(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 && n < 8 && s[n] == '\0' && strspn(s, "0") < n;
}

static int
check_value(enum opt o, const char *value, char **ret_error)
{
	const struct option_row *row = &options[o];
	usec_t span;

	switch (row->type) {
	case OPT_NAME:
		if (!name_valid(value))
			return wrong(ret_error,
				     xasprintf("--%s: \"%s\" is no name (A-Z a-z 0-9 . _ -)",
					       row->name, value));
		return 0;
	case OPT_RELEASE:
		if (!tag_valid(value))
			return wrong(
				ret_error,
				xasprintf("--%s: \"%s\" is no release tag (A-Z a-z 0-9 . _ + -)",
					  row->name, value));
		return 0;
	case OPT_SPAN:
		if (usec_parse(value, &span) < 0)
			return wrong(ret_error,
				     xasprintf("--%s: \"%s\" is no time span; write it as "
					       "30s, 15min or 1h 30min",
					       row->name, value));
		return 0;
	case OPT_NUMBER:
		if (!number_valid(value))
			return wrong(ret_error, xasprintf("--%s: \"%s\" is no number from 1 on",
							  row->name, value));
		return 0;
	case OPT_TIME:
		if (text_parse_moment(value, 0, &span) < 0)
			return wrong(ret_error,
				     xasprintf("--%s: \"%s\" is no time; write it as 15min (ago), "
					       "2024-01-01 or \"2024-01-01 12:00\" (UTC)",
					       row->name, value));
		return 0;
	case OPT_TEXT:
		if (!*value)
			return wrong(ret_error,
				     xasprintf("--%s is empty: it needs %s", row->name, row->arg));
		return 0;
	default:
		return 0;
	}
}

/* argv[*i] begins with "--": takes it, and its value where it has one. */
static int
take_option(struct args *a, int argc, char *const *argv, int *i, char **ret_error)
{
	const char *word = argv[*i] + 2, *value = strchr(word, '=');
	size_t len = value ? (size_t)(value - word) : strlen(word);
	enum opt o;
	int r = find_option(a->command, word, len, &o, ret_error);

	if (r < 0)
		return r;
	if (value)
		value++;
	if (!options[o].arg) {
		if (value)
			return wrong(ret_error, xasprintf("--%s takes no value", options[o].name));
		a->value[o] = "";
		return 0;
	}
	if (!value && *i + 1 >= argc)
		return wrong(ret_error,
			     xasprintf("--%s needs %s", options[o].name, options[o].arg));
	a->value[o] = value ? value : argv[++*i];
	return check_value(o, a->value[o], ret_error);
}

/* argv[*i] begins with one dash: "-f", "-n 5" or "-n5", as the long option that it is short for. */
static int
take_letter(struct args *a, int argc, char *const *argv, int *i, char **ret_error)
{
	const char *word = argv[*i], *value = word[2] ? word + 2 : NULL;
	enum opt o = 0;

	while (o < _OPT_MAX && !(options[o].letter == word[1] && accepts(a->command, o)))
		o++;
	if (o == _OPT_MAX || (value && !options[o].arg))
		return wrong(ret_error, xasprintf("unknown option %s", word));
	if (!options[o].arg) {
		a->value[o] = "";
		return 0;
	}
	if (!value && *i + 1 >= argc)
		return wrong(ret_error, xasprintf("-%c needs %s", word[1], options[o].arg));
	a->value[o] = value ? value : argv[++*i];
	return check_value(o, a->value[o], ret_error);
}

static int
take_word(struct args *a, const char *word, char **ret_error)
{
	if (!a->command)
		return find_command(word, &a->command, ret_error);
	if (a->n_words >= a->command->max_words)
		return wrong(ret_error,
			     xasprintf("%s: unexpected argument \"%s\"", a->command->name, word));
	a->word[a->n_words++] = word;
	return 0;
}

/* Options may stand before the command: whether it takes them is known only now. */
static int
check_whole(const struct args *a, char **ret_error)
{
	if (!a->command || given(a, OPT_HELP))
		return 0;
	for (int i = 0; i < _OPT_MAX; i++) {
		if (given(a, i) && !accepts(a->command, i))
			return wrong(ret_error, xasprintf("%s takes no --%s", a->command->name,
							  options[i].name));
		if (a->command->required & (1u << i) && !given(a, i))
			return wrong(ret_error, xasprintf("%s needs --%s %s", a->command->name,
							  options[i].name, options[i].arg));
	}
	if (given(a, OPT_WAIT) && given(a, OPT_NO_WAIT))
		return wrong(ret_error, xstrdup("--wait and --no-wait exclude each other"));
	return 0;
}

int
args_parse(int argc, char *const *argv, struct args *ret, char **ret_error)
{
	struct args a = {0};
	bool only_words = false;
	int r = 0;

	for (int i = 1; i < argc && r == 0; i++) {
		const char *word = argv[i];

		if (only_words || word[0] != '-' || word[1] == '\0')
			r = take_word(&a, word, ret_error);
		else if (streq(word, "--"))
			only_words = true;
		else if (streq(word, "--version") && !a.command)
			r = find_command("version", &a.command, ret_error);
		else if (word[1] == '-')
			r = take_option(&a, argc, argv, &i, ret_error);
		else
			r = take_letter(&a, argc, argv, &i, ret_error);
	}
	if (r == 0)
		r = check_whole(&a, ret_error);
	if (r == 0)
		*ret = a;
	return r;
}
