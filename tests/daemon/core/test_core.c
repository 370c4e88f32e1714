/* SPDX-License-Identifier: Apache-2.0 */
/* Whole deployments through the core, by script, in virtual time. */

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

static void
count_note(const struct note *n)
{
	seen.alerts += n->kind == NOTE_ALERT;
	seen.criticals += n->kind == NOTE_ALERT && n->level == LEVEL_CRITICAL;
	seen.resolved += n->kind == NOTE_RESOLVED;
	seen.escalations += n->kind == NOTE_ESCALATION;
	seen.restored += n->kind == NOTE_RESTORED;
	str_copy(seen.last_note, sizeof seen.last_note, n->text);
}

static void
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

static void
step(struct core_event e)
{
	e.now = now;
	e.wall = now + 1000000 * SEC_;
	ck_assert_int_eq(core_step(core, &e, &fx), 0);
	take();
}

static void
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

static void teardown(void);

static void
setup_again(void)
{
	teardown();
	setup();
}

static void
teardown(void)
{
	core_free(core);
}

static void
reconfigure(void)
{
	struct core_event e = {.kind = EV_CONFIGURE};

	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
}

static void
deploy(const char *id, bool supersede)
{
	struct core_event e = {.kind = EV_DEPLOY};

	e.u.deploy.id = id;
	e.u.deploy.tag = "v1.1.0";
	e.u.deploy.previous_tag = "v1.0.0";
	e.u.deploy.supersede = supersede;
	step(e);
}

static void
rollback(void)
{
	struct core_event e = {.kind = EV_ROLLBACK};

	e.u.rollback.reason = "users complain";
	step(e);
}

static void
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

static void
hook(enum hook_outcome o)
{
	struct core_event e = {.kind = EV_HOOK, .attempt = seen.d.attempt};

	seen.want_hook = false;
	e.u.hook.outcome = o;
	e.u.hook.text = "exit status";
	step(e);
}

static void
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
static void
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

static void
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

static void
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

START_TEST(a_healthy_release_succeeds)
{
	to_watching();
	run(241 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
	ck_assert_int_eq(seen.last_decision.kind, DECISION_PROMOTE);
	ck_assert_uint_eq(seen.alerts, 0);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_int_eq(seen.d.ended_at - seen.d.t0, 240 * MIN_);
}
END_TEST

START_TEST(three_failed_rounds_roll_back)
{
	usec_t broken;

	to_watching();
	run(5 * MIN_ + SEC_, -1);
	world.down = world.all_down = true;
	broken = now;
	run(3 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_le(now - broken, 90 * SEC_);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert(seen.last_decision.automatic);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_HEALTH);
	ck_assert_uint_eq(seen.last_decision.evidence.failures, 3);
	ck_assert_uint_eq(seen.criticals, 1);
	to_rolled_back();
	ck_assert_uint_eq(seen.reports, 1);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
}
END_TEST

START_TEST(two_failed_rounds_do_not)
{
	to_watching();
	run(5 * MIN_ + SEC_, -1);
	world.down = true;
	run(MIN_, -1);
	world.down = false;
	run(10 * MIN_, -1);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.criticals, 1);
	ck_assert_uint_ge(seen.resolved, 1);
}
END_TEST

/* semantics: 300 s + 2 × 30 s from crash to decision in the extended phase. */
START_TEST(fast_recheck_bounds_the_extended_phase)
{
	for (int offset = 1; offset < 300; offset += 37) {
		usec_t broken;

		teardown();
		setup();
		to_watching();
		run(100 * MIN_ + offset * SEC_, -1);
		world.down = true;
		broken = now;
		run(10 * MIN_, DS_RB_SAVING);
		ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
		ck_assert_int_le(now - broken, 360 * SEC_);
	}
}
END_TEST

START_TEST(errors_roll_back_after_the_hold_time)
{
	usec_t broken;

	to_watching();
	run(2 * MIN_, -1);
	world.error_rate = 0.2;
	broken = now;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_ge(now - broken, 5 * MIN_ - SEC_);
	ck_assert_int_le(now - broken, 6 * MIN_);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_ERROR_RATE);
	ck_assert_double_eq_tol(seen.last_decision.evidence.value, 0.2, 0.01);
	ck_assert(strstr(seen.d.rollback_reason, "error-rate") != NULL);
}
END_TEST

START_TEST(observe_mode_only_says_so_once)
{
	policy.rules[RULE_ERROR_RATE].mode = RULE_OBSERVE;
	reconfigure();
	to_watching();
	world.error_rate = 0.5;
	run(30 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.would, 1);
	ck_assert_uint_eq(seen.decisions, 0);
}
END_TEST

START_TEST(a_rule_that_is_off_says_nothing)
{
	policy.rules[RULE_ERROR_RATE].mode = RULE_OFF;
	reconfigure();
	to_watching();
	world.error_rate = 1;
	run(30 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.would, 0);
	ck_assert_uint_eq(seen.alerts, 0);
}
END_TEST

START_TEST(a_reload_does_not_touch_the_live_one)
{
	to_watching();
	policy.rules[RULE_ERROR_RATE].mode = RULE_OFF;
	policy.rules[RULE_HEALTH].failures = 100;
	reconfigure();
	world.error_rate = 0.5;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(few_requests_warn_once_and_never_act)
{
	world.requests_per_sec = 0.1;
	to_watching();
	world.error_rate = 1;
	run(6 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_uint_ge(seen.alerts, 1);
	ck_assert_uint_le(seen.alerts, 2);
}
END_TEST

START_TEST(silent_metrics_end_unverified)
{
	world.metrics_silent = true;
	to_watching();
	run(300 * MIN_, DS_UNVERIFIED);
	ck_assert_int_eq(seen.d.state, DS_UNVERIFIED);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert(strstr(seen.d.outcome, "critical") != NULL);
	ck_assert_int_eq(seen.last_decision.kind, DECISION_HOLD);
}
END_TEST

START_TEST(silence_as_a_fault)
{
	policy.on_missing = MISSING_BAD;
	reconfigure();
	to_watching();
	run(3 * MIN_, -1);
	world.metrics_silent = true;
	run(10 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(a_cut_off_observer_never_rolls_back)
{
	to_watching();
	world.observer_down = true;
	run(60 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_uint_eq(seen.decisions, 0);
	ck_assert_uint_ge(seen.alerts, 1); /* unobserved */
}
END_TEST

START_TEST(infrastructure_from_before_is_muted)
{
	policy.has_infrastructure = true;
	reconfigure();
	world.infra = true;
	to_watching();
	run(20 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	world.infra = false;
	run(2 * MIN_, -1);
	world.infra = true; /* cleared, and critical again: this time it is new */
	run(2 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_int_eq(seen.last_decision.evidence.rule, RULE_INFRASTRUCTURE);
}
END_TEST

START_TEST(a_failed_deploy_hook_is_rolled_back_once)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.decisions, 1);
	done(EV_BACKUP, false); /* an emergency is not stopped by that */
	done(EV_TARGET, true);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_ROLLBACK_FAILED);
	ck_assert_uint_eq(seen.rollbacks, 1);
	ck_assert_uint_ge(seen.escalations, 1);
	world.down = true;
	run(10 * MIN_, -1);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert_uint_ge(seen.samples, 19); /* every 30 s until it is back */
	ck_assert_uint_eq(seen.restored, 0);
	ck_assert_uint_eq(seen.reports, 1);
	world.down = false;
	run(MIN_, -1);
	ck_assert_uint_eq(seen.restored, 1);
	ck_assert_uint_eq(seen.reports, 2); /* the incident's end belongs into its report */
	run(30 * MIN_, -1);
	ck_assert_uint_eq(seen.restored, 1);
}
END_TEST

START_TEST(an_unknown_end_is_judged_by_health)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_UNKNOWN);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	ck_assert_uint_eq(seen.criticals, 1);
	world.down = true;
	run(5 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(gates_and_backup_can_refuse)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, false);
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	ck_assert_uint_eq(seen.deploys, 0);
	deploy("deploy-2", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, false);
	ck_assert_int_eq(seen.d.state, DS_FAILED);
	ck_assert_uint_eq(seen.deploys, 0);
}
END_TEST

START_TEST(late_answers_are_dropped)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	run(10 * MIN_, DS_REJECTED); /* the gates' deadline */
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	seen.d.attempt--;
	done(EV_GATES, true);
	ck_assert_int_eq(seen.d.state, DS_REJECTED);
	ck_assert_uint_eq(fx.n, 0);
}
END_TEST

START_TEST(abort_only_before_anything_changed)
{
	struct core_event e = {.kind = EV_ABORT};

	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	step(e);
	ck_assert_int_eq(seen.d.state, DS_ABORTED);
	ck_assert_int_eq(seen.reply, REPLY_OK);
	to_watching();
	step(e);
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	ck_assert(strstr(seen.reply_text, "rollback") != NULL);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
}
END_TEST

START_TEST(one_live_deployment_per_environment)
{
	to_watching();
	deploy("deploy-2", false);
	ck_assert_int_eq(seen.reply, REPLY_BUSY);
	ck_assert(strstr(seen.reply_text, "deploy-1") != NULL);
	run(7 * MIN_, -1);
	deploy("deploy-2", true);
	ck_assert_int_eq(seen.reply, REPLY_OK);
	ck_assert_str_eq(seen.d.id, "deploy-2");
	ck_assert_int_eq(seen.d.state, DS_QUEUED);
	ck_assert_int_eq(seen.d.t0, 0); /* a fresh clock */
}
END_TEST

START_TEST(a_running_hook_cannot_be_superseded)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	deploy("deploy-2", true);
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	ck_assert_str_eq(seen.d.id, "deploy-1");
	ck_assert_uint_eq(seen.cancels, 0);
}
END_TEST

START_TEST(rollback_during_the_deploy_hook_waits_for_it)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_OK);
	ck_assert_uint_eq(seen.cancels, 1);
	ck_assert_int_eq(seen.d.state, DS_DEPLOYING);
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_REFUSED);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert(!seen.d.rollback_auto);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 0);
	to_rolled_back();
}
END_TEST

START_TEST(rollback_long_after_success)
{
	to_watching();
	run(241 * MIN_, DS_SUCCEEDED);
	now += USEC_PER_DAY;
	rollback();
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	to_rolled_back();
	rollback();
	ck_assert_int_eq(seen.reply,
			 REPLY_REFUSED); /* no rollback of a rollback without a target */
}
END_TEST

START_TEST(nothing_to_roll_back)
{
	rollback();
	ck_assert_int_eq(seen.reply, REPLY_NOT_FOUND);
}
END_TEST

START_TEST(verification_has_a_deadline)
{
	to_watching();
	world.down = true;
	run(5 * MIN_, DS_RB_SAVING);
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	hook(HOOK_OK);
	run(10 * MIN_, DS_ROLLBACK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_ROLLBACK_FAILED);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
	run(60 * MIN_, -1);
	ck_assert_uint_eq(seen.decisions, 1);
}
END_TEST

START_TEST(settling_is_armed_for_an_outage_only)
{
	policy.settle_usec = 10 * MIN_;
	reconfigure();
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_OK);
	world.error_rate = 1;
	run(8 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	world.down = true;
	run(2 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(a_suspicion_at_the_end_is_watched_on)
{
	to_watching();
	run(240 * MIN_ - 31 * SEC_ - 150 * SEC_, -1);
	world.error_rate = 0.3;
	run(4 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	run(15 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

/* Before anything changed there is nothing to judge, and no release to blame. */
START_TEST(view_before_the_deploy)
{
	struct core_event e = {.kind = EV_CONFIGURE};
	struct env_view v;

	policy.idle_interval_usec = 30 * SEC_;
	e.u.configure.service = "web";
	e.u.configure.environment = "production";
	e.u.configure.policy = &policy;
	step(e);
	world.down = world.all_down = true;
	run(5 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BREACHED);
	ck_assert_str_eq(v.scenario, "");
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	core_view(core, 0, now, &v);
	ck_assert(!v.rules[RULE_ERROR_RATE].armed);
	ck_assert_str_eq(v.rules[RULE_ERROR_RATE].evidence.text, "not in force while gates");
	ck_assert_int_eq(v.verdict, VERDICT_BLIND); /* of this deployment nothing is known yet */
}
END_TEST

START_TEST(view_tells_what_is_asked_of_the_operator)
{
	struct env_view v;

	to_watching();
	run(5 * MIN_, -1);
	ck_assert_int_eq(core_view(core, 0, now, &v), 0);
	ck_assert_int_eq(v.verdict, VERDICT_HEALTHY);
	ck_assert_str_eq(v.scenario, "");
	ck_assert_int_eq(v.phase, 0);
	ck_assert_int_eq(v.coverage[0].observed, v.coverage[0].elapsed);
	/* Just before the next samples nothing is missing yet; long after, it is. */
	core_view(core, 0, v.next_sample - 1, &v);
	ck_assert_int_eq(v.coverage[0].observed, v.coverage[0].elapsed);
	core_view(core, 0, v.next_sample + MIN_, &v);
	ck_assert_int_gt(v.coverage[0].elapsed, v.coverage[0].observed + MIN_);
	world.error_rate = 0.3;
	run(2 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_SUSPECT);
	ck_assert(v.rechecking);
	ck_assert(strstr(v.rules[RULE_ERROR_RATE].evidence.text, "fires in") != NULL);
	/* The alert is read later, when a countdown would no longer be true. */
	ck_assert_int_eq(v.alerts[CAUSE_ERROR_RATE].level, LEVEL_WARNING);
	ck_assert_ptr_nonnull(strstr(v.alerts[CAUSE_ERROR_RATE].text, "over the limit of 10%"));
	ck_assert_ptr_null(strstr(v.alerts[CAUSE_ERROR_RATE].text, "fires"));
	world.down = world.all_down = true;
	run(30 * SEC_, -1);
	core_view(core, 0, now, &v);
	ck_assert_str_eq(v.scenario, "complete service outage");
	ck_assert_int_lt(core_view(core, 7, now, &v), 0);
}
END_TEST

START_TEST(view_of_an_idle_environment_is_its_health)
{
	struct env_view v;

	policy.idle_interval_usec = MIN_;
	reconfigure();
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BLIND);
	to_watching();
	run(250 * MIN_, DS_SUCCEEDED);
	run(20 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_HEALTHY);
	for (int r = 0; r < _RULE_MAX; r++)
		ck_assert_msg(!v.rules[r].armed, "%s", rule_kind_name(r));
	world.down = true;
	run(10 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.verdict, VERDICT_BREACHED);
}
END_TEST

START_TEST(warnings_escalate)
{
	policy.rules[RULE_HEALTH].failures = 1000;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3; i++) {
		world.down = true;
		run(30 * SEC_, -1);
		world.down = false;
		run(60 * SEC_, -1);
	}
	ck_assert_uint_ge(seen.escalations, 1);
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
}
END_TEST

START_TEST(escalation_may_roll_back_where_asked)
{
	policy.rules[RULE_HEALTH].failures = 1000;
	policy.rollback_on_escalation = true;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3 && seen.d.state == DS_WATCHING; i++) {
		world.down = true;
		run(30 * SEC_, DS_RB_SAVING);
		world.down = false;
		run(60 * SEC_, DS_RB_SAVING);
	}
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
}
END_TEST

/* --- recovery --- */

static void
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

START_TEST(each_waiting_state_asks_again_with_its_attempt)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	seen.want_gates = false;
	restart(NULL, 0);
	ck_assert(seen.want_gates);
	done(EV_GATES, true);
	seen.want_backup = false;
	restart(NULL, 0);
	ck_assert(seen.want_backup);
	done(EV_BACKUP, true);
	ck_assert_uint_eq(seen.deploys, 1);
	restart(NULL, 0);
	ck_assert_uint_eq(seen.deploys, 2); /* asked again: idempotent by its transaction */
	hook(HOOK_OK);
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
}
END_TEST

START_TEST(the_clock_of_a_breach_survives)
{
	struct sample samples[32];
	size_t n = 0;

	to_watching();
	world.error_rate = 0.3;
	for (int i = 0; i < 8; i++) { /* four minutes of the breach, recorded as the store would */
		struct sample s = {.kind = SAMPLE_METRICS, .result = RESULT_OK};

		run(30 * SEC_, -1);
		s.at = now - 1;
		s.rate = (struct series){.result = RESULT_OK,
					 .span = 30 * SEC_,
					 .bad = 90,
					 .bad_warn = 90,
					 .total = 300,
					 .value = 0.3};
		s.latency = s.rate;
		s.latency.bad = s.latency.bad_warn = 0;
		samples[n++] = s;
	}
	restart(samples, n);
	run(3 * MIN_, DS_RB_SAVING);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

/* Answers the health round that is awaited, with what the world is now. */
static void
next_round(void)
{
	while (!seen.sample[SAMPLE_HEALTH].want) {
		now = MAX(now, core_deadline(core));
		step((struct core_event){.kind = EV_TICK});
	}
	sample(SAMPLE_HEALTH);
}

START_TEST(a_rollback_is_verified_by_three_passes_in_a_row)
{
	to_watching();
	rollback();
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	hook(HOOK_OK);
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	next_round();
	next_round();
	world.down = true;
	next_round();
	world.down = false;
	next_round();
	next_round();
	ck_assert_int_eq(seen.d.state, DS_VERIFYING);
	next_round();
	ck_assert_int_eq(seen.d.state, DS_ROLLED_BACK);
}
END_TEST

START_TEST(answers_of_an_attempt_that_is_over_do_nothing)
{
	struct core_event e = {.kind = EV_HOOK};

	to_watching();
	rollback();
	done(EV_BACKUP, true);
	done(EV_TARGET, true);
	ck_assert_int_eq(seen.d.state, DS_RB_RUNNING);
	e.attempt = seen.d.attempt - 3; /* the deploy hook's, long after */
	e.u.hook.outcome = HOOK_FAILED;
	e.u.hook.text = "late";
	step(e);
	ck_assert_uint_eq(fx.n, 0);
	e = (struct core_event){.kind = EV_SAMPLE, .attempt = seen.d.attempt - 1};
	e.u.sample = (struct sample){.result = RESULT_BAD, .at = now};
	step(e);
	ck_assert_uint_eq(fx.n, 0);
	e.attempt = seen.d.attempt;
	e.u.sample.kind = _SAMPLE_KIND_MAX; /* no such kind */
	step(e);
	ck_assert_uint_eq(fx.n, 0);
}
END_TEST

START_TEST(last_answers_that_never_come_do_not_hold_the_end)
{
	usec_t end;

	to_watching();
	end = seen.d.t0 + 240 * MIN_;
	run(end - now - 1, -1);
	now = end;
	step((struct core_event){.kind = EV_TICK});
	ck_assert(seen.sample[SAMPLE_HEALTH].want); /* asked for, and never answered */
	ck_assert_int_eq(core_deadline(core), end + 20 * SEC_);
	now = core_deadline(core);
	step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
}
END_TEST

START_TEST(the_watch_after_a_rollback_ends)
{
	to_watching();
	rollback();
	to_rolled_back();
	seen.samples = 0;
	run(45 * MIN_, -1);
	ck_assert_uint_eq(seen.samples, 60 + 1); /* every 30 s for 30 min; idle rounds are off */
	ck_assert_int_eq(core_deadline(core), USEC_INFINITY);
}
END_TEST

START_TEST(infrastructure_does_not_act_while_settling)
{
	policy.has_infrastructure = true;
	reconfigure();
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	run(SEC_, -1);
	hook(HOOK_OK);
	world.infra = true;
	next_round();
	ck_assert_int_eq(seen.d.state, DS_SETTLING);
	ck_assert_uint_eq(seen.decisions, 0);
	run(MIN_, DS_RB_SAVING); /* at T+0 it does */
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
}
END_TEST

START_TEST(two_rules_in_one_tick_are_one_decision)
{
	policy.has_infrastructure = true;
	policy.rules[RULE_HEALTH].failures = 1;
	reconfigure();
	to_watching();
	world.infra = world.down = true;
	next_round();
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.decisions, 1);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 1);
	ck_assert_uint_eq(seen.d.rollbacks, 1);
}
END_TEST

START_TEST(watching_begins_when_settling_was_to_end)
{
	usec_t settled;

	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	hook(HOOK_OK);
	settled = now + policy.settle_usec;
	now = settled + 7 * SEC_; /* a busy machine wakes us late */
	while (core_deadline(core) <= now)
		step((struct core_event){.kind = EV_TICK});
	ck_assert_int_eq(seen.d.state, DS_WATCHING);
	ck_assert_int_eq(seen.d.t0, settled);
}
END_TEST

START_TEST(coverage_at_its_limit_is_enough)
{
	for (int missed = 1; missed <= 2; missed++) {
		setup_again();
		policy.n_phases = 1;
		policy.phases[0].until_usec = 300 * SEC_;
		policy.has_rate = policy.has_latency = false;
		reconfigure();
		to_watching();
		run(100 * SEC_, -1);
		world.observer_down = true;
		run(missed * 30 * SEC_, -1);
		world.observer_down = false;
		run(10 * MIN_, missed == 1 ? DS_SUCCEEDED : DS_UNVERIFIED);
		ck_assert_int_eq(seen.d.state, missed == 1 ? DS_SUCCEEDED : DS_UNVERIFIED);
	}
}
END_TEST

START_TEST(a_round_begun_at_the_slow_interval_counts_whole)
{
	struct env_view before, after;
	int extended;

	to_watching();
	run(61 * MIN_, -1);
	core_view(core, 0, now, &before);
	extended = before.phase;
	ck_assert_int_eq(extended, 2);
	world.down = true; /* the health answer comes first and begins the fast re-check */
	while (!seen.sample[SAMPLE_HEALTH].want) {
		now = core_deadline(core);
		step((struct core_event){.kind = EV_TICK});
	}
	core_view(core, 0, now, &before);
	sample(SAMPLE_HEALTH);
	core_view(core, 0, now, &after);
	ck_assert_int_eq(after.rules[RULE_ERROR_RATE].verdict, VERDICT_HEALTHY); /* not blind */
	sample(SAMPLE_METRICS);
	core_view(core, 0, now, &after);
	ck_assert_int_ge(after.coverage[extended].observed - before.coverage[extended].observed,
			 299 * SEC_);
	/* A source that falls silent during the re-check is missed after a minute all the same. */
	world.down = false;
	world.metrics_silent = true;
	run(70 * SEC_, -1);
	core_view(core, 0, now, &after);
	ck_assert_int_eq(after.rules[RULE_ERROR_RATE].verdict, VERDICT_BLIND);
}
END_TEST

START_TEST(infrastructure_muted_or_not_survives_a_restart)
{
	for (int from_before = 0; from_before < 2; from_before++) {
		struct sample s[3] = {0};

		setup_again();
		policy.has_infrastructure = true;
		reconfigure();
		world.infra = from_before;
		to_watching();
		for (int i = 0; i < 3; i++) {
			s[i].result = RESULT_OK;
			s[i].infra_known = true;
			s[i].infra_critical = i > 0 || from_before;
			s[i].at = i == 0 ? seen.d.deployed_at + 1 : seen.d.t0 - SEC_ * (3 - i);
		}
		world.infra = true;
		restart(s, 3);
		run(2 * MIN_, DS_RB_SAVING);
		ck_assert_int_eq(seen.d.state, from_before ? DS_WATCHING : DS_RB_SAVING);
	}
}
END_TEST

START_TEST(a_wish_to_go_back_stops_the_hook_after_a_restart_too)
{
	deploy("deploy-1", false);
	run(SEC_, DS_GATES);
	done(EV_GATES, true);
	done(EV_BACKUP, true);
	rollback();
	ck_assert_uint_eq(seen.cancels, 1);
	restart(NULL, 0);
	ck_assert_uint_eq(seen.cancels, 2);
	hook(HOOK_FAILED);
	ck_assert_int_eq(seen.d.state, DS_RB_SAVING);
	ck_assert_uint_eq(seen.d.auto_rollbacks, 0);
}
END_TEST

START_TEST(no_alert_outlives_what_could_resolve_it)
{
	struct env_view v;

	policy.rules[RULE_ERROR_RATE].mode = RULE_OBSERVE;
	reconfigure();
	world.error_rate = 0.07;
	to_watching();
	run(230 * MIN_, -1);
	core_view(core, 0, now, &v);
	ck_assert_int_eq(v.alerts[CAUSE_ERROR_RATE].level, LEVEL_WARNING);
	run(30 * MIN_, DS_SUCCEEDED);
	ck_assert_int_eq(seen.d.state, DS_SUCCEEDED);
	core_view(core, 0, now, &v);
	for (int c = 0; c < _CAUSE_MAX; c++)
		ck_assert_int_eq(v.alerts[c].level, LEVEL_NONE);
}
END_TEST

START_TEST(what_would_have_been_done_is_said_once_over_a_restart)
{
	struct sample s[3] = {0};

	policy.rules[RULE_HEALTH].mode = RULE_OBSERVE;
	reconfigure();
	to_watching();
	for (int i = 0; i < 3; i++)
		s[i] = (struct sample){.result = RESULT_BAD, .at = now + (i + 1) * 30 * SEC_};
	world.down = true;
	run(100 * SEC_, -1);
	ck_assert_uint_eq(seen.would, 1);
	restart(s, 3);
	run(100 * SEC_, -1);
	ck_assert_uint_eq(seen.would, 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("core");
	TCase *t = tcase_create("life");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_healthy_release_succeeds);
	tcase_add_test(t, three_failed_rounds_roll_back);
	tcase_add_test(t, two_failed_rounds_do_not);
	tcase_add_test(t, fast_recheck_bounds_the_extended_phase);
	tcase_add_test(t, errors_roll_back_after_the_hold_time);
	tcase_add_test(t, observe_mode_only_says_so_once);
	tcase_add_test(t, a_rule_that_is_off_says_nothing);
	tcase_add_test(t, a_reload_does_not_touch_the_live_one);
	tcase_add_test(t, few_requests_warn_once_and_never_act);
	tcase_add_test(t, silent_metrics_end_unverified);
	tcase_add_test(t, silence_as_a_fault);
	tcase_add_test(t, a_cut_off_observer_never_rolls_back);
	tcase_add_test(t, infrastructure_from_before_is_muted);
	tcase_add_test(t, a_failed_deploy_hook_is_rolled_back_once);
	tcase_add_test(t, an_unknown_end_is_judged_by_health);
	tcase_add_test(t, gates_and_backup_can_refuse);
	tcase_add_test(t, late_answers_are_dropped);
	tcase_add_test(t, abort_only_before_anything_changed);
	tcase_add_test(t, one_live_deployment_per_environment);
	tcase_add_test(t, a_running_hook_cannot_be_superseded);
	tcase_add_test(t, rollback_during_the_deploy_hook_waits_for_it);
	tcase_add_test(t, rollback_long_after_success);
	tcase_add_test(t, nothing_to_roll_back);
	tcase_add_test(t, verification_has_a_deadline);
	tcase_add_test(t, settling_is_armed_for_an_outage_only);
	tcase_add_test(t, a_suspicion_at_the_end_is_watched_on);
	tcase_add_test(t, view_before_the_deploy);
	tcase_add_test(t, view_tells_what_is_asked_of_the_operator);
	tcase_add_test(t, view_of_an_idle_environment_is_its_health);
	tcase_add_test(t, warnings_escalate);
	tcase_add_test(t, escalation_may_roll_back_where_asked);
	tcase_add_test(t, each_waiting_state_asks_again_with_its_attempt);
	tcase_add_test(t, the_clock_of_a_breach_survives);
	tcase_add_test(t, a_rollback_is_verified_by_three_passes_in_a_row);
	tcase_add_test(t, answers_of_an_attempt_that_is_over_do_nothing);
	tcase_add_test(t, last_answers_that_never_come_do_not_hold_the_end);
	tcase_add_test(t, the_watch_after_a_rollback_ends);
	tcase_add_test(t, infrastructure_does_not_act_while_settling);
	tcase_add_test(t, two_rules_in_one_tick_are_one_decision);
	tcase_add_test(t, watching_begins_when_settling_was_to_end);
	tcase_add_test(t, coverage_at_its_limit_is_enough);
	tcase_add_test(t, a_round_begun_at_the_slow_interval_counts_whole);
	tcase_add_test(t, infrastructure_muted_or_not_survives_a_restart);
	tcase_add_test(t, a_wish_to_go_back_stops_the_hook_after_a_restart_too);
	tcase_add_test(t, no_alert_outlives_what_could_resolve_it);
	tcase_add_test(t, what_would_have_been_done_is_said_once_over_a_restart);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
