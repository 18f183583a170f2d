/*
 * subscriber: subscriptions, their messages, and what becomes of the messages of durable ones.
 *
 * Each subscription has a stream of its own, which is not used again, so a message that was under
 * way when its subscription ended belongs to nobody. The program knows a subscription by a number
 * of ours; the server's id is only needed to end it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "client/client.h"

#define SUBSCRIBER_DEFAULT_IN_FLIGHT	1024
#define SUBSCRIBER_CONSUMER_MAX		255	/* bytes of a consumer's name, by the protocol */

_Static_assert(LIMINAL_SCHEMA_ID_SIZE == HASH_SCHEMA_ID_SIZE, "one size of a schema id");

/* ---- the set of subscriptions ---- */

struct client_subscription *
client_subscription_find(struct liminal *conn, uint32_t stream)
{
	const struct client_entry *entry;

	if (conn->recent != NULL && (uint32_t)conn->recent->number == stream)
		return conn->recent;
	if ((entry = client_table_find(&conn->subscriptions, stream)) == NULL)
		return NULL;
	return conn->recent = entry->u.subscription;
}

void
client_subscription_forget(struct liminal *conn, struct client_subscription *subscription)
{
	client_table_remove(&conn->subscriptions, (uint32_t)subscription->number);
	if (conn->recent == subscription)
		conn->recent = NULL;
	free(subscription);
}

void
client_subscriptions_free(struct liminal *conn)
{
	for (size_t i = 0; i < conn->subscriptions.size; i++)
		if (conn->subscriptions.places[i].id != 0)
			free(conn->subscriptions.places[i].u.subscription);
	client_table_free(&conn->subscriptions);
	conn->recent = NULL;
}

static struct client_subscription *
subscriber_add(struct liminal *conn, const struct liminal_subscription *wanted)
{
	struct client_subscription *subscription = calloc(1, sizeof(*subscription));
	struct client_entry entry = { .u.subscription = subscription };

	if (subscription == NULL)
		return NULL;
	subscription->number = conn->last_subscription + 1;
	/* 0 is no stream for it. */
	if ((uint32_t)subscription->number == 0)
		subscription->number++;
	subscription->state = CLIENT_SUBSCRIBING;
	subscription->durable = wanted->consumer != NULL;
	subscription->context = wanted->context;
	entry.id = (uint32_t)subscription->number;
	if (client_table_add(&conn->subscriptions, entry) != 0) {
		free(subscription);
		return NULL;
	}
	conn->last_subscription = subscription->number;
	return subscription;
}

/* The live one that the program means. */
static int
subscriber_find(struct liminal *conn, uint64_t number, struct client_subscription **subscription)
{
	int r;

	if ((r = client_check(conn)) != LIMINAL_OK)
		return r;
	*subscription = client_subscription_find(conn, (uint32_t)number);
	if (*subscription == NULL || (*subscription)->number != number ||
	    (*subscription)->state != CLIENT_LIVE)
		return client_fail(conn, LIMINAL_INVALID, "there is no such subscription");
	return LIMINAL_OK;
}

/* ---- subscribing ---- */

static int
subscriber_check_durable(struct liminal *conn, const struct liminal_subscription *wanted)
{
	const char *fault = NULL;
	size_t len;

	if (wanted->consumer == NULL) {
		if (wanted->start != LIMINAL_START_RESUME || wanted->sequence != 0)
			fault = "only a durable subscription, with a consumer, has a start";
	} else if ((len = strlen(wanted->consumer)) < 1 || len > SUBSCRIBER_CONSUMER_MAX ||
	    !frame_is_utf8((const uint8_t *)wanted->consumer, len)) {
		fault = "a consumer's name has 1 to 255 bytes of UTF-8";
	} else if (wanted->start < LIMINAL_START_RESUME ||
	    wanted->start > LIMINAL_START_SEQUENCE) {
		fault = "an unknown start";
	} else if (wanted->start != LIMINAL_START_SEQUENCE && wanted->sequence != 0) {
		fault = "a sequence without LIMINAL_START_SEQUENCE";
	} else if ((conn->capabilities & LIMINAL_CAPABILITY_DURABLE_SUBSCRIPTION) == 0) {
		/* It would take the subscription for a plain one. */
		fault = "the server has no durable subscriptions";
	}
	return fault == NULL ? LIMINAL_OK : client_fail(conn, LIMINAL_INVALID, "%s", fault);
}

/* Fill FRAME with views into WANTED. */
static int
subscriber_compose(struct liminal *conn, const struct liminal_subscription *wanted,
    struct frame *frame)
{
	size_t len = wanted->channel == NULL ? 0 : strlen(wanted->channel);

	if (wanted->channel == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no channel");
	if (!frame_is_utf8((const uint8_t *)wanted->channel, len))
		return client_fail(conn, LIMINAL_INVALID, "the channel is not UTF-8");
	if ((wanted->accepted == NULL && wanted->n_accepted > 0) ||
	    wanted->n_accepted > UINT32_MAX / LIMINAL_SCHEMA_ID_SIZE)
		return client_fail(conn, LIMINAL_INVALID, "no accepted schema ids");
	frame->u.subscribe.channel.data = (const uint8_t *)wanted->channel;
	frame->u.subscribe.channel.len = len;
	frame->u.subscribe.accepted.count = (uint32_t)wanted->n_accepted;
	frame->u.subscribe.accepted.encoded.data = wanted->accepted;
	frame->u.subscribe.accepted.encoded.len = wanted->n_accepted * LIMINAL_SCHEMA_ID_SIZE;
	frame->u.subscribe.max_in_flight = wanted->max_in_flight != 0 ? wanted->max_in_flight :
	    SUBSCRIBER_DEFAULT_IN_FLIGHT;
	if (wanted->consumer != NULL) {
		frame->u.subscribe.durable = 1;
		frame->u.subscribe.consumer.data = (const uint8_t *)wanted->consumer;
		frame->u.subscribe.consumer.len = strlen(wanted->consumer);
		frame->u.subscribe.start = (uint8_t)wanted->start;
		frame->u.subscribe.sequence = wanted->sequence;
	}
	return subscriber_check_durable(conn, wanted);
}

/* Send FRAME for SUBSCRIPTION and wait for the outcome. */
static int
subscriber_ask(struct liminal *conn, struct client_subscription *subscription,
    struct frame *frame, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	int r;

	frame->stream = (uint32_t)subscription->number;
	if ((r = client_send(conn, frame)) != LIMINAL_OK) {
		client_subscription_forget(conn, subscription);
		return r;
	}
	r = client_next(conn, CLIENT_SUBSCRIBED, &wait, frame, NULL);
	if (r != LIMINAL_OK) {
		subscription->state = CLIENT_ABANDONED;
		return r;
	}
	if (frame->type == FRAME_SUBSCRIBE_ERROR) {
		client_subscription_forget(conn, subscription);
		return client_refused(conn, frame->u.error.reason,
		    frame->u.error.message.present ? &frame->u.error.message.view : NULL);
	}
	subscription->state = CLIENT_LIVE;
	subscription->id = frame->u.subscribe_ack.subscription;
	return LIMINAL_OK;
}

int
liminal_subscribe(struct liminal *conn, const struct liminal_subscription *wanted, int timeout_ms,
    uint64_t *number)
{
	struct frame frame = { .type = FRAME_SUBSCRIBE };
	struct client_subscription *subscription;
	int r;

	if (wanted == NULL || number == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no subscription");
	if ((r = client_check(conn)) != LIMINAL_OK ||
	    (r = subscriber_compose(conn, wanted, &frame)) != LIMINAL_OK)
		return r;
	if ((subscription = subscriber_add(conn, wanted)) == NULL)
		return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	if ((r = subscriber_ask(conn, subscription, &frame, timeout_ms)) == LIMINAL_OK)
		*number = subscription->number;
	return r;
}

void
client_send_unsubscribe(struct liminal *conn, uint32_t stream, uint64_t id)
{
	struct frame frame = { .type = FRAME_UNSUBSCRIBE, .stream = stream };

	frame.u.unsubscribe.subscription = id;
	client_send_always(conn, &frame);
}

int
liminal_unsubscribe(struct liminal *conn, uint64_t number)
{
	struct frame frame = { .type = FRAME_UNSUBSCRIBE, .stream = (uint32_t)number };
	struct client_subscription *subscription;
	int r;

	if ((r = subscriber_find(conn, number, &subscription)) != LIMINAL_OK)
		return r;
	frame.u.unsubscribe.subscription = subscription->id;
	if ((r = client_send_always(conn, &frame)) == LIMINAL_OK)
		client_subscription_forget(conn, subscription);
	return r;
}

void
liminal_schema_id(const void *schema, size_t len, void *id)
{
	hash_schema_id(schema, len, id);
}

/* ---- messages ---- */

static void
subscriber_show_end(struct liminal *conn, const struct frame *frame)
{
	struct liminal_message *message = &conn->message;

	message->is_error = 1;
	message->reason = frame->u.error.reason;
	message->payload = "";
	if (frame->u.error.message.present) {
		message->payload = frame->u.error.message.view.data;
		message->len = frame->u.error.message.view.len;
	}
}

void
client_show_message(struct liminal *conn, const struct frame *frame)
{
	struct client_subscription *subscription = client_subscription_find(conn, frame->stream);
	const struct frame_envelope *envelope = &frame->u.deliver.envelope;
	struct liminal_message *message = &conn->message;

	*message = (struct liminal_message){
		.subscription = subscription->number, .context = subscription->context,
	};
	if (frame->type == FRAME_SUBSCRIBE_ERROR) {
		subscriber_show_end(conn, frame);
		client_subscription_forget(conn, subscription);
		return;
	}
	message->sequence = frame->u.deliver.sequence;
	message->payload = envelope->payload.data;
	message->len = envelope->payload.len;
	message->schema_id = envelope->schema_id;
	if (envelope->parent_id.present) {
		message->parent_id = (const char *)envelope->parent_id.view.data;
		message->parent_id_len = envelope->parent_id.view.len;
	}
	message->has_vector_clock = envelope->has_vector_clock;
	message->vector_clock = envelope->vector_clock;
}

int
liminal_next_message(struct liminal *conn, int timeout_ms, const struct liminal_message **message)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct frame frame;
	int r;

	wait.interruptible = 1;
	if ((r = client_next(conn, CLIENT_MESSAGE, &wait, &frame, NULL)) != LIMINAL_OK)
		return r;
	client_show_message(conn, &frame);
	*message = &conn->message;
	return LIMINAL_OK;
}

/* ---- verdicts ---- */

static int
subscriber_judge(struct liminal *conn, uint8_t type, uint64_t number, uint64_t sequence,
    const char *reason)
{
	struct frame frame = { .type = type, .stream = (uint32_t)number };
	struct client_subscription *subscription;
	char text[24];
	int r;

	if ((r = subscriber_find(conn, number, &subscription)) != LIMINAL_OK)
		return r;
	if (!subscription->durable)
		return client_fail(conn, LIMINAL_INVALID, "the subscription is not durable");
	if (reason != NULL && !frame_is_utf8((const uint8_t *)reason, strlen(reason)))
		return client_fail(conn, LIMINAL_INVALID, "the reason is not UTF-8");
	frame.u.verdict.message.data = (const uint8_t *)text;
	frame.u.verdict.message.len = (size_t)snprintf(text, sizeof(text), "%" PRIu64, sequence);
	frame.u.verdict.reason.present = reason != NULL;
	if (reason != NULL) {
		frame.u.verdict.reason.view.data = (const uint8_t *)reason;
		frame.u.verdict.reason.view.len = strlen(reason);
	}
	return client_send(conn, &frame);
}

int
liminal_accept(struct liminal *conn, uint64_t subscription, uint64_t sequence)
{
	return subscriber_judge(conn, FRAME_ACCEPT, subscription, sequence, NULL);
}

int
liminal_defer(struct liminal *conn, uint64_t subscription, uint64_t sequence, const char *reason)
{
	return subscriber_judge(conn, FRAME_DEFER, subscription, sequence, reason);
}

int
liminal_reject(struct liminal *conn, uint64_t subscription, uint64_t sequence, const char *reason)
{
	return subscriber_judge(conn, FRAME_REJECT, subscription, sequence, reason);
}
