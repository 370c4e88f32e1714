/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_TEXT_H
#define DHASH_CLIENT_TEXT_H

/* Numbers and times as people read them.  Pure functions; each returns its buffer. */

#include <stddef.h>
#include <stdint.h>

#include "common/time-util.h"

enum { TEXT_MAX = 64 };

/* "14min 30s"; what lies in the past is "0s". */
char *text_ms(char buf[TEXT_MAX], int64_t ms);

/* "2.35%" of a ratio, "unknown" of NaN. */
char *text_percent(char buf[TEXT_MAX], double ratio);

/* "820ms", "5s", "5.42s"; "unknown" of NaN. */
char *text_seconds(char buf[TEXT_MAX], double seconds);

/* "1,240". */
char *text_count(char buf[TEXT_MAX], double n);

/* "4.2 MiB". */
char *text_bytes(char buf[TEXT_MAX], double n);

/* "2024-01-01T12:00:00.000Z" as microseconds since the epoch; 0 or -EINVAL. */
int text_parse_time(const char *iso, usec_t *ret);

/*
 * A moment that somebody typed: a span ("15min", "1h 30min ago"), which lies so long before `now`;
 * or UTC, as everything is shown: "2024-01-01", "2024-01-01 12:00", "2024-01-01 12:00:05", or the
 * stamp above.  0 or -EINVAL.
 */
int text_parse_moment(const char *s, usec_t now, usec_t *ret);

/* "12:00:05" and "2024-01-01 12:00:05" of an ISO stamp; "-" of NULL or nonsense. */
char *text_clock(char buf[TEXT_MAX], const char *iso);
char *text_date(char buf[TEXT_MAX], const char *iso);

/* How long before `now` the stamp lies: "12s"; "?" of NULL or nonsense. */
char *text_since(char buf[TEXT_MAX], const char *iso, usec_t now);

/* The time between two stamps, "-" when one is missing. */
char *text_between(char buf[TEXT_MAX], const char *from, const char *to);

/* Columns that s takes on a terminal: characters, not bytes. */
size_t text_columns(const char *s);

#endif
