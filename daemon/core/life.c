/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a deployment: operators' acts and adapters' answers become triggers, the table says
 * where they lead, and state_enter() — the only place that sets a state — does what the state
 * begins with.
 *
 * What a state waits for is emitted on entry, and once more after a restart (life_resume()): it is
 * idempotent by deployment and attempt, which is what makes "exactly once" hold across crashes.
 */

#include <assert.h>
#include <math.h>

#include "common/util.h"
#include "daemon/core/internal.h"

/* The runner enforces a hook's own deadline; this much later the core stops believing in an answer.
 */
static const usec_t hook_slack = 60 * USEC_PER_SEC;
static const usec_t gates_slack = 10 * USEC_PER_SEC;
/* A deadline that is looked at so late was slept through, by the machine or by us. */
static const usec_t slept = 30 * USEC_PER_SEC;

const struct evidence no_evidence = {.rule = _RULE_MAX, .value = NAN, .lower = NAN, .upper = NAN};

void
life_decide(struct step *st, enum decision_kind kind, bool automatic, const struct evidence *ev,
	    const char *text)
{
	struct decision *d = &emit(st, EF_PERSIST_DECISION)->u.decision;

	d->kind = kind;
	d->at = st->event->now;
	d->wall = st->event->wall;
	d->automatic = automatic;
	d->actor_uid = automatic ? 0 : st->event->actor_uid;
	d->evidence = *ev;
	str_copy(d->text, sizeof d->text, text);
}

/* --- what each state begins with --- */

void
sampling_begin(struct env *e, usec_t now)
{
	e->last_due = now - 1;
	e->finish_by = 0;
	e->extended = false;
	memset(e->awaiting, 0, sizeof e->awaiting);
	e->phase = -1;
}

static void
alerts_close(struct step *st, const char *text)
{
	for (int c = 0; c < _CAUSE_MAX; c++)
		alert(st, c, LEVEL_NONE, text);
}

/* What is looked at during a watch only: after it nothing could ever resolve them. */
void
alerts_unwatch(struct step *st)
{
	static const enum cause watched[] = {CAUSE_ERROR_RATE, CAUSE_LATENCY, CAUSE_LOW_TRAFFIC,
					     CAUSE_INFRASTRUCTURE, CAUSE_UNOBSERVED};

	for (unsigned i = 0; i < ARRAY_SIZE(watched); i++)
		alert(st, watched[i], LEVEL_NONE, "the watch is over");
}

/* Emits what the state waits for. */
void
state_effect(struct step *st)
{
	switch (st->env->d->state) {
	case DS_GATES:
		emit(st, EF_RUN_GATES);
		break;
	case DS_BACKUP:
		emit(st, EF_BACKUP);
		break;
	case DS_DEPLOYING:
		emit(st, EF_DEPLOY);
		break;
	case DS_RB_SAVING:
		emit(st, EF_BACKUP)->u.backup.emergency = true;
		break;
	case DS_RB_CHOOSING:
		emit(st, EF_CHOOSE);
		break;
	case DS_RB_RUNNING:
		emit(st, EF_ROLLBACK);
		break;
	default:
		break;
	}
}

static void
enter_ended(struct step *st)
{
	struct env *e = st->env;
	struct deployment *d = e->d;

	d->ended_at = st->event->now;
	d->ended_wall = st->event->wall;
	e->idle_since = st->event->now;
	if (d->state == DS_SUCCEEDED || d->state == DS_UNVERIFIED || d->state == DS_SUPERSEDED)
		alerts_unwatch(st);
	if (d->state == DS_ROLLED_BACK) {
		d->restored_at = st->event->now;
		d->restored_wall = st->event->wall;
		alerts_close(st, "rolled back");
	}
	if (d->state == DS_ROLLBACK_FAILED)
		alert(st, CAUSE_ROLLBACK, LEVEL_CRITICAL, d->outcome);
	if (d->state == DS_ROLLED_BACK || d->state == DS_ROLLBACK_FAILED)
		emit(st, EF_REPORT);
	if (d->state == DS_FAILED)
		alert(st, CAUSE_BACKUP, LEVEL_CRITICAL, d->outcome);
	if (e->removed)
		e->used = false;
}

static void
enter_actions(struct step *st)
{
	struct env *e = st->env;
	struct deployment *d = e->d;

	switch (d->state) {
	case DS_DEPLOYING:
		d->deployed_at = st->event->now;
		alerts_close(st, "closed by the next deployment");
		book_fresh(&e->book);
		memset(e->would, 0, sizeof e->would);
		/* What infrastructure looks like as the deployment begins is not its doing. */
		e->guard.infra_known = e->guard.infra_critical = e->guard.infra_muted = false;
		break;
	case DS_WATCHING:
		/* Absolute: T+0 is when settling was to end, not when somebody looked. */
		d->t0 = d->entered_at;
		break;
	case DS_RB_SAVING:
	case DS_RB_CHOOSING:
	case DS_RB_RUNNING:
	case DS_VERIFYING:
		break;
	default:
		if (dstate_ended(d->state))
			enter_ended(st);
		break;
	}
}

static void
state_enter(struct step *st, enum dstate to, const char *text)
{
	struct env *e = st->env;
	struct deployment *d = e->d;
	usec_t settled = d->entered_at + d->policy.settle_usec;
	bool from_settling = d->state == DS_SETTLING;

	d->state = to;
	d->entered_at = to == DS_WATCHING && from_settling ? settled : st->event->now;
	d->entered_wall = st->event->wall;
	d->attempt++;
	str_copy(d->outcome, sizeof d->outcome, text);
	e->recovered_at = 0;
	e->dirty = true;
	if (to == DS_WATCHING)
		guard_watch(&e->guard, d->entered_at);
	else
		guard_reset(&e->guard, st->event->now);
	sampling_begin(e, d->entered_at);
	enter_actions(st);
	note(st, NOTE_STATE,
	     to == DS_ROLLBACK_FAILED ? LEVEL_CRITICAL
	     : to == DS_ROLLED_BACK || to == DS_REJECTED || to == DS_FAILED || to == DS_UNVERIFIED
		     ? LEVEL_WARNING
		     : LEVEL_NONE,
	     _RULE_MAX, "%s%s%s", dstate_name(to), text[0] ? ": " : "", text);
	state_effect(st);
}

/* An operator asked for a rollback while the deploy hook was still running. */
bool
life_undone(const struct deployment *d)
{
	return d->state == DS_DEPLOYING && d->rollback_reason[0] != '\0' && !d->rollback_auto;
}

static void
rollback_begin(struct deployment *d, const struct core_event *e)
{
	d->rollbacks++;
	d->decided_at = e->now;
	d->decided_wall = e->wall;
	d->restored_at = d->restored_wall = 0;
	d->ended_at = d->ended_wall = 0;
	d->target[0] = '\0';
	d->target_verified = false;
}

static bool
state_rolls_back(enum dstate s)
{
	return s == DS_RB_SAVING || s == DS_RB_CHOOSING;
}

bool
life_take(struct step *st, enum trigger t, const char *text)
{
	struct deployment *d = st->env->d;
	const struct transition *row;
	char copy[TEXT_MAX_LEN];

	if (!d)
		return false;
	row = machine_find(d->state, t, d->policy.has_backup, life_undone(d));
	if (!row)
		return false;
	str_copy(copy, sizeof copy, text); /* text may be a field of d that is written below */
	if (state_rolls_back(row->to) && d->state != DS_RB_SAVING)
		rollback_begin(d, st->event);
	state_enter(st, row->to, copy);
	return true;
}

/* --- decisions --- */

void
life_decide_rollback(struct step *st, bool automatic, const struct evidence *ev, const char *why)
{
	struct deployment *d = st->env->d;

	str_copy(d->rollback_reason, sizeof d->rollback_reason, why);
	d->rollback_auto = automatic;
	if (automatic) {
		d->auto_rollbacks++;
		d->rollback_forced = false;
		d->rollback_to[0] = d->rollback_file[0] = '\0';
	}
	life_decide(st, DECISION_ROLL_BACK, automatic, ev, why);
	note(st, NOTE_DECISION, LEVEL_CRITICAL, ev->rule, "rolling back %s: %s",
	     automatic ? "automatically" : "on request", why);
}

void
life_breach(struct step *st, const struct rule_view *v)
{
	struct deployment *d = st->env->d;
	char why[CORE_TEXT_MAX + 32];

	assert(d->auto_rollbacks == 0);
	if (!machine_find(d->state, TR_BREACH, d->policy.has_backup, false))
		return;
	snprintf(why, sizeof why, "%s%s%s",
		 v->evidence.rule < _RULE_MAX ? rule_kind_name(v->evidence.rule) : "",
		 v->evidence.rule < _RULE_MAX ? ": " : "", v->evidence.text);
	life_decide_rollback(st, true, &v->evidence, why);
	life_take(st, TR_BREACH, why);
}

/* --- answers --- */

static bool
awaited(const struct step *st)
{
	const struct deployment *d = st->env->d;

	if (!d || d->attempt != st->event->attempt)
		return false;
	switch (st->event->kind) {
	case EV_GATES:
		return d->state == DS_GATES;
	case EV_BACKUP:
		return d->state == DS_BACKUP || d->state == DS_RB_SAVING;
	case EV_TARGET:
		return d->state == DS_RB_CHOOSING;
	default:
		return d->state == DS_DEPLOYING || d->state == DS_RB_RUNNING;
	}
}

static void
answer_backup(struct step *st)
{
	struct deployment *d = st->env->d;
	bool emergency = d->state == DS_RB_SAVING, ok = st->event->u.done.ok;
	const char *text = st->event->u.done.text;

	note(st, NOTE_BACKUP, ok ? LEVEL_NONE : LEVEL_CRITICAL, _RULE_MAX, "%s: %s",
	     emergency ? "emergency backup" : "backup", text);
	if (ok && !emergency) {
		str_copy(d->backup, sizeof d->backup, st->event->u.done.path);
		str_copy(d->backup_sha256, sizeof d->backup_sha256, st->event->u.done.sha256);
	}
	if (!ok && emergency)
		alert(st, CAUSE_BACKUP, LEVEL_CRITICAL, text);
	life_take(st, ok ? TR_OK : TR_FAILED, ok && emergency ? d->rollback_reason : text);
}

static void
answer_target(struct step *st)
{
	struct deployment *d = st->env->d;
	bool ok = st->event->u.done.ok;

	note(st, NOTE_BACKUP, ok ? LEVEL_NONE : LEVEL_CRITICAL, _RULE_MAX, "rollback target: %s",
	     st->event->u.done.text);
	if (ok) {
		str_copy(d->target, sizeof d->target, st->event->u.done.path);
		str_copy(d->target_sha256, sizeof d->target_sha256, st->event->u.done.sha256);
		d->target_verified = st->event->u.done.verified;
		/* A corrupt or unverified backup on the way is for a human, whatever becomes of it.
		 */
		if (!d->target_verified || st->event->u.done.corrupt > 0)
			alert(st, CAUSE_BACKUP, LEVEL_CRITICAL, st->event->u.done.text);
	}
	life_take(st, ok ? TR_OK : TR_FAILED, st->event->u.done.text);
}

/* Each hook's trouble is news: one of an earlier hook that is still open would swallow it. */
static void
alert_hook(struct step *st, const char *text)
{
	alert(st, CAUSE_HOOK, LEVEL_NONE, "another hook's end matters now");
	alert(st, CAUSE_HOOK, LEVEL_CRITICAL, text);
}

static void
answer_hook(struct step *st)
{
	struct deployment *d = st->env->d;
	static const enum trigger triggers[] = {
		[HOOK_OK] = TR_OK,
		[HOOK_FAILED] = TR_FAILED,
		[HOOK_UNKNOWN] = TR_UNKNOWN,
	};
	enum hook_outcome outcome = st->event->u.hook.outcome;
	const char *what = d->state == DS_DEPLOYING ? "deploy" : "rollback";
	char text[TEXT_MAX_LEN];

	snprintf(text, sizeof text, "%s: %s", what, st->event->u.hook.text);
	note(st, NOTE_HOOK, outcome == HOOK_OK ? LEVEL_NONE : LEVEL_CRITICAL, _RULE_MAX, "%s",
	     text);
	if (outcome != HOOK_OK)
		alert_hook(st, text);
	/* A failed deploy is rolled back by itself, once; unless an operator has asked already. */
	if (d->state == DS_DEPLOYING && outcome == HOOK_FAILED && !life_undone(d))
		life_decide_rollback(st, true, &no_evidence, text);
	else if (life_undone(d))
		str_copy(text, sizeof text, d->rollback_reason);
	life_take(st, triggers[outcome], text);
}

void
life_answer(struct step *st)
{
	if (!awaited(st))
		return; /* late, for an attempt that is over */
	switch (st->event->kind) {
	case EV_GATES:
		life_take(st, st->event->u.done.ok ? TR_OK : TR_FAILED, st->event->u.done.text);
		break;
	case EV_BACKUP:
		answer_backup(st);
		break;
	case EV_TARGET:
		answer_target(st);
		break;
	default:
		answer_hook(st);
		break;
	}
}

/* --- deadlines ----------------------------------------------------------------------------------
 */

static usec_t
state_timeout(const struct deployment *d)
{
	const struct policy *p = &d->policy;

	switch (d->state) {
	case DS_QUEUED:
		return 0;
	case DS_GATES:
		return p->gates_timeout_usec + gates_slack;
	case DS_BACKUP:
	case DS_RB_SAVING:
	case DS_RB_CHOOSING:
		return p->backup_timeout_usec;
	case DS_DEPLOYING:
		return p->deploy_timeout_usec + hook_slack;
	case DS_RB_RUNNING:
		return p->rollback_timeout_usec + hook_slack;
	case DS_SETTLING:
		return p->settle_usec;
	case DS_VERIFYING:
		return p->verify_timeout_usec;
	default:
		return USEC_INFINITY;
	}
}

usec_t
life_next(const struct env *e)
{
	const struct deployment *d = e->d;
	usec_t timeout, from;

	if (!d || dstate_ended(d->state))
		return USEC_INFINITY;
	if (d->state == DS_WATCHING)
		return e->finish_by ? e->finish_by : USEC_INFINITY;
	timeout = state_timeout(d);
	/* After a restart an answer gets its whole time again; settling is a fixed span of the
	 * service. */
	from = d->state == DS_SETTLING ? d->entered_at : MAX(d->entered_at, e->recovered_at);
	return timeout == USEC_INFINITY ? timeout : from + timeout;
}

/*
 * Whoever was to answer slept as well: the runner ends its hook only now, a service has had no time
 * to become healthy.  Then an answer gets its whole time again, as after a restart.
 */
static bool
slept_through(struct step *st)
{
	struct env *e = st->env;
	enum dstate s = e->d->state;

	if (s == DS_QUEUED || s == DS_SETTLING || s == DS_WATCHING)
		return false;
	if (st->event->now - life_next(e) < slept)
		return false;
	e->recovered_at = st->event->now;
	return true;
}

static void
hook_lost(struct step *st)
{
	const char *text = "the hook runner gave no answer long after the hook's deadline";

	emit(st, EF_CANCEL);
	alert_hook(st, text);
	life_take(st, TR_UNKNOWN, text);
}

void
life_deadline(struct step *st)
{
	struct deployment *d = st->env->d;
	char span[USEC_TEXT_MAX], text[TEXT_MAX_LEN];

	if (slept_through(st))
		return;
	switch (d->state) {
	case DS_QUEUED:
		life_take(st, TR_START, "");
		return;
	case DS_SETTLING:
		life_take(st, TR_DEADLINE, "");
		return;
	case DS_WATCHING:
		watch_finish(st);
		return;
	case DS_DEPLOYING:
	case DS_RB_RUNNING:
		hook_lost(st);
		return;
	default:
		break;
	}
	emit(st, EF_CANCEL);
	snprintf(text, sizeof text, "%s not done within %s", dstate_name(d->state),
		 usec_format(span, state_timeout(d)));
	if (d->state == DS_RB_SAVING)
		alert(st, CAUSE_BACKUP, LEVEL_CRITICAL, text);
	if (d->state == DS_VERIFYING)
		snprintf(text, sizeof text,
			 "the service is not healthy %s after the rollback: %.120s", span,
			 st->env->guard.last_health_detail);
	life_take(st, TR_DEADLINE, text);
}
