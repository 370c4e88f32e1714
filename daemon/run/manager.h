/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_MANAGER_H
#define DHASH_RUN_MANAGER_H

/*
 * Asks systemd, over the system bus, to start or stop a unit, and tells when it has done so.  Never
 * blocks the loop.  The bus is opened for the first job and closed after the last one: a daemon
 * without a hook under way holds no connection and is not woken by anybody's signals.
 */

struct event_base;
struct manager;
struct unit_job;

struct manager *manager_new(struct event_base *base);
/* Jobs under way are forgotten, not taken back. */
void manager_free(struct manager *m);

/*
 * error 0: the job is done: the unit is up (for Type=notify: says that it is ready), or down.
 * Else -errno, and why for people, borrowed; then what became of the unit is not known.
 */
typedef void unit_job_fn(void *arg, int error, const char *why);

/* fn runs on the loop, once, never from within; the job is gone after it. */
struct unit_job *manager_start(struct manager *m, const char *unit, unit_job_fn *fn, void *arg);
struct unit_job *manager_stop(struct manager *m, const char *unit, unit_job_fn *fn, void *arg);
/* fn is not called any more; what was asked of systemd stays asked. */
void unit_job_forget(struct unit_job *j);

#endif
