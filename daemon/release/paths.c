/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"
#include "daemon/release/nameset.h"
#include "daemon/release/tree.h"

/* The part of `full` below `folder`: "" when they are the same, NULL when it is outside. */
static const char *
below(const char *folder, const char *full)
{
	size_t n = strlen(folder);

	if (streq(folder, "/"))
		return full + 1;
	if (strncmp(folder, full, n) != 0 || (full[n] != '/' && full[n] != '\0'))
		return NULL;
	return full[n] ? full + n + 1 : full + n;
}

static char *
join(const char *folder, const char *name)
{
	return xasprintf("%s%s%s", streq(folder, "/") ? "" : folder, *name ? "/" : "", name);
}

static int
plan_one(struct path_plan *p, const char *root, const char *path, char **ret_error)
{
	const char *skipped = path + strspn(path, "/"), *why, *inside;
	struct path_item *item = &p->v[p->n];
	char name[PATH_MAX];

	why = name_normalise(*path == '/' && !*skipped ? "" : skipped, name);
	if (why)
		return fail(ret_error, -EINVAL, "backup path \"%s\" is %s; write it out plainly",
			    path, why);
	inside = *path == '/' ? below(root, path) : name; /* root as it was written, too */
	item->full = join(inside ? p->root : "/", inside ? inside : name);
	if (paths_holding(p, item->full)) {
		free(item->full);
		return 0;
	}
	inside = below(p->root, item->full);
	item->dirfd = inside && *inside ? p->root_fd : p->slash_fd;
	item->name = xstrdup(inside && *inside ? inside : item->full + 1);
	p->n++;
	return 0;
}

/* "a/b" may stand before "a". */
static void
drop_nested(struct path_plan *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->n; i++) {
		bool nested = false;

		for (size_t j = i + 1; j < p->n && !nested; j++)
			nested = below(p->v[j].full, p->v[i].full) != NULL;
		if (!nested) {
			p->v[kept++] = p->v[i];
			continue;
		}
		free(p->v[i].full);
		free(p->v[i].name);
	}
	p->n = kept;
}

/* Two paths can meet in one name only by way of root: "a" and "/a". */
static int
names_differ(const struct path_plan *p, char **ret_error)
{
	for (size_t i = 0; i < p->n; i++)
		for (size_t j = 0; j < p->n; j++)
			if (i != j && *p->v[i].name && below(p->v[i].name, p->v[j].name))
				return fail(
					ret_error, -EINVAL,
					"backup paths %s and %s would bear the same name in the "
					"archive; take one of them out",
					p->v[i].full, p->v[j].full);
	return 0;
}

int
paths_plan(const char *root, char *const *paths, struct path_plan *ret, char **ret_error)
{
	struct path_plan p = {.root_fd = -1, .slash_fd = -1};
	int r = 0;

	if (strv_len(paths) == 0)
		return fail(ret_error, -EINVAL, "there are no backup paths; set BackupPaths=");
	p.root = realpath(root, NULL);
	if (!p.root)
		return fail_errno(ret_error, -errno, "cannot use %s as the root of backups", root);
	p.root_fd = open(p.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	p.slash_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p.root_fd < 0 || p.slash_fd < 0)
		r = fail_errno(ret_error, -errno, "cannot open %s", p.root);
	p.v = xcalloc(strv_len(paths), sizeof *p.v);
	for (char *const *path = paths; r == 0 && *path; path++)
		r = plan_one(&p, root, *path, ret_error);
	if (r == 0) {
		drop_nested(&p);
		r = names_differ(&p, ret_error);
	}
	if (r < 0) {
		paths_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void
paths_done(struct path_plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].name);
		free(p->v[i].full);
	}
	free(p->v);
	free(p->root);
	if (p->root_fd >= 0)
		close(p->root_fd);
	if (p->slash_fd >= 0)
		close(p->slash_fd);
	*p = (struct path_plan){.root_fd = -1, .slash_fd = -1};
}

const struct path_item *
paths_holding(const struct path_plan *p, const char *full)
{
	for (size_t i = 0; i < p->n; i++)
		if (below(p->v[i].full, full))
			return &p->v[i];
	return NULL;
}

int
paths_open_parent(const struct path_item *i, bool make, int *ret_fd, const char **ret_leaf,
		  char **ret_error)
{
	const char *slash = strrchr(i->name, '/');
	char *parent = slash ? xasprintf("%.*s", (int)(slash - i->name), i->name) : xstrdup("");
	int r = make ? tree_make(i->dirfd, parent, 0755, NULL, NULL, ret_fd)
		     : tree_open(i->dirfd, parent, O_PATH | O_DIRECTORY, ret_fd);

	free(parent);
	if (r == -ELOOP)
		return fail(ret_error, r,
			    "a symbolic link stands on the way to %s, which is never followed; "
			    "write BackupPaths= without it",
			    i->full);
	if (r < 0)
		return fail_errno(ret_error, r, "cannot open the folder of %s", i->full);
	*ret_leaf = slash ? slash + 1 : i->name;
	return 0;
}
