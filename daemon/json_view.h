/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_JSON_VIEW_H
#define DHASH_JSON_VIEW_H

/* The small parts that every JSON document of the protocol is made of.  Never NULL. */

#include <jansson.h>

#include "common/time-util.h"

/* ISO 8601, or null for 0: "not yet". */
json_t *view_time(usec_t wall);
/* null for what is no finite number: JSON has no way to write it. */
json_t *view_number(double v);
/* Text that is not UTF-8 is escaped: refused by jansson, it would take its whole document along. */
json_t *view_text(const char *s);

#endif
