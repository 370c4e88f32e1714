/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coming back after a restart: the deployment as it was on disk, its observations fed to a fresh
 * guard, and then, once everything is loaded, the effect that its state waits for.
 */

#include "common/util.h"
#include "daemon/core/internal.h"

/* When the guard of the present state began to look. */
static usec_t
observed_from(const struct deployment *d)
{
	if (d->state == DS_WATCHING)
		return d->t0 - d->policy.settle_usec;
	return d->entered_at;
}

/* What an observed rule has said already is not said again. */
static void
replay_one(struct env *e, const struct sample *s)
{
	struct rule_view v;

	watch_observe(e, s, s->at);
	for (int k = 0; k < _RULE_MAX && watch_armed(e); k++) {
		if (e->d->policy.rules[k].mode != RULE_OBSERVE || e->would[k])
			continue;
		rule_view(&e->guard, &e->d->policy, k, s->at, watch_interval(e, s->at), &v);
		e->would[k] = v.armed && v.verdict == VERDICT_BREACHED;
	}
}

static void
replay(struct env *e, const struct core_event *ev)
{
	struct deployment *d = e->d;
	usec_t from = observed_from(d);

	guard_reset(&e->guard, from);
	for (size_t i = 0; i < ev->u.recover.n_samples; i++) {
		const struct sample *s = &ev->u.recover.samples[i];

		if (d->state == DS_WATCHING && e->guard.t0 == 0 && s->at > d->t0)
			guard_watch(&e->guard, d->t0);
		if (s->at >= from)
			replay_one(e, s);
		else if (s->kind == SAMPLE_HEALTH)
			guard_infrastructure(&e->guard, s); /* what was critical before is muted */
	}
	if (d->state == DS_WATCHING && e->guard.t0 == 0)
		guard_watch(&e->guard, d->t0);
}

void
recover_load(struct step *st)
{
	struct env *e = st->env;
	const struct core_event *ev = st->event;

	free(e->d);
	e->d = xcalloc(1, sizeof *e->d);
	*e->d = *ev->u.recover.deployment;
	for (size_t i = 0; i < ev->u.recover.n_alerts; i++)
		book_restore(&e->book, &ev->u.recover.alerts[i]);
	book_resume(&e->book, &e->d->policy, ev->now);
	sampling_begin(e, ev->now);
	if (dstate_ended(e->d->state))
		e->idle_since = e->d->ended_at;
	replay(e, ev);
	e->resume = true;
}

/* What came due while nobody was there, or was not answered any more, is sampled once, now. */
static usec_t
sampled_until(const struct env *e, usec_t now)
{
	usec_t newest = e->d->t0 - 1;

	for (int k = 0; k < _SAMPLE_KIND_MAX; k++)
		newest = MAX(newest, e->guard.seen[k]);
	return MIN(newest, now - 1);
}

void
recover_resume(struct step *st)
{
	struct env *e = st->env;

	e->resume = false;
	e->recovered_at = st->event->now;
	sampling_begin(e, st->event->now);
	if (e->d->state == DS_WATCHING)
		e->last_due = sampled_until(e, st->event->now);
	e->phase = -1;
	if (!dstate_ended(e->d->state))
		note(st, NOTE_STATE, LEVEL_NONE, _RULE_MAX, "%s: goes on after a restart of dhashd",
		     dstate_name(e->d->state));
	state_effect(st);
	/* The wish to go back is on disk, the order to stop the deploy hook may have been lost. */
	if (life_undone(e->d))
		emit(st, EF_CANCEL);
}
