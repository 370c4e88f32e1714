/* SPDX-License-Identifier: Apache-2.0 */

/* Is a backup what it was when it was made?  Reads; changes nothing but the sidecar it is told to.
 */

#include "daemon/release/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/backup.h"
#include "daemon/release/fail.h"
#include "daemon/release/reading.h"

enum { SIDECAR_MAX = 4096 };

static const char *
base_name(const char *file)
{
	const char *slash = strrchr(file, '/');

	return slash ? slash + 1 : file;
}

char *
sidecar_path(const char *file)
{
	return xasprintf("%s.sha256", file);
}

int
sidecar_write(const char *file, const char *sha256, char **ret_error)
{
	char *path = sidecar_path(file), *line = xasprintf("%s  %s\n", sha256, base_name(file));
	int r = file_write_atomic(path, line, strlen(line), 0640);

	if (r < 0)
		fail_errno(ret_error, r, "cannot write %s", path);
	free(line);
	free(path);
	return r;
}

/* Two blanks, or a blank and the '*' of binary mode, stand between digest and name. */
static bool
parse_line(char *text, size_t len, const char *name, char ret_sha256[DIGEST_HEX])
{
	if (len < DIGEST_HEX + 2 || strlen(text) != len || text[len - 1] != '\n')
		return false;
	text[len - 1] = '\0';
	if (text[64] != ' ' || (text[65] != ' ' && text[65] != '*') || !streq(text + 66, name))
		return false;
	text[64] = '\0';
	if (!digest_hex_valid(text))
		return false;
	memcpy(ret_sha256, text, DIGEST_HEX);
	return true;
}

int
sidecar_read(const char *file, char ret_sha256[DIGEST_HEX], char **ret_error)
{
	char *path = sidecar_path(file), *text = NULL;
	size_t len;
	int r = file_read(AT_FDCWD, path, SIDECAR_MAX, &text, &len);

	if (r == -EFBIG || (r == 0 && !parse_line(text, len, base_name(file), ret_sha256)))
		r = fail(ret_error, -EBADMSG,
			 "%s is not a line of sha256sum for %s; take another backup, or find out "
			 "who changed it",
			 path, base_name(file));
	else if (r < 0 && r != -ENOENT)
		fail_errno(ret_error, r, "cannot read %s", path);
	free(text);
	free(path);
	return r;
}

static int
differs(const char *file, const char *is, const char *who, const char *should, char **ret_error)
{
	return fail(ret_error, -EBADMSG,
		    "backup %s is corrupt: its SHA-256 is %s, but %s says %s; use an older backup",
		    file, is, who, should);
}

static int
check_digests(const char *file, const char *is, const char *sha256, char **ret_error)
{
	char sidecar[DIGEST_HEX];
	int r;

	if (sha256 && !digest_hex_equal(is, sha256))
		return differs(file, is, "the database", sha256, ret_error);
	r = sidecar_read(file, sidecar, ret_error);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && !digest_hex_equal(is, sidecar))
		return differs(file, is, "its .sha256 file", sidecar, ret_error);
	return r;
}

/* Where the database vouches for the bytes, the archive is one that this daemon wrote, and only
 * damage is looked for; else it must also be one that a restore would take. */
int
backup_verify(const char *file, const char *sha256, const atomic_bool *cancelled,
	      char ret_sha256[DIGEST_HEX], char **ret_error)
{
	struct reading_limits limits = reading_strict;
	char is[DIGEST_HEX];
	struct source *s;
	int r;

	if (sha256) {
		limits.max_ratio = 0;
		limits.links_out = true;
	}
	limits.hardlinks = false;
	r = source_open(file, cancelled, &s, ret_error);
	if (r < 0)
		return r;
	r = source_digest(s, false, is, ret_error);
	if (r == 0)
		r = check_digests(file, is, sha256, ret_error);
	if (r == 0)
		r = reading_each(s, READING_ZIP, &limits, reading_drop, NULL, ret_error);
	source_free(s);
	if (r == 0 && ret_sha256)
		memcpy(ret_sha256, is, DIGEST_HEX);
	return r;
}
