/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that change something: deploy, rollback, abort. */

#include <unistd.h>

#include "client/api.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/status.h"
#include "common/util.h"

enum {
	ACT_TIMEOUT_S = 60,
	GATES_TIMEOUT_S = 300, /* a dry run waits for the gates themselves */
};

static void
put(json_t *body, const char *key, const char *value)
{
	char *clean;

	if (!value)
		return;
	clean = str_escape(value); /* JSON holds UTF-8 only */
	json_object_set_new(body, key, json_string(clean));
	free(clean);
}

static void
put_flag(json_t *body, const char *key, bool value)
{
	if (value)
		json_object_set_new(body, key, json_true());
}

/* --- confirmation ---------------------------------------------------------------------------- */

/* Reads a line, and compares it with the word that was to be typed. */
static bool
typed(struct out *o, const char *word)
{
	char line[256];

	fflush(stdout);
	fprintf(stderr, "Type %s to go on: ", word);
	if (!fgets(line, sizeof line, stdin)) {
		fputc('\n', stderr);
		return false;
	}
	line[strcspn(line, "\r\n")] = '\0';
	return streq(line, word);
}

/* What would be there then; owned. */
static char *
outcome(const struct args *a, const json_t *env)
{
	const char *before = jstr_or(jobj(env, "deployment"), "previous_tag", "");

	if (streq(a->command->name, "abort"))
		return xstrdup("it would end here");
	if (streq(a->command->name, "deploy"))
		return xasprintf("%s would replace it", a->value[OPT_TAG]);
	if (given(a, OPT_TO))
		return xasprintf("%s would be put back", a->value[OPT_TO]);
	if (given(a, OPT_BACKUP))
		return xasprintf("the backup %s would be restored", a->value[OPT_BACKUP]);
	return xasprintf("what was there before%s%s%s would be put back", *before ? " (" : "",
			 before, *before ? ")" : "");
}

/* The environment's own name is what the operator types: the wrong window shows itself. */
static int
confirm(struct client *c, const char *what, const json_t *env)
{
	const char *word = jstr_or(env, "environment", "yes");
	char phrase[HEADLINE_MAX], *next;

	if (given(c->args, OPT_YES) || given(c->args, OPT_FORCE))
		return EXIT_OK;
	if (!isatty(STDIN_FILENO)) {
		out_error(&c->out,
			  "%s asks for confirmation on a terminal, and there is none; nothing was "
			  "done",
			  what);
		out_hint(&c->out, "to do it without being asked: --yes");
		return EXIT_USAGE;
	}
	next = outcome(c->args, env);
	out_hint(&c->out, "%s of %s/%s: %s is there now; %s; %s", what,
		 jstr_or(env, "service", "?"), word, jstr_or(env, "release", "nothing known"),
		 status_phrase(phrase, env, now_realtime()), next);
	free(next);
	if (typed(&c->out, word))
		return EXIT_OK;
	out_error(&c->out, "not confirmed; nothing was done");
	return EXIT_FAILED;
}

/* The one environment that the options name; *ret_doc is owned, *ret_env borrowed from it. */
static int
find_environment(struct client *c, const char *service, const char *env, json_t **ret_doc,
		 json_t **ret_env)
{
	char *path = api_path("/v1/status", service, env);
	json_t *doc = NULL, *found;
	int code = api_get(c, &doc, "%s", path);

	free(path);
	if (code != EXIT_OK)
		return code;
	found = jarr(doc, "environments");
	if (json_array_size(found) == 1) {
		*ret_doc = doc;
		*ret_env = json_array_get(found, 0);
		return EXIT_OK;
	}
	if (json_array_size(found) == 0)
		out_error(&c->out, "no such environment: %s", env);
	else
		out_error(&c->out, "%zu services have an environment %s: say which by --service",
			  json_array_size(found), env);
	code = json_array_size(found) == 0 ? EXIT_UNKNOWN : EXIT_USAGE;
	json_decref(doc);
	return code;
}

static int
confirm_environment(struct client *c, const char *what, const struct args *a)
{
	json_t *doc = NULL, *env = NULL;
	int code;

	if (given(a, OPT_YES) || given(a, OPT_FORCE))
		return EXIT_OK;
	code = find_environment(c, a->value[OPT_SERVICE], a->value[OPT_ENV], &doc, &env);
	if (code == EXIT_OK)
		code = confirm(c, what, env);
	json_decref(doc);
	return code;
}

/* --- deploy ---------------------------------------------------------------------------------- */

/* The answer to what was begun: wait for its end, or say its id. */
static int
begun(struct client *c, json_t *answer, int64_t after, int if_rolled_back)
{
	const char *id = jstr(answer, "id");

	if (!id || !name_valid(id)) {
		out_error(&c->out, "dhashd's answer names no deployment");
		return EXIT_UNREACHABLE;
	}
	if (!given(c->args, OPT_NO_WAIT)) {
		out_line(&c->out, STYLE_BOLD, "%s", id);
		fflush(stdout);
		return follow_to_the_end(c, id, after, if_rolled_back);
	}
	out_json(&c->out, answer);
	out_line(&c->out, STYLE_PLAIN, "%s", id);
	return EXIT_RUNNING;
}

static int
dry_run(struct client *c, json_t *answer)
{
	struct out *o = &c->out;
	const json_t *v;
	size_t i;

	out_json(o, answer);
	json_array_foreach(jarr(answer, "gates"), i, v)
	{
		bool ok = jbool(v, "ok");

		out_part(o, ok ? STYLE_GOOD : STYLE_BAD, "  %-6s", ok ? "passes" : "FAILS");
		out_part(o, STYLE_PLAIN, "  %s: %s", jstr_or(v, "name", "?"),
			 jstr_or(v, "text", ""));
		out_end(o);
	}
	json_array_foreach(jarr(answer, "plan"), i, v)
		out_line(o, STYLE_PLAIN, "  %zu. %s", i + 1,
			 json_string_value(v) ? json_string_value(v) : "?");
	out_line(o, STYLE_BOLD,
		 jbool(answer, "ok") ? "this would be done; nothing was changed"
				     : "this would be refused; nothing was changed");
	return jbool(answer, "ok") ? EXIT_OK : EXIT_FAILED;
}

/* A live deployment is not replaced by accident.  Without a terminal the option says enough: what
 * is deployed is watched and taken back in any case. */
static int
confirm_supersede(struct client *c, const struct args *a)
{
	json_t *doc = NULL, *env = NULL;
	int code;

	if (!given(a, OPT_SUPERSEDE) || given(a, OPT_DRY_RUN) || given(a, OPT_YES) ||
	    given(a, OPT_FORCE) || !isatty(STDIN_FILENO))
		return EXIT_OK;
	code = find_environment(c, a->value[OPT_SERVICE], a->value[OPT_ENV], &doc, &env);
	if (code == EXIT_OK && jbool(jobj(env, "deployment"), "live"))
		code = confirm(c, "replacing the deployment", env);
	json_decref(doc);
	return code;
}

/* Follows whoever holds the environment until it is free. */
static int
wait_for_holder(struct client *c, const char *id)
{
	struct follow f = {
		.client = c,
		.id = id,
		.after = follow_position(c),
		.deadline = follow_deadline(c->args),
		.patient = true,
	};
	bool detached;
	int code;

	out_hint(&c->out, "%s has the environment; waiting for its end (Ctrl-C gives up)", id);
	code = follow_run(&f, &detached);
	if (code == EXIT_RUNNING)
		out_error(&c->out, "%s: %s still has the environment, and nothing was deployed",
			  detached ? "given up" : "--timeout is over", id);
	follow_done(&f);
	return code;
}

/* Another one may be quicker when the holder ends: then that one is waited for. */
static int
post_deployment(struct client *c, const struct args *a, const json_t *body, unsigned timeout_s,
		json_t **ret_answer)
{
	for (;;) {
		struct failure f = {0};
		char *holder = NULL;
		int code;

		if (api_try(c, "POST", "/v1/deployments", json_deep_copy(body), timeout_s,
			    ret_answer, &f) == 0)
			return EXIT_OK;
		if (given(a, OPT_WAIT_LOCK) && streq(failure_kind(&f), "busy"))
			holder = failure_holder(&f);
		code = holder ? wait_for_holder(c, holder) : failure_report(c, &f);
		failure_done(&f);
		if (!holder || code != EXIT_OK) {
			free(holder);
			return code;
		}
		free(holder);
	}
}

int
cmd_deploy(struct client *c, const struct args *a)
{
	json_t *body, *answer = NULL;
	bool dry = given(a, OPT_DRY_RUN);
	int code;

	if (given(a, OPT_FORCE) && !given(a, OPT_REASON)) {
		out_error(&c->out,
			  "--force overrides the gates and needs --reason TEXT, for the audit "
			  "trail");
		return EXIT_USAGE;
	}
	if (given(a, OPT_SUPERSEDE) && given(a, OPT_WAIT_LOCK)) {
		out_error(&c->out, "--supersede and --wait-lock exclude each other");
		return EXIT_USAGE;
	}
	code = confirm_supersede(c, a);
	if (code != EXIT_OK)
		return code;
	body = json_object();
	put(body, "service", a->value[OPT_SERVICE]);
	put(body, "environment", a->value[OPT_ENV]);
	put(body, "tag", a->value[OPT_TAG]);
	put(body, "lead", a->value[OPT_LEAD]);
	put(body, "reason", a->value[OPT_REASON]);
	put_flag(body, "force", given(a, OPT_FORCE));
	put_flag(body, "supersede", given(a, OPT_SUPERSEDE));
	put_flag(body, "dry_run", dry);
	code = post_deployment(c, a, body, dry ? GATES_TIMEOUT_S : ACT_TIMEOUT_S, &answer);
	json_decref(body);
	if (code != EXIT_OK)
		return code;
	code = dry ? dry_run(c, answer) : begun(c, answer, 0, EXIT_ROLLED_BACK);
	json_decref(answer);
	return code;
}

/* --- rollback -------------------------------------------------------------------------------- */

/* The daemon stands in another folder than the operator. */
static void
put_path(json_t *body, const char *key, const char *path)
{
	char *here = path && path[0] != '/' ? getcwd(NULL, 0) : NULL;
	char *whole = here ? xasprintf("%s/%s", here, path) : NULL;

	put(body, key, whole ? whole : path);
	free(whole);
	free(here);
}

/* The daemon knows the environment, and says "not found" because nothing was ever deployed there.
 */
static bool
nothing_deployed(struct client *c, const struct args *a)
{
	char *path = api_path("/v1/status", a->value[OPT_SERVICE], a->value[OPT_ENV]);
	struct failure f = {0};
	json_t *doc = NULL, *envs;
	bool nothing = false;

	if (api_try(c, "GET", path, NULL, ACT_TIMEOUT_S, &doc, &f) < 0)
		failure_done(&f);
	envs = jarr(doc, "environments");
	if (json_array_size(envs) == 1)
		nothing = !jobj(json_array_get(envs, 0), "deployment");
	json_decref(doc);
	free(path);
	return nothing;
}

int
cmd_rollback(struct client *c, const struct args *a)
{
	json_t *body, *answer = NULL;
	int64_t after;
	int code;

	if (given(a, OPT_BACKUP) && given(a, OPT_TO)) {
		out_error(&c->out, "--backup and --to exclude each other");
		return EXIT_USAGE;
	}
	code = confirm_environment(c, "rollback", a);
	if (code != EXIT_OK)
		return code;
	/* The deployment has a past, which is not to be told again. */
	after = given(a, OPT_NO_WAIT) ? 0 : follow_position(c);
	body = json_object();
	put(body, "service", a->value[OPT_SERVICE]);
	put(body, "environment", a->value[OPT_ENV]);
	put_path(body, "backup", a->value[OPT_BACKUP]);
	put(body, "to", a->value[OPT_TO]);
	put(body, "reason", a->value[OPT_REASON]);
	put_flag(body, "force", given(a, OPT_FORCE));
	code = api_post(c, "/v1/rollbacks", body, ACT_TIMEOUT_S, &answer);
	if (code == EXIT_OK)
		code = begun(c, answer, after, EXIT_OK);
	else if (code == EXIT_UNKNOWN && nothing_deployed(c, a))
		code = EXIT_NOTHING;
	json_decref(answer);
	return code;
}

/* --- abort ----------------------------------------------------------------------------------- */

/* Which deployment, and whether it has begun already; *ret_id is owned. */
static int
abort_by_environment(struct client *c, const struct args *a, char **ret_id)
{
	json_t *doc = NULL, *env = NULL, *d;
	int code = find_environment(c, a->value[OPT_SERVICE], a->value[OPT_ENV], &doc, &env);

	if (code != EXIT_OK)
		return code;
	d = jobj(env, "deployment");
	if (!jbool(d, "live") || !jstr(d, "id")) {
		out_error(&c->out, "nothing is being deployed to %s", a->value[OPT_ENV]);
		code = EXIT_NOTHING;
	} else {
		*ret_id = xstrdup(jstr(d, "id"));
		if (!streq(jstr_or(d, "state", ""), "queued"))
			code = confirm(c, "abort", env);
	}
	json_decref(doc);
	return code;
}

static int
abort_by_id(struct client *c, const char *id, char **ret_id)
{
	json_t *doc = NULL, *env;
	int code;

	if (!name_valid(id)) {
		out_error(&c->out, "\"%s\" is no id of a deployment", id);
		return EXIT_USAGE;
	}
	*ret_id = xstrdup(id);
	code = api_get(c, &doc, "/v1/deployments/%s", id);
	if (code == EXIT_OK && json_is_false(json_object_get(doc, "live"))) {
		out_error(&c->out, "%s has ended (%s): there is nothing to abort", id,
			  jstr_or(doc, "state", "?"));
		code = EXIT_FAILED;
	} else if (code == EXIT_OK && !streq(jstr_or(doc, "state", ""), "queued")) {
		env = json_pack("{s:s, s:s, s:s, s:O}", "service", jstr_or(doc, "service", "?"),
				"environment", jstr_or(doc, "environment", "?"), "release",
				jstr_or(doc, "previous_tag", "nothing known"), "deployment", doc);
		code = confirm(c, "abort", env);
		json_decref(env);
	}
	json_decref(doc);
	return code;
}

int
cmd_abort(struct client *c, const struct args *a)
{
	json_t *body, *answer = NULL;
	char *id = NULL, *path;
	int code;

	if ((a->n_words > 0) == given(a, OPT_ENV)) {
		out_error(&c->out, "abort needs a deployment's id, or --env ENVIRONMENT");
		return EXIT_USAGE;
	}
	code = a->n_words > 0 ? abort_by_id(c, a->word[0], &id) : abort_by_environment(c, a, &id);
	if (code == EXIT_OK) {
		body = json_object();
		put(body, "reason", a->value[OPT_REASON]);
		path = xasprintf("/v1/deployments/%s/abort", id);
		code = api_post(c, path, body, ACT_TIMEOUT_S, &answer);
		free(path);
	}
	if (code == EXIT_OK) {
		out_json(&c->out, answer);
		out_line(&c->out, STYLE_PLAIN, "%s: %s", jstr_or(answer, "id", id),
			 jstr_or(answer, "state", "?"));
	}
	json_decref(answer);
	free(id);
	return code;
}
