/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <jansson.h>

#include "common/util.h"

/* An argument vector may be long; one file larger than this is no request of ours. */
enum {
	FILE_MAX_BYTES = 4 << 20,
	SMALL_MAX_BYTES = 64 << 10,
	SYNC_LEVELS = 3,
	RESULT_ROOM_BYTES = 8192
};

static const char request_suffix[] = ".request";

/* --- paths -------------------------------------------------------------------------------- */

/* Other names than ours must not be reachable through a path that came from a file. */
static bool
path_sane(const char *p)
{
	if (!p || *p == '\0' || strlen(p) >= PATH_MAX)
		return false;
	for (; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

int
hook_files_init(struct hook_files *f, const char *folder, const char *txid)
{
	if (!txid || !tag_valid(txid) || !path_sane(folder) ||
	    strlen(folder) + strlen(txid) + 32 >= PATH_MAX)
		return -EINVAL;
	*f = (struct hook_files){
		.folder = xstrdup(folder),
		.request = xasprintf("%s/%s%s", folder, txid, request_suffix),
		.started = xasprintf("%s/%s.started", folder, txid),
		.result = xasprintf("%s/%s.result", folder, txid),
	};
	return 0;
}

int
hook_files_from_request(struct hook_files *f, const char *path, char **ret_txid)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t len = strlen(name), end = strlen(request_suffix);
	char *folder, *txid;
	int r;

	if (len <= end || !streq(name + len - end, request_suffix))
		return -EINVAL;
	folder = !slash ? xstrdup(".") : xasprintf("%.*s", (int)MAX(1, slash - path), path);
	txid = xasprintf("%.*s", (int)(len - end), name);
	r = hook_files_init(f, folder, txid);
	free(folder);
	if (r < 0)
		free(txid);
	else
		*ret_txid = txid;
	return r;
}

void
hook_files_done(struct hook_files *f)
{
	free(f->folder);
	free(f->request);
	free(f->started);
	free(f->result);
	*f = (struct hook_files){0};
}

/* --- request ------------------------------------------------------------------------------ */

static const char *
request_fault(const struct hook_request *r)
{
	if (!r->txid || !tag_valid(r->txid))
		return "its transaction id is no safe file name";
	if (!r->argv || !r->argv[0] || r->argv[0][0] == '\0')
		return "it names no command";
	if (!path_sane(r->argv[0]))
		return "its command is no path";
	if (!path_sane(r->log))
		return "its log is no path";
	if (r->directory && (!path_sane(r->directory) || r->directory[0] != '/'))
		return "its working directory is no absolute path";
	if (r->user && r->user[0] == '\0')
		return "its user has no name";
	if (r->timeout_usec <= 0 || r->kill_usec < 0)
		return "its time limits make no sense";
	for (char *const *e = r->environ; e && *e; e++)
		if (**e == '=' || !strchr(*e, '='))
			return "its environment has an entry that is not NAME=value";
	return NULL;
}

int
request_check(const struct hook_request *r, char **ret_why)
{
	const char *fault = request_fault(r);

	if (!fault)
		return 0;
	*ret_why = xasprintf("the request for the hook is refused: %s", fault);
	return -EINVAL;
}

static json_t *
strings_to_json(char *const *v)
{
	json_t *a = json_array();

	for (; v && *v; v++)
		if (json_array_append_new(a, json_string(*v)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

/* Whole by rename, but not durable: a slow disk must not stall the daemon's loop here. */
static int
replace_file(const char *path, const char *text)
{
	char *tmp = xasprintf("%s.tmp-XXXXXX", path);
	int fd = mkostemp(tmp, O_CLOEXEC), r = fd < 0 ? -errno : 0;
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");

	if (fd >= 0 && !out) {
		r = -errno;
		close(fd);
	}
	if (out) {
		errno = EIO;
		if (fputs(text, out) < 0 || fflush(out) != 0)
			r = -errno;
		fclose(out);
		if (r == 0 && rename(tmp, path) < 0)
			r = -errno;
	}
	if (r < 0 && fd >= 0)
		unlink(tmp);
	free(tmp);
	return r;
}

int
request_write(const struct hook_files *f, const struct hook_request *r)
{
	json_t *argv = strings_to_json(r->argv), *environ_ = strings_to_json(r->environ), *o = NULL;
	char *text;
	int err;

	if (argv && environ_)
		o = json_pack("{s:s, s:O, s:O, s:s, s:s*, s:s*, s:I, s:I, s:I}", "txid", r->txid,
			      "argv", argv, "environ", environ_, "log", r->log, "directory",
			      r->directory, "user", r->user, "timeout_usec",
			      (json_int_t)r->timeout_usec, "kill_usec", (json_int_t)r->kill_usec,
			      "output_max_bytes",
			      (json_int_t)MIN(r->output_max_bytes, (size_t)INT64_MAX));
	json_decref(argv);
	json_decref(environ_);
	if (!o)
		return -EINVAL;
	text = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	/* Mode 0600 by mkostemp: a hook's environment may hold secrets. */
	err = text ? replace_file(f->request, text) : -ENOMEM;
	free(text);
	return err;
}

/* Borrows the strings; NULL when it is no array of strings. */
static char **
strings_from_json(const json_t *a)
{
	char **v;
	size_t i;
	json_t *s;

	if (!json_is_array(a))
		return NULL;
	v = xcalloc(json_array_size(a) + 1, sizeof *v);
	json_array_foreach(a, i, s)
	{
		if (!json_is_string(s)) {
			free(v);
			return NULL;
		}
		v[i] = (char *)json_string_value(s);
	}
	return v;
}

static int
request_unpack(struct request *q, const char *txid, char **ret_why)
{
	struct hook_request *r = &q->r;
	json_int_t timeout, kill, max;
	json_t *argv, *environ_;
	json_error_t e;

	if (json_unpack_ex(q->json, &e, JSON_STRICT,
			   "{s:s, s:o, s:o, s:s, s?s, s?s, s:I, s:I, s:I}", "txid", &r->txid,
			   "argv", &argv, "environ", &environ_, "log", &r->log, "directory",
			   &r->directory, "user", &r->user, "timeout_usec", &timeout, "kill_usec",
			   &kill, "output_max_bytes", &max) < 0) {
		*ret_why = xasprintf("the request is not understood: %s", e.text);
		return -EBADMSG;
	}
	q->argv = strings_from_json(argv);
	q->environ = strings_from_json(environ_);
	if (!q->argv || !q->environ || max < 0 || !streq(r->txid, txid)) {
		*ret_why = xstrdup("the request is not understood: a value has the wrong type");
		return -EBADMSG;
	}
	r->argv = q->argv;
	r->environ = q->environ;
	r->timeout_usec = timeout;
	r->kill_usec = kill;
	r->output_max_bytes = (size_t)max;
	return request_check(r, ret_why) < 0 ? -EBADMSG : 0;
}

static int
load_json(const char *path, size_t max, json_t **ret)
{
	size_t len;
	char *text;
	int r = file_read(AT_FDCWD, path, max, &text, &len);

	if (r < 0)
		return r;
	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	return *ret ? 0 : -EBADMSG;
}

int
request_read(const struct hook_files *f, struct request *ret, char **ret_why)
{
	const char *name = f->request + strlen(f->folder) + 1;
	char *txid = xasprintf("%.*s", (int)(strlen(name) - strlen(request_suffix)), name);
	struct request q = {0};
	int r = load_json(f->request, FILE_MAX_BYTES, &q.json);

	if (r < 0)
		*ret_why = xasprintf("cannot read %s: %s", f->request, strerror(-r));
	else
		r = request_unpack(&q, txid, ret_why);
	free(txid);
	if (r < 0)
		request_done(&q);
	else
		*ret = q;
	return r;
}

void
request_done(struct request *q)
{
	free(q->argv);
	free(q->environ);
	json_decref(q->json);
	*q = (struct request){0};
}

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
	int r = load_json(f->result, SMALL_MAX_BYTES, &o);

	if (r < 0)
		return r;
	r = result_unpack(o, ret);
	json_decref(o);
	return r;
}
