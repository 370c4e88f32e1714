/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_GUARD_H
#define DHASH_CORE_GUARD_H

/*
 * What has been observed of one environment since its watching began, and what the rules say of it.
 * Fed with samples; asked for verdicts.  Rebuilt after a restart by feeding it the same samples
 * again.
 */

#include "daemon/core/core.h"
#include "daemon/core/window.h"

struct guard {
	usec_t armed_at; /* observation of this state began */
	usec_t t0;       /* T+0, or 0 before it: rates and coverage count from here */

	enum result last_health;
	usec_t last_health_at;
	char last_health_detail[SAMPLE_DETAIL_MAX];
	unsigned bad_streak, good_streak;
	unsigned rounds;     /* health rounds since it was armed, whatever came of them */
	usec_t first_bad_at; /* of the present bad streak */
	bool all_failed;

	/* Infrastructure: critical from the first look on is not this deployment's doing. */
	bool infra_known, infra_critical, infra_muted;
	usec_t infra_since;

	struct window rate, latency;
	double last_p95;               /* newest reading, seconds; NaN before the first */
	usec_t seen[_SAMPLE_KIND_MAX]; /* newest typed sample of a kind; 0 = none */
	usec_t observed[_SAMPLE_KIND_MAX][POLICY_PHASES_MAX];

	/* The interval that the next sample of a kind was promised in, when the newest came; the
	 * fast re-check shortens it for the samples after it, not for the one on its way. */
	usec_t promised[_SAMPLE_KIND_MAX];

	bool suspect;      /* fast re-check is on */
	usec_t suspect_at; /* since when */
	unsigned good_run; /* good samples in a row since it went on */
};

void guard_done(struct guard *g);
/* Begins anew; keeps what infrastructure was known and the last health round for the eye. */
void guard_reset(struct guard *g, usec_t now);
/* T+0: rates and coverage start here, the health streak goes on. */
void guard_watch(struct guard *g, usec_t t0);

/* `interval` is the sampling interval in force: gaps are measured in it. */
void guard_sample(struct guard *g, const struct policy *p, const struct sample *s, usec_t interval);
/* After it: the interval that the next sample of this kind comes in. */
void guard_promise(struct guard *g, enum sample_kind k, usec_t interval);
/* What infrastructure looked like, and nothing else of the sample. */
void guard_infrastructure(struct guard *g, const struct sample *s);

/* The longest gap that only freezes the clocks. */
usec_t guard_allowed_gap(usec_t interval);
/* How long a kind of source has not been observed, when that is longer than the allowed gap; else
 * 0. */
usec_t guard_unobserved(const struct guard *g, const struct policy *p, enum sample_kind k,
			usec_t now, usec_t interval);

/* One rule's view now. */
void rule_view(const struct guard *g, const struct policy *p, enum rule_kind rule, usec_t now,
	       usec_t interval, struct rule_view *ret);
enum verdict guard_verdict(const struct rule_view views[_RULE_MAX]);

/* Observed time of a phase: the least of the sources that the environment has. */
usec_t guard_observed(const struct guard *g, const struct policy *p, unsigned phase);

/* Time since the last samples that the next ones, not yet overdue, will vouch for; 0 when one is.
 */
usec_t guard_pending(const struct guard *g, const struct policy *p, usec_t now, usec_t interval);

/* The windows' parameters of a rule, and a test of the warning limit over the last hold time. */
struct window_rule rule_window(const struct policy *p, enum rule_kind rule, bool gauge);
bool rule_over_warning(const struct guard *g, const struct policy *p, enum rule_kind rule);

#endif
