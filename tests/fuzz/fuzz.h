/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_FUZZ_H
#define DHASH_TESTS_FUZZ_H

/*
 * What the libFuzzer targets share.  A target calls the real parser with the bytes as its input and
 * then holds the result against what must be true of it; INSIST() ends the run where it is not, and
 * libFuzzer keeps the input.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELPER __attribute__((unused)) static

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

__attribute__((format(printf, 2, 3), noreturn)) HELPER void
fuzz_fail(const char *what, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "\nPROPERTY BROKEN: %s: ", what);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

#define INSIST(cond, ...)                                                                          \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_fail(#cond, __VA_ARGS__);                                             \
	} while (0)

/* The input, one part after the other.  Parts are copies of their very size, so that a byte read
 * behind them is seen. */
struct feed {
	const uint8_t *p;
	size_t left;
};

HELPER uint8_t
feed_byte(struct feed *f)
{
	if (f->left == 0)
		return 0;
	f->left--;
	return *f->p++;
}

/* The bytes up to the next NUL, or the end, as a string; owned. */
HELPER char *
feed_string(struct feed *f)
{
	const uint8_t *nul = f->left ? memchr(f->p, '\0', f->left) : NULL;
	size_t n = nul ? (size_t)(nul - f->p) : f->left;
	char *s = malloc(n + 1);

	if (n)
		memcpy(s, f->p, n);
	s[n] = '\0';
	n += nul != NULL;
	f->p += n;
	f->left -= n;
	return s;
}

/* All that is left, NULs among it, and one NUL behind it; owned. */
HELPER char *
feed_rest(struct feed *f, size_t *ret_len)
{
	char *s = malloc(f->left + 1);

	if (f->left)
		memcpy(s, f->p, f->left);
	s[f->left] = '\0';
	*ret_len = f->left;
	f->p += f->left;
	f->left = 0;
	return s;
}

#endif
