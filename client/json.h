/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_JSON_H
#define DHASH_CLIENT_JSON_H

/* Reading documents whose members may be missing, null or of the wrong type: never an error. */

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* The string, or NULL where there is none or it is empty. */
static inline const char *
jstr(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : NULL;
}

static inline const char *
jstr_or(const json_t *o, const char *key, const char *otherwise)
{
	const char *s = jstr(o, key);

	return s ? s : otherwise;
}

/* The number, or NaN. */
static inline double
jnum(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* Beyond 2^53 there is no number of the protocol's: sums of milliseconds, and their microseconds,
 * stay within an int64_t. */
static inline int64_t
jint(const json_t *o, const char *key, int64_t otherwise)
{
	const json_t *v = json_object_get(o, key);
	const int64_t most = INT64_C(1) << 53;
	int64_t n = json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;

	return n >= -most && n <= most ? n : otherwise;
}

static inline bool
jbool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* The object or array; NULL for anything else, which json_object_get() and json_array_size() take.
 */
static inline json_t *
jobj(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_object(v) ? v : NULL;
}

static inline json_t *
jarr(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	return json_is_array(v) ? v : NULL;
}

#endif
