/*
 * announce: how a connection that is past its handshake gets its row.
 *
 * It asks the keeper, which writes the rows of all who asked in one transaction and answers.
 * So a connection that only connects, or waits, never opens the environment: that costs
 * more than its fork, and grows with the number of connections. A keeper that is not there, or
 * slow, is no obstacle: after ANNOUNCE_PATIENCE_NS the connection writes its row itself.
 *
 * The kernel vouches for the sender: the keeper believes only the process that the board
 * names for that connection.
 */
#ifndef LIMINAL_ROLE_ANNOUNCE_H
#define LIMINAL_ROLE_ANNOUNCE_H

#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/wake.h"
#include "state/connections.h"
#include "state/state.h"

/* A keeper that runs answers within microseconds; one that is started again, in 10 ms. */
#define ANNOUNCE_PATIENCE_NS	(50 * CLOCK_MS)

struct announce {
	uint64_t conn_id;
	uint32_t slot;
	uint32_t is_local;
	char peer[CONNECTIONS_PEER_MAX];
};

/* Ask the keeper. 0, or ERR_BUSY: it cannot be asked now. */
int	announce_send(struct wake *wake, const struct announce *announce);

/* Write the row of ANNOUNCE unless it has one. 0 or what the state says. */
int	announce_record(struct state_txn *txn, const struct board *board,
	    const struct announce *announce);

/* The keeper: once, so that the kernel tells who sent. 0 or ERR_SYSTEM. */
int	announce_listen(struct wake *wake, struct err *err);

/* The keeper: record all that have asked, in one transaction, and answer them. 0 or what the state
 * says; who got no answer helps himself. */
int	announce_serve(struct wake *wake, struct state *state);

#endif
