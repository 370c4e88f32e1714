/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_HTTP_URL_H
#define DHASH_CHECK_HTTP_URL_H

/* What is to be known of an address before libcurl is asked. */

#include <stdbool.h>
#include <stddef.h>

enum { URL_HOST_MAX = 128 };

/* The part that says who it is, port and all, cut to n bytes. */
void url_host(const char *url, char *buf, size_t n);
/* Is its host a name that a resolver is asked for?  What libcurl answers by itself is none. */
bool url_by_name(const char *url);

#endif
