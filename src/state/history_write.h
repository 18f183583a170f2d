/*
 * history_write: how the dispatch record is written; for the store process only.
 *
 * Within one write transaction of the store: history_write_begin, whatever is to be written,
 * history_write_end. Everything is bounded by its caller, so that a commit stays short. What a row of
 * the store's inbox asks for is done in one transaction or not at all, and noted as done there.
 */
#ifndef LIMINAL_STATE_HISTORY_WRITE_H
#define LIMINAL_STATE_HISTORY_WRITE_H

#include <stdint.h>

#include "base/buf.h"
#include "state/history.h"
#include "state/history_rows.h"
#include "state/state.h"

struct history_writer {
	/* The caller's. */
	uint64_t keep;			/* closed dispatches; 0 = all */
	int64_t keep_age_ns;		/* since they were closed; 0 = for ever */

	/* During a transaction. */
	struct state_txn *txn;
	struct history_meta meta;	/* EPOCH and APPLIED are the caller's to set */
	int64_t now_ns;			/* real time */
	struct buf scratch;
};

/* Read what is noted in TXN's store; an empty one is as it should be. 0 or a negative code. */
int	history_write_begin(struct history_writer *writer, struct state_txn *txn);
int	history_write_end(struct history_writer *writer);
void	history_write_free(struct history_writer *writer);

/* Append STEP to its dispatch, which begins or ends with it if STEP says so; a step of a dispatch
 * that is not open opens it. *RECORDED matters for a final one only. 0, or ERR_FULL or worse,
 * after which the transaction has to be aborted. */
int	history_write_step(struct history_writer *writer, const struct history_step *step,
	    enum history_recorded *recorded);

/* What history_write_step said of a final STEP that was applied earlier. */
int	history_write_again(struct history_writer *writer, const struct history_step *step,
	    enum history_recorded *recorded);

/* How the dispatch of CONN_ID's REQUEST ended could not be written: close it without that, if it is
 * open. */
int	history_write_unrecorded(struct history_writer *writer, uint64_t conn_id,
	    uint64_t request);

/* CONN_ID has ended: history_close_ended will close what it has open. */
int	history_write_ended(struct history_writer *writer, uint64_t conn_id);

/* Close up to LIMIT dispatches of callers that have ended / of any caller, an earlier life's. The
 * result is how many were closed, LIMIT if there may be more, or a negative code. */
int	history_close_ended(struct history_writer *writer, int limit);
int	history_close_all(struct history_writer *writer, int limit);

/*
 * Forget up to LIMIT of the dispatches that retention does not keep; result as above. With IS_LAZY
 * only if there are more than HISTORY_TRIM_SLACK of them, or one is too old by as many
 * milliseconds: done now and then for many, it touches fewer pages. *NEXT_NS gets the real time at
 * which there will be something to forget (INT64_MAX: never).
 */
#define HISTORY_TRIM_SLACK	256
int	history_trim(struct history_writer *writer, int limit, int is_lazy, int64_t *next_ns);

#endif
