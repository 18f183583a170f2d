/* The built-in routers, and whom any router may choose. */
#include <stdlib.h>

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

/*
 * The least loaded one of the node that the request names, or of all when none of them is there. It
 * goes by the hash of the name: who makes another name with the same one loses nothing but a
 * preference, and may name any node anyway. Required nodes are compared: pool_accepts().
 */
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
	[CONF_ROUTER_MODULE] = { "module", NULL },
};

const struct router *
router_by_conf(enum conf_router which)
{
	return &routers[which];
}

static int
router_is_excluded(const uint64_t *excluded, size_t n, uint64_t conn_id)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (excluded[i] == conn_id)
			return 1;
	return 0;
}

static int
router_grow(struct router_candidates *candidates, size_t n)
{
	const struct pool_worker **more;

	if (n <= candidates->size)
		return 0;
	if ((more = realloc(candidates->list, n * sizeof *more)) == NULL)
		return ERR_NOMEM;
	candidates->list = more;
	candidates->size = n;
	return 0;
}

int
router_find_candidates(struct state_txn *txn, const struct pool_snapshot *pool,
    const struct pool_demand *demand, const uint64_t *excluded, size_t n_excluded,
    struct router_candidates *out)
{
	const struct pool_worker *worker;
	size_t i;
	int rc;

	out->n = out->n_accepting = 0;
	if ((rc = router_grow(out, pool->n)) != 0)
		return rc;
	for (i = 0; i < pool->n; i++) {
		worker = &pool->workers[i];
		if (n_excluded > 0 && router_is_excluded(excluded, n_excluded, worker->conn_id))
			continue;
		rc = pool_accepts(txn, worker->conn_id, &worker->row, demand);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		out->n_accepting++;
		if ((worker->row.flags & POOL_ROW_READY) &&
		    worker->row.in_flight < worker->row.max_concurrent)
			out->list[out->n++] = worker;
	}
	return 0;
}

void
router_free_candidates(struct router_candidates *candidates)
{
	free(candidates->list);
	*candidates = (struct router_candidates){ NULL, 0, 0, 0 };
}
