/* SPDX-License-Identifier: Apache-2.0 */
/* The real client against a daemon that misbehaves: what it says, and its exit status. */

#include "tests/client/fake.h"

#include <errno.h>

static struct ran ran;

START_TEST(nobody_there)
{
	fake_folder();
	ck_exit(&ran, 69, "status");
	ck_says(&ran, "dhashd is not running (no socket at ");
	ck_says(&ran, "systemctl start dhashd");
	fake_listen();
	fake_die();
	ck_exit(&ran, 69, "version");
	ck_says(&ran, "not running");
	fake_stop();
}
END_TEST

START_TEST(may_not_open)
{
	uid_t me = geteuid();

	fake_start();
	ck_assert_int_eq(chmod(fake.path, 0), 0);
	ck_assert_int_eq(chmod(fake.folder, 0711), 0);
	/* Root may open everything, so it becomes nobody for once, where nobody may run the
	 * program. */
	if (me == 0)
		ck_assert_int_eq(setresuid(65534, 65534, 0), 0);
	if (eaccess(client_program(), X_OK) == 0) {
		ck_exit(&ran, 77, "status");
		ck_says(&ran, "permission denied on ");
		ck_says(&ran, "group dhash");
	}
	ck_assert_int_eq(setresuid(me, me, me), 0);
	fake_stop();
}
END_TEST

START_TEST(denied_by_the_daemon)
{
	fake_start();
	fake_says((struct canned[]){
		{"POST /v1/rollbacks",
		 "{\"error\":{\"kind\":\"denied\",\"message\":\"uid 7 may not\",\"detail\":null}}",
		 403, 0, 0},
		{0}});
	ck_exit(&ran, 77, "rollback --env production --yes --no-wait");
	ck_says(&ran, "dhash: uid 7 may not");
	ck_says(&ran, "dhash-operators");
	fake_stop();
}
END_TEST

static const struct {
	struct canned answer;
	int code;
	const char *says;
} faults[] = {
	{{"GET ", NULL, 0, ABRUPT, 0}, 69, "closed the connection"},
	{{"GET ", NULL, 0, MIDDLE, 0}, 69, "closed the connection"},
	{{"GET ", NULL, 0, GARBAGE, 0}, 69, "is not dhashd"},
	{{"GET ", NULL, 0, HUGE_ANSWER, 0}, 1, "larger than 16 MiB"},
	{{"GET ", "{\"environments\":[", 0, 0, 0}, 69, "not understood"},
	{{"GET ", "[1,2]", 0, 0, 0}, 69, "no JSON object"},
	{{"GET ", "", 0, 0, 0}, 69, "not understood"},
	{{"GET ", "{\"a\":1,\"a\":2}", 0, 0, 0}, 69, "not understood"},
	{{"GET ", "oops", 500, 0, 0}, 1, "HTTP status 500"},
	{{"GET ", "{\"error\":{\"kind\":\"internal\",\"message\":\"store broken\"}}", 500, 0, 0},
	 1,
	 "dhash: store broken"},
	{{"GET ", "{\"error\":{\"kind\":\"overloaded\",\"message\":\"too many\"}}", 503, 0, 0},
	 69,
	 "too many"},
	{{"GET ", "{\"error\":{\"kind\":\"brand-new\",\"message\":\"later kind\"}}", 404, 0, 0},
	 4,
	 "later kind"},
	{{"GET ", "{\"error\":{\"kind\":\"bad-request\",\"message\":\"which service?\"}}", 400, 0,
	  0},
	 2,
	 "which service?"},
	{{"GET ", "{\"error\":{\"kind\":\"denied\",\"message\":\"line\\n\\u001b[2Jforged\"}}", 403,
	  0, 0},
	 77,
	 "line\\x0a\\x1b[2Jforged"},
	{{"GET ", "{\"error\":\"text\"}", 418, 0, 0}, 1, "HTTP status 418"},
};

START_TEST(faults_are_told)
{
	struct canned rows[2] = {faults[_i].answer};

	fake_start();
	fake_says(rows);
	ck_exit(&ran, faults[_i].code, "status");
	ck_says(&ran, faults[_i].says);
	ck_exit(&ran, faults[_i].code, "history");
	fake_stop();
}
END_TEST

START_TEST(faults_are_json_too)
{
	fake_start();
	fake_says((struct canned[]){
		{"GET ", "{\"error\":{\"kind\":\"not-found\",\"message\":\"no such\"}}", 404, 0, 0},
		{0}});
	ck_exit(&ran, 4, "status --json");
	ck_says(&ran, "{\"error\": {\"kind\": \"not-found\", \"message\": \"no such\"}}");
	ck_assert_ptr_null(strstr(strstr(ran.text, "{\"error\"") + 1, "{\"error\"")); /* once */
	fake_die();
	ck_exit(&ran, 69, "status --json");
	ck_says(&ran, "\"kind\": \"unreachable\"");
	fake_stop();
}
END_TEST

START_TEST(documents_of_the_wrong_shape)
{
	static const char *const docs[] = {
		"{}",
		"{\"environments\":null,\"daemon\":7}",
		"{\"environments\":{},\"deployments\":{},\"backups\":3,\"errors\":\"x\"}",
		"{\"environments\":[1,null,[],\"x\",{}],\"deployments\":[1,{}],\"backups\":[null,{}"
		"],"
		"\"errors\":[0,{}]}",
		"{\"environments\":[{\"deployment\":{},\"rules\":[{\"armed\":true},{\"armed\":true,"
		"\"rule\":\"error-rate\",\"evidence\":{}}],\"coverage\":[{}],\"alerts\":[{}],"
		"\"phase\":{},\"health\":[],\"asks\":{}}],\"decisions\":[{\"evidence\":{}}],"
		"\"alerts\":[{}],\"sentences\":[1,null],\"samples\":[null,{}]}",
	};
	static const char *const commands[] = {
		"status",         "history",
		"show x",         "explain",
		"backups",        "config check",
		"version",        "status --json",
		"backups verify", "deploy --env e --tag t --dry-run"};
	struct canned rows[] = {{"", docs[_i], 0, ANSWER, 0}, {0}};

	fake_start();
	fake_says(rows);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		int code = client_run(&ran, commands[i]);

		ck_assert_msg(code >= 0 && code <= 8, "dhash %s: %d\n%s", commands[i], code,
			      ran.text);
	}
	fake_stop();
}
END_TEST

START_TEST(nothing_is_sent_twice)
{
	fake_start();
	fake_says((struct canned[]){{"POST /v1/rollbacks", NULL, 0, ABRUPT, 0}, {0}});
	ck_exit(&ran, 69, "rollback --env production --yes --no-wait");
	ck_assert_ptr_null(strstr(strstr(fake.seen, "POST") + 1, "POST"));
	ck_says(&ran, "it may have been carried out all the same");
	ck_not(&ran, "systemctl start"); /* it runs */
	fake_stop();
}
END_TEST

static void *
accept_one(void *arg)
{
	int fd = accept4(fake.fd, NULL, NULL, SOCK_CLOEXEC);

	return fd >= 0 ? fake_connection((void *)(intptr_t)fd) : NULL;
}

/* So many connect that no place in the backlog is left: it is waited for. */
START_TEST(backlog_is_full)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fds[8], n = 0, error = 0;
	pthread_t threads[8];
	usec_t begin;

	fake_folder();
	strcpy(address.sun_path, fake.path);
	fake.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fake.fd, (struct sockaddr *)&address, sizeof address), 0);
	ck_assert_int_eq(listen(fake.fd, 0), 0);
	while (error == 0) {
		ck_assert_int_lt(n, 8);
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(fds[n++], (struct sockaddr *)&address, sizeof address) < 0)
			error = errno;
	}
	ck_assert_int_eq(error, EAGAIN);
	fake_says((struct canned[]){{"GET /v1/version", "{\"version\":\"9.9\"}", 0, 0, 0}, {0}});
	begin = now_boottime();
	ck_exit(&ran, 69, "version");
	ck_assert_int_ge(now_boottime() - begin, 4 * USEC_PER_SEC); /* not at once */
	ck_says(&ran, "too busy");
	ck_says(&ran, "try again in a moment");
	client_start(&ran, false, NULL, "version");
	for (int i = 0; i < n; i++) { /* those who wait, and ours */
		ck_assert_int_eq(pthread_create(&threads[i], NULL, accept_one, NULL), 0);
		close(fds[i]);
	}
	ck_assert_int_eq(client_end(&ran), 0);
	ck_says(&ran, "dhashd 9.9");
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	fake_stop();
}
END_TEST

START_TEST(socket_from_the_environment)
{
	char variable[128], *const environment[] = {variable, NULL};

	fake_start();
	fake_says((struct canned[]){{"GET /v1/version", "{\"version\":\"9.9\"}", 0, 0, 0}, {0}});
	snprintf(variable, sizeof variable, "DHASH_SOCKET=%s", fake.path);
	/* An option given twice: the last one counts. */
	client_start(&ran, false, environment, "version --socket /nonexistent");
	ck_assert_int_eq(client_end(&ran), 69);
	ck_says(&ran, "/nonexistent");
	ck_exit(&ran, 0, "version");
	ck_says(&ran, "dhashd 9.9");
	strcpy(variable, "NO_PROXY=");
	client_start(&ran, false,
		     (char *[]){(char *)"http_proxy=http://127.0.0.1:9",
				(char *)"ALL_PROXY=http://127.0.0.1:9", NULL},
		     "version");
	ck_assert_int_eq(client_end(&ran), 0);
	fake_stop();
}
END_TEST

START_TEST(path_too_long)
{
	char words[400] = "status --socket /";

	memset(words + strlen(words), 'x', 200);
	fake_folder();
	ck_exit(&ran, 2, words);
	ck_says(&ran, "cannot use socket");
	fake_stop();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client/conn");
	TCase *t = tcase_create("faults");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_test(t, nobody_there);
	tcase_add_test(t, may_not_open);
	tcase_add_test(t, denied_by_the_daemon);
	tcase_add_loop_test(t, faults_are_told, 0, ARRAY_SIZE(faults));
	tcase_add_test(t, faults_are_json_too);
	tcase_add_loop_test(t, documents_of_the_wrong_shape, 0, 5);
	tcase_add_test(t, nothing_is_sent_twice);
	tcase_add_test(t, backlog_is_full);
	tcase_add_test(t, socket_from_the_environment);
	tcase_add_test(t, path_too_long);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
