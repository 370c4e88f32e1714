/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of probes share: a loop, a server, a pool, and the last answer. */

#include "tests/daemon/check/server.h"

#include "daemon/check/http.h"

static struct loop loop;
static struct server *server;
static struct http_pool *pool;

/* The last answer, copied; and how many there were. */
static struct {
	unsigned n, answered, refused, observer;
	struct http_answer a;
	char body[1024], why[256];
} got;

static inline void
on_answer(void *arg, const struct http_answer *a)
{
	got.n++;
	got.answered += a->failure == HTTP_ANSWERED;
	got.refused += a->failure == HTTP_REFUSED;
	got.observer += a->failure == HTTP_OBSERVER;
	got.a = *a;
	str_copy(got.body, sizeof got.body, a->body ? a->body : "(none)");
	str_copy(got.why, sizeof got.why, a->why ? a->why : "");
	ck_assert_ptr_null(strpbrk(got.why, "\r\n"));
}

static inline void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	server = xcalloc(1, sizeof *server);
	server_start(server);
	loop_start(&loop);
	ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
	memset(&got, 0, sizeof got);
}

static inline void
tear_down(void)
{
	http_pool_free(pool);
	loop_stop(&loop);
	server_stop(server);
	free(server);
}

static inline struct http_job *
begin(struct http_request r, const char *fmt, ...)
{
	struct http_job *j;
	unsigned n = got.n;
	char path[256], url[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof path, fmt, ap);
	va_end(ap);
	if (strstr(path, "://"))
		snprintf(url, sizeof url, "%s", path);
	else
		snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", server->tls ? "https" : "http",
			 server->port, path);
	r.url = url;
	r.timeout_usec = r.timeout_usec ? r.timeout_usec : 5 * USEC_PER_SEC;
	r.max_bytes = r.max_bytes ? r.max_bytes : 1 << 20;
	j = http_start(pool, &r, on_answer, NULL);
	memset(url, 'x', sizeof url); /* nothing of the request is kept */
	ck_assert_uint_eq(got.n, n);  /* never from within */
	return j;
}

#define GET(...)                                                                                   \
	do {                                                                                       \
		begin((struct http_request){.keep_body = true}, __VA_ARGS__);                      \
		loop_until(&loop, &got.n, got.n + 1);                                              \
	} while (0)

#define GET_WITHIN(msec, ...)                                                                      \
	do {                                                                                       \
		begin((struct http_request){.timeout_usec = (msec)*USEC_PER_MSEC}, __VA_ARGS__);   \
		loop_until(&loop, &got.n, got.n + 1);                                              \
	} while (0)

static inline void
answered(long status, const char *body)
{
	ck_assert_msg(got.a.failure == HTTP_ANSWERED, "%s", got.why);
	ck_assert_int_eq(got.a.status, status);
	ck_assert_str_eq(got.body, body);
	ck_assert_uint_eq(got.a.len, strlen(body));
	ck_assert_int_ge(got.a.took, 0);
}

static inline void
refused(const char *part)
{
	ck_assert_msg(got.a.failure == HTTP_REFUSED, "%d: %s", got.a.failure, got.why);
	ck_assert_msg(strstr(got.why, part) != NULL, "\"%s\" lacks \"%s\"", got.why, part);
}
