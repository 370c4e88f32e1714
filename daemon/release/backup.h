/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_BACKUP_H
#define DHASH_RELEASE_BACKUP_H

/*
 * Backups: a zip of paths (libarchive) with a `sha256sum -c` sidecar; verification; restore; and
 * the release folders of the built-in engine.  All calls block and belong on a worker thread;
 * `cancelled` (may be NULL) is looked at between blocks and entries and gives -ECANCELED.
 *
 * Messages: every failing call sets *ret_error (owned by the caller) to a sentence that says what
 * was tried, on what, why it failed, what to do next.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/time-util.h"

struct backup_made {
	char sha256[65];
	int64_t bytes;
	unsigned long entries;
	unsigned long skipped;  /* sockets, FIFOs, devices, and what vanished while it was walked */
	unsigned long stripped; /* set-user-id, set-group-id and sticky bits that were left out */
};

/*
 * Writes `file` (dhash-production-20240101-120000.zip) and `file`.sha256 atomically: temporary
 * name, fsync, read back and compared, rename, fsync of the folder.  The folder is made if need be;
 * it must not lie inside a path.  A left-over temporary of the same name is removed.  Relative
 * `paths` are taken from `root`; entry names are relative to root, or the path without its leading
 * '/'.  A path that does not exist is an error, and so is one with a symbolic link on the way (its
 * last component may be one), because a restore would not follow it.
 */
int backup_create(const char *file, const char *root, char *const *paths,
		  const atomic_bool *cancelled, struct backup_made *ret, char **ret_error);

/*
 * Reads `file` whole: its SHA-256 must be `sha256` (the database's, or NULL), its sidecar must say
 * the same where there is one, and the zip's own structure and CRCs must hold.  -EBADMSG = corrupt.
 * Without sha256 it must also be one that a restore without sha256 takes: -EPERM, -EFBIG.
 * ret_sha256 (may be NULL): the digest of the bytes that were judged, so that a restore can insist
 * on the very same.
 */
int backup_verify(const char *file, const char *sha256, const atomic_bool *cancelled,
		  char ret_sha256[65], char **ret_error);

/*
 * Puts the archive's contents back below root: digest and extraction read the same open descriptor,
 * and what is read is compared with what was hashed; everything is unpacked beside first, then each
 * of `paths` is swapped in by renameat2(RENAME_EXCHANGE) or rename and the old one kept in
 * .dhash-old-<stamp>/ beside it until the next restore of that path.  Refuses whole, before
 * anything changes: absolute names, "..", devices, setuid, names twice, over-large archives; and,
 * with sha256 NULL, symbolic links that lead out and bombs (with sha256 the bytes are those that
 * backup_create() wrote, and such links and sparse files are the service's own).  Needs write
 * access to the folder that holds each path.  Safe to run again after a crash.
 */
int backup_restore(const char *file, const char *sha256, const char *root, char *const *paths,
		   const atomic_bool *cancelled, char **ret_error);

/*
 * Built-in engine.  Unpacks artifact into <base>/releases/<tag> (beside, then renamed; idempotent:
 * a complete folder of the same artifact digest is kept) and renames a symlink <base>/current into
 * place. ret_previous (owned): the release `current` named before, or NULL.
 */
int engine_deploy(const char *base, const char *tag, const char *artifact,
		  const atomic_bool *cancelled, char **ret_previous, char **ret_error);
/* Is releases/<tag> there, and complete?  -ENOENT else. */
int engine_check(const char *base, const char *tag, char **ret_error);
/* Points current at releases/<tag>, which must exist and be complete.  Idempotent. */
int engine_switch(const char *base, const char *tag, char **ret_error);
/* The tag that current names now; -ENOENT when there is none. */
int engine_current(const char *base, char **ret_tag);

#endif
