/*
 * router: who gets a request (systems.md E3).
 *
 * A router picks one of the candidates: workers of the pool that accept the request, have room
 * and are not excluded. It may keep no state of its own but the pool's last selected
 * worker. It picks by index; a wrong one is an error of the router, not a dispatch.
 *
 * A router that is somebody's module has no function here: it is asked in its own process
 * (role/custom_router.h).
 */
#ifndef LIMINAL_ROLE_ROUTER_H
#define LIMINAL_ROLE_ROUTER_H

#include <stddef.h>
#include <stdint.h>

#include "form/conf.h"
#include "form/frame.h"
#include "state/pool.h"

/* What callers read. */
#define ROUTER_NO_WORKERS "NoWorkersAvailable: no dispatch workers are available"
#define ROUTER_NO_CANDIDATE "the router selected a worker that is not a candidate"

struct router_request {
	struct frame_view workflow_id;	/* empty when the request has none */
	const struct pool_name *pool;
	const struct pool_demand *demand;
	uint64_t last_selected;		/* conn id; 0 = none yet */
	const uint64_t *excluded;	/* conn ids of workers that ended on this request */
	size_t n_excluded;
};

struct router {
	const char *name;
	/* Index of the choice among the N >= 1 candidates, in the order of conn ids. NULL: a
	 * module is asked. */
	size_t (*select)(const struct router_request *request,
	    const struct pool_worker *const *candidates, size_t n);
};

/* Never NULL. */
const struct router *router_by_conf(enum conf_router which);

/* Who can get a request; its memory is kept for reuse. */
struct router_candidates {
	const struct pool_worker **list;	/* of the snapshot, in the order of conn ids */
	size_t n, size;
	size_t n_accepting;		/* with those that have no room */
};

/* The workers of POOL that accept DEMAND, have room and are not EXCLUDED. 0 or an error. */
int	router_find_candidates(struct state_txn *txn, const struct pool_snapshot *pool,
	    const struct pool_demand *demand, const uint64_t *excluded, size_t n_excluded,
	    struct router_candidates *out);
void	router_free_candidates(struct router_candidates *candidates);

#endif
