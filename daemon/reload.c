/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration into targets, at the start and on SIGHUP.  All or nothing: a configuration with an
 * error changes nothing.  Live deployments keep what was frozen when they began.
 */

#include <errno.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"
#include "daemon/notify_systemd.h"

void
conf_errors_log(const struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++) {
		const struct conf_error *e = &errors->v[i];

		if (e->line)
			log_event(LOG_KIND_CONFIG_ERROR, LOG_ERR, NULL, "%s:%u: %s", e->file,
				  e->line, e->text);
		else
			log_event(LOG_KIND_CONFIG_ERROR, LOG_ERR, NULL, "%s: %s", e->file, e->text);
	}
}

static struct target *
target_add(struct daemon *d, const struct conf_env *conf)
{
	struct target *t = xcalloc(1, sizeof *t);

	t->daemon = d;
	t->handle = d->n_targets;
	t->service = xstrdup(conf->service);
	t->environment = xstrdup(conf->name);
	t->last_state = DS_SUCCEEDED; /* none yet: nothing is live */
	d->targets = xrealloc(d->targets, (d->n_targets + 1) * sizeof *d->targets);
	d->targets[d->n_targets++] = t;
	return t;
}

/* Environments are spread over their grids by their names: the same at every start. */
static usec_t
spread_of(const struct target *t)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (const char *p = t->service; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
	for (const char *p = t->environment; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3ull;
	/* In steps of 10 ms: checks that are due together are started together, which is cheaper.
	 */
	return (usec_t)(h % 6000) * 10 * USEC_PER_MSEC;
}

static int
log_level_of(const char *name)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = {{"error", LOG_ERR},
		      {"warning", LOG_WARNING},
		      {"notice", LOG_NOTICE},
		      {"info", LOG_INFO},
		      {"debug", LOG_DEBUG}};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (streq(levels[i].name, name))
			return levels[i].level;
	return LOG_INFO;
}

static void
configure_one(struct daemon *d, const struct conf_env *conf)
{
	struct target *t = daemon_find(d, conf->service, conf->name);
	struct core_event e = {.kind = EV_CONFIGURE};

	if (!t)
		t = target_add(d, conf);
	t->conf = conf;
	e.env = t->handle;
	e.u.configure.service = t->service;
	e.u.configure.environment = t->environment;
	e.u.configure.policy = &conf->policy;
	e.u.configure.spread = spread_of(t);
	daemon_post(d, &e);
}

int
daemon_configure(struct daemon *d, struct conf *conf)
{
	struct conf *old = d->conf;

	for (unsigned i = 0; i < d->n_targets; i++)
		d->targets[i]->conf = NULL;
	for (struct conf_env **c = conf->envs; *c; c++)
		configure_one(d, *c);
	for (unsigned i = 0; i < d->n_targets; i++) {
		struct core_event e = {.kind = EV_REMOVE, .env = i};

		if (!d->targets[i]->conf)
			daemon_post(d, &e);
		target_observer(d->targets[i]); /* lets go of the old configuration */
	}
	log_set_level(log_level_of(conf->log_level));
	d->conf = conf;
	conf_free(old);
	return 0;
}

/* --- reload --- */

struct reload {
	struct job job; /* first */
	struct daemon *daemon;
	struct conf *conf; /* owned */
	struct conf_errors errors;
	int error;
};

static void
reload_work(struct job *j)
{
	struct reload *r = (struct reload *)j;

	r->error = conf_load(r->daemon->options.confdir, &r->conf, &r->errors);
}

static void
reload_done(struct job *j)
{
	struct reload *r = (struct reload *)j;
	struct daemon *d = r->daemon;

	if (d->stopping) {
		conf_free(r->conf);
	} else if (r->error < 0) {
		conf_errors_log(&r->errors);
		log_event(
			LOG_KIND_CONFIG_ERROR, LOG_ERR, NULL,
			"reload refused: %zu error%s; the configuration from before stays in force",
			r->errors.n, r->errors.n == 1 ? "" : "s");
	} else {
		daemon_configure(d, r->conf);
		log_event(LOG_KIND_CONFIG_LOADED, LOG_NOTICE, NULL,
			  "configuration reloaded; live deployments keep the one they began with");
	}
	conf_errors_free(&r->errors);
	d->reloading = false;
	if (!d->stopping) {
		daemon_status_line(d);
		notify_ready();
	}
	if (d->reload_again && !d->stopping) {
		d->reload_again = false;
		daemon_reload(d);
	}
	free(r);
}

void
daemon_reload(struct daemon *d)
{
	struct reload *r;

	if (d->reloading) {
		d->reload_again = true;
		return;
	}
	d->reloading = true;
	notify_reloading();
	r = xcalloc(1, sizeof *r);
	r->daemon = d;
	r->job.work = reload_work;
	r->job.done = reload_done;
	worker_submit(d->worker, &r->job);
}
