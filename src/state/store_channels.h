/*
 * store_channels: the channels that the store knows, and what its last batch of publishes was.
 *
 * A channel gets its number with its first row and keeps it: what it has stored lies under it,
 * whatever place it has in the configuration. A channel that is not configured any more keeps its
 * row and its messages, and goes on where it was when it is configured again.
 *
 * Key: the channel's name. To change a row: raise its version, and read the old one.
 */
#ifndef LIMINAL_STATE_STORE_CHANNELS_H
#define LIMINAL_STATE_STORE_CHANNELS_H

#include <stdint.h>

#include "state/log.h"
#include "state/state.h"

#define STORE_CHANNELS_VERSION	1

struct store_channels_row {
	uint16_t version;
	uint16_t pad;
	uint32_t number;		/* from 1 */
	struct log_mark mark;		/* of its log in STORE_MESSAGES */
};

/* ERR_NOTFOUND, ERR_CORRUPT. */
int	store_channels_get(struct state_txn *txn, const char *name,
	    struct store_channels_row *row);
int	store_channels_put(struct state_txn *txn, const char *name,
	    const struct store_channels_row *row);
int	store_channels_each(struct state_txn *txn,
	    int (*visit)(void *arg, const struct state_view *name,
	    const struct store_channels_row *row), void *arg);

/* The row of NAME, made if there is none. */
int	store_channels_enter(struct state_txn *txn, const char *name,
	    struct store_channels_row *row);

/*
 * In the table meta, under STORE_PUBLISHED_KEY: the newest transaction that had publishes. A
 * process that finds them written and not answered answers them as this one would have.
 */
#define STORE_PUBLISHED_KEY	"published"
#define STORE_PUBLISHED_VERSION	1

struct store_published {
	uint16_t version;
	uint16_t is_refused;		/* there was no room: none of them was written */
	uint32_t pad;
	int64_t now_ns;			/* real time by which keys were judged */
};

int	store_published_get(struct state_txn *txn, struct store_published *row);
int	store_published_put(struct state_txn *txn, const struct store_published *row);

#endif
