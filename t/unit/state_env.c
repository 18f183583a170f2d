/* state: the environment, its transactions, ids and rows. */
#include <linux/futex.h>
#include <sys/stat.h>

#include "unit/state_fixture.h"

TestSuite(state_env, .init = fixture_init, .fini = fixture_fini);

/* What a program prints, without the shell. */
static void
output_of(const char *program, const char *option, const char *path, char *out, size_t size)
{
	size_t len = 0;
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	cr_assert(eq(int, pipe2(fds, O_CLOEXEC), 0));
	if ((pid = fork_child()) == 0) {
		dup2(fds[1], 1);
		execlp(program, program, option, path, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (len < size - 1 && (n = read(fds[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	waitpid(pid, &status, 0);
	cr_assert(exit_status(status) == 0, "%s: 0x%x", program, (unsigned)status);
}

Test(state_env, tables_show_in_mdb_stat_under_their_names)
{
	static const char *const names[] = { "connections", "workers", "pool", "pushes",
	    "inbox", "pending", "conversations", "counters", "channels", "messages",
	    "subscriptions", "registrations", "operations", "listeners", "consumers", "keys",
	    "keys_by_age" };
	char path[128], out[16384], line[64];
	size_t i;

	snprintf(path, sizeof path, "%s/state", fixture_dir);
	output_of("mdb_stat", "-a", path, out, sizeof out);
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(line, sizeof line, "Status of %s\n", names[i]);
		cr_assert(strstr(out, line) != NULL, "%s is missing:\n%s", names[i], out);
		cr_assert(eq(int, strcmp(state_table_names[i], names[i]), 0));
	}
	cr_assert(eq(int, STATE_N_TABLES, (int)i));
}

Test(state_env, a_crash_can_be_read_with_mdb_dump)
{
	struct state_txn *txn = write_begin();
	char path[128], out[16384];

	add_connections(txn, 1, 3);
	commit(txn);
	fixture_close();
	snprintf(path, sizeof path, "%s/state", fixture_dir);
	output_of("mdb_dump", "-a", path, out, sizeof out);
	cr_assert(strstr(out, "database=connections\n") != NULL, "%s", out);
	cr_assert(strstr(out, " 0000000000000002\n") != NULL, "%s", out);
}

Test(state_env, only_the_owner_can_read_it)
{
	struct stat st;
	char path[128];

	snprintf(path, sizeof path, "%s/state", fixture_dir);
	cr_assert(eq(int, stat(path, &st), 0));
	cr_assert(eq(uint, st.st_mode & 0777, 0700));
	strcat(path, "/data.mdb");
	cr_assert(eq(int, stat(path, &st), 0));
	cr_assert(eq(uint, st.st_mode & 0777, 0600));
}

Test(state_env, creating_again_leaves_nothing_of_the_last_run)
{
	struct state_txn *txn = write_begin();
	uint64_t value, before, after;
	int i;

	add_connections(txn, 1, 5);
	cr_assert(eq(int, counters_put(txn, "dispatched", 7), 0));
	cr_assert(eq(int, state_epoch(txn, &before), 0));
	commit(txn);
	fixture_close();
	fixture_create(16);
	fixture_open();
	/* the number of its life is all that it begins with */
	for (i = 0; i < STATE_N_TABLES; i++)
		cr_assert(eq(u64, rows_in((enum state_table)i), i == STATE_COUNTERS));
	txn = read_begin();
	cr_assert(eq(int, state_epoch(txn, &after), 0));
	cr_assert(ne(u64, before, after));
	cr_assert(eq(int, counters_get(txn, "dispatched", &value), ERR_NOTFOUND));
	state_abort(txn);
}

Test(state_env, what_cannot_be_created_or_opened_is_named)
{
	struct err err = { 0 };
	struct state *state;

	cr_assert(eq(int, state_create("/dev/shm/no/such/directory", 16, &err), ERR_SYSTEM));
	cr_assert(strstr(err.text, "/dev/shm/no/such/directory/state") != NULL, "%s", err.text);
	memset(&err, 0, sizeof err);
	cr_assert(lt(int, state_open(&state, "/dev/shm/no/such/directory", NULL, &err), 0));
	cr_assert(eq(ptr, state, NULL));
	cr_assert(strstr(err.text, "/dev/shm/no/such/directory/state") != NULL, "%s", err.text);
	cr_assert(strstr(err.text, "No such file") != NULL, "%s", err.text);
	state_close(NULL);
}

Test(state_env, an_environment_without_tables_is_refused)
{
	struct err err = { 0 };
	struct state *state;
	char path[128];
	int fd;

	fixture_close();
	snprintf(path, sizeof path, "%s/state/data.mdb", fixture_dir);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	cr_assert(ne(int, fd, -1));
	cr_assert(eq(int, (int)write(fd, "no database", 11), 11));
	close(fd);
	cr_assert(lt(int, state_open(&state, fixture_dir, NULL, &err), 0));
	cr_assert(eq(ptr, state, NULL));
	fixture_create(16);
}

Test(state_env, a_path_that_is_too_long_is_refused)
{
	struct err err = { 0 };
	struct state *state;
	static char path[5000];

	memset(path, '/', sizeof path - 1);
	cr_assert(eq(int, state_create(path, 16, &err), ERR_INVALID));
	cr_assert(eq(int, state_open(&state, path, NULL, &err), ERR_INVALID));
	cr_assert(eq(ptr, state, NULL));
}

Test(state_env, an_onlooker_reads_but_cannot_write)
{
	struct connections_row row;
	struct err err = { 0 };
	struct state_txn *txn = write_begin();

	add_connections(txn, 7, 7);
	commit(txn);
	fixture_close();
	cr_assert(eq(int, state_open_readonly(&fixture_state, fixture_dir, &err), 0));
	cr_assert(lt(int, state_begin_write(fixture_state, &txn), 0));
	cr_assert(strlen(state_error_text(fixture_state)) > 0);
	txn = read_begin();
	cr_assert(eq(int, connections_get(txn, 7, &row), 0));
	cr_assert(eq(int, strcmp(row.peer, "127.0.0.1:7"), 0));
	cr_assert(lt(int, act_connect(txn, 8, 8), 0));
	state_abort(txn);
}

Test(state_env, an_aborted_transaction_has_not_happened)
{
	struct inbox_entry entry = { .kind = INBOX_REPLY, .request = 1 };
	struct state_txn *txn = write_begin();
	uint64_t before;

	add_connections(txn, 1, 1);
	commit(txn);
	before = state_last_number(fixture_state);
	txn = write_begin();
	add_connections(txn, 2, 2);
	cr_assert(eq(int, inbox_post(txn, 1, 1, &entry, NULL), 0));
	state_abort(txn);
	cr_assert(eq(u64, state_last_number(fixture_state), before));
	/* and what was posted does not come with the next one */
	txn = write_begin();
	add_connections(txn, 3, 3);
	commit(txn);
	cr_assert(eq(u64, state_last_number(fixture_state), before + 1));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	txn = read_begin();
	cr_assert(eq(int, connections_exists(txn, 2), ERR_NOTFOUND));
	cr_assert(eq(int, connections_exists(txn, 3), 0));
	state_abort(txn);
}

Test(state_env, a_transaction_inside_a_transaction_panics)
{
	struct state_txn *txn;
	int status;
	pid_t pid;

	fixture_close();
	if ((pid = fork_child()) == 0) {
		close(2);	/* it says so */
		if (state_open(&fixture_state, fixture_dir, NULL, NULL) == 0 &&
		    state_begin_read(fixture_state, &txn) == 0)
			state_begin_write(fixture_state, &txn);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	cr_assert(eq(int, WTERMSIG(status), SIGABRT));
}

/* Ids. */

Test(state_env, ids_grow_over_transactions_and_split_at_snapshots)
{
	uint64_t id, last = 0, snapshot;
	struct state_txn *txn;
	int round, i;

	for (round = 0; round < 50; round++) {
		txn = read_begin();
		snapshot = state_snapshot_id(txn);
		state_abort(txn);
		cr_assert(le(u64, last, snapshot));
		txn = write_begin();
		for (i = 0; i < 100; i++) {
			id = state_next_id(txn);
			cr_assert(lt(u64, last, id));
			cr_assert(lt(u64, snapshot, id));
			last = id;
		}
		cr_assert(eq(int, counters_put(txn, "x", id), 0));
		commit(txn);
	}
	txn = read_begin();
	cr_assert(le(u64, last, state_snapshot_id(txn)));
	cr_assert(eq(u64, state_txn_number(txn), state_last_number(fixture_state)));
	state_abort(txn);
}

Test(state_env, a_transaction_gives_out_65535_ids_and_no_more)
{
	struct state_txn *txn = write_begin();
	uint64_t id, last = 0;
	int i;

	for (i = 0; i < 65535; i++) {
		id = state_next_id(txn);
		cr_assert(lt(u64, last, id));
		cr_assert(le(u64, id, state_snapshot_id(txn)));
		last = id;
	}
	cr_assert(eq(u64, state_next_id(txn), 0));
	cr_assert(eq(u64, state_next_id(txn), 0));
	state_abort(txn);
}

/* One process commits while another reads: what the reader may see is what has an id up to
 * its snapshot's, and nothing of it changes under it. */
Test(state_env, a_snapshot_shows_exactly_the_ids_up_to_its_own)
{
	struct pushes_row push = { .kind = PUSHES_DIRECT, .awaiter = 1 };
	struct frame_view payload = act_view("x");
	int up[2], down[2], status;
	uint64_t snapshot, id = 0;
	struct state_txn *txn = write_begin();
	char byte;
	pid_t pid;

	add_connections(txn, 1, 2);
	commit(txn);
	fixture_close();
	cr_assert(eq(int, pipe(up), 0));
	cr_assert(eq(int, pipe(down), 0));
	if ((pid = fork_child()) == 0) {
		/* "go" -> commit a push and tell its id, three times */
		if (state_open(&fixture_state, fixture_dir, NULL, NULL) != 0)
			_exit(1);
		close(down[1]);
		while (read(down[0], &byte, 1) == 1)
			if (state_begin_write(fixture_state, &txn) != 0 ||
			    pushes_add(txn, 2, 2, &push, &payload, &id) != 0 ||
			    state_commit(txn) != 0 || write(up[1], &id, 8) != 8)
				_exit(2);
		_exit(0);
	}
	close(up[1]);
	fixture_open();
	cr_assert(eq(int, (int)write(down[1], "", 1), 1));
	cr_assert(eq(int, (int)read(up[0], &id, 8), 8));
	txn = read_begin();
	snapshot = state_snapshot_id(txn);
	cr_assert(le(u64, id, snapshot));
	cr_assert(eq(int, (int)write(down[1], "", 1), 1));
	cr_assert(eq(int, (int)read(up[0], &id, 8), 8));
	cr_assert(lt(u64, snapshot, id));
	cr_assert(eq(u64, state_count(txn, STATE_PUSHES), 1));
	cr_assert(ne(u64, state_txn_number(txn), state_last_number(fixture_state)));
	state_abort(txn);
	cr_assert(eq(u64, rows_in(STATE_PUSHES), 2));
	close(down[1]);
	waitpid(pid, &status, 0);
	cr_assert(eq(int, status, 0));
	txn = write_begin();
	end(txn, 2, "over");
	commit(txn);
}

/* Rows and cursors. */

Test(state_env, keys_are_in_the_order_of_their_numbers)
{
	static const uint64_t ids[] = { 256, 1, UINT64_MAX, 255, UINT64_C(1) << 40, 2, 65536 };
	struct state_txn *txn = write_begin();
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t last = 0;
	uint8_t k[8];
	size_t i, n = 0;
	int rc;

	for (i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		state_key_put(k, ids[i]);
		cr_assert(eq(int, state_put(txn, STATE_CHANNELS, k, 8, "row", 3), 0));
	}
	cr_assert(eq(int, state_cursor_open(txn, STATE_CHANNELS, &cursor), 0));
	for (rc = state_next(cursor, &key, &row); rc == 0; rc = state_next(cursor, &key, &row)) {
		cr_assert(lt(u64, last, state_key_get(key.data)));
		last = state_key_get(key.data);
		n++;
	}
	cr_assert(eq(int, rc, ERR_NOTFOUND));
	cr_assert(eq(sz, n, sizeof ids / sizeof ids[0]));
	state_key_put(k, 257);
	cr_assert(eq(int, state_seek(cursor, k, 8, &key, &row), 0));
	cr_assert(eq(u64, state_key_get(key.data), 65536));
	cr_assert(eq(int, state_cursor_del(cursor), 0));
	cr_assert(eq(int, state_next(cursor, &key, &row), 0));
	cr_assert(eq(u64, state_key_get(key.data), UINT64_C(1) << 40));
	state_cursor_close(cursor);
	state_key_put(k, 65536);
	cr_assert(eq(int, state_get(txn, STATE_CHANNELS, k, 8, &row), ERR_NOTFOUND));
	cr_assert(eq(int, state_del(txn, STATE_CHANNELS, k, 8), ERR_NOTFOUND));
	state_key_put(k, 2);
	cr_assert(eq(int, state_get(txn, STATE_CHANNELS, k, 8, &row), 0));
	cr_assert(eq(sz, row.len, 3));
	cr_assert(eq(int, state_del(txn, STATE_CHANNELS, k, 8), 0));
	cr_assert(eq(u64, state_count(txn, STATE_CHANNELS), 5));
	state_abort(txn);
}

/* Deleting while walking visits each row once, over many pages. */
Test(state_env, a_walk_that_deletes_misses_nothing)
{
	struct state_txn *txn = write_begin();
	struct state_cursor *cursor;
	struct state_view key, view;
	uint64_t id, seen = 0, kept = 0;
	uint8_t k[8], row[300] = { 0 };
	int rc;

	for (id = 1; id <= 5000; id++) {
		state_key_put(k, id);
		cr_assert(eq(int, state_put(txn, STATE_CHANNELS, k, 8, row, id % 300), 0));
	}
	cr_assert(eq(int, state_cursor_open(txn, STATE_CHANNELS, &cursor), 0));
	for (rc = state_next(cursor, &key, &view); rc == 0; rc = state_next(cursor, &key, &view)) {
		cr_assert(eq(u64, state_key_get(key.data), ++seen));
		if (seen % 7 == 0)
			kept++;
		else
			cr_assert(eq(int, state_cursor_del(cursor), 0));
	}
	cr_assert(eq(int, rc, ERR_NOTFOUND));
	state_cursor_close(cursor);
	cr_assert(eq(u64, seen, 5000));
	cr_assert(eq(u64, state_count(txn, STATE_CHANNELS), kept));
	state_abort(txn);	/* they are no channels: the check at the end would say so */
}

struct owners { uint64_t list[16]; size_t n; };

static int
owner_note(void *arg, uint64_t conn_id)
{
	struct owners *owners = arg;

	owners->list[owners->n++] = conn_id;
	return 0;
}

static int
owner_stop(void *arg, uint64_t conn_id)
{
	(void)arg;
	return conn_id == 5 ? 42 : 0;
}

Test(state_env, each_owner_is_visited_once_and_in_order)
{
	struct inbox_entry entry = { .kind = INBOX_STARTED };
	struct owners owners = { { 0 }, 0 };
	struct state_txn *txn = write_begin();

	cr_assert(eq(int, state_each_owner(txn, STATE_INBOX, owner_note, &owners), 0));
	cr_assert(eq(sz, owners.n, 0));
	add_connections(txn, 1, 9);
	commit(txn);
	for (int round = 0; round < 3; round++) {
		txn = write_begin();
		for (uint64_t id = 9; id < 10; id -= 4)
			cr_assert(eq(int, inbox_post(txn, id, (uint32_t)id, &entry, NULL), 0));
		commit(txn);
	}
	txn = read_begin();
	cr_assert(eq(int, state_each_owner(txn, STATE_INBOX, owner_note, &owners), 0));
	cr_assert(eq(sz, owners.n, 3));
	cr_assert(eq(u64, owners.list[0], 1));
	cr_assert(eq(u64, owners.list[1], 5));
	cr_assert(eq(u64, owners.list[2], 9));
	cr_assert(eq(int, state_each_owner(txn, STATE_INBOX, owner_stop, NULL), 42));
	state_abort(txn);
}

/* Connections and counters, the plain tables. */

static int
connection_note(void *arg, uint64_t conn_id, const struct connections_row *row)
{
	struct owners *owners = arg;

	cr_assert(eq(u64, row->slot, conn_id));
	owners->list[owners->n++] = conn_id;
	return owners->n == 3;
}

Test(state_env, connections_are_listed_in_order_until_told_to_stop)
{
	struct owners owners = { { 0 }, 0 };
	struct connections_row row;
	struct state_txn *txn = write_begin();

	add_connections(txn, 10, 14);
	memset(&row, 'x', sizeof row);
	row.version = CONNECTIONS_VERSION;
	cr_assert(eq(int, connections_put(txn, 20, &row), 0));
	cr_assert(eq(int, connections_get(txn, 20, &row), 0));
	cr_assert(eq(sz, strlen(row.peer), sizeof row.peer - 1));
	cr_assert(eq(int, connections_each(txn, connection_note, &owners), 1));
	cr_assert(eq(sz, owners.n, 3));
	cr_assert(eq(u64, owners.list[2], 12));
	row.version = CONNECTIONS_VERSION + 1;
	cr_assert(eq(int, connections_put(txn, 21, &row), 0));
	cr_assert(eq(int, connections_get(txn, 21, &row), ERR_CORRUPT));
	cr_assert(eq(int, connections_del(txn, 20), 0));
	cr_assert(eq(int, connections_del(txn, 20), ERR_NOTFOUND));
	cr_assert(eq(int, connections_exists(txn, 20), ERR_NOTFOUND));
	state_abort(txn);
}

static int
counter_sum(void *arg, const char *name, uint64_t value)
{
	cr_assert(strncmp(name, "a", 1) == 0 || strncmp(name, "b", 1) == 0, "%s", name);
	*(uint64_t *)arg += value;
	return 0;
}

Test(state_env, counters_are_not_mistaken_for_pools)
{
	struct state_txn *txn = write_begin();
	uint64_t value = 0, sum = 0;

	add_connections(txn, 1, 1);
	add_worker(txn, 1, (struct worker_spec){ .spaces = "a b c" });
	cr_assert(eq(int, counters_put(txn, "alpha", 3), 0));
	cr_assert(eq(int, counters_put(txn, "beta", UINT64_MAX - 3), 0));
	cr_assert(eq(int, counters_put(txn, "alpha", 2), 0));
	cr_assert(eq(int, counters_get(txn, "alpha", &value), 0));
	cr_assert(eq(u64, value, 2));
	cr_assert(eq(int, counters_get(txn, "gamma", &value), ERR_NOTFOUND));
	cr_assert(eq(int, counters_each(txn, counter_sum, &sum), 0));
	cr_assert(eq(u64, sum, UINT64_MAX - 1));
	commit(txn);
}

/* The lock that this process holds and others wait for, in the mapping of the lock file. */
static _Atomic uint32_t *
held_lock(void)
{
	char path[128], line[512], end[128];
	unsigned long long start;
	_Atomic uint32_t *word = NULL;
	FILE *maps = fopen("/proc/self/maps", "re");

	cr_assert(ne(ptr, maps, NULL));
	snprintf(path, sizeof path, "%s/state/lock.mdb", fixture_dir);
	while (word == NULL && fgets(line, sizeof line, maps) != NULL)
		if (sscanf(line, "%llx-%*s %*s %*s %*s %*s %127s", &start, end) == 2 &&
		    strcmp(end, path) == 0)
			word = (_Atomic uint32_t *)(uintptr_t)start;
	fclose(maps);
	cr_assert(word != NULL, "no mapping of %s", path);
	for (int i = 0; i < 64; i++, word++)
		if ((*word & FUTEX_TID_MASK) == (uint32_t)gettid() && (*word & FUTEX_WAITERS))
			return word;
	return NULL;
}

/* A wake-up that gets lost between a dying process, one that takes the lock at that moment, and one
 * that sleeps: made by forgetting, while the lock is held, that somebody waits for it. */
Test(state_env, who_was_not_woken_is_found)
{
	struct state_txn *txn = write_begin();
	_Atomic uint32_t *lock;
	int status, i;
	pid_t pid;

	if ((pid = fork_child()) == 0) {
		struct state *mine;

		if (state_open(&mine, fixture_dir, NULL, NULL) != 0 ||
		    state_begin_write(mine, &txn) != 0 || state_commit(txn) != 0)
			_exit(1);
		_exit(0);
	}
	for (i = 0; (lock = held_lock()) == NULL; i++) {
		cr_assert(lt(int, i, 10000));
		usleep(1000);
	}
	usleep(20000);		/* it sleeps by now; if not, it need not be woken */
	atomic_fetch_and(lock, ~FUTEX_WAITERS);
	commit(txn);
	cr_assert(eq(int, state_check_readers(fixture_state), 0));
	for (i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
		cr_assert(i < 10000, "it sleeps on");
		usleep(1000);
	}
	cr_assert(eq(int, status, 0));
}
