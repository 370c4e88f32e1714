/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_HOOK_H
#define DHASH_RUN_HOOK_H

/*
 * Runs a hook through the runner program (dhash-hook), which outlives the daemon: it takes a
 * request file, writes `started` (exclusively, fsync) before the command begins, supervises it, and
 * writes `result` (atomically).  Files, in FOLDER: <txid>.request, <txid>.started, <txid>.result,
 * and the output log.
 *
 * There are two ways to a runner.  As a child of the daemon: the request says the whole command,
 * and the runner has the rights of the daemon.  As the unit dhash-hook@<txid>.service, which
 * systemd starts for the daemon: the request is an order (order.h), and the runner, which may do
 * more than the daemon, takes the command from root's configuration.  Files and recovery are the
 * same.
 *
 * hook_ensure() is idempotent by txid and is the recovery table of the design: result there →
 * report it; started and runner alive → attach; started and runner gone → HOOK_UNKNOWN; not started
 * → start. Two runners of one txid race for O_EXCL: one wins, the other only waits.
 */

#include <sys/types.h>

#include "daemon/core/core.h"

struct event_base;
struct hook;
struct hook_order;
struct manager;

struct hook_way {
	const char *runner;      /* path of dhash-hook: for children */
	struct manager *manager; /* not NULL: hooks are units */
};

struct hook_request {
	const char *txid;      /* "deploy-20240101-120000.deploy.1" */
	const char *folder;    /* where the files go: sessions/<id>/hooks */
	const char *log;       /* output file, appended to */
	char *const *argv;     /* command and arguments, specifiers already in */
	char *const *environ;  /* NAME=value: the whole environment of the command */
	const char *directory; /* working directory; NULL = "/" */
	const char *user;      /* or NULL */
	usec_t timeout_usec, kill_usec;
	size_t output_max_bytes;
	const struct hook_order *order; /* what a unit is told instead of all this; else unused */
};

struct hook_result {
	enum hook_outcome outcome;
	int exit_status; /* -1 when it ended by a signal or did not run */
	int signal;      /* 0 when none */
	bool timed_out, truncated;
	usec_t took;
	char text[256]; /* "exit status 3 after 1.2s", "killed: still running at its deadline of
			   30min" */
};

/* `done` runs on the loop, once, never from within hook_ensure().  Errors of starting are reported
 * through done as HOOK_FAILED. */
struct hook *
hook_ensure(struct event_base *base, const struct hook_way *way, const struct hook_request *r,
	    void (*done)(void *arg, const struct hook_result *result), void *arg);
/* Stops watching without touching the hook (daemon ends: the runner goes on). */
void hook_detach(struct hook *h);
/* TERM, then KILL, of the runner's command; done still comes. */
void hook_cancel(struct hook *h);

/* Whether argv[0] could be run: regular file, executable, not writable by others, its folder
 * neither; a relative name is taken from `directory`.  Returns 0, or -errno with *ret_why (owned).
 */
int hook_check(char *const *argv, const char *directory, char **ret_why);
/*
 * Likewise, for a runner that is root and a daemon that is not trusted: the file that would be run,
 * and each folder above it, must belong to root or to `uid`, the user that it is run as.
 */
int hook_check_owner(char *const *argv, const char *directory, uid_t uid, char **ret_why);
/* Whether this process could run hooks as that user (NULL: as itself), likewise. */
int hook_check_user(const char *user, char **ret_why);

#endif
