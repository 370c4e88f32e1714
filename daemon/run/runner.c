/* SPDX-License-Identifier: Apache-2.0 */
/* One process, one thread, one poll loop. */

#include "daemon/run/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"

/* For the rest of the output once nobody is left to wait for. */
static const usec_t drain_usec = USEC_PER_SEC;
static const usec_t kill_again_usec = 10 * USEC_PER_MSEC;
/* What KILL has not ended by then hangs in the kernel. */
static const usec_t kill_give_up_usec = 10 * USEC_PER_SEC;

void
runner_complain(const char *what, const char *why)
{
	fprintf(stderr, "dhash-hook: %s: %s\n", what, why);
}

/* --- output ------------------------------------------------------------------------------- */

/* False at the end of the output. */
static bool
take_output(struct runner *u)
{
	static char buf[64 << 10];
	ssize_t n = read(u->command.output, buf, sizeof buf);

	if (n < 0 && errno == EINTR)
		return true;
	if (n > 0) {
		output_take(&u->output, buf, (size_t)n);
		return true;
	}
	close(u->command.output);
	u->command.output = -1;
	return false;
}

/*
 * What survives the hook on purpose may hold the pipe as its standard output: without a reader its
 * next line would be its death by SIGPIPE.  So somebody reads on, for as long as it lives, and
 * throws it away; the result is out, and nobody waits for this process.
 */
static void
read_on(struct runner *u)
{
	char buf[4096];
	sigset_t none;
	ssize_t n;

	if (u->command.output < 0 || fork() != 0)
		return;
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	sigemptyset(&none); /* what we wait for by signalfd nobody waits for here */
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(u->command.output, STDIN_FILENO);
	close_range(STDIN_FILENO + 1, ~0U, 0);
	if (chdir("/") < 0)
		_exit(1);
	do
		n = read(STDIN_FILENO, buf, sizeof buf);
	while (n > 0 || (n < 0 && errno == EINTR));
	_exit(0);
}

/* --- stages ------------------------------------------------------------------------------- */

/* CLOCK_BOOTTIME: a deadline goes on while the machine sleeps. */
static void
arm(struct runner *u, usec_t at)
{
	struct itimerspec t = {0};

	if (at != USEC_INFINITY) {
		at = MAX(at, 1);
		t.it_value.tv_sec = at / USEC_PER_SEC;
		t.it_value.tv_nsec = at % USEC_PER_SEC * 1000;
	}
	timerfd_settime(u->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

static void
drain(struct runner *u)
{
	u->stage = u->command.output < 0 ? STAGE_ENDED : STAGE_DRAINING;
	arm(u, now_boottime() + drain_usec);
}

/* Our own children only: they keep their numbers until we reap them, so nobody else can be hit.
 * What they leave behind becomes our child in turn, and is found by the next call. */
static void
kill_children(void)
{
	char path[64], *text, *p, *end;
	size_t len;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	if (file_read(AT_FDCWD, path, 16 << 20, &text, &len) < 0)
		return;
	for (p = text;; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
	free(text);
}

static void
kill_all(struct runner *u)
{
	/* Until it is reaped its group cannot belong to anybody else. */
	if (!u->exited && kill(-u->command.pid, SIGKILL) < 0)
		kill(u->command.pid, SIGKILL);
	kill_children();
	u->survivors = now_boottime() - u->killing_since > kill_give_up_usec;
	if (u->survivors)
		drain(u);
	else
		arm(u, now_boottime() + kill_again_usec);
}

static void
kill_begin(struct runner *u)
{
	u->stage = STAGE_KILLING;
	u->killing_since = now_boottime();
	kill_all(u);
}

static void
terminate(struct runner *u)
{
	if (u->stage != STAGE_RUNNING)
		return;
	u->stage = STAGE_TERMINATING;
	/* The group is there once the child has called setsid(), a moment after its birth. */
	if (kill(-u->command.pid, SIGTERM) < 0)
		kill(u->command.pid, SIGTERM);
	if (u->r->kill_usec == 0)
		kill_begin(u);
	else if (u->r->kill_usec < USEC_INFINITY - now_boottime())
		arm(u, now_boottime() + u->r->kill_usec);
}

static void
on_timer(struct runner *u)
{
	uint64_t n;

	if (read(u->timer, &n, sizeof n) < 0)
		return; /* set anew in the meantime */
	switch (u->stage) {
	case STAGE_RUNNING:
		u->timed_out = true;
		terminate(u);
		break;
	case STAGE_TERMINATING:
		kill_begin(u);
		break;
	case STAGE_KILLING:
		kill_all(u);
		break;
	case STAGE_DRAINING:
		u->stage = STAGE_ENDED;
		break;
	case STAGE_ENDED:
		break;
	}
}

static void
reap(struct runner *u)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != u->command.pid)
			continue;
		u->exited = true;
		u->wait_status = status;
		u->took = now_boottime() - u->began;
	}
	if (u->stage == STAGE_RUNNING && u->exited)
		drain(u);
	else if ((u->stage == STAGE_TERMINATING || u->stage == STAGE_KILLING) && pid < 0)
		drain(u); /* ECHILD: none are left */
	else if (u->stage == STAGE_KILLING)
		kill_children(); /* their orphans are ours now */
}

static void
on_signal(struct runner *u)
{
	struct signalfd_siginfo si;

	while (read(u->signals, &si, sizeof si) == sizeof si) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		/* What has ended by itself in this very moment was not cancelled. */
		reap(u);
		if (u->stage == STAGE_RUNNING) {
			u->cancelled = true;
			terminate(u);
		}
	}
	reap(u);
}

static void
supervise(struct runner *u)
{
	while (u->stage != STAGE_ENDED) {
		struct pollfd fds[] = {
			{.fd = u->signals, .events = POLLIN},
			{.fd = u->timer, .events = POLLIN},
			{.fd = u->command.report, .events = POLLIN},
			{.fd = u->command.output, .events = POLLIN},
		};

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[2].revents)
			u->fault = command_report(&u->command, u->r);
		if (fds[3].revents && !take_output(u) && u->stage == STAGE_DRAINING)
			u->stage = STAGE_ENDED;
		if (fds[1].revents)
			on_timer(u);
		if (fds[0].revents && u->stage != STAGE_ENDED)
			on_signal(u);
	}
	/* The report may still lie in the pipe when the child's death is seen first. */
	if (u->command.report >= 0 && u->exited)
		u->fault = command_report(&u->command, u->r);
}

/* --- result ------------------------------------------------------------------------------- */

static char *
describe_end(const struct runner *u)
{
	int status = u->wait_status;
	char took[USEC_TEXT_MAX];

	usec_format(took, u->took / USEC_PER_MSEC * USEC_PER_MSEC);
	if (!u->exited)
		return xstrdup("killed, but it does not end");
	if (WIFSIGNALED(status))
		return xasprintf("killed by signal %d (%s) after %s", WTERMSIG(status),
				 strsignal(WTERMSIG(status)), took);
	if (WEXITSTATUS(status) == 0)
		return xasprintf("succeeded after %s", took);
	return xasprintf("exit status %d after %s", WEXITSTATUS(status), took);
}

static char *
describe(const struct runner *u)
{
	char *end, *text, limit[USEC_TEXT_MAX];

	if (u->fault)
		return xasprintf("could not be run: %s", u->fault);
	if (u->checked)
		return xstrdup("all of its hooks can be run");
	end = describe_end(u);
	if (!u->timed_out && !u->cancelled)
		return end;
	if (u->timed_out)
		text = xasprintf("killed: still running at its deadline of %s (%s)%s",
				 usec_format(limit, u->r->timeout_usec), end,
				 u->survivors ? "; some of its processes do not end" : "");
	else
		text = xasprintf("cancelled (%s)%s", end,
				 u->survivors ? "; some of its processes do not end" : "");
	free(end);
	return text;
}

static int
write_result(struct runner *u)
{
	bool exited = u->exited && !u->fault;
	struct hook_ending e = {
		.cancelled = u->cancelled,
		.output_bytes = u->output.bytes,
		.r =
			{
				.outcome = HOOK_FAILED,
				.exit_status = -1,
				.timed_out = u->timed_out,
				.truncated = u->output.truncated,
				.took = u->took,
			},
	};
	char *text = describe(u);
	int r;

	if (u->checked)
		e.r.exit_status = 0;
	if (exited && WIFEXITED(u->wait_status))
		e.r.exit_status = WEXITSTATUS(u->wait_status);
	if (exited && WIFSIGNALED(u->wait_status))
		e.r.signal = WTERMSIG(u->wait_status);
	/* A command that turns TERM into exit status 0 has still not done its work. */
	if (e.r.exit_status == 0 && !u->timed_out && !u->cancelled)
		e.r.outcome = HOOK_OK;
	str_copy(e.r.text, sizeof e.r.text, text);
	free(text);
	r = result_write(u->files, u->room, &e);
	u->room = -1;
	if (r < 0)
		runner_complain(u->files->result, strerror(-r));
	return r < 0 ? RUNNER_NO_RESULT : RUNNER_OK;
}

/* --- set-up ------------------------------------------------------------------------------- */

void
runner_detach(void)
{
	sigset_t block;

	/* First of all: a request to cancel must wait until it can be carried out. */
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_SETMASK, &block, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	setsid(); /* fails when the daemon has seen to it */
	umask(022);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static int
open_own(struct runner *u)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	u->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	u->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (u->signals < 0 || u->timer < 0)
		r = -errno;
	else
		r = output_open(&u->output, u->r->log, u->r->output_max_bytes);
	if (r < 0)
		u->fault = xasprintf("%s: %s", u->timer < 0 ? "timer" : u->r->log, strerror(-r));
	return r;
}

static void
run(struct runner *u)
{
	u->began = now_boottime();
	if (open_own(u) < 0 || command_start(u->r, &u->command, &u->fault) < 0)
		return;
	/* Behind the fork, which must be of one thread; a journal that hangs holds up nothing. */
	log_start();
	arm(u, u->r->timeout_usec < USEC_INFINITY - u->began ? u->began + u->r->timeout_usec
							     : USEC_INFINITY);
	supervise(u);
}

/* The lock on the descriptor that is kept here says that we live. */
int
runner_claim(const struct runner *u)
{
	int r = started_claim(u->files);

	if (r == -EEXIST)
		return RUNNER_TAKEN;
	if (r < 0) {
		runner_complain(u->files->started, strerror(-r));
		return RUNNER_NO_START;
	}
	return RUNNER_OK;
}

/* From the claim to the result. */
int
runner_work(struct runner *u)
{
	int status;

	u->room = result_reserve(u->files);
	if (u->r)
		run(u);
	output_flush(&u->output);
	status = write_result(u);
	read_on(u);
	return status;
}

void
runner_init(struct runner *u)
{
	*u = (struct runner){
		.output = {.fd = -1},
		.room = -1,
		.signals = -1,
		.timer = -1,
		.command = {.output = -1, .report = -1},
	};
}

void
runner_done(struct runner *u)
{
	if (u->signals >= 0)
		close(u->signals);
	if (u->timer >= 0)
		close(u->timer);
	output_close(&u->output);
	command_done(&u->command);
	free(u->fault);
}
