/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/tree.h"

/* A folder gets its rights and time last: filling it needs the one and changes the other. */
struct folder {
	char *path; /* owned; below dest->dirfd */
	const struct extract_dest *dest;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	bool given; /* by an entry of its own */
};

struct unpacking {
	struct extract *x;
	struct folder *folders; /* owned; each after the one it lies in */
	size_t n_folders, cap_folders;
	const struct extract_dest *dest; /* of the entry at hand */
	char *parent;                    /* owned; of the last entry */
	const struct extract_dest *parent_dest;
	int parent_fd;
};

/* Sets ret to the entry's path below the destination's dirfd. */
static struct extract_dest *
route(struct extract *x, const char *name, char **ret)
{
	for (size_t i = 0; i < x->n_dests; i++) {
		struct extract_dest *d = &x->dests[i];
		size_t n = strlen(d->prefix);

		if (strncmp(name, d->prefix, n) != 0)
			continue;
		if (n == 0)
			*ret = xstrdup(name);
		else if (name[n] == '\0' || name[n] == '/')
			*ret = xasprintf("%s%s", d->leaf, name + n);
		else
			continue;
		return d;
	}
	return NULL;
}

/* --- survey ----------------------------------------------------------------------------------- */

static int
on_survey(struct reading *r, const struct entry *e, void *arg)
{
	struct extract *x = arg;
	struct extract_dest *d;
	char *path;

	if (x->reserved && streq(e->name, x->reserved))
		return reading_fail(r, -EPERM, "%s holds %s, a name that is kept for dhashd",
				    x->source->path, e->name);
	d = route(x, e->name, &path);
	if (!d)
		return 0;
	free(path);
	d->entries++;
	d->bytes += e->size + 4096; /* an inode and half a block, about */
	return 0;
}

/* Destinations on one file system share its room. */
static int
enough_room(const struct extract *x, size_t which, char **ret_error)
{
	struct statvfs vfs;
	struct stat here, other;
	int64_t need = 0, room;

	if (fstatvfs(x->dests[which].space_fd, &vfs) < 0 ||
	    fstat(x->dests[which].space_fd, &here) < 0)
		return fail_errno(ret_error, -errno, "cannot find out the free space for %s",
				  x->dests[which].prefix);
	for (size_t i = 0; i < x->n_dests; i++)
		if (fstat(x->dests[i].space_fd, &other) == 0 && other.st_dev == here.st_dev)
			need += x->dests[i].bytes;
	room = (int64_t)MIN((uint64_t)vfs.f_bavail * vfs.f_frsize, (uint64_t)INT64_MAX);
	if (need <= room)
		return 0;
	return fail(ret_error, -ENOSPC,
		    "unpacking %s needs %lld bytes and %lld are free; make room and try again",
		    x->source->path, (long long)need, (long long)room);
}

int
extract_survey(struct extract *x, char **ret_error)
{
	int r;

	for (size_t i = 0; i < x->n_dests; i++) {
		x->dests[i].entries = 0;
		x->dests[i].bytes = 0;
	}
	r = reading_each(x->source, x->format, x->limits, on_survey, x, ret_error);
	for (size_t i = 0; r == 0 && i < x->n_dests; i++)
		r = enough_room(x, i, ret_error);
	return r;
}

/* --- folders ---------------------------------------------------------------------------------- */

static struct folder *
add_folder(struct unpacking *u, const char *path, size_t len)
{
	struct folder *f;

	if (u->n_folders == u->cap_folders) {
		u->cap_folders = u->cap_folders ? u->cap_folders * 2 : 64;
		u->folders = xrealloc(u->folders, u->cap_folders * sizeof *u->folders);
	}
	f = &u->folders[u->n_folders++];
	*f = (struct folder){
		.path = xasprintf("%.*s", (int)len, path), .dest = u->dest, .mode = 0755};
	return f;
}

static void
on_made(const char *path, size_t len, void *arg)
{
	add_folder(arg, path, len);
}

/* The folder that path lies in, made if need be; the last one is kept open. */
static int
enter_parent(struct unpacking *u, const char *path, const char **ret_leaf)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	int r;

	*ret_leaf = slash ? slash + 1 : path;
	if (u->parent && u->parent_dest == u->dest && strlen(u->parent) == len &&
	    memcmp(u->parent, path, len) == 0)
		return 0;
	free(u->parent);
	u->parent = xasprintf("%.*s", (int)len, path);
	u->parent_dest = u->dest;
	if (u->parent_fd >= 0)
		close(u->parent_fd);
	u->parent_fd = -1;
	r = tree_make(u->dest->dirfd, u->parent, 0700, on_made, u, &u->parent_fd);
	if (r < 0) {
		free(u->parent);
		u->parent = NULL;
	}
	return r;
}

static void
give_folder(struct folder *f, const struct entry *e)
{
	f->mode = e->mode;
	f->uid = e->uid;
	f->gid = e->gid;
	f->mtime = e->mtime;
	f->given = true;
}

/* A folder's entry may come after its contents, which made it without knowing its rights. */
static int
unpack_folder(struct unpacking *u, const char *path, const char *leaf, const struct entry *e)
{
	if (mkdirat(u->parent_fd, leaf, 0700) == 0) {
		give_folder(add_folder(u, path, strlen(path)), e);
		return 0;
	}
	if (errno != EEXIST)
		return -errno;
	for (size_t i = u->n_folders; i > 0; i--) {
		struct folder *f = &u->folders[i - 1];

		if (f->dest != u->dest || !streq(f->path, path) || f->given)
			continue;
		give_folder(f, e);
		return 0;
	}
	return -EEXIST;
}

static int
finish_folder(const struct unpacking *u, const struct folder *f)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, f->mtime};
	int fd, r;

	r = tree_open(f->dest->dirfd, f->path, O_RDONLY | O_DIRECTORY, &fd);
	if (r < 0)
		return r;
	if (f->given && u->x->owners && fchown(fd, f->uid, f->gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(fd, f->mode) < 0)
		r = -errno;
	if (r == 0 && f->given && futimens(fd, times) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* --- files and links -------------------------------------------------------------------------- */

static int
write_at(int fd, const char *data, size_t len, int64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		offset += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Returns through reading_fail(), as reading_data() does. */
static int
unpack_data(struct reading *r, const struct entry *e, int fd)
{
	int64_t offset, end = 0;
	const void *data;
	size_t len;
	int more, error;

	while ((more = reading_data(r, &data, &len, &offset)) > 0) {
		if (offset < 0 || offset > e->size || (int64_t)len > e->size - offset)
			return reading_fail(r, -EBADMSG, "%s is longer than the archive says",
					    e->name);
		error = write_at(fd, data, len, offset);
		if (error < 0)
			return reading_fail(r, error, "cannot write %s beside its place", e->name);
		end = MAX(end, offset + (int64_t)len);
	}
	if (more == 0 && end < e->size && ftruncate(fd, e->size) < 0)
		return reading_fail(r, -errno, "cannot write %s beside its place", e->name);
	return more;
}

static int
finish_file(const struct unpacking *u, const struct entry *e, int fd)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};

	if (u->x->owners && fchown(fd, e->uid, e->gid) < 0)
		return -errno;
	if (fchmod(fd, e->mode) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

static int
unpack_file(struct unpacking *u, struct reading *r, const struct entry *e, const char *leaf)
{
	int fd = openat(u->parent_fd, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0600);
	int error;

	if (fd < 0)
		return reading_fail(r, -errno, "cannot make %s beside its place", e->name);
	error = unpack_data(r, e, fd);
	if (error == 0) {
		error = finish_file(u, e, fd);
		if (error < 0)
			reading_fail(r, error, "cannot set owner, rights or time of %s", e->name);
	}
	if (close(fd) < 0 && error == 0)
		error = reading_fail(r, -errno, "cannot write %s beside its place", e->name);
	return error;
}

static int
unpack_symlink(struct unpacking *u, const struct entry *e, const char *leaf)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};

	if (symlinkat(e->link, u->parent_fd, leaf) < 0)
		return -errno;
	if (u->x->owners && fchownat(u->parent_fd, leaf, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return utimensat(u->parent_fd, leaf, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int
unpack_hardlink(struct unpacking *u, const struct entry *e, const char *leaf)
{
	const char *from_leaf;
	int from_fd, r;
	char *from;

	if (route(u->x, e->link, &from) != u->dest)
		return -EXDEV;
	r = tree_open_parent(u->dest->dirfd, from, &from_fd, &from_leaf);
	if (r == 0) {
		if (linkat(from_fd, from_leaf, u->parent_fd, leaf, 0) < 0)
			r = -errno;
		close(from_fd);
	}
	free(from);
	return r;
}

/* --- the pass --------------------------------------------------------------------------------- */

static int
unpack_entry(struct unpacking *u, struct reading *r, const struct entry *e, const char *path)
{
	const char *leaf;
	int error = enter_parent(u, path, &leaf);

	if (error < 0)
		return reading_fail(r, error, "cannot make the folder of %s", e->name);
	if (e->kind == ENTRY_FILE)
		return unpack_file(u, r, e, leaf);
	error = e->kind == ENTRY_FOLDER    ? unpack_folder(u, path, leaf, e)
		: e->kind == ENTRY_SYMLINK ? unpack_symlink(u, e, leaf)
					   : unpack_hardlink(u, e, leaf);
	return error < 0 ? reading_fail(r, error, "cannot make %s beside its place", e->name) : 0;
}

static int
on_unpack(struct reading *r, const struct entry *e, void *arg)
{
	struct unpacking *u = arg;
	char *path = NULL;
	int error;

	u->dest = route(u->x, e->name, &path);
	/* Its checksum counts all the same: it may be one of ours whose name was damaged. */
	if (!u->dest)
		return reading_drop(r, e, NULL);
	error = unpack_entry(u, r, e, path);
	free(path);
	return error;
}

int
extract_unpack(struct extract *x, char **ret_error)
{
	struct unpacking u = {.x = x, .parent_fd = -1};
	int r = reading_each(x->source, x->format, x->limits, on_unpack, &u, ret_error);

	if (u.parent_fd >= 0)
		close(u.parent_fd);
	for (size_t i = u.n_folders; i > 0; i--) {
		struct folder *f = &u.folders[i - 1];
		int error = r == 0 ? finish_folder(&u, f) : 0;

		if (error < 0)
			r = fail_errno(ret_error, error, "cannot set owner, rights or time of %s",
				       f->path);
		free(f->path);
	}
	free(u.folders);
	free(u.parent);
	return r;
}
