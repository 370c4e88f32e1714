/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CHECK_PROM_H
#define DHASH_CHECK_PROM_H

/*
 * The Prometheus text format 0.0.4, and what OpenMetrics 1.0 adds to it (a last line "# EOF",
 * exemplars behind a sample).  One malformed line refuses the whole text, as Prometheus does.
 */

#include "daemon/check/selector.h"

enum { PROM_LABELS_MAX = 64 };

/* One sample; everything is borrowed until the call returns. */
typedef void
prom_fn(void *arg, const char *name, const struct label *labels, size_t n_labels, double value);

/*
 * Calls fn for every sample of `text`, which is changed in place and must end in a NUL at
 * text[len]. -EBADMSG with *ret_error (owned), which names the line.
 */
int prom_parse(char *text, size_t len, prom_fn *fn, void *arg, char **ret_error);

/* OpenMetrics has an end that shows: -EBADMSG with *ret_error (owned) if `text` was cut off before
 * it, or goes on behind it.  Before prom_parse(), which changes the text. */
int prom_check_end(const char *text, char **ret_error);

/*
 * The q-quantile of a cumulative histogram, as Prometheus's histogram_quantile() computes it; NaN
 * where that is NaN.  `le` and `count` are changed (sorted, merged, made monotonic).
 */
double prom_quantile(double q, double *le, double *count, size_t n);

#endif
