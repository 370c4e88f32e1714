/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step of a backup, as the daemon's worker does it; the bench times the whole process, beside
 * zip and sha256sum that do the same.
 */

#include "daemon/release/backup.h"

#include "common/util.h"

static int
usage(void)
{
	fputs("usage: backup create FILE ROOT PATH\n"
	      "       backup verify FILE\n"
	      "       backup restore FILE ROOT PATH\n",
	      stderr);
	return 2;
}

int
main(int argc, char **argv)
{
	struct backup_made made;
	char *error = NULL;
	int r;

	if (argc == 5 && streq(argv[1], "create"))
		r = backup_create(argv[2], argv[3], &argv[4], NULL, &made, &error);
	else if (argc == 3 && streq(argv[1], "verify"))
		r = backup_verify(argv[2], NULL, NULL, NULL, &error);
	else if (argc == 5 && streq(argv[1], "restore"))
		r = backup_restore(argv[2], NULL, argv[3], &argv[4], NULL, &error);
	else
		return usage();
	if (r < 0)
		fprintf(stderr, "backup: %s\n", error ? error : strerror(-r));
	free(error);
	return r < 0;
}
