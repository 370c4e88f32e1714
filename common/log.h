/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_LOG_H
#define DHASH_LOG_H

/*
 * The journal, or standard error where there is no journal.  The only mutable globals of the
 * program live in log.c and its queue.  A record has the MESSAGE_ID of its kind (a generic one has
 * none); texts and fields are escaped (newline and control characters become \xNN), so one record
 * is one line.
 */

#include <stdbool.h>
#include <syslog.h>

/* One row per kind in log.c: a stable 128 bit id (MESSAGE_ID=) and a name ("hook-started"). */
enum log_kind {
	LOG_KIND_GENERIC,
	LOG_KIND_DAEMON_START,
	LOG_KIND_DAEMON_STOP,
	LOG_KIND_CONFIG_LOADED,
	LOG_KIND_CONFIG_ERROR,
	LOG_KIND_STATE,      /* a deployment changed state */
	LOG_KIND_PHASE,      /* the watching entered another phase */
	LOG_KIND_SAMPLE_BAD, /* a health round or sample was bad, or nothing came */
	LOG_KIND_VERDICT,    /* the verdict of an environment changed */
	LOG_KIND_DECISION,   /* roll back, promote, or what observe mode would have done */
	LOG_KIND_ALERT,      /* a warning or critical began */
	LOG_KIND_ALERT_RESOLVED,
	LOG_KIND_ESCALATION,
	LOG_KIND_HOOK_STARTED,
	LOG_KIND_HOOK_FINISHED,
	LOG_KIND_HOOK_UNKNOWN, /* started, and no result to be had */
	LOG_KIND_HOOK_OUTPUT,  /* a line that a hook wrote */
	LOG_KIND_BACKUP,
	LOG_KIND_BACKUP_CORRUPT,
	LOG_KIND_GATE,
	LOG_KIND_ROLLED_BACK,
	LOG_KIND_ROLLBACK_FAILED,
	LOG_KIND_RESTORED,    /* service restored after a failed rollback */
	LOG_KIND_REQUEST,     /* an operator's act: deploy, rollback, abort; granted or refused */
	LOG_KIND_STORE_ERROR, /* something of the state could not be read or written */
	LOG_KIND_STORE_SET_ASIDE, /* a damaged database was set aside and begun anew */
	LOG_KIND_READ_ONLY,       /* nothing can be written down: nothing is decided */
	LOG_KIND_WRITABLE,        /* it can again */
	LOG_KIND_START_FAILED,
	LOG_KIND_UNGUARDED,        /* a live deployment cannot be guarded any more */
	LOG_KIND_HOOK_NOT_STARTED, /* and nothing of it ran */
	LOG_KIND_CONTROL_SOCKET,   /* operators cannot get through */
	LOG_KIND_LOG_DROPPED,
	LOG_KIND_MISTAKE, /* a defect of dhashd itself */
	_LOG_KIND_MAX,
};

/* The DHASH_* fields of a record; NULL or "" leaves a field out.  actor_uid is ignored if !actor.
 */
struct log_fields {
	const char *service, *environment, *deployment, *tag, *rule, *decision;
	bool actor;
	unsigned actor_uid;
};

/*
 * Chooses the target once: the journal where $JOURNAL_STREAM names our standard error and the
 * journal's socket is there, else standard error with a plain line, as for a record that the
 * journal does not take: "2024-01-01T12:00:00.000Z warning deploy-… dhash/production: message".
 * `identifier` is borrowed for good.
 */
void log_init(const char *identifier);

/*
 * From now on a journal that takes nothing (it was stopped, or its disk is slow) is waited for by a
 * thread, and never by whoever logs: what cannot be sent at once is queued, in order; of what does
 * not fit into the queue the least important is dropped, and counted in a record of its own.  Does
 * nothing where standard error is the target.  A child of fork() has no such thread and must not
 * log.
 */
void log_start(void);
/* Both wait until the queue is empty, for two seconds at most: before an abort(), and at the end,
 * behind which records are sent by whoever logs again. */
void log_flush(void);
void log_stop(void);

/* Drops records less important than `priority` (LOG_DEBUG … LOG_ERR).  Default LOG_INFO. */
void log_set_level(int priority);

const char *log_kind_name(enum log_kind k);
const char *log_kind_id(enum log_kind k); /* 32 hex digits */

/* Leaves errno alone. */
__attribute__((format(printf, 4, 5))) void
log_event(enum log_kind kind, int priority, const struct log_fields *fields, const char *fmt, ...);

#define log_debug(...) log_event(LOG_KIND_GENERIC, LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_KIND_GENERIC, LOG_INFO, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_KIND_GENERIC, LOG_WARNING, NULL, __VA_ARGS__)
#define log_error(...) log_event(LOG_KIND_GENERIC, LOG_ERR, NULL, __VA_ARGS__)
#define log_mistake(...) log_event(LOG_KIND_MISTAKE, LOG_ERR, NULL, __VA_ARGS__)

#endif
