/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client shows of the daemon's documents: "FLAGS, HTTP STATUS, then a JSON document".
 *
 * The document is taken for an environment, for a list of them and for an error.  Whatever stands
 * in it, no control character but the line's end reaches the terminal, the texts stay within their
 * buffers, and there is an exit code of dhash(1).
 */

#include <unistd.h>

#include "client/api.h"
#include "client/cli.h"
#include "client/json.h"
#include "client/status.h"
#include "client/text.h"
#include "common/util.h"
#include "tests/fuzz/fuzz.h"

static void
clean(const char *s, const char *more)
{
	char *escaped;

	for (const char *p = s; *p; p++)
		INSIST(((unsigned char)*p >= ' ' && *p != 0x7f) || strchr(more, *p),
		       "%#x reaches the terminal: %s", (unsigned)*p, s);
	if (*more)
		return;
	escaped = str_escape(s);
	INSIST(streq(escaped, s), "\"%s\" reaches the terminal", s);
	free(escaped);
}

static bool
known_code(int code)
{
	static const int codes[] = {EXIT_OK,      EXIT_FAILED,      EXIT_USAGE,
				    EXIT_NOTHING, EXIT_UNKNOWN,     EXIT_ROLLED_BACK,
				    EXIT_RUNNING, EXIT_UNREACHABLE, EXIT_DENIED};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i] == code)
			return true;
	return false;
}

/* All that is printed on standard output meanwhile. */
static void
shown(json_t *doc, uint8_t flags)
{
	struct out o = {.json = flags & 1, .terminal = flags & 2, .width = 20 + (flags >> 3) * 4u};
	FILE *real = stdout;
	char *text = NULL;
	size_t len;

	stdout = open_memstream(&text, &len);
	status_print(&o, doc, 1704110400 * USEC_PER_SEC);
	o.terminal = false; /* a progress line is redrawn with \r */
	status_progress(&o, doc, 1704110400 * USEC_PER_SEC);
	fclose(stdout);
	stdout = real;
	clean(text, "\n");
	free(text);
}

static void
phrases(const json_t *doc)
{
	char buf[HEADLINE_MAX];
	enum style s;
	size_t i;
	json_t *rule;

	INSIST(strlen(status_phrase(buf, doc, 0)) < sizeof buf, "of %zu", sizeof buf);
	status_verdict(doc, &s);
	INSIST(s < _STYLE_MAX, "style %d", (int)s);
	json_array_foreach(jarr(doc, "rules"), i, rule)
		INSIST(strlen(status_rule(buf, rule)) < sizeof buf, "of %zu", sizeof buf);
	INSIST(status_reason(doc) != NULL, "no reason");
}

static void
numbers(const json_t *doc)
{
	char buf[TEXT_MAX];
	const char *at = jstr(doc, "at");
	double n = jnum(doc, "n");
	usec_t wall;

	clean(text_ms(buf, jint(doc, "ms", -1)), "");
	clean(text_percent(buf, n), "");
	clean(text_seconds(buf, n), "");
	clean(text_count(buf, n), "");
	clean(text_bytes(buf, n), "");
	clean(text_since(buf, at, 1704110400 * USEC_PER_SEC), "");
	text_clock(buf, at);
	INSIST(strlen(buf) < TEXT_MAX, "of %s", at);
	text_date(buf, at);
	text_between(buf, at, jstr(doc, "until"));
	if (at && text_parse_time(at, &wall) == 0) {
		char again[USEC_TEXT_MAX];
		usec_t back;

		wall_format(again, wall);
		INSIST(text_parse_time(again, &back) == 0 && back / 1000 == wall / 1000, "%s is %s",
		       at, again);
	}
}

static void
failure(const char *text, size_t len, unsigned status)
{
	struct failure f = {0};
	char *holder;

	failure_from_answer(&f, status, text, len);
	INSIST(known_code(f.exit) && f.error, "exit code %d", f.exit);
	INSIST(f.exit != EXIT_OK, "HTTP status %u is success", status);
	holder = failure_holder(&f);
	INSIST(!holder || name_valid(holder), "the holder is %s", holder);
	free(holder);
	failure_kind(&f);
	failure_done(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t flags = feed_byte(&f), status = feed_byte(&f);
	size_t len;
	char *text = feed_rest(&f, &len);
	json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	failure(text, len, 300u + status);
	if (doc) {
		shown(doc, flags);
		phrases(doc);
		numbers(doc);
		INSIST(known_code(status_exit_code(jarr(doc, "environments"))), "of %s", text);
	}
	json_decref(doc);
	free(text);
	return 0;
}
