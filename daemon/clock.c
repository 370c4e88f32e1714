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

void
clock_init(struct clock *c, const struct store_clock *last)
{
	usec_t boottime = now_boottime(), wall = now_realtime();

	read_boot_id(c->boot_id, sizeof c->boot_id);
	if (!last->valid)
		c->offset = wall - boottime;
	else if (streq(last->boot_id, c->boot_id))
		c->offset = last->core - last->boottime;
	else /* another boot: only the wall clock knows how long it was; it may have been set back
	      */
		c->offset = last->core + MAX(0, wall - last->wall) - boottime;
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

struct store_clock
clock_pair(const struct clock *c)
{
	struct store_clock pair = {
		.valid = true, .boottime = now_boottime(), .wall = now_realtime()};

	pair.core = pair.boottime + c->offset;
	str_copy(pair.boot_id, sizeof pair.boot_id, c->boot_id);
	return pair;
}
