/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hook lines: words split much as systemd's ExecStart= does it, and %-specifiers.  Never a shell. A
 * backslash makes the next character plain, a blank, quote or percent sign; it is no code for
 * another one (\n is the letter n).
 */

#include <ctype.h>
#include <errno.h>

#include "common/util.h"
#include "daemon/conf.h"

struct words {
	char **v; /* owned */
	size_t n;
	char *word; /* owned: the one in the making */
	size_t len;
	bool any;
};

static void
put(struct words *w, char c)
{
	w->word = xrealloc(w->word, w->len + 2);
	w->word[w->len++] = c;
	w->word[w->len] = '\0';
	w->any = true;
}

static void
end_word(struct words *w)
{
	if (!w->any)
		return;
	w->v = xrealloc(w->v, (w->n + 2) * sizeof *w->v);
	w->v[w->n++] = w->word ? w->word : xstrdup("");
	w->v[w->n] = NULL;
	w->word = NULL;
	w->len = 0;
	w->any = false;
}

static int
bad(struct words *w, char **ret_error, char *why)
{
	free(w->word);
	strv_free(w->v);
	*ret_error = why;
	return -EINVAL;
}

static bool
specifier_known(char c)
{
	return c == '%' || strchr("etbis", c) != NULL;
}

int
hook_line_split(const char *line, char ***ret, char **ret_error)
{
	struct words w = {0};
	char quote = '\0';

	for (const char *p = line; *p; p++) {
		if (*p == '%' && (p[1] == '\0' || !specifier_known(p[1])))
			return bad(
				&w, ret_error,
				p[1] ? xasprintf(
					       "unknown specifier %%%c; known are %%e %%t %%b %%i "
					       "%%s and %%%%",
					       p[1])
				     : xstrdup("a lone % at the end; write %% for a percent sign"));
		if (*p == '%') {
			put(&w, *p++);
			put(&w, *p);
		} else if (*p == '\\' && p[1]) {
			if (*++p == '%')
				put(&w, '%'); /* taken literally here, and when specifiers go in */
			put(&w, *p);
		} else if (quote && *p == quote) {
			quote = '\0';
		} else if (quote) {
			put(&w, *p);
		} else if (*p == '\'' || *p == '"') {
			quote = *p;
			w.any = true;
		} else if (*p == ' ' || *p == '\t') {
			end_word(&w);
		} else {
			put(&w, *p);
		}
	}
	if (quote)
		return bad(&w, ret_error, xasprintf("a quote (%c) is not closed", quote));
	end_word(&w);
	if (w.n == 0)
		return bad(&w, ret_error, xstrdup("no command"));
	if (w.v[0][0] == '\0')
		return bad(&w, ret_error, xstrdup("the command is empty"));
	*ret = w.v;
	return 0;
}

static const char *
specifier_value(char c, const struct specifiers *v)
{
	const char *s = c == 'e'   ? v->environment
			: c == 't' ? v->tag
			: c == 'b' ? v->backup
			: c == 'i' ? v->deployment
			: c == 's' ? v->service
				   : "%";

	return s ? s : "";
}

char *
specifiers_expand(const char *s, const struct specifiers *v)
{
	struct words w = {0};

	for (; *s; s++) {
		if (*s != '%' || s[1] == '\0') {
			put(&w, *s);
			continue;
		}
		for (const char *p = specifier_value(*++s, v); *p; p++)
			put(&w, *p);
	}
	return w.word ? w.word : xstrdup("");
}

char **
specifiers_expandv(char *const *argv, const struct specifiers *v)
{
	size_t n = strv_len(argv);
	char **out = xcalloc(n + 1, sizeof *out);

	for (size_t i = 0; i < n; i++)
		out[i] = specifiers_expand(argv[i], v);
	return out;
}

bool
specifiers_use(char *const *argv, char specifier)
{
	for (; argv && *argv; argv++)
		for (const char *p = *argv; (p = strchr(p, '%')) && p[1]; p += 2)
			if (p[1] == specifier)
				return true;
	return false;
}
