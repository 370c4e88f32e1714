/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TEST_CHECK_SERVER_H
#define DHASH_TEST_CHECK_SERVER_H

/*
 * A service on loopback that answers as its path says, well or badly: a thread that accepts, and
 * one for each connection.  And the loop that its clients run in, with a clock that must go on
 * ticking.
 */

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/time-util.h"
#include "common/util.h"

#define KIT __attribute__((unused)) static

enum { CONNECTIONS_MAX = 1024, REQUEST_MAX = 4096, GAP_MAX_MSEC = 500, PATIENCE_SEC = 10 };

struct server {
	int fd;
	unsigned port;
	void (*tls)(int fd); /* serves in place of plain HTTP */
	pthread_t acceptor, threads[CONNECTIONS_MAX];
	atomic_uint accepted, ended, requests;
	char last[REQUEST_MAX]; /* the last request; read it when its answer is there */
};

/* What a connection serves by; the server is shared by all. */
struct peer {
	struct server *server;
	int fd;
};

KIT bool
say(int fd, const char *text)
{
	size_t len = strlen(text);

	return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

KIT bool
say_for_ever(int fd, const char *text, usec_t pause)
{
	while (say(fd, text))
		if (pause > 0)
			usleep((useconds_t)pause);
	return false;
}

KIT void
wait_for_end(int fd)
{
	char c;

	while (recv(fd, &c, 1, 0) > 0)
		;
}

KIT bool
answer(int fd, int status, const char *headers, const char *body)
{
	char *text = xasprintf("HTTP/1.1 %d Word\r\nContent-Length: %zu\r\n%s\r\n%s", status,
			       strlen(body), headers, body);
	bool r = say(fd, text);

	free(text);
	return r;
}

KIT bool
reset(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	return false;
}

static atomic_uint metrics_told, waiting;

/* Ten requests more each time, one of them an error. */
KIT bool
answer_metrics(int fd, const char *headers, const char *end)
{
	unsigned n = ++metrics_told;
	char *text = xasprintf("req{code=\"200\"} %u\nreq{code=\"500\"} %u\n%s", n * 9, n, end);
	bool r = answer(fd, 200, headers, text);

	free(text);
	return r;
}

/* False: the connection ends. */
KIT bool
serve(int fd, const char *path, unsigned nth)
{
	static const char chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
	static const char openmetrics[] = "Content-Type: application/openmetrics-text\r\n";
	static char block[32768];
	int status;

	if (sscanf(path, "/status/%d", &status) == 1)
		return answer(fd, status, "", "state: green\n");
	if (streq(path, "/empty"))
		return answer(fd, 200, "", "");
	if (streq(path, "/redirect"))
		return answer(fd, 302, "Location: /status/200\r\n", "");
	if (streq(path, "/redirect-ftp"))
		return answer(fd, 302, "Location: ftp://127.0.0.1:1/\r\n", "");
	if (streq(path, "/metrics"))
		return answer_metrics(fd, "Content-Type: text/plain; version=0.0.4\r\n", "");
	if (streq(path, "/openmetrics"))
		return answer_metrics(fd, openmetrics, "# EOF\n");
	if (streq(path, "/openmetrics-cut"))
		return answer_metrics(fd, openmetrics, "");
	if (streq(path, "/slow-metrics"))
		return usleep(50000) == 0 && answer_metrics(fd, "", "");
	if (streq(path, "/slow"))
		return usleep(50000) == 0 && answer(fd, 200, "", "late\n");
	if (streq(path, "/once")) /* a kept connection ends without a word */
		return nth == 1 && answer(fd, 200, "", "once\n");
	if (streq(path, "/silent")) {
		waiting++;
		wait_for_end(fd);
		waiting--;
	} else if (streq(path, "/endless-chunks") && say(fd, chunked))
		return say_for_ever(fd, "10\r\n0123456789abcdef\r\n", 0);
	else if (streq(path, "/endless-body") &&
		 say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")) {
		memset(block, 'x', sizeof block - 1);
		return say_for_ever(fd, block, 0);
	} else if (streq(path, "/endless-until-close") && say(fd, "HTTP/1.0 200 OK\r\n\r\n"))
		return say_for_ever(fd, "0123456789abcdef", 0);
	else if (streq(path, "/endless-headers") && say(fd, "HTTP/1.1 200 OK\r\n"))
		return say_for_ever(fd, "X-More: and more and more and more and more\r\n", 0);
	else if (streq(path, "/endless-header") && say(fd, "HTTP/1.1 200 OK\r\nX: "))
		return say_for_ever(fd, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0);
	else if (streq(path, "/endless-continue"))
		return say_for_ever(fd, "HTTP/1.1 100 Continue\r\n\r\n", 1000);
	else if (streq(path, "/drip") && say(fd, "HTTP/1.1 200 OK\r\nX: "))
		return say_for_ever(fd, "x", 5000);
	else if (streq(path, "/drip-body") && say(fd, chunked))
		return say_for_ever(fd, "1\r\nx\r\n", 5000);
	else if (streq(path, "/reset"))
		return say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") && reset(fd);
	else if (streq(path, "/short"))
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
	else if (streq(path, "/short-chunk") && say(fd, chunked))
		say(fd, "100\r\nhalf");
	else if (streq(path, "/bad-chunk") && say(fd, chunked))
		say(fd, "zz\r\nhalf");
	else if (streq(path, "/garbage"))
		say(fd, "SSH-2.0-OpenSSH\r\n");
	else if (streq(path, "/half-header"))
		say(fd, "HTTP/1.1 200 OK\r\nContent-Le");
	return false; /* and "/nothing" */
}

/* Reads one request, as far as its empty line. */
KIT bool
hear(int fd, char *buf)
{
	size_t n = 0;

	while (n < REQUEST_MAX - 1) {
		if (recv(fd, buf + n, 1, 0) <= 0)
			return false;
		buf[++n] = '\0';
		if (n == 1 && (*buf < 'A' || *buf > 'Z'))
			return false;
		if (n >= 4 && streq(buf + n - 4, "\r\n\r\n"))
			return true;
	}
	return false;
}

KIT void *
on_connection(void *arg)
{
	struct peer p = *(struct peer *)arg;
	char request[REQUEST_MAX], path[128];
	unsigned nth = 0;

	free(arg);
	if (p.server->tls)
		p.server->tls(p.fd);
	while (!p.server->tls && hear(p.fd, request)) {
		str_copy(p.server->last, sizeof p.server->last, request);
		p.server->requests++;
		if (sscanf(request, "GET %127s", path) != 1 || !serve(p.fd, path, ++nth))
			break;
	}
	close(p.fd);
	p.server->ended++;
	return NULL;
}

KIT void *
on_accept(void *arg)
{
	struct server *s = arg;
	int fd;

	/* A test that takes all descriptors away takes them from us, too, until it gives them back.
	 */
	while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EMFILE) {
		struct peer *p;
		unsigned nth;

		if (fd < 0) {
			sched_yield();
			continue;
		}
		p = xmalloc(sizeof *p);
		*p = (struct peer){s, fd};
		nth = s->accepted++; /* before it can end */
		ck_assert_uint_lt(nth, CONNECTIONS_MAX);
		pthread_create(&s->threads[nth], NULL, on_connection, p);
	}
	return NULL;
}

/* Bound to a free port of 127.0.0.1, which nobody else gets; not listening yet. */
KIT int
bound(unsigned *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

KIT void
server_start(struct server *s)
{
	s->fd = bound(&s->port);
	ck_assert_int_eq(listen(s->fd, 1024), 0);
	ck_assert_int_eq(pthread_create(&s->acceptor, NULL, on_accept, s), 0);
}

/* After the clients have closed their ends. */
KIT void
server_stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	for (unsigned i = 0; i < s->accepted; i++)
		pthread_join(s->threads[i], NULL);
	close(s->fd);
}

/* --- the loop --- */

struct loop {
	struct event_base *base;
	struct event *tick;
	usec_t last, gap; /* longest time that it did not turn */
	unsigned ticks;
};

KIT void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;
	usec_t now = now_boottime();

	l->gap = MAX(l->gap, now - l->last);
	l->last = now;
	l->ticks++;
}

KIT void
loop_start(struct loop *l)
{
	struct timeval tv = {.tv_usec = 10000};

	*l = (struct loop){.base = event_base_new()};
	l->tick = event_new(l->base, -1, EV_PERSIST, on_tick, l);
	event_add(l->tick, &tv);
	l->last = now_boottime();
}

KIT void
loop_stop(struct loop *l)
{
	event_free(l->tick);
	event_base_free(l->base);
}

/* Turns until *count is n; the clock ticks on all the while. */
KIT void
loop_until(struct loop *l, const unsigned *count, unsigned n)
{
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;

	l->last = now_boottime();
	while (*count < n) {
		ck_assert_msg(now_boottime() < deadline, "%u of %u answers", *count, n);
		event_base_loop(l->base, EVLOOP_ONCE);
	}
	on_tick(-1, 0, l);
	ck_assert_int_lt(l->gap, GAP_MAX_MSEC * USEC_PER_MSEC);
}

/* Turns for a while: what must not come has time to come. */
KIT void
loop_turns(struct loop *l, unsigned ticks)
{
	loop_until(l, &l->ticks, l->ticks + ticks);
}

/* Turns until the server has seen so many connections end. */
KIT void
loop_until_ended(struct loop *l, struct server *s, unsigned n)
{
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;

	while (s->ended < n) {
		ck_assert_msg(now_boottime() < deadline, "%u of %u connections ended", s->ended, n);
		event_base_loop(l->base, EVLOOP_ONCE);
	}
}

/* Turns until no client waits for an answer any more. */
KIT void
loop_until_left(struct loop *l)
{
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;

	while (waiting > 0) {
		ck_assert_msg(now_boottime() < deadline, "%u still wait", waiting);
		event_base_loop(l->base, EVLOOP_ONCE);
	}
}

#endif
