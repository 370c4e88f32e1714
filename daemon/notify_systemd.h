/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_NOTIFY_SYSTEMD_H
#define DHASH_NOTIFY_SYSTEMD_H

/* What the service manager is told, and what it gave us.  Without one, every call does nothing. */

#include "common/time-util.h"

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
void notify_watchdog(void);
/* One line for `systemctl status`; the same text twice is sent once. */
void notify_status(const char *text);
/* How often the watchdog wants to hear from us; 0 = never. */
usec_t notify_watchdog_interval(void);
/* The control socket of dhashd.socket, or -1.  -errno for descriptors that are not one Unix socket.
 */
int notify_listen_fd(int *ret_fd);

#endif
