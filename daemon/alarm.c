/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/alarm.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/util.h"

/* What is due within so long of each other is done in one turn of the loop: cheaper together. */
static const usec_t grain = 4 * USEC_PER_MSEC;

struct alarm {
	int fd;
	struct event *event;
	usec_t at; /* what the timer is set to; USEC_INFINITY = not set */
	void (*fn)(void *arg);
	void *arg;
};

static void
on_alarm(evutil_socket_t fd, short what, void *arg)
{
	struct alarm *a = arg;
	uint64_t times;

	if (read(fd, &times, sizeof times) < 0)
		return; /* moved meanwhile */
	a->at = USEC_INFINITY;
	a->fn(a->arg);
}

int
alarm_new(struct event_base *base, void (*fn)(void *arg), void *arg, struct alarm **ret)
{
	struct alarm *a = xcalloc(1, sizeof *a);
	int r;

	a->fn = fn;
	a->arg = arg;
	a->at = USEC_INFINITY;
	a->fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = a->fd < 0 ? -errno : 0;
	if (r == 0)
		a->event = event_new(base, a->fd, EV_READ | EV_PERSIST, on_alarm, a);
	if (r == 0 && (!a->event || event_add(a->event, NULL) < 0))
		r = -ENOMEM;
	if (r < 0) {
		alarm_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void
alarm_free(struct alarm *a)
{
	if (!a)
		return;
	if (a->event)
		event_free(a->event);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

void
alarm_set(struct alarm *a, usec_t boottime)
{
	struct itimerspec t = {0};

	if (boottime != USEC_INFINITY) {
		boottime = MAX(grain, (boottime + grain - 1) / grain * grain);
		t.it_value.tv_sec = boottime / USEC_PER_SEC;
		t.it_value.tv_nsec = boottime % USEC_PER_SEC * 1000;
	}
	if (boottime == a->at)
		return;
	if (timerfd_settime(a->fd, TFD_TIMER_ABSTIME, &t, NULL) == 0)
		a->at = boottime;
}
