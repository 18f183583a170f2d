/*
 * deliver: what the files of a connection's process that write Deliver frames share. Internal to them.
 *
 *	deliver.c	whose turn it is, who has fallen behind, what is told to publishers
 *	deliver_write.c	one subscription's frames, from the log to the socket
 */
#ifndef LIMINAL_ROLE_DELIVER_H
#define LIMINAL_ROLE_DELIVER_H

#include <limits.h>
#include <sys/uio.h>

#include "role/channel.h"

/* What one call to the kernel takes, and how much of it from small frames. */
#define DELIVER_WRITE_BYTES	((size_t)256 << 10)
/* Frames up to this are copied: cheaper than the two parts of the vector that they would be. */
#define DELIVER_SMALL		2048
#define DELIVER_MESSAGES	2048

/* What is gathered for one call to the kernel. Nothing of it outlives a turn. */
struct deliver_batch {
	struct iovec iov[IOV_MAX];
	unsigned n_iov;
	size_t bytes;
	size_t lens[DELIVER_MESSAGES];		/* of the frames that were gathered */
	unsigned n_messages;
	uint8_t heads[IOV_MAX / 2][LOG_HEAD_SIZE];
	unsigned n_heads;
	size_t n_small;
	uint8_t small[DELIVER_WRITE_BYTES + DELIVER_SMALL];
};

struct deliverer {
	struct deliver_batch *batch;	/* NULL = idle: thousands may be, and it is large */
	int is_batch_used;		/* since deliver_tidy() */

	uint64_t looked;		/* number of the state's transaction that was delivered from */
	int64_t expires_ns;		/* monotonic: while the socket is full, when something is too old */
	int is_behind;			/* there may be more to deliver than was, whatever is new */
	int is_blocked;			/* the socket takes no more */
	uint64_t turn;			/* id of the subscription that comes first next */
	size_t left;			/* bytes of this turn */
	struct state_txn *txn, *store;	/* of this turn; NULL = not begun */
	struct channels_row row;	/* of the channel that was looked at last */
	uint32_t row_number;
	int has_row;
};

/* One subscription's run within a turn. */
struct delivery {
	struct connection *c;
	struct deliverer *d;
	struct deliver_batch *batch;
	struct subscription *s;
	struct log_reader reader;
	size_t left;			/* bytes of this turn, for this one */
	uint64_t written;		/* messages of the run */
};

/* deliver_write.c: an empty batch, or NULL. */
struct deliver_batch *deliver_batch_new(void);

/* The run WHAT of messages, as far as the turn and the socket go; RUN says how far that was. 0, or a code:
 * ERR_NOTFOUND when the next one is not kept any more, ERR_CORRUPT when it does not read back. */
int	deliver_run(struct delivery *run, const struct log *log, const struct channel_run *what,
	    const struct log_bound *bound, int64_t now);

#endif
