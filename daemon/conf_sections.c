/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections: what their lines may say, and every entry tried once.
 */

#include "common/util.h"
#include "daemon/conf_internal.h"

struct section
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

bool
conf_env_exists(const struct conf_file *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++) {
		struct section s = section_split(f->v[i].section);

		if (streq(s.kind, "Environment") && streq(s.name, name))
			return true;
	}
	return false;
}

const char *
conf_no_env(const struct conf_file *f, const char *name, char *buf, size_t n)
{
	const char *names[64], *near;
	struct section s[ARRAY_SIZE(names)];
	size_t found = 0;

	for (size_t i = 0; i < f->n && found < ARRAY_SIZE(names); i++) {
		s[found] = section_split(f->v[i].section);
		if (f->v[i].key || !streq(s[found].kind, "Environment"))
			continue;
		names[found] = s[found].name;
		found++;
	}
	near = nearest_name(name, names, found);
	snprintf(buf, n, "there is no [Environment %s]%s%s%s", name,
		 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	return buf;
}

/* In [Metrics ENV] the environment is the second word, elsewhere the third. */
const char *
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
	if (k->owner != OWN_DRAFT && *section_env(s) && !conf_env_exists(f, section_env(s)))
		return conf_no_env(f, section_env(s), buf, 256);
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

void
conf_try_entries(const struct conf_file *f, struct conf_errors *errors)
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
