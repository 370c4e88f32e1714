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
 * name, fsync, read back and compared, rename, fsync of the folder.  A left-over temporary of the
 * same name is removed.  Relative `paths` are taken from `root`; entry names are relative to root,
 * or the path without its leading '/'.  A path that does not exist is an error.
 */
int backup_create(const char *file, const char *root, char *const *paths,
		  const atomic_bool *cancelled, struct backup_made *ret, char **ret_error);

/*
 * Reads `file` whole: its SHA-256 must be `sha256` (the database's, or NULL), its sidecar must say
 * the same where there is one, and the zip's own structure and CRCs must hold.  -EBADMSG = corrupt.
 */
int
backup_verify(const char *file, const char *sha256, const atomic_bool *cancelled, char **ret_error);

/*
 * Puts the archive's contents back below root: digest and extraction read the same open descriptor;
 * everything is unpacked beside first, then each of `paths` is swapped in by
 * renameat2(RENAME_EXCHANGE) or rename and the old one kept as .dhash-old-<stamp> until the next
 * restore.  Refuses whole, before anything changes: absolute names, "..", links that lead out,
 * devices, setuid, over-large archives.
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
/* Points current at releases/<tag>, which must exist and be complete.  Idempotent. */
int engine_switch(const char *base, const char *tag, char **ret_error);
/* The tag that current names now; -ENOENT when there is none. */
int engine_current(const char *base, char **ret_tag);

#endif
