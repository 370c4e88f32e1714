/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of a deployment: made once, lines in order, nothing forged, and no harm in failing. */

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/session.h"

static const usec_t noon = 1704110400 * USEC_PER_SEC;
static char dir[64];
static struct event_base *base;
static struct scribe *scribe;

static void
set_up(void)
{
	umask(022);
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	base = event_base_new();
	ck_assert_int_eq(scribe_new(base, dir, &scribe), 0);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

/* As the daemon ends: what was handed over is written by then. */
static void
finish(void)
{
	scribe_free(scribe);
	scribe = NULL;
}

static void
tear_down(void)
{
	finish();
	event_base_free(base);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Owned by the caller. */
static char *
text_of(const char *id, const char *file)
{
	char *path = session_path(dir, id, file), *text;
	size_t len;

	ck_assert_msg(file_read(AT_FDCWD, path, 16 << 20, &text, &len) == 0, "cannot read %s",
		      path);
	free(path);
	return text;
}

static void
assert_text(const char *id, const char *file, const char *want)
{
	char *text = text_of(id, file);

	ck_assert_str_eq(text, want);
	free(text);
}

START_TEST(paths)
{
	char *folder = session_path("/s", "deploy-1", NULL);
	char *file = session_path("/s", "deploy-1", "hooks/x");

	ck_assert_str_eq(folder, "/s/sessions/deploy-1");
	ck_assert_str_eq(file, "/s/sessions/deploy-1/hooks/x");
	free(folder);
	free(file);
}
END_TEST

START_TEST(reserved_once)
{
	char *hooks = session_path(dir, "deploy-1", "hooks");
	struct stat st;

	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	ck_assert_int_eq(stat(hooks, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0750); /* nobody else's business */
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), -EEXIST);
	ck_assert_int_eq(session_reserve(dir, "deploy-1-2"), 0);
	free(hooks);
}
END_TEST

/* What stands in the way is named as what it is, not as a session that was there before. */
/* What a power cut took away is made again, and holds its files. */
START_TEST(restored)
{
	char *folder = session_path(dir, "deploy-1", NULL), *hooks;

	ck_assert_int_eq(session_restore(dir, NULL), 0);
	ck_assert_int_lt(access(folder, F_OK), 0);
	ck_assert_int_eq(session_sync(dir, "deploy-1"), -ENOENT);
	ck_assert_int_eq(session_restore(dir, "deploy-1"), 0);
	ck_assert_int_eq(session_restore(dir, "deploy-1"), 0);
	ck_assert_int_eq(session_sync(dir, "deploy-1"), 0);
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), -EEXIST);
	hooks = session_path(dir, "deploy-1", "hooks");
	ck_assert_int_eq(access(hooks, W_OK), 0);
	session_log(scribe, "deploy-1", "session.log", noon, "kept");
	finish();
	assert_text("deploy-1", "session.log", "2024-01-01T12:00:00.000Z kept\n");
	free(hooks);
	free(folder);
}
END_TEST

START_TEST(something_in_the_way)
{
	char *sessions = xasprintf("%s/sessions", dir);
	int fd = open(sessions, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), -ENOTDIR);
	ck_assert_int_eq(unlink(sessions), 0);
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	free(sessions);
}
END_TEST

START_TEST(head_of_the_log)
{
	struct deployment d = {.id = "deploy-1",
			       .service = "shop",
			       .environment = "production",
			       .tag = "v1",
			       .lead = "al\nStart Time: never",
			       .created_wall = noon};

	ck_assert_int_eq(session_reserve(dir, d.id), 0);
	session_begin(scribe, &d);
	session_log(scribe, d.id, "session.log", noon + USEC_PER_SEC, "gate %s: %s", "x", "passed");
	finish();
	assert_text(d.id, "session.log",
		    "Deployment Session: deploy-1\nService: shop\nEnvironment: production\n"
		    "Release Tag: v1\nDeploy Lead: al\\x0aStart Time: never\n"
		    "Start Time: 2024-01-01T12:00:00.000Z\n"
		    "2024-01-01T12:00:01.000Z gate x: passed\n");
}
END_TEST

START_TEST(lines_in_order)
{
	char *text;
	const char *p;

	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	for (int i = 0; i < 500; i++)
		session_log(scribe, "deploy-1", "monitor.log", noon, "line %d", i);
	finish();
	text = text_of("deploy-1", "monitor.log");
	p = text;
	for (int i = 0; i < 500; i++) {
		char *line = xasprintf("2024-01-01T12:00:00.000Z line %d\n", i);

		ck_assert_msg(strncmp(p, line, strlen(line)) == 0, "not in order at %d", i);
		p += strlen(line);
		free(line);
	}
	ck_assert_str_eq(p, "");
	free(text);
}
END_TEST

/* One call is one line, however long, whatever is in it. */
START_TEST(lines_are_whole)
{
	char *text, *longest = xmalloc(5000);

	memset(longest, 'x', 4999);
	memcpy(longest + 1022, "\xc3\xa4", 2);
	longest[4999] = '\0';
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	session_log(scribe, "deploy-1", "a", noon, "one\n2024-01-01T12:00:00.000Z two\x1b[2J\xff");
	session_log(scribe, "deploy-1", "b", noon, "%s", longest);
	finish();
	assert_text("deploy-1", "a",
		    "2024-01-01T12:00:00.000Z one\\x0a2024-01-01T12:00:00.000Z "
		    "two\\x1b[2J\\xff\n");
	text = text_of("deploy-1", "b");
	ck_assert_uint_eq(strlen(text), strlen("2024-01-01T12:00:00.000Z ") + 4999 + 1);
	ck_assert_ptr_nonnull(strstr(text, longest));
	free(text);
	free(longest);
}
END_TEST

START_TEST(whole_files_are_replaced)
{
	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	session_write(scribe, "deploy-1", "incident-report.md", xstrdup("first, and longer\n"));
	session_write(scribe, "deploy-1", "incident-report.md", xstrdup("second\n"));
	finish();
	assert_text("deploy-1", "incident-report.md", "second\n");
}
END_TEST

/* A link in a log's place is not followed; the lines of others are written all the same. */
START_TEST(failures_stop_nothing)
{
	char *link = session_path(dir, "deploy-1", "session.log");
	char *target = xasprintf("%s/elsewhere", dir);

	ck_assert_int_eq(session_reserve(dir, "deploy-1"), 0);
	ck_assert_int_eq(symlink(target, link), 0);
	session_log(scribe, "deploy-1", "session.log", noon, "lost");
	session_log(scribe, "no-such-session", "session.log", noon, "lost");
	session_write(scribe, "no-such-session", "incident-report.md", xstrdup("lost"));
	session_log(scribe, "deploy-1", "deploy.log", noon, "kept");
	finish();
	ck_assert_int_lt(access(target, F_OK), 0);
	assert_text("deploy-1", "deploy.log", "2024-01-01T12:00:00.000Z kept\n");
	free(link);
	free(target);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {paths,
				      reserved_once,
				      restored,
				      something_in_the_way,
				      head_of_the_log,
				      lines_in_order,
				      lines_are_whole,
				      whole_files_are_replaced,
				      failures_stop_nothing};
	Suite *suite = suite_create("session");
	TCase *tc = tcase_create("session");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, set_up, tear_down);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
