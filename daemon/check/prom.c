/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/prom.h"

#include <errno.h>
#include <math.h>

#include "common/util.h"

struct parser {
	char *p;
	unsigned line;
	struct label own[PROM_LABELS_MAX], exemplar[PROM_LABELS_MAX];
	struct label *labels; /* one of these two is being read */
	size_t n_labels;
	const char *why;
};

static bool
fail(struct parser *ps, const char *why)
{
	ps->why = why;
	return false;
}

static void
blanks(struct parser *ps)
{
	while (*ps->p == ' ' || *ps->p == '\t')
		ps->p++;
}

static bool
name_char(char c, bool first, bool colon)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (colon && c == ':') || (!first && c >= '0' && c <= '9');
}

/* Terminates the name in place; *ret_next is the character that stood there. */
static char *
name(struct parser *ps, bool colon, char **ret_end)
{
	char *begin = ps->p;

	if (!name_char(*ps->p, true, colon))
		return NULL;
	while (name_char(*ps->p, false, colon))
		ps->p++;
	*ret_end = ps->p;
	return begin;
}

/* Unescapes in place; the value only gets shorter. */
static char *
label_value(struct parser *ps)
{
	char *begin, *out;

	if (*ps->p != '"')
		return NULL;
	begin = out = ++ps->p;
	while (*ps->p != '"') {
		char c = *ps->p;

		if (c == '\0' || c == '\n')
			return NULL;
		if (c == '\\') {
			c = *++ps->p;
			if (c != '\\' && c != '"' && c != 'n')
				return NULL;
			c = c == 'n' ? '\n' : c;
		}
		*out++ = c;
		ps->p++;
	}
	ps->p++;
	*out = '\0';
	return begin;
}

static bool
label(struct parser *ps)
{
	struct label *l = &ps->labels[ps->n_labels];
	char *end, *n;

	if (ps->n_labels == PROM_LABELS_MAX)
		return fail(ps, "more than 64 labels");
	n = name(ps, false, &end);
	if (!n)
		return fail(ps, "expected a label's name");
	blanks(ps);
	if (*ps->p != '=')
		return fail(ps, "expected = behind a label's name");
	ps->p++;
	*end = '\0';
	blanks(ps);
	l->name = n;
	l->value = label_value(ps);
	if (!l->value)
		return fail(ps,
			    "a label's value is not quoted, not closed, or has an unknown escape");
	ps->n_labels++;
	return true;
}

static bool
labels(struct parser *ps)
{
	ps->p++;
	for (;;) {
		blanks(ps);
		if (*ps->p == '}')
			break;
		if (!label(ps))
			return false;
		blanks(ps);
		if (*ps->p == ',')
			ps->p++;
		else if (*ps->p != '}')
			return fail(ps, "expected , or } behind a label");
	}
	ps->p++;
	return true;
}

/* What Go's ParseFloat() takes for no finite number, in any case: nan, and inf or infinity with or
 * without a sign. */
static bool
not_finite(const char *s, size_t n, double *ret)
{
	bool negative = *s == '-';

	if (n == 3 && strncasecmp(s, "nan", n) == 0) {
		*ret = NAN;
		return true;
	}
	if (negative || *s == '+') {
		s++;
		n--;
	}
	if ((n != 3 && n != 8) || strncasecmp(s, "infinity", n) != 0)
		return false;
	*ret = negative ? -INFINITY : INFINITY;
	return true;
}

/* Go's floats.  strtod() would take hexadecimal and "nan(…)", too. */
static bool
number(struct parser *ps, double *ret)
{
	char *end = ps->p;
	size_t n;

	while (*end && !strchr(" \t\n\r", *end))
		end++;
	n = (size_t)(end - ps->p);
	if (n == 0)
		return fail(ps, "the value is missing");
	if (!not_finite(ps->p, n, ret)) {
		char *stop;

		if (strspn(ps->p, "+-.eE0123456789") < n)
			return fail(ps, "the value is no number");
		*ret = strtod(ps->p, &stop);
		if (stop != end)
			return fail(ps, "the value is no number");
		if (isinf(*ret))
			return fail(ps, "the value is too large for a number");
	}
	ps->p = end;
	return true;
}

static bool
at_end(const struct parser *ps)
{
	return *ps->p == '\0' || *ps->p == '\n' || *ps->p == '\r';
}

static bool
timestamp(struct parser *ps)
{
	double ignored;

	blanks(ps);
	if (at_end(ps) || *ps->p == '#')
		return true;
	if (!number(ps, &ignored) || !isfinite(ignored))
		return fail(ps, "the timestamp is no number");
	blanks(ps);
	return true;
}

/* # {trace_id="x"} 0.5 123.4: read for its form only, beside the labels of its sample. */
static bool
exemplar(struct parser *ps)
{
	size_t n = ps->n_labels;
	double ignored;
	bool r;

	ps->p++;
	blanks(ps);
	if (*ps->p != '{')
		return fail(ps, "text behind the value is no exemplar");
	ps->labels = ps->exemplar;
	ps->n_labels = 0;
	r = labels(ps);
	ps->labels = ps->own;
	ps->n_labels = n;
	if (!r)
		return false;
	blanks(ps);
	if (!number(ps, &ignored))
		return fail(ps, "the exemplar's value is no number");
	return timestamp(ps);
}

/* An optional timestamp, an optional exemplar, and then nothing. */
static bool
rest(struct parser *ps)
{
	if (!timestamp(ps) || (*ps->p == '#' && !exemplar(ps)))
		return false;
	if (*ps->p == '\r')
		ps->p++;
	if (*ps->p && *ps->p != '\n')
		return fail(ps, "text behind the value");
	return true;
}

static bool
sample(struct parser *ps, prom_fn *fn, void *arg)
{
	char *end, *n = name(ps, true, &end);
	double value;

	if (!n)
		return fail(ps, "expected a metric's name");
	ps->n_labels = 0;
	blanks(ps);
	if (*ps->p == '{' && !labels(ps))
		return false;
	if (ps->p == end && *ps->p != ' ' && *ps->p != '\t')
		return fail(ps, "the value is missing");
	blanks(ps);
	if (!number(ps, &value) || !rest(ps))
		return false;
	*end = '\0';
	fn(arg, n, ps->labels, ps->n_labels, value);
	return true;
}

static bool
line(struct parser *ps, prom_fn *fn, void *arg)
{
	blanks(ps);
	if (*ps->p == '#') {
		ps->p += strcspn(ps->p, "\n");
		return true;
	}
	if (*ps->p == '\n' || *ps->p == '\0' || (*ps->p == '\r' && ps->p[1] == '\n')) {
		ps->p += *ps->p == '\r';
		return true;
	}
	return sample(ps, fn, arg);
}

int
prom_parse(char *text, size_t len, prom_fn *fn, void *arg, char **ret_error)
{
	struct parser ps = {.p = text, .line = 1};

	ps.labels = ps.own;
	if (strlen(text) != len) {
		*ret_error = xstrdup("the metrics hold a NUL byte");
		return -EBADMSG;
	}
	for (; *ps.p; ps.line++) {
		if (!line(&ps, fn, arg)) {
			*ret_error = xasprintf("line %u of the metrics: %s", ps.line, ps.why);
			return -EBADMSG;
		}
		if (*ps.p == '\n')
			ps.p++;
	}
	return 0;
}

int
prom_check_end(const char *text, char **ret_error)
{
	static const char mark[] = "# EOF";
	const char *line = text;

	while (*line) {
		size_t n = strcspn(line, "\n");
		const char *next = line + n + (line[n] == '\n');

		if (n == sizeof mark - 1 && strncmp(line, mark, n) == 0) {
			if (*next == '\0')
				return 0;
			*ret_error = xstrdup("the OpenMetrics text goes on behind its # EOF");
			return -EBADMSG;
		}
		line = next;
	}
	*ret_error = xstrdup("the OpenMetrics text is cut off: it lacks # EOF at its end");
	return -EBADMSG;
}

/* --- quantile --- */

/* Sorts by bound: insertion, since exporters write them in order already. */
static void
sort(double *le, double *count, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		double l = le[i], c = count[i];
		size_t j = i;

		for (; j > 0 && le[j - 1] > l; j--) {
			le[j] = le[j - 1];
			count[j] = count[j - 1];
		}
		le[j] = l;
		count[j] = c;
	}
}

static size_t
merge_equal(double *le, double *count, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		if (out > 0 && le[out - 1] == le[i]) {
			count[out - 1] += count[i];
		} else {
			le[out] = le[i];
			count[out++] = count[i];
		}
	}
	return out;
}

double
prom_quantile(double q, double *le, double *count, size_t n)
{
	double rank, begin = 0, below = 0;
	size_t b = 0;

	if (n == 0 || isnan(q))
		return NAN;
	sort(le, count, n);
	if (!isinf(le[n - 1]) || le[n - 1] < 0)
		return NAN;
	n = merge_equal(le, count, n);
	for (size_t i = 1; i < n; i++)
		count[i] = fmax(count[i], count[i - 1]);
	if (n < 2 || count[n - 1] == 0)
		return NAN;
	rank = q * count[n - 1];
	while (b < n - 1 && count[b] < rank)
		b++;
	if (b == n - 1)
		return le[n - 2];
	if (b == 0 && le[0] <= 0)
		return le[0];
	if (b > 0) {
		begin = le[b - 1];
		below = count[b - 1];
	}
	return begin + (le[b] - begin) * ((rank - below) / (count[b] - below));
}
