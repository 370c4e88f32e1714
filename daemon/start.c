/* SPDX-License-Identifier: Apache-2.0 */
/* The start: configuration, store, helpers, what the last life left, and the control socket last.
 */

#include <errno.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"
#include "daemon/leftovers.h"
#include "daemon/notify_systemd.h"

/* --- recovery --- */

/* An environment that left the configuration while its deployment was live is guarded to the end.
 */
static struct target *
target_recovered(struct daemon *d, const struct deployment *dep, const struct conf_env *frozen)
{
	struct target *t = daemon_find(d, dep->service, dep->environment);
	struct core_event e = {.kind = EV_CONFIGURE};

	if (t || dstate_ended(dep->state))
		return t;
	t = xcalloc(1, sizeof *t);
	t->daemon = d;
	t->handle = d->n_targets;
	t->service = xstrdup(dep->service);
	t->environment = xstrdup(dep->environment);
	d->targets = xrealloc(d->targets, (d->n_targets + 1) * sizeof *d->targets);
	d->targets[d->n_targets++] = t;
	e.env = t->handle;
	e.u.configure.service = t->service;
	e.u.configure.environment = t->environment;
	e.u.configure.policy = &frozen->policy;
	daemon_step(d, &e);
	return t;
}

static void
recover_one(struct daemon *d, struct store_recovered *r)
{
	struct core_event e = {.kind = EV_RECOVER};
	struct conf_env *frozen = NULL;
	struct conf_errors errors = {0};
	struct log_fields f = {
		.service = r->deployment.service,
		.environment = r->deployment.environment,
		.deployment = r->deployment.id,
		.tag = r->deployment.tag,
	};
	struct target *t;

	if (!r->config || conf_env_parse(r->config, &frozen, &errors) < 0) {
		log_event(LOG_KIND_UNGUARDED, LOG_CRIT, &f,
			  "cannot read the configuration frozen with %s: %s; it is not guarded any "
			  "more, "
			  "look after %s/%s by hand",
			  r->deployment.id, errors.n ? errors.v[0].text : "it is missing",
			  r->deployment.service, r->deployment.environment);
		conf_errors_free(&errors);
		return;
	}
	r->deployment.policy = frozen->policy;
	(void)session_restore(d->options.state_dir, r->deployment.id);
	t = target_recovered(d, &r->deployment, frozen);
	if (!t) {
		conf_env_free(frozen);
		return;
	}
	target_thaw(t);
	t->frozen = frozen;
	str_copy(t->frozen_id, sizeof t->frozen_id, r->deployment.id);
	str_copy(t->live_id, sizeof t->live_id, r->deployment.id);
	t->last_state = r->deployment.state;
	e.env = t->handle;
	e.u.recover.deployment = &r->deployment;
	e.u.recover.samples = r->samples;
	e.u.recover.n_samples = r->n_samples;
	e.u.recover.alerts = r->alerts;
	e.u.recover.n_alerts = r->n_alerts;
	daemon_step(d, &e);
	leftovers_mend(d, &r->deployment);
	if (!t->conf) {
		e = (struct core_event){.kind = EV_REMOVE, .env = t->handle};
		daemon_step(d, &e);
	}
}

/* --- parts --- */

static void
on_store_state(void *arg, const char *problem)
{
	struct daemon *d = arg;

	if (problem)
		log_event(
			LOG_KIND_READ_ONLY, LOG_CRIT, NULL,
			"READ-ONLY: %s; nothing is decided or started until it can be written down",
			problem);
	else
		log_event(LOG_KIND_WRITABLE, LOG_NOTICE, NULL,
			  "the store can be written again; %u samples of that time were not kept",
			  d->unkept);
	if (problem)
		effects_tell_waiting(d);
	else
		d->unkept = 0;
	daemon_status_line(d);
}

/* In the build tree the runner stands beside us; installed, where the prefix that we run from has
 * it. */
char *
daemon_find_runner(void)
{
	static const char *const places[] = {"", "/../libexec/dhashd"};
	char self[PATH_MAX_LEN];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	const char *slash;

	self[MAX(0, n)] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < ARRAY_SIZE(places); i++) {
		char *path = xasprintf("%.*s%s/dhash-hook", (int)(slash - self), self, places[i]);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return xstrdup(DHASH_LIBEXECDIR "/dhash-hook");
}

static int
open_store(struct daemon *d)
{
	char *path = xasprintf("%s/dhashd.db", d->options.state_dir), *note = NULL;
	int r = mkdir_p(d->options.state_dir, 0750);

	/* Every deployment's files hang on it; where it cannot be made, a deployment says so. */
	(void)session_restore(d->options.state_dir, NULL);
	if (r == 0)
		r = store_open(d->base, path, &d->store, &note);
	if (r == 0 && note)
		log_event(LOG_KIND_STORE_SET_ASIDE, LOG_CRIT, NULL, "%s", note);
	if (r == -EBUSY)
		log_start_failed(
			"cannot open %s: another dhashd has it; stop that one, or give --state "
			"another "
			"folder",
			path);
	else if (r == -ENOTSUP)
		log_start_failed(
			"cannot open %s: a newer version of dhashd wrote it; install that one "
			"again",
			path);
	else if (r < 0)
		log_start_failed("cannot open %s: %s; check the folder's owner and space, and the "
				 "limit of open files",
				 path, note ? note : strerror(-r));
	else
		store_on_state(d->store, on_store_state, d);
	if (r == -ENOTSUP)
		d->exit_status = EX_CONFIG; /* nor would another start help */
	free(note);
	free(path);
	return r;
}

static int
open_socket(struct daemon *d)
{
	struct ctl_config cfg = {.path = d->options.socket_path};
	char *error = NULL;
	int r = notify_listen_fd(&cfg.fd);

	if (r < 0) {
		log_start_failed(
			"the service manager passed something else than one listening Unix socket: "
			"check dhashd.socket");
		return r;
	}
	cfg.read_group = d->conf->read_group;
	cfg.operate_group = d->conf->operate_group;
	r = ctl_new(d->base, &cfg, &daemon_ctl_ops, d, &d->ctl, &error);
	if (r < 0)
		log_start_failed("%s", error ? error : strerror(-r));
	free(error);
	return r;
}

static int
load_state(struct daemon *d, struct store_clock *ret_last, struct store_recovered **ret,
	   size_t *ret_n)
{
	int r = store_load(d->store, ret_last, ret, ret_n);

	if (r < 0)
		log_start_failed(
			"cannot read the state in %s/dhashd.db: %s; the disk, or the file, "
			"is bad",
			d->options.state_dir, strerror(-r));
	return r;
}

/* Threads, descriptors and libcurl: what is lacking here is lacking in the machine. */
static int
start_helpers(struct daemon *d, unsigned threads)
{
	const char *what = "the workers";
	int r = worker_new(d->base, threads, &d->worker);

	if (r == 0) {
		what = "the writer of session files";
		r = scribe_new(d->base, d->options.state_dir, &d->scribe);
	}
	if (r == 0) {
		what = "the HTTP client";
		r = http_pool_new(d->base, &d->http);
	}
	if (r < 0)
		log_start_failed("cannot start %s: %s; look at the limits of memory, tasks and "
				 "descriptors of this service",
				 what, strerror(-r));
	return r;
}

int
daemon_load(struct daemon *d)
{
	struct store_clock last;
	struct store_recovered *recovered;
	struct core_event started = {.kind = EV_STARTED};
	struct conf_errors errors = {0};
	struct conf *conf;
	size_t n;
	int r = conf_load(d->options.confdir, &conf, &errors);

	if (r < 0) {
		conf_errors_log(&errors);
		conf_errors_free(&errors);
		if (r == -EINVAL) /* else systemd shall try again */
			d->exit_status = EX_CONFIG;
		return r;
	}
	r = open_store(d);
	if (r == 0)
		r = load_state(d, &last, &recovered, &n);
	if (r < 0) {
		conf_free(conf);
		return r;
	}
	clock_init(&d->clock, &last);
	d->core = core_new();
	r = start_helpers(d, conf->worker_threads);
	if (r == 0)
		r = daemon_configure(d, conf);
	else
		conf_free(conf);
	for (size_t i = 0; r == 0 && i < n; i++)
		recover_one(d, &recovered[i]);
	store_recovered_free(recovered, n);
	if (r == 0)
		leftovers_clear(d);
	if (r == 0)
		r = open_socket(d);
	if (r == 0)
		daemon_step(d, &started);
	return r;
}
