/*
 * An example router: all jobs of one workflow go to the same worker, as long as it has room
 * (for workers that keep something of a workflow at hand); jobs without a workflow go to whoever
 * has the fewest.
 *
 *	cc -O2 -shared -fPIC -o sticky.so router-sticky.c
 *
 *	dispatch { router = "/usr/local/lib/liminal/sticky.so" }
 *
 * Each worker gets a number out of its id and the workflow's, and the highest one wins. So a
 * worker that comes or goes moves its own workflows only.
 */
#include <liminal/router.h>

static uint64_t
sticky_hash(uint64_t h, const char *text)
{
	for (; *text != '\0'; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t
sticky_score(const char *workflow_id, const char *worker_id)
{
	uint64_t h = sticky_hash(UINT64_C(0xcbf29ce484222325), workflow_id);

	h = sticky_hash(h, worker_id);
	/* FNV-1a's high bits hardly know of the last bytes, so they are stirred in. */
	h = (h ^ (h >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ (h >> 29);
}

static long
sticky_select(const struct liminal_router_request *request,
    const struct liminal_router_worker *workers, size_t n, char *reason, size_t reason_size)
{
	uint64_t score, best_score = 0;
	size_t i, best = 0;

	(void)reason, (void)reason_size;
	for (i = 0; i < n; i++) {
		if (request->workflow_id == NULL) {
			if (workers[i].in_flight < workers[best].in_flight)
				best = i;
			continue;
		}
		score = sticky_score(request->workflow_id, workers[i].worker_id);
		if (score > best_score) {
			best_score = score;
			best = i;
		}
	}
	return (long)best;
}

const struct liminal_router liminal_router = {
	.version = LIMINAL_ROUTER_VERSION,
	.select = sticky_select,
};
