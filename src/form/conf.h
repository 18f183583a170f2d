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

struct predicate;
struct schema;

/* The longest channel name, in bytes; names are UTF-8 without NUL. Keys in LMDB are to 511 bytes. */
#define CONF_CHANNEL_NAME_MAX	255

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

/* channel "NAME" { … }. Its number elsewhere is its index here. */
struct conf_channel {
	char *name;
	size_t name_len;
	bool durable;
	char *schema_file;		/* absolute path; NULL = any bytes pass */
	struct schema *schema;		/* the same, compiled */
	uint8_t schema_id[32];		/* README, "Channels" */
	uint64_t keep_messages;		/* the bound of what is kept: messages, 0 = none, */
	uint64_t keep_bytes;		/* bytes, */
	int64_t keep_age_ns;		/* and age, 0 = none */
	int64_t dedup_window_ns;
	uint64_t dedup_keys;		/* remembered at once */
	int64_t redelivery_delay_ns;	/* after a Defer */
	unsigned *routes;		/* n_routes indices of those that begin here */
	unsigned n_routes;
	bool is_by_store;		/* durable, or routes lead to one that is: in any case the
					   store process writes what is published here */
	bool is_parsed;			/* its schema, or a route that can be reached, needs the JSON */
};

/* route "NAME" { from = … to = … when = … } */
struct conf_route {
	char *name;
	unsigned from, to;		/* numbers of channels */
	char *when;			/* NULL = every message */
	struct predicate *predicate;	/* the same, compiled */
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

	struct conf_channel *channels;	/* n_channels, each name once */
	unsigned n_channels;
	struct conf_route *routes;	/* n_routes, without a cycle */
	unsigned n_routes;
	unsigned *channel_table;	/* of conf_channel_find only */
	size_t channel_table_size;

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

/* Does anything outlive a restart: the record or a durable channel? Then there is a store, with its process,
 * and persist_dir must be there. */
bool	conf_needs_store(const struct conf *conf);

/* The channel of that name, or NULL. One look, however many there are. */
const struct conf_channel *conf_channel_find(const struct conf *conf, const void *name, size_t len);

/* Write CONF in the syntax of the file, without the token. Read again, it is the same. */
void	conf_print(const struct conf *conf, FILE *out);

/* Call REPORT for each key that was set and has no effect in this version. */
void	conf_each_inactive(const struct conf *conf, void (*report)(const char *key));

/* "250ms", "5s", "10m", "2h", "7d" -> nanoseconds; "64K", "16M", "1G", "512" -> bytes. 0 or
 * ERR_INVALID (also when it does not fit). */
int	conf_parse_duration(const char *text, int64_t *ns);
int	conf_parse_size(const char *text, uint64_t *bytes);

#endif
