/* The pool table and the pools' meta rows. Selection is not made here but by role/router.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "state/pool.h"
#include "state/workers.h"

#define POOL_VERSION	1
#define POOL_KEY_PREFIX	"pool/"
#define POOL_KEY_MAX	(sizeof POOL_KEY_PREFIX - 1 + sizeof ((struct pool_name *)0)->text)

const char *
pool_part_fault(const struct frame_view *part)
{
	size_t i;

	if (part->len == 0)
		return "is empty";
	if (part->len > POOL_NAME_MAX)
		return "is longer than 200 bytes";
	for (i = 0; i < part->len; i++) {
		if (part->data[i] == '.')
			return "contains a dot";
		if (part->data[i] < 0x20 || part->data[i] == 0x7f)
			return "contains a control character";
	}
	return NULL;
}

void
pool_name_set(struct pool_name *name, const struct frame_view *space,
    const struct frame_view *queue)
{
	memcpy(name->text, space->data, space->len);
	name->text[space->len] = '.';
	memcpy(name->text + space->len + 1, queue->data, queue->len);
	name->len = space->len + 1 + queue->len;
}

int
pool_name_from_subject(struct pool_name *name, const struct frame_view *subject,
    struct err *err)
{
	const size_t prefix = sizeof POOL_SUBJECT_PREFIX - 1;
	struct frame_view space, queue;
	const uint8_t *dot;
	const char *fault;

	if (subject->len < prefix || memcmp(subject->data, POOL_SUBJECT_PREFIX, prefix) != 0)
		return err_set(err, ERR_INVALID, "the subject does not begin with '%s'",
		    POOL_SUBJECT_PREFIX);
	space.data = subject->data + prefix;
	dot = memchr(space.data, '.', subject->len - prefix);
	if (dot == NULL)
		return err_set(err, ERR_INVALID,
		    "a dispatch subject is '%s<namespace>.<task queue>'", POOL_SUBJECT_PREFIX);
	space.len = (size_t)(dot - space.data);
	queue.data = dot + 1;
	queue.len = subject->len - prefix - space.len - 1;
	if ((fault = pool_part_fault(&space)) != NULL)
		return err_set(err, ERR_INVALID, "the subject's namespace %s", fault);
	if ((fault = pool_part_fault(&queue)) != NULL)
		return err_set(err, ERR_INVALID, "the subject's task queue %s", fault);
	pool_name_set(name, &space, &queue);
	return 0;
}

static size_t
pool_meta_key(char key[POOL_KEY_MAX], const struct pool_name *name)
{
	memcpy(key, POOL_KEY_PREFIX, sizeof POOL_KEY_PREFIX - 1);
	memcpy(key + sizeof POOL_KEY_PREFIX - 1, name->text, name->len);
	return sizeof POOL_KEY_PREFIX - 1 + name->len;
}

static int
pool_meta_read(const struct state_view *view, struct pool_meta *meta)
{
	if (view->len != sizeof *meta)
		return ERR_CORRUPT;
	memcpy(meta, view->data, sizeof *meta);
	return meta->version == POOL_VERSION ? 0 : ERR_CORRUPT;
}

int
pool_meta_get(struct state_txn *txn, const struct pool_name *name, struct pool_meta *meta)
{
	char key[POOL_KEY_MAX];
	struct state_view view;
	int rc;

	rc = state_get(txn, STATE_COUNTERS, key, pool_meta_key(key, name), &view);
	return rc != 0 ? rc : pool_meta_read(&view, meta);
}

int
pool_meta_put(struct state_txn *txn, const struct pool_name *name, const struct pool_meta *meta)
{
	struct pool_meta row = *meta;
	char key[POOL_KEY_MAX];
	size_t len = pool_meta_key(key, name);

	if (meta->n_workers == 0 && meta->n_pending == 0)
		return state_del(txn, STATE_COUNTERS, key, len);
	row.version = POOL_VERSION;
	return state_put(txn, STATE_COUNTERS, key, len, &row, sizeof row);
}

static void
pool_row_key(uint8_t key[16], uint64_t pool, uint64_t conn_id)
{
	state_key_put(key, pool);
	state_key_put(key + 8, conn_id);
}

static int
pool_row_read(const struct state_view *view, struct pool_row *row)
{
	if (view->len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	return row->version == POOL_VERSION ? 0 : ERR_CORRUPT;
}

int
pool_row_get(struct state_txn *txn, uint64_t pool, uint64_t conn_id, struct pool_row *row)
{
	struct state_view view;
	uint8_t key[16];
	int rc;

	pool_row_key(key, pool, conn_id);
	rc = state_get(txn, STATE_POOL, key, sizeof key, &view);
	return rc != 0 ? rc : pool_row_read(&view, row);
}

int
pool_row_put(struct state_txn *txn, uint64_t pool, uint64_t conn_id, const struct pool_row *row)
{
	struct pool_row copy = *row;
	uint8_t key[16];

	copy.version = POOL_VERSION;
	pool_row_key(key, pool, conn_id);
	return state_put(txn, STATE_POOL, key, sizeof key, &copy, sizeof copy);
}

int
pool_row_del(struct state_txn *txn, uint64_t pool, uint64_t conn_id)
{
	uint8_t key[16];

	pool_row_key(key, pool, conn_id);
	return state_del(txn, STATE_POOL, key, sizeof key);
}

int
pool_row_put_all(struct state_txn *txn, uint64_t pool, uint64_t conn_id,
    const struct pool_row *row)
{
	struct record_registration registration;
	uint64_t other;
	size_t at;
	int rc;

	if (row->n_pools <= 1)
		return pool_row_put(txn, pool, conn_id, row);
	if ((rc = workers_get(txn, conn_id, &registration)) != 0)
		return rc;
	for (at = 0; rc == 0 && at + 8 <= registration.pools.len; at += 8) {
		memcpy(&other, registration.pools.data + at, 8);
		rc = pool_row_put(txn, other, conn_id, row);
	}
	record_free_registration(&registration);
	return rc;
}

static struct pool_worker *
pool_snapshot_add(struct pool_snapshot *snapshot)
{
	struct pool_worker *more;
	size_t size;

	if (snapshot->n == snapshot->size) {
		size = snapshot->size ? snapshot->size * 2 : 8;
		more = realloc(snapshot->workers, size * sizeof *more);
		if (more == NULL)
			return NULL;
		snapshot->workers = more;
		snapshot->size = size;
	}
	return &snapshot->workers[snapshot->n++];
}

int
pool_snapshot_read(struct state_txn *txn, const struct pool_name *name,
    struct pool_snapshot *snapshot)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pool_worker *worker;
	uint8_t start[16];
	int rc;

	snapshot->n = 0;
	snapshot->meta_changed = 0;
	snapshot->name = *name;
	if ((rc = pool_meta_get(txn, name, &snapshot->meta)) != 0)
		return rc;
	if ((rc = state_cursor_open(txn, STATE_POOL, &cursor)) != 0)
		return rc;
	pool_row_key(start, snapshot->meta.id, 0);
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	while (rc == 0 && key.len == 16 && state_key_get(key.data) == snapshot->meta.id) {
		if ((worker = pool_snapshot_add(snapshot)) == NULL) {
			rc = ERR_NOMEM;
			break;
		}
		worker->conn_id = state_key_get((const uint8_t *)key.data + 8);
		worker->changed = 0;
		if ((rc = pool_row_read(&view, &worker->row)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
pool_snapshot_write(struct state_txn *txn, struct pool_snapshot *snapshot)
{
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < snapshot->n; i++) {
		if (!snapshot->workers[i].changed)
			continue;
		snapshot->workers[i].changed = 0;
		rc = pool_row_put_all(txn, snapshot->meta.id, snapshot->workers[i].conn_id,
		    &snapshot->workers[i].row);
	}
	if (rc == 0 && snapshot->meta_changed)
		rc = pool_meta_put(txn, &snapshot->name, &snapshot->meta);
	snapshot->meta_changed = 0;
	return rc;
}

void
pool_snapshot_free(struct pool_snapshot *snapshot)
{
	free(snapshot->workers);
	memset(snapshot, 0, sizeof *snapshot);
}

int
pool_accepts(struct state_txn *txn, uint64_t conn_id, const struct pool_row *row,
    const struct pool_demand *demand)
{
	int rc;

	if (demand->node_required && demand->node.len > 0) {
		/* The hash spares most of the looking up; it decides nothing. */
		if (!(row->flags & POOL_ROW_HAS_NODE) || row->node_hash !=
		    hash_fnv1a(HASH_FNV1A_START, demand->node.data, demand->node.len))
			return 0;
		if ((rc = workers_has_node(txn, conn_id, row->sequence, &demand->node)) != 1)
			return rc;
	}
	if (demand->type.len == 0 || (row->flags & POOL_ROW_ALL_TYPES))
		return 1;
	return workers_has_type(txn, conn_id, row->sequence, &demand->type);
}

int
pool_each(struct state_txn *txn,
    int (*visit)(void *arg, const struct pool_name *name, const struct pool_meta *meta),
    void *arg)
{
	const size_t prefix = sizeof POOL_KEY_PREFIX - 1;
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pool_name name;
	struct pool_meta meta;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_COUNTERS, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, POOL_KEY_PREFIX, prefix, &key, &view);
	while (rc == 0 && key.len > prefix && key.len - prefix <= sizeof name.text &&
	    memcmp(key.data, POOL_KEY_PREFIX, prefix) == 0) {
		name.len = key.len - prefix;
		memcpy(name.text, (const char *)key.data + prefix, name.len);
		if ((rc = pool_meta_read(&view, &meta)) == 0 &&
		    (rc = visit(arg, &name, &meta)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
