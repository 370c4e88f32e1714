/* SPDX-License-Identifier: Apache-2.0 */
/*
 * killer [--at N] [--exit] [--changing] [--spawn N] [--wait MS] [--children SIGNAL] PROGRAM ARG…
 *
 * Runs a program under ptrace, counts the system calls of all its threads, and ends it by SIGKILL
 * at the Nth: before the call has done anything, or (--exit) when it has done everything and before
 * the program learns of it.  --changing counts only calls that something outside the program can
 * see; --spawn begins to count when the program starts its Nth child.  --wait lets that thread
 * stand still before the end, while the rest of the world goes on.  The program's children are
 * never traced, and outlive it; --children sends them a signal (by its number) in the same moment:
 * 9 as when all dies at once, 19 to make them late.
 *
 * Standard output gets lines for another program; the program's own goes to standard error:
 *   pid PID
 *   killed COUNT NUMBER THREAD [PID…]   the call's number; the rank of the thread's id, 0 the first
 *                                       one; the children that got the signal
 *   ended COUNT STATUS                  as from wait(); N was never reached
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct killer {
	unsigned long at; /* 0: never */
	bool at_exit, changing;
	unsigned long spawn; /* children that are still to be started before calls count */
	unsigned wait_ms;
	int children; /* a signal for them; 0 = none */
	pid_t pid;
	bool begun; /* the program has taken the place of our child */
	bool killed;
	unsigned long count;
	pid_t due; /* the thread whose call is the Nth, until that returns */
	long due_number;
};

/* What somebody outside could see; openat() only where it makes something. */
static const long changing_calls[] = {
	SYS_write,     SYS_pwrite64,   SYS_writev,
	SYS_pwritev,   SYS_sendto,     SYS_sendmsg,
	SYS_openat,    SYS_openat2,    SYS_open,
	SYS_creat,     SYS_rename,     SYS_renameat,
	SYS_renameat2, SYS_link,       SYS_linkat,
	SYS_symlink,   SYS_symlinkat,  SYS_unlink,
	SYS_unlinkat,  SYS_rmdir,      SYS_mkdir,
	SYS_mkdirat,   SYS_chmod,      SYS_fchmod,
	SYS_fchmodat,  SYS_chown,      SYS_fchown,
	SYS_fchownat,  SYS_utimensat,  SYS_truncate,
	SYS_ftruncate, SYS_fallocate,  SYS_copy_file_range,
	SYS_sendfile,  SYS_fsync,      SYS_fdatasync,
	SYS_clone,     SYS_clone3,     SYS_vfork,
	SYS_execve,    SYS_kill,       SYS_pidfd_send_signal,
	SYS_waitid,    SYS_connect,    SYS_accept4,
	SYS_bind,      SYS_listen,     SYS_shutdown,
	SYS_flock,     SYS_exit_group,
};

__attribute__((format(printf, 1, 2), noreturn)) static void
die(const char *fmt, ...)
{
	int error = errno;
	va_list ap;

	va_start(ap, fmt);
	fputs("killer: ", stderr);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(ap);
	exit(70);
}

static bool
changes(const struct __ptrace_syscall_info *i)
{
	if (i->entry.nr == SYS_openat)
		return i->entry.args[2] & (O_CREAT | O_TRUNC);
	if (i->entry.nr == SYS_open)
		return i->entry.args[1] & (O_CREAT | O_TRUNC);
	for (size_t k = 0; k < sizeof changing_calls / sizeof changing_calls[0]; k++)
		if ((long)i->entry.nr == changing_calls[k])
			return true;
	return false;
}

/* Threads get their ids in rising order, but for a wrap of all the machine's. */
static int
thread_rank(const struct killer *k, pid_t tid)
{
	char path[64];
	struct dirent *e;
	int rank = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/task", (int)k->pid);
	d = opendir(path);
	while (d && (e = readdir(d)))
		rank += e->d_name[0] != '.' && atoi(e->d_name) < tid;
	if (d)
		closedir(d);
	return rank;
}

/* A process, not a thread: as posix_spawn() makes it. */
static bool
spawns(pid_t tid, const struct __ptrace_syscall_info *i)
{
	unsigned long flags = i->entry.args[0];

	if (i->entry.nr == SYS_clone3)
		flags = (unsigned long)ptrace(PTRACE_PEEKDATA, tid, i->entry.args[0], 0);
	else if (i->entry.nr != SYS_clone)
		return i->entry.nr == SYS_vfork;
	return flags & CLONE_VFORK;
}

static void
signal_children(const struct killer *k)
{
	char path[64];
	int pid;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)k->pid, (int)k->pid);
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		if (kill(pid, k->children) == 0)
			printf(" %d", pid);
	if (f)
		fclose(f);
}

/* The children first: they are found by their parent. */
static void
do_kill(struct killer *k, pid_t tid)
{
	usleep(k->wait_ms * 1000);
	printf("killed %lu %ld %d", k->count, k->due_number, thread_rank(k, tid));
	if (k->children)
		signal_children(k);
	printf("\n");
	k->killed = true;
	if (kill(k->pid, SIGKILL) < 0)
		die("cannot kill %d", (int)k->pid);
}

static void
on_call(struct killer *k, pid_t tid)
{
	struct __ptrace_syscall_info i;

	if (!k->begun || ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof i, &i) <= 0)
		return;
	if (i.op == PTRACE_SYSCALL_INFO_EXIT && k->due == tid) {
		do_kill(k, tid);
		return;
	}
	if (i.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (k->spawn > 0) {
		k->spawn -= spawns(tid, &i);
		return;
	}
	if (k->changing && !changes(&i))
		return;
	if (++k->count != k->at)
		return;
	k->due_number = (long)i.entry.nr;
	if (k->at_exit && i.entry.nr != SYS_exit && i.entry.nr != SYS_exit_group)
		k->due = tid;
	else
		do_kill(k, tid);
}

/* Which signal the thread goes on with. */
static int
on_stop(struct killer *k, pid_t tid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (sig == (SIGTRAP | 0x80)) {
		on_call(k, tid);
		return 0;
	}
	if (event == PTRACE_EVENT_EXEC)
		k->begun = true;
	return event ? 0 : sig;
}

/* To the end of the program; its status. */
static int
trace(struct killer *k)
{
	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0)
			die("cannot wait for %d", (int)k->pid);
		if (WIFSTOPPED(status)) {
			int sig = on_stop(k, tid, status);

			/* Whoever was killed in the meantime cannot be continued. */
			if (ptrace(PTRACE_SYSCALL, tid, 0, sig) < 0 && errno != ESRCH)
				die("cannot continue %d", (int)tid);
		} else if (tid == k->pid) {
			return status;
		}
	}
}

/* Waits until it is traced, then becomes the program. */
static void
child(int go, char **argv)
{
	char c;

	if (read(go, &c, 1) != 1)
		_exit(70);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	execv(argv[0], argv);
	die("cannot run %s", argv[0]);
}

static void
start(struct killer *k, char **argv)
{
	int go[2];

	if (pipe2(go, O_CLOEXEC) < 0)
		die("cannot make a pipe");
	k->pid = fork();
	if (k->pid < 0)
		die("cannot fork");
	if (k->pid == 0)
		child(go[0], argv);
	if (ptrace(PTRACE_SEIZE, k->pid, 0,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
			   PTRACE_O_EXITKILL) < 0)
		die("cannot trace %d", (int)k->pid);
	/* A seized process runs on; only one that has stopped can be told to stop at calls. */
	if (ptrace(PTRACE_INTERRUPT, k->pid, 0, 0) < 0 || write(go[1], "g", 1) != 1)
		die("cannot start %d", (int)k->pid);
	close(go[0]);
	close(go[1]);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"at", required_argument, NULL, 'a'},
		{"exit", no_argument, NULL, 'x'},
		{"changing", no_argument, NULL, 'c'},
		{"children", required_argument, NULL, 's'},
		{"spawn", required_argument, NULL, 'n'},
		{"wait", required_argument, NULL, 'w'},
		{0},
	};
	struct killer k = {0};
	int c, status;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
		k.at = c == 'a' ? strtoul(optarg, NULL, 10) : k.at;
		k.at_exit |= c == 'x';
		k.changing |= c == 'c';
		k.children = c == 's' ? atoi(optarg) : k.children;
		k.spawn = c == 'n' ? strtoul(optarg, NULL, 10) : k.spawn;
		k.wait_ms = c == 'w' ? (unsigned)atoi(optarg) : k.wait_ms;
	}
	if (optind >= argc) {
		fputs("usage: killer [--at N] [--exit] [--changing] [--spawn N] [--wait MS] "
		      "[--children SIGNAL] PROGRAM ARG…\n",
		      stderr);
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	start(&k, argv + optind);
	printf("pid %d\n", (int)k.pid);
	status = trace(&k);
	if (!k.killed)
		printf("ended %lu %d\n", k.count, status);
	return 0;
}
