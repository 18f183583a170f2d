/* The board: what a child may write, and what becomes of what it counted. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/resource.h>
#include <sys/wait.h>

#include <signal.h>
#include <unistd.h>

#include "os/board.h"

#define N_SLOTS 64	/* several pages */

/* The signal that a child dies of when it owns SLOT and writes to *WHERE; 0 = none. */
static int
signal_of_writing(struct board *board, uint32_t slot, _Atomic uint64_t *where)
{
	const struct rlimit no_core = { 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL);
		if (board_own(board, slot) != 0)
			_exit(1);
		atomic_store(where, 7);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status))
		return -WEXITSTATUS(status);
	return WTERMSIG(status);
}

Test(board, a_child_writes_its_own_page_only)
{
	struct board *board = board_create(N_SLOTS);
	const uint32_t own[] = { 0, 17, N_SLOTS - 1 };
	uint32_t per_page = 4096 / sizeof(struct board_slot);

	cr_assert(ne(ptr, board, NULL));
	for (int i = 0; i < 3; i++) {
		cr_expect(zero(int, signal_of_writing(board, own[i],
		    &board->slots[own[i]].looked)));
		cr_expect(eq(u64, atomic_load(&board->slots[own[i]].looked), 7));
		cr_expect(eq(int, signal_of_writing(board, own[i],
		    &board->totals[0]), SIGSEGV), "the head");
		for (uint32_t other = 0; other < N_SLOTS; other += per_page)
			if (other / per_page != own[i] / per_page)
				cr_expect(eq(int, signal_of_writing(board, own[i],
				    &board->slots[other].looked), SIGSEGV), "slot %u", other);
	}
	cr_expect(zero(u64, atomic_load(&board->totals[0])));
}

Test(board, a_child_is_seen_with_its_pid)
{
	struct board *board = board_create(N_SLOTS);
	int status;
	pid_t pid;

	board_take(board, 3, BOARD_CONNECTION, 99);
	cr_expect(eq(u64, atomic_load(&board->slots[3].conn_id), 99));
	cr_expect(ne(i64, atomic_load(&board->slots[3].since_ns), 0));
	pid = fork();
	if (pid == 0)
		_exit(board_own(board, 3) == 0 ? 0 : 1);
	waitpid(pid, &status, 0);
	cr_expect(zero(int, status));
	cr_expect(eq(int, atomic_load(&board->slots[3].pid), pid));
}

Test(board, counts_outlive_their_processes)
{
	struct board *board = board_create(N_SLOTS);

	board_take(board, 5, BOARD_CONNECTION, 1);
	board_take(board, 6, BOARD_CONNECTION, 2);
	board_count(&board->slots[5], BOARD_FRAMES_IN, 10);
	board_count(&board->slots[6], BOARD_FRAMES_IN, 1);
	cr_expect(eq(u64, board_sum(board, BOARD_FRAMES_IN), 11));
	atomic_store(&board->slots[5].write_txn_ns, 1);
	board_release(board, 5);
	cr_expect(eq(u64, board_sum(board, BOARD_FRAMES_IN), 11));
	cr_expect(eq(u64, atomic_load(&board->totals[BOARD_FRAMES_IN]), 10));
	cr_expect(zero(i64, atomic_load(&board->slots[5].write_txn_ns)));
	cr_expect(zero(u64, atomic_load(&board->slots[5].conn_id)));
	cr_expect(eq(u32, atomic_load(&board->slots[5].kind), BOARD_FREE));
}
