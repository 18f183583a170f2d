/* The connections table: rows in and out, each checked for its version and size. */
#include <string.h>

#include "state/connections.h"

static int
connections_read(const struct state_view *view, struct connections_row *row)
{
	if (view->len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	if (row->version != CONNECTIONS_VERSION)
		return ERR_CORRUPT;
	row->peer[sizeof row->peer - 1] = '\0';
	return 0;
}

int
connections_put(struct state_txn *txn, uint64_t conn_id, const struct connections_row *row)
{
	uint8_t key[8];

	state_key_put(key, conn_id);
	return state_put(txn, STATE_CONNECTIONS, key, sizeof key, row, sizeof *row);
}

int
connections_get(struct state_txn *txn, uint64_t conn_id, struct connections_row *row)
{
	struct state_view view;
	uint8_t key[8];
	int rc;

	state_key_put(key, conn_id);
	rc = state_get(txn, STATE_CONNECTIONS, key, sizeof key, &view);
	return rc != 0 ? rc : connections_read(&view, row);
}

int
connections_exists(struct state_txn *txn, uint64_t conn_id)
{
	struct state_view view;
	uint8_t key[8];

	state_key_put(key, conn_id);
	return state_get(txn, STATE_CONNECTIONS, key, sizeof key, &view);
}

int
connections_mark_recorded(struct state_txn *txn, uint64_t conn_id)
{
	struct connections_row row;
	int rc = connections_get(txn, conn_id, &row);

	if (rc != 0 || row.has_history)
		return rc;
	row.has_history = 1;
	return connections_put(txn, conn_id, &row);
}

int
connections_del(struct state_txn *txn, uint64_t conn_id)
{
	uint8_t key[8];

	state_key_put(key, conn_id);
	return state_del(txn, STATE_CONNECTIONS, key, sizeof key);
}

int
connections_each(struct state_txn *txn,
    int (*visit)(void *arg, uint64_t conn_id, const struct connections_row *row), void *arg)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct connections_row row;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_CONNECTIONS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		if (key.len != 8)
			rc = ERR_CORRUPT;
		else if ((rc = connections_read(&view, &row)) == 0 &&
		    (rc = visit(arg, state_key_get(key.data), &row)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
