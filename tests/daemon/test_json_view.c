/* SPDX-License-Identifier: Apache-2.0 */
/* The documents have the shape that dhash-protocol(7) promises, whatever stands in the structs. */

#include <check.h>
#include <limits.h>
#include <math.h>

#include "common/util.h"
#include "daemon/json_view.h"
#include "daemon/store.h"

/* Compact text of a document, its keys in order; frees the document. */
static void
assert_json(json_t *o, const char *expected)
{
	char *got;

	ck_assert_ptr_nonnull(o);
	got = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	ck_assert_str_eq(got, expected);
	free(got);
	json_decref(o);
}

START_TEST(parts)
{
	assert_json(view_time(0), "null");
	assert_json(view_time(1704110400 * USEC_PER_SEC + 1500), "\"2024-01-01T12:00:00.001Z\"");
	assert_json(view_number(NAN), "null");
	assert_json(view_number(-INFINITY), "null");
	assert_json(view_number(0.5), "0.5");
	assert_json(view_text("plain"), "\"plain\"");
	assert_json(view_text("no \xff UTF-8"), "\"no \\\\xff UTF-8\"");
}
END_TEST

START_TEST(fresh_deployment)
{
	struct deployment d = {.id = "deploy-1",
			       .service = "shop",
			       .environment = "production",
			       .tag = "v1",
			       .state = DS_RB_SAVING,
			       .actor_uid = UINT_MAX,
			       .created_at = 77,
			       .created_wall = 1704110400 * USEC_PER_SEC};

	assert_json(
		deployment_to_json(&d),
		"{\"actor_uid\":4294967295,\"auto_rollbacks\":0,\"backup\":\"\",\"backup_"
		"sha256\":\"\",\"created_at\":\"2024-01-01T12:00:00.000Z\",\"decided_at\":null,"
		"\"deployed_at\":null,\"ended_at\":null,\"entered_at\":null,\"environment\":"
		"\"production\",\"forced\":false,\"id\":\"deploy-1\",\"label\":\"rolling-back\","
		"\"lead\":\"\",\"live\":true,\"outcome\":\"\",\"previous_tag\":\"\",\"reason\":"
		"\"\",\"restored_at\":null,\"rollback_auto\":false,\"rollback_reason\":\"\","
		"\"rollbacks\":0,\"service\":\"shop\",\"state\":\"rolling-back.saving\",\"t0_"
		"at\":null,\"tag\":\"v1\",\"target\":\"\",\"target_verified\":false}");
}
END_TEST

/* Core time is shown as the wall time that it was, by the pair at creation. */
START_TEST(deployment_times)
{
	struct deployment d = {.state = DS_SUCCEEDED,
			       .created_at = 1000 * USEC_PER_SEC,
			       .created_wall = 1704110400 * USEC_PER_SEC,
			       .deployed_at = 1060 * USEC_PER_SEC,
			       .t0 = 1120 * USEC_PER_SEC,
			       .ended_wall = 1704114000 * USEC_PER_SEC};
	json_t *o = deployment_to_json(&d);

	assert_json(json_incref(json_object_get(o, "deployed_at")), "\"2024-01-01T12:01:00.000Z\"");
	assert_json(json_incref(json_object_get(o, "t0_at")), "\"2024-01-01T12:02:00.000Z\"");
	assert_json(json_incref(json_object_get(o, "ended_at")), "\"2024-01-01T13:00:00.000Z\"");
	assert_json(json_incref(json_object_get(o, "live")), "false");
	json_decref(o);
}
END_TEST

START_TEST(samples)
{
	struct sample health = {.kind = SAMPLE_HEALTH,
				.wall = 1704110400 * USEC_PER_SEC,
				.result = RESULT_BAD,
				.took = 1999,
				.detail = "HTTP 503"};
	struct sample metrics = {
		.kind = SAMPLE_METRICS,
		.result = RESULT_OK,
		.rate = {.result = RESULT_OK,
			 .span = 30 * USEC_PER_SEC,
			 .bad = 1,
			 .total = 4,
			 .value = 0.25},
		.latency = {.result = RESULT_NO_DATA, .gauge = true, .value = NAN}};

	assert_json(sample_to_json(&health),
		    "{\"at\":\"2024-01-01T12:00:00.000Z\",\"detail\":\"HTTP 503\",\"kind\":"
		    "\"health\",\"latency\":null,\"rate\":null,\"result\":\"bad\",\"took_ms\":1}");
	assert_json(
		sample_to_json(&metrics),
		"{\"at\":null,\"detail\":\"\",\"kind\":\"metrics\",\"latency\":{\"bad\":0.0,"
		"\"bad_warn\":0.0,\"gauge\":true,\"result\":\"no-data\",\"span_ms\":0,\"total\":"
		"0.0,\"value\":null},\"rate\":{\"bad\":1.0,\"bad_warn\":0.0,\"gauge\":false,"
		"\"result\":\"ok\",\"span_ms\":30000,\"total\":4.0,\"value\":0.25},\"result\":"
		"\"ok\",\"took_ms\":0}");
}
END_TEST

START_TEST(decisions)
{
	struct decision ruled = {.kind = DECISION_WOULD_ROLL_BACK,
				 .at = 900 * USEC_PER_SEC,
				 .automatic = true,
				 .evidence = {.rule = RULE_HEALTH,
					      .limit = INFINITY,
					      .hold = USEC_PER_SEC,
					      .failures = UINT_MAX,
					      .value = NAN,
					      .lower = NAN,
					      .upper = NAN,
					      .since = 890 * USEC_PER_SEC,
					      .lasted = 8 * USEC_PER_SEC,
					      .text = "why"},
				 .text = "what"};
	struct decision manual = {
		.kind = DECISION_HOLD, .actor_uid = 1000, .evidence = {.rule = _RULE_MAX}};
	json_t *o;

	assert_json(decision_to_json(&ruled),
		    "{\"actor_uid\":0,\"at\":null,\"automatic\":true,\"evidence\":{\"bad\":0.0,"
		    "\"failures\":4294967295,\"failures_limit\":0,\"hold_ms\":1000,\"lasted_ms\":"
		    "8000,\"limit\":null,\"lower\":null,\"requests\":0.0,\"rule\":\"health\","
		    "\"samples\":0,\"since_ms\":10000,\"text\":\"why\",\"upper\":null,\"value\":"
		    "null},\"kind\":\"would-roll-back\",\"rule\":\"health\",\"text\":\"what\"}");
	assert_json(decision_to_json(&manual),
		    "{\"actor_uid\":1000,\"at\":null,\"automatic\":false,\"evidence\":null,"
		    "\"kind\":\"hold\",\"rule\":null,\"text\":\"\"}");
	ruled.evidence.since = 0;
	o = decision_to_json(&ruled);
	ck_assert(json_is_null(json_object_get(json_object_get(o, "evidence"), "since_ms")));
	json_decref(o);
}
END_TEST

START_TEST(alerts_and_backups)
{
	struct alert a = {.cause = CAUSE_HEALTH,
			  .level = LEVEL_WARNING,
			  .raised_wall = 1704110400 * USEC_PER_SEC,
			  .text = "one failed round"};
	struct backup_row b = {.path = "/b/1.zip",
			       .sha256 = "ab",
			       .service = "shop",
			       .environment = "production",
			       .deployment = "deploy-1",
			       .tag = "v1",
			       .emergency = true,
			       .bytes = INT64_MAX,
			       .created_wall = 1704110400 * USEC_PER_SEC};

	assert_json(
		alert_to_json(&a),
		"{\"cause\":\"health\",\"level\":\"warning\",\"raised_at\":\"2024-01-01T12:00:00."
		"000Z\",\"resolved_at\":null,\"text\":\"one failed round\"}");
	assert_json(
		backup_to_json(&b),
		"{\"bytes\":9223372036854775807,\"corrupt\":false,\"created_at\":\"2024-01-01T12:"
		"00:00.000Z\",\"deployment\":\"deploy-1\",\"emergency\":true,\"environment\":"
		"\"production\",\"path\":\"/b/1.zip\",\"service\":\"shop\",\"sha256\":\"ab\","
		"\"tag\":\"v1\",\"verified_at\":null}");
}
END_TEST

/* One bad byte anywhere must not take a document away. */
START_TEST(bytes_that_are_no_text)
{
	struct deployment d = {.reason = "\xc3", .outcome = "\xed\xa0\x80", .tag = "\xff"};
	struct sample s = {.detail = "\x80"};
	struct evidence e = {.text = "\xfe"};
	struct alert a = {.level = LEVEL_WARNING, .text = "\xf8"};
	json_t *v[] = {deployment_to_json(&d), sample_to_json(&s), evidence_to_json(&e),
		       alert_to_json(&a)};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		ck_assert(json_is_object(v[i]));
		json_decref(v[i]);
	}
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		parts,     fresh_deployment,   deployment_times,       samples,
		decisions, alerts_and_backups, bytes_that_are_no_text,
	};
	Suite *suite = suite_create("json-view");
	TCase *tc = tcase_create("json-view");
	SRunner *runner;
	int failed;

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
