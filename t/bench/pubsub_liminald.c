/*
 * liminald, publish and subscribe in bare frames: one channel in memory, and one that is stored.
 *
 * Acknowledgements and deliveries come by the million, so they are read here by their offsets
 * (README, "The protocol"); anything else that comes goes through the codec, to say what it is.
 * After a run the stored channel is read back by a durable consumer.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form/frame.h"
#include "pubsub.h"

#define STREAM		1u
#define IN_FLIGHT	4096u	/* of the consumer that reads back */
#define START_OLDEST	1	/* Subscribe's start: from the oldest message kept */

/* Offsets in frames. */
#define AT_FLAGS	1
#define AT_STREAM	2
#define AT_LENGTH	6
#define ACK_LEN		(FRAME_HEADER_SIZE + 8)
#define AT_MESSAGE_ID	FRAME_HEADER_SIZE
#define AT_SEQUENCE	FRAME_HEADER_SIZE
#define AT_CAUSAL_LEN	(AT_SEQUENCE + 8 + 4 + FRAME_SCHEMA_ID_SIZE)
#define DELIVER_LEN	(AT_CAUSAL_LEN + 4 + 4)	/* without the causal context and the payload */

enum { LAST_ID, SEQUENCE };		/* client->state; of the last frame */

static uint32_t
read32(const uint8_t *at)
{
	uint32_t n;

	memcpy(&n, at, sizeof n);
	return be32toh(n);
}

static uint64_t
read64(const uint8_t *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof n);
	return be64toh(n);
}

static int
is_durable(const struct bench_client *client)
{
	return client->server->driver == &bench_driver_liminald_store;
}

static struct frame_view
view_text(const char *text)
{
	return (struct frame_view){ (const uint8_t *)text, strlen(text) };
}

static struct frame_view
channel(const struct bench_client *client)
{
	return view_text(is_durable(client) ? "bench-durable" : "bench");
}

/* Say which frame it is that begins the input, if it is complete, and has no place there. */
static int
complain_of_frame(const struct bench_client *client)
{
	const struct buf *in = &client->conn[0].in;
	struct frame_fault fault = { 0 };
	enum frame_status status;
	struct frame frame;
	size_t used;

	status = frame_decode(buf_head(in), buf_len(in), 16u << 20, &frame, &used, &fault);
	if (status == FRAME_NEED_HEADER || status == FRAME_NEED_PAYLOAD)
		return 0;
	if (status != FRAME_OK)
		return bench_complain("liminald: %s", fault.text);
	if (frame.type != FRAME_PUBLISH_ERROR && frame.type != FRAME_SUBSCRIBE_ERROR)
		return bench_complain("liminald: %s", frame_type_name(frame.type));
	return bench_complain("liminald: reason %#x: %.*s", frame.u.error.reason,
	    (int)frame.u.error.message.view.len, (const char *)frame.u.error.message.view.data);
}

static int
subscribe(struct bench_client *client)
{
	struct frame frame = { .type = FRAME_SUBSCRIBE, .stream = STREAM };
	struct bench_conn *conn = &client->conn[0];

	frame.u.subscribe.channel = channel(client);
	frame.u.subscribe.max_in_flight = IN_FLIGHT;
	if (is_durable(client)) {
		frame.flags = FRAME_FLAG_DURABLE;
		frame.u.subscribe.durable = 1;
		frame.u.subscribe.consumer = view_text(client->queue);
		frame.u.subscribe.start = START_OLDEST;
	}
	if (frame_encode(&conn->out, &frame) != 0)
		return bench_complain("a frame cannot be encoded");
	if (bench_conn_flush(conn) != 0)
		return -1;
	while (buf_len(&conn->in) < FRAME_HEADER_SIZE || buf_len(&conn->in) <
	    FRAME_HEADER_SIZE + read32(buf_head(&conn->in) + AT_LENGTH))
		if (bench_conn_fill(conn) != 0)
			return -1;
	if (buf_head(&conn->in)[0] != FRAME_SUBSCRIBE_ACK)
		return complain_of_frame(client);
	buf_consume(&conn->in, FRAME_HEADER_SIZE + read32(buf_head(&conn->in) + AT_LENGTH));
	return 0;
}

static int
channel_open(struct bench_client *client)
{
	if (bench_driver_liminald.open(client) != 0)
		return -1;
	/* ConnectAck, which is all that can have come; and what open() noted about it. */
	buf_consume(&client->conn[0].in, buf_len(&client->conn[0].in));
	memset(client->state, 0, sizeof client->state);
	return client->role == BENCH_SUBSCRIBER ? subscribe(client) : 0;
}

static int
channel_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	struct frame frame = { .type = FRAME_PUBLISH, .stream = STREAM };

	frame.u.publish.channel = channel(client);
	frame.u.publish.envelope.payload = (struct frame_view){ message.data, message.len };
	return frame_encode(out, &frame) == 0 ? 0 : bench_complain("a frame cannot be encoded");
}

/* Message ids grow: an acknowledgement that comes twice is found. */
static int
channel_acknowledge(struct bench_client *client, uint64_t *n)
{
	struct buf *in = &client->conn[0].in;
	const uint8_t *start = buf_head(in), *at = start;
	size_t left = buf_len(in);
	uint64_t id;

	for (; left >= ACK_LEN; at += ACK_LEN, left -= ACK_LEN) {
		if (at[0] != FRAME_PUBLISH_ACK || read32(at + AT_LENGTH) != 8)
			break;
		id = read64(at + AT_MESSAGE_ID);
		if (id <= client->state[LAST_ID])
			return bench_complain("liminald: message id %llu comes again",
			    (unsigned long long)id);
		client->state[LAST_ID] = id;
		++*n;
	}
	buf_consume(in, (size_t)(at - start));
	return left < FRAME_HEADER_SIZE || buf_head(in)[0] == FRAME_PUBLISH_ACK ? 0 :
	    complain_of_frame(client);
}

static int
accept_message(struct bench_client *client, uint64_t sequence)
{
	struct frame frame = { .type = FRAME_ACCEPT, .stream = STREAM };
	char id[24];

	snprintf(id, sizeof id, "%llu", (unsigned long long)sequence);
	frame.u.verdict.message = view_text(id);
	return frame_encode(&client->conn[0].out, &frame) == 0 ? 0 :
	    bench_complain("a frame cannot be encoded");
}

/* Without a gap; a durable channel's numbers begin with the oldest message kept. */
static int
check_sequence(struct bench_client *client, uint64_t sequence)
{
	if (sequence != client->state[SEQUENCE] + 1 &&
	    !(is_durable(client) && client->state[SEQUENCE] == 0))
		return bench_complain("liminald: sequence %llu after %llu",
		    (unsigned long long)sequence, (unsigned long long)client->state[SEQUENCE]);
	client->state[SEQUENCE] = sequence;
	return is_durable(client) ? accept_message(client, sequence) : 0;
}

static int
channel_take(struct bench_client *client, struct bench_view *messages, unsigned max,
    size_t *used)
{
	struct bench_conn *conn = &client->conn[0];
	const uint8_t *at = buf_head(&conn->in), *start = at;
	size_t left = buf_len(&conn->in), len, causal;
	unsigned n = 0;

	while (n < max && left >= DELIVER_LEN && at[0] == FRAME_DELIVER) {
		len = FRAME_HEADER_SIZE + (size_t)read32(at + AT_LENGTH);
		causal = read32(at + AT_CAUSAL_LEN);
		if (left < len)
			break;
		if (len < DELIVER_LEN || causal > len - DELIVER_LEN)
			return bench_complain("liminald: a Deliver of %zu bytes", len);
		messages[n++] = (struct bench_view){ at + DELIVER_LEN + causal,
		    len - DELIVER_LEN - causal };
		if (check_sequence(client, read64(at + AT_SEQUENCE)) != 0)
			return -1;
		at += len;
		left -= len;
	}
	*used = (size_t)(at - start);
	if (n == 0 && left >= FRAME_HEADER_SIZE && at[0] != FRAME_DELIVER &&
	    complain_of_frame(client) != 0)
		return -1;
	return (int)n;
}

const struct bench_pubsub bench_pubsub_liminald = {
	.open = channel_open,
	.encode = channel_encode,
	.acknowledge = channel_acknowledge,
	.take = channel_take,
};

static const struct bench_pubsub pubsub_store = {
	.open = channel_open,
	.encode = channel_encode,
	.acknowledge = channel_acknowledge,
	.take = channel_take,
	.reads_back = 1,
};

static int
store_bye(struct bench_client *client)
{
	return bench_driver_liminald.bye(client);
}

const struct bench_driver bench_driver_liminald_store = {
	.name = "liminald", .program = "liminald", .on_disk = 1,
	.start = bench_liminald_start, .bye = store_bye, .pubsub = &pubsub_store,
};
