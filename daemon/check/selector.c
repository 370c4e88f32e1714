/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/selector.h"

#include <errno.h>
#include <regex.h>

#include "common/util.h"
#include "common/pattern.h"

enum match { MATCH_EQUAL, MATCH_NOT_EQUAL, MATCH_REGEX, MATCH_NOT_REGEX };

enum { MATCHERS_MAX = 32 };

struct matcher {
	enum match match;
	char *label, *value; /* owned */
	regex_t re;
};

struct selector {
	char *name; /* owned */
	struct matcher v[MATCHERS_MAX];
	size_t n;
};

struct parser {
	const char *text, *p;
	char *why; /* owned */
};

static bool
fail(struct parser *ps, const char *why)
{
	ps->why =
		xasprintf("\"%s\": column %zu: %s", ps->text, (size_t)(ps->p - ps->text) + 1, why);
	return false;
}

static void
blanks(struct parser *ps)
{
	ps->p += strspn(ps->p, " \t");
}

static char *
identifier(struct parser *ps, const char *chars)
{
	size_t n = strspn(ps->p, chars);
	char *s;

	if (n == 0 || (*ps->p >= '0' && *ps->p <= '9'))
		return NULL;
	s = xasprintf("%.*s", (int)n, ps->p);
	ps->p += n;
	return s;
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"

static bool
operator(struct parser *ps, enum match *ret)
{
	static const struct {
		const char *text;
		enum match match;
	} operators[] = {{"=~", MATCH_REGEX},
			 {"!~", MATCH_NOT_REGEX},
			 {"!=", MATCH_NOT_EQUAL},
			 {"=", MATCH_EQUAL}};

	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		size_t n = strlen(operators[i].text);

		if (strncmp(ps->p, operators[i].text, n) == 0) {
			ps->p += n;
			*ret = operators[i].match;
			return true;
		}
	}
	return fail(ps, "expected =, !=, =~ or !~");
}

static bool
quoted(struct parser *ps, char **ret)
{
	char quote = *ps->p, *out, *o;

	if (quote != '"' && quote != '\'')
		return fail(ps, "expected a quoted value");
	ps->p++;
	o = out = xmalloc(strlen(ps->p) + 1);
	while (*ps->p && *ps->p != quote) {
		if (*ps->p == '\\') {
			static const char known[] = "\\\"'nt", means[] = "\\\"'\n\t";
			const char *k = ps->p[1] ? strchr(known, ps->p[1]) : NULL;

			if (!k) {
				free(out);
				return fail(ps, "unknown escape; a backslash is written \\\\");
			}
			*o++ = means[k - known];
			ps->p += 2;
		} else {
			*o++ = *ps->p++;
		}
	}
	*o = '\0';
	if (*ps->p != quote) {
		free(out);
		return fail(ps, "the quote is not closed");
	}
	ps->p++;
	*ret = out;
	return true;
}

/* Prometheus anchors its expressions at both ends. */
static bool
compile(struct parser *ps, struct matcher *m)
{
	char why[PATTERN_WHY_MAX];

	if (pattern_compile(m->value, PATTERN_WHOLE, &m->re, why) == 0)
		return true;
	m->match = MATCH_EQUAL; /* nothing to free */
	return fail(ps, why);
}

static bool
matcher(struct parser *ps, struct selector *s)
{
	struct matcher *m = &s->v[s->n];

	if (s->n == MATCHERS_MAX)
		return fail(ps, "more than 32 matchers");
	m->label = identifier(ps, LETTERS);
	if (!m->label)
		return fail(ps, "expected a label's name");
	s->n++;
	blanks(ps);
	if (!operator(ps, &m->match))
		return false;
	blanks(ps);
	if (!quoted(ps, &m->value)) {
		m->match = MATCH_EQUAL;
		return false;
	}
	if (m->match == MATCH_REGEX || m->match == MATCH_NOT_REGEX)
		return compile(ps, m);
	return true;
}

static bool
matchers(struct parser *ps, struct selector *s)
{
	ps->p++;
	for (;;) {
		blanks(ps);
		if (*ps->p == '}')
			break;
		if (!matcher(ps, s))
			return false;
		blanks(ps);
		if (*ps->p == ',')
			ps->p++;
		else if (*ps->p != '}')
			return fail(ps, "expected , or }");
	}
	ps->p++;
	return true;
}

static bool
parse(struct parser *ps, struct selector *s)
{
	blanks(ps);
	s->name = identifier(ps, LETTERS ":");
	if (!s->name)
		return fail(ps, "expected a metric's name");
	blanks(ps);
	if (*ps->p == '{' && !matchers(ps, s))
		return false;
	blanks(ps);
	return *ps->p == '\0' || fail(ps, "expected the end");
}

int
selector_parse(const char *text, struct selector **ret, char **ret_error)
{
	struct parser ps = {.text = text, .p = text};
	struct selector *s = xcalloc(1, sizeof *s);

	if (!parse(&ps, s)) {
		selector_free(s);
		*ret_error = ps.why;
		return -EINVAL;
	}
	*ret = s;
	return 0;
}

void
selector_free(struct selector *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		if (s->v[i].match == MATCH_REGEX || s->v[i].match == MATCH_NOT_REGEX)
			regfree(&s->v[i].re);
		free(s->v[i].label);
		free(s->v[i].value);
	}
	free(s->name);
	free(s);
}

const char *
selector_name(const struct selector *s)
{
	return s->name;
}

static const char *
value_of(const struct label *labels, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(labels[i].name, name))
			return labels[i].value;
	return "";
}

static bool
satisfied(const struct matcher *m, const char *value)
{
	switch (m->match) {
	case MATCH_EQUAL:
		return streq(value, m->value);
	case MATCH_NOT_EQUAL:
		return !streq(value, m->value);
	case MATCH_REGEX:
		return regexec(&m->re, value, 0, NULL, 0) == 0;
	default:
		return regexec(&m->re, value, 0, NULL, 0) != 0;
	}
}

bool
selector_matches(const struct selector *s, const struct label *labels, size_t n)
{
	for (size_t i = 0; i < s->n; i++)
		if (!satisfied(&s->v[i], value_of(labels, n, s->v[i].label)))
			return false;
	return true;
}
