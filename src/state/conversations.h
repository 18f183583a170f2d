/* conversations: one row for each open conversation. Key: conn id, the client's conversation
 * id; row: form/record.h. */
#ifndef LIMINAL_STATE_CONVERSATIONS_H
#define LIMINAL_STATE_CONVERSATIONS_H

#include "form/record.h"
#include "state/state.h"

int	conversations_put(struct state_txn *txn, uint64_t conn_id, uint64_t conversation,
	    const struct record_conversation *record);
int	conversations_del(struct state_txn *txn, uint64_t conn_id, uint64_t conversation);
int	conversations_del_all(struct state_txn *txn, uint64_t conn_id);
int	conversations_each(struct state_txn *txn, int (*visit)(void *arg, uint64_t conn_id,
	    uint64_t conversation, const struct record_conversation *record), void *arg);

#endif
