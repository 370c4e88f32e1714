/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The server: accepting, the caps on connections, and the life of it all.
 *
 * evhttp hands out a connection only with its first whole request.  It is wanted at once, for the
 * caps; so its bufferevent is made here (on_new_bufferevent), and looked at later in the same turn
 * of the loop (on_accepted), when evhttp has made itself the argument of its callbacks.
 */

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/time-util.h"
#include "common/util.h"
#include "daemon/ctl/internal.h"

enum {
	ACCEPTS_PER_TURN =
		16, /* so that a storm of connects does not keep the loop from other work */
	INPUT_SLACK = 32 << 10, /* for headers and chunk sizes, beside a whole body */
};

static const struct timeval far_away = {.tv_sec = 24 * 3600};

static const struct ctl_limits default_limits = {
	.connections = 512,
	.connections_per_uid = 64,
	.headers_bytes = 16 << 10,
	.body_bytes = 64 << 10,
	.pending_bytes = 256 << 10,
	.batch = 128,
	.request_ms = 10000,
	.answer_ms = 30000,
	.idle_ms = 60000,
	.stall_ms = 30000,
	.heartbeat_ms = 15000,
	.accept_pause_ms = 1000,
};

/* --- accepting ------------------------------------------------------------------------------- */

static struct bufferevent *
on_new_bufferevent(struct event_base *base, void *arg)
{
	struct ctl *c = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);

	if (!bev)
		return NULL; /* evhttp makes its own, or fails */
	conn_new(c, bev);
	bufferevent_incref(bev);
	/* evhttp itself has no limit on what a client may send while it is being answered. */
	bufferevent_setwatermark(bev, EV_READ, 0, c->limits.body_bytes + INPUT_SLACK);
	if (c->n_new >= ACCEPTS_PER_TURN)
		evconnlistener_disable(c->listener);
	event_active(c->accepted, 0, 0);
	return bev;
}

/* At most one record a minute: a storm of connects must not become a storm of records. */
static void
complain(struct ctl *c, const char *what)
{
	usec_t now = now_boottime();

	if (c->complained_usec && now - c->complained_usec < USEC_PER_MINUTE)
		return;
	c->complained_usec = now;
	log_event(LOG_KIND_CONTROL_SOCKET, LOG_WARNING, NULL,
		  "control socket: %s (%u connections open); further ones of the next minute are "
		  "not logged",
		  what, c->n_conns);
}

static unsigned
count_uid(const struct ctl *c, uid_t uid)
{
	const struct conn *k;
	unsigned n = 0;

	for (k = TAILQ_FIRST(&c->conns); k; k = TAILQ_NEXT(k, link))
		n += k->state != CONN_NEW && k->peer.uid == uid;
	return n;
}

static void
admit(struct conn *k, struct evhttp_connection *evcon)
{
	struct ctl *c = k->ctl;
	bool one_too_many;

	if (peer_identify(bufferevent_getfd(k->bev), &k->peer) < 0) {
		conn_attach(k, evcon);
		evhttp_connection_free(evcon);
		return;
	}
	one_too_many = count_uid(c, k->peer.uid) >= c->limits.connections_per_uid;
	conn_attach(k, evcon);
	if (!one_too_many && c->n_conns - c->n_new <= c->limits.connections)
		return;
	complain(c, one_too_many ? "a user has too many connections" : "too many connections");
	conn_refuse(k, 503, "overloaded",
		    one_too_many ? "this user has too many connections open"
				 : "too many connections are open");
}

static void
accept_pause(struct ctl *c)
{
	struct timeval pause = timeval_of_ms(c->limits.accept_pause_ms);

	c->paused = true;
	event_add(c->resume, &pause);
}

/* Where the system has no watch left for the listening socket, it is tried again. */
static void
accept_again(struct ctl *c)
{
	c->paused = false;
	if (evconnlistener_enable(c->listener) == 0)
		return;
	complain(c, "cannot watch for connections: too little memory, or too many watches");
	accept_pause(c);
}

/* Right after the accepting, and before anything can have been read. */
static void
on_accepted(evutil_socket_t fd, short what, void *arg)
{
	struct ctl *c = arg;
	struct conn *k = TAILQ_LAST(&c->conns, conn_list), *next;

	for (unsigned i = 1; i < c->n_new; i++)
		k = TAILQ_PREV(k, conn_list, link);
	for (; k && k->state == CONN_NEW; k = next) {
		struct bufferevent *bev = k->bev;
		void *evcon = NULL;

		next = TAILQ_NEXT(k, link);
		bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
		if (evcon)
			admit(k, evcon);
		else
			conn_free(k); /* evhttp has given it up */
		bufferevent_decref(bev);
	}
	if (!c->paused)
		accept_again(c);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct ctl *c = arg;

	event_add(c->resume, &far_away);
	if (c->paused)
		accept_again(c);
}

struct wanted {
	const struct evconnlistener *listener;
	struct ctl *found;
};

static int
find_by_listener(const struct event_base *base, const struct event *e, void *arg)
{
	struct wanted *w = arg;
	struct ctl *c;

	if (event_get_callback(e) != on_resume)
		return 0;
	c = event_get_callback_arg(e);
	if (c->listener != w->listener)
		return 0;
	w->found = c;
	return 1;
}

/* Out of descriptors or memory: the connection stays in the backlog, and accept() would fail again
 * at once and for ever.  Wait until something has been freed.
 *
 * The argument is evhttp's, for libevent keeps one for both callbacks of a listener; so our own is
 * found by its event, which is pending always (far_away). */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct wanted w = {.listener = listener};
	char *why = xasprintf("cannot accept connections: %s", strerror(errno));

	event_base_foreach_event(evconnlistener_get_base(listener), find_by_listener, &w);
	if (w.found) {
		complain(w.found, why);
		evconnlistener_disable(listener);
		accept_pause(w.found);
	}
	free(why);
}

/* --- requests -------------------------------------------------------------------------------- */

static void
on_request(struct evhttp_request *req, void *arg)
{
	struct ctl *c = arg;
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct conn *k;

	/* Most often it is the newest. */
	for (k = TAILQ_LAST(&c->conns, conn_list); k && k->evcon != evcon;)
		k = TAILQ_PREV(k, conn_list, link);
	if (k)
		request_arrived(k, req);
	else /* its bufferevent could not be made by us */
		evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct ctl *c = arg;
	struct conn *k, *next;

	for (k = TAILQ_FIRST(&c->conns); k; k = next) {
		next = TAILQ_NEXT(k, link); /* a stream that ends may take k with it */
		if (k->state == CONN_STREAMING && k->request)
			stream_wake(k->request);
	}
}

void
ctl_wake(struct ctl *c)
{
	if (c)
		event_active(c->wake, 0, 0);
}

/* --- life ------------------------------------------------------------------------------------ */

void
ctl_set_limits(struct ctl *c, const struct ctl_limits *l)
{
	c->limits = *l;
	evhttp_set_max_headers_size(c->http, (ev_ssize_t)l->headers_bytes);
	evhttp_set_max_body_size(c->http, (ev_ssize_t)l->body_bytes);
}

const struct ctl_limits *
ctl_get_limits(const struct ctl *c)
{
	return &c->limits;
}

/* Takes fd, also on failure. */
static int
listen_on(struct ctl *c, int fd)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE;

	if (evutil_make_socket_nonblocking(fd) == 0)
		c->listener = evconnlistener_new(c->base, NULL, NULL, flags, 0, fd);
	if (!c->listener) {
		close(fd);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(c->listener, on_accept_error);
	if (!evhttp_bind_listener(c->http, c->listener)) {
		evconnlistener_free(c->listener);
		c->listener = NULL;
		return -ENOMEM;
	}
	/* evhttp has tried, and does not say how it went. */
	return evconnlistener_enable(c->listener) == 0 ? 0 : -errno;
}

static int
set_up_http(struct ctl *c)
{
	c->http = evhttp_new(c->base);
	c->accepted = event_new(c->base, -1, 0, on_accepted, c);
	c->resume = event_new(c->base, -1, 0, on_resume, c);
	c->wake = event_new(c->base, -1, 0, on_wake, c);
	if (!c->http || !c->accepted || !c->resume || !c->wake)
		return -ENOMEM;
	event_add(c->resume, &far_away);
	ctl_set_limits(c, &default_limits);
	/* Others get evhttp's 501, which becomes our 405. */
	evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_default_content_type(c->http, "application/json");
	/* Without it a client that is still sending never gets to read the 413. */
	evhttp_set_flags(c->http, EVHTTP_SERVER_LINGERING_CLOSE);
	evhttp_set_bevcb(c->http, on_new_bufferevent, c);
	evhttp_set_gencb(c->http, on_request, c);
	return 0;
}

int
ctl_new(struct event_base *base, const struct ctl_config *cfg, const struct ctl_ops *ops, void *arg,
	struct ctl **ret, char **ret_error)
{
	struct ctl *c = xcalloc(1, sizeof *c);
	int fd = cfg->fd, r;

	c->base = base;
	c->ops = ops;
	c->arg = arg;
	c->socket.lock_fd = -1;
	TAILQ_INIT(&c->conns);
	peer_groups_init(&c->groups, cfg->read_group, cfg->operate_group);
	r = fd >= 0 ? listen_socket_check(fd, ret_error)
		    : listen_socket_open(&c->socket, cfg->path, cfg->read_group, &fd, ret_error);
	if (r == 0) {
		r = set_up_http(c);
		if (r == 0)
			r = listen_on(c, fd);
		else
			close(fd);
		if (r < 0)
			*ret_error = xasprintf("cannot serve the control socket: %s", strerror(-r));
	}
	if (r < 0) {
		ctl_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void
free_event(struct event *e)
{
	if (e)
		event_free(e);
}

void
ctl_free(struct ctl *c)
{
	if (!c)
		return;
	/* First the name, so that the next daemon's socket cannot be taken for ours. */
	listen_socket_close(&c->socket);
	if (c->http)
		evhttp_free(c->http);     /* closes all connections, and the listener */
	while (!TAILQ_EMPTY(&c->conns)) { /* accepted in this very turn */
		struct conn *k = TAILQ_FIRST(&c->conns);

		bufferevent_decref(k->bev);
		conn_free(k);
	}
	free_event(c->accepted);
	free_event(c->resume);
	free_event(c->wake);
	free(c);
}
