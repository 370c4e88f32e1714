/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that change something: what they ask, of whom, and what they answer to a refusal. */

#include "tests/client/documents.h"
#include "tests/client/fake.h"

static struct ran ran;

/* --- acting --- */

START_TEST(deploy_sends_what_was_said)
{
	fake_says((struct canned[]){{"POST /v1/deployments", BEGUN, 202, 0, 0}, {0}});
	ck_exit(&ran, 8,
		"deploy --env production --tag v1.1.0 --service dhash --lead @ops --supersede "
		"--force "
		"--reason \"it is urgent\" --no-wait");
	ck_assert_str_eq(ran.text, ID "\n");
	ck_assert(fake_was_asked(
		"{\"service\":\"dhash\",\"environment\":\"production\",\"tag\":\"v1.1.0\","
		"\"lead\":\"@ops\",\"reason\":\"it is urgent\",\"force\":true,"
		"\"supersede\":true}"));
	ck_exit(&ran, 8, "deploy --env production --tag v1.1.0 --no-wait --json");
	ck_assert_str_eq(ran.text, "{\"id\": \"" ID "\", \"state\": \"queued\"}\n");
}
END_TEST

START_TEST(dry_run)
{
	fake_says((struct canned[]){
		{"POST /v1/deployments",
		 "{\"dry_run\":true,\"ok\":true,\"gates\":[{\"name\":\"hooks\",\"ok\":true,"
		 "\"text\":"
		 "\"executable\"}],\"plan\":[\"back up\",\"run scripts/deploy_dhash.sh\"]}",
		 200, 0, 1},
		{"POST /v1/deployments",
		 "{\"dry_run\":true,\"ok\":false,\"gates\":[{\"name\":\"hooks\",\"ok\":false,"
		 "\"text\":"
		 "\"not executable\"}],\"plan\":[]}",
		 200, 0, 1},
		{0}});
	ck_exit(&ran, 0, "deploy --env production --tag v1 --dry-run");
	ck_says(&ran, "passes  hooks: executable");
	ck_says(&ran, "2. run scripts/deploy_dhash.sh");
	ck_assert(fake_was_asked("\"dry_run\":true"));
	ck_exit(&ran, 1, "deploy --env production --tag v1 --dry-run");
	ck_says(&ran, "FAILS   hooks: not executable");
}
END_TEST

static const struct {
	const char *error;
	int status, code;
	const char *says;
} refusals[] = {
	{"{\"error\":{\"kind\":\"busy\",\"message\":\"held by " ID "\"}}", 409, 1, "--supersede"},
	{"{\"error\":{\"kind\":\"busy\",\"message\":\"held\",\"detail\":{\"deployment\":\"" ID
	 "\"}}}",
	 409, 1, "dhash watch " ID ";"},
	{"{\"error\":{\"kind\":\"stopping\",\"message\":\"dhashd is stopping\"}}", 503, 69,
	 "is stopping"},
	{"{\"error\":{\"kind\":\"not-found\",\"message\":\"no environment x\"}}", 404, 4,
	 "dhash status"},
	{"{\"error\":{\"kind\":\"read-only\",\"message\":\"disk\"}}", 503, 1, "journalctl"},
	{"{\"error\":{\"kind\":\"bad-request\",\"message\":\"which service?\"}}", 400, 2,
	 "which service?"},
};

START_TEST(deploy_refused)
{
	struct canned rows[] = {
		{"POST /v1/deployments", refusals[_i].error, refusals[_i].status, 0, 0}, {0}};

	fake_says(rows);
	ck_exit(&ran, refusals[_i].code, "deploy --env production --tag v1");
	ck_says(&ran, refusals[_i].says);
}
END_TEST

/* --- confirmation --- */

static const struct {
	const char *words, *typed;
	int code;
	bool done;
} answers[] = {
	{"rollback --env production --no-wait", "production\n", 8, true},
	{"rollback --env production --no-wait", "yes\n", 1, false},
	{"rollback --env production --no-wait", "\004", 1, false},
	{"abort " ID, "production\n", 0, true},
	{"abort " ID, "staging\n", 1, false},
	{"abort --env production", "production\n", 0, true},
	{"deploy --env production --tag v2 --supersede --no-wait", "production\n", 8, true},
	{"deploy --env production --tag v2 --supersede --no-wait", "v2\n", 1, false},
};

START_TEST(asks_on_a_terminal)
{
	struct canned rows[] = {
		{"GET /v1/status?environment=production",
		 STATUS(ENVIRONMENT("suspect", "", WATCHING)), 0, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 0},
		{"POST ", BEGUN, 0, 0, 0},
		{0}};

	fake_says(rows);
	client_start(&ran, true, NULL, answers[_i].words);
	ck_assert(client_says(&ran, "Type production to go on: "));
	ck_assert_int_gt(write(ran.out, answers[_i].typed, strlen(answers[_i].typed)), 0);
	ck_assert_int_eq(client_end(&ran), answers[_i].code);
	ck_assert_int_eq(fake_was_asked("POST"), answers[_i].done);
	if (!answers[_i].done)
		ck_says(&ran, "nothing was done");
}
END_TEST

/* Which release it is, and what would stand there then. */
static const struct {
	const char *words, *says;
} questions[] = {
	{"rollback --env production", "v1.1.0 is there now; watching, for "},
	{"rollback --env production", "; what was there before (v1.0.0) would be put back"},
	{"rollback --env production --to v0.9", "; v0.9 would be put back"},
	{"rollback --env production --backup /b/x.zip", "; the backup /b/x.zip would be restored"},
	{"deploy --env production --tag v2 --supersede", "; v2 would replace it"},
	{"abort --env production", "; it would end here"},
};

START_TEST(question_says_what_would_be)
{
	fake_says((struct canned[]){
		{"GET /v1/status?environment=production",
		 "{\"environments\":[{\"service\":\"dhash\",\"environment\":\"production\","
		 "\"release\":\"v1.1.0\",\"deployment\":" DEPLOYMENT("watching", "watching",
								     ",\"live\":true") "}]}",
		 0, 0, 0},
		{0}});
	client_start(&ran, true, NULL, questions[_i].words);
	ck_assert(client_says(&ran, "Type production to go on: "));
	ck_says(&ran, questions[_i].says);
	ck_assert_int_gt(write(ran.out, "\004", 1), 0);
	ck_assert_int_eq(client_end(&ran), 1);
}
END_TEST

START_TEST(not_asked)
{
	struct canned rows[] = {
		{"GET /v1/status?environment=production",
		 STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("succeeded", "succeeded", ""))), 0, 0,
		 0},
		{"POST ", BEGUN, 0, 0, 0},
		{0}};

	fake_says(rows);
	/* Nothing is live: nothing is replaced. */
	client_start(&ran, true, NULL, "deploy --env production --tag v2 --supersede --no-wait");
	ck_assert_int_eq(client_end(&ran), 8);
	client_start(&ran, true, NULL, "deploy --env e --tag v2 --supersede --yes --no-wait");
	ck_assert_int_eq(client_end(&ran), 8);
	/* The option itself says enough where nobody can be asked. */
	ck_exit(&ran, 8, "deploy --env e --tag v2 --supersede --no-wait");
	ck_not(&ran, "Type");
}
END_TEST

START_TEST(nothing_to_act_on)
{
	fake_says((struct canned[]){
		{"POST /v1/rollbacks",
		 "{\"error\":{\"kind\":\"not-found\",\"message\":\"nothing was ever deployed\"}}",
		 404, 0, 0},
		{"GET /v1/status?environment=production",
		 "{\"environments\":[{\"environment\":\"production\",\"deployment\":null}]}", 0, 0,
		 0},
		{"GET /v1/deployments/" ID,
		 DEPLOYMENT("rolled-back", "rolled-back", ",\"live\":false"), 0, 0, 0},
		{0}});
	ck_exit(&ran, 3, "rollback --env production --yes --no-wait");
	ck_says(&ran, "nothing was ever deployed");
	ck_exit(&ran, 4, "rollback --env nowhere --yes --no-wait");
	ck_exit(&ran, 1, "abort " ID " --yes");
	ck_says(&ran, "has ended (rolled-back): there is nothing to abort");
	ck_exit(&ran, 1, "abort " ID);
	ck_assert(!fake_was_asked("/abort"));
}
END_TEST

START_TEST(refuses_without_a_terminal)
{
	fake_says((struct canned[]){
		{"GET /v1/status", STATUS(ENVIRONMENT("suspect", "", WATCHING)), 0, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("queued", "queued", ""), 0, 0, 0},
		{"POST ", BEGUN, 0, 0, 0},
		{0}});
	ck_exit(&ran, 2, "rollback --env production --no-wait");
	ck_says(&ran, "--yes");
	ck_exit(&ran, 2, "abort --env production");
	ck_assert(!fake_was_asked("POST"));
	ck_exit(&ran, 0, "abort " ID " --reason wrong"); /* still queued */
	ck_assert(fake_was_asked("/abort HTTP/1.1 {\"reason\":\"wrong\"}"));
	ck_exit(&ran, 8, "rollback --env production --force --to v0.9.0 --no-wait");
	ck_assert(fake_was_asked(
		"{\"environment\":\"production\",\"to\":\"v0.9.0\",\"force\":true}"));
	ck_exit(&ran, 8, "rollback --env production --yes --backup /b/x.zip --no-wait");
	ck_assert(fake_was_asked("\"backup\":\"/b/x.zip\""));
	ck_exit(&ran, 8, "rollback --env production --yes --backup y.zip --no-wait");
	ck_assert(fake_was_asked("/y.zip\"") && !fake_was_asked("\"backup\":\"y.zip\""));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client/act");
	TCase *t = tcase_create("act");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, fake_start, fake_stop);
	tcase_add_test(t, deploy_sends_what_was_said);
	tcase_add_test(t, dry_run);
	tcase_add_test(t, not_asked);
	tcase_add_test(t, nothing_to_act_on);
	tcase_add_test(t, refuses_without_a_terminal);
	tcase_add_loop_test(t, deploy_refused, 0, ARRAY_SIZE(refusals));
	tcase_add_loop_test(t, asks_on_a_terminal, 0, ARRAY_SIZE(answers));
	tcase_add_loop_test(t, question_says_what_would_be, 0, ARRAY_SIZE(questions));
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
