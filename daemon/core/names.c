/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the core's enums: what files, protocol and journal call them. */

#include <assert.h>
#include <string.h>

#include "common/util.h"
#include "daemon/core/core.h"

#define NAME_OF(table, value)                                                                      \
	(assert((size_t)(value) < ARRAY_SIZE(table) && table[value]), table[value])

static const char *const result_names[_RESULT_MAX] = {
	[RESULT_OK] = "ok",
	[RESULT_BAD] = "bad",
	[RESULT_NO_DATA] = "no-data",
	[RESULT_ERROR] = "error",
};

const char *
result_name(enum result r)
{
	return NAME_OF(result_names, r);
}

static const char *const sample_kind_names[_SAMPLE_KIND_MAX] = {
	[SAMPLE_HEALTH] = "health",
	[SAMPLE_METRICS] = "metrics",
};

const char *
sample_kind_name(enum sample_kind k)
{
	return NAME_OF(sample_kind_names, k);
}

static const char *const dstate_names[_DSTATE_MAX] = {
	[DS_QUEUED] = "queued",
	[DS_GATES] = "gates",
	[DS_BACKUP] = "backup",
	[DS_DEPLOYING] = "deploying",
	[DS_SETTLING] = "settling",
	[DS_WATCHING] = "watching",
	[DS_RB_SAVING] = "rolling-back.saving",
	[DS_RB_CHOOSING] = "rolling-back.choosing",
	[DS_RB_RUNNING] = "rolling-back.running",
	[DS_VERIFYING] = "verifying",
	[DS_SUCCEEDED] = "succeeded",
	[DS_UNVERIFIED] = "unverified",
	[DS_REJECTED] = "rejected",
	[DS_FAILED] = "failed",
	[DS_ABORTED] = "aborted",
	[DS_SUPERSEDED] = "superseded",
	[DS_ROLLED_BACK] = "rolled-back",
	[DS_ROLLBACK_FAILED] = "rollback-failed",
};

const char *
dstate_name(enum dstate s)
{
	return NAME_OF(dstate_names, s);
}

const char *
dstate_label(enum dstate s)
{
	switch (s) {
	case DS_RB_SAVING:
	case DS_RB_CHOOSING:
	case DS_RB_RUNNING:
		return "rolling-back";
	default:
		return dstate_name(s);
	}
}

int
dstate_from_name(const char *s)
{
	for (int i = 0; i < _DSTATE_MAX; i++)
		if (streq(dstate_names[i], s))
			return i;
	return -22; /* -EINVAL, without errno.h in the core */
}

bool
dstate_ended(enum dstate s)
{
	return s >= DS_SUCCEEDED;
}

static const char *const event_kind_names[_EVENT_KIND_MAX] = {
	[EV_CONFIGURE] = "configure", [EV_REMOVE] = "remove", [EV_RECOVER] = "recover",
	[EV_STARTED] = "started",     [EV_TICK] = "tick",     [EV_DEPLOY] = "deploy",
	[EV_ROLLBACK] = "rollback",   [EV_ABORT] = "abort",   [EV_GATES] = "gates",
	[EV_BACKUP] = "backup",       [EV_TARGET] = "target", [EV_HOOK] = "hook",
	[EV_SAMPLE] = "sample",
};

const char *
event_kind_name(enum event_kind k)
{
	return NAME_OF(event_kind_names, k);
}

static const char *const effect_kind_names[_EFFECT_KIND_MAX] = {
	[EF_PERSIST_DEPLOYMENT] = "persist-deployment",
	[EF_PERSIST_SAMPLE] = "persist-sample",
	[EF_PERSIST_DECISION] = "persist-decision",
	[EF_PERSIST_ALERT] = "persist-alert",
	[EF_NOTE] = "note",
	[EF_REPLY] = "reply",
	[EF_RUN_GATES] = "run-gates",
	[EF_BACKUP] = "backup",
	[EF_CHOOSE] = "choose",
	[EF_DEPLOY] = "deploy",
	[EF_ROLLBACK] = "rollback",
	[EF_CANCEL] = "cancel",
	[EF_SAMPLE] = "sample",
	[EF_REPORT] = "report",
};

const char *
effect_kind_name(enum effect_kind k)
{
	return NAME_OF(effect_kind_names, k);
}

static const char *const cause_names[_CAUSE_MAX] = {
	[CAUSE_HEALTH] = "health",
	[CAUSE_ERROR_RATE] = "error-rate",
	[CAUSE_LATENCY] = "latency",
	[CAUSE_INFRASTRUCTURE] = "infrastructure",
	[CAUSE_UNOBSERVED] = "unobserved",
	[CAUSE_LOW_TRAFFIC] = "low-traffic",
	[CAUSE_HOOK] = "hook",
	[CAUSE_BACKUP] = "backup",
	[CAUSE_ROLLBACK] = "rollback",
};

const char *
cause_name(enum cause c)
{
	return NAME_OF(cause_names, c);
}

static const char *const level_names[] = {
	[LEVEL_NONE] = "info",
	[LEVEL_WARNING] = "warning",
	[LEVEL_CRITICAL] = "critical",
};

const char *
level_name(enum level l)
{
	return NAME_OF(level_names, l);
}

static const char *const verdict_names[_VERDICT_MAX] = {
	[VERDICT_HEALTHY] = "healthy",
	[VERDICT_SUSPECT] = "suspect",
	[VERDICT_BREACHED] = "breached",
	[VERDICT_BLIND] = "blind",
};

const char *
verdict_name(enum verdict v)
{
	return NAME_OF(verdict_names, v);
}

static const char *const decision_kind_names[_DECISION_KIND_MAX] = {
	[DECISION_ROLL_BACK] = "roll-back", [DECISION_WOULD_ROLL_BACK] = "would-roll-back",
	[DECISION_PROMOTE] = "promote",     [DECISION_HOLD] = "hold",
	[DECISION_ESCALATE] = "escalate",
};

const char *
decision_kind_name(enum decision_kind k)
{
	return NAME_OF(decision_kind_names, k);
}

static const char *const note_kind_names[_NOTE_KIND_MAX] = {
	[NOTE_STATE] = "state",       [NOTE_PHASE] = "phase",
	[NOTE_SAMPLE] = "sample",     [NOTE_VERDICT] = "verdict",
	[NOTE_DECISION] = "decision", [NOTE_ALERT] = "alert",
	[NOTE_RESOLVED] = "resolved", [NOTE_ESCALATION] = "escalation",
	[NOTE_REQUEST] = "request",   [NOTE_RESTORED] = "restored",
	[NOTE_HOOK] = "hook",         [NOTE_BACKUP] = "backup",
};

const char *
note_kind_name(enum note_kind k)
{
	return NAME_OF(note_kind_names, k);
}
