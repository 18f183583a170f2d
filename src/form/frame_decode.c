/*
 * frame_decode: bytes to struct frame.
 *
 * Everything here reads what a hostile peer may have written. The rule that
 * keeps it safe: only take_*() touch the input, each compares the room that is
 * left (a difference of pointers, never a sum) before it moves on, and whatever
 * is not enough or not allowed goes through reader_fail(), once per frame. They
 * return 1 on success, so that a payload reads as one && chain in wire order.
 */
#include <endian.h>
#include <string.h>

#include "form/frame.h"

struct reader {
	const uint8_t *at, *end;	/* what is not read yet */
	const uint8_t *fault_at;
	const char *fault;		/* NULL until something is wrong */
};

static int
reader_fail(struct reader *r, const uint8_t *at, const char *what)
{
	r->fault_at = at;
	r->fault = what;
	return 0;
}

static size_t
reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

static int
reader_has(struct reader *r, size_t n)
{
	if (reader_left(r) < n)
		return reader_fail(r, r->at, "a field ends beyond the bytes that hold it");
	return 1;
}

static int
take_u8(struct reader *r, uint8_t *out)
{
	if (!reader_has(r, 1))
		return 0;
	*out = *r->at++;
	return 1;
}

static int
take_u16(struct reader *r, uint16_t *out)
{
	if (!reader_has(r, sizeof(*out)))
		return 0;
	memcpy(out, r->at, sizeof(*out));
	*out = be16toh(*out);
	r->at += sizeof(*out);
	return 1;
}

static int
take_u32(struct reader *r, uint32_t *out)
{
	if (!reader_has(r, sizeof(*out)))
		return 0;
	memcpy(out, r->at, sizeof(*out));
	*out = be32toh(*out);
	r->at += sizeof(*out);
	return 1;
}

static int
take_u64(struct reader *r, uint64_t *out)
{
	if (!reader_has(r, sizeof(*out)))
		return 0;
	memcpy(out, r->at, sizeof(*out));
	*out = be64toh(*out);
	r->at += sizeof(*out);
	return 1;
}

static int
take_version(struct reader *r, struct frame_version *out)
{
	return take_u16(r, &out->major) && take_u16(r, &out->minor);
}

static int
take_schema_id(struct reader *r, const uint8_t **out)
{
	if (!reader_has(r, FRAME_SCHEMA_ID_SIZE))
		return 0;
	*out = r->at;
	r->at += FRAME_SCHEMA_ID_SIZE;
	return 1;
}

static int
take_bytes(struct reader *r, struct frame_view *out)
{
	uint32_t len;

	if (!take_u32(r, &len) || !reader_has(r, len))
		return 0;
	out->data = r->at;
	out->len = len;
	r->at += len;
	return 1;
}

static int
take_string(struct reader *r, struct frame_view *out)
{
	if (!take_bytes(r, out))
		return 0;
	if (!frame_is_utf8(out->data, out->len))
		return reader_fail(r, out->data, "a string is not valid UTF-8");
	return 1;
}

static int
take_presence(struct reader *r, int *present)
{
	uint8_t tag;

	if (!take_u8(r, &tag))
		return 0;
	if (tag > 1)
		return reader_fail(r, r->at - 1, "the tag of an optional field is neither 0 nor 1");
	*present = tag;
	return 1;
}

static int
take_opt_string(struct reader *r, struct frame_opt_view *out)
{
	out->view.data = NULL;
	out->view.len = 0;
	return take_presence(r, &out->present) &&
	    (!out->present || take_string(r, &out->view));
}

/* The count of a vector whose elements need at least SMALLEST bytes each: one that
 * cannot be true is refused before anybody loops over it. */
static int
take_count(struct reader *r, size_t smallest, struct frame_vec *out)
{
	if (!take_u32(r, &out->count))
		return 0;
	if (out->count > reader_left(r) / smallest)
		return reader_fail(r, r->at - sizeof(out->count),
		    "a count promises more elements than there are bytes");
	out->encoded.data = r->at;
	return 1;
}

static int
take_string_vec(struct reader *r, struct frame_vec *out)
{
	struct frame_view string;

	if (!take_count(r, sizeof(uint32_t), out))
		return 0;
	for (uint32_t i = 0; i < out->count; i++)
		if (!take_string(r, &string))
			return 0;
	out->encoded.len = (size_t)(r->at - out->encoded.data);
	return 1;
}

static int
take_schema_vec(struct reader *r, struct frame_vec *out)
{
	if (!take_count(r, FRAME_SCHEMA_ID_SIZE, out))
		return 0;
	out->encoded.len = (size_t)out->count * FRAME_SCHEMA_ID_SIZE;
	r->at += out->encoded.len;
	return 1;
}

static int
take_census(struct reader *r, struct frame_vec *out)
{
	struct frame_view name, input, output;

	if (!take_count(r, 3 * sizeof(uint32_t), out))
		return 0;
	for (uint32_t i = 0; i < out->count; i++)
		if (!take_string(r, &name) || !take_string(r, &input) ||
		    !take_string(r, &output))
			return 0;
	out->encoded.len = (size_t)(r->at - out->encoded.data);
	return 1;
}

static int
take_end(struct reader *r)
{
	if (r->at != r->end)
		return reader_fail(r, r->at, "bytes are left over after the last field");
	return 1;
}

static int
take_causal(struct reader *r, struct frame_envelope *out)
{
	const uint8_t *outer_end = r->end;

	if (!take_bytes(r, &out->causal))
		return 0;
	r->at = out->causal.data;
	r->end = r->at + out->causal.len;
	out->vector_clock = 0;
	if (!take_opt_string(r, &out->parent_id) ||
	    !take_presence(r, &out->has_vector_clock) ||
	    (out->has_vector_clock && !take_u64(r, &out->vector_clock)) ||
	    !take_end(r))
		return 0;
	r->end = outer_end;
	return 1;
}

static int
take_envelope(struct reader *r, struct frame_envelope *out)
{
	const uint8_t *outer_end = r->end;
	struct frame_view whole;

	if (!take_bytes(r, &whole))
		return 0;
	r->at = whole.data;
	r->end = whole.data + whole.len;
	if (!take_schema_id(r, &out->schema_id) || !take_causal(r, out) ||
	    !take_bytes(r, &out->payload) || !take_end(r))
		return 0;
	r->end = outer_end;
	return 1;
}

/* A flag of an extension counts only when something follows the base payload. */
static int
extension_follows(const struct reader *r, const struct frame *f, uint8_t flag)
{
	return (f->flags & flag) != 0 && r->at != r->end;
}

static int
take_durable(struct reader *r, struct frame *f)
{
	const uint8_t *name = r->at, *start;

	if (!take_string(r, &f->u.subscribe.consumer))
		return 0;
	if (f->u.subscribe.consumer.len < 1 || f->u.subscribe.consumer.len > 255)
		return reader_fail(r, name, "a consumer name has 1 to 255 bytes");
	start = r->at;
	if (!take_u8(r, &f->u.subscribe.start) || !take_u64(r, &f->u.subscribe.sequence))
		return 0;
	if (f->u.subscribe.start > 2)
		return reader_fail(r, start, "the start of a durable subscription is not 0, 1 or 2");
	if (f->u.subscribe.start != 2 && f->u.subscribe.sequence != 0)
		return reader_fail(r, start + 1, "a start sequence is given but not asked for");
	return 1;
}

static int
take_subscribe(struct reader *r, struct frame *f)
{
	f->u.subscribe.consumer = (struct frame_view){ NULL, 0 };
	f->u.subscribe.start = 0;
	f->u.subscribe.sequence = 0;
	if (!take_string(r, &f->u.subscribe.channel) ||
	    !take_schema_vec(r, &f->u.subscribe.accepted) ||
	    !take_u32(r, &f->u.subscribe.max_in_flight))
		return 0;
	if (f->u.subscribe.max_in_flight == 0)
		return reader_fail(r, r->at - sizeof(uint32_t), "max_in_flight is 0");
	f->u.subscribe.durable = extension_follows(r, f, FRAME_FLAG_DURABLE);
	return !f->u.subscribe.durable || take_durable(r, f);
}

static int
take_publish(struct reader *r, struct frame *f)
{
	f->u.publish.key = (struct frame_opt_view){ 0, { NULL, 0 } };
	if (!take_string(r, &f->u.publish.channel) || !take_envelope(r, &f->u.publish.envelope))
		return 0;
	if ((f->flags & FRAME_FLAG_IDEMPOTENCY) == 0)
		return 1;
	f->u.publish.key.present = 1;
	return take_string(r, &f->u.publish.key.view);
}

static int
take_conversation_close(struct reader *r, struct frame *f)
{
	f->u.conversation_close.reason = 0;
	return take_u64(r, &f->u.conversation_close.conversation) &&
	    take_presence(r, &f->u.conversation_close.has_reason) &&
	    (!f->u.conversation_close.has_reason ||
	    take_u16(r, &f->u.conversation_close.reason)) &&
	    take_opt_string(r, &f->u.conversation_close.message);
}

static int
take_worker_register(struct reader *r, struct frame *f)
{
	f->u.worker_register.has_capacity = 0;
	f->u.worker_register.max_concurrent = 0;
	if (!take_string_vec(r, &f->u.worker_register.namespaces) ||
	    !take_string(r, &f->u.worker_register.task_queue) ||
	    !take_opt_string(r, &f->u.worker_register.node) ||
	    !take_string_vec(r, &f->u.worker_register.activity_types) ||
	    !take_string(r, &f->u.worker_register.identity))
		return 0;
	if (r->at == r->end) {
		/* The short form of older clients. */
		f->u.worker_register.census = (struct frame_vec){ 0, { r->at, 0 } };
		return 1;
	}
	if (!take_census(r, &f->u.worker_register.census))
		return 0;
	if (!extension_follows(r, f, FRAME_FLAG_CAPACITY))
		return 1;
	f->u.worker_register.has_capacity = 1;
	if (!take_u32(r, &f->u.worker_register.max_concurrent))
		return 0;
	if (f->u.worker_register.max_concurrent == 0)
		return reader_fail(r, r->at - sizeof(uint32_t), "max_concurrent is 0");
	return 1;
}

static int
take_worker_register_ack(struct reader *r, struct frame *f)
{
	uint8_t status;

	f->u.worker_register_ack.reason = (struct frame_view){ NULL, 0 };
	if (!take_u8(r, &status))
		return 0;
	if (status > 1)
		return reader_fail(r, r->at - 1, "the registration's outcome is neither 0 nor 1");
	f->u.worker_register_ack.accepted = status == 0;
	return status == 0 || take_string(r, &f->u.worker_register_ack.reason);
}

static int
take_payload(struct reader *r, struct frame *f)
{
	switch (f->type) {
	case FRAME_CONNECT:
		return take_version(r, &f->u.connect.min) &&
		    take_version(r, &f->u.connect.max) && take_bytes(r, &f->u.connect.token);
	case FRAME_CONNECT_ACK:
		return take_version(r, &f->u.connect_ack.selected) &&
		    take_u32(r, &f->u.connect_ack.capabilities);
	case FRAME_CONNECT_ERROR:
	case FRAME_SUBSCRIBE_ERROR:
	case FRAME_PUBLISH_ERROR:
		return take_u16(r, &f->u.error.reason) &&
		    take_opt_string(r, &f->u.error.message);
	case FRAME_SUBSCRIBE:
		return take_subscribe(r, f);
	case FRAME_SUBSCRIBE_ACK:
		return take_u64(r, &f->u.subscribe_ack.subscription) &&
		    take_schema_id(r, &f->u.subscribe_ack.schema_id);
	case FRAME_UNSUBSCRIBE:
		return take_u64(r, &f->u.unsubscribe.subscription);
	case FRAME_PUBLISH:
		return take_publish(r, f);
	case FRAME_PUBLISH_ACK:
		return take_u64(r, &f->u.publish_ack.message);
	case FRAME_CONVERSATION_OPEN:
		return take_u64(r, &f->u.conversation_open.conversation) &&
		    take_string(r, &f->u.conversation_open.subject);
	case FRAME_CONVERSATION_MESSAGE:
		return take_u64(r, &f->u.conversation_message.conversation) &&
		    take_envelope(r, &f->u.conversation_message.envelope);
	case FRAME_CONVERSATION_CLOSE:
		return take_conversation_close(r, f);
	case FRAME_CONVERSATION_ERROR:
		return take_u64(r, &f->u.conversation_error.conversation) &&
		    take_u16(r, &f->u.conversation_error.reason) &&
		    take_opt_string(r, &f->u.conversation_error.message);
	case FRAME_ACCEPT:
		f->u.verdict.reason = (struct frame_opt_view){ 0, { NULL, 0 } };
		return take_string(r, &f->u.verdict.message);
	case FRAME_DEFER:
	case FRAME_REJECT:
		return take_string(r, &f->u.verdict.message) &&
		    take_opt_string(r, &f->u.verdict.reason);
	case FRAME_PUSH:
	case FRAME_PUSH_REPLY:
		return take_u64(r, &f->u.push.correlation) && take_bytes(r, &f->u.push.payload);
	case FRAME_WORKER_REGISTER:
		return take_worker_register(r, f);
	case FRAME_WORKER_REGISTER_ACK:
		return take_worker_register_ack(r, f);
	case FRAME_DELIVER:
		return take_u64(r, &f->u.deliver.sequence) &&
		    take_envelope(r, &f->u.deliver.envelope);
	default:	/* Disconnect, Ping, Pong: empty */
		return 1;
	}
}

/* Control frames belong on stream 0, application frames on any other. */
static int
stream_fits(uint8_t type, uint32_t stream)
{
	switch (type) {
	case FRAME_CONNECT:
	case FRAME_CONNECT_ACK:
	case FRAME_CONNECT_ERROR:
	case FRAME_DISCONNECT:
	case FRAME_PING:
	case FRAME_PONG:
	case FRAME_WORKER_REGISTER:
	case FRAME_WORKER_REGISTER_ACK:
		return stream == 0;
	default:
		return stream != 0;
	}
}

static enum frame_status
frame_refuse(struct frame_fault *fault, enum frame_status status, size_t offset,
    const char *text)
{
	if (fault != NULL) {
		fault->offset = offset;
		fault->text = text;
	}
	return status;
}

enum frame_status
frame_decode(const uint8_t *bytes, size_t len, size_t max_payload, struct frame *out,
    size_t *used, struct frame_fault *fault)
{
	struct reader r;
	uint32_t payload;

	*used = 0;
	if (len < FRAME_HEADER_SIZE)
		return frame_refuse(fault, FRAME_NEED_HEADER, len, "the header is not complete");
	r = (struct reader){ .at = bytes + 2, .end = bytes + FRAME_HEADER_SIZE };
	out->type = bytes[0];
	out->flags = bytes[1];
	(void)take_u32(&r, &out->stream);
	(void)take_u32(&r, &payload);
	if (payload > max_payload)
		return frame_refuse(fault, FRAME_TOO_LARGE, 6,
		    "the declared payload is larger than allowed");
	if (payload > len - FRAME_HEADER_SIZE) {
		*used = FRAME_HEADER_SIZE + (size_t)payload;
		return frame_refuse(fault, FRAME_NEED_PAYLOAD, len, "the payload is not complete");
	}
	r.end = r.at + payload;
	out->raw = (struct frame_view){ r.at, payload };
	if (out->type != 0 && out->type <= FRAME_TYPE_LAST) {
		if (!stream_fits(out->type, out->stream))
			return frame_refuse(fault, FRAME_BAD_STREAM, 2,
			    "the stream id does not fit the frame's type");
		if (!take_payload(&r, out) || !take_end(&r))
			return frame_refuse(fault, FRAME_BAD_CODEC,
			    (size_t)(r.fault_at - bytes), r.fault);
	}
	*used = FRAME_HEADER_SIZE + (size_t)payload;
	return FRAME_OK;
}

int
frame_vec_next(struct frame_view *next, struct frame_view *string)
{
	struct reader r;

	if (next->len == 0)
		return 0;
	r = (struct reader){ .at = next->data, .end = next->data + next->len };
	if (!take_bytes(&r, string))
		return 0;
	next->data = r.at;
	next->len = reader_left(&r);
	return 1;
}
