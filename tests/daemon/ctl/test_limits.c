/* SPDX-License-Identifier: Apache-2.0 */

/* What one client, or many, may take: time, connections, descriptors. */

#include "tests/daemon/ctl/fixture.h"

#include <dlfcn.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

static struct fixture f;
static struct ctl_limits limits; /* the defaults, to be changed by a test */

static const char version[] = "GET /v1/version HTTP/1.1\r\n\r\n";

static void
set_up(void)
{
	start(&f, NULL, NULL);
	limits = *ctl_get_limits(f.ctl);
}

static void
tear_down(void)
{
	stop(&f);
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

START_TEST(defaults)
{
	ck_assert_uint_eq(limits.request_ms, 10000);
	ck_assert_uint_eq(limits.headers_bytes, 16 << 10);
	ck_assert_uint_eq(limits.body_bytes, 64 << 10);
	ck_assert_uint_eq(limits.pending_bytes, 256 << 10);
	ck_assert_uint_eq(limits.heartbeat_ms, 15000);
	ck_assert_uint_eq(limits.accept_pause_ms, 1000);
	ck_assert_uint_eq(limits.connections_per_uid, 64);
	ck_assert_uint_eq(limits.connections, 512);
}
END_TEST

/* The list of the page, made of the defaults. */
START_TEST(manual_has_the_limits)
{
	char *page, *list;
	size_t len;

	list = xasprintf(
		".It request line and headers\n%zu bytes\n"
		".It body\n%zu bytes, nested at most 16 deep\n"
		".It time for a request to arrive\n%u seconds in all, from connecting or its "
		"first byte to its last\n"
		".It time to take an answer\n%u seconds in all\n"
		".It idle connection\n%u seconds\n"
		".It connections of one user\n%u\n"
		".It connections of all users\n%u\n"
		".It pending events of a stream\n%zu bytes\n"
		".It stream that takes nothing\n%u seconds\n"
		".El\n",
		limits.headers_bytes, limits.body_bytes, limits.request_ms / 1000,
		limits.answer_ms / 1000, limits.idle_ms / 1000, limits.connections_per_uid,
		limits.connections, limits.pending_bytes, limits.stall_ms / 1000);
	ck_assert_int_eq(file_read(AT_FDCWD, "man/dhash-protocol.7", 1 << 20, &page, &len), 0);
	ck_assert_msg(strstr(page, list) != NULL, "dhash-protocol(7) lacks:\n%s", list);
	free(page);
	free(list);
}
END_TEST

/* One byte every few milliseconds: never idle, and never done. */
START_TEST(slow_drip)
{
	static const char *const drips[] = {
		"GET /v1/version HTTP/1.1\r\nX-Slow: ",
		"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 60000\r\n\r\n",
		"",
	};
	struct answer a;
	usec_t begin;
	int fd;

	limits.request_ms = 300;
	set_limits(&f, &limits);
	fd = dial(&f);
	begin = now_boottime();
	put(fd, drips[_i]);
	for (struct pollfd p = {.fd = fd, .events = POLLIN}; poll(&p, 1, 5) == 0;) {
		put(fd, "x");
		ck_assert(now_boottime() - begin < 8 * USEC_PER_SEC);
	}
	ck_assert_int_ge(now_boottime() - begin, 290 * USEC_PER_MSEC);
	ck_assert(get_answer(fd, &a));
	expect_error(&a, 408, "timeout", "300 ms");
	ck_assert(at_end(fd));
	close(fd);
	wait_connections(&f, 0);
}
END_TEST

/* The clock begins anew with each request on a kept connection, and does not run between them. */
START_TEST(deadline_of_second_request)
{
	struct answer a;
	int fd;

	limits.request_ms = 300;
	set_limits(&f, &limits);
	fd = dial(&f);
	put(fd, version);
	ck_assert(get_answer(fd, &a));
	usleep(400000); /* longer than a request may take */
	put(fd, version);
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	put(fd, "GET ");
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 408);
	close(fd);
}
END_TEST

START_TEST(idle_connection)
{
	struct answer a;
	int fd;

	limits.idle_ms = 100;
	set_limits(&f, &limits);
	fd = dial(&f);
	put(fd, version);
	ck_assert(get_answer(fd, &a));
	ck_assert(at_end(fd)); /* without a word: no request is pending */
	close(fd);
}
END_TEST

START_TEST(answer_not_taken)
{
	int fd;

	limits.answer_ms = 200;
	set_limits(&f, &limits);
	f.status_bytes = 4 << 20;
	fd = dial(&f);
	put(fd, "GET /v1/status HTTP/1.1\r\n\r\n");
	while (f.requests == 0)
		connections(&f);
	wait_connections(&f, 0);
	close(fd);
}
END_TEST

/* Pours requests in while the answer is not taken: what is kept of it is bounded. */
START_TEST(flood_behind_an_answer)
{
	char junk[4096];
	size_t sent = 0;
	int fd;

	limits.answer_ms = 500;
	set_limits(&f, &limits);
	f.status_bytes = 4 << 20;
	memset(junk, 'j', sizeof junk);
	fd = dial(&f);
	put(fd, "GET /v1/status HTTP/1.1\r\n\r\n");
	while (sent < 64 << 20 && put_bytes(fd, junk, sizeof junk))
		sent += sizeof junk;
	ck_assert_uint_lt(sent, 2 << 20);
	close(fd);
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

static void
close_all(int *fds, int n)
{
	for (int i = 0; i < n; i++)
		close(fds[i]);
}

/* 300 connections of one user: 64 are served, the others are told why not, and all of it passes. */
START_TEST(one_user_too_many)
{
	int fds[300], served = 0, refused = 0;
	struct answer a;

	for (int i = 0; i < 300; i++)
		fds[i] = dial(&f);
	for (int i = 0; i < 300; i++) {
		put(fds[i], version);
		ck_assert(get_answer(fds[i], &a));
		if (a.status == 200) {
			served++;
			continue;
		}
		expect_error(&a, 503, "overloaded", "this user");
		ck_assert(at_end(fds[i]));
		refused++;
	}
	ck_assert_int_eq(served, 64);
	ck_assert_int_eq(refused, 236);
	close_all(fds, 300);
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

START_TEST(too_many_in_all)
{
	struct answer a;
	int fds[10];

	limits.connections = 5;
	set_limits(&f, &limits);
	for (int i = 0; i < 10; i++)
		fds[i] = dial(&f);
	wait_connections(&f, 5);
	for (int i = 5; i < 10; i++) {
		ck_assert(get_answer(fds[i], &a));
		expect_error(&a, 503, "overloaded", "too many connections");
	}
	close_all(fds, 10);
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

START_TEST(thousands_of_connects)
{
	for (int i = 0; i < 3000; i++)
		close(dial(&f));
	wait_connections(&f, 0);
	still_alive(&f);
}
END_TEST

static usec_t
cpu_of_server(void)
{
	struct timespec ts;
	clockid_t clock;

	ck_assert_int_eq(pthread_getcpuclockid(f.thread, &clock), 0);
	clock_gettime(clock, &ts);
	return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

static void
do_paused(struct fixture *fx, void *arg)
{
	*(bool *)arg = fx->ctl->paused;
}

/* Without a descriptor for it a connection waits in the backlog; the loop does not spin on it. */
START_TEST(out_of_descriptors)
{
	struct rlimit was, none;
	bool paused = false;
	usec_t cpu;
	struct answer a;
	int fd;

	limits.accept_pause_ms = 150;
	set_limits(&f, &limits);
	still_alive(&f);
	log_set_level(LOG_EMERG);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	fd = dial_path("/nowhere");
	ck_assert_int_eq(fd, -1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	none = (struct rlimit){.rlim_cur = (rlim_t)fd + 1, .rlim_max = was.rlim_max};
	wait_connections(&f, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	/* All lower numbers are taken, so that accept() finds none. */
	while (dup(0) >= 0)
		;
	{
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		str_copy(addr.sun_path, sizeof addr.sun_path, f.path);
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	}
	put(fd, version);
	while (!paused)
		on_server(&f, do_paused, &paused);
	cpu = cpu_of_server();
	usleep(400000); /* two or three more attempts */
	ck_assert_int_lt(cpu_of_server() - cpu, 100 * USEC_PER_MSEC);
	ck_assert_uint_eq(connections(&f), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
	ck_assert(get_answer(fd, &a));
	ck_assert_int_eq(a.status, 200);
	close(fd);
}
END_TEST

static void
do_listen_again(struct fixture *fx, void *arg)
{
	evconnlistener_disable(fx->ctl->listener);
	fx->ctl->paused = true;
	event_active(fx->ctl->resume, EV_TIMEOUT, 1);
}

/* It would be deaf for ever. */
START_TEST(out_of_watches)
{
	bool paused = false;

	limits.accept_pause_ms = 50;
	set_limits(&f, &limits);
	still_alive(&f);
	log_set_level(LOG_EMERG);
	no_watches = true;
	on_server(&f, do_listen_again, NULL);
	for (int i = 0; i < 5; i++) {
		usleep(20000);
		on_server(&f, do_paused, &paused);
		ck_assert(paused);
	}
	no_watches = false;
	still_alive(&f);
}
END_TEST

static void
fill(TCase *t)
{
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, defaults);
	tcase_add_test(t, manual_has_the_limits);
	tcase_add_loop_test(t, slow_drip, 0, 3);
	tcase_add_test(t, deadline_of_second_request);
	tcase_add_test(t, idle_connection);
	tcase_add_test(t, answer_not_taken);
	tcase_add_test(t, flood_behind_an_answer);
	tcase_add_test(t, one_user_too_many);
	tcase_add_test(t, too_many_in_all);
	tcase_add_test(t, thousands_of_connects);
	tcase_add_test(t, out_of_descriptors);
	tcase_add_test(t, out_of_watches);
}

int
main(void)
{
	return run_suite("limits", fill);
}
