/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RELEASE_CURRENT_H
#define DHASH_RELEASE_CURRENT_H

/* The symbolic link <base>/current -> releases/<tag>. */

/* base_fd: the folder.  -ENOENT when there is none; -EEXIST when `current` is no link, -EINVAL when
 * it is one that does not name a release, both with a sentence. */
int current_read(int base_fd, const char *base, char **ret_tag, char **ret_error);
/* Made beside and renamed over, so that `current` always names one whole release; durable on
 * return. */
int current_point(int base_fd, const char *base, const char *tag, char **ret_error);

#endif
