/* The conversations table. */
#include "state/conversations.h"

static void
conversations_key(uint8_t key[16], uint64_t conn_id, uint64_t conversation)
{
	state_key_put(key, conn_id);
	state_key_put(key + 8, conversation);
}

int
conversations_put(struct state_txn *txn, uint64_t conn_id, uint64_t conversation,
    const struct record_conversation *record)
{
	struct buf image = { 0 };
	uint8_t key[16];
	int rc;

	rc = record_pack_conversation(record, &image);
	if (rc == 0) {
		conversations_key(key, conn_id, conversation);
		rc = state_put(txn, STATE_CONVERSATIONS, key, sizeof key, buf_head(&image),
		    buf_len(&image));
	}
	buf_free(&image);
	return rc;
}

int
conversations_del(struct state_txn *txn, uint64_t conn_id, uint64_t conversation)
{
	uint8_t key[16];
	int rc;

	conversations_key(key, conn_id, conversation);
	rc = state_del(txn, STATE_CONVERSATIONS, key, sizeof key);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
conversations_del_all(struct state_txn *txn, uint64_t conn_id)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	uint8_t start[16];
	int rc;

	if ((rc = state_cursor_open(txn, STATE_CONVERSATIONS, &cursor)) != 0)
		return rc;
	conversations_key(start, conn_id, 0);
	while ((rc = state_seek(cursor, start, sizeof start, &key, &view)) == 0 &&
	    key.len == sizeof start && state_key_get(key.data) == conn_id)
		if ((rc = state_cursor_del(cursor)) != 0)
			break;
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
conversations_each(struct state_txn *txn, int (*visit)(void *arg, uint64_t conn_id,
    uint64_t conversation, const struct record_conversation *record), void *arg)
{
	struct record_conversation record;
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_CONVERSATIONS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		rc = key.len == 16 ?
		    record_unpack_conversation(view.data, view.len, &record) : ERR_CORRUPT;
		if (rc != 0)
			break;
		rc = visit(arg, state_key_get(key.data),
		    state_key_get((const uint8_t *)key.data + 8), &record);
		record_free_conversation(&record);
		if (rc == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
