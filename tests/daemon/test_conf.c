/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/conf.h"

static char dir[64];
static struct conf *conf;
static struct conf_errors errors;

static void
setup(void)
{
	char *services;

	str_copy(dir, sizeof dir, "/tmp/dhash-test-conf.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	services = xasprintf("%s/services.d", dir);
	ck_assert_int_eq(mkdir_p(services, 0755), 0);
	free(services);
	conf = NULL;
	errors = (struct conf_errors){0};
}

static void
teardown(void)
{
	static const char *const files[] = {"dhashd.conf",           "dhashd.conf.d/10.conf",
					    "dhashd.conf.d/20.conf", "services.d/web.conf",
					    "services.d/two.conf",   "services.d/bad name.conf"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *path = xasprintf("%s/%s", dir, files[i]);

		unlink(path);
		free(path);
	}
	for (size_t i = 0; i < 2; i++) {
		char *path = xasprintf("%s/%s", dir, i ? "services.d" : "dhashd.conf.d");

		rmdir(path);
		free(path);
	}
	ck_assert_int_eq(rmdir(dir), 0);
	conf_free(conf);
	conf_errors_free(&errors);
}

static void
put(const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);

	ck_assert_int_eq(file_write_atomic(path, text, strlen(text), 0644), 0);
	free(path);
}

static int
load(const char *service)
{
	if (service)
		put("services.d/web.conf", service);
	conf_free(conf);
	conf = NULL;
	conf_errors_free(&errors);
	return conf_load(dir, &conf, &errors);
}

/* Is there an error in this file's line that says so?  line 0: any. */
static bool
complains(const char *file, unsigned line, const char *text)
{
	for (size_t i = 0; i < errors.n; i++)
		if (strstr(errors.v[i].file, file) && (!line || errors.v[i].line == line) &&
		    strstr(errors.v[i].text, text))
			return true;
	for (size_t i = 0; i < errors.n; i++)
		fprintf(stderr, "had: %s:%u: %s\n", errors.v[i].file, errors.v[i].line,
			errors.v[i].text);
	return false;
}

#define GOOD                                                                                       \
	"[Service]\nWorkingDirectory=/\n[Environment "                                             \
	"production]\nHealthURL=http://127.0.0.1:1/h\n"                                            \
	"MetricsURL=http://127.0.0.1:1/m\nDeploy=/bin/deploy --env %e --tag "                      \
	"%t\nRollback=/bin/back %b\n"                                                              \
	"BackupPaths=etc\n"

START_TEST(defaults_are_the_guides)
{
	const struct policy *p;

	ck_assert_int_eq(load(GOOD), 0);
	ck_assert_ptr_nonnull(conf->envs[0]);
	ck_assert_ptr_null(conf->envs[1]);
	p = &conf->envs[0]->policy;
	ck_assert_uint_eq(p->n_phases, 3);
	ck_assert_int_eq(p->phases[0].until_usec, 15 * USEC_PER_MINUTE);
	ck_assert_int_eq(p->phases[2].interval_usec, 300 * USEC_PER_SEC);
	ck_assert_double_eq(p->rules[RULE_ERROR_RATE].limit, 0.1);
	ck_assert_double_eq(p->rules[RULE_LATENCY_P95].limit, 5);
	ck_assert_uint_eq(p->rules[RULE_HEALTH].failures, 3);
	ck_assert(p->has_health && p->has_rate && p->has_latency && p->has_backup);
	ck_assert_str_eq(conf->envs[0]->metrics.errors, "http_requests_total{code=~\"5..\"}");
	ck_assert_str_eq(conf->envs[0]->deploy[3], "--tag");
	ck_assert_ptr_eq(conf_find(conf, "web", "production"), conf->envs[0]);
	ck_assert_ptr_null(conf_find(conf, "web", "staging"));
}
END_TEST

START_TEST(the_nearest_section_counts)
{
	ck_assert_int_eq(
		load(GOOD "[Environment staging]\nHealthURL=http://127.0.0.1:2/\nDeploy=/bin/d\n"
			  "Rollback=/bin/r\nWatch=10min\n[Rule error-rate]\nLimit=20%\nFor=2min\n"
			  "[Rule error-rate production]\nLimit=5%\nWarn=1%\n[Phase critical]\n"
			  "Interval=10s\n[Metrics]\nTimeout=3s\n"),
		0);
	ck_assert_double_eq(
		conf_find(conf, "web", "production")->policy.rules[RULE_ERROR_RATE].limit, 0.05);
	ck_assert_double_eq(conf_find(conf, "web", "staging")->policy.rules[RULE_ERROR_RATE].limit,
			    0.2);
	ck_assert_int_eq(
		conf_find(conf, "web", "production")->policy.rules[RULE_ERROR_RATE].hold_usec,
		2 * USEC_PER_MINUTE);
	ck_assert_int_eq(conf_find(conf, "web", "production")->policy.phases[0].interval_usec,
			 10 * USEC_PER_SEC);
	ck_assert_uint_eq(conf_find(conf, "web", "staging")->policy.n_phases, 1);
	ck_assert_int_eq(conf_find(conf, "web", "staging")->policy.phases[0].interval_usec,
			 30 * USEC_PER_SEC);
}
END_TEST

START_TEST(every_error_is_told_at_once_with_its_place)
{
	ck_assert_int_lt(
		load(GOOD
		     "[Rule error-rate]\nTreshold=10%\nLimit=300%\nFor=soon\n[Rule eror-rate]\n"
		     "[Metrcs]\nx=y\nHealthURL\n[Phase critical\nMode=enforced\n"
		     "[Rule health]\nMode=enforced\n"),
		0);
	ck_assert(complains("web.conf", 10, "unknown key \"Treshold\""));
	ck_assert(complains("web.conf", 11, "no share"));
	ck_assert(complains("web.conf", 12, "no time span"));
	ck_assert(complains("web.conf", 13, "did you mean \"error-rate\"?"));
	ck_assert(complains("web.conf", 14, "did you mean [Metrics"));
	ck_assert(complains("web.conf", 16, "neither Key=Value nor [Section]"));
	ck_assert(complains("web.conf", 17, "must end in ]"));
	ck_assert(complains("web.conf", 20, "did you mean \"enforce\"?"));
}
END_TEST

START_TEST(suggestions_for_keys)
{
	ck_assert_int_lt(load(GOOD "Retart=/bin/x\n"), 0);
	ck_assert(complains("web.conf", 9, "did you mean \"Restart\"?"));
}
END_TEST

/* A line that several environments share is wrong once. */
START_TEST(the_same_is_told_once)
{
	ck_assert_int_lt(load("[Service]\nWorkingDirectory=/nowhere\n"
			      "[Environment a]\nHealthURL=http://h/\nArtifact=/a-%t.tar\n"
			      "[Environment b]\nHealthURL=http://h/\nArtifact=/a-%t.tar\n"),
			 0);
	ck_assert(complains("web.conf", 2, "cannot find /nowhere"));
	ck_assert_uint_eq(errors.n, 1);
}
END_TEST

START_TEST(suggestions_for_names)
{
	ck_assert_int_lt(load(GOOD "[Environment canary]\nAfter=producton\n"
				   "[Rule health prodution]\nFailures=2\n"
				   "[Phase critcal]\nInterval=5s\n"),
			 0);
	ck_assert(complains("web.conf", 10, "did you mean \"production\"?"));
	ck_assert(complains("web.conf", 11, "did you mean \"production\"?"));
	ck_assert(complains("web.conf", 13, "has no Until=; did you mean \"critical\"?"));
}
END_TEST

START_TEST(twice_is_an_error)
{
	ck_assert_int_lt(
		load(GOOD "Settle=1s\nSettle=2s\n[Rule health]\nFailures=2\n[Rule health]\n"), 0);
	ck_assert(complains("web.conf", 10,
			    "stands twice in [Environment production], first in line 9"));
	ck_assert(complains("web.conf", 13, "stands twice, first in line 11"));
}
END_TEST

START_TEST(what_must_fit_together)
{
	ck_assert_int_lt(
		load("[Environment a]\nAfter=b\nHealthURL=http://h/\n[Environment b]\nAfter=a\n"
		     "HealthURL=ftp://h/\nDeploy=/bin/d\n[Environment c]\nAfter=nowhere\n"
		     "HealthURL=http://h/\nDeploy=/bin/d\nRollback=/bin/r %b\n"
		     "WorkingDirectory=/does/not/exist\n"),
		0);
	ck_assert(complains("web.conf", 2, "before itself"));
	ck_assert(complains("web.conf", 1, "neither Deploy= nor Artifact="));
	ck_assert(complains("web.conf", 6, "neither http:// nor https://"));
	ck_assert(complains("web.conf", 7, "there is no way back"));
	ck_assert(complains("web.conf", 9, "there is no [Environment nowhere]"));
	ck_assert(complains("web.conf", 12, "there is no backup"));
	ck_assert(complains("web.conf", 13, "/does/not/exist"));
	ck_assert_int_lt(load(GOOD "Body=\\x41\n"), 0);
	ck_assert(complains("web.conf", 9, "this escape is not supported"));
	ck_assert_int_lt(load(GOOD "EscalateWarnings=17\n"), 0);
	ck_assert(complains("web.conf", 9, "at most 16 are remembered"));
	ck_assert_int_eq(load(GOOD "EscalateWarnings=16\n"), 0);
}
END_TEST

START_TEST(values_are_kept_whole)
{
	char *line = xasprintf("%sHookEnvironment=A=1;2 \"B=x # y ; z\" C=%0500d\n", GOOD, 7);

	ck_assert_int_eq(load(line), 0);
	free(line);
	ck_assert_str_eq(conf->envs[0]->hook_environment[0], "A=1;2");
	ck_assert_str_eq(conf->envs[0]->hook_environment[1], "B=x # y ; z");
	ck_assert_uint_eq(strlen(conf->envs[0]->hook_environment[2]), 502);
}
END_TEST

START_TEST(indented_lines_and_comments)
{
	ck_assert_int_eq(load("\xef\xbb\xbf"), -22); /* nothing to guard */
	ck_assert_int_eq(load("\xef\xbb\xbf# BOM\n  [Environment e]\r\n\tHealthURL = http://h/ "
			      "\r\n  Deploy=/d\n"
			      "Rollback=/r\n"),
			 0);
	ck_assert_str_eq(conf->envs[0]->checks[0]->url, "http://h/");
}
END_TEST

/* libinih takes a form feed for a blank: what stands behind it must not get lost. */
START_TEST(odd_blanks_hide_no_line)
{
	ck_assert_int_lt(load("[Environment e]\n\f[x]=1\nHealthURL=http://h/\nDeploy=/d\n"
			      "Rollback=/r\n\v#Settle=1s\nSettle\f=2s\n"),
			 0);
	ck_assert(complains("web.conf", 2, "this is no key"));
	ck_assert(complains("web.conf", 6, "this is no key"));
	ck_assert(complains("web.conf", 7, "this is no key"));
}
END_TEST

/* Reading takes time with the square of their number: a reload must not stop the loop. */
START_TEST(too_many_keys)
{
	char *text = xmalloc(200000), *p = text;

	for (unsigned i = 0; i < 5100; i++)
		p += sprintf(p, "[s%u]\n", i);
	put("dhashd.conf", text);
	free(text);
	ck_assert_int_lt(load(GOOD), 0);
	ck_assert(complains("dhashd.conf", 5001, "more than 5000 keys and sections in one file"));
}
END_TEST

START_TEST(bad_files)
{
	put("services.d/bad name.conf", GOOD);
	ck_assert_int_lt(load("[Service]\nDescription=a"), 0);
	ck_assert(complains("bad name.conf", 0, "no service name"));
	ck_assert(complains("web.conf", 0, "nothing to guard"));
	put("dhashd.conf", "[Daemon]\nLogLevel=loud\nWorkers=0\n[Other]\nx=y\n");
	ck_assert_int_lt(load(GOOD), 0);
	ck_assert(complains("dhashd.conf", 2, "not known"));
	ck_assert(complains("dhashd.conf", 3, "no number"));
	ck_assert(complains("dhashd.conf", 4, "unknown section"));
}
END_TEST

START_TEST(a_nul_byte_has_its_line)
{
	char *path = xasprintf("%s/services.d/two.conf", dir);

	ck_assert_int_eq(file_write_atomic(path, "[Service]\nA=\0b\n", 15, 0644), 0);
	free(path);
	ck_assert_int_lt(load(GOOD), 0);
	ck_assert(complains("two.conf", 2, "NUL byte"));
}
END_TEST

START_TEST(fragments_in_order)
{
	char *path = xasprintf("%s/dhashd.conf.d", dir);

	mkdir_p(path, 0755);
	free(path);
	put("dhashd.conf", "[Daemon]\nLogLevel=error\nWorkers=3\n");
	put("dhashd.conf.d/10.conf", "[Daemon]\nLogLevel=warning\n");
	put("dhashd.conf.d/20.conf", "[Daemon]\nLogLevel=debug\n");
	ck_assert_int_eq(load(GOOD), 0);
	ck_assert_str_eq(conf->log_level, "debug");
	ck_assert_uint_eq(conf->worker_threads, 3);
	ck_assert_str_eq(conf->operate_group, "dhash-operators");
}
END_TEST

START_TEST(frozen_is_the_same)
{
	struct conf_env *frozen = NULL;
	char *text, *again;

	ck_assert_int_eq(
		load(GOOD "Reference=http://127.0.0.1:9/\nOnEscalation=rollback\nBody=^o\"k\\.$\n"
			  "HookEnvironment=\"A=b c\"\n[Check db]\nAddress=127.0.0.1:5432\n"
			  "Required=no\n[Check disk]\nCommand=/usr/lib/check_disk -w '10 %%'\n"
			  "Infrastructure=yes\n[Phase warm]\nUntil=100ms\nInterval=50ms\n"
			  "[Rule latency-p95]\nLimit=1234567us\nSustain=literal\nMode=observe\n"
			  "[Rule error-rate]\nLimit=33.3%\n"),
		0);
	text = conf_env_dump(conf->envs[0]);
	ck_assert_msg(conf_env_parse(text, &frozen, &errors) == 0, "%s: %s", text,
		      errors.n ? errors.v[0].text : "");
	again = conf_env_dump(frozen);
	ck_assert_str_eq(text, again);
	for (size_t i = 0; i < sizeof frozen->policy; i++)
		ck_assert_msg(((char *)&conf->envs[0]->policy)[i] == ((char *)&frozen->policy)[i],
			      "the policies differ at byte %zu", i);
	ck_assert_str_eq(frozen->service, "web");
	ck_assert_uint_eq(frozen->policy.n_phases, 4);
	ck_assert_str_eq(frozen->checks[2]->argv[2], "10 %%");
	free(again);
	free(text);
	conf_env_free(frozen);
}
END_TEST

START_TEST(frozen_text_that_is_broken)
{
	struct conf_env *frozen = NULL;

	ck_assert_int_lt(conf_env_parse("", &frozen, &errors), 0);
	ck_assert_int_lt(conf_env_parse("[Environment a]\nSettle=x\n", &frozen, &errors), 0);
	ck_assert_ptr_null(frozen);
}
END_TEST

/* --- hook lines --- */

static void
splits(const char *line, const char *const *want)
{
	char **v = NULL, *error = NULL;

	ck_assert_msg(hook_line_split(line, &v, &error) == 0, "%s: %s", line, error);
	for (size_t i = 0; want[i]; i++)
		ck_assert_str_eq(v[i], want[i]);
	ck_assert_uint_eq(strv_len(v), strv_len((char *const *)want));
	strv_free(v);
}

START_TEST(hook_lines)
{
	static const char *const bad[] = {"", "  ", "a 'b", "a \"b", "a %x", "a %", "'' b"};

	splits("scripts/d.sh --env %e --tag %t",
	       (const char *const[]){"scripts/d.sh", "--env", "%e", "--tag", "%t", NULL});
	splits(" a  'b c'\t\"d e\"f g\\ h ''",
	       (const char *const[]){"a", "b c", "d ef", "g h", "", NULL});
	splits("a $HOME `x` ; rm -rf *",
	       (const char *const[]){"a", "$HOME", "`x`", ";", "rm", "-rf", "*", NULL});
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char **v = NULL, *error = NULL;

		ck_assert_msg(hook_line_split(bad[i], &v, &error) < 0, "%s was taken", bad[i]);
		ck_assert_ptr_nonnull(error);
		free(error);
	}
}
END_TEST

START_TEST(specifiers_never_split)
{
	struct specifiers s = {.environment = "e e",
			       .tag = "%b",
			       .backup = "b",
			       .deployment = "i",
			       .service = "s"};
	char *const argv[] = {(char[]){"%e"}, (char[]){"x%t%%%i-%s"}, NULL};
	char **v = specifiers_expandv(argv, &s);

	ck_assert_str_eq(v[0], "e e");
	ck_assert_str_eq(v[1], "x%b%i-s"); /* what was put in is not looked at again */
	ck_assert_uint_eq(strv_len(v), 2);
	ck_assert(specifiers_use(argv, 't'));
	ck_assert(!specifiers_use(argv, 'b'));
	strv_free(v);
}
END_TEST

/* --- documentation --- */

START_TEST(the_manual_names_every_key)
{
	size_t n, len;
	const struct conf_key_doc *k = conf_keys(&n);
	char *man;
	const char *p;

	ck_assert_int_eq(file_read(-100, "man/dhashd.conf.5", 1 << 20, &man, &len), 0);
	p = strstr(man, ".Ss [Daemon]");
	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < n; i++) {
		char *head = xasprintf(".Ss [%s]\n", k[i].section);
		char *item = xasprintf(".It Cm %s= Ns Ar %s\n", k[i].key, k[i].type);
		const char *section = strstr(man, head),
			   *found = section ? strstr(section, item) : NULL;

		ck_assert_msg(found != NULL, "dhashd.conf(5) lacks %s in [%s]", k[i].key,
			      k[i].section);
		ck_assert_msg(found >= p, "%s stands out of order", k[i].key);
		p = found;
		free(item);
		free(head);
	}
	n = 0;
	for (p = man; (p = strstr(p, ".It Cm ")); p++)
		n += strstr(p, "= Ns Ar") && strstr(p, "= Ns Ar") < strchr(p, '\n');
	conf_keys(&len);
	ck_assert_uint_eq(n, len);
	free(man);
}
END_TEST

START_TEST(the_samples_are_good)
{
	char *sample, *folder, *p;
	size_t len;

	ck_assert_int_eq(file_read(-100, "etc/dhashd.conf", 1 << 20, &sample, &len), 0);
	put("dhashd.conf", sample);
	free(sample);
	ck_assert_int_eq(
		file_read(-100, "etc/services.d/dhash.conf.sample", 1 << 20, &sample, &len), 0);
	/* The folder of the sample exists only where the service is. */
	folder = strstr(sample, "WorkingDirectory=/srv/dhash");
	ck_assert_ptr_nonnull(folder);
	p = folder + strlen("WorkingDirectory=/");
	memmove(p, strchr(p, '\n'), strlen(strchr(p, '\n')) + 1);
	ck_assert_msg(load(sample) == 0, "%s", errors.n ? errors.v[0].text : "");
	ck_assert_ptr_nonnull(conf_find(conf, "web", "staging"));
	ck_assert_str_eq(conf_find(conf, "web", "production")->after, "staging");
	free(sample);
}
END_TEST

/* The service manager tries again after one, and not after the other. */
START_TEST(errors_of_the_machine_are_not_the_files)
{
	struct rlimit old, none = {.rlim_cur = 3, .rlim_max = 0};

	ck_assert_int_eq(load("[Environment e]\nHealthURL=http://x/\nTreshold=1\n"), -EINVAL);
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(load(NULL), -EAGAIN);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ck_assert_ptr_nonnull(strstr(errors.v[0].text, "Too many open files"));
	ck_assert_int_eq(load(NULL), -EINVAL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("conf");
	TCase *t = tcase_create("files"), *h = tcase_create("hook lines");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, defaults_are_the_guides);
	tcase_add_test(t, the_nearest_section_counts);
	tcase_add_test(t, every_error_is_told_at_once_with_its_place);
	tcase_add_test(t, suggestions_for_keys);
	tcase_add_test(t, the_same_is_told_once);
	tcase_add_test(t, suggestions_for_names);
	tcase_add_test(t, twice_is_an_error);
	tcase_add_test(t, what_must_fit_together);
	tcase_add_test(t, values_are_kept_whole);
	tcase_add_test(t, indented_lines_and_comments);
	tcase_add_test(t, odd_blanks_hide_no_line);
	tcase_add_test(t, too_many_keys);
	tcase_add_test(t, bad_files);
	tcase_add_test(t, a_nul_byte_has_its_line);
	tcase_add_test(t, fragments_in_order);
	tcase_add_test(t, frozen_is_the_same);
	tcase_add_test(t, frozen_text_that_is_broken);
	tcase_add_test(t, the_samples_are_good);
	tcase_add_test(t, errors_of_the_machine_are_not_the_files);
	tcase_add_test(h, hook_lines);
	tcase_add_test(h, specifiers_never_split);
	tcase_add_test(h, the_manual_names_every_key);
	suite_add_tcase(s, t);
	suite_add_tcase(s, h);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
