/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, pump, stop.
 *
 * The pump is the only place that steps the core: adapters post events, the pump drains the queue,
 * ticks until nothing is due, and sets the alarm for the core's next deadline.  An event that comes
 * up while the core's effects are carried out waits in the queue.
 */

#include "daemon/daemon.h"

#include <errno.h>
#include <event2/thread.h>
#include <signal.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/alarm.h"
#include "daemon/memory.h"
#include "daemon/notify_systemd.h"

/* --- queue ---------------------------------------------------------------------------------------
 */

enum { QUEUED_STRINGS_MAX = 6 };

struct queued {
	struct queued *next;
	struct event_copy {
		struct core_event event;
		char *strings[QUEUED_STRINGS_MAX]; /* owned */
		unsigned n;
	} copy;
};

static const char *
keep(struct event_copy *c, const char *s)
{
	if (!s)
		return NULL;
	return c->strings[c->n++] = xstrdup(s);
}

static void
copy_strings(struct event_copy *c)
{
	struct core_event *e = &c->event;

	switch (e->kind) {
	case EV_DEPLOY:
		e->u.deploy.id = keep(c, e->u.deploy.id);
		e->u.deploy.tag = keep(c, e->u.deploy.tag);
		e->u.deploy.lead = keep(c, e->u.deploy.lead);
		e->u.deploy.reason = keep(c, e->u.deploy.reason);
		e->u.deploy.previous_tag = keep(c, e->u.deploy.previous_tag);
		break;
	case EV_ROLLBACK:
		e->u.rollback.reason = keep(c, e->u.rollback.reason);
		e->u.rollback.to = keep(c, e->u.rollback.to);
		e->u.rollback.file = keep(c, e->u.rollback.file);
		break;
	case EV_ABORT:
		e->u.abort.reason = keep(c, e->u.abort.reason);
		break;
	case EV_GATES:
	case EV_BACKUP:
	case EV_TARGET:
		e->u.done.text = keep(c, e->u.done.text);
		e->u.done.path = keep(c, e->u.done.path ? e->u.done.path : "");
		e->u.done.sha256 = keep(c, e->u.done.sha256 ? e->u.done.sha256 : "");
		break;
	case EV_HOOK:
		e->u.hook.text = keep(c, e->u.hook.text);
		break;
	default:
		break;
	}
}

static void
queued_free(struct queued *q)
{
	for (unsigned i = 0; i < q->copy.n; i++)
		free(q->copy.strings[i]);
	free(q);
}

static void
tell_clock_step(struct daemon *d, const struct core_event *e)
{
	usec_t by = clock_step(&d->clock, e->now, e->wall);
	char span[USEC_TEXT_MAX];

	if (by)
		log_warning("the wall clock was set %s by %s: the stamps follow it, no deadline "
			    "and no decision does",
			    by > 0 ? "forward" : "back", usec_format(span, by > 0 ? by : -by));
}

void
daemon_step(struct daemon *d, struct core_event *e)
{
	int r;

	e->now = clock_now(&d->clock);
	e->wall = now_realtime();
	tell_clock_step(d, e);
	r = core_step(d->core, e, d->effects);
	if (r < 0)
		log_mistake(
			"the core refused an event (%s): %s; this is a mistake in dhashd, please "
			"report it",
			event_kind_name(e->kind), strerror(-r));
	effects_apply(d, d->effects);
}

static void
pump(struct daemon *d)
{
	struct core_event tick = {.kind = EV_TICK};

	if (d->pumping)
		return;
	d->pumping = true;
	for (;;) {
		struct queued *q = d->queue;

		if (q) {
			d->queue = q->next;
			if (!d->queue)
				d->queue_tail = &d->queue;
			daemon_step(d, &q->copy.event);
			queued_free(q);
		} else if (!d->stopping && core_deadline(d->core) <= clock_now(&d->clock)) {
			daemon_step(d, &tick);
		} else {
			break;
		}
	}
	d->pumping = false;
	if (!d->stopping)
		alarm_set(d->alarm, clock_boottime(&d->clock, core_deadline(d->core)));
}

void
daemon_post(struct daemon *d, const struct core_event *e)
{
	struct queued *q;

	if (d->stopping)
		return;
	q = xcalloc(1, sizeof *q);
	q->copy.event = *e;
	copy_strings(&q->copy);
	*d->queue_tail = q;
	d->queue_tail = &q->next;
	pump(d);
}

/* --- targets --- */

struct target *
daemon_find(const struct daemon *d, const char *service, const char *environment)
{
	for (unsigned i = 0; i < d->n_targets; i++)
		if (streq(d->targets[i]->service, service) &&
		    streq(d->targets[i]->environment, environment))
			return d->targets[i];
	return NULL;
}

const struct conf_env *
target_conf(const struct target *t)
{
	if (t->frozen && !dstate_ended(t->last_state))
		return t->frozen;
	return t->conf ? t->conf : t->frozen;
}

struct observer *
target_observer(struct target *t)
{
	const struct conf_env *conf = target_conf(t);

	if (t->observed != conf) {
		observer_free(t->observer);
		t->observer = conf ? observer_new(t->daemon->base, t->daemon->http, conf) : NULL;
		t->observed = conf;
	}
	return t->observer;
}

void
target_thaw(struct target *t)
{
	if (t->observed && t->observed == t->frozen) {
		observer_free(t->observer);
		t->observer = NULL;
		t->observed = NULL;
	}
	conf_env_free(t->frozen);
	t->frozen = NULL;
}

static void
target_free(struct target *t)
{
	if (!t)
		return;
	act_detach_all(t);
	observer_free(t->observer);
	conf_env_free(t->frozen);
	free(t->service);
	free(t->environment);
	free(t);
}

void
daemon_status_line(struct daemon *d)
{
	char text[256];
	unsigned live = 0;
	const struct target *shown = NULL;

	for (unsigned i = 0; i < d->n_targets; i++)
		if (d->targets[i]->live_id[0] && !dstate_ended(d->targets[i]->last_state)) {
			live++;
			shown = d->targets[i];
		}
	if (d->store && store_failed(d->store))
		snprintf(text, sizeof text, "READ-ONLY: %.200s", store_failed(d->store));
	else if (live == 1)
		snprintf(text, sizeof text, "%u environments; %s/%s: %s %s", d->n_targets,
			 shown->service, shown->environment, shown->live_id,
			 dstate_label(shown->last_state));
	else
		snprintf(text, sizeof text, "%u environments; %u live deployments", d->n_targets,
			 live);
	notify_status(text);
}

/* --- life --- */

static void
on_deadline(void *arg)
{
	pump(arg);
}

static void
on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	notify_watchdog();
}

static void
on_terminate(evutil_socket_t sig, short what, void *arg)
{
	struct daemon *d = arg;

	log_event(LOG_KIND_DAEMON_STOP, LOG_INFO, NULL,
		  "stopping; deployments go on where they are when dhashd starts again");
	notify_stopping();
	d->stopping = true;
	event_base_loopbreak(d->base);
}

static void
on_hangup(evutil_socket_t sig, short what, void *arg)
{
	daemon_reload(arg);
}

struct gate_hooks
daemon_gate_hooks(const struct daemon *d, const char *deployment)
{
	return (struct gate_hooks){
		.base = d->base,
		.way = &d->way,
		.state_dir = d->options.state_dir,
		.deployment = deployment,
	};
}

static int
add_events(struct daemon *d)
{
	usec_t wd = notify_watchdog_interval();
	struct timeval tv = {.tv_sec = wd / USEC_PER_SEC, .tv_usec = wd % USEC_PER_SEC};

	int r = alarm_new(d->base, on_deadline, d, &d->alarm);

	d->watchdog = event_new(d->base, -1, EV_PERSIST, on_watchdog, d);
	d->sigterm = evsignal_new(d->base, SIGTERM, on_terminate, d);
	d->sigint = evsignal_new(d->base, SIGINT, on_terminate, d);
	d->sighup = evsignal_new(d->base, SIGHUP, on_hangup, d);
	if (r < 0)
		return r;
	if (!d->watchdog || !d->sigterm || !d->sigint || !d->sighup)
		return -ENOMEM;
	if (evsignal_add(d->sigterm, NULL) < 0 || evsignal_add(d->sigint, NULL) < 0 ||
	    evsignal_add(d->sighup, NULL) < 0)
		return -errno;
	if (wd > 0)
		event_add(d->watchdog, &tv);
	return 0;
}

static void
free_event(struct event *e)
{
	if (e)
		event_free(e);
}

static void
unload(struct daemon *d)
{
	d->stopping = true;
	/* Both still call back: into targets, requests and the control socket. */
	worker_free(d->worker);
	store_close(d->store);
	requests_drop(d);
	ctl_free(d->ctl);
	for (unsigned i = 0; i < d->n_targets; i++)
		target_free(d->targets[i]);
	free(d->targets);
	http_pool_free(d->http);
	scribe_free(d->scribe);
	while (d->queue) {
		struct queued *q = d->queue;

		d->queue = q->next;
		queued_free(q);
	}
	core_free(d->core);
	conf_free(d->conf);
	free(d->effects);
	manager_free(d->manager);
	free(d->runner);
	alarm_free(d->alarm);
	free_event(d->watchdog);
	free_event(d->sigterm);
	free_event(d->sigint);
	free_event(d->sighup);
	if (d->base)
		event_base_free(d->base);
}

int
daemon_run(const struct daemon_options *options)
{
	struct daemon d = {.options = *options, .exit_status = EXIT_FAILURE};
	int r;

	log_start();
	signal(SIGPIPE, SIG_IGN);
	memory_policy();
	evthread_use_pthreads();
	d.base = event_base_new();
	d.queue_tail = &d.queue;
	d.effects = xcalloc(1, sizeof *d.effects);
	d.runner = daemon_find_runner();
	if (d.base && options->hook_units)
		d.manager = manager_new(d.base);
	d.way = (struct hook_way){.runner = d.runner, .manager = d.manager};
	d.started_boottime = now_boottime();
	d.started_wall = now_realtime();
	r = d.base ? add_events(&d) : -errno;
	if (r < 0)
		log_start_failed("cannot set up the event loop: %s; look at the limits of memory "
				 "and descriptors",
				 strerror(-r));
	else
		r = daemon_load(&d);
	if (r == 0) {
		log_event(LOG_KIND_DAEMON_START, LOG_INFO, NULL,
			  "dhashd " DHASH_VERSION " guards %u environments", d.n_targets);
		daemon_status_line(&d);
		notify_ready();
		pump(&d);
		event_base_dispatch(d.base);
		d.exit_status = EXIT_SUCCESS;
	}
	unload(&d);
	log_stop();
	return d.exit_status;
}
