/* SPDX-License-Identifier: Apache-2.0 */

#include "client/text.h"

#include <errno.h>
#include <math.h>
#include <time.h>

#include "common/util.h"

char *
text_ms(char buf[TEXT_MAX], int64_t ms)
{
	if (ms > INT64_MAX / USEC_PER_MSEC)
		ms = INT64_MAX / USEC_PER_MSEC;
	return usec_format(buf, MAX(ms, 0) * USEC_PER_MSEC);
}

char *
text_percent(char buf[TEXT_MAX], double ratio)
{
	double percent = ratio * 100;

	if (!isfinite(ratio))
		str_copy(buf, TEXT_MAX, "unknown");
	else
		snprintf(buf, TEXT_MAX, "%.*f%%", fabs(percent) >= 99.95 ? 0 : 1, percent);
	/* "10.0%" says nothing more than "10%". */
	if (strlen(buf) > 3 && streq(buf + strlen(buf) - 3, ".0%"))
		strcpy(buf + strlen(buf) - 3, "%");
	return buf;
}

char *
text_seconds(char buf[TEXT_MAX], double seconds)
{
	if (!isfinite(seconds))
		str_copy(buf, TEXT_MAX, "unknown");
	else if (seconds < 1)
		snprintf(buf, TEXT_MAX, "%.3gms", seconds * 1000);
	else
		snprintf(buf, TEXT_MAX, "%.4gs", seconds);
	return buf;
}

char *
text_count(char buf[TEXT_MAX], double n)
{
	char digits[TEXT_MAX];
	size_t len, out = 0;

	if (!isfinite(n) || n < 0 || n > 1e15)
		return str_copy(buf, TEXT_MAX, "unknown"), buf;
	len = (size_t)snprintf(digits, sizeof digits, "%.0f", n);
	for (size_t i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			buf[out++] = ',';
		buf[out++] = digits[i];
	}
	buf[out] = '\0';
	return buf;
}

char *
text_bytes(char buf[TEXT_MAX], double n)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	if (!isfinite(n))
		return str_copy(buf, TEXT_MAX, "-"), buf;
	while (n >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		n /= 1024;
		unit++;
	}
	snprintf(buf, TEXT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
	return buf;
}

int
text_parse_time(const char *iso, usec_t *ret)
{
	struct tm tm = {0}, said;
	int ms = 0, used = 0;
	time_t t;

	if (!iso || sscanf(iso, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 6)
		return -EINVAL;
	iso += used;
	if (*iso == '.') {
		if (sscanf(iso, ".%3d%n", &ms, &used) != 1 || ms < 0)
			return -EINVAL;
		iso += used;
	}
	if (!streq(iso, "Z"))
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	said = tm;
	t = timegm(&tm);
	/* It makes the 9th of March of the 40th of January. */
	if (t < 0 || tm.tm_mon != said.tm_mon || tm.tm_mday != said.tm_mday ||
	    tm.tm_hour != said.tm_hour || tm.tm_min != said.tm_min || tm.tm_sec != said.tm_sec)
		return -EINVAL;
	*ret = (usec_t)t * USEC_PER_SEC + ms * USEC_PER_MSEC;
	return 0;
}

/* As timegm(), but the 31st of February is no day. */
static int
utc(const struct tm *tm, usec_t *ret)
{
	struct tm same = *tm;
	time_t t = timegm(&same);

	if (t < 0 || same.tm_mday != tm->tm_mday || same.tm_hour != tm->tm_hour)
		return -EINVAL;
	*ret = (usec_t)t * USEC_PER_SEC;
	return 0;
}

static int
parse_ago(const char *s, usec_t now, usec_t *ret)
{
	size_t n = strlen(s);
	char *span =
		n > 4 && streq(s + n - 4, " ago") ? xasprintf("%.*s", (int)n - 4, s) : xstrdup(s);
	usec_t ago;
	int r = usec_parse(span, &ago);

	free(span);
	if (r < 0)
		return -EINVAL;
	*ret = MAX(now - ago, 0);
	return 0;
}

int
text_parse_moment(const char *s, usec_t now, usec_t *ret)
{
	static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct tm tm = {0};
		const char *end = strptime(s, forms[i], &tm);

		if (end && *end == '\0')
			return utc(&tm, ret);
	}
	if (strchr(s, 'T'))
		return text_parse_time(s, ret);
	return parse_ago(s, now, ret);
}

static char *
format_stamp(char buf[TEXT_MAX], const char *iso, const char *fmt)
{
	usec_t wall;
	struct tm tm;
	time_t t;

	if (text_parse_time(iso, &wall) < 0)
		return str_copy(buf, TEXT_MAX, "-"), buf;
	t = wall / USEC_PER_SEC;
	gmtime_r(&t, &tm);
	strftime(buf, TEXT_MAX, fmt, &tm);
	return buf;
}

char *
text_clock(char buf[TEXT_MAX], const char *iso)
{
	return format_stamp(buf, iso, "%H:%M:%S");
}

char *
text_date(char buf[TEXT_MAX], const char *iso)
{
	return format_stamp(buf, iso, "%Y-%m-%d %H:%M:%S");
}

char *
text_since(char buf[TEXT_MAX], const char *iso, usec_t now)
{
	usec_t wall;

	if (text_parse_time(iso, &wall) < 0)
		return str_copy(buf, TEXT_MAX, "?"), buf;
	/* Whole seconds: an age in milliseconds is old when it is read. */
	return usec_format(buf, MAX(now - wall, 0) / USEC_PER_SEC * USEC_PER_SEC);
}

char *
text_between(char buf[TEXT_MAX], const char *from, const char *to)
{
	usec_t begin, end;

	if (text_parse_time(from, &begin) < 0 || text_parse_time(to, &end) < 0)
		return str_copy(buf, TEXT_MAX, "-"), buf;
	return usec_format(buf, MAX(end - begin, 0));
}

size_t
text_columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}
