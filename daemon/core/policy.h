/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_POLICY_H
#define DHASH_CORE_POLICY_H

/*
 * What the configuration decides about one environment, as plain values: the core copies it into a
 * deployment when that starts, so a reload touches the next deployment only.  Filled in by conf.c;
 * policy_init() gives the defaults of the operations guide.
 */

#include "common/time-util.h"

enum rule_kind {
	RULE_HEALTH,
	RULE_ERROR_RATE,
	RULE_LATENCY_P95,
	RULE_INFRASTRUCTURE,
	_RULE_MAX,
};
const char *
rule_kind_name(enum rule_kind k); /* "health", "error-rate", "latency-p95", "infrastructure" */

enum rule_mode { RULE_ENFORCE, RULE_OBSERVE, RULE_OFF, _RULE_MODE_MAX };
const char *rule_mode_name(enum rule_mode m);

/* How "for 5 minutes" is read: by evidence over the time, or every reading over the limit. */
enum sustain { SUSTAIN_STATISTICAL, SUSTAIN_LITERAL, _SUSTAIN_MAX };
const char *sustain_name(enum sustain s);

/* What an answer without usable data counts as. */
enum on_missing { MISSING_HOLD, MISSING_BAD, MISSING_OK, _ON_MISSING_MAX };
const char *on_missing_name(enum on_missing m);

struct rule_policy {
	enum rule_mode mode;
	enum sustain sustain;
	unsigned failures;     /* health: consecutive failed rounds that fire it */
	double limit;          /* error-rate: ratio 0…1; latency-p95: seconds */
	double warn_limit;     /* the warning alert's limit, same unit; 0 = no warning */
	usec_t hold_usec;      /* how long the breach must last */
	unsigned min_requests; /* fewer than this in the hold time say nothing */
};

enum { POLICY_PHASES_MAX = 8, PHASE_NAME_MAX = 32 };

struct phase {
	char name[PHASE_NAME_MAX];
	usec_t until_usec;    /* end, from the beginning of the watching */
	usec_t interval_usec; /* grid */
};

struct policy {
	struct phase phases[POLICY_PHASES_MAX];
	unsigned n_phases;
	struct rule_policy rules[_RULE_MAX];

	/* Which sources the environment has; a rule without its source never fires and is not
	 * "blind". */
	bool has_health;
	bool has_rate;    /* request and error counters, or an error ratio gauge */
	bool has_latency; /* histogram, or a p95 gauge */
	bool has_infrastructure;
	bool has_backup; /* BackupPaths= is set */

	enum on_missing on_missing;
	usec_t recheck_usec;   /* fast re-check while suspect */
	unsigned recheck_good; /* good samples in a row that end it */
	usec_t settle_usec;
	usec_t gates_timeout_usec, backup_timeout_usec, deploy_timeout_usec, rollback_timeout_usec;
	usec_t verify_interval_usec, verify_timeout_usec;
	unsigned verify_passes;
	usec_t post_watch_usec, post_interval_usec, recovery_interval_usec;
	usec_t idle_interval_usec;   /* health rounds while nothing is being watched; 0 = none */
	double min_coverage;         /* of every phase, for a deployment to succeed */
	unsigned escalate_warnings;  /* so many warnings … */
	usec_t escalate_window_usec; /* … within this escalate */
	unsigned escalate_criticals;
	bool rollback_on_escalation;
};

void policy_init(struct policy *p);

#endif
