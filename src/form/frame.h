/*
 * frame: the codec of the liminal wire protocol 1.0 (README, "The protocol").
 *
 * Decoding makes views into the caller's bytes and allocates nothing, whatever
 * the input claims. A decoded frame is completely checked: counts fit the bytes,
 * strings are UTF-8, nothing is left over, so walking its vectors cannot fail.
 * Encoding appends to a struct buf.
 */
#ifndef LIMINAL_FORM_FRAME_H
#define LIMINAL_FORM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define FRAME_HEADER_SIZE	10
#define FRAME_SCHEMA_ID_SIZE	32
#define FRAME_PUSH_STREAM	1	/* Push is always written on stream 1 */

enum frame_type {
	FRAME_CONNECT = 0x01, FRAME_CONNECT_ACK, FRAME_CONNECT_ERROR, FRAME_DISCONNECT,
	FRAME_SUBSCRIBE, FRAME_SUBSCRIBE_ACK, FRAME_SUBSCRIBE_ERROR, FRAME_UNSUBSCRIBE,
	FRAME_PUBLISH, FRAME_PUBLISH_ACK, FRAME_PUBLISH_ERROR,
	FRAME_CONVERSATION_OPEN, FRAME_CONVERSATION_MESSAGE, FRAME_CONVERSATION_CLOSE,
	FRAME_CONVERSATION_ERROR,
	FRAME_ACCEPT, FRAME_DEFER, FRAME_REJECT, FRAME_PING, FRAME_PONG,
	FRAME_PUSH, FRAME_PUSH_REPLY, FRAME_WORKER_REGISTER, FRAME_WORKER_REGISTER_ACK,
	FRAME_DELIVER,
	FRAME_TYPE_LAST = FRAME_DELIVER,
};

/* Flags; each has meaning on the named frame only. */
#define FRAME_FLAG_REPLY	0x01	/* ConversationMessage: reply requested / is the reply */
#define FRAME_FLAG_DELIVERED	0x01	/* PublishAck */
#define FRAME_FLAG_IDEMPOTENCY	0x02	/* Publish: a key follows */
#define FRAME_FLAG_CAPACITY	0x01	/* WorkerRegister: max_concurrent follows */
#define FRAME_FLAG_DURABLE	0x01	/* Subscribe: a durable consumer follows; Deliver on it */

/* Capabilities in ConnectAck: the extensions that this server understands. */
#define FRAME_CAPABILITY_WORKER_CAPACITY	UINT32_C(0x00010000)
#define FRAME_CAPABILITY_DURABLE_SUBSCRIPTION	UINT32_C(0x00020000)

/* Beginnings of the subjects that the daemon answers itself. */
#define FRAME_SUBJECT_POOL		"aion.dispatch."	/* systems.md D1 */
#define FRAME_SUBJECT_CONNECTION	"liminal.connection."	/* systems.md F2 */

enum frame_reason {
	FRAME_REASON_INCOMPLETE_HEADER = 0x0001,
	FRAME_REASON_TRUNCATED_PAYLOAD = 0x0002,
	FRAME_REASON_UNKNOWN_FRAME = 0x0003,
	FRAME_REASON_INVALID_STREAM = 0x0004,
	FRAME_REASON_INVALID_STATE = 0x0005,
	FRAME_REASON_AUTHENTICATION = 0x0006,
	FRAME_REASON_VERSION = 0x0007,
	FRAME_REASON_SCHEMA = 0x0008,
	FRAME_REASON_CODEC = 0x0009,
	FRAME_REASON_CHANNEL_NOT_CONFIGURED = 0x0101,
	FRAME_REASON_TIMED_OUT = 0x0102,
	FRAME_REASON_DISCONNECTED = 0x0103,
	FRAME_REASON_NO_WORKER = 0x0104,
	FRAME_REASON_PRESSURE = 0x0105,
	FRAME_REASON_SHED = 0x0106,
	FRAME_REASON_ACTIVITY_FAILED = 0x0107,
	FRAME_REASON_OTHER = 0xFFFF,
};

struct frame_version { uint16_t major, minor; };

/* A view of bytes or of UTF-8 text (which may contain NUL). */
struct frame_view { const uint8_t *data; size_t len; };

/* opt(string): PRESENT distinguishes absent from empty. */
struct frame_opt_view { int present; struct frame_view view; };

/* vec(T): COUNT elements in their encoded form. */
struct frame_vec { uint32_t count; struct frame_view encoded; };

struct frame_envelope {
	const uint8_t *schema_id;	/* FRAME_SCHEMA_ID_SIZE bytes; NULL encodes zeroes */
	struct frame_opt_view parent_id;
	int has_vector_clock;
	uint64_t vector_clock;
	struct frame_view payload;
	struct frame_view causal;	/* decode only: the causal context as it came */
};

struct frame {
	uint8_t type;		/* enum frame_type or an unknown type */
	uint8_t flags;		/* as on the wire, unknown bits kept */
	uint32_t stream;
	struct frame_view raw;	/* decode only, and to encode unknown types: the payload */
	union {
		struct { struct frame_version min, max; struct frame_view token; } connect;
		struct { struct frame_version selected; uint32_t capabilities; } connect_ack;
		/* ConnectError, SubscribeError, PublishError */
		struct { uint16_t reason; struct frame_opt_view message; } error;
		struct {
			struct frame_view channel;
			struct frame_vec accepted;	/* of 32-byte schema ids */
			uint32_t max_in_flight;
			int durable;			/* the extension was used */
			struct frame_view consumer;
			uint8_t start;
			uint64_t sequence;
		} subscribe;
		struct { uint64_t subscription; const uint8_t *schema_id; } subscribe_ack;
		struct { uint64_t subscription; } unsubscribe;
		struct {
			struct frame_view channel;
			struct frame_envelope envelope;
			struct frame_opt_view key;	/* present iff the flag is set */
		} publish;
		struct { uint64_t message; } publish_ack;
		struct { uint64_t conversation; struct frame_view subject; } conversation_open;
		struct { uint64_t conversation; struct frame_envelope envelope; } conversation_message;
		struct {
			uint64_t conversation;
			int has_reason;
			uint16_t reason;
			struct frame_opt_view message;
		} conversation_close;
		struct {
			uint64_t conversation;
			uint16_t reason;
			struct frame_opt_view message;
		} conversation_error;
		/* Accept, Defer, Reject; Accept has no reason */
		struct { struct frame_view message; struct frame_opt_view reason; } verdict;
		/* Push and PushReply */
		struct { uint64_t correlation; struct frame_view payload; } push;
		struct {
			struct frame_vec namespaces;	/* of strings */
			struct frame_view task_queue;
			struct frame_opt_view node;
			struct frame_vec activity_types;	/* of strings */
			struct frame_view identity;
			struct frame_vec census;	/* of {name, input schema, output schema} */
			int has_capacity;		/* the extension was used */
			uint32_t max_concurrent;
		} worker_register;
		struct { int accepted; struct frame_view reason; } worker_register_ack;
		struct { uint64_t sequence; struct frame_envelope envelope; } deliver;
	} u;
};

/* Outcome of decoding; the negative ones are also the classes of frame_status_reason(). */
enum frame_status {
	FRAME_OK = 1,
	FRAME_NEED_HEADER = -1,		/* fewer than 10 bytes: not an error yet */
	FRAME_NEED_PAYLOAD = -2,	/* header complete, payload is not: not an error yet */
	FRAME_BAD_STREAM = -3,
	FRAME_BAD_CODEC = -4,
	FRAME_TOO_LARGE = -5,		/* declares more payload than MAX_PAYLOAD */
};

/* What is wrong with the input, for a log line or a peer. */
struct frame_fault {
	size_t offset;		/* from the first byte of the frame */
	const char *text;	/* static */
};

/*
 * Decode the first frame of BYTES. On FRAME_OK, OUT holds views into BYTES and
 * *USED is the frame's whole length. On FRAME_NEED_PAYLOAD, *USED is the length that the whole
 * frame will have. FRAME_TOO_LARGE is judged as soon as the header is there. Order of
 * judgement: header complete, size, payload complete, stream, contents. An unknown type is
 * FRAME_OK on any stream. Never reads beyond BYTES + LEN. FAULT may be NULL.
 */
enum frame_status frame_decode(const uint8_t *bytes, size_t len, size_t max_payload,
    struct frame *out, size_t *used, struct frame_fault *fault);

/* The wire's reason code for a negative status (0x0001, 0x0002, 0x0004, 0x0009). */
uint16_t frame_status_reason(enum frame_status status);

/* Walk a vec(string) of a decoded frame: NEXT starts as vec->encoded; 1 while there was one. */
int	frame_vec_next(struct frame_view *next, struct frame_view *string);

/* Append FRAME to OUT. 0, ERR_NOMEM, or ERR_INVALID when it cannot be expressed (a
 * payload beyond 4 GiB - 1). Nothing is checked that the type system already says; a
 * WorkerRegister is always written with its census. */
int	frame_encode(struct buf *out, const struct frame *frame);

/* Append one string to a buffer in the encoding that vec(string) elements have. */
int	frame_encode_string(struct buf *out, const void *text, size_t len);

/* The protocol's name of a type ("Connect"), or "Unknown". */
const char *frame_type_name(uint8_t type);

/* 1 if the bytes are valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
int	frame_is_utf8(const uint8_t *bytes, size_t len);

/* Pick the highest of SUPPORTED (N of them) within min..max, both inclusive, compared by
 * major then minor. 0 or ERR_NOTFOUND. An inverted range matches nothing. */
int	frame_negotiate(struct frame_version min, struct frame_version max,
	    const struct frame_version *supported, size_t n, struct frame_version *selected);

#endif
