/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small load generator: so many requests a second, whether or not the earlier ones were answered
 * (open loop), over kept connections, as users would.  A server that goes away costs failed
 * requests, never the generator.  Prints a line a second and the totals at the end.  At most
 * CONNECTIONS_MAX requests are under way; what is due beyond that is counted as dropped.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "common/time-util.h"
#include "common/util.h"

enum { CONNECTIONS_MAX = 64, TICK_MS = 10, TIMEOUT_S = 5, RATE_MAX = 10000 };

struct totals {
	unsigned long sent, ok, errors, failed, dropped;
};

struct loadgen;

struct connection {
	struct loadgen *g;
	struct evhttp_connection *http; /* owned; NULL = not yet needed */
	bool busy;
};

struct loadgen {
	struct event_base *base;
	struct evhttp_uri *uri;
	char *target; /* path and query */
	double rate;
	usec_t duration, began;
	unsigned long due; /* requests whose time has come */
	struct totals total, shown;
	struct connection connections[CONNECTIONS_MAX];
	bool once;
	int status; /* of the last answer; 0 = none */
};

static void
print_body(struct evhttp_request *req)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	size_t n = evbuffer_get_length(in);

	fwrite(evbuffer_pullup(in, -1), 1, n, stdout);
}

static void
on_answer(struct evhttp_request *req, void *arg)
{
	struct connection *c = arg;
	struct loadgen *g = c->g;
	int status = req ? evhttp_request_get_response_code(req) : 0;

	c->busy = false;
	g->status = status;
	if (status >= 200 && status < 400)
		g->total.ok++;
	else if (status)
		g->total.errors++;
	else
		g->total.failed++;
	if (!g->once)
		return;
	if (status)
		print_body(req);
	event_base_loopbreak(g->base);
}

static int
uri_port(const struct evhttp_uri *uri)
{
	int port = evhttp_uri_get_port(uri);

	return port > 0 ? port : 80;
}

static struct connection *
connection_idle(struct loadgen *g)
{
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (!g->connections[i].busy)
			return &g->connections[i];
	return NULL;
}

static void
connection_open(struct connection *c)
{
	struct loadgen *g = c->g;

	c->http = evhttp_connection_base_new(g->base, NULL, evhttp_uri_get_host(g->uri),
					     (ev_uint16_t)uri_port(g->uri));
	evhttp_connection_set_timeout(c->http, TIMEOUT_S);
}

static void
request_send(struct loadgen *g)
{
	struct connection *c = connection_idle(g);
	struct evhttp_request *req;

	if (!c) {
		g->total.dropped++;
		return;
	}
	if (!c->http)
		connection_open(c);
	req = evhttp_request_new(on_answer, c);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Host",
			  evhttp_uri_get_host(g->uri));
	c->busy = true;
	g->total.sent++;
	/* On failure the request is gone, and its callback does not come. */
	if (evhttp_make_request(c->http, req, EVHTTP_REQ_GET, g->target) < 0) {
		c->busy = false;
		g->total.failed++;
	}
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct loadgen *g = arg;
	usec_t elapsed = now_boottime() - g->began;
	unsigned long due = (unsigned long)((double)elapsed / USEC_PER_SEC * g->rate);

	if (elapsed >= g->duration) {
		event_base_loopbreak(g->base);
		return;
	}
	for (; g->due < due; g->due++)
		request_send(g);
}

static void
totals_print(const char *head, const struct totals *t)
{
	printf("%s sent=%lu ok=%lu errors=%lu failed=%lu dropped=%lu\n", head, t->sent, t->ok,
	       t->errors, t->failed, t->dropped);
	fflush(stdout);
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct loadgen *g = arg;
	struct totals t = {
		.sent = g->total.sent - g->shown.sent,
		.ok = g->total.ok - g->shown.ok,
		.errors = g->total.errors - g->shown.errors,
		.failed = g->total.failed - g->shown.failed,
		.dropped = g->total.dropped - g->shown.dropped,
	};

	g->shown = g->total;
	totals_print("second", &t);
}

static void
on_stop(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static void
run(struct loadgen *g)
{
	static const struct timeval tick = {0, TICK_MS * 1000}, second = {1, 0};
	struct event *events[] = {
		event_new(g->base, -1, EV_PERSIST, on_tick, g),
		event_new(g->base, -1, EV_PERSIST, on_second, g),
		evsignal_new(g->base, SIGTERM, on_stop, g->base),
		evsignal_new(g->base, SIGINT, on_stop, g->base),
	};

	event_add(events[0], &tick);
	event_add(events[1], &second);
	event_add(events[2], NULL);
	event_add(events[3], NULL);
	event_base_dispatch(g->base);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		event_free(events[i]);
	totals_print("total", &g->total);
}

static int
run_once(struct loadgen *g)
{
	request_send(g);
	if (g->total.failed == 0)
		event_base_dispatch(g->base);
	return g->status >= 200 && g->status < 400 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int
usage(void)
{
	fputs("usage: loadgen --url U --rate R --duration SPAN    so many requests a second\n"
	      "       loadgen --url U --once                      one request; prints the body\n",
	      stderr);
	return 2;
}

static int
options_parse(int argc, char **argv, struct loadgen *g)
{
	static const struct option longs[] = {
		{"url", required_argument, NULL, 'u'},
		{"rate", required_argument, NULL, 'r'},
		{"duration", required_argument, NULL, 'd'},
		{"once", no_argument, NULL, '1'},
		{0},
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'u')
			g->uri = evhttp_uri_parse(optarg);
		else if (c == 'r')
			g->rate = strtod(optarg, NULL);
		else if (c == 'd')
			r = usec_parse(optarg, &g->duration);
		else if (c == '1')
			g->once = true;
		else
			r = -EINVAL;
	}
	if (r < 0 || optind != argc || !g->uri || !evhttp_uri_get_host(g->uri))
		return -EINVAL;
	return g->once || (g->rate > 0 && g->rate <= RATE_MAX && g->duration > 0) ? 0 : -EINVAL;
}

static char *
uri_target(const struct evhttp_uri *uri)
{
	const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri);

	return xasprintf("%s%s%s", path && *path ? path : "/", query ? "?" : "",
			 query ? query : "");
}

static void
loadgen_done(struct loadgen *g)
{
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (g->connections[i].http)
			evhttp_connection_free(g->connections[i].http);
	evhttp_uri_free(g->uri);
	event_base_free(g->base);
	free(g->target);
}

int
main(int argc, char **argv)
{
	struct loadgen g = {0};
	int r = EXIT_SUCCESS;

	if (options_parse(argc, argv, &g) < 0)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	g.base = event_base_new();
	g.target = uri_target(g.uri);
	g.began = now_boottime();
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		g.connections[i].g = &g;
	if (g.once)
		r = run_once(&g);
	else
		run(&g);
	loadgen_done(&g);
	return r;
}
