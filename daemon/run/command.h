/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_COMMAND_H
#define DHASH_RUN_COMMAND_H

/*
 * The runner's child: starts the command of a request in its own session and process group, with
 * nothing of the runner's but one pipe for its output, and says why when it could not be started.
 * For a process of one thread only: between fork and exec it calls what it likes.
 */

#include <sys/types.h>

#include "daemon/run/hook.h"

struct command {
	pid_t pid;     /* also its process group */
	int output;    /* owned; read end: standard output and error together */
	int report;    /* owned; end of file once the command runs, else why it does not */
	char *program; /* owned; the path that was run */
};

/* Returns 0, or -errno with *ret_why (owned). */
int command_start(const struct hook_request *r, struct command *ret, char **ret_why);
/* Reads `report` when it is readable; NULL when the command runs, else why it could not (owned). */
char *command_report(struct command *c, const struct hook_request *r);
void command_done(struct command *c);

#endif
