/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_CORE_H
#define DHASH_CORE_CORE_H

/*
 * The decision core: events go in, effects come out.  No I/O, no clock, no logging in here; the
 * only time is event.now.  One core guards all environments of the daemon.
 *
 * Contract with the one who carries out the effects (daemon.c, and the simulator):
 *  - Persist effects of one step form one transaction.  Every other effect of that step is carried
 * out only after that transaction is on disk, in order.
 *  - After each step, and when core_deadline() has come, call core_step() with EV_TICK until
 *    core_deadline() lies in the future.
 *  - An effect that expects an answer carries `attempt`; its answer event repeats it.  An answer
 * with another attempt than the deployment's present one is dropped.
 *  - Start-up: EV_CONFIGURE for every environment, EV_RECOVER for every deployment that the store
 *    returns as unfinished (or last, per environment), then EV_STARTED once.  The core then emits
 *    again the effect that the present state waits for; each of those is idempotent by
 *    deployment id and attempt.
 */

#include "daemon/core/deployment.h"
#include "daemon/core/sample.h"

struct core;

enum { CORE_TEXT_MAX = 512 };

enum event_kind {
	EV_CONFIGURE, /* an environment is new or changed: policy */
	EV_REMOVE,    /* an environment left the configuration */
	EV_RECOVER,
	EV_STARTED,
	EV_TICK,
	EV_DEPLOY,
	EV_ROLLBACK,
	EV_ABORT,
	EV_GATES,  /* gates ran: ok, text */
	EV_BACKUP, /* backup or emergency backup done: ok, text, path, sha256 */
	EV_TARGET, /* rollback target chosen: ok, text, path, verified */
	EV_HOOK,   /* deploy or rollback finished: outcome, text */
	EV_SAMPLE,
	_EVENT_KIND_MAX,
};
const char *event_kind_name(enum event_kind k);

enum hook_outcome {
	HOOK_OK,
	HOOK_FAILED,  /* ran and failed, or could not be run at all */
	HOOK_UNKNOWN, /* started, its end is not known: never run again by itself */
};

struct core_event {
	enum event_kind kind;
	usec_t now;       /* core time, never smaller than the last event's */
	usec_t wall;      /* UTC, for stamps only */
	unsigned env;     /* environment handle, chosen by the caller */
	unsigned attempt; /* answers: of the effect answered */
	uint64_t request; /* operator's acts: echoed in the reply */
	unsigned actor_uid;
	union {
		struct {
			const char *service, *environment;
			const struct policy *policy;
			usec_t spread; /* offset of this environment's grid, to keep environments
					  apart */
		} configure;
		struct {
			const struct deployment *deployment; /* policy included */
			const struct sample *samples;        /* since deployed_at, in time order */
			size_t n_samples;
			const struct alert *alerts; /* open ones */
			size_t n_alerts;
		} recover;
		struct {
			const char *id, *tag, *lead, *reason, *previous_tag;
			bool force, supersede;
		} deploy;
		struct {
			const char *reason, *to, *file;
			bool force;
		} rollback;
		struct {
			const char *reason;
		} abort;
		struct {
			bool ok;
			const char *text;
			const char *path, *sha256; /* backup, target */
			bool verified;             /* target: its digest was checked */
			unsigned corrupt; /* target: so many newer backups did not verify */
		} done;
		struct {
			enum hook_outcome outcome;
			const char *text;
		} hook;
		struct sample sample;
	} u;
};

enum effect_kind {
	EF_PERSIST_DEPLOYMENT, /* deployment, whole */
	EF_PERSIST_SAMPLE,     /* sample, of the live deployment */
	EF_PERSIST_DECISION,   /* decision with evidence */
	EF_PERSIST_ALERT,      /* alert, raised or resolved */
	EF_NOTE,               /* journal, event stream and session log: note */
	EF_REPLY,              /* answer to an operator's act */
	EF_RUN_GATES,          /* → EV_GATES */
	EF_BACKUP,             /* → EV_BACKUP; `emergency` in RB_SAVING */
	EF_CHOOSE,             /* → EV_TARGET */
	EF_DEPLOY,             /* → EV_HOOK */
	EF_ROLLBACK,           /* → EV_HOOK */
	EF_CANCEL,             /* stop whatever `attempt` runs; its answer no longer matters */
	EF_SAMPLE,             /* → EV_SAMPLE: do a health round or a scrape now */
	EF_REPORT,             /* a rollback ended: write the incident report */
	_EFFECT_KIND_MAX,
};
const char *effect_kind_name(enum effect_kind k);

/* Independent causes of alerts; within one, a critical replaces a warning. */
enum cause {
	CAUSE_HEALTH,
	CAUSE_ERROR_RATE,
	CAUSE_LATENCY,
	CAUSE_INFRASTRUCTURE,
	CAUSE_UNOBSERVED, /* a gap longer than the rules stand */
	CAUSE_LOW_TRAFFIC,
	CAUSE_HOOK,
	CAUSE_BACKUP,
	CAUSE_ROLLBACK,
	_CAUSE_MAX,
};
const char *cause_name(enum cause c);

enum level { LEVEL_NONE, LEVEL_WARNING, LEVEL_CRITICAL };
const char *level_name(enum level l);

struct alert {
	char deployment[DEPLOYMENT_ID_MAX];
	enum cause cause;
	enum level level;
	usec_t raised_at, raised_wall;
	usec_t resolved_at, resolved_wall; /* 0 = open */
	char text[CORE_TEXT_MAX];
};

/* Why a rule says what it says: the numbers behind a verdict or decision. */
struct evidence {
	enum rule_kind rule;
	double limit;
	usec_t hold;
	unsigned failures_limit, failures; /* health */
	double value, lower, upper;        /* NaN where there is none */
	double requests, bad;
	unsigned samples;
	usec_t since;             /* core time the clock started; 0 = not running */
	usec_t lasted;            /* observed time on the clock */
	char text[CORE_TEXT_MAX]; /* a sentence: what is, and what would change it */
	unsigned fact_len;        /* of text: what is; not kept */
};

enum verdict { VERDICT_HEALTHY, VERDICT_SUSPECT, VERDICT_BREACHED, VERDICT_BLIND, _VERDICT_MAX };
const char *verdict_name(enum verdict v);

enum decision_kind {
	DECISION_ROLL_BACK,
	DECISION_WOULD_ROLL_BACK, /* observe mode, or the one automatic rollback is spent */
	DECISION_PROMOTE,         /* succeeded */
	DECISION_HOLD,            /* unverified */
	DECISION_ESCALATE,
	_DECISION_KIND_MAX,
};
const char *decision_kind_name(enum decision_kind k);

struct decision {
	enum decision_kind kind;
	usec_t at, wall;
	bool automatic;
	unsigned actor_uid;
	struct evidence evidence; /* rule = _RULE_MAX when no rule stands behind it */
	char text[CORE_TEXT_MAX];
};

enum note_kind {
	NOTE_STATE,
	NOTE_PHASE,
	NOTE_SAMPLE, /* a bad or missing one */
	NOTE_VERDICT,
	NOTE_DECISION,
	NOTE_ALERT,
	NOTE_RESOLVED,
	NOTE_ESCALATION,
	NOTE_REQUEST,
	NOTE_RESTORED, /* service is back after a failed rollback */
	NOTE_HOOK,
	NOTE_BACKUP,
	_NOTE_KIND_MAX,
};
const char *note_kind_name(enum note_kind k);

struct note {
	enum note_kind kind;
	enum level level;    /* NONE = information */
	enum rule_kind rule; /* _RULE_MAX = none */
	char text[CORE_TEXT_MAX];
};

enum reply_kind {
	REPLY_OK,
	REPLY_BUSY,      /* another deployment holds the environment */
	REPLY_NOT_FOUND, /* nothing to abort or roll back */
	REPLY_REFUSED,   /* not in this state */
};

struct effect {
	enum effect_kind kind;
	unsigned env;
	unsigned attempt;
	const struct deployment *deployment; /* borrowed until the next core_step(); NULL if none */
	union {
		struct sample sample;
		struct decision decision;
		struct alert alert;
		struct note note;
		struct {
			uint64_t request;
			enum reply_kind kind;
			char deployment[DEPLOYMENT_ID_MAX];
			char text[CORE_TEXT_MAX];
		} reply;
		struct {
			bool emergency;
		} backup;
		struct {
			enum sample_kind kind;
			usec_t due; /* when it should have been done: the grid */
		} sampling;
	} u;
};

enum { EFFECTS_MAX = 96 };
struct effects {
	unsigned n;
	struct effect v[EFFECTS_MAX];
};

struct core *core_new(void);
void core_free(struct core *c);

/* Takes one event; *ret is overwritten with the effects.  Returns 0, or -EINVAL for an event that
 * does not fit (unknown handle), which changes nothing and has no effects. */
int core_step(struct core *c, const struct core_event *e, struct effects *ret);

/* When to call core_step() with EV_TICK if nothing else happens; USEC_INFINITY for never. */
usec_t core_deadline(const struct core *c);

/* What status and explain show of one environment, as of `now`. */
struct rule_view {
	enum rule_mode mode;
	bool armed; /* mode is not off and there is a source for it */
	enum verdict verdict;
	struct evidence evidence;
};

struct phase_view {
	usec_t observed, elapsed; /* coverage = observed / elapsed */
};

struct env_view {
	const struct deployment *deployment; /* live or last; NULL = none yet; borrowed */
	enum verdict verdict;
	int phase; /* index into deployment->policy.phases; -1 = not watching */
	usec_t phase_left;
	usec_t next_sample; /* core time; USEC_INFINITY = none */
	bool rechecking;    /* sampled faster than the phase's grid */
	struct rule_view rules[_RULE_MAX];
	struct phase_view coverage[POLICY_PHASES_MAX];
	struct alert alerts[_CAUSE_MAX]; /* open ones have level != NONE and resolved_at == 0 */
	enum result last_health;         /* RESULT_NO_DATA before the first */
	usec_t last_health_at;
	char last_health_detail[SAMPLE_DETAIL_MAX];
	const char *scenario,
		*advice; /* the row of the manual decision matrix that applies; "" = none */
};

int core_view(const struct core *c, unsigned env, usec_t now, struct env_view *ret);

#endif
