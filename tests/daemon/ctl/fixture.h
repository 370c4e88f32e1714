/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_CTL_FIXTURE_H
#define DHASH_TESTS_CTL_FIXTURE_H

/*
 * The real server on a real socket, in a thread of its own, with a handler that echoes; and a
 * client made of bare bytes.  Everything that touches the server from a test goes through
 * on_server().
 */

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/time-util.h"
#include "common/util.h"
#include "daemon/ctl/internal.h"

#define HELPER static inline __attribute__((unused))

enum { PATIENCE_MS = 10000 };

struct fixture {
	char dir[64], path[96];
	struct event_base *base;
	struct ctl *ctl;
	struct event *calls;
	int call_fd[2];
	pthread_t thread;
	sem_t done;

	/* What the handler does, and what it saw.  Only from on_server(). */
	size_t status_bytes;      /* of the answer to CTL_STATUS */
	struct ctl_request *held; /* CTL_EXPLAIN is not answered until a test does */
	int64_t n_events;         /* there are events 1 to n */
	size_t event_bytes;
	bool events_later; /* answer in another turn of the loop */
	int events_error;  /* status to fail with, 0 = none */
	unsigned asked, requests, denied;
	unsigned laters;     /* of events_later, not yet answered; the server thread counts */
	char deployment[64]; /* filter of the last asking */
	struct peer peer;
	size_t max_pending;
};

struct call {
	void (*fn)(struct fixture *f, void *arg);
	void *arg;
};

/* --- server ---------------------------------------------------------------------------------- */

HELPER void
handle(void *arg, struct ctl_request *r, enum ctl_op op, const struct peer *peer, const char *id,
       json_t *query, json_t *body)
{
	struct fixture *f = arg;

	f->requests++;
	f->peer = *peer;
	if (op == CTL_EXPLAIN) {
		f->held = r;
	} else if (op == CTL_STATUS && f->status_bytes > 0) {
		char *text = xmalloc(f->status_bytes + 1);

		memset(text, 'x', f->status_bytes);
		text[f->status_bytes] = '\0';
		ctl_reply(r, 200, NULL, json_pack("{s:s}", "text", text));
		free(text);
	} else if (op == CTL_DEPLOY) {
		ctl_reply(r, 202, "/v1/deployments/d-1",
			  json_pack("{s:s, s:O}", "id", "d-1", "body", body));
	} else if (op == CTL_ROLLBACK) {
		ctl_error(r, 409, "refused", json_pack("{s:i}", "n", 1), "no, %s", "never");
	} else {
		ctl_reply(r, 200, NULL,
			  json_pack("{s:i, s:s?, s:O, s:O?}", "op", (int)op, "id", id, "query",
				    query, "body", body));
	}
}

HELPER json_t *
make_events(const struct fixture *f, int64_t after, unsigned limit)
{
	char *text = xmalloc(f->event_bytes + 1);
	json_t *events = json_array();

	memset(text, 'e', f->event_bytes);
	text[f->event_bytes] = '\0';
	for (int64_t i = after + 1; i <= f->n_events && json_array_size(events) < limit; i++)
		json_array_append_new(events,
				      json_pack("{s:I, s:s}", "seq", (json_int_t)i, "text", text));
	free(text);
	return events;
}

struct later {
	struct fixture *f;
	struct ctl_request *r;
	int64_t after;
	unsigned limit;
};

HELPER void
on_later(evutil_socket_t fd, short what, void *arg)
{
	struct later *l = arg;

	l->f->laters--;
	ctl_events(l->r, make_events(l->f, l->after, l->limit));
	free(l);
}

HELPER void
handle_events(void *arg, struct ctl_request *r, int64_t after, const char *deployment,
	      unsigned limit)
{
	struct timeval soon = {.tv_usec = 2000};
	struct fixture *f = arg;
	struct later *l;

	f->asked++;
	if (r->conn)
		f->max_pending = MAX(f->max_pending, conn_pending(r->conn));
	str_copy(f->deployment, sizeof f->deployment, deployment ? deployment : "");
	if (f->events_error) {
		ctl_error(r, f->events_error, "internal", NULL, "the store is gone");
		return;
	}
	if (!f->events_later) {
		ctl_events(r, make_events(f, after, limit));
		return;
	}
	l = xcalloc(1, sizeof *l);
	f->laters++;
	*l = (struct later){f, r, after, limit};
	event_base_once(f->base, -1, EV_TIMEOUT, on_later, l, &soon);
}

HELPER void
handle_denied(void *arg, enum ctl_op op, const struct peer *peer)
{
	struct fixture *f = arg;

	f->denied++;
	f->peer = *peer;
}

static const struct ctl_ops fixture_ops = {handle, handle_events, handle_denied};

HELPER void
on_call(evutil_socket_t fd, short what, void *arg)
{
	struct fixture *f = arg;
	struct call c;

	if (read(fd, &c, sizeof c) != sizeof c || !c.fn) {
		event_base_loopbreak(f->base);
		return;
	}
	c.fn(f, c.arg);
	sem_post(&f->done);
}

HELPER void *
serve(void *arg)
{
	event_base_dispatch(((struct fixture *)arg)->base);
	return NULL;
}

HELPER void
on_server(struct fixture *f, void (*fn)(struct fixture *, void *), void *arg)
{
	struct call c = {fn, arg};

	ck_assert_int_eq(write(f->call_fd[1], &c, sizeof c), sizeof c);
	while (sem_wait(&f->done) < 0)
		ck_assert_int_eq(errno, EINTR);
}

/* Groups may be NULL. */
HELPER void
start(struct fixture *f, const char *read_group, const char *operate_group)
{
	struct ctl_config cfg = {
		.fd = -1, .read_group = read_group, .operate_group = operate_group};
	char *error = NULL;

	memset(f, 0, sizeof *f);
	signal(SIGPIPE, SIG_IGN); /* as main does */
	log_set_level(LOG_ERR);
	f->event_bytes = 10;
	strcpy(f->dir, "/tmp/dhash-ctl-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	ck_assert_int_eq(chmod(f->dir, 0755), 0);
	snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
	cfg.path = f->path;
	f->base = event_base_new();
	ck_assert_int_eq(ctl_new(f->base, &cfg, &fixture_ops, f, &f->ctl, &error), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->call_fd), 0);
	f->calls = event_new(f->base, f->call_fd[0], EV_READ | EV_PERSIST, on_call, f);
	event_add(f->calls, NULL);
	sem_init(&f->done, 0, 0);
	ck_assert_int_eq(pthread_create(&f->thread, NULL, serve, f), 0);
}

HELPER void
do_count_laters(struct fixture *f, void *arg)
{
	*(unsigned *)arg = f->laters;
}

/* What the store of the test still owes would be nobody's after the loop. */
HELPER void
settle_laters(struct fixture *f)
{
	usec_t until = now_boottime() + PATIENCE_MS * USEC_PER_MSEC;
	unsigned n;

	for (on_server(f, do_count_laters, &n); n > 0 && now_boottime() < until;) {
		usleep(2000);
		on_server(f, do_count_laters, &n);
	}
}

HELPER void
stop(struct fixture *f)
{
	struct call end = {NULL, NULL};

	settle_laters(f);
	ck_assert_int_eq(write(f->call_fd[1], &end, sizeof end), sizeof end);
	pthread_join(f->thread, NULL);
	ctl_free(f->ctl);
	event_free(f->calls);
	event_base_free(f->base);
	close(f->call_fd[0]);
	close(f->call_fd[1]);
	sem_destroy(&f->done);
	ck_assert_int_eq(access(f->path, F_OK), -1); /* the socket goes with the server */
	ck_assert_int_eq(rmdir(f->dir), 0);          /* and nothing else is left */
}

HELPER void
do_set_limits(struct fixture *f, void *arg)
{
	ctl_set_limits(f->ctl, arg);
}

HELPER void
set_limits(struct fixture *f, const struct ctl_limits *l)
{
	struct ctl_limits copy = *l;

	on_server(f, do_set_limits, &copy);
}

HELPER void
do_count(struct fixture *f, void *arg)
{
	*(unsigned *)arg = f->ctl->n_conns;
}

HELPER unsigned
connections(struct fixture *f)
{
	unsigned n;

	on_server(f, do_count, &n);
	return n;
}

HELPER void
wait_connections(struct fixture *f, unsigned n)
{
	usec_t until = now_boottime() + PATIENCE_MS * USEC_PER_MSEC;

	while (connections(f) != n) {
		ck_assert_msg(now_boottime() < until, "%u connections, not %u", connections(f), n);
		usleep(1000);
	}
}

/* --- client ---------------------------------------------------------------------------------- */

HELPER int
dial_path(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	str_copy(addr.sun_path, sizeof addr.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

HELPER int
dial(const struct fixture *f)
{
	int fd = dial_path(f->path);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* False when the server has closed meanwhile, which may be right. */
HELPER bool
put_bytes(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

HELPER bool
put(int fd, const char *text)
{
	return put_bytes(fd, text, strlen(text));
}

struct answer {
	int status;
	char head[4096];
	char body[1 << 16];
};

/* One byte, or false at the end. */
HELPER bool
get_byte(int fd, char *c)
{
	ssize_t n;

	do
		n = recv(fd, c, 1, 0);
	while (n < 0 && errno == EINTR);
	ck_assert_msg(n >= 0 || errno == ECONNRESET, "no answer: %s", strerror(errno));
	return n == 1;
}

/* One line without its end; false at the end of the stream. */
HELPER bool
get_line(int fd, char *line, size_t size)
{
	size_t n = 0;
	char c;

	while (get_byte(fd, &c)) {
		if (c == '\n') {
			if (n > 0 && line[n - 1] == '\r')
				n--;
			line[n] = '\0';
			return true;
		}
		ck_assert_uint_lt(n + 1, size);
		line[n++] = c;
	}
	return false;
}

HELPER bool
get_head(int fd, struct answer *a)
{
	char line[1024];

	memset(a, 0, sizeof *a);
	if (!get_line(fd, line, sizeof line))
		return false;
	ck_assert_int_eq(sscanf(line, "HTTP/1.%*d %d", &a->status), 1);
	while (get_line(fd, line, sizeof line) && *line) {
		ck_assert_uint_lt(strlen(a->head) + strlen(line) + 2, sizeof a->head);
		strcat(strcat(a->head, line), "\n");
	}
	return true;
}

HELPER bool
has_header(const struct answer *a, const char *line)
{
	return strcasestr(a->head, line) != NULL;
}

/* A whole answer with a Content-Length; false when the connection ended first. */
HELPER bool
get_answer(int fd, struct answer *a)
{
	const char *length;
	size_t n;

	if (!get_head(fd, a))
		return false;
	length = strcasestr(a->head, "Content-Length:");
	ck_assert_msg(length != NULL, "no length: %s", a->head);
	n = strtoul(length + strlen("Content-Length:"), NULL, 10);
	ck_assert_uint_lt(n, sizeof a->body);
	for (size_t i = 0; i < n; i++)
		ck_assert(get_byte(fd, &a->body[i]));
	return true;
}

HELPER bool
at_end(int fd)
{
	char c;

	return !get_byte(fd, &c);
}

/* Sends one request on a connection of its own.  `text` must end the request. */
HELPER void
ask_once(const struct fixture *f, const char *text, struct answer *a)
{
	int fd = dial(f);

	put(fd, text);
	ck_assert_msg(get_answer(fd, a), "no answer to: %.200s", text);
	ck_assert_msg(has_header(a, "Content-Type: application/json\n"), "%s", a->head);
	close(fd);
}

HELPER void
post_once(const struct fixture *f, const char *path, const char *body, size_t len, struct answer *a)
{
	char head[256];
	int fd = dial(f);

	snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
		 path, len);
	put(fd, head);
	put_bytes(fd, body, len);
	ck_assert_msg(get_answer(fd, a), "no answer to: %.200s", body);
	ck_assert_msg(has_header(a, "Content-Type: application/json\n"), "%s", a->head);
	close(fd);
}

/* The answer is an error of this status and kind, whose message contains `words`. */
HELPER void
expect_error(const struct answer *a, int status, const char *kind, const char *words)
{
	json_t *json = json_loads(a->body, JSON_REJECT_DUPLICATES, NULL);
	json_t *error = json_object_get(json, "error");
	const char *message = json_string_value(json_object_get(error, "message"));

	ck_assert_msg(a->status == status, "%d, not %d: %s", a->status, status, a->body);
	ck_assert_msg(json && message, "not our error: %s", a->body);
	ck_assert_str_eq(json_string_value(json_object_get(error, "kind")), kind);
	ck_assert_msg(strstr(message, words) != NULL, "no \"%s\" in: %s", words, message);
	ck_assert(json_object_get(error, "detail") != NULL);
	json_decref(json);
}

HELPER void
still_alive(const struct fixture *f)
{
	struct answer a;

	ask_once(f, "GET /v1/version HTTP/1.1\r\n\r\n", &a);
	ck_assert_int_eq(a.status, 200);
}

HELPER int
run_suite(const char *name, void (*fill)(TCase *))
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create(name);
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	fill(t);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
