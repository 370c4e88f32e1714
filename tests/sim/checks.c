/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold after every step of a world, and what a world must come to. */

#include <stdarg.h>

#include "common/util.h"
#include "daemon/core/machine.h"
#include "daemon/core/schedule.h"
#include "tests/sim/world.h"

void
world_broke(struct world *w, const char *what, const char *fmt, ...)
{
	va_list ap;

	if (w->broken)
		return;
	w->broken = what;
	va_start(ap, fmt);
	vsnprintf(w->detail, sizeof w->detail, fmt, ap);
	va_end(ap);
}

static bool
leads_to(enum dstate from, enum dstate to)
{
	for (unsigned i = 0; i < machine_table_len; i++)
		if (machine_table[i].from == from && machine_table[i].to == to)
			return true;
	return from == to;
}

void
check_deployment(struct world *w, const struct deployment *d)
{
	if (w->disk.exists && !leads_to(w->last_state, d->state))
		world_broke(w, "a transition that is not in the table", "%s to %s",
			    dstate_name(w->last_state), dstate_name(d->state));
	if (w->disk.exists && w->last_state != d->state && d->attempt <= w->disk.deployment.attempt)
		world_broke(w, "a new state under an old attempt", "%s, attempt %u",
			    dstate_name(d->state), d->attempt);
	if (d->auto_rollbacks < w->disk.auto_decisions)
		world_broke(w, "an automatic rollback that is not counted", "%s", d->id);
	if (d->auto_rollbacks > 1)
		world_broke(w, "two automatic rollbacks", "%u", d->auto_rollbacks);
	w->last_state = d->state;
}

void
check_decision(struct world *w, const struct decision *dec)
{
	if (dec->kind != DECISION_ROLL_BACK)
		return;
	if (dec->automatic && ++w->disk.auto_decisions > 1)
		world_broke(w, "a second automatic decision to roll back", "%s", dec->text);
	w->disk.manual_decisions += !dec->automatic;
	if (w->decided_at == 0)
		w->decided_at = w->now;
}

/* One open alert per cause, also over restarts. */
void
check_alert(struct world *w, const struct alert *a)
{
	const struct alert *before = &w->disk.alerts[a->cause];
	bool open = before->level != LEVEL_NONE && !before->resolved_at;

	if (open && !a->resolved_at)
		world_broke(w, "an alert was raised that is open already", "%s",
			    cause_name(a->cause));
	if (a->resolved_at && (!open || a->raised_at != before->raised_at))
		world_broke(w, "an alert was resolved that is not open", "%s",
			    cause_name(a->cause));
}

static bool
is_answer(enum event_kind k)
{
	return k >= EV_GATES && k <= EV_SAMPLE;
}

/* An answer for an attempt that is over must leave no trace. */
void
check_stale(struct world *w, const struct core_event *e, unsigned n_effects)
{
	if (w->disk.exists && is_answer(e->kind) && e->attempt != w->disk.deployment.attempt &&
	    n_effects > 0)
		world_broke(w, "a late answer had an effect", "%s of attempt %u in %s, attempt %u",
			    event_kind_name(e->kind), e->attempt,
			    dstate_name(w->disk.deployment.state), w->disk.deployment.attempt);
}

/* Time of a phase that samples of a kind can vouch for at the very most, counted anew. */
static usec_t
seen_at_most(const struct world *w, enum sample_kind k, unsigned phase)
{
	const struct deployment *d = &w->disk.deployment;
	usec_t begin = d->t0 + schedule_begin(&w->policy, phase), sum = 0;
	usec_t end = d->t0 + w->policy.phases[phase].until_usec, before = d->t0;

	for (size_t i = 0; i < w->disk.n_samples; i++) {
		const struct sample *s = &w->disk.samples[i];
		usec_t longest = w->policy.phases[phase].interval_usec * 3 / 2;

		if (s->kind != k || s->at <= d->t0 ||
		    (s->result != RESULT_OK && s->result != RESULT_BAD))
			continue;
		if (MIN(s->at, end) > begin)
			sum += MAX(0, MIN(s->at, end) - MAX(begin, MAX(before, s->at - longest)));
		before = s->at;
	}
	return sum;
}

static void
check_coverage(struct world *w)
{
	if (w->disk.deployment.state != DS_SUCCEEDED || w->disk.n_samples == SAMPLES_MAX)
		return;
	for (unsigned i = 0; i < w->policy.n_phases; i++) {
		usec_t whole = w->policy.phases[i].until_usec - schedule_begin(&w->policy, i);
		usec_t health = seen_at_most(w, SAMPLE_HEALTH, i);
		usec_t metrics = w->policy.has_rate || w->policy.has_latency
					 ? seen_at_most(w, SAMPLE_METRICS, i)
					 : whole;

		if ((double)MIN(health, metrics) < 0.9 * (double)whole)
			world_broke(w, "succeeded with a phase that nobody saw",
				    "%s: %lld of %lld s", w->policy.phases[i].name,
				    (long long)(MIN(health, metrics) / USEC_PER_SEC),
				    (long long)(whole / USEC_PER_SEC));
	}
}

/* While nothing is suspect, every sample is due on the grid to the microsecond. */
void
check_grid(struct world *w, const struct effect *f)
{
	const struct deployment *d = f->deployment;
	struct env_view v;
	usec_t since, next;

	if (!d || d->state != DS_WATCHING || w->fault != FAULT_NONE || w->base_error > 0)
		return;
	core_view(w->core, 0, w->now, &v);
	since = f->u.sampling.due - d->t0;
	if (v.rechecking || since > schedule_end(&d->policy))
		return;
	next = schedule_next(&d->policy, w->spread, since - 1);
	if (next != since)
		world_broke(w, "a sample off the grid", "due at T+%lld us, grid at %lld us",
			    (long long)since, (long long)next);
}

void
check_authorised(struct world *w, const struct effect *f, enum dstate state)
{
	if (!w->disk.exists || w->disk.deployment.state != state)
		world_broke(w, "an act before its decision was on disk",
			    "%s while the disk says %s", effect_kind_name(f->kind),
			    w->disk.exists ? dstate_name(w->disk.deployment.state) : "nothing");
	if (state == DS_RB_RUNNING && w->disk.auto_decisions + w->disk.manual_decisions == 0)
		world_broke(w, "a rollback without a decision on disk", "%s", "");
}

/* What each kind of world must come to; only where chance cannot excuse another end. */
void
check_outcome(struct world *w)
{
	const struct deployment *d = &w->disk.deployment;
	bool undisturbed = !w->crashes && !w->hooks_fail && !w->manual_asked;
	usec_t worst;

	if (w->fault == FAULT_NONE && w->base_error == 0 && undisturbed && d->state != DS_SUCCEEDED)
		world_broke(w, "a healthy release did not succeed", "%s: %s", dstate_name(d->state),
			    d->outcome);
	if (w->fault == FAULT_NONE && w->base_error == 0 && w->disk.auto_decisions > 0 &&
	    !w->hooks_fail)
		world_broke(w, "a healthy release was rolled back", "%s", d->rollback_reason);
	if ((w->fault == FAULT_SILENT || w->fault == FAULT_OBSERVER) && w->base_error == 0 &&
	    w->disk.auto_decisions > 0 && !w->hooks_fail)
		world_broke(w, "rolled back on missing data", "%s", d->rollback_reason);
	if (w->fault == FAULT_OUTAGE && undisturbed && w->decided_at == 0 &&
	    w->fault_from < d->t0 + schedule_end(&w->policy) - 10 * USEC_PER_MINUTE)
		world_broke(w, "an outage was not rolled back", "%s: %s", dstate_name(d->state),
			    d->outcome);
	worst = 300 * USEC_PER_SEC + 2 * 30 * USEC_PER_SEC + 10 * USEC_PER_SEC;
	if (w->fault == FAULT_OUTAGE && undisturbed && w->decided_at != 0 && d->t0 != 0 &&
	    w->decided_at > MAX(w->fault_from, d->t0) + worst)
		world_broke(w, "an outage was decided too late", "after %lld s",
			    (long long)((w->decided_at - w->fault_from) / USEC_PER_SEC));
	if (w->deploy_hook.starts > 1)
		world_broke(w, "the deploy hook was started twice", "%u", w->deploy_hook.starts);
	for (int i = 0; i < ROLLBACKS_MAX; i++)
		if (w->rollback_hooks[i].starts > 1)
			world_broke(w, "a rollback hook was started twice", "%u",
				    w->rollback_hooks[i].starts);
	check_coverage(w);
	if (w->fault == FAULT_BURST && w->disk.auto_decisions > 0 && w->base_error == 0 &&
	    w->fault_until - w->fault_from < 2 * USEC_PER_MINUTE && !w->hooks_fail)
		world_broke(w, "a burst of under two minutes was rolled back", "%s",
			    d->rollback_reason);
}
