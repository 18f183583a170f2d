/*
 * drain: the orderly end of the daemon (systems.md A10).
 *
 *	RUNNING -> WAITING -> CLOSING -> KILLING -> SETTLING -> KEEPER -> DONE
 *
 * WAITING ends early with the last connection, and at once when asked a second time. From the
 * moment that force is used everything is over within a second.
 */
#ifndef LIMINAL_LIMINALD_DRAIN_H
#define LIMINAL_LIMINALD_DRAIN_H

#include <stdint.h>

struct master;

enum drain_phase {
	DRAIN_RUNNING,
	DRAIN_WAITING,	/* connections may finish what they do */
	DRAIN_CLOSING,	/* they were asked to go */
	DRAIN_KILLING,	/* they were killed */
	DRAIN_SETTLING,	/* none is left; the keeper cleans up */
	DRAIN_KEEPER,	/* the keeper was asked to go */
	DRAIN_DONE,
};

struct drain {
	enum drain_phase phase;
	int64_t deadline_ns;		/* of the phase */
	int64_t end_ns;			/* by when SETTLING has to be over */
	int64_t progress_ns;		/* the next look at the progress */
	int64_t logged_ns;
	uint32_t logged_n;
};

/* A request to shut down; the second one shortens the waiting. */
void	drain_request(struct master *master, int64_t now_ns);

/* Go on, as far as it goes now. */
void	drain_step(struct master *master, int64_t now_ns);
int64_t	drain_deadline(const struct drain *drain);

static inline int
drain_has_begun(const struct drain *drain)
{
	return drain->phase != DRAIN_RUNNING;
}

static inline int
drain_is_done(const struct drain *drain)
{
	return drain->phase == DRAIN_DONE;
}

#endif
