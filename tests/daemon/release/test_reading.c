/* SPDX-License-Identifier: Apache-2.0 */

/* Hostile archives: each is refused whole, as a backup and as an artifact, and nothing is written.
 */

#include "tests/daemon/release/kit.h"

#include "daemon/release/nameset.h"
#include "daemon/release/reading.h"

static char *error;

static void
setup(void)
{
	kit_setup();
	error = NULL;
	folder("root/app");
	put_text("root/app/old", "old");
	put_text("secret", "secret");
	folder("base");
}

/* --- names ------------------------------------------------------------------------------------ */

START_TEST(names_in_one_form)
{
	static const struct {
		const char *raw, *name; /* name NULL: refused */
	} rows[] = {
		{"a", "a"},     {"a/b", "a/b"},   {"./a//b/./c/", "a/b/c"},
		{"./", ""},     {".", ""},        {"..a/b..", "..a/b.."},
		{"...", "..."}, {"", NULL},       {"/", NULL},
		{"/a", NULL},   {"..", NULL},     {"../a", NULL},
		{"a/..", NULL}, {"a/../b", NULL},
	};
	char name[PATH_MAX], deep[PATH_MAX + 10], raw[PATH_MAX + 10];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *why = name_normalise(rows[i].raw, name);

		ck_assert_msg((why != NULL) == (rows[i].name == NULL), "%s: %s", rows[i].raw,
			      why ? why : "taken");
		if (!why)
			ck_assert_str_eq(name, rows[i].name);
	}
	memset(raw, 'a', sizeof raw);
	raw[NAME_MAX] = '\0';
	ck_assert_ptr_null(name_normalise(raw, name));
	raw[NAME_MAX] = 'a';
	raw[NAME_MAX + 1] = '\0';
	ck_assert_ptr_nonnull(name_normalise(raw, name));
	for (size_t i = 0; i < sizeof deep - 1; i++)
		deep[i] = i % 200 == 199 ? '/' : 'a';
	for (size_t len = PATH_MAX - 40; len < sizeof deep; len++) {
		memcpy(raw, deep, len);
		raw[len] = '\0';
		if (!name_normalise(raw, name))
			ck_assert_uint_lt(strlen(name), PATH_MAX);
	}
	ck_assert_ptr_nonnull(name_normalise(raw, name));
	for (size_t i = 0; i < 2 * NAME_MAX_DEPTH + 2; i++)
		raw[i] = i % 2 ? '/' : 'a';
	raw[2 * NAME_MAX_DEPTH - 1] = '\0';
	ck_assert_ptr_null(name_normalise(raw, name));
	raw[2 * NAME_MAX_DEPTH - 1] = '/';
	raw[2 * NAME_MAX_DEPTH + 1] = '\0';
	ck_assert_ptr_nonnull(name_normalise(raw, name));
}
END_TEST

START_TEST(links_inside)
{
	static const struct {
		const char *name, *target;
		bool inside;
	} rows[] = {
		{"a", "b", true},           {"a", "b/c", true},          {"d/a", "../b", true},
		{"d/e/a", "../../b", true}, {"a", "./b", true},          {"a", ".", true},
		{"d/a", "..", true},        {"a", "..b", true},          {"a", "..", false},
		{"a", "../b", false},       {"d/a", "../../b", false},   {"a", "/b", false},
		{"a", "", false},           {"d/a", "b/../../c", false}, {"d/a", "s/../x", false},
		{"d/a", ".././../x", false}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_msg(link_stays_inside(rows[i].name, rows[i].target) == rows[i].inside,
			      "%s -> %s", rows[i].name, rows[i].target);
}
END_TEST

START_TEST(the_set)
{
	struct nameset *s = nameset_new();
	char name[64];

	ck_assert_ptr_null(nameset_add(s, "a/b/c", false));
	ck_assert_ptr_nonnull(nameset_add(s, "a/b/c", false));
	ck_assert_ptr_nonnull(nameset_add(s, "a/b/c/d", false));
	ck_assert_ptr_null(nameset_add(s, "a/b", true));
	ck_assert_ptr_nonnull(nameset_add(s, "a/b", true));
	ck_assert_ptr_nonnull(nameset_add(s, "a", false));
	ck_assert_ptr_null(nameset_add(s, "a", true));
	ck_assert_ptr_null(nameset_add(s, "file", false));
	ck_assert_ptr_nonnull(nameset_add(s, "file/x/y", true));
	ck_assert(nameset_has_file(s, "file"));
	ck_assert(!nameset_has_file(s, "a"));
	ck_assert(!nameset_has_file(s, "none"));
	for (unsigned i = 0; i < 30000; i++) {
		snprintf(name, sizeof name, "many/%u/%u", i % 7, i);
		ck_assert_ptr_null(nameset_add(s, name, false));
	}
	for (unsigned i = 0; i < 30000; i++) {
		snprintf(name, sizeof name, "many/%u/%u", i % 7, i);
		ck_assert_ptr_nonnull(nameset_add(s, name, false));
	}
	nameset_free(s);
	nameset_free(NULL);
}
END_TEST

/* --- hostile archives ------------------------------------------------------------------------- */

enum { MAX_ITEMS = 4 };

struct hostile {
	const char *why;
	struct item items[MAX_ITEMS];
	bool not_in_zip; /* what a zip cannot hold */
};

#define LINK_ITEM(n, l)                                                                            \
	{                                                                                          \
		.name = (n), .mode = S_IFLNK | 0777, .link = (l)                                   \
	}
#define NODE_ITEM(n, m)                                                                            \
	{                                                                                          \
		.name = (n), .mode = (m)                                                           \
	}

static const struct hostile hostiles[] = {
	{"\"..\"", {FILE_ITEM("../secret", "evil")}, false},
	{"\"..\"", {FILE_ITEM("app/../../secret", "evil")}, false},
	{"\"..\"", {FILE_ITEM("app/x/..", "evil")}, false},
	{"absolute", {FILE_ITEM("/tmp/dhash-must-not-exist", "evil")}, false},
	{"leads out", {LINK_ITEM("app/l", "/etc")}, false},
	{"leads out", {LINK_ITEM("app/l", "../../secret")}, false},
	{"leads out", {LINK_ITEM("app/s", "."), LINK_ITEM("app/l", "s/../../secret")}, false},
	{"no folder", {LINK_ITEM("app/l", "x"), FILE_ITEM("app/l/y", "evil")}, false},
	{"no folder", {FILE_ITEM("app/f", "1"), FILE_ITEM("app/f/y", "evil")}, false},
	{"also something else", {FILE_ITEM("app/d/y", "1"), LINK_ITEM("app/d", "x")}, false},
	{"twice", {FILE_ITEM("app/f", "1"), FILE_ITEM("app/f", "2")}, false},
	{"twice", {FILE_ITEM("app/f", "1"), FILE_ITEM("app/./f", "2")}, false},
	{"twice", {LINK_ITEM("app/f", "x"), FILE_ITEM("app/f", "2")}, false},
	{"set-user-id", {NODE_ITEM("app/f", S_IFREG | 04755)}, false},
	{"set-user-id", {NODE_ITEM("app/f", S_IFREG | 02755)}, false},
	{"set-user-id", {NODE_ITEM("app/d", S_IFDIR | 01777)}, false},
	{"device", {NODE_ITEM("app/p", S_IFIFO | 0644)}, true},
	{"device", {NODE_ITEM("app/c", S_IFCHR | 0644)}, true},
	{"device", {NODE_ITEM("app/b", S_IFBLK | 0644)}, true},
	{"leads out", {{.name = "app/h", .mode = S_IFREG | 0644, .hardlink = "../secret"}}, true},
	{"leads out", {{.name = "app/h", .mode = S_IFREG | 0644, .hardlink = "/etc/passwd"}}, true},
	{"not in it", {{.name = "app/h", .mode = S_IFREG | 0644, .hardlink = "app/old"}}, true},
};

/* The good first entry must not be unpacked either. */
static void
make_hostile(const char *path, const struct hostile *h)
{
	struct item items[MAX_ITEMS + 1] = {FILE_ITEM("app/good", "good")};
	size_t n = 0;

	for (; n < MAX_ITEMS && h->items[n].name; n++)
		items[n + 1] = h->items[n];
	make_archive(path, items, n + 1);
}

static void
expect_untouched(void)
{
	expect_text("root/app/old", "old");
	expect_text("secret", "secret");
	ck_assert(!exists("root/app/good"));
	ck_assert(!exists("/tmp/dhash-must-not-exist"));
	ck_assert_uint_eq(count_names("root", ""), 3);
	ck_assert(!exists("base/current"));
	ck_assert(!exists("base/releases") || count_names("base/releases", "") == 2);
}

START_TEST(hostile_backup)
{
	const struct hostile *h = &hostiles[_i];

	if (h->not_in_zip)
		return;
	make_hostile("h.zip", h);
	ck_assert_int_eq(backup_restore("h.zip", NULL, "root", STRV("app"), NULL, &error), -EPERM);
	expect_sentence(&error, h->why);
	ck_assert_int_eq(backup_verify("h.zip", NULL, NULL, NULL, &error), -EPERM);
	expect_sentence(&error, h->why);
	expect_untouched();
}
END_TEST

/* A digest that the database vouches for lets links lead out, and nothing else. */
START_TEST(hostile_backup_of_known_digest)
{
	const struct hostile *h = &hostiles[_i];
	char sha256[DIGEST_HEX];
	int r;

	if (h->not_in_zip)
		return;
	make_hostile("h.zip", h);
	digest_of("h.zip", sha256);
	r = backup_restore("h.zip", sha256, "root", STRV("app"), NULL, &error);
	if (streq(h->why, "leads out")) {
		expect_ok(r);
		expect_text("root/app/good", "good");
		expect_text("secret", "secret");
		return;
	}
	ck_assert_int_eq(r, -EPERM);
	expect_sentence(&error, h->why);
	expect_untouched();
}
END_TEST

START_TEST(hostile_artifact)
{
	static const char *const kinds[] = {"h.tar", "h.tar.gz", "h.tar.xz", "h.tar.zst", "h.zip"};
	const struct hostile *h = &hostiles[_i];
	char *previous = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (h->not_in_zip && streq(kinds[i], "h.zip"))
			continue;
		make_hostile(kinds[i], h);
		ck_assert_int_eq(engine_deploy("base", "v1", kinds[i], NULL, &previous, &error),
				 -EPERM);
		expect_sentence(&error, h->why);
		ck_assert_ptr_null(previous);
		expect_untouched();
	}
}
END_TEST

/* libarchive ends a name at a NUL byte: nothing may come of the rest of it. */
START_TEST(nul_in_a_name)
{
	static const struct item items[] = {FILE_ITEM("app/aX/../../../secret", "evil")};
	size_t len;
	char *data;
	int r;

	make_archive("h.zip", items, 1);
	data = get("h.zip", &len);
	for (size_t i = 0; i + 6 < len; i++)
		if (memcmp(data + i, "app/aX", 6) == 0)
			data[i + 5] = '\0';
	put("h.zip", data, len);
	free(data);
	r = backup_restore("h.zip", NULL, "root", STRV("app"), NULL, &error);
	if (r < 0) {
		expect_sentence(&error, "h.zip");
		expect_untouched();
	}
	expect_text("secret", "secret");
}
END_TEST

/* --- bombs ------------------------------------------------------------------------------------ */

START_TEST(bomb)
{
	static const struct item bombs[] = {
		{.name = "app/zeros", .mode = S_IFREG | 0644, .zeros = 40 << 20}};
	static const struct item smalls[] = {
		{.name = "app/zeros", .mode = S_IFREG | 0644, .zeros = 15 << 20}};
	char *previous = NULL;

	make_archive("h.zip", bombs, 1);
	make_archive("h.tar.gz", bombs, 1);
	ck_assert_int_eq(backup_restore("h.zip", NULL, "root", STRV("app"), NULL, &error), -EFBIG);
	expect_sentence(&error, "unpacks to more");
	ck_assert_int_eq(engine_deploy("base", "v1", "h.tar.gz", NULL, &previous, &error), -EFBIG);
	expect_sentence(&error, "unpacks to more");
	expect_untouched();
	make_archive("h.tar.gz", smalls, 1); /* the same ratio, but under the floor */
	expect_ok(engine_deploy("base", "v1", "h.tar.gz", NULL, &previous, &error));
}
END_TEST

/* One that lies in its headers: the sizes are small there, the data is not. */
START_TEST(bomb_that_lies)
{
	static const struct item items[] = {
		{.name = "app/zeros", .mode = S_IFREG | 0644, .zeros = 3 << 20}};
	static const unsigned char size[4] = {0, 0, 0x30, 0};
	unsigned lies = 0;
	size_t len;
	char *data;

	make_archive("h.zip", items, 1);
	data = get("h.zip", &len);
	for (size_t i = 0; i + 4 < len; i++)
		if (memcmp(data + i, size, 4) == 0) {
			data[i + 1] = 0x10; /* 4096 */
			data[i + 2] = 0;
			lies++;
		}
	ck_assert_uint_ge(lies, 1);
	put("h.zip", data, len);
	free(data);
	ck_assert_int_eq(backup_restore("h.zip", NULL, "root", STRV("app"), NULL, &error),
			 -EBADMSG);
	expect_sentence(&error, "");
	expect_untouched();
}
END_TEST

static int
on_entry(struct reading *r, const struct entry *e, void *arg)
{
	(void)r;
	(void)e;
	++*(unsigned long *)arg;
	return 0;
}

START_TEST(limits)
{
	static const struct item items[] = {FILE_ITEM("a", "12345"), FILE_ITEM("b", "12345"),
					    FILE_ITEM("c", "12345")};
	struct reading_limits l = reading_strict;
	unsigned long n = 0;
	struct source *s;

	make_archive("x.zip", items, 3);
	ck_assert_int_eq(source_open("x.zip", NULL, &s, NULL), 0);
	l.max_entries = 3;
	l.max_bytes = 15;
	expect_ok(reading_each(s, READING_ZIP, &l, on_entry, &n, &error));
	ck_assert_uint_eq(n, 3);
	l.max_entries = 2;
	ck_assert_int_eq(reading_each(s, READING_ZIP, &l, on_entry, &n, &error), -EFBIG);
	expect_sentence(&error, "more than 2 entries");
	l.max_entries = 3;
	l.max_bytes = 14;
	ck_assert_int_eq(reading_each(s, READING_ZIP, &l, on_entry, &n, &error), -EFBIG);
	expect_sentence(&error, "14 bytes");
	source_free(s);
}
END_TEST

/* Formats that run programs or hold anything at all are no archives to us. */
START_TEST(other_formats)
{
	static const char *const texts[] = {"", "plain text\n",
					    "#mtree\nx type=file contents=/etc/passwd\n",
					    "070707000001000001100644", "!<arch>\n"};
	char *previous = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		int r;

		put_text("h.tar", texts[i]);
		r = engine_deploy("base", "v1", "h.tar", NULL, &previous, &error);
		ck_assert_int_eq(r, -EBADMSG);
		expect_sentence(&error, "h.tar");
		expect_untouched();
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("reading");
	TCase *t = tcase_create("reading");

	tcase_add_checked_fixture(t, setup, kit_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, names_in_one_form);
	tcase_add_test(t, links_inside);
	tcase_add_test(t, the_set);
	tcase_add_loop_test(t, hostile_backup, 0, (int)ARRAY_SIZE(hostiles));
	tcase_add_loop_test(t, hostile_backup_of_known_digest, 0, (int)ARRAY_SIZE(hostiles));
	tcase_add_loop_test(t, hostile_artifact, 0, (int)ARRAY_SIZE(hostiles));
	tcase_add_test(t, nul_in_a_name);
	tcase_add_test(t, bomb);
	tcase_add_test(t, bomb_that_lies);
	tcase_add_test(t, limits);
	tcase_add_test(t, other_formats);
	suite_add_tcase(s, t);
	return run_suite(s);
}
