/* SPDX-License-Identifier: Apache-2.0 */
/* What a runner leaves: `started` with its lock, and `result`.  See request.h. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <jansson.h>

#include "common/util.h"
#include "daemon/run/request.h"

enum { SMALL_MAX_BYTES = 64 << 10, SYNC_LEVELS = 3, RESULT_ROOM_BYTES = 8192 };

/* --- started ------------------------------------------------------------------------------ */

/* The folders above were perhaps made a moment ago: without them in their parents, a power cut
 * would take `started` away, and the command would run twice. */
static int
sync_folders(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	for (int level = 0; fd >= 0; level++) {
		int up;

		/* Above our own folder only what we may open is ours to sync. */
		if (fsync(fd) < 0 && level == 0)
			r = -errno;
		up = level + 1 < SYNC_LEVELS ? openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
					     : -1;
		close(fd);
		if (r == 0 && up < 0)
			return 0;
		fd = up;
	}
	return r < 0 ? r : -errno;
}

/* A lock dies with its process, however that ends, and is not handed on to children. */
static int
write_locked(const char *path, const char *text)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644), r;
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* what a short write of so little means */
	if (write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 &&
	    fcntl(fd, F_SETLK, &lock) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* link() fails like O_EXCL where the name is taken, and shows the file with its text and its lock
 * at once: a daemon that looks just now never takes a runner that is there for one that is gone. */
int
started_claim(const struct hook_files *f)
{
	char wall[USEC_TEXT_MAX], *tmp = xasprintf("%s.tmp-%d", f->started, (int)getpid()), *text;
	int fd, r;

	text = xasprintf("{\"pid\": %d, \"at\": \"%s\"}\n", (int)getpid(),
			 wall_format(wall, now_realtime()));
	fd = write_locked(tmp, text);
	r = fd < 0 ? fd : link(tmp, f->started) < 0 ? -errno : 0;
	unlink(tmp);
	free(tmp);
	free(text);
	if (r == 0) {
		r = sync_folders(f->folder);
		if (r < 0)
			unlink(f->started); /* nothing is run now: let nobody conclude that it was
					     */
	}
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int
holder_of(int fd, pid_t *ret)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &lock) < 0)
		return -errno;
	if (lock.l_type == F_UNLCK)
		return -ESRCH;
	*ret = lock.l_pid;
	return 0;
}

int
started_holder(const struct hook_files *f, pid_t *ret)
{
	int fd = open(f->started, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r;

	if (fd < 0)
		return -errno;
	r = holder_of(fd, ret);
	close(fd);
	return r;
}

int
started_open(const struct hook_files *f)
{
	pid_t before, after;
	int r = started_holder(f, &before), fd;

	if (r < 0)
		return r;
	if (before <= 0)
		return -EAGAIN; /* of another pid namespace: it is there, and cannot be watched */
	fd = (int)syscall(SYS_pidfd_open, before, 0);
	if (fd < 0)
		return -errno;
	/* Asked again now that the pidfd is held: the number cannot have passed on in between. */
	r = started_holder(f, &after);
	if (r == 0 && after == before)
		return fd;
	close(fd);
	return r == -ENOENT || r == 0 ? -ESRCH : r;
}

/* --- result ------------------------------------------------------------------------------- */

static const char *const outcome_names[] = {
	[HOOK_OK] = "ok",
	[HOOK_FAILED] = "failed",
	[HOOK_UNKNOWN] = "unknown",
};

static char *
reserved_path(const struct hook_files *f)
{
	return xasprintf("%s.reserved", f->result);
}

int
result_reserve(const struct hook_files *f)
{
	char *path = reserved_path(f);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644), r;

	r = fd < 0 ? -errno : -posix_fallocate(fd, 0, RESULT_ROOM_BYTES);
	if (fd >= 0 && r < 0) {
		close(fd);
		unlink(path);
	}
	free(path);
	return r < 0 ? r : fd;
}

static int
write_reserved(const struct hook_files *f, int fd, const char *text, size_t len)
{
	char *path = reserved_path(f);
	int r = len > RESULT_ROOM_BYTES ? -EFBIG : 0;

	errno = ENOSPC;
	if (r == 0 && (pwrite(fd, text, len, 0) != (ssize_t)len || ftruncate(fd, (off_t)len) < 0 ||
		       fchmod(fd, 0644) < 0 || fsync(fd) < 0 || rename(path, f->result) < 0))
		r = -errno;
	if (r == 0)
		r = sync_folders(f->folder);
	else
		unlink(path); /* gives its room to the other way */
	free(path);
	return r;
}

static char *
result_text(const struct hook_ending *e)
{
	char wall[USEC_TEXT_MAX], *plain = str_escape(e->r.text), *text;
	json_t *o = json_pack("{s:s, s:i, s:i, s:b, s:b, s:b, s:I, s:I, s:s, s:s}", "outcome",
			      outcome_names[e->r.outcome], "exit_status", e->r.exit_status,
			      "signal", e->r.signal, "timed_out", e->r.timed_out, "cancelled",
			      e->cancelled, "truncated", e->r.truncated, "output_bytes",
			      (json_int_t)e->output_bytes, "took_usec", (json_int_t)e->r.took,
			      "ended_at", wall_format(wall, now_realtime()), "text", plain);

	free(plain);
	text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	return text;
}

int
result_write(const struct hook_files *f, int reserved, const struct hook_ending *e)
{
	char *text = result_text(e);
	int r = -ENOMEM;

	if (text && reserved >= 0)
		r = write_reserved(f, reserved, text, strlen(text));
	if (text && r < 0)
		r = file_write_atomic(f->result, text, strlen(text), 0644);
	if (reserved >= 0)
		close(reserved);
	free(text);
	return r;
}

int
started_forestall(const struct hook_files *f, const char *why)
{
	struct hook_ending e = {.r = {.outcome = HOOK_FAILED, .exit_status = -1}};
	int fd = open(f->started, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644), r;
	char *text;

	if (fd < 0)
		return -errno;
	close(fd);
	str_copy(e.r.text, sizeof e.r.text, why);
	text = result_text(&e);
	r = text ? hook_file_replace(f->result, text) : -ENOMEM;
	free(text);
	return r;
}

static int
result_unpack(json_t *o, struct hook_result *ret)
{
	struct hook_result res = {0};
	const char *outcome, *text;
	int timed_out, truncated;
	json_int_t took;

	if (json_unpack(o, "{s:s, s:i, s:i, s:b, s:b, s:I, s:s}", "outcome", &outcome,
			"exit_status", &res.exit_status, "signal", &res.signal, "timed_out",
			&timed_out, "truncated", &truncated, "took_usec", &took, "text", &text) < 0)
		return -EBADMSG;
	while (res.outcome < ARRAY_SIZE(outcome_names) &&
	       !streq(outcome, outcome_names[res.outcome]))
		res.outcome++;
	if (res.outcome == ARRAY_SIZE(outcome_names))
		return -EBADMSG;
	res.timed_out = timed_out;
	res.truncated = truncated;
	res.took = took;
	str_copy(res.text, sizeof res.text, text);
	*ret = res;
	return 0;
}

int
result_read(const struct hook_files *f, struct hook_result *ret)
{
	json_t *o;
	int r = hook_file_read(f->result, SMALL_MAX_BYTES, &o);

	if (r < 0)
		return r;
	r = result_unpack(o, ret);
	json_decref(o);
	return r;
}
