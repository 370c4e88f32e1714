/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_MARKER_H
#define DHASH_RELEASE_MARKER_H

/*
 * `.dhash-release` inside a release folder: written when everything else is there, so a folder that
 * has it is complete.  It names the tag and the digest of the artifact that was unpacked.
 */

#include "daemon/release/digest.h"

#define MARKER_NAME ".dhash-release"

/* The digest of a release that was in use before dhashd came, and so is complete all the same. */
#define MARKER_ADOPTED "adopted"

/* fd: the release folder.  0 or -errno. */
int marker_write(int fd, const char *tag, const char *sha256);
/* -ENOENT when there is none, -EBADMSG when it is not one of ours for this tag, else why that
 * cannot be told.  An adopted release reads as MARKER_ADOPTED. */
int marker_read(int fd, const char *tag, char ret_sha256[DIGEST_HEX]);

#endif
