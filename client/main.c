/* SPDX-License-Identifier: Apache-2.0 */
/* dhash, the command line client of dhashd: see cli.c for the commands. */

#include "client/cli.h"

int
main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
