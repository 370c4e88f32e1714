/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The listening socket and its place in the file system.
 *
 * Of two daemons that start at once one wins: the holder of an flock(2) on PATH.lock, which a crash
 * lets go of.  Under that lock what stands at the path can be judged and, if it is the stale socket
 * of a daemon that died, removed.  Nothing else is ever removed, and bind(2) replaces nothing.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/ctl/internal.h"

enum {
	BACKLOG = 128,
	/*
	 * A child of a daemon that was killed just now has all that was that daemon's, its lock and
	 * its socket, from the moment it is made until its exec().
	 */
	PATIENCE_TRIES = 20,
	PATIENCE_USEC = 50 * 1000,
};

static int
already_served(const char *path, int lock_fd, char **ret_error)
{
	char pid[32] = "";
	ssize_t n = lock_fd >= 0 ? pread(lock_fd, pid, sizeof pid - 1, 0) : 0;

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	*ret_error = xasprintf("another dhashd%s%s%s serves %s already; stop it, or choose another "
			       "socket with --socket",
			       *pid ? " (process " : "", pid, *pid ? ")" : "", path);
	return -EADDRINUSE;
}

/* True when the file that was locked is the one that still stands at the path. */
static bool
lock_is_current(int fd, const char *path)
{
	struct stat held, there;

	return fstat(fd, &held) == 0 && lstat(path, &there) == 0 && held.st_dev == there.st_dev &&
	       held.st_ino == there.st_ino;
}

static int
lock_failed(struct listen_socket *s, int error, char **ret_error)
{
	*ret_error = xasprintf("cannot lock %s: %s%s", s->lock_path, strerror(error),
			       error == ELOOP    ? "; it is a symbolic link"
			       : error == ENOENT ? "; the folder must exist"
						 : "");
	return -error;
}

/* The previous holder removes the file before it lets go of it, so a lock on a file that is no
 * longer there counts for nothing. */
static int
lock_take(struct listen_socket *s, char **ret_error)
{
	for (unsigned tries = 1;; tries++) {
		int fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
			      0600);
		int r;

		if (fd < 0)
			return lock_failed(s, errno, ret_error);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EWOULDBLOCK && tries < PATIENCE_TRIES) {
				close(fd);
				usleep(PATIENCE_USEC);
				continue;
			}
			r = errno == EWOULDBLOCK ? already_served(s->path, fd, ret_error)
						 : lock_failed(s, errno, ret_error);
			close(fd);
			return r;
		}
		if (lock_is_current(fd, s->lock_path)) {
			s->lock_fd = fd;
			if (ftruncate(fd, 0) == 0) /* only for the message above */
				dprintf(fd, "%d\n", (int)getpid());
			return 0;
		}
		close(fd);
	}
}

static bool
somebody_listens(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool listens;

	if (fd < 0)
		return true;
	listens = connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 ||
		  (errno != ECONNREFUSED && errno != ENOENT);
	close(fd);
	return listens;
}

static bool
somebody_stays(const struct sockaddr_un *addr)
{
	for (unsigned tries = 1; somebody_listens(addr); tries++) {
		if (tries == PATIENCE_TRIES)
			return true;
		usleep(PATIENCE_USEC);
	}
	return false;
}

/* Removes the socket of a daemon that died.  Anything else at the path stays and is complained of.
 */
static int
make_way(const struct sockaddr_un *addr, char **ret_error)
{
	const char *path = addr->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		*ret_error = xasprintf("cannot look at %s: %s", path, strerror(errno));
		return -errno;
	}
	if (!S_ISSOCK(st.st_mode)) {
		*ret_error = xasprintf("%s is %s, not a socket: dhashd does not replace it; remove "
				       "it, or choose another socket with --socket",
				       path,
				       S_ISLNK(st.st_mode)   ? "a symbolic link"
				       : S_ISDIR(st.st_mode) ? "a folder"
				       : S_ISREG(st.st_mode) ? "a regular file"
							     : "something else");
		return -EEXIST;
	}
	if (somebody_stays(addr))
		return already_served(path, -1, ret_error);
	if (unlink(path) < 0 && errno != ENOENT) {
		*ret_error =
			xasprintf("cannot remove the stale socket %s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

/* Nobody can connect yet: the socket does not listen. */
static void
set_access(const char *path, const char *group)
{
	gid_t gid;

	if (!group || !group_find(group, &gid)) {
		log_info("control socket %s: no group %s; only root and the daemon's own user can "
			 "connect",
			 path, group ? group : "is configured");
		return;
	}
	if (lchown(path, (uid_t)-1, gid) < 0 || chmod(path, 0660) < 0)
		log_event(LOG_KIND_CONTROL_SOCKET, LOG_WARNING, NULL,
			  "control socket %s: cannot give it to group %s: %s; only root and the "
			  "daemon's own user can connect",
			  path, group, strerror(errno));
}

static int
bind_and_listen(struct listen_socket *s, int fd, const struct sockaddr_un *addr, const char *group)
{
	struct stat st;

	/* On Linux the file is made with the mode of the socket. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)addr, sizeof *addr) < 0)
		return -errno;
	if (lstat(s->path, &st) < 0)
		return -errno;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	set_access(s->path, group);
	return listen(fd, BACKLOG) < 0 ? -errno : 0;
}

int
listen_socket_open(struct listen_socket *s, const char *path, const char *group, int *ret_fd,
		   char **ret_error)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, r;

	*s = (struct listen_socket){.lock_fd = -1};
	if (!*path || !str_copy(addr.sun_path, sizeof addr.sun_path, path)) {
		*ret_error = xasprintf("the socket's path must have 1 to %zu bytes: \"%s\"",
				       sizeof addr.sun_path - 1, path);
		return -ENAMETOOLONG;
	}
	s->path = xstrdup(path);
	s->lock_path = xasprintf("%s.lock", path);
	r = lock_take(s, ret_error);
	if (r == 0)
		r = make_way(&addr, ret_error);
	if (r < 0) {
		listen_socket_close(s);
		return r;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : bind_and_listen(s, fd, &addr, group);
	if (r < 0) {
		*ret_error = xasprintf("cannot listen at %s: %s", path, strerror(-r));
		if (fd >= 0)
			close(fd);
		listen_socket_close(s);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

void
listen_socket_close(struct listen_socket *s)
{
	struct stat st;

	if (s->ino && lstat(s->path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == s->dev &&
	    st.st_ino == s->ino)
		unlink(s->path);
	if (s->lock_path && s->lock_fd >= 0) {
		unlink(s->lock_path);
		close(s->lock_fd);
	}
	free(s->path);
	free(s->lock_path);
	*s = (struct listen_socket){.lock_fd = -1};
}

int
listen_socket_check(int fd, char **ret_error)
{
	int domain = 0, type = 0, listening = 0;
	socklen_t len = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening &&
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
		return 0;
	*ret_error = xasprintf("descriptor %d, handed over by the service manager, is no listening "
			       "Unix stream socket",
			       fd);
	return -ENOTSOCK;
}
