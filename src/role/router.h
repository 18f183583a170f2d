/*
 * router: who gets a request (systems.md E3).
 *
 * A router picks one of the candidates: workers of the pool that accept the request, have room
 * and are not excluded. It may keep no state of its own but the pool's last selected
 * worker. It picks by index; a wrong one is an error of the router, not a dispatch.
 */
#ifndef LIMINAL_ROLE_ROUTER_H
#define LIMINAL_ROLE_ROUTER_H

#include <stddef.h>
#include <stdint.h>

#include "form/conf.h"
#include "form/frame.h"
#include "state/pool.h"

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
	/* Index of the choice among the N >= 1 candidates, in the order of conn ids. */
	size_t (*select)(const struct router_request *request,
	    const struct pool_worker *const *candidates, size_t n);
};

/* Never NULL. */
const struct router *router_by_conf(enum conf_router which);

#endif
