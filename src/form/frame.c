/*
 * frame: what both directions of the codec share and what needs no bytes at all:
 * names, reason codes, version choice, UTF-8. The decoder is frame_decode.c, the
 * encoder frame_encode.c.
 */
#include <string.h>

#include "base/err.h"
#include "form/frame.h"

static const char *const frame_names[FRAME_TYPE_LAST + 1] = {
	[FRAME_CONNECT] = "Connect",
	[FRAME_CONNECT_ACK] = "ConnectAck",
	[FRAME_CONNECT_ERROR] = "ConnectError",
	[FRAME_DISCONNECT] = "Disconnect",
	[FRAME_SUBSCRIBE] = "Subscribe",
	[FRAME_SUBSCRIBE_ACK] = "SubscribeAck",
	[FRAME_SUBSCRIBE_ERROR] = "SubscribeError",
	[FRAME_UNSUBSCRIBE] = "Unsubscribe",
	[FRAME_PUBLISH] = "Publish",
	[FRAME_PUBLISH_ACK] = "PublishAck",
	[FRAME_PUBLISH_ERROR] = "PublishError",
	[FRAME_CONVERSATION_OPEN] = "ConversationOpen",
	[FRAME_CONVERSATION_MESSAGE] = "ConversationMessage",
	[FRAME_CONVERSATION_CLOSE] = "ConversationClose",
	[FRAME_CONVERSATION_ERROR] = "ConversationError",
	[FRAME_ACCEPT] = "Accept",
	[FRAME_DEFER] = "Defer",
	[FRAME_REJECT] = "Reject",
	[FRAME_PING] = "Ping",
	[FRAME_PONG] = "Pong",
	[FRAME_PUSH] = "Push",
	[FRAME_PUSH_REPLY] = "PushReply",
	[FRAME_WORKER_REGISTER] = "WorkerRegister",
	[FRAME_WORKER_REGISTER_ACK] = "WorkerRegisterAck",
	[FRAME_DELIVER] = "Deliver",
};

const char *
frame_type_name(uint8_t type)
{
	if (type > FRAME_TYPE_LAST || frame_names[type] == NULL)
		return "Unknown";
	return frame_names[type];
}

uint16_t
frame_status_reason(enum frame_status status)
{
	switch (status) {
	case FRAME_NEED_HEADER:
		return FRAME_REASON_INCOMPLETE_HEADER;
	case FRAME_NEED_PAYLOAD:
		return FRAME_REASON_TRUNCATED_PAYLOAD;
	case FRAME_BAD_STREAM:
		return FRAME_REASON_INVALID_STREAM;
	case FRAME_BAD_CODEC:
	case FRAME_TOO_LARGE:
		return FRAME_REASON_CODEC;
	case FRAME_OK:
		break;
	}
	return 0;
}

static int
version_compare(struct frame_version a, struct frame_version b)
{
	if (a.major != b.major)
		return a.major < b.major ? -1 : 1;
	return (a.minor > b.minor) - (a.minor < b.minor);
}

int
frame_negotiate(struct frame_version min, struct frame_version max,
    const struct frame_version *supported, size_t n, struct frame_version *selected)
{
	const struct frame_version *best = NULL;

	for (size_t i = 0; i < n; i++) {
		if (version_compare(supported[i], min) < 0 ||
		    version_compare(supported[i], max) > 0)
			continue;
		if (best == NULL || version_compare(supported[i], *best) > 0)
			best = &supported[i];
	}
	if (best == NULL)
		return ERR_NOTFOUND;
	*selected = *best;
	return 0;
}

/*
 * Length of the sequence at P, which is not ASCII, or 0 if it is none. The
 * first continuation byte carries all the special cases (table 3-7 of the
 * Unicode standard): it decides overlong forms, surrogates and the upper end.
 */
static size_t
utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t len;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if ((p[0] & 0xf0) == 0xe0) {
		len = 3;
		if (p[0] == 0xe0)
			low = 0xa0;
		else if (p[0] == 0xed)
			high = 0x9f;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		len = 4;
		if (p[0] == 0xf0)
			low = 0x90;
		else if (p[0] == 0xf4)
			high = 0x8f;
	} else
		return 0;
	if (left < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

int
frame_is_utf8(const uint8_t *bytes, size_t len)
{
	size_t i = 0, n;
	uint64_t eight;

	while (i < len) {
		if (len - i >= sizeof(eight)) {
			memcpy(&eight, bytes + i, sizeof(eight));
			if ((eight & UINT64_C(0x8080808080808080)) == 0) {
				i += sizeof(eight);
				continue;
			}
		}
		if (bytes[i] < 0x80)
			n = 1;
		else if ((n = utf8_sequence(bytes + i, len - i)) == 0)
			return 0;
		i += n;
	}
	return 1;
}
