/* SPDX-License-Identifier: Apache-2.0 */
/* The core's structs as JSON, for the protocol, the store and the event stream alike. */

#include <math.h>

#include "common/util.h"
#include "daemon/store.h"

static json_t *
time_or_null(usec_t wall)
{
	char buf[USEC_TEXT_MAX];

	return wall > 0 ? json_string(wall_format(buf, wall)) : json_null();
}

static json_t *
number_or_null(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

/* Text that is not UTF-8 would make the whole document fail. */
static json_t *
text(const char *s)
{
	json_t *j = json_string(s);
	char *escaped;

	if (j)
		return j;
	escaped = str_escape(s);
	j = json_string(escaped);
	free(escaped);
	return j;
}

/* Core time differs from wall time by what the pair at creation says. */
static json_t *
core_time_or_null(const struct deployment *d, usec_t at)
{
	return at == 0 ? json_null() : time_or_null(at - d->created_at + d->created_wall);
}

json_t *
deployment_to_json(const struct deployment *d)
{
	json_t *o = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:b, s:o, s:s, s:s, s:o}", "id", text(d->id),
		"service", text(d->service), "environment", text(d->environment), "tag", text(d->tag),
		"previous_tag", text(d->previous_tag), "lead", text(d->lead), "actor_uid",
		(int)d->actor_uid, "forced", (int)d->forced, "reason", text(d->reason), "state",
		dstate_name(d->state), "label", dstate_label(d->state), "outcome", text(d->outcome));

	json_object_set_new(o, "created_at", time_or_null(d->created_wall));
	json_object_set_new(o, "entered_at", time_or_null(d->entered_wall));
	json_object_set_new(o, "deployed_at", core_time_or_null(d, d->deployed_at));
	json_object_set_new(o, "t0_at", core_time_or_null(d, d->t0));
	json_object_set_new(o, "decided_at", time_or_null(d->decided_wall));
	json_object_set_new(o, "restored_at", time_or_null(d->restored_wall));
	json_object_set_new(o, "ended_at", time_or_null(d->ended_wall));
	json_object_set_new(o, "live", json_boolean(!dstate_ended(d->state)));
	json_object_set_new(o, "rollbacks", json_integer(d->rollbacks));
	json_object_set_new(o, "auto_rollbacks", json_integer(d->auto_rollbacks));
	json_object_set_new(o, "rollback_reason", text(d->rollback_reason));
	json_object_set_new(o, "rollback_auto", json_boolean(d->rollback_auto));
	json_object_set_new(o, "backup", text(d->backup));
	json_object_set_new(o, "backup_sha256", text(d->backup_sha256));
	json_object_set_new(o, "target", text(d->target));
	json_object_set_new(o, "target_verified", json_boolean(d->target_verified));
	return o;
}

static json_t *
series_to_json(const struct series *s)
{
	return json_pack("{s:s, s:b, s:I, s:f, s:f, s:f, s:o}", "result", result_name(s->result), "gauge",
			 (int)s->gauge, "span_ms", (json_int_t)(s->span / USEC_PER_MSEC), "bad", s->bad,
			 "bad_warn", s->bad_warn, "total", s->total, "value", number_or_null(s->value));
}

json_t *
sample_to_json(const struct sample *s)
{
	bool metrics = s->kind == SAMPLE_METRICS;

	return json_pack("{s:s, s:o, s:s, s:I, s:o, s:o, s:o}", "kind", sample_kind_name(s->kind), "at",
			 time_or_null(s->wall), "result", result_name(s->result), "took_ms",
			 (json_int_t)(s->took / USEC_PER_MSEC), "detail", text(s->detail), "rate",
			 metrics ? series_to_json(&s->rate) : json_null(), "latency",
			 metrics ? series_to_json(&s->latency) : json_null());
}

json_t *
evidence_to_json(const struct evidence *e)
{
	return json_pack("{s:s, s:o, s:I, s:i, s:i, s:o, s:o, s:o, s:f, s:f, s:i, s:I, s:o}", "rule",
			 rule_kind_name(e->rule), "limit", number_or_null(e->limit), "hold_ms",
			 (json_int_t)(e->hold / USEC_PER_MSEC), "failures", (int)e->failures,
			 "failures_limit", (int)e->failures_limit, "value", number_or_null(e->value),
			 "lower", number_or_null(e->lower), "upper", number_or_null(e->upper), "requests",
			 e->requests, "bad", e->bad, "samples", (int)e->samples, "lasted_ms",
			 (json_int_t)(e->lasted / USEC_PER_MSEC), "text", text(e->text));
}

json_t *
decision_to_json(const struct decision *d)
{
	bool rule = d->evidence.rule < _RULE_MAX;

	return json_pack("{s:s, s:o, s:b, s:i, s:s?, s:o, s:o}", "kind", decision_kind_name(d->kind), "at",
			 time_or_null(d->wall), "automatic", (int)d->automatic, "actor_uid",
			 (int)d->actor_uid, "rule", rule ? rule_kind_name(d->evidence.rule) : NULL, "text",
			 text(d->text), "evidence", rule ? evidence_to_json(&d->evidence) : json_null());
}

json_t *
alert_to_json(const struct alert *a)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "cause", cause_name(a->cause), "level",
			 level_name(a->level), "raised_at", time_or_null(a->raised_wall), "resolved_at",
			 time_or_null(a->resolved_wall), "text", text(a->text));
}
