/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is listed before the daemon takes up any work, so nothing new is ever among it, and is
 * removed on a worker after that.  Only names that dhashd itself gives are touched, and only where
 * a crash can have left them: with the newest deployment of each environment.
 * What a runner makes stays for as long as that runner lives.
 */

#include "daemon/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/act_internal.h"
#include "daemon/run/request.h"

enum {
	FILES_MAX = 10000, /* of one start; the rest waits for the next */
	/* Only requests of the last moment were not committed: their folders are the newest. */
	FOLDERS_MAX = 64,
};

/* A file's time is taken from a clock that lags by a tick of the kernel's. */
static const usec_t clock_lag = 20 * USEC_PER_MSEC;

struct leftovers {
	struct job job; /* first: a job is cast back */
	struct daemon *daemon;
	char **files; /* owned: full paths */
	size_t n_files, n_removed;
	char **folders; /* owned: ids; those that are not empty are let go by the worker */
	size_t n_folders;
};

/* A folder without a deployment, as far as the files say; the store has the last word. */
struct reserved {
	struct job job; /* first */
	struct daemon *daemon;
	char id[DEPLOYMENT_ID_MAX];
};

/* --- what was not written -------------------------------------------------------------------- */

static bool
report_missing(const struct daemon *d, const struct deployment *dep)
{
	char *path = session_path(d->options.state_dir, dep->id, "incident-report.md");
	usec_t told = MAX(dep->ended_wall, dep->restored_wall);
	struct stat st;
	bool missing = stat(path, &st) < 0;

	if (!missing)
		missing = st.st_mtim.tv_sec * USEC_PER_SEC + st.st_mtim.tv_nsec / 1000 + clock_lag <
			  told;
	free(path);
	return missing;
}

void
leftovers_mend(struct daemon *d, const struct deployment *dep)
{
	bool reported = dep->state == DS_ROLLED_BACK || dep->state == DS_ROLLBACK_FAILED;

	if (!dstate_ended(dep->state))
		session_begin(d->scribe, dep);
	else if (reported && report_missing(d, dep))
		effects_report(d, dep->id);
}

/* --- listing --------------------------------------------------------------------------------- */

static void
each_name(const char *folder, void (*fn)(struct leftovers *l, const char *folder, const char *name),
	  struct leftovers *l)
{
	DIR *dir = opendir(folder);
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		fn(l, folder, e->d_name);
	if (dir)
		closedir(dir);
}

static void
add_file(struct leftovers *l, const char *folder, const char *name)
{
	if (l->n_files >= FILES_MAX)
		return;
	l->files = xrealloc(l->files, (l->n_files + 1) * sizeof *l->files);
	l->files[l->n_files++] = xasprintf("%s/%s", folder, name);
}

static bool
like(const char *name, const char *const *patterns)
{
	for (; *patterns; patterns++)
		if (fnmatch(*patterns, name, FNM_PERIOD) == 0)
			return true;
	return false;
}

static void
in_session(struct leftovers *l, const char *folder, const char *name)
{
	static const char *const ours[] = {"incident-report.md.tmp-??????", NULL};

	if (like(name, ours))
		add_file(l, folder, name);
}

static void
in_hooks(struct leftovers *l, const char *folder, const char *name)
{
	static const char *const ours[] = {
		"previous-release.tmp-??????", "deploy-*.request.tmp-??????",
		"deploy-*.started.tmp-[0-9]*", "deploy-*.result.tmp-??????",
		"deploy-*.result.reserved",    NULL};

	if (like(name, ours))
		add_file(l, folder, name);
}

static void
in_backups(struct leftovers *l, const char *folder, const char *name)
{
	static const char *const ours[] = {".*-[0-9]*-[0-9]*.zip.partial",
					   "*-[0-9]*-[0-9]*.zip.sha256.tmp-??????", NULL};

	for (unsigned i = 0; like(name, ours) && i < l->daemon->n_targets; i++) {
		const struct target *t = l->daemon->targets[i];
		char *stem = xasprintf("%s-%s-", t->service, t->environment);
		const char *rest = name + (*name == '.');
		bool match;

		if (strncmp(rest, "emergency-", 10) == 0)
			rest += 10;
		match = strncmp(rest, stem, strlen(stem)) == 0;
		free(stem);
		/* A backup that goes on clears its own way, under that very name. */
		if (match && (*name != '.' ||
			      (t->last_state != DS_BACKUP && t->last_state != DS_RB_SAVING))) {
			add_file(l, folder, name);
			return;
		}
	}
}

/* A link that was to be renamed to `current`. */
static void
in_releases(struct leftovers *l, const char *folder, const char *name)
{
	static const char *const ours[] = {".current-????????", NULL};
	char *path, to[PATH_MAX_LEN];

	if (!like(name, ours))
		return;
	path = xasprintf("%s/%s", folder, name);
	if (readlink(path, to, sizeof to) > 9 && strncmp(to, "releases/", 9) == 0)
		add_file(l, folder, name);
	free(path);
}

static bool
is_newest(const struct daemon *d, const char *id)
{
	for (unsigned i = 0; i < d->n_targets; i++)
		if (streq(d->targets[i]->live_id, id))
			return true;
	return false;
}

static void
in_sessions(struct leftovers *l, const char *folder, const char *name)
{
	static const char *const ours[] = {"deploy-[0-9]*-[0-9]*", NULL};

	if (!like(name, ours) || strlen(name) >= DEPLOYMENT_ID_MAX)
		return;
	l->folders = xrealloc(l->folders, (l->n_folders + 1) * sizeof *l->folders);
	l->folders[l->n_folders++] = xstrdup(name);
}

static int
newest_first(const void *a, const void *b)
{
	return strcmp(*(char *const *)b, *(char *const *)a);
}

static void
list_reserved(struct leftovers *l)
{
	char *path = xasprintf("%s/sessions", l->daemon->options.state_dir);
	size_t kept = 0;

	each_name(path, in_sessions, l);
	free(path);
	if (l->n_folders > 0)
		qsort(l->folders, l->n_folders, sizeof *l->folders, newest_first);
	for (size_t i = 0; i < l->n_folders; i++)
		if (i < FOLDERS_MAX && !is_newest(l->daemon, l->folders[i]))
			l->folders[kept++] = l->folders[i];
		else
			free(l->folders[i]);
	l->n_folders = kept;
}

static char *
backups_of(const struct target *t)
{
	const struct conf_env *c = target_conf(t), none = {0};

	return conf_backup_folder(c ? c : &none, t->daemon->options.state_dir);
}

/* Environments may share a folder: it is read once. */
static bool
backups_listed(const struct daemon *d, unsigned before, const char *folder)
{
	bool found = false;

	for (unsigned i = 0; i < before && !found; i++) {
		char *other = backups_of(d->targets[i]);

		found = d->targets[i]->live_id[0] && streq(other, folder);
		free(other);
	}
	return found;
}

static void
list_target(struct leftovers *l, unsigned index)
{
	struct daemon *d = l->daemon;
	const struct target *t = d->targets[index];
	char *session, *hooks, *backups;

	if (!t->live_id[0])
		return;
	session = session_path(d->options.state_dir, t->live_id, NULL);
	hooks = session_path(d->options.state_dir, t->live_id, "hooks");
	backups = backups_of(t);
	each_name(session, in_session, l);
	each_name(hooks, in_hooks, l);
	if (!backups_listed(d, index, backups))
		each_name(backups, in_backups, l);
	if (target_uses_engine(t))
		each_name(act_releases(target_conf(t)), in_releases, l);
	free(backups);
	free(hooks);
	free(session);
}

/* --- on the worker --------------------------------------------------------------------------- */

/* Closes the pidfd, or takes the error in its place.  One that nobody has reaped yet is gone. */
static bool
process_lives(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool lives;

	if (pidfd < 0)
		return pidfd != -ESRCH;
	lives = poll(&p, 1, 0) == 0;
	close(pidfd);
	return lives;
}

/* Whoever makes X.started.tmp-PID is that process. */
static bool
claimant_lives(const char *path)
{
	const char *pid = strstr(path, ".started.tmp-");
	int fd;

	if (!pid)
		return false;
	fd = (int)syscall(SYS_pidfd_open, atoi(pid + 13), 0);
	return process_lives(fd < 0 ? -errno : fd);
}

/* Whoever makes X.result is the runner that holds X.started. */
static bool
runner_lives(const char *path)
{
	const char *slash = strrchr(path, '/'), *end = strstr(slash, ".result.");
	char *folder, *txid;
	struct hook_files files;
	bool lives = true;
	pid_t pid;

	if (!end)
		return false;
	folder = xasprintf("%.*s", (int)(slash - path), path);
	txid = xasprintf("%.*s", (int)(end - slash - 1), slash + 1);
	if (hook_files_init(&files, folder, txid) == 0) {
		lives = started_holder(&files, &pid) != -ESRCH;
		hook_files_done(&files);
	}
	free(txid);
	free(folder);
	return lives;
}

static bool
holds_only(const char *path, const char *name)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	bool only = dir != NULL;

	while (only && (e = readdir(dir)))
		only = streq(e->d_name, ".") || streq(e->d_name, "..") ||
		       (name && streq(e->d_name, name));
	if (dir)
		closedir(dir);
	return only;
}

static bool
is_empty_session(const struct daemon *d, const char *id)
{
	char *path = session_path(d->options.state_dir, id, NULL),
	     *hooks = session_path(d->options.state_dir, id, "hooks");
	bool empty =
		holds_only(path, "hooks") && (access(hooks, F_OK) < 0 || holds_only(hooks, NULL));

	free(hooks);
	free(path);
	return empty;
}

static void
clear_work(struct job *j)
{
	struct leftovers *l = (struct leftovers *)j;
	size_t kept = 0;

	for (size_t i = 0; i < l->n_files && !j->cancelled; i++)
		if (!claimant_lives(l->files[i]) && !runner_lives(l->files[i]))
			l->n_removed += unlink(l->files[i]) == 0;
	for (size_t i = 0; i < l->n_folders; i++)
		if (!j->cancelled && is_empty_session(l->daemon, l->folders[i]))
			l->folders[kept++] = l->folders[i];
		else
			free(l->folders[i]);
	l->n_folders = kept;
}

/* --- folders that nobody was told of --------------------------------------------------------- */

static void
remove_work(struct job *j)
{
	struct reserved *r = (struct reserved *)j;
	char *path = session_path(r->daemon->options.state_dir, r->id, NULL),
	     *hooks = session_path(r->daemon->options.state_dir, r->id, "hooks");

	/* Neither goes if anything is in it after all. */
	(void)rmdir(hooks);
	if (rmdir(path) < 0)
		(void)mkdir(hooks, 0750);
	free(hooks);
	free(path);
}

static void
remove_done(struct job *j)
{
	free(j);
}

static void
on_known(void *arg, int error, json_t *deployment)
{
	struct reserved *r = arg;

	json_decref(deployment);
	if (error != -ENOENT || r->daemon->stopping) {
		free(r);
		return;
	}
	r->job.work = remove_work;
	r->job.done = remove_done;
	worker_submit(r->daemon->worker, &r->job);
}

static void
clear_done(struct job *j)
{
	struct leftovers *l = (struct leftovers *)j;

	if (l->n_removed > 0)
		log_info("removed %zu files that were left under temporary names when dhashd was "
			 "killed",
			 l->n_removed);
	for (size_t i = 0; i < l->n_folders; i++) {
		struct reserved *r = xcalloc(1, sizeof *r);

		r->daemon = l->daemon;
		str_copy(r->id, sizeof r->id, l->folders[i]);
		if (l->daemon->stopping)
			free(r);
		else
			store_show(l->daemon->store, r->id, 1, on_known, r);
		free(l->folders[i]);
	}
	for (size_t i = 0; i < l->n_files; i++)
		free(l->files[i]);
	free(l->folders);
	free(l->files);
	free(l);
}

void
leftovers_clear(struct daemon *d)
{
	struct leftovers *l = xcalloc(1, sizeof *l);

	l->daemon = d;
	l->job.work = clear_work;
	l->job.done = clear_done;
	for (unsigned i = 0; i < d->n_targets; i++)
		list_target(l, i);
	list_reserved(l);
	worker_submit(d->worker, &l->job);
}
