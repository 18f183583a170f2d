/*
 * store: what the files of the store process share. Internal to them.
 *
 *	store.c			the process: gather, commit, answer, loop, drain
 *	store_start.c		its beginning, also with a store that can only be read
 *	store_history.c		entries of the dispatch record
 *	store_publish.c		publishes: whose key is new, what each is answered, whom to wake
 *	store_log.c		the channels' logs: rows, appending, retention, heads
 *	store_consumers.c	durable subscriptions: where they go on, cursors
 *	store_fault.c		why the store cannot be written
 *
 * A batch is what one transaction of the store takes: rows of the inbox that are new, all of them,
 * or rows that an earlier process has written and not answered, all of them.
 */
#ifndef LIMINAL_ROLE_STORE_H
#define LIMINAL_ROLE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "form/frame.h"
#include "os/wake.h"
#include "role/role.h"
#include "state/history_write.h"
#include "state/inbox.h"
#include "state/log.h"
#include "state/store.h"

#define STORE_INBOX	INBOX_SERVICE(BOARD_STORE)
#define STORE_TEXT	256

/* Of the dispatch record: who waits; whose end could not be written and must not be lost (a
 * caller, or, REQUEST is not 0, one dispatch of a caller that is still there). */
struct store_answer { uint64_t conn_id, request; uint32_t slot, code; };
struct store_end { uint64_t conn_id, request; };

struct store_history {
	struct history_writer writer;
	struct store_answer *answers;
	size_t n_answers, size_answers;
	unsigned n_steps;		/* that nobody waits for, and that were dropped */
	struct store_end *ended;
	size_t n_ended, size_ended;
	int is_closing;			/* there is more to close than one commit does */
	int64_t trim_at_ns;		/* monotonic; INT64_MAX = nothing grows old */
	struct log_limit dropped_limit;
};

/* A configured channel; its index is its number. */
struct store_channel {
	const struct conf_channel *conf;
	uint32_t number;		/* in the store; 0 = nothing of it is kept there */
	struct log_mark mark;		/* of its log there: as committed, */
	struct log_mark next;		/* and as the transaction will leave it, if IS_CHANGED */
	uint8_t is_changed;
	uint8_t is_moved;		/* MARK is not yet what the state has */
	uint8_t is_awake;		/* somebody listens for what the batch brings */
	uint64_t trimmed;		/* bytes of the log when retention was last looked at */
	int64_t keep_at_ns;		/* when it is next (monotonic); INT64_MAX = never */

	/* The batch. */
	size_t n_keyed;			/* items with a key that counts */
	size_t first, n;		/* of the sorted messages */
	uint32_t n_subscriptions;	/* when it is answered */
};

struct store_log {
	struct store_channel *channels;		/* of the configuration */
	uint32_t n_channels;
	uint32_t *changed, *moved;		/* numbers of those that are */
	uint32_t n_changed, n_moved;
	int64_t keep_at_ns;			/* the earliest of the channels' */
};

/* One message for one channel, and whose it is. Views into the gathered rows. */
struct store_item {
	struct log_message message;
	struct frame_view key;
	uint64_t row;			/* of the inbox */
	uint32_t item;			/* in it */
	uint32_t channel;
	uint8_t is_routed, has_key;
	uint8_t outcome;		/* enum publication_outcome */
	uint8_t is_refused;		/* for want of room for its own key */
};

/* One entry of the inbox: answered as one. */
struct store_publication {
	uint64_t conn_id, request;
	size_t first, n;		/* items */
	uint32_t n_published;
	int is_unreadable;
};

struct store_publish {
	struct store_publication *publications;
	struct store_item *items;
	struct log_message *sorted;	/* accepted ones, channel by channel, */
	size_t *sources;		/* and the items that they are of */
	struct log_message *kept;	/* of one channel: without those whose key was known */
	size_t n_publications, size_publications, n_items, size_items, size_sorted;
	uint32_t *touched;		/* numbers of the channels that items are for */
	uint32_t n_touched;
	uint64_t last_row;		/* that was taken */
	uint32_t last_item;
	int64_t now_ns;			/* real time by which keys are judged */
	int is_refused;			/* all of them, for this reason: */
	char text[STORE_TEXT];
	struct buf answer;
};

/* An answer to INBOX_CONSUMER_OPEN. */
struct store_opened { uint64_t conn_id, request; uint32_t code; size_t at, len; };

struct store_consumers {
	struct store_opened *opened;
	size_t n, size;
	struct buf bodies;
	struct log_limit damaged, missed;
};

struct store_fault {
	char text[STORE_TEXT];		/* why the store cannot be written; "" = it can */
	int is_told;			/* the state has it */
	int is_disk;			/* the disk is full */
	uint32_t code;			/* the wire's reason, for who waits for the record */
	int64_t retry_ns, retry_at_ns;
	int64_t disk_looked_ns;
};

struct store {
	const struct role_context *context;
	struct board_slot *mine;
	struct wake wake;
	struct state *state, *store;
	int control, is_draining;
	uint64_t epoch;			/* of the state */
	int is_readonly;		/* the store could not be opened for writing */

	/* Gathered and not yet written. */
	struct buf rows;		/* struct store_row and its entries, one after the other */
	unsigned n_rows;
	int is_awaited;			/* somebody waits for one of them */
	int has_more;			/* than one batch takes */
	int is_old;			/* an earlier process has written them */
	int64_t since_ns;
	uint64_t seen;			/* the last row's id */
	uint64_t seen_number;		/* of the state's transaction that was looked at */
	uint64_t applied;		/* rows up to this one are in the store */
	uint64_t row_id;		/* whose entries are visited */

	struct store_history history;
	struct store_log log;
	struct store_publish publish;
	struct store_consumers consumers;
	struct store_fault fault;

	int64_t readers_checked_ns;
	int is_broken;			/* of no use any more: a new process has to go on */
	int has_lost;			/* what the drain was to make durable is not */
};

/* Room in *ARRAY, of *SIZE elements of EACH bytes, for N of them. 0 or ERR_NOMEM. */
int	store_room(void *array, size_t *size, size_t each, size_t n);

/* store_start.c: open everything and say READY; the process goes on with a store that can be
 * read only. Then store_start_again() tries to open it for writing: before each write. 0 or a
 * negative code. */
int	store_start(struct store *s);
int	store_start_again(struct store *s);
void	store_start_undo(struct store *s);

/*
 * store_history.c. Everything that takes a transaction returns 0 or a code after which it has to be
 * aborted.
 */
int	store_history_is_awaited(const struct inbox_entry *entry, const void *body);
void	store_history_begin(struct store *s);
/* INBOX_OPERATIONS, INBOX_CALLER_ENDED: write it, or learn what an earlier process wrote. */
int	store_history_write(struct store *s, const struct inbox_entry *entry, const void *body);
/* The same when nothing could be written: note who waits, and whose end must not be lost. */
int	store_history_refuse(struct store *s, const struct inbox_entry *entry, const void *body);
/* What the ended have left open is closed, what is old goes; *N_DONE grows by what was done.
 * N_CLOSED: dispatches that the batch has closed. */
int	store_history_tidy(struct store *s, uint64_t n_closed, unsigned *n_done);
/* All of the batch was refused. */
void	store_history_refused(struct store *s);
/* In the state: answers, and what could not be written back into the inbox. */
int	store_history_answer(struct store *s, struct state_txn *txn);
/* One step from an earlier life of the daemon to this one. 1 when it is done. */
int	store_history_enter(struct store *s);
/* The same with a store that can only be read: how far it is. */
int	store_history_look(struct store *s);
void	store_history_free(struct store *s);

/*
 * store_log.c. Changes of a transaction of the store: store_log_put before its commit, then
 * store_log_committed, or store_log_aborted.
 */
/* Learn where the logs stand, and have the state know it; once more when the store can be
 * written after all. */
int	store_log_open(struct store *s);
void	store_log_free(struct store *s);
int	store_log_append(struct store *s, struct state_txn *txn, uint32_t number,
	    const struct log_message *messages, size_t n);
/* Remove what is beyond the channels' bounds, and keys, if it is time; *N_DONE grows. */
int	store_log_keep(struct store *s, struct state_txn *txn, unsigned *n_done);
int	store_log_put(struct store *s, struct state_txn *txn);
void	store_log_committed(struct store *s);
void	store_log_aborted(struct store *s);
/* In the state: the heads that have moved; and it was committed. */
int	store_log_tell(struct store *s, struct state_txn *txn);
void	store_log_told(struct store *s);

/* store_publish.c */
void	store_publish_begin(struct store *s);
/* INBOX_APPEND. */
int	store_publish_take(struct store *s, const struct inbox_entry *entry, const void *body);
/* When all entries were taken: judge and append. */
int	store_publish_write(struct store *s, struct state_txn *txn);
void	store_publish_refuse(struct store *s);
/* In the state, behind store_log_tell: copies for ephemeral channels, ids, answers. */
int	store_publish_answer(struct store *s, struct state_txn *txn);
/* After that transaction: whoever listens. */
int	store_publish_wake(struct store *s);
void	store_publish_free(struct store *s);

/* store_consumers.c */
void	store_consumers_begin(struct store *s);
int	store_consumers_open(struct store *s, struct state_txn *txn,
	    const struct inbox_entry *entry, const void *body);
int	store_consumers_save(struct store *s, struct state_txn *txn,
	    const struct inbox_entry *entry, const void *body);
int	store_consumers_refuse(struct store *s, const struct inbox_entry *entry);
int	store_consumers_answer(struct store *s, struct state_txn *txn);
void	store_consumers_free(struct store *s);

/* store_fault.c */
#define STORE_FAULT_TIGHT	"the store is nearly full; what it keeps is said by dispatch " \
				"record_keep and by the channels' keep_ settings"
#define STORE_FAULT_DISK	"nearly no space is left on the disk"

/* "persist_dir DIR: WHAT". */
void	store_fault_text(const struct store *s, const char *what, char text[STORE_TEXT]);
/* After a commit: is there room for what comes? */
void	store_fault_judge(struct store *s, int is_tight);
/* It could not be opened for writing; TEXT says why. */
void	store_fault_set_open(struct store *s, const char *text);
/* The commit failed with RC. */
void	store_fault_set_for(struct store *s, int rc);
/* 1 while the disk is full: looked at anew. */
int	store_fault_is_disk(struct store *s);

#endif
