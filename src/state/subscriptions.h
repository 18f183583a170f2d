/*
 * subscriptions: who listens to what.
 *
 *	subscriptions	conn id, subscription id -> struct subscriptions_row; with the connection's end they go
 *	listeners	channel number (u32), conn id -> struct subscriptions_listener: whom a publisher wakes
 *	consumers	channel number (u32), consumer name -> conn id, subscription id: who holds the name
 *			of a durable subscription (who it is and where it left off is in the store)
 *
 * All three, and the channel row's count, change together.
 */
#ifndef LIMINAL_STATE_SUBSCRIPTIONS_H
#define LIMINAL_STATE_SUBSCRIPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "form/frame.h"
#include "os/board.h"
#include "state/state.h"

#define SUBSCRIPTIONS_VERSION	1
#define SUBSCRIPTIONS_CONSUMER_MAX 255	/* bytes; wire.md */

struct subscriptions_row {
	uint16_t version;
	uint8_t is_durable;		/* a durable subscription */
	uint8_t consumer_len;		/* its consumer's name is behind the row */
	uint32_t channel;		/* number */
	uint32_t stream;
	uint32_t max_in_flight;
	uint64_t base;			/* the channel's head when it began: what it gets comes behind */
	int64_t since_ns;		/* real time */
};

struct subscriptions_listener {
	uint32_t slot;			/* of the connection, on the board */
	uint32_t n;			/* subscriptions of this connection to this channel */
};

/* A row of consumers. To change it: the state is emptied at each start, no version is needed. */
struct subscriptions_holder { uint64_t conn_id, subscription; };

/* Add subscription ID of CONN_ID in SLOT; ROW's base is set to the channel's head, and CONSUMER (durable
 * ones) is taken. 0; ERR_BUSY: somebody holds that name; ERR_NOTFOUND: no such channel row; a negative code. */
int	subscriptions_add(struct state_txn *txn, uint64_t conn_id, uint32_t slot, uint64_t id,
	    struct subscriptions_row *row, const struct frame_view *consumer);

/* Remove one / all of CONN_ID's. ERR_NOTFOUND: there is no such one. */
int	subscriptions_del(struct state_txn *txn, uint64_t conn_id, uint64_t id);
int	subscriptions_del_all(struct state_txn *txn, uint64_t conn_id);

/* CONSUMER is a view into the map. ERR_NOTFOUND. */
int	subscriptions_get(struct state_txn *txn, uint64_t conn_id, uint64_t id,
	    struct subscriptions_row *row, struct frame_view *consumer);

/* Visit CONN_ID's; VISIT's first result that is not 0 ends the walk. CONSUMER is a view into the map. */
int	subscriptions_each_of(struct state_txn *txn, uint64_t conn_id,
	    int (*visit)(void *arg, uint64_t id, const struct subscriptions_row *row,
	    const struct frame_view *consumer), void *arg);

/* Visit the listeners of CHANNEL. For a publisher, in a read transaction after its commit: whom to poke. */
int	subscriptions_each_listener(struct state_txn *txn, uint32_t channel,
	    int (*visit)(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener),
	    void *arg);

#endif
