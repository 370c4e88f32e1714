/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_STORE_FIXTURE_H
#define DHASH_TESTS_STORE_FIXTURE_H

/* A store in a folder of its own, and a loop to turn until something has come. */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/store.h"

struct fixture {
	char dir[64], path[96];
	struct event_base *base;
	struct store *store;
	char *note; /* owned */
};

static inline void
fixture_folder(struct fixture *f)
{
	memset(f, 0, sizeof *f);
	strcpy(f->dir, "/tmp/dhash-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/dhashd.db", f->dir);
}

static inline int
fixture_try_open(struct fixture *f)
{
	int r;

	f->base = event_base_new();
	f->note = NULL;
	r = store_open(f->base, f->path, &f->store, &f->note);
	if (r < 0) {
		event_base_free(f->base);
		f->base = NULL;
	}
	return r;
}

static inline void
fixture_close(struct fixture *f)
{
	store_close(f->store);
	event_base_free(f->base);
	free(f->note);
	f->store = NULL;
	f->base = NULL;
	f->note = NULL;
}

static inline void
fixture_open(struct fixture *f)
{
	ck_assert_int_eq(fixture_try_open(f), 0);
}

static inline void
fixture_begin(struct fixture *f)
{
	fixture_folder(f);
	fixture_open(f);
	ck_assert_ptr_null(f->note);
}

static inline void
fixture_end(struct fixture *f)
{
	DIR *d;
	struct dirent *e;

	if (f->store)
		fixture_close(f);
	d = opendir(f->dir);
	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(f->dir);
}

/* Turns the loop until *count has reached n; fails after 20 s. */
static inline void
turn_until(struct fixture *f, const int *count, int n)
{
	usec_t until = now_boottime() + 20 * USEC_PER_SEC;

	while (*count < n) {
		event_base_loop(f->base, EVLOOP_NONBLOCK);
		ck_assert_msg(now_boottime() < until, "waited in vain: %d of %d", *count, n);
		if (*count < n)
			poll(NULL, 0, 1);
	}
}

static inline void
count_up(void *arg)
{
	++*(int *)arg;
}

static inline const struct store_clock *
some_clock(void)
{
	static const struct store_clock c = {true, 100 * USEC_PER_SEC, 1704110400 * USEC_PER_SEC,
					     50 * USEC_PER_SEC, "boot"};

	return &c;
}

static inline void
commit_and_wait(struct fixture *f, struct batch *b)
{
	int n = 0;

	store_commit(f->store, b, count_up, &n);
	turn_until(f, &n, 1);
}

/* A batch with one event that says n. */
static inline struct batch *
numbered(int n, const char *padding)
{
	struct batch *b = batch_new(some_clock());
	json_t *o = json_pack("{s:i, s:s}", "n", n, "padding", padding);

	batch_event(b, "shop", "production", "deploy-1", o);
	json_decref(o);
	return b;
}

struct answer {
	int n, error;
	json_t *json; /* owned */
};

static inline void
on_json(void *arg, int error, json_t *json)
{
	struct answer *a = arg;

	a->n++;
	a->error = error;
	a->json = json;
}

/* Newly owned array of events after a sequence number; fails on an error. */
static inline json_t *
events_after(struct fixture *f, int64_t after)
{
	struct store_filter filter = {.after = after};
	struct answer a = {0};

	store_events(f->store, &filter, on_json, &a);
	turn_until(f, &a.n, 1);
	ck_assert_int_eq(a.error, 0);
	ck_assert(json_is_array(a.json));
	return a.json;
}

static inline json_int_t
event_field(const json_t *events, size_t i, const char *name)
{
	return json_integer_value(json_object_get(json_array_get(events, i), name));
}

/* The events say 1, 2, … n: nothing missing, nothing twice, in order. */
static inline void
assert_counts_to(struct fixture *f, int n)
{
	json_t *events = events_after(f, 0);

	ck_assert_uint_eq(json_array_size(events), (size_t)n);
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(event_field(events, (size_t)i, "n"), i + 1);
	json_decref(events);
}

static inline int
run_suite(const char *name, const TTest *const *tests, size_t n, double timeout)
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, timeout);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
