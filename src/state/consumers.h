/*
 * consumers: the durable subscriptions that the store knows, by name, and where each left off.
 * Written by the store process only. Key: store's channel number (u32), consumer name.
 *
 * The cursor is the highest sequence below which, and at which, everything is accepted or given up. What was
 * accepted behind it is listed as ranges, so that only what was not is delivered again.
 */
#ifndef LIMINAL_STATE_CONSUMERS_H
#define LIMINAL_STATE_CONSUMERS_H

#include <stddef.h>
#include <stdint.h>

#include "form/frame.h"
#include "state/state.h"

#define CONSUMERS_VERSION	1
/* Ranges that are saved; of what is accepted behind the last of them is forgotten, and delivered
 * again after the consumer's end. */
#define CONSUMERS_RANGES_MAX	4096

struct consumers_range { uint64_t from, to; };	/* both included */

struct consumers_row {
	uint16_t version;
	uint16_t pad;
	uint32_t n_ranges;		/* behind it, ascending, apart, all beyond CURSOR + 1 */
	uint64_t cursor;
	int64_t since_ns;		/* real time: first seen */
};

/* INBOX_CONSUMER_OPEN: a process that holds the name asks where to go on. The body: this, the name. The answer
 * INBOX_CONSUMER: code 0 and the consumer's row with its ranges, or the wire's reason and a text. */
struct consumers_open {
	uint32_t channel;		/* number: index in the configuration */
	uint32_t start;			/* wire.md: 0 left off or now, 1 oldest kept, 2 SEQUENCE */
	uint64_t sequence;
	uint64_t now;			/* the channel's head that "now" means */
};

/* INBOX_CURSOR: where it is now; nobody answers. The body: this, the row with its ranges, the name. */
struct consumers_cursor {
	uint32_t channel;
	uint32_t name_len;
};

/* An image of a row, as it is stored and as inbox entries carry it: the row and a view of its n_ranges
 * (unaligned). ERR_CORRUPT: another version, or the size does not agree. */
int	consumers_unpack(const void *image, size_t len, struct consumers_row *row,
	    struct frame_view *ranges);

/* RANGES is a view of n_ranges (unaligned). ERR_NOTFOUND. ROW's version is the writer's to fill. */
int	consumers_get(struct state_txn *txn, uint32_t store_channel, const struct frame_view *name,
	    struct consumers_row *row, struct frame_view *ranges);
int	consumers_put(struct state_txn *txn, uint32_t store_channel, const struct frame_view *name,
	    const struct consumers_row *row, const void *ranges);

#endif
