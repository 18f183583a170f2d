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

static const char *const words_level[] = { "error", "warn", "info", "debug", NULL };
static const char *const words_fallback[] = { "echo", "refuse", NULL };
static const char *const words_subjects[] = { "off", "local", "any", NULL };
static const char *const words_router[] = {
	"least_loaded", "round_robin", "node_affinity", NULL
};

/* What comes with later versions and would change what the system does if passed over. */
static const char *const sections_later[] = {
	"channel", "route", "responder", "notifier", NULL
};

const struct conf_key conf_keys[] = {
	{ NULL, "listen", CONF_KIND_ADDRESSES, FIELD(listen), "127.0.0.1:7677",
	    0, 0, NULL, false },
	{ NULL, "health_listen", CONF_KIND_ADDRESS, FIELD(health_listen), NULL,
	    0, 0, NULL, true },
	{ NULL, "runtime_dir", CONF_KIND_PATH, FIELD(runtime_dir), "/run/liminald",
	    0, 0, NULL, false },
	{ NULL, "persist_dir", CONF_KIND_PATH, FIELD(persist_dir), "/var/lib/liminald",
	    0, 0, NULL, true },
	{ NULL, "user", CONF_KIND_NAME, FIELD(user), NULL, 0, 0, NULL, false },
	{ NULL, "pid_file", CONF_KIND_PATH, FIELD(pid_file), NULL, 0, 0, NULL, true },
	{ NULL, "drain_timeout", CONF_KIND_DURATION, FIELD(drain_timeout_ns), "30s",
	    0, DAY, NULL, false },
	{ NULL, "log_level", CONF_KIND_WORD, FIELD(log_level), "info",
	    0, 0, words_level, false },

	{ "auth", "token_file", CONF_KIND_TOKEN_FILE, FIELD(token_file), NULL,
	    0, 0, NULL, false },

	{ "conversation", "reply_timeout", CONF_KIND_DURATION, FIELD(reply_timeout_ns), "5s",
	    MS, DAY, NULL, false },
	{ "conversation", "fallback", CONF_KIND_WORD, FIELD(fallback), "echo",
	    0, 0, words_fallback, false },
	{ "conversation", "connection_subjects", CONF_KIND_WORD, FIELD(connection_subjects),
	    "local", 0, 0, words_subjects, false },

	{ "dispatch", "router", CONF_KIND_ROUTER, FIELD(router), "least_loaded",
	    0, 0, words_router, false },
	{ "dispatch", "default_capacity", CONF_KIND_COUNT, FIELD(default_capacity), "1",
	    1, 1000000, NULL, false },
	{ "dispatch", "queue_limit", CONF_KIND_COUNT, FIELD(queue_limit), "10000",
	    1, 10000000, NULL, false },
	{ "dispatch", "max_attempts", CONF_KIND_COUNT, FIELD(max_attempts), "3",
	    1, 1000, NULL, false },
	{ "dispatch", "first_push_delay", CONF_KIND_DURATION, FIELD(first_push_delay_ns),
	    "20ms", 0, 10 * SECOND, NULL, false },
	{ "dispatch", "record", CONF_KIND_BOOL, FIELD(record), "true", 0, 0, NULL, true },

	{ "limits", "connections", CONF_KIND_COUNT, FIELD(max_connections), "1024",
	    1, 100000, NULL, false },
	{ "limits", "connections_per_address", CONF_KIND_COUNT,
	    FIELD(max_connections_per_address), "0", 0, 100000, NULL, false },
	{ "limits", "max_frame_bytes", CONF_KIND_SIZE32, FIELD(max_frame_bytes), "16M",
	    256, GIB, NULL, false },
	{ "limits", "handshake_timeout", CONF_KIND_DURATION, FIELD(handshake_timeout_ns),
	    "10s", 10 * MS, HOUR, NULL, false },
	{ "limits", "conversations_per_connection", CONF_KIND_COUNT, FIELD(max_conversations),
	    "1024", 1, 1000000, NULL, false },
	{ "limits", "subscriptions_per_connection", CONF_KIND_COUNT, FIELD(max_subscriptions),
	    "1024", 1, 1000000, NULL, true },
	{ "limits", "pushes_per_connection", CONF_KIND_COUNT, FIELD(max_pushes), "1024",
	    1, 1000000, NULL, false },
	{ "limits", "outbound_bytes", CONF_KIND_SIZE64, FIELD(outbound_bytes), "64M",
	    4 * KIB, 64 * GIB, NULL, false },
};

const unsigned conf_n_keys = sizeof conf_keys / sizeof conf_keys[0];
_Static_assert(sizeof conf_keys / sizeof conf_keys[0] <= CONF_MAX_KEYS,
    "struct conf_reading and the bits of inactive have room for each key");

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

enum conf_section
conf_section_kind(const char *name)
{
	unsigned i;

	for (i = 0; i < conf_n_keys; i++)
		if (conf_keys[i].section != NULL && strcmp(conf_keys[i].section, name) == 0)
			return CONF_SECTION_KNOWN;
	for (i = 0; sections_later[i] != NULL; i++)
		if (strcmp(sections_later[i], name) == 0)
			return CONF_SECTION_LATER;
	return CONF_SECTION_UNKNOWN;
}
