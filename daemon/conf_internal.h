/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CONF_INTERNAL_H
#define DHASH_CONF_INTERNAL_H

/*
 * What the configuration's own files share: conf_file.c (text to entries), conf_table.c (keys and
 * their values), conf_sections.c (sections and their names), conf_build.c (entries to
 * environments), conf_check.c (health checks, and what must fit together), conf_dump.c (and back),
 * conf.c (the folder).
 */

#include "daemon/conf.h"

struct conf_entry {
	char *section; /* "Rule error-rate production" */
	char *key;     /* NULL: the section's own line */
	char *value;
	unsigned line;
};

struct conf_file {
	char *path; /* for messages */
	struct conf_entry *v;
	size_t n;
};

/* An environment in the making: what sections say before it is put together. */
struct draft {
	struct conf_env env;
	char *health_url, *expect, *body, *reference;
	usec_t health_timeout_usec;
	usec_t watch_usec, interval_usec; /* Watch=: one phase instead of three */
	unsigned on_escalation;
};

struct daemon_keys {
	char *log_level, *read_group, *operate_group;
	unsigned workers;
};

enum key_type {
	KEY_STRING,
	KEY_NAME, /* name_valid() */
	KEY_PATH, /* absolute */
	KEY_SPAN,
	KEY_SPAN_SET, /* not 0 */
	KEY_UINT,     /* at least 1 */
	KEY_BOOL,
	KEY_BYTES,   /* "10M" */
	KEY_RATIO,   /* "10%" or "0.1" */
	KEY_SECONDS, /* a time span, kept as a double */
	KEY_LIMIT,   /* of a rule: ratio or seconds, by the rule */
	KEY_ARGV,    /* a hook line */
	KEY_WORDS,
	KEY_REGEX,
	KEY_STATUSES, /* "200-299,301" */
	KEY_SELECTOR,
	KEY_CHOICE,
};

/* Where a key's value goes: one of the structs above, or part of an environment. */
enum key_owner { OWN_DAEMON, OWN_DRAFT, OWN_CHECK, OWN_PHASE, OWN_RULE, OWN_METRICS };

struct conf_key {
	const char *section; /* pattern for people: "Environment NAME" */
	const char *key;
	enum key_type type;
	enum key_owner owner;
	size_t offset;
	const char *def, *help;
	const char *const *choices; /* KEY_CHOICE: NULL-terminated; the index is stored */
};

extern const struct conf_key conf_key_table[];
extern const size_t conf_key_table_len;

const struct conf_key *conf_key_find(enum key_owner owner, const char *key);
/* Sets the field of `base` that the key names.  -EINVAL with *ret_why (owned). */
int conf_key_set(const struct conf_key *k, void *base, enum rule_kind rule, const char *value,
		 char **ret_why);
/* The value as text that conf_key_set() reads back; NULL where the field is unset. */
char *conf_key_text(const struct conf_key *k, const void *base, enum rule_kind rule);
void conf_key_free(const struct conf_key *k, void *base);

/* conf_file.c: reads text; syntax errors go to *errors with their lines. */
void conf_file_parse(const char *path, const char *text, struct conf_file *ret,
		     struct conf_errors *errors);
void conf_file_done(struct conf_file *f);

/* --- conf_sections.c --- */

/* "Rule error-rate production": kind, name, environment. */
enum { NAME_BUF = 70 };

struct section {
	char kind[32], name[NAME_BUF], env[NAME_BUF];
	unsigned words;
};

struct section section_split(const char *text);
/* The environment a section is for: "" = all. */
const char *section_env(const struct section *s);
bool conf_env_exists(const struct conf_file *f, const char *name);
/* Writes into buf that there is no such environment, and which was likely meant; returns buf. */
const char *conf_no_env(const struct conf_file *f, const char *name, char *buf, size_t n);
/* Tries every entry once against scratch structs, so that each error is told once, however many
 * environments it would reach. */
void conf_try_entries(const struct conf_file *f, struct conf_errors *errors);

/* --- an environment being put together --- */

enum build_mode { BUILD_FILE, BUILD_FROZEN };

struct build {
	const struct conf_file *file;
	const char *service;
	const char *env;
	enum build_mode mode;
	struct conf_errors *errors;
	struct draft draft;
	struct conf_check **checks; /* owned, NULL-terminated */
	size_t n_checks;
	struct conf_check *reference; /* owned */
};

/* The entry of a section; key NULL: the section's own line.  NULL where there is none. */
const struct conf_entry *build_find(const struct build *b, const char *section, const char *key);
/* The line to complain about: the environment's own key, the service's, or the environment's
 * section; 0 = the file. */
unsigned build_line(const struct build *b, const char *key);

#define COMPLAIN(b, key, ...)                                                                      \
	conf_error_add((b)->errors, (b)->file->path, build_line(b, key), __VA_ARGS__)

/* Sets every key of the sections that `kind` and `name` (NULL = any) match, for all environments
 * or (own) for this one.  Bad values were told before and are passed over. */
void build_apply(struct build *b, const char *kind, const char *name, bool own,
		 enum key_owner owner, void *base, enum rule_kind rule);
/* First for all, then for this one. */
void build_apply_both(struct build *b, const char *kind, const char *name, enum key_owner owner,
		      void *base, enum rule_kind rule);

/* conf_check.c */
void build_checks(struct build *b);
void build_cross_check(struct build *b);
struct conf_check *conf_check_new(const char *name);
void conf_check_free(struct conf_check *c);

/* conf_build.c */
/* Every environment of a file; NULL-terminated, owned.  Errors do not stop it. */
struct conf_env **conf_build(const struct conf_file *f, const char *service, enum build_mode mode,
			     struct conf_errors *errors);

__attribute__((format(printf, 4, 5))) void
conf_error_add(struct conf_errors *errors, const char *file, unsigned line, const char *fmt, ...);
/* "WHAT: " and the error, which may be one that passes. */
void conf_error_system(struct conf_errors *errors, const char *file, const char *what, int error);
/* Notes that one of the errors is the machine's for the moment, where it is. */
void conf_error_passes(struct conf_errors *errors, int error);

#endif
