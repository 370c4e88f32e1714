/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder's view of files: what is opened, written and synced. */

#include "powershim.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* --- opening ------------------------------------------------------------------------------ */

static int
plain_open(int dirfd, const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

static int
logged_open(int dirfd, const char *path, int flags, mode_t mode)
{
	struct place p;
	struct stat before = {0}, after;
	bool existed;
	int fd;

	if (shim_boot_file() && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		return plain_open(AT_FDCWD, shim_boot_file(), flags, mode);
	if (!shim_logs() || !(flags & (O_CREAT | O_TRUNC)))
		return plain_open(dirfd, path, flags, mode);
	shim_lock();
	p = shim_place(dirfd, path);
	existed = fstatat(dirfd, path, &before, 0) == 0;
	fd = plain_open(dirfd, path, flags, mode);
	if (fd >= 0 && p.ours && fstat(fd, &after) == 0 && S_ISREG(after.st_mode)) {
		if (!existed)
			shim_add_name(REC_CREATE, p.folder, after.st_ino, after.st_mode, p.name);
		else if ((flags & O_TRUNC) && before.st_size > 0)
			shim_add(REC_TRUNCATE, after.st_ino, 0, 0, "", 0, "", 0);
	}
	shim_unlock();
	return fd;
}

#define OPEN_MODE(flags, last)                                                                     \
	mode_t mode = 0;                                                                           \
	if (flags & (O_CREAT | __O_TMPFILE)) {                                                     \
		va_list ap;                                                                        \
		va_start(ap, last);                                                                \
		mode = va_arg(ap, mode_t);                                                         \
		va_end(ap);                                                                        \
	}

int
open(const char *path, int flags, ...)
{
	OPEN_MODE(flags, flags)
	return logged_open(AT_FDCWD, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags, flags)
	return logged_open(AT_FDCWD, path, flags, mode);
}

int
openat(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags, flags)
	return logged_open(dirfd, path, flags, mode);
}

int
openat64(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags, flags)
	return logged_open(dirfd, path, flags, mode);
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

int
__open_2(const char *path, int flags)
{
	return logged_open(AT_FDCWD, path, flags, 0);
}

int
__open64_2(const char *path, int flags)
{
	return logged_open(AT_FDCWD, path, flags, 0);
}

int
__openat_2(int dirfd, const char *path, int flags)
{
	return logged_open(dirfd, path, flags, 0);
}

int
__openat64_2(int dirfd, const char *path, int flags)
{
	return logged_open(dirfd, path, flags, 0);
}

int
mkostemp(char *template, int flags)
{
	int fd;

	if (!shim_logs())
		return REAL(mkostemp)(template, flags);
	shim_lock();
	fd = REAL(mkostemp)(template, flags);
	if (fd >= 0) {
		struct place p = shim_place(AT_FDCWD, template);

		if (p.ours)
			shim_add_name(REC_CREATE, p.folder, shim_inode(fd), S_IFREG | 0600, p.name);
	}
	shim_unlock();
	return fd;
}

/* --- data --------------------------------------------------------------------------------- */

/* What stdio wrote went past us: the whole content, as one write. */
static void
add_content(int fd, uint64_t inode)
{
	struct stat st;
	char path[64], *data;
	int in;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	in = plain_open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (in < 0)
		return;
	if (fstat(in, &st) == 0 && st.st_size > 0 && (data = malloc((size_t)st.st_size))) {
		ssize_t n = pread(in, data, (size_t)st.st_size, 0);

		if (n > 0)
			shim_add(REC_WRITE, inode, 0, 0, data, (size_t)n, "", 0);
		free(data);
	}
	syscall(SYS_close, in);
}

int
fclose(FILE *f)
{
	uint64_t inode = shim_inode(fileno(f));
	int mode = inode ? fcntl(fileno(f), F_GETFL) & O_ACCMODE : O_RDONLY;

	if (inode && mode != O_RDONLY) {
		fflush(f);
		shim_lock();
		add_content(fileno(f), inode);
		shim_unlock();
	}
	return REAL(fclose)(f);
}

static bool
is_control_socket(int fd)
{
	int domain = 0, type = 0;
	socklen_t n = sizeof domain;

	return shim_logs() && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && domain == AF_UNIX &&
	       type == SOCK_STREAM;
}

static void
seen_outside(int fd, const struct iovec *v, int n)
{
	int saved = errno;

	if (is_control_socket(fd)) {
		shim_lock();
		for (int i = 0; i < n; i++)
			shim_add(REC_ANSWER, (uint64_t)fd, 0, 0, v[i].iov_base, v[i].iov_len, "",
				 0);
		shim_unlock();
	}
	errno = saved;
}

/* Of a write at the file's own offset, which an append moves to the end. */
static void
add_write(int fd, uint64_t inode, const void *data, ssize_t n)
{
	off_t end = lseek(fd, 0, SEEK_CUR);

	if (n > 0 && end >= n)
		shim_add(REC_WRITE, inode, (uint64_t)(end - n), 0, data, (size_t)n, "", 0);
}

ssize_t
write(int fd, const void *data, size_t len)
{
	uint64_t inode = shim_inode(fd);
	ssize_t n;

	if (inode) {
		shim_lock();
		n = syscall(SYS_write, fd, data, len);
		add_write(fd, inode, data, n);
		shim_unlock();
		return n;
	}
	seen_outside(fd, &(struct iovec){(void *)data, len}, 1);
	return syscall(SYS_write, fd, data, len);
}

ssize_t
writev(int fd, const struct iovec *v, int count)
{
	/* Only libevent uses it here, on sockets. */
	if (shim_inode(fd))
		abort();
	seen_outside(fd, v, count);
	return syscall(SYS_writev, fd, v, count);
}

static ssize_t
logged_pwrite(int fd, const void *data, size_t len, off_t at)
{
	uint64_t inode = shim_inode(fd);
	ssize_t n;

	if (!inode)
		return syscall(SYS_pwrite64, fd, data, len, at);
	shim_lock();
	n = syscall(SYS_pwrite64, fd, data, len, at);
	if (n > 0)
		shim_add(REC_WRITE, inode, (uint64_t)at, 0, data, (size_t)n, "", 0);
	shim_unlock();
	return n;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t at)
{
	return logged_pwrite(fd, data, len, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t at)
{
	return logged_pwrite(fd, data, len, at);
}

static int
logged_truncate(int fd, off_t size)
{
	uint64_t inode = shim_inode(fd);
	int r;

	if (!inode)
		return (int)syscall(SYS_ftruncate, fd, size);
	shim_lock();
	r = (int)syscall(SYS_ftruncate, fd, size);
	if (r == 0)
		shim_add(REC_TRUNCATE, inode, (uint64_t)size, 0, "", 0, "", 0);
	shim_unlock();
	return r;
}

int
ftruncate(int fd, off_t size)
{
	return logged_truncate(fd, size);
}

int
ftruncate64(int fd, off64_t size)
{
	return logged_truncate(fd, size);
}

int
posix_fallocate(int fd, off_t from, off_t len)
{
	uint64_t inode = shim_inode(fd);
	int r;

	if (!inode)
		return REAL(posix_fallocate)(fd, from, len);
	shim_lock();
	r = REAL(posix_fallocate)(fd, from, len);
	if (r == 0)
		shim_add(REC_ALLOCATE, inode, (uint64_t)(from + len), 0, "", 0, "", 0);
	shim_unlock();
	return r;
}

/* --- syncing ------------------------------------------------------------------------------ */

static int
logged_sync(long call, int fd, bool all)
{
	uint64_t inode = shim_inode(fd), token;
	int r;

	if (!inode)
		return (int)syscall(call, fd);
	token = shim_sync_begins(all ? 0 : inode);
	r = (int)syscall(call, fd);
	shim_sync_ends(all ? 0 : inode, token, r);
	return r;
}

int
fsync(int fd)
{
	return logged_sync(SYS_fsync, fd, false);
}

int
fdatasync(int fd)
{
	return logged_sync(SYS_fdatasync, fd, false);
}

int
syncfs(int fd)
{
	return logged_sync(SYS_syncfs, fd, true);
}
