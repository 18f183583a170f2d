/*
 * Publish: what has arrived in one turn becomes one append per channel, in the turn's transaction; the
 * acknowledgements follow its commit.
 *
 * Channels that are durable, or whose rules lead to durable ones, go through the store process:
 * the turn's messages for them are one entry in its inbox, and its answer acknowledges them.
 */
#include <stdlib.h>
#include <string.h>

#include "role/publish.h"
#include "role/route.h"

static struct publisher *
publish_publisher(struct connection *c)
{
	struct publisher *p = c->publisher;

	if (p != NULL)
		return p;
	if ((p = calloc(1, sizeof *p)) == NULL ||
	    (p->channels = calloc(c->conf->n_channels, sizeof *p->channels)) == NULL) {
		free(p);
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
		return NULL;
	}
	TAILQ_INIT(&p->waiting);
	return c->publisher = p;
}

static int
publish_grow(struct publisher *p)
{
	size_t size = p->size ? p->size * 2 : 64;
	struct log_message *messages, *gathered;
	struct published *items;

	/* Each is taken over as it comes, so that a failure in between leaves them whole. */
	if ((items = realloc(p->items, size * sizeof *items)) == NULL)
		return ERR_NOMEM;
	p->items = items;
	if ((messages = realloc(p->messages, size * sizeof *messages)) == NULL)
		return ERR_NOMEM;
	p->messages = messages;
	if ((gathered = realloc(p->gathered, size * sizeof *gathered)) == NULL)
		return ERR_NOMEM;
	p->gathered = gathered;
	p->size = size;
	return 0;
}

static int
publish_note(struct connection *c, const struct conf_channel *channel, const struct frame *frame,
    int is_routed)
{
	struct publisher *p = c->publisher;
	struct published *item;

	if (!is_routed && (p->store_streams & publish_stream_bit(frame->stream)))
		turn_apply(c);		/* what the store gets comes before it */
	if (p->n == p->size && publish_grow(p) != 0)
		return ERR_NOMEM;
	if (p->n == 0 && turn_add(c, INTENT_PUBLISH) == NULL)
		return ERR_NOMEM;
	p->messages[p->n].causal = frame->u.publish.envelope.causal;
	p->messages[p->n].payload = frame->u.publish.envelope.payload;
	item = &p->items[p->n++];
	item->channel = channel_number(c, channel);
	item->stream = frame->stream;
	p->state_streams |= publish_stream_bit(frame->stream);
	item->is_routed = (uint8_t)is_routed;
	item->has_key = (uint8_t)frame->u.publish.key.present;
	item->key = frame->u.publish.key.view;
	return 0;
}

static int
publish_note_for_store(struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, int is_routed)
{
	struct publication_item item = {
		.channel = channel_number(c, channel),
		.flags = (is_routed ? PUBLICATION_ROUTED : 0) |
		    (frame->u.publish.key.present ? PUBLICATION_KEYED : 0),
		.key = frame->u.publish.key.view,
		.causal = frame->u.publish.envelope.causal,
		.payload = frame->u.publish.envelope.payload,
	};
	struct publisher *p = c->publisher;

	if (!is_routed && ((p->state_streams & publish_stream_bit(frame->stream)) ||
	    buf_len(&p->body) >= PUBLISH_ENTRY))
		turn_apply(c);
	if (buf_len(&p->streams) == 0 && turn_add(c, INTENT_APPEND) == NULL)
		return ERR_NOMEM;
	if (!is_routed && buf_append(&p->streams, &frame->stream, sizeof frame->stream) != 0)
		return ERR_NOMEM;
	p->store_streams |= publish_stream_bit(frame->stream);
	return publication_add(&p->body, &item);
}

struct publish_copying {
	struct connection *c;
	const struct frame *frame;
	int (*note)(struct connection *c, const struct conf_channel *channel,
	    const struct frame *frame, int is_routed);
};

static int
publish_copy(void *arg, const struct conf_channel *target)
{
	struct publish_copying *copying = arg;

	return copying->note(copying->c, target, copying->frame, 1);
}

static int
publish_note_all(struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, json_t *json, size_t bytes)
{
	struct publish_copying copying = {
		.c = c, .frame = frame,
		.note = channel->is_by_store ? publish_note_for_store : publish_note
	};
	int rc = copying.note(c, channel, frame, 0);

	return rc != 0 ? rc :
	    route_message(c, channel, json, bytes, publish_copy, &copying);
}

/* The size that it counts; 0 with the reason when it is too large. */
static size_t
publish_size(const struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, struct err *err)
{
	const struct log_message message = {
		frame->u.publish.envelope.causal, frame->u.publish.envelope.payload
	};
	size_t bytes = log_message_bytes(&message);

	if (channel->keep_bytes != 0 && bytes > channel->keep_bytes) {
		(void)err_set(err, ERR_INVALID, "the message counts %zu bytes, more than the "
		    "channel's keep_bytes (%llu)", bytes,
		    (unsigned long long)channel->keep_bytes);
		return 0;
	}
	if (bytes - FRAME_HEADER_SIZE > c->conf->max_frame_bytes) {
		(void)err_set(err, ERR_INVALID, "the message would be delivered in a frame larger "
		    "than limits max_frame_bytes (%u)", c->conf->max_frame_bytes);
		return 0;
	}
	return bytes;
}

static void
publish_not_configured(struct connection *c, uint32_t stream, const struct frame_view *name)
{
	struct buf text = { 0 };

	if (channel_not_configured_text(&text, name) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	else
		publish_error(c, stream, FRAME_REASON_CHANNEL_NOT_CONFIGURED,
		    (const char *)buf_head(&text), buf_len(&text));
	buf_free(&text);
}

static const struct conf_channel *
publish_find(struct connection *c, struct publisher *p, const struct frame_view *name)
{
	const struct conf_channel *last = p->last;

	if (last != NULL && last->name_len == name->len &&
	    memcmp(last->name, name->data, name->len) == 0)
		return last;
	return p->last = conf_channel_find(c->conf, name->data, name->len);
}

void
channel_publish(struct connection *c, const struct frame *frame)
{
	const struct frame_view *name = &frame->u.publish.channel;
	const struct conf_channel *channel = NULL;
	struct publisher *p;
	struct err err = { 0 };
	json_t *json = NULL;
	size_t bytes;
	int rc = 0;

	if ((p = publish_publisher(c)) == NULL)
		return;
	p->is_used = 1;
	if (name->len > 0 && name->len <= CONF_CHANNEL_NAME_MAX)
		channel = publish_find(c, p, name);
	if (channel == NULL) {
		turn_apply(c);
		publish_not_configured(c, frame->stream, name);
		return;
	}
	bytes = publish_size(c, channel, frame, &err);
	if (bytes > 0)
		rc = route_check(channel, &frame->u.publish.envelope.payload, &json, &err);
	if (bytes == 0 || rc != 0)
		channel_publish_error(c, frame->stream, err.text);
	else if (publish_note_all(c, channel, frame, json, bytes) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
	json_decref(json);
}

void
channel_publish_frame(struct connection *c, const struct frame *frame)
{
	if (tap_is_wanted(c))
		tap_add(c, frame);
	else
		channel_publish(c, frame);
}

int
publish_tidy(struct connection *c)
{
	struct publisher *p = c->publisher;

	if (p == NULL || (p->size == 0 && p->body.size == 0))
		return 0;
	if (p->is_used || p->n > 0 || buf_len(&p->streams) > 0) {
		p->is_used = 0;
		return 1;
	}
	free(p->items);
	free(p->messages);
	free(p->gathered);
	p->items = NULL;
	p->messages = p->gathered = NULL;
	p->size = 0;
	buf_free(&p->body);
	buf_free(&p->streams);
	return 0;
}
