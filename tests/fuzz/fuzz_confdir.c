/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole configuration: "WHICH, dhashd.conf NUL dhashd.conf.d/10.conf NUL a service's file",
 * read from a real folder as the daemon reads it, NUL bytes in the last one included.
 *
 * It is taken whole or not at all, with every error in one of the three files; what is taken has
 * values within their bounds, finds each of its environments, and freezes.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/conf.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {"dhashd.conf", "dhashd.conf.d/10.conf", "services.d/web.conf"};
static const char *const folders[] = {"dhashd.conf.d", "services.d"};
static char box[64];

static void
clean_up(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unlink(files[i]);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		rmdir(folders[i]);
	if (chdir("/") == 0)
		rmdir(box);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	strcpy(box, access("/dev/shm", W_OK) == 0 ? "/dev/shm/dhash-fuzz-XXXXXX"
						  : "/tmp/dhash-fuzz-XXXXXX");
	INSIST(mkdtemp(box) != NULL && chdir(box) == 0, "no folder to work in: %m");
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		INSIST(mkdir(folders[i], 0755) == 0, "%s: %m", folders[i]);
	atexit(clean_up);
	return 0;
}

/* A file that is not asked for is not there. */
static void
put(const char *path, bool there, const char *text, size_t len)
{
	int fd = there ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

	if (!there)
		unlink(path);
	else
		INSIST(fd >= 0 && write(fd, text, len) == (ssize_t)len, "%s: %m", path);
	if (fd >= 0)
		close(fd);
}

static void
check_errors(const struct conf_errors *errors)
{
	INSIST(errors->n > 0, "refused without an error");
	for (size_t i = 0; i < errors->n; i++) {
		const struct conf_error *e = &errors->v[i];
		bool known = false;

		for (size_t k = 0; k < ARRAY_SIZE(files); k++)
			known = known || strstr(e->file, files[k]);
		INSIST(known && *e->text, "%s:%u: %s", e->file, e->line, e->text);
	}
}

static void
check_env(const struct conf *c, struct conf_env *e)
{
	char *dump = conf_env_dump(e);

	INSIST(conf_find(c, e->service, e->name) == e, "%s/%s is not found", e->service, e->name);
	INSIST(streq(e->service, "web") && name_valid(e->name), "%s/%s", e->service, e->name);
	INSIST(e->policy.n_phases > 0 && e->policy.min_coverage >= 0 && e->policy.min_coverage <= 1,
	       "%u phases, coverage %g", e->policy.n_phases, e->policy.min_coverage);
	INSIST(e->deploy || e->artifact, "no way to deploy");
	for (unsigned i = 0; i < e->policy.n_phases; i++)
		INSIST(e->policy.phases[i].interval_usec > 0 &&
			       e->policy.phases[i].until_usec >
				       (i ? e->policy.phases[i - 1].until_usec : 0),
		       "phase %s", e->policy.phases[i].name);
	free(dump);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t which = feed_byte(&f);
	struct conf_errors errors = {0};
	struct conf *c = NULL;
	size_t len;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *text = i + 1 < ARRAY_SIZE(files) ? feed_string(&f) : feed_rest(&f, &len);

		put(files[i], !(which & 1u << i), text,
		    i + 1 < ARRAY_SIZE(files) ? strlen(text) : len);
		free(text);
	}
	r = conf_load(".", &c, &errors);
	INSIST(r == (errors.n ? -EINVAL : 0) && (r == 0) == (c != NULL), "%d, %zu errors", r,
	       errors.n);
	if (r < 0)
		check_errors(&errors);
	for (struct conf_env **e = c ? c->envs : NULL; e && *e; e++)
		check_env(c, *e);
	if (c)
		INSIST(c->log_level && c->worker_threads >= 1 && c->worker_threads <= 64,
		       "%u threads", c->worker_threads);
	conf_free(c);
	conf_errors_free(&errors);
	return 0;
}
