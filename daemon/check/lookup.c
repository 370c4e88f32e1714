/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/lookup.h"

#include <limits.h>
#include <sys/stat.h>

#include "common/util.h"

/* resolv.conf's defaults: two tries of 5 s. */
static const usec_t hold_usec = 10 * USEC_PER_SEC;

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

/* FNV-1a. */
static uint64_t
hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325u;

	while (*name)
		h = (h ^ (unsigned char)*name++) * 0x100000001b3u;
	return h;
}

static bool
is_held(const struct lookups *l, const char *name)
{
	uint64_t h = hash(name);
	usec_t now = now_boottime();

	for (unsigned i = 0; i < LOOKUPS_HELD_MAX; i++)
		if (l->held[i].name == h && l->held[i].until > now)
			return true;
	return false;
}

void
lookups_hold(struct lookups *l, const char *name)
{
	unsigned oldest = 0;

	for (unsigned i = 1; i < LOOKUPS_HELD_MAX; i++)
		if (l->held[i].until < l->held[oldest].until)
			oldest = i;
	l->held[oldest].name = hash(name);
	l->held[oldest].until = now_boottime() + hold_usec;
}

bool
lookups_allow(struct lookups *l, const char *name)
{
	unsigned n = threads_now();

	if (is_held(l, name))
		return false;
	l->own_threads = MIN(l->own_threads, n);
	l->lost = MIN(l->lost, n - l->own_threads);
	return l->lost < LOOKUPS_LOST_MAX;
}

void
lookups_lose(struct lookups *l)
{
	l->lost++;
}
