/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of one hook: its end, its output, its surroundings, its deadline. */

#include "tests/daemon/run/fixture.h"

#include <dlfcn.h>
#include <spawn.h>

#include <pwd.h>
#include <sys/prctl.h>

static void
assert_text(const struct hook_result *r, const char *part)
{
	ck_assert_msg(strstr(r->text, part) != NULL, "\"%s\" lacks \"%s\"", r->text, part);
}

START_TEST(success)
{
	struct hook_result r = ensure_shell("t.1", "echo out; echo err >&2; echo ran >>count");
	char *log = read_text("log");

	ck_assert_int_eq(r.outcome, HOOK_OK);
	ck_assert_int_eq(r.exit_status, 0);
	ck_assert_int_eq(r.signal, 0);
	ck_assert(!r.timed_out && !r.truncated);
	assert_text(&r, "succeeded");
	ck_assert_str_eq(log, "out\nerr\n");
	ck_assert(exists("t.1.request") && exists("t.1.started") && exists("t.1.result"));
	free(log);
	/* The same transaction again: the same answer, and nothing runs. */
	r = ensure_shell("t.1", "echo ran >>count");
	ck_assert_int_eq(r.outcome, HOOK_OK);
	ck_assert_uint_eq(lines_of("count"), 1);
}
END_TEST

START_TEST(exit_status)
{
	struct hook_result r = ensure_shell("t", "exit 3");

	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, 3);
	assert_text(&r, "exit status 3 after ");
}
END_TEST

START_TEST(signalled)
{
	struct hook_result r = ensure_shell("t", "kill -USR1 $$; sleep 60");

	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, -1);
	ck_assert_int_eq(r.signal, SIGUSR1);
	assert_text(&r, "signal");
}
END_TEST

/* hook_ensure() refuses what hook_check() does, and nothing counts as started. */
START_TEST(refused)
{
	char *const argv[] = {(char *)"scripts/deploy.sh", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r = ensure(&rq);

	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, -1);
	assert_text(&r, "scripts/deploy.sh: there is no ");
	ck_assert(!exists("t.started") && !exists("t.request"));
}
END_TEST

/* The runner alone: what hook_check() saw may have changed by the time it runs. */
static struct hook_result
run_unchecked(const char *name, const char *directory)
{
	char *const argv[] = {(char *)name, NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r = {.outcome = HOOK_UNKNOWN};
	struct hook_files f;
	pid_t pid;

	if (directory)
		rq.directory = directory;
	ck_assert_int_eq(hook_files_init(&f, dir, "t"), 0);
	unlink(f.started);
	unlink(f.result);
	ck_assert_int_eq(request_write(&f, &rq), 0);
	pid = fork();
	if (pid == 0) {
		execl(runner, runner, f.request, NULL);
		_exit(127);
	}
	ck_assert_int_eq(wait_exit(pid), RUNNER_OK);
	ck_assert_int_eq(result_read(&f, &r), 0);
	hook_files_done(&f);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_int_eq(r.exit_status, -1);
	return r;
}

START_TEST(exec_failures)
{
	struct hook_result r = run_unchecked("none.sh", NULL);

	assert_text(&r, "none.sh: there is no ");
	write_file("plain.sh", 0644, "#!/bin/sh\n");
	r = run_unchecked("plain.sh", NULL);
	assert_text(&r, "plain.sh: Permission denied; chmod +x it");
	write_file("odd.sh", 0755, "#!/no/such/interpreter -x\n");
	r = run_unchecked("odd.sh", NULL);
	assert_text(&r, "interpreter /no/such/interpreter (first line of the script) does not");
	write_file("dos.sh", 0755, "#!/bin/sh\r\necho\r\n");
	r = run_unchecked("dos.sh", NULL);
	assert_text(&r, "CR LF");
	write_file("bare.sh", 0755, "echo hello\n");
	r = run_unchecked("bare.sh", NULL);
	assert_text(&r, "#!/bin/sh");
	r = run_unchecked("/bin/true", "/no/such/folder");
	assert_text(&r, "working directory /no/such/folder: No such file");
}
END_TEST

/* What stands around the command is what the request says, whatever the daemon has about it. */
START_TEST(surroundings)
{
	char *const env[] = {(char *)"DHASH_TAG=v1.0.0", (char *)"B=two words", NULL};
	char *const argv[] = {(char *)"/usr/bin/env", NULL};
	struct hook_request rq = request_for("t.env", argv);
	unsigned long long blocked, ignored;
	struct hook_result r;
	unsigned mask;
	sigset_t all;
	char *log;

	setenv("NOTIFY_SOCKET", "/run/secret", 1);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	umask(077);
	ck_assert_int_eq(dup2(STDERR_FILENO, 77), 77); /* without CLOEXEC */
	rq.environ = env;
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_OK);
	log = read_text("log");
	ck_assert_str_eq(log, "DHASH_TAG=v1.0.0\nB=two words\n");
	free(log);

	r = ensure_shell("t.about",
			 "set -e\n"
			 "ls /proc/self/fd | tr '\\n' ' ' >fds; readlink /proc/$$/fd/0 >stdin\n"
			 "grep -E '^(Umask|SigBlk|SigIgn):' /proc/self/status >status\n"
			 "pwd >cwd; cut -d' ' -f1,5,6 /proc/$$/stat >ids");
	ck_assert_int_eq(r.outcome, HOOK_OK);
	log = read_text("fds");
	ck_assert_str_eq(log, "0 1 2 3 "); /* 3 is the listed folder itself */
	free(log);
	log = read_text("stdin");
	ck_assert_str_eq(log, "/dev/null\n");
	free(log);
	log = read_text("status");
	ck_assert_int_eq(
		sscanf(log, "Umask: %o SigBlk: %llx SigIgn: %llx", &mask, &blocked, &ignored), 3);
	ck_assert_uint_eq(mask, 022);
	ck_assert_uint_eq(blocked, 0);
	/* 32 and 33 are the C library's own, and nobody's to reset. */
	ck_assert_uint_eq(ignored & ~(3ULL << 31), 0);
	free(log);
	log = read_text("cwd");
	log[strcspn(log, "\n")] = '\0';
	ck_assert_str_eq(log, dir);
	free(log);
	/* Leader of its own process group and session. */
	log = read_text("ids");
	{
		int pid, group, session;

		ck_assert_int_eq(sscanf(log, "%d %d %d", &pid, &group, &session), 3);
		ck_assert_int_eq(pid, group);
		ck_assert_int_eq(pid, session);
		ck_assert_int_ne(session, getsid(0));
	}
	free(log);
}
END_TEST

START_TEST(relative_script)
{
	char *const argv[] = {(char *)"scripts/deploy.sh", (char *)"--tag", (char *)"v1 ; $(x)",
			      NULL};
	char *folder = at("scripts"), *log;
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;

	ck_assert_int_eq(mkdir(folder, 0755), 0);
	write_file("scripts/deploy.sh", 0755, "#!/bin/sh\nprintf '%s|' \"$@\"\n");
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_OK);
	log = read_text("log");
	ck_assert_str_eq(log, "--tag|v1 ; $(x)|");
	free(log);
	free(folder);
}
END_TEST

START_TEST(other_user)
{
	char *const argv[] = {(char *)"/usr/bin/id", (char *)"-un", NULL};
	char *const by_name[] = {(char *)"/bin/sh", (char *)"-ec",
				 (char *)"echo out >/dev/stdout; echo err >/dev/stderr", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;
	char *log;

	rq.directory = "/";
	rq.user = "no-such-user";
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	assert_text(&r, "there is no user \"no-such-user\"");
	rq.txid = "u";
	rq.user = "nobody";
	r = ensure(&rq);
	if (geteuid() != 0) {
		ck_assert_int_eq(r.outcome, HOOK_FAILED);
		assert_text(&r, "only a daemon run by root");
		return;
	}
	ck_assert_int_eq(r.outcome, HOOK_OK);
	rq.txid = "v";
	rq.argv = by_name;
	r = ensure(&rq);
	ck_assert_msg(r.outcome == HOOK_OK, "%s", r.text);
	log = read_text("log");
	ck_assert_str_eq(log, "nobody\nout\nerr\n");
	free(log);
}
END_TEST

/* The command and a grandchild in a session of its own both ignore TERM, and hold the pipe. */
static const char stubborn[] =
	"trap '' TERM\n"
	"setsid sh -c 'trap \"\" TERM; echo $$ >grandchild; while :; do sleep 0.02; done' &\n"
	"while [ ! -s grandchild ]; do sleep 0.01; done\n"
	"echo ready >ready\n"
	"while :; do sleep 0.02; done";

START_TEST(deadline)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)stubborn, NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;

	rq.timeout_usec = 1200 * USEC_PER_MSEC;
	rq.kill_usec = 200 * USEC_PER_MSEC;
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert(r.timed_out);
	ck_assert_int_eq(r.signal, SIGKILL);
	assert_text(&r, "still running at its deadline of 1.2s");
	ck_assert_int_ge(r.took, 1400 * USEC_PER_MSEC);
	ck_assert_int_lt(r.took, 20 * USEC_PER_SEC);
	ck_assert(dead(read_pid("grandchild")));
}
END_TEST

START_TEST(deadline_counts_however_it_ends)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c",
			      (char *)"trap 'echo cleaning up; exit 0' TERM\n"
				      "while :; do sleep 0.02; done",
			      NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;
	char *log;

	rq.timeout_usec = 300 * USEC_PER_MSEC;
	rq.kill_usec = 30 * USEC_PER_SEC;
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert(r.timed_out);
	ck_assert_int_eq(r.exit_status, 0);
	ck_assert_int_lt(r.took, 20 * USEC_PER_SEC);
	log = read_text("log"); /* the shell may have its own say on the sleep that ended */
	ck_assert_ptr_nonnull(strstr(log, "cleaning up\n"));
	free(log);
}
END_TEST

START_TEST(cancelled)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)stubborn, NULL};
	struct hook_request rq = request_for("t", argv);
	struct answer a = {0};
	struct hook_result r;
	struct hook *h;

	rq.kill_usec = 50 * USEC_PER_MSEC;
	h = hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &a);
	WAIT_FOR(exists("ready"));
	hook_cancel(h);
	hook_cancel(h); /* an impatient operator changes nothing */
	r = await(&a);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert(!r.timed_out);
	assert_text(&r, "cancelled");
	ck_assert(dead(read_pid("grandchild")));
}
END_TEST

/* At once, when the runner may not even have begun. */
START_TEST(cancelled_early)
{
	char *const argv[] = {(char *)"/bin/sleep", (char *)"600", NULL};
	struct hook_request rq = request_for("t", argv);
	struct answer a = {0};
	struct hook_result r;

	hook_cancel(hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &a));
	r = await(&a);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	assert_text(&r, "cancelled");
}
END_TEST

/* The process that reads on for a survivor: ours by inheritance, once the runner is gone. */
static pid_t
find_reader(void)
{
	char *children = xasprintf("/proc/self/task/%d/children", (int)getpid()), *text, *p, *end;
	pid_t found = 0;
	size_t len;

	ck_assert_int_eq(file_read(AT_FDCWD, children, 4096, &text, &len), 0);
	for (p = text; !found; p = end) {
		long pid = strtol(p, &end, 10);
		char *comm, *path;

		if (end == p)
			break;
		path = xasprintf("/proc/%ld/comm", pid);
		if (file_read(AT_FDCWD, path, 64, &comm, &len) == 0) {
			if (streq(comm, "dhash-hook\n"))
				found = (pid_t)pid;
			free(comm);
		}
		free(path);
	}
	free(text);
	free(children);
	return found;
}

/* It must not hold up a stop of the machine until KILL. */
START_TEST(reader_can_be_ended)
{
	struct hook_result r;
	pid_t pid, reader;

	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	r = ensure_shell("t", "sh -c 'echo $$ >survivor; exec sleep 60' &\n"
			      "while [ ! -s survivor ]; do sleep 0.01; done");
	ck_assert_int_eq(r.outcome, HOOK_OK);
	pid = read_pid("survivor");
	reader = find_reader();
	ck_assert_int_gt(reader, 1);
	ck_assert(!dead(reader));
	ck_assert_int_eq(kill(reader, SIGTERM), 0);
	WAIT_FOR(dead(reader));
	ck_assert(!dead(pid));
	kill(pid, SIGKILL);
	WAIT_FOR(dead(pid));
}
END_TEST

/* A service that the hook started lives on, even when it holds the hook's output and writes. */
START_TEST(survivor)
{
	struct hook_result r = ensure_shell("t", "sh -c 'echo $$ >survivor; while :; do echo line; "
						 "echo >>beats; sleep 0.02; done' &\n"
						 "while [ ! -s survivor ]; do sleep 0.01; done");
	pid_t pid = read_pid("survivor");
	size_t beats = lines_of("beats");

	ck_assert_int_eq(r.outcome, HOOK_OK);
	ck_assert_int_lt(r.took, 20 * USEC_PER_SEC);
	WAIT_FOR(lines_of("beats") > beats + 5);
	ck_assert(!dead(pid));
	kill(pid, SIGKILL);
	WAIT_FOR(dead(pid));
}
END_TEST

START_TEST(output_capped)
{
	struct hook_result r = ensure_shell("t", "head -c 50000000 /dev/zero");
	static const char note[] = "\n[output truncated after 1048576 bytes]\n";
	struct stat st;
	char *path = at("log"), *result = read_text("t.result"), tail[sizeof note] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(r.outcome, HOOK_OK);
	ck_assert(r.truncated);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, (1 << 20) + (off_t)strlen(note));
	ck_assert_int_eq(pread(fd, tail, strlen(note), 1 << 20), (ssize_t)strlen(note));
	ck_assert_str_eq(tail, note);
	ck_assert_ptr_nonnull(strstr(result, "\"output_bytes\": 50000000"));
	close(fd);
	free(path);
	free(result);
}
END_TEST

START_TEST(output_of_the_limit_is_whole)
{
	char *const argv[] = {(char *)"/bin/echo", (char *)"1234567", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;
	char *log;

	rq.output_max_bytes = 8;
	r = ensure(&rq);
	ck_assert(!r.truncated);
	rq.txid = "u";
	rq.output_max_bytes = 7;
	r = ensure(&rq);
	ck_assert(r.truncated);
	log = read_text("log"); /* appended to */
	ck_assert_str_eq(log, "1234567\n1234567\n[output truncated after 7 bytes]\n");
	free(log);
}
END_TEST

/* A machine that is short of processes for a while. */
static int spawn_error, spawn_failures;

int
posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
	    const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *,
		    const posix_spawnattr_t *, char *const *, char *const *) =
		(__typeof__(real))dlsym(RTLD_NEXT, "posix_spawn");

	if (spawn_failures > 0 && spawn_failures--)
		return spawn_error;
	return real(pid, path, fa, attr, argv, envp);
}

START_TEST(short_of_processes)
{
	char *const argv[] = {(char *)"/bin/true", NULL};
	struct hook_request rq = request_for("t", argv);
	struct answer a = {0};

	spawn_error = EAGAIN;
	spawn_failures = 2;
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_OK);
	ck_assert_int_eq(spawn_failures, 0);
	/* Told to stop meanwhile, it is not started any more. */
	rq = request_for("u", argv);
	spawn_failures = 1000;
	hook_cancel(hook_ensure(base, &(struct hook_way){.runner = runner}, &rq, on_done, &a));
	ck_assert_int_eq(await(&a).outcome, HOOK_FAILED);
	assert_text(&a.r, "cancelled before it was started");
	ck_assert(!exists("u.started"));
	spawn_failures = 0;
}
END_TEST

START_TEST(runner_trouble)
{
	char *const argv[] = {(char *)"/bin/true", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r;

	free(runner);
	runner = xstrdup("/no/such/dhash-hook");
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	assert_text(&r, "/no/such/dhash-hook: No such file");
	free(runner);
	runner = xstrdup("/bin/false");
	r = ensure(&rq);
	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	assert_text(&r, "its runner ended with exit status 1");
}
END_TEST

START_TEST(bad_requests)
{
	static const char *const txids[] = {"../t", "a/b", "", ".hidden", "-x", "a\nb"};
	char *const argv[] = {(char *)"/bin/true", NULL};
	struct hook_request rq = request_for("t", argv);

	for (size_t i = 0; i < ARRAY_SIZE(txids); i++) {
		rq.txid = txids[i];
		ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	}
	rq = request_for("t", argv);
	rq.directory = "relative";
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	rq = request_for("t", no_environ);
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	rq = request_for("t", argv);
	rq.folder = "";
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	rq = request_for("t", argv);
	rq.timeout_usec = 0;
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	rq = request_for("t", argv);
	rq.environ = argv; /* no '=' */
	ck_assert_int_eq(ensure(&rq).outcome, HOOK_FAILED);
	ck_assert(!exists("t.request") && !exists("t.started"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hook");
	TCase *t = tcase("ends");

	tcase_add_test(t, success);
	tcase_add_test(t, exit_status);
	tcase_add_test(t, signalled);
	tcase_add_test(t, refused);
	tcase_add_test(t, exec_failures);
	tcase_add_test(t, runner_trouble);
	tcase_add_test(t, short_of_processes);
	tcase_add_test(t, bad_requests);
	suite_add_tcase(s, t);
	t = tcase("surroundings");
	tcase_add_test(t, surroundings);
	tcase_add_test(t, relative_script);
	tcase_add_test(t, other_user);
	tcase_add_test(t, output_capped);
	tcase_add_test(t, output_of_the_limit_is_whole);
	tcase_add_test(t, survivor);
	tcase_add_test(t, reader_can_be_ended);
	suite_add_tcase(s, t);
	t = tcase("deadline");
	tcase_add_test(t, deadline);
	tcase_add_test(t, deadline_counts_however_it_ends);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, cancelled_early);
	suite_add_tcase(s, t);
	return run_suite(s);
}
