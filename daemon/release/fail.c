/* SPDX-License-Identifier: Apache-2.0 */

/* Sentences of failure.  Names out of archives and folders end up in them, so they are escaped. */

#include "daemon/release/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

static char *
format(const char *fmt, va_list ap)
{
	char *raw = xvasprintf(fmt, ap), *shown = str_escape(raw);

	free(raw);
	return shown;
}

static void
put(char **ret_error, char *text /* owned */)
{
	if (!ret_error) {
		free(text);
		return;
	}
	*ret_error = text;
}

int
fail(char **ret_error, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(ret_error, format(fmt, ap));
	va_end(ap);
	return r;
}

int
fail_errno(char **ret_error, int r, const char *fmt, ...)
{
	char *text, *both, buf[128];
	va_list ap;

	va_start(ap, fmt);
	text = format(fmt, ap);
	va_end(ap);
	both = xasprintf("%s: %s", text, strerror_r(-r, buf, sizeof buf));
	free(text);
	put(ret_error, both);
	return r;
}
