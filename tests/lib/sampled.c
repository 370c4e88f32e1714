/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sample service of the demo and the tests: a real HTTP server that serves one release, counts
 * what it serves, and misbehaves as it is told to, on its command line or (--control) while it
 * runs. Injected errors are spread evenly by an accumulator, so a ratio of 0.2 is every fifth
 * request, whatever the load.  It knows nothing of dhashd.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <sys/queue.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "common/time-util.h"
#include "common/util.h"

static const double bounds[] = {.05, .1, .25, .5, 1, 2.5, 5, 10, INFINITY};

struct sampled {
	struct event_base *base;
	char *tag; /* owned */
	bool control;
	/* behaviour */
	double errors;
	usec_t errors_after, latency, fail_health_after;
	bool health_down;
	/* what was served */
	usec_t started;
	double owed; /* errors due but not yet given, 0 … 1 */
	unsigned long ok, failed;
	unsigned long buckets[ARRAY_SIZE(bounds)];
	double seconds;
};

/* An answer that waits for its latency to pass. */
struct work {
	struct sampled *s;
	struct evhttp_request *req; /* evhttp's until answered */
	struct event *timer;        /* owned */
	usec_t began;
};

static void reply(struct evhttp_request *req, int status, const char *type, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void
reply(struct evhttp_request *req, int status, const char *type, const char *fmt, ...)
{
	struct evbuffer *body = evbuffer_new();
	va_list ap;

	va_start(ap, fmt);
	evbuffer_add_vprintf(body, fmt, ap);
	va_end(ap);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
	evhttp_send_reply(req, status, NULL, body);
	evbuffer_free(body);
}

static usec_t
uptime(const struct sampled *s)
{
	return now_boottime() - s->started;
}

static bool
next_fails(struct sampled *s)
{
	if (uptime(s) < s->errors_after)
		return false;
	s->owed += s->errors;
	if (s->owed < 1 - 1e-9)
		return false;
	s->owed -= 1;
	return true;
}

static void
count(struct sampled *s, bool failed, double seconds)
{
	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
		s->buckets[i] += seconds <= bounds[i];
	s->seconds += seconds;
	if (failed)
		s->failed++;
	else
		s->ok++;
}

static void
work_free(struct work *w)
{
	event_free(w->timer);
	free(w);
}

static void
on_work_closed(struct evhttp_connection *conn, void *arg)
{
	work_free(arg);
}

static void
work_finish(struct work *w)
{
	struct sampled *s = w->s;
	bool failed = next_fails(s);

	evhttp_connection_set_closecb(evhttp_request_get_connection(w->req), NULL, NULL);
	count(s, failed, (double)(now_boottime() - w->began) / USEC_PER_SEC);
	if (failed)
		reply(w->req, 500, "text/plain", "internal error\n");
	else
		reply(w->req, 200, "text/plain", "hello from %s\n", s->tag);
	work_free(w);
}

static void
on_work_due(evutil_socket_t fd, short what, void *arg)
{
	work_finish(arg);
}

static void
on_work(struct evhttp_request *req, void *arg)
{
	struct sampled *s = arg;
	struct work *w = xcalloc(1, sizeof *w);
	struct timeval delay = {s->latency / USEC_PER_SEC, s->latency % USEC_PER_SEC};

	*w = (struct work){.s = s, .req = req, .began = now_boottime()};
	w->timer = evtimer_new(s->base, on_work_due, w);
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_work_closed, w);
	if (s->latency > 0)
		evtimer_add(w->timer, &delay);
	else
		work_finish(w);
}

static void
on_health(struct evhttp_request *req, void *arg)
{
	struct sampled *s = arg;

	if (s->health_down || uptime(s) >= s->fail_health_after)
		reply(req, 503, "text/plain", "down\n");
	else
		reply(req, 200, "text/plain", "ok\n");
}

static void
on_version(struct evhttp_request *req, void *arg)
{
	struct sampled *s = arg;

	reply(req, 200, "text/plain", "%s\n", s->tag);
}

static void
add_histogram(const struct sampled *s, struct evbuffer *out)
{
	const char *name = "http_request_duration_seconds";

	evbuffer_add_printf(out, "# HELP %s Time to answer.\n# TYPE %s histogram\n", name, name);
	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
		if (isinf(bounds[i]))
			evbuffer_add_printf(out, "%s_bucket{le=\"+Inf\"}", name);
		else
			evbuffer_add_printf(out, "%s_bucket{le=\"%g\"}", name, bounds[i]);
		evbuffer_add_printf(out, " %lu\n", s->buckets[i]);
	}
	evbuffer_add_printf(out, "%s_sum %.6f\n%s_count %lu\n", name, s->seconds, name,
			    s->ok + s->failed);
}

/* Both codes are there from the first scrape on: a series that appears later has no difference. */
static void
on_metrics(struct evhttp_request *req, void *arg)
{
	struct sampled *s = arg;
	struct evbuffer *out = evbuffer_new();

	evbuffer_add_printf(out,
			    "# HELP http_requests_total Requests answered.\n"
			    "# TYPE http_requests_total counter\n"
			    "http_requests_total{code=\"200\"} %lu\n"
			    "http_requests_total{code=\"500\"} %lu\n",
			    s->ok, s->failed);
	add_histogram(s, out);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type",
			  "text/plain; version=0.0.4; charset=utf-8");
	evhttp_send_reply(req, 200, NULL, out);
	evbuffer_free(out);
}

static int
parse_ratio(const char *text, double *ret)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end || !(d >= 0 && d <= 1))
		return -EINVAL;
	*ret = d;
	return 0;
}

static int
parse_ms(const char *text, usec_t *ret)
{
	char *end;
	long ms = strtol(text, &end, 10);

	if (end == text || *end || ms < 0 || ms > 3600000)
		return -EINVAL;
	*ret = ms * USEC_PER_MSEC;
	return 0;
}

static int
control_apply(struct sampled *s, const char *key, const char *value)
{
	if (streq(key, "errors")) {
		s->errors_after = 0;
		return parse_ratio(value, &s->errors);
	}
	if (streq(key, "latency"))
		return parse_ms(value, &s->latency);
	if (streq(key, "tag")) {
		free(s->tag);
		s->tag = xstrdup(value);
		return 0;
	}
	if (!streq(key, "health") || !(streq(value, "up") || streq(value, "down")))
		return -EINVAL;
	s->health_down = streq(value, "down");
	s->fail_health_after = USEC_INFINITY;
	return 0;
}

static void
on_control(struct evhttp_request *req, void *arg)
{
	const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
	struct evkeyvalq query;
	struct evkeyval *kv;
	int r = 0;

	if (evhttp_parse_query_str(text ? text : "", &query) < 0) {
		reply(req, 400, "text/plain", "cannot read the query\n");
		return;
	}
	TAILQ_FOREACH(kv, &query, next)
	if (r == 0)
		r = control_apply(arg, kv->key, kv->value);
	evhttp_clear_headers(&query);
	if (r < 0)
		reply(req, 400, "text/plain",
		      "errors=RATIO, latency=MS, health=up|down or tag=T\n");
	else
		reply(req, 200, "text/plain", "ok\n");
}

static void
on_stop(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static unsigned
bound_port(evutil_socket_t fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;

	return getsockname(fd, (struct sockaddr *)&a, &n) < 0 ? 0 : ntohs(a.sin_port);
}

static int
port_write(const char *file, unsigned port)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%u\n", port);

	return file ? file_write_atomic(file, text, (size_t)n, 0644) : 0;
}

static int
serve(struct sampled *s, unsigned port, const char *port_file)
{
	struct evhttp *http = evhttp_new(s->base);
	struct evhttp_bound_socket *bound =
		evhttp_bind_socket_with_handle(http, "127.0.0.1", (ev_uint16_t)port);
	struct event *term = evsignal_new(s->base, SIGTERM, on_stop, s->base);
	struct event *intr = evsignal_new(s->base, SIGINT, on_stop, s->base);
	int r = bound ? 0 : -errno;

	evsignal_add(term, NULL);
	evsignal_add(intr, NULL);
	evhttp_set_cb(http, "/health", on_health, s);
	evhttp_set_cb(http, "/version", on_version, s);
	evhttp_set_cb(http, "/metrics", on_metrics, s);
	if (s->control)
		evhttp_set_cb(http, "/control", on_control, s);
	evhttp_set_gencb(http, on_work, s);
	if (r == 0)
		r = port_write(port_file, bound_port(evhttp_bound_socket_get_fd(bound)));
	if (r == 0)
		event_base_dispatch(s->base);
	evhttp_free(http);
	event_free(term);
	event_free(intr);
	return r;
}

/* A port that nobody listens on now, for scripts that must name one before they start a server. */
static int
print_free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		perror("sampled: cannot find a free port");
		return EXIT_FAILURE;
	}
	printf("%u\n", bound_port(fd));
	close(fd);
	return EXIT_SUCCESS;
}

static int
usage(void)
{
	fputs("usage: sampled --port P --tag T [--errors RATIO] [--errors-after SPAN] [--latency "
	      "MS]\n"
	      "               [--fail-health-after SPAN] [--port-file FILE] [--control]\n"
	      "       sampled --free-port\n",
	      stderr);
	return 2;
}

struct options {
	unsigned port;
	const char *port_file;
	bool free_port;
};

static int
option_apply(struct sampled *s, struct options *o, int c)
{
	switch (c) {
	case 'p':
		o->port = (unsigned)strtoul(optarg, NULL, 10);
		return 0;
	case 't':
		free(s->tag);
		s->tag = xstrdup(optarg);
		return 0;
	case 'e':
		return parse_ratio(optarg, &s->errors);
	case 'a':
		return usec_parse(optarg, &s->errors_after);
	case 'l':
		return parse_ms(optarg, &s->latency);
	case 'h':
		return usec_parse(optarg, &s->fail_health_after);
	case 'f':
		o->port_file = optarg;
		return 0;
	case 'c':
		s->control = true;
		return 0;
	case 'F':
		o->free_port = true;
		return 0;
	default:
		return -EINVAL;
	}
}

static int
options_parse(int argc, char **argv, struct sampled *s, struct options *ret)
{
	static const struct option longs[] = {
		{"port", required_argument, NULL, 'p'},
		{"tag", required_argument, NULL, 't'},
		{"errors", required_argument, NULL, 'e'},
		{"errors-after", required_argument, NULL, 'a'},
		{"latency", required_argument, NULL, 'l'},
		{"fail-health-after", required_argument, NULL, 'h'},
		{"port-file", required_argument, NULL, 'f'},
		{"control", no_argument, NULL, 'c'},
		{"free-port", no_argument, NULL, 'F'},
		{0},
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		r = option_apply(s, ret, c);
	return r < 0 || optind != argc || (!s->tag && !ret->free_port) ? -EINVAL : 0;
}

int
main(int argc, char **argv)
{
	struct sampled s = {.fail_health_after = USEC_INFINITY, .started = now_boottime()};
	struct options o = {0};
	int r;

	if (options_parse(argc, argv, &s, &o) < 0)
		return usage();
	if (o.free_port)
		return print_free_port();
	signal(SIGPIPE, SIG_IGN);
	s.base = event_base_new();
	r = serve(&s, o.port, o.port_file);
	event_base_free(s.base);
	free(s.tag);
	if (r < 0)
		fprintf(stderr, "sampled: cannot serve on 127.0.0.1:%u: %s\n", o.port,
			strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
