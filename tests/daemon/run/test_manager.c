/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A system bus that is not there, breaks, or says nothing: every job ends, with a reason, and a
 * hook that may or may not have been asked for cannot begin any more.  The real bus is in
 * tests/system.
 */

#include "tests/daemon/run/fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/run/manager.h"
#include "daemon/run/order.h"

static struct {
	unsigned times;
	int error;
	char why[256];
} heard;

static const struct hook_order good = {
	.step = STEP_DEPLOY,
	.service = "shop",
	.environment = "production",
	.deployment = "deploy-1",
	.tag = "v1",
	.previous_tag = "",
	.lead = "",
	.backup = "",
	.sha256 = "",
};

static void
on_job(void *arg, int error, const char *why)
{
	heard.times++;
	heard.error = error;
	str_copy(heard.why, sizeof heard.why, why);
}

static void
bus_at(const char *name)
{
	char *address = xasprintf("unix:path=%s/%s", dir, name);

	setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
	free(address);
	heard.times = 0;
}

static int
listen_at(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", dir, name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static void
hear(void)
{
	while (heard.times == 0)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(heard.times, 1);
}

START_TEST(no_bus)
{
	struct manager *m = manager_new(base);

	bus_at("none");
	manager_start(m, "dhash-hook@x.deploy.service", on_job, NULL);
	ck_assert_uint_eq(heard.times, 0); /* never from within */
	hear();
	ck_assert_int_lt(heard.error, 0);
	ck_assert_ptr_nonnull(strstr(heard.why, "is dbus running?"));
	manager_free(m);
}
END_TEST

static void
on_client(evutil_socket_t fd, short what, void *arg)
{
	close(accept(fd, NULL, NULL));
}

START_TEST(bus_that_breaks)
{
	struct manager *m = manager_new(base);
	int fd = listen_at("bus");
	struct event *e = event_new(base, fd, EV_READ | EV_PERSIST, on_client, NULL);

	event_add(e, NULL);
	bus_at("bus");
	manager_stop(m, "dhash-hook@x.deploy.service", on_job, NULL);
	hear();
	ck_assert_int_lt(heard.error, 0);
	ck_assert_msg(strstr(heard.why, "systemd") != NULL, "%s", heard.why);
	ck_assert_msg(strstr(heard.why, "refuses") == NULL, "%s", heard.why);
	/* The next job gets a connection of its own. */
	heard.times = 0;
	manager_start(m, "dhash-hook@x.deploy.service", on_job, NULL);
	hear();
	event_free(e);
	close(fd);
	manager_free(m);
}
END_TEST

/* Nobody answers: the loop goes on, and jobs can be forgotten. */
START_TEST(bus_that_is_mute)
{
	struct manager *m = manager_new(base);
	int fd = listen_at("bus");
	struct unit_job *j;

	bus_at("bus");
	j = manager_start(m, "dhash-hook@x.deploy.service", on_job, NULL);
	for (unsigned i = 0; i < 5; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	unit_job_forget(j);
	manager_start(m, "dhash-hook@x.deploy.service", on_job, NULL);
	manager_free(m); /* with a job under way */
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(heard.times, 0);
	close(fd);
}
END_TEST

START_TEST(hook_without_bus)
{
	struct manager *m = manager_new(base);
	struct hook_way way = {.manager = m};
	struct hook_order o = good;
	struct hook_request r = {.txid = "deploy-1.deploy", .folder = dir, .order = &o};
	struct answer a = {0}, again = {0};
	struct hook_files f;

	bus_at("none");
	hook_ensure(base, &way, &r, on_done, &a);
	ck_assert_int_eq(await(&a).outcome, HOOK_FAILED);
	ck_assert_ptr_nonnull(strstr(a.r.text, "could not be started: cannot ask systemd"));
	/* Whoever would begin now finds the transaction taken. */
	ck_assert_int_eq(hook_files_init(&f, dir, "deploy-1.deploy"), 0);
	ck_assert_int_eq(started_claim(&f), -EEXIST);
	hook_files_done(&f);
	/* And so it stays after a restart of the daemon. */
	hook_ensure(base, &way, &r, on_done, &again);
	ck_assert_int_eq(await(&again).outcome, HOOK_FAILED);
	ck_assert_str_eq(again.r.text, a.r.text);
	manager_free(m);
}
END_TEST

/* An order that is none never gets as far as systemd. */
START_TEST(hook_of_bad_order)
{
	struct manager *m = manager_new(base);
	struct hook_way way = {.manager = m};
	struct hook_order o = good;
	struct hook_request r = {.txid = "deploy-1.deploy", .folder = dir, .order = &o};
	struct answer a = {0};

	o.service = "../shop";
	hook_ensure(base, &way, &r, on_done, &a);
	ck_assert_int_eq(await(&a).outcome, HOOK_FAILED);
	ck_assert_ptr_nonnull(strstr(a.r.text, "its service is none"));
	ck_assert(!exists("deploy-1.deploy.request"));
	manager_free(m);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("manager");
	TCase *t = tcase("manager");

	tcase_add_test(t, no_bus);
	tcase_add_test(t, bus_that_breaks);
	tcase_add_test(t, bus_that_is_mute);
	tcase_add_test(t, hook_without_bus);
	tcase_add_test(t, hook_of_bad_order);
	suite_add_tcase(s, t);
	return run_suite(s);
}
