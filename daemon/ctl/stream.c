/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The event stream: NDJSON, from a sequence number on.  A stream asks for one batch at a time:
 *
 *     behind  a batch was full, so there is more: the next is asked for when its reader has taken
 *             this one.  A long history costs no memory, however slow the reader.
 *     live    the reader has all there is: ctl_wake() asks for what is new, and what he does not
 *             take piles up, to a limit.  Then he is disconnected, never skipped: he comes back
 * with the number of the last event that he has.
 *
 * Whoever takes nothing at all is closed by the write timeout of CONN_STREAMING.
 */

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <errno.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/ctl/internal.h"

struct stream {
	int64_t after;
	int64_t left;     /* events until it ends, INT64_MAX = no end */
	char *deployment; /* owned, or NULL */
	bool follow;
	bool begun; /* the head of the answer is out */
	bool asked; /* ops->events has been called and not answered */
	bool woken; /* meanwhile there is something new */
	bool behind;
	unsigned batch;          /* of the last asking */
	struct event *heartbeat; /* owned */
};

static const char heartbeat_line[] = "{\"heartbeat\":true}\n";

void
stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->heartbeat)
		event_free(s->heartbeat);
	free(s->deployment);
	free(s);
}

bool
stream_client_left(struct stream *s)
{
	if (s->heartbeat)
		event_free(s->heartbeat);
	s->heartbeat = NULL;
	return !s->asked;
}

static void
ask(struct ctl_request *r)
{
	struct stream *s = r->stream;
	unsigned batch = r->ctl->limits.batch;

	s->batch = s->left < (int64_t)batch ? (unsigned)s->left : batch;
	s->asked = true;
	s->woken = s->behind = false;
	r->ctl->ops->events(r->ctl->arg, r, s->after, s->deployment, s->batch);
}

void
stream_wake(struct ctl_request *r)
{
	struct stream *s = r->stream;

	if (s->asked)
		s->woken = true;
	else if (!s->behind)
		ask(r);
}

/* The reader has taken everything that was written. */
static void
on_taken(struct evhttp_connection *evcon, void *arg)
{
	struct conn *k = arg;
	struct ctl_request *r = k->request;

	if (r && r->stream && r->stream->behind && !r->stream->asked)
		ask(r);
}

/* evhttp reads whenever it writes, and takes a client that has shut down its side for gone.  For
 * who follows that is right: his leaving is noticed at once. */
static void
write_out(struct ctl_request *r, struct evbuffer *lines)
{
	if (evbuffer_get_length(lines) > 0)
		evhttp_send_reply_chunk_with_cb(r->req, lines, on_taken, r->conn);
	if (!r->stream->follow)
		bufferevent_disable(r->conn->bev, EV_READ);
}

static void
on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct ctl_request *r = arg;
	struct evbuffer *line;

	if (!r->conn || conn_pending(r->conn) > 0)
		return; /* he has something to read as it is */
	line = evbuffer_new();
	if (!line)
		return;
	evbuffer_add(line, heartbeat_line, sizeof heartbeat_line - 1);
	write_out(r, line);
	evbuffer_free(line);
}

/* The head of the answer. */
static void
begin(struct ctl_request *r)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r->req);
	struct timeval tv = timeval_of_ms(r->ctl->limits.heartbeat_ms);
	struct stream *s = r->stream;

	s->begun = true;
	conn_set_state(r->conn, CONN_STREAMING);
	evhttp_add_header(headers, "Content-Type", "application/x-ndjson");
	evhttp_send_reply_start(r->req, 200, "OK");
	if (!s->follow)
		return;
	s->heartbeat = event_new(r->ctl->base, -1, EV_PERSIST, on_heartbeat, r);
	if (s->heartbeat)
		event_add(s->heartbeat, &tv);
}

static void
end(struct ctl_request *r)
{
	struct evhttp_request *req = r->req;
	struct bufferevent *bev = r->conn->bev;
	void *evcon = NULL;

	conn_set_state(r->conn, CONN_ANSWERING);
	evhttp_request_set_on_complete_cb(req, on_sent, r->conn);
	request_free(r);
	bufferevent_incref(bev);
	evhttp_send_reply_end(req); /* closes the connection at once for an HTTP/1.0 client */
	bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
	if (evcon)
		bufferevent_disable(bev, EV_READ);
	bufferevent_decref(bev);
}

/* The lines of the events, and the number of the last; -EPROTO if one has no number that goes on.
 */
static int
format_lines(json_t *events, struct evbuffer *lines, int64_t *after)
{
	int64_t last = *after;
	json_t *event;
	size_t i;

	json_array_foreach(events, i, event)
	{
		json_t *seq = json_object_get(event, "seq");
		char *text = json_dumps(event, JSON_COMPACT);

		if (!text || !json_is_integer(seq) || json_integer_value(seq) <= last) {
			free(text);
			return -EPROTO;
		}
		last = json_integer_value(seq);
		evbuffer_add(lines, text, strlen(text));
		evbuffer_add(lines, "\n", 1);
		free(text);
	}
	*after = last;
	return 0;
}

/* What comes next, after a batch of n. */
static void
go_on(struct ctl_request *r, size_t n)
{
	struct stream *s = r->stream;

	if (s->left < INT64_MAX)
		s->left -= (int64_t)n;
	if (s->left <= 0 || (n < s->batch && !s->follow))
		end(r);
	else if (conn_pending(r->conn) > r->ctl->limits.pending_bytes)
		conn_drop(r->conn);
	else if (n >= s->batch)
		s->behind = true;
	else if (s->woken)
		ask(r);
}

void
ctl_events(struct ctl_request *r, json_t *events)
{
	struct stream *s = r->stream;
	struct evbuffer *lines = evbuffer_new();
	size_t n = json_array_size(events);
	int error;

	s->asked = false;
	if (!r->conn) {
		request_free(r);
	} else if (!lines || (error = format_lines(events, lines, &s->after)) < 0) {
		log_mistake(
			"control socket: events without numbers that go on; the stream is closed");
		ctl_error(r, 500, "internal", NULL, "the events are not in order");
	} else {
		if (!s->begun)
			begin(r);
		write_out(r, lines);
		go_on(r, n);
	}
	if (lines)
		evbuffer_free(lines);
	json_decref(events);
}

bool
stream_fail(struct ctl_request *r)
{
	struct stream *s = r->stream;

	s->asked = false;
	if (!r->conn || !s->begun)
		return false;
	/* There is no way to say it in the middle of an answer; the client asks again and is told.
	 */
	conn_drop(r->conn);
	return true;
}

static int64_t
integer(json_t *query, const char *name, int64_t otherwise)
{
	const char *value = json_string_value(json_object_get(query, name));

	return value ? strtoll(value, NULL, 10) : otherwise;
}

void
stream_begin(struct ctl_request *r, json_t *query)
{
	const char *deployment = json_string_value(json_object_get(query, "deployment"));
	struct stream *s = xcalloc(1, sizeof *s);

	r->stream = s;
	s->after = integer(query, "after", 0);
	s->follow = integer(query, "follow", 0) == 1;
	s->left = integer(query, "limit", INT64_MAX);
	s->deployment = deployment ? xstrdup(deployment) : NULL;
	if (s->left == 0)
		ctl_error(r, 400, "bad-request", NULL, "parameter \"limit\" must be 1 or more");
	else
		ask(r);
}
