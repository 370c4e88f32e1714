/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_PROGRAM_H
#define DHASH_RUN_PROGRAM_H

/* Which file a hook's first word names, and what the kernel would make of it. */

#include <stdbool.h>

/*
 * The path of the program (owned): an absolute name is itself; one with a slash is taken from
 * `directory` (NULL = "/"); a bare one too when it is there, else it is looked for in the fixed
 * search path of the system, as systemd does, never in $PATH.
 */
char *program_resolve(const char *name, const char *directory);

enum { INTERPRETER_MAX = 256 }; /* the kernel reads no further */

enum program_kind {
	PROGRAM_SCRIPT, /* "#!": interpreter is filled in */
	PROGRAM_TEXT,   /* looks like a script, but its first line does not say whose */
	PROGRAM_BINARY, /* all else: the kernel decides */
};
/* Looks at the first bytes.  Returns 0 or -errno. */
int
program_inspect(const char *path, enum program_kind *ret, char ret_interpreter[INTERPRETER_MAX]);

/* Why execve() of it failed, for people: "scripts/deploy.sh: Permission denied; chmod +x it"
 * (owned).  name is as configured, path as resolved. */
char *program_explain(const char *name, const char *path, int error);

#endif
