/* SPDX-License-Identifier: Apache-2.0 */
/* incident-report.md: the guide's headings, and nothing in it that did not happen. */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "daemon/session.h"

static const char deployment[] =
	"{'id': 'deploy-20240101-120000', 'service': 'shop', 'environment': 'production',"
	" 'tag': 'v1.1.0', 'previous_tag': 'v1.0.0', 'lead': 'alice', 'state': 'rolled-back',"
	" 'outcome': 'rolled back to v1.0.0', 'target': '/b/shop.zip', 'target_verified': true,"
	" 'rollback_reason': 'error rate 20 % for 5min',"
	" 'created_at': '2024-01-01T12:00:00.000Z', 'deployed_at': '2024-01-01T12:00:10.000Z',"
	" 't0_at': '2024-01-01T12:01:00.000Z', 'decided_at': '2024-01-01T12:08:00.000Z',"
	" 'ended_at': '2024-01-01T12:09:00.000Z', 'restored_at': '2024-01-01T12:08:30.500Z',"
	" 'alerts': [{'raised_at': '2024-01-01T12:03:00.000Z', 'level': 'warning',"
	"             'cause': 'error-rate', 'text': 'error rate 12 %'}],"
	" 'decisions': [{'at': '2024-01-01T12:08:00.000Z', 'kind': 'rollback',"
	"                'automatic': true, 'text': 'rolling back to v1.0.0',"
	"                'evidence': {'text': '80 of 400 requests failed'}}],"
	" 'samples': [{'rate': {'bad': 30, 'total': 150}}, {'rate': null},"
	"             {'rate': {'bad': 50, 'total': 250}}]}";

static json_t *
parse(void)
{
	char *text = xstrdup(deployment);
	json_t *d;

	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	d = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(d);
	free(text);
	return d;
}

static void
assert_says(const char *report, const char *part)
{
	ck_assert_msg(strstr(report, part) != NULL, "no <%s> in:\n%s", part, report);
}

static void
assert_in_order(const char *report, const char *const *parts)
{
	for (const char *p = report; *parts; parts++) {
		p = strstr(p, *parts);
		ck_assert_msg(p != NULL, "no <%s>, or not in its place, in:\n%s", *parts, report);
	}
}

START_TEST(the_guides_headings)
{
	static const char *const parts[] = {
		"# Incident Report: Rollback 2024-01-01T12:08:00.000Z\n",
		"\n## Summary\n",
		"- **Service:** shop\n",
		"- **Environment:** production\n",
		"- **Release Tag:** v1.1.0\n",
		"- **Previous Release:** v1.0.0\n",
		"- **Rollback Time:** 2024-01-01T12:08:30.500Z\n",
		"- **Operator:** alice\n",
		"- **Outcome:** rolled-back (rolled back to v1.0.0)\n",
		"- **Restored from:** /b/shop.zip\n",
		"\n## Timeline\n",
		"- Deployment started: 2024-01-01T12:00:10.000Z\n",
		"- Issue detected: 2024-01-01T12:03:00.000Z\n",
		"- Rollback initiated: 2024-01-01T12:08:00.000Z\n",
		"- Rollback completed: 2024-01-01T12:09:00.000Z\n",
		"- Service restored: 2024-01-01T12:08:30.500Z\n",
		"\n## Trigger\n- error rate 20 % for 5min\n",
		"\n## Decisions\n",
		"rollback (automatic): rolling back to v1.0.0\n",
		"  - evidence: 80 of 400 requests failed\n",
		"\n## Alerts\n- 2024-01-01T12:03:00.000Z warning error-rate: error rate 12 %\n",
		"\n## Root Cause\n[To be filled by engineering team]\n",
		"\n## Impact\n",
		"- Duration: 5min 30s\n",
		"- Requests that failed in the samples kept: 80 of 400\n",
		"- Services impacted: shop (production)\n",
		"\n## Action Items\n- [ ] Root cause analysis\n",
		NULL};
	json_t *d = parse();
	char *report = incident_report(d);

	assert_in_order(report, parts);
	free(report);
	json_decref(d);
}
END_TEST

START_TEST(a_rollback_that_failed)
{
	json_t *d = parse();
	char *report;

	json_object_set_new(d, "state", json_string("rollback-failed"));
	json_object_set_new(d, "restored_at", json_null());
	json_object_set_new(d, "target_verified", json_false());
	report = incident_report(d);
	ck_assert_ptr_null(strstr(report, "Rollback completed"));
	assert_says(report, "- Rollback FAILED: 2024-01-01T12:09:00.000Z\n");
	assert_says(report, "- Service restored: did not happen\n");
	assert_says(report, "- Duration: not restored when this was written\n");
	assert_says(report, "- **Restored from:** /b/shop.zip (NOT verified)\n");
	free(report);
	json_decref(d);
}
END_TEST

/* An operator decided before any alert: those that came of the rollback itself detected nothing. */
START_TEST(decided_before_any_alert)
{
	json_t *d = parse(), *alert = json_array_get(json_object_get(d, "alerts"), 0);
	char *report;

	json_object_set_new(alert, "raised_at", json_string("2024-01-01T12:08:20.000Z"));
	json_object_set_new(json_array_get(json_object_get(d, "decisions"), 0), "automatic",
			    json_false());
	report = incident_report(d);
	assert_says(report, "- Issue detected: 2024-01-01T12:08:00.000Z\n");
	assert_says(report, "rollback (operator): ");
	assert_says(report, "- Duration: 30s\n");
	free(report);
	json_decref(d);
}
END_TEST

/* A text with line breaks in it would write headings and facts of its own. */
START_TEST(texts_stay_on_their_line)
{
	static const char forged[] = "x\n## Root Cause\nnone\r\n- Users affected: 0\x1b[2J";
	json_t *d = parse(), *alert = json_array_get(json_object_get(d, "alerts"), 0);
	json_t *decision = json_array_get(json_object_get(d, "decisions"), 0);
	size_t lines = 0, forged_lines = 0;
	char *plain = incident_report(d), *report;

	json_object_set_new(d, "lead", json_string(forged));
	json_object_set_new(d, "rollback_reason", json_string(forged));
	json_object_set_new(alert, "text", json_string(forged));
	json_object_set_new(decision, "text", json_string(forged));
	json_object_set_new(json_object_get(decision, "evidence"), "text", json_string(forged));
	report = incident_report(d);
	for (const char *p = plain; *p; p++)
		lines += *p == '\n';
	for (const char *p = report; *p; p++)
		forged_lines += *p == '\n';
	ck_assert_uint_eq(forged_lines, lines);
	ck_assert_ptr_null(strchr(report, '\r'));
	ck_assert_ptr_null(strchr(report, 0x1b));
	assert_says(report, "- **Operator:** x\\x0a## Root Cause");
	/* What was given is left as it was. */
	ck_assert_str_eq(json_string_value(json_object_get(d, "lead")), forged);
	free(plain);
	free(report);
	json_decref(d);
}
END_TEST

START_TEST(hardly_anything_is_known)
{
	json_t *d = json_object();
	char *report = incident_report(d);

	assert_says(report, "- **Service:** unknown\n");
	assert_says(report, "- Deployment started: did not happen\n");
	assert_says(report, "- Issue detected: did not happen\n");
	assert_says(report, "## Alerts\n- none\n");
	assert_says(report, "0 of 0\n");
	free(report);
	json_decref(d);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {the_guides_headings, a_rollback_that_failed,
				      decided_before_any_alert, texts_stay_on_their_line,
				      hardly_anything_is_known};
	Suite *suite = suite_create("incident");
	TCase *tc = tcase_create("incident");
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
