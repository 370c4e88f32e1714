/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
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

static void
report_finished(struct worker *w)
{
	for (;;) {
		struct job *j;

		pthread_mutex_lock(&w->lock);
		j = list_take(&w->finished);
		pthread_mutex_unlock(&w->lock);
		if (!j)
			return;
		j->done(j);
	}
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
		r = -pthread_create(&w->threads[w->n_threads], NULL, thread_main, w);
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

void
worker_drain(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->todo.first || w->n_running > 0)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	report_finished(w);
}

void
worker_free(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	for (struct job *j = w->todo.first; j; j = j->next)
		job_cancel(j);
	for (unsigned i = 0; i < w->n_threads; i++)
		if (w->running[i])
			job_cancel(w->running[i]);
	pthread_mutex_unlock(&w->lock);
	join(w);
	report_finished(w);
	release(w);
}
