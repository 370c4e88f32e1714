/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/current.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/tree.h"

static const char releases[] = "releases/";

int
current_read(int base_fd, const char *base, char **ret_tag, char **ret_error)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(base_fd, "current", target, sizeof target - 1);

	if (n < 0 && errno == ENOENT)
		return -ENOENT;
	if (n < 0 && errno == EINVAL)
		return fail(
			ret_error, -EEXIST,
			"%s/current is not a symbolic link; move it to %s/releases/NAME and run: "
			"ln -s releases/NAME %s/current",
			base, base, base);
	if (n < 0)
		return fail_errno(ret_error, -errno, "cannot read %s/current", base);
	target[n] = '\0';
	if (strncmp(target, releases, strlen(releases)) != 0 ||
	    !tag_valid(target + strlen(releases)))
		return fail(ret_error, -EINVAL,
			    "%s/current points to %s, which is not releases/NAME; move that to "
			    "%s/releases/NAME and run: ln -sfn releases/NAME %s/current",
			    base, target, base, base);
	*ret_tag = xstrdup(target + strlen(releases));
	return 0;
}

static int
rename_over(int base_fd, const char *temporary)
{
	int fd, r = 0;

	if (renameat(base_fd, temporary, base_fd, "current") < 0)
		return -errno;
	fd = openat(base_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

int
current_point(int base_fd, const char *base, const char *tag, char **ret_error)
{
	char *target = xasprintf("%s%s", releases, tag), suffix[9], temporary[40];
	int r;

	do {
		tree_random_name(suffix);
		snprintf(temporary, sizeof temporary, ".current-%s", suffix);
		r = symlinkat(target, base_fd, temporary) < 0 ? -errno : 0;
	} while (r == -EEXIST);
	if (r == 0) {
		r = rename_over(base_fd, temporary);
		if (r < 0)
			unlinkat(base_fd, temporary, 0);
	}
	if (r < 0)
		fail_errno(ret_error, r, "cannot point %s/current to %s", base, target);
	free(target);
	return r;
}
