/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The health checks of an environment, and what must fit together in it.
 */

#include <errno.h>
#include <sys/stat.h>

#include "common/util.h"
#include "daemon/conf_internal.h"
#include "daemon/core/alert.h"

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
	if (c->credential && c->type != CHECK_HTTP)
		conf_error_add(b->errors, file, line,
			       "check %s: Credential= is sent by HTTP only; remove it", c->name);
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
		build_apply_both(b, "Check", s.name, OWN_CHECK, c, 0);
		snprintf(own, sizeof own, "Check %s %s", s.name, b->env);
		check_finish(b, c, e->line,
			     build_find(b, e->section, "Type") || build_find(b, own, "Type"));
		check_add(b, c);
	}
}

void
build_checks(struct build *b)
{
	struct draft *d = &b->draft;

	if (d->health_url) {
		struct conf_check *c = conf_check_new("health");

		c->url = xstrdup(d->health_url);
		c->body = d->body ? xstrdup(d->body) : NULL;
		check_finish(b, c, build_line(b, "HealthURL"), false);
		check_add(b, c);
	}
	check_sections(b);
	if (d->reference || build_find(b, "Reference", NULL)) {
		struct conf_check *c = conf_check_new("reference");

		if (d->reference && strstr(d->reference, "://"))
			c->url = xstrdup(d->reference);
		else if (d->reference)
			c->address = xstrdup(d->reference);
		build_apply(b, "Reference", NULL, false, OWN_CHECK, c, 0);
		check_finish(b, c, build_line(b, "Reference"), false);
		b->reference = c;
	}
}

/* --- what must fit together --- */

static void
check_folder(struct build *b, const char *key, const char *path)
{
	struct stat st;

	if (!path || b->mode == BUILD_FROZEN)
		return;
	if (stat(path, &st) < 0) {
		conf_error_passes(b->errors, errno);
		COMPLAIN(b, key, "%s=: cannot find %s: %s", key, path, strerror(errno));
	} else if (!S_ISDIR(st.st_mode))
		COMPLAIN(b, key, "%s=: %s is no folder", key, path);
}

static void
check_after(struct build *b)
{
	const char *name = b->draft.env.after;
	char section[128], problem[256];

	for (unsigned depth = 0; name; depth++) {
		const struct conf_entry *e;

		if (!conf_env_exists(b->file, name)) {
			COMPLAIN(b, "After", "After=%s: %s", name,
				 conf_no_env(b->file, name, problem, sizeof problem));
			return;
		}
		if (streq(name, b->env) || depth > 32) {
			COMPLAIN(b, "After", "After=: %s would have to succeed before itself",
				 b->env);
			return;
		}
		snprintf(section, sizeof section, "Environment %s", name);
		e = build_find(b, section, "After");
		name = e && *e->value ? e->value : NULL;
	}
}

/* Was it written, if badly?  Then that error was told, and what follows from it need not be. */
static bool
line_is_given(const struct build *b, const char *key)
{
	char section[128];

	snprintf(section, sizeof section, "Environment %s", b->env);
	return build_find(b, section, key) || build_find(b, "Service", key);
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
	if (b->draft.env.policy.escalate_warnings > BOOK_RECENT_MAX)
		COMPLAIN(b, "EscalateWarnings",
			 "EscalateWarnings=: at most %d are remembered; more would never escalate",
			 BOOK_RECENT_MAX);
}

void
build_cross_check(struct build *b)
{
	if (b->mode == BUILD_FROZEN)
		return;
	check_folder(b, "WorkingDirectory", b->draft.env.working_directory);
	check_after(b);
	check_ways(b);
	check_reach(b);
}
