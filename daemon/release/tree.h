/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_TREE_H
#define DHASH_RELEASE_TREE_H

/*
 * Walking and changing folders without ever following a symbolic link or leaving the folder that a
 * descriptor stands for: every path is resolved by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS),
 * or step by step to the same effect where that call is filtered out.
 */

#include <stdbool.h>
#include <sys/types.h>

/* Opens path below dirfd; "" is dirfd itself.  -ELOOP for a symbolic link on the way, -EXDEV for a
 * way out. */
int tree_open(int dirfd, const char *path, int flags, int *ret_fd);

/* The folder that holds path's last component; *ret_leaf points into path. */
int tree_open_parent(int dirfd, const char *path, int *ret_fd, const char **ret_leaf);

/*
 * Makes the folder `path` below dirfd and the missing ones above it, with `mode`, and opens it.
 * made() (may be NULL) hears of each folder that was missing, outermost first.
 */
typedef void tree_made_fn(const char *path, size_t len, void *arg);
int tree_make(int dirfd, const char *path, mode_t mode, tree_made_fn *made, void *arg, int *ret_fd);

/* Removes dirfd/name and all below it, whatever its permissions; 0 when there is nothing. */
int tree_remove(int dirfd, const char *name);

/* Eight random hexadecimal digits. */
void tree_random_name(char ret[9]);

#endif
