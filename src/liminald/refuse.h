/*
 * refuse: saying no without a process.
 *
 * The refused client gets one ConnectError, written without blocking. Its socket lingers for
 * a moment, half closed and read empty, because closing it with unread bytes would make the
 * kernel reset the connection and the client might never see the reason. What lingers is bounded
 * in number and time.
 */
#ifndef LIMINAL_LIMINALD_REFUSE_H
#define LIMINAL_LIMINALD_REFUSE_H

#include <poll.h>
#include <stdint.h>

#include "base/buf.h"

#define REFUSE_LINGERING_MAX 64

struct refuse {
	struct buf frame;		/* reused */
	unsigned n;			/* lingering, the oldest first */
	int fd[REFUSE_LINGERING_MAX];
	int64_t until_ns[REFUSE_LINGERING_MAX];
};

/* Takes FD. */
void	refuse_connection(struct refuse *refuse, int fd, const char *reason, int64_t now_ns);

/* Fill POLLFDS with the n lingering sockets. */
void	refuse_poll(const struct refuse *refuse, struct pollfd *pollfds);

/* After ppoll(2), with the same array: throw away what they sent, close those that are
 * finished or late. */
void	refuse_step(struct refuse *refuse, const struct pollfd *pollfds, int64_t now_ns);

/* When the oldest is late; INT64_MAX = none. */
int64_t	refuse_deadline(const struct refuse *refuse);
void	refuse_close_all(struct refuse *refuse);

#endif
