/* SPDX-License-Identifier: Apache-2.0 */
/* Every command of the real client against canned documents of dhash-protocol(7). */

#include "tests/client/documents.h"
#include "tests/client/fake.h"

static struct ran ran;

/* --- status --- */

START_TEST(status_at_a_glance)
{
	fake_says((struct canned[]){{"GET /v1/status?service=dhash&environment=production",
				     STATUS(ENVIRONMENT("suspect", CRITICAL, WATCHING)), 0, 0, 0},
				    {0}});
	ck_exit(&ran, 1, "status dhash --env production");
	ck_says(&ran, "dhash/production  v1.1.0  watching: critical, 12min 30s left  SUSPECT\n");
	ck_says(&ran,
		"error rate  12.4% of 1,240 requests (limit 10% for 5min), over for 2min 10s;");
	ck_says(&ran, " fires in 2min 50s");
	ck_says(&ran, "coverage    critical 98% (2min 27s of 2min 30s)\n");
	ck_says(&ran, "alert       critical for ");
	ck_says(&ran, "do          high error rate: investigate, prepare rollback, within 5min\n");
	ck_says(&ran, "next check  in 18s\n");
	ck_says(&ran, "deployment  " ID ", led by @ops\n");
	ck_not(&ran, "infrastructure");
	ck_not(&ran, "\033");
}
END_TEST

static const struct {
	const char *body;
	int code;
	const char *says;
} statuses[] = {
	{STATUS(ENVIRONMENT("healthy", "", WATCHING)), 0, "HEALTHY"},
	{STATUS(ENVIRONMENT("blind", "", WATCHING)), 0, "BLIND"},
	{STATUS(ENVIRONMENT("breached", "", WATCHING)), 1, "BREACHED"},
	{STATUS(ENVIRONMENT("healthy", CRITICAL, WATCHING)), 1, "critical"},
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("rollback-failed", "rollback-failed", ""))),
	 1, "rollback of v1.1.0 failed"},
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("rolled-back", "rolled-back", ""))), 0,
	 "v1.1.0 rolled back"},
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("rolling-back.running", "rolling-back", ""))),
	 1, "  ROLLING BACK\n"},
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("verifying", "verifying", ""))), 1,
	 "  ROLLING BACK\n"},
	{STATUS("{\"service\":\"a\",\"environment\":\"b\",\"deployment\":null,\"release\":null,"
		"\"verdict\":\"healthy\"}"),
	 3, "nothing deployed yet"},
	{STATUS("{\"service\":\"a\",\"environment\":\"b\",\"deployment\":null,\"release\":null,"
		"\"verdict\":\"suspect\"},{\"service\":\"\\u001b[31m\",\"environment\":\"c\"}"),
	 1, "\\x1b[31m"},
	{STATUS(""), 3, "no such environment"},
	{"{\"environments\":[],\"daemon\":{\"state\":\"read-only\",\"problem\":\"disk is full\"}}",
	 1, "dhashd is read-only: disk is full"},
};

static const struct {
	const char *body, *says, *not ;
} reasons[] = {
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("deploying", "deploying", ",\"live\":true"))),
	 ID ", led by @ops\n", "as it went"},
	{STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("failed", "failed", ",\"live\":false"))),
	 ": as it went\n", "ops: \n"},
	{STATUS(ENVIRONMENT("healthy", "",
			    DEPLOYMENT("rolled-back", "rolled-back",
				       ",\"live\":false,\"rollback_reason\":\"too many errors\""))),
	 ": too many errors\n", "as it went"},
	{STATUS(ENVIRONMENT("healthy", "",
			    DEPLOYMENT("rollback-failed", "rollback-failed",
				       ",\"live\":false,\"rollback_reason\":\"too many errors\""))),
	 ": as it went\n", "too many errors"},
};

START_TEST(status_says_why)
{
	struct canned rows[] = {{"GET /v1/status ", reasons[_i].body, 0, 0, 0}, {0}};

	fake_says(rows);
	client_run(&ran, "status");
	ck_says(&ran, reasons[_i].says);
	ck_not(&ran, reasons[_i].not );
}
END_TEST

START_TEST(status_codes)
{
	struct canned rows[] = {{"GET /v1/status ", statuses[_i].body, 0, 0, 0}, {0}};

	fake_says(rows);
	ck_exit(&ran, statuses[_i].code, "status");
	ck_says(&ran, statuses[_i].says);
	ck_not(&ran, "\033");
	ck_exit(&ran, statuses[_i].code, "--json status");
	ck_assert_int_eq(ran.text[0], '{');
}
END_TEST

START_TEST(status_of_an_unknown_environment)
{
	fake_says((struct canned[]){{"GET /v1/status", STATUS(""), 0, 0, 0}, {0}});
	ck_exit(&ran, 4, "status --env nowhere");
}
END_TEST

START_TEST(colours)
{
	char *const forced[] = {(char *)"CLICOLOR_FORCE=1", NULL};
	char *const refused[] = {(char *)"CLICOLOR_FORCE=1", (char *)"NO_COLOR=1", NULL};
	char *const terminal[] = {(char *)"TERM=xterm", NULL};

	fake_says((struct canned[]){
		{"GET /v1/status", STATUS(ENVIRONMENT("suspect", "", WATCHING)), 0, 0, 0}, {0}});
	client_start(&ran, false, forced, "status");
	ck_assert_int_eq(client_end(&ran), 1);
	ck_says(&ran, "\033[33mSUSPECT\033[0m");
	client_start(&ran, false, refused, "status");
	client_end(&ran);
	ck_not(&ran, "\033");
	client_start(&ran, true, terminal, "status");
	client_end(&ran);
	ck_says(&ran, "\033[33mSUSPECT\033[0m");
}
END_TEST

/* --- what tells --- */

#define DECISION                                                                                   \
	"{\"kind\":\"roll-back\",\"at\":\"2024-01-01T12:16:00.000Z\",\"automatic\":true,"          \
	"\"actor_uid\":0,\"rule\":\"error-rate\",\"text\":\"the error rate is too high\","         \
	"\"evidence\":" EVIDENCE "}"
#define RESOLVED                                                                                   \
	"{\"cause\":\"health\",\"level\":\"warning\",\"raised_at\":\"2024-01-01T12:10:00.000Z\","  \
	"\"resolved_at\":\"2024-01-01T12:10:30.000Z\",\"text\":\"one failed round\"}"

#define GREW_WORSE                                                                                 \
	"{\"cause\":\"error-rate\",\"level\":\"warning\",\"raised_at\":\"2024-01-01T12:10:00."     \
	"000Z\",\"resolved_at\":\"2024-01-01T12:11:00.000Z\",\"text\":\"7%\"},{\"cause\":\"error-" \
	"rate\",\"level\":\"critical\",\"raised_at\":\"2024-01-01T12:11:00.000Z\",\"resolved_"     \
	"at\":null,\"text\":\"12%\"}"

START_TEST(explain)
{
	fake_says((struct canned[]){
		{"GET /v1/explain?deployment=" ID,
		 "{\"environment\":null,\"deployment\":" DEPLOYMENT(
			 "rolled-back", "rolled-back",
			 "") ",\"decisions\":[" DECISION "],\"alerts\":[" RESOLVED "," GREW_WORSE
			     "],\"sentences\":"
			     "[\"It was rolled back.\",\"A line\\nfeed\"],\"samples\":[]}",
		 0, 0, 0},
		{"GET /v1/explain?service=dhash&environment=production",
		 "{\"environment\":" ENVIRONMENT("healthy", "", WATCHING) ",\"deployment\":null}",
		 0, 0, 0},
		{"GET /v1/deployments?limit=1",
		 "{\"deployments\":[" DEPLOYMENT("rolled-back", "rolled-back", "") "]}", 0, 0, 0},
		{0}});
	ck_exit(&ran, 0, "explain");
	ck_says(&ran, "It was rolled back.");
	ck_exit(&ran, 0, "explain " ID);
	ck_says(&ran, "It was rolled back.");
	ck_says(&ran, "A line\\x0afeed");
	ck_says(&ran,
		"12:16:00    roll-back by rule error-rate, automatic: the error rate is too high");
	ck_says(&ran, "12.4% of 1,240 requests (limit 10% for 5min");
	ck_says(&ran, "between 11% and 14%, from 5 samples");
	ck_says(&ran, "resolved after 30s");
	ck_says(&ran, "grew worse after 1min");
	ck_says(&ran, "still open");
	ck_exit(&ran, 0, "explain --service dhash --env production");
	ck_says(&ran, "HEALTHY");
	ck_exit(&ran, 2, "explain " ID " --env production");
	ck_exit(&ran, 2, "explain ../../etc");
	fake_says(
		(struct canned[]){{"GET /v1/deployments?limit=1", "{\"deployments\":[]}", 0, 0, 0},
				  {"GET /v1/deployments?service=", "{\"deployments\":[]}", 0, 0, 0},
				  {"GET /v1/status ", STATUS(""), 0, 0, 0},
				  {0}});
	ck_exit(&ran, 3, "explain");
	ck_says(&ran, "nothing has been deployed yet");
	ck_exit(&ran, 4, "explain --service nowhere");
	fake_says((struct canned[]){
		{"GET /v1/deployments?service=dhash&limit=1",
		 "{\"deployments\":[" DEPLOYMENT("succeeded", "succeeded", "") "]}", 0, 0, 0},
		{"GET /v1/explain?deployment=" ID, "{\"sentences\":[\"all is well\"]}", 0, 0, 0},
		{0}});
	ck_exit(&ran, 0, "explain --service dhash");
	ck_says(&ran, "all is well");
}
END_TEST

START_TEST(history_and_show)
{
	fake_says((struct canned[]){
		{"GET /v1/deployments?limit=5", "{\"deployments\":[]}", 0, 0, 0},
		{"GET /v1/status ", STATUS(""), 0, 0, 0},
		{"GET /v1/deployments?service=dhash&limit=7",
		 "{\"deployments\":[" DEPLOYMENT("succeeded", "succeeded", "") "]}", 0, 0, 0},
		{"GET /v1/deployments/" ID,
		 DEPLOYMENT(
			 "rolled-back", "rolled-back",
			 ",\"rollback_reason\":\"errors\",\"target\":\"/b/x.zip\","
			 "\"target_verified\":false,\"samples\":[{\"result\":\"ok\"},{\"result\":"
			 "\"bad\"}],\"decisions\":[" DECISION "],\"alerts\":[]"),
		 0, 0, 0},
		{0}});
	ck_exit(&ran, 0, "history --limit 5");
	ck_says(&ran, "nothing was deployed yet");
	ck_exit(&ran, 0, "history --service dhash --limit=7");
	ck_says(&ran,
		ID "  dhash/production  v1.1.0  succeeded  2024-01-01 12:00:00  16min 40s  @ops");
	ck_exit(&ran, 0, "show " ID);
	ck_says(&ran, "before      v1.0.0");
	ck_says(&ran, "1 ok, 1 bad, 0 no-data, 0 error");
	ck_says(&ran, "NOT verified");
	ck_says(&ran, "roll-back by rule error-rate");
	ck_exit(&ran, 4, "show deploy-20200101-000000");
	ck_exit(&ran, 2, "show");
}
END_TEST

#define BACKUP(ok)                                                                                 \
	"{\"path\":\"/b/dhash-production-1.zip\",\"sha256\":\"00\",\"service\":\"dhash\","         \
	"\"environment\":\"production\",\"tag\":\"v1.0.0\",\"emergency\":true,\"corrupt\":false,"  \
	"\"bytes\":4404019,\"created_at\":\"2024-01-01T12:00:00.000Z\",\"verified_at\":null" ok    \
	"}"

START_TEST(backups)
{
	fake_says((struct canned[]){
		{"GET /v1/backups?environment=production", "{\"backups\":[" BACKUP("") "]}", 0, 0,
		 0},
		{"GET /v1/backups ", "{\"backups\":[]}", 0, 0, 0},
		{"GET /v1/status ", STATUS(""), 0, 0, 0},
		{"POST /v1/backups/verify HTTP/1.1 {\"environment\":\"production\"}",
		 "{\"backups\":[" BACKUP(",\"ok\":true,\"text\":\"\"") "]}", 0, 0, 0},
		{"POST /v1/backups/verify",
		 "{\"backups\":[" BACKUP(",\"ok\":false,\"text\":\"its digest differs\"") "]}", 0,
		 0, 0},
		{0}});
	ck_exit(&ran, 0, "backups --env production");
	ck_says(&ran, "v1.0.0  emergency  4.2 MiB  -");
	ck_exit(&ran, 0, "backups list");
	ck_says(&ran, "no backup yet");
	ck_exit(&ran, 0, "backups verify --env production");
	ck_exit(&ran, 1, "backups verify");
	ck_says(&ran, "/b/dhash-production-1.zip: its digest differs");
	ck_exit(&ran, 2, "backups burn");
}
END_TEST

/* An empty list of what does not exist is not "nothing yet". */
START_TEST(lists_of_what_does_not_exist)
{
	static const char *const lists[] = {
		"history --env nowhere", "history --service x --limit 3", "backups --env nowhere",
		"backups verify --env nowhere"};

	fake_says((struct canned[]){
		{"GET /v1/deployments", "{\"deployments\":[]}", 0, 0, 0},
		{"GET /v1/backups", "{\"backups\":[]}", 0, 0, 0},
		{"POST /v1/backups/verify", "{\"backups\":[]}", 0, 0, 0},
		{"GET /v1/status?",
		 "{\"error\":{\"kind\":\"not-found\",\"message\":\"unknown environment\"}}", 404, 0,
		 0},
		{0}});
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		ck_exit(&ran, 4, lists[i]);
		ck_says(&ran, "unknown environment");
		ck_not(&ran, "yet");
	}
	ck_exit(&ran, 4, "history --env nowhere --json");
	ck_assert_int_eq(strncmp(ran.text, "{\"error\"", 8), 0);
	ck_not(&ran, "\"deployments\"");
}
END_TEST

START_TEST(configuration_and_version)
{
	fake_says((struct canned[]){
		{"GET /v1/config/check", "{\"ok\":true,\"errors\":[]}", 0, 0, 1},
		{"GET /v1/config/check",
		 "{\"ok\":false,\"errors\":[{\"file\":\"a.conf\",\"line\":7,\"text\":\"unknown "
		 "key\"}]}",
		 0, 0, 0},
		{"GET /v1/version",
		 "{\"version\":\"0.1.0\",\"protocol\":1,\"pid\":42,\"started_at\":"
		 "\"2024-01-01T12:00:00.000Z\",\"config\":\"/etc/dhashd\"}",
		 0, 0, 0},
		{0}});
	ck_exit(&ran, 0, "config check");
	ck_exit(&ran, 1, "config check");
	ck_says(&ran, "a.conf:7: unknown key");
	ck_exit(&ran, 2, "config");
	ck_exit(&ran, 0, "version");
	ck_says(&ran, "dhashd 0.1.0, protocol 1, pid 42, running since 2024-01-01 12:00:00 UTC");
}
END_TEST

/* --- waiting --- */

static const struct {
	const char *state;
	int deploy, rollback;
	const char *document, *says;
} ends[] = {
	{"succeeded", 0, 0, DEPLOYMENT("succeeded", "succeeded", ""),
	 "succeeded: v1.1.0 is on dhash/production"},
	{"rolled-back", 5, 0,
	 DEPLOYMENT("rolled-back", "rolled-back", ",\"rollback_reason\":\"errors\""),
	 "rolled back: v1.1.0 was taken off dhash/production, v1.0.0 is back: errors"},
	{"unverified", 1, 1, DEPLOYMENT("unverified", "unverified", ""), "unverified: v1.1.0"},
	{"failed", 1, 1, DEPLOYMENT("failed", "failed", ""), "as it went"},
	{"rejected", 1, 1, DEPLOYMENT("rejected", "rejected", ""), "--force --reason"},
	{"aborted", 1, 1, DEPLOYMENT("aborted", "aborted", ""), "aborted: v1.1.0"},
	{"superseded", 1, 1, DEPLOYMENT("superseded", "superseded", ""), "superseded: v1.1.0"},
	{"rollback-failed", 1, 1, DEPLOYMENT("rollback-failed", "rollback-failed", ""),
	 "needs a human, now"},
};

START_TEST(waits_for_the_end)
{
	char *stream = xasprintf(
		"%s{\"heartbeat\":true}\n%s\"kind\":\"state\",\"state\":\"%s\",\"text\":"
		"\"the end\"}\n",
		EVENT(1, "state", "gates", "gates: begin"), "{\"seq\":2,", ends[_i].state);
	struct canned rows[] = {
		{"POST ", BEGUN, 202, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("gates", "gates", ""), 0, 0, 2},
		{"GET /v1/deployments/" ID, ends[_i].document, 0, 0, 0},
		{"GET /v1/events?after=0&follow=1&deployment=" ID, stream, 0, STREAM, 0},
		{"GET /v1/events?after=2&deployment=" ID, EVENT(3, "alert", "x", "the very last"),
		 0, ANSWER, 0},
		{"GET /v1/events?after=", "", 0, STREAM_END, 0},
		{0}};

	fake_says(rows);
	ck_exit(&ran, ends[_i].deploy, "deploy --env production --tag v1.1.0");
	ck_says(&ran, "12:00:01            gates: begin\n");
	ck_says(&ran, "the end\n");
	ck_says(&ran, "the very last\n");
	ck_says(&ran, ends[_i].says);
	ck_not(&ran, "heartbeat");
	fake_says(rows);
	ck_exit(&ran, ends[_i].rollback, "rollback --env production --yes --reason why");
	fake_says(rows);
	ck_exit(&ran, ends[_i].deploy, "deploy --env production --tag v1.1.0 --json");
	ck_assert_int_eq(ran.text[0], '{');
	ck_not(&ran, "the end");
	ck_says(&ran, "\"previous_tag\": \"v1.0.0\"");
	free(stream);
}
END_TEST

#define LONG_TEXT                                                                                  \
	"error rate 19.7% (at least 15%, 108 of 549 requests): over the limit of 10% for 5.5s; "   \
	"fires in 2min 10s unless it falls under 10%"

/* On a terminal a long event is wrapped under its text; for programs it stays one line. */
START_TEST(long_events)
{
	static char term[] = "TERM=xterm", plain[] = "NO_COLOR=1",
		    *environment[] = {term, plain, NULL};
	struct canned rows[] = {
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 1},
		{"GET /v1/deployments/" ID, DEPLOYMENT("succeeded", "succeeded", ""), 0, 0, 0},
		{"GET /v1/events", EVENT(1, "verdict", "watching", LONG_TEXT), 0, ANSWER, 0},
		{0}};

	fake_says(rows);
	client_start(&ran, true, environment, "watch " ID);
	ck_assert_int_eq(client_end(&ran), 0);
	ck_says(&ran, "\n                    ");
	ck_not(&ran, LONG_TEXT);
	fake_says(rows);
	ck_exit(&ran, 0, "watch " ID);
	ck_says(&ran, LONG_TEXT "\n");
}
END_TEST

START_TEST(timeout_detaches)
{
	fake_says((struct canned[]){
		{"POST /v1/deployments", BEGUN, 202, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("gates", "gates", ""), 0, 0, 0},
		{"GET /v1/events", EVENT(1, "state", "gates", "gates: begin"), 0, STREAM, 0},
		{0}});
	ck_exit(&ran, 8, "deploy --env production --tag v1.1.0 --timeout 200ms");
	ck_says(&ran, "gates: begin");
	ck_says(&ran, "the deployment goes on: dhash watch " ID);
}
END_TEST

START_TEST(interrupt_detaches)
{
	fake_says((struct canned[]){
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 0},
		{"GET /v1/status", STATUS(ENVIRONMENT("suspect", "", WATCHING)), 0, 0, 0},
		{"GET /v1/events", EVENT(1, "state", "gates", "gates: begin"), 0, STREAM, 0},
		{0}});
	for (int terminal = 0; terminal < 2; terminal++) {
		char *const environment[] = {(char *)"TERM=xterm", NULL};

		client_start(&ran, terminal, environment, "watch " ID);
		ck_assert(client_says(&ran,
				      terminal ? "watching: critical, 12min 30s left: SUSPECT, next"
					       : "gates: begin"));
		kill(ran.pid, SIGINT);
		ck_assert_int_eq(client_end(&ran), 8);
		ck_says(&ran, "detached; the deployment goes on: dhash watch " ID);
		if (terminal)
			ck_says(&ran, "\r\033[K");
		else
			ck_not(&ran, "\033");
	}
}
END_TEST

START_TEST(rides_out_a_restart)
{
	fake_says((struct canned[]){
		{"POST /v1/deployments", BEGUN, 202, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 1},
		{"GET /v1/events?after=0&follow=1", EVENT(1, "phase", "watching", "phase critical"),
		 0, STREAM_END, 0},
		{"GET /v1/deployments/" ID, NULL, 0, ABRUPT, 2},
		{"GET /v1/deployments/" ID,
		 "{\"error\":{\"kind\":\"overloaded\",\"message\":\"too many connections\"}}", 503,
		 0, 1},
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 1},
		{"GET /v1/deployments/" ID, DEPLOYMENT("succeeded", "succeeded", ""), 0, 0, 0},
		{"GET /v1/events?after=1&follow=1",
		 EVENT(1, "phase", "watching", "seen before")
			 EVENT(2, "state", "succeeded", "succeeded: all well"),
		 0, STREAM, 0},
		{"GET /v1/events?after=2", "", 0, ANSWER, 0},
		{0}});
	client_start(&ran, false, NULL, "deploy --env production --tag v1.1.0");
	ck_assert(client_says(&ran, "dhashd went away; waiting for it to come back"));
	ck_assert_int_eq(client_end(&ran), 0);
	ck_says(&ran, "dhashd is back");
	ck_says(&ran, "succeeded: all well");
	ck_not(&ran, "seen before");
}
END_TEST

START_TEST(rides_out_a_missing_socket)
{
	fake_says((struct canned[]){
		{"POST /v1/deployments", BEGUN, 202, 0, 0},
		{"GET /v1/deployments/" ID, DEPLOYMENT("watching", "watching", ""), 0, 0, 1},
		{"GET /v1/deployments/" ID, DEPLOYMENT("succeeded", "succeeded", ""), 0, 0, 0},
		{"GET /v1/events?after=0&follow=1", EVENT(1, "phase", "watching", "phase critical"),
		 0, MIDDLE, 0},
		{"GET /v1/events", "", 0, ANSWER, 0},
		{0}});
	unlink(fake.path);
	client_start(&ran, false, NULL, "watch " ID);
	ck_assert_int_eq(client_end(&ran), 69);
	fake_die();
	fake_listen();
	client_start(&ran, false, NULL, "deploy --env production --tag v1.1.0");
	ck_assert_int_eq(client_end(&ran), 0);
}
END_TEST

START_TEST(watch_from_now_on)
{
	fake_says((struct canned[]){
		{"GET /v1/events?after=0&limit=1", EVENT(1, "state", "x", "old"), 0, 0, 0},
		{"GET /v1/events?after=1&limit=1", EVENT(2, "state", "x", "old"), 0, 0, 0},
		{"GET /v1/events?after=2&limit=1", EVENT(3, "state", "x", "old"), 0, 0, 0},
		{"GET /v1/events?after=3&follow=1",
		 EVENT(4, "state", "x",
		       "new \\u001b]0;title") "{\"seq\":5,\"service\":\"dhash\",\"environment\":"
					      "\"staging\",\"text\":\"elsewhere\"}\n",
		 0, STREAM, 0},
		{"GET /v1/events?after=", "", 0, STREAM_END, 0},
		{"GET /v1/status?environment=production",
		 STATUS(ENVIRONMENT("healthy", "", DEPLOYMENT("succeeded", "succeeded", ""))), 0, 0,
		 0},
		{"GET /v1/status ", STATUS(""), 0, 0, 0},
		{0}});
	ck_exit(&ran, 4, "watch --service nowhere");
	ck_not(&ran, "waiting");
	client_start(&ran, false, NULL, "watch");
	ck_assert(client_says(&ran, "elsewhere"));
	ck_says(&ran, "dhash/production            new \\x1b]0;title");
	ck_not(&ran, "old");
	kill(ran.pid, SIGINT);
	ck_assert_int_eq(client_end(&ran), 0);
	ck_exit(&ran, 8, "watch --env production --timeout 300ms");
	ck_says(&ran, "new");
	ck_not(&ran, "elsewhere");
	ck_exit(&ran, 8, "watch --json --timeout 300ms");
	ck_says(&ran, "{\"seq\":4,");
	ck_not(&ran, "heartbeat");
	ck_exit(&ran, 2, "watch " ID " --env production");
}
END_TEST

START_TEST(usage)
{
	static const struct {
		const char *words, *says;
	} wrong[] = {
		{"stauts", "did you mean status?"},
		{"deploy --evn production --tag v1", "did you mean --env?"},
		{"deploy --env production --tag ../../etc", "is no release tag"},
		{"deploy --env production", "deploy needs --tag TAG"},
		{"deploy --env production --tag v1 --force", "--reason"},
		{"rollback --env a --to v1 --backup f --yes", "exclude each other"},
		{"abort", "needs a deployment's id"},
		{"abort x --env y", "needs a deployment's id"},
		{"status \"a b\"", "is no name"},
		{"\"sta\033[2Jtus\"", "\\x1b"},
		{"history --limit 0", "is no number from 1 on"},
		{"deploy --env production --tag v1 --lead=", "--lead is empty: it needs NAME"},
		{"deploy --env production", "dhash help deploy lists its options"},
		{"", "which command?"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		ck_exit(&ran, 2, wrong[i].words);
		ck_says(&ran, wrong[i].says);
	}
	/* Programs get a document for what the client itself refuses. */
	ck_exit(&ran, 2, "deploy --json --env production");
	ck_assert_int_eq(strncmp(ran.text, "{\"error\": {\"kind\": \"client\"", 27), 0);
	ck_says(&ran, "}}\ndhash: deploy needs --tag TAG\n");
	ck_exit(&ran, 2, "abort --json");
	ck_assert_int_eq(strncmp(ran.text, "{\"error\": {\"kind\": \"client\"", 27), 0);
	ck_assert_str_eq(fake.seen, "");
	ck_exit(&ran, 0, "--help");
	ck_says(&ran, "rollback");
	ck_exit(&ran, 0, "help deploy");
	ck_says(&ran, "--dry-run");
	ck_exit(&ran, 0, "deploy -h");
	ck_says(&ran, "usage: dhash deploy --env ENVIRONMENT --tag TAG");
	ck_exit(&ran, 2, "help dploy");
	ck_says(&ran, "did you mean deploy?");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client/commands");
	TCase *t = tcase_create("commands");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, fake_start, fake_stop);
	tcase_add_test(t, status_at_a_glance);
	tcase_add_loop_test(t, status_says_why, 0, ARRAY_SIZE(reasons));
	tcase_add_loop_test(t, status_codes, 0, ARRAY_SIZE(statuses));
	tcase_add_test(t, status_of_an_unknown_environment);
	tcase_add_test(t, colours);
	tcase_add_test(t, explain);
	tcase_add_test(t, history_and_show);
	tcase_add_test(t, backups);
	tcase_add_test(t, lists_of_what_does_not_exist);
	tcase_add_test(t, configuration_and_version);
	tcase_add_loop_test(t, waits_for_the_end, 0, ARRAY_SIZE(ends));
	tcase_add_test(t, long_events);
	tcase_add_test(t, timeout_detaches);
	tcase_add_test(t, interrupt_detaches);
	tcase_add_test(t, rides_out_a_restart);
	tcase_add_test(t, rides_out_a_missing_socket);
	tcase_add_test(t, watch_from_now_on);
	tcase_add_test(t, usage);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
