/* The operations table. */
#include <string.h>

#include "base/buf.h"
#include "state/inbox.h"
#include "state/operations.h"

#define OPERATIONS_KEY_SIZE 16

static void
operations_key(uint8_t key[OPERATIONS_KEY_SIZE], uint64_t conn_id, uint64_t request)
{
	state_key_put(key, conn_id);
	state_key_put(key + 8, request);
}

int
operations_put(struct state_txn *txn, uint64_t conn_id, uint64_t request, const void *body,
    size_t len)
{
	uint8_t key[OPERATIONS_KEY_SIZE];

	operations_key(key, conn_id, request);
	return state_put(txn, STATE_OPERATIONS, key, sizeof key, body, len);
}

int
operations_del(struct state_txn *txn, uint64_t conn_id, uint64_t request)
{
	uint8_t key[OPERATIONS_KEY_SIZE];
	int rc;

	operations_key(key, conn_id, request);
	rc = state_del(txn, STATE_OPERATIONS, key, sizeof key);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
operations_post(struct state_txn *txn, uint64_t conn_id, uint64_t request, const void *body,
    size_t len)
{
	const struct inbox_entry entry = {
		.kind = INBOX_OPERATIONS, .len = (uint32_t)len, .request = request,
		.conn_id = conn_id
	};

	return inbox_post(txn, INBOX_SERVICE(BOARD_STORE), BOARD_SERVICE_SLOT(BOARD_STORE), &entry,
	    body);
}

/* Post CONN_ID's first row at or after REQUEST, and remove it; *REQUEST gets its number. ERR_NOTFOUND =
 * none. */
static int
operations_hand_over_one(struct state_txn *txn, uint64_t conn_id, uint64_t *request)
{
	struct state_cursor *cursor;
	struct state_view key, row;
	uint8_t start[OPERATIONS_KEY_SIZE];
	int rc;

	operations_key(start, conn_id, *request);
	if ((rc = state_cursor_open(txn, STATE_OPERATIONS, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &row);
	if (rc == 0 && key.len != sizeof start)
		rc = ERR_CORRUPT;
	if (rc == 0 && state_key_get(key.data) != conn_id)
		rc = ERR_NOTFOUND;
	if (rc == 0) {
		*request = state_key_get((const uint8_t *)key.data + 8);
		rc = operations_post(txn, conn_id, *request, row.data, row.len);
	}
	state_cursor_close(cursor);
	return rc == 0 ? operations_del(txn, conn_id, *request) : rc;
}

int
operations_hand_over_all(struct state_txn *txn, uint64_t conn_id)
{
	uint64_t request = 0;
	int rc;

	while ((rc = operations_hand_over_one(txn, conn_id, &request)) == 0)
		request++;
	return rc == ERR_NOTFOUND ? 0 : rc;
}
