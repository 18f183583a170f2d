/*
 * connection: one client's process, socket <-> frames <-> state. Internal to the role; the
 * entry is connection_main() in role.h.
 *
 * A turn of its loop: read what has arrived, decode all of it, note what it asks of the state
 * as intents, apply the intents in one write transaction, and only then send what they
 * gave. A conversation never waits for another: nothing here blocks but the poll.
 *
 *	connection.c	the loop, the socket, the end
 *	handshake.c	Connect and what is admitted before it
 *	turn.c		intents and their transaction; reading the inbox
 *	conversation.c	conversation frames and the participants behind them
 *	request.c	what waits for an answer; order of answers; deadlines
 *	dispatch.c	the worker pool as a participant: placing, retrying
 *	custom_router.c	(the module's own process) the choice, when a module makes it
 *	history.c	the dispatch record: handing operations over, answers from it
 *	responder.c	an executed program as a participant: messages and answers
 *	responder_life.c  its process: start, standard error, end
 *	worker.c	registration, Push and PushReply
 *	registration.c	what of that waits for the notifier
 *	channel.h	Publish and Subscribe: its files are named there
 *	tap.c		publishes that wait for the notifier
 */
#ifndef LIMINAL_ROLE_CONNECTION_H
#define LIMINAL_ROLE_CONNECTION_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "form/frame.h"
#include "form/record.h"
#include "os/wake.h"
#include "role/role.h"
#include "role/router.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/pushes.h"
#include "state/state.h"
#include "state/workers.h"

struct connection;
struct conversation;
struct responder;
struct request;
struct subscription;
struct consumer;
struct publisher;
struct deliverer;

/* Somebody whom the kernel tells that a descriptor is ready. One that may be freed must live
 * until connection_tick(): events of the same batch may still name it. */
struct watch {
	void	(*ready)(struct connection *c, struct watch *watch, uint32_t events);
};

/* A participant answers a conversation (systems.md F1, F2): one interface, several kinds. */
struct participant {
	enum record_participant kind;
	/* The conversation opens: fill in what the subject says. 0, or with the reason ERR_INVALID,
	 * or ERR_FULL for pressure. */
	int	(*open)(struct connection *c, struct conversation *conversation, struct err *err);
	/* A message that wants an answer; the request is waiting already. */
	void	(*ask)(struct connection *c, struct request *request);
	/* A message that wants none. 0, or as above. */
	int	(*tell)(struct connection *c, struct conversation *conversation,
		    const struct frame_view *payload, struct err *err);
	/* The conversation is over for the client; NULL = nothing is to be done. */
	void	(*close)(struct connection *c, struct conversation *conversation);
};

extern const struct participant participant_pool, participant_connection, participant_echo;
extern const struct participant participant_responder;

TAILQ_HEAD(request_queue, request);
RB_HEAD(conversation_tree, conversation);
RB_HEAD(request_deadlines, request);
RB_HEAD(subscription_tree, subscription);
RB_HEAD(consumer_tree, consumer);
TAILQ_HEAD(consumer_queue, consumer);
TAILQ_HEAD(responder_queue, responder);

struct conversation {
	RB_ENTRY(conversation) link;
	uint64_t id;			/* the client's */
	const struct participant *participant;
	struct request_queue requests;	/* in the order of the messages */
	uint32_t phase;			/* enum record_phase */
	int is_stored;			/* its row is in the state */
	int is_put_queued;		/* an intent to write its row waits */
	int is_closed;			/* freed when its last intent is done */
	unsigned n_intents;
	uint32_t stream;		/* that it was opened on */
	int64_t since_ns;		/* real time */
	int64_t crashed_ns;		/* monotonic; when the participant's end was seen; 0 = not */
	struct pool_name pool;		/* participant_pool */
	uint64_t target;		/* participant_connection: conn id; _responder: pid */
	int32_t target_pid;
	struct responder *responder;	/* participant_responder, while its process is there */
	char uuid[UUID_TEXT_SIZE];
	size_t subject_len;
	char subject[];
};

enum request_state {
	REQUEST_PLACING,	/* an intent will place it */
	REQUEST_ROUTING,	/* the router's module is asked who gets it */
	REQUEST_QUEUED,		/* in the pool's queue, or a worker has it from there */
	REQUEST_PUSHED,		/* somebody has it */
	/* From here on its answer is known, and nothing that comes changes it. */
	REQUEST_RECORDING,	/* its answer waits for the disk */
	REQUEST_DONE,		/* its answer waits for the answers before it */
};

/* What the dispatch record knows of a request (history.c). */
struct request_history {
	int is_recorded;		/* it names its workflow, and there is a record */
	int has_ordinal;
	uint64_t ordinal;
	int is_opened, is_closed;	/* as far as the record is concerned */
	/* The first step, while it is kept back to go together with the last one. */
	int is_kept;
	TAILQ_ENTRY(request) kept_link;
	int64_t kept_until_ns;
	struct record_operation kept[RECORD_OPERATIONS_MAX];
	uint32_t n_kept;
	struct frame_view conversation_id;	/* the request's own, into its text */
	char *worker;			/* the last one selected; owned, NULL = none yet */
};

struct request {
	uint64_t id;			/* my number for it; never used again */
	struct conversation *conversation;	/* NULL once the answer is not wanted any more */
	TAILQ_ENTRY(request) link;
	RB_ENTRY(request) deadline_link;
	int64_t deadline_ns;		/* the next one to pass; INT64_MAX = none */
	int64_t total_deadline_ns;	/* schedule to close, or the reply timeout */
	int64_t attempt_ns;		/* start to close; 0 = none */
	uint32_t stream;
	enum request_state state;
	int is_typed;
	int is_told;			/* no answer is wanted, by its sender's will */
	uint64_t correlation;		/* REQUEST_PUSHED to a connection: of its slot */
	unsigned n_intents;		/* that name it; it is not freed before they are done */
	uint32_t attempts;		/* workers tried */
	uint64_t *excluded;		/* their conn ids */
	struct buf excluded_ids;	/* their worker ids with NULs; for a router's module only */
	char exited[128];		/* the last one and its reason, for the log; "" = told */
	struct pending_key where;	/* where it was queued; arrival also for coming back */
	struct pool_demand demand;	/* views into TEXT */
	struct frame_view workflow_id;
	struct request_history history;
	char *text;			/* owned; type, node, workflow id, conversation id */
	uint16_t error;			/* REQUEST_DONE, _RECORDING: the answer; 0 = a reply */
	struct buf answer;		/* payload or text */
	size_t len;
	uint8_t payload[];
};

enum intent_kind {
	INTENT_CONVERSATION_PUT, INTENT_CONVERSATION_DEL, INTENT_PLACE, INTENT_DIRECT,
	INTENT_CANCEL, INTENT_CANCEL_DIRECT, INTENT_RESOLVE, INTENT_REGISTER, INTENT_READY,
	INTENT_OPERATIONS, INTENT_ASK, INTENT_GIVE_UP, INTENT_DISCARD, INTENT_TAP,
	INTENT_PUBLISH, INTENT_APPEND, INTENT_SUBSCRIBE, INTENT_UNSUBSCRIBE, INTENT_CURSOR
};

/* One thing that this turn asks of the state. Applying may happen more than once (after a
 * full map), so it changes only RESULT and the fields after it. */
struct intent {
	enum intent_kind kind;
	struct conversation *conversation;
	struct request *request;
	struct tapped *tapped;		/* INTENT_TAP */
	struct subscription *subscription;
	uint64_t correlation;		/* INTENT_RESOLVE; INTENT_PLACE: the new push's;
					 * INTENT_OPERATIONS: of which request, by its id;
					 * INTENT_ASK, _GIVE_UP, _DISCARD: the registration's;
					 * INTENT_CURSOR: of which consumer, by its key */
	uint32_t inbox_kind;
	uint16_t code;
	struct frame_view body;		/* into the input, or into OWNED */
	void *owned;			/* freed when done */

	int result;			/* 0 or a code of err.h */
	uint64_t conn_id;		/* INTENT_PLACE: the worker; INTENT_DIRECT: the target */
	int32_t pid;
	int is_queued;			/* INTENT_PLACE: it waits, for room or */
	int is_asked;			/* for the router's module */
	int was_kept;			/* INTENT_OPERATIONS: with the step that was kept back */
	struct pending_key where;
	uint16_t error;			/* the refusal for the peer; 0 = none */
	char text[192];
};

/* What a WorkerRegister asks for. */
enum registration_state {
	REGISTRATION_NEW,
	REGISTRATION_ASKED,	/* the notifier has the question */
	REGISTRATION_ACCEPTED,	/* it said yes */
	REGISTRATION_REJECTED,	/* it, or this daemon, said no; REASON */
};
struct registration {
	TAILQ_ENTRY(registration) link;
	enum registration_state state;
	uint64_t id;			/* in state/registrations.h; 0 = nobody was asked */
	int64_t deadline_ns;		/* REGISTRATION_ASKED */
	struct record_registration record;	/* views into the input, or into BYTES */
	int is_ready;
	struct workers_pools pools;
	char reason[640];
	size_t len;
	uint8_t bytes[];
};
TAILQ_HEAD(registration_queue, registration);
TAILQ_HEAD(tapped_queue, tapped);

/* A typed push that was written: its answer has to be parsed. */
struct worker_job {
	RB_ENTRY(worker_job) link;
	uint64_t correlation;
};
RB_HEAD(worker_jobs, worker_job);

/* The pool that a transaction's requests are placed in; its memory is kept between turns. */
struct dispatch_turn {
	struct pool_snapshot pool;
	int is_loaded;
	struct router_candidates candidates;
};

struct connection {
	const struct role_context *context;
	const struct role_peer *peer;
	const struct conf *conf;
	struct board_slot *mine;
	const struct router *router;

	int epoll_fd;
	struct watch socket_watch, master_watch, wake_watch, tidy_watch;
	uint32_t watched;		/* events of the socket that are asked for */
	struct buf in, out;
	size_t rest;			/* of OUT, at its head: of a Deliver frame that was begun */
	size_t in_need;			/* whole length of the frame at the head of IN; 0 = unknown */
	uint64_t offset;		/* bytes decoded, for the log */
	uint64_t frames_in, frames_out, frames_ignored;	/* not yet on the board */

	int is_connected;		/* Connect was answered with ConnectAck */
	int is_recording;		/* the keeper was asked for a row; frames wait */
	int was_poked;			/* meanwhile */
	int is_recorded;		/* past the handshake: has its row, can be addressed */
	int is_open;			/* the state is open */
	int64_t handshake_deadline_ns;	/* for the handshake, then for the keeper's answer */
	struct wake wake;
	struct state *state;
	struct state *store;		/* to read from; NULL = not needed so far */
	int has_history;		/* the state knows that dispatches of mine are recorded */
	struct request_queue kept;	/* whose first step is kept back; the oldest first */

	uint64_t inbox_seen, pushes_seen;	/* ids */
	uint64_t seen_number;		/* the last transaction that was looked at */
	unsigned inbox_rows;		/* that were read and are to be removed */
	int has_grown;			/* more than a little was read at once: worth trimming */
	int has_much;			/* the last read was filled: the next one takes more */
	int tidy_fd, is_tidy_armed;	/* removes them if nothing else comes first; -1 = no timer yet */

	struct intent *intents;
	size_t n_intents, size_intents;

	struct conversation_tree conversations;
	uint32_t n_conversations;
	struct request **requests;	/* by the low half of their ids */
	uint32_t n_requests, size_requests, next_request;
	uint32_t request_generation;
	size_t request_bytes;		/* payloads kept for answers that are awaited */
	struct request_deadlines deadlines;
	struct dispatch_turn dispatch;

	struct responder_queue responders;	/* alive, also those that no conversation has any more */
	struct responder_queue leaving;	/* of these, those that have a deadline to end; by it */
	struct responder_queue ended;	/* to be freed */
	uint32_t n_responders, n_leaving;
	uint64_t responder_bytes;	/* that wait for them */

	int is_worker;
	char worker_id[WORKERS_ID_SIZE];
	struct workers_pools pools;
	int64_t ready_at_ns;		/* INT64_MAX = nothing to do */
	int is_holding;			/* no Push goes out before READY_AT */
	struct worker_jobs typed_jobs;

	struct subscription_tree subscriptions;
	uint32_t n_subscriptions;
	struct publisher *publisher;	/* NULL = has not published so far */
	struct deliverer *deliverer;	/* NULL = has not subscribed so far */
	uint64_t *route_seen;		/* route.c; by channel */
	uint64_t n_routed;

	struct consumer_tree consumers;	/* consumer.c */
	uint32_t last_consumer;
	struct consumer_queue moved;	/* of these, those of whose cursors the store has to be told */
	int64_t consumer_deadline_ns;	/* INT64_MAX = nothing to do */
	int64_t cursors_held_ns;	/* none is posted before; 0 = they may be */
	size_t cursor_bytes;		/* posted since the store was last seen to have taken all */
	uint64_t cursor_mark;		/* id of the state when they were found to be many; 0 = not */

	struct registration_queue registrations;	/* undecided; the first one is being asked about */
	size_t registration_bytes;
	unsigned n_registrations;
	int is_disowned;		/* the notifier does not know our registration any more */
	struct tapped_queue tapped;	/* publishes, in their order */
	size_t tapped_bytes;
	uint64_t n_tapped;		/* numbers them */

	int is_ending;
	int exit_status;
	int is_disconnect_sent;
	char end_reason[160];		/* for those who wait for this connection, and the log */
};

/* connection.c: begin to end, with what the log and the awaiters get to read. The first call
 * counts. */
void	connection_end(struct connection *c, int exit_status, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* Have WATCH told of EVENTS on FD (epoll_ctl's OP). */
void	connection_watch(struct connection *c, int op, int fd, uint32_t events,
	    struct watch *watch);
/* Append FRAME to the output; memory running out ends the connection. */
void	connection_send(struct connection *c, const struct frame *frame);

/* Have the store open for reading. 0, or an error with its text. */
int	connection_open_store(struct connection *c, struct err *err);

/* handshake.c */
int	handshake_admits(struct connection *c, const struct frame *frame);
void	handshake_connect(struct connection *c, const struct frame *frame);
void	handshake_refuse(struct connection *c, uint16_t reason, const char *text);
void	handshake_open(struct connection *c);
void	handshake_recorded(struct connection *c, int is_answered);

/* turn.c */
struct intent *turn_add(struct connection *c, enum intent_kind kind);
void	turn_apply(struct connection *c);	/* everything noted so far */
int	turn_has_news(struct connection *c);	/* 1: the state has changed since the last look */
void	turn_look(struct connection *c);	/* read inbox and pushes */
void	turn_tidy(struct connection *c);	/* remove what was read from the inbox */

/* conversation.c */
void	conversation_open_frame(struct connection *c, const struct frame *frame);
void	conversation_message_frame(struct connection *c, const struct frame *frame);
void	conversation_close_frame(struct connection *c, const struct frame *frame);
void	conversation_send_error(struct connection *c, uint32_t stream, uint64_t id, uint16_t reason,
	    const char *text, size_t len);
int	conversation_apply_put(struct connection *c, struct state_txn *txn, struct intent *intent);
int	conversation_apply_del(struct connection *c, struct state_txn *txn, struct intent *intent);
void	conversation_done(struct connection *c, struct intent *intent);
int	conversation_apply_direct(struct connection *c, struct state_txn *txn,
	    struct intent *intent);
void	conversation_done_direct(struct connection *c, struct intent *intent);
void	conversation_cancel_direct(struct connection *c, struct request *request);
void	conversation_cancel_all_direct(struct connection *c);	/* the caller ends */
void	conversation_crashed(struct connection *c, struct conversation *conversation);
void	conversation_put_later(struct connection *c, struct conversation *conversation);
/* An intent that names it is done; a closed one is freed with its last intent. */
void	conversation_release(struct conversation *conversation);

/* request.c */
struct request *request_new(struct connection *c, struct conversation *conversation,
	    uint32_t stream, const struct frame_view *payload);
/* Have it given to its participant with this turn: INTENT_PLACE or INTENT_DIRECT. */
void	request_place_later(struct connection *c, struct request *request,
	    enum intent_kind kind);
/* Apply the turn before its answer. 1, or 0: it was dropped meanwhile and is gone. */
int	request_apply_turn(struct connection *c, struct request *request);
struct request *request_find(struct connection *c, uint64_t id);
void	request_set_deadline(struct connection *c, struct request *request);
/* Answer it: in its turn among its conversation's answers. BODY may lie in the map. */
void	request_reply(struct connection *c, struct request *request, const void *body, size_t len);
void	request_fail(struct connection *c, struct request *request, uint16_t reason,
	    const char *text, size_t len);
/* The same when the answer was kept while it was recorded. */
void	request_answer_kept(struct connection *c, struct request *request);
void	request_failf(struct connection *c, struct request *request, uint16_t reason,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Its answer is not wanted any more. */
void	request_drop(struct connection *c, struct request *request);
/* An intent that names it is done; frees it when it was dropped meanwhile (1), else 0. */
int	request_release(struct connection *c, struct request *request);
int64_t	request_next_deadline(struct connection *c);
void	request_expire(struct connection *c, int64_t now_ns);

/* dispatch.c */
#define DISPATCH_NO_WORKERS ROUTER_NO_WORKERS
/* How long the choice of a router's module is waited for beyond the time of one call: others are
 * asked about first, and its process may have to be replaced, which takes the master 5 s when it
 * was stopped. */
#define DISPATCH_ROUTER_PATIENCE_NS (10 * CLOCK_SECOND)
int	dispatch_apply_place(struct connection *c, struct state_txn *txn, struct intent *intent,
	    struct dispatch_turn *turn);
int	dispatch_finish_place(struct state_txn *txn, struct dispatch_turn *turn);
void	dispatch_done_place(struct connection *c, struct intent *intent);
int	dispatch_apply_cancel(struct connection *c, struct state_txn *txn, struct intent *intent);
void	dispatch_cancel_queued(struct connection *c, struct request *request);
void	dispatch_event(struct connection *c, const struct inbox_entry *entry, const void *body);

/* history.c */
/* A typed request that names its workflow. 1: it is to be placed; 0: it has been answered, from the
 * record or with a refusal. */
int	history_admit(struct connection *c, struct request *request);
/* In the placing transaction, behind what it did. */
int	history_apply_placed(struct connection *c, struct state_txn *txn, struct intent *intent);
void	history_placed(struct connection *c, struct request *request, const struct intent *intent);
void	history_started(struct connection *c, struct request *request, const char *worker,
	    size_t len);
void	history_worker_exited(struct connection *c, struct request *request, const char *worker,
	    size_t worker_len, const char *reason, size_t reason_len);
/* Its answer is known. 1: it is kept and waits for the disk; 0: it may leave, or, if it is too
 * large for the record, what it is replaced with. */
int	history_finish(struct connection *c, struct request *request, uint16_t *error,
	    const void **body, size_t *len);
void	history_dropped(struct connection *c, struct request *request);
int	history_apply_operations(struct connection *c, struct state_txn *txn,
	    struct intent *intent);
void	history_operations_refused(struct connection *c, const struct intent *intent);
/* Steps are kept back for so long only. */
int64_t	history_next_deadline(const struct connection *c);
void	history_tick(struct connection *c, int64_t now_ns);
/* The store's word on an answer that waits. */
void	history_recorded(struct connection *c, const struct inbox_entry *entry, const void *body);

/* worker.c */
void	worker_register_frame(struct connection *c, const struct frame *frame);
/* Enter REGISTRATION, which is given away, into the state, and acknowledge. */
void	worker_register(struct connection *c, struct registration *registration);
void	worker_acknowledge(struct connection *c, const char *rejection);
void	worker_forget(struct connection *c);	/* it is no worker any more */
void	worker_reply_frame(struct connection *c, const struct frame *frame);
int	worker_apply_register(struct connection *c, struct state_txn *txn, struct intent *intent);
void	worker_done_register(struct connection *c, struct intent *intent);
int	worker_apply_resolve(struct connection *c, struct state_txn *txn, struct intent *intent,
	    uint32_t *freed);
void	worker_done_resolve(struct connection *c, struct intent *intent);
void	worker_push(struct connection *c, uint64_t correlation, const struct pushes_row *row,
	    const struct frame_view *payload);

/* registration.c */
/* Take a copy of REGISTRATION, whose REASON says if it is to be rejected, for the notifier. */
void	registration_add(struct connection *c, const struct registration *registration);
int	registration_apply_ask(struct connection *c, struct state_txn *txn, struct intent *intent);
void	registration_done_ask(struct connection *c, struct intent *intent);
int	registration_apply_give_up(struct connection *c, struct state_txn *txn,
	    struct intent *intent);
void	registration_done_give_up(struct connection *c, struct intent *intent);
int	registration_apply_discard(struct connection *c, struct state_txn *txn,
	    struct intent *intent);
/* The notifier's answer; inside a transaction. */
void	registration_notified(struct connection *c, const struct inbox_entry *entry,
	    const void *body);
void	registration_continue(struct connection *c);	/* after answers were noted */
int64_t	registration_next_deadline(struct connection *c);
void	registration_expire(struct connection *c, int64_t now_ns);

/* publish.h names the files */
void	channel_publish_frame(struct connection *c, const struct frame *frame);
/* FRAME was not consumed by the notifier: it is noted for this turn, or refused. Its bytes must stay until
 * the turn is applied. Not inside a transaction; every Publish comes here, once, in the order of its connection. */
void	channel_publish(struct connection *c, const struct frame *frame);
void	channel_publish_error(struct connection *c, uint32_t stream, const char *text);
int	publish_apply(struct connection *c, struct state_txn *txn, struct intent *intent);
void	publish_done(struct connection *c, struct intent *intent);
int	publish_apply_append(struct connection *c, struct state_txn *txn, struct intent *intent);
void	publish_done_append(struct connection *c, struct intent *intent);
/* The store's answer; inside a transaction. */
void	publish_appended(struct connection *c, const struct inbox_entry *entry, const void *body);
/* 1: so much waits for the store that nothing more is read from the client. */
int	publish_is_full(const struct connection *c);
/* Give back memory that was not used since the last call; 1: there is some left. */
int	publish_tidy(struct connection *c);

/* subscription.c */
void	channel_subscribe_frame(struct connection *c, const struct frame *frame);
void	channel_unsubscribe_frame(struct connection *c, const struct frame *frame);
int	subscription_apply(struct connection *c, struct state_txn *txn, struct intent *intent);
void	subscription_done(struct connection *c, struct intent *intent);
int	subscription_apply_end(struct connection *c, struct state_txn *txn, struct intent *intent);
void	subscription_done_end(struct connection *c, struct intent *intent);
void	subscription_save_all(struct connection *c);	/* the connection ends */

/* deliver.c */
void	deliver(struct connection *c);		/* what there is, as far as one turn goes */
int	deliver_has_news(struct connection *c);	/* 1: it would do something now */
int	deliver_is_blocked(const struct connection *c);	/* 1: it waits for the socket */
void	deliver_unblock(struct connection *c);
int64_t	deliver_next_deadline(const struct connection *c);
void	deliver_tick(struct connection *c, int64_t now_ns);
/* Give back memory that was not used since the last call; 1: there is some left. */
int	deliver_tidy(struct connection *c);

/* tap.c: a connection's publishes on their way past the notifier */
#define TAP_REQUEST	(UINT64_C(1) << 63)	/* marks their numbers in INBOX_NOTIFIED */
int	tap_is_wanted(struct connection *c);
void	tap_add(struct connection *c, const struct frame *frame);
int	tap_apply(struct connection *c, struct state_txn *txn, struct intent *intent);
void	tap_done(struct connection *c, struct intent *intent);
void	tap_notified(struct connection *c, const struct inbox_entry *entry);
void	tap_continue(struct connection *c);
int64_t	tap_next_deadline(struct connection *c);
void	tap_expire(struct connection *c, int64_t now_ns);

/* What the master may take to replace a notifier that was killed, beyond its timeout: its longest
 * pause is half of this. */
#define NOTIFIER_GRACE_NS	INT64_C(1000000000)

#endif
