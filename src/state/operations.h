/*
 * operations: first steps of recorded dispatches that their callers have not handed to the store yet.
 *
 * Key: conn id, request; row: the body of an INBOX_OPERATIONS entry. Most dispatches are over in less
 * time than the disk needs: their beginning waits here, where the end of the caller's
 * process cannot take it along, and goes to the store together with their end.
 */
#ifndef LIMINAL_STATE_OPERATIONS_H
#define LIMINAL_STATE_OPERATIONS_H

#include <stddef.h>
#include <stdint.h>

#include "state/state.h"

int	operations_put(struct state_txn *txn, uint64_t conn_id, uint64_t request,
	    const void *body, size_t len);
/* 0 also when there is none. */
int	operations_del(struct state_txn *txn, uint64_t conn_id, uint64_t request);

/* Post BODY, a step of CONN_ID's REQUEST, to the store. */
int	operations_post(struct state_txn *txn, uint64_t conn_id, uint64_t request,
	    const void *body, size_t len);

/* CONN_ID has ended: post what it kept back. */
int	operations_hand_over_all(struct state_txn *txn, uint64_t conn_id);

#endif
