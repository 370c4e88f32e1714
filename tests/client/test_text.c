/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, times, the sentences of status, exit codes. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>

#include "client/api.h"
#include "client/client.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/status.h"
#include "client/text.h"
#include "common/util.h"

static char buf[TEXT_MAX];

START_TEST(numbers)
{
	ck_assert_str_eq(text_percent(buf, 0.124), "12.4%");
	ck_assert_str_eq(text_percent(buf, 0.1), "10%");
	ck_assert_str_eq(text_percent(buf, 0), "0%");
	ck_assert_str_eq(text_percent(buf, 0.9996), "100%");
	ck_assert_str_eq(text_percent(buf, 0.0004), "0%");
	ck_assert_str_eq(text_percent(buf, NAN), "unknown");
	ck_assert_str_eq(text_seconds(buf, 0.82), "820ms");
	ck_assert_str_eq(text_seconds(buf, 5), "5s");
	ck_assert_str_eq(text_seconds(buf, INFINITY), "unknown");
	ck_assert_str_eq(text_count(buf, 0), "0");
	ck_assert_str_eq(text_count(buf, 999), "999");
	ck_assert_str_eq(text_count(buf, 1240), "1,240");
	ck_assert_str_eq(text_count(buf, 1234567), "1,234,567");
	ck_assert_str_eq(text_count(buf, -1), "unknown");
	ck_assert_str_eq(text_count(buf, 1e300), "unknown");
	ck_assert_str_eq(text_bytes(buf, 1023), "1023 B");
	ck_assert_str_eq(text_bytes(buf, 1536), "1.5 KiB");
	ck_assert_str_eq(text_bytes(buf, 4404019), "4.2 MiB");
	ck_assert_str_eq(text_bytes(buf, NAN), "-");
	ck_assert_str_eq(text_ms(buf, 750000), "12min 30s");
	ck_assert_str_eq(text_ms(buf, -5), "0s");
	ck_assert_int_gt(strlen(text_ms(buf, INT64_MAX)), 0);
}
END_TEST

START_TEST(moments)
{
	static const struct {
		const char *text;
		usec_t wall; /* of 2024-01-02T00:00:00Z; -1 = refused */
	} cases[] = {
		{"2024-01-01", 1704067200000000},
		{"2024-01-01 12:00", 1704110400000000},
		{"2024-01-01 12:00:05", 1704110405000000},
		{"2024-01-01T12:00:05.250Z", 1704110405250000},
		{"1d", 1704067200000000},
		{"30min ago", 1704151800000000},
		{"100y", 0},
		{"2024-02-30", -1},
		{"2024-01-01 25:00", -1},
		{"2024-01-01 12:00 x", -1},
		{"2024-01-01T12:00", -1},
		{"ago", -1},
		{" ago", -1},
		{"soon", -1},
		{"", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t wall = -1;
		int r = text_parse_moment(cases[i].text, 1704153600000000, &wall);

		ck_assert_msg((r == 0) == (cases[i].wall >= 0) && wall == cases[i].wall,
			      "%s: %d, %lld", cases[i].text, r, (long long)wall);
	}
}
END_TEST

START_TEST(times)
{
	static const char *const wrong[] = {"",
					    "2024-01-01",
					    "2024-01-01T12:00:00",
					    "x",
					    "2024-01-01T12:00:00.5",
					    "2024-01-01T12:00:00.000Zjunk",
					    "2024-01-40T12:00:00.000Z",
					    "2024-99-01T12:00:00.000Z",
					    "2024-01-01T12:-1:00.000Z",
					    "2024-01-01T12:00:00.-5Z"};
	usec_t wall, now;

	ck_assert_int_eq(text_parse_time("2024-01-01T12:00:05.250Z", &wall), 0);
	ck_assert_int_eq(wall, 1704110405250000);
	ck_assert_int_eq(text_parse_time("1970-01-01T00:00:00Z", &wall), 0);
	ck_assert_int_eq(wall, 0);
	ck_assert_int_eq(text_parse_time(NULL, &wall), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_int_eq(text_parse_time(wrong[i], &wall), -EINVAL);
	now = 1704110417900000;
	ck_assert_str_eq(text_since(buf, "2024-01-01T12:00:05.250Z", now), "12s");
	ck_assert_str_eq(text_since(buf, "2024-01-01T13:00:05.250Z", now), "0s");
	ck_assert_str_eq(text_since(buf, NULL, now), "?");
	ck_assert_str_eq(text_clock(buf, "2024-01-01T12:00:05.250Z"), "12:00:05");
	ck_assert_str_eq(text_date(buf, "2024-01-01T12:00:05.250Z"), "2024-01-01 12:00:05");
	ck_assert_str_eq(text_date(buf, "never"), "-");
	ck_assert_str_eq(text_between(buf, "2024-01-01T12:00:00.000Z", "2024-01-01T12:16:40.000Z"),
			 "16min 40s");
	ck_assert_str_eq(text_between(buf, "2024-01-01T12:00:00.000Z", NULL), "-");
	ck_assert_uint_eq(text_columns("é…x"), 3);
}
END_TEST

/* --- rules --- */

static const struct {
	const char *json, *text;
} rules[] = {
	{"{'rule':'health','verdict':'healthy','evidence':{'failures':0,'failures_limit':3}}",
	 "3 bad rounds in a row roll back"},
	{"{'rule':'health','verdict':'suspect','evidence':{'failures':2,'failures_limit':3}}",
	 "2 of 3 bad rounds in a row"},
	{"{'rule':'error-rate','verdict':'healthy','evidence':{'rule':'error-rate','limit':0.1,"
	 "'hold_ms':300000,'value':0.021,'requests':1240,'since_ms':null,'lasted_ms':0}}",
	 "2.1% of 1,240 requests (limit 10% for 5min)"},
	{"{'rule':'latency-p95','verdict':'suspect','evidence':{'rule':'latency-p95','limit':5,"
	 "'hold_ms':600000,'value':7.5,'requests':40,'since_ms':1,'lasted_ms':540000}}",
	 "7.5s of 40 requests (limit 5s for 10min), over for 9min; fires in 1min unless under 5s"},
	{"{'rule':'error-rate','verdict':'suspect','evidence':{'rule':'error-rate','limit':0.1,"
	 "'hold_ms':300000,'value':0.12,'requests':50,'since_ms':1,'lasted_ms':300000}}",
	 "12% of 50 requests (limit 10% for 5min), over for 5min; not proven yet"},
	{"{'rule':'error-rate','verdict':'breached','mode':'enforce','evidence':{'limit':0.1,"
	 "'hold_ms':300000,'value':0.2,'requests':50,'since_ms':1,'lasted_ms':300000}}",
	 "20% of 50 requests (limit 10% for 5min), over for 5min; fired"},
	{"{'rule':'error-rate','verdict':'breached','mode':'observe','evidence':{'limit':0.1,"
	 "'hold_ms':1000,'value':null,'requests':null,'since_ms':null}}",
	 "unknown (limit 10% for 1s); would roll back"},
	{"{'rule':'error-rate','verdict':'blind','evidence':{'text':'blind: 11 requests in 5min, "
	 "40 "
	 "needed'}}",
	 "blind: 11 requests in 5min, 40 needed"},
	{"{'rule':'infrastructure','evidence':{'text':'no alert'}}", "no alert"},
	{"{'rule':'error-rate'}", "-"},
};

static json_t *
parse(const char *single_quoted)
{
	char *text = xstrdup(single_quoted);
	json_t *json;

	for (char *p = text; (p = strchr(p, '\'')); p++)
		*p = '"';
	json = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(json);
	free(text);
	return json;
}

START_TEST(rule_sentences)
{
	json_t *rule = parse(rules[_i].json);
	char text[HEADLINE_MAX];

	ck_assert_str_eq(status_rule(text, rule), rules[_i].text);
	json_decref(rule);
}
END_TEST

static const struct {
	const char *json, *text;
} phrases[] = {
	{"{'deployment':null}", "nothing deployed yet"},
	{"{'deployment':{'state':'watching','label':'watching','tag':'v2'},'release':'v2','phase':"
	 "{'name':'stability','left_ms':90000}}",
	 "watching: stability, 1min 30s left"},
	{"{'deployment':{'state':'rolling-back.saving','label':'rolling-back','tag':'v2','entered_"
	 "at':"
	 "'2024-01-01T12:00:00.000Z'},'release':'v1'}",
	 "rolling-back v2, for 10s"},
	{"{'deployment':{'state':'settling','label':'settling','tag':'v2','entered_at':"
	 "'2024-01-01T12:00:00.000Z'},'release':'v2'}",
	 "settling, for 10s"},
	{"{'deployment':{'state':'rollback-failed','tag':'v2','ended_at':'2024-01-01T12:00:05.000Z'"
	 "}}",
	 "rollback of v2 failed 5s ago"},
	{"{'deployment':{'state':'rollback-failed','tag':'v2','ended_at':'2024-01-01T12:00:05.000Z'"
	 "},'phase':{'name':'recovery','left_ms':null}}",
	 "rollback of v2 failed 5s ago; recovery, until it is back"},
	{"{'deployment':{'state':'rolled-back','tag':'v2','ended_at':'2024-01-01T12:00:05.000Z'},"
	 "'phase':{'name':'post-rollback','left_ms':90000}}",
	 "v2 rolled back 5s ago; post-rollback, 1min 30s left"},
	{"{'deployment':{'state':'rejected','tag':'v2','ended_at':null}}", "v2 was rejected ? ago"},
	{"{'deployment':{'state':'%s%n','label':'%s%n','tag':'%s%n'}}", "%s%n %s%n, for ?"},
};

START_TEST(state_phrases)
{
	json_t *env = parse(phrases[_i].json);
	char text[HEADLINE_MAX];

	ck_assert_str_eq(status_phrase(text, env, 1704110410000000), phrases[_i].text);
	json_decref(env);
}
END_TEST

START_TEST(long_texts_are_cut)
{
	char text[HEADLINE_MAX], *tag = xmalloc(5000);
	json_t *env;

	memset(tag, 'x', 4999);
	tag[4999] = '\0';
	env = json_pack("{s:{s:s, s:s}}", "deployment", "state", "failed", "tag", tag);
	ck_assert_uint_eq(strlen(status_phrase(text, env, 0)), HEADLINE_MAX - 1);
	json_decref(env);
	free(tag);
}
END_TEST

/* --- exit codes --- */

START_TEST(exit_codes_of_errors)
{
	static const struct {
		const char *kind;
		long status;
		int code;
	} errors[] = {
		{"bad-request", 400, 2},
		{"denied", 403, 77},
		{"not-found", 404, 4},
		{"busy", 409, 1},
		{"refused", 409, 1},
		{"too-large", 413, 1},
		{"timeout", 408, 69},
		{"overloaded", 503, 69},
		{"internal", 500, 1},
		{"read-only", 503, 1},
		{"method-not-allowed", 405, 1},
		{"of-the-future", 404, 4},
		{"of-the-future", 418, 1},
		{NULL, 403, 77},
	};
	struct failure f = {0};

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		ck_assert_int_eq(api_exit_code(errors[i].kind, errors[i].status), errors[i].code);
	failure_from_errno(&f, "/s", -EACCES);
	ck_assert_int_eq(f.exit, EXIT_DENIED);
	ck_assert(!f.away);
	failure_done(&f);
	failure_from_errno(&f, "/\xff", -ENOENT); /* not UTF-8 */
	ck_assert_int_eq(f.exit, EXIT_UNREACHABLE);
	ck_assert(f.away);
	ck_assert_str_eq(failure_kind(&f), "unreachable");
	failure_done(&f);
}
END_TEST

/* Every kind of error of dhash-protocol(7), with its status, is one that the client knows. */
START_TEST(kinds_of_the_protocol)
{
	static const struct {
		const char *kind;
		long status;
		int code;
	} kinds[] = {
		{"bad-request", 400, EXIT_USAGE},   {"denied", 403, EXIT_DENIED},
		{"not-found", 404, EXIT_UNKNOWN},   {"method-not-allowed", 405, EXIT_FAILED},
		{"timeout", 408, EXIT_UNREACHABLE}, {"busy", 409, EXIT_FAILED},
		{"refused", 409, EXIT_FAILED},      {"too-large", 413, EXIT_FAILED},
		{"internal", 500, EXIT_FAILED},     {"overloaded", 503, EXIT_UNREACHABLE},
		{"read-only", 503, EXIT_FAILED},    {"stopping", 503, EXIT_UNREACHABLE},
	};
	size_t len, n = 0;
	char *page, *item;

	ck_assert_int_eq(file_read(AT_FDCWD, "man/dhash-protocol.7", 1 << 20, &page, &len), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		item = xasprintf("\n.It Sy %s\n%ld: ", kinds[i].kind, kinds[i].status);
		ck_assert_msg(strstr(page, item) != NULL, "dhash-protocol(7) has no %s of %ld",
			      kinds[i].kind, kinds[i].status);
		/* By the kind, whatever the status. */
		ck_assert_int_eq(api_exit_code(kinds[i].kind, 0), kinds[i].code);
		free(item);
	}
	for (const char *p = page; (p = strstr(p, "\n.It Sy ")); p++)
		n++;
	ck_assert_uint_eq(n, ARRAY_SIZE(kinds));
	free(page);
}
END_TEST

START_TEST(exit_codes_of_states)
{
	ck_assert_int_eq(follow_exit_code("succeeded", 5), 0);
	ck_assert_int_eq(follow_exit_code("rolled-back", 5), 5);
	ck_assert_int_eq(follow_exit_code("rolled-back", 0), 0);
	ck_assert_int_eq(follow_exit_code("rollback-failed", 5), 1);
	ck_assert_int_eq(follow_exit_code("watching", 5), -1);
	ck_assert_int_eq(follow_exit_code("rolling-back.running", 5), -1);
	ck_assert_int_eq(follow_exit_code("verifying", 5), -1);
}
END_TEST

START_TEST(paths)
{
	static const struct {
		const char *service, *env, *path;
	} wanted[] = {
		{NULL, NULL, "/v1/x"},
		{"a", NULL, "/v1/x?service=a"},
		{NULL, "b", "/v1/x?environment=b"},
		{"a", "b", "/v1/x?service=a&environment=b"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		char *path = api_path("/v1/x", wanted[i].service, wanted[i].env);

		ck_assert_str_eq(path, wanted[i].path);
		free(path);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client/text");
	TCase *t = tcase_create("text");
	SRunner *sr;
	int failed;

	tcase_add_test(t, numbers);
	tcase_add_test(t, times);
	tcase_add_test(t, moments);
	tcase_add_loop_test(t, rule_sentences, 0, ARRAY_SIZE(rules));
	tcase_add_loop_test(t, state_phrases, 0, ARRAY_SIZE(phrases));
	tcase_add_test(t, long_texts_are_cut);
	tcase_add_test(t, exit_codes_of_errors);
	tcase_add_test(t, kinds_of_the_protocol);
	tcase_add_test(t, exit_codes_of_states);
	tcase_add_test(t, paths);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
