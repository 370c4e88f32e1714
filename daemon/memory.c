/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/memory.h"

#include <event2/event.h>
#include <jansson.h>

#include "common/util.h"
#include "daemon/release/digest.h"
#include "daemon/store.h"

/* libcurl gets it where it is set up (check/http.c). */
void
memory_policy(void)
{
	event_set_mem_functions(xmalloc, xrealloc, free);
	json_set_alloc_funcs(xmalloc, free);
	store_set_up_library();
	digest_memory_policy();
}
