/* SPDX-License-Identifier: Apache-2.0 */

#include "common/log_queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "common/util.h"

enum mode {
	MODE_OFF,
	MODE_RUNNING,
	MODE_STUCK, /* the thread could not be ended, and nobody waits for it any more */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work, idle; /* idle: on CLOCK_MONOTONIC */
	pthread_t thread;
	const struct log_queue_ops *ops;
	enum mode mode;
	bool ending, sending; /* sending: the thread has a record that is in no list */
	struct log_record *first, **last;
	unsigned n;
	size_t bytes;
	unsigned long dropped; /* and not told yet */
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

void
log_record_free(struct log_record *r)
{
	for (int i = 0; i < r->n; i++)
		free(r->v[i].iov_base);
	free(r->line);
	free(r);
}

/* --- the list, under the lock --- */

static void
append(struct log_record *r)
{
	r->next = NULL;
	*queue.last = r;
	queue.last = &r->next;
	queue.n++;
	queue.bytes += r->bytes;
}

static struct log_record *
take(struct log_record **at)
{
	struct log_record *r = *at;

	*at = r->next;
	if (!r->next)
		queue.last = at;
	queue.n--;
	queue.bytes -= r->bytes;
	return r;
}

static bool
fits(const struct log_record *r)
{
	return queue.n == 0 ||
	       (queue.n < LOG_QUEUE_RECORDS && queue.bytes + r->bytes <= LOG_QUEUE_BYTES);
}

/* The oldest of the least important ones, if they are less important than that. */
static struct log_record **
least_important(int than)
{
	struct log_record **found = NULL;
	int worst = than;

	for (struct log_record **p = &queue.first; *p; p = &(*p)->next)
		if ((*p)->priority > worst) {
			worst = (*p)->priority;
			found = p;
		}
	return found;
}

static void
append_or_drop(struct log_record *r)
{
	struct log_record **victim;

	while (!fits(r) && (victim = least_important(r->priority))) {
		log_record_free(take(victim));
		queue.dropped++;
	}
	if (fits(r)) {
		append(r);
	} else {
		log_record_free(r);
		queue.dropped++;
	}
}

static bool
all_sent(void)
{
	return !queue.first && !queue.sending && queue.dropped == 0;
}

/* --- the thread --- */

/* What is to be sent next.  What was dropped is told when it flows again, and once: not while each
 * record that goes makes room for one of many. */
static struct log_record *
next_record(void)
{
	unsigned long n = queue.dropped;

	if (n == 0 || queue.n > LOG_QUEUE_RECORDS / 2 || queue.bytes > LOG_QUEUE_BYTES / 2)
		return take(&queue.first);
	queue.dropped = 0;
	return queue.ops->dropped(n);
}

static void *
thread_main(void *arg)
{
	pthread_mutex_lock(&queue.lock);
	for (;;) {
		struct log_record *r;

		while (!queue.first && queue.dropped == 0 && !queue.ending)
			pthread_cond_wait(&queue.work, &queue.lock);
		if (!queue.first && queue.dropped == 0)
			break;
		r = next_record();
		queue.sending = true;
		pthread_mutex_unlock(&queue.lock);
		queue.ops->send(r);
		log_record_free(r);
		pthread_mutex_lock(&queue.lock);
		queue.sending = false;
		if (all_sent())
			pthread_cond_broadcast(&queue.idle);
	}
	pthread_mutex_unlock(&queue.lock);
	return NULL;
}

/* Signals are the main thread's. */
static int
create_thread(void)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&queue.thread, NULL, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

/* --- for the logger --- */

int
log_queue_start(const struct log_queue_ops *ops)
{
	pthread_condattr_t attr;
	int r;

	if (queue.mode != MODE_OFF)
		return -EALREADY;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&queue.idle, &attr);
	pthread_condattr_destroy(&attr);
	queue.ops = ops;
	queue.last = &queue.first;
	queue.ending = false;
	r = create_thread();
	pthread_mutex_lock(&queue.lock);
	queue.mode = r == 0 ? MODE_RUNNING : MODE_OFF;
	pthread_mutex_unlock(&queue.lock);
	return r;
}

bool
log_queue_put(struct log_record *r)
{
	bool taken = true;

	pthread_mutex_lock(&queue.lock);
	if (queue.mode == MODE_OFF) {
		taken = false;
	} else if (queue.mode == MODE_STUCK || all_sent()) {
		/* Stuck: sent out of order, or not at all. */
		if (queue.ops->try_send(r) || queue.mode == MODE_STUCK)
			log_record_free(r);
		else
			append_or_drop(r);
		pthread_cond_signal(&queue.work);
	} else {
		append_or_drop(r);
		pthread_cond_signal(&queue.work);
	}
	pthread_mutex_unlock(&queue.lock);
	return taken;
}

static bool
wait_until_sent(usec_t at_most)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += at_most / USEC_PER_SEC;
	until.tv_nsec += at_most % USEC_PER_SEC * 1000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (!all_sent() && r == 0)
		r = pthread_cond_timedwait(&queue.idle, &queue.lock, &until);
	return all_sent();
}

bool
log_queue_flush(usec_t at_most)
{
	bool sent = true;

	pthread_mutex_lock(&queue.lock);
	if (queue.mode == MODE_RUNNING)
		sent = wait_until_sent(at_most);
	pthread_mutex_unlock(&queue.lock);
	return sent;
}

void
log_queue_stop(usec_t at_most)
{
	bool sent;

	if (queue.mode != MODE_RUNNING)
		return;
	pthread_mutex_lock(&queue.lock);
	sent = wait_until_sent(at_most);
	queue.ending = true;
	queue.mode = sent ? MODE_OFF : MODE_STUCK;
	pthread_cond_signal(&queue.work);
	pthread_mutex_unlock(&queue.lock);
	if (sent)
		pthread_join(queue.thread, NULL);
	else
		pthread_detach(queue.thread);
}
