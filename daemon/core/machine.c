/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first row that fits counts, so rows with a condition stand before the one without.  The
 * diagram in dhashd(8) shows the same table; a test compares them.
 */

#include "daemon/core/machine.h"

#include <assert.h>
#include <stddef.h>

#include "common/util.h"

static const char *const trigger_names[_TRIGGER_MAX] = {
	[TR_START] = "start",       [TR_OK] = "ok",
	[TR_FAILED] = "failed",     [TR_UNKNOWN] = "unknown",
	[TR_DEADLINE] = "deadline", [TR_BREACH] = "breach",
	[TR_WATCHED] = "watched",   [TR_UNCOVERED] = "uncovered",
	[TR_VERIFIED] = "verified", [TR_ROLLBACK] = "rollback",
	[TR_ABORT] = "abort",       [TR_SUPERSEDED] = "superseded",
};

const char *
trigger_name(enum trigger t)
{
	assert(t >= 0 && t < _TRIGGER_MAX);
	return trigger_names[t];
}

/* A rollback begins with an emergency backup where backups are made at all. */
#define ROLLS_BACK(from, on)                                                                       \
	{from, on, IF_BACKUPS, DS_RB_SAVING},                                                      \
	{                                                                                          \
		from, on, IF_ALWAYS, DS_RB_CHOOSING                                                \
	}

const struct transition machine_table[] = {
	{DS_QUEUED, TR_START, IF_ALWAYS, DS_GATES},
	{DS_QUEUED, TR_ABORT, IF_ALWAYS, DS_ABORTED},
	{DS_QUEUED, TR_SUPERSEDED, IF_ALWAYS, DS_SUPERSEDED},

	{DS_GATES, TR_OK, IF_BACKUPS, DS_BACKUP},
	{DS_GATES, TR_OK, IF_ALWAYS, DS_DEPLOYING},
	{DS_GATES, TR_FAILED, IF_ALWAYS, DS_REJECTED},
	{DS_GATES, TR_DEADLINE, IF_ALWAYS, DS_REJECTED},
	{DS_GATES, TR_ABORT, IF_ALWAYS, DS_ABORTED},
	{DS_GATES, TR_SUPERSEDED, IF_ALWAYS, DS_SUPERSEDED},

	{DS_BACKUP, TR_OK, IF_ALWAYS, DS_DEPLOYING},
	{DS_BACKUP, TR_FAILED, IF_ALWAYS, DS_FAILED},
	{DS_BACKUP, TR_DEADLINE, IF_ALWAYS, DS_FAILED},
	{DS_BACKUP, TR_ABORT, IF_ALWAYS, DS_ABORTED},
	{DS_BACKUP, TR_SUPERSEDED, IF_ALWAYS, DS_SUPERSEDED},

	/* However the hook ended, an operator's wish to go back is carried out after it. */
	{DS_DEPLOYING, TR_OK, IF_UNDONE_BACKUPS, DS_RB_SAVING},
	{DS_DEPLOYING, TR_OK, IF_UNDONE, DS_RB_CHOOSING},
	{DS_DEPLOYING, TR_OK, IF_ALWAYS, DS_SETTLING},
	ROLLS_BACK(DS_DEPLOYING, TR_FAILED),
	/* An end that is not known is judged by the service's health, not by a second run. */
	{DS_DEPLOYING, TR_UNKNOWN, IF_UNDONE_BACKUPS, DS_RB_SAVING},
	{DS_DEPLOYING, TR_UNKNOWN, IF_UNDONE, DS_RB_CHOOSING},
	{DS_DEPLOYING, TR_UNKNOWN, IF_ALWAYS, DS_SETTLING},

	{DS_SETTLING, TR_DEADLINE, IF_ALWAYS, DS_WATCHING},
	ROLLS_BACK(DS_SETTLING, TR_BREACH),
	ROLLS_BACK(DS_SETTLING, TR_ROLLBACK),
	{DS_SETTLING, TR_SUPERSEDED, IF_ALWAYS, DS_SUPERSEDED},

	ROLLS_BACK(DS_WATCHING, TR_BREACH),
	ROLLS_BACK(DS_WATCHING, TR_ROLLBACK),
	{DS_WATCHING, TR_WATCHED, IF_ALWAYS, DS_SUCCEEDED},
	{DS_WATCHING, TR_UNCOVERED, IF_ALWAYS, DS_UNVERIFIED},
	{DS_WATCHING, TR_SUPERSEDED, IF_ALWAYS, DS_SUPERSEDED},

	/* What cannot be saved is recorded; it does not stop an emergency. */
	{DS_RB_SAVING, TR_OK, IF_ALWAYS, DS_RB_CHOOSING},
	{DS_RB_SAVING, TR_FAILED, IF_ALWAYS, DS_RB_CHOOSING},
	{DS_RB_SAVING, TR_DEADLINE, IF_ALWAYS, DS_RB_CHOOSING},

	{DS_RB_CHOOSING, TR_OK, IF_ALWAYS, DS_RB_RUNNING},
	{DS_RB_CHOOSING, TR_FAILED, IF_ALWAYS, DS_ROLLBACK_FAILED},
	{DS_RB_CHOOSING, TR_DEADLINE, IF_ALWAYS, DS_ROLLBACK_FAILED},

	{DS_RB_RUNNING, TR_OK, IF_ALWAYS, DS_VERIFYING},
	{DS_RB_RUNNING, TR_FAILED, IF_ALWAYS, DS_ROLLBACK_FAILED},
	{DS_RB_RUNNING, TR_UNKNOWN, IF_ALWAYS, DS_VERIFYING},

	{DS_VERIFYING, TR_VERIFIED, IF_ALWAYS, DS_ROLLED_BACK},
	{DS_VERIFYING, TR_DEADLINE, IF_ALWAYS, DS_ROLLBACK_FAILED},

	/* An operator may go back at any later moment, or try again. */
	ROLLS_BACK(DS_SUCCEEDED, TR_ROLLBACK),
	ROLLS_BACK(DS_UNVERIFIED, TR_ROLLBACK),
	ROLLS_BACK(DS_SUPERSEDED, TR_ROLLBACK),
	ROLLS_BACK(DS_REJECTED, TR_ROLLBACK),
	ROLLS_BACK(DS_FAILED, TR_ROLLBACK),
	ROLLS_BACK(DS_ABORTED, TR_ROLLBACK),
	ROLLS_BACK(DS_ROLLED_BACK, TR_ROLLBACK),
	ROLLS_BACK(DS_ROLLBACK_FAILED, TR_ROLLBACK),
};
const unsigned machine_table_len = ARRAY_SIZE(machine_table);

static bool
fits(enum condition c, bool backups, bool undone)
{
	switch (c) {
	case IF_BACKUPS:
		return backups;
	case IF_UNDONE:
		return undone;
	case IF_UNDONE_BACKUPS:
		return undone && backups;
	default:
		return true;
	}
}

const struct transition *
machine_find(enum dstate from, enum trigger on, bool backups, bool undone)
{
	for (unsigned i = 0; i < machine_table_len; i++) {
		const struct transition *t = &machine_table[i];

		if (t->from == from && t->on == on && fits(t->condition, backups, undone))
			return t;
	}
	return NULL;
}
