/* SPDX-License-Identifier: Apache-2.0 */

/* Spans as systemd.time(7) writes them, and what is no span. */

#include "common/time-util.h"

#include <check.h>
#include <errno.h>

#include "common/util.h"

START_TEST(spans_are_read)
{
	static const struct {
		const char *text;
		usec_t usec;
	} rows[] = {
		{"100ms", 100 * USEC_PER_MSEC},
		{"250", 250 * USEC_PER_SEC},
		{"0", 0},
		{" 1h 30min ", 90 * USEC_PER_MINUTE},
		{"1h30min", 90 * USEC_PER_MINUTE},
		{"2 days", 2 * USEC_PER_DAY},
		{"1w", 7 * USEC_PER_DAY},
		{"1.5h", 90 * USEC_PER_MINUTE},
		{"0.1s", 100 * USEC_PER_MSEC},
		{"7us", 7},
		{"36500d", 36500 * USEC_PER_DAY},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		usec_t got = -1;

		ck_assert_msg(usec_parse(rows[i].text, &got) == 0, "%s", rows[i].text);
		ck_assert_msg(got == rows[i].usec, "%s: %lld", rows[i].text, (long long)got);
	}
}
END_TEST

START_TEST(what_is_no_span_changes_nothing)
{
	static const struct {
		const char *text;
		int error;
	} rows[] = {
		{"", -EINVAL},
		{"  ", -EINVAL},
		{"-1s", -EINVAL},
		{"5 parsecs", -EINVAL},
		{"5S", -EINVAL},
		{".5s", -EINVAL},
		{"1e3", -EINVAL},
		{"s", -EINVAL},
		{"30s,", -EINVAL},
		{"nan", -EINVAL},
		{"36501d", -ERANGE},
		{"36500d 1us", -ERANGE},
		{"5300w", -ERANGE},
		{"36500.5d", -ERANGE},
		{"18446744073709551617s", -ERANGE},
		{"99999999999999999999999999999999999999us", -ERANGE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		usec_t got = 42;

		ck_assert_msg(usec_parse(rows[i].text, &got) == rows[i].error, "%s", rows[i].text);
		ck_assert_int_eq(got, 42);
	}
}
END_TEST

START_TEST(spans_for_people)
{
	static const struct {
		usec_t span;
		const char *text;
	} rows[] = {
		{0, "0s"},
		{250 * USEC_PER_MSEC, "250ms"},
		{1500 * USEC_PER_MSEC, "1.5s"},
		{14 * USEC_PER_MINUTE + 30 * USEC_PER_SEC, "14min 30s"},
		{2 * USEC_PER_HOUR + 5 * USEC_PER_MINUTE, "2h 5min"},
		{26 * USEC_PER_HOUR, "1d 2h"},
		{-USEC_PER_MINUTE, "-1min"},
		{USEC_INFINITY, "infinity"},
	};
	char buf[USEC_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_str_eq(usec_format(buf, rows[i].span), rows[i].text);
}
END_TEST

START_TEST(exact_spans_come_back_the_same)
{
	static const usec_t spans[] = {
		0,
		1,
		999,
		1000,
		1001,
		999999,
		1000000,
		1500000,
		900 * USEC_PER_SEC,
		36500 * USEC_PER_DAY,
	};
	char buf[USEC_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		usec_t got = -1;

		ck_assert_int_eq(usec_parse(usec_format_exact(buf, spans[i]), &got), 0);
		ck_assert_int_eq(got, spans[i]);
	}
}
END_TEST

START_TEST(stamps_are_utc)
{
	char buf[USEC_TEXT_MAX];
	usec_t wall = (usec_t)1709210096 * USEC_PER_SEC + 7 * USEC_PER_MSEC;

	ck_assert_str_eq(wall_format(buf, wall), "2024-02-29T12:34:56.007Z");
	ck_assert_str_eq(wall_format_compact(buf, wall), "20240229-123456");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("time-util");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, spans_are_read);
	tcase_add_test(t, what_is_no_span_changes_nothing);
	tcase_add_test(t, spans_for_people);
	tcase_add_test(t, exact_spans_come_back_the_same);
	tcase_add_test(t, stamps_are_utc);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
