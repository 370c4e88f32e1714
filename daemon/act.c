/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acts on a target: gates, backup, choice of what to go back to, deploy, rollback.  Each is
 * started by an effect and answers with one event that repeats the effect's attempt.  Each may be
 * started again for the same attempt after a restart: files are made beside and renamed, hooks know
 * their transaction.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"
#include "daemon/release/backup.h"

enum act_kind { ACT_GATES, ACT_BACKUP, ACT_CHOOSE, ACT_DEPLOY, ACT_ROLLBACK };

struct act {
	struct job job; /* first: act_of_job() */
	struct act *next;
	struct target *target; /* NULL: the target is gone, only clean up */
	struct daemon *daemon;
	enum act_kind kind;
	unsigned attempt;
	struct deployment d;   /* as it was when the act began */
	struct conf_env *conf; /* owned: a reload or the next deployment must not take it away */
	struct hook *hook;     /* running */
	bool in_worker, emergency, cancelled;

	/* what the worker works on, and finds */
	char *file;      /* owned */
	char *note_path; /* owned: remembers the release from before a deploy */
	struct backup_made made;
	struct backup_row *rows; /* owned: candidates, best first */
	size_t n_rows, chosen;
	unsigned n_corrupt;
	bool any_verified;
	char *error; /* owned */
	int result;
};

/* --- life of an act --- */

static struct conf_env *
conf_copy(const struct conf_env *conf)
{
	struct conf_errors errors = {0};
	struct conf_env *copy = NULL;
	char *text = conf_env_dump(conf);

	if (conf_env_parse(text, &copy, &errors) < 0)
		log_error("cannot copy a configuration: %s; this is a mistake in dhashd",
			  errors.n ? errors.v[0].text : "unknown");
	conf_errors_free(&errors);
	free(text);
	return copy;
}

static struct act *
act_new(struct target *t, enum act_kind kind, const struct deployment *d, unsigned attempt)
{
	struct act *a = xcalloc(1, sizeof *a);

	a->target = t;
	a->daemon = t->daemon;
	a->kind = kind;
	a->attempt = attempt;
	a->d = *d;
	a->conf = conf_copy(t->frozen ? t->frozen : t->conf);
	a->next = t->acts;
	t->acts = a;
	return a;
}

static void
act_free(struct act *a)
{
	if (a->target) {
		struct act **p = &a->target->acts;

		while (*p != a)
			p = &(*p)->next;
		*p = a->next;
	}
	conf_env_free(a->conf);
	free(a->file);
	free(a->note_path);
	free(a->rows);
	free(a->error);
	free(a);
}

static void
answer(struct act *a, struct event *e)
{
	struct target *t = a->target;

	if (!t)
		return;
	e->env = t->handle;
	e->attempt = a->attempt;
	daemon_post(a->daemon, e);
}

static void
answer_hook(struct act *a, enum hook_outcome outcome, const char *text)
{
	struct event e = {.kind = EV_HOOK};

	e.u.hook.outcome = outcome;
	e.u.hook.text = text;
	answer(a, &e);
	act_free(a);
}

static void
submit(struct act *a, void (*work)(struct job *), void (*done)(struct job *))
{
	a->job.work = work;
	a->job.done = done;
	a->in_worker = true;
	worker_submit(a->daemon->worker, &a->job);
}

void
act_cancel(struct target *t)
{
	for (struct act *a = t->acts; a; a = a->next) {
		a->cancelled = true;
		job_cancel(&a->job);
		if (a->hook)
			hook_cancel(a->hook);
	}
}

void
act_detach_all(struct target *t)
{
	while (t->acts) {
		struct act *a = t->acts;

		t->acts = a->next;
		a->target = NULL;
		if (a->hook) {
			hook_detach(a->hook);
			act_free(a);
		} else if (a->in_worker) {
			job_cancel(&a->job); /* freed by its done() */
		}
		/* else a query of the store is under way, and its answer frees it */
	}
}

/* --- gates --- */

static void
on_gates(void *arg, const struct gates *g)
{
	struct act *a = arg;
	struct event e = {.kind = EV_GATES};
	char text[TEXT_MAX_LEN * 2];

	gates_describe(g, text, sizeof text);
	for (size_t i = 0; a->target && i < g->n; i++)
		session_log(a->daemon->scribe, a->d.id, "session.log", now_realtime(),
			    "gate %s %s: %s", g->v[i].name,
			    g->v[i].overridden ? "overridden"
			    : g->v[i].ok       ? "passed"
					       : "FAILED",
			    g->v[i].text);
	e.u.done.ok = g->ok;
	e.u.done.text = text;
	answer(a, &e);
	act_free(a);
}

void
act_gates(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_GATES, d, attempt);

	gates_run(t->daemon->store, target_observer(t), a->conf, d->tag, d->forced, on_gates, a);
}

/* --- backup --- */

static char *
backup_folder(const struct act *a)
{
	return a->conf->backup_dir ? xstrdup(a->conf->backup_dir)
				   : xasprintf("%s/backups", a->daemon->options.state_dir);
}

/*
 * The guide's names, to the second; "-2" follows where that is taken, so that no backup is ever
 * written over.  Emergency backups hold a broken release: they must not be "the latest backup".
 */
static char *
backup_name(const struct act *a, const char *folder)
{
	char stamp[USEC_TEXT_MAX], *path;

	wall_format_compact(stamp, a->d.entered_wall);
	path = xasprintf("%s/%s%s-%s-%s.zip", folder, a->emergency ? "emergency-" : "",
			 a->d.service, a->d.environment, stamp);
	for (unsigned n = 2; faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0; n++) {
		free(path);
		path = xasprintf("%s/%s%s-%s-%s-%u.zip", folder, a->emergency ? "emergency-" : "",
				 a->d.service, a->d.environment, stamp, n);
	}
	return path;
}

static const char *
root_of(const struct conf_env *conf)
{
	return conf->working_directory ? conf->working_directory : "/";
}

static void
backup_work(struct job *j)
{
	struct act *a = (struct act *)j;
	char *folder = backup_folder(a);

	a->result = mkdir_p(folder, 0750);
	if (a->result < 0)
		a->error = xasprintf("cannot make %s: %s; create it, writable by dhashd", folder,
				     strerror(-a->result));
	if (a->result == 0) {
		a->file = backup_name(a, folder);
		a->result = backup_create(a->file, root_of(a->conf), a->conf->backup_paths,
					  &a->job.cancelled, &a->made, &a->error);
	}
	free(folder);
}

static void
backup_answer(struct act *a)
{
	struct event e = {.kind = EV_BACKUP};
	char text[TEXT_MAX_LEN * 2];

	if (a->result < 0)
		snprintf(text, sizeof text, "%s", a->error ? a->error : strerror(-a->result));
	else
		snprintf(text, sizeof text, "%s, %lu entries, %lld bytes, sha256 %s", a->file,
			 a->made.entries, (long long)a->made.bytes, a->made.sha256);
	e.u.done.ok = a->result == 0;
	e.u.done.text = text;
	e.u.done.path = a->file ? a->file : "";
	e.u.done.sha256 = a->made.sha256;
	answer(a, &e);
	act_free(a);
}

static void
on_backup_recorded(void *arg)
{
	backup_answer(arg);
}

static void
backup_done(struct job *j)
{
	struct act *a = (struct act *)j;
	struct backup_row row = {.emergency = a->emergency, .bytes = a->made.bytes};
	struct store_clock pair = clock_pair(&a->daemon->clock);
	struct batch *b;

	a->in_worker = false;
	if (a->result < 0 || !a->target) {
		backup_answer(a);
		return;
	}
	/* Its digest is in the database before anything may rely on the file. */
	str_copy(row.path, sizeof row.path, a->file);
	str_copy(row.sha256, sizeof row.sha256, a->made.sha256);
	str_copy(row.service, sizeof row.service, a->d.service);
	str_copy(row.environment, sizeof row.environment, a->d.environment);
	str_copy(row.deployment, sizeof row.deployment, a->d.id);
	str_copy(row.tag, sizeof row.tag, a->emergency ? a->d.tag : a->d.previous_tag);
	row.created_wall = a->d.entered_wall;
	row.verified_wall = now_realtime();
	b = batch_new(&pair);
	batch_backup(b, &row);
	store_commit(a->daemon->store, b, on_backup_recorded, a);
}

void
act_backup(struct target *t, const struct deployment *d, unsigned attempt, bool emergency)
{
	struct act *a = act_new(t, ACT_BACKUP, d, attempt);

	a->emergency = emergency;
	submit(a, backup_work, backup_done);
}

/* --- choosing what to go back to --- */

static void
choose_answer(struct act *a, bool ok, const char *path, bool verified, const char *text)
{
	bool from_rows = ok && a->rows && a->any_verified;
	struct event e = {.kind = EV_TARGET};

	e.u.done.ok = ok;
	e.u.done.path = path;
	e.u.done.sha256 = from_rows ? a->rows[a->chosen].sha256 : "";
	e.u.done.verified = verified;
	e.u.done.corrupt = a->n_corrupt;
	e.u.done.text = text;
	answer(a, &e);
	act_free(a);
}

static bool
uses_engine(const struct conf_env *c)
{
	return c->artifact && !c->rollback;
}

static char *
previous_release_note(const struct daemon *d, const char *id)
{
	return session_path(d->options.state_dir, id, "hooks/previous-release");
}

static void
choose_release_work(struct job *j)
{
	struct act *a = (struct act *)j;
	size_t len;

	if (a->d.rollback_to[0])
		a->file = xstrdup(a->d.rollback_to);
	else if (file_read(AT_FDCWD, a->note_path, 256, &a->file, &len) < 0)
		a->file = xstrdup(a->d.previous_tag);
	a->file[strcspn(a->file, "\n")] = '\0';
}

static void
choose_release_done(struct job *j)
{
	struct act *a = (struct act *)j;
	char text[TEXT_MAX_LEN], path[PATH_MAX_LEN];

	a->in_worker = false;
	if (!tag_valid(a->file)) {
		choose_answer(a, false, "", false,
			      "there was no release before this one: name one with dhash rollback "
			      "--to TAG");
		return;
	}
	snprintf(path, sizeof path, "releases/%s", a->file);
	snprintf(text, sizeof text, "release %s", a->file);
	choose_answer(a, true, path, true, text);
}

/* Its own backup first, then newest to oldest; never an emergency one, unless it was named. */
static bool
candidate(const struct act *a, const struct backup_row *r)
{
	if (a->d.rollback_file[0])
		return streq(r->path, a->d.rollback_file);
	if (r->emergency)
		return false;
	if (a->d.rollback_to[0])
		return streq(r->tag, a->d.rollback_to);
	return true;
}

static void
candidates(struct act *a, const struct backup_row *rows, size_t n)
{
	a->rows = xcalloc(n + 2, sizeof *a->rows);
	for (size_t i = 0; i < n; i++)
		if (streq(rows[i].path, a->d.backup) && candidate(a, &rows[i]))
			a->rows[a->n_rows++] = rows[i];
	for (size_t i = 0; i < n; i++)
		if (!streq(rows[i].path, a->d.backup) && candidate(a, &rows[i]))
			a->rows[a->n_rows++] = rows[i];
	/* A file that dhashd did not make is judged by its sidecar alone. */
	if (a->d.rollback_file[0] && a->n_rows == 0)
		str_copy(a->rows[a->n_rows++].path, PATH_MAX_LEN, a->d.rollback_file);
}

static void
choose_backup_work(struct job *j)
{
	struct act *a = (struct act *)j;

	for (a->chosen = 0; a->chosen < a->n_rows; a->chosen++) {
		struct backup_row *r = &a->rows[a->chosen];
		char *error = NULL;
		int e = backup_verify(r->path, r->sha256[0] ? r->sha256 : NULL, &a->job.cancelled,
				      &error);

		if (e == 0) {
			a->any_verified = true;
			free(error);
			return;
		}
		/* Only what was read and is wrong is corrupt for good; the rest may be back
		 * tomorrow. */
		r->corrupt = e == -EBADMSG;
		a->n_corrupt += e != -ECANCELED;
		if (!a->error)
			a->error = error;
		else
			free(error);
		if (e == -ECANCELED)
			return;
	}
}

static void
record_verification(struct act *a)
{
	struct store_clock pair = clock_pair(&a->daemon->clock);
	struct batch *b = batch_new(&pair);

	for (size_t i = 0; i < a->n_rows && i <= a->chosen; i++) {
		struct backup_row *r = &a->rows[i];

		if (r->service[0] == '\0')
			continue; /* not ours */
		if (i == a->chosen)
			r->verified_wall = pair.wall;
		batch_backup(b, r);
		if (i < a->chosen)
			log_event(LOG_KIND_BACKUP_CORRUPT, LOG_CRIT, NULL,
				  "backup %s does not verify: %s", r->path,
				  a->error ? a->error : "unknown");
	}
	store_commit(a->daemon->store, b, NULL, NULL);
}

static bool
needs_backup(const struct act *a)
{
	return !a->conf->rollback || specifiers_use(a->conf->rollback, 'b');
}

static void
choose_backup_done(struct job *j)
{
	struct act *a = (struct act *)j;
	char text[TEXT_MAX_LEN * 2];

	a->in_worker = false;
	if (!a->target) {
		act_free(a);
		return;
	}
	record_verification(a);
	if (a->any_verified && a->n_corrupt == 0) {
		snprintf(text, sizeof text, "%.400s, verified", a->rows[a->chosen].path);
		choose_answer(a, true, a->rows[a->chosen].path, true, text);
	} else if (a->any_verified) {
		snprintf(text, sizeof text, "%.200s, verified; %u newer did not verify (%.200s)",
			 a->rows[a->chosen].path, a->n_corrupt, a->error ? a->error : "");
		choose_answer(a, true, a->rows[a->chosen].path, true, text);
	} else if (a->n_rows > 0 && a->d.rollback_forced) {
		snprintf(text, sizeof text, "%.200s, NOT VERIFIED, used by force (%.200s)",
			 a->rows[0].path, a->error ? a->error : "");
		choose_answer(a, true, a->rows[0].path, false, text);
	} else if (!needs_backup(a)) {
		snprintf(text, sizeof text,
			 "no backup that verifies, and the rollback hook needs none");
		choose_answer(a, true, "", a->n_corrupt == 0, text);
	} else if (a->n_rows > 0) {
		snprintf(text, sizeof text,
			 "no backup verifies (%.300s); dhash rollback --force would use "
			 "one unverified",
			 a->error ? a->error : "");
		choose_answer(a, false, "", false, text);
	} else {
		choose_answer(a, false, "", false,
			      "there is no backup from before this deployment: name one with "
			      "--backup FILE");
	}
}

static void
on_backup_rows(void *arg, int error, struct backup_row *rows, size_t n)
{
	struct act *a = arg;

	if (!a->target) {
		act_free(a);
		return;
	}
	if (error < 0)
		log_warning("cannot list the backups of %s/%s: %s", a->d.service, a->d.environment,
			    strerror(-error));
	candidates(a, rows, error < 0 ? 0 : n);
	submit(a, choose_backup_work, choose_backup_done);
}

void
act_choose(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_CHOOSE, d, attempt);

	if (uses_engine(a->conf) && !d->rollback_file[0]) {
		a->note_path = previous_release_note(t->daemon, d->id);
		submit(a, choose_release_work, choose_release_done);
		return;
	}
	/* A backup named by hand may be any; else only what was taken before this deployment began
	 * to change the target: its own is taken after it was created. */
	store_backup_rows(t->daemon->store, d->service, d->environment,
			  d->rollback_file[0] || d->deployed_at == 0
				  ? 0
				  : d->deployed_at - d->created_at + d->created_wall + 1,
			  on_backup_rows, a);
}

/* --- hooks --- */

static void
on_hook(void *arg, const struct hook_result *r)
{
	struct act *a = arg;

	a->hook = NULL;
	answer_hook(a, r->outcome, r->text);
}

static void
env_add(char ***v, size_t *n, char *entry)
{
	*v = xrealloc(*v, (*n + 2) * sizeof **v);
	(*v)[(*n)++] = entry;
	(*v)[*n] = NULL;
}

/* The release that the step puts in place: a restart after a rollback starts the one from before.
 */
static const char *
tag_in_place(const struct act *a)
{
	bool back = a->kind == ACT_ROLLBACK && strncmp(a->d.target, "releases/", 9) == 0;

	return back ? a->d.target + 9 : a->d.tag;
}

/* Nothing of the daemon's own environment; what a script needs to know. */
static char **
hook_environment(const struct act *a, const char *step)
{
	char **v = NULL;
	size_t n = 0;

	env_add(&v, &n,
		xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	env_add(&v, &n, xstrdup("LANG=C.UTF-8"));
	env_add(&v, &n, xasprintf("DHASH_SERVICE=%s", a->d.service));
	env_add(&v, &n, xasprintf("DHASH_ENVIRONMENT=%s", a->d.environment));
	env_add(&v, &n, xasprintf("DHASH_DEPLOYMENT=%s", a->d.id));
	env_add(&v, &n, xasprintf("DHASH_TAG=%s", tag_in_place(a)));
	env_add(&v, &n, xasprintf("DHASH_PREVIOUS_TAG=%s", a->d.previous_tag));
	env_add(&v, &n, xasprintf("DHASH_LEAD=%s", a->d.lead));
	env_add(&v, &n,
		xasprintf("DHASH_BACKUP=%s", a->kind == ACT_ROLLBACK ? a->d.target : a->d.backup));
	env_add(&v, &n, xasprintf("DHASH_STEP=%s", step));
	env_add(&v, &n,
		xasprintf("DHASH_SESSION=%s/sessions/%s", a->daemon->options.state_dir, a->d.id));
	for (char **e = a->conf->hook_environment; e && *e; e++)
		env_add(&v, &n, xstrdup(*e));
	return v;
}

static char *
txid_of(const struct act *a, const char *step)
{
	if (a->kind == ACT_ROLLBACK)
		return xasprintf("%s.%s.%u", a->d.id, step, a->d.rollbacks);
	return xasprintf("%s.%s", a->d.id, step);
}

static void
start_hook(struct act *a, char *const *argv, const char *step)
{
	bool rollback = a->kind == ACT_ROLLBACK;
	struct specifiers s = {
		.environment = a->d.environment,
		.tag = tag_in_place(a),
		.backup = rollback ? a->d.target : a->d.backup,
		.deployment = a->d.id,
		.service = a->d.service,
	};
	const char *state = a->daemon->options.state_dir;
	char *txid = txid_of(a, step), *folder = session_path(state, a->d.id, "hooks");
	char *log = session_path(state, a->d.id, rollback ? "rollback.log" : "deploy.log");
	char **words = specifiers_expandv(argv, &s), **env = hook_environment(a, step);
	struct hook_request q = {
		.txid = txid,
		.folder = folder,
		.log = log,
		.argv = words,
		.environ = env,
		.directory = root_of(a->conf),
		.user = a->conf->user,
		.timeout_usec = rollback ? a->conf->policy.rollback_timeout_usec
					 : a->conf->policy.deploy_timeout_usec,
		.kill_usec = a->conf->hook_kill_usec,
		.output_max_bytes = a->conf->hook_output_max_bytes,
	};
	struct log_fields f = {
		.service = a->d.service,
		.environment = a->d.environment,
		.deployment = a->d.id,
		.tag = a->d.tag,
	};

	log_event(LOG_KIND_HOOK_STARTED, LOG_NOTICE, &f, "hook: %s: %s (output in %s)", step,
		  words[0], log);
	a->hook = hook_ensure(a->daemon->base, a->daemon->runner, &q, on_hook, a);
	strv_free(env);
	strv_free(words);
	free(log);
	free(folder);
	free(txid);
}

/* --- the built-in engine --- */

static const char *
releases_of(const struct conf_env *c)
{
	return c->releases ? c->releases : root_of(c);
}

static void
engine_finish(struct act *a, const char *done_text)
{
	const char *step = a->kind == ACT_ROLLBACK ? "restart-rollback" : "restart";

	a->in_worker = false;
	if (!a->target)
		act_free(a);
	else if (a->result == -ECANCELED)
		answer_hook(a, HOOK_FAILED, "cancelled");
	else if (a->result < 0)
		answer_hook(a, HOOK_FAILED, a->error ? a->error : strerror(-a->result));
	else if (a->conf->restart)
		start_hook(a, a->conf->restart, step);
	else
		answer_hook(a, HOOK_OK, done_text);
}

/* What was there before is noted once, before anything changes: a second run would find the new
 * one. */
static int
note_previous(struct act *a)
{
	char *tag = NULL;
	size_t len;
	int r = file_read(AT_FDCWD, a->note_path, 256, &tag, &len);

	free(tag);
	if (r == 0)
		return 0;
	tag = NULL;
	r = engine_current(releases_of(a->conf), &tag);
	if (r < 0 && r != -ENOENT)
		return r;
	r = file_write_atomic(a->note_path, tag ? tag : "", tag ? strlen(tag) : 0, 0640);
	free(tag);
	return r;
}

static void
engine_deploy_work(struct job *j)
{
	struct act *a = (struct act *)j;
	char *previous = NULL;

	a->result = note_previous(a);
	if (a->result < 0)
		a->error = xasprintf("cannot note the release that is in place in %s: %s",
				     a->note_path, strerror(-a->result));
	else
		a->result = engine_deploy(releases_of(a->conf), a->d.tag, a->file,
					  &a->job.cancelled, &previous, &a->error);
	free(previous);
}

static void
engine_deploy_done(struct job *j)
{
	engine_finish((struct act *)j, "release unpacked and made current");
}

void
act_deploy_release(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_DEPLOY, d, attempt);
	struct specifiers s = {.environment = d->environment, .tag = d->tag, .service = d->service};

	if (a->conf->deploy) {
		start_hook(a, a->conf->deploy, "deploy");
		return;
	}
	a->file = specifiers_expand(a->conf->artifact, &s);
	a->note_path = previous_release_note(t->daemon, d->id);
	submit(a, engine_deploy_work, engine_deploy_done);
}

static void
engine_switch_work(struct job *j)
{
	struct act *a = (struct act *)j;
	const char *slash = strrchr(a->d.target, '/');

	a->result = engine_switch(releases_of(a->conf), slash ? slash + 1 : a->d.target, &a->error);
}

static void
engine_switch_done(struct job *j)
{
	engine_finish((struct act *)j, "the release from before is current again");
}

static void
restore_work(struct job *j)
{
	struct act *a = (struct act *)j;

	a->result = backup_restore(a->d.target, a->d.target_sha256[0] ? a->d.target_sha256 : NULL,
				   root_of(a->conf), a->conf->backup_paths, &a->job.cancelled,
				   &a->error);
}

static void
restore_done(struct job *j)
{
	engine_finish((struct act *)j, "backup restored");
}

void
act_roll_back(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_ROLLBACK, d, attempt);

	if (a->conf->rollback)
		start_hook(a, a->conf->rollback, "rollback");
	else if (uses_engine(a->conf) && strncmp(d->target, "releases/", 9) == 0)
		submit(a, engine_switch_work, engine_switch_done);
	else
		submit(a, restore_work, restore_done);
}
