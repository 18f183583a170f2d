/*
 * slots: who the master's children are.
 *
 * The only place that knows how a slot is taken and freed. A slot is a place on the board
 * and the record of one child; pools are per kind, so that a flood of clients
 * cannot use up what the services need: each of those has its own. It is taken before the fork, and given out again only
 * after the keeper has said that nothing of the connection is left:
 *
 *	FREE -> TAKEN -> LIVE -> ENDED -> TOLD -> FREE
 *
 * (services go from LIVE to FREE). Everything is one mapping that children do not get: fork
 * neither copies it nor makes the master pay for writing to it.
 */
#ifndef LIMINAL_LIMINALD_SLOTS_H
#define LIMINAL_LIMINALD_SLOTS_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "liminald/addresses.h"
#include "os/board.h"
#include "os/net.h"

#define SLOTS_NONE UINT32_MAX

enum slots_state {
	SLOTS_FREE,
	SLOTS_TAKEN,	/* about to be forked */
	SLOTS_LIVE,	/* a process that is not yet reaped: its pid is its own */
	SLOTS_ENDED,	/* reaped; the keeper is to be told */
	SLOTS_TOLD,	/* the keeper has been told and has not yet answered */
};

struct slots_slot {
	enum slots_state state;
	enum board_kind kind;
	pid_t pid;
	int wait_status;		/* ENDED and TOLD */
	uint64_t conn_id;
	int64_t told_ns;		/* TOLD: since when */
	int64_t seen_wait_ns;		/* the watchdog's: write_wait_ns at its last look */
	const char *killed_for;		/* we killed it; NULL = we did not */
	uint32_t by_pid;		/* next with the same pid hash */
	uint32_t prev, next;		/* in the list of its state */
	uint32_t address;		/* entry in addresses, or ADDRESSES_NONE */
	char peer[sizeof(((struct net_peer *)0)->text)];
};

struct slots_list {
	uint32_t first, last, n;
};

struct slots {
	struct board *board;		/* not owned */
	struct slots_slot *slot;	/* n of them; the services first */
	uint32_t n;
	uint32_t *by_pid;		/* first slot of each pid hash */
	uint32_t pid_mask;
	struct slots_list free_connections;
	struct slots_list live;		/* connections only */
	struct slots_list ended;	/* in the order of their ends */
	struct slots_list told;		/* in the order of telling */
	struct addresses addresses;
	void *map;
	size_t map_size;
};

/* How many slots a daemon needs for MAX_CONNECTIONS: the services', and some for
 * connections that have ended and are not cleaned up after yet. */
uint32_t slots_needed(uint32_t max_connections);

/* BOARD must have slots_needed() slots. 0, or ERR_NOMEM. */
int	slots_open(struct slots *slots, struct board *board, struct err *err);
void	slots_close(struct slots *slots);

/* Take one (FREE -> TAKEN) and prepare its place on the board; SLOTS_NONE if there is none
 * left. PEER may be NULL. */
uint32_t slots_take(struct slots *slots, enum board_kind kind, uint64_t conn_id,
	    const struct net_peer *peer);

/* TAKEN -> LIVE, and TAKEN -> FREE when there was no fork. */
void	slots_forked(struct slots *slots, uint32_t i, pid_t pid);
void	slots_give_back(struct slots *slots, uint32_t i);

/* The live slot of PID, or SLOTS_NONE. */
uint32_t slots_find_pid(const struct slots *slots, pid_t pid);

/* LIVE -> ENDED for a connection, LIVE -> FREE for a service. */
void	slots_reaped(struct slots *slots, uint32_t i, int wait_status);

/* ENDED -> TOLD; all TOLD -> ENDED, before those that ended later (the keeper that was told is
 * gone); TOLD -> FREE. */
void	slots_told(struct slots *slots, uint32_t i, int64_t now_ns);
void	slots_untell(struct slots *slots);
void	slots_cleaned(struct slots *slots, uint32_t i);

/* Connections that are not LIVE any more and not FREE yet. */
static inline uint32_t
slots_n_uncleaned(const struct slots *slots)
{
	return slots->ended.n + slots->told.n;
}

/* kill(2) if slot I is LIVE; REASON (static text) goes into the log of its end. */
void	slots_kill(struct slots *slots, uint32_t i, int sig, const char *reason);

#endif
