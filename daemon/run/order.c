/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/order.h"

#include <errno.h>

#include <jansson.h>

#include "common/util.h"
#include "daemon/conf.h"

enum { ORDER_MAX_BYTES = 64 << 10 };

static const char *const step_names[_HOOK_STEP_MAX] = {
	[STEP_CHECK] = "check",
	[STEP_DEPLOY] = "deploy",
	[STEP_ROLLBACK] = "rollback",
	[STEP_RESTART] = "restart",
	[STEP_RESTART_BACK] = "restart-rollback",
};

const char *
hook_step_name(enum hook_step s)
{
	return step_names[s];
}

int
hook_step_from_name(const char *s)
{
	for (int i = 0; i < _HOOK_STEP_MAX; i++)
		if (streq(s, step_names[i]))
			return i;
	return -EINVAL;
}

static bool
goes_back(const struct hook_order *o)
{
	return o->step == STEP_ROLLBACK || o->step == STEP_RESTART_BACK;
}

/* --- names -------------------------------------------------------------------------------- */

char *
order_txid(const struct hook_order *o)
{
	if (goes_back(o))
		return xasprintf("%s.%s.%u", o->deployment, hook_step_name(o->step), o->rollback);
	return xasprintf("%s.%s", o->deployment, hook_step_name(o->step));
}

static bool
deployment_valid(const char *s)
{
	return name_valid(s) && strlen(s) < DEPLOYMENT_ID_MAX && !strchr(s, '.');
}

char *
txid_deployment(const char *txid)
{
	const char *dot = strchr(txid, '.');
	char *id = dot ? xasprintf("%.*s", (int)(dot - txid), txid) : NULL;

	if (id && tag_valid(txid) && deployment_valid(id))
		return id;
	free(id);
	return NULL;
}

char *
hooks_folder(const char *state_dir, const char *deployment)
{
	return xasprintf("%s/sessions/%s/hooks", state_dir, deployment);
}

/* --- what an order may say ---------------------------------------------------------------- */

/* Goes into an environment and a log, for people to read: nothing that one would have to escape. */
static bool
plain(const char *s, size_t max)
{
	char *shown = str_escape(s);
	bool same = streq(shown, s);

	free(shown);
	return same && strlen(s) < max;
}

static bool
tag_or_none(const char *s)
{
	return *s == '\0' || tag_valid(s);
}

static bool
backup_valid(const char *s)
{
	static const char releases[] = "releases/";

	if (strncmp(s, releases, strlen(releases)) == 0)
		return tag_valid(s + strlen(releases));
	return *s == '\0' || (*s == '/' && plain(s, PATH_MAX_LEN));
}

static bool
digest_valid(const char *s)
{
	return *s == '\0' ||
	       (strlen(s) == DIGEST_MAX_LEN - 1 && strspn(s, "0123456789abcdef") == strlen(s));
}

int
order_check(const struct hook_order *o, char **ret_why)
{
	const struct {
		const char *what, *value;
		bool ok;
	} parts[] = {
		{"service", o->service, name_valid(o->service)},
		{"environment", o->environment, name_valid(o->environment)},
		{"deployment", o->deployment, deployment_valid(o->deployment)},
		{"tag", o->tag, tag_or_none(o->tag)},
		{"previous tag", o->previous_tag, tag_or_none(o->previous_tag)},
		{"lead", o->lead, plain(o->lead, NAME_MAX_LEN)},
		{"backup", o->backup, backup_valid(o->backup)},
		{"digest", o->sha256, digest_valid(o->sha256)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (!parts[i].ok) {
			*ret_why = xasprintf("the order for the hook is refused: its %s is none: "
					     "\"%.100s\"",
					     parts[i].what, parts[i].value);
			return -EINVAL;
		}
	return 0;
}

/* --- file --------------------------------------------------------------------------------- */

int
order_write(const struct hook_files *f, const struct hook_order *o)
{
	json_t *json = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "step",
				 hook_step_name(o->step), "rollback", (int)o->rollback, "service",
				 o->service, "environment", o->environment, "deployment",
				 o->deployment, "tag", o->tag, "previous_tag", o->previous_tag,
				 "lead", o->lead, "backup", o->backup, "sha256", o->sha256);
	int r = json ? request_file_write(f, json) : -EINVAL;

	json_decref(json);
	return r;
}

static int
unpack(struct order_file *q, char **ret_why)
{
	struct hook_order *o = &q->o;
	const char *step;
	json_error_t e;
	int rollback, s;

	if (json_unpack_ex(q->json, &e, JSON_STRICT,
			   "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "step", &step,
			   "rollback", &rollback, "service", &o->service, "environment",
			   &o->environment, "deployment", &o->deployment, "tag", &o->tag,
			   "previous_tag", &o->previous_tag, "lead", &o->lead, "backup", &o->backup,
			   "sha256", &o->sha256) < 0) {
		*ret_why = xasprintf("the order is not understood: %s", e.text);
		return -EBADMSG;
	}
	s = hook_step_from_name(step);
	if (s < 0 || rollback < 0) {
		*ret_why =
			xasprintf("the order is not understood: there is no step \"%.40s\"", step);
		return -EBADMSG;
	}
	o->step = (enum hook_step)s;
	o->rollback = (unsigned)rollback;
	return order_check(o, ret_why) < 0 ? -EBADMSG : 0;
}

/* Under its own name only: else one order could be run many times, under many transactions. */
static int
check_name(const struct hook_files *f, const struct hook_order *o, char **ret_why)
{
	const char *name = f->request + strlen(f->folder) + 1;
	char *txid = order_txid(o), *wanted = xasprintf("%s.request", txid);
	int r = streq(name, wanted) ? 0 : -EBADMSG;

	if (r < 0)
		*ret_why = xasprintf("the order is refused: it is that of %s, and stands in %s",
				     txid, name);
	free(wanted);
	free(txid);
	return r;
}

int
order_read(const struct hook_files *f, struct order_file *ret, char **ret_why)
{
	struct order_file q = {0};
	int r = hook_file_read(f->request, ORDER_MAX_BYTES, &q.json);

	if (r < 0)
		*ret_why = xasprintf("cannot read the order %s: %s", f->request, strerror(-r));
	else
		r = unpack(&q, ret_why);
	if (r == 0)
		r = check_name(f, &q.o, ret_why);
	if (r < 0)
		order_done(&q);
	else
		*ret = q;
	return r;
}

void
order_done(struct order_file *f)
{
	json_decref(f->json);
	*f = (struct order_file){0};
}

/* --- with the configuration --------------------------------------------------------------- */

char *const *
order_argv(const struct hook_order *o, const struct conf_env *env)
{
	switch (o->step) {
	case STEP_DEPLOY:
		return env->deploy;
	case STEP_ROLLBACK:
		return env->rollback;
	case STEP_RESTART:
	case STEP_RESTART_BACK:
		return env->restart;
	default:
		return NULL;
	}
}

static void
env_add(char ***v, size_t *n, char *entry)
{
	*v = xrealloc(*v, (*n + 2) * sizeof **v);
	(*v)[(*n)++] = entry;
	(*v)[*n] = NULL;
}

/* Nothing of the daemon's own environment; what a script needs to know. */
static char **
clean_environment(const struct hook_order *o, const struct conf_env *env, const char *state_dir)
{
	char **v = NULL;
	size_t n = 0;

	env_add(&v, &n,
		xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	env_add(&v, &n, xstrdup("LANG=C.UTF-8"));
	env_add(&v, &n, xasprintf("DHASH_SERVICE=%s", o->service));
	env_add(&v, &n, xasprintf("DHASH_ENVIRONMENT=%s", o->environment));
	env_add(&v, &n, xasprintf("DHASH_DEPLOYMENT=%s", o->deployment));
	env_add(&v, &n, xasprintf("DHASH_TAG=%s", o->tag));
	env_add(&v, &n, xasprintf("DHASH_PREVIOUS_TAG=%s", o->previous_tag));
	env_add(&v, &n, xasprintf("DHASH_LEAD=%s", o->lead));
	env_add(&v, &n, xasprintf("DHASH_BACKUP=%s", o->backup));
	env_add(&v, &n, xasprintf("DHASH_STEP=%s", hook_step_name(o->step)));
	env_add(&v, &n, xasprintf("DHASH_SESSION=%s/sessions/%s", state_dir, o->deployment));
	for (char **e = env->hook_environment; e && *e; e++)
		env_add(&v, &n, xstrdup(*e));
	return v;
}

int
hook_plan_init(struct hook_plan *p, const struct hook_order *o, const struct conf_env *env,
	       const char *state_dir, const char *user)
{
	char *const *argv = order_argv(o, env);
	struct specifiers s = {
		.environment = o->environment,
		.tag = o->tag,
		.backup = o->backup,
		.deployment = o->deployment,
		.service = o->service,
	};

	if (!argv)
		return -ENOENT;
	*p = (struct hook_plan){
		.txid = order_txid(o),
		.folder = hooks_folder(state_dir, o->deployment),
		.log = xasprintf("%s/sessions/%s/%s.log", state_dir, o->deployment,
				 goes_back(o) ? "rollback" : "deploy"),
		.argv = specifiers_expandv(argv, &s),
		.environ = clean_environment(o, env, state_dir),
	};
	p->r = (struct hook_request){
		.txid = p->txid,
		.folder = p->folder,
		.log = p->log,
		.argv = p->argv,
		.environ = p->environ,
		.directory = env->working_directory ? env->working_directory : "/",
		.user = env->user ? env->user : user,
		.timeout_usec = goes_back(o) ? env->policy.rollback_timeout_usec
					     : env->policy.deploy_timeout_usec,
		.kill_usec = env->hook_kill_usec,
		.output_max_bytes = env->hook_output_max_bytes,
	};
	return 0;
}

void
hook_plan_done(struct hook_plan *p)
{
	free(p->txid);
	free(p->folder);
	free(p->log);
	strv_free(p->argv);
	strv_free(p->environ);
	*p = (struct hook_plan){0};
}
