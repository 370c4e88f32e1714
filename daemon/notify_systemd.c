/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/notify_systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "common/util.h"

void
notify_ready(void)
{
	sd_notify(0, "READY=1");
}

void
notify_reloading(void)
{
	/* MONOTONIC_USEC= is what Type=notify-reload of later systemd asks for; 252 ignores it. */
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		   (int64_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000);
}

void
notify_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}

void
notify_watchdog(void)
{
	sd_notify(0, "WATCHDOG=1");
}

void
notify_status(const char *text)
{
	static char last[256];

	if (streq(last, text))
		return;
	str_copy(last, sizeof last, text);
	sd_notifyf(0, "STATUS=%s", last);
}

usec_t
notify_watchdog_interval(void)
{
	uint64_t usec;

	return sd_watchdog_enabled(0, &usec) > 0 ? (usec_t)usec / 2 : 0;
}

int
notify_listen_fd(int *ret_fd)
{
	int n = sd_listen_fds(1);

	*ret_fd = -1;
	if (n <= 0)
		return n;
	if (n != 1 || sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_STREAM, 1) <= 0)
		return -EINVAL;
	*ret_fd = SD_LISTEN_FDS_START;
	return 0;
}
