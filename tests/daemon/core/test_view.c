/* SPDX-License-Identifier: Apache-2.0 */
/* What status and explain are told. */

#include "tests/daemon/core/script.h"

/* Before anything changed there is nothing to judge, and no release to blame. */
START_TEST(view_before_the_deploy)
{
	struct core_event e = {.kind = EV_CONFIGURE};
	struct env_view v;

	policy.idle_interval_usec = 30 * SEC_;
	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
	world.down = world.all_down = true;
	run(5 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BREACHED);
	ck_assert_str_eq(v.scenario, "");
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	core_view(core, 0, now, &v);
	ck_assert(!v.rules[RULE_ERROR_RATE].armed);
	ck_assert_str_eq(v.rules[RULE_ERROR_RATE].evidence.text, "not in force while gates");
	ck_assert_int_eq(v.verdict, VERDICT_BLIND); /* of this deployment nothing is known yet */
}
END_TEST

START_TEST(view_tells_what_is_asked_of_the_operator)
{
	struct env_view v;

	to_watching();
	run(5 * MIN_, -1);
	ck_assert_int_eq(core_view(core, 0, now, &v), 0);
	ck_assert_int_eq(v.verdict, VERDICT_HEALTHY);
	ck_assert_str_eq(v.scenario, "");
	ck_assert_int_eq(v.phase, 0);
	ck_assert_int_eq(v.coverage[0].observed, v.coverage[0].elapsed);
	/* Just before the next samples nothing is missing yet; long after, it is. */
	core_view(core, 0, v.next_sample - 1, &v);
	ck_assert_int_eq(v.coverage[0].observed, v.coverage[0].elapsed);
	core_view(core, 0, v.next_sample + MIN_, &v);
	ck_assert_int_gt(v.coverage[0].elapsed, v.coverage[0].observed + MIN_);
	world.error_rate = 0.3;
	run(2 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_SUSPECT);
	ck_assert(v.rechecking);
	ck_assert(strstr(v.rules[RULE_ERROR_RATE].evidence.text, "fires in") != NULL);
	/* The alert is read later, when a countdown would no longer be true. */
	ck_assert_int_eq(v.alerts[CAUSE_ERROR_RATE].level, LEVEL_WARNING);
	ck_assert_ptr_nonnull(strstr(v.alerts[CAUSE_ERROR_RATE].text, "over the limit of 10%"));
	ck_assert_ptr_null(strstr(v.alerts[CAUSE_ERROR_RATE].text, "fires"));
	world.down = world.all_down = true;
	run(30 * SEC_, -1);
	core_view(core, 0, now, &v);
	ck_assert_str_eq(v.scenario, "complete service outage");
	ck_assert_int_lt(core_view(core, 7, now, &v), 0);
}
END_TEST

START_TEST(view_of_an_idle_environment_is_its_health)
{
	struct env_view v;

	policy.idle_interval_usec = MIN_;
	reconfigure();
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BLIND);
	to_watching();
	run(250 * MIN_, DS_SUCCEEDED);
	run(20 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_HEALTHY);
	for (int r = 0; r < _RULE_MAX; r++)
		ck_assert_msg(!v.rules[r].armed, "%s", rule_kind_name(r));
	world.down = true;
	run(10 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BREACHED);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		view_before_the_deploy,
		view_tells_what_is_asked_of_the_operator,
		view_of_an_idle_environment_is_its_health,
	};

	return run_suite("view", tests, ARRAY_SIZE(tests));
}
