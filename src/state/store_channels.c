/* The store's channels, and its note on the last publishes. See store_channels.h. */
#include <string.h>

#include "state/store_channels.h"

static int
store_channels_read(const struct state_view *view, struct store_channels_row *row)
{
	if (view->len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	return row->version == STORE_CHANNELS_VERSION && row->number != 0 ? 0 : ERR_CORRUPT;
}

int
store_channels_get(struct state_txn *txn, const char *name, struct store_channels_row *row)
{
	struct state_view view;
	int rc = state_get(txn, STORE_CHANNELS, name, strlen(name), &view);

	return rc != 0 ? rc : store_channels_read(&view, row);
}

int
store_channels_put(struct state_txn *txn, const char *name, const struct store_channels_row *row)
{
	return state_put(txn, STORE_CHANNELS, name, strlen(name), row, sizeof *row);
}

int
store_channels_each(struct state_txn *txn,
    int (*visit)(void *arg, const struct state_view *name, const struct store_channels_row *row),
    void *arg)
{
	struct store_channels_row row;
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	if ((rc = state_cursor_open(txn, STORE_CHANNELS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		if ((rc = store_channels_read(&view, &row)) == 0 &&
		    (rc = visit(arg, &key, &row)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

static int
store_channels_highest(void *arg, const struct state_view *name,
    const struct store_channels_row *row)
{
	uint32_t *highest = arg;

	(void)name;
	if (row->number > *highest)
		*highest = row->number;
	return 0;
}

int
store_channels_enter(struct state_txn *txn, const char *name, struct store_channels_row *row)
{
	uint32_t highest = 0;
	int rc = store_channels_get(txn, name, row);

	if (rc != ERR_NOTFOUND)
		return rc;
	/* Rows are never removed: no number comes again. */
	if ((rc = store_channels_each(txn, store_channels_highest, &highest)) != 0)
		return rc;
	if (highest == UINT32_MAX)
		return ERR_FULL;
	memset(row, 0, sizeof *row);
	row->version = STORE_CHANNELS_VERSION;
	row->number = highest + 1;
	row->mark.first = 1;
	return store_channels_put(txn, name, row);
}

int
store_published_get(struct state_txn *txn, struct store_published *row)
{
	struct state_view view;
	int rc;

	rc = state_get(txn, STORE_META, STORE_PUBLISHED_KEY, sizeof STORE_PUBLISHED_KEY - 1, &view);
	if (rc != 0)
		return rc;
	if (view.len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view.data, sizeof *row);
	return row->version == STORE_PUBLISHED_VERSION ? 0 : ERR_CORRUPT;
}

int
store_published_put(struct state_txn *txn, const struct store_published *row)
{
	return state_put(txn, STORE_META, STORE_PUBLISHED_KEY, sizeof STORE_PUBLISHED_KEY - 1, row,
	    sizeof *row);
}
