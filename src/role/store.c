/*
 * The store process: group commit of the dispatch record.
 *
 * Its inbox is the queue: connections put their steps there in the transactions in which they happen. A
 * turn takes what has gathered, writes it with one synchronous commit, and then, in one transaction
 * of the state, removes it from the inbox and answers those who wait. What gathers while a
 * commit runs is the next one's: the slower the disk, the larger the batch.
 *
 * It may be killed at any point. Rows leave the inbox only together with their answers, and the store's
 * own transaction notes up to which row everything is in it, so a successor writes nothing twice
 * and answers what was not answered. No transaction of the state is open while the disk works.
 *
 * When the disk refuses, those who wait are told at once, what nobody waits for is dropped and
 * counted, and a mark in the state keeps new dispatches away until it can be written again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "form/frame.h"
#include "os/wake.h"
#include "role/role.h"
#include "state/history_write.h"
#include "state/inbox.h"
#include "state/store.h"

/* What one commit takes at most; one row may be larger, its answer's payload has its own limit. */
#define RECORDER_BATCH_BYTES	((size_t)8 << 20)
#define RECORDER_BATCH_ROWS	4096
/* How long steps that nobody waits for may lie until one comes that somebody does: the beginning
 * of a short dispatch then shares the commit of its end. */
#define RECORDER_LAZY_NS	(5 * CLOCK_MS)
/* Dispatches that one commit closes for callers that have ended, or forgets besides as many as
 * it closes: bounds its length. */
#define RECORDER_CLOSE		256
#define RECORDER_TRIM		(2 * HISTORY_TRIM_SLACK)
/* How long what is too old may stay when nothing else is to be written. */
#define RECORDER_TRIM_NS	(20 * CLOCK_MS)
/* Room on the disk below which new dispatches are refused: one answer of the largest kind. */
#define RECORDER_DISK_MIN	(UINT64_C(16) << 20)
#define RECORDER_DISK_LOOK_NS	CLOCK_SECOND
#define RECORDER_READERS_NS	CLOCK_SECOND
#define RECORDER_RETRY_MIN_NS	(CLOCK_SECOND / 4)
#define RECORDER_RETRY_MAX_NS	(30 * CLOCK_SECOND)
/* The state's map is full of others' rows: they will take them. */
#define RECORDER_STATE_TRIES	100
#define RECORDER_STATE_WAIT_US	100000

#define RECORDER_ADVICE		"; dispatch record_keep and record_keep_age say what it keeps"

#define RECORDER_INBOX		INBOX_SERVICE(BOARD_STORE)

struct recorder_row { uint64_t id; size_t len; };

/* A caller, or (REQUEST is not 0) one dispatch of a caller that is still there. */
struct recorder_end { uint64_t conn_id, request; };

struct recorder_answer { uint64_t conn_id, request; uint32_t slot, code; };

struct recorder {
	const struct role_context *context;
	struct board_slot *mine;
	struct wake wake;
	struct state *state, *store;
	int control, is_draining;

	/* Gathered and not yet written. */
	struct buf rows;		/* struct recorder_row and its entries, one after the other */
	unsigned n_rows;
	int is_awaited;			/* somebody waits for one of them */
	int has_more;			/* than one batch takes */
	int64_t since_ns;
	uint64_t seen;			/* the last row's id */
	uint64_t seen_number;		/* of the state's transaction that was looked at */

	/* The batch that is being written. */
	struct history_writer writer;
	uint64_t row_id;
	struct recorder_answer *answers;
	size_t n_answers, size_answers;
	unsigned n_steps;		/* that nobody waits for */
	struct recorder_end *ended;	/* whose end could not be written and must not be lost */
	size_t n_ended, size_ended;

	int is_closing;			/* there is more to close than one commit does */
	int64_t trim_at_ns;		/* monotonic; INT64_MAX = nothing grows old */

	char fault[192];		/* why the store cannot be written; "" = it can */
	int is_fault_told;		/* the state has it */
	uint32_t fault_code;		/* the wire's reason */
	int64_t retry_ns, retry_at_ns;
	int64_t disk_looked_ns;
	int64_t readers_checked_ns;
	struct log_limit dropped_limit;
	int is_broken;			/* LMDB failed to write its head: a new process has to go on */
	int has_lost;			/* what the drain was to make durable is not */
};

/* Gathering. */

static int
recorder_note(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct recorder *r = arg;
	struct history_step step;

	if (entry->kind == INBOX_OPERATIONS && history_step_unpack(body, entry->len, &step) == 0 &&
	    (step.flags & HISTORY_AWAITED))
		r->is_awaited = 1;
	return 0;
}

static int
recorder_take_row(void *arg, uint64_t id, const void *entries, size_t len)
{
	struct recorder_row row = { id, len };
	struct recorder *r = arg;

	if (r->n_rows == RECORDER_BATCH_ROWS || buf_len(&r->rows) >= RECORDER_BATCH_BYTES) {
		r->has_more = 1;
		return 1;
	}
	if (buf_reserve(&r->rows, sizeof row + len) == NULL)
		return ERR_NOMEM;
	buf_append(&r->rows, &row, sizeof row);
	buf_append(&r->rows, entries, len);
	if (r->n_rows++ == 0)
		r->since_ns = clock_now_ns();
	r->seen = id;
	inbox_each(entries, len, recorder_note, r);
	return 0;
}

/* Copy what is new in the inbox. */
static int
recorder_gather(struct recorder *r)
{
	struct state_txn *txn;
	int rc;

	if (r->has_more || state_last_number(r->state) == r->seen_number)
		return 0;
	if ((rc = state_begin_read(r->state, &txn)) != 0)
		return rc == ERR_BUSY ? 0 : rc;
	r->seen_number = state_txn_number(txn);
	rc = inbox_read_rows(txn, RECORDER_INBOX, r->seen, recorder_take_row, r);
	state_abort(txn);
	return rc == 1 ? 0 : rc;
}

/* Writing. */

static int
recorder_await(struct recorder *r, const struct history_step *step, uint32_t code)
{
	struct recorder_answer *more;
	size_t size;

	if (r->n_answers == r->size_answers) {
		size = r->size_answers ? r->size_answers * 2 : 64;
		if ((more = realloc(r->answers, size * sizeof *more)) == NULL)
			return ERR_NOMEM;
		r->answers = more;
		r->size_answers = size;
	}
	more = &r->answers[r->n_answers++];
	more->conn_id = step->conn_id;
	more->request = step->request;
	more->slot = step->awaiter_slot;
	more->code = code;
	return 0;
}

/* One entry of the row r->row_id, written unless an earlier process has done it. */
static int
recorder_write_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct recorder *r = arg;
	int rc, is_old = r->row_id <= r->writer.meta.applied;
	enum history_recorded recorded;
	struct history_step step;

	if (entry->kind == INBOX_CALLER_ENDED) {
		if (is_old)
			return 0;
		return entry->request == 0 ? history_write_ended(&r->writer, entry->conn_id) :
		    history_write_unrecorded(&r->writer, entry->conn_id, entry->request);
	}
	if (entry->kind != INBOX_OPERATIONS || history_step_unpack(body, entry->len, &step) != 0)
		return 0;
	step.conn_id = entry->conn_id;
	step.request = entry->request;
	rc = is_old ? history_write_again(&r->writer, &step, &recorded) :
	    history_write_step(&r->writer, &step, &recorded);
	if (rc == 0 && (step.flags & HISTORY_AWAITED))
		rc = recorder_await(r, &step, (uint32_t)recorded);
	return rc;
}

static int
recorder_keep_ended(struct recorder *r, uint64_t conn_id, uint64_t request)
{
	struct recorder_end *more;
	size_t size;

	if (r->n_ended == r->size_ended) {
		size = r->size_ended ? r->size_ended * 2 : 64;
		if ((more = realloc(r->ended, size * sizeof *more)) == NULL)
			return ERR_NOMEM;
		r->ended = more;
		r->size_ended = size;
	}
	r->ended[r->n_ended].conn_id = conn_id;
	r->ended[r->n_ended++].request = request;
	return 0;
}

/* Note who waits, when nothing could be written. What has ended is told once only: that stays. */
static int
recorder_refuse_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct recorder *r = arg;
	struct history_step step;
	int rc;

	/* The next life closes whatever is open. */
	if (entry->kind == INBOX_CALLER_ENDED)
		return r->is_draining ? 0 :
		    recorder_keep_ended(r, entry->conn_id, entry->request);
	if (entry->kind != INBOX_OPERATIONS || history_step_unpack(body, entry->len, &step) != 0)
		return 0;
	step.conn_id = entry->conn_id;
	step.request = entry->request;
	if ((step.flags & HISTORY_CLOSES) && !(step.flags & HISTORY_OPENS) && !r->is_draining &&
	    (rc = recorder_keep_ended(r, step.conn_id, step.request)) != 0)
		return rc;
	if (step.flags & HISTORY_AWAITED)
		return recorder_await(r, &step, r->fault_code);
	r->n_steps++;
	return 0;
}

static int
recorder_each_row(struct recorder *r,
    int (*visit)(void *arg, const struct inbox_entry *entry, const void *body))
{
	const uint8_t *at = buf_head(&r->rows), *end = at + buf_len(&r->rows);
	struct recorder_row row;
	int rc = 0;

	r->n_answers = 0;
	r->n_steps = 0;
	r->n_ended = 0;
	while (rc == 0 && at < end) {
		memcpy(&row, at, sizeof row);
		r->row_id = row.id;
		rc = inbox_each(at + sizeof row, row.len, visit, r);
		at += sizeof row + row.len;
	}
	return rc;
}

/* Within a transaction: what the ended have left open is closed, what is old goes. */
static int
recorder_tidy(struct recorder *r, uint64_t n_closed)
{
	int64_t next_ns;
	int n;

	if ((n = history_close_ended(&r->writer, RECORDER_CLOSE)) < 0)
		return n;
	r->is_closing = n == RECORDER_CLOSE;
	/* More than has come, so that what has piled up gets less. */
	n = history_trim(&r->writer, RECORDER_TRIM + (int)n_closed, r->n_rows > 0, &next_ns);
	if (n < 0)
		return n;
	r->trim_at_ns = INT64_MAX;
	if (next_ns != INT64_MAX) {
		r->trim_at_ns = clock_now_ns() + RECORDER_TRIM_NS;
		if (next_ns > r->writer.now_ns)
			r->trim_at_ns += next_ns - r->writer.now_ns;
	}
	return 0;
}

/* Everything that has gathered, in one commit. *IS_TIGHT: the map is nearly full. */
static int
recorder_write(struct recorder *r, int *is_tight)
{
	struct state_txn *txn;
	uint64_t first;
	int rc;

	if ((rc = state_begin_write(r->store, &txn)) != 0) {
		r->is_broken = rc == ERR_CORRUPT;
		return rc;
	}
	rc = history_write_begin(&r->writer, txn);
	first = r->writer.meta.next_close;
	if (rc == 0)
		rc = recorder_each_row(r, recorder_write_entry);
	if (rc == 0 && r->n_rows > 0 && r->seen > r->writer.meta.applied)
		r->writer.meta.applied = r->seen;
	if (rc == 0)
		rc = recorder_tidy(r, r->writer.meta.next_close - first);
	if (rc == 0)
		rc = history_write_end(&r->writer);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	*is_tight = state_is_tight(txn);
	return state_commit(txn);
}

/* Faults. */

static int
recorder_disk_is_full(struct recorder *r)
{
	struct statvfs fs;

	r->disk_looked_ns = clock_now_ns();
	return statvfs(r->context->conf->persist_dir, &fs) == 0 &&
	    (uint64_t)fs.f_bavail * fs.f_frsize < RECORDER_DISK_MIN;
}

static void
recorder_set_fault(struct recorder *r, uint32_t code, const char *text)
{
	char before[sizeof r->fault];

	memcpy(before, r->fault, sizeof before);
	snprintf(r->fault, sizeof r->fault, "persist_dir %.100s: %s",
	    r->context->conf->persist_dir, text);
	r->fault_code = code;
	if (strcmp(before, r->fault) != 0) {
		log_errorx("dispatch record: %s", r->fault);
		r->is_fault_told = 0;
	}
	r->retry_ns = before[0] == '\0' ? RECORDER_RETRY_MIN_NS : r->retry_ns * 2;
	if (r->retry_ns > RECORDER_RETRY_MAX_NS)
		r->retry_ns = RECORDER_RETRY_MAX_NS;
	r->retry_at_ns = clock_now_ns() + r->retry_ns;
}

/* After a commit: is there room for what comes? */
static void
recorder_judge(struct recorder *r, int is_tight)
{
	int64_t now = clock_now_ns();

	if (is_tight) {
		recorder_set_fault(r, FRAME_REASON_PRESSURE,
		    "the store is nearly full" RECORDER_ADVICE);
	} else if (r->fault[0] != '\0' || now - r->disk_looked_ns >= RECORDER_DISK_LOOK_NS) {
		if (recorder_disk_is_full(r))
			recorder_set_fault(r, FRAME_REASON_PRESSURE,
			    "nearly no space is left on the disk");
		else if (r->fault[0] != '\0') {
			log_info("dispatch record: it can be written again");
			r->fault[0] = '\0';
			r->is_fault_told = 0;
		}
	}
}

/* The commit failed with RC: nobody is left waiting for it. */
static int
recorder_refuse(struct recorder *r, int rc)
{
	unsigned held;

	/* LMDB's own words for a full disk are often others. */
	if (recorder_disk_is_full(r))
		recorder_set_fault(r, FRAME_REASON_PRESSURE, "no space is left on the disk");
	else if (rc == ERR_FULL)
		recorder_set_fault(r, FRAME_REASON_PRESSURE, "the store is full" RECORDER_ADVICE);
	else
		recorder_set_fault(r, FRAME_REASON_OTHER, rc == ERR_NOMEM ? "out of memory" :
		    state_error_text(r->store));
	if ((rc = recorder_each_row(r, recorder_refuse_entry)) != 0)
		return rc;
	r->has_lost |= r->is_draining && (r->n_steps > 0 || r->n_answers > 0);
	if (r->n_steps > 0 && log_limit_allows(&r->dropped_limit, 1, CLOCK_SECOND, &held))
		log_warnx("dispatch record: dropped steps=%u suppressed=%u", r->n_steps, held);
	return 0;
}

/* Answering. */

static int
recorder_answer(struct recorder *r, struct state_txn *txn)
{
	struct inbox_entry entry = { .kind = INBOX_RECORDED };
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < r->n_answers; i++) {
		entry.request = r->answers[i].request;
		entry.code = r->answers[i].code;
		entry.len = entry.code > HISTORY_RECORDED_ELSEWHERE ?
		    (uint32_t)strlen(r->fault) : 0;
		rc = inbox_post(txn, r->answers[i].conn_id, r->answers[i].slot, &entry, r->fault);
	}
	return rc;
}

/* Put the ends that were not written back into the inbox, for when it can be written again. */
static int
recorder_put_back(struct recorder *r, struct state_txn *txn)
{
	struct inbox_entry entry = { .kind = INBOX_CALLER_ENDED };
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < r->n_ended; i++) {
		entry.conn_id = r->ended[i].conn_id;
		entry.request = r->ended[i].request;
		rc = inbox_post(txn, RECORDER_INBOX, r->context->slot, &entry, NULL);
	}
	return rc;
}

/* Take the batch out of the inbox and tell those who wait, or do neither. */
static int
recorder_finish_once(struct recorder *r)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(r->state, &txn)) != 0)
		return rc;
	if (r->n_rows > 0)
		rc = inbox_remove(txn, RECORDER_INBOX, r->seen);
	if (rc == 0)
		rc = recorder_put_back(r, txn);
	if (rc == 0)
		rc = recorder_answer(r, txn);
	if (rc == 0 && !r->is_fault_told)
		rc = history_set_fault(txn, r->fault[0] != '\0' ? r->fault : NULL);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

static int
recorder_finish(struct recorder *r)
{
	int rc, tries;

	if (r->n_rows == 0 && r->is_fault_told)
		return 0;
	for (tries = 0; (rc = recorder_finish_once(r)) == ERR_FULL &&
	    tries < RECORDER_STATE_TRIES; tries++)
		usleep(RECORDER_STATE_WAIT_US);
	if (rc != 0)
		return rc;
	r->is_fault_told = 1;
	buf_consume(&r->rows, buf_len(&r->rows));
	buf_trim(&r->rows, RECORDER_BATCH_BYTES);
	r->n_rows = 0;
	r->n_answers = 0;
	r->n_ended = 0;
	r->is_awaited = 0;
	r->has_more = 0;
	r->seen_number = 0;
	return 0;
}

/* Connections that die while they read keep what they saw from being used again; only while
 * something is written does it matter. */
static void
recorder_check_readers(struct recorder *r)
{
	int64_t now = clock_now_ns();

	if (now - r->readers_checked_ns < RECORDER_READERS_NS)
		return;
	r->readers_checked_ns = now;
	(void)state_check_readers(r->store);
}

/* One batch, from the inbox to the answers. */
static int
recorder_turn(struct recorder *r)
{
	int rc, is_tight = 0;

	recorder_check_readers(r);
	rc = recorder_write(r, &is_tight);
	if (rc == 0) {
		recorder_judge(r, is_tight);
	} else {
		if (r->is_broken)
			return rc;
		if ((rc = recorder_refuse(r, rc)) != 0)
			return rc;
	}
	if ((rc = recorder_finish(r)) == 0 && r->fault[0] == '\0')
		store_grow_ahead(r->store);	/* while nobody waits for it */
	return rc;
}

/* The loop. */

/* When what has gathered is written though nobody waits for it. What could not be written now would
 * be dropped. */
static int64_t
recorder_lazy_until(const struct recorder *r)
{
	int64_t until = r->since_ns + RECORDER_LAZY_NS;

	return r->fault[0] != '\0' && r->retry_at_ns > until ? r->retry_at_ns : until;
}

static int
recorder_is_due(const struct recorder *r, int64_t now)
{
	if (r->n_rows > 0 && (r->is_awaited || r->has_more || r->is_draining ||
	    now >= recorder_lazy_until(r)))
		return 1;
	if (r->is_draining)
		return r->is_closing && r->fault[0] == '\0';
	if (r->fault[0] != '\0')
		return now >= r->retry_at_ns;
	return r->is_closing || now >= r->trim_at_ns;
}

static int64_t
recorder_deadline(const struct recorder *r)
{
	int64_t next = r->fault[0] != '\0' ? r->retry_at_ns : r->trim_at_ns;

	if (r->n_rows > 0 && recorder_lazy_until(r) < next)
		next = recorder_lazy_until(r);
	return next;
}

static void
recorder_sleep(struct recorder *r)
{
	struct pollfd fds[3] = {
		{ .fd = r->wake.fd, .events = POLLIN },
		{ .fd = r->context->master_fd, .events = POLLIN },
		{ .fd = r->control, .events = POLLIN },
	};
	char byte;

	poll(fds, r->is_draining ? 2 : 3, clock_poll_ms(recorder_deadline(r), clock_now_ns()));
	if (fds[1].revents != 0)
		_exit(ROLE_EXIT_OK);	/* the master is gone, and the state with it */
	if (fds[0].revents != 0)
		wake_drain(&r->wake);
	if (fds[2].revents != 0 && recv(r->control, &byte, sizeof byte, MSG_DONTWAIT) == 0)
		r->is_draining = 1;
}

static int
recorder_loop(struct recorder *r)
{
	int rc;

	for (;;) {
		atomic_store_explicit(&r->mine->looked, atomic_load_explicit(&r->mine->looked,
		    memory_order_relaxed) + 1, memory_order_relaxed);
		if ((rc = recorder_gather(r)) != 0)
			return rc;
		if (!recorder_is_due(r, clock_now_ns())) {
			if (r->is_draining)
				return 0;
			/* Look once more after having announced the sleep: whoever commits later
			 * will see the announcement and poke. */
			wake_will_sleep(&r->wake);
			rc = recorder_gather(r);
			if (rc == 0 && !recorder_is_due(r, clock_now_ns()))
				recorder_sleep(r);
			wake_is_awake(&r->wake);
			if (rc != 0)
				return rc;
		} else if ((rc = recorder_turn(r)) != 0)
			return rc;
	}
}

/* The beginning. */

static int
recorder_epoch(struct recorder *r, uint64_t *epoch)
{
	struct state_txn *txn;
	int rc;

	/* When the last store process died in the last instructions of a commit, readers are one
	 * commit behind until somebody writes: what it has answered would be answered again. */
	if ((rc = state_begin_write(r->state, &txn)) != 0)
		return rc;
	rc = state_epoch(txn, epoch);
	state_abort(txn);
	return rc;
}

/* One step from an earlier life of the daemon to this one: what is still open there is closed. 1 when it
 * is done. Conn ids begin again with each life, so nothing of this one is written before. */
static int
recorder_enter(struct recorder *r, uint64_t epoch)
{
	struct state_txn *txn;
	int rc, n = 0;

	if ((rc = state_begin_write(r->store, &txn)) != 0)
		return rc;
	rc = history_write_begin(&r->writer, txn);
	if (rc == 0 && r->writer.meta.epoch == epoch) {
		state_abort(txn);
		return 1;
	}
	if (rc == 0)
		rc = n = history_close_all(&r->writer, RECORDER_CLOSE);
	if (rc >= 0 && n < RECORDER_CLOSE)
		rc = n = history_close_ended(&r->writer, RECORDER_CLOSE);
	if (rc >= 0 && n < RECORDER_CLOSE) {
		r->writer.meta.epoch = epoch;
		r->writer.meta.applied = 0;
	}
	if (rc >= 0)
		rc = history_write_end(&r->writer);
	if (rc < 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

static int
recorder_start(struct recorder *r)
{
	const struct role_answer ready = { .kind = ROLE_ANSWER_READY };
	uint64_t epoch;
	int rc;

	if ((rc = recorder_epoch(r, &epoch)) != 0) {
		log_errorx("store cannot read the state: %s", state_error_text(r->state));
		return rc;
	}
	while ((rc = recorder_enter(r, epoch)) == 0)
		;
	if (rc < 0) {
		log_errorx("store cannot use persist_dir %s: %s", r->context->conf->persist_dir,
		    rc == ERR_CORRUPT ? "it does not read back" : state_error_text(r->store));
		return rc;
	}
	r->trim_at_ns = 0;	/* retention may have become shorter */
	if (send(r->control, &ready, sizeof ready, MSG_NOSIGNAL) == -1)
		return ERR_CLOSED;
	return 0;
}

static int
recorder_open(struct recorder *r)
{
	struct err err;
	int rc;

	rc = wake_open(&r->wake, r->context->board, r->context->slot, &err);
	if (rc == 0)
		rc = state_open(&r->state, r->context->conf->runtime_dir, &r->wake, &err);
	if (rc == 0)
		rc = store_open(&r->store, r->context->conf->persist_dir, &err);
	if (rc != 0)
		log_errorx("store cannot start: %s", err.text);
	return rc;
}

int
store_main(const struct role_context *context, int control)
{
	struct recorder r = { .context = context, .control = control };
	int rc;

	log_set_name("store");
	r.mine = &context->board->slots[context->slot];
	r.trim_at_ns = INT64_MAX;
	r.wake.fd = -1;
	r.writer.keep = context->conf->record_keep;
	r.writer.keep_age_ns = context->conf->record_keep_age_ns;
	rc = recorder_open(&r);
	if (rc == 0 && (rc = recorder_start(&r)) == 0) {
		rc = recorder_loop(&r);
		if (rc != 0)
			log_errorx("store ends: state \"%s\", store \"%s\"",
			    state_error_text(r.state), state_error_text(r.store));
	}
	state_close(r.store);
	state_close(r.state);
	wake_close(&r.wake);
	history_write_free(&r.writer);
	buf_free(&r.rows);
	free(r.answers);
	free(r.ended);
	if (rc != 0)
		return ROLE_EXIT_STATE;
	return r.has_lost ? ROLE_EXIT_FLUSH : ROLE_EXIT_OK;
}
