/*
 * caller: conversations, requests and their answers.
 *
 * Each frame that an answer can refer to (open, request, message) gets a number, whose low 32
 * bits are its stream id: the server answers on the same stream, so an answer names its
 * request by itself and nothing is kept per request. 0 is no stream for a conversation, so
 * numbers with these bits are left out.
 */
#include <stdio.h>
#include <string.h>

#include "client/client.h"

#define CALLER_SUBJECT_SIZE	1024

static const char caller_pool_prefix[] = "aion.dispatch.";

uint64_t
client_request_of_stream(const struct liminal *conn, uint32_t stream)
{
	return conn->last_request - (uint32_t)((uint32_t)conn->last_request - stream);
}

static uint64_t
caller_next_request(const struct liminal *conn)
{
	uint64_t number = conn->last_request + 1;

	return (uint32_t)number == 0 ? number + 1 : number;
}

/* Send FRAME as the next request; *REQUEST (may be NULL) gets its number. */
static int
caller_send(struct liminal *conn, struct frame *frame, uint64_t *request)
{
	uint64_t number = caller_next_request(conn);
	int r;

	frame->stream = (uint32_t)number;
	if ((r = client_send(conn, frame)) != LIMINAL_OK)
		return r;
	conn->last_request = number;
	if (request != NULL)
		*request = number;
	return LIMINAL_OK;
}

/* ---- conversations ---- */

int
liminal_open_conversation(struct liminal *conn, const char *subject, size_t subject_len,
    uint64_t *conversation)
{
	struct frame frame = { .type = FRAME_CONVERSATION_OPEN };
	uint64_t id = conn->last_conversation + 1;
	const struct client_entry opened = { .id = id, .u.opened_by = caller_next_request(conn) };
	int r;

	if (subject == NULL || conversation == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no subject");
	if (subject_len == SIZE_MAX)
		subject_len = strlen(subject);
	/* The server would have to end the connection over it. */
	if (!frame_is_utf8((const uint8_t *)subject, subject_len))
		return client_fail(conn, LIMINAL_INVALID, "the subject is not UTF-8");
	frame.u.conversation_open.conversation = id;
	frame.u.conversation_open.subject.data = (const uint8_t *)subject;
	frame.u.conversation_open.subject.len = subject_len;
	if ((r = client_check(conn)) != LIMINAL_OK)
		return r;
	if (client_table_add(&conn->conversations, opened) != 0)
		return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	if ((r = caller_send(conn, &frame, NULL)) != LIMINAL_OK) {
		client_table_remove(&conn->conversations, id);
		return r;
	}
	*conversation = conn->last_conversation = id;
	return LIMINAL_OK;
}

static int
caller_part_is_good(const char *part)
{
	return part != NULL && part[0] != '\0' && strchr(part, '.') == NULL;
}

static int
caller_pool_subject(struct liminal *conn, const char *name_space, const char *task_queue,
    char subject[CALLER_SUBJECT_SIZE])
{
	int len;

	if (!caller_part_is_good(name_space) || !caller_part_is_good(task_queue))
		return client_fail(conn, LIMINAL_INVALID,
		    "a namespace or a task queue is neither empty nor has it a dot");
	len = snprintf(subject, CALLER_SUBJECT_SIZE, "%s%s.%s", caller_pool_prefix, name_space,
	    task_queue);
	if (len < 0 || len >= CALLER_SUBJECT_SIZE)
		return client_fail(conn, LIMINAL_INVALID,
		    "the name of namespace and task queue is too long");
	return LIMINAL_OK;
}

int
liminal_open_pool(struct liminal *conn, const char *name_space, const char *task_queue,
    uint64_t *conversation)
{
	char subject[CALLER_SUBJECT_SIZE];
	int r;

	if ((r = caller_pool_subject(conn, name_space, task_queue, subject)) != LIMINAL_OK)
		return r;
	return liminal_open_conversation(conn, subject, SIZE_MAX, conversation);
}

int
liminal_close_conversation(struct liminal *conn, uint64_t conversation)
{
	struct frame frame = { .type = FRAME_CONVERSATION_CLOSE };
	const struct client_entry *known;
	int r;

	known = client_table_find(&conn->conversations, conversation);
	if (known == NULL)
		return client_fail(conn, LIMINAL_INVALID, "the conversation is not open");
	frame.stream = (uint32_t)known->u.opened_by;
	frame.u.conversation_close.conversation = conversation;
	if ((r = client_send_always(conn, &frame)) == LIMINAL_OK)
		client_table_remove(&conn->conversations, conversation);
	return r;
}

/* ---- requests and answers ---- */

static int
caller_send_message(struct liminal *conn, uint64_t conversation, uint8_t flags,
    const void *payload, size_t len, uint64_t *request)
{
	struct frame frame = { .type = FRAME_CONVERSATION_MESSAGE, .flags = flags };

	if (payload == NULL && len > 0)
		return client_fail(conn, LIMINAL_INVALID, "no payload");
	if (client_table_find(&conn->conversations, conversation) == NULL &&
	    liminal_is_open(conn))
		return client_fail(conn, LIMINAL_INVALID, "the conversation is not open");
	frame.u.conversation_message.conversation = conversation;
	frame.u.conversation_message.envelope.payload.data = payload;
	frame.u.conversation_message.envelope.payload.len = len;
	return caller_send(conn, &frame, request);
}

int
liminal_send_request(struct liminal *conn, uint64_t conversation, const void *payload, size_t len,
    uint64_t *request)
{
	return caller_send_message(conn, conversation, FRAME_FLAG_REPLY, payload, len, request);
}

int
liminal_send_message(struct liminal *conn, uint64_t conversation, const void *payload, size_t len,
    uint64_t *request)
{
	return caller_send_message(conn, conversation, 0, payload, len, request);
}

static void
caller_show_error(struct liminal *conn, const struct frame *frame)
{
	const struct client_entry *known;
	struct liminal_answer *answer = &conn->answer;

	answer->conversation = frame->u.conversation_error.conversation;
	answer->request = client_request_of_stream(conn, frame->stream);
	known = client_table_find(&conn->conversations, answer->conversation);
	if (known != NULL && known->u.opened_by == answer->request)
		answer->request = 0;
	answer->is_error = 1;
	answer->reason = frame->u.conversation_error.reason;
	answer->payload = "";
	answer->len = 0;
	if (frame->u.conversation_error.message.present) {
		answer->payload = frame->u.conversation_error.message.view.data;
		answer->len = frame->u.conversation_error.message.view.len;
	}
}

void
client_show_answer(struct liminal *conn, const struct frame *frame)
{
	struct liminal_answer *answer = &conn->answer;

	if (frame->type == FRAME_CONVERSATION_ERROR) {
		caller_show_error(conn, frame);
		return;
	}
	answer->conversation = frame->u.conversation_message.conversation;
	answer->request = client_request_of_stream(conn, frame->stream);
	answer->is_error = 0;
	answer->reason = LIMINAL_REASON_NONE;
	answer->payload = frame->u.conversation_message.envelope.payload.data;
	answer->len = frame->u.conversation_message.envelope.payload.len;
}

int
liminal_next_answer(struct liminal *conn, int timeout_ms, const struct liminal_answer **answer)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct frame frame;
	int r;

	wait.interruptible = 1;
	if ((r = client_next(conn, CLIENT_ANSWER, &wait, &frame, NULL)) != LIMINAL_OK)
		return r;
	client_show_answer(conn, &frame);
	*answer = &conn->answer;
	return LIMINAL_OK;
}

/* ---- one request and its answer ---- */

static int
caller_await(struct liminal *conn, uint64_t conversation, const void *payload, size_t len,
    struct client_wait *wait)
{
	struct frame frame;
	struct frame_view text;
	int r;

	r = liminal_send_request(conn, conversation, payload, len, NULL);
	if (r != LIMINAL_OK)
		return r;
	conn->asked = conversation;
	r = client_next(conn, CLIENT_ASKED, wait, &frame, NULL);
	conn->asked = 0;
	if (r != LIMINAL_OK)
		return r;
	client_show_answer(conn, &frame);
	if (!conn->answer.is_error)
		return LIMINAL_OK;
	text.data = conn->answer.payload;
	text.len = conn->answer.len;
	return client_refused(conn, conn->answer.reason, &text);
}

int
liminal_ask(struct liminal *conn, const char *subject, const void *payload, size_t len,
    int timeout_ms, const struct liminal_answer **answer)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	char text[CLIENT_TEXT_SIZE];
	uint64_t conversation;
	uint16_t reason;
	int r;

	if (answer != NULL)
		*answer = NULL;
	if ((r = liminal_open_conversation(conn, subject, SIZE_MAX, &conversation)) != LIMINAL_OK)
		return r;
	r = caller_await(conn, conversation, payload, len, &wait);
	/* Closing appends to the output only: the answer stays where it is. Its own failure, if
	 * the connection has just ended, says nothing new. */
	reason = conn->reason;
	memcpy(text, conn->text, sizeof(text));
	if (liminal_close_conversation(conn, conversation) == LIMINAL_OK)
		client_write(conn);
	else
		client_table_remove(&conn->conversations, conversation);
	memcpy(conn->text, text, sizeof(text));
	conn->reason = reason;
	if (answer != NULL && (r == LIMINAL_OK || r == LIMINAL_REFUSED))
		*answer = &conn->answer;
	return r;
}

int
liminal_dispatch(struct liminal *conn, const char *name_space, const char *task_queue,
    const void *payload, size_t len, int timeout_ms, const struct liminal_answer **answer)
{
	char subject[CALLER_SUBJECT_SIZE];
	int r;

	if (answer != NULL)
		*answer = NULL;
	if ((r = caller_pool_subject(conn, name_space, task_queue, subject)) != LIMINAL_OK)
		return r;
	return liminal_ask(conn, subject, payload, len, timeout_ms, answer);
}
