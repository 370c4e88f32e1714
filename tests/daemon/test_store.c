/* SPDX-License-Identifier: Apache-2.0 */
/* What goes into the store comes out again, in order, and nobody else gets in. */

#include <float.h>
#include <limits.h>
#include <math.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "tests/daemon/store_fixture.h"

static void
fill(char *dst, size_t n, const char *with)
{
	size_t len = strlen(with);

	for (size_t i = 0; i + 1 < n; i++)
		dst[i] = with[i % len];
	dst[n - 1] = '\0';
}

#define FILL(field, with) fill(field, sizeof(field), with)

static void
full_deployment(struct deployment *d)
{
	memset(d, 0, sizeof *d);
	str_copy(d->id, sizeof d->id, "deploy-1");
	str_copy(d->service, sizeof d->service, "shop");
	str_copy(d->environment, sizeof d->environment, "production");
	FILL(d->tag, "v1+");
	FILL(d->previous_tag, "v0.");
	FILL(d->lead, "lead ");
	FILL(d->reason, "it's \"so\"; -- \\ %s\x7f");
	FILL(d->outcome, "\t?1");
	FILL(d->rollback_reason, "r");
	FILL(d->rollback_to, "t");
	FILL(d->rollback_file, "/f");
	FILL(d->backup, "/b");
	FILL(d->backup_sha256, "0123456789abcdef");
	FILL(d->target, "/t");
	d->actor_uid = d->attempt = d->rollbacks = d->auto_rollbacks = UINT_MAX;
	d->forced = d->rollback_auto = d->rollback_forced = d->target_verified = true;
	d->state = DS_RB_CHOOSING;
	d->created_at = INT64_MIN;
	d->created_wall = INT64_MAX;
	d->entered_at = -1;
	d->entered_wall = 1;
	d->deployed_at = 5;
	d->t0 = 6;
	d->decided_at = 7;
	d->decided_wall = 8;
	d->restored_at = 9;
	d->restored_wall = 10;
	d->ended_at = 11;
	d->ended_wall = 12;
}

static void
small_deployment(struct deployment *d, const char *id, const char *environment, const char *tag,
		 enum dstate state, usec_t created)
{
	memset(d, 0, sizeof *d);
	str_copy(d->id, sizeof d->id, id);
	str_copy(d->service, sizeof d->service, "shop");
	str_copy(d->environment, sizeof d->environment, environment);
	str_copy(d->tag, sizeof d->tag, tag);
	d->state = state;
	d->created_at = d->created_wall = d->deployed_at = created;
}

static bool
same_number(double a, double b)
{
	return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

static void
assert_same_series(const struct series *a, const struct series *b)
{
	ck_assert_int_eq(a->result, b->result);
	ck_assert_int_eq(a->gauge, b->gauge);
	ck_assert_int_eq(a->span, b->span);
	ck_assert(same_number(a->bad, b->bad));
	ck_assert(same_number(a->bad_warn, b->bad_warn));
	ck_assert(same_number(a->total, b->total));
	ck_assert(same_number(a->value, b->value));
}

static void
assert_same_sample(const struct sample *a, const struct sample *b)
{
	ck_assert_int_eq(a->kind, b->kind);
	ck_assert_int_eq(a->at, b->at);
	ck_assert_int_eq(a->wall, b->wall);
	ck_assert_int_eq(a->result, b->result);
	ck_assert_int_eq(a->took, b->took);
	ck_assert_int_eq(a->all_failed, b->all_failed);
	ck_assert_int_eq(a->infra_critical, b->infra_critical);
	ck_assert_int_eq(a->infra_known, b->infra_known);
	ck_assert_str_eq(a->detail, b->detail);
	if (a->kind == SAMPLE_METRICS) {
		assert_same_series(&a->rate, &b->rate);
		assert_same_series(&a->latency, &b->latency);
	}
}

/* Every result, flag and awkward number there is. */
static void
some_sample(struct sample *s, unsigned i)
{
	static const double numbers[] = {
		0.0,  1.0 / 3,    DBL_MAX, DBL_MIN,      4.9406564584124654e-324,
		-0.0, 1e15 + 0.5, 0.1,     123456789.125};

	memset(s, 0, sizeof *s);
	s->kind = i & 1 ? SAMPLE_METRICS : SAMPLE_HEALTH;
	s->at = 1000 + i;
	s->wall = INT64_MAX - i;
	s->result = (enum result)(i / 2 % _RESULT_MAX);
	s->took = i;
	s->all_failed = i & 2;
	s->infra_critical = i & 4;
	s->infra_known = i & 8;
	snprintf(s->detail, sizeof s->detail, "sample %u: 'é' \"\"", i);
	if (s->kind == SAMPLE_HEALTH)
		return;
	s->rate = (struct series){.result = (enum result)(i / 4 % _RESULT_MAX),
				  .gauge = i & 2,
				  .span = INT64_MAX - 3,
				  .bad = numbers[i % ARRAY_SIZE(numbers)],
				  .bad_warn = numbers[(i + 1) % ARRAY_SIZE(numbers)],
				  .total = numbers[(i + 2) % ARRAY_SIZE(numbers)],
				  .value = i & 4 ? NAN : numbers[(i + 3) % ARRAY_SIZE(numbers)]};
	s->latency = s->rate;
	s->latency.value = NAN;
}

static void
some_alert(struct alert *a, enum cause cause, usec_t raised, usec_t resolved)
{
	memset(a, 0, sizeof *a);
	str_copy(a->deployment, sizeof a->deployment, "deploy-1");
	a->cause = cause;
	a->level = LEVEL_CRITICAL;
	a->raised_at = a->raised_wall = raised;
	a->resolved_at = a->resolved_wall = resolved;
	FILL(a->text, "text ");
}

START_TEST(everything_comes_back)
{
	struct fixture f;
	struct deployment d;
	struct sample s;
	struct alert open_alert, closed;
	struct store_clock clock;
	struct store_recovered *r;
	struct batch *b;
	size_t n;

	fixture_begin(&f);
	full_deployment(&d);
	b = batch_new(some_clock());
	ck_assert(batch_empty(b));
	batch_deployment(b, &d);
	batch_config(b, d.id, "[service]\nname = 'shop'\n");
	batch_deployment(b, &d); /* again: must not lose the configuration */
	for (unsigned i = 0; i < 40; i++) {
		some_sample(&s, i);
		batch_sample(b, d.id, &s);
	}
	some_sample(&s, 0);
	s.at = d.deployed_at - 1; /* before it was deployed: not the present release's */
	batch_sample(b, d.id, &s);
	some_alert(&open_alert, CAUSE_HEALTH, 7, 0);
	some_alert(&closed, CAUSE_LATENCY, 8, 0);
	batch_alert(b, &open_alert);
	batch_alert(b, &closed);
	some_alert(&closed, CAUSE_LATENCY, 8, 9);
	batch_alert(b, &closed);
	ck_assert(!batch_empty(b));
	commit_and_wait(&f, b);
	fixture_close(&f);

	fixture_open(&f);
	ck_assert_int_eq(store_load(f.store, &clock, &r, &n), 0);
	ck_assert(clock.valid);
	ck_assert_int_eq(clock.core, some_clock()->core);
	ck_assert_int_eq(clock.wall, some_clock()->wall);
	ck_assert_int_eq(clock.boottime, some_clock()->boottime);
	ck_assert_str_eq(clock.boot_id, "boot");
	ck_assert_uint_eq(n, 1);
	ck_assert_mem_eq(&r[0].deployment, &d, sizeof d);
	ck_assert_str_eq(r[0].config, "[service]\nname = 'shop'\n");
	ck_assert_uint_eq(r[0].n_samples, 40);
	for (unsigned i = 0; i < 40; i++) {
		some_sample(&s, i);
		assert_same_sample(&s, &r[0].samples[i]);
	}
	ck_assert_uint_eq(r[0].n_alerts, 1);
	ck_assert_mem_eq(&r[0].alerts[0], &open_alert, sizeof open_alert);
	store_recovered_free(r, n);
	fixture_end(&f);
}
END_TEST

START_TEST(every_state_comes_back)
{
	struct fixture f;
	struct deployment d;
	struct store_clock clock;
	struct store_recovered *r;
	size_t n;
	bool seen[_DSTATE_MAX] = {false};
	struct batch *b;

	fixture_begin(&f);
	b = batch_new(some_clock());
	for (int i = 0; i < _DSTATE_MAX; i++) {
		char id[32], environment[32];

		snprintf(id, sizeof id, "deploy-%d", i);
		snprintf(environment, sizeof environment, "env-%d", i);
		small_deployment(&d, id, environment, "v1", (enum dstate)i, 5);
		batch_deployment(b, &d);
	}
	commit_and_wait(&f, b);
	ck_assert_int_eq(store_load(f.store, &clock, &r, &n), 0);
	ck_assert_uint_eq(n, _DSTATE_MAX);
	for (size_t i = 0; i < n; i++)
		seen[r[i].deployment.state] = true;
	for (int i = 0; i < _DSTATE_MAX; i++)
		ck_assert_msg(seen[i], "state %d is lost", i);
	store_recovered_free(r, n);
	fixture_end(&f);
}
END_TEST

START_TEST(newest_of_each_place_is_loaded)
{
	struct fixture f;
	struct deployment d;
	struct sample s;
	struct store_clock clock;
	struct store_recovered *r;
	size_t n;
	struct batch *b;

	fixture_begin(&f);
	ck_assert_int_eq(store_load(f.store, &clock, &r, &n), 0);
	ck_assert(!clock.valid);
	ck_assert_uint_eq(n, 0);
	b = batch_new(some_clock());
	small_deployment(&d, "new", "production", "v2", DS_QUEUED, 20);
	d.deployed_at = 0;
	batch_deployment(b, &d);
	small_deployment(&d, "old", "production", "v1", DS_SUCCEEDED, 10);
	batch_deployment(b, &d);
	small_deployment(&d, "first", "staging", "v1", DS_SUCCEEDED, 30);
	batch_deployment(b, &d);
	small_deployment(&d, "second", "staging", "v2", DS_WATCHING, 30); /* same time: later row */
	batch_deployment(b, &d);
	some_sample(&s, 1);
	batch_sample(b, "new", &s);
	commit_and_wait(&f, b);
	ck_assert_int_eq(store_load(f.store, &clock, &r, &n), 0);
	ck_assert_uint_eq(n, 2);
	for (size_t i = 0; i < n; i++) {
		bool production = streq(r[i].deployment.environment, "production");

		ck_assert_str_eq(r[i].deployment.id, production ? "new" : "second");
		ck_assert_uint_eq(r[i].n_samples, 0); /* none before it was deployed */
		ck_assert_ptr_null(r[i].config);
	}
	store_recovered_free(r, n);
	fixture_end(&f);
}
END_TEST

struct order {
	int next, n;
};
struct order_arg {
	struct order *o;
	int i;
};

static void
on_ordered(void *arg)
{
	struct order_arg *a = arg;

	ck_assert_int_eq(a->o->next, a->i);
	a->o->next++;
	a->o->n++;
}

START_TEST(batches_are_done_in_order)
{
	enum { N = 500 };
	static struct order_arg args[N];
	struct order o = {0, 0};
	struct fixture f;

	fixture_begin(&f);
	for (int i = 0; i < N; i++) {
		args[i] = (struct order_arg){&o, i};
		store_commit(f.store, numbered(i + 1, ""), on_ordered, &args[i]);
	}
	turn_until(&f, &o.n, N);
	assert_counts_to(&f, N);
	fixture_end(&f);
}
END_TEST

START_TEST(close_commits_what_is_queued)
{
	struct fixture f;
	int n = 0;

	fixture_begin(&f);
	for (int i = 0; i < 50; i++)
		store_commit(f.store, numbered(i + 1, ""), count_up, &n);
	fixture_close(&f);
	ck_assert_int_eq(n, 50);
	fixture_open(&f);
	assert_counts_to(&f, 50);
	fixture_end(&f);
}
END_TEST

struct chain {
	struct fixture *f;
	int n;
};

static void
on_chain(void *arg)
{
	struct chain *c = arg;

	if (++c->n < 5)
		store_commit(c->f->store, numbered(c->n + 1, ""), on_chain, c);
}

START_TEST(close_takes_what_done_hands_over)
{
	struct fixture f;
	struct chain c = {&f, 0};

	fixture_begin(&f);
	store_commit(f.store, numbered(1, ""), on_chain, &c);
	fixture_close(&f);
	ck_assert_int_eq(c.n, 5);
	fixture_open(&f);
	assert_counts_to(&f, 5);
	fixture_end(&f);
}
END_TEST

static json_t *
ask_show(struct fixture *f, const char *id, unsigned limit, int error)
{
	struct answer a = {0};

	store_show(f->store, id, limit, on_json, &a);
	turn_until(f, &a.n, 1);
	ck_assert_int_eq(a.error, error);
	ck_assert_int_eq(a.json != NULL, error == 0);
	return a.json;
}

static const char *
text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	ck_assert_msg(s != NULL, "no text \"%s\"", name);
	return s;
}

START_TEST(show_has_everything)
{
	struct fixture f;
	struct deployment d;
	struct sample s;
	struct alert a;
	struct decision ruled = {.kind = DECISION_ROLL_BACK,
				 .at = 700 * USEC_PER_SEC,
				 .wall = 800 * USEC_PER_SEC,
				 .automatic = true,
				 .actor_uid = UINT_MAX,
				 .evidence = {.rule = RULE_ERROR_RATE,
					      .value = 0.25,
					      .lower = NAN,
					      .since = 690 * USEC_PER_SEC},
				 .text = "bad \xff byte"};
	struct decision manual = {
		.kind = DECISION_PROMOTE, .at = 1, .evidence = {.rule = _RULE_MAX}};
	struct batch *b = batch_new(some_clock());
	json_t *o, *v;

	fixture_begin(&f);
	full_deployment(&d);
	d.created_at = 5;
	d.created_wall = 5 * USEC_PER_SEC;
	batch_deployment(b, &d);
	batch_decision(b, d.id, &ruled);
	batch_decision(b, d.id, &manual); /* earlier */
	some_alert(&a, CAUSE_HEALTH, 7, 9);
	batch_alert(b, &a);
	for (unsigned i = 0; i < 30; i++) {
		some_sample(&s, i);
		s.took = i * USEC_PER_MSEC;
		batch_sample(b, d.id, &s);
	}
	commit_and_wait(&f, b);
	o = ask_show(&f, d.id, 10, 0);
	ck_assert_str_eq(text_of(o, "state"), "rolling-back.choosing");
	ck_assert_str_eq(text_of(o, "reason"), d.reason);
	v = json_object_get(o, "decisions");
	ck_assert_uint_eq(json_array_size(v), 2);
	ck_assert(json_is_null(json_object_get(json_array_get(v, 0), "rule")));
	v = json_array_get(v, 1);
	ck_assert_str_eq(text_of(v, "kind"), "roll-back");
	ck_assert_str_eq(text_of(v, "rule"), "error-rate");
	ck_assert_str_eq(text_of(v, "text"), "bad \\xff byte");
	ck_assert_str_eq(text_of(v, "at"), "1970-01-01T00:13:20.000Z");
	ck_assert_int_eq(json_integer_value(json_object_get(v, "actor_uid")), UINT_MAX);
	v = json_object_get(v, "evidence");
	ck_assert(json_number_value(json_object_get(v, "value")) == 0.25);
	ck_assert(json_is_null(json_object_get(v, "lower")));
	ck_assert_int_eq(json_integer_value(json_object_get(v, "since_ms")), 10000);
	ck_assert_uint_eq(json_array_size(json_object_get(o, "alerts")), 1);
	v = json_object_get(o, "samples");
	ck_assert_uint_eq(json_array_size(v), 10); /* the last ten, in order */
	for (size_t i = 0; i < 10; i++)
		ck_assert_int_eq(event_field(v, i, "took_ms"), 20 + (int)i);
	json_decref(o);
	ask_show(&f, "deploy-none", 10, -ENOENT);
	fixture_end(&f);
}
END_TEST

static json_t *
ask_history(struct fixture *f, const char *environment, unsigned limit)
{
	struct store_filter filter = {
		.service = "shop", .environment = environment, .limit = limit};
	struct answer a = {0};

	store_history(f->store, &filter, on_json, &a);
	turn_until(f, &a.n, 1);
	ck_assert_int_eq(a.error, 0);
	return a.json;
}

START_TEST(history_is_newest_first)
{
	struct fixture f;
	struct deployment d;
	struct batch *b = batch_new(some_clock());
	json_t *v;

	fixture_begin(&f);
	for (int i = 0; i < 20; i++) {
		char id[32];

		snprintf(id, sizeof id, "deploy-%d", i);
		small_deployment(&d, id, i % 2 ? "production" : "staging", "v1", DS_SUCCEEDED,
				 10 + i);
		batch_deployment(b, &d);
	}
	commit_and_wait(&f, b);
	v = ask_history(&f, NULL, 3);
	ck_assert_uint_eq(json_array_size(v), 3);
	ck_assert_str_eq(text_of(json_array_get(v, 0), "id"), "deploy-19");
	ck_assert_str_eq(text_of(json_array_get(v, 2), "id"), "deploy-17");
	json_decref(v);
	v = ask_history(&f, "staging", 0);
	ck_assert_uint_eq(json_array_size(v), 10);
	ck_assert_str_eq(text_of(json_array_get(v, 0), "id"), "deploy-18");
	json_decref(v);
	v = ask_history(&f, "nowhere", 0);
	ck_assert_uint_eq(json_array_size(v), 0);
	json_decref(v);
	fixture_end(&f);
}
END_TEST

START_TEST(events_can_be_followed)
{
	struct fixture f;
	struct batch *b = batch_new(some_clock());
	struct store_filter filter = {.deployment = "deploy-3", .limit = 2};
	struct answer a = {0};
	json_t *v;

	fixture_begin(&f);
	for (int i = 0; i < 12; i++) {
		json_t *o = json_pack("{s:i, s:i}", "n", i, "seq", -1); /* seq is the store's */
		char id[32];

		snprintf(id, sizeof id, "deploy-%d", i % 4);
		batch_event(b, "shop", "production", i < 11 ? id : NULL, o);
		json_decref(o);
	}
	commit_and_wait(&f, b);
	v = events_after(&f, 9);
	ck_assert_uint_eq(json_array_size(v), 3);
	ck_assert_int_eq(event_field(v, 0, "seq"), 10);
	ck_assert_int_eq(event_field(v, 2, "n"), 11);
	ck_assert_str_eq(json_object_iter_key(json_object_iter(json_array_get(v, 0))), "seq");
	json_decref(v);
	store_events(f.store, &filter, on_json, &a);
	turn_until(&f, &a.n, 1);
	ck_assert_uint_eq(json_array_size(a.json), 2);
	ck_assert_int_eq(event_field(a.json, 0, "n"), 3);
	ck_assert_int_eq(event_field(a.json, 1, "n"), 7);
	json_decref(a.json);
	fixture_end(&f);
}
END_TEST

struct rows {
	int n, error;
	size_t n_rows;
	struct backup_row v[8];
};

static void
on_rows(void *arg, int error, struct backup_row *rows, size_t n)
{
	struct rows *r = arg;

	r->n++;
	r->error = error;
	r->n_rows = n;
	for (size_t i = 0; i < n && i < ARRAY_SIZE(r->v); i++)
		r->v[i] = rows[i];
}

START_TEST(backups_come_back)
{
	struct fixture f;
	struct backup_row row;
	struct batch *b = batch_new(some_clock());
	struct store_filter filter = {.environment = "production"};
	struct rows rows = {0};
	struct answer a = {0};

	fixture_begin(&f);
	memset(&row, 0, sizeof row);
	FILL(row.sha256, "ab");
	FILL(row.tag, "v");
	str_copy(row.service, sizeof row.service, "shop");
	str_copy(row.environment, sizeof row.environment, "production");
	str_copy(row.deployment, sizeof row.deployment, "deploy-1");
	row.bytes = INT64_MAX;
	for (int i = 1; i <= 4; i++) {
		snprintf(row.path, sizeof row.path, "/backups/%d.zip", i);
		row.created_wall = i * USEC_PER_SEC;
		batch_backup(b, &row);
	}
	row.corrupt = row.emergency = true; /* the fourth, by its path */
	row.verified_wall = 99;
	batch_backup(b, &row);
	commit_and_wait(&f, b);
	store_backup_rows(f.store, "shop", "production", 0, on_rows, &rows);
	turn_until(&f, &rows.n, 1);
	ck_assert_uint_eq(rows.n_rows, 4);
	ck_assert_mem_eq(&rows.v[0], &row, sizeof row);
	ck_assert_str_eq(rows.v[3].path, "/backups/1.zip");
	store_backup_rows(f.store, "shop", "production", 3 * USEC_PER_SEC, on_rows, &rows);
	turn_until(&f, &rows.n, 2);
	ck_assert_uint_eq(rows.n_rows, 2);
	ck_assert_str_eq(rows.v[0].path, "/backups/2.zip");
	store_backup_rows(f.store, "shop", "staging", 0, on_rows, &rows);
	turn_until(&f, &rows.n, 3);
	ck_assert_int_eq(rows.error, 0);
	ck_assert_uint_eq(rows.n_rows, 0);
	store_backups_named(f.store, "/backups/2", on_rows, &rows);
	turn_until(&f, &rows.n, 4);
	ck_assert_uint_eq(rows.n_rows, 1);
	ck_assert_str_eq(rows.v[0].path, "/backups/2.zip");
	store_backups_named(f.store, "/backups/", on_rows, &rows);
	turn_until(&f, &rows.n, 5);
	ck_assert_uint_eq(rows.n_rows, 4);
	store_backups_named(f.store, "/backups/2.zip.", on_rows, &rows);
	turn_until(&f, &rows.n, 6);
	ck_assert_uint_eq(rows.n_rows, 0);
	store_backups(f.store, &filter, on_json, &a);
	turn_until(&f, &a.n, 1);
	ck_assert_uint_eq(json_array_size(a.json), 4);
	ck_assert_str_eq(text_of(json_array_get(a.json, 0), "path"), "/backups/4.zip");
	ck_assert(json_is_true(json_object_get(json_array_get(a.json, 0), "corrupt")));
	ck_assert(json_is_null(json_object_get(json_array_get(a.json, 1), "verified_at")));
	json_decref(a.json);
	fixture_end(&f);
}
END_TEST

/* "succeeded bad why previous in_place deployments" of a tag on production */
static void
assert_facts(struct fixture *f, const char *tag, const char *expected)
{
	struct answer a = {0};
	char got[400];

	store_tag_facts(f->store, "shop", "production", tag, on_json, &a);
	turn_until(f, &a.n, 1);
	ck_assert_int_eq(a.error, 0);
	snprintf(got, sizeof got, "%d %d [%s] [%s] [%s] %d",
		 json_is_true(json_object_get(a.json, "succeeded")),
		 json_is_true(json_object_get(a.json, "bad")), text_of(a.json, "why"),
		 text_of(a.json, "previous"), text_of(a.json, "in_place"),
		 (int)json_integer_value(json_object_get(a.json, "deployments")));
	ck_assert_str_eq(got, expected);
	json_decref(a.json);
}

static void
put(struct fixture *f, const char *id, const char *tag, const char *previous, enum dstate state,
    usec_t created)
{
	struct batch *b = batch_new(some_clock());
	struct deployment d;

	small_deployment(&d, id, "production", tag, state, created);
	str_copy(d.previous_tag, sizeof d.previous_tag, previous);
	d.deployed_at = state == DS_REJECTED ? 0 : created;
	batch_deployment(b, &d);
	commit_and_wait(f, b);
}

static void
mark(struct fixture *f, const char *tag, bool bad)
{
	struct batch *b = batch_new(some_clock());

	batch_bad_tag(b, "shop", "production", tag, bad, "health");
	commit_and_wait(f, b);
}

START_TEST(facts_of_a_tag)
{
	struct fixture f;

	fixture_begin(&f);
	assert_facts(&f, "v1", "0 0 [] [] [] 0");
	put(&f, "d1", "v1", "", DS_REJECTED, 1);
	assert_facts(&f, "v1", "0 0 [] [] [] 0"); /* never got as far as being deployed */
	put(&f, "d2", "v1", "", DS_SUCCEEDED, 2);
	assert_facts(&f, "v1", "1 0 [] [v1] [v1] 1");
	put(&f, "d3", "v2", "v1", DS_WATCHING, 3);
	assert_facts(&f, "v2", "0 0 [] [v1] [v2] 2");
	put(&f, "d3", "v2", "v1", DS_ROLLED_BACK, 3);
	mark(&f, "v2", true);
	assert_facts(&f, "v2", "0 1 [health] [v1] [v1] 2");
	assert_facts(&f, "v1", "1 0 [] [v1] [v1] 2");
	mark(&f, "v2", false);
	put(&f, "d4", "v2", "v1", DS_SUCCEEDED, 4);
	assert_facts(&f, "v2", "1 0 [] [v2] [v2] 3");
	put(&f, "d4", "v2", "v1", DS_ROLLBACK_FAILED, 4); /* a success taken back */
	assert_facts(&f, "v2", "0 0 [] [v1] [] 3");
	fixture_end(&f);
}
END_TEST

static int
count_rows(const char *path, const char *sql)
{
	sqlite3 *db;
	sqlite3_stmt *s;
	int n;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
	n = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

static void
execute(const char *path, const char *sql)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

START_TEST(audit_is_kept)
{
	struct fixture f;
	struct batch *b = batch_new(some_clock());

	fixture_begin(&f);
	batch_audit(b, UINT_MAX, 4711, "deploy", "shop/production", "it's time", true);
	batch_audit(b, 0, 1, "rollback", "shop/production", NULL, false);
	commit_and_wait(&f, b);
	fixture_close(&f);
	ck_assert_int_eq(count_rows(f.path,
				    "SELECT count(*) FROM audit WHERE uid = 4294967295 AND "
				    "pid = 4711 AND act = 'deploy' AND reason = 'it''s time' "
				    "AND granted = 1 AND wall > 0"),
			 1);
	ck_assert_int_eq(count_rows(f.path, "SELECT count(*) FROM audit WHERE granted = 0"), 1);
	fixture_end(&f);
}
END_TEST

/* The lock is the system's, not this process's own: the child was forked before there was a store.
 */
START_TEST(second_opener_is_refused)
{
	struct fixture f, other;
	int go[2], status;
	pid_t child;
	char c = 0;

	fixture_folder(&f);
	ck_assert_int_eq(pipe(go), 0);
	child = fork();
	if (child == 0) {
		if (read(go[0], &c, 1) != 1)
			_exit(100);
		_exit(-fixture_try_open(&f));
	}
	fixture_open(&f);
	commit_and_wait(&f, numbered(1, ""));
	other = f;
	ck_assert_int_eq(fixture_try_open(&other), -EBUSY); /* not even we ourselves */
	free(other.note);
	ck_assert_int_eq(write(go[1], &c, 1), 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(WEXITSTATUS(status), EBUSY);
	close(go[0]);
	close(go[1]);
	commit_and_wait(&f, numbered(2, ""));
	assert_counts_to(&f, 2);
	fixture_end(&f);
}
END_TEST

START_TEST(newer_version_is_left_alone)
{
	struct fixture f;

	fixture_begin(&f);
	commit_and_wait(&f, numbered(1, ""));
	fixture_close(&f);
	execute(f.path, "PRAGMA user_version = 99");
	ck_assert_int_eq(fixture_try_open(&f), -ENOTSUP);
	ck_assert_msg(f.note && strstr(f.note, "version 99"), "%s", f.note ? f.note : "(nothing)");
	free(f.note);
	ck_assert_int_eq(count_rows(f.path, "PRAGMA user_version"), 99);
	ck_assert_int_eq(count_rows(f.path, "SELECT count(*) FROM events"), 1);
	fixture_end(&f);
}
END_TEST

START_TEST(opening_again_changes_nothing)
{
	struct fixture f;

	fixture_begin(&f);
	commit_and_wait(&f, numbered(1, ""));
	for (int i = 0; i < 3; i++) {
		fixture_close(&f);
		fixture_open(&f);
		ck_assert_ptr_null(f.note);
		ck_assert_ptr_null(store_failed(f.store));
		assert_counts_to(&f, 1);
	}
	fixture_close(&f);
	ck_assert_int_eq(count_rows(f.path, "PRAGMA user_version"), 1);
	fixture_end(&f);
}
END_TEST

/* Killed after the file was made and before the first migration was in. */
START_TEST(empty_file_is_migrated)
{
	struct fixture f;

	fixture_folder(&f);
	execute(f.path, "PRAGMA journal_mode = WAL");
	fixture_open(&f);
	ck_assert_ptr_null(f.note);
	commit_and_wait(&f, numbered(1, ""));
	assert_counts_to(&f, 1);
	fixture_end(&f);
}
END_TEST

static unsigned
mode_of(const char *path, const char *end)
{
	char *name = xasprintf("%s%s", path, end);
	struct stat st;

	ck_assert_int_eq(stat(name, &st), 0);
	free(name);
	return st.st_mode & 07777;
}

/* Frozen configurations are in it, with what HookEnvironment= says; an older file is mended. */
START_TEST(nobody_else_reads_it)
{
	struct fixture f;

	umask(022);
	fixture_begin(&f);
	commit_and_wait(&f, numbered(1, ""));
	ck_assert_uint_eq(mode_of(f.path, ""), 0600);
	ck_assert_uint_eq(mode_of(f.path, "-wal"), 0600);
	fixture_close(&f);
	ck_assert_int_eq(chmod(f.path, 0644), 0);
	fixture_open(&f);
	commit_and_wait(&f, numbered(2, ""));
	ck_assert_uint_eq(mode_of(f.path, ""), 0600);
	ck_assert_uint_eq(mode_of(f.path, "-wal"), 0600);
	assert_counts_to(&f, 2);
	fixture_end(&f);
}
END_TEST

START_TEST(folder_that_is_not_there)
{
	struct fixture f;

	fixture_folder(&f);
	rmdir(f.dir);
	ck_assert_int_eq(fixture_try_open(&f), -EACCES);
	ck_assert_msg(f.note && strstr(f.note, "unable to open"), "%s",
		      f.note ? f.note : "(nothing)");
	free(f.note);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		everything_comes_back,
		every_state_comes_back,
		newest_of_each_place_is_loaded,
		batches_are_done_in_order,
		close_commits_what_is_queued,
		close_takes_what_done_hands_over,
		show_has_everything,
		history_is_newest_first,
		events_can_be_followed,
		backups_come_back,
		facts_of_a_tag,
		audit_is_kept,
		second_opener_is_refused,
		newer_version_is_left_alone,
		opening_again_changes_nothing,
		empty_file_is_migrated,
		nobody_else_reads_it,
		folder_that_is_not_there,
	};

	return run_suite("store", tests, ARRAY_SIZE(tests), 30);
}
