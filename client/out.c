/* SPDX-License-Identifier: Apache-2.0 */

#include "client/out.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/text.h"
#include "common/util.h"

enum {
	TEXT_WIDTH = 100, /* lines are kept under this where words allow */
	LABEL_WIDTH = 12,
	INDENT = 2,
};

static const char *const styles[_STYLE_MAX] = {
	[STYLE_PLAIN] = "",        [STYLE_BOLD] = "\033[1m",  [STYLE_DIM] = "\033[2m",
	[STYLE_GOOD] = "\033[32m", [STYLE_WARN] = "\033[33m", [STYLE_BAD] = "\033[1;31m",
};

static bool
set_in_environment(const char *name)
{
	const char *v = getenv(name);

	return v && *v;
}

static bool
wants_colour(bool terminal)
{
	const char *force = getenv("CLICOLOR_FORCE");

	if (set_in_environment("NO_COLOR"))
		return false;
	return terminal || (force && *force && !streq(force, "0"));
}

void
out_init(struct out *o, bool json)
{
	const char *term = getenv("TERM");
	struct winsize size;

	*o = (struct out){.json = json, .width = TEXT_WIDTH};
	o->terminal = isatty(STDOUT_FILENO) && term && *term && !streq(term, "dumb");
	if (o->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		o->width = size.ws_col;
	o->colour = !json && wants_colour(o->terminal);
}

int
out_finish(struct out *o)
{
	if (o->transient)
		out_progress(o, "%s", "");
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return errno ? -errno : -EIO;
}

/* --- json ------------------------------------------------------------------------------------ */

void
out_json(struct out *o, const json_t *document)
{
	size_t flags = JSON_REAL_PRECISION(15);

	if (!o->json)
		return;
	o->told = true;
	/* On a terminal it is read by people, and must not carry anything that a terminal obeys. */
	if (isatty(STDOUT_FILENO))
		flags |= JSON_INDENT(2) | JSON_ENSURE_ASCII;
	json_dumpf(document, stdout, flags);
	putchar('\n');
}

void
out_ndjson(struct out *o, const json_t *document)
{
	if (!o->json)
		return;
	json_dumpf(document, stdout,
		   JSON_COMPACT | JSON_REAL_PRECISION(15) |
			   (isatty(STDOUT_FILENO) ? JSON_ENSURE_ASCII : 0));
	putchar('\n');
	fflush(stdout);
}

/* --- text ------------------------------------------------------------------------------------ */

static char *
format_escaped(const char *fmt, va_list ap)
{
	char *raw, *escaped;

	if (vasprintf(&raw, fmt, ap) < 0)
		return xstrdup("");
	escaped = str_escape(raw);
	free(raw);
	return escaped;
}

static void
clear_progress(struct out *o)
{
	if (!o->transient)
		return;
	fputs("\r\033[K", stdout);
	o->transient = false;
}

static void
put(struct out *o, enum style s, const char *text, size_t len)
{
	bool coloured = o->colour && s != STYLE_PLAIN && len > 0;

	if (coloured)
		fputs(styles[s], stdout);
	fwrite(text, 1, len, stdout);
	if (coloured)
		fputs("\033[0m", stdout);
}

static void
put_escaped(struct out *o, enum style s, const char *fmt, va_list ap)
{
	char *text;

	if (o->json)
		return;
	text = format_escaped(fmt, ap);
	clear_progress(o);
	put(o, s, text, strlen(text));
	free(text);
}

void
out_part(struct out *o, enum style s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_escaped(o, s, fmt, ap);
	va_end(ap);
}

void
out_end(struct out *o)
{
	if (!o->json)
		putchar('\n');
}

void
out_blank(struct out *o)
{
	if (o->json)
		return;
	clear_progress(o);
	putchar('\n');
}

void
out_line(struct out *o, enum style s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_escaped(o, s, fmt, ap);
	va_end(ap);
	out_end(o);
}

/* How much of the text fits into so many columns, cut at a blank where there is one. */
static size_t
fitting(const char *text, size_t columns)
{
	size_t used = 0, blank = 0, i = 0;

	for (; text[i]; i++) {
		if (((unsigned char)text[i] & 0xc0) == 0x80)
			continue;
		if (text[i] == ' ')
			blank = i;
		if (used++ == columns)
			return blank > 0 ? blank : i;
	}
	return i;
}

/* The rest of a line of which `indent` columns are taken; what does not fit goes below, indented.
 */
static void
put_rows(struct out *o, enum style s, const char *text, size_t indent, size_t width)
{
	for (;;) {
		size_t n = fitting(text, width > indent + 20 ? width - indent : 20);

		put(o, s, text, n);
		putchar('\n');
		text += n + strspn(text + n, " ");
		if (*text == '\0')
			break;
		printf("%*s", (int)indent, "");
	}
}

void
out_row(struct out *o, const char *label, enum style s, const char *fmt, ...)
{
	char *text,
		*left = str_escape(label); /* a rule that we do not know has its own name there */
	va_list ap;

	if (!o->json) {
		va_start(ap, fmt);
		text = format_escaped(fmt, ap);
		va_end(ap);
		clear_progress(o);
		printf("%*s%-*s", INDENT, "", LABEL_WIDTH, left);
		put_rows(o, s, text, INDENT + LABEL_WIDTH, TEXT_WIDTH);
		free(text);
	}
	free(left);
}

void
out_rest(struct out *o, size_t indent, enum style s, const char *fmt, ...)
{
	va_list ap;
	char *text;

	if (o->json)
		return;
	va_start(ap, fmt);
	text = format_escaped(fmt, ap);
	va_end(ap);
	clear_progress(o);
	put_rows(o, s, text, indent, o->terminal ? o->width : SIZE_MAX);
	free(text);
}

void
out_progress(struct out *o, const char *fmt, ...)
{
	va_list ap;
	char *text;

	if (o->json || !o->terminal)
		return;
	va_start(ap, fmt);
	text = format_escaped(fmt, ap);
	va_end(ap);
	clear_progress(o);
	if (*text) {
		/* One column is left free: a full line would wrap, and could not be taken back. */
		put(o, STYLE_DIM, text, fitting(text, o->width - 1));
		o->transient = true;
	}
	fflush(stdout);
	free(text);
}

/* --- standard error -------------------------------------------------------------------------- */

static void
put_error(struct out *o, const char *prefix, const char *text)
{
	clear_progress(o);
	fflush(stdout);
	fprintf(stderr, "%s%s\n", prefix, text);
}

/* What went wrong in the client itself, as a document like the daemon's. */
static void
error_document(struct out *o, const char *text)
{
	json_t *doc;

	if (!o->json || o->told)
		return;
	doc = json_pack("{s:{s:s, s:s, s:n}}", "error", "kind", "client", "message", text,
			"detail");
	out_json(o, doc);
	json_decref(doc);
}

void
out_error(struct out *o, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format_escaped(fmt, ap);
	va_end(ap);
	error_document(o, text);
	put_error(o, "dhash: ", text);
	free(text);
}

void
out_hint(struct out *o, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format_escaped(fmt, ap);
	va_end(ap);
	put_error(o, "", text);
	free(text);
}

/* --- tables ---------------------------------------------------------------------------------- */

void
table_add(struct table *t, const char *cell)
{
	t->cells = xrealloc(t->cells, (t->n + 1) * sizeof *t->cells);
	t->cells[t->n++] = str_escape(cell ? cell : "-");
}

static void
print_cell(const struct table *t, struct out *o, unsigned i, size_t width)
{
	const char *cell = t->cells[i];
	enum style s = i < t->columns ? STYLE_BOLD : STYLE_PLAIN;

	put(o, s, cell, strlen(cell));
	if (i % t->columns == t->columns - 1)
		putchar('\n');
	else
		printf("%*s", (int)(width - text_columns(cell) + 2), "");
}

void
table_print(struct table *t, struct out *o)
{
	size_t width[TABLE_COLUMNS_MAX] = {0};

	if (o->json)
		return;
	clear_progress(o);
	for (unsigned i = 0; i < t->n; i++)
		width[i % t->columns] = MAX(width[i % t->columns], text_columns(t->cells[i]));
	for (unsigned i = 0; i < t->n; i++)
		print_cell(t, o, i, width[i % t->columns]);
}

void
table_done(struct table *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){.columns = t->columns};
}
