/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_STATS_H
#define DHASH_CORE_STATS_H

/* z of the bounds: 99.9 % one-sided before acting, 90 % before calling it recovered. */
#define STATS_Z_ACT 3.09
#define STATS_Z_RECOVER 1.28

/*
 * Bounds of the Wilson score interval for a share of `bad` in `total` (Wilson 1927).  With total =
 * 0 nothing is known: 0 and 1.
 */
double wilson_lower(double bad, double total, double z);
double wilson_upper(double bad, double total, double z);

/*
 * How many of `bad` are over what the limit allows of `total`; negative under it.  Exactly 0 at the
 * limit, although no limit in percent is a binary fraction: 0.29 * 100 is not 29 for the machine,
 * and a service exactly at its limit is not over it.
 */
double share_excess(double bad, double limit, double total);

#endif
