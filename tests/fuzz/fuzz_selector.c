/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selectors of metrics: "SELECTOR NUL VALUE NUL VALUE".  Whether one matches does not depend on the
 * order of a series' labels, an error names a column of the text, and != is what = is not.
 */

#include <errno.h>

#include "daemon/check/selector.h"
#include "tests/fuzz/fuzz.h"

static void
match(const struct selector *s, const char *one, const char *two)
{
	const struct label there[] = {{"code", one}, {"path", two}, {"le", "0.5"}};
	const struct label back[] = {{"le", "0.5"}, {"path", two}, {"code", one}};

	INSIST(selector_matches(s, there, 3) == selector_matches(s, back, 3),
	       "the order of labels decides for \"%s\", \"%s\"", one, two);
	selector_matches(s, NULL, 0);
}

static void
told_column(const char *text, const char *error)
{
	const char *at = strstr(error + strlen(text), "column ");

	INSIST(at && strtoul(at + strlen("column "), NULL, 10) <= strlen(text) + 1,
	       "no column of the text: %s", error);
}

/* {code="V"} and {code!="V"}, with whatever stands in the value. */
static void
opposites(const char *value, const char *label_value)
{
	char *text[2], *error = NULL, *p;
	const struct label l = {"code", label_value};
	bool yes[2];

	for (int i = 0; i < 2; i++) {
		struct selector *s;

		p = text[i] = malloc(strlen(value) * 2 + 16);
		p = stpcpy(p, i ? "m{code!=\"" : "m{code=\"");
		for (const char *v = value; *v; v++) {
			if (*v == '"' || *v == '\\')
				*p++ = '\\';
			*p++ = *v;
		}
		strcpy(p, "\"}");
		INSIST(selector_parse(text[i], &s, &error) == 0, "%s", error);
		yes[i] = selector_matches(s, &l, 1);
		selector_free(s);
		free(text[i]);
	}
	INSIST(yes[0] != yes[1] && yes[0] == (strcmp(value, label_value) == 0),
	       "= and != agree on \"%s\" and \"%s\"", value, label_value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	char *text = feed_string(&f), *one = feed_string(&f), *two = feed_string(&f);
	char *error = NULL;
	struct selector *s = NULL;
	int r = selector_parse(text, &s, &error);

	INSIST(r == 0 || r == -EINVAL, "selector_parse() returned %d", r);
	INSIST((r == 0) == (error == NULL) && (r == 0) == (s != NULL), "returned %d", r);
	if (r == 0)
		match(s, one, two);
	else
		told_column(text, error);
	opposites(one, two);
	selector_free(s);
	free(error);
	free(text);
	free(one);
	free(two);
	return 0;
}
