/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD library of the fault injection: calls of the system that fail on command.
 *
 * A page in a file (FAULT_PAGE) is shared with the driver.  It says which family of calls is to
 * fail, at which place, with which error, once or from there on; and it takes down every place from
 * which a call of a family came, so that a run without faults tells the driver what there is to
 * fail.  A place is the hash of the return addresses above the call, each as an offset in its
 * object: the same in every run of the same binaries.
 *
 * Owns no policy: what fails when is the driver's.  FAULT_ROLE tells the daemon from the hook
 * runner, into which posix_spawn() here carries the library, as the daemon gives its runner an
 * empty environment.
 */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/torture/faultpage.h"

static struct fault_page *page; /* NULL: nothing fails */
static unsigned role;
static _Thread_local bool busy; /* in here: what we call ourselves neither counts nor fails */

/* --- where a call came from --- */

enum { OBJECTS_MAX = 64, FRAMES = 14 };

static struct object {
	uintptr_t begin, end, base;
	uint32_t name;
} objects[OBJECTS_MAX];
static atomic_uint n_objects;

static uint32_t
hash_text(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

static int
on_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	unsigned n = atomic_load(&n_objects);
	const char *slash = strrchr(info->dlpi_name, '/');

	for (int i = 0; i < info->dlpi_phnum && n < OBJECTS_MAX; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		objects[n].base = info->dlpi_addr;
		objects[n].begin = info->dlpi_addr + p->p_vaddr;
		objects[n].end = objects[n].begin + p->p_memsz;
		objects[n++].name = hash_text(slash ? slash + 1 : info->dlpi_name);
	}
	atomic_store(&n_objects, n);
	return 0;
}

/* 0 where the address is in no object that was there at the start. */
static uint64_t
place_of(uintptr_t a)
{
	unsigned n = atomic_load(&n_objects);

	for (unsigned i = 0; i < n; i++)
		if (a >= objects[i].begin && a < objects[i].end)
			return ((uint64_t)objects[i].name << 32) ^ (a - objects[i].base);
	return 0;
}

static uint64_t
hash_frames(void *const *frames, int n, uint64_t *ret_where)
{
	uint64_t h = 0xcbf29ce484222325ull;
	int kept = 0;

	for (int i = 0; i < n && kept < FAULT_FRAMES; i++) {
		uint64_t place = place_of((uintptr_t)frames[i]);

		if (!place)
			continue;
		ret_where[kept++] = place;
		h = (h ^ place) * 0x100000001b3ull;
	}
	while (kept < FAULT_FRAMES)
		ret_where[kept++] = 0;
	return h ? h : 1;
}

/* --- failing --- */

static struct fault_site *
site_find(unsigned family, uint64_t hash, const uint64_t *where)
{
	for (unsigned i = hash % FAULT_SITES, n = 0; n < FAULT_SITES;
	     i = (i + 1) % FAULT_SITES, n++) {
		struct fault_site *s = &page->sites[i];
		uint64_t none = 0;

		if (atomic_load(&s->hash) == hash && s->family == family)
			return s;
		if (atomic_compare_exchange_strong(&s->hash, &none, hash)) {
			s->family = family;
			memcpy(s->where, where, sizeof s->where);
			return s;
		}
	}
	return NULL;
}

static void
take_down(const char *what, const char *on)
{
	if (atomic_fetch_add(&page->failed, 1) == 0)
		snprintf(page->what, sizeof page->what, "%s %s", what, on ? on : "");
}

/* True for the one that was chosen, by place or by number. */
static bool
is_chosen(unsigned family, uint64_t call, const struct fault_site *s, uint64_t hit)
{
	if (page->site)
		return s && atomic_load(&s->hash) == page->site && hit == page->nth;
	return call == page->nth;
}

static bool
decide(unsigned family, const char *what, const char *on)
{
	uint64_t where[FAULT_FRAMES], hash, call, hit;
	void *frames[FRAMES];
	struct fault_site *s;
	int n;

	call = atomic_fetch_add(&page->calls[family], 1) + 1;
	if (atomic_load(&page->fails[family])) {
		take_down(what, on);
		return true;
	}
	n = backtrace(frames, FRAMES);
	hash = hash_frames(frames, n, where) ^ family;
	s = site_find(family, hash, where);
	hit = s ? atomic_fetch_add(&s->hits, 1) + 1 : 0;
	if (family != page->family || atomic_load(&page->done) || !is_chosen(family, call, s, hit))
		return false;
	atomic_store(&page->done, 1);
	memcpy(page->where, where, sizeof where);
	take_down(what, on);
	if (page->for_good)
		for (unsigned f = 0; f < FAULT_FAMILIES; f++)
			atomic_store(&page->fails[f], page->together >> f & 1);
	return true;
}

/* Counts the call; true: it fails, and errno is set. */
static bool
fails(unsigned family, const char *what, const char *on)
{
	bool r;
	int saved = errno;

	if (!page || busy || !atomic_load(&page->armed) || page->role != role)
		return false;
	busy = true;
	r = decide(family, what, on);
	busy = false;
	errno = r ? (int)page->error : saved;
	return r;
}

#define REAL(name)                                                                                 \
	static __typeof__(name) *real;                                                             \
	if (!real) {                                                                               \
		bool was_busy = busy;                                                              \
		busy = true;                                                                       \
		real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                \
		busy = was_busy;                                                                   \
	}

/* --- memory: all of glibc's own comes through here, too --- */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

void *
malloc(size_t n)
{
	return fails(FAULT_MEMORY, "malloc", NULL) ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return fails(FAULT_MEMORY, "calloc", NULL) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return fails(FAULT_MEMORY, "realloc", NULL) ? NULL : __libc_realloc(p, n);
}

int
posix_memalign(void **ret, size_t align, size_t n)
{
	void *p = fails(FAULT_MEMORY, "posix_memalign", NULL) ? NULL : __libc_memalign(align, n);

	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}

void *
aligned_alloc(size_t align, size_t n)
{
	return fails(FAULT_MEMORY, "aligned_alloc", NULL) ? NULL : __libc_memalign(align, n);
}

/* --- files: open --- */

#define MODE_OF(flags)                                                                             \
	mode_t mode = 0;                                                                           \
	if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                   \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode = va_arg(ap, mode_t);                                                         \
		va_end(ap);                                                                        \
	}

#define WRAP_OPEN(name)                                                                            \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		REAL(name)                                                                         \
		MODE_OF(flags)                                                                     \
		return fails(FAULT_OPEN, #name, path) ? -1 : real(path, flags, mode);              \
	}
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_OPENAT(name)                                                                          \
	int name(int dir, const char *path, int flags, ...)                                        \
	{                                                                                          \
		REAL(name)                                                                         \
		MODE_OF(flags)                                                                     \
		return fails(FAULT_OPEN, #name, path) ? -1 : real(dir, path, flags, mode);         \
	}
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

#define WRAP_PATH(ret_type, name, bad, family, args, call)                                         \
	ret_type name args                                                                         \
	{                                                                                          \
		REAL(name)                                                                         \
		return fails(family, #name, path) ? bad : real call;                               \
	}

extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int dir, const char *path, int flags);
extern int __openat64_2(int dir, const char *path, int flags);
WRAP_PATH(int, __open_2, -1, FAULT_OPEN, (const char *path, int flags), (path, flags))
WRAP_PATH(int, __open64_2, -1, FAULT_OPEN, (const char *path, int flags), (path, flags))
WRAP_PATH(int, __openat_2, -1, FAULT_OPEN, (int dir, const char *path, int flags),
	  (dir, path, flags))
WRAP_PATH(int, __openat64_2, -1, FAULT_OPEN, (int dir, const char *path, int flags),
	  (dir, path, flags))
WRAP_PATH(int, mkostemp, -1, FAULT_OPEN, (char *path, int flags), (path, flags))
WRAP_PATH(int, mkostemp64, -1, FAULT_OPEN, (char *path, int flags), (path, flags))
WRAP_PATH(FILE *, fopen, NULL, FAULT_OPEN, (const char *path, const char *mode), (path, mode))
WRAP_PATH(FILE *, fopen64, NULL, FAULT_OPEN, (const char *path, const char *mode), (path, mode))

/* --- files: names --- */

WRAP_PATH(int, mkdir, -1, FAULT_MKDIR, (const char *path, mode_t mode), (path, mode))
WRAP_PATH(int, mkdirat, -1, FAULT_MKDIR, (int dir, const char *path, mode_t mode),
	  (dir, path, mode))
WRAP_PATH(int, rename, -1, FAULT_RENAME, (const char *path, const char *to), (path, to))
WRAP_PATH(int, renameat, -1, FAULT_RENAME, (int dir, const char *path, int to_dir, const char *to),
	  (dir, path, to_dir, to))
WRAP_PATH(int, renameat2, -1, FAULT_RENAME,
	  (int dir, const char *path, int to_dir, const char *to, unsigned flags),
	  (dir, path, to_dir, to, flags))
WRAP_PATH(int, link, -1, FAULT_RENAME, (const char *path, const char *to), (path, to))
WRAP_PATH(int, linkat, -1, FAULT_RENAME,
	  (int dir, const char *path, int to_dir, const char *to, int flags),
	  (dir, path, to_dir, to, flags))
WRAP_PATH(int, unlink, -1, FAULT_UNLINK, (const char *path), (path))
WRAP_PATH(int, unlinkat, -1, FAULT_UNLINK, (int dir, const char *path, int flags),
	  (dir, path, flags))
WRAP_PATH(int, rmdir, -1, FAULT_UNLINK, (const char *path), (path))
WRAP_PATH(DIR *, opendir, NULL, FAULT_LIST, (const char *path), (path))
WRAP_PATH(int, stat, -1, FAULT_STAT, (const char *path, struct stat *st), (path, st))
WRAP_PATH(int, stat64, -1, FAULT_STAT, (const char *path, struct stat64 *st), (path, st))
WRAP_PATH(int, lstat, -1, FAULT_STAT, (const char *path, struct stat *st), (path, st))
WRAP_PATH(int, lstat64, -1, FAULT_STAT, (const char *path, struct stat64 *st), (path, st))
WRAP_PATH(int, fstatat, -1, FAULT_STAT, (int dir, const char *path, struct stat *st, int flags),
	  (dir, path, st, flags))
WRAP_PATH(int, fstatat64, -1, FAULT_STAT, (int dir, const char *path, struct stat64 *st, int flags),
	  (dir, path, st, flags))

/* --- files: content --- */

/* Sockets, pipes and the log have failures of their own. */
static bool
is_file(int fd)
{
	struct stat st;
	int saved = errno;
	bool r;

	if (!page || busy || fd <= STDERR_FILENO)
		return false;
	busy = true;
	r = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
	busy = false;
	errno = saved;
	return r;
}

static const char *
path_of(int fd, char buf[static 128])
{
	char link[40];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, buf, 127);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static bool
fd_fails(unsigned family, const char *what, int fd)
{
	char path[128];

	return is_file(fd) && fails(family, what, path_of(fd, path));
}

/* Part of it is written, as on a disk that fills up: the caller has to notice, or to try on. */
static size_t
part(size_t n)
{
	return page->error == ENOSPC && n > 1 && page->part ? n / 2 : 0;
}

#define WRAP_FD(ret_type, name, family, args, call)                                                \
	ret_type name args                                                                         \
	{                                                                                          \
		REAL(name)                                                                         \
		return fd_fails(family, #name, fd) ? -1 : real call;                               \
	}

ssize_t
write(int fd, const void *data, size_t n)
{
	REAL(write)
	if (!fd_fails(FAULT_WRITE, "write", fd))
		return real(fd, data, n);
	return part(n) ? real(fd, data, part(n)) : -1;
}

#define WRAP_PWRITE(name, off)                                                                     \
	ssize_t name(int fd, const void *data, size_t n, off at)                                   \
	{                                                                                          \
		REAL(name)                                                                         \
		if (!fd_fails(FAULT_WRITE, #name, fd))                                             \
			return real(fd, data, n, at);                                              \
		return part(n) ? real(fd, data, part(n), at) : -1;                                 \
	}
WRAP_PWRITE(pwrite, off_t)
WRAP_PWRITE(pwrite64, off64_t)

extern ssize_t __read_chk(int fd, void *buf, size_t n, size_t len);
extern ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t len);
extern ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t len);
WRAP_FD(ssize_t, writev, FAULT_WRITE, (int fd, const struct iovec *v, int n), (fd, v, n))
WRAP_FD(ssize_t, read, FAULT_READ, (int fd, void *buf, size_t n), (fd, buf, n))
WRAP_FD(ssize_t, __read_chk, FAULT_READ, (int fd, void *buf, size_t n, size_t len),
	(fd, buf, n, len))
WRAP_FD(ssize_t, pread, FAULT_READ, (int fd, void *buf, size_t n, off_t at), (fd, buf, n, at))
WRAP_FD(ssize_t, pread64, FAULT_READ, (int fd, void *buf, size_t n, off64_t at), (fd, buf, n, at))
WRAP_FD(ssize_t, __pread_chk, FAULT_READ, (int fd, void *buf, size_t n, off_t at, size_t len),
	(fd, buf, n, at, len))
WRAP_FD(ssize_t, __pread64_chk, FAULT_READ, (int fd, void *buf, size_t n, off64_t at, size_t len),
	(fd, buf, n, at, len))
WRAP_FD(int, fsync, FAULT_SYNC, (int fd), (fd))
WRAP_FD(int, fdatasync, FAULT_SYNC, (int fd), (fd))
WRAP_FD(int, ftruncate, FAULT_SIZE, (int fd, off_t n), (fd, n))
WRAP_FD(int, ftruncate64, FAULT_SIZE, (int fd, off64_t n), (fd, n))
WRAP_FD(int, fallocate, FAULT_SIZE, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP_FD(int, fstat, FAULT_STAT, (int fd, struct stat *st), (fd, st))
WRAP_FD(int, fstat64, FAULT_STAT, (int fd, struct stat64 *st), (fd, st))
WRAP_FD(int, fchmod, FAULT_STAT, (int fd, mode_t mode), (fd, mode))

int
posix_fallocate(int fd, off_t at, off_t n)
{
	REAL(posix_fallocate)
	return fd_fails(FAULT_SIZE, "posix_fallocate", fd) ? errno : real(fd, at, n);
}

DIR *
fdopendir(int fd)
{
	REAL(fdopendir)
	return fd_fails(FAULT_LIST, "fdopendir", fd) ? NULL : real(fd);
}

/* --- processes and threads --- */

#define WRAP(ret_type, name, bad, family, args, call)                                              \
	ret_type name args                                                                         \
	{                                                                                          \
		REAL(name)                                                                         \
		return fails(family, #name, NULL) ? bad : real call;                               \
	}

WRAP(pid_t, fork, -1, FAULT_PROCESS, (void), ())

static char **
with_library(char *const *env)
{
	static const char *const names[] = {"LD_PRELOAD", "FAULT_PAGE"};
	size_t n = 0;
	char **v;

	while (env && env[n])
		n++;
	v = __libc_calloc(n + 4, sizeof *v);
	memcpy(v, env, n * sizeof *v);
	for (int i = 0; i < 2; i++) {
		char *value = getenv(names[i]), *entry = __libc_malloc(4096);

		snprintf(entry, 4096, "%s=%s", names[i], value ? value : "");
		v[n++] = entry;
	}
	v[n++] = strdup("FAULT_ROLE=runner");
	return v;
}

static void
free_from(char **v, size_t n)
{
	for (size_t i = n; v[i]; i++)
		free(v[i]);
	free(v);
}

int
posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
	    const posix_spawnattr_t *at, char *const *argv, char *const *env)
{
	bool ours = strstr(path, "dhash-hook") != NULL;
	size_t n = 0;
	char **v;
	int r;

	REAL(posix_spawn)
	if (fails(FAULT_PROCESS, "posix_spawn", path))
		return errno;
	if (!ours || !page || page->role != FAULT_RUNNER)
		return real(pid, path, fa, at, argv, env);
	while (env && env[n])
		n++;
	busy = true;
	v = with_library(env);
	r = real(pid, path, fa, at, argv, v);
	free_from(v, n);
	busy = false;
	return r;
}

int
posix_spawnp(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
	     const posix_spawnattr_t *at, char *const *argv, char *const *env)
{
	REAL(posix_spawnp)
	return fails(FAULT_PROCESS, "posix_spawnp", path) ? errno
							  : real(pid, path, fa, at, argv, env);
}

int
pthread_create(pthread_t *ret, const pthread_attr_t *at, void *(*fn)(void *), void *arg)
{
	REAL(pthread_create)
	return fails(FAULT_THREAD, "pthread_create", NULL) ? (int)page->error
							   : real(ret, at, fn, arg);
}

/* --- descriptors and the network --- */

WRAP(int, socket, -1, FAULT_SOCKET, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, socketpair, -1, FAULT_SOCKET, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(int, pipe2, -1, FAULT_SOCKET, (int fds[2], int flags), (fds, flags))
WRAP(int, eventfd, -1, FAULT_SOCKET, (unsigned n, int flags), (n, flags))
WRAP(int, epoll_create1, -1, FAULT_SOCKET, (int flags), (flags))
WRAP(int, accept, -1, FAULT_ACCEPT, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
WRAP(int, accept4, -1, FAULT_ACCEPT, (int fd, struct sockaddr *a, socklen_t *n, int flags),
     (fd, a, n, flags))
WRAP(int, connect, -1, FAULT_CONNECT, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))

/* Taking out needs nothing that could be lacking. */
int
epoll_ctl(int fd, int op, int on, struct epoll_event *e)
{
	REAL(epoll_ctl)
	return op != EPOLL_CTL_DEL && fails(FAULT_EPOLL, "epoll_ctl", NULL) ? -1
									    : real(fd, op, on, e);
}

/* Names under .test are this machine, so that there is something to look up. */
int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
	    struct addrinfo **ret)
{
	size_t n = node ? strlen(node) : 0;

	REAL(getaddrinfo)
	if (fails(FAULT_RESOLVE, "getaddrinfo", node))
		return -(int)page->error;
	if (n > 5 && strcmp(node + n - 5, ".test") == 0)
		node = "127.0.0.1";
	return real(node, service, hints, ret);
}

/* --- beginning --- */

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("FAULT_PAGE"), *as = getenv("FAULT_ROLE");
	void *frames[2], *map;
	int fd;

	busy = true;
	dl_iterate_phdr(on_object, NULL);
	backtrace(frames, 2); /* loads its library now */
	role = as && strcmp(as, "runner") == 0 ? FAULT_RUNNER : FAULT_DAEMON;
	fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	map = fd < 0 ? MAP_FAILED
		     : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (map != MAP_FAILED)
		page = map;
	busy = false;
}
