/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to sample, and what follows from a sample: verdict, alerts, the rollback, the end of the
 * watch.
 *
 * The grid is absolute.  last_due is the grid point of the newest samples; the next one is computed
 * from it, never from the clock, so a late wake-up moves nothing.  While suspect, the fast re-check
 * counts from last_due, and the phase's own grid points stay.
 */

#include <math.h>

#include "common/util.h"
#include "daemon/core/internal.h"
#include "daemon/core/schedule.h"

/* The last samples of a schedule are waited for so long before it is judged without them. */
static const usec_t finish_grace = 20 * USEC_PER_SEC;
/* A clock that runs at the end is watched on: until it is decided, at most this and twice its hold.
 */
static const usec_t extension = 5 * USEC_PER_MINUTE;
/* First idle rounds are spread over so long: soon enough for whoever has just started dhashd. */
static const usec_t idle_spread = 5 * USEC_PER_SEC;

static bool
watching(const struct env *e)
{
	return e->d && e->d->state == DS_WATCHING;
}

/* In these states the rules may act. */
bool
watch_armed(const struct env *e)
{
	return e->d && (e->d->state == DS_SETTLING || e->d->state == DS_WATCHING);
}

/* Ended, but still watched: half an hour after a rollback, without end after a failed one. */
static bool
in_tail(const struct env *e)
{
	const struct deployment *d = e->d;

	if (!d)
		return false;
	if (d->state == DS_ROLLED_BACK)
		return e->last_due - d->restored_at <= d->policy.post_watch_usec;
	return d->state == DS_ROLLBACK_FAILED && !d->restored_at;
}

static usec_t
interval_in_phase(const struct env *e, usec_t now)
{
	const struct policy *p = &e->d->policy;
	int phase = schedule_phase(p, now - e->d->t0);
	usec_t interval = phase >= 0    ? p->phases[phase].interval_usec
			  : e->extended ? p->recheck_usec
					: p->phases[p->n_phases - 1].interval_usec;

	return e->guard.suspect ? MIN(interval, p->recheck_usec) : interval;
}

/* The sampling interval in force; 0 = none. */
usec_t
watch_interval(const struct env *e, usec_t now)
{
	const struct policy *p = env_policy(e);

	switch (e->d ? (int)e->d->state : -1) {
	case DS_DEPLOYING:
	case DS_SETTLING:
		return p->phases[0].interval_usec;
	case DS_WATCHING:
		return interval_in_phase(e, now);
	case DS_VERIFYING:
		return p->verify_interval_usec;
	case DS_ROLLED_BACK:
		return in_tail(e) ? p->post_interval_usec : p->idle_interval_usec;
	case DS_ROLLBACK_FAILED:
		return in_tail(e) ? p->recovery_interval_usec : p->idle_interval_usec;
	default:
		/* Between the lines of a deployment or rollback there is nothing to judge. */
		return e->d && !dstate_ended(e->d->state) ? 0 : p->idle_interval_usec;
	}
}

static usec_t
next_watching(const struct env *e)
{
	const struct deployment *d = e->d;
	usec_t next;

	if (e->finish_by)
		return USEC_INFINITY; /* the last answers are awaited */
	if (e->extended)
		return e->last_due + d->policy.recheck_usec;
	next = schedule_next(&d->policy, e->spread, e->last_due - d->t0);
	if (next == USEC_INFINITY)
		return e->last_due + 1; /* woken up after the end: judge now */
	next += d->t0;
	if (e->guard.suspect && e->last_due >= d->t0)
		next = MIN(next, e->last_due + d->policy.recheck_usec);
	return next;
}

/* Rounds while nothing is guarded. */
static usec_t
next_idle(const struct env *e)
{
	usec_t interval = env_policy(e)->idle_interval_usec;

	if (interval <= 0)
		return USEC_INFINITY;
	return grid_next(e->idle_since + e->spread % MIN(interval, idle_spread), interval,
			 e->last_due);
}

usec_t
watch_next(const struct env *e)
{
	const struct policy *p = env_policy(e);
	usec_t interval, next;

	if (!p->has_health && !p->has_rate && !p->has_latency && !p->has_infrastructure)
		return watching(e) ? next_watching(e) : USEC_INFINITY;
	if (watching(e))
		return next_watching(e);
	if (!e->d || (dstate_ended(e->d->state) && !in_tail(e)))
		return next_idle(e);
	interval = watch_interval(e, e->last_due);
	if (interval <= 0)
		return USEC_INFINITY;
	next = grid_next(e->d->entered_at, interval, e->last_due);
	/* The tail's last round is due at its end, not after it. */
	if (e->d->state == DS_ROLLED_BACK && next - e->d->restored_at > p->post_watch_usec)
		return next_idle(e);
	return next;
}

/* --- due --- */

static bool
wants(const struct env *e, enum sample_kind k)
{
	const struct policy *p = env_policy(e);

	if (k == SAMPLE_HEALTH)
		return p->has_health || p->has_infrastructure;
	return watch_armed(e) && (p->has_rate || p->has_latency);
}

static void
ask(struct step *st, usec_t due)
{
	for (enum sample_kind k = 0; k < _SAMPLE_KIND_MAX; k++) {
		struct effect *f;

		st->env->awaiting[k] = wants(st->env, k);
		if (!st->env->awaiting[k])
			continue;
		f = emit(st, EF_SAMPLE);
		f->u.sampling.kind = k;
		f->u.sampling.due = due;
	}
}

static void
announce_phase(struct step *st)
{
	struct env *e = st->env;
	const struct policy *p = &e->d->policy;
	int phase = schedule_phase(p, e->last_due - e->d->t0);
	char until[USEC_TEXT_MAX], interval[USEC_TEXT_MAX];

	if (phase == e->phase || phase < 0)
		return;
	e->phase = phase;
	note(st, NOTE_PHASE, LEVEL_NONE, _RULE_MAX, "phase %s: every %s until T+%s",
	     p->phases[phase].name, usec_format(interval, p->phases[phase].interval_usec),
	     usec_format(until, p->phases[phase].until_usec));
}

static void
unobserved_alert(struct step *st)
{
	struct env *e = st->env;
	const struct policy *p = env_policy(e);
	usec_t now = st->event->now, interval = watch_interval(e, now);
	char text[CORE_TEXT_MAX] = "", span[USEC_TEXT_MAX];

	for (enum sample_kind k = 0; k < _SAMPLE_KIND_MAX; k++) {
		usec_t gap = guard_unobserved(&e->guard, p, k, now, interval);

		if (gap && (k == SAMPLE_HEALTH || watching(e)))
			snprintf(text, sizeof text, "%s unobserved for %s", sample_kind_name(k),
				 usec_format(span, gap));
	}
	alert(st, CAUSE_UNOBSERVED, text[0] ? LEVEL_WARNING : LEVEL_NONE,
	      text[0] ? text : "observed again");
}

/* The newest grid point that is not in the future: a late wake-up samples once, not for each it
 * missed. */
static usec_t
newest_due(struct env *e, usec_t now)
{
	for (;;) {
		usec_t before = e->last_due, next = watch_next(e);

		if (next > now || next == USEC_INFINITY)
			return before;
		if (watching(e) && next - e->d->t0 >= schedule_end(&e->d->policy) && !e->extended)
			return e->last_due = next; /* the end is a sample of its own */
		e->last_due = next;
	}
}

static usec_t
longest_hold(const struct policy *p)
{
	usec_t hold = 0;

	for (int r = 0; r < _RULE_MAX; r++)
		hold = MAX(hold, p->rules[r].hold_usec);
	return hold;
}

/* Counted from T+0, so that no number of restarts moves it. */
static usec_t
last_moment(const struct env *e)
{
	const struct policy *p = &e->d->policy;

	return e->d->t0 + schedule_end(p) + 2 * longest_hold(p) + extension;
}

void
watch_due(struct step *st)
{
	struct env *e = st->env;
	usec_t now = st->event->now;

	if (watch_next(e) > now)
		return;
	if (watching(e) && now >= last_moment(e)) {
		watch_finish(st);
		return;
	}
	newest_due(e, now);
	ask(st, e->last_due);
	if (!watching(e)) {
		unobserved_alert(st);
		return;
	}
	announce_phase(st);
	if (!e->extended && e->last_due - e->d->t0 >= schedule_end(&e->d->policy))
		e->finish_by = now + finish_grace;
	unobserved_alert(st);
	if (watching(e) && e->finish_by && !e->awaiting[SAMPLE_HEALTH] &&
	    !e->awaiting[SAMPLE_METRICS])
		watch_finish(st);
}

/* --- the end of the watch ----------------------------------------------------------------------
 */

static bool
coverage_low(const struct env *e, char *buf, size_t n)
{
	const struct policy *p = &e->d->policy;

	if (!p->has_health && !p->has_rate && !p->has_latency) {
		snprintf(buf, n, "nothing is configured to be observed");
		return true;
	}
	for (unsigned i = 0; i < p->n_phases; i++) {
		usec_t whole = p->phases[i].until_usec - schedule_begin(p, i);
		usec_t observed = guard_observed(&e->guard, p, i);
		char a[USEC_TEXT_MAX], b[USEC_TEXT_MAX];

		if ((double)observed >= p->min_coverage * (double)whole)
			continue;
		snprintf(buf, n, "phase %s was observed for %s of %s; %.0f%% are needed to succeed",
			 p->phases[i].name, usec_format(a, observed), usec_format(b, whole),
			 p->min_coverage * 100);
		return true;
	}
	return false;
}

static void
conclude(struct step *st, const char *doubt)
{
	struct evidence none = {.rule = _RULE_MAX, .value = NAN, .lower = NAN, .upper = NAN};
	char text[TEXT_MAX_LEN], span[USEC_TEXT_MAX];

	if (doubt) {
		str_copy(text, sizeof text, doubt);
	} else if (!coverage_low(st->env, text, sizeof text)) {
		snprintf(text, sizeof text, "watched for %s, no rule fired",
			 usec_format(span, schedule_end(&st->env->d->policy)));
		life_decide(st, DECISION_PROMOTE, true, &none, text);
		life_take(st, TR_WATCHED, text);
		return;
	}
	life_decide(st, DECISION_HOLD, true, &none, text);
	life_take(st, TR_UNCOVERED, text);
}

/* The schedule is over; a suspicion is watched to its end first. */
void
watch_finish(struct step *st)
{
	struct env *e = st->env;
	e->finish_by = 0;
	if (!e->guard.suspect) {
		conclude(st, NULL);
	} else if (st->event->now >= last_moment(e)) {
		conclude(st, "still suspect long after the schedule's end");
	} else if (!e->extended) {
		e->extended = true;
		note(st, NOTE_PHASE, LEVEL_WARNING, _RULE_MAX,
		     "the schedule is over, but the service is suspect: watching on");
	}
}

/* --- samples ------------------------------------------------------------------------------------
 */

static void
health_alert(struct step *st)
{
	const struct guard *g = &st->env->guard;
	char text[CORE_TEXT_MAX];

	if (g->last_health != RESULT_OK && g->last_health != RESULT_BAD)
		return;
	snprintf(text, sizeof text, "%u health round%s in a row failed: %s", g->bad_streak,
		 g->bad_streak == 1 ? "" : "s", g->last_health_detail);
	alert(st, CAUSE_HEALTH,
	      g->bad_streak >= 2   ? LEVEL_CRITICAL
	      : g->bad_streak == 1 ? LEVEL_WARNING
				   : LEVEL_NONE,
	      g->bad_streak ? text : "a health round passed");
}

static void
rate_alert(struct step *st, enum rule_kind rule, enum cause cause, const struct rule_view *v)
{
	const struct env *e = st->env;
	const struct evidence *ev = &v->evidence;
	bool critical =
		v->armed && ev->since && ev->lasted * 2 > ev->hold && v->verdict != VERDICT_BLIND;
	bool warning = rule_over_warning(&e->guard, env_policy(e), rule);
	char text[CORE_TEXT_MAX];

	snprintf(text, sizeof text, "%.*s", (int)ev->fact_len, ev->text);
	alert(st, cause, critical ? LEVEL_CRITICAL : warning ? LEVEL_WARNING : LEVEL_NONE, text);
}

static void
rate_alerts(struct step *st, const struct rule_view views[_RULE_MAX])
{
	const struct rule_view *low = NULL;

	rate_alert(st, RULE_ERROR_RATE, CAUSE_ERROR_RATE, &views[RULE_ERROR_RATE]);
	rate_alert(st, RULE_LATENCY_P95, CAUSE_LATENCY, &views[RULE_LATENCY_P95]);
	for (int r = RULE_ERROR_RATE; r <= RULE_LATENCY_P95; r++)
		if (views[r].armed && views[r].verdict == VERDICT_BLIND && !low &&
		    !guard_unobserved(&st->env->guard, env_policy(st->env), SAMPLE_METRICS,
				      st->event->now, watch_interval(st->env, st->event->now)))
			low = &views[r];
	alert(st, CAUSE_LOW_TRAFFIC, low ? LEVEL_WARNING : LEVEL_NONE,
	      low ? low->evidence.text : "enough requests again");
}

static void
infra_alert(struct step *st)
{
	const struct guard *g = &st->env->guard;

	if (!env_policy(st->env)->has_infrastructure || !g->infra_known)
		return;
	alert(st, CAUSE_INFRASTRUCTURE,
	      g->infra_critical && !g->infra_muted ? LEVEL_CRITICAL : LEVEL_NONE,
	      g->infra_critical ? g->last_health_detail : "infrastructure checks are well again");
}

static void
announce_verdict(struct step *st, const struct rule_view views[_RULE_MAX])
{
	enum verdict v = guard_verdict(views);
	const struct rule_view *why = NULL;

	if (v == st->env->verdict)
		return;
	st->env->verdict = v;
	for (int r = 0; r < _RULE_MAX && v != VERDICT_HEALTHY; r++)
		if (views[r].armed && !why && views[r].verdict != VERDICT_HEALTHY)
			why = &views[r];
	note(st, NOTE_VERDICT, v == VERDICT_HEALTHY ? LEVEL_NONE : LEVEL_WARNING,
	     why ? why->evidence.rule : _RULE_MAX, "%s%s%s", verdict_name(v), why ? ": " : "",
	     why ? why->evidence.text : "");
}

/* Observe mode says once per deployment what it would have done. */
static void
observed_breach(struct step *st, const struct rule_view *v)
{
	enum rule_kind r = v->evidence.rule;

	if (st->env->would[r])
		return;
	st->env->would[r] = true;
	life_decide(st, DECISION_WOULD_ROLL_BACK, true, &v->evidence, v->evidence.text);
	note(st, NOTE_DECISION, LEVEL_WARNING, r, "would roll back (mode observe): %s",
	     v->evidence.text);
}

static bool
rule_may_act(const struct env *e, enum rule_kind r)
{
	return e->d->state == DS_WATCHING || r == RULE_HEALTH;
}

static void
judge(struct step *st)
{
	struct env *e = st->env;
	struct rule_view views[_RULE_MAX];
	usec_t now = st->event->now, interval = watch_interval(e, now);

	for (int r = 0; r < _RULE_MAX; r++)
		rule_view(&e->guard, &e->d->policy, r, now, interval, &views[r]);
	announce_verdict(st, views);
	infra_alert(st);
	if (watching(e))
		rate_alerts(st, views);
	for (int r = 0; r < _RULE_MAX && watch_armed(e); r++) {
		if (!views[r].armed || views[r].verdict != VERDICT_BREACHED || !rule_may_act(e, r))
			continue;
		if (views[r].mode == RULE_OBSERVE)
			observed_breach(st, &views[r]);
		else
			life_breach(st, &views[r]);
	}
}

static void
verify(struct step *st)
{
	const struct env *e = st->env;
	const struct policy *p = &e->d->policy;
	char text[TEXT_MAX_LEN];

	if (e->guard.good_streak < p->verify_passes) {
		/* Rounds count too, not time alone: restarts must not prolong it without end. */
		if (e->guard.rounds * p->verify_interval_usec > p->verify_timeout_usec)
			life_deadline(st);
		return;
	}
	snprintf(text, sizeof text, "%u health rounds in a row passed after the rollback",
		 e->guard.good_streak);
	life_take(st, TR_VERIFIED, text);
}

static void
recovered(struct step *st)
{
	struct deployment *d = st->env->d;

	if (d->restored_at || st->env->guard.good_streak == 0)
		return;
	d->restored_at = st->event->now;
	d->restored_wall = st->event->wall;
	st->env->dirty = true;
	st->env->idle_since = st->event->now;
	alert(st, CAUSE_ROLLBACK, LEVEL_NONE, "the service is healthy again");
	alerts_unwatch(st);
	note(st, NOTE_RESTORED, LEVEL_WARNING, _RULE_MAX,
	     "service restored after a failed rollback; what is in place now is for an operator to "
	     "say");
	emit(st, EF_REPORT);
}

/* Does a failed health round mean anything?  Not before the first release, nor while a hook works.
 */
static bool
health_matters(const struct env *e)
{
	return e->d && (watch_armed(e) || dstate_ended(e->d->state)) && e->d->deployed_at != 0;
}

/* Bad news is told each time while somebody watches, else once. */
static void
tell_bad(struct step *st, const struct sample *s)
{
	const struct env *e = st->env;
	bool live = e->d && (watch_armed(e) || e->d->state == DS_VERIFYING);

	if (s->result == RESULT_OK)
		return;
	if (!live && (!health_matters(e) || e->guard.bad_streak != 1))
		return;
	note(st, NOTE_SAMPLE, s->result == RESULT_BAD ? LEVEL_WARNING : LEVEL_NONE, _RULE_MAX,
	     "%s %s: %s", sample_kind_name(s->kind), result_name(s->result), s->detail);
}

/* One sample into the guard, measured by the interval that it was asked for in. */
void
watch_observe(struct env *e, const struct sample *s, usec_t now)
{
	guard_sample(&e->guard, env_policy(e), s, watch_interval(e, now));
	guard_promise(&e->guard, s->kind, watch_interval(e, now));
}

void
watch_sample(struct step *st)
{
	struct env *e = st->env;
	const struct sample *s = &st->event->u.sample;
	unsigned attempt = e->d ? e->d->attempt : 0;

	if (st->event->attempt != attempt || s->kind < 0 || s->kind >= _SAMPLE_KIND_MAX)
		return; /* asked for in a state that is over */
	e->awaiting[s->kind] = false;
	if (e->d && (!dstate_ended(e->d->state) || in_tail(e)))
		emit(st, EF_PERSIST_SAMPLE)->u.sample = *s;
	watch_observe(e, s, st->event->now);
	tell_bad(st, s);
	if (s->kind == SAMPLE_HEALTH && health_matters(e))
		health_alert(st);
	if (watch_armed(e))
		judge(st);
	else if (e->d && e->d->state == DS_VERIFYING)
		verify(st);
	else if (e->d && e->d->state == DS_ROLLBACK_FAILED)
		recovered(st);
	if (!watching(e))
		return;
	if (e->finish_by && !e->awaiting[SAMPLE_HEALTH] && !e->awaiting[SAMPLE_METRICS])
		watch_finish(st);
	else if (e->extended && (!e->guard.suspect || st->event->now >= last_moment(e)))
		watch_finish(st);
}
