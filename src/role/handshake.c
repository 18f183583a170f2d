/*
 * The handshake: Connect, and what is admitted before it.
 *
 * The state is opened here, not earlier, so that port scans and health probes never pay for it:
 * after a successful Connect, or, where no token is configured, with the first frame.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/connection.h"
#include "state/connections.h"

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

/* Record the connection: from its commit on it can be addressed. */
static int
handshake_record(struct connection *c)
{
	struct connections_row row;
	struct state_txn *txn;
	int rc;

	memset(&row, 0, sizeof row);
	row.version = CONNECTIONS_VERSION;
	row.is_local = c->peer->is_local != 0;
	row.slot = c->context->slot;
	row.pid = atomic_load(&c->mine->pid);
	row.since_ns = atomic_load(&c->mine->since_ns);
	snprintf(row.peer, sizeof row.peer, "%s", c->peer->address);
	if ((rc = state_begin_write(c->state, &txn)) != 0)
		return rc;
	if ((rc = connections_put(txn, c->peer->conn_id, &row)) != 0) {
		state_abort(txn);
		return rc;
	}
	c->inbox_seen = c->pushes_seen = state_snapshot_id(txn);
	c->seen_number = state_txn_number(txn);
	return state_commit(txn);
}

void
handshake_open(struct connection *c)
{
	struct err err;
	int rc;

	if (c->is_open)
		return;
	rc = wake_open(&c->wake, c->context->board, c->context->slot, &err);
	if (rc == 0) {
		rc = state_open(&c->state, c->conf->runtime_dir, &c->wake, &err);
		if (rc != 0)
			wake_close(&c->wake);
	}
	if (rc != 0) {
		handshake_refuse(c, FRAME_REASON_OTHER, "the server's state is not available");
		connection_end(c, ROLE_EXIT_STATE, "%s", err.text);
		return;
	}
	if ((rc = handshake_record(c)) != 0) {
		handshake_refuse(c, rc == ERR_FULL ? FRAME_REASON_PRESSURE : FRAME_REASON_OTHER,
		    "the server's state is full or not available");
		connection_end(c, ROLE_EXIT_STATE, "cannot record the connection: %s",
		    state_error_text(c->state));
		state_close(c->state);
		wake_close(&c->wake);
		return;
	}
	c->is_open = 1;
}

/* 1 if FRAME may be handled. Before a successful Connect, where a token is configured, only what
 * needs no trust may. */
int
handshake_admits(struct connection *c, const struct frame *frame)
{
	if (frame->type == FRAME_CONNECT)
		return 1;
	if (c->conf->token == NULL) {
		handshake_open(c);
		return !c->is_ending;
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
	handshake_open(c);
	if (c->is_ending)
		return;
	c->is_connected = 1;
	ack.u.connect_ack.capabilities = FRAME_CAPABILITY_WORKER_CAPACITY |
	    FRAME_CAPABILITY_DURABLE_SUBSCRIPTION;
	connection_send(c, &ack);
}
