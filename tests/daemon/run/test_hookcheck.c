/* SPDX-License-Identifier: Apache-2.0 */
/* What hook_check() lets pass and refuses, and how requests are read. */

#include "tests/daemon/run/fixture.h"

static void
assert_check(const char *name, int expected, const char *part)
{
	char *const argv[] = {(char *)name, NULL};
	char *why = NULL;
	int r = hook_check(argv, dir, &why);

	ck_assert_msg(r == expected, "%s: %d, not %d (%s)", name, r, expected, why ? why : "");
	if (part)
		ck_assert_msg(why && strstr(why, part), "\"%s\" lacks \"%s\"", why ? why : "",
			      part);
	free(why);
}

START_TEST(good)
{
	char *script = at("good.sh");

	write_file("good.sh", 0755, "#!/bin/sh\n");
	assert_check("good.sh", 0, NULL);
	assert_check(script, 0, NULL);
	assert_check("/bin/true", 0, NULL);
	assert_check("true", 0, NULL); /* from the system's own folders */
	write_file("env.sh", 0700, "#! /usr/bin/env bash\n");
	assert_check("env.sh", 0, NULL);
	free(script);
}
END_TEST

START_TEST(bad)
{
	char *path = at("folder.sh");
	char *const none[] = {NULL};
	char *why = NULL;

	ck_assert_int_eq(hook_check(none, dir, &why), -EINVAL);
	free(why);
	assert_check("none.sh", -ENOENT, "there is no ");
	assert_check("no-such-program-anywhere", -ENOENT, "there is no ");
	write_file("plain.sh", 0644, "#!/bin/sh\n");
	assert_check("plain.sh", -EACCES, "plain.sh: Permission denied; chmod +x it");
	write_file("odd.sh", 0755, "#!/no/such/interpreter\n");
	assert_check("odd.sh", -ENOENT, "/no/such/interpreter");
	write_file("dos.sh", 0755, "#!/bin/sh\r\n");
	assert_check("dos.sh", -ENOENT, "CR LF");
	write_file("bare.sh", 0755, "echo hello\n");
	assert_check("bare.sh", -ENOEXEC, "#!/bin/sh");
	write_file("empty.sh", 0755, "");
	assert_check("empty.sh", -ENOEXEC, NULL);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	assert_check("folder.sh", -EISDIR, NULL);
	free(path);
}
END_TEST

START_TEST(writable)
{
	char *folder = at("f"), *target = at("f/real.sh"), *link = at("link.sh");

	write_file("group.sh", 0775, "#!/bin/sh\n");
	assert_check("group.sh", -EPERM, "chmod go-w");
	write_file("other.sh", 0757, "#!/bin/sh\n");
	assert_check("other.sh", -EPERM, "chmod go-w");
	/* A folder where others may write, also when a link leads into it; unless it is sticky. */
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	write_file("f/real.sh", 0755, "#!/bin/sh\n");
	ck_assert_int_eq(symlink(target, link), 0);
	assert_check("f/real.sh", 0, NULL);
	assert_check("link.sh", 0, NULL);
	ck_assert_int_eq(chmod(folder, 0777), 0);
	assert_check("f/real.sh", -EPERM, "replace it");
	assert_check("link.sh", -EPERM, "replace it");
	ck_assert_int_eq(chmod(folder, 01777), 0);
	assert_check("f/real.sh", 0, NULL);
	assert_check("link.sh", 0, NULL);
	free(folder);
	free(target);
	free(link);
}
END_TEST

/* Further up: what a whole world can replace is refused, what a group shares is not. */
START_TEST(writable_further_up)
{
	char *top = at("top"), *middle = at("top/middle"), *folder = at("top/middle/f");
	char *target = at("top/middle/f/x.sh"), *link = at("link.sh");

	ck_assert_int_eq(mkdir(top, 0755), 0);
	ck_assert_int_eq(mkdir(middle, 0755), 0);
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	write_file("top/middle/f/x.sh", 0755, "#!/bin/sh\n");
	ck_assert_int_eq(symlink(target, link), 0);
	assert_check("top/middle/f/x.sh", 0, NULL);
	ck_assert_int_eq(chmod(top, 0777), 0);
	assert_check("top/middle/f/x.sh", -EPERM, "anybody may replace it");
	assert_check("link.sh", -EPERM, "top (mode 0777); chmod o-w ");
	ck_assert_int_eq(chmod(top, 01777), 0);
	assert_check("top/middle/f/x.sh", 0, NULL);
	ck_assert_int_eq(chmod(top, 0775), 0);
	assert_check("top/middle/f/x.sh", 0, NULL);
	free(top);
	free(middle);
	free(folder);
	free(target);
	free(link);
}
END_TEST

/* What was written is read back, strange characters and all. */
START_TEST(request_round_trip)
{
	char *const argv[] = {(char *)"/bin/x", (char *)"", (char *)"a \"b\"\n\x01é", NULL};
	char *const env[] = {(char *)"A=", (char *)"B=x=y\n", NULL};
	struct hook_request rq = request_for("deploy-20240101-120000.deploy.1", argv);
	struct hook_files f;
	struct request q;
	struct stat st;
	char *why = NULL;

	rq.environ = env;
	rq.user = "deploy";
	rq.directory = NULL;
	ck_assert_int_eq(hook_files_init(&f, dir, rq.txid), 0);
	ck_assert_int_eq(request_write(&f, &rq), 0);
	ck_assert_int_eq(stat(f.request, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600); /* an environment may hold secrets */
	ck_assert_int_eq(request_read(&f, &q, &why), 0);
	ck_assert_uint_eq(strv_len(q.r.argv), 3);
	ck_assert_str_eq(q.r.argv[1], "");
	ck_assert_str_eq(q.r.argv[2], argv[2]);
	ck_assert_str_eq(q.r.environ[1], env[1]);
	ck_assert_ptr_null(q.r.environ[2]);
	ck_assert_ptr_null(q.r.directory);
	ck_assert_str_eq(q.r.user, "deploy");
	ck_assert_str_eq(q.r.txid, rq.txid);
	ck_assert_int_eq(q.r.timeout_usec, rq.timeout_usec);
	ck_assert_uint_eq(q.r.output_max_bytes, rq.output_max_bytes);
	request_done(&q);
	hook_files_done(&f);
}
END_TEST

/* Cut at every byte, and with one wrong thing each: refused with a reason, never half believed. */
START_TEST(request_damaged)
{
	static const char *const wrong[] = {
		"[]",
		"{}",
		"{\"txid\":\"u\",\"argv\":[\"/x\"],\"environ\":[],\"log\":\"l\",\"timeout_usec\":1,"
		"\"kill_usec\":1,\"output_max_bytes\":1}", /* another transaction */
		"{\"txid\":\"t\",\"argv\":[],\"environ\":[],\"log\":\"l\",\"timeout_usec\":1,"
		"\"kill_usec\":1,\"output_max_bytes\":1}",
		"{\"txid\":\"t\",\"argv\":[\"/"
		"x\",1],\"environ\":[],\"log\":\"l\",\"timeout_usec\":1,"
		"\"kill_usec\":1,\"output_max_bytes\":1}",
		"{\"txid\":\"t\",\"argv\":[\"/x\"],\"environ\":[\"a\"],\"log\":\"l\","
		"\"timeout_usec\":1,\"kill_usec\":1,\"output_max_bytes\":1}",
		"{\"txid\":\"t\",\"argv\":[\"/"
		"x\"],\"environ\":[],\"log\":\"l\",\"timeout_usec\":-1,"
		"\"kill_usec\":1,\"output_max_bytes\":1}",
		"{\"txid\":\"t\",\"argv\":[\"/x\"],\"environ\":[],\"log\":\"l\",\"timeout_usec\":1,"
		"\"kill_usec\":1,\"output_max_bytes\":-1}",
		"{\"txid\":\"t\",\"argv\":[\"/x\"],\"environ\":[],\"log\":\"l\",\"timeout_usec\":1,"
		"\"kill_usec\":1,\"output_max_bytes\":1,\"more\":1}",
	};
	char *const argv[] = {(char *)"/bin/true", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_files f;
	struct request q;
	char *whole, *why;

	ck_assert_int_eq(hook_files_init(&f, dir, "t"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		write_file("t.request", 0600, wrong[i]);
		why = NULL;
		ck_assert_msg(request_read(&f, &q, &why) < 0, "%s", wrong[i]);
		ck_assert_ptr_nonnull(why);
		free(why);
	}
	ck_assert_int_eq(request_write(&f, &rq), 0);
	whole = read_text("t.request");
	for (size_t n = strlen(whole); n-- > 0;) {
		whole[n] = '\0';
		write_file("t.request", 0600, whole);
		why = NULL;
		ck_assert_int_lt(request_read(&f, &q, &why), 0);
		free(why);
	}
	free(whole);
	hook_files_done(&f);
}
END_TEST

START_TEST(not_utf8)
{
	char *const argv[] = {(char *)"/bin/echo", (char *)"\xff", NULL};
	struct hook_request rq = request_for("t", argv);
	struct hook_result r = ensure(&rq);

	ck_assert_int_eq(r.outcome, HOOK_FAILED);
	ck_assert_ptr_nonnull(strstr(r.text, "UTF-8"));
	ck_assert(!exists("t.started"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hook check");
	TCase *t = tcase("check");

	tcase_add_test(t, good);
	tcase_add_test(t, bad);
	tcase_add_test(t, writable);
	tcase_add_test(t, writable_further_up);
	tcase_add_test(t, request_round_trip);
	tcase_add_test(t, request_damaged);
	tcase_add_test(t, not_utf8);
	suite_add_tcase(s, t);
	return run_suite(s);
}
