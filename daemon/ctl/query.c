/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads the query and the body of a request, and holds both against the route's table: what is not
 * in the table is an error, so that a misspelt "supersede" never deploys in silence.  Pure: no I/O.
 */

#include <errno.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"

enum {
	DEPTH_MAX = 16,
	STRING_MAX = 4096,
	PARAMS_MAX = 16,
	SHOWN_MAX = 64, /* of a client's own word, in a message */
};

void
bad_input_done(struct bad_input *b)
{
	free(b->message);
	json_decref(b->detail);
	*b = (struct bad_input){0};
}

__attribute__((format(printf, 3, 4))) static int
bad(struct bad_input *b, json_t *detail, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	b->message = str_escape(text);
	b->detail = detail;
	free(text);
	return -EINVAL;
}

static const struct ctl_param *
find_param(const struct ctl_param *allowed, const char *name)
{
	for (const struct ctl_param *p = allowed; p && p->name; p++)
		if (streq(p->name, name))
			return p;
	return NULL;
}

static int
unknown(struct bad_input *b, const char *what, const char *name, const struct ctl_param *allowed)
{
	const char *names[PARAMS_MAX], *near;
	json_t *list = json_array();
	size_t n = 0;
	char shown[SHOWN_MAX], *clean;

	for (const struct ctl_param *p = allowed; p && p->name && n < PARAMS_MAX; p++) {
		names[n++] = p->name;
		json_array_append_new(list, json_string(p->name));
	}
	str_copy(shown, sizeof shown, name);
	clean = str_escape(shown);
	near = nearest_name(clean, names, n);
	bad(b, json_pack("{s:s, s:s?, s:o}", what, clean, "suggestion", near, "allowed", list),
	    near ? "unknown %s \"%s\"; did you mean \"%s\"?" : "unknown %s \"%s\"", what, clean,
	    near);
	free(clean);
	return -EINVAL;
}

static int
bad_value(struct bad_input *b, const char *what, const char *name, const char *why)
{
	return bad(b, json_pack("{s:s}", what, name), "%s \"%s\" %s", what, name, why);
}

/* --- query ----------------------------------------------------------------------------------- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
percent_decode(const char *s, size_t len, char **ret)
{
	char *out = xmalloc(len + 1), *p = out, *clean;
	bool printable;

	for (size_t i = 0; i < len; i++) {
		int high = 0, low = 0;

		if (s[i] != '%') {
			*p++ = s[i];
			continue;
		}
		if (i + 2 >= len || (high = hex_digit(s[i + 1])) < 0 ||
		    (low = hex_digit(s[i + 2])) < 0 || high + low == 0) {
			free(out);
			return -EINVAL;
		}
		*p++ = (char)(high * 16 + low);
		i += 2;
	}
	*p = '\0';
	clean = str_escape(out);
	printable = streq(clean, out);
	free(clean);
	if (!printable) {
		free(out);
		return -EINVAL;
	}
	*ret = out;
	return 0;
}

static bool
integer_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 18 && strspn(s, "0123456789") == n;
}

static int
check_query_value(const struct ctl_param *p, const char *value, struct bad_input *b)
{
	switch (p->type) {
	case CTL_STRING:
		if (!*value)
			return bad_value(b, "parameter", p->name, "is empty");
		break;
	case CTL_INTEGER:
		if (!integer_valid(value))
			return bad_value(b, "parameter", p->name, "must be a number, 0 or more");
		break;
	case CTL_BOOLEAN:
		if (!streq(value, "0") && !streq(value, "1"))
			return bad_value(b, "parameter", p->name, "must be 0 or 1");
		break;
	}
	return 0;
}

static int
add_pair(json_t *query, const char *pair, size_t len, const struct ctl_param *allowed,
	 struct bad_input *b)
{
	const char *equals = memchr(pair, '=', len);
	size_t name_len = equals ? (size_t)(equals - pair) : len;
	char *name = NULL, *value = NULL;
	const struct ctl_param *p;
	int r;

	if (percent_decode(pair, name_len, &name) < 0 ||
	    percent_decode(equals ? equals + 1 : "", equals ? len - name_len - 1 : 0, &value) < 0)
		r = bad(b, NULL,
			"the query is not valid: a bad %% escape, control character or "
			"UTF-8 in \"%.*s\"",
			(int)MIN(len, (size_t)SHOWN_MAX), pair);
	else if (!(p = find_param(allowed, name)))
		r = unknown(b, "parameter", name, allowed);
	else if (json_object_get(query, name))
		r = bad_value(b, "parameter", name, "is given twice");
	else
		r = check_query_value(p, value, b);
	if (r == 0)
		json_object_set_new(query, name, json_string(value));
	free(name);
	free(value);
	return r;
}

int
query_parse(const char *query, const struct ctl_param *allowed, json_t **ret,
	    struct bad_input *ret_bad)
{
	json_t *parsed = json_object();
	int r = 0;

	while (query && *query && r == 0) {
		size_t len = strcspn(query, "&");

		r = add_pair(parsed, query, len, allowed, ret_bad);
		query += len;
		query += *query == '&';
	}
	if (r < 0)
		json_decref(parsed);
	else
		*ret = parsed;
	return r;
}

/* --- body ------------------------------------------------------------------------------------ */

/* Where brackets are nested deeper than DEPTH_MAX, or len.  jansson itself goes to 2048. */
static size_t
too_deep(const char *data, size_t len)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > DEPTH_MAX)
				return i;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return len;
}

static int
bad_json(struct bad_input *b, const char *why, size_t at)
{
	return bad(b, json_pack("{s:I}", "position", (json_int_t)at),
		   "the body is not valid: %s, at byte %zu", why, at);
}

static int
load(const char *data, size_t len, json_t **ret, struct bad_input *b)
{
	const char *nul = memchr(data, '\0', len);
	size_t deep = too_deep(data, len);
	json_error_t e;
	json_t *json;

	if (nul)
		return bad_json(b, "a NUL byte", (size_t)(nul - data));
	if (deep < len)
		return bad_json(b, "nested too deeply", deep);
	json = json_loadb(data, len, JSON_REJECT_DUPLICATES, &e);
	if (!json)
		return bad_json(b, e.text, e.position > 0 ? (size_t)e.position : 0);
	if (!json_is_object(json)) {
		json_decref(json);
		return bad(b, NULL, "the body must be a JSON object");
	}
	*ret = json;
	return 0;
}

static int
check_key(const struct ctl_param *p, const json_t *value, struct bad_input *b)
{
	switch (p->type) {
	case CTL_STRING:
		if (!json_is_string(value))
			return bad_value(b, "key", p->name, "must be a string");
		if (json_string_length(value) == 0)
			return bad_value(b, "key", p->name, "is empty");
		if (json_string_length(value) > STRING_MAX)
			return bad_value(b, "key", p->name, "is longer than 4096 bytes");
		break;
	case CTL_INTEGER:
		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return bad_value(b, "key", p->name, "must be a number, 0 or more");
		break;
	case CTL_BOOLEAN:
		if (!json_is_boolean(value))
			return bad_value(b, "key", p->name, "must be true or false");
		break;
	}
	return 0;
}

static int
check_keys(json_t *body, const struct ctl_param *allowed, struct bad_input *b)
{
	const char *name;
	json_t *value;

	json_object_foreach(body, name, value)
	{
		const struct ctl_param *p = find_param(allowed, name);
		int r = p ? check_key(p, value, b) : unknown(b, "key", name, allowed);

		if (r < 0)
			return r;
	}
	return 0;
}

static int
check_required(const json_t *body, const struct ctl_param *allowed, struct bad_input *b)
{
	for (const struct ctl_param *p = allowed; p && p->name; p++)
		if (p->required && !json_object_get(body, p->name))
			return bad_value(b, "key", p->name, "is missing");
	return 0;
}

int
body_parse(const char *data, size_t len, const struct ctl_param *allowed, json_t **ret,
	   struct bad_input *ret_bad)
{
	json_t *body = NULL;
	int r = 0;

	if (len > 0 && !allowed)
		return bad(ret_bad, NULL, "this request takes no body");
	if (len > 0)
		r = load(data, len, &body, ret_bad);
	if (r == 0 && body)
		r = check_keys(body, allowed, ret_bad);
	if (r == 0)
		r = check_required(body, allowed, ret_bad);
	if (r < 0)
		json_decref(body);
	else
		*ret = body;
	return r;
}
