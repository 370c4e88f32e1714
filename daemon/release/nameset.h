/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_NAMESET_H
#define DHASH_RELEASE_NAMESET_H

/*
 * Names inside archives: what is a fit one, and which have been seen.  The set keeps a short digest
 * of each name, so a million names are some 50 MB and no archive can choose names that collide.
 */

#include <limits.h>
#include <stdbool.h>

enum { NAME_MAX_DEPTH = 128 }; /* components; each costs a descriptor when a tree is removed */

/*
 * Brings a name into one form, without "." components, doubled or trailing slashes.  Returns NULL,
 * or why it is refused: empty, absolute, "..", too long or too deep.  "./" becomes "".
 */
const char *name_normalise(const char *raw, char ret[PATH_MAX]);

/*
 * Whether a symbolic link at `name` (normalised) may point to `target`: relative, and leading ".."
 * no further than the archive's own top.  ".." behind a name is refused altogether: that name may
 * be another link, and then nobody can tell by the text where it leads.
 */
bool link_stays_inside(const char *name, const char *target);

struct nameset;

struct nameset *nameset_new(void);
void nameset_free(struct nameset *s);
/*
 * Adds a name with the folders above it.  Returns NULL, or why it is refused: it is there already,
 * or something above it is no folder.  A folder may follow its own contents, once.
 */
const char *nameset_add(struct nameset *s, const char *name, bool folder);
/* Is there something of this name that is no folder? */
bool nameset_has_file(const struct nameset *s, const char *name);

#endif
