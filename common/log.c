/* SPDX-License-Identifier: Apache-2.0 */

#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "common/log_queue.h"
#include "common/time-util.h"
#include "common/util.h"

/* The ids are for ever: catalogs and people's queries name them. */
static const struct {
	const char *name, *id;
} kinds[_LOG_KIND_MAX] = {
	[LOG_KIND_GENERIC] = {"generic", "0df37566268d4caf94459cd4002afe27"},
	[LOG_KIND_DAEMON_START] = {"daemon-start", "58a9b8e852554e59b50d59e4ee738e07"},
	[LOG_KIND_DAEMON_STOP] = {"daemon-stop", "e9a62577e2ef488283062d2f97cec771"},
	[LOG_KIND_CONFIG_LOADED] = {"config-loaded", "8398b5162b4048a998db3adf6033fa47"},
	[LOG_KIND_CONFIG_ERROR] = {"config-error", "81388f93ec0748b7b7a84c025b1ac33f"},
	[LOG_KIND_STATE] = {"state", "106ab80dc4e1455285e1dde12da54622"},
	[LOG_KIND_PHASE] = {"phase", "2866e50207104ea38d541912d90ed7d2"},
	[LOG_KIND_SAMPLE_BAD] = {"sample-bad", "6067c41cc05742f9b3334d496d09f50f"},
	[LOG_KIND_VERDICT] = {"verdict", "3439a28e772b44c29da4dbcad5635fa0"},
	[LOG_KIND_DECISION] = {"decision", "dc9b83d5cff74a99a90d8ec4eb9869b5"},
	[LOG_KIND_ALERT] = {"alert", "54a7c9218a874bf69f34fe5af86f3796"},
	[LOG_KIND_ALERT_RESOLVED] = {"alert-resolved", "8bfdc07cccc74efd9584bded6c86daf7"},
	[LOG_KIND_ESCALATION] = {"escalation", "1b23ba4e8bd24c49acb39f9ec1ff4916"},
	[LOG_KIND_HOOK_STARTED] = {"hook-started", "b8d92e4fcdc844aba513e67c4212c088"},
	[LOG_KIND_HOOK_FINISHED] = {"hook-finished", "de8cd2b3199444538a36ee41b8cff61a"},
	[LOG_KIND_HOOK_UNKNOWN] = {"hook-unknown", "4ae8a9316ee54ec0bd7efdba3184d6ff"},
	[LOG_KIND_HOOK_OUTPUT] = {"hook-output", "1a6890fac4574e328397b703828a6b72"},
	[LOG_KIND_BACKUP] = {"backup", "6d4bbbed41bc4b60a90a3b1f24d3c629"},
	[LOG_KIND_BACKUP_CORRUPT] = {"backup-corrupt", "4e907f6087dc481a903a7a377d6def41"},
	[LOG_KIND_GATE] = {"gate", "2ef1477a529e4320b413b5199d634e2a"},
	[LOG_KIND_ROLLED_BACK] = {"rolled-back", "a9682e2e3c7e40f5babc1f269e15ad2b"},
	[LOG_KIND_ROLLBACK_FAILED] = {"rollback-failed", "c68acb2bdbc240e29a0a8b01e0c240ba"},
	[LOG_KIND_RESTORED] = {"restored", "5e8c0808acce4caf813309dc93e5c69a"},
	[LOG_KIND_REQUEST] = {"request", "1d81d751600c4c32929ef5662e453dcd"},
	[LOG_KIND_STORE_ERROR] = {"store-error", "b7f1ec8adf534f47981aef28e8f21171"},
	[LOG_KIND_STORE_SET_ASIDE] = {"store-set-aside", "81b46cb1140349e6acb79f6fdfbe4ef4"},
	[LOG_KIND_READ_ONLY] = {"read-only", "284d3139df084686998861dea3b05940"},
	[LOG_KIND_WRITABLE] = {"writable", "53967f8c2678423e8ec8e70a8c8b4376"},
	[LOG_KIND_START_FAILED] = {"start-failed", "6a959f930c804067831cf834c650e57f"},
	[LOG_KIND_UNGUARDED] = {"unguarded", "20bace37e5c24edfb226317abcd57499"},
	[LOG_KIND_HOOK_NOT_STARTED] = {"hook-not-started", "d0787526e63b4b5888a532c86f254d5e"},
	[LOG_KIND_CONTROL_SOCKET] = {"control-socket", "27a540041bac4bb18c9ae882ad42055d"},
	[LOG_KIND_LOG_DROPPED] = {"log-dropped", "c8db0a8aad3f44139de46a2db2d989d9"},
	[LOG_KIND_MISTAKE] = {"mistake", "e8352ba8f1874e6e99c98aaf7b2dc716"},
};

static struct {
	const char *identifier;
	bool journal;
	_Atomic int level; /* a reload sets it while other threads log */
	int socket;        /* owned; what never waits sends by it; -1 = none */
} logger = {.identifier = "dhash", .level = LOG_INFO, .socket = -1};

const char *
log_kind_name(enum log_kind k)
{
	return kinds[k].name;
}

const char *
log_kind_id(enum log_kind k)
{
	return kinds[k].id;
}

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/*
 * systemd tells which stream the journal reads: is it really our standard error?  And can the
 * structured records get there?  libsystemd drops them without a word where it sees no socket, as
 * in a service with a root folder of its own.
 */
static bool
stderr_is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return s && sscanf(s, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino && access(JOURNAL_SOCKET, W_OK) == 0;
}

void
log_init(const char *identifier)
{
	logger.identifier = identifier;
	logger.journal = stderr_is_journal();
}

void
log_set_level(int priority)
{
	logger.level = priority;
}

/* --- records --- */

static void
field(struct log_record *r, const char *name, const char *value)
{
	char *text, *escaped;

	if (!value || !*value || r->n == LOG_FIELDS_MAX)
		return;
	escaped = str_escape(value);
	text = xasprintf("%s=%s", name, escaped);
	free(escaped);
	r->v[r->n++] = (struct iovec){.iov_base = text, .iov_len = strlen(text)};
	r->bytes += strlen(text);
}

static void
context_fields(struct log_record *r, const struct log_fields *f)
{
	char number[16];

	field(r, "DHASH_SERVICE", f->service);
	field(r, "DHASH_ENVIRONMENT", f->environment);
	field(r, "DHASH_DEPLOYMENT", f->deployment);
	field(r, "DHASH_TAG", f->tag);
	field(r, "DHASH_RULE", f->rule);
	field(r, "DHASH_DECISION", f->decision);
	if (f->actor) {
		snprintf(number, sizeof number, "%u", f->actor_uid);
		field(r, "DHASH_ACTOR_UID", number);
	}
}

static const char *
or_nothing(const char *s)
{
	return s ? s : "";
}

static char *
line_of(int priority, const struct log_fields *f, const char *message)
{
	static const char *const names[] = {"emergency", "alert",  "critical", "error",
					    "warning",   "notice", "info",     "debug"};
	const char *id = or_nothing(f->deployment), *service = or_nothing(f->service);
	const char *environment = or_nothing(f->environment);
	char stamp[USEC_TEXT_MAX], *text, *escaped, *line;

	text = xasprintf("%s%s%s%s%s%s%s", id, *id ? " " : "", service, *environment ? "/" : "",
			 environment, *service || *environment ? ": " : "", message);
	escaped = str_escape(text);
	line = xasprintf("%s %s %s\n", wall_format(stamp, now_realtime()), names[priority & 7],
			 escaped);
	free(escaped);
	free(text);
	return line;
}

static struct log_record *
record_new(enum log_kind kind, int priority, const struct log_fields *f, const char *message)
{
	static const struct log_fields none;
	struct log_record *r = xcalloc(1, sizeof *r);
	char number[16];

	r->priority = priority;
	r->line = line_of(priority, f ? f : &none, message);
	r->bytes = sizeof *r + strlen(r->line);
	snprintf(number, sizeof number, "%d", priority);
	field(r, "MESSAGE", message);
	field(r, "PRIORITY", number);
	field(r, "SYSLOG_IDENTIFIER", logger.identifier);
	if (kind != LOG_KIND_GENERIC)
		field(r, "MESSAGE_ID", kinds[kind].id);
	field(r, "DHASH_KIND", kinds[kind].name);
	context_fields(r, f ? f : &none);
	return r;
}

/* --- sending --- */

/* One write where the kernel takes it whole: lines of threads never mix.  Where it fails there is
 * nowhere left to say so. */
static void
put_line(const char *line)
{
	size_t left = strlen(line);

	while (left > 0) {
		ssize_t n = write(STDERR_FILENO, line, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line += n;
		left -= (size_t)n;
	}
}

static void
send_record(const struct log_record *r)
{
	if (!logger.journal || sd_journal_sendv(r->v, r->n) != 0)
		put_line(r->line);
}

/*
 * What libsystemd sends, but it would wait: lines of NAME=value, which is the journal's native
 * protocol for values without a newline, and there is none in what was escaped.  A record that is
 * too long for a datagram is left to libsystemd.
 */
static bool
try_send_record(const struct log_record *r)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
	struct iovec v[2 * LOG_FIELDS_MAX];
	struct msghdr m = {
		.msg_name = &to,
		.msg_namelen = sizeof to,
		.msg_iov = v,
		.msg_iovlen = 2 * (size_t)r->n,
	};

	for (int i = 0; i < r->n; i++) {
		v[2 * i] = r->v[i];
		v[2 * i + 1] = (struct iovec){.iov_base = (char *)"\n", .iov_len = 1};
	}
	return sendmsg(logger.socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static struct log_record *
dropped_record(unsigned long n)
{
	char *text = xasprintf("%lu record%s for the journal dropped, as it took none for a while",
			       n, n == 1 ? "" : "s");
	struct log_record *r = record_new(LOG_KIND_LOG_DROPPED, LOG_WARNING, NULL, text);

	free(text);
	return r;
}

/* --- for everybody --- */

enum { FLUSH_USEC = 2000000 };

void
log_start(void)
{
	static const struct log_queue_ops ops = {
		.try_send = try_send_record, .send = send_record, .dropped = dropped_record};

	if (!logger.journal)
		return;
	if (logger.socket < 0)
		logger.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (logger.socket >= 0)
		log_queue_start(&ops); /* without it, records are sent as before */
}

void
log_flush(void)
{
	log_queue_flush(FLUSH_USEC);
}

void
log_stop(void)
{
	log_queue_stop(FLUSH_USEC);
}

void
log_event(enum log_kind kind, int priority, const struct log_fields *fields, const char *fmt, ...)
{
	int saved = errno;
	struct log_record *r;
	char *text;
	va_list ap;

	if (priority > logger.level)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = xstrdup(fmt);
	va_end(ap);
	r = record_new(kind, priority, fields, text);
	free(text);
	if (!log_queue_put(r)) {
		send_record(r);
		log_record_free(r);
	}
	errno = saved;
}
