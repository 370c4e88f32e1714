/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files between daemon and runner: "WHICH, then the file": an order, a request or a result,
 * each taken as hostile.
 *
 * An order that is read becomes a command line with exactly the words of the configuration, whose
 * first is the configured one, and files in the place that its deployment says.  A request that is
 * read may be written, and is read as the same.  A result that is read has a known outcome, and
 * comes back as it was when it is written again.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/conf.h"
#include "daemon/run/order.h"
#include "tests/fuzz/fuzz.h"

#define DEPLOYMENT "deploy-20240101-120000"

static const char *const txids[] = {DEPLOYMENT ".deploy", DEPLOYMENT ".rollback.1",
				    DEPLOYMENT ".restart", DEPLOYMENT ".check"};
static char folder[64];
static struct conf_env *env;

static void
clean_up(void)
{
	static const char *const suffixes[] = {"request", "result", "result.reserved"};

	for (size_t i = 0; i < ARRAY_SIZE(txids) * ARRAY_SIZE(suffixes); i++) {
		char *path = xasprintf("%s/%s.%s", folder, txids[i / ARRAY_SIZE(suffixes)],
				       suffixes[i % ARRAY_SIZE(suffixes)]);

		unlink(path);
		free(path);
	}
	rmdir(folder);
	conf_env_free(env);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char text[] = "[Service]\nName=dhash\n[Environment production]\n"
				   "Deploy=/bin/deploy --env %e --tag %t --id %i %s %%\n"
				   "Rollback=/bin/rollback --backup %b \"a b\" --env %e\n"
				   "Restart=/bin/restart\nHookEnvironment=A=b \"C=d e\"\n"
				   "DeployTimeout=30min\nRollbackTimeout=30min\nHookKill=10s\n"
				   "[Phase critical]\nUntil=900s\nInterval=30s\n";
	struct conf_errors errors = {0};

	(void)argc;
	(void)argv;
	strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/dhash-fuzz-XXXXXX"
						     : "/tmp/dhash-fuzz-XXXXXX");
	INSIST(mkdtemp(folder) != NULL, "no folder to work in: %m");
	INSIST(conf_env_parse(text, &env, &errors) == 0, "%s", errors.v[0].text);
	atexit(clean_up);
	return 0;
}

static void
put(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	INSIST(fd >= 0 && write(fd, data, len) == (ssize_t)len, "cannot write %s: %m", path);
	close(fd);
}

static void
told(int r, char *why)
{
	INSIST((r < 0) == (why != NULL) && (!why || *why), "%d with %s", r, why ? why : "no word");
	free(why);
}

/* --- orders ---------------------------------------------------------------------------------- */

static void
check_plan(const struct hook_order *o)
{
	char *const *argv = order_argv(o, env);
	struct hook_files files;
	struct hook_plan p;
	char *why = NULL, *deployment;
	int r = hook_plan_init(&p, o, env, "/var/lib/dhashd", NULL);

	INSIST((r == 0) == (argv != NULL) && (r == 0 || r == -ENOENT), "%d", r);
	if (r < 0)
		return;
	INSIST(strv_len(p.argv) == strv_len(argv) && streq(p.argv[0], argv[0]),
	       "%zu words became %zu", strv_len(argv), strv_len(p.argv));
	INSIST(request_check(&p.r, &why) == 0, "%s", why);
	INSIST(hook_files_init(&files, p.folder, p.txid) == 0, "%s in %s", p.txid, p.folder);
	INSIST(streq(p.folder, "/var/lib/dhashd/sessions/" DEPLOYMENT "/hooks"), "%s", p.folder);
	deployment = txid_deployment(p.txid);
	INSIST(deployment && streq(deployment, o->deployment), "%s is of %s", p.txid,
	       deployment ? deployment : "none");
	for (char **e = p.environ; *e; e++)
		INSIST(!strpbrk(*e, "\n\r\x1b\x7f"), "the environment has %s", *e);
	free(deployment);
	hook_files_done(&files);
	hook_plan_done(&p);
}

static bool
same_order(const struct hook_order *a, const struct hook_order *b)
{
	return a->step == b->step && a->rollback == b->rollback && streq(a->service, b->service) &&
	       streq(a->environment, b->environment) && streq(a->deployment, b->deployment) &&
	       streq(a->tag, b->tag) && streq(a->previous_tag, b->previous_tag) &&
	       streq(a->lead, b->lead) && streq(a->backup, b->backup) &&
	       streq(a->sha256, b->sha256);
}

static void
order(const struct hook_files *f, const char *txid)
{
	struct order_file q, again;
	char *why = NULL, *id;
	int r = order_read(f, &q, &why);

	INSIST(r == 0 || r == -EBADMSG, "order_read() returned %d", r);
	told(r, why);
	if (r < 0)
		return;
	why = NULL;
	id = order_txid(&q.o);
	INSIST(streq(id, txid), "the order of %s was read from %s", id, txid);
	check_plan(&q.o);
	INSIST(order_write(f, &q.o) == 0 && order_read(f, &again, &why) == 0, "%s", why);
	INSIST(same_order(&q.o, &again.o), "became another order");
	order_done(&q);
	order_done(&again);
	free(id);
}

/* --- requests -------------------------------------------------------------------------------- */

static bool
same_words(char *const *a, char *const *b)
{
	size_t n = strv_len(a);

	if (n != strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!streq(a[i], b[i]))
			return false;
	return true;
}

static void
request(const struct hook_files *f, const char *txid)
{
	struct request q, again;
	char *why = NULL;
	int r = request_read(f, &q, &why);

	INSIST(r == 0 || r == -EBADMSG, "request_read() returned %d", r);
	told(r, why);
	if (r < 0)
		return;
	why = NULL;
	INSIST(streq(q.r.txid, txid), "%s was read from %s", q.r.txid, txid);
	INSIST(q.r.argv[0] && q.r.argv[0][0] && q.r.timeout_usec > 0 && q.r.kill_usec >= 0,
	       "no command, or no limit");
	INSIST(request_write(f, &q.r) == 0 && request_read(f, &again, &why) == 0, "%s", why);
	INSIST(same_words(q.argv, again.argv) && same_words(q.environ, again.environ) &&
		       streq(q.r.log, again.r.log) && q.r.timeout_usec == again.r.timeout_usec &&
		       q.r.output_max_bytes == again.r.output_max_bytes,
	       "became another request");
	request_done(&q);
	request_done(&again);
}

/* --- results --------------------------------------------------------------------------------- */

static void
result(const struct hook_files *f)
{
	struct hook_ending e = {0};
	struct hook_result again;
	int r = result_read(f, &e.r);

	INSIST(r == 0 || r == -EBADMSG || r == -EFBIG, "result_read() returned %d", r);
	if (r < 0)
		return;
	INSIST(e.r.outcome <= HOOK_UNKNOWN && memchr(e.r.text, '\0', sizeof e.r.text), "outcome %d",
	       (int)e.r.outcome);
	INSIST(result_write(f, result_reserve(f), &e) == 0, "cannot be written");
	INSIST(result_read(f, &again) == 0, "cannot be read again");
	INSIST(again.outcome == e.r.outcome && again.exit_status == e.r.exit_status &&
		       again.signal == e.r.signal && again.took == e.r.took &&
		       again.timed_out == e.r.timed_out && again.truncated == e.r.truncated,
	       "became another result");
	unlink(f->result);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t which = feed_byte(&f);
	const char *txid = txids[which >> 2 & 3];
	struct hook_files files;

	INSIST(hook_files_init(&files, folder, txid) == 0, "%s", txid);
	put(which % 4 == 2 ? files.result : files.request, f.p, f.left);
	if (which % 4 == 2)
		result(&files);
	else if (which % 4 == 1)
		request(&files, txid);
	else
		order(&files, txid);
	hook_files_done(&files);
	return 0;
}
