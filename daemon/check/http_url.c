/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/http_url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void
url_host(const char *url, char *buf, size_t n)
{
	const char *begin = strstr(url, "://"), *end;

	begin = begin ? begin + 3 : url;
	end = begin + strcspn(begin, "/?#");
	snprintf(buf, n, "%.*s", (int)(end - begin), begin);
}

bool
url_by_name(const char *url)
{
	struct in_addr a;
	CURLU *u = curl_url();
	char *host = NULL;
	bool r = false;

	if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
		r = *host != '[' && inet_pton(AF_INET, host, &a) != 1 &&
		    strcasecmp(host, "localhost") != 0;
	curl_free(host);
	curl_url_cleanup(u);
	return r;
}
