/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives: "FLAGS, then an archive", or with BUILT "FLAGS, then entries" of which libarchive makes
 * one, so that hostile names, links and modes come through whole and not as a broken checksum.
 *
 * Each is verified and restored as a backup, or deployed as an artifact, in a folder in memory.
 * Whatever it holds: it is refused whole, or unpacked; nothing stands outside of the folders that
 * were asked for; what was unpacked is plain files, folders and links that stay inside, without a
 * set-user-id bit, and within the limits of size; and what verification takes, restore takes.
 */

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/backup.h"
#include "tests/fuzz/fuzz.h"

enum {
	BUILT = 1,
	ARTIFACT = 2, /* else a backup */
	PAX = 4,      /* else GNU tar; of artifacts that are built */
	BELOW = 8,    /* entries that are built lie below app/ */
	ENTRIES_MAX = 16,
	UNPACKED_MAX = (16 << 20) + (1 << 16), /* for archives as small as these */
};

static char box[64];

static void
write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	INSIST(fd >= 0 && write(fd, data, len) == (ssize_t)len, "cannot write %s: %m", path);
	close(fd);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
clean_up(void)
{
	if (chdir("/") == 0)
		nftw(box, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	umask(022);
	strcpy(box, access("/dev/shm", W_OK) == 0 ? "/dev/shm/dhash-fuzz-XXXXXX"
						  : "/tmp/dhash-fuzz-XXXXXX");
	INSIST(mkdtemp(box) != NULL && chdir(box) == 0, "no folder to work in: %m");
	atexit(clean_up);
	return 0;
}

/* --- archives of entries --------------------------------------------------------------------- */

static void
add_entry(struct archive *a, struct feed *f, bool below)
{
	static const unsigned types[] = {S_IFREG, S_IFREG, S_IFDIR, S_IFLNK,
					 S_IFREG, S_IFIFO, S_IFCHR, S_IFREG};
	uint8_t kind = feed_byte(f), rights = feed_byte(f);
	char *name = feed_string(f), *path = xasprintf("%s%s", below ? "app/" : "", name);
	char *link = (kind & 7) == 3 || (kind & 7) == 4 ? feed_string(f) : NULL;
	size_t len = kind & 8 && types[kind & 7] == S_IFREG ? MIN(f->left, rights) : 0;
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, types[kind & 7] | 0644u | (unsigned)(rights & 7) << 9);
	archive_entry_set_mtime(e, 1700000000, 0);
	archive_entry_set_size(e, (la_int64_t)len);
	if (link && (kind & 7) == 3)
		archive_entry_set_symlink(e, link);
	else if (link)
		archive_entry_set_hardlink(e, link);
	if (archive_write_header(a, e) == ARCHIVE_OK && len > 0)
		archive_write_data(a, f->p, len);
	f->p += len;
	f->left -= len;
	archive_entry_free(e);
	free(link);
	free(path);
	free(name);
}

static void
build(struct feed *f, uint8_t flags)
{
	static char buf[1 << 20];
	struct archive *a = archive_write_new();
	size_t used = 0;

	if (!(flags & ARTIFACT))
		archive_write_set_format_zip(a);
	else if (flags & PAX)
		archive_write_set_format_pax_restricted(a);
	else
		archive_write_set_format_gnutar(a);
	archive_write_open_memory(a, buf, sizeof buf, &used);
	for (int i = 0; i < ENTRIES_MAX && f->left > 0; i++)
		add_entry(a, f, flags & BELOW);
	archive_write_close(a);
	archive_write_free(a);
	write_file("archive", buf, used);
}

/* --- what must be true of the folder --------------------------------------------------------- */

static int64_t unpacked;

/* Asked of the kernel: what is not there leads nowhere. */
static bool
stays_inside(const char *folder, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
	int base = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = (int)syscall(SYS_openat2, base, path, &how, sizeof how);
	bool out = fd < 0 && errno == EXDEV;

	if (fd >= 0)
		close(fd);
	close(base);
	return !out;
}

static int
check_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *inner;

	(void)type;
	path += 2; /* "./" */
	if (ftw->level == 0 || streq(path, "archive") || streq(path, "outside") ||
	    streq(path, "root") || streq(path, "base"))
		return 0;
	INSIST(strncmp(path, "root/", 5) == 0 || strncmp(path, "base/", 5) == 0,
	       "%s stands outside", path);
	INSIST(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode), "%s is %o",
	       path, st->st_mode);
	INSIST(!(st->st_mode & 07000), "%s has the mode %o", path, st->st_mode);
	if (S_ISREG(st->st_mode))
		unpacked += st->st_size;
	if (!S_ISLNK(st->st_mode))
		return 0;
	/* base/current is the engine's own. */
	inner = strncmp(path, "root/", 5) == 0 ? path + 5 : path + strlen("base/releases/v1/");
	if (!streq(path, "base/current"))
		INSIST(stays_inside(*path == 'r' ? "root" : "base/releases/v1", inner),
		       "%s leads out", path);
	return 0;
}

static void
check_box(void)
{
	char *text = NULL;
	size_t len;

	unpacked = 0;
	nftw(".", check_one, 16, FTW_PHYS);
	INSIST(unpacked <= UNPACKED_MAX, "%lld bytes were unpacked", (long long)unpacked);
	INSIST(file_read(AT_FDCWD, "outside", 64, &text, &len) == 0 && streq(text, "untouched"),
	       "the file outside was touched");
	free(text);
}

static void
sentence(int r, char **error)
{
	INSIST((r < 0) == (*error != NULL), "%d with %s", r, *error ? *error : "no sentence");
	free(*error);
	*error = NULL;
}

static void
backup(void)
{
	static char app[] = "app";
	char *const paths[] = {app, NULL};
	char *error = NULL, *text;
	int verified, r;
	size_t len;

	mkdir("root", 0755);
	mkdir("root/app", 0755);
	write_file("root/app/old", "old", 3);
	verified = backup_verify("archive", NULL, NULL, NULL, &error);
	sentence(verified, &error);
	r = backup_restore("archive", NULL, "root", paths, NULL, &error);
	INSIST(verified < 0 ? r < 0 : r == 0 || r == -ENOENT, "verified %d, restored %d: %s",
	       verified, r, error ? error : "");
	sentence(r, &error);
	check_box();
	if (r == 0)
		return;
	INSIST(file_read(AT_FDCWD, "root/app/old", 64, &text, &len) == 0,
	       "changed, though refused");
	free(text);
}

static void
artifact(void)
{
	char *error = NULL, *previous = NULL, *now = NULL;
	int r = engine_deploy("base", "v1", "archive", NULL, &previous, &error);

	sentence(r, &error);
	INSIST(!previous, "there was %s before", previous);
	check_box();
	INSIST((engine_current("base", &now) == 0) == (r == 0), "deployed %d, current is %s", r,
	       now ? now : "none");
	free(now);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed f = {data, size};
	uint8_t flags = feed_byte(&f);

	write_file("outside", "untouched", 9);
	if (flags & BUILT)
		build(&f, flags);
	else
		write_file("archive", f.p, f.left);
	if (flags & ARTIFACT)
		artifact();
	else
		backup();
	nftw("root", remove_one, 16, FTW_PHYS | FTW_DEPTH);
	nftw("base", remove_one, 16, FTW_PHYS | FTW_DEPTH);
	return 0;
}
