/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_CLI_H
#define DHASH_CLIENT_CLI_H

/*
 * The command line: one table of options, one of commands.  The parser, the help, the manual page's
 * test and the completions' test all read these tables.
 */

#include <stdbool.h>
#include <stddef.h>

struct client;

enum opt {
	OPT_SOCKET,
	OPT_JSON,
	OPT_HELP,
	OPT_SERVICE,
	OPT_ENV,
	OPT_TAG,
	OPT_LEAD,
	OPT_REASON,
	OPT_BACKUP,
	OPT_TO,
	OPT_LIMIT,
	OPT_WAIT,
	OPT_NO_WAIT,
	OPT_TIMEOUT,
	OPT_SUPERSEDE,
	OPT_WAIT_LOCK,
	OPT_DRY_RUN,
	OPT_FORCE,
	OPT_YES,
	OPT_FOLLOW,
	OPT_GREP,
	OPT_LINES,
	OPT_SINCE,
	OPT_DIRECTORY,
	_OPT_MAX,
};

enum opt_type {
	OPT_FLAG,
	OPT_TEXT,
	OPT_NAME, /* of a service or an environment */
	OPT_RELEASE,
	OPT_SPAN,
	OPT_NUMBER,
	OPT_TIME, /* text_parse_moment() */
};

struct option_row {
	const char *name, *arg, *help;
	enum opt_type type;
	char letter; /* "-n" is short for it; '\0' = none */
};
extern const struct option_row options[_OPT_MAX];

enum { WORDS_MAX = 2 };

struct args {
	const struct command *command;
	const char *value[_OPT_MAX]; /* NULL = not given; flags: "" */
	const char *word[WORDS_MAX];
	unsigned n_words;
};

struct command {
	const char *name;
	const char *words; /* for people: "[SERVICE]" */
	unsigned max_words;
	unsigned options;  /* bits of enum opt, beside the global ones */
	unsigned required; /* bits of enum opt */
	const char *help;  /* one line */
	const char *more;  /* further lines of `dhash help COMMAND`, or NULL */
	int (*run)(struct client *c, const struct args *a); /* returns an exit code */
};
extern const struct command commands[];
extern const size_t commands_len;

/* Options that every command takes. */
bool opt_global(enum opt o);

/* Returns 0, or -EINVAL with what is wrong, and the right way near it, in *ret_error (owned). */
int args_parse(int argc, char *const *argv, struct args *ret, char **ret_error);

static inline bool
given(const struct args *a, enum opt o)
{
	return a->value[o] != NULL;
}

int cli_main(int argc, char **argv);

/* What dhash help prints. */
void help_overview(void);
void help_command(const struct command *c);

#endif
