/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a daemon that says anything: "COMMAND, FLAGS, then answers with a NUL
 * between".
 *
 * A thread answers one request after the other on a real Unix socket, with the next answer in
 * proper HTTP or as bare bytes, and closes.  The client's own commands run, and its reader of
 * streams.  They end by themselves, with an exit code of dhash(1), and never show a control
 * character.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/api.h"
#include "client/cli.h"
#include "client/conn.h"
#include "client/follow.h"
#include "common/util.h"
#include "tests/fuzz/fuzz.h"

enum { RAW = 1, JSON = 2, ANSWERS_MAX = 16, ASKED_MAX = 400 };

static struct {
	char folder[64], path[96];
	int fd;
	pthread_mutex_t lock;
	char *answers[ANSWERS_MAX]; /* owned */
	size_t n, next;
	unsigned asked;
	bool raw;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- the daemon ------------------------------------------------------------------------------ */

static char *
next_answer(void)
{
	const char *body = "";
	char *text;

	pthread_mutex_lock(&fake.lock);
	fake.asked++;
	/* The last answer is given for ever. */
	if (fake.n > 0)
		body = fake.answers[fake.next < fake.n - 1 ? fake.next++ : fake.n - 1];
	text = fake.raw ? xstrdup(body)
			: xasprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
				    "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
				    strlen(body), body);
	pthread_mutex_unlock(&fake.lock);
	return text;
}

static void
answer_one(int fd)
{
	char request[8192];
	char *text;

	if (recv(fd, request, sizeof request, 0) > 0) {
		text = next_answer();
		(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
		free(text);
	}
	close(fd);
}

static void *
serve(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(fake.fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		answer_one(fd);
	}
}

static void
clean_up(void)
{
	unlink(fake.path);
	rmdir(fake.folder);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	pthread_t thread;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	strcpy(fake.folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/dhash-fuzz-XXXXXX"
							  : "/tmp/dhash-fuzz-XXXXXX");
	INSIST(mkdtemp(fake.folder) != NULL, "no folder to work in: %m");
	snprintf(fake.path, sizeof fake.path, "%s/sock", fake.folder);
	str_copy(addr.sun_path, sizeof addr.sun_path, fake.path);
	fake.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	INSIST(bind(fake.fd, (struct sockaddr *)&addr, sizeof addr) == 0, "%m");
	INSIST(listen(fake.fd, 64) == 0, "%m");
	INSIST(pthread_create(&thread, NULL, serve, NULL) == 0, "no thread");
	pthread_detach(thread);
	atexit(clean_up);
	return 0;
}

/* --- the client ------------------------------------------------------------------------------ */

#define ID "deploy-20240101-120000"

static char *const lines[][8] = {
	{(char *)"dhash", (char *)"status"},
	{(char *)"dhash", (char *)"history"},
	{(char *)"dhash", (char *)"show", (char *)ID},
	{(char *)"dhash", (char *)"explain"},
	{(char *)"dhash", (char *)"explain", (char *)ID},
	{(char *)"dhash", (char *)"backups"},
	{(char *)"dhash", (char *)"backups", (char *)"verify"},
	{(char *)"dhash", (char *)"config", (char *)"check"},
	{(char *)"dhash", (char *)"version"},
	{(char *)"dhash", (char *)"abort", (char *)ID},
	{(char *)"dhash", (char *)"deploy", (char *)"--env", (char *)"e", (char *)"--tag",
	 (char *)"v1", (char *)"--dry-run"},
	{(char *)"dhash", (char *)"deploy", (char *)"--env", (char *)"e", (char *)"--tag",
	 (char *)"v1", (char *)"--no-wait"},
	{(char *)"dhash", (char *)"rollback", (char *)"--env", (char *)"e", (char *)"--yes",
	 (char *)"--no-wait"},
};

static int
run_command(struct client *c, char *const *argv)
{
	struct args args = {0};
	char *error = NULL;
	int argc = 0;

	while (argv[argc])
		argc++;
	INSIST(args_parse(argc, argv, &args, &error) == 0, "%s: %s", argv[1], error);
	c->args = &args;
	return args.command->run(c, &args);
}

/* Its deadline is over when it begins, so that it never waits. */
static int
follow(struct client *c)
{
	static const struct args none = {.command = &commands[0]};
	struct follow f = {.client = c, .id = ID, .deadline = now_boottime(), .ndjson = true};
	bool detached;
	int code;

	c->args = &none;
	code = follow_run(&f, &detached);
	follow_done(&f);
	return code;
}

static int
read_stream(struct client *c)
{
	static const struct args none = {.command = &commands[0]};
	const char *line;
	struct stream *s;
	int r;

	c->args = &none;
	INSIST(follow_position(c) >= 0, "a position below 0");
	INSIST(stream_open(c->conn, "/v1/events?follow=1", &s) == 0, "no stream");
	while ((r = stream_next(s, 10000, -1, &line)) == 1)
		INSIST(!strchr(line, '\n'), "a line of several: %s", line);
	INSIST(r <= 0 && stream_body(s), "stream_next() returned %d", r);
	INSIST(r != -EAGAIN, "the stream has not ended");
	stream_free(s);
	return EXIT_OK;
}

static int
run(struct client *c, uint8_t which)
{
	which %= ARRAY_SIZE(lines) + 2;
	return which < ARRAY_SIZE(lines)    ? run_command(c, lines[which])
	       : which == ARRAY_SIZE(lines) ? follow(c)
					    : read_stream(c);
}

static void
clean(const char *s)
{
	for (const char *p = s; *p; p++)
		INSIST(((unsigned char)*p >= ' ' && *p != 0x7f) || *p == '\n',
		       "%#x reaches the terminal: %s", (unsigned)*p, s);
}

static void
set_answers(struct feed *f, uint8_t flags)
{
	pthread_mutex_lock(&fake.lock);
	while (fake.n > 0)
		free(fake.answers[--fake.n]);
	while (f->left > 0 && fake.n < ANSWERS_MAX)
		fake.answers[fake.n++] = feed_string(f);
	fake.raw = flags & RAW;
	fake.next = fake.asked = 0;
	pthread_mutex_unlock(&fake.lock);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t which = feed_byte(&f), flags = feed_byte(&f);
	struct client c = {.socket = fake.path, .out = {.json = flags & JSON, .width = 80}};
	FILE *real_out = stdout, *real_err = stderr;
	char *out = NULL, *err = NULL;
	size_t out_len, err_len;
	int code;

	set_answers(&f, flags);
	INSIST(conn_new(fake.path, &c.conn) == 0, "no connection");
	stdout = open_memstream(&out, &out_len);
	stderr = open_memstream(&err, &err_len);
	code = run(&c, which);
	fclose(stdout);
	fclose(stderr);
	stdout = real_out;
	stderr = real_err;
	conn_free(c.conn);
	INSIST(code >= 0 && code <= EXIT_DENIED, "exit code %d", code);
	INSIST(fake.asked <= ASKED_MAX, "%u requests", fake.asked);
	clean(out);
	clean(err);
	free(out);
	free(err);
	return 0;
}
