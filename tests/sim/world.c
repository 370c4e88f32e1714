/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/sim/world.h"

#include <math.h>

#include "common/util.h"
#include "daemon/core/schedule.h"

static const usec_t wall_offset = (usec_t)1700000000 * USEC_PER_SEC;
static struct effects effects; /* large; one world runs at a time */

uint64_t
rng_next(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15ull; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

double
rng_unit(struct rng *r)
{
	return (double)(rng_next(r) >> 11) / 9007199254740992.0;
}

bool
rng_chance(struct rng *r, double p)
{
	return rng_unit(r) < p;
}

usec_t
rng_span(struct rng *r, usec_t min, usec_t max)
{
	return min + (usec_t)(rng_unit(r) * (double)(max - min));
}

/* --- the service --- */

static bool
fault_now(const struct world *w)
{
	if (!w->released || w->now < w->fault_from || w->now >= w->fault_until)
		return false;
	if (w->fault == FAULT_FLAP)
		return (w->now - w->fault_from) / w->flap_period % 2 == 0;
	return true;
}

/* So many of n requests, drawn normally: exact enough, and quick. */
static double
draw(struct world *w, double n, double p)
{
	double sum = 0, x;

	if (p <= 0 || n <= 0)
		return 0;
	for (int i = 0; i < 12; i++)
		sum += rng_unit(&w->rng);
	x = n * p + (sum - 6) * sqrt(n * p * (1 - p));
	return fmin(n, fmax(0, floor(x + 0.5)));
}

static void
observe_health(struct world *w, struct sample *s)
{
	bool bad = fault_now(w) && (w->fault == FAULT_OUTAGE || w->fault == FAULT_FLAP);

	s->result = bad ? RESULT_BAD : RESULT_OK;
	if (fault_now(w) && w->fault == FAULT_OBSERVER)
		s->result = RESULT_ERROR;
	s->all_failed = bad;
	s->infra_known = w->policy.has_infrastructure;
	s->infra_critical = s->infra_known && fault_now(w) && w->fault == FAULT_INFRA;
	str_copy(s->detail, sizeof s->detail, bad ? "HTTP 503" : "HTTP 200");
}

/* The part of the last `span` in which the fault was there: counters integrate. */
static double
fault_part(const struct world *w, usec_t span)
{
	usec_t from = MAX(w->now - span, w->fault_from), to = MIN(w->now, w->fault_until);

	if (!w->released || span <= 0 || to <= from)
		return 0;
	return (double)(to - from) / (double)span;
}

static void
observe_metrics(struct world *w, struct sample *s)
{
	usec_t span = w->now - w->last_scrape;
	double total = floor(w->traffic * (double)span / USEC_PER_SEC);
	double error = w->base_error, slow = 0.001;

	s->result = RESULT_OK;
	if (fault_now(w) && (w->fault == FAULT_SILENT || w->fault == FAULT_OBSERVER)) {
		s->result = w->fault == FAULT_SILENT ? RESULT_NO_DATA : RESULT_ERROR;
		s->rate.result = s->latency.result = RESULT_NO_DATA;
		return;
	}
	if (w->last_scrape == 0)
		s->rate.result = s->latency.result = RESULT_NO_DATA;
	w->last_scrape = w->now;
	if (w->fault == FAULT_ERRORS || w->fault == FAULT_BURST)
		error += (w->fault_share - error) * fault_part(w, span);
	if (w->fault == FAULT_SLOW)
		slow += (w->fault_share - slow) * fault_part(w, span);
	s->rate.span = s->latency.span = span;
	s->rate.total = s->latency.total = total;
	s->rate.bad = s->rate.bad_warn = draw(w, total, error);
	s->latency.bad = s->latency.bad_warn = draw(w, total, slow);
	s->rate.value = total > 0 ? s->rate.bad / total : NAN;
	s->latency.value = total > 0 ? 0.3 : NAN;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static struct core_event *
post(struct world *w, usec_t at, enum event_kind kind, unsigned attempt, bool of_daemon)
{
	struct pending *p;

	if (w->n_pending == PENDING_MAX) {
		world_broke(w, "too many answers are awaited at once", "%u", w->n_pending);
		w->n_pending--;
	}
	p = &w->pending[w->n_pending++];
	memset(p, 0, sizeof *p);
	p->at = at;
	p->of_daemon = of_daemon;
	p->event.kind = kind;
	p->event.attempt = attempt;
	return &p->event;
}

static void
post_done(struct world *w, enum event_kind kind, unsigned attempt, bool ok)
{
	struct core_event *e =
		post(w, w->now + rng_span(&w->rng, 1, 3 * USEC_PER_SEC), kind, attempt, true);

	e->u.done.ok = ok;
	e->u.done.text = ok ? "fine" : "simulated failure";
	e->u.done.path = "/backups/b.zip";
	e->u.done.sha256 = "00";
	e->u.done.verified = true;
}

static struct hook_run *
hook_of(struct world *w, const struct deployment *d, bool rollback)
{
	if (!rollback)
		return &w->deploy_hook;
	if (d->rollbacks == 0 || d->rollbacks >= ROLLBACKS_MAX) {
		world_broke(w, "a rollback hook without a decision", "%u", d->rollbacks);
		return &w->rollback_hooks[0];
	}
	return &w->rollback_hooks[d->rollbacks];
}

/* hook_ensure() of the real daemon: by transaction, never twice. */
static void
hook_ensure(struct world *w, const struct deployment *d, unsigned attempt, bool rollback)
{
	struct hook_run *h = hook_of(w, d, rollback);
	struct core_event *e;
	usec_t at;

	if (!h->started) {
		h->started = true;
		h->starts++;
		h->ends_at = w->now + rng_span(&w->rng, USEC_PER_SEC, 90 * USEC_PER_SEC);
		h->outcome = w->hooks_fail && rng_chance(&w->rng, 0.5) ? HOOK_FAILED : HOOK_OK;
		h->lost = w->hooks_fail && rng_chance(&w->rng, 0.1);
		if (!rollback)
			w->released = true;
		else
			w->released = !w->rollback_heals;
	}
	at = MAX(w->now, h->ends_at) + 1000;
	e = post(w, at, EV_HOOK, attempt, true);
	e->u.hook.outcome = h->lost ? HOOK_UNKNOWN : h->outcome;
	e->u.hook.text = "simulated";
}

static void
answer_sample(struct world *w, const struct effect *f)
{
	struct core_event *e = post(w, w->now + rng_span(&w->rng, 1000, 2 * USEC_PER_SEC),
				    EV_SAMPLE, f->attempt, true);

	e->u.sample.kind = f->u.sampling.kind; /* filled in when it is delivered */
}

/* --- effects ------------------------------------------------------------------------------------
 */

static void
commit(struct world *w)
{
	for (unsigned i = 0; i < effects.n; i++) {
		const struct effect *f = &effects.v[i];

		switch (f->kind) {
		case EF_PERSIST_DEPLOYMENT:
			check_deployment(w, f->deployment);
			if (f->deployment->state == DS_DEPLOYING &&
			    w->disk.deployment.state != DS_DEPLOYING)
				w->disk.n_samples = 0;
			w->disk.deployment = *f->deployment;
			w->disk.exists = true;
			break;
		case EF_PERSIST_SAMPLE:
			if (w->disk.n_samples < SAMPLES_MAX)
				w->disk.samples[w->disk.n_samples++] = f->u.sample;
			break;
		case EF_PERSIST_DECISION:
			check_decision(w, &f->u.decision);
			break;
		case EF_PERSIST_ALERT:
			check_alert(w, &f->u.alert);
			w->disk.alerts[f->u.alert.cause] = f->u.alert;
			break;
		default:
			break;
		}
	}
}

static void
carry_out(struct world *w, const struct effect *f)
{
	switch (f->kind) {
	case EF_RUN_GATES:
		check_authorised(w, f, DS_GATES);
		post_done(w, EV_GATES, f->attempt, !w->hooks_fail || rng_chance(&w->rng, 0.9));
		break;
	case EF_BACKUP:
		post_done(w, EV_BACKUP, f->attempt, !w->hooks_fail || rng_chance(&w->rng, 0.9));
		break;
	case EF_CHOOSE:
		post_done(w, EV_TARGET, f->attempt, !w->hooks_fail || rng_chance(&w->rng, 0.9));
		break;
	case EF_DEPLOY:
		check_authorised(w, f, DS_DEPLOYING);
		hook_ensure(w, f->deployment, f->attempt, false);
		break;
	case EF_ROLLBACK:
		check_authorised(w, f, DS_RB_RUNNING);
		hook_ensure(w, f->deployment, f->attempt, true);
		break;
	case EF_CANCEL:
		for (unsigned i = 0; i < w->n_pending; i++)
			if (w->pending[i].event.kind == EV_HOOK)
				w->pending[i].at = w->now + 1000;
		break;
	case EF_SAMPLE:
		check_grid(w, f);
		answer_sample(w, f);
		break;
	default:
		break;
	}
}

static void
start_core(struct world *w)
{
	struct core_event e = {.now = w->now, .wall = w->now + wall_offset};
	struct alert open[_CAUSE_MAX];
	unsigned n = 0;

	w->core = core_new();
	w->last_scrape = 0;
	e.kind = EV_CONFIGURE;
	e.u.configure.service = "sim";
	e.u.configure.environment = "production";
	e.u.configure.policy = &w->policy;
	e.u.configure.spread = w->spread;
	core_step(w->core, &e, &effects);
	if (w->disk.exists) {
		for (int c = 0; c < _CAUSE_MAX; c++)
			if (w->disk.alerts[c].level != LEVEL_NONE && !w->disk.alerts[c].resolved_at)
				open[n++] = w->disk.alerts[c];
		e.kind = EV_RECOVER;
		e.u.recover.deployment = &w->disk.deployment;
		e.u.recover.samples = w->disk.samples;
		e.u.recover.n_samples = w->disk.n_samples;
		e.u.recover.alerts = open;
		e.u.recover.n_alerts = n;
		core_step(w->core, &e, &effects);
	}
	e = (struct core_event){.kind = EV_STARTED, .now = w->now, .wall = w->now + wall_offset};
	core_step(w->core, &e, &effects);
}

static void
crash(struct world *w)
{
	unsigned kept = 0;

	w->n_crashes++;
	core_free(w->core);
	for (unsigned i = 0; i < w->n_pending; i++)
		if (!w->pending[i].of_daemon)
			w->pending[kept++] = w->pending[i];
	w->n_pending = kept;
	w->now += rng_chance(&w->rng, 0.9)
			  ? rng_span(&w->rng, 100000, 5 * USEC_PER_SEC)
			  : rng_span(&w->rng, USEC_PER_MINUTE, 15 * USEC_PER_MINUTE);
	start_core(w);
}

/* One event through the core, its effects carried out; crashes strike around the commit. */
static void
step(struct world *w, struct core_event *e)
{
	bool writes = false;

	w->steps++;
	e->now = w->now;
	e->wall = w->now + wall_offset;
	if (core_step(w->core, e, &effects) < 0)
		world_broke(w, "the core refused an event", "%s", event_kind_name(e->kind));
	check_stale(w, e, effects.n);
	for (unsigned i = 0; i < effects.n; i++)
		writes |= effects.v[i].kind <= EF_PERSIST_ALERT;
	if (writes && w->crashes && rng_chance(&w->rng, w->crash_chance)) {
		crash(w); /* before the commit: nothing of this step ever happened */
		return;
	}
	commit(w);
	for (unsigned i = 0; i < effects.n; i++) {
		if (writes && w->crashes && rng_chance(&w->rng, w->crash_chance)) {
			crash(w); /* after it, between two acts */
			return;
		}
		carry_out(w, &effects.v[i]);
	}
}

/* --- running --- */

static void
deliver(struct world *w, unsigned i)
{
	struct core_event e = w->pending[i].event;

	w->pending[i] = w->pending[--w->n_pending];
	/* Now and then an answer comes twice, the second time when nobody waits for it any more. */
	if (rng_chance(&w->rng, 0.02) && w->n_pending < PENDING_MAX / 2) {
		struct pending *again = &w->pending[w->n_pending++];

		*again = (struct pending){.event = e, .of_daemon = true};
		again->at = w->now + rng_span(&w->rng, 1, 2 * USEC_PER_MINUTE);
	}
	if (e.kind == EV_SAMPLE) {
		enum sample_kind kind = e.u.sample.kind;

		e.u.sample =
			(struct sample){.kind = kind, .at = w->now, .wall = w->now + wall_offset};
		if (kind == SAMPLE_HEALTH)
			observe_health(w, &e.u.sample);
		else
			observe_metrics(w, &e.u.sample);
	}
	step(w, &e);
}

static unsigned
earliest(const struct world *w)
{
	unsigned first = 0;

	for (unsigned i = 1; i < w->n_pending; i++)
		if (w->pending[i].at < w->pending[first].at)
			first = i;
	return first;
}

static void
ask_for_rollback(struct world *w)
{
	struct core_event e = {.kind = EV_ROLLBACK, .request = 2};

	w->manual_asked = true;
	e.u.rollback.reason = "simulated operator";
	step(w, &e);
}

static void
advance(struct world *w)
{
	usec_t deadline = core_deadline(w->core);
	unsigned first = earliest(w);
	struct core_event tick = {.kind = EV_TICK};

	if (w->n_pending > 0 && w->pending[first].at <= deadline) {
		w->now = MAX(w->now, w->pending[first].at);
		deliver(w, first);
		return;
	}
	if (deadline == USEC_INFINITY) {
		world_broke(w, "nothing is due and nothing is awaited", "in state %s",
			    dstate_name(w->disk.deployment.state));
		return;
	}
	w->now = MAX(w->now, deadline);
	step(w, &tick);
}

static void
deploy(struct world *w)
{
	struct core_event e = {.kind = EV_DEPLOY, .request = 1};

	e.u.deploy.id = "deploy-20240101-120000";
	e.u.deploy.tag = "v1.0.0";
	e.u.deploy.lead = "lead";
	while (!w->disk.exists && !w->broken)
		step(w,
		     &e); /* a crash before the commit: nobody was told, so it is asked for again */
}

bool
world_run(struct world *w)
{
	usec_t manual_at = rng_chance(&w->rng, 0.1)
				   ? w->now + rng_span(&w->rng, 0, 5 * USEC_PER_HOUR)
				   : USEC_INFINITY;
	usec_t tail = 45 * USEC_PER_MINUTE;

	start_core(w);
	deploy(w);
	while (!w->broken) {
		const struct deployment *d = &w->disk.deployment;

		if (dstate_ended(d->state) && w->now > d->ended_at + tail)
			break;
		if (w->now > 24 * USEC_PER_HOUR) {
			world_broke(w, "no end after a day", "%s", dstate_name(d->state));
			break;
		}
		if (w->now >= manual_at && !w->manual_asked)
			ask_for_rollback(w);
		else
			advance(w);
	}
	if (!w->broken)
		check_outcome(w);
	return !w->broken;
}

static void
random_policy(struct world *w)
{
	struct rng *r = &w->rng;

	policy_init(&w->policy);
	w->policy.has_health = true;
	w->policy.has_rate = rng_chance(r, 0.9);
	w->policy.has_latency = rng_chance(r, 0.7);
	w->policy.has_infrastructure = rng_chance(r, 0.3);
	w->policy.has_backup = rng_chance(r, 0.7);
	if (rng_chance(r, 0.2)) {
		w->policy.n_phases = 1; /* staging's smoke watch */
		w->policy.phases[0].until_usec = 10 * USEC_PER_MINUTE;
	}
	for (int i = 0; i < _RULE_MAX; i++)
		if (rng_chance(r, 0.1))
			w->policy.rules[i].sustain = SUSTAIN_LITERAL;
}

void
world_init(struct world *w, uint64_t seed)
{
	static const double error_rates[] = {0, 0, 0, 0.001, 0.01};
	static const double shares[] = {0.12, 0.2, 0.5, 1};
	struct rng *r = &w->rng;

	memset(w, 0, sizeof *w);
	w->seed = r->s = seed;
	rng_next(r);
	w->now = USEC_PER_HOUR;
	random_policy(w);
	w->spread = rng_span(r, 0, 30 * USEC_PER_SEC);
	w->fault = (enum fault)(rng_next(r) % _FAULT_MAX);
	w->fault_share = shares[rng_next(r) % ARRAY_SIZE(shares)];
	w->fault_from = w->now + rng_span(r, 0, 3 * USEC_PER_HOUR);
	w->fault_until = USEC_INFINITY;
	if (w->fault == FAULT_BURST)
		w->fault_until = w->fault_from + rng_span(r, USEC_PER_SEC, 6 * USEC_PER_MINUTE);
	w->flap_period = rng_span(r, USEC_PER_SEC, 10 * USEC_PER_MINUTE);
	w->traffic = pow(10, rng_unit(r) * 4 - 1.5);
	w->base_error = error_rates[rng_next(r) % ARRAY_SIZE(error_rates)];
	w->rollback_heals = rng_chance(r, 0.8);
	w->hooks_fail = rng_chance(r, 0.2);
	w->crashes = rng_chance(r, 0.4);
	w->crash_chance = rng_chance(r, 0.5) ? 0.01 : 0.1;
}

void
world_done(struct world *w)
{
	core_free(w->core);
}
