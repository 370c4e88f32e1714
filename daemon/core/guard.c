/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/core/guard.h"

#include <assert.h>
#include <math.h>

#include "common/util.h"
#include "daemon/core/schedule.h"

static const usec_t gap_floor = 60 * USEC_PER_SEC;

void
guard_done(struct guard *g)
{
	window_done(&g->rate);
	window_done(&g->latency);
}

static void
rates_reset(struct guard *g)
{
	window_reset(&g->rate);
	window_reset(&g->latency);
	g->last_p95 = NAN;
	memset(g->observed, 0, sizeof g->observed);
}

void
guard_reset(struct guard *g, usec_t now)
{
	rates_reset(g);
	g->armed_at = now;
	g->t0 = 0;
	g->bad_streak = g->good_streak = g->rounds = 0;
	g->first_bad_at = 0;
	g->all_failed = false;
	memset(g->seen, 0, sizeof g->seen);
	memset(g->promised, 0, sizeof g->promised);
	g->suspect = false;
	g->suspect_at = 0;
	g->good_run = 0;
}

void
guard_watch(struct guard *g, usec_t t0)
{
	rates_reset(g);
	g->t0 = t0;
}

usec_t
guard_allowed_gap(usec_t interval)
{
	return MAX(2 * interval, gap_floor);
}

void
guard_promise(struct guard *g, enum sample_kind k, usec_t interval)
{
	g->promised[k] = interval;
}

/* The sample on its way when the fast re-check begins was asked for at the phase's own interval. */
static usec_t
expected_in(const struct guard *g, enum sample_kind k, usec_t now, usec_t interval)
{
	bool on_its_way =
		g->seen[k] <= g->suspect_at && now - g->suspect_at <= guard_allowed_gap(interval);

	return g->suspect && on_its_way ? MAX(interval, g->promised[k]) : interval;
}

usec_t
guard_unobserved(const struct guard *g, const struct policy *p, enum sample_kind k, usec_t now,
		 usec_t interval)
{
	bool wanted = k == SAMPLE_HEALTH ? p->has_health : p->has_rate || p->has_latency;
	usec_t since = now - MAX(g->seen[k], g->armed_at);

	return wanted && since > guard_allowed_gap(expected_in(g, k, now, interval)) ? since : 0;
}

/*
 * A typed sample vouches for the time back to the one before it; when that is further away than the
 * grid explains, for one interval only.  The grid is each phase's own: the first sample of a phase
 * of long intervals must not vouch for a gap at the end of one of short ones.
 */
static void
cover(struct guard *g, const struct policy *p, enum sample_kind k, usec_t at, usec_t interval)
{
	usec_t since = at - MAX(g->seen[k], g->armed_at), to = at - g->t0;

	for (unsigned i = 0; i < p->n_phases; i++) {
		usec_t grid = MIN(interval, p->phases[i].interval_usec);
		usec_t span = since <= grid + grid / 2 ? since : grid;
		usec_t from = MAX(to - span, schedule_begin(p, i));

		g->observed[k][i] += MAX(0, MIN(to, p->phases[i].until_usec) - from);
	}
}

static void
seen(struct guard *g, const struct policy *p, const struct sample *s, usec_t interval)
{
	if (g->t0 != 0 && s->at > g->t0)
		cover(g, p, s->kind, s->at, interval);
	g->seen[s->kind] = s->at;
}

usec_t
guard_observed(const struct guard *g, const struct policy *p, unsigned phase)
{
	usec_t least = USEC_INFINITY;

	assert(phase < POLICY_PHASES_MAX);
	if (p->has_health)
		least = MIN(least, g->observed[SAMPLE_HEALTH][phase]);
	if (p->has_rate || p->has_latency)
		least = MIN(least, g->observed[SAMPLE_METRICS][phase]);
	return least == USEC_INFINITY ? 0 : least;
}

usec_t
guard_pending(const struct guard *g, const struct policy *p, usec_t now, usec_t interval)
{
	const bool wanted[_SAMPLE_KIND_MAX] = {
		[SAMPLE_HEALTH] = p->has_health,
		[SAMPLE_METRICS] = p->has_rate || p->has_latency,
	};
	usec_t longest = 0;

	for (int k = 0; k < _SAMPLE_KIND_MAX; k++) {
		usec_t age = wanted[k] ? now - MAX(g->seen[k], g->t0) : 0;

		usec_t in = expected_in(g, k, now, interval);

		if (age > in + in / 2)
			return 0;
		longest = MAX(longest, age);
	}
	return longest;
}

static enum result
missing_as(enum result r, enum on_missing how)
{
	if (r != RESULT_NO_DATA)
		return r;
	switch (how) {
	case MISSING_BAD:
		return RESULT_BAD;
	case MISSING_OK:
		return RESULT_OK;
	default:
		return r;
	}
}

void
guard_infrastructure(struct guard *g, const struct sample *s)
{
	if (!s->infra_known)
		return;
	if (!g->infra_known)
		g->infra_muted = s->infra_critical;
	if (!s->infra_critical)
		g->infra_muted = false;
	if (s->infra_critical && !g->infra_critical)
		g->infra_since = s->at;
	g->infra_known = true;
	g->infra_critical = s->infra_critical;
}

static void
health(struct guard *g, const struct policy *p, const struct sample *s, usec_t interval)
{
	enum result r = missing_as(s->result, p->on_missing);

	g->last_health = s->result;
	g->last_health_at = s->at;
	str_copy(g->last_health_detail, sizeof g->last_health_detail, s->detail);
	guard_infrastructure(g, s);
	g->rounds++;
	if (r != RESULT_OK && r != RESULT_BAD)
		return;
	seen(g, p, s, interval);
	g->all_failed = r == RESULT_BAD && s->all_failed;
	if (r == RESULT_OK) {
		g->good_streak++;
		g->bad_streak = 0;
		return;
	}
	if (g->bad_streak == 0)
		g->first_bad_at = s->at;
	g->bad_streak++;
	g->good_streak = 0;
}

/* What a silent source counts as under OnMissing=bad|ok: an interval of the traffic last seen. */
static void
push_missing(struct window *w, const struct policy *p, enum rule_kind rule, usec_t at,
	     usec_t interval)
{
	struct window_rule wr = rule_window(p, rule, w->gauge);
	bool bad = p->on_missing == MISSING_BAD;
	double total = w->n > 0 ? w->v[w->n - 1].total : wr.min_requests;
	struct obs o = {.at = at, .span = interval, .total = total, .value = NAN};

	if (w->gauge)
		o.value = bad ? INFINITY : 0;
	o.bad = o.bad_warn = bad ? total : 0;
	window_push(w, &o, &wr);
}

static void
push_series(struct window *w, const struct policy *p, enum rule_kind rule, const struct series *s,
	    usec_t at, usec_t interval)
{
	struct window_rule wr = rule_window(p, rule, s->gauge);
	struct obs o = {.at = at, .bad = s->bad, .bad_warn = s->bad_warn, .total = s->total};

	if (s->result != RESULT_OK || (!s->gauge && s->span > guard_allowed_gap(interval)))
		return; /* a difference over a longer gap is not an observation of the time in it */
	o.span =
		s->gauge ? MIN(s->span > 0 ? s->span : interval, interval + interval / 2) : s->span;
	o.value = s->gauge ? s->value : NAN;
	window_push(w, &o, &wr);
}

static bool
series_usable(const struct series *s, usec_t interval)
{
	return s->result == RESULT_OK && (s->gauge || s->span <= guard_allowed_gap(interval));
}

static void
metrics(struct guard *g, const struct policy *p, const struct sample *s, usec_t interval)
{
	bool silent = missing_as(s->result, p->on_missing) != s->result;
	bool usable = (!p->has_rate || series_usable(&s->rate, interval)) &&
		      (!p->has_latency || series_usable(&s->latency, interval));

	if (g->t0 == 0 || s->at <= g->t0) {
		if (usable)
			seen(g, p, s, interval);
		return;
	}
	if (silent && p->has_rate)
		push_missing(&g->rate, p, RULE_ERROR_RATE, s->at, interval);
	else if (p->has_rate)
		push_series(&g->rate, p, RULE_ERROR_RATE, &s->rate, s->at, interval);
	if (silent && p->has_latency)
		push_missing(&g->latency, p, RULE_LATENCY_P95, s->at, interval);
	else if (p->has_latency)
		push_series(&g->latency, p, RULE_LATENCY_P95, &s->latency, s->at, interval);
	if (p->has_latency && s->latency.result == RESULT_OK && !isnan(s->latency.value))
		g->last_p95 = s->latency.value;
	if (usable || silent)
		seen(g, p, s, interval);
}

/* Suspect from the first bad sign until so many good samples in a row. */
static void
suspicion(struct guard *g, const struct policy *p, const struct sample *s)
{
	bool bad =
		g->bad_streak > 0 || g->rate.clock < g->rate.n || g->latency.clock < g->latency.n;

	if (bad) {
		if (!g->suspect)
			g->suspect_at = s->at;
		g->suspect = true;
		g->good_run = 0;
	} else if (g->suspect && (s->kind == SAMPLE_HEALTH || !p->has_health) &&
		   missing_as(s->result, p->on_missing) == RESULT_OK &&
		   ++g->good_run >= p->recheck_good) {
		g->suspect = false;
	}
}

void
guard_sample(struct guard *g, const struct policy *p, const struct sample *s, usec_t interval)
{
	interval = expected_in(g, s->kind, s->at, interval);
	if (s->kind == SAMPLE_HEALTH)
		health(g, p, s, interval);
	else
		metrics(g, p, s, interval);
	suspicion(g, p, s);
}
