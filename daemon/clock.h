/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLOCK_H
#define DHASH_CLOCK_H

/*
 * Core time: CLOCK_BOOTTIME plus an offset chosen once per start, so that it goes on across
 * restarts and reboots and never steps with the wall clock.
 */

#include "daemon/store.h"

struct clock {
	usec_t offset;
	usec_t away, seen; /* of the wall clock from core time, at that core time */
	char boot_id[40];
};

/* Goes on from the pair that the store kept; begins at the present wall time where there is none.
 */
void clock_init(struct clock *c, const struct store_clock *last);
usec_t clock_now(const struct clock *c);
/* The same moment on CLOCK_BOOTTIME; USEC_INFINITY stays what it is. */
usec_t clock_boottime(const struct clock *c, usec_t core);
/*
 * By how much somebody has set the wall clock since this was asked last; 0 = it was not, or only
 * adjusted as time servers do.  Across a stop in the same boot it is known, too.
 */
usec_t clock_step(struct clock *c, usec_t core, usec_t wall);
/* The pair to write with a batch. */
struct store_clock clock_pair(const struct clock *c);

#endif
