/*
 * inflight: how far a durable subscription has come. What was delivered and is not settled, what comes
 * again and when, what comes next, and the cursor that follows from it. It knows no connection and
 * no clock, and no message: sequences only.
 *
 * A message is outstanding from its delivery until it is settled: accepted, given up, or gone beyond what
 * the channel keeps. One that was deferred stays outstanding, so that a client that defers all that it gets
 * is not sent the whole channel, and a client that takes one at a time gets them in order.
 *
 * What is outstanding lies as runs of sequences in the same state: thousands that are with the client
 * and are accepted in order cost one run. What is settled behind the cursor needs no room of its own: it
 * is what lies between the runs, and, beyond what was delivered so far, the ranges of an earlier life.
 */
#ifndef LIMINAL_ROLE_INFLIGHT_H
#define LIMINAL_ROLE_INFLIGHT_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stddef.h>
#include <stdint.h>

#include "state/consumers.h"

/*
 * What is outstanding at most, whatever max_in_flight says: a peer's number, which may be 2^32 - 1, must not
 * decide how much memory its connection may need. A client that takes so many and accepts each second one costs
 * 48 MiB; one that accepts them in order, or none, costs nothing.
 */
#define INFLIGHT_MAX	(1 << 20)

enum inflight_state {
	INFLIGHT_NONE,			/* not outstanding */
	INFLIGHT_SENT,			/* the client has it */
	INFLIGHT_DEFERRED,		/* it comes again when its time has come */
	INFLIGHT_DUE,			/* its time has come */
};

struct inflight_run {
	RB_ENTRY(inflight_run) link;
	TAILQ_ENTRY(inflight_run) queue_link;	/* _DEFERRED, _DUE */
	uint64_t first, last;		/* both included */
	enum inflight_state state;
	int64_t due_ns;			/* _DEFERRED */
};

RB_HEAD(inflight_tree, inflight_run);
TAILQ_HEAD(inflight_queue, inflight_run);

struct inflight {
	uint32_t max;			/* outstanding */
	uint32_t n;			/* outstanding now */
	uint32_t n_runs;
	uint64_t next;			/* delivered next of what is new; not in AHEAD */
	struct inflight_tree runs;	/* by sequence, apart, all before NEXT */
	struct inflight_queue deferred;	/* by their times */
	struct inflight_queue due;	/* in the order in which they were deferred */
	struct consumers_range *ahead;	/* settled beyond NEXT; from AT_AHEAD on */
	size_t at_ahead, n_ahead;
};

enum inflight_verdict { INFLIGHT_ACCEPT, INFLIGHT_REJECT, INFLIGHT_DEFER };

/* Begin behind CURSOR with N RANGES (unaligned) beyond it settled; to be given to inflight_fini() in any
 * case. 0; ERR_NOMEM; ERR_CORRUPT: the ranges are not ascending, apart and beyond CURSOR + 1. */
int	inflight_init(struct inflight *f, uint32_t max_in_flight, uint64_t cursor,
	    const void *ranges, size_t n);
void	inflight_fini(struct inflight *f);	/* also of a zeroed one */

/*
 * What may be delivered now, when HEAD is the channel's newest: a run that is due again, or one that is
 * new. The number of messages with *FIRST, or 0.
 */
uint64_t inflight_next(const struct inflight *f, uint64_t head, uint64_t *first);

/* N messages from FIRST on, which inflight_next() named, were delivered. 0 or ERR_NOMEM. */
int	inflight_sent(struct inflight *f, uint64_t first, uint64_t n);

/*
 * The client's word on SEQUENCE; a deferred one is due at DUE_NS, which never goes back. One that was deferred
 * may be accepted or rejected before it comes again. 0; ERR_NOTFOUND: it is not outstanding, or to be
 * deferred and not with the client; ERR_NOMEM.
 */
int	inflight_judge(struct inflight *f, uint64_t sequence, enum inflight_verdict verdict,
	    int64_t due_ns);
enum inflight_state inflight_state_of(const struct inflight *f, uint64_t sequence);

/* Make due what NOW_NS has reached; 1 if something was. And when that is next; INT64_MAX = never. */
int	inflight_expire(struct inflight *f, int64_t now_ns);
int64_t	inflight_next_due(const struct inflight *f);

/*
 * What is before OLDEST cannot be delivered any more: what is new or waits to come again is settled. What the
 * client has stays with it until it judges. Returns how many were settled.
 */
uint64_t inflight_lose(struct inflight *f, uint64_t oldest);

/* Up to it, all are settled. */
uint64_t inflight_cursor(const struct inflight *f);

/* What is settled beyond the cursor, ascending and apart: the first of at most MAX ranges. Returns their number. */
size_t	inflight_ranges(const struct inflight *f, struct consumers_range *ranges, size_t max);
/* As many as that will be at most. */
size_t	inflight_count_ranges(const struct inflight *f);

#endif
