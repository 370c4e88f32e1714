/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/swap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/tree.h"

static const char new_prefix[] = ".dhash-new-", old_prefix[] = ".dhash-old-";

static bool
begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* --- leftovers -------------------------------------------------------------------------------- */

/* Nobody else works in it: takes its lock, which closing the descriptor gives back. */
static int
open_unused(int dirfd, const char *name)
{
	int fd;

	if (tree_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, &fd) < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
remove_new(int dirfd, const char *name)
{
	int fd = open_unused(dirfd, name);

	if (fd < 0)
		return;
	(void)tree_remove(dirfd, name);
	close(fd);
}

/* Other targets in the same folder may keep theirs in a stage of the same moment. */
static void
remove_old(int dirfd, const char *name, const char *leaf)
{
	int fd = open_unused(dirfd, name);

	if (fd < 0)
		return;
	(void)tree_remove(fd, leaf);
	(void)unlinkat(dirfd, name, AT_REMOVEDIR);
	close(fd);
}

/* Calls for each name in parent_fd that begins with prefix.  Cleaning up is done as well as it
 * goes: what cannot be removed stays, and hurts nobody. */
static void
each_leftover(const struct stage *s, const char *prefix)
{
	int fd;
	struct dirent *d;
	DIR *dir;

	if (tree_open(s->parent_fd, "", O_RDONLY | O_DIRECTORY, &fd) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (!begins(d->d_name, prefix) || streq(d->d_name, s->name))
			continue;
		if (prefix == new_prefix)
			remove_new(fd, d->d_name);
		else
			remove_old(fd, d->d_name, s->leaf);
	}
	closedir(dir);
}

void
stage_remove_older(const struct stage *s)
{
	each_leftover(s, old_prefix);
}

/* --- one stage -------------------------------------------------------------------------------- */

/* Between mkdir and flock a cleaner may take it away: then the name no longer is our folder. */
static int
make_locked(struct stage *s)
{
	struct stat mine, named;

	if (mkdirat(s->parent_fd, s->name, 0700) < 0)
		return -errno;
	s->fd = openat(s->parent_fd, s->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(s->fd, LOCK_EX | LOCK_NB) == 0 && fstat(s->fd, &mine) == 0 &&
	    fstatat(s->parent_fd, s->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    mine.st_ino == named.st_ino && mine.st_dev == named.st_dev)
		return 0;
	close(s->fd);
	s->fd = -1;
	return -EAGAIN;
}

int
stage_init(struct stage *s, int parent_fd, const char *leaf, const char *shown, const char *stamp,
	   char **ret_error)
{
	char suffix[9];
	int r;

	*s = (struct stage){.parent_fd = parent_fd, .fd = -1, .leaf = leaf, .shown = shown};
	each_leftover(s, new_prefix);
	do {
		tree_random_name(suffix);
		snprintf(s->name, sizeof s->name, "%s%s-%s", new_prefix, stamp, suffix);
		r = make_locked(s);
	} while (r == -EAGAIN || r == -EEXIST);
	if (r == 0)
		return 0;
	close(parent_fd);
	s->parent_fd = -1;
	return fail_errno(ret_error, r,
			  "cannot make a folder beside %s (the daemon's user needs write access to "
			  "the folder that holds it)",
			  shown);
}

void
stage_done(struct stage *s, bool keep)
{
	if (s->fd >= 0) {
		if (!keep || !s->had_old)
			(void)tree_remove(s->parent_fd, s->name);
		close(s->fd);
	}
	if (s->parent_fd >= 0)
		close(s->parent_fd);
	s->fd = s->parent_fd = -1;
}

int
stage_sync(struct stage *s, char **ret_error)
{
	if (syncfs(s->fd) < 0)
		return fail_errno(ret_error, -errno, "cannot write the new %s to disk", s->shown);
	return 0;
}

/* --- the swap --------------------------------------------------------------------------------- */

/* From here on a crash may leave the old tree in the stage: it gets the name of one. */
static int
rename_to_old(struct stage *s)
{
	char name[sizeof s->name];

	snprintf(name, sizeof name, "%s%s", old_prefix, s->name + strlen(new_prefix));
	if (renameat2(s->parent_fd, s->name, s->parent_fd, name, RENAME_NOREPLACE) < 0)
		return -errno;
	memcpy(s->name, name, sizeof name);
	return 0;
}

static int
swap_in(struct stage *s)
{
	int r = rename_to_old(s);

	if (r < 0)
		return r;
	s->had_old = true;
	if (renameat2(s->fd, s->leaf, s->parent_fd, s->leaf, RENAME_EXCHANGE) < 0) {
		s->had_old = false;
		if (errno != ENOENT ||
		    renameat2(s->fd, s->leaf, s->parent_fd, s->leaf, RENAME_NOREPLACE) < 0)
			return -errno;
	}
	s->swapped = true;
	return 0;
}

static int
swap_back(struct stage *s)
{
	unsigned flags = s->had_old ? RENAME_EXCHANGE : RENAME_NOREPLACE;

	if (!s->swapped)
		return 0;
	if (renameat2(s->parent_fd, s->leaf, s->fd, s->leaf, flags) < 0)
		return -errno;
	s->swapped = s->had_old = false;
	return 0;
}

static int
not_swapped(struct stage *v, size_t n, int error, char **ret_error)
{
	const char *hint = error == -EBUSY || error == -EXDEV
				   ? " (it is a mount point: name the paths inside it instead)"
				   : "";
	int r;

	for (size_t i = n; i > 0; i--) {
		r = swap_back(&v[i - 1]);
		if (r < 0)
			return fail_errno(
				ret_error, r,
				"cannot put the new %s in its place%s, and cannot put the "
				"old %s back, which lies in %s beside it",
				v[n].shown, hint, v[i - 1].shown, v[i - 1].name);
	}
	return fail_errno(ret_error, error,
			  "cannot put the new %s in its place%s; nothing was changed", v[n].shown,
			  hint);
}

/* The folder that holds a target is on disk with the new name in it before success is reported. */
static int
sync_folders(struct stage *s)
{
	int fd, r = tree_open(s->parent_fd, "", O_RDONLY | O_DIRECTORY, &fd);

	if (r < 0)
		return r;
	if (fsync(s->fd) < 0 || fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

int
stages_swap(struct stage *v, size_t n, char **ret_error)
{
	for (size_t i = 0; i < n; i++) {
		int r = swap_in(&v[i]);

		if (r < 0)
			return not_swapped(v, i, r, ret_error);
	}
	for (size_t i = 0; i < n; i++) {
		int r = sync_folders(&v[i]);

		if (r < 0)
			return fail_errno(ret_error, r,
					  "%s is in its place, but its folder cannot be written to "
					  "disk; check the disk and restore again",
					  v[i].shown);
	}
	return 0;
}
