/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_ADMIT_H
#define DHASH_RELEASE_ADMIT_H

/*
 * Which file a rollback hook may be given, when the hook can do more than the one who asks: a
 * regular file in the backup folder itself, reached without a symbolic link, that is no second name
 * of somebody else's file, and, where a digest is known, has those very bytes.
 */

#include <sys/types.h>

/* By its name alone: FOLDER/NAME.zip.  -EPERM with *ret_why (owned). */
int admit_name(const char *folder, const char *file, char **ret_why);

/*
 * And the file itself, which is read whole when sha256 is not "": a descriptor of it.  Files with
 * several names must belong to `owner`, who makes the backups.  -errno with *ret_why (owned).
 */
int
admit_open(const char *folder, const char *file, const char *sha256, uid_t owner, char **ret_why);

/*
 * Puts the open file under its own name into a folder that the one who asks cannot change, with a
 * sidecar where the digest is known: as a second name where that can be, else as a copy, whose
 * digest is checked again.  *ret_path is owned.
 */
int admit_stage(int fd, const char *file, const char *sha256, const char *stage, char **ret_path,
		char **ret_why);

#endif
