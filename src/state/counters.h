/* counters: named numbers of the daemon, keys "count/<name>", that the keeper copies from the
 * board so that they can be read from outside and after a crash. */
#ifndef LIMINAL_STATE_COUNTERS_H
#define LIMINAL_STATE_COUNTERS_H

#include <stdint.h>

#include "state/state.h"

int	counters_put(struct state_txn *txn, const char *name, uint64_t value);
int	counters_get(struct state_txn *txn, const char *name, uint64_t *value);
int	counters_each(struct state_txn *txn,
	    int (*visit)(void *arg, const char *name, uint64_t value), void *arg);

#endif
