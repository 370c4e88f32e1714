/* SPDX-License-Identifier: Apache-2.0 */
/* From one exposition to the next: differences, resets, series that come and go, what is missing.
 */

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/check/metrics.h"
#include "daemon/conf.h"

static const struct metrics_limits limits = {.latency_limit = 5, .latency_warn = 2};
static struct conf_metrics conf;
static struct metrics *m;
static usec_t at;
static struct sample s;
static const char *type;

static void
set_up(void)
{
	conf = (struct conf_metrics){
		.requests = (char *)"req",
		.errors = (char *)"req{code=~\"5..\"}",
		.latency = (char *)"lat",
	};
	at = 1000 * USEC_PER_SEC;
	type = NULL;
}

static void
tear_down(void)
{
	metrics_free(m);
	m = NULL;
}

/* 30 s later than the last one. */
static void
scrape(const char *fmt, ...)
{
	char *error = NULL, text[4096];
	va_list ap;

	if (!m)
		ck_assert_msg(metrics_new(&conf, &limits, &m, &error) == 0, "%s", error);
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	memset(&s, 0, sizeof s);
	metrics_take(m, &(struct exposition){text, strlen(text), type}, at, &s);
	at += 30 * USEC_PER_SEC;
}

#define NO_LATENCY "lat_bucket{le=\"+Inf\"} 0\n"
#define REQ(ok, bad) "req{code=\"200\"} " #ok "\nreq{code=\"500\"} " #bad "\n"

static void
rate(double bad, double total)
{
	ck_assert_int_eq(s.rate.result, RESULT_OK);
	ck_assert_int_eq(s.rate.span, 30 * USEC_PER_SEC);
	ck_assert_double_eq(s.rate.bad, bad);
	ck_assert_double_eq(s.rate.total, total);
	if (total > 0)
		ck_assert_double_eq(s.rate.value, bad / total);
	else
		ck_assert(isnan(s.rate.value));
}

START_TEST(first_scrape_has_no_difference)
{
	scrape(REQ(100, 5) NO_LATENCY);
	ck_assert_int_eq(s.result, RESULT_OK);
	ck_assert_int_eq(s.rate.result, RESULT_NO_DATA);
	ck_assert_int_eq(s.latency.result, RESULT_NO_DATA);
	scrape(REQ(190, 15) NO_LATENCY);
	rate(10, 100);
	scrape(REQ(190, 15) NO_LATENCY);
	rate(0, 0);
	metrics_reset(m);
	scrape(REQ(290, 15) NO_LATENCY);
	ck_assert_int_eq(s.rate.result, RESULT_NO_DATA);
}
END_TEST

START_TEST(a_counter_that_fell_counts_from_zero)
{
	scrape(REQ(1000, 50) NO_LATENCY);
	scrape(REQ(30, 4) NO_LATENCY);
	rate(4, 34);
	scrape(REQ(40, 4) NO_LATENCY);
	rate(0, 10);
}
END_TEST

START_TEST(series_that_come_and_go)
{
	scrape("req{code=\"200\",i=\"a\"} 100\n" NO_LATENCY);
	/* b is new: from where it counted is not known. */
	scrape("req{code=\"200\",i=\"a\"} 110\nreq{i=\"b\",code=\"500\"} 70\n" NO_LATENCY);
	rate(0, 10);
	/* a has gone, b goes on; the order of the labels is no matter. */
	scrape("req{code=\"500\",i=\"b\"} 75\n" NO_LATENCY);
	rate(5, 5);
	/* a is back: new again. */
	scrape("req{code=\"200\",i=\"a\"} 120\nreq{code=\"500\",i=\"b\"} 75\n" NO_LATENCY);
	rate(0, 0);
}
END_TEST

START_TEST(same_values_under_other_names_are_other_series)
{
	scrape("req{code=\"200\",a=\"b\"} 1\nreq{code=\"200\",b=\"a\"} 5\n" NO_LATENCY);
	scrape("req{code=\"200\",a=\"b\"} 2\nreq{code=\"200\",b=\"a\"} 50\n" NO_LATENCY);
	rate(0, 46);
	scrape("req{code=\"200\",ab=\"c\"} 2\nreq{code=\"200\",a=\"bc\"} 50\n" NO_LATENCY);
	rate(0, 0);
}
END_TEST

/* Of three sources with the same labels, whatever the bound: none takes another's place. */
START_TEST(sources_are_kept_apart)
{
	static const char *const bounds[] = {"0", "1", "2", "2.0", "3", "0.1", "2.5", "5", "10"};
	static const char *const label[] = {"", "i=\"a\"", "i=\"b\"", "i=\"c\"", "i=\"d\""};

	conf.errors = (char *)"err";
	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
		for (size_t k = 0; k < ARRAY_SIZE(label); k++) {
			static const char text[] = "req{%s} %d\nerr{%s} %d\n"
						   "lat_bucket{%s,le=\"%s\"} %d\n"
						   "lat_bucket{%s,le=\"+Inf\"} %d\n";
			const char *l = label[k], *x = *l ? l : "i=\"\"";

			tear_down();
			scrape(text, l, 1000, l, 50, x, bounds[i], 7, x, 9);
			scrape(text, l, 1100, l, 53, x, bounds[i], 8, x, 11);
			rate(3, 100);
			ck_assert_double_eq(s.latency.total, 2);
			tear_down();
			scrape("lat_bucket{le=\"%s\"} 7\n" NO_LATENCY "err 1\nreq{%s} 1000\n",
			       bounds[i], l);
			scrape("lat_bucket{le=\"%s\"} 7\n" NO_LATENCY "err 1\nreq{%s} 1001\n",
			       bounds[i], l);
			rate(0, 1);
		}
}
END_TEST

START_TEST(missing_names_are_named_and_lose_nothing)
{
	scrape(REQ(100, 0) NO_LATENCY);
	scrape("other 1\n");
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
	ck_assert_str_eq(s.detail, "the source has no req, req, lat_bucket");
	scrape("req{code=\"200\"} \n");
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
	ck_assert(strstr(s.detail, "line 1") != NULL);
	/* What was counted before is not forgotten: this difference spans the gap. */
	scrape(REQ(130, 10) NO_LATENCY);
	ck_assert_int_eq(s.rate.span, 90 * USEC_PER_SEC);
	ck_assert_double_eq(s.rate.total, 40);
}
END_TEST

START_TEST(no_error_yet_is_no_missing_name)
{
	scrape("req{code=\"200\"} 10\n" NO_LATENCY);
	scrape("req{code=\"200\"} 20\n" NO_LATENCY);
	rate(0, 10);
}
END_TEST

static const char histogram[] = "req 0\n"
				"lat_bucket{le=\"%s\"} %d\nlat_bucket{le=\"2.0\"} %d\n"
				"lat_bucket{le=\"5\"} %d\nlat_bucket{le=\"+Inf\"} %d\n"
				"lat_sum 1\nlat_count %d\n";

START_TEST(latency_from_buckets)
{
	scrape(histogram, "1.0", 10, 20, 30, 40, 40);
	/* "1" and "1.0" are the same bound. */
	scrape(histogram, "1", 10 + 900, 20 + 950, 30 + 980, 40 + 1000, 1040);
	ck_assert_int_eq(s.latency.result, RESULT_OK);
	ck_assert_double_eq(s.latency.total, 1000);
	ck_assert_double_eq(s.latency.bad, 20);
	ck_assert_double_eq(s.latency.bad_warn, 50);
	ck_assert_double_eq_tol(s.latency.value, 2, 1e-9);
	ck_assert_str_eq(s.detail, "");
}
END_TEST

START_TEST(bounds_that_all_but_agree_are_others)
{
	static const char text[] = "req 0\nlat_bucket{le=\"4.999999999\"} %d\n"
				   "lat_bucket{le=\"5\"} %d\nlat_bucket{le=\"+Inf\"} %d\n";

	scrape(text, 1, 1, 1);
	scrape(text, 51, 91, 101);
	ck_assert_double_eq(s.latency.total, 100);
	ck_assert_double_eq(s.latency.bad, 10);
}
END_TEST

START_TEST(limit_between_bounds_uses_the_one_below_and_says_so)
{
	scrape("req 0\nlat_bucket{le=\"2\"} 0\nlat_bucket{le=\"8\"} 0\nlat_bucket{le=\"+Inf\"} "
	       "0\n");
	scrape("req 0\nlat_bucket{le=\"2\"} 90\nlat_bucket{le=\"8\"} 97\n"
	       "lat_bucket{le=\"+Inf\"} 100\n");
	ck_assert_double_eq(s.latency.bad, 10);
	ck_assert_str_eq(s.detail, "no bucket at the limit of 5s: 2s, the next below, is used");
	ck_assert_double_eq_tol(s.latency.value, 2 + 6 * 5 / 7.0, 1e-9);
}
END_TEST

/* Every request would count as slow. */
START_TEST(without_a_bound_below_the_limit_nothing_is_slow)
{
	static const char text[] = "req 1\nlat_bucket{le=\"8\"} %d\nlat_bucket{le=\"+Inf\"} %d\n";
	char probed[] = "req 1\nlat_bucket{le=\"8\"} 1\nlat_bucket{le=\"+Inf\"} 1\n", *said = NULL;

	scrape(text, 0, 0);
	scrape(text, 100, 100);
	ck_assert_int_eq(s.rate.result, RESULT_OK);
	ck_assert_int_eq(s.latency.result, RESULT_NO_DATA);
	ck_assert_str_eq(s.detail, "no bucket at or below the limit of 5s: P95 cannot be judged");
	ck_assert_int_eq(
		metrics_probe(m, &(struct exposition){probed, strlen(probed), NULL}, &said),
		-ENOENT);
	ck_assert_ptr_nonnull(strstr(said, "give the histogram a bucket there"));
	free(said);
}
END_TEST

START_TEST(the_gate_names_the_bound_that_is_used)
{
	char text[] = "req 1\nlat_bucket{le=\"2\"} 1\nlat_bucket{le=\"+Inf\"} 1\n", *said = NULL;

	scrape(REQ(1, 1) NO_LATENCY);
	ck_assert_int_eq(metrics_probe(m, &(struct exposition){text, strlen(text), NULL}, &said),
			 0);
	ck_assert_ptr_nonnull(strstr(said, "2s, the next below, is used"));
	free(said);
}
END_TEST

START_TEST(buckets_of_several_series_add_up)
{
	static const char two[] = "req 0\n"
				  "lat_bucket{i=\"a\",le=\"5\"} %d\n"
				  "lat_bucket{i=\"a\",le=\"+Inf\"} %d\n"
				  "lat_bucket{le=\"5\",i=\"b\"} %d\n"
				  "lat_bucket{le=\"+Inf\",i=\"b\"} %d\n";

	scrape(two, 1, 1, 1, 1);
	scrape(two, 91, 101, 11, 101);
	ck_assert_double_eq(s.latency.total, 200);
	ck_assert_double_eq(s.latency.bad, 100);
}
END_TEST

START_TEST(gauges_are_read_as_they_are)
{
	conf = (struct conf_metrics){.error_ratio = (char *)"ratio", .p95 = (char *)"p95{q=\"1\"}"};
	scrape("ratio{i=\"a\"} 0.02\nratio{i=\"b\"} 0.3\np95{q=\"1\"} 4\np95{q=\"2\"} 9\n");
	ck_assert(s.rate.gauge && s.latency.gauge);
	ck_assert_double_eq(s.rate.value, 0.3); /* the worst of several */
	ck_assert_double_eq(s.latency.value, 4);
	scrape("ratio NaN\np95{q=\"1\"} 4\n");
	ck_assert_int_eq(s.rate.result, RESULT_NO_DATA);
	ck_assert_int_eq(s.latency.result, RESULT_OK);
}
END_TEST

START_TEST(nan_counters_and_odd_bounds_are_passed_over)
{
	scrape("req 10\nlat_bucket{le=\"x\"} 1\nlat_bucket{le=\"NaN\"} 1\nlat_bucket{le=\"5\"} 1\n"
	       "lat_bucket 7\nlat_bucket{le=\"+Inf\"} 1\n");
	scrape("req NaN\nlat_bucket{le=\"x\"} 9\nlat_bucket{le=\"NaN\"} 9\nlat_bucket{le=\"5\"} 2\n"
	       "lat_bucket 7\nlat_bucket{le=\"+Inf\"} 3\n");
	rate(0, 0);
	ck_assert_double_eq(s.latency.total, 2);
	ck_assert_double_eq(s.latency.bad, 1);
}
END_TEST

/* Inf - Inf would be NaN, and NaN in one sum is NaN in all that follow. */
START_TEST(what_is_no_count_spoils_no_sum)
{
	for (int i = 0; i < 3; i++) {
		scrape("req{i=\"a\",code=\"500\"} +Inf\nreq{i=\"b\"} -%d\nreq{i=\"c\"} %d\n"
		       "lat_bucket{le=\"5\"} +Inf\nlat_bucket{le=\"+Inf\"} %d\n",
		       10 - i, i * 10, i);
		if (i == 0)
			continue;
		rate(0, 10);
		ck_assert_double_eq(s.latency.total, 1);
		ck_assert(isfinite(s.latency.bad));
	}
}
END_TEST

/* Each of them finite, and their sum not. */
START_TEST(counts_beyond_counting_are_passed_over)
{
	for (int i = 0; i < 2; i++)
		scrape("req{i=\"a\"} %d\nreq{i=\"b\"} %s\nreq{i=\"c\",code=\"500\"} %s\n"
		       "lat_bucket{le=\"+Inf\"} %d\nlat_bucket{le=\"+Inf\",i=\"b\"} %s\n"
		       "lat_bucket{le=\"5\",i=\"c\"} %s\n",
		       i * 10, i ? "1.7e308" : "0", i ? "1.7e308" : "0", i, i ? "1.7e308" : "0",
		       i ? "1.7e308" : "0");
	rate(0, 10);
	ck_assert_double_eq(s.latency.total, 1);
	ck_assert(isfinite(s.latency.bad) && s.latency.bad <= 1);
}
END_TEST

/* The vector of the conventions, as differences over a history. */
START_TEST(p95_of_the_known_vector)
{
	static const char format[] = "req 0\nlat_bucket{le=\"+Inf\"} %d\n"
				     "lat_bucket{le=\"1.0\"} %d\nlat_bucket{le=\"0.5\"} %d\n"
				     "lat_bucket{le=\"0.20\"} %d\nlat_bucket{le=\"0.1\"} %d\n"
				     "lat_bucket{le=\"5e-2\"} %d\n";

	scrape(format, 77, 70, 60, 50, 40, 30);
	scrape(format, 1077, 1050, 1010, 950, 740, 530);
	ck_assert_double_eq_tol(s.latency.value, .5, 1e-12);
	ck_assert_double_eq(s.latency.total, 1000);
}
END_TEST

START_TEST(p95_beyond_the_last_bound_is_that_bound)
{
	scrape(histogram, "1", 0, 0, 0, 0, 0);
	scrape(histogram, "1", 10, 20, 30, 100, 100);
	ck_assert_double_eq(s.latency.value, 5);
	ck_assert_double_eq(s.latency.bad, 70);
	ck_assert_double_eq(s.latency.bad_warn, 80);
}
END_TEST

START_TEST(no_traffic_has_no_p95)
{
	scrape(histogram, "1", 1, 2, 3, 4, 4);
	scrape(histogram, "1", 1, 2, 3, 4, 4);
	ck_assert_int_eq(s.latency.result, RESULT_OK);
	ck_assert_double_eq(s.latency.total, 0);
	ck_assert_double_eq(s.latency.bad, 0);
	ck_assert(isnan(s.latency.value));
}
END_TEST

START_TEST(bad_selectors_are_refused)
{
	char *error = NULL;

	conf.errors = (char *)"req{code=~\"(\"}";
	ck_assert_int_eq(metrics_new(&conf, &limits, &m, &error), -EINVAL);
	ck_assert_ptr_null(m);
	ck_assert_ptr_nonnull(strstr(error, "column"));
	free(error);
}
END_TEST

START_TEST(errors_never_outnumber_requests)
{
	conf.errors = (char *)"err";
	scrape("req 10\nerr 0\n" NO_LATENCY);
	scrape("req 12\nerr 5\n" NO_LATENCY);
	rate(2, 2);
}
END_TEST

START_TEST(probe_names_what_is_missing)
{
	char text[] = "req 1\n", broken[] = "req\n",
	     whole[] = "req 1\nlat_bucket{le=\"5\"} 0\n" NO_LATENCY, *said = NULL;

	scrape(REQ(1, 1) NO_LATENCY);
	ck_assert_int_eq(metrics_probe(m, &(struct exposition){text, strlen(text), NULL}, &said),
			 -ENOENT);
	ck_assert(strstr(said, "lat_bucket") && !strstr(said, "req,"));
	free(said);
	ck_assert_int_eq(
		metrics_probe(m, &(struct exposition){broken, strlen(broken), NULL}, &said),
		-EBADMSG);
	free(said);
	ck_assert_int_eq(metrics_probe(m, &(struct exposition){whole, strlen(whole), NULL}, &said),
			 0);
	free(said);
	/* Probing is no scrape. */
	scrape(REQ(3, 1) NO_LATENCY);
	rate(0, 2);
}
END_TEST

/* Prometheus drops the second; counted twice, one error would be two. */
START_TEST(a_series_told_twice_counts_once)
{
	scrape("req{a=\"x\",code=\"500\"} 10\nreq{code=\"500\",a=\"x\"} 10\n"
	       "lat_bucket{le=\"+Inf\"} 5\nlat_bucket{le=\"+Inf\"} 5\n");
	scrape("req{a=\"x\",code=\"500\"} 14\nreq{code=\"500\",a=\"x\"} 99\n"
	       "lat_bucket{le=\"+Inf\"} 8\nlat_bucket{le=\"+Inf\"} 8\n");
	rate(4, 4);
	ck_assert_double_eq(s.latency.total, 3);
	scrape("req{a=\"x\",code=\"500\"} 15\n" NO_LATENCY);
	rate(1, 1);
}
END_TEST

START_TEST(a_histogram_without_a_last_bucket_is_no_data)
{
	scrape("req 1\nlat_bucket{le=\"1\"} 5\nlat_bucket{le=\"9\"} 5\n");
	scrape("req 2\nlat_bucket{le=\"1\"} 5\nlat_bucket{le=\"9\"} 9\n");
	ck_assert_int_eq(s.rate.result, RESULT_OK);
	ck_assert_int_eq(s.latency.result, RESULT_NO_DATA);
	ck_assert_str_eq(s.detail, "the latency histogram has no +Inf bucket");
}
END_TEST

#define OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Cut at any line, it would pass for a whole one with fewer errors. */
START_TEST(openmetrics_must_have_its_end)
{
	char cut[] = "req 1\n" NO_LATENCY, *said = NULL;

	type = OPENMETRICS;
	scrape(REQ(1, 1) NO_LATENCY "# EOF\n");
	ck_assert_int_eq(s.result, RESULT_OK);
	scrape(REQ(2, 2) NO_LATENCY);
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
	ck_assert_str_eq(s.detail, "the OpenMetrics text is cut off: it lacks # EOF at its end");
	scrape(REQ(2, 2) NO_LATENCY "# EO");
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
	scrape("# EOF\n" REQ(2, 2) NO_LATENCY "# EOF\n");
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
	ck_assert_str_eq(s.detail, "the OpenMetrics text goes on behind its # EOF");
	ck_assert_int_eq(metrics_probe(m, &(struct exposition){cut, strlen(cut), type}, &said),
			 -EBADMSG);
	free(said);
	scrape(REQ(3, 4) NO_LATENCY "# EOF");
	ck_assert_double_eq(s.rate.total, 5); /* of the refused nothing was taken */
	type = "text/plain; version=0.0.4";   /* which has no end that shows */
	scrape(REQ(4, 4) NO_LATENCY);
	rate(0, 1);
}
END_TEST

/* An exemplar's labels are not its sample's, and its value counts for nothing. */
START_TEST(exemplars_and_timestamps_change_nothing)
{
	scrape("req{code=\"200\"} 1 # {code=\"500\"} 7 1.5\n"
	       "lat_bucket{le=\"5\"} 1 123 # {le=\"1\"} 4\nlat_bucket{le=\"+Inf\"} 1 999\n");
	scrape("req{code=\"200\"} 3 # {code=\"500\"} 9 2.5\n"
	       "lat_bucket{le=\"5\"} 2 123 # {le=\"1\"} 4\nlat_bucket{le=\"+Inf\"} 4 999\n");
	rate(0, 2);
	ck_assert_double_eq(s.latency.total, 3);
	ck_assert_double_eq(s.latency.bad, 2);
	scrape("req{code=\"200\"} 5 # {code=500} 9\n" NO_LATENCY);
	ck_assert_int_eq(s.result, RESULT_NO_DATA);
}
END_TEST

/* Twice as much each time: a series that took another's place in the table shows in the sum. */
START_TEST(very_many_series_grow_the_table)
{
	enum { N = 50000 };
	char *text = xmalloc((size_t)N * 48);

	for (int round = 0; round < 2; round++) {
		size_t n = 0;

		for (int i = 0; i < N; i++)
			n += (size_t)sprintf(text + n, "req{code=\"%d\",i=\"%d\"} %d\n",
					     i % 10 ? 200 : 503, i, i + round * 2);
		n += (size_t)sprintf(text + n, NO_LATENCY);
		if (!m) {
			char *error = NULL;

			ck_assert_int_eq(metrics_new(&conf, &limits, &m, &error), 0);
		}
		memset(&s, 0, sizeof s);
		metrics_take(m, &(struct exposition){text, n, NULL}, at, &s);
		at += 30 * USEC_PER_SEC;
	}
	rate(N / 10 * 2, N * 2);
	free(text);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("metrics");
	TCase *t = tcase_create("scrapes");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, first_scrape_has_no_difference);
	tcase_add_test(t, a_counter_that_fell_counts_from_zero);
	tcase_add_test(t, series_that_come_and_go);
	tcase_add_test(t, same_values_under_other_names_are_other_series);
	tcase_add_test(t, sources_are_kept_apart);
	tcase_add_test(t, missing_names_are_named_and_lose_nothing);
	tcase_add_test(t, no_error_yet_is_no_missing_name);
	tcase_add_test(t, latency_from_buckets);
	tcase_add_test(t, bounds_that_all_but_agree_are_others);
	tcase_add_test(t, limit_between_bounds_uses_the_one_below_and_says_so);
	tcase_add_test(t, without_a_bound_below_the_limit_nothing_is_slow);
	tcase_add_test(t, the_gate_names_the_bound_that_is_used);
	tcase_add_test(t, buckets_of_several_series_add_up);
	tcase_add_test(t, gauges_are_read_as_they_are);
	tcase_add_test(t, nan_counters_and_odd_bounds_are_passed_over);
	tcase_add_test(t, what_is_no_count_spoils_no_sum);
	tcase_add_test(t, counts_beyond_counting_are_passed_over);
	tcase_add_test(t, p95_of_the_known_vector);
	tcase_add_test(t, p95_beyond_the_last_bound_is_that_bound);
	tcase_add_test(t, no_traffic_has_no_p95);
	tcase_add_test(t, bad_selectors_are_refused);
	tcase_add_test(t, errors_never_outnumber_requests);
	tcase_add_test(t, probe_names_what_is_missing);
	tcase_add_test(t, a_series_told_twice_counts_once);
	tcase_add_test(t, a_histogram_without_a_last_bucket_is_no_data);
	tcase_add_test(t, openmetrics_must_have_its_end);
	tcase_add_test(t, exemplars_and_timestamps_change_nothing);
	tcase_add_test(t, very_many_series_grow_the_table);
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
