/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_ALARM_H
#define DHASH_ALARM_H

/*
 * One moment on CLOCK_BOOTTIME to be woken at.  The loop's own timers count CLOCK_MONOTONIC, which
 * stands still while the machine sleeps: after a sleep they would come late by all of it.
 */

#include "common/time-util.h"

struct alarm;
struct event_base;

/* Returns 0 or -errno. */
int alarm_new(struct event_base *base, void (*fn)(void *arg), void *arg, struct alarm **ret);
void alarm_free(struct alarm *a);

/*
 * Calls fn once from the loop at that moment, or up to a few ms after it; at once when it is past.
 * A second call moves it; USEC_INFINITY takes it back.
 */
void alarm_set(struct alarm *a, usec_t boottime);

#endif
