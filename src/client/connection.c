/*
 * connection: the life of a connection, from liminal_new() to liminal_free(), and how failures
 * are told to the program.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"

static const struct frame_version client_version = { .major = 1, .minor = 0 };

struct liminal *
liminal_new(void)
{
	struct liminal *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->fd = -1;
	conn->max_frame = LIMINAL_DEFAULT_MAX_FRAME;
	return conn;
}

void
liminal_free(struct liminal *conn)
{
	if (conn == NULL)
		return;
	liminal_close(conn);
	/* The token is a secret: not into the next owner's memory. */
	if (conn->token != NULL)
		explicit_bzero(conn->token, conn->token_len);
	free(conn->token);
	free(conn);
}

/* ---- failures ---- */

/* What a peer says goes to terminals and logs: one line, no escape sequences. */
static void
client_make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = ' ';
}

int
client_fail(struct liminal *conn, int status, const char *fmt, ...)
{
	va_list ap;

	conn->reason = LIMINAL_REASON_NONE;
	va_start(ap, fmt);
	vsnprintf(conn->text, sizeof(conn->text), fmt, ap);
	va_end(ap);
	client_make_plain(conn->text);
	return status;
}

int
client_refused(struct liminal *conn, uint16_t reason, const struct frame_view *text)
{
	size_t len = text == NULL ? 0 : text->len;

	if (len == 0)
		client_fail(conn, LIMINAL_REFUSED, "refused with reason 0x%04x", reason);
	else
		client_fail(conn, LIMINAL_REFUSED, "%.*s",
		    len < sizeof(conn->text) ? (int)len : (int)sizeof(conn->text),
		    (const char *)text->data);
	conn->reason = reason;
	return LIMINAL_REFUSED;
}

int
client_end(struct liminal *conn, int status, const char *fmt, ...)
{
	va_list ap;

	if (conn->ended == 0) {
		va_start(ap, fmt);
		vsnprintf(conn->end_text, sizeof(conn->end_text), fmt, ap);
		va_end(ap);
		conn->ended = status;
	}
	return client_check(conn);
}

int
client_check(struct liminal *conn)
{
	if (conn->fd < 0)
		return client_fail(conn, LIMINAL_DISCONNECTED, "the connection is not open");
	if (conn->ended != 0)
		return client_fail(conn, conn->ended, "%s", conn->end_text);
	return LIMINAL_OK;
}

const char *
liminal_error_text(const struct liminal *conn)
{
	return conn == NULL ? "out of memory" : conn->text;
}

uint16_t
liminal_reason(const struct liminal *conn)
{
	return conn->reason;
}

const char *
liminal_status_text(int status)
{
	switch (status) {
	case LIMINAL_OK:
		return "done";
	case LIMINAL_TIMED_OUT:
		return "timed out";
	case LIMINAL_DISCONNECTED:
		return "disconnected";
	case LIMINAL_REFUSED:
		return "refused";
	case LIMINAL_PROTOCOL:
		return "protocol error";
	case LIMINAL_INVALID:
		return "invalid argument";
	case LIMINAL_BUSY:
		return "buffer full";
	case LIMINAL_INTERRUPTED:
		return "interrupted";
	case LIMINAL_NOMEM:
		return "out of memory";
	case LIMINAL_SYSTEM:
		return "system call failed";
	default:
		return "unknown status";
	}
}

/* ---- settings ---- */

int
liminal_set_token(struct liminal *conn, const void *token, size_t len)
{
	uint8_t *copy = NULL;

	if (token == NULL && len > 0)
		return client_fail(conn, LIMINAL_INVALID, "no token");
	if (len > 0) {
		if ((copy = malloc(len)) == NULL)
			return client_fail(conn, LIMINAL_NOMEM, "out of memory");
		memcpy(copy, token, len);
	}
	if (conn->token != NULL)
		explicit_bzero(conn->token, conn->token_len);
	free(conn->token);
	conn->token = copy;
	conn->token_len = len;
	return LIMINAL_OK;
}

int
liminal_set_max_frame(struct liminal *conn, size_t bytes)
{
	if (bytes < 1 || bytes > UINT32_MAX)
		return client_fail(conn, LIMINAL_INVALID,
		    "a frame's payload has 1 to %lu bytes", (unsigned long)UINT32_MAX);
	conn->max_frame = bytes;
	return LIMINAL_OK;
}

/* ---- opening and closing ---- */

static void
client_reset(struct liminal *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	conn->ended = conn->cannot_write = 0;
	conn->capabilities = 0;
	conn->kernel_timeout_ms = 0;
	conn->held = NULL;
	conn->held_len = conn->need = 0;
	conn->asked = 0;
	conn->pongs_due = conn->registrations_due = 0;
	conn->write_at = CLIENT_WRITE_SIZE;
	buf_free(&conn->in);
	buf_free(&conn->out);
	buf_free(&conn->typed);
	for (size_t i = 0; i < CLIENT_N_LATER; i++)
		buf_free(&conn->later[i]);
	client_table_free(&conn->conversations);
	client_subscriptions_free(conn);
	conn->later_kinds = 0;
	conn->publishes_due = 0;
	conn->awaits_publish = 0;
	conn->shown = 0;
}

static int
client_shake_hands(struct liminal *conn, struct client_wait *wait)
{
	struct frame frame = { .type = FRAME_CONNECT };
	int r;

	frame.u.connect.min = frame.u.connect.max = client_version;
	frame.u.connect.token.data = conn->token;
	frame.u.connect.token.len = conn->token_len;
	if ((r = client_send(conn, &frame)) != LIMINAL_OK)
		return r;
	if ((r = client_next(conn, CLIENT_HANDSHAKE, wait, &frame, NULL)) != LIMINAL_OK)
		return r;
	if (frame.type == FRAME_CONNECT_ERROR)
		return client_refused(conn, frame.u.error.reason,
		    frame.u.error.message.present ? &frame.u.error.message.view : NULL);
	if (frame.u.connect_ack.selected.major != client_version.major ||
	    frame.u.connect_ack.selected.minor != client_version.minor)
		return client_fail(conn, LIMINAL_PROTOCOL,
		    "the server chose version %u.%u, which was not offered",
		    frame.u.connect_ack.selected.major, frame.u.connect_ack.selected.minor);
	conn->capabilities = frame.u.connect_ack.capabilities;
	return LIMINAL_OK;
}

int
liminal_open(struct liminal *conn, const char *address, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	int r;

	if (conn->fd >= 0)
		return client_fail(conn, LIMINAL_INVALID, "the connection is open already");
	if (address == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no address");
	client_reset(conn);
	if ((r = client_connect(conn, address, &wait)) == LIMINAL_OK)
		r = client_shake_hands(conn, &wait);
	if (r != LIMINAL_OK)
		client_reset(conn);
	return r;
}

void
liminal_close(struct liminal *conn)
{
	const struct frame goodbye = { .type = FRAME_DISCONNECT };
	uint8_t rest[4096];

	if (conn->fd >= 0 && conn->ended == 0) {
		client_send_always(conn, &goodbye);
		client_write(conn);
		/* Closing with unread input would reset the connection, and the peer could
		 * lose what was just written. */
		shutdown(conn->fd, SHUT_WR);
		while (recv(conn->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			continue;
	}
	client_reset(conn);
}

int
liminal_is_open(const struct liminal *conn)
{
	return conn->fd >= 0 && conn->ended == 0;
}

uint32_t
liminal_capabilities(const struct liminal *conn)
{
	return conn->capabilities;
}

int
liminal_ping(struct liminal *conn, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct frame frame = { .type = FRAME_PING };
	int r;

	if ((r = client_send(conn, &frame)) != LIMINAL_OK)
		return r;
	conn->pongs_due++;
	return client_next(conn, CLIENT_PONG, &wait, &frame, NULL);
}
