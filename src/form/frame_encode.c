/*
 * frame_encode: struct frame to bytes.
 *
 * Two passes over the same fields: size_*() say how long the payload becomes, then
 * put_*() store it into memory that was reserved once with exactly that size.
 * A field that is added to one of them must be added to the other; the tests
 * compare the two for every type.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/err.h"
#include "form/frame.h"

static uint64_t
size_bytes(struct frame_view v)
{
	return sizeof(uint32_t) + (uint64_t)v.len;
}

static uint64_t
size_opt(struct frame_opt_view v)
{
	return 1 + (v.present ? size_bytes(v.view) : 0);
}

static uint64_t
size_vec(struct frame_vec v)
{
	return sizeof(uint32_t) + (uint64_t)v.encoded.len;
}

static uint64_t
size_causal(const struct frame_envelope *e)
{
	return size_opt(e->parent_id) + 1 + (e->has_vector_clock ? sizeof(uint64_t) : 0);
}

/* Without the length field of the envelope itself. */
static uint64_t
size_envelope(const struct frame_envelope *e)
{
	return FRAME_SCHEMA_ID_SIZE + sizeof(uint32_t) + size_causal(e) + size_bytes(e->payload);
}

static uint64_t
size_subscribe(const struct frame *f)
{
	uint64_t base = size_bytes(f->u.subscribe.channel) + size_vec(f->u.subscribe.accepted) + 4;

	return base + (f->u.subscribe.durable ? size_bytes(f->u.subscribe.consumer) + 1 + 8 : 0);
}

static uint64_t
size_publish(const struct frame *f)
{
	uint64_t base = size_bytes(f->u.publish.channel) + 4 + size_envelope(&f->u.publish.envelope);

	return base + (f->u.publish.key.present ? size_bytes(f->u.publish.key.view) : 0);
}

static uint64_t
size_worker_register(const struct frame *f)
{
	return size_vec(f->u.worker_register.namespaces) +
	    size_bytes(f->u.worker_register.task_queue) + size_opt(f->u.worker_register.node) +
	    size_vec(f->u.worker_register.activity_types) +
	    size_bytes(f->u.worker_register.identity) + size_vec(f->u.worker_register.census) +
	    (f->u.worker_register.has_capacity ? 4 : 0);
}

static uint64_t
size_payload(const struct frame *f)
{
	switch (f->type) {
	case FRAME_CONNECT:
		return 8 + size_bytes(f->u.connect.token);
	case FRAME_CONNECT_ACK:
		return 4 + 4;
	case FRAME_CONNECT_ERROR:
	case FRAME_SUBSCRIBE_ERROR:
	case FRAME_PUBLISH_ERROR:
		return 2 + size_opt(f->u.error.message);
	case FRAME_DISCONNECT:
	case FRAME_PING:
	case FRAME_PONG:
		return 0;
	case FRAME_SUBSCRIBE:
		return size_subscribe(f);
	case FRAME_SUBSCRIBE_ACK:
		return 8 + FRAME_SCHEMA_ID_SIZE;
	case FRAME_UNSUBSCRIBE:
	case FRAME_PUBLISH_ACK:
		return 8;
	case FRAME_PUBLISH:
		return size_publish(f);
	case FRAME_CONVERSATION_OPEN:
		return 8 + size_bytes(f->u.conversation_open.subject);
	case FRAME_CONVERSATION_MESSAGE:
		return 8 + 4 + size_envelope(&f->u.conversation_message.envelope);
	case FRAME_CONVERSATION_CLOSE:
		return 8 + 1 + (f->u.conversation_close.has_reason ? 2 : 0) +
		    size_opt(f->u.conversation_close.message);
	case FRAME_CONVERSATION_ERROR:
		return 8 + 2 + size_opt(f->u.conversation_error.message);
	case FRAME_ACCEPT:
		return size_bytes(f->u.verdict.message);
	case FRAME_DEFER:
	case FRAME_REJECT:
		return size_bytes(f->u.verdict.message) + size_opt(f->u.verdict.reason);
	case FRAME_PUSH:
	case FRAME_PUSH_REPLY:
		return 8 + size_bytes(f->u.push.payload);
	case FRAME_WORKER_REGISTER:
		return size_worker_register(f);
	case FRAME_WORKER_REGISTER_ACK:
		return 1 + (f->u.worker_register_ack.accepted ? 0 :
		    size_bytes(f->u.worker_register_ack.reason));
	case FRAME_DELIVER:
		return 8 + 4 + size_envelope(&f->u.deliver.envelope);
	default:
		return f->raw.len;
	}
}

static uint8_t *
put_u8(uint8_t *p, uint8_t v)
{
	*p = v;
	return p + 1;
}

static uint8_t *
put_u16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static uint8_t *
put_u32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static uint8_t *
put_u64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
	return p + sizeof(v);
}

static uint8_t *
put_version(uint8_t *p, struct frame_version v)
{
	return put_u16(put_u16(p, v.major), v.minor);
}

static uint8_t *
put_raw(uint8_t *p, struct frame_view v)
{
	/* An empty view may hold NULL, which memcpy() must not see. */
	if (v.len == 0)
		return p;
	memcpy(p, v.data, v.len);
	return p + v.len;
}

static uint8_t *
put_schema_id(uint8_t *p, const uint8_t *id)
{
	if (id == NULL)
		memset(p, 0, FRAME_SCHEMA_ID_SIZE);
	else
		memcpy(p, id, FRAME_SCHEMA_ID_SIZE);
	return p + FRAME_SCHEMA_ID_SIZE;
}

static uint8_t *
put_bytes(uint8_t *p, struct frame_view v)
{
	return put_raw(put_u32(p, (uint32_t)v.len), v);
}

static uint8_t *
put_opt(uint8_t *p, struct frame_opt_view v)
{
	p = put_u8(p, v.present != 0);
	return v.present ? put_bytes(p, v.view) : p;
}

static uint8_t *
put_vec(uint8_t *p, struct frame_vec v)
{
	return put_raw(put_u32(p, v.count), v.encoded);
}

static uint8_t *
put_envelope(uint8_t *p, const struct frame_envelope *e)
{
	p = put_u32(p, (uint32_t)size_envelope(e));
	p = put_schema_id(p, e->schema_id);
	p = put_u32(p, (uint32_t)size_causal(e));
	p = put_opt(p, e->parent_id);
	p = put_u8(p, e->has_vector_clock != 0);
	if (e->has_vector_clock)
		p = put_u64(p, e->vector_clock);
	return put_bytes(p, e->payload);
}

static uint8_t *
put_subscribe(uint8_t *p, const struct frame *f)
{
	p = put_bytes(p, f->u.subscribe.channel);
	p = put_vec(p, f->u.subscribe.accepted);
	p = put_u32(p, f->u.subscribe.max_in_flight);
	if (!f->u.subscribe.durable)
		return p;
	p = put_bytes(p, f->u.subscribe.consumer);
	p = put_u8(p, f->u.subscribe.start);
	return put_u64(p, f->u.subscribe.sequence);
}

static uint8_t *
put_publish(uint8_t *p, const struct frame *f)
{
	p = put_bytes(p, f->u.publish.channel);
	p = put_envelope(p, &f->u.publish.envelope);
	return f->u.publish.key.present ? put_bytes(p, f->u.publish.key.view) : p;
}

static uint8_t *
put_conversation_close(uint8_t *p, const struct frame *f)
{
	p = put_u64(p, f->u.conversation_close.conversation);
	p = put_u8(p, f->u.conversation_close.has_reason != 0);
	if (f->u.conversation_close.has_reason)
		p = put_u16(p, f->u.conversation_close.reason);
	return put_opt(p, f->u.conversation_close.message);
}

static uint8_t *
put_conversation_error(uint8_t *p, const struct frame *f)
{
	p = put_u64(p, f->u.conversation_error.conversation);
	p = put_u16(p, f->u.conversation_error.reason);
	return put_opt(p, f->u.conversation_error.message);
}

static uint8_t *
put_worker_register(uint8_t *p, const struct frame *f)
{
	p = put_vec(p, f->u.worker_register.namespaces);
	p = put_bytes(p, f->u.worker_register.task_queue);
	p = put_opt(p, f->u.worker_register.node);
	p = put_vec(p, f->u.worker_register.activity_types);
	p = put_bytes(p, f->u.worker_register.identity);
	p = put_vec(p, f->u.worker_register.census);
	if (f->u.worker_register.has_capacity)
		p = put_u32(p, f->u.worker_register.max_concurrent);
	return p;
}

static uint8_t *
put_payload(uint8_t *p, const struct frame *f)
{
	switch (f->type) {
	case FRAME_CONNECT:
		p = put_version(put_version(p, f->u.connect.min), f->u.connect.max);
		return put_bytes(p, f->u.connect.token);
	case FRAME_CONNECT_ACK:
		p = put_version(p, f->u.connect_ack.selected);
		return put_u32(p, f->u.connect_ack.capabilities);
	case FRAME_CONNECT_ERROR:
	case FRAME_SUBSCRIBE_ERROR:
	case FRAME_PUBLISH_ERROR:
		return put_opt(put_u16(p, f->u.error.reason), f->u.error.message);
	case FRAME_DISCONNECT:
	case FRAME_PING:
	case FRAME_PONG:
		return p;
	case FRAME_SUBSCRIBE:
		return put_subscribe(p, f);
	case FRAME_SUBSCRIBE_ACK:
		p = put_u64(p, f->u.subscribe_ack.subscription);
		return put_schema_id(p, f->u.subscribe_ack.schema_id);
	case FRAME_UNSUBSCRIBE:
		return put_u64(p, f->u.unsubscribe.subscription);
	case FRAME_PUBLISH:
		return put_publish(p, f);
	case FRAME_PUBLISH_ACK:
		return put_u64(p, f->u.publish_ack.message);
	case FRAME_CONVERSATION_OPEN:
		p = put_u64(p, f->u.conversation_open.conversation);
		return put_bytes(p, f->u.conversation_open.subject);
	case FRAME_CONVERSATION_MESSAGE:
		p = put_u64(p, f->u.conversation_message.conversation);
		return put_envelope(p, &f->u.conversation_message.envelope);
	case FRAME_CONVERSATION_CLOSE:
		return put_conversation_close(p, f);
	case FRAME_CONVERSATION_ERROR:
		return put_conversation_error(p, f);
	case FRAME_ACCEPT:
		return put_bytes(p, f->u.verdict.message);
	case FRAME_DEFER:
	case FRAME_REJECT:
		return put_opt(put_bytes(p, f->u.verdict.message), f->u.verdict.reason);
	case FRAME_PUSH:
	case FRAME_PUSH_REPLY:
		return put_bytes(put_u64(p, f->u.push.correlation), f->u.push.payload);
	case FRAME_WORKER_REGISTER:
		return put_worker_register(p, f);
	case FRAME_WORKER_REGISTER_ACK:
		p = put_u8(p, !f->u.worker_register_ack.accepted);
		return f->u.worker_register_ack.accepted ? p :
		    put_bytes(p, f->u.worker_register_ack.reason);
	case FRAME_DELIVER:
		p = put_u64(p, f->u.deliver.sequence);
		return put_envelope(p, &f->u.deliver.envelope);
	default:
		return put_raw(p, f->raw);
	}
}

/* A flag that says that a field follows cannot disagree with the field. */
static uint8_t
frame_flags(const struct frame *f)
{
	switch (f->type) {
	case FRAME_SUBSCRIBE:
		return f->u.subscribe.durable ? f->flags | FRAME_FLAG_DURABLE : f->flags;
	case FRAME_PUBLISH:
		return f->u.publish.key.present ? f->flags | FRAME_FLAG_IDEMPOTENCY :
		    f->flags & (uint8_t)~FRAME_FLAG_IDEMPOTENCY;
	case FRAME_WORKER_REGISTER:
		return f->u.worker_register.has_capacity ? f->flags | FRAME_FLAG_CAPACITY :
		    f->flags;
	default:
		return f->flags;
	}
}

int
frame_encode(struct buf *out, const struct frame *frame)
{
	uint64_t payload = size_payload(frame);
	uint8_t *start, *p;

	if (payload > UINT32_MAX || payload > SIZE_MAX - FRAME_HEADER_SIZE)
		return ERR_INVALID;
	if ((start = buf_reserve(out, FRAME_HEADER_SIZE + (size_t)payload)) == NULL)
		return ERR_NOMEM;
	p = put_u8(start, frame->type);
	p = put_u8(p, frame_flags(frame));
	p = put_u32(p, frame->stream);
	p = put_u32(p, (uint32_t)payload);
	p = put_payload(p, frame);
	assert((size_t)(p - start) == FRAME_HEADER_SIZE + (size_t)payload);
	buf_commit(out, FRAME_HEADER_SIZE + (size_t)payload);
	return 0;
}

int
frame_encode_string(struct buf *out, const void *text, size_t len)
{
	uint8_t *p;

	if (len > UINT32_MAX)
		return ERR_INVALID;
	if ((p = buf_reserve(out, sizeof(uint32_t) + len)) == NULL)
		return ERR_NOMEM;
	put_bytes(p, (struct frame_view){ text, len });
	buf_commit(out, sizeof(uint32_t) + len);
	return 0;
}
