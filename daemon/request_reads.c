/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: at once from the core, later from the store, and from a worker where files are read.
 */

#include <errno.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/backup.h"
#include "daemon/requests_internal.h"

struct read_wish {
	struct daemon *daemon;
	struct ctl_request *request;
	const char *key;
	const struct target *target;
};

static struct read_wish *
read_new(struct daemon *d, struct ctl_request *r, const char *key)
{
	struct read_wish *w = xcalloc(1, sizeof *w);

	w->daemon = d;
	w->request = r;
	w->key = key;
	return w;
}

static void
on_rows(void *arg, int error, json_t *rows)
{
	struct read_wish *w = arg;

	if (error < 0)
		ctl_error(w->request, 500, "internal", NULL, "cannot read the store: %s",
			  strerror(-error));
	else
		ctl_reply(w->request, 200, NULL, json_pack("{s:o}", w->key, rows));
	free(w);
}

static void
add_session(struct daemon *d, json_t *deployment)
{
	char *path = session_path(d->options.state_dir, arg_text(deployment, "id"), NULL);

	json_object_set_new(deployment, "session", json_string(path));
	free(path);
}

static void
on_show(void *arg, int error, json_t *json)
{
	struct read_wish *w = arg;

	if (error == -ENOENT)
		ctl_error(w->request, 404, "not-found", NULL,
			  "there is no such deployment: dhash history shows all");
	else if (error < 0)
		ctl_error(w->request, 500, "internal", NULL, "cannot read the store: %s",
			  strerror(-error));
	else {
		add_session(w->daemon, json);
		ctl_reply(w->request, 200, NULL, json);
	}
	free(w);
}

void
request_show(struct daemon *d, struct ctl_request *r, const char *id)
{
	store_show(d->store, id, 100, on_show, read_new(d, r, NULL));
}

static void
on_explain(void *arg, int error, json_t *json)
{
	struct read_wish *w = arg;
	const struct target *t = w->target;

	if (error == -ENOENT && !t) {
		ctl_error(w->request, 404, "not-found", NULL,
			  "there is no such deployment: dhash history shows all");
	} else if (error < 0 && error != -ENOENT) {
		ctl_error(w->request, 500, "internal", NULL, "cannot read the store: %s",
			  strerror(-error));
	} else {
		if (!t)
			t = daemon_find(w->daemon, arg_text(json, "service"),
					arg_text(json, "environment"));
		ctl_reply(w->request, 200, NULL, status_explain(w->daemon, t, json));
		json_decref(json);
	}
	free(w);
}

void
request_explain(struct daemon *d, struct ctl_request *r, json_t *query)
{
	const char *id = arg_text(query, "deployment");
	struct read_wish *w;
	struct target *t = NULL;

	if (!*id) {
		t = request_target(d, r, query);
		if (!t)
			return;
		id = t->live_id;
	}
	w = read_new(d, r, NULL);
	w->target = t;
	store_show(d->store, id, 20, on_explain, w);
}

void
request_status(struct daemon *d, struct ctl_request *r, json_t *query)
{
	const char *service = arg_text(query, "service"),
		   *environment = arg_text(query, "environment");
	const char *problem = store_failed(d->store);
	json_t *envs = json_array();
	bool any = false;

	for (unsigned i = 0; i < d->n_targets; i++) {
		const struct target *t = d->targets[i];
		json_t *env;

		if ((*service && !streq(service, t->service)) ||
		    (*environment && !streq(environment, t->environment)))
			continue;
		env = status_environment(d, t);
		any |= env != NULL;
		json_array_append_new(envs, env);
	}
	if (!any && (*service || *environment)) {
		json_decref(envs);
		request_unknown(d, r, service, environment);
		return;
	}
	ctl_reply(r, 200, NULL,
		  json_pack("{s:i, s:o, s:{s:s, s:I, s:s, s:s?}}", "service_count",
			    (int)d->n_targets, "environments", envs, "daemon", "version",
			    DHASH_VERSION, "uptime_ms",
			    (json_int_t)((now_boottime() - d->started_boottime) / USEC_PER_MSEC),
			    "state", problem ? "read-only" : "running", "problem", problem));
}

void
request_version(struct daemon *d, struct ctl_request *r)
{
	char at[USEC_TEXT_MAX];

	ctl_reply(r, 200, NULL,
		  json_pack("{s:s, s:i, s:i, s:s, s:s, s:s}", "version", DHASH_VERSION, "protocol",
			    1, "pid", (int)getpid(), "started_at", wall_format(at, d->started_wall),
			    "config", d->options.confdir, "state", d->options.state_dir));
}

void
request_rows(struct daemon *d, struct ctl_request *r, enum ctl_op op, json_t *query)
{
	struct store_filter f = {.limit = (unsigned)strtoul(arg_text(query, "limit"), NULL, 10)};
	const char *service = arg_text(query, "service"),
		   *environment = arg_text(query, "environment");

	f.service = *service ? service : NULL;
	f.environment = *environment ? environment : NULL;
	if (op == CTL_HISTORY) {
		f.limit = f.limit ? f.limit : 50;
		store_history(d->store, &f, on_rows, read_new(d, r, "deployments"));
	} else {
		store_backups(d->store, &f, on_rows, read_new(d, r, "backups"));
	}
}

/* --- slow reads: on a worker --- */

struct check_job {
	struct job job; /* first */
	struct daemon *daemon;
	struct ctl_request *request;
	json_t *rows; /* owned */
	struct conf_errors errors;
	int error;
};

static void
verify_work(struct job *j)
{
	struct check_job *c = (struct check_job *)j;
	size_t i;
	json_t *row;

	json_array_foreach(c->rows, i, row)
	{
		char *why = NULL;
		int r = backup_verify(arg_text(row, "path"), arg_text(row, "sha256"), &j->cancelled,
				      NULL, &why);

		json_object_set_new(row, "ok", json_boolean(r == 0));
		json_object_set_new(row, "text",
				    json_string(r == 0 ? "verified"
						: why  ? why
						       : strerror(-r)));
		free(why);
	}
}

static void
verify_done(struct job *j)
{
	struct check_job *c = (struct check_job *)j;

	ctl_reply(c->request, 200, NULL, json_pack("{s:o}", "backups", c->rows));
	free(c);
}

static void
on_verify_rows(void *arg, int error, json_t *rows)
{
	struct read_wish *w = arg;
	struct check_job *c;

	if (error < 0) {
		on_rows(arg, error, rows);
		return;
	}
	c = xcalloc(1, sizeof *c);
	c->job.work = verify_work;
	c->job.done = verify_done;
	c->daemon = w->daemon;
	c->request = w->request;
	c->rows = rows;
	worker_submit(w->daemon->worker, &c->job);
	free(w);
}

void
request_verify(struct daemon *d, struct ctl_request *r, json_t *body)
{
	struct store_filter f = {0};
	const char *service = arg_text(body, "service"),
		   *environment = arg_text(body, "environment");

	f.service = *service ? service : NULL;
	f.environment = *environment ? environment : NULL;
	store_backups(d->store, &f, on_verify_rows, read_new(d, r, "backups"));
}

static void
config_work(struct job *j)
{
	struct check_job *c = (struct check_job *)j;
	struct conf *conf = NULL;

	c->error = conf_load(c->daemon->options.confdir, &conf, &c->errors);
	conf_free(conf);
}

static void
config_done(struct job *j)
{
	struct check_job *c = (struct check_job *)j;
	json_t *errors = json_array();

	for (size_t i = 0; i < c->errors.n; i++)
		json_array_append_new(
			errors, json_pack("{s:s, s:i, s:s}", "file", c->errors.v[i].file, "line",
					  (int)c->errors.v[i].line, "text", c->errors.v[i].text));
	ctl_reply(c->request, 200, NULL,
		  json_pack("{s:b, s:o}", "ok", c->error == 0, "errors", errors));
	conf_errors_free(&c->errors);
	free(c);
}

void
request_config(struct daemon *d, struct ctl_request *r)
{
	struct check_job *c = xcalloc(1, sizeof *c);

	c->job.work = config_work;
	c->job.done = config_done;
	c->daemon = d;
	c->request = r;
	worker_submit(d->worker, &c->job);
}

static void
on_events(void *arg, int error, json_t *rows)
{
	struct read_wish *w = arg;

	/* An empty list would pass for "nothing more happened". */
	if (error < 0)
		ctl_error(w->request, 500, "internal", NULL, "cannot read the events: %s",
			  strerror(-error));
	else
		ctl_events(w->request, rows);
	free(w);
}

void
request_events(void *arg, struct ctl_request *r, int64_t after, const char *deployment,
	       unsigned limit)
{
	struct daemon *d = arg;
	struct store_filter f = {
		.after = after, .deployment = deployment, .limit = limit ? limit : 1000};

	store_events(d->store, &f, on_events, read_new(d, r, NULL));
}
