/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/credential.h"

#include <errno.h>
#include <fcntl.h>

#include "common/util.h"

enum { SECRET_MAX_BYTES = 4096 };

void
credential_free(char *secret)
{
	if (!secret)
		return;
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

static int
read_secret(const char *folder, const char *name, char **ret)
{
	char *path = xasprintf("%s/dhashd_%s", folder, name);
	size_t len;
	int r = file_read(AT_FDCWD, path, SECRET_MAX_BYTES, ret, &len);

	free(path);
	if (r != -ENOENT)
		return r;
	path = xasprintf("%s/%s", folder, name);
	r = file_read(AT_FDCWD, path, SECRET_MAX_BYTES, ret, &len);
	free(path);
	return r;
}

/* A line end after it is an editor's; anything else that is not printable would break the header.
 */
static int
check_secret(char *secret)
{
	secret[strcspn(secret, "\r\n")] = '\0';
	for (const char *p = secret; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f)
			return -EINVAL;
	return *secret ? 0 : -ENODATA;
}

int
credential_bearer(const char *name, char **ret, char **ret_why)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	char *secret = NULL;
	int r = folder ? read_secret(folder, name, &secret) : -ENOENT;

	if (r == 0)
		r = check_secret(secret);
	if (r == 0)
		*ret = xasprintf("Authorization: Bearer %s", secret);
	else
		*ret_why = xasprintf("credential %s: %s; put it into "
				     "/etc/dhashd/credentials/%s and restart dhashd",
				     name,
				     r == -EINVAL    ? "it holds blanks or control characters"
				     : r == -ENODATA ? "it is empty"
				     : !folder       ? "the service manager passed none"
						     : strerror(-r),
				     name);
	credential_free(secret);
	return r;
}
