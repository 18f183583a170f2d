/*
 * inbox: what other processes have for one connection, a FIFO per connection.
 *
 * Key: target conn id, id. A row is a batch: all entries that one transaction had for that
 * target, so that sixty-four answers to one caller cost one row. Entries are posted
 * during a transaction and written by its commit; what is for a connection that is not
 * (or no longer) in the state is dropped there.
 *
 * The owner reads from where it left off, without the write lock, and removes what it has
 * read with its next write transaction.
 */
#ifndef LIMINAL_STATE_INBOX_H
#define LIMINAL_STATE_INBOX_H

#include <stddef.h>
#include <stdint.h>

#include "os/board.h"

struct state_txn;
struct inbox_batch;

enum inbox_kind {
	INBOX_REPLY = 1,	/* answer to REQUEST; body: the payload */
	INBOX_FAILED,		/* no result; code: the wire's reason; body: text for the caller */
	INBOX_WORKER_EXITED,	/* the worker ended before it answered; body: worker id, NUL, reason */
	INBOX_NO_WORKERS,	/* waited in the queue and no worker can take it any more */
	INBOX_STARTED,		/* left the queue; body: worker id */
	INBOX_DISCONNECTED,	/* the connection that was pushed to has ended; body: reason */
	INBOX_NOTIFY_SHUTDOWN,	/* the daemon shuts down */
	INBOX_FORCE_CLOSE,	/* close the connection now; body: reason */

	/* From the services, to the connection that asked for REQUEST. */
	INBOX_RECORDED,		/* code: enum history_recorded, or the wire's reason and body: text */
	INBOX_NOTIFIED,		/* code: enum inbox_notified; body: the reason of a rejection */
	INBOX_ROUTED,		/* the router's module was not asked: it waits for room in the queue */
	INBOX_APPENDED,		/* what became of INBOX_APPEND; body: state/publication.h */
	INBOX_CONSUMER,		/* what became of INBOX_CONSUMER_OPEN; body: state/consumers.h */

	/* To the services; conn_id and request say who asked and the asker's number for it. */
	INBOX_OPERATIONS = 32,	/* store; body: state/history.h */
	INBOX_CALLER_ENDED,	/* store: conn_id's dispatches that are still open are to be closed;
				 * with a request (store to itself): that one */
	INBOX_REGISTER,		/* notifier: see state/registrations.h */
	INBOX_UNREGISTER,	/* notifier */
	INBOX_PUBLISH,		/* notifier; body: role/notifier.h */
	INBOX_ROUTE,		/* router; body: role/custom_router.h */
	INBOX_APPEND,		/* store: publishes; body: state/publication.h */
	INBOX_CONSUMER_OPEN,	/* store; body: state/consumers.h */
	INBOX_CURSOR,		/* store, not answered; body: state/consumers.h */
};

enum inbox_notified { INBOX_NOTIFIED_YES, INBOX_NOTIFIED_NO, INBOX_NOTIFIED_LOST };

/*
 * The services have inboxes too, under numbers that no connection ever gets. What is posted
 * for a service that does not run waits for its successor; SLOT is BOARD_SERVICE_SLOT(kind).
 */
#define INBOX_SERVICE(kind)	(UINT64_MAX - (uint64_t)(kind))
#define INBOX_IS_SERVICE(target) ((target) > UINT64_MAX - 64)

/* Those that call somebody's module take one entry at a time, and answer it in the transaction
 * that removes it: each of their rows is one entry. */
#define INBOX_IS_ONE_BY_ONE(target) ((target) == INBOX_SERVICE(BOARD_NOTIFIER) || \
	    (target) == INBOX_SERVICE(BOARD_ROUTER))

/* In memory and at the head of each stored entry; BODY follows there. */
struct inbox_entry {
	uint32_t kind;		/* enum inbox_kind */
	uint32_t len;		/* of the body */
	uint64_t request;	/* the awaiter's own number for what it waits for */
	uint64_t conn_id;	/* the other side: the worker */
	uint32_t code;		/* INBOX_FAILED */
	uint32_t pad;
};

/*
 * Post ENTRY with its body of entry->len bytes to connection TARGET in SLOT; it is woken after the
 * commit. 0, ERR_NOMEM or ERR_FULL.
 */
int	inbox_post(struct state_txn *txn, uint64_t target, uint32_t slot,
	    const struct inbox_entry *entry, const void *body);

/* Called by state_commit only: write what was posted. */
int	inbox_flush(struct state_txn *txn);
void	inbox_batch_reset(struct inbox_batch *batch);
void	inbox_batch_free(struct inbox_batch *batch);

/*
 * Call VISIT for each entry of CONN_ID with an id in (after, now], in order; the body is valid during the
 * call only. VISIT's first result other than 0 ends the walk and is returned. *ROWS counts the rows.
 */
int	inbox_read(struct state_txn *txn, uint64_t conn_id, uint64_t after, unsigned *rows,
	    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body),
	    void *arg);

/* The same row by row, for those who keep a row whole: VISIT gets its id and the entries as they are
 * stored, which inbox_each takes apart (ERR_CORRUPT if they do not fill it exactly). */
int	inbox_read_rows(struct state_txn *txn, uint64_t conn_id, uint64_t after,
	    int (*visit)(void *arg, uint64_t id, const void *entries, size_t len), void *arg);
int	inbox_each(const void *entries, size_t len,
	    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body),
	    void *arg);

/* The first row of an inbox that is taken one by one: its ID, and its entry with a BODY that is
 * valid as a view is. ERR_NOTFOUND = the inbox is empty. */
int	inbox_first(struct state_txn *txn, uint64_t conn_id, uint64_t *id,
	    struct inbox_entry *entry, const void **body);

/* Remove CONN_ID's rows with ids up to UP_TO (UINT64_MAX: all). 0 or a negative code. */
int	inbox_remove(struct state_txn *txn, uint64_t conn_id, uint64_t up_to);

#endif
