/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeded random worlds through the real core, thousands of times faster than real time.
 *   sim [--runs N] [--seed S] [--only INDEX]
 * Prints the seed first; a failure names the world, which --seed S --only INDEX runs again.
 */

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "common/util.h"
#include "tests/sim/world.h"

struct totals {
	unsigned long passed, failed, crashes, steps, auto_decisions;
	unsigned long outcomes[_DSTATE_MAX];
};

static struct world world; /* large */

static void
run_one(uint64_t seed, uint64_t index, struct totals *t)
{
	world_init(&world, seed + index * 0x632be59bd9b4e019ull);
	if (world_run(&world)) {
		t->passed++;
	} else {
		t->failed++;
		if (t->failed <= 10)
			fprintf(stderr,
				"FAILED: world %" PRIu64 " of seed %" PRIu64 ": %s: %s "
				"(again: --seed %" PRIu64 " --only %" PRIu64 ")\n",
				index, seed, world.broken, world.detail, seed, index);
	}
	t->crashes += world.n_crashes;
	t->steps += world.steps;
	t->auto_decisions += world.disk.auto_decisions;
	if (world.disk.exists)
		t->outcomes[world.disk.deployment.state]++;
	world_done(&world);
}

static uint64_t
number(const char *s)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || end == s || *end) {
		fprintf(stderr, "sim: not a number: %s\n", s);
		exit(2);
	}
	return v;
}

int
main(int argc, char **argv)
{
	uint64_t runs = 12000, only = UINT64_MAX, seed = (uint64_t)time(NULL);
	struct totals t = {0};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (streq(argv[i], "--runs"))
			runs = number(argv[i + 1]);
		else if (streq(argv[i], "--seed"))
			seed = number(argv[i + 1]);
		else if (streq(argv[i], "--only"))
			only = number(argv[i + 1]);
	}
	printf("sim: seed %" PRIu64 ", %" PRIu64 " deployments\n", seed,
	       only == UINT64_MAX ? runs : 1);
	fflush(stdout);
	if (only != UINT64_MAX)
		run_one(seed, only, &t);
	for (uint64_t i = 0; only == UINT64_MAX && i < runs; i++)
		run_one(seed, i, &t);
	printf("sim: %lu steps, %lu crashes, %lu automatic rollbacks; ends:", t.steps, t.crashes,
	       t.auto_decisions);
	for (int s = 0; s < _DSTATE_MAX; s++)
		if (t.outcomes[s])
			printf(" %s %lu", dstate_name(s), t.outcomes[s]);
	printf("\n%lu passed, %lu failed\n", t.passed, t.failed);
	return t.failed == 0 ? 0 : 1;
}
