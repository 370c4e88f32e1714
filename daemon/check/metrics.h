/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_METRICS_H
#define DHASH_CHECK_METRICS_H

/*
 * From expositions to samples: remembers the counters of the last scrape, and says how many
 * requests, errors and slow requests there were since.  A counter that went down was reset, and
 * counts from 0; a series seen for the first time has no difference; one that vanished is
 * forgotten.
 */

#include "daemon/core/sample.h"

struct conf_metrics;
struct metrics;

struct metrics_limits {
	double latency_limit, latency_warn; /* seconds; INFINITY = nothing is judged by it */
};

/* The selectors were checked when the configuration was read; -EINVAL with *ret_error (owned) else.
 */
int metrics_new(const struct conf_metrics *conf, const struct metrics_limits *limits,
		struct metrics **ret, char **ret_error);
void metrics_free(struct metrics *m);
/* The next scrape has no difference. */
void metrics_reset(struct metrics *m);

/* What a source says: the text is changed in place and ends in a NUL at text[len]. */
struct exposition {
	char *text;
	size_t len;
	const char *type; /* Content-Type:, or NULL; OpenMetrics must have its end */
};

/*
 * Takes one exposition (changed in place), scraped at `at`.  Fills in rate, latency, result and
 * detail of *ret.  RESULT_NO_DATA: a configured name is missing, or the text is malformed;
 * RESULT_OK with series of RESULT_NO_DATA: the first scrape.
 */
void metrics_take(struct metrics *m, const struct exposition *x, usec_t at, struct sample *ret);

/* For the gates: 0, -ENOENT when configured names are missing or P95 could never be judged,
 * -EBADMSG; *ret_text (owned) always. */
int metrics_probe(struct metrics *m, const struct exposition *x, char **ret_text);

#endif
