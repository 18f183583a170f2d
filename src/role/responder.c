/*
 * The executed program as a participant: messages out, answers in.
 *
 * {packet, 4} has no mark for a message that wants no answer, so every message gets exactly one
 * packet back, in order; that of a message without the reply flag is dropped, as is one
 * that comes after its request has timed out. So the count of packets alone says which answer
 * belongs to what, and a packet that nothing was sent for is a fault.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "form/packet.h"
#include "role/responder.h"

/* What one read takes at least. */
#define RESPONDER_READ		(64 * 1024)
/* Reads until a dead one's pipe is empty: more than a pipe may hold (pipe-max-size), so that a
 * grandchild that goes on writing cannot keep us here. */
#define RESPONDER_LAST_READS	32
/* What an idle one's buffers keep. */
#define RESPONDER_KEEP		4096
/* Of a ConversationMessage's payload, what is not the answer: conversation, envelope length, schema
 * id, vector of parents, two absent options, length. */
#define RESPONDER_OVERHEAD	(8 + 4 + FRAME_SCHEMA_ID_SIZE + 4 + 1 + 1 + 4)

const struct conf_responder *
responder_find(const struct conf *conf, const struct frame_view *subject)
{
	const char *configured;
	unsigned i;

	for (i = 0; i < conf->n_responders; i++) {
		configured = conf->responders[i].subject;
		if (strlen(configured) == subject->len &&
		    memcmp(configured, subject->data, subject->len) == 0)
			return &conf->responders[i];
	}
	return NULL;
}

static void
responder_count(struct connection *c, struct responder *responder)
{
	size_t now = buf_len(&responder->to) + buf_len(&responder->expected);

	c->responder_bytes = c->responder_bytes - responder->counted + now;
	responder->counted = now;
}

static void
responder_watch_in(struct connection *c, struct responder *responder, int wanted)
{
	if (wanted == responder->is_in_watched)
		return;
	responder->is_in_watched = wanted;
	connection_watch(c, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, responder->process.in_fd,
	    EPOLLOUT, &responder->in_watch);
}

/* It takes no more: nothing that is sent now will be answered, but what it has already
 * written counts, and its end will tell why. */
static void
responder_lose_in(struct connection *c, struct responder *responder)
{
	responder_watch_in(c, responder, 0);
	responder_close_fd(c, &responder->process.in_fd);
	buf_free(&responder->to);
	responder_let_leave(c, responder);
}

/* Write HEAD and BODY as far as the pipe takes them; how much that was. */
static size_t
responder_write(struct connection *c, struct responder *responder, const struct iovec *parts,
    int n_parts)
{
	ssize_t n;

	do
		n = writev(responder->process.in_fd, parts, n_parts);
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno != EAGAIN)
		responder_lose_in(c, responder);
	return n > 0 ? (size_t)n : 0;
}

/* Straight into the pipe while it has room: the usual case, without a copy. */
static int
responder_write_packet(struct connection *c, struct responder *responder,
    const struct frame_view *payload)
{
	uint8_t header[PACKET_HEADER_SIZE];
	struct iovec parts[2] = { { header, sizeof header }, { NULL, payload->len } };
	size_t done = 0, of_header;
	union { const uint8_t *bytes; void *base; } body = { payload->data };

	packet_put_header(header, (uint32_t)payload->len);
	parts[1].iov_base = body.base;	/* writev only reads it */
	if (buf_len(&responder->to) == 0)
		done = responder_write(c, responder, parts, payload->len > 0 ? 2 : 1);
	if (responder->process.in_fd == -1 || done == sizeof header + payload->len)
		return 0;
	of_header = done < sizeof header ? done : sizeof header;
	done -= of_header;
	if (buf_append(&responder->to, header + of_header, sizeof header - of_header) != 0 ||
	    buf_append(&responder->to, payload->data + done, payload->len - done) != 0)
		return ERR_NOMEM;
	responder_watch_in(c, responder, 1);
	return 0;
}

/* Send PAYLOAD; its answer is that of the request ID (0: it will be dropped). */
static int
responder_send(struct connection *c, struct responder *responder, uint64_t id,
    const struct frame_view *payload, struct err *err)
{
	uint64_t limit = c->conf->outbound_bytes;
	uint64_t left = limit > c->responder_bytes ? limit - c->responder_bytes : 0;

	/* At most as much as is left for all others, so one that does not read never takes it all. */
	if (responder->counted + PACKET_HEADER_SIZE + payload->len + sizeof id > left)
		return err_set(err, ERR_FULL, "limits outbound_bytes (%llu): too much waits for "
		    "a responder that does not answer", (unsigned long long)limit);
	if (buf_append(&responder->expected, &id, sizeof id) != 0 ||
	    (responder->process.in_fd != -1 &&
	     responder_write_packet(c, responder, payload) != 0))
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a responder's message");
	responder_count(c, responder);
	return 0;
}

void
responder_in_ready(struct connection *c, struct watch *watch, uint32_t events)
{
	struct responder *responder = RESPONDER_OF(watch, in_watch);
	struct iovec part = { buf_head(&responder->to), buf_len(&responder->to) };

	(void)events;
	if (responder->process.in_fd == -1 || part.iov_len == 0)
		return;
	buf_consume(&responder->to, responder_write(c, responder, &part, 1));
	if (responder->process.in_fd != -1 && buf_len(&responder->to) == 0) {
		responder_watch_in(c, responder, 0);
		buf_trim(&responder->to, RESPONDER_KEEP);
	}
	responder_count(c, responder);
}

/* Hand every whole answer to whoever it is for. */
static void
responder_take_answers(struct connection *c, struct responder *responder)
{
	uint32_t max = c->conf->max_frame_bytes, length;
	const uint8_t *at;
	struct request *request;
	enum packet_status status;
	uint64_t id;

	max = max > RESPONDER_OVERHEAD ? max - RESPONDER_OVERHEAD : 0;
	while (buf_len(&responder->from) > 0) {
		if (buf_len(&responder->expected) == 0) {
			responder_condemn(c, responder, "it sent a packet that nobody asked for");
			return;
		}
		at = buf_head(&responder->from);
		status = packet_decode(at, buf_len(&responder->from), max, &length);
		if (status == PACKET_NEED)
			return;
		if (status == PACKET_TOO_LARGE) {
			responder_condemn(c, responder, "it announced a packet of %u bytes, more "
			    "than fits into limits max_frame_bytes (%u)", length,
			    c->conf->max_frame_bytes);
			return;
		}
		memcpy(&id, buf_head(&responder->expected), sizeof id);
		buf_consume(&responder->expected, sizeof id);
		responder_count(c, responder);
		request = id != 0 ? request_find(c, id) : NULL;
		if (request != NULL)
			request_reply(c, request, at + PACKET_HEADER_SIZE, length);
		buf_consume(&responder->from, PACKET_HEADER_SIZE + length);
	}
	buf_trim(&responder->from, RESPONDER_KEEP);
	buf_trim(&responder->expected, RESPONDER_KEEP);
}

/* Read once. Room grows with what has really come. What read(2) gave. */
static ssize_t
responder_read(struct connection *c, struct responder *responder)
{
	size_t have = buf_len(&responder->from);
	size_t want = have > RESPONDER_READ ? have : RESPONDER_READ;
	uint8_t *room = buf_reserve(&responder->from, want);
	ssize_t n;

	if (room == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a responder's answer");
		return -1;
	}
	n = read(responder->process.out_fd, room, want);
	if (n > 0) {
		buf_commit(&responder->from, (size_t)n);
		responder_take_answers(c, responder);
	}
	return n;
}

void
responder_out_ready(struct connection *c, struct watch *watch, uint32_t events)
{
	struct responder *responder = RESPONDER_OF(watch, out_watch);

	(void)events;
	if (responder->conversation == NULL || responder->process.out_fd == -1)
		return;
	if (responder_read(c, responder) == 0) {
		/* Most often its end, and then the process's own end follows at once. */
		responder_close_fd(c, &responder->process.out_fd);
		responder->is_out_watched = 0;
		responder_let_leave(c, responder);
	}
	turn_apply(c);
}

void
responder_drain_answers(struct connection *c, struct responder *responder)
{
	int i;

	for (i = 0; i < RESPONDER_LAST_READS; i++)
		if (responder->conversation == NULL || responder->process.out_fd == -1 ||
		    responder_read(c, responder) <= 0)
			return;
}

void
responder_forget(struct connection *c, struct responder *responder)
{
	struct process_program *process = &responder->process;

	if (responder->conversation != NULL)
		responder->conversation->responder = NULL;
	responder->conversation = NULL;
	buf_free(&responder->to);
	buf_free(&responder->from);
	buf_free(&responder->expected);
	responder_count(c, responder);
	if (process->in_fd != -1) {
		responder_watch_in(c, responder, 0);
		responder_close_fd(c, &process->in_fd);
	}
	/* Kept open: what it still writes must not kill it before it has tidied up. */
	if (responder->is_out_watched)
		connection_watch(c, EPOLL_CTL_DEL, process->out_fd, 0, NULL);
	responder->is_out_watched = 0;
}

void
responder_fail(struct connection *c, struct responder *responder, const char *reason)
{
	struct conversation *conversation = responder->conversation;
	struct request *request;

	responder_forget(c, responder);
	conversation_crashed(c, conversation);
	while ((request = TAILQ_FIRST(&conversation->requests)) != NULL)
		request_failf(c, request, FRAME_REASON_DISCONNECTED,
		    "responder %ld ended before it answered: %s",
		    (long)conversation->target_pid, reason);
}

void
responder_condemn(struct connection *c, struct responder *responder, const char *fmt, ...)
{
	static const char prefix[] = "killed because ";
	char reason[200] = "killed because ";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason + sizeof prefix - 1, sizeof reason - sizeof prefix, fmt, ap);
	va_end(ap);
	responder_log_end(c, responder, reason);
	responder_kill(c, responder);
	responder_fail(c, responder, reason);
}

/* The participant. */

static int
responder_open(struct connection *c, struct conversation *conversation, struct err *err)
{
	struct frame_view subject = {
		(const uint8_t *)conversation->subject, conversation->subject_len
	};

	return responder_start(c, conversation, responder_find(c->conf, &subject), err);
}

static void
responder_ask(struct connection *c, struct request *request)
{
	struct frame_view payload = { request->payload, request->len };
	struct responder *responder = request->conversation->responder;
	struct err err = { 0 };
	int rc;

	request->state = REQUEST_PUSHED;
	if (c->request_bytes > c->conf->outbound_bytes)
		rc = err_set(&err, ERR_FULL, "limits outbound_bytes (%llu) of requests wait for "
		    "answers on this connection", (unsigned long long)c->conf->outbound_bytes);
	else
		rc = responder_send(c, responder, request->id, &payload, &err);
	if (rc != 0) {
		if (request_apply_turn(c, request))
			request_fail(c, request, FRAME_REASON_PRESSURE, err.text,
			    strlen(err.text));
		return;
	}
	request->total_deadline_ns = clock_now_ns() + c->conf->reply_timeout_ns;
	request_set_deadline(c, request);
}

static int
responder_tell(struct connection *c, struct conversation *conversation,
    const struct frame_view *payload, struct err *err)
{
	return responder_send(c, conversation->responder, 0, payload, err);
}

static void
responder_close(struct connection *c, struct conversation *conversation)
{
	if (conversation->responder != NULL)
		responder_dismiss(c, conversation->responder);
}

const struct participant participant_responder = {
	RECORD_RESPONDER, responder_open, responder_ask, responder_tell, responder_close
};
