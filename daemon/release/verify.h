/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_VERIFY_H
#define DHASH_RELEASE_VERIFY_H

/* The sidecar FILE.sha256, as `sha256sum -c` reads it: "<64 hex digits>  <name>\n". */

#include "daemon/release/digest.h"

char *sidecar_path(const char *file); /* owned by the caller */
int sidecar_write(const char *file, const char *sha256, char **ret_error);
/* -ENOENT (without a sentence) when there is none, -EBADMSG when it is no such line for this file.
 */
int sidecar_read(const char *file, char ret_sha256[DIGEST_HEX], char **ret_error);

#endif
