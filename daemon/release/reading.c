/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/reading.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/nameset.h"

enum { RATIO_FLOOR_BYTES = 16 * 1024 * 1024 };

const struct reading_limits reading_strict = {
	.max_entries = 1000000,
	.max_bytes = (int64_t)64 << 30,
	.max_ratio = 200,
	.hardlinks = true,
};

struct reading {
	struct source *source;
	struct archive *archive; /* owned */
	const struct reading_limits *limits;
	struct nameset *names; /* owned */
	unsigned long entries;
	int64_t claimed, unpacked; /* bytes by the headers, bytes that came */
	char **ret_error;
	char name[PATH_MAX], link[PATH_MAX];
};

int
reading_fail(struct reading *r, int error, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	fail_errno(r->ret_error, error, "%s", text);
	free(text);
	return error;
}

static int
refuse(struct reading *r, const char *what)
{
	return fail(
		r->ret_error, -EPERM,
		"%s is refused, nothing was changed: it holds %s (%s); make it anew without that",
		r->source->path, what, r->name);
}

/* libarchive failed: by the source, by want of memory, or because the archive is damaged. */
static int
damaged(struct reading *r)
{
	const char *why = archive_error_string(r->archive);

	if (r->source->error < 0)
		return source_fail(r->source, r->ret_error);
	if (archive_errno(r->archive) == ENOMEM)
		return fail(r->ret_error, -ENOMEM, "out of memory while reading %s",
			    r->source->path);
	return fail(r->ret_error, -EBADMSG, "%s is damaged or no archive of a known kind: %s",
		    r->source->path, why ? why : "no reason given");
}

/* --- the source, as libarchive asks for it ---------------------------------------------------- */

static la_ssize_t
on_read(struct archive *a, void *arg, const void **ret)
{
	ssize_t n = source_read(arg, ret);

	if (n < 0)
		archive_set_error(a, EIO, "cannot be read");
	return n < 0 ? ARCHIVE_FATAL : n;
}

static la_int64_t
on_skip(struct archive *a, void *arg, la_int64_t want)
{
	struct source *s = arg;
	int64_t n = MIN(want, s->size - s->pos);

	(void)a;
	return source_seek(s, s->pos + n) < 0 ? 0 : n;
}

static la_int64_t
on_seek(struct archive *a, void *arg, la_int64_t offset, int whence)
{
	struct source *s = arg;
	int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->pos : s->size;

	if (__builtin_add_overflow(from, offset, &from) || source_seek(s, from) < 0) {
		archive_set_error(a, EINVAL, "a place outside the file");
		return ARCHIVE_FATAL;
	}
	return s->pos;
}

/* A filter that libarchive would run another program for answers ARCHIVE_WARN: not wanted. */
static bool
support(struct archive *a, enum reading_format format)
{
	if (archive_read_support_format_zip_seekable(a) != ARCHIVE_OK)
		return false;
	if (format == READING_ZIP)
		return true;
	return archive_read_support_format_tar(a) == ARCHIVE_OK &&
	       archive_read_support_filter_gzip(a) == ARCHIVE_OK &&
	       archive_read_support_filter_bzip2(a) == ARCHIVE_OK &&
	       archive_read_support_filter_xz(a) == ARCHIVE_OK &&
	       archive_read_support_filter_zstd(a) == ARCHIVE_OK;
}

static int
open_archive(struct reading *r, enum reading_format format)
{
	struct archive *a = r->archive;

	if (!a || !support(a, format))
		return fail(r->ret_error, -ENOTSUP,
			    "this libarchive lacks zip, tar, gzip, bzip2, xz or zstd");
	source_seek(r->source, 0);
	r->source->error = 0;
	archive_read_set_read_callback(a, on_read);
	archive_read_set_skip_callback(a, on_skip);
	archive_read_set_seek_callback(a, on_seek);
	archive_read_set_callback_data(a, r->source);
	return archive_read_open1(a) == ARCHIVE_OK ? 0 : damaged(r);
}

/* --- entries ---------------------------------------------------------------------------------- */

static int
over_limit(struct reading *r, int64_t bytes)
{
	const struct reading_limits *l = r->limits;
	int64_t most = l->max_bytes;

	if (l->max_ratio > 0)
		most = MIN(most, MAX((int64_t)RATIO_FLOOR_BYTES, r->source->size * l->max_ratio));
	if (bytes <= most)
		return 0;
	return fail(r->ret_error, -EFBIG,
		    "%s is refused: it unpacks to more than the %lld bytes that are allowed for a "
		    "file of %lld",
		    r->source->path, (long long)most, (long long)r->source->size);
}

static const char *
kind_of(struct reading *r, struct archive_entry *ae, struct entry *e)
{
	const char *link = archive_entry_hardlink(ae), *why;

	if (link) {
		e->kind = ENTRY_HARDLINK;
		e->link = r->link;
		if (!r->limits->hardlinks)
			return "a hard link";
		why = name_normalise(link, r->link);
		if (why)
			return "a hard link that leads out";
		return nameset_has_file(r->names, r->link) ? NULL
							   : "a hard link to what is not in it";
	}
	switch (archive_entry_filetype(ae)) {
	case AE_IFREG:
		e->kind = ENTRY_FILE;
		return NULL;
	case AE_IFDIR:
		e->kind = ENTRY_FOLDER;
		return NULL;
	case AE_IFLNK:
		e->kind = ENTRY_SYMLINK;
		e->link = archive_entry_symlink(ae);
		if (!e->link || !*e->link)
			return "a symbolic link without a target";
		if (!r->limits->links_out && !link_stays_inside(r->name, e->link))
			return "a symbolic link that leads out";
		return NULL;
	default:
		return "a device, FIFO, socket or something unknown";
	}
}

static const char *
check(struct reading *r, struct archive_entry *ae, struct entry *e)
{
	const char *raw = archive_entry_pathname(ae), *why;

	str_copy(r->name, sizeof r->name, raw ? raw : "");
	why = raw ? name_normalise(raw, r->name) : "a name that cannot be read";
	if (why) {
		str_copy(r->name, sizeof r->name, raw ? raw : "");
		return why;
	}
	why = kind_of(r, ae, e);
	if (why)
		return why;
	if (archive_entry_perm(ae) & 07000)
		return "a set-user-id, set-group-id or sticky bit";
	if (!*r->name)
		return e->kind == ENTRY_FOLDER ? NULL : "an empty name";
	return nameset_add(r->names, r->name, e->kind == ENTRY_FOLDER);
}

static void
fill(struct reading *r, struct archive_entry *ae, struct entry *e)
{
	e->name = r->name;
	e->mode = archive_entry_perm(ae) & 0777;
	e->uid = (uid_t)archive_entry_uid(ae);
	e->gid = (gid_t)archive_entry_gid(ae);
	e->mtime.tv_sec = archive_entry_mtime(ae);
	e->mtime.tv_nsec = archive_entry_mtime_nsec(ae);
	e->size = e->kind == ENTRY_FILE ? MAX((int64_t)archive_entry_size(ae), (int64_t)0) : 0;
}

static int
one_entry(struct reading *r, struct archive_entry *ae, reading_fn *fn, void *arg)
{
	struct entry e = {0};
	const char *why;
	int error;

	if (is_cancelled(r->source->cancelled))
		return fail(r->ret_error, -ECANCELED, "reading %s was cancelled", r->source->path);
	if (++r->entries > r->limits->max_entries)
		return fail(r->ret_error, -EFBIG, "%s is refused: it holds more than %lu entries",
			    r->source->path, r->limits->max_entries);
	why = check(r, ae, &e);
	if (why)
		return refuse(r, why);
	fill(r, ae, &e);
	if (__builtin_add_overflow(r->claimed, e.size, &r->claimed))
		r->claimed = INT64_MAX;
	error = over_limit(r, r->claimed);
	if (error < 0)
		return error;
	return *e.name ? fn(r, &e, arg) : 0;
}

static int
all_entries(struct reading *r, reading_fn *fn, void *arg)
{
	for (;;) {
		struct archive_entry *ae;
		int got = archive_read_next_header(r->archive, &ae), error;

		if (got == ARCHIVE_EOF)
			return 0;
		/* A warning is about a name or attribute that could not be read as it stands. */
		if (got != ARCHIVE_OK)
			return damaged(r);
		error = one_entry(r, ae, fn, arg);
		if (error < 0)
			return error;
	}
}

/* Names in tar files are UTF-8 and can be read in such a locale only; the daemon may run in
 * another, so this thread gets it for the time being.  Names that are no UTF-8 in a zip stay as
 * they are. */
int
reading_each(struct source *s, enum reading_format format, const struct reading_limits *limits,
	     reading_fn *fn, void *arg, char **ret_error)
{
	struct reading *r = xcalloc(1, sizeof *r);
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before = (locale_t)0;
	int error;

	if (utf8)
		before = uselocale(utf8);
	r->source = s;
	r->limits = limits;
	r->ret_error = ret_error;
	r->names = nameset_new();
	r->archive = archive_read_new();
	if (!r->archive)
		out_of_memory();
	error = open_archive(r, format);
	if (error == 0)
		error = all_entries(r, fn, arg);
	archive_read_free(r->archive);
	nameset_free(r->names);
	free(r);
	if (utf8) {
		uselocale(before);
		freelocale(utf8);
	}
	return error;
}

int
reading_data(struct reading *r, const void **ret, size_t *ret_len, int64_t *ret_offset)
{
	la_int64_t offset;
	int got, error;

	if (is_cancelled(r->source->cancelled))
		return fail(r->ret_error, -ECANCELED, "reading %s was cancelled", r->source->path);
	got = archive_read_data_block(r->archive, ret, ret_len, &offset);
	if (got == ARCHIVE_EOF)
		return 0;
	if (got != ARCHIVE_OK)
		return damaged(r);
	r->unpacked += (int64_t)*ret_len;
	error = over_limit(r, r->unpacked);
	if (error < 0)
		return error;
	*ret_offset = offset;
	return 1;
}

int
reading_drop(struct reading *r, const struct entry *e, void *arg)
{
	const void *data;
	int64_t offset;
	size_t len;
	int more;

	(void)arg;
	if (e->kind != ENTRY_FILE)
		return 0;
	do
		more = reading_data(r, &data, &len, &offset);
	while (more > 0);
	return more;
}
