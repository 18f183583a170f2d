/*
 * log: the messages of a channel, in order.
 *
 * One table holds the logs of all channels, the state's `messages` for the ephemeral ones and the store's
 * for the durable ones. A row is what one append brought, up to LOG_ROW_MAX bytes: a head and its
 * messages one behind the other, each as the Deliver frame that a subscriber gets, with stream
 * id 0 and the channel's sequence; a subscriber's process changes only the frame's first
 * LOG_HEAD_SIZE bytes. A message that is larger than a row lies in pieces, a row each. So a
 * batch of small messages costs one row, rows never need long runs of pages, and nothing is
 * encoded again for each subscriber.
 *
 * Key: channel number (u32), sequence of the first message (u64), piece (u32), big-endian.
 *
 * Sequences begin at 1 and have no gaps. What is beyond a channel's bound is not there for a reader, whether its row
 * was removed already or not: log_is_kept() is exact, log_trim() removes whole rows.
 */
#ifndef LIMINAL_STATE_LOG_H
#define LIMINAL_STATE_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "form/frame.h"
#include "state/state.h"

/* Of a Deliver frame: its header and the delivery sequence, the part that differs from one
 * subscriber to another. */
#define LOG_HEAD_SIZE		(FRAME_HEADER_SIZE + 8)
#define LOG_HEAD_FLAGS		1	/* offsets in it */
#define LOG_HEAD_STREAM		2
#define LOG_HEAD_SEQUENCE	FRAME_HEADER_SIZE

/* What a message counts beside its payload and causal context: the rest of its Deliver frame. */
#define LOG_MESSAGE_OVERHEAD	62
/* Sixteen pages, with what LMDB puts before a row. */
#define LOG_ROW_MAX		(16 * 4096 - 16)

/* Where a channel's log stands; part of the channel's row, changed by append and trim. All zero but
 * FIRST = 1: empty. */
struct log_mark {
	uint64_t head;		/* sequence of the newest message there ever was; 0 = none */
	uint64_t first;		/* of the oldest one that is stored; head + 1 = none is */
	uint64_t bytes;		/* of all messages there ever were, counted as above */
	uint64_t first_bytes;	/* ... before FIRST */
};

/* What a channel keeps; 0 = no bound of that kind. */
struct log_bound { uint64_t messages, bytes; int64_t age_ns; };

/* Which log: a table of TXN's environment, and the channel's number there. */
struct log {
	struct state_txn *txn;
	enum state_table table;		/* STATE_MESSAGES or STORE_MESSAGES */
	uint32_t channel;
};

/* A message to be appended; borrowed. */
struct log_message { struct frame_view causal, payload; };

/* Append N messages with the channel's SCHEMA_ID at real time NOW_NS; MARK moves. 0, or a negative code
 * after which the transaction has to be aborted. */
int	log_append(const struct log *log, struct log_mark *mark,
	    const uint8_t schema_id[FRAME_SCHEMA_ID_SIZE], const struct log_message *messages,
	    size_t n, int64_t now_ns);

/* The same for a log that nobody reads: they are counted and not stored. Only when nothing is stored. */
void	log_skip(struct log_mark *mark, const struct log_message *messages, size_t n);

/*
 * Remove rows, LIMIT at most, from the oldest on: those that are beyond BOUND as a whole, and those that
 * were appended by transactions up to CONSUMED (0 = none: of the state only). MARK moves. Returns how many, or a
 * negative code.
 */
int	log_trim(const struct log *log, struct log_mark *mark, const struct log_bound *bound,
	    uint64_t consumed, int64_t now_ns, int limit);

/* Would log_trim() remove something? In any transaction; 1, 0 or a negative code. */
int	log_is_over(const struct log *log, const struct log_mark *mark,
	    const struct log_bound *bound, uint64_t consumed, int64_t now_ns);

static inline size_t
log_message_bytes(const struct log_message *message)
{
	return LOG_MESSAGE_OVERHEAD + message->causal.len + message->payload.len;
}

/* Reading, in any transaction; everything points into the map. */
struct log_entry {
	uint64_t sequence;
	uint64_t before;		/* bytes of all messages before it */
	int64_t time_ns;		/* real time of its append */
	uint64_t stamp;			/* number of the transaction that appended it */
	size_t len;			/* of the whole frame */
	const uint8_t *frame;		/* its first HERE bytes, at least LOG_HEAD_SIZE */
	size_t here;
};

struct log_reader {
	struct log log;
	struct state_cursor *cursor;
	const uint8_t *at, *end;	/* the rest of the row */
	struct log_entry entry;		/* the last one */
	uint64_t next;			/* sequence of the message at AT */
	uint64_t before;
	size_t missing;			/* of the last entry's frame: in the pieces */
	uint32_t piece;
};

/* Stand before the message SEQUENCE. 0; ERR_NOTFOUND when it is not stored (any more, or yet), with nothing
 * to close; ERR_CORRUPT. */
int	log_open(struct log_reader *reader, const struct log *log, uint64_t sequence);
void	log_close(struct log_reader *reader);

/* The next message, to be seen in reader->entry. 0, ERR_NOTFOUND at the end of what is stored, ERR_CORRUPT. */
int	log_next(struct log_reader *reader);

/* The next piece of the last entry's frame, behind its first HERE bytes. ERR_NOTFOUND: there is none
 * left; ERR_CORRUPT: there should be one. */
int	log_next_piece(struct log_reader *reader, struct frame_view *piece);

/* What a row says of itself, for onlookers. */
struct log_row_view {
	uint32_t channel;
	uint64_t first;			/* sequence of the first message, or of the one it is a piece of */
	uint32_t piece, count;		/* later pieces: of no message's beginning */
	uint64_t bytes, before;
	int64_t time_ns;
	uint64_t stamp;
};

/* 0 or ERR_CORRUPT. */
int	log_row_look(const struct state_view *key, const struct state_view *row,
	    struct log_row_view *view);

/* Is the message within BOUND? */
int	log_is_kept(const struct log_entry *entry, const struct log_mark *mark,
	    const struct log_bound *bound, int64_t now_ns);

/* Is SEQUENCE stored, and within BOUND? 1 with *TIME_NS, when it was appended; 0 or a negative code. */
int	log_keeps(const struct log *log, uint64_t sequence, const struct log_mark *mark,
	    const struct log_bound *bound, int64_t now_ns, int64_t *time_ns);

/* The sequence of the oldest message that is kept, head + 1 when none is. 0 or a negative code. */
int	log_oldest(const struct log *log, const struct log_mark *mark,
	    const struct log_bound *bound, int64_t now_ns, uint64_t *sequence);

#endif
