/* SPDX-License-Identifier: Apache-2.0 */
/* Orders: what one may say, how it is written and read, and what the configuration makes of it. */

#include "tests/daemon/run/fixture.h"

#include <jansson.h>

#include "daemon/conf.h"
#include "daemon/run/order.h"

static const struct hook_order good = {
	.step = STEP_ROLLBACK,
	.rollback = 2,
	.service = "shop",
	.environment = "production",
	.deployment = "deploy-20240101-120000",
	.tag = "v1.2.3+x",
	.previous_tag = "v1.2.2",
	.lead = "@who",
	.backup = "/var/backups/shop.zip",
	.sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
};

static struct hook_files
files_of(const struct hook_order *o)
{
	struct hook_files f;
	char *txid = order_txid(o);

	ck_assert_int_eq(hook_files_init(&f, dir, txid), 0);
	free(txid);
	return f;
}

START_TEST(names)
{
	struct hook_order o = good;
	char *s = order_txid(&o);

	ck_assert_str_eq(s, "deploy-20240101-120000.rollback.2");
	free(s);
	o.step = STEP_RESTART_BACK;
	s = order_txid(&o);
	ck_assert_str_eq(s, "deploy-20240101-120000.restart-rollback.2");
	free(s);
	o.step = STEP_DEPLOY;
	s = order_txid(&o);
	ck_assert_str_eq(s, "deploy-20240101-120000.deploy");
	free(s);
	for (int i = 0; i < _HOOK_STEP_MAX; i++)
		ck_assert_int_eq(hook_step_from_name(hook_step_name((enum hook_step)i)), i);
	ck_assert_int_eq(hook_step_from_name("Deploy"), -EINVAL);
	s = txid_deployment("deploy-1.rollback.1");
	ck_assert_str_eq(s, "deploy-1");
	free(s);
}
END_TEST

static const char *const no_transactions[] = {
	"",
	".",
	"deploy-1",
	".deploy",
	"../x.deploy",
	"a/b.deploy",
	"-a.deploy",
	"a b.deploy",
	"a\n.deploy",
	"deploy-1.de/ploy",
	"deploy-1.\xff",
	/* a deployment's id is shorter */
	"deploy-20240101-120000-1234567890-1234567890.deploy",
};

START_TEST(names_of_none)
{
	ck_assert_ptr_null(txid_deployment(no_transactions[_i]));
}
END_TEST

START_TEST(written_and_read)
{
	struct hook_files f = files_of(&good);
	struct order_file q;
	char *why = NULL;

	ck_assert_int_eq(order_write(&f, &good), 0);
	ck_assert_int_eq(order_read(&f, &q, &why), 0);
	ck_assert_int_eq(q.o.step, good.step);
	ck_assert_uint_eq(q.o.rollback, 2);
	ck_assert_str_eq(q.o.service, good.service);
	ck_assert_str_eq(q.o.environment, good.environment);
	ck_assert_str_eq(q.o.deployment, good.deployment);
	ck_assert_str_eq(q.o.tag, good.tag);
	ck_assert_str_eq(q.o.previous_tag, good.previous_tag);
	ck_assert_str_eq(q.o.lead, good.lead);
	ck_assert_str_eq(q.o.backup, good.backup);
	ck_assert_str_eq(q.o.sha256, good.sha256);
	order_done(&q);
	hook_files_done(&f);
}
END_TEST

#define OFFSET(field) offsetof(struct hook_order, field)

static const struct {
	size_t offset;
	const char *value;
	bool ok;
} values[] = {
	{OFFSET(service), "", false},
	{OFFSET(service), "../shop", false},
	{OFFSET(service), "a/b", false},
	{OFFSET(service), ".hidden", false},
	{OFFSET(environment), "a b", false},
	{OFFSET(deployment), "deploy.1", false},
	{OFFSET(deployment), "../x", false},
	{OFFSET(tag), "", true},
	{OFFSET(tag), "--force", false},
	{OFFSET(tag), "v1;reboot", false},
	{OFFSET(tag), "v1\n", false},
	{OFFSET(tag), "$(reboot)", false},
	{OFFSET(previous_tag), "-x", false},
	{OFFSET(previous_tag), "", true},
	{OFFSET(lead), "", true},
	{OFFSET(lead), "two words", true},
	{OFFSET(lead), "two\nlines", false},
	{OFFSET(lead), "\x1b[2J", false},
	{OFFSET(lead), "J\xc3\xb6rg", true},
	{OFFSET(lead),
	 "a\xe2\x80\xae"
	 "b",
	 false}, /* a mark of text direction */
	{OFFSET(lead), "a\xff", false},
	{OFFSET(lead), "12345678901234567890123456789012345678901234567890123456789012345", false},
	{OFFSET(backup), "", true},
	{OFFSET(backup), "releases/v1", true},
	{OFFSET(backup), "releases/../x", false},
	{OFFSET(backup), "relative.zip", false},
	{OFFSET(backup), "/a\nb", false},
	{OFFSET(sha256), "", true},
	{OFFSET(sha256), "0123", false},
	{OFFSET(sha256), "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", false},
};

START_TEST(forms)
{
	struct hook_order o = good;
	char *why = NULL;

	memcpy((char *)&o + values[_i].offset, &values[_i].value, sizeof values[_i].value);
	ck_assert_int_eq(order_check(&o, &why), values[_i].ok ? 0 : -EINVAL);
	ck_assert_int_eq(why == NULL, values[_i].ok);
	/* The same from a file, which somebody else has written. */
	if (strchr(o.deployment, '/') == NULL) {
		struct hook_files f = files_of(&o);
		struct order_file q;
		char *again = NULL;

		/* What is not UTF-8 is not even written. */
		if (order_write(&f, &o) == 0 || values[_i].ok)
			ck_assert_int_eq(order_read(&f, &q, &again), values[_i].ok ? 0 : -EBADMSG);
		if (values[_i].ok)
			order_done(&q);
		free(again);
		hook_files_done(&f);
	}
	free(why);
}
END_TEST

static void
refused(const char *name, const char *text, const char *part)
{
	struct hook_files f;
	struct order_file q;
	char *why = NULL, *txid = xasprintf("%.*s", (int)strcspn(name, "!"), name),
	     *file = xasprintf("%s.request", txid);

	write_file(file, 0600, text);
	ck_assert_int_eq(hook_files_init(&f, dir, txid), 0);
	ck_assert_int_lt(order_read(&f, &q, &why), 0);
	ck_assert_msg(strstr(why, part) != NULL, "\"%s\" is not in \"%s\"", part, why);
	free(why);
	free(file);
	free(txid);
	hook_files_done(&f);
}

static char *
order_text(const char *more)
{
	return xasprintf("{\"step\": \"deploy\", \"rollback\": 0, \"service\": \"shop\", "
			 "\"environment\": \"production\", \"deployment\": \"deploy-1\", "
			 "\"tag\": \"v1\", \"previous_tag\": \"\", \"lead\": \"\", "
			 "\"backup\": \"\", \"sha256\": \"\"%s}",
			 more);
}

START_TEST(hostile_files)
{
	char *text = order_text(""), *more = order_text(", \"argv\": [\"/bin/sh\"]"),
	     *twice = order_text(", \"step\": \"rollback\"");
	struct hook_files f;
	struct order_file q;
	char *why = NULL;

	refused("deploy-1.deploy", "", "cannot read");
	refused("deploy-1.deploy", "[]", "not understood");
	refused("deploy-1.deploy", "{}", "not understood");
	refused("deploy-1.deploy", more, "not understood");
	refused("deploy-1.deploy", twice, "cannot read");
	refused("deploy-2.deploy", text, "it is that of deploy-1.deploy");
	refused("deploy-1.check", text, "it is that of deploy-1.deploy");
	for (size_t n = 0; n < strlen(text); n++) {
		char *part = xasprintf("%.*s", (int)n, text);

		refused("deploy-1.deploy", part, "");
		free(part);
	}
	write_file("deploy-1.deploy.request", 0600, text);
	ck_assert_int_eq(hook_files_init(&f, dir, "deploy-1.deploy"), 0);
	ck_assert_int_eq(order_read(&f, &q, &why), 0);
	order_done(&q);
	hook_files_done(&f);
	free(twice);
	free(more);
	free(text);
}
END_TEST

static char *
command_line(const struct hook_plan *p)
{
	char *line = xstrdup("");

	for (char **a = p->argv; *a; a++) {
		char *more = xasprintf("%s[%s]", line, *a);

		free(line);
		line = more;
	}
	return line;
}

START_TEST(planned)
{
	static char *deploy[] = {(char *)"deploy.sh", (char *)"--env", (char *)"%e",
				 (char *)"--tag=%t", NULL};
	static char *rollback[] = {(char *)"back.sh", (char *)"%b", (char *)"%i %s %%", NULL};
	static char *extra[] = {(char *)"KEY=value", NULL};
	struct conf_env env = {
		.deploy = deploy,
		.rollback = rollback,
		.working_directory = (char *)"/srv/shop",
		.hook_environment = extra,
		.hook_kill_usec = 7,
		.hook_output_max_bytes = 9,
		.policy = {.deploy_timeout_usec = 11, .rollback_timeout_usec = 13},
	};
	struct hook_order o = good;
	struct hook_plan p;
	char *line;

	ck_assert_int_eq(hook_plan_init(&p, &o, &env, "/state", "dhash"), 0);
	line = command_line(&p);
	ck_assert_str_eq(line, "[back.sh][/var/backups/shop.zip][deploy-20240101-120000 shop %]");
	free(line);
	ck_assert_str_eq(p.r.user, "dhash");
	ck_assert_str_eq(p.r.directory, "/srv/shop");
	ck_assert_str_eq(p.r.log, "/state/sessions/deploy-20240101-120000/rollback.log");
	ck_assert_str_eq(p.r.folder, "/state/sessions/deploy-20240101-120000/hooks");
	ck_assert_int_eq(p.r.timeout_usec, 13);
	ck_assert_int_eq(p.r.kill_usec, 7);
	ck_assert_str_eq(p.r.environ[strv_len(p.r.environ) - 1], "KEY=value");
	hook_plan_done(&p);
	o.step = STEP_DEPLOY;
	env.user = (char *)"shop";
	ck_assert_int_eq(hook_plan_init(&p, &o, &env, "/state", "dhash"), 0);
	line = command_line(&p);
	ck_assert_str_eq(line, "[deploy.sh][--env][production][--tag=v1.2.3+x]");
	free(line);
	ck_assert_str_eq(p.r.user, "shop");
	ck_assert_str_eq(p.r.log, "/state/sessions/deploy-20240101-120000/deploy.log");
	ck_assert_int_eq(p.r.timeout_usec, 11);
	hook_plan_done(&p);
	o.step = STEP_RESTART;
	ck_assert_int_eq(hook_plan_init(&p, &o, &env, "/state", NULL), -ENOENT);
	o.step = STEP_CHECK;
	ck_assert_int_eq(hook_plan_init(&p, &o, &env, "/state", NULL), -ENOENT);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("order");
	TCase *t = tcase("order");

	tcase_add_test(t, names);
	tcase_add_loop_test(t, names_of_none, 0, (int)ARRAY_SIZE(no_transactions));
	tcase_add_test(t, written_and_read);
	tcase_add_loop_test(t, forms, 0, (int)ARRAY_SIZE(values));
	tcase_add_test(t, hostile_files);
	tcase_add_test(t, planned);
	suite_add_tcase(s, t);
	return run_suite(s);
}
