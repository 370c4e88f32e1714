/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TIME_UTIL_H
#define DHASH_TIME_UTIL_H

/*
 * Time as dhashd counts it: signed microseconds.
 *
 * "Core time" is CLOCK_BOOTTIME plus an offset that the daemon chooses once per start, so that it
 * goes on across restarts and reboots; it never steps.  "Wall time" is UTC since the epoch and is
 * only ever printed, never compared.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t usec_t;

#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC ((usec_t)1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)
#define USEC_INFINITY INT64_MAX

/* CLOCK_BOOTTIME and CLOCK_REALTIME, in microseconds. */
usec_t now_boottime(void);
usec_t now_realtime(void);

/*
 * How long the machine has been suspended since it booted: what CLOCK_BOOTTIME is ahead of
 * CLOCK_MONOTONIC.  It grows by a sleep and by nothing else.
 */
usec_t slept_so_far(void);
/* Did it sleep for over a second since slept_so_far() was `before`? */
bool slept_since(usec_t before);

/*
 * Parses a time span as systemd.time(7) writes it: "30s", "15min", "1h 30min", "100ms", ".5s",
 * "250" (seconds), in all its units, but no "infinity".  Returns 0, -EINVAL for what is no time
 * span, -ERANGE for one over 100 years (100y, 36525 days).
 */
int usec_parse(const char *s, usec_t *ret);

enum { USEC_TEXT_MAX = 64 };

/*
 * Writes a span for people, at most two units: "14min 30s", "2h 5min", "250ms", "0s".  Negative
 * spans get a leading '-', USEC_INFINITY is "infinity".  Returns buf (USEC_TEXT_MAX bytes).
 */
char *usec_format(char buf[USEC_TEXT_MAX], usec_t span);

/* Writes a span so that usec_parse() reads the very same value back: "900s", "100ms", "7us". */
char *usec_format_exact(char buf[USEC_TEXT_MAX], usec_t span);

/* Writes wall time as ISO 8601 UTC with milliseconds, "2024-01-01T12:00:00.000Z". Returns buf. */
char *wall_format(char buf[USEC_TEXT_MAX], usec_t wall);

/* Writes wall time as it stands in deployment ids and backup names, "20240101-120000" (UTC). */
char *wall_format_compact(char buf[USEC_TEXT_MAX], usec_t wall);

#endif
