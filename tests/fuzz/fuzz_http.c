/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client may send to the control socket: "FLAGS, CUT, then the bytes of the connection".
 *
 * The real server on a real Unix socket, kept from input to input, with a handler that records. The
 * bytes come in two pieces, the client then goes away in one of two ways.  Whatever they are: what
 * is answered is ours, the connection is gone at the end, each request was answered once.
 */

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/ctl/internal.h"
#include "tests/fuzz/fuzz.h"

enum {
	LATER = 1,     /* requests are answered in a later turn of the loop */
	VANISH = 2,    /* the client closes without reading its answers */
	LEAVE_OFF = 4, /* it shuts down its side first */
	TURNS = 200,
	HELD_MAX = 256,
};

static struct {
	struct event_base *base;
	struct ctl *ctl;
	char folder[64], path[96];
	bool later, closing;
	struct ctl_request *held[HELD_MAX];
	unsigned n_held, answered;
} server;

static void
answer(struct ctl_request *r)
{
	if (r->stream) {
		json_t *events = json_array();
		int64_t next = server.closing ? INT64_MAX : 1;

		json_array_append_new(events, json_pack("{s:I}", "seq", (json_int_t)next));
		ctl_events(r, events);
	} else if (r->op == CTL_ROLLBACK) {
		ctl_error(r, 409, "refused", NULL, "no, %s", "never");
	} else {
		ctl_reply(r, 200, r->op == CTL_DEPLOY ? "/v1/deployments/d-1" : NULL,
			  json_pack("{s:i}", "op", (int)r->op));
	}
	server.answered++;
}

static void
take(struct ctl_request *r)
{
	INSIST(server.n_held < HELD_MAX, "%u requests at once", server.n_held);
	if (server.later)
		server.held[server.n_held++] = r;
	else
		answer(r);
}

static void
answer_held(void)
{
	while (server.n_held > 0)
		answer(server.held[--server.n_held]);
}

static void
on_request(void *arg, struct ctl_request *r, enum ctl_op op, const struct peer *peer,
	   const char *id, json_t *query, json_t *body)
{
	(void)arg;
	INSIST(op < _CTL_OP_MAX && op != CTL_EVENTS, "request %d", (int)op);
	INSIST(peer->uid == getuid() && peer->may_operate, "uid %u", (unsigned)peer->uid);
	INSIST((id != NULL) == (strstr(ctl_routes[op].path, "{id}") != NULL), "%s with %s",
	       ctl_routes[op].path, id ? id : "none");
	INSIST(json_is_object(query) && (!body || json_is_object(body)), "of %s",
	       ctl_routes[op].path);
	take(r);
}

static void
on_events(void *arg, struct ctl_request *r, int64_t after, const char *deployment, unsigned limit)
{
	(void)arg;
	(void)deployment;
	INSIST(after >= 0 && limit > 0, "after %lld, %u", (long long)after, limit);
	if (after >= 1 && !server.closing)
		ctl_events(r, json_array());
	else
		take(r);
}

static void
on_denied(void *arg, enum ctl_op op, const struct peer *peer)
{
	(void)arg;
	(void)peer;
	fuzz_fail("may_operate", "request %d was denied", (int)op);
}

static void
clean_up(void)
{
	ctl_free(server.ctl);
	event_base_free(server.base);
	rmdir(server.folder);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct ctl_ops ops = {on_request, on_events, on_denied};
	struct ctl_config cfg = {.fd = -1};
	char *error = NULL;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_EMERG);
	strcpy(server.folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/dhash-fuzz-XXXXXX"
							    : "/tmp/dhash-fuzz-XXXXXX");
	INSIST(mkdtemp(server.folder) != NULL, "no folder to work in: %m");
	snprintf(server.path, sizeof server.path, "%s/sock", server.folder);
	cfg.path = server.path;
	server.base = event_base_new();
	INSIST(ctl_new(server.base, &cfg, &ops, NULL, &server.ctl, &error) == 0, "%s", error);
	atexit(clean_up);
	return 0;
}

static void
turn(void)
{
	event_base_loop(server.base, EVLOOP_NONBLOCK);
	answer_held();
}

static int
dial(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	str_copy(addr.sun_path, sizeof addr.sun_path, server.path);
	INSIST(fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0, "%m");
	return fd;
}

/* Up to a reading of nothing; false at the end of the connection. */
static bool
read_answers(int fd, char *buf, size_t size, size_t *len)
{
	for (;;) {
		ssize_t n = recv(fd, buf + *len, size - 1 - *len, 0);

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		*len += (size_t)n;
		buf[*len] = '\0';
		if (*len == size - 1)
			*len = size / 2; /* only the head is looked at */
	}
}

/* Every head is one of ours: evhttp's own pages of HTML never come through. */
static void
check_answers(char *buf, size_t len)
{
	if (len == 0)
		return;
	INSIST(strncmp(buf, "HTTP/", 5) == 0, "answered %.60s", buf);
	INSIST(!strcasestr(buf, "\nContent-Type: text/html"), "answered %s", buf);
	INSIST(strncmp(buf + 8, " 100", 4) == 0 || strstr(buf, "Content-Type: application/json") ||
		       strstr(buf, "Content-Type: application/x-ndjson"),
	       "answered %s", buf);
}

static void
hang_up(void)
{
	unsigned turns = 0;

	server.closing = true;
	while (server.ctl->n_conns > 0) {
		INSIST(turns++ < TURNS, "%u connections are left", server.ctl->n_conns);
		ctl_wake(server.ctl);
		turn();
	}
	turn();
	server.closing = false;
	INSIST(server.n_held == 0 && server.ctl->n_new == 0, "%u, %u are left", server.n_held,
	       server.ctl->n_new);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char buf[1 << 17];
	struct feed f = {data, size};
	uint8_t flags = feed_byte(&f);
	size_t cut = feed_byte(&f) * 4u, len = 0;
	bool open = true;
	int fd = dial();

	server.later = flags & LATER;
	buf[0] = '\0';
	cut = MIN(cut, f.left);
	if (send(fd, f.p, cut, MSG_NOSIGNAL) == (ssize_t)cut) {
		turn();
		(void)!send(fd, f.p + cut, f.left - cut, MSG_NOSIGNAL);
	}
	turn();
	if (flags & LEAVE_OFF)
		shutdown(fd, SHUT_WR);
	for (int i = 0; i < 4 && open && !(flags & VANISH); i++) {
		turn();
		open = read_answers(fd, buf, sizeof buf, &len);
	}
	check_answers(buf, len);
	close(fd);
	hang_up();
	return 0;
}
