/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dhash logs: what the journal has of dhashd and its hooks.  Asks no daemon, so that it also tells
 * why there is none.
 */

#include <errno.h>
#include <poll.h>
#include <regex.h>
#include <syslog.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/journal.h"
#include "client/text.h"
#include "common/pattern.h"
#include "common/util.h"

enum { LINES_DEFAULT = 100 };

struct logs {
	struct client *client;
	struct journal *journal; /* owned */
	const char *id, *service, *environment;
	unsigned long lines; /* 0 = all */
	usec_t since;        /* -1 = from the beginning */
	bool follow, has_pattern;
	regex_t pattern;
	unsigned long shown;
};

/* --- one record ------------------------------------------------------------------------------ */

static bool
is(const char *field, const char *wanted)
{
	return !wanted || (field && streq(field, wanted));
}

static bool
wanted(const struct logs *l, const struct journal_record *r)
{
	const char *message = r->field[JF_MESSAGE];

	return is(r->field[JF_SERVICE], l->service) &&
	       is(r->field[JF_ENVIRONMENT], l->environment) &&
	       (!l->has_pattern || (message && regexec(&l->pattern, message, 0, NULL, 0) == 0));
}

static const char *const priorities[] = {"emergency", "alert",  "critical", "error",
					 "warning",   "notice", "info",     "debug"};

static enum style
priority_style(int priority)
{
	static const enum style styles[] = {
		[LOG_EMERG] = STYLE_BAD,  [LOG_ALERT] = STYLE_BAD,    [LOG_CRIT] = STYLE_BAD,
		[LOG_ERR] = STYLE_BAD,    [LOG_WARNING] = STYLE_WARN, [LOG_NOTICE] = STYLE_BOLD,
		[LOG_INFO] = STYLE_PLAIN, [LOG_DEBUG] = STYLE_DIM,
	};

	return styles[priority];
}

static const char *
or_nothing(const char *s)
{
	return s ? s : "";
}

/* "2024-01-01T12:00:00.000Z warning hook deploy-… shop/production: message" */
static void
print_text(struct logs *l, const struct journal_record *r)
{
	const char *service = or_nothing(r->field[JF_SERVICE]);
	const char *environment = or_nothing(r->field[JF_ENVIRONMENT]);
	const char *id = l->id ? "" : or_nothing(r->field[JF_DEPLOYMENT]);
	struct out *o = &l->client->out;
	char at[USEC_TEXT_MAX];

	out_part(o, STYLE_DIM, "%s %-8s %-7s%s%s", wall_format(at, r->at), priorities[r->priority],
		 journal_source_name(r->source), *id ? " " : "", id);
	out_part(o, STYLE_DIM, "%s%s%s%s: ", *service || *environment ? " " : "", service,
		 *environment ? "/" : "", environment);
	out_part(o, priority_style(r->priority), "%s", or_nothing(r->field[JF_MESSAGE]));
	out_end(o);
}

static void
print_json(struct logs *l, const struct journal_record *r)
{
	static const char *const keys[_JF_MAX] = {
		[JF_MESSAGE] = "message",
		[JF_MESSAGE_ID] = "message_id",
		[JF_KIND] = "kind",
		[JF_SERVICE] = "service",
		[JF_ENVIRONMENT] = "environment",
		[JF_DEPLOYMENT] = "deployment",
		[JF_TAG] = "tag",
		[JF_RULE] = "rule",
		[JF_DECISION] = "decision",
		[JF_ACTOR_UID] = "actor_uid",
		[JF_UNIT] = "unit",
	};
	char at[USEC_TEXT_MAX];
	json_t *doc = json_pack("{s:s, s:s, s:s}", "at", wall_format(at, r->at), "priority",
				priorities[r->priority], "source", journal_source_name(r->source));

	for (int i = 0; i < _JF_MAX; i++)
		json_object_set_new(doc, keys[i],
				    r->field[i] ? json_string(r->field[i]) : json_null());
	out_ndjson(&l->client->out, doc);
	l->client->out.told = true;
	json_decref(doc);
}

/* Shows the record that was stepped to, if it is wanted and wants to be shown; says whether it is.
 */
static bool
take(struct logs *l, bool show)
{
	struct journal_record r;
	bool take_it;

	journal_get(l->journal, &r);
	take_it = wanted(l, &r) && (l->since < 0 || r.at >= l->since);
	if (take_it && show) {
		l->shown++;
		if (l->client->out.json)
			print_json(l, &r);
		else
			print_text(l, &r);
	}
	journal_record_done(&r);
	return take_it;
}

/* --- what is there --------------------------------------------------------------------------- */

static int
seek_begin(struct logs *l)
{
	return l->since < 0 ? journal_seek_head(l->journal)
			    : journal_seek_time(l->journal, l->since);
}

static bool
before_since(struct logs *l)
{
	struct journal_record r;
	bool before;

	if (l->since < 0)
		return false;
	journal_get(l->journal, &r);
	before = r.at < l->since;
	journal_record_done(&r);
	return before;
}

/* Goes back over so many wanted records, and shows the one that it stands on then. */
static int
seek_last_lines(struct logs *l)
{
	unsigned long n = 0;
	int r = journal_seek_tail(l->journal);

	while (r >= 0 && (r = journal_previous(l->journal)) > 0 && !before_since(l)) {
		n += take(l, false);
		if (n == l->lines) {
			take(l, true);
			return 0;
		}
	}
	return r < 0 ? r : seek_begin(l);
}

static int
show_rest(struct logs *l)
{
	int r;

	while ((r = journal_next(l->journal)) > 0) {
		take(l, true);
		if (l->follow && interrupted(0))
			break;
	}
	fflush(stdout);
	return r;
}

static int
show_present(struct logs *l)
{
	int r = l->lines > 0 ? seek_last_lines(l) : seek_begin(l);

	return r < 0 ? r : show_rest(l);
}

/* --- what comes ------------------------------------------------------------------------------ */

/* 1: the journal has something; 0: nobody wants to know any more; or -errno. */
static int
wait_for_news(struct logs *l)
{
	struct pollfd p[3] = {
		{.fd = interrupt_fd(), .events = POLLIN},
		{.fd = STDOUT_FILENO}, /* whose reader may go: an error, always polled for */
	};
	int timeout_ms, fd = journal_poll_fd(l->journal, &p[2].events, &timeout_ms);

	if (fd < 0)
		return fd;
	p[2].fd = fd;
	if (poll(p, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (interrupted(0) || p[1].revents & (POLLERR | POLLHUP | POLLNVAL))
		return 0;
	return 1;
}

static int
follow(struct logs *l)
{
	int r = journal_follow(l->journal);

	/* What is vacuumed or rotated away meanwhile, sd-journal steps over. */
	while (r >= 0 && (r = wait_for_news(l)) > 0) {
		r = journal_process(l->journal);
		if (r >= 0)
			r = show_rest(l);
		if (ferror(stdout))
			return 0;
	}
	return r;
}

/* --- the command ----------------------------------------------------------------------------- */

static int
not_opened(struct client *c, const char *directory, int error)
{
	const char *where = directory ? directory : "this machine's journal";

	if (error == -EACCES) {
		out_error(&c->out, "cannot read %s: permission denied", where);
		if (directory)
			out_hint(&c->out, "its files (*.journal) must be readable by you");
		else
			out_hint(&c->out,
				 "members of the group systemd-journal or adm may read it: sudo "
				 "usermod -aG systemd-journal $USER (counts from the next login)");
		return EXIT_DENIED;
	}
	if (error == -ENOENT && directory)
		out_error(&c->out, "there is no journal in %s (no *.journal file)", directory);
	else if (error == -ENOENT)
		out_error(&c->out, "there is no journal on this machine: neither /run/log/journal "
				   "nor /var/log/journal has a file; is systemd-journald running?");
	else
		out_error(&c->out, "cannot read %s: %s", where, strerror(-error));
	return EXIT_FAILED;
}

static int
failed(struct logs *l, int error)
{
	out_error(&l->client->out, "cannot go on reading the journal: %s", strerror(-error));
	return EXIT_FAILED;
}

/* Nothing was shown: because nothing is wanted of what is there, or because nothing is there? */
static int
nothing_shown(struct logs *l)
{
	int r = journal_seek_head(l->journal);

	if (r >= 0)
		r = journal_next(l->journal);
	if (r < 0)
		return failed(l, r);
	if (r == 0 && l->id) {
		out_error(&l->client->out, "the journal has no record of deployment %s", l->id);
		out_hint(&l->client->out, "it may be misspelt, or too old; dhash history lists the "
					  "deployments, dhash show ID tells of one");
		return EXIT_UNKNOWN;
	}
	if (!l->follow)
		out_hint(&l->client->out, "%s",
			 r == 0 ? "the journal has no record of dhashd" : "no record matches");
	return EXIT_OK;
}

static int
show(struct logs *l)
{
	int r = l->follow ? interrupt_catch() : 0, code;

	if (r >= 0)
		r = show_present(l);
	if (r < 0)
		return failed(l, r);
	if (l->shown == 0 && (code = nothing_shown(l)) != EXIT_OK)
		return code;
	if (!l->follow)
		return EXIT_OK;
	/* Its look at the journal was from the beginning. */
	if (l->shown == 0 && ((r = seek_begin(l)) < 0 || (r = show_rest(l)) < 0))
		return failed(l, r);
	r = follow(l);
	return r < 0 ? failed(l, r) : EXIT_OK;
}

static int
compile(struct logs *l, const char *expression)
{
	int flags = pattern_has_capital(expression) ? 0 : PATTERN_ANY_CASE;
	char why[PATTERN_WHY_MAX];

	l->has_pattern = pattern_compile(expression, flags, &l->pattern, why) == 0;
	if (l->has_pattern)
		return EXIT_OK;
	out_error(&l->client->out, "--grep: \"%s\" is no expression: column %zu: %s", expression,
		  pattern_bad_column(expression), why);
	return EXIT_USAGE;
}

static int
run(struct logs *l, const struct args *a)
{
	const char *directory = a->value[OPT_DIRECTORY];
	int code = given(a, OPT_GREP) ? compile(l, a->value[OPT_GREP]) : EXIT_OK, r;

	if (code != EXIT_OK)
		return code;
	r = journal_open(directory, l->id, &l->journal);
	code = r < 0 ? not_opened(l->client, directory, r) : show(l);
	journal_free(l->journal);
	if (l->has_pattern)
		regfree(&l->pattern);
	return code;
}

int
cmd_logs(struct client *c, const struct args *a)
{
	struct logs l = {
		.client = c,
		.id = a->n_words > 0 ? a->word[0] : NULL,
		.service = a->value[OPT_SERVICE],
		.environment = a->value[OPT_ENV],
		.since = -1,
		.follow = given(a, OPT_FOLLOW),
	};

	if (l.id && !name_valid(l.id)) {
		out_error(&c->out, "\"%s\" is no id of a deployment", l.id);
		return EXIT_USAGE;
	}
	if (given(a, OPT_LINES))
		l.lines = strtoul(a->value[OPT_LINES], NULL, 10);
	else if (!l.id && !given(a, OPT_SINCE))
		l.lines = LINES_DEFAULT;
	if (given(a, OPT_SINCE) &&
	    text_parse_moment(a->value[OPT_SINCE], now_realtime(), &l.since) < 0)
		return EXIT_USAGE; /* told by args_parse() */
	return run(&l, a);
}
