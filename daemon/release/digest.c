/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"

struct digest {
	EVP_MD_CTX *ctx; /* owned */
};

static void *
crypto_malloc(size_t n, const char *file, int line)
{
	return n > 0 ? xmalloc(n) : NULL;
}

static void *
crypto_realloc(void *p, size_t n, const char *file, int line)
{
	if (n > 0)
		return xrealloc(p, n);
	free(p);
	return NULL;
}

static void
crypto_free(void *p, const char *file, int line)
{
	free(p);
}

void
digest_memory_policy(void)
{
	CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free);
}

static void
need(bool ok)
{
	if (!ok) {
		fputs("SHA-256 by libcrypto does not work: ending\n", stderr);
		abort();
	}
}

static void
begin(struct digest *d)
{
	need(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) == 1);
}

struct digest *
digest_new(void)
{
	struct digest *d = xcalloc(1, sizeof *d);

	d->ctx = EVP_MD_CTX_new();
	need(d->ctx != NULL);
	begin(d);
	return d;
}

void
digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void
digest_update(struct digest *d, const void *data, size_t len)
{
	need(EVP_DigestUpdate(d->ctx, data, len) == 1);
}

void
digest_take(struct digest *d, uint8_t ret[DIGEST_BYTES])
{
	need(EVP_DigestFinal_ex(d->ctx, ret, NULL) == 1);
	begin(d);
}

void
digest_take_hex(struct digest *d, char ret[DIGEST_HEX])
{
	uint8_t raw[DIGEST_BYTES];

	digest_take(d, raw);
	for (size_t i = 0; i < sizeof raw; i++)
		sprintf(ret + 2 * i, "%02x", raw[i]);
}

bool
digest_hex_valid(const char *s)
{
	return strlen(s) == DIGEST_HEX - 1 && strspn(s, "0123456789abcdefABCDEF") == DIGEST_HEX - 1;
}

bool
digest_hex_equal(const char *a, const char *b)
{
	return digest_hex_valid(a) && digest_hex_valid(b) && strcasecmp(a, b) == 0;
}
