/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Environments by handle, and the dispatch of events.  Each step touches one environment; a tick
 * takes the one that is due first, so a step's effects are bounded and the caller ticks until none
 * is due.
 */

#include "daemon/core/core.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/core/internal.h"

enum { ENVS_MAX = 100000 };

struct core *
core_new(void)
{
	return xcalloc(1, sizeof(struct core));
}

static void
env_free(struct env *e)
{
	if (!e)
		return;
	guard_done(&e->guard);
	book_done(&e->book);
	free(e->d);
	free(e->old);
	free(e);
}

void
core_free(struct core *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->n; i++)
		env_free(c->envs[i]);
	free(c->envs);
	free(c->deadlines);
	free(c);
}

struct effect *
emit(struct step *st, enum effect_kind kind)
{
	struct effect *f;

	assert(st->out->n < EFFECTS_MAX);
	f = &st->out->v[st->out->n++];
	memset(f, 0, sizeof *f);
	f->kind = kind;
	f->env = st->handle;
	f->deployment = st->env->d;
	f->attempt = st->env->d ? st->env->d->attempt : 0;
	return f;
}

void
note(struct step *st, enum note_kind kind, enum level level, enum rule_kind rule, const char *fmt,
     ...)
{
	struct effect *f = emit(st, EF_NOTE);
	va_list ap;

	f->u.note.kind = kind;
	f->u.note.level = level;
	f->u.note.rule = rule;
	va_start(ap, fmt);
	vsnprintf(f->u.note.text, sizeof f->u.note.text, fmt, ap);
	va_end(ap);
}

void
reply(struct step *st, enum reply_kind kind, const char *fmt, ...)
{
	struct effect *f = emit(st, EF_REPLY);
	va_list ap;

	f->u.reply.request = st->event->request;
	f->u.reply.kind = kind;
	if (st->env->d)
		str_copy(f->u.reply.deployment, sizeof f->u.reply.deployment, st->env->d->id);
	va_start(ap, fmt);
	vsnprintf(f->u.reply.text, sizeof f->u.reply.text, fmt, ap);
	va_end(ap);
}

const struct policy *
env_policy(const struct env *e)
{
	if (!e->d)
		return &e->policy;
	if (!dstate_ended(e->d->state))
		return &e->d->policy;
	/* The tail of a rollback is still watched as the deployment was. */
	if (e->d->state == DS_ROLLED_BACK || e->d->state == DS_ROLLBACK_FAILED)
		return &e->d->policy;
	return &e->policy;
}

static void
alert_changed(struct step *st, enum note_kind kind, const struct alert *a, const char *text)
{
	if (a->deployment[0] != '\0')
		emit(st, EF_PERSIST_ALERT)->u.alert = *a;
	note(st, kind, kind == NOTE_RESOLVED ? LEVEL_NONE : a->level, _RULE_MAX, "%s: %s",
	     cause_name(a->cause), text);
}

static void
escalate(struct step *st)
{
	struct env *e = st->env;
	const struct policy *p = env_policy(e);
	struct evidence none = {.rule = _RULE_MAX, .value = NAN, .lower = NAN, .upper = NAN};
	const char *why;

	if (!e->d || !book_escalates(&e->book, p, st->event->now, &why))
		return;
	life_decide(st, DECISION_ESCALATE, true, &none, why);
	note(st, NOTE_ESCALATION, LEVEL_CRITICAL, _RULE_MAX, "escalated to the next tier: %s", why);
	if (p->rollback_on_escalation && e->d->auto_rollbacks == 0 && watch_armed(e)) {
		struct rule_view v = {.mode = RULE_ENFORCE, .armed = true, .evidence = none};

		snprintf(v.evidence.text, sizeof v.evidence.text, "escalation: %s", why);
		life_breach(st, &v);
	}
}

void
alert(struct step *st, enum cause c, enum level level, const char *text)
{
	struct book_change ch;

	if (!book_set(&st->env->book, c, level, st->event, st->env->d ? st->env->d->id : "", text,
		      &ch))
		return;
	if (ch.resolved)
		alert_changed(st, NOTE_RESOLVED, &ch.resolved_alert,
			      ch.raised ? "grew worse" : text);
	if (ch.raised) {
		alert_changed(st, NOTE_ALERT, &ch.raised_alert, text);
		escalate(st);
	}
}

static struct env *
env_get(struct core *c, unsigned handle)
{
	return handle < c->n ? c->envs[handle] : NULL;
}

static void
env_grow(struct core *c, unsigned handle)
{
	if (handle < c->n)
		return;
	c->envs = xrealloc(c->envs, (handle + 1) * sizeof *c->envs);
	c->deadlines = xrealloc(c->deadlines, (handle + 1) * sizeof *c->deadlines);
	for (; c->n <= handle; c->n++) {
		c->envs[c->n] = NULL;
		c->deadlines[c->n] = USEC_INFINITY;
	}
}

static int
configure(struct core *c, const struct core_event *e)
{
	struct env *env;

	if (e->env >= ENVS_MAX)
		return -22;
	env_grow(c, e->env);
	env = c->envs[e->env];
	if (!env) {
		env = c->envs[e->env] = xcalloc(1, sizeof *env);
		env->idle_since = e->now;
		env->last_due = e->now - 1;
		env->phase = -1;
		guard_reset(&env->guard, e->now);
	}
	str_copy(env->service, sizeof env->service, e->u.configure.service);
	str_copy(env->environment, sizeof env->environment, e->u.configure.environment);
	env->policy = *e->u.configure.policy;
	env->spread = e->u.configure.spread;
	env->used = true;
	env->removed = false;
	return 0;
}

/* A live deployment is guarded to its end, whatever the configuration says meanwhile. */
static void
remove_env(struct step *st)
{
	st->env->removed = true;
	if (!st->env->d || dstate_ended(st->env->d->state))
		st->env->used = false;
}

static void
dispatch(struct step *st)
{
	switch (st->event->kind) {
	case EV_REMOVE:
		remove_env(st);
		break;
	case EV_RECOVER:
		recover_load(st);
		break;
	case EV_DEPLOY:
		act_deploy(st);
		break;
	case EV_ROLLBACK:
		act_rollback(st);
		break;
	case EV_ABORT:
		act_abort(st);
		break;
	case EV_GATES:
	case EV_BACKUP:
	case EV_TARGET:
	case EV_HOOK:
		life_answer(st);
		break;
	case EV_SAMPLE:
		watch_sample(st);
		break;
	default:
		break;
	}
}

/* What must hold after every step, whatever the input was: a failure here is our own mistake. */
static void
check_invariants(const struct env *e)
{
	const struct deployment *d = e->d;

	if (!d)
		return;
	assert(d->state >= 0 && d->state < _DSTATE_MAX);
	assert(d->auto_rollbacks <= 1);
	assert(d->auto_rollbacks <= d->rollbacks);
	assert(d->rollbacks == 0 || d->decided_at != 0);
	assert((d->state != DS_WATCHING) || d->t0 != 0);
	assert(!dstate_ended(d->state) || d->ended_at != 0);
	assert(e->guard.t0 == 0 || d->state == DS_WATCHING);
}

static usec_t
env_deadline(const struct env *e)
{
	if (!e->used)
		return USEC_INFINITY;
	return e->resume ? 0 : MIN(life_next(e), watch_next(e));
}

static void
finish(struct step *st)
{
	struct env *e = st->env;

	if (e->dirty)
		emit(st, EF_PERSIST_DEPLOYMENT);
	e->dirty = false;
	check_invariants(e);
	st->core->deadlines[st->handle] = env_deadline(e);
}

static unsigned
first_due(const struct core *c)
{
	unsigned first = 0;

	for (unsigned i = 1; i < c->n; i++)
		if (c->deadlines[i] < c->deadlines[first])
			first = i;
	return first;
}

static void
tick(struct step *st)
{
	struct core *c = st->core;
	usec_t now = st->event->now;

	if (c->n == 0)
		return;
	st->handle = first_due(c);
	if (c->deadlines[st->handle] > now)
		return;
	st->env = c->envs[st->handle];
	/* A state's deadline goes first: it may make the sample pointless. */
	if (st->env->resume)
		recover_resume(st);
	else if (life_next(st->env) <= now)
		life_deadline(st);
	else
		watch_due(st);
	finish(st);
}

static void
started(struct step *st)
{
	st->core->started = true;
	for (unsigned i = 0; i < st->core->n; i++) {
		st->handle = i;
		st->env = st->core->envs[i];
		if (st->env && st->env->used)
			st->core->deadlines[i] =
				st->event->now; /* resumed by the ticks that follow */
	}
}

int
core_step(struct core *c, const struct core_event *e, struct effects *ret)
{
	struct step st = {.core = c, .handle = e->env, .event = e, .out = ret};

	ret->n = 0;
	switch (e->kind) {
	case EV_CONFIGURE:
		if (configure(c, e) < 0)
			return -22;
		st.env = c->envs[e->env];
		break;
	case EV_TICK:
		tick(&st);
		return 0;
	case EV_STARTED:
		started(&st);
		return 0;
	default:
		st.env = env_get(c, e->env);
		if (!st.env)
			return -22;
		break;
	}
	free(st.env->old);
	st.env->old = NULL;
	dispatch(&st);
	finish(&st);
	return 0;
}

usec_t
core_deadline(const struct core *c)
{
	return c->n == 0 || !c->started ? USEC_INFINITY : c->deadlines[first_due(c)];
}
