/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the checks cost without a daemon around them: a bare libcurl multi loop on libevent's timer
 * grid that asks TARGETS addresses (127.1.x.y) every INTERVAL, phases spread evenly, with kept
 * connections or (close) a new one for each check.  One easy handle a target, set up once: less
 * cannot be done with libcurl.  After one interval for warming up, it counts for SPAN, and prints
 * checks done, failed, and its own CPU seconds, as JSON.
 */

#include <curl/curl.h>
#include <errno.h>
#include <sys/resource.h>

#include <event2/event.h>

#include "common/time-util.h"
#include "common/util.h"

enum { TICK_MS = 10 };

struct bare;

struct target {
	struct bare *b;
	CURL *easy; /* owned */
	usec_t due;
	bool busy;
};

struct bare {
	struct event_base *base;
	CURLM *multi;
	struct event *timer;
	struct target *targets; /* owned */
	unsigned n;
	usec_t interval, begin, end;
	unsigned long done, failed, busy;
	double cpu; /* used before the beginning */
};

static void
drive(struct bare *b, curl_socket_t fd, int mask)
{
	int running, left;
	CURLMsg *m;

	curl_multi_socket_action(b->multi, fd, mask, &running);
	while ((m = curl_multi_info_read(b->multi, &left))) {
		struct target *t = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		b->done += b->begin == 0;
		b->failed += m->data.result != CURLE_OK;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		curl_multi_remove_handle(b->multi, t->easy);
		t->busy = false;
	}
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	drive(arg, fd,
	      (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct bare *b = arg;
	struct event *ev = socket_arg;
	short mask = EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
		     (what & CURL_POLL_OUT ? EV_WRITE : 0);

	if (ev)
		event_free(ev);
	ev = what == CURL_POLL_REMOVE ? NULL : event_new(b->base, fd, mask, on_socket, b);
	curl_multi_assign(b->multi, fd, ev);
	return ev ? event_add(ev, NULL) : 0;
}

static int
set_timer(CURLM *multi, long ms, void *arg)
{
	struct bare *b = arg;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	return ms < 0 ? evtimer_del(b->timer) : evtimer_add(b->timer, &tv);
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	return size * n;
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / USEC_PER_SEC;
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct bare *b = arg;
	usec_t now = now_boottime();

	if (b->begin && now >= b->begin) {
		b->begin = 0;
		b->cpu = cpu_seconds();
	}
	if (now >= b->end)
		event_base_loopbreak(b->base);
	for (unsigned i = 0; i < b->n && now < b->end; i++) {
		struct target *t = &b->targets[i];

		if (t->due > now)
			continue;
		t->due += b->interval;
		b->busy += t->busy;
		if (t->busy)
			continue;
		t->busy = true;
		curl_multi_add_handle(b->multi, t->easy);
	}
}

static void
target_init(struct target *t, struct bare *b, unsigned i, unsigned port, bool close)
{
	char *url = xasprintf("http://127.1.%u.%u:%u/health", i / 250, i % 250 + 1, port);

	t->b = b;
	t->due = now_boottime() + b->interval * i / b->n;
	t->easy = curl_easy_init();
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 10000L);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, close ? 1L : 0L);
	free(url);
}

static void
bare_init(struct bare *b, unsigned port, bool close)
{
	b->base = event_base_new();
	b->multi = curl_multi_init();
	b->timer = evtimer_new(b->base, on_timer, b);
	curl_multi_setopt(b->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(b->multi, CURLMOPT_SOCKETDATA, b);
	curl_multi_setopt(b->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(b->multi, CURLMOPT_TIMERDATA, b);
	curl_multi_setopt(b->multi, CURLMOPT_MAXCONNECTS, 10000L);
	b->targets = xcalloc(b->n, sizeof *b->targets);
	for (unsigned i = 0; i < b->n; i++)
		target_init(&b->targets[i], b, i, port, close);
}

static void
bare_done(struct bare *b)
{
	for (unsigned i = 0; i < b->n; i++) {
		curl_multi_remove_handle(b->multi, b->targets[i].easy);
		curl_easy_cleanup(b->targets[i].easy);
	}
	curl_multi_cleanup(b->multi);
	event_free(b->timer);
	event_base_free(b->base);
	free(b->targets);
}

int
main(int argc, char **argv)
{
	static const struct timeval tick = {0, TICK_MS * 1000};
	struct bare b = {0};
	struct event *ticks;
	usec_t span;

	if (argc < 5 || argc > 6 || (argc == 6 && !streq(argv[5], "close")) ||
	    usec_parse(argv[3], &b.interval) < 0 || usec_parse(argv[4], &span) < 0) {
		fputs("usage: bare TARGETS PORT INTERVAL SPAN [close]\n", stderr);
		return 2;
	}
	b.n = (unsigned)strtoul(argv[1], NULL, 10);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	bare_init(&b, (unsigned)strtoul(argv[2], NULL, 10), argc == 6);
	b.begin = now_boottime() + b.interval + TICK_MS * USEC_PER_MSEC;
	b.end = b.begin + span;
	ticks = event_new(b.base, -1, EV_PERSIST, on_tick, &b);
	event_add(ticks, &tick);
	event_base_dispatch(b.base);
	printf("{\"checks\":%lu,\"failed\":%lu,\"busy\":%lu,\"cpu\":%.6f}\n", b.done, b.failed,
	       b.busy, cpu_seconds() - b.cpu);
	event_free(ticks);
	bare_done(&b);
	return 0;
}
