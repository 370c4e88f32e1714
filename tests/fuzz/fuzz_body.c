/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths, queries and JSON bodies of the control protocol: "ROUTE, PATH NUL QUERY NUL BODY".
 *
 * What is taken holds only what the route's table allows, each of its type, and all that it
 * requires; a body that was taken and is written again is taken again as the same.  What is refused
 * says why, in a message that a client can be sent.
 */

#include <errno.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"
#include "tests/fuzz/fuzz.h"

static const struct ctl_param *
param(const struct ctl_param *allowed, const char *name)
{
	for (const struct ctl_param *p = allowed; p && p->name; p++)
		if (streq(p->name, name))
			return p;
	fuzz_fail("allowed", "%s was taken", name);
}

static void
refused(int r, struct bad_input *bad)
{
	char *text, *clean;

	INSIST(r == -EINVAL && bad->message && *bad->message, "%d without a message", r);
	clean = str_escape(bad->message);
	INSIST(streq(clean, bad->message), "the message is not clean: %s", bad->message);
	text = bad->detail ? json_dumps(bad->detail, JSON_COMPACT) : NULL;
	INSIST(!bad->detail || text, "the detail of \"%s\" cannot be written", bad->message);
	free(text);
	free(clean);
	bad_input_done(bad);
}

static void
query(const struct ctl_route *route, const char *text)
{
	struct bad_input bad = {0};
	json_t *json = NULL, *value;
	const char *name;
	int r = query_parse(text, route->query, &json, &bad);

	if (r < 0) {
		refused(r, &bad);
		return;
	}
	json_object_foreach(json, name, value)
	{
		const struct ctl_param *p = param(route->query, name);
		const char *s = json_string_value(value);

		INSIST(s && *s, "%s is no text", name);
		if (p->type == CTL_INTEGER)
			INSIST(strspn(s, "0123456789") == strlen(s), "%s=%s", name, s);
		if (p->type == CTL_BOOLEAN)
			INSIST(streq(s, "0") || streq(s, "1"), "%s=%s", name, s);
		for (; *s; s++)
			INSIST((unsigned char)*s >= ' ', "%s holds %#x", name, (unsigned)*s);
	}
	json_decref(json);
}

static void
check_value(const struct ctl_param *p, const json_t *value)
{
	if (p->type == CTL_STRING)
		INSIST(json_string_length(value) > 0 && json_string_length(value) <= 4096 &&
			       strlen(json_string_value(value)) == json_string_length(value),
		       "%s is %zu bytes", p->name, json_string_length(value));
	else if (p->type == CTL_INTEGER)
		INSIST(json_is_integer(value) && json_integer_value(value) >= 0, "%s is no number",
		       p->name);
	else
		INSIST(json_is_boolean(value), "%s is neither true nor false", p->name);
}

static void
taken(const struct ctl_route *route, json_t *json)
{
	struct bad_input bad = {0};
	json_t *again = NULL, *value;
	const char *name;
	char *text;

	json_object_foreach(json, name, value) check_value(param(route->body, name), value);
	for (const struct ctl_param *p = route->body; p && p->name; p++)
		INSIST(!p->required || json_object_get(json, p->name), "%s is missing", p->name);
	text = json_dumps(json, JSON_COMPACT);
	INSIST(text && body_parse(text, strlen(text), route->body, &again, &bad) == 0,
	       "not taken again: %s: %s", text, bad.message);
	INSIST(json_equal(json, again), "became another: %s", text);
	json_decref(again);
	free(text);
}

static void
body(const struct ctl_route *route, const char *text, size_t len)
{
	struct bad_input bad = {0};
	json_t *json = NULL;
	int r = body_parse(text, len, route->body, &json, &bad);

	if (r < 0)
		refused(r, &bad);
	else if (json)
		taken(route, json);
	json_decref(json);
}

static void
path(const char *method, const char *text)
{
	const char *allow = NULL;
	char *id = NULL;
	enum ctl_op op;
	int r = route_find(method, text, &op, &id, &allow);

	INSIST(r == 0 || r == -ENOENT || r == -EINVAL || (r == -EACCES && allow),
	       "route_find() returned %d", r);
	if (r == 0)
		INSIST(streq(ctl_routes[op].method, method), "%s goes to %s", text,
		       ctl_routes[op].path);
	if (id)
		for (const char *p = id; *p; p++)
			INSIST((unsigned char)*p >= ' ', "an id holds %#x", (unsigned)*p);
	route_nearest(text);
	free(id);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t which = feed_byte(&f);
	char *place = feed_string(&f), *asked = feed_string(&f), *rest;
	size_t len;

	rest = feed_rest(&f, &len);
	path(which & 128 ? "POST" : "GET", place);
	query(&ctl_routes[which % _CTL_OP_MAX], asked);
	body(&ctl_routes[which % _CTL_OP_MAX], rest, len);
	free(place);
	free(asked);
	free(rest);
	return 0;
}
