/* SPDX-License-Identifier: Apache-2.0 */

#include "client/follow.h"

#include <errno.h>

#include "client/api.h"
#include "client/cli.h"
#include "client/conn.h"
#include "client/interrupt.h"
#include "client/json.h"
#include "client/status.h"
#include "client/text.h"
#include "common/util.h"

enum {
	LOOK_TIMEOUT_S = 10,
	TICK_MS = 1000,
	DELAY_MIN_MS = 50,
	DELAY_MAX_MS = 2000,
};

/* Three heartbeats of the daemon. */
static const usec_t silence_max = 45 * USEC_PER_SEC;

/* What a step of the waiting says. */
enum step {
	STEP_ENDED,    /* the deployment has ended */
	STEP_LIVE,     /* it has not */
	STEP_AWAY,     /* nobody answers */
	STEP_DETACHED, /* Ctrl-C */
	STEP_TIMEOUT,
	STEP_ERROR, /* reported; *ret_code */
};

/* --- events ---------------------------------------------------------------------------------- */

int
follow_exit_code(const char *state, int if_rolled_back)
{
	static const char *const failed[] = {"unverified", "failed",     "rejected",
					     "aborted",    "superseded", "rollback-failed"};

	if (streq(state, "succeeded"))
		return EXIT_OK;
	if (streq(state, "rolled-back"))
		return if_rolled_back;
	for (size_t i = 0; i < ARRAY_SIZE(failed); i++)
		if (streq(state, failed[i]))
			return EXIT_FAILED;
	return -1;
}

static bool
wanted(const struct follow *f, const json_t *event)
{
	if (f->id)
		return true;
	return (!f->service || streq(jstr_or(event, "service", ""), f->service)) &&
	       (!f->environment || streq(jstr_or(event, "environment", ""), f->environment));
}

static void
print_event(struct follow *f, const json_t *event)
{
	const char *level = jstr_or(event, "level", "info");
	struct out *o = &f->client->out;
	char at[TEXT_MAX], where[160] = "";
	enum style s = streq(level, "critical")  ? STYLE_BAD
		       : streq(level, "warning") ? STYLE_WARN
						 : STYLE_PLAIN;

	if (f->ndjson)
		out_ndjson(o, event);
	if (!f->id)
		snprintf(where, sizeof where, "  %s/%s", jstr_or(event, "service", "?"),
			 jstr_or(event, "environment", "?"));
	text_clock(at, jstr(event, "at"));
	out_part(o, STYLE_DIM, "%s", at);
	out_part(o, STYLE_PLAIN, "%s", where);
	out_part(o, s, "  %-8s  ", streq(level, "info") ? "" : level);
	out_rest(o, strlen(at) + strlen(where) + 12, s, "%s",
		 jstr_or(event, "text", jstr_or(event, "kind", "?")));
	fflush(stdout);
}

/* Takes a line of the stream; true when the deployment may have ended, or it is time to look. */
static bool
take_event(struct follow *f, const char *line)
{
	json_t *event = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	int64_t seq = jint(event, "seq", 0);
	bool look = false;

	if (jbool(event, "heartbeat")) {
		look = f->id != NULL;
	} else if (seq > f->after) {
		f->after = seq;
		if (wanted(f, event))
			print_event(f, event);
		look = f->id && streq(jstr_or(event, "kind", ""), "state") &&
		       follow_exit_code(jstr_or(event, "state", ""), EXIT_OK) >= 0;
	}
	json_decref(event);
	return look;
}

/* --- looking --------------------------------------------------------------------------------- */

/* A failure that time may heal is STEP_AWAY; any other is reported. */
static enum step
failed(struct follow *f, struct failure *failure, int *ret_code)
{
	enum step step = STEP_AWAY;

	if (!failure->away || (!f->patient && !f->away)) {
		*ret_code = failure_report(f->client, failure);
		step = STEP_ERROR;
	}
	failure_done(failure);
	return step;
}

static void
say_away(struct follow *f, bool away)
{
	if (away && !f->away)
		out_hint(&f->client->out, "dhashd went away; waiting for it to come back…");
	else if (!away && f->away)
		out_hint(&f->client->out, "dhashd is back");
	f->away = away;
}

static enum step
look(struct follow *f, int *ret_code)
{
	struct failure failure = {0};
	json_t *doc = NULL;
	char *path;
	int r;

	if (!f->id)
		return STEP_LIVE;
	path = xasprintf("/v1/deployments/%s", f->id);
	r = api_try(f->client, "GET", path, NULL, LOOK_TIMEOUT_S, &doc, &failure);
	free(path);
	if (r < 0)
		return failed(f, &failure, ret_code);
	json_decref(f->deployment);
	f->deployment = doc;
	f->patient = true;
	say_away(f, false);
	return follow_exit_code(jstr_or(doc, "state", ""), EXIT_OK) >= 0 ? STEP_ENDED : STEP_LIVE;
}

static void
refresh(struct follow *f, usec_t now)
{
	const char *service = jstr(f->deployment, "service");
	struct failure failure = {0};
	json_t *doc = NULL;
	char *path;

	if (!f->client->out.terminal || f->client->out.json || !f->id || !service ||
	    now - f->progressed < USEC_PER_SEC)
		return;
	f->progressed = now;
	path = api_path("/v1/status", service, jstr(f->deployment, "environment"));
	if (api_try(f->client, "GET", path, NULL, LOOK_TIMEOUT_S, &doc, &failure) == 0)
		status_progress(&f->client->out, json_array_get(jarr(doc, "environments"), 0),
				now_realtime());
	else
		failure_done(&failure);
	json_decref(doc);
	free(path);
}

/* --- the stream ------------------------------------------------------------------------------ */

static int
open_events(struct follow *f, bool forever)
{
	char *path = xasprintf("/v1/events?after=%lld%s%s%s", (long long)f->after,
			       forever ? "&follow=1" : "", f->id ? "&deployment=" : "",
			       f->id ? f->id : "");
	int r;

	stream_free(f->stream);
	f->stream = NULL;
	r = stream_open(f->client->conn, path, &f->stream);
	free(path);
	return r;
}

/* The events up to now, once the deployment is known to have ended. */
static void
drain(struct follow *f)
{
	int64_t before;
	const char *line;

	do {
		int r = open_events(f, false);

		before = f->after;
		while (r == 0 &&
		       (r = stream_next(f->stream, TICK_MS, interrupt_fd(), &line)) == 1) {
			take_event(f, line);
			r = 0;
		}
	} while (f->after > before);
}

static int
patience_ms(const struct follow *f, usec_t now)
{
	usec_t left = f->deadline == USEC_INFINITY ? USEC_INFINITY : f->deadline - now;

	return (int)MIN(TICK_MS, MAX(left / USEC_PER_MSEC + 1, 0));
}

static enum step
stream_over(struct follow *f, int r, int *ret_code)
{
	struct failure failure = {0};

	if (r == 0 && stream_status(f->stream) == 200)
		return STEP_LIVE; /* the daemon stopped, or found us too slow: connect again */
	if (r == 0)
		failure_from_answer(&failure, stream_status(f->stream), stream_body(f->stream),
				    strlen(stream_body(f->stream)));
	else
		failure_from_errno(&failure, f->client->socket, r);
	return failed(f, &failure, ret_code);
}

/* Reads events until the deployment ends or something else happens. */
static enum step
listen_events(struct follow *f, int *ret_code)
{
	int r = open_events(f, true);
	enum step step;

	f->heard = now_boottime();
	while (r == 0) {
		const char *line = NULL;
		usec_t now = now_boottime();

		if (now >= f->deadline)
			return STEP_TIMEOUT;
		refresh(f, now);
		r = stream_next(f->stream, patience_ms(f, now), interrupt_fd(), &line);
		if (interrupted(0))
			return STEP_DETACHED;
		if (r == 0 || (r < 0 && r != -EAGAIN))
			return stream_over(f, r, ret_code);
		if (r == -EAGAIN && now_boottime() - f->heard > silence_max)
			return STEP_LIVE; /* not even a heartbeat: connect again */
		if (r == 1) {
			f->heard = now_boottime();
			f->delay_ms = 0;
			f->patient = true;
			say_away(f, false);
			if (take_event(f, line) && (step = look(f, ret_code)) != STEP_LIVE)
				return step;
		}
		r = 0;
	}
	return stream_over(f, r, ret_code);
}

/* Between two attempts to connect. */
static enum step
wait_a_little(struct follow *f)
{
	usec_t left = f->deadline - now_boottime();
	int ms;

	f->delay_ms = MIN(MAX(f->delay_ms * 2, DELAY_MIN_MS), DELAY_MAX_MS);
	ms = (int)MIN((usec_t)f->delay_ms, MAX(left / USEC_PER_MSEC, 0));
	if (interrupted(ms))
		return STEP_DETACHED;
	return now_boottime() >= f->deadline ? STEP_TIMEOUT : STEP_LIVE;
}

int
follow_run(struct follow *f, bool *ret_detached)
{
	int code = EXIT_FAILED;

	*ret_detached = false;
	if (interrupt_catch() < 0)
		return EXIT_FAILED;
	for (;;) {
		enum step step = look(f, &code);

		if (step == STEP_LIVE)
			step = listen_events(f, &code);
		switch (step) {
		case STEP_ENDED:
			drain(f);
			return EXIT_OK;
		case STEP_ERROR:
			return code;
		case STEP_AWAY:
			say_away(f, true);
			/* fallthrough */
		case STEP_LIVE:
			step = wait_a_little(f);
			break;
		default:
			break;
		}
		if (step == STEP_DETACHED || step == STEP_TIMEOUT) {
			*ret_detached = step == STEP_DETACHED;
			return EXIT_RUNNING;
		}
	}
}

void
follow_done(struct follow *f)
{
	stream_free(f->stream);
	json_decref(f->deployment);
	f->stream = NULL;
	f->deployment = NULL;
}

/* --- from now on ----------------------------------------------------------------------------- */

/* The number of an event after `after`, 0 when there is none, -1 when it cannot be had. */
static int64_t
event_after(struct client *c, int64_t after)
{
	char *path = xasprintf("/v1/events?after=%lld&limit=1", (long long)after);
	const char *line;
	struct stream *s;
	int64_t found = -1;
	int r = stream_open(c->conn, path, &s);

	free(path);
	if (r < 0)
		return -1;
	r = stream_next(s, LOOK_TIMEOUT_S * 1000, -1, &line);
	if (r == 0 && stream_status(s) == 200)
		found = 0;
	if (r == 1) {
		json_t *event = json_loads(line, 0, NULL);

		found = jint(event, "seq", -1);
		json_decref(event);
	}
	stream_free(s);
	return found;
}

/* The protocol tells what comes after a number, not which is the last: so the last is looked for by
 * doubling and halving, which takes about twenty small requests however long the history is.  Each
 * round comes nearer whatever is answered: a daemon that errs must not hold us here for ever. */
int64_t
follow_position(struct client *c)
{
	const int64_t most = INT64_MAX / 4;
	int64_t low = event_after(c, 0), high = 1024, found = 0;

	if (low <= 0)
		return 0;
	while (high < most && (found = event_after(c, high)) > 0) {
		low = MAX(found, high + 1);
		high = MIN(low, most / 4 + 1) * 4;
	}
	while (found >= 0 && low < high) {
		int64_t middle = low + (high - low) / 2;

		found = event_after(c, middle);
		if (found > 0)
			low = MAX(found, middle + 1);
		else
			high = middle;
	}
	return low;
}

usec_t
follow_deadline(const struct args *a)
{
	usec_t span;

	if (!given(a, OPT_TIMEOUT) || usec_parse(a->value[OPT_TIMEOUT], &span) < 0)
		return USEC_INFINITY;
	return now_boottime() + span;
}
