/*
 * watchdog: finds the process that stands in the way of all the others, and kills it.
 *
 * A write transaction has no time-out: one process that is stopped or loops while it holds the
 * write lock stops everybody; a reader that stays makes the state grow. The board tells
 * who does that. SIGKILL is the remedy: LMDB's lock is robust and what was not
 * committed has not happened. The watchdog never takes the lock itself.
 *
 * It is about the state. What the store's process does in its own environment leaves no marks on
 * the board: waiting for a disk there is in nobody's way. But a service that is stopped keeps
 * those waiting who have asked it for something, so that is not left either.
 */
#ifndef LIMINAL_LIMINALD_WATCHDOG_H
#define LIMINAL_LIMINALD_WATCHDOG_H

#include <stdint.h>

#include "os/board.h"

struct master;

struct watchdog {
	int64_t last_ns;		/* of the last look; 0 = not ticking */
	int was_late;			/* the last look came late itself */
	int somebody_wrote;		/* the last look saw a holder of the write lock */
	int stuck_looks;		/* in a row that saw waiters, and no holder or progress */
	int64_t stopped_ns[BOARD_N_SERVICES];	/* seen stopped since; 0 = it runs */
};

/* Look, if it is time to. */
void	watchdog_step(struct master *master, int64_t now_ns);

/* The next look; INT64_MAX without children to look at. */
int64_t	watchdog_deadline(const struct master *master, int64_t now_ns);

#endif
