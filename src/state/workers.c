/* The workers table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "state/connections.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/pushes.h"
#include "state/workers.h"

#define WORKERS_CACHE		64	/* registrations that are remembered */
#define WORKERS_NEXT_POOL	"next/pool"

/* What workers_known remembers: direct-mapped by conn id, the oldest is overwritten. */
struct workers_type { uint64_t hash; struct frame_view name; };
struct workers_entry {
	uint64_t conn_id, sequence;	/* 0 = not valid (any more) */
	struct record_registration registration;
	struct workers_type *types;	/* by hash; views into the registration */
	uint32_t n;
};
static struct workers_entry workers_cache[WORKERS_CACHE];

int
workers_get(struct state_txn *txn, uint64_t conn_id, struct record_registration *out)
{
	struct state_view view;
	uint8_t key[8];
	int rc;

	state_key_put(key, conn_id);
	rc = state_get(txn, STATE_WORKERS, key, sizeof key, &view);
	return rc != 0 ? rc : record_unpack_registration(view.data, view.len, out);
}

static int
workers_put(struct state_txn *txn, uint64_t conn_id, const struct record_registration *in)
{
	struct buf image = { 0 };
	uint8_t key[8];
	int rc;

	/* An aborted transaction's number, and so its sequence, is given out again. */
	workers_cache[conn_id % WORKERS_CACHE].conn_id = 0;
	rc = record_pack_registration(in, &image);
	if (rc == 0) {
		state_key_put(key, conn_id);
		rc = state_put(txn, STATE_WORKERS, key, sizeof key, buf_head(&image),
		    buf_len(&image));
	}
	buf_free(&image);
	return rc;
}

void
workers_pools_free(struct workers_pools *pools)
{
	free(pools->list);
	pools->list = NULL;
	pools->n = 0;
}

/* Names of the pools of a registration, one per namespace, without the second of two equal ones. */
static int
workers_pool_names(const struct record_registration *registration, struct workers_pools *pools)
{
	struct frame_view next = registration->namespaces.encoded, space;
	struct pool_name *name;
	size_t i;

	pools->n = 0;
	pools->list = calloc(registration->namespaces.count + 1, sizeof *pools->list);
	if (pools->list == NULL)
		return ERR_NOMEM;
	while (frame_vec_next(&next, &space)) {
		name = &pools->list[pools->n].name;
		pool_name_set(name, &space, &registration->task_queue);
		for (i = 0; i < pools->n; i++)
			if (pools->list[i].name.len == name->len &&
			    memcmp(pools->list[i].name.text, name->text, name->len) == 0)
				break;
		if (i == pools->n)
			pools->n++;
	}
	return 0;
}

static int
workers_next_pool_id(struct state_txn *txn, uint64_t *id)
{
	struct state_view view;
	int rc;

	*id = 0;
	rc = state_get(txn, STATE_COUNTERS, WORKERS_NEXT_POOL, sizeof WORKERS_NEXT_POOL - 1,
	    &view);
	if (rc == 0 && view.len == sizeof *id)
		memcpy(id, view.data, sizeof *id);
	else if (rc != ERR_NOTFOUND)
		return rc == 0 ? ERR_CORRUPT : rc;
	++*id;
	return state_put(txn, STATE_COUNTERS, WORKERS_NEXT_POOL, sizeof WORKERS_NEXT_POOL - 1, id,
	    sizeof *id);
}

static int
workers_join(struct state_txn *txn, uint64_t conn_id, const struct pool_name *name,
    const struct pool_row *row, uint64_t *pool)
{
	struct pool_meta meta;
	int rc;

	rc = pool_meta_get(txn, name, &meta);
	if (rc == ERR_NOTFOUND) {
		memset(&meta, 0, sizeof meta);
		rc = workers_next_pool_id(txn, &meta.id);
	}
	if (rc != 0)
		return rc;
	meta.n_workers++;
	*pool = meta.id;
	if ((rc = pool_meta_put(txn, name, &meta)) != 0)
		return rc;
	return pool_row_put(txn, meta.id, conn_id, row);
}

/* Take the worker's row out of a pool; its meta row stays while requests wait there. */
static int
workers_leave(struct state_txn *txn, uint64_t conn_id, const struct pool_name *name)
{
	struct pool_meta meta;
	int rc;

	if ((rc = pool_meta_get(txn, name, &meta)) == 0 &&
	    (rc = pool_row_del(txn, meta.id, conn_id)) == 0) {
		meta.n_workers--;
		rc = pool_meta_put(txn, name, &meta);
	}
	return rc == ERR_NOTFOUND ? 0 : rc;
}

static int
workers_count_jobs(void *arg, uint64_t target, uint64_t correlation,
    const struct pushes_row *row, const struct frame_view *payload)
{
	uint32_t *jobs = arg;

	(void)target, (void)correlation, (void)payload;
	*jobs += row->kind == PUSHES_JOB;
	return 0;
}

static int
workers_mark_role(struct state_txn *txn, uint64_t conn_id, int is_worker)
{
	struct connections_row row;
	int rc;

	if ((rc = connections_get(txn, conn_id, &row)) != 0)
		return rc;
	row.is_worker = (uint8_t)is_worker;
	return connections_put(txn, conn_id, &row);
}

/* The pools of the registration that CONN_ID has now; none is not an error. */
static int
workers_old_pools(struct state_txn *txn, uint64_t conn_id, struct workers_pools *pools)
{
	struct record_registration old;
	int rc;

	pools->list = NULL;
	pools->n = 0;
	if ((rc = workers_get(txn, conn_id, &old)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	rc = workers_pool_names(&old, pools);
	record_free_registration(&old);
	return rc;
}

/* The rows of a registration and the ids of its pools, into POOLS and the record. */
static int
workers_enter(struct state_txn *txn, uint64_t conn_id, const struct pool_row *row,
    struct record_registration *registration, struct workers_pools *pools)
{
	uint64_t *ids;
	size_t i;
	int rc = 0;

	if ((ids = calloc(pools->n + 1, sizeof *ids)) == NULL)
		return ERR_NOMEM;
	for (i = 0; rc == 0 && i < pools->n; i++) {
		rc = workers_join(txn, conn_id, &pools->list[i].name, row, &ids[i]);
		pools->list[i].id = ids[i];
	}
	registration->pools.data = (const uint8_t *)ids;
	registration->pools.len = pools->n * sizeof *ids;
	if (rc == 0)
		rc = workers_put(txn, conn_id, registration);
	registration->pools.data = NULL;
	registration->pools.len = 0;
	free(ids);
	return rc;
}

static void
workers_row_init(struct pool_row *row, uint32_t slot, int ready, uint32_t in_flight,
    size_t n_pools, const struct record_registration *registration)
{
	memset(row, 0, sizeof *row);
	row->flags = (uint8_t)((ready ? POOL_ROW_READY : 0) |
	    (registration->activity_types.count == 0 ? POOL_ROW_ALL_TYPES : 0) |
	    (registration->node.present ? POOL_ROW_HAS_NODE : 0));
	row->slot = slot;
	row->in_flight = in_flight;
	row->max_concurrent = registration->max_concurrent;
	row->n_pools = (uint32_t)n_pools;
	row->sequence = registration->sequence;
	row->node_hash = hash_fnv1a(HASH_FNV1A_START, registration->node.view.data,
	    registration->node.view.len);
	row->since_ns = registration->since_ns;
}

int
workers_register(struct state_txn *txn, uint64_t conn_id, uint32_t slot, int ready,
    struct record_registration *registration, struct workers_pools *pools)
{
	struct workers_pools left = { NULL, 0 };
	struct pool_row row;
	uint32_t in_flight = 0;
	size_t i;
	int rc;

	registration->since_ns = clock_realtime_ns();
	registration->sequence = state_txn_number(txn);
	/* What it still owes from an earlier registration goes on occupying it. */
	rc = pushes_each_of(txn, conn_id, 0, workers_count_jobs, &in_flight);
	if (rc == 0)
		rc = workers_old_pools(txn, conn_id, &left);
	for (i = 0; rc == 0 && i < left.n; i++)
		rc = workers_leave(txn, conn_id, &left.list[i].name);
	if (rc == 0 && (rc = workers_pool_names(registration, pools)) == 0) {
		workers_row_init(&row, slot, ready, in_flight, pools->n, registration);
		rc = workers_enter(txn, conn_id, &row, registration, pools);
		/* Only now: who waits in a pool that it stays in keeps waiting. */
		for (i = 0; rc == 0 && i < left.n; i++)
			rc = pending_refuse_orphans(txn, &left.list[i].name);
		if (rc == 0)
			rc = workers_mark_role(txn, conn_id, 1);
		if (rc != 0)
			workers_pools_free(pools);
	}
	workers_pools_free(&left);
	return rc;
}

/* Write ROW to every pool; a worker's rows are kept equal. */
static int
workers_write_rows(struct state_txn *txn, uint64_t conn_id, const struct workers_pools *pools,
    const struct pool_row *row)
{
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < pools->n; i++)
		rc = pool_row_put(txn, pools->list[i].id, conn_id, row);
	return rc;
}

int
workers_make_ready(struct state_txn *txn, uint64_t conn_id, const struct workers_pools *pools)
{
	struct pool_row row;
	int rc;

	rc = pool_row_get(txn, pools->list[0].id, conn_id, &row);
	if (rc != 0)
		return rc;
	row.flags |= POOL_ROW_READY;
	return workers_write_rows(txn, conn_id, pools, &row);
}

int
workers_unregister(struct state_txn *txn, uint64_t conn_id)
{
	struct workers_pools left;
	uint8_t key[8];
	size_t i;
	int rc;

	rc = workers_old_pools(txn, conn_id, &left);
	for (i = 0; rc == 0 && i < left.n; i++)
		rc = workers_leave(txn, conn_id, &left.list[i].name);
	for (i = 0; rc == 0 && i < left.n; i++)
		rc = pending_refuse_orphans(txn, &left.list[i].name);
	workers_pools_free(&left);
	if (rc != 0)
		return rc;
	state_key_put(key, conn_id);
	rc = state_del(txn, STATE_WORKERS, key, sizeof key);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

static int
workers_compare_types(const void *a, const void *b)
{
	const struct workers_type *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int
workers_cache_fill(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
    struct workers_entry *entry)
{
	struct record_registration registration;
	struct workers_type *types;
	struct frame_view next, name;
	uint32_t n = 0;
	int rc;

	if ((rc = workers_get(txn, conn_id, &registration)) != 0)
		return rc;
	types = malloc((registration.activity_types.count + 1) * sizeof *types);
	if (types == NULL) {
		record_free_registration(&registration);
		return ERR_NOMEM;
	}
	next = registration.activity_types.encoded;
	while (frame_vec_next(&next, &name)) {
		types[n].hash = hash_fnv1a(HASH_FNV1A_START, name.data, name.len);
		types[n++].name = name;
	}
	qsort(types, n, sizeof *types, workers_compare_types);
	record_free_registration(&entry->registration);
	free(entry->types);
	*entry = (struct workers_entry){ conn_id, sequence, registration, types, n };
	return 0;
}

static int
workers_lookup(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
    struct workers_entry **entry)
{
	*entry = &workers_cache[conn_id % WORKERS_CACHE];
	if ((*entry)->conn_id == conn_id && (*entry)->sequence == sequence)
		return 0;
	return workers_cache_fill(txn, conn_id, sequence, *entry);
}

int
workers_known(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
    const struct record_registration **registration)
{
	struct workers_entry *entry;
	int rc = workers_lookup(txn, conn_id, sequence, &entry);

	*registration = &entry->registration;
	return rc;
}

static int
workers_is_same(const struct frame_view *a, const struct frame_view *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int
workers_has_type(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
    const struct frame_view *type)
{
	struct workers_type key = { hash_fnv1a(HASH_FNV1A_START, type->data, type->len), *type };
	struct workers_entry *entry;
	const struct workers_type *at;
	int rc;

	if ((rc = workers_lookup(txn, conn_id, sequence, &entry)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	if (entry->n == 0)
		return 0;
	at = bsearch(&key, entry->types, entry->n, sizeof *at, workers_compare_types);
	if (at == NULL)
		return 0;
	while (at > entry->types && at[-1].hash == key.hash)
		at--;
	for (; at < entry->types + entry->n && at->hash == key.hash; at++)
		if (workers_is_same(&at->name, type))
			return 1;
	return 0;
}

int
workers_has_node(struct state_txn *txn, uint64_t conn_id, uint64_t sequence,
    const struct frame_view *node)
{
	struct workers_entry *entry;
	int rc = workers_lookup(txn, conn_id, sequence, &entry);

	if (rc != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	return entry->registration.node.present &&
	    workers_is_same(&entry->registration.node.view, node);
}

char *
workers_id(struct state_txn *txn, uint64_t conn_id, char out[WORKERS_ID_SIZE])
{
	struct record_registration registration;
	int len = 0;

	if (workers_get(txn, conn_id, &registration) == 0) {
		len = (int)registration.identity.len;
		if (len > 0)
			memcpy(out, registration.identity.data, (size_t)len);
		record_free_registration(&registration);
	}
	snprintf(out + len, (size_t)(WORKERS_ID_SIZE - len), "#%llu",
	    (unsigned long long)conn_id);
	return out;
}

int
workers_each(struct state_txn *txn,
    int (*visit)(void *arg, uint64_t conn_id, const struct record_registration *registration),
    void *arg)
{
	struct record_registration registration;
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_WORKERS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		rc = key.len == 8 ?
		    record_unpack_registration(view.data, view.len, &registration) : ERR_CORRUPT;
		if (rc != 0)
			break;
		rc = visit(arg, state_key_get(key.data), &registration);
		record_free_registration(&registration);
		if (rc == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* The oldest request in any of the worker's pools, and in which one. */
static int
workers_oldest(struct state_txn *txn, uint64_t conn_id, const struct pool_row *row,
    const struct workers_pools *pools, struct pending_item *oldest, const struct pool_name **name)
{
	struct pending_item item;
	size_t i;
	int rc;

	*name = NULL;
	for (i = 0; i < pools->n; i++) {
		rc = pending_oldest(txn, pools->list[i].id, conn_id, row, &item);
		if (rc == ERR_NOTFOUND)
			continue;
		if (rc != 0)
			return rc;
		if (*name == NULL || item.key.arrival < oldest->key.arrival) {
			*oldest = item;
			*name = &pools->list[i].name;
		}
	}
	return *name == NULL ? ERR_NOTFOUND : 0;
}

static int
workers_tell_start(struct state_txn *txn, uint64_t conn_id, const struct pushes_row *push)
{
	struct inbox_entry started;
	char id[WORKERS_ID_SIZE];

	memset(&started, 0, sizeof started);
	started.kind = INBOX_STARTED;
	started.request = push->request;
	started.conn_id = conn_id;
	workers_id(txn, conn_id, id);
	started.len = (uint32_t)strlen(id);
	return inbox_post(txn, push->awaiter, push->awaiter_slot, &started, id);
}

int
workers_take(struct state_txn *txn, uint64_t conn_id, uint32_t slot,
    const struct pending_item *item, const struct pool_name *name)
{
	struct frame_view payload = item->payload;
	struct pushes_row push;
	uint64_t correlation;
	uint8_t *copy;
	int rc;

	memset(&push, 0, sizeof push);
	push.kind = PUSHES_JOB;
	push.flags = item->row.flags & PENDING_TYPED ? PUSHES_TYPED : 0;
	push.awaiter = item->row.awaiter;
	push.awaiter_slot = item->row.awaiter_slot;
	push.request = item->row.request;
	push.pool = item->key.pool & ~PENDING_ROUTING;
	push.since_ns = clock_now_ns();
	/* The view points into a page that the next write may change. */
	if ((copy = malloc(payload.len + 1)) == NULL)
		return ERR_NOMEM;
	memcpy(copy, payload.data, payload.len);
	payload.data = copy;
	rc = pushes_add(txn, conn_id, slot, &push, &payload, &correlation);
	free(copy);
	if (rc == 0)
		rc = pending_remove(txn, name, &item->key);
	if (rc == 0 && (item->row.flags & PENDING_TELL_START))
		rc = workers_tell_start(txn, conn_id, &push);
	return rc;
}

int
workers_settle(struct state_txn *txn, uint64_t conn_id, const struct workers_pools *pools,
    uint32_t freed)
{
	const struct pool_name *name;
	struct pending_item item;
	struct pool_row row;
	int rc;

	if ((rc = pool_row_get(txn, pools->list[0].id, conn_id, &row)) != 0)
		return rc;
	row.in_flight -= freed < row.in_flight ? freed : row.in_flight;
	while ((row.flags & POOL_ROW_READY) && row.in_flight < row.max_concurrent &&
	    state_count(txn, STATE_PENDING) > 0) {
		rc = workers_oldest(txn, conn_id, &row, pools, &item, &name);
		if (rc == ERR_NOTFOUND)
			break;
		if (rc == 0 && !state_fits(txn, item.payload.len)) {
			/* The copy, which comes first, does not fit. */
			rc = pending_refuse(txn, name, &item, FRAME_REASON_PRESSURE,
			    STATE_FULL_TEXT);
		} else if (rc == 0) {
			rc = workers_take(txn, conn_id, row.slot, &item, name);
			row.in_flight++;
		}
		if (rc != 0)
			return rc;
	}
	return workers_write_rows(txn, conn_id, pools, &row);
}
