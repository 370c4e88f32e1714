/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of a monitoring plugin, as it comes from the pipe.  What is kept of it is one line
 * without performance data and without a control character, and no longer than its escapes make it.
 */

#include "daemon/check/exec.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	size_t len;
	char *output = feed_rest(&f, &len), *text;

	len = strcspn(output, "\n|");
	text = plugin_message(output);
	INSIST(strlen(output) == len, "%zu of %zu bytes are left", strlen(output), len);
	INSIST(strlen(text) >= len && strlen(text) <= len * 4, "%zu bytes from %zu", strlen(text),
	       len);
	for (const char *p = text; *p; p++)
		INSIST((unsigned char)*p >= ' ' && *p != 0x7f && *p != '|', "byte %#x in \"%s\"",
		       (unsigned)*p, text);
	free(text);
	free(output);
	return 0;
}
