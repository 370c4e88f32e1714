/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_ROUND_H
#define DHASH_CHECK_ROUND_H

/*
 * Observes one environment: a health round (every configured check at once, and then the reference
 * check where one that counts was bad: if that fails too, nothing bad is known, neither of the
 * service nor of the infrastructure) or a scrape (Prometheus text → counter differences).  Keeps
 * connections and the last counters between observations; decides nothing.  Each observation ends
 * within the checks' time-outs.
 */

#include "daemon/core/sample.h"

struct conf_env;
struct event_base;
struct http_pool;
struct observer;

/* One libcurl multi handle for the whole daemon (check/http.c). */
int http_pool_new(struct event_base *base, struct http_pool **ret);
void http_pool_free(struct http_pool *p);

/* env is borrowed and must outlive the observer. */
struct observer *
observer_new(struct event_base *base, struct http_pool *pool, const struct conf_env *env);
/* One of its own in the same loop and pool; NULL of NULL.  What o does or becomes does not touch
 * it.
 */
struct observer *observer_like(const struct observer *o, const struct conf_env *env);
void observer_free(struct observer *o); /* running observations are cancelled, without a callback */

typedef void observer_fn(void *arg, const struct sample *s);
/* -EBUSY while the same kind is still running, -ENOENT when the environment has no such source. */
int observer_health(struct observer *o, observer_fn *fn, void *arg);
int observer_scrape(struct observer *o, observer_fn *fn, void *arg);
/* Forgets the last counters: the next scrape has no difference (new deployment, restart of the
 * service).  The answer of one that is out now is no such next one. */
void observer_reset(struct observer *o);

/*
 * For the gates: scrapes once and names every configured metric that the source does not have.
 * error: 0 all there; -ENOENT a name is missing; -EHOSTUNREACH no usable answer; text says it all.
 */
typedef void observer_probe_fn(void *arg, int error, const char *text);
int observer_probe_metrics(struct observer *o, observer_probe_fn *fn, void *arg);

#endif
