/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_RUN_OUTPUT_H
#define DHASH_RUN_OUTPUT_H

/*
 * What a hook prints: into its log, whole up to a limit, and, for a runner whose standard error is
 * the journal, line by line there, too, so that the journal alone tells the story.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/log.h"

enum { OUTPUT_LINE_MAX = 1024 };

struct output {
	int fd; /* owned; -1 = none */
	size_t max_bytes;
	uint64_t bytes, logged_bytes; /* written by the hook; and kept */
	bool truncated;
	char last;
	struct log_fields fields; /* borrowed */
	bool journal;
	char line[OUTPUT_LINE_MAX];
	size_t line_len;
};

/* Opens the log for appending; a symbolic link is not followed.  Returns 0 or -errno. */
int output_open(struct output *o, const char *path, size_t max_bytes);
void output_take(struct output *o, const char *data, size_t len);
/* The last line, should it have no end. */
void output_flush(struct output *o);
void output_close(struct output *o);

#endif
