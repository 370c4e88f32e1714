/* SPDX-License-Identifier: Apache-2.0 */
/* The recovery table: whoever dies, and when, the command runs once at most, and all agree. */

#include "tests/daemon/run/fixture.h"

#include <sys/prctl.h>

/* Counts its runs, then waits until the test lets it go. */
static char *const held[] = {
	(char *)"/bin/sh", (char *)"-c",
	(char *)"echo ran >>count; echo $$ >command; while [ ! -e go ]; do sleep "
		"0.01; done; exit 3",
	NULL};

static pid_t
runner_pid(const char *txid)
{
	struct hook_files f;
	pid_t pid;

	ck_assert_int_eq(hook_files_init(&f, dir, txid), 0);
	WAIT_FOR(access(f.started, F_OK) == 0);
	/* It appears with its lock at once. */
	ck_assert_int_eq(started_holder(&f, &pid), 0);
	hook_files_done(&f);
	return pid;
}

START_TEST(daemon_killed)
{
	struct hook_request rq = request_for("t", held);
	pid_t daemon = fork_daemon(&rq);
	struct answer a = {0};
	struct hook_result r;

	WAIT_FOR(exists("count"));
	kill(daemon, SIGKILL);
	ck_assert_int_eq(wait_exit(daemon), -SIGKILL);
	hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &a);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(a.times, 0); /* attached: it is still running */
	write_file("go", 0644, "");
	r = await(&a);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, 3);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

/* The daemon is away until after the end. */
START_TEST(result_found)
{
	struct hook_request rq = request_for("t", held);
	pid_t daemon = fork_daemon(&rq);

	WAIT_FOR(exists("count"));
	kill(daemon, SIGKILL);
	wait_exit(daemon);
	write_file("go", 0644, "");
	WAIT_FOR(exists("t.result"));
	ck_assert_int_eq(ensure(&rq).exit_status, 3);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

START_TEST(detached_and_attached)
{
	struct hook_request rq = request_for("t", held);
	struct answer first = {0}, second = {0};
	struct hook *h =
		hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &first);

	WAIT_FOR(exists("count"));
	hook_detach(h);
	h = hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &second);
	hook_cancel(h); /* reaches a runner that was attached to, too */
	ck_assert_int_eq(await(&second).outcome, HOOK_FAILED);
	ck_assert_ptr_nonnull(strstr(second.r.text, "cancelled"));
	ck_assert_uint_eq(first.times, 0);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

START_TEST(runner_killed)
{
	struct hook_request rq = request_for("t", held);
	struct answer a = {0};
	pid_t command;

	hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &a);
	command = read_pid("command");
	kill(runner_pid("t"), SIGKILL);
	ck_assert_int_eq(await(&a).outcome, HOOK_UNKNOWN);
	/* Nor does the command go on unseen: it was not told to. */
	WAIT_FOR(dead(command));
	/* Never again by itself, however often it is asked for. */
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	write_file("go", 0644, "");
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

START_TEST(both_killed)
{
	struct hook_request rq = request_for("t", held);
	pid_t daemon = fork_daemon(&rq);

	WAIT_FOR(exists("count"));
	kill(daemon, SIGKILL);
	wait_exit(daemon);
	kill(runner_pid("t"), SIGKILL);
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	write_file("go", 0644, "");
	WAIT_FOR(dead(read_pid("command")));
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

START_TEST(race)
{
	enum { DAEMONS = 8 };
	struct hook_request rq = request_for("t", held);
	pid_t daemons[DAEMONS];

	for (size_t i = 0; i < DAEMONS; i++)
		daemons[i] = fork_daemon(&rq);
	WAIT_FOR(exists("count"));
	write_file("go", 0644, "");
	for (size_t i = 0; i < DAEMONS; i++)
		ck_assert_int_eq(wait_exit(daemons[i]), HOOK_FAILED);
	ck_assert_int_eq(ensure(&rq).exit_status, 3);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

/* A daemon killed at moments all over the start: the next one starts it, or takes it over. */
START_TEST(daemon_killed_at_any_moment)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"echo ran >>$0", NULL, NULL};

	for (unsigned i = 0; i < 40; i++) {
		char txid[32], count[32];
		struct hook_request rq;
		pid_t daemon;

		snprintf(txid, sizeof txid, "t.%u", i);
		snprintf(count, sizeof count, "count.%u", i);
		((char **)argv)[3] = count;
		rq = request_for(txid, argv);
		daemon = fork_daemon(&rq);
		usleep(i * 100); /* the moment that is tried, not a wait */
		kill(daemon, SIGKILL);
		wait_exit(daemon);
		ck_assert_int_eq(ensure(&rq).outcome, HOOK_OK);
		ck_assert_uint_eq(lines_of(count), 1);
	}
}
END_TEST

/* The runner killed at such moments: never twice, and never a success that was none. */
START_TEST(runner_killed_at_any_moment)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"echo ran >>$0", NULL, NULL};

	prctl(PR_SET_CHILD_SUBREAPER, 1); /* to see the end of what loses its runner */
	for (unsigned i = 0; i < 40; i++) {
		char txid[32], count[32];
		struct hook_request rq;
		struct hook_result r;
		struct hook_files f;
		pid_t pid;

		snprintf(txid, sizeof txid, "t.%u", i);
		snprintf(count, sizeof count, "count.%u", i);
		((char **)argv)[3] = count;
		rq = request_for(txid, argv);
		ck_assert_int_eq(hook_files_init(&f, dir, txid), 0);
		ck_assert_int_eq(request_write(&f, &rq), 0);
		pid = fork();
		if (pid == 0) {
			execl(runner, runner, f.request, NULL);
			_exit(127);
		}
		usleep(i * 100);
		kill(pid, SIGKILL);
		wait_exit(pid);
		r = ensure(&rq);
		while (waitpid(-1, NULL, 0) > 0)
			;
		ck_assert_uint_le(lines_of(count), 1);
		if (r.outcome == HOOK_OK)
			ck_assert_uint_eq(lines_of(count), 1);
		else
			ck_assert_int_eq(r.outcome, HOOK_UNKNOWN);
		hook_files_done(&f);
	}
}
END_TEST

/* Files that no runner of ours left like that: nothing is run on their word. */
START_TEST(damaged_files)
{
	struct hook_request rq = request_for("t", held);

	write_file("t.started", 0644, "");
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	write_file("t.started", 0644, "{\"pid\": -1}");
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	write_file("t.result", 0644, "{\"outcome\": \"ok\"}");
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	ck_assert(!exists("count"));
}
END_TEST

/* What tells of a runner is the lock alone: a number in the file may be anybody's by now. */
START_TEST(lock_alone_counts)
{
	struct hook_request rq = request_for("t", held);
	struct hook_files f;
	char text[200];
	int ready[2], fd;
	pid_t pid, holder;

	ck_assert_int_eq(hook_files_init(&f, dir, "t"), 0);
	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (started_claim(&f) >= 0 && started_claim(&f) == -EEXIST)
			ck_assert_int_eq(write(ready[1], "", 1), 1);
		pause();
	}
	ck_assert_int_eq(read(ready[0], text, 1), 1);
	ck_assert_int_eq(started_claim(&f), -EEXIST);
	ck_assert_int_eq(started_holder(&f, &holder), 0);
	ck_assert_int_eq(holder, pid);
	fd = started_open(&f);
	ck_assert_int_ge(fd, 0);
	close(fd);
	kill(pid, SIGKILL);
	wait_exit(pid);
	ck_assert_int_eq(started_open(&f), -ESRCH);
	snprintf(text, sizeof text, "{\"pid\": %d}", (int)getpid());
	write_file("t.started", 0644, text);
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_UNKNOWN);
	ck_assert(!exists("count"));
	hook_files_done(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hook recovery");
	TCase *t = tcase("recovery");

	tcase_add_test(t, daemon_killed);
	tcase_add_test(t, result_found);
	tcase_add_test(t, detached_and_attached);
	tcase_add_test(t, runner_killed);
	tcase_add_test(t, both_killed);
	tcase_add_test(t, race);
	tcase_add_test(t, daemon_killed_at_any_moment);
	tcase_add_test(t, runner_killed_at_any_moment);
	tcase_add_test(t, damaged_files);
	tcase_add_test(t, lock_alone_counts);
	suite_add_tcase(s, t);
	return run_suite(s);
}
