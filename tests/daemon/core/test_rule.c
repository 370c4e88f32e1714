/* SPDX-License-Identifier: Apache-2.0 */
/* Verdict and evidence of each rule, at −1, 0 and +1 of its limit. */

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "daemon/core/guard.h"

#define SEC_ USEC_PER_SEC

static struct guard guard;
static struct policy policy;
static struct rule_view view;
static const usec_t start = 1000 * SEC_;
static usec_t at;

static void
setup(void)
{
	policy_init(&policy);
	policy.has_health = policy.has_rate = policy.has_latency = true;
	memset(&guard, 0, sizeof guard);
	guard_reset(&guard, start);
	guard_watch(&guard, start);
	at = start;
}

static void
teardown(void)
{
	guard_done(&guard);
}

static void
look(enum rule_kind r)
{
	rule_view(&guard, &policy, r, at, 30 * SEC_, &view);
}

static void
health(enum result r)
{
	struct sample s = {.kind = SAMPLE_HEALTH, .at = at += 30 * SEC_, .result = r};

	str_copy(s.detail, sizeof s.detail, "HTTP 503");
	guard_sample(&guard, &policy, &s, 30 * SEC_);
}

static void
metrics(double total, double bad, double slow, double p95)
{
	struct sample s = {.kind = SAMPLE_METRICS, .at = at += 30 * SEC_};

	s.rate = (struct series){.span = 30 * SEC_, .total = total, .bad = bad, .bad_warn = bad};
	s.latency = (struct series){.span = 30 * SEC_, .total = total, .bad = slow, .value = p95};
	guard_sample(&guard, &policy, &s, 30 * SEC_);
}

START_TEST(health_counts_down)
{
	static const enum verdict verdicts[] = {VERDICT_SUSPECT, VERDICT_SUSPECT, VERDICT_BREACHED};

	look(RULE_HEALTH);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
	for (int i = 0; i < 3; i++) {
		health(RESULT_BAD);
		look(RULE_HEALTH);
		ck_assert_int_eq(view.verdict, verdicts[i]);
		ck_assert_uint_eq(view.evidence.failures, i + 1);
		ck_assert_ptr_nonnull(strstr(view.evidence.text, "HTTP 503"));
	}
	ck_assert_int_eq(view.evidence.since, start + 30 * SEC_);
	health(RESULT_OK);
	look(RULE_HEALTH);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
	at += 60 * SEC_ + 1;
	look(RULE_HEALTH);
	ck_assert_int_eq(view.verdict, VERDICT_BLIND);
	ck_assert_ptr_nonnull(strstr(view.evidence.text, "health unobserved for"));
}
END_TEST

START_TEST(error_rate_over_the_hold_time)
{
	for (int i = 0; i < 9; i++)
		metrics(300, 60, 0, 0.2);
	look(RULE_ERROR_RATE);
	ck_assert_int_eq(view.verdict, VERDICT_SUSPECT);
	ck_assert_int_eq(view.evidence.lasted, 270 * SEC_);
	ck_assert_ptr_nonnull(strstr(view.evidence.text, "fires in 30s unless it falls under 10%"));
	metrics(300, 60, 0, 0.2);
	look(RULE_ERROR_RATE);
	ck_assert_int_eq(view.verdict, VERDICT_BREACHED);
	ck_assert_int_eq(view.evidence.since, start);
	ck_assert_double_eq(view.evidence.requests, 3000);
	ck_assert_double_eq(view.evidence.bad, 600);
	ck_assert(view.evidence.lower > 0.10 && view.evidence.lower < 0.20);
	look(RULE_LATENCY_P95);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
}
END_TEST

START_TEST(exactly_at_the_limit_is_not_over_it)
{
	for (int i = 0; i < 40; i++)
		metrics(1000, 100, 50, 5.0);
	look(RULE_ERROR_RATE);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
	look(RULE_LATENCY_P95);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
	ck_assert(!rule_over_warning(&guard, &policy, RULE_LATENCY_P95));
	ck_assert(rule_over_warning(&guard, &policy, RULE_ERROR_RATE)); /* 5 % is exceeded */
}
END_TEST

START_TEST(slow_requests_are_the_p95)
{
	for (int i = 0; i < 20; i++)
		metrics(1000, 0, 80, 6.5);
	look(RULE_LATENCY_P95);
	ck_assert_int_eq(view.verdict, VERDICT_BREACHED);
	ck_assert_double_eq(view.evidence.value, 6.5);
	ck_assert_ptr_nonnull(strstr(view.evidence.text, "P95 6.5s; 8% of 20000 requests"));
}
END_TEST

START_TEST(too_few_requests_are_blind)
{
	for (int i = 0; i < 10; i++)
		metrics(3.9, 0, 0, 0.2);
	look(RULE_ERROR_RATE);
	ck_assert_int_eq(view.verdict, VERDICT_BLIND);
	ck_assert_ptr_nonnull(strstr(view.evidence.text, "blind: 39 requests in 5min, 40 needed"));
	for (int i = 0; i < 10; i++)
		metrics(4, 0, 0, 0.2);
	look(RULE_ERROR_RATE);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
}
END_TEST

START_TEST(a_rule_without_a_source_or_off_is_not_armed)
{
	policy.has_rate = false;
	look(RULE_ERROR_RATE);
	ck_assert(!view.armed);
	ck_assert_str_eq(view.evidence.text, "no source is configured");
	policy.rules[RULE_HEALTH].mode = RULE_OFF;
	health(RESULT_BAD);
	look(RULE_HEALTH);
	ck_assert(!view.armed);
	ck_assert_int_eq(view.verdict, VERDICT_HEALTHY);
}
END_TEST

START_TEST(the_worst_armed_rule_speaks)
{
	struct rule_view v[_RULE_MAX] = {0};

	ck_assert_int_eq(guard_verdict(v), VERDICT_HEALTHY);
	v[RULE_HEALTH] = (struct rule_view){.armed = true, .verdict = VERDICT_BLIND};
	ck_assert_int_eq(guard_verdict(v), VERDICT_BLIND);
	v[RULE_ERROR_RATE].verdict = VERDICT_BREACHED; /* not armed */
	ck_assert_int_eq(guard_verdict(v), VERDICT_BLIND);
	v[RULE_ERROR_RATE].armed = true;
	v[RULE_ERROR_RATE].mode = RULE_OBSERVE;
	ck_assert_int_eq(guard_verdict(v), VERDICT_SUSPECT);
	v[RULE_ERROR_RATE].mode = RULE_ENFORCE;
	ck_assert_int_eq(guard_verdict(v), VERDICT_BREACHED);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("rule");
	TCase *t = tcase_create("rule");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, health_counts_down);
	tcase_add_test(t, error_rate_over_the_hold_time);
	tcase_add_test(t, exactly_at_the_limit_is_not_over_it);
	tcase_add_test(t, slow_requests_are_the_p95);
	tcase_add_test(t, too_few_requests_are_blind);
	tcase_add_test(t, a_rule_without_a_source_or_off_is_not_armed);
	tcase_add_test(t, the_worst_armed_rule_speaks);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
