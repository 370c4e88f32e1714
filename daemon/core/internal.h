/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_INTERNAL_H
#define DHASH_CORE_INTERNAL_H

/*
 * What the core's own files share: core.c (environments and dispatch), life.c (states), watch.c
 * (samples and what follows from them), view.c.  Nobody else includes this.
 */

#include "daemon/core/alert.h"
#include "daemon/core/core.h"
#include "daemon/core/guard.h"
#include "daemon/core/machine.h"

struct env {
	bool used;
	bool removed; /* left the configuration while a deployment was live */
	char service[NAME_MAX_LEN], environment[NAME_MAX_LEN];
	struct policy policy; /* of the configuration now; a deployment has its own */
	usec_t spread;
	usec_t idle_since; /* grid of the idle rounds */

	struct deployment *d;   /* owned; live or last; NULL = none yet */
	struct deployment *old; /* owned; superseded in this very step */
	struct guard guard;
	struct book book;

	enum verdict verdict;  /* as last announced */
	int phase;             /* as last announced */
	bool would[_RULE_MAX]; /* observe mode has spoken for this deployment */

	usec_t last_due;                 /* grid point of the newest samples asked for */
	bool awaiting[_SAMPLE_KIND_MAX]; /* of the last samples of a schedule */
	usec_t finish_by;    /* then the watching is judged without them; 0 = not at the end yet */
	bool extended;       /* suspect at the end: watched on */
	usec_t recovered_at; /* states' deadlines count from a restart, not over it */
	bool resume;         /* recovered: emit again what the state waits for */
	bool dirty;
};

struct core {
	struct env **envs; /* owned; by handle; NULL = never configured */
	usec_t *deadlines; /* of each environment */
	unsigned n;
	bool started;
};

/* One step in the making: the event, the environment it is about, the effects so far. */
struct step {
	struct core *core;
	struct env *env;
	unsigned handle;
	const struct core_event *event;
	struct effects *out;
};

/* core.c */
struct effect *emit(struct step *st, enum effect_kind kind);
__attribute__((format(printf, 5, 6))) void
note(struct step *st, enum note_kind kind, enum level level, enum rule_kind rule, const char *fmt,
     ...);
__attribute__((format(printf, 3, 4))) void
reply(struct step *st, enum reply_kind kind, const char *fmt, ...);
const struct policy *env_policy(const struct env *e);
void alert(struct step *st, enum cause c, enum level level, const char *text);

/* acts.c */
void act_deploy(struct step *st);
void act_rollback(struct step *st);
void act_abort(struct step *st);

/* recover.c */
void recover_load(struct step *st);
void recover_resume(struct step *st);

/* life.c */
void alerts_unwatch(struct step *st);
extern const struct evidence no_evidence;
void life_answer(struct step *st);
/* Forgets the sampling of the state before; the first samples are due at once. */
void sampling_begin(struct env *e, usec_t now);
/* Emits what the present state waits for. */
void state_effect(struct step *st);
/* An operator asked for a rollback while the deploy hook was still running. */
bool life_undone(const struct deployment *d);
/* Puts a rollback on record, with its evidence; life_take() then carries it out. */
void
life_decide_rollback(struct step *st, bool automatic, const struct evidence *ev, const char *why);
void life_deadline(struct step *st);
usec_t life_next(const struct env *e);
/* Takes the transition that `t` means now; text says why.  false: it means nothing here. */
bool life_take(struct step *st, enum trigger t, const char *text);
/* The one automatic rollback, with its evidence. */
void life_breach(struct step *st, const struct rule_view *v);
/* A decision for the record. */
void life_decide(struct step *st, enum decision_kind kind, bool automatic,
		 const struct evidence *ev, const char *text);

/* watch.c */
usec_t watch_interval(const struct env *e, usec_t now);
usec_t watch_next(const struct env *e);
void watch_due(struct step *st);
void watch_observe(struct env *e, const struct sample *s, usec_t now);
void watch_sample(struct step *st);
void watch_finish(struct step *st);
bool watch_armed(const struct env *e);

#endif
