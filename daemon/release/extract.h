/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_EXTRACT_H
#define DHASH_RELEASE_EXTRACT_H

/*
 * Unpacks an archive into new folders, in two passes: extract_survey() looks at the whole of it and
 * refuses it whole; extract_unpack() writes.  Nothing that exists is opened for writing, followed
 * or replaced: the caller swaps the new trees in.
 */

#include <stdbool.h>

#include "daemon/release/reading.h"

/* Where what bears a name goes. */
struct extract_dest {
	const char *prefix;    /* the entry of this name and all below it; "" is everything */
	const char *leaf;      /* what that becomes in dirfd; "" with prefix "" */
	int dirfd;             /* a new folder of ours; not needed by the survey */
	int space_fd;          /* survey: any descriptor on the file system that will be written */
	unsigned long entries; /* survey: how many go here */
	int64_t bytes;         /* survey: what they take */
};

struct extract {
	struct source *source;
	enum reading_format format;
	const struct reading_limits *limits;
	const char *reserved;       /* an entry of this name is refused; may be NULL */
	bool owners;                /* give files to the users that the archive names; needs root */
	struct extract_dest *dests; /* entries that belong to none are left out */
	size_t n_dests;
};

/* -ENOSPC where a destination has not the room, else as reading_each(). */
int extract_survey(struct extract *x, char **ret_error);
int extract_unpack(struct extract *x, char **ret_error);

#endif
