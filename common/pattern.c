/* SPDX-License-Identifier: Apache-2.0 */

#include "common/pattern.h"

#include <ctype.h>
#include <errno.h>

#include "common/util.h"

/* Of one expression: what is generous for people, and cheap for regcomp(). */
enum { NODES_MAX = 1200, NESTED_MAX = 32 };

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

/* How many copies of what stands before it the {…} at re makes; *ret_len is its own length. */
static size_t
interval(const char *re, size_t *ret_len)
{
	char *end;
	unsigned long low = strtoul(re + 1, &end, 10), high = low;

	if (*end == ',')
		high = isdigit((unsigned char)end[1]) ? strtoul(end + 1, &end, 10) : low + 1;
	end += strcspn(end, "}");
	*ret_len = (size_t)(end - re) + (*end == '}');
	return MIN(MAX(MAX(low, high), 1), SIZE_MAX / NODES_MAX - 1);
}

/* What has been read of one group; the outermost one is the whole. */
struct group {
	size_t before;   /* nodes before it */
	bool may_end;    /* an alternative of it matches nothing at all ... */
	bool empty_yet;  /* ... and so does this one, up to its last part */
	bool last_empty; /* and its last part, which an operator may still change */
};

/* One expression in the making of regcomp(), counted beforehand. */
struct cost {
	struct group v[NESTED_MAX + 1], *g; /* g: where we are */
	size_t nodes, last;                 /* last: of the last part */
};

static const char *
open_group(struct cost *c)
{
	if (c->g == &c->v[NESTED_MAX])
		return "too many ( within each other";
	c->g->empty_yet = c->g->empty_yet && c->g->last_empty;
	*++c->g = (struct group){c->nodes, false, true, true};
	return NULL;
}

/* regcomp() takes a ) too many for a plain character, with which an expression would get out of the
 * anchors around it. */
static const char *
close_group(struct cost *c)
{
	bool empty = c->g->may_end || (c->g->empty_yet && c->g->last_empty);

	if (c->g == c->v)
		return "a ) without its (; a plain one is written \\)";
	c->last = ++c->nodes - c->g->before;
	(--c->g)->last_empty = empty;
	return NULL;
}

static const char *
repeat(struct cost *c, const char *re, size_t *ret_len)
{
	size_t copies = *re == '+' ? 2 : *re == '{' ? interval(re, ret_len) : 1;
	bool many = *re != '?' && !(*re == '{' && copies == 1);

	if (many && c->g->last_empty)
		return "a repetition of what may be nothing at all, as (a*)* is";
	c->g->last_empty = c->g->last_empty || *re == '*' || *re == '?' ||
			   (*re == '{' && strspn(re + 1, "0") == strcspn(re + 1, ",}"));
	c->nodes += 1 + c->last * (copies - 1);
	c->last = c->last * copies + 1;
	return NULL;
}

static const char *
plain(struct cost *c, const char *re)
{
	bool anchor = *re == '^' || *re == '$' || (*re == '\\' && re[1] && strchr("bB", re[1]));

	c->g->empty_yet = c->g->empty_yet && c->g->last_empty;
	c->g->last_empty = anchor;
	c->last = 1;
	c->nodes++;
	return NULL;
}

static const char *
alternative(struct cost *c)
{
	c->g->may_end = c->g->may_end || (c->g->empty_yet && c->g->last_empty);
	c->g->empty_yet = c->g->last_empty = true;
	c->last = 0;
	c->nodes++;
	return NULL;
}

/*
 * Why regcomp() is not asked, or NULL.  It writes repetitions out: "a{250}{250}" and even
 * "a++++++++++++++++++++++++++" take gigabytes; it calls itself for each parenthesis; and loops
 * that may go round without reading anything, as in "()*{0,255}", take it for ever.
 */
static const char *
too_costly(const char *re)
{
	struct cost c = {.v = {{0, false, true, true}}, .g = c.v};
	const char *why = NULL;

	while (*re && !why) {
		size_t n = *re == '[' ? set_len(re) : *re == '\\' && re[1] ? 2 : 1;

		why = *re == '('            ? open_group(&c)
		      : *re == ')'          ? close_group(&c)
		      : *re == '|'          ? alternative(&c)
		      : strchr("*?+{", *re) ? repeat(&c, re, &n)
					    : plain(&c, re);
		if (!why && c.nodes > NODES_MAX)
			why = "too large, with its repetitions written out";
		re += n;
	}
	return why;
}

int
pattern_compile(const char *expression, int flags, regex_t *ret, char why[PATTERN_WHY_MAX])
{
	int cflags = REG_EXTENDED | REG_NOSUB | (flags & PATTERN_ANY_CASE ? REG_ICASE : 0);
	char *re = posix(expression), *text;
	const char *reason;
	int r;

	if (!re) {
		str_copy(why, PATTERN_WHY_MAX,
			 "this escape is not supported in expressions: \\d \\w \\s \\b and \\ "
			 "before "
			 "punctuation are, outside of []");
		return -EINVAL;
	}
	reason = too_costly(re);
	if (reason) {
		free(re);
		str_copy(why, PATTERN_WHY_MAX, reason);
		return -EINVAL;
	}
	r = regcomp(ret, re, cflags);
	/* By itself first: "a)|(b" is an error, and not two halves that each get out of an anchor.
	 */
	if (r == 0 && flags & PATTERN_WHOLE) {
		regfree(ret);
		text = xasprintf("^(%s)$", re);
		r = regcomp(ret, text, cflags);
		free(text);
	}
	if (r == REG_ESPACE)
		out_of_memory(); /* and not a mistake in the expression */
	if (r != 0)
		regerror(r, ret, why, PATTERN_WHY_MAX);
	free(re);
	return r == 0 ? 0 : -EINVAL;
}

/* The error of the first n bytes: of regcomp(), 0 for none, -1 for what POSIX does not have, -2 for
 * what regcomp() is not asked. */
static int
prefix_error(const char *expression, size_t n)
{
	char *prefix = xasprintf("%.*s", (int)n, expression), *re = posix(prefix);
	regex_t compiled;
	int r = !re ? -1 : too_costly(re) ? -2 : regcomp(&compiled, re, REG_EXTENDED | REG_NOSUB);

	if (r == 0)
		regfree(&compiled);
	free(re);
	free(prefix);
	return r == REG_BADPAT ? REG_EBRACK : r; /* which it says where a text ends in "[" */
}

/* regcomp() does not say where.  It is behind the longest beginning that does not fail in the same
 * way: of "a(b[c" that is "a(b", as a bracket left open is worse than a parenthesis. */
size_t
pattern_bad_column(const char *expression)
{
	/* Longer ones are too large for certain, and this is quadratic. */
	size_t n = strnlen(expression, 2 * NODES_MAX), column = 1;
	int error = prefix_error(expression, n);

	while (n > 0 && prefix_error(expression, n - 1) == error)
		n--;
	for (size_t i = 0; i + 1 < n; i++)
		column += ((unsigned char)expression[i + 1] & 0xc0) != 0x80;
	return column;
}

bool
pattern_has_capital(const char *expression)
{
	for (const char *p = expression; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p >= 'A' && *p <= 'Z')
			return true;
	}
	return false;
}
