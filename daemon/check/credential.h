/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_CREDENTIAL_H
#define DHASH_CHECK_CREDENTIAL_H

/*
 * Secrets by the service manager: $CREDENTIALS_DIRECTORY has a file for each, in memory and for
 * this service alone.  The shipped unit puts the files of /etc/dhashd/credentials there, as
 * dhashd_NAME; a drop-in's LoadCredential=NAME:PATH comes as NAME.  A secret is read when it is
 * needed and wiped after it: it stands in no log, no dump of the configuration, no environment.
 */

#include <stddef.h>

/*
 * "Authorization: Bearer SECRET" (owned; end it by credential_free()).  -errno with *ret_why
 * (owned): there is none, it is empty or too long, or it holds what no header may.
 */
int credential_bearer(const char *name, char **ret, char **ret_why);
/* Wipes and frees; takes NULL. */
void credential_free(char *secret);

#endif
