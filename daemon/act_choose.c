/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to go back to: the release that was in place, or the newest backup from before this
 * deployment that still has its digest.  An unverified one is taken by force only.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "daemon/act_internal.h"

enum { TRIES_MAX = 10, PAUSE_USEC = 500 * 1000 };

static void
choose_answer(struct act *a, bool ok, const char *path, bool verified, const char *text)
{
	bool from_rows = ok && a->rows && a->any_verified;
	struct core_event e = {.kind = EV_TARGET};

	e.u.done.ok = ok;
	e.u.done.path = path;
	e.u.done.sha256 = from_rows ? a->rows[a->chosen].sha256 : "";
	e.u.done.verified = verified;
	e.u.done.corrupt = a->n_corrupt;
	e.u.done.text = text;
	act_answer(a, &e);
	act_free(a);
}

/* What is in place is noted before anything changes: without a note nothing has. */
static int
release_before(struct act *a)
{
	size_t len;
	int r;

	for (unsigned tries = 1;; tries++) {
		r = file_read(AT_FDCWD, a->note_path, 256, &a->file, &len);
		if (!error_passes(r) || tries == TRIES_MAX)
			break;
		usleep(PAUSE_USEC);
	}
	if (r != -ENOENT)
		return r;
	if (!a->d.previous_tag[0] && engine_current(act_releases(a->conf), &a->file) == 0 &&
	    !streq(a->file, a->d.tag))
		return 0;
	free(a->file);
	a->file = xstrdup(a->d.previous_tag);
	return 0;
}

static void
check_release(struct act *a)
{
	for (unsigned tries = 1;; tries++) {
		a->result = engine_check(act_releases(a->conf), a->file, &a->error);
		if (!error_passes(a->result) || tries == TRIES_MAX)
			return;
		free(a->error);
		a->error = NULL;
		usleep(PAUSE_USEC);
	}
}

static void
choose_release_work(struct job *j)
{
	struct act *a = (struct act *)j;

	if (a->d.rollback_to[0])
		a->file = xstrdup(a->d.rollback_to);
	else
		a->result = release_before(a);
	if (a->result < 0) {
		a->error = xasprintf("cannot read which release was in place from %s: %s",
				     a->note_path, strerror(-a->result));
		return;
	}
	a->file[strcspn(a->file, "\n")] = '\0';
	if (tag_valid(a->file))
		check_release(a);
}

static void
choose_release_done(struct job *j)
{
	struct act *a = (struct act *)j;
	char text[TEXT_MAX_LEN], path[PATH_MAX_LEN];

	a->in_worker = false;
	if (a->result == 0 && !tag_valid(a->file)) {
		choose_answer(a, false, "", false,
			      "there was no release before this one: name one with dhash rollback "
			      "--to TAG");
		return;
	}
	if (a->result < 0) {
		choose_answer(a, false, "", false, a->error ? a->error : strerror(-a->result));
		return;
	}
	snprintf(path, sizeof path, "releases/%s", a->file);
	snprintf(text, sizeof text, "release %s", a->file);
	choose_answer(a, true, path, true, text);
}

/* Its own backup first, then newest to oldest; never an emergency one, unless it was named. */
static bool
candidate(const struct act *a, const struct backup_row *r)
{
	if (a->d.rollback_file[0])
		return streq(r->path, a->d.rollback_file);
	if (r->emergency)
		return false;
	if (a->d.rollback_to[0])
		return streq(r->tag, a->d.rollback_to);
	return true;
}

static void
candidates(struct act *a, const struct backup_row *rows, size_t n)
{
	a->rows = xcalloc(n + 2, sizeof *a->rows);
	for (size_t i = 0; i < n; i++)
		if (streq(rows[i].path, a->d.backup) && candidate(a, &rows[i]))
			a->rows[a->n_rows++] = rows[i];
	for (size_t i = 0; i < n; i++)
		if (!streq(rows[i].path, a->d.backup) && candidate(a, &rows[i]))
			a->rows[a->n_rows++] = rows[i];
	/* A file that dhashd did not make is judged by its sidecar alone. */
	if (a->d.rollback_file[0] && a->n_rows == 0)
		str_copy(a->rows[a->n_rows++].path, PATH_MAX_LEN, a->d.rollback_file);
}

/* A rollback must not fail for want of a descriptor in one moment.  Choosing has a deadline of its
 * own. */
static int
verify_with_patience(struct act *a, struct backup_row *r, char **ret_error)
{
	for (unsigned tries = 1;; tries++) {
		/* The restore insists on the bytes that were judged here. */
		int e = backup_verify(r->path, r->sha256[0] ? r->sha256 : NULL, &a->job.cancelled,
				      r->sha256, ret_error);

		if (!error_passes(e) || tries == TRIES_MAX)
			return e;
		free(*ret_error);
		*ret_error = NULL;
		usleep(PAUSE_USEC);
	}
}

static void
choose_backup_work(struct job *j)
{
	struct act *a = (struct act *)j;

	for (a->chosen = 0; a->chosen < a->n_rows; a->chosen++) {
		struct backup_row *r = &a->rows[a->chosen];
		char *error = NULL;
		int e = verify_with_patience(a, r, &error);

		if (e == 0) {
			a->any_verified = true;
			free(error);
			return;
		}
		/* Only what was read and is wrong is corrupt for good; the rest may be back
		 * tomorrow. */
		r->corrupt = e == -EBADMSG;
		a->n_corrupt += e != -ECANCELED;
		if (!a->error)
			a->error = error;
		else
			free(error);
		if (e == -ECANCELED)
			return;
	}
}

static void
record_verification(struct act *a)
{
	struct store_clock pair = clock_pair(&a->daemon->clock);
	struct batch *b = batch_new(&pair);
	struct log_fields f = act_log_fields(a);

	for (size_t i = 0; i < a->n_rows && i <= a->chosen; i++) {
		struct backup_row *r = &a->rows[i];

		if (r->service[0] == '\0')
			continue; /* not ours */
		if (i == a->chosen && a->any_verified)
			r->verified_wall = pair.wall;
		batch_backup(b, r);
		if (i < a->chosen)
			log_event(LOG_KIND_BACKUP_CORRUPT, LOG_CRIT, &f,
				  "backup %s does not verify: %s", r->path,
				  a->error ? a->error : "unknown");
	}
	store_commit(a->daemon->store, b, NULL, NULL);
}

static bool
needs_backup(const struct act *a)
{
	return !a->conf->rollback || specifiers_use(a->conf->rollback, 'b');
}

static void
choose_backup_done(struct job *j)
{
	struct act *a = (struct act *)j;
	char text[TEXT_MAX_LEN * 2];

	a->in_worker = false;
	if (!a->target) {
		act_free(a);
		return;
	}
	record_verification(a);
	if (a->any_verified && a->n_corrupt == 0) {
		snprintf(text, sizeof text, "%.400s, verified", a->rows[a->chosen].path);
		choose_answer(a, true, a->rows[a->chosen].path, true, text);
	} else if (a->any_verified) {
		snprintf(text, sizeof text, "%.200s, verified; %u newer did not verify (%.200s)",
			 a->rows[a->chosen].path, a->n_corrupt, a->error ? a->error : "");
		choose_answer(a, true, a->rows[a->chosen].path, true, text);
	} else if (a->n_rows > 0 && a->d.rollback_forced) {
		snprintf(text, sizeof text, "%.200s, NOT VERIFIED, used by force (%.200s)",
			 a->rows[0].path, a->error ? a->error : "");
		choose_answer(a, true, a->rows[0].path, false, text);
	} else if (!needs_backup(a)) {
		snprintf(text, sizeof text,
			 "no backup that verifies, and the rollback hook needs none");
		choose_answer(a, true, "", a->n_corrupt == 0, text);
	} else if (a->n_rows > 0) {
		snprintf(text, sizeof text,
			 "no backup verifies (%.300s); dhash rollback --force would use "
			 "one unverified",
			 a->error ? a->error : "");
		choose_answer(a, false, "", false, text);
	} else {
		choose_answer(a, false, "", false,
			      "there is no backup from before this deployment: name one with "
			      "--backup FILE");
	}
}

static void
on_backup_rows(void *arg, int error, struct backup_row *rows, size_t n)
{
	struct act *a = arg;
	struct log_fields f = act_log_fields(a);

	if (!a->target) {
		act_free(a);
		return;
	}
	if (error < 0)
		log_event(LOG_KIND_STORE_ERROR, LOG_WARNING, &f, "cannot list the backups: %s",
			  strerror(-error));
	candidates(a, rows, error < 0 ? 0 : n);
	act_submit(a, choose_backup_work, choose_backup_done);
}

void
act_choose(struct target *t, const struct deployment *d, unsigned attempt)
{
	struct act *a = act_new(t, ACT_CHOOSE, d, attempt);

	if (act_uses_engine(a->conf) && !d->rollback_file[0]) {
		a->note_path = act_previous_release_note(t->daemon, d->id);
		act_submit(a, choose_release_work, choose_release_done);
		return;
	}
	/* A backup named by hand may be any; else only what was taken before this deployment began
	 * to change the target: its own is taken after it was created. */
	store_backup_rows(t->daemon->store, d->service, d->environment,
			  d->rollback_file[0] || d->deployed_at == 0
				  ? 0
				  : d->deployed_at - d->created_at + d->created_wall + 1,
			  on_backup_rows, a);
}
