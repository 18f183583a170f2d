/*
 * The table of the keys: every key of the configuration file, once. A key that is not here
 * is unknown; one that is here without a reader in the daemon is marked inactive.
 */
#include <string.h>

#include "form/conf_parts.h"

#define MS	INT64_C(1000000)
#define SECOND	(1000 * MS)
#define HOUR	(3600 * SECOND)
#define DAY	(24 * HOUR)
#define KIB	INT64_C(1024)
#define GIB	(KIB * KIB * KIB)

#define FIELD(f)	offsetof(struct conf, f)
#define CHANNEL(f)	offsetof(struct conf_channel, f)
#define ROUTE(f)	offsetof(struct conf_route, f)

static const char *const words_level[] = { "error", "warn", "info", "debug", NULL };
static const char *const words_fallback[] = { "echo", "refuse", NULL };
static const char *const words_subjects[] = { "off", "local", "any", NULL };
static const char *const words_router[] = {
	"least_loaded", "round_robin", "node_affinity", NULL
};

static const struct { const char *name; enum conf_section_kind kind; } sections[] = {
	{ "auth", CONF_SECTION_PLAIN },
	{ "conversation", CONF_SECTION_PLAIN },
	{ "responder", CONF_SECTION_TITLED },
	{ "notifier", CONF_SECTION_PLAIN },
	{ "channel", CONF_SECTION_TITLED },
	{ "route", CONF_SECTION_TITLED },
	{ "dispatch", CONF_SECTION_PLAIN },
	{ "limits", CONF_SECTION_PLAIN },
};

const struct conf_key conf_keys[] = {
	{ .name = "listen", .kind = CONF_KIND_ADDRESSES, .offset = FIELD(listen),
	  .initial = "127.0.0.1:7677" },
	{ .name = "health_listen", .kind = CONF_KIND_ADDRESS, .offset = FIELD(health_listen),
	  .inactive = true },
	{ .name = "runtime_dir", .kind = CONF_KIND_PATH, .offset = FIELD(runtime_dir),
	  .initial = "/run/liminald" },
	{ .name = "persist_dir", .kind = CONF_KIND_PATH, .offset = FIELD(persist_dir),
	  .initial = "/var/lib/liminald" },
	{ .name = "user", .kind = CONF_KIND_NAME, .offset = FIELD(user) },
	{ .name = "pid_file", .kind = CONF_KIND_PATH, .offset = FIELD(pid_file),
	  .inactive = true },
	{ .name = "drain_timeout", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(drain_timeout_ns), .initial = "30s", .max = DAY },
	{ .name = "log_level", .kind = CONF_KIND_WORD, .offset = FIELD(log_level),
	  .initial = "info", .words = words_level },

	{ .section = "auth", .name = "token_file", .kind = CONF_KIND_TOKEN_FILE,
	  .offset = FIELD(token_file),
	  .required = "without the section everybody may connect" },

	{ .section = "conversation", .name = "reply_timeout", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(reply_timeout_ns), .initial = "5s", .min = MS, .max = DAY },
	{ .section = "conversation", .name = "fallback", .kind = CONF_KIND_WORD,
	  .offset = FIELD(fallback), .initial = "echo", .words = words_fallback },
	{ .section = "conversation", .name = "connection_subjects", .kind = CONF_KIND_WORD,
	  .offset = FIELD(connection_subjects), .initial = "local", .words = words_subjects },

	{ .section = "responder", .name = "exec", .kind = CONF_KIND_PROGRAM,
	  .offset = offsetof(struct conf_responder, exec),
	  .required = "the program that answers, and its arguments" },

	{ .section = "notifier", .name = "module", .kind = CONF_KIND_MODULE,
	  .offset = FIELD(notifier_module),
	  .required = "the shared object that is to be notified" },
	{ .section = "notifier", .name = "args", .kind = CONF_KIND_TEXTS,
	  .offset = FIELD(notifier_args) },
	{ .section = "notifier", .name = "timeout", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(notifier_timeout_ns), .initial = "1s",
	  .min = 10 * MS, .max = 60 * SECOND },

	{ .section = "channel", .name = "durable", .kind = CONF_KIND_BOOL,
	  .offset = CHANNEL(durable), .initial = "false" },
	{ .section = "channel", .name = "schema", .kind = CONF_KIND_SCHEMA,
	  .offset = CHANNEL(schema_file) },
	{ .section = "channel", .name = "keep_messages", .kind = CONF_KIND_COUNT64,
	  .offset = CHANNEL(keep_messages), .initial = "0", .max = INT64_C(1000000000000) },
	{ .section = "channel", .name = "keep_bytes", .kind = CONF_KIND_SIZE64,
	  .offset = CHANNEL(keep_bytes), .initial = "64M", .min = 64 * KIB, .max = 1024 * GIB },
	{ .section = "channel", .name = "keep_age", .kind = CONF_KIND_DURATION,
	  .offset = CHANNEL(keep_age_ns), .initial = "0s", .max = 3650 * DAY },
	{ .section = "channel", .name = "dedup_window", .kind = CONF_KIND_DURATION,
	  .offset = CHANNEL(dedup_window_ns), .initial = "10m", .min = MS, .max = 3650 * DAY },
	{ .section = "channel", .name = "dedup_keys", .kind = CONF_KIND_COUNT64,
	  .offset = CHANNEL(dedup_keys), .initial = "1000000", .min = 1, .max = 1000000000 },
	{ .section = "channel", .name = "redelivery_delay", .kind = CONF_KIND_DURATION,
	  .offset = CHANNEL(redelivery_delay_ns), .initial = "1s", .max = DAY },

	{ .section = "route", .name = "from", .kind = CONF_KIND_CHANNEL,
	  .offset = ROUTE(from), .required = "the channel whose messages it takes" },
	{ .section = "route", .name = "to", .kind = CONF_KIND_CHANNEL,
	  .offset = ROUTE(to), .required = "the channel on which it publishes them" },
	{ .section = "route", .name = "when", .kind = CONF_KIND_PREDICATE,
	  .offset = ROUTE(when) },

	{ .section = "dispatch", .name = "router", .kind = CONF_KIND_ROUTER,
	  .offset = FIELD(router), .initial = "least_loaded", .words = words_router },
	{ .section = "dispatch", .name = "router_args", .kind = CONF_KIND_TEXTS,
	  .offset = FIELD(router_args) },
	{ .section = "dispatch", .name = "router_timeout", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(router_timeout_ns), .initial = "1s",
	  .min = 10 * MS, .max = 60 * SECOND },
	{ .section = "dispatch", .name = "default_capacity", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(default_capacity), .initial = "1", .min = 1, .max = 1000000 },
	{ .section = "dispatch", .name = "queue_limit", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(queue_limit), .initial = "10000", .min = 1, .max = 10000000 },
	{ .section = "dispatch", .name = "max_attempts", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(max_attempts), .initial = "3", .min = 1, .max = 1000 },
	{ .section = "dispatch", .name = "first_push_delay", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(first_push_delay_ns), .initial = "20ms", .max = 10 * SECOND },
	{ .section = "dispatch", .name = "record", .kind = CONF_KIND_BOOL,
	  .offset = FIELD(record), .initial = "true" },
	{ .section = "dispatch", .name = "record_keep", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(record_keep), .initial = "1000000", .min = 1, .max = 1000000000 },
	{ .section = "dispatch", .name = "record_keep_age", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(record_keep_age_ns), .initial = "30d",
	  .min = SECOND, .max = 3650 * DAY },

	{ .section = "limits", .name = "connections", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(max_connections), .initial = "1024", .min = 1, .max = 100000 },
	{ .section = "limits", .name = "connections_per_address", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(max_connections_per_address), .initial = "0", .max = 100000 },
	{ .section = "limits", .name = "max_frame_bytes", .kind = CONF_KIND_SIZE32,
	  .offset = FIELD(max_frame_bytes), .initial = "16M", .min = 256, .max = GIB },
	{ .section = "limits", .name = "handshake_timeout", .kind = CONF_KIND_DURATION,
	  .offset = FIELD(handshake_timeout_ns), .initial = "10s",
	  .min = 10 * MS, .max = HOUR },
	{ .section = "limits", .name = "conversations_per_connection",
	  .kind = CONF_KIND_COUNT, .offset = FIELD(max_conversations), .initial = "1024",
	  .min = 1, .max = 1000000 },
	{ .section = "limits", .name = "subscriptions_per_connection",
	  .kind = CONF_KIND_COUNT, .offset = FIELD(max_subscriptions), .initial = "1024",
	  .min = 1, .max = 1000000 },
	{ .section = "limits", .name = "pushes_per_connection", .kind = CONF_KIND_COUNT,
	  .offset = FIELD(max_pushes), .initial = "1024", .min = 1, .max = 1000000 },
	{ .section = "limits", .name = "outbound_bytes", .kind = CONF_KIND_SIZE64,
	  .offset = FIELD(outbound_bytes), .initial = "64M",
	  .min = 4 * KIB, .max = 64 * GIB },
};

const unsigned conf_n_keys = sizeof conf_keys / sizeof conf_keys[0];

static bool
same_section(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int
conf_key_find(const char *section, const char *name)
{
	unsigned i;

	for (i = 0; i < conf_n_keys; i++)
		if (same_section(conf_keys[i].section, section) &&
		    strcmp(conf_keys[i].name, name) == 0)
			return (int)i;
	return -1;
}

int
conf_key_find_dotted(const char *dotted)
{
	char buf[128];
	unsigned i;

	for (i = 0; i < conf_n_keys; i++)
		if (strcmp(conf_key_dotted(&conf_keys[i], buf, sizeof buf), dotted) == 0)
			return (int)i;
	return -1;
}

const char *
conf_key_dotted(const struct conf_key *key, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s", key->section == NULL ? "" : key->section,
	    key->section == NULL ? "" : ".", key->name);
	return buf;
}

bool
conf_key_is_list(const struct conf_key *key)
{
	return key->kind == CONF_KIND_ADDRESSES || key->kind == CONF_KIND_TEXTS ||
	    key->kind == CONF_KIND_PROGRAM;
}

enum conf_section_kind
conf_section_kind(const char *name)
{
	unsigned i;

	if (name == NULL)
		return CONF_SECTION_PLAIN;
	for (i = 0; i < sizeof sections / sizeof sections[0]; i++)
		if (strcmp(sections[i].name, name) == 0)
			return sections[i].kind;
	return CONF_SECTION_UNKNOWN;
}

unsigned
conf_section_keys(const char *section, unsigned *first)
{
	unsigned i, n = 0;

	for (i = 0; i < conf_n_keys && !same_section(conf_keys[i].section, section); i++)
		continue;
	*first = i;
	for (; i < conf_n_keys && same_section(conf_keys[i].section, section); i++)
		n++;
	return n;
}
