/* SPDX-License-Identifier: Apache-2.0 */
/* Probes over TLS: certificates that nobody vouches for, that are out of date, or of another. */

#include "tests/daemon/check/http_kit.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

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

int
main(void)
{
	Suite *s = suite_create("http-tls");
	TCase *t = tcase_create("probes");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_unknown_certificate_is_refused);
	tcase_add_test(t, certificates_that_are_trusted);
	tcase_add_test(t, plain_http_is_no_tls);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
