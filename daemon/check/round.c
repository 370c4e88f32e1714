/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/check/round.h"

#include <errno.h>
#include <event2/event.h>
#include <math.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/check/exec.h"
#include "daemon/check/http.h"
#include "daemon/check/metrics.h"
#include "common/pattern.h"
#include "daemon/conf.h"

enum { BODY_MAX = 1 << 20 };

/* One check of a round, and how it came out. */
struct probe {
	struct observer *observer;
	const struct conf_check *check;
	struct http_job *http;
	struct exec_job *exec;
	regex_t body;
	bool has_body;
	bool running;
	enum result result;
	char detail[160];
};

struct observer {
	struct event_base *base;
	struct http_pool *pool;
	const struct conf_env *env;

	struct probe *probes; /* owned; the reference check, where there is one, is the last */
	size_t n_probes;      /* without the reference */
	struct probe *reference;
	unsigned running;
	usec_t began;
	observer_fn *health_fn;
	void *health_arg;
	struct event *none; /* answers a round without checks */

	struct metrics *metrics; /* owned; NULL = no source */
	struct http_job *scrape;
	observer_fn *scrape_fn;
	observer_probe_fn *probe_fn;
	void *scrape_arg, *probe_arg;
	struct http_job *probing;
	bool reset_meanwhile; /* while a scrape was out */
};

/* --- one check --- */

static void round_step(struct observer *o);

/* As snprintf(), but what is cut is cut between characters: details go out as UTF-8. */
__attribute__((format(printf, 3, 4))) static void
put(char *buf, size_t n, const char *fmt, ...)
{
	char whole[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(whole, sizeof whole, fmt, ap);
	va_end(ap);
	str_copy(buf, n, whole);
}

static void
probe_done(struct probe *p, enum result result, const char *text)
{
	p->running = false;
	p->http = NULL;
	p->exec = NULL;
	p->result = result;
	put(p->detail, sizeof p->detail, "%s: %s", p->check->name, text);
	p->observer->running--;
	round_step(p->observer);
}

/* "200-299,301" was checked when it was read. */
static bool
status_expected(const char *expect, long status)
{
	for (const char *p = expect; p && *p;) {
		long from, to;
		char *end;

		from = to = strtol(p, &end, 10);
		if (*end == '-')
			to = strtol(end + 1, &end, 10);
		if (status >= from && status <= to)
			return true;
		p = end + strspn(end, " ,");
		if (end == p)
			break;
	}
	return false;
}

static void
on_http(void *arg, const struct http_answer *a)
{
	struct probe *p = arg;
	char text[128];

	if (a->failure != HTTP_ANSWERED) {
		probe_done(p, a->failure == HTTP_OBSERVER ? RESULT_ERROR : RESULT_BAD, a->why);
	} else if (p->check->type == CHECK_TCP) {
		probe_done(p, RESULT_OK, "connected");
	} else if (!status_expected(p->check->expect, a->status)) {
		snprintf(text, sizeof text, "HTTP %ld, %s expected", a->status, p->check->expect);
		probe_done(p, RESULT_BAD, text);
	} else if (p->has_body && regexec(&p->body, a->body, 0, NULL, 0) != 0) {
		snprintf(text, sizeof text,
			 "HTTP %ld, but the body does not match Body=", a->status);
		probe_done(p, RESULT_BAD, text);
	} else {
		snprintf(text, sizeof text, "HTTP %ld", a->status);
		probe_done(p, RESULT_OK, text);
	}
}

static void
on_exec(void *arg, const struct exec_answer *a)
{
	static const enum result results[] = {
		[PLUGIN_OK] = RESULT_OK,
		[PLUGIN_WARNING] = RESULT_OK,
		[PLUGIN_CRITICAL] = RESULT_BAD,
		[PLUGIN_UNKNOWN] = RESULT_ERROR,
	};

	probe_done(arg, a->timed_out ? RESULT_BAD : results[a->status], a->text);
}

static void
probe_start(struct probe *p)
{
	const struct conf_check *c = p->check;
	struct http_request r = {
		.url = c->url,
		.credential = c->credential,
		.timeout_usec = c->timeout_usec,
		.max_bytes = BODY_MAX,
		.keep_body = p->has_body,
	};
	char *url = NULL;

	p->running = true;
	p->result = RESULT_ERROR;
	p->observer->running++;
	if (c->type == CHECK_EXEC) {
		p->exec =
			exec_start(p->observer->base, c->argv, p->observer->env->working_directory,
				   c->timeout_usec, on_exec, p);
		return;
	}
	if (c->type == CHECK_TCP) {
		r.url = url = xasprintf("http://%s", c->address);
		r.connect_only = true;
	}
	p->http = http_start(p->observer->pool, &r, on_http, p);
	free(url);
}

static void
probe_init(struct probe *p, struct observer *o, const struct conf_check *c)
{
	char why[PATTERN_WHY_MAX];

	p->observer = o;
	p->check = c;
	/* The configuration took it: it compiles. */
	p->has_body = c->body && pattern_compile(c->body, 0, &p->body, why) == 0;
}

static void
probe_stop(struct probe *p)
{
	if (p->running && p->http)
		http_cancel(p->http);
	if (p->running && p->exec)
		exec_cancel(p->exec);
	if (p->has_body)
		regfree(&p->body);
}

/* --- a round --- */

static void
join(char *buf, size_t n, const char *text)
{
	size_t used = strlen(buf);

	put(buf + used, n - used, "%s%s", used ? "; " : "", text);
}

struct tally {
	unsigned required, bad, error;
	unsigned infra, infra_bad, infra_error;
	struct sample *sample;
	char failed[SAMPLE_DETAIL_MAX], passed[SAMPLE_DETAIL_MAX];
};

static void
count(struct tally *t, const struct probe *p)
{
	bool failed = p->result != RESULT_OK;

	join(failed ? t->failed : t->passed, SAMPLE_DETAIL_MAX, p->detail);
	if (p->check->infrastructure) {
		t->infra++;
		t->infra_bad += p->result == RESULT_BAD;
		t->infra_error += p->result == RESULT_ERROR;
	} else if (p->check->required) {
		t->required++;
		t->bad += p->result == RESULT_BAD;
		t->error += p->result == RESULT_ERROR;
	}
}

static enum result
verdict(const struct tally *t)
{
	if (t->bad > 0)
		return RESULT_BAD;
	if (t->error > 0)
		return RESULT_ERROR;
	return t->required > 0 ? RESULT_OK : RESULT_NO_DATA;
}

/* One that is critical says so whatever the others are; that all is well only all can say. */
static void
infra_verdict(const struct tally *t)
{
	t->sample->infra_critical = t->infra_bad > 0;
	t->sample->infra_known = t->infra_bad > 0 || (t->infra > 0 && t->infra_error == 0);
}

/* Then nothing that seemed bad is known to be: neither the service nor the infrastructure. */
static void
cut_off(struct sample *s, const struct probe *reference)
{
	if (s->result == RESULT_BAD) {
		s->result = RESULT_ERROR;
		s->all_failed = false;
	}
	if (s->infra_critical)
		s->infra_critical = s->infra_known = false;
	put(s->detail, sizeof s->detail, "observer cut off: %s", reference->detail);
}

static void
round_finish(struct observer *o)
{
	struct sample s = {.kind = SAMPLE_HEALTH, .took = now_boottime() - o->began};
	struct tally t = {.sample = &s};
	observer_fn *fn = o->health_fn;

	s.rate.value = s.latency.value = NAN;
	for (size_t i = 0; i < o->n_probes; i++)
		count(&t, &o->probes[i]);
	s.result = verdict(&t);
	s.all_failed = t.required > 0 && t.bad == t.required;
	infra_verdict(&t);
	str_copy(s.detail, sizeof s.detail, t.failed[0] ? t.failed : t.passed);
	if (o->reference && o->reference->detail[0] && o->reference->result != RESULT_OK)
		cut_off(&s, o->reference);
	o->health_fn = NULL;
	fn(o->health_arg, &s);
}

/* Anything bad that counts, be it the service's or the infrastructure's. */
static bool
round_is_bad(const struct observer *o)
{
	for (size_t i = 0; i < o->n_probes; i++)
		if (o->probes[i].result == RESULT_BAD &&
		    (o->probes[i].check->required || o->probes[i].check->infrastructure))
			return true;
	return false;
}

/* After each answer: when all are in and one is bad, the reference is asked; then the round is
 * told. */
static void
round_step(struct observer *o)
{
	if (o->running > 0)
		return;
	if (o->reference && o->reference->detail[0] == '\0' && round_is_bad(o))
		probe_start(o->reference);
	else
		round_finish(o);
}

static void
on_none(evutil_socket_t fd, short what, void *arg)
{
	struct observer *o = arg;

	if (o->health_fn)
		round_finish(o);
}

int
observer_health(struct observer *o, observer_fn *fn, void *arg)
{
	if (o->health_fn)
		return -EBUSY;
	o->health_fn = fn;
	o->health_arg = arg;
	o->began = now_boottime();
	if (o->reference)
		o->reference->detail[0] = '\0';
	if (o->n_probes == 0)
		event_active(o->none, EV_TIMEOUT, 1);
	for (size_t i = 0; i < o->n_probes; i++)
		probe_start(&o->probes[i]);
	return 0;
}

/* --- metrics --- */

static const char accept_text[] = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

static struct http_job *
scrape_start(struct observer *o, http_fn *fn)
{
	struct http_request r = {
		.url = o->env->metrics.url,
		.accept = accept_text,
		.credential = o->env->metrics.credential,
		.timeout_usec = o->env->metrics.timeout_usec,
		.max_bytes = o->env->metrics.max_bytes,
		.keep_body = true,
	};

	return http_start(o->pool, &r, fn, o);
}

static void
on_scrape(void *arg, const struct http_answer *a)
{
	struct observer *o = arg;
	struct sample s = {.kind = SAMPLE_METRICS, .result = RESULT_NO_DATA, .took = a->took};
	observer_fn *fn = o->scrape_fn;

	s.rate = s.latency = (struct series){.result = RESULT_NO_DATA, .value = NAN};
	if (a->failure == HTTP_OBSERVER)
		s.result = RESULT_ERROR;
	if (a->failure != HTTP_ANSWERED)
		str_copy(s.detail, sizeof s.detail, a->why);
	else if (a->status != 200)
		snprintf(s.detail, sizeof s.detail, "HTTP %ld from the metrics source", a->status);
	else
		metrics_take(o->metrics, &(struct exposition){a->body, a->len, a->type},
			     now_boottime(), &s);
	if (o->reset_meanwhile)
		metrics_reset(o->metrics); /* it was asked of what was there before */
	o->reset_meanwhile = false;
	o->scrape = NULL;
	o->scrape_fn = NULL;
	fn(o->scrape_arg, &s);
}

int
observer_scrape(struct observer *o, observer_fn *fn, void *arg)
{
	if (!o->metrics)
		return -ENOENT;
	if (o->scrape_fn)
		return -EBUSY;
	o->scrape_fn = fn;
	o->scrape_arg = arg;
	o->scrape = scrape_start(o, on_scrape);
	return 0;
}

void
observer_reset(struct observer *o)
{
	if (!o || !o->metrics)
		return;
	metrics_reset(o->metrics);
	o->reset_meanwhile = o->scrape != NULL;
}

static void
on_probe(void *arg, const struct http_answer *a)
{
	struct observer *o = arg;
	observer_probe_fn *fn = o->probe_fn;
	char *text = NULL;
	int r = -EHOSTUNREACH;

	if (a->failure != HTTP_ANSWERED)
		text = xasprintf("the metrics source does not answer: %s", a->why);
	else if (a->status != 200)
		text = xasprintf("the metrics source answers HTTP %ld", a->status);
	else
		r = metrics_probe(o->metrics, &(struct exposition){a->body, a->len, a->type},
				  &text);
	if (r == -EBADMSG)
		r = -EHOSTUNREACH;
	o->probing = NULL;
	o->probe_fn = NULL;
	fn(o->probe_arg, r, text);
	free(text);
}

int
observer_probe_metrics(struct observer *o, observer_probe_fn *fn, void *arg)
{
	if (!o->metrics)
		return -ENOENT;
	if (o->probe_fn)
		return -EBUSY;
	o->probe_fn = fn;
	o->probe_arg = arg;
	o->probing = scrape_start(o, on_probe);
	return 0;
}

/* --- life --- */

static void
add_checks(struct observer *o)
{
	size_t n = 0;

	while (o->env->checks && o->env->checks[n])
		n++;
	o->probes = xcalloc(n + 1, sizeof *o->probes);
	o->n_probes = n;
	for (size_t i = 0; i < n; i++)
		probe_init(&o->probes[i], o, o->env->checks[i]);
	if (o->env->reference) {
		o->reference = &o->probes[n];
		probe_init(o->reference, o, o->env->reference);
	}
}

struct observer *
observer_new(struct event_base *base, struct http_pool *pool, const struct conf_env *env)
{
	struct observer *o = xcalloc(1, sizeof *o);
	const struct rule_policy *p95 = &env->policy.rules[RULE_LATENCY_P95];
	struct metrics_limits limits = {
		.latency_limit = p95->mode == RULE_OFF ? INFINITY : p95->limit,
		.latency_warn = p95->warn_limit,
	};
	char *error = NULL;

	o->base = base;
	o->pool = pool;
	o->env = env;
	o->none = event_new(base, -1, 0, on_none, o);
	add_checks(o);
	if (env->metrics.url)
		metrics_new(&env->metrics, &limits, &o->metrics, &error);
	free(error); /* the selectors were checked with the configuration */
	return o;
}

struct observer *
observer_like(const struct observer *o, const struct conf_env *env)
{
	return o ? observer_new(o->base, o->pool, env) : NULL;
}

void
observer_free(struct observer *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->n_probes + (o->reference != NULL); i++)
		probe_stop(&o->probes[i]);
	http_cancel(o->scrape);
	http_cancel(o->probing);
	metrics_free(o->metrics);
	event_free(o->none);
	free(o->probes);
	free(o);
}
