/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deploy, rollback and abort: what can be refused at once is refused, the rest is the core's to
 * decide.
 */

#include <errno.h>
#include <sys/stat.h>

#include "common/util.h"
#include "daemon/release/admit.h"
#include "daemon/requests_internal.h"

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
	struct core_event e = {
		.kind = EV_DEPLOY, .env = w->target->handle, .request = w->asked->token};
	char id[DEPLOYMENT_ID_MAX];
	int r;

	str_copy(w->previous, sizeof w->previous, arg_text(facts, "in_place"));
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
	e.u.deploy.tag = arg_text(w->body, "tag");
	e.u.deploy.lead = arg_text(w->body, "lead");
	e.u.deploy.reason = arg_text(w->body, "reason");
	e.u.deploy.previous_tag = w->previous;
	e.u.deploy.force = arg_flag(w->body, "force");
	e.u.deploy.supersede = arg_flag(w->body, "supersede");
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

/* It goes into the environment of hooks, and into files of one line each. */
static bool
has_control(const char *s)
{
	char *shown = str_escape(s);
	bool r = !streq(shown, s);

	free(shown);
	return r;
}

void
request_deploy(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body)
{
	struct target *t = request_target(d, r, body);
	const char *tag = arg_text(body, "tag"), *lead = arg_text(body, "lead");
	struct gate_hooks hooks = daemon_gate_hooks(d, NULL);
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
	if (strlen(lead) >= NAME_MAX_LEN || strlen(arg_text(body, "reason")) >= TEXT_MAX_LEN) {
		ctl_error(r, 400, "bad-request", NULL,
			  "the lead may have 64 characters, the reason 255");
		return;
	}
	if (has_control(lead)) {
		ctl_error(r, 400, "bad-request", NULL, "the lead has control characters");
		return;
	}
	if (arg_flag(body, "force") && !*arg_text(body, "reason")) {
		ctl_error(r, 400, "bad-request", NULL,
			  "--force needs --reason: it is kept in the audit trail");
		return;
	}
	w = xcalloc(1, sizeof *w);
	w->daemon = d;
	w->target = t;
	w->body = json_incref(body);
	if (arg_flag(body, "dry_run")) {
		w->request = r;
		gates_run(d->store, &hooks, target_observer(t), t->conf, tag,
			  arg_flag(body, "force"), on_dry_run, w);
		return;
	}
	if (request_refuse_read_only(d, r)) {
		wish_free(w);
		return;
	}
	w->asked = asked_new(d, r, CTL_DEPLOY, p, t, arg_text(body, "reason"));
	store_tag_facts(d->store, t->service, t->environment, tag, on_deploy_facts, w);
}

/* --- rollback and abort --- */

/* A rollback to something named: it is looked for before anything is decided, as a slip would end
 * in a failed rollback that pages people. */
struct rollback_wish {
	struct job job; /* first: a job is cast back to its wish */
	struct daemon *daemon;
	struct target *target;
	struct asked *asked;
	json_t *body; /* owned */
	char *path;   /* owned: the backup, or the release's folder */
	int result;
};

static void
rollback_post(struct daemon *d, const struct target *t, const struct asked *a, const json_t *body)
{
	struct core_event e = {.kind = EV_ROLLBACK, .env = t->handle, .request = a->token};

	e.actor_uid = a->peer.uid;
	e.u.rollback.reason = arg_text(body, "reason");
	e.u.rollback.to = arg_text(body, "to");
	e.u.rollback.file = arg_text(body, "backup");
	e.u.rollback.force = arg_flag(body, "force");
	daemon_post(d, &e);
}

static void
rollback_wish_free(struct rollback_wish *w)
{
	json_decref(w->body);
	free(w->path);
	free(w);
}

static void
rollback_settle(struct rollback_wish *w, const char *problem)
{
	struct asked *a = w->asked;

	if (!problem) {
		rollback_post(w->daemon, w->target, a, w->body);
	} else {
		a = asked_take(w->daemon, a->token);
		ctl_error(a->request, 404, "not-found", NULL, "%s", problem);
		asked_free(a);
	}
	rollback_wish_free(w);
}

static void
look_work(struct job *j)
{
	struct rollback_wish *w = (struct rollback_wish *)j;
	bool release = *arg_text(w->body, "to") != '\0';
	struct stat st;

	if (stat(w->path, &st) < 0)
		w->result = -errno;
	else if (release ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
		w->result = release ? -ENOTDIR : -EINVAL;
}

static void
look_done(struct job *j)
{
	struct rollback_wish *w = (struct rollback_wish *)j;
	bool release = *arg_text(w->body, "to") != '\0';
	char text[PATH_MAX_LEN + 128];

	snprintf(text, sizeof text, "cannot find the %s %s: %s; %s", release ? "release" : "backup",
		 w->path, strerror(-w->result),
		 release ? "name one that is unpacked there"
			 : "dhash backups lists those there are");
	rollback_settle(w, w->result < 0 ? text : NULL);
}

static void
on_rows_of_tag(void *arg, int error, struct backup_row *rows, size_t n)
{
	struct rollback_wish *w = arg;
	const char *to = arg_text(w->body, "to");
	bool found = error < 0; /* what cannot be looked up is the choice's to judge */
	char text[TAG_MAX_LEN + 128];

	for (size_t i = 0; error == 0 && i < n; i++)
		found |= !rows[i].emergency && streq(rows[i].tag, to);
	snprintf(text, sizeof text,
		 "there is no backup of the release %s: dhash backups lists those there are", to);
	rollback_settle(w, found ? NULL : text);
}

/* A hook that is a unit is given files of the backup folder only: said now, not when it is run. */
static char *
backup_refused(const struct daemon *d, const struct target *t, const char *file)
{
	const struct conf_env *c = target_conf(t);
	char *folder, *why = NULL;

	if (!d->manager || !c || !c->rollback || !*file)
		return NULL;
	folder = conf_backup_folder(c, d->options.state_dir);
	admit_name(folder, file, &why);
	free(folder);
	return why;
}

static const char *
rollback_problem(const char *to, const char *file)
{
	if (*to && *file)
		return "--to and --backup are two ways to say where to: use one";
	if (*to && !tag_valid(to))
		return "--to: that is no release tag";
	if (*file && (*file != '/' || strlen(file) >= PATH_MAX_LEN))
		return "--backup wants an absolute path";
	return NULL;
}

void
request_rollback(struct daemon *d, struct ctl_request *r, const struct peer *p, json_t *body)
{
	struct target *t = request_target(d, r, body);
	const char *to = arg_text(body, "to"), *file = arg_text(body, "backup");
	const char *problem = rollback_problem(to, file);
	struct rollback_wish *w;
	struct asked *a;
	char *refused;

	if (!t || request_refuse_read_only(d, r))
		return;
	refused = problem ? NULL : backup_refused(d, t, file);
	if (problem || refused) {
		ctl_error(r, 400, "bad-request", NULL, "%s", problem ? problem : refused);
		free(refused);
		return;
	}
	a = asked_new(d, r, CTL_ROLLBACK, p, t, arg_text(body, "reason"));
	if (!*to && !*file) {
		rollback_post(d, t, a, body);
		return;
	}
	w = xcalloc(1, sizeof *w);
	w->daemon = d;
	w->target = t;
	w->asked = a;
	w->body = json_incref(body);
	if (*to && !target_uses_engine(t)) {
		store_backup_rows(d->store, t->service, t->environment, 0, on_rows_of_tag, w);
		return;
	}
	w->path = *to ? target_release_path(t, to) : xstrdup(file);
	w->job.work = look_work;
	w->job.done = look_done;
	worker_submit(d->worker, &w->job);
}

static struct target *
target_of_live(struct daemon *d, const char *id)
{
	for (unsigned i = 0; i < d->n_targets; i++)
		if (streq(d->targets[i]->live_id, id))
			return d->targets[i];
	return NULL;
}

void
request_abort(struct daemon *d, struct ctl_request *r, const struct peer *p, const char *id,
	      json_t *body)
{
	struct target *t = target_of_live(d, id);
	struct core_event e = {.kind = EV_ABORT, .actor_uid = p->uid};

	if (request_refuse_read_only(d, r))
		return;
	if (!t) {
		ctl_error(r, 404, "not-found", NULL,
			  "%s is no live deployment: dhash history shows all", id);
		return;
	}
	e.env = t->handle;
	e.request = asked_new(d, r, CTL_ABORT, p, t, arg_text(body, "reason"))->token;
	e.u.abort.reason = arg_text(body, "reason");
	daemon_post(d, &e);
}
