/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_LOOKUP_H
#define DHASH_LOOKUP_H

/*
 * libcurl looks a name up on a thread, which getaddrinfo() may hold for long after its job was
 * given up, and it cannot be stopped.  So these are counted, and while too many of them hang no new
 * name is asked for.  When they end shows in the number of the process's threads only.
 */

#include <stdbool.h>

enum { LOOKUPS_LOST_MAX = 64 };

struct lookups {
	unsigned lost;        /* that nobody waits for any more; at most so many run */
	unsigned own_threads; /* of the process, without libcurl's */
};

void lookups_init(struct lookups *l);
/* May another name be asked for? */
bool lookups_allow(struct lookups *l);
/* Nobody waits for one any more. */
void lookups_lose(struct lookups *l);

#endif
