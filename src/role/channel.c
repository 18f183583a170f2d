/*
 * Publish and Subscribe. No channel can be configured in this version, so each answer is the
 * true one: the channel is not configured. A notifier sees each Publish first (tap.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "role/connection.h"

static void
channel_error(struct connection *c, uint8_t type, uint32_t stream, uint16_t reason,
    const void *text, size_t len)
{
	struct frame frame = { .type = type, .stream = stream };

	frame.u.error.reason = reason;
	frame.u.error.message.present = 1;
	frame.u.error.message.view.data = text;
	frame.u.error.message.view.len = len;
	connection_send(c, &frame);
}

static void
channel_not_configured(struct connection *c, uint8_t type, uint32_t stream,
    const struct frame_view *channel)
{
	struct buf text = { 0 };

	if (buf_append(&text, "channel '", 9) != 0 ||
	    buf_append(&text, channel->data, channel->len) != 0 ||
	    buf_append(&text, "' is not configured", 19) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	else
		channel_error(c, type, stream, FRAME_REASON_CHANNEL_NOT_CONFIGURED,
		    buf_head(&text), buf_len(&text));
	buf_free(&text);
}

void
channel_publish_error(struct connection *c, uint32_t stream, uint16_t reason, const char *text,
    size_t len)
{
	channel_error(c, FRAME_PUBLISH_ERROR, stream, reason, text, len);
}

void
channel_publish(struct connection *c, const struct frame *frame)
{
	channel_not_configured(c, FRAME_PUBLISH_ERROR, frame->stream,
	    &frame->u.publish.channel);
}

void
channel_publish_frame(struct connection *c, const struct frame *frame)
{
	if (tap_is_wanted(c)) {
		tap_add(c, frame);
		return;
	}
	turn_apply(c);
	channel_publish(c, frame);
}

void
channel_subscribe_frame(struct connection *c, const struct frame *frame)
{
	turn_apply(c);
	channel_not_configured(c, FRAME_SUBSCRIBE_ERROR, frame->stream,
	    &frame->u.subscribe.channel);
}
