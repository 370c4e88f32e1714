/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gates, with a store that answers when the test says so and what it says, a real configuration
 * and a real metrics source on loopback.
 */

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/check/round.h"
#include "daemon/conf.h"
#include "daemon/gate/gate.h"
#include "daemon/run/hook.h"
#include "daemon/store.h"

static char dir[64];
static struct event_base *base;
static struct http_pool *pool;
static struct conf *conf;
static struct observer *observer;
static const struct hook_way children = {.runner = "/nowhere"};
static struct gate_hooks hooks = {.way = &children};

/* --- the store, in place of store_ask.c ------------------------------------------------------- */

static struct {
	char environment[NAME_MAX_LEN], tag[TAG_MAX_LEN];
	store_json_fn *fn;
	void *arg;
} question;

void
store_tag_facts(struct store *s, const char *service, const char *environment, const char *tag,
		store_json_fn *fn, void *arg)
{
	ck_assert_ptr_null(question.fn);
	ck_assert_str_eq(service, "web");
	str_copy(question.environment, sizeof question.environment, environment);
	str_copy(question.tag, sizeof question.tag, tag);
	question.fn = fn;
	question.arg = arg;
}

static void
store_says(const char *environment, int error, bool succeeded, bool bad, int deployments)
{
	store_json_fn *fn = question.fn;

	ck_assert_ptr_nonnull(fn);
	ck_assert_str_eq(question.environment, environment);
	ck_assert_str_eq(question.tag, "v1.2.3");
	question.fn = NULL;
	fn(question.arg, error,
	   error ? NULL
		 : json_pack("{s:b, s:b, s:s, s:i}", "succeeded", succeeded, "bad", bad, "why",
			     bad ? "error rate 20%" : "", "deployments", deployments));
}

/* --- the metrics source ----------------------------------------------------------------------- */

static const char *exposition;
static int status;
static bool hold;
static struct evhttp_request *held;
static struct evhttp *http;
static unsigned port;

static void
send_metrics(struct evhttp_request *r)
{
	struct evbuffer *body = evbuffer_new();

	evbuffer_add(body, exposition, strlen(exposition));
	evhttp_send_reply(r, status, "Word", body);
	evbuffer_free(body);
}

static void
on_request(struct evhttp_request *r, void *arg)
{
	if (hold)
		held = r;
	else
		send_metrics(r);
}

static void
serve(void)
{
	struct evhttp_bound_socket *bound;
	struct sockaddr_in a;
	socklen_t len = sizeof a;

	exposition = "# TYPE requests counter\nrequests{code=\"200\"} 5\n";
	status = 200;
	hold = false;
	held = NULL;
	http = evhttp_new(base);
	bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
	ck_assert_ptr_nonnull(bound);
	ck_assert_int_eq(
		getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&a, &len), 0);
	port = ntohs(a.sin_port);
	evhttp_set_gencb(http, on_request, NULL);
}

/* --- fixture ---------------------------------------------------------------------------------- */

static void
write_file(const char *name, unsigned mode, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);

	ck_assert_int_eq(file_write_atomic(path, text, strlen(text), mode), 0);
	free(path);
}

static void
set_up(void)
{
	char *services;

	umask(022);
	strcpy(dir, "/tmp/dhash-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	services = xasprintf("%s/services.d", dir);
	ck_assert_int_eq(mkdir(services, 0755), 0);
	free(services);
	write_file("deploy.sh", 0755, "#!/bin/sh\n");
	write_file("rollback.sh", 0755, "#!/bin/sh\n");
	base = event_base_new();
	ck_assert_int_eq(http_pool_new(base, &pool), 0);
	serve();
	question.fn = NULL;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void
forget_configuration(void)
{
	observer_free(observer);
	observer = NULL;
	conf_free(conf);
	conf = NULL;
}

static void
tear_down(void)
{
	forget_configuration();
	http_pool_free(pool);
	evhttp_free(http);
	event_base_free(base);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Production with these keys, and staging without a gate of its own. */
static const struct conf_env *
configure(const char *keys)
{
	struct conf_errors errors = {0};
	char *text = xasprintf("[Service]\nWorkingDirectory=%s\n[Environment staging]\n"
			       "HealthURL=http://127.0.0.1:1/\nDeploy=deploy.sh\n"
			       "Rollback=rollback.sh\n[Environment production]\n"
			       "HealthURL=http://127.0.0.1:1/\n%s",
			       dir, keys);

	write_file("services.d/web.conf", 0644, text);
	free(text);
	ck_assert_msg(conf_load(dir, &conf, &errors) == 0, "%s", errors.n ? errors.v[0].text : "");
	observer = observer_new(base, pool, conf_find(conf, "web", "production"));
	return conf_find(conf, "web", "production");
}

#define HOOKS "Deploy=deploy.sh\nRollback=rollback.sh\n"

static char *
with_metrics(const char *requests)
{
	return xasprintf(HOOKS "MetricsURL=http://127.0.0.1:%u/metrics\n[Metrics]\n"
			       "Requests=%s\nErrors=%s{code=~\"5..\"}\n",
			 port, requests, requests);
}

static struct gates seen;
static unsigned answers;

static void
on_gates(void *arg, const struct gates *g)
{
	seen = *g;
	answers++;
}

static void
begin(const struct conf_env *env, bool force)
{
	answers = 0;
	gates_run(NULL, &hooks, observer, env, "v1.2.3", force, on_gates, NULL);
	ck_assert_uint_eq(answers, 0);
}

static void
turn(void)
{
	usec_t deadline = now_boottime() + 15 * USEC_PER_SEC;

	while (answers == 0 && !held) {
		ck_assert_msg(now_boottime() < deadline, "no answer");
		event_base_loop(base, EVLOOP_ONCE);
	}
}

static const struct gate *
gate(const char *name)
{
	for (size_t i = 0; i < seen.n; i++)
		if (streq(seen.v[i].name, name))
			return &seen.v[i];
	return NULL;
}

static void
assert_gate(const char *name, bool ok, const char *says)
{
	const struct gate *g = gate(name);

	ck_assert_msg(g != NULL, "there is no gate %s", name);
	ck_assert_msg(g->ok == ok, "%s: %s", name, g->text);
	ck_assert_msg(strstr(g->text, says) != NULL, "%s does not say: %s", g->text, says);
}

/* --- policy ----------------------------------------------------------------------------------- */

START_TEST(all_pass)
{
	char text[256];

	begin(configure(HOOKS "After=staging\n"), false);
	store_says("staging", 0, true, false, 1);
	ck_assert_uint_eq(answers, 0);
	store_says("production", 0, false, false, 0);
	ck_assert_uint_eq(answers, 1);
	ck_assert(seen.ok);
	ck_assert_uint_eq(seen.n, 4);
	assert_gate("staging-first", true, "v1.2.3 has succeeded on staging");
	assert_gate("tag-not-bad", true, "not marked bad");
	assert_gate("deploy-hook", true, "deploy.sh can be run");
	assert_gate("rollback-hook", true, "rollback.sh can be run");
	gates_describe(&seen, text, sizeof text);
	ck_assert_str_eq(text, "all 4 gates passed");
}
END_TEST

START_TEST(staging_comes_first)
{
	char text[512];

	begin(configure(HOOKS "After=staging\n"), false);
	store_says("staging", 0, false, false, 3);
	store_says("production", 0, true, false, 3); /* even where it ran before */
	ck_assert(!seen.ok);
	assert_gate("staging-first", false,
		    "v1.2.3 has not succeeded on staging, which comes first: dhash deploy --env "
		    "staging --tag v1.2.3; or override with --force --reason");
	gates_describe(&seen, text, sizeof text);
	ck_assert_msg(strncmp(text, "staging-first: v1.2.3", 21) == 0, "%s", text);
	ck_assert_ptr_null(strstr(text, "deploy-hook")); /* what passed is not told */
}
END_TEST

START_TEST(force_lets_policy_pass)
{
	char text[512];

	begin(configure(HOOKS "After=staging\n"), true);
	store_says("staging", 0, false, false, 3);
	store_says("production", 0, false, true, 3);
	ck_assert(seen.ok);
	ck_assert(gate("staging-first")->overridden);
	ck_assert(gate("tag-not-bad")->overridden);
	ck_assert(!gate("deploy-hook")->overridden);
	gates_describe(&seen, text, sizeof text);
	ck_assert_ptr_nonnull(strstr(text, "overridden: staging-first: "));
	ck_assert_ptr_nonnull(strstr(text, "; overridden: tag-not-bad: "));
}
END_TEST

START_TEST(bad_tag)
{
	begin(configure(HOOKS), false);
	store_says("production", 0, true, true, 3);
	ck_assert(!seen.ok);
	assert_gate("tag-not-bad", false,
		    "v1.2.3 is marked bad on production (error rate 20%); deploy another tag");
	ck_assert_ptr_null(gate("staging-first"));
}
END_TEST

/* What cannot be asked is no "no", and no force turns it into a "yes". */
START_TEST(store_that_does_not_answer)
{
	begin(configure(HOOKS "After=staging\n"), true);
	store_says("staging", -EIO, false, false, 0);
	ck_assert_uint_eq(answers, 1);
	ck_assert(!seen.ok);
	assert_gate("staging-first", false, "cannot ask the store about v1.2.3: Input/output");
	ck_assert_ptr_null(question.fn);
	begin(conf_find(conf, "web", "staging"), true);
	store_says("staging", -EIO, false, false, 0);
	ck_assert(!seen.ok);
	assert_gate("history", false, "cannot ask the store about v1.2.3: Input/output");
}
END_TEST

/* --- the machine ------------------------------------------------------------------------------ */

START_TEST(hooks_that_cannot_run)
{
	begin(configure("Deploy=deploy.sh --tag %t\nRollback=missing.sh\n"), true);
	write_file("deploy.sh", 0644, "#!/bin/sh\n");
	store_says("production", 0, true, false, 3);
	ck_assert(!seen.ok);
	/* All of them in one run, and no force helps. */
	assert_gate("deploy-hook", false, "chmod +x");
	assert_gate("rollback-hook", false, "missing.sh");
	ck_assert(!gate("deploy-hook")->overridden);
}
END_TEST

START_TEST(hooks_named_by_specifiers)
{
	char *folder = xasprintf("%s/production", dir);

	ck_assert_int_eq(mkdir(folder, 0755), 0);
	write_file("production/v1.2.3.sh", 0755, "#!/bin/sh\n");
	begin(configure("Deploy=%e/%t.sh\nRollback=%b\nBackupPaths=app\n"), false);
	store_says("production", 0, true, false, 3);
	ck_assert(seen.ok);
	assert_gate("deploy-hook", true, "production/v1.2.3.sh can be run");
	ck_assert_ptr_null(gate("rollback-hook")); /* nobody knows yet */
	free(folder);
}
END_TEST

START_TEST(users)
{
	begin(configure("User=no-such-user\n" HOOKS), true);
	store_says("production", 0, true, false, 3);
	ck_assert(!seen.ok);
	assert_gate("hook-user", false, "there is no user \"no-such-user\" to run the hook as");
	forget_configuration();
	begin(configure("User=nobody\n" HOOKS), true);
	store_says("production", 0, true, false, 3);
	if (geteuid() == 0)
		assert_gate("hook-user", true, "hooks can run as nobody");
	else
		assert_gate("hook-user", false, "only a daemon run by root");
}
END_TEST

START_TEST(artifacts)
{
	char *folder = xasprintf("%s/app-v1.2.3.tar.gz", dir), *keys;
	const struct conf_env *env;

	keys = xasprintf("Artifact=%s/app-%%t.tar.gz\n", dir);
	env = configure(keys);
	free(keys);
	begin(env, true);
	store_says("production", 0, true, false, 3);
	assert_gate("artifact", false, "app-v1.2.3.tar.gz: No such file or directory; build");
	ck_assert(!seen.ok);
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	begin(env, true);
	store_says("production", 0, true, false, 3);
	assert_gate("artifact", false, "Is a directory");
	ck_assert_int_eq(rmdir(folder), 0);
	write_file("app-v1.2.3.tar.gz", 0644, "x");
	begin(env, false);
	store_says("production", 0, true, false, 3);
	assert_gate("artifact", true, "app-v1.2.3.tar.gz is there");
	ck_assert(seen.ok);
	free(folder);
}
END_TEST

/* --- metrics ---------------------------------------------------------------------------------- */

static void
ask_metrics(const struct conf_env *env, bool force, int deployments)
{
	begin(env, force);
	store_says("production", 0, true, false, deployments);
	turn();
	ck_assert_uint_eq(answers, 1);
}

START_TEST(metrics_are_there_or_not)
{
	char *keys = with_metrics("requests"), *wrong = with_metrics("request");
	const struct conf_env *env = configure(keys);

	ask_metrics(env, false, 3);
	assert_gate("metrics", true, "");
	ck_assert(seen.ok);
	status = 503;
	ask_metrics(env, false, 3);
	assert_gate("metrics", false, "HTTP 503");
	ck_assert(!seen.ok);
	ask_metrics(env, false, 0); /* nothing was ever deployed that could answer */
	assert_gate("metrics", true, "before the first deployment");
	ask_metrics(env, true, 3);
	ck_assert(gate("metrics")->overridden);
	ck_assert(seen.ok);
	status = 200;
	forget_configuration();
	ask_metrics(configure(wrong), false, 0); /* it answers, without that name */
	assert_gate("metrics", false, "request");
	free(keys);
	free(wrong);
}
END_TEST

/* A trial run and a deployment at the same time: each gets the whole answer. */
START_TEST(two_at_once)
{
	char *keys = with_metrics("request");
	const struct conf_env *env = configure(keys);

	hold = true;
	begin(env, false);
	store_says("production", 0, true, false, 3);
	turn();
	ck_assert_ptr_nonnull(held);
	hold = false;
	gates_run(NULL, &hooks, observer, env, "v1.2.3", false, on_gates, NULL);
	store_says("production", 0, true, false, 3);
	while (answers == 0)
		event_base_loop(base, EVLOOP_ONCE);
	assert_gate("metrics", false, "request");
	send_metrics(held);
	while (answers == 1)
		event_base_loop(base, EVLOOP_ONCE);
	assert_gate("metrics", false, "request");
	ck_assert_uint_eq(answers, 2);
	free(keys);
}
END_TEST

/* A reload takes the configuration and its observer away between any two answers. */
START_TEST(configuration_goes_away)
{
	char *keys = with_metrics("requests"), *with_after = xasprintf("After=staging\n%s", keys);

	begin(configure(with_after), false);
	forget_configuration();
	store_says("staging", 0, true, false, 3);
	store_says("production", 0, true, false, 3);
	turn();
	ck_assert(seen.ok);
	assert_gate("metrics", true, "");
	assert_gate("deploy-hook", true, "deploy.sh can be run");
	hold = true;
	begin(configure(keys), false);
	store_says("production", 0, true, false, 3);
	turn();
	forget_configuration();
	send_metrics(held);
	held = NULL;
	turn();
	ck_assert(seen.ok);
	free(with_after);
	free(keys);
}
END_TEST

START_TEST(descriptions_fit)
{
	struct gates g = {.n = 2, .ok = false};
	char text[40];

	for (size_t i = 0; i < g.n; i++) {
		g.v[i].name = "deploy-hook";
		memset(g.v[i].text, 'x', sizeof g.v[i].text - 1);
	}
	gates_describe(&g, text, sizeof text);
	ck_assert_uint_eq(strlen(text), sizeof text - 1);
	ck_assert_int_eq(strncmp(text, "deploy-hook: xxx", 16), 0);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		all_pass,
		staging_comes_first,
		force_lets_policy_pass,
		bad_tag,
		store_that_does_not_answer,
		hooks_that_cannot_run,
		hooks_named_by_specifiers,
		users,
		artifacts,
		metrics_are_there_or_not,
		two_at_once,
		configuration_goes_away,
		descriptions_fit,
	};
	Suite *suite = suite_create("gate");
	TCase *tc = tcase_create("gate");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 30);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
