/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_UTIL_H
#define DHASH_UTIL_H

/* Small things that every layer needs.  No I/O but what the names say. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline bool
streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* The program's one policy for memory: what cannot be had ends the process with exit status 71 and
 * a line on standard error; everything that matters is on disk, and systemd starts it again. */
__attribute__((noreturn)) void *out_of_memory(void);
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
__attribute__((format(printf, 1, 2))) char *xasprintf(const char *fmt, ...);
__attribute__((format(printf, 1, 0))) char *xvasprintf(const char *fmt, va_list ap);

/* Does -errno say nothing about the file, but that descriptors or memory are short, or that a disk
 * hiccups?  Then the same may be different in a moment. */
bool error_passes(int error);

/* Copies s into dst of n bytes; returns false, with dst truncated (between characters of UTF-8) and
 * terminated, if it did not fit. */
bool str_copy(char *dst, size_t n, const char *s);

/* Replaces control characters (marks of text direction among them) and invalid UTF-8 by \xNN, byte
 * by byte; what is escaped already stays as it is.  Returns a new string, owned by the caller. */
char *str_escape(const char *s);

/* A NULL-terminated vector of strings. */
void strv_free(char **v);
size_t strv_len(char *const *v);

/*
 * A name fit for a path component and a unit name: 1 to 64 characters of A-Z a-z 0-9 . _ -, not
 * beginning with '.' or '-'.  Services, environments.  A tag may be 128 long and also hold '+'.
 */
bool name_valid(const char *s);
bool tag_valid(const char *s);

/* Reads a whole regular file of at most max bytes; NUL-terminated.  -EFBIG beyond max, -EISDIR for
 * a folder, -EINVAL for what else is no regular file (never waits for a pipe), else -errno. */
int file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);

/* Writes a file so that after a crash either the old or the new one stands: temporary file in the
 * same folder, fsync, rename, fsync of the folder.  `mode` whatever the umask; a symlink at `path`
 * is replaced, not followed.  Returns 0 or -errno; where only the last fsync failed the new one
 * stands.
 */
int file_write_atomic(const char *path, const void *data, size_t len, unsigned mode);

/* fsync of the folder that holds path: what was made, renamed or removed there stays so. */
int folder_sync(const char *path);

/* mkdir -p with `mode`, less the umask, for what is made, which is on disk then: a synced file in a
 * folder whose own name a power cut takes away is lost with it.  0 when it already is a folder,
 * -ENOTDIR where something else is in the way. */
int mkdir_p(const char *path, unsigned mode);

/* The name nearest to `word` by edit distance (case aside, at most 3 and under half the length of
 * the longer), or NULL. */
const char *nearest_name(const char *word, const char *const *names, size_t n);

#endif
