/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/run/program.h"

enum step { STEP_SET_UP, STEP_USER, STEP_DIRECTORY, STEP_EXEC };

/* What the child writes to `report` before it gives up. */
struct failure {
	enum step step;
	int error;
};

/* The account to become, looked up before the fork. */
struct account {
	bool change;
	char *name; /* owned */
	uid_t uid;
	gid_t gid;
};

static int
account_find(const char *user, struct account *ret, char **ret_why)
{
	const struct passwd *p;

	*ret = (struct account){0};
	if (!user)
		return 0;
	errno = 0;
	p = getpwnam(user);
	if (!p) {
		*ret_why = xasprintf("there is no user \"%s\" to run the hook as%s%s", user,
				     errno ? ": " : "", errno ? strerror(errno) : "");
		return -ESRCH;
	}
	if (geteuid() != 0) {
		if (p->pw_uid == geteuid())
			return 0;
		*ret_why =
			xasprintf("only a daemon run by root can run hooks as user \"%s\"", user);
		return -EPERM;
	}
	*ret = (struct account){
		.change = true,
		.name = xstrdup(p->pw_name),
		.uid = p->pw_uid,
		.gid = p->pw_gid,
	};
	return 0;
}

int
hook_check_user(const char *user, char **ret_why)
{
	struct account a;
	int r = account_find(user, &a, ret_why);

	free(a.name);
	return r;
}

/* The pipe comes along: /dev/stderr is opened anew by those who write to it, by its owner only. */
static int
become(const struct account *a)
{
	if (!a->change)
		return 0;
	/* Where a unit's runner works on files as the daemon's user. */
	setfsuid(geteuid());
	setfsgid(getegid());
	if (fchown(STDOUT_FILENO, a->uid, a->gid) < 0)
		return -errno;
	if (initgroups(a->name, a->gid) < 0 || setgid(a->gid) < 0 || setuid(a->uid) < 0)
		return -errno;
	return 0;
}

static void
reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* fails for KILL, STOP and libc's own: as it should */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int
redirect(int output)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		return -errno;
	/* CLOEXEC rather than closed: the way to report a failed exec must last until then. */
	if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return 0;
}

/*
 * Without its runner a hook has no deadline, no log and no result, and the daemon pages a human or
 * rolls back: it must not go on behind their backs.  After become(), which would forget it.
 */
static int
die_with(pid_t runner)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return getppid() == runner ? 0 : -ESRCH;
}

static struct failure
child(const struct hook_request *r, const struct account *a, const char *program, int output,
      pid_t runner)
{
	static char *const nothing[] = {NULL};
	struct failure f = {.step = STEP_SET_UP};

	reset_signals();
	umask(022);
	setsid();
	f.error = -redirect(output);
	if (f.error)
		return f;
	f.step = STEP_USER;
	f.error = -become(a);
	if (f.error)
		return f;
	f.step = STEP_SET_UP;
	f.error = -die_with(runner);
	if (f.error)
		return f;
	f.step = STEP_DIRECTORY;
	if (chdir(r->directory ? r->directory : "/") < 0) {
		f.error = errno;
		return f;
	}
	f.step = STEP_EXEC;
	execve(program, r->argv, r->environ ? r->environ : nothing);
	f.error = errno;
	return f;
}

int
command_start(const struct hook_request *r, struct command *ret, char **ret_why)
{
	int output[2] = {-1, -1}, report[2] = {-1, -1}, err;
	struct account account;
	struct failure f;
	char *program;
	pid_t runner = getpid(), pid = -1;

	err = account_find(r->user, &account, ret_why);
	if (err < 0)
		return err;
	program = program_resolve(r->argv[0], r->directory);
	if (pipe2(output, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0)
		pid = fork();
	err = pid < 0 ? -errno : 0;
	if (pid == 0) {
		f = child(r, &account, program, output[1], runner);
		if (write(report[1], &f, sizeof f) < 0)
			_exit(126);
		_exit(127);
	}
	free(account.name);
	if (output[1] >= 0)
		close(output[1]);
	if (report[1] >= 0)
		close(report[1]);
	*ret = (struct command){pid, output[0], report[0], program};
	if (err < 0) {
		*ret_why = xasprintf("cannot start a process for the hook: %s", strerror(-err));
		command_done(ret);
	}
	return err;
}

char *
command_report(struct command *c, const struct hook_request *r)
{
	struct failure f;
	ssize_t n = read(c->report, &f, sizeof f);

	close(c->report);
	c->report = -1;
	if (n != (ssize_t)sizeof f)
		return NULL;
	switch (f.step) {
	case STEP_USER:
		return xasprintf("cannot become user \"%s\": %s", r->user, strerror(f.error));
	case STEP_DIRECTORY:
		return xasprintf("cannot enter the working directory %s: %s", r->directory,
				 strerror(f.error));
	case STEP_EXEC:
		return program_explain(r->argv[0], c->program, f.error);
	default:
		return xasprintf("cannot prepare the hook's process: %s", strerror(f.error));
	}
}

void
command_done(struct command *c)
{
	if (c->output >= 0)
		close(c->output);
	if (c->report >= 0)
		close(c->report);
	free(c->program);
	*c = (struct command){.output = -1, .report = -1};
}
