/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_INTERRUPT_H
#define DHASH_CLIENT_INTERRUPT_H

/* Ctrl-C as something to poll for: commands that wait end by themselves, with a word. */

#include <stdbool.h>

/* From now on Ctrl-C only makes interrupt_fd() readable, for good.  0 or -errno. */
int interrupt_catch(void);
int interrupt_fd(void);

/* Waits for so long, or less when interrupted. */
bool interrupted(int timeout_ms);

#endif
