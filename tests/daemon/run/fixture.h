/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_RUN_FIXTURE_H
#define DHASH_TESTS_RUN_FIXTURE_H

/* A temporary folder, a loop, and the real runner of the build tree ($DHASH_BUILD). */

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/run/request.h"

#define UNUSED __attribute__((unused))

static char dir[64];
static char *runner;
static struct event_base *base;
static char *const no_environ[] = {NULL};

UNUSED static char *
at(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static void
set_up(void)
{
	const char *build = getenv("DHASH_BUILD");

	umask(022);
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	runner = xasprintf("%s/dhash-hook", build ? build : "build");
	ck_assert_msg(access(runner, X_OK) == 0, "%s is not built", runner);
	base = event_base_new();
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
tear_down(void)
{
	event_base_free(base);
	free(runner);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

UNUSED static void
write_file(const char *name, unsigned mode, const char *text)
{
	char *path = at(name);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(chmod(path, mode), 0);
	free(path);
}

/* "" when there is none; owned by the caller. */
UNUSED static char *
read_text(const char *name)
{
	char *path = at(name), *text;
	size_t len;

	if (file_read(AT_FDCWD, path, 64 << 20, &text, &len) < 0)
		text = xstrdup("");
	free(path);
	return text;
}

UNUSED static bool
exists(const char *name)
{
	char *path = at(name);
	bool yes = access(path, F_OK) == 0;

	free(path);
	return yes;
}

UNUSED static size_t
lines_of(const char *name)
{
	char *text = read_text(name);
	size_t n = 0;

	for (const char *p = text; *p; p++)
		n += *p == '\n';
	free(text);
	return n;
}

UNUSED static void
nap(void)
{
	usleep(2000);
}

#define WAIT_FOR(condition)                                                                        \
	do {                                                                                       \
		usec_t until_ = now_boottime() + 15 * USEC_PER_SEC;                                \
		while (!(condition)) {                                                             \
			ck_assert_msg(now_boottime() < until_, "never: " #condition);              \
			nap();                                                                     \
		}                                                                                  \
	} while (0)

/* A pid that a script wrote into a file, complete with its newline. */
UNUSED static pid_t
read_pid(const char *name)
{
	char *text;
	pid_t pid;

	WAIT_FOR(lines_of(name) > 0);
	text = read_text(name);
	pid = atoi(text);
	free(text);
	ck_assert_int_gt(pid, 1);
	return pid;
}

/* Gone, or waiting for somebody to reap it. */
UNUSED static bool
dead(pid_t pid)
{
	char path[64], *text, *state;
	size_t len;
	bool yes;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, 4096, &text, &len) < 0)
		return true;
	state = strrchr(text, ')');
	yes = !state || state[2] == 'Z' || state[2] == 'X';
	free(text);
	return yes;
}

/* A request for argv in the test's folder: log "log", ample limits. */
UNUSED static struct hook_request
request_for(const char *txid, char *const *argv)
{
	static char *log;

	free(log);
	log = at("log");
	return (struct hook_request){
		.txid = txid,
		.folder = dir,
		.log = log,
		.argv = argv,
		.environ = no_environ,
		.directory = dir,
		.timeout_usec = 60 * USEC_PER_SEC,
		.kill_usec = USEC_PER_SEC,
		.output_max_bytes = 1 << 20,
	};
}

struct answer {
	unsigned times;
	struct hook_result r;
};

UNUSED static void
on_done(void *arg, const struct hook_result *r)
{
	struct answer *a = arg;

	a->times++;
	a->r = *r;
	event_base_loopbreak(base);
}

/* Runs the loop until the answer is there. */
UNUSED static struct hook_result
await(struct answer *a)
{
	while (a->times == 0)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(a->times, 1);
	return a->r;
}

UNUSED static struct hook_result
ensure(const struct hook_request *r)
{
	struct answer a = {0};

	hook_ensure(base, &(struct hook_way){.runner = runner}, r, on_done, &a);
	ck_assert_uint_eq(a.times, 0);
	return await(&a);
}

UNUSED static struct hook_result
ensure_shell(const char *txid, const char *command)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)command, NULL};
	struct hook_request r = request_for(txid, argv);

	return ensure(&r);
}

/* A daemon of its own: calls hook_ensure() and exits with the outcome. */
UNUSED static pid_t
fork_daemon(const struct hook_request *r)
{
	pid_t pid = fork();
	struct answer a = {0};

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	event_reinit(base);
	hook_ensure(base, &(struct hook_way){.runner = runner}, r, on_done, &a);
	while (a.times == 0)
		event_base_loop(base, EVLOOP_ONCE);
	_exit((int)a.r.outcome);
}

UNUSED static int
wait_exit(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

UNUSED static TCase *
tcase(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	return t;
}

UNUSED static int
run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
