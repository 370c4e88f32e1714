/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_SWAP_H
#define DHASH_RELEASE_SWAP_H

/*
 * Putting a new tree in the place of an old one.  A stage is a folder beside the target, so on the
 * same file system:
 *
 *     .dhash-new-<stamp>/<leaf>   while it is being filled; rubbish after a crash
 *     .dhash-old-<stamp>/<leaf>   from just before the swap: first the new tree, after it the old
 * one
 *
 * The swap itself is one rename, which a crash leaves done or not done.  A stage is locked (flock)
 * while somebody works in it, so that cleaning up never takes one that is in use.
 */

#include <stdbool.h>
#include <stddef.h>

struct stage {
	int parent_fd, fd; /* owned */
	char name[64];
	const char *leaf;  /* borrowed */
	const char *shown; /* borrowed; the target's full path, for messages */
	bool swapped, had_old;
};

/* Takes parent_fd over, also on failure.  Removes the rubbish of crashed restores first. */
int stage_init(struct stage *s, int parent_fd, const char *leaf, const char *shown,
	       const char *stamp, char **ret_error);
/* Removes the stage with what is in it unless it has been swapped and is kept. */
void stage_done(struct stage *s, bool keep);

/* To be called when stage->fd/leaf is complete: everything below reaches the disk. */
int stage_sync(struct stage *s, char **ret_error);
/* Swaps all of them, or none: when one fails those before it are swapped back. */
int stages_swap(struct stage *v, size_t n, char **ret_error);
/* Removes what earlier restores kept of this target. */
void stage_remove_older(const struct stage *s);

#endif
