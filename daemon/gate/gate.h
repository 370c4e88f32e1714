/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_GATE_GATE_H
#define DHASH_GATE_GATE_H

/*
 * The gates before a deployment: is the tag allowed here, can the hooks run, does the source have
 * the metrics that the rules need.  All are run and reported together; nothing on the target is
 * touched.
 */

#include <stdbool.h>
#include <stddef.h>

struct conf_env;
struct event_base;
struct hook_way;
struct observer;
struct store;

enum { GATES_MAX = 12, GATE_TEXT_MAX = 384 };

struct gate {
	const char *name;
	bool ok;
	bool overridden;          /* failed, and let through by force */
	char text[GATE_TEXT_MAX]; /* the reason, and how to mend it */
};

struct gates {
	struct gate v[GATES_MAX];
	size_t n;
	bool ok;
};

typedef void gates_fn(void *arg, const struct gates *g);

/* How hooks will be run: where they are units, whoever runs them is asked whether it could. */
struct gate_hooks {
	struct event_base *base;
	const struct hook_way *way; /* outlives the gates */
	const char *state_dir;      /* likewise */
	const char *deployment;     /* borrowed; NULL: there is none, it is only a question */
};

/*
 * Runs every gate for `tag` on the environment; fn is called once, on the loop, never from within.
 * force lets the gates of policy pass (staging first, bad tag, metrics), never those of the machine
 * (hooks, artifact) nor what could not be asked.  Only the store must live until then: a reload or
 * another deployment may take env and observer away while the gates run, so they go on with a copy.
 */
void gates_run(struct store *store, const struct gate_hooks *hooks, const struct observer *observer,
	       const struct conf_env *env, const char *tag, bool force, gates_fn *fn, void *arg);

/* One line: "staging-first: …; hooks: …" of those that failed, or what was let through. */
void gates_describe(const struct gates *g, char *buf, size_t n);

#endif
