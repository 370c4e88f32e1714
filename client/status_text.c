/* SPDX-License-Identifier: Apache-2.0 */
/* How an environment reads: pure functions from JSON to text. */

#include "client/client.h"
#include "client/json.h"
#include "client/status.h"
#include "client/text.h"
#include "common/util.h"

enum { PHRASE_TAIL_MAX = 160 };

static bool
is(const json_t *o, const char *key, const char *value)
{
	return streq(jstr_or(o, key, ""), value);
}

/* --- headline -------------------------------------------------------------------------------- */

/* What an ended deployment is called in a sentence. */
static const struct {
	const char *state, *before, *after;
} endings[] = {
	{"succeeded", "", "succeeded"},     {"unverified", "", "ended unverified"},
	{"rejected", "", "was rejected"},   {"failed", "", "failed"},
	{"aborted", "", "was aborted"},     {"superseded", "", "was superseded"},
	{"rolled-back", "", "rolled back"}, {"rollback-failed", "rollback of ", "failed"},
};

static void
phrase_phase(char buf[HEADLINE_MAX], const char *label, const json_t *phase)
{
	char left[TEXT_MAX];

	snprintf(buf, HEADLINE_MAX, "%s: %s, %s left", label, jstr_or(phase, "name", "?"),
		 text_ms(left, jint(phase, "left_ms", 0)));
}

/* What has ended may be watched on. */
static void
phrase_tail(char buf[PHRASE_TAIL_MAX], const json_t *phase)
{
	int64_t ms = jint(phase, "left_ms", -1);
	char left[TEXT_MAX];

	buf[0] = '\0';
	if (phase && ms >= 0)
		snprintf(buf, PHRASE_TAIL_MAX, "; %.60s, %s left", jstr_or(phase, "name", "?"),
			 text_ms(left, ms));
	else if (phase)
		snprintf(buf, PHRASE_TAIL_MAX, "; %.60s, until it is back",
			 jstr_or(phase, "name", "?"));
}

char *
status_phrase(char buf[HEADLINE_MAX], const json_t *env, usec_t now)
{
	const json_t *d = jobj(env, "deployment"), *phase = jobj(env, "phase");
	const char *label = jstr_or(d, "label", jstr_or(d, "state", "?"));
	const char *tag = jstr_or(d, "tag", "?");
	char age[TEXT_MAX], tail[PHRASE_TAIL_MAX];

	text_since(age, jstr_or(d, "ended_at", jstr_or(d, "entered_at", "")), now);
	if (!d) {
		snprintf(buf, HEADLINE_MAX, "nothing deployed yet");
		return buf;
	}
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		if (!is(d, "state", endings[i].state))
			continue;
		phrase_tail(tail, phase);
		snprintf(buf, HEADLINE_MAX, "%s%s %s %s ago%s", endings[i].before, tag,
			 endings[i].after, age, tail);
		return buf;
	}
	if (phase)
		phrase_phase(buf, label, phase);
	else if (is(env, "release", tag))
		snprintf(buf, HEADLINE_MAX, "%s, for %s", label, age);
	else
		snprintf(buf, HEADLINE_MAX, "%s %s, for %s", label, tag, age);
	return buf;
}

bool
status_rolling_back(const json_t *env)
{
	const char *state = jstr_or(jobj(env, "deployment"), "state", "");

	return strncmp(state, "rolling-back", 12) == 0 || streq(state, "verifying");
}

const char *
status_verdict(const json_t *env, enum style *ret_style)
{
	static const struct {
		const char *name, *word;
		enum style style;
	} verdicts[] = {
		{"healthy", "HEALTHY", STYLE_GOOD},
		{"suspect", "SUSPECT", STYLE_WARN},
		{"breached", "BREACHED", STYLE_BAD},
		{"blind", "BLIND", STYLE_WARN},
	};

	/* No rule is asked then, and "healthy" would be read as good news. */
	if (status_rolling_back(env)) {
		*ret_style = STYLE_BAD;
		return "ROLLING BACK";
	}
	for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++)
		if (is(env, "verdict", verdicts[i].name)) {
			*ret_style = verdicts[i].style;
			return verdicts[i].word;
		}
	*ret_style = STYLE_WARN;
	return "UNKNOWN";
}

/* --- rules ----------------------------------------------------------------------------------- */

static char *
value_text(char buf[TEXT_MAX], const char *rule, double v)
{
	return streq(rule, "error-rate") ? text_percent(buf, v) : text_seconds(buf, v);
}

/* "fires in 2min 50s" while the clock runs; what is missing after that. */
static void
outlook(char *buf, size_t n, const json_t *rule, const json_t *e)
{
	int64_t left = jint(e, "hold_ms", 0) - jint(e, "lasted_ms", 0);
	char span[TEXT_MAX], limit[TEXT_MAX];

	buf[0] = '\0';
	if (!json_object_get(rule, "verdict"))
		return; /* a decision: it is past */
	if (is(rule, "verdict", "breached"))
		snprintf(buf, n, is(rule, "mode", "observe") ? "; would roll back" : "; fired");
	else if (jint(e, "since_ms", -1) < 0)
		return;
	else if (left > 0)
		snprintf(buf, n, "; fires in %s unless under %s", text_ms(span, left),
			 value_text(limit, jstr_or(e, "rule", ""), jnum(e, "limit")));
	else
		snprintf(buf, n, "; not proven yet");
}

static void
rule_health(char buf[HEADLINE_MAX], const json_t *rule, const json_t *e)
{
	int64_t failed = jint(e, "failures", 0), limit = jint(e, "failures_limit", 0);

	if (limit <= 0)
		str_copy(buf, HEADLINE_MAX, jstr_or(e, "text", "-"));
	else if (failed > 0)
		snprintf(buf, HEADLINE_MAX, "%lld of %lld bad rounds in a row", (long long)failed,
			 (long long)limit);
	else
		snprintf(buf, HEADLINE_MAX, "%lld bad rounds in a row roll back", (long long)limit);
}

static void
rule_window(char buf[HEADLINE_MAX], const json_t *rule, const json_t *e)
{
	char value[TEXT_MAX], limit[TEXT_MAX], hold[TEXT_MAX], count[TEXT_MAX], lasted[TEXT_MAX];
	bool requests = jnum(e, "requests") > 0, over = jint(e, "since_ms", -1) >= 0;
	const char *name = jstr_or(rule, "rule", "");
	char next[2 * TEXT_MAX + 32], *text;

	outlook(next, sizeof next, rule, e);
	text = xasprintf("%s%s%s%s (limit %s for %s)%s%s%s",
			 value_text(value, name, jnum(e, "value")), requests ? " of " : "",
			 requests ? text_count(count, jnum(e, "requests")) : "",
			 requests ? " requests" : "", value_text(limit, name, jnum(e, "limit")),
			 text_ms(hold, jint(e, "hold_ms", 0)), over ? ", over for " : "",
			 over ? text_ms(lasted, jint(e, "lasted_ms", 0)) : "", next);
	str_copy(buf, HEADLINE_MAX, text);
	free(text);
}

char *
status_rule(char buf[HEADLINE_MAX], const json_t *rule)
{
	const json_t *e = jobj(rule, "evidence");
	const char *text = jstr(e, "text");

	/* Blindness is explained best by the daemon's own sentence. */
	if (!e || (is(rule, "verdict", "blind") && text))
		str_copy(buf, HEADLINE_MAX, text ? text : "-");
	else if (is(rule, "rule", "health"))
		rule_health(buf, rule, e);
	else if (is(rule, "rule", "error-rate") || is(rule, "rule", "latency-p95"))
		rule_window(buf, rule, e);
	else
		str_copy(buf, HEADLINE_MAX, text ? text : "-");
	return buf;
}

/* --- exit code ------------------------------------------------------------------------------- */

static bool
degraded(const json_t *env)
{
	const json_t *alert;
	size_t i;

	if (is(env, "verdict", "breached") || is(env, "verdict", "suspect") ||
	    is(jobj(env, "deployment"), "state", "rollback-failed") || status_rolling_back(env))
		return true;
	json_array_foreach(jarr(env, "alerts"), i,
			   alert) if (is(alert, "level", "critical")) return true;
	return false;
}

int
status_exit_code(const json_t *environments)
{
	const json_t *env;
	bool any = false;
	size_t i;

	json_array_foreach(environments, i, env)
	{
		if (degraded(env))
			return EXIT_FAILED;
		any = any || jobj(env, "deployment") || jstr(env, "release");
	}
	return any ? EXIT_OK : EXIT_NOTHING;
}
