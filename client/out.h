/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_OUT_H
#define DHASH_CLIENT_OUT_H

/*
 * The writer: text for people, or the daemon's JSON for programs.  Everything that reaches a
 * terminal goes through here, so that no text from the daemon can move a cursor or forge a line.
 * A writer in JSON mode drops the text, so commands print without asking which mode it is.
 */

#include <jansson.h>
#include <stdbool.h>

enum style {
	STYLE_PLAIN,
	STYLE_BOLD,
	STYLE_DIM,
	STYLE_GOOD,
	STYLE_WARN,
	STYLE_BAD,
	_STYLE_MAX,
};

struct out {
	bool json;
	bool terminal; /* standard output is one that can redraw a line */
	bool colour;
	bool transient; /* a progress line stands there, to be cleared first */
	bool told;      /* a document was printed: errors add none */
	unsigned width; /* of the terminal, or 100 */
};

/* Looks at standard output, NO_COLOR, CLICOLOR_FORCE and TERM. */
void out_init(struct out *o, bool json);

/* Flushes; returns 0 or -errno when something could not be written. */
int out_finish(struct out *o);

/* Prints a document in JSON mode, and nothing in text mode. */
void out_json(struct out *o, const json_t *document);
/* One line of NDJSON in JSON mode, flushed. */
void out_ndjson(struct out *o, const json_t *document);

/*
 * In text mode: a line; a line indented under a label, wrapped at 100 columns; an empty line.
 * Control characters are shown as \xNN; only styles given here colour anything.
 */
__attribute__((format(printf, 3, 4))) void
out_line(struct out *o, enum style s, const char *fmt, ...);
__attribute__((format(printf, 4, 5))) void
out_row(struct out *o, const char *label, enum style s, const char *fmt, ...);
void out_blank(struct out *o);

/* Pieces of one line; out_end() ends it. */
__attribute__((format(printf, 3, 4))) void
out_part(struct out *o, enum style s, const char *fmt, ...);
void out_end(struct out *o);
/* The rest of a line of which `indent` columns are taken, and its end: on a terminal it is wrapped
 * and indented, elsewhere it stays one line, as programs search lines. */
__attribute__((format(printf, 4, 5))) void
out_rest(struct out *o, size_t indent, enum style s, const char *fmt, ...);

/* On a terminal, a line that the next output replaces; elsewhere nothing. */
__attribute__((format(printf, 2, 3))) void out_progress(struct out *o, const char *fmt, ...);

/* Standard error, "dhash: …", in both modes; in JSON mode an error document on standard output too,
 * unless one has been printed. */
__attribute__((format(printf, 2, 3))) void out_error(struct out *o, const char *fmt, ...);
/* The same without a prefix: hints, and news about the waiting. */
__attribute__((format(printf, 2, 3))) void out_hint(struct out *o, const char *fmt, ...);

/* A table: cells are added row by row; columns are as wide as their widest cell; the last is free.
 */
enum { TABLE_COLUMNS_MAX = 8 };
struct table {
	unsigned columns;
	unsigned n;   /* cells */
	char **cells; /* owned */
};
void table_add(struct table *t, const char *cell);
void table_print(struct table *t, struct out *o);
void table_done(struct table *t);

#endif
