/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CORE_SAMPLE_H
#define DHASH_CORE_SAMPLE_H

/*
 * The typed result of one observation.  A health round is one sample; a scrape of the metrics
 * source is one sample with up to two series, error rate and latency.
 */

#include "common/time-util.h"

enum result {
	RESULT_OK,
	RESULT_BAD,
	RESULT_NO_DATA, /* an answer with nothing usable in it */
	RESULT_ERROR,   /* the observer's own failure: resolver down, plugin missing, reference down
			 */
	_RESULT_MAX,
};
const char *result_name(enum result r); /* "ok", "bad", "no-data", "error" */

enum sample_kind { SAMPLE_HEALTH, SAMPLE_METRICS, _SAMPLE_KIND_MAX };
const char *sample_kind_name(enum sample_kind k);

/*
 * One series of a scrape.  As counters: `bad` of `total` requests were errors (or slower than the
 * limit) in the `span` before the sample's time, and `bad_warn` of them over the warning limit.  As
 * a gauge: one ready-made reading in `value`, `gauge` is set and the counts are 0.
 */
struct series {
	enum result
		result; /* RESULT_OK = usable; whether it is over a limit is the rule's business */
	bool gauge;
	usec_t span;
	double bad, bad_warn, total;
	double value; /* error ratio, or P95 in seconds, of this span; NaN where there is none */
};

enum { SAMPLE_DETAIL_MAX = 192 };

struct sample {
	enum sample_kind kind;
	usec_t at;          /* core time of the answer */
	usec_t wall;        /* UTC of the answer, for people */
	enum result result; /* of the round, or of the scrape as a whole */
	usec_t took;
	bool all_failed;     /* health: every required check failed ("complete outage") */
	bool infra_critical; /* health rounds carry the infrastructure checks: one is critical now
			      */
	bool infra_known;    /* infrastructure checks exist and gave an answer */
	struct series rate, latency;    /* metrics only */
	char detail[SAMPLE_DETAIL_MAX]; /* "health: HTTP 503, 200-299 expected"; one line, escaped
					 */
};

#endif
