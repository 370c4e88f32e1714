/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about the installation: backups, config check, version. */

#include "client/api.h"
#include "client/cli.h"
#include "client/commands.h"
#include "client/json.h"
#include "client/text.h"
#include "common/util.h"

/* --- backups --------------------------------------------------------------------------------- */

static void
backup_row(struct table *t, const json_t *b, bool verified_now)
{
	char created[TEXT_MAX], size[TEXT_MAX], checked[TEXT_MAX];
	const char *what = jbool(b, "corrupt")     ? "CORRUPT"
			   : jbool(b, "emergency") ? "emergency"
						   : "backup";
	char *where =
		xasprintf("%s/%s", jstr_or(b, "service", "?"), jstr_or(b, "environment", "?"));

	if (verified_now)
		what = jbool(b, "ok") ? "ok" : "BAD";
	table_add(t, text_date(created, jstr(b, "created_at")));
	table_add(t, where);
	table_add(t, jstr(b, "tag"));
	table_add(t, what);
	table_add(t, text_bytes(size, jnum(b, "bytes")));
	table_add(t, text_date(checked, jstr(b, "verified_at")));
	table_add(t, jstr(b, "path"));
	free(where);
}

/* Returns whether all that were verified are what they were. */
static bool
print_backups(struct out *o, const json_t *backups, bool verified_now)
{
	static const char *const titles[] = {"TAKEN (UTC)", "WHERE",          "HOLDS", "IS",
					     "SIZE",        "VERIFIED (UTC)", "FILE"};
	struct table t = {.columns = ARRAY_SIZE(titles)};
	bool all_ok = true;
	const json_t *b;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(titles); i++)
		table_add(&t, titles[i]);
	json_array_foreach(backups, i, b) backup_row(&t, b, verified_now);
	if (i == 0)
		out_line(o, STYLE_PLAIN, "there is no backup yet");
	else
		table_print(&t, o);
	table_done(&t);
	json_array_foreach(backups, i, b)
	{
		if (!verified_now || jbool(b, "ok"))
			continue;
		all_ok = false;
		out_line(o, STYLE_BAD, "%s: %s", jstr_or(b, "path", "?"),
			 jstr_or(b, "text", "it is not what was written"));
	}
	return all_ok;
}

/* Takes the answer: an empty one may be due to a name that is not known. */
static int
told(struct client *c, const struct args *a, json_t *doc, bool verified_now)
{
	int code = EXIT_OK;

	if (json_array_size(jarr(doc, "backups")) == 0)
		code = api_known(c, a->value[OPT_SERVICE], a->value[OPT_ENV]);
	if (code == EXIT_OK) {
		out_json(&c->out, doc);
		if (!print_backups(&c->out, jarr(doc, "backups"), verified_now))
			code = EXIT_FAILED;
	}
	json_decref(doc);
	return code;
}

static int
backups_verify(struct client *c, const struct args *a)
{
	json_t *body = json_object(), *doc = NULL;
	int code;

	if (given(a, OPT_SERVICE))
		json_object_set_new(body, "service", json_string(a->value[OPT_SERVICE]));
	if (given(a, OPT_ENV))
		json_object_set_new(body, "environment", json_string(a->value[OPT_ENV]));
	/* Hashing them takes as long as it takes. */
	code = api_post(c, "/v1/backups/verify", body, 0, &doc);
	return code == EXIT_OK ? told(c, a, doc, true) : code;
}

int
cmd_backups(struct client *c, const struct args *a)
{
	const char *word = a->n_words > 0 ? a->word[0] : "list";
	json_t *doc = NULL;
	char *path;
	int code;

	if (streq(word, "verify"))
		return backups_verify(c, a);
	if (!streq(word, "list")) {
		out_error(&c->out, "unknown argument \"%s\": dhash backups list, or verify", word);
		return EXIT_USAGE;
	}
	path = api_path("/v1/backups", a->value[OPT_SERVICE], a->value[OPT_ENV]);
	code = api_get(c, &doc, "%s", path);
	free(path);
	return code == EXIT_OK ? told(c, a, doc, false) : code;
}

/* --- config check ---------------------------------------------------------------------------- */

int
cmd_config(struct client *c, const struct args *a)
{
	json_t *doc = NULL, *e;
	size_t i;
	int code;

	if (a->n_words == 0 || !streq(a->word[0], "check")) {
		out_error(&c->out, "what about the configuration? dhash config check");
		return EXIT_USAGE;
	}
	code = api_get(c, &doc, "/v1/config/check");
	if (code != EXIT_OK)
		return code;
	out_json(&c->out, doc);
	json_array_foreach(jarr(doc, "errors"), i, e)
		out_line(&c->out, STYLE_BAD, "%s:%lld: %s", jstr_or(e, "file", "?"),
			 (long long)jint(e, "line", 0), jstr_or(e, "text", "?"));
	if (jbool(doc, "ok"))
		out_line(&c->out, STYLE_GOOD, "the configuration is good");
	code = jbool(doc, "ok") ? EXIT_OK : EXIT_FAILED;
	json_decref(doc);
	return code;
}

/* --- version --------------------------------------------------------------------------------- */

int
cmd_version(struct client *c, const struct args *a)
{
	char since[TEXT_MAX];
	json_t *doc = NULL;
	int code;

	out_line(&c->out, STYLE_PLAIN, "dhash %s", DHASH_VERSION);
	code = api_get(c, &doc, "/v1/version");
	if (code != EXIT_OK)
		return code;
	out_json(&c->out, doc);
	out_line(&c->out, STYLE_PLAIN,
		 "dhashd %s, protocol %lld, pid %lld, running since %s UTC, "
		 "configuration %s",
		 jstr_or(doc, "version", "?"), (long long)jint(doc, "protocol", 0),
		 (long long)jint(doc, "pid", 0), text_date(since, jstr(doc, "started_at")),
		 jstr_or(doc, "config", "?"));
	json_decref(doc);
	return EXIT_OK;
}
