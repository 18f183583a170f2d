/*
 * publisher: publishes and their outcomes.
 *
 * As a request is, a publish is named by its stream: the server's answer comes on the same one, so
 * nothing is kept per publish, and one that is never answered (a notifier took the message) does
 * not shift the answers of others. Of a stream id, the highest bit says whether
 * liminal_publish_wait() sent it, the others are the low bits of its number.
 */
#include <string.h>

#include "client/client.h"

#define PUBLISHER_NUMBER_MASK	(CLIENT_WAITED_STREAM - 1)

uint64_t
client_publish_of_stream(const struct liminal *conn, uint32_t stream)
{
	uint64_t back = ((uint32_t)conn->last_publish - stream) & PUBLISHER_NUMBER_MASK;

	return back < conn->last_publish ? conn->last_publish - back : 0;
}

static int
publisher_read_text(struct liminal *conn, const char *text, const char *what,
    struct frame_view *view)
{
	view->data = (const uint8_t *)text;
	view->len = strlen(text);
	/* The server would have to end the connection over it. */
	if (!frame_is_utf8(view->data, view->len))
		return client_fail(conn, LIMINAL_INVALID, "the %s is not UTF-8", what);
	return LIMINAL_OK;
}

static int
publisher_read_opt(struct liminal *conn, const char *text, const char *what,
    struct frame_opt_view *opt)
{
	opt->present = text != NULL;
	return text == NULL ? LIMINAL_OK : publisher_read_text(conn, text, what, &opt->view);
}

static int
publisher_read_extras(struct liminal *conn, const struct liminal_publication *with,
    struct frame *frame)
{
	struct frame_envelope *envelope = &frame->u.publish.envelope;
	int r;

	envelope->schema_id = with->schema_id;
	envelope->has_vector_clock = with->has_vector_clock;
	envelope->vector_clock = with->vector_clock;
	r = publisher_read_opt(conn, with->parent_id, "parent id", &envelope->parent_id);
	if (r == LIMINAL_OK)
		r = publisher_read_opt(conn, with->key, "key", &frame->u.publish.key);
	return r;
}

/* Append a Publish on STREAM; only what every publish has is looked at when WITH is NULL. */
static int
publisher_send(struct liminal *conn, uint32_t stream, const char *channel,
    const void *payload, size_t len, const struct liminal_publication *with)
{
	struct frame frame;
	struct frame_envelope *envelope = &frame.u.publish.envelope;
	int r;

	if (channel == NULL || (payload == NULL && len > 0))
		return client_fail(conn, LIMINAL_INVALID, "no channel or no payload");
	/* Field by field: clearing the union for each message costs as much as encoding it. */
	frame.type = FRAME_PUBLISH;
	frame.flags = 0;
	frame.stream = stream;
	envelope->schema_id = NULL;
	envelope->parent_id.present = 0;
	envelope->has_vector_clock = 0;
	envelope->payload.data = payload;
	envelope->payload.len = len;
	frame.u.publish.key.present = 0;
	r = publisher_read_text(conn, channel, "channel", &frame.u.publish.channel);
	if (r == LIMINAL_OK && with != NULL)
		r = publisher_read_extras(conn, with, &frame);
	return r == LIMINAL_OK ? client_send(conn, &frame) : r;
}

/* The same as the next publish whose outcome is an event. */
static int
publisher_send_next(struct liminal *conn, const char *channel, const void *payload, size_t len,
    const struct liminal_publication *with, uint64_t *publish)
{
	uint64_t number = conn->last_publish + 1;
	int r;

	if ((number & PUBLISHER_NUMBER_MASK) == 0)
		number++;	/* 0 is no stream for a publish */
	r = publisher_send(conn, (uint32_t)number & PUBLISHER_NUMBER_MASK, channel, payload, len,
	    with);
	if (r != LIMINAL_OK)
		return r;
	conn->last_publish = number;
	conn->publishes_due++;
	if (publish != NULL)
		*publish = number;
	return LIMINAL_OK;
}

int
liminal_publish(struct liminal *conn, const char *channel, const void *payload, size_t len,
    uint64_t *publish)
{
	return publisher_send_next(conn, channel, payload, len, NULL, publish);
}

int
liminal_publish_with(struct liminal *conn, const struct liminal_publication *publication,
    uint64_t *publish)
{
	if (publication == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no publication");
	return publisher_send_next(conn, publication->channel, publication->payload,
	    publication->len, publication, publish);
}

/* ---- outcomes ---- */

void
client_show_ack(struct liminal *conn, const struct frame *frame)
{
	struct liminal_ack *ack = &conn->ack;

	*ack = (struct liminal_ack){ .text = "" };
	if ((frame->stream & CLIENT_WAITED_STREAM) == 0)
		ack->publish = client_publish_of_stream(conn, frame->stream);
	if (frame->type == FRAME_PUBLISH_ACK) {
		ack->message = frame->u.publish_ack.message;
		ack->delivered = (frame->flags & FRAME_FLAG_DELIVERED) != 0;
		return;
	}
	ack->is_error = 1;
	ack->reason = frame->u.error.reason;
	if (frame->u.error.message.present) {
		ack->text = (const char *)frame->u.error.message.view.data;
		ack->len = frame->u.error.message.view.len;
	}
}

int
liminal_next_ack(struct liminal *conn, int timeout_ms, const struct liminal_ack **ack)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct frame frame;
	int r;

	wait.interruptible = 1;
	if ((r = client_next(conn, CLIENT_ACK, &wait, &frame, NULL)) != LIMINAL_OK)
		return r;
	client_show_ack(conn, &frame);
	*ack = &conn->ack;
	return LIMINAL_OK;
}

int
liminal_publish_wait(struct liminal *conn, const struct liminal_publication *publication,
    int timeout_ms, const struct liminal_ack **ack)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	uint32_t stream = (conn->last_waited + 1) | CLIENT_WAITED_STREAM;
	struct frame_view text;
	struct frame frame;
	int r;

	if (ack != NULL)
		*ack = NULL;
	if (publication == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no publication");
	r = publisher_send(conn, stream, publication->channel, publication->payload,
	    publication->len, publication);
	if (r != LIMINAL_OK)
		return r;
	conn->last_waited = stream;
	conn->awaits_publish = 1;
	r = client_next(conn, CLIENT_PUBLISHED, &wait, &frame, NULL);
	conn->awaits_publish = 0;
	if (r != LIMINAL_OK)
		return r;
	client_show_ack(conn, &frame);
	if (ack != NULL)
		*ack = &conn->ack;
	if (!conn->ack.is_error)
		return LIMINAL_OK;
	text.data = (const uint8_t *)conn->ack.text;
	text.len = conn->ack.len;
	return client_refused(conn, conn->ack.reason, &text);
}

void
liminal_set_ack_events(struct liminal *conn, enum liminal_ack_events which)
{
	conn->errors_only = which == LIMINAL_ACKS_ERRORS;
}

uint64_t
liminal_publishes_due(const struct liminal *conn)
{
	return conn->publishes_due;
}

int
liminal_await_acks(struct liminal *conn, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);

	return client_settle(conn, &wait);
}
