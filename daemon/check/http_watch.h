/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_HTTP_WATCH_H
#define DHASH_CHECK_HTTP_WATCH_H

/*
 * The sockets of libcurl in libevent.  Where the system has no watch left (memory of the kernel,
 * the user's limit of watches), a socket is polled instead until it has: to tell libcurl of the
 * failure would end its whole multi handle, and with it every check.
 */

struct event_base;
struct http_watches;

/* `ready` is called on the loop with CURL_CSELECT_ bits; it may change what is watched. */
struct http_watches *
http_watches_new(struct event_base *base, void (*ready)(void *arg, int fd, int mask), void *arg);
void http_watches_free(struct http_watches *w);

/* What CURLMOPT_SOCKETFUNCTION is told: CURL_POLL_ bits, and what it returned for the socket before
 * (NULL = first sight).  Returns what to assign to the socket; NULL after CURL_POLL_REMOVE. */
void *http_watch(struct http_watches *w, int fd, int what, void *watched);

#endif
