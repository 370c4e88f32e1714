/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_REQUEST_H
#define DHASH_RUN_REQUEST_H

/*
 * The three files that daemon and runner share, one JSON object each, in one folder:
 *
 *   <txid>.request  what to run; written by the daemon, any number of times, before the start
 *   <txid>.started  who runs it, locked as long as that lives; made once, by the one runner that
 *                   wins, before the command begins
 *   <txid>.result   how it ended; made once, by that runner, which keeps room for it in
 *                   <txid>.result.reserved while the command runs
 *
 * `started` and `result` are on disk, folder included, when the functions here return.  `request`
 * need not be: nobody reads it after a crash, a new one is written instead.
 */

#include <sys/types.h>

#include "daemon/run/hook.h"

struct json_t;

struct hook_files {
	char *folder, *request, *started, *result; /* owned */
};

/* -EINVAL when txid is no safe file name, or folder no sensible path. */
int hook_files_init(struct hook_files *f, const char *folder, const char *txid);
/* The same from the path of a request file. */
int hook_files_from_request(struct hook_files *f, const char *path, char **ret_txid);
void hook_files_done(struct hook_files *f);

/* What a request must be to be written or believed: 0, or -EINVAL with *ret_why (owned). */
int request_check(const struct hook_request *r, char **ret_why);

/* Files of the folder as such: written whole by rename, not durable; and read. */
int hook_file_replace(const char *path, const char *text);
int request_file_write(const struct hook_files *f, const struct json_t *o);
int hook_file_read(const char *path, size_t max, struct json_t **ret);

struct request {
	struct hook_request r;  /* borrows from the rest; folder is not set */
	struct json_t *json;    /* owned */
	char **argv, **environ; /* the vectors are owned, their strings are json's */
};
/* -EINVAL also when something in it is not UTF-8, which JSON cannot carry. */
int request_write(const struct hook_files *f, const struct hook_request *r);
/* Reads and checks; the file is taken as hostile.  -EBADMSG with *ret_why (owned). */
int request_read(const struct hook_files *f, struct request *ret, char **ret_why);
void request_done(struct request *q);

/*
 * Makes `started` for the calling process: a descriptor that is to be kept open, since the lock on
 * it tells everybody that the runner lives; or -errno, -EEXIST when another one was first.
 */
int started_claim(const struct hook_files *f);
/* Who holds that lock; 0: somebody out of our sight.  -ENOENT: nothing was started; -ESRCH: the
 * runner is gone.  For other processes than the holder. */
int started_holder(const struct hook_files *f, pid_t *ret);
/*
 * The daemon gives up on a runner of which it does not know whether it will still begin: takes its
 * place, so that nothing can be started any more, and writes that as the result.  Not durable: what
 * has not begun before a power cut does not begin after it.  -EEXIST: a runner was first.
 */
int started_forestall(const struct hook_files *f, const char *why);
/* A pidfd of that very process; -EAGAIN when it is there and cannot be watched. */
int started_open(const struct hook_files *f);

struct hook_ending {
	struct hook_result r;
	bool cancelled;
	uint64_t output_bytes; /* written by the command, kept or not */
};
/*
 * Room for the result, taken before the command runs: one that fills the disk, as deployments do,
 * would else leave nothing to tell that it failed.  A descriptor for result_write(), or -errno,
 * with which result_write() does what it can.
 */
int result_reserve(const struct hook_files *f);
/* Closes `reserved`. */
int result_write(const struct hook_files *f, int reserved, const struct hook_ending *e);
/* -ENOENT when there is none, -EBADMSG when it cannot be understood. */
int result_read(const struct hook_files *f, struct hook_result *ret);

/* Exit statuses of the runner; what it found out is in the files, not here. */
enum {
	RUNNER_OK = 0,
	RUNNER_USAGE = 64,
	RUNNER_BAD_REQUEST = 65,
	RUNNER_TAKEN = 69,     /* another runner has this transaction */
	RUNNER_NO_START = 73,  /* could not write `started`: nothing was run */
	RUNNER_NO_RESULT = 74, /* could not write `result` */
};

#endif
