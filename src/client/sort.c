/*
 * sort: what each frame that arrives is to the library, by what is open and what is due.
 *
 * A server that answers what was never sent cannot be followed any more: the connection ends. What is
 * late, because the program has closed or given up meanwhile, is dropped.
 */
#include "client/client.h"

static enum client_kind
sort_answer(const struct liminal *conn, uint64_t conversation)
{
	/* Closed meanwhile: nobody waits for it. */
	if (client_table_find(&conn->conversations, conversation) == NULL)
		return CLIENT_IGNORED;
	return conversation == conn->asked ? CLIENT_ASKED : CLIENT_ANSWER;
}

/* PublishAck and PublishError. */
static enum client_kind
sort_ack(const struct liminal *conn, const struct frame *frame, const char **fault)
{
	if ((frame->stream & CLIENT_WAITED_STREAM) != 0) {
		if (conn->awaits_publish && frame->stream == conn->last_waited)
			return CLIENT_PUBLISHED;
		if (frame->stream <= conn->last_waited)
			return CLIENT_IGNORED;
	} else if (conn->publishes_due > 0 &&
	    client_publish_of_stream(conn, frame->stream) != 0) {
		return conn->errors_only && frame->type == FRAME_PUBLISH_ACK ?
		    CLIENT_ACK_UNSEEN : CLIENT_ACK;
	}
	*fault = "acknowledged what was not published";
	return CLIENT_BROKEN;
}

/* The outcome of a Subscribe. */
static enum client_kind
sort_outcome(struct liminal *conn, const struct frame *frame,
    struct client_subscription *subscription)
{
	if (subscription->state == CLIENT_SUBSCRIBING)
		return CLIENT_SUBSCRIBED;
	if (frame->type == FRAME_SUBSCRIBE_ACK)
		client_send_unsubscribe(conn, frame->stream, frame->u.subscribe_ack.subscription);
	client_subscription_forget(conn, subscription);
	return CLIENT_IGNORED;
}

/* SubscribeAck, SubscribeError and Deliver. */
static enum client_kind
sort_subscription(struct liminal *conn, const struct frame *frame, const char **fault)
{
	struct client_subscription *subscription = client_subscription_find(conn, frame->stream);

	if (subscription == NULL) {
		if (frame->type != FRAME_SUBSCRIBE_ACK && frame->stream <= conn->last_subscription)
			return CLIENT_IGNORED;
		*fault = "spoke of a subscription that there is not";
		return CLIENT_BROKEN;
	}
	if (subscription->state != CLIENT_LIVE && frame->type != FRAME_DELIVER)
		return sort_outcome(conn, frame, subscription);
	if (subscription->state != CLIENT_LIVE || frame->type == FRAME_SUBSCRIBE_ACK) {
		*fault = frame->type == FRAME_DELIVER ?
		    "delivered before it had acknowledged the subscription" :
		    "acknowledged a subscription twice";
		return CLIENT_BROKEN;
	}
	return CLIENT_MESSAGE;
}

/* Apart from client_sort(), which would clear its frame for every one that arrives. */
static void __attribute__((noinline))
sort_ping(struct liminal *conn)
{
	const struct frame pong = { .type = FRAME_PONG };

	client_send(conn, &pong);
}

enum client_kind
client_sort(struct liminal *conn, const struct frame *frame, const char **fault)
{
	switch (frame->type) {
	case FRAME_CONNECT_ACK:
	case FRAME_CONNECT_ERROR:
		return CLIENT_HANDSHAKE;
	case FRAME_DISCONNECT:
		client_end(conn, LIMINAL_DISCONNECTED, "the server said goodbye");
		return CLIENT_IGNORED;
	case FRAME_PING:
		sort_ping(conn);
		return CLIENT_IGNORED;
	case FRAME_PONG:
		return conn->pongs_due > 0 && --conn->pongs_due == 0 ?
		    CLIENT_PONG : CLIENT_IGNORED;
	case FRAME_CONVERSATION_MESSAGE:
		if ((frame->flags & FRAME_FLAG_REPLY) == 0)
			return CLIENT_IGNORED;
		return sort_answer(conn, frame->u.conversation_message.conversation);
	case FRAME_CONVERSATION_ERROR:
		return sort_answer(conn, frame->u.conversation_error.conversation);
	case FRAME_PUSH:
		return CLIENT_JOB;
	case FRAME_PUBLISH_ACK:
	case FRAME_PUBLISH_ERROR:
		return sort_ack(conn, frame, fault);
	case FRAME_DELIVER:
	case FRAME_SUBSCRIBE_ACK:
	case FRAME_SUBSCRIBE_ERROR:
		return sort_subscription(conn, frame, fault);
	case FRAME_WORKER_REGISTER_ACK:
		return conn->registrations_due > 0 && --conn->registrations_due == 0 ?
		    CLIENT_REGISTERED : CLIENT_IGNORED;
	default:
		return CLIENT_IGNORED;
	}
}

int
client_is_current(struct liminal *conn, const struct frame *frame, enum client_kind kind)
{
	switch (kind) {
	case CLIENT_ANSWER:
		return client_sort(conn, frame, NULL) == CLIENT_ANSWER;
	case CLIENT_MESSAGE:
		return client_subscription_find(conn, frame->stream) != NULL;
	default:
		return 1;
	}
}
