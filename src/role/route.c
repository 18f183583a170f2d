/*
 * What a message leads to: its channel's schema, and the rules that copy it to other channels.
 *
 * A payload is parsed once, and only where a schema or a predicate wants to see it. A channel
 * gets one copy of a message at most, however many rules lead there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "form/predicate.h"
#include "form/schema.h"
#include "role/route.h"

#define ROUTE_LOG_WINDOW_NS	(10 * CLOCK_SECOND)

struct route_walk {
	struct connection *c;
	json_t *json;			/* NULL: not needed, or no JSON */
	size_t bytes;			/* what the message counts */
	uint64_t *seen;			/* the message that a channel got last, by number */
	uint64_t message;
	route_copy *copy;
	void *arg;
};

static void
route_refused(struct route_walk *walk, const struct conf_route *route, const char *why)
{
	static struct log_limit limit;
	char text[1024];
	unsigned held;

	board_count(walk->c->mine, BOARD_ROUTE_ERRORS, 1);
	if (!log_limit_allows(&limit, 1, ROUTE_LOG_WINDOW_NS, &held))
		return;
	log_vis(text, sizeof text, why, strlen(why));
	log_warnx("route name=\"%s\" refused conn=%llu reason=\"%s\" suppressed=%u", route->name,
	    (unsigned long long)walk->c->peer->conn_id, text, held);
}

static int
route_target_takes(struct route_walk *walk, const struct conf_route *route)
{
	const struct conf_channel *target = &walk->c->conf->channels[route->to];
	struct err err;

	if (target->keep_bytes != 0 && walk->bytes > target->keep_bytes) {
		route_refused(walk, route, "the message is larger than the target's keep_bytes");
		return 0;
	}
	if (target->schema == NULL)
		return 1;
	if (walk->json == NULL) {
		route_refused(walk, route, "the payload is no JSON, and the target has a schema");
		return 0;
	}
	if (schema_validate(target->schema, walk->json, &err) != 0) {
		route_refused(walk, route, err.text);
		return 0;
	}
	return 1;
}

/* As deep as rules follow each other: they form no cycle. */
static int
route_follow(struct route_walk *walk, const struct conf_channel *from)
{
	const struct conf *conf = walk->c->conf;
	const struct conf_route *route;
	unsigned i;
	int rc = 0;

	for (i = 0; rc == 0 && i < from->n_routes; i++) {
		route = &conf->routes[from->routes[i]];
		if (walk->seen[route->to] == walk->message ||
		    (route->predicate != NULL && !predicate_holds(route->predicate, walk->json)))
			continue;
		walk->seen[route->to] = walk->message;
		if (!route_target_takes(walk, route))
			continue;
		board_count(walk->c->mine, BOARD_ROUTED, 1);
		rc = walk->copy(walk->arg, &conf->channels[route->to]);
		if (rc == 0)
			rc = route_follow(walk, &conf->channels[route->to]);
	}
	return rc;
}

int
route_check(const struct conf_channel *channel, const struct frame_view *payload, json_t **json,
    struct err *err)
{
	*json = NULL;
	if (!channel->is_parsed)
		return 0;
	*json = schema_parse(payload->data, payload->len, err);
	if (channel->schema == NULL)
		return 0;
	return *json == NULL ? ERR_INVALID : schema_validate(channel->schema, *json, err);
}

int
route_message(struct connection *c, const struct conf_channel *channel, json_t *json,
    size_t bytes, route_copy *copy, void *arg)
{
	struct route_walk walk = {
		.c = c, .json = json, .bytes = bytes, .copy = copy, .arg = arg
	};

	if (channel->n_routes == 0)
		return 0;
	if (c->route_seen == NULL &&
	    (c->route_seen = calloc(c->conf->n_channels, sizeof *c->route_seen)) == NULL)
		return ERR_NOMEM;
	walk.seen = c->route_seen;
	walk.message = ++c->n_routed;
	walk.seen[channel_number(c, channel)] = walk.message;
	return route_follow(&walk, channel);
}
