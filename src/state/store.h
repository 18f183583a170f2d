/*
 * store: the environment in <persist_dir>/store, everything that outlives a restart.
 *
 * Synchronous commits; only the store process writes it, everybody else reads. It is used through the
 * same calls as the state (state/state.h), with the tables that begin with STORE_.
 */
#ifndef LIMINAL_STATE_STORE_H
#define LIMINAL_STATE_STORE_H

#include <stdint.h>

#include "base/err.h"
#include "state/state.h"

/*
 * Create what is missing of the environment below PERSIST_DIR, which must exist, check that it can
 * be read and written, and close it. Only for the master, before its first fork, with the
 * directory's lock held. ERR_SYSTEM, ERR_FULL or ERR_CORRUPT with the path in ERR.
 */
int	store_create(const char *persist_dir, uint32_t max_connections, struct err *err);

/* For the store process / for everybody else. WAKE as in state_open(). */
int	store_open(struct state **store, const char *persist_dir, struct wake *wake,
	    struct err *err);
int	store_open_readonly(struct state **store, const char *persist_dir, struct wake *wake,
	    struct err *err);

#endif
