/*
 * walk: a table, batch by batch. Between two batches the table may change: a row that is there
 * throughout is seen exactly once; one that comes or goes meanwhile may be seen.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "liminal/inspect.h"

#define WALK_ROWS	256
/* Of rows that one transaction may copy, more or less. */
#define WALK_BYTES	(1 << 20)
#define WALK_KEY_MAX	512	/* LMDB's is 511 */

struct walk_batch {
	const struct walk *walk;
	uint8_t *items;
	size_t n;
	uint8_t key[WALK_KEY_MAX];	/* the last one seen */
	size_t key_len;
	uint64_t n_unreadable;
};

static void *
walk_item(const struct walk_batch *batch, size_t i)
{
	return batch->items + i * batch->walk->item_size;
}

static int
walk_is_within(const struct walk *walk, const struct state_view *key)
{
	return walk->prefix_len == 0 || (key->len >= walk->prefix_len &&
	    memcmp(key->data, walk->from, walk->prefix_len) == 0);
}

/* The rows after the last key. 0, ERR_NOTFOUND behind the last row, or worse. */
static int
walk_rows(struct walk_batch *batch, struct state_txn *txn, struct state_cursor *cursor)
{
	struct state_view key, row;
	size_t bytes = 0, seen;
	void *item;
	int rc;

	rc = state_seek(cursor, batch->key, batch->key_len, &key, &row);
	if (rc == 0 && key.len == batch->key_len &&
	    memcmp(key.data, batch->key, key.len) == 0)
		rc = state_next(cursor, &key, &row);
	for (seen = 0; rc == 0 && seen < WALK_ROWS && bytes < WALK_BYTES; seen++) {
		if (key.len == 0 || key.len > sizeof(batch->key))
			return ERR_CORRUPT;
		if (!walk_is_within(batch->walk, &key))
			return ERR_NOTFOUND;
		item = walk_item(batch, batch->n);
		memset(item, 0, batch->walk->item_size);
		rc = batch->walk->copy(txn, &key, &row, item);
		if (rc == 0)
			batch->n++;
		else if (rc == ERR_CORRUPT)
			batch->n_unreadable++;
		else if (rc != WALK_SKIP)
			return rc;
		memcpy(batch->key, key.data, key.len);
		batch->key_len = key.len;
		bytes += row.len;
		rc = state_next(cursor, &key, &row);
	}
	return rc;
}

static int
walk_read(struct walk_batch *batch, struct state *state)
{
	struct state_cursor *cursor;
	struct state_txn *txn;
	sigset_t all, before;
	int rc;

	batch->n = 0;
	/* ^Z here would leave a reader behind for as long as the job is stopped. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	rc = state_begin_read(state, &txn);
	if (rc == 0) {
		rc = state_cursor_open(txn, batch->walk->table, &cursor);
		if (rc == 0) {
			rc = walk_rows(batch, txn, cursor);
			state_cursor_close(cursor);
		}
		state_abort(txn);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

/* Outside of the transaction. 0, or -1 to end the walk. */
static int
walk_show(struct walk_batch *batch, void *arg)
{
	const struct walk *walk = batch->walk;
	int r = 0;

	for (size_t i = 0; i < batch->n; i++) {
		if (r == 0)
			r = walk->show(arg, walk_item(batch, i));
		if (walk->release != NULL)
			walk->release(walk_item(batch, i));
	}
	if (r == 0 && walk->flush != NULL)
		r = walk->flush(arg);
	return r;
}

int
walk_table(struct look *look, const struct walk *walk, void *arg)
{
	/* A seek needs a key; one zero byte stands before all of them. */
	struct walk_batch batch = { .walk = walk, .key_len = 1 };
	int rc, r;

	if (walk->from != NULL) {
		memcpy(batch.key, walk->from, walk->from_len);
		batch.key_len = walk->from_len;
	}

	if ((batch.items = calloc(WALK_ROWS, walk->item_size)) == NULL) {
		cli_complain(look->cli, "out of memory");
		return -1;
	}
	do {
		rc = walk_read(&batch, look->state);
		r = walk_show(&batch, arg);
	} while (rc == 0 && r == 0);
	free(batch.items);
	look->n_unreadable += batch.n_unreadable;
	if (r == 0 && rc != ERR_NOTFOUND) {
		cli_complain(look->cli, "cannot read table %s: %s",
		    state_table_names[walk->table], rc == ERR_BUSY ? "all readers' slots are taken" :
		    rc == ERR_NOMEM ? "out of memory" : state_error_text(look->state));
		return -1;
	}
	return r == 0 ? 0 : -1;
}

int
show_flush(void *arg)
{
	struct show *show = arg;

	return listing_flush(&show->listing);
}

int
show_table(struct cli *cli, const struct walk *walk, const char *const *columns, size_t n)
{
	struct show show = { .now_ns = clock_now_ns() };
	int r;

	if (look_open(&show.look, cli) != 0)
		return CLI_FAILED;
	listing_open(&show.listing, cli, columns, n);
	r = walk_table(&show.look, walk, &show);
	if (r == 0)
		r = listing_close(&show.listing);
	else
		listing_free(&show.listing);
	return look_close(&show.look, r == 0 ? CLI_DONE : CLI_FAILED);
}
