/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder's view of folders: what is made, linked, renamed and removed. */

#include "powershim.h"

static uint64_t
inode_at(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

int
mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct place p;
	int r;

	if (!shim_logs())
		return (int)syscall(SYS_mkdirat, dirfd, path, mode);
	shim_lock();
	r = (int)syscall(SYS_mkdirat, dirfd, path, mode);
	p = shim_place(dirfd, path);
	if (r == 0 && p.ours)
		shim_add_name(REC_MKDIR, p.folder, inode_at(dirfd, path), 0, p.name);
	shim_unlock();
	return r;
}

int
mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int
symlinkat(const char *target, int dirfd, const char *path)
{
	struct place p;
	int r;

	if (!shim_logs())
		return (int)syscall(SYS_symlinkat, target, dirfd, path);
	shim_lock();
	r = (int)syscall(SYS_symlinkat, target, dirfd, path);
	p = shim_place(dirfd, path);
	if (r == 0 && p.ours)
		shim_add(REC_SYMLINK, p.folder, inode_at(dirfd, path), 0, p.name, strlen(p.name),
			 target, strlen(target));
	shim_unlock();
	return r;
}

int
linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	struct place p;
	int r;

	if (!shim_logs())
		return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
	shim_lock();
	r = (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
	p = shim_place(to_fd, to);
	if (r == 0 && p.ours)
		shim_add_name(REC_LINK, p.folder, inode_at(to_fd, to), 0, p.name);
	shim_unlock();
	return r;
}

int
link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
unlinkat(int dirfd, const char *path, int flags)
{
	struct place p;
	int r;

	if (!shim_logs())
		return (int)syscall(SYS_unlinkat, dirfd, path, flags);
	shim_lock();
	p = shim_place(dirfd, path);
	r = (int)syscall(SYS_unlinkat, dirfd, path, flags);
	if (r == 0 && p.ours)
		shim_add_name(REC_UNLINK, p.folder, 0, 0, p.name);
	shim_unlock();
	return r;
}

int
unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int
rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	struct place p, q;
	int r;

	if (!shim_logs())
		return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
	shim_lock();
	p = shim_place(from_fd, from);
	q = shim_place(to_fd, to);
	r = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
	if (r == 0 && p.ours && q.ours)
		shim_add(REC_RENAME, p.folder, q.folder, (flags & RENAME_EXCHANGE) != 0, p.name,
			 strlen(p.name), q.name, strlen(q.name));
	shim_unlock();
	return r;
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return renameat2(from_fd, from, to_fd, to, 0);
}

int
rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}
