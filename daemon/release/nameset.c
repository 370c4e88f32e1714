/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/nameset.h"

#include <stdint.h>

#include "common/util.h"
#include "daemon/release/digest.h"

const char *
name_normalise(const char *raw, char ret[PATH_MAX])
{
	size_t len = 0, depth = 0, n;

	if (*raw == '\0')
		return "an empty name";
	if (*raw == '/')
		return "an absolute name";
	for (const char *p = raw; *p; p += n) {
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return "a name with \"..\"";
		if (n > NAME_MAX || len + n + 2 > PATH_MAX || depth >= NAME_MAX_DEPTH)
			return "a name too long or too deep";
		if (n > 0 && !(n == 1 && *p == '.')) {
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
			depth++;
		}
		n += p[n] == '/';
	}
	ret[len] = '\0';
	return NULL;
}

bool
link_stays_inside(const char *name, const char *target)
{
	size_t depth = 0, n;
	bool below = false; /* a component other than ".." has been seen */

	if (*target == '\0' || *target == '/')
		return false;
	for (const char *p = name; *p; p++)
		depth += *p == '/';
	for (const char *p = target; *p; p += n) {
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (below || depth == 0)
				return false;
			depth--;
		} else if (n > 0 && !(n == 1 && *p == '.')) {
			below = true;
		}
		n += p[n] == '/';
	}
	return true;
}

/* --- the set: open addressing, at most half full ---------------------------------------------- */

enum { KEY_BYTES = 16 };
enum seen { SEEN_NOT, SEEN_ABOVE, SEEN_FOLDER, SEEN_FILE }; /* ABOVE: only as something's folder */

struct slot {
	uint8_t key[KEY_BYTES];
	uint8_t seen;
};

struct nameset {
	struct slot *v; /* owned */
	size_t n, cap;
	struct digest *sha;   /* owned */
	char above[PATH_MAX]; /* folder of the last name, known to be in order */
};

struct nameset *
nameset_new(void)
{
	struct nameset *s = xcalloc(1, sizeof *s);

	s->cap = 1024;
	s->v = xcalloc(s->cap, sizeof *s->v);
	s->sha = digest_new();
	return s;
}

void
nameset_free(struct nameset *s)
{
	if (!s)
		return;
	free(s->v);
	digest_free(s->sha);
	free(s);
}

static struct slot *
find(struct slot *v, size_t cap, const uint8_t *key)
{
	size_t i;

	memcpy(&i, key, sizeof i);
	for (i &= cap - 1;; i = (i + 1) & (cap - 1))
		if (v[i].seen == SEEN_NOT || memcmp(v[i].key, key, KEY_BYTES) == 0)
			return &v[i];
}

static void
grow(struct nameset *s)
{
	size_t cap = s->cap * 2;
	struct slot *v = xcalloc(cap, sizeof *v);

	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i].seen != SEEN_NOT)
			*find(v, cap, s->v[i].key) = s->v[i];
	free(s->v);
	s->v = v;
	s->cap = cap;
}

static struct slot *
slot_of(const struct nameset *s, const char *name, size_t len)
{
	uint8_t raw[DIGEST_BYTES];
	struct slot *slot;

	digest_update(s->sha, name, len);
	digest_take(s->sha, raw);
	slot = find(s->v, s->cap, raw);
	if (slot->seen == SEEN_NOT)
		memcpy(slot->key, raw, KEY_BYTES);
	return slot;
}

static enum seen
set(struct nameset *s, const char *name, size_t len, enum seen seen)
{
	struct slot *slot = slot_of(s, name, len);
	enum seen before = slot->seen;

	if (before == SEEN_NOT || (before == SEEN_ABOVE && seen == SEEN_FOLDER))
		slot->seen = (uint8_t)seen;
	if (before == SEEN_NOT && ++s->n * 2 > s->cap)
		grow(s);
	return before;
}

/* Archives list a folder's contents together: the folders above the last name are remembered. */
static bool
folders_above_fit(struct nameset *s, const char *name, size_t above_len)
{
	if (strncmp(s->above, name, above_len) == 0 && s->above[above_len] == '\0')
		return true;
	for (size_t i = 1; i <= above_len; i++) {
		if (name[i] != '/')
			continue;
		if (slot_of(s, name, i)->seen == SEEN_FILE)
			return false;
		if (slot_of(s, name, i)->seen == SEEN_NOT)
			set(s, name, i, SEEN_ABOVE);
	}
	memcpy(s->above, name, above_len);
	s->above[above_len] = '\0';
	return true;
}

const char *
nameset_add(struct nameset *s, const char *name, bool folder)
{
	const char *slash = strrchr(name, '/');
	enum seen before;

	if (slash && !folders_above_fit(s, name, (size_t)(slash - name)))
		return "something below what is no folder";
	before = set(s, name, strlen(name), folder ? SEEN_FOLDER : SEEN_FILE);
	if (before == SEEN_NOT || (before == SEEN_ABOVE && folder))
		return NULL;
	return before == SEEN_ABOVE ? "a folder that is also something else" : "a name twice";
}

bool
nameset_has_file(const struct nameset *s, const char *name)
{
	return slot_of(s, name, strlen(name))->seen == SEEN_FILE;
}
