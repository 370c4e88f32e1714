/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/http_watch.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <stdbool.h>

#include "common/util.h"

struct watched {
	struct watched *next; /* of those that are polled */
	struct http_watches *all;
	struct event *ev; /* owned */
	int fd, mask;     /* CURL_CSELECT_ bits that are waited for */
	bool polled;
};

struct http_watches {
	struct event_base *base;
	struct event *poll; /* owned */
	struct watched *polled;
	void (*ready)(void *arg, int fd, int mask);
	void *arg;
};

static const struct timeval poll_interval = {.tv_usec = 20000};

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	const struct watched *s = arg;
	int mask =
		(what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

	s->all->ready(s->all->arg, fd, mask);
}

static void
poll_begin(struct watched *s)
{
	s->polled = true;
	s->next = s->all->polled;
	s->all->polled = s;
	evtimer_add(s->all->poll, &poll_interval);
}

static void
poll_end(struct watched *s)
{
	struct watched **p = &s->all->polled;

	if (!s->polled)
		return;
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	s->polled = false;
}

static void
begin(struct watched *s)
{
	poll_end(s);
	if (event_add(s->ev, NULL) < 0)
		poll_begin(s);
}

/* Being ready for what it is not makes libcurl try, and wait on.  Each call may change the list, so
 * it is gone through by number. */
static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct http_watches *w = arg;
	unsigned n = 0;

	for (struct watched *s = w->polled, *next; s; s = next) {
		next = s->next;
		begin(s); /* perhaps there is room again; else it is put in front, behind us */
		n += s->polled;
	}
	while (n-- > 0 && w->polled) {
		struct watched *s = w->polled, **last = &w->polled;
		int ready_fd = s->fd, mask = s->mask;

		w->polled = s->next;
		while (*last)
			last = &(*last)->next;
		s->next = NULL;
		*last = s;
		w->ready(w->arg, ready_fd, mask);
	}
	if (w->polled)
		evtimer_add(w->poll, &poll_interval);
}

static struct watched *
watched_new(struct http_watches *w, int fd)
{
	struct watched *s = xcalloc(1, sizeof *s);

	s->all = w;
	s->fd = fd;
	s->ev = event_new(w->base, fd, 0, on_socket, s);
	if (!s->ev)
		out_of_memory();
	return s;
}

static void
watched_free(struct watched *s)
{
	if (!s)
		return;
	poll_end(s);
	event_free(s->ev);
	free(s);
}

void *
http_watch(struct http_watches *w, int fd, int what, void *watched)
{
	struct watched *s = watched;
	short events = EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
		       (what & CURL_POLL_OUT ? EV_WRITE : 0);

	if (what == CURL_POLL_REMOVE) {
		watched_free(s);
		return NULL;
	}
	if (!s)
		s = watched_new(w, fd);
	s->mask = (what & CURL_POLL_IN ? CURL_CSELECT_IN : 0) |
		  (what & CURL_POLL_OUT ? CURL_CSELECT_OUT : 0);
	event_del(s->ev);
	event_assign(s->ev, w->base, fd, events, on_socket, s);
	begin(s);
	return s;
}

struct http_watches *
http_watches_new(struct event_base *base, void (*ready)(void *arg, int fd, int mask), void *arg)
{
	struct http_watches *w = xcalloc(1, sizeof *w);

	w->base = base;
	w->ready = ready;
	w->arg = arg;
	w->poll = evtimer_new(base, on_poll, w);
	if (!w->poll)
		out_of_memory();
	return w;
}

void
http_watches_free(struct http_watches *w)
{
	if (!w)
		return;
	event_free(w->poll);
	free(w);
}
