/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deploy and rollback: by the configured hooks, or by the built-in engine of release folders.
 */

#include <errno.h>
#include <fcntl.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/act_internal.h"
#include "daemon/run/order.h"

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
	if (r->outcome == HOOK_FAILED && r->exit_status < 0 && r->signal == 0 && a->target)
		log_event(LOG_KIND_HOOK_NOT_STARTED, LOG_ERR, &f, "hook: %s", r->text);
	act_answer_hook(a, r->outcome, r->text);
}

/* The release that the step puts in place: a restart after a rollback starts the one from before.
 */
static const char *
tag_in_place(const struct act *a)
{
	bool back = a->kind == ACT_ROLLBACK && strncmp(a->d.target, "releases/", 9) == 0;

	return back ? a->d.target + 9 : a->d.tag;
}

static void
start_hook(struct act *a, enum hook_step step)
{
	bool rollback = a->kind == ACT_ROLLBACK;
	struct hook_order o = {
		.step = step,
		.rollback = a->d.rollbacks,
		.service = a->d.service,
		.environment = a->d.environment,
		.deployment = a->d.id,
		.tag = tag_in_place(a),
		.previous_tag = a->d.previous_tag,
		.lead = a->d.lead,
		.backup = rollback ? a->d.target : a->d.backup,
		.sha256 = rollback ? a->d.target_sha256 : a->d.backup_sha256,
	};
	struct log_fields f = act_log_fields(a);
	struct hook_plan p;

	if (hook_plan_init(&p, &o, a->conf, a->daemon->options.state_dir, NULL) < 0) {
		act_answer_hook(a, HOOK_FAILED, "there is no such hook");
		return;
	}
	p.r.order = &o;
	log_event(LOG_KIND_HOOK_STARTED, LOG_NOTICE, &f, "hook: %s: %s (output in %s)",
		  hook_step_name(step), p.argv[0], p.log);
	a->hook = hook_ensure(a->daemon->base, &a->daemon->way, &p.r, on_hook, a);
	hook_plan_done(&p);
}

/* --- the built-in engine --- */

static void
engine_finish(struct act *a, const char *done_text)
{
	a->in_worker = false;
	if (!a->target)
		act_free(a);
	else if (a->result == -ECANCELED)
		act_answer_hook(a, HOOK_FAILED, "cancelled");
	else if (a->result < 0)
		act_answer_hook(a, HOOK_FAILED, a->error ? a->error : strerror(-a->result));
	else if (a->conf->restart)
		start_hook(a, a->kind == ACT_ROLLBACK ? STEP_RESTART_BACK : STEP_RESTART);
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
	if (r != -ENOENT)
		return r; /* one that cannot be read may be right: it is not written over */
	tag = NULL;
	r = engine_current(act_releases(a->conf), &tag);
	if (r < 0 && r != -ENOENT)
		return r;
	r = file_write_atomic(a->note_path, tag ? tag : "", tag ? strlen(tag) : 0, 0640);
	free(tag);
	/* Without its folder it would be lost, and the new release taken for the one from before.
	 */
	return r < 0 ? r : session_sync(a->daemon->options.state_dir, a->d.id);
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
		start_hook(a, STEP_DEPLOY);
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
		start_hook(a, STEP_ROLLBACK);
	else if (act_uses_engine(a->conf) && strncmp(d->target, "releases/", 9) == 0)
		act_submit(a, engine_switch_work, engine_switch_done);
	else
		act_submit(a, restore_work, restore_done);
}
