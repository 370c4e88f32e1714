/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/time-util.h"
#include "common/util.h"

/* What `systemd-analyze timespan` of systemd 252 reads. */
static const struct {
	const char *text;
	usec_t usec;
} spans[] = {
	{"30s", 30 * USEC_PER_SEC},
	{"15min", 15 * USEC_PER_MINUTE},
	{"15m", 15 * USEC_PER_MINUTE},
	{"1h 30min", 90 * USEC_PER_MINUTE},
	{"1h30min", 90 * USEC_PER_MINUTE},
	{"1hour30minutes", 90 * USEC_PER_MINUTE},
	{"1h30", USEC_PER_HOUR + 30 * USEC_PER_SEC},
	{"2hr 1 minute", 2 * USEC_PER_HOUR + USEC_PER_MINUTE},
	{"3hours", 3 * USEC_PER_HOUR},
	{"100ms", 100 * USEC_PER_MSEC},
	{"1msec", USEC_PER_MSEC},
	{"5s500ms", 5500 * USEC_PER_MSEC},
	{" 5 s\t3 ms ", 5003 * USEC_PER_MSEC},
	{"7us", 7},
	{"7usec", 7},
	{"5\xc2\xb5s", 5},
	{"5\xce\xbcs", 5},
	{"250", 250 * USEC_PER_SEC},
	{"0", 0},
	{"0s", 0},
	{"000000000000000000000000000001s", USEC_PER_SEC},
	{"1sec", USEC_PER_SEC},
	{"1second", USEC_PER_SEC},
	{"2seconds", 2 * USEC_PER_SEC},
	{"5 5", 10 * USEC_PER_SEC},
	{"1.5s", 1500 * USEC_PER_MSEC},
	{"1.5d", 36 * USEC_PER_HOUR},
	{"2.5", 2500 * USEC_PER_MSEC},
	{".5", 500 * USEC_PER_MSEC},
	{".22s", 220 * USEC_PER_MSEC},
	{"0.1ms", 100},
	{"12.34 .56", 12900 * USEC_PER_MSEC},
	{"12.34s.56", 12900 * USEC_PER_MSEC},
	{"1d", USEC_PER_DAY},
	{"2day 1days", 3 * USEC_PER_DAY},
	{"1w", 7 * USEC_PER_DAY},
	{"2week", 14 * USEC_PER_DAY},
	{"2weeks", 14 * USEC_PER_DAY},
	{"1M", 2629800 * USEC_PER_SEC},
	{"1month", 2629800 * USEC_PER_SEC},
	{"2months", 2 * 2629800 * USEC_PER_SEC},
	{"1y", 31557600 * USEC_PER_SEC},
	{"1year", 31557600 * USEC_PER_SEC},
	{"100years", 100 * (31557600 * USEC_PER_SEC)},
	{"36525d", 36525 * USEC_PER_DAY},
};

static const struct {
	const char *text;
	int error;
} no_spans[] = {
	{"", -EINVAL},
	{" \t ", -EINVAL},
	{"s", -EINVAL},
	{"-5s", -EINVAL},
	{"5s -3s", -EINVAL},
	{"5s-3s", -EINVAL},
	{"5S", -EINVAL},
	{"5 MIN", -EINVAL},
	{"5mins", -EINVAL},
	{"5minx", -EINVAL},
	{"5s,3s", -EINVAL},
	{"5s\n", -EINVAL},
	{"1e3", -EINVAL},
	{"0x10", -EINVAL},
	{"1.", -EINVAL},
	{".", -EINVAL},
	{"1.s", -EINVAL},
	{"1..5", -EINVAL},
	{"12.34.56", -EINVAL},
	{"infinity", -EINVAL},
	{"nan", -EINVAL},
	{"10%", -EINVAL},
	{"5\xc2s", -EINVAL},
	{"36525d 1us", -ERANGE},
	{"36526d", -ERANGE},
	{"50y 50y 1s", -ERANGE},
	{"100.5y", -ERANGE},
	{"9223372036854775807us", -ERANGE},
	{"9223372036854775808", -ERANGE},
	{"18446744073709551616us", -ERANGE},
	{"18446744073709551617s", -ERANGE},
	{"99999999999999999999999999999999999999999999w", -ERANGE},
};

START_TEST(spans_are_read_as_systemd_reads_them)
{
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		usec_t v = -1;

		ck_assert_msg(usec_parse(spans[i].text, &v) == 0 && v == spans[i].usec,
			      "\"%s\" is %" PRId64 ", not %" PRId64, spans[i].text, v,
			      spans[i].usec);
	}
}
END_TEST

START_TEST(what_is_no_span_is_refused_and_leaves_the_result_alone)
{
	for (size_t i = 0; i < ARRAY_SIZE(no_spans); i++) {
		usec_t v = 4711;
		int r = usec_parse(no_spans[i].text, &v);

		ck_assert_msg(r == no_spans[i].error, "\"%s\" gives %d, not %d", no_spans[i].text,
			      r, no_spans[i].error);
		ck_assert_int_eq(v, 4711);
	}
}
END_TEST

static const struct {
	usec_t usec;
	const char *text;
} shown[] = {
	{0, "0s"},
	{1, "1us"},
	{999, "999us"},
	{1000, "1ms"},
	{1999, "1ms"},
	{250 * USEC_PER_MSEC, "250ms"},
	{USEC_PER_SEC - 1, "999ms"},
	{USEC_PER_SEC, "1s"},
	{USEC_PER_SEC + 99999, "1s"},
	{1500 * USEC_PER_MSEC, "1.5s"},
	{10 * USEC_PER_SEC - 1, "9.9s"},
	{10 * USEC_PER_SEC, "10s"},
	{10500 * USEC_PER_MSEC, "10s"},
	{USEC_PER_MINUTE - 1, "59s"},
	{USEC_PER_MINUTE, "1min"},
	{870 * USEC_PER_SEC, "14min 30s"},
	{USEC_PER_HOUR - 1, "59min 59s"},
	{USEC_PER_HOUR, "1h"},
	{125 * USEC_PER_MINUTE, "2h 5min"},
	{USEC_PER_HOUR + 59 * USEC_PER_SEC, "1h"},
	{USEC_PER_DAY - 1, "23h 59min"},
	{USEC_PER_DAY, "1d"},
	{400 * USEC_PER_DAY + 3 * USEC_PER_HOUR, "400d 3h"},
	{-870 * USEC_PER_SEC, "-14min 30s"},
	{-1500 * USEC_PER_MSEC, "-1.5s"},
	{-7, "-7us"},
	{USEC_INFINITY, "infinity"},
	{USEC_INFINITY - 1, "106751991d 4h"},
	{INT64_MIN, "-106751991d 4h"},
};

START_TEST(spans_for_people_have_two_units_at_most)
{
	char buf[USEC_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		ck_assert_ptr_eq(usec_format(buf, shown[i].usec), buf);
		ck_assert_str_eq(buf, shown[i].text);
	}
}
END_TEST

START_TEST(exact_spans_use_the_largest_unit_that_holds_them)
{
	char buf[USEC_TEXT_MAX];

	ck_assert_str_eq(usec_format_exact(buf, 900 * USEC_PER_SEC), "900s");
	ck_assert_str_eq(usec_format_exact(buf, 100 * USEC_PER_MSEC), "100ms");
	ck_assert_str_eq(usec_format_exact(buf, 7), "7us");
	ck_assert_str_eq(usec_format_exact(buf, USEC_PER_SEC + 1), "1000001us");
	ck_assert_str_eq(usec_format_exact(buf, 0), "0s");
}
END_TEST

/* A value of any magnitude up to the longest span, often with round units. */
static usec_t
random_span(void)
{
	static const usec_t grains[] = {1, USEC_PER_MSEC, USEC_PER_SEC, USEC_PER_HOUR};
	usec_t v = ((usec_t)random() << 31 | random()) % (36525 * USEC_PER_DAY);

	v >>= random() % 50;
	return v - v % grains[random() % 4];
}

/* What usec_format() drops is less than one of its smaller unit. */
static void
shown_is_near(usec_t v)
{
	char buf[USEC_TEXT_MAX];
	usec_t back = -1, grain = v < USEC_PER_MSEC       ? 1
				  : v < USEC_PER_SEC      ? USEC_PER_MSEC
				  : v < 10 * USEC_PER_SEC ? 100 * USEC_PER_MSEC
				  : v < USEC_PER_HOUR     ? USEC_PER_SEC
				  : v < USEC_PER_DAY      ? USEC_PER_MINUTE
							  : USEC_PER_HOUR;

	ck_assert_int_eq(usec_parse(usec_format(buf, v), &back), 0);
	ck_assert_msg(back <= v && v - back < grain, "%" PRId64 " is shown as %s", v, buf);
}

START_TEST(what_is_written_is_read_back)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)now_realtime();

	printf("time spans: SEED=%u\n", seed);
	fflush(stdout);
	srandom(seed);
	for (int i = 0; i < 200000; i++) {
		char buf[USEC_TEXT_MAX];
		usec_t v = random_span(), back = -1;

		ck_assert_int_eq(usec_parse(usec_format_exact(buf, v), &back), 0);
		ck_assert_msg(back == v, "%" PRId64 " is written %s, read %" PRId64, v, buf, back);
		shown_is_near(v);
	}
}
END_TEST

static const struct {
	usec_t wall;
	const char *iso, *compact;
} walls[] = {
	{0, "1970-01-01T00:00:00.000Z", "19700101-000000"},
	{1704110400 * USEC_PER_SEC, "2024-01-01T12:00:00.000Z", "20240101-120000"},
	{1709251199 * USEC_PER_SEC + 999999, "2024-02-29T23:59:59.999Z", "20240229-235959"},
	{951782400 * USEC_PER_SEC + 7000, "2000-02-29T00:00:00.007Z", "20000229-000000"},
	{4294967296 * USEC_PER_SEC, "2106-02-07T06:28:16.000Z", "21060207-062816"},
	{-1, "1969-12-31T23:59:59.999Z", "19691231-235959"},
	{-USEC_PER_SEC, "1969-12-31T23:59:59.000Z", "19691231-235959"},
	{-1500 * USEC_PER_MSEC, "1969-12-31T23:59:58.500Z", "19691231-235958"},
	{INT64_MIN, "-290308-12-21T19:59:05.224Z", "-2903081221-195905"},
};

START_TEST(wall_time_is_utc_whatever_the_zone)
{
	char buf[USEC_TEXT_MAX];

	setenv("TZ", "Asia/Kathmandu", 1);
	for (size_t i = 0; i < ARRAY_SIZE(walls); i++) {
		ck_assert_ptr_eq(wall_format(buf, walls[i].wall), buf);
		ck_assert_str_eq(buf, walls[i].iso);
		ck_assert_str_eq(wall_format_compact(buf, walls[i].wall), walls[i].compact);
	}
}
END_TEST

START_TEST(the_clocks_are_those_of_the_kernel)
{
	struct timespec ts;
	usec_t boot, real;

	boot = now_boottime();
	clock_gettime(CLOCK_BOOTTIME, &ts);
	ck_assert_int_le(boot, ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000);
	ck_assert_int_le(ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000, now_boottime());
	real = now_realtime();
	clock_gettime(CLOCK_REALTIME, &ts);
	ck_assert_int_lt(llabs(ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000 - real), USEC_PER_HOUR);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("time-util");
	TCase *t = tcase_create("time");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, spans_are_read_as_systemd_reads_them);
	tcase_add_test(t, what_is_no_span_is_refused_and_leaves_the_result_alone);
	tcase_add_test(t, spans_for_people_have_two_units_at_most);
	tcase_add_test(t, exact_spans_use_the_largest_unit_that_holds_them);
	tcase_add_test(t, what_is_written_is_read_back);
	tcase_add_test(t, wall_time_is_utc_whatever_the_zone);
	tcase_add_test(t, the_clocks_are_those_of_the_kernel);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
