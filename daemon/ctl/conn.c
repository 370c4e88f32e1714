/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One connection: its state, its one deadline, and its end.  HTTP itself is libevent's evhttp,
 * which leaves much open that a client could abuse; it is closed here and in server.c, with its
 * public functions only:
 *
 * - Each connection has one deadline that goes with its state, so that a request which drips in, an
 *   answer which is not taken, and an idle peer all end:
 *
 *       NEW -> READING -> HANDLING -> ANSWERING -> IDLE -> READING ...     (conn_set_state())
 *                                 \-> STREAMING -/
 *
 * - evhttp answers what it does not understand with a page of HTML and closes.  Nothing is written
 *   before the next turn of the loop, so the page can be replaced by JSON in the output buffer.
 *
 * A struct conn lives from server.c's on_new_bufferevent() to on_closed().  Closing is never done
 * under the feet of a caller that may go on to use the connection: conn_drop() leaves it to
 * on_kick().
 */

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <sys/socket.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"

struct timeval
timeval_of_ms(unsigned ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

void
conn_free(struct conn *k)
{
	struct ctl *c = k->ctl;

	TAILQ_REMOVE(&c->conns, k, link);
	c->n_conns--;
	if (k->state == CONN_NEW)
		c->n_new--;
	event_free(k->deadline);
	event_free(k->kick);
	free(k);
}

static void
set_deadline(struct conn *k, unsigned ms)
{
	struct timeval tv = timeval_of_ms(ms);

	event_add(k->deadline, &tv);
}

void
conn_set_state(struct conn *k, enum conn_state state)
{
	const struct ctl_limits *l = &k->ctl->limits;
	struct timeval stall = timeval_of_ms(l->stall_ms);

	if (k->state == CONN_NEW && state != CONN_NEW)
		k->ctl->n_new--;
	k->state = state;
	switch (state) {
	case CONN_IDLE:
		set_deadline(k, l->idle_ms);
		break;
	case CONN_READING:
		set_deadline(k, l->request_ms);
		break;
	case CONN_ANSWERING:
		set_deadline(k, l->answer_ms);
		bufferevent_set_timeouts(k->bev, NULL, NULL);
		break;
	case CONN_STREAMING:
		event_del(k->deadline);
		bufferevent_set_timeouts(k->bev, NULL, &stall);
		break;
	case CONN_NEW:
	case CONN_HANDLING:
		event_del(k->deadline);
		break;
	}
}

void
conn_drop(struct conn *k)
{
	k->drop = true;
	event_active(k->kick, 0, 0);
}

size_t
conn_pending(const struct conn *k)
{
	return evbuffer_get_length(bufferevent_get_output(k->bev));
}

/* A whole answer with an error, for where evhttp gives no way to send one. */
static char *
raw_answer(int status, const char *kind, const char *message)
{
	json_t *json = error_json(kind, message, NULL);
	char *body = json_dumps(json, JSON_COMPACT), *text;

	text = xasprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%s"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
			 status,
			 status == 400   ? "Bad Request"
			 : status == 405 ? "Method Not Allowed"
			 : status == 408 ? "Request Timeout"
			 : status == 413 ? "Content Too Large"
			 : status == 503 ? "Service Unavailable"
					 : "Error",
			 status == 405 ? "Allow: GET, POST\r\n" : "", strlen(body) + 1, body);
	json_decref(json);
	free(body);
	return text;
}

/* Only while nothing else is being written.  What does not fit the socket's buffer is lost. */
void
conn_refuse(struct conn *k, int status, const char *kind, const char *message)
{
	char *text = raw_answer(status, kind, message);
	ssize_t n =
		send(bufferevent_getfd(k->bev), text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)n;
	free(text);
	evhttp_connection_free(k->evcon); /* frees k, in on_closed() */
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct conn *k = arg;
	char *message;

	if (k->state != CONN_READING) {
		evhttp_connection_free(k->evcon);
		return;
	}
	message = xasprintf("the request did not come in whole within %u ms",
			    k->ctl->limits.request_ms);
	conn_refuse(k, 408, "timeout", message);
	free(message);
}

/* What evhttp has said in HTML, in our words. */
static char *
translate(const struct ctl_limits *l, int status)
{
	char *message, *text;

	if (status == 501)
		return raw_answer(405, "method-not-allowed", "only GET and POST are understood");
	if (status == 413) {
		message =
			xasprintf("the body is larger than %zu bytes, or its chunks are malformed",
				  l->body_bytes);
		text = raw_answer(413, "too-large", message);
	} else if (status >= 500) {
		message = xstrdup("the HTTP library could not answer");
		text = raw_answer(503, "internal", message);
	} else {
		message = xasprintf("malformed HTTP request, or more than %zu bytes of headers",
				    l->headers_bytes);
		text = raw_answer(400, "bad-request", message);
	}
	free(message);
	return text;
}

static void
replace_page(struct conn *k)
{
	struct evbuffer *out = bufferevent_get_output(k->bev);
	char head[16] = "", *text;
	int status = 0;

	/* Once something has been written, the front is frozen against being looked at, too. */
	evbuffer_unfreeze(out, 1);
	if (evbuffer_copyout(out, head, sizeof head - 1) > 0 &&
	    sscanf(head, "HTTP/%*d.%*d %d", &status) == 1 && status != 100)
		evbuffer_drain(out, evbuffer_get_length(out));
	else
		status = 0; /* written already, or "100 Continue" */
	evbuffer_freeze(out, 1);
	if (status == 0)
		return;
	text = translate(&k->ctl->limits, status);
	conn_set_state(k, CONN_ANSWERING);
	evbuffer_add(out, text, strlen(text));
	free(text);
}

static void
on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct conn *k = arg;

	if (k->drop)
		evhttp_connection_free(k->evcon);
	else if (k->state == CONN_READING || k->state == CONN_IDLE)
		replace_page(k);
}

static void
on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *k = arg;

	if (info->n_added > 0 && k->state == CONN_IDLE)
		conn_set_state(k, CONN_READING);
}

/* Whoever writes without having set the state is evhttp itself. */
static void
on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *k = arg;

	if (info->n_added > 0 && (k->state == CONN_READING || k->state == CONN_IDLE))
		event_active(k->kick, 0, 0);
}

static void
on_closed(struct evhttp_connection *evcon, void *arg)
{
	struct conn *k = arg;

	evbuffer_remove_cb_entry(bufferevent_get_input(k->bev), k->on_input);
	evbuffer_remove_cb_entry(bufferevent_get_output(k->bev), k->on_output);
	if (k->request)
		request_client_left(k->request);
	conn_free(k);
}

struct conn *
conn_new(struct ctl *c, struct bufferevent *bev)
{
	struct conn *k = xcalloc(1, sizeof *k);

	k->ctl = c;
	k->bev = bev;
	k->state = CONN_NEW;
	k->deadline = event_new(c->base, -1, 0, on_deadline, k);
	k->kick = event_new(c->base, -1, 0, on_kick, k);
	if (!k->deadline || !k->kick)
		out_of_memory();
	TAILQ_INSERT_TAIL(&c->conns, k, link); /* the new ones are together */
	c->n_conns++;
	c->n_new++;
	return k;
}

void
conn_attach(struct conn *k, struct evhttp_connection *evcon)
{
	k->evcon = evcon;
	k->on_input = evbuffer_add_cb(bufferevent_get_input(k->bev), on_input, k);
	k->on_output = evbuffer_add_cb(bufferevent_get_output(k->bev), on_output, k);
	evhttp_connection_set_closecb(evcon, on_closed, k);
	conn_set_state(k, CONN_READING);
}
