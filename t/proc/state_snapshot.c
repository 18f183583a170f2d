/*
 * state: a snapshot's number is that of the last commit that it shows, also when its reader is
 * held up in the middle of taking it while others commit; else "what has an id up to
 * state_snapshot_id()" would not be what it has seen, and it would see it again.
 */
#include <sys/mman.h>
#include <time.h>

#include "unit/state_fixture.h"

#define WRITERS		2
#define STOPS		1000

struct tallies { _Atomic uint64_t commits, reads, wrong; };
static struct tallies *tallies;
static pid_t children[WRITERS + 1];

/* Each commit notes its own number. */
static void __attribute__((noreturn))
write_on(void)
{
	struct state_txn *txn;
	struct state *state;

	if (state_open(&state, fixture_dir, NULL, NULL) != 0)
		_exit(1);
	for (;;) {
		if (state_begin_write(state, &txn) != 0 ||
		    counters_put(txn, "number", state_txn_number(txn)) != 0 ||
		    state_commit(txn) != 0)
			_exit(2);
		atomic_fetch_add(&tallies->commits, 1);
	}
}

static void __attribute__((noreturn))
read_on(void)
{
	struct state_txn *txn;
	struct state *state;
	uint64_t number;

	if (state_open(&state, fixture_dir, NULL, NULL) != 0)
		_exit(1);
	for (;;) {
		if (state_begin_read(state, &txn) != 0 ||
		    counters_get(txn, "number", &number) != 0)
			_exit(2);
		if (number != state_txn_number(txn))
			atomic_fetch_add(&tallies->wrong, 1);
		state_abort(txn);
		atomic_fetch_add(&tallies->reads, 1);
	}
}

static void
snapshot_init(void)
{
	struct state_txn *txn;
	int i;

	fixture_make_dir();
	fixture_create(16);
	tallies = mmap(NULL, sizeof *tallies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	cr_assert(ne(ptr, tallies, MAP_FAILED));
	cr_assert(eq(int, state_open(&fixture_state, fixture_dir, NULL, NULL), 0));
	txn = write_begin();
	cr_assert(eq(int, counters_put(txn, "number", state_txn_number(txn)), 0));
	commit(txn);
	fixture_close();
	for (i = 0; i <= WRITERS; i++)
		if ((children[i] = fork_child()) == 0) {
			if (i < WRITERS)
				write_on();
			read_on();
		}
}

static void
snapshot_fini(void)
{
	int status;

	for (int i = 0; i <= WRITERS; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], &status, 0);
	}
	fixture_remove_dir();
}

TestSuite(state_snapshot, .init = snapshot_init, .fini = snapshot_fini);

/* Wait until COUNT has moved by N. */
static void
await(const _Atomic uint64_t *count, uint64_t n)
{
	const struct timespec moment = { 0, 50000 };
	uint64_t from = atomic_load(count);

	for (int i = 0; atomic_load(count) < from + n; i++) {
		cr_assert(lt(int, i, 200000));
		nanosleep(&moment, NULL);
	}
}

Test(state_snapshot, a_reader_that_is_held_up_knows_what_it_has_seen)
{
	for (int i = 0; i < STOPS; i++) {
		await(&tallies->reads, 1);
		cr_assert(eq(int, kill(children[WRITERS], SIGSTOP), 0));
		await(&tallies->commits, 3);
		cr_assert(eq(int, kill(children[WRITERS], SIGCONT), 0));
	}
	await(&tallies->reads, 1);
	cr_assert(tallies->wrong == 0, "%llu of %llu", (unsigned long long)tallies->wrong,
	    (unsigned long long)tallies->reads);
}
