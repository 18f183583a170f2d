/*
 * fake: a scripted server for the tests of the client library.
 *
 * A child process accepts one connection and runs a script: what it must receive and what it
 * sends, frame by frame or byte by byte. What goes against the script ends the child with
 * a line on standard error and status 1, which fake_end() asserts on. A child never
 * returns from its script. Everything is bounded by an alarm.
 */
#ifndef LIMINAL_T_PROC_FAKE_H
#define LIMINAL_T_PROC_FAKE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "form/frame.h"
#include "liminal.h"

#define FAKE_BOUND_S	20		/* no script takes as long */
#define FAKE_WAIT_MS	15000		/* what a client waits for what must come */
#define FAKE_MAX_FRAME	(64u * 1024 * 1024)

struct fake;
typedef void fake_script(struct fake *fake);

struct fake {
	char address[128];
	pid_t pid;
	int go;			/* the test writes a byte, the script waits for it */
	/* only in the child: */
	int fd, go_fd;
	struct buf in, out;
	size_t used;		/* of the frame received last */
};

static inline void __attribute__((format(printf, 1, 2), noreturn))
fake_die(const char *fmt, ...)
{
	va_list ap;

	fputs("fake server: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(stderr);
	_exit(1);
}

#define FAKE_CHECK(cond) \
	do { if (!(cond)) fake_die("line %d: %s", __LINE__, #cond); } while (0)

/* ---- in the script ---- */

static inline int
fake_fill(struct fake *fake)
{
	uint8_t *room = buf_reserve(&fake->in, 65536);
	ssize_t n = read(fake->fd, room, 65536);

	if (n > 0)
		buf_commit(&fake->in, (size_t)n);
	return n > 0;
}

/* The next frame; 0 at the end of the stream. Its views live until the next call. */
static inline int
fake_receive(struct fake *fake, struct frame *frame)
{
	enum frame_status status;

	buf_consume(&fake->in, fake->used);
	fake->used = 0;
	for (;;) {
		status = frame_decode(buf_head(&fake->in), buf_len(&fake->in), FAKE_MAX_FRAME,
		    frame, &fake->used, NULL);
		if (status == FRAME_OK)
			return 1;
		fake->used = 0;
		FAKE_CHECK(status == FRAME_NEED_HEADER || status == FRAME_NEED_PAYLOAD);
		if (!fake_fill(fake))
			return 0;
	}
}

static inline void
fake_expect(struct fake *fake, int type, struct frame *frame)
{
	struct frame ignored;

	frame = frame == NULL ? &ignored : frame;
	if (!fake_receive(fake, frame))
		fake_die("end of stream instead of %s", frame_type_name((uint8_t)type));
	if (frame->type != type)
		fake_die("%s instead of %s", frame_type_name(frame->type),
		    frame_type_name((uint8_t)type));
}

static inline void
fake_expect_end(struct fake *fake)
{
	struct frame frame;

	if (fake_receive(fake, &frame))
		fake_die("%s instead of the end", frame_type_name(frame.type));
}

/* Gather; fake_send() writes what was gathered. */
static inline void
fake_put(struct fake *fake, const struct frame *frame)
{
	FAKE_CHECK(frame_encode(&fake->out, frame) == 0);
}

static inline void
fake_send(struct fake *fake)
{
	ssize_t n;

	while (buf_len(&fake->out) > 0) {
		n = send(fake->fd, buf_head(&fake->out), buf_len(&fake->out), MSG_NOSIGNAL);
		FAKE_CHECK(n > 0);
		buf_consume(&fake->out, (size_t)n);
	}
}

/* Byte by byte, each in a segment of its own. */
static inline void
fake_send_slowly(struct fake *fake)
{
	while (buf_len(&fake->out) > 0) {
		FAKE_CHECK(send(fake->fd, buf_head(&fake->out), 1, MSG_NOSIGNAL) == 1);
		buf_consume(&fake->out, 1);
		usleep(200);
	}
}

static inline struct frame_view
fake_view(const char *text)
{
	return (struct frame_view){ (const uint8_t *)text, strlen(text) };
}

static inline int
fake_is(struct frame_view view, const char *text)
{
	return view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

static inline void
fake_put_ack(struct fake *fake, uint32_t capabilities)
{
	struct frame frame = { .type = FRAME_CONNECT_ACK };

	frame.u.connect_ack.selected.major = 1;
	frame.u.connect_ack.capabilities = capabilities;
	fake_put(fake, &frame);
}

static inline void
fake_put_push(struct fake *fake, uint64_t correlation, const char *payload)
{
	struct frame frame = { .type = FRAME_PUSH, .stream = FRAME_PUSH_STREAM };

	frame.u.push.correlation = correlation;
	frame.u.push.payload = fake_view(payload);
	fake_put(fake, &frame);
}

static inline void
fake_put_answer(struct fake *fake, uint64_t conversation, uint32_t stream,
    struct frame_view payload)
{
	struct frame frame = { .type = FRAME_CONVERSATION_MESSAGE,
		.flags = FRAME_FLAG_REPLY, .stream = stream };

	frame.u.conversation_message.conversation = conversation;
	frame.u.conversation_message.envelope.payload = payload;
	fake_put(fake, &frame);
}

static inline void
fake_put_error(struct fake *fake, uint64_t conversation, uint32_t stream, uint16_t reason,
    const char *text)
{
	struct frame frame = { .type = FRAME_CONVERSATION_ERROR, .stream = stream };

	frame.u.conversation_error.conversation = conversation;
	frame.u.conversation_error.reason = reason;
	frame.u.conversation_error.message.present = 1;
	frame.u.conversation_error.message.view = fake_view(text);
	fake_put(fake, &frame);
}

static inline void
fake_put_registered(struct fake *fake, const char *reason)
{
	struct frame frame = { .type = FRAME_WORKER_REGISTER_ACK };

	frame.u.worker_register_ack.accepted = reason == NULL;
	if (reason != NULL)
		frame.u.worker_register_ack.reason = fake_view(reason);
	fake_put(fake, &frame);
}

/* The usual beginning. */
static inline void
fake_shake_hands(struct fake *fake)
{
	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, FRAME_CAPABILITY_WORKER_CAPACITY);
	fake_send(fake);
}

/* The usual end. */
static inline void
fake_expect_goodbye(struct fake *fake)
{
	fake_expect(fake, FRAME_DISCONNECT, NULL);
	fake_expect_end(fake);
}

/* Wait for fake_go(). */
static inline void
fake_await(struct fake *fake)
{
	char byte;

	FAKE_CHECK(read(fake->go_fd, &byte, 1) == 1);
}

/* ---- in the test ---- */

static inline int
fake_listen(struct fake *fake, const char *path)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sin);
	int fd = socket(path == NULL ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

	cr_assert(fd >= 0);
	if (path == NULL) {
		sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		cr_assert(eq(int, bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0));
		cr_assert(eq(int, getsockname(fd, (struct sockaddr *)&sin, &len), 0));
		snprintf(fake->address, sizeof(fake->address), "127.0.0.1:%d",
		    ntohs(sin.sin_port));
	} else {
		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
		cr_assert(eq(int, bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0));
		snprintf(fake->address, sizeof(fake->address), "unix:%s", path);
	}
	cr_assert(eq(int, listen(fd, 5), 0));
	return fd;
}

static inline void
fake_start_at(struct fake *fake, fake_script *script, const char *path)
{
	int listener, go[2], one = 1;

	memset(fake, 0, sizeof(*fake));
	listener = fake_listen(fake, path);
	cr_assert(eq(int, pipe(go), 0));
	fake->go = go[1];
	fake->pid = fork();
	cr_assert(fake->pid >= 0);
	if (fake->pid == 0) {
		alarm(FAKE_BOUND_S);
		close(go[1]);
		fake->go_fd = go[0];
		fake->fd = accept(listener, NULL, NULL);
		FAKE_CHECK(fake->fd >= 0);
		setsockopt(fake->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		script(fake);
		_exit(0);
	}
	close(listener);
	close(go[0]);
}

static inline void
fake_start(struct fake *fake, fake_script *script)
{
	fake_start_at(fake, script, NULL);
}

static inline void
fake_go(struct fake *fake)
{
	cr_assert(eq(int, (int)write(fake->go, "g", 1), 1));
}

/* The script came to its end. */
static inline void
fake_end(struct fake *fake)
{
	int status = -1;

	cr_assert(eq(int, waitpid(fake->pid, &status, 0), fake->pid));
	cr_assert(eq(int, status, 0));
	close(fake->go);
}

static inline struct liminal *
fake_connect(const struct fake *fake)
{
	struct liminal *conn = liminal_new();

	alarm(FAKE_BOUND_S);
	cr_assert(ne(ptr, conn, NULL));
	cr_assert(eq(int, liminal_open(conn, fake->address, FAKE_WAIT_MS), LIMINAL_OK), "%s",
	    liminal_error_text(conn));
	return conn;
}

/* Compare PAYLOAD and LEN of an answer or a job with a text. */
#define fake_assert_text(what, text) \
	fake_assert_bytes((what)->payload, (what)->len, text)

static inline void
fake_assert_bytes(const void *payload, size_t len, const char *expected)
{
	char actual[256], wanted[256];

	snprintf(actual, sizeof(actual), "%.*s", (int)len, (const char *)payload);
	snprintf(wanted, sizeof(wanted), "%s", expected);
	cr_assert(eq(str, actual, wanted));
}

static inline void
fake_assert_error(const struct liminal *conn, const char *expected)
{
	const char *text = liminal_error_text(conn);

	fake_assert_bytes(text, strlen(text), expected);
}

#endif
