/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deploy and rollback: by the configured hooks, or by the built-in engine of release folders.
 */

#include <errno.h>
#include <fcntl.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/act_internal.h"

/* --- hooks --- */

static void
on_hook(void *arg, const struct hook_result *r)
{
	struct act *a = arg;
	struct log_fields f = act_log_fields(a);

	a->hook = NULL;
	if (r->outcome == HOOK_UNKNOWN && a->target)
		log_event(LOG_KIND_HOOK_UNKNOWN, LOG_CRIT, &f,
			  "hook: %s; it is not run again, health decides what becomes of it",
			  r->text);
	act_answer_hook(a, r->outcome, r->text);
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
		.directory = act_root(a->conf),
		.user = a->conf->user,
		.timeout_usec = rollback ? a->conf->policy.rollback_timeout_usec
					 : a->conf->policy.deploy_timeout_usec,
		.kill_usec = a->conf->hook_kill_usec,
		.output_max_bytes = a->conf->hook_output_max_bytes,
	};
	struct log_fields f = act_log_fields(a);

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

static void
engine_finish(struct act *a, const char *done_text)
{
	const char *step = a->kind == ACT_ROLLBACK ? "restart-rollback" : "restart";

	a->in_worker = false;
	if (!a->target)
		act_free(a);
	else if (a->result == -ECANCELED)
		act_answer_hook(a, HOOK_FAILED, "cancelled");
	else if (a->result < 0)
		act_answer_hook(a, HOOK_FAILED, a->error ? a->error : strerror(-a->result));
	else if (a->conf->restart)
		start_hook(a, a->conf->restart, step);
	else
		act_answer_hook(a, HOOK_OK, done_text);
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
	r = engine_current(act_releases(a->conf), &tag);
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
		a->result = engine_deploy(act_releases(a->conf), a->d.tag, a->file,
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
	a->note_path = act_previous_release_note(t->daemon, d->id);
	act_submit(a, engine_deploy_work, engine_deploy_done);
}

static void
engine_switch_work(struct job *j)
{
	struct act *a = (struct act *)j;
	const char *slash = strrchr(a->d.target, '/');

	a->result =
		engine_switch(act_releases(a->conf), slash ? slash + 1 : a->d.target, &a->error);
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
				   act_root(a->conf), a->conf->backup_paths, &a->job.cancelled,
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
	else if (act_uses_engine(a->conf) && strncmp(d->target, "releases/", 9) == 0)
		act_submit(a, engine_switch_work, engine_switch_done);
	else
		act_submit(a, restore_work, restore_done);
}
