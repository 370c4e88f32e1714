/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/core/alert.h"

#include "common/util.h"

void
book_done(struct book *b)
{
	for (int c = 0; c < _CAUSE_MAX; c++) {
		free(b->v[c]);
		b->v[c] = NULL;
	}
}

void
book_fresh(struct book *b)
{
	b->n_recent = 0;
	b->escalated_warnings = b->escalated_criticals = false;
}

static void
remember_warning(struct book *b, usec_t now)
{
	if (b->n_recent == BOOK_RECENT_MAX) {
		memmove(b->recent, b->recent + 1, (BOOK_RECENT_MAX - 1) * sizeof b->recent[0]);
		b->n_recent--;
	}
	b->recent[b->n_recent++] = now;
}

void
book_restore(struct book *b, const struct alert *a)
{
	if (a->cause < 0 || a->cause >= _CAUSE_MAX || a->resolved_at != 0)
		return;
	if (!b->v[a->cause])
		b->v[a->cause] = xcalloc(1, sizeof *a);
	*b->v[a->cause] = *a;
}

void
book_resume(struct book *b, const struct policy *p, usec_t now)
{
	const char *why;

	for (int c = 0; c < _CAUSE_MAX; c++)
		if (book_level(b, c) == LEVEL_WARNING)
			remember_warning(b, b->v[c]->raised_at);
	while (book_escalates(b, p, now, &why))
		;
}

enum level
book_level(const struct book *b, enum cause c)
{
	return b->v[c] ? b->v[c]->level : LEVEL_NONE;
}

bool
book_set(struct book *b, enum cause c, enum level level, const struct core_event *e,
	 const char *deployment, const char *text, struct book_change *ret)
{
	struct alert *a = b->v[c];

	ret->resolved = ret->raised = false;
	if (book_level(b, c) == level || (a && level != LEVEL_NONE && level < a->level))
		return false;
	if (a) {
		a->resolved_at = e->now;
		a->resolved_wall = e->wall;
		ret->resolved = true;
		ret->resolved_alert = *a;
		free(a);
		b->v[c] = NULL;
	}
	if (level == LEVEL_NONE)
		return true;
	b->v[c] = a = xcalloc(1, sizeof *a);
	str_copy(a->deployment, sizeof a->deployment, deployment);
	a->cause = c;
	a->level = level;
	a->raised_at = e->now;
	a->raised_wall = e->wall;
	str_copy(a->text, sizeof a->text, text);
	if (level == LEVEL_WARNING)
		remember_warning(b, e->now);
	ret->raised = true;
	ret->raised_alert = *a;
	return true;
}

bool
book_escalates(struct book *b, const struct policy *p, usec_t now, const char **ret_why)
{
	unsigned warnings = 0, criticals = 0;

	for (unsigned i = 0; i < b->n_recent; i++)
		warnings += now - b->recent[i] <= p->escalate_window_usec;
	for (int c = 0; c < _CAUSE_MAX; c++)
		criticals += book_level(b, c) == LEVEL_CRITICAL;
	if (p->escalate_criticals > 0 && criticals >= p->escalate_criticals &&
	    !b->escalated_criticals) {
		b->escalated_criticals = true;
		*ret_why = "independent critical alerts are open at once";
		return true;
	}
	if (p->escalate_warnings > 0 && warnings >= p->escalate_warnings &&
	    !b->escalated_warnings) {
		b->escalated_warnings = true;
		*ret_why = "warnings came faster than they may";
		return true;
	}
	return false;
}
