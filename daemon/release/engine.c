/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The built-in engine: releases/<tag> folders and a `current` link.  A release is unpacked under a
 * hidden name, marked complete, brought to disk and renamed; a tag that is there is never changed.
 */

#include "daemon/release/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/current.h"
#include "daemon/release/extract.h"
#include "daemon/release/fail.h"
#include "daemon/release/marker.h"
#include "daemon/release/tree.h"

static const char partial_infix[] = ".partial-"; /* .<tag>.partial-<random> */

struct engine {
	const char *base, *tag;
	int base_fd, releases_fd; /* owned; -1 unless open */
	char **ret_error;
};

static int
engine_open(struct engine *e, const char *base, const char *tag, char **ret_error)
{
	int r;

	*e = (struct engine){
		.base = base, .tag = tag, .base_fd = -1, .releases_fd = -1, .ret_error = ret_error};
	if (!tag_valid(tag))
		return fail(ret_error, -EINVAL, "\"%s\" is no release tag", tag);
	e->base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->base_fd < 0)
		return fail_errno(ret_error, -errno, "cannot open the folder %s", base);
	r = tree_open(e->base_fd, "releases", O_RDONLY | O_DIRECTORY, &e->releases_fd);
	if (r < 0 && r != -ENOENT)
		return fail_errno(ret_error, r, "cannot open %s/releases", base);
	return 0;
}

static void
engine_close(struct engine *e)
{
	if (e->base_fd >= 0)
		close(e->base_fd);
	if (e->releases_fd >= 0)
		close(e->releases_fd);
}

/* -ENOENT: no such folder; -EBADMSG: not complete, and the folder is open; another error: neither
 * can be told; else 0 with the artifact's digest. */
static int
release_read(const struct engine *e, const char *tag, int *ret_fd, char ret_sha256[DIGEST_HEX])
{
	int fd, r;

	if (e->releases_fd < 0)
		return -ENOENT;
	r = tree_open(e->releases_fd, tag, O_RDONLY | O_DIRECTORY, &fd);
	if (r < 0)
		return r;
	r = marker_read(fd, tag, ret_sha256);
	if (r < 0 && r != -ENOENT && r != -EBADMSG) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return r == 0 ? 0 : -EBADMSG;
}

/* --- unpacking -------------------------------------------------------------------------------- */

static int
make_releases(struct engine *e)
{
	int r;

	if (e->releases_fd >= 0)
		return 0;
	if (mkdirat(e->base_fd, "releases", 0755) < 0 && errno != EEXIST)
		return fail_errno(e->ret_error, -errno, "cannot make %s/releases", e->base);
	r = tree_open(e->base_fd, "releases", O_RDONLY | O_DIRECTORY, &e->releases_fd);
	if (r == 0 && (fchmod(e->releases_fd, 0755) < 0 || fsync(e->base_fd) < 0))
		r = -errno;
	return r < 0 ? fail_errno(e->ret_error, r, "cannot make %s/releases", e->base) : 0;
}

static bool
is_partial(const char *name)
{
	return name[0] == '.' && strstr(name, partial_infix) != NULL;
}

/* What a crash left of an attempt at any tag, which nobody may try again; one that is at work holds
 * its lock. */
static void
remove_partials(const struct engine *e)
{
	struct dirent *d;
	DIR *dir;
	int fd;

	if (tree_open(e->releases_fd, "", O_RDONLY | O_DIRECTORY, &fd) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (!is_partial(d->d_name) ||
		    tree_open(e->releases_fd, d->d_name, O_RDONLY | O_DIRECTORY, &fd) < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)tree_remove(e->releases_fd, d->d_name);
		close(fd);
	}
	closedir(dir);
}

/* -EAGAIN when another deployment took the new folder for a leftover before it was locked. */
static int
make_locked(const struct engine *e, const char *name, int *ret_fd)
{
	struct stat mine, named;
	int fd;

	if (mkdirat(e->releases_fd, name, 0700) < 0)
		return -errno;
	fd = openat(e->releases_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &mine) == 0 &&
	    fstatat(e->releases_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
		*ret_fd = fd;
		return 0;
	}
	close(fd);
	return -EAGAIN;
}

static int
make_partial(const struct engine *e, char **ret_name, int *ret_fd)
{
	char suffix[9], *name = NULL;
	int r;

	do {
		free(name);
		tree_random_name(suffix);
		name = xasprintf(".%s%s%s", e->tag, partial_infix, suffix);
		r = make_locked(e, name, ret_fd);
	} while (r == -EAGAIN || r == -EEXIST);
	if (r == 0) {
		*ret_name = name;
		return 0;
	}
	fail_errno(e->ret_error, r, "cannot make %s/releases/%s", e->base, name);
	free(name);
	return r;
}

static int
fill_partial(const struct engine *e, struct source *artifact, const char *sha256, int fd)
{
	struct extract_dest dest = {.prefix = "", .leaf = "", .dirfd = fd, .space_fd = fd};
	struct extract x = {
		.source = artifact,
		.format = READING_RELEASE,
		.limits = &reading_strict,
		.reserved = MARKER_NAME,
		.dests = &dest,
		.n_dests = 1,
	};
	int r = extract_survey(&x, e->ret_error);

	if (r == 0 && dest.entries == 0)
		r = fail(e->ret_error, -EBADMSG, "%s holds nothing", artifact->path);
	if (r == 0)
		r = extract_unpack(&x, e->ret_error);
	if (r < 0)
		return r;
	/* The service runs as somebody else, who must be able to enter. */
	if (fchmod(fd, 0755) < 0)
		r = -errno;
	if (r == 0)
		r = marker_write(fd, e->tag, sha256);
	if (r == 0 && syncfs(fd) < 0)
		r = -errno;
	return r < 0 ? fail_errno(e->ret_error, r, "cannot complete release %s in %s/releases",
				  e->tag, e->base)
		     : 0;
}

/* An incomplete folder of that name changes places with ours and goes with our temporary name. */
static int
name_release(const struct engine *e, const char *partial)
{
	int r = 0;

	if (renameat2(e->releases_fd, partial, e->releases_fd, e->tag, RENAME_NOREPLACE) < 0)
		r = errno == EEXIST && renameat2(e->releases_fd, partial, e->releases_fd, e->tag,
						 RENAME_EXCHANGE) == 0
			    ? 0
			    : -errno;
	if (r == 0 && fsync(e->releases_fd) < 0)
		r = -errno;
	return r < 0 ? fail_errno(e->ret_error, r, "cannot name %s/releases/%s", e->base, e->tag)
		     : 0;
}

static int
unpack_release(struct engine *e, struct source *artifact, const char *sha256)
{
	char *partial = NULL;
	int fd = -1, r = make_releases(e);

	if (r < 0)
		return r;
	remove_partials(e);
	r = make_partial(e, &partial, &fd);
	if (r < 0)
		return r;
	r = fill_partial(e, artifact, sha256, fd);
	if (r == 0 && is_cancelled(artifact->cancelled))
		r = fail(e->ret_error, -ECANCELED, "deploying %s was cancelled", e->tag);
	if (r == 0)
		r = name_release(e, partial);
	(void)tree_remove(e->releases_fd, partial);
	close(fd);
	free(partial);
	return r;
}

/* --- deploying -------------------------------------------------------------------------------- */

/* 1: releases/<tag> is there, complete and of this artifact. */
static int
already_there(const struct engine *e, const char *sha256)
{
	char there[DIGEST_HEX];
	int fd = -1, r = release_read(e, e->tag, &fd, there);

	if (fd >= 0)
		close(fd);
	if (r == -ENOENT || r == -EBADMSG)
		return 0;
	if (r < 0)
		return fail_errno(e->ret_error, r, "cannot read %s/releases/%s", e->base, e->tag);
	if (digest_hex_equal(there, sha256))
		return 1;
	return fail(
		e->ret_error, -EEXIST,
		"%s/releases/%s is there already, from another artifact (SHA-256 %s, now %s): a "
		"tag never changes; deploy this one under a new tag",
		e->base, e->tag, there, sha256);
}

/*
 * What `current` names before the first deployment was put there by hand and has no marker.  It is
 * in use, so it is complete; without a marker there would be no way back to it.
 */
static int
adopt(const struct engine *e, const char *tag)
{
	char sha256[DIGEST_HEX];
	int fd = -1, r = release_read(e, tag, &fd, sha256);

	if (r == -EBADMSG && fd >= 0) {
		r = marker_write(fd, tag, MARKER_ADOPTED);
		if (r < 0)
			fail_errno(
				e->ret_error, r,
				"cannot mark %s/releases/%s, which is in use, as complete; without "
				"that there would be no way back to it",
				e->base, tag);
	} else if (error_passes(r) || r == -EACCES) {
		fail_errno(e->ret_error, r, "cannot tell whether %s/releases/%s is complete",
			   e->base, tag);
	} else {
		r = 0; /* complete, or a link to nothing */
	}
	if (fd >= 0)
		close(fd);
	return r;
}

static int
unpack_if_needed(struct engine *e, const char *path, const atomic_bool *cancelled)
{
	char sha256[DIGEST_HEX];
	struct source *artifact;
	int r = source_open(path, cancelled, &artifact, e->ret_error);

	if (r < 0)
		return r;
	r = source_digest(artifact, true, sha256, e->ret_error);
	if (r == 0)
		r = already_there(e, sha256);
	if (r == 0)
		r = unpack_release(e, artifact, sha256);
	source_free(artifact);
	return r < 0 ? r : 0;
}

static int
deploy(struct engine *e, const char *artifact, const atomic_bool *cancelled, char **ret_previous)
{
	char *previous = NULL;
	int r = current_read(e->base_fd, e->base, &previous, e->ret_error);

	if (r < 0 && r != -ENOENT)
		return r;
	r = 0;
	if (previous && !streq(previous, e->tag))
		r = adopt(e, previous);
	if (r == 0)
		r = unpack_if_needed(e, artifact, cancelled);
	if (r == 0 && (!previous || !streq(previous, e->tag)))
		r = current_point(e->base_fd, e->base, e->tag, e->ret_error);
	if (r == 0)
		*ret_previous = previous;
	else
		free(previous);
	return r;
}

int
engine_deploy(const char *base, const char *tag, const char *artifact, const atomic_bool *cancelled,
	      char **ret_previous, char **ret_error)
{
	struct engine e;
	int r = tag_valid(tag) ? mkdir_p(base, 0755) : 0;

	if (r < 0)
		return fail_errno(ret_error, r, "cannot make the folder %s", base);
	r = engine_open(&e, base, tag, ret_error);
	if (r == 0)
		r = deploy(&e, artifact, cancelled, ret_previous);
	engine_close(&e);
	return r;
}

static int
check_complete(struct engine *e)
{
	char sha256[DIGEST_HEX];
	int fd = -1, r = release_read(e, e->tag, &fd, sha256);

	if (fd >= 0)
		close(fd);
	if (r == -EBADMSG)
		return fail(e->ret_error, -ENOENT,
			    "%s/releases/%s is not complete (it has no %s); deploy it again",
			    e->base, e->tag, MARKER_NAME);
	return r < 0 ? fail_errno(e->ret_error, r, "cannot read %s/releases/%s", e->base, e->tag)
		     : 0;
}

static int
switch_to(struct engine *e)
{
	char *now = NULL;
	int r = check_complete(e);

	if (r < 0)
		return r;
	r = current_read(e->base_fd, e->base, &now, e->ret_error);
	if (r < 0 && r != -ENOENT)
		return r;
	r = now && streq(now, e->tag) ? 0
				      : current_point(e->base_fd, e->base, e->tag, e->ret_error);
	free(now);
	return r;
}

int
engine_check(const char *base, const char *tag, char **ret_error)
{
	struct engine e;
	int r = engine_open(&e, base, tag, ret_error);

	if (r == 0)
		r = check_complete(&e);
	engine_close(&e);
	return r;
}

int
engine_switch(const char *base, const char *tag, char **ret_error)
{
	struct engine e;
	int r = engine_open(&e, base, tag, ret_error);

	if (r == 0)
		r = switch_to(&e);
	engine_close(&e);
	return r;
}

int
engine_current(const char *base, char **ret_tag)
{
	int fd = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = current_read(fd, base, ret_tag, NULL);
	close(fd);
	return r;
}
