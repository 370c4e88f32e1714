/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection, and a list of jobs.  A job is asked for (StartUnit, StopUnit), is named by the
 * answer, and ends with the signal JobRemoved that bears its name; systemd sends that to whoever
 * queued the job.  When the connection breaks every job fails: only the unit itself then knows.
 */

#include "daemon/run/manager.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include <event2/event.h>
#include <systemd/sd-bus.h>

#include "common/time-util.h"
#include "common/util.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

struct unit_job {
	struct unit_job *next;
	struct manager *manager;
	const char *method;
	char *unit;        /* owned */
	char *path;        /* owned; systemd's name for the job, once it has answered */
	sd_bus_slot *slot; /* owned; the call */
	unit_job_fn *fn;
	void *arg;
	bool ended;
	int error;
	char *why; /* owned */
};

struct manager {
	struct event_base *base;
	struct unit_job *jobs; /* owned */
	sd_bus *bus;           /* owned; NULL = not connected */
	struct event *io;      /* owned; its descriptor is the bus's */
	struct event *timer;   /* owned; the bus's own time-outs, and what is to be told */
};

static void drive(struct manager *m);

/* --- jobs --------------------------------------------------------------------------------- */

static void
job_free(struct unit_job *j)
{
	struct unit_job **p = &j->manager->jobs;

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	sd_bus_slot_unref(j->slot);
	free(j->unit);
	free(j->path);
	free(j->why);
	free(j);
}

void
unit_job_forget(struct unit_job *j)
{
	if (j)
		job_free(j);
}

/* Told in the next turn of the loop: the caller may hold the job in its hands. */
static void
job_end(struct unit_job *j, int error, char *why)
{
	if (j->ended) {
		free(why);
		return;
	}
	j->ended = true;
	j->error = error;
	j->why = why;
	event_active(j->manager->timer, EV_TIMEOUT, 0);
}

static struct unit_job *
first_ended(struct manager *m)
{
	struct unit_job *j = m->jobs;

	while (j && !j->ended)
		j = j->next;
	return j;
}

static void
tell_ended(struct manager *m)
{
	struct unit_job *j;

	while ((j = first_ended(m)) != NULL) {
		unit_job_fn *fn = j->fn;
		void *arg = j->arg;
		int error = j->error;
		char *why = j->why;

		j->why = NULL;
		job_free(j);
		fn(arg, error, why ? why : "");
		free(why);
	}
}

/* --- the connection ----------------------------------------------------------------------- */

static void
disconnect(struct manager *m)
{
	if (m->io)
		event_free(m->io);
	m->io = NULL;
	sd_bus_close(m->bus);
	sd_bus_unref(m->bus);
	m->bus = NULL;
}

static void
fail_all(struct manager *m, int error, const char *what)
{
	for (struct unit_job *j = m->jobs; j; j = j->next)
		job_end(j, error,
			xasprintf("%s: %s; is dbus running? systemctl status dbus.socket", what,
				  strerror(-error)));
}

static void
on_bus(evutil_socket_t fd, short what, void *arg)
{
	drive(arg);
}

static int
on_job_removed(sd_bus_message *message, void *arg, sd_bus_error *error)
{
	struct manager *m = arg;
	const char *path, *unit, *result;
	uint32_t id;

	if (sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	for (struct unit_job *j = m->jobs; j; j = j->next) {
		if (!j->path || !streq(j->path, path))
			continue;
		if (streq(result, "done"))
			job_end(j, 0, NULL);
		else
			job_end(j, -EIO,
				xasprintf("systemd says \"%s\" for %s; journalctl -u %s says more",
					  result, unit, unit));
	}
	return 0;
}

static int
connect_bus(struct manager *m)
{
	int r;

	if (m->bus)
		return 0;
	r = sd_bus_open_system(&m->bus);
	if (r < 0)
		return r;
	r = sd_bus_match_signal_async(m->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
				      "JobRemoved", on_job_removed, NULL, m);
	if (r < 0)
		disconnect(m);
	return r < 0 ? r : 0;
}

/* The clock of sd_bus_get_timeout(). */
static usec_t
now_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

/* What the bus waits for may be another thing after each step. */
static void
wait_for_bus(struct manager *m)
{
	int fd = sd_bus_get_fd(m->bus), events = sd_bus_get_events(m->bus);
	uint64_t at = UINT64_MAX;
	usec_t left, now;
	bool watched;

	if (m->io)
		event_free(m->io);
	m->io = event_new(
		m->base, fd,
		(short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0)),
		on_bus, m);
	if (!m->io)
		out_of_memory();
	watched = event_add(m->io, NULL) == 0;
	if ((sd_bus_get_timeout(m->bus, &at) < 0 || at == UINT64_MAX) && watched) {
		event_del(m->timer);
		return;
	}
	now = now_monotonic();
	left = at == UINT64_MAX ? USEC_PER_SEC : (usec_t)at > now ? (usec_t)at - now : 0;
	if (!watched) /* the kernel has no watch left: looked at each second */
		left = MIN(left, USEC_PER_SEC);
	event_add(m->timer,
		  &(struct timeval){.tv_sec = left / USEC_PER_SEC, .tv_usec = left % USEC_PER_SEC});
}

static void
drive(struct manager *m)
{
	int r = 1;

	while (m->bus && r > 0)
		r = sd_bus_process(m->bus, NULL);
	if (r < 0) {
		disconnect(m);
		fail_all(m, r, "the connection to systemd broke");
	}
	tell_ended(m);
	/* Those who were told may have asked for more. */
	if (m->bus && !m->jobs)
		disconnect(m);
	if (m->bus)
		wait_for_bus(m);
}

/* --- asking ------------------------------------------------------------------------------- */

/* What sd-bus says in systemd's place when no answer comes. */
static bool
unanswered(int error)
{
	return error == ETIMEDOUT || error == ECONNRESET || error == ENOTCONN || error == EPIPE;
}

static int
on_reply(sd_bus_message *message, void *arg, sd_bus_error *ret_error)
{
	struct unit_job *j = arg;
	const sd_bus_error *e = sd_bus_message_get_error(message);
	const char *path;
	int r;

	if (e) {
		r = sd_bus_message_get_errno(message);
		job_end(j, -r,
			xasprintf("systemd %s %s of %s: %s",
				  unanswered(r) ? "does not answer" : "refuses", j->method, j->unit,
				  e->message ? e->message : e->name));
		return 0;
	}
	r = sd_bus_message_read(message, "o", &path);
	if (r < 0)
		job_end(j, r, xasprintf("systemd's answer to %s is not understood", j->method));
	else
		j->path = xstrdup(path);
	return 0;
}

static struct unit_job *
ask(struct manager *m, const char *method, const char *unit, unit_job_fn *fn, void *arg)
{
	struct unit_job *j = xcalloc(1, sizeof *j);
	int r = connect_bus(m);

	*j = (struct unit_job){
		.next = m->jobs,
		.manager = m,
		.method = method,
		.unit = xstrdup(unit),
		.fn = fn,
		.arg = arg,
	};
	m->jobs = j;
	if (r == 0)
		r = sd_bus_call_method_async(m->bus, &j->slot, SYSTEMD_NAME, SYSTEMD_PATH,
					     SYSTEMD_MANAGER, method, on_reply, j, "ss", unit,
					     "replace");
	if (r < 0)
		job_end(j, r,
			xasprintf("cannot ask systemd on the system bus: %s; is dbus running?",
				  strerror(-r)));
	else
		event_active(m->timer, EV_TIMEOUT, 0);
	return j;
}

struct unit_job *
manager_start(struct manager *m, const char *unit, unit_job_fn *fn, void *arg)
{
	return ask(m, "StartUnit", unit, fn, arg);
}

struct unit_job *
manager_stop(struct manager *m, const char *unit, unit_job_fn *fn, void *arg)
{
	return ask(m, "StopUnit", unit, fn, arg);
}

struct manager *
manager_new(struct event_base *base)
{
	struct manager *m = xcalloc(1, sizeof *m);

	m->base = base;
	m->timer = event_new(base, -1, 0, on_bus, m);
	if (!m->timer)
		out_of_memory();
	return m;
}

void
manager_free(struct manager *m)
{
	if (!m)
		return;
	while (m->jobs)
		job_free(m->jobs);
	if (m->bus)
		disconnect(m);
	event_free(m->timer);
	free(m);
}
