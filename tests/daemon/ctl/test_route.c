/* SPDX-License-Identifier: Apache-2.0 */

/* The table of routes, the reading of queries and bodies, and that dhash-protocol(7) tells the
 * same. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"
#include "daemon/core/core.h"
#include "daemon/store.h"

/* --- routes ---------------------------------------------------------------------------------- */

START_TEST(every_route_is_found)
{
	for (int i = 0; i < _CTL_OP_MAX; i++) {
		const struct ctl_route *route = &ctl_routes[i];
		const char *hole = strstr(route->path, "{id}"), *allow;
		char *path = hole ? xasprintf("%.*sdeploy-1%s", (int)(hole - route->path),
					      route->path, hole + 4)
				  : xstrdup(route->path);
		enum ctl_op op;
		char *id = NULL;

		ck_assert_ptr_nonnull(route->help);
		ck_assert(route->operate == streq(route->method, "POST"));
		ck_assert(streq(route->method, "POST") ? !route->query : !route->body);
		ck_assert_int_eq(route_find(route->method, path, &op, &id, &allow), 0);
		ck_assert_int_eq((int)op, i);
		if (hole)
			ck_assert_str_eq(id, "deploy-1");
		else
			ck_assert_ptr_null(id);
		free(id);
		free(path);
	}
}
END_TEST

START_TEST(what_is_no_route)
{
	static const char *const paths[] = {
		"",
		"/",
		"v1/status",
		"/v1",
		"/v1/status/",
		"//v1/status",
		"/v1//status",
		"/V1/status",
		"/v1/deployments//abort",
		"/v1/deployments/a/abort/",
		"/v1/deployments/a/b/abort",
		"/v1/deployments/{id}/",
		"/v2/status",
	};
	const char *allow = NULL;
	enum ctl_op op;
	char *id;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		ck_assert_msg(route_find("GET", paths[i], &op, &id, &allow) == -ENOENT, "%s",
			      paths[i]);
	ck_assert_int_eq(route_find("POST", "/v1/deployments/a", &op, &id, &allow), -EACCES);
	ck_assert_str_eq(allow, "GET");
	ck_assert_int_eq(route_find("PUT", "/v1/deployments", &op, &id, &allow), -EACCES);
	ck_assert_str_eq(allow, "GET, POST");
	ck_assert_int_eq(route_find("GET", "/v1/deployments/a/abort", &op, &id, &allow), -EACCES);
	ck_assert_str_eq(allow, "POST");
	ck_assert_str_eq(route_nearest("/v1/statsu"), "/v1/status");
	ck_assert_ptr_null(route_nearest("/favicon.ico"));
}
END_TEST

/* --- queries and bodies ---------------------------------------------------------------------- */

static const struct ctl_param params[] = {
	{"name", CTL_STRING, false, ""},
	{"count", CTL_INTEGER, false, ""},
	{"flag", CTL_BOOLEAN, false, ""},
	{NULL, CTL_STRING, false, NULL},
};

START_TEST(queries)
{
	struct bad_input bad = {0};
	json_t *q = NULL;

	ck_assert_int_eq(query_parse(NULL, params, &q, &bad), 0);
	ck_assert_uint_eq(json_object_size(q), 0);
	json_decref(q);
	ck_assert_int_eq(query_parse("name=%C3%a9+%26%3D&count=0&flag=1&", params, &q, &bad), 0);
	ck_assert_str_eq(json_string_value(json_object_get(q, "name")), "é+&=");
	ck_assert_str_eq(json_string_value(json_object_get(q, "count")), "0");
	ck_assert_str_eq(json_string_value(json_object_get(q, "flag")), "1");
	json_decref(q);
	ck_assert_int_eq(query_parse("nmae=1", params, &q, &bad), -EINVAL);
	ck_assert_str_eq(json_string_value(json_object_get(bad.detail, "suggestion")), "name");
	ck_assert_uint_eq(json_array_size(json_object_get(bad.detail, "allowed")), 3);
	bad_input_done(&bad);
	ck_assert_int_eq(query_parse("name=1", NULL, &q, &bad), -EINVAL);
	bad_input_done(&bad);
}
END_TEST

START_TEST(depth_is_counted_outside_of_strings)
{
	static const char flat[] = "{\"name\":\"[[[[[[[[[[[[[[[[[[[[[[[[ \\\" {{{{{{{{\"}";
	struct bad_input bad = {0};
	json_t *body = NULL;

	ck_assert_int_eq(body_parse(flat, strlen(flat), params, &body, &bad), 0);
	json_decref(body);
}
END_TEST

/* Anything at all: an answer, and neither crash nor leak.  Mostly near to what is valid. */
START_TEST(random_input)
{
	static const char *const seeds[] = {
		"{\"name\":\"\\ud83d\\ude00 \xc3\xa9\",\"count\":12,\"flag\":true}",
		"name=%C3%A9&count=7&flag=0",
		"{\"name\":{\"a\":[1,2,{\"b\":null}]}}",
	};
	unsigned seed = (unsigned)time(NULL);

	printf("seed %u\n", seed);
	for (int round = 0; round < 20000; round++) {
		char text[128];
		size_t len = strlen(seeds[round % 3]);
		struct bad_input bad = {0};
		json_t *json = NULL;

		memcpy(text, seeds[round % 3], len + 1);
		for (int i = rand_r(&seed) % 4; i >= 0; i--)
			text[(size_t)rand_r(&seed) % len] = (char)rand_r(&seed);
		len = (size_t)rand_r(&seed) % (len + 1);
		ck_assert((body_parse(text, len, params, &json, &bad) < 0) == !!bad.message);
		json_decref(json);
		bad_input_done(&bad);
		json = NULL;
		text[len] = '\0';
		ck_assert((query_parse(text, params, &json, &bad) < 0) == !!bad.message);
		json_decref(json);
		bad_input_done(&bad);
	}
}
END_TEST

/* --- the manual ------------------------------------------------------------------------------ */

static char *
manual(void)
{
	char *text;
	size_t len;

	ck_assert_int_eq(file_read(AT_FDCWD, "man/dhash-protocol.7", 1 << 20, &text, &len), 0);
	return text;
}

/* What stands between a line and the next that begins with `until`; owned by the caller. */
static char *
part(const char *page, const char *heading, const char *until)
{
	char *line = xasprintf("\n%s\n", heading), *copy, *end;
	const char *at = strstr(page, line);

	ck_assert_msg(at != NULL, "dhash-protocol(7) has no \"%s\"", heading);
	copy = xstrdup(at + strlen(line) - 1);
	end = strstr(copy, until);
	if (end)
		*end = '\0';
	free(line);
	return copy;
}

/* `.Va a , b` or `.It Va a , b`, with the word among the names. */
static bool
names(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = text; (p = strstr(p, "Va ")); p++) {
		size_t n = strcspn(p, "\n");

		for (const char *at = p + 2; (at = memmem(at, n - (size_t)(at - p), word, len));
		     at += len)
			if (at[-1] == ' ' && strchr(" \n", at[len]))
				return true;
	}
	return false;
}

static void
expect_params(const char *text, const struct ctl_route *route, const struct ctl_param *p)
{
	for (; p && p->name; p++)
		ck_assert_msg(names(text, p->name), "dhash-protocol(7): %s %s has no \"%s\"",
			      route->method, route->path, p->name);
}

START_TEST(manual_has_the_routes)
{
	char *page = manual();
	size_t n = 0;

	for (int i = 0; i < _CTL_OP_MAX; i++) {
		const struct ctl_route *route = &ctl_routes[i];
		char *heading = xasprintf(".It Ic %s %s", route->method, route->path);
		char *text = part(page, heading, "\n.It Ic ");

		expect_params(text, route, route->query);
		expect_params(text, route, route->body);
		free(text);
		free(heading);
	}
	for (const char *p = page; (p = strstr(p, "\n.It Ic ")); p++)
		n++;
	ck_assert_uint_eq(n, _CTL_OP_MAX);
	free(page);
}
END_TEST

/* Every key of an object, as the daemon makes it, is told of; json is stolen. */
static void
expect_keys(const char *page, const char *object, json_t *json)
{
	char *heading = xasprintf(".Ss %s", object), *text = part(page, heading, "\n.Ss ");
	const char *key;
	json_t *value;

	ck_assert_uint_gt(json_object_size(json), 0);
	json_object_foreach(json, key, value)
	{
		ck_assert_msg(names(text, key), "dhash-protocol(7): %s has no \"%s\"", object, key);
		for (void *i = json_object_iter(value); i; i = json_object_iter_next(value, i))
			ck_assert_msg(names(text, json_object_iter_key(i)),
				      "dhash-protocol(7): %s of %s has no \"%s\"", key, object,
				      json_object_iter_key(i));
	}
	json_decref(json);
	free(heading);
	free(text);
}

START_TEST(manual_has_the_objects)
{
	struct deployment d = {.state = DS_WATCHING};
	struct sample s = {.kind = SAMPLE_METRICS};
	struct backup_row b = {.bytes = 1};
	struct decision decision = {.at = 1};
	struct evidence e = {.since = 1};
	struct alert a = {.raised_at = 1};
	char *page = manual();

	expect_keys(page, "DEPLOYMENT", deployment_to_json(&d));
	expect_keys(page, "SAMPLE", sample_to_json(&s));
	expect_keys(page, "EVIDENCE", evidence_to_json(&e));
	decision.evidence.rule = _RULE_MAX; /* its evidence is an object of its own */
	expect_keys(page, "DECISION", decision_to_json(&decision));
	expect_keys(page, "ALERT", alert_to_json(&a));
	expect_keys(page, "BACKUP", backup_to_json(&b));
	free(page);
}
END_TEST

/* `.Cm a , b` or `.Po Cm a , b`: a value that the page tells of. */
static bool
tells_value(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = text; (p = strstr(p, "Cm ")); p++) {
		size_t n = strcspn(p, "\n");

		for (const char *at = p + 2; (at = memmem(at, n - (size_t)(at - p), word, len));
		     at += len)
			if (at[-1] == ' ' && strchr(" \n", at[len]))
				return true;
	}
	return false;
}

#define expect_values(page, object, max, name)                                                     \
	do {                                                                                       \
		char *text = part(page, ".Ss " object, "\n.Ss ");                                  \
		for (int i = 0; i < (max); i++)                                                    \
			ck_assert_msg(tells_value(text, name(i)), "%s has no value %s", object,    \
				      name(i));                                                    \
		free(text);                                                                        \
	} while (0)

/* Names that come in values. */
START_TEST(manual_has_the_names)
{
	char *page = manual();

	expect_values(page, "DEPLOYMENT", _DSTATE_MAX, dstate_name);
	expect_values(page, "ENVIRONMENT", _VERDICT_MAX, verdict_name);
	expect_values(page, "ENVIRONMENT", _RESULT_MAX, result_name);
	expect_values(page, "SAMPLE", _RESULT_MAX, result_name);
	expect_values(page, "ALERT", _CAUSE_MAX, cause_name);
	expect_values(page, "DECISION", _DECISION_KIND_MAX, decision_kind_name);
	expect_values(page, "EVENT", _NOTE_KIND_MAX, note_kind_name);
	expect_values(page, "EVIDENCE", _RULE_MAX, rule_kind_name);
	free(page);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("route");
	TCase *t = tcase_create("route");
	SRunner *r;
	int failed;

	tcase_add_test(t, every_route_is_found);
	tcase_add_test(t, what_is_no_route);
	tcase_add_test(t, queries);
	tcase_add_test(t, depth_is_counted_outside_of_strings);
	tcase_add_test(t, random_input);
	tcase_add_test(t, manual_has_the_routes);
	tcase_add_test(t, manual_has_the_objects);
	tcase_add_test(t, manual_has_the_names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
