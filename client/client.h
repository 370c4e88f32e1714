/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_CLIENT_H
#define DHASH_CLIENT_CLIENT_H

/* What one run of dhash carries around, and what it may end with. */

#include "client/out.h"

struct args;
struct conn;

/* The exit codes of dhash(1): part of the interface, scripts depend on them. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* failed, refused, degraded */
	EXIT_USAGE = 2,
	EXIT_NOTHING = 3,     /* nothing deployed */
	EXIT_UNKNOWN = 4,     /* no such service, environment or deployment */
	EXIT_ROLLED_BACK = 5, /* the deployment that was waited for was rolled back */
	EXIT_RUNNING = 8,     /* still running: not waited for, timed out, or detached */
	EXIT_UNREACHABLE = 69,
	EXIT_DENIED = 77,
};

struct client {
	const struct args *args; /* borrowed */
	const char *socket;      /* borrowed */
	struct conn *conn;       /* owned */
	struct out out;
};

#endif
