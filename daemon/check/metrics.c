/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/metrics.h"

#include <errno.h>
#include <math.h>

#include "common/util.h"
#include "daemon/check/prom.h"
#include "daemon/conf.h"

enum source { SRC_REQUESTS, SRC_ERRORS, SRC_LATENCY, SRC_ERROR_RATIO, SRC_P95, _SRC_MAX };

enum { BUCKETS_MAX = 256, SERIES_MAX = 200000 };

/* From 2^53 on a double no longer counts by ones; and sums of such as 1e308 are infinite. */
#define COUNT_MAX 9007199254740992.0

/* A series is known by two independent hashes of its source and labels; 0 marks a free place. */
struct counter {
	uint64_t key, key2;
	double value;
};

struct table {
	struct counter *v; /* owned; open addressing */
	size_t cap, n;
};

struct metrics {
	struct selector *selectors[_SRC_MAX]; /* owned; NULL = not configured */
	char *names[_SRC_MAX];                /* owned: what the exposition calls it */
	struct metrics_limits limits;
	struct table last;
	usec_t last_at; /* 0 = nothing to differ from */
};

/* One scrape in the taking. */
struct scrape {
	const struct metrics *m;
	struct table now;
	bool seen[_SRC_MAX];
	double increase[_SRC_MAX], gauge[_SRC_MAX];
	double le[BUCKETS_MAX], count[BUCKETS_MAX];
	size_t n_buckets;
	double bound; /* highest bucket's not over the limit; -INFINITY = none, NAN = no bucket */
	bool too_many;
};

/* --- the table --- */

static void
table_free(struct table *t)
{
	free(t->v);
	*t = (struct table){0};
}

static struct counter *
table_place(const struct table *t, uint64_t key, uint64_t key2)
{
	for (size_t i = key & (t->cap - 1);; i = (i + 1) & (t->cap - 1))
		if (t->v[i].key == 0 || (t->v[i].key == key && t->v[i].key2 == key2))
			return &t->v[i];
}

static void
table_grow(struct table *t)
{
	struct table bigger = {.cap = t->cap ? t->cap * 2 : 64, .n = t->n};

	bigger.v = xcalloc(bigger.cap, sizeof *bigger.v);
	for (size_t i = 0; i < t->cap; i++)
		if (t->v[i].key)
			*table_place(&bigger, t->v[i].key, t->v[i].key2) = t->v[i];
	free(t->v);
	*t = bigger;
}

static const struct counter *
table_find(const struct table *t, uint64_t key, uint64_t key2)
{
	const struct counter *c = t->cap ? table_place(t, key, key2) : NULL;

	return c && c->key ? c : NULL;
}

static void
table_put(struct table *t, uint64_t key, uint64_t key2, double value)
{
	struct counter *c;

	if (t->n * 2 >= t->cap)
		table_grow(t);
	c = table_place(t, key, key2);
	t->n += c->key == 0;
	*c = (struct counter){key, key2, value};
}

static uint64_t
hash(uint64_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3ull; /* FNV-1a */
	return (h ^ 0xff) * 0x100000001b3ull;
}

/* splitmix64's last step.  Sums of plain FNV hashes collide for labels that differ in a digit or
 * two: it is all but linear. */
static uint64_t
mix(uint64_t h)
{
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	return h ^ h >> 31;
}

/* Labels may come in any order: their hashes are added, and so are those of the source and of `le`,
 * as a number, so that 1 is 1.0.  Each is mixed first: hashed on from a sum of which the source was
 * one summand, a counter and a bucket of 2 s were the same series. */
static void
series_key(enum source src, const struct label *l, size_t n, double le, uint64_t *ret,
	   uint64_t *ret2)
{
	static const uint64_t seed = 0x9e3779b97f4a7c15ull, seed2 = 0xc2b2ae3d27d4eb4full;
	uint64_t a = mix(seed + (uint64_t)src), b = mix(seed2 + (uint64_t)src);
	char bound[32];

	for (size_t i = 0; i < n; i++) {
		if (src == SRC_LATENCY && streq(l[i].name, "le"))
			continue;
		a += mix(hash(hash(seed, l[i].name), l[i].value));
		b += mix(hash(hash(seed2, l[i].name), l[i].value));
	}
	if (src == SRC_LATENCY) {
		snprintf(bound, sizeof bound, "%.17g", le);
		a += mix(hash(hash(seed, "le"), bound));
		b += mix(hash(hash(seed2, "le"), bound));
	}
	*ret = a ? a : 1;
	*ret2 = b;
}

/* --- one sample of the exposition --- */

/* Since the last scrape, resets handled as Prometheus does; false: nothing to differ from. */
static bool
difference(struct scrape *s, enum source src, const struct label *l, size_t n, double le,
	   double value, double *ret)
{
	const struct counter *before;
	uint64_t key, key2;

	/* No count: its differences would spoil every sum they go into. */
	if (isnan(value) || value < 0 || value > COUNT_MAX)
		return false;
	if (s->now.n >= SERIES_MAX) {
		s->too_many = true;
		return false;
	}
	series_key(src, l, n, le, &key, &key2);
	if (table_find(&s->now, key, key2))
		return false; /* told twice in one exposition: the first counts, as in Prometheus */
	before = s->m->last_at ? table_find(&s->m->last, key, key2) : NULL;
	table_put(&s->now, key, key2, value);
	if (!before)
		return false;
	*ret = value < before->value ? value : value - before->value;
	return true;
}

static void
take_counter(struct scrape *s, enum source src, const struct label *l, size_t n, double value)
{
	double d;

	s->seen[src] = true;
	if (selector_matches(s->m->selectors[src], l, n) && difference(s, src, l, n, 0, value, &d))
		s->increase[src] += d;
}

static void
take_gauge(struct scrape *s, enum source src, const struct label *l, size_t n, double value)
{
	s->seen[src] = true;
	/* Several series: the worst one counts. */
	if (selector_matches(s->m->selectors[src], l, n) && !isnan(value))
		s->gauge[src] = isnan(s->gauge[src]) ? value : fmax(s->gauge[src], value);
}

static void
take_bucket(struct scrape *s, const struct label *l, size_t n, double value)
{
	const char *text = NULL;
	double le, d;
	size_t i = 0;
	char *end;

	for (size_t k = 0; k < n; k++)
		if (streq(l[k].name, "le"))
			text = l[k].value;
	if (!text)
		return;
	le = strtod(text, &end);
	if (*end || end == text || isnan(le))
		return;
	s->seen[SRC_LATENCY] = true;
	if (!selector_matches(s->m->selectors[SRC_LATENCY], l, n))
		return;
	s->bound = fmax(s->bound, le <= s->m->limits.latency_limit ? le : -INFINITY);
	if (!difference(s, SRC_LATENCY, l, n, le, value, &d))
		return;
	while (i < s->n_buckets && s->le[i] != le)
		i++;
	if (i == BUCKETS_MAX) {
		s->too_many = true;
		return;
	}
	if (i == s->n_buckets) {
		s->le[i] = le;
		s->count[i] = 0;
		s->n_buckets++;
	}
	s->count[i] += d;
}

static void
on_sample(void *arg, const char *name, const struct label *labels, size_t n, double value)
{
	struct scrape *s = arg;

	for (int src = 0; src < _SRC_MAX; src++) {
		if (!s->m->names[src] || !streq(s->m->names[src], name))
			continue;
		if (src == SRC_LATENCY)
			take_bucket(s, labels, n, value);
		else if (src == SRC_ERROR_RATIO || src == SRC_P95)
			take_gauge(s, src, labels, n, value);
		else
			take_counter(s, src, labels, n, value);
	}
}

/* --- results --- */

/* Requests slower than the limit: all less those in the bucket at it, or at the nearest bound
 * below. */
static double
slower(const struct scrape *s, double limit)
{
	double total = 0, fast = 0, bound = -INFINITY;

	for (size_t i = 0; i < s->n_buckets; i++) {
		if (isinf(s->le[i]) && s->le[i] > 0)
			total = s->count[i];
		else if (s->le[i] <= limit && s->le[i] > bound) {
			bound = s->le[i];
			fast = s->count[i];
		}
	}
	return fmax(0, total - fast);
}

/* Writes what the buckets do to the limit, "" where one is at it; false: it cannot be judged. */
static bool
judge_bound(const struct scrape *s, char *buf, size_t n)
{
	double limit = s->m->limits.latency_limit;

	buf[0] = '\0';
	if (s->bound == -INFINITY)
		snprintf(buf, n, "no bucket at or below the limit of %gs: P95 cannot be judged",
			 limit);
	else if (!isnan(s->bound) && s->bound != limit)
		snprintf(buf, n, "no bucket at the limit of %gs: %gs, the next below, is used",
			 limit, s->bound);
	return s->bound != -INFINITY;
}

/* False: there are buckets, but none for all; how many requests there were is not known then. */
static bool
total_of(const struct scrape *s, double *ret)
{
	for (size_t i = 0; i < s->n_buckets; i++)
		if (isinf(s->le[i]) && s->le[i] > 0) {
			*ret = s->count[i];
			return true;
		}
	*ret = 0;
	return s->n_buckets == 0;
}

static void
rate_result(const struct scrape *s, usec_t span, struct series *ret)
{
	if (s->m->selectors[SRC_ERROR_RATIO]) {
		ret->gauge = true;
		ret->value = s->gauge[SRC_ERROR_RATIO];
		ret->result = isnan(ret->value) ? RESULT_NO_DATA : RESULT_OK;
		ret->span = span;
		return;
	}
	if (!s->m->selectors[SRC_REQUESTS] || s->m->last_at == 0)
		return;
	ret->result = RESULT_OK;
	ret->span = span;
	ret->total = s->increase[SRC_REQUESTS];
	/* Two selectors may disagree by a request that came between: a share is never over 1. */
	ret->bad = ret->bad_warn = fmin(s->increase[SRC_ERRORS], ret->total);
	ret->value = ret->total > 0 ? ret->bad / ret->total : NAN;
}

static void
latency_result(struct scrape *s, usec_t span, struct series *ret, char *detail, size_t n)
{
	if (s->m->selectors[SRC_P95]) {
		ret->gauge = true;
		ret->value = s->gauge[SRC_P95];
		ret->result = isnan(ret->value) ? RESULT_NO_DATA : RESULT_OK;
		ret->span = span;
		return;
	}
	if (!s->m->selectors[SRC_LATENCY] || s->m->last_at == 0)
		return;
	if (!total_of(s, &ret->total)) {
		str_copy(detail, n, "the latency histogram has no +Inf bucket");
		return;
	}
	/* Else every request would count as slow. */
	if (!judge_bound(s, detail, n))
		return;
	ret->result = RESULT_OK;
	ret->span = span;
	ret->bad_warn = slower(s, s->m->limits.latency_warn);
	ret->bad = slower(s, s->m->limits.latency_limit);
	ret->value = prom_quantile(0.95, s->le, s->count, s->n_buckets);
}

static void
missing_names(const struct scrape *s, char *buf, size_t n)
{
	size_t used = 0;

	buf[0] = '\0';
	for (int src = 0; src < _SRC_MAX && used < n; src++)
		if (s->m->names[src] && !s->seen[src])
			used += (size_t)snprintf(buf + used, n - used, "%s%s", used ? ", " : "",
						 s->m->names[src]);
}

static void
scrape_init(struct scrape *s, const struct metrics *m)
{
	memset(s, 0, sizeof *s);
	s->m = m;
	s->bound = NAN; /* fmax() passes it over */
	for (int src = 0; src < _SRC_MAX; src++)
		s->gauge[src] = NAN;
}

static int
parse(struct scrape *s, const struct exposition *x, char **ret_error)
{
	static const char type[] = "application/openmetrics-text";
	int r = 0;

	if (x->type && strncasecmp(x->type, type, sizeof type - 1) == 0)
		r = prom_check_end(x->text, ret_error);
	return r < 0 ? r : prom_parse(x->text, x->len, on_sample, s, ret_error);
}

void
metrics_take(struct metrics *m, const struct exposition *x, usec_t at, struct sample *ret)
{
	struct scrape s;
	char *error = NULL, missing[128];

	scrape_init(&s, m);
	ret->rate = ret->latency = (struct series){.result = RESULT_NO_DATA, .value = NAN};
	ret->result = RESULT_NO_DATA;
	if (parse(&s, x, &error) < 0) {
		str_copy(ret->detail, sizeof ret->detail, error);
		free(error);
		table_free(&s.now);
		return;
	}
	missing_names(&s, missing, sizeof missing);
	if (missing[0]) {
		snprintf(ret->detail, sizeof ret->detail, "the source has no %s", missing);
		table_free(&s.now);
		return;
	}
	ret->result = RESULT_OK;
	rate_result(&s, at - m->last_at, &ret->rate);
	latency_result(&s, at - m->last_at, &ret->latency, ret->detail, sizeof ret->detail);
	if (s.too_many)
		str_copy(ret->detail, sizeof ret->detail,
			 "too many series: the rest was passed over");
	else if (m->last_at == 0)
		str_copy(ret->detail, sizeof ret->detail,
			 "first scrape: differences begin with the next");
	table_free(&m->last);
	m->last = s.now;
	m->last_at = at;
}

int
metrics_probe(struct metrics *m, const struct exposition *x, char **ret_text)
{
	struct scrape s;
	char missing[256], bound[160];
	int r;

	scrape_init(&s, m);
	r = parse(&s, x, ret_text);
	table_free(&s.now);
	if (r < 0)
		return r;
	missing_names(&s, missing, sizeof missing);
	if (missing[0]) {
		*ret_text = xasprintf(
			"the source has no %s: correct [Metrics], or the service's exporter",
			missing);
		return -ENOENT;
	}
	if (m->selectors[SRC_LATENCY] && !judge_bound(&s, bound, sizeof bound)) {
		*ret_text = xasprintf("%s: give the histogram a bucket there, or correct Limit= of "
				      "[Rule latency-p95]",
				      bound);
		return -ENOENT;
	}
	*ret_text = xasprintf("the source has every configured metric%s%s",
			      m->selectors[SRC_LATENCY] && *bound ? "; " : "",
			      m->selectors[SRC_LATENCY] ? bound : "");
	return 0;
}

/* --- life --- */

static int
set_selector(struct metrics *m, enum source src, const char *text, const char *suffix,
	     char **ret_error)
{
	int r;

	if (!text)
		return 0;
	r = selector_parse(text, &m->selectors[src], ret_error);
	if (r == 0)
		m->names[src] = xasprintf("%s%s", selector_name(m->selectors[src]), suffix);
	return r;
}

int
metrics_new(const struct conf_metrics *conf, const struct metrics_limits *limits,
	    struct metrics **ret, char **ret_error)
{
	struct metrics *m = xcalloc(1, sizeof *m);
	int r;

	m->limits = *limits;
	r = set_selector(m, SRC_REQUESTS, conf->requests, "", ret_error);
	if (r == 0)
		r = set_selector(m, SRC_ERRORS, conf->errors, "", ret_error);
	if (r == 0)
		r = set_selector(m, SRC_LATENCY, conf->latency, "_bucket", ret_error);
	if (r == 0)
		r = set_selector(m, SRC_ERROR_RATIO, conf->error_ratio, "", ret_error);
	if (r == 0)
		r = set_selector(m, SRC_P95, conf->p95, "", ret_error);
	if (r < 0) {
		metrics_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void
metrics_reset(struct metrics *m)
{
	table_free(&m->last);
	m->last_at = 0;
}

void
metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (int src = 0; src < _SRC_MAX; src++) {
		selector_free(m->selectors[src]);
		free(m->names[src]);
	}
	table_free(&m->last);
	free(m);
}
