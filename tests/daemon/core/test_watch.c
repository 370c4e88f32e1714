/* SPDX-License-Identifier: Apache-2.0 */
/* The watching: rules that act, missing data, coverage, the schedule's ends. */

#include "tests/daemon/core/script.h"

START_TEST(three_failed_rounds_roll_back)
{
	usec_t broken;

	to_watching();
	run(5 * MIN_ + SEC_, -1);
	world.down = world.all_down = true;
	broken = now;
	run(3 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_le(now - broken, 90 * SEC_);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert(seen.last_decision.automatic);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_HEALTH);
	ck_assert_uint_eq(seen.last_decision.evidence.failures, 3);
	ck_assert_uint_eq(seen.criticals, 1);
	to_rolled_back();
	ck_assert_uint_eq(seen.reports, 1);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
}
END_TEST

START_TEST(two_failed_rounds_do_not)
{
	to_watching();
	run(5 * MIN_ + SEC_, -1);
	world.down = true;
	run(MIN_, -1);
	world.down = false;
	run(10 * MIN_, -1);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.criticals, 1);
	ck_assert_uint_ge(seen.resolved, 1);
}
END_TEST

/* semantics: 300 s + 2 × 30 s from crash to decision in the extended phase. */
START_TEST(fast_recheck_bounds_the_extended_phase)
{
	for (int offset = 1; offset < 300; offset += 37) {
		usec_t broken;

		teardown();
		setup();
		to_watching();
		run(100 * MIN_ + offset * SEC_, -1);
		world.down = true;
		broken = now;
		run(10 * MIN_, DS_RB_SAVING);
		ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
		ck_assert_int_le(now - broken, 360 * SEC_);
	}
}
END_TEST

START_TEST(errors_roll_back_after_the_hold_time)
{
	usec_t broken;

	to_watching();
	run(2 * MIN_, -1);
	world.error_rate = 0.2;
	broken = now;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_ge(now - broken, 5 * MIN_ - SEC_);
	ck_assert_int_le(now - broken, 6 * MIN_);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_ERROR_RATE);
	ck_assert_double_eq_tol(seen.last_decision.evidence.value, 0.2, 0.01);
	ck_assert(strstr(seen.d.rollback_reason, "error-rate") != NULL);
}
END_TEST

START_TEST(observe_mode_only_says_so_once)
{
	policy.rules[RULE_ERROR_RATE].mode = RULE_OBSERVE;
	reconfigure();
	to_watching();
	world.error_rate = 0.5;
	run(30 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.would, 1);
	ck_assert_uint_eq(seen.decisions, 0);
}
END_TEST

START_TEST(a_rule_that_is_off_says_nothing)
{
	policy.rules[RULE_ERROR_RATE].mode = RULE_OFF;
	reconfigure();
	to_watching();
	world.error_rate = 1;
	run(30 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.would, 0);
	ck_assert_uint_eq(seen.alerts, 0);
}
END_TEST

START_TEST(few_requests_warn_once_and_never_act)
{
	world.requests_per_sec = 0.1;
	to_watching();
	world.error_rate = 1;
	run(6 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_uint_ge(seen.alerts, 1);
	ck_assert_uint_le(seen.alerts, 2);
}
END_TEST

START_TEST(silent_metrics_end_unverified)
{
	world.metrics_silent = true;
	to_watching();
	run(300 * MIN_, DS_UNVERIFIED);
	ck_assert_int_eq(seen.d.state, DS_UNVERIFIED);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert(strstr(seen.d.outcome, "critical") != NULL);
	ck_assert_int_eq(seen.last_decision.kind, DECISION_HOLD);
}
END_TEST

START_TEST(silence_as_a_fault)
{
	policy.on_missing = MISSING_BAD;
	reconfigure();
	to_watching();
	run(3 * MIN_, -1);
	world.metrics_silent = true;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(a_cut_off_observer_never_rolls_back)
{
	to_watching();
	world.observer_down = true;
	run(60 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_uint_ge(seen.alerts, 1); /* unobserved */
}
END_TEST

START_TEST(infrastructure_from_before_is_muted)
{
	policy.has_infrastructure = true;
	reconfigure();
	world.infra = true;
	to_watching();
	run(20 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	world.infra = false;
	run(2 * MIN_, -1);
	world.infra = true; /* cleared, and critical again: this time it is new */
	run(2 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_INFRASTRUCTURE);
}
END_TEST

START_TEST(settling_is_armed_for_an_outage_only)
{
	policy.settle_usec = 10 * MIN_;
	reconfigure();
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_OK);
	world.error_rate = 1;
	run(8 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	world.down = true;
	run(2 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(a_suspicion_at_the_end_is_watched_on)
{
	to_watching();
	run(240 * MIN_ - 31 * SEC_ - 150 * SEC_, -1);
	world.error_rate = 0.3;
	run(4 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	run(15 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(last_answers_that_never_come_do_not_hold_the_end)
{
	usec_t end;

	to_watching();
	end = seen.d.t0 + 240 * MIN_;
	run(end - now - 1, -1);
	now = end;
	step((struct core_event){.kind = EV_TICK});
	ck_assert(seen.sample[SAMPLE_HEALTH].want); /* asked for, and never answered */
	ck_assert_int_eq(core_deadline(core), end + 20 * SEC_);
	now = core_deadline(core);
	step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
}
END_TEST

START_TEST(infrastructure_does_not_act_while_settling)
{
	policy.has_infrastructure = true;
	reconfigure();
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	run(SEC_, -1);
	hook(HOOK_OK);
	world.infra = true;
	next_round();
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	ck_assert_uint_eq(seen.decisions, 0);
	run(MIN_, DS_RB_SAVING); /* at T+0 it does */
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(two_rules_in_one_tick_are_one_decision)
{
	policy.has_infrastructure = true;
	policy.rules[RULE_HEALTH].failures = 1;
	reconfigure();
	to_watching();
	world.infra = world.down = true;
	next_round();
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
	ck_assert_uint_eq(seen.d.rollbacks, 1);
}
END_TEST

START_TEST(watching_begins_when_settling_was_to_end)
{
	usec_t settled;

	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_OK);
	settled = now + policy.settle_usec;
	now = settled + 7 * SEC_; /* a busy machine wakes us late */
	while (core_deadline(core) <= now)
		step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_int_eq(seen.d.t0, settled);
}
END_TEST

START_TEST(coverage_at_its_limit_is_enough)
{
	for (int missed = 1; missed <= 2; missed++) {
		setup_again();
		policy.n_phases = 1;
		policy.phases[0].until_usec = 300 * SEC_;
		policy.has_rate = policy.has_latency = false;
		reconfigure();
		to_watching();
		run(100 * SEC_, -1);
		world.observer_down = true;
		run(missed * 30 * SEC_, -1);
		world.observer_down = false;
		run(10 * MIN_, missed == 1 ? DS_SUCCEEDED : DS_UNVERIFIED);
		ck_assert_int_eq(seen.d.state, missed == 1 ? DS_SUCCEEDED : DS_UNVERIFIED);
	}
}
END_TEST

START_TEST(no_alert_outlives_what_could_resolve_it)
{
	struct env_view v;

	policy.rules[RULE_ERROR_RATE].mode = RULE_OBSERVE;
	reconfigure();
	world.error_rate = 0.07;
	to_watching();
	run(230 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.alerts[CAUSE_ERROR_RATE].level, LEVEL_WARNING);
	run(30 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
	core_view(core, 0, now, &v);
	for (int c = 0; c < _CAUSE_MAX; c++)
		ck_assert_int_eq(v.alerts[c].level, LEVEL_NONE);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		three_failed_rounds_roll_back,
		two_failed_rounds_do_not,
		fast_recheck_bounds_the_extended_phase,
		errors_roll_back_after_the_hold_time,
		observe_mode_only_says_so_once,
		a_rule_that_is_off_says_nothing,
		few_requests_warn_once_and_never_act,
		silent_metrics_end_unverified,
		silence_as_a_fault,
		a_cut_off_observer_never_rolls_back,
		infrastructure_from_before_is_muted,
		settling_is_armed_for_an_outage_only,
		a_suspicion_at_the_end_is_watched_on,
		last_answers_that_never_come_do_not_hold_the_end,
		infrastructure_does_not_act_while_settling,
		two_rules_in_one_tick_are_one_decision,
		watching_begins_when_settling_was_to_end,
		coverage_at_its_limit_is_enough,
		no_alert_outlives_what_could_resolve_it,
	};

	return run_suite("watch", tests, ARRAY_SIZE(tests));
}
