/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time spans and stamps: "8 bytes of a number, then a span".  What is parsed lies within its bounds
 * and is written so that it is parsed again; for people it is written rounded down, never wrong;
 * a stamp has one form, whatever the clock says.
 */

#include <errno.h>
#include <inttypes.h>

#include "common/time-util.h"
#include "tests/fuzz/fuzz.h"

static void
span(usec_t v)
{
	char buf[USEC_TEXT_MAX];
	usec_t back;

	usec_format_exact(buf, v);
	INSIST(usec_parse(buf, &back) == 0 && back == v, "%" PRId64 " is written %s", v, buf);
	usec_format(buf, v);
	INSIST(usec_parse(buf, &back) == 0, "%" PRId64 " is shown as %s", v, buf);
	/* Two units at most, and whole milliseconds: less than half is left out. */
	INSIST(back <= v && back >= v / 2, "%" PRId64 " is shown as %s", v, buf);
}

static void
parse(const char *text)
{
	usec_t v = -1;
	int r = usec_parse(text, &v);

	INSIST(r == 0 || r == -EINVAL || r == -ERANGE, "usec_parse() returned %d", r);
	if (r < 0)
		INSIST(v == -1, "touched although it failed: %" PRId64, v);
	if (r < 0)
		return;
	INSIST(v >= 0 && v <= 36525 * USEC_PER_DAY, "%s is %" PRId64, text, v);
	span(v);
}

static void
stamp(usec_t v)
{
	char buf[USEC_TEXT_MAX], sign[USEC_TEXT_MAX];

	usec_format(buf, v);
	INSIST(strlen(buf) < USEC_TEXT_MAX && *buf, "%" PRId64, v);
	if (v > 0 && v != USEC_INFINITY) {
		usec_format(sign, -v);
		INSIST(*sign == '-' && strcmp(sign + 1, buf) == 0, "%s but %s", buf, sign);
	}
	wall_format(buf, v);
	/* Before the year 1000 it is shorter; no clock shows that. */
	INSIST(v < 0 || (strlen(buf) >= 24 && buf[strlen(buf) - 1] == 'Z'), "%" PRId64 " is %s", v,
	       buf);
	wall_format_compact(buf, v);
	INSIST(v < 0 || strlen(buf) >= 15, "%" PRId64 " is %s", v, buf);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	char *text;
	usec_t v = 0;
	size_t len;

	for (int i = 0; i < 8; i++)
		v = (usec_t)((uint64_t)v << 8 | feed_byte(&f));
	stamp(v);
	text = feed_rest(&f, &len);
	parse(text);
	free(text);
	return 0;
}
