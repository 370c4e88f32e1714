/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "tests/common/journal_box.h"

/* --- standard error --- */

/* What is said while standard error is a file: a new string. */
static char *
on_stderr(say_fn *say)
{
	int fd = anonymous_file(), kept = dup(STDERR_FILENO);

	dup2(fd, STDERR_FILENO);
	say();
	dup2(kept, STDERR_FILENO);
	close(kept);
	return content(fd);
}

static void
matches(const char *text, const char *pattern)
{
	regex_t re;

	ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	ck_assert_msg(regexec(&re, text, 0, NULL, 0) == 0, "\"%s\" is not like %s", text, pattern);
	regfree(&re);
}

#define STAMP "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z "

static void
said(say_fn *say, const char *rest)
{
	char *text = on_stderr(say), *pattern = xasprintf(STAMP "%s", rest);

	matches(text, pattern);
	free(pattern);
	free(text);
}

static void
say_plain(void)
{
	log_init("dhash-test");
	log_warning("disk %d%% full", 90);
}

static void
say_with_context(void)
{
	struct log_fields f = {.service = "web",
			       .environment = "production",
			       .deployment = "deploy-1",
			       .tag = "v2"};

	log_init("dhash-test");
	log_event(LOG_KIND_STATE, LOG_NOTICE, &f, "it is %s", "watched");
}

static void
say_with_little_context(void)
{
	struct log_fields f = {.deployment = "deploy-1", .environment = ""};

	log_init("dhash-test");
	log_event(LOG_KIND_STATE, LOG_NOTICE, &f, "one");
	f = (struct log_fields){.service = "web"};
	log_event(LOG_KIND_STATE, LOG_NOTICE, &f, "two");
}

START_TEST(a_line_says_when_how_grave_on_what_and_what)
{
	unsetenv("JOURNAL_STREAM");
	said(say_plain, "warning disk 90% full\n$");
	said(say_with_context, "notice deploy-1 web/production: it is watched\n$");
	said(say_with_little_context, "notice deploy-1 one\n[^ ]+ notice web: two\n$");
}
END_TEST

static void
say_at_every_priority(void)
{
	for (int p = LOG_EMERG; p <= LOG_DEBUG; p++)
		log_event(LOG_KIND_GENERIC, p, NULL, "%d", p);
}

/* The words of priority of a text's lines, with blanks between. */
static void
heard(const char *words)
{
	char *text = on_stderr(say_at_every_priority), *next = text, *line, *all = xstrdup("");

	while ((line = strsep(&next, "\n")) && *line) {
		char *word = strchr(line, ' ') + 1, *longer;

		longer = xasprintf("%s%s%.*s", all, *all ? " " : "", (int)strcspn(word, " "), word);
		free(all);
		all = longer;
	}
	ck_assert_str_eq(all, words);
	free(all);
	free(text);
}

#define GRAVE "emergency alert critical error"

START_TEST(what_is_less_important_than_the_level_is_dropped)
{
	heard(GRAVE " warning notice info");
	log_set_level(LOG_DEBUG);
	heard(GRAVE " warning notice info debug");
	log_set_level(LOG_WARNING);
	heard(GRAVE " warning");
	log_set_level(LOG_ERR);
	heard(GRAVE);
}
END_TEST

static void
say_hostile(void)
{
	struct log_fields f = {
		.service = "web\nforged", .environment = "p\x1b[2J", .deployment = "d\r1"};

	log_event(LOG_KIND_REQUEST, LOG_NOTICE, &f, "reason: %s",
		  "a\n2024-01-01T00:00:00.000Z critical b\x1b[31m\x07\xff");
}

START_TEST(a_record_is_one_line_whatever_it_holds)
{
	said(say_hostile,
	     "notice d\\\\x0d1 web\\\\x0aforged/p\\\\x1b\\[2J: reason: "
	     "a\\\\x0a2024-01-01T00:00:00\\.000Z critical b\\\\x1b\\[31m\\\\x07\\\\xff\n$");
}
END_TEST

static void
say_and_look_at_errno(void)
{
	errno = ENOSPC;
	log_error("cannot write");
	ck_assert_int_eq(errno, ENOSPC);
	close(STDERR_FILENO);
	log_error("nobody hears it");
	ck_assert_int_eq(errno, ENOSPC);
}

START_TEST(errno_survives_and_a_closed_stream_hurts_nobody)
{
	said(say_and_look_at_errno, "error cannot write\n$");
}
END_TEST

enum { THREADS = 4, LINES = 1000 };

static void *
say_much(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("thread %d says %0100d", *(int *)arg, i);
	return NULL;
}

static void
say_in_threads(void)
{
	pthread_t threads[THREADS];
	int ids[THREADS];

	for (int i = 0; i < THREADS; i++) {
		ids[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, say_much, &ids[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

START_TEST(lines_of_threads_do_not_mix)
{
	char *text = on_stderr(say_in_threads), *next = text, *line;
	int n = 0;
	regex_t re;

	ck_assert_int_eq(
		regcomp(&re, STAMP "info thread [0-3] says [0-9]{100}$", REG_EXTENDED | REG_NOSUB),
		0);
	while ((line = strsep(&next, "\n")) && *line) {
		ck_assert_msg(regexec(&re, line, 0, NULL, 0) == 0, "%s", line);
		n++;
	}
	ck_assert_int_eq(n, THREADS * LINES);
	regfree(&re);
	free(text);
}
END_TEST

/* --- the journal --- */

/* A record is lines of NAME=value, as nothing in it holds a newline.  The value, or NULL. */
static char *
value_of(const char *record, const char *name)
{
	size_t n = strlen(name);
	char *found = NULL;

	for (const char *line = record; *line; line += strcspn(line, "\n") + 1) {
		size_t len = strcspn(line, "\n");

		ck_assert_msg(memchr(line, '=', len) != NULL, "%s", line);
		if (strncmp(line, name, n) != 0 || line[n] != '=')
			continue;
		ck_assert_msg(!found, "%s stands twice in %s", name, record);
		found = xasprintf("%.*s", (int)(len - n - 1), line + n + 1);
	}
	return found;
}

static void
has(const char *record, const char *name, const char *value)
{
	char *is = value_of(record, name);

	ck_assert_msg(is == value || (is && value && streq(is, value)), "%s is %s, not %s", name,
		      is ? is : "not there", value ? value : "not there");
	free(is);
}

static void
say_all_fields(void)
{
	struct log_fields f = {
		.service = "web",
		.environment = "production",
		.deployment = "deploy-1",
		.tag = "v2",
		.rule = "error-rate",
		.decision = "roll-back",
		.actor = true,
		.actor_uid = 4294967294,
	};

	log_event(LOG_KIND_DECISION, LOG_CRIT, &f, "%s it back", "roll");
}

START_TEST(a_record_carries_its_kind_and_its_fields)
{
	struct told t = tell(NULL, say_all_fields);
	const char *r = t.records[0];

	ck_assert_int_eq(t.n, 1);
	has(r, "MESSAGE", "roll it back");
	has(r, "PRIORITY", "2");
	has(r, "SYSLOG_IDENTIFIER", "dhash-test");
	has(r, "MESSAGE_ID", log_kind_id(LOG_KIND_DECISION));
	has(r, "DHASH_KIND", "decision");
	has(r, "DHASH_SERVICE", "web");
	has(r, "DHASH_ENVIRONMENT", "production");
	has(r, "DHASH_DEPLOYMENT", "deploy-1");
	has(r, "DHASH_TAG", "v2");
	has(r, "DHASH_RULE", "error-rate");
	has(r, "DHASH_DECISION", "roll-back");
	has(r, "DHASH_ACTOR_UID", "4294967294");
	ck_assert_str_eq(t.stderr_text, "");
	told_done(&t);
}
END_TEST

static void
say_few_fields(void)
{
	struct log_fields f = {.service = "", .rule = NULL, .actor_uid = 7};

	log_event(LOG_KIND_ALERT, LOG_WARNING, &f, "few");
	f = (struct log_fields){.actor = true};
	log_event(LOG_KIND_REQUEST, LOG_NOTICE, &f, "root");
	log_info("none");
}

START_TEST(what_is_not_known_is_left_out)
{
	static const char *const names[] = {"DHASH_SERVICE",    "DHASH_ENVIRONMENT",
					    "DHASH_DEPLOYMENT", "DHASH_TAG",
					    "DHASH_RULE",       "DHASH_DECISION"};
	struct told t = tell(NULL, say_few_fields);

	ck_assert_int_eq(t.n, 3);
	for (int i = 0; i < t.n; i++)
		for (size_t j = 0; j < ARRAY_SIZE(names); j++)
			has(t.records[i], names[j], NULL);
	has(t.records[0], "DHASH_ACTOR_UID", NULL);
	has(t.records[1], "DHASH_ACTOR_UID", "0");
	has(t.records[2], "DHASH_ACTOR_UID", NULL);
	has(t.records[2], "MESSAGE_ID", NULL);
	has(t.records[2], "DHASH_KIND", "generic");
	told_done(&t);
}
END_TEST

static void
say_every_kind(void)
{
	for (enum log_kind k = LOG_KIND_GENERIC + 1; k < _LOG_KIND_MAX; k++)
		log_event(k, LOG_INFO, NULL, "%d", k);
}

START_TEST(every_kind_is_sent_with_its_id)
{
	struct told t = tell(NULL, say_every_kind);

	ck_assert_int_eq(t.n, _LOG_KIND_MAX - 1);
	for (int i = 0; i < t.n; i++) {
		has(t.records[i], "MESSAGE_ID", log_kind_id(i + 1));
		has(t.records[i], "DHASH_KIND", log_kind_name(i + 1));
	}
	told_done(&t);
}
END_TEST

START_TEST(every_priority_is_sent_as_its_number)
{
	struct told t = tell(NULL, say_at_every_priority);

	ck_assert_int_eq(t.n, LOG_INFO + 1);
	for (int i = 0; i < t.n; i++) {
		char number[2] = {(char)('0' + i), '\0'};

		has(t.records[i], "PRIORITY", number);
		has(t.records[i], "MESSAGE", number);
	}
	told_done(&t);
}
END_TEST

/* A newline that got through would let the text forge fields: PRIORITY, or another's uid. */
static void
say_hostile_to_journal(void)
{
	struct log_fields f = {.service = "web\nPRIORITY=0", .tag = "v\x1b", .rule = "\xff"};

	log_event(LOG_KIND_REQUEST, LOG_NOTICE, &f, "a\nDHASH_ACTOR_UID=0\n\x1b[31m\xc0\xaf");
}

START_TEST(texts_from_outside_forge_no_field)
{
	struct told t = tell(NULL, say_hostile_to_journal);

	ck_assert_int_eq(t.n, 1);
	has(t.records[0], "MESSAGE", "a\\x0aDHASH_ACTOR_UID=0\\x0a\\x1b[31m\\xc0\\xaf");
	has(t.records[0], "DHASH_SERVICE", "web\\x0aPRIORITY=0");
	has(t.records[0], "DHASH_TAG", "v\\x1b");
	has(t.records[0], "DHASH_RULE", "\\xff");
	has(t.records[0], "PRIORITY", "5");
	has(t.records[0], "DHASH_ACTOR_UID", NULL);
	told_done(&t);
}
END_TEST

static void
say_hello(void)
{
	log_warning("hello");
}

static void
goes_to_stderr(const char *stream)
{
	struct told t = tell(stream, say_hello);

	ck_assert_int_eq(t.n, 0);
	matches(t.stderr_text, STAMP "warning hello\n$");
	told_done(&t);
}

/* $JOURNAL_STREAM is inherited by what somebody starts by hand, with its own standard error. */
START_TEST(a_stream_that_is_not_ours_is_not_the_journal)
{
	static const char *const streams[] = {"", "1:1", "x", "8", "8:", ":", "0:0"};

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		goes_to_stderr(streams[i]);
}
END_TEST

START_TEST(a_journal_that_is_not_there_loses_nothing)
{
	char *path = xasprintf("%s/run/systemd/journal/socket", box);

	close(journal); /* nobody listens: refused */
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	goes_to_stderr(NULL);
	ck_assert_int_eq(unlink(path), 0);
	goes_to_stderr(NULL);
	free(path);
}
END_TEST

/* --- the kinds --- */

START_TEST(kinds_have_names_and_random_ids_of_their_own)
{
	for (int i = 0; i < _LOG_KIND_MAX; i++) {
		matches(log_kind_name(i), "^[a-z]+(-[a-z]+)*$");
		matches(log_kind_id(i), "^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$");
		for (int j = 0; j < i; j++) {
			ck_assert_str_ne(log_kind_name(i), log_kind_name(j));
			ck_assert_str_ne(log_kind_id(i), log_kind_id(j));
		}
	}
}
END_TEST

/* People's queries name these. */
START_TEST(ids_are_for_ever)
{
	ck_assert_str_eq(log_kind_id(LOG_KIND_ALERT), "54a7c9218a874bf69f34fe5af86f3796");
	ck_assert_str_eq(log_kind_id(LOG_KIND_DECISION), "dc9b83d5cff74a99a90d8ec4eb9869b5");
	ck_assert_str_eq(log_kind_id(LOG_KIND_ROLLED_BACK), "a9682e2e3c7e40f5babc1f269e15ad2b");
	ck_assert_str_eq(log_kind_id(LOG_KIND_ROLLBACK_FAILED), "c68acb2bdbc240e29a0a8b01e0c240ba");
}
END_TEST

static Suite *
log_suite(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("standard error");

	tcase_add_test(t, a_line_says_when_how_grave_on_what_and_what);
	tcase_add_test(t, what_is_less_important_than_the_level_is_dropped);
	tcase_add_test(t, a_record_is_one_line_whatever_it_holds);
	tcase_add_test(t, errno_survives_and_a_closed_stream_hurts_nobody);
	tcase_add_test(t, lines_of_threads_do_not_mix);
	suite_add_tcase(s, t);
	t = tcase_create("journal");
	tcase_add_checked_fixture(t, make_box, remove_box);
	tcase_add_test(t, a_record_carries_its_kind_and_its_fields);
	tcase_add_test(t, what_is_not_known_is_left_out);
	tcase_add_test(t, every_kind_is_sent_with_its_id);
	tcase_add_test(t, every_priority_is_sent_as_its_number);
	tcase_add_test(t, texts_from_outside_forge_no_field);
	tcase_add_test(t, a_stream_that_is_not_ours_is_not_the_journal);
	tcase_add_test(t, a_journal_that_is_not_there_loses_nothing);
	suite_add_tcase(s, t);
	t = tcase_create("kinds");
	tcase_add_test(t, kinds_have_names_and_random_ids_of_their_own);
	tcase_add_test(t, ids_are_for_ever);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner *r = srunner_create(log_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
