/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is at the other end of a connection, and what that user may do.  The identity is the ucred
 * struct that the kernel took at connect(2), never a path, a header or anything else that a client
 * can choose.  ucred has the primary group only, so membership comes from the databases.
 */

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"
#include "daemon/ctl/internal.h"

enum {
	UID_UNMAPPED = 65534, /* what a user of another user namespace looks like */
	NSS_BUFFER_MAX = 1 << 20,
	GROUPS_MAX = 65536,
};

bool
group_find(const char *name, gid_t *ret)
{
	for (size_t n = 4096; n <= NSS_BUFFER_MAX; n *= 4) {
		struct group g, *found = NULL;
		char *buf = xmalloc(n);
		int r = getgrnam_r(name, &g, buf, n, &found);
		gid_t gid = r == 0 && found ? g.gr_gid : 0;

		free(buf);
		if (r == ERANGE)
			continue;
		if (!found)
			return false;
		*ret = gid;
		return true;
	}
	return false;
}

void
peer_groups_init(struct peer_groups *g, const char *read_group, const char *operate_group)
{
	g->has_read = read_group && group_find(read_group, &g->read);
	g->has_operate = operate_group && group_find(operate_group, &g->operate);
}

int
peer_identify(int fd, struct peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (len != sizeof cred)
		return -EPROTO;
	*ret = (struct peer){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
	return 0;
}

/* The user's name (owned by the caller) and primary group; false for a user that is in no database.
 */
static bool
user_find(uid_t uid, char **ret_name, gid_t *ret_gid)
{
	for (size_t n = 4096; n <= NSS_BUFFER_MAX; n *= 4) {
		struct passwd pw, *found = NULL;
		char *buf = xmalloc(n);
		int r = getpwuid_r(uid, &pw, buf, n, &found);

		if (r == 0 && found) {
			*ret_name = xstrdup(pw.pw_name);
			*ret_gid = pw.pw_gid;
		}
		free(buf);
		if (r != ERANGE)
			return r == 0 && found;
	}
	return false;
}

static void
count_groups(struct peer *p, const struct peer_groups *g, const gid_t *gids, int n)
{
	for (int i = 0; i < n; i++) {
		if (g->has_read && gids[i] == g->read)
			p->may_read = true;
		if (g->has_operate && gids[i] == g->operate)
			p->may_operate = true;
	}
}

static void
look_up_groups(struct peer *p, const struct peer_groups *g)
{
	int n = 64, have = n;
	gid_t gid = 0, *gids;
	char *name = NULL;

	if (!user_find(p->uid, &name, &gid))
		return;
	gids = xcalloc((size_t)n, sizeof *gids);
	while (getgrouplist(name, gid, gids, &n) < 0 && n > have && n <= GROUPS_MAX) {
		gids = xrealloc(gids, (size_t)n * sizeof *gids);
		have = n;
	}
	count_groups(p, g, gids, n < have ? n : have);
	free(gids);
	free(name);
}

void
peer_judge(struct peer *p, const struct peer_groups *g)
{
	p->may_read = p->may_operate = false;
	if (p->uid == UID_UNMAPPED || p->uid == (uid_t)-1)
		return;
	if (p->uid == 0 || p->uid == geteuid()) {
		p->may_read = p->may_operate = true;
		return;
	}
	if (!g->has_read && !g->has_operate)
		return;
	count_groups(p, g, &p->gid, 1);
	look_up_groups(p, g);
	if (p->may_operate)
		p->may_read = true;
}
