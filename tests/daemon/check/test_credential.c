/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens by name: what a folder of credentials may hold, and what a server then gets. */

#include "tests/daemon/check/http_kit.h"

#include <ftw.h>
#include <sys/stat.h>

#include "daemon/check/credential.h"

static char dir[64];

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
with_folder(void)
{
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	set_up();
}

static void
without_folder(void)
{
	tear_down();
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
put(const char *name, const void *secret, size_t len)
{
	char *path = xasprintf("%s/%s", dir, name);

	ck_assert_int_eq(file_write_atomic(path, secret, len, 0600), 0);
	free(path);
}

static const struct {
	const char *secret;
	size_t len;
	int result;
} secrets[] = {
	{"token", 5, 0},       {"token\n", 6, 0},         {"token\r\n", 7, 0},
	{"", 0, -ENODATA},     {"\n", 1, -ENODATA},       {"to ken", 6, -EINVAL},
	{"t\x01", 2, -EINVAL}, {"t\xc3\xa4", 3, -EINVAL},
};

START_TEST(forms)
{
	char *line = NULL, *why = NULL;

	put("dhashd_key", secrets[_i].secret, secrets[_i].len);
	ck_assert_int_eq(credential_bearer("key", &line, &why), secrets[_i].result);
	if (secrets[_i].result == 0) {
		ck_assert_str_eq(line, "Authorization: Bearer token");
		credential_free(line);
	} else {
		/* The reason says nothing of the secret. */
		ck_assert_ptr_null(line);
		ck_assert_ptr_nonnull(strstr(why, "credential key"));
		ck_assert_ptr_null(strstr(why, "ken"));
		free(why);
	}
}
END_TEST

/* Of two files the unit's own folder counts; a drop-in's name alone will do, too. */
START_TEST(places)
{
	char *line, *why = NULL;

	put("key", "plain", 5);
	ck_assert_int_eq(credential_bearer("key", &line, &why), 0);
	ck_assert_str_eq(line, "Authorization: Bearer plain");
	credential_free(line);
	put("dhashd_key", "own", 3);
	ck_assert_int_eq(credential_bearer("key", &line, &why), 0);
	ck_assert_str_eq(line, "Authorization: Bearer own");
	credential_free(line);
	ck_assert_int_eq(credential_bearer("other", &line, &why), -ENOENT);
	free(why);
	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_int_eq(credential_bearer("key", &line, &why), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why, "the service manager passed none"));
	free(why);
}
END_TEST

START_TEST(too_long)
{
	char *line, *why = NULL, *secret = xmalloc(5000);

	memset(secret, 'a', 5000);
	put("key", secret, 5000);
	ck_assert_int_eq(credential_bearer("key", &line, &why), -EFBIG);
	free(why);
	free(secret);
}
END_TEST

START_TEST(sent)
{
	put("dhashd_key", "token", 5);
	begin((struct http_request){.keep_body = true, .accept = "text/plain", .credential = "key"},
	      "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nAuthorization: Bearer token\r\n"));
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nAccept: text/plain\r\n"));
	/* The next request on the same handle has none. */
	GET("/status/200");
	ck_assert_ptr_null(strstr(server->last, "Authorization"));
}
END_TEST

/* A check without its token says nothing about the service, and is not sent without it. */
START_TEST(missing)
{
	unsigned before = server->requests;

	begin((struct http_request){.credential = "key"}, "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_msg(strstr(got.why, "/etc/dhashd/credentials/key") != NULL, "%s", got.why);
	ck_assert_uint_eq(server->requests, before);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("credential");
	TCase *t = tcase_create("credential");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, with_folder, without_folder);
	tcase_add_loop_test(t, forms, 0, (int)ARRAY_SIZE(secrets));
	tcase_add_test(t, places);
	tcase_add_test(t, too_long);
	tcase_add_test(t, sent);
	tcase_add_test(t, missing);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
