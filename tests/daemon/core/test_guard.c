/* SPDX-License-Identifier: Apache-2.0 */
/* What a guard makes of samples, of gaps and of silence. */

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/guard.h"

#define SEC_ USEC_PER_SEC

static struct guard guard;
static struct policy policy;
static const usec_t start = 1000 * SEC_;

static void
setup(void)
{
	policy_init(&policy);
	policy.has_health = policy.has_rate = true;
	memset(&guard, 0, sizeof guard);
	guard_reset(&guard, start);
	guard_watch(&guard, start);
}

static void
teardown(void)
{
	guard_done(&guard);
}

static void
health(usec_t at, enum result r)
{
	struct sample s = {.kind = SAMPLE_HEALTH, .at = start + at, .result = r};

	guard_sample(&guard, &policy, &s, 30 * SEC_);
}

static void
metrics(usec_t at, usec_t span, double bad, enum result r)
{
	struct sample s = {.kind = SAMPLE_METRICS, .at = start + at, .result = r};

	s.rate = (struct series){.result = r, .span = span, .bad = bad, .total = 100, .value = 0};
	guard_sample(&guard, &policy, &s, 30 * SEC_);
}

START_TEST(a_gap_is_allowed_to_its_last_microsecond)
{
	health(30 * SEC_, RESULT_OK);
	ck_assert_int_eq(
		guard_unobserved(&guard, &policy, SAMPLE_HEALTH, start + 90 * SEC_, 30 * SEC_), 0);
	ck_assert_int_eq(
		guard_unobserved(&guard, &policy, SAMPLE_HEALTH, start + 90 * SEC_ + 1, 30 * SEC_),
		60 * SEC_ + 1);
	ck_assert_int_eq(guard_allowed_gap(SEC_), 60 * SEC_);
	ck_assert_int_eq(guard_allowed_gap(300 * SEC_), 600 * SEC_);
}
END_TEST

/* The first sample of the extended phase is 400 s away from the last one of stability: 60 s of that
 * are vouched for, as it is that phase's grid. */
START_TEST(a_phase_of_long_intervals_vouches_for_none_of_short_ones)
{
	usec_t border = policy.phases[1].until_usec;
	struct sample last = {
		.kind = SAMPLE_HEALTH, .at = start + border - 390 * SEC_, .result = RESULT_OK};
	struct sample first = {
		.kind = SAMPLE_HEALTH, .at = start + border + 10 * SEC_, .result = RESULT_OK};

	guard_sample(&guard, &policy, &last, 60 * SEC_);
	ck_assert_int_eq(guard.observed[SAMPLE_HEALTH][1], 60 * SEC_);
	guard_sample(&guard, &policy, &first, 300 * SEC_);
	ck_assert_int_eq(guard.observed[SAMPLE_HEALTH][1], 60 * SEC_ + 50 * SEC_);
	ck_assert_int_eq(guard.observed[SAMPLE_HEALTH][2], 10 * SEC_);
}
END_TEST

START_TEST(a_gap_is_not_vouched_for)
{
	metrics(30 * SEC_, 30 * SEC_, 0, RESULT_OK);
	health(30 * SEC_, RESULT_OK);
	ck_assert_int_eq(guard_observed(&guard, &policy, 0), 30 * SEC_);
	metrics(75 * SEC_, 45 * SEC_, 0, RESULT_OK); /* late by half an interval: still whole */
	health(75 * SEC_, RESULT_OK);
	ck_assert_int_eq(guard_observed(&guard, &policy, 0), 75 * SEC_);
	health(600 * SEC_, RESULT_OK); /* after a gap: one interval */
	ck_assert_int_eq(guard.observed[SAMPLE_HEALTH][0], 105 * SEC_);
	ck_assert_int_eq(guard_observed(&guard, &policy, 0), 75 * SEC_); /* the least of both */
}
END_TEST

START_TEST(the_observers_failure_is_no_observation)
{
	for (int i = 1; i <= 5; i++) {
		health(i * 30 * SEC_, i % 2 ? RESULT_ERROR : RESULT_NO_DATA);
		metrics(i * 30 * SEC_, 30 * SEC_, 50, i % 2 ? RESULT_ERROR : RESULT_NO_DATA);
	}
	ck_assert_int_eq(guard_observed(&guard, &policy, 0), 0);
	ck_assert_uint_eq(guard.bad_streak, 0);
	ck_assert_uint_eq(guard.good_streak, 0);
	ck_assert_uint_eq(guard.rate.n, 0);
	ck_assert(!guard.suspect);
}
END_TEST

START_TEST(a_missing_round_neither_counts_nor_resets)
{
	health(30 * SEC_, RESULT_BAD);
	health(60 * SEC_, RESULT_BAD);
	health(90 * SEC_, RESULT_ERROR);
	ck_assert_uint_eq(guard.bad_streak, 2);
	health(120 * SEC_, RESULT_BAD);
	ck_assert_uint_eq(guard.bad_streak, 3);
	ck_assert_int_eq(guard.first_bad_at, start + 30 * SEC_);
}
END_TEST

START_TEST(a_difference_over_a_longer_gap_is_dropped)
{
	metrics(60 * SEC_, 60 * SEC_, 100, RESULT_OK); /* just allowed */
	ck_assert_uint_eq(guard.rate.n, 1);
	metrics(120 * SEC_ + 1, 60 * SEC_ + 1, 100, RESULT_OK);
	ck_assert_uint_eq(guard.rate.n, 1);
}
END_TEST

START_TEST(suspicion_ends_with_the_third_good_round)
{
	health(30 * SEC_, RESULT_BAD);
	ck_assert(guard.suspect);
	health(60 * SEC_, RESULT_OK);
	health(90 * SEC_, RESULT_OK);
	health(95 * SEC_, RESULT_ERROR);
	metrics(100 * SEC_, 30 * SEC_, 0, RESULT_OK);
	ck_assert(guard.suspect);
	health(120 * SEC_, RESULT_OK);
	ck_assert(!guard.suspect);
}
END_TEST

START_TEST(silence_counts_as_configured)
{
	policy.on_missing = MISSING_BAD;
	health(30 * SEC_, RESULT_NO_DATA);
	ck_assert_uint_eq(guard.bad_streak, 1);
	metrics(30 * SEC_, 0, 0, RESULT_NO_DATA);
	ck_assert_double_eq(guard.rate.v[0].bad, guard.rate.v[0].total);
	policy.on_missing = MISSING_OK;
	health(60 * SEC_, RESULT_NO_DATA);
	ck_assert_uint_eq(guard.good_streak, 1);
	health(90 * SEC_, RESULT_ERROR); /* our own failure is never taken for the service's */
	ck_assert_uint_eq(guard.good_streak, 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("guard");
	TCase *t = tcase_create("guard");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_gap_is_allowed_to_its_last_microsecond);
	tcase_add_test(t, a_phase_of_long_intervals_vouches_for_none_of_short_ones);
	tcase_add_test(t, a_gap_is_not_vouched_for);
	tcase_add_test(t, the_observers_failure_is_no_observation);
	tcase_add_test(t, a_missing_round_neither_counts_nor_resets);
	tcase_add_test(t, a_difference_over_a_longer_gap_is_dropped);
	tcase_add_test(t, suspicion_ends_with_the_third_good_round);
	tcase_add_test(t, silence_counts_as_configured);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
