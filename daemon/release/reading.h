/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_READING_H
#define DHASH_RELEASE_READING_H

/*
 * Reading an archive entry by entry, in one way for verification, restore and engine: each entry is
 * checked before anybody sees it, and what comes out is counted against limits while it comes.
 * Nothing here writes.  Callers go over an archive once to look and, only if the whole of it is in
 * order, once more to unpack; struct source sees to it that both see the same bytes.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "daemon/release/source.h"

enum reading_format {
	READING_ZIP,     /* our own backups */
	READING_RELEASE, /* tar in any compression that libarchive does itself, or zip */
};

enum entry_kind { ENTRY_FILE, ENTRY_FOLDER, ENTRY_SYMLINK, ENTRY_HARDLINK };

struct entry {
	const char *name; /* in one form: see name_normalise() */
	enum entry_kind kind;
	const char *link; /* symlink: its text; hardlink: the other name, in one form */
	mode_t mode;      /* the nine bits */
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	int64_t size;
};

struct reading_limits {
	unsigned long max_entries;
	int64_t max_bytes;  /* unpacked, all in all */
	unsigned max_ratio; /* unpacked to packed, beyond 16 MiB; 0 = any */
	bool links_out;     /* symbolic links may point anywhere */
	bool hardlinks;
};

/* What nobody vouches for: 1,000,000 entries, 64 GiB, 200 to 1, links inside only. */
extern const struct reading_limits reading_strict;

struct reading;
/* Returns 0 to go on, or what reading_fail() returned. */
typedef int reading_fn(struct reading *r, const struct entry *e, void *arg);

/*
 * Calls fn for each entry, in the archive's order.  -EBADMSG: damaged, or no such archive; -EPERM:
 * holds something that is refused; -EFBIG: over a limit; -ECANCELED; else what fn returned.
 */
int reading_each(struct source *s, enum reading_format format, const struct reading_limits *limits,
		 reading_fn *fn, void *arg, char **ret_error);

/* Within fn, for a file: 1 and the next piece (its place in the file is *ret_offset; places may be
 * left out, which are zeros), 0 at the end, or negative as fn must return it. */
int reading_data(struct reading *r, const void **ret, size_t *ret_len, int64_t *ret_offset);

/* Within fn: sets the sentence, as fail_errno() does, and returns error. */
__attribute__((format(printf, 3, 4))) int
reading_fail(struct reading *r, int error, const char *fmt, ...);

/* A reading_fn that reads the data and drops it: checksums are compared on the way. */
int reading_drop(struct reading *r, const struct entry *e, void *arg);

#endif
