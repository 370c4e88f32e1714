/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dhash-hook: runs one hook, to its end, whatever becomes of the daemon.  As a child of the daemon
 * it takes a request file; as a unit of systemd, with more rights than the daemon has, it takes the
 * name of an order, and trusts root's configuration only.
 *
 * The order of things is the point of the program:
 *
 *   read the request → claim `started` (once for ever, on disk) → run → write `result` (on disk)
 *
 * so that whoever looks at the files after any crash knows whether the command may have run.
 * Whatever fails after the claim becomes a result; before it, an exit status and a line in the log.
 */

#include <getopt.h>
#include <jansson.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/notify_systemd.h"
#include "daemon/run/runner.h"
#include "daemon/run/unit.h"

/* --- a child of the daemon ------------------------------------------------------------------ */

static int
run_request(struct runner *u, const char *path)
{
	struct hook_files files;
	struct request q;
	char *txid, *why = NULL;
	int status;

	if (hook_files_from_request(&files, path, &txid) < 0) {
		runner_complain(path, "is no request file");
		return RUNNER_USAGE;
	}
	free(txid);
	if (request_read(&files, &q, &why) < 0) {
		runner_complain(files.request, why);
		free(why);
		hook_files_done(&files);
		return RUNNER_BAD_REQUEST;
	}
	u->files = &files;
	u->r = &q.r;
	status = runner_claim(u);
	if (status == RUNNER_OK)
		status = runner_work(u);
	request_done(&q);
	hook_files_done(&files);
	return status;
}

/* --- a unit of its own ---------------------------------------------------------------------- */

/* Whatever is wrong with the order is a result like any other, for the daemon to tell. */
static int
run_unit_prepared(struct runner *u, struct unit *unit)
{
	const struct hook_order *o = &unit->order.o;
	bool check = false;
	char *why = NULL;
	int status;

	u->files = &unit->files;
	if (unit_prepare(unit, &why) < 0)
		u->fault = xasprintf("refused: %s", why);
	else if (o->step == STEP_CHECK)
		check = true;
	else
		u->r = &unit->plan.r;
	free(why);
	status = runner_claim(u);
	if (status != RUNNER_OK)
		return status;
	notify_ready();
	u->checked = check;
	u->output.journal = true;
	u->output.fields = (struct log_fields){
		.service = o->service,
		.environment = o->environment,
		.deployment = o->deployment,
		.tag = o->tag,
	};
	return runner_work(u);
}

static int
run_unit(struct runner *u, const struct unit_folders *folders, const char *txid)
{
	struct unit unit;
	char *why = NULL;
	int status = RUNNER_BAD_REQUEST;

	log_init("dhash-hook");
	if (unit_open(&unit, folders, txid, &why) < 0)
		log_error("cannot run %s: %s", txid, why);
	else
		status = run_unit_prepared(u, &unit);
	free(why);
	unit_done(&unit);
	log_stop();
	return status;
}

/* --- command line --------------------------------------------------------------------------- */

enum { OPT_UNIT = 256, OPT_CONFIG, OPT_STATE, OPT_OWN, OPT_SWEEP };

static const struct option long_options[] = {
	{"unit", required_argument, NULL, OPT_UNIT},
	{"config", required_argument, NULL, OPT_CONFIG},
	{"state", required_argument, NULL, OPT_STATE},
	{"own", required_argument, NULL, OPT_OWN},
	{"sweep", no_argument, NULL, OPT_SWEEP},
	{0},
};

static const char usage_text[] =
	"usage: dhash-hook REQUESTFILE\n"
	"       dhash-hook --unit TXID [--config DIR] [--state DIR] [--own DIR]\n"
	"       dhash-hook --sweep\n"
	"runs one hook of dhashd(8), which calls it, or has systemd call it\n";

struct command_line {
	struct unit_folders folders;
	const char *txid, *request;
	bool sweep;
};

static bool
parse(int argc, char **argv, struct command_line *l)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_UNIT:
			l->txid = optarg;
			break;
		case OPT_CONFIG:
			l->folders.config = optarg;
			break;
		case OPT_STATE:
			l->folders.state = optarg;
			break;
		case OPT_OWN:
			l->folders.own = optarg;
			break;
		case OPT_SWEEP:
			l->sweep = true;
			break;
		default:
			return false;
		}
	}
	if (optind < argc)
		l->request = argv[optind++];
	return optind == argc && !!l->request + !!l->txid + l->sweep == 1;
}

int
main(int argc, char **argv)
{
	struct runner u;
	struct command_line l = {
		.folders = {DHASH_SYSCONFDIR "/dhashd", "/var/lib/dhashd", "/var/lib/dhashd-hooks"},
	};
	int status;

	if (!parse(argc, argv, &l)) {
		fputs(usage_text, stderr);
		return RUNNER_USAGE;
	}
	if (l.sweep)
		return unit_sweep() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	json_set_alloc_funcs(xmalloc, free); /* the policy for memory is one, here too */
	runner_detach();
	runner_init(&u);
	status = l.txid ? run_unit(&u, &l.folders, l.txid) : run_request(&u, l.request);
	runner_done(&u);
	return status;
}
