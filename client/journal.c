/* SPDX-License-Identifier: Apache-2.0 */

#include "client/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "common/util.h"

/* What is shown of a field; a hook may write lines without end. */
enum { FIELD_MAX = 8192 };

#define DAEMON_UNIT "dhashd.service"
#define HOOK_PREFIX "dhash-hook@"
#define UNIT_SUFFIX ".service"

struct journal {
	sd_journal *sd; /* owned */
	char *id;       /* owned; the deployment, or NULL */
	/* of the record that was stepped to */
	enum journal_source source;
	char *unit, *deployment; /* owned; deployment NULL = as the record says */
};

const char *
journal_source_name(enum journal_source s)
{
	static const char *const names[_JOURNAL_SOURCE_MAX] = {
		[JOURNAL_DAEMON] = "dhashd",
		[JOURNAL_HOOK] = "hook",
		[JOURNAL_SYSTEMD] = "systemd",
	};

	return names[s];
}

/* --- fields --- */

/* "NAME=value" as a string of the value: a NUL within it is shown as one would be escaped. */
static char *
value_of(const char *data, size_t len, size_t name_len)
{
	size_t n = MIN(len - name_len, FIELD_MAX), cut = len - name_len > n ? 3 : 0;
	char *text = xmalloc(4 * n + cut + 1), *o = text;

	for (const char *p = data + name_len; p < data + name_len + n; p++)
		o = *p ? mempcpy(o, p, 1) : stpcpy(o, "\\x00");
	memcpy(o, "...", cut);
	o[cut] = '\0';
	return text;
}

/* The value of a field, as it came; owned; NULL where the record has none. */
static char *
raw_field(struct journal *j, const char *name)
{
	const void *data;
	size_t len;

	if (sd_journal_get_data(j->sd, name, &data, &len) < 0 || len <= strlen(name))
		return NULL;
	return value_of(data, len, strlen(name) + 1);
}

/* --- whom to believe --- */

/* "deploy-20240101-120000" of "dhash-hook@deploy-20240101-120000.rollback.1.service"; owned; NULL
 * for any other unit. */
static char *
hook_unit_deployment(const char *unit)
{
	size_t n = strlen(unit), prefix = strlen(HOOK_PREFIX), suffix = strlen(UNIT_SUFFIX), id;

	if (strncmp(unit, HOOK_PREFIX, prefix) != 0 || n <= prefix + suffix ||
	    !streq(unit + n - suffix, UNIT_SUFFIX))
		return NULL;
	id = strcspn(unit + prefix, ".");
	if (id == 0 || prefix + id + 1 >= n - suffix)
		return NULL;
	return xasprintf("%.*s", (int)id, unit + prefix);
}

/* A record may have a field many times: every one of them must say the same. */
static bool
claims_only(struct journal *j, const char *deployment)
{
	static const char name[] = "DHASH_DEPLOYMENT=";
	size_t n = sizeof name - 1, len;
	const void *data;

	SD_JOURNAL_FOREACH_DATA(j->sd, data, len)
	{
		if (len >= n && memcmp(data, name, n) == 0 &&
		    (len - n != strlen(deployment) ||
		     memcmp((const char *)data + n, deployment, len - n) != 0))
			return false;
	}
	return true;
}

static bool
of_daemon(struct journal *j)
{
	char *deployment = j->id ? raw_field(j, "DHASH_DEPLOYMENT") : NULL;
	bool ours = !j->id || (deployment && streq(deployment, j->id));

	free(deployment);
	j->source = JOURNAL_DAEMON;
	return ours;
}

static bool
of_hook(struct journal *j)
{
	j->deployment = hook_unit_deployment(j->unit);
	j->source = JOURNAL_HOOK;
	return j->deployment && (!j->id || streq(j->deployment, j->id)) &&
	       claims_only(j, j->deployment);
}

/* Process 1 on dhashd, or on the hooks of the deployment that was asked for. */
static bool
of_systemd(struct journal *j)
{
	char *pid = raw_field(j, "_PID");
	bool first = pid && streq(pid, "1");

	free(pid);
	free(j->unit);
	j->unit = raw_field(j, "UNIT");
	j->source = JOURNAL_SYSTEMD;
	if (!first || !j->unit)
		return false;
	if (!j->id)
		return streq(j->unit, DAEMON_UNIT);
	j->deployment = hook_unit_deployment(j->unit);
	return j->deployment && streq(j->deployment, j->id);
}

static bool
believed(struct journal *j)
{
	free(j->unit);
	free(j->deployment);
	j->deployment = NULL;
	j->unit = raw_field(j, "_SYSTEMD_UNIT");
	if (!j->unit)
		return false;
	if (streq(j->unit, DAEMON_UNIT))
		return of_daemon(j);
	if (streq(j->unit, "init.scope"))
		return of_systemd(j);
	return of_hook(j);
}

/* --- what to look at: no more than makes the search quick; believed() decides --- */

static int
match(struct journal *j, const char *name, const char *value)
{
	char *text = xasprintf("%s=%s", name, value);
	int r = sd_journal_add_match(j->sd, text, 0);

	free(text);
	return r;
}

/* Everything: by fields that journald has looked up, and the name that a runner gives itself. */
static int
match_all(struct journal *j)
{
	int r = match(j, "_SYSTEMD_UNIT", DAEMON_UNIT);

	if (r >= 0 && (r = sd_journal_add_disjunction(j->sd)) >= 0)
		r = match(j, "_SYSTEMD_SLICE", "dhash.slice");
	if (r >= 0 && (r = sd_journal_add_disjunction(j->sd)) >= 0)
		r = match(j, "SYSLOG_IDENTIFIER", "dhash-hook");
	if (r >= 0 && (r = sd_journal_add_disjunction(j->sd)) >= 0)
		r = match(j, "_PID", "1");
	return r < 0 ? r : match(j, "UNIT", DAEMON_UNIT);
}

/* The units of this deployment's hooks, of which `field` names any: each as a match. */
static int
match_hooks(struct journal *j, const char *field, unsigned *ret_n)
{
	size_t skip = strlen(field) + 1, len;
	int r = sd_journal_query_unique(j->sd, field);
	const void *data;

	*ret_n = 0;
	if (r < 0)
		return r;
	SD_JOURNAL_FOREACH_UNIQUE(j->sd, data, len)
	{
		char *unit = value_of(data, len, skip), *id = hook_unit_deployment(unit);

		if (id && streq(id, j->id)) {
			r = match(j, field, unit);
			++*ret_n;
		}
		free(id);
		free(unit);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What there is of one deployment by now. */
static int
match_deployment(struct journal *j)
{
	unsigned n = 0;
	int r = match_hooks(j, "_SYSTEMD_UNIT", &n);

	if (r >= 0 && n > 0)
		r = sd_journal_add_disjunction(j->sd);
	if (r >= 0)
		r = match_hooks(j, "UNIT", &n);
	if (r >= 0 && n > 0 && (r = match(j, "_PID", "1")) >= 0)
		r = sd_journal_add_disjunction(j->sd);
	if (r >= 0)
		r = match(j, "_SYSTEMD_UNIT", DAEMON_UNIT);
	return r < 0 ? r : match(j, "DHASH_DEPLOYMENT", j->id);
}

/* And what may come: units that are not known yet. */
static int
match_future(struct journal *j)
{
	int r = match(j, "DHASH_DEPLOYMENT", j->id);

	if (r >= 0 && (r = sd_journal_add_disjunction(j->sd)) >= 0)
		r = match(j, "_SYSTEMD_SLICE", "dhash.slice");
	if (r >= 0 && (r = sd_journal_add_disjunction(j->sd)) >= 0)
		r = match(j, "_PID", "1");
	return r < 0 ? r : match(j, "_SYSTEMD_UNIT", "init.scope");
}

/* --- opening --- */

/* sd-journal passes over files that it may not read without a word: 0 when there is one to read
 * whose name begins so, -EACCES when there are others only, -ENOENT when there is none. */
static int
look(int parent, const char *path, const char *begins, bool folders_too)
{
	int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = -ENOENT;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir)
		return fd < 0 ? -errno : -ENOMEM;
	while (found != 0 && (e = readdir(dir))) {
		const char *dot = strrchr(e->d_name, '.');
		int r = -ENOENT;

		if (e->d_name[0] == '.')
			continue;
		if (strncmp(e->d_name, begins, strlen(begins)) == 0 && dot &&
		    (streq(dot, ".journal") || streq(dot, ".journal~")))
			r = faccessat(fd, e->d_name, R_OK, AT_EACCESS) < 0 ? -errno : 0;
		else if (folders_too)
			r = look(fd, e->d_name, begins, false);
		if (r == 0 || r == -EACCES)
			found = r;
	}
	closedir(dir);
	return found;
}

static int
look_for_journal(const char *directory)
{
	int volatile_one, r;

	if (directory)
		return look(AT_FDCWD, directory, "", true);
	/* Everybody may read his own user's journal, which says nothing of services. */
	volatile_one = look(AT_FDCWD, "/run/log/journal", "system", true);
	if (volatile_one == 0)
		return 0;
	r = look(AT_FDCWD, "/var/log/journal", "system", true);
	return r != 0 && volatile_one == -EACCES ? -EACCES : r;
}

int
journal_open(const char *directory, const char *id, struct journal **ret)
{
	struct journal *j;
	int r = look_for_journal(directory);

	if (r < 0)
		return r;
	j = xcalloc(1, sizeof *j);
	j->id = id ? xstrdup(id) : NULL;
	r = directory ? sd_journal_open_directory(&j->sd, directory, 0)
		      : sd_journal_open(&j->sd, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM);
	if (r >= 0)
		r = sd_journal_set_data_threshold(j->sd, 2 * FIELD_MAX);
	if (r >= 0)
		r = id ? match_deployment(j) : match_all(j);
	if (r < 0) {
		journal_free(j);
		return r;
	}
	*ret = j;
	return 0;
}

void
journal_free(struct journal *j)
{
	if (!j)
		return;
	sd_journal_close(j->sd);
	free(j->unit);
	free(j->deployment);
	free(j->id);
	free(j);
}

/* --- moving --- */

int
journal_seek_head(struct journal *j)
{
	return sd_journal_seek_head(j->sd);
}

int
journal_seek_tail(struct journal *j)
{
	return sd_journal_seek_tail(j->sd);
}

int
journal_seek_time(struct journal *j, usec_t wall)
{
	return sd_journal_seek_realtime_usec(j->sd, (uint64_t)wall);
}

int
journal_next(struct journal *j)
{
	int r;

	while ((r = sd_journal_next(j->sd)) > 0 && !believed(j))
		;
	return r;
}

int
journal_previous(struct journal *j)
{
	int r;

	while ((r = sd_journal_previous(j->sd)) > 0 && !believed(j))
		;
	return r;
}

/* --- records --- */

static char *
escaped_field(struct journal *j, const char *name)
{
	char *raw = raw_field(j, name), *escaped = raw ? str_escape(raw) : NULL;

	free(raw);
	return escaped;
}

static int
priority_of(struct journal *j)
{
	char *text = raw_field(j, "PRIORITY");
	bool valid = text && text[0] >= '0' && text[0] <= '7' && text[1] == '\0';
	int priority = valid ? text[0] - '0' : LOG_INFO;

	free(text);
	return priority;
}

void
journal_get(struct journal *j, struct journal_record *ret)
{
	static const char *const names[_JF_MAX] = {
		[JF_MESSAGE] = "MESSAGE",
		[JF_MESSAGE_ID] = "MESSAGE_ID",
		[JF_KIND] = "DHASH_KIND",
		[JF_SERVICE] = "DHASH_SERVICE",
		[JF_ENVIRONMENT] = "DHASH_ENVIRONMENT",
		[JF_DEPLOYMENT] = "DHASH_DEPLOYMENT",
		[JF_TAG] = "DHASH_TAG",
		[JF_RULE] = "DHASH_RULE",
		[JF_DECISION] = "DHASH_DECISION",
		[JF_ACTOR_UID] = "DHASH_ACTOR_UID",
	};
	uint64_t at = 0;

	*ret = (struct journal_record){.source = j->source, .priority = priority_of(j)};
	if (sd_journal_get_realtime_usec(j->sd, &at) >= 0)
		ret->at = (usec_t)at;
	for (int i = 0; i < _JF_MAX; i++)
		ret->field[i] = names[i] ? escaped_field(j, names[i]) : NULL;
	ret->field[JF_UNIT] = str_escape(j->unit);
	if (j->deployment) {
		free(ret->field[JF_DEPLOYMENT]);
		ret->field[JF_DEPLOYMENT] = str_escape(j->deployment);
	}
}

void
journal_record_done(struct journal_record *r)
{
	for (int i = 0; i < _JF_MAX; i++)
		free(r->field[i]);
}

/* --- following --- */

int
journal_follow(struct journal *j)
{
	char *cursor = NULL;
	int r = sd_journal_get_fd(j->sd);

	if (r < 0 || !j->id)
		return r;
	if (sd_journal_get_cursor(j->sd, &cursor) < 0)
		cursor = NULL; /* nothing was stepped to */
	sd_journal_flush_matches(j->sd);
	r = match_future(j);
	if (r >= 0 && cursor) {
		r = sd_journal_seek_cursor(j->sd, cursor);
		/* On it again; or on one behind it, where it was vacuumed, and back before that. */
		if (r >= 0 && (r = sd_journal_next(j->sd)) > 0 &&
		    sd_journal_test_cursor(j->sd, cursor) <= 0)
			r = sd_journal_previous(j->sd);
	}
	free(cursor);
	return r;
}

int
journal_poll_fd(struct journal *j, short *ret_events, int *ret_timeout_ms)
{
	int fd = sd_journal_get_fd(j->sd), events = sd_journal_get_events(j->sd);
	uint64_t until = UINT64_MAX, ms = 0, now;
	struct timespec ts;

	if (fd < 0 || events < 0)
		return fd < 0 ? fd : events;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
	sd_journal_get_timeout(j->sd, &until);
	if (until > now)
		ms = (until - now) / 1000 + 1;
	*ret_events = (short)events;
	*ret_timeout_ms = until == UINT64_MAX || ms > 60000 ? 60000 : (int)ms;
	return fd;
}

int
journal_process(struct journal *j)
{
	return sd_journal_process(j->sd);
}
