/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/exec.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"

enum { OUTPUT_MAX = 4096, READS_MAX = 64 };

struct exec_job {
	struct event *ended, *readable, *timer;
	exec_fn *fn;
	void *arg;
	pid_t pid; /* 0 = could not be started */
	int pidfd, out;
	usec_t began, slept, timeout_usec;
	bool timed_out;
	size_t len;
	char output[OUTPUT_MAX + 1];
	char *failure; /* owned: why it could not be run */
};

static void
job_free(struct exec_job *j)
{
	if (j->ended)
		event_free(j->ended);
	if (j->readable)
		event_free(j->readable);
	if (j->timer)
		event_free(j->timer);
	if (j->pidfd >= 0)
		close(j->pidfd);
	if (j->out >= 0)
		close(j->out);
	free(j->failure);
	free(j);
}

/*
 * Output beyond the first few KiB is read and dropped, so that the plugin can end.  A plugin that
 * writes as fast as we read must not hold the loop: it gets so many reads a turn.
 */
static void
read_output(struct exec_job *j)
{
	char dropped[4096];

	for (int i = 0; i < READS_MAX; i++) {
		size_t room = OUTPUT_MAX - j->len;
		ssize_t n = room > 0 ? read(j->out, j->output + j->len, room)
				     : read(j->out, dropped, sizeof dropped);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				event_del(j->readable);
			return;
		}
		if (room > 0)
			j->len += (size_t)n;
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	read_output(arg);
}

static void
on_time_out(evutil_socket_t fd, short what, void *arg)
{
	struct exec_job *j = arg;

	j->timed_out = true;
	kill(-j->pid, SIGKILL); /* its session, and so its group, is its own */
}

char *
plugin_message(char *output)
{
	output[strcspn(output, "\n|")] = '\0';
	return str_escape(output);
}

static char *
message(struct exec_job *j)
{
	char span[USEC_TEXT_MAX];

	if (j->failure)
		return xstrdup(j->failure);
	if (j->timed_out)
		return xasprintf("no result within %s", usec_format(span, j->timeout_usec));
	j->output[j->len] = '\0';
	return plugin_message(j->output);
}

static void
finish(struct exec_job *j, enum plugin_status status)
{
	char *text = message(j);
	struct exec_answer a = {.status = status, .timed_out = j->timed_out, .text = text};
	exec_fn *fn = j->fn;

	a.took = now_boottime() - j->began;
	j->fn = NULL;
	fn(j->arg, &a);
	free(text);
	job_free(j);
}

static void
on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct exec_job *j = arg;
	enum plugin_status status = PLUGIN_UNKNOWN;
	int wait_status = 0;

	if (j->pid > 0) {
		waitpid(j->pid, &wait_status, 0);
		read_output(j);
	}
	if (j->pid > 0 && !j->timed_out && WIFEXITED(wait_status) &&
	    WEXITSTATUS(wait_status) <= PLUGIN_UNKNOWN)
		status = (enum plugin_status)WEXITSTATUS(wait_status);
	else if (j->pid > 0 && !j->timed_out && WIFEXITED(wait_status))
		j->failure =
			xasprintf("exit status %d is none of a plugin's", WEXITSTATUS(wait_status));
	else if (j->pid > 0 && !j->timed_out)
		j->failure = xasprintf("killed by signal %d", WTERMSIG(wait_status));
	/* Peers gave up on it, or it on them: that says nothing about the service. */
	if (j->pid > 0 && status != PLUGIN_OK && slept_since(j->slept)) {
		free(j->failure);
		j->failure = xstrdup("the machine slept while the plugin ran");
		j->timed_out = false;
		status = PLUGIN_UNKNOWN;
	}
	finish(j, status);
}

static int
spawn(struct exec_job *j, char *const *argv, const char *directory, int out)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char lang[] = "LANG=C.UTF-8";
	static char *const environment[] = {path, lang, NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int r = 0;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	/* Each needs memory.  A plugin without one of them would write into our log, or keep our
	 * descriptors. */
	r |= posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	r |= posix_spawn_file_actions_adddup2(&fa, out, STDOUT_FILENO);
	r |= posix_spawn_file_actions_adddup2(&fa, out, STDERR_FILENO);
	r |= posix_spawn_file_actions_addclosefrom_np(&fa, STDERR_FILENO + 1);
	r |= posix_spawn_file_actions_addchdir_np(&fa, directory ? directory : "/");
	if (r != 0)
		out_of_memory();
	r = -posix_spawnp(&j->pid, argv[0], &fa, &at, argv, environment);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (r < 0)
		j->pid = 0;
	return r;
}

static int
start(struct exec_job *j, struct event_base *base, char *const *argv, const char *directory)
{
	struct timeval tv = {.tv_sec = j->timeout_usec / USEC_PER_SEC,
			     .tv_usec = j->timeout_usec % USEC_PER_SEC};
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	j->out = fds[0];
	fcntl(fds[1], F_SETFL, 0); /* the plugin's end blocks, as it expects */
	r = spawn(j, argv, directory, fds[1]);
	close(fds[1]);
	if (r < 0)
		return r;
	j->pidfd = pidfd_open(j->pid, 0);
	if (j->pidfd < 0)
		return -errno;
	j->ended = event_new(base, j->pidfd, EV_READ, on_ended, j);
	j->readable = event_new(base, j->out, EV_READ | EV_PERSIST, on_readable, j);
	j->timer = evtimer_new(base, on_time_out, j);
	if (!j->ended || !j->readable || !j->timer)
		return -ENOMEM;
	/* Each watch takes memory of the kernel, and counts against the user's limit of watches. */
	if (event_add(j->ended, NULL) < 0 || event_add(j->readable, NULL) < 0)
		return -errno;
	evtimer_add(j->timer, &tv);
	return 0;
}

struct exec_job *
exec_start(struct event_base *base, char *const *argv, const char *directory, usec_t timeout_usec,
	   exec_fn *fn, void *arg)
{
	struct exec_job *j = xcalloc(1, sizeof *j);
	int r;

	j->fn = fn;
	j->arg = arg;
	j->began = now_boottime();
	j->slept = slept_so_far();
	j->timeout_usec = timeout_usec;
	j->pidfd = j->out = -1;
	r = start(j, base, argv, directory);
	if (r == 0)
		return j;
	if (j->pid > 0) { /* running, but nothing to watch it with */
		kill(-j->pid, SIGKILL);
		waitpid(j->pid, NULL, 0);
		j->pid = 0;
	}
	j->failure = xasprintf("cannot run %s: %s", argv[0], strerror(-r));
	if (!j->ended)
		j->ended = event_new(base, -1, 0, on_ended, j);
	event_active(j->ended, EV_TIMEOUT, 1);
	return j;
}

void
exec_cancel(struct exec_job *j)
{
	if (!j || !j->fn)
		return;
	if (j->pid > 0) {
		kill(-j->pid, SIGKILL);
		waitpid(j->pid, NULL, 0); /* killed: it ends at once */
	}
	job_free(j);
}
