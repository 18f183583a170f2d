/*
 * env: what the environments of this layer have in common. Internal to state.c and store.c; everybody
 * else sees state.h.
 *
 * The state and the store are both a struct state: which tables it has, whether its commits
 * reach the disk, and whether its transactions are marked on the board is all that differs.
 */
#ifndef LIMINAL_STATE_ENV_H
#define LIMINAL_STATE_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/wake.h"
#include "state/inbox.h"
#include "state/state.h"

/* Behind what LMDB says of a damaged durable environment. */
#define ENV_DAMAGED	" (" STATE_DAMAGED_TEXT ")"

struct MDB_env;
struct MDB_txn;

struct env_kind {
	const char *name;		/* of its directory; for messages too */
	const char *setting;		/* that names the directory above */
	int first_table, end_table;	/* enum state_table */
	int is_durable;			/* a commit has reached the disk when it returns */
};

struct env_options {
	int is_readonly;
	int may_create;			/* what is missing of it */
	size_t map_bytes;		/* 0 = as it was created */
	uint32_t max_readers;		/* 0 = as whoever opened it first said */
};

struct env_wake { uint64_t conn_id; uint32_t slot; };

struct state_txn {
	struct state *state;
	struct MDB_txn *mdb;
	int is_write;
	uint32_t n_ids;
	uint64_t number;
	uint64_t grown;			/* bytes put, as if all of them were new */
	struct inbox_batch *inbox;
	struct env_wake *wakes;		/* kept between transactions */
	size_t n_wakes, size_wakes;
};

struct state {
	struct MDB_env *mdb;
	unsigned tables[STORE_TABLES_END];	/* LMDB's handles; ENV_NO_TABLE = another environment's */
	int is_durable;
	size_t map_bytes;
	size_t page_size;
	struct wake *wake;		/* NULL: transactions are not marked on the board */
	struct state_txn txn;
	int last_error;			/* LMDB's or errno's number */
	int64_t free_pages_at_ns;
	uint64_t free_pages, free_pages_number;
};

#define ENV_NO_TABLE	(~0U)

/* "<dir>/<kind>FILE" to OUT; ERR_INVALID with the reason when it is too long. */
int	env_path(char *out, size_t size, const struct env_kind *kind, const char *dir,
	    const char *file, struct err *err);

/* Make the directory PATH of an environment unless it is there. 0 or ERR_SYSTEM. */
int	env_make_dir(const struct env_kind *kind, const char *path, struct err *err);

/* Open the environment in PATH with its tables. 0; ERR_NOMEM: also when the map does not fit into the
 * address space; ERR_FULL, ERR_CORRUPT, ERR_BUSY, ERR_SYSTEM. */
int	env_open(struct state **state, const struct env_kind *kind, const char *path,
	    const struct env_options *options, struct wake *wake, struct err *err);

/* The end of a transaction without what the state does about inboxes and wakes. */
int	env_commit(struct state_txn *txn);
void	env_abort(struct state_txn *txn);

/* Is the file that STATE has open the one that its path names? 1 also when that cannot be said. */
int	env_is_in_place(struct state *state);

/* The last page that the file uses, and how many pages of it are free. */
int	env_last_page(struct state *state, uint64_t *page);
uint64_t env_free_pages(struct state *state);

/*
 * Write zeros behind the last page, one CHUNK at most, until AHEAD bytes are there: a commit into
 * blocks that the file has already is a third shorter than one that makes it grow. For the
 * only writer, outside of a transaction. 1: written, 0: enough is there, or a code.
 */
int	env_grow_ahead(struct state *state, size_t ahead, size_t chunk);

#endif
