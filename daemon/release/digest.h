/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_DIGEST_H
#define DHASH_RELEASE_DIGEST_H

/*
 * SHA-256 by libcrypto, which uses the processor's instructions.  It can only fail for want of
 * memory or with a broken library; like lack of memory everywhere, that ends the program.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX = 65 };

struct digest;

/* Lack of memory in libcrypto, under TLS too, ends the program with the message of xmalloc().
 * Before anything of libcrypto is used. */
void digest_memory_policy(void);

struct digest *digest_new(void);
void digest_free(struct digest *d);
void digest_update(struct digest *d, const void *data, size_t len);
/* Gives the digest of what came since the last one and begins anew. */
void digest_take(struct digest *d, uint8_t ret[DIGEST_BYTES]);
void digest_take_hex(struct digest *d, char ret[DIGEST_HEX]);

/* 64 hexadecimal digits of either case, and whether two such are the same digest. */
bool digest_hex_valid(const char *s);
bool digest_hex_equal(const char *a, const char *b);

#endif
