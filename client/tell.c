/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that tell of the past: explain, show, history. */

#include "client/api.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/json.h"
#include "client/status.h"
#include "client/text.h"
#include "common/util.h"

/* --- pieces ---------------------------------------------------------------------------------- */

static int
check_id(struct client *c, const struct args *a)
{
	if (a->n_words == 0 || name_valid(a->word[0]))
		return EXIT_OK;
	out_error(&c->out, "\"%s\" is no id of a deployment", a->word[0]);
	return EXIT_USAGE;
}

static void
print_evidence(struct out *o, const json_t *e, const char *said)
{
	char rule_text[HEADLINE_MAX], lower[TEXT_MAX], upper[TEXT_MAX];
	json_t *rule;

	if (!e || !jstr(e, "rule"))
		return;
	if (jstr(e, "text") && !strstr(said, jstr(e, "text")))
		out_row(o, "", STYLE_PLAIN, "%s", jstr(e, "text"));
	if (!streq(jstr(e, "rule"), "error-rate") && !streq(jstr(e, "rule"), "latency-p95"))
		return;
	rule = json_pack("{s:s, s:O}", "rule", jstr(e, "rule"), "evidence", (json_t *)e);
	out_row(o, "", STYLE_DIM, "evidence: %s", status_rule(rule_text, rule));
	if (isfinite(jnum(e, "lower")) && isfinite(jnum(e, "upper")))
		out_row(o, "", STYLE_DIM, "between %s and %s, from %lld samples",
			text_percent(lower, jnum(e, "lower")),
			text_percent(upper, jnum(e, "upper")), (long long)jint(e, "samples", 0));
	json_decref(rule);
}

static void
print_decisions(struct out *o, const json_t *decisions)
{
	const json_t *d;
	char at[TEXT_MAX];
	size_t i;

	if (json_array_size(decisions) > 0)
		out_line(o, STYLE_BOLD, "decisions");
	json_array_foreach(decisions, i, d)
	{
		const char *rule = jstr(d, "rule");

		out_row(o, text_clock(at, jstr(d, "at")), STYLE_PLAIN, "%s%s%s, %s: %s",
			jstr_or(d, "kind", "?"), rule ? " by rule " : "", rule ? rule : "",
			jbool(d, "automatic") ? "automatic" : "by an operator",
			jstr_or(d, "text", "-"));
		print_evidence(o, jobj(d, "evidence"), jstr_or(d, "text", ""));
	}
}

/* A warning that became critical is over as a warning, but nothing was resolved. */
static bool
grew_worse(const json_t *alerts, const json_t *a)
{
	for (size_t i = 0; i < json_array_size(alerts); i++) {
		const json_t *other = json_array_get(alerts, i);

		if (streq(jstr_or(other, "cause", ""), jstr_or(a, "cause", "?")) &&
		    streq(jstr_or(other, "raised_at", ""), jstr_or(a, "resolved_at", "?")))
			return true;
	}
	return false;
}

static void
print_alerts(struct out *o, const json_t *alerts)
{
	const json_t *a;
	char at[TEXT_MAX], lasted[TEXT_MAX];
	size_t i;

	if (json_array_size(alerts) > 0)
		out_line(o, STYLE_BOLD, "alerts");
	json_array_foreach(alerts, i, a)
	{
		const char *resolved = jstr(a, "resolved_at");

		out_row(o, text_clock(at, jstr(a, "raised_at")), STYLE_PLAIN, "%s, %s%s: %s",
			jstr_or(a, "level", "?"), jstr_or(a, "cause", "?"),
			resolved ? "" : ", still open", jstr_or(a, "text", "-"));
		if (resolved)
			out_row(o, "", STYLE_DIM, "%s after %s",
				grew_worse(alerts, a) ? "grew worse" : "resolved",
				text_between(lasted, jstr(a, "raised_at"), resolved));
	}
}

static void
print_samples(struct out *o, const json_t *samples)
{
	static const char *const results[] = {"ok", "bad", "no-data", "error"};
	size_t n[ARRAY_SIZE(results)] = {0}, i;
	const json_t *s;

	json_array_foreach(samples, i, s) for (size_t r = 0; r < ARRAY_SIZE(results); r++) n[r] +=
		streq(jstr_or(s, "result", ""), results[r]);
	if (json_array_size(samples) > 0)
		out_row(o, "samples", STYLE_PLAIN, "%zu ok, %zu bad, %zu no-data, %zu error", n[0],
			n[1], n[2], n[3]);
}

static void
print_title(struct out *o, const json_t *d)
{
	out_line(o, STYLE_BOLD, "%s  %s on %s/%s  %s", jstr_or(d, "id", "?"),
		 jstr_or(d, "tag", "?"), jstr_or(d, "service", "?"), jstr_or(d, "environment", "?"),
		 jstr_or(d, "label", jstr_or(d, "state", "?")));
}

/* --- explain --------------------------------------------------------------------------------- */

static void
explain_text(struct out *o, const json_t *doc)
{
	const json_t *d = jobj(doc, "deployment"), *env = jobj(doc, "environment"), *s;
	size_t i;

	if (d)
		print_title(o, d);
	json_array_foreach(jarr(doc, "sentences"), i, s) if (json_string_value(s))
		out_row(o, i == 0 ? "because" : "", STYLE_PLAIN, "%s", json_string_value(s));
	print_decisions(o, jarr(doc, "decisions"));
	print_alerts(o, jarr(doc, "alerts"));
	if (!env)
		return;
	out_line(o, STYLE_BOLD, "now");
	status_print(o, env, now_realtime());
}

/* The question of /v1/explain; without a word or --env it is about the newest deployment. */
static int
explain_path(struct client *c, const struct args *a, char **ret)
{
	json_t *doc = NULL;
	const char *id, *service = a->value[OPT_SERVICE];
	int code;

	if (a->n_words > 0) {
		*ret = xasprintf("/v1/explain?deployment=%s", a->word[0]);
		return EXIT_OK;
	}
	if (given(a, OPT_ENV)) {
		*ret = api_path("/v1/explain", a->value[OPT_SERVICE], a->value[OPT_ENV]);
		return EXIT_OK;
	}
	code = api_get(c, &doc, "/v1/deployments?%s%s%slimit=1", service ? "service=" : "",
		       service ? service : "", service ? "&" : "");
	if (code != EXIT_OK)
		return code;
	id = jstr(json_array_get(jarr(doc, "deployments"), 0), "id");
	if (id) {
		*ret = xasprintf("/v1/explain?deployment=%s", id);
	} else if ((code = api_known(c, service, NULL)) == EXIT_OK) {
		out_error(&c->out,
			  "nothing has been deployed yet: dhash status shows what is watched");
		code = EXIT_NOTHING;
	}
	json_decref(doc);
	return code;
}

int
cmd_explain(struct client *c, const struct args *a)
{
	json_t *doc = NULL;
	char *path = NULL;
	int code = check_id(c, a);

	if (code != EXIT_OK)
		return code;
	if (a->n_words > 0 && (given(a, OPT_ENV) || given(a, OPT_SERVICE))) {
		out_error(&c->out, "explain takes either a deployment's id or --service and --env");
		return EXIT_USAGE;
	}
	code = explain_path(c, a, &path);
	if (code == EXIT_OK)
		code = api_get(c, &doc, "%s", path);
	free(path);
	if (code != EXIT_OK)
		return code;
	out_json(&c->out, doc);
	explain_text(&c->out, doc);
	json_decref(doc);
	return EXIT_OK;
}

/* --- show ------------------------------------------------------------------------------------ */

/* The members of a deployment that people read, in this order. */
static const struct {
	const char *key, *label;
	bool stamp;
} shown[] = {
	{"outcome", "outcome", false},
	{"previous_tag", "before", false},
	{"lead", "lead", false},
	{"reason", "reason", false},
	{"created_at", "asked", true},
	{"deployed_at", "deployed", true},
	{"t0_at", "T+0", true},
	{"decided_at", "decided", true},
	{"restored_at", "restored", true},
	{"ended_at", "ended", true},
	{"rollback_reason", "rolled back", false},
	{"backup", "backup", false},
	{"backup_sha256", "sha256", false},
	{"target", "restored to", false},
	{"session", "session", false},
};

static void
show_text(struct out *o, const json_t *d)
{
	char at[TEXT_MAX];

	print_title(o, d);
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		const char *v = jstr(d, shown[i].key);

		if (v)
			out_row(o, shown[i].label, STYLE_PLAIN, "%s",
				shown[i].stamp ? text_date(at, v) : v);
	}
	if (jstr(d, "target") && !jbool(d, "target_verified"))
		out_row(o, "", STYLE_WARN, "what was restored was NOT verified");
	if (jbool(d, "forced"))
		out_row(o, "forced", STYLE_WARN, "the gates were overridden");
	if (json_is_integer(json_object_get(d, "actor_uid")))
		out_row(o, "asked by", STYLE_PLAIN, "uid %lld", (long long)jint(d, "actor_uid", 0));
	print_samples(o, jarr(d, "samples"));
	print_decisions(o, jarr(d, "decisions"));
	print_alerts(o, jarr(d, "alerts"));
}

int
cmd_show(struct client *c, const struct args *a)
{
	json_t *doc = NULL;
	int code = check_id(c, a);

	if (a->n_words == 0) {
		out_error(&c->out, "show needs a deployment's id: dhash history lists them");
		return EXIT_USAGE;
	}
	if (code == EXIT_OK)
		code = api_get(c, &doc, "/v1/deployments/%s", a->word[0]);
	if (code != EXIT_OK)
		return code;
	out_json(&c->out, doc);
	show_text(&c->out, doc);
	json_decref(doc);
	return EXIT_OK;
}

/* --- history --------------------------------------------------------------------------------- */

static void
history_row(struct table *t, const json_t *d)
{
	char at[TEXT_MAX], took[TEXT_MAX], *where;

	where = xasprintf("%s/%s", jstr_or(d, "service", "?"), jstr_or(d, "environment", "?"));
	table_add(t, jstr(d, "id"));
	table_add(t, where);
	table_add(t, jstr(d, "tag"));
	table_add(t, jstr_or(d, "label", jstr(d, "state")));
	table_add(t, text_date(at, jstr(d, "created_at")));
	table_add(t, text_between(took, jstr(d, "created_at"), jstr(d, "ended_at")));
	table_add(t, jstr(d, "lead"));
	table_add(t, status_reason(d));
	free(where);
}

int
cmd_history(struct client *c, const struct args *a)
{
	static const char *const titles[] = {"ID",          "WHERE", "TAG",  "STATE",
					     "ASKED (UTC)", "TOOK",  "LEAD", "WHY"};
	struct table t = {.columns = ARRAY_SIZE(titles)};
	const char *service = a->value[OPT_SERVICE], *env = a->value[OPT_ENV];
	char *path = api_path("/v1/deployments", service, env);
	const char *limit = a->value[OPT_LIMIT];
	json_t *doc = NULL, *d;
	size_t i;
	int code;

	code = api_get(c, &doc, "%s%s%s", path,
		       !limit           ? ""
		       : service || env ? "&limit="
					: "?limit=",
		       limit ? limit : "");
	free(path);
	if (code == EXIT_OK && json_array_size(jarr(doc, "deployments")) == 0)
		code = api_known(c, service, env);
	if (code != EXIT_OK) {
		json_decref(doc);
		return code;
	}
	out_json(&c->out, doc);
	for (i = 0; i < ARRAY_SIZE(titles); i++)
		table_add(&t, titles[i]);
	json_array_foreach(jarr(doc, "deployments"), i, d) history_row(&t, d);
	if (i == 0)
		out_line(&c->out, STYLE_PLAIN, "nothing was deployed yet");
	else
		table_print(&t, &c->out);
	table_done(&t);
	json_decref(doc);
	return EXIT_OK;
}
