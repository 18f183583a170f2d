/* The built-in routers. */
#include "base/hash.h"
#include "role/router.h"

static size_t
router_least_loaded(const struct router_request *request,
    const struct pool_worker *const *candidates, size_t n)
{
	size_t i, best = 0;

	(void)request;
	for (i = 1; i < n; i++)
		if (candidates[i]->row.in_flight < candidates[best]->row.in_flight)
			best = i;
	return best;
}

static size_t
router_round_robin(const struct router_request *request,
    const struct pool_worker *const *candidates, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (candidates[i]->conn_id > request->last_selected)
			return i;
	return 0;
}

/* The least loaded one of the node that the request names, or of all when none has it. */
static size_t
router_node_affinity(const struct router_request *request,
    const struct pool_worker *const *candidates, size_t n)
{
	const struct frame_view *node = &request->demand->node;
	uint64_t hash = hash_fnv1a(HASH_FNV1A_START, node->data, node->len);
	size_t i, best = n;

	for (i = 0; node->len > 0 && i < n; i++) {
		if (!(candidates[i]->row.flags & POOL_ROW_HAS_NODE) ||
		    candidates[i]->row.node_hash != hash)
			continue;
		if (best == n ||
		    candidates[i]->row.in_flight < candidates[best]->row.in_flight)
			best = i;
	}
	return best < n ? best : router_least_loaded(request, candidates, n);
}

static const struct router routers[] = {
	[CONF_ROUTER_LEAST_LOADED] = { "least_loaded", router_least_loaded },
	[CONF_ROUTER_ROUND_ROBIN] = { "round_robin", router_round_robin },
	[CONF_ROUTER_NODE_AFFINITY] = { "node_affinity", router_node_affinity },
};

const struct router *
router_by_conf(enum conf_router which)
{
	return &routers[which];
}
