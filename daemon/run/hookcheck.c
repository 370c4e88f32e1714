/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a hook could be run, before it must be.  It answers as of now and for this user; the
 * runner reports the truth when the time comes.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/run/hook.h"
#include "daemon/run/program.h"

enum { WRITABLE = S_IWGRP | S_IWOTH };

static int
check_file(const char *name, const char *path, char **ret_why)
{
	struct stat st;
	int r = 0;

	if (stat(path, &st) < 0)
		r = -errno;
	else if (S_ISDIR(st.st_mode))
		r = -EISDIR;
	else if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		r = -EACCES;
	if (r < 0) {
		*ret_why = program_explain(name, path, -r);
		return r;
	}
	if (st.st_mode & WRITABLE) {
		*ret_why = xasprintf("%s: others may change it (mode %04o); chmod go-w %s", name,
				     st.st_mode & 07777, path);
		return -EPERM;
	}
	return 0;
}

/* Who may write the folder may put another file in the script's place; unless it is sticky. */
static int
check_folder(const char *name, const char *path, char **ret_why)
{
	const char *slash = strrchr(path, '/');
	char *folder = xasprintf("%.*s", (int)MAX(1, slash - path), path);
	struct stat st;
	int r = 0;

	if (stat(folder, &st) < 0) {
		r = -errno;
		*ret_why = xasprintf("%s: %s: %s", name, folder, strerror(errno));
	} else if ((st.st_mode & WRITABLE) && !(st.st_mode & S_ISVTX)) {
		r = -EPERM;
		*ret_why = xasprintf("%s: others may replace it, as they may write to its folder "
				     "(mode %04o); chmod go-w %s",
				     name, st.st_mode & 07777, folder);
	}
	free(folder);
	return r;
}

/* Whoever may write a folder further up may put another tree in its place.  Of those only the ones
 * open to everybody are refused: a group of their own is what deployers share. */
static int
check_folders_above(const char *name, const char *real, char **ret_why)
{
	char *path = xstrdup(real), *slash;
	struct stat st;
	int r = 0;

	while (r == 0 && (slash = strrchr(path, '/')) != NULL) {
		*slash = '\0';
		if (stat(*path ? path : "/", &st) < 0 || !(st.st_mode & S_IWOTH) ||
		    (st.st_mode & S_ISVTX))
			continue;
		r = -EPERM;
		*ret_why =
			xasprintf("%s: anybody may replace it, as all may write to %s (mode "
				  "%04o); chmod o-w %s",
				  name, *path ? path : "/", st.st_mode & 07777, *path ? path : "/");
	}
	free(path);
	return r;
}

static int
check_interpreter(const char *name, const char *path, char **ret_why)
{
	char interpreter[INTERPRETER_MAX];
	enum program_kind kind;

	/* What may be executed but not read is taken as it is. */
	if (program_inspect(path, &kind, interpreter) < 0)
		return 0;
	if (kind == PROGRAM_TEXT) {
		*ret_why = program_explain(name, path, ENOEXEC);
		return -ENOEXEC;
	}
	if (kind == PROGRAM_SCRIPT && access(interpreter, X_OK) < 0) {
		*ret_why = program_explain(name, path, ENOENT);
		return -ENOENT;
	}
	return 0;
}

static int
check_path(const char *name, const char *path, char **ret_why)
{
	char *real;
	int r = check_file(name, path, ret_why);

	if (r == 0)
		r = check_folder(name, path, ret_why);
	if (r < 0)
		return r;
	/* A symbolic link leads to a second folder. */
	real = realpath(path, NULL);
	if (real)
		r = check_folder(name, real, ret_why);
	if (real && r == 0)
		r = check_folders_above(name, real, ret_why);
	free(real);
	return r < 0 ? r : check_interpreter(name, path, ret_why);
}

int
hook_check(char *const *argv, const char *directory, char **ret_why)
{
	char *path;
	int r;

	if (!argv || !argv[0] || argv[0][0] == '\0') {
		*ret_why = xstrdup("the hook names no command");
		return -EINVAL;
	}
	path = program_resolve(argv[0], directory);
	r = check_path(argv[0], path, ret_why);
	free(path);
	return r;
}

/* --- owners ------------------------------------------------------------------------------- */

static int
owner_fault(const char *name, const char *path, uid_t uid, char **ret_why)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		*ret_why = xasprintf("%s: %s: %s", name, path, strerror(errno));
		return -errno;
	}
	if (st.st_uid == 0 || st.st_uid == uid)
		return 0;
	*ret_why = xasprintf("%s: %s belongs to user %u, who could replace it: it must belong to "
			     "root or to the user that the hook is run as; chown it, or set User=",
			     name, path, (unsigned)st.st_uid);
	return -EPERM;
}

int
hook_check_owner(char *const *argv, const char *directory, uid_t uid, char **ret_why)
{
	char *path = program_resolve(argv[0], directory), *real = realpath(path, NULL), *slash;
	int r;

	if (!real) {
		r = -errno;
		*ret_why = program_explain(argv[0], path, -r);
		free(path);
		return r;
	}
	r = owner_fault(argv[0], real, uid, ret_why);
	while (r == 0 && (slash = strrchr(real, '/')) != NULL) {
		*slash = '\0';
		r = owner_fault(argv[0], *real ? real : "/", uid, ret_why);
	}
	free(real);
	free(path);
	return r;
}
