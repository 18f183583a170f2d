/* board: see board.h. */
#include <sys/mman.h>

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/board.h"

const char *const board_counter_names[BOARD_N_COUNTERS] = {
	[BOARD_FRAMES_IN] = "frames_in",
	[BOARD_FRAMES_OUT] = "frames_out",
	[BOARD_FRAMES_IGNORED] = "frames_ignored",
	[BOARD_DISPATCHED] = "dispatched",
	[BOARD_COMPLETED] = "completed",
	[BOARD_FAILED] = "failed",
	[BOARD_RETRIED] = "retried",
	[BOARD_REPLAYED] = "replayed",
	[BOARD_QUEUED] = "queued",
	[BOARD_PUSHES] = "pushes_sent",
	[BOARD_REPLIES] = "replies",
	[BOARD_REPLIES_IGNORED] = "replies_ignored",
	[BOARD_PUBLISHED] = "published",
	[BOARD_PUBLISH_ERRORS] = "publish_errors",
	[BOARD_DUPLICATES] = "duplicates",
	[BOARD_ROUTED] = "routed",
	[BOARD_ROUTE_ERRORS] = "route_errors",
	[BOARD_DELIVERED] = "delivered",
	[BOARD_REDELIVERED] = "redelivered",
	[BOARD_SHED] = "shed",
};

const char *const board_service_names[BOARD_N_SERVICES] = {
	[BOARD_SERVICE_SLOT(BOARD_KEEPER)] = "keeper",
	[BOARD_SERVICE_SLOT(BOARD_STORE)] = "store",
	[BOARD_SERVICE_SLOT(BOARD_NOTIFIER)] = "notifier",
	[BOARD_SERVICE_SLOT(BOARD_ROUTER)] = "router",
};

static size_t
board_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t
board_slots_bytes(uint32_t n_slots)
{
	size_t page = board_page_size();

	return ((size_t)n_slots * sizeof(struct board_slot) + page - 1) / page * page;
}

struct board *
board_create(uint32_t n_slots)
{
	size_t page = board_page_size();
	struct board *board;
	uint8_t *map;

	if (n_slots == 0) {
		errno = EINVAL;
		return NULL;
	}
	/* The head ends where the second page begins, so that no slot shares a page with it. */
	map = mmap(NULL, page + board_slots_bytes(n_slots), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	board = (struct board *)(void *)(map + page - offsetof(struct board, slots));
	board->n_slots = n_slots;
	return board;
}

int
board_own(struct board *board, uint32_t slot)
{
	size_t page = board_page_size();
	uint8_t *slots = (uint8_t *)board->slots;
	size_t mine = (size_t)slot * sizeof(struct board_slot) / page * page;
	size_t end = board_slots_bytes(board->n_slots);

	/* The master writes the same value; whichever is first, nobody sees a live record
	 * without its pid once the child does anything. */
	atomic_store(&board->slots[slot].pid, (int32_t)getpid());
	if (mprotect(slots - page, page + mine, PROT_READ) == -1)
		return -1;
	if (mine + page < end &&
	    mprotect(slots + mine + page, end - mine - page, PROT_READ) == -1)
		return -1;
	return 0;
}

void
board_take(struct board *board, uint32_t slot, enum board_kind kind, uint64_t conn_id)
{
	struct board_slot *s = &board->slots[slot];

	atomic_store(&s->since_ns, clock_realtime_ns());
	atomic_store(&s->conn_id, conn_id);
	atomic_store(&s->kind, (uint32_t)kind);
}

void
board_release(struct board *board, uint32_t slot)
{
	struct board_slot *s = &board->slots[slot];

	atomic_store(&s->kind, (uint32_t)BOARD_FREE);
	atomic_store(&s->conn_id, 0);
	atomic_store(&s->wake_ready, 0);
	atomic_store(&s->sleeping, 0);
	atomic_store(&s->pid, 0);
	atomic_store(&s->since_ns, 0);
	atomic_store(&s->write_wait_ns, 0);
	atomic_store(&s->write_txn_ns, 0);
	atomic_store(&s->read_txn_ns, 0);
	atomic_store(&s->looked, 0);
	atomic_store(&s->entries, 0);
	for (int i = 0; i < BOARD_N_COUNTERS; i++) {
		uint64_t n = atomic_load_explicit(&s->counters[i], memory_order_relaxed);

		atomic_fetch_add_explicit(&board->totals[i], n, memory_order_relaxed);
		atomic_store_explicit(&s->counters[i], 0, memory_order_relaxed);
	}
}

uint64_t
board_sum(const struct board *board, enum board_counter counter)
{
	uint64_t sum = atomic_load_explicit(&board->totals[counter], memory_order_relaxed);

	for (uint32_t i = 0; i < board->n_slots; i++)
		sum += atomic_load_explicit(&board->slots[i].counters[counter],
		    memory_order_relaxed);
	return sum;
}
