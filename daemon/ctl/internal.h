/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CTL_INTERNAL_H
#define DHASH_CTL_INTERNAL_H

/* What the files of daemon/ctl/ share: nobody else includes this. */

#include <event2/util.h>
#include <stddef.h>
#include <sys/queue.h>

#include "daemon/ctl/ctl.h"

struct bufferevent;
struct evbuffer;
struct evbuffer_cb_entry;
struct evconnlistener;
struct event;
struct evhttp;
struct evhttp_connection;
struct evhttp_request;
struct stream;

/* What a client may take from us.  ctl_new() sets the defaults of dhash-protocol(7). */
struct ctl_limits {
	unsigned connections, connections_per_uid;
	size_t headers_bytes, body_bytes;
	size_t pending_bytes; /* of a stream, not yet taken by its reader */
	unsigned batch;       /* events fetched at once */
	unsigned request_ms;  /* from connect or first byte to the end of a request */
	unsigned answer_ms;   /* to take the whole answer */
	unsigned idle_ms;     /* between two requests */
	unsigned stall_ms;    /* of a stream: nothing taken for so long */
	unsigned heartbeat_ms;
	unsigned accept_pause_ms; /* after accept() failed */
};
void ctl_set_limits(struct ctl *c, const struct ctl_limits *l);
const struct ctl_limits *ctl_get_limits(const struct ctl *c);

/* --- socket.c: the listening socket and its place in the file system --- */

struct listen_socket {
	char *path, *lock_path; /* owned; NULL = none of ours */
	int lock_fd;
	dev_t dev;
	ino_t ino;
};
int listen_socket_open(struct listen_socket *s, const char *path, const char *group, int *ret_fd,
		       char **ret_error);
/* Removes the socket, if it still is ours, and lets go of the lock. */
void listen_socket_close(struct listen_socket *s);
int listen_socket_check(int fd, char **ret_error);

/* --- peer.c: who is at the other end --- */

struct peer_groups {
	bool has_read, has_operate;
	gid_t read, operate;
};
void peer_groups_init(struct peer_groups *g, const char *read_group, const char *operate_group);
/* Credentials as of connect(2), from the kernel; nothing that the peer can write is looked at. */
int peer_identify(int fd, struct peer *ret);
/* Sets may_read and may_operate; looks into the user and group databases. */
void peer_judge(struct peer *p, const struct peer_groups *g);
bool group_find(const char *name, gid_t *ret);

/* --- route.c, query.c: what is asked --- */

/* -ENOENT: no such path; -EACCES: not with this method, *ret_allow is a list of those that go;
 * -EINVAL: the {id} is none.  *ret_id is owned by the caller. */
int route_find(const char *method, const char *path, enum ctl_op *ret_op, char **ret_id,
	       const char **ret_allow);
/* The path pattern most like `path`, or NULL. */
const char *route_nearest(const char *path);

/* Why a query or body is refused. */
struct bad_input {
	char *message;  /* owned */
	json_t *detail; /* owned, or NULL */
};
void bad_input_done(struct bad_input *b);
/* Both return 0, or -EINVAL with *ret_bad filled in. */
int query_parse(const char *query, const struct ctl_param *allowed, json_t **ret,
		struct bad_input *ret_bad);
int body_parse(const char *data, size_t len, const struct ctl_param *allowed, json_t **ret,
	       struct bad_input *ret_bad);
/* Decodes %XX; `len` bytes of s.  -EINVAL for a bad escape, a control character or bad UTF-8. */
int percent_decode(const char *s, size_t len, char **ret);

/* --- conn.c: connections --- */

enum conn_state {
	CONN_NEW,       /* accepted in this turn of the loop, not yet looked at */
	CONN_IDLE,      /* between two requests */
	CONN_READING,   /* a request is coming in */
	CONN_HANDLING,  /* the handler has it */
	CONN_ANSWERING, /* its answer is going out */
	CONN_STREAMING, /* events are going out */
};
struct conn {
	TAILQ_ENTRY(conn) link;
	struct ctl *ctl;
	struct evhttp_connection *evcon; /* owns bev; NULL while CONN_NEW */
	struct bufferevent *bev;
	struct evbuffer_cb_entry *on_input, *on_output;
	struct event *deadline, *kick; /* owned */
	struct peer peer;
	bool judged; /* peer.may_* are set */
	enum conn_state state;
	bool drop;                   /* close at the next kick */
	struct ctl_request *request; /* until it is answered */
};
TAILQ_HEAD(conn_list, conn);

struct ctl_request {
	struct ctl *ctl;            /* valid while conn is */
	struct conn *conn;          /* NULL: the client has left */
	struct evhttp_request *req; /* valid while conn is; belongs to evhttp */
	enum ctl_op op;
	bool close;            /* no further request on this connection */
	struct stream *stream; /* owned; of CTL_EVENTS */
};

struct ctl {
	struct event_base *base;
	struct evhttp *http;
	struct evconnlistener *listener; /* belongs to http */
	struct listen_socket socket;
	const struct ctl_ops *ops;
	void *arg;
	struct ctl_limits limits;
	struct peer_groups groups;
	struct conn_list conns;
	unsigned n_conns, n_new;
	struct event *accepted, *resume, *wake; /* owned */
	bool paused;
	int64_t complained_usec; /* of the last record about refused connections */
};

/* A connection whose evhttp_connection is not known yet; bev is borrowed until conn_attach(). */
struct conn *conn_new(struct ctl *c, struct bufferevent *bev);
void conn_attach(struct conn *k, struct evhttp_connection *evcon);
/* Only while CONN_NEW: later it goes with the evhttp_connection. */
void conn_free(struct conn *k);
/* Answers without evhttp, and closes: only while nothing else is being written.  k is gone then. */
void conn_refuse(struct conn *k, int status, const char *kind, const char *message);
struct timeval timeval_of_ms(unsigned ms);
/* Moves a connection on and sets the deadline that goes with the state. */
void conn_set_state(struct conn *k, enum conn_state state);
/* Closes it, but not under the feet of whoever is calling. */
void conn_drop(struct conn *k);
/* Bytes that wait to be taken by the client. */
size_t conn_pending(const struct conn *k);

/* --- reply.c: one request in, one answer out --- */

void request_arrived(struct conn *k, struct evhttp_request *req);
/* The connection is going down. */
void request_client_left(struct ctl_request *r);
void request_free(struct ctl_request *r);
/* The answer has been taken; arg is the connection. */
void on_sent(struct evhttp_request *req, void *arg);
json_t *error_json(const char *kind, const char *message, json_t *detail);

/* --- stream.c --- */

void stream_begin(struct ctl_request *r, json_t *query);
void stream_free(struct stream *s);
/* True when nobody will answer any more: the request can go. */
bool stream_client_left(struct stream *s);
/* An error instead of events: true when the stream had begun, and is being closed. */
bool stream_fail(struct ctl_request *r);
void stream_wake(struct ctl_request *r);

#endif
