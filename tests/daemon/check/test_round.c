/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds of several checks against real sockets: what passes, what fails, and who is to blame. */

#include "tests/daemon/check/server.h"

#include "daemon/check/round.h"
#include "daemon/conf.h"

enum { CHECKS_MAX = 4 };

static struct loop loop;
static struct server *server;
static struct http_pool *pool;
static struct observer *observer;
static struct conf_check checks[CHECKS_MAX], *list[CHECKS_MAX + 1], reference;
static struct conf_env env;
static unsigned n_checks, rounds;
static struct sample got;

static void
on_round(void *arg, const struct sample *s)
{
	got = *s;
	rounds++;
}

static char *
url(const char *path)
{
	return xasprintf("http://127.0.0.1:%u%s", server->port, path);
}

static struct conf_check *
add(const char *name, const char *path)
{
	struct conf_check *c = &checks[n_checks];

	*c = (struct conf_check){
		.type = CHECK_HTTP, .required = true, .timeout_usec = USEC_PER_SEC};
	c->name = xstrdup(name);
	c->url = url(path);
	c->expect = xstrdup("200-299");
	list[n_checks++] = c;
	return c;
}

static void
setup(void)
{
	server = xcalloc(1, sizeof *server);
	server_start(server);
	loop_start(&loop);
	ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
	env.checks = list;
}

static void
teardown(void)
{
	observer_free(observer);
	http_pool_free(pool);
	server_stop(server);
	loop_stop(&loop);
	free(server);
	for (unsigned i = 0; i < n_checks; i++) {
		free(checks[i].name);
		free(checks[i].url);
		free(checks[i].expect);
	}
	free(reference.url);
}

static void
begin_round(void)
{
	if (!observer)
		observer = observer_new(loop.base, pool, &env);
	ck_assert_int_eq(observer_health(observer, on_round, NULL), 0);
}

static void
one_round(void)
{
	unsigned n = rounds;

	begin_round();
	loop_until(&loop, &rounds, n + 1);
}

static void
set_reference(const char *path)
{
	static char name[] = "reference", expect[] = "200-299";

	reference = (struct conf_check){
		.name = name, .type = CHECK_HTTP, .expect = expect, .timeout_usec = USEC_PER_SEC};
	reference.url = url(path);
	env.reference = &reference;
}

START_TEST(one_required_failure_fails_the_round)
{
	add("a", "/status/200");
	add("b", "/status/503");
	one_round();
	ck_assert_int_eq(got.result, RESULT_BAD);
	ck_assert(!got.all_failed);
	ck_assert_str_eq(got.detail, "b: HTTP 503, 200-299 expected");
}
END_TEST

START_TEST(an_outage_is_every_required_check)
{
	add("a", "/status/500");
	add("b", "/nothing");
	add("c", "/status/200")->required = false;
	one_round();
	ck_assert_int_eq(got.result, RESULT_BAD);
	ck_assert(got.all_failed);
}
END_TEST

START_TEST(what_is_not_required_is_only_said)
{
	add("a", "/status/200");
	add("b", "/status/500")->required = false;
	one_round();
	ck_assert_int_eq(got.result, RESULT_OK);
	ck_assert_ptr_nonnull(strstr(got.detail, "b: HTTP 500"));
}
END_TEST

START_TEST(infrastructure_is_no_health)
{
	add("a", "/status/200");
	add("disk", "/status/500")->infrastructure = true;
	one_round();
	ck_assert_int_eq(got.result, RESULT_OK);
	ck_assert(got.infra_known && got.infra_critical);
}
END_TEST

START_TEST(body_and_timeout)
{
	static char green[] = "^state:\\D(green|blue)", red[] = "red";

	add("a", "/status/200")->body = green;
	one_round();
	ck_assert_int_eq(got.result, RESULT_OK);
	observer_free(observer);
	observer = NULL;
	checks[0].body = red;
	add("b", "/silent")->timeout_usec = 100 * USEC_PER_MSEC;
	one_round();
	ck_assert_int_eq(got.result, RESULT_BAD);
	ck_assert(got.all_failed);
	ck_assert_ptr_nonnull(strstr(got.detail, "does not match Body="));
}
END_TEST

START_TEST(without_a_view_of_its_own_it_blames_nobody)
{
	add("a", "/status/500");
	set_reference("/nothing");
	one_round();
	ck_assert_int_eq(got.result, RESULT_ERROR);
	ck_assert(!got.all_failed);
	ck_assert_int_eq(strncmp(got.detail, "observer cut off: ", 18), 0);
}
END_TEST

START_TEST(a_reference_is_asked_only_after_a_failure)
{
	add("a", "/status/500");
	set_reference("/status/200");
	one_round();
	ck_assert_int_eq(got.result, RESULT_BAD);
	ck_assert_uint_eq(server->requests, 2);
	observer_free(observer);
	observer = NULL;
	free(checks[0].url);
	checks[0].url = url("/status/200");
	one_round();
	ck_assert_int_eq(got.result, RESULT_OK);
	ck_assert_uint_eq(server->requests, 3);
	ck_assert_uint_eq(server->accepted, 1); /* kept alive all the while */
}
END_TEST

START_TEST(a_round_without_checks_knows_nothing)
{
	one_round();
	ck_assert_int_eq(got.result, RESULT_NO_DATA);
}
END_TEST

START_TEST(one_round_at_a_time_and_none_after_the_end)
{
	add("a", "/slow");
	begin_round();
	ck_assert_int_eq(observer_health(observer, on_round, NULL), -EBUSY);
	observer_free(observer);
	observer = NULL;
	loop_turns(&loop, 12);
	ck_assert_uint_eq(rounds, 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("round");
	TCase *t = tcase_create("rounds");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, one_required_failure_fails_the_round);
	tcase_add_test(t, an_outage_is_every_required_check);
	tcase_add_test(t, what_is_not_required_is_only_said);
	tcase_add_test(t, infrastructure_is_no_health);
	tcase_add_test(t, body_and_timeout);
	tcase_add_test(t, without_a_view_of_its_own_it_blames_nobody);
	tcase_add_test(t, a_reference_is_asked_only_after_a_failure);
	tcase_add_test(t, a_round_without_checks_knows_nothing);
	tcase_add_test(t, one_round_at_a_time_and_none_after_the_end);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
