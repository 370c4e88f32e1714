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
enum { FILE_MAX_BYTES = 4 << 20 };

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
int
hook_file_replace(const char *path, const char *text)
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
request_file_write(const struct hook_files *f, const json_t *o)
{
	char *text = json_dumps(o, JSON_INDENT(1));
	/* Mode 0600 by mkostemp: a hook's environment may hold secrets. */
	int r = text ? hook_file_replace(f->request, text) : -ENOMEM;

	free(text);
	return r;
}

int
request_write(const struct hook_files *f, const struct hook_request *r)
{
	json_t *argv = strings_to_json(r->argv), *environ_ = strings_to_json(r->environ), *o = NULL;
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
	err = o ? request_file_write(f, o) : -EINVAL;
	json_decref(o);
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

int
hook_file_read(const char *path, size_t max, json_t **ret)
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
	int r = hook_file_read(f->request, FILE_MAX_BYTES, &q.json);

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
