/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hook lines: "LINE NUL VALUE NUL WORD NUL WORD ...".
 *
 * Expanding never changes how many words there are, whatever the value holds; a word says exactly
 * what a second, simpler expansion here says; and words that are quoted come back as they were.
 */

#include <errno.h>

#include "common/util.h"
#include "daemon/conf.h"
#include "tests/fuzz/fuzz.h"

static size_t
expected_len(const char *word, const char *value)
{
	size_t n = 0;

	for (; *word; word++) {
		if (*word != '%' || !word[1]) {
			n++;
			continue;
		}
		word++;
		n += *word == '%' ? 1 : *word == 't' ? strlen(value) : strlen("other");
	}
	return n;
}

static void
expand(char **argv, const char *value)
{
	const struct specifiers v = {"other", value, "other", "other", "other"};
	char **out = specifiers_expandv(argv, &v);
	size_t n = strv_len(argv);

	INSIST(strv_len(out) == n, "%zu words became %zu", n, strv_len(out));
	for (size_t i = 0; i < n; i++) {
		INSIST(strlen(out[i]) == expected_len(argv[i], value), "\"%s\" became \"%s\"",
		       argv[i], out[i]);
		INSIST(strchr(argv[i], '%') || streq(argv[i], out[i]), "\"%s\" became \"%s\"",
		       argv[i], out[i]);
		if (streq(argv[i], "%t"))
			INSIST(streq(out[i], value), "%%t gave \"%s\"", out[i]);
	}
	INSIST(specifiers_use(argv, 't') || strv_len(out) == n, "lost words");
	strv_free(out);
}

static void
split(const char *line, const char *value)
{
	char **argv = NULL, *error = NULL;
	int r = hook_line_split(line, &argv, &error);

	INSIST(r == 0 || r == -EINVAL, "hook_line_split() returned %d", r);
	INSIST((r == 0) == (error == NULL) && (r == 0) == (argv != NULL), "returned %d", r);
	if (r == 0) {
		INSIST(strv_len(argv) >= 1 && argv[0][0], "no command in %zu words",
		       strv_len(argv));
		expand(argv, value);
	}
	strv_free(argv);
	free(error);
}

/* Appends the word with every character quoted; returns the line's new end. */
static char *
quote(char *p, const char *word)
{
	if (!*word)
		return stpcpy(p, "'' ");
	for (; *word; word++) {
		*p++ = '\\';
		*p++ = *word;
	}
	*p++ = ' ';
	return p;
}

enum { WORDS_MAX = 16 };

static void
round_trip(struct feed *f)
{
	char *words[WORDS_MAX + 2] = {strdup("command")}, *line = malloc(f->left * 3 + 256);
	char *p = quote(line, words[0]), **argv = NULL, *error = NULL;
	size_t n = 1;

	while (f->left > 0 && n <= WORDS_MAX) {
		words[n] = feed_string(f);
		p = quote(p, words[n++]);
	}
	*p = '\0';
	INSIST(hook_line_split(line, &argv, &error) == 0, "%s: %s", line, error);
	INSIST(strv_len(argv) == n, "%zu words, not %zu: %s", strv_len(argv), n, line);
	for (size_t i = 0; i < n; i++) {
		const struct specifiers v = {"X", "X", "X", "X", "X"};
		char *back = specifiers_expand(argv[i], &v);

		INSIST(streq(back, words[i]), "\"%s\" came back as \"%s\"", words[i], back);
		free(back);
		free(words[i]);
	}
	strv_free(argv);
	free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	char *line = feed_string(&f), *value = feed_string(&f);

	split(line, value);
	round_trip(&f);
	free(line);
	free(value);
	return 0;
}
