/* What Publish and Subscribe have in common. */
#include <string.h>

#include "role/channel.h"

void
channel_error(struct connection *c, struct buf *out, uint8_t type, uint32_t stream,
    uint16_t reason, const void *text, size_t len)
{
	struct frame frame = { .type = type, .stream = stream };

	frame.u.error.reason = reason;
	frame.u.error.message.present = 1;
	frame.u.error.message.view.data = text;
	frame.u.error.message.view.len = len;
	if (frame_encode(out, &frame) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
	c->frames_out++;
}

int
channel_not_configured_text(struct buf *text, const struct frame_view *name)
{
	return buf_append(text, "channel '", 9) != 0 ||
	    buf_append(text, name->data, name->len) != 0 ||
	    buf_append(text, "' is not configured", 19) != 0 ? ERR_NOMEM : 0;
}

uint32_t
channel_number(const struct connection *c, const struct conf_channel *channel)
{
	return (uint32_t)(channel - c->conf->channels);
}
