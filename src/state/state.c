/*
 * The state environment: how large it may be, its ids, when new work is refused, and the pokes
 * that follow a commit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "state/env.h"

/* Address space, not memory: the file grows by need. systems.md gives no figure; 1 GiB holds
 * a million waiting requests of 1 KiB. */
#define STATE_MAP_BYTES		(UINT64_C(1) << 30)
#define STATE_MAP_BYTES_MIN	(UINT64_C(8) << 20)
/* Reader slots beyond one per connection: keeper, onlookers. */
#define STATE_EXTRA_READERS	64
/* Of the map, what new work may not use, and what no large row may use: freeing pages takes
 * pages first, so without them nobody's rows could be removed any more. */
#define STATE_RESERVE_DIVISOR	8
#define STATE_LAST_DIVISOR	16
/* ... and what messages may not use: so much that the end of the file (below) is no matter for them, and
 * that they never make it tight for others. */
#define STATE_CROWDED_DIVISOR	2
/* What has to be free besides, once the file has come so close to its end (measured: LMDB
 * stops finding runs of 25 pages when 1/4 of 262144 is free). */
#define STATE_RUNS_DIVISOR	4
#define STATE_ID_BITS		16
/* How long the count of free pages is believed: nobody writes the reserve full in that time. */
#define STATE_FREE_PAGES_NS	(20 * CLOCK_MS)		/* with a map of STATE_MAP_BYTES */
/* Among the newest so many, whoever is to be woken is looked for before he is noted again. */
#define STATE_WAKES_NEAR	16
/* Rows up to this, such as the news of somebody's end, may use the last part of the map. */
#define STATE_SMALL_ROW		256

#define STATE_EPOCH_KEY		"state/epoch"

static const struct env_kind state_kind = {
	.name = "state", .setting = "runtime_dir", .first_table = 0, .end_table = STATE_N_TABLES
};

/* A map that the file system can back: LMDB's default on a full tmpfs would fail
 * in the middle of finishing old work. */
static int
state_choose_map(const char *path, size_t *bytes, struct err *err)
{
	struct statvfs fs;
	uint64_t room;

	if (statvfs(path, &fs) == -1)
		return err_sys(err, errno, "cannot ask for the free space of %s", path);
	room = (uint64_t)fs.f_bavail * fs.f_frsize / 5 * 4;
	if (room < STATE_MAP_BYTES_MIN)
		return err_set(err, ERR_FULL,
		    "runtime_dir: %s has %llu KiB free; the state needs at least %llu KiB", path,
		    (unsigned long long)(room / 1024),
		    (unsigned long long)(STATE_MAP_BYTES_MIN / 1024));
	*bytes = (size_t)(room < STATE_MAP_BYTES ? room : STATE_MAP_BYTES);
	*bytes -= *bytes % 65536;
	return 0;
}

/* What tells this life of the state from the others, whose ids are the same again. */
static int
state_put_epoch(struct state *state)
{
	struct state_txn *txn;
	uint64_t epoch;
	int rc;

	if (getrandom(&epoch, sizeof epoch, 0) != sizeof epoch)
		return ERR_SYSTEM;
	if ((rc = state_begin_write(state, &txn)) != 0)
		return rc;
	rc = state_put(txn, STATE_COUNTERS, STATE_EPOCH_KEY, sizeof STATE_EPOCH_KEY - 1, &epoch,
	    sizeof epoch);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

int
state_epoch(struct state_txn *txn, uint64_t *epoch)
{
	struct state_view row;
	int rc;

	rc = state_get(txn, STATE_COUNTERS, STATE_EPOCH_KEY, sizeof STATE_EPOCH_KEY - 1, &row);
	if (rc == 0 && row.len != sizeof *epoch)
		rc = ERR_CORRUPT;
	if (rc == 0)
		memcpy(epoch, row.data, sizeof *epoch);
	return rc;
}

int
state_create(const char *runtime_dir, uint32_t max_connections, struct err *err)
{
	static const char *const files[] = { "/data.mdb", "/lock.mdb" };
	struct env_options options = {
		.may_create = 1, .max_readers = max_connections + STATE_EXTRA_READERS
	};
	struct state *state;
	char path[4096];
	size_t i;
	int rc;

	for (i = 0; i < 2; i++) {
		rc = env_path(path, sizeof path, &state_kind, runtime_dir, files[i], err);
		if (rc != 0)
			return rc;
		if (unlink(path) == -1 && errno != ENOENT && errno != ENOTDIR)
			return err_sys(err, errno, "cannot remove %s", path);
	}
	if ((rc = env_path(path, sizeof path, &state_kind, runtime_dir, "", err)) != 0 ||
	    (rc = env_make_dir(&state_kind, path, err)) != 0 ||
	    (rc = state_choose_map(path, &options.map_bytes, err)) != 0 ||
	    (rc = env_open(&state, &state_kind, path, &options, NULL, err)) != 0)
		return rc;
	if ((rc = state_put_epoch(state)) != 0)
		err_set(err, rc, "cannot write to the state in %s: %s", path,
		    state_error_text(state));
	state_close(state);
	return rc;
}

static int
state_open_with(struct state **out, const char *runtime_dir, int is_readonly, struct wake *wake,
    struct err *err)
{
	const struct env_options options = { .is_readonly = is_readonly };
	char path[4096];
	int rc;

	*out = NULL;
	if ((rc = env_path(path, sizeof path, &state_kind, runtime_dir, "", err)) != 0)
		return rc;
	return env_open(out, &state_kind, path, &options, wake, err);
}

int
state_open(struct state **out, const char *runtime_dir, struct wake *wake, struct err *err)
{
	return state_open_with(out, runtime_dir, 0, wake, err);
}

int
state_open_readonly(struct state **out, const char *runtime_dir, struct err *err)
{
	return state_open_with(out, runtime_dir, 1, NULL, err);
}

static int
state_compare_wakes(const void *a, const void *b)
{
	const struct env_wake *x = a, *y = b;

	if (x->conn_id != y->conn_id)
		return x->conn_id < y->conn_id ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* Each once. */
static void
state_unite_wakes(struct state_txn *txn)
{
	size_t i, n = 0;

	if (txn->n_wakes <= STATE_WAKES_NEAR)
		return;
	qsort(txn->wakes, txn->n_wakes, sizeof *txn->wakes, state_compare_wakes);
	for (i = 0; i < txn->n_wakes; i++)
		if (i == 0 || state_compare_wakes(&txn->wakes[n - 1], &txn->wakes[i]) != 0)
			txn->wakes[n++] = txn->wakes[i];
	txn->n_wakes = n;
}

int
state_commit(struct state_txn *txn)
{
	struct state *state = txn->state;
	size_t i;
	int rc;

	rc = inbox_flush(txn);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	if ((rc = env_commit(txn)) != 0 || state->wake == NULL)
		return rc;
	state_unite_wakes(txn);
	/* Dying here loses the pokes: the keeper pokes again after an abnormal end. */
	for (i = 0; i < txn->n_wakes; i++)
		wake_poke(state->wake, txn->wakes[i].slot, txn->wakes[i].conn_id);
	return 0;
}

void
state_abort(struct state_txn *txn)
{
	inbox_batch_reset(txn->inbox);
	env_abort(txn);
}

uint64_t
state_next_id(struct state_txn *txn)
{
	if (txn->n_ids + 1 >= (1U << STATE_ID_BITS))
		return 0;
	return txn->number << STATE_ID_BITS | ++txn->n_ids;
}

uint64_t
state_snapshot_id(const struct state_txn *txn)
{
	return txn->number << STATE_ID_BITS | ((1U << STATE_ID_BITS) - 1);
}

uint64_t
state_txn_number(const struct state_txn *txn)
{
	return txn->number;
}

/* 1 if LEN bytes more leave 1/DIVISOR of the map unused; counts of free pages are believed
 * for BELIEVE_NS. */
static int
state_has_room(struct state_txn *txn, size_t len, uint64_t divisor, int64_t believe_ns)
{
	struct state *state = txn->state;
	uint64_t limit = state->map_bytes - state->map_bytes / divisor;
	uint64_t end = 0, used, unused;
	int64_t now;

	if (len >= state->map_bytes || env_last_page(state, &end) != 0)
		return 0;
	end *= state->page_size;
	used = end + txn->grown + len;
	if (used < limit)
		return 1;
	/* The file never shrinks, so the free list decides; but LMDB takes the end of the map
	 * when it finds no run of pages on it, and finds none when too few are free. */
	if (divisor > STATE_RUNS_DIVISOR &&
	    end >= state->map_bytes - state->map_bytes / STATE_LAST_DIVISOR)
		limit -= state->map_bytes / STATE_RUNS_DIVISOR;
	now = clock_now_ns();
	if (state->free_pages_number != txn->number &&
	    now - state->free_pages_at_ns >= believe_ns) {
		state->free_pages = env_free_pages(state);
		state->free_pages_at_ns = now;
		state->free_pages_number = txn->number;
	}
	unused = state->free_pages * state->page_size;
	return unused >= used || used - unused < limit;
}

static int64_t
state_believe_ns(const struct state *state)
{
	return STATE_FREE_PAGES_NS * (int64_t)(state->map_bytes >> 20) /
	    (int64_t)(STATE_MAP_BYTES >> 20);
}

int
state_is_tight(struct state_txn *txn)
{
	return !state_has_room(txn, 0, STATE_RESERVE_DIVISOR, state_believe_ns(txn->state));
}

int
state_is_crowded(struct state_txn *txn)
{
	return !state_has_room(txn, 0, STATE_CROWDED_DIVISOR, state_believe_ns(txn->state));
}

int
state_fits(struct state_txn *txn, size_t len)
{
	return len <= STATE_SMALL_ROW || state_has_room(txn, len, STATE_LAST_DIVISOR, 0);
}

/* Half of the room is free then, so that it is long until the next time. */
static int
state_grow_wakes(struct state_txn *txn)
{
	size_t size = txn->size_wakes ? txn->size_wakes * 2 : 2 * STATE_WAKES_NEAR;
	struct env_wake *more;

	state_unite_wakes(txn);
	if (txn->size_wakes > 0 && txn->n_wakes <= txn->size_wakes / 2)
		return 0;
	if ((more = realloc(txn->wakes, size * sizeof *more)) == NULL)
		return ERR_NOMEM;
	txn->wakes = more;
	txn->size_wakes = size;
	return 0;
}

int
state_wake_later(struct state_txn *txn, uint32_t slot, uint64_t conn_id)
{
	size_t i;

	for (i = txn->n_wakes; i-- > 0 && txn->n_wakes - i <= STATE_WAKES_NEAR; )
		if (txn->wakes[i].conn_id == conn_id && txn->wakes[i].slot == slot)
			return 0;
	if (txn->n_wakes == txn->size_wakes && state_grow_wakes(txn) != 0)
		return ERR_NOMEM;
	txn->wakes[txn->n_wakes].conn_id = conn_id;
	txn->wakes[txn->n_wakes++].slot = slot;
	return 0;
}

struct inbox_batch **
state_inbox_batch(struct state_txn *txn)
{
	return &txn->inbox;
}
