/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operators' requests: reads are answered from the core's view or the store, acts become events and
 * are answered when the core has decided and that is on disk.  Every act, granted or not, is in the
 * audit trail with uid, pid and reason.
 */

#include "common/log.h"
#include "common/util.h"
#include "daemon/requests_internal.h"

enum { DENIED_PER_MIN = 20 };

const char *
arg_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

bool
arg_flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* --- audit --- */

static const char *const act_names[_CTL_OP_MAX] = {
	[CTL_DEPLOY] = "deploy",
	[CTL_ABORT] = "abort",
	[CTL_ROLLBACK] = "rollback",
	[CTL_BACKUPS_VERIFY] = "backups-verify",
};

/* `where` are the fields that say what it is about. */
static void
audit(struct daemon *d, const struct peer *p, enum ctl_op op, const char *target,
      const char *reason, bool granted, const char *text, struct log_fields where)
{
	struct store_clock pair = clock_pair(&d->clock);
	struct batch *b = batch_new(&pair);
	struct log_fields f = where;
	const char *act = act_names[op] ? act_names[op] : ctl_routes[op].path;

	f.actor = true;
	f.actor_uid = p->uid;
	batch_audit(b, p->uid, p->pid, act, target, reason, granted);
	store_commit(d->store, b, NULL, NULL);
	log_event(LOG_KIND_REQUEST, granted ? LOG_NOTICE : LOG_WARNING, &f,
		  "%s %s by uid %u (pid %d): %s%s%s%s%s", act, target, (unsigned)p->uid,
		  (int)p->pid, granted ? "granted" : "refused", *text ? ": " : "", text,
		  reason && *reason ? "; reason: " : "", reason ? reason : "");
}

/* Who may only read can ask as often as he likes: he must not fill the disk and the journal. */
static void
on_denied(void *arg, enum ctl_op op, const struct peer *p)
{
	struct daemon *d = arg;
	usec_t now = now_boottime();

	if (now - d->denied.since >= USEC_PER_MINUTE) {
		if (d->denied.n > DENIED_PER_MIN)
			log_warning("%u more requests of the last minute were denied, untold",
				    d->denied.n - DENIED_PER_MIN);
		d->denied.since = now;
		d->denied.n = 0;
	}
	if (d->denied.n++ < DENIED_PER_MIN)
		audit(d, p, op, "-", NULL, false, "not in the group that may",
		      (struct log_fields){0});
}

/* --- finding what a request is about --- */

/* The service may be left out where there is only one. */
static const char *
service_of(const struct daemon *d, const char *named)
{
	const char *only = NULL;

	if (*named)
		return named;
	for (unsigned i = 0; i < d->n_targets; i++) {
		if (!d->targets[i]->conf)
			continue;
		if (only && !streq(only, d->targets[i]->service))
			return NULL;
		only = d->targets[i]->service;
	}
	return only;
}

void
request_unknown(struct daemon *d, struct ctl_request *r, const char *service,
		const char *environment)
{
	const char **names = xcalloc(d->n_targets + 1, sizeof *names), *near;
	size_t n = 0;

	for (unsigned i = 0; i < d->n_targets; i++)
		if (!*service || streq(d->targets[i]->service, service))
			names[n++] = d->targets[i]->environment;
	near = nearest_name(environment, names, n);
	if (n == 0)
		ctl_error(r, 404, "not-found", NULL,
			  "unknown service \"%s\": there is no services.d/%s.conf", service,
			  service);
	else
		ctl_error(r, 404, "not-found", NULL,
			  "unknown environment \"%s\" of service %s%s%s%s", environment,
			  *service ? service : "(any)", near ? "; did you mean \"" : "",
			  near ? near : "", near ? "\"?" : "");
	free(names);
}

/* NULL after an answer was given. */
struct target *
request_target(struct daemon *d, struct ctl_request *r, const json_t *args)
{
	const char *service = service_of(d, arg_text(args, "service"));
	const char *environment = arg_text(args, "environment");
	struct target *t;

	if (!*environment) {
		ctl_error(r, 400, "bad-request", NULL, "name the environment: --env NAME");
		return NULL;
	}
	if (!service) {
		ctl_error(r, 400, "bad-request", NULL,
			  "there are several services, or none: name one");
		return NULL;
	}
	t = daemon_find(d, service, environment);
	if (!t)
		request_unknown(d, r, service, environment);
	return t;
}

bool
request_refuse_read_only(struct daemon *d, struct ctl_request *r)
{
	const char *problem = store_failed(d->store);

	if (problem)
		ctl_error(r, 503, "read-only", NULL, "dhashd is read-only: %s; mend that first",
			  problem);
	return problem != NULL;
}

/* --- acts: asked, and answered by the core --- */

struct asked *
asked_new(struct daemon *d, struct ctl_request *r, enum ctl_op op, const struct peer *p,
	  const struct target *t, const char *reason)
{
	struct asked *a = xcalloc(1, sizeof *a);

	a->token = ++d->next_token;
	a->request = r;
	a->op = op;
	a->peer = *p;
	a->target = xasprintf("%s/%s", t->service, t->environment);
	a->reason = xstrdup(reason);
	a->service = xstrdup(t->service);
	a->environment = xstrdup(t->environment);
	a->next = d->asked;
	d->asked = a;
	return a;
}

struct asked *
asked_take(struct daemon *d, uint64_t token)
{
	for (struct asked **p = &d->asked; *p; p = &(*p)->next) {
		struct asked *a = *p;

		if (a->token != token)
			continue;
		*p = a->next;
		return a;
	}
	return NULL;
}

void
asked_free(struct asked *a)
{
	free(a->target);
	free(a->reason);
	free(a->service);
	free(a->environment);
	free(a);
}

void
requests_answer(struct daemon *d, const struct effect *f)
{
	static const struct {
		int status;
		const char *kind;
	} errors[] = {
		[REPLY_BUSY] = {409, "busy"},
		[REPLY_NOT_FOUND] = {404, "not-found"},
		[REPLY_REFUSED] = {409, "refused"},
	};
	struct asked *a = asked_take(d, f->u.reply.request);
	const char *id = f->u.reply.deployment;
	enum reply_kind kind = f->u.reply.kind;
	struct log_fields where;
	char *location;

	if (!a)
		return;
	/* Where it was refused for the sake of another deployment, it is about that one. */
	where = (struct log_fields){
		.service = a->service, .environment = a->environment, .deployment = id};
	audit(d, &a->peer, a->op, a->target, a->reason, kind == REPLY_OK, f->u.reply.text, where);
	if (kind != REPLY_OK) {
		ctl_error(a->request, errors[kind].status, errors[kind].kind,
			  *id ? json_pack("{s:s}", "deployment", id) : NULL, "%s", f->u.reply.text);
	} else {
		location = xasprintf("/v1/deployments/%s", id);
		ctl_reply(a->request, a->op == CTL_ABORT ? 200 : 202, location,
			  json_pack("{s:s, s:s, s:s}", "id", id, "state",
				    dstate_name(f->deployment->state), "text", f->u.reply.text));
		free(location);
	}
	asked_free(a);
}

void
requests_drop(struct daemon *d)
{
	while (d->asked) {
		struct asked *a = asked_take(d, d->asked->token);

		ctl_error(a->request, 503, "stopping", NULL,
			  "dhashd is stopping; when it is back, dhash history shows what became of "
			  "it");
		asked_free(a);
	}
}

/* --- dispatch --- */

static void
on_request(void *arg, struct ctl_request *r, enum ctl_op op, const struct peer *p, const char *id,
	   json_t *query, json_t *body)
{
	struct daemon *d = arg;

	switch (op) {
	case CTL_VERSION:
		request_version(d, r);
		break;
	case CTL_STATUS:
		request_status(d, r, query);
		break;
	case CTL_HISTORY:
	case CTL_BACKUPS:
		request_rows(d, r, op, query);
		break;
	case CTL_SHOW:
		request_show(d, r, id);
		break;
	case CTL_EXPLAIN:
		request_explain(d, r, query);
		break;
	case CTL_DEPLOY:
		request_deploy(d, r, p, body);
		break;
	case CTL_ABORT:
		request_abort(d, r, p, id, body);
		break;
	case CTL_ROLLBACK:
		request_rollback(d, r, p, body);
		break;
	case CTL_BACKUPS_VERIFY:
		request_verify(d, r, body);
		break;
	case CTL_CONFIG_CHECK:
		request_config(d, r);
		break;
	default:
		ctl_error(r, 500, "internal", NULL, "this request has no handler");
		break;
	}
}

const struct ctl_ops daemon_ctl_ops = {
	.request = on_request,
	.events = request_events,
	.denied = on_denied,
};
