/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of the configuration: where it stands, what its value is, where that goes.  Reading,
 * writing back, freeing, the manual page's test and the suggestions all use this one table.
 */

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <strings.h>

#include "common/util.h"
#include "common/pattern.h"
#include "daemon/check/selector.h"
#include "daemon/conf_internal.h"

static const char *const log_levels[] = {"error", "warning", "notice", "info", "debug", NULL};
static const char *const rule_modes[] = {"enforce", "observe", "off", NULL};
static const char *const sustains[] = {"statistical", "literal", NULL};
static const char *const missings[] = {"hold", "bad", "ok", NULL};
static const char *const escalations[] = {"notify", "rollback", NULL};
static const char *const check_types[] = {"http", "tcp", "exec", NULL};

#define DAEMON(k, t, field, d, h)                                                                  \
	{                                                                                          \
		"Daemon", k, t, OWN_DAEMON, offsetof(struct daemon_keys, field), d, h, NULL        \
	}
#define ENV(k, t, field, d, h)                                                                     \
	{                                                                                          \
		"Environment NAME", k, t, OWN_DRAFT, offsetof(struct draft, field), d, h, NULL     \
	}
#define CHECK(k, t, field, d, h)                                                                   \
	{                                                                                          \
		"Check NAME", k, t, OWN_CHECK, offsetof(struct conf_check, field), d, h, NULL      \
	}
#define PHASE(k, t, field, d, h)                                                                   \
	{                                                                                          \
		"Phase NAME", k, t, OWN_PHASE, offsetof(struct phase, field), d, h, NULL           \
	}
#define RULE(k, t, field, d, h)                                                                    \
	{                                                                                          \
		"Rule NAME", k, t, OWN_RULE, offsetof(struct rule_policy, field), d, h, NULL       \
	}
#define METRIC(k, t, field, d, h)                                                                  \
	{                                                                                          \
		"Metrics", k, t, OWN_METRICS, offsetof(struct conf_metrics, field), d, h, NULL     \
	}

const struct conf_key conf_key_table[] = {
	{"Daemon", "LogLevel", KEY_CHOICE, OWN_DAEMON, offsetof(struct daemon_keys, log_level),
	 "info", "least important records that are written", log_levels},
	DAEMON("ReadGroup", KEY_NAME, read_group, "dhash", "group that may ask"),
	DAEMON("OperateGroup", KEY_NAME, operate_group, "dhash-operators", "group that may change"),
	DAEMON("Workers", KEY_UINT, workers, "2", "threads for archives and hashes"),

	ENV("Description", KEY_STRING, env.description, "", "for people"),
	ENV("WorkingDirectory", KEY_PATH, env.working_directory, "/",
	    "where hooks run and names begin"),
	ENV("User", KEY_NAME, env.user, "", "user that hooks run as"),
	ENV("HealthURL", KEY_STRING, health_url, "", "HTTP check named health"),
	ENV("Timeout", KEY_SPAN_SET, health_timeout_usec, "10s", "of checks that set none"),
	ENV("Expect", KEY_STATUSES, expect, "200-299", "HTTP statuses that pass"),
	ENV("Body", KEY_REGEX, body, "", "extended regex that HealthURL's body must match"),
	ENV("Reference", KEY_STRING, reference, "",
	    "URL or HOST:PORT that tells whether we are cut off"),
	ENV("MetricsURL", KEY_STRING, env.metrics.url, "", "Prometheus text"),
	ENV("Deploy", KEY_ARGV, env.deploy, "", "deploy hook"),
	ENV("Rollback", KEY_ARGV, env.rollback, "", "rollback hook"),
	ENV("Restart", KEY_ARGV, env.restart, "", "restart hook of the built-in engine"),
	ENV("Artifact", KEY_STRING, env.artifact, "",
	    "archive to unpack; turns the built-in engine on"),
	ENV("Releases", KEY_PATH, env.releases,
	    "WorkingDirectory=", "folder of releases/ and current"),
	ENV("BackupPaths", KEY_WORDS, env.backup_paths, "", "what a backup holds"),
	ENV("BackupDirectory", KEY_PATH, env.backup_dir, "STATE/backups", "where backups go"),
	ENV("After", KEY_NAME, env.after, "", "environment that must have succeeded first"),
	ENV("Watch", KEY_SPAN_SET, watch_usec, "", "one phase (smoke) of this length, not three"),
	ENV("Interval", KEY_SPAN_SET, interval_usec, "30s", "grid of the phase that Watch= makes"),
	ENV("Settle", KEY_SPAN, env.policy.settle_usec, "30s", "from the hook's end to T+0"),
	ENV("GatesTimeout", KEY_SPAN_SET, env.policy.gates_timeout_usec, "2min", "for all gates"),
	ENV("BackupTimeout", KEY_SPAN_SET, env.policy.backup_timeout_usec, "30min",
	    "for one backup"),
	ENV("DeployTimeout", KEY_SPAN_SET, env.policy.deploy_timeout_usec, "30min",
	    "for the deploy hook"),
	ENV("RollbackTimeout", KEY_SPAN_SET, env.policy.rollback_timeout_usec, "30min",
	    "for the rollback hook"),
	ENV("VerifyInterval", KEY_SPAN_SET, env.policy.verify_interval_usec, "10s",
	    "between health rounds after a rollback"),
	ENV("VerifyTimeout", KEY_SPAN_SET, env.policy.verify_timeout_usec, "5min",
	    "for the service to be healthy after a rollback"),
	ENV("VerifyPasses", KEY_UINT, env.policy.verify_passes, "3",
	    "rounds in a row that prove it"),
	ENV("PostWatch", KEY_SPAN, env.policy.post_watch_usec, "30min", "watch after a rollback"),
	ENV("PostInterval", KEY_SPAN_SET, env.policy.post_interval_usec, "30s", "its grid"),
	ENV("RecoveryInterval", KEY_SPAN_SET, env.policy.recovery_interval_usec, "30s",
	    "between rounds after a failed rollback"),
	ENV("IdleInterval", KEY_SPAN, env.policy.idle_interval_usec, "1min",
	    "between health rounds while nothing is deployed; 0 = none"),
	ENV("Recheck", KEY_SPAN_SET, env.policy.recheck_usec, "30s", "interval while suspect"),
	ENV("RecheckGood", KEY_UINT, env.policy.recheck_good, "3",
	    "good samples that end suspicion"),
	ENV("MinCoverage", KEY_RATIO, env.policy.min_coverage, "90%", "of each phase, to succeed"),
	{"Environment NAME", "OnMissing", KEY_CHOICE, OWN_DRAFT,
	 offsetof(struct draft, env.policy.on_missing), "hold",
	 "what an answer without data counts as", missings},
	ENV("EscalateWarnings", KEY_UINT, env.policy.escalate_warnings, "3", "so many warnings …"),
	ENV("EscalateWindow", KEY_SPAN_SET, env.policy.escalate_window_usec, "15min",
	    "… within this escalate"),
	ENV("EscalateCriticals", KEY_UINT, env.policy.escalate_criticals, "2",
	    "so many critical causes at once escalate"),
	{"Environment NAME", "OnEscalation", KEY_CHOICE, OWN_DRAFT,
	 offsetof(struct draft, on_escalation), "notify", "what an escalation does", escalations},
	ENV("HookEnvironment", KEY_WORDS, env.hook_environment, "", "NAME=value … added for hooks"),
	ENV("HookKill", KEY_SPAN_SET, env.hook_kill_usec, "10s", "from SIGTERM to SIGKILL"),
	ENV("HookOutputMax", KEY_BYTES, env.hook_output_max_bytes, "10M", "output that is kept"),

	{"Check NAME", "Type", KEY_CHOICE, OWN_CHECK, offsetof(struct conf_check, type),
	 "by the keys", "http, tcp or exec", check_types},
	CHECK("URL", KEY_STRING, url, "", "http: what is asked"),
	CHECK("Address", KEY_STRING, address, "", "tcp: HOST:PORT"),
	CHECK("Command", KEY_ARGV, argv, "", "exec: monitoring plugin"),
	CHECK("Timeout", KEY_SPAN_SET, timeout_usec, "10s", "for one answer"),
	CHECK("Expect", KEY_STATUSES, expect, "200-299", "http: statuses that pass"),
	CHECK("Body", KEY_REGEX, body, "", "http: extended regex that the body must match"),
	CHECK("Credential", KEY_NAME, credential, "", "http: name of the bearer token to send"),
	CHECK("Required", KEY_BOOL, required, "yes", "a failure fails the health round"),
	CHECK("Infrastructure", KEY_BOOL, infrastructure, "no",
	      "feeds the infrastructure rule instead"),

	PHASE("Until", KEY_SPAN, until_usec, "15min, 60min, 240min",
	      "end, from T+0; 0 removes the phase"),
	PHASE("Interval", KEY_SPAN_SET, interval_usec, "30s, 60s, 300s", "grid"),

	{"Rule NAME", "Mode", KEY_CHOICE, OWN_RULE, offsetof(struct rule_policy, mode), "enforce",
	 "enforce, observe or off", rule_modes},
	{"Rule NAME", "Sustain", KEY_CHOICE, OWN_RULE, offsetof(struct rule_policy, sustain),
	 "statistical", "how For= is read", sustains},
	RULE("Failures", KEY_UINT, failures, "3", "health: failed rounds in a row"),
	RULE("Limit", KEY_LIMIT, limit, "10%, 5s", "error-rate: share; latency-p95: time"),
	RULE("Warn", KEY_LIMIT, warn_limit, "5%, 2s", "limit of the warning"),
	RULE("For", KEY_SPAN_SET, hold_usec, "5min, 10min", "how long the breach must last"),
	RULE("MinRequests", KEY_UINT, min_requests, "40", "fewer in the hold time say nothing"),

	METRIC("Credential", KEY_NAME, credential, "", "name of the bearer token to send"),
	METRIC("Requests", KEY_SELECTOR, requests, "http_requests_total",
	       "counter of all requests"),
	METRIC("Errors", KEY_SELECTOR, errors, "http_requests_total{code=~\"5..\"}",
	       "counter of errors"),
	METRIC("Latency", KEY_SELECTOR, latency, "http_request_duration_seconds", "histogram"),
	METRIC("ErrorRatio", KEY_SELECTOR, error_ratio, "",
	       "gauge, instead of Requests and Errors"),
	METRIC("P95", KEY_SELECTOR, p95, "", "gauge in seconds, instead of Latency"),
	METRIC("Timeout", KEY_SPAN_SET, timeout_usec, "10s", "for one answer"),
	METRIC("MaxSize", KEY_BYTES, max_bytes, "8M", "of one answer"),
};
const size_t conf_key_table_len = ARRAY_SIZE(conf_key_table);

const struct conf_key *
conf_key_find(enum key_owner owner, const char *key)
{
	for (size_t i = 0; i < conf_key_table_len; i++)
		if (conf_key_table[i].owner == owner && streq(conf_key_table[i].key, key))
			return &conf_key_table[i];
	return NULL;
}

const struct conf_key_doc *
conf_keys(size_t *ret_n)
{
	static struct conf_key_doc docs[ARRAY_SIZE(conf_key_table)];
	static const char *const types[] = {
		[KEY_STRING] = "text",       [KEY_NAME] = "name",     [KEY_PATH] = "path",
		[KEY_SPAN] = "time",         [KEY_SPAN_SET] = "time", [KEY_UINT] = "number",
		[KEY_BOOL] = "yes/no",       [KEY_BYTES] = "size",    [KEY_RATIO] = "share",
		[KEY_SECONDS] = "time",      [KEY_LIMIT] = "limit",   [KEY_ARGV] = "command",
		[KEY_WORDS] = "words",       [KEY_REGEX] = "regex",   [KEY_STATUSES] = "statuses",
		[KEY_SELECTOR] = "selector", [KEY_CHOICE] = "choice",
	};

	for (size_t i = 0; i < ARRAY_SIZE(docs); i++) {
		const struct conf_key *k = &conf_key_table[i];

		docs[i] =
			(struct conf_key_doc){k->section, k->key, types[k->type], k->def, k->help};
	}
	*ret_n = ARRAY_SIZE(docs);
	return docs;
}

/* --- values --- */

static int
refuse(char **ret_why, char *why)
{
	*ret_why = why;
	return -EINVAL;
}

static void
keep_string(void *field, const char *value)
{
	char **s = field;

	free(*s);
	*s = *value ? xstrdup(value) : NULL;
}

static int
parse_double(const char *value, double *ret)
{
	char *end;
	double v;

	if (!strchr("0123456789.", *value))
		return -EINVAL;
	errno = 0;
	v = strtod(value, &end);
	if (errno || end == value || !isfinite(v))
		return -EINVAL;
	if (streq(end, "%"))
		v /= 100;
	else if (*end)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int
set_ratio(void *field, const char *value, char **ret_why)
{
	double v;

	if (parse_double(value, &v) < 0 || v < 0 || v > 1)
		return refuse(
			ret_why,
			xasprintf("\"%s\" is no share: write 10%% or 0.1, from 0 to 100%%", value));
	*(double *)field = v;
	return 0;
}

static int
set_span(void *field, const char *value, bool may_be_zero, char **ret_why)
{
	usec_t v;
	int r = usec_parse(value, &v);

	if (r == -ERANGE)
		return refuse(ret_why, xasprintf("\"%s\" is over 100 years", value));
	if (r < 0)
		return refuse(ret_why,
			      xasprintf("\"%s\" is no time span: write 30s, 15min, 1h 30min or "
					"100ms",
					value));
	if (v == 0 && !may_be_zero)
		return refuse(ret_why, xstrdup("it must not be 0"));
	*(usec_t *)field = v;
	return 0;
}

static int
set_seconds(void *field, const char *value, char **ret_why)
{
	usec_t v;

	if (set_span(&v, value, false, ret_why) < 0)
		return -EINVAL;
	*(double *)field = (double)v / USEC_PER_SEC;
	return 0;
}

static int
set_uint(void *field, const char *value, char **ret_why)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(value, &end, 10);
	if (errno || *end || *value < '0' || *value > '9' || v < 1 || v > 1000000)
		return refuse(ret_why, xasprintf("\"%s\" is no number from 1 to 1000000", value));
	*(unsigned *)field = (unsigned)v;
	return 0;
}

static int
set_bytes(void *field, const char *value, char **ret_why)
{
	static const char units[] = "KMG";
	char *end;
	unsigned long long v, factor = 1;
	const char *unit;

	errno = 0;
	v = strtoull(value, &end, 10);
	if (*end && (unit = strchr(units, *end)) && end[1] == '\0') {
		factor = 1ull << (10 * (unit - units + 1));
		end++;
	}
	if (errno || *end || *value < '0' || *value > '9' || v == 0 || v > (1ull << 40) / factor)
		return refuse(ret_why,
			      xasprintf("\"%s\" is no size: write 500K, 10M or 1G", value));
	*(size_t *)field = (size_t)(v * factor);
	return 0;
}

static int
set_bool(void *field, const char *value, char **ret_why)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
			*(bool *)field = strcasecmp(value, yes[i]) == 0;
			return 0;
		}
	}
	return refuse(ret_why, xasprintf("\"%s\" is neither yes nor no", value));
}

static int
set_choice(const struct conf_key *k, void *field, const char *value, char **ret_why)
{
	size_t n = strv_len((char *const *)k->choices);
	const char *near;

	for (size_t i = 0; i < n; i++) {
		if (!streq(k->choices[i], value))
			continue;
		if (k->choices == log_levels)
			keep_string(field, value);
		else
			*(int *)field = (int)i;
		return 0;
	}
	near = nearest_name(value, k->choices, n);
	return refuse(ret_why,
		      near ? xasprintf("\"%s\" is not known; did you mean \"%s\"?", value, near)
			   : xasprintf("\"%s\" is not known; see dhashd.conf(5)", value));
}

static int
set_words(void *field, const char *value, char **ret_why)
{
	char ***v = field, **words = NULL;

	if (*value && hook_line_split(value, &words, ret_why) < 0)
		return -EINVAL;
	strv_free(*v);
	*v = words;
	return 0;
}

static int
set_regex(void *field, const char *value, char **ret_why)
{
	char why[PATTERN_WHY_MAX];
	regex_t re;

	if (pattern_compile(value, 0, &re, why) < 0)
		return refuse(ret_why, xasprintf("\"%s\" is no extended regular expression: %s",
						 value, why));
	regfree(&re);
	keep_string(field, value);
	return 0;
}

static int
set_statuses(void *field, const char *value, char **ret_why)
{
	const char *p = value;

	for (;;) {
		int from, to, n = 0;

		if (sscanf(p, " %3d%n", &from, &n) != 1 || n == 0)
			break;
		p += n;
		to = from;
		if (*p == '-' && (sscanf(p, "-%3d%n", &to, &n) != 1))
			break;
		else if (*p == '-')
			p += n;
		if (from < 100 || to > 599 || from > to)
			break;
		p += strspn(p, " ");
		if (*p == '\0') {
			keep_string(field, value);
			return 0;
		}
		if (*p++ != ',')
			break;
	}
	return refuse(ret_why,
		      xasprintf("\"%s\" is no list of HTTP statuses: write 200-299,301", value));
}

static int
set_selector(void *field, const char *value, char **ret_why)
{
	struct selector *s = NULL;

	if (*value && selector_parse(value, &s, ret_why) < 0)
		return -EINVAL;
	selector_free(s);
	keep_string(field, value);
	return 0;
}

static int
set_name(void *field, const char *value, char **ret_why)
{
	if (*value && !name_valid(value))
		return refuse(ret_why,
			      xasprintf("\"%s\" is no name: A-Z a-z 0-9 . _ -, at most 64", value));
	keep_string(field, value);
	return 0;
}

static int
set_path(void *field, const char *value, char **ret_why)
{
	if (*value && *value != '/')
		return refuse(ret_why, xasprintf("\"%s\" is no absolute path", value));
	keep_string(field, value);
	return 0;
}

int
conf_key_set(const struct conf_key *k, void *base, enum rule_kind rule, const char *value,
	     char **ret_why)
{
	void *field = (char *)base + k->offset;

	switch (k->type) {
	case KEY_NAME:
		return set_name(field, value, ret_why);
	case KEY_PATH:
		return set_path(field, value, ret_why);
	case KEY_SPAN:
	case KEY_SPAN_SET:
		return set_span(field, value, k->type == KEY_SPAN, ret_why);
	case KEY_UINT:
		return set_uint(field, value, ret_why);
	case KEY_BOOL:
		return set_bool(field, value, ret_why);
	case KEY_BYTES:
		return set_bytes(field, value, ret_why);
	case KEY_RATIO:
		return set_ratio(field, value, ret_why);
	case KEY_SECONDS:
		return set_seconds(field, value, ret_why);
	case KEY_LIMIT:
		return rule == RULE_LATENCY_P95 ? set_seconds(field, value, ret_why)
						: set_ratio(field, value, ret_why);
	case KEY_ARGV:
	case KEY_WORDS:
		return set_words(field, value, ret_why);
	case KEY_REGEX:
		return set_regex(field, value, ret_why);
	case KEY_STATUSES:
		return set_statuses(field, value, ret_why);
	case KEY_SELECTOR:
		return set_selector(field, value, ret_why);
	case KEY_CHOICE:
		return set_choice(k, field, value, ret_why);
	default:
		keep_string(field, value);
		return 0;
	}
}

/* One word so that hook_line_split() gives the very same one back. */
static void
quote_word(char **text, const char *word)
{
	char *quoted = xmalloc(strlen(word) * 2 + 3), *p = quoted, *joined;

	*p++ = '"';
	for (; *word; word++) {
		if (*word == '"' || *word == '\\')
			*p++ = '\\';
		*p++ = *word;
	}
	*p++ = '"';
	*p = '\0';
	joined = *text ? xasprintf("%s %s", *text, quoted) : xstrdup(quoted);
	free(*text);
	free(quoted);
	*text = joined;
}

static char *
exact_span(usec_t v)
{
	char buf[USEC_TEXT_MAX];

	return xstrdup(usec_format_exact(buf, v));
}

char *
conf_key_text(const struct conf_key *k, const void *base, enum rule_kind rule)
{
	const void *field = (const char *)base + k->offset;
	char *text = NULL;

	switch (k->type) {
	case KEY_SPAN:
		return exact_span(*(const usec_t *)field);
	case KEY_SPAN_SET: /* 0 is what was never set, of rules that do not use it */
		return *(const usec_t *)field ? exact_span(*(const usec_t *)field) : NULL;
	case KEY_UINT:
		return *(const unsigned *)field ? xasprintf("%u", *(const unsigned *)field) : NULL;
	case KEY_BOOL:
		return xstrdup(*(const bool *)field ? "yes" : "no");
	case KEY_BYTES:
		return xasprintf("%zu", *(const size_t *)field);
	case KEY_SECONDS:
		return exact_span(llround(*(const double *)field * USEC_PER_SEC));
	case KEY_LIMIT:
		if (rule == RULE_LATENCY_P95)
			return exact_span(llround(*(const double *)field * USEC_PER_SEC));
		return xasprintf("%.17g", *(const double *)field);
	case KEY_RATIO:
		return xasprintf("%.17g", *(const double *)field);
	case KEY_ARGV:
	case KEY_WORDS:
		for (char *const *w = *(char *const *const *)field; w && *w; w++)
			quote_word(&text, *w);
		return text;
	case KEY_CHOICE:
		if (k->choices != log_levels)
			return xstrdup(k->choices[*(const int *)field]);
		break;
	default:
		break;
	}
	return *(char *const *)field ? xstrdup(*(char *const *)field) : NULL;
}

static bool
is_vector(enum key_type t)
{
	return t == KEY_ARGV || t == KEY_WORDS;
}

static bool
is_string(const struct conf_key *k)
{
	switch (k->type) {
	case KEY_STRING:
	case KEY_NAME:
	case KEY_PATH:
	case KEY_REGEX:
	case KEY_STATUSES:
	case KEY_SELECTOR:
		return true;
	case KEY_CHOICE:
		return k->choices == log_levels;
	default:
		return false;
	}
}

void
conf_key_free(const struct conf_key *k, void *base)
{
	void *field = (char *)base + k->offset;

	if (is_vector(k->type)) {
		strv_free(*(char ***)field);
		*(char ***)field = NULL;
	} else if (is_string(k)) {
		free(*(char **)field);
		*(char **)field = NULL;
	}
}
