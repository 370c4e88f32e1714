/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries to environments.  A value comes from the section nearest to the environment: [Rule X
 * ENV], then [Rule X], then the default; [Environment E], then [Service].  Every entry is tried
 * once against scratch structs, so that each error is told once, however many environments it would
 * reach.
 */

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "common/util.h"
#include "daemon/conf_internal.h"

struct conf_check *
conf_check_new(const char *name)
{
	struct conf_check *c = xcalloc(1, sizeof *c);

	c->name = xstrdup(name);
	c->type = CHECK_HTTP;
	c->required = true;
	return c;
}

void
conf_check_free(struct conf_check *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < conf_key_table_len; i++)
		if (conf_key_table[i].owner == OWN_CHECK)
			conf_key_free(&conf_key_table[i], c);
	free(c->name);
	free(c);
}

static void
draft_done(struct draft *d)
{
	for (size_t i = 0; i < conf_key_table_len; i++)
		if (conf_key_table[i].owner == OWN_DRAFT)
			conf_key_free(&conf_key_table[i], d);
}

/* --- sections --- */

/* "Rule error-rate production": kind, name, environment. */
enum { NAME_BUF = 70 };

struct section {
	char kind[32], name[NAME_BUF], env[NAME_BUF];
	unsigned words;
};

static struct section
section_split(const char *text)
{
	struct section s = {0};
	char rest[8];
	int n = sscanf(text, "%31s %69s %69s %7s", s.kind, s.name, s.env, rest);

	s.words = n > 0 ? (unsigned)n : 0;
	return s;
}

static const struct section_kind {
	const char *kind;
	enum key_owner owner;
	unsigned min_words, max_words; /* with the kind itself */
} section_kinds[] = {
	{"Service", OWN_DRAFT, 1, 1},   {"Environment", OWN_DRAFT, 2, 2},
	{"Check", OWN_CHECK, 2, 3},     {"Reference", OWN_CHECK, 1, 1},
	{"Phase", OWN_PHASE, 2, 3},     {"Rule", OWN_RULE, 2, 3},
	{"Metrics", OWN_METRICS, 1, 2},
};

static const struct section_kind *
section_kind(const struct section *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(section_kinds); i++)
		if (streq(section_kinds[i].kind, s->kind))
			return &section_kinds[i];
	return NULL;
}

static int
rule_of(const char *name)
{
	for (int r = 0; r < _RULE_MAX; r++)
		if (streq(rule_kind_name(r), name))
			return r;
	return -1;
}

static bool
env_exists(const struct conf_file *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++) {
		struct section s = section_split(f->v[i].section);

		if (streq(s.kind, "Environment") && streq(s.name, name))
			return true;
	}
	return false;
}

/* In [Metrics ENV] the environment is the second word, elsewhere the third. */
static const char *
section_env(const struct section *s)
{
	return streq(s->kind, "Metrics") ? s->name : s->env;
}

static const char *
section_problem(const struct conf_file *f, const struct section *s, char buf[256])
{
	static const char *const kinds[] = {"Service", "Environment", "Check",  "Reference",
					    "Phase",   "Rule",        "Metrics"};
	static const char *const rules[] = {"health", "error-rate", "latency-p95",
					    "infrastructure"};
	const struct section_kind *k = section_kind(s);
	const char *near;

	if (!k) {
		near = nearest_name(s->kind, kinds, ARRAY_SIZE(kinds));
		snprintf(buf, 256, "unknown section%s%s%s", near ? "; did you mean [" : "",
			 near ? near : "", near ? " …]?" : "");
		return buf;
	}
	if (s->words < k->min_words || s->words > k->max_words)
		return "the section's line has too few or too many words; see dhashd.conf(5)";
	if (k->owner == OWN_RULE && rule_of(s->name) < 0) {
		near = nearest_name(s->name, rules, ARRAY_SIZE(rules));
		snprintf(buf, 256,
			 "unknown rule \"%s\"%s%s%s; there are health, error-rate, latency-p95 "
			 "and infrastructure",
			 s->name, near ? "; did you mean \"" : "", near ? near : "",
			 near ? "\"?" : "");
		return buf;
	}
	if (k->min_words == 2 && !name_valid(s->name))
		return "the name may hold A-Z a-z 0-9 . _ - only, at most 64 of them";
	if (k->owner == OWN_PHASE && strlen(s->name) >= PHASE_NAME_MAX)
		return "the phase's name is longer than 31 characters";
	if (k->owner != OWN_DRAFT && *section_env(s) && !env_exists(f, section_env(s))) {
		snprintf(buf, 256, "there is no [Environment %s]", section_env(s));
		return buf;
	}
	return NULL;
}

/* --- trying every entry once --- */

static void
unknown_key(const struct conf_file *f, const struct conf_entry *e, enum key_owner owner,
	    struct conf_errors *errors)
{
	const char *names[64], *near;
	size_t n = 0;

	for (size_t i = 0; i < conf_key_table_len && n < ARRAY_SIZE(names); i++)
		if (conf_key_table[i].owner == owner)
			names[n++] = conf_key_table[i].key;
	near = nearest_name(e->key, names, n);
	if (near)
		conf_error_add(errors, f->path, e->line,
			       "unknown key \"%s\" in [%s]; did you mean \"%s\"?", e->key,
			       e->section, near);
	else
		conf_error_add(errors, f->path, e->line,
			       "unknown key \"%s\" in [%s]; see dhashd.conf(5)", e->key,
			       e->section);
}

static void
try_value(const struct conf_file *f, const struct conf_entry *e, const struct conf_key *k,
	  enum rule_kind rule, struct conf_errors *errors)
{
	union {
		struct draft draft;
		struct conf_check check;
		struct phase phase;
		struct rule_policy rule;
		struct conf_metrics metrics;
		struct daemon_keys daemon;
	} scratch;
	char *why = NULL;

	memset(&scratch, 0, sizeof scratch);
	if (conf_key_set(k, &scratch, rule, e->value, &why) < 0)
		conf_error_add(errors, f->path, e->line, "%s= in [%s]: %s", e->key, e->section,
			       why);
	free(why);
	conf_key_free(k, &scratch);
}

static void
try_entries(const struct conf_file *f, struct conf_errors *errors)
{
	char buf[256];

	for (size_t i = 0; i < f->n; i++) {
		const struct conf_entry *e = &f->v[i];
		struct section s = section_split(e->section);
		const char *problem = section_problem(f, &s, buf);
		const struct conf_key *k;

		if (!e->key && problem)
			conf_error_add(errors, f->path, e->line, "[%s]: %s", e->section, problem);
		if (!e->key || !section_kind(&s))
			continue;
		k = conf_key_find(section_kind(&s)->owner, e->key);
		if (!k && streq(s.kind, "Service") && streq(e->key, "Name"))
			continue; /* written by conf_env_dump() */
		if (!k)
			unknown_key(f, e, section_kind(&s)->owner, errors);
		else
			try_value(f, e, k, MAX(0, rule_of(s.name)), errors);
	}
}

/* --- putting an environment together --- */

struct build {
	const struct conf_file *file;
	const char *service;
	const char *env;
	enum build_mode mode;
	struct conf_errors *errors;
	struct draft draft;
	struct conf_check **checks; /* owned, NULL-terminated */
	size_t n_checks;
	struct conf_check *reference; /* owned */
};

static const struct conf_entry *
find_entry(const struct build *b, const char *section, const char *key)
{
	for (size_t i = 0; i < b->file->n; i++) {
		const struct conf_entry *e = &b->file->v[i];

		if (streq(e->section, section) && (!key ? !e->key : e->key && streq(e->key, key)))
			return e;
	}
	return NULL;
}

/* The line to complain about: the environment's own key, the service's, or the environment's
 * section. */
static unsigned
line_of(const struct build *b, const char *key)
{
	char section[128];
	const struct conf_entry *e;

	snprintf(section, sizeof section, "Environment %s", b->env);
	e = key ? find_entry(b, section, key) : NULL;
	if (!e && key)
		e = find_entry(b, "Service", key);
	if (!e)
		e = find_entry(b, section, NULL);
	return e ? e->line : 0;
}

#define COMPLAIN(b, key, ...)                                                                      \
	conf_error_add((b)->errors, (b)->file->path, line_of(b, key), __VA_ARGS__)

/* Sets every key of the sections that `kind` and `name` (NULL = none) match, for all environments
 * or for this one.  Bad values were told before and are passed over. */
static void
apply(struct build *b, const char *kind, const char *name, bool own, enum key_owner owner,
      void *base, enum rule_kind rule)
{
	for (size_t i = 0; i < b->file->n; i++) {
		const struct conf_entry *e = &b->file->v[i];
		struct section s = section_split(e->section);
		const struct conf_key *k;
		char *why = NULL;

		if (!e->key || !streq(s.kind, kind) || (name && !streq(s.name, name)))
			continue;
		if (owner != OWN_DRAFT &&
		    (own ? !streq(section_env(&s), b->env) : *section_env(&s) != '\0'))
			continue;
		k = conf_key_find(owner, e->key);
		if (k)
			conf_key_set(k, base, rule, e->value, &why);
		free(why);
	}
}

static void
apply_both(struct build *b, const char *kind, const char *name, enum key_owner owner, void *base,
	   enum rule_kind rule)
{
	apply(b, kind, name, false, owner, base, rule);
	apply(b, kind, name, true, owner, base, rule);
}

static void
draft_init(struct build *b)
{
	struct draft *d = &b->draft;

	memset(d, 0, sizeof *d);
	policy_init(&d->env.policy);
	d->health_timeout_usec = 10 * USEC_PER_SEC;
	d->interval_usec = 30 * USEC_PER_SEC;
	d->env.hook_kill_usec = 10 * USEC_PER_SEC;
	d->env.hook_output_max_bytes = 10 << 20;
	d->env.metrics.timeout_usec = 10 * USEC_PER_SEC;
	d->env.metrics.max_bytes = 8 << 20;
}

static int
phase_cmp(const void *a, const void *b)
{
	const struct phase *x = a, *y = b;

	return x->until_usec < y->until_usec ? -1 : x->until_usec > y->until_usec;
}

static struct phase *
phase_get(struct build *b, const char *name)
{
	struct policy *p = &b->draft.env.policy;

	for (unsigned i = 0; i < p->n_phases; i++)
		if (streq(p->phases[i].name, name))
			return &p->phases[i];
	if (p->n_phases == POLICY_PHASES_MAX)
		return NULL;
	memset(&p->phases[p->n_phases], 0, sizeof p->phases[0]);
	str_copy(p->phases[p->n_phases].name, PHASE_NAME_MAX, name);
	p->phases[p->n_phases].interval_usec = 30 * USEC_PER_SEC;
	return &p->phases[p->n_phases++];
}

/* Phases with Until=0 are removed; what is left must be in order and have a grid that fits. */
static void
phases_check(struct build *b)
{
	struct policy *p = &b->draft.env.policy;
	unsigned n = 0;

	for (unsigned i = 0; i < p->n_phases; i++)
		if (p->phases[i].until_usec > 0)
			p->phases[n++] = p->phases[i];
	memset(&p->phases[n], 0, (POLICY_PHASES_MAX - n) * sizeof p->phases[0]);
	p->n_phases = n;
	qsort(p->phases, n, sizeof p->phases[0], phase_cmp);
	if (n == 0)
		COMPLAIN(b, NULL, "[Environment %s] has no phase left: it would never be watched",
			 b->env);
	for (unsigned i = 0; i < n; i++) {
		usec_t begin = i ? p->phases[i - 1].until_usec : 0;
		char text[USEC_TEXT_MAX];

		if (p->phases[i].until_usec == begin)
			COMPLAIN(b, NULL, "phases %s and %s of %s both end at T+%s",
				 p->phases[i - 1].name, p->phases[i].name, b->env,
				 usec_format(text, begin));
		else if (p->phases[i].interval_usec > p->phases[i].until_usec - begin)
			COMPLAIN(b, NULL,
				 "phase %s of %s is shorter than its Interval=: it would have no "
				 "sample of its own",
				 p->phases[i].name, b->env);
	}
}

static void
phases_build(struct build *b)
{
	struct draft *d = &b->draft;
	struct policy *p = &d->env.policy;

	if (b->mode == BUILD_FROZEN || d->watch_usec > 0) {
		memset(p->phases, 0, sizeof p->phases);
		p->n_phases = 0;
	}
	if (d->watch_usec > 0) {
		struct phase *smoke = phase_get(b, "smoke");

		smoke->until_usec = d->watch_usec;
		smoke->interval_usec = d->interval_usec;
	}
	for (size_t i = 0; i < b->file->n; i++) {
		const struct conf_entry *e = &b->file->v[i];
		struct section s = section_split(e->section);
		struct phase *ph;

		/* Watch= replaces what is said for all environments. */
		if (e->key || !streq(s.kind, "Phase") || strlen(s.name) >= PHASE_NAME_MAX ||
		    (d->watch_usec > 0 && !streq(s.env, b->env)) ||
		    (*s.env && !streq(s.env, b->env)))
			continue;
		ph = phase_get(b, s.name);
		if (!ph)
			conf_error_add(b->errors, b->file->path, e->line, "more than %d phases",
				       POLICY_PHASES_MAX);
		else
			apply_both(b, "Phase", s.name, OWN_PHASE, ph, 0);
	}
	phases_check(b);
}

/* --- checks --- */

static void
check_add(struct build *b, struct conf_check *c)
{
	b->checks = xrealloc(b->checks, (b->n_checks + 2) * sizeof *b->checks);
	b->checks[b->n_checks++] = c;
	b->checks[b->n_checks] = NULL;
}

static void
check_default(const struct draft *d, struct conf_check *c)
{
	if (!c->timeout_usec)
		c->timeout_usec = d->health_timeout_usec;
	if (!c->expect && c->type == CHECK_HTTP)
		c->expect = xstrdup(d->expect ? d->expect : "200-299");
}

/* The type is what the keys say, where Type= does not. */
static void
check_finish(struct build *b, struct conf_check *c, unsigned line, bool type_given)
{
	const char *file = b->file->path;

	if (!type_given)
		c->type = c->argv ? CHECK_EXEC : c->address ? CHECK_TCP : CHECK_HTTP;
	check_default(&b->draft, c);
	if ((c->url != NULL) + (c->address != NULL) + (c->argv != NULL) > 1)
		conf_error_add(b->errors, file, line,
			       "check %s: only one of URL=, Address= and Command=", c->name);
	else if (c->type == CHECK_HTTP && !c->url)
		conf_error_add(b->errors, file, line,
			       "check %s has no URL=, Address= or Command=", c->name);
	else if (c->type == CHECK_TCP && !c->address)
		conf_error_add(b->errors, file, line, "check %s: Type=tcp needs Address=HOST:PORT",
			       c->name);
	else if (c->type == CHECK_EXEC && !c->argv)
		conf_error_add(b->errors, file, line,
			       "check %s: Type=exec needs Command=", c->name);
	if (c->url && strncmp(c->url, "http://", 7) != 0 && strncmp(c->url, "https://", 8) != 0)
		conf_error_add(b->errors, file, line,
			       "check %s: %s is neither http:// nor https://", c->name, c->url);
	if (c->address && !strrchr(c->address, ':'))
		conf_error_add(b->errors, file, line, "check %s: %s has no port; write HOST:PORT",
			       c->name, c->address);
}

static void
check_sections(struct build *b)
{
	for (size_t i = 0; i < b->file->n; i++) {
		const struct conf_entry *e = &b->file->v[i];
		struct section s = section_split(e->section);
		struct conf_check *c;
		bool seen = false;
		char own[160];

		if (e->key || !streq(s.kind, "Check") || (*s.env && !streq(s.env, b->env)))
			continue;
		for (size_t j = 0; j < b->n_checks; j++)
			seen |= streq(b->checks[j]->name, s.name);
		if (seen)
			continue;
		c = conf_check_new(s.name);
		apply_both(b, "Check", s.name, OWN_CHECK, c, 0);
		snprintf(own, sizeof own, "Check %s %s", s.name, b->env);
		check_finish(b, c, e->line,
			     find_entry(b, e->section, "Type") || find_entry(b, own, "Type"));
		check_add(b, c);
	}
}

static void
checks_build(struct build *b)
{
	struct draft *d = &b->draft;

	if (d->health_url) {
		struct conf_check *c = conf_check_new("health");

		c->url = xstrdup(d->health_url);
		c->body = d->body ? xstrdup(d->body) : NULL;
		check_finish(b, c, line_of(b, "HealthURL"), false);
		check_add(b, c);
	}
	check_sections(b);
	if (d->reference || find_entry(b, "Reference", NULL)) {
		struct conf_check *c = conf_check_new("reference");

		if (d->reference && strstr(d->reference, "://"))
			c->url = xstrdup(d->reference);
		else if (d->reference)
			c->address = xstrdup(d->reference);
		apply(b, "Reference", NULL, false, OWN_CHECK, c, 0);
		check_finish(b, c, line_of(b, "Reference"), false);
		b->reference = c;
	}
}

/* --- metrics and policy --- */

static void
metrics_build(struct build *b)
{
	struct conf_metrics *m = &b->draft.env.metrics;
	bool any;

	apply_both(b, "Metrics", NULL, OWN_METRICS, m, 0);
	any = m->requests || m->errors || m->latency || m->error_ratio || m->p95;
	if (!m->url) {
		/* Selectors for all environments do no harm where one has no source. */
		char own[128];

		snprintf(own, sizeof own, "Metrics %s", b->env);
		if (any && find_entry(b, own, NULL))
			COMPLAIN(b, NULL, "[Metrics %s] without MetricsURL= in [Environment %s]",
				 b->env, b->env);
		return;
	}
	if (strncmp(m->url, "http://", 7) != 0 && strncmp(m->url, "https://", 8) != 0)
		COMPLAIN(b, "MetricsURL", "MetricsURL=: %s is neither http:// nor https://",
			 m->url);
	if (!any && b->mode == BUILD_FILE) {
		m->requests = xstrdup("http_requests_total");
		m->errors = xstrdup("http_requests_total{code=~\"5..\"}");
		m->latency = xstrdup("http_request_duration_seconds");
	}
	if (m->error_ratio && (m->requests || m->errors))
		COMPLAIN(b, "MetricsURL", "[Metrics]: ErrorRatio= excludes Requests= and Errors=");
	else if (!m->requests != !m->errors)
		COMPLAIN(b, "MetricsURL", "[Metrics]: Requests= and Errors= belong together");
	if (m->p95 && m->latency)
		COMPLAIN(b, "MetricsURL", "[Metrics]: P95= excludes Latency=");
}

/* A limit below the default of the warning takes the warning down with it. */
static void
warn_default(struct build *b, int rule)
{
	struct rule_policy *r = &b->draft.env.policy.rules[rule];
	char section[128], own[160];

	snprintf(section, sizeof section, "Rule %s", rule_kind_name(rule));
	snprintf(own, sizeof own, "%s %s", section, b->env);
	if (r->warn_limit > r->limit && !find_entry(b, section, "Warn") &&
	    !find_entry(b, own, "Warn"))
		r->warn_limit = rint(r->limit / 2 * USEC_PER_SEC) / USEC_PER_SEC;
}

static void
policy_build(struct build *b)
{
	struct policy *p = &b->draft.env.policy;
	const struct conf_metrics *m = &b->draft.env.metrics;

	for (int r = 0; r < _RULE_MAX; r++) {
		apply_both(b, "Rule", rule_kind_name(r), OWN_RULE, &p->rules[r], r);
		warn_default(b, r);
	}
	p->rollback_on_escalation = b->draft.on_escalation == 1;
	for (size_t i = 0; i < b->n_checks; i++) {
		p->has_infrastructure |= b->checks[i]->infrastructure;
		p->has_health |= !b->checks[i]->infrastructure && b->checks[i]->required;
	}
	p->has_rate = m->url && (m->error_ratio || (m->requests && m->errors));
	p->has_latency = m->url && (m->p95 || m->latency);
	p->has_backup = b->draft.env.backup_paths != NULL;
}

/* --- what must fit together --- */

static void
check_folder(struct build *b, const char *key, const char *path)
{
	struct stat st;

	if (!path || b->mode == BUILD_FROZEN)
		return;
	if (stat(path, &st) < 0)
		COMPLAIN(b, key, "%s=: cannot find %s: %s", key, path, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		COMPLAIN(b, key, "%s=: %s is no folder", key, path);
}

static void
check_after(struct build *b)
{
	const char *name = b->draft.env.after;
	char section[128];

	for (unsigned depth = 0; name; depth++) {
		const struct conf_entry *e;

		if (!env_exists(b->file, name)) {
			COMPLAIN(b, "After", "After=%s: there is no [Environment %s]", name, name);
			return;
		}
		if (streq(name, b->env) || depth > 32) {
			COMPLAIN(b, "After", "After=: %s would have to succeed before itself",
				 b->env);
			return;
		}
		snprintf(section, sizeof section, "Environment %s", name);
		e = find_entry(b, section, "After");
		name = e && *e->value ? e->value : NULL;
	}
}

/* Was it written, if badly?  Then that error was told, and what follows from it need not be. */
static bool
line_is_given(const struct build *b, const char *key)
{
	char section[128];

	snprintf(section, sizeof section, "Environment %s", b->env);
	return find_entry(b, section, key) || find_entry(b, "Service", key);
}

static void
check_ways(struct build *b)
{
	const struct conf_env *e = &b->draft.env;

	if (!e->deploy && !e->artifact && !line_is_given(b, "Deploy"))
		COMPLAIN(b, NULL,
			 "[Environment %s] has neither Deploy= nor Artifact=: there is no way to "
			 "deploy to it",
			 b->env);
	if (e->deploy && e->artifact)
		COMPLAIN(b, "Artifact", "Deploy= and Artifact= are two ways to deploy: keep one");
	if (e->deploy && !e->rollback && !e->backup_paths && !line_is_given(b, "Rollback"))
		COMPLAIN(b, "Deploy",
			 "Deploy= without Rollback= or BackupPaths=: there is no way back");
	if (specifiers_use(e->rollback, 'b') && !e->backup_paths &&
	    !line_is_given(b, "BackupPaths"))
		COMPLAIN(b, "Rollback",
			 "Rollback= uses %%b, but without BackupPaths= there is no backup");
	if (!b->draft.env.policy.has_health && !b->draft.env.metrics.url && b->errors->n == 0)
		COMPLAIN(b, NULL,
			 "[Environment %s] has no HealthURL=, no [Check …] and no MetricsURL=: "
			 "nothing could be watched",
			 b->env);
}

static void
check_reach(struct build *b)
{
	const struct rule_policy *r = b->draft.env.policy.rules;

	for (int i = RULE_ERROR_RATE; i <= RULE_LATENCY_P95; i++)
		if (r[i].warn_limit > r[i].limit)
			COMPLAIN(b, NULL,
				 "[Rule %s] of %s: Warn= is over Limit=: the rollback would come "
				 "before the warning",
				 rule_kind_name(i), b->env);
}

static void
cross_checks(struct build *b)
{
	if (b->mode == BUILD_FROZEN)
		return;
	check_folder(b, "WorkingDirectory", b->draft.env.working_directory);
	check_after(b);
	check_ways(b);
	check_reach(b);
}

static struct conf_env *
env_build(struct build *b)
{
	struct draft *d = &b->draft;
	struct conf_env *e = xcalloc(1, sizeof *e);

	draft_init(b);
	apply(b, "Service", NULL, false, OWN_DRAFT, d, 0);
	apply(b, "Environment", b->env, true, OWN_DRAFT, d, 0);
	checks_build(b);
	metrics_build(b);
	phases_build(b);
	policy_build(b);
	cross_checks(b);
	*e = d->env;
	memset(&d->env, 0, sizeof d->env); /* its strings are e's now */
	draft_done(d);
	e->service = xstrdup(b->service);
	e->name = xstrdup(b->env);
	if (!b->checks)
		b->checks = xcalloc(1, sizeof *b->checks);
	e->checks = b->checks;
	e->reference = b->reference;
	return e;
}

struct conf_env **
conf_build(const struct conf_file *f, const char *service, enum build_mode mode,
	   struct conf_errors *errors)
{
	struct conf_env **envs = xcalloc(1, sizeof *envs);
	size_t n = 0;

	try_entries(f, errors);
	for (size_t i = 0; i < f->n; i++) {
		struct section s = section_split(f->v[i].section);
		struct build b = {.file = f, .service = service, .mode = mode, .errors = errors};

		if (f->v[i].key || !streq(s.kind, "Environment") || !name_valid(s.name))
			continue;
		b.env = s.name;
		envs = xrealloc(envs, (n + 2) * sizeof *envs);
		envs[n++] = env_build(&b);
		envs[n] = NULL;
	}
	if (n == 0)
		conf_error_add(errors, f->path, 0, "has no [Environment NAME]: nothing to guard");
	return envs;
}
