/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_PATTERN_H
#define DHASH_CHECK_PATTERN_H

/*
 * Regular expressions of the configuration: POSIX extended ones, with the escapes \d \D \w \W \s \S
 * \b \B that people know from RE2 and PCRE.  What only those have is refused: regcomp() would take
 * "5\d\d" as "5dd", nothing would ever match, and nobody would be told.
 */

#include <regex.h>
#include <stdbool.h>

enum { PATTERN_WHY_MAX = 160 };

/* 0, and *ret is the caller's to regfree(); or -EINVAL with a sentence in why.  whole: it must
 * match all of the text. */
int pattern_compile(const char *expression, bool whole, regex_t *ret, char why[PATTERN_WHY_MAX]);

#endif
