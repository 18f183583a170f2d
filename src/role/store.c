/*
 * The store process: group commit of everything that outlives a restart: the dispatch record, what
 * is published to durable channels, where durable subscriptions are.
 *
 * Its inbox is the queue: connections put there what is to be written, in the transactions in
 * which it happens. A turn takes what has gathered, writes it with one synchronous commit, and
 * then, in one transaction of the state, removes it from the inbox, answers those who wait, and
 * moves the heads of the channels. What gathers while a commit runs is the next one's: the slower
 * the disk, the larger the batch.
 *
 * It may be killed at any point. Rows leave the inbox only together with their answers, and the
 * store's own transaction notes up to which row everything is in it, so a successor writes nothing
 * twice and answers what was not answered. No transaction of the state is open while the disk
 * works.
 *
 * When the disk refuses, those who wait are told at once, what nobody waits for is dropped and
 * counted, and a mark in the state keeps new dispatches away until it can be written again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "role/store.h"

/* What one commit takes at most; one row may be larger, its answer's payload has its own limit. */
#define STORE_BATCH_BYTES	((size_t)8 << 20)
#define STORE_BATCH_ROWS	4096
/* How long entries that nobody waits for may lie until one comes that somebody does: the beginning
 * of a short dispatch then shares the commit of its end. */
#define STORE_LAZY_NS		(5 * CLOCK_MS)
#define STORE_READERS_NS	CLOCK_SECOND
/* The state's map is full of others' rows: they will take them. */
#define STORE_STATE_TRIES	100
#define STORE_STATE_WAIT_US	100000

struct store_row { uint64_t id; size_t len; };

int
store_room(void *array, size_t *size, size_t each, size_t n)
{
	size_t more = *size ? *size : 64;
	void *at;

	if (n <= *size)
		return 0;
	while (more < n)
		more *= 2;
	memcpy(&at, array, sizeof at);
	if ((at = realloc(at, more * each)) == NULL)
		return ERR_NOMEM;
	memcpy(array, &at, sizeof at);
	*size = more;
	return 0;
}

/* Gathering. */

static int
store_note(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct store *s = arg;

	s->is_awaited |= entry->kind == INBOX_APPEND || entry->kind == INBOX_CONSUMER_OPEN ||
	    store_history_is_awaited(entry, body);
	return 0;
}

static int
store_take_row(void *arg, uint64_t id, const void *entries, size_t len)
{
	struct store_row row = { id, len };
	struct store *s = arg;

	if (s->n_rows == 0)
		s->is_old = id <= s->applied;
	if (s->n_rows == STORE_BATCH_ROWS || buf_len(&s->rows) >= STORE_BATCH_BYTES ||
	    s->is_old != (id <= s->applied)) {
		s->has_more = 1;
		return 1;
	}
	if (buf_reserve(&s->rows, sizeof row + len) == NULL)
		return ERR_NOMEM;
	buf_append(&s->rows, &row, sizeof row);
	buf_append(&s->rows, entries, len);
	if (s->n_rows++ == 0)
		s->since_ns = clock_now_ns();
	s->seen = id;
	inbox_each(entries, len, store_note, s);
	return 0;
}

/* Copy what is new in the inbox. */
static int
store_gather(struct store *s)
{
	struct state_txn *txn;
	int rc;

	if (s->has_more || state_last_number(s->state) == s->seen_number)
		return 0;
	if ((rc = state_begin_read(s->state, &txn)) != 0)
		return rc == ERR_BUSY ? 0 : rc;
	s->seen_number = state_txn_number(txn);
	rc = inbox_read_rows(txn, STORE_INBOX, s->seen, store_take_row, s);
	state_abort(txn);
	return rc == 1 ? 0 : rc;
}

/* Writing. */

static int
store_write_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct store *s = arg;
	struct state_txn *txn = s->history.writer.txn;

	switch (entry->kind) {
	case INBOX_OPERATIONS:
	case INBOX_CALLER_ENDED:
		return store_history_write(s, entry, body);
	case INBOX_APPEND:
		return store_publish_take(s, entry, body);
	case INBOX_CONSUMER_OPEN:
		return store_consumers_open(s, txn, entry, body);
	case INBOX_CURSOR:
		return store_consumers_save(s, txn, entry, body);
	default:
		return 0;
	}
}

/* Note who waits, when nothing could be written. */
static int
store_refuse_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct store *s = arg;

	switch (entry->kind) {
	case INBOX_OPERATIONS:
	case INBOX_CALLER_ENDED:
		return store_history_refuse(s, entry, body);
	case INBOX_APPEND:
		return store_publish_take(s, entry, body);
	case INBOX_CONSUMER_OPEN:
		return store_consumers_refuse(s, entry);
	default:	/* a cursor: what was accepted since the last one will come again */
		return 0;
	}
}

static int
store_each_entry(struct store *s,
    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body))
{
	const uint8_t *at = buf_head(&s->rows), *end = at + buf_len(&s->rows);
	struct store_row row;
	int rc = 0;

	store_history_begin(s);
	store_publish_begin(s);
	store_consumers_begin(s);
	while (rc == 0 && at < end) {
		memcpy(&row, at, sizeof row);
		s->row_id = row.id;
		rc = inbox_each(at + sizeof row, row.len, visit, s);
		at += sizeof row + row.len;
	}
	return rc;
}

/* What an earlier process has written: only what it would have answered is to be learnt. */
static int
store_reread(struct store *s)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(s->store, &txn)) != 0)
		return rc;
	rc = history_write_begin(&s->history.writer, txn);
	if (rc == 0)
		rc = store_each_entry(s, store_write_entry);
	if (rc == 0)
		rc = store_publish_write(s, txn);
	state_abort(txn);
	return rc;
}

/* Everything that has gathered, and what is due by itself: *N_DONE of that. */
static int
store_apply(struct store *s, struct state_txn *txn, unsigned *n_done)
{
	struct history_writer *writer = &s->history.writer;
	uint64_t first;
	int rc = history_write_begin(writer, txn);

	first = writer->meta.next_close;
	if (rc == 0)
		rc = store_each_entry(s, store_write_entry);
	if (rc == 0)
		rc = store_publish_write(s, txn);
	if (rc == 0 && s->n_rows > 0)
		writer->meta.applied = s->seen;
	if (rc == 0)
		rc = store_history_tidy(s, writer->meta.next_close - first, n_done);
	if (rc == 0)
		rc = store_log_keep(s, txn, n_done);
	if (rc == 0)
		rc = store_log_put(s, txn);
	return rc != 0 ? rc : history_write_end(writer);
}

/* One commit. *IS_TIGHT: the map is nearly full. */
static int
store_write(struct store *s, int *is_tight)
{
	struct state_txn *txn;
	unsigned n_done = 0;
	int rc;

	if (s->n_rows > 0 && s->is_old)
		return store_reread(s);
	if (s->is_readonly && (rc = store_start_again(s)) != 0)
		return rc;
	/* What is acknowledged has to be there when the next process opens it. */
	if (!store_is_in_place(s->store))
		return ERR_SYSTEM;
	if ((rc = state_begin_write(s->store, &txn)) != 0) {
		s->is_broken = rc == ERR_CORRUPT;
		return rc;
	}
	rc = store_apply(s, txn, &n_done);
	*is_tight = state_is_tight(txn);
	/* When nothing was due after all, only whether it can be written is of interest. */
	if (rc != 0 || (s->n_rows == 0 && n_done == 0 && s->fault.text[0] == '\0'))
		state_abort(txn);
	else
		rc = state_commit(txn);
	if (rc != 0) {
		store_log_aborted(s);
		return rc;
	}
	if (s->n_rows > 0)
		s->applied = s->seen;
	store_log_committed(s);
	return 0;
}

/* The commit failed with RC: nobody is left waiting for it. */
static int
store_refuse(struct store *s, int rc)
{
	store_fault_set_for(s, rc);
	if ((rc = store_each_entry(s, store_refuse_entry)) != 0)
		return rc;
	store_publish_refuse(s);
	store_history_refused(s);
	return 0;
}

/* Answering. */

/* Take the batch out of the inbox and tell those who wait, or do neither. */
static int
store_finish_once(struct store *s)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(s->state, &txn)) != 0)
		return rc;
	if (s->n_rows > 0)
		rc = inbox_remove(txn, STORE_INBOX, s->seen);
	if (rc == 0)
		rc = store_log_tell(s, txn);
	if (rc == 0)
		rc = store_history_answer(s, txn);
	if (rc == 0)
		rc = store_publish_answer(s, txn);
	if (rc == 0)
		rc = store_consumers_answer(s, txn);
	if (rc == 0 && !s->fault.is_told)
		rc = history_set_fault(txn, s->fault.text[0] != '\0' ? s->fault.text : NULL);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

static int
store_finish(struct store *s)
{
	int rc, tries;

	if (s->n_rows == 0 && s->log.n_moved == 0 && s->fault.is_told)
		return 0;
	for (tries = 0; (rc = store_finish_once(s)) == ERR_FULL && tries < STORE_STATE_TRIES;
	    tries++)
		usleep(STORE_STATE_WAIT_US);
	if (rc == 0)
		rc = store_publish_wake(s);
	if (rc != 0)
		return rc;
	store_log_told(s);
	s->fault.is_told = 1;
	buf_consume(&s->rows, buf_len(&s->rows));
	buf_trim(&s->rows, STORE_BATCH_BYTES);
	s->n_rows = 0;
	s->is_awaited = 0;
	s->has_more = 0;
	s->seen_number = 0;
	return 0;
}

/* Connections that die while they read keep what they saw from being used again; only while
 * something is written does it matter. */
static void
store_check_readers(struct store *s)
{
	int64_t now = clock_now_ns();

	if (now - s->readers_checked_ns < STORE_READERS_NS)
		return;
	s->readers_checked_ns = now;
	(void)state_check_readers(s->store);
}

/* One batch, from the inbox to the answers. */
static int
store_turn(struct store *s)
{
	int rc, is_tight = 0;

	store_check_readers(s);
	rc = store_write(s, &is_tight);
	if (rc == 0) {
		store_fault_judge(s, is_tight);
	} else {
		if (s->is_broken)
			return rc;
		if ((rc = store_refuse(s, rc)) != 0)
			return rc;
	}
	if ((rc = store_finish(s)) == 0 && s->fault.text[0] == '\0')
		store_grow_ahead(s->store);	/* while nobody waits for it */
	return rc;
}

/* The loop. */

/* When what has gathered is written though nobody waits for it. What could not be written now would
 * be dropped. */
static int64_t
store_lazy_until(const struct store *s)
{
	int64_t until = s->since_ns + STORE_LAZY_NS;

	return s->fault.text[0] != '\0' && s->fault.retry_at_ns > until ? s->fault.retry_at_ns :
	    until;
}

/* When something is to be removed. */
static int64_t
store_keep_at(const struct store *s)
{
	return s->history.trim_at_ns < s->log.keep_at_ns ? s->history.trim_at_ns :
	    s->log.keep_at_ns;
}

static int
store_is_due(const struct store *s, int64_t now)
{
	if (s->n_rows > 0 && (s->is_awaited || s->has_more || s->is_draining ||
	    now >= store_lazy_until(s)))
		return 1;
	if (s->is_draining)
		return s->history.is_closing && s->fault.text[0] == '\0';
	if (s->fault.text[0] != '\0')
		return now >= s->fault.retry_at_ns;
	return s->history.is_closing || now >= store_keep_at(s);
}

static int64_t
store_deadline(const struct store *s)
{
	int64_t next = s->fault.text[0] != '\0' ? s->fault.retry_at_ns : store_keep_at(s);

	if (s->n_rows > 0 && store_lazy_until(s) < next)
		next = store_lazy_until(s);
	return next;
}

static void
store_sleep(struct store *s)
{
	struct pollfd fds[3] = {
		{ .fd = s->wake.fd, .events = POLLIN },
		{ .fd = s->context->master_fd, .events = POLLIN },
		{ .fd = s->control, .events = POLLIN },
	};
	char byte;

	poll(fds, s->is_draining ? 2 : 3, clock_poll_ms(store_deadline(s), clock_now_ns()));
	if (fds[1].revents != 0)
		_exit(ROLE_EXIT_OK);	/* the master is gone, and the state with it */
	if (fds[0].revents != 0)
		wake_drain(&s->wake);
	if (fds[2].revents != 0 && recv(s->control, &byte, sizeof byte, MSG_DONTWAIT) == 0)
		s->is_draining = 1;
}

static int
store_loop(struct store *s)
{
	int rc;

	for (;;) {
		atomic_store_explicit(&s->mine->looked, atomic_load_explicit(&s->mine->looked,
		    memory_order_relaxed) + 1, memory_order_relaxed);
		if ((rc = store_gather(s)) != 0)
			return rc;
		if (!store_is_due(s, clock_now_ns())) {
			if (s->is_draining)
				return 0;
			/* Look once more after having announced the sleep: whoever commits later
			 * will see the announcement and poke. */
			wake_will_sleep(&s->wake);
			rc = store_gather(s);
			if (rc == 0 && !store_is_due(s, clock_now_ns()))
				store_sleep(s);
			wake_is_awake(&s->wake);
			if (rc != 0)
				return rc;
		} else if ((rc = store_turn(s)) != 0)
			return rc;
	}
}

int
store_main(const struct role_context *context, int control)
{
	struct store s = { .context = context, .control = control };
	int rc;

	log_set_name("store");
	s.mine = &context->board->slots[context->slot];
	s.history.trim_at_ns = INT64_MAX;
	s.wake.fd = -1;
	s.history.writer.keep = context->conf->record_keep;
	s.history.writer.keep_age_ns = context->conf->record_keep_age_ns;
	if ((rc = store_start(&s)) == 0) {
		rc = store_loop(&s);
		if (rc != 0)
			log_errorx("store ends: state \"%s\", store \"%s\"",
			    state_error_text(s.state),
			    s.store != NULL ? state_error_text(s.store) : "closed");
	}
	store_start_undo(&s);
	buf_free(&s.rows);
	if (rc != 0)
		return ROLE_EXIT_STATE;
	return s.has_lost ? ROLE_EXIT_FLUSH : ROLE_EXIT_OK;
}
