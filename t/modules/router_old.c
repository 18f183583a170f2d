/* A router for a version of the interface that there is not. */
#include <liminal/router.h>

static long
old_select(const struct liminal_router_request *request,
    const struct liminal_router_worker *workers, size_t n, char *reason, size_t size)
{
	(void)request, (void)workers, (void)n, (void)reason, (void)size;
	return 0;
}

const struct liminal_router liminal_router = {
	.version = LIMINAL_ROUTER_VERSION + 1, .select = old_select
};
