/*
 * dump: how the rows of each table are copied and shown by liminal dump. Internal to dump.c,
 * dump_rows.c (the state), dump_store.c (the store) and dump_channels.c (what channels have in both).
 */
#ifndef LIMINAL_LIMINAL_DUMP_H
#define LIMINAL_LIMINAL_DUMP_H

#include "liminal/inspect.h"
#include "state/history_rows.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pushes.h"
#include "state/store_channels.h"

#define DUMP_KEY_MAX	512	/* LMDB's is 511 */

enum dump_reading {
	DUMP_DECODED,
	DUMP_RAW,		/* nothing is known about such rows */
	DUMP_UNREADABLE,	/* it should read, and does not */
};

struct dump_item {
	enum dump_reading reading;
	size_t key_len, row_len;
	uint64_t n_payload;		/* bytes */
	struct buf text;		/* owned; pending: activity type, node; inbox: entries; of the
					 * store: the row */
	void	(*release)(struct dump_item *item);	/* of what U owns; NULL = nothing */
	union {
		struct connections_row connection;
		struct record_registration registration;	/* owned */
		struct record_conversation conversation;	/* owned */
		struct pool_row pool;
		struct pool_meta meta;
		struct pushes_row push;
		struct pending_row pending;
		uint64_t counter;
		struct record_operations operations;		/* owned */
		struct history_meta history_meta;
		struct store_published published;
	} u;
	uint8_t key[DUMP_KEY_MAX];
};

/* How one table's rows are read. */
struct dump_table {
	/* As struct walk has it. */
	int	(*copy)(struct state_txn *txn, const struct state_view *key,
		    const struct state_view *row, void *item);
	/* Append a decoded item to a row that has begun; or to several, the last of which is left
	 * begun. NULL when no row is ever decoded. */
	void	(*show)(struct listing *listing, const struct dump_item *item, int64_t now_ns);
};

extern const struct dump_table dump_tables[STATE_N_TABLES];
/* By the table's number less STATE_N_TABLES. */
extern const struct dump_table dump_store_tables[STORE_TABLES_END - STATE_N_TABLES];
/* By the table's number: those that are in neither of the others. */
extern const struct dump_table dump_channel_tables[STORE_TABLES_END];

#endif
