/*
 * The only file that sees LMDB. It owns the environments' handles, the tables' handles and the
 * translation of LMDB's results into the project's codes; it knows no row.
 *
 * No MDB_WRITEMAP, ever: without it the map is read-only in every process, so a wild pointer
 * cannot reach what others have. MDB_NOTLS, and reads end with abort, so that reader slots live for
 * microseconds. MDB_NOSYNC only for what lies on a tmpfs and means nothing after a restart.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "state/env.h"

#define ENV_OPEN_TRIES	3
#define ENV_READ_TRIES	16
/* The head of LMDB's lock file: its two locks, each in its own cache lines; readers follow. */
#define ENV_LOCK_BYTES	256

const char *const state_table_names[STORE_TABLES_END] = {
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
	[STATE_OPERATIONS] = "operations",
	[STATE_LISTENERS] = "listeners",
	[STATE_CONSUMERS] = "consumers",
	[STATE_KEYS] = "keys",
	[STATE_KEYS_BY_AGE] = "keys_by_age",
	[STORE_HISTORY] = "history",
	[STORE_WORKFLOWS] = "workflows",
	[STORE_OPEN] = "open",
	[STORE_CLOSED] = "closed",
	[STORE_META] = "meta",
	[STORE_CHANNELS] = "channels",
	[STORE_MESSAGES] = "messages",
	[STORE_CONSUMERS] = "consumers",
	[STORE_KEYS] = "keys",
	[STORE_KEYS_BY_AGE] = "keys_by_age",
};

static int
env_fail(struct state *state, int rc)
{
	state->last_error = rc;
	switch (rc) {
	case MDB_NOTFOUND:
		return ERR_NOTFOUND;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case EIO:	/* also what LMDB makes of a write that is cut short by a full file system */
		return state->is_durable ? ERR_SYSTEM : ERR_FULL;
	case MDB_READERS_FULL:
	case EAGAIN:
		return ERR_BUSY;
	case ENOMEM:
		return ERR_NOMEM;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:	/* no LMDB file */
	case MDB_VERSION_MISMATCH:
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

int
env_path(char *out, size_t size, const struct env_kind *kind, const char *dir, const char *file,
    struct err *err)
{
	int n = snprintf(out, size, "%s/%s%s", dir, kind->name, file);

	if (n < 0 || (size_t)n >= size)
		return err_set(err, ERR_INVALID, "%s '%s' is too long", kind->setting, dir);
	return 0;
}

int
env_make_dir(const struct env_kind *kind, const char *path, struct err *err)
{
	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return err_sys(err, errno, "%s: cannot create %s", kind->setting, path);
	return 0;
}

static int
env_open_tables(struct state *state, const struct env_kind *kind, int may_create)
{
	MDB_txn *txn;
	int rc, i;

	rc = mdb_txn_begin(state->mdb, NULL, may_create ? 0 : MDB_RDONLY, &txn);
	if (rc != 0)
		return rc;
	for (i = kind->first_table; rc == 0 && i < kind->end_table; i++)
		rc = mdb_dbi_open(txn, state_table_names[i], may_create ? MDB_CREATE : 0,
		    &state->tables[i]);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);	/* an abort would close the handles again */
}

static int
env_open_once(struct state *state, const struct env_kind *kind, const char *path,
    const struct env_options *options)
{
	unsigned flags = MDB_NOTLS;
	int rc;

	flags |= kind->is_durable ? 0 : MDB_NOSYNC;
	flags |= options->is_readonly ? MDB_RDONLY : 0;
	rc = mdb_env_create(&state->mdb);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(state->mdb,
		    (unsigned)(kind->end_table - kind->first_table));
	if (rc == 0 && options->map_bytes > 0)
		rc = mdb_env_set_mapsize(state->mdb, options->map_bytes);
	if (rc == 0 && options->max_readers > 0)
		rc = mdb_env_set_maxreaders(state->mdb, options->max_readers);
	if (rc == 0)
		rc = mdb_env_open(state->mdb, path, flags, 0600);
	return rc;
}

static int
env_open_handle(struct state *state, const struct env_kind *kind, const char *path,
    const struct env_options *options)
{
	int rc, i;

	/* LMDB documents a race between an opener and a closer; it passes. */
	for (i = 0; ; i++) {
		rc = env_open_once(state, kind, path, options);
		if (rc == 0)
			return 0;
		mdb_env_close(state->mdb);
		state->mdb = NULL;
		if (i + 1 == ENV_OPEN_TRIES || (rc != EAGAIN && rc != MDB_INVALID))
			return rc;
	}
}

static int
env_learn_sizes(struct state *state)
{
	MDB_envinfo info;
	MDB_stat stat;
	int rc;

	rc = mdb_env_info(state->mdb, &info);
	if (rc == 0)
		rc = mdb_env_stat(state->mdb, &stat);
	if (rc != 0)
		return rc;
	state->map_bytes = info.me_mapsize;
	state->page_size = stat.ms_psize;
	return 0;
}

/* Make the file as long as its pages say, so that what was cut off reads as corrupt and does not
 * end the reader with SIGBUS. */
static int
env_complete_file(struct state *state)
{
	MDB_envinfo info;
	uint64_t bytes;
	struct stat st;
	int fd, rc;

	if ((rc = mdb_env_info(state->mdb, &info)) != 0 ||
	    (rc = mdb_env_get_fd(state->mdb, &fd)) != 0)
		return rc;
	bytes = ((uint64_t)info.me_last_pgno + 1) * state->page_size;
	if (fstat(fd, &st) == 0 &&
	    ((uint64_t)st.st_size >= bytes || ftruncate(fd, (off_t)bytes) == 0))
		return 0;
	return errno;
}

int
env_open(struct state **out, const struct env_kind *kind, const char *path,
    const struct env_options *options, struct wake *wake, struct err *err)
{
	struct state *state;
	int rc, code, i;

	*out = NULL;
	state = calloc(1, sizeof *state);
	if (state == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	state->wake = wake;
	state->is_durable = kind->is_durable;
	for (i = 0; i < STORE_TABLES_END; i++)
		state->tables[i] = ENV_NO_TABLE;
	rc = env_open_handle(state, kind, path, options);
	if (rc == 0)
		rc = mdb_env_set_userctx(state->mdb, state);
	if (rc == 0)
		rc = env_learn_sizes(state);
	if (rc == 0 && options->may_create)
		rc = env_complete_file(state);
	if (rc == 0)
		rc = env_open_tables(state, kind, options->may_create);
	if (rc != 0) {
		code = env_fail(state, rc);
		rc = err_set(err, code, "%s: cannot open the %s in %s: %s%s", kind->setting,
		    kind->name, path, mdb_strerror(rc),
		    code == ERR_CORRUPT && kind->is_durable ? ENV_DAMAGED : "");
		state_close(state);
		return rc;
	}
	*out = state;
	return 0;
}

void
state_close(struct state *state)
{
	if (state == NULL)
		return;
	inbox_batch_free(state->txn.inbox);
	free(state->txn.wakes);
	if (state->mdb != NULL)
		mdb_env_close(state->mdb);
	free(state);
}

/*
 * Marks for the watchdog. The owner of the write lock must be told from those who wait for
 * it; a process that is stopped between the two marks shows as a waiter that does not
 * sleep, which the watchdog recognises as well.
 */
static void
env_mark(struct state *state, int64_t wait, int64_t write, int64_t read)
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
env_begin_exact_read(struct state *state, MDB_txn **mdb)
{
	MDB_envinfo info;
	size_t behind;
	int rc, tries;

	for (tries = 0; ; tries++) {
		rc = mdb_txn_begin(state->mdb, NULL, MDB_RDONLY, mdb);
		if (rc != 0)
			return rc;
		atomic_thread_fence(memory_order_seq_cst);
		if ((rc = mdb_env_info(state->mdb, &info)) != 0) {
			mdb_txn_abort(*mdb);
			return rc;
		}
		behind = info.me_last_txnid - mdb_txn_id(*mdb);
		/* A writer that died in its last step leaves it one behind for a while. */
		if (behind == 0 || (behind == 1 && tries >= ENV_READ_TRIES))
			return 0;
		mdb_txn_abort(*mdb);
	}
}

static int
env_begin(struct state *state, struct state_txn **out, int is_write)
{
	struct state_txn *txn = &state->txn;
	int rc;

	if (txn->mdb != NULL)
		log_panic("a transaction inside a transaction");
	if (is_write)
		env_mark(state, clock_now_ns(), 0, 0);
	else
		env_mark(state, 0, 0, clock_now_ns());
	rc = is_write ? mdb_txn_begin(state->mdb, NULL, 0, &txn->mdb) :
	    env_begin_exact_read(state, &txn->mdb);
	if (rc != 0) {
		txn->mdb = NULL;
		env_mark(state, 0, 0, 0);
		return env_fail(state, rc);
	}
	if (is_write)
		env_mark(state, 0, clock_now_ns(), 0);
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
	return env_begin(state, txn, 1);
}

int
state_begin_read(struct state *state, struct state_txn **txn)
{
	return env_begin(state, txn, 0);
}

int
env_commit(struct state_txn *txn)
{
	struct state *state = txn->state;
	int rc = mdb_txn_commit(txn->mdb);	/* frees the transaction in any case */

	txn->mdb = NULL;
	env_mark(state, 0, 0, 0);
	return rc == 0 ? 0 : env_fail(state, rc);
}

void
env_abort(struct state_txn *txn)
{
	mdb_txn_abort(txn->mdb);
	txn->mdb = NULL;
	env_mark(txn->state, 0, 0, 0);
}

uint64_t
state_last_number(struct state *state)
{
	MDB_envinfo info;

	if (mdb_env_info(state->mdb, &info) != 0)
		return 0;
	return info.me_last_txnid;
}

/* The pages on LMDB's free list, which a write may use again. LMDB shows it to readers
 * only; a second transaction is what MDB_NOTLS allows. */
uint64_t
env_free_pages(struct state *state)
{
	MDB_cursor *cursor;
	MDB_val key, row;
	MDB_txn *reader;
	uint64_t pages = 0;
	size_t n;

	if (mdb_txn_begin(state->mdb, NULL, MDB_RDONLY, &reader) != 0)
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

int
env_last_page(struct state *state, uint64_t *page)
{
	MDB_envinfo info;
	int rc = mdb_env_info(state->mdb, &info);

	if (rc != 0)
		return env_fail(state, rc);
	*page = info.me_last_pgno;
	return 0;
}

int
env_is_in_place(struct state *state)
{
	struct stat mine, named;
	char file[PATH_MAX];
	const char *dir;
	int fd, n;

	if (mdb_env_get_fd(state->mdb, &fd) != 0 || fstat(fd, &mine) == -1 ||
	    mdb_env_get_path(state->mdb, &dir) != 0)
		return 1;
	n = snprintf(file, sizeof file, "%s/data.mdb", dir);
	if (n < 0 || (size_t)n >= sizeof file)
		return 1;
	if (stat(file, &named) == -1)
		return errno != ENOENT && errno != ENOTDIR;
	return named.st_dev == mine.st_dev && named.st_ino == mine.st_ino;
}

int
env_grow_ahead(struct state *state, size_t ahead, size_t chunk)
{
	uint64_t last = 0, end;
	struct stat st;
	void *zeros;
	ssize_t n;
	int fd, rc;

	if ((rc = env_last_page(state, &last)) != 0)
		return rc;
	if ((rc = mdb_env_get_fd(state->mdb, &fd)) != 0)
		return env_fail(state, rc);
	if (fstat(fd, &st) != 0)
		return env_fail(state, errno);
	end = (last + 1) * state->page_size + ahead;
	if ((uint64_t)st.st_size >= end || end > state->map_bytes)
		return 0;
	if ((zeros = calloc(1, chunk)) == NULL)
		return ERR_NOMEM;
	/* Dying here leaves a longer file: what is behind the last page means nothing. */
	n = pwrite(fd, zeros, chunk, st.st_size);
	rc = n > 0 ? 1 : env_fail(state, errno);
	free(zeros);
	return rc;
}

int
state_get(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    struct state_view *row)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	int rc;

	rc = mdb_get(txn->mdb, txn->state->tables[table], &k, &v);
	if (rc != 0)
		return env_fail(txn->state, rc);
	row->data = v.mv_data;
	row->len = v.mv_size;
	return 0;
}

static int
env_put(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    const void *row, size_t len, unsigned flags)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	MDB_val v = { len, (void *)(uintptr_t)row };
	int rc;

	txn->grown += len;
	rc = mdb_put(txn->mdb, txn->state->tables[table], &k, &v, flags);
	if (rc == MDB_KEYEXIST)		/* LMDB's word for MDB_APPEND to somewhere else */
		return ERR_INVALID;
	return rc == 0 ? 0 : env_fail(txn->state, rc);
}

int
state_put(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    const void *row, size_t len)
{
	return env_put(txn, table, key, key_len, row, len, 0);
}

int
state_append(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
    const void *row, size_t len)
{
	return env_put(txn, table, key, key_len, row, len, MDB_APPEND);
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
		return env_fail(txn->state, rc);
	*room = v.mv_data;
	return 0;
}

int
state_del(struct state_txn *txn, enum state_table table, const void *key, size_t key_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	int rc;

	rc = mdb_del(txn->mdb, txn->state->tables[table], &k, NULL);
	return rc == 0 ? 0 : env_fail(txn->state, rc);
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
env_mdb_cursor(struct state_cursor *cursor)
{
	return (MDB_cursor *)(void *)cursor;
}

static struct state *
env_cursor_state(struct state_cursor *cursor)
{
	return mdb_env_get_userctx(mdb_txn_env(mdb_cursor_txn(env_mdb_cursor(cursor))));
}

static int
env_cursor_move(struct state_cursor *cursor, MDB_val *k, MDB_cursor_op op,
    struct state_view *key, struct state_view *row)
{
	MDB_val v;
	int rc;

	rc = mdb_cursor_get(env_mdb_cursor(cursor), k, &v, op);
	if (rc != 0)
		return env_fail(env_cursor_state(cursor), rc);
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
		return env_fail(txn->state, rc);
	*cursor = (struct state_cursor *)(void *)mdb;
	return 0;
}

void
state_cursor_close(struct state_cursor *cursor)
{
	mdb_cursor_close(env_mdb_cursor(cursor));
}

int
state_seek(struct state_cursor *cursor, const void *key, size_t key_len,
    struct state_view *found_key, struct state_view *row)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };

	return env_cursor_move(cursor, &k, MDB_SET_RANGE, found_key, row);
}

int
state_next(struct state_cursor *cursor, struct state_view *found_key, struct state_view *row)
{
	MDB_val k = { 0, NULL };

	return env_cursor_move(cursor, &k, MDB_NEXT, found_key, row);
}

int
state_seek_back(struct state_cursor *cursor, const void *key, size_t key_len,
    struct state_view *found_key, struct state_view *row)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key };
	int rc;

	rc = env_cursor_move(cursor, &k, MDB_SET_RANGE, found_key, row);
	if (rc == 0 && found_key->len == key_len && memcmp(found_key->data, key, key_len) == 0)
		return 0;
	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	return env_cursor_move(cursor, &k, rc == 0 ? MDB_PREV : MDB_LAST, found_key, row);
}

int
state_cursor_del(struct state_cursor *cursor)
{
	int rc = mdb_cursor_del(env_mdb_cursor(cursor), 0);

	return rc == 0 ? 0 : env_fail(env_cursor_state(cursor), rc);
}

int
state_each_owner(struct state_txn *txn, enum state_table table,
    int (*visit)(void *arg, uint64_t conn_id), void *arg)
{
	struct state_view key = { NULL, 0 }, row;
	struct state_cursor *cursor = NULL;
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

/*
 * Wake everybody who waits for one of LMDB's locks. A process that is killed when it has released
 * a lock, before it has woken the next in line, takes that wake-up with it: the kernel makes up for it,
 * but not when a third one has taken the lock meanwhile. Then the next in line would sleep until two
 * others contend. Who wakes for nothing looks and sleeps again.
 */
static void
env_wake_waiters(void)
{
	static const char name[] = "/lock.mdb\n";
	unsigned long start;
	char line[4352];
	uint32_t *words;
	size_t i, len;
	FILE *maps;

	if ((maps = fopen("/proc/self/maps", "re")) == NULL)
		return;
	while (fgets(line, sizeof line, maps) != NULL) {
		len = strlen(line);
		if (len < sizeof name || strcmp(line + len - sizeof name + 1, name) != 0 ||
		    sscanf(line, "%lx", &start) != 1)
			continue;
		/* Where in the head of the file the locks are is LMDB's affair. */
		words = (uint32_t *)start;
		for (i = 0; i < ENV_LOCK_BYTES / sizeof *words; i++)
			syscall(SYS_futex, words + i, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
	fclose(maps);
}

int
state_check_readers(struct state *state)
{
	int dead, rc = mdb_reader_check(state->mdb, &dead);

	env_wake_waiters();
	return rc == 0 ? 0 : env_fail(state, rc);
}
