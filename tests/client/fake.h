/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_CLIENT_FAKE_H
#define DHASH_TESTS_CLIENT_FAKE_H

/*
 * A daemon that says what a test wants: canned answers over a real Unix socket, one thread per
 * connection; and a runner for the real client program.  For one test program at a time: state is
 * static.
 */

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/time-util.h"
#include "common/util.h"

enum how {
	ANSWER,      /* status and body, connection kept */
	STREAM,      /* body in chunks, left open until the client goes */
	STREAM_END,  /* body in chunks, then the end */
	ABRUPT,      /* closed without an answer */
	MIDDLE,      /* closed in the middle of the answer */
	GARBAGE,     /* no HTTP */
	HUGE_ANSWER, /* 40 MiB */
};

struct canned {
	const char *request; /* "GET /v1/status": what the request line begins with */
	const char *body;
	int status; /* 0 = 200 */
	enum how how;
	unsigned times; /* answered so often, then the next row that matches; 0 = always */
};

enum { CANNED_MAX = 16, SEEN_MAX = 1 << 16 };

static struct fake {
	char folder[64], path[96];
	int fd;
	pthread_mutex_t lock;
	struct canned rows[CANNED_MAX];
	unsigned used[CANNED_MAX], n;
	char seen[SEEN_MAX]; /* every request, line and body */
} fake;

static void
fake_seen(const char *text)
{
	pthread_mutex_lock(&fake.lock);
	strncat(fake.seen, text, SEEN_MAX - strlen(fake.seen) - 1);
	strncat(fake.seen, "\n", SEEN_MAX - strlen(fake.seen) - 1);
	pthread_mutex_unlock(&fake.lock);
}

static inline bool
fake_was_asked(const char *text)
{
	bool found;

	pthread_mutex_lock(&fake.lock);
	found = strstr(fake.seen, text) != NULL;
	pthread_mutex_unlock(&fake.lock);
	return found;
}

static bool
fake_find(const char *request, struct canned *ret)
{
	bool found = false;

	pthread_mutex_lock(&fake.lock);
	for (unsigned i = 0; i < fake.n && !found; i++) {
		const struct canned *row = &fake.rows[i];

		if (strncmp(request, row->request, strlen(row->request)) != 0)
			continue;
		if (row->times > 0 && fake.used[i] >= row->times)
			continue;
		fake.used[i]++;
		*ret = *row;
		found = true;
	}
	pthread_mutex_unlock(&fake.lock);
	return found;
}

static bool
fake_send(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

__attribute__((format(printf, 2, 3))) static bool
fake_printf(int fd, const char *fmt, ...)
{
	va_list ap;
	char *text;
	bool ok;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	ok = fake_send(fd, text, (size_t)n);
	free(text);
	return ok;
}

/* Waits until the client has closed. */
static void
fake_linger(int fd)
{
	char c;

	while (recv(fd, &c, 1, 0) > 0)
		;
}

static void
fake_huge(int fd)
{
	size_t chunk = 1 << 16;
	char *data = xmalloc(chunk);

	memset(data, ' ', chunk);
	fake_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 40 << 20);
	for (int i = 0; i < 640 && fake_send(fd, data, chunk); i++)
		;
	free(data);
}

/* False: the connection is over. */
static bool
fake_answer(int fd, const struct canned *row)
{
	const char *body = row->body ? row->body : "";
	int status = row->status ? row->status : 200;

	switch (row->how) {
	case ANSWER:
		return fake_printf(fd,
				   "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
				   "Content-Length: %zu\r\n\r\n%s",
				   status, strlen(body), body);
	case STREAM:
	case STREAM_END:
		fake_printf(fd, "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n", status);
		if (*body)
			fake_printf(fd, "%zx\r\n%s\r\n", strlen(body), body);
		if (row->how == STREAM_END)
			return fake_printf(fd, "0\r\n\r\n");
		fake_linger(fd);
		return false;
	case MIDDLE:
		fake_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{\"half\":");
		return false;
	case GARBAGE:
		fake_printf(fd, "\x01\x02 this is no HTTP at all\r\n\r\n");
		return false;
	case HUGE_ANSWER:
		fake_huge(fd);
		return false;
	default:
		return false;
	}
}

/* Reads a request: its line and body land in `text`. */
static bool
fake_read(int fd, char *text, size_t size)
{
	char head[8192] = "", *end = NULL;
	size_t len = 0, length = 0, have;
	char *field;

	while (!end) {
		ssize_t n = recv(fd, head + len, sizeof head - 1 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t)n;
		head[len] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	field = strcasestr(head, "\r\nContent-Length:");
	if (field && field < end)
		length = strtoul(field + 17, NULL, 10);
	have = len - (size_t)(end + 4 - head);
	while (have < length) {
		ssize_t n = recv(fd, head + len, sizeof head - 1 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t)n;
		have += (size_t)n;
		head[len] = '\0';
	}
	snprintf(text, size, "%.*s %s", (int)strcspn(head, "\r"), head, end + 4);
	return true;
}

static void *
fake_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct canned row;
	char text[8192];

	while (fake_read(fd, text, sizeof text)) {
		fake_seen(text);
		if (!fake_find(text, &row))
			row = (struct canned){
				.status = 404,
				.body = "{\"error\":{\"kind\":\"not-found\",\"message\":"
					"\"the test has no answer\"}}"};
		if (!fake_answer(fd, &row))
			break;
	}
	close(fd);
	return NULL;
}

static void *
fake_accept(void *arg)
{
	for (;;) {
		int fd = accept4((int)(intptr_t)arg, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (fd < 0)
			return NULL;
		pthread_create(&thread, NULL, fake_connection, (void *)(intptr_t)fd);
		pthread_detach(thread);
	}
}

static void
fake_folder(void)
{
	pthread_mutex_init(&fake.lock, NULL);
	strcpy(fake.folder, "/tmp/dhash-client-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(fake.folder));
	snprintf(fake.path, sizeof fake.path, "%s/sock", fake.folder);
	fake.fd = -1;
}

static void
fake_listen(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;

	strcpy(address.sun_path, fake.path);
	unlink(fake.path);
	fake.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fake.fd, (struct sockaddr *)&address, sizeof address), 0);
	ck_assert_int_eq(listen(fake.fd, 64), 0);
	pthread_create(&thread, NULL, fake_accept, (void *)(intptr_t)fake.fd);
	pthread_detach(thread);
}

/* Nobody listens any more, as after a kill; the socket file stays. */
static void
fake_die(void)
{
	shutdown(fake.fd, SHUT_RDWR);
	close(fake.fd);
	fake.fd = -1;
}

/* The answers, up to a row without a request. */
static void
fake_says(const struct canned *rows)
{
	pthread_mutex_lock(&fake.lock);
	memset(fake.used, 0, sizeof fake.used);
	for (fake.n = 0; rows[fake.n].request; fake.n++)
		fake.rows[fake.n] = rows[fake.n];
	pthread_mutex_unlock(&fake.lock);
}

static void
fake_start(void)
{
	fake_folder();
	fake_listen();
}

static void
fake_stop(void)
{
	if (fake.fd >= 0)
		fake_die();
	unlink(fake.path);
	rmdir(fake.folder);
}

/* --- the client --- */

struct ran {
	pid_t pid;
	int out; /* read end, or the master of a terminal */
	int status;
	char text[1 << 17]; /* standard output and standard error */
	size_t len;
};

static const char *
client_program(void)
{
	static char path[256];
	const char *build = getenv("DHASH_BUILD");

	snprintf(path, sizeof path, "%s/dhash", build ? build : "build");
	return path;
}

/* Splits a line into words; "quoted words" are one. */
static void
client_words(char *line, char **argv, size_t max)
{
	size_t n = 0;

	while (*line && n + 1 < max) {
		char end = *line == '"' ? '"' : ' ';

		if (end == '"')
			line++;
		argv[n++] = line;
		line += strcspn(line, end == '"' ? "\"" : " ");
		if (*line)
			*line++ = '\0';
		line += strspn(line, " ");
	}
	argv[n] = NULL;
}

static void
client_start(struct ran *r, bool terminal, char *const *environment, const char *words)
{
	char line[1024], *argv[32];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int ends[2];

	*r = (struct ran){0};
	snprintf(line, sizeof line, "dhash --socket %s %s", fake.path, words);
	client_words(line, argv, ARRAY_SIZE(argv));
	if (terminal)
		ck_assert_int_eq(openpty(&ends[0], &ends[1], NULL, NULL, NULL), 0);
	else
		ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	if (terminal)
		posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
	else
		posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
	posix_spawnattr_init(&attributes);
	ck_assert_int_eq(posix_spawn(&r->pid, client_program(), &actions, &attributes, argv,
				     environment ? environment : environ),
			 0);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(ends[1]);
	r->out = ends[0];
}

/* Reads until the text shows up, or with NULL until the end; false after ten seconds. */
static bool
client_says(struct ran *r, const char *text)
{
	usec_t deadline = now_boottime() + 10 * USEC_PER_SEC;

	while (!text || !strstr(r->text, text)) {
		struct pollfd p = {.fd = r->out, .events = POLLIN};
		ssize_t n;

		if (now_boottime() > deadline)
			return false;
		if (poll(&p, 1, 100) == 0)
			continue;
		n = read(r->out, r->text + r->len, sizeof r->text - 1 - r->len);
		if (n <= 0)
			return !text;
		r->len += (size_t)n;
		r->text[r->len] = '\0';
	}
	return true;
}

/* Waits for the end; returns the exit code, or -1 when a signal ended it. */
static int
client_end(struct ran *r)
{
	int status;

	if (!client_says(r, NULL))
		kill(r->pid, SIGKILL);
	waitpid(r->pid, &status, 0);
	close(r->out);
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return r->status;
}

static inline int
client_run(struct ran *r, const char *words)
{
	client_start(r, false, NULL, words);
	return client_end(r);
}

#define ck_says(r, what)                                                                           \
	ck_assert_msg(strstr((r)->text, what) != NULL, "expected \"%s\" in:\n%s", what, (r)->text)
#define ck_not(r, what)                                                                            \
	ck_assert_msg(strstr((r)->text, what) == NULL, "unexpected \"%s\" in:\n%s", what, (r)->text)
#define ck_exit(r, code, words)                                                                    \
	do {                                                                                       \
		int got = client_run(r, words);                                                    \
		ck_assert_msg(got == (code), "dhash %s: exit %d, not %d:\n%s", words, got, code,   \
			      (r)->text);                                                          \
	} while (0)

#endif
