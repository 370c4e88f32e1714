/* SPDX-License-Identifier: Apache-2.0 */
/* One environment as INI text, and back: what is frozen with a deployment. */

#include <errno.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/conf_internal.h"

struct text {
	char *s; /* owned */
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	char *more;
	size_t n;

	va_start(ap, fmt);
	more = xvasprintf(fmt, ap);
	va_end(ap);
	n = strlen(more);
	t->s = xrealloc(t->s, t->len + n + 1);
	memcpy(t->s + t->len, more, n + 1);
	t->len += n;
	free(more);
}

static void
add_keys(struct text *t, enum key_owner owner, const void *base, enum rule_kind rule)
{
	for (size_t i = 0; i < conf_key_table_len; i++) {
		const struct conf_key *k = &conf_key_table[i];
		char *value = k->owner == owner ? conf_key_text(k, base, rule) : NULL;

		if (value)
			add(t, "%s=%s\n", k->key, value);
		free(value);
	}
}

char *
conf_env_dump(const struct conf_env *e)
{
	struct text t = {0};
	struct draft d = {.env = *e, .on_escalation = e->policy.rollback_on_escalation};

	add(&t, "[Service]\nName=%s\n[Environment %s]\n", e->service, e->name);
	/* Checks and phases are written out below: the shorthands for them stay unset. */
	d.health_timeout_usec = d.watch_usec = d.interval_usec = 0;
	add_keys(&t, OWN_DRAFT, &d, 0);
	add(&t, "[Metrics]\n");
	add_keys(&t, OWN_METRICS, &e->metrics, 0);
	for (struct conf_check **c = e->checks; c && *c; c++) {
		add(&t, "[Check %s]\n", (*c)->name);
		add_keys(&t, OWN_CHECK, *c, 0);
	}
	if (e->reference) {
		add(&t, "[Reference]\n");
		add_keys(&t, OWN_CHECK, e->reference, 0);
	}
	for (unsigned i = 0; i < e->policy.n_phases; i++) {
		add(&t, "[Phase %s]\n", e->policy.phases[i].name);
		add_keys(&t, OWN_PHASE, &e->policy.phases[i], 0);
	}
	for (int r = 0; r < _RULE_MAX; r++) {
		add(&t, "[Rule %s]\n", rule_kind_name(r));
		add_keys(&t, OWN_RULE, &e->policy.rules[r], r);
	}
	return t.s;
}

static char *
service_name(const struct conf_file *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].key && streq(f->v[i].section, "Service") && streq(f->v[i].key, "Name"))
			return f->v[i].value;
	return NULL;
}

int
conf_env_parse(const char *text, struct conf_env **ret, struct conf_errors *errors)
{
	struct conf_file f;
	struct conf_env **envs;
	size_t before = errors->n;
	const char *service;

	conf_file_parse("frozen configuration", text, &f, errors);
	service = service_name(&f);
	envs = conf_build(&f, service ? service : "unknown", BUILD_FROZEN, errors);
	if (errors->n == before && (!service || !envs[0] || envs[1]))
		conf_error_add(errors, f.path, 0, "is not one environment of one service");
	if (errors->n > before) {
		for (struct conf_env **e = envs; *e; e++)
			conf_env_free(*e);
	} else {
		*ret = envs[0];
	}
	free(envs);
	conf_file_done(&f);
	return errors->n > before ? -EINVAL : 0;
}
