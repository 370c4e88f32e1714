/* SPDX-License-Identifier: Apache-2.0 */

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* --- memory --- */

void *
out_of_memory(void)
{
	static const char text[] = "out of memory: ending; what counts is on disk\n";

	if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
		_exit(EX_OSERR);
	_exit(EX_OSERR);
}

static void *
or_die(void *p)
{
	return p ? p : out_of_memory();
}

void *
xmalloc(size_t n)
{
	return or_die(malloc(n ? n : 1));
}

void *
xcalloc(size_t n, size_t size)
{
	return or_die(calloc(n ? n : 1, size ? size : 1));
}

void *
xrealloc(void *p, size_t n)
{
	return or_die(realloc(p, n ? n : 1));
}

char *
xstrdup(const char *s)
{
	return or_die(strdup(s));
}

char *
xvasprintf(const char *fmt, va_list ap)
{
	char *s;
	int n = vasprintf(&s, fmt, ap);

	return or_die(n < 0 ? NULL : s);
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return s;
}

bool
error_passes(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EIO;
}

/* --- strings --- */

bool
str_copy(char *dst, size_t n, const char *s)
{
	size_t len = strlen(s), kept = len < n ? len : n - 1;

	/* Not within a character: half of one makes the whole text invalid to others. */
	for (int i = 0; i < 3 && kept > 0 && kept < len && (s[kept] & 0xc0) == 0x80; i++)
		kept--;
	memmove(dst, s, kept);
	dst[kept] = '\0';
	return kept == len;
}

/* Length of the valid UTF-8 sequence at s, or 0. */
static size_t
utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0x80                   ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0)))
		return 0;
	if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)))
		return 0;
	return n;
}

/*
 * C0, DEL and C1 (which arrives as U+0080…U+009F) move cursors and forge lines; so do the line and
 * paragraph separators U+2028 and U+2029, and the marks of direction U+202A…U+202E and
 * U+2066…U+2069, which let a terminal show a line in another order than it was written in.
 */
static bool
is_control(const unsigned char *s, size_t n)
{
	if (n == 1)
		return s[0] < 0x20 || s[0] == 0x7f;
	if (n == 2)
		return s[0] == 0xc2 && s[1] < 0xa0;
	return n == 3 && s[0] == 0xe2 &&
	       ((s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) ||
		(s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));
}

char *
str_escape(const char *s)
{
	char *out = xmalloc(strlen(s) * 4 + 1), *p = out;
	const unsigned char *c = (const unsigned char *)s;

	while (*c) {
		size_t n = utf8_len(c);

		if (n > 0 && !is_control(c, n)) {
			memcpy(p, c, n);
			p += n;
			c += n;
			continue;
		}
		for (size_t i = n ? n : 1; i > 0; i--)
			p += sprintf(p, "\\x%02x", *c++);
	}
	*p = '\0';
	return out;
}

void
strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

size_t
strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static bool
valid(const char *s, size_t max, const char *extra)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	while (s[n] && strchr(extra, s[n]))
		n += 1 + strspn(s + n + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					   "0123456789._-");
	return s[n] == '\0' && n >= 1 && n <= max && s[0] != '.' && s[0] != '-';
}

bool
name_valid(const char *s)
{
	return valid(s, 64, "");
}

bool
tag_valid(const char *s)
{
	return valid(s, 128, "+");
}

static bool
same_letter(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Optimal string alignment distance, blind to case, of words short enough for the table. */
static size_t
distance(const char *a, const char *b)
{
	enum { MAX_LEN = 64 }; /* the longest name */
	size_t d[MAX_LEN + 1][MAX_LEN + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > MAX_LEN || lb > MAX_LEN)
		return SIZE_MAX;
	for (size_t i = 0; i <= la; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			size_t cost = !same_letter(a[i - 1], b[j - 1]);

			d[i][j] =
				MIN(MIN(d[i - 1][j] + 1, d[i][j - 1] + 1), d[i - 1][j - 1] + cost);
			if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
			    same_letter(a[i - 2], b[j - 1]))
				d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[la][lb];
}

const char *
nearest_name(const char *word, const char *const *names, size_t n)
{
	size_t best = 4, len = strlen(word);
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		size_t other = strlen(names[i]), d;

		/* Each letter that one has more is a step: most names need no closer look. */
		if (MAX(len, other) - MIN(len, other) >= best)
			continue;
		d = distance(word, names[i]);
		if (d < best && d * 2 < MAX(len, other)) {
			best = d;
			found = names[i];
		}
	}
	return found;
}

/* --- files --- */

int
file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r = 0;
	size_t len = 0, cap = 4096;
	struct stat st;
	char *buf;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (r < 0) {
		close(fd);
		return r;
	}
	buf = xmalloc(cap + 1);
	for (;;) {
		ssize_t n;

		if (len == cap)
			buf = xrealloc(buf, (cap *= 2) + 1);
		n = read(fd, buf + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len > max) {
			r = -EFBIG;
			break;
		}
	}
	close(fd);
	if (r < 0) {
		free(buf);
		return r;
	}
	buf[len] = '\0';
	*ret = buf;
	*ret_len = len;
	return 0;
}

static int
write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
folder_sync(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? xasprintf("%.*s", (int)MAX(1, slash - path), path) : xstrdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	free(folder);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

int
file_write_atomic(const char *path, const void *data, size_t len, unsigned mode)
{
	char *tmp = xasprintf("%s.tmp-XXXXXX", path);
	int fd = mkostemp(tmp, O_CLOEXEC), r;

	if (fd < 0) {
		r = -errno;
		free(tmp);
		return r;
	}
	r = write_all(fd, data, len);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(tmp);
	else
		r = folder_sync(path);
	free(tmp);
	return r;
}

/* Asks what is there after any failure: a read-only or automounted place may answer EROFS or EACCES
 * for a folder that has long been there. */
static int
make_folder(const char *path, unsigned mode)
{
	struct stat st;
	int r;

	if (mkdir(path, mode) == 0) {
		r = folder_sync(path);
		return r == -EACCES ? 0 : r; /* above our own folders not all is ours to open */
	}
	r = -errno;
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	return r == -EEXIST ? -errno : r;
}

int
mkdir_p(const char *path, unsigned mode)
{
	char *copy;
	int r = 0;

	if (!*path)
		return -ENOENT;
	copy = xstrdup(path);
	for (char *p = copy + 1; r == 0; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		r = make_folder(copy, mode);
		*p = c;
		if (c == '\0')
			break;
	}
	free(copy);
	return r;
}
