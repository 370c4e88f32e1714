/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_MACHINE_H
#define DHASH_CORE_MACHINE_H

/* The life of a deployment as a table: in a state, on a trigger, under a condition, to a state. */

#include "daemon/core/deployment.h"

enum trigger {
	TR_START,      /* the queue let it go */
	TR_OK,         /* what the state waited for succeeded */
	TR_FAILED,     /* … failed */
	TR_UNKNOWN,    /* … began, and its end cannot be known */
	TR_DEADLINE,   /* the state's time is up */
	TR_BREACH,     /* an enforced rule fired */
	TR_WATCHED,    /* watched to the end, covered */
	TR_UNCOVERED,  /* watched to the end, with too little coverage */
	TR_VERIFIED,   /* enough health rounds in a row passed after a rollback */
	TR_ROLLBACK,   /* operator */
	TR_ABORT,      /* operator */
	TR_SUPERSEDED, /* operator's next deployment */
	_TRIGGER_MAX,
};
const char *trigger_name(enum trigger t);

enum condition {
	IF_ALWAYS,
	IF_BACKUPS, /* the environment has BackupPaths= */
	IF_UNDONE,  /* an operator asked for a rollback while the deploy hook was running */
	IF_UNDONE_BACKUPS,
	_CONDITION_MAX,
};

struct transition {
	enum dstate from;
	enum trigger on;
	enum condition condition;
	enum dstate to;
};

extern const struct transition machine_table[];
extern const unsigned machine_table_len;

/* The row that applies, or NULL: in this state, the trigger means nothing. */
const struct transition *machine_find(enum dstate from, enum trigger on, bool backups, bool undone);

#endif
