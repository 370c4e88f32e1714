/* SPDX-License-Identifier: Apache-2.0 */
/* Monitoring plugins as they come: every way to end, to write, and not to end. */

#include "tests/daemon/check/server.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "daemon/check/exec.h"

/* --- a kernel that has no watch left --- */

static atomic_bool no_watches;

int
epoll_ctl(int fd, int op, int on, struct epoll_event *e)
{
	typeof(epoll_ctl) *real = (typeof(epoll_ctl) *)dlsym(RTLD_NEXT, "epoll_ctl");

	if (!no_watches || op == EPOLL_CTL_DEL)
		return real(fd, op, on, e);
	errno = ENOSPC;
	return -1;
}

static struct loop loop;
static char dir[64];

static struct {
	unsigned n;
	struct exec_answer a;
	char text[8192];
} got;

static void
on_answer(void *arg, const struct exec_answer *a)
{
	got.n++;
	got.a = *a;
	str_copy(got.text, sizeof got.text, a->text);
	ck_assert_ptr_null(strpbrk(got.text, "\r\n"));
}

static void
set_up(void)
{
	str_copy(dir, sizeof dir, "/tmp/dhash-test-exec.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	loop_start(&loop);
	memset(&got, 0, sizeof got);
}

static void
tear_down(void)
{
	char *file = xasprintf("%s/pid", dir);

	loop_stop(&loop);
	unlink(file);
	free(file);
	ck_assert_int_eq(rmdir(dir), 0);
}

static struct exec_job *
begin(usec_t timeout, const char *script)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
	unsigned n = got.n;
	struct exec_job *j = exec_start(loop.base, argv, dir, timeout, on_answer, NULL);

	ck_assert_uint_eq(got.n, n); /* never from within */
	return j;
}

static void
run_within(usec_t timeout, const char *script)
{
	begin(timeout, script);
	loop_until(&loop, &got.n, got.n + 1);
}

static void
run(const char *script)
{
	run_within(9 * USEC_PER_SEC, script);
	ck_assert_msg(!got.a.timed_out, "%s", script);
}

static void
expect(enum plugin_status status, const char *text)
{
	ck_assert_int_eq(got.a.status, status);
	ck_assert_str_eq(got.text, text);
}

START_TEST(exit_statuses)
{
	run("echo fine; exit 0");
	expect(PLUGIN_OK, "fine");
	run("echo so so; exit 1");
	expect(PLUGIN_WARNING, "so so");
	run("echo bad; exit 2");
	expect(PLUGIN_CRITICAL, "bad");
	run("echo what; exit 3");
	expect(PLUGIN_UNKNOWN, "what");
	run("echo fine; exit 4");
	expect(PLUGIN_UNKNOWN, "exit status 4 is none of a plugin's");
	run("echo fine; exit 255");
	expect(PLUGIN_UNKNOWN, "exit status 255 is none of a plugin's");
	run("echo fine; kill -9 $$");
	expect(PLUGIN_UNKNOWN, "killed by signal 9");
	run("exit 2");
	expect(PLUGIN_CRITICAL, "");
}
END_TEST

START_TEST(the_first_line_less_performance_data)
{
	run("printf \"OK - 5 users|'users'=5;20;50;0\\nmore\\n\"");
	expect(PLUGIN_OK, "OK - 5 users");
	run("printf 'one\\ntwo|three\\n'");
	expect(PLUGIN_OK, "one");
	run("printf 'no newline'");
	expect(PLUGIN_OK, "no newline");
	run("printf '|a=1'");
	expect(PLUGIN_OK, "");
	run("echo to standard error >&2");
	expect(PLUGIN_OK, "to standard error");
	run("printf 'slow '; sleep 0.05; printf 'writer\\n'; sleep 0.05; echo more");
	expect(PLUGIN_OK, "slow writer");
}
END_TEST

START_TEST(texts_are_escaped)
{
	run("printf 'a\\377b\\303\\244c\\033[2Jd\\te\\r\\n'");
	expect(PLUGIN_OK, "a\\xffb\xc3\xa4"
			  "c\\x1b[2Jd\\x09e\\x0d");
	run("printf 'before\\000behind\\n'; exit 1");
	expect(PLUGIN_WARNING, "before");
}
END_TEST

START_TEST(huge_output_is_cut)
{
	run("head -c 20000000 /dev/zero | tr '\\0' x; exit 1");
	ck_assert_int_eq(got.a.status, PLUGIN_WARNING);
	ck_assert_uint_eq(strlen(got.text), 4096);
	ck_assert_uint_eq(strspn(got.text, "x"), 4096);
	run("echo first; head -c 20000000 /dev/zero; exit 2");
	expect(PLUGIN_CRITICAL, "first");
	/* All that it wrote is there when it ends: the end is not told before the text. */
	for (int i = 0; i < 50; i++) {
		run("echo said and gone");
		expect(PLUGIN_OK, "said and gone");
	}
}
END_TEST

/* As fast as the loop reads it, or faster: the loop turns all the same, and its time-out comes. */
START_TEST(output_without_end_holds_nothing)
{
	run_within(300 * USEC_PER_MSEC, "exec yes");
	ck_assert(got.a.timed_out);
	expect(PLUGIN_UNKNOWN, "no result within 300ms");
	ck_assert_uint_ge(loop.ticks, 3);
}
END_TEST

/* Gone, or a zombie that nobody took in. */
static bool
ended(pid_t pid)
{
	char *path = xasprintf("/proc/%d/stat", (int)pid), *text, *state;
	size_t len;
	bool r = true;

	if (file_read(AT_FDCWD, path, 4096, &text, &len) == 0) {
		state = strrchr(text, ')');
		r = state && (state[2] == 'Z' || state[2] == 'X');
		free(text);
	}
	free(path);
	return r;
}

static pid_t
told_pid(void)
{
	char *path = xasprintf("%s/pid", dir), *text = NULL;
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;
	size_t len = 0;
	pid_t pid;

	while (file_read(AT_FDCWD, path, 64, &text, &len) < 0 || !strchr(text, '\n')) {
		free(text);
		text = NULL;
		ck_assert_int_lt(now_boottime(), deadline);
		event_base_loop(loop.base, EVLOOP_ONCE);
	}
	pid = (pid_t)atoi(text);
	ck_assert_int_gt(pid, 1);
	unlink(path);
	free(path);
	free(text);
	return pid;
}

static void
until_ended(pid_t pid)
{
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;

	while (!ended(pid)) {
		ck_assert_int_lt(now_boottime(), deadline);
		event_base_loop(loop.base, EVLOOP_ONCE);
	}
}

START_TEST(a_time_out_kills_the_whole_group)
{
	/* Moved, so that a half-written file is never read. */
	run_within(300 * USEC_PER_MSEC, "trap '' TERM INT HUP; sleep 99 & echo $! >p; mv p pid; "
					"echo waiting; wait; sleep 99");
	ck_assert(got.a.timed_out);
	ck_assert_int_ge(got.a.took, 290 * USEC_PER_MSEC);
	ck_assert_int_lt(got.a.took, 3 * USEC_PER_SEC);
	expect(PLUGIN_UNKNOWN, "no result within 300ms");
	until_ended(told_pid());
}
END_TEST

/* What it leaves behind holds its output open; its result is its result. */
START_TEST(a_daemonised_grandchild_is_not_waited_for)
{
	pid_t pid;

	run("setsid sleep 99 & echo $! >p; mv p pid; echo started");
	expect(PLUGIN_OK, "started");
	ck_assert_int_lt(got.a.took, 5 * USEC_PER_SEC);
	pid = told_pid();
	ck_assert(!ended(pid));
	kill(pid, SIGKILL);
}
END_TEST

START_TEST(what_cannot_be_run)
{
	static char nowhere[] = "/nonexistent/plugin", folder[] = "/etc";
	char *const missing[] = {nowhere, NULL}, *const no_program[] = {folder, NULL};

	exec_start(loop.base, missing, dir, USEC_PER_SEC, on_answer, NULL);
	ck_assert_uint_eq(got.n, 0);
	loop_until(&loop, &got.n, 1);
	expect(PLUGIN_UNKNOWN, "cannot run /nonexistent/plugin: No such file or directory");
	ck_assert(!got.a.timed_out);
	exec_start(loop.base, no_program, NULL, USEC_PER_SEC, on_answer, NULL);
	loop_until(&loop, &got.n, 2);
	expect(PLUGIN_UNKNOWN, "cannot run /etc: Permission denied");
	exec_start(loop.base, (char *[]){(char *)"true", NULL}, "/nonexistent", USEC_PER_SEC,
		   on_answer, NULL);
	loop_until(&loop, &got.n, 3);
	expect(PLUGIN_UNKNOWN, "cannot run true: No such file or directory");
	exec_cancel(exec_start(loop.base, missing, dir, USEC_PER_SEC, on_answer, NULL));
	loop_turns(&loop, 2);
	ck_assert_uint_eq(got.n, 3);
}
END_TEST

START_TEST(what_cannot_be_watched_is_not_run)
{
	no_watches = true;
	run("echo fine; exit 0");
	no_watches = false;
	expect(PLUGIN_UNKNOWN, "cannot run /bin/sh: No space left on device");
	run("echo fine; exit 0");
	expect(PLUGIN_OK, "fine");
}
END_TEST

/* Nothing of ours goes with it: environment, descriptors, folder, input, signals. */
START_TEST(it_starts_clean)
{
	sigset_t term;
	char *script;

	setenv("SECRET", "x", 1);
	run("test -z \"$SECRET\" && test \"$LANG\" = C.UTF-8 && case $PATH in *:/bin) echo ok;; "
	    "esac");
	expect(PLUGIN_OK, "ok");
	ck_assert_int_eq(dup2(STDERR_FILENO, 57), 57);
	run("test ! -e /proc/$$/fd/57 && echo ok");
	expect(PLUGIN_OK, "ok");
	script = xasprintf("test \"$PWD\" = %s && echo ok", dir);
	run(script);
	expect(PLUGIN_OK, "ok");
	free(script);
	run("read x || echo no input");
	expect(PLUGIN_OK, "no input");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	run("kill -TERM $$; sleep 1; echo still here");
	expect(PLUGIN_UNKNOWN, "killed by signal 15");
}
END_TEST

static unsigned
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

START_TEST(cancelling_kills_and_frees)
{
	unsigned before = descriptors();
	struct exec_job *j = begin(USEC_PER_MINUTE, "sleep 99 & echo $! >p; mv p pid; sleep 99");
	pid_t pid = told_pid();

	exec_cancel(j);
	until_ended(pid);
	/* Already over, but not told yet. */
	j = begin(USEC_PER_MINUTE, "echo $$ >p; mv p pid");
	pid = told_pid();
	if (got.n == 0) {
		usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;

		while (!ended(pid))
			ck_assert_int_lt(now_boottime(), deadline);
		exec_cancel(j);
	}
	exec_cancel(NULL);
	got.n = 0;
	loop_turns(&loop, 3);
	ck_assert_uint_eq(got.n, 0);
	ck_assert_uint_eq(descriptors(), before);
}
END_TEST

START_TEST(many_at_once)
{
	unsigned before = descriptors();

	for (int i = 0; i < 40; i++)
		begin(9 * USEC_PER_SEC, i % 2 ? "sleep 0.1" : "echo quick");
	loop_until(&loop, &got.n, 40);
	ck_assert_uint_eq(descriptors(), before);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("exec");
	TCase *t = tcase_create("plugins");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, exit_statuses);
	tcase_add_test(t, the_first_line_less_performance_data);
	tcase_add_test(t, texts_are_escaped);
	tcase_add_test(t, huge_output_is_cut);
	tcase_add_test(t, output_without_end_holds_nothing);
	tcase_add_test(t, a_time_out_kills_the_whole_group);
	tcase_add_test(t, a_daemonised_grandchild_is_not_waited_for);
	tcase_add_test(t, what_cannot_be_run);
	tcase_add_test(t, what_cannot_be_watched_is_not_run);
	tcase_add_test(t, it_starts_clean);
	tcase_add_test(t, cancelling_kills_and_frees);
	tcase_add_test(t, many_at_once);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
