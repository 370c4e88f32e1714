/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One request: from what evhttp has read to a checked call of the handler, and back.  A request
 * outlives its connection when the client leaves first; the answer then goes nowhere.
 */

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"

json_t *
error_json(const char *kind, const char *message, json_t *detail)
{
	char *clean = str_escape(message); /* JSON holds UTF-8 only */
	json_t *json = json_pack("{s:{s:s, s:s, s:o?}}", "error", "kind", kind, "message", clean,
				 "detail", detail);

	free(clean);
	return json;
}

/* --- out ------------------------------------------------------------------------------------- */

void
request_free(struct ctl_request *r)
{
	if (r->conn)
		r->conn->request = NULL;
	stream_free(r->stream);
	free(r);
}

void
request_client_left(struct ctl_request *r)
{
	/* evhttp lets go of a request that the user has not done with, unless it frees the
	 * connection itself: then the request goes with it. */
	if (!evhttp_request_get_connection(r->req))
		evhttp_request_free(r->req);
	r->conn = NULL;
	r->req = NULL;
	if (r->stream && stream_client_left(r->stream))
		request_free(r);
}

void
on_sent(struct evhttp_request *req, void *arg)
{
	struct conn *k = arg;
	bool more = evbuffer_get_length(bufferevent_get_input(k->bev)) > 0;

	conn_set_state(k, more ? CONN_READING : CONN_IDLE);
}

static int
on_json_text(const char *data, size_t len, void *arg)
{
	return evbuffer_add(arg, data, len);
}

static void
answer(struct ctl_request *r, int status, const char *location, const char *allow, json_t *json)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r->req);
	struct evbuffer *body = evbuffer_new();
	struct conn *k = r->conn;

	if (!body)
		out_of_memory();
	json_dump_callback(json, on_json_text, body, JSON_COMPACT);
	evbuffer_add(body, "\n", 1);
	evhttp_add_header(headers, "Content-Type", "application/json");
	if (location)
		evhttp_add_header(headers, "Location", location);
	if (allow)
		evhttp_add_header(headers, "Allow", allow);
	if (r->close)
		evhttp_add_header(headers, "Connection", "close");
	conn_set_state(k, CONN_ANSWERING);
	evhttp_request_set_on_complete_cb(r->req, on_sent, k);
	evhttp_send_reply(r->req, status, NULL, body);
	/* evhttp reads on meanwhile, and takes a client that has shut down its side for gone. */
	bufferevent_disable(k->bev, EV_READ);
	evbuffer_free(body);
}

static void
finish(struct ctl_request *r, int status, const char *location, const char *allow, json_t *json)
{
	if (r->conn)
		answer(r, status, location, allow, json);
	json_decref(json);
	request_free(r);
}

void
ctl_reply(struct ctl_request *r, int status, const char *location, json_t *json)
{
	finish(r, status, location, NULL, json);
}

void
ctl_error(struct ctl_request *r, int status, const char *kind, json_t *detail, const char *fmt, ...)
{
	va_list ap;
	char *message;

	va_start(ap, fmt);
	message = xvasprintf(fmt, ap);
	va_end(ap);
	if (r->stream && stream_fail(r))
		json_decref(detail);
	else
		finish(r, status, NULL, NULL, error_json(kind, message, detail));
	free(message);
}

static void
refuse_input(struct ctl_request *r, struct bad_input *b)
{
	ctl_error(r, 400, "bad-request", b->detail, "%s", b->message);
	b->detail = NULL;
	bad_input_done(b);
}

/* --- in -------------------------------------------------------------------------------------- */

/* evhttp takes the first of two lengths and does not know codings other than "chunked"; another
 * reader might take the second, and both would see different requests. */
static const char *
framing_error(struct evhttp_request *req)
{
	unsigned lengths = 0, codings = 0;
	struct evkeyval *h;

	for (h = TAILQ_FIRST(evhttp_request_get_input_headers(req)); h; h = TAILQ_NEXT(h, next)) {
		lengths += evutil_ascii_strcasecmp(h->key, "Content-Length") == 0;
		if (evutil_ascii_strcasecmp(h->key, "Transfer-Encoding") != 0)
			continue;
		codings++;
		if (evutil_ascii_strcasecmp(h->value, "chunked") != 0)
			return "a Transfer-Encoding other than chunked";
	}
	return lengths > 1          ? "more than one Content-Length"
	       : codings > 1        ? "more than one Transfer-Encoding"
	       : lengths && codings ? "both Content-Length and Transfer-Encoding"
				    : NULL;
}

static void
refuse_path(struct ctl_request *r, const char *method, const char *path, int error,
	    const char *allow)
{
	const char *near;
	char *message;

	if (error == -EINVAL) {
		ctl_error(r, 400, "bad-request", NULL, "the id in the path is not valid");
		return;
	}
	if (error == -ENOENT) {
		near = route_nearest(path);
		ctl_error(r, 404, "not-found", json_pack("{s:s?}", "suggestion", near),
			  near ? "no such resource: %.100s; did you mean %s?"
			       : "no such resource: %.100s",
			  path, near);
		return;
	}
	message = xasprintf("%s does not go with %.100s; allowed: %s", method, path, allow);
	finish(r, 405, NULL, allow, error_json("method-not-allowed", message, NULL));
	free(message);
}

static bool
permitted(struct ctl_request *r, const struct ctl_route *route)
{
	const struct peer *p = &r->conn->peer;

	if (route->operate ? p->may_operate : p->may_read)
		return true;
	if (r->ctl->ops->denied)
		r->ctl->ops->denied(r->ctl->arg, r->op, p);
	ctl_error(r, 403, "denied", json_pack("{s:I}", "uid", (json_int_t)p->uid),
		  "user %u may not %s: that is for the %s group and root", (unsigned)p->uid,
		  route->operate ? "change anything" : "ask",
		  route->operate ? "operators'" : "readers'");
	return false;
}

static void
call_handler(struct ctl_request *r, char *id, json_t *query, json_t *body)
{
	struct peer peer = r->conn->peer; /* the answer may end the connection */

	if (r->op == CTL_EVENTS)
		stream_begin(r, query);
	else
		r->ctl->ops->request(r->ctl->arg, r, r->op, &peer, id, query, body);
}

static void
check_and_call(struct ctl_request *r, const struct ctl_route *route, char *id, const char *query)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(r->req);
	size_t len = evbuffer_get_length(input);
	const char *data = len ? (const char *)evbuffer_pullup(input, -1) : "";
	struct bad_input b = {0};
	json_t *params = NULL, *body = NULL;

	if (query_parse(query, route->query, &params, &b) < 0 ||
	    body_parse(data, len, route->body, &body, &b) < 0)
		refuse_input(r, &b);
	else
		call_handler(r, id, params, body);
	json_decref(params);
	json_decref(body);
}

static void
dispatch(struct ctl_request *r)
{
	const char *method = evhttp_request_get_command(r->req) == EVHTTP_REQ_GET ? "GET" : "POST";
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *allow = NULL;
	const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
	const char *framing = framing_error(r->req);
	char *id = NULL;
	int error;

	if (framing) {
		r->close = true;
		ctl_error(r, 400, "bad-request", NULL, "malformed request: %s", framing);
		return;
	}
	error = route_find(method, path ? path : "", &r->op, &id, &allow);
	if (error < 0)
		refuse_path(r, method, path ? path : "", error, allow);
	else if (permitted(r, &ctl_routes[r->op]))
		check_and_call(r, &ctl_routes[r->op], id, query);
	free(id);
}

void
request_arrived(struct conn *k, struct evhttp_request *req)
{
	struct ctl_request *r = xcalloc(1, sizeof *r);

	r->ctl = k->ctl;
	r->conn = k;
	r->req = req;
	k->request = r;
	conn_set_state(k, CONN_HANDLING);
	if (!k->judged) {
		peer_judge(&k->peer, &k->ctl->groups);
		k->judged = true;
	}
	dispatch(r);
}
