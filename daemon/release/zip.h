/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_ZIP_H
#define DHASH_RELEASE_ZIP_H

/*
 * Writes a zip: deflate level 1, zip64 where needed, names byte for byte as they are on disk.  Each
 * byte is hashed on its way to the file.  Beside that a manifest is kept, a digest over what was
 * meant to be written; the same digest over what is read back shows that nothing got lost.
 */

#include <stdatomic.h>

#include "daemon/release/digest.h"
#include "daemon/release/paths.h"
#include "daemon/release/reading.h"

struct zip;

struct zip_totals {
	char sha256[DIGEST_HEX];
	char manifest[DIGEST_HEX];
	int64_t bytes; /* of the zip */
	unsigned long entries;
	unsigned long skipped;  /* sockets, FIFOs, devices, and what vanished under way */
	unsigned long stripped; /* set-user-id, set-group-id and sticky bits left out */
};

/* fd is borrowed, and written from where it stands. */
struct zip *zip_new(int fd, const atomic_bool *cancelled);
void zip_free(struct zip *z);
/* Adds the item and all below it, never following a symbolic link. */
int zip_add(struct zip *z, const struct path_item *item, char **ret_error);
int zip_finish(struct zip *z, struct zip_totals *ret, char **ret_error);

/* One entry's part of the manifest; size is what was really read or written. */
void manifest_add(struct digest *d, const struct entry *e, int64_t size);

#endif
