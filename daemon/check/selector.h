/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_SELECTOR_H
#define DHASH_CHECK_SELECTOR_H

/*
 * A metric selector as PromQL writes it: name{label="v",other!="w",code=~"5..",path!~"/x.*"}.
 * Regular expressions are POSIX extended and match the whole value, as Prometheus's do (its RE2
 * also knows \d and friends; POSIX wants [0-9]).  A label that a series lacks has the empty value.
 */

#include <stdbool.h>
#include <stddef.h>

struct selector;

/* -EINVAL with *ret_error (owned), which names the column. */
int selector_parse(const char *text, struct selector **ret, char **ret_error);
void selector_free(struct selector *s);
const char *selector_name(const struct selector *s);

struct label {
	const char *name, *value;
};
/* Do the labels (in any order) satisfy every matcher?  The name is the caller's business. */
bool selector_matches(const struct selector *s, const struct label *labels, size_t n);

#endif
