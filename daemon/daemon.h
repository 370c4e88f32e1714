/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_DAEMON_H
#define DHASH_DAEMON_H

/*
 * The daemon owns everything: it pumps events into the core, commits what the core wants kept, and
 * carries out the other effects once that is on disk.  Its own files share these structs: daemon.c
 * (life and pump), start.c (start), effects.c (effects), act*.c (gates, backup, target, deploy,
 * rollback), request*.c (operators), status.c (views).
 */

#include <event2/event.h>

#include "daemon/check/round.h"
#include "daemon/clock.h"
#include "daemon/conf.h"
#include "daemon/core/core.h"
#include "daemon/ctl/ctl.h"
#include "daemon/gate/gate.h"
#include "daemon/run/hook.h"
#include "daemon/run/manager.h"
#include "daemon/session.h"
#include "daemon/store.h"
#include "daemon/worker.h"

struct act;
struct daemon;
struct target;

struct asked_sample {
	struct target *target;
	unsigned attempt; /* of the newest request; repeated in the answer */
};

/* One guarded environment, by the core's handle. */
struct target {
	struct daemon *daemon;
	unsigned handle;
	char *service, *environment; /* owned: outlive a reload */
	const struct conf_env *conf; /* of the configuration now; NULL when it left it */
	struct conf_env *frozen;     /* owned: of the live or last deployment; NULL = none */
	char frozen_id[DEPLOYMENT_ID_MAX];
	struct observer *observer;       /* owned */
	const struct conf_env *observed; /* what the observer was made for */
	struct act *acts;                /* owned: running, newest first */
	struct asked_sample sampling[_SAMPLE_KIND_MAX];
	char live_id[DEPLOYMENT_ID_MAX];
	enum dstate last_state;
};

/* An operator's request that waits for the core's answer. */
struct asked {
	struct asked *next;
	uint64_t token;
	struct ctl_request *request;
	struct peer peer;
	enum ctl_op op;
	char *target, *reason;       /* owned, for the audit trail */
	char *service, *environment; /* owned, for the journal */
};

struct daemon_options {
	const char *confdir, *state_dir, *socket_path;
	bool hook_units; /* hooks are units of systemd, not children */
};

struct daemon {
	struct daemon_options options;
	struct event_base *base;
	struct alarm *alarm; /* the core's deadline */
	struct event *watchdog, *sigterm, *sigint, *sighup;
	struct clock clock;
	usec_t started_boottime, started_wall;
	struct conf *conf;
	struct store *store;
	struct worker *worker;
	struct scribe *scribe;
	struct http_pool *http;
	struct ctl *ctl;
	struct core *core;
	struct effects *effects; /* owned: large */
	char *runner;            /* owned: path of dhash-hook */
	struct manager *manager; /* owned: starts hooks as units; NULL = as children */
	struct hook_way way;     /* of the two */
	struct target **targets; /* owned; by handle */
	unsigned n_targets;
	struct queued *queue, **queue_tail;
	bool pumping, stopping, reloading, reload_again;
	struct asked *asked;
	uint64_t next_token;
	struct released *waiting, *newest_waiting; /* steps whose batch is not on disk yet */
	unsigned unkept; /* samples that were not kept since the store failed */
	struct {
		usec_t since;
		unsigned n;
	} denied; /* requests of the running minute that were not granted */
	int exit_status;
};

/* daemon.c */
/* Runs until SIGTERM.  Returns the process's exit status; what went wrong has been logged. */
int daemon_run(const struct daemon_options *options);
/* Hands an event to the core: now when outside of it, else after the present one.  Everything in it
 * is copied; now and wall are filled in. */
void daemon_post(struct daemon *d, const struct core_event *e);
/* The same without a queue: for the start, when nothing else is under way. */
void daemon_step(struct daemon *d, struct core_event *e);
struct target *daemon_find(const struct daemon *d, const char *service, const char *environment);
/* The configuration that counts for a target now: the frozen one while a deployment is live. */
const struct conf_env *target_conf(const struct target *t);
struct observer *target_observer(struct target *t);
/* Lets go of the frozen configuration, and of the observer that was made for it. */
void target_thaw(struct target *t);
void daemon_status_line(struct daemon *d);
/* How the gates ask about hooks; deployment is borrowed, NULL where there is none yet. */
struct gate_hooks daemon_gate_hooks(const struct daemon *d, const char *deployment);

/* start.c */
#define log_start_failed(...) log_event(LOG_KIND_START_FAILED, LOG_CRIT, NULL, __VA_ARGS__)
/* Everything but the loop itself.  0 or -errno; what went wrong has been logged, and exit_status
 * says whether another start could do better. */
int daemon_load(struct daemon *d);
char *daemon_find_runner(void); /* a new string */

/* effects.c */
void effects_apply(struct daemon *d, const struct effects *fx);
/* Writes the incident report, from what the store has. */
void effects_report(struct daemon *d, const char *id);
/* The store fails: says at once what critical notes wait for it.  They would be silent for as long
 * as the disk fails. */
void effects_tell_waiting(struct daemon *d);

/* act.c, act_backup.c, act_choose.c, act_release.c */
void act_backup(struct target *t, const struct deployment *d, unsigned attempt, bool emergency);
void act_choose(struct target *t, const struct deployment *d, unsigned attempt);
void act_deploy_release(struct target *t, const struct deployment *d, unsigned attempt);
void act_roll_back(struct target *t, const struct deployment *d, unsigned attempt);
void act_gates(struct target *t, const struct deployment *d, unsigned attempt);
void act_cancel(struct target *t);
/* Does a rollback go to a release folder, and which is it?  The path is the caller's. */
bool target_uses_engine(const struct target *t);
char *target_release_path(const struct target *t, const char *tag);
/* The daemon ends: hooks run on, workers' jobs are cancelled. */
void act_detach_all(struct target *t);

/* requests.c */
extern const struct ctl_ops daemon_ctl_ops;
void requests_answer(struct daemon *d, const struct effect *f);
/* The daemon ends: whoever still waits is told so. */
void requests_drop(struct daemon *d);

/* status.c */
json_t *status_environment(struct daemon *d, const struct target *t);
json_t *status_explain(struct daemon *d, const struct target *t, json_t *deployment /* or NULL */);

/* reload.c */
int daemon_configure(struct daemon *d, struct conf *conf /* owned */);
void daemon_reload(struct daemon *d);
void conf_errors_log(const struct conf_errors *errors);

#endif
