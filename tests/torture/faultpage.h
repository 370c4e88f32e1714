/* SPDX-License-Identifier: Apache-2.0 */
/* The page that the fault driver and its library share; tests/torture/fault.py knows the layout. */

#ifndef TESTS_TORTURE_FAULTPAGE_H
#define TESTS_TORTURE_FAULTPAGE_H

#include <stdatomic.h>
#include <stdint.h>

enum fault_family {
	FAULT_MEMORY,
	FAULT_OPEN,
	FAULT_READ,
	FAULT_WRITE,
	FAULT_SYNC,
	FAULT_RENAME,
	FAULT_SIZE,
	FAULT_MKDIR,
	FAULT_UNLINK,
	FAULT_STAT,
	FAULT_LIST,
	FAULT_PROCESS,
	FAULT_THREAD,
	FAULT_SOCKET,
	FAULT_CONNECT,
	FAULT_ACCEPT,
	FAULT_EPOLL,
	FAULT_RESOLVE,
	FAULT_FAMILIES = 20, /* with room */
};

enum fault_role { FAULT_DAEMON, FAULT_RUNNER };
enum { FAULT_SITES = 8192, FAULT_FRAMES = 10 };

struct fault_site {
	_Atomic uint64_t hash; /* 0: free */
	_Atomic uint64_t hits;
	uint64_t family;
	uint64_t where[FAULT_FRAMES];
};

/* All numbers are of 64 bits, so that there is no padding. */
struct fault_page {
	_Atomic uint64_t armed; /* the driver's: 0 lifts the fault, too */
	uint64_t role;          /* in which process */
	uint64_t family;
	uint64_t site; /* 0: any, then nth counts the calls of the family; else its hits */
	uint64_t nth;
	uint64_t error;
	uint64_t part;     /* short writes where there is no space */
	uint64_t for_good; /* else once */
	uint64_t together; /* families that fail from then on, as bits */
	_Atomic uint64_t done;
	_Atomic uint64_t failed; /* calls that failed */
	_Atomic uint64_t calls[FAULT_FAMILIES];
	_Atomic uint64_t fails[FAULT_FAMILIES];
	uint64_t where[FAULT_FRAMES];
	char what[256];
	struct fault_site sites[FAULT_SITES];
};

#endif
