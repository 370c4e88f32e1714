/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_UNIT_H
#define DHASH_RUN_UNIT_H

/*
 * What a runner that is a unit of its own, started by systemd as root, does before it runs a
 * command for a daemon that it does not trust.
 *
 * The daemon says by names alone what it wants (order.h).  The command, its arguments, its user and
 * its limits come from root's configuration, every file and folder of which must be root's.  The
 * values that go into the command line have each its form; a backup must be a file of the backup
 * folder, and the hook gets it under a name that the daemon cannot change.  The program must belong
 * to root or to the user that it is run as.
 *
 * In the daemon's own folder the runner reads and writes as the owner of that folder, by its file
 * system uid: whatever links are put there lead no further than the daemon gets by itself.
 */

#include <sys/types.h>

#include "daemon/run/order.h"

struct conf;

struct unit_folders {
	const char *config; /* root's: /etc/dhashd */
	const char *state;  /* the daemon's: /var/lib/dhashd */
	const char *own;    /* the runner's: /var/lib/dhashd-hooks */
};

struct unit {
	struct unit_folders folders;
	struct hook_files files;
	uid_t uid; /* of the daemon, and its group and name */
	gid_t gid;
	char *user;  /* owned */
	char *stage; /* owned; own folder of this transaction */
	struct order_file order;
	struct conf *conf; /* owned */
	struct hook_plan plan;
	char *backup; /* owned; what the hook sees of it */
};

/* Finds out whose the state folder is, and reads and writes as that user from then on.  -errno with
 * *ret_why (owned). */
int unit_open(struct unit *u, const struct unit_folders *folders, const char *txid, char **ret_why);
/*
 * Reads the order and makes of it u->plan; 0, or what is wrong with *ret_why (owned).  For
 * STEP_CHECK there is no plan: all hooks of the environment are looked at.
 */
int unit_prepare(struct unit *u, char **ret_why);
/* Removes what was staged, and frees. */
void unit_done(struct unit *u);

/* The file system identity of the calling thread: the daemon's, or root's again. */
int unit_as_daemon(const struct unit *u);
void unit_as_root(void);

/* Is a file, and every folder above it, root's alone to change?  -EPERM with *ret_why (owned). */
int unit_trusts(const char *path, char **ret_why);

/* ExecStopPost=: ends what a runner that did not end by itself left in its control group. */
int unit_sweep(void);

#endif
