/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy that fails: in front of as many HTTP servers as asked for (127.1.x.y at one port, as
 * tests/bench/answer gives them), at the same addresses and a port of its own, which it prints.
 * A target is up, and its requests are handed on; or it is down, in one of the ways below.  When it
 * changes is drawn from the seed, and written to the ledger as it happens:
 *
 *	BOOTTIME(us) TARGET up|WAY
 *
 *   faulty TARGETS BACKEND_PORT SEED LEDGER UP_MIN_MS UP_MAX_MS DOWN_MIN_MS DOWN_MAX_MS
 *
 * Nothing changes before a line on standard input; with a line "." no target goes down any more.
 * A line "?" prints how many requests have come.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "common/time-util.h"
#include "common/util.h"

enum way { UP, RESET, STALL, HALF, DRIP, ENDLESS, GARBAGE, EARLY, STATUS, _WAY_MAX };

static const char *const way_names[_WAY_MAX] = {
	[UP] = "up",           /* handed on */
	[RESET] = "reset",     /* RST instead of an answer */
	[STALL] = "stall",     /* no answer, ever */
	[HALF] = "half",       /* half the headers, then nothing */
	[DRIP] = "drip",       /* headers without end, a byte at a time */
	[ENDLESS] = "endless", /* a body without end, as fast as it is taken */
	[GARBAGE] = "garbage", /* no HTTP */
	[EARLY] = "early",     /* closed in the middle of the body */
	[STATUS] = "status",   /* 503 */
};

enum { TARGETS_MAX = 10000, REQUEST_MAX = 8192, CHUNK = 16384, AHEAD = 4 * CHUNK };

struct proxy;

struct target {
	struct proxy *p;
	struct event *flip; /* owned */
	enum way way;
	uint64_t chance;
};

struct proxy {
	struct event_base *base;
	struct target *targets; /* owned */
	unsigned n, backend_port;
	FILE *ledger;
	usec_t up_min, up_max, down_min, down_max;
	bool over;
	unsigned long requests;
};

/* One connection of a client. */
struct conn {
	struct target *t;
	struct bufferevent *client, *backend; /* owned; no backend before the first request */
	struct event *timer;                  /* owned; for ways that take time */
	enum way way;
};

/* --- chance --- */

static uint64_t
draw(struct target *t)
{
	t->chance ^= t->chance << 13;
	t->chance ^= t->chance >> 7;
	t->chance ^= t->chance << 17;
	return t->chance;
}

static usec_t
between(struct target *t, usec_t from, usec_t to)
{
	return from + (usec_t)(draw(t) % (uint64_t)(to - from + 1));
}

/* --- up and down --- */

static void
enter(struct target *t, enum way way)
{
	t->way = way;
	fprintf(t->p->ledger, "%lld %u %s\n", (long long)now_boottime(),
		(unsigned)(t - t->p->targets), way_names[way]);
	fflush(t->p->ledger);
}

static void
wait_for_flip(struct target *t)
{
	const struct proxy *p = t->p;
	usec_t span = t->way == UP ? between(t, p->up_min, p->up_max)
				   : between(t, p->down_min, p->down_max);
	struct timeval tv = {.tv_sec = span / USEC_PER_SEC, .tv_usec = span % USEC_PER_SEC};

	evtimer_add(t->flip, &tv);
}

static void
on_flip(evutil_socket_t fd, short what, void *arg)
{
	struct target *t = arg;

	enter(t, t->way == UP ? 1 + (enum way)(draw(t) % (_WAY_MAX - 1)) : UP);
	if (!t->p->over)
		wait_for_flip(t);
}

static void
on_stdin(evutil_socket_t fd, short what, void *arg)
{
	struct proxy *p = arg;
	char buf[64];
	ssize_t n = read(fd, buf, sizeof buf);

	if (n < 0)
		return;
	if (n == 0)
		event_base_loopbreak(p->base);
	if (n > 0 && buf[0] == '?') {
		printf("%lu\n", p->requests);
		fflush(stdout);
		return;
	}
	p->over = memchr(buf, '.', (size_t)n) != NULL;
	for (unsigned i = 0; i < p->n; i++) {
		struct target *t = &p->targets[i];

		if (!p->over)
			wait_for_flip(t);
		else if (t->way == UP)
			evtimer_del(t->flip);
	}
}

/* --- connections --- */

static void
conn_free(struct conn *c)
{
	if (c->backend)
		bufferevent_free(c->backend);
	if (c->timer)
		event_free(c->timer);
	bufferevent_free(c->client);
	free(c);
}

static void
conn_reset(struct conn *c)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(bufferevent_getfd(c->client), SOL_SOCKET, SO_LINGER, &now, sizeof now);
	conn_free(c);
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		conn_free(arg);
}

static void
on_backend(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;

	bufferevent_write_buffer(c->client, bufferevent_get_input(bev));
}

static void
target_address(unsigned i, unsigned port, struct sockaddr_in *ret)
{
	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	ret->sin_addr.s_addr = htonl(0x7f010000u | (i / 250) << 8 | (i % 250 + 1));
}

static void
hand_on(struct conn *c, size_t n)
{
	struct target *t = c->t;
	struct sockaddr_in to;

	if (!c->backend) {
		target_address((unsigned)(t - t->p->targets), t->p->backend_port, &to);
		c->backend = bufferevent_socket_new(t->p->base, -1, BEV_OPT_CLOSE_ON_FREE);
		bufferevent_setcb(c->backend, on_backend, NULL, on_event, c);
		bufferevent_enable(c->backend, EV_READ | EV_WRITE);
		if (bufferevent_socket_connect(c->backend, (struct sockaddr *)&to, sizeof to) < 0) {
			conn_free(c);
			return;
		}
	}
	evbuffer_remove_buffer(bufferevent_get_input(c->client), bufferevent_get_output(c->backend),
			       n);
}

static void
on_flushed(struct bufferevent *bev, void *arg)
{
	conn_free(arg);
}

static void
say_and_close(struct conn *c, const void *data, size_t n)
{
	bufferevent_setcb(c->client, NULL, on_flushed, on_event, c);
	bufferevent_write(c->client, data, n);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	static const char chunk[CHUNK] = {'x'};
	struct conn *c = arg;

	if (c->way == DRIP) {
		bufferevent_write(c->client, "a", 1);
		return;
	}
	while (evbuffer_get_length(bufferevent_get_output(c->client)) < AHEAD) {
		evbuffer_add_printf(bufferevent_get_output(c->client), "%x\r\n", CHUNK);
		bufferevent_write(c->client, chunk, sizeof chunk);
		bufferevent_write(c->client, "\r\n", 2);
	}
}

static void
go_on_saying(struct conn *c, const char *begin, int ms)
{
	struct timeval tv = {.tv_usec = ms * 1000};

	bufferevent_write(c->client, begin, strlen(begin));
	if (!c->timer)
		c->timer = event_new(c->t->p->base, -1, EV_PERSIST, on_tick, c);
	event_add(c->timer, &tv);
}

static void
misbehave(struct conn *c)
{
	static const char half[] = "HTTP/1.1 200 OK\r\nContent-Le";
	static const char early[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this";
	static const char status[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
	char garbage[512];

	switch (c->way) {
	case RESET:
		conn_reset(c);
		break;
	case HALF:
		bufferevent_write(c->client, half, strlen(half));
		break;
	case DRIP:
		go_on_saying(c, "HTTP/1.1 200 OK\r\nX-Slow: ", 50);
		break;
	case ENDLESS:
		go_on_saying(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 5);
		break;
	case GARBAGE:
		for (size_t i = 0; i < sizeof garbage; i++)
			garbage[i] = (char)draw(c->t);
		say_and_close(c, garbage, sizeof garbage);
		break;
	case EARLY:
		say_and_close(c, early, strlen(early));
		break;
	case STATUS:
		bufferevent_write(c->client, status, strlen(status));
		break;
	default:
		break; /* a stall */
	}
}

static void
on_request(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);

	if (end.pos < 0) {
		if (evbuffer_get_length(in) > REQUEST_MAX)
			conn_free(c);
		return;
	}
	c->way = c->t->way;
	c->t->p->requests++;
	if (c->way == UP) {
		hand_on(c, (size_t)end.pos + 4);
		return;
	}
	evbuffer_drain(in, (size_t)end.pos + 4);
	misbehave(c);
}

static void
on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int n, void *arg)
{
	struct target *t = arg;
	struct conn *c = xcalloc(1, sizeof *c);

	c->t = t;
	c->client = bufferevent_socket_new(t->p->base, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(c->client, on_request, NULL, on_event, c);
	bufferevent_enable(c->client, EV_READ | EV_WRITE);
}

/* --- life --- */

static void
die(const char *what)
{
	fprintf(stderr, "faulty: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static unsigned
listen_all(struct proxy *p)
{
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	unsigned port = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct evconnlistener *l;

		target_address(i, port, &at);
		l = evconnlistener_new_bind(p->base, on_accept, &p->targets[i],
					    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 64,
					    (struct sockaddr *)&at, sizeof at);
		if (!l || getsockname(evconnlistener_get_fd(l), (struct sockaddr *)&at, &len) < 0)
			die("cannot listen");
		port = ntohs(at.sin_port);
	}
	return port;
}

static void
more_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int
main(int argc, char **argv)
{
	struct proxy p = {0};
	uint64_t seed;

	if (argc != 9) {
		fprintf(stderr,
			"usage: faulty TARGETS BACKEND_PORT SEED LEDGER UP_MIN_MS UP_MAX_MS "
			"DOWN_MIN_MS DOWN_MAX_MS\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	more_descriptors();
	p.n = (unsigned)atoi(argv[1]);
	p.backend_port = (unsigned)atoi(argv[2]);
	seed = strtoull(argv[3], NULL, 10);
	p.ledger = fopen(argv[4], "we");
	p.up_min = atoll(argv[5]) * USEC_PER_MSEC;
	p.up_max = atoll(argv[6]) * USEC_PER_MSEC;
	p.down_min = atoll(argv[7]) * USEC_PER_MSEC;
	p.down_max = atoll(argv[8]) * USEC_PER_MSEC;
	if (p.n == 0 || p.n > TARGETS_MAX || !p.ledger)
		die(argv[4]);
	p.base = event_base_new();
	p.targets = xcalloc(p.n, sizeof *p.targets);
	for (unsigned i = 0; i < p.n; i++) {
		p.targets[i].p = &p;
		p.targets[i].chance =
			(seed + 1) * 0x9e3779b97f4a7c15u ^ (i + 1) * 0xbf58476d1ce4e5b9u;
		p.targets[i].flip = evtimer_new(p.base, on_flip, &p.targets[i]);
		for (int k = 0; k < 8; k++)
			draw(&p.targets[i]);
	}
	printf("%u\n", listen_all(&p));
	fflush(stdout);
	fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
	event_add(event_new(p.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_stdin, &p), NULL);
	event_base_dispatch(p.base);
	return 0;
}
