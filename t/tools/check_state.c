/*
 * check-state: reads a state environment and verifies every rule that must hold between any two
 * transactions. For tests; also of use on a live daemon, whose rules hold at all times.
 *
 *	check-state [-s PERSIST_DIR] [RUNTIME_DIR [empty]]
 *
 * With "empty", nothing may be left but counters, the channels' own rows, and what channels keep: messages
 * until the keeper has looked, keys until their time has passed. With -s the store is checked as well. Prints
 * each violation; exit 0 when there is none, 1 when there is, 2 when something cannot be read.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "state/connections.h"
#include "state/conversations.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/pushes.h"
#include "state/registrations.h"
#include "state/workers.h"
#include "tools/check_channels.h"
#include "tools/check_store.h"

static int violations;
static struct state_txn *txn;

static void __attribute__((format(printf, 1, 2)))
violation(const char *fmt, ...)
{
	va_list ap;

	violations++;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static int
count_jobs(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	(void)target, (void)correlation, (void)payload;
	*(uint32_t *)arg += row->kind == PUSHES_JOB;
	return 0;
}

static int
check_worker(void *arg, uint64_t conn_id, const struct record_registration *registration)
{
	struct connections_row connection;
	struct pool_row row;
	uint32_t jobs = 0;
	uint64_t pool;
	size_t at;

	(void)arg;
	if (connections_get(txn, conn_id, &connection) != 0)
		violation("worker %llu has no connection", (unsigned long long)conn_id);
	else if (!connection.is_worker)
		violation("worker %llu is not marked as one", (unsigned long long)conn_id);
	pushes_each_of(txn, conn_id, 0, count_jobs, &jobs);
	if (registration->pools.len == 0)
		violation("worker %llu is in no pool", (unsigned long long)conn_id);
	for (at = 0; at < registration->pools.len; at += sizeof pool) {
		memcpy(&pool, registration->pools.data + at, sizeof pool);
		if (pool_row_get(txn, pool, conn_id, &row) != 0)
			violation("worker %llu has no row in pool %llu",
			    (unsigned long long)conn_id, (unsigned long long)pool);
		else if (row.in_flight != jobs)
			violation("worker %llu: %u in flight in pool %llu, but %u jobs owed",
			    (unsigned long long)conn_id, row.in_flight,
			    (unsigned long long)pool, jobs);
	}
	return 0;
}

static int
check_push(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	(void)arg, (void)row, (void)payload;
	if (connections_exists(txn, target) != 0)
		violation("push %llu: target %llu has no connection",
		    (unsigned long long)correlation, (unsigned long long)target);
	return 0;
}

static int
check_inbox(void *arg, uint64_t conn_id)
{
	(void)arg;
	if (!INBOX_IS_SERVICE(conn_id) && connections_exists(txn, conn_id) != 0)
		violation("inbox of %llu: no such connection", (unsigned long long)conn_id);
	return 0;
}

static int
check_conversation(void *arg, uint64_t conn_id, uint64_t id,
    const struct record_conversation *record)
{
	(void)arg, (void)record;
	if (connections_exists(txn, conn_id) != 0)
		violation("conversation %llu of %llu: no such connection",
		    (unsigned long long)id, (unsigned long long)conn_id);
	return 0;
}

/* The last connection that has one in force. */
static uint64_t registered;

/* A dispatch that has begun, and whose caller's end will hand it to the store. */
static int
check_operations(void *arg, uint64_t conn_id)
{
	struct connections_row row;

	(void)arg;
	if (connections_get(txn, conn_id, &row) != 0)
		violation("operations of %llu: no such connection", (unsigned long long)conn_id);
	else if (!row.has_history)
		violation("operations of %llu: it is not marked as recorded",
		    (unsigned long long)conn_id);
	return 0;
}

static int
check_registration(void *arg, uint64_t conn_id, uint64_t id, enum registrations_phase phase)
{
	(void)arg;
	/* What is due outlives its connection. */
	if (phase != REGISTRATIONS_DUE && connections_exists(txn, conn_id) != 0)
		violation("registration %llu of %llu: no such connection",
		    (unsigned long long)id, (unsigned long long)conn_id);
	if (phase != REGISTRATIONS_ACCEPTED && phase != REGISTRATIONS_WITHDRAWN)
		return 0;
	if (registered == conn_id)
		violation("connection %llu has two registrations in force",
		    (unsigned long long)conn_id);
	registered = conn_id;
	return 0;
}

struct waiting { const struct pool_snapshot *pool; uint64_t n; };

static int
check_waiting(void *arg, const struct pending_item *item)
{
	struct waiting *waiting = arg;
	const struct pool_worker *worker;
	size_t i;

	if ((item->key.pool & ~PENDING_ROUTING) != waiting->pool->meta.id)
		return 0;
	waiting->n++;
	if (connections_exists(txn, item->row.awaiter) != 0)
		violation("a waiting request of %llu: no such connection",
		    (unsigned long long)item->row.awaiter);
	for (i = 0; i < waiting->pool->n && !(item->key.pool & PENDING_ROUTING); i++) {
		worker = &waiting->pool->workers[i];
		if ((worker->row.flags & POOL_ROW_READY) &&
		    worker->row.in_flight < worker->row.max_concurrent &&
		    pool_accepts(txn, worker->conn_id, &worker->row, &item->demand) == 1)
			violation("a request waits although worker %llu has room",
			    (unsigned long long)worker->conn_id);
	}
	return 0;
}

static uint64_t pool_rows, waiting_rows;

static int
check_pool(void *arg, const struct pool_name *name, const struct pool_meta *meta)
{
	struct record_registration registration;
	struct pool_snapshot pool;
	struct waiting waiting = { &pool, 0 };
	size_t i;

	(void)arg;
	memset(&pool, 0, sizeof pool);
	if (pool_snapshot_read(txn, name, &pool) != 0)
		violation("pool %.*s cannot be read", (int)name->len, name->text);
	if (pool.n != meta->n_workers)
		violation("pool %.*s: %zu rows, %u counted", (int)name->len, name->text, pool.n,
		    meta->n_workers);
	if (meta->n_workers == 0)
		violation("pool %.*s has no workers", (int)name->len, name->text);
	for (i = 0; i < pool.n; i++) {
		if (workers_get(txn, pool.workers[i].conn_id, &registration) != 0)
			violation("pool %.*s: %llu is no worker", (int)name->len, name->text,
			    (unsigned long long)pool.workers[i].conn_id);
		else
			record_free_registration(&registration);
	}
	pending_each(txn, check_waiting, &waiting);
	if (waiting.n != meta->n_pending)
		violation("pool %.*s: %llu requests wait, %llu counted", (int)name->len,
		    name->text, (unsigned long long)waiting.n,
		    (unsigned long long)meta->n_pending);
	pool_rows += pool.n;
	waiting_rows += waiting.n;
	pool_snapshot_free(&pool);
	return 0;
}

static int
check_any_pool(void *arg, const struct pool_name *name, const struct pool_meta *meta)
{
	(void)arg, (void)meta;
	violation("pool %.*s is left", (int)name->len, name->text);
	return 0;
}

static int
may_be_left(int table)
{
	return table == STATE_COUNTERS || table == STATE_CHANNELS || table == STATE_MESSAGES ||
	    table == STATE_KEYS || table == STATE_KEYS_BY_AGE;
}

static void
check_empty(void)
{
	int table;

	for (table = 0; table < STATE_N_TABLES; table++)
		if (!may_be_left(table) && state_count(txn, (enum state_table)table) > 0)
			violation("%s: %llu rows are left", state_table_names[table],
			    (unsigned long long)state_count(txn, (enum state_table)table));
	pool_each(txn, check_any_pool, NULL);
}

/* The violations in RUNTIME_DIR, or -1. */
static int
check_state(const char *runtime_dir, int is_empty)
{
	struct state *state;
	struct err err;

	if (state_open_readonly(&state, runtime_dir, &err) != 0) {
		fprintf(stderr, "check-state: %s\n", err.text);
		return -1;
	}
	if (state_begin_read(state, &txn) != 0) {
		fprintf(stderr, "check-state: %s\n", state_error_text(state));
		return -1;
	}
	workers_each(txn, check_worker, NULL);
	pushes_each(txn, check_push, NULL);
	state_each_owner(txn, STATE_INBOX, check_inbox, NULL);
	conversations_each(txn, check_conversation, NULL);
	registrations_each(txn, check_registration, NULL);
	state_each_owner(txn, STATE_OPERATIONS, check_operations, NULL);
	check_channels(txn, violation);
	pool_each(txn, check_pool, NULL);
	if (pool_rows != state_count(txn, STATE_POOL))
		violation("pool has %llu rows, %llu of them in known pools",
		    (unsigned long long)state_count(txn, STATE_POOL),
		    (unsigned long long)pool_rows);
	if (waiting_rows != state_count(txn, STATE_PENDING))
		violation("pending has %llu rows, %llu of them in known pools",
		    (unsigned long long)state_count(txn, STATE_PENDING),
		    (unsigned long long)waiting_rows);
	if (pending_count_queued(txn) != state_count(txn, STATE_PENDING))
		violation("pending has %llu rows, the awaiters' lists %llu",
		    (unsigned long long)state_count(txn, STATE_PENDING),
		    (unsigned long long)pending_count_queued(txn));
	if (is_empty)
		check_empty();
	state_abort(txn);
	state_close(state);
	return violations;
}

int
main(int argc, char **argv)
{
	const char *persist_dir = NULL;
	int option, state = 0, store = 0;

	while ((option = getopt(argc, argv, "s:")) == 's')
		persist_dir = optarg;
	argc -= optind;
	argv += optind;
	if (option != -1 || argc > 2 || (argc == 2 && strcmp(argv[1], "empty") != 0) ||
	    (argc == 0 && persist_dir == NULL)) {
		fprintf(stderr,
		    "usage: check-state [-s PERSIST_DIR] [RUNTIME_DIR [empty]]\n");
		return 2;
	}
	if (argc > 0)
		state = check_state(argv[0], argc == 2);
	if (persist_dir != NULL)
		store = check_store(persist_dir);
	return state < 0 || store < 0 ? 2 : state > 0 || store > 0;
}
