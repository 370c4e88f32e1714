/* SPDX-License-Identifier: Apache-2.0 */
/* What a suspend does to it is tried on the whole daemon, in tests/integration/test_time.py. */

#include <check.h>
#include <event2/event.h>
#include <stdlib.h>

#include "common/util.h"
#include "daemon/alarm.h"

static struct event_base *base;
static struct alarm *alarm_;
static unsigned rung;
static usec_t rung_at;

static void
ring(void *arg)
{
	ck_assert_ptr_eq(arg, &rung);
	rung++;
	rung_at = now_boottime();
	event_base_loopbreak(base);
}

static void
setup(void)
{
	rung = 0;
	base = event_base_new();
	ck_assert_int_eq(alarm_new(base, ring, &rung, &alarm_), 0);
}

static void
teardown(void)
{
	alarm_free(alarm_);
	event_base_free(base);
}

static void
stop(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(base);
}

/* Runs the loop until it rings or this time is over. */
static void
run_for(usec_t span)
{
	struct timeval tv = {.tv_sec = span / USEC_PER_SEC, .tv_usec = span % USEC_PER_SEC};
	struct event *end = evtimer_new(base, stop, NULL);

	evtimer_add(end, &tv);
	event_base_dispatch(base);
	event_free(end);
}

START_TEST(rings_once_and_not_early)
{
	usec_t at = now_boottime() + 50 * USEC_PER_MSEC;

	alarm_set(alarm_, at);
	run_for(20 * USEC_PER_SEC);
	ck_assert_uint_eq(rung, 1);
	ck_assert_int_ge(rung_at, at);
	run_for(50 * USEC_PER_MSEC);
	ck_assert_uint_eq(rung, 1);
}
END_TEST

START_TEST(rings_at_once_for_what_is_past)
{
	alarm_set(alarm_, now_boottime() - USEC_PER_HOUR);
	run_for(20 * USEC_PER_SEC);
	ck_assert_uint_eq(rung, 1);
	alarm_set(alarm_, -5);
	run_for(20 * USEC_PER_SEC);
	ck_assert_uint_eq(rung, 2);
}
END_TEST

START_TEST(can_be_moved_and_taken_back)
{
	usec_t now = now_boottime();

	alarm_set(alarm_, now + USEC_PER_HOUR);
	alarm_set(alarm_, now + 10 * USEC_PER_MSEC);
	run_for(20 * USEC_PER_SEC);
	ck_assert_uint_eq(rung, 1);
	alarm_set(alarm_, now_boottime() + 10 * USEC_PER_MSEC);
	alarm_set(alarm_, USEC_INFINITY);
	run_for(50 * USEC_PER_MSEC);
	ck_assert_uint_eq(rung, 1);
}
END_TEST

/* The same moment again, after it rang, is not taken for what is set already. */
START_TEST(rings_again_for_the_same_moment)
{
	usec_t at = now_boottime();

	for (unsigned i = 1; i <= 3; i++) {
		alarm_set(alarm_, at);
		run_for(20 * USEC_PER_SEC);
		ck_assert_uint_eq(rung, i);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("alarm");
	TCase *t = tcase_create("alarm");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, rings_once_and_not_early);
	tcase_add_test(t, rings_at_once_for_what_is_past);
	tcase_add_test(t, can_be_moved_and_taken_back);
	tcase_add_test(t, rings_again_for_the_same_moment);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
