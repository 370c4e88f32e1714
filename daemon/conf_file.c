/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text to entries, by libinih.
 *
 * Its line buffer is 200 bytes, it takes " ;" in a value for a comment, and it joins indented lines
 * to the one before; selectors and hook lines suffer from all three.  So our reader hands it each
 * line unindented and with its number in the place of the value, and the handler puts the real
 * value back.
 */

#include <errno.h>
#include <ini.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/conf_internal.h"

void
conf_error_add(struct conf_errors *errors, const char *file, unsigned line, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	/* A line that several environments share is wrong once. */
	for (size_t i = 0; i < errors->n; i++)
		if (errors->v[i].line == line && streq(errors->v[i].text, text) &&
		    streq(errors->v[i].file, file)) {
			free(text);
			return;
		}
	errors->v = xrealloc(errors->v, (errors->n + 1) * sizeof *errors->v);
	errors->v[errors->n++] = (struct conf_error){
		.file = xstrdup(file),
		.line = line,
		.text = text,
	};
}

void
conf_error_system(struct conf_errors *errors, const char *file, const char *what, int error)
{
	char buf[128];

	conf_error_add(errors, file, 0, "%s: %s", what, strerror_r(error, buf, sizeof buf));
	conf_error_passes(errors, error);
}

void
conf_error_passes(struct conf_errors *errors, int error)
{
	errors->passing |= error_passes(-error);
}

/* Of one file.  Each is compared with all the others, more than once, while the loop waits. */
enum { ENTRIES_MAX = 5000 };

struct reader {
	struct conf_file *file;
	struct conf_errors *errors;
	const char *rest;
	unsigned line;
	char *value;        /* owned: of the line just handed over */
	char *last_section; /* owned */
};

static char *
trimmed(const char *begin, const char *end)
{
	while (begin < end && (*begin == ' ' || *begin == '\t'))
		begin++;
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	return xasprintf("%.*s", (int)(end - begin), begin);
}

static void
add(struct conf_file *f, const char *section, const char *key, const char *value, unsigned line)
{
	struct conf_entry *e;

	f->v = xrealloc(f->v, (f->n + 1) * sizeof *f->v);
	e = &f->v[f->n++];
	e->section = xstrdup(section);
	e->key = key ? xstrdup(key) : NULL;
	e->value = value ? xstrdup(value) : NULL;
	e->line = line;
}

static const struct conf_entry *
find_section(const struct conf_file *f, const char *section)
{
	for (size_t i = 0; i < f->n; i++)
		if (!f->v[i].key && streq(f->v[i].section, section))
			return &f->v[i];
	return NULL;
}

/* "[Rule error-rate]": noted here, since libinih tells of a section only with its first key. */
static bool
take_section(struct reader *r, const char *text)
{
	size_t n = strlen(text);
	const struct conf_entry *first;
	char *name;

	if (text[n - 1] != ']') {
		conf_error_add(r->errors, r->file->path, r->line,
			       "a section's line must end in ]: %s", text);
		return false;
	}
	name = trimmed(text + 1, text + n - 1);
	first = find_section(r->file, name);
	if (first)
		conf_error_add(r->errors, r->file->path, r->line,
			       "[%s] stands twice, first in line %u; put its keys together", name,
			       first->line);
	else
		add(r->file, name, NULL, NULL, r->line);
	free(r->last_section);
	r->last_section = name;
	return n < INI_MAX_LINE - 2;
}

/* Puts what libinih shall see of a line into `out`; false: nothing. */
static bool
offer(struct reader *r, const char *text, char *out, int size)
{
	const char *eq = strpbrk(text, "=:");
	char *key;
	bool ok;

	if (*text == '\0' || *text == '#' || *text == ';')
		return false;
	if (*text == '[') {
		ok = take_section(r, text);
		if (ok)
			snprintf(out, (size_t)size, "%s\n", text);
		return ok;
	}
	if (!eq || *eq == ':') {
		conf_error_add(r->errors, r->file->path, r->line,
			       "neither Key=Value nor [Section]: %.60s", text);
		return false;
	}
	if (!r->last_section) {
		conf_error_add(r->errors, r->file->path, r->line,
			       "a key before the first [Section]: %.60s", text);
		return false;
	}
	key = trimmed(text, eq);
	/* Signs, and what libinih takes for blanks, have a meaning of their own for it. */
	ok = *key && strlen(key) < 50 &&
	     key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")] ==
		     '\0';
	if (!ok)
		conf_error_add(r->errors, r->file->path, r->line, "this is no key: \"%.60s\"", key);
	else
		snprintf(out, (size_t)size, "%s=%u\n", key, r->line);
	free(r->value);
	r->value = trimmed(eq + 1, text + strlen(text));
	free(key);
	return ok;
}

static char *
on_line(char *out, int size, void *arg)
{
	struct reader *r = arg;
	const char *end;
	char *text;

	if (*r->rest == '\0')
		return NULL;
	if (r->file->n > ENTRIES_MAX) {
		conf_error_add(r->errors, r->file->path, r->line,
			       "more than %d keys and sections in one file", ENTRIES_MAX);
		return NULL;
	}
	end = strchrnul(r->rest, '\n');
	r->line++;
	text = trimmed(r->rest, end);
	if (!offer(r, text, out, size))
		str_copy(out, (size_t)size, "\n");
	free(text);
	r->rest = *end ? end + 1 : end;
	return out;
}

static int
on_entry(void *arg, const char *section, const char *key, const char *value)
{
	struct reader *r = arg;

	for (size_t i = 0; i < r->file->n; i++) {
		const struct conf_entry *e = &r->file->v[i];

		if (e->key && streq(e->section, r->last_section) && streq(e->key, key)) {
			conf_error_add(r->errors, r->file->path, r->line,
				       "%s= stands twice in [%s], first in line %u", key,
				       e->section, e->line);
			return 1;
		}
	}
	/* inih's own idea of the section's name is cut at 50 characters: ours is whole. */
	add(r->file, r->last_section, key, r->value, r->line);
	return 1;
}

void
conf_file_parse(const char *path, const char *text, struct conf_file *ret,
		struct conf_errors *errors)
{
	struct reader r = {.file = ret, .errors = errors, .rest = text};

	*ret = (struct conf_file){.path = xstrdup(path)};
	if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
		r.rest += 3;
	if (ini_parse_stream(on_line, &r, on_entry, &r) != 0)
		conf_error_add(errors, path, 0, "cannot be read as an INI file");
	free(r.value);
	free(r.last_section);
}

void
conf_file_done(struct conf_file *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].section);
		free(f->v[i].key);
		free(f->v[i].value);
	}
	free(f->v);
	free(f->path);
}
