/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_WINDOW_H
#define DHASH_CORE_WINDOW_H

/*
 * The observations of one rate (errors of requests, or slow ones of all) and the breach clock over
 * them: what "over the limit for 5 minutes" means.
 *
 * Two readings share this code.  Statistical (the default): the clock runs while the cumulative sum
 * of (bad − limit·total), floored at 0, is positive, and is stopped by a suffix of at most 300 s
 * that is significantly under the limit; a breach needs the hold time on the clock, enough
 * requests, a lower bound over the limit, and every third and the last minute over it, so that
 * neither one burst nor one dip decides.  Literal: the clock runs from the first reading over the
 * limit to the first that is not.  Gauges (one ready-made number a reading) have a rule of their
 * own: see window_test().
 *
 * Time on the clock is observed time: what was not watched does not count, for or against.
 */

#include <stdbool.h>

#include "daemon/core/policy.h"

struct obs {
	usec_t at, span; /* covers (at − span, at] */
	double bad, bad_warn, total;
	double value; /* gauge's reading; NaN for counters */
};

struct window {
	struct obs *v; /* owned, in time order */
	unsigned n, cap;
	unsigned clock; /* index of the first observation on the clock; == n: not running */
	double cusum;
	bool gauge;
};

struct window_rule {
	double limit; /* share, or the gauge's own unit */
	usec_t hold_usec;
	unsigned min_requests;
	bool literal;
	usec_t recheck_usec; /* how long the newest observations may be to speak for "the last
				minute" */
};

/* What the window says now.  Shares are of the time on the clock, or of the hold time when it
 * stands. */
struct window_state {
	bool running, breached;
	usec_t since;  /* core time the clock started; 0 when it does not run */
	usec_t lasted; /* observed time on the clock */
	unsigned samples;
	double bad, total, value, lower,
		upper;    /* value NaN without requests; bounds NaN for gauges */
	bool low_traffic; /* fewer than min_requests in the last hold time, and that was observed
			     whole */
	double recent_total, recent_bad, recent_bad_warn; /* of the last hold time */
	const char
		*missing; /* what a running clock still lacks for a breach: "time", "requests", … */
};

void window_done(struct window *w);
void window_reset(struct window *w); /* forgets everything, keeps the memory */

/* Adds the newest observation and moves the clock. */
void window_push(struct window *w, const struct obs *o, const struct window_rule *r);

void window_test(const struct window *w, const struct window_rule *r, struct window_state *ret);

#endif
