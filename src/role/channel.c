/*
 * Publish and Subscribe. No channel can be configured in this version, so each answer is the
 * true one: the channel is not configured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "role/connection.h"

static void
channel_not_configured(struct connection *c, uint8_t type, uint32_t stream,
    const struct frame_view *channel)
{
	struct frame frame = { .type = type, .stream = stream };
	struct buf text = { 0 };

	turn_apply(c);
	if (buf_append(&text, "channel '", 9) != 0 ||
	    buf_append(&text, channel->data, channel->len) != 0 ||
	    buf_append(&text, "' is not configured", 19) != 0) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	} else {
		frame.u.error.reason = FRAME_REASON_CHANNEL_NOT_CONFIGURED;
		frame.u.error.message.present = 1;
		frame.u.error.message.view.data = buf_head(&text);
		frame.u.error.message.view.len = buf_len(&text);
		connection_send(c, &frame);
	}
	buf_free(&text);
}

void
channel_publish_frame(struct connection *c, const struct frame *frame)
{
	channel_not_configured(c, FRAME_PUBLISH_ERROR, frame->stream,
	    &frame->u.publish.channel);
}

void
channel_subscribe_frame(struct connection *c, const struct frame *frame)
{
	channel_not_configured(c, FRAME_SUBSCRIBE_ERROR, frame->stream,
	    &frame->u.subscribe.channel);
}
