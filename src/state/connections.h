/*
 * connections: one row for each connection past its handshake. Key: conn id.
 *
 * The row is the anchor of everything else that belongs to a connection: it comes first and
 * goes in the transaction that removes all the rest (state/end.h), so "has it a row"
 * answers "can it be addressed" and "is anything left of it".
 */
#ifndef LIMINAL_STATE_CONNECTIONS_H
#define LIMINAL_STATE_CONNECTIONS_H

#include <stdint.h>

#include "state/state.h"

#define CONNECTIONS_VERSION	2
#define CONNECTIONS_PEER_MAX	64

/* To change the row: raise the version; the state is emptied at each start, so no old one is
 * ever read by a newer daemon. */
struct connections_row {
	uint16_t version;
	uint8_t is_worker;
	uint8_t is_local;	/* loopback or Unix socket */
	uint32_t slot;		/* on the board */
	int32_t pid;
	uint32_t has_history;	/* dispatches of it are recorded: the store learns of its end */
	int64_t since_ns;	/* real time */
	char peer[CONNECTIONS_PEER_MAX];
};

int	connections_put(struct state_txn *txn, uint64_t conn_id, const struct connections_row *row);
int	connections_get(struct state_txn *txn, uint64_t conn_id, struct connections_row *row);
/* Remember that dispatches of this connection are recorded: its end is then told to the store. */
int	connections_mark_recorded(struct state_txn *txn, uint64_t conn_id);
/* 0 or ERR_NOTFOUND (or what the state says). */
int	connections_exists(struct state_txn *txn, uint64_t conn_id);
/* Remember that dispatches of this connection are recorded: its end is then told to the store. */
int	connections_mark_recorded(struct state_txn *txn, uint64_t conn_id);
int	connections_del(struct state_txn *txn, uint64_t conn_id);

/* Visit every row in the order of conn ids; VISIT's first non-zero result ends the walk. */
int	connections_each(struct state_txn *txn,
	    int (*visit)(void *arg, uint64_t conn_id, const struct connections_row *row),
	    void *arg);

#endif
