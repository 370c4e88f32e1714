/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/core/window.h"

#include <math.h>

#include "common/util.h"
#include "daemon/core/stats.h"

/* The longest suffix that may prove recovery, and the part of the clock that must be over the limit
 * at its end (both from the contract of "sustained"). */
static const usec_t recovery_usec = 300 * USEC_PER_SEC;
static const usec_t last_usec = 60 * USEC_PER_SEC;

/* The sum's steps are rounded; what they leave where it should be 0 is far under one request. */
static const double cusum_zero = 1e-6;

enum {
	GAUGE_READINGS_MIN = 3,
	GAUGE_SHARE_PERCENT = 80,
	OBS_MAX = 4096, /* beyond it the oldest are merged in pairs */
};

void
window_done(struct window *w)
{
	free(w->v);
	*w = (struct window){0};
}

void
window_reset(struct window *w)
{
	w->n = 0;
	w->clock = 0;
	w->cusum = 0;
}

static bool
running(const struct window *w)
{
	return w->clock < w->n;
}

static bool
gauge_over(const struct obs *o, double limit)
{
	return o->value > limit;
}

static bool
obs_over(const struct window *w, const struct obs *o, double limit)
{
	return w->gauge ? gauge_over(o, limit) : share_excess(o->bad, limit, o->total) > 0;
}

/*
 * Answers take their time, so ten observations of 30 s, or one of 300 s, are rarely 300 s to the
 * millisecond: they are taken for it all the same.
 */
static usec_t
about(usec_t usec)
{
	return usec + usec / 20;
}

/* Sums of the newest observations of about `usec` together; at least none. */
static struct obs
suffix(const struct window *w, usec_t usec)
{
	struct obs sum = {0};

	for (unsigned i = w->n; i-- > 0;) {
		const struct obs *o = &w->v[i];

		if (sum.span + o->span > about(usec))
			break;
		sum.span += o->span;
		sum.bad += o->bad;
		sum.bad_warn += o->bad_warn;
		sum.total += o->total;
	}
	return sum;
}

/* Is some suffix of at most 300 s significantly under the limit? */
static bool
recovered(const struct window *w, double limit)
{
	struct obs sum = {0};

	for (unsigned i = w->n; i-- > w->clock;) {
		const struct obs *o = &w->v[i];

		if (sum.span + o->span > recovery_usec)
			return false;
		sum.span += o->span;
		sum.bad += o->bad;
		sum.total += o->total;
		if (sum.total > 0 && wilson_upper(sum.bad, sum.total, STATS_Z_RECOVER) < limit)
			return true;
	}
	return false;
}

static void
clock_stop(struct window *w)
{
	w->clock = w->n;
	w->cusum = 0;
}

static void
clock_statistical(struct window *w, const struct window_rule *r)
{
	const struct obs *o = &w->v[w->n - 1];
	bool ran = w->cusum > 0;

	w->cusum += share_excess(o->bad, r->limit, o->total);
	if (w->cusum <= cusum_zero)
		clock_stop(w);
	else if (!ran)
		w->clock = w->n - 1;
	if (running(w) && recovered(w, r->limit))
		clock_stop(w);
}

static void
clock_literal(struct window *w, const struct window_rule *r)
{
	const struct obs *o = &w->v[w->n - 1];
	bool ran = w->cusum > 0;

	if (!w->gauge && o->total <= 0)
		return; /* nothing was asked: no reading */
	if (!obs_over(w, o, r->limit)) {
		clock_stop(w);
		return;
	}
	w->cusum = 1;
	if (!ran)
		w->clock = w->n - 1;
}

static unsigned
gauge_count_over(const struct window *w, double limit)
{
	unsigned over = 0;

	for (unsigned i = w->clock; i < w->n; i++)
		over += gauge_over(&w->v[i], limit);
	return over;
}

/* A gauge's clock starts at a reading over the limit and stops when too few of them are. */
static void
clock_gauge(struct window *w, const struct window_rule *r)
{
	bool ran = w->cusum > 0;

	if (!ran) {
		if (!gauge_over(&w->v[w->n - 1], r->limit)) {
			clock_stop(w);
			return;
		}
		w->clock = w->n - 1;
		w->cusum = 1;
	}
	if (gauge_count_over(w, r->limit) * 100 < GAUGE_SHARE_PERCENT * (w->n - w->clock))
		clock_stop(w);
}

/* Forgets what neither the clock nor the hold time nor the recovery test can ask for again. */
static void
drop_old(struct window *w, const struct window_rule *r)
{
	usec_t keep = MAX(r->hold_usec, recovery_usec), span = 0;
	unsigned first = w->n;

	while (first > 0 && (first > w->clock || span < keep))
		span += w->v[--first].span;
	if (first == 0)
		return;
	w->n -= first;
	w->clock -= first;
	memmove(w->v, w->v + first, w->n * sizeof *w->v);
}

/* Halves the older half: sums stay exact, only its resolution is lost. */
static void
merge_oldest(struct window *w)
{
	unsigned half = w->n / 2 & ~1u, out = 0;

	for (unsigned i = 0; i < half; i += 2, out++) {
		struct obs *a = &w->v[i], *b = &w->v[i + 1];

		w->v[out] = (struct obs){
			.at = b->at,
			.span = a->span + b->span,
			.bad = a->bad + b->bad,
			.bad_warn = a->bad_warn + b->bad_warn,
			.total = a->total + b->total,
			.value = w->gauge ? fmin(a->value, b->value) : b->value,
		};
	}
	memmove(w->v + out, w->v + half, (w->n - half) * sizeof *w->v);
	w->clock = w->clock < half ? w->clock / 2 : w->clock - half + out;
	w->n = w->n - half + out;
}

static void
append(struct window *w, const struct obs *o)
{
	bool ran = running(w);

	if (w->n == OBS_MAX)
		merge_oldest(w);
	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 32;
		w->v = xrealloc(w->v, w->cap * sizeof *w->v);
	}
	w->v[w->n++] = *o;
	if (!ran)
		w->clock = w->n;
}

void
window_push(struct window *w, const struct obs *o, const struct window_rule *r)
{
	bool gauge = !isnan(o->value);

	if (w->gauge != gauge)
		window_reset(w);
	w->gauge = gauge;
	append(w, o);
	if (r->literal)
		clock_literal(w, r);
	else if (w->gauge)
		clock_gauge(w, r);
	else
		clock_statistical(w, r);
	drop_old(w, r);
}

/* The longest observation that speaks for all of its time. */
static usec_t
longest_plain(const struct window_rule *r)
{
	return MAX(about(last_usec), r->recheck_usec + r->recheck_usec / 2);
}

/*
 * What an observation proves about the time on the clock.  A long one (the extended phase's 300 s)
 * with 20 % errors may have been one bad minute and four good ones: only that minute is proven, and
 * is counted, so a short burst inside a long interval never passes for five minutes over the limit.
 */
static struct obs
proven(const struct obs *o, const struct window_rule *r)
{
	struct obs part = *o;

	if (o->span <= longest_plain(r) || o->total <= 0 || r->literal)
		return part;
	part.span = (usec_t)((double)o->span * fmin(1, o->bad / o->total));
	part.total = o->bad;
	return part;
}

/*
 * Is each third of the time on the clock over the limit?  The time axis is observed time; an
 * observation across a border counts for both sides by its share.
 */
static bool
thirds_over(const struct window *w, const struct window_rule *r, usec_t lasted)
{
	double bad[3] = {0}, total[3] = {0};
	double third = (double)lasted / 3, t = 0;

	for (unsigned i = w->clock; i < w->n; i++) {
		struct obs o = proven(&w->v[i], r);
		double end = t + (double)o.span;

		for (int k = 0; k < 3; k++) {
			double part = fmin(end, (k + 1) * third) - fmax(t, k * third);
			double share = o.span > 0 ? part / (double)o.span : 0;

			if (share > 0) {
				bad[k] += o.bad * share;
				total[k] += o.total * share;
			}
		}
		t = end;
	}
	for (int k = 0; k < 3; k++)
		if (total[k] <= 0 || share_excess(bad[k], r->limit, total[k]) <= 0)
			return false;
	return true;
}

/*
 * Are the last 60 s over the limit?  Only observations short enough to speak for them count: one of
 * 300 s says nothing about its last minute, so the fast re-check has to confirm it first.
 */
static bool
last_over(const struct window *w, const struct window_rule *r)
{
	usec_t longest = longest_plain(r), span = 0;
	usec_t need = MIN(last_usec, r->hold_usec);
	double bad = 0, total = 0;

	for (unsigned i = w->n; i-- > w->clock && span < need;) {
		const struct obs *o = &w->v[i];

		if (o->span > longest)
			return false;
		span += o->span;
		bad += o->bad;
		total += o->total;
	}
	return span > 0 && total > 0 && share_excess(bad, r->limit, total) > 0;
}

static void
sum_up(const struct window *w, unsigned first, struct window_state *ret)
{
	double sum = 0;

	ret->samples = w->n - first;
	for (unsigned i = first; i < w->n; i++) {
		ret->bad += w->v[i].bad;
		ret->total += w->v[i].total;
		sum += w->v[i].value;
	}
	ret->value = ret->lower = ret->upper = NAN;
	if (w->gauge) {
		ret->value = ret->samples > 0 ? sum / ret->samples : NAN;
	} else if (ret->total > 0) {
		ret->value = ret->bad / ret->total;
		ret->lower = wilson_lower(ret->bad, ret->total, STATS_Z_ACT);
		ret->upper = wilson_upper(ret->bad, ret->total, STATS_Z_RECOVER);
	}
}

/* Readings have no width of their own: the first one starts the clock and adds nothing to it. */
static usec_t
time_on_clock(const struct window *w, const struct window_rule *r, bool readings)
{
	usec_t lasted = 0;

	for (unsigned i = w->clock + readings; i < w->n; i++)
		lasted += w->gauge ? w->v[i].span : proven(&w->v[i], r).span;
	return lasted;
}

static const char *
missing_statistical(const struct window *w, const struct window_rule *r,
		    const struct window_state *s)
{
	if (s->lasted < r->hold_usec)
		return "time";
	if (s->total < r->min_requests)
		return "requests";
	if (!(s->lower > r->limit))
		return "certainty";
	if (!thirds_over(w, r, s->lasted))
		return "a breach that lasts: part of the time was under the limit";
	if (!last_over(w, r))
		return "a last minute over the limit";
	return NULL;
}

static const char *
missing_gauge(const struct window *w, const struct window_rule *r, const struct window_state *s)
{
	if (s->lasted < r->hold_usec)
		return "time";
	if (s->samples < GAUGE_READINGS_MIN)
		return "readings";
	if (!gauge_over(&w->v[w->n - 1], r->limit))
		return "a newest reading over the limit";
	return NULL;
}

static void
test_traffic(const struct window *w, const struct window_rule *r, struct window_state *ret)
{
	struct obs recent = suffix(w, r->hold_usec);
	usec_t observed = 0;

	ret->recent_total = recent.total;
	ret->recent_bad = recent.bad;
	ret->recent_bad_warn = recent.bad_warn;
	for (unsigned i = 0; i < w->n; i++)
		observed += w->v[i].span;
	ret->low_traffic = !w->gauge && observed >= r->hold_usec && recent.total < r->min_requests;
}

void
window_test(const struct window *w, const struct window_rule *r, struct window_state *ret)
{
	bool readings = r->literal || w->gauge;
	unsigned first = w->clock;

	*ret = (struct window_state){.running = running(w)};
	if (!ret->running) {
		usec_t span = 0;

		for (first = w->n; first > 0 && span + w->v[first - 1].span <= about(r->hold_usec);)
			span += w->v[--first].span;
	}
	sum_up(w, first, ret);
	test_traffic(w, r, ret);
	if (!ret->running)
		return;
	ret->since = w->v[w->clock].at - (readings ? 0 : w->v[w->clock].span);
	ret->lasted = time_on_clock(w, r, readings);
	if (r->literal)
		ret->missing = ret->lasted < r->hold_usec ? "time" : NULL;
	else if (w->gauge)
		ret->missing = missing_gauge(w, r, ret);
	else
		ret->missing = missing_statistical(w, r, ret);
	ret->breached = !ret->missing;
}
