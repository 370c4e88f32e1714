/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/program.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"

static const char *const search_path[] = {
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
};

char *
program_resolve(const char *name, const char *directory)
{
	const char *base = directory ? directory : "";
	char *here;

	if (name[0] == '/')
		return xstrdup(name);
	here = xasprintf("%s/%s", base, name);
	if (strchr(name, '/') || access(here, F_OK) == 0)
		return here;
	for (size_t i = 0; i < ARRAY_SIZE(search_path); i++) {
		char *there = xasprintf("%s/%s", search_path[i], name);

		if (access(there, X_OK) == 0) {
			free(here);
			return there;
		}
		free(there);
	}
	return here;
}

static int
read_head(const char *path, char head[INTERPRETER_MAX], size_t *ret_n)
{
	/* O_NONBLOCK: a FIFO in the script's place must not hold us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, head, INTERPRETER_MAX - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return (int)n;
	head[n] = '\0';
	*ret_n = (size_t)n;
	return 0;
}

static bool
looks_like_text(const char *head, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)head[i];

		if ((c < 0x20 && !strchr("\t\n\r\f", c)) || c == 0x7f || c == '\0')
			return false;
	}
	return true;
}

int
program_inspect(const char *path, enum program_kind *ret, char ret_interpreter[INTERPRETER_MAX])
{
	char head[INTERPRETER_MAX], *p;
	size_t n = 0;
	int r = read_head(path, head, &n);

	if (r < 0)
		return r;
	if (n < 2 || head[0] != '#' || head[1] != '!') {
		*ret = looks_like_text(head, n) ? PROGRAM_TEXT : PROGRAM_BINARY;
		return 0;
	}
	/* As the kernel splits it: blanks, the interpreter up to a blank, the rest one argument. A
	 * carriage return belongs to the name. */
	p = head + 2 + strspn(head + 2, " \t");
	p[strcspn(p, " \t\n")] = '\0';
	str_copy(ret_interpreter, INTERPRETER_MAX, p);
	*ret = PROGRAM_SCRIPT;
	return 0;
}

static char *
explain_missing(const char *name, const char *path)
{
	char interpreter[INTERPRETER_MAX];
	enum program_kind kind;
	size_t n;

	if (access(path, F_OK) < 0)
		return xasprintf("%s: there is no %s", name, path);
	if (program_inspect(path, &kind, interpreter) < 0 || kind != PROGRAM_SCRIPT)
		return xasprintf("%s: the loader it asks for is missing (made for another system?)",
				 name);
	n = strlen(interpreter);
	if (n > 0 && interpreter[n - 1] == '\r')
		return xasprintf("%s: its lines end in CR LF, so its interpreter is not found; "
				 "convert it with dos2unix",
				 name);
	return xasprintf("%s: its interpreter %s (first line of the script) does not exist", name,
			 interpreter);
}

static char *
explain_denied(const char *name, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return xasprintf("%s: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return xasprintf("%s: is no regular file", name);
	if (!(st.st_mode & 0111))
		return xasprintf("%s: Permission denied; chmod +x it", name);
	return xasprintf("%s: Permission denied for the user that hooks run as, or its file system "
			 "is mounted noexec",
			 name);
}

char *
program_explain(const char *name, const char *path, int error)
{
	switch (error) {
	case ENOENT:
		return explain_missing(name, path);
	case EACCES:
		return explain_denied(name, path);
	case ENOEXEC:
		return xasprintf("%s: the kernel does not know how to run it; the first line of a "
				 "script must name its interpreter, as #!/bin/sh does",
				 name);
	default:
		return xasprintf("%s: %s", name, strerror(error));
	}
}
