/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_COMMANDS_H
#define DHASH_CLIENT_COMMANDS_H

/* One function per command; each returns an exit code. */

struct args;
struct client;

int cmd_status(struct client *c, const struct args *a);
int cmd_deploy(struct client *c, const struct args *a);
int cmd_rollback(struct client *c, const struct args *a);
int cmd_abort(struct client *c, const struct args *a);
int cmd_watch(struct client *c, const struct args *a);
int cmd_explain(struct client *c, const struct args *a);
int cmd_history(struct client *c, const struct args *a);
int cmd_show(struct client *c, const struct args *a);
int cmd_logs(struct client *c, const struct args *a);
int cmd_backups(struct client *c, const struct args *a);
int cmd_config(struct client *c, const struct args *a);
int cmd_version(struct client *c, const struct args *a);

#endif
