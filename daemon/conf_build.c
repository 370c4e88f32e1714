/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries to environments.  A value comes from the section nearest to the environment: [Rule X
 * ENV], then [Rule X], then the default; [Environment E], then [Service].
 */

#include <math.h>

#include "common/util.h"
#include "daemon/conf_internal.h"

const struct conf_entry *
build_find(const struct build *b, const char *section, const char *key)
{
	for (size_t i = 0; i < b->file->n; i++) {
		const struct conf_entry *e = &b->file->v[i];

		if (streq(e->section, section) && (!key ? !e->key : e->key && streq(e->key, key)))
			return e;
	}
	return NULL;
}

unsigned
build_line(const struct build *b, const char *key)
{
	char section[128];
	const struct conf_entry *e;

	snprintf(section, sizeof section, "Environment %s", b->env);
	e = key ? build_find(b, section, key) : NULL;
	if (!e && key)
		e = build_find(b, "Service", key);
	if (!e)
		e = build_find(b, section, NULL);
	return e ? e->line : 0;
}

void
build_apply(struct build *b, const char *kind, const char *name, bool own, enum key_owner owner,
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

void
build_apply_both(struct build *b, const char *kind, const char *name, enum key_owner owner,
		 void *base, enum rule_kind rule)
{
	build_apply(b, kind, name, false, owner, base, rule);
	build_apply(b, kind, name, true, owner, base, rule);
}

static void
draft_done(struct draft *d)
{
	for (size_t i = 0; i < conf_key_table_len; i++)
		if (conf_key_table[i].owner == OWN_DRAFT)
			conf_key_free(&conf_key_table[i], d);
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

/* A new phase has an end of its own; else its name is likely a slip, and would do nothing. */
static void
phase_check_end(struct build *b, const struct conf_entry *e, const struct phase *ph)
{
	static const char *const known[] = {"critical", "stability", "extended"};
	const char *near = nearest_name(ph->name, known, ARRAY_SIZE(known));
	char all[64], own[160];

	snprintf(all, sizeof all, "Phase %s", ph->name);
	snprintf(own, sizeof own, "%s %s", all, b->env);
	if (ph->until_usec == 0 && !build_find(b, all, "Until") && !build_find(b, own, "Until"))
		conf_error_add(b->errors, b->file->path, e->line,
			       "phase \"%s\" has no Until=%s%s%s", ph->name,
			       near ? "; did you mean \"" : "", near ? near : "",
			       near ? "\"?" : "");
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
		if (!ph) {
			conf_error_add(b->errors, b->file->path, e->line, "more than %d phases",
				       POLICY_PHASES_MAX);
			continue;
		}
		build_apply_both(b, "Phase", s.name, OWN_PHASE, ph, 0);
		phase_check_end(b, e, ph);
	}
	phases_check(b);
}

/* --- metrics and policy --- */

static void
metrics_build(struct build *b)
{
	struct conf_metrics *m = &b->draft.env.metrics;
	bool any;

	build_apply_both(b, "Metrics", NULL, OWN_METRICS, m, 0);
	any = m->requests || m->errors || m->latency || m->error_ratio || m->p95;
	if (!m->url) {
		/* Selectors for all environments do no harm where one has no source. */
		char own[128];

		snprintf(own, sizeof own, "Metrics %s", b->env);
		if (any && build_find(b, own, NULL))
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
	if (r->warn_limit > r->limit && !build_find(b, section, "Warn") &&
	    !build_find(b, own, "Warn"))
		r->warn_limit = rint(r->limit / 2 * USEC_PER_SEC) / USEC_PER_SEC;
}

static void
policy_build(struct build *b)
{
	struct policy *p = &b->draft.env.policy;
	const struct conf_metrics *m = &b->draft.env.metrics;

	for (int r = 0; r < _RULE_MAX; r++) {
		build_apply_both(b, "Rule", rule_kind_name(r), OWN_RULE, &p->rules[r], r);
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

static struct conf_env *
env_build(struct build *b)
{
	struct draft *d = &b->draft;
	struct conf_env *e = xcalloc(1, sizeof *e);

	draft_init(b);
	build_apply(b, "Service", NULL, false, OWN_DRAFT, d, 0);
	build_apply(b, "Environment", b->env, true, OWN_DRAFT, d, 0);
	build_checks(b);
	metrics_build(b);
	phases_build(b);
	policy_build(b);
	build_cross_check(b);
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

	conf_try_entries(f, errors);
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
