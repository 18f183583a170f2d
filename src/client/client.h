/*
 * client: what the files of libliminal share.
 *
 * connection.c owns the life of a connection, address.c how one is reached, pump.c all reading
 * and writing, sort.c what each frame that arrives is, table.c what is open by its number.
 * caller.c, worker.c, publisher.c and subscriber.c are the sides of the protocol, activity.c what a
 * caller can say in the typed form. Nothing outside of the API is visible to programs.
 *
 * Always true: what was decoded from `in` or `later` and handed out stays there, at its head,
 * until client_release(), which every call that reads makes first.
 */
#ifndef LIMINAL_CLIENT_CLIENT_H
#define LIMINAL_CLIENT_CLIENT_H

#include "base/buf.h"
#include "form/frame.h"
#include "liminal.h"

#define CLIENT_READ_SIZE	((size_t)256 * 1024)	/* asked of the kernel at once */
#define CLIENT_READ_MAX		((size_t)1024 * 1024)	/* the same, within a large frame */
#define CLIENT_WRITE_SIZE	((size_t)64 * 1024)	/* gathered before a write is tried */
#define CLIENT_KEEP_MEMORY	((size_t)1024 * 1024)	/* that an empty buffer may keep */

/* Bounds of what waits in a buffer; one more frame may go past each of them. Output beyond it is
 * LIMINAL_BUSY. */
#define CLIENT_OUTPUT_MAX	((size_t)4 * 1024 * 1024)
#define CLIENT_INPUT_MAX	((size_t)4 * 1024 * 1024)
#define CLIENT_LATER_MAX	((size_t)4 * 1024 * 1024)

#define CLIENT_TEXT_SIZE	256

/* What a frame is to the library; several make a mask. */
enum client_kind {
	CLIENT_IGNORED = 0,		/* dealt with, or nothing for us */
	CLIENT_ANSWER = 1 << 0,		/* of an open conversation, but not the asked one */
	CLIENT_JOB = 1 << 1,
	CLIENT_ACK = 1 << 2,		/* of a publish, good or not, for the program to see */
	CLIENT_MESSAGE = 1 << 3,	/* of a subscription, or its end */
	CLIENT_EVENTS = CLIENT_ANSWER | CLIENT_JOB | CLIENT_ACK | CLIENT_MESSAGE,
	CLIENT_ASKED = 1 << 4,		/* an answer of the conversation that liminal_ask waits for */
	CLIENT_HANDSHAKE = 1 << 5,	/* ConnectAck or ConnectError */
	CLIENT_REGISTERED = 1 << 6,	/* the acknowledgement of the latest registration */
	CLIENT_PONG = 1 << 7,		/* of the latest Ping */
	CLIENT_PUBLISHED = 1 << 8,	/* the outcome of the publish that is waited for */
	CLIENT_SUBSCRIBED = 1 << 9,	/* the outcome of the subscribe that is waited for */
	CLIENT_ACK_UNSEEN = 1 << 10,	/* of a publish, but the program wants errors only */
	CLIENT_BROKEN = 1 << 11,	/* what no server may send */
};

/* What is set aside until it is asked for, by the bits of enum client_kind. */
enum client_queue {
	CLIENT_LATER_ANSWERS, CLIENT_LATER_JOBS, CLIENT_LATER_ACKS, CLIENT_LATER_MESSAGES,
	CLIENT_N_LATER,
};

enum client_subscription_state {
	CLIENT_SUBSCRIBING,		/* liminal_subscribe() waits for the outcome */
	CLIENT_ABANDONED,		/* nobody waits, but the outcome is still to come */
	CLIENT_LIVE,
};

struct client_subscription {
	uint64_t number;		/* what the program knows it by; low 32 bits: the stream */
	uint64_t id;			/* the server's */
	enum client_subscription_state state;
	int durable;
	void *context;			/* the program's */
};

struct client_entry {
	uint64_t id;			/* 0 = the place is free */
	union {
		uint64_t opened_by;	/* conversations: number of the request that opened it */
		struct client_subscription *subscription;	/* owned */
	} u;
};

/* Open addressing, linear probing; at most three quarters full. */
struct client_table {
	struct client_entry *places;	/* SIZE of them, a power of two; NULL if 0 */
	size_t size, n;
};

struct liminal {
	int fd;				/* -1 = not open */
	int ended;			/* 0, or the status that every call gets from now on */
	int cannot_write;		/* the peer reads no more; it may have said why before */
	size_t max_frame;
	uint8_t *token;
	size_t token_len;
	uint32_t capabilities;
	int kernel_timeout_ms;		/* what SO_RCVTIMEO is set to; 0 = none */

	struct buf in, out;
	struct buf typed;		/* a typed request that is being built; else empty */
	size_t write_at;		/* output length at which the next write is tried */
	struct buf later[CLIENT_N_LATER];	/* frames that came while another was awaited */
	int later_kinds;		/* of which there are some; enum client_kind */
	struct buf *held;		/* the buffer whose first frame was handed out, or NULL */
	size_t held_len;
	size_t need;			/* length of the frame at the head of `in`, if known */

	uint64_t last_request;		/* numbers given out; low 32 bits are the stream id */
	uint64_t last_conversation;
	struct client_table conversations;
	uint64_t asked;			/* conversation id, 0 = none */
	unsigned pongs_due, registrations_due;

	uint64_t last_publish;		/* numbers given out; low 31 bits are the stream id */
	uint64_t publishes_due;		/* whose outcome did not come yet */
	uint32_t last_waited;		/* stream of the last liminal_publish_wait() */
	int awaits_publish;		/* it still waits */
	int errors_only;		/* the program wants no acknowledgement that is good */

	uint64_t last_subscription;
	struct client_table subscriptions;	/* by stream */
	struct client_subscription *recent;	/* that of the latest message, or NULL */

	struct liminal_answer answer;	/* what the program is shown */
	struct liminal_job job;
	struct liminal_ack ack;
	struct liminal_message message;
	enum liminal_event shown;	/* by liminal_next(), and still valid; 0 = nothing */

	uint16_t reason;
	char text[CLIENT_TEXT_SIZE];
	char end_text[CLIENT_TEXT_SIZE];
};

/* How long a call may take. It starts to count when it first has to wait. */
struct client_wait {
	int timeout_ms;			/* as the program gave it */
	int interruptible;		/* a signal ends the wait */
	int64_t deadline_ns;		/* 0 = not started; INT64_MAX = never */
};

static inline struct client_wait
client_wait_for(int timeout_ms)
{
	return (struct client_wait){ .timeout_ms = timeout_ms };
}

/* ---- connection.c ---- */

/* Remember what went wrong; returns STATUS. Control characters become spaces. */
int	client_fail(struct liminal *conn, int status, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

/* The server's refusal: LIMINAL_REFUSED with its reason and text. */
int	client_refused(struct liminal *conn, uint16_t reason, const struct frame_view *text);

/* The connection is over: STATUS for this call and every later one. */
int	client_end(struct liminal *conn, int status, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

/* LIMINAL_OK if it is open, else how it ended. */
int	client_check(struct liminal *conn);

/* ---- address.c ---- */

/* Set conn->fd to a connected blocking socket. */
int	client_connect(struct liminal *conn, const char *address, struct client_wait *wait);

/* ---- pump.c ---- */

/* Nanoseconds of the monotonic clock when WAIT is over; starts it. */
int64_t	client_deadline(struct client_wait *wait);

/* Give up what was handed out. */
void	client_release(struct liminal *conn);

/* Append FRAME to the output. LIMINAL_BUSY when it is full, LIMINAL_INVALID when it is larger than
 * allowed, LIMINAL_NOMEM, or the connection's end. */
int	client_send(struct liminal *conn, const struct frame *frame);

/* The same for what must not be lost to a full buffer, because it makes things fewer. */
int	client_send_always(struct liminal *conn, const struct frame *frame);

/* Write what goes without waiting. */
void	client_write(struct liminal *conn);

/* The next frame of one of the WANTED kinds; the others are set aside or dealt with. *KIND (may be
 * NULL) says which. The frame's views are valid until client_release(). */
int	client_next(struct liminal *conn, int wanted, struct client_wait *wait,
	    struct frame *frame, enum client_kind *kind);

/* Set aside what comes until the outcome of every publish has. */
int	client_settle(struct liminal *conn, struct client_wait *wait);

/* ---- sort.c ---- */

/* What FRAME is. CLIENT_BROKEN: *FAULT says in which way. For a frame of CLIENT_EVENTS nothing
 * changes, so it can be asked again. */
enum client_kind client_sort(struct liminal *conn, const struct frame *frame,
	    const char **fault);

/* 1 if a frame of KIND that was set aside still belongs to something that is open. */
int	client_is_current(struct liminal *conn, const struct frame *frame,
	    enum client_kind kind);

/* ---- table.c ---- */

/* 0, or -1 when out of memory. Its id is new. */
int	client_table_add(struct client_table *table, struct client_entry entry);
/* NULL when it is not there. */
const struct client_entry *client_table_find(const struct client_table *table, uint64_t id);
void	client_table_remove(struct client_table *table, uint64_t id);
void	client_table_free(struct client_table *table);

/* ---- caller.c, worker.c, publisher.c, subscriber.c ---- */

/* Number of the request that was sent on STREAM. */
uint64_t client_request_of_stream(const struct liminal *conn, uint32_t stream);

/* Number of the publish that was sent on STREAM, or 0 if none was. */
uint64_t client_publish_of_stream(const struct liminal *conn, uint32_t stream);

/* Streams of liminal_publish_wait() have this bit, so that nothing is kept of one that timed out. */
#define CLIENT_WAITED_STREAM	UINT32_C(0x80000000)

/* The subscription of STREAM, or NULL. */
struct client_subscription *client_subscription_find(struct liminal *conn, uint32_t stream);
void	client_subscription_forget(struct liminal *conn, struct client_subscription *subscription);
void	client_subscriptions_free(struct liminal *conn);
void	client_send_unsubscribe(struct liminal *conn, uint32_t stream, uint64_t id);

/* Fill conn->answer, job, ack, message from a frame of that kind. */
void	client_show_answer(struct liminal *conn, const struct frame *frame);
void	client_show_job(struct liminal *conn, const struct frame *frame);
void	client_show_ack(struct liminal *conn, const struct frame *frame);
void	client_show_message(struct liminal *conn, const struct frame *frame);

#endif
