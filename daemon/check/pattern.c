/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/pattern.h"

#include <ctype.h>
#include <errno.h>

#include "common/util.h"

/* Length of the set that begins at the '[' of re. */
static size_t
set_len(const char *re)
{
	size_t n = re[1] == '^' ? 2 : 1;

	if (re[n] == ']')
		n++;
	while (re[n] && re[n] != ']') {
		const char *end = strncmp(re + n, "[:", 2) == 0 ? strstr(re + n + 2, ":]") : NULL;

		n = end ? (size_t)(end - re) + 2 : n + 1;
	}
	return re[n] ? n + 1 : n;
}

/* One escape of RE2 at re, as POSIX has it; returns what stands behind it in *o, or NULL. */
static const char *
escape(const char *re, char **o)
{
	char c = re[1];

	if (c == 'd' || c == 'D')
		*o = stpcpy(*o, c == 'd' ? "[0-9]" : "[^0-9]");
	else if (c && strchr("<>'`", c))
		*(*o)++ = c; /* anchors of GNU's, plain characters of RE2's */
	else if (c && !strchr("wWsSbB", c) && isalnum((unsigned char)c))
		return NULL;
	else
		*o = mempcpy(*o, re, c ? 2 : 1);
	return re + (c ? 2 : 1);
}

/* As POSIX has it; owned; NULL where it holds what POSIX does not have. */
static char *
posix(const char *re)
{
	char *out = xmalloc(strlen(re) * 3 + 1), *o = out;

	while (re && *re) {
		size_t n = *re == '[' ? set_len(re) : 1;

		if (*re == '\\') {
			re = escape(re, &o);
		} else if (n > 1 && memchr(re, '\\', n)) {
			re = NULL;
		} else {
			o = mempcpy(o, re, n);
			re += n;
		}
	}
	*o = '\0';
	if (re)
		return out;
	free(out);
	return NULL;
}

int
pattern_compile(const char *expression, bool whole, regex_t *ret, char why[PATTERN_WHY_MAX])
{
	char *re = posix(expression), *text;
	int r;

	if (!re) {
		str_copy(why, PATTERN_WHY_MAX,
			 "this escape is not supported in expressions: \\d \\w \\s \\b and \\ "
			 "before "
			 "punctuation are, outside of []");
		return -EINVAL;
	}
	r = regcomp(ret, re, REG_EXTENDED | REG_NOSUB);
	/* By itself first: "a)|(b" is an error, and not two halves that each get out of an anchor.
	 */
	if (r == 0 && whole) {
		regfree(ret);
		text = xasprintf("^(%s)$", re);
		r = regcomp(ret, text, REG_EXTENDED | REG_NOSUB);
		free(text);
	}
	if (r != 0)
		regerror(r, ret, why, PATTERN_WHY_MAX);
	free(re);
	return r == 0 ? 0 : -EINVAL;
}
