/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_SOURCE_H
#define DHASH_RELEASE_SOURCE_H

/*
 * An archive file, opened once: its digest and its contents come from the same descriptor.  With
 * `remember`, source_digest() also keeps a digest of each block, and every block that is read later
 * is compared with it: a file that somebody changes after it was judged, even for a moment, is
 * noticed before its bytes are used.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/release/digest.h"

enum { SOURCE_BLOCK = 256 * 1024 };

struct source {
	int fd;
	int64_t size, pos;
	char *path;         /* owned; for messages */
	uint8_t *tags;      /* owned; DIGEST_BYTES a block, or NULL */
	uint8_t *block;     /* owned; SOURCE_BLOCK bytes */
	struct digest *sha; /* owned */
	const atomic_bool *cancelled;
	int error; /* why source_read() failed: -EBADMSG changed, -ECANCELED, -errno */
};

/* Regular files only; a FIFO in the file's place is refused without waiting for a writer. */
int
source_open(const char *path, const atomic_bool *cancelled, struct source **ret, char **ret_error);
void source_free(struct source *s);

/* Reads the whole file once. */
int source_digest(struct source *s, bool remember, char ret_hex[DIGEST_HEX], char **ret_error);

/* The bytes from s->pos to the end of its block, at most; 0 at the end; moves s->pos on. */
ssize_t source_read(struct source *s, const void **ret);
/* -EINVAL outside the file. */
int source_seek(struct source *s, int64_t pos);

/* After a failed source_read(): the sentence for it. */
int source_fail(const struct source *s, char **ret_error);

#endif
