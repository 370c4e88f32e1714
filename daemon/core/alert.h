/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_ALERT_H
#define DHASH_CORE_ALERT_H

/*
 * The open alerts of one environment: one per cause at most, edge-triggered.  Setting a cause to
 * the level that it has changes nothing; to a higher one replaces the alert; to none resolves it.
 */

#include "daemon/core/core.h"

enum { BOOK_RECENT_MAX = 16 };

struct book {
	struct alert *v[_CAUSE_MAX];    /* owned; NULL = quiet */
	usec_t recent[BOOK_RECENT_MAX]; /* when the newest warnings were raised */
	unsigned n_recent;
	bool escalated_warnings, escalated_criticals; /* each once per deployment */
};

void book_done(struct book *b);
/* A new deployment: may escalate anew. */
void book_fresh(struct book *b);
/* Puts back an alert that was open before a restart. */
void book_restore(struct book *b, const struct alert *a);

/* All are put back: what they had escalated to is not escalated to again. */
void book_resume(struct book *b, const struct policy *p, usec_t now);

enum level book_level(const struct book *b, enum cause c);

/*
 * What changed: ret_resolved and ret_raised are filled in where the flags say so.  Raising a
 * critical over a warning resolves that first.
 */
struct book_change {
	bool resolved, raised;
	struct alert resolved_alert, raised_alert;
};
bool book_set(struct book *b, enum cause c, enum level level, const struct core_event *e,
	      const char *deployment, const char *text, struct book_change *ret);

/* Is it time to page the next tier?  True once per reason and deployment; *ret_why is static text.
 */
bool book_escalates(struct book *b, const struct policy *p, usec_t now, const char **ret_why);

#endif
