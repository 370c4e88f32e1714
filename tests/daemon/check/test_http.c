/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP and TCP probes against real sockets that answer well, badly, slowly, without end, not at
 * all. */

#include "tests/daemon/check/server.h"

#include <curl/curl.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/resource.h>

#include "daemon/check/http.h"

static struct loop loop;
static struct server *server;
static struct http_pool *pool;

/* The last answer, copied; and how many there were. */
static struct {
	unsigned n, answered, refused, observer;
	struct http_answer a;
	char body[1024], why[256];
} got;

static void
on_answer(void *arg, const struct http_answer *a)
{
	got.n++;
	got.answered += a->failure == HTTP_ANSWERED;
	got.refused += a->failure == HTTP_REFUSED;
	got.observer += a->failure == HTTP_OBSERVER;
	got.a = *a;
	str_copy(got.body, sizeof got.body, a->body ? a->body : "(none)");
	str_copy(got.why, sizeof got.why, a->why ? a->why : "");
	ck_assert_ptr_null(strpbrk(got.why, "\r\n"));
}

/* --- the resolver, which libcurl asks on a thread of its own --- */

static atomic_bool resolver_awake;

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
	    struct addrinfo **ret)
{
	typeof(getaddrinfo) *real = (typeof(getaddrinfo) *)dlsym(RTLD_NEXT, "getaddrinfo");

	if (node && streq(node, "down.test"))
		return EAI_AGAIN;
	while (node && streq(node, "blackhole.test") && !resolver_awake)
		usleep(10000);
	return node && streq(node, "blackhole.test") ? EAI_AGAIN : real(node, service, hints, ret);
}

/* --- a machine that has no local port left --- */

static atomic_bool no_ports;

int
connect(int fd, const struct sockaddr *to, socklen_t len)
{
	typeof(connect) *real = (typeof(connect) *)dlsym(RTLD_NEXT, "connect");

	if (!no_ports)
		return real(fd, to, len);
	errno = EADDRNOTAVAIL;
	return -1;
}

/* --- TLS, with a certificate that nobody vouches for, or that libcurl is told to trust --- */

static char ca_file[64];
static long valid_until = 3600; /* seconds from now */
static const char *valid_for = "IP:127.0.0.1";

/* The daemon trusts the system's authorities; here, where there is one, also ours. */
#undef curl_easy_setopt
CURLcode
curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	typeof(curl_easy_setopt) *real = dlsym(RTLD_NEXT, "curl_easy_setopt");
	va_list ap;
	void *value; /* a long or a pointer, which are of one size here */

	va_start(ap, option);
	value = va_arg(ap, void *);
	va_end(ap);
	if (option == CURLOPT_URL && ca_file[0])
		real(easy, CURLOPT_CAINFO, ca_file);
	return real(easy, option, value);
}

/* libssl is in the process by libcurl. */
#define SSL_FN(name) ((typeof(name) *)dlsym(RTLD_DEFAULT, #name))

static X509 *
self_signed(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *n = X509_get_subject_name(x);
	X509_EXTENSION *e;

	X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)"127.0.0.1", -1,
				   -1, 0);
	X509_set_issuer_name(x, n);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_set_version(x, 2);
	X509_gmtime_adj(X509_getm_notBefore(x), -7200);
	X509_gmtime_adj(X509_getm_notAfter(x), valid_until);
	e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, valid_for);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	X509_set_pubkey(x, key);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	return x;
}

static EVP_PKEY *tls_key;
static X509 *tls_cert;

static void
serve_tls(int fd)
{
	EVP_PKEY *key = tls_key ? tls_key : EVP_EC_gen("P-256");
	X509 *x = tls_cert ? tls_cert : self_signed(key);
	SSL_CTX *ctx = SSL_FN(SSL_CTX_new)(SSL_FN(TLS_server_method)());
	SSL *ssl;
	char request[REQUEST_MAX];

	ck_assert_int_eq(SSL_FN(SSL_CTX_use_certificate)(ctx, x), 1);
	ck_assert_int_eq(SSL_FN(SSL_CTX_use_PrivateKey)(ctx, key), 1);
	ssl = SSL_FN(SSL_new)(ctx);
	SSL_FN(SSL_set_fd)(ssl, fd);
	if (SSL_FN(SSL_accept)(ssl) == 1 && SSL_FN(SSL_read)(ssl, request, sizeof request) > 0) {
		static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

		server->requests++;
		SSL_FN(SSL_write)(ssl, text, sizeof text - 1);
		wait_for_end(fd);
	}
	SSL_FN(SSL_free)(ssl);
	SSL_FN(SSL_CTX_free)(ctx);
	if (!tls_cert)
		X509_free(x);
	if (!tls_key)
		EVP_PKEY_free(key);
}

/* --- */

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	server = xcalloc(1, sizeof *server);
	server_start(server);
	loop_start(&loop);
	ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
	memset(&got, 0, sizeof got);
}

static void
tear_down(void)
{
	http_pool_free(pool);
	loop_stop(&loop);
	server_stop(server);
	free(server);
}

static struct http_job *
begin(struct http_request r, const char *fmt, ...)
{
	struct http_job *j;
	unsigned n = got.n;
	char path[256], url[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof path, fmt, ap);
	va_end(ap);
	if (strstr(path, "://"))
		snprintf(url, sizeof url, "%s", path);
	else
		snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", server->tls ? "https" : "http",
			 server->port, path);
	r.url = url;
	r.timeout_usec = r.timeout_usec ? r.timeout_usec : 5 * USEC_PER_SEC;
	r.max_bytes = r.max_bytes ? r.max_bytes : 1 << 20;
	j = http_start(pool, &r, on_answer, NULL);
	memset(url, 'x', sizeof url); /* nothing of the request is kept */
	ck_assert_uint_eq(got.n, n);  /* never from within */
	return j;
}

#define GET(...)                                                                                   \
	do {                                                                                       \
		begin((struct http_request){.keep_body = true}, __VA_ARGS__);                      \
		loop_until(&loop, &got.n, got.n + 1);                                              \
	} while (0)

#define GET_WITHIN(msec, ...)                                                                      \
	do {                                                                                       \
		begin((struct http_request){.timeout_usec = (msec)*USEC_PER_MSEC}, __VA_ARGS__);   \
		loop_until(&loop, &got.n, got.n + 1);                                              \
	} while (0)

static void
answered(long status, const char *body)
{
	ck_assert_msg(got.a.failure == HTTP_ANSWERED, "%s", got.why);
	ck_assert_int_eq(got.a.status, status);
	ck_assert_str_eq(got.body, body);
	ck_assert_uint_eq(got.a.len, strlen(body));
	ck_assert_int_ge(got.a.took, 0);
}

static void
refused(const char *part)
{
	ck_assert_msg(got.a.failure == HTTP_REFUSED, "%d: %s", got.a.failure, got.why);
	ck_assert_msg(strstr(got.why, part) != NULL, "\"%s\" lacks \"%s\"", got.why, part);
}

START_TEST(every_status_is_an_answer)
{
	static const int statuses[] = {200, 299, 301, 404, 418, 500, 503, 599};

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		GET("/status/%d", statuses[i]);
		answered(statuses[i], "state: green\n");
	}
	GET("/status/204"); /* which has no body, whatever its server says */
	ck_assert_int_eq(got.a.status, 204);
	GET("/empty");
	answered(200, "");
}
END_TEST

START_TEST(the_body_is_kept_if_asked)
{
	begin((struct http_request){.keep_body = false}, "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_ptr_null(got.a.body);
	ck_assert_int_eq(got.a.status, 200);
	ck_assert_uint_eq(got.a.len, 13);
}
END_TEST

START_TEST(who_asks_says_so)
{
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	begin((struct http_request){.accept = "text/plain;version=0.0.4"}, "/status/200");
	loop_until(&loop, &got.n, 1);
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nAccept: text/plain;version=0.0.4\r\n"));
	ck_assert_ptr_nonnull(strstr(server->last, "\r\nUser-Agent: dhashd/"));
	/* A handle that is used again has nothing of its last request. */
	GET("/status/200");
	ck_assert_ptr_null(strstr(server->last, "text/plain"));
}
END_TEST

START_TEST(a_redirect_is_told_not_followed)
{
	GET("/redirect");
	answered(302, "");
	loop_turns(&loop, 3);
	ck_assert_uint_eq(server->requests, 1);
	GET("/redirect-ftp");
	answered(302, "");
}
END_TEST

/* The daemon's own credentials are no service's business. */
START_TEST(netrc_is_left_alone)
{
	char home[] = "/tmp/dhash-http-XXXXXX", file[64];
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(home));
	snprintf(file, sizeof file, "%s/.netrc", home);
	f = fopen(file, "we");
	fputs("machine 127.0.0.1 login me password secret\ndefault login me password s\n", f);
	fclose(f);
	setenv("HOME", home, 1);
	GET("/status/200");
	answered(200, "state: green\n");
	unlink(file);
	rmdir(home);
	ck_assert_ptr_null(strstr(server->last, "Authorization"));
}
END_TEST

/* Nobody takes the connection, nobody refuses it: the service's side, unlike a name's. */
START_TEST(a_connect_that_hangs_is_the_services)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fds[4], fd;
	unsigned port;

	fd = bound(&port);
	a.sin_port = htons((uint16_t)port);
	listen(fd, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&a, sizeof a);
	}
	GET_WITHIN(150, "http://127.0.0.1:%u/", port);
	refused("within 150ms");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(fd);
}
END_TEST

START_TEST(connections_are_kept)
{
	for (int i = 0; i < 20; i++)
		GET("/status/200");
	ck_assert_uint_eq(got.answered, 20);
	ck_assert_uint_eq(server->requests, 20);
	ck_assert_uint_eq(server->accepted, 1);
}
END_TEST

START_TEST(a_kept_connection_that_died_is_no_failure)
{
	for (int i = 0; i < 10; i++) {
		GET("/once");
		answered(200, "once\n");
	}
	ck_assert_uint_ge(server->accepted, 10);
}
END_TEST

START_TEST(limits_of_size_are_exact)
{
	begin((struct http_request){.keep_body = true, .max_bytes = 13}, "/status/200");
	loop_until(&loop, &got.n, 1);
	answered(200, "state: green\n");
	begin((struct http_request){.keep_body = true, .max_bytes = 12}, "/status/200");
	loop_until(&loop, &got.n, 2);
	refused("over 12 bytes");
}
END_TEST

START_TEST(what_has_no_end_is_ended)
{
	static const char *const bodies[] = {"/endless-chunks", "/endless-body",
					     "/endless-until-close"};
	static const char *const headers[] = {"/endless-headers", "/endless-header"};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		for (int keep = 0; keep < 2; keep++) {
			begin((struct http_request){.keep_body = keep}, "%s", bodies[i]);
			loop_until(&loop, &got.n, got.n + 1);
			refused("over 1048576 bytes");
		}
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		GET("%s", headers[i]);
		ck_assert_int_eq(got.a.failure, HTTP_REFUSED);
		ck_assert_msg(!strstr(got.why, "within"), "%s", got.why); /* by size, not by time */
	}
	loop_until_ended(&loop, server, server->accepted);
}
END_TEST

START_TEST(slow_answers_end_in_time)
{
	static const char *const paths[] = {"/silent", "/drip", "/drip-body", "/endless-continue"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		GET_WITHIN(150, "%s", paths[i]);
		refused("within 150ms");
		ck_assert_int_ge(got.a.took, 140 * USEC_PER_MSEC);
		ck_assert_int_lt(got.a.took, 2 * USEC_PER_SEC);
	}
	loop_until_ended(&loop, server, server->accepted);
	GET_WITHIN(2000, "/slow");
	ck_assert_int_eq(got.a.failure, HTTP_ANSWERED);
	ck_assert_int_ge(got.a.took, 40 * USEC_PER_MSEC);
}
END_TEST

START_TEST(broken_answers_are_the_services_fault)
{
	static const char *const paths[] = {"/reset",     "/short",   "/short-chunk",
					    "/bad-chunk", "/garbage", "/half-header",
					    "/nothing"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		GET("%s", paths[i]);
		ck_assert_msg(got.a.failure == HTTP_REFUSED, "%s: %d", paths[i], got.a.failure);
		ck_assert_str_ne(got.why, "");
	}
	GET("/status/200"); /* and no harm is left */
	answered(200, "state: green\n");
}
END_TEST

START_TEST(nobody_there)
{
	unsigned port;
	int fd = bound(&port);

	GET("http://127.0.0.1:%u/", port);
	refused("Connection refused");
	begin((struct http_request){.connect_only = true}, "http://127.0.0.1:%u", port);
	loop_until(&loop, &got.n, 2);
	refused("Connection refused");
	close(fd);
}
END_TEST

START_TEST(tcp_connects_and_lets_go)
{
	for (int i = 0; i < 5; i++) {
		begin((struct http_request){.connect_only = true}, "");
		loop_until(&loop, &got.n, got.n + 1);
		ck_assert_msg(got.a.failure == HTTP_ANSWERED, "%s", got.why);
	}
	loop_until_ended(&loop, server, 5);
	ck_assert_uint_eq(server->accepted, 5);
	ck_assert_uint_eq(server->requests, 0);
}
END_TEST

START_TEST(an_unknown_certificate_is_refused)
{
	server->tls = serve_tls;
	GET("/");
	if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0)
		refused("certificate");
	ck_assert_int_ne(got.a.failure, HTTP_ANSWERED);
	ck_assert_uint_eq(server->accepted, 1);
	ck_assert_uint_eq(server->requests, 0);
}
END_TEST

/* Signed by one that is trusted, and yet good only in its time and for its name. */
START_TEST(certificates_that_are_trusted)
{
	static const struct {
		long until;
		const char *name, *refused;
	} rows[] = {
		{3600, "IP:127.0.0.1", NULL},
		{-60, "IP:127.0.0.1", "expired"},
		{3600, "IP:127.0.0.2", "127.0.0.1"},
	};

	server->tls = serve_tls;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FILE *f;

		valid_until = rows[i].until;
		valid_for = rows[i].name;
		tls_key = EVP_EC_gen("P-256");
		tls_cert = self_signed(tls_key);
		strcpy(ca_file, "/tmp/dhash-http-XXXXXX");
		f = fdopen(mkstemp(ca_file), "w");
		PEM_write_X509(f, tls_cert);
		fclose(f);
		http_pool_free(pool); /* libcurl keeps what it trusts */
		ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
		GET("/");
		unlink(ca_file);
		if (rows[i].refused)
			refused(rows[i].refused);
		else
			answered(200, "");
		ck_assert_uint_eq(server->requests, 1);
		http_pool_free(pool);
		ck_assert_int_eq(http_pool_new(loop.base, &pool), 0);
		loop_until_ended(&loop, server, (unsigned)i + 1);
		X509_free(tls_cert);
		EVP_PKEY_free(tls_key);
	}
	tls_cert = NULL;
	tls_key = NULL;
	ca_file[0] = '\0';
}
END_TEST

START_TEST(plain_http_is_no_tls)
{
	GET("https://127.0.0.1:%u/status/200", server->port);
	if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0)
		ck_assert_int_eq(got.a.failure, HTTP_REFUSED);
	ck_assert_uint_eq(got.answered, 0);
}
END_TEST

START_TEST(a_failure_of_ours_is_not_the_services)
{
	static const char *const urls[] = {"ftp://127.0.0.1/", "file:///etc/passwd", "http://",
					   "http://down.test/"};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		GET("%s", urls[i]);
		ck_assert_msg(got.a.failure == HTTP_OBSERVER, "%s: %d", urls[i], got.a.failure);
		ck_assert_str_ne(got.why, "");
	}
	ck_assert_str_eq(got.why, "cannot resolve down.test");
}
END_TEST

/* libcurl would wait for its resolver's thread, and the loop with it. */
START_TEST(a_resolver_that_hangs_holds_nothing)
{
	GET_WITHIN(200, "http://blackhole.test/");
	ck_assert_msg(got.a.failure == HTTP_OBSERVER, "%s", got.why);
	ck_assert_str_eq(got.why, "cannot resolve blackhole.test within 200ms");
	http_cancel(begin((struct http_request){0}, "http://blackhole.test/"));
	begin((struct http_request){0}, "http://blackhole.test/");
	loop_turns(&loop, 3);
	resolver_awake = true;
	loop_until(&loop, &got.n, 2);
}
END_TEST

static unsigned
threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;
	struct dirent *e;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Each look-up that hangs has a thread, which outlives its check by as long as it likes. */
START_TEST(look_ups_that_hang_are_capped)
{
	enum { BATCH = 16, BATCHES = 5, CAP = 64 };
	usec_t deadline = now_boottime() + PATIENCE_SEC * USEC_PER_SEC;
	unsigned before;

	resolver_awake = false;
	GET("/status/200");
	before = threads();
	for (unsigned i = 0; i < BATCHES; i++) {
		struct http_job *given_up[BATCH];
		unsigned n = got.n;

		for (unsigned k = 0; k < BATCH; k++) { /* half time out, half are cancelled */
			begin((struct http_request){.timeout_usec = 50 * USEC_PER_MSEC},
			      "http://blackhole.test/");
			given_up[k] =
				begin((struct http_request){.timeout_usec = 50 * USEC_PER_SEC},
				      "http://blackhole.test/");
		}
		loop_until(&loop, &got.n, n + BATCH);
		for (unsigned k = 0; k < BATCH && i < 2; k++)
			http_cancel(given_up[k]);
		if (i >= 2) /* refused at once */
			loop_until(&loop, &got.n, n + 2 * BATCH);
	}
	ck_assert_uint_eq(got.observer, 2 * BATCH + 2 * BATCH * (BATCHES - 2));
	ck_assert_uint_eq(threads(), before + CAP);
	GET_WITHIN(1000, "http://blackhole.test/");
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_str_eq(got.why,
			 "cannot resolve blackhole.test: 64 look-ups of names hang already");
	/* What needs no look-up goes on. */
	GET("/status/200");
	answered(200, "state: green\n");
	GET("http://localhost:%u/status/200", server->port);
	answered(200, "state: green\n");
	/* They end at last, and names are asked for again. */
	resolver_awake = true;
	while (threads() > before && now_boottime() < deadline)
		event_base_loop(loop.base, EVLOOP_ONCE);
	GET("http://down.test/");
	ck_assert_str_eq(got.why, "cannot resolve down.test");
}
END_TEST

START_TEST(no_descriptor_left_is_our_own_failure)
{
	int next = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	struct rlimit old, none;

	close(next);
	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){(rlim_t)next, old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	GET("/status/200");
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_ptr_nonnull(strstr(got.why, "Too many open files"));
	GET("/status/200");
	answered(200, "state: green\n");
}
END_TEST

START_TEST(without_a_local_port_nobody_was_asked)
{
	no_ports = true;
	GET("/status/200");
	no_ports = false;
	ck_assert_int_eq(got.a.failure, HTTP_OBSERVER);
	ck_assert_ptr_nonnull(strstr(got.why, "Cannot assign requested address"));
}
END_TEST

/* Hooks and plugins get none of our connections. */
START_TEST(connections_are_closed_on_exec)
{
	struct sockaddr_in peer;
	unsigned seen = 0;

	GET("/status/200");
	for (int fd = 0; fd < 256; fd++) {
		socklen_t len = sizeof peer;

		if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
		    peer.sin_family != AF_INET || ntohs(peer.sin_port) != server->port)
			continue;
		seen++;
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	ck_assert_uint_eq(seen, 1);
}
END_TEST

START_TEST(a_hundred_at_once_hold_nothing)
{
	static const char *const paths[] = {"/slow", "/status/200", "/status/503", "/short",
					    "/drip"};

	for (int i = 0; i < 100; i++)
		begin((struct http_request){.timeout_usec = 700 * USEC_PER_MSEC}, "%s",
		      paths[i % 5]);
	loop_until(&loop, &got.n, 100);
	ck_assert_uint_eq(got.answered, 60);
	ck_assert_uint_eq(got.refused, 40);
	loop_turns(&loop, 2);
	ck_assert_uint_eq(got.n, 100);
}
END_TEST

static unsigned
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Whatever it was doing, a cancelled job says nothing more and leaves nothing. */
START_TEST(cancelling)
{
	static const char *const paths[] = {"/silent", "/drip-body", "/slow", "/status/200",
					    "ftp://127.0.0.1/"};
	unsigned before;

	GET("/status/200");
	before = descriptors();
	for (unsigned turns = 0; turns < 4; turns++) {
		struct http_job *jobs[10];
		unsigned n;

		for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
			jobs[i] = begin((struct http_request){.keep_body = true}, "%s",
					paths[turns < 2 ? i % 5 : i % 2]);
		if (turns > 0)
			loop_turns(&loop, turns == 1 ? 0 : turns);
		n = got.n;
		for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
			http_cancel(jobs[i]);
		loop_turns(&loop, 7);
		ck_assert_uint_eq(got.n, n);
	}
	http_cancel(NULL);
	/* Connections of the cancelled are closed: at most the kept one, and their peers, are left.
	 */
	loop_until_ended(&loop, server, server->accepted - 1);
	ck_assert_uint_le(descriptors(), before + 2);
}
END_TEST

static struct http_job *pair[2];

static void
on_answer_cancel(void *arg, const struct http_answer *a)
{
	struct http_job **me = arg;

	http_cancel(*me); /* which is being told: no harm */
	http_cancel(pair[me == pair]);
	on_answer(arg, a);
}

/* Both may be over in the same turn. */
START_TEST(cancelling_another_from_an_answer)
{
	static const char *const paths[][2] = {{"ftp://127.0.0.1/", "ftp://127.0.0.1/"},
					       {"http://127.0.0.1:1/", "http://127.0.0.1:1/"},
					       {"/silent", "ftp://127.0.0.1/"},
					       {"/status/200", "/drip"}};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		for (int k = 0; k < 2; k++) {
			char *url = strstr(paths[i][k], "://")
					    ? xstrdup(paths[i][k])
					    : xasprintf("http://127.0.0.1:%u%s", server->port,
							paths[i][k]);
			struct http_request r = {
				.url = url, .timeout_usec = 5 * USEC_PER_SEC, .max_bytes = 99};

			pair[k] = http_start(pool, &r, on_answer_cancel, &pair[k]);
			free(url);
		}
		loop_until(&loop, &got.n, (unsigned)i + 1);
		loop_turns(&loop, 3);
		ck_assert_uint_eq(got.n, i + 1);
	}
}
END_TEST

START_TEST(freeing_the_pool_ends_what_runs)
{
	for (int i = 0; i < 10; i++)
		begin((struct http_request){.keep_body = true}, "%s",
		      i % 2 ? "/drip-body" : "ftp://127.0.0.1/");
	event_base_loop(loop.base, EVLOOP_NONBLOCK);
	http_pool_free(pool);
	pool = NULL;
	got.n = 0;
	loop_turns(&loop, 3);
	ck_assert_uint_eq(got.n, 0);
	loop_until_ended(&loop, server, server->accepted);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("http");
	TCase *t = tcase_create("probes");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_status_is_an_answer);
	tcase_add_test(t, the_body_is_kept_if_asked);
	tcase_add_test(t, who_asks_says_so);
	tcase_add_test(t, a_redirect_is_told_not_followed);
	tcase_add_test(t, netrc_is_left_alone);
	tcase_add_test(t, a_connect_that_hangs_is_the_services);
	tcase_add_test(t, connections_are_kept);
	tcase_add_test(t, a_kept_connection_that_died_is_no_failure);
	tcase_add_test(t, limits_of_size_are_exact);
	tcase_add_test(t, what_has_no_end_is_ended);
	tcase_add_test(t, slow_answers_end_in_time);
	tcase_add_test(t, broken_answers_are_the_services_fault);
	tcase_add_test(t, nobody_there);
	tcase_add_test(t, tcp_connects_and_lets_go);
	tcase_add_test(t, an_unknown_certificate_is_refused);
	tcase_add_test(t, certificates_that_are_trusted);
	tcase_add_test(t, plain_http_is_no_tls);
	tcase_add_test(t, a_failure_of_ours_is_not_the_services);
	tcase_add_test(t, a_resolver_that_hangs_holds_nothing);
	tcase_add_test(t, look_ups_that_hang_are_capped);
	tcase_add_test(t, no_descriptor_left_is_our_own_failure);
	tcase_add_test(t, without_a_local_port_nobody_was_asked);
	tcase_add_test(t, connections_are_closed_on_exec);
	tcase_add_test(t, a_hundred_at_once_hold_nothing);
	tcase_add_test(t, cancelling);
	tcase_add_test(t, cancelling_another_from_an_answer);
	tcase_add_test(t, freeing_the_pool_ends_what_runs);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
