/* SPDX-License-Identifier: Apache-2.0 */
/* dhash status: one block per environment, read at a glance. */

#include "client/status.h"

#include "client/api.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/json.h"
#include "client/text.h"
#include "common/util.h"

/* --- one environment ------------------------------------------------------------------------- */

static enum style
level_style(const char *level)
{
	return streq(level, "critical")  ? STYLE_BAD
	       : streq(level, "warning") ? STYLE_WARN
					 : STYLE_PLAIN;
}

static void
print_headline(struct out *o, const json_t *env, usec_t now)
{
	char phrase[HEADLINE_MAX];
	enum style s;
	const char *verdict = status_verdict(env, &s);

	out_part(o, STYLE_BOLD, "%s/%s", jstr_or(env, "service", "?"),
		 jstr_or(env, "environment", "?"));
	out_part(o, STYLE_PLAIN, "  %s  %s  ", jstr_or(env, "release", "-"),
		 status_phrase(phrase, env, now));
	out_part(o, s, "%s", verdict);
	out_end(o);
}

/* What a failed rollback was for is of less use than why it failed. */
const char *
status_reason(const json_t *d)
{
	const char *rollback = jstr_or(d, "rollback_reason", ""), *outcome;

	outcome = jbool(d, "live") ? "" : jstr_or(d, "outcome", "");
	if (streq(jstr_or(d, "state", ""), "rollback-failed") && *outcome)
		return outcome;
	return *rollback ? rollback : outcome;
}

static void
print_deployment(struct out *o, const json_t *env)
{
	const json_t *d = jobj(env, "deployment");
	const char *why = status_reason(d), *lead = jstr(d, "lead");

	if (!d)
		return;
	out_row(o, "deployment", STYLE_PLAIN, "%s%s%s%s%s", jstr_or(d, "id", "?"),
		lead ? ", led by " : "", lead ? lead : "", *why ? ": " : "", why);
}

static void
print_health(struct out *o, const json_t *env, const json_t *rule, usec_t now)
{
	const json_t *h = jobj(env, "health");
	const char *result = jstr_or(h, "result", "no-data"), *detail = jstr(h, "detail");
	char age[TEXT_MAX] = "", text[HEADLINE_MAX] = "";
	bool bad = !streq(result, "ok");

	if (jstr(h, "at"))
		text_since(age, jstr(h, "at"), now);
	if (rule)
		status_rule(text, rule);
	out_row(o, "health",
		bad ? level_style(streq(result, "bad") ? "critical" : "warning") : STYLE_PLAIN,
		"%s%s%s%s%s%s%s%s", result, *age ? ", " : "", age, *age ? " ago" : "",
		bad && detail ? ": " : "", bad && detail ? detail : "", *text ? "; " : "", text);
}

static const char *
rule_label(const char *rule)
{
	return streq(rule, "error-rate") ? "error rate" : streq(rule, "latency-p95") ? "p95" : rule;
}

static void
print_rules(struct out *o, const json_t *env, usec_t now)
{
	const json_t *rule, *health = NULL;
	char text[HEADLINE_MAX];
	size_t i;

	json_array_foreach(jarr(env, "rules"), i,
			   rule) if (streq(jstr_or(rule, "rule", ""), "health") &&
				     jbool(rule, "armed")) health = rule;
	print_health(o, env, health, now);
	json_array_foreach(jarr(env, "rules"), i, rule)
	{
		const char *name = jstr_or(rule, "rule", "?"), *v = jstr_or(rule, "verdict", "");
		bool observed = streq(jstr_or(rule, "mode", ""), "observe");

		if (!jbool(rule, "armed") || streq(name, "health"))
			continue;
		out_row(o, rule_label(name),
			level_style(streq(v, "breached")  ? "critical"
				    : streq(v, "healthy") ? "info"
							  : "warning"),
			"%s%s", status_rule(text, rule), observed ? " (observed only)" : "");
	}
}

static void
print_coverage(struct out *o, const json_t *env)
{
	char text[HEADLINE_MAX] = "", ratio[TEXT_MAX], seen[TEXT_MAX], whole[TEXT_MAX];
	const json_t *phase;
	size_t i, n = 0;

	json_array_foreach(jarr(env, "coverage"), i, phase)
	{
		if (jint(phase, "elapsed_ms", 0) <= 0 || n >= sizeof text)
			continue;
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %s (%s of %s)",
				      n ? ", " : "", jstr_or(phase, "phase", "?"),
				      text_percent(ratio, jnum(phase, "ratio")),
				      text_ms(seen, jint(phase, "observed_ms", 0)),
				      text_ms(whole, jint(phase, "elapsed_ms", 0)));
	}
	if (n > 0)
		out_row(o, "coverage", STYLE_PLAIN, "%s", text);
}

static void
print_alerts(struct out *o, const json_t *env, usec_t now)
{
	const json_t *a;
	char age[TEXT_MAX];
	size_t i;

	json_array_foreach(jarr(env, "alerts"), i, a)
	{
		const char *level = jstr_or(a, "level", "?");

		out_row(o, "alert", level_style(level), "%s for %s, %s: %s", level,
			text_since(age, jstr(a, "raised_at"), now), jstr_or(a, "cause", "?"),
			jstr_or(a, "text", "-"));
	}
}

void
status_print(struct out *o, const json_t *env, usec_t now)
{
	const json_t *asks = jobj(env, "asks");
	int64_t next = jint(env, "next_sample_ms", -1);
	char span[TEXT_MAX];

	print_headline(o, env, now);
	print_deployment(o, env);
	print_rules(o, env, now);
	print_coverage(o, env);
	print_alerts(o, env, now);
	if (jstr(asks, "scenario"))
		out_row(o, "do", STYLE_BOLD, "%s: %s", jstr(asks, "scenario"),
			jstr_or(asks, "advice", "-"));
	if (next >= 0)
		out_row(o, "next check", STYLE_PLAIN, "in %s", text_ms(span, next));
}

/* The rule that may fire, else the error rate: a line has room for one. */
static const json_t *
rule_to_watch(const json_t *env)
{
	const json_t *rule, *shown = NULL;
	size_t i;

	json_array_foreach(jarr(env, "rules"), i, rule)
	{
		if (!jbool(rule, "armed"))
			continue;
		if (!streq(jstr_or(rule, "verdict", "healthy"), "healthy"))
			return rule;
		if (streq(jstr_or(rule, "rule", ""), "error-rate"))
			shown = rule;
	}
	return shown;
}

void
status_progress(struct out *o, const json_t *env, usec_t now)
{
	char phrase[HEADLINE_MAX], text[HEADLINE_MAX], span[TEXT_MAX];
	int64_t next = jint(env, "next_sample_ms", -1);
	const json_t *rule = status_rolling_back(env) ? NULL : rule_to_watch(env);
	char *last, *shown;
	enum style s;

	if (o->json || !o->terminal)
		return;
	last = next < 0 ? xstrdup("") : xasprintf(", next check in %s", text_ms(span, next));
	shown = !rule ? xstrdup("")
		      : xasprintf(", %s %s", rule_label(jstr_or(rule, "rule", "?")),
				  status_rule(text, rule));
	out_progress(o, "%s: %s%s%s", status_phrase(phrase, env, now), status_verdict(env, &s),
		     last, shown);
	free(shown);
	free(last);
}

/* --- the command ----------------------------------------------------------------------------- */

static void
print_daemon(struct out *o, const json_t *daemon)
{
	if (jstr(daemon, "problem") || streq(jstr_or(daemon, "state", ""), "read-only"))
		out_line(o, STYLE_BAD, "dhashd is %s: %s", jstr_or(daemon, "state", "in trouble"),
			 jstr_or(daemon, "problem", "no reason given"));
}

static void
print_all(struct out *o, const json_t *doc, const json_t *environments)
{
	usec_t now = now_realtime();
	const json_t *env;
	size_t i;

	print_daemon(o, jobj(doc, "daemon"));
	if (json_array_size(environments) == 0)
		out_line(o, STYLE_PLAIN, "no such environment is configured: see dhashd.conf(5)");
	json_array_foreach(environments, i, env)
	{
		if (i > 0)
			out_blank(o);
		status_print(o, env, now);
	}
}

int
cmd_status(struct client *c, const struct args *a)
{
	const char *service = a->n_words > 0 ? a->word[0] : NULL, *env = a->value[OPT_ENV];
	json_t *doc = NULL;
	char *path;
	int code;

	if (service && !name_valid(service)) {
		out_error(&c->out, "\"%s\" is no name of a service", service);
		return EXIT_USAGE;
	}
	path = api_path("/v1/status", service, env);
	code = api_get(c, &doc, "%s", path);
	free(path);
	if (code != EXIT_OK)
		return code;
	out_json(&c->out, doc);
	print_all(&c->out, doc, jarr(doc, "environments"));
	code = status_exit_code(jarr(doc, "environments"));
	if (streq(jstr_or(jobj(doc, "daemon"), "state", ""), "read-only"))
		code = EXIT_FAILED; /* it watches, and can decide nothing */
	if ((service || env) && json_array_size(jarr(doc, "environments")) == 0)
		code = EXIT_UNKNOWN;
	json_decref(doc);
	return code;
}
