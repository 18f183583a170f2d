/*
 * history_rows: keys and rows of the store's tables, for those who write them (history_write.c), read
 * them (history.c) and show them. Which table has which: history.h.
 *
 * They outlive the daemon: to change one, raise its version and keep reading the old one. Read
 * them with the functions here, which believe nothing that a row says.
 */
#ifndef LIMINAL_STATE_HISTORY_ROWS_H
#define LIMINAL_STATE_HISTORY_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "form/frame.h"
#include "state/history.h"
#include "state/state.h"

/* history: dispatch, step (big-endian). Row: an image of record_pack_operations. */
#define HISTORY_STEP_KEY_SIZE	12

void	history_step_key(uint8_t key[HISTORY_STEP_KEY_SIZE], uint64_t dispatch, uint32_t step);
int	history_step_key_read(const struct state_view *key, uint64_t *dispatch, uint32_t *step);

/* workflows. */
enum history_workflow_kind {
	HISTORY_DISPATCH = 1,	/* N: dispatch number. Row: real time of its first step, int64_t */
	HISTORY_OUTCOME = 2	/* N: ordinal; and the channel's hash. Row: history_outcome entries */
};
struct history_workflow_key {
	struct frame_view workflow;
	enum history_workflow_kind kind;
	uint64_t n;
	uint64_t channel_hash;		/* HISTORY_OUTCOME only */
};
#define HISTORY_WORKFLOW_KEY_MAX (HISTORY_WORKFLOW_MAX + 2 + 16)

/* Returns the key's length. */
size_t	history_workflow_key(uint8_t key[HISTORY_WORKFLOW_KEY_MAX],
	    const struct history_workflow_key *parts);
/* 0 with views into KEY, or ERR_CORRUPT. */
int	history_workflow_key_read(const struct state_view *key, struct history_workflow_key *parts);

/* Where an outcome is. A row has one for each channel of the same hash: one, if nobody has
 * searched for such channels; the oldest of too many are forgotten. */
struct history_outcome {
	uint16_t version;
	uint16_t channel_len;		/* the channel follows */
	uint32_t step;
	uint64_t dispatch;
	int64_t at_ns;			/* real time of the step */
};
#define HISTORY_OUTCOME_VERSION	1
#define HISTORY_OUTCOMES_MAX	4

uint64_t history_channel_hash(const struct frame_view *channel);

/* Take the next entry off the front of ROW. 0; ERR_NOTFOUND at its end; ERR_CORRUPT. */
int	history_outcome_next(struct state_view *row, struct history_outcome *outcome,
	    struct frame_view *channel);

/* Where the outcome of (WORKFLOW, CHANNEL, ORDINAL) is; as history_find_outcome. */
int	history_where(struct state_txn *txn, const struct frame_view *workflow,
	    const struct frame_view *channel, uint64_t ordinal, int64_t keep_age_ns,
	    struct history_outcome *out);

/* 1 if what happened at AT_NS, whatever a row says there, is older than KEEP_AGE_NS (0: never). */
static inline int
history_is_old(int64_t at_ns, int64_t now_ns, int64_t keep_age_ns)
{
	return keep_age_ns > 0 && at_ns < now_ns - keep_age_ns;
}

/* open: conn id, request. The workflow id follows the row. */
struct history_open {
	uint16_t version;
	uint16_t pad;
	uint32_t next_step;
	uint64_t dispatch;
};
#define HISTORY_OPEN_VERSION	1
#define HISTORY_OPEN_KEY_SIZE	16

void	history_open_key(uint8_t key[HISTORY_OPEN_KEY_SIZE], uint64_t conn_id, uint64_t request);
int	history_open_read(const struct state_view *row, struct history_open *open,
	    struct frame_view *workflow);

/* closed: close number. The workflow id follows the row. */
struct history_closed {
	uint16_t version;
	uint8_t has_outcome, pad[5];
	uint64_t dispatch;
	int64_t at_ns;			/* real time */
	uint64_t ordinal, channel_hash;	/* of its outcome */
};
#define HISTORY_CLOSED_VERSION	1

int	history_closed_read(const struct state_view *row, struct history_closed *closed,
	    struct frame_view *workflow);

/* meta, under HISTORY_META_KEY. */
struct history_meta {
	uint16_t version;
	uint16_t pad[3];
	uint64_t epoch;			/* of the state that APPLIED is about */
	uint64_t applied;		/* every row of the store's inbox up to this one is in here */
	uint64_t next_dispatch, next_close;
};
#define HISTORY_META_VERSION	1
#define HISTORY_META_KEY	"applied"

/* ERR_NOTFOUND when nothing was ever recorded. */
int	history_meta_get(struct state_txn *txn, struct history_meta *meta);

/* meta, under HISTORY_ENDED_KEY and the conn id: a caller that has ended and whose open dispatches are
 * still to be closed. The row is empty. */
#define HISTORY_ENDED_KEY	"ended/"

#endif
