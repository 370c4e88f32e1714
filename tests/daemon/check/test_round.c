/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds of several checks and scrapes, against real sockets: what counts, who is cut off, what is
 * late. */

#include "tests/daemon/check/server.h"

#include <math.h>
#include <sys/wait.h>

#include "daemon/check/round.h"
#include "daemon/conf.h"

enum { CHECKS_MAX = 8 };

static struct loop loop;
static struct server *server;
static struct http_pool *pool;
static struct conf_check checks[CHECKS_MAX + 1], *list[CHECKS_MAX + 1];
static char *addresses[CHECKS_MAX + 1];
static unsigned n_checks;
static struct conf_env env;
static struct observer *observer;
static char expect[] = "200-299";

/* The last answers, and how many there were. */
static struct sample health, scraped;
static unsigned n_health, n_scraped, n_probed;
static int probe_error;
static char probe_text[256];

static void
on_health(void *arg, const struct sample *s)
{
	ck_assert_ptr_eq(arg, &health);
	health = *s;
	n_health++;
}

static void
on_scraped(void *arg, const struct sample *s)
{
	ck_assert_ptr_eq(arg, &scraped);
	scraped = *s;
	n_scraped++;
}

static void
on_probed(void *arg, int error, const char *text)
{
	probe_error = error;
	str_copy(probe_text, sizeof probe_text, text);
	n_probed++;
}

/* --- the environment under test --- */

static void
forget_checks(void)
{
	for (unsigned i = 0; i <= CHECKS_MAX; i++) {
		free(checks[i].name);
		free(addresses[i]);
		addresses[i] = NULL;
	}
	memset(checks, 0, sizeof checks);
	memset(list, 0, sizeof list);
	n_checks = 0;
	env.reference = NULL;
}

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	server = xcalloc(1, sizeof *server);
	server_start(server);
	loop_start(&loop);
	ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
	metrics_told = 0;
	env = (struct conf_env){.checks = list};
	env.metrics.timeout_usec = 5 * USEC_PER_SEC;
	env.metrics.max_bytes = 1 << 20;
}

static void
tear_down(void)
{
	observer_free(observer);
	observer = NULL;
	forget_checks();
	free(env.metrics.url);
	http_pool_free(pool);
	loop_stop(&loop);
	server_stop(server);
	free(server);
}

static char *
url_of(const char *path)
{
	return strstr(path, "://") ? xstrdup(path)
				   : xasprintf("http://127.0.0.1:%u%s", server->port, path);
}

static struct conf_check *
fill(unsigned i, const char *name, enum conf_check_type type)
{
	struct conf_check *c = &checks[i];

	free(c->name);
	*c = (struct conf_check){
		.name = xstrdup(name),
		.type = type,
		.expect = expect,
		.required = true,
		.timeout_usec = 5 * USEC_PER_SEC,
	};
	return c;
}

static struct conf_check *
add(const char *name, enum conf_check_type type)
{
	ck_assert_uint_lt(n_checks, CHECKS_MAX);
	list[n_checks] = &checks[n_checks];
	return fill(n_checks++, name, type);
}

static struct conf_check *
set_url(struct conf_check *c, const char *path)
{
	size_t i = (size_t)(c - checks);

	free(addresses[i]);
	c->url = addresses[i] = url_of(path);
	return c;
}

static struct conf_check *
add_http(const char *name, const char *path)
{
	return set_url(add(name, CHECK_HTTP), path);
}

static struct conf_check *
refer_to(const char *path)
{
	struct conf_check *c = fill(CHECKS_MAX, "reference", CHECK_HTTP);

	env.reference = c;
	return set_url(c, path);
}

static void
measure(const char *path)
{
	static char requests[] = "req", errors[] = "req{code=~\"5..\"}";

	free(env.metrics.url);
	env.metrics.url = url_of(path);
	env.metrics.requests = requests;
	env.metrics.errors = errors;
}

static void
observe(void)
{
	observer_free(observer);
	observer = observer_new(loop.base, pool, &env);
}

static void
ask_round(void)
{
	unsigned n = n_health;

	ck_assert_int_eq(observer_health(observer, on_health, &health), 0);
	ck_assert_uint_eq(n_health, n); /* never from within */
	loop_until(&loop, &n_health, n + 1);
	ck_assert_int_eq(health.kind, SAMPLE_HEALTH);
	ck_assert(isnan(health.rate.value) && isnan(health.latency.value));
	ck_assert_int_ge(health.took, 0);
}

static void
ask_scrape(void)
{
	ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), 0);
	loop_until(&loop, &n_scraped, n_scraped + 1);
	ck_assert_int_eq(scraped.kind, SAMPLE_METRICS);
}

static void
has(const char *text, const char *part)
{
	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part);
}

/* --- what a round comes to --- */

/* A letter for each check: good, bad or error; the required small, the others capital; and those of
 * the infrastructure: well (i), critical (c), unknown (u). */
static void
add_all(const char *letters)
{
	char name[2] = "";

	for (; *letters; letters++) {
		struct conf_check *c;

		name[0] = *letters;
		c = add_http(name, strchr("gGi", *letters)   ? "/status/200"
				   : strchr("bBc", *letters) ? "/status/503"
							     : "ftp://127.0.0.1/");
		c->infrastructure = strchr("icu", *letters) != NULL;
		c->required = strchr("GBE", *letters) == NULL;
	}
}

START_TEST(verdicts)
{
	static const struct {
		const char *checks;
		enum result result;
		bool all_failed, infra_known, infra_critical;
	} rows[] = {
		{"", RESULT_NO_DATA, false, false, false},
		{"g", RESULT_OK, false, false, false},
		{"ggg", RESULT_OK, false, false, false},
		{"b", RESULT_BAD, true, false, false},
		{"gbg", RESULT_BAD, false, false, false},
		{"bbb", RESULT_BAD, true, false, false},
		{"e", RESULT_ERROR, false, false, false},
		{"ge", RESULT_ERROR, false, false, false},
		{"be", RESULT_BAD, false, false, false},
		{"bbeb", RESULT_BAD, false, false, false},
		/* What is not required is shown and does not count. */
		{"gB", RESULT_OK, false, false, false},
		{"gE", RESULT_OK, false, false, false},
		{"bG", RESULT_BAD, true, false, false},
		{"B", RESULT_NO_DATA, false, false, false},
		{"G", RESULT_NO_DATA, false, false, false},
		/* Infrastructure is no part of the verdict. */
		{"gi", RESULT_OK, false, true, false},
		{"gc", RESULT_OK, false, true, true},
		{"bi", RESULT_BAD, true, true, false},
		{"gu", RESULT_OK, false, false, false},
		{"c", RESULT_NO_DATA, false, true, true},
		{"gic", RESULT_OK, false, true, true},
		{"guc", RESULT_OK, false, true, true},
		/* One that gave no answer may be the critical one: nothing is known to be well. */
		{"giu", RESULT_OK, false, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		forget_checks();
		add_all(rows[i].checks);
		observe();
		for (int again = 0; again < 2; again++) {
			ask_round();
			ck_assert_msg(health.result == rows[i].result &&
					      health.all_failed == rows[i].all_failed &&
					      health.infra_known == rows[i].infra_known &&
					      health.infra_critical == rows[i].infra_critical,
				      "\"%s\": %s %d %d %d", rows[i].checks,
				      result_name(health.result), health.all_failed,
				      health.infra_known, health.infra_critical);
		}
	}
}
END_TEST

START_TEST(the_failed_are_named_else_all)
{
	add_http("front", "/status/200");
	add_http("api", "/status/204");
	observe();
	ask_round();
	ck_assert_str_eq(health.detail, "front: HTTP 200; api: HTTP 204");
	forget_checks();
	add_http("front", "/status/503");
	add_http("api", "/status/200");
	add_http("extra", "/status/404")->required = false;
	observe();
	ask_round();
	ck_assert_str_eq(health.detail, "front: HTTP 503, 200-299 expected; "
					"extra: HTTP 404, 200-299 expected");
}
END_TEST

/* Bytes of two to a letter at every alignment: what is cut is cut between letters. */
START_TEST(long_details_are_cut_between_letters)
{
	for (int shift = 0; shift < 2; shift++) {
		char name[256] = "x";

		forget_checks();
		for (int i = 0; i < 60; i++)
			strcpy(name + shift + 2 * i, "\xc3\xa4");
		add_http(name, "/status/503");
		add_http(name, "/status/503");
		observe();
		ask_round();
		ck_assert_uint_lt(strlen(health.detail), SAMPLE_DETAIL_MAX);
		ck_assert_uint_ge(strlen(health.detail), SAMPLE_DETAIL_MAX - 2);
		ck_assert_int_ne(health.detail[strlen(health.detail) - 1], '\xc3');
	}
}
END_TEST

START_TEST(expected_statuses)
{
	static const struct {
		const char *expect;
		int status;
		bool good;
	} rows[] = {
		{"200-299", 200, true},      {"200-299", 299, true},
		{"200-299", 300, false},     {"200-299", 199, false},
		{"200-299,301", 301, true},  {"200-299,301", 302, false},
		{"301,200-299", 250, true},  {"200-299 , 404", 404, true},
		{"503", 503, true},          {"503", 200, false},
		{"200,202,204", 203, false}, {"200,202,204", 204, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char path[32], text[32];

		/* 199 is none that a server may end with. */
		if (rows[i].status < 200)
			continue;
		forget_checks();
		snprintf(path, sizeof path, "/status/%d", rows[i].status);
		str_copy(text, sizeof text, rows[i].expect);
		add_http("a", path)->expect = text;
		observe();
		ask_round();
		ck_assert_msg((health.result == RESULT_OK) == rows[i].good, "%s: %s",
			      rows[i].expect, health.detail);
	}
}
END_TEST

/* The service's body is "state: green" and a line's end. */
START_TEST(bodies)
{
	static const struct {
		const char *path, *body;
		bool good;
	} rows[] = {
		{"/status/200", "green", true},
		{"/status/200", "^state: (green|ok)", true},
		{"/status/200", "red", false},
		{"/status/200", "^green", false},
		{"/status/200", "green\n$", true},
		{"/empty", "green", false},
		{"/empty", "^$", true},
		{"/status/503", "green", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char body[32];

		forget_checks();
		str_copy(body, sizeof body, rows[i].body);
		add_http("a", rows[i].path)->body = body;
		observe();
		for (int again = 0; again < 2; again++)
			ask_round();
		ck_assert_msg((health.result == RESULT_OK) == rows[i].good, "%s %s: %s",
			      rows[i].path, rows[i].body, health.detail);
		if (!rows[i].good && !streq(rows[i].path, "/status/503"))
			ck_assert_str_eq(health.detail,
					 "a: HTTP 200, but the body does not match Body=");
	}
}
END_TEST

START_TEST(what_has_no_end_is_bad)
{
	static const char *const paths[] = {"/endless-chunks", "/endless-body", "/endless-headers"};
	char body[] = "never";

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		add_http("a", paths[i])->body = i == 1 ? body : NULL;
		observe();
		ask_round();
		ck_assert_int_eq(health.result, RESULT_BAD);
		forget_checks();
	}
}
END_TEST

START_TEST(tcp_checks)
{
	char there[32], nobody[32];
	unsigned port;
	int fd = bound(&port);

	snprintf(there, sizeof there, "127.0.0.1:%u", server->port);
	snprintf(nobody, sizeof nobody, "127.0.0.1:%u", port);
	/* A kept HTTP connection to the same port proves nothing: it connects anew. */
	add_http("web", "/status/200");
	observe();
	ask_round();
	add("tcp", CHECK_TCP)->address = there;
	observe();
	ask_round();
	ck_assert_str_eq(health.detail, "web: HTTP 200; tcp: connected");
	loop_until_ended(&loop, server, 1);
	ck_assert_uint_eq(server->accepted, 2);
	checks[1].address = nobody;
	ask_round();
	ck_assert_int_eq(health.result, RESULT_BAD);
	has(health.detail, "tcp: cannot connect to 127.0.0.1");
	close(fd);
}
END_TEST

START_TEST(plugins)
{
	static const enum result expected[] = {RESULT_OK, RESULT_OK, RESULT_BAD, RESULT_ERROR,
					       RESULT_ERROR};

	for (int status = 0; status < 5; status++) {
		char sh[] = "/bin/sh", c[] = "-c", script[64];
		char *argv[] = {sh, c, script, NULL};

		forget_checks();
		snprintf(script, sizeof script, "echo 'DISK - 90%%|used=90'; exit %d", status);
		add("disk", CHECK_EXEC)->argv = argv;
		observe();
		ask_round();
		ck_assert_msg(health.result == expected[status], "%d: %s", status, health.detail);
		if (status < 4)
			ck_assert_str_eq(health.detail, "disk: DISK - 90%");
	}
}
END_TEST

/* Each by its own limit; the round is as long as its longest. */
START_TEST(time_outs_are_bad)
{
	char sleep[] = "/bin/sleep", forever[] = "600";
	char *argv[] = {sleep, forever, NULL};

	add_http("well", "/status/200");
	add_http("silent", "/silent")->timeout_usec = 150 * USEC_PER_MSEC;
	add_http("drip", "/drip")->timeout_usec = 100 * USEC_PER_MSEC;
	add("plugin", CHECK_EXEC)->argv = argv;
	checks[3].timeout_usec = 120 * USEC_PER_MSEC;
	observe();
	ask_round();
	ck_assert_int_eq(health.result, RESULT_BAD);
	ck_assert(!health.all_failed);
	has(health.detail, "silent: no answer from 127.0.0.1");
	has(health.detail, "within 150ms");
	has(health.detail, "within 100ms");
	has(health.detail, "plugin: no result within 120ms");
	ck_assert_int_ge(health.took, 140 * USEC_PER_MSEC);
	ck_assert_int_lt(health.took, 2 * USEC_PER_SEC);
	for (unsigned i = 1; i < 4; i++) {
		list[0] = &checks[i];
		list[1] = NULL;
		observe();
		ask_round();
		ck_assert_msg(health.result == RESULT_BAD, "%s", health.detail);
	}
}
END_TEST

/* On a connection that worked before, silence is the service's as much as on a new one. */
START_TEST(a_service_that_falls_silent_is_bad)
{
	add_http("a", "/status/200");
	observe();
	ask_round();
	ck_assert_int_eq(health.result, RESULT_OK);
	set_url(&checks[0], "/silent");
	checks[0].timeout_usec = 100 * USEC_PER_MSEC;
	ask_round();
	ck_assert_uint_eq(server->accepted, 1);
	ck_assert_msg(health.result == RESULT_BAD, "%s", health.detail);
}
END_TEST

START_TEST(connections_are_kept_over_rounds)
{
	add_http("a", "/status/200");
	add_http("b", "/status/200");
	add_http("c", "/status/503");
	measure("/metrics");
	observe();
	for (int i = 0; i < 10; i++) {
		ask_round();
		ask_scrape();
	}
	ck_assert_uint_eq(server->requests, 40);
	ck_assert_uint_le(server->accepted, 3);
}
END_TEST

/* --- the reference --- */

START_TEST(the_reference_is_asked_only_of_a_bad_round)
{
	add_all("gBE");
	refer_to("/status/200");
	observe();
	ask_round();
	ck_assert_int_eq(health.result, RESULT_OK);
	ck_assert_uint_eq(server->requests, 2);
	set_url(&checks[0], "ftp://127.0.0.1/"); /* an error is ours already */
	ask_round();
	ck_assert_int_eq(health.result, RESULT_ERROR);
	ck_assert_uint_eq(server->requests, 3);
	set_url(&checks[0], "/status/500");
	ask_round();
	ck_assert_int_eq(health.result, RESULT_BAD);
	ck_assert_uint_eq(server->requests, 6);
	has(health.detail, "g: HTTP 500");
}
END_TEST

START_TEST(a_failing_reference_means_cut_off)
{
	static const char *const ways[] = {"/status/503", "/nothing", "/silent",
					   "ftp://127.0.0.1/"};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		forget_checks();
		add_all("bb");
		refer_to(ways[i])->timeout_usec = 100 * USEC_PER_MSEC;
		observe();
		ask_round();
		ck_assert_msg(health.result == RESULT_ERROR, "%s: %s", ways[i], health.detail);
		ck_assert(!health.all_failed);
		has(health.detail, "observer cut off: reference: ");
		/* Each round asks anew. */
		set_url(&checks[CHECKS_MAX], "/status/200");
		ask_round();
		ck_assert_int_eq(health.result, RESULT_BAD);
		ck_assert(health.all_failed);
		set_url(&checks[CHECKS_MAX], "/status/404");
		ask_round();
		ck_assert_int_eq(health.result, RESULT_ERROR);
	}
}
END_TEST

/* Who is cut off sees no infrastructure either: it must not roll a service back. */
START_TEST(cut_off_from_the_infrastructure)
{
	static const struct {
		const char *checks, *reference;
		enum result result;
		bool known, critical;
	} rows[] = {
		{"bc", "/status/503", RESULT_ERROR, false, false},
		{"bi", "/status/503", RESULT_ERROR, true, false},
		{"gc", "/status/503", RESULT_OK, false, false},
		{"gc", "/status/200", RESULT_OK, true, true},
		{"bc", "/status/200", RESULT_BAD, true, true},
		{"gi", "/status/503", RESULT_OK, true, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		forget_checks();
		add_all(rows[i].checks);
		refer_to(rows[i].reference);
		observe();
		ask_round();
		ck_assert_msg(
			health.result == rows[i].result && health.infra_known == rows[i].known &&
				health.infra_critical == rows[i].critical,
			"%s, %s: %s %d %d", rows[i].checks, rows[i].reference,
			result_name(health.result), health.infra_known, health.infra_critical);
	}
}
END_TEST

/* --- metrics --- */

START_TEST(metrics_and_health_at_once)
{
	add_http("a", "/status/200");
	add_http("b", "/slow");
	measure("/metrics");
	observe();
	for (unsigned i = 1; i <= 3; i++) {
		ck_assert_int_eq(observer_health(observer, on_health, &health), 0);
		ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), 0);
		ck_assert_int_eq(observer_health(observer, on_health, &health), -EBUSY);
		ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), -EBUSY);
		loop_until(&loop, &n_scraped, i);
		loop_until(&loop, &n_health, i);
		ck_assert_int_eq(health.result, RESULT_OK);
		ck_assert_int_eq(scraped.result, RESULT_OK);
		ck_assert_int_eq(scraped.rate.result, i == 1 ? RESULT_NO_DATA : RESULT_OK);
		ck_assert_double_eq(scraped.rate.total, i == 1 ? 0 : 10);
		ck_assert_double_eq(scraped.rate.bad, i == 1 ? 0 : 1);
	}
	loop_turns(&loop, 5);
	ck_assert_uint_eq(n_health, 3);
	ck_assert_uint_eq(n_scraped, 3);
}
END_TEST

START_TEST(no_source_is_said)
{
	observe();
	ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), -ENOENT);
	ck_assert_int_eq(observer_probe_metrics(observer, on_probed, NULL), -ENOENT);
	observer_reset(observer);
	observer_reset(NULL);
	observer_free(NULL);
	ck_assert_ptr_null(observer_like(NULL, &env));
}
END_TEST

START_TEST(scrapes_without_an_answer)
{
	static const struct {
		const char *path;
		enum result result;
		const char *detail;
	} rows[] = {
		{"/status/503", RESULT_NO_DATA, "HTTP 503 from the metrics source"},
		{"/redirect", RESULT_NO_DATA, "HTTP 302"},
		{"/status/200", RESULT_NO_DATA, "line 1 of the metrics"},
		{"/empty", RESULT_NO_DATA, "the source has no req"},
		{"/silent", RESULT_NO_DATA, "within 100ms"},
		{"/short", RESULT_NO_DATA, "127.0.0.1"},
		{"/endless-chunks", RESULT_NO_DATA, "over 1048576 bytes"},
		{"ftp://127.0.0.1/", RESULT_ERROR, "127.0.0.1"},
	};

	measure("/metrics");
	observe();
	ask_scrape();
	env.metrics.timeout_usec = 100 * USEC_PER_MSEC;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		measure(rows[i].path);
		if (streq(rows[i].path, "/endless-chunks"))
			env.metrics.timeout_usec = 5 * USEC_PER_SEC;
		ask_scrape();
		ck_assert_msg(scraped.result == rows[i].result, "%s: %s", rows[i].path,
			      scraped.detail);
		has(scraped.detail, rows[i].detail);
		ck_assert_int_eq(scraped.rate.result, RESULT_NO_DATA);
		ck_assert_int_eq(scraped.latency.result, RESULT_NO_DATA);
	}
	/* None of them took the counters away. */
	measure("/metrics");
	ask_scrape();
	has(server->last, "\r\nAccept: text/plain;version=0.0.4");
	ck_assert_double_eq(scraped.rate.total, 10);
}
END_TEST

START_TEST(openmetrics_that_were_cut_off)
{
	measure("/openmetrics");
	observe();
	ask_scrape();
	measure("/openmetrics-cut");
	ask_scrape();
	ck_assert_int_eq(scraped.result, RESULT_NO_DATA);
	has(scraped.detail, "# EOF");
	ck_assert_int_eq(observer_probe_metrics(observer, on_probed, NULL), 0);
	loop_until(&loop, &n_probed, 1);
	ck_assert_int_eq(probe_error, -EHOSTUNREACH);
	measure("/openmetrics");
	ask_scrape();
	ck_assert_double_eq(scraped.rate.total, 30);
}
END_TEST

/* What was asked before the reset says nothing of what comes after it. */
START_TEST(a_late_answer_is_nothing_to_differ_from)
{
	measure("/slow-metrics");
	observe();
	ask_scrape();
	ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), 0);
	observer_reset(observer);
	loop_until(&loop, &n_scraped, 2);
	ck_assert_int_eq(scraped.rate.result, RESULT_NO_DATA);
	ask_scrape();
	ck_assert_int_eq(scraped.rate.result, RESULT_NO_DATA);
	ask_scrape();
	ck_assert_int_eq(scraped.rate.result, RESULT_OK);
	ck_assert_double_eq(scraped.rate.total, 10);
}
END_TEST

START_TEST(probing_the_source)
{
	static const struct {
		const char *path;
		int error;
		const char *text;
	} rows[] = {
		{"/metrics", 0, "every configured metric"},
		{"/empty", -ENOENT, "the source has no req"},
		{"/status/200", -EHOSTUNREACH, "line 1"},
		{"/status/503", -EHOSTUNREACH, "HTTP 503"},
		{"/nothing", -EHOSTUNREACH, "does not answer"},
		{"ftp://127.0.0.1/", -EHOSTUNREACH, "does not answer"},
	};

	measure("/metrics");
	observe();
	ask_scrape();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		measure(rows[i].path);
		ck_assert_int_eq(observer_probe_metrics(observer, on_probed, NULL), 0);
		ck_assert_int_eq(observer_probe_metrics(observer, on_probed, NULL), -EBUSY);
		loop_until(&loop, &n_probed, (unsigned)i + 1);
		ck_assert_int_eq(probe_error, rows[i].error);
		has(probe_text, rows[i].text);
	}
	measure("/metrics");
	ask_scrape(); /* the probe in between was no scrape */
	ck_assert_double_eq(scraped.rate.total, 20);
}
END_TEST

START_TEST(a_second_observer_is_its_own)
{
	struct observer *other;

	measure("/metrics");
	observe();
	ask_scrape();
	other = observer_like(observer, &env);
	observer_reset(other);
	ask_scrape();
	ck_assert_int_eq(scraped.rate.result, RESULT_OK);
	ck_assert_int_eq(observer_scrape(other, on_scraped, &scraped), 0);
	loop_until(&loop, &n_scraped, n_scraped + 1);
	ck_assert_int_eq(scraped.rate.result, RESULT_NO_DATA);
	observer_free(other);
}
END_TEST

/* --- life --- */

/* At every stage of a round: just begun, half of it in, the reference out. */
START_TEST(freed_in_mid_round)
{
	char sleep[] = "/bin/sleep", forever[] = "600", body[] = "x";
	char *argv[] = {sleep, forever, NULL};

	env.metrics.timeout_usec = 60 * USEC_PER_SEC;
	for (int stage = 0; stage < 6; stage++) {
		forget_checks();
		add_http("bad", "/status/503");
		add_http("well", "/status/200")->body = body;
		if (stage < 3) {
			add_http("silent", "/silent");
			add_http("ours", "ftp://127.0.0.1/");
			add("plugin", CHECK_EXEC)->argv = argv;
		}
		refer_to("/silent")->timeout_usec = 60 * USEC_PER_SEC;
		measure("/silent");
		observe();
		ck_assert_int_eq(observer_health(observer, on_health, &health), 0);
		ck_assert_int_eq(observer_scrape(observer, on_scraped, &scraped), 0);
		ck_assert_int_eq(observer_probe_metrics(observer, on_probed, NULL), 0);
		loop_turns(&loop, (unsigned)(stage % 3) * 3);
		observer_free(observer);
		observer = NULL;
		ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no plugin is left */
		loop_turns(&loop, 3);
		loop_until_left(&loop);
	}
	forget_checks(); /* a round without checks is under way, too */
	observe();
	ck_assert_int_eq(observer_health(observer, on_health, &health), 0);
	observer_free(observer);
	observer = NULL;
	loop_turns(&loop, 3);
	ck_assert_uint_eq(n_health + n_scraped + n_probed, 0);
}
END_TEST

static void
on_health_free(void *arg, const struct sample *s)
{
	on_health(&health, s);
	observer_free(observer);
	observer = NULL;
}

static void
on_scraped_free(void *arg, const struct sample *s)
{
	on_scraped(&scraped, s);
	observer_free(observer);
	observer = NULL;
}

/* A reload may come of what an answer leads to. */
START_TEST(freed_by_its_own_answer)
{
	add_http("a", "/status/503");
	add_http("b", "/status/200");
	refer_to("/status/200");
	measure("/metrics");
	observe();
	ck_assert_int_eq(observer_health(observer, on_health_free, NULL), 0);
	loop_until(&loop, &n_health, 1);
	observe();
	ck_assert_int_eq(observer_scrape(observer, on_scraped_free, NULL), 0);
	ck_assert_int_eq(observer_health(observer, on_health, &health), 0);
	loop_until(&loop, &n_scraped, 1);
	ck_assert_ptr_null(observer);
	forget_checks();
	observe();
	ck_assert_int_eq(observer_health(observer, on_health_free, NULL), 0);
	loop_until(&loop, &n_health, n_health + 1);
	ck_assert_ptr_null(observer);
}
END_TEST

static unsigned again;

static void
on_health_again(void *arg, const struct sample *s)
{
	on_health(&health, s);
	if (again-- > 0)
		ck_assert_int_eq(observer_health(observer, on_health_again, NULL), 0);
}

START_TEST(the_next_round_from_the_answer_of_the_last)
{
	for (int checked = 0; checked < 2; checked++) {
		if (checked)
			add_all("gbe");
		observe();
		again = 5;
		ck_assert_int_eq(observer_health(observer, on_health_again, NULL), 0);
		loop_until(&loop, &n_health, n_health + 6);
		loop_turns(&loop, 3);
		ck_assert_uint_eq(n_health, 6 + 6 * (unsigned)checked);
	}
	ck_assert_int_eq(health.result, RESULT_BAD);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("round");
	TCase *t = tcase_create("observations");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, verdicts);
	tcase_add_test(t, the_failed_are_named_else_all);
	tcase_add_test(t, long_details_are_cut_between_letters);
	tcase_add_test(t, expected_statuses);
	tcase_add_test(t, bodies);
	tcase_add_test(t, what_has_no_end_is_bad);
	tcase_add_test(t, tcp_checks);
	tcase_add_test(t, plugins);
	tcase_add_test(t, time_outs_are_bad);
	tcase_add_test(t, a_service_that_falls_silent_is_bad);
	tcase_add_test(t, connections_are_kept_over_rounds);
	tcase_add_test(t, the_reference_is_asked_only_of_a_bad_round);
	tcase_add_test(t, a_failing_reference_means_cut_off);
	tcase_add_test(t, cut_off_from_the_infrastructure);
	tcase_add_test(t, metrics_and_health_at_once);
	tcase_add_test(t, no_source_is_said);
	tcase_add_test(t, scrapes_without_an_answer);
	tcase_add_test(t, openmetrics_that_were_cut_off);
	tcase_add_test(t, a_late_answer_is_nothing_to_differ_from);
	tcase_add_test(t, probing_the_source);
	tcase_add_test(t, a_second_observer_is_its_own);
	tcase_add_test(t, freed_in_mid_round);
	tcase_add_test(t, freed_by_its_own_answer);
	tcase_add_test(t, the_next_round_from_the_answer_of_the_last);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
