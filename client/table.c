/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of commands and options. */

#include "client/cli.h"
#include "client/commands.h"
#include "common/util.h"

#define BIT(o) (1u << (o))

const struct option_row options[_OPT_MAX] = {
	[OPT_SOCKET] = {"socket", "PATH", "where dhashd listens ($DHASH_SOCKET, /run/dhashd.sock)",
			OPT_TEXT},
	[OPT_JSON] = {"json", NULL, "print the daemon's JSON instead of text", OPT_FLAG},
	[OPT_HELP] = {"help", NULL, "this help", OPT_FLAG, 'h'},
	[OPT_SERVICE] = {"service", "SERVICE", "the service, where several are guarded", OPT_NAME},
	[OPT_ENV] = {"env", "ENVIRONMENT", "the environment: staging, production, …", OPT_NAME},
	[OPT_TAG] = {"tag", "TAG", "the release to deploy, e.g. v1.2.3", OPT_RELEASE},
	[OPT_LEAD] = {"lead", "NAME", "who leads this deployment, e.g. @ops", OPT_TEXT},
	[OPT_REASON] = {"reason", "TEXT", "why, for the audit trail", OPT_TEXT},
	[OPT_BACKUP] = {"backup", "FILE", "the backup to go back to", OPT_TEXT},
	[OPT_TO] = {"to", "TAG", "the release to go back to", OPT_RELEASE},
	[OPT_LIMIT] = {"limit", "NUMBER", "at most so many", OPT_NUMBER},
	[OPT_WAIT] = {"wait", NULL, "wait for the end (the default)", OPT_FLAG},
	[OPT_NO_WAIT] = {"no-wait", NULL, "print the id and return at once", OPT_FLAG},
	[OPT_TIMEOUT] = {"timeout", "SPAN", "wait at most so long, e.g. 15min", OPT_SPAN},
	[OPT_SUPERSEDE] = {"supersede", NULL, "replace a deployment that is still live", OPT_FLAG},
	[OPT_WAIT_LOCK] = {"wait-lock", NULL, "wait for a live deployment to end, then begin",
			   OPT_FLAG},
	[OPT_DRY_RUN] = {"dry-run", NULL, "show the gates and the plan, change nothing", OPT_FLAG},
	[OPT_FORCE] = {"force", NULL, "override what refuses, without being asked", OPT_FLAG},
	[OPT_YES] = {"yes", NULL, "do not ask for confirmation", OPT_FLAG},
	[OPT_FOLLOW] = {"follow", NULL, "go on with what comes, until Ctrl-C", OPT_FLAG, 'f'},
	[OPT_GREP] = {"grep", "PATTERN", "only messages that match; without capitals, any case",
		      OPT_TEXT},
	[OPT_LINES] = {"lines", "NUMBER", "only so many, the newest", OPT_NUMBER, 'n'},
	[OPT_SINCE] = {"since", "TIME",
		       "only from then on: 15min (ago), \"2024-01-01 12:00\" (UTC)", OPT_TIME},
	[OPT_DIRECTORY] = {"directory", "FOLDER", "read a copied journal instead of this machine's",
			   OPT_TEXT},
};

const struct command commands[] = {
	{
		.name = "status",
		.words = "[SERVICE]",
		.max_words = 1,
		.options = BIT(OPT_ENV),
		.help = "what is deployed where, how it does, and what is asked of you",
		.more = "Exit status: 0 healthy, 1 degraded, 3 nothing deployed, 4 unknown.",
		.run = cmd_status,
	},
	{
		.name = "deploy",
		.options = BIT(OPT_ENV) | BIT(OPT_TAG) | BIT(OPT_SERVICE) | BIT(OPT_LEAD) |
			   BIT(OPT_WAIT) | BIT(OPT_NO_WAIT) | BIT(OPT_SUPERSEDE) |
			   BIT(OPT_WAIT_LOCK) | BIT(OPT_DRY_RUN) | BIT(OPT_FORCE) |
			   BIT(OPT_REASON) | BIT(OPT_YES) | BIT(OPT_TIMEOUT),
		.required = BIT(OPT_ENV) | BIT(OPT_TAG),
		.help = "deploy a release, and wait while it is watched",
		.more = "--force overrides gates that refuse, and needs --reason.\n"
			"Exit status: 0 succeeded, 1 refused or failed, 5 rolled back, 8 still "
			"running.",
		.run = cmd_deploy,
	},
	{
		.name = "rollback",
		.options = BIT(OPT_ENV) | BIT(OPT_SERVICE) | BIT(OPT_BACKUP) | BIT(OPT_TO) |
			   BIT(OPT_FORCE) | BIT(OPT_REASON) | BIT(OPT_YES) | BIT(OPT_WAIT) |
			   BIT(OPT_NO_WAIT) | BIT(OPT_TIMEOUT),
		.required = BIT(OPT_ENV),
		.help = "go back to what was there before, or to a backup or release",
		.more = "Without --yes or --force it asks for the environment's name on the "
			"terminal.\n"
			"--force also accepts a backup that cannot be verified.\n"
			"Exit status: 0 rolled back, 1 refused or failed, 8 still running.",
		.run = cmd_rollback,
	},
	{
		.name = "abort",
		.words = "ID | --env ENVIRONMENT",
		.max_words = 1,
		.options = BIT(OPT_ENV) | BIT(OPT_SERVICE) | BIT(OPT_REASON) | BIT(OPT_YES),
		.help = "stop a deployment before it has changed anything",
		.run = cmd_abort,
	},
	{
		.name = "watch",
		.words = "[ID | --env ENVIRONMENT]",
		.max_words = 1,
		.options = BIT(OPT_ENV) | BIT(OPT_SERVICE) | BIT(OPT_TIMEOUT),
		.help = "follow a deployment to its end, or everything that happens",
		.run = cmd_watch,
	},
	{
		.name = "explain",
		.words = "[ID]",
		.max_words = 1,
		.options = BIT(OPT_SERVICE) | BIT(OPT_ENV),
		.help = "why: the verdict now, or the decisions of a deployment, with evidence",
		.run = cmd_explain,
	},
	{
		.name = "history",
		.options = BIT(OPT_SERVICE) | BIT(OPT_ENV) | BIT(OPT_LIMIT),
		.help = "deployments, the newest first",
		.run = cmd_history,
	},
	{
		.name = "show",
		.words = "ID",
		.max_words = 1,
		.help = "everything that is known of one deployment",
		.run = cmd_show,
	},
	{
		.name = "logs",
		.words = "[ID]",
		.max_words = 1,
		.options = BIT(OPT_FOLLOW) | BIT(OPT_GREP) | BIT(OPT_LINES) | BIT(OPT_SINCE) |
			   BIT(OPT_ENV) | BIT(OPT_SERVICE) | BIT(OPT_DIRECTORY),
		.help = "what the journal has of dhashd and its hooks, or of one deployment",
		.more = "Without ID and --since, the newest 100.  dhashd need not run.\n"
			"Exit status: 0 shown, 1 no journal, 4 no record of that deployment, 77 "
			"not "
			"allowed.",
		.run = cmd_logs,
	},
	{
		.name = "backups",
		.words = "[list | verify]",
		.max_words = 1,
		.options = BIT(OPT_SERVICE) | BIT(OPT_ENV),
		.help = "list the backups, or verify them against their digests",
		.run = cmd_backups,
	},
	{
		.name = "config",
		.words = "check",
		.max_words = 1,
		.help = "check the configuration files that a reload would read",
		.run = cmd_config,
	},
	{
		.name = "version",
		.help = "versions of the client and the daemon",
		.run = cmd_version,
	},
	{
		.name = "help",
		.words = "[COMMAND]",
		.max_words = 1,
		.help = "this overview, or a command's options",
	},
};
const size_t commands_len = ARRAY_SIZE(commands);

bool
opt_global(enum opt o)
{
	return o == OPT_SOCKET || o == OPT_JSON || o == OPT_HELP;
}
