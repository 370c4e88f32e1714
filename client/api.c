/* SPDX-License-Identifier: Apache-2.0 */

#include "client/api.h"

#include <errno.h>
#include <stdarg.h>

#include "client/cli.h"
#include "client/conn.h"
#include "client/json.h"
#include "common/util.h"

enum { GET_TIMEOUT_S = 30 };

/* The stable kinds of dhash-protocol(7). */
static const struct {
	const char *kind;
	int exit;
} kinds[] = {
	{"bad-request", EXIT_USAGE},
	{"denied", EXIT_DENIED},
	{"not-found", EXIT_UNKNOWN},
	{"method-not-allowed", EXIT_FAILED},
	{"busy", EXIT_FAILED},
	{"refused", EXIT_FAILED},
	{"too-large", EXIT_FAILED},
	{"timeout", EXIT_UNREACHABLE},
	{"overloaded", EXIT_UNREACHABLE},
	{"read-only", EXIT_FAILED},
	{"stopping", EXIT_UNREACHABLE},
	{"internal", EXIT_FAILED},
	{"unreachable", EXIT_UNREACHABLE},
};

int
api_exit_code(const char *kind, long status)
{
	for (size_t i = 0; kind && i < ARRAY_SIZE(kinds); i++)
		if (streq(kinds[i].kind, kind))
			return kinds[i].exit;
	switch (status) {
	case 400:
		return EXIT_USAGE;
	case 401:
	case 403:
		return EXIT_DENIED;
	case 404:
		return EXIT_UNKNOWN;
	case 408:
		return EXIT_UNREACHABLE;
	default:
		return EXIT_FAILED;
	}
}

/* --- failures -------------------------------------------------------------------------------- */

void
failure_done(struct failure *f)
{
	json_decref(f->error);
	*f = (struct failure){0};
}

const char *
failure_kind(const struct failure *f)
{
	return jstr_or(jobj(f->error, "error"), "kind", "");
}

char *
failure_holder(const struct failure *f)
{
	const char *id = jstr(jobj(jobj(f->error, "error"), "detail"), "deployment");

	return id && name_valid(id) ? xstrdup(id) : NULL;
}

static void
failure_set(struct failure *f, int code, bool away, const char *kind, char *message)
{
	char *clean = str_escape(message); /* JSON holds UTF-8 only */

	f->exit = code;
	f->away = away;
	f->error =
		json_pack("{s:{s:s, s:s, s:n}}", "error", "kind", kind, "message", clean, "detail");
	free(clean);
	free(message);
}

void
failure_from_errno(struct failure *f, const char *socket, int error)
{
	switch (-error) {
	case ENOENT:
		failure_set(f, EXIT_UNREACHABLE, true, "unreachable",
			    xasprintf("dhashd is not running (no socket at %s)", socket));
		break;
	case ECONNREFUSED:
		failure_set(f, EXIT_UNREACHABLE, true, "unreachable",
			    xasprintf("dhashd is not running (nobody listens at %s)", socket));
		break;
	case EACCES:
	case EPERM:
		failure_set(f, EXIT_DENIED, false, "denied",
			    xasprintf("permission denied on %s", socket));
		break;
	case ETIMEDOUT:
		failure_set(f, EXIT_UNREACHABLE, true, "timeout",
			    xasprintf("dhashd does not answer at %s", socket));
		f->unsure = true;
		break;
	case EBUSY:
		failure_set(f, EXIT_UNREACHABLE, true, "overloaded",
			    xasprintf("dhashd is too busy to take a connection at %s", socket));
		break;
	case ECONNRESET:
		failure_set(f, EXIT_UNREACHABLE, true, "unreachable",
			    xstrdup("dhashd closed the connection before it had answered"));
		f->unsure = true;
		break;
	case EFBIG:
		failure_set(f, EXIT_FAILED, false, "too-large",
			    xasprintf("dhashd's answer is larger than %d MiB", ANSWER_MAX >> 20));
		break;
	case EPROTO:
		failure_set(f, EXIT_UNREACHABLE, false, "unreachable",
			    xasprintf("what answers at %s is not dhashd", socket));
		break;
	default:
		failure_set(f, EXIT_UNREACHABLE, false, "unreachable",
			    xasprintf("cannot reach dhashd at %s: %s", socket, strerror(-error)));
		break;
	}
}

void
failure_from_answer(struct failure *f, long status, const char *body, size_t len)
{
	json_t *json = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *error = jobj(json, "error");

	if (error && jstr(error, "message")) {
		f->exit = api_exit_code(jstr(error, "kind"), status);
		/* Too busy, or on its way down: who waits, waits on. */
		f->away = f->exit == EXIT_UNREACHABLE;
		f->error = json;
		return;
	}
	json_decref(json);
	failure_set(f, api_exit_code(NULL, status), false, "internal",
		    xasprintf("dhashd answered with HTTP status %ld and no explanation", status));
}

/* What to do about it. */
static void
hint(struct client *c, const struct failure *f)
{
	const char *kind = failure_kind(f), *name = c->args->command->name;
	const json_t *detail = jobj(jobj(f->error, "error"), "detail");
	struct out *o = &c->out;

	if (streq(kind, "unreachable") && f->away && !f->unsure)
		out_hint(o, "to start it: systemctl start dhashd; another socket: --socket PATH");
	else if (f->exit == EXIT_DENIED)
		out_hint(o,
			 "join group dhash to look and group dhash-operators to act (then log in "
			 "again), or be root");
	else if (streq(kind, "busy") && streq(name, "deploy"))
		out_hint(o,
			 "to follow it: dhash watch %s; to go after it: dhash deploy --wait-lock; "
			 "to replace it: dhash deploy --supersede",
			 jstr_or(detail, "deployment", "ID"));
	else if (streq(kind, "refused") && streq(name, "abort"))
		out_hint(o, "once something has changed the way back is: dhash rollback");
	else if (f->exit == EXIT_UNKNOWN)
		out_hint(o, "what is guarded: dhash status; what was deployed: dhash history");
	else if (streq(kind, "read-only"))
		out_hint(o, "dhashd cannot write its state: journalctl -u dhashd says why");
	else if (streq(kind, "overloaded") || streq(kind, "timeout") || f->unsure)
		out_hint(o, "try again in a moment; journalctl -u dhashd may say more");
}

int
failure_report(struct client *c, const struct failure *f)
{
	const json_t *error = jobj(f->error, "error");

	out_json(&c->out, f->error);
	out_error(&c->out, "%s", jstr_or(error, "message", "unknown error"));
	hint(c, f);
	return f->exit;
}

/* --- requests -------------------------------------------------------------------------------- */

char *
api_path(const char *base, const char *service, const char *environment)
{
	return xasprintf("%s%s%s%s%s%s", base, service || environment ? "?" : "",
			 service ? "service=" : "", service ? service : "",
			 !environment ? ""
			 : service    ? "&environment="
				      : "environment=",
			 environment ? environment : "");
}

static int
parse_answer(const struct conn_answer *a, json_t **ret, struct failure *ret_failure)
{
	json_error_t e;

	if (a->status < 200 || a->status > 299) {
		failure_from_answer(ret_failure, a->status, a->body, a->len);
		return -1;
	}
	*ret = json_loadb(a->body, a->len, JSON_REJECT_DUPLICATES, &e);
	if (*ret && json_is_object(*ret))
		return 0;
	failure_set(ret_failure, EXIT_UNREACHABLE, false, "unreachable",
		    *ret ? xstrdup("dhashd's answer is no JSON object")
			 : xasprintf("dhashd's answer is not understood: %s at byte %d", e.text,
				     e.position));
	json_decref(*ret);
	*ret = NULL;
	return -1;
}

int
api_try(struct client *c, const char *method, const char *path, json_t *body, unsigned timeout_s,
	json_t **ret, struct failure *ret_failure)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct conn_answer a;
	int r = conn_request(c->conn, method, path, text, timeout_s, &a);

	json_decref(body);
	free(text);
	if (r < 0) {
		failure_from_errno(ret_failure, c->socket, r);
		return -1;
	}
	r = parse_answer(&a, ret, ret_failure);
	free(a.body);
	return r;
}

static int
reported(struct client *c, int r, struct failure *f, bool changes)
{
	int code;

	if (r == 0)
		return EXIT_OK;
	code = failure_report(c, f);
	if (changes && f->unsure)
		out_hint(&c->out, "it may have been carried out all the same: look at dhash status "
				  "before asking again");
	failure_done(f);
	return code;
}

int
api_get(struct client *c, json_t **ret, const char *fmt, ...)
{
	struct failure f = {0};
	va_list ap;
	char *path;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&path, fmt, ap);
	va_end(ap);
	if (r < 0)
		return EXIT_FAILED;
	r = api_try(c, "GET", path, NULL, GET_TIMEOUT_S, ret, &f);
	free(path);
	return reported(c, r, &f, false);
}

int
api_known(struct client *c, const char *service, const char *environment)
{
	char *path = api_path("/v1/status", service, environment);
	json_t *doc = NULL;
	int code = api_get(c, &doc, "%s", path);

	json_decref(doc);
	free(path);
	return code;
}

int
api_post(struct client *c, const char *path, json_t *body, unsigned timeout_s, json_t **ret)
{
	struct failure f = {0};

	return reported(c, api_try(c, "POST", path, body, timeout_s, ret, &f), &f, true);
}
