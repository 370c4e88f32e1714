/* SPDX-License-Identifier: Apache-2.0 */

#include "client/conn.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/un.h>

#include "common/time-util.h"
#include "common/util.h"

enum {
	CONNECT_TIMEOUT_S = 5,
	BUSY_DELAY_MS = 10,
	EVENT_LINE_MAX = 1 << 20,
};

struct conn {
	CURL *easy; /* owned; kept between requests with its connection */
	char *path; /* owned */
};

/* Bytes as they come, up to ANSWER_MAX. */
struct buffer {
	char *data; /* owned */
	size_t begin, len, cap;
	bool overflow;
};

struct stream {
	CURLM *multi;
	CURL *easy;
	struct buffer in;
	bool ended;
	int error;
	long status;
};

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct buffer *b = arg;

	n *= size;
	if (b->begin > 0) {
		memmove(b->data, b->data + b->begin, b->len - b->begin);
		b->len -= b->begin;
		b->begin = 0;
	}
	if (n > ANSWER_MAX - b->len) {
		b->overflow = true;
		return 0;
	}
	if (b->len + n + 1 > b->cap) {
		b->cap = MAX(b->cap * 2, b->len + n + 1);
		b->data = xrealloc(b->data, b->cap);
	}
	memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
	return n;
}

static int
error_of(CURL *easy, CURLcode code, const struct buffer *b)
{
	long os = 0;

	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os);
		/* connect(2) said EAGAIN, for the backlog is full; libcurl takes that for "in
		 * progress", waits, and then has no error to tell.  It is not told as EAGAIN, which
		 * stream_next() needs for itself. */
		return os == 0 || os == EAGAIN ? -EBUSY : -(int)os;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		return -ECONNRESET;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return b->overflow ? -EFBIG : -EPROTO;
	}
}

/* What every request has.  URL's host is only there because HTTP wants one. */
static void
set_up(CURL *easy, const char *socket_path, const char *path, struct buffer *b)
{
	char *url = xasprintf("http://localhost%s", path);

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)CURL_MAX_READ_SIZE);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "dhash/" DHASH_VERSION);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, b);
	free(url); /* libcurl keeps a copy */
}

int
conn_new(const char *socket_path, struct conn **ret)
{
	struct conn *c;

	if (strlen(socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return -ENAMETOOLONG;
	/* No TLS over a Unix socket: its set-up would cost more than the whole request. */
	curl_global_init(CURL_GLOBAL_NOTHING);
	c = xcalloc(1, sizeof *c);
	c->path = xstrdup(socket_path);
	c->easy = curl_easy_init();
	if (!c->easy) {
		conn_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void
conn_free(struct conn *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->easy);
	free(c->path);
	free(c);
}

static struct curl_slist *
set_body(CURL *easy, const char *body)
{
	/* An empty Expect keeps libcurl from waiting for "100 Continue". */
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");

	headers = curl_slist_append(headers, "Content-Type: application/json");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body ? body : "");
	/* A request that changes something must not be sent twice, as happens by itself on a kept
	 * connection that the daemon closes at that moment. */
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	return headers;
}

/* A full backlog is gone in a moment, and nothing has been sent yet: so it is tried again. */
static int
perform(CURL *easy, const struct buffer *in)
{
	usec_t deadline = now_boottime() + CONNECT_TIMEOUT_S * USEC_PER_SEC;
	int r;

	do
		r = error_of(easy, curl_easy_perform(easy), in);
	while (r == -EBUSY && now_boottime() < deadline && poll(NULL, 0, BUSY_DELAY_MS) == 0);
	return r;
}

int
conn_request(struct conn *c, const char *method, const char *path, const char *body,
	     unsigned timeout_s, struct conn_answer *ret)
{
	struct curl_slist *headers = NULL;
	struct buffer in = {0};
	int r;

	curl_easy_reset(c->easy);
	set_up(c->easy, c->path, path, &in);
	curl_easy_setopt(c->easy, CURLOPT_TIMEOUT, (long)timeout_s);
	if (streq(method, "POST"))
		headers = set_body(c->easy, body);
	r = perform(c->easy, &in);
	curl_slist_free_all(headers);
	if (r < 0) {
		free(in.data);
		return r;
	}
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &ret->status);
	ret->body = in.data ? in.data : xstrdup("");
	ret->len = in.len;
	return 0;
}

/* --- streams --------------------------------------------------------------------------------- */

int
stream_open(struct conn *c, const char *path, struct stream **ret)
{
	struct stream *s = xcalloc(1, sizeof *s);

	s->multi = curl_multi_init();
	s->easy = curl_easy_init();
	if (!s->multi || !s->easy) {
		stream_free(s);
		return -ENOMEM;
	}
	set_up(s->easy, c->path, path, &s->in);
	curl_multi_add_handle(s->multi, s->easy);
	*ret = s;
	return 0;
}

void
stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->multi && s->easy)
		curl_multi_remove_handle(s->multi, s->easy);
	curl_easy_cleanup(s->easy);
	curl_multi_cleanup(s->multi);
	free(s->in.data);
	free(s);
}

static void
drive(struct stream *s)
{
	int running, left;
	CURLMsg *m;

	if (s->ended)
		return;
	curl_multi_perform(s->multi, &running);
	curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->status);
	while ((m = curl_multi_info_read(s->multi, &left)))
		if (m->msg == CURLMSG_DONE) {
			s->ended = true;
			s->error = error_of(s->easy, m->data.result, &s->in);
		}
}

static const char *
take_line(struct stream *s)
{
	struct buffer *b = &s->in;
	char *line, *end;

	if (s->status != 200 || b->len == b->begin)
		return NULL;
	line = b->data + b->begin;
	end = memchr(line, '\n', b->len - b->begin);
	if (!end)
		return NULL;
	*end = '\0';
	b->begin += (size_t)(end - line) + 1;
	return line;
}

int
stream_next(struct stream *s, int timeout_ms, int wake_fd, const char **ret_line)
{
	usec_t deadline = now_boottime() + timeout_ms * USEC_PER_MSEC;
	struct curl_waitfd wake = {.fd = wake_fd, .events = CURL_WAIT_POLLIN};

	for (;;) {
		usec_t now = now_boottime();
		const char *line;

		drive(s);
		line = take_line(s);
		if (line) {
			*ret_line = line;
			return 1;
		}
		if (s->ended)
			return s->error;
		if (s->in.len - s->in.begin > EVENT_LINE_MAX)
			return -EFBIG;
		if (now >= deadline || wake.revents)
			return -EAGAIN;
		/* It returns early for libcurl's own timers, and for half a line. */
		curl_multi_poll(s->multi, &wake, wake_fd >= 0,
				(int)((deadline - now) / USEC_PER_MSEC) + 1, NULL);
	}
}

long
stream_status(const struct stream *s)
{
	return s->status;
}

const char *
stream_body(const struct stream *s)
{
	return s->in.data ? s->in.data + s->in.begin : "";
}
