/*
 * The store environment. Its map is address space, not memory or disk: the file grows by need.
 * The size is fixed when it is created, because a map that one process enlarges has to be adopted by
 * all others; each later start raises it to what is usual, when no other process is there yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "state/env.h"
#include "state/store.h"

#define STORE_MAP_BYTES		((size_t)64 << 30)
/* Where the address space is limited (ulimit -v, valgrind) the half of it is tried, down to
 * this. */
#define STORE_MAP_BYTES_MIN	((size_t)1 << 20)
/* Reader slots beyond one per connection: the store process, onlookers. */
#define STORE_EXTRA_READERS	64

/* How far the file is ahead of what is in it: a fraction of that, so that a small store stays small. */
#define STORE_AHEAD_DIVISOR	4
#define STORE_AHEAD_MAX		((size_t)16 << 20)
#define STORE_AHEAD_CHUNK	((size_t)256 << 10)

#define STORE_CHECK_KEY		"started"

static const struct env_kind store_kind = {
	.name = "store", .setting = "persist_dir", .first_table = STORE_HISTORY,
	.end_table = STORE_TABLES_END, .is_durable = 1
};

/* Open it with the map as large as OPTIONS say, or as it can be. */
static int
store_open_with(struct state **store, const char *path, struct env_options *options,
    struct err *err)
{
	int rc = env_open(store, &store_kind, path, options, NULL, err);

	if (options->map_bytes == 0)
		options->map_bytes = STORE_MAP_BYTES;
	while (rc == ERR_NOMEM && options->map_bytes / 2 >= STORE_MAP_BYTES_MIN) {
		options->map_bytes /= 2;
		rc = env_open(store, &store_kind, path, options, NULL, err);
	}
	return rc;
}

/* That a commit works shows here and not when the first dispatch waits for one. It also makes a
 * larger map the one that everybody else opens. */
static int
store_check_writing(struct state *store)
{
	const uint64_t one = 1;
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(store, &txn)) != 0)
		return rc;
	rc = state_put(txn, STORE_META, STORE_CHECK_KEY, sizeof STORE_CHECK_KEY - 1, &one,
	    sizeof one);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

/* What a directory names survives a power cut only when the directory itself was written. One that
 * may not be read, and file systems that know no such thing (EINVAL), are left to themselves. */
static int
store_sync_dir(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd == -1)
		return 0;
	if (fsync(fd) == -1 && errno != EINVAL)
		rc = err_sys(err, errno, "persist_dir: cannot flush the directory %s", path);
	close(fd);
	return rc;
}

int
store_create_sized(const char *persist_dir, uint32_t max_connections, size_t map_bytes,
    struct err *err)
{
	struct env_options options = {
		.may_create = 1, .map_bytes = map_bytes,
		.max_readers = max_connections + STORE_EXTRA_READERS
	};
	struct state *store;
	char path[4096];
	int rc;

	if ((rc = env_path(path, sizeof path, &store_kind, persist_dir, "", err)) != 0 ||
	    (rc = env_make_dir(&store_kind, path, err)) != 0 ||
	    (rc = store_open_with(&store, path, &options, err)) != 0)
		return rc;
	if ((rc = store_check_writing(store)) != 0)
		err_set(err, rc, "persist_dir: cannot write to the store in %s: %s%s", path,
		    state_error_text(store), rc == ERR_CORRUPT ? ENV_DAMAGED : "");
	state_close(store);
	if (rc == 0)
		rc = store_sync_dir(path, err);
	if (rc == 0)
		rc = store_sync_dir(persist_dir, err);
	return rc;
}

int
store_create(const char *persist_dir, uint32_t max_connections, struct err *err)
{
	return store_create_sized(persist_dir, max_connections, STORE_MAP_BYTES, err);
}

static int
store_open_existing(struct state **store, const char *persist_dir, int is_readonly,
    struct err *err)
{
	struct env_options options = { .is_readonly = is_readonly };
	char path[4096];
	int rc;

	*store = NULL;
	if ((rc = env_path(path, sizeof path, &store_kind, persist_dir, "", err)) != 0)
		return rc;
	return store_open_with(store, path, &options, err);
}

int
store_open(struct state **store, const char *persist_dir, struct err *err)
{
	return store_open_existing(store, persist_dir, 0, err);
}

int
store_open_readonly(struct state **store, const char *persist_dir, struct err *err)
{
	return store_open_existing(store, persist_dir, 1, err);
}

int
store_is_in_place(struct state *store)
{
	return env_is_in_place(store);
}

void
store_grow_ahead(struct state *store)
{
	uint64_t last = 0;
	size_t ahead;

	if (env_last_page(store, &last) != 0)
		return;
	ahead = (size_t)last * store->page_size / STORE_AHEAD_DIVISOR;
	(void)env_grow_ahead(store, ahead < STORE_AHEAD_MAX ? ahead : STORE_AHEAD_MAX,
	    STORE_AHEAD_CHUNK);
}
