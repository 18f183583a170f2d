/*
 * conf: the configuration, from defaults, file, environment and -o, in that order.
 *
 * Every error is collected with its file and line, not only the first one. A struct conf is
 * complete and checked, or it is not used.
 */
#ifndef LIMINAL_FORM_CONF_H
#define LIMINAL_FORM_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONF_DEFAULT_FILE "/etc/liminald.conf"

enum conf_log_level { CONF_LOG_ERROR, CONF_LOG_WARN, CONF_LOG_INFO, CONF_LOG_DEBUG };
enum conf_fallback { CONF_FALLBACK_ECHO, CONF_FALLBACK_REFUSE };
enum conf_connection_subjects {
	CONF_SUBJECTS_OFF, CONF_SUBJECTS_LOCAL, CONF_SUBJECTS_ANY
};
enum conf_router {
	CONF_ROUTER_LEAST_LOADED, CONF_ROUTER_ROUND_ROBIN, CONF_ROUTER_NODE_AFFINITY,
	CONF_ROUTER_MODULE
};

/* A list of texts, as in { "a", "b" }. */
struct conf_list {
	char **texts;		/* and a NULL behind them; NULL itself when n is 0 */
	unsigned n;
};

/* responder "SUBJECT" { exec = { … } } */
struct conf_responder {
	char *subject;
	struct conf_list exec;		/* at least the program, whose path is absolute */
};

struct conf {
	char **listen;			/* n_listen addresses, at least one */
	unsigned n_listen;
	char *runtime_dir;		/* absolute, or relative to the file resolved */
	char *persist_dir;
	char *user;			/* NULL = stay who we are */
	char *pid_file;			/* NULL = none */
	char *health_listen;		/* NULL = none */
	int64_t drain_timeout_ns;
	enum conf_log_level log_level;

	uint8_t *token;			/* NULL = no authentication; never logged or printed */
	size_t token_len;
	char *token_file;		/* where it came from; NULL with a token: the environment */

	int64_t reply_timeout_ns;	/* conversation */
	enum conf_fallback fallback;
	enum conf_connection_subjects connection_subjects;

	struct conf_responder *responders;	/* n_responders, each subject once */
	unsigned n_responders;

	char *notifier_module;		/* absolute path; NULL = no notifier */
	struct conf_list notifier_args;
	int64_t notifier_timeout_ns;

	enum conf_router router;	/* dispatch */
	char *router_module;		/* absolute path; CONF_ROUTER_MODULE only */
	struct conf_list router_args;
	int64_t router_timeout_ns;
	uint32_t default_capacity;
	uint32_t queue_limit;
	uint32_t max_attempts;
	int64_t first_push_delay_ns;
	bool record;
	uint32_t record_keep;		/* dispatches */
	int64_t record_keep_age_ns;

	uint32_t max_connections;	/* limits */
	uint32_t max_connections_per_address;	/* 0 = no limit */
	uint32_t max_frame_bytes;	/* of a payload */
	int64_t handshake_timeout_ns;
	uint32_t max_conversations;
	uint32_t max_subscriptions;
	uint32_t max_pushes;
	uint64_t outbound_bytes;

	struct conf_list inactive;	/* keys, for conf_each_inactive only */
};

/* What came in from outside, in the order of precedence (low to high). */
struct conf_source {
	const char *file;	/* NULL: CONF_DEFAULT_FILE if it exists, else none */
	char *const *overrides;	/* n_overrides texts "KEY=VALUE" of -o */
	unsigned n_overrides;
};

/*
 * Read everything into *CONF (to be freed with conf_free in any case). Each error becomes
 * one line on ERRORS, `file:line: text` for the file, `LIMINAL_X: text` for the
 * environment, `-o KEY: text` for overrides. Returns 0, ERR_INVALID when there was at
 * least one, or ERR_NOMEM. Only the setting that wins is checked for its value; what is wrong
 * with the form of the file (syntax, unknown or repeated keys) is always an error. A file
 * that was named but cannot be read is an error. Keys that this version knows but does not
 * act on yet are reported by conf_each_inactive. Not reentrant (libConfuse is not).
 */
int	conf_load(struct conf *conf, const struct conf_source *source, FILE *errors);
void	conf_free(struct conf *conf);

/* Write CONF in the syntax of the file, without the token. Read again, it is the same. */
void	conf_print(const struct conf *conf, FILE *out);

/* Call REPORT for each key that was set and has no effect in this version. */
void	conf_each_inactive(const struct conf *conf, void (*report)(const char *key));

/* "250ms", "5s", "10m", "2h", "7d" -> nanoseconds; "64K", "16M", "1G", "512" -> bytes. 0 or
 * ERR_INVALID (also when it does not fit). */
int	conf_parse_duration(const char *text, int64_t *ns);
int	conf_parse_size(const char *text, uint64_t *bytes);

#endif
