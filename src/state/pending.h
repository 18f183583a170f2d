/*
 * pending: the requests that wait because every worker that could take them is busy.
 *
 * Key: pool id, lane, arrival id. A lane is a hash of what the request demands of a worker
 * (activity type, required node), so that a worker finds the oldest request that it may take by
 * one look at each lane. Always true between two transactions: no worker that is
 * ready, has room and accepts a waiting request exists.
 */
#ifndef LIMINAL_STATE_PENDING_H
#define LIMINAL_STATE_PENDING_H

#include <stdint.h>

#include "form/frame.h"
#include "state/pool.h"
#include "state/state.h"

#define PENDING_TYPED		0x01
#define PENDING_TELL_START	0x02	/* the awaiter wants to know when it leaves the queue */
#define PENDING_NODE_REQUIRED	0x04

struct pending_row {
	uint16_t version;
	uint8_t flags;		/* PENDING_* */
	uint8_t pad;
	uint32_t awaiter_slot;
	uint64_t awaiter;
	uint64_t request;
	int64_t since_ns;	/* monotonic */
	uint32_t type_len;	/* these, then the payload, follow the row */
	uint32_t node_len;
};

/* Where one is, for its awaiter to take it back. */
struct pending_key { uint64_t pool, lane, arrival; };

/* Queue a request. ARRIVAL 0: a new one, at the end of its lane; otherwise the place that it
 * had before its worker ended. The snapshot's meta row counts it. ERR_FULL at LIMIT. */
int	pending_add(struct state_txn *txn, struct pool_snapshot *pool, uint32_t limit,
	    uint64_t arrival, const struct pending_row *row, const struct pool_demand *demand,
	    const struct frame_view *payload, struct pending_key *where);

/* Take a request back; ERR_NOTFOUND when it has left the queue already. */
int	pending_remove(struct state_txn *txn, const struct pool_name *name,
	    const struct pending_key *where);

/* A waiting request; the views point into the map. */
struct pending_item {
	struct pending_key key;
	struct pending_row row;
	struct pool_demand demand;
	struct frame_view payload;
};

/* The oldest request of POOL that the worker of ROW accepts. ERR_NOTFOUND = none. */
int	pending_oldest(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
	    const struct pool_row *row, struct pending_item *item);

/* Refuse the waiting requests of the pool that none of its workers accepts (any more): their awaiters
 * get INBOX_NO_WORKERS. */
int	pending_refuse_orphans(struct state_txn *txn, const struct pool_name *name);

/* Forget everything that AWAITER waits for, because it has ended. */
int	pending_cancel_awaiter(struct state_txn *txn, uint64_t awaiter);

/* The item at KEY. ERR_NOTFOUND when it has left the queue. */
int	pending_get(struct state_txn *txn, const struct pending_key *key,
	    struct pending_item *item);

/* How many requests the awaiters' lists name; as many as wait, or the state is broken. */
uint64_t pending_count_queued(struct state_txn *txn);

/* Visit every item. */
int	pending_each(struct state_txn *txn, int (*visit)(void *arg,
	    const struct pending_item *item), void *arg);

#endif
