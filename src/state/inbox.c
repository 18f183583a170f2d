/*
 * Inboxes, and the batch that gathers a transaction's entries per target. The batch lives in
 * memory until the commit: entries of one target end up in one row, bodies beyond
 * INBOX_LARGE in rows of their own.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "state/connections.h"
#include "state/inbox.h"
#include "state/state.h"

/* A row beyond this takes runs of overflow pages, which get slow to find when long. */
#define INBOX_LARGE	(64 * 1024)
/* Buffers beyond this are given back after the transaction. */
#define INBOX_KEEP	4096
/* Among so many targets one is found by looking at each. */
#define INBOX_FEW	16

struct inbox_target {
	uint64_t conn_id;
	uint32_t slot;
	struct buf entries;
};

struct inbox_batch {
	struct inbox_target *targets;
	size_t n, size;		/* targets[n..size) keep their buffers for reuse */
	/* Where each target is, plus 1, by a hash of its conn id; 0 = nobody. A power of two, at least
	 * twice SIZE. All are 0 while there are no more than a few. */
	uint32_t *places;
	size_t n_places;
};

static struct inbox_batch *
inbox_batch_get(struct state_txn *txn)
{
	struct inbox_batch **batch = state_inbox_batch(txn);

	if (*batch == NULL)
		*batch = calloc(1, sizeof **batch);
	return *batch;
}

/* CONN_ID's place, or the one that it would have. */
static uint32_t *
inbox_place(struct inbox_batch *batch, uint64_t conn_id)
{
	uint64_t hash = conn_id * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(hash >> 32) & (batch->n_places - 1);

	while (batch->places[i] != 0 &&
	    batch->targets[batch->places[i] - 1].conn_id != conn_id)
		i = (i + 1) & (batch->n_places - 1);
	return &batch->places[i];
}

static struct inbox_target *
inbox_target_find(struct inbox_batch *batch, uint64_t conn_id)
{
	uint32_t place;
	size_t i;

	if (batch->n > INBOX_FEW) {
		place = *inbox_place(batch, conn_id);
		return place == 0 ? NULL : &batch->targets[place - 1];
	}
	for (i = batch->n; i-- > 0; )
		if (batch->targets[i].conn_id == conn_id)
			return &batch->targets[i];
	return NULL;
}

/* Enter the places of the targets from FIRST on, if they are in use. */
static void
inbox_enter_places(struct inbox_batch *batch, size_t first)
{
	size_t i;

	for (i = first; batch->n > INBOX_FEW && i < batch->n; i++)
		*inbox_place(batch, batch->targets[i].conn_id) = (uint32_t)i + 1;
}

static int
inbox_grow(struct inbox_batch *batch)
{
	size_t size = batch->size ? batch->size * 2 : INBOX_FEW;
	struct inbox_target *more;
	uint32_t *places;

	if ((places = calloc(2 * size, sizeof *places)) == NULL)
		return ERR_NOMEM;
	if ((more = realloc(batch->targets, size * sizeof *more)) == NULL) {
		free(places);
		return ERR_NOMEM;
	}
	memset(more + batch->size, 0, (size - batch->size) * sizeof *more);
	batch->targets = more;
	batch->size = size;
	free(batch->places);
	batch->places = places;
	batch->n_places = 2 * size;
	inbox_enter_places(batch, 0);
	return 0;
}

static struct inbox_target *
inbox_target_get(struct inbox_batch *batch, uint64_t conn_id, uint32_t slot)
{
	struct inbox_target *target = inbox_target_find(batch, conn_id);

	if (target != NULL)
		return target;
	if (batch->n == batch->size && inbox_grow(batch) != 0)
		return NULL;
	target = &batch->targets[batch->n];
	target->conn_id = conn_id;
	target->slot = slot;
	batch->n++;
	inbox_enter_places(batch, batch->n == INBOX_FEW + 1 ? 0 : batch->n - 1);
	return target;
}

static int
inbox_write_row(struct state_txn *txn, struct inbox_target *target)
{
	uint8_t key[16];
	uint64_t id;
	int rc;

	if (buf_len(&target->entries) == 0)
		return 0;
	rc = INBOX_IS_SERVICE(target->conn_id) ? 0 : connections_exists(txn, target->conn_id);
	if (rc == 0) {
		if ((id = state_next_id(txn)) == 0)
			return ERR_FULL;
		state_key_put(key, target->conn_id);
		state_key_put(key + 8, id);
		rc = state_put(txn, STATE_INBOX, key, sizeof key, buf_head(&target->entries),
		    buf_len(&target->entries));
		if (rc == 0)
			rc = state_wake_later(txn, target->slot,
			    INBOX_IS_SERVICE(target->conn_id) ? 0 : target->conn_id);
	}
	buf_consume(&target->entries, buf_len(&target->entries));
	buf_trim(&target->entries, INBOX_KEEP);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
inbox_post(struct state_txn *txn, uint64_t conn_id, uint32_t slot,
    const struct inbox_entry *entry, const void *body)
{
	struct inbox_batch *batch = inbox_batch_get(txn);
	struct inbox_target *target;
	uint8_t *room;

	if (!state_fits(txn, entry->len))
		return ERR_FULL;
	if (batch == NULL || (target = inbox_target_get(batch, conn_id, slot)) == NULL)
		return ERR_NOMEM;
	room = buf_reserve(&target->entries, sizeof *entry + entry->len);
	if (room == NULL)
		return ERR_NOMEM;
	memcpy(room, entry, sizeof *entry);
	if (entry->len > 0)
		memcpy(room + sizeof *entry, body, entry->len);
	buf_commit(&target->entries, sizeof *entry + entry->len);
	if (buf_len(&target->entries) >= INBOX_LARGE || INBOX_IS_ONE_BY_ONE(conn_id))
		return inbox_write_row(txn, target);
	return 0;
}

int
inbox_flush(struct state_txn *txn)
{
	struct inbox_batch *batch = *state_inbox_batch(txn);
	size_t i;
	int rc = 0;

	if (batch == NULL)
		return 0;
	for (i = 0; rc == 0 && i < batch->n; i++)
		rc = inbox_write_row(txn, &batch->targets[i]);
	inbox_batch_reset(batch);
	return rc;
}

void
inbox_batch_reset(struct inbox_batch *batch)
{
	size_t i;

	if (batch == NULL)
		return;
	if (batch->n > INBOX_FEW)
		memset(batch->places, 0, batch->n_places * sizeof *batch->places);
	for (i = 0; i < batch->n; i++) {
		buf_consume(&batch->targets[i].entries, buf_len(&batch->targets[i].entries));
		buf_trim(&batch->targets[i].entries, INBOX_KEEP);
	}
	batch->n = 0;
}

void
inbox_batch_free(struct inbox_batch *batch)
{
	size_t i;

	if (batch == NULL)
		return;
	for (i = 0; i < batch->size; i++)
		buf_free(&batch->targets[i].entries);
	free(batch->targets);
	free(batch->places);
	free(batch);
}

int
inbox_each(const void *entries, size_t len,
    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body), void *arg)
{
	const uint8_t *at = entries, *end = at + len;
	struct inbox_entry entry;
	int rc;

	while (at < end) {
		if ((size_t)(end - at) < sizeof entry)
			return ERR_CORRUPT;
		memcpy(&entry, at, sizeof entry);
		at += sizeof entry;
		if ((size_t)(end - at) < entry.len)
			return ERR_CORRUPT;
		if ((rc = visit(arg, &entry, at)) != 0)
			return rc;
		at += entry.len;
	}
	return 0;
}

int
inbox_read_rows(struct state_txn *txn, uint64_t conn_id, uint64_t after,
    int (*visit)(void *arg, uint64_t id, const void *entries, size_t len), void *arg)
{
	struct state_cursor *cursor;
	struct state_view key, row;
	uint8_t start[16];
	uint64_t id;
	int rc;

	state_key_put(start, conn_id);
	state_key_put(start + 8, after + 1);
	if ((rc = state_cursor_open(txn, STATE_INBOX, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &row);
	while (rc == 0 && key.len == sizeof start && state_key_get(key.data) == conn_id) {
		id = state_key_get((const uint8_t *)key.data + 8);
		if ((rc = visit(arg, id, row.data, row.len)) == 0)
			rc = state_next(cursor, &key, &row);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

struct inbox_reader {
	int (*visit)(void *arg, const struct inbox_entry *entry, const void *body);
	void *arg;
	unsigned *rows;
};

static int
inbox_read_row(void *arg, uint64_t id, const void *entries, size_t len)
{
	struct inbox_reader *reader = arg;

	(void)id;
	(*reader->rows)++;
	return inbox_each(entries, len, reader->visit, reader->arg);
}

int
inbox_read(struct state_txn *txn, uint64_t conn_id, uint64_t after, unsigned *rows,
    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body), void *arg)
{
	struct inbox_reader reader = { visit, arg, rows };

	*rows = 0;
	return inbox_read_rows(txn, conn_id, after, inbox_read_row, &reader);
}

struct inbox_head {
	uint64_t *id;
	struct inbox_entry *entry;
	const void **body;
};

/* The row that is its only entry; 1 ends the walk. */
static int
inbox_take_head(void *arg, uint64_t id, const void *entries, size_t len)
{
	struct inbox_head *head = arg;

	if (len < sizeof *head->entry)
		return ERR_CORRUPT;
	*head->id = id;
	memcpy(head->entry, entries, sizeof *head->entry);
	*head->body = (const uint8_t *)entries + sizeof *head->entry;
	return len - sizeof *head->entry == head->entry->len ? 1 : ERR_CORRUPT;
}

int
inbox_first(struct state_txn *txn, uint64_t conn_id, uint64_t *id, struct inbox_entry *entry,
    const void **body)
{
	struct inbox_head head = { id, entry, body };
	int rc = inbox_read_rows(txn, conn_id, 0, inbox_take_head, &head);

	return rc == 0 ? ERR_NOTFOUND : rc == 1 ? 0 : rc;
}

int
inbox_remove(struct state_txn *txn, uint64_t conn_id, uint64_t up_to)
{
	struct state_cursor *cursor;
	struct state_view key, row;
	uint8_t start[16];
	int rc;

	state_key_put(start, conn_id);
	state_key_put(start + 8, 0);
	if ((rc = state_cursor_open(txn, STATE_INBOX, &cursor)) != 0)
		return rc;
	while ((rc = state_seek(cursor, start, sizeof start, &key, &row)) == 0) {
		if (key.len != sizeof start || state_key_get(key.data) != conn_id ||
		    state_key_get((const uint8_t *)key.data + 8) > up_to)
			break;
		if ((rc = state_cursor_del(cursor)) != 0)
			break;
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
