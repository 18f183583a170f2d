/* client_conversations: the set of open conversations, against a plain array. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "client/client.h"

#define N_IDS	5000

/* Ids only grow, and any of those that are open may be closed: old ones stay among much newer
 * ones, so places collide. */
Test(client_conversations, finds_what_is_open_and_nothing_else)
{
	static uint8_t open[N_IDS + 1];
	const struct client_conversation *found;
	struct client_conversations set = { 0 };
	unsigned seed = 20260102;
	size_t n = 0;
	uint64_t id;

	client_conversations_remove(&set, 1);
	cr_assert(eq(ptr, (void *)(uintptr_t)client_conversations_find(&set, 1), NULL));
	for (uint64_t last = 1; last <= N_IDS; last++) {
		cr_assert(eq(int, client_conversations_add(&set, last, last * 3), 0));
		open[last] = 1;
		n++;
		while (rand_r(&seed) % 30 != 0 && n > 5) {
			id = 1 + (uint64_t)rand_r(&seed) % last;
			client_conversations_remove(&set, id);
			n -= open[id];
			open[id] = 0;
		}
		cr_assert(eq(sz, set.n, n));
		if (last % 50 != 0)
			continue;
		for (id = 0; id <= last + 100 && id <= N_IDS; id++) {
			found = client_conversations_find(&set, id);
			cr_assert(eq(int, found != NULL, open[id]));
			cr_assert(found == NULL || (found->id == id && found->opened_by == id * 3));
		}
	}
	client_conversations_free(&set);
	cr_assert(eq(sz, set.n, 0));
}
