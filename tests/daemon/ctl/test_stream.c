/* SPDX-License-Identifier: Apache-2.0 */

/* Event streams: complete, resumable, and bounded whatever the reader does. */

#include "tests/daemon/ctl/fixture.h"

#include <malloc.h>

static struct fixture f;
static struct ctl_limits limits;

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

static void
do_add(struct fixture *fx, void *arg)
{
	fx->n_events += *(int *)arg;
	ctl_wake(fx->ctl);
}

static void
add_events(int n)
{
	on_server(&f, do_add, &n);
}

/* --- a reader -------------------------------------------------------------------------------- */

struct reader {
	int fd;
	size_t chunk; /* bytes left of the present one */
	int64_t last; /* number of the last event */
};

static void
open_stream(struct reader *r, const char *query)
{
	struct answer a;
	char text[256];

	*r = (struct reader){.fd = dial(&f)};
	snprintf(text, sizeof text, "GET /v1/events%s HTTP/1.1\r\n\r\n", query);
	put(r->fd, text);
	ck_assert(get_head(r->fd, &a));
	ck_assert_int_eq(a.status, 200);
	ck_assert(has_header(&a, "Content-Type: application/x-ndjson\n"));
	ck_assert(has_header(&a, "Transfer-Encoding: chunked\n"));
}

enum next { EVENT, HEARTBEAT, END, CUT };

/* One byte of the body; END after the last chunk, CUT when the connection ends before it. */
static enum next
body_byte(struct reader *r, char *c)
{
	char line[64];

	if (r->chunk == 0) {
		if (!get_line(r->fd, line, sizeof line))
			return CUT;
		r->chunk = strtoul(line, NULL, 16);
		if (r->chunk == 0) {
			ck_assert(get_line(r->fd, line, sizeof line));
			return END;
		}
	}
	if (!get_byte(r->fd, c))
		return CUT;
	if (--r->chunk == 0 && (!get_line(r->fd, line, sizeof line) || *line))
		return CUT;
	return EVENT;
}

/* Events must come without gap: each has the number after the one before. */
static enum next
next_event(struct reader *r)
{
	char line[8192];
	size_t n = 0;
	json_t *event;
	int64_t seq;

	do {
		enum next what = body_byte(r, &line[n]);

		if (what != EVENT)
			return what;
		ck_assert_uint_lt(n + 1, sizeof line);
	} while (line[n++] != '\n');
	event = json_loadb(line, n, 0, NULL);
	ck_assert_msg(event != NULL, "no JSON: %.*s", (int)n, line);
	if (json_is_true(json_object_get(event, "heartbeat"))) {
		json_decref(event);
		return HEARTBEAT;
	}
	seq = json_integer_value(json_object_get(event, "seq"));
	json_decref(event);
	ck_assert_int_eq(seq, r->last + 1);
	r->last = seq;
	return EVENT;
}

static void
expect_up_to(struct reader *r, int64_t last)
{
	while (r->last < last)
		ck_assert_int_eq(next_event(r), EVENT);
}

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(history)
{
	struct reader r;
	struct answer a;

	f.events_later = _i == 1;
	add_events(1000);
	open_stream(&r, "?deployment=d-7");
	expect_up_to(&r, 1000);
	ck_assert_int_eq(next_event(&r), END);
	ck_assert_str_eq(f.deployment, "d-7");
	/* The connection is good for another request. */
	put(r.fd, "GET /v1/version HTTP/1.1\r\n\r\n");
	ck_assert(get_answer(r.fd, &a));
	ck_assert_int_eq(a.status, 200);
	close(r.fd);
}
END_TEST

/* A batch that is just full, just short, and empty; a limit on either side of it. */
START_TEST(borders)
{
	static const int counts[] = {0, 1, 127, 128, 129, 256};
	char query[64];
	struct reader r;
	int n = counts[_i];

	add_events(n);
	open_stream(&r, "");
	expect_up_to(&r, n);
	ck_assert_int_eq(next_event(&r), END);
	close(r.fd);
	for (int limit = MAX(n - 1, 1); limit <= n + 1; limit++) {
		snprintf(query, sizeof query, "?limit=%d", limit);
		open_stream(&r, query);
		expect_up_to(&r, MIN(n, limit));
		ck_assert_int_eq(next_event(&r), END);
		close(r.fd);
	}
}
END_TEST

START_TEST(follow_and_resume)
{
	struct reader r;

	f.events_later = _i == 1;
	add_events(3);
	open_stream(&r, "?follow=1");
	expect_up_to(&r, 3);
	for (int i = 1; i <= 20; i++) {
		add_events(1);
		expect_up_to(&r, 3 + i);
	}
	close(r.fd);
	add_events(300); /* while nobody reads */
	open_stream(&r, "?follow=1&after=20");
	r.last = 20;
	expect_up_to(&r, 323);
	add_events(1);
	expect_up_to(&r, 324);
	close(r.fd);
	wait_connections(&f, 0);
}
END_TEST

/* From an empty history: the head comes at once. */
START_TEST(follow_from_nothing)
{
	struct reader r;

	open_stream(&r, "?follow=1&limit=2");
	add_events(1);
	expect_up_to(&r, 1);
	add_events(5);
	expect_up_to(&r, 2);
	ck_assert_int_eq(next_event(&r), END);
	close(r.fd);
}
END_TEST

static void
do_wake_often(struct fixture *fx, void *arg)
{
	fx->n_events++;
	for (int i = 0; i < 1000; i++)
		ctl_wake(fx->ctl);
}

START_TEST(wakes_are_batched)
{
	struct reader r;
	unsigned before;

	open_stream(&r, "?follow=1");
	before = f.asked;
	on_server(&f, do_wake_often, NULL);
	expect_up_to(&r, 1);
	ck_assert_uint_le(f.asked, before + 2);
	close(r.fd);
}
END_TEST

START_TEST(heartbeat)
{
	struct reader r;

	limits.heartbeat_ms = 30;
	set_limits(&f, &limits);
	open_stream(&r, "?follow=1");
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(next_event(&r), HEARTBEAT);
	close(r.fd);
}
END_TEST

/* He follows, and takes nothing: disconnected at the limit, and nothing is lost when he comes back.
 */
START_TEST(stalled_follower)
{
	struct reader r;
	enum next what;

	f.event_bytes = 2000;
	open_stream(&r, "?follow=1");
	while (connections(&f) == 1)
		add_events(5);
	ck_assert_uint_lt(f.max_pending, (256 << 10) + 10 * 2100);
	ck_assert_uint_gt(f.max_pending, 200 << 10);
	while ((what = next_event(&r)) == EVENT)
		;
	ck_assert_int_eq(what, CUT);
	ck_assert_int_gt(r.last, 10);
	ck_assert_int_lt(r.last, f.n_events);
	close(r.fd);
	{
		int64_t last = r.last;
		char query[64];

		snprintf(query, sizeof query, "?after=%lld", (long long)last);
		open_stream(&r, query);
		r.last = last;
		expect_up_to(&r, f.n_events);
		ck_assert_int_eq(next_event(&r), END);
		close(r.fd);
	}
}
END_TEST

/* 40 MB of history for a reader who takes nothing: it is not even fetched. */
START_TEST(stalled_reader_of_history)
{
	size_t before = mallinfo2().uordblks;
	struct reader r;

	limits.stall_ms = 200;
	set_limits(&f, &limits);
	f.event_bytes = 400;
	add_events(100000);
	open_stream(&r, _i ? "?follow=1" : "");
	while (connections(&f) == 1) {
		ck_assert_uint_lt(mallinfo2().uordblks, before + (2 << 20));
		add_events(1);
	}
	ck_assert_uint_lt(f.asked, 100);
	close(r.fd);
	still_alive(&f);
}
END_TEST

/* A slow one gets it all: as long as he takes something he is not stalled. */
START_TEST(slow_reader_of_history)
{
	struct reader r;

	limits.stall_ms = 1500;
	set_limits(&f, &limits);
	f.event_bytes = 1000;
	add_events(600);
	open_stream(&r, "");
	for (int64_t i = 50; i <= 600; i += 50) {
		expect_up_to(&r, i);
		usleep(150000); /* in all longer than a stall may last */
	}
	ck_assert_int_eq(next_event(&r), END);
	close(r.fd);
}
END_TEST

START_TEST(leaving_is_noticed)
{
	struct reader r;

	open_stream(&r, "?follow=1");
	ck_assert_uint_eq(connections(&f), 1);
	close(r.fd);
	wait_connections(&f, 0); /* long before a heartbeat */
	/* While a fetch is under way. */
	f.events_later = true;
	for (int i = 0; i < 50; i++) {
		int fd = dial(&f);

		put(fd, "GET /v1/events?follow=1 HTTP/1.1\r\n\r\n");
		close(fd);
	}
	wait_connections(&f, 0);
	add_events(1);
	still_alive(&f);
}
END_TEST

/* evhttp lets go of the request of a follower who leaves: it must be let go of here, too. */
START_TEST(leaving_costs_nothing)
{
	size_t before = 0;
	struct reader r;

	for (int i = 0; i < 600; i++) {
		open_stream(&r, "?follow=1");
		close(r.fd);
		wait_connections(&f, 0);
		if (i == 100)
			before = mallinfo2().uordblks;
	}
	ck_assert_uint_lt(mallinfo2().uordblks, before + (32 << 10));
}
END_TEST

static void
do_break(struct fixture *fx, void *arg)
{
	fx->events_error = 500;
	ctl_wake(fx->ctl);
}

START_TEST(store_fails)
{
	struct answer a;
	struct reader r;

	open_stream(&r, "?follow=1");
	on_server(&f, do_break, NULL);
	ck_assert_int_eq(next_event(&r), CUT);
	close(r.fd);
	ask_once(&f, "GET /v1/events HTTP/1.1\r\n\r\n", &a);
	expect_error(&a, 500, "internal", "the store is gone");
}
END_TEST

/* What a follower sends is kept to a limit; he is served all the same. */
START_TEST(flood_into_a_stream)
{
	struct pollfd p = {.events = POLLOUT};
	size_t sent = 0;
	char junk[4096];
	struct reader r;

	open_stream(&r, "?follow=1");
	memset(junk, 'j', sizeof junk);
	p.fd = r.fd;
	while (sent < 16 << 20 && poll(&p, 1, 200) == 1) {
		ssize_t n = send(r.fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL);

		ck_assert(n > 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
	}
	ck_assert_uint_lt(sent, 2 << 20);
	add_events(1);
	expect_up_to(&r, 1);
	close(r.fd);
	add_events(1);
	wait_connections(&f, 0);
}
END_TEST

START_TEST(http_1_0_and_half_closed)
{
	struct answer a;
	struct reader r;
	char line[256];
	int fd = dial(&f);

	add_events(200);
	put(fd, "GET /v1/events HTTP/1.0\r\n\r\n");
	ck_assert(get_head(fd, &a));
	ck_assert_int_eq(a.status, 200);
	for (int i = 0; i < 200; i++)
		ck_assert(get_line(fd, line, sizeof line));
	ck_assert(at_end(fd));
	close(fd);
	f.event_bytes = 1000; /* so that it takes many writes */
	add_events(200);
	fd = dial(&f);
	put(fd, "GET /v1/events HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	ck_assert(get_head(fd, &a));
	r = (struct reader){.fd = fd};
	expect_up_to(&r, 400);
	ck_assert_int_eq(next_event(&r), END);
	close(fd);
}
END_TEST

static void
fill(TCase *t)
{
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, history, 0, 2);
	tcase_add_loop_test(t, borders, 0, 6);
	tcase_add_loop_test(t, follow_and_resume, 0, 2);
	tcase_add_test(t, follow_from_nothing);
	tcase_add_test(t, wakes_are_batched);
	tcase_add_test(t, heartbeat);
	tcase_add_test(t, stalled_follower);
	tcase_add_loop_test(t, stalled_reader_of_history, 0, 2);
	tcase_add_test(t, slow_reader_of_history);
	tcase_add_test(t, leaving_is_noticed);
	tcase_add_test(t, leaving_costs_nothing);
	tcase_add_test(t, store_fails);
	tcase_add_test(t, flood_into_a_stream);
	tcase_add_test(t, http_1_0_and_half_closed);
}

int
main(void)
{
	return run_suite("stream", fill);
}
