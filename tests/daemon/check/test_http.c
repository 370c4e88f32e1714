/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP and TCP probes against real sockets that answer well, badly, slowly, without end, not at
 * all. */

#include "tests/daemon/check/http_kit.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/* --- the resolver, which libcurl asks on a thread of its own --- */

static atomic_bool resolver_awake;

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
	    struct addrinfo **ret)
{
	typeof(getaddrinfo) *real = (typeof(getaddrinfo) *)dlsym(RTLD_NEXT, "getaddrinfo");

	if (node && streq(node, "down.test"))
		return EAI_AGAIN;
	while (node && strstr(node, "blackhole") && !resolver_awake)
		usleep(10000);
	return node && strstr(node, "blackhole") ? EAI_AGAIN : real(node, service, hints, ret);
}

/* --- a kernel that has no watch left --- */

static atomic_bool no_watches;

int
epoll_ctl(int fd, int op, int on, struct epoll_event *e)
{
	typeof(epoll_ctl) *real = (typeof(epoll_ctl) *)dlsym(RTLD_NEXT, "epoll_ctl");

	if (!no_watches || op == EPOLL_CTL_DEL)
		return real(fd, op, on, e);
	errno = ENOSPC;
	return -1;
}

/* --- a machine that has no local port left --- */

static atomic_bool no_ports;

int
connect(int fd, const struct sockaddr *to, socklen_t len)
{
	typeof(connect) *real = (typeof(connect) *)dlsym(RTLD_NEXT, "connect");

	if (!no_ports)
		return real(fd, to, len);
	errno = EADDRNOTAVAIL;
	return -1;
}

START_TEST(every_status_is_an_answer)
{
	static const int statuses[] = {200, 299, 301, 404, 418, 500, 503, 599};

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		GET("/status/%d", statuses[i]);
		answered(statuses[i], "state: green\n");
	}
	GET("/status/204"); /* which has no body, whatever its server says */
	ck_assert_int_eq(got.a.status, 204);
	GET("/empty");
	answered(200, "");
}
END_TEST

START_TEST(the_body_is_kept_if_asked)
{
	begin((struct http_request){.keep_body = false}, "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_ptr_null(got.a.body);
	ck_assert_int_eq(got.a.status, 200);
	ck_assert_uint_eq(got.a.len, 13);
}
END_TEST

START_TEST(who_asks_says_so)
{
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	begin((struct http_request){.accept = "text/plain;version=0.0.4"}, "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nAccept: text/plain;version=0.0.4\r\n"));
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nUser-Agent: dhashd/"));
	/* A handle that is used again has nothing of its last request. */
	GET("/status/200");
	ck_assert_ptr_null(strstr(server->last, "text/plain"));
}
END_TEST

START_TEST(a_redirect_is_told_not_followed)
{
	GET("/redirect");
	answered(302, "");
	loop_turns(&loop, 3);
	ck_assert_uint_eq(server->requests, 1);
	GET("/redirect-ftp");
	answered(302, "");
}
END_TEST

/* The daemon's own credentials are no service's business. */
START_TEST(netrc_is_left_alone)
{
	char home[] = "/tmp/dhash-http-XXXXXX", file[64];
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(home));
	snprintf(file, sizeof file, "%s/.netrc", home);
	f = fopen(file, "we");
	fputs("machine 127.0.0.1 login me password secret\ndefault login me password s\n", f);
	fclose(f);
	setenv("HOME", home, 1);
	GET("/status/200");
	answered(200, "state: green\n");
	unlink(file);
	rmdir(home);
	ck_assert_ptr_null(strstr(server->last, "Authorization"));
}
END_TEST

/* Nobody takes the connection, nobody refuses it: the service's side, unlike a name's. */
START_TEST(a_connect_that_hangs_is_the_services)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fds[4], fd;
	unsigned port;

	fd = bound(&port);
	a.sin_port = htons((uint16_t)port);
	listen(fd, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&a, sizeof a);
	}
	GET_WITHIN(150, "http://127.0.0.1:%u/", port);
	refused("within 150ms");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(fd);
}
END_TEST

START_TEST(connections_are_kept)
{
	for (int i = 0; i < 20; i++)
		GET("/status/200");
	ck_assert_uint_eq(got.answered, 20);
	ck_assert_uint_eq(server->requests, 20);
	ck_assert_uint_eq(server->accepted, 1);
}
END_TEST

START_TEST(a_kept_connection_that_died_is_no_failure)
{
	for (int i = 0; i < 10; i++) {
		GET("/once");
		answered(200, "once\n");
	}
	ck_assert_uint_ge(server->accepted, 10);
}
END_TEST

START_TEST(limits_of_size_are_exact)
{
	begin((struct http_request){.keep_body = true, .max_bytes = 13}, "/status/200");
	loop_until(&loop, &got.n, 1);
	answered(200, "state: green\n");
	begin((struct http_request){.keep_body = true, .max_bytes = 12}, "/status/200");
	loop_until(&loop, &got.n, 2);
	refused("over 12 bytes");
}
END_TEST

START_TEST(what_has_no_end_is_ended)
{
	static const char *const bodies[] = {"/endless-chunks", "/endless-body",
					     "/endless-until-close"};
	static const char *const headers[] = {"/endless-headers", "/endless-header"};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		for (int keep = 0; keep < 2; keep++) {
			begin((struct http_request){.keep_body = keep}, "%s", bodies[i]);
			loop_until(&loop, &got.n, got.n + 1);
			refused("over 1048576 bytes");
		}
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		GET("%s", headers[i]);
		ck_assert_int_eq(got.a.failure, HTTP_REFUSED);
		ck_assert_msg(!strstr(got.why, "within"), "%s", got.why); /* by size, not by time */
	}
	loop_until_ended(&loop, server, server->accepted);
}
END_TEST

START_TEST(slow_answers_end_in_time)
{
	static const char *const paths[] = {"/silent", "/drip", "/drip-body", "/endless-continue"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		GET_WITHIN(150, "%s", paths[i]);
		refused("within 150ms");
		ck_assert_int_ge(got.a.took, 140 * USEC_PER_MSEC);
		ck_assert_int_lt(got.a.took, 2 * USEC_PER_SEC);
	}
	loop_until_ended(&loop, server, server->accepted);
	GET_WITHIN(2000, "/slow");
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	ck_assert_int_ge(got.a.took, 40 * USEC_PER_MSEC);
}
END_TEST

START_TEST(broken_answers_are_the_services_fault)
{
	static const char *const paths[] = {"/reset",     "/short",   "/short-chunk",
					    "/bad-chunk", "/garbage", "/half-header",
					    "/nothing"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		GET("%s", paths[i]);
		ck_assert_msg(got.a.failure == HTTP_REFUSED, "%s: %d", paths[i], got.a.failure);
		ck_assert_str_ne(got.why, "");
	}
	GET("/status/200"); /* and no harm is left */
	answered(200, "state: green\n");
}
END_TEST

START_TEST(nobody_there)
{
	unsigned port;
	int fd = bound(&port);

	GET("http://127.0.0.1:%u/", port);
	refused("Connection refused");
	begin((struct http_request){.connect_only = true}, "http://127.0.0.1:%u", port);
	loop_until(&loop, &got.n, 2);
	refused("Connection refused");
	close(fd);
}
END_TEST

START_TEST(tcp_connects_and_lets_go)
{
	for (int i = 0; i < 5; i++) {
		begin((struct http_request){.connect_only = true}, "");
		loop_until(&loop, &got.n, got.n + 1);
		ck_assert_msg(got.a.failure == HTTP_ANSWERED, "%s", got.why);
	}
	loop_until_ended(&loop, server, 5);
	ck_assert_uint_eq(server->accepted, 5);
	ck_assert_uint_eq(server->requests, 0);
}
END_TEST

START_TEST(a_failure_of_ours_is_not_the_services)
{
	static const char *const urls[] = {"ftp://127.0.0.1/", "file:///etc/passwd", "http://",
					   "http://down.test/"};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		GET("%s", urls[i]);
		ck_assert_msg(got.a.failure == HTTP_OBSERVER, "%s: %d", urls[i], got.a.failure);
		ck_assert_str_ne(got.why, "");
	}
	ck_assert_str_eq(got.why, "cannot resolve down.test");
}
END_TEST

/* libcurl would wait for its resolver's thread, and the loop with it. */
START_TEST(a_resolver_that_hangs_holds_nothing)
{
	GET_WITHIN(200, "http://blackhole.test/");
	ck_assert_msg(got.a.failure == HTTP_OBSERVER, "%s", got.why);
	ck_assert_str_eq(got.why, "cannot resolve blackhole.test within 200ms");
	http_cancel(begin((struct http_request){0}, "http://blackhole.test/"));
	begin((struct http_request){0}, "http://blackhole.test/");
	loop_turns(&loop, 3);
	resolver_awake = true;
	loop_until(&loop, &got.n, 2);
}
END_TEST

static unsigned
threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;
	struct dirent *e;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Each look-up that hangs has a thread, which outlives its check by as long as it likes. */
START_TEST(look_ups_that_hang_are_capped)
{
	enum { BATCH = 16, BATCHES = 5, CAP = 64 };
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;
	unsigned before, names = 0;

	resolver_awake = false;
	GET("/status/200");
	before = threads();
	for (unsigned i = 0; i < BATCHES; i++) {
		struct http_job *given_up[BATCH];
		unsigned n = got.n;

		for (unsigned k = 0; k < BATCH; k++) { /* half time out, half are cancelled */
			begin((struct http_request){.timeout_usec = 50 * USEC_PER_MSEC},
			      "http://%u.blackhole.test/", names++);
			given_up[k] =
				begin((struct http_request){.timeout_usec = 50 * USEC_PER_SEC},
				      "http://%u.blackhole.test/", names++);
		}
		loop_until(&loop, &got.n, n + BATCH);
		for (unsigned k = 0; k < BATCH && i < 2; k++)
			http_cancel(given_up[k]);
		if (i >= 2) /* refused at once */
			loop_until(&loop, &got.n, n + 2 * BATCH);
	}
	ck_assert_uint_eq(got.observer, 2 * BATCH + 2 * BATCH * (BATCHES - 2));
	ck_assert_uint_eq(threads(), before + CAP);
	GET_WITHIN(1000, "http://blackhole.test/");
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_str_eq(got.why, "cannot resolve blackhole.test: look-ups of names hang already");
	/* What needs no look-up goes on. */
	GET("/status/200");
	answered(200, "state: green\n");
	GET("http://localhost:%u/status/200", server->port);
	answered(200, "state: green\n");
	/* They end at last, and names are asked for again. */
	resolver_awake = true;
	while (threads() > before && now_boottime() < deadline)
		event_base_loop(loop.base, EVLOOP_ONCE);
	GET("http://down.test/");
	ck_assert_str_eq(got.why, "cannot resolve down.test");
}
END_TEST

/* A few names in a black hole must not use up what there is for all. */
START_TEST(a_name_that_hung_is_left_alone_for_a_while)
{
	unsigned before;

	resolver_awake = false;
	GET("/status/200");
	before = threads();
	for (int i = 0; i < 200; i++)
		GET_WITHIN(20, "http://%d.blackhole.test/", i % 2);
	ck_assert_uint_eq(got.observer, 200);
	ck_assert_uint_le(threads(), before + 2);
	GET("http://down.test/"); /* asked for, and answered */
	ck_assert_str_eq(got.why, "cannot resolve down.test");
	resolver_awake = true;
}
END_TEST

START_TEST(no_descriptor_left_is_our_own_failure)
{
	int next = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	struct rlimit old, none;

	close(next);
	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){(rlim_t)next, old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	GET("/status/200");
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_ptr_nonnull(strstr(got.why, "Too many open files"));
	GET("/status/200");
	answered(200, "state: green\n");
}
END_TEST

START_TEST(without_a_local_port_nobody_was_asked)
{
	no_ports = true;
	GET("/status/200");
	no_ports = false;
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_ptr_nonnull(strstr(got.why, "Cannot assign requested address"));
}
END_TEST

/* Told of it, libcurl would end its whole handle, and begin nothing again while a transfer is left.
 */
START_TEST(without_a_watch_left_sockets_are_polled)
{
	enum { N = 20 };

	no_watches = true;
	GET("/status/503");
	answered(503, "state: green\n");
	for (unsigned i = 0; i < N; i++)
		begin((struct http_request){0}, "/status/200");
	loop_until(&loop, &got.n, got.n + N);
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	begin((struct http_request){.timeout_usec = 50 * USEC_PER_SEC}, "/slow");
	no_watches = false;
	GET("/status/200");
	answered(200, "state: green\n");
}
END_TEST

/* Hooks and plugins get none of our connections. */
START_TEST(connections_are_closed_on_exec)
{
	struct sockaddr_in peer;
	unsigned seen = 0;

	GET("/status/200");
	for (int fd = 0; fd < 256; fd++) {
		socklen_t len = sizeof peer;

		if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
		    peer.sin_family != AF_INET || ntohs(peer.sin_port) != server->port)
			continue;
		seen++;
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	ck_assert_uint_eq(seen, 1);
}
END_TEST

START_TEST(a_hundred_at_once_hold_nothing)
{
	static const char *const paths[] = {"/slow", "/status/200", "/status/503", "/short",
					    "/drip"};

	for (int i = 0; i < 100; i++)
		begin((struct http_request){.timeout_usec = 700 * USEC_PER_MSEC}, "%s",
		      paths[i % 5]);
	loop_until(&loop, &got.n, 100);
	ck_assert_uint_eq(got.answered, 60);
	ck_assert_uint_eq(got.refused, 40);
	loop_turns(&loop, 2);
	ck_assert_uint_eq(got.n, 100);
}
END_TEST

/* Answers that came in time, while the loop was busy with something else. */
START_TEST(a_busy_loop_is_not_the_services_fault)
{
	for (int i = 0; i < 100; i++)
		begin((struct http_request){.timeout_usec = 300 * USEC_PER_MSEC}, "/slow");
	while (server->requests < 100)
		event_base_loop(loop.base, EVLOOP_ONCE);
	usleep(600 * 1000);
	loop_until(&loop, &got.n, 100);
	ck_assert_uint_eq(got.answered, 100);
	/* And who says nothing is not waited for without end. */
	begin((struct http_request){.timeout_usec = 300 * USEC_PER_MSEC}, "/silent");
	while (server->requests < 101)
		event_base_loop(loop.base, EVLOOP_ONCE);
	usleep(600 * 1000);
	loop_until(&loop, &got.n, 101);
	refused("within 300ms");
	ck_assert_int_lt(got.a.took, 5 * USEC_PER_SEC);
}
END_TEST

static unsigned
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Whatever it was doing, a cancelled job says nothing more and leaves nothing. */
START_TEST(cancelling)
{
	static const char *const paths[] = {"/silent", "/drip-body", "/slow", "/status/200",
					    "ftp://127.0.0.1/"};
	unsigned before;

	GET("/status/200");
	before = descriptors();
	for (unsigned turns = 0; turns < 4; turns++) {
		struct http_job *jobs[10];
		unsigned n;

		for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
			jobs[i] = begin((struct http_request){.keep_body = true}, "%s",
					paths[turns < 2 ? i % 5 : i % 2]);
		if (turns > 0)
			loop_turns(&loop, turns == 1 ? 0 : turns);
		n = got.n;
		for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
			http_cancel(jobs[i]);
		loop_turns(&loop, 7);
		ck_assert_uint_eq(got.n, n);
	}
	http_cancel(NULL);
	/* Connections of the cancelled are closed: at most the kept one, and their peers, are left.
	 */
	loop_until_ended(&loop, server, server->accepted - 1);
	ck_assert_uint_le(descriptors(), before + 2);
}
END_TEST

static struct http_job *pair[2];

static void
on_answer_cancel(void *arg, const struct http_answer *a)
{
	struct http_job **me = arg;

	http_cancel(*me); /* which is being told: no harm */
	http_cancel(pair[me == pair]);
	on_answer(arg, a);
}

/* Both may be over in the same turn. */
START_TEST(cancelling_another_from_an_answer)
{
	static const char *const paths[][2] = {{"ftp://127.0.0.1/", "ftp://127.0.0.1/"},
					       {"http://127.0.0.1:1/", "http://127.0.0.1:1/"},
					       {"/silent", "ftp://127.0.0.1/"},
					       {"/status/200", "/drip"}};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		for (int k = 0; k < 2; k++) {
			char *url = strstr(paths[i][k], "://")
					    ? xstrdup(paths[i][k])
					    : xasprintf("http://127.0.0.1:%u%s", server->port,
							paths[i][k]);
			struct http_request r = {
				.url = url, .timeout_usec = 5 * USEC_PER_SEC, .max_bytes = 99};

			pair[k] = http_start(pool, &r, on_answer_cancel, &pair[k]);
			free(url);
		}
		loop_until(&loop, &got.n, (unsigned)i + 1);
		loop_turns(&loop, 3);
		ck_assert_uint_eq(got.n, i + 1);
	}
}
END_TEST

START_TEST(freeing_the_pool_ends_what_runs)
{
	for (int i = 0; i < 10; i++)
		begin((struct http_request){.keep_body = true}, "%s",
		      i % 2 ? "/drip-body" : "ftp://127.0.0.1/");
	event_base_loop(loop.base, EVLOOP_NONBLOCK);
	http_pool_free(pool);
	pool = NULL;
	got.n = 0;
	loop_turns(&loop, 3);
	ck_assert_uint_eq(got.n, 0);
	loop_until_ended(&loop, server, server->accepted);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http");
	TCase *t = tcase_create("probes");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_status_is_an_answer);
	tcase_add_test(t, the_body_is_kept_if_asked);
	tcase_add_test(t, who_asks_says_so);
	tcase_add_test(t, a_redirect_is_told_not_followed);
	tcase_add_test(t, netrc_is_left_alone);
	tcase_add_test(t, a_connect_that_hangs_is_the_services);
	tcase_add_test(t, connections_are_kept);
	tcase_add_test(t, a_kept_connection_that_died_is_no_failure);
	tcase_add_test(t, limits_of_size_are_exact);
	tcase_add_test(t, what_has_no_end_is_ended);
	tcase_add_test(t, slow_answers_end_in_time);
	tcase_add_test(t, broken_answers_are_the_services_fault);
	tcase_add_test(t, nobody_there);
	tcase_add_test(t, tcp_connects_and_lets_go);
	tcase_add_test(t, a_failure_of_ours_is_not_the_services);
	tcase_add_test(t, a_resolver_that_hangs_holds_nothing);
	tcase_add_test(t, look_ups_that_hang_are_capped);
	tcase_add_test(t, a_name_that_hung_is_left_alone_for_a_while);
	tcase_add_test(t, no_descriptor_left_is_our_own_failure);
	tcase_add_test(t, without_a_local_port_nobody_was_asked);
	tcase_add_test(t, without_a_watch_left_sockets_are_polled);
	tcase_add_test(t, connections_are_closed_on_exec);
	tcase_add_test(t, a_hundred_at_once_hold_nothing);
	tcase_add_test(t, a_busy_loop_is_not_the_services_fault);
	tcase_add_test(t, cancelling);
	tcase_add_test(t, cancelling_another_from_an_answer);
	tcase_add_test(t, freeing_the_pool_ends_what_runs);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
