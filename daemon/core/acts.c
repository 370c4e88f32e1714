/* SPDX-License-Identifier: Apache-2.0 */
/* Operators' acts: deploy, roll back, abort; what may be asked for when, and what the answer says.
 */

#include "common/util.h"
#include "daemon/core/internal.h"

static void
describe_holder(const struct step *st, char *buf, size_t n)
{
	const struct deployment *d = st->env->d;
	char age[USEC_TEXT_MAX];

	snprintf(buf, n, "%s/%s is held by %s (%s, %s, by %s, begun %s ago)", d->service,
		 d->environment, d->id, d->tag, dstate_label(d->state),
		 d->lead[0] ? d->lead : "an unnamed lead",
		 usec_format(age, st->event->now - d->created_at));
}

static struct deployment *
deployment_new(const struct step *st)
{
	const struct core_event *e = st->event;
	struct deployment *d = xcalloc(1, sizeof *d);

	str_copy(d->id, sizeof d->id, e->u.deploy.id);
	str_copy(d->service, sizeof d->service, st->env->service);
	str_copy(d->environment, sizeof d->environment, st->env->environment);
	str_copy(d->tag, sizeof d->tag, e->u.deploy.tag);
	str_copy(d->previous_tag, sizeof d->previous_tag,
		 e->u.deploy.previous_tag ? e->u.deploy.previous_tag : "");
	str_copy(d->lead, sizeof d->lead, e->u.deploy.lead ? e->u.deploy.lead : "");
	str_copy(d->reason, sizeof d->reason, e->u.deploy.reason ? e->u.deploy.reason : "");
	d->actor_uid = e->actor_uid;
	d->forced = e->u.deploy.force;
	d->state = DS_QUEUED;
	d->created_at = d->entered_at = e->now;
	d->created_wall = d->entered_wall = e->wall;
	d->attempt = 1;
	d->policy = st->env->policy;
	return d;
}

/* Ends the live deployment in favour of the next; false when it cannot be let go of now. */
static bool
supersede(struct step *st)
{
	struct env *e = st->env;
	char text[TEXT_MAX_LEN];

	snprintf(text, sizeof text, "superseded by %s (%s)", st->event->u.deploy.id,
		 st->event->u.deploy.tag);
	emit(st, EF_CANCEL);
	if (!life_take(st, TR_SUPERSEDED, text)) {
		st->out->n--;
		return false;
	}
	emit(st, EF_PERSIST_DEPLOYMENT);
	e->dirty = false;
	return true;
}

void
act_deploy(struct step *st)
{
	struct env *e = st->env;
	char holder[CORE_TEXT_MAX];

	if (!e->used || e->removed) {
		reply(st, REPLY_NOT_FOUND, "%s/%s is no longer configured", e->service,
		      e->environment);
		return;
	}
	if (e->d && !dstate_ended(e->d->state)) {
		describe_holder(st, holder, sizeof holder);
		if (!st->event->u.deploy.supersede) {
			reply(st, REPLY_BUSY,
			      "%s; wait for it, abort it, or replace it with --supersede", holder);
			return;
		}
		if (!supersede(st)) {
			reply(st, REPLY_REFUSED,
			      "%s; it cannot be superseded while %s: wait, or ask "
			      "for a rollback",
			      holder, dstate_label(e->d->state));
			return;
		}
	}
	/* The effects so far may point at the old one: it is freed with the next step. */
	e->old = e->d;
	e->d = deployment_new(st);
	e->dirty = true;
	sampling_begin(e, st->event->now);
	note(st, NOTE_STATE, LEVEL_NONE, _RULE_MAX, "queued: %s to %s/%s by %s", e->d->tag,
	     e->service, e->environment, e->d->lead[0] ? e->d->lead : "an unnamed lead");
	reply(st, REPLY_OK, "%s", "accepted");
}

static void
rollback_wish(struct deployment *d, const struct core_event *e)
{
	str_copy(d->rollback_to, sizeof d->rollback_to, e->u.rollback.to ? e->u.rollback.to : "");
	str_copy(d->rollback_file, sizeof d->rollback_file,
		 e->u.rollback.file ? e->u.rollback.file : "");
	d->rollback_forced = e->u.rollback.force;
}

/* Before anything changed, an abort is the way out; while a rollback runs, there is nothing to add.
 */
static const char *
rollback_objection(const struct deployment *d, const struct core_event *e)
{
	switch (d->state) {
	case DS_QUEUED:
	case DS_GATES:
	case DS_BACKUP:
		return "nothing has changed on the target yet: dhash abort ends it";
	case DS_RB_SAVING:
	case DS_RB_CHOOSING:
	case DS_RB_RUNNING:
	case DS_VERIFYING:
		return "a rollback is already under way: dhash watch shows it";
	case DS_ROLLED_BACK:
		if (!e->u.rollback.to && !e->u.rollback.file)
			return "it has been rolled back already: name what to restore with --to or "
			       "--backup";
		return NULL;
	case DS_DEPLOYING:
		if (life_undone(d))
			return "a rollback is asked for already; it begins when the deploy hook "
			       "has ended";
		return NULL;
	default:
		return NULL;
	}
}

void
act_rollback(struct step *st)
{
	struct env *e = st->env;
	struct deployment *d = e->d;
	const char *objection, *why = st->event->u.rollback.reason;

	if (!d) {
		reply(st, REPLY_NOT_FOUND,
		      "nothing was ever deployed to %s/%s by dhashd: there is "
		      "nothing to roll back to",
		      e->service, e->environment);
		return;
	}
	objection = rollback_objection(d, st->event);
	if (objection) {
		reply(st, REPLY_REFUSED, "%s (%s, %s): %s", d->id, d->tag, dstate_label(d->state),
		      objection);
		return;
	}
	rollback_wish(d, st->event);
	life_decide_rollback(st, false, &no_evidence,
			     why && *why ? why : "asked for by an operator");
	if (d->state == DS_DEPLOYING) {
		/* Two hooks must never work on one target: end the first, then go back. */
		e->dirty = true;
		emit(st, EF_CANCEL);
		reply(st, REPLY_OK, "%s",
		      "the deploy hook is being stopped; then it is rolled back");
		return;
	}
	life_take(st, TR_ROLLBACK, d->rollback_reason);
	reply(st, REPLY_OK, "%s", "rolling back");
}

void
act_abort(struct step *st)
{
	struct env *e = st->env;
	struct deployment *d = e->d;
	const char *why = st->event->u.abort.reason;

	if (!d || dstate_ended(d->state)) {
		reply(st, REPLY_NOT_FOUND, "nothing is being deployed to %s/%s", e->service,
		      e->environment);
		return;
	}
	emit(st, EF_CANCEL);
	if (!life_take(st, TR_ABORT, why && *why ? why : "aborted by an operator")) {
		st->out->n--;
		reply(st, REPLY_REFUSED,
		      "%s (%s) is %s: something has changed on the target, so the "
		      "way back is dhash rollback --env %s",
		      d->id, d->tag, dstate_label(d->state), e->environment);
		return;
	}
	reply(st, REPLY_OK, "%s", "aborted");
}
