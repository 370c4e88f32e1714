/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole deployments through the core, by script, in virtual time: a world that answers, what was
 * seen of the core's effects, and the ways to a state.
 */

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "daemon/core/core.h"

#define SEC_ USEC_PER_SEC
#define MIN_ USEC_PER_MINUTE

static struct core *core;
static struct effects fx;
static struct policy policy;
static usec_t now;

/* What the world is like, and what was seen. */
static struct {
	bool down, all_down, infra, observer_down;
	double error_rate, requests_per_sec;
	bool metrics_silent;
} world;
static struct {
	unsigned decisions, would, alerts, criticals, resolved, escalations, restored, samples;
	struct decision last_decision;
	char last_note[CORE_TEXT_MAX];
	enum reply_kind reply;
	char reply_text[CORE_TEXT_MAX];
	unsigned deploys, rollbacks, backups, cancels, reports;
	struct deployment d;
	unsigned attempt;
	bool want_gates, want_backup, want_target, want_hook;
	struct {
		bool want;
		unsigned attempt;
	} sample[_SAMPLE_KIND_MAX];
} seen;

static inline void
count_note(const struct note *n)
{
	seen.alerts += n->kind == NOTE_ALERT;
	seen.criticals += n->kind == NOTE_ALERT && n->level == LEVEL_CRITICAL;
	seen.resolved += n->kind == NOTE_RESOLVED;
	seen.escalations += n->kind == NOTE_ESCALATION;
	seen.restored += n->kind == NOTE_RESTORED;
	str_copy(seen.last_note, sizeof seen.last_note, n->text);
}

static inline void
take(void)
{
	for (unsigned i = 0; i < fx.n; i++) {
		const struct effect *f = &fx.v[i];

		if (f->deployment)
			seen.attempt = f->attempt;
		switch (f->kind) {
		case EF_PERSIST_DEPLOYMENT:
			seen.d = *f->deployment;
			break;
		case EF_PERSIST_DECISION:
			seen.decisions += f->u.decision.kind == DECISION_ROLL_BACK;
			seen.would += f->u.decision.kind == DECISION_WOULD_ROLL_BACK;
			seen.last_decision = f->u.decision;
			break;
		case EF_NOTE:
			count_note(&f->u.note);
			break;
		case EF_REPLY:
			seen.reply = f->u.reply.kind;
			str_copy(seen.reply_text, sizeof seen.reply_text, f->u.reply.text);
			break;
		case EF_RUN_GATES:
			seen.want_gates = true;
			break;
		case EF_BACKUP:
			seen.want_backup = true;
			seen.backups++;
			break;
		case EF_CHOOSE:
			seen.want_target = true;
			break;
		case EF_DEPLOY:
			seen.want_hook = true;
			seen.deploys++;
			break;
		case EF_ROLLBACK:
			seen.want_hook = true;
			seen.rollbacks++;
			break;
		case EF_CANCEL:
			seen.cancels++;
			break;
		case EF_REPORT:
			seen.reports++;
			break;
		case EF_SAMPLE:
			seen.samples++;
			seen.sample[f->u.sampling.kind].want = true;
			seen.sample[f->u.sampling.kind].attempt = f->attempt;
			break;
		default:
			break;
		}
	}
}

static inline void
step(struct core_event e)
{
	e.now = now;
	e.wall = now + 1000000 * SEC_;
	ck_assert_int_eq(core_step(core, &e, &fx), 0);
	take();
}

static inline void
setup(void)
{
	struct core_event e = {.kind = EV_CONFIGURE};

	memset(&world, 0, sizeof world);
	memset(&seen, 0, sizeof seen);
	world.requests_per_sec = 10;
	policy_init(&policy);
	policy.has_health = policy.has_rate = policy.has_latency = policy.has_backup = true;
	policy.idle_interval_usec = 0;
	now = 100 * MIN_;
	core = core_new();
	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
	step((struct core_event){.kind = EV_STARTED});
}

static inline void
teardown(void)
{
	core_free(core);
}

static inline void
setup_again(void)
{
	teardown();
	setup();
}

static inline void
reconfigure(void)
{
	struct core_event e = {.kind = EV_CONFIGURE};

	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
}

static inline void
deploy(const char *id, bool supersede)
{
	struct core_event e = {.kind = EV_DEPLOY};

	e.u.deploy.id = id;
	e.u.deploy.tag = "v1.1.0";
	e.u.deploy.previous_tag = "v1.0.0";
	e.u.deploy.supersede = supersede;
	step(e);
}

static inline void
rollback(void)
{
	struct core_event e = {.kind = EV_ROLLBACK};

	e.u.rollback.reason = "users complain";
	step(e);
}

static inline void
done(enum event_kind kind, bool ok)
{
	struct core_event e = {.kind = kind, .attempt = seen.d.attempt};

	e.u.done.ok = ok;
	e.u.done.text = ok ? "fine" : "broken";
	e.u.done.path = "/b.zip";
	e.u.done.sha256 = "aa";
	e.u.done.verified = true;
	step(e);
}

static inline void
hook(enum hook_outcome o)
{
	struct core_event e = {.kind = EV_HOOK, .attempt = seen.d.attempt};

	seen.want_hook = false;
	e.u.hook.outcome = o;
	e.u.hook.text = "exit status";
	step(e);
}

static inline void
sample(enum sample_kind k)
{
	struct core_event e = {.kind = EV_SAMPLE, .attempt = seen.sample[k].attempt};
	struct sample *s = &e.u.sample;
	static usec_t last;

	seen.sample[k].want = false;
	s->kind = k;
	s->at = now;
	s->result = RESULT_OK;
	if (k == SAMPLE_HEALTH) {
		s->result = world.down            ? RESULT_BAD
			    : world.observer_down ? RESULT_ERROR
						  : RESULT_OK;
		s->all_failed = world.all_down;
		s->infra_known = policy.has_infrastructure;
		s->infra_critical = world.infra;
		str_copy(s->detail, sizeof s->detail, world.down ? "HTTP 503" : "HTTP 200");
	} else {
		usec_t span = now - last > 10 * MIN_ ? 30 * SEC_ : now - last;

		if (world.metrics_silent)
			s->result = RESULT_NO_DATA;
		s->rate.result = s->latency.result = s->result;
		s->rate.span = s->latency.span = span;
		s->rate.total = s->latency.total =
			floor(world.requests_per_sec * (double)span / SEC_);
		s->rate.bad = s->rate.bad_warn = floor(s->rate.total * world.error_rate);
		s->latency.value = 0.2;
		last = now;
	}
	step(e);
}

/* Ticks, answers samples at once, and stops at `until` or when the deployment is in `state`. */
static inline void
run(usec_t until, int state)
{
	until += now;
	while ((int)seen.d.state != state) {
		usec_t due = core_deadline(core);

		if (due > until) {
			now = until;
			return;
		}
		now = MAX(now, due);
		step((struct core_event){.kind = EV_TICK});
		for (enum sample_kind k = 0; k < _SAMPLE_KIND_MAX; k++)
			if (seen.sample[k].want)
				sample(k);
	}
}

static inline void
to_watching(void)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	if (policy.has_backup)
		done(EV_BACKUP, true);
	ck_assert_int_eq(seen.d.state, DS_DEPLOYING);
	now += 5 * SEC_;
	hook(HOOK_OK);
	run(MIN_, DS_WATCHING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
}

static inline void
to_rolled_back(void)
{
	if (policy.has_backup)
		done(EV_BACKUP, true);
	ck_assert_int_eq(seen.d.state, DS_RB_CHOOSING);
	done(EV_TARGET, true);
	ck_assert_int_eq(seen.d.state, DS_RB_RUNNING);
	world.down = false;
	world.error_rate = 0;
	hook(HOOK_OK);
	run(MIN_, DS_ROLLED_BACK);
	ck_assert_int_eq(seen.d.state, DS_ROLLED_BACK);
}

static inline void
restart(const struct sample *samples, size_t n)
{
	struct core_event e = {.kind = EV_CONFIGURE};
	struct deployment d = seen.d;

	core_free(core);
	core = core_new();
	memset(seen.sample, 0, sizeof seen.sample);
	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
	e = (struct core_event){.kind = EV_RECOVER};
	e.u.recover.deployment = &d;
	e.u.recover.samples = samples;
	e.u.recover.n_samples = n;
	step(e);
	ck_assert_int_eq(core_deadline(core), USEC_INFINITY); /* not before everything is loaded */
	step((struct core_event){.kind = EV_STARTED});
	step((struct core_event){.kind = EV_TICK});
}

/* Answers the health round that is awaited, with what the world is now. */
static inline void
next_round(void)
{
	while (!seen.sample[SAMPLE_HEALTH].want) {
		now = MAX(now, core_deadline(core));
		step((struct core_event){.kind = EV_TICK});
	}
	sample(SAMPLE_HEALTH);
}

/* Runs a suite of one case, each test in a world of its own; returns what main() returns. */
static inline int
run_suite(const char *name, const TTest *const *tests, size_t n)
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create(name);
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
