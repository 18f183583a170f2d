/* The dispatch record's entries: steps of dispatches, and the ends of callers. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/store.h"

/* Dispatches that one commit closes for callers that have ended, or forgets besides as many as
 * it closes: bounds its length. */
#define STORE_HISTORY_CLOSE	256
#define STORE_HISTORY_TRIM	(2 * HISTORY_TRIM_SLACK)
/* How long what is too old may stay when nothing else is to be written. */
#define STORE_HISTORY_TRIM_NS	(20 * CLOCK_MS)

int
store_history_is_awaited(const struct inbox_entry *entry, const void *body)
{
	struct history_step step;

	return entry->kind == INBOX_OPERATIONS &&
	    history_step_unpack(body, entry->len, &step) == 0 && (step.flags & HISTORY_AWAITED);
}

void
store_history_begin(struct store *s)
{
	s->history.n_answers = 0;
	s->history.n_steps = 0;
	s->history.n_ended = 0;
}

static int
store_history_await(struct store *s, const struct history_step *step, uint32_t code)
{
	struct store_history *h = &s->history;

	if (store_room(&h->answers, &h->size_answers, sizeof *h->answers, h->n_answers + 1) != 0)
		return ERR_NOMEM;
	h->answers[h->n_answers++] = (struct store_answer){
		step->conn_id, step->request, step->awaiter_slot, code
	};
	return 0;
}

static int
store_history_write_end(struct store *s, const struct inbox_entry *entry)
{
	struct history_writer *writer = &s->history.writer;

	if (s->is_old)
		return 0;
	return entry->request == 0 ? history_write_ended(writer, entry->conn_id) :
	    history_write_unrecorded(writer, entry->conn_id, entry->request);
}

int
store_history_write(struct store *s, const struct inbox_entry *entry, const void *body)
{
	struct history_writer *writer = &s->history.writer;
	enum history_recorded recorded;
	struct history_step step;
	int rc;

	if (entry->kind == INBOX_CALLER_ENDED)
		return store_history_write_end(s, entry);
	if (history_step_unpack(body, entry->len, &step) != 0)
		return 0;
	step.conn_id = entry->conn_id;
	step.request = entry->request;
	rc = s->is_old ? history_write_again(writer, &step, &recorded) :
	    history_write_step(writer, &step, &recorded);
	if (rc == 0 && (step.flags & HISTORY_AWAITED))
		rc = store_history_await(s, &step, (uint32_t)recorded);
	return rc;
}

static int
store_history_keep_end(struct store *s, uint64_t conn_id, uint64_t request)
{
	struct store_history *h = &s->history;

	if (store_room(&h->ended, &h->size_ended, sizeof *h->ended, h->n_ended + 1) != 0)
		return ERR_NOMEM;
	h->ended[h->n_ended++] = (struct store_end){ conn_id, request };
	return 0;
}

int
store_history_refuse(struct store *s, const struct inbox_entry *entry, const void *body)
{
	struct history_step step;
	int rc;

	/* The next life closes whatever is open. */
	if (entry->kind == INBOX_CALLER_ENDED)
		return s->is_draining ? 0 :
		    store_history_keep_end(s, entry->conn_id, entry->request);
	if (history_step_unpack(body, entry->len, &step) != 0)
		return 0;
	step.conn_id = entry->conn_id;
	step.request = entry->request;
	if ((step.flags & HISTORY_CLOSES) && !(step.flags & HISTORY_OPENS) && !s->is_draining &&
	    (rc = store_history_keep_end(s, step.conn_id, step.request)) != 0)
		return rc;
	if (step.flags & HISTORY_AWAITED)
		return store_history_await(s, &step, s->fault.code);
	s->history.n_steps++;
	return 0;
}

void
store_history_refused(struct store *s)
{
	unsigned n = s->history.n_steps, held;

	s->has_lost |= s->is_draining && (n > 0 || s->history.n_answers > 0);
	if (n > 0 && log_limit_allows(&s->history.dropped_limit, 1, CLOCK_SECOND, &held))
		log_warnx("dispatch record: dropped steps=%u suppressed=%u", n, held);
}

int
store_history_tidy(struct store *s, uint64_t n_closed, unsigned *n_done)
{
	struct store_history *h = &s->history;
	int64_t next_ns;
	int n;

	*n_done += (unsigned)h->is_closing;	/* there may be a mark left to remove */
	if ((n = history_close_ended(&h->writer, STORE_HISTORY_CLOSE)) < 0)
		return n;
	*n_done += (unsigned)n;
	h->is_closing = n == STORE_HISTORY_CLOSE;
	/* More than has come, so that what has piled up gets less. */
	n = history_trim(&h->writer, STORE_HISTORY_TRIM + n + (int)n_closed, s->n_rows > 0,
	    &next_ns);
	if (n < 0)
		return n;
	*n_done += (unsigned)n;
	h->trim_at_ns = INT64_MAX;
	if (next_ns != INT64_MAX) {
		h->trim_at_ns = clock_now_ns() + STORE_HISTORY_TRIM_NS;
		if (next_ns > h->writer.now_ns)
			h->trim_at_ns += next_ns - h->writer.now_ns;
	}
	return 0;
}

int
store_history_answer(struct store *s, struct state_txn *txn)
{
	struct inbox_entry entry = { .kind = INBOX_RECORDED };
	const struct store_history *h = &s->history;
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < h->n_answers; i++) {
		entry.request = h->answers[i].request;
		entry.code = h->answers[i].code;
		entry.len = entry.code > HISTORY_RECORDED_ELSEWHERE ?
		    (uint32_t)strlen(s->fault.text) : 0;
		rc = inbox_post(txn, h->answers[i].conn_id, h->answers[i].slot, &entry,
		    s->fault.text);
	}
	/* The ends that were not written go back, for when they can be. */
	entry = (struct inbox_entry){ .kind = INBOX_CALLER_ENDED };
	for (i = 0; rc == 0 && i < h->n_ended; i++) {
		entry.conn_id = h->ended[i].conn_id;
		entry.request = h->ended[i].request;
		rc = inbox_post(txn, STORE_INBOX, s->context->slot, &entry, NULL);
	}
	return rc;
}

/* What is still open of an earlier life is closed. Conn ids begin again with each, so nothing of
 * this one is written before. */
int
store_history_enter(struct store *s)
{
	struct history_writer *writer = &s->history.writer;
	struct state_txn *txn;
	int rc, n = 0;

	if ((rc = state_begin_write(s->store, &txn)) != 0)
		return rc;
	rc = history_write_begin(writer, txn);
	if (rc == 0 && writer->meta.epoch == s->epoch) {
		s->applied = writer->meta.applied;
		state_abort(txn);
		return 1;
	}
	if (rc == 0)
		rc = n = history_close_all(writer, STORE_HISTORY_CLOSE);
	if (rc >= 0 && n < STORE_HISTORY_CLOSE)
		rc = n = history_close_ended(writer, STORE_HISTORY_CLOSE);
	if (rc >= 0 && n < STORE_HISTORY_CLOSE) {
		writer->meta.epoch = s->epoch;
		writer->meta.applied = 0;
	}
	if (rc >= 0)
		rc = history_write_end(writer);
	if (rc < 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

int
store_history_look(struct store *s)
{
	struct history_meta meta;
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(s->store, &txn)) != 0)
		return rc;
	rc = history_meta_get(txn, &meta);
	if (rc == 0 && meta.epoch == s->epoch)
		s->applied = meta.applied;
	state_abort(txn);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

void
store_history_free(struct store *s)
{
	history_write_free(&s->history.writer);
	free(s->history.answers);
	free(s->history.ended);
}
