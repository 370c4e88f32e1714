/* SPDX-License-Identifier: Apache-2.0 */

/* Corruption must never pass: flipped bits, cut ends, forged sidecars, changes under our hands. */

#include "tests/daemon/release/kit.h"

static char *error;
static struct backup_made made;

static void
setup(void)
{
	kit_setup();
	error = NULL;
	folder("root/app");
	put_text("root/app/text", "the same words, the same words, the same words\n");
	put_text("root/app/empty", "");
	expect_ok(backup_create("b.zip", "root", STRV("app"), NULL, &made, &error));
}

static void
write_sidecar(const char *sha256, const char *name)
{
	char *line = xasprintf("%s  %s\n", sha256, name);

	put_text("b.zip.sha256", line);
	free(line);
}

START_TEST(every_flipped_byte_is_caught)
{
	size_t len;
	char *data = get("b.zip", &len);

	for (size_t i = 0; i < len; i++) {
		data[i] ^= (char)(1 << i % 8);
		put("b.zip", data, len);
		ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
		expect_sentence(&error, "the database");
		ck_assert_int_eq(backup_verify("b.zip", NULL, NULL, NULL, &error), -EBADMSG);
		expect_sentence(&error, ".sha256");
		data[i] ^= (char)(1 << i % 8);
	}
	put("b.zip", data, len);
	expect_ok(backup_verify("b.zip", made.sha256, NULL, NULL, &error));
	free(data);
}
END_TEST

/* Without any digest the zip's own checksums are left: what passes must have the same contents. */
START_TEST(flipped_bytes_without_a_digest)
{
	size_t len;
	char *data = get("b.zip", &len);

	ck_assert_int_eq(unlink("b.zip.sha256"), 0);
	for (size_t i = 0; i < len; i++) {
		int r;

		data[i] ^= (char)(1 << i % 8);
		put("b.zip", data, len);
		r = backup_verify("b.zip", NULL, NULL, NULL, &error);
		data[i] ^= (char)(1 << i % 8);
		if (r == 0) {
			folder("out");
			r = backup_restore("b.zip", NULL, "out", STRV("app"), NULL, &error);
			if (r == 0 && exists("out/app/text"))
				expect_text("out/app/text",
					    "the same words, the same words, the same words\n");
			kit_remove("out");
		}
		ck_assert_msg((r < 0) == (error != NULL), "byte %zu: %d", i, r);
		free(error);
		error = NULL;
	}
	free(data);
}
END_TEST

START_TEST(every_cut_is_caught)
{
	size_t len;
	char *data = get("b.zip", &len);

	unlink("b.zip.sha256");
	for (size_t i = 0; i < len; i++) {
		put("b.zip", data, i);
		ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
		expect_sentence(&error, "corrupt");
		ck_assert_int_eq(backup_verify("b.zip", NULL, NULL, NULL, &error), -EBADMSG);
		expect_sentence(&error, "b.zip");
	}
	free(data);
}
END_TEST

/* Zip and sidecar agree with each other, and are not what was made: only the database knows. */
START_TEST(forged_together)
{
	static const struct item items[] = {FILE_ITEM("app/text", "evil")};
	char sha256[DIGEST_HEX];

	make_archive("b.zip", items, 1);
	digest_of("b.zip", sha256);
	write_sidecar(sha256, "b.zip");
	expect_ok(backup_verify("b.zip", NULL, NULL, NULL, &error));
	ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
	expect_sentence(&error, "the database");
	ck_assert_int_eq(backup_restore("b.zip", made.sha256, "root", STRV("app"), NULL, &error),
			 -EBADMSG);
	expect_sentence(&error, "nothing was changed");
	expect_text("root/app/text", "the same words, the same words, the same words\n");
}
END_TEST

START_TEST(sidecars)
{
	static const char *const bad[] = {
		"",
		"\n",
		"zz  b.zip\n",
		"SHA256 (b.zip) = 0\n",
	};
	char zeros[DIGEST_HEX];

	memset(zeros, '0', 64);
	zeros[64] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_text("b.zip.sha256", bad[i]);
		ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
		expect_sentence(&error, "not a line of sha256sum");
	}
	write_sidecar(made.sha256, "other.zip");
	ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
	expect_sentence(&error, "not a line of sha256sum");
	write_sidecar(zeros, "b.zip");
	ck_assert_int_eq(backup_verify("b.zip", made.sha256, NULL, NULL, &error), -EBADMSG);
	expect_sentence(&error, "its .sha256 file");
	write_sidecar(made.sha256, "b.zip");
	expect_ok(backup_verify("b.zip", made.sha256, NULL, NULL, &error));
	unlink("b.zip.sha256");
	expect_ok(backup_verify("b.zip", made.sha256, NULL, NULL, &error));
}
END_TEST

START_TEST(what_is_no_backup)
{
	atomic_bool cancelled = true;

	ck_assert_int_eq(backup_verify("none.zip", NULL, NULL, NULL, &error), -ENOENT);
	expect_sentence(&error, "none.zip");
	ck_assert_int_eq(backup_verify("root", NULL, NULL, NULL, &error), -EINVAL);
	expect_sentence(&error, "regular file");
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(backup_verify("fifo", NULL, NULL, NULL, &error), -EINVAL);
	expect_sentence(&error, "regular file");
	put_text("text", "no zip at all");
	ck_assert_int_eq(backup_verify("text", NULL, NULL, NULL, &error), -EBADMSG);
	expect_sentence(&error, "text");
	ck_assert_int_eq(backup_verify("b.zip", "123", NULL, NULL, &error), -EBADMSG);
	expect_sentence(&error, "123");
	ck_assert_int_eq(backup_verify("b.zip", made.sha256, &cancelled, NULL, &error), -ECANCELED);
	expect_sentence(&error, "cancelled");
}
END_TEST

/* Judged good, then changed in place: no byte of the change may come out, in any block. */
START_TEST(changed_after_it_was_judged)
{
	enum { BLOCKS = 3, LEN = BLOCKS * SOURCE_BLOCK + 100 };
	char *data = xcalloc(1, LEN), sha256[DIGEST_HEX];
	struct source *s;
	const void *got;

	put("file", data, LEN);
	for (int block = 0; block <= BLOCKS; block++) {
		int fd = open("file", O_WRONLY | O_CLOEXEC);

		ck_assert_int_eq(source_open("file", NULL, &s, &error), 0);
		ck_assert_int_eq(source_digest(s, true, sha256, &error), 0);
		ck_assert_int_eq(pwrite(fd, "x", 1, block * SOURCE_BLOCK + 7), 1);
		for (int i = 0; i <= BLOCKS; i++) {
			ck_assert_int_eq(source_seek(s, i * SOURCE_BLOCK + 50), 0);
			ck_assert_int_eq(source_read(s, &got) > 0, i != block);
		}
		ck_assert_int_eq(source_fail(s, &error), -EBADMSG);
		expect_sentence(&error, "was changed");
		ck_assert_int_eq(pwrite(fd, "\0", 1, block * SOURCE_BLOCK + 7), 1);
		ck_assert_int_eq(source_seek(s, block * SOURCE_BLOCK), 0);
		ck_assert_int_gt(source_read(s, &got), 0);
		close(fd);
		source_free(s);
	}
	ck_assert_int_eq(source_open("file", NULL, &s, &error), 0);
	ck_assert_int_eq(truncate("file", LEN - 1), 0);
	ck_assert_int_eq(source_digest(s, true, sha256, &error), -EBADMSG);
	expect_sentence(&error, "was changed");
	source_free(s);
	free(data);
}
END_TEST

START_TEST(known_digests)
{
	static const char empty[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const char abc[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	struct digest *d = digest_new();
	char hex[DIGEST_HEX];

	digest_take_hex(d, hex);
	ck_assert_str_eq(hex, empty);
	digest_update(d, "a", 1);
	digest_update(d, "bc", 2);
	digest_take_hex(d, hex);
	ck_assert_str_eq(hex, abc);
	digest_free(d);
	ck_assert(digest_hex_equal(
		abc, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"));
	ck_assert(!digest_hex_equal(abc, empty));
	ck_assert(!digest_hex_equal("", ""));
	ck_assert(!digest_hex_valid("xyz"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("verify");
	TCase *t = tcase_create("verify");

	tcase_add_checked_fixture(t, setup, kit_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_flipped_byte_is_caught);
	tcase_add_test(t, flipped_bytes_without_a_digest);
	tcase_add_test(t, every_cut_is_caught);
	tcase_add_test(t, forged_together);
	tcase_add_test(t, sidecars);
	tcase_add_test(t, what_is_no_backup);
	tcase_add_test(t, changed_after_it_was_judged);
	tcase_add_test(t, known_digests);
	suite_add_tcase(s, t);
	return run_suite(s);
}
