/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_DEPLOYMENT_H
#define DHASH_CORE_DEPLOYMENT_H

/* One deployment as it stands on disk: what the store writes whole at every change, and loads. */

#include "daemon/core/policy.h"

enum dstate {
	DS_QUEUED,
	DS_GATES,
	DS_BACKUP,
	DS_DEPLOYING,
	DS_SETTLING,
	DS_WATCHING,
	DS_RB_SAVING,   /* rolling back: emergency backup of what is there now */
	DS_RB_CHOOSING, /* rolling back: verify the target */
	DS_RB_RUNNING,  /* rolling back: hook or restore */
	DS_VERIFYING,   /* health rounds after the rollback */
	DS_SUCCEEDED,
	DS_UNVERIFIED, /* watched to the end, with too little coverage */
	DS_REJECTED,
	DS_FAILED, /* before anything changed on the target */
	DS_ABORTED,
	DS_SUPERSEDED,
	DS_ROLLED_BACK,
	DS_ROLLBACK_FAILED,
	_DSTATE_MAX,
};
const char *dstate_name(enum dstate s);  /* unique: "rolling-back.saving" */
const char *dstate_label(enum dstate s); /* for people: "rolling-back" */
int dstate_from_name(const char *s);     /* or -EINVAL */
bool dstate_ended(enum dstate s);        /* the environment is free for another deployment */

enum {
	DEPLOYMENT_ID_MAX = 40, /* "deploy-20240101-120000-12" */
	NAME_MAX_LEN = 65,      /* service, environment */
	TAG_MAX_LEN = 129,
	TEXT_MAX_LEN = 256,
	PATH_MAX_LEN = 512,
	DIGEST_MAX_LEN = 65, /* SHA-256 in hex */
};

struct deployment {
	char id[DEPLOYMENT_ID_MAX];
	char service[NAME_MAX_LEN], environment[NAME_MAX_LEN];
	char tag[TAG_MAX_LEN];
	char previous_tag[TAG_MAX_LEN]; /* what was there before; "" when unknown */
	char lead[NAME_MAX_LEN];
	unsigned actor_uid;        /* who asked */
	bool forced;               /* gates were overridden */
	char reason[TEXT_MAX_LEN]; /* operator's words, of --force */
	enum dstate state;
	char outcome[TEXT_MAX_LEN]; /* why it stands where it stands, one line */

	/* Core time, and UTC for people; 0 = not yet. */
	usec_t created_at, created_wall;
	usec_t entered_at, entered_wall;   /* of the present state */
	usec_t deployed_at;                /* deploy hook began: rollback rules are armed */
	usec_t t0;                         /* T+0: watching begins */
	usec_t decided_at, decided_wall;   /* rollback decided */
	usec_t restored_at, restored_wall; /* R+0: rollback verified */
	usec_t ended_at, ended_wall;

	unsigned
		attempt; /* counts every effect that expects an answer: stale answers are dropped */
	unsigned
		rollbacks; /* rollbacks begun, manual ones included; names the hook's transaction */
	unsigned auto_rollbacks;            /* 0 or 1 */
	char rollback_reason[TEXT_MAX_LEN]; /* "health: 3 failed rounds in a row", or the operator's
					     */
	bool rollback_auto, rollback_forced;
	char rollback_to[TAG_MAX_LEN];    /* --to TAG, or "" */
	char rollback_file[PATH_MAX_LEN]; /* --backup FILE, or "" */

	char backup[PATH_MAX_LEN], backup_sha256[DIGEST_MAX_LEN]; /* taken before the deploy */
	char target[PATH_MAX_LEN]; /* what the rollback restores: backup file, or release folder */
	char target_sha256[DIGEST_MAX_LEN]; /* of a backup that was verified; else empty */
	bool target_verified;

	struct policy policy; /* frozen at the start */
};

#endif
