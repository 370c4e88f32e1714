/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/core/schedule.h"

#define MIN_ USEC_PER_MINUTE
#define SEC_ USEC_PER_SEC

static struct policy policy;

static void
setup(void)
{
	policy_init(&policy);
}

START_TEST(phases_of_the_guide)
{
	ck_assert_int_eq(schedule_phase(&policy, -1), -1);
	ck_assert_int_eq(schedule_phase(&policy, 0), 0);
	ck_assert_int_eq(schedule_phase(&policy, 15 * MIN_ - 1), 0);
	ck_assert_int_eq(schedule_phase(&policy, 15 * MIN_), 1);
	ck_assert_int_eq(schedule_phase(&policy, 60 * MIN_ - 1), 1);
	ck_assert_int_eq(schedule_phase(&policy, 60 * MIN_), 2);
	ck_assert_int_eq(schedule_phase(&policy, 240 * MIN_ - 1), 2);
	ck_assert_int_eq(schedule_phase(&policy, 240 * MIN_), -1);
}
END_TEST

START_TEST(counts_of_samples)
{
	unsigned n[4] = {0};

	for (usec_t t = schedule_next(&policy, 0, -1); t != USEC_INFINITY;
	     t = schedule_next(&policy, 0, t)) {
		int phase = schedule_phase(&policy, t);

		n[phase < 0 ? 3 : phase]++;
	}
	ck_assert_uint_eq(n[0], 30); /* 15 min every 30 s */
	ck_assert_uint_eq(n[1], 45); /* 45 min every 60 s */
	ck_assert_uint_eq(n[2], 36); /* 180 min every 300 s */
	ck_assert_uint_eq(n[3], 1);  /* the end */
}
END_TEST

START_TEST(spread_shifts_the_grid_and_keeps_it)
{
	usec_t spread = 95 * SEC_;

	ck_assert_int_eq(schedule_next(&policy, spread, -1), 5 * SEC_);
	ck_assert_int_eq(schedule_next(&policy, spread, 5 * SEC_), 35 * SEC_);
	ck_assert_int_eq(schedule_next(&policy, spread, 15 * MIN_), 15 * MIN_ + 35 * SEC_);
	ck_assert_int_eq(schedule_next(&policy, spread, 60 * MIN_), 60 * MIN_ + 95 * SEC_);
}
END_TEST

/* Against the obvious: every point of the grid written down, then the first one after. */
START_TEST(agrees_with_a_list)
{
	unsigned seed = (unsigned)time(NULL);

	printf("schedule: seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 200; round++) {
		usec_t list[2000], spread = rand() % 1000 * SEC_, begin = 0;
		size_t n = 0;

		setup();
		for (unsigned i = 0; i < policy.n_phases; i++) {
			policy.phases[i].interval_usec = (1 + rand() % 300) * SEC_;
			policy.phases[i].until_usec =
				begin + policy.phases[i].interval_usec + rand() % 6000 * SEC_;
			for (usec_t t = begin + spread % policy.phases[i].interval_usec;
			     t < policy.phases[i].until_usec && n < 1999;
			     t += policy.phases[i].interval_usec)
				list[n++] = t;
			begin = policy.phases[i].until_usec;
		}
		if (n >= 1999)
			continue;
		list[n++] = begin;
		for (int probe = 0; probe < 100; probe++) {
			usec_t after = rand() % (begin / SEC_ + 10) * SEC_ - SEC_,
			       expect = USEC_INFINITY;

			for (size_t i = n; i-- > 0;)
				if (list[i] > after)
					expect = list[i];
			ck_assert_int_eq(schedule_next(&policy, spread, after), expect);
		}
	}
}
END_TEST

START_TEST(endless_grid)
{
	ck_assert_int_eq(grid_next(100, 30, 0), 100);
	ck_assert_int_eq(grid_next(100, 30, 99), 100);
	ck_assert_int_eq(grid_next(100, 30, 100), 130);
	ck_assert_int_eq(grid_next(100, 30, 129), 130);
	ck_assert_int_eq(grid_next(100, 30, 130), 160);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("schedule");
	TCase *t = tcase_create("grid");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, phases_of_the_guide);
	tcase_add_test(t, counts_of_samples);
	tcase_add_test(t, spread_shifts_the_grid_and_keeps_it);
	tcase_add_test(t, agrees_with_a_list);
	tcase_add_test(t, endless_grid);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
