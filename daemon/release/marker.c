/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/marker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/tree.h"

enum { MARKER_MAX = 512 };

int
marker_write(int fd, const char *tag, const char *sha256)
{
	char *text = xasprintf("tag=%s\nsha256=%s\n", tag, sha256);
	int file, r = 0;
	ssize_t n;

	/* A crash in the middle leaves a marker that does not parse, which is as good as none. */
	file = openat(fd, MARKER_NAME,
		      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (file < 0) {
		r = -errno;
		free(text);
		return r;
	}
	n = write(file, text, strlen(text));
	if (n != (ssize_t)strlen(text))
		r = n < 0 ? -errno : -ENOSPC;
	if (r == 0 && (fchmod(file, 0644) < 0 || fsync(file) < 0))
		r = -errno;
	close(file);
	free(text);
	return r;
}

int
marker_read(int fd, const char *tag, char ret_sha256[DIGEST_HEX])
{
	char *expected = xasprintf("tag=%s\nsha256=", tag), *text = NULL, *sum;
	size_t len = 0, head = strlen(expected);
	int file, r;

	/* Never by way of a link that a release brought along. */
	r = tree_open(fd, MARKER_NAME, O_PATH | O_NOFOLLOW, &file);
	if (r == 0) {
		close(file);
		r = file_read(fd, MARKER_NAME, MARKER_MAX, &text, &len);
	}
	sum = text && len > head ? text + head : NULL;
	if (r == 0 && (!sum || strncmp(text, expected, head) != 0 || text[len - 1] != '\n'))
		r = -EBADMSG;
	if (r == 0) {
		text[len - 1] = '\0';
		r = digest_hex_valid(sum) || streq(sum, MARKER_ADOPTED) ? 0 : -EBADMSG;
	}
	if (r == 0)
		str_copy(ret_sha256, DIGEST_HEX, sum);
	else if (r == -ELOOP || r == -ENOTDIR || r == -EISDIR || r == -EINVAL || r == -EFBIG)
		r = -EBADMSG;
	free(text);
	free(expected);
	return r;
}
