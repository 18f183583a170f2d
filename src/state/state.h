/*
 * state: the environment in <runtime_dir>/state, everything that dies with the connections.
 *
 * The master creates it, empty, before its first fork and never opens it again; each
 * process opens it for itself. One write transaction per turn of a process's loop, no
 * blocking call inside one. A process may die at any instruction: LMDB keeps the
 * environment whole, and what this layer's functions leave behind is true between any
 * two transactions.
 *
 * The tables are a user interface (mdb_stat -a shows them). Keys are big-endian, so
 * that byte order is order and a range scan is a prefix scan. Rows are plain structs
 * with a version, or the images of form/record.h.
 *
 * Ids: one sequence for correlation ids, inbox rows and arrivals, taken from the number of the
 * write transaction. What a reader's snapshot shows is exactly what has an id up to
 * state_snapshot_id(), so "what is new for me" is a range scan and takes no lock.
 */
#ifndef LIMINAL_STATE_STATE_H
#define LIMINAL_STATE_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/board.h"
#include "os/wake.h"

enum state_table {
	STATE_CONNECTIONS, STATE_WORKERS, STATE_POOL, STATE_PUSHES, STATE_INBOX, STATE_PENDING,
	STATE_CONVERSATIONS, STATE_COUNTERS, STATE_CHANNELS, STATE_MESSAGES,
	STATE_SUBSCRIPTIONS, STATE_REGISTRATIONS, STATE_OPERATIONS, STATE_LISTENERS,
	STATE_CONSUMERS, STATE_KEYS, STATE_KEYS_BY_AGE,
	STATE_N_TABLES,
	/* Of the store environment (state/store.h). */
	STORE_HISTORY = STATE_N_TABLES, STORE_WORKFLOWS, STORE_OPEN, STORE_CLOSED, STORE_META,
	STORE_CHANNELS, STORE_MESSAGES, STORE_CONSUMERS, STORE_KEYS, STORE_KEYS_BY_AGE,
	STORE_TABLES_END
};

extern const char *const state_table_names[STORE_TABLES_END];

/* What a peer reads when what it asks for does not fit. */
#define STATE_FULL_TEXT \
	"the server's state is full: the operator has to give runtime_dir more room"

/* What an operator can do about a store that does not read back. */
#define STATE_DAMAGED_TEXT \
	"it is damaged: put a copy in its place, or move it away to begin an empty one"

struct state;		/* an open environment; one per process */
struct state_txn;	/* a transaction; at most one at a time per environment and process */
struct state_cursor;

struct state_view { const void *data; size_t len; };

/*
 * Empty and create the environment below RUNTIME_DIR, for up to MAX_CONNECTIONS processes, and
 * close it. Only for the master, with the directory's lock held and no child alive. 0,
 * or ERR_SYSTEM / ERR_FULL (no room on the file system) with the path in ERR.
 */
int	state_create(const char *runtime_dir, uint32_t max_connections, struct err *err);

/*
 * Open the environment in this process, after its fork. WAKE (may be NULL: never wakes
 * anybody, and marks nothing on the board) must outlive it. 0 or a negative code.
 */
int	state_open(struct state **state, const char *runtime_dir, struct wake *wake,
	    struct err *err);

/* The same for an onlooker: every write is refused by the library. */
int	state_open_readonly(struct state **state, const char *runtime_dir, struct err *err);
void	state_close(struct state *state);

/*
 * Transactions. state_begin_write waits for the write lock. state_commit flushes what
 * was posted to inboxes, commits, and only then pokes whoever got something. After a
 * failed commit, or state_abort, nothing has happened. ERR_FULL: the map or the file
 * system is full; ERR_BUSY: no reader slot; ERR_CORRUPT, ERR_SYSTEM: the environment
 * is of no use to this process any more.
 */
int	state_begin_write(struct state *state, struct state_txn **txn);
int	state_begin_read(struct state *state, struct state_txn **txn);
int	state_commit(struct state_txn *txn);
void	state_abort(struct state_txn *txn);

/* A number that no other life of the state has: ids and conn ids begin again with each. */
int	state_epoch(struct state_txn *txn, uint64_t *epoch);

/* What went wrong last, for a log line; static text. */
const char *state_error_text(const struct state *state);

/* The next id of a write transaction; 0 when it has given out its 65535. */
uint64_t state_next_id(struct state_txn *txn);

/* The last id that a snapshot can show. */
uint64_t state_snapshot_id(const struct state_txn *txn);

/* The number of the last committed transaction, at the price of a few loads; compare with
 * state_txn_number() of an earlier snapshot to learn whether anything has changed. */
uint64_t state_last_number(struct state *state);
uint64_t state_txn_number(const struct state_txn *txn);

/* 1 if new work has to be refused so that old work can still be finished (systems.md:
 * reserve before you promise). Write transactions only. */
int	state_is_tight(struct state_txn *txn);

/* The same for messages of channels, which are refused earlier: what subscribers have not read yet must not
 * keep others from asking for anything. */
int	state_is_crowded(struct state_txn *txn);

/* 1 if a row of LEN bytes leaves the last part of the map free, without which rows could
 * not even be removed; small rows always do. For whatever may be large. Write transactions only. */
int	state_fits(struct state_txn *txn, size_t len);

/* Rows. A view points into the map and is valid until the next write or the end of the
 * transaction. state_get and state_del: ERR_NOTFOUND when there is none. */
int	state_get(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
	    struct state_view *row);
int	state_put(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
	    const void *row, size_t len);
/* The same for a key behind all others of the table, which is what most new ones are: fills its
 * pages. ERR_INVALID when it is not behind. */
int	state_append(struct state_txn *txn, enum state_table table, const void *key, size_t key_len,
	    const void *row, size_t len);
/* Room for a row of LEN bytes, to be filled before any other call on the transaction. */
int	state_reserve(struct state_txn *txn, enum state_table table, const void *key,
	    size_t key_len, size_t len, void **room);
int	state_del(struct state_txn *txn, enum state_table table, const void *key, size_t key_len);
uint64_t state_count(struct state_txn *txn, enum state_table table);

/* Cursors: at most a few at once; closed before the transaction ends. state_seek stands on the
 * first key at or after KEY. ERR_NOTFOUND at the end. */
int	state_cursor_open(struct state_txn *txn, enum state_table table,
	    struct state_cursor **cursor);
void	state_cursor_close(struct state_cursor *cursor);
int	state_seek(struct state_cursor *cursor, const void *key, size_t key_len,
	    struct state_view *found_key, struct state_view *row);
int	state_next(struct state_cursor *cursor, struct state_view *found_key,
	    struct state_view *row);
/* Stand on the last key at or before KEY. ERR_NOTFOUND: all are behind it. */
int	state_seek_back(struct state_cursor *cursor, const void *key, size_t key_len,
	    struct state_view *found_key, struct state_view *row);
/* Delete the row that the cursor stands on; state_next then gives the one after it. */
int	state_cursor_del(struct state_cursor *cursor);

/*
 * Visit, in order, each connection that TABLE (pushes or inbox, whose keys begin with a
 * conn id) has a row for; once each, by one seek each.
 */
int	state_each_owner(struct state_txn *txn, enum state_table table,
	    int (*visit)(void *arg, uint64_t conn_id), void *arg);

/* Free the reader slots of processes that died while reading, and wake those whose wake-up died with
 * one that had the write lock; for the keeper, and for the store process. */
int	state_check_readers(struct state *state);

/* Remember to poke connection CONN_ID in SLOT after the commit. 0 or ERR_NOMEM. */
int	state_wake_later(struct state_txn *txn, uint32_t slot, uint64_t conn_id);

/* The inbox's per-transaction gathering place (state/inbox.c). */
struct inbox_batch;
struct inbox_batch **state_inbox_batch(struct state_txn *txn);

/* Big-endian keys. */
static inline void
state_key_put(uint8_t *key, uint64_t value)
{
	value = __builtin_bswap64(value);
	__builtin_memcpy(key, &value, 8);
}

static inline uint64_t
state_key_get(const uint8_t *key)
{
	uint64_t value;

	__builtin_memcpy(&value, key, 8);
	return __builtin_bswap64(value);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "state keys: add the big-endian case"
#endif

#endif
