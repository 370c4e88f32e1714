/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_LEFTOVERS_H
#define DHASH_LEFTOVERS_H

/*
 * What a crash leaves undone beside the database, put right at the next start:
 *
 *   session.log's head, incident-report.md   were to be written after a commit, and were not
 *   files under temporary names              made to be renamed, which nobody will do any more
 *   a session's folder, empty                reserved for a request that was never committed
 */

struct daemon;
struct deployment;

/* For each deployment that is taken up again, before any work on it begins. */
void leftovers_mend(struct daemon *d, const struct deployment *dep);

/* Once all are taken up, and before the daemon begins anything new: lists what to remove, and has a
 * worker do it. */
void leftovers_clear(struct daemon *d);

#endif
