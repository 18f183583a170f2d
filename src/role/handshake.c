/*
 * The handshake: Connect, and what is admitted before it.
 *
 * A connection is recorded after a successful Connect, or, where no token is configured, with the
 * first frame; it opens the state itself only when it needs it. So port scans, health
 * probes and the idle never pay for it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/announce.h"
#include "role/connection.h"

static const struct frame_version handshake_versions[] = { { 1, 0 } };

/* Compare in a time that depends on the lengths only. */
static int
handshake_token_is_right(const struct conf *conf, const struct frame_view *token)
{
	uint8_t difference = token->len != conf->token_len;
	size_t i;

	for (i = 0; i < token->len; i++)
		difference |= (uint8_t)(token->data[i] ^ conf->token[i % conf->token_len]);
	return difference == 0;
}

void
handshake_refuse(struct connection *c, uint16_t reason, const char *text)
{
	struct frame frame = { .type = FRAME_CONNECT_ERROR };

	frame.u.error.reason = reason;
	frame.u.error.message.present = 1;
	frame.u.error.message.view.data = (const uint8_t *)text;
	frame.u.error.message.view.len = strlen(text);
	connection_send(c, &frame);
}

static void
handshake_announce_init(const struct connection *c, struct announce *announce)
{
	memset(announce, 0, sizeof *announce);
	announce->conn_id = c->peer->conn_id;
	announce->slot = c->context->slot;
	announce->is_local = c->peer->is_local != 0;
	snprintf(announce->peer, sizeof announce->peer, "%s", c->peer->address);
}

static void
handshake_state_failed(struct connection *c, int rc, const char *text)
{
	handshake_refuse(c, rc == ERR_FULL ? FRAME_REASON_PRESSURE : FRAME_REASON_OTHER,
	    "the server's state is full or not available");
	connection_end(c, ROLE_EXIT_STATE, "%s", text);
}

/* Make sure of the row: an answer may have been forged, and only the row is the fact. */
static int
handshake_check_row(struct connection *c)
{
	struct announce announce;
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(c->state, &txn)) != 0)
		return rc;
	rc = connections_exists(txn, c->peer->conn_id);
	state_abort(txn);
	if (rc != ERR_NOTFOUND)
		return rc;
	handshake_announce_init(c, &announce);
	if ((rc = state_begin_write(c->state, &txn)) != 0)
		return rc;
	if ((rc = announce_record(txn, c->context->board, &announce)) != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

/* Open the state, for a connection that needs it now. */
void
handshake_open(struct connection *c)
{
	struct err err;
	int rc;

	if (c->is_open || c->is_ending)
		return;
	rc = state_open(&c->state, c->conf->runtime_dir, &c->wake, &err);
	if (rc != 0) {
		handshake_state_failed(c, rc, err.text);
		return;
	}
	c->is_open = 1;
	if ((rc = handshake_check_row(c)) != 0) {
		handshake_state_failed(c, rc, state_error_text(c->state));
		return;
	}
	c->is_recorded = 1;
	c->handshake_deadline_ns = INT64_MAX;
}

/*
 * Get a row, which is what makes the connection known to others. It says that it sleeps before it
 * can be addressed, and goes on saying so until it has opened the state: so whoever puts
 * something into its inbox pokes it, and the poke makes it open.
 */
static void
handshake_record(struct connection *c)
{
	struct announce announce;
	struct err err;

	if (wake_open(&c->wake, c->context->board, c->context->slot, &err) != 0) {
		handshake_state_failed(c, ERR_SYSTEM, err.text);
		return;
	}
	connection_watch(c, EPOLL_CTL_ADD, c->wake.fd, EPOLLIN, &c->wake_watch);
	wake_will_sleep(&c->wake);
	handshake_announce_init(c, &announce);
	if (announce_send(&c->wake, &announce) != 0) {
		handshake_open(c);
		return;
	}
	c->is_recording = 1;
	c->handshake_deadline_ns = clock_now_ns() + ANNOUNCE_PATIENCE_NS;
}

/* The keeper has answered, or did not within its time. What has arrived meanwhile is waiting. */
void
handshake_recorded(struct connection *c, int is_answered)
{
	c->is_recording = 0;
	c->handshake_deadline_ns = INT64_MAX;
	if (is_answered)
		c->is_recorded = 1;
	if (!is_answered || c->was_poked)
		handshake_open(c);
}

/* 1 if FRAME may be handled now; if not, it stays where it is, or the connection ends. Before a successful Connect, where a token is configured, only what
 * needs no trust may. */
int
handshake_admits(struct connection *c, const struct frame *frame)
{
	if (frame->type == FRAME_CONNECT)
		return 1;
	if (c->conf->token == NULL) {
		if (!c->is_recorded)
			handshake_record(c);
		return c->is_recorded;
	}
	if (c->is_connected)
		return 1;
	switch (frame->type) {
	case FRAME_SUBSCRIBE:
	case FRAME_UNSUBSCRIBE:
	case FRAME_PUBLISH:
	case FRAME_CONVERSATION_OPEN:
	case FRAME_CONVERSATION_MESSAGE:
	case FRAME_CONVERSATION_CLOSE:
	case FRAME_ACCEPT:
	case FRAME_DEFER:
	case FRAME_REJECT:
	case FRAME_PUSH_REPLY:
	case FRAME_WORKER_REGISTER:
		connection_end(c, ROLE_EXIT_REFUSED, "%s before the handshake",
		    frame_type_name(frame->type));
		return 0;
	default:
		return 1;
	}
}

void
handshake_connect(struct connection *c, const struct frame *frame)
{
	struct frame ack = { .type = FRAME_CONNECT_ACK };

	turn_apply(c);
	if (c->is_connected) {
		connection_end(c, ROLE_EXIT_PROTOCOL, "a second Connect");
		return;
	}
	if (c->conf->token != NULL && !handshake_token_is_right(c->conf, &frame->u.connect.token)) {
		handshake_refuse(c, FRAME_REASON_AUTHENTICATION, "authentication failed");
		connection_end(c, ROLE_EXIT_REFUSED, "authentication failed");
		return;
	}
	if (frame_negotiate(frame->u.connect.min, frame->u.connect.max, handshake_versions, 1,
	    &ack.u.connect_ack.selected) != 0) {
		handshake_refuse(c, FRAME_REASON_VERSION,
		    "no mutually supported protocol version");
		connection_end(c, ROLE_EXIT_REFUSED,
		    "no mutually supported protocol version: the peer offers %u.%u to %u.%u",
		    frame->u.connect.min.major, frame->u.connect.min.minor,
		    frame->u.connect.max.major, frame->u.connect.max.minor);
		return;
	}
	/* The acknowledgement does not wait for the row, but whatever comes next does. */
	if (!c->is_recorded)
		handshake_record(c);
	if (c->is_ending)
		return;
	c->is_connected = 1;
	ack.u.connect_ack.capabilities = FRAME_CAPABILITY_WORKER_CAPACITY |
	    FRAME_CAPABILITY_DURABLE_SUBSCRIPTION;
	connection_send(c, &ack);
}
