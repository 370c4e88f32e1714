/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carrying out what the core wants.  The persist effects of a step, and the events for the stream,
 * go into one batch; everything else of the step that follows from it waits until that is on disk.
 * A step that writes nothing is carried out at once.
 */

#include <errno.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"

/* Samples wait for a disk that fails for so long only; after a crash the rest would count as
 * unobserved. */
enum { WAITING_MAX = 4096 };

/* The rest of a step, held back until its batch is on disk. */
struct released {
	struct released *next; /* of those that wait, the oldest first */
	bool told;             /* of its critical notes, while it waits for a disk that fails */
	struct daemon *daemon;
	struct deployment *deployment; /* owned copy; NULL = none */
	unsigned n;
	struct effect v[];
};

static struct target *
target_of(struct daemon *d, const struct effect *f)
{
	return d->targets[f->env];
}

/* --- before the commit ---------------------------------------------------------------------------
 */

static void
freeze(struct batch *b, struct target *t, const struct deployment *d)
{
	struct conf_errors errors = {0};
	char *text;

	if (streq(t->frozen_id, d->id) || d->state != DS_QUEUED)
		return;
	text = conf_env_dump(t->conf);
	batch_config(b, d->id, text);
	target_thaw(t);
	if (conf_env_parse(text, &t->frozen, &errors) < 0)
		log_mistake(
			"cannot read back the configuration of %s: %s; this is a mistake in dhashd",
			d->id, errors.n ? errors.v[0].text : "unknown");
	conf_errors_free(&errors);
	str_copy(t->frozen_id, sizeof t->frozen_id, d->id);
	free(text);
}

/* A tag that was rolled back by itself stays marked until it succeeds or an operator overrides. */
static void
mark_tag(struct batch *b, const struct deployment *d)
{
	if ((d->state == DS_ROLLED_BACK || d->state == DS_ROLLBACK_FAILED) && d->auto_rollbacks > 0)
		batch_bad_tag(b, d->service, d->environment, d->tag, true, d->rollback_reason);
	else if (d->state == DS_SUCCEEDED)
		batch_bad_tag(b, d->service, d->environment, d->tag, false, "succeeded");
}

static json_t *
event_json(const struct target *t, const struct effect *f, usec_t wall)
{
	const struct note *n = &f->u.note;
	const struct deployment *d = f->deployment;
	char at[USEC_TEXT_MAX];

	return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s, s:s, s:s?, s:s?, s:s}", "at",
			 wall_format(at, wall), "service", t->service, "environment",
			 t->environment, "deployment", d ? d->id : NULL, "tag", d ? d->tag : NULL,
			 "kind", note_kind_name(n->kind), "level", level_name(n->level), "rule",
			 n->rule < _RULE_MAX ? rule_kind_name(n->rule) : NULL, "state",
			 d ? dstate_name(d->state) : NULL, "text", n->text);
}

static void
batch_effect(struct batch *b, struct daemon *d, const struct effect *f, usec_t wall)
{
	struct target *t = target_of(d, f);
	const char *id = f->deployment ? f->deployment->id : NULL;
	json_t *json;

	switch (f->kind) {
	case EF_PERSIST_DEPLOYMENT:
		batch_deployment(b, f->deployment);
		freeze(b, t, f->deployment);
		mark_tag(b, f->deployment);
		break;
	case EF_PERSIST_SAMPLE:
		batch_sample(b, id, &f->u.sample);
		break;
	case EF_PERSIST_DECISION:
		batch_decision(b, id, &f->u.decision);
		break;
	case EF_PERSIST_ALERT:
		batch_alert(b, &f->u.alert);
		break;
	case EF_NOTE:
		json = event_json(t, f, wall);
		if (json) /* text that is not UTF-8 was escaped where it came in */
			batch_event(b, t->service, t->environment, id, json);
		json_decref(json);
		break;
	default:
		break;
	}
}

/* --- after the commit --- */

static const enum log_kind note_log_kinds[_NOTE_KIND_MAX] = {
	[NOTE_STATE] = LOG_KIND_STATE,
	[NOTE_PHASE] = LOG_KIND_PHASE,
	[NOTE_SAMPLE] = LOG_KIND_SAMPLE_BAD,
	[NOTE_VERDICT] = LOG_KIND_VERDICT,
	[NOTE_DECISION] = LOG_KIND_DECISION,
	[NOTE_ALERT] = LOG_KIND_ALERT,
	[NOTE_RESOLVED] = LOG_KIND_ALERT_RESOLVED,
	[NOTE_ESCALATION] = LOG_KIND_ESCALATION,
	[NOTE_REQUEST] = LOG_KIND_REQUEST,
	[NOTE_RESTORED] = LOG_KIND_RESTORED,
	[NOTE_HOOK] = LOG_KIND_HOOK_FINISHED,
	[NOTE_BACKUP] = LOG_KIND_BACKUP,
};

static int
note_priority(const struct note *n)
{
	switch (n->level) {
	case LEVEL_CRITICAL:
		return LOG_CRIT;
	case LEVEL_WARNING:
		return LOG_WARNING;
	default:
		return n->kind == NOTE_STATE || n->kind == NOTE_DECISION ? LOG_NOTICE : LOG_INFO;
	}
}

/* Ends of rollbacks have kinds of their own, so that the journal's catalog can say what to do. */
static enum log_kind
note_log_kind(const struct note *n, const struct deployment *d)
{
	if (n->kind == NOTE_STATE && d && d->state == DS_ROLLED_BACK)
		return LOG_KIND_ROLLED_BACK;
	if (n->kind == NOTE_STATE && d && d->state == DS_ROLLBACK_FAILED)
		return LOG_KIND_ROLLBACK_FAILED;
	return note_log_kinds[n->kind];
}

static void
tell(struct target *t, const struct effect *f, const struct deployment *d)
{
	const struct note *n = &f->u.note;
	const char *rule = n->rule < _RULE_MAX ? rule_kind_name(n->rule) : NULL;
	struct log_fields fields = {
		.service = t->service,
		.environment = t->environment,
		.deployment = d ? d->id : NULL,
		.tag = d ? d->tag : NULL,
		.rule = rule,
		.decision = n->kind != NOTE_DECISION     ? NULL
			    : n->level == LEVEL_CRITICAL ? "roll-back"
							 : "would-roll-back",
	};

	log_event(note_log_kind(n, d), note_priority(n), &fields, "%s: %s", note_kind_name(n->kind),
		  n->text);
	if (d)
		session_log(t->daemon->scribe, d->id, "session.log", now_realtime(), "%s %s: %s",
			    level_name(n->level), note_kind_name(n->kind), n->text);
}

static void
series_text(char *buf, size_t n, const char *name, const struct series *s)
{
	if (s->result != RESULT_OK)
		snprintf(buf, n, " %s=%s", name, result_name(s->result));
	else if (s->gauge)
		snprintf(buf, n, " %s=%.4g", name, s->value);
	else
		snprintf(buf, n, " %s=%.4g (%.0f of %.0f)", name, s->value, s->bad, s->total);
}

static void
monitor_log(struct target *t, const struct deployment *d, const struct sample *s)
{
	char rate[128] = "", latency[128] = "";

	if (s->kind == SAMPLE_METRICS && d->policy.has_rate)
		series_text(rate, sizeof rate, "error-rate", &s->rate);
	if (s->kind == SAMPLE_METRICS && d->policy.has_latency)
		series_text(latency, sizeof latency, "p95", &s->latency);
	session_log(t->daemon->scribe, d->id, "monitor.log", s->wall, "%s %s%s%s%s%s (%lld ms)",
		    sample_kind_name(s->kind), result_name(s->result), rate, latency,
		    s->detail[0] ? " " : "", s->detail, (long long)(s->took / USEC_PER_MSEC));
}

static void
remember_state(struct target *t, const struct deployment *d)
{
	bool begins = !streq(t->live_id, d->id);

	if (!begins && t->last_state == d->state)
		return;
	/* The old one, superseded in the same step, must not take the place of the new. */
	if (begins && dstate_ended(d->state) && t->live_id[0])
		return;
	str_copy(t->live_id, sizeof t->live_id, d->id);
	t->last_state = d->state;
	if (d->state == DS_DEPLOYING)
		observer_reset(target_observer(t));
	daemon_status_line(t->daemon);
}

static void
on_sample(void *arg, const struct sample *s)
{
	struct asked_sample *a = arg;
	struct core_event e = {.kind = EV_SAMPLE, .env = a->target->handle, .attempt = a->attempt};

	e.u.sample = *s;
	e.u.sample.at = clock_now(&a->target->daemon->clock);
	e.u.sample.wall = now_realtime();
	daemon_post(a->target->daemon, &e);
}

static void
take_sample(struct target *t, const struct effect *f)
{
	struct observer *o = target_observer(t);
	struct asked_sample *a = &t->sampling[f->u.sampling.kind];

	/* While one of the kind is still out, its answer stands for this one too. */
	a->target = t;
	a->attempt = f->attempt;
	if (!o)
		return;
	if (f->u.sampling.kind == SAMPLE_HEALTH)
		observer_health(o, on_sample, a);
	else
		observer_scrape(o, on_sample, a);
}

static void
on_report(void *arg, int error, json_t *json)
{
	struct daemon *d = arg;
	const char *id = json_string_value(json_object_get(json, "id"));

	if (error || !id)
		log_event(LOG_KIND_STORE_ERROR, LOG_WARNING, NULL,
			  "cannot write an incident report: %s", strerror(-error));
	else
		session_write(d->scribe, id, "incident-report.md", incident_report(json));
	json_decref(json);
}

void
effects_report(struct daemon *d, const char *id)
{
	store_show(d->store, id, 1000, on_report, d);
}

static void
carry_out(struct daemon *d, const struct effect *f, const struct deployment *dep)
{
	struct target *t = target_of(d, f);

	switch (f->kind) {
	case EF_PERSIST_DEPLOYMENT:
		remember_state(t, dep);
		break;
	case EF_PERSIST_SAMPLE:
		monitor_log(t, dep, &f->u.sample);
		break;
	case EF_NOTE:
		tell(t, f, dep);
		break;
	case EF_REPLY:
		requests_answer(d, f);
		break;
	case EF_RUN_GATES:
		act_gates(t, dep, f->attempt);
		break;
	case EF_BACKUP:
		act_backup(t, dep, f->attempt, f->u.backup.emergency);
		break;
	case EF_CHOOSE:
		act_choose(t, dep, f->attempt);
		break;
	case EF_DEPLOY:
		act_deploy_release(t, dep, f->attempt);
		break;
	case EF_ROLLBACK:
		act_roll_back(t, dep, f->attempt);
		break;
	case EF_CANCEL:
		act_cancel(t);
		break;
	case EF_SAMPLE:
		take_sample(t, f);
		break;
	case EF_REPORT:
		effects_report(d, dep->id);
		break;
	default:
		break;
	}
}

/* The head of its log comes before what is told of it. */
static void
begin_sessions(const struct released *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->v[i].kind == EF_PERSIST_DEPLOYMENT && r->v[i].deployment->state == DS_QUEUED)
			session_begin(r->daemon->scribe, r->v[i].deployment);
}

static void
on_committed(void *arg)
{
	struct released *r = arg;

	begin_sessions(r);
	r->daemon->waiting = r->next; /* batches are reported in their order */
	for (unsigned i = 0; i < r->n && !r->daemon->stopping; i++)
		carry_out(r->daemon, &r->v[i], r->v[i].deployment);
	if (r->daemon->ctl)
		ctl_wake(r->daemon->ctl);
	for (unsigned i = 0; i < r->n; i++)
		if (i == 0 || r->v[i].deployment != r->v[i - 1].deployment)
			free((void *)r->v[i].deployment);
	free(r);
}

static bool
writes(const struct effect *f)
{
	return f->kind <= EF_PERSIST_ALERT || f->kind == EF_NOTE;
}

/* Copies of the effects, each with a copy of its deployment; neighbours share one. */
static struct released *
hold_back(struct daemon *d, const struct effects *fx)
{
	struct released *r = xcalloc(1, sizeof *r + fx->n * sizeof r->v[0]);
	const struct deployment *last = NULL;

	r->daemon = d;
	r->n = fx->n;
	for (unsigned i = 0; i < fx->n; i++) {
		r->v[i] = fx->v[i];
		if (!fx->v[i].deployment)
			continue;
		if (i > 0 && fx->v[i].deployment == last) {
			r->v[i].deployment = r->v[i - 1].deployment;
			continue;
		}
		last = fx->v[i].deployment;
		r->v[i].deployment = memcpy(xmalloc(sizeof *last), last, sizeof *last);
	}
	return r;
}

static bool
only_observes(const struct effects *fx)
{
	for (unsigned i = 0; i < fx->n; i++)
		if (fx->v[i].kind != EF_PERSIST_SAMPLE &&
		    (fx->v[i].kind != EF_NOTE || fx->v[i].u.note.kind != NOTE_SAMPLE))
			return false;
	return true;
}

/* A disk that is full for days must not cost the machine's memory, too. */
static bool
too_many_wait(struct daemon *d)
{
	if (store_waiting(d->store) < WAITING_MAX)
		return false;
	if (d->unkept++ == 0)
		log_event(LOG_KIND_STORE_ERROR, LOG_CRIT, NULL,
			  "READ-ONLY for long: samples count, but from now on they are not kept; "
			  "decisions still wait for the disk");
	return true;
}

static void
wait_for_commit(struct daemon *d, struct released *r)
{
	if (d->waiting)
		d->newest_waiting->next = r;
	else
		d->waiting = r;
	d->newest_waiting = r;
}

static void
tell_waiting(struct released *r)
{
	r->told = true;
	for (unsigned i = 0; i < r->n; i++) {
		const struct effect *f = &r->v[i];
		const struct target *t = target_of(r->daemon, f);
		struct log_fields fields = {
			.service = t->service,
			.environment = t->environment,
			.deployment = f->deployment ? f->deployment->id : NULL,
			.tag = f->deployment ? f->deployment->tag : NULL,
		};

		if (f->kind == EF_NOTE && f->u.note.level == LEVEL_CRITICAL)
			log_event(LOG_KIND_STORE_ERROR, LOG_CRIT, &fields,
				  "READ-ONLY, waits for the disk: %s: %s",
				  note_kind_name(f->u.note.kind), f->u.note.text);
	}
}

void
effects_tell_waiting(struct daemon *d)
{
	for (struct released *r = d->waiting; r; r = r->next)
		if (!r->told)
			tell_waiting(r);
}

void
effects_apply(struct daemon *d, const struct effects *fx)
{
	struct store_clock pair = clock_pair(&d->clock);
	struct released *r;
	bool any = false;
	struct batch *b;

	for (unsigned i = 0; i < fx->n; i++)
		any |= writes(&fx->v[i]);
	if (!any) {
		for (unsigned i = 0; i < fx->n; i++)
			carry_out(d, &fx->v[i], fx->v[i].deployment);
		return;
	}
	if (store_failed(d->store) && only_observes(fx) && too_many_wait(d))
		return;
	b = batch_new(&pair);
	for (unsigned i = 0; i < fx->n; i++)
		batch_effect(b, d, &fx->v[i], pair.wall);
	r = hold_back(d, fx);
	wait_for_commit(d, r);
	store_commit(d->store, b, on_committed, r);
	if (store_failed(d->store))
		tell_waiting(r);
}
