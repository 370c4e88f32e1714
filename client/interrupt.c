/* SPDX-License-Identifier: Apache-2.0 */

#include "client/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

/* A signal handler can reach nothing else than a global; it only writes to the pipe. */
static int interrupt_pipe[2] = {-1, -1};

static void
on_interrupt(int sig)
{
	int saved = errno;

	if (write(interrupt_pipe[1], "", 1) < 0)
		errno = saved; /* full: it is known already */
	errno = saved;
}

int
interrupt_catch(void)
{
	struct sigaction sa = {.sa_handler = on_interrupt};

	if (interrupt_pipe[0] >= 0)
		return 0;
	if (pipe2(interrupt_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	sigaction(SIGINT, &sa, NULL);
	return 0;
}

int
interrupt_fd(void)
{
	return interrupt_pipe[0];
}

bool
interrupted(int timeout_ms)
{
	struct pollfd p = {.fd = interrupt_pipe[0], .events = POLLIN};

	return poll(&p, 1, timeout_ms) > 0 && p.revents;
}
