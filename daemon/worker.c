/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of threads for slow work.  Owns its threads and the list of jobs; a job itself stays its
 * submitter's, and is touched by one side at a time: queue, thread, then loop.
 */

#include "daemon/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/util.h"

struct list {
	struct job *first, **last;
};

struct worker {
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	struct list todo, finished;
	struct job **running; /* owned; one place per thread */
	unsigned n_running;
	pthread_t *threads; /* owned */
	unsigned n_threads;
	bool ending;
	int fd;
	struct event *ev;
};

int
thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void
list_add(struct list *l, struct job *j)
{
	j->next = NULL;
	*l->last = j;
	l->last = &j->next;
}

static struct job *
list_take(struct list *l)
{
	struct job *j = l->first;

	if (!j)
		return NULL;
	l->first = j->next;
	if (!l->first)
		l->last = &l->first;
	return j;
}

static void
tell_loop(struct worker *w)
{
	uint64_t one = 1;
	ssize_t n = write(w->fd, &one, sizeof one);

	(void)n; /* full means that the loop is told already */
}

static void *
thread_main(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct job *j = list_take(&w->todo);
		unsigned place = 0;

		if (!j && w->ending)
			break;
		if (!j) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		while (w->running[place])
			place++;
		w->running[place] = j;
		w->n_running++;
		pthread_mutex_unlock(&w->lock);
		j->work(j);
		pthread_mutex_lock(&w->lock);
		w->running[place] = NULL;
		w->n_running--;
		list_add(&w->finished, j);
		pthread_cond_broadcast(&w->idle);
		tell_loop(w);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static struct job *
take_finished(struct worker *w)
{
	struct job *j;

	pthread_mutex_lock(&w->lock);
	j = list_take(&w->finished);
	pthread_mutex_unlock(&w->lock);
	return j;
}

/* Was there anything? */
static bool
report_finished(struct worker *w)
{
	struct job *j;
	bool any = false;

	while ((j = take_finished(w))) {
		any = true;
		j->done(j);
	}
	return any;
}

static void
on_finished(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof count);

	(void)n;
	report_finished(arg);
}

static void
release(struct worker *w)
{
	if (w->ev)
		event_free(w->ev);
	if (w->fd >= 0)
		close(w->fd);
	pthread_cond_destroy(&w->idle);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w->running);
	free(w->threads);
	free(w);
}

static void
join(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
}

int
worker_new(struct event_base *base, unsigned n_threads, struct worker **ret)
{
	struct worker *w = xcalloc(1, sizeof *w);
	int r = 0;

	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	pthread_cond_init(&w->idle, NULL);
	w->todo.last = &w->todo.first;
	w->finished.last = &w->finished.first;
	w->threads = xcalloc(n_threads, sizeof *w->threads);
	w->running = xcalloc(n_threads + 1, sizeof *w->running);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->fd < 0)
		r = -errno;
	else if (!(w->ev = event_new(base, w->fd, EV_READ | EV_PERSIST, on_finished, w)) ||
		 event_add(w->ev, NULL) < 0)
		r = -ENOMEM;
	for (; r == 0 && w->n_threads < n_threads; w->n_threads++)
		r = thread_start(&w->threads[w->n_threads], thread_main, w);
	if (r < 0) {
		join(w);
		release(w);
		return r;
	}
	*ret = w;
	return 0;
}

void
worker_submit(struct worker *w, struct job *j)
{
	pthread_mutex_lock(&w->lock);
	list_add(&w->todo, j);
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

static void
wait_idle(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->todo.first || w->n_running > 0)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void
worker_drain(struct worker *w)
{
	do
		wait_idle(w);
	while (report_finished(w)); /* a done() may have submitted more */
}

static void
cancel_all(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	for (struct job *j = w->todo.first; j; j = j->next)
		job_cancel(j);
	for (unsigned i = 0; i < w->n_threads; i++)
		if (w->running[i])
			job_cancel(w->running[i]);
	pthread_mutex_unlock(&w->lock);
}

void
worker_free(struct worker *w)
{
	struct job *j;

	if (!w)
		return;
	cancel_all(w);
	join(w);
	report_finished(w);
	while ((j = list_take(&w->todo))) { /* submitted by a done() just now */
		job_cancel(j);
		j->done(j);
	}
	release(w);
}
