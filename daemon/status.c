/* SPDX-License-Identifier: Apache-2.0 */
/* What `dhash status` and `dhash explain` get: the core's view as JSON, and in sentences. */

#include <math.h>

#include "common/util.h"
#include "daemon/daemon.h"

static json_t *
ms(usec_t span)
{
	return json_integer(span / USEC_PER_MSEC);
}

/* What is believed to be in place now. */
static json_t *
release_now(const struct deployment *d)
{
	const char *tag;

	if (!d)
		return json_null();
	switch (d->state) {
	case DS_QUEUED:
	case DS_GATES:
	case DS_BACKUP:
	case DS_REJECTED:
	case DS_FAILED:
	case DS_ABORTED:
		tag = d->previous_tag;
		break;
	case DS_ROLLED_BACK:
		tag = strncmp(d->target, "releases/", 9) == 0 ? d->target + 9
		      : d->rollback_to[0]                     ? d->rollback_to
							      : d->previous_tag;
		break;
	default:
		/* After a second rollback that did not end well, nobody knows. */
		tag = d->rollbacks > 1 ? "" : d->tag;
		break;
	}
	return tag[0] ? json_string(tag) : json_null();
}

/* After a rollback it is watched on: for a time of its own, after a failed one until it is back. */
static json_t *
phase_after(const struct deployment *d, usec_t now)
{
	bool failed = d && d->state == DS_ROLLBACK_FAILED && !d->restored_at;
	usec_t left = d && d->state == DS_ROLLED_BACK
			      ? d->restored_at + d->policy.post_watch_usec - now
			      : 0;

	if (!failed && left <= 0)
		return json_null();
	return json_pack("{s:s, s:o, s:i, s:i}", "name", failed ? "recovery" : "post-rollback",
			 "left_ms", failed ? json_null() : ms(left), "index", 0, "count", 1);
}

static json_t *
phase_json(const struct env_view *v, usec_t now)
{
	if (v->phase < 0)
		return phase_after(v->deployment, now);
	return json_pack("{s:s, s:o, s:i, s:i}", "name",
			 v->deployment->policy.phases[v->phase].name, "left_ms", ms(v->phase_left),
			 "index", v->phase, "count", (int)v->deployment->policy.n_phases);
}

static json_t *
health_json(const struct daemon *d, const struct env_view *v)
{
	char at[USEC_TEXT_MAX];
	usec_t wall = now_realtime() - (clock_now(&d->clock) - v->last_health_at);

	return json_pack("{s:s, s:s?, s:s}", "result", result_name(v->last_health), "at",
			 v->last_health_at ? wall_format(at, wall) : NULL, "detail",
			 v->last_health_detail);
}

static json_t *
rules_json(const struct env_view *v, usec_t now)
{
	json_t *a = json_array();

	for (int r = 0; r < _RULE_MAX; r++) {
		const struct rule_view *rv = &v->rules[r];
		json_t *ev = evidence_to_json(&rv->evidence);

		json_object_set_new(ev, "since_ms",
				    rv->evidence.since ? ms(now - rv->evidence.since)
						       : json_null());
		json_array_append_new(
			a, json_pack("{s:s, s:s, s:b, s:s, s:o}", "rule", rule_kind_name(r), "mode",
				     rule_mode_name(rv->mode), "armed", (int)rv->armed, "verdict",
				     verdict_name(rv->verdict), "evidence", ev));
	}
	return a;
}

static json_t *
coverage_json(const struct env_view *v)
{
	json_t *a = json_array();

	for (unsigned i = 0; v->phase >= 0 && i <= (unsigned)v->phase; i++) {
		const struct phase_view *p = &v->coverage[i];
		double ratio = p->elapsed > 0 ? (double)p->observed / (double)p->elapsed : 1;

		json_array_append_new(a, json_pack("{s:s, s:o, s:o, s:f}", "phase",
						   v->deployment->policy.phases[i].name,
						   "observed_ms", ms(p->observed), "elapsed_ms",
						   ms(p->elapsed), "ratio", fmin(1, ratio)));
	}
	return a;
}

static json_t *
alerts_json(const struct env_view *v)
{
	json_t *a = json_array();

	for (int c = 0; c < _CAUSE_MAX; c++)
		if (v->alerts[c].level != LEVEL_NONE && !v->alerts[c].resolved_at)
			json_array_append_new(a, alert_to_json(&v->alerts[c]));
	return a;
}

json_t *
status_environment(struct daemon *d, const struct target *t)
{
	usec_t now = clock_now(&d->clock);
	const struct conf_env *conf = target_conf(t);
	struct env_view v;
	json_t *o;

	if (core_view(d->core, t->handle, now, &v) < 0)
		return NULL;
	o = json_pack(
		"{s:s, s:s, s:s?, s:o, s:o, s:s, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "service",
		t->service, "environment", t->environment, "description",
		conf ? conf->description : NULL, "release", release_now(v.deployment), "deployment",
		v.deployment ? deployment_to_json(v.deployment) : json_null(), "verdict",
		verdict_name(v.verdict), "phase", phase_json(&v, now), "next_sample_ms",
		v.next_sample == USEC_INFINITY ? json_null() : ms(MAX(0, v.next_sample - now)),
		"rechecking", (int)v.rechecking, "health", health_json(d, &v), "rules",
		rules_json(&v, now), "coverage", coverage_json(&v), "alerts", alerts_json(&v));
	json_object_set_new(
		o, "asks",
		v.scenario[0] ? json_pack("{s:s, s:s}", "scenario", v.scenario, "advice", v.advice)
			      : json_null());
	return o;
}

/* --- explain --- */

__attribute__((format(printf, 2, 3))) static void
sentence(json_t *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_array_append_new(a, json_vsprintf(fmt, ap));
	va_end(ap);
}

static void
explain_rules(json_t *a, const struct env_view *v)
{
	for (int r = 0; r < _RULE_MAX; r++) {
		const struct rule_view *rv = &v->rules[r];

		sentence(a, "Rule %s (%s): %s.", rule_kind_name(r), rule_mode_name(rv->mode),
			 rv->evidence.text);
	}
}

static void
explain_state(json_t *a, const struct env_view *v)
{
	const struct deployment *d = v->deployment;
	char left[USEC_TEXT_MAX];

	if (!d) {
		sentence(a, "Nothing was deployed here by dhashd yet.");
		return;
	}
	if (v->phase >= 0)
		sentence(a, "%s (%s) is being watched: phase %s, %s left; the verdict is %s.",
			 d->tag, d->id, d->policy.phases[v->phase].name,
			 usec_format(left, v->phase_left), verdict_name(v->verdict));
	else
		sentence(a, "%s (%s) is %s%s%s.", d->tag, d->id, dstate_label(d->state),
			 d->outcome[0] ? ": " : "", d->outcome);
	if (d->rollbacks > 0)
		sentence(a, "It was rolled back %s: %s.",
			 d->rollback_auto ? "automatically" : "on request", d->rollback_reason);
	if (v->scenario[0])
		sentence(a, "This is a %s: %s.", v->scenario, v->advice);
}

/* One that is no longer its environment's newest: its row alone says how it ended. */
static void
explain_past(json_t *a, const json_t *d)
{
	const char *outcome = json_string_value(json_object_get(d, "outcome"));

	sentence(a, "%s (%s) on %s/%s: %s%s%s.", json_string_value(json_object_get(d, "tag")),
		 json_string_value(json_object_get(d, "id")),
		 json_string_value(json_object_get(d, "service")),
		 json_string_value(json_object_get(d, "environment")),
		 json_string_value(json_object_get(d, "label")), *outcome ? ": " : "", outcome);
	if (json_integer_value(json_object_get(d, "rollbacks")) > 0)
		sentence(a, "It was rolled back %s: %s.",
			 json_is_true(json_object_get(d, "rollback_auto")) ? "automatically"
									   : "on request",
			 json_string_value(json_object_get(d, "rollback_reason")));
}

json_t *
status_explain(struct daemon *d, const struct target *t, json_t *deployment)
{
	json_t *a = json_array(), *o;
	struct env_view v;
	bool now = t && core_view(d->core, t->handle, clock_now(&d->clock), &v) == 0;
	const char *id = json_string_value(json_object_get(deployment, "id"));
	bool same = now && v.deployment && id && streq(v.deployment->id, id);

	if (now && (same || !deployment)) {
		explain_state(a, &v);
		if (!v.deployment || !dstate_ended(v.deployment->state))
			explain_rules(a, &v);
	}
	if (deployment && !same)
		explain_past(a, deployment);
	o = json_pack("{s:o, s:o, s:o}", "environment",
		      now && (same || !deployment) ? status_environment(d, t) : json_null(),
		      "deployment", deployment ? json_incref(deployment) : json_null(), "sentences",
		      a);
	json_object_set_new(o, "decisions",
			    json_incref(json_object_get(deployment, "decisions"))
				    ? json_object_get(deployment, "decisions")
				    : json_array());
	json_object_set_new(o, "alerts",
			    json_incref(json_object_get(deployment, "alerts"))
				    ? json_object_get(deployment, "alerts")
				    : json_array());
	json_object_set_new(o, "samples",
			    json_incref(json_object_get(deployment, "samples"))
				    ? json_object_get(deployment, "samples")
				    : json_array());
	return o;
}
