/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_CONF_H
#define DHASH_CONF_H

/*
 * The configuration: dhashd.conf, dhashd.conf.d/ *.conf, services.d/<name>.conf, read by libinih
 * into plain structs by one table of keys (conf_keys(), which the manual page is checked against).
 * All errors of a run are collected; a configuration with one error is no configuration.
 */

#include "daemon/core/policy.h"

enum conf_check_type { CHECK_HTTP, CHECK_TCP, CHECK_EXEC };

struct conf_check {
	char *name;
	enum conf_check_type type;
	char *url;        /* http */
	char *address;    /* tcp: host:port */
	char **argv;      /* exec */
	char *expect;     /* http: "200-299,301" */
	char *body;       /* http: extended regex, or NULL */
	char *credential; /* http: bearer token, by name; or NULL */
	usec_t timeout_usec;
	bool required;
	bool infrastructure; /* feeds the infrastructure rule, not the health round */
};

struct conf_metrics {
	char *url;        /* MetricsURL= of the environment */
	char *credential; /* bearer token, by name; or NULL */
	char *requests;   /* selectors */
	char *errors;
	char *latency;     /* histogram's base name with optional selector */
	char *error_ratio; /* gauge instead of requests and errors */
	char *p95;         /* gauge instead of latency, in seconds */
	usec_t timeout_usec;
	size_t max_bytes;
};

struct conf_env {
	char *service, *name;
	char *description, *working_directory;
	char *after;                          /* environment that must have succeeded first */
	char **deploy, **rollback, **restart; /* argument vectors with %-specifiers; NULL = none */
	char *user;                           /* run hooks as; NULL = as the daemon */
	char *artifact;                       /* path with %-specifiers; built-in engine */
	char *releases; /* folder of releases/ and current; default WorkingDirectory */
	char **backup_paths;
	char *backup_dir;      /* default $STATE/backups */
	usec_t hook_kill_usec; /* from TERM to KILL */
	size_t hook_output_max_bytes;
	char **hook_environment;      /* NAME=value, in addition to the clean one */
	struct conf_check **checks;   /* NULL-terminated; HealthURL= is the one called "health" */
	struct conf_check *reference; /* or NULL */
	struct conf_metrics metrics;
	struct policy policy;
};

struct conf {
	char *log_level;
	char *read_group, *operate_group; /* "dhash", "dhash-operators" */
	unsigned worker_threads;
	struct conf_env **envs; /* NULL-terminated, in order of service, then of the file */
};

struct conf_error {
	char *file;
	unsigned line; /* 0 = the file as a whole */
	char *text;    /* 'unknown key "Treshold" in [Rule error-rate]; did you mean "Limit"?' */
};

struct conf_errors {
	bool passing; /* among them is one of the machine's (no descriptor, EIO), not of the text */
	struct conf_error *v;
	size_t n;
};

/*
 * Reads everything below confdir.  Returns 0, or -EINVAL with every error in *errors (also used for
 * files that cannot be read), or -EAGAIN where another try may find nothing wrong.  A folder
 * without services is no error.
 */
int conf_load(const char *confdir, struct conf **ret, struct conf_errors *errors);
/* One service's file alone, wherever it stands: nothing else's errors get in its way. */
int conf_load_service(const char *path, const char *service, struct conf **ret,
		      struct conf_errors *errors);
void conf_free(struct conf *c);
void conf_errors_free(struct conf_errors *e);
struct conf_env *conf_find(const struct conf *c, const char *service, const char *environment);

/*
 * One environment as INI text with every key written out, and back: what is frozen with a
 * deployment and read again after a restart, whatever the files say by then.
 */
char *conf_env_dump(const struct conf_env *e);
int conf_env_parse(const char *text, struct conf_env **ret, struct conf_errors *errors);
void conf_env_free(struct conf_env *e);

/* Where the backups of an environment are: BackupDir=, else below the state folder.  Owned. */
char *conf_backup_folder(const struct conf_env *e, const char *state_dir);

/* The table, for documentation tests: section pattern, key, type, default, help. */
struct conf_key_doc {
	const char *section, *key, *type, *def, *help;
};
const struct conf_key_doc *conf_keys(size_t *ret_n);

/* Values for %e %t %b %i %s; %% is a percent sign. */
struct specifiers {
	const char *environment, *tag, *backup, *deployment, *service;
};
/* Splits a hook line like systemd: blanks, '…', "…", \-escapes; no variables, no shell.
 * -EINVAL with *ret_error (owned) for an open quote or a specifier that is not known. */
int hook_line_split(const char *line, char ***ret, char **ret_error);
/* One string, or a vector, with the specifiers put in; never splits again. */
char *specifiers_expand(const char *s, const struct specifiers *v);
char **specifiers_expandv(char *const *argv, const struct specifiers *v);
bool specifiers_use(char *const *argv, char specifier);

#endif
