/* SPDX-License-Identifier: Apache-2.0 */
/* The text format: what is read, what is refused and where, and nothing read past the end. */

#include <check.h>
#include <errno.h>
#include <math.h>
#include <time.h>

#include "common/util.h"
#include "daemon/check/prom.h"

static struct {
	unsigned n;
	char last[512]; /* name{label=value,…} value */
} got;

static void
on_sample(void *arg, const char *name, const struct label *labels, size_t n, double value)
{
	size_t used;

	got.n++;
	used = (size_t)snprintf(got.last, sizeof got.last, "%s{", name);
	for (size_t i = 0; i < n && used < sizeof got.last; i++)
		used += (size_t)snprintf(got.last + used, sizeof got.last - used, "%s%s=%s",
					 i ? "," : "", labels[i].name, labels[i].value);
	if (used < sizeof got.last)
		snprintf(got.last + used, sizeof got.last - used, "} %g", value);
}

/* In a block of exactly its size, so that a sanitizer sees a step past the end. */
static int
parse_bytes(const char *text, size_t len, char **ret_error)
{
	char *copy = xmalloc(len + 1);
	int r;

	memcpy(copy, text, len);
	copy[len] = '\0';
	memset(&got, 0, sizeof got);
	*ret_error = NULL;
	r = prom_parse(copy, len, on_sample, NULL, ret_error);
	ck_assert((r == 0) == (*ret_error == NULL));
	free(copy);
	return r;
}

static void
good(const char *text, unsigned n, const char *last)
{
	char *error;
	int r = parse_bytes(text, strlen(text), &error);

	ck_assert_msg(r == 0, "%s: %s", text, error ? error : "");
	ck_assert_msg(got.n == n, "%s: %u samples, not %u", text, got.n, n);
	if (last)
		ck_assert_str_eq(got.last, last);
}

static void
bad(const char *text, const char *part)
{
	char *error;
	int r = parse_bytes(text, strlen(text), &error);

	ck_assert_msg(r == -EBADMSG, "%s: %d", text, r);
	ck_assert_msg(strstr(error, part) != NULL, "%s: \"%s\" lacks \"%s\"", text, error, part);
	free(error);
}

START_TEST(samples)
{
	good("", 0, NULL);
	good("\n\n", 0, NULL);
	good("# HELP a b\n# TYPE a counter\n#nothing\n", 0, NULL);
	good("a 1\n", 1, "a{} 1");
	good("a 1", 1, "a{} 1");
	good("a\t1\r\n", 1, "a{} 1");
	good("  a   1  \n", 1, "a{} 1");
	good("a:b_c9 1e3 1395066363000\n", 1, "a:b_c9{} 1000");
	good("a{} 1\n", 1, "a{} 1");
	good("a{x=\"1\"} 2\n", 1, "a{x=1} 2");
	good("a { x = \"1\" , y=\"2\", } 3 -7\n", 1, "a{x=1,y=2} 3");
	good("a{x=\"\\\\ \\\" \\n}{,\"} 1\n", 1, "a{x=\\ \" \n}{,} 1");
	good("a{x=\"\"} +Inf\nb -Inf\nc NaN\n", 3, "c{} nan");
	good("a nan\n", 1, "a{} nan");
	good("a inf\n", 1, "a{} inf");
	good("a +INF\n", 1, "a{} inf");
	good("a -Infinity 5\n", 1, "a{} -inf");
	good("a -1.5e-3\n", 1, "a{} -0.0015");
	good("a +.5\n", 1, "a{} 0.5");
	good("a 5.\n", 1, "a{} 5");
	good("a 1e-999\n", 1, "a{} 0");
	good("a 1 -1.5\n", 1, "a{} 1");
	good("a 1 # {trace=\"x\"} 0.5 123.4\n# EOF\n", 1, "a{} 1");
	good("a{b=\"c\"} 1 5 # {trace=\"x\",} -1e3\n", 1, "a{b=c} 1");
	good("a 1 # {} +Inf 1.5e9\r\n", 1, "a{} 1");
	good("a 1\n\nb 2\n", 2, "b{} 2");
	good("a{x=\"\xc3\xa4\"} 1\n", 1, "a{x=\xc3\xa4} 1");
}
END_TEST

START_TEST(errors_name_their_line)
{
	bad("a\n", "line 1");
	bad("a 1\nb\n", "line 2");
	bad("# x\n\na 1\n9b 1\n", "line 4 of the metrics: expected a metric's name");
	bad("a{x=1} 1\n", "not quoted");
	bad("a{x=\"1} 1\n", "not closed");
	bad("a{x=\"\\t\"} 1\n", "unknown escape");
	bad("a{x=\"\\", "unknown escape");
	bad("a{x} 1\n", "expected =");
	bad("a{x=\"1\" y=\"2\"} 1\n", "expected ,");
	bad("a{,} 1\n", "label's name");
	bad("a{x:y=\"1\"} 1\n", "expected =");
	bad("a{x=\"1\"\n", "expected ,");
	bad("a{x=\"1\"}\n", "value is missing");
	bad("a 0x10\n", "no number");
	bad("a nanx\n", "no number");
	bad("a +nan\n", "no number");
	bad("a -\n", "no number");
	bad("a infi\n", "no number");
	bad("a 1_0\n", "no number");
	bad("a 1e999\n", "too large");
	bad("a 1.2.3\n", "no number");
	bad("a 1 x\n", "timestamp is no number");
	bad("a 1 2 3\n", "behind the value");
	bad("a 1 NaN\n", "timestamp is no number");
	bad("a 1 # a comment\n", "no exemplar");
	bad("a 1 #\n", "no exemplar");
	bad("a 1 # {x=\"1\"}\n", "exemplar's value");
	bad("a 1 # {x=\"1\"} y\n", "exemplar's value");
	bad("a 1 # {x=1} 1\n", "not quoted");
	bad("a 1 # {x=\"1\"} 1 2 3\n", "behind the value");
	bad("a 1 # {x=\"1\"} 1 # {x=\"1\"} 1\n", "behind the value");
	bad("a1{}x 1\n", "no number");
	bad("-a 1\n", "metric's name");
	bad("<html>\n", "line 1");
}
END_TEST

START_TEST(a_nul_byte_and_too_many_labels_are_refused)
{
	char text[4096], *error;
	size_t n = 0;

	ck_assert_int_eq(parse_bytes("a 1\n\0b 2\n", 9, &error), -EBADMSG);
	ck_assert(strstr(error, "NUL") != NULL);
	free(error);
	n += (size_t)snprintf(text, sizeof text, "a{");
	for (unsigned i = 0; i < PROM_LABELS_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "l%u=\"v\",", i);
	snprintf(text + n, sizeof text - n, "} 1\n");
	good(text, 1, NULL);
	snprintf(text + n, sizeof text - n, "more=\"v\"} 1\n");
	bad(text, "more than 64 labels");
}
END_TEST

/* Long things of every kind: read whole, or refused, in time that grows with their length only. */
START_TEST(huge_lines_and_very_many_series)
{
	enum { LONG = 4 << 20, MANY = 100000 };
	char *text = xmalloc(LONG + 64);
	size_t n = 0;

	memset(text, 'x', LONG);
	text[LONG] = '\0';
	bad(text, "value is missing");
	strcpy(text + LONG, " 1\n");
	good(text, 1, NULL);
	memset(text, '1', LONG);
	memcpy(text, "a ", 2);
	bad(text, "line 1");
	memset(text, '\\', LONG);
	memcpy(text, "a{b=\"", 5);
	text[LONG - 1] = '"';
	strcpy(text + LONG, "} 1\n");
	good(text, 1, NULL);
	memset(text, ' ', LONG);
	text[LONG] = '\0';
	good(text, 0, NULL);
	memset(text, '\n', LONG);
	strcpy(text + LONG, "!");
	bad(text, "line 4194305 of");
	memset(text, '{', LONG);
	bad(text, "line 1");
	for (unsigned i = 0; i < MANY; i++)
		n += (size_t)sprintf(text + n, "m{a=\"%u\"} %u\n", i, i);
	good(text, MANY, "m{a=99999} 99999");
	free(text);
}
END_TEST

static const char document[] =
	"# HELP http_requests_total The total number of HTTP requests.\n"
	"# TYPE http_requests_total counter\n"
	"http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n"
	"http_requests_total{method=\"post\",code=\"400\"}    3 1395066363000\n\n"
	"msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"No\\n\\\"x\\\"\"} "
	"1.458255915e9\n"
	"metric_without_timestamp_and_labels 12.47\r\n"
	"something_weird{problem=\"division by zero\"} +Inf -3982045\n"
	"http_request_duration_seconds_bucket{le=\"+Inf\"} 144320 # {id=\"1\"} 1\n"
	"# EOF\n";

/* Cut anywhere, the whole lines are read, and the cut one is read or refused by its number. */
START_TEST(cut_at_every_byte)
{
	unsigned lines = 0, whole = 0;

	for (size_t n = 0; n < sizeof document; n++) {
		char *error, line[32];
		int r = parse_bytes(document, n, &error);

		snprintf(line, sizeof line, "line %u of", lines + 1);
		if (r < 0)
			ck_assert_msg(strstr(error, line) == error, "%zu: %s", n, error);
		ck_assert_msg(got.n == whole || (r == 0 && got.n == whole + 1), "%zu: %u", n,
			      got.n);
		free(error);
		if (document[n] != '\n')
			continue;
		lines++;
		ck_assert_msg(r == 0, "%zu: a whole line", n);
		whole = got.n;
	}
	good(document, 6, "http_request_duration_seconds_bucket{le=+Inf} 144320");
}
END_TEST

START_TEST(random_damage_is_survived)
{
	const char *given = getenv("DHASH_PROM_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);

	printf("DHASH_PROM_SEED=%u\n", seed);
	fflush(stdout);
	srandom(seed);
	for (int i = 0; i < 20000; i++) {
		static const char odd[] = "\0\n\r\t {}\"\\=,#+-0.9eNIa\x80\xff";
		char text[sizeof document], *error;

		memcpy(text, document, sizeof text);
		for (long k = random() % 8; k >= 0; k--)
			text[(size_t)random() % (sizeof text - 1)] =
				odd[(size_t)random() % (sizeof odd - 1)];
		parse_bytes(text, sizeof text - 1, &error);
		free(error);
	}
}
END_TEST

/* conventions of Prometheus's BucketQuantile */
START_TEST(quantiles)
{
	static const double le[] = {.05, .1, .2, .5, 1, INFINITY},
			    counts[] = {500, 700, 900, 950, 980, 1000};
	static const struct {
		double q, expected;
	} rows[] = {{.95, .5}, {.97, .8333333333333333}, {.99, 1}, {.5, .05}, {.25, .025}, {1, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int order = 0; order < 2; order++) {
			double l[6], c[6];

			for (size_t k = 0; k < 6; k++) {
				l[order ? 5 - k : k] = le[k];
				c[order ? 5 - k : k] = counts[k];
			}
			ck_assert_double_eq_tol(prom_quantile(rows[i].q, l, c, 6), rows[i].expected,
						1e-12);
		}
}
END_TEST

START_TEST(quantiles_of_odd_histograms)
{
	ck_assert(isnan(prom_quantile(.95, NULL, NULL, 0)));
	ck_assert(isnan(prom_quantile(.95, (double[]){INFINITY}, (double[]){5}, 1)));
	ck_assert(isnan(prom_quantile(.95, (double[]){1, 2}, (double[]){5, 6}, 2)));
	ck_assert(isnan(prom_quantile(.95, (double[]){1, INFINITY}, (double[]){0, 0}, 2)));
	ck_assert(isnan(prom_quantile(NAN, (double[]){1, INFINITY}, (double[]){1, 2}, 2)));
	/* Equal bounds are one bucket; falling counts are made level. */
	ck_assert_double_eq_tol(
		prom_quantile(.5, (double[]){1, 1, INFINITY}, (double[]){2, 2, 4}, 3), .5, 1e-12);
	ck_assert_double_eq_tol(
		prom_quantile(.5, (double[]){1, 2, INFINITY}, (double[]){4, 3, 4}, 3), .5, 1e-12);
	/* A first bucket with a bound of 0 or under has no lower edge. */
	ck_assert_double_eq_tol(
		prom_quantile(.5, (double[]){-1, 2, INFINITY}, (double[]){4, 4, 4}, 3), -1, 1e-12);
	/* Beyond the last finite bound nothing is known but the bound. */
	ck_assert_double_eq_tol(prom_quantile(.95, (double[]){1, INFINITY}, (double[]){1, 100}, 2),
				1, 1e-12);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("prom");
	TCase *t = tcase_create("text");
	SRunner *r;
	int failed;

	tcase_add_test(t, samples);
	tcase_add_test(t, errors_name_their_line);
	tcase_add_test(t, a_nul_byte_and_too_many_labels_are_refused);
	tcase_add_test(t, huge_lines_and_very_many_series);
	tcase_add_test(t, cut_at_every_byte);
	tcase_add_test(t, random_damage_is_survived);
	tcase_add_test(t, quantiles);
	tcase_add_test(t, quantiles_of_odd_histograms);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
