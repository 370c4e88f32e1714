/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults of the operations guide, and the names of the policy's enums. */

#include "daemon/core/policy.h"

#include <assert.h>
#include <string.h>

#include "common/util.h"

static const char *const rule_kind_names[_RULE_MAX] = {
	[RULE_HEALTH] = "health",
	[RULE_ERROR_RATE] = "error-rate",
	[RULE_LATENCY_P95] = "latency-p95",
	[RULE_INFRASTRUCTURE] = "infrastructure",
};

static const char *const rule_mode_names[_RULE_MODE_MAX] = {
	[RULE_ENFORCE] = "enforce",
	[RULE_OBSERVE] = "observe",
	[RULE_OFF] = "off",
};

static const char *const sustain_names[_SUSTAIN_MAX] = {
	[SUSTAIN_STATISTICAL] = "statistical",
	[SUSTAIN_LITERAL] = "literal",
};

static const char *const on_missing_names[_ON_MISSING_MAX] = {
	[MISSING_HOLD] = "hold",
	[MISSING_BAD] = "bad",
	[MISSING_OK] = "ok",
};

const char *
rule_kind_name(enum rule_kind k)
{
	assert(k >= 0 && k < _RULE_MAX);
	return rule_kind_names[k];
}

const char *
rule_mode_name(enum rule_mode m)
{
	assert(m >= 0 && m < _RULE_MODE_MAX);
	return rule_mode_names[m];
}

const char *
sustain_name(enum sustain s)
{
	assert(s >= 0 && s < _SUSTAIN_MAX);
	return sustain_names[s];
}

const char *
on_missing_name(enum on_missing m)
{
	assert(m >= 0 && m < _ON_MISSING_MAX);
	return on_missing_names[m];
}

static void
phase_set(struct phase *p, const char *name, usec_t until_usec, usec_t interval_usec)
{
	str_copy(p->name, sizeof p->name, name);
	p->until_usec = until_usec;
	p->interval_usec = interval_usec;
}

static void
rules_init(struct rule_policy rules[_RULE_MAX])
{
	rules[RULE_HEALTH] = (struct rule_policy){.failures = 3};
	rules[RULE_ERROR_RATE] = (struct rule_policy){
		.limit = 0.10,
		.warn_limit = 0.05,
		.hold_usec = 5 * USEC_PER_MINUTE,
		.min_requests = 40,
	};
	rules[RULE_LATENCY_P95] = (struct rule_policy){
		.limit = 5.0,
		.warn_limit = 2.0,
		.hold_usec = 10 * USEC_PER_MINUTE,
		.min_requests = 40,
	};
	rules[RULE_INFRASTRUCTURE] = (struct rule_policy){.failures = 1};
}

void
policy_init(struct policy *p)
{
	memset(p, 0, sizeof *p);
	phase_set(&p->phases[0], "critical", 15 * USEC_PER_MINUTE, 30 * USEC_PER_SEC);
	phase_set(&p->phases[1], "stability", 60 * USEC_PER_MINUTE, 60 * USEC_PER_SEC);
	phase_set(&p->phases[2], "extended", 240 * USEC_PER_MINUTE, 300 * USEC_PER_SEC);
	p->n_phases = 3;
	rules_init(p->rules);
	p->on_missing = MISSING_HOLD;
	p->recheck_usec = 30 * USEC_PER_SEC;
	p->recheck_good = 3;
	p->settle_usec = 30 * USEC_PER_SEC;
	p->gates_timeout_usec = 2 * USEC_PER_MINUTE;
	p->backup_timeout_usec = 30 * USEC_PER_MINUTE;
	p->deploy_timeout_usec = 30 * USEC_PER_MINUTE;
	p->rollback_timeout_usec = 30 * USEC_PER_MINUTE;
	p->verify_interval_usec = 10 * USEC_PER_SEC;
	p->verify_timeout_usec = 5 * USEC_PER_MINUTE;
	p->verify_passes = 3;
	p->post_watch_usec = 30 * USEC_PER_MINUTE;
	p->post_interval_usec = 30 * USEC_PER_SEC;
	p->recovery_interval_usec = 30 * USEC_PER_SEC;
	p->idle_interval_usec = USEC_PER_MINUTE;
	p->min_coverage = 0.90;
	p->escalate_warnings = 3;
	p->escalate_window_usec = 15 * USEC_PER_MINUTE;
	p->escalate_criticals = 2;
}
