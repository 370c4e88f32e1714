/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of the bench: as many HTTP servers as asked for, each at an address of its own
 * (127.1.x.y) and all at one port, in one cheap loop.  It counts what really arrives, and how far
 * the time between two checks of a target is from the interval: the schedule as the target sees it.
 *
 *   GET /stats   what was counted since the reset, as JSON        GET /reset   begin to count
 *   GET /sick    every other path is answered with 503 from now   GET /well    … with 200 again
 *   anything else is a check
 *
 * It knows nothing of dhashd.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/time-util.h"
#include "common/util.h"

enum { TARGETS_MAX = 20000, REQUEST_MAX = 4096, ANSWER_MAX = 1024, BACKLOG = 64 };

struct bench;

struct target {
	struct bench *b;
	struct event *ev; /* owned */
	usec_t last;      /* newest check since the reset; 0 = none */
};

struct bench {
	struct event_base *base;
	struct target *targets; /* owned */
	unsigned n_targets, n_checked;
	usec_t interval, since;
	bool close, sick;
	unsigned long checks, connections;
	unsigned n_sick; /* checks answered with 503 since /sick */
	usec_t third;    /* when the third of them was answered: three failures decide */
	uint32_t *off;   /* owned; how far each gap was from the interval, in µs */
	size_t n_off, cap_off;
};

/* One connection of a client. */
struct peer {
	struct target *t;
	struct event *ev; /* owned */
	int fd;           /* owned */
	size_t len;
	char in[REQUEST_MAX];
};

/* --- counting --- */

static void
off_add(struct bench *b, usec_t off)
{
	if (b->n_off == b->cap_off) {
		b->cap_off = b->cap_off ? b->cap_off * 2 : 1024;
		b->off = xrealloc(b->off, b->cap_off * sizeof *b->off);
	}
	b->off[b->n_off++] = (uint32_t)MIN(off < 0 ? -off : off, UINT32_MAX);
}

static void
count(struct target *t)
{
	struct bench *b = t->b;
	usec_t now = now_boottime();

	b->checks++;
	if (b->sick && ++b->n_sick == 3)
		b->third = now;
	if (t->last)
		off_add(b, now - t->last - b->interval);
	else
		b->n_checked++;
	t->last = now;
}

static void
reset(struct bench *b)
{
	b->checks = b->connections = 0;
	b->n_checked = 0;
	b->n_off = 0;
	b->since = now_boottime();
	for (unsigned i = 0; i < b->n_targets; i++)
		b->targets[i].last = 0;
}

static int
ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
off_ms(const struct bench *b, double share)
{
	size_t i = (size_t)(share * (double)b->n_off);

	return b->n_off ? b->off[MIN(i, b->n_off - 1)] / 1000.0 : 0;
}

static int
stats(struct bench *b, char *buf, size_t n)
{
	double seconds = (double)(now_boottime() - b->since) / USEC_PER_SEC;

	if (b->n_off > 0)
		qsort(b->off, b->n_off, sizeof *b->off, ascending);
	return snprintf(buf, n,
			"{\"seconds\":%.6f,\"checks\":%lu,\"connections\":%lu,\"targets\":%u,"
			"\"off_median_ms\":%.3f,\"off_p99_ms\":%.3f,\"off_max_ms\":%.3f,"
			"\"third\":%lld,\"now\":%lld}\n",
			seconds, b->checks, b->connections, b->n_checked, off_ms(b, .5),
			off_ms(b, .99), off_ms(b, 1), (long long)b->third,
			(long long)now_boottime());
}

/* --- connections --- */

static void
peer_free(struct peer *p)
{
	event_free(p->ev);
	close(p->fd);
	free(p);
}

static bool
asks(const struct peer *p, const char *path)
{
	size_t n = strlen(path);

	return strncmp(p->in, "GET ", 4) == 0 && strncmp(p->in + 4, path, n) == 0 &&
	       p->in[4 + n] == ' ';
}

static void
set_sick(struct bench *b, bool sick)
{
	b->sick = sick;
	b->n_sick = 0;
	b->third = 0;
}

static const char *
act(struct peer *p, char *buf, size_t n)
{
	struct bench *b = p->t->b;

	if (asks(p, "/stats")) {
		stats(b, buf, n);
		return buf;
	}
	if (asks(p, "/reset"))
		reset(b);
	else if (asks(p, "/sick") || asks(p, "/well"))
		set_sick(b, asks(p, "/sick"));
	else
		count(p->t);
	return "ok\n";
}

/* Small enough for any socket's buffer: what does not fit at once is given up with its client. */
static bool
answer(struct peer *p)
{
	struct bench *b = p->t->b;
	char text[ANSWER_MAX], out[2 * ANSWER_MAX];
	const char *body = act(p, text, sizeof text);
	bool sick = b->sick && body != text;
	int n = snprintf(out, sizeof out,
			 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n%sContent-Length: "
			 "%zu\r\n\r\n%s",
			 sick ? "503 Service Unavailable" : "200 OK",
			 b->close ? "Connection: close\r\n" : "", strlen(body), body);

	return send(p->fd, out, (size_t)n, MSG_NOSIGNAL) == n && !b->close;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct peer *p = arg;
	ssize_t n = read(fd, p->in + p->len, sizeof p->in - 1 - p->len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		peer_free(p);
		return;
	}
	p->len += (size_t)n;
	p->in[p->len] = '\0';
	if (!strstr(p->in, "\r\n\r\n")) {
		if (p->len == sizeof p->in - 1)
			peer_free(p);
		return;
	}
	p->len = 0;
	if (!answer(p))
		peer_free(p);
}

static void
on_connection(evutil_socket_t listener, short what, void *arg)
{
	struct target *t = arg;
	struct peer *p;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	t->b->connections++;
	p = xcalloc(1, sizeof *p);
	p->t = t;
	p->fd = fd;
	p->ev = event_new(t->b->base, fd, EV_READ | EV_PERSIST, on_readable, p);
	event_add(p->ev, NULL);
}

/* --- life --- */

static int
listen_at(unsigned i, unsigned *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	a.sin_addr.s_addr = htonl(0x7f010000u + (i / 250) * 256 + i % 250 + 1);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static int
listen_all(struct bench *b, unsigned *ret_port)
{
	unsigned port = 0;

	b->targets = xcalloc(b->n_targets, sizeof *b->targets);
	for (unsigned i = 0; i < b->n_targets; i++) {
		struct target *t = &b->targets[i];
		int fd = listen_at(i, &port);

		if (fd < 0)
			return fd;
		t->b = b;
		t->ev = event_new(b->base, fd, EV_READ | EV_PERSIST, on_connection, t);
		event_add(t->ev, NULL);
	}
	*ret_port = port;
	return 0;
}

static void
raise_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* The process ends by a signal; its descriptors and memory go with it. */
int
main(int argc, char **argv)
{
	struct bench b = {0};
	unsigned port = 0;
	int r;

	if (argc < 3 || argc > 4 || (argc == 4 && !streq(argv[3], "close")) ||
	    usec_parse(argv[2], &b.interval) < 0) {
		fputs("usage: answer TARGETS INTERVAL [close]    prints its port\n", stderr);
		return 2;
	}
	b.n_targets = (unsigned)MIN(strtoul(argv[1], NULL, 10), TARGETS_MAX);
	b.close = argc == 4;
	raise_descriptors();
	b.base = event_base_new();
	r = listen_all(&b, &port);
	if (r < 0) {
		fprintf(stderr, "answer: cannot listen at %u addresses of 127.1.0.0/16: %s\n",
			b.n_targets, strerror(-r));
		return 1;
	}
	reset(&b);
	printf("%u\n", port);
	fflush(stdout);
	event_base_dispatch(b.base);
	return 0;
}
