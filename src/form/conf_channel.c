/*
 * conf_channel: channels and routes, from their sections to structs: names, schemas and
 * conditions compiled, channels found by name. What the routes make of all this together is
 * conf_route's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "form/conf_parts.h"
#include "form/frame.h"
#include "form/predicate.h"
#include "form/schema.h"

/* Far more than people write; what it compiles to is in the memory of each process. */
#define SCHEMA_FILE_MAX	((size_t)4 << 20)

/* The schema id of a channel without one. */
static const char schema_of_any[] = "{}";

/* Where the number of NAME's channel is, plus one, or the free place where it belongs. The table is never
 * full. */
static unsigned *
table_place(const struct conf *conf, const void *name, size_t len)
{
	size_t mask = conf->channel_table_size - 1;
	size_t i = (size_t)hash_fnv1a(HASH_FNV1A_START, name, len) & mask;
	const struct conf_channel *channel;

	for (; conf->channel_table[i] != 0; i = (i + 1) & mask) {
		channel = &conf->channels[conf->channel_table[i] - 1];
		if (channel->name_len == len && memcmp(channel->name, name, len) == 0)
			break;
	}
	return &conf->channel_table[i];
}

const struct conf_channel *
conf_channel_find(const struct conf *conf, const void *name, size_t len)
{
	unsigned number;

	if (conf->channel_table == NULL)
		return NULL;
	number = *table_place(conf, name, len);
	return number == 0 ? NULL : &conf->channels[number - 1];
}

bool
conf_needs_store(const struct conf *conf)
{
	unsigned i;

	for (i = 0; i < conf->n_channels; i++)
		if (conf->channels[i].durable)
			return true;
	return conf->record;
}

/* Room for N channels, at most half full. 0 or -1. */
static int
table_init(struct conf *conf, unsigned n)
{
	size_t size = 16;

	while (size / 2 < n)
		size *= 2;
	conf->channel_table = calloc(size, sizeof *conf->channel_table);
	conf->channel_table_size = size;
	return conf->channel_table == NULL ? -1 : 0;
}

/* Only what the wire cannot carry or the keys of the state cannot hold is no name. */
static void
apply_name(struct conf_reading *r, const struct conf_block *block, struct conf *conf,
    struct conf_channel *channel)
{
	const char *wrong = NULL;
	unsigned *place;
	size_t len;

	if (block->title == NULL)	/* which has been said */
		return;
	len = strlen(block->title);
	if (len == 0)
		wrong = "the name is empty";
	else if (len > CONF_CHANNEL_NAME_MAX)
		wrong = "the name is longer than 255 bytes";
	else if (!frame_is_utf8((const uint8_t *)block->title, len))
		wrong = "the name is not UTF-8";
	if (wrong != NULL)
		conf_error_add(r, CONF_FROM_FILE, block->line, "%s \"%s\": %s", block->section,
		    block->title, wrong);
	if ((channel->name = strdup(block->title)) == NULL) {
		r->nomem = true;
		return;
	}
	channel->name_len = len;
	place = table_place(conf, channel->name, len);
	if (*place == 0)	/* else it is repeated, which has been said */
		*place = (unsigned)(channel - conf->channels) + 1;
}

static void
apply_schema(struct conf_reading *r, const struct conf_block *block,
    struct conf_channel *channel)
{
	struct err err = { 0 };
	char *text;
	size_t len;
	int rc;

	if (channel->schema_file == NULL) {
		hash_schema_id(schema_of_any, strlen(schema_of_any), channel->schema_id);
		return;
	}
	rc = conf_slurp(channel->schema_file, SCHEMA_FILE_MAX, &text, &len, &err);
	if (rc == 0) {
		hash_schema_id(text, len, channel->schema_id);
		rc = schema_compile(&channel->schema, text, len, NULL, 0, &err);
		free(text);
	}
	if (rc == ERR_NOMEM)
		r->nomem = true;
	else if (rc < 0)
		conf_error_block(r, block, "schema", "%s: %s", channel->schema_file, err.text);
}

static void
apply_channel(struct conf_reading *r, struct conf_block *block, struct conf *conf)
{
	struct conf_channel *channel = &conf->channels[conf->n_channels++];

	apply_name(r, block, conf, channel);
	conf_value_apply_block(r, block, conf, channel);
	apply_schema(r, block, channel);
}

static void
apply_route(struct conf_reading *r, struct conf_block *block, struct conf *conf)
{
	struct conf_route *route = &conf->routes[conf->n_routes++];
	struct err err = { 0 };
	int rc;

	route->from = route->to = CONF_CHANNEL_NONE;
	if (block->title != NULL && (route->name = strdup(block->title)) == NULL)
		r->nomem = true;
	if (block->title != NULL && *block->title == '\0')
		conf_error_add(r, CONF_FROM_FILE, block->line, "%s \"\": the name is empty",
		    block->section);
	conf_value_apply_block(r, block, conf, route);
	if (route->name == NULL)	/* which has been said; nothing can be said of it */
		route->from = CONF_CHANNEL_NONE;
	if (route->when == NULL)
		return;
	rc = predicate_compile(&route->predicate, route->when, &err);
	if (rc == ERR_NOMEM)
		r->nomem = true;
	else if (rc < 0)
		conf_error_block(r, block, "when", "%s", err.text);
}

static void
apply_all(struct conf_reading *r, const char *section, struct conf *conf,
    void (*apply_one)(struct conf_reading *, struct conf_block *, struct conf *))
{
	unsigned i;

	for (i = 0; i < r->n_blocks && !r->nomem; i++)
		if (strcmp(r->blocks[i].section, section) == 0)
			apply_one(r, &r->blocks[i], conf);
}

void
conf_channel_apply(struct conf_reading *r, struct conf *conf)
{
	unsigned n_channels = conf_block_count(r, "channel");
	unsigned n_routes = conf_block_count(r, "route");

	if (n_channels > 0)
		conf->channels = calloc(n_channels, sizeof *conf->channels);
	if (n_routes > 0)
		conf->routes = calloc(n_routes, sizeof *conf->routes);
	if ((n_channels > 0 && conf->channels == NULL) ||
	    (n_routes > 0 && conf->routes == NULL) || table_init(conf, n_channels) < 0)
		r->nomem = true;
	else {
		apply_all(r, "channel", conf, apply_channel);
		apply_all(r, "route", conf, apply_route);
	}
	if (!r->nomem)
		conf_route_link(r, conf);
}

void
conf_channel_free(struct conf *conf)
{
	unsigned i;

	for (i = 0; i < conf->n_channels; i++) {
		free(conf->channels[i].name);
		free(conf->channels[i].schema_file);
		schema_free(conf->channels[i].schema);
		free(conf->channels[i].routes);
	}
	free(conf->channels);
	free(conf->channel_table);
	for (i = 0; i < conf->n_routes; i++) {
		free(conf->routes[i].name);
		free(conf->routes[i].when);
		predicate_free(conf->routes[i].predicate);
	}
	free(conf->routes);
}
