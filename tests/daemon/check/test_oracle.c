/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error rate, P95 and the share over the limit, against Prometheus itself: the same two scrapes of
 * random services go to metrics_take() and, as `promtool test rules`, to PromQL.  promtool belongs
 * to Debian's package prometheus; without it this test fails.
 */

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/check/metrics.h"
#include "daemon/conf.h"

enum { CASES = 150, SERIES_MAX = 6, BOUNDS_MAX = 12 };

static const double ladder[BOUNDS_MAX] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30};

/* One counter of two scrapes; NAN = absent. */
struct counter {
	double before, after;
};

struct text {
	char *s; /* owned */
	size_t len;
};

static struct text yaml, before, after;

__attribute__((format(printf, 2, 3))) static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	char buf[1024];
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	ck_assert_int_lt(n, sizeof buf);
	t->s = xrealloc(t->s, t->len + (size_t)n + 1);
	memcpy(t->s + t->len, buf, (size_t)n + 1);
	t->len += (size_t)n;
}

static long
upto(long n)
{
	return random() % n;
}

/* Resets, series that come, go, or stand still; mostly they count up. */
static struct counter
random_counter(double start, double increase)
{
	switch (upto(20)) {
	case 0:
		return (struct counter){NAN, start};
	case 1:
		return (struct counter){start, NAN};
	case 2:
		return (struct counter){start + increase + 1, increase};
	case 3:
		return (struct counter){start, start};
	default:
		return (struct counter){start, start + increase};
	}
}

static void
value(struct text *t, double v)
{
	if (isnan(v))
		add(t, "_");
	else
		add(t, "%.17g", v);
}

static void
counter(const char *series, struct counter c)
{
	add(&yaml, "      - series: '%s'\n        values: '", series);
	value(&yaml, c.before);
	add(&yaml, " ");
	value(&yaml, isnan(c.after) ? NAN : c.after);
	add(&yaml, "%s'\n", isnan(c.after) ? " stale" : "");
	if (!isnan(c.before))
		add(&before, "%s %.17g\n", series, c.before);
	if (!isnan(c.after))
		add(&after, "%s %.17g\n", series, c.after);
}

static void
requests_of(int k)
{
	static const char *const codes[] = {"200", "201", "302", "404", "500", "503"};
	static const char *const paths[] = {"/", "/internal/x", "/a\\\\b"};
	char series[256];

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		for (size_t p = 0; p < ARRAY_SIZE(paths); p++) {
			bool failed = codes[i][0] == '5';

			if (upto(4) == 0)
				continue;
			snprintf(series, sizeof series, "req_%d{code=\"%s\",path=\"%s\"}", k,
				 codes[i], paths[p]);
			counter(series, random_counter((double)upto(1000000),
						       (double)upto(failed ? 50 : 1000)));
		}
	/* There always is one, so that the name is. */
	snprintf(series, sizeof series, "req_%d{code=\"204\"}", k);
	counter(series, (struct counter){1, 1});
}

/* Cumulative buckets of one series; bounds are written in two ways. */
static void
histogram_of(int k, int instance, const double *bounds, size_t n)
{
	double start = (double)upto(1000), grow = 0;
	bool fresh = upto(12) == 0, gone = upto(12) == 0, reset = upto(8) == 0;
	char series[256], bound[32];

	for (size_t i = 0; i <= n; i++) {
		struct counter c;

		grow += upto(3) ? (double)upto(400) : 0;
		start += (double)upto(100);
		c = reset ? (struct counter){start + grow + 7, grow}
			  : (struct counter){start, start + grow};
		if (fresh && instance > 0)
			c.before = NAN;
		else if (gone && instance > 0)
			c.after = NAN;
		if (i == n)
			snprintf(bound, sizeof bound, "+Inf");
		else if (bounds[i] == floor(bounds[i]) && upto(2))
			snprintf(bound, sizeof bound, "%.1f", bounds[i]);
		else
			snprintf(bound, sizeof bound, "%g", bounds[i]);
		snprintf(series, sizeof series, "lat_%d_bucket{instance=\"%d\",le=\"%s\"}", k,
			 instance, bound);
		counter(series, c);
	}
}

/* PromQL must be the value within a billionth; NaN and "no samples" are asked for as such. */
static void
expect(struct text *tests, const char *promql, double ours)
{
	if (isnan(ours))
		add(tests,
		    "      - expr: 'absent(%s) or ((%s) != bool (%s))'\n"
		    "        eval_time: 30s\n        exp_samples: [{labels: '{}', value: 1}]\n",
		    promql, promql, promql);
	else
		add(tests,
		    "      - expr: 'abs((%s) - %.17g) <= bool %.17g'\n"
		    "        eval_time: 30s\n        exp_samples: [{labels: '{}', value: 1}]\n",
		    promql, ours, fmax(1e-12, fabs(ours) * 1e-9));
}

static struct sample
observe(const struct conf_metrics *conf, const struct metrics_limits *limits)
{
	struct metrics *m = NULL;
	struct sample s = {0};
	char *error = NULL;

	ck_assert_msg(metrics_new(conf, limits, &m, &error) == 0, "%s", error);
	metrics_take(m, &(struct exposition){before.s, before.len, NULL}, 1000 * USEC_PER_SEC, &s);
	ck_assert_msg(s.result == RESULT_OK, "%s", s.detail);
	metrics_take(m, &(struct exposition){after.s, after.len, NULL}, 1030 * USEC_PER_SEC, &s);
	ck_assert_msg(s.result == RESULT_OK, "%s", s.detail);
	metrics_free(m);
	return s;
}

static void
one_case(int k, struct text *tests)
{
	static const char *const errors[] = {
		"req_%d{code=~\"5..\"}", "req_%d{code=~\"50[03]\",path!=\"/\"}",
		"req_%d{code!~\"2..|3..|4..\",path!~\"/internal.*\"}", "req_%d{code=\"500\"}"};
	char req[32], err[96], lat[32], promql[512];
	struct conf_metrics conf = {.requests = req, .errors = err, .latency = lat};
	double bounds[BOUNDS_MAX];
	struct metrics_limits limits;
	size_t n = 0;
	struct sample s;

	before.len = after.len = 0;
	snprintf(req, sizeof req, "req_%d", k);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(err, sizeof err, errors[upto(ARRAY_SIZE(errors))], k);
#pragma GCC diagnostic pop
	snprintf(lat, sizeof lat, "lat_%d", k);
	for (size_t i = 0; i < BOUNDS_MAX; i++)
		if (upto(3))
			bounds[n++] = ladder[i];
	if (n == 0)
		bounds[n++] = 1;
	limits.latency_limit = limits.latency_warn = bounds[upto((long)n)];
	requests_of(k);
	for (int i = 0; i <= upto(3); i++)
		histogram_of(k, i, bounds, n);
	s = observe(&conf, &limits);

	snprintf(promql, sizeof promql,
		 "(sum(increase(%s[30s])) or vector(0)) / sum(increase(%s[30s]))", err, req);
	expect(tests, promql, s.rate.value);
	snprintf(promql, sizeof promql,
		 "histogram_quantile(0.95, sum by (le) (increase(%s_bucket[30s])))", lat);
	expect(tests, promql, s.latency.value);
	if (s.latency.total > 0) {
		snprintf(promql, sizeof promql,
			 "1 - sum(increase(%s_bucket{le=~\"%g|%g.0\"}[30s])) / "
			 "sum(increase(%s_bucket{le=\"+Inf\"}[30s]))",
			 lat, limits.latency_limit, limits.latency_limit, lat);
		expect(tests, promql, s.latency.bad / s.latency.total);
	}
}

static int
promtool(const char *file)
{
	char *const argv[] = {(char *)"promtool", (char *)"test", (char *)"rules", (char *)file,
			      NULL};
	extern char **environ;
	pid_t pid;
	int status, r = posix_spawnp(&pid, "promtool", NULL, NULL, argv, environ);

	ck_assert_msg(r == 0,
		      "cannot run promtool: %s; it belongs to Debian's package prometheus: make "
		      "test-deps",
		      strerror(r));
	while (waitpid(pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

START_TEST(agrees_with_prometheus)
{
	const char *given = getenv("DHASH_ORACLE_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
	char path[] = "/tmp/dhash-oracle-XXXXXX";
	struct text tests = {0};
	int fd = mkstemp(path);

	printf("DHASH_ORACLE_SEED=%u\n", seed);
	fflush(stdout);
	srandom(seed);
	ck_assert_int_ge(fd, 0);
	add(&yaml, "evaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n");
	for (int k = 0; k < CASES; k++)
		one_case(k, &tests);
	ck_assert_int_ge(dprintf(fd, "%s    promql_expr_test:\n%s", yaml.s, tests.s), 0);
	close(fd);
	ck_assert_msg(promtool(path) == 0, "promtool disagrees, see above; %s", path);
	unlink(path);
	free(tests.s);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("oracle");
	TCase *t = tcase_create("promtool");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, agrees_with_prometheus);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
