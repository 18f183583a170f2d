/*
 * liminal.h: the client library of the liminal message bus (-lliminal, pkg-config liminal).
 *
 * A connection is a caller (opens conversations, sends requests, takes answers), a worker
 * (registers, takes jobs, replies), a publisher, a subscriber, or any of them at once. See liminal(3).
 *
 * Status. Every function that can fail returns LIMINAL_OK or a negative enum liminal_status;
 * liminal_error_text() then says in a sentence what was wrong.
 *
 * Time. TIMEOUT_MS is in milliseconds; 0 = do not wait, negative = wait for ever.
 *
 * Buffering. Sending functions only append to a buffer, whose content is written when the
 * library would have to wait, when it grows large, and by liminal_flush(). Reading takes as
 * much as is there. So requests, or replies, that are sent in a row share system calls.
 *
 * Views. What liminal_next*(), liminal_ask(), liminal_dispatch() and liminal_publish_wait() hand
 * out lies in the connection's buffer and is valid until the next call on that connection to any function
 * but the sending ones (marked "sends" below) and those that only look.
 *
 * Events. LIMINAL_OK from liminal_next*() may leave more behind in the library, so poll
 * liminal_fd() only after a call with timeout 0 has returned LIMINAL_TIMED_OUT.
 *
 * Threads and processes. No globals, no signals (SIGPIPE is never raised), no threads. One
 * connection is used by one thread at a time, and not across a fork; descriptors are
 * close-on-exec. In the steady state no call allocates.
 */
#ifndef LIMINAL_H
#define LIMINAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LIMINAL_API __attribute__((visibility("default")))
#else
#define LIMINAL_API
#endif

struct liminal;			/* one connection; opaque */

enum liminal_status {
	LIMINAL_OK = 0,
	LIMINAL_TIMED_OUT = -1,		/* the time is over; the connection is as good as before */
	LIMINAL_DISCONNECTED = -2,	/* the connection has ended, or none is open */
	LIMINAL_REFUSED = -3,		/* the server answered with an error: liminal_reason() */
	LIMINAL_PROTOCOL = -4,		/* the server sent what it must not; the connection is over */
	LIMINAL_INVALID = -5,		/* a bad argument, or a call that does not fit the state */
	LIMINAL_BUSY = -6,		/* the output buffer is full: see liminal_flush() */
	LIMINAL_INTERRUPTED = -7,	/* a signal handler ran while liminal_next*() waited */
	LIMINAL_NOMEM = -8,		/* out of memory; nothing was done */
	LIMINAL_SYSTEM = -9		/* a system call failed, as the text says */
};

/* Reasons that a server gives. A newer server may use others. */
enum liminal_reason {
	LIMINAL_REASON_NONE = 0,		/* refused without a code */
	LIMINAL_REASON_INVALID_STATE = 0x0005,
	LIMINAL_REASON_AUTHENTICATION = 0x0006,
	LIMINAL_REASON_VERSION = 0x0007,
	LIMINAL_REASON_SCHEMA = 0x0008,
	LIMINAL_REASON_CODEC = 0x0009,
	LIMINAL_REASON_NOT_CONFIGURED = 0x0101,
	LIMINAL_REASON_TIMED_OUT = 0x0102,	/* no answer within the server's time */
	LIMINAL_REASON_DISCONNECTED = 0x0103,	/* the participant has ended */
	LIMINAL_REASON_NO_WORKER = 0x0104,
	LIMINAL_REASON_PRESSURE = 0x0105,	/* a queue or a limit is full: later, perhaps */
	LIMINAL_REASON_SHED = 0x0106,
	LIMINAL_REASON_ACTIVITY_FAILED = 0x0107,
	LIMINAL_REASON_OTHER = 0xFFFF
};

/* Capabilities of a server. */
#define LIMINAL_CAPABILITY_WORKER_CAPACITY	0x00010000u
#define LIMINAL_CAPABILITY_DURABLE_SUBSCRIPTION	0x00020000u

#define LIMINAL_DEFAULT_MAX_FRAME	(16u * 1024 * 1024)
#define LIMINAL_SCHEMA_ID_SIZE		32

/* ---- a connection ---- */

/* A connection object, not yet open; NULL = out of memory. */
LIMINAL_API struct liminal *liminal_new(void);

/* Close if open, and free; NULL is ignored. */
LIMINAL_API void liminal_free(struct liminal *conn);

/* What liminal_open() authenticates with from now on (copied); LEN 0 = nothing. */
LIMINAL_API int liminal_set_token(struct liminal *conn, const void *token, size_t len);

/* The largest frame payload that is sent or accepted (default 16 MiB); a message's own payload
 * can be a little less. Not beyond the server's limit: it ends connections that exceed it. */
LIMINAL_API int liminal_set_max_frame(struct liminal *conn, size_t bytes);

/*
 * Connect to ADDRESS, "host:port", "[v6]:port" or "unix:/path", and shake hands, all within
 * the timeout (name resolution comes on top). LIMINAL_REFUSED: by the server, with its
 * reason. LIMINAL_DISCONNECTED: nobody listens there, or it hung up.
 */
LIMINAL_API int liminal_open(struct liminal *conn, const char *address, int timeout_ms);

/* Write what is buffered and a Disconnect, as far as that goes at once, and close. The object can
 * be opened again. Call liminal_flush() first where unsent data matters. */
LIMINAL_API void liminal_close(struct liminal *conn);

/* Only look: is it open; what the server can do (0 when not open). */
LIMINAL_API int liminal_is_open(const struct liminal *conn);
LIMINAL_API uint32_t liminal_capabilities(const struct liminal *conn);

/* Only look: the last failure of a call on CONN. The text is never NULL, without newline, and
 * valid until the next call. The reason is an enum liminal_reason, after LIMINAL_REFUSED. */
LIMINAL_API const char *liminal_error_text(const struct liminal *conn);
LIMINAL_API uint16_t liminal_reason(const struct liminal *conn);
LIMINAL_API const char *liminal_status_text(int status);

/* A round trip to the server's process for this connection. */
LIMINAL_API int liminal_ping(struct liminal *conn, int timeout_ms);

/*
 * Write what is buffered. LIMINAL_TIMED_OUT: some of it is left, for later. While it waits it
 * reads ahead, up to a bound; LIMINAL_BUSY: beyond that bound, so the server waits until
 * events are taken.
 */
LIMINAL_API int liminal_flush(struct liminal *conn, int timeout_ms);

/* ---- for event loops ---- */

/* Only look: the descriptor to poll, -1 when not open, and for which of POLLIN and POLLOUT. */
LIMINAL_API int liminal_fd(const struct liminal *conn);
LIMINAL_API short liminal_poll_events(const struct liminal *conn);

/* Read and write what goes without waiting, and answer the server's pings, for a program that cannot
 * take events now. They are kept (up to a bound) for liminal_next*(), which do
 * all of this by themselves. */
LIMINAL_API int liminal_process(struct liminal *conn);

/* ---- caller ---- */

/* An answer to a request, or an error instead of one. A newer library may append fields. */
struct liminal_answer {
	uint64_t conversation;
	uint64_t request;	/* number of the request; 0: the conversation itself was refused */
	int is_error;
	uint16_t reason;	/* of the error, enum liminal_reason */
	const void *payload;	/* or the error's text; not terminated */
	size_t len;
};

/*
 * Open a conversation (sends). Its id goes to *CONVERSATION at once; a server that refuses it
 * says so by an answer whose request number is 0, and answers each request on it with an
 * error. SUBJECT_LEN may be SIZE_MAX for a terminated subject.
 */
LIMINAL_API int liminal_open_conversation(struct liminal *conn, const char *subject,
    size_t subject_len, uint64_t *conversation);

/* The same for the worker pool of NAMESPACE and TASK_QUEUE. */
LIMINAL_API int liminal_open_pool(struct liminal *conn, const char *name_space,
    const char *task_queue, uint64_t *conversation);

/*
 * Send a request that will be answered once (sends); *REQUEST (may be NULL) gets its number,
 * which grows over the whole connection. Answers of one conversation come in request order,
 * those of several in any. Any number may be outstanding; LIMINAL_BUSY: not
 * sent, take answers or flush first.
 */
LIMINAL_API int liminal_send_request(struct liminal *conn, uint64_t conversation,
    const void *payload, size_t len, uint64_t *request);

/* Send a message that nobody answers (sends); if it is refused there is an answer that says so. */
LIMINAL_API int liminal_send_message(struct liminal *conn, uint64_t conversation,
    const void *payload, size_t len, uint64_t *request);

/* Wait for the next answer, of whatever conversation. An error answer is LIMINAL_OK too. */
LIMINAL_API int liminal_next_answer(struct liminal *conn, int timeout_ms,
    const struct liminal_answer **answer);

/* Close (sends). Its outstanding answers are dropped, also those that are under way. */
LIMINAL_API int liminal_close_conversation(struct liminal *conn, uint64_t conversation);

/*
 * One request and its answer, in a conversation of its own. *ANSWER (may be NULL) is set for
 * LIMINAL_OK and for LIMINAL_REFUSED (is_error is 1; also in liminal_reason() and
 * liminal_error_text()). After LIMINAL_TIMED_OUT the late answer is dropped. Jobs and other
 * answers that arrive meanwhile are kept for liminal_next*().
 */
LIMINAL_API int liminal_ask(struct liminal *conn, const char *subject, const void *payload,
    size_t len, int timeout_ms, const struct liminal_answer **answer);
LIMINAL_API int liminal_dispatch(struct liminal *conn, const char *name_space,
    const char *task_queue, const void *payload, size_t len, int timeout_ms,
    const struct liminal_answer **answer);

/*
 * An activity, for requests in the typed form. Zero what is not needed. Text is UTF-8.
 * Only read during the call.
 */
struct liminal_activity {
	const char *activity_type;
	const char *task_queue;			/* that of the conversation's pool */
	const void *input;
	size_t len;
	const char *content_type;		/* of the input; NULL = application/octet-stream */
	const char *workflow_id;		/* NULL = none; with one, the server may record it */
	uint64_t ordinal;			/* up to INT64_MAX; needs a workflow_id */
	int has_ordinal;			/* 0 = ORDINAL does not count */
	int node_required;			/* no worker on another node will do */
	const char *node;			/* the preferred one; NULL = any */
	int64_t schedule_to_close_ms;		/* for the whole; 0 = no limit */
	int64_t start_to_close_ms;		/* for one worker; 0 = no limit */
	void *reserved[4];			/* NULL */
};

/*
 * The same as liminal_send_request() (sends) and liminal_dispatch(), in the typed form. An answer
 * that is no error is the worker's response, a JSON object; see liminal(3). An activity that
 * failed is an error with LIMINAL_REASON_ACTIVITY_FAILED. A request whose workflow id and
 * ordinal were answered before may be answered from the server's record.
 */
LIMINAL_API int liminal_send_activity(struct liminal *conn, uint64_t conversation,
    const struct liminal_activity *activity, uint64_t *request);
LIMINAL_API int liminal_dispatch_activity(struct liminal *conn, const char *name_space,
    const struct liminal_activity *activity, int timeout_ms,
    const struct liminal_answer **answer);

/* ---- worker ---- */

/* What a worker declares. Zero what is not needed. Only read during liminal_register(). */
struct liminal_worker {
	const char *const *namespaces;		/* at least one */
	size_t n_namespaces;
	const char *task_queue;
	const char *node;			/* NULL = none */
	const char *const *activity_types;	/* none = every type */
	size_t n_activity_types;
	const char *identity;			/* NULL = "<host name>:<pid>" */
	uint32_t max_concurrent;		/* jobs at once; 0 = the server's default */
	void *reserved[4];			/* NULL */
};

/* A request of some caller. A newer library may append fields. */
struct liminal_job {
	uint64_t correlation;
	const void *payload;
	size_t len;
};

/*
 * Register, or replace the registration. LIMINAL_REFUSED: rejected, with the server's text; an
 * earlier registration stays. A server without LIMINAL_CAPABILITY_WORKER_CAPACITY ignores
 * max_concurrent.
 */
LIMINAL_API int liminal_register(struct liminal *conn, const struct liminal_worker *worker,
    int timeout_ms);

/* Wait for the next job. Up to max_concurrent are handed out before the first has its reply. */
LIMINAL_API int liminal_next_job(struct liminal *conn, int timeout_ms,
    const struct liminal_job **job);

/* The result of a job (sends), in any order, once each. LIMINAL_BUSY: not sent, flush first. */
LIMINAL_API int liminal_reply(struct liminal *conn, uint64_t correlation, const void *payload,
    size_t len);

/* ---- publisher ---- */

/* A message to publish. Zero what is not needed. Text is UTF-8. Only read during the call. */
struct liminal_publication {
	const char *channel;
	const void *payload;
	size_t len;
	const char *key;	/* idempotency key: published once, however often sent; NULL = none */
	const void *schema_id;	/* LIMINAL_SCHEMA_ID_SIZE bytes; NULL = zeroes */
	const char *parent_id;	/* causal context: id of the message that caused this; NULL = none */
	uint64_t vector_clock;
	int has_vector_clock;	/* 0 = VECTOR_CLOCK does not count */
	void *reserved[4];	/* NULL */
};

/* The outcome of a publish. A newer library may append fields. */
struct liminal_ack {
	uint64_t publish;	/* number of the publish; 0 of liminal_publish_wait() */
	uint64_t message;	/* the message's id; 0 = it was not published */
	int delivered;		/* 1 = a subscription was there to take it; 0 also for a duplicate */
	int is_error;
	uint16_t reason;	/* of the error, enum liminal_reason */
	const char *text;	/* of the error; not terminated */
	size_t len;
};

/*
 * Publish (sends); *PUBLISH (may be NULL) gets the number of the publish, which grows over the
 * whole connection. Any number may be outstanding. Messages of one connection are published in the
 * order of the calls; their outcomes come as events: those of one channel in that order, those
 * of a durable one when they are on disk. A publish that the server's notifier took for itself has no
 * outcome, ever, so wait with a timeout where that can be. LIMINAL_BUSY: not sent, take events or
 * flush first.
 */
LIMINAL_API int liminal_publish(struct liminal *conn, const char *channel, const void *payload,
    size_t len, uint64_t *publish);
LIMINAL_API int liminal_publish_with(struct liminal *conn,
    const struct liminal_publication *publication, uint64_t *publish);

/* Wait for the next outcome, of whatever publish. An error is LIMINAL_OK too. */
LIMINAL_API int liminal_next_ack(struct liminal *conn, int timeout_ms,
    const struct liminal_ack **ack);

/*
 * Publish, and wait for the outcome. *ACK (may be NULL) is set for LIMINAL_OK and for
 * LIMINAL_REFUSED (is_error is 1; also in liminal_reason() and liminal_error_text()). After
 * LIMINAL_TIMED_OUT the late outcome is dropped, and the message may have been published; a key
 * makes it safe to try again. Other events that arrive meanwhile are kept.
 */
LIMINAL_API int liminal_publish_wait(struct liminal *conn,
    const struct liminal_publication *publication, int timeout_ms,
    const struct liminal_ack **ack);

/* Which outcomes become events, from those on that are read from now. A program that only wants
 * to know what failed sets LIMINAL_ACKS_ERRORS, and liminal_await_acks() at the end. */
enum liminal_ack_events { LIMINAL_ACKS_ALL, LIMINAL_ACKS_ERRORS };
LIMINAL_API void liminal_set_ack_events(struct liminal *conn, enum liminal_ack_events which);

/* Only look: how many publishes have no outcome yet, among what was read. */
LIMINAL_API uint64_t liminal_publishes_due(const struct liminal *conn);

/* Write what is buffered and wait until every publish has its outcome. Events that arrive meanwhile are
 * kept, up to a bound (LIMINAL_BUSY); errors are there for liminal_next_ack(). */
LIMINAL_API int liminal_await_acks(struct liminal *conn, int timeout_ms);

/* ---- subscriber ---- */

/* Where a durable subscription begins. */
enum liminal_start {
	LIMINAL_START_RESUME,	/* where the consumer left off; with the next message if it is new */
	LIMINAL_START_OLDEST,	/* with the oldest message that is kept */
	LIMINAL_START_SEQUENCE	/* with the message of this sequence, or the next that is kept */
};

/* What to subscribe to. Zero what is not needed. Text is UTF-8. Only read during the call. */
struct liminal_subscription {
	const char *channel;
	const void *accepted;		/* ids of schemas that the channel may have, each of
					 * LIMINAL_SCHEMA_ID_SIZE bytes, in a row */
	size_t n_accepted;		/* none = any schema */
	uint32_t max_in_flight;		/* of a durable one: at once without a verdict; 0 = 1024 */
	const char *consumer;		/* durable, under this name (1 to 255 bytes); NULL = not */
	enum liminal_start start;
	uint64_t sequence;		/* with LIMINAL_START_SEQUENCE, else 0 */
	void *context;			/* is handed out with each of its messages */
	void *reserved[4];		/* NULL */
};

/* A message of a subscription, or its end. A newer library may append fields. */
struct liminal_message {
	uint64_t subscription;	/* as liminal_subscribe() numbered it */
	void *context;
	uint64_t sequence;	/* from 1 without gaps; of a durable one: that of the channel */
	const void *payload;	/* or the text of why the subscription ended; not terminated */
	size_t len;
	const void *schema_id;	/* that of the channel; NULL at the end */
	const char *parent_id;	/* not terminated; NULL = none */
	size_t parent_id_len;
	uint64_t vector_clock;
	int has_vector_clock;
	int is_error;		/* the subscription has ended, as when it was too slow */
	uint16_t reason;	/* of that, enum liminal_reason */
};

/*
 * Subscribe; *NUMBER is what the subscription is known by here. LIMINAL_REFUSED: as the server
 * says; LIMINAL_REASON_PRESSURE: also, the consumer's name is held by another subscription.
 * LIMINAL_INVALID: also, durable and the server does not know that
 * (LIMINAL_CAPABILITY_DURABLE_SUBSCRIPTION). After LIMINAL_TIMED_OUT it is ended when it comes about.
 */
LIMINAL_API int liminal_subscribe(struct liminal *conn, const struct liminal_subscription *wanted,
    int timeout_ms, uint64_t *number);

/* End it (sends). What is under way of it is dropped. */
LIMINAL_API int liminal_unsubscribe(struct liminal *conn, uint64_t number);

/* Wait for the next message, of whatever subscription; the end of one is LIMINAL_OK too. */
LIMINAL_API int liminal_next_message(struct liminal *conn, int timeout_ms,
    const struct liminal_message **message);

/*
 * What becomes of a message of a durable subscription (sends), one for each, in any order:
 * accepted, it is done with; deferred, it comes again later; rejected, it is given up. The consumer's
 * place is behind the first messages that are all accepted or rejected, and messages
 * without a verdict come again when it subscribes the next time. REASON may be NULL.
 */
LIMINAL_API int liminal_accept(struct liminal *conn, uint64_t number, uint64_t sequence);
LIMINAL_API int liminal_defer(struct liminal *conn, uint64_t number, uint64_t sequence,
    const char *reason);
LIMINAL_API int liminal_reject(struct liminal *conn, uint64_t number, uint64_t sequence,
    const char *reason);

/* The id of a schema, LIMINAL_SCHEMA_ID_SIZE bytes at ID, from the bytes of its file. */
LIMINAL_API void liminal_schema_id(const void *schema, size_t len, void *id);

/* ---- all at once ---- */

enum liminal_event {
	LIMINAL_EVENT_ANSWER = 1, LIMINAL_EVENT_JOB, LIMINAL_EVENT_ACK, LIMINAL_EVENT_MESSAGE
};

/* Whatever comes next. *EVENT gets its kind, a newer server or library may add some; the
 * matching one of *ANSWER and *JOB is set, the other is NULL. */
LIMINAL_API int liminal_next(struct liminal *conn, int timeout_ms, enum liminal_event *event,
    const struct liminal_answer **answer, const struct liminal_job **job);

/* Only look: what the latest liminal_next() told of, if that was an outcome or a message; else
 * NULL. */
LIMINAL_API const struct liminal_ack *liminal_event_ack(const struct liminal *conn);
LIMINAL_API const struct liminal_message *liminal_event_message(const struct liminal *conn);

#ifdef __cplusplus
}
#endif

#endif
