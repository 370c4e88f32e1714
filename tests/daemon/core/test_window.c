/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/core/stats.h"
#include "daemon/core/window.h"

#define SEC_ USEC_PER_SEC

static struct window w;
static struct window_rule rule;
static struct window_state st;
static usec_t now;

static void
setup(void)
{
	w = (struct window){0};
	rule = (struct window_rule){
		.limit = 0.10,
		.hold_usec = 300 * SEC_,
		.min_requests = 40,
		.recheck_usec = 30 * SEC_,
	};
	now = 1000 * SEC_;
}

static void
teardown(void)
{
	window_done(&w);
}

/* One interval of `span` seconds with `bad` of `total`; then the window is judged. */
static void
push(int span, double bad, double total)
{
	struct obs o = {.at = now += span * SEC_,
			.span = span * SEC_,
			.bad = bad,
			.bad_warn = bad,
			.total = total,
			.value = NAN};

	window_push(&w, &o, &rule);
	window_test(&w, &rule, &st);
}

static void
gauge(int span, double value)
{
	struct obs o = {.at = now += span * SEC_, .span = span * SEC_, .value = value};

	window_push(&w, &o, &rule);
	window_test(&w, &rule, &st);
}

START_TEST(fires_at_the_hold_time_and_not_before)
{
	for (int i = 1; i <= 9; i++) {
		push(30, 20, 100);
		ck_assert(st.running);
		ck_assert_msg(!st.breached, "fired after %d s", i * 30);
		ck_assert_str_eq(st.missing, "time");
		ck_assert_int_eq(st.lasted, i * 30 * SEC_);
	}
	push(30, 20, 100);
	ck_assert(st.breached);
	ck_assert_int_eq(st.since, 1000 * SEC_);
}
END_TEST

START_TEST(at_the_limit_never_fires)
{
	for (int i = 0; i < 100; i++) {
		push(30, 10, 100);
		ck_assert(!st.running);
		ck_assert(!st.breached);
	}
}
END_TEST

START_TEST(one_dip_does_not_stop_the_clock)
{
	for (int i = 0; i < 5; i++)
		push(30, 30, 100);
	push(30, 9, 100);
	ck_assert_msg(st.running, "a dip of one sample stopped the clock");
	for (int i = 0; i < 4; i++)
		push(30, 30, 100);
	ck_assert(st.breached);
}
END_TEST

START_TEST(a_significant_recovery_stops_it)
{
	for (int i = 0; i < 5; i++)
		push(30, 30, 100);
	push(30, 0, 100);
	ck_assert(!st.running);
}
END_TEST

START_TEST(too_few_requests_say_nothing)
{
	for (int i = 0; i < 30; i++) {
		push(30, 1, 1);
		if (st.total < 40)
			ck_assert(!st.breached);
	}
	window_reset(&w);
	for (int i = 0; i < 10; i++)
		push(30, 3, 3); /* 30 in the hold time */
	ck_assert_str_eq(st.missing, "requests");
	ck_assert(st.low_traffic);
	for (int i = 0; i < 10; i++)
		push(30, 4, 4);
	ck_assert(!st.low_traffic || st.recent_total < 40);
}
END_TEST

/* The extended phase looks every 300 s, the hold time is 300 s, and answers take their time. */
START_TEST(a_long_interval_is_the_hold_time_to_the_millisecond_or_not)
{
	for (int i = 0; i < 20; i++) {
		struct obs o = {
			.span = 300 * SEC_ + (i % 2 ? 3000 : -2000), .total = 600, .value = NAN};

		o.at = now += o.span;
		window_push(&w, &o, &rule);
		window_test(&w, &rule, &st);
		ck_assert(!st.low_traffic);
		ck_assert_double_eq(st.recent_total, 600);
		ck_assert_double_eq(st.total, 600);
	}
}
END_TEST

/* So is a minute a minute: it speaks for all of its time, not for its share of errors. */
START_TEST(a_minute_is_a_minute_to_the_millisecond_or_not)
{
	for (int i = 1; i <= 5; i++) {
		struct obs o = {.span = 60 * SEC_ + 1000,
				.bad = 36,
				.bad_warn = 36,
				.total = 120,
				.value = NAN};

		o.at = now += o.span;
		window_push(&w, &o, &rule);
		window_test(&w, &rule, &st);
		ck_assert_int_eq(st.lasted, i * o.span);
	}
	ck_assert(st.breached);
}
END_TEST

START_TEST(the_last_minute_must_be_over)
{
	for (int i = 0; i < 9; i++)
		push(30, 60, 100);
	push(30, 9, 100);
	push(30, 9, 100);
	ck_assert(st.running);
	ck_assert(!st.breached);
	ck_assert_str_eq(st.missing, "a last minute over the limit");
}
END_TEST

START_TEST(each_third_must_be_over)
{
	for (int i = 0; i < 3; i++)
		push(30, 90, 100);
	for (int i = 0; i < 9; i++)
		push(30, 9, 90); /* at the limit: no recovery, and not over */
	for (int i = 0; i < 2; i++)
		push(30, 20, 100);
	ck_assert(st.running);
	ck_assert(!st.breached);
	ck_assert_ptr_nonnull(strstr(st.missing, "part of the time"));
}
END_TEST

/* The extended phase: 20 % in one sample of 300 s may be one bad minute; only that minute counts.
 */
START_TEST(a_long_sample_proves_only_its_errors)
{
	push(300, 200, 1000);
	ck_assert(st.running);
	ck_assert_int_eq(st.lasted, 60 * SEC_);
	push(30, 100, 100);
	push(30, 100, 100);
	ck_assert_msg(!st.breached, "a burst of two minutes passed for five");
	for (int i = 0; i < 5; i++)
		push(30, 100, 100);
	ck_assert(!st.breached);
	push(30, 100, 100);
	ck_assert(st.breached);
}
END_TEST

START_TEST(a_dead_service_in_the_extended_phase)
{
	push(300, 1000, 1000);
	ck_assert(!st.breached); /* it says nothing of its last minute */
	push(30, 100, 100);
	ck_assert(!st.breached);
	push(30, 100, 100);
	ck_assert(st.breached);
}
END_TEST

START_TEST(literal_reading)
{
	rule.literal = true;
	push(30, 11, 100);
	ck_assert(st.running);
	for (int i = 0; i < 9; i++) {
		push(30, 11, 100);
		ck_assert(!st.breached);
	}
	push(30, 11, 100);
	ck_assert(st.breached); /* 300 s from the first reading over to the last */
	push(30, 10, 100);
	ck_assert(!st.running);
}
END_TEST

START_TEST(literal_knows_no_reading_without_requests)
{
	rule.literal = true;
	for (int i = 0; i < 6; i++)
		push(30, 20, 100);
	push(30, 0, 0);
	ck_assert(st.running);
}
END_TEST

START_TEST(gauges)
{
	rule.limit = 5.0;
	rule.hold_usec = 120 * SEC_;
	gauge(30, 4.9);
	ck_assert(!st.running);
	gauge(30, 5.0);
	ck_assert(!st.running);
	for (int i = 0; i < 4; i++) {
		gauge(30, 6);
		ck_assert(st.running);
		ck_assert(!st.breached);
	}
	gauge(30, 4); /* one of five is under: 80 % are over, but not the newest */
	ck_assert(st.running);
	ck_assert(!st.breached);
	gauge(30, 7);
	ck_assert(st.breached);
	gauge(30, 1);
	gauge(30, 1);
	ck_assert(!st.running);
}
END_TEST

/* Memory is bounded, and merging the oldest keeps the sums. */
START_TEST(many_observations)
{
	double bad = 0, total = 0;

	rule.hold_usec = 3600 * SEC_;
	for (int i = 0; i < 20000; i++) {
		push(1, 2, 10);
		bad += 2;
		total += 10;
	}
	ck_assert_uint_le(w.n, 4096);
	ck_assert_double_eq_tol(st.bad, bad, 1e-6);
	ck_assert_double_eq_tol(st.total, total, 1e-6);
	ck_assert(st.breached);
}
END_TEST

/* Exactly at the limit is not over it, whatever binary fractions make of a percentage. */
START_TEST(the_limit_is_exact)
{
	for (int percent = 1; percent < 100; percent++) {
		rule.limit = percent / 100.0;
		for (int literal = 0; literal < 2; literal++) {
			rule.literal = literal;
			window_reset(&w);
			for (int i = 0; i < 30; i++) {
				push(30, percent, 100);
				ck_assert_msg(!st.running, "%d%%", percent);
			}
			push(30, percent + 1, 100);
			ck_assert_msg(st.running, "%d%%", percent);
			push(30, percent - 1, 100);
			ck_assert_msg(!st.running, "%d%%: the sum is back at zero", percent);
		}
	}
}
END_TEST

/* --- against a slow, obvious second implementation, in whole numbers --- */

enum { HISTORY = 400 };
struct whole {
	usec_t at, span;
	long bad, total;
};
static struct whole history[HISTORY];
static int n_history;

/* The index the clock started at, found by walking the whole history anew; -1 = it does not run. */
static int
slow_clock(long percent)
{
	long cusum = 0; /* in hundredths of a request */
	int start = -1;

	for (int i = 0; i < n_history; i++) {
		long step = 100 * history[i].bad - percent * history[i].total;
		usec_t span = 0;
		long bad = 0, total = 0;

		if (cusum + step <= 0) {
			cusum = 0;
			start = -1;
			continue;
		}
		if (cusum <= 0)
			start = i;
		cusum += step;
		for (int k = i; k >= start; k--) {
			span += history[k].span;
			bad += history[k].bad;
			total += history[k].total;
			if (span > 300 * SEC_)
				break;
			if (total > 0 && wilson_upper((double)bad, (double)total, STATS_Z_RECOVER) <
						 rule.limit) {
				cusum = 0;
				start = -1;
				break;
			}
		}
	}
	return start;
}

START_TEST(agrees_with_the_slow_clock)
{
	unsigned seed = (unsigned)time(NULL);

	printf("window: seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 120; round++) {
		int percent = 1 + rand() % 30;
		double rate = (rand() % 30) / 100.0;

		teardown();
		setup();
		rule.limit = percent / 100.0;
		n_history = 0;
		for (int i = 0; i < HISTORY; i++) {
			int span = (rand() % 3 == 0) ? 60 : 30, total = rand() % 60, bad = 0, start;

			for (int k = 0; k < total; k++)
				bad += rand() < rate * RAND_MAX;
			push(span, bad, total);
			history[n_history++] = (struct whole){now, span * SEC_, bad, total};
			start = slow_clock(percent);
			ck_assert_msg(st.running == (start >= 0),
				      "seed %u round %d step %d: clock %d, slow %d", seed, round, i,
				      st.running, start);
			if (start >= 0)
				ck_assert_int_eq(st.since, history[start].at - history[start].span);
		}
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("window");
	TCase *t = tcase_create("clock");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, fires_at_the_hold_time_and_not_before);
	tcase_add_test(t, at_the_limit_never_fires);
	tcase_add_test(t, one_dip_does_not_stop_the_clock);
	tcase_add_test(t, a_significant_recovery_stops_it);
	tcase_add_test(t, too_few_requests_say_nothing);
	tcase_add_test(t, a_long_interval_is_the_hold_time_to_the_millisecond_or_not);
	tcase_add_test(t, a_minute_is_a_minute_to_the_millisecond_or_not);
	tcase_add_test(t, the_last_minute_must_be_over);
	tcase_add_test(t, each_third_must_be_over);
	tcase_add_test(t, a_long_sample_proves_only_its_errors);
	tcase_add_test(t, a_dead_service_in_the_extended_phase);
	tcase_add_test(t, literal_reading);
	tcase_add_test(t, literal_knows_no_reading_without_requests);
	tcase_add_test(t, gauges);
	tcase_add_test(t, many_observations);
	tcase_add_test(t, the_limit_is_exact);
	tcase_add_test(t, agrees_with_the_slow_clock);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
