/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/admit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/digest.h"
#include "daemon/release/tree.h"
#include "daemon/release/verify.h"

enum { BLOCK = 256 << 10 };

static bool
file_name_valid(const char *s)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._+-";
	size_t n = strlen(s);

	return n > strlen(".zip") && strspn(s, allowed) == n && *s != '.' && *s != '-' &&
	       streq(s + n - strlen(".zip"), ".zip");
}

int
admit_name(const char *folder, const char *file, char **ret_why)
{
	size_t n = strlen(folder);

	while (n > 1 && folder[n - 1] == '/')
		n--;
	if (strncmp(file, folder, n) == 0 && file[n] == '/' && file_name_valid(file + n + 1))
		return 0;
	*ret_why = xasprintf("%s is no .zip file of the backup folder %s: put it there first", file,
			     folder);
	return -EPERM;
}

/* Reads fd whole from its beginning, and copies it to `copy` unless that is -1. */
static int
read_digest(int fd, int copy, char ret[DIGEST_HEX])
{
	struct digest *d = digest_new();
	char *block = xmalloc(BLOCK);
	off_t at = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = pread(fd, block, BLOCK, at)) != 0) {
		if (n < 0)
			r = -errno;
		else if (copy >= 0 && pwrite(copy, block, (size_t)n, at) != n)
			r = errno ? -errno : -ENOSPC;
		else
			digest_update(d, block, (size_t)n);
		at += MAX(n, 0);
	}
	digest_take_hex(d, ret);
	free(block);
	digest_free(d);
	return r;
}

static int
check_digest(const char *file, int fd, int copy, const char *sha256, char **ret_why)
{
	char hex[DIGEST_HEX];
	int r = read_digest(fd, copy, hex);

	if (r < 0) {
		*ret_why = xasprintf("cannot %s %s: %s", copy < 0 ? "read" : "copy", file,
				     strerror(-r));
	} else if (*sha256 && !digest_hex_equal(hex, sha256)) {
		r = -EBADMSG;
		*ret_why = xasprintf("%s is not the file that was verified: its sha256 is %s, not "
				     "%s; dhash backups lists the others",
				     file, hex, sha256);
	}
	return r;
}

static int
check_file(const char *file, int fd, uid_t owner, char **ret_why)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		*ret_why = xasprintf("cannot look at %s: %s", file, strerror(errno));
		return -errno;
	}
	if (S_ISREG(st.st_mode) && (st.st_nlink == 1 || st.st_uid == owner))
		return 0;
	*ret_why = xasprintf("%s is no backup: it is %s", file,
			     S_ISREG(st.st_mode) ? "a second name of another file"
						 : "no regular file");
	return -EPERM;
}

int
admit_open(const char *folder, const char *file, const char *sha256, uid_t owner, char **ret_why)
{
	int r = admit_name(folder, file, ret_why), dir, fd = -1;

	if (r < 0)
		return r;
	dir = open(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = dir < 0 ? -errno
		    : tree_open(dir, strrchr(file, '/') + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd);
	if (dir >= 0)
		close(dir);
	if (r < 0) {
		*ret_why = xasprintf("cannot open the backup %s: %s", file,
				     r == -ELOOP ? "it is a symbolic link" : strerror(-r));
		return r;
	}
	r = check_file(file, fd, owner, ret_why);
	if (r == 0 && *sha256)
		r = check_digest(file, fd, -1, sha256, ret_why);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* --- staging ------------------------------------------------------------------------------ */

static int
copy_to(int fd, const char *file, const char *sha256, const char *path, char **ret_why)
{
	int copy = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), r;

	if (copy < 0) {
		*ret_why = xasprintf("cannot make %s: %s", path, strerror(errno));
		return -errno;
	}
	r = check_digest(file, fd, copy, sha256, ret_why);
	close(copy);
	return r;
}

static int
link_or_copy(int fd, const char *file, const char *sha256, const char *path, char **ret_why)
{
	char self[40];

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	return copy_to(fd, file, sha256, path, ret_why);
}

int
admit_stage(int fd, const char *file, const char *sha256, const char *stage, char **ret_path,
	    char **ret_why)
{
	char *path = xasprintf("%s/%s", stage, strrchr(file, '/') + 1);
	int r = link_or_copy(fd, file, sha256, path, ret_why);

	if (r == 0 && *sha256)
		r = sidecar_write(path, sha256, ret_why);
	if (r == 0)
		*ret_path = path;
	else
		free(path);
	return r;
}
