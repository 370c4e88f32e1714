/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_MEMORY_H
#define DHASH_MEMORY_H

/*
 * The program's one policy for memory, for the libraries too: what cannot be had ends the process.
 * Left to themselves they would lose a field of a document, bind NULL in place of a text, or watch
 * a descriptor no more, and say nothing.  To be called before the first of them is used.
 *
 * libarchive and glibc have no such setting: their failures are answered where they are called.
 */
void memory_policy(void);

#endif
