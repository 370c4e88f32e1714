/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_WORKER_H
#define DHASH_WORKER_H

/*
 * Slow work off the loop: a fixed number of threads take jobs in order; `work` runs on a thread,
 * then `done` runs on the loop.  A job's memory is the caller's until done.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct event_base;
struct worker;

struct job {
	void (*work)(struct job *j); /* on the thread; must look at `cancelled` now and then */
	void (*done)(struct job *j); /* on the loop, always called exactly once, cancelled or not */
	atomic_bool cancelled;
	struct job *next; /* worker's own */
};

int worker_new(struct event_base *base, unsigned n_threads, struct worker **ret);
/*
 * Cancels what is queued or running, waits for the threads, calls the remaining done()s.  What a
 * done() submits then is not run any more: it is cancelled and done.
 */
void worker_free(struct worker *w);
void worker_submit(struct worker *w, struct job *j);
/* Waits until every job has run (done()s are called from here); for an orderly end. */
void worker_drain(struct worker *w);
static inline void
job_cancel(struct job *j)
{
	atomic_store(&j->cancelled, true);
}

/* A thread that takes no signals: those are the loop's.  -errno. */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg);

#endif
