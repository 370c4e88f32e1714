/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_JOURNAL_BOX_H
#define DHASH_TESTS_JOURNAL_BOX_H

/*
 * A box for the logger: a root folder of its own, in which the test holds the journal's socket and
 * hears what a process of its own in there says, to the journal and to standard error.
 */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

typedef void say_fn(void);

/* Appending: the kernel keeps no threads' writes apart at the position of such a file. */
static int
anonymous_file(void)
{
	int fd = memfd_create("stderr", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_APPEND), 0);
	return fd;
}

static char *
content(int fd)
{
	off_t n = lseek(fd, 0, SEEK_END);
	char *text = xcalloc((size_t)n + 1, 1);

	ck_assert_int_eq(pread(fd, text, (size_t)n, 0), n);
	close(fd);
	return text;
}

static char box[64];
static int journal;

static void
make_box(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char *path;

	strcpy(box, "/tmp/dhash-test-log-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(box));
	path = xasprintf("%s/run/systemd/journal", box);
	ck_assert_int_eq(mkdir_p(path, 0755), 0);
	free(path);
	snprintf(a.sun_path, sizeof a.sun_path, "%s/run/systemd/journal/socket", box);
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(journal, (struct sockaddr *)&a, sizeof a), 0);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
remove_box(void)
{
	close(journal);
	ck_assert_int_eq(nftw(box, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

struct told {
	char *records[64];
	int n;
	char *stderr_text;
};

static inline void
told_done(struct told *t)
{
	for (int i = 0; i < t->n; i++)
		free(t->records[i]);
	free(t->stderr_text);
}

static void
take_records(struct told *t)
{
	static char buf[65536];
	ssize_t n;

	while ((n = recv(journal, buf, sizeof buf - 1, 0)) > 0) {
		buf[n] = '\0';
		ck_assert_int_lt(t->n, (int)ARRAY_SIZE(t->records));
		ck_assert_uint_eq(strlen(buf), (size_t)n);
		t->records[t->n++] = xstrdup(buf);
	}
}

/* Only root may change the root folder; anybody may be root in a user namespace of his own. */
static void
in_the_box(int err, const char *stream, say_fn *say)
{
	struct stat st;
	char *own;

	if (dup2(err, STDERR_FILENO) < 0 || fstat(STDERR_FILENO, &st) < 0 ||
	    (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0) || chroot(box) < 0 || chdir("/") < 0)
		_exit(errno);
	own = xasprintf("%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
	setenv("JOURNAL_STREAM", stream ? stream : own, 1);
	free(own);
	log_init("dhash-test");
	say();
	_exit(0);
}

/* `stream` is the value of $JOURNAL_STREAM; NULL for the one that names standard error. */
static inline struct told
tell(const char *stream, say_fn *say)
{
	struct told t = {.n = 0};
	int err = anonymous_file(), status;
	pid_t pid = fork();
	struct pollfd p[2];

	if (pid == 0)
		in_the_box(err, stream, say);
	p[0] = (struct pollfd){.fd = journal, .events = POLLIN};
	p[1] = (struct pollfd){.fd = pidfd_open(pid, 0), .events = POLLIN};
	ck_assert_int_ge(p[1].fd, 0);
	while (!p[1].revents) {
		ck_assert_int_gt(poll(p, 2, -1), 0);
		take_records(&t);
	}
	close(p[1].fd);
	take_records(&t);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the box: status %d: %s",
		      status, strerror(WEXITSTATUS(status)));
	t.stderr_text = content(err);
	return t;
}

#endif
