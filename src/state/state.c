/*
 * The only file that sees LMDB. It owns the environment handle, the tables' handles and the
 * translation of LMDB's results into the project's codes; it knows no row.
 *
 * No MDB_WRITEMAP, ever: without it the map is read-only in every process, so a wild pointer
 * cannot reach the state of others. MDB_NOTLS, and reads end with abort, so that
 * reader slots live for microseconds. MDB_NOSYNC, because the files lie on a tmpfs and
 * mean nothing after a restart.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "state/inbox.h"
#include "state/state.h"

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
/* What has to be free besides, once the file has come so close to its end (measured: LMDB
 * stops finding runs of 25 pages when 1/4 of 262144 is free). */
#define STATE_RUNS_DIVISOR	4
#define STATE_ID_BITS		16
#define STATE_OPEN_TRIES	3
#define STATE_READ_TRIES	16
/* How long the count of free pages is believed: nobody writes the reserve full in that time. */
#define STATE_FREE_PAGES_NS	(20 * CLOCK_MS)		/* with a map of STATE_MAP_BYTES */
/* Rows up to this, such as the news of somebody's end, may use the last part of the map. */
#define STATE_SMALL_ROW		256

const char *const state_table_names[STATE_N_TABLES] = {
	[STATE_CONNECTIONS] = "connections",
	[STATE_WORKERS] = "workers",
	[STATE_POOL] = "pool",
	[STATE_PUSHES] = "pushes",
	[STATE_INBOX] = "inbox",
	[STATE_PENDING] = "pending",
	[STATE_CONVERSATIONS] = "conversations",
	[STATE_COUNTERS] = "counters",
	[STATE_CHANNELS] = "channels",
	[STATE_MESSAGES] = "messages",
	[STATE_SUBSCRIPTIONS] = "subscriptions",
	[STATE_REGISTRATIONS] = "registrations",
};

struct state_wake { uint64_t conn_id; uint32_t slot; };

struct state_txn {
	struct state *state;
	MDB_txn *mdb;
	int is_write;
	uint32_t n_ids;
	uint64_t number;
	uint64_t grown;			/* bytes put, as if all of them were new */
	struct inbox_batch *inbox;
	struct state_wake *wakes;	/* kept between transactions */
	size_t n_wakes, size_wakes;
};

struct state {
	MDB_env *env;
	MDB_dbi tables[STATE_N_TABLES];
	size_t map_bytes;
	size_t page_size;
	struct wake *wake;
	struct state_txn txn;
	int last_error;			/* LMDB's or errno's number */
	int64_t free_pages_at_ns;
	uint64_t free_pages, free_pages_number;
};

static int
state_fail(struct state *state, int rc)
{
	state->last_error = rc;
	switch (rc) {
	case MDB_NOTFOUND:
		return ERR_NOTFOUND;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
	case EIO:	/* what LMDB makes of a write that is cut short by a full file system */
		return ERR_FULL;
	case MDB_READERS_FULL:
	case EAGAIN:
		return ERR_BUSY;
	case ENOMEM:
		return ERR_NOMEM;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_BAD_TXN:
		return ERR_CORRUPT;
	default:
		return ERR_SYSTEM;
	}
}

const char *
state_error_text(const struct state *state)
{
	return mdb_strerror(state->last_error);
}

static int
state_path(char *out, size_t size, const char *runtime_dir, const char *name, struct err *err)
{
	int n = snprintf(out, size, "%s/state%s", runtime_dir, name);

	if (n < 0 || (size_t)n >= size)
		return err_set(err, ERR_INVALID, "runtime_dir '%s' is too long", runtime_dir);
	return 0;
}

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

static int
state_make_tables(MDB_env *env)
{
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc, i;

	rc = mdb_txn_begin(env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	for (i = 0; rc == 0 && i < STATE_N_TABLES; i++)
		rc = mdb_dbi_open(txn, state_table_names[i], MDB_CREATE, &dbi);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

int
state_create(const char *runtime_dir, uint32_t max_connections, struct err *err)
{
	static const char *const files[] = { "/data.mdb", "/lock.mdb" };
	char path[4096];
	MDB_env *env = NULL;
	size_t i, bytes = 0;
	int rc;

	for (i = 0; i < 2; i++) {
		if ((rc = state_path(path, sizeof path, runtime_dir, files[i], err)) != 0)
			return rc;
		if (unlink(path) == -1 && errno != ENOENT && errno != ENOTDIR)
			return err_sys(err, errno, "cannot remove %s", path);
	}
	if ((rc = state_path(path, sizeof path, runtime_dir, "", err)) != 0)
		return rc;
	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return err_sys(err, errno, "cannot create %s", path);
	if ((rc = state_choose_map(path, &bytes, err)) != 0)
		return rc;
	rc = mdb_env_create(&env);
	if (rc == 0)
		rc = mdb_env_set_mapsize(env, bytes);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(env, max_connections + STATE_EXTRA_READERS);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(env, STATE_N_TABLES);
	if (rc == 0)
		rc = mdb_env_open(env, path, MDB_NOSYNC | MDB_NOTLS, 0600);
	if (rc == 0)
		rc = state_make_tables(env);
	if (env != NULL)
		mdb_env_close(env);
	if (rc != 0)
		return err_set(err, ERR_SYSTEM, "cannot create the state in %s: %s", path,
		    mdb_strerror(rc));
	return 0;
}

static int
state_open_tables(struct state *state)
{
	MDB_txn *txn;
	int rc, i;

	rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0)
		return rc;
	for (i = 0; rc == 0 && i < STATE_N_TABLES; i++)
		rc = mdb_dbi_open(txn, state_table_names[i], 0, &state->tables[i]);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);	/* an abort would close the handles again */
}

static int
state_open_env(struct state *state, const char *path, unsigned flags)
{
	int rc, i;

	/* LMDB documents a race between an opener and a closer; it passes. */
	for (i = 0; ; i++) {
		rc = mdb_env_create(&state->env);
		if (rc == 0)
			rc = mdb_env_set_maxdbs(state->env, STATE_N_TABLES);
		if (rc == 0)
			rc = mdb_env_open(state->env, path, flags, 0600);
		if (rc == 0)
			return 0;
		mdb_env_close(state->env);
		state->env = NULL;
		if (i + 1 == STATE_OPEN_TRIES || (rc != EAGAIN && rc != MDB_INVALID))
			return rc;
	}
}

static int
state_open_with(struct state **out, const char *runtime_dir, unsigned flags, struct wake *wake,
    struct err *err)
{
	char path[4096];
	struct state *state;
	MDB_envinfo info;
	MDB_stat stat;
	int rc;

	*out = NULL;
	if ((rc = state_path(path, sizeof path, runtime_dir, "", err)) != 0)
		return rc;
	state = calloc(1, sizeof *state);
	if (state == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	state->wake = wake;
	rc = state_open_env(state, path, flags);
	if (rc == 0)
		rc = state_open_tables(state);
	if (rc == 0)
		rc = mdb_env_info(state->env, &info);
	if (rc == 0)
		rc = mdb_env_stat(state->env, &stat);
	if (rc != 0) {
		rc = err_set(err, state_fail(state, rc), "cannot open the state in %s: %s", path,
		    mdb_strerror(rc));
		state_close(state);
		return rc;
	}
	state->map_bytes = info.me_mapsize;
	state->page_size = stat.ms_psize;
	*out = state;
	return 0;
}

int
state_open(struct state **out, const char *runtime_dir, struct wake *wake, struct err *err)
{
	return state_open_with(out, runtime_dir, MDB_NOSYNC | MDB_NOTLS, wake, err);
}

int
state_open_readonly(struct state **out, const char *runtime_dir, struct err *err)
{
	return state_open_with(out, runtime_dir, MDB_RDONLY | MDB_NOTLS, NULL, err);
}

void
state_close(struct state *state)
{
	if (state == NULL)
		return;
	inbox_batch_free(state->txn.inbox);
	free(state->txn.wakes);
	if (state->env != NULL)
		mdb_env_close(state->env);
	free(state);
}

/*
 * Marks for the watchdog. The owner of the write lock must be told from those who wait for
 * it; a process that is stopped between the two marks shows as a waiter that does not
 * sleep, which the watchdog recognises as well.
 */
static void
state_mark(struct state *state, int64_t wait, int64_t write, int64_t read)
{
	struct board_slot *mine;

	if (state->wake == NULL)
		return;
	mine = state->wake->mine;
	atomic_store_explicit(&mine->write_txn_ns, write, memory_order_relaxed);
	atomic_store_explicit(&mine->write_wait_ns, wait, memory_order_relaxed);
	atomic_store_explicit(&mine->read_txn_ns, read, memory_order_relaxed);
}

/*
 * LMDB takes the number of the last commit and then the page that belongs to it, which the
 * commit after the next overwrites: a reader that is held up between the two has the later
 * one's rows under the earlier number. As long as its number is the last one, it is true.
 */
static int
state_begin_exact_read(struct state *state, MDB_txn **mdb)
{
	MDB_envinfo info;
	size_t behind;
	int rc, tries;

	for (tries = 0; ; tries++) {
		rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, mdb);
		if (rc != 0)
			return rc;
		atomic_thread_fence(memory_order_seq_cst);
		if ((rc = mdb_env_info(state->env, &info)) != 0) {
			mdb_txn_abort(*mdb);
			return rc;
		}
		behind = info.me_last_txnid - mdb_txn_id(*mdb);
		/* A writer that died in its last step leaves it one behind for a while. */
		if (behind == 0 || (behind == 1 && tries >= STATE_READ_TRIES))
			return 0;
		mdb_txn_abort(*mdb);
	}
}

static int
state_begin(struct state *state, struct state_txn **out, int is_write)
{
	struct state_txn *txn = &state->txn;
	int rc;

	if (txn->mdb != NULL)
		log_panic("a transaction inside a transaction");
	if (is_write)
		state_mark(state, clock_now_ns(), 0, 0);
	else
		state_mark(state, 0, 0, clock_now_ns());
	rc = is_write ? mdb_txn_begin(state->env, NULL, 0, &txn->mdb) :
	    state_begin_exact_read(state, &txn->mdb);
	if (rc != 0) {
		txn->mdb = NULL;
		state_mark(state, 0, 0, 0);
		return state_fail(state, rc);
	}
	if (is_write)
		state_mark(state, 0, clock_now_ns(), 0);
	txn->state = state;
	txn->is_write = is_write;
	txn->n_ids = 0;
	txn->n_wakes = 0;
	txn->grown = 0;
	txn->number = mdb_txn_id(txn->mdb);
	*out = txn;
	return 0;
}

int
state_begin_write(struct state *state, struct state_txn **txn)
{
	return state_begin(state, txn, 1);
}

int
state_begin_read(struct state *state, struct state_txn **txn)
{
	return state_begin(state, txn, 0);
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
	rc = mdb_txn_commit(txn->mdb);	/* frees the transaction in any case */
	txn->mdb = NULL;
	state_mark(state, 0, 0, 0);
	if (rc != 0)
		return state_fail(state, rc);
	if (state->wake == NULL)
		return 0;
	/* Dying here loses the pokes: the keeper pokes again after an abnormal end. */
	for (i = 0; i < txn->n_wakes; i++)
		wake_poke(state->wake, txn->wakes[i].slot, txn->wakes[i].conn_id);
	return 0;
}

void
state_abort(struct state_txn *txn)
{
	inbox_batch_reset(txn->inbox);
	mdb_txn_abort(txn->mdb);
	txn->mdb = NULL;
	state_mark(txn->state, 0, 0, 0);
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

uint64_t
state_last_number(struct state *state)
{
	MDB_envinfo info;

	if (mdb_env_info(state->env, &info) != 0)
		return 0;
	return info.me_last_txnid;
}

/* The pages on LMDB's free list, which a write may use again. LMDB shows it to readers
 * only; a second transaction is what MDB_NOTLS allows. */
static uint64_t
state_free_pages(struct state *state)
{
	MDB_cursor *cursor;
	MDB_val key, row;
	MDB_txn *reader;
	uint64_t pages = 0;
	size_t n;

	if (mdb_txn_begin(state->env, NULL, MDB_RDONLY, &reader) != 0)
		return 0;
	if (mdb_cursor_open(reader, 0, &cursor) == 0) {
		while (mdb_cursor_get(cursor, &key, &row, MDB_NEXT) == 0) {
			memcpy(&n, row.mv_data, sizeof n);
			pages += n;
		}
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(reader);
	return pages;
}

/* 1 if LEN bytes more leave 1/DIVISOR of the map unused; counts of free pages are believed
 * for BELIEVE_NS. */
static int
state_has_room(struct state_txn *txn, size_t len, uint64_t divisor, int64_t believe_ns)
{
	struct state *state = txn->state;
	uint64_t limit = state->map_bytes - state->map_bytes / divisor;
	uint64_t end, used, unused;
	MDB_envinfo info;
	int64_t now;

	if (len >= state->map_bytes || mdb_env_info(state->env, &info) != 0)
		return 0;
	end = (uint64_t)info.me_last_pgno * state->page_size;
	used = end + txn->grown + len;
	if (used < limit)
		return 1;
	/* The file never shrinks, so the free list decides; but LMDB takes the end of the map
	 * when it finds no run of pages on it, and finds none when too few are free. */
	if (end >= state->map_bytes - state->map_bytes / STATE_LAST_DIVISOR)
		limit -= state->map_bytes / STATE_RUNS_DIVISOR;
	now = clock_now_ns();
	if (state->free_pages_number != txn->number &&
	    now - state->free_pages_at_ns >= believe_ns) {
		state->free_pages = state_free_pages(state);
		state->free_pages_at_ns = now;
		state->free_pages_number = txn->number;
	}
	unused = state->free_pages * state->page_size;
	return unused >= used || used - unused < limit;
}

int
state_is_tight(struct state_txn *txn)
{
	int64_t believe_ns = STATE_FREE_PAGES_NS * (int64_t)(txn->state->map_bytes >> 20) /
	    (int64_t)(STATE_MAP_BYTES >> 20);

	return !state_has_room(txn, 0, STATE_RESERVE_DIVISOR, believe_ns);
}

int
state_fits(struct state_txn *txn, size_t len)
{
	return len <= STATE_SMALL_ROW || state_has_room(txn, len, STATE_LAST_DIVISOR, 0);
}

int
state_get(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    struct state_view *row)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	int rc;

	rc = mdb_get(txn->mdb, txn->state->tables[table], &k, &v);
	if (rc != 0)
		return state_fail(txn->state, rc);
	row->data = v.mv_data;
	row->len = v.mv_size;
	return 0;
}

int
state_put(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    const void *row, size_t len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	MDB_val v = { len, (void *)(uintptr_t)row };
	int rc;

	txn->grown += len;
	rc = mdb_put(txn->mdb, txn->state->tables[table], &k, &v, 0);
	return rc == 0 ? 0 : state_fail(txn->state, rc);
}

int
state_reserve(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    size_t len, void **room)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	MDB_val v = { len, NULL };
	int rc;

	txn->grown += len;
	rc = mdb_put(txn->mdb, txn->state->tables[table], &k, &v, MDB_RESERVE);
	if (rc != 0)
		return state_fail(txn->state, rc);
	*room = v.mv_data;
	return 0;
}

int
state_del(struct state_txn *txn, enum state_table table, const void *key, size_t key_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	int rc;

	rc = mdb_del(txn->mdb, txn->state->tables[table], &k, NULL);
	return rc == 0 ? 0 : state_fail(txn->state, rc);
}

uint64_t
state_count(struct state_txn *txn, enum state_table table)
{
	MDB_stat stat;

	if (mdb_stat(txn->mdb, txn->state->tables[table], &stat) != 0)
		return 0;
	return stat.ms_entries;
}

/* A state_cursor is LMDB's own, under a name that keeps lmdb.h out of the other files. */
static MDB_cursor *
state_mdb_cursor(struct state_cursor *cursor)
{
	return (MDB_cursor *)(void *)cursor;
}

static int
state_cursor_move(struct state_cursor *cursor, MDB_val *k, MDB_cursor_op op,
    struct state_view *key, struct state_view *row)
{
	MDB_val v;
	int rc;

	rc = mdb_cursor_get(state_mdb_cursor(cursor), k, &v, op);
	if (rc == MDB_NOTFOUND)
		return ERR_NOTFOUND;
	if (rc != 0)
		return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND ? ERR_CORRUPT : ERR_SYSTEM;
	key->data = k->mv_data;
	key->len = k->mv_size;
	row->data = v.mv_data;
	row->len = v.mv_size;
	return 0;
}

int
state_cursor_open(struct state_txn *txn, enum state_table table, struct state_cursor **cursor)
{
	MDB_cursor *mdb;
	int rc;

	rc = mdb_cursor_open(txn->mdb, txn->state->tables[table], &mdb);
	if (rc != 0)
		return state_fail(txn->state, rc);
	*cursor = (struct state_cursor *)(void *)mdb;
	return 0;
}

void
state_cursor_close(struct state_cursor *cursor)
{
	mdb_cursor_close(state_mdb_cursor(cursor));
}

int
state_seek(struct state_cursor *cursor, const void *key, size_t key_len,
    struct state_view *found_key, struct state_view *row)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };

	return state_cursor_move(cursor, &k, MDB_SET_RANGE, found_key, row);
}

int
state_next(struct state_cursor *cursor, struct state_view *found_key, struct state_view *row)
{
	MDB_val k = { 0, NULL };

	return state_cursor_move(cursor, &k, MDB_NEXT, found_key, row);
}

int
state_cursor_del(struct state_cursor *cursor)
{
	int rc = mdb_cursor_del(state_mdb_cursor(cursor), 0);

	if (rc == 0)
		return 0;
	return rc == MDB_MAP_FULL || rc == MDB_TXN_FULL ? ERR_FULL : ERR_SYSTEM;
}

int
state_each_owner(struct state_txn *txn, enum state_table table,
    int (*visit)(void *arg, uint64_t conn_id), void *arg)
{
	struct state_cursor *cursor = NULL;
	struct state_view key, row;
	uint64_t conn_id = 0;
	uint8_t start[8];
	int rc;

	if ((rc = state_cursor_open(txn, table, &cursor)) != 0)
		return rc;
	for (;;) {
		state_key_put(start, conn_id);
		rc = state_seek(cursor, start, sizeof start, &key, &row);
		if (rc == 0 && key.len < sizeof start)
			rc = ERR_CORRUPT;
		if (rc != 0)
			break;
		conn_id = state_key_get(key.data);
		if ((rc = visit(arg, conn_id)) != 0 || conn_id == UINT64_MAX)
			break;
		conn_id++;
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
state_check_readers(struct state *state)
{
	int dead, rc = mdb_reader_check(state->env, &dead);

	return rc == 0 ? 0 : state_fail(state, rc);
}

int
state_wake_later(struct state_txn *txn, uint32_t slot, uint64_t conn_id)
{
	struct state_wake *more;
	size_t i, size;

	for (i = txn->n_wakes; i-- > 0; )
		if (txn->wakes[i].conn_id == conn_id && txn->wakes[i].slot == slot)
			return 0;
	if (txn->n_wakes == txn->size_wakes) {
		size = txn->size_wakes ? txn->size_wakes * 2 : 16;
		more = realloc(txn->wakes, size * sizeof *more);
		if (more == NULL)
			return ERR_NOMEM;
		txn->wakes = more;
		txn->size_wakes = size;
	}
	txn->wakes[txn->n_wakes].conn_id = conn_id;
	txn->wakes[txn->n_wakes++].slot = slot;
	return 0;
}

struct inbox_batch **
state_inbox_batch(struct state_txn *txn)
{
	return &txn->inbox;
}
