/* SPDX-License-Identifier: Apache-2.0 */

/* The socket's place in the file system: stale, taken, not a socket, and raced for. */

#include "tests/daemon/ctl/fixture.h"

static char dir[64], path[128], lock[160];

static void
set_up(void)
{
	strcpy(dir, "/tmp/dhash-sock-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/sock", dir);
	snprintf(lock, sizeof lock, "%s.lock", path);
	log_set_level(LOG_ERR);
}

static void
tear_down(void)
{
	unlink(path);
	unlink(lock);
	ck_assert_int_eq(rmdir(dir), 0);
}

static int
open_fails(const char *where, const char *words)
{
	struct listen_socket s;
	char *error = NULL;
	int fd = -1, r = listen_socket_open(&s, where, NULL, &fd, &error);

	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(fd, -1);
	ck_assert_ptr_nonnull(error);
	ck_assert_msg(strstr(error, words) != NULL, "no \"%s\" in: %s", words, error);
	free(error);
	return r;
}

static void
open_works(struct listen_socket *s, const char *group, int *ret_fd)
{
	char *error = NULL;

	ck_assert_msg(listen_socket_open(s, path, group, ret_fd, &error) == 0, "%s", error);
	ck_assert_int_eq(listen_socket_check(*ret_fd, &error), 0);
}

START_TEST(made_and_removed)
{
	struct listen_socket s;
	struct stat st;
	gid_t gid;
	int fd;

	umask(0);
	open_works(&s, NULL, &fd);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	close(fd);
	listen_socket_close(&s);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(access(lock, F_OK), -1);
	if (geteuid() == 0) {
		umask(077);
		open_works(&s, "daemon", &fd);
		ck_assert_int_eq(lstat(path, &st), 0);
		ck_assert(group_find("daemon", &gid));
		ck_assert_uint_eq(st.st_mode & 07777, 0660);
		ck_assert_uint_eq(st.st_gid, gid);
		close(fd);
		listen_socket_close(&s);
	}
	open_works(&s, "no-such-group", &fd);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	close(fd);
	listen_socket_close(&s);
}
END_TEST

/* What a killed daemon leaves: socket and lock file, with nobody behind them. */
START_TEST(stale)
{
	struct listen_socket s;
	int fd, status;
	pid_t pid = fork();

	if (pid == 0) {
		open_works(&s, NULL, &fd);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(access(lock, F_OK), 0);
	open_works(&s, NULL, &fd);
	status = dial_path(path);
	ck_assert_int_ge(status, 0);
	close(status);
	close(fd);
	listen_socket_close(&s);
}
END_TEST

START_TEST(taken)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct listen_socket s;
	char process[32];
	int fd;

	open_works(&s, NULL, &fd);
	snprintf(process, sizeof process, "process %d", (int)getpid());
	ck_assert_int_eq(open_fails(path, process), -EADDRINUSE);
	ck_assert_int_eq(access(path, F_OK), 0);
	close(fd);
	listen_socket_close(&s);
	/* By a program that knows nothing of our lock. */
	str_copy(addr.sun_path, sizeof addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(open_fails(path, "already"), -EADDRINUSE);
	close(fd);
}
END_TEST

/* A child of a daemon that was killed holds its lock and its socket until it comes to its exec().
 */
START_TEST(child_of_the_dead)
{
	struct listen_socket s;
	int ready[2], fd, status;
	pid_t daemon;
	char c;

	ck_assert_int_eq(pipe(ready), 0);
	daemon = fork();
	if (daemon == 0) {
		open_works(&s, NULL, &fd);
		if (fork() == 0) {
			usleep(200 * 1000);
			_exit(0);
		}
		_exit(write(ready[1], "", 1) == 1 ? 0 : 1);
	}
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	ck_assert_int_eq(waitpid(daemon, &status, 0), daemon);
	open_works(&s, NULL, &fd);
	close(fd);
	listen_socket_close(&s);
	close(ready[0]);
	close(ready[1]);
}
END_TEST

START_TEST(something_else_there)
{
	char target[160], text[8] = "";
	FILE *file;

	snprintf(target, sizeof target, "%s/target", dir);
	file = fopen(target, "w");
	fputs("keep", file);
	fclose(file);
	ck_assert_int_eq(symlink(target, path), 0);
	ck_assert_int_eq(open_fails(path, "symbolic link"), -EEXIST);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/nowhere", path), 0); /* dangling */
	ck_assert_int_eq(open_fails(path, "symbolic link"), -EEXIST);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rename(target, path), 0);
	ck_assert_int_eq(open_fails(path, "regular file"), -EEXIST);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
	fclose(file);
	ck_assert_str_eq(text, "keep");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(open_fails(path, "a folder"), -EEXIST);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(symlink("/nowhere", lock), 0);
	ck_assert_int_eq(open_fails(path, "symbolic link"), -ELOOP);
	ck_assert_int_eq(access("/nowhere", F_OK), -1);
}
END_TEST

START_TEST(bad_paths)
{
	char text[200];

	memset(text, 'x', sizeof text);
	text[0] = '/';
	text[108] = '\0';
	ck_assert_int_eq(open_fails(text, "1 to 107 bytes"), -ENAMETOOLONG);
	ck_assert_int_eq(open_fails("", "1 to 107 bytes"), -ENAMETOOLONG);
	ck_assert_int_eq(open_fails("/no/such/folder/sock", "folder"), -ENOENT);
}
END_TEST

/* A hundred at once, over a stale socket and without: one wins and can be reached, the others know
 * why not. */
START_TEST(raced)
{
	enum { RACERS = 100 };
	int gate[2], report[2], winners = 0;
	char got[RACERS];

	ck_assert_int_eq(pipe(gate), 0);
	ck_assert_int_eq(pipe(report), 0);
	if (_i == 1) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		str_copy(addr.sun_path, sizeof addr.sun_path, path);
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
		close(fd);
	}
	for (int i = 0; i < RACERS; i++) {
		if (fork() == 0) {
			struct listen_socket s;
			char *error = NULL, c;
			int fd, r;

			close(gate[1]);
			if (read(gate[0], &c, 1) != 0) /* until it is opened by closing */
				_exit(1);
			r = listen_socket_open(&s, path, NULL, &fd, &error);
			c = r == 0 ? 'w' : r == -EADDRINUSE && strstr(error, "already") ? 'l' : '?';
			if (write(report[1], &c, 1) != 1)
				_exit(1);
			pause(); /* the winner keeps it */
			_exit(0);
		}
	}
	close(gate[0]);
	close(gate[1]);
	for (int i = 0; i < RACERS; i++) {
		ck_assert_int_eq(read(report[0], &got[i], 1), 1);
		ck_assert_int_ne(got[i], '?');
		winners += got[i] == 'w';
	}
	ck_assert_int_eq(winners, 1);
	ck_assert_int_ge(dial_path(path), 0);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM); /* our group: Check gives each test its own */
	while (wait(NULL) > 0)
		;
}
END_TEST

/* From socket activation: no file of ours, and none removed. */
START_TEST(activated)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct event_base *base = event_base_new();
	struct ctl_config cfg = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
	struct ctl *c = NULL;
	char *error = NULL;

	str_copy(addr.sun_path, sizeof addr.sun_path, path);
	ck_assert_int_eq(bind(cfg.fd, (struct sockaddr *)&addr, sizeof addr), 0);
	ck_assert_int_eq(ctl_new(base, &cfg, &fixture_ops, NULL, &c, &error), -ENOTSOCK);
	ck_assert_ptr_nonnull(strstr(error, "listening"));
	free(error);
	ck_assert_int_eq(listen(cfg.fd, 5), 0);
	ck_assert_int_eq(ctl_new(base, &cfg, &fixture_ops, NULL, &c, &error), 0);
	ck_assert_int_eq(access(lock, F_OK), -1);
	ctl_free(c);
	ctl_free(NULL);
	ck_assert_int_eq(access(path, F_OK), 0);
	event_base_free(base);
}
END_TEST

/* Another socket at our path by now is not ours to remove. */
START_TEST(replaced_meanwhile)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct listen_socket s;
	int fd, other = socket(AF_UNIX, SOCK_STREAM, 0);

	open_works(&s, NULL, &fd);
	ck_assert_int_eq(unlink(path), 0);
	str_copy(addr.sun_path, sizeof addr.sun_path, path);
	ck_assert_int_eq(bind(other, (struct sockaddr *)&addr, sizeof addr), 0);
	close(fd);
	listen_socket_close(&s);
	ck_assert_int_eq(access(path, F_OK), 0);
	close(other);
}
END_TEST

static void
fill(TCase *t)
{
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, made_and_removed);
	tcase_add_test(t, stale);
	tcase_add_test(t, taken);
	tcase_add_test(t, child_of_the_dead);
	tcase_add_test(t, something_else_there);
	tcase_add_test(t, bad_paths);
	tcase_add_loop_test(t, raced, 0, 2);
	tcase_add_test(t, activated);
	tcase_add_test(t, replaced_meanwhile);
}

int
main(void)
{
	return run_suite("socket", fill);
}
