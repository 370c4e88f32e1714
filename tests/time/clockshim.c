/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD for the tests of time: gives a program clocks that a test moves.  The page that
 * $DHASH_CLOCK names (a file, mapped by the test and by every program under the shim) holds what
 * is added to the system's clocks:
 *
 *	advance    to all of them: time that passed
 *	suspended  to BOOTTIME and REALTIME: time that a suspended machine did not count
 *	stepped    to REALTIME: what somebody set the wall clock by
 *
 * With DHASH_CLOCK_SKIP=1 the main thread's epoll_wait() does not wait while the whole program is
 * idle: it moves `advance` on to whatever is due next, but never beyond `until` (BOOTTIME), where
 * it stays and says so in `held`.  Idle means: each other thread waits for work, no connection of
 * the program's own is watched, no child is watched.  So hours pass in seconds, nothing that works
 * in real time is hurried, and a busy machine changes nothing.
 *
 * Timers on CLOCK_BOOTTIME (timerfd) are kept by that clock, as the kernel does, through a suspend
 * too.  Timers on CLOCK_MONOTONIC, which is what time-outs of epoll_wait() are, do not see one.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 4096, CONDS_MAX = 256, SLICE_MS = 1 };

static const int64_t ns_per_sec = 1000000000, never = INT64_MAX;

struct page {
	_Atomic int64_t advance, suspended, stepped, until, held; /* ns */
};

static struct page own_page, *page = &own_page;
static bool skips;

/* What a watched descriptor or a timer is. */
static _Atomic bool works[FDS_MAX]; /* in an epoll set, and somebody is to answer on it */
static _Atomic bool is_timer[FDS_MAX];
static _Atomic int64_t due[FDS_MAX]; /* BOOTTIME, of a timer; never = not armed */
static _Atomic int timers_end;       /* one above the highest timer */
static _Atomic int watched;

#define REAL(name) ((__typeof__(&name))real_of(#name))

static void *
real_of(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (!f)
		abort();
	return f;
}

/* The default of a name that has an old version as well, which dlsym() would give. */
static void *
real_cond(const char *name)
{
	void *f = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");

	return f ? f : real_of(name);
}

/* --- clocks --- */

static int64_t
real_now(clockid_t id)
{
	static int (*real)(clockid_t, struct timespec *);
	struct timespec ts;

	if (!real)
		real = REAL(clock_gettime);
	real(id, &ts);
	return ts.tv_sec * ns_per_sec + ts.tv_nsec;
}

static int64_t
offset_of(clockid_t id)
{
	int64_t off = page->advance;

	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW || id == CLOCK_MONOTONIC_COARSE)
		return off;
	off += page->suspended;
	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
		return off + page->stepped;
	return id == CLOCK_BOOTTIME ? off : 0;
}

static int64_t
fake_now(clockid_t id)
{
	return real_now(id) + offset_of(id);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t now;

	if (id < 0 || id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID)
		return REAL(clock_gettime)(id, ts);
	/* Its granularity of some ms would be added to each wait. */
	now = fake_now(id == CLOCK_MONOTONIC_COARSE ? CLOCK_MONOTONIC : id);
	ts->tv_sec = now / ns_per_sec;
	ts->tv_nsec = now % ns_per_sec;
	return 0;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	int64_t now = fake_now(CLOCK_REALTIME);

	tv->tv_sec = now / ns_per_sec;
	tv->tv_usec = now % ns_per_sec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	time_t now = fake_now(CLOCK_REALTIME) / ns_per_sec;

	if (t)
		*t = now;
	return now;
}

/* --- timers on BOOTTIME --- */

static void
timer_arm(int fd)
{
	int64_t at = due[fd], left = at - fake_now(CLOCK_BOOTTIME);
	struct itimerspec t = {0};

	if (at != never) {
		left = left > 1 ? left : 1;
		t.it_value = (struct timespec){left / ns_per_sec, left % ns_per_sec};
	}
	REAL(timerfd_settime)(fd, 0, &t, NULL);
}

static void
timers_arm(void)
{
	for (int fd = 0; fd < timers_end; fd++)
		if (is_timer[fd] && due[fd] != never)
			timer_arm(fd);
}

static int64_t
timers_next(void)
{
	int64_t next = never;

	for (int fd = 0; fd < timers_end; fd++)
		if (is_timer[fd] && due[fd] < next)
			next = due[fd];
	return next;
}

/* The clock may be moved while nothing of the program runs: someone has to look. */
static void *
timers_keep(void *arg)
{
	int64_t seen = 0;

	for (;;) {
		struct timespec slice = {.tv_nsec = SLICE_MS * 1000000};
		int64_t now = page->advance + page->suspended;

		if (now != seen)
			timers_arm();
		seen = now;
		syscall(SYS_nanosleep, &slice, NULL);
	}
	return NULL;
}

int
timerfd_create(int id, int flags)
{
	static atomic_flag kept = ATOMIC_FLAG_INIT;
	int fd = REAL(timerfd_create)(id, flags);
	pthread_t keeper;

	if (fd < 0 || fd >= FDS_MAX || id != CLOCK_BOOTTIME)
		return fd;
	due[fd] = never;
	is_timer[fd] = true;
	if (fd >= timers_end)
		timers_end = fd + 1;
	if (!atomic_flag_test_and_set(&kept))
		REAL(pthread_create)(&keeper, NULL, timers_keep, NULL);
	return fd;
}

int
timerfd_settime(int fd, int flags, const struct itimerspec *t, struct itimerspec *old)
{
	int64_t at = t->it_value.tv_sec * ns_per_sec + t->it_value.tv_nsec;

	if (fd < 0 || fd >= FDS_MAX || !is_timer[fd])
		return REAL(timerfd_settime)(fd, flags, t, old);
	if (t->it_interval.tv_sec || t->it_interval.tv_nsec)
		abort(); /* nobody has such a one yet */
	if (at == 0)
		due[fd] = never;
	else
		due[fd] = flags & TFD_TIMER_ABSTIME ? at : fake_now(CLOCK_BOOTTIME) + at;
	timer_arm(fd);
	return 0;
}

ssize_t
read(int fd, void *buf, size_t n)
{
	ssize_t r = REAL(read)(fd, buf, n);

	if (r > 0 && fd >= 0 && fd < FDS_MAX && is_timer[fd])
		due[fd] = never;
	return r;
}

/* --- threads: how many do something --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int busy; /* threads beside the main one that do not wait for work */
static struct waiters {
	const pthread_cond_t *cond;
	int waiting, woken;
} conds[CONDS_MAX];

static struct waiters *
waiters_of(const pthread_cond_t *cond, bool add)
{
	for (int i = 0; i < CONDS_MAX; i++) {
		if (conds[i].cond == cond)
			return &conds[i];
		if (conds[i].cond)
			continue;
		if (add)
			conds[i].cond = cond;
		return add ? &conds[i] : NULL;
	}
	abort();
}

static void
wait_begins(const pthread_cond_t *cond)
{
	pthread_mutex_lock(&lock);
	waiters_of(cond, true)->waiting++;
	busy--;
	pthread_mutex_unlock(&lock);
}

/* A thread that was signalled counts as busy from the signal on, not from when it runs. */
static void
wait_ends(const pthread_cond_t *cond)
{
	struct waiters *w;

	pthread_mutex_lock(&lock);
	w = waiters_of(cond, true);
	if (w->woken > 0) {
		w->woken--;
	} else {
		w->waiting--;
		busy++;
	}
	pthread_mutex_unlock(&lock);
}

static void
signalled(const pthread_cond_t *cond, bool all)
{
	struct waiters *w;
	int n;

	pthread_mutex_lock(&lock);
	w = waiters_of(cond, false);
	n = !w ? 0 : all ? w->waiting : w->waiting > 0;
	if (n > 0) {
		w->waiting -= n;
		w->woken += n;
		busy += n;
	}
	pthread_mutex_unlock(&lock);
}

int
pthread_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex)
{
	int (*real)(pthread_cond_t *, pthread_mutex_t *) = real_cond("pthread_cond_wait");
	int r;

	if (gettid() == getpid())
		return real(cond, mutex);
	wait_begins(cond);
	r = real(cond, mutex);
	wait_ends(cond);
	return r;
}

/* All of them are on CLOCK_MONOTONIC here.  Such a thread counts as busy: its time is real. */
int
pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
		       const struct timespec *restrict until)
{
	int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =
		real_cond("pthread_cond_timedwait");
	int64_t at = until->tv_sec * ns_per_sec + until->tv_nsec - offset_of(CLOCK_MONOTONIC);
	struct timespec ts = {0};

	if (at > 0)
		ts = (struct timespec){at / ns_per_sec, at % ns_per_sec};
	return real(cond, mutex, &ts);
}

int
pthread_cond_signal(pthread_cond_t *cond)
{
	int (*real)(pthread_cond_t *) = real_cond("pthread_cond_signal");

	signalled(cond, false);
	return real(cond);
}

int
pthread_cond_broadcast(pthread_cond_t *cond)
{
	int (*real)(pthread_cond_t *) = real_cond("pthread_cond_broadcast");

	signalled(cond, true);
	return real(cond);
}

struct start {
	void *(*fn)(void *);
	void *arg;
};

static void
count_busy(int by)
{
	pthread_mutex_lock(&lock);
	busy += by;
	pthread_mutex_unlock(&lock);
}

static void *
run_thread(void *arg)
{
	struct start s = *(struct start *)arg;
	void *r;

	free(arg);
	r = s.fn(s.arg);
	count_busy(-1);
	return r;
}

int
pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict attr, void *(*fn)(void *),
	       void *restrict arg)
{
	struct start *s = malloc(sizeof *s);
	int r;

	if (!s)
		return EAGAIN;
	*s = (struct start){fn, arg};
	count_busy(1);
	r = REAL(pthread_create)(t, attr, run_thread, s);
	if (r != 0) {
		count_busy(-1);
		free(s);
	}
	return r;
}

/* --- descriptors: is somebody to answer? --- */

static bool
is_connection(int fd)
{
	int domain = 0, listens = 0;
	socklen_t n = sizeof domain, m = sizeof listens;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
	       (domain == AF_INET || domain == AF_INET6) &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &m) == 0 && !listens;
}

static bool
is_child(int fd)
{
	char path[64], what[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, what, sizeof what - 1);
	what[n > 0 ? n : 0] = '\0';
	return strstr(what, "pidfd") != NULL;
}

static void
set_works(int fd, bool on)
{
	if (fd < 0 || fd >= FDS_MAX || works[fd] == on)
		return;
	works[fd] = on;
	watched += on ? 1 : -1;
}

int
epoll_ctl(int set, int op, int fd, struct epoll_event *ev)
{
	int r = REAL(epoll_ctl)(set, op, fd, ev);

	if (r == 0 && op == EPOLL_CTL_ADD)
		set_works(fd, is_connection(fd) || is_child(fd));
	else if (op == EPOLL_CTL_DEL)
		set_works(fd, false);
	return r;
}

int
close(int fd)
{
	set_works(fd, false);
	if (fd >= 0 && fd < FDS_MAX)
		is_timer[fd] = false;
	return REAL(close)(fd);
}

/* --- skipping --- */

static bool
idle(void)
{
	bool r;

	pthread_mutex_lock(&lock);
	r = busy == 0;
	pthread_mutex_unlock(&lock);
	return r && watched == 0;
}

/* Moves on to the next thing due; false: there is nothing to move, wait for a slice of real time.
 */
static bool
skip(int64_t left)
{
	int64_t now = fake_now(CLOCK_BOOTTIME), next = timers_next(), room = page->until - now;
	int64_t jump = next == never ? left : next - now < left ? next - now : left;

	if (jump <= 0)
		return false;
	if (room <= 0) {
		page->held = page->until;
		return false;
	}
	page->advance += jump < room ? jump : room;
	timers_arm();
	return true;
}

static int
wait_skipping(int set, struct epoll_event *ev, int max, int timeout)
{
	int (*real)(int, struct epoll_event *, int, int) = REAL(epoll_wait);
	int64_t end = timeout < 0 ? never : fake_now(CLOCK_MONOTONIC) + timeout * (int64_t)1000000;

	for (;;) {
		int64_t left = end == never ? never : end - fake_now(CLOCK_MONOTONIC);
		bool quiet = idle(); /* before the look: what a thread tells us it tells first */
		int n = real(set, ev, max, 0);

		if (n != 0 || left <= 0)
			return n;
		if (quiet && skip(left))
			continue;
		n = real(set, ev, max, SLICE_MS);
		if (n != 0)
			return n;
	}
}

int
epoll_wait(int set, struct epoll_event *ev, int max, int timeout)
{
	if (!skips || gettid() != getpid())
		return REAL(epoll_wait)(set, ev, max, timeout);
	return wait_skipping(set, ev, max, timeout);
}

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("DHASH_CLOCK");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	page = map;
	REAL(close)(fd);
	skips = getenv("DHASH_CLOCK_SKIP") != NULL;
}
