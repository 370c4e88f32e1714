/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/clock.h"

#include <fcntl.h>

#include "common/util.h"

static void
read_boot_id(char *buf, size_t n)
{
	char *text;
	size_t len;

	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", n - 1, &text, &len) < 0) {
		str_copy(buf, n, "unknown");
		return;
	}
	str_copy(buf, n, text);
	buf[strcspn(buf, "\n")] = '\0';
	free(text);
}

/* In a container's time namespace the clock may stand elsewhere, in the same boot. */
static bool
same_boot(const struct clock *c, const struct store_clock *last, usec_t boottime)
{
	return streq(last->boot_id, c->boot_id) && boottime >= last->boottime;
}

void
clock_init(struct clock *c, const struct store_clock *last)
{
	usec_t boottime = now_boottime(), wall = now_realtime();

	read_boot_id(c->boot_id, sizeof c->boot_id);
	if (!last->valid)
		c->offset = wall - boottime;
	else if (same_boot(c, last, boottime))
		c->offset = last->core - last->boottime;
	else /* another boot: only the wall clock knows how long it was; it may have been set back
	      */
		c->offset = last->core + MAX(0, wall - last->wall) - boottime;
	c->seen = boottime + c->offset;
	c->away = wall - c->seen;
	if (last->valid && same_boot(c, last, boottime)) {
		c->seen = last->core;
		c->away = last->wall - last->core;
	}
}

usec_t
clock_now(const struct clock *c)
{
	return now_boottime() + c->offset;
}

usec_t
clock_boottime(const struct clock *c, usec_t core)
{
	return core == USEC_INFINITY ? USEC_INFINITY : core - c->offset;
}

usec_t
clock_step(struct clock *c, usec_t core, usec_t wall)
{
	usec_t away = wall - core, by = away - c->away;
	/* Time servers make it run up to 500 ppm faster or slower. */
	usec_t adjusted = USEC_PER_SEC / 2 + (core - c->seen) / 1000;

	c->away = away;
	c->seen = core;
	return by > adjusted || by < -adjusted ? by : 0;
}

struct store_clock
clock_pair(const struct clock *c)
{
	struct store_clock pair = {
		.valid = true, .boottime = now_boottime(), .wall = now_realtime()};

	pair.core = pair.boottime + c->offset;
	str_copy(pair.boot_id, sizeof pair.boot_id, c->boot_id);
	return pair;
}
