/* SPDX-License-Identifier: Apache-2.0 */
/* The logger's queue: a journal that takes nothing for a while must stall nobody. */

#include <pthread.h>

#include "tests/common/journal_box.h"

enum { MANY = 20000, GRAVE_EVERY = 100 };

static int told_fd = -1; /* of the child: what it has done so far, one byte each */

static void
tell_parent(char c)
{
	if (write(told_fd, &c, 1) != 1)
		_exit(99);
}

/* Waits, for as long as the test may last, without reading what the child logs. */
static void
expect(int fd, char wanted)
{
	char c = '\0';

	ck_assert_int_eq(read(fd, &c, 1), 1);
	ck_assert_int_eq(c, wanted);
}

/* The child logs in the box of journal_box.h; the test reads what it says when it likes. */
static pid_t
start(say_fn *say, int *ret_fd, int *ret_err)
{
	int p[2];
	pid_t pid;

	ck_assert_int_eq(pipe(p), 0);
	*ret_err = anonymous_file();
	pid = fork();
	if (pid == 0) {
		told_fd = p[1];
		in_the_box(*ret_err, NULL, say);
	}
	close(p[1]);
	*ret_fd = p[0];
	return pid;
}

static void
ended_well(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

/* What came of numbered records: "MESSAGE=info 17" and "MESSAGE=grave 3", and those that were
 * dropped by the word of the logger. */
struct count {
	long info, grave, dropped, last_info, last_grave;
};

static void
count_record(struct count *c, const char *record)
{
	long n;

	if (sscanf(record, "MESSAGE=info %ld\n", &n) == 1) {
		ck_assert_int_gt(n, c->last_info);
		c->last_info = n;
		c->info++;
	} else if (sscanf(record, "MESSAGE=grave %ld\n", &n) == 1) {
		ck_assert_int_gt(n, c->last_grave);
		c->last_grave = n;
		c->grave++;
	} else {
		ck_assert_int_eq(sscanf(record, "MESSAGE=%ld record", &n), 1);
		ck_assert_ptr_nonnull(strstr(record, log_kind_id(LOG_KIND_LOG_DROPPED)));
		ck_assert_ptr_nonnull(strstr(record, "dropped"));
		c->dropped += n;
	}
}

/* Reads until the child has ended. */
static struct count
read_all(pid_t pid)
{
	struct pollfd p[2] = {{.fd = journal, .events = POLLIN},
			      {.fd = pidfd_open(pid, 0), .events = POLLIN}};
	struct count c = {.last_info = -1, .last_grave = -1};
	static char buf[65536];

	for (bool over = false; !over;) {
		ssize_t n;

		ck_assert_int_gt(poll(p, 2, -1), 0);
		over = p[1].revents != 0;
		while ((n = recv(journal, buf, sizeof buf - 1, 0)) > 0) {
			buf[n] = '\0';
			count_record(&c, buf);
		}
	}
	close(p[1].fd);
	return c;
}

static void
say_numbers(int from, int to)
{
	for (int i = from; i < to; i++) {
		log_info("info %d", i);
		if (i % GRAVE_EVERY == 0)
			log_event(LOG_KIND_ALERT, LOG_CRIT, NULL, "grave %d", i);
	}
}

static void
say_many(void)
{
	log_start();
	say_numbers(0, MANY);
	tell_parent('m');
	log_stop();
}

START_TEST(a_journal_that_does_not_read_stalls_nobody)
{
	int fd, err;
	pid_t pid = start(say_many, &fd, &err);
	struct count c;
	char *text;

	expect(fd, 'm');
	c = read_all(pid);
	ended_well(pid);
	close(fd);
	printf("%ld of %d came, %ld dropped; %ld grave ones of %d came\n", c.info, MANY, c.dropped,
	       c.grave, MANY / GRAVE_EVERY);
	ck_assert_int_gt(c.dropped, 0);
	ck_assert_int_eq(c.grave, MANY / GRAVE_EVERY);
	ck_assert_int_eq(c.info + c.dropped, MANY);
	text = content(err);
	ck_assert_str_eq(text, "");
	free(text);
}
END_TEST

/* While it reads, nothing is dropped and all is in order, whoever is quicker. */
static void
say_many_slowly(void)
{
	log_start();
	for (int i = 0; i < MANY; i += 1000) {
		say_numbers(i, i + 1000);
		log_flush();
	}
	log_stop();
}

START_TEST(a_journal_that_reads_gets_everything_in_order)
{
	int fd, err;
	pid_t pid = start(say_many_slowly, &fd, &err);
	struct count c = read_all(pid);

	ended_well(pid);
	close(fd);
	close(err);
	ck_assert_int_eq(c.info, MANY);
	ck_assert_int_eq(c.grave, MANY / GRAVE_EVERY);
	ck_assert_int_eq(c.dropped, 0);
}
END_TEST

/* The end does not wait for ever, and may be logged behind. */
START_TEST(a_journal_that_never_reads_does_not_hold_up_the_end)
{
	int fd, err;
	pid_t pid = start(say_many, &fd, &err);

	expect(fd, 'm');
	ended_well(pid);
	close(fd);
	close(err);
}
END_TEST

static void
say_around(void)
{
	log_info("info 0");
	log_start();
	log_info("info 1");
	log_stop();
	log_info("info 2");
	log_start();
	log_info("info 3");
	log_stop();
	log_stop();
}

START_TEST(before_and_behind_it_records_are_sent_at_once)
{
	int fd, err;
	pid_t pid = start(say_around, &fd, &err);
	struct count c = read_all(pid);

	ended_well(pid);
	close(fd);
	close(err);
	ck_assert_int_eq(c.info, 4);
}
END_TEST

/* What was sent before a kill is not lost: the caller itself sends while the journal takes it. */
static void
say_and_die(void)
{
	log_start();
	log_event(LOG_KIND_ALERT, LOG_CRIT, NULL, "grave 0");
	kill(getpid(), SIGKILL);
}

START_TEST(a_kill_right_behind_a_record_loses_nothing)
{
	int fd, err, status;
	pid_t pid = start(say_and_die, &fd, &err);

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	pid = start(say_around, &fd, &err);
	ck_assert_int_eq(read_all(pid).grave, 1);
	ended_well(pid);
}
END_TEST

/* Too long for a datagram, and for the queue beside others: libsystemd's way, by a file in memory,
 * comes as a descriptor and no data. */
enum { LONG = 3000000 };

static void
say_long(void)
{
	char *text = xmalloc(LONG + 1);

	memset(text, 'x', LONG);
	text[LONG] = '\0';
	log_start();
	log_info("%s", text);
	log_flush(); /* nothing has room beside it in the queue */
	log_info("info 1");
	free(text);
	log_stop();
}

START_TEST(a_long_record_comes_as_well_and_in_order)
{
	int fd, err, n = 0;
	pid_t pid = start(say_long, &fd, &err);
	static char buf[LONG + 4096];
	ssize_t len[3] = {-1, -1, -1};

	ended_well(pid);
	while (n < 3 && (len[n] = recv(journal, buf, sizeof buf, 0)) >= 0)
		n++;
	ck_assert_int_eq(n, 2);
	ck_assert(len[0] == 0 || len[0] > LONG);
	ck_assert_int_gt(len[1], 0);
	ck_assert_ptr_nonnull(strstr(buf, "MESSAGE=info 1\n"));
	close(fd);
	close(err);
}
END_TEST

static void *
say_in_thread(void *arg)
{
	for (int i = 0; i < 2000; i++)
		log_info("thread");
	return NULL;
}

static void
say_in_threads(void)
{
	pthread_t t[4];

	log_start();
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, say_in_thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	tell_parent('t');
	log_stop();
}

START_TEST(threads_may_log)
{
	int fd, err;
	pid_t pid = start(say_in_threads, &fd, &err);
	static char buf[65536];

	expect(fd, 't');
	ended_well(pid); /* stuck: nobody reads */
	while (recv(journal, buf, sizeof buf, 0) > 0)
		ck_assert_ptr_nonnull(memmem(buf, sizeof buf, "MESSAGE=thread\n", 15));
	close(fd);
	close(err);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("log queue");
	TCase *t = tcase_create("queue");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, make_box, remove_box);
	tcase_add_test(t, a_journal_that_does_not_read_stalls_nobody);
	tcase_add_test(t, a_journal_that_reads_gets_everything_in_order);
	tcase_add_test(t, a_journal_that_never_reads_does_not_hold_up_the_end);
	tcase_add_test(t, before_and_behind_it_records_are_sent_at_once);
	tcase_add_test(t, a_kill_right_behind_a_record_loses_nothing);
	tcase_add_test(t, a_long_record_comes_as_well_and_in_order);
	tcase_add_test(t, threads_may_log);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
