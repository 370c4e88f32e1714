/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Restores a backup: judge the whole of it, unpack it beside what is there, bring it to disk, swap.
 * Until the swap nothing that a service reads is touched; the swap is one rename for each path.
 */

#include "daemon/release/backup.h"

#include <errno.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/extract.h"
#include "daemon/release/fail.h"
#include "daemon/release/paths.h"
#include "daemon/release/swap.h"

struct restoring {
	const char *file;
	struct path_plan plan;
	struct source *source; /* owned */
	struct reading_limits limits;
	struct extract extract;
	struct extract_dest *dests; /* owned; one for each path of the plan */
	struct stage *stages;       /* owned; likewise */
	size_t n_stages;
	char **ret_error;
};

/* Reads the digest and keeps those of the blocks: all later reading is held against them. */
static int
judge_bytes(struct restoring *o, const char *sha256)
{
	char is[DIGEST_HEX];
	int r = source_digest(o->source, true, is, o->ret_error);

	if (r < 0 || !sha256 || digest_hex_equal(is, sha256))
		return r;
	return fail(
		o->ret_error, -EBADMSG,
		"backup %s is corrupt, nothing was changed: its SHA-256 is %s, but should be %s; "
		"use an older backup",
		o->file, is, sha256);
}

static int
all_paths_there(const struct restoring *o)
{
	for (size_t i = 0; i < o->plan.n; i++)
		if (o->dests[i].entries == 0)
			return fail(
				o->ret_error, -ENOENT,
				"backup %s holds nothing of %s, nothing was changed; it was made "
				"with other BackupPaths=",
				o->file, o->plan.v[i].full);
	return 0;
}

/* --- preparing -------------------------------------------------------------------------------- */

static int
make_stages(struct restoring *o)
{
	char stamp[USEC_TEXT_MAX];

	wall_format_compact(stamp, now_realtime());
	for (size_t i = 0; i < o->plan.n; i++) {
		const struct path_item *item = &o->plan.v[i];
		const char *leaf;
		int parent, r;

		r = paths_open_parent(item, true, &parent, &leaf, o->ret_error);
		if (r == 0)
			r = stage_init(&o->stages[i], parent, leaf, item->full, stamp,
				       o->ret_error);
		if (r < 0)
			return r;
		o->n_stages++;
		o->dests[i] = (struct extract_dest){
			.prefix = item->name,
			.leaf = leaf,
			.dirfd = o->stages[i].fd,
			.space_fd = o->stages[i].fd,
		};
	}
	return 0;
}

static int
unpack_beside(struct restoring *o)
{
	int r = extract_survey(&o->extract, o->ret_error);

	if (r == 0)
		r = all_paths_there(o);
	if (r == 0)
		r = extract_unpack(&o->extract, o->ret_error);
	for (size_t i = 0; r == 0 && i < o->n_stages; i++)
		r = stage_sync(&o->stages[i], o->ret_error);
	if (r == 0 && is_cancelled(o->source->cancelled))
		r = fail(o->ret_error, -ECANCELED,
			 "restoring %s was cancelled, nothing was changed", o->file);
	return r;
}

static int
restore(struct restoring *o, const char *sha256)
{
	int r = judge_bytes(o, sha256);

	if (r == 0)
		r = make_stages(o);
	if (r == 0)
		r = unpack_beside(o);
	if (r == 0)
		r = stages_swap(o->stages, o->n_stages, o->ret_error);
	/* Both were kept until now: the older one is the only copy while the swap may still fail.
	 */
	for (size_t i = 0; r == 0 && i < o->n_stages; i++)
		stage_remove_older(&o->stages[i]);
	return r;
}

/* A backup whose digest the database knows is one that this daemon wrote from what was there: links
 * may lead where they led, and zeros may be packed as tightly as they go. */
static void
set_limits(struct restoring *o, bool trusted)
{
	o->limits = reading_strict;
	o->limits.hardlinks = false;
	if (trusted) {
		o->limits.links_out = true;
		o->limits.max_ratio = 0;
	}
	o->extract = (struct extract){
		.source = o->source,
		.format = READING_ZIP,
		.limits = &o->limits,
		.owners = geteuid() == 0,
		.dests = o->dests,
		.n_dests = o->plan.n,
	};
}

int
backup_restore(const char *file, const char *sha256, const char *root, char *const *paths,
	       const atomic_bool *cancelled, char **ret_error)
{
	struct restoring o = {.file = file, .ret_error = ret_error};
	int r = paths_plan(root, paths, &o.plan, ret_error);

	if (r < 0)
		return r;
	o.dests = xcalloc(o.plan.n, sizeof *o.dests);
	o.stages = xcalloc(o.plan.n, sizeof *o.stages);
	r = source_open(file, cancelled, &o.source, ret_error);
	if (r == 0) {
		set_limits(&o, sha256 != NULL);
		r = restore(&o, sha256);
	}
	for (size_t i = 0; i < o.n_stages; i++)
		stage_done(&o.stages[i], o.stages[i].swapped);
	source_free(o.source);
	free(o.dests);
	free(o.stages);
	paths_done(&o.plan);
	return r;
}
