/*
 * Conversations: what a client opens, and the participant behind each (systems.md F).
 *
 * The participants here are the built-in echo and the named connection; the worker pool is in
 * dispatch.c, the executed program in responder.c. A conversation's row is written when it opens and when its phase
 * changes, with the turn's other intents.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/connection.h"
#include "role/responder.h"
#include "state/connections.h"
#include "state/conversations.h"

#define CONVERSATION_TARGET_PREFIX FRAME_SUBJECT_CONNECTION

static int
conversation_compare(const struct conversation *a, const struct conversation *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE_INTERNAL(conversation_tree, conversation, link, conversation_compare,
    static __attribute__((unused)))

static struct conversation *
conversation_find(struct connection *c, uint64_t id)
{
	struct conversation key = { .id = id };

	return RB_FIND(conversation_tree, &c->conversations, &key);
}

void
conversation_send_error(struct connection *c, uint32_t stream, uint64_t id, uint16_t reason,
    const char *text, size_t len)
{
	struct frame frame = { .type = FRAME_CONVERSATION_ERROR, .stream = stream };

	frame.u.conversation_error.conversation = id;
	frame.u.conversation_error.reason = reason;
	frame.u.conversation_error.message.present = 1;
	frame.u.conversation_error.message.view.data = (const uint8_t *)text;
	frame.u.conversation_error.message.view.len = len;
	connection_send(c, &frame);
}

/* An error that answers a frame at once: behind the answers of what came before. */
static void
conversation_refuse(struct connection *c, uint32_t stream, uint64_t id, uint16_t reason,
    const char *text)
{
	turn_apply(c);
	conversation_send_error(c, stream, id, reason, text, strlen(text));
}

/* What a participant refused, as the wire says it. */
static uint16_t
conversation_reason(const struct err *err)
{
	return err->code == ERR_FULL ? FRAME_REASON_PRESSURE : FRAME_REASON_OTHER;
}

static int
conversation_subject_has_prefix(const struct frame_view *subject, const char *prefix)
{
	size_t len = strlen(prefix);

	return subject->len >= len && memcmp(subject->data, prefix, len) == 0;
}

static const struct participant *
conversation_participant(const struct connection *c, const struct frame_view *subject,
    struct err *err)
{
	if (conversation_subject_has_prefix(subject, POOL_SUBJECT_PREFIX))
		return &participant_pool;
	if (conversation_subject_has_prefix(subject, CONVERSATION_TARGET_PREFIX))
		return &participant_connection;
	if (responder_find(c->conf, subject) != NULL)
		return &participant_responder;
	if (c->conf->fallback == CONF_FALLBACK_ECHO)
		return &participant_echo;
	err_set(err, ERR_NOTFOUND, "no participant answers this subject");
	return NULL;
}

static struct conversation *
conversation_new(const struct frame_view *subject, uint64_t id, uint32_t stream,
    const struct participant *kind)
{
	struct conversation *conversation;

	conversation = calloc(1, sizeof *conversation + subject->len);
	if (conversation == NULL)
		return NULL;
	conversation->id = id;
	conversation->participant = kind;
	conversation->stream = stream;
	conversation->phase = RECORD_CREATED;
	conversation->since_ns = clock_realtime_ns();
	uuid_new(conversation->uuid);
	TAILQ_INIT(&conversation->requests);
	conversation->subject_len = subject->len;
	memcpy(conversation->subject, subject->data, subject->len);
	return conversation;
}

/* Have its row written with this turn. */
void
conversation_put_later(struct connection *c, struct conversation *conversation)
{
	struct intent *intent;

	if (conversation->is_put_queued || conversation->is_closed ||
	    (intent = turn_add(c, INTENT_CONVERSATION_PUT)) == NULL)
		return;
	intent->conversation = conversation;
	conversation->is_put_queued = 1;
	conversation->n_intents++;
}

void
conversation_open_frame(struct connection *c, const struct frame *frame)
{
	const struct frame_view *subject = &frame->u.conversation_open.subject;
	uint64_t id = frame->u.conversation_open.conversation;
	const struct participant *kind;
	struct conversation *conversation;
	struct err err = { 0 };
	char text[128];

	if (conversation_find(c, id) != NULL) {
		conversation_refuse(c, frame->stream, id, FRAME_REASON_OTHER,
		    "conversation id is already open on this connection; close it before "
		    "reopening or use a fresh id");
		return;
	}
	if (c->n_conversations >= c->conf->max_conversations) {
		snprintf(text, sizeof text, "limits conversations_per_connection is %u",
		    c->conf->max_conversations);
		conversation_refuse(c, frame->stream, id, FRAME_REASON_PRESSURE, text);
		return;
	}
	kind = conversation_participant(c, subject, &err);
	if (kind == NULL) {
		conversation_refuse(c, frame->stream, id, FRAME_REASON_OTHER, err.text);
		return;
	}
	conversation = conversation_new(subject, id, frame->stream, kind);
	if (conversation == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a conversation");
		return;
	}
	if (kind->open(c, conversation, &err) != 0) {
		free(conversation);
		conversation_refuse(c, frame->stream, id, conversation_reason(&err), err.text);
		return;
	}
	RB_INSERT(conversation_tree, &c->conversations, conversation);
	c->n_conversations++;
	conversation_put_later(c, conversation);
}

static void
conversation_refuse_crashed(struct connection *c, const struct conversation *conversation,
    uint32_t stream)
{
	char text[96];

	snprintf(text, sizeof text, "conversation participant %ld crashed; message rejected",
	    (long)conversation->target_pid);
	conversation_refuse(c, stream, conversation->id, FRAME_REASON_DISCONNECTED, text);
}

void
conversation_message_frame(struct connection *c, const struct frame *frame)
{
	const struct frame_view *payload = &frame->u.conversation_message.envelope.payload;
	uint64_t id = frame->u.conversation_message.conversation;
	struct conversation *conversation = conversation_find(c, id);
	struct request *request;
	struct err err = { 0 };

	if (conversation == NULL) {
		conversation_refuse(c, frame->stream, id, FRAME_REASON_OTHER,
		    "conversation is not open on this connection");
		return;
	}
	if (conversation->crashed_ns != 0) {
		conversation_refuse_crashed(c, conversation, frame->stream);
		return;
	}
	if (conversation->phase == RECORD_CREATED) {
		conversation->phase = RECORD_ACTIVE;
		conversation_put_later(c, conversation);
	}
	if (!(frame->flags & FRAME_FLAG_REPLY)) {
		if (conversation->participant->tell(c, conversation, payload, &err) != 0)
			conversation_refuse(c, frame->stream, id, conversation_reason(&err),
			    err.text);
		return;
	}
	request = request_new(c, conversation, frame->stream, payload);
	if (request != NULL)
		conversation->participant->ask(c, request);
}

/* Out of the client's sight; its memory goes when no intent names it any more. */
static void
conversation_detach(struct connection *c, struct conversation *conversation)
{
	struct request *request;

	while ((request = TAILQ_FIRST(&conversation->requests)) != NULL)
		request_drop(c, request);
	if (conversation->participant->close != NULL)
		conversation->participant->close(c, conversation);
	RB_REMOVE(conversation_tree, &c->conversations, conversation);
	c->n_conversations--;
	conversation->is_closed = 1;
}

void
conversation_close_frame(struct connection *c, const struct frame *frame)
{
	struct conversation *conversation;
	struct intent *intent;

	conversation = conversation_find(c, frame->u.conversation_close.conversation);
	if (conversation == NULL)
		return;
	conversation->phase = RECORD_CLOSED;
	conversation_detach(c, conversation);
	intent = turn_add(c, INTENT_CONVERSATION_DEL);
	if (intent != NULL) {
		intent->conversation = conversation;
		conversation->n_intents++;
	}
}

int
conversation_apply_put(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	const struct conversation *conversation = intent->conversation;
	struct record_conversation record;

	if (conversation->is_closed)
		return 0;
	if (!conversation->is_stored && state_is_tight(txn))
		return ERR_FULL;
	memset(&record, 0, sizeof record);
	record.subject.data = (const uint8_t *)conversation->subject;
	record.subject.len = conversation->subject_len;
	record.uuid.data = (const uint8_t *)conversation->uuid;
	record.uuid.len = UUID_TEXT_SIZE - 1;
	record.phase = conversation->phase;
	record.participant = conversation->participant->kind;
	record.target = conversation->target;
	record.since_ns = conversation->since_ns;
	return conversations_put(txn, c->peer->conn_id, conversation->id, &record);
}

int
conversation_apply_del(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	return conversations_del(txn, c->peer->conn_id, intent->conversation->id);
}

void
conversation_done(struct connection *c, struct intent *intent)
{
	struct conversation *conversation = intent->conversation;

	if (intent->kind == INTENT_CONVERSATION_PUT) {
		conversation->is_put_queued = 0;
		if (intent->result == 0)
			conversation->is_stored = 1;
		else if (!conversation->is_stored && !conversation->is_closed) {
			/* Never known to anybody else: as if it had not been opened. */
			conversation_send_error(c, conversation->stream, conversation->id,
			    intent->error, intent->text, strlen(intent->text));
			conversation_detach(c, conversation);
		}
	}
	conversation_release(conversation);
}

void
conversation_release(struct conversation *conversation)
{
	conversation->n_intents--;
	if (conversation->is_closed && conversation->n_intents == 0)
		free(conversation);
}

/* The participant has ended: seen once, remembered with its instant. */
void
conversation_crashed(struct connection *c, struct conversation *conversation)
{
	if (conversation->crashed_ns != 0)
		return;
	conversation->crashed_ns = clock_now_ns();
	conversation->phase = RECORD_FAILED;
	conversation_put_later(c, conversation);
}

/* The built-in echo. */

static int
echo_open(struct connection *c, struct conversation *conversation, struct err *err)
{
	(void)c, (void)conversation, (void)err;
	return 0;
}

static void
echo_ask(struct connection *c, struct request *request)
{
	if (request_apply_turn(c, request))
		request_reply(c, request, request->payload, request->len);
}

static int
echo_tell(struct connection *c, struct conversation *conversation,
    const struct frame_view *payload, struct err *err)
{
	(void)c, (void)conversation, (void)payload, (void)err;
	return 0;
}

const struct participant participant_echo = {
	RECORD_ECHO, echo_open, echo_ask, echo_tell, NULL
};

/* One named connection: each message is a push to it. */

static int
direct_open(struct connection *c, struct conversation *conversation, struct err *err)
{
	const size_t prefix = sizeof CONVERSATION_TARGET_PREFIX - 1;
	size_t i, digits = conversation->subject_len - prefix;
	const char *text = conversation->subject + prefix;

	if (c->conf->connection_subjects == CONF_SUBJECTS_OFF)
		return err_set(err, ERR_INVALID,
		    "pushing to a connection is off (conversation connection_subjects)");
	if (c->conf->connection_subjects == CONF_SUBJECTS_LOCAL && !c->peer->is_local)
		return err_set(err, ERR_INVALID, "pushing to a connection is for local clients "
		    "(conversation connection_subjects)");
	for (i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9' || i >= 19)
			return err_set(err, ERR_INVALID,
			    "the subject does not end with a connection's id");
		conversation->target = conversation->target * 10 + (uint64_t)(text[i] - '0');
	}
	if (conversation->target == 0)
		return err_set(err, ERR_INVALID, "the subject does not end with a connection's id");
	return 0;
}

static void
direct_ask(struct connection *c, struct request *request)
{
	request->total_deadline_ns = clock_now_ns() + c->conf->reply_timeout_ns;
	request_set_deadline(c, request);
	request_place_later(c, request, INTENT_DIRECT);
}

static int
direct_tell(struct connection *c, struct conversation *conversation,
    const struct frame_view *payload, struct err *err)
{
	struct request *request;

	(void)err;
	request = request_new(c, conversation, 1, payload);
	if (request == NULL)
		return 0;
	request->is_told = 1;
	request_place_later(c, request, INTENT_DIRECT);
	return 0;
}

const struct participant participant_connection = {
	RECORD_CONNECTION, direct_open, direct_ask, direct_tell, NULL
};

int
conversation_apply_direct(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct request *request = intent->request;
	struct frame_view payload = { request->payload, request->len };
	struct connections_row target;
	struct pushes_row push;
	uint64_t correlation;
	uint32_t owed;
	int rc;

	intent->error = 0;
	rc = connections_get(txn, intent->conversation->target, &target);
	if (rc == ERR_NOTFOUND) {
		intent->error = FRAME_REASON_DISCONNECTED;
		snprintf(intent->text, sizeof intent->text, "connection %llu is not there",
		    (unsigned long long)intent->conversation->target);
		return 0;
	}
	if (rc == 0)
		rc = pushes_count(txn, intent->conversation->target, c->conf->max_pushes, &owed);
	if (rc != 0)
		return rc;
	if (owed >= c->conf->max_pushes || state_is_tight(txn)) {
		intent->error = FRAME_REASON_PRESSURE;
		snprintf(intent->text, sizeof intent->text, owed >= c->conf->max_pushes ?
		    "limits pushes_per_connection is %u" : "the server's state is full",
		    c->conf->max_pushes);
		return 0;
	}
	memset(&push, 0, sizeof push);
	push.kind = PUSHES_DIRECT;
	push.flags = request->is_told ? PUSHES_NO_REPLY : 0;
	push.awaiter = c->peer->conn_id;
	push.awaiter_slot = c->context->slot;
	push.request = request->id;
	push.since_ns = clock_now_ns();
	intent->conn_id = intent->conversation->target;
	intent->pid = target.pid;
	rc = pushes_add(txn, intent->conn_id, target.slot, &push, &payload, &correlation);
	intent->correlation = correlation;
	return rc;
}

/* Its answer is not awaited any more, so its slot must not count against the target. */
void
conversation_cancel_direct(struct connection *c, struct request *request)
{
	struct intent *intent = turn_add(c, INTENT_CANCEL_DIRECT);

	if (intent == NULL)
		return;
	intent->conn_id = request->conversation->target;
	intent->correlation = request->correlation;
	request->correlation = 0;
}

void
conversation_cancel_all_direct(struct connection *c)
{
	struct conversation *conversation;
	struct request *request;

	RB_FOREACH(conversation, conversation_tree, &c->conversations) {
		if (conversation->participant != &participant_connection)
			continue;
		TAILQ_FOREACH(request, &conversation->requests, link)
			if (request->state == REQUEST_PUSHED && request->correlation != 0)
				conversation_cancel_direct(c, request);
	}
}

void
conversation_done_direct(struct connection *c, struct intent *intent)
{
	struct request *request = intent->request;
	struct conversation *conversation = intent->conversation;
	int is_dropped = request_release(c, request);

	if (is_dropped) {
		conversation_release(conversation);
		return;
	}
	if (intent->pid != 0)
		conversation->target_pid = intent->pid;
	if (intent->error == FRAME_REASON_DISCONNECTED)
		conversation_crashed(c, conversation);
	request->state = REQUEST_PUSHED;
	request->correlation = intent->error == 0 && !request->is_told ? intent->correlation : 0;
	if (request->is_told)
		request_drop(c, request);
	else if (intent->error != 0)
		request_fail(c, request, intent->error, intent->text, strlen(intent->text));
	conversation_release(conversation);
}
