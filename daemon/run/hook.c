/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of a hook: looks at the three files, starts a runner when there is none, and
 * watches it by pidfd.  It never concludes anything from the runner's exit status but "another one
 * has it": the files alone say what happened, as they do after a crash.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/run/manager.h"
#include "daemon/run/order.h"

struct hook {
	struct event_base *base;
	void (*done)(void *arg, const struct hook_result *result);
	void *arg;
	struct hook_files files;
	struct event *event;     /* owned; the pidfd, or a timer */
	int pidfd;               /* owned; -1 when no runner is watched */
	pid_t child;             /* the runner, when it is our child and not yet reaped; else 0 */
	struct manager *manager; /* its runner is a unit; else NULL */
	char *unit;              /* owned */
	struct unit_job *starting, *stopping;
	char *runner, *log; /* owned; of a child */
	unsigned tries;
	bool cancelled;
	struct hook_result result; /* decided, and to be reported in the next turn of the loop */
};

enum { START_TRIES = 30 };

static bool take_over(struct hook *h);
static void on_try_again(evutil_socket_t fd, short what, void *arg);

static void
hook_free(struct hook *h)
{
	if (h->event)
		event_free(h->event);
	if (h->pidfd >= 0)
		close(h->pidfd);
	unit_job_forget(h->starting);
	unit_job_forget(h->stopping);
	free(h->unit);
	free(h->runner);
	free(h->log);
	hook_files_done(&h->files);
	free(h);
}

/* False: the system has no more watches on descriptors just now. */
static bool
watch(struct hook *h, int fd, event_callback_fn fn, usec_t after)
{
	struct timeval tv = {.tv_sec = after / USEC_PER_SEC, .tv_usec = after % USEC_PER_SEC};

	if (h->event)
		event_free(h->event);
	h->event = event_new(h->base, fd, fd >= 0 ? EV_READ : 0, fn, h);
	if (!h->event)
		out_of_memory();
	return event_add(h->event, fd >= 0 ? NULL : &tv) == 0;
}

/* --- answers ------------------------------------------------------------------------------ */

static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;
	struct hook_result result = h->result;
	void (*done)(void *, const struct hook_result *) = h->done;
	void *done_arg = h->arg;

	hook_free(h);
	done(done_arg, &result);
}

static void
answer(struct hook *h, const struct hook_result *result)
{
	h->result = *result;
	watch(h, -1, on_answer, 0);
}

__attribute__((format(printf, 3, 4))) static void
answer_text(struct hook *h, enum hook_outcome outcome, const char *fmt, ...)
{
	struct hook_result result = {.outcome = outcome, .exit_status = -1};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(result.text, sizeof result.text, fmt, ap);
	va_end(ap);
	answer(h, &result);
}

static void
answer_unknown(struct hook *h)
{
	answer_text(h, HOOK_UNKNOWN,
		    "it was started, and its runner is gone without a result; see %s",
		    h->files.started);
}

/* Our own lack of means says nothing about the hook: it is looked at again. */
static bool
lacking(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* True when there is a result, or a file that should be one. */
static bool
answer_from_result(struct hook *h)
{
	struct hook_result result;
	int r = result_read(&h->files, &result);

	if (r == 0)
		answer(h, &result);
	else if (lacking(r))
		watch(h, -1, on_try_again, USEC_PER_SEC);
	else if (r != -ENOENT)
		answer_text(h, HOOK_UNKNOWN, "cannot read its result %s: %s", h->files.result,
			    strerror(-r));
	return r != -ENOENT;
}

/* --- the runner --------------------------------------------------------------------------- */

/* Returns false when it cannot be reaped. */
static bool
reap_child(struct hook *h, siginfo_t *ret)
{
	int r;

	*ret = (siginfo_t){0};
	do
		r = waitid(P_PID, (id_t)h->child, ret, WEXITED);
	while (r < 0 && errno == EINTR);
	h->child = 0;
	return r == 0;
}

static void
answer_not_started(struct hook *h, const siginfo_t *si)
{
	answer_text(h, HOOK_FAILED,
		    h->cancelled
			    ? "cancelled before it was started"
			    : "could not be started: its runner ended with %s %d; its log says "
			      "more",
		    si->si_code == CLD_EXITED ? "exit status" : "signal", si->si_status);
}

static void
on_runner_end(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;
	bool ours = h->child != 0;
	siginfo_t si;

	close(h->pidfd);
	h->pidfd = -1;
	if (ours)
		reap_child(h, &si);
	/* A runner that was not ours may be a zombie still: gone for us, but not for /proc. */
	if (ours && !take_over(h))
		answer_not_started(h, &si);
	else if (!ours && !answer_from_result(h))
		answer_unknown(h);
}

static void
on_stopped(void *arg, int error, const char *why)
{
	struct hook *h = arg;

	h->stopping = NULL;
	/* The runner's own deadline stays. */
	if (error < 0)
		log_error("cannot cancel the hook %s: %s", h->unit, why);
}

/* The unit's runner is root's: it hears systemd only.  One that is yet to start is not started. */
static void
tell_to_cancel(struct hook *h)
{
	if (!h->cancelled)
		return;
	if (h->manager && !h->stopping)
		h->stopping = manager_stop(h->manager, h->unit, on_stopped, h);
	if (!h->manager && h->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, h->pidfd, SIGTERM, NULL, 0);
}

static void
watch_runner(struct hook *h, int pidfd)
{
	h->pidfd = pidfd;
	if (!watch(h, pidfd, on_runner_end, 0)) {
		watch(h, -1, on_try_again, USEC_PER_SEC);
		h->pidfd = -1;
		close(pidfd);
	}
	tell_to_cancel(h);
}

static void
on_try_again(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;
	int pidfd;

	if (h->child == 0) { /* not ours to watch, or a unit's */
		if (!take_over(h))
			answer_unknown(h);
		return;
	}
	pidfd = (int)syscall(SYS_pidfd_open, h->child, 0);
	if (pidfd >= 0)
		watch_runner(h, pidfd);
	else
		watch(h, -1, on_try_again, USEC_PER_SEC);
}

/* The rows of the recovery table where something was started.  False: nothing was. */
static bool
take_over(struct hook *h)
{
	int r;

	if (answer_from_result(h))
		return true;
	r = started_open(&h->files);
	if (r == -ENOENT)
		return false;
	if (r >= 0)
		watch_runner(h, r);
	else if (lacking(r) || r == -EAGAIN)
		watch(h, -1, on_try_again, USEC_PER_SEC);
	else if (r != -ESRCH)
		answer_text(h, HOOK_UNKNOWN, "it was started, but %s cannot be read: %s",
			    h->files.started, strerror(-r));
	/* Gone: perhaps after its result, and since we looked. */
	else if (!answer_from_result(h))
		answer_unknown(h);
	return true;
}

/* --- start -------------------------------------------------------------------------------- */

/*
 * posix_spawn(), because the daemon has threads.  The runner gets nothing of ours: no environment
 * (NOTIFY_SOCKET, credentials), no descriptors, no dispositions; TERM and INT blocked, so that a
 * cancellation waits until the runner can act on it.
 */
static int
spawn(const char *runner, const char *request, int log, pid_t *ret)
{
	char *const argv[] = {(char *)"dhash-hook", (char *)request, NULL}, *const envp[] = {NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t all, block;
	int r = 0;

	sigfillset(&all);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setsigmask(&attr, &block);
	posix_spawn_file_actions_init(&fa);
	r |= posix_spawn_file_actions_adddup2(&fa, log, STDERR_FILENO);
	r |= posix_spawn_file_actions_adddup2(&fa, STDERR_FILENO, STDOUT_FILENO);
	r |= posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	r |= posix_spawn_file_actions_addclosefrom_np(&fa, STDERR_FILENO + 1);
	if (r != 0)
		out_of_memory(); /* without one of them the runner would keep what is ours */
	r = posix_spawn(ret, runner, &fa, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	return -r;
}

/* *ret_what: the file that an error is about. */
static int
open_and_spawn(struct hook *h, const char **ret_what)
{
	int log = open(h->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640), r;

	*ret_what = h->log;
	if (log < 0)
		return -errno;
	*ret_what = h->runner;
	r = spawn(h->runner, h->files.request, log, &h->child);
	close(log);
	if (r < 0)
		h->child = 0;
	return r;
}

/*
 * A machine that is short of processes, memory or descriptors just now: nothing has begun, so it is
 * tried again, for half a minute.  Else a rollback would fail for the very load that a bad release
 * makes.
 */
static void
on_start(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;
	const char *file = NULL;
	int r = h->cancelled ? -ECANCELED : open_and_spawn(h, &file);

	if (r == 0)
		on_try_again(-1, 0, h);
	else if (r == -ECANCELED)
		answer_text(h, HOOK_FAILED, "cancelled before it was started");
	else if ((lacking(r) || r == -EAGAIN) && h->tries++ < START_TRIES)
		watch(h, -1, on_start, USEC_PER_SEC);
	else
		answer_text(h, HOOK_FAILED,
			    "could not be started: %s: %s; is dhashd installed whole?", file,
			    strerror(-r));
}

static void
start_child(struct hook *h, const char *runner, const struct hook_request *r)
{
	char *why = NULL;
	int err = hook_check(r->argv, r->directory, &why);

	if (err < 0) {
		answer_text(h, HOOK_FAILED, "could not be run: %s", why);
		free(why);
		return;
	}
	err = mkdir_p(h->files.folder, 0750);
	if (err == 0)
		err = request_write(&h->files, r);
	if (err < 0) {
		answer_text(h, HOOK_FAILED, "could not be started: %s: %s", h->files.request,
			    err == -EINVAL ? "its command line or environment is not UTF-8"
					   : strerror(-err));
		return;
	}
	h->runner = xstrdup(runner);
	h->log = xstrdup(r->log);
	on_start(-1, 0, h);
}

/*
 * The unit says that it is ready when it has claimed the transaction.  When it does not, or systemd
 * cannot be heard, it may still begin later: so its place is taken before anybody is told that the
 * hook failed.
 */
static void
on_started(void *arg, int error, const char *why)
{
	struct hook *h = arg;
	char *text;
	int r;

	h->starting = NULL;
	if (take_over(h))
		return;
	text = h->cancelled ? xstrdup("cancelled before it was started")
			    : xasprintf("could not be started: %s",
					error < 0 ? why : "its unit has started without it");
	r = started_forestall(&h->files, text);
	if (r == -EEXIST)
		take_over(h);
	else
		answer_text(h, r < 0 ? HOOK_UNKNOWN : HOOK_FAILED, "%s%s%s", text,
			    r < 0 ? "; and it cannot be kept from starting later: " : "",
			    r < 0 ? strerror(-r) : "");
	free(text);
}

static void
start_unit(struct hook *h, const struct hook_order *o)
{
	int r = mkdir_p(h->files.folder, 0750);

	if (r == 0)
		r = order_write(&h->files, o);
	if (r < 0)
		answer_text(h, HOOK_FAILED, "could not be started: %s: %s", h->files.request,
			    r == -EINVAL ? "it holds what is not UTF-8" : strerror(-r));
	else
		h->starting = manager_start(h->manager, h->unit, on_started, h);
}

struct hook *
hook_ensure(struct event_base *base, const struct hook_way *way, const struct hook_request *r,
	    void (*done)(void *arg, const struct hook_result *result), void *arg)
{
	struct hook *h = xcalloc(1, sizeof *h);
	char *why = NULL;

	h->base = base;
	h->done = done;
	h->arg = arg;
	h->pidfd = -1;
	h->manager = way->manager;
	h->unit = xasprintf("dhash-hook@%s.service", r->txid ? r->txid : "");
	if ((h->manager ? order_check(r->order, &why) : request_check(r, &why)) < 0)
		answer_text(h, HOOK_FAILED, "%s", why);
	else if (hook_files_init(&h->files, r->folder, r->txid) < 0)
		answer_text(h, HOOK_FAILED, "its folder is no path: %s",
			    r->folder ? r->folder : "none");
	else if (take_over(h))
		;
	else if (h->manager)
		start_unit(h, r->order);
	else
		start_child(h, way->runner, r);
	free(why);
	return h;
}

void
hook_detach(struct hook *h)
{
	if (h)
		hook_free(h);
}

void
hook_cancel(struct hook *h)
{
	h->cancelled = true;
	tell_to_cancel(h);
}
