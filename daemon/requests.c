/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators' requests: reads are answered from the core's view or the store, acts become events and
 * are answered when the core has decided and that is on disk.  Every act, granted or not, is in the
 * audit trail with uid, pid and reason.
 */

#include <errno.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"
#include "daemon/release/backup.h"

static const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool
flag_of(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* --- audit --- */

static const char *const act_names[_CTL_OP_MAX] = {
	[CTL_DEPLOY] = "deploy",
	[CTL_ABORT] = "abort",
	[CTL_ROLLBACK] = "rollback",
	[CTL_BACKUPS_VERIFY] = "backups-verify",
};

static void
audit(struct daemon *d, const struct peer *p, enum ctl_op op, const char *target,
      const char *reason, bool granted, const char *text)
{
	struct store_clock pair = clock_pair(&d->clock);
	struct batch *b = batch_new(&pair);
	struct log_fields f = {.actor = true, .actor_uid = p->uid};
	const char *act = act_names[op] ? act_names[op] : ctl_routes[op].path;

	batch_audit(b, p->uid, p->pid, act, target, reason, granted);
	store_commit(d->store, b, NULL, NULL);
	log_event(LOG_KIND_REQUEST, granted ? LOG_NOTICE : LOG_WARNING, &f,
		  "%s %s by uid %u (pid %d): %s%s%s%s%s", act, target, (unsigned)p->uid,
		  (int)p->pid, granted ? "granted" : "refused", *text ? ": " : "", text,
		  reason && *reason ? "; reason: " : "", reason ? reason : "");
}

static void
on_denied(void *arg, enum ctl_op op, const struct peer *p)
{
	audit(arg, p, op, "-", NULL, false, "not in the group that may");
}

/* --- finding what a request is about --- */

/* The service may be left out where there is only one. */
static const char *
service_of(const struct daemon *d, const char *named)
{
	const char *only = NULL;

	if (*named)
		return named;
	for (unsigned i = 0; i < d->n_targets; i++) {
		if (!d->targets[i]->conf)
			continue;
		if (only && !streq(only, d->targets[i]->service))
			return NULL;
		only = d->targets[i]->service;
	}
	return only;
}

static void
complain_unknown(struct daemon *d, struct ctl_request *r, const char *service,
		 const char *environment)
{
	const char **names = xcalloc(d->n_targets + 1, sizeof *names), *near;
	size_t n = 0;

	for (unsigned i = 0; i < d->n_targets; i++)
		if (!*service || streq(d->targets[i]->service, service))
			names[n++] = d->targets[i]->environment;
	near = nearest_name(environment, names, n);
	if (n == 0)
		ctl_error(r, 404, "not-found", NULL,
			  "unknown service \"%s\": there is no services.d/%s.conf", service,
			  service);
	else
		ctl_error(r, 404, "not-found", NULL,
			  "unknown environment \"%s\" of service %s%s%s%s", environment,
			  *service ? service : "(any)", near ? "; did you mean \"" : "",
			  near ? near : "", near ? "\"?" : "");
	free(names);
}

/* NULL after an answer was given. */
static struct target *
find(struct daemon *d, struct ctl_request *r, const json_t *args)
{
	const char *service = service_of(d, text_of(args, "service"));
	const char *environment = text_of(args, "environment");
	struct target *t;

	if (!*environment) {
		ctl_error(r, 400, "bad-request", NULL, "name the environment: --env NAME");
		return NULL;
	}
	if (!service) {
		ctl_error(r, 400, "bad-request", NULL,
			  "there are several services, or none: name one");
		return NULL;
	}
	t = daemon_find(d, service, environment);
	if (!t)
		complain_unknown(d, r, service, environment);
	return t;
}

static bool
read_only(struct daemon *d, struct ctl_request *r)
{
	const char *problem = store_failed(d->store);

	if (problem)
		ctl_error(r, 503, "read-only", NULL, "dhashd is read-only: %s; mend that first",
			  problem);
	return problem != NULL;
}

/* --- acts: asked, and answered by the core --- */

static struct asked *
ask(struct daemon *d, struct ctl_request *r, enum ctl_op op, const struct peer *p,
    const struct target *t, const char *reason)
{
	struct asked *a = xcalloc(1, sizeof *a);

	a->token = ++d->next_token;
	a->request = r;
	a->op = op;
	a->peer = *p;
	a->target = xasprintf("%s/%s", t->service, t->environment);
	a->reason = xstrdup(reason);
	a->next = d->asked;
	d->asked = a;
	return a;
}

static struct asked *
asked_take(struct daemon *d, uint64_t token)
{
	for (struct asked **p = &d->asked; *p; p = &(*p)->next) {
		struct asked *a = *p;

		if (a->token != token)
			continue;
		*p = a->next;
		return a;
	}
	return NULL;
}

static void
asked_free(struct asked *a)
{
	free(a->target);
	free(a->reason);
	free(a);
}

void
requests_answer(struct daemon *d, const struct effect *f)
{
	static const struct {
		int status;
		const char *kind;
	} errors[] = {
		[REPLY_BUSY] = {409, "busy"},
		[REPLY_NOT_FOUND] = {404, "not-found"},
		[REPLY_REFUSED] = {409, "refused"},
	};
	struct asked *a = asked_take(d, f->u.reply.request);
	const char *id = f->u.reply.deployment;
	enum reply_kind kind = f->u.reply.kind;
	char *location;

	if (!a)
		return;
	audit(d, &a->peer, a->op, a->target, a->reason, kind == REPLY_OK, f->u.reply.text);
	if (kind != REPLY_OK) {
		ctl_error(a->request, errors[kind].status, errors[kind].kind,
			  *id ? json_pack("{s:s}", "deployment", id) : NULL, "%s", f->u.reply.text);
	} else {
		location = xasprintf("/v1/deployments/%s", id);
		ctl_reply(a->request, a->op == CTL_ABORT ? 200 : 202, location,
			  json_pack("{s:s, s:s, s:s}", "id", id, "state",
				    dstate_name(f->deployment->state), "text", f->u.reply.text));
		free(location);
	}
	asked_free(a);
}

void
requests_drop(struct daemon *d)
{
	while (d->asked) {
		struct asked *a = asked_take(d, d->asked->token);

		ctl_error(a->request, 503, "stopping", NULL,
			  "dhashd is stopping; when it is back, dhash history shows what became of "
			  "it");
		asked_free(a);
	}
}

/* --- deploy --- */

struct deploy_wish {
	struct daemon *daemon;
	struct target *target;
	struct asked *asked;
	json_t *body;                /* owned */
	struct ctl_request *request; /* dry run */
	char previous[TAG_MAX_LEN];
};

static void
wish_free(struct deploy_wish *w)
{
	json_decref(w->body);
	free(w);
}

/* deploy-YYYYmmdd-HHMMSS, with -2, -3 … when the folder is there already. */
static int
new_id(struct daemon *d, char id[DEPLOYMENT_ID_MAX])
{
	char stamp[USEC_TEXT_MAX];
	int r = -EEXIST;

	wall_format_compact(stamp, now_realtime());
	for (unsigned n = 1; r == -EEXIST && n < 10000; n++) {
		if (n == 1)
			snprintf(id, DEPLOYMENT_ID_MAX, "deploy-%.15s", stamp);
		else
			snprintf(id, DEPLOYMENT_ID_MAX, "deploy-%.15s-%u", stamp, n);
		r = session_reserve(d->options.state_dir, id);
	}
	return r;
}

static void
wish_fails(struct deploy_wish *w, int error, const char *what)
{
	struct asked *a = asked_take(w->daemon, w->asked->token);

	ctl_error(a->request, 500, "internal", NULL, "cannot %s: %s", what, strerror(-error));
	asked_free(a);
	wish_free(w);
}

static void
on_deploy_facts(void *arg, int error, json_t *facts)
{
	struct deploy_wish *w = arg;
	struct event e = {.kind = EV_DEPLOY, .env = w->target->handle, .request = w->asked->token};
	char id[DEPLOYMENT_ID_MAX];
	int r;

	str_copy(w->previous, sizeof w->previous, text_of(facts, "in_place"));
	json_decref(facts);
	if (error < 0) {
		wish_fails(w, error, "ask the store what was deployed before");
		return;
	}
	r = new_id(w->daemon, id);
	if (r < 0) {
		wish_fails(w, r, "make the session's folder in the state directory");
		return;
	}
	e.actor_uid = w->asked->peer.uid;
	e.u.deploy.id = id;
	e.u.deploy.tag = text_of(w->body, "tag");
	e.u.deploy.lead = text_of(w->body, "lead");
	e.u.deploy.reason = text_of(w->body, "reason");
	e.u.deploy.previous_tag = w->previous;
	e.u.deploy.force = flag_of(w->body, "force");
	e.u.deploy.supersede = flag_of(w->body, "supersede");
	daemon_post(w->daemon, &e);
	wish_free(w);
}

static void
plan_line(json_t *plan, const char *what, char *const *argv)
{
	json_array_append_new(plan, json_sprintf("%s: %s%s", what, argv ? argv[0] : "",
						 argv && argv[1] ? " …" : ""));
}

static json_t *
plan_of(const struct conf_env *c)
{
	json_t *plan = json_array();
	char span[USEC_TEXT_MAX];

	if (c->backup_paths)
		plan_line(plan, "back up", c->backup_paths);
	if (c->deploy)
		plan_line(plan, "run the deploy hook", c->deploy);
	else
		json_array_append_new(plan,
				      json_sprintf("unpack %s and make it current", c->artifact));
	if (!c->deploy && c->restart)
		plan_line(plan, "run the restart hook", c->restart);
	json_array_append_new(
		plan, json_sprintf("settle for %s", usec_format(span, c->policy.settle_usec)));
	for (unsigned i = 0; i < c->policy.n_phases; i++) {
		const struct phase *p = &c->policy.phases[i];
		char until[USEC_TEXT_MAX];

		json_array_append_new(plan,
				      json_sprintf("watch, phase %s: every %s until T+%s", p->name,
						   usec_format(span, p->interval_usec),
						   usec_format(until, p->until_usec)));
	}
	return plan;
}

static void
on_dry_run(void *arg, const struct gates *g)
{
	struct deploy_wish *w = arg;
	json_t *gates = json_array();

	for (size_t i = 0; i < g->n; i++)
		json_array_append_new(gates,
				      json_pack("{s:s, s:b, s:b, s:s}", "name", g->v[i].name, "ok",
						(int)g->v[i].ok, "overridden",
						(int)g->v[i].overridden, "text", g->v[i].text));
	ctl_reply(w->request, 200, NULL,
		  json_pack("{s:b, s:b, s:o, s:o}", "dry_run", 1, "ok", (int)g->ok, "gates", gates,
			    "plan", w->target->conf ? plan_of(w->target->conf) : json_array()));
	wish_free(w);
}

static void
deploy(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body)
{
	struct target *t = find(d, r, body);
	const char *tag = text_of(body, "tag"), *lead = text_of(body, "lead");
	struct deploy_wish *w;

	if (!t)
		return;
	if (!t->conf) {
		ctl_error(r, 404, "not-found", NULL, "%s/%s is no longer configured", t->service,
			  t->environment);
		return;
	}
	if (!tag_valid(tag)) {
		ctl_error(r, 400, "bad-request", NULL,
			  "\"%s\" is no release tag: A-Z a-z 0-9 . _ + - only, at most 128, not "
			  "beginning "
			  "with . or -",
			  tag);
		return;
	}
	if (strlen(lead) >= NAME_MAX_LEN || strlen(text_of(body, "reason")) >= TEXT_MAX_LEN) {
		ctl_error(r, 400, "bad-request", NULL,
			  "the lead may have 64 characters, the reason 255");
		return;
	}
	if (flag_of(body, "force") && !*text_of(body, "reason")) {
		ctl_error(r, 400, "bad-request", NULL,
			  "--force needs --reason: it is kept in the audit trail");
		return;
	}
	w = xcalloc(1, sizeof *w);
	w->daemon = d;
	w->target = t;
	w->body = json_incref(body);
	if (flag_of(body, "dry_run")) {
		w->request = r;
		gates_run(d->store, target_observer(t), t->conf, tag, flag_of(body, "force"),
			  on_dry_run, w);
		return;
	}
	if (read_only(d, r)) {
		wish_free(w);
		return;
	}
	w->asked = ask(d, r, CTL_DEPLOY, p, t, text_of(body, "reason"));
	store_tag_facts(d->store, t->service, t->environment, tag, on_deploy_facts, w);
}

/* --- rollback and abort --- */

static void
rollback(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body)
{
	struct target *t = find(d, r, body);
	const char *to = text_of(body, "to"), *file = text_of(body, "backup"),
		   *reason = text_of(body, "reason");
	struct event e = {.kind = EV_ROLLBACK, .actor_uid = p->uid};

	if (!t || read_only(d, r))
		return;
	if (*to && *file) {
		ctl_error(r, 400, "bad-request", NULL,
			  "--to and --backup are two ways to say where to: use one");
		return;
	}
	if (*to && !tag_valid(to)) {
		ctl_error(r, 400, "bad-request", NULL, "\"%s\" is no release tag", to);
		return;
	}
	if (*file && (*file != '/' || strlen(file) >= PATH_MAX_LEN)) {
		ctl_error(r, 400, "bad-request", NULL, "--backup wants an absolute path: %s", file);
		return;
	}
	e.env = t->handle;
	e.request = ask(d, r, CTL_ROLLBACK, p, t, reason)->token;
	e.u.rollback.reason = reason;
	e.u.rollback.to = to;
	e.u.rollback.file = file;
	e.u.rollback.force = flag_of(body, "force");
	daemon_post(d, &e);
}

static struct target *
target_of_live(struct daemon *d, const char *id)
{
	for (unsigned i = 0; i < d->n_targets; i++)
		if (streq(d->targets[i]->live_id, id))
			return d->targets[i];
	return NULL;
}

static void
abort_deployment(struct daemon *d, struct ctl_request *r, const struct peer *p, const char *id,
		 json_t *body)
{
	struct target *t = target_of_live(d, id);
	struct event e = {.kind = EV_ABORT, .actor_uid = p->uid};

	if (read_only(d, r))
		return;
	if (!t) {
		ctl_error(r, 404, "not-found", NULL,
			  "%s is no live deployment: dhash history shows all", id);
		return;
	}
	e.env = t->handle;
	e.request = ask(d, r, CTL_ABORT, p, t, text_of(body, "reason"))->token;
	e.u.abort.reason = text_of(body, "reason");
	daemon_post(d, &e);
}

/* --- reads --- */

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
	char *path = session_path(d->options.state_dir, text_of(deployment, "id"), NULL);

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
			t = daemon_find(w->daemon, text_of(json, "service"),
					text_of(json, "environment"));
		ctl_reply(w->request, 200, NULL, status_explain(w->daemon, t, json));
		json_decref(json);
	}
	free(w);
}

static void
explain(struct daemon *d, struct ctl_request *r, json_t *query)
{
	const char *id = text_of(query, "deployment");
	struct read_wish *w;
	struct target *t = NULL;

	if (!*id) {
		t = find(d, r, query);
		if (!t)
			return;
		id = t->live_id;
	}
	w = read_new(d, r, NULL);
	w->target = t;
	store_show(d->store, id, 20, on_explain, w);
}

static void
status(struct daemon *d, struct ctl_request *r, json_t *query)
{
	const char *service = text_of(query, "service"),
		   *environment = text_of(query, "environment");
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
		complain_unknown(d, r, service, environment);
		return;
	}
	ctl_reply(r, 200, NULL,
		  json_pack("{s:i, s:o, s:{s:s, s:I, s:s, s:s?}}", "service_count",
			    (int)d->n_targets, "environments", envs, "daemon", "version",
			    DHASH_VERSION, "uptime_ms",
			    (json_int_t)((now_boottime() - d->started_boottime) / USEC_PER_MSEC),
			    "state", problem ? "read-only" : "running", "problem", problem));
}

static void
version(struct daemon *d, struct ctl_request *r)
{
	char at[USEC_TEXT_MAX];

	ctl_reply(r, 200, NULL,
		  json_pack("{s:s, s:i, s:i, s:s, s:s, s:s}", "version", DHASH_VERSION, "protocol",
			    1, "pid", (int)getpid(), "started_at", wall_format(at, d->started_wall),
			    "config", d->options.confdir, "state", d->options.state_dir));
}

static void
read_rows(struct daemon *d, struct ctl_request *r, enum ctl_op op, json_t *query)
{
	struct store_filter f = {.limit = (unsigned)strtoul(text_of(query, "limit"), NULL, 10)};
	const char *service = text_of(query, "service"),
		   *environment = text_of(query, "environment");

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
		int r = backup_verify(text_of(row, "path"), text_of(row, "sha256"), &j->cancelled,
				      &why);

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

static void
verify_backups(struct daemon *d, struct ctl_request *r, json_t *body)
{
	struct store_filter f = {0};
	const char *service = text_of(body, "service"), *environment = text_of(body, "environment");

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

static void
check_config(struct daemon *d, struct ctl_request *r)
{
	struct check_job *c = xcalloc(1, sizeof *c);

	c->job.work = config_work;
	c->job.done = config_done;
	c->daemon = d;
	c->request = r;
	worker_submit(d->worker, &c->job);
}

/* --- dispatch --- */

static void
on_request(void *arg, struct ctl_request *r, enum ctl_op op, const struct peer *p, const char *id,
	   json_t *query, json_t *body)
{
	struct daemon *d = arg;

	switch (op) {
	case CTL_VERSION:
		version(d, r);
		break;
	case CTL_STATUS:
		status(d, r, query);
		break;
	case CTL_HISTORY:
	case CTL_BACKUPS:
		read_rows(d, r, op, query);
		break;
	case CTL_SHOW:
		store_show(d->store, id, 100, on_show, read_new(d, r, NULL));
		break;
	case CTL_EXPLAIN:
		explain(d, r, query);
		break;
	case CTL_DEPLOY:
		deploy(d, r, p, body);
		break;
	case CTL_ABORT:
		abort_deployment(d, r, p, id, body);
		break;
	case CTL_ROLLBACK:
		rollback(d, r, p, body);
		break;
	case CTL_BACKUPS_VERIFY:
		verify_backups(d, r, body);
		break;
	case CTL_CONFIG_CHECK:
		check_config(d, r);
		break;
	default:
		ctl_error(r, 500, "internal", NULL, "this request has no handler");
		break;
	}
}

static void
on_events(void *arg, int error, json_t *rows)
{
	struct read_wish *w = arg;

	ctl_events(w->request, error < 0 ? json_array() : rows);
	free(w);
}

static void
on_stream(void *arg, struct ctl_request *r, int64_t after, const char *deployment, unsigned limit)
{
	struct daemon *d = arg;
	struct store_filter f = {
		.after = after, .deployment = deployment, .limit = limit ? limit : 1000};

	store_events(d->store, &f, on_events, read_new(d, r, NULL));
}

const struct ctl_ops daemon_ctl_ops = {
	.request = on_request,
	.events = on_stream,
	.denied = on_denied,
};
