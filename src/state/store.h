/*
 * store: the environment in <persist_dir>/store, everything that outlives a restart.
 *
 * Synchronous commits; only the store process writes it, everybody else reads. It is used through the
 * same calls as the state (state/state.h), with the tables that begin with STORE_. Its
 * transactions are not marked on the board: a disk may take long, and nobody is killed for
 * that. So whoever reads bounds the transaction itself: pages that are freed meanwhile
 * cannot be used again.
 */
#ifndef LIMINAL_STATE_STORE_H
#define LIMINAL_STATE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "state/state.h"

/*
 * Create what is missing of the environment below PERSIST_DIR, which must exist, check that it can
 * be read and written, and close it. Only for the master, before its first fork, with the
 * directory's lock held. ERR_SYSTEM, ERR_FULL or ERR_CORRUPT with the path in ERR.
 */
int	store_create(const char *persist_dir, uint32_t max_connections, struct err *err);

/* The same with room for MAP_BYTES, less where the address space is limited; what has room for
 * more keeps it. */
int	store_create_sized(const char *persist_dir, uint32_t max_connections, size_t map_bytes,
	    struct err *err);

/* For the store process / for everybody else. 0 or a negative code. */
int	store_open(struct state **store, const char *persist_dir, struct err *err);
int	store_open_readonly(struct state **store, const char *persist_dir, struct err *err);

/* Is the store where whoever opens it next will look for it? Not when it was removed, moved or replaced: what is
 * written then is lost with this process. */
int	store_is_in_place(struct state *store);

/* Have the file grow before it has to (state/env.h). For the store process, between transactions; a
 * disk that is full is not this call's business: the next commit will tell. */
void	store_grow_ahead(struct state *store);

#endif
