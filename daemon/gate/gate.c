/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/gate/gate.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/check/round.h"
#include "daemon/conf.h"
#include "daemon/run/order.h"
#include "daemon/store.h"

struct run {
	struct store *store;
	struct gate_hooks hooks;
	char *deployment;     /* owned; the session that the question to the runner is put in */
	struct conf_env *env; /* owned: what is being asked outlives a reload */
	struct observer *observer; /* owned, and nobody else's: it is never busy for another */
	char *tag;                 /* owned */
	bool force;
	gates_fn *fn;
	void *arg;
	long deployments; /* ever made here */
	struct gates gates;
};

__attribute__((format(printf, 5, 6))) static void
report(struct run *r, const char *name, bool ok, bool may_force, const char *fmt, ...)
{
	struct gate *g = &r->gates.v[r->gates.n++];
	va_list ap;

	g->name = name;
	g->overridden = !ok && may_force && r->force;
	g->ok = ok || g->overridden;
	va_start(ap, fmt);
	vsnprintf(g->text, sizeof g->text, fmt, ap);
	va_end(ap);
	r->gates.ok = r->gates.ok && g->ok;
}

static void
finish(struct run *r)
{
	r->fn(r->arg, &r->gates);
	observer_free(r->observer);
	conf_env_free(r->env);
	free(r->deployment);
	free(r->tag);
	free(r);
}

/* Backup and deployment have no names yet: a command that is named by them is known when it runs.
 */
static bool
known_later(char *const *argv)
{
	char *const command[] = {argv[0], NULL};

	return specifiers_use(command, 'b') || specifiers_use(command, 'i');
}

static void
gate_hook(struct run *r, char *const *argv, const char *name)
{
	struct specifiers s = {
		.environment = r->env->name, .tag = r->tag, .service = r->env->service};
	char **words, *why = NULL;

	if (!argv || known_later(argv))
		return;
	words = specifiers_expandv(argv, &s);
	if (hook_check(words, r->env->working_directory, &why) < 0)
		report(r, name, false, false, "%s", why);
	else
		report(r, name, true, false, "%s can be run", words[0]);
	strv_free(words);
	free(why);
}

/* Else a rollback would be the first to find out. */
static void
gate_user(struct run *r)
{
	bool any = r->env->deploy || r->env->rollback || r->env->restart;
	char *why = NULL;

	if (!any || !r->env->user)
		return;
	if (hook_check_user(r->env->user, &why) < 0)
		report(r, "hook-user", false, false, "%s", why);
	else
		report(r, "hook-user", true, false, "hooks can run as %s", r->env->user);
	free(why);
}

/* What the engine will open: a folder of that name can be read, too, but not unpacked. */
static int
artifact_fault(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, R_OK) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
}

static void
gate_artifact(struct run *r)
{
	struct specifiers s = {
		.environment = r->env->name, .tag = r->tag, .service = r->env->service};
	char *path;
	int fault;

	if (!r->env->artifact || r->env->deploy)
		return;
	path = specifiers_expand(r->env->artifact, &s);
	fault = artifact_fault(path);
	if (fault < 0)
		report(r, "artifact", false, false, "cannot read %s: %s; build or fetch it first",
		       path, strerror(-fault));
	else
		report(r, "artifact", true, false, "%s is there", path);
	free(path);
}

static void
on_metrics(void *arg, int error, const char *text)
{
	struct run *r = arg;

	if (error == 0)
		report(r, "metrics", true, true, "%s", text);
	else if (error != -ENOENT && r->deployments == 0)
		report(r, "metrics", true, true,
		       "not answering yet, as is to be expected before the "
		       "first deployment (%s)",
		       text);
	else
		report(r, "metrics", false, true, "%s", text);
	finish(r);
}

/* --- what the daemon must be able to write ------------------------------------------------------
 */

/* The folder itself, or the nearest one above it that is there. */
static int
writable_fault(const char *path)
{
	char *at = xstrdup(path), *slash;
	int r;

	while (access(at, F_OK) < 0 && errno == ENOENT && (slash = strrchr(at, '/')) && slash != at)
		*slash = '\0';
	r = access(at, W_OK) < 0 ? -errno : 0;
	free(at);
	return r;
}

static void
gate_writable(struct run *r, const char *name, const char *path)
{
	int fault = writable_fault(path);

	if (fault == 0)
		report(r, name, true, false, "%s can be written", path);
	else if (fault == -EROFS)
		report(r, name, false, false,
		       "cannot write to %s: it is read-only for dhashd; systemctl edit dhashd, and "
		       "say [Service] ReadWritePaths=%s",
		       path, path);
	else
		report(r, name, false, false,
		       "cannot write to %s: %s; it must belong to dhashd's user", path,
		       strerror(-fault));
}

/* Only what the daemon does itself: hooks see to their own. */
static void
gate_folders(struct run *r)
{
	const struct conf_env *e = r->env;
	const char *root = e->working_directory ? e->working_directory : "/";

	if (!e->deploy && e->artifact)
		gate_writable(r, "releases", e->releases ? e->releases : root);
	if (e->backup_paths && e->backup_dir)
		gate_writable(r, "backup-folder", e->backup_dir);
	if (e->backup_paths && !e->rollback && !e->artifact)
		gate_writable(r, "restore", root);
}

/* --- hooks, by whoever runs them -----------------------------------------------------------------
 */

static void
gates_after_hooks(struct run *r)
{
	int error;

	gate_artifact(r);
	gate_folders(r);
	error = r->env->metrics.url ? observer_probe_metrics(r->observer, on_metrics, r) : 0;
	if (error < 0)
		report(r, "metrics", false, true, "the metrics source cannot be asked: %s",
		       strerror(-error));
	if (error < 0 || !r->env->metrics.url)
		finish(r);
}

/* A question alone leaves no session behind. */
static void
forget_question(const struct run *r)
{
	static const char *const suffixes[] = {"request", "started", "result"};
	char *folder = hooks_folder(r->hooks.state_dir, r->deployment), *session;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		char *path = xasprintf("%s/%s.check.%s", folder, r->deployment, suffixes[i]);

		unlink(path);
		free(path);
	}
	rmdir(folder);
	session = xasprintf("%.*s", (int)(strlen(folder) - strlen("/hooks")), folder);
	rmdir(session);
	free(session);
	free(folder);
}

static void
on_hooks_checked(void *arg, const struct hook_result *result)
{
	struct run *r = arg;

	report(r, "hooks", result->outcome == HOOK_OK, false, "%s", result->text);
	if (!r->hooks.deployment)
		forget_question(r);
	gates_after_hooks(r);
}

/* The one who will run them sees what the daemon, in its sandbox, does not: /home, other users. */
static void
ask_runner(struct run *r)
{
	struct hook_order o = {
		.step = STEP_CHECK,
		.service = r->env->service,
		.environment = r->env->name,
		.deployment = r->deployment,
		.tag = r->tag,
		.previous_tag = "",
		.lead = "",
		.backup = "",
		.sha256 = "",
	};
	char *txid = order_txid(&o), *folder = hooks_folder(r->hooks.state_dir, r->deployment);
	struct hook_request q = {.txid = txid, .folder = folder, .order = &o};

	hook_ensure(r->hooks.base, r->hooks.way, &q, on_hooks_checked, r);
	free(folder);
	free(txid);
}

static void
gates_of_machine(struct run *r)
{
	bool any = r->env->deploy || r->env->rollback || r->env->restart;

	if (any && r->hooks.way->manager) {
		ask_runner(r);
		return;
	}
	gate_hook(r, r->env->deploy, "deploy-hook");
	gate_hook(r, r->env->rollback, "rollback-hook");
	gate_hook(r, r->env->restart, "restart-hook");
	gate_user(r);
	gates_after_hooks(r);
}

static void
unanswered(struct run *r, const char *gate, int error)
{
	report(r, gate, false, false, "cannot ask the store about %s: %s", r->tag,
	       strerror(-error));
	finish(r);
}

static void
on_facts(void *arg, int error, json_t *facts)
{
	struct run *r = arg;
	const char *why = json_string_value(json_object_get(facts, "why"));

	if (error) {
		unanswered(r, "history", error);
		return;
	}
	r->deployments = (long)json_integer_value(json_object_get(facts, "deployments"));
	if (json_is_true(json_object_get(facts, "bad")))
		report(r, "tag-not-bad", false, true,
		       "%s is marked bad on %s (%s); deploy another tag, or override with "
		       "--force --reason",
		       r->tag, r->env->name, why ? why : "it was rolled back");
	else
		report(r, "tag-not-bad", true, true, "%s is not marked bad", r->tag);
	json_decref(facts);
	gates_of_machine(r);
}

static void
on_after_facts(void *arg, int error, json_t *facts)
{
	struct run *r = arg;

	if (error) {
		unanswered(r, "staging-first", error);
		return;
	}
	if (json_is_true(json_object_get(facts, "succeeded")))
		report(r, "staging-first", true, true, "%s has succeeded on %s", r->tag,
		       r->env->after);
	else
		report(r, "staging-first", false, true,
		       "%s has not succeeded on %s, which comes first: dhash deploy --env %s --tag "
		       "%s; "
		       "or override with --force --reason",
		       r->tag, r->env->after, r->env->after, r->tag);
	json_decref(facts);
	store_tag_facts(r->store, r->env->service, r->env->name, r->tag, on_facts, r);
}

/* By the same way as what is frozen with a deployment. */
static struct conf_env *
env_copy(const struct conf_env *env)
{
	struct conf_errors errors = {0};
	struct conf_env *copy = NULL;
	char *text = conf_env_dump(env);

	if (conf_env_parse(text, &copy, &errors) < 0) {
		log_mistake("cannot copy a configuration: %s; this is a mistake in dhashd",
			    errors.n ? errors.v[0].text : "unknown");
		log_flush();
		abort();
	}
	conf_errors_free(&errors);
	free(text);
	return copy;
}

/* Names a session that there is not: the second, and which one in it. */
static char *
question_name(void)
{
	static unsigned n;
	char stamp[USEC_TEXT_MAX];

	wall_format_compact(stamp, now_realtime());
	return xasprintf("check-%s-%u", stamp, n++ % 1000);
}

void
gates_run(struct store *store, const struct gate_hooks *hooks, const struct observer *observer,
	  const struct conf_env *env, const char *tag, bool force, gates_fn *fn, void *arg)
{
	struct run *r = xcalloc(1, sizeof *r);

	r->store = store;
	r->hooks = *hooks;
	r->deployment = hooks->deployment ? xstrdup(hooks->deployment) : question_name();
	r->env = env_copy(env);
	r->observer = observer_like(observer, r->env);
	r->tag = xstrdup(tag);
	r->force = force;
	r->fn = fn;
	r->arg = arg;
	r->gates.ok = true;
	if (env->after)
		store_tag_facts(store, env->service, env->after, tag, on_after_facts, r);
	else
		store_tag_facts(store, env->service, env->name, tag, on_facts, r);
}

void
gates_describe(const struct gates *g, char *buf, size_t n)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < g->n && used < n; i++) {
		const struct gate *gate = &g->v[i];

		if (gate->ok && !gate->overridden)
			continue;
		used += (size_t)snprintf(buf + used, n - used, "%s%s%s: %s", used ? "; " : "",
					 gate->overridden ? "overridden: " : "", gate->name,
					 gate->text);
	}
	if (buf[0] == '\0')
		snprintf(buf, n, "all %zu gates passed", g->n);
}
