/*
 * wake: how a process that put something into another's inbox wakes it.
 *
 * Each process that can be woken owns one Unix datagram socket, bound to an abstract name that the
 * kernel picks (nobody can take it beforehand) and that its board record tells. A
 * poke is one byte, without blocking. It means "look again", never "one more item"; a
 * full socket means that the target is awake already. What was sent and not yet taken fills the sender's
 * buffer as well, after some hundred targets: then another socket sends the rest.
 *
 * The sleeper's side: wake_will_sleep(), look at the inbox once more, poll, then wake_is_awake().
 * The waker's side: commit, then wake_poke(), which leaves the poke out when the
 * target is not asleep, because it is then bound to look again before it sleeps.
 */
#ifndef LIMINAL_OS_WAKE_H
#define LIMINAL_OS_WAKE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/board.h"

struct wake {
	struct board *board;
	struct board_slot *mine;
	int fd;			/* poll for reading; owned */
	int send_fd;		/* what pokes go out by once FD's buffer was full; owned, -1 = FD */
};

/* Open this process's socket and publish its name in slot SLOT. 0 or ERR_SYSTEM. */
int	wake_open(struct wake *wake, struct board *board, uint32_t slot, struct err *err);
void	wake_close(struct wake *wake);

/* What one datagram says. */
enum wake_kind { WAKE_NOTHING = -1, WAKE_POKE = 0, WAKE_ANSWER = 1 };

/* Take one datagram; when there are more, the next poll returns at once. An answer may be
 * forged by a local process: it may only shorten a wait, never stand for a fact. */
enum wake_kind wake_drain(struct wake *wake);

/* Send LEN bytes to the process of CONN_ID (0: the service) in SLOT, without blocking. 0, or ERR_BUSY
 * when it is not there or its socket is full. */
int	wake_send_to(struct wake *wake, uint32_t slot, uint64_t conn_id, const void *bytes,
	    size_t len);

static inline void
wake_will_sleep(struct wake *wake)
{
	atomic_store_explicit(&wake->mine->sleeping, 1, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

static inline void
wake_is_awake(struct wake *wake)
{
	atomic_store_explicit(&wake->mine->sleeping, 0, memory_order_relaxed);
}

/* Wake the process of connection CONN_ID (0: the service) in SLOT if it is asleep and still
 * the one in that slot. Never blocks, never fails: whoever is gone needs no wake. */
void	wake_poke(struct wake *wake, uint32_t slot, uint64_t conn_id);

/* The same, also when it looks awake; for the keeper after an abnormal end. */
void	wake_poke_always(struct wake *wake, uint32_t slot, uint64_t conn_id);

#endif
