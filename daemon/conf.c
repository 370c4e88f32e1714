/* SPDX-License-Identifier: Apache-2.0 */
/* The folder: which files there are, in which order, and what became of them. */

#include "daemon/conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "common/util.h"
#include "daemon/conf_internal.h"

enum { FILE_MAX = 1 << 20 };

void
conf_env_free(struct conf_env *e)
{
	struct draft d = {0};

	if (!e)
		return;
	d.env = *e;
	for (size_t i = 0; i < conf_key_table_len; i++) {
		const struct conf_key *k = &conf_key_table[i];

		if (k->owner == OWN_DRAFT)
			conf_key_free(k, &d);
		/* MetricsURL= is a key of the environment: url is freed above. */
		if (k->owner == OWN_METRICS)
			conf_key_free(k, &d.env.metrics);
	}
	for (struct conf_check **c = e->checks; c && *c; c++)
		conf_check_free(*c);
	free(e->checks);
	conf_check_free(e->reference);
	free(e->service);
	free(e->name);
	free(e);
}

void
conf_free(struct conf *c)
{
	if (!c)
		return;
	for (struct conf_env **e = c->envs; e && *e; e++)
		conf_env_free(*e);
	free(c->envs);
	free(c->log_level);
	free(c->read_group);
	free(c->operate_group);
	free(c);
}

void
conf_errors_free(struct conf_errors *e)
{
	for (size_t i = 0; i < e->n; i++) {
		free(e->v[i].file);
		free(e->v[i].text);
	}
	free(e->v);
	*e = (struct conf_errors){0};
}

struct conf_env *
conf_find(const struct conf *c, const char *service, const char *environment)
{
	for (struct conf_env **e = c->envs; *e; e++)
		if (streq((*e)->service, service) && streq((*e)->name, environment))
			return *e;
	return NULL;
}

char *
conf_backup_folder(const struct conf_env *e, const char *state_dir)
{
	return e->backup_dir ? xstrdup(e->backup_dir) : xasprintf("%s/backups", state_dir);
}

/* Reads one file; false after an error that is told. */
static bool
read_file(const char *path, struct conf_file *ret, struct conf_errors *errors)
{
	char *text;
	size_t len;
	int r = file_read(AT_FDCWD, path, FILE_MAX, &text, &len);

	if (r < 0) {
		if (r == -EFBIG)
			conf_error_add(errors, path, 0, "is over 1 MiB");
		else
			conf_error_system(errors, path, "cannot be read", -r);
		return false;
	}
	if (strlen(text) != len) {
		unsigned line = 1;

		for (const char *p = text; *p; p++)
			line += *p == '\n';
		conf_error_add(errors, path, line, "has a NUL byte: it is no text file");
		free(text);
		return false;
	}
	conf_file_parse(path, text, ret, errors);
	free(text);
	return true;
}

static void
daemon_entry(const struct conf_file *f, const struct conf_entry *e, struct daemon_keys *keys,
	     struct conf_errors *errors)
{
	static const char *const names[] = {"LogLevel", "ReadGroup", "OperateGroup", "Workers"};
	const struct conf_key *k;
	const char *near;
	char *why = NULL;

	if (!streq(e->section, "Daemon")) {
		if (!e->key)
			conf_error_add(
				errors, f->path, e->line,
				"unknown section [%s]; here only [Daemon]; services stand in "
				"services.d/NAME.conf",
				e->section);
		return;
	}
	if (!e->key)
		return;
	k = conf_key_find(OWN_DAEMON, e->key);
	near = nearest_name(e->key, names, ARRAY_SIZE(names));
	if (!k)
		conf_error_add(errors, f->path, e->line, "unknown key \"%s\" in [Daemon]%s%s%s",
			       e->key, near ? "; did you mean \"" : "", near ? near : "",
			       near ? "\"?" : "");
	else if (conf_key_set(k, keys, 0, e->value, &why) < 0)
		conf_error_add(errors, f->path, e->line, "%s= in [Daemon]: %s", e->key, why);
	free(why);
}

static void
load_daemon_file(const char *path, struct daemon_keys *keys, struct conf_errors *errors)
{
	struct conf_file f;

	if (!read_file(path, &f, errors))
		return;
	for (size_t i = 0; i < f.n; i++)
		daemon_entry(&f, &f.v[i], keys, errors);
	conf_file_done(&f);
}

static int
is_conf(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return d->d_name[0] != '.' && dot && streq(dot, ".conf");
}

/* The *.conf files of a folder in the order of their names; none where there is no folder. */
static int
list(const char *folder, struct dirent ***ret, struct conf_errors *errors)
{
	int n = scandir(folder, ret, is_conf, alphasort);

	if (n < 0 && errno != ENOENT)
		conf_error_system(errors, folder, "cannot be listed", errno);
	return n;
}

static void
load_service(struct conf *c, const char *path, const char *service, struct conf_errors *errors)
{
	struct conf_env **envs;
	struct conf_file f;
	size_t n = 0, more = 0;

	if (!name_valid(service)) {
		conf_error_add(errors, path, 0,
			       "the file's name is no service name: A-Z a-z 0-9 . _ - only");
	} else if (read_file(path, &f, errors)) {
		envs = conf_build(&f, service, BUILD_FILE, errors);
		while (c->envs[n])
			n++;
		while (envs[more])
			more++;
		c->envs = xrealloc(c->envs, (n + more + 1) * sizeof *c->envs);
		memcpy(c->envs + n, envs, (more + 1) * sizeof *envs);
		free(envs);
		conf_file_done(&f);
	}
}

static void
load_service_file(struct conf *c, const char *path, const char *file_name,
		  struct conf_errors *errors)
{
	char *service = xasprintf("%.*s", (int)(strlen(file_name) - strlen(".conf")), file_name);

	load_service(c, path, service, errors);
	free(service);
}

int
conf_load_service(const char *path, const char *service, struct conf **ret,
		  struct conf_errors *errors)
{
	struct conf *c = xcalloc(1, sizeof *c);

	c->envs = xcalloc(1, sizeof *c->envs);
	load_service(c, path, service, errors);
	if (errors->n > 0) {
		conf_free(c);
		return -EINVAL;
	}
	*ret = c;
	return 0;
}

static void
load_folder(struct conf *c, struct daemon_keys *keys, const char *folder,
	    struct conf_errors *errors)
{
	struct dirent **files;
	int n = list(folder, &files, errors);

	for (int i = 0; i < n; i++) {
		char *path = xasprintf("%s/%s", folder, files[i]->d_name);

		if (keys)
			load_daemon_file(path, keys, errors);
		else
			load_service_file(c, path, files[i]->d_name, errors);
		free(path);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
}

static int
error_cmp(const void *a, const void *b)
{
	const struct conf_error *x = a, *y = b;
	int d = strcmp(x->file, y->file);

	return d ? d : x->line < y->line ? -1 : x->line > y->line;
}

static char *
or_default(char *s, const char *def)
{
	return s ? s : xstrdup(def);
}

int
conf_load(const char *confdir, struct conf **ret, struct conf_errors *errors)
{
	struct conf *c = xcalloc(1, sizeof *c);
	struct daemon_keys keys = {.workers = 2};
	char *main_file = xasprintf("%s/dhashd.conf", confdir);
	char *fragments = xasprintf("%s/dhashd.conf.d", confdir);
	char *services = xasprintf("%s/services.d", confdir);
	struct dirent **none;
	int n;

	c->envs = xcalloc(1, sizeof *c->envs);
	n = scandir(confdir, &none, is_conf, NULL);
	if (n < 0) {
		conf_error_passes(errors, errno);
		conf_error_add(errors, confdir, 0, "cannot be read: %s; name the folder with -c",
			       strerror(errno));
	}
	for (int i = 0; i < n; i++) {
		if (streq(none[i]->d_name, "dhashd.conf"))
			load_daemon_file(main_file, &keys, errors);
		free(none[i]);
	}
	if (n >= 0)
		free(none);
	load_folder(c, &keys, fragments, errors);
	load_folder(c, NULL, services, errors);
	c->log_level = or_default(keys.log_level, "info");
	c->read_group = or_default(keys.read_group, "dhash");
	c->operate_group = or_default(keys.operate_group, "dhash-operators");
	c->worker_threads = MIN(keys.workers, 64);
	free(services);
	free(fragments);
	free(main_file);
	if (errors->n > 0) {
		qsort(errors->v, errors->n, sizeof *errors->v, error_cmp);
		conf_free(c);
		return errors->passing ? -EAGAIN : -EINVAL;
	}
	*ret = c;
	return 0;
}
