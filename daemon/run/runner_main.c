/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dhash-hook REQUESTFILE: runs one hook, to its end, whatever becomes of the daemon.
 *
 * One process, one thread, one poll loop.  The order is the point of the program:
 *
 *   read the request → claim `started` (once for ever, on disk) → run → write `result` (on disk)
 *
 * so that whoever looks at the files after any crash knows whether the command may have run.
 * Whatever fails after the claim becomes a result; before it, an exit status and a line in the log.
 *
 *                    exits by itself
 *   STAGE_RUNNING ──────────────────────────────────────────────→ STAGE_DRAINING → STAGE_ENDED
 *        │ deadline, or SIGTERM to us                                  ↑
 *        └→ STAGE_TERMINATING (TERM to the group) ── all gone ─────────┤
 *                │ kill_usec                                           │
 *                └→ STAGE_KILLING (KILL to all descendants) ─ all gone ┘
 *
 * When the command exits by itself, what it left running is left alone: a deploy hook may have
 * started the service.  At a deadline nothing is: all orphans come to us, as we are a subreaper.
 * When we are killed the command is killed with us: it was started, and has no result.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/run/command.h"
#include "daemon/run/request.h"

enum stage { STAGE_RUNNING, STAGE_TERMINATING, STAGE_KILLING, STAGE_DRAINING, STAGE_ENDED };

/* For the rest of the output once nobody is left to wait for. */
static const usec_t drain_usec = USEC_PER_SEC;
static const usec_t kill_again_usec = 10 * USEC_PER_MSEC;
/* What KILL has not ended by then hangs in the kernel. */
static const usec_t kill_give_up_usec = 10 * USEC_PER_SEC;

struct runner {
	struct hook_files files;
	struct request q;
	struct command command;
	int log, signals, timer; /* owned */
	int room;                /* owned: for the result, or an error */
	enum stage stage;
	usec_t began, killing_since;
	bool exited; /* the command itself; wait_status and took are valid */
	int wait_status;
	usec_t took;
	char *fault; /* owned; why it could not be run */
	bool timed_out, cancelled, truncated, survivors;
	uint64_t output_bytes, logged_bytes;
	char last_logged;
};

static void
complain(const char *what, const char *why)
{
	fprintf(stderr, "dhash-hook: %s: %s\n", what, why);
}

/* --- output ------------------------------------------------------------------------------- */

static bool
log_write(struct runner *u, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(u->log, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		u->last_logged = data[n - 1];
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static void
log_output(struct runner *u, const char *data, size_t len)
{
	size_t max = u->q.r.output_max_bytes, room = max - MIN(max, u->logged_bytes);
	char note[80];

	u->output_bytes += len;
	if (u->truncated)
		return;
	u->logged_bytes += MIN(len, room);
	/* A full disk costs the log, not the deployment. */
	u->truncated = !log_write(u, data, MIN(len, room)) || len > room;
	if (!u->truncated)
		return;
	snprintf(note, sizeof note, "%s[output truncated after %zu bytes]\n",
		 u->last_logged == '\n' || u->logged_bytes == 0 ? "" : "\n",
		 (size_t)u->logged_bytes);
	log_write(u, note, strlen(note));
}

/* False at the end of the output. */
static bool
take_output(struct runner *u)
{
	static char buf[64 << 10];
	ssize_t n = read(u->command.output, buf, sizeof buf);

	if (n < 0 && errno == EINTR)
		return true;
	if (n > 0) {
		log_output(u, buf, (size_t)n);
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
	if (u->q.r.kill_usec == 0)
		kill_begin(u);
	else if (u->q.r.kill_usec < USEC_INFINITY - now_boottime())
		arm(u, now_boottime() + u->q.r.kill_usec);
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
			u->fault = command_report(&u->command, &u->q.r);
		if (fds[3].revents && !take_output(u) && u->stage == STAGE_DRAINING)
			u->stage = STAGE_ENDED;
		if (fds[1].revents)
			on_timer(u);
		if (fds[0].revents && u->stage != STAGE_ENDED)
			on_signal(u);
	}
	/* The report may still lie in the pipe when the child's death is seen first. */
	if (u->command.report >= 0 && u->exited)
		u->fault = command_report(&u->command, &u->q.r);
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
	end = describe_end(u);
	if (!u->timed_out && !u->cancelled)
		return end;
	if (u->timed_out)
		text = xasprintf("killed: still running at its deadline of %s (%s)%s",
				 usec_format(limit, u->q.r.timeout_usec), end,
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
		.output_bytes = u->output_bytes,
		.r =
			{
				.outcome = HOOK_FAILED,
				.exit_status = -1,
				.timed_out = u->timed_out,
				.truncated = u->truncated,
				.took = u->took,
			},
	};
	char *text = describe(u);
	int r;

	if (exited && WIFEXITED(u->wait_status))
		e.r.exit_status = WEXITSTATUS(u->wait_status);
	if (exited && WIFSIGNALED(u->wait_status))
		e.r.signal = WTERMSIG(u->wait_status);
	/* A command that turns TERM into exit status 0 has still not done its work. */
	if (e.r.exit_status == 0 && !u->timed_out && !u->cancelled)
		e.r.outcome = HOOK_OK;
	str_copy(e.r.text, sizeof e.r.text, text);
	free(text);
	r = result_write(&u->files, u->room, &e);
	u->room = -1;
	if (r < 0)
		complain(u->files.result, strerror(-r));
	return r < 0 ? RUNNER_NO_RESULT : RUNNER_OK;
}

/* --- set-up ------------------------------------------------------------------------------- */

static void
detach_from_caller(void)
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

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	u->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	u->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	u->log = open(u->q.r.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (u->signals >= 0 && u->timer >= 0 && u->log >= 0)
		return 0;
	u->fault = xasprintf("%s: %s", u->log < 0 ? u->q.r.log : "timer", strerror(errno));
	return -errno;
}

static void
run(struct runner *u)
{
	u->began = now_boottime();
	if (open_own(u) < 0 || command_start(&u->q.r, &u->command, &u->fault) < 0)
		return;
	arm(u, u->q.r.timeout_usec < USEC_INFINITY - u->began ? u->began + u->q.r.timeout_usec
							      : USEC_INFINITY);
	supervise(u);
}

static void
runner_done(struct runner *u)
{
	const int fds[] = {u->log, u->signals, u->timer};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	command_done(&u->command);
	request_done(&u->q);
	hook_files_done(&u->files);
	free(u->fault);
}

static int
run_request(struct runner *u)
{
	char *why = NULL;
	int r = request_read(&u->files, &u->q, &why), status;

	if (r < 0) {
		complain(u->files.request, why);
		free(why);
		return RUNNER_BAD_REQUEST;
	}
	r = started_claim(&u->files); /* and kept: its lock says that we live */
	if (r == -EEXIST)
		return RUNNER_TAKEN;
	if (r < 0) {
		complain(u->files.started, strerror(-r));
		return RUNNER_NO_START;
	}
	u->room = result_reserve(&u->files);
	run(u);
	status = write_result(u);
	read_on(u);
	return status;
}

int
main(int argc, char **argv)
{
	struct runner u = {
		.log = -1,
		.room = -1,
		.signals = -1,
		.timer = -1,
		.command = {.output = -1, .report = -1},
	};
	char *txid;
	int status;

	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: dhash-hook REQUESTFILE\nruns one hook of dhashd(8), which calls it\n",
		      stderr);
		return RUNNER_USAGE;
	}
	detach_from_caller();
	if (hook_files_from_request(&u.files, argv[1], &txid) < 0) {
		complain(argv[1], "is no request file");
		return RUNNER_USAGE;
	}
	free(txid);
	status = run_request(&u);
	runner_done(&u);
	return status;
}
