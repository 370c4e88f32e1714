/* SPDX-License-Identifier: Apache-2.0 */
/* dhash watch, and the waiting of deploy and rollback: what is said at the end. */

#include "client/api.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/text.h"
#include "common/util.h"

/* What a rollback put back: the backup of this deployment, a release folder, or something else. */
static const char *
restored(const json_t *d)
{
	const char *target = jstr_or(d, "target", "");

	if (strncmp(target, "releases/", 9) == 0)
		return target + 9;
	if (*target && !streq(target, jstr_or(d, "backup", "")))
		return target;
	return jstr_or(d, "previous_tag", "what was there before");
}

static void
say_end(struct out *o, const json_t *d)
{
	const char *state = jstr_or(d, "state", "?"), *tag = jstr_or(d, "tag", "?");
	const char *why = jstr_or(d, "outcome", "no reason given"), *id = jstr_or(d, "id", "ID");
	char *where =
		xasprintf("%s/%s", jstr_or(d, "service", "?"), jstr_or(d, "environment", "?"));

	if (streq(state, "succeeded"))
		out_rest(o, 4, STYLE_GOOD, "succeeded: %s is on %s", tag, where);
	else if (streq(state, "rolled-back"))
		out_rest(o, 4, STYLE_WARN, "rolled back: %s was taken off %s, %s is back: %s", tag,
			 where, restored(d), jstr_or(d, "rollback_reason", why));
	else if (streq(state, "rollback-failed"))
		out_rest(o, 4, STYLE_BAD, "rollback failed: %s needs a human, now: %s", where, why);
	else
		out_rest(o, 4, STYLE_BAD, "%s: %s on %s: %s", state, tag, where, why);
	if (streq(state, "rejected"))
		out_line(o, STYLE_PLAIN,
			 "to override the gates: dhash deploy --force --reason TEXT");
	else if (!streq(state, "succeeded"))
		out_line(o, STYLE_PLAIN, "to see why: dhash explain %s", id);
	free(where);
}

/* Follows to the end of one deployment. */
static int
finish(struct follow *f, int if_rolled_back)
{
	struct out *o = &f->client->out;
	bool detached;
	int code = follow_run(f, &detached);

	if (code == EXIT_OK || code == EXIT_RUNNING) {
		if (f->deployment && !f->ndjson)
			out_json(o, f->deployment);
	}
	if (code == EXIT_OK) {
		say_end(o, f->deployment);
		code = follow_exit_code(jstr_or(f->deployment, "state", ""), if_rolled_back);
	} else if (code == EXIT_RUNNING) {
		out_hint(o, "%s; the deployment goes on: dhash watch %s",
			 detached ? "detached" : "still running after --timeout", f->id);
	}
	follow_done(f);
	return code;
}

int
follow_to_the_end(struct client *c, const char *id, int64_t after, int if_rolled_back)
{
	struct follow f = {
		.client = c,
		.id = id,
		.after = after,
		.deadline = follow_deadline(c->args),
		.patient = true,
	};

	return finish(&f, if_rolled_back);
}

/* --- the command ----------------------------------------------------------------------------- */

/* The live deployment of the environment asked for: *ret_id (owned) or NULL when there is none. */
static int
live_deployment(struct client *c, const struct args *a, char **ret_id)
{
	char *path = api_path("/v1/status", a->value[OPT_SERVICE], a->value[OPT_ENV]);
	json_t *doc = NULL, *envs;
	const json_t *d;
	int code = api_get(c, &doc, "%s", path);

	free(path);
	if (code != EXIT_OK)
		return code;
	envs = jarr(doc, "environments");
	d = jobj(json_array_get(envs, 0), "deployment");
	if (json_array_size(envs) == 0) {
		out_error(&c->out, "no such environment");
		code = EXIT_UNKNOWN;
	} else if (json_array_size(envs) == 1 && jbool(d, "live") && jstr(d, "id")) {
		*ret_id = xstrdup(jstr(d, "id"));
	}
	json_decref(doc);
	return code;
}

/* What happens from now on, without an end. */
static int
watch_all(struct client *c, const struct args *a)
{
	struct follow f = {
		.client = c,
		.service = a->value[OPT_SERVICE],
		.environment = a->value[OPT_ENV],
		.deadline = follow_deadline(a),
		.ndjson = true,
	};
	bool detached;
	int code = api_known(c, f.service, f.environment);

	if (code != EXIT_OK)
		return code;
	f.after = follow_position(c);
	out_line(&c->out, STYLE_DIM, "waiting for what happens%s%s%s%s; Ctrl-C ends it",
		 f.service || f.environment ? " on " : "", f.service ? f.service : "",
		 f.service && f.environment ? "/" : "", f.environment ? f.environment : "");
	fflush(stdout);
	code = follow_run(&f, &detached);
	follow_done(&f);
	return code == EXIT_RUNNING && detached ? EXIT_OK : code;
}

int
cmd_watch(struct client *c, const struct args *a)
{
	struct follow f = {.client = c, .deadline = follow_deadline(a), .ndjson = true};
	char *live = NULL;
	int code = EXIT_OK;

	if (a->n_words > 0 && (given(a, OPT_ENV) || given(a, OPT_SERVICE))) {
		out_error(&c->out, "watch takes either a deployment's id or --env, not both");
		return EXIT_USAGE;
	}
	if (a->n_words > 0 && !name_valid(a->word[0])) {
		out_error(&c->out, "\"%s\" is no id of a deployment", a->word[0]);
		return EXIT_USAGE;
	}
	if (given(a, OPT_ENV))
		code = live_deployment(c, a, &live);
	if (code != EXIT_OK)
		return code;
	f.id = live ? live : a->n_words > 0 ? a->word[0] : NULL;
	code = f.id ? finish(&f, EXIT_ROLLED_BACK) : watch_all(c, a);
	free(live);
	return code;
}
