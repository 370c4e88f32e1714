/* SPDX-License-Identifier: Apache-2.0 */

#include "common/time-util.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "common/util.h"

static usec_t
clock_usec(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

usec_t
now_boottime(void)
{
	return clock_usec(CLOCK_BOOTTIME);
}

usec_t
now_realtime(void)
{
	return clock_usec(CLOCK_REALTIME);
}

usec_t
slept_so_far(void)
{
	usec_t before, boottime, after;

	do { /* until nothing came between the two */
		before = clock_usec(CLOCK_MONOTONIC);
		boottime = clock_usec(CLOCK_BOOTTIME);
		after = clock_usec(CLOCK_MONOTONIC);
	} while (after - before > 10 * USEC_PER_MSEC);
	return boottime - before;
}

bool
slept_since(usec_t before)
{
	return slept_so_far() - before > USEC_PER_SEC;
}

/* The units of systemd.time(7), all of them: people copy spans from their units. */
#define USEC_PER_MONTH (2629800 * USEC_PER_SEC) /* a twelfth of the Julian year */
#define USEC_PER_YEAR (31557600 * USEC_PER_SEC)

static const struct unit {
	const char *name;
	usec_t usec;
} units[] = {
	{"d", USEC_PER_DAY},
	{"day", USEC_PER_DAY},
	{"days", USEC_PER_DAY},
	{"w", 7 * USEC_PER_DAY},
	{"week", 7 * USEC_PER_DAY},
	{"weeks", 7 * USEC_PER_DAY},
	{"h", USEC_PER_HOUR},
	{"hr", USEC_PER_HOUR},
	{"hour", USEC_PER_HOUR},
	{"hours", USEC_PER_HOUR},
	{"min", USEC_PER_MINUTE},
	{"m", USEC_PER_MINUTE},
	{"minute", USEC_PER_MINUTE},
	{"minutes", USEC_PER_MINUTE},
	{"s", USEC_PER_SEC},
	{"sec", USEC_PER_SEC},
	{"second", USEC_PER_SEC},
	{"seconds", USEC_PER_SEC},
	{"ms", USEC_PER_MSEC},
	{"msec", USEC_PER_MSEC},
	{"us", 1},
	{"usec", 1},
	{"\xc2\xb5s", 1}, /* micro sign */
	{"\xce\xbcs", 1}, /* Greek mu */
	{"M", USEC_PER_MONTH},
	{"month", USEC_PER_MONTH},
	{"months", USEC_PER_MONTH},
	{"y", USEC_PER_YEAR},
	{"year", USEC_PER_YEAR},
	{"years", USEC_PER_YEAR},
};

static const usec_t span_max = 100 * USEC_PER_YEAR;

static const char *
skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

/* "1.5" or ".5": the number and its fraction; NULL for what is none, as "1." or "1.5.5". */
static const char *
parse_number(const char *s, uint64_t *ret_whole, double *ret_fraction)
{
	uint64_t whole = 0;
	double place = 0.1, fraction = 0;
	const char *begin = s;

	/* Far over the longest span it stays where it is: out of range, whatever comes. */
	for (; *s >= '0' && *s <= '9'; s++)
		if (whole <= (uint64_t)INT64_MAX / 100)
			whole = whole * 10 + (uint64_t)(*s - '0');
	if (*s == '.' && s[1] >= '0' && s[1] <= '9')
		for (s++; *s >= '0' && *s <= '9'; s++, place /= 10)
			fraction += place * (*s - '0');
	if (s == begin || *s == '.')
		return NULL;
	*ret_whole = whole;
	*ret_fraction = fraction;
	return s;
}

static const struct unit *
find_unit(const char *s, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (strlen(units[i].name) == len && strncmp(units[i].name, s, len) == 0)
			return &units[i];
	return NULL;
}

int
usec_parse(const char *s, usec_t *ret)
{
	usec_t sum = 0;

	s = skip_blanks(s);
	if (*s == '\0')
		return -EINVAL;
	while (*s) {
		uint64_t whole;
		double fraction;
		usec_t unit = USEC_PER_SEC;
		size_t len;

		s = parse_number(s, &whole, &fraction);
		if (!s)
			return -EINVAL;
		s = skip_blanks(s);
		len = strcspn(s, " \t.0123456789");
		if (len > 0) {
			const struct unit *u = find_unit(s, len);

			if (!u)
				return -EINVAL;
			unit = u->usec;
			s += len;
		}
		if (whole > (uint64_t)(span_max / unit))
			return -ERANGE;
		sum += (usec_t)whole * unit + (usec_t)(fraction * (double)unit + 0.5);
		if (sum > span_max)
			return -ERANGE;
		s = skip_blanks(s);
	}
	*ret = sum;
	return 0;
}

char *
usec_format(char buf[USEC_TEXT_MAX], usec_t span)
{
	static const struct unit shown[] = {
		{"d", USEC_PER_DAY}, {"h", USEC_PER_HOUR},  {"min", USEC_PER_MINUTE},
		{"s", USEC_PER_SEC}, {"ms", USEC_PER_MSEC}, {"us", 1},
	};
	const char *sign = span < 0 ? "-" : "";
	size_t i = 0;
	usec_t rest;

	if (span == USEC_INFINITY) {
		str_copy(buf, USEC_TEXT_MAX, "infinity");
		return buf;
	}
	/* The least of all has no positive counterpart. */
	span = span < 0 ? -MAX(span, -USEC_INFINITY) : span;
	while (i + 1 < ARRAY_SIZE(shown) && span < shown[i].usec)
		i++;
	if (span == 0) {
		str_copy(buf, USEC_TEXT_MAX, "0s");
		return buf;
	}
	/* Below ten seconds a fraction says more than a second unit. */
	if (shown[i].usec == USEC_PER_SEC) {
		if (span < 10 * USEC_PER_SEC && span % USEC_PER_SEC >= 100 * USEC_PER_MSEC)
			snprintf(buf, USEC_TEXT_MAX, "%s%" PRId64 ".%" PRId64 "s", sign,
				 span / USEC_PER_SEC, span % USEC_PER_SEC / (100 * USEC_PER_MSEC));
		else
			snprintf(buf, USEC_TEXT_MAX, "%s%" PRId64 "s", sign, span / USEC_PER_SEC);
		return buf;
	}
	rest = i + 1 < ARRAY_SIZE(shown) ? span % shown[i].usec / shown[i + 1].usec : 0;
	if (shown[i].usec < USEC_PER_SEC)
		rest = 0;
	if (rest > 0)
		snprintf(buf, USEC_TEXT_MAX, "%s%" PRId64 "%s %" PRId64 "%s", sign,
			 span / shown[i].usec, shown[i].name, rest, shown[i + 1].name);
	else
		snprintf(buf, USEC_TEXT_MAX, "%s%" PRId64 "%s", sign, span / shown[i].usec,
			 shown[i].name);
	return buf;
}

char *
usec_format_exact(char buf[USEC_TEXT_MAX], usec_t span)
{
	if (span % USEC_PER_SEC == 0)
		snprintf(buf, USEC_TEXT_MAX, "%" PRId64 "s", span / USEC_PER_SEC);
	else if (span % USEC_PER_MSEC == 0)
		snprintf(buf, USEC_TEXT_MAX, "%" PRId64 "ms", span / USEC_PER_MSEC);
	else
		snprintf(buf, USEC_TEXT_MAX, "%" PRId64 "us", span);
	return buf;
}

/* A clock that was never set may stand before 1970: counted up from the second before, too. */
static usec_t
within_second(usec_t wall)
{
	return (wall % USEC_PER_SEC + USEC_PER_SEC) % USEC_PER_SEC;
}

static char *
format_utc(char buf[USEC_TEXT_MAX], usec_t wall, const char *fmt)
{
	/* Rounded down: the subtraction of the rest would leave the range at its lower end. */
	time_t t = wall / USEC_PER_SEC - (wall % USEC_PER_SEC < 0);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, USEC_TEXT_MAX, fmt, &tm);
	return buf;
}

char *
wall_format(char buf[USEC_TEXT_MAX], usec_t wall)
{
	size_t n;

	format_utc(buf, wall, "%Y-%m-%dT%H:%M:%S");
	n = strlen(buf);
	snprintf(buf + n, USEC_TEXT_MAX - n, ".%03dZ", (int)(within_second(wall) / USEC_PER_MSEC));
	return buf;
}

char *
wall_format_compact(char buf[USEC_TEXT_MAX], usec_t wall)
{
	return format_utc(buf, wall, "%Y%m%d-%H%M%S");
}
