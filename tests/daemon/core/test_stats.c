/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/core/stats.h"

/* Solves the score equation by bisection: slow, obvious, and another way than the formula. */
static double
slow_bound(double bad, double total, double z, int side)
{
	double p = bad / total, lo = side < 0 ? 0 : p, hi = side < 0 ? p : 1;

	for (int i = 0; i < 200; i++) {
		double mid = (lo + hi) / 2;
		bool outside = fabs(p - mid) > z * sqrt(mid * (1 - mid) / total);

		if (outside == (side < 0))
			lo = mid;
		else
			hi = mid;
	}
	return (lo + hi) / 2;
}

START_TEST(agrees_with_the_score_equation)
{
	static const double zs[] = {STATS_Z_RECOVER, STATS_Z_ACT};

	for (int total = 1; total < 2000; total = total * 3 / 2 + 1)
		for (int bad = 0; bad <= total; bad += 1 + total / 17)
			for (int i = 0; i < 2; i++) {
				ck_assert_double_eq_tol(wilson_lower(bad, total, zs[i]),
							slow_bound(bad, total, zs[i], -1), 1e-9);
				ck_assert_double_eq_tol(wilson_upper(bad, total, zs[i]),
							slow_bound(bad, total, zs[i], 1), 1e-9);
			}
}
END_TEST

START_TEST(knows_nothing_of_nothing)
{
	ck_assert_double_eq(wilson_lower(0, 0, 3), 0);
	ck_assert_double_eq(wilson_upper(0, 0, 3), 1);
	ck_assert_double_eq(wilson_lower(0, 40, 3), 0);
	ck_assert_double_eq(wilson_upper(40, 40, 3), 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("stats");
	TCase *t = tcase_create("wilson");
	SRunner *r;
	int failed;

	tcase_add_test(t, agrees_with_the_score_equation);
	tcase_add_test(t, knows_nothing_of_nothing);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
