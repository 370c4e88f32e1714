/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acts on a target: gates, backup, choice of what to go back to, deploy, rollback.  Each is
 * started by an effect and answers with one event that repeats the effect's attempt.  Each may be
 * started again for the same attempt after a restart: files are made beside and renamed, hooks know
 * their transaction.
 */

#include "common/log.h"
#include "common/util.h"
#include "daemon/act_internal.h"

static struct conf_env *
conf_copy(const struct conf_env *conf)
{
	struct conf_errors errors = {0};
	struct conf_env *copy = NULL;
	char *text = conf_env_dump(conf);

	if (conf_env_parse(text, &copy, &errors) < 0)
		log_mistake("cannot copy a configuration: %s; this is a mistake in dhashd",
			    errors.n ? errors.v[0].text : "unknown");
	conf_errors_free(&errors);
	free(text);
	return copy;
}

struct act *
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

void
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

void
act_answer(struct act *a, struct core_event *e)
{
	struct target *t = a->target;

	if (!t)
		return;
	e->env = t->handle;
	e->attempt = a->attempt;
	daemon_post(a->daemon, e);
}

void
act_answer_hook(struct act *a, enum hook_outcome outcome, const char *text)
{
	struct core_event e = {.kind = EV_HOOK};

	e.u.hook.outcome = outcome;
	e.u.hook.text = text;
	act_answer(a, &e);
	act_free(a);
}

void
act_submit(struct act *a, void (*work)(struct job *), void (*done)(struct job *))
{
	a->job.work = work;
	a->job.done = done;
	a->in_worker = true;
	worker_submit(a->daemon->worker, &a->job);
}

const char *
act_root(const struct conf_env *conf)
{
	return conf->working_directory ? conf->working_directory : "/";
}

bool
act_uses_engine(const struct conf_env *c)
{
	return c->artifact && !c->rollback;
}

bool
target_uses_engine(const struct target *t)
{
	const struct conf_env *c = target_conf(t);

	return c && act_uses_engine(c);
}

char *
target_release_path(const struct target *t, const char *tag)
{
	return xasprintf("%s/releases/%s", act_releases(target_conf(t)), tag);
}

const char *
act_releases(const struct conf_env *c)
{
	return c->releases ? c->releases : act_root(c);
}

char *
act_previous_release_note(const struct daemon *d, const char *id)
{
	return session_path(d->options.state_dir, id, "hooks/previous-release");
}

void
act_cancel(struct target *t)
{
	for (struct act *a = t->acts; a; a = a->next) {
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

struct log_fields
act_log_fields(const struct act *a)
{
	return (struct log_fields){
		.service = a->d.service,
		.environment = a->d.environment,
		.deployment = a->d.id,
		.tag = a->d.tag,
	};
}

/* --- gates --- */

static void
tell_gate(const struct act *a, const struct gate *g)
{
	const char *word = g->overridden ? "overridden" : g->ok ? "passed" : "FAILED";
	struct log_fields f = act_log_fields(a);

	session_log(a->daemon->scribe, a->d.id, "session.log", now_realtime(), "gate %s %s: %s",
		    g->name, word, g->text);
	log_event(LOG_KIND_GATE, g->ok && !g->overridden ? LOG_INFO : LOG_WARNING, &f,
		  "gate: %s %s: %s", g->name, word, g->text);
}

static void
on_gates(void *arg, const struct gates *g)
{
	struct act *a = arg;
	struct core_event e = {.kind = EV_GATES};
	char text[TEXT_MAX_LEN * 2];

	gates_describe(g, text, sizeof text);
	for (size_t i = 0; a->target && i < g->n; i++)
		tell_gate(a, &g->v[i]);
	e.u.done.ok = g->ok;
	e.u.done.text = text;
	act_answer(a, &e);
	act_free(a);
}

void
act_gates(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_GATES, d, attempt);
	struct gate_hooks hooks = daemon_gate_hooks(t->daemon, a->d.id);

	gates_run(t->daemon->store, &hooks, target_observer(t), a->conf, d->tag, d->forced,
		  on_gates, a);
}
