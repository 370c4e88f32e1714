/* SPDX-License-Identifier: Apache-2.0 */
/* Restarts at any moment. */

#include "tests/daemon/core/script.h"

START_TEST(each_waiting_state_asks_again_with_its_attempt)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	seen.want_gates = false;
	restart(NULL, 0);
	ck_assert(seen.want_gates);
	done(EV_GATES, true);
	seen.want_backup = false;
	restart(NULL, 0);
	ck_assert(seen.want_backup);
	done(EV_BACKUP, true);
	ck_assert_uint_eq(seen.deploys, 1);
	restart(NULL, 0);
	ck_assert_uint_eq(seen.deploys, 2); /* asked again: idempotent by its transaction */
	hook(HOOK_OK);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
}
END_TEST

START_TEST(the_clock_of_a_breach_survives)
{
	struct sample samples[32];
	size_t n = 0;

	to_watching();
	world.error_rate = 0.3;
	for (int i = 0; i < 8; i++) { /* four minutes of the breach, recorded as the store would */
		struct sample s = {.kind = SAMPLE_METRICS, .result = RESULT_OK};

		run(30 * SEC_, -1);
		s.at = now - 1;
		s.rate = (struct series){.result = RESULT_OK,
					 .span = 30 * SEC_,
					 .bad = 90,
					 .bad_warn = 90,
					 .total = 300,
					 .value = 0.3};
		s.latency = s.rate;
		s.latency.bad = s.latency.bad_warn = 0;
		samples[n++] = s;
	}
	restart(samples, n);
	run(3 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(infrastructure_muted_or_not_survives_a_restart)
{
	for (int from_before = 0; from_before < 2; from_before++) {
		struct sample s[3] = {0};

		setup_again();
		policy.has_infrastructure = true;
		reconfigure();
		world.infra = from_before;
		to_watching();
		for (int i = 0; i < 3; i++) {
			s[i].result = RESULT_OK;
			s[i].infra_known = true;
			s[i].infra_critical = i > 0 || from_before;
			s[i].at = i == 0 ? seen.d.deployed_at + 1 : seen.d.t0 - SEC_ * (3 - i);
		}
		world.infra = true;
		restart(s, 3);
		run(2 * MIN_, DS_RB_SAVING);
		ck_assert_int_eq(seen.d.state, from_before ? DS_WATCHING : DS_RB_SAVING);
	}
}
END_TEST

START_TEST(a_wish_to_go_back_stops_the_hook_after_a_restart_too)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	rollback();
	ck_assert_uint_eq(seen.cancels, 1);
	restart(NULL, 0);
	ck_assert_uint_eq(seen.cancels, 2);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 0);
}
END_TEST

START_TEST(what_would_have_been_done_is_said_once_over_a_restart)
{
	struct sample s[3] = {0};

	policy.rules[RULE_HEALTH].mode = RULE_OBSERVE;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3; i++)
		s[i] = (struct sample){.result = RESULT_BAD, .at = now + (i + 1) * 30 * SEC_};
	world.down = true;
	run(100 * SEC_, -1);
	ck_assert_uint_eq(seen.would, 1);
	restart(s, 3);
	run(100 * SEC_, -1);
	ck_assert_uint_eq(seen.would, 1);
}
END_TEST

START_TEST(a_round_begun_at_the_slow_interval_counts_whole)
{
	struct env_view before, after;
	int extended;

	to_watching();
	run(61 * MIN_, -1);
	core_view(core, 0, now, &before);
	extended = before.phase;
	ck_assert_int_eq(extended, 2);
	world.down = true; /* the health answer comes first and begins the fast re-check */
	while (!seen.sample[SAMPLE_HEALTH].want) {
		now = core_deadline(core);
		step((struct core_event){.kind = EV_TICK});
	}
	core_view(core, 0, now, &before);
	sample(SAMPLE_HEALTH);
	core_view(core, 0, now, &after);
	ck_assert_int_eq(after.rules[RULE_ERROR_RATE].verdict, VERDICT_HEALTHY); /* not blind */
	sample(SAMPLE_METRICS);
	core_view(core, 0, now, &after);
	ck_assert_int_ge(after.coverage[extended].observed - before.coverage[extended].observed,
			 299 * SEC_);
	/* A source that falls silent during the re-check is missed after a minute all the same. */
	world.down = false;
	world.metrics_silent = true;
	run(70 * SEC_, -1);
	core_view(core, 0, now, &after);
	ck_assert_int_eq(after.rules[RULE_ERROR_RATE].verdict, VERDICT_BLIND);
}
END_TEST

START_TEST(what_came_due_meanwhile_is_sampled_once_and_at_once)
{
	struct sample s[2] = {{.kind = SAMPLE_HEALTH}, {.kind = SAMPLE_METRICS}};
	usec_t newest;

	to_watching();
	run(90 * MIN_, -1); /* looked at every 300 s */
	newest = now;
	for (int k = 0; k < 2; k++)
		s[k].at = newest;
	now += 10 * SEC_; /* nothing has come due */
	seen.samples = 0;
	restart(s, 2);
	run(SEC_, -1);
	ck_assert_uint_eq(seen.samples, 0);
	now = newest + 15 * MIN_;
	seen.samples = 0;
	restart(s, 2);
	run(SEC_, -1);
	ck_assert_uint_eq(seen.samples, 2);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		each_waiting_state_asks_again_with_its_attempt,
		the_clock_of_a_breach_survives,
		infrastructure_muted_or_not_survives_a_restart,
		a_wish_to_go_back_stops_the_hook_after_a_restart_too,
		what_would_have_been_done_is_said_once_over_a_restart,
		what_came_due_meanwhile_is_sampled_once_and_at_once,
		a_round_begun_at_the_slow_interval_counts_whole,
	};

	return run_suite("recover", tests, ARRAY_SIZE(tests));
}
