/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/lookup.h"

#include <limits.h>
#include <sys/stat.h>

#include "common/util.h"

void
lookups_init(struct lookups *l)
{
	*l = (struct lookups){.own_threads = UINT_MAX};
}

static unsigned
threads_now(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) < 0 || st.st_nlink < 2 ? 0 : (unsigned)st.st_nlink - 2;
}

bool
lookups_allow(struct lookups *l)
{
	unsigned n = threads_now();

	l->own_threads = MIN(l->own_threads, n);
	l->lost = MIN(l->lost, n - l->own_threads);
	return l->lost < LOOKUPS_LOST_MAX;
}

void
lookups_lose(struct lookups *l)
{
	l->lost++;
}
