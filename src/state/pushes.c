/* The pushes table. */
#include <string.h>

#include "state/inbox.h"
#include "state/pushes.h"
#include "state/workers.h"

#define PUSHES_VERSION	1

static void
pushes_key(uint8_t key[16], uint64_t target, uint64_t correlation)
{
	state_key_put(key, target);
	state_key_put(key + 8, correlation);
}

static int
pushes_read(const struct state_view *view, struct pushes_row *row, struct frame_view *payload)
{
	if (view->len < sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	if (row->version != PUSHES_VERSION)
		return ERR_CORRUPT;
	if (payload != NULL) {
		payload->data = (const uint8_t *)view->data + sizeof *row;
		payload->len = view->len - sizeof *row;
	}
	return 0;
}

int
pushes_add(struct state_txn *txn, uint64_t target, uint32_t target_slot,
    const struct pushes_row *row, const struct frame_view *payload, uint64_t *correlation)
{
	struct pushes_row copy = *row;
	uint8_t key[16];
	void *room;
	int rc;

	if ((*correlation = state_next_id(txn)) == 0)
		return ERR_FULL;
	copy.version = PUSHES_VERSION;
	pushes_key(key, target, *correlation);
	rc = state_reserve(txn, STATE_PUSHES, key, sizeof key, sizeof copy + payload->len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, &copy, sizeof copy);
	if (payload->len > 0)
		memcpy((uint8_t *)room + sizeof copy, payload->data, payload->len);
	return state_wake_later(txn, target_slot, target);
}

int
pushes_get(struct state_txn *txn, uint64_t target, uint64_t correlation,
    struct pushes_row *row, struct frame_view *payload)
{
	struct state_view view;
	uint8_t key[16];
	int rc;

	pushes_key(key, target, correlation);
	rc = state_get(txn, STATE_PUSHES, key, sizeof key, &view);
	return rc != 0 ? rc : pushes_read(&view, row, payload);
}

int
pushes_del(struct state_txn *txn, uint64_t target, uint64_t correlation)
{
	uint8_t key[16];

	pushes_key(key, target, correlation);
	return state_del(txn, STATE_PUSHES, key, sizeof key);
}

/* From the first slot at or after START; only TARGET's unless it is 0. */
static int
pushes_walk(struct state_txn *txn, uint64_t target, uint64_t start, pushes_visit *visit,
    void *arg)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct frame_view payload;
	struct pushes_row row;
	uint8_t from[16];
	int rc;

	if ((rc = state_cursor_open(txn, STATE_PUSHES, &cursor)) != 0)
		return rc;
	pushes_key(from, target, start);
	rc = state_seek(cursor, from, sizeof from, &key, &view);
	while (rc == 0 && key.len == sizeof from &&
	    (target == 0 || state_key_get(key.data) == target)) {
		if ((rc = pushes_read(&view, &row, &payload)) == 0 &&
		    (rc = visit(arg, state_key_get(key.data),
		    state_key_get((const uint8_t *)key.data + 8), &row, &payload)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
pushes_each_of(struct state_txn *txn, uint64_t target, uint64_t after, pushes_visit *visit,
    void *arg)
{
	return pushes_walk(txn, target, after + 1, visit, arg);
}

int
pushes_each(struct state_txn *txn, pushes_visit *visit, void *arg)
{
	return pushes_walk(txn, 0, 0, visit, arg);
}

struct pushes_tally { uint32_t n, limit; };

static int
pushes_tally_one(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	struct pushes_tally *tally = arg;

	(void)target, (void)correlation, (void)row, (void)payload;
	return ++tally->n >= tally->limit;
}

int
pushes_count(struct state_txn *txn, uint64_t target, uint32_t limit, uint32_t *count)
{
	struct pushes_tally tally = { 0, limit };
	int rc = pushes_each_of(txn, target, 0, pushes_tally_one, &tally);

	*count = tally.n;
	return rc < 0 ? rc : 0;
}

/* The event for one awaiter of a push whose target has ended. */
static int
pushes_tell_end(struct state_txn *txn, uint64_t target, const char *worker, const char *reason,
    const struct pushes_row *row)
{
	char text[WORKERS_ID_SIZE + 256];
	struct inbox_entry entry;
	size_t id_len = 0, reason_len;

	if (row->flags & PUSHES_NO_REPLY)
		return 0;
	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_DISCONNECTED;
	entry.request = row->request;
	entry.conn_id = target;
	if (row->kind == PUSHES_JOB) {
		entry.kind = INBOX_WORKER_EXITED;
		id_len = strlen(worker) + 1;
		memcpy(text, worker, id_len);
	}
	reason_len = strnlen(reason, sizeof text - id_len);
	memcpy(text + id_len, reason, reason_len);
	entry.len = (uint32_t)(id_len + reason_len);
	return inbox_post(txn, row->awaiter, row->awaiter_slot, &entry, text);
}

int
pushes_cancel_all(struct state_txn *txn, uint64_t target, const char *reason)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct pushes_row row;
	char worker[WORKERS_ID_SIZE];
	uint8_t from[16];
	int rc;

	workers_id(txn, target, worker);
	if ((rc = state_cursor_open(txn, STATE_PUSHES, &cursor)) != 0)
		return rc;
	pushes_key(from, target, 0);
	while ((rc = state_seek(cursor, from, sizeof from, &key, &view)) == 0 &&
	    key.len == sizeof from && state_key_get(key.data) == target) {
		if ((rc = pushes_read(&view, &row, NULL)) != 0 ||
		    (rc = pushes_tell_end(txn, target, worker, reason, &row)) != 0 ||
		    (rc = state_cursor_del(cursor)) != 0)
			break;
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
