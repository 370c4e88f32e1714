/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_PATHS_H
#define DHASH_RELEASE_PATHS_H

/*
 * What BackupPaths= means, in one place for backup and restore: the name of each path inside the
 * archive, and the folder from which it is reached without following a symbolic link.
 */

#include <stdbool.h>
#include <stddef.h>

struct path_item {
	char *name; /* owned; inside the archive, and below dirfd */
	char *full; /* owned; for messages and comparison */
	int dirfd;  /* the plan's */
};

struct path_plan {
	int root_fd, slash_fd;
	char *root;          /* owned; without symbolic links */
	struct path_item *v; /* owned */
	size_t n;
};

/*
 * Relative paths and those below root are named relative to it, others without their leading '/';
 * "." is root itself.  A path inside another one is dropped.  -EINVAL for "..", "/" or no path.
 */
int paths_plan(const char *root, char *const *paths, struct path_plan *ret, char **ret_error);
void paths_done(struct path_plan *p);

/* Is `full` (without symbolic links) a path of the plan or inside one?  Gives that one, or NULL. */
const struct path_item *paths_holding(const struct path_plan *p, const char *full);

/* Opens the folder that holds an item; with `make`, makes it. *ret_leaf points into the item. */
int paths_open_parent(const struct path_item *i, bool make, int *ret_fd, const char **ret_leaf,
		      char **ret_error);

#endif
