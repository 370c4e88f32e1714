/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_FAIL_H
#define DHASH_RELEASE_FAIL_H

/*
 * How this folder reports: a negative errno, and a sentence for the operator beside it.  Also the
 * one question that all long work asks: has it been cancelled?
 */

#include <stdatomic.h>
#include <stdbool.h>

/* Sets *ret_error (owned by the caller; may be NULL) to the escaped sentence and returns r, so that
 * callers can write `return fail(…)`. */
__attribute__((format(printf, 3, 4))) int fail(char **ret_error, int r, const char *fmt, ...);

/* The same with ": <strerror>" put behind the sentence. */
__attribute__((format(printf, 3, 4))) int fail_errno(char **ret_error, int r, const char *fmt, ...);

static inline bool
is_cancelled(const atomic_bool *cancelled)
{
	return cancelled && atomic_load((atomic_bool *)cancelled);
}

#endif
