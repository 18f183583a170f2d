/*
 * pending: the requests that wait because every worker that could take them is busy.
 *
 * Key: pool id, lane, arrival id. A lane holds requests that demand the same of a worker (activity
 * type, required node), so that a worker finds the oldest request that it may take by one
 * look at each lane. Its number is a hash of the demand, or the next free one after that: two demands
 * never share a lane, however their hashes were made to collide. Always true between two
 * transactions: no worker that is ready, has room and accepts a waiting request exists.
 *
 * Requests that the router's module is being asked about lie here too, under their pool's id
 * with PENDING_ROUTING: counted, and refused or forgotten, like those that wait for room, but
 * no worker takes them.
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
#define PENDING_ASKED		0x08	/* the router's module is asked who gets it */

/* In the pool id of a key: the request does not wait for room but for the router's module. */
#define PENDING_ROUTING		(UINT64_C(1) << 63)

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

/* Queue a request, or with PENDING_ASKED put it where the router's module finds it. ARRIVAL 0: a new one, at the end of its lane; otherwise the place that it
 * had before its worker ended. The snapshot's meta row counts it. ERR_FULL at LIMIT. */
int	pending_add(struct state_txn *txn, struct pool_snapshot *pool, uint32_t limit,
	    uint64_t arrival, const struct pending_row *row, const struct pool_demand *demand,
	    const struct frame_view *payload, struct pending_key *where);

/* Take a request back; ERR_NOTFOUND when it has left the queue already. */
int	pending_remove(struct state_txn *txn, const struct pool_name *name,
	    const struct pending_key *where);

/* The router's module cannot choose because nobody has room: into the queue, at its place. WHERE
 * becomes where it is now. */
int	pending_queue(struct state_txn *txn, const struct pool_name *name,
	    struct pending_key *where);

/* Where the request is that AWAITER has waiting under ARRIVAL. ERR_NOTFOUND when it has left. */
int	pending_find(struct state_txn *txn, uint64_t awaiter, uint64_t arrival,
	    struct pending_key *where);

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

/* Refuse ITEM, which waits in NAME's pool: its awaiter gets INBOX_FAILED with CODE and TEXT, and it
 * leaves the queue. */
int	pending_refuse(struct state_txn *txn, const struct pool_name *name,
	    const struct pending_item *item, uint16_t code, const char *text);

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
