/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service's file, and the frozen form of an environment.
 *
 * What builds without an error freezes to a text that thaws, and freezes to the very same text
 * again: a deployment goes on by the values with which it was begun.  And no line is passed over in
 * silence: each is blank, a comment, a section or a key, or there is an error.
 */

#include <errno.h>

#include "common/util.h"
#include "daemon/conf_internal.h"
#include "tests/fuzz/fuzz.h"

static void
check_errors(const struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		INSIST(errors->v[i].file && errors->v[i].text && *errors->v[i].text,
		       "error %zu says nothing", i);
}

static void
thaws(const char *dump, const char *from)
{
	struct conf_errors errors = {0};
	struct conf_env *e = NULL;
	char *again;

	INSIST(conf_env_parse(dump, &e, &errors) == 0, "line %u: %s: in\n%s\nfrom\n%s",
	       errors.n ? errors.v[0].line : 0, errors.n ? errors.v[0].text : "?", dump, from);
	again = conf_env_dump(e);
	INSIST(streq(dump, again), "%s\nbecame\n%s", dump, again);
	free(again);
	conf_env_free(e);
	conf_errors_free(&errors);
}

static void
frozen(const char *text)
{
	struct conf_errors errors = {0};
	struct conf_env *e = NULL;
	int r = conf_env_parse(text, &e, &errors);

	INSIST(r == (errors.n ? -EINVAL : 0) && (r == 0) == (e != NULL), "%d with %zu errors", r,
	       errors.n);
	check_errors(&errors);
	if (r == 0) {
		char *dump = conf_env_dump(e);

		thaws(dump, text);
		free(dump);
	}
	conf_env_free(e);
	conf_errors_free(&errors);
}

/* Lines that must have become an entry. */
static size_t
count_lines(const char *text)
{
	size_t n = 0;

	if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	while (*text) {
		text += strspn(text, " \t\r");
		n += *text && !strchr("\n#;", *text);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return n;
}

static void
service(const char *text)
{
	struct conf_errors errors = {0};
	struct conf_file file;
	struct conf_env **envs;

	conf_file_parse("fuzz.conf", text, &file, &errors);
	INSIST(errors.n || file.n == count_lines(text), "%zu entries from %zu lines of\n%s", file.n,
	       count_lines(text), text);
	envs = conf_build(&file, "fuzz", BUILD_FILE, &errors);
	check_errors(&errors);
	for (struct conf_env **e = envs; *e; e++) {
		char *dump = errors.n ? NULL : conf_env_dump(*e);

		if (dump)
			thaws(dump, text);
		free(dump);
		conf_env_free(*e);
	}
	free(envs);
	conf_file_done(&file);
	conf_errors_free(&errors);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	char *text = feed_string(&f);

	service(text);
	frozen(text);
	free(text);
	return 0;
}
