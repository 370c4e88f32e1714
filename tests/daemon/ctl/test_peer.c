/* SPDX-License-Identifier: Apache-2.0 */

/* Who may do what: by the credentials of the connecting process, in another process. */

#include "tests/daemon/ctl/fixture.h"

#include <grp.h>

enum { STRANGER = 61500, UNMAPPED = 65534 };

static struct fixture f;

static const char look[] = "GET /v1/version HTTP/1.1\r\n\r\n";
static const char act[] = "POST /v1/backups/verify HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

/* The status that a process of this user and group gets; 0 when it cannot connect. */
static int
status_of(uid_t uid, gid_t gid, const char *text)
{
	pid_t pid = fork();
	struct answer a;
	int status, fd;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			_exit(255);
		fd = dial_path(f.path);
		if (fd < 0)
			_exit(0);
		put(fd, text);
		_exit(get_answer(fd, &a) ? a.status - 199 : 254);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_lt(WEXITSTATUS(status), 254);
	return WEXITSTATUS(status) ? WEXITSTATUS(status) + 199 : 0;
}

/* The mode of the file is the first gate; these tests are about the second. */
static void
begin(const char *read_group, const char *operate_group)
{
	start(&f, read_group, operate_group);
	ck_assert_int_eq(chmod(f.path, 0666), 0);
}

START_TEST(strangers)
{
	static const uid_t uids[] = {STRANGER, UNMAPPED};

	begin("daemon", "bin");
	for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
		unsigned denied = f.denied;

		ck_assert_int_eq(status_of(uids[i], 61500, look), 403);
		ck_assert_int_eq(status_of(uids[i], 61500, act), 403);
		ck_assert_uint_eq(f.denied, denied + 2);
		ck_assert_uint_eq(f.peer.uid, uids[i]);
	}
	ck_assert_uint_eq(f.requests, 0);
	/* root in the same breath */
	ck_assert_int_eq(status_of(0, 0, act), 200);
	ck_assert(f.peer.may_operate);
	stop(&f);
}
END_TEST

START_TEST(members)
{
	gid_t readers, operators;

	ck_assert(group_find("daemon", &readers) && group_find("bin", &operators));
	begin("daemon", "bin");
	ck_assert_int_eq(status_of(STRANGER, readers, look), 200);
	ck_assert_int_eq(status_of(STRANGER, readers, act), 403);
	ck_assert_int_eq(status_of(STRANGER, operators, look), 200);
	ck_assert_int_eq(status_of(STRANGER, operators, act), 200);
	ck_assert_uint_eq(f.peer.uid, STRANGER);
	ck_assert_uint_eq(f.peer.gid, operators);
	/* Not even with the group: this uid may be anybody. */
	ck_assert_int_eq(status_of(UNMAPPED, operators, look), 403);
	stop(&f);
}
END_TEST

/* By the user database: user "daemon" is in group "daemon" whatever group he runs with. */
START_TEST(member_by_database)
{
	struct peer p = {.uid = 1, .gid = STRANGER};
	struct peer_groups g;

	peer_groups_init(&g, "daemon", "bin");
	peer_judge(&p, &g);
	ck_assert(p.may_read && !p.may_operate);
	peer_groups_init(&g, NULL, "daemon");
	peer_judge(&p, &g);
	ck_assert(p.may_read && p.may_operate);
	peer_groups_init(&g, "no-such-group", NULL);
	peer_judge(&p, &g);
	ck_assert(!p.may_read && !p.may_operate);
}
END_TEST

START_TEST(no_groups)
{
	begin(NULL, "no-such-group");
	ck_assert_int_eq(status_of(1, 1, look), 403);
	ck_assert_int_eq(status_of(STRANGER, 0, look), 403); /* group root is no key */
	ck_assert_int_eq(status_of(0, 0, look), 200);
	stop(&f);
}
END_TEST

/* snapd's dirty sock: a path that looks like credentials is a path and nothing else. */
START_TEST(path_that_lies)
{
	pid_t pid;
	int status;

	begin("daemon", "bin");
	pid = fork();
	if (pid == 0) {
		struct sockaddr_un mine = {.sun_family = AF_UNIX}, server = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		struct answer a;

		strcpy(mine.sun_path + 1, "sock;uid=0;gid=0;pid=1;"); /* abstract: anybody may */
		str_copy(server.sun_path, sizeof server.sun_path, f.path);
		if (setresgid(STRANGER, STRANGER, STRANGER) < 0 ||
		    setresuid(STRANGER, STRANGER, STRANGER) < 0 ||
		    bind(fd, (struct sockaddr *)&mine, sizeof mine) < 0 ||
		    connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
			_exit(1);
		put(fd, look);
		_exit(get_answer(fd, &a) && a.status == 403 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(f.peer.uid, STRANGER);
	stop(&f);
}
END_TEST

/* A descriptor passed on keeps the identity of whoever connected. */
START_TEST(descriptor_passed_on)
{
	struct answer a;
	int fd, status;
	pid_t pid;

	begin("daemon", "bin");
	fd = dial(&f); /* as root */
	pid = fork();
	if (pid == 0) {
		if (setresuid(STRANGER, STRANGER, STRANGER) < 0)
			_exit(1);
		put(fd, look);
		_exit(get_answer(fd, &a) && a.status == 200 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(f.peer.uid, 0);
	close(fd);
	stop(&f);
}
END_TEST

/* Another user is served while one has taken all of his own. */
START_TEST(cap_is_per_user)
{
	struct answer a;
	int fds[70];

	begin("daemon", "bin");
	for (int i = 0; i < 70; i++)
		fds[i] = dial(&f);
	wait_connections(&f, 64);
	ck_assert(get_answer(fds[69], &a));
	ck_assert_int_eq(a.status, 503);
	ck_assert_int_eq(status_of(STRANGER, 1, look), 200);
	for (int i = 0; i < 70; i++)
		close(fds[i]);
	stop(&f);
}
END_TEST

static void
fill(TCase *t)
{
	tcase_add_test(t, member_by_database);
	if (geteuid() != 0) {
		fprintf(stderr, "NOT ROOT: the tests of other users' rights are skipped\n");
		return;
	}
	tcase_add_test(t, strangers);
	tcase_add_test(t, members);
	tcase_add_test(t, no_groups);
	tcase_add_test(t, path_that_lies);
	tcase_add_test(t, descriptor_passed_on);
	tcase_add_test(t, cap_is_per_user);
}

int
main(void)
{
	return run_suite("peer", fill);
}
