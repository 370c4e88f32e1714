/* SPDX-License-Identifier: Apache-2.0 */
/* dhashd: options and environment; everything else is in daemon.c. */

#include <errno.h>
#include <getopt.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/daemon.h"

enum { OPT_STATE = 256, OPT_SOCKET, OPT_HOOK_UNITS, OPT_VERSION, OPT_HELP };

static const struct option long_options[] = {
	{"test", no_argument, NULL, 't'},
	{"config", required_argument, NULL, 'c'},
	{"state", required_argument, NULL, OPT_STATE},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"hook-units", no_argument, NULL, OPT_HOOK_UNITS},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static const char usage_text[] =
	"usage: dhashd [-t] [-c CONFDIR] [--state DIR] [--socket PATH] [--hook-units]\n"
	"              [--version]\n"
	"  -t, --test      check the configuration and exit: 0 good, 78 not\n"
	"  -c, --config    folder of dhashd.conf; default $CONFIGURATION_DIRECTORY "
	"or " DHASH_SYSCONFDIR "/dhashd\n"
	"  --state         folder of the database, sessions and backups; default $STATE_DIRECTORY "
	"or\n"
	"                  /var/lib/dhashd\n"
	"  --socket        control socket; default /run/dhashd.sock\n"
	"  --hook-units    run hooks as units dhash-hook@... of systemd, not as children\n";

static const char *
from_environment(const char *name, const char *otherwise)
{
	const char *v = getenv(name);

	return v && *v ? v : otherwise;
}

/* Paths go to hooks and into the database: they must mean the same from any folder. */
static const char *
absolute(const char *path)
{
	char *cwd, *whole;

	if (path[0] == '/')
		return path;
	cwd = getcwd(NULL, 0);
	if (!cwd) {
		fprintf(stderr,
			"dhashd: cannot tell the working directory of %s: %s; use an absolute "
			"path\n",
			path, strerror(errno));
		exit(EX_USAGE);
	}
	whole = xasprintf("%s/%s", cwd, path);
	free(cwd);
	return whole;
}

static int
test_configuration(const char *confdir)
{
	struct conf_errors errors = {0};
	struct conf *conf = NULL;
	int r = conf_load(confdir, &conf, &errors);

	for (size_t i = 0; i < errors.n; i++) {
		const struct conf_error *e = &errors.v[i];

		if (e->line)
			fprintf(stderr, "%s:%u: %s\n", e->file, e->line, e->text);
		else
			fprintf(stderr, "%s: %s\n", e->file, e->text);
	}
	if (r == 0) {
		unsigned n = 0;

		while (conf->envs[n])
			n++;
		printf("%s: configuration is good, %u environment%s\n", confdir, n,
		       n == 1 ? "" : "s");
	} else {
		fprintf(stderr, "%s: %zu error%s\n", confdir, errors.n, errors.n == 1 ? "" : "s");
	}
	conf_errors_free(&errors);
	conf_free(conf);
	return r == 0 ? EX_OK : EX_CONFIG;
}

int
main(int argc, char **argv)
{
	struct daemon_options o = {
		.confdir = from_environment("CONFIGURATION_DIRECTORY", DHASH_SYSCONFDIR "/dhashd"),
		.state_dir = from_environment("STATE_DIRECTORY", "/var/lib/dhashd"),
		.socket_path = "/run/dhashd.sock",
	};
	bool test = false;
	int c;

	while ((c = getopt_long(argc, argv, "tc:h", long_options, NULL)) != -1) {
		switch (c) {
		case 't':
			test = true;
			break;
		case 'c':
			o.confdir = absolute(optarg);
			break;
		case OPT_STATE:
			o.state_dir = absolute(optarg);
			break;
		case OPT_SOCKET:
			o.socket_path = absolute(optarg);
			break;
		case OPT_HOOK_UNITS:
			o.hook_units = true;
			break;
		case OPT_VERSION:
			puts("dhashd " DHASH_VERSION);
			return EX_OK;
		case 'h':
		case OPT_HELP:
			fputs(usage_text, stdout);
			return EX_OK;
		default:
			fputs(usage_text, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "dhashd: unexpected argument: %s\n%s", argv[optind], usage_text);
		return EX_USAGE;
	}
	if (test)
		return test_configuration(o.confdir);
	log_init("dhashd");
	return daemon_run(&o);
}
