/*
 * workers: one row for each registered worker, and its joining and leaving of pools.
 *
 * Key: conn id. The row is the registration (form/record.h). Its pool rows are written and
 * removed here, in the same transaction, and nowhere else.
 */
#ifndef LIMINAL_STATE_WORKERS_H
#define LIMINAL_STATE_WORKERS_H

#include <stdint.h>

#include "form/record.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/state.h"

/* "<identity>#<conn id>" (systems.md E5a). */
#define WORKERS_IDENTITY_MAX	255
#define WORKERS_ID_SIZE		(WORKERS_IDENTITY_MAX + 22)

/* The pools that a worker is in, in the order of its namespaces. */
struct workers_pools {
	struct workers_pool { uint64_t id; struct pool_name name; } *list;	/* owned */
	size_t n;
};

void	workers_pools_free(struct workers_pools *pools);

/*
 * Put CONN_ID's registration, replacing an earlier one; what it owes stays owed and counted.
 * Its rows become selectable at once if READY. The views of REGISTRATION are the caller's; sequence,
 * since_ns and pools are set here. Names must have been checked. Requests that waited
 * for a worker that now left a pool are refused. *POOLS gets what it joined, to be freed by
 * the caller in case of 0. 0, ERR_FULL, or worse.
 */
int	workers_register(struct state_txn *txn, uint64_t conn_id, uint32_t slot, int ready,
	    struct record_registration *registration, struct workers_pools *pools);

/* Make CONN_ID's rows selectable. */
int	workers_make_ready(struct state_txn *txn, uint64_t conn_id,
	    const struct workers_pools *pools);

/* Take CONN_ID out of all of its pools and forget it; 0 also when it was none. */
int	workers_unregister(struct state_txn *txn, uint64_t conn_id);

/* ERR_NOTFOUND when CONN_ID is no worker. Free the result with record_free_registration. */
int	workers_get(struct state_txn *txn, uint64_t conn_id, struct record_registration *out);

/*
 * What CONN_ID declared in its registration number SEQUENCE; what was looked up is remembered.
 * workers_known: the registration, valid until the next call of one of the three, or ERR_NOTFOUND.
 * The others: 1 if it declared TYPE, or is on NODE; 0 if not; or an error. They compare the
 * names, not only hashes of them: both sides of a collision come from peers, who could make one.
 */
int	workers_known(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
	    const struct record_registration **registration);
int	workers_has_type(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
	    const struct frame_view *type);
int	workers_has_node(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
	    const struct frame_view *node);

/* Its worker id; "#<conn id>" when it is not registered any more. Returns OUT. */
char	*workers_id(struct state_txn *txn, uint64_t conn_id, char out[WORKERS_ID_SIZE]);

/* Visit each; the registration is valid during the call. */
int	workers_each(struct state_txn *txn,
	    int (*visit)(void *arg, uint64_t conn_id,
	    const struct record_registration *registration), void *arg);

/*
 * Turn a waiting request of the pool NAME into a push to CONN_ID in SLOT, whose row has room and gets
 * its count of jobs from the caller. The awaiter is told if it wants to know. ITEM's views are
 * not valid any more.
 */
int	workers_take(struct state_txn *txn, uint64_t conn_id, uint32_t slot,
	    const struct pending_item *item, const struct pool_name *name);

/*
 * CONN_ID, a worker in POOLS, has FREED jobs fewer, and takes waiting requests while it has room,
 * oldest first, as pushes to itself.
 */
int	workers_settle(struct state_txn *txn, uint64_t conn_id,
	    const struct workers_pools *pools, uint32_t freed);

#endif
