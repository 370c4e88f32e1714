/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_PATTERN_H
#define DHASH_PATTERN_H

/*
 * Regular expressions of the configuration and of command lines: POSIX extended ones, with the
 * escapes \d \D \w \W \s \S \b \B that people know from RE2 and PCRE.  What only those have is
 * refused: regcomp() would take "5\d\d" as "5dd", nothing would ever match, and nobody would be
 * told.
 */

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>

enum { PATTERN_WHY_MAX = 160 };

enum {
	PATTERN_WHOLE = 1, /* it must match all of the text */
	PATTERN_ANY_CASE = 2,
};

/* 0, and *ret is the caller's to regfree(); or -EINVAL with a sentence in why. */
int pattern_compile(const char *expression, int flags, regex_t *ret, char why[PATTERN_WHY_MAX]);

/* Where an expression that pattern_compile() refused goes wrong: the column, from 1. */
size_t pattern_bad_column(const char *expression);

/* Whether it holds a capital letter, those of escapes like \D aside. */
bool pattern_has_capital(const char *expression);

#endif
