/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/util.h"

/* One step down, to a folder that is none by a link. */
static int
step_into(int at, const char *name)
{
	struct stat st;
	int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISLNK(st.st_mode))
		return -ELOOP;
	return -errno;
}

/* With O_PATH and O_NOFOLLOW the link itself is what is wanted. */
static int
open_last(int at, const char *name, int flags, int *ret_fd)
{
	struct stat st;
	int fd = openat(at, name, flags | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISLNK(st.st_mode))
		return -ELOOP;
	if (fd < 0)
		return -errno;
	if ((flags & O_PATH) && !(flags & O_NOFOLLOW) && fstat(fd, &st) == 0 &&
	    S_ISLNK(st.st_mode)) {
		close(fd);
		return -ELOOP;
	}
	*ret_fd = fd;
	return 0;
}

/*
 * The same step by step, where a filter of system calls refuses openat2(): RestrictSUIDSGID= does,
 * as it cannot see the mode.  Stricter in one point: ".." is refused wherever it leads.
 */
static int
walk(int dirfd, const char *path, int flags, int *ret_fd)
{
	size_t len = strcspn(path, "/"), gap = strspn(path + len, "/");
	char name[NAME_MAX + 1];
	int next, r;

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(name, sizeof name, "%.*s", len ? (int)len : 1, len ? path : ".");
	if (*path == '/' || streq(name, ".."))
		return -EXDEV;
	if (path[len + gap] == '\0')
		return open_last(dirfd, name, gap ? flags | O_DIRECTORY : flags, ret_fd);
	next = step_into(dirfd, name);
	if (next < 0)
		return next;
	r = walk(next, path + len + gap, flags, ret_fd);
	close(next);
	return r;
}

int
tree_open(int dirfd, const char *path, int flags, int *ret_fd)
{
	struct open_how how = {
		.flags = (unsigned)flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* RESOLVE_BENEATH may answer EAGAIN while something is renamed elsewhere: openat2(2). */
	do
		fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof how);
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	if (fd < 0 && errno == ENOSYS)
		return walk(dirfd, path, flags, ret_fd);
	if (fd < 0)
		return -errno;
	*ret_fd = (int)fd;
	return 0;
}

int
tree_open_parent(int dirfd, const char *path, int *ret_fd, const char **ret_leaf)
{
	const char *slash = strrchr(path, '/');
	char *parent = slash ? xasprintf("%.*s", (int)(slash - path), path) : xstrdup("");
	int r = tree_open(dirfd, parent, O_PATH | O_DIRECTORY, ret_fd);

	free(parent);
	if (r == 0)
		*ret_leaf = slash ? slash + 1 : path;
	return r;
}

int
tree_make(int dirfd, const char *path, mode_t mode, tree_made_fn *made, void *arg, int *ret_fd)
{
	size_t len = strcspn(path, "/");
	char name[NAME_MAX + 1];
	int at = -1, r;

	r = tree_open(dirfd, path, O_PATH | O_DIRECTORY, ret_fd);
	if (r != -ENOENT)
		return r;
	r = tree_open(dirfd, "", O_PATH | O_DIRECTORY, &at);
	for (const char *p = path; r == 0 && *p; p += len + (p[len] == '/')) {
		int next = -1;

		len = strcspn(p, "/");
		if (len >= sizeof name) {
			r = -ENAMETOOLONG;
			break;
		}
		memcpy(name, p, len);
		name[len] = '\0';
		if (mkdirat(at, name, mode) == 0) {
			if (made)
				made(path, (size_t)(p - path) + len, arg);
		} else if (errno != EEXIST) {
			r = -errno;
		}
		if (r == 0)
			r = tree_open(at, name, O_PATH | O_DIRECTORY, &next);
		close(at);
		at = next;
	}
	if (r < 0) {
		if (at >= 0)
			close(at);
		return r;
	}
	*ret_fd = at;
	return 0;
}

static int remove_at(int dirfd, const char *name);

static int
empty_folder(int fd /* owned */)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, d = readdir(dir)) != NULL)
		if (!streq(d->d_name, ".") && !streq(d->d_name, ".."))
			r = remove_at(fd, d->d_name);
	if (r == 0 && errno != 0)
		r = -errno;
	closedir(dir);
	return r;
}

/* A folder without rights for its owner cannot be emptied: give them first.  The name may become a
 * symbolic link meanwhile, which O_NOFOLLOW and fchmod on what was opened stand up to. */
static int
open_folder(int dirfd, const char *name, int *ret_fd)
{
	char self[40];
	int r, path_fd;

	r = tree_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, ret_fd);
	if (r != -EACCES)
		return r;
	r = tree_open(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, &path_fd);
	if (r < 0)
		return r;
	snprintf(self, sizeof self, "/proc/self/fd/%d", path_fd);
	r = chmod(self, 0700) < 0 ? -errno : tree_open(path_fd, "", O_RDONLY | O_DIRECTORY, ret_fd);
	close(path_fd);
	return r;
}

static int
remove_at(int dirfd, const char *name)
{
	struct stat st;
	int fd, r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	r = open_folder(dirfd, name, &fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700);
	r = empty_folder(fd);
	if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

int
tree_remove(int dirfd, const char *name)
{
	return remove_at(dirfd, name);
}

void
tree_random_name(char ret[9])
{
	unsigned v;

	/* Names need to be new, not secret; O_EXCL and mkdir notice a clash. */
	if (getrandom(&v, sizeof v, 0) != sizeof v)
		v = (unsigned)getpid();
	snprintf(ret, 9, "%08x", v);
}
