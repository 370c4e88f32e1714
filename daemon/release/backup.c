/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes a backup.  The order makes every moment safe to crash in: the zip is written and read back
 * under a temporary name; a sidecar of an older file of that name goes; the zip gets its name; its
 * sidecar is written.  A zip without a sidecar is judged by the database's digest alone.
 */

#include "daemon/release/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/paths.h"
#include "daemon/release/reading.h"
#include "daemon/release/verify.h"
#include "daemon/release/zip.h"

struct making {
	const char *file, *leaf;
	char *folder;    /* owned */
	char *temporary; /* owned; the leaf until the zip is known to be good */
	int folder_fd;
	const atomic_bool *cancelled;
	char **ret_error;
};

static int
open_folder(struct making *m)
{
	const char *slash = strrchr(m->file, '/');
	int r;

	m->leaf = slash ? slash + 1 : m->file;
	if (!*m->leaf || strpbrk(m->leaf, "\n\\"))
		return fail(m->ret_error, -EINVAL, "%s is no name for a backup", m->file);
	m->folder = slash ? xasprintf("%.*s", (int)MAX(1, slash - m->file), m->file) : xstrdup(".");
	m->temporary = xasprintf(".%s.partial", m->leaf);
	r = mkdir_p(m->folder, 0750);
	if (r < 0)
		return fail_errno(m->ret_error, r, "cannot make the backup folder %s", m->folder);
	m->folder_fd = open(m->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->folder_fd < 0)
		return fail_errno(m->ret_error, -errno, "cannot open the backup folder %s",
				  m->folder);
	return 0;
}

/* Each backup would hold all the older ones, and a restore would put the backups themselves aside.
 */
static int
folder_is_outside(const struct making *m, const struct path_plan *plan)
{
	char *real = realpath(m->folder, NULL);
	const struct path_item *item = real ? paths_holding(plan, real) : NULL;
	int r = 0;

	if (item)
		r = fail(m->ret_error, -EINVAL,
			 "the backup folder %s lies inside the backup path %s; move one of them",
			 real, item->full);
	free(real);
	return r;
}

static int
write_zip(const struct making *m, const struct path_plan *plan, int fd, struct zip_totals *ret)
{
	struct zip *z = zip_new(fd, m->cancelled);
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n; i++)
		r = zip_add(z, &plan->v[i], m->ret_error);
	if (r == 0)
		r = zip_finish(z, ret, m->ret_error);
	zip_free(z);
	if (r == 0 && fsync(fd) < 0)
		r = fail_errno(m->ret_error, -errno, "cannot write backup %s to disk", m->file);
	return r;
}

/* --- reading back ----------------------------------------------------------------------------- */

static int
on_read_back(struct reading *r, const struct entry *e, void *arg)
{
	struct digest *manifest = arg;
	int64_t offset, size = 0;
	const void *data;
	size_t len;
	int more = 0;

	while (e->kind == ENTRY_FILE && (more = reading_data(r, &data, &len, &offset)) > 0)
		size = offset + (int64_t)len;
	if (more == 0)
		manifest_add(manifest, e, size);
	return more;
}

static int
read_back(const struct making *m, const struct zip_totals *totals)
{
	static const struct reading_limits any = {
		.max_entries = ULONG_MAX, .max_bytes = INT64_MAX, .links_out = true};
	char *path = xasprintf("%s/%s", m->folder, m->temporary), sha256[DIGEST_HEX],
	     again[DIGEST_HEX];
	struct digest *manifest = digest_new();
	struct source *s = NULL;
	int r = source_open(path, m->cancelled, &s, m->ret_error);

	if (r == 0)
		r = source_digest(s, false, sha256, m->ret_error);
	if (r == 0)
		r = reading_each(s, READING_ZIP, &any, on_read_back, manifest, m->ret_error);
	digest_take_hex(manifest, again);
	if (r == 0 && (!streq(sha256, totals->sha256) || !streq(again, totals->manifest)))
		r = fail(m->ret_error, -EBADMSG,
			 "backup %s read back is not what was written; check the disk under %s",
			 m->file, m->folder);
	source_free(s);
	digest_free(manifest);
	free(path);
	return r;
}

/* --- into place ------------------------------------------------------------------------------- */

static int
put_in_place(const struct making *m, const struct zip_totals *totals)
{
	char *sidecar = sidecar_path(m->leaf);
	int r = 0;

	if ((unlinkat(m->folder_fd, sidecar, 0) < 0 && errno != ENOENT) ||
	    renameat(m->folder_fd, m->temporary, m->folder_fd, m->leaf) < 0 ||
	    fsync(m->folder_fd) < 0)
		r = fail_errno(m->ret_error, -errno, "cannot put backup %s in its place", m->file);
	free(sidecar);
	return r == 0 ? sidecar_write(m->file, totals->sha256, m->ret_error) : r;
}

static int
make(struct making *m, const struct path_plan *plan, struct zip_totals *ret)
{
	int fd, r = folder_is_outside(m, plan);

	if (r < 0)
		return r;
	if (unlinkat(m->folder_fd, m->temporary, 0) < 0 && errno != ENOENT)
		return fail_errno(m->ret_error, -errno, "cannot remove %s/%s", m->folder,
				  m->temporary);
	fd = openat(m->folder_fd, m->temporary,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return fail_errno(m->ret_error, -errno, "cannot make %s/%s", m->folder,
				  m->temporary);
	r = write_zip(m, plan, fd, ret);
	close(fd);
	if (r == 0)
		r = read_back(m, ret);
	if (r == 0)
		r = put_in_place(m, ret);
	if (r < 0)
		unlinkat(m->folder_fd, m->temporary, 0);
	return r;
}

int
backup_create(const char *file, const char *root, char *const *paths, const atomic_bool *cancelled,
	      struct backup_made *ret, char **ret_error)
{
	struct making m = {
		.file = file, .folder_fd = -1, .cancelled = cancelled, .ret_error = ret_error};
	struct zip_totals totals;
	struct path_plan plan;
	int r = paths_plan(root, paths, &plan, ret_error);

	if (r < 0)
		return r;
	r = open_folder(&m);
	if (r == 0)
		r = make(&m, &plan, &totals);
	if (r == 0) {
		memcpy(ret->sha256, totals.sha256, sizeof ret->sha256);
		ret->bytes = totals.bytes;
		ret->entries = totals.entries;
		ret->skipped = totals.skipped;
		ret->stripped = totals.stripped;
	}
	if (m.folder_fd >= 0)
		close(m.folder_fd);
	free(m.folder);
	free(m.temporary);
	paths_done(&plan);
	return r;
}
