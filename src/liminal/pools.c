/*
 * liminal pools: what each pool has: workers, jobs with them, jobs that wait.
 *
 * A job counts for the pool that it was dispatched to, so that the numbers of a worker in
 * several pools add up.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "liminal/inspect.h"
#include "state/pending.h"
#include "state/pushes.h"

#define POOLS_NAME_PREFIX	"pool/"		/* state/pool.h */

const char *const pools_columns[POOLS_N_COLUMNS] = {
	"pool", "workers", "in_flight", "pending", "oldest_pending_ms"
};

struct pools_gathering {
	struct look *look;
	struct pools *pools;
	struct pools_item **by_id;
};

/* ---- names ---- */

static int
pools_copy(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	const size_t prefix = sizeof(POOLS_NAME_PREFIX) - 1;
	struct pools_item *item = arg;
	struct pool_meta meta;
	int rc;

	(void)row;
	if (key->len <= prefix || memcmp(key->data, POOLS_NAME_PREFIX, prefix) != 0)
		return WALK_SKIP;
	item->name.len = key->len - prefix;
	if (item->name.len > sizeof(item->name.text))
		return ERR_CORRUPT;
	memcpy(item->name.text, (const char *)key->data + prefix, item->name.len);
	if ((rc = pool_meta_get(txn, &item->name, &meta)) != 0)
		return rc;
	item->id = meta.id;
	item->workers = meta.n_workers;
	item->pending = meta.n_pending;
	return 0;
}

static int
pools_add(void *arg, void *item)
{
	struct pools_gathering *gathering = arg;
	struct pools *pools = gathering->pools;
	struct pools_item *more;

	if (pools->n == pools->size) {
		pools->size = pools->size > 0 ? 2 * pools->size : 16;
		more = reallocarray(pools->list, pools->size, sizeof(*more));
		if (more == NULL) {
			cli_complain(gathering->look->cli, "out of memory");
			return -1;
		}
		pools->list = more;
	}
	memcpy(&pools->list[pools->n++], item, sizeof(struct pools_item));
	return 0;
}

static int
pools_compare_ids(const void *a, const void *b)
{
	const struct pools_item *const *x = a, *const *y = b;

	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static int
pools_index(struct pools_gathering *gathering)
{
	struct pools *pools = gathering->pools;

	gathering->by_id = calloc(pools->n + 1, sizeof(gathering->by_id[0]));
	if (gathering->by_id == NULL) {
		cli_complain(gathering->look->cli, "out of memory");
		return -1;
	}
	for (size_t i = 0; i < pools->n; i++)
		gathering->by_id[i] = &pools->list[i];
	qsort(gathering->by_id, pools->n, sizeof(gathering->by_id[0]), pools_compare_ids);
	return 0;
}

/* NULL for one that came later. */
static struct pools_item *
pools_find(const struct pools_gathering *gathering, uint64_t id)
{
	struct pools_item wanted = { .id = id };
	const struct pools_item *key = &wanted;
	struct pools_item **found;

	found = bsearch(&key, gathering->by_id, gathering->pools->n, sizeof(*found),
	    pools_compare_ids);
	return found == NULL ? NULL : *found;
}

/* ---- jobs with workers ---- */

struct pools_push { uint64_t pool; };

static int
pools_copy_push(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct pools_push *item = arg;
	struct pushes_row push;
	int rc;

	(void)row;
	if (key->len != 16)
		return ERR_CORRUPT;
	rc = pushes_get(txn, state_key_get(key->data),
	    state_key_get((const uint8_t *)key->data + 8), &push, NULL);
	if (rc != 0)
		return rc;
	item->pool = push.pool;
	return push.kind == PUSHES_JOB ? 0 : WALK_SKIP;
}

static int
pools_count_push(void *arg, void *row)
{
	const struct pools_push *push = row;
	struct pools_item *item = pools_find(arg, push->pool);

	if (item != NULL)
		item->in_flight++;
	return 0;
}

/* ---- jobs that wait ---- */

struct pools_wait { uint64_t pool; int64_t since_ns; };

static int
pools_copy_wait(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct pools_wait *item = arg;
	struct pending_item pending;
	struct pending_key where;
	int rc;

	(void)row;
	if (key->len != 24)
		return ERR_CORRUPT;
	where.pool = state_key_get(key->data);
	where.lane = state_key_get((const uint8_t *)key->data + 8);
	where.arrival = state_key_get((const uint8_t *)key->data + 16);
	if ((rc = pending_get(txn, &where, &pending)) != 0)
		return rc;
	item->pool = where.pool & ~PENDING_ROUTING;
	item->since_ns = pending.row.since_ns;
	return 0;
}

static int
pools_note_wait(void *arg, void *row)
{
	const struct pools_wait *wait = row;
	struct pools_item *item = pools_find(arg, wait->pool);

	if (item != NULL && (item->oldest_ns == 0 || wait->since_ns < item->oldest_ns))
		item->oldest_ns = wait->since_ns;
	return 0;
}

int
pools_collect(struct look *look, struct pools *pools)
{
	static const struct walk names = {
		.table = STATE_COUNTERS, .item_size = sizeof(struct pools_item),
		.copy = pools_copy, .show = pools_add,
	};
	static const struct walk waits = {
		.table = STATE_PENDING, .item_size = sizeof(struct pools_wait),
		.copy = pools_copy_wait, .show = pools_note_wait,
	};
	static const struct walk pushes = {
		.table = STATE_PUSHES, .item_size = sizeof(struct pools_push),
		.copy = pools_copy_push, .show = pools_count_push,
	};
	struct pools_gathering gathering = { .look = look, .pools = pools };
	int r;

	memset(pools, 0, sizeof(*pools));
	r = walk_table(look, &names, &gathering);
	if (r == 0)
		r = pools_index(&gathering);
	if (r == 0)
		r = walk_table(look, &waits, &gathering);
	if (r == 0)
		r = walk_table(look, &pushes, &gathering);
	free(gathering.by_id);
	return r;
}

void
pools_free(struct pools *pools)
{
	free(pools->list);
	memset(pools, 0, sizeof(*pools));
}

void
pools_show(struct listing *listing, const struct pools_item *item, int64_t now_ns)
{
	struct pool_name name = item->name;
	char *dot = memchr(name.text, '.', name.len);

	/* As dispatch and work take it. */
	if (dot != NULL)
		*dot = '/';
	listing_begin_row(listing, NULL);
	listing_text(listing, "pool", name.text, name.len);
	listing_number(listing, "workers", item->workers);
	listing_number(listing, "in_flight", item->in_flight);
	listing_number(listing, "pending", item->pending);
	if (item->oldest_ns != 0)
		listing_age(listing, "oldest_pending_ms", item->oldest_ns, now_ns);
	else
		listing_absent(listing, "oldest_pending_ms");
	listing_end_row(listing);
}

int
command_pools(struct cli *cli)
{
	struct listing listing;
	struct pools pools;
	struct look look;
	int r;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	if (look_open(&look, cli) != 0)
		return CLI_FAILED;
	r = pools_collect(&look, &pools);
	if (r == 0) {
		listing_open(&listing, cli, pools_columns, POOLS_N_COLUMNS);
		for (size_t i = 0; i < pools.n; i++)
			pools_show(&listing, &pools.list[i], clock_now_ns());
		r = listing_close(&listing);
	}
	pools_free(&pools);
	return look_close(&look, r == 0 ? CLI_DONE : CLI_FAILED);
}
