/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD library of the power-cut tests: writes down, in one order for daemon and runners, what
 * is done to the files of a world and what the outside sees, so that tests/torture/powercut.py can
 * make any disk that a power cut might have left.
 *
 *   POWER_LOG         the log, made by the test: a header, then records; nothing is logged without
 *   POWER_DEV         the device of the world; the reader knows which inodes of it count
 *   POWER_SYNC_USEC   a sync takes up to so long, as it does on disks: others act meanwhile
 *   POWER_WALL_USEC   added to the wall clock: a second life begins soon after the first
 *   POWER_BOOT        file to read in place of the kernel's boot id: each life is a boot of its own
 *
 * Every change is made and logged under one lock shared by all processes, so the log's order is the
 * order of the changes.  A sync is logged at its begin and at its end: only what was there at the
 * begin is sure at the end.  The lock is not held between.  What the outside sees is logged before
 * it does: an answer on a control socket, the exec of a hook's command.  The command itself runs
 * without this library.
 */

#include "powershim.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

struct record {
	uint32_t length, kind; /* length of all, a multiple of 8 */
	uint64_t a, b, c, wall;
	uint32_t first, second; /* bytes that follow */
};

struct header {
	uint64_t used, size;
	pthread_mutex_t lock; /* shared; initialised by the first process */
	uint64_t ready;
};

static struct header *shared;
static dev_t world_dev;
static unsigned sync_usec;
static int64_t wall_usec;
static const char *boot_file;

void *
shim_real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort();
	return p;
}

static const char *
setting(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? strdup(v) : NULL;
}

static void
map_log(const char *path)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	pthread_mutexattr_t attr;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	shared = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		abort();
	close(fd);
	if (shared->ready)
		return;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->lock, &attr);
	shared->size = (uint64_t)st.st_size;
	shared->used = sizeof *shared;
	shared->ready = 1;
}

__attribute__((constructor)) static void
begin(void)
{
	const char *log = setting("POWER_LOG"), *dev = setting("POWER_DEV");
	const char *sync = setting("POWER_SYNC_USEC"), *wall = setting("POWER_WALL_USEC");

	boot_file = setting("POWER_BOOT");
	world_dev = dev ? strtoull(dev, NULL, 10) : 0;
	sync_usec = sync ? (unsigned)strtoul(sync, NULL, 10) : 0;
	wall_usec = wall ? strtoll(wall, NULL, 10) : 0;
	if (log)
		map_log(log);
}

bool
shim_logs(void)
{
	return shared;
}

const char *
shim_boot_file(void)
{
	return boot_file;
}

/* --- the log ------------------------------------------------------------------------------ */

void
shim_lock(void)
{
	/* A process that died with it has left a whole log: `used` is set last. */
	if (pthread_mutex_lock(&shared->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&shared->lock);
}

void
shim_unlock(void)
{
	pthread_mutex_unlock(&shared->lock);
}

void
shim_add(enum record_kind kind, uint64_t a, uint64_t b, uint64_t c, const void *first,
	 size_t n_first, const void *second, size_t n_second)
{
	struct record r = {.kind = kind,
			   .a = a,
			   .b = b,
			   .c = c,
			   .first = (uint32_t)n_first,
			   .second = (uint32_t)n_second};
	char *p = (char *)shared + shared->used;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r.wall = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	r.length = (uint32_t)((sizeof r + n_first + n_second + 7) & ~(size_t)7);
	if (shared->used + r.length > shared->size) {
		static const char text[] = "powershim: the log is full\n";

		(void)!syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
		abort();
	}
	memcpy(p, &r, sizeof r);
	memcpy(p + sizeof r, first, n_first);
	memcpy(p + sizeof r + n_first, second, n_second);
	shared->used += r.length;
}

void
shim_add_name(enum record_kind kind, uint64_t a, uint64_t b, uint64_t c, const char *name)
{
	shim_add(kind, a, b, c, name, strlen(name), "", 0);
}

struct place
shim_place(int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char folder[PATH_MAX];
	struct place p = {0};
	struct stat st;

	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1,
		 slash ? path : ".");
	if (!shared || fstatat(dirfd, folder, &st, 0) < 0)
		return p;
	p.ours = st.st_dev == world_dev;
	p.folder = st.st_ino;
	snprintf(p.name, sizeof p.name, "%s", name);
	return p;
}

uint64_t
shim_inode(int fd)
{
	struct stat st;

	if (!shared || fstat(fd, &st) < 0 || st.st_dev != world_dev ||
	    !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return 0;
	return st.st_ino;
}

uint64_t
shim_sync_begins(uint64_t inode)
{
	uint64_t token;

	shim_lock();
	token = shared->used;
	shim_add(REC_SYNC, inode, token, 0, "", 0, "", 0);
	shim_unlock();
	if (sync_usec > 0) {
		uint64_t usec = token * 2654435761u % sync_usec;
		struct timespec ts = {.tv_nsec = (long)usec * 1000};

		nanosleep(&ts, NULL);
	}
	return token;
}

void
shim_sync_ends(uint64_t inode, uint64_t token, int r)
{
	int saved = errno;

	if (r == 0) {
		shim_lock();
		shim_add(REC_SYNCED, inode, token, 0, "", 0, "", 0);
		shim_unlock();
	}
	errno = saved;
}

/* --- processes ---------------------------------------------------------------------------- */

static char *
join(const char *name, const char *value)
{
	char *s;

	return asprintf(&s, "%s=%s", name, value) < 0 ? NULL : s;
}

/* The runner is started with an empty environment: it comes along by this alone. */
int
posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
	    const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	static const char *const names[] = {"LD_PRELOAD",      "POWER_LOG",       "POWER_DEV",
					    "POWER_SYNC_USEC", "POWER_WALL_USEC", "POWER_BOOT"};
	const char *slash = strrchr(path, '/');
	char *ours[sizeof names / sizeof *names + 1];
	size_t n = 0;
	int r;

	if (!slash || strcmp(slash, "/dhash-hook") != 0)
		return REAL(posix_spawn)(pid, path, fa, attr, argv, envp);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (getenv(names[i]))
			ours[n++] = join(names[i], getenv(names[i]));
	ours[n] = NULL;
	r = REAL(posix_spawn)(pid, path, fa, attr, argv, ours);
	while (n > 0)
		free(ours[--n]);
	return r;
}

static const char *
step_of(char *const envp[])
{
	static const char name[] = "DHASH_STEP=";

	for (char *const *e = envp; *e; e++)
		if (strncmp(*e, name, sizeof name - 1) == 0)
			return *e + sizeof name - 1;
	return "";
}

int
execve(const char *path, char *const argv[], char *const envp[])
{
	const char *step = step_of(envp);
	char text[4096];
	size_t len = 0;

	for (char *const *a = argv; shared && *a && len + strlen(*a) + 1 <= sizeof text; a++) {
		memcpy(text + len, *a, strlen(*a) + 1);
		len += strlen(*a) + 1;
	}
	if (shared) {
		shim_lock();
		shim_add(REC_EXEC, 0, 0, 0, text, len, step, strlen(step));
		shim_unlock();
	}
	return REAL(execve)(path, argv, envp);
}

/* --- clocks ------------------------------------------------------------------------------- */

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, id, ts);
	int64_t ns;

	if (r < 0 || id != CLOCK_REALTIME || wall_usec == 0)
		return r;
	ns = ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec + wall_usec * 1000;
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return 0;
}

int
gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *ret)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}
