/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs off the loop: run once, done once, on the loop, whatever happens between. */

#include <check.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "common/time-util.h"
#include "common/util.h"
#include "daemon/worker.h"

struct task {
	struct job job; /* first */
	struct event_base *base;
	struct worker *worker;
	struct task *then; /* submitted by done() */
	pthread_t loop, ran_on;
	atomic_int worked;
	atomic_bool began, may_end;
	int done, order;
	bool saw_cancel;
	sigset_t blocked;
	int *count;
};

static void
task_work(struct job *j)
{
	struct task *t = (struct task *)j;

	t->ran_on = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &t->blocked);
	atomic_fetch_add(&t->worked, 1);
	atomic_store(&t->began, true);
	while (!atomic_load(&t->may_end) && !atomic_load(&j->cancelled))
		poll(NULL, 0, 1);
	t->saw_cancel = atomic_load(&j->cancelled);
}

static void
task_done(struct job *j)
{
	struct task *t = (struct task *)j;

	ck_assert(pthread_equal(pthread_self(), t->loop));
	t->done++;
	t->order = (*t->count)++;
	if (t->then)
		worker_submit(t->worker, &t->then->job);
}

struct pool {
	struct event_base *base;
	struct worker *worker;
	int count;
};

static void
pool_begin(struct pool *p, unsigned n_threads)
{
	p->base = event_base_new();
	p->count = 0;
	ck_assert_int_eq(worker_new(p->base, n_threads, &p->worker), 0);
}

static void
pool_end(struct pool *p)
{
	worker_free(p->worker);
	event_base_free(p->base);
}

static void
task_init(struct pool *p, struct task *t, bool may_end)
{
	memset(t, 0, sizeof *t);
	t->job.work = task_work;
	t->job.done = task_done;
	t->worker = p->worker;
	t->loop = pthread_self();
	t->count = &p->count;
	atomic_store(&t->may_end, may_end);
}

static void
turn_until_count(struct pool *p, int n)
{
	usec_t until = now_boottime() + 20 * USEC_PER_SEC;

	while (p->count < n) {
		event_base_loop(p->base, EVLOOP_NONBLOCK);
		ck_assert_msg(now_boottime() < until, "waited in vain: %d of %d", p->count, n);
		if (p->count < n)
			poll(NULL, 0, 1);
	}
}

static void
wait_begun(struct task *t)
{
	usec_t until = now_boottime() + 20 * USEC_PER_SEC;

	while (!atomic_load(&t->began)) {
		ck_assert(now_boottime() < until);
		poll(NULL, 0, 1);
	}
}

START_TEST(each_is_done_once_on_the_loop)
{
	enum { N = 300 };
	static struct task t[N];
	struct pool p;

	pool_begin(&p, 3);
	for (int i = 0; i < N; i++) {
		task_init(&p, &t[i], true);
		worker_submit(p.worker, &t[i].job);
	}
	turn_until_count(&p, N);
	event_base_loop(p.base, EVLOOP_NONBLOCK);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(t[i].done, 1);
		ck_assert_int_eq(atomic_load(&t[i].worked), 1);
		ck_assert(!pthread_equal(t[i].ran_on, pthread_self()));
	}
	pool_end(&p);
	ck_assert_int_eq(p.count, N);
}
END_TEST

START_TEST(one_thread_keeps_the_order)
{
	enum { N = 100 };
	static struct task t[N];
	struct pool p;

	pool_begin(&p, 1);
	for (int i = 0; i < N; i++) {
		task_init(&p, &t[i], true);
		worker_submit(p.worker, &t[i].job);
	}
	turn_until_count(&p, N);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(t[i].order, i);
	pool_end(&p);
}
END_TEST

START_TEST(threads_work_side_by_side)
{
	struct task t[3];
	struct pool p;

	pool_begin(&p, 3);
	for (int i = 0; i < 3; i++) {
		task_init(&p, &t[i], false);
		worker_submit(p.worker, &t[i].job);
	}
	for (int i = 0; i < 3; i++)
		wait_begun(&t[i]);
	atomic_store(&t[1].may_end, true);
	turn_until_count(&p, 1);
	ck_assert_int_eq(t[1].done, 1); /* need not wait for the first */
	atomic_store(&t[0].may_end, true);
	atomic_store(&t[2].may_end, true);
	turn_until_count(&p, 3);
	pool_end(&p);
}
END_TEST

START_TEST(cancelled_job_sees_it)
{
	struct task running, queued;
	struct pool p;

	pool_begin(&p, 1);
	task_init(&p, &running, false);
	task_init(&p, &queued, false);
	worker_submit(p.worker, &running.job);
	worker_submit(p.worker, &queued.job);
	wait_begun(&running);
	job_cancel(&queued.job);
	job_cancel(&running.job);
	turn_until_count(&p, 2);
	ck_assert(running.saw_cancel && queued.saw_cancel);
	ck_assert_int_eq(running.done + queued.done, 2);
	pool_end(&p);
}
END_TEST

START_TEST(free_ends_what_runs_and_waits)
{
	struct task t[5];
	struct pool p;

	pool_begin(&p, 2);
	for (int i = 0; i < 5; i++) {
		task_init(&p, &t[i], false);
		worker_submit(p.worker, &t[i].job);
	}
	wait_begun(&t[0]);
	wait_begun(&t[1]);
	pool_end(&p);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(t[i].done, 1);
		ck_assert(t[i].saw_cancel);
	}
}
END_TEST

START_TEST(free_is_done_with_what_comes_late)
{
	struct task first, late;
	struct pool p;

	pool_begin(&p, 1);
	task_init(&p, &first, false);
	task_init(&p, &late, false);
	first.then = &late;
	worker_submit(p.worker, &first.job);
	wait_begun(&first);
	pool_end(&p);
	ck_assert_int_eq(late.done, 1);
	ck_assert_int_eq(atomic_load(&late.worked), 0);
	ck_assert(atomic_load(&late.job.cancelled));
}
END_TEST

START_TEST(drain_runs_everything)
{
	enum { N = 20 };
	struct task t[N];
	struct pool p;

	pool_begin(&p, 2);
	for (int i = 0; i < N; i++) {
		task_init(&p, &t[i], true);
		if (i > 0)
			t[i - 1].then = &t[i]; /* each is submitted by the one before */
	}
	worker_submit(p.worker, &t[0].job);
	worker_drain(p.worker);
	ck_assert_int_eq(p.count, N);
	for (int i = 0; i < N; i++)
		ck_assert(!t[i].saw_cancel && t[i].done == 1);
	worker_drain(p.worker); /* nothing to do */
	pool_end(&p);
}
END_TEST

START_TEST(signals_are_the_loops)
{
	struct task t;
	struct pool p;
	sigset_t own;

	pool_begin(&p, 1);
	task_init(&p, &t, true);
	worker_submit(p.worker, &t.job);
	turn_until_count(&p, 1);
	ck_assert_int_eq(sigismember(&t.blocked, SIGTERM), 1);
	ck_assert_int_eq(sigismember(&t.blocked, SIGCHLD), 1);
	pthread_sigmask(SIG_SETMASK, NULL, &own);
	ck_assert_int_eq(sigismember(&own, SIGTERM), 0);
	pool_end(&p);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		each_is_done_once_on_the_loop, one_thread_keeps_the_order,
		threads_work_side_by_side,     cancelled_job_sees_it,
		free_ends_what_runs_and_waits, free_is_done_with_what_comes_late,
		drain_runs_everything,         signals_are_the_loops,
	};
	Suite *suite = suite_create("worker");
	TCase *tc = tcase_create("worker");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 30);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
