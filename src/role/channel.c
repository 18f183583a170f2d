/* What Publish and Subscribe have in common: the channel of a name, and refusals. */
#include <string.h>

#include "role/channel.h"

void
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

void
channel_not_configured(struct connection *c, uint8_t type, uint32_t stream,
    const struct frame_view *name)
{
	struct buf text = { 0 };

	if (buf_append(&text, "channel '", 9) != 0 ||
	    buf_append(&text, name->data, name->len) != 0 ||
	    buf_append(&text, "' is not configured", 19) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	else
		channel_error(c, type, stream, FRAME_REASON_CHANNEL_NOT_CONFIGURED,
		    buf_head(&text), buf_len(&text));
	buf_free(&text);
}

uint32_t
channel_number(const struct connection *c, const struct conf_channel *channel)
{
	return (uint32_t)(channel - c->conf->channels);
}
