/* SPDX-License-Identifier: Apache-2.0 */
/* One record, one line: on standard error, or as fields where the journal reads that stream. */

#include "common/log.h"

#include <check.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/util.h"

/* In place of libsystemd's: what would have gone to the journal, a field a line. */
static char sent[4096];
int sd_journal_sendv(const struct iovec *v, int n);

int
sd_journal_sendv(const struct iovec *v, int n)
{
	size_t used = 0;

	for (int i = 0; i < n; i++)
		used += (size_t)snprintf(sent + used, sizeof sent - used, "%.*s\n",
					 (int)v[i].iov_len, (const char *)v[i].iov_base);
	return 0;
}

static const struct log_fields fields = {
	.service = "dhash",
	.environment = "production",
	.deployment = "deploy-20240101-120000",
	.actor = true,
	.actor_uid = 1500,
};

/* Logs one record with standard error in a file; returns what stands in it. */
static char *
logged(bool journal)
{
	FILE *f = tmpfile();
	char *stream, *text;
	struct stat st;
	size_t len;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(dup2(fileno(f), STDERR_FILENO), STDERR_FILENO);
	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	stream = xasprintf("%llu:%llu", (unsigned long long)st.st_dev,
			   (unsigned long long)st.st_ino + !journal);
	setenv("JOURNAL_STREAM", stream, 1);
	free(stream);
	log_init("dhashd");
	log_event(LOG_KIND_DECISION, LOG_CRIT, &fields, "roll%s", " back\n<0>forged\x1b[2J");
	log_debug("dropped");
	fflush(f);
	text = xcalloc(1, 4096);
	len = (size_t)pread(fileno(f), text, 4095, 0);
	ck_assert_uint_lt(len, 4095);
	fclose(f);
	return text;
}

START_TEST(a_plain_line)
{
	char *text = logged(false);

	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
	ck_assert_str_eq(text + strlen("2024-01-01T12:00:00.000Z"),
			 " critical deploy-20240101-120000 dhash/production: "
			 "roll back\\x0a<0>forged\\x1b[2J\n");
	ck_assert_str_eq(sent, "");
	free(text);
}
END_TEST

START_TEST(fields_for_the_journal)
{
	char *text = logged(true), *expect;

	expect = xasprintf("MESSAGE=roll back\\x0a<0>forged\\x1b[2J\nPRIORITY=2\n"
			   "SYSLOG_IDENTIFIER=dhashd\nMESSAGE_ID=%s\nDHASH_KIND=decision\n"
			   "DHASH_SERVICE=dhash\nDHASH_ENVIRONMENT=production\n"
			   "DHASH_DEPLOYMENT=deploy-20240101-120000\nDHASH_ACTOR_UID=1500\n",
			   log_kind_id(LOG_KIND_DECISION));
	ck_assert_str_eq(sent, expect);
	ck_assert_str_eq(text, "");
	free(expect);
	free(text);
}
END_TEST

START_TEST(every_kind_has_an_id_of_its_own)
{
	for (int i = 0; i < _LOG_KIND_MAX; i++) {
		ck_assert_ptr_nonnull(log_kind_name(i));
		ck_assert_uint_eq(strspn(log_kind_id(i), "0123456789abcdef"), 32);
		for (int j = 0; j < i; j++)
			ck_assert_str_ne(log_kind_id(i), log_kind_id(j));
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, a_plain_line);
	tcase_add_test(t, fields_for_the_journal);
	tcase_add_test(t, every_kind_has_an_id_of_its_own);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
