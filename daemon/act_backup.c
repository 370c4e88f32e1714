/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup of what is in place: made by a worker, and in the database with its digest before
 * anything may rely on it.
 *
 * The act may begin again after a crash.  Its name is that of the state it belongs to, so what the
 * first try left is found: one with its record is taken as it is, if it is whole; one without was
 * never relied on, and another takes its place.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/act_internal.h"

/*
 * The guide's names, to the second.  Emergency backups hold a broken release: they must not be "the
 * latest backup".
 */
static char *
backup_stem(const struct act *a, const char *folder)
{
	char stamp[USEC_TEXT_MAX];

	wall_format_compact(stamp, a->d.entered_wall);
	return xasprintf("%s/%s%s-%s-%s", folder, a->emergency ? "emergency-" : "", a->d.service,
			 a->d.environment, stamp);
}

/* No backup is ever written over, but one that no record knows. */
static bool
taken(const struct act *a, const char *path)
{
	if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	for (size_t i = 0; i < a->n_rows; i++)
		if (streq(a->rows[i].path, path))
			return true;
	return !a->rows_known;
}

static char *
backup_name(const struct act *a, const char *folder)
{
	char *stem = backup_stem(a, folder), *path = xasprintf("%s.zip", stem);

	for (unsigned n = 2; taken(a, path); n++) {
		free(path);
		path = xasprintf("%s-%u.zip", stem, n);
	}
	free(stem);
	return path;
}

/* This very act's, from before a restart: recorded, and still whole. */
static bool
made_before(struct act *a)
{
	for (size_t i = 0; i < a->n_rows; i++) {
		const struct backup_row *r = &a->rows[i];
		char *why = NULL;

		if (!streq(r->deployment, a->d.id) || r->emergency != a->emergency ||
		    r->created_wall != a->d.entered_wall)
			continue;
		a->recorded = backup_verify(r->path, r->sha256, &a->job.cancelled, NULL, &why) == 0;
		free(why);
		if (!a->recorded)
			continue;
		a->file = xstrdup(r->path);
		a->made.bytes = r->bytes;
		str_copy(a->made.sha256, sizeof a->made.sha256, r->sha256);
		return true;
	}
	return false;
}

static void
backup_work(struct job *j)
{
	struct act *a = (struct act *)j;
	char *folder;

	if (made_before(a))
		return;
	folder = conf_backup_folder(a->conf, a->daemon->options.state_dir);
	a->result = mkdir_p(folder, 0750);
	if (a->result < 0)
		a->error = xasprintf("cannot make %s: %s; create it, writable by dhashd", folder,
				     strerror(-a->result));
	if (a->result == 0) {
		a->file = backup_name(a, folder);
		a->result = backup_create(a->file, act_root(a->conf), a->conf->backup_paths,
					  &a->job.cancelled, &a->made, &a->error);
	}
	free(folder);
}

/* What a restore will not bring back is said when it can still be helped. */
static const char *
describe_left_out(const struct backup_made *m, char *buf, size_t n)
{
	char special[64] = "", bits[64] = "";

	if (m->skipped > 0)
		snprintf(special, sizeof special, "; left out: %lu special or vanished files",
			 m->skipped);
	if (m->stripped > 0)
		snprintf(bits, sizeof bits, "; left out: set-id or sticky bits of %lu files",
			 m->stripped);
	snprintf(buf, n, "%s%s", special, bits);
	return buf;
}

static void
backup_answer(struct act *a)
{
	struct core_event e = {.kind = EV_BACKUP};
	char text[TEXT_MAX_LEN * 2], left_out[128];

	if (a->result < 0)
		snprintf(text, sizeof text, "%s", a->error ? a->error : strerror(-a->result));
	else if (a->recorded)
		snprintf(text, sizeof text,
			 "%s, made before dhashd was restarted and whole, %lld bytes, sha256 %s",
			 a->file, (long long)a->made.bytes, a->made.sha256);
	else
		snprintf(text, sizeof text, "%s, %lu entries, %lld bytes, sha256 %s%s", a->file,
			 a->made.entries, (long long)a->made.bytes, a->made.sha256,
			 describe_left_out(&a->made, left_out, sizeof left_out));
	e.u.done.ok = a->result == 0;
	e.u.done.text = text;
	e.u.done.path = a->file ? a->file : "";
	e.u.done.sha256 = a->made.sha256;
	act_answer(a, &e);
	act_free(a);
}

static void
on_backup_recorded(void *arg)
{
	backup_answer(arg);
}

static void
backup_done(struct job *j)
{
	struct act *a = (struct act *)j;
	struct backup_row row = {.emergency = a->emergency, .bytes = a->made.bytes};
	struct store_clock pair = clock_pair(&a->daemon->clock);
	struct batch *b;

	a->in_worker = false;
	if (a->result < 0 || a->recorded || !a->target) {
		backup_answer(a);
		return;
	}
	/* Its digest is in the database before anything may rely on the file. */
	str_copy(row.path, sizeof row.path, a->file);
	str_copy(row.sha256, sizeof row.sha256, a->made.sha256);
	str_copy(row.service, sizeof row.service, a->d.service);
	str_copy(row.environment, sizeof row.environment, a->d.environment);
	str_copy(row.deployment, sizeof row.deployment, a->d.id);
	str_copy(row.tag, sizeof row.tag, a->emergency ? a->d.tag : a->d.previous_tag);
	row.created_wall = a->d.entered_wall;
	row.verified_wall = now_realtime();
	b = batch_new(&pair);
	batch_backup(b, &row);
	store_commit(a->daemon->store, b, on_backup_recorded, a);
}

static void
on_backups_named(void *arg, int error, struct backup_row *rows, size_t n)
{
	struct act *a = arg;

	if (!a->target) {
		act_free(a);
		return;
	}
	a->rows_known = error == 0;
	a->n_rows = a->rows_known ? n : 0;
	a->rows = xcalloc(a->n_rows + 1, sizeof *a->rows);
	for (size_t i = 0; i < a->n_rows; i++)
		a->rows[i] = rows[i];
	act_submit(a, backup_work, backup_done);
}

void
act_backup(struct target *t, const struct deployment *d, unsigned attempt, bool emergency)
{
	struct act *a = act_new(t, ACT_BACKUP, d, attempt);
	char *folder = conf_backup_folder(a->conf, a->daemon->options.state_dir), *stem;

	a->emergency = emergency;
	stem = backup_stem(a, folder);
	store_backups_named(t->daemon->store, stem, on_backups_named, a);
	free(stem);
	free(folder);
}
