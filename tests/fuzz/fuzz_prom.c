/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus text: "FLAGS, then one or two scrapes with a NUL between them".
 *
 * What was parsed and is written again in the plainest form parses to the same.  A scrape's figures
 * are counts: finite, not negative, no more errors than requests, whatever the exporter says.
 */

#include <errno.h>
#include <math.h>

#include "common/util.h"
#include "daemon/check/metrics.h"
#include "daemon/check/prom.h"
#include "daemon/conf.h"
#include "tests/fuzz/fuzz.h"

struct text {
	char *s; /* owned */
	size_t len, cap, samples;
	unsigned odd; /* values that are not finite */
};

static void
put(struct text *t, const char *s, size_t n)
{
	if (t->len + n + 1 > t->cap) {
		t->cap = (t->len + n + 1) * 2;
		t->s = realloc(t->s, t->cap);
	}
	memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = '\0';
}

static void
put_value(struct text *t, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			put(t, "\\", 1);
		put(t, *value == '\n' ? "n" : value, 1);
	}
}

static void
on_sample(void *arg, const char *name, const struct label *labels, size_t n, double value)
{
	struct text *t = arg;
	char number[64];

	INSIST(*name && !strpbrk(name, " \t\n{}\""), "a metric is called \"%s\"", name);
	INSIST(n <= PROM_LABELS_MAX, "%zu labels", n);
	put(t, name, strlen(name));
	put(t, "{", 1);
	for (size_t i = 0; i < n; i++) {
		put(t, labels[i].name, strlen(labels[i].name));
		put(t, "=\"", 2);
		put_value(t, labels[i].value);
		put(t, "\",", 2);
	}
	snprintf(number, sizeof number, "} %.17g\n", value);
	put(t, number, strlen(number));
	t->samples++;
	t->odd += !isfinite(value);
}

static void
round_trip(const char *text, size_t len)
{
	char *copy = malloc(len + 1), *error = NULL;
	struct text once = {0}, twice = {0};
	int r;

	memcpy(copy, text, len + 1);
	r = prom_parse(copy, len, on_sample, &once, &error);
	INSIST(r == 0 || r == -EBADMSG, "prom_parse() returned %d", r);
	INSIST((r == 0) == (error == NULL), "returned %d", r);
	INSIST(!error || strncmp(error, "line ", 5) == 0 || strstr(error, "NUL"), "%s", error);
	free(error);
	error = NULL;
	if (once.s) {
		char *again = strdup(once.s);

		INSIST(prom_parse(again, once.len, on_sample, &twice, &error) == 0, "%s in\n%s",
		       error, once.s);
		INSIST(twice.s && streq(once.s, twice.s), "%s\nbecame\n%s", once.s, twice.s);
		free(again);
	}
	INSIST(!once.odd || strcasestr(text, "nan") || strcasestr(text, "inf"),
	       "no finite number, though none is there: %s", once.s);
	free(once.s);
	free(twice.s);
	free(copy);
}

static void
counts(const struct series *s, const char *what)
{
	if (s->result != RESULT_OK || s->gauge)
		return;
	INSIST(isfinite(s->total) && s->total >= 0, "%s: total %g", what, s->total);
	INSIST(isfinite(s->bad) && s->bad >= 0 && s->bad <= s->total, "%s: %g of %g are bad", what,
	       s->bad, s->total);
	INSIST(isfinite(s->bad_warn) && s->bad_warn >= 0 && s->bad_warn <= s->total,
	       "%s: %g of %g are near it", what, s->bad_warn, s->total);
}

static void
scrape(struct metrics *m, const char *text, size_t len, usec_t at, bool open_metrics)
{
	struct exposition x = {.text = malloc(len + 1), .len = len};
	struct sample s = {0};

	memcpy(x.text, text, len + 1);
	if (open_metrics)
		x.type = "application/openmetrics-text; version=1.0.0";
	metrics_take(m, &x, at, &s);
	INSIST(s.result == RESULT_OK || s.result == RESULT_NO_DATA, "result %d", s.result);
	counts(&s.rate, "rate");
	counts(&s.latency, "latency");
	INSIST(s.rate.gauge || !(s.rate.value < 0) || s.rate.result != RESULT_OK, "share %g",
	       s.rate.value);
	INSIST(s.rate.gauge || !(s.rate.value > 1) || s.rate.result != RESULT_OK, "share %g",
	       s.rate.value);
	free(x.text);
}

static struct metrics *
make(bool gauges)
{
	static char requests[] = "r", errors[] = "r{code=~\"5..\"}", latency[] = "l";
	static char ratio[] = "g", p95[] = "p{a!=\"b\"}";
	static const struct conf_metrics counters_conf = {
		.requests = requests, .errors = errors, .latency = latency};
	static const struct conf_metrics gauges_conf = {.error_ratio = ratio, .p95 = p95};
	static const struct metrics_limits limits = {.latency_limit = 5, .latency_warn = 2};
	struct metrics *m = NULL;
	char *error = NULL;

	INSIST(metrics_new(gauges ? &gauges_conf : &counters_conf, &limits, &m, &error) == 0, "%s",
	       error);
	return m;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t flags = feed_byte(&f);
	char *first = feed_string(&f), *second;
	struct metrics *m = make(flags & 1);
	size_t len;

	second = feed_rest(&f, &len);
	scrape(m, first, strlen(first), USEC_PER_SEC, flags & 2);
	scrape(m, second, len, 31 * USEC_PER_SEC, flags & 2);
	metrics_free(m);
	round_trip(first, strlen(first));
	round_trip(second, len);
	free(first);
	free(second);
	return 0;
}
