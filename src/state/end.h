/*
 * end: the one close path of a connection (systems.md A5).
 *
 * Whatever the route, this removes the connection, its registration, its pool rows, its
 * conversations, its subscriptions with the consumers' names that they hold, and its waiting
 * requests, tells the notifier, resolves the pushes that it owed, and wakes their awaiters, in one transaction. The connection's own process does it before it
 * exits; the keeper does it again, to no effect then, when the master has seen the end.
 */
#ifndef LIMINAL_STATE_END_H
#define LIMINAL_STATE_END_H

#include <stdint.h>

#include "state/state.h"

/* 1 if something was removed, 0 if nothing of CONN_ID was left, or a negative code. REASON is
 * what the awaiters get to read. */
int	end_connection(struct state_txn *txn, uint64_t conn_id, const char *reason);

#endif
