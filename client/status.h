/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CLIENT_STATUS_H
#define DHASH_CLIENT_STATUS_H

/* How an environment of GET /v1/status reads. */

#include <jansson.h>

#include "client/out.h"
#include "common/time-util.h"

enum { HEADLINE_MAX = 640 };

/* "watching: critical, 12min 30s left", "v1.1.0 rolled back 3min ago", "nothing deployed yet". */
char *status_phrase(char buf[HEADLINE_MAX], const json_t *env, usec_t now);

/* "12.4% of 1,240 requests (limit 10% for 5min; over for 2min 10s); fires in 2min 50s" */
char *status_rule(char buf[HEADLINE_MAX], const json_t *rule);

/* What was deployed is being taken back: no rule is asked meanwhile. */
bool status_rolling_back(const json_t *env);

/* The verdict as one word in capitals, and how it is coloured. */
const char *status_verdict(const json_t *env, enum style *ret_style);

/* The block of an environment; one short line for a terminal that is redrawn. */
void status_print(struct out *o, const json_t *env, usec_t now);
void status_progress(struct out *o, const json_t *env, usec_t now);

/* Why a deployment stands where it stands; "" while all is as it was asked. */
const char *status_reason(const json_t *deployment);

/* The exit code for these environments: see dhash(1). */
int status_exit_code(const json_t *environments);

#endif
