/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's structs as JSON, for the protocol, the store and the event stream alike.  Shapes as in
 * dhash-protocol(7); knows no database and no socket.
 */

#include "daemon/json_view.h"

#include <math.h>

#include "common/util.h"
#include "daemon/store.h"

json_t *
view_time(usec_t wall)
{
	char buf[USEC_TEXT_MAX];

	return wall > 0 ? json_string(wall_format(buf, wall)) : json_null();
}

json_t *
view_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

json_t *
view_text(const char *s)
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

static json_t *
milliseconds(usec_t span)
{
	return json_integer(span / USEC_PER_MSEC);
}

/* Core time differs from wall time by what the pair at creation says. */
static json_t *
core_time(const struct deployment *d, usec_t at)
{
	return at == 0 ? json_null() : view_time(at - d->created_at + d->created_wall);
}

static json_t *
rollback_to_json(const struct deployment *d)
{
	return json_pack("{s:I, s:I, s:o, s:b, s:o, s:o, s:o, s:b}", "rollbacks",
			 (json_int_t)d->rollbacks, "auto_rollbacks", (json_int_t)d->auto_rollbacks,
			 "rollback_reason", view_text(d->rollback_reason), "rollback_auto",
			 (int)d->rollback_auto, "backup", view_text(d->backup), "backup_sha256",
			 view_text(d->backup_sha256), "target", view_text(d->target),
			 "target_verified", (int)d->target_verified);
}

json_t *
deployment_to_json(const struct deployment *d)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o, s:s, s:s, s:o, s:b}",
			      "id", view_text(d->id), "service", view_text(d->service),
			      "environment", view_text(d->environment), "tag", view_text(d->tag),
			      "previous_tag", view_text(d->previous_tag), "lead",
			      view_text(d->lead), "actor_uid", (json_int_t)d->actor_uid, "forced",
			      (int)d->forced, "reason", view_text(d->reason), "state",
			      dstate_name(d->state), "label", dstate_label(d->state), "outcome",
			      view_text(d->outcome), "live", (int)!dstate_ended(d->state));

	json_object_set_new(o, "created_at", view_time(d->created_wall));
	json_object_set_new(o, "entered_at", view_time(d->entered_wall));
	json_object_set_new(o, "deployed_at", core_time(d, d->deployed_at));
	json_object_set_new(o, "t0_at", core_time(d, d->t0));
	json_object_set_new(o, "decided_at", view_time(d->decided_wall));
	json_object_set_new(o, "restored_at", view_time(d->restored_wall));
	json_object_set_new(o, "ended_at", view_time(d->ended_wall));
	json_object_update_new(o, rollback_to_json(d));
	return o;
}

static json_t *
series_to_json(const struct series *s)
{
	return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "result", result_name(s->result),
			 "gauge", (int)s->gauge, "span_ms", milliseconds(s->span), "bad",
			 view_number(s->bad), "bad_warn", view_number(s->bad_warn), "total",
			 view_number(s->total), "value", view_number(s->value));
}

json_t *
sample_to_json(const struct sample *s)
{
	bool metrics = s->kind == SAMPLE_METRICS;

	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o}", "kind", sample_kind_name(s->kind),
			 "at", view_time(s->wall), "result", result_name(s->result), "took_ms",
			 milliseconds(s->took), "detail", view_text(s->detail), "rate",
			 metrics ? series_to_json(&s->rate) : json_null(), "latency",
			 metrics ? series_to_json(&s->latency) : json_null());
}

json_t *
evidence_to_json(const struct evidence *e)
{
	return json_pack("{s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:n, s:o, s:o}",
			 "rule", rule_kind_name(e->rule), "limit", view_number(e->limit), "hold_ms",
			 milliseconds(e->hold), "failures", (json_int_t)e->failures,
			 "failures_limit", (json_int_t)e->failures_limit, "value",
			 view_number(e->value), "lower", view_number(e->lower), "upper",
			 view_number(e->upper), "requests", view_number(e->requests), "bad",
			 view_number(e->bad), "samples", (json_int_t)e->samples, "since_ms",
			 "lasted_ms", milliseconds(e->lasted), "text", view_text(e->text));
}

/* As of `now` in core time, the only one who can tell how long ago the clock started. */
static json_t *
evidence_as_of(const struct evidence *e, usec_t now)
{
	json_t *o = evidence_to_json(e);

	if (e->since != 0)
		json_object_set_new(o, "since_ms", milliseconds(MAX(now - e->since, 0)));
	return o;
}

json_t *
decision_to_json(const struct decision *d)
{
	bool rule = d->evidence.rule < _RULE_MAX;

	return json_pack("{s:s, s:o, s:b, s:I, s:s?, s:o, s:o}", "kind",
			 decision_kind_name(d->kind), "at", view_time(d->wall), "automatic",
			 (int)d->automatic, "actor_uid", (json_int_t)d->actor_uid, "rule",
			 rule ? rule_kind_name(d->evidence.rule) : NULL, "text", view_text(d->text),
			 "evidence", rule ? evidence_as_of(&d->evidence, d->at) : json_null());
}

json_t *
alert_to_json(const struct alert *a)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "cause", cause_name(a->cause), "level",
			 level_name(a->level), "raised_at", view_time(a->raised_wall),
			 "resolved_at", view_time(a->resolved_wall), "text", view_text(a->text));
}

json_t *
backup_to_json(const struct backup_row *b)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:I, s:o, s:o}", "path",
			 view_text(b->path), "sha256", view_text(b->sha256), "service",
			 view_text(b->service), "environment", view_text(b->environment),
			 "deployment", view_text(b->deployment), "tag", view_text(b->tag),
			 "emergency", (int)b->emergency, "corrupt", (int)b->corrupt, "bytes",
			 (json_int_t)b->bytes, "created_at", view_time(b->created_wall),
			 "verified_at", view_time(b->verified_wall));
}
