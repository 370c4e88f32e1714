/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/zip.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/nameset.h"
#include "daemon/release/tree.h"

struct zip {
	int fd;
	const atomic_bool *cancelled;
	struct archive *archive;       /* owned */
	struct archive_entry *entry;   /* owned; used again and again */
	struct digest *sha, *manifest; /* owned */
	char *buf;                     /* owned; SOURCE_BLOCK bytes */
	struct zip_totals totals;
	int64_t unpacked;
	int write_error;
	char name[PATH_MAX]; /* of the entry at hand */
	char **ret_error;    /* of the call at hand */
	locale_t c_locale;   /* owned */
};

/*
 * After the first error everything is swallowed, and the error is looked at between the calls: a
 * libarchive that has been told of it would not free all that it holds.
 */
static la_ssize_t
on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	struct zip *z = arg;
	ssize_t n;

	(void)a;
	if (z->write_error < 0)
		return (la_ssize_t)len;
	do
		n = write(z->fd, data, len);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		z->write_error = -errno;
		return (la_ssize_t)len;
	}
	digest_update(z->sha, data, (size_t)n);
	z->totals.bytes += n;
	return n;
}

struct zip *
zip_new(int fd, const atomic_bool *cancelled)
{
	struct zip *z = xcalloc(1, sizeof *z);
	struct archive *a = archive_write_new();

	z->fd = fd;
	z->cancelled = cancelled;
	z->archive = a;
	z->entry = archive_entry_new();
	if (!a || !z->entry)
		out_of_memory();
	z->sha = digest_new();
	z->manifest = digest_new();
	z->buf = xmalloc(SOURCE_BLOCK);
	z->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	return z;
}

void
zip_free(struct zip *z)
{
	if (!z)
		return;
	if (z->write_error == 0)
		z->write_error = -ECANCELED; /* freeing closes, and closing writes */
	archive_write_free(z->archive);
	archive_entry_free(z->entry);
	digest_free(z->sha);
	digest_free(z->manifest);
	free(z->buf);
	if (z->c_locale)
		freelocale(z->c_locale);
	free(z);
}

static int
write_failed(struct zip *z)
{
	const char *why = z->archive ? archive_error_string(z->archive) : NULL;

	if (z->write_error < 0)
		return fail_errno(z->ret_error, z->write_error, "cannot write the zip");
	return fail(z->ret_error, -EIO, "libarchive cannot write the zip at %s: %s", z->name,
		    why ? why : "no reason given");
}

/* Opened with the first entry, so that all errors have one way out. */
static int
open_archive(struct zip *z)
{
	struct archive *a = z->archive;

	if (a && archive_format(a) != 0)
		return 0;
	if (!a || !z->entry || !z->c_locale || archive_write_set_format_zip(a) != ARCHIVE_OK ||
	    archive_write_set_options(a, "zip:compression=deflate,zip:compression-level=1") !=
		    ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(a, SOURCE_BLOCK) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
	    archive_write_open(a, z, NULL, on_write, NULL) != ARCHIVE_OK)
		return write_failed(z);
	return 0;
}

void
manifest_add(struct digest *d, const struct entry *e, int64_t size)
{
	char head[64];
	int n = snprintf(head, sizeof head, "%d %o %lld", e->kind,
			 e->kind == ENTRY_SYMLINK ? 0U : (unsigned)e->mode, (long long)size);

	digest_update(d, head, (size_t)n + 1);
	digest_update(d, e->name, strlen(e->name) + 1);
	if (e->kind == ENTRY_SYMLINK)
		digest_update(d, e->link, strlen(e->link) + 1);
}

/* --- one entry -------------------------------------------------------------------------------- */

/* Before the bytes are written, not after: a backup that no restore takes is worse than none. */
static int
within_limits(struct zip *z, int64_t more)
{
	if (is_cancelled(z->cancelled))
		return fail(z->ret_error, -ECANCELED, "the backup was cancelled");
	if (z->totals.entries >= reading_strict.max_entries ||
	    more > reading_strict.max_bytes - z->unpacked)
		return fail(z->ret_error, -EFBIG,
			    "the backup paths hold more than %lu entries or %lld bytes (at %s), "
			    "which no restore would take; take something out of BackupPaths=",
			    reading_strict.max_entries, (long long)reading_strict.max_bytes,
			    z->name);
	return 0;
}

/* A zip has 32 bits for it, from 1970 on: what lies outside would come back a century away. */
static time_t
zip_time(time_t t)
{
	return MAX((time_t)0, MIN(t, (time_t)UINT32_MAX));
}

/* In the C locale libarchive takes names as bytes; in others it marks or converts them.  A file's
 * size is left to be written behind its data: it may still turn out shorter, and then the local
 * header and the central directory would contradict each other. */
static int
write_header(struct zip *z, const struct stat *st, const char *link)
{
	struct archive_entry *ae = archive_entry_clear(z->entry);
	locale_t before;
	int got;

	archive_entry_copy_pathname(ae, z->name);
	archive_entry_set_mode(ae, st->st_mode & ~(mode_t)07000);
	archive_entry_set_uid(ae, st->st_uid);
	archive_entry_set_gid(ae, st->st_gid);
	archive_entry_set_mtime(ae, zip_time(st->st_mtim.tv_sec), st->st_mtim.tv_nsec);
	if (!S_ISREG(st->st_mode))
		archive_entry_set_size(ae, 0);
	if (link)
		archive_entry_copy_symlink(ae, link);
	before = uselocale(z->c_locale);
	got = archive_write_header(z->archive, ae);
	uselocale(before);
	z->totals.entries++;
	z->totals.stripped += !link && (st->st_mode & 07000) != 0;
	return got == ARCHIVE_OK && z->write_error == 0 ? 0 : write_failed(z);
}

static int
finish_entry(struct zip *z, const struct stat *st, enum entry_kind kind, const char *link,
	     int64_t size)
{
	struct entry e = {.name = z->name, .kind = kind, .link = link, .mode = st->st_mode & 0777};

	if (archive_write_finish_entry(z->archive) != ARCHIVE_OK || z->write_error < 0)
		return write_failed(z);
	manifest_add(z->manifest, &e, size);
	z->unpacked += size;
	return 0;
}

static int
unreadable(struct zip *z, int error)
{
	return fail_errno(
		z->ret_error, error,
		"cannot read %s for the backup (give the daemon's user the right, or take "
		"it out of BackupPaths=)",
		z->name);
}

/* As long as it was when it was opened: what is appended meanwhile is left for the next backup; a
 * file that shrinks meanwhile ends where it ends now. */
static int
copy_data(struct zip *z, int fd, int64_t size, int64_t *ret_done)
{
	int64_t done = 0;

	while (done < size) {
		size_t want = (size_t)MIN((int64_t)SOURCE_BLOCK, size - done);
		ssize_t n = read(fd, z->buf, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return unreadable(z, -errno);
		if (n == 0)
			break;
		if (archive_write_data(z->archive, z->buf, (size_t)n) != n || z->write_error < 0)
			return write_failed(z);
		done += n;
		if (is_cancelled(z->cancelled))
			return fail(z->ret_error, -ECANCELED, "the backup was cancelled");
	}
	*ret_done = done;
	return 0;
}

static int
add_open_file(struct zip *z, int fd)
{
	struct stat st;
	int64_t done = 0;
	int r;

	if (fstat(fd, &st) < 0)
		return unreadable(z, -errno);
	if (!S_ISREG(st.st_mode)) {
		z->totals.skipped++;
		return 0;
	}
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	r = within_limits(z, st.st_size);
	if (r == 0)
		r = write_header(z, &st, NULL);
	if (r == 0)
		r = copy_data(z, fd, st.st_size, &done);
	return r == 0 ? finish_entry(z, &st, ENTRY_FILE, NULL, done) : r;
}

/* Something listed a moment ago may be gone; the top of a backup path may not. */
static int
vanished(struct zip *z, int error, unsigned depth)
{
	if (error == -ENOENT && depth > 0) {
		z->totals.skipped++;
		return 0;
	}
	return unreadable(z, error);
}

static int
add_file(struct zip *z, int dirfd, const char *leaf, unsigned depth)
{
	int fd = openat(dirfd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), r;

	if (fd < 0)
		return vanished(z, -errno, depth);
	r = add_open_file(z, fd);
	close(fd);
	return r;
}

static int
add_symlink(struct zip *z, int dirfd, const char *leaf, const struct stat *st, unsigned depth)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, leaf, target, sizeof target - 1);
	int r;

	if (n < 0)
		return vanished(z, -errno, depth);
	target[n] = '\0';
	r = write_header(z, st, target);
	return r == 0 ? finish_entry(z, st, ENTRY_SYMLINK, target, 0) : r;
}

/* --- the walk --------------------------------------------------------------------------------- */

static int add_at(struct zip *z, int dirfd, const char *leaf, unsigned depth);

static int
add_contents(struct zip *z, DIR *dir, unsigned depth)
{
	size_t len = strlen(z->name);
	struct dirent *d;
	int r = 0;

	while (r == 0 && (errno = 0, d = readdir(dir)) != NULL) {
		size_t n = strlen(d->d_name);

		if (streq(d->d_name, ".") || streq(d->d_name, ".."))
			continue;
		if (len + n + 2 > sizeof z->name || depth >= NAME_MAX_DEPTH)
			return fail(z->ret_error, -ENAMETOOLONG,
				    "%s/%s is too long or too deep a name for a backup", z->name,
				    d->d_name);
		z->name[len] = '/';
		memcpy(z->name + len + 1, d->d_name, n + 1);
		r = add_at(z, dirfd(dir), d->d_name, depth + 1);
		z->name[len] = '\0';
	}
	return r == 0 && errno != 0 ? unreadable(z, -errno) : r;
}

static int
add_folder(struct zip *z, int dirfd, const char *leaf, unsigned depth)
{
	int fd = openat(dirfd, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
	struct stat st;
	DIR *dir;

	if (fd < 0)
		return vanished(z, -errno, depth);
	dir = fstat(fd, &st) == 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		r = unreadable(z, -errno);
		close(fd);
		return r;
	}
	r = write_header(z, &st, NULL);
	if (r == 0)
		r = finish_entry(z, &st, ENTRY_FOLDER, NULL, 0);
	if (r == 0)
		r = add_contents(z, dir, depth);
	closedir(dir);
	return r;
}

static int
add_at(struct zip *z, int dirfd, const char *leaf, unsigned depth)
{
	struct stat st;
	int r = within_limits(z, 0);

	if (r < 0)
		return r;
	if (fstatat(dirfd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vanished(z, -errno, depth);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return add_file(z, dirfd, leaf, depth);
	case S_IFDIR:
		return add_folder(z, dirfd, leaf, depth);
	case S_IFLNK:
		return add_symlink(z, dirfd, leaf, &st, depth);
	default:
		z->totals.skipped++;
		return 0;
	}
}

int
zip_add(struct zip *z, const struct path_item *item, char **ret_error)
{
	const char *leaf;
	unsigned depth = 0;
	int parent, r;

	z->ret_error = ret_error;
	if (!str_copy(z->name, sizeof z->name, item->name))
		return fail(ret_error, -ENAMETOOLONG, "%s is too long a path", item->full);
	r = open_archive(z);
	if (r == 0)
		r = paths_open_parent(item, false, &parent, &leaf, ret_error);
	if (r < 0)
		return r;
	r = add_at(z, parent, leaf, depth);
	close(parent);
	return r;
}

int
zip_finish(struct zip *z, struct zip_totals *ret, char **ret_error)
{
	int r;

	z->ret_error = ret_error;
	r = open_archive(z);
	if (r < 0)
		return r;
	if (archive_write_close(z->archive) != ARCHIVE_OK || z->write_error < 0)
		return write_failed(z);
	digest_take_hex(z->sha, z->totals.sha256);
	digest_take_hex(z->manifest, z->totals.manifest);
	*ret = z->totals;
	return 0;
}
