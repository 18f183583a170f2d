/*
 * board: one shared mapping, made by the master before its first fork, with one
 * record per slot.
 *
 * Each record is written by its owner only: the master fills conn_id, pid, kind
 * and since before and right after the fork; from then on the child writes the rest. It
 * feeds counters, listings and the watchdog, and lets a process that has work for
 * another see whether that one sleeps and how it is woken. It is never the authority
 * for anything: the state is. After board_own() a process can write its own page
 * only, so that a wild pointer cannot reach far.
 */
#ifndef LIMINAL_OS_BOARD_H
#define LIMINAL_OS_BOARD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* A service's record is always the one at BOARD_SERVICE_SLOT(its kind), so that whoever has
 * something for it knows where it is, and its successor finds what it left there. */
enum board_kind {
	BOARD_FREE,
	BOARD_KEEPER, BOARD_STORE, BOARD_NOTIFIER, BOARD_ROUTER,
	BOARD_CONNECTION
};
#define BOARD_N_SERVICES	4
#define BOARD_SERVICE_SLOT(kind) ((uint32_t)(kind) - 1)

/* By BOARD_SERVICE_SLOT: "keeper", "store", … */
extern const char *const board_service_names[BOARD_N_SERVICES];

enum board_counter {
	BOARD_FRAMES_IN, BOARD_FRAMES_OUT, BOARD_FRAMES_IGNORED,
	BOARD_DISPATCHED,	/* activities that callers asked for */
	BOARD_COMPLETED,	/* ... answered with a result */
	BOARD_FAILED,		/* ... answered with an error of any kind */
	BOARD_RETRIED,		/* attempts after a worker's end */
	BOARD_REPLAYED,		/* answered from the dispatch record */
	BOARD_QUEUED,		/* requests that had to wait for room */
	BOARD_PUSHES,		/* Push frames written */
	BOARD_REPLIES,		/* PushReply that resolved a slot */
	BOARD_REPLIES_IGNORED,	/* unknown, late or foreign PushReply */
	BOARD_PUBLISHED,	/* messages that were acknowledged, also duplicates */
	BOARD_PUBLISH_ERRORS,	/* ... refused */
	BOARD_DUPLICATES,	/* ... acknowledged and not delivered: their key was known */
	BOARD_ROUTED,		/* copies that routes made */
	BOARD_ROUTE_ERRORS,	/* copies that a route's target refused */
	BOARD_DELIVERED,	/* Deliver frames written */
	BOARD_REDELIVERED,	/* ... again */
	BOARD_SHED,		/* subscriptions that fell behind their channel's bound */
	BOARD_N_COUNTERS
};

/* The counters' names as `liminal status` shows them, in enum order. */
extern const char *const board_counter_names[BOARD_N_COUNTERS];

/* Where a module's call is. */
enum board_call { BOARD_CALL_NONE, BOARD_CALL_BEGUN, BOARD_CALL_DONE };

/* Which entry points the notifier's module has. */
#define BOARD_ENTRY_KNOWN	0x01
#define BOARD_ENTRY_PUBLISH	0x02

#define BOARD_WAKE_NAME_SIZE 6	/* what the kernel's autobind chooses: NUL and five digits */

struct board_slot {
	_Atomic uint64_t conn_id;	/* 0 for services and free slots */
	_Atomic int32_t pid;
	_Atomic uint32_t kind;		/* enum board_kind */
	_Atomic int64_t since_ns;	/* real time */

	/* Owner: the child. */
	_Atomic uint32_t sleeping;	/* 1 = will not look at its inbox before it is woken */
	_Atomic uint32_t wake_ready;	/* wake_name is valid */
	char wake_name[8];
	_Atomic int64_t write_wait_ns;	/* asked for the write lock at (monotonic); 0 = not waiting */
	_Atomic int64_t write_txn_ns;	/* has had the write lock since; 0 = has not */
	_Atomic int64_t read_txn_ns;	/* reads since; 0 = does not */
	_Atomic uint64_t consumed;	/* has read what its ephemeral subscriptions get from transactions
					 * of the state up to this number; 0 = cannot say */
	_Atomic uint64_t looked;	/* counts the rounds of its loop: it moves when poked, or hangs */
	_Atomic uint64_t counters[BOARD_N_COUNTERS];

	/* Owner: the notifier and the router, around each call of their module. Kept when the
	 * process ends: its successor learns from it what must not be called again. */
	_Atomic uint32_t call_phase;	/* enum board_call */
	_Atomic uint32_t call_kind;	/* enum inbox_kind of what was asked */
	_Atomic uint64_t call_conn_id, call_request;	/* who asked, and the asker's number for it */
	_Atomic uint64_t call_result;	/* BOARD_CALL_DONE: what the module said */
	_Atomic uint32_t entries;	/* BOARD_ENTRY_*; 0 = not known yet */
} __attribute__((aligned(256)));

struct board {
	/* Owner: the master. What ended processes had counted. */
	_Atomic uint64_t totals[BOARD_N_COUNTERS];
	_Atomic uint64_t connections_accepted, connections_refused, connections_crashed;
	_Atomic int32_t master_pid;
	uint32_t n_slots;
	struct board_slot slots[];	/* on its own page */
};

/* Map a board of N_SLOTS zeroed records, shared with every later child. NULL with errno. */
struct board *board_create(uint32_t n_slots);

/* In a child after fork: SLOT is mine; every page without it becomes read-only. 0 or ERR_SYSTEM. */
int	board_own(struct board *board, uint32_t slot);

/* Master only: prepare a free record for a child that is about to be forked / clear it after
 * its end, adding its counters to the totals. */
void	board_take(struct board *board, uint32_t slot, enum board_kind kind, uint64_t conn_id);
void	board_release(struct board *board, uint32_t slot);

/* Count in my own record (relaxed; one writer). */
static inline void
board_count(struct board_slot *mine, enum board_counter counter, uint64_t n)
{
	atomic_store_explicit(&mine->counters[counter],
	    atomic_load_explicit(&mine->counters[counter], memory_order_relaxed) + n,
	    memory_order_relaxed);
}

/* The sum over totals and all live records. */
uint64_t board_sum(const struct board *board, enum board_counter counter);

#endif
