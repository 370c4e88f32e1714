/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/core/stats.h"

#include <math.h>

static double
wilson(double bad, double total, double z)
{
	double p = bad / total, zz = z * z;
	double center = p + zz / (2 * total);
	double spread = fabs(z) * sqrt((p * (1 - p) + zz / (4 * total)) / total);

	return (z < 0 ? center - spread : center + spread) / (1 + zz / total);
}

double
wilson_lower(double bad, double total, double z)
{
	if (total <= 0)
		return 0;
	if (bad <= 0)
		return 0; /* exactly, whatever the rounding */
	return wilson(bad < total ? bad : total, total, -z);
}

double
wilson_upper(double bad, double total, double z)
{
	if (total <= 0)
		return 1;
	if (bad >= total)
		return 1;
	return wilson(bad > 0 ? bad : 0, total, z);
}

double
share_excess(double bad, double limit, double total)
{
	double excess = bad - limit * total;

	/* Rounding is some 1e-16 of the larger term; a real difference of counts is far from it. */
	return fabs(excess) <= 1e-9 * fmax(fabs(bad), fabs(total)) ? 0 : excess;
}
