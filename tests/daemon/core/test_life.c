/* SPDX-License-Identifier: Apache-2.0 */
/* From the queue to an end: acts, hooks, answers, rollbacks, escalation. */

#include "tests/daemon/core/script.h"

START_TEST(a_healthy_release_succeeds)
{
	to_watching();
	run(241 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
	ck_assert_int_eq(seen.last_decision.kind, DECISION_PROMOTE);
	ck_assert_uint_eq(seen.alerts, 0);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_int_eq(seen.d.ended_at - seen.d.t0, 240 * MIN_);
}
END_TEST

START_TEST(a_reload_does_not_touch_the_live_one)
{
	to_watching();
	policy.rules[RULE_ERROR_RATE].mode = RULE_OFF;
	policy.rules[RULE_HEALTH].failures = 100;
	reconfigure();
	world.error_rate = 0.5;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(a_failed_deploy_hook_is_rolled_back_once)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.decisions, 1);
	done(EV_BACKUP, false); /* an emergency is not stopped by that */
	done(EV_TARGET, true);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_ROLLBACK_FAILED);
	ck_assert_uint_eq(seen.rollbacks, 1);
	ck_assert_uint_ge(seen.escalations, 1);
	world.down = true;
	run(10 * MIN_, -1);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert_uint_ge(seen.samples, 19); /* every 30 s until it is back */
	ck_assert_uint_eq(seen.restored, 0);
	ck_assert_uint_eq(seen.reports, 1);
	world.down = false;
	run(MIN_, -1);
	ck_assert_uint_eq(seen.restored, 1);
	ck_assert_uint_eq(seen.reports, 2); /* the incident's end belongs into its report */
	run(30 * MIN_, -1);
	ck_assert_uint_eq(seen.restored, 1);
}
END_TEST

START_TEST(an_unknown_end_is_judged_by_health)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_UNKNOWN);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	ck_assert_uint_eq(seen.criticals, 1);
	world.down = true;
	run(5 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

/* Both ends are unknown: somebody is told of each, though the first is still open. */
START_TEST(each_unknown_end_is_told)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_UNKNOWN);
	rollback();
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	ck_assert_int_eq(seen.d.state, DS_RB_RUNNING);
	ck_assert_uint_eq(seen.criticals, 1);
	hook(HOOK_UNKNOWN);
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	ck_assert_uint_eq(seen.criticals, 2);
	ck_assert_uint_eq(seen.resolved, 1);
	run(MIN_, DS_ROLLED_BACK);
	ck_assert_uint_eq(seen.resolved, 2);
}
END_TEST

START_TEST(gates_and_backup_can_refuse)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, false);
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	ck_assert_uint_eq(seen.deploys, 0);
	deploy("deploy-2", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, false);
	ck_assert_int_eq(seen.d.state, DS_FAILED);
	ck_assert_uint_eq(seen.deploys, 0);
}
END_TEST

START_TEST(late_answers_are_dropped)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	run(10 * MIN_, DS_REJECTED); /* the gates' deadline */
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	seen.d.attempt--;
	done(EV_GATES, true);
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	ck_assert_uint_eq(fx.n, 0);
}
END_TEST

START_TEST(abort_only_before_anything_changed)
{
	struct core_event e = {.kind = EV_ABORT};

	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	step(e);
	ck_assert_int_eq(seen.d.state, DS_ABORTED);
	ck_assert_int_eq(seen.reply, REPLY_OK);
	to_watching();
	step(e);
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	ck_assert(strstr(seen.reply_text, "rollback") != NULL);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
}
END_TEST

START_TEST(one_live_deployment_per_environment)
{
	to_watching();
	deploy("deploy-2", false);
	ck_assert_int_eq(seen.reply, REPLY_BUSY);
	ck_assert(strstr(seen.reply_text, "deploy-1") != NULL);
	run(7 * MIN_, -1);
	deploy("deploy-2", true);
	ck_assert_int_eq(seen.reply, REPLY_OK);
	ck_assert_str_eq(seen.d.id, "deploy-2");
	ck_assert_int_eq(seen.d.state, DS_QUEUED);
	ck_assert_int_eq(seen.d.t0, 0); /* a fresh clock */
}
END_TEST

START_TEST(a_running_hook_cannot_be_superseded)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	deploy("deploy-2", true);
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	ck_assert_str_eq(seen.d.id, "deploy-1");
	ck_assert_uint_eq(seen.cancels, 0);
}
END_TEST

START_TEST(rollback_during_the_deploy_hook_waits_for_it)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_OK);
	ck_assert_uint_eq(seen.cancels, 1);
	ck_assert_int_eq(seen.d.state, DS_DEPLOYING);
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert(!seen.d.rollback_auto);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 0);
	to_rolled_back();
}
END_TEST

START_TEST(rollback_long_after_success)
{
	to_watching();
	run(241 * MIN_, DS_SUCCEEDED);
	now += USEC_PER_DAY;
	rollback();
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	to_rolled_back();
	rollback();
	ck_assert_int_eq(seen.reply,
			 REPLY_REFUSED); /* no rollback of a rollback without a target */
}
END_TEST

START_TEST(nothing_to_roll_back)
{
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_NOT_FOUND);
}
END_TEST

START_TEST(verification_has_a_deadline)
{
	to_watching();
	world.down = true;
	run(5 * MIN_, DS_RB_SAVING);
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	hook(HOOK_OK);
	run(10 * MIN_, DS_ROLLBACK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_ROLLBACK_FAILED);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
	run(60 * MIN_, -1);
	ck_assert_uint_eq(seen.decisions, 1);
}
END_TEST

/* The machine slept over the deadline: whoever was to answer did, too. */
START_TEST(a_deadline_that_was_slept_through_counts_anew)
{
	to_watching();
	world.down = true;
	run(5 * MIN_, DS_RB_SAVING);
	now += 60 * MIN_;
	step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	now += 60 * MIN_;
	step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_RB_RUNNING);
	hook(HOOK_OK);
	now += 60 * MIN_;
	step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	run(4 * MIN_, DS_ROLLBACK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	run(2 * MIN_, DS_ROLLBACK_FAILED); /* it is kept then */
	ck_assert_int_eq(seen.d.state, DS_ROLLBACK_FAILED);
}
END_TEST

START_TEST(a_rollback_is_verified_by_three_passes_in_a_row)
{
	to_watching();
	rollback();
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	hook(HOOK_OK);
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	next_round();
	next_round();
	world.down = true;
	next_round();
	world.down = false;
	next_round();
	next_round();
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	next_round();
	ck_assert_int_eq(seen.d.state, DS_ROLLED_BACK);
}
END_TEST

START_TEST(answers_of_an_attempt_that_is_over_do_nothing)
{
	struct core_event e = {.kind = EV_HOOK};

	to_watching();
	rollback();
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	ck_assert_int_eq(seen.d.state, DS_RB_RUNNING);
	e.attempt = seen.d.attempt - 3; /* the deploy hook's, long after */
	e.u.hook.outcome = HOOK_FAILED;
	e.u.hook.text = "late";
	step(e);
	ck_assert_uint_eq(fx.n, 0);
	e = (struct core_event){.kind = EV_SAMPLE, .attempt = seen.d.attempt - 1};
	e.u.sample = (struct sample){.result = RESULT_BAD, .at = now};
	step(e);
	ck_assert_uint_eq(fx.n, 0);
	e.attempt = seen.d.attempt;
	e.u.sample.kind = _SAMPLE_KIND_MAX; /* no such kind */
	step(e);
	ck_assert_uint_eq(fx.n, 0);
}
END_TEST

START_TEST(the_watch_after_a_rollback_ends)
{
	to_watching();
	rollback();
	to_rolled_back();
	seen.samples = 0;
	run(45 * MIN_, -1);
	ck_assert_uint_eq(seen.samples, 60 + 1); /* every 30 s for 30 min; idle rounds are off */
	ck_assert_int_eq(core_deadline(core), USEC_INFINITY);
}
END_TEST

START_TEST(warnings_escalate)
{
	policy.rules[RULE_HEALTH].failures = 1000;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3; i++) {
		world.down = true;
		run(30 * SEC_, -1);
		world.down = false;
		run(60 * SEC_, -1);
	}
	ck_assert_uint_ge(seen.escalations, 1);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
}
END_TEST

START_TEST(escalation_may_roll_back_where_asked)
{
	policy.rules[RULE_HEALTH].failures = 1000;
	policy.rollback_on_escalation = true;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3 && seen.d.state == DS_WATCHING; i++) {
		world.down = true;
		run(30 * SEC_, DS_RB_SAVING);
		world.down = false;
		run(60 * SEC_, DS_RB_SAVING);
	}
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		a_healthy_release_succeeds,
		a_reload_does_not_touch_the_live_one,
		a_failed_deploy_hook_is_rolled_back_once,
		an_unknown_end_is_judged_by_health,
		each_unknown_end_is_told,
		gates_and_backup_can_refuse,
		late_answers_are_dropped,
		abort_only_before_anything_changed,
		one_live_deployment_per_environment,
		a_running_hook_cannot_be_superseded,
		rollback_during_the_deploy_hook_waits_for_it,
		rollback_long_after_success,
		nothing_to_roll_back,
		verification_has_a_deadline,
		a_deadline_that_was_slept_through_counts_anew,
		a_rollback_is_verified_by_three_passes_in_a_row,
		answers_of_an_attempt_that_is_over_do_nothing,
		the_watch_after_a_rollback_ends,
		warnings_escalate,
		escalation_may_roll_back_where_asked,
	};

	return run_suite("life", tests, ARRAY_SIZE(tests));
}
