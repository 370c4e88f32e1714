/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_SIM_WORLD_H
#define DHASH_TESTS_SIM_WORLD_H

/*
 * A simulated world around the real core: a service with faults, hooks that run on while the daemon
 * is dead, a disk that keeps what was committed, and crashes before, at and after each commit.
 * Virtual time; everything comes from one seed.
 */

#include "daemon/core/core.h"

struct rng {
	uint64_t s;
};
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);
bool rng_chance(struct rng *r, double p);
usec_t rng_span(struct rng *r, usec_t min, usec_t max);

enum fault {
	FAULT_NONE,
	FAULT_OUTAGE,   /* health fails from the onset on, for good */
	FAULT_FLAP,     /* … on and off */
	FAULT_ERRORS,   /* a share of requests fails from the onset on */
	FAULT_SLOW,     /* a share of requests is slower than the limit */
	FAULT_BURST,    /* errors for a while, then none */
	FAULT_SILENT,   /* the metrics source stops answering */
	FAULT_OBSERVER, /* the observer itself fails */
	FAULT_INFRA,    /* an infrastructure check becomes critical */
	_FAULT_MAX,
};

struct hook_run {
	bool started, finished, lost; /* lost: the runner died, its end cannot be known */
	unsigned starts;
	usec_t ends_at;
	enum hook_outcome outcome;
};

enum { PENDING_MAX = 64, SAMPLES_MAX = 4096, ROLLBACKS_MAX = 8 };

struct pending {
	usec_t at;
	struct core_event event;
	bool of_daemon; /* dies with it: probes and workers, not hooks */
};

struct disk {
	bool exists;
	struct deployment deployment;
	struct sample samples[SAMPLES_MAX];
	unsigned n_samples;
	struct alert alerts[_CAUSE_MAX]; /* open ones by cause; level NONE = none */
	unsigned auto_decisions, manual_decisions;
};

struct world {
	struct rng rng;
	uint64_t seed;
	struct core *core;
	usec_t now;
	struct policy policy;
	usec_t spread;

	enum fault fault;
	double fault_share; /* of errors or slow requests */
	usec_t fault_from, fault_until, flap_period;
	bool rollback_heals; /* the release in place after a rollback is healthy */
	double traffic;      /* requests a second */
	double base_error;   /* of a healthy release */
	bool hooks_fail, crashes;
	double crash_chance;

	bool released; /* the new release is in place */
	usec_t last_scrape;
	struct hook_run deploy_hook, rollback_hooks[ROLLBACKS_MAX];
	struct pending pending[PENDING_MAX];
	unsigned n_pending;
	struct disk disk;
	enum dstate last_state; /* as committed */
	bool manual_asked;

	unsigned long steps, n_crashes;
	usec_t fault_seen_from; /* when the fault could first be seen by the rules */
	usec_t decided_at;
	const char *broken; /* first invariant that did not hold */
	char detail[256];
};

void world_init(struct world *w, uint64_t seed);
void world_done(struct world *w);
/* Runs the deployment to its end.  false: an invariant broke, see w->broken. */
bool world_run(struct world *w);

/* checks.c: each notes the first invariant that does not hold. */
__attribute__((format(printf, 3, 4))) void
world_broke(struct world *w, const char *what, const char *fmt, ...);
/* Before what the effect wants kept is on the world's disk. */
void check_deployment(struct world *w, const struct deployment *d);
void check_decision(struct world *w, const struct decision *d);
void check_alert(struct world *w, const struct alert *a);
/* After a step: a late answer had no effect. */
void check_stale(struct world *w, const struct core_event *e, unsigned n_effects);
/* Before an effect is carried out: its sample is on the grid; its act is what the disk says. */
void check_grid(struct world *w, const struct effect *f);
void check_authorised(struct world *w, const struct effect *f, enum dstate state);
/* In the end. */
void check_outcome(struct world *w);

#endif
