/*
 * keys: the idempotency keys that channels remember (systems.md G5), of the ephemeral ones in the
 * state, of the durable ones in the store.
 *
 *	keys		channel number (u32), SHA-256 of the key -> struct keys_row;
 *			channel number alone -> u64, how many keys of the channel are stored
 *	keys_by_age	channel number (u32), when it is forgotten (i64, real time), SHA-256 -> nothing
 *
 * A key whose time has passed is not there, whether its row was removed already or not.
 */
#ifndef LIMINAL_STATE_KEYS_H
#define LIMINAL_STATE_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "state/state.h"

/* Which environment's. */
enum keys_place { KEYS_IN_STATE, KEYS_IN_STORE };

struct keys_row {
	int64_t until_ns;	/* real time */
	uint64_t row;		/* of the store's inbox and */
	uint32_t item;		/* the publish in it that brought the key: so that a store process that */
	uint32_t pad;		/* answers what its predecessor has written tells first from second */
};

struct keys {
	struct state_txn *txn;
	enum keys_place place;
	uint32_t channel;	/* number in that environment */
};

/* Is the key remembered? 1 with *ROW (may be NULL), 0, or a negative code. */
int	keys_find(const struct keys *keys, const void *key, size_t len, int64_t now_ns,
	    struct keys_row *row);

/*
 * Remember the key (that was not found). 0, or ERR_BUSY when LIMIT keys are stored, or a negative code. What
 * is stored and forgotten counts until it is trimmed: whoever puts N keys of a channel trims at least N
 * before, in the same transaction. Then the count is exact: either everything that is forgotten
 * is gone, or there is room for all N.
 */
int	keys_put(const struct keys *keys, const void *key, size_t len, const struct keys_row *row,
	    uint64_t limit);

/* Forget up to LIMIT keys of this channel whose time has passed. Returns how many, or a negative
 * code; *NEXT_NS (may be NULL) gets when the next one passes, INT64_MAX = there is none. */
int	keys_trim(const struct keys *keys, int64_t now_ns, int limit, int64_t *next_ns);

#endif
