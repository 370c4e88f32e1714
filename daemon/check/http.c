/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl asks us to watch sockets and one timer; we tell it what happened and when time is up.
 *
 * Rules that keep this sound: libcurl is called only from drive(), never from within its own
 * callbacks; the timer is touched only where libcurl asks for it; a job is found by
 * CURLINFO_PRIVATE, never by its socket, which libcurl may share between jobs; a finished handle is
 * taken out before its answer is told.  Time-outs are ours: libcurl would look at all of its own
 * before it reads what has arrived meanwhile, and so fail whatever waited while the loop was busy.
 */

#include "daemon/check/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <sys/socket.h>

#include "common/util.h"
#include "daemon/check/credential.h"
#include "daemon/check/http_url.h"
#include "daemon/check/http_watch.h"
#include "daemon/check/lookup.h"

enum { IDLE_HANDLES_MAX = 64, BODY_BEGIN = 4096 };

/* A time-out that comes later than this finds a loop that had no time to look. */
static const usec_t late_usec = 5 * USEC_PER_MSEC, again_usec = 50 * USEC_PER_MSEC;

struct http_job {
	struct http_job *prev, *next;
	struct http_pool *pool;
	CURL *easy;
	struct curl_slist *headers; /* owned */
	bool secret;                /* ... and one of them is to be wiped */
	http_fn *fn;
	void *arg;
	struct event *deadline; /* owned */
	bool again;             /* it was late, and is waited for once more */
	usec_t began, slept;    /* the machine, when it began */
	size_t max_bytes, len, cap;
	bool keep_body, connect_only, too_big, headers_ended;
	bool asleep;              /* the machine slept, and this failed */
	bool by_name;             /* its host is to be looked up */
	bool asked_name, unasked; /* the look-up was begun; it was not: it hangs, or too many do */
	int no_socket;            /* errno of a socket that could not be had; 0 = none failed */
	char *body;               /* owned */
	char error[CURL_ERROR_SIZE];
	char *url; /* owned */
	usec_t timeout_usec;
};

struct http_pool {
	struct event_base *base;
	CURLM *multi;
	struct http_watches *watches; /* owned */
	struct event *timer;
	struct http_job *jobs;
	CURL *idle[IDLE_HANDLES_MAX];
	unsigned n_idle;
	struct event *failed_ev; /* jobs that could not be started wait for their answer */
	struct lookups lookups;
};

static void drive(struct http_pool *p, curl_socket_t fd, int mask);

/* --- events --- */

static void
on_ready(void *arg, int fd, int mask)
{
	drive(arg, fd, mask);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http_pool *p = arg;
	void *watched = http_watch(p->watches, fd, what, socket_arg);

	if (watched != socket_arg)
		curl_multi_assign(p->multi, fd, watched);
	return 0;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct http_pool *p = arg;
	struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};

	return timeout_ms < 0 ? evtimer_del(p->timer) : evtimer_add(p->timer, &tv);
}

/* --- jobs --- */

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_job *j = arg;

	n *= size;
	if (n > j->max_bytes - MIN(j->len, j->max_bytes)) {
		j->too_big = true;
		return 0; /* libcurl's own limit does not see chunked bodies: stop here */
	}
	if (j->keep_body) {
		while (j->cap < j->len + n + 1)
			j->body = xrealloc(j->body, j->cap = j->cap ? j->cap * 2 : BODY_BEGIN);
		memcpy(j->body + j->len, data, n);
		j->body[j->len + n] = '\0';
	}
	j->len += n;
	return n;
}

/* What libcurl calls "couldn't connect" may be our own lack of descriptors: that is kept apart. */
static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	struct http_job *j = arg;
	int fd = socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);

	/* A machine without IPv6 is no failure: the next address is tried. */
	if (fd < 0 && errno != EAFNOSUPPORT)
		j->no_socket = errno;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* For libcurl an answer may end within its headers, for a check it may not. */
static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_job *j = arg;

	n *= size;
	if (n >= 5 && strncmp(line, "HTTP/", 5) == 0)
		j->headers_ended = false;
	else if (n > 0 && (*line == '\r' || *line == '\n'))
		j->headers_ended = true;
	return n;
}

/* --- names --- */

static int
on_lookup(void *state, void *reserved, void *arg)
{
	struct http_job *j = arg;
	char host[URL_HOST_MAX];

	if (!j->by_name)
		return 0;
	url_host(j->url, host, sizeof host);
	j->unasked = !lookups_allow(&j->pool->lookups, host);
	j->asked_name = !j->unasked;
	return j->unasked;
}

static bool
has_address(const struct http_job *j)
{
	curl_off_t lookup = 0;

	return curl_easy_getinfo(j->easy, CURLINFO_NAMELOOKUP_TIME_T, &lookup) == CURLE_OK &&
	       lookup > 0;
}

/* The job ends: does its look-up go on? */
static void
count_lost(struct http_job *j, CURLcode code)
{
	char host[URL_HOST_MAX];

	if (!j->asked_name || code == CURLE_COULDNT_RESOLVE_HOST || has_address(j))
		return;
	lookups_lose(&j->pool->lookups);
	if (code != CURLE_OPERATION_TIMEDOUT)
		return;
	url_host(j->url, host, sizeof host);
	lookups_hold(&j->pool->lookups, host);
}

/* --- ends --- */

static void
job_unlink(struct http_job *j)
{
	if (j->prev)
		j->prev->next = j->next;
	else
		j->pool->jobs = j->next;
	if (j->next)
		j->next->prev = j->prev;
}

/* A handle that did its work keeps nothing of it; a few are kept for the next. */
static void
handle_release(struct http_pool *p, CURL *easy)
{
	if (!easy)
		return;
	if (p->n_idle == IDLE_HANDLES_MAX) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	p->idle[p->n_idle++] = easy;
}

static void
free_headers(struct http_job *j)
{
	for (struct curl_slist *h = j->secret ? j->headers : NULL; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(j->headers);
}

static void
job_free(struct http_job *j)
{
	job_unlink(j);
	if (j->deadline)
		event_free(j->deadline);
	free_headers(j);
	handle_release(j->pool, j->easy);
	free(j->body);
	free(j->url);
	free(j);
}

/* Time was up before libcurl had an address: the resolver's fault, not the service's. */
static bool
unresolved(const struct http_job *j, CURLcode code)
{
	return code == CURLE_OPERATION_TIMEDOUT && !has_address(j);
}

/* The request went out: what is wrong from here on is wrong with the answer.  (libcurl calls
 * headers without end "out of memory", and what is no HTTP an "unsupported protocol".) */
static bool
asked(const struct http_job *j)
{
	curl_off_t at = 0;

	return curl_easy_getinfo(j->easy, CURLINFO_PRETRANSFER_TIME_T, &at) == CURLE_OK && at > 0;
}

/* No local port is left, no address of that family, no memory of the kernel: nobody was asked. */
static bool
no_address(const struct http_job *j, CURLcode code)
{
	long os_error = 0;

	return code == CURLE_COULDNT_CONNECT &&
	       curl_easy_getinfo(j->easy, CURLINFO_OS_ERRNO, &os_error) == CURLE_OK &&
	       (os_error == EADDRNOTAVAIL || os_error == ENOBUFS || os_error == ENOMEM);
}

static enum http_failure
failure_of(const struct http_job *j, CURLcode code)
{
	if ((code != CURLE_OK && j->no_socket) || j->asleep || unresolved(j, code) ||
	    no_address(j, code))
		return HTTP_OBSERVER;
	switch (code) {
	case CURLE_OK:
		return HTTP_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_URL_MALFORMAT:
	case CURLE_FAILED_INIT:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_ABORTED_BY_CALLBACK: /* by us */
		return HTTP_OBSERVER;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_OUT_OF_MEMORY:
		return asked(j) ? HTTP_REFUSED : HTTP_OBSERVER;
	default:
		return HTTP_REFUSED;
	}
}

static void
describe(const struct http_job *j, CURLcode code, char *buf, size_t n)
{
	char host[URL_HOST_MAX], span[USEC_TEXT_MAX];
	long os_error = 0;

	url_host(j->url, host, sizeof host);
	curl_easy_getinfo(j->easy, CURLINFO_OS_ERRNO, &os_error);
	if (j->asleep)
		snprintf(buf, n, "the machine slept while %s was asked", host);
	else if (j->no_socket)
		snprintf(buf, n, "no socket for %s: %s", host, strerror(j->no_socket));
	else if (j->too_big)
		snprintf(buf, n, "the answer of %s is over %zu bytes", host, j->max_bytes);
	else if (j->unasked)
		snprintf(buf, n, "cannot resolve %s: look-ups of names hang already", host);
	else if (unresolved(j, code))
		snprintf(buf, n, "cannot resolve %s within %s", host,
			 usec_format(span, j->timeout_usec));
	else if (code == CURLE_OPERATION_TIMEDOUT)
		snprintf(buf, n, "no answer from %s within %s", host,
			 usec_format(span, j->timeout_usec));
	else if (code == CURLE_COULDNT_CONNECT)
		snprintf(buf, n, "cannot connect to %s: %s", host,
			 os_error ? strerror((int)os_error) : "refused or unreachable");
	else if (code == CURLE_COULDNT_RESOLVE_HOST)
		snprintf(buf, n, "cannot resolve %s", host);
	else
		snprintf(buf, n, "%.100s: %.140s", host,
			 j->error[0] ? j->error : curl_easy_strerror(code));
}

static void
job_finish(struct http_job *j, CURLcode code)
{
	struct http_answer a = {.body = j->body, .len = j->len};
	char why[256] = "", *escaped = NULL;
	http_fn *fn = j->fn;
	void *arg = j->arg;

	if (code == CURLE_OK && !j->connect_only && !j->headers_ended) {
		code = CURLE_PARTIAL_FILE;
		str_copy(j->error, sizeof j->error, "the answer ends within its headers");
	}
	j->asleep = code != CURLE_OK && slept_since(j->slept);
	count_lost(j, code);
	a.failure = failure_of(j, code);
	if (code != CURLE_OK)
		describe(j, code, why, sizeof why);
	escaped = str_escape(why);
	a.why = escaped;
	a.took = now_boottime() - j->began;
	curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &a.status);
	curl_easy_getinfo(j->easy, CURLINFO_CONTENT_TYPE, (char **)&a.type);
	if (code == CURLE_OK && j->keep_body && !j->body)
		a.body = j->body = xcalloc(1, 1);
	j->fn = NULL;
	fn(arg, &a);
	free(escaped);
	job_free(j);
}

static void
drain(struct http_pool *p)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(p->multi, &left))) {
		CURL *easy = m->easy_handle;
		CURLcode code = m->data.result;
		struct http_job *j = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&j);
		curl_multi_remove_handle(p->multi, easy);
		job_finish(j, code);
	}
}

static void
drive(struct http_pool *p, curl_socket_t fd, int mask)
{
	int running;

	curl_multi_socket_action(p->multi, fd, mask, &running);
	drain(p);
}

static void
wait_until(struct http_job *j, usec_t span)
{
	struct timeval tv = {.tv_sec = span / USEC_PER_SEC, .tv_usec = span % USEC_PER_SEC};

	evtimer_add(j->deadline, &tv);
}

/* What came in while the loop was busy is read first: it waits for as long again. */
static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct http_job *j = arg;
	usec_t late = now_boottime() - j->began - j->timeout_usec;

	if (late > late_usec && !j->again) {
		j->again = true;
		wait_until(j, MIN(MAX(late, again_usec), j->timeout_usec));
		return;
	}
	curl_multi_remove_handle(j->pool->multi, j->easy);
	job_finish(j, CURLE_OPERATION_TIMEDOUT);
}

/* --- starting --- */

/* libcurl keeps a copy of each line; that of a secret is wiped with the job. */
static bool
add_headers(struct http_job *j, const struct http_request *r)
{
	char *line, *why = NULL;

	if (r->accept) {
		line = xasprintf("Accept: %s", r->accept);
		j->headers = curl_slist_append(j->headers, line);
		free(line);
	}
	if (r->credential && credential_bearer(r->credential, &line, &why) < 0) {
		str_copy(j->error, sizeof j->error, why);
		free(why);
		return false;
	}
	if (r->credential) {
		j->headers = curl_slist_append(j->headers, line);
		j->secret = true;
		credential_free(line);
	}
	return curl_easy_setopt(j->easy, CURLOPT_HTTPHEADER, j->headers) == CURLE_OK;
}

static bool
configure(struct http_job *j, const struct http_request *r)
{
	CURL *e = j->easy;
	/* Ours comes first, and once more. */
	long ms = (long)(2 * r->timeout_usec / USEC_PER_MSEC) + 1000;
	CURLcode c = CURLE_OK;

	c |= curl_easy_setopt(e, CURLOPT_URL, r->url);
	c |= curl_easy_setopt(e, CURLOPT_PRIVATE, j);
	c |= curl_easy_setopt(e, CURLOPT_ERRORBUFFER, j->error);
	c |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	c |= curl_easy_setopt(e, CURLOPT_QUICK_EXIT,
			      1L); /* a stuck resolver must not hold the loop */
	c |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	c |= curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	c |= curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	c |= curl_easy_setopt(e, CURLOPT_PROXY, "");
	c |= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, ms);
	c |= curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, ms);
	/* Kept connections need no resolving; a new one always resolves afresh. */
	c |= curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
	c |= curl_easy_setopt(e, CURLOPT_RESOLVER_START_FUNCTION, on_lookup);
	c |= curl_easy_setopt(e, CURLOPT_RESOLVER_START_DATA, j);
	c |= curl_easy_setopt(e, CURLOPT_USERAGENT, "dhashd/" DHASH_VERSION);
	c |= curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
	c |= curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, j);
	c |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	c |= curl_easy_setopt(e, CURLOPT_WRITEDATA, j);
	c |= curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	c |= curl_easy_setopt(e, CURLOPT_HEADERDATA, j);
	c |= curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, r->connect_only ? 1L : 0L);
	return c == CURLE_OK && add_headers(j, r);
}

/* Jobs that libcurl refused are answered from the loop, like all others. */
static void
on_failed(evutil_socket_t fd, short what, void *arg)
{
	struct http_pool *p = arg;
	struct http_job *j = p->jobs;

	while (j) {
		struct http_job *next = j->next;

		if (j->cap == SIZE_MAX) {
			j->cap = 0;
			job_finish(j, CURLE_FAILED_INIT);
			next = p->jobs; /* the callback may have changed the list */
		}
		j = next;
	}
}

struct http_job *
http_start(struct http_pool *p, const struct http_request *r, http_fn *fn, void *arg)
{
	struct http_job *j = xcalloc(1, sizeof *j);

	j->pool = p;
	j->fn = fn;
	j->arg = arg;
	j->began = now_boottime();
	j->slept = slept_so_far();
	j->max_bytes = r->max_bytes;
	j->keep_body = r->keep_body;
	j->connect_only = r->connect_only;
	j->timeout_usec = r->timeout_usec;
	j->url = xstrdup(r->url);
	j->by_name = url_by_name(r->url);
	j->next = p->jobs;
	if (p->jobs)
		p->jobs->prev = j;
	p->jobs = j;
	j->deadline = evtimer_new(p->base, on_deadline, j);
	j->easy = p->n_idle > 0 ? p->idle[--p->n_idle] : curl_easy_init();
	if (!j->easy || !j->deadline || !configure(j, r) ||
	    curl_multi_add_handle(p->multi, j->easy) != CURLM_OK) {
		j->cap = SIZE_MAX; /* marks it for on_failed() */
		event_active(p->failed_ev, EV_TIMEOUT, 1);
		return j;
	}
	wait_until(j, r->timeout_usec);
	return j;
}

void
http_cancel(struct http_job *j)
{
	if (!j || !j->fn)
		return; /* its answer is being told right now */
	if (j->easy && j->cap != SIZE_MAX) {
		count_lost(j, CURLE_ABORTED_BY_CALLBACK);
		curl_multi_remove_handle(j->pool->multi, j->easy);
	}
	job_free(j);
}

/* --- life --- */

int
http_pool_new(struct event_base *base, struct http_pool **ret)
{
	struct http_pool *p;

	/* The program's policy for memory: libcurl would call a lack of it a failed check. */
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, xmalloc, free, xrealloc, xstrdup, xcalloc) !=
	    CURLE_OK)
		return -ENOMEM;
	p = xcalloc(1, sizeof *p);
	p->base = base;
	p->watches = http_watches_new(base, on_ready, p);
	lookups_init(&p->lookups);
	p->multi = curl_multi_init();
	p->timer = evtimer_new(base, on_timer, p);
	p->failed_ev = event_new(base, -1, 0, on_failed, p);
	if (!p->multi || !p->timer || !p->failed_ev) {
		http_pool_free(p);
		return -ENOMEM;
	}
	curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
	curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
	curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, 10000L);
	*ret = p;
	return 0;
}

void
http_pool_free(struct http_pool *p)
{
	if (!p)
		return;
	while (p->jobs)
		http_cancel(p->jobs);
	while (p->n_idle > 0)
		curl_easy_cleanup(p->idle[--p->n_idle]);
	if (p->multi)
		curl_multi_cleanup(p->multi);
	if (p->timer)
		event_free(p->timer);
	if (p->failed_ev)
		event_free(p->failed_ev);
	http_watches_free(p->watches);
	free(p);
	curl_global_cleanup();
}
