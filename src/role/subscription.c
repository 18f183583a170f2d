/*
 * Subscribe and Unsubscribe. A subscription is a row in the state and a position in this process; what it
 * gets is deliver.c's business, and what a durable one remembers, consumer.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/channel.h"
#include "state/inbox.h"

#define SUBSCRIPTION_HELD_TEXT \
	"another subscription has this consumer name; it is free when that one has ended"

static int
subscription_compare(const struct subscription *a, const struct subscription *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(subscription_tree, subscription, link, subscription_compare)

struct subscription *
subscription_find(struct connection *c, uint64_t id)
{
	struct subscription key;

	key.id = id;
	return RB_FIND(subscription_tree, &c->subscriptions, &key);
}

struct subscription *
subscription_from(struct connection *c, uint64_t id)
{
	struct subscription key, *found;

	key.id = id;
	found = RB_NFIND(subscription_tree, &c->subscriptions, &key);
	return found != NULL ? found : RB_MIN(subscription_tree, &c->subscriptions);
}

struct subscription *
subscription_after(struct connection *c, struct subscription *s)
{
	struct subscription *next = RB_NEXT(subscription_tree, &c->subscriptions, s);

	return next != NULL ? next : RB_MIN(subscription_tree, &c->subscriptions);
}

static void
subscription_free(struct connection *c, struct subscription *s)
{
	if (s->is_listed) {
		RB_REMOVE(subscription_tree, &c->subscriptions, s);
		c->n_subscriptions--;
	}
	if (s->consumer != NULL)
		consumer_free(s->consumer);
	free(s);
}

static void
subscription_refuse(struct connection *c, uint32_t stream, uint16_t reason, const char *text)
{
	channel_error(c, &c->out, FRAME_SUBSCRIBE_ERROR, stream, reason, text, strlen(text));
}

static void
subscription_not_configured(struct connection *c, uint32_t stream, const struct frame_view *name)
{
	struct buf text = { 0 };

	if (channel_not_configured_text(&text, name) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	else
		channel_error(c, &c->out, FRAME_SUBSCRIBE_ERROR, stream,
		    FRAME_REASON_CHANNEL_NOT_CONFIGURED, buf_head(&text), buf_len(&text));
	buf_free(&text);
}

static int
subscription_accepts(const struct conf_channel *channel, const struct frame_vec *accepted)
{
	const uint8_t *id = accepted->encoded.data;
	uint32_t i;

	for (i = 0; i < accepted->count; i++)
		if (memcmp(id + (size_t)i * FRAME_SCHEMA_ID_SIZE, channel->schema_id,
		    FRAME_SCHEMA_ID_SIZE) == 0)
			return 1;
	return accepted->count == 0;
}

/* 1, or 0 and the client has read why not. */
static int
subscription_admit(struct connection *c, const struct frame *frame,
    const struct conf_channel *channel)
{
	struct err err;

	if (!subscription_accepts(channel, &frame->u.subscribe.accepted)) {
		subscription_refuse(c, frame->stream, FRAME_REASON_SCHEMA,
		    "the channel's schema is not among those that are accepted");
		return 0;
	}
	/* Those that end with this turn's intents count until then. */
	if (c->n_subscriptions >= c->conf->max_subscriptions) {
		(void)err_set(&err, ERR_FULL, "limits subscriptions_per_connection (%u) is reached",
		    c->conf->max_subscriptions);
		subscription_refuse(c, frame->stream, FRAME_REASON_OTHER, err.text);
		return 0;
	}
	if (frame->u.subscribe.durable && !channel->durable) {
		subscription_refuse(c, frame->stream, FRAME_REASON_OTHER,
		    "the channel is not durable: it keeps nothing for a consumer");
		return 0;
	}
	if (channel->durable && connection_open_store(c, &err) != 0) {
		subscription_refuse(c, frame->stream, FRAME_REASON_OTHER, err.text);
		return 0;
	}
	return 1;
}

static struct subscription *
subscription_new(struct connection *c, const struct frame *frame,
    const struct conf_channel *channel)
{
	struct subscription *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->channel = channel;
	s->number = channel_number(c, channel);
	s->stream = frame->stream;
	s->max_in_flight = frame->u.subscribe.max_in_flight;
	if (frame->u.subscribe.durable && consumer_new(c, s, frame) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

void
channel_subscribe_frame(struct connection *c, const struct frame *frame)
{
	const struct frame_view *name = &frame->u.subscribe.channel;
	const struct conf_channel *channel;
	struct subscription *s;
	struct intent *intent;

	turn_apply(c);
	channel = conf_channel_find(c->conf, name->data, name->len);
	if (channel == NULL) {
		subscription_not_configured(c, frame->stream, name);
		return;
	}
	if (!subscription_admit(c, frame, channel))
		return;
	if ((s = subscription_new(c, frame, channel)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a subscription");
	} else if ((intent = turn_add(c, INTENT_SUBSCRIBE)) == NULL) {
		subscription_free(c, s);
	} else {
		intent->subscription = s;
		turn_apply(c);
	}
}

int
subscription_apply(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct subscription *s = intent->subscription;
	struct subscriptions_row row = {
		.version = SUBSCRIPTIONS_VERSION, .is_durable = s->consumer != NULL,
		.channel = s->number, .stream = s->stream, .max_in_flight = s->max_in_flight,
		.since_ns = clock_realtime_ns()
	};
	int rc;

	if (state_is_tight(txn))
		return ERR_FULL;
	intent->error = 0;
	if ((rc = channels_subscription_id(txn, &s->id)) != 0)
		return rc;
	rc = subscriptions_add(txn, c->peer->conn_id, c->context->slot, s->id, &row,
	    s->consumer != NULL ? consumer_name(s->consumer) : NULL);
	if (rc == ERR_BUSY) {
		intent->error = FRAME_REASON_PRESSURE;
		strncpy(intent->text, SUBSCRIPTION_HELD_TEXT, sizeof intent->text - 1);
		return 0;
	}
	if (rc != 0)
		return rc;
	s->base = row.base;
	s->next = row.base + 1;
	return s->consumer != NULL ? consumer_ask(c, txn, s, &row) : 0;
}

/* From here on it is delivered to. */
void
subscription_go(struct connection *c, struct subscription *s)
{
	struct frame ack = { .type = FRAME_SUBSCRIBE_ACK, .stream = s->stream };

	ack.u.subscribe_ack.subscription = s->id;
	ack.u.subscribe_ack.schema_id = s->channel->schema_id;
	connection_send(c, &ack);
	s->is_live = 1;
	deliver_again(c);
}

void
subscription_done(struct connection *c, struct intent *intent)
{
	struct subscription *s = intent->subscription;

	if (intent->error != 0) {
		subscription_refuse(c, s->stream, intent->error, intent->text);
		subscription_free(c, s);
		return;
	}
	RB_INSERT(subscription_tree, &c->subscriptions, s);
	s->is_listed = 1;
	c->n_subscriptions++;
	if (s->consumer == NULL)
		subscription_go(c, s);
}

void
subscription_end(struct connection *c, struct subscription *s, uint16_t reason, const char *text)
{
	struct intent *intent;

	if (s->is_over)
		return;
	if (s->is_live && s->consumer != NULL)
		consumer_save(c, s);
	s->is_live = 0;
	s->is_over = 1;
	if (reason != 0)
		subscription_refuse(c, s->stream, reason, text);
	if ((intent = turn_add(c, INTENT_UNSUBSCRIBE)) != NULL)
		intent->subscription = s;
}

void
channel_unsubscribe_frame(struct connection *c, const struct frame *frame)
{
	struct subscription *s;

	turn_apply(c);	/* it may be of a Subscribe before */
	s = subscription_find(c, frame->u.unsubscribe.subscription);
	if (s != NULL)
		subscription_end(c, s, 0, NULL);
}

int
subscription_apply_end(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	int rc = subscriptions_del(txn, c->peer->conn_id, intent->subscription->id);

	return rc == ERR_NOTFOUND ? 0 : rc;
}

void
subscription_done_end(struct connection *c, struct intent *intent)
{
	subscription_free(c, intent->subscription);
}

void
subscription_save_all(struct connection *c)
{
	struct subscription *s;

	RB_FOREACH(s, subscription_tree, &c->subscriptions)
		if (s->is_live && s->consumer != NULL)
			consumer_save(c, s);
}
