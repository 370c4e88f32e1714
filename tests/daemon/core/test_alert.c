/* SPDX-License-Identifier: Apache-2.0 */
/* Edges of alerts, and when they escalate. */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/alert.h"

static struct book book;
static struct policy policy;
static struct book_change change;
static const char *why;

static void
setup(void)
{
	memset(&book, 0, sizeof book);
	policy_init(&policy);
}

static void
teardown(void)
{
	book_done(&book);
}

static bool
set(enum cause c, enum level l, usec_t at)
{
	struct core_event e = {.now = at, .wall = at + 7};

	return book_set(&book, c, l, &e, "deploy-1", "text", &change);
}

START_TEST(one_edge_each_way)
{
	ck_assert(!set(CAUSE_HEALTH, LEVEL_NONE, 1));
	ck_assert(set(CAUSE_HEALTH, LEVEL_WARNING, 2));
	ck_assert(change.raised && !change.resolved);
	ck_assert(!set(CAUSE_HEALTH, LEVEL_WARNING, 3));
	ck_assert(set(CAUSE_HEALTH, LEVEL_CRITICAL, 4)); /* grew worse */
	ck_assert(change.raised && change.resolved);
	ck_assert_int_eq(change.resolved_alert.level, LEVEL_WARNING);
	ck_assert(!set(CAUSE_HEALTH, LEVEL_WARNING, 5)); /* no news that it is half as bad */
	ck_assert(set(CAUSE_HEALTH, LEVEL_NONE, 6));
	ck_assert(change.resolved && !change.raised);
	ck_assert_int_eq(change.resolved_alert.raised_at, 4);
	ck_assert_int_eq(change.resolved_alert.resolved_at, 6);
	ck_assert_int_eq(change.resolved_alert.resolved_wall, 13);
}
END_TEST

START_TEST(two_independent_criticals_escalate_once)
{
	set(CAUSE_HEALTH, LEVEL_CRITICAL, 1);
	ck_assert(!book_escalates(&book, &policy, 1, &why));
	set(CAUSE_HEALTH, LEVEL_NONE, 2);
	set(CAUSE_HEALTH, LEVEL_CRITICAL, 3); /* the same cause again is not a second one */
	ck_assert(!book_escalates(&book, &policy, 3, &why));
	set(CAUSE_HOOK, LEVEL_CRITICAL, 4);
	ck_assert(book_escalates(&book, &policy, 4, &why));
	ck_assert(!book_escalates(&book, &policy, 5, &why));
	book_fresh(&book);
	ck_assert(book_escalates(&book, &policy, 6, &why));
}
END_TEST

START_TEST(warnings_within_the_window)
{
	usec_t window = policy.escalate_window_usec;

	set(CAUSE_HEALTH, LEVEL_WARNING, 1);
	set(CAUSE_LATENCY, LEVEL_WARNING, 2);
	ck_assert(!book_escalates(&book, &policy, 2, &why));
	set(CAUSE_ERROR_RATE, LEVEL_WARNING, window + 2);
	ck_assert(!book_escalates(&book, &policy, window + 2, &why)); /* the first is too old */
	set(CAUSE_BACKUP, LEVEL_WARNING, window + 2);
	ck_assert(book_escalates(&book, &policy, window + 2, &why)); /* the second just not */
}
END_TEST

START_TEST(a_restart_remembers)
{
	struct alert a = {.cause = CAUSE_HEALTH, .level = LEVEL_CRITICAL, .raised_at = 5};

	book_restore(&book, &a);
	a.cause = CAUSE_HOOK;
	book_restore(&book, &a);
	a.cause = CAUSE_LATENCY;
	a.resolved_at = 6;
	book_restore(&book, &a); /* resolved: not open */
	ck_assert_int_eq(book_level(&book, CAUSE_HEALTH), LEVEL_CRITICAL);
	ck_assert_int_eq(book_level(&book, CAUSE_LATENCY), LEVEL_NONE);
	book_resume(&book, &policy, 10);
	set(CAUSE_BACKUP, LEVEL_CRITICAL, 11);
	ck_assert(!book_escalates(&book, &policy, 11, &why)); /* it has been, before */
	ck_assert(!set(CAUSE_HEALTH, LEVEL_CRITICAL, 12));    /* the same alert goes on */
	ck_assert_int_eq(book.v[CAUSE_HEALTH]->raised_at, 5);
}
END_TEST

START_TEST(warnings_count_over_a_restart)
{
	struct alert a = {.cause = CAUSE_HEALTH, .level = LEVEL_WARNING, .raised_at = 5};

	book_restore(&book, &a);
	a.cause = CAUSE_LATENCY;
	book_restore(&book, &a);
	book_resume(&book, &policy, 10);
	set(CAUSE_ERROR_RATE, LEVEL_WARNING, 11);
	ck_assert(book_escalates(&book, &policy, 11, &why));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("alert");
	TCase *t = tcase_create("alert");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, one_edge_each_way);
	tcase_add_test(t, two_independent_criticals_escalate_once);
	tcase_add_test(t, warnings_within_the_window);
	tcase_add_test(t, a_restart_remembers);
	tcase_add_test(t, warnings_count_over_a_restart);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
