/*
 * pump: all reading and writing of a connection, and the way of what arrives to who wants it.
 *
 * The socket is a blocking one. Writes never block (MSG_DONTWAIT); a read blocks only when
 * there is no output left to write and nothing else to wait for, because one recv(2) is cheaper
 * than a poll(2) and a recv(2). What ended the connection is remembered, but frames that
 * arrived completely before it are still handed out.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/client.h"

int64_t
client_deadline(struct client_wait *wait)
{
	if (wait->deadline_ns == 0)
		wait->deadline_ns = wait->timeout_ms < 0 ? INT64_MAX :
		    clock_now_ns() + wait->timeout_ms * CLOCK_MS;
	return wait->deadline_ns;
}

/* ---- writing ---- */

void
client_write(struct liminal *conn)
{
	ssize_t n;

	while (buf_len(&conn->out) > 0) {
		n = send(conn->fd, buf_head(&conn->out), buf_len(&conn->out),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			buf_consume(&conn->out, (size_t)n);
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
			conn->write_at = buf_len(&conn->out) + CLIENT_WRITE_SIZE;
			return;
		} else {
			/* The peer's last words may still be there to be read: only
			 * reading ends the connection. */
			conn->cannot_write = 1;
			buf_consume(&conn->out, buf_len(&conn->out));
		}
	}
	buf_trim(&conn->out, CLIENT_KEEP_MEMORY);
	conn->write_at = CLIENT_WRITE_SIZE;
}

int
client_send_always(struct liminal *conn, const struct frame *frame)
{
	size_t before = buf_len(&conn->out), added;
	int r;

	if ((r = client_check(conn)) != LIMINAL_OK)
		return r;
	if (conn->cannot_write)
		return client_fail(conn, LIMINAL_DISCONNECTED, "the server reads no more");
	if ((r = frame_encode(&conn->out, frame)) != 0)
		return r == ERR_NOMEM ? client_fail(conn, LIMINAL_NOMEM, "out of memory") :
		    client_fail(conn, LIMINAL_INVALID, "the message is too large for a frame");
	added = buf_len(&conn->out) - before;
	if (added - FRAME_HEADER_SIZE > conn->max_frame) {
		conn->out.end -= added;
		return client_fail(conn, LIMINAL_INVALID,
		    "the message makes a frame of %zu bytes, %zu are allowed",
		    added - FRAME_HEADER_SIZE, conn->max_frame);
	}
	if (buf_len(&conn->out) >= conn->write_at)
		client_write(conn);
	return LIMINAL_OK;
}

int
client_send(struct liminal *conn, const struct frame *frame)
{
	if (buf_len(&conn->out) >= CLIENT_OUTPUT_MAX && conn->fd >= 0) {
		client_write(conn);
		if (buf_len(&conn->out) >= CLIENT_OUTPUT_MAX)
			return client_fail(conn, LIMINAL_BUSY,
			    "the server does not keep up: %zu bytes wait to be written",
			    buf_len(&conn->out));
	}
	return client_send_always(conn, frame);
}

/* ---- reading ---- */

/* One recv(2) with FLAGS. 1 = something came, 0 = nothing is there, else a status;
 * LIMINAL_INTERRUPTED by a signal. */
static int
client_read(struct liminal *conn, int flags)
{
	size_t have = buf_len(&conn->in), size = CLIENT_READ_SIZE;
	uint8_t *room;
	ssize_t n;

	if (conn->need > have + size)
		size = conn->need - have < CLIENT_READ_MAX ? conn->need - have : CLIENT_READ_MAX;
	if ((room = buf_reserve(&conn->in, size)) == NULL)
		return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	n = recv(conn->fd, room, size, flags);
	if (n > 0) {
		buf_commit(&conn->in, (size_t)n);
		return 1;
	}
	if (n == 0)
		return client_end(conn, LIMINAL_DISCONNECTED, have > 0 && have < conn->need ?
		    "the server closed the connection in the middle of a frame" :
		    "the server closed the connection");
	switch (errno) {
	case EAGAIN:
		return 0;
	case EINTR:
		return LIMINAL_INTERRUPTED;
	case ENOMEM:
	case ENOBUFS:
		return client_fail(conn, LIMINAL_NOMEM, "recv: %s", strerror(errno));
	default:
		return client_end(conn, LIMINAL_DISCONNECTED, "the connection broke: %s",
		    strerror(errno));
	}
}

static void
client_set_kernel_timeout(struct liminal *conn, int timeout_ms)
{
	struct timeval limit = { 0 };

	if (timeout_ms < 0)
		timeout_ms = 0;		/* the kernel's "no limit" */
	if (conn->kernel_timeout_ms == timeout_ms)
		return;
	limit.tv_sec = timeout_ms / 1000;
	limit.tv_usec = timeout_ms % 1000 * 1000;
	setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	conn->kernel_timeout_ms = timeout_ms;
}

/* Read and write when poll(2) says so. 1 = go on, 0 = the time is over, else a status. */
static int
client_poll(struct liminal *conn, struct client_wait *wait)
{
	struct pollfd pfd = { .fd = conn->fd };
	int n, r;

	pfd.events = (short)(POLLIN | (buf_len(&conn->out) > 0 ? POLLOUT : 0));
	n = poll(&pfd, 1, clock_poll_ms(client_deadline(wait), clock_now_ns()));
	if (n < 0)
		return errno == EINTR ? LIMINAL_INTERRUPTED :
		    client_fail(conn, LIMINAL_SYSTEM, "poll: %s", strerror(errno));
	if (n == 0)
		return 0;
	if ((pfd.revents & ~POLLOUT) != 0 && (r = client_read(conn, MSG_DONTWAIT)) < 0)
		return r;
	return 1;
}

/* Wait for more input, writing meanwhile. LIMINAL_OK = look again. */
static int
client_fill(struct liminal *conn, struct client_wait *wait)
{
	int first = wait->deadline_ns == 0, r;

	client_write(conn);
	if (wait->timeout_ms == 0) {
		r = client_read(conn, MSG_DONTWAIT);
	} else if (buf_len(&conn->out) == 0 && (first || wait->timeout_ms < 0)) {
		client_deadline(wait);
		client_set_kernel_timeout(conn, wait->timeout_ms);
		r = client_read(conn, 0);
	} else {
		r = client_poll(conn, wait);
	}
	if (r == 1 || (r == LIMINAL_INTERRUPTED && !wait->interruptible))
		return LIMINAL_OK;
	if (r == 0)
		return client_fail(conn, LIMINAL_TIMED_OUT, "timed out");
	if (r == LIMINAL_INTERRUPTED)
		return client_fail(conn, r, "interrupted by a signal");
	return r;
}

/* ---- setting aside ---- */

static const char *const pump_things[CLIENT_N_LATER] = {
	[CLIENT_LATER_ANSWERS] = "answers", [CLIENT_LATER_JOBS] = "jobs",
	[CLIENT_LATER_ACKS] = "acknowledgements", [CLIENT_LATER_MESSAGES] = "messages",
};

/* Keep the frame of USED bytes at the head of the input for the call that wants its KIND. */
static int
client_set_aside(struct liminal *conn, enum client_kind kind, size_t used)
{
	int queue = __builtin_ctz(kind);
	struct buf *later = &conn->later[queue];

	if (buf_len(later) >= CLIENT_LATER_MAX)
		return client_fail(conn, LIMINAL_BUSY,
		    "%zu bytes of other %s arrived and were not taken", buf_len(later),
		    pump_things[queue]);
	if (buf_append(later, buf_head(&conn->in), used) != 0)
		return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	conn->later_kinds |= kind;
	return LIMINAL_OK;
}

/* ---- handing out ---- */

static void
client_hold(struct liminal *conn, struct buf *from, size_t len)
{
	conn->held = from;
	conn->held_len = len;
}

void
client_release(struct liminal *conn)
{
	conn->shown = 0;
	if (conn->held == NULL)
		return;
	buf_consume(conn->held, conn->held_len);
	buf_trim(conn->held, CLIENT_KEEP_MEMORY);
	conn->held = NULL;
}

/* The first frame of KIND that was set aside and is still of use; 1 if there was one. */
static int
client_take_queue(struct liminal *conn, enum client_kind kind, struct frame *frame)
{
	struct buf *later = &conn->later[__builtin_ctz(kind)];
	size_t used;

	while (buf_len(later) > 0) {
		/* It decoded before, and its length was judged then. */
		frame_decode(buf_head(later), buf_len(later), UINT32_MAX, frame, &used, NULL);
		if (client_is_current(conn, frame, kind)) {
			client_hold(conn, later, used);
			return 1;
		}
		buf_consume(later, used);
	}
	conn->later_kinds &= ~kind;
	return 0;
}

/* 1 if a frame of a WANTED kind had been set aside. */
static int
client_take_later(struct liminal *conn, int wanted, struct frame *frame, enum client_kind *kind)
{
	int kinds = wanted & conn->later_kinds;

	for (; kinds != 0; kinds &= kinds - 1) {
		*kind = (enum client_kind)(kinds & -kinds);
		if (client_take_queue(conn, *kind, frame))
			return 1;
	}
	return 0;
}

/* What a frame of KIND changes when it is done with here, handed out or not. */
static void
client_count(struct liminal *conn, enum client_kind kind)
{
	if ((kind & (CLIENT_ACK | CLIENT_ACK_UNSEEN)) != 0)
		conn->publishes_due--;
	conn->need = 0;
}

static int
client_end_over(struct liminal *conn, enum frame_status status, const struct frame_fault *fault)
{
	if (status == FRAME_TOO_LARGE)
		return client_end(conn, LIMINAL_PROTOCOL,
		    "the server sent a frame of more than %zu bytes", conn->max_frame);
	return client_end(conn, LIMINAL_PROTOCOL,
	    "the server sent what does not decode: %s, at byte %zu of a frame",
	    fault->text, fault->offset);
}

/* Go through the input up to a frame of a WANTED kind; *KIND is CLIENT_IGNORED when there
 * was none. */
static int
client_take(struct liminal *conn, int wanted, struct frame *frame, enum client_kind *kind)
{
	struct frame_fault fault;
	enum frame_status status;
	const char *text;
	size_t used;
	int r;

	*kind = CLIENT_IGNORED;
	while (buf_len(&conn->in) >= conn->need && buf_len(&conn->in) > 0) {
		status = frame_decode(buf_head(&conn->in), buf_len(&conn->in), conn->max_frame,
		    frame, &used, &fault);
		if (status == FRAME_NEED_HEADER || status == FRAME_NEED_PAYLOAD) {
			conn->need = status == FRAME_NEED_HEADER ? FRAME_HEADER_SIZE : used;
			return LIMINAL_OK;
		}
		if (status != FRAME_OK)
			return client_end_over(conn, status, &fault);
		*kind = client_sort(conn, frame, &text);
		if (*kind == CLIENT_BROKEN)
			return client_end(conn, LIMINAL_PROTOCOL, "the server %s", text);
		if ((*kind & CLIENT_EVENTS & ~wanted) != 0 &&
		    (r = client_set_aside(conn, *kind, used)) != LIMINAL_OK)
			return r;
		client_count(conn, *kind);
		if ((*kind & wanted) != 0) {
			client_hold(conn, &conn->in, used);
			return LIMINAL_OK;
		}
		*kind = CLIENT_IGNORED;
		buf_consume(&conn->in, used);
	}
	return LIMINAL_OK;
}

int
client_next(struct liminal *conn, int wanted, struct client_wait *wait, struct frame *frame,
    enum client_kind *kind)
{
	enum client_kind found;
	int r;

	client_release(conn);
	if (kind == NULL)
		kind = &found;
	if (conn->fd < 0)
		return client_check(conn);
	if (client_take_later(conn, wanted, frame, kind))
		return LIMINAL_OK;
	for (;;) {
		r = client_take(conn, wanted, frame, kind);
		if (r != LIMINAL_OK || *kind != CLIENT_IGNORED)
			return r;
		if (conn->ended != 0)
			return client_check(conn);
		if ((r = client_fill(conn, wait)) != LIMINAL_OK)
			return r;
	}
}

int
client_settle(struct liminal *conn, struct client_wait *wait)
{
	enum client_kind kind;
	struct frame frame;
	int r;

	client_release(conn);
	if (conn->fd < 0)
		return client_check(conn);
	for (;;) {
		r = client_take(conn, 0, &frame, &kind);
		if (r != LIMINAL_OK || conn->publishes_due == 0)
			return r;
		if (conn->ended != 0)
			return client_check(conn);
		if ((r = client_fill(conn, wait)) != LIMINAL_OK)
			return r;
	}
}

/* ---- for programs ---- */

/* Whether to read ahead; the largest frame has to fit. */
static int
client_may_read(const struct liminal *conn)
{
	return buf_len(&conn->in) < CLIENT_INPUT_MAX + conn->max_frame;
}

/* Make room in the input: what is for nobody goes, the rest is set aside. */
static int
client_make_room(struct liminal *conn)
{
	enum client_kind kind;
	struct frame frame;
	int r = LIMINAL_OK;

	if (!client_may_read(conn))
		r = client_take(conn, 0, &frame, &kind);
	if (r != LIMINAL_OK && r != LIMINAL_BUSY)
		return r;
	return client_may_read(conn) ? LIMINAL_OK : client_fail(conn, LIMINAL_BUSY,
	    "%zu bytes arrived and were not taken", buf_len(&conn->in));
}

int
liminal_flush(struct liminal *conn, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	int r;

	client_release(conn);
	if ((r = client_check(conn)) != LIMINAL_OK)
		return r;
	for (;;) {
		client_write(conn);
		if (conn->cannot_write)
			return client_fail(conn, LIMINAL_DISCONNECTED,
			    "the server reads no more");
		if (buf_len(&conn->out) == 0)
			return LIMINAL_OK;
		if ((r = client_make_room(conn)) != LIMINAL_OK)
			return r;
		r = client_poll(conn, &wait);
		if (r == 0)
			return client_fail(conn, LIMINAL_TIMED_OUT, "timed out");
		if (r < 0 && r != LIMINAL_INTERRUPTED)
			return r;
	}
}

int
liminal_process(struct liminal *conn)
{
	struct client_wait wait = client_wait_for(0);
	struct frame frame;
	int r;

	/* Wants nothing, so everything is set aside, and a full place for it is no failure. */
	r = client_next(conn, 0, &wait, &frame, NULL);
	if (r == LIMINAL_BUSY)
		client_write(conn);
	return r == LIMINAL_TIMED_OUT || r == LIMINAL_BUSY ? LIMINAL_OK : r;
}

int
liminal_fd(const struct liminal *conn)
{
	return conn->fd;
}

short
liminal_poll_events(const struct liminal *conn)
{
	int in = client_may_read(conn);

	/* What can only be read when something was taken must not wake the program. */
	for (size_t i = 0; i < CLIENT_N_LATER; i++)
		in = in && buf_len(&conn->later[i]) < CLIENT_LATER_MAX;
	return (short)((in ? POLLIN : 0) | (buf_len(&conn->out) > 0 ? POLLOUT : 0));
}
