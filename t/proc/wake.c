/* wake and its two sides, over real processes: no wake-up is lost, none blocks. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/mman.h>
#include <sys/wait.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/board.h"
#include "os/wake.h"

#define PATIENCE_MS 20000

static int
is_readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static struct board *
two_records(void)
{
	struct board *board = board_create(8);

	cr_assert(ne(ptr, board, NULL));
	board_take(board, 1, BOARD_CONNECTION, 41);
	board_take(board, 2, BOARD_CONNECTION, 42);
	return board;
}

Test(wake, only_a_sleeper_is_poked)
{
	struct board *board = two_records();
	struct wake one, two;

	cr_assert(zero(int, wake_open(&one, board, 1, NULL)));
	cr_assert(zero(int, wake_open(&two, board, 2, NULL)));

	wake_poke(&one, 2, 42);
	cr_expect(zero(int, is_readable(two.fd, 0)), "it is awake");
	wake_poke_always(&one, 2, 42);
	cr_expect(eq(int, is_readable(two.fd, 0), 1));
	wake_drain(&two);
	cr_expect(zero(int, is_readable(two.fd, 0)));

	wake_will_sleep(&two);
	wake_poke(&one, 2, 42);
	cr_expect(eq(int, is_readable(two.fd, 0), 1));
	wake_is_awake(&two);
	wake_drain(&two);

	wake_close(&one);
	wake_close(&two);
}

/* What nobody has taken yet lies in the sender's buffer, which takes some hundred. */
Test(wake, all_of_many_sleepers_are_poked)
{
	enum { N = 900 };
	struct board *board = board_create(N + 2);
	struct wake one, *others = calloc(N, sizeof *others);
	uint32_t i, n = 0;

	cr_assert(ne(ptr, board, NULL));
	cr_assert(ne(ptr, others, NULL));
	board_take(board, 0, BOARD_CONNECTION, 1);
	cr_assert(zero(int, wake_open(&one, board, 0, NULL)));
	for (i = 0; i < N; i++) {
		board_take(board, i + 1, BOARD_CONNECTION, 100 + i);
		cr_assert(zero(int, wake_open(&others[i], board, i + 1, NULL)));
		wake_will_sleep(&others[i]);
	}
	for (i = 0; i < N; i++)
		wake_poke(&one, i + 1, 100 + i);
	for (i = 0; i < N; i++) {
		n += is_readable(others[i].fd, 0) == 1;
		wake_close(&others[i]);
	}
	cr_expect(eq(u32, n, N));
	wake_close(&one);
	free(others);
}

Test(wake, another_connection_in_the_slot_is_left_alone)
{
	struct board *board = two_records();
	struct wake one, two;

	wake_open(&one, board, 1, NULL);
	wake_open(&two, board, 2, NULL);
	wake_will_sleep(&two);
	wake_poke(&one, 2, 17);
	wake_poke_always(&one, 2, 17);
	cr_expect(zero(int, is_readable(two.fd, 0)));

	/* Nobody there at all, any more or yet. */
	wake_close(&two);
	wake_poke_always(&one, 2, 42);
	wake_poke_always(&one, 5, 0);
	wake_close(&one);
}

Test(wake, a_full_socket_blocks_nobody)
{
	struct board *board = two_records();
	struct wake one, two;

	wake_open(&one, board, 1, NULL);
	wake_open(&two, board, 2, NULL);
	alarm(20);
	for (int i = 0; i < 100000; i++)
		wake_poke_always(&one, 2, 42);
	alarm(0);
	cr_expect(eq(int, is_readable(two.fd, 0), 1));
	for (int i = 0; i < 10000 && is_readable(two.fd, 0); i++)
		wake_drain(&two);
	cr_expect(zero(int, is_readable(two.fd, 0)));
	wake_close(&one);
	wake_close(&two);
}

/* One player: waits for ITS turn, then makes it the other's. 0, or 1 when no wake came. */
static int
play(struct board *board, uint32_t mine, uint32_t other, _Atomic uint64_t *turn, uint64_t rounds)
{
	struct wake wake;

	if (wake_open(&wake, board, mine, NULL) != 0)
		return 2;
	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t want = 2 * i + (mine - 1);

		while (atomic_load(turn) != want) {
			wake_will_sleep(&wake);
			if (atomic_load(turn) != want && !is_readable(wake.fd, PATIENCE_MS))
				return 1;
			wake_is_awake(&wake);
			wake_drain(&wake);
		}
		atomic_store(turn, want + 1);
		wake_poke(&wake, other, 40 + other);
	}
	return 0;
}

Test(wake, no_wake_is_lost)
{
	struct board *board = two_records();
	_Atomic uint64_t *turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const uint64_t rounds = 20000;
	int status;
	pid_t pid;

	pid = fork();
	if (pid == 0)
		_exit(play(board, 2, 1, turn, rounds));
	cr_expect(zero(int, play(board, 1, 2, turn, rounds)));
	waitpid(pid, &status, 0);
	cr_expect(zero(int, status));
	cr_expect(eq(u64, atomic_load(turn), 2 * rounds));
}
