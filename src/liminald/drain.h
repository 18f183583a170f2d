/*
 * drain: the orderly end of the daemon (systems.md A10).
 *
 *	RUNNING -> WAITING -> CLOSING -> KILLING -> SETTLING -> KEEPER -> SERVICES -> DONE
 *
 * WAITING ends early with the last connection, and at once when asked a second time. From the
 * moment that force is used everything is over within a second, unless a module or the disk is slow:
 * SERVICES lasts as long as the notifier and the store need, within bounds.
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
	DRAIN_SERVICES,	/* the others were: they finish what is in their inboxes */
	DRAIN_DONE,
};

struct drain {
	enum drain_phase phase;
	int64_t deadline_ns;		/* of the phase */
	int64_t end_ns;			/* by when SETTLING has to be over */
	int64_t progress_ns;		/* the next look at the progress; WAITING, SERVICES */
	int64_t logged_ns;
	uint32_t logged_n;
	int exit_status;		/* of the daemon; the first failure's */
};

/* A request to shut down; the second one shortens the waiting. */
void	drain_request(struct master *master, int64_t now_ns);

/* The daemon cannot go on, or cannot even start: an orderly end, with STATUS (enum master_exit). */
void	drain_fail(struct master *master, int status, int64_t now_ns);

/* Something has failed during the end; what failed first stays. */
void	drain_set_status(struct drain *drain, int status);

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
