/*
 * sweep: what nobody needs any more in channels that nobody publishes to. For the keeper.
 *
 * Publishers trim the channels that they append to. A channel whose last publisher is gone would keep
 * what its subscribers have read, or what was left when they went: up to its bound, of the memory that
 * all share. The same goes for idempotency keys whose time has passed. It is removed in transactions
 * of a bounded size; ending a subscription never has to.
 */
#ifndef LIMINAL_ROLE_SWEEP_H
#define LIMINAL_ROLE_SWEEP_H

#include <stdint.h>

#include "form/conf.h"
#include "os/board.h"
#include "state/state.h"

struct sweep {
	const struct conf *conf;
	struct board *board;
	struct state *state;
	uint32_t next;		/* channel that comes next; the others had their turn */
};

/* Up to which transaction of the state everybody who listens to channel NUMBER has what was appended;
 * UINT64_MAX when nobody does. For others who trim in its stead. 0 or a negative code. */
int	sweep_consumed(const struct board *board, struct state_txn *txn, uint32_t number,
	    uint64_t *consumed);

/* Remove what is due of the state's channels, so much at once that the keeper's other duties do not
 * wait; what is left is due at the next call. 0 or a negative code. */
int	sweep_channels(struct sweep *sweep);

#endif
