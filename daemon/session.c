/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/worker.h"

struct scribe {
	struct worker *worker; /* one thread: lines stay in order */
	char *state_dir;       /* owned */
};

struct entry {
	struct job job; /* first: entry_of() */
	char *path;     /* owned */
	char *text;     /* owned */
	char *id;       /* owned; the deployment */
	bool whole;     /* replace the file instead of appending */
	bool head;      /* only if the file is empty, or none */
	int error;
};

int
scribe_new(struct event_base *base, const char *state_dir, struct scribe **ret)
{
	struct scribe *s = xcalloc(1, sizeof *s);
	int r = worker_new(base, 1, &s->worker);

	if (r < 0) {
		free(s);
		return r;
	}
	s->state_dir = xstrdup(state_dir);
	*ret = s;
	return 0;
}

void
scribe_free(struct scribe *s)
{
	if (!s)
		return;
	worker_drain(s->worker);
	worker_free(s->worker);
	free(s->state_dir);
	free(s);
}

char *
session_path(const char *state_dir, const char *id, const char *file)
{
	return xasprintf("%s/sessions/%s%s%s", state_dir, id, file ? "/" : "", file ? file : "");
}

int
session_reserve(const char *state_dir, const char *id)
{
	char *sessions = xasprintf("%s/sessions", state_dir),
	     *path = session_path(state_dir, id, NULL);
	char *hooks = session_path(state_dir, id, "hooks");
	int r = mkdir_p(sessions, 0750);

	if (r == 0 && mkdir(path, 0750) < 0)
		r = -errno;
	if (r == 0 && mkdir(hooks, 0750) < 0)
		r = -errno;
	free(hooks);
	free(path);
	free(sessions);
	return r;
}

int
session_restore(const char *state_dir, const char *id)
{
	char *path =
		id ? session_path(state_dir, id, "hooks") : xasprintf("%s/sessions", state_dir);
	int r = mkdir_p(path, 0750);

	free(path);
	return r;
}

int
session_sync(const char *state_dir, const char *id)
{
	char *path = session_path(state_dir, id, NULL),
	     *hooks = session_path(state_dir, id, "hooks");
	int r = folder_sync(hooks);

	if (r == 0)
		r = folder_sync(path);
	free(hooks);
	free(path);
	return r;
}

static int
append(const char *path, const char *text, bool head)
{
	size_t len = strlen(text), done = 0;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640), r = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (head && fstat(fd, &st) == 0 && st.st_size > 0)
		len = 0;
	while (done < len && r == 0) {
		ssize_t n = write(fd, text + done, len - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			r = -errno;
	}
	close(fd);
	return r;
}

static void
entry_work(struct job *j)
{
	struct entry *e = (struct entry *)j;

	e->error = e->whole ? file_write_atomic(e->path, e->text, strlen(e->text), 0640)
			    : append(e->path, e->text, e->head);
}

static void
entry_done(struct job *j)
{
	struct entry *e = (struct entry *)j;
	struct log_fields f = {.deployment = e->id};

	if (e->error)
		log_event(LOG_KIND_STORE_ERROR, LOG_WARNING, &f,
			  "cannot write %s: %s; the database has it all the same", e->path,
			  strerror(-e->error));
	free(e->path);
	free(e->text);
	free(e->id);
	free(e);
}

static struct entry *
entry_new(const struct scribe *s, const char *id, const char *file, char *text)
{
	struct entry *e = xcalloc(1, sizeof *e);

	e->job.work = entry_work;
	e->job.done = entry_done;
	e->path = session_path(s->state_dir, id, file);
	e->id = xstrdup(id);
	e->text = text;
	return e;
}

void
session_log(struct scribe *s, const char *id, const char *file, usec_t wall, const char *fmt, ...)
{
	char stamp[USEC_TEXT_MAX], *text, *line;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	line = str_escape(text);
	worker_submit(
		s->worker,
		&entry_new(s, id, file, xasprintf("%s %s\n", wall_format(stamp, wall), line))->job);
	free(text);
	free(line);
}

void
session_begin(struct scribe *s, const struct deployment *d)
{
	char stamp[USEC_TEXT_MAX], *lead = str_escape(d->lead); /* typed by somebody, as it came */
	struct entry *e;

	e = entry_new(
		s, d->id, "session.log",
		xasprintf("Deployment Session: %s\nService: %s\nEnvironment: %s\nRelease Tag: "
			  "%s\nDeploy Lead: %s\nStart Time: %s\n",
			  d->id, d->service, d->environment, d->tag, lead,
			  wall_format(stamp, d->created_wall)));
	e->head = true;
	worker_submit(s->worker, &e->job);
	free(lead);
}

void
session_write(struct scribe *s, const char *id, const char *file, char *text)
{
	struct entry *e = entry_new(s, id, file, text);

	e->whole = true;
	worker_submit(s->worker, &e->job);
}
