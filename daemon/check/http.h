/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_HTTP_H
#define DHASH_CHECK_HTTP_H

/*
 * HTTP(S) requests and TCP connects by libcurl in the libevent loop: one multi handle for the
 * daemon, connections kept, every request limited in time and size.  Redirects are not followed: a
 * check sees the status that the service gave.
 */

#include <stdbool.h>
#include <stddef.h>

#include "common/time-util.h"

struct event_base;
struct http_pool;
struct http_job;

struct http_request {
	const char *url;
	bool connect_only;      /* TCP: connected is all that is asked */
	const char *accept;     /* Accept: header, or NULL */
	const char *credential; /* name of the bearer token to send, or NULL */
	usec_t timeout_usec;
	size_t max_bytes; /* of the body; more is an error */
	bool keep_body;
};

enum http_failure {
	HTTP_ANSWERED, /* status (and body) are valid */
	HTTP_REFUSED,  /* connect, TLS, time-out, broken answer: the service's side */
	HTTP_OBSERVER, /* resolver, bad URL, no memory or descriptors: our side */
};

struct http_answer {
	enum http_failure failure;
	long status;
	char *body; /* owned by the pool; NUL-terminated; NULL unless kept */
	size_t len;
	const char *type; /* Content-Type:, borrowed; NULL where none came */
	usec_t took;
	const char *why; /* one line, for failures */
};

typedef void http_fn(void *arg, const struct http_answer *a);

int http_pool_new(struct event_base *base, struct http_pool **ret);
void http_pool_free(struct http_pool *p);
/* fn is called once, on the loop, never from within; unless the job is cancelled. */
struct http_job *
http_start(struct http_pool *p, const struct http_request *r, http_fn *fn, void *arg);
void http_cancel(struct http_job *j);

#endif
