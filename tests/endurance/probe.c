/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the loop keeps one waiting: asks a trivial question on one kept connection of the
 * control socket every 5 ms, and the same of a process beside it that does nothing else, which
 * shows what the machine itself adds.  An answer's time counts from when its question was due, so
 * that what waits behind a late answer is late, too.
 *
 *   probe SOCKET
 *
 * A line on standard input: prints "daemon N P50 P99 P999 MAX" and "idle …" (us) of the time since
 * the last such line.  Ends with standard input.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/time-util.h"
#include "common/util.h"

static const usec_t every = 5 * USEC_PER_MSEC;
static const char question[] = "GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct prober {
	const char *path; /* NULL: the process beside us */
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;
	uint32_t *took; /* owned; us */
	size_t n, cap;
	unsigned long lost; /* connections that ended */
};

static void
keep(struct prober *p, usec_t took)
{
	pthread_mutex_lock(&p->lock);
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 4096;
		p->took = xrealloc(p->took, p->cap * sizeof *p->took);
	}
	p->took[p->n++] = (uint32_t)MIN(took, UINT32_MAX);
	pthread_mutex_unlock(&p->lock);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	str_copy(at.sun_path, sizeof at.sun_path, path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One answer, whole: headers, and a body of the length that they say.  False: the peer is gone. */
static bool
read_answer(int fd)
{
	char buf[8192];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, buf + len, sizeof buf - 1 - len);
		const char *body, *length;

		if (n <= 0)
			return false;
		buf[len += (size_t)n] = '\0';
		body = strstr(buf, "\r\n\r\n");
		length = strcasestr(buf, "content-length:");
		if (body && length && len >= (size_t)(body + 4 - buf) + (size_t)atoi(length + 15))
			return true;
		if (len == sizeof buf - 1)
			return false;
	}
}

/* The daemon may close a kept connection between two questions: that is asked again. */
static bool
ask(struct prober *p)
{
	for (int try = 0; try < 3; try++) {
		if (p->fd < 0)
			p->fd = connect_to(p->path);
		if (p->fd >= 0 &&
		    send(p->fd, question, strlen(question), MSG_NOSIGNAL) ==
			    (ssize_t)strlen(question) &&
		    read_answer(p->fd))
			return true;
		if (!p->path)
			return false;
		if (p->fd >= 0)
			close(p->fd);
		p->fd = -1;
		p->lost++;
	}
	return false;
}

static void *
probe(void *arg)
{
	struct prober *p = arg;
	usec_t due = now_boottime();

	for (;;) {
		usec_t left = (due += every) - now_boottime();
		struct timespec ts = {.tv_nsec = left * 1000};

		if (left > 0)
			nanosleep(&ts, NULL);
		if (!ask(p)) {
			fprintf(stderr, "probe: no answer from %s\n", p->path ? p->path : "beside");
			_exit(1);
		}
		keep(p, now_boottime() - due);
	}
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static unsigned
share(const struct prober *p, double part)
{
	return p->n ? p->took[MIN(p->n - 1, (size_t)((double)p->n * part))] : 0;
}

static void
tell(struct prober *p)
{
	pthread_mutex_lock(&p->lock);
	qsort(p->took, p->n, sizeof *p->took, compare);
	printf("%s %zu %u %u %u %u %lu\n", p->path ? "daemon" : "idle", p->n, share(p, .5),
	       share(p, .99), share(p, .999), share(p, 1), p->lost);
	p->n = 0;
	pthread_mutex_unlock(&p->lock);
}

/* The process beside: answers the same question with as much, and does nothing else. */
static int
start_idle(void)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
				     "1234567890123456789012345678901234567890123456789"
				     "012345678901234567890123456789012345678901234567890";
	char buf[1024];
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		exit(1);
	if (fork() > 0) {
		close(fds[1]);
		return fds[0];
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(fds[0]);
	while (read(fds[1], buf, sizeof buf) > 0)
		if (write(fds[1], answer, strlen(answer)) < 0)
			break;
	_exit(0);
}

int
main(int argc, char **argv)
{
	struct prober p[2] = {{.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER},
			      {.lock = PTHREAD_MUTEX_INITIALIZER}};
	char line[64];

	if (argc != 2) {
		fprintf(stderr, "usage: probe SOCKET\n");
		return 2;
	}
	p[0].path = argv[1];
	p[1].fd = start_idle();
	for (int i = 0; i < 2; i++)
		pthread_create(&p[i].thread, NULL, probe, &p[i]);
	while (fgets(line, sizeof line, stdin)) {
		tell(&p[0]);
		tell(&p[1]);
		fflush(stdout);
	}
	return 0;
}
