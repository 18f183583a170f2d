/* route: schema and routing rules at publish time (systems.md G4, G6). Internal to the connection. */
#ifndef LIMINAL_ROLE_ROUTE_H
#define LIMINAL_ROLE_ROUTE_H

#include <jansson.h>

#include "role/channel.h"

/* May a message with PAYLOAD be published to CHANNEL? 0, or ERR_INVALID with the reason for the
 * publisher. *JSON gets the payload where rules want to see it, else NULL; to be freed with json_decref. */
int	route_check(const struct conf_channel *channel, const struct frame_view *payload,
	    json_t **json, struct err *err);

/* Called for each channel that gets a copy; a result other than 0 ends the walk. */
typedef int route_copy(void *arg, const struct conf_channel *target);

/* Follow the rules from CHANNEL on for a message that counts BYTES. What a target refuses is logged and
 * counted: the message itself stays published. 0, COPY's result or ERR_NOMEM. */
int	route_message(struct connection *c, const struct conf_channel *channel, json_t *json,
	    size_t bytes, route_copy *copy, void *arg);

#endif
