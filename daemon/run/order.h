/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_ORDER_H
#define DHASH_RUN_ORDER_H

/*
 * What the daemon wants done, by names alone: which step, of which service and environment, with
 * which release and backup.  Which command that is, as whom and for how long, the configuration
 * says: the daemon's own copy where hooks are its children, root's files where they are units and
 * the daemon is not trusted to say it (unit.h).
 *
 * As a file, <txid>.request, an order is one JSON object.
 */

#include "daemon/run/request.h"

struct conf_env;

enum hook_step {
	STEP_CHECK, /* nothing is run: could the others be? */
	STEP_DEPLOY,
	STEP_ROLLBACK,
	STEP_RESTART,      /* of the built-in engine, after a deploy */
	STEP_RESTART_BACK, /* and after a rollback */
	_HOOK_STEP_MAX,
};
const char *hook_step_name(enum hook_step s); /* "restart-rollback" */
int hook_step_from_name(const char *s);       /* or -EINVAL */

/* Strings may be "", never NULL. */
struct hook_order {
	enum hook_step step;
	unsigned rollback; /* counts the rollbacks of the deployment; 0 before the first */
	const char *service, *environment, *deployment;
	const char *tag;          /* the release that the step puts in place */
	const char *previous_tag; /* "" when unknown */
	const char *lead;
	const char *backup; /* a file, or "releases/TAG", or "" */
	const char *sha256; /* of that file; "" when it is used unverified */
};

/* "deploy-20240101-120000.rollback.1": names the transaction, and its unit.  Owned. */
char *order_txid(const struct hook_order *o);
/* The deployment that a transaction belongs to (owned); NULL when it is no name of one. */
char *txid_deployment(const char *txid);
/* sessions/<deployment>/hooks: where the files of its transactions go.  Owned. */
char *hooks_folder(const char *state_dir, const char *deployment);

/* Is every value of its own form?  -EINVAL with *ret_why (owned). */
int order_check(const struct hook_order *o, char **ret_why);
/* Not durable: see request.h. */
int order_write(const struct hook_files *f, const struct hook_order *o);

struct order_file {
	struct hook_order o; /* borrows from json */
	struct json_t *json; /* owned */
};
/* Reads and checks; the file is taken as hostile.  -EBADMSG with *ret_why (owned). */
int order_read(const struct hook_files *f, struct order_file *ret, char **ret_why);
void order_done(struct order_file *f);

/* The command line that the configuration has for a step; NULL: none. */
char *const *order_argv(const struct hook_order *o, const struct conf_env *env);

/* An order with all that the configuration says about it. */
struct hook_plan {
	struct hook_request r; /* borrows from the rest, from env, and from the order */
	char *txid, *folder, *log;
	char **argv, **environ; /* owned */
};
/* -ENOENT: there is no such hook.  `user` is the one for hooks without a User=, or NULL. */
int hook_plan_init(struct hook_plan *p, const struct hook_order *o, const struct conf_env *env,
		   const char *state_dir, const char *user);
void hook_plan_done(struct hook_plan *p);

#endif
