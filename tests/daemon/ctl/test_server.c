/* SPDX-License-Identifier: Apache-2.0 */

/* Requests, well-formed and hostile, against the real server. */

#include "tests/daemon/ctl/fixture.h"

#include <curl/curl.h>
#include <malloc.h>

static struct fixture f;

static void
set_up(void)
{
	start(&f, NULL, NULL);
}

static void
tear_down(void)
{
	stop(&f);
}

static void
post_text(const char *path, const char *body, struct answer *a)
{
	post_once(&f, path, body, strlen(body), a);
}

/* --- what is right --------------------------------------------------------------------------- */

START_TEST(kept_connection)
{
	struct answer a;
	int fd = dial(&f);

	for (int i = 0; i < 3; i++) {
		put(fd, "GET /v1/status?service=a%20b&environment=x+y HTTP/1.1\r\nHost: x\r\n\r\n");
		ck_assert(get_answer(fd, &a));
		ck_assert_int_eq(a.status, 200);
		ck_assert(has_header(&a, "Content-Type: application/json\n"));
		ck_assert_ptr_nonnull(strstr(a.body, "\"service\":\"a b\""));
		ck_assert_ptr_nonnull(strstr(a.body, "\"environment\":\"x+y\""));
	}
	ck_assert_uint_eq(connections(&f), 1);
	close(fd);
	wait_connections(&f, 0);
}
END_TEST

START_TEST(id_body_location)
{
	static const char abort_text[] = "POST /v1/deployments/deploy-1/abort HTTP/1.1\r\n"
					 "Content-Length: 14\r\n\r\n{\"reason\":\"r\"}";
	struct answer a;

	ask_once(&f, abort_text, &a);
	ck_assert_int_eq(a.status, 200);
	ck_assert_ptr_nonnull(strstr(a.body, "\"id\":\"deploy-1\""));
	ck_assert_ptr_nonnull(strstr(a.body, "\"reason\":\"r\""));
	/* Without a body the handler is told so. */
	ask_once(&f, "POST /v1/deployments/d/abort HTTP/1.1\r\n\r\n", &a);
	ck_assert_ptr_nonnull(strstr(a.body, "\"body\":null"));
	post_text("/v1/deployments", "{\"environment\":\"e\",\"tag\":\"t\",\"dry_run\":true}", &a);
	ck_assert_int_eq(a.status, 202);
	ck_assert(has_header(&a, "Location: /v1/deployments/d-1\n"));
	post_text("/v1/rollbacks", "{\"environment\":\"e\"}", &a);
	expect_error(&a, 409, "refused", "no, never");
	ck_assert_ptr_nonnull(strstr(a.body, "\"detail\":{\"n\":1}"));
}
END_TEST

START_TEST(chunked_body)
{
	struct answer a;

	ask_once(&f,
		 "POST /v1/deployments/d/abort HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "7\r\n{\"reaso\r\n7\r\nn\":\"r\"}\r\n0\r\n\r\n",
		 &a);
	ck_assert_int_eq(a.status, 200);
	ck_assert_ptr_nonnull(strstr(a.body, "\"reason\":\"r\""));
}
END_TEST

START_TEST(expect_continue)
{
	struct answer a;
	int fd = dial(&f);

	put(fd, "POST /v1/deployments/d/abort HTTP/1.1\r\nContent-Length: 2\r\nExpect: "
		"100-continue\r\n\r\n");
	ck_assert(get_head(fd, &a));
	ck_assert_int_eq(a.status, 100);
	put(fd, "{}");
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	close(fd);
	ask_once(&f,
		 "POST /v1/deployments/d/abort HTTP/1.1\r\nContent-Length: 2\r\nExpect: "
		 "magic\r\n\r\n{}",
		 &a);
	expect_error(&a, 400, "bad-request", "malformed");
}
END_TEST

START_TEST(half_closed_client)
{
	struct answer a;
	size_t n = 0;
	char block[4096];
	ssize_t got;
	int fd = dial(&f);

	put(fd, "GET /v1/version HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	ck_assert(at_end(fd));
	close(fd);
	/* An answer that takes many writes. */
	f.status_bytes = 2 << 20;
	fd = dial(&f);
	put(fd, "GET /v1/status HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	ck_assert(get_head(fd, &a));
	while ((got = recv(fd, block, sizeof block, 0)) > 0)
		n += (size_t)got;
	ck_assert_int_eq(got, 0);
	ck_assert_uint_gt(n, 2 << 20);
	close(fd);
}
END_TEST

START_TEST(http_1_0)
{
	struct answer a;
	int fd = dial(&f);

	put(fd, "GET /v1/version HTTP/1.0\r\n\r\n");
	ck_assert(get_head(fd, &a));
	ck_assert_int_eq(a.status, 200);
	ck_assert(get_line(fd, a.body, sizeof a.body));
	ck_assert(at_end(fd));
	close(fd);
}
END_TEST

START_TEST(libcurl)
{
	CURL *curl = curl_easy_init();
	FILE *out = tmpfile();
	char *type = NULL;
	long status = 0;

	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, f.path);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
	curl_easy_setopt(curl, CURLOPT_URL, "http://localhost/v1/version");
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
	ck_assert_int_eq(status, 200);
	ck_assert_str_eq(type, "application/json");
	ck_assert_uint_eq(connections(&f), 1);
	curl_easy_setopt(curl, CURLOPT_URL, "http://localhost/v1/deployments");
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "{\"environment\":\"e\",\"tag\":\"t\"}");
	ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	ck_assert_int_eq(status, 202);
	curl_easy_cleanup(curl);
	fclose(out);
}
END_TEST

/* --- what is wrong --------------------------------------------------------------------------- */

static const struct {
	const char *text;
	int status;
	const char *kind, *words;
} refused[] = {
	{"GET /v1/nothing HTTP/1.1\r\n\r\n", 404, "not-found", "no such resource"},
	{"GET /v1/deployment HTTP/1.1\r\n\r\n", 404, "not-found", "did you mean /v1/deployments?"},
	{"GET / HTTP/1.1\r\n\r\n", 404, "not-found", ""},
	{"GET /v1/version/ HTTP/1.1\r\n\r\n", 404, "not-found", ""},
	{"GET /v1/deployments/ HTTP/1.1\r\n\r\n", 404, "not-found", ""},
	{"GET /v1/deployments/a/b HTTP/1.1\r\n\r\n", 404, "not-found", ""},
	{"GET /v1/deployments/%00 HTTP/1.1\r\n\r\n", 400, "bad-request", "id"},
	{"GET /v1/deployments/a%0ab HTTP/1.1\r\n\r\n", 400, "bad-request", "id"},
	{"POST /v1/version HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405, "method-not-allowed",
	 "GET"},
	{"GET /v1/rollbacks HTTP/1.1\r\n\r\n", 405, "method-not-allowed", "POST"},
	{"PUT /v1/deployments HTTP/1.1\r\n\r\n", 405, "method-not-allowed", "GET and POST"},
	{"HEAD /v1/version HTTP/1.1\r\n\r\n", 405, "method-not-allowed", "GET and POST"},
	{"BREW /v1/version HTTP/1.1\r\n\r\n", 405, "method-not-allowed", "GET and POST"},
	{"nonsense nonsense nonsense\r\n\r\n", 400, "bad-request", "malformed"},
	{"GET /v1/version HTTP/9.9\r\n\r\n", 400, "bad-request", "malformed"},
	{"GET /v1/version HTTP/1.1\r\nno colon\r\n\r\n", 400, "bad-request", "malformed"},
	{"GET /v1/version?a=1 HTTP/1.1\r\n\r\n", 400, "bad-request", "unknown parameter \"a\""},
	{"GET /v1/status?enviroment=x HTTP/1.1\r\n\r\n", 400, "bad-request",
	 "did you mean \"environment\"?"},
	{"GET /v1/status?service=a&service=b HTTP/1.1\r\n\r\n", 400, "bad-request", "twice"},
	{"GET /v1/status?service= HTTP/1.1\r\n\r\n", 400, "bad-request", "empty"},
	{"GET /v1/status?service=%zz HTTP/1.1\r\n\r\n", 400, "bad-request", "escape"},
	{"GET /v1/status?service=%ff HTTP/1.1\r\n\r\n", 400, "bad-request", "UTF-8"},
	{"GET /v1/deployments?limit=-1 HTTP/1.1\r\n\r\n", 400, "bad-request", "number"},
	{"GET /v1/deployments?limit=99999999999999999999 HTTP/1.1\r\n\r\n", 400, "bad-request",
	 "number"},
	{"GET /v1/events?follow=yes HTTP/1.1\r\n\r\n", 400, "bad-request", "0 or 1"},
	{"GET /v1/events?limit=0 HTTP/1.1\r\n\r\n", 400, "bad-request", "limit"},
	{"POST /v1/deployments HTTP/1.1\r\n\r\n", 400, "bad-request", "\"environment\" is missing"},
	{"GET /v1/version HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400, "bad-request", "no body"},
	{"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400,
	 "bad-request", "more than one Content-Length"},
	{"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400,
	 "bad-request", "more than one Content-Length"},
	{"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "2\r\n{}\r\n0\r\n\r\n",
	 400, "bad-request", "malformed"},
	{"POST /v1/rollbacks HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "bad-request",
	 "other than chunked"},
	{"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, "bad-request", ""},
	{"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413,
	 "too-large", ""},
	{"POST /v1/rollbacks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 413,
	 "too-large", "malformed"},
	{"POST /v1/rollbacks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413,
	 "too-large", "65536"},
};

START_TEST(refused_request)
{
	struct answer a;
	int fd = dial(&f);

	put(fd, refused[_i].text);
	if (strstr(refused[_i].text, "99999999999999999999999"))
		shutdown(fd, SHUT_WR); /* nobody can send so much */
	if (!get_answer(fd, &a)) {
		ck_assert_msg(strstr(refused[_i].text, "99999999999999999999999") != NULL, "%s",
			      refused[_i].text);
		close(fd);
		still_alive(&f);
		return;
	}
	ck_assert_msg(has_header(&a, "Content-Type: application/json\n"), "%s", a.head);
	expect_error(&a, refused[_i].status, refused[_i].kind, refused[_i].words);
	if (a.status == 405)
		ck_assert(has_header(&a, "Allow: "));
	close(fd);
	ck_assert_uint_eq(f.requests, 0);
	still_alive(&f);
}
END_TEST

static const struct {
	const char *body, *words;
} refused_bodies[] = {
	{"{\"environment\":\"e\",\"tag\":\"t\",\"suprsede\":true}", "did you mean \"supersede\"?"},
	{"{\"environment\":\"e\",\"tag\":\"t\",\"tag\":\"u\"}", "duplicate"},
	{"{\"environment\":\"e\",\"tag\":1}", "must be a string"},
	{"{\"environment\":\"e\",\"tag\":null}", "must be a string"},
	{"{\"environment\":\"e\",\"tag\":\"\"}", "is empty"},
	{"{\"environment\":\"e\",\"tag\":\"t\",\"force\":\"yes\"}", "must be true or false"},
	{"{\"environment\":\"e\"}", "\"tag\" is missing"},
	{"[]", "must be a JSON object"},
	{"{\"environment\":\"e\",\"tag\":\"\xff\"}", "at byte"},
	{"{\"environment\":\"e\",\"tag\":\"\\u0000\"}", "at byte"},
	{"{\"environment\":\"e\",\"tag\":1e999999}", "at byte"},
	{"{\"environment\":\"e\",\"tag\":\"t\"}x", "at byte"},
	{"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", "nested too deeply, at byte 20"},
};

START_TEST(refused_body)
{
	struct answer a;

	post_text("/v1/deployments", refused_bodies[_i].body, &a);
	expect_error(&a, 400, "bad-request", refused_bodies[_i].words);
	ck_assert_uint_eq(f.requests, 0);
}
END_TEST

START_TEST(nul_and_truncated_bodies)
{
	static const char whole[] =
		"{\"environment\":\"\\u00e9\xc3\xa9\",\"tag\":\"t\",\"force\":true}";
	struct answer a;

	post_once(&f, "/v1/deployments", "{\"tag\":\"a\0b\"}", 13, &a);
	expect_error(&a, 400, "bad-request", "NUL byte, at byte 9");
	for (size_t n = 1; n < sizeof whole - 1; n++) {
		post_once(&f, "/v1/deployments", whole, n, &a);
		ck_assert_msg(a.status == 400, "%zu bytes: %s", n, a.body);
		ck_assert_ptr_nonnull(strstr(a.body, "\"position\":"));
	}
	post_once(&f, "/v1/deployments", whole, sizeof whole - 1, &a);
	ck_assert_int_eq(a.status, 202);
}
END_TEST

START_TEST(body_of_exactly_the_limit)
{
	char *body = xmalloc((64 << 10) + 1);
	struct answer a;

	memset(body, ' ', (64 << 10) + 1);
	memcpy(body, "{}", 2);
	post_once(&f, "/v1/deployments/d/abort", body, 64 << 10, &a);
	ck_assert_int_eq(a.status, 200);
	post_once(&f, "/v1/deployments/d/abort", body, (64 << 10) + 1, &a);
	expect_error(&a, 413, "too-large", "65536");
	free(body);
}
END_TEST

static size_t
heap_in_use(void)
{
	return mallinfo2().uordblks;
}

/* Pours in what never ends: the server answers, closes, and does not keep it. */
static void
flood(const char *begin, const char *more, int status, const char *kind)
{
	size_t before = heap_in_use(), sent = 0;
	struct answer a;
	int fd = dial(&f);

	put(fd, begin);
	while (sent < 100 << 20 && put(fd, more))
		sent += strlen(more);
	ck_assert_msg(get_answer(fd, &a), "closed without a word after %zu bytes", sent);
	expect_error(&a, status, kind, "");
	close(fd);
	wait_connections(&f, 0);
	ck_assert_uint_lt(heap_in_use(), before + (1 << 20));
	still_alive(&f);
}

START_TEST(endless_headers)
{
	char line[8192];

	memset(line, 'x', sizeof line);
	memcpy(line, "X-Long: ", 8);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	flood("GET /v1/version HTTP/1.1\r\n", line, 400, "bad-request");
	flood("GET /v1/version HTTP/1.1\r\nX: ", "no end of line in sight", 400, "bad-request");
	flood("GET /", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 400, "bad-request");
}
END_TEST

START_TEST(oversize_body)
{
	char block[4096];

	memset(block, 'x', sizeof block - 1);
	block[sizeof block - 1] = '\0';
	flood("POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 104853504\r\n\r\n", block, 413,
	      "too-large");
}
END_TEST

/* Most clients read only when all is sent: the answer must be there for them, too. */
START_TEST(oversize_body_sent_to_its_end)
{
	char block[4096];
	struct answer a;
	int fd = dial(&f);

	memset(block, 'x', sizeof block);
	put(fd, "POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n");
	for (int i = 0; i < 1024; i++)
		ck_assert_msg(put_bytes(fd, block, sizeof block), "cut off at %d KiB", 4 * i);
	ck_assert(get_answer(fd, &a));
	expect_error(&a, 413, "too-large", "65536");
	close(fd);
}
END_TEST

START_TEST(endless_chunks)
{
	flood("POST /v1/rollbacks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
	      "10\r\n0123456789abcdef\r\n10\r\n0123456789abcdef\r\n", 413, "too-large");
}
END_TEST

/* --- who leaves ------------------------------------------------------------------------------ */

START_TEST(pipelined)
{
	static const char one[] = "GET /v1/version HTTP/1.1\r\n\r\n";
	struct answer a;
	int fd = dial(&f);

	for (int i = 0; i < 20; i++)
		put(fd, one);
	for (int i = 0; i < 20; i++) {
		ck_assert(get_answer(fd, &a));
		ck_assert_int_eq(a.status, 200);
	}
	close(fd);
	for (int round = 0; round < 20; round++) {
		fd = dial(&f);
		for (int i = 0; i < 100; i++)
			put(fd, one);
		close(fd);
	}
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

/* Of the library's own page, too, where an answer was written to the connection before. */
START_TEST(nonsense_behind_a_request)
{
	struct answer a;
	int fd = dial(&f);

	put(fd, "GET /v1/version HTTP/1.1\r\n\r\nNONSENSE\r\n\r\n");
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	ck_assert(get_answer(fd, &a));
	ck_assert_msg(has_header(&a, "Content-Type: application/json\n"), "%s", a.head);
	expect_error(&a, 400, "bad-request", "malformed HTTP");
	ck_assert(at_end(fd));
	close(fd);
}
END_TEST

static void
do_release(struct fixture *fx, void *arg)
{
	if (!fx->held)
		return;
	ctl_reply(fx->held, 200, NULL, json_pack("{s:b}", "late", 1));
	fx->held = NULL;
	*(bool *)arg = true;
}

static void
release(void)
{
	usec_t until = now_boottime() + PATIENCE_MS * USEC_PER_MSEC;
	bool released = false;

	for (; !released; usleep(1000)) {
		ck_assert(now_boottime() < until);
		on_server(&f, do_release, &released);
	}
}

START_TEST(answer_comes_late)
{
	struct answer a;
	int fd = dial(&f);

	put(fd, "GET /v1/explain HTTP/1.1\r\n\r\n");
	release();
	ck_assert(get_answer(fd, &a));
	ck_assert_ptr_nonnull(strstr(a.body, "late"));
	/* Leaves before the answer: it is given all the same, and goes nowhere. */
	put(fd, "GET /v1/explain HTTP/1.1\r\n\r\n");
	close(fd);
	release();
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

/* Whoever leaves first leaves nothing behind. */
START_TEST(leaving_costs_nothing)
{
	size_t before = 0;

	for (int i = 0; i < 600; i++) {
		int fd = dial(&f);

		put(fd, "GET /v1/explain HTTP/1.1\r\n\r\n");
		close(fd);
		release();
		wait_connections(&f, 0);
		if (i == 100)
			before = heap_in_use();
	}
	ck_assert_uint_lt(heap_in_use(), before + (32 << 10));
}
END_TEST

static void
do_wait_held(struct fixture *fx, void *arg)
{
	*(struct ctl_request **)arg = fx->held;
}

START_TEST(answer_after_the_server_ended)
{
	struct ctl_request *held = NULL;
	int fd = dial(&f);

	put(fd, "GET /v1/explain HTTP/1.1\r\n\r\n");
	while (!held)
		on_server(&f, do_wait_held, &held);
	stop(&f);
	ck_assert(at_end(fd));
	close(fd);
	ctl_error(held, 503, "internal", NULL, "the daemon stops");
	start(&f, NULL, NULL); /* for tear_down() */
}
END_TEST

/* A client that has bound its own end to a path of any length. */
START_TEST(bound_client)
{
	static const size_t lengths[] = {0, 20, 40, 107};
	struct sockaddr_un addr = {.sun_family = AF_UNIX}, server = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = lengths[_i];
	struct answer a;

	ck_assert_int_eq(chdir(f.dir), 0);
	memset(addr.sun_path, 'p', n);
	str_copy(server.sun_path, sizeof server.sun_path, f.path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
			 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&server, sizeof server), 0);
	put(fd, "GET /v1/version HTTP/1.1\r\n\r\n");
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	close(fd);
	if (n > 0)
		ck_assert_int_eq(unlink(addr.sun_path), 0);
}
END_TEST

static void
fill(TCase *t)
{
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, kept_connection);
	tcase_add_test(t, id_body_location);
	tcase_add_test(t, chunked_body);
	tcase_add_test(t, expect_continue);
	tcase_add_test(t, half_closed_client);
	tcase_add_test(t, http_1_0);
	tcase_add_test(t, libcurl);
	tcase_add_loop_test(t, refused_request, 0, (int)ARRAY_SIZE(refused));
	tcase_add_loop_test(t, refused_body, 0, (int)ARRAY_SIZE(refused_bodies));
	tcase_add_test(t, nul_and_truncated_bodies);
	tcase_add_test(t, body_of_exactly_the_limit);
	tcase_add_test(t, endless_headers);
	tcase_add_test(t, oversize_body);
	tcase_add_test(t, oversize_body_sent_to_its_end);
	tcase_add_test(t, endless_chunks);
	tcase_add_test(t, pipelined);
	tcase_add_test(t, nonsense_behind_a_request);
	tcase_add_test(t, answer_comes_late);
	tcase_add_test(t, leaving_costs_nothing);
	tcase_add_test(t, answer_after_the_server_ended);
	tcase_add_loop_test(t, bound_client, 0, 4);
}

int
main(void)
{
	return run_suite("server", fill);
}
