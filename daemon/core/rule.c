/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four rollback rules over a guard's observations: verdict and evidence of each.  A rule
 * without its source, or in mode off, is not armed and has nothing to say.
 */

#include <assert.h>
#include <math.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/core/guard.h"
#include "daemon/core/stats.h"

/* P95 over the limit is the same as more than this share of requests slower than the limit. */
static const double p95_share = 0.05;

__attribute__((format(printf, 2, 3))) static void
say(struct evidence *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	e->fact_len = (unsigned)strlen(e->text);
}

/* Appends what would change it: true only now, so alerts, which are read later, leave it out. */
__attribute__((format(printf, 2, 3))) static void
outlook(struct evidence *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text + e->fact_len, sizeof e->text - e->fact_len, fmt, ap);
	va_end(ap);
}

static const struct window *
rule_observations(const struct guard *g, enum rule_kind rule)
{
	return rule == RULE_ERROR_RATE ? &g->rate : &g->latency;
}

struct window_rule
rule_window(const struct policy *p, enum rule_kind rule, bool gauge)
{
	const struct rule_policy *r = &p->rules[rule];
	/* A gauge is compared with the limit itself, not with a share. */
	bool share = rule == RULE_LATENCY_P95 && !gauge;

	return (struct window_rule){
		.limit = share ? p95_share : r->limit,
		.hold_usec = r->hold_usec,
		.min_requests = r->min_requests,
		.literal = r->sustain == SUSTAIN_LITERAL,
		.recheck_usec = p->recheck_usec,
	};
}

static bool
rule_has_source(const struct policy *p, enum rule_kind rule)
{
	switch (rule) {
	case RULE_HEALTH:
		return p->has_health;
	case RULE_ERROR_RATE:
		return p->has_rate;
	case RULE_LATENCY_P95:
		return p->has_latency;
	default:
		return p->has_infrastructure;
	}
}

static void
blind(struct rule_view *v, usec_t unobserved, const char *what)
{
	char span[USEC_TEXT_MAX];

	v->verdict = VERDICT_BLIND;
	say(&v->evidence, "%s unobserved for %s", what, usec_format(span, unobserved));
}

static void
view_health(const struct guard *g, const struct policy *p, usec_t now, usec_t interval,
	    struct rule_view *v)
{
	struct evidence *e = &v->evidence;
	usec_t unobserved = guard_unobserved(g, p, SAMPLE_HEALTH, now, interval);

	e->failures_limit = p->rules[RULE_HEALTH].failures;
	e->failures = g->bad_streak;
	e->samples = g->bad_streak > 0 ? g->bad_streak : g->good_streak;
	e->value = g->bad_streak;
	if (g->bad_streak > 0) {
		e->since = g->first_bad_at;
		e->lasted = now - g->first_bad_at;
	}
	if (e->failures >= e->failures_limit) {
		v->verdict = VERDICT_BREACHED;
		say(e, "%u health rounds in a row failed (limit %u); the last: %s", e->failures,
		    e->failures_limit, g->last_health_detail);
	} else if (unobserved) {
		blind(v, unobserved, "health");
	} else if (g->bad_streak > 0) {
		v->verdict = VERDICT_SUSPECT;
		say(e,
		    "%u of %u failed health rounds in a row; fires after %u more unless one "
		    "passes; "
		    "the last: %s",
		    e->failures, e->failures_limit, e->failures_limit - e->failures,
		    g->last_health_detail);
	} else if (g->seen[SAMPLE_HEALTH] == 0) {
		say(e, "no health round yet; fires after %u failed in a row", e->failures_limit);
	} else {
		say(e, "the last %u health round%s passed; fires after %u failed in a row",
		    e->samples, e->samples == 1 ? "" : "s", e->failures_limit);
	}
}

static void
view_infrastructure(const struct guard *g, struct rule_view *v)
{
	struct evidence *e = &v->evidence;

	e->failures_limit = 1;
	e->failures = g->infra_critical && !g->infra_muted;
	e->value = e->failures;
	if (e->failures) {
		v->verdict = VERDICT_BREACHED;
		e->since = g->infra_since;
		say(e, "an infrastructure check became critical after the deployment began: %s",
		    g->last_health_detail);
	} else if (g->infra_critical) {
		say(e, "an infrastructure check was critical before the deployment began: muted, "
		       "never a reason to roll back");
	} else {
		say(e, "no critical infrastructure check");
	}
}

/* "12.4%" or "5.4s": the rule's value or limit in its own unit. */
static const char *
amount(char buf[USEC_TEXT_MAX], enum rule_kind rule, double v)
{
	if (isnan(v))
		str_copy(buf, USEC_TEXT_MAX, "unknown");
	else if (isinf(v))
		str_copy(buf, USEC_TEXT_MAX, "over any limit");
	else if (rule == RULE_ERROR_RATE)
		snprintf(buf, USEC_TEXT_MAX, "%.3g%%", v * 100);
	else if (v < 1)
		snprintf(buf, USEC_TEXT_MAX, "%.3gms", v * 1000);
	else
		snprintf(buf, USEC_TEXT_MAX, "%.4gs", v);
	return buf;
}

static const char *
rule_noun(enum rule_kind rule)
{
	return rule == RULE_ERROR_RATE ? "error rate" : "P95";
}

/* "error rate 12.4% (8.2–17.5%), 154 of 1240 requests" */
static void
describe_value(const struct rule_view *v, enum rule_kind rule, const struct window_state *s,
	       bool gauge, char *buf, size_t n)
{
	const struct evidence *e = &v->evidence;
	char value[USEC_TEXT_MAX], limit[USEC_TEXT_MAX];

	amount(value, rule, e->value);
	amount(limit, rule, e->limit);
	if (gauge)
		snprintf(buf, n, "%s %s in %u readings", rule_noun(rule), value, s->samples);
	else if (s->total <= 0)
		snprintf(buf, n, "%s unknown, no requests", rule_noun(rule));
	else if (rule == RULE_ERROR_RATE)
		snprintf(buf, n, "error rate %s (at least %.3g%%, %.0f of %.0f requests)", value,
			 s->lower * 100, s->bad, s->total);
	else
		snprintf(buf, n, "P95 %s; %.3g%% of %.0f requests slower than %s (5%% allowed)",
			 value, s->value * 100, s->total, limit);
}

static void
describe_running(struct rule_view *v, enum rule_kind rule, const struct window_state *s,
		 const char *value, const struct window_rule *wr)
{
	struct evidence *e = &v->evidence;
	char limit[USEC_TEXT_MAX], hold[USEC_TEXT_MAX], lasted[USEC_TEXT_MAX], left[USEC_TEXT_MAX];

	amount(limit, rule, e->limit);
	usec_format(hold, wr->hold_usec);
	usec_format(lasted, s->lasted);
	if (s->breached)
		say(e, "%s: over the limit of %s for %s (hold time %s)", value, limit, lasted,
		    hold);
	else if (streq(s->missing, "time")) {
		say(e, "%s: over the limit of %s for %s of %s", value, limit, lasted, hold);
		outlook(e, "; fires in %s unless it falls under %s",
			usec_format(left, wr->hold_usec - s->lasted), limit);
	} else if (streq(s->missing, "requests"))
		say(e, "blind: %.0f requests in %s, %u needed; %s", s->total, lasted,
		    wr->min_requests, value);
	else
		say(e, "%s: over the limit of %s for %s, not proven yet: it lacks %s", value, limit,
		    lasted, s->missing);
}

static void
view_window(const struct guard *g, const struct policy *p, enum rule_kind rule, usec_t now,
	    usec_t interval, struct rule_view *v)
{
	struct evidence *e = &v->evidence;
	const struct window *w = rule_observations(g, rule);
	struct window_rule wr = rule_window(p, rule, w->gauge);
	struct window_state s;
	usec_t unobserved = guard_unobserved(g, p, SAMPLE_METRICS, now, interval);
	char value[256], limit[USEC_TEXT_MAX], hold[USEC_TEXT_MAX];

	window_test(w, &wr, &s);
	e->value = rule == RULE_ERROR_RATE || w->gauge ? s.value : g->last_p95;
	e->lower = rule == RULE_ERROR_RATE ? s.lower : NAN;
	e->upper = rule == RULE_ERROR_RATE ? s.upper : NAN;
	e->requests = s.total;
	e->bad = s.bad;
	e->samples = s.samples;
	e->since = s.since;
	e->lasted = s.lasted;
	describe_value(v, rule, &s, w->gauge, value, sizeof value);
	if (s.breached)
		v->verdict = VERDICT_BREACHED;
	else if (unobserved) {
		blind(v, unobserved, "metrics");
		return;
	} else if (s.running)
		v->verdict =
			s.missing && streq(s.missing, "requests") ? VERDICT_BLIND : VERDICT_SUSPECT;
	else if (s.low_traffic)
		v->verdict = VERDICT_BLIND;
	if (s.running)
		describe_running(v, rule, &s, value, &wr);
	else if (s.low_traffic)
		say(e, "blind: %.0f requests in %s, %u needed", s.recent_total,
		    usec_format(hold, wr.hold_usec), wr.min_requests);
	else {
		say(e, "%s: under the limit of %s", value, amount(limit, rule, e->limit));
		outlook(e, "; fires when over it for %s", usec_format(hold, wr.hold_usec));
	}
}

void
rule_view(const struct guard *g, const struct policy *p, enum rule_kind rule, usec_t now,
	  usec_t interval, struct rule_view *ret)
{
	const struct rule_policy *r = &p->rules[rule];

	*ret = (struct rule_view){.mode = r->mode, .verdict = VERDICT_HEALTHY};
	ret->armed = r->mode != RULE_OFF && rule_has_source(p, rule);
	ret->evidence = (struct evidence){
		.rule = rule,
		.limit = r->limit,
		.hold = r->hold_usec,
		.value = NAN,
		.lower = NAN,
		.upper = NAN,
	};
	if (!ret->armed) {
		say(&ret->evidence, "%s", r->mode == RULE_OFF ? "off" : "no source is configured");
		return;
	}
	switch (rule) {
	case RULE_HEALTH:
		view_health(g, p, now, interval, ret);
		break;
	case RULE_INFRASTRUCTURE:
		view_infrastructure(g, ret);
		break;
	default:
		view_window(g, p, rule, now, interval, ret);
		break;
	}
}

/* The worst of the armed rules; a breach that is only observed makes the environment suspect. */
enum verdict
guard_verdict(const struct rule_view views[_RULE_MAX])
{
	enum verdict worst = VERDICT_HEALTHY;
	static const int severity[_VERDICT_MAX] = {
		[VERDICT_HEALTHY] = 0,
		[VERDICT_BLIND] = 1,
		[VERDICT_SUSPECT] = 2,
		[VERDICT_BREACHED] = 3,
	};

	for (int i = 0; i < _RULE_MAX; i++) {
		enum verdict v = views[i].verdict;

		if (!views[i].armed)
			continue;
		if (v == VERDICT_BREACHED && views[i].mode == RULE_OBSERVE)
			v = VERDICT_SUSPECT;
		if (severity[v] > severity[worst])
			worst = v;
	}
	return worst;
}

/* Warnings about rates need the same proof as an act: the bound, over the hold time, is over. */
bool
rule_over_warning(const struct guard *g, const struct policy *p, enum rule_kind rule)
{
	const struct window *w = rule_observations(g, rule);
	struct window_rule wr = rule_window(p, rule, w->gauge);
	double warn = p->rules[rule].warn_limit;
	struct window_state s;

	if (warn <= 0 || p->rules[rule].mode == RULE_OFF || !rule_has_source(p, rule))
		return false;
	window_test(w, &wr, &s);
	if (w->gauge)
		return w->n > 0 && w->v[w->n - 1].value > warn;
	if (s.recent_total < wr.min_requests)
		return false;
	if (rule == RULE_ERROR_RATE)
		return wilson_lower(s.recent_bad, s.recent_total, STATS_Z_ACT) > warn;
	return wilson_lower(s.recent_bad_warn, s.recent_total, STATS_Z_ACT) > p95_share;
}
