/*
 * pool: the workers of each (namespace, task queue), and how busy each of them is.
 *
 * Table `pool`: key pool id, conn id; one row for each worker in each pool that it joined.
 * A row exists exactly while the worker's registration does, and goes in the same
 * transaction: what a snapshot shows is alive or its end is noticed (systems.md D3, D4). A worker's
 * in-flight count is the same in all of its rows.
 *
 * Table `counters`, keys "pool/<namespace>.<task queue>": one row for each pool with
 * workers: its id, the number of its workers and of its waiting requests.
 */
#ifndef LIMINAL_STATE_POOL_H
#define LIMINAL_STATE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "form/frame.h"
#include "state/state.h"

/* Of a namespace and of a task queue: two of them and the prefix fit into a key. */
#define POOL_NAME_MAX		200
#define POOL_SUBJECT_PREFIX	FRAME_SUBJECT_POOL

/* "<namespace>.<task queue>", not terminated. */
struct pool_name {
	char text[2 * POOL_NAME_MAX + 1];
	size_t len;
};

struct pool_meta {
	uint16_t version;
	uint16_t pad;
	uint32_t n_workers;
	uint64_t id;
	uint64_t n_pending;
	uint64_t last_selected;		/* conn id; for round robin */
};

#define POOL_ROW_READY		0x01	/* may be selected */
#define POOL_ROW_ALL_TYPES	0x02	/* accepts every activity type */
#define POOL_ROW_HAS_NODE	0x04

struct pool_row {
	uint16_t version;
	uint8_t flags;			/* POOL_ROW_* */
	uint8_t pad;
	uint32_t slot;			/* on the board, to wake it */
	uint32_t in_flight;
	uint32_t max_concurrent;
	uint32_t n_pools;		/* that this worker is in */
	uint32_t pad2;
	uint64_t sequence;		/* of its registration */
	uint64_t node_hash;
	int64_t since_ns;		/* real time */
};

/* One worker of a snapshot, and what a transaction has changed about it. */
struct pool_worker {
	uint64_t conn_id;
	struct pool_row row;
	int changed;
};

struct pool_snapshot {
	struct pool_meta meta;
	struct pool_name name;
	int meta_changed;
	struct pool_worker *workers;	/* kept for reuse */
	size_t n, size;
};

/* What a request asks of a worker. */
struct pool_demand {
	struct frame_view type;		/* empty = any worker will do */
	struct frame_view node;		/* empty = none named */
	int node_required;
};

/* NULL if the part is a good namespace or task queue name, else what is wrong with it. */
const char *pool_part_fault(const struct frame_view *part);

/* Compose a name of two good parts. */
void	pool_name_set(struct pool_name *name, const struct frame_view *space,
	    const struct frame_view *queue);

/* From a subject "aion.dispatch.<namespace>.<task queue>"; 0, or ERR_INVALID with the reason. */
int	pool_name_from_subject(struct pool_name *name, const struct frame_view *subject,
	    struct err *err);

/* The meta row; ERR_NOTFOUND = the pool has no workers. */
int	pool_meta_get(struct state_txn *txn, const struct pool_name *name,
	    struct pool_meta *meta);
int	pool_meta_put(struct state_txn *txn, const struct pool_name *name,
	    const struct pool_meta *meta);

/* The pool's workers as they are now. ERR_NOTFOUND = none. */
int	pool_snapshot_read(struct state_txn *txn, const struct pool_name *name,
	    struct pool_snapshot *snapshot);
/* Write back the rows (and the meta row) that were changed. */
int	pool_snapshot_write(struct state_txn *txn, struct pool_snapshot *snapshot);
void	pool_snapshot_free(struct pool_snapshot *snapshot);

/* 1 if the worker of ROW, whether busy or not, accepts DEMAND; 0 if not; or an error. */
int	pool_accepts(struct state_txn *txn, uint64_t conn_id, const struct pool_row *row,
	    const struct pool_demand *demand);

int	pool_row_get(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
	    struct pool_row *row);
int	pool_row_put(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
	    const struct pool_row *row);
int	pool_row_del(struct state_txn *txn, uint64_t pool, uint64_t conn_id);

/* Write ROW for every pool that its worker is in (they are kept equal). */
int	pool_row_put_all(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
	    const struct pool_row *row);

/* Visit each pool; the first result other than 0 ends the walk and is returned. */
int	pool_each(struct state_txn *txn,
	    int (*visit)(void *arg, const struct pool_name *name, const struct pool_meta *meta),
	    void *arg);

#endif
