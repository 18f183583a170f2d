/* state: who is woken by a commit, what the board shows of a transaction, and what those leave
 * behind who die in one. */
#include "base/clock.h"
#include "unit/state_fixture.h"

static struct wake sleeper;	/* of connection 2, in slot 2 */

static void
wake_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	board_take(fixture_board, 2, BOARD_CONNECTION, 2);
	cr_assert(eq(int, wake_open(&sleeper, fixture_board, 2, NULL), 0));
	txn = write_begin();
	add_connections(txn, 1, 4);
	commit(txn);
}

static void
wake_teardown(void)
{
	struct state_txn *txn;

	if (fixture_state != NULL) {
		txn = write_begin();
		for (uint64_t id = 1; id <= 4; id++)
			cr_assert(le(int, 0, end_connection(txn, id, "over")));
		commit(txn);
	}
	wake_close(&sleeper);
	fixture_fini();
}

TestSuite(state_wake, .init = wake_setup, .fini = wake_teardown);

/* Pokes that the sleeper has got; they are local datagrams, so there at once or never. */
static int
pokes(void)
{
	char bytes[8];
	int n = 0;

	while (recv(sleeper.fd, bytes, sizeof bytes, MSG_DONTWAIT) >= 0)
		n++;
	return n;
}

static void
post(struct state_txn *txn, uint64_t request)
{
	struct inbox_entry entry = { .kind = INBOX_REPLY, .request = request };

	cr_assert(eq(int, inbox_post(txn, 2, 2, &entry, NULL), 0));
}

Test(state_wake, a_sleeper_is_poked_once_after_the_commit)
{
	struct pushes_row push = { .kind = PUSHES_DIRECT, .awaiter = 1, .awaiter_slot = 1 };
	struct frame_view payload = act_view("hello");
	struct state_txn *txn = write_begin();
	uint64_t correlation;
	int i;

	wake_will_sleep(&sleeper);
	for (i = 0; i < 10; i++) {
		cr_assert(eq(int, pushes_add(txn, 2, 2, &push, &payload, &correlation), 0));
		post(txn, 1);
	}
	cr_assert(eq(int, pokes(), 0));
	commit(txn);
	cr_assert(eq(int, pokes(), 1));
	/* again for the next one, nothing for one that has nothing for it */
	txn = write_begin();
	post(txn, 2);
	commit(txn);
	cr_assert(eq(int, pokes(), 1));
	txn = write_begin();
	cr_assert(eq(int, counters_put(txn, "x", 1), 0));
	commit(txn);
	cr_assert(eq(int, pokes(), 0));
}

Test(state_wake, nobody_is_poked_who_is_awake_or_by_an_abort)
{
	struct state_txn *txn = write_begin();

	post(txn, 1);
	commit(txn);
	cr_assert(eq(int, pokes(), 0));
	wake_will_sleep(&sleeper);
	txn = write_begin();
	cr_assert(eq(int, state_wake_later(txn, 2, 2), 0));
	post(txn, 2);
	state_abort(txn);
	txn = write_begin();
	cr_assert(eq(int, counters_put(txn, "x", 1), 0));
	commit(txn);
	cr_assert(eq(int, pokes(), 0));
}

Test(state_wake, whoever_has_the_slot_now_is_not_poked_for_the_one_before)
{
	struct state_txn *txn;

	board_release(fixture_board, 2);
	wake_close(&sleeper);
	board_take(fixture_board, 2, BOARD_CONNECTION, 9);
	cr_assert(eq(int, wake_open(&sleeper, fixture_board, 2, NULL), 0));
	wake_will_sleep(&sleeper);
	txn = write_begin();
	post(txn, 1);
	commit(txn);
	cr_assert(eq(int, pokes(), 0));
}

Test(state_wake, without_a_wake_socket_commits_wake_nobody)
{
	struct pushes_row push = { .kind = PUSHES_DIRECT, .awaiter = 1, .awaiter_slot = 1 };
	struct frame_view payload = act_view("hello");
	struct state_txn *txn;
	uint64_t correlation;

	fixture_close();
	cr_assert(eq(int, state_open(&fixture_state, fixture_dir, NULL, NULL), 0));
	wake_will_sleep(&sleeper);
	txn = write_begin();
	post(txn, 1);
	cr_assert(eq(int, pushes_add(txn, 2, 2, &push, &payload, &correlation), 0));
	commit(txn);
	cr_assert(eq(int, pokes(), 0));
	cr_assert(eq(uint, inbox_of(2)->n, 1));
}

Test(state_wake, the_board_shows_who_holds_the_write_lock_and_since_when)
{
	struct board_slot *mine = fixture_wake.mine;
	int64_t before = clock_now_ns();
	struct state_txn *txn = write_begin();

	cr_assert(le(i64, before, atomic_load(&mine->write_txn_ns)));
	cr_assert(le(i64, atomic_load(&mine->write_txn_ns), clock_now_ns()));
	cr_assert(eq(i64, atomic_load(&mine->write_wait_ns), 0));
	commit(txn);
	cr_assert(eq(i64, atomic_load(&mine->write_txn_ns), 0));
	txn = read_begin();
	cr_assert(le(i64, before, atomic_load(&mine->read_txn_ns)));
	cr_assert(eq(i64, atomic_load(&mine->write_txn_ns), 0));
	state_abort(txn);
	cr_assert(eq(i64, atomic_load(&mine->read_txn_ns), 0));
	txn = write_begin();
	state_abort(txn);
	cr_assert(eq(i64, atomic_load(&mine->write_txn_ns), 0));
}

/* A child with an environment of its own (the test has closed its) and a pipe to its parent:
 * it does as told, says so, and waits to be killed. */
static pid_t
start_child(int (*run)(struct state *state), int *ready)
{
	struct state *state;
	int fds[2];
	pid_t pid;

	cr_assert(eq(ptr, fixture_state, NULL));
	cr_assert(eq(int, pipe(fds), 0));
	if ((pid = fork_child()) == 0) {
		close(fds[0]);
		if (state_open(&state, fixture_dir, NULL, NULL) != 0 || run(state) != 0 ||
		    write(fds[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	*ready = fds[0];
	return pid;
}

static void
await_child(int ready)
{
	char byte;

	cr_assert(eq(int, (int)read(ready, &byte, 1), 1));
	close(ready);
}

static void
kill_child(pid_t pid)
{
	int status;

	cr_assert(eq(int, kill(pid, SIGKILL), 0));
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(eq(int, WTERMSIG(status), SIGKILL));
}

static int
child_writes(struct state *state)
{
	struct inbox_entry entry = { .kind = INBOX_REPLY };
	struct state_txn *txn;

	if (state_begin_write(state, &txn) != 0)
		return -1;
	return act_connect(txn, 30, 30) | inbox_post(txn, 2, 2, &entry, NULL) |
	    pushes_cancel_all(txn, 1, "x") | connections_del(txn, 1);
}

Test(state_wake, who_dies_in_a_transaction_leaves_nothing_of_it_and_no_lock)
{
	struct state_txn *txn;
	int ready;
	pid_t pid;

	fixture_close();
	pid = start_child(child_writes, &ready);
	await_child(ready);
	fixture_open();
	/* readers do not wait for the lock */
	txn = read_begin();
	cr_assert(eq(int, connections_exists(txn, 30), ERR_NOTFOUND));
	state_abort(txn);
	kill_child(pid);
	txn = write_begin();
	cr_assert(eq(int, connections_exists(txn, 30), ERR_NOTFOUND));
	cr_assert(eq(int, connections_exists(txn, 1), 0));
	cr_assert(eq(int, counters_put(txn, "x", 1), 0));
	commit(txn);
	cr_assert(eq(uint, inbox_of(2)->n, 0));
}

static int
child_reads(struct state *state)
{
	struct state_txn *txn;

	return state_begin_read(state, &txn);
}

/* There are 64 slots more than there may be connections. */
Test(state_wake, dead_readers_give_their_slots_back_on_demand)
{
	enum { N = 100 + 64 - 1 };
	struct state_txn *txn;
	int ready[N], i;
	pid_t pids[N];

	fixture_close();
	fixture_create(100);
	fixture_is_quiet = 1;
	for (i = 0; i < N; i++)
		pids[i] = start_child(child_reads, &ready[i]);
	for (i = 0; i < N; i++)
		await_child(ready[i]);
	fixture_open();
	txn = read_begin();
	cr_assert(eq(int, fixture_check(NULL), 2));
	state_abort(txn);
	/* the living keep theirs */
	cr_assert(eq(int, state_check_readers(fixture_state), 0));
	txn = read_begin();
	cr_assert(eq(int, fixture_check(NULL), 2));
	for (i = 0; i < N; i++)
		kill_child(pids[i]);
	cr_assert(eq(int, fixture_check(NULL), 2));
	cr_assert(eq(int, state_check_readers(fixture_state), 0));
	cr_assert(eq(int, fixture_check(NULL), 0));
	state_abort(txn);
}

/* Also when many others come in between: each is poked once. */
Test(state_wake, a_crowd_is_poked_once_each)
{
	struct state_txn *txn = write_begin();
	int64_t begin = clock_now_ns();
	uint32_t i, round;

	wake_will_sleep(&sleeper);
	for (round = 0; round < 20; round++) {
		for (i = 100; i < 20100; i++)
			cr_assert(zero(int, state_wake_later(txn, i % FIXTURE_SLOTS, i)));
		cr_assert(zero(int, state_wake_later(txn, 2, 2)));
	}
	/* Comparing each with all before it would take a quarter of an hour. */
	cr_assert(lt(i64, clock_now_ns() - begin, 20 * CLOCK_SECOND));
	commit(txn);
	cr_assert(eq(int, pokes(), 1));
}
