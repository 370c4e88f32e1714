/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_LOG_QUEUE_H
#define DHASH_LOG_QUEUE_H

/*
 * Between the logger and a journal that may not take anything for a while: a bounded queue and a
 * thread that waits in the caller's place.  Knows nothing of what a record is sent to; the logger's
 * alone (log.c).
 *
 * A record is sent by the caller itself where that needs no waiting and nothing is queued before
 * it, so that in the usual case a crash loses none.  Where the queue is full, the least important
 * of what is in it and the new one is dropped, and counted.
 */

#include <stdbool.h>
#include <sys/uio.h>

#include "common/time-util.h"

enum { LOG_FIELDS_MAX = 16, LOG_QUEUE_RECORDS = 2048, LOG_QUEUE_BYTES = 1 << 20 };

struct log_record {
	struct log_record *next;
	int priority;
	int n;
	struct iovec v[LOG_FIELDS_MAX]; /* owned; NAME=value */
	char *line;                     /* owned; for standard error */
	size_t bytes;                   /* of all of these */
};
void log_record_free(struct log_record *r);

struct log_queue_ops {
	bool (*try_send)(const struct log_record *r);   /* without waiting; false = not sent */
	void (*send)(const struct log_record *r);       /* however long it takes */
	struct log_record *(*dropped)(unsigned long n); /* the record that says so */
};

/* Starts the thread; ops is borrowed for good.  0 or -errno. */
int log_queue_start(const struct log_queue_ops *ops);

/* Takes the record (owned from now on); false where no thread runs, and it is the caller's still.
 */
bool log_queue_put(struct log_record *r);

/* Waits until everything is sent, or for so long; says whether it is. */
bool log_queue_flush(usec_t at_most);

/* Flushes, and ends the thread.  One that is stuck is left behind: then records are sent only if
 * that needs no waiting. */
void log_queue_stop(usec_t at_most);

#endif
