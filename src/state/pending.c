/* The queue of waiting requests. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "state/inbox.h"
#include "state/pending.h"

#define PENDING_VERSION	1
#define PENDING_QUEUED		"queued/"	/* in the counters table: awaiter, arrival */
#define PENDING_KEY	24

static void
pending_key_put(uint8_t key[PENDING_KEY], const struct pending_key *in)
{
	state_key_put(key, in->pool);
	state_key_put(key + 8, in->lane);
	state_key_put(key + 16, in->arrival);
}

static uint64_t
pending_first_lane(const struct pool_demand *demand)
{
	uint64_t type_len = demand->type.len, hash;

	if (demand->type.len == 0 && !demand->node_required)
		return 0;
	/* The length first: a type may contain any byte that could separate it from a node. */
	hash = hash_fnv1a(HASH_FNV1A_START, &type_len, sizeof type_len);
	hash = hash_fnv1a(hash, demand->type.data, demand->type.len);
	if (demand->node_required) {
		hash = hash_fnv1a(hash, "", 1);
		hash = hash_fnv1a(hash, demand->node.data, demand->node.len);
	}
	/* Never the last one: "behind this lane" must stay expressible. Nor the first. */
	return hash == UINT64_MAX || hash == 0 ? 1 : hash;
}

static int
pending_is_same(const struct frame_view *a, const struct frame_view *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static int
pending_read(const struct state_view *key, const struct state_view *view,
    struct pending_item *item)
{
	const uint8_t *at = view->data;
	size_t left;

	if (key->len != PENDING_KEY || view->len < sizeof item->row)
		return ERR_CORRUPT;
	item->key.pool = state_key_get(key->data);
	item->key.lane = state_key_get((const uint8_t *)key->data + 8);
	item->key.arrival = state_key_get((const uint8_t *)key->data + 16);
	memcpy(&item->row, at, sizeof item->row);
	at += sizeof item->row;
	left = view->len - sizeof item->row;
	if (item->row.version != PENDING_VERSION || item->row.type_len > left ||
	    item->row.node_len > left - item->row.type_len)
		return ERR_CORRUPT;
	item->demand.type.data = at;
	item->demand.type.len = item->row.type_len;
	item->demand.node.data = at + item->row.type_len;
	item->demand.node.len = item->row.node_len;
	item->demand.node_required = (item->row.flags & PENDING_NODE_REQUIRED) != 0;
	item->payload.data = item->demand.node.data + item->row.node_len;
	item->payload.len = left - item->row.type_len - item->row.node_len;
	return 0;
}

/* The lane for DEMAND: its own, or one that nobody has. */
static int
pending_find_lane(struct state_txn *txn, uint64_t pool, const struct pool_demand *demand,
    uint64_t *lane)
{
	struct pending_key first = { pool, pending_first_lane(demand), 0 };
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pending_item item;
	uint8_t start[PENDING_KEY];
	int rc;

	*lane = first.lane;
	if (first.lane == 0)
		return 0;	/* demands nothing, and nothing else gets here */
	if ((rc = state_cursor_open(txn, STATE_PENDING, &cursor)) != 0)
		return rc;
	for (;;) {
		pending_key_put(start, &first);
		rc = state_seek(cursor, start, sizeof start, &key, &view);
		if (rc == 0)
			rc = pending_read(&key, &view, &item);
		if (rc != 0 || item.key.pool != pool || item.key.lane != first.lane)
			break;
		if (pending_is_same(&item.demand.type, &demand->type) &&
		    item.demand.node_required == demand->node_required &&
		    (!demand->node_required ||
		    pending_is_same(&item.demand.node, &demand->node)))
			break;
		first.lane = first.lane + 1 == UINT64_MAX ? 1 : first.lane + 1;
	}
	state_cursor_close(cursor);
	*lane = first.lane;
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* What an awaiter has in the queues, found without a walk through the queues. */
struct pending_queued {
	uint64_t pool, lane;
	struct pool_name name;
};

#define PENDING_QUEUED_KEY	(sizeof PENDING_QUEUED - 1 + 16)

static void
pending_queued_key(uint8_t key[PENDING_QUEUED_KEY], uint64_t awaiter, uint64_t arrival)
{
	memcpy(key, PENDING_QUEUED, sizeof PENDING_QUEUED - 1);
	state_key_put(key + sizeof PENDING_QUEUED - 1, awaiter);
	state_key_put(key + sizeof PENDING_QUEUED - 1 + 8, arrival);
}

static int
pending_queued_put(struct state_txn *txn, uint64_t awaiter, const struct pending_key *where,
    const struct pool_name *name)
{
	uint8_t key[PENDING_QUEUED_KEY], *at;
	void *room;
	int rc;

	pending_queued_key(key, awaiter, where->arrival);
	rc = state_reserve(txn, STATE_COUNTERS, key, sizeof key, 16 + name->len, &room);
	if (rc != 0)
		return rc;
	at = room;
	memcpy(at, &where->pool, 8);
	memcpy(at + 8, &where->lane, 8);
	memcpy(at + 16, name->text, name->len);
	return 0;
}

static int
pending_queued_read(const struct state_view *view, struct pending_queued *out)
{
	if (view->len < 16 || view->len - 16 > sizeof out->name.text)
		return ERR_CORRUPT;
	memcpy(&out->pool, view->data, 8);
	memcpy(&out->lane, (const uint8_t *)view->data + 8, 8);
	out->name.len = view->len - 16;
	memcpy(out->name.text, (const uint8_t *)view->data + 16, out->name.len);
	return 0;
}

static int
pending_queued_del(struct state_txn *txn, uint64_t awaiter, uint64_t arrival)
{
	uint8_t key[PENDING_QUEUED_KEY];

	pending_queued_key(key, awaiter, arrival);
	return state_del(txn, STATE_COUNTERS, key, sizeof key);
}

uint64_t
pending_count_queued(struct state_txn *txn)
{
	const size_t prefix = sizeof PENDING_QUEUED - 1;
	struct state_cursor *cursor;
	struct state_view key, view;
	uint64_t n = 0;
	int rc;

	if (state_cursor_open(txn, STATE_COUNTERS, &cursor) != 0)
		return 0;
	for (rc = state_seek(cursor, PENDING_QUEUED, prefix, &key, &view);
	    rc == 0 && key.len > prefix && memcmp(key.data, PENDING_QUEUED, prefix) == 0;
	    rc = state_next(cursor, &key, &view))
		n++;
	state_cursor_close(cursor);
	return n;
}

int
pending_add(struct state_txn *txn, struct pool_snapshot *pool, uint32_t limit,
    uint64_t arrival, const struct pending_row *row, const struct pool_demand *demand,
    const struct frame_view *payload, struct pending_key *where)
{
	struct pending_row copy = *row;
	uint8_t key[PENDING_KEY], *at;
	void *room;
	int rc;

	/* A request that waited before is not turned away for coming back. */
	if (arrival == 0) {
		if (pool->meta.n_pending >= limit)
			return ERR_FULL;
		if ((arrival = state_next_id(txn)) == 0)
			return ERR_FULL;
	}
	where->pool = pool->meta.id | (row->flags & PENDING_ASKED ? PENDING_ROUTING : 0);
	where->arrival = arrival;
	if ((rc = pending_find_lane(txn, where->pool, demand, &where->lane)) != 0)
		return rc;
	copy.version = PENDING_VERSION;
	copy.type_len = (uint32_t)demand->type.len;
	copy.node_len = (uint32_t)demand->node.len;
	if (demand->node_required)
		copy.flags |= PENDING_NODE_REQUIRED;
	pending_key_put(key, where);
	rc = state_reserve(txn, STATE_PENDING, key, sizeof key,
	    sizeof copy + demand->type.len + demand->node.len + payload->len, &room);
	if (rc != 0)
		return rc;
	at = room;
	memcpy(at, &copy, sizeof copy);
	at += sizeof copy;
	if (demand->type.len > 0)
		memcpy(at, demand->type.data, demand->type.len);
	at += demand->type.len;
	if (demand->node.len > 0)
		memcpy(at, demand->node.data, demand->node.len);
	at += demand->node.len;
	if (payload->len > 0)
		memcpy(at, payload->data, payload->len);
	pool->meta.n_pending++;
	pool->meta_changed = 1;
	return pending_queued_put(txn, row->awaiter, where, &pool->name);
}

int
pending_remove(struct state_txn *txn, const struct pool_name *name,
    const struct pending_key *where)
{
	struct pending_item item;
	struct pool_meta meta;
	uint8_t key[PENDING_KEY];
	int rc;

	if ((rc = pending_get(txn, where, &item)) != 0)
		return rc;
	pending_key_put(key, where);
	if ((rc = pending_queued_del(txn, item.row.awaiter, where->arrival)) != 0 ||
	    (rc = state_del(txn, STATE_PENDING, key, sizeof key)) != 0 ||
	    (rc = pool_meta_get(txn, name, &meta)) != 0)
		return rc;
	meta.n_pending--;
	return pool_meta_put(txn, name, &meta);
}

int
pending_queue(struct state_txn *txn, const struct pool_name *name, struct pending_key *where)
{
	struct pending_item item;
	struct state_view view;
	uint8_t key[PENDING_KEY], *copy;
	struct pending_row row;
	int rc;

	pending_key_put(key, where);
	if ((rc = pending_get(txn, where, &item)) != 0 ||
	    (rc = state_get(txn, STATE_PENDING, key, sizeof key, &view)) != 0)
		return rc;
	row = item.row;
	row.flags &= (uint8_t)~PENDING_ASKED;
	where->pool &= ~PENDING_ROUTING;
	if ((rc = pending_find_lane(txn, where->pool, &item.demand, &where->lane)) != 0)
		return rc;
	/* The view points into a page that the next write may change. */
	if ((copy = malloc(view.len)) == NULL)
		return ERR_NOMEM;
	memcpy(copy, view.data, view.len);
	memcpy(copy, &row, sizeof row);
	rc = state_del(txn, STATE_PENDING, key, sizeof key);
	pending_key_put(key, where);
	if (rc == 0)
		rc = state_put(txn, STATE_PENDING, key, sizeof key, copy, view.len);
	free(copy);
	return rc != 0 ? rc : pending_queued_put(txn, row.awaiter, where, name);
}

int
pending_find(struct state_txn *txn, uint64_t awaiter, uint64_t arrival, struct pending_key *where)
{
	uint8_t key[PENDING_QUEUED_KEY];
	struct pending_queued queued;
	struct state_view view;
	int rc;

	pending_queued_key(key, awaiter, arrival);
	if ((rc = state_get(txn, STATE_COUNTERS, key, sizeof key, &view)) != 0 ||
	    (rc = pending_queued_read(&view, &queued)) != 0)
		return rc;
	*where = (struct pending_key){ queued.pool, queued.lane, arrival };
	return 0;
}

/*
 * Visit the first item of each lane of POOL from lane FIRST on. VISIT may not change the table. Its
 * first result other than 0 ends the walk.
 */
static int
pending_each_lane(struct state_txn *txn, uint64_t pool, uint64_t first,
    int (*visit)(void *arg, const struct pending_item *item), void *arg)
{
	struct pending_key from = { pool, first, 0 };
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pending_item item;
	uint8_t start[PENDING_KEY];
	int rc;

	if ((rc = state_cursor_open(txn, STATE_PENDING, &cursor)) != 0)
		return rc;
	for (;;) {
		pending_key_put(start, &from);
		rc = state_seek(cursor, start, sizeof start, &key, &view);
		if (rc == 0)
			rc = pending_read(&key, &view, &item);
		if (rc != 0 || item.key.pool != pool || (rc = visit(arg, &item)) != 0)
			break;
		from.lane = item.key.lane + 1;
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

struct pending_search {
	struct state_txn *txn;
	uint64_t conn_id;
	const struct pool_row *row;
	struct pending_item *oldest;
	int found;
};

static int
pending_consider(void *arg, const struct pending_item *item)
{
	struct pending_search *search = arg;
	int rc;

	if (search->found && item->key.arrival > search->oldest->key.arrival)
		return 0;
	rc = pool_accepts(search->txn, search->conn_id, search->row, &item->demand);
	if (rc < 0)
		return rc;
	if (rc == 1) {
		*search->oldest = *item;
		search->found = 1;
	}
	return 0;
}

int
pending_oldest(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
    const struct pool_row *row, struct pending_item *item)
{
	struct pending_search search = { txn, conn_id, row, item, 0 };
	int rc = pending_each_lane(txn, pool, 0, pending_consider, &search);

	if (rc != 0)
		return rc;
	return search.found ? 0 : ERR_NOTFOUND;
}

struct pending_orphan {
	struct state_txn *txn;
	struct pool_snapshot *pool;
	struct pending_key lane;
};

/* 1 with the lane in the argument when no worker of the pool accepts its items. */
static int
pending_is_orphan(void *arg, const struct pending_item *item)
{
	struct pending_orphan *orphan = arg;
	const struct pool_worker *worker;
	size_t i;
	int rc;

	for (i = 0; i < orphan->pool->n; i++) {
		worker = &orphan->pool->workers[i];
		rc = pool_accepts(orphan->txn, worker->conn_id, &worker->row, &item->demand);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	orphan->lane = item->key;
	return 1;
}

static int
pending_tell_orphan(struct state_txn *txn, const struct pending_item *item)
{
	struct inbox_entry entry;

	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_NO_WORKERS;
	entry.request = item->row.request;
	return inbox_post(txn, item->row.awaiter, item->row.awaiter_slot, &entry, NULL);
}

int
pending_refuse(struct state_txn *txn, const struct pool_name *name,
    const struct pending_item *item, uint16_t code, const char *text)
{
	const struct inbox_entry entry = {
		.kind = INBOX_FAILED, .code = code, .request = item->row.request,
		.len = (uint32_t)strlen(text)
	};
	int rc = inbox_post(txn, item->row.awaiter, item->row.awaiter_slot, &entry, text);

	return rc != 0 ? rc : pending_remove(txn, name, &item->key);
}

static int
pending_refuse_lane(struct state_txn *txn, const struct pending_key *lane, uint64_t *n_pending)
{
	struct pending_key from = { lane->pool, lane->lane, 0 };
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pending_item item;
	uint8_t start[PENDING_KEY];
	int rc;

	if ((rc = state_cursor_open(txn, STATE_PENDING, &cursor)) != 0)
		return rc;
	pending_key_put(start, &from);
	while ((rc = state_seek(cursor, start, sizeof start, &key, &view)) == 0 &&
	    (rc = pending_read(&key, &view, &item)) == 0) {
		if (item.key.pool != lane->pool || item.key.lane != lane->lane)
			break;
		if ((rc = pending_tell_orphan(txn, &item)) != 0 ||
		    (rc = pending_queued_del(txn, item.row.awaiter, item.key.arrival)) != 0 ||
		    (rc = state_cursor_del(cursor)) != 0)
			break;
		--*n_pending;
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* Those under KEY_POOL, which is the pool's id with or without PENDING_ROUTING. */
static int
pending_refuse_lanes(struct state_txn *txn, struct pool_snapshot *pool, uint64_t key_pool)
{
	struct pending_orphan orphan = { txn, pool, { 0, 0, 0 } };
	int rc;

	/* Each lane once: there may be thousands. */
	while ((rc = pending_each_lane(txn, key_pool, orphan.lane.lane, pending_is_orphan,
	    &orphan)) == 1) {
		rc = pending_refuse_lane(txn, &orphan.lane, &pool->meta.n_pending);
		if (rc != 0)
			break;
		orphan.lane.lane++;	/* never the last lane, see pending_first_lane() */
	}
	return rc;
}

int
pending_refuse_orphans(struct state_txn *txn, const struct pool_name *name)
{
	struct pool_snapshot pool;
	int rc;

	memset(&pool, 0, sizeof pool);
	rc = pool_snapshot_read(txn, name, &pool);
	if (rc == 0 && pool.meta.n_pending > 0) {
		rc = pending_refuse_lanes(txn, &pool, pool.meta.id);
		if (rc == 0)
			rc = pending_refuse_lanes(txn, &pool, pool.meta.id | PENDING_ROUTING);
		if (rc == 0)
			rc = pool_meta_put(txn, name, &pool.meta);
	}
	pool_snapshot_free(&pool);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* N requests fewer wait in the pool. */
static int
pending_lower(struct state_txn *txn, const struct pool_name *name, uint64_t n)
{
	struct pool_meta meta;
	int rc;

	if (n == 0)
		return 0;
	if ((rc = pool_meta_get(txn, name, &meta)) != 0)
		return rc;
	meta.n_pending -= n;
	return pool_meta_put(txn, name, &meta);
}

int
pending_cancel_awaiter(struct state_txn *txn, uint64_t awaiter)
{
	const size_t owner = sizeof PENDING_QUEUED - 1 + 8;
	struct pending_queued queued, last = { 0 };
	struct pending_key where;
	struct state_cursor *cursor;
	struct state_view key, view;
	uint8_t start[PENDING_QUEUED_KEY], row[PENDING_KEY];
	uint64_t n = 0;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_COUNTERS, &cursor)) != 0)
		return rc;
	pending_queued_key(start, awaiter, 0);
	while ((rc = state_seek(cursor, start, sizeof start, &key, &view)) == 0 &&
	    key.len == sizeof start && memcmp(key.data, start, owner) == 0) {
		if ((rc = pending_queued_read(&view, &queued)) != 0)
			break;
		where.pool = queued.pool;
		where.lane = queued.lane;
		where.arrival = state_key_get((const uint8_t *)key.data + owner);
		pending_key_put(row, &where);
		if ((rc = state_cursor_del(cursor)) != 0 ||
		    (rc = state_del(txn, STATE_PENDING, row, sizeof row)) != 0)
			break;
		/* The pools' rows lie in the table that the cursor walks: one write for each run. */
		if (queued.pool != last.pool && (rc = pending_lower(txn, &last.name, n)) != 0)
			break;
		n = queued.pool != last.pool ? 1 : n + 1;
		last = queued;
	}
	state_cursor_close(cursor);
	if (rc == 0 || rc == ERR_NOTFOUND)
		rc = pending_lower(txn, &last.name, n);
	return rc;
}

int
pending_get(struct state_txn *txn, const struct pending_key *where, struct pending_item *item)
{
	struct state_view key, view;
	uint8_t bytes[PENDING_KEY];
	int rc;

	pending_key_put(bytes, where);
	rc = state_get(txn, STATE_PENDING, bytes, sizeof bytes, &view);
	key.data = bytes;
	key.len = sizeof bytes;
	return rc != 0 ? rc : pending_read(&key, &view, item);
}

int
pending_each(struct state_txn *txn, int (*visit)(void *arg, const struct pending_item *item),
    void *arg)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pending_item item;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_PENDING, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0 && (rc = pending_read(&key, &view, &item)) == 0 &&
	    (rc = visit(arg, &item)) == 0)
		rc = state_next(cursor, &key, &view);
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
