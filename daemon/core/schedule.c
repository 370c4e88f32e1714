/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/core/schedule.h"

#include <assert.h>

#include "common/util.h"

usec_t
schedule_begin(const struct policy *p, unsigned phase)
{
	assert(phase < p->n_phases);
	return phase == 0 ? 0 : p->phases[phase - 1].until_usec;
}

usec_t
schedule_end(const struct policy *p)
{
	return p->n_phases == 0 ? 0 : p->phases[p->n_phases - 1].until_usec;
}

int
schedule_phase(const struct policy *p, usec_t since)
{
	if (since < 0)
		return -1;
	for (unsigned i = 0; i < p->n_phases; i++)
		if (since < p->phases[i].until_usec)
			return (int)i;
	return -1;
}

usec_t
grid_next(usec_t begin, usec_t interval, usec_t after)
{
	assert(interval > 0);
	if (after < begin)
		return begin;
	return begin + ((after - begin) / interval + 1) * interval;
}

usec_t
schedule_next(const struct policy *p, usec_t spread, usec_t after)
{
	for (unsigned i = 0; i < p->n_phases; i++) {
		const struct phase *ph = &p->phases[i];
		usec_t begin = schedule_begin(p, i) + spread % ph->interval_usec, next;

		if (after >= ph->until_usec)
			continue;
		next = grid_next(begin, ph->interval_usec, after);
		if (next < ph->until_usec)
			return next;
	}
	return after < schedule_end(p) ? schedule_end(p) : USEC_INFINITY;
}
