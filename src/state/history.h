/*
 * history: the dispatch record (systems.md E8), in the store environment.
 *
 * A dispatch is recorded when its request names its workflow. Its operations come in steps: what one
 * moment did (opened, worker selected, message sent, …). A caller's connection hands the steps to
 * the store process through its inbox, in the transaction in which they happen; only the store
 * process writes here, one synchronous commit for all that has gathered.
 *
 * Tables of the store (the rows are in state/history_rows.h):
 *	history		dispatch number, step number: a step, struct record_operations packed
 *	workflows	workflow id, NUL, then either a dispatch number: it is one of the workflow's;
 *			or ordinal, hash of the channel: where the outcome is
 *	open		conn id, request: a dispatch that is not closed yet
 *	closed		close number: a dispatch to forget some day, the oldest first
 *	meta		what was applied last, the next numbers, callers that have ended
 *
 * Almost everything is appended: what a commit costs is the number of pages that it touches, and one
 * dispatch of a workflow with a random id touches one that nobody else does.
 *
 * A step is applied exactly once: the same transaction that writes it notes up to which row
 * of the state's inbox everything is applied.
 */
#ifndef LIMINAL_STATE_HISTORY_H
#define LIMINAL_STATE_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"
#include "form/record.h"
#include "state/state.h"

/* Longer ones are refused before they get here. Keys hold them whole. */
#define HISTORY_WORKFLOW_MAX	255

#define HISTORY_OPENS	0x01	/* the first step of its dispatch */
#define HISTORY_CLOSES	0x02	/* the last one */
#define HISTORY_FINAL	0x04	/* with HISTORY_CLOSES: this is the outcome for the ordinal */
#define HISTORY_AWAITED	0x08	/* conn_id waits for INBOX_RECORDED before it answers its client */

/* The code of INBOX_RECORDED when it is no refusal. */
enum history_recorded {
	HISTORY_RECORDED = 0,		/* on disk */
	HISTORY_RECORDED_ELSEWHERE = 1,	/* another dispatch's outcome for this ordinal stands */
};

/* A step on its way to the store. CONN_ID and REQUEST identify the dispatch in this life of the
 * state; they travel in the inbox entry, the rest in its body. */
struct history_step {
	uint64_t conn_id, request;
	uint32_t awaiter_slot;
	uint32_t flags;			/* HISTORY_* */
	int has_ordinal;
	uint64_t ordinal;
	struct frame_view workflow_id;
	struct frame_view channel;
	struct frame_view image;	/* struct record_operations, packed */
};

/* Append the body of an INBOX_OPERATIONS entry to OUT: 0, ERR_NOMEM, or ERR_INVALID for a
 * workflow id that no key holds (empty, longer than HISTORY_WORKFLOW_MAX, with a NUL). */
int	history_step_pack(const struct history_step *step, struct buf *out);
/* Read it again, views into BODY; CONN_ID and REQUEST are left alone. 0 or ERR_CORRUPT. */
int	history_step_unpack(const void *body, size_t len, struct history_step *step);

/* 0 and the reason when the store cannot be written now; ERR_NOTFOUND when it can. TXN is one of
 * the state. */
int	history_fault(struct state_txn *txn, char *text, size_t size);
/* For the store process: TEXT is the reason, NULL = it can be written. */
int	history_set_fault(struct state_txn *txn, const char *text);

/* The recorded outcome of (WORKFLOW, CHANNEL, ORDINAL), not older than KEEP_AGE_NS (0: however old):
 * the step that has the answer, to be freed with record_free_operations. ERR_NOTFOUND: none.
 * ERR_CORRUPT: there is one, and it does not read back. TXN is one of the store. */
int	history_find_outcome(struct state_txn *txn, const struct frame_view *workflow,
	    const struct frame_view *channel, uint64_t ordinal, int64_t keep_age_ns,
	    struct record_operations *out);

/* Visit WORKFLOW's steps: dispatch by dispatch in the order of their opening, each one's in order.
 * VISIT's first result other than 0 ends the walk and is returned. A step that does not read back
 * has no operations and a message that says so. */
int	history_each(struct state_txn *txn, const struct frame_view *workflow,
	    int (*visit)(void *arg, uint64_t dispatch, uint32_t step,
	    const struct record_operations *operations), void *arg);

/* The same from a step on, for those who end their transaction now and then. */
int	history_each_from(struct state_txn *txn, const struct frame_view *workflow,
	    uint64_t dispatch, uint32_t step, int (*visit)(void *arg, uint64_t dispatch,
	    uint32_t step, const struct record_operations *operations), void *arg);

#endif
