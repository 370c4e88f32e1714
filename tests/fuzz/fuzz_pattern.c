/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions of the configuration: "EXPRESSION NUL TEXT".  What matches as a whole matches
 * somewhere; an expression is refused both ways or neither; compiling is cheap, whatever it is.
 */

#include <errno.h>

#include "common/pattern.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	char *expression = feed_string(&f), *text = feed_string(&f);
	char why[PATTERN_WHY_MAX] = "";
	regex_t whole, part;
	int r = pattern_compile(expression, PATTERN_WHOLE, &whole, why);
	int r2 = pattern_compile(expression, 0, &part, why);

	INSIST(r == r2, "%d as a whole, %d as a part: %s", r, r2, expression);
	INSIST(r == 0 || (r == -EINVAL && *why), "%d without a reason", r);
	if (r == 0) {
		bool all = regexec(&whole, text, 0, NULL, 0) == 0;

		INSIST(!all || regexec(&part, text, 0, NULL, 0) == 0,
		       "%s matches the whole of \"%s\", and nothing in it", expression, text);
		regfree(&whole);
		regfree(&part);
	}
	free(expression);
	free(text);
	return 0;
}
