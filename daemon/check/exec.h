/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_EXEC_H
#define DHASH_CHECK_EXEC_H

/*
 * Monitoring plugins (check_http and thousands more): exit status 0 ok, 1 warning, 2 critical, 3
 * unknown; the first line of the output is the message, less the performance data behind '|'.
 */

#include "daemon/core/sample.h"

struct event_base;
struct exec_job;

enum plugin_status { PLUGIN_OK, PLUGIN_WARNING, PLUGIN_CRITICAL, PLUGIN_UNKNOWN };

struct exec_answer {
	enum plugin_status
		status; /* UNKNOWN also for what could not be run, signals, and time-outs */
	bool timed_out;
	usec_t took;
	const char *text; /* one line, escaped */
};

typedef void exec_fn(void *arg, const struct exec_answer *a);

/* fn is called once, on the loop, never from within; unless the job is cancelled (and killed). */
struct exec_job *exec_start(struct event_base *base, char *const *argv, const char *directory,
			    usec_t timeout_usec, exec_fn *fn, void *arg);
void exec_cancel(struct exec_job *j);

/* What a plugin says in its output, which is changed in place: the first line less the performance
 * data, escaped; owned. */
char *plugin_message(char *output);

#endif
