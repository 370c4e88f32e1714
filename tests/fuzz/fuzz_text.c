/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts from outside: escaping, copying, names.  What is escaped is valid UTF-8 without a control
 * character, says the same when escaped again, and a clean text stays as it is; a copy that does
 * not fit is cut between characters.  The checks here were written apart from the code they check.
 */

#include "common/util.h"
#include "tests/fuzz/fuzz.h"

/* Decodes one character; 0 for what is no valid one. */
static size_t
decode(const unsigned char *s, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80         ? 1
		   : (s[0] >> 5) == 6  ? 2
		   : (s[0] >> 4) == 14 ? 3
		   : (s[0] >> 3) == 30 ? 4
				       : 0;
	uint32_t c = n == 1 ? s[0] : n == 2 ? s[0] & 31u : n == 3 ? s[0] & 15u : s[0] & 7u;

	for (size_t i = 1; i < n; i++) {
		if ((s[i] >> 6) != 2)
			return 0;
		c = c << 6 | (s[i] & 63u);
	}
	if (n == 0 || c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return n;
}

static bool
forges(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

static bool
clean(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t c = 0;

	while (*p) {
		size_t n = decode(p, &c);

		if (n == 0 || forges(c))
			return false;
		p += n;
	}
	return true;
}

static void
escape(const char *s)
{
	char *once = str_escape(s), *twice = str_escape(once);

	INSIST(clean(once), "\"%s\" is not clean", once);
	INSIST(streq(once, twice), "\"%s\" became \"%s\"", once, twice);
	INSIST(clean(s) == streq(s, once), "\"%s\" became \"%s\"", s, once);
	free(once);
	free(twice);
}

static void
copy(const char *s, size_t n)
{
	char *dst = malloc(n), *whole = str_escape(s);
	bool fit = str_copy(dst, n, whole);
	size_t len = strlen(dst);

	INSIST(len < n && fit == (strlen(whole) < n), "%zu of %zu bytes in %zu", len, strlen(whole),
	       n);
	INSIST(strncmp(dst, whole, len) == 0 && clean(dst), "\"%s\" of \"%s\"", dst, whole);
	INSIST(fit || n < 4 || len + 4 >= n, "only %zu bytes into %zu", len, n);
	free(dst);
	dst = malloc(n);
	str_copy(dst, n, s); /* what is no UTF-8 is copied, too */
	free(dst);
	free(whole);
}

static void
names(const char *s)
{
	static const char *const known[] = {"Threshold", "production", "staging", ""};
	const char *near = nearest_name(s, known, ARRAY_SIZE(known));

	INSIST(!name_valid(s) || (tag_valid(s) && strlen(s) <= 64), "\"%s\" is a name", s);
	INSIST(!tag_valid(s) || (strlen(s) <= 128 && !strpbrk(s, "/ \n\t%\\'\"$`") && *s != '-' &&
				 *s != '.' && *s),
	       "\"%s\" is a tag", s);
	INSIST(!near || strlen(s) <= strlen(near) + 3, "\"%s\" is near to \"%s\"", s, near);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	size_t room = feed_byte(&f) + 1u;
	char *s = feed_string(&f);

	escape(s);
	copy(s, room);
	names(s);
	free(s);
	return 0;
}
