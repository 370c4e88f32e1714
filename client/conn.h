/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_CONN_H
#define DHASH_CLIENT_CONN_H

/*
 * HTTP over the daemon's Unix socket, by libcurl.  Knows nothing of what is asked or answered, and
 * prints nothing.
 *
 * Errors: -ENOENT or -ECONNREFUSED, nobody listens; -EACCES, the socket may not be opened;
 * -ETIMEDOUT; -ECONNRESET, it went away in the middle; -EFBIG, more than ANSWER_MAX; -EPROTO, what
 * came is no HTTP.
 */

#include <stddef.h>

struct conn;
struct stream;

enum { ANSWER_MAX = 16 << 20 };

/* -ENAMETOOLONG for a path that no socket can have. */
int conn_new(const char *socket_path, struct conn **ret);
void conn_free(struct conn *c);

struct conn_answer {
	long status;
	char *body; /* owned, NUL-terminated */
	size_t len;
};

/* timeout_s 0 = wait without end; body NULL = none. */
int conn_request(struct conn *c, const char *method, const char *path, const char *body,
		 unsigned timeout_s, struct conn_answer *ret);

/* A GET whose answer is read line by line as it comes. */
int stream_open(struct conn *c, const char *path, struct stream **ret);
void stream_free(struct stream *s);

/*
 * 1: *ret_line is the next line, without its end, until the next call.  0: the answer ended.
 * -EAGAIN: timeout_ms passed, or wake_fd (-1 = none) became readable.  Else an error as above.
 * Answers that are not 200 yield no lines: their status and body are to be had after the 0.
 */
int stream_next(struct stream *s, int timeout_ms, int wake_fd, const char **ret_line);
long stream_status(const struct stream *s);
const char *stream_body(const struct stream *s);

#endif
