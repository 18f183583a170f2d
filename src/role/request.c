/*
 * Requests: messages whose answer somebody waits for.
 *
 * Each has a number that goes with it through the state and is never used again, so that a
 * late event for one that is gone finds nothing. Answers leave in the order of the messages of their
 * conversation; one that is early waits here, in its request.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/connection.h"

static int
request_compare(const struct request *a, const struct request *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE_INTERNAL(request_deadlines, request, deadline_link, request_compare,
    static __attribute__((unused)))

/* A free place in the table; ids carry it in their low half. */
static int
request_place(struct connection *c, uint32_t *place)
{
	struct request **more;
	uint32_t size;

	if (c->n_requests == c->size_requests) {
		size = c->size_requests ? c->size_requests * 2 : 16;
		more = realloc(c->requests, size * sizeof *more);
		if (more == NULL)
			return ERR_NOMEM;
		memset(more + c->size_requests, 0, (size - c->size_requests) * sizeof *more);
		c->requests = more;
		c->next_request = c->size_requests;
		c->size_requests = size;
	}
	while (c->requests[c->next_request % c->size_requests] != NULL)
		c->next_request++;
	*place = c->next_request++ % c->size_requests;
	return 0;
}

struct request *
request_new(struct connection *c, struct conversation *conversation, uint32_t stream,
    const struct frame_view *payload)
{
	struct request *request;
	uint32_t place;

	request = malloc(sizeof *request + payload->len);
	if (request == NULL || request_place(c, &place) != 0) {
		free(request);
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a request");
		return NULL;
	}
	memset(request, 0, sizeof *request);
	request->id = (uint64_t)++c->request_generation << 32 | place;
	request->conversation = conversation;
	request->stream = stream;
	request->deadline_ns = request->total_deadline_ns = INT64_MAX;
	request->len = payload->len;
	if (payload->len > 0)
		memcpy(request->payload, payload->data, payload->len);
	c->requests[place] = request;
	c->n_requests++;
	c->request_bytes += request->len;
	TAILQ_INSERT_TAIL(&conversation->requests, request, link);
	return request;
}

void
request_place_later(struct connection *c, struct request *request, enum intent_kind kind)
{
	struct intent *intent = turn_add(c, kind);

	if (intent == NULL)
		return;
	intent->request = request;
	request->n_intents++;
	intent->conversation = request->conversation;
	intent->conversation->n_intents++;
	request->state = REQUEST_PLACING;
}

int
request_apply_turn(struct connection *c, struct request *request)
{
	/* Applying may refuse the conversation, and drop this request with it. */
	request->n_intents++;
	turn_apply(c);
	return !request_release(c, request);
}

struct request *
request_find(struct connection *c, uint64_t id)
{
	uint32_t place = (uint32_t)id;

	if (place >= c->size_requests || c->requests[place] == NULL ||
	    c->requests[place]->id != id)
		return NULL;
	return c->requests[place];
}

static void
request_free(struct request *request)
{
	free(request->excluded);
	buf_free(&request->excluded_ids);
	free(request->history.worker);
	free(request->text);
	buf_free(&request->answer);
	free(request);
}

static void
request_unset_deadline(struct connection *c, struct request *request)
{
	if (request->deadline_ns != INT64_MAX)
		RB_REMOVE(request_deadlines, &c->deadlines, request);
	request->deadline_ns = INT64_MAX;
}

static int64_t
request_routing_deadline(const struct connection *c, int64_t total_ns)
{
	int64_t own_ns = clock_now_ns() + c->conf->router_timeout_ns + DISPATCH_ROUTER_PATIENCE_NS;

	return own_ns < total_ns ? own_ns : total_ns;
}

void
request_set_deadline(struct connection *c, struct request *request)
{
	int64_t deadline = request->total_deadline_ns;

	request_unset_deadline(c, request);
	if (request->attempt_ns > 0 && request->state == REQUEST_PUSHED &&
	    clock_now_ns() + request->attempt_ns < deadline)
		deadline = clock_now_ns() + request->attempt_ns;
	if (request->state == REQUEST_ROUTING)
		deadline = request_routing_deadline(c, deadline);
	request->deadline_ns = deadline;
	if (deadline != INT64_MAX)
		RB_INSERT(request_deadlines, &c->deadlines, request);
}

/* Out of everything; the memory stays while an intent names it. */
static void
request_forget(struct connection *c, struct request *request)
{
	request_unset_deadline(c, request);
	if (request->conversation != NULL)
		TAILQ_REMOVE(&request->conversation->requests, request, link);
	request->conversation = NULL;
	c->requests[(uint32_t)request->id] = NULL;
	c->n_requests--;
	c->request_bytes -= request->len;
	if (request->n_intents == 0)
		request_free(request);
}

/* Nobody waits for it any more: take back what can be taken back. A worker's job cannot. */
static void
request_take_back(struct connection *c, struct request *request)
{
	if (request->state == REQUEST_QUEUED || request->state == REQUEST_ROUTING)
		dispatch_cancel_queued(c, request);
	else if (request->state == REQUEST_PUSHED && request->correlation != 0 &&
	    request->conversation->participant == &participant_connection)
		conversation_cancel_direct(c, request);
}

void
request_drop(struct connection *c, struct request *request)
{
	request_take_back(c, request);
	history_dropped(c, request);
	request_forget(c, request);
}

int
request_release(struct connection *c, struct request *request)
{
	(void)c;
	request->n_intents--;
	if (request->conversation != NULL)
		return 0;
	if (request->n_intents == 0)
		request_free(request);
	return 1;
}

static void
request_send_reply(struct connection *c, const struct request *request, const void *body,
    size_t len)
{
	struct frame frame = {
		.type = FRAME_CONVERSATION_MESSAGE, .flags = FRAME_FLAG_REPLY,
		.stream = request->stream
	};

	frame.u.conversation_message.conversation = request->conversation->id;
	frame.u.conversation_message.envelope.payload.data = body;
	frame.u.conversation_message.envelope.payload.len = len;
	connection_send(c, &frame);
}

/* Send the answers that waited for the one that has just been sent. */
static void
request_send_waiting(struct connection *c, struct conversation *conversation)
{
	struct request *request;

	while ((request = TAILQ_FIRST(&conversation->requests)) != NULL &&
	    request->state == REQUEST_DONE) {
		if (request->error == 0)
			request_send_reply(c, request, buf_head(&request->answer),
			    buf_len(&request->answer));
		else
			conversation_send_error(c, request->stream, conversation->id,
			    request->error, (const char *)buf_head(&request->answer),
			    buf_len(&request->answer));
		request_forget(c, request);
	}
}

static void
request_keep_answer(struct connection *c, struct request *request, enum request_state state,
    uint16_t error, const void *body, size_t len)
{
	request->state = state;
	request->error = error;
	if (buf_append(&request->answer, body, len) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
}

static void
request_answer(struct connection *c, struct request *request, uint16_t error, const void *body,
    size_t len)
{
	struct conversation *conversation = request->conversation;

	if (history_finish(c, request, &error, &body, &len)) {
		request_unset_deadline(c, request);
		request_keep_answer(c, request, REQUEST_RECORDING, error, body, len);
		return;
	}
	if (conversation->participant == &participant_pool)
		board_count(c->mine, error == 0 ? BOARD_COMPLETED : BOARD_FAILED, 1);
	request_unset_deadline(c, request);
	if (request == TAILQ_FIRST(&conversation->requests)) {
		if (error == 0)
			request_send_reply(c, request, body, len);
		else
			conversation_send_error(c, request->stream, conversation->id, error, body,
			    len);
		request_forget(c, request);
		request_send_waiting(c, conversation);
		return;
	}
	request_keep_answer(c, request, REQUEST_DONE, error, body, len);
}

void
request_answer_kept(struct connection *c, struct request *request)
{
	struct buf answer = request->answer;

	memset(&request->answer, 0, sizeof request->answer);
	request_answer(c, request, request->error, buf_head(&answer), buf_len(&answer));
	buf_free(&answer);
}

void
request_reply(struct connection *c, struct request *request, const void *body, size_t len)
{
	request_answer(c, request, 0, body, len);
}

void
request_fail(struct connection *c, struct request *request, uint16_t reason, const char *text,
    size_t len)
{
	request_answer(c, request, reason, text, len);
}

void
request_failf(struct connection *c, struct request *request, uint16_t reason, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	request_fail(c, request, reason, text, strlen(text));
}

int64_t
request_next_deadline(struct connection *c)
{
	struct request *first = RB_MIN(request_deadlines, &c->deadlines);

	return first != NULL ? first->deadline_ns : INT64_MAX;
}

/* Timed out: answered now; whoever has it goes on, and its late answer finds nobody. */
void
request_expire(struct connection *c, int64_t now_ns)
{
	struct request *request;
	uint16_t reason;
	const char *text;

	while ((request = RB_MIN(request_deadlines, &c->deadlines)) != NULL &&
	    request->deadline_ns <= now_ns) {
		reason = FRAME_REASON_TIMED_OUT;
		text = "timed out: no answer within the reply timeout";
		if (request->state == REQUEST_ROUTING &&
		    request->deadline_ns < request->total_deadline_ns) {
			reason = FRAME_REASON_OTHER;
			text = "dispatch router: its module has not selected a worker in time";
		} else if (request->conversation->participant == &participant_pool)
			text = request->deadline_ns >= request->total_deadline_ns ?
			    "timed out: schedule_to_close_timeout passed" :
			    "timed out: start_to_close_timeout passed";
		request_take_back(c, request);
		request_fail(c, request, reason, text, strlen(text));
	}
}
