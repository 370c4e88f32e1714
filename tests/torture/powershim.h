/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_POWERSHIM_H
#define DHASH_POWERSHIM_H

/* The parts of the recorder, which powershim.c explains, among themselves. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As in powercut.py. */
enum record_kind {
	REC_CREATE = 1, /* folder, inode, mode: name */
	REC_MKDIR,      /* folder, inode: name */
	REC_SYMLINK,    /* folder, inode: name, target */
	REC_LINK,       /* folder, inode: name */
	REC_UNLINK,     /* folder: name */
	REC_RENAME,     /* from folder, to folder, exchange: name, name */
	REC_WRITE,      /* inode, offset: data */
	REC_TRUNCATE,   /* inode, size */
	REC_ALLOCATE,   /* inode, end */
	REC_SYNC,       /* inode, or 0 for all, token: begins */
	REC_SYNCED,     /* inode, or 0 for all, token: has ended */
	REC_ANSWER,     /* descriptor: data */
	REC_EXEC,       /* arguments, each ended by NUL; the hook's step */
};

/* What the next library has under that name. */
#define REAL(name) ((__typeof__(&name))shim_real(#name))
void *shim_real(const char *name);

bool shim_logs(void);
/* A file that stands for the kernel's boot id, or NULL. */
const char *shim_boot_file(void);

/* Around a change and its record. */
void shim_lock(void);
void shim_unlock(void);
void shim_add(enum record_kind kind, uint64_t a, uint64_t b, uint64_t c, const void *first,
	      size_t n_first, const void *second, size_t n_second);
void shim_add_name(enum record_kind kind, uint64_t a, uint64_t b, uint64_t c, const char *name);

/* A sync, which takes a while; without the lock. */
uint64_t shim_sync_begins(uint64_t inode);
void shim_sync_ends(uint64_t inode, uint64_t token, int r);

/* A name in a folder, as the log has it. */
struct place {
	bool ours; /* on the device of the world */
	uint64_t folder;
	char name[NAME_MAX + 1];
};
struct place shim_place(int dirfd, const char *path);
/* The inode of a regular file or folder of the world's device; else 0. */
uint64_t shim_inode(int fd);

#endif
