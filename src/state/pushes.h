/*
 * pushes: the slot of each outstanding push (systems.md B), and what it carries.
 *
 * Key: target conn id, correlation id. The slot is written before the target can see the push,
 * because it is what the target sees: it reads its new slots in the order of their ids and
 * writes Push frames from them. A slot is resolved (and gone) by the target's reply, or by
 * the target's end. The awaiter's end leaves it: the worker stays occupied.
 */
#ifndef LIMINAL_STATE_PUSHES_H
#define LIMINAL_STATE_PUSHES_H

#include <stdint.h>

#include "form/frame.h"
#include "state/state.h"

enum pushes_kind {
	PUSHES_JOB = 1,		/* an activity; counts as in flight */
	PUSHES_DIRECT,		/* to a named connection */
};

#define PUSHES_TYPED	0x01	/* a typed request: its answer has to be a typed response */
#define PUSHES_NO_REPLY	0x02	/* nobody waits for the answer */

struct pushes_row {
	uint16_t version;
	uint8_t kind;		/* enum pushes_kind */
	uint8_t flags;		/* PUSHES_* */
	uint32_t awaiter_slot;
	uint64_t awaiter;	/* conn id */
	uint64_t request;	/* the awaiter's number for it */
	uint64_t pool;		/* pool id; 0 for PUSHES_DIRECT */
	int64_t since_ns;	/* monotonic */
};

/* Write the slot of a new push to TARGET, which is woken after the commit. *CORRELATION gets its
 * id. 0, ERR_FULL, or worse. */
int	pushes_add(struct state_txn *txn, uint64_t target, uint32_t target_slot,
	    const struct pushes_row *row, const struct frame_view *payload,
	    uint64_t *correlation);

/* ERR_NOTFOUND: unknown, late, or another connection's. PAYLOAD may be NULL. */
int	pushes_get(struct state_txn *txn, uint64_t target, uint64_t correlation,
	    struct pushes_row *row, struct frame_view *payload);
int	pushes_del(struct state_txn *txn, uint64_t target, uint64_t correlation);

typedef int pushes_visit(void *arg, uint64_t target, uint64_t correlation,
    const struct pushes_row *row, const struct frame_view *payload);

/* Visit TARGET's slots with an id beyond AFTER, in order. */
int	pushes_each_of(struct state_txn *txn, uint64_t target, uint64_t after, pushes_visit *visit,
	    void *arg);
/* Visit all. */
int	pushes_each(struct state_txn *txn, pushes_visit *visit, void *arg);

/* How many TARGET has outstanding, counted up to LIMIT. */
int	pushes_count(struct state_txn *txn, uint64_t target, uint32_t limit, uint32_t *count);

/* Resolve all that TARGET owed, because it has ended for REASON: each awaiter gets the event. */
int	pushes_cancel_all(struct state_txn *txn, uint64_t target, const char *reason);

#endif
