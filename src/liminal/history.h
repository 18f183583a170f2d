/*
 * history: what the files of liminal history share: history.c walks, history_text.c shows
 * for people and for scripts.
 */
#ifndef LIMINAL_LIMINAL_HISTORY_H
#define LIMINAL_LIMINAL_HISTORY_H

#include "base/log.h"
#include "liminal/inspect.h"
#include "state/history_rows.h"
#include "state/store.h"

#define HISTORY_TEXT_MAX	512	/* what people get to see of one value */

/* One step, as the walk copies it. */
struct history_item {
	uint64_t dispatch;
	uint32_t step;
	struct record_operations operations;	/* owned */
};

/* The dispatch whose steps come now. */
struct history_dispatch {
	int is_begun;
	uint64_t number;
	int has_ordinal;
	uint64_t ordinal;
	int64_t opened_ns, last_ns;
	int is_closed;
	uint8_t activity;			/* the last that was told; enum record_activity */
	uint32_t code;
	char channel[HISTORY_TEXT_MAX], type[HISTORY_TEXT_MAX], id[HISTORY_TEXT_MAX];
	json_t *type_json;			/* owned; scripts get the type with each operation */
	struct buf lines;			/* of its operations */
};

struct history {
	struct look look;
	struct frame_view workflow;
	struct history_dispatch dispatch;
	struct buf out;				/* finished lines */
	uint64_t n_steps;
};

/* Take one more step. 0, or -1 after a complaint. */
int	history_text_show(struct history *history, const struct history_item *item);
int	history_json_show(struct history *history, const struct history_item *item);

/* Write what is finished / the last dispatch is complete: write it, too. 0, or -1 after a
 * complaint. */
int	history_text_flush(struct history *history);
int	history_text_end(struct history *history);
void	history_text_free(struct history *history);

#endif
