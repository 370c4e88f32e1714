/* SPDX-License-Identifier: Apache-2.0 */
/* From the command line to the command's function; help. */

#include "client/cli.h"

#include <errno.h>

#include "client/client.h"
#include "client/conn.h"
#include "common/util.h"

/* --- help ------------------------------------------------------------------------------------ */

static void
help_option(enum opt o)
{
	const struct option_row *row = &options[o];
	char letter[] = {'-', row->letter, ',', ' ', '\0'};
	char *left = xasprintf("%s--%s%s%s", row->letter ? letter : "", row->name,
			       row->arg ? " " : "", row->arg ? row->arg : "");

	printf("  %-20s  %s\n", left, row->help);
	free(left);
}

void
help_overview(void)
{
	puts("usage: dhash COMMAND [ARGUMENT] [--OPTION…]\n\ncommands:");
	for (size_t i = 0; i < commands_len; i++)
		printf("  %-10s  %s\n", commands[i].name, commands[i].help);
	puts("\noptions of every command:");
	for (int i = 0; i < _OPT_MAX; i++)
		if (opt_global(i))
			help_option(i);
	puts("\ndhash help COMMAND says more; the manual: man dhash.");
}

void
help_command(const struct command *c)
{
	printf("usage: dhash %s%s%s", c->name, c->words ? " " : "", c->words ? c->words : "");
	for (int i = 0; i < _OPT_MAX; i++)
		if (c->required & (1u << i))
			printf(" --%s %s", options[i].name, options[i].arg);
	printf("%s\n\n%s\n\noptions:\n", c->options & ~c->required ? " [--OPTION…]" : "", c->help);
	for (int i = 0; i < _OPT_MAX; i++)
		if (c->options & (1u << i) || opt_global(i))
			help_option(i);
	if (c->more)
		printf("\n%s\n", c->more);
}

/* `dhash help COMMAND` is `dhash COMMAND --help`. */
static int
help(const struct args *a, const char *topic)
{
	const struct command *c = a->command;

	if (topic) {
		char *const argv[] = {NULL, (char *)topic, (char *)"--help", NULL};
		struct args found;
		char *error;

		if (args_parse(3, argv, &found, &error) < 0) {
			fprintf(stderr, "dhash: %s\n", error);
			free(error);
			return EXIT_USAGE;
		}
		c = found.command;
	}
	if (c && (topic || !streq(c->name, "help")))
		help_command(c);
	else
		help_overview();
	return EXIT_OK;
}

/* --- running --------------------------------------------------------------------------------- */

static const char *
socket_path(const struct args *a)
{
	const char *path = getenv("DHASH_SOCKET");

	if (given(a, OPT_SOCKET))
		return a->value[OPT_SOCKET];
	return path && *path ? path : "/run/dhashd.sock";
}

static int
run(const struct args *a)
{
	struct client c = {.args = a, .socket = socket_path(a)};
	int r = conn_new(c.socket, &c.conn), code;

	out_init(&c.out, given(a, OPT_JSON));
	if (r < 0) {
		out_error(&c.out, "cannot use socket %s: %s", c.socket, strerror(-r));
		return r == -ENAMETOOLONG ? EXIT_USAGE : EXIT_FAILED;
	}
	code = a->command->run(&c, a);
	conn_free(c.conn);
	r = out_finish(&c.out);
	if (r < 0) {
		out_error(&c.out, "cannot write the output: %s", strerror(-r));
		return EXIT_FAILED;
	}
	return code;
}

/* A line that is not understood may still ask for JSON, and its command may be known. */
static int
misused(int argc, char *const *argv, const char *error)
{
	const struct command *c = NULL;
	struct out o;
	bool json = false;

	for (int i = 1; i < argc && !streq(argv[i], "--"); i++) {
		json = json || streq(argv[i], "--json");
		for (size_t j = 0; !c && j < commands_len; j++)
			c = commands[j].run && streq(argv[i], commands[j].name) ? &commands[j]
										: NULL;
	}
	out_init(&o, json);
	out_error(&o, "%s", error);
	if (c)
		out_hint(&o, "dhash help %s lists its options", c->name);
	else
		out_hint(&o, "dhash help lists the commands and options");
	return EXIT_USAGE;
}

int
cli_main(int argc, char **argv)
{
	struct args a;
	char *error = NULL;
	int code;

	if (args_parse(argc, argv, &a, &error) < 0) {
		code = misused(argc, argv, error);
		free(error);
		return code;
	}
	if (!a.command && !given(&a, OPT_HELP))
		return misused(argc, argv, "which command?");
	if (given(&a, OPT_HELP))
		return help(&a, NULL);
	if (!a.command->run)
		return help(&a, a.n_words > 0 ? a.word[0] : NULL);
	return run(&a);
}
