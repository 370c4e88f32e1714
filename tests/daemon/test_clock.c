/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <stdlib.h>

#include "common/util.h"
#include "daemon/clock.h"

#define SEC_ USEC_PER_SEC

/* As written by a daemon that ended `ago` before now, in this boot. */
static struct store_clock
kept(usec_t ago)
{
	struct clock c;
	struct store_clock none = {0}, pair;

	clock_init(&c, &none);
	pair = clock_pair(&c);
	pair.core -= ago;
	pair.wall -= ago;
	pair.boottime -= ago;
	return pair;
}

/* Core time now, against the kept one; a second of slack for a slow machine. */
static void
ck_passed(const struct store_clock *last, usec_t least)
{
	struct clock c;
	usec_t passed;

	clock_init(&c, last);
	passed = clock_now(&c) - last->core;
	ck_assert_msg(passed >= least && passed < least + 10 * SEC_, "%lld us, not %lld",
		      (long long)passed, (long long)least);
}

START_TEST(goes_on_in_the_same_boot_whatever_the_wall_clock_says)
{
	struct store_clock last = kept(100 * SEC_);

	ck_passed(&last, 100 * SEC_);
	last.wall -= 365 * USEC_PER_DAY;
	ck_passed(&last, 100 * SEC_);
	last.wall += 2 * 365 * USEC_PER_DAY;
	ck_passed(&last, 100 * SEC_);
}
END_TEST

START_TEST(another_boot_is_as_long_ago_as_the_wall_clock_says)
{
	struct store_clock last = kept(100 * SEC_);

	str_copy(last.boot_id, sizeof last.boot_id, "another");
	last.boottime += USEC_PER_DAY;
	ck_passed(&last, 100 * SEC_);
	last.wall += USEC_PER_DAY; /* set back meanwhile: time does not run backwards for that */
	ck_passed(&last, 0);
}
END_TEST

START_TEST(an_earlier_time_namespace_is_like_another_boot)
{
	struct store_clock last = kept(100 * SEC_);

	last.boottime += USEC_PER_DAY;
	ck_passed(&last, 100 * SEC_);
}
END_TEST

START_TEST(steps_of_the_wall_clock_are_told_once)
{
	struct store_clock none = {0};
	struct clock c;
	usec_t now, wall;

	clock_init(&c, &none);
	now = clock_now(&c);
	wall = now_realtime();
	ck_assert_int_eq(clock_step(&c, now, wall), 0);
	wall += USEC_PER_HOUR;
	ck_assert_int_ge(clock_step(&c, now, wall), USEC_PER_HOUR - SEC_);
	ck_assert_int_eq(clock_step(&c, now, wall), 0);
	wall -= 365 * USEC_PER_DAY;
	ck_assert_int_eq(clock_step(&c, now, wall), -365 * USEC_PER_DAY);
	wall += SEC_; /* a leap second */
	ck_assert_int_eq(clock_step(&c, now, wall), SEC_);
}
END_TEST

START_TEST(adjustments_are_no_steps)
{
	struct store_clock none = {0};
	struct clock c;
	usec_t now, wall;

	clock_init(&c, &none);
	now = clock_now(&c);
	wall = now_realtime();
	for (int i = 0; i < 1000; i++) {
		now += USEC_PER_HOUR;
		wall += USEC_PER_HOUR + (i % 2 ? 1 : -1) * USEC_PER_HOUR / 2000;
		ck_assert_int_eq(clock_step(&c, now, wall), 0);
	}
}
END_TEST

START_TEST(a_step_while_away_is_told)
{
	struct store_clock last = kept(100 * SEC_);
	struct clock c;

	clock_init(&c, &last);
	ck_assert_int_eq(clock_step(&c, clock_now(&c), now_realtime()), 0);
	last.wall -= USEC_PER_HOUR;
	clock_init(&c, &last);
	ck_assert_int_ge(clock_step(&c, clock_now(&c), now_realtime()), USEC_PER_HOUR - SEC_);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("clock");
	TCase *t = tcase_create("clock");
	SRunner *r;
	int failed;

	tcase_add_test(t, goes_on_in_the_same_boot_whatever_the_wall_clock_says);
	tcase_add_test(t, another_boot_is_as_long_ago_as_the_wall_clock_says);
	tcase_add_test(t, an_earlier_time_namespace_is_like_another_boot);
	tcase_add_test(t, steps_of_the_wall_clock_are_told_once);
	tcase_add_test(t, adjustments_are_no_steps);
	tcase_add_test(t, a_step_while_away_is_told);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
