/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_LOOKUP_H
#define DHASH_LOOKUP_H

/*
 * libcurl looks a name up on a thread, which getaddrinfo() may hold for long after its job was
 * given up, and it cannot be stopped.  So these are counted, and while too many of them hang no new
 * name is asked for.  When they end shows in the number of the process's threads only.
 *
 * A name whose look-up hung is left alone for as long as the system's resolver usually tries: else
 * a few names in a black hole would use up that number again and again, and blind every check by
 * name.
 */

#include "common/time-util.h"

enum { LOOKUPS_LOST_MAX = 64, LOOKUPS_HELD_MAX = 256 };

struct lookups {
	unsigned lost;        /* that nobody waits for any more; at most so many run */
	unsigned own_threads; /* of the process, without libcurl's */
	struct {
		uint64_t name; /* its hash */
		usec_t until;  /* CLOCK_BOOTTIME; 0 = free */
	} held[LOOKUPS_HELD_MAX];
};

void lookups_init(struct lookups *l);
/* May this name be asked for? */
bool lookups_allow(struct lookups *l, const char *name);
/* Nobody waits for one any more. */
void lookups_lose(struct lookups *l);
/* This one hung for all of its time: leave the name alone for a while. */
void lookups_hold(struct lookups *l, const char *name);

#endif
