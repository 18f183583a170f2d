/* refuse: see refuse.h. */
#include <sys/socket.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "form/frame.h"
#include "liminald/refuse.h"

/* Long enough for a client on the other side of the world to read and close. */
#define REFUSE_LINGER_NS CLOCK_SECOND

/* Read from one socket per turn at most; who sends more than that is not owed an answer. */
#define REFUSE_READ_MAX 8

static void
refuse_forget(struct refuse *refuse, unsigned i)
{
	close(refuse->fd[i]);
	refuse->n--;
	memmove(&refuse->fd[i], &refuse->fd[i + 1], (refuse->n - i) * sizeof(refuse->fd[0]));
	memmove(&refuse->until_ns[i], &refuse->until_ns[i + 1],
	    (refuse->n - i) * sizeof(refuse->until_ns[0]));
}

void
refuse_connection(struct refuse *refuse, int fd, const char *reason, int64_t now_ns)
{
	struct frame frame = { .type = FRAME_CONNECT_ERROR };

	frame.u.error.reason = FRAME_REASON_OTHER;
	frame.u.error.message.present = 1;
	frame.u.error.message.view = (struct frame_view){ (const uint8_t *)reason,
	    strlen(reason) };
	/* A new socket's buffer has room for one small frame; if not, the close has to do. */
	if (frame_encode(&refuse->frame, &frame) != 0 ||
	    send(fd, buf_head(&refuse->frame), buf_len(&refuse->frame),
	    MSG_DONTWAIT | MSG_NOSIGNAL) == -1 || shutdown(fd, SHUT_WR) == -1) {
		buf_consume(&refuse->frame, buf_len(&refuse->frame));
		close(fd);
		return;
	}
	buf_consume(&refuse->frame, buf_len(&refuse->frame));
	if (refuse->n == REFUSE_LINGERING_MAX)
		refuse_forget(refuse, 0);
	refuse->fd[refuse->n] = fd;
	refuse->until_ns[refuse->n] = now_ns + REFUSE_LINGER_NS;
	refuse->n++;
}

void
refuse_poll(const struct refuse *refuse, struct pollfd *pollfds)
{
	for (unsigned i = 0; i < refuse->n; i++)
		pollfds[i] = (struct pollfd){ .fd = refuse->fd[i], .events = POLLIN };
}

/* 1 if the peer has closed too, or will never. */
static int
refuse_is_finished(int fd)
{
	char bytes[4096];
	ssize_t n;

	for (int i = 0; i < REFUSE_READ_MAX; i++) {
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n == 0)
			return 1;
		if (n == -1)
			return errno != EAGAIN && errno != EINTR;
	}
	return 1;
}

void
refuse_step(struct refuse *refuse, const struct pollfd *pollfds, int64_t now_ns)
{
	/* From the end: forgetting one leaves the indexes before it as they were. */
	for (unsigned i = refuse->n; i-- > 0;)
		if (now_ns >= refuse->until_ns[i] ||
		    (pollfds[i].revents != 0 && refuse_is_finished(refuse->fd[i])))
			refuse_forget(refuse, i);
}

int64_t
refuse_deadline(const struct refuse *refuse)
{
	return refuse->n != 0 ? refuse->until_ns[0] : INT64_MAX;
}

void
refuse_close_all(struct refuse *refuse)
{
	while (refuse->n != 0)
		refuse_forget(refuse, refuse->n - 1);
	buf_free(&refuse->frame);
}
