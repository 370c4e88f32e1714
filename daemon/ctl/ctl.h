/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CTL_CTL_H
#define DHASH_CTL_CTL_H

/*
 * The control socket: HTTP/1.1 and JSON over a Unix socket (dhash-protocol(7)).  Transport, limits,
 * peer credentials, routing and the event stream live here; what a request means is the handler's
 * business, which the daemon supplies.  Routes are one table (ctl_routes), which the manual page
 * is checked against.  SIGPIPE must be ignored by the process.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct ctl;
struct ctl_request;

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	bool may_read, may_operate; /* by group membership, or root, or the daemon's own uid */
};

enum ctl_op {
	CTL_VERSION,        /* GET  /v1/version */
	CTL_STATUS,         /* GET  /v1/status?service=&environment= */
	CTL_HISTORY,        /* GET  /v1/deployments?service=&environment=&limit= */
	CTL_SHOW,           /* GET  /v1/deployments/ID */
	CTL_EXPLAIN,        /* GET  /v1/explain?deployment=|service=&environment= */
	CTL_DEPLOY,         /* POST /v1/deployments */
	CTL_ABORT,          /* POST /v1/deployments/ID/abort */
	CTL_ROLLBACK,       /* POST /v1/rollbacks */
	CTL_BACKUPS,        /* GET  /v1/backups?service=&environment= */
	CTL_BACKUPS_VERIFY, /* POST /v1/backups/verify */
	CTL_CONFIG_CHECK,   /* GET  /v1/config/check */
	CTL_EVENTS,         /* GET  /v1/events?after=&follow=&deployment=&limit= */
	_CTL_OP_MAX,
};

enum ctl_type {
	CTL_STRING,  /* not empty, at most 4096 bytes; in a query no control characters */
	CTL_INTEGER, /* not negative */
	CTL_BOOLEAN, /* in a query "0" or "1" */
};
/* A parameter of the query, or a key of the body. */
struct ctl_param {
	const char *name;
	enum ctl_type type;
	bool required;
	const char *help;
};
struct ctl_route {
	const char *method, *path; /* "{id}" stands for one component */
	bool operate;              /* changes something: needs may_operate */
	const char *help;
	const struct ctl_param *query,
		*body; /* what is allowed; end with a NULL name; NULL = none */
};
extern const struct ctl_route ctl_routes[_CTL_OP_MAX];

struct ctl_ops {
	/* Called once per valid request; must be answered sooner or later with ctl_reply/ctl_error,
	 * even after ctl_free().  `id` is the path's {id} or NULL; `query` an object of strings;
	 * `body` an object or NULL: both checked against the route's table, and borrowed. */
	void (*request)(void *arg, struct ctl_request *r, enum ctl_op op, const struct peer *peer,
			const char *id, json_t *query, json_t *body);
	/* Fetch events for a stream, at most `limit` of those with seq > after, oldest first:
	 * answer with ctl_events() or ctl_error(), at once or later.  `deployment` may be NULL. */
	void (*events)(void *arg, struct ctl_request *r, int64_t after, const char *deployment,
		       unsigned limit);
	/* A denied request, for the audit trail. */
	void (*denied)(void *arg, enum ctl_op op, const struct peer *peer);
};

struct ctl_config {
	const char *path; /* socket to make, or NULL when fd is given */
	int fd;           /* from socket activation (closed by ctl_free()), or -1 */
	const char *read_group, *operate_group; /* by name; NULL or unknown = nobody */
};

/* Serves at once.  Returns 0 or -errno with a text for the operator (owned by the caller):
 * -EADDRINUSE when another daemon has the socket, -EEXIST when something else stands at its path.
 */
int ctl_new(struct event_base *base, const struct ctl_config *cfg, const struct ctl_ops *ops,
	    void *arg, struct ctl **ret, char **ret_error);
/* Closes all connections and removes the socket; requests not yet answered must still be. */
void ctl_free(struct ctl *c);

/* Answers; json is stolen.  The request is gone afterwards, also when its client has left
 * meanwhile. */
void ctl_reply(struct ctl_request *r, int status, const char *location, json_t *json);
/* {"error":{"kind":…,"message":…,"detail":…}}; detail (stolen) may be NULL. */
__attribute__((format(printf, 5, 6))) void
ctl_error(struct ctl_request *r, int status, const char *kind, json_t *detail, const char *fmt,
	  ...);
/* Answers ops->events: an array (stolen) of {"seq":n,…}; for a stream, further ones follow by
 * ctl_wake(). */
void ctl_events(struct ctl_request *r, json_t *events);
/* New events are on disk: streams that wait ask for what is after their last one.  Cheap: many
 * calls in one turn of the loop are one. */
void ctl_wake(struct ctl *c);

#endif
