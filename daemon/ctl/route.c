/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What can be asked: one table of routes with the parameters and keys that each takes.  Everything
 * that knows the list (matching, checking, the manual page's test) reads it here.
 */

#include <errno.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"

enum { ID_MAX = 128 };

#define SERVICE                                                                                    \
	{                                                                                          \
		"service", CTL_STRING, false, "name of the service"                                \
	}
#define ENVIRONMENT                                                                                \
	{                                                                                          \
		"environment", CTL_STRING, false, "name of the environment"                        \
	}
#define REASON                                                                                     \
	{                                                                                          \
		"reason", CTL_STRING, false, "words for the audit trail"                           \
	}
#define END                                                                                        \
	{                                                                                          \
		NULL, CTL_STRING, false, NULL                                                      \
	}

static const struct ctl_param selection[] = {SERVICE, ENVIRONMENT, END};
static const struct ctl_param reason_only[] = {REASON, END};

static const struct ctl_param history_query[] = {
	SERVICE,
	ENVIRONMENT,
	{"limit", CTL_INTEGER, false, "at most so many"},
	END,
};

static const struct ctl_param explain_query[] = {
	SERVICE,
	ENVIRONMENT,
	{"deployment", CTL_STRING, false, "id of a deployment"},
	END,
};

static const struct ctl_param events_query[] = {
	{"after", CTL_INTEGER, false, "number of the last event known"},
	{"follow", CTL_BOOLEAN, false, "stay, and tell new events as they come"},
	{"deployment", CTL_STRING, false, "only of this deployment"},
	{"limit", CTL_INTEGER, false, "end after so many"},
	END,
};

static const struct ctl_param deploy_body[] = {
	SERVICE,
	{"environment", CTL_STRING, true, "where to"},
	{"tag", CTL_STRING, true, "what"},
	{"lead", CTL_STRING, false, "who leads the deployment"},
	REASON,
	{"force", CTL_BOOLEAN, false, "override the gates"},
	{"supersede", CTL_BOOLEAN, false, "end a live deployment of the same environment"},
	{"dry_run", CTL_BOOLEAN, false, "only tell what would be done"},
	END,
};

static const struct ctl_param rollback_body[] = {
	SERVICE,
	{"environment", CTL_STRING, true, "where"},
	{"backup", CTL_STRING, false, "restore this backup"},
	{"to", CTL_STRING, false, "go back to this tag"},
	{"force", CTL_BOOLEAN, false, "even though it is refused otherwise"},
	REASON,
	END,
};

const struct ctl_route ctl_routes[_CTL_OP_MAX] = {
	[CTL_VERSION] = {"GET", "/v1/version", false, "the daemon and its protocol", NULL, NULL},
	[CTL_STATUS] = {"GET", "/v1/status", false, "what is guarded and how it is", selection,
			NULL},
	[CTL_HISTORY] = {"GET", "/v1/deployments", false, "past and present deployments",
			 history_query, NULL},
	[CTL_SHOW] = {"GET", "/v1/deployments/{id}", false, "one deployment", NULL, NULL},
	[CTL_EXPLAIN] = {"GET", "/v1/explain", false, "why it is as it is", explain_query, NULL},
	[CTL_DEPLOY] = {"POST", "/v1/deployments", true, "deploy a release", NULL, deploy_body},
	[CTL_ABORT] = {"POST", "/v1/deployments/{id}/abort", true, "abort a deployment", NULL,
		       reason_only},
	[CTL_ROLLBACK] = {"POST", "/v1/rollbacks", true, "roll back", NULL, rollback_body},
	[CTL_BACKUPS] = {"GET", "/v1/backups", false, "the backups", selection, NULL},
	[CTL_BACKUPS_VERIFY] = {"POST", "/v1/backups/verify", true, "read and verify the backups",
				NULL, selection},
	[CTL_CONFIG_CHECK] = {"GET", "/v1/config/check", false, "check the files on disk", NULL,
			      NULL},
	[CTL_EVENTS] = {"GET", "/v1/events", false, "what happened, and what happens", events_query,
			NULL},
};

/* Does `path` fit the pattern?  Sets where its {id} is. */
static bool
matches(const char *pattern, const char *path, const char **ret_id, size_t *ret_len)
{
	const char *hole = strstr(pattern, "{id}"), *rest;
	size_t head = hole ? (size_t)(hole - pattern) : 0;

	if (!hole)
		return streq(pattern, path);
	if (strncmp(pattern, path, head) != 0)
		return false;
	rest = path + head + strcspn(path + head, "/");
	if (rest == path + head || !streq(rest, hole + strlen("{id}")))
		return false;
	*ret_id = path + head;
	*ret_len = (size_t)(rest - *ret_id);
	return true;
}

static const char *
allowed_methods(bool get, bool post)
{
	return get && post ? "GET, POST" : get ? "GET" : "POST";
}

int
route_find(const char *method, const char *path, enum ctl_op *ret_op, char **ret_id,
	   const char **ret_allow)
{
	bool get = false, post = false;

	for (int op = 0; op < _CTL_OP_MAX; op++) {
		const struct ctl_route *route = &ctl_routes[op];
		const char *id = NULL;
		char *decoded = NULL;
		size_t len = 0;

		if (!matches(route->path, path, &id, &len))
			continue;
		if (!streq(route->method, method)) {
			get = get || streq(route->method, "GET");
			post = post || streq(route->method, "POST");
			continue;
		}
		if (id && (len > ID_MAX || percent_decode(id, len, &decoded) < 0))
			return -EINVAL;
		*ret_op = (enum ctl_op)op;
		*ret_id = decoded;
		return 0;
	}
	if (!get && !post)
		return -ENOENT;
	*ret_allow = allowed_methods(get, post);
	return -EACCES;
}

const char *
route_nearest(const char *path)
{
	const char *paths[_CTL_OP_MAX];

	for (int op = 0; op < _CTL_OP_MAX; op++)
		paths[op] = ctl_routes[op].path;
	return strlen(path) <= ID_MAX ? nearest_name(path, paths, _CTL_OP_MAX) : NULL;
}
