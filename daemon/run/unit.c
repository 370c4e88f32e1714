/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/conf.h"
#include "daemon/release/admit.h"

/* --- identities --------------------------------------------------------------------------- */

/* setfsuid() tells the old one and never whether it worked: asking with an impossible one does. */
static int
become_fs(uid_t uid, gid_t gid)
{
	setfsgid(gid);
	setfsuid(uid);
	if ((uid_t)setfsuid((uid_t)-1) != uid || (gid_t)setfsgid((gid_t)-1) != gid)
		return -EPERM;
	return 0;
}

int
unit_as_daemon(const struct unit *u)
{
	return become_fs(u->uid, u->gid);
}

void
unit_as_root(void)
{
	become_fs(geteuid(), getegid());
}

static int
find_daemon(struct unit *u, char **ret_why)
{
	struct passwd *p;
	struct stat st;

	if (stat(u->folders.state, &st) < 0) {
		*ret_why = xasprintf("cannot look at the state folder %s: %s", u->folders.state,
				     strerror(errno));
		return -ENOENT;
	}
	p = getpwuid(st.st_uid);
	if (!p) {
		*ret_why = xasprintf("the state folder %s belongs to user %u, who does not exist",
				     u->folders.state, (unsigned)st.st_uid);
		return -ESRCH;
	}
	u->uid = st.st_uid;
	u->gid = p->pw_gid;
	u->user = xstrdup(p->pw_name);
	return 0;
}

int
unit_open(struct unit *u, const struct unit_folders *folders, const char *txid, char **ret_why)
{
	char *deployment = txid_deployment(txid), *folder;
	int r;

	*u = (struct unit){.folders = *folders};
	if (!deployment) {
		*ret_why = xasprintf("\"%s\" is no transaction of a deployment", txid);
		return -EINVAL;
	}
	folder = hooks_folder(folders->state, deployment);
	r = hook_files_init(&u->files, folder, txid);
	u->stage = xasprintf("%s/%s", folders->own, txid);
	if (r == 0)
		r = find_daemon(u, ret_why);
	else
		*ret_why = xasprintf("%s is no folder for %s", folder, txid);
	/* The groups of root would open more to it than the daemon may. */
	if (r == 0 && geteuid() == 0 && initgroups(u->user, u->gid) < 0) {
		r = -errno;
		*ret_why = xasprintf("cannot take the groups of %s: %s", u->user, strerror(errno));
	}
	if (r == 0 && unit_as_daemon(u) < 0) {
		r = -EPERM;
		*ret_why = xasprintf("cannot read and write as %s", u->user);
	}
	free(folder);
	free(deployment);
	return r;
}

/* --- root's configuration ----------------------------------------------------------------- */

int
unit_trusts(const char *path, char **ret_why)
{
	char *real = realpath(path, NULL), *slash;
	struct stat st;
	int r = real ? 0 : -errno;

	if (!real)
		*ret_why = xasprintf("cannot find %s: %s", path, strerror(errno));
	for (bool more = real != NULL; r == 0 && more;) {
		const char *part = *real ? real : "/";

		if (stat(part, &st) < 0) {
			r = -errno;
			*ret_why = xasprintf("cannot look at %s: %s", part, strerror(errno));
		} else if (st.st_uid != geteuid() && st.st_uid != 0) {
			r = -EPERM;
			*ret_why =
				xasprintf("%s does not belong to root: hooks are run by the word "
					  "of root only; chown root %s",
					  part, part);
		} else if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX)) {
			r = -EPERM;
			*ret_why = xasprintf("others than root may change %s (mode %04o): chmod "
					     "go-w %s",
					     part, st.st_mode & 07777, part);
		}
		slash = strrchr(real, '/');
		more = slash && *real;
		if (slash)
			*slash = '\0';
	}
	free(real);
	return r;
}

/* The last one that could be read: a slip in the file must not keep a rollback from running. */
static char *
last_good_path(const struct unit *u)
{
	return xasprintf("%s/%s.conf", u->folders.own, u->order.o.service);
}

static void
keep_last_good(const struct unit *u, const char *path)
{
	char *copy = last_good_path(u), *text;
	size_t len;

	if (file_read(AT_FDCWD, path, 1 << 20, &text, &len) == 0) {
		int r = file_write_atomic(copy, text, len, 0600);

		if (r < 0)
			log_warning("cannot keep a copy of %s as %s: %s", path, copy, strerror(-r));
		free(text);
	}
	free(copy);
}

static char *
first_error(struct conf_errors *e)
{
	char *text = xasprintf("%s:%u: %s", e->v[0].file, e->v[0].line, e->v[0].text);

	conf_errors_free(e);
	return text;
}

static int
load_last_good(struct unit *u, char *error, char **ret_why)
{
	struct conf_errors errors = {0};
	char *copy = last_good_path(u);
	int r = u->order.o.step == STEP_CHECK
			? -EINVAL
			: conf_load_service(copy, u->order.o.service, &u->conf, &errors);

	if (r == 0)
		log_warning("%s; the hook is run by the last good file, %s", error, copy);
	else
		*ret_why = xstrdup(error);
	conf_errors_free(&errors);
	free(error);
	free(copy);
	return r;
}

static int
load_conf(struct unit *u, char **ret_why)
{
	char *path = xasprintf("%s/services.d/%s.conf", u->folders.config, u->order.o.service);
	struct conf_errors errors = {0};
	int r = unit_trusts(path, ret_why);

	if (r == 0) {
		r = conf_load_service(path, u->order.o.service, &u->conf, &errors);
		if (r == 0)
			keep_last_good(u, path);
		else
			r = load_last_good(u, first_error(&errors), ret_why);
	}
	free(path);
	return r;
}

/* --- one hook ----------------------------------------------------------------------------- */

static int
user_id(const struct unit *u, const struct conf_env *env, uid_t *ret, char **ret_why)
{
	const char *name = env->user ? env->user : u->user;
	struct passwd *p = getpwnam(name);

	if (!p) {
		*ret_why = xasprintf("there is no user \"%s\" to run the hook as", name);
		return -ESRCH;
	}
	*ret = p->pw_uid;
	return 0;
}

static int
check_program(const struct unit *u, const struct conf_env *env, char *const *argv, char **ret_why)
{
	uid_t uid;
	int r = user_id(u, env, &uid, ret_why);

	if (r == 0)
		r = hook_check(argv, env->working_directory, ret_why);
	if (r == 0)
		r = hook_check_owner(argv, env->working_directory, uid, ret_why);
	return r;
}

static int
make_stage(const struct unit *u, char **ret_why)
{
	/* Nobody else makes names here. */
	if (mkdir(u->stage, 0711) == 0 || errno == EEXIST)
		return 0;
	*ret_why = xasprintf("cannot make %s: %s", u->stage, strerror(errno));
	return -errno;
}

static void
remove_stage(const struct unit *u)
{
	DIR *dir = u->stage ? opendir(u->stage) : NULL;
	struct dirent *d;

	if (!dir)
		return;
	while ((d = readdir(dir)) != NULL)
		unlinkat(dirfd(dir), d->d_name, 0);
	closedir(dir);
	rmdir(u->stage);
}

/* Opened as the daemon, staged as root. */
static int
take_backup(struct unit *u, const struct conf_env *env, char **ret_why)
{
	struct hook_order *o = &u->order.o;
	char *folder;
	int fd, r;

	if (*o->backup != '/')
		return 0;
	folder = conf_backup_folder(env, u->folders.state);
	unit_as_daemon(u);
	fd = admit_open(folder, o->backup, o->sha256, u->uid, ret_why);
	unit_as_root();
	free(folder);
	if (fd < 0)
		return fd;
	remove_stage(u);
	r = make_stage(u, ret_why);
	if (r == 0)
		r = admit_stage(fd, o->backup, o->sha256, u->stage, &u->backup, ret_why);
	close(fd);
	if (r == 0)
		o->backup = u->backup;
	return r;
}

/* Those of the unit, which systemd lets root read and nobody else. */
static void
pass_credentials(struct unit *u, const struct conf_env *env)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	char **v = u->plan.environ;
	size_t n = strv_len(v);
	uid_t uid;
	char *why = NULL;

	if (!folder || user_id(u, env, &uid, &why) < 0 || uid != 0) {
		free(why);
		return;
	}
	v = xrealloc(v, (n + 2) * sizeof *v);
	v[n] = xasprintf("CREDENTIALS_DIRECTORY=%s", folder);
	v[n + 1] = NULL;
	u->plan.environ = v;
	u->plan.r.environ = v;
}

static int
plan(struct unit *u, const struct conf_env *env, char **ret_why)
{
	int r = take_backup(u, env, ret_why);

	if (r == 0 && hook_plan_init(&u->plan, &u->order.o, env, u->folders.state, u->user) < 0) {
		*ret_why = xasprintf("root's configuration has no %s hook for %s/%s",
				     hook_step_name(u->order.o.step), env->service, env->name);
		r = -ENOENT;
	}
	if (r < 0)
		return r;
	pass_credentials(u, env);
	return check_program(u, env, u->plan.argv, ret_why);
}

/* --- all hooks, before one is needed -------------------------------------------------------- */

/* A command that is named by its backup is known when it runs. */
static bool
known_later(char *const *argv)
{
	char *const command[] = {argv[0], NULL};

	return specifiers_use(command, 'b');
}

static int
check_step(const struct unit *u, const struct conf_env *env, enum hook_step step, char **ret_why)
{
	struct hook_order o = u->order.o;
	struct hook_plan p;
	char *why = NULL;
	int r;

	o.step = step;
	if (!order_argv(&o, env) || known_later(order_argv(&o, env)))
		return 0;
	r = hook_plan_init(&p, &o, env, u->folders.state, u->user);
	if (r == 0) {
		r = check_program(u, env, p.argv, &why);
		hook_plan_done(&p);
	}
	if (r < 0)
		*ret_why = xasprintf("%s hook: %s", hook_step_name(step), why ? why : strerror(-r));
	free(why);
	return r;
}

static int
check_all(const struct unit *u, const struct conf_env *env, char **ret_why)
{
	static const enum hook_step steps[] = {STEP_DEPLOY, STEP_ROLLBACK, STEP_RESTART};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
		r = check_step(u, env, steps[i], ret_why);
	return r;
}

/* --- the whole ---------------------------------------------------------------------------- */

static int
prepare_as_root(struct unit *u, char **ret_why)
{
	const struct conf_env *env;
	int r = load_conf(u, ret_why);

	if (r < 0)
		return r;
	env = conf_find(u->conf, u->order.o.service, u->order.o.environment);
	if (!env) {
		*ret_why = xasprintf("root's configuration of %s has no environment %s",
				     u->order.o.service, u->order.o.environment);
		return -ENOENT;
	}
	return u->order.o.step == STEP_CHECK ? check_all(u, env, ret_why) : plan(u, env, ret_why);
}

int
unit_prepare(struct unit *u, char **ret_why)
{
	int r = order_read(&u->files, &u->order, ret_why);

	if (r < 0)
		return r;
	unit_as_root();
	r = prepare_as_root(u, ret_why);
	if (unit_as_daemon(u) == 0 || r < 0)
		return r;
	*ret_why = xasprintf("cannot read and write as %s again", u->user);
	return -EPERM;
}

void
unit_done(struct unit *u)
{
	unit_as_root();
	remove_stage(u);
	hook_plan_done(&u->plan);
	conf_free(u->conf);
	order_done(&u->order);
	hook_files_done(&u->files);
	free(u->backup);
	free(u->stage);
	free(u->user);
	*u = (struct unit){0};
}

/* --- sweeping ----------------------------------------------------------------------------- */

/* The folder of our own control group; version 2 of them only, as systemd makes it. */
static char *
own_group(void)
{
	char *text, *line, *path = NULL;
	size_t len;

	if (file_read(AT_FDCWD, "/proc/self/cgroup", 64 << 10, &text, &len) < 0)
		return NULL;
	line = strstr(text, "0::/");
	if (line) {
		line[strcspn(line, "\n")] = '\0';
		path = xasprintf("/sys/fs/cgroup%s/cgroup.procs", line + strlen("0::"));
	}
	free(text);
	return path;
}

/* Returns how many there were besides ourselves; -1 when that cannot be known. */
static int
kill_others(const char *procs)
{
	char *text, *p, *end;
	size_t len;
	int n = 0;

	if (file_read(AT_FDCWD, procs, 16 << 20, &text, &len) < 0)
		return -1;
	for (p = text;; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 1 && pid != getpid() && kill((pid_t)pid, SIGKILL) == 0)
			n++;
	}
	free(text);
	return n;
}

int
unit_sweep(void)
{
	enum { ROUNDS = 500 }; /* who forks while we kill is found by the next round */
	const char *result = getenv("SERVICE_RESULT");
	char *procs;
	int n = 1;

	/* A runner that has ended by itself left running what the hook wanted so. */
	if (!result || streq(result, "success") || streq(result, "exit-code"))
		return 0;
	procs = own_group();
	for (unsigned i = 0; procs && n > 0 && i < ROUNDS; i++) {
		n = kill_others(procs);
		usleep(10000);
	}
	free(procs);
	return n == 0 ? 0 : -EBUSY;
}
