/* SPDX-License-Identifier: Apache-2.0 */
/* What status and explain show: computed when asked for, never stored. */

#include "common/util.h"
#include "daemon/core/internal.h"
#include "daemon/core/schedule.h"

struct scenario {
	const char *name, *advice;
};

/* The manual decision matrix of the operations guide. */
static const struct scenario outage = {"complete service outage", "emergency rollback, at once"};
static const struct scenario errors = {"high error rate",
				       "investigate, prepare rollback, within 5min"};
static const struct scenario slow = {"performance degradation",
				     "monitor, prepare rollback, within 10min"};
static const struct scenario stuck = {"rollback failed",
				      "intervene by hand, at once: escalate to on-call"};
static const struct scenario none = {"", ""};

static struct scenario
scenario_now(const struct env *e, const struct rule_view views[_RULE_MAX])
{
	const struct policy *p = env_policy(e);

	if (e->d && e->d->state == DS_ROLLBACK_FAILED && !e->d->restored_at)
		return stuck;
	/* Before the first release there is nothing to roll back to. */
	if (e->d && e->guard.bad_streak > 0 && e->guard.all_failed)
		return outage;
	if (!e->d || e->d->state != DS_WATCHING)
		return none;
	if (views[RULE_ERROR_RATE].verdict == VERDICT_BREACHED ||
	    rule_over_warning(&e->guard, p, RULE_ERROR_RATE))
		return errors;
	if (views[RULE_LATENCY_P95].verdict == VERDICT_BREACHED ||
	    rule_over_warning(&e->guard, p, RULE_LATENCY_P95))
		return slow;
	return none;
}

/* Coverage is judged up to the last samples: what comes after is not yet known to be unobserved. */
static void
view_phases(const struct env *e, usec_t now, usec_t interval, struct env_view *ret)
{
	const struct policy *p = &e->d->policy;
	usec_t since = now - e->d->t0, judged = since - guard_pending(&e->guard, p, now, interval);

	ret->phase = schedule_phase(p, since);
	if (ret->phase >= 0)
		ret->phase_left = p->phases[ret->phase].until_usec - since;
	for (unsigned i = 0; i < p->n_phases; i++) {
		usec_t begin = schedule_begin(p, i);

		ret->coverage[i].observed = guard_observed(&e->guard, p, i);
		ret->coverage[i].elapsed = MAX(0, MIN(judged, p->phases[i].until_usec) - begin);
	}
}

/* Where no rule is in force nothing can be rolled back; only health is looked at. */
static void
view_unarmed(const struct env *e, struct env_view *ret)
{
	const struct guard *g = &e->guard;

	for (int r = 0; r < _RULE_MAX; r++) {
		struct rule_view *v = &ret->rules[r];

		v->armed = false;
		v->verdict = VERDICT_HEALTHY;
		if (e->d && !dstate_ended(e->d->state))
			snprintf(v->evidence.text, sizeof v->evidence.text, "not in force while %s",
				 dstate_label(e->d->state));
		else
			snprintf(v->evidence.text, sizeof v->evidence.text,
				 "not in force: no deployment is live");
	}
	if (g->last_health_at && g->bad_streak > 0)
		ret->verdict = g->bad_streak >= env_policy(e)->rules[RULE_HEALTH].failures
				       ? VERDICT_BREACHED
				       : VERDICT_SUSPECT;
	else if (!g->last_health_at || g->last_health != RESULT_OK)
		ret->verdict = env_policy(e)->has_health ? VERDICT_BLIND : VERDICT_HEALTHY;
	else
		ret->verdict = VERDICT_HEALTHY;
}

int
core_view(const struct core *c, unsigned env, usec_t now, struct env_view *ret)
{
	const struct env *e = env < c->n ? c->envs[env] : NULL;
	struct scenario s;
	usec_t interval;

	if (!e || !e->used)
		return -22;
	memset(ret, 0, sizeof *ret);
	ret->deployment = e->d;
	ret->phase = -1;
	ret->next_sample = watch_next(e);
	ret->rechecking = e->guard.suspect;
	interval = watch_interval(e, now);
	for (int r = 0; r < _RULE_MAX; r++)
		rule_view(&e->guard, env_policy(e), r, now, interval, &ret->rules[r]);
	ret->verdict = guard_verdict(ret->rules);
	if (!e->d || !watch_armed(e))
		view_unarmed(e, ret);
	if (e->d && e->d->state == DS_WATCHING)
		view_phases(e, now, interval, ret);
	for (int i = 0; i < _CAUSE_MAX; i++)
		if (e->book.v[i])
			ret->alerts[i] = *e->book.v[i];
	ret->last_health = e->guard.last_health_at ? e->guard.last_health : RESULT_NO_DATA;
	ret->last_health_at = e->guard.last_health_at;
	str_copy(ret->last_health_detail, sizeof ret->last_health_detail,
		 e->guard.last_health_detail);
	s = scenario_now(e, ret->rules);
	ret->scenario = s.name;
	ret->advice = s.advice;
	return 0;
}
