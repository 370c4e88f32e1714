/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/release/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/fail.h"

int
source_open(const char *path, const atomic_bool *cancelled, struct source **ret, char **ret_error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct source *s;
	struct stat st;

	if (fd < 0)
		return fail_errno(ret_error, -errno, "cannot open %s", path);
	if (fstat(fd, &st) < 0) {
		int error = -errno;

		close(fd);
		return fail_errno(ret_error, error, "cannot look at %s", path);
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return fail(ret_error, -EINVAL, "%s is not a regular file", path);
	}
	s = xcalloc(1, sizeof *s);
	s->fd = fd;
	s->size = st.st_size;
	s->path = xstrdup(path);
	s->block = xmalloc(SOURCE_BLOCK);
	s->sha = digest_new();
	s->cancelled = cancelled;
	*ret = s;
	return 0;
}

void
source_free(struct source *s)
{
	if (!s)
		return;
	close(s->fd);
	free(s->path);
	free(s->tags);
	free(s->block);
	digest_free(s->sha);
	free(s);
}

/* Fills s->block with block `index`; a file that became shorter has changed. */
static ssize_t
read_block(struct source *s, int64_t index)
{
	int64_t at = index * SOURCE_BLOCK;
	size_t want = (size_t)MIN((int64_t)SOURCE_BLOCK, s->size - at), len = 0;

	if (is_cancelled(s->cancelled))
		return s->error = -ECANCELED;
	while (len < want) {
		ssize_t n = pread(s->fd, s->block + len, want - len, at + (int64_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return s->error = n < 0 ? -errno : -EBADMSG;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int
source_digest(struct source *s, bool remember, char ret_hex[DIGEST_HEX], char **ret_error)
{
	int64_t n_blocks = (s->size + SOURCE_BLOCK - 1) / SOURCE_BLOCK;
	struct digest *whole = digest_new();
	ssize_t len = 0;

	free(s->tags);
	s->tags = remember ? xmalloc((size_t)n_blocks * DIGEST_BYTES) : NULL;
	for (int64_t i = 0; i < n_blocks; i++) {
		len = read_block(s, i);
		if (len < 0)
			break;
		digest_update(whole, s->block, (size_t)len);
		if (!remember)
			continue;
		digest_update(s->sha, s->block, (size_t)len);
		digest_take(s->sha, s->tags + (size_t)i * DIGEST_BYTES);
	}
	if (len >= 0)
		digest_take_hex(whole, ret_hex);
	digest_free(whole);
	s->pos = 0;
	return len < 0 ? source_fail(s, ret_error) : 0;
}

static bool
unchanged(struct source *s, int64_t index, size_t len)
{
	uint8_t now[DIGEST_BYTES];

	if (!s->tags)
		return true;
	digest_update(s->sha, s->block, len);
	digest_take(s->sha, now);
	return memcmp(now, s->tags + (size_t)index * DIGEST_BYTES, sizeof now) == 0;
}

ssize_t
source_read(struct source *s, const void **ret)
{
	int64_t index = s->pos / SOURCE_BLOCK, skip = s->pos % SOURCE_BLOCK;
	ssize_t len;

	if (s->pos >= s->size)
		return 0;
	len = read_block(s, index);
	if (len < 0)
		return len;
	if (!unchanged(s, index, (size_t)len))
		return s->error = -EBADMSG;
	*ret = s->block + skip;
	s->pos += len - skip;
	return len - skip;
}

int
source_seek(struct source *s, int64_t pos)
{
	if (pos < 0 || pos > s->size)
		return -EINVAL;
	s->pos = pos;
	return 0;
}

int
source_fail(const struct source *s, char **ret_error)
{
	if (s->error == -ECANCELED)
		return fail(ret_error, -ECANCELED, "reading %s was cancelled", s->path);
	if (s->error == -EBADMSG)
		return fail(ret_error, -EBADMSG,
			    "%s was changed while it was being read; find out by whom, and use "
			    "another one",
			    s->path);
	return fail_errno(ret_error, s->error, "cannot read %s", s->path);
}
