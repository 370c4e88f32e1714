/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_SCHEDULE_H
#define DHASH_CORE_SCHEDULE_H

/*
 * The absolute schedule: sample k of a phase is due at T0 + begin of the phase + spread +
 * k·interval. Nothing that happens to one sample shifts the next one.  Pure functions of their
 * arguments.
 */

#include "daemon/core/policy.h"

/* When phase i begins and the last one ends, from T0. */
usec_t schedule_begin(const struct policy *p, unsigned phase);
usec_t schedule_end(const struct policy *p);

/* The phase at `since` after T0, or -1 before T0 and after the end. */
int schedule_phase(const struct policy *p, usec_t since);

/*
 * The first sample due after `after` (both from T0).  spread is taken modulo each interval.  The
 * end of the schedule is a sample of its own; beyond it USEC_INFINITY.
 */
usec_t schedule_next(const struct policy *p, usec_t spread, usec_t after);

/* The first point of an endless grid begin + k·interval (k ≥ 0) after `after`. */
usec_t grid_next(usec_t begin, usec_t interval, usec_t after);

#endif
