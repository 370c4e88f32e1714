/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TEST_RELEASE_KIT_H
#define DHASH_TEST_RELEASE_KIT_H

/* What the tests of backups and releases share: a folder to work in, files, programs, archives. */

#include <archive.h>
#include <archive_entry.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/release/backup.h"
#include "daemon/release/digest.h"
#include "daemon/release/source.h"

#define KIT __attribute__((unused)) static

KIT char kit_dir[PATH_MAX]; /* the test's own folder, which it is in */
extern char **environ;

/* In memory where that can be had: syncfs() on a shared disk waits for everybody's writing.  TMPDIR
 * chooses another place. */
KIT void
kit_setup(void)
{
	const char *where = getenv("TMPDIR");

	if (!where)
		where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(kit_dir, sizeof kit_dir, "%s/dhash-XXXXXX", where);
	ck_assert_ptr_nonnull(mkdtemp(kit_dir));
	ck_assert_int_eq(chdir(kit_dir), 0);
	umask(022);
}

KIT int
kit_open_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return type == FTW_DNR || type == FTW_D ? chmod(path, 0700) : 0;
}

KIT int
kit_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

KIT void
kit_remove(const char *path)
{
	nftw(path, kit_open_up, 16, FTW_PHYS);
	nftw(path, kit_remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

KIT void
kit_teardown(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	kit_remove(kit_dir);
}

KIT void
put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_msg(f != NULL, "cannot write %s: %s", path, strerror(errno));
	ck_assert_uint_eq(fwrite(data, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

KIT void
put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

KIT char *
get(const char *path, size_t *ret_len)
{
	char *data;
	size_t len;
	int r = file_read(AT_FDCWD, path, 1 << 28, &data, &len);

	ck_assert_msg(r == 0, "cannot read %s: %s", path, strerror(-r));
	if (ret_len)
		*ret_len = len;
	return data;
}

KIT void
expect_text(const char *path, const char *text)
{
	char *is = get(path, NULL);

	ck_assert_str_eq(is, text);
	free(is);
}

KIT void
folder(const char *path)
{
	ck_assert_int_eq(mkdir_p(path, 0755), 0);
}

KIT bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* How many names in a folder begin so. */
KIT unsigned
count_names(const char *path, const char *prefix)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while ((d = readdir(dir)) != NULL)
		n += strncmp(d->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return n;
}

/* Runs a program in `folder` without its output; its exit status. */
KIT int
run_in(const char *where, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, where);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	ck_assert_int_eq(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* A sentence must come with an error: check it, and say no more about it. */
KIT void
expect_sentence(char **error, const char *part)
{
	ck_assert_ptr_nonnull(*error);
	ck_assert_msg(strstr(*error, part) != NULL, "\"%s\" is not in: %s", part, *error);
	free(*error);
	*error = NULL;
}

/* A NULL-terminated vector of literals, as the functions under test take it. */
#define STRV(...) ((char *const *)(const char *const[]){__VA_ARGS__, NULL})

#define expect_ok(call)                                                                            \
	do {                                                                                       \
		int kit_r = (call);                                                                \
		ck_assert_msg(kit_r == 0, "%s: %d, %s", #call, kit_r, error ? error : "-");        \
		ck_assert_ptr_null(error);                                                         \
	} while (0)

/* --- archives --------------------------------------------------------------------------------- */

struct item {
	const char *name;
	unsigned mode; /* with its type */
	const char *data;
	const char *link, *hardlink;
	size_t zeros; /* instead of data */
};

#define FILE_ITEM(n, d)                                                                            \
	{                                                                                          \
		.name = (n), .mode = S_IFREG | 0644, .data = (d)                                   \
	}

KIT void
add_item(struct archive *a, const struct item *i)
{
	struct archive_entry *e = archive_entry_new();
	size_t len = i->data ? strlen(i->data) : i->zeros;

	archive_entry_set_pathname(e, i->name);
	archive_entry_set_mode(e, i->mode);
	archive_entry_set_mtime(e, 1700000000, 0);
	archive_entry_set_size(e, S_ISREG(i->mode) && !i->hardlink ? (la_int64_t)len : 0);
	if (S_ISBLK(i->mode) || S_ISCHR(i->mode))
		archive_entry_set_rdev(e, 1 << 8 | 3);
	if (i->link)
		archive_entry_set_symlink(e, i->link);
	if (i->hardlink)
		archive_entry_set_hardlink(e, i->hardlink);
	ck_assert_msg(archive_write_header(a, e) == ARCHIVE_OK, "%s: %s", i->name,
		      archive_error_string(a));
	if (i->data) {
		ck_assert_int_eq(archive_write_data(a, i->data, len), (la_ssize_t)len);
	} else {
		char *zeros = xcalloc(1, 65536);

		for (size_t left = i->zeros; left > 0; left -= MIN(left, (size_t)65536))
			archive_write_data(a, zeros, MIN(left, (size_t)65536));
		free(zeros);
	}
	archive_entry_free(e);
}

/* By the end of its name: .zip, .tar, .tar.gz, .tar.xz, .tar.zst. */
KIT void
make_archive(const char *path, const struct item *items, size_t n)
{
	struct archive *a = archive_write_new();

	if (strstr(path, ".zip"))
		archive_write_set_format_zip(a);
	else
		archive_write_set_format_pax_restricted(a);
	if (strstr(path, ".gz"))
		archive_write_add_filter_gzip(a);
	if (strstr(path, ".xz"))
		archive_write_add_filter_xz(a);
	if (strstr(path, ".zst"))
		archive_write_add_filter_zstd(a);
	ck_assert_int_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
	for (size_t i = 0; i < n; i++)
		add_item(a, &items[i]);
	ck_assert_int_eq(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
}

KIT void
digest_of(const char *path, char ret[DIGEST_HEX])
{
	struct source *s;

	ck_assert_int_eq(source_open(path, NULL, &s, NULL), 0);
	ck_assert_int_eq(source_digest(s, false, ret, NULL), 0);
	source_free(s);
}

/* Memory is measured only where it is the program's own. */
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

KIT int
run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
