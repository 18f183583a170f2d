/* client_table: what is open on a connection, against a plain array. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "client/client.h"

#define N_IDS	5000

/* Ids only grow, and any of those that are open may be closed: old ones stay among much newer
 * ones, so places collide. */
Test(client_table, finds_what_is_open_and_nothing_else)
{
	static uint8_t open[N_IDS + 1];
	const struct client_entry *found;
	struct client_table table = { 0 };
	unsigned seed = 20260102;
	size_t n = 0;
	uint64_t id;

	client_table_remove(&table, 1);
	cr_assert(eq(ptr, (void *)(uintptr_t)client_table_find(&table, 1), NULL));
	for (uint64_t last = 1; last <= N_IDS; last++) {
		cr_assert(eq(int, client_table_add(&table, (struct client_entry){
		    .id = last, .u.opened_by = last * 3 }), 0));
		open[last] = 1;
		n++;
		while (rand_r(&seed) % 30 != 0 && n > 5) {
			id = 1 + (uint64_t)rand_r(&seed) % last;
			client_table_remove(&table, id);
			n -= open[id];
			open[id] = 0;
		}
		cr_assert(eq(sz, table.n, n));
		if (last % 50 != 0)
			continue;
		for (id = 0; id <= last + 100 && id <= N_IDS; id++) {
			found = client_table_find(&table, id);
			cr_assert(eq(int, found != NULL, open[id]));
			cr_assert(found == NULL || (found->id == id && found->u.opened_by == id * 3));
		}
	}
	client_table_free(&table);
	cr_assert(eq(sz, table.n, 0));
}
