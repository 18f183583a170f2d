/*
 * The caller's side of the dispatch record (systems.md E8).
 *
 * A request that names its workflow is recorded: each of its operations is handed to the store
 * process in the very transaction in which it happens, so the record can lag behind but never
 * disagree. Only one thing waits for the disk: an answer that is the outcome for its ordinal, because the
 * same request must get it again, whatever is killed after the caller has seen it.
 *
 * The first step of a dispatch is kept back for a moment (state/operations.h): most are over by then, and
 * beginning and end in one step cost the store half as much.
 *
 * An outcome is what a worker answered, or a time-out: asked again, it is answered from the record.
 * A dispatch that failed but may be retried (no worker, no room, its workers ended) has no
 * outcome: asked again, it is dispatched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/connection.h"
#include "state/connections.h"
#include "state/history.h"
#include "state/operations.h"
#include "state/store.h"
#include "state/workers.h"

/* How long a first step is kept back: longer than most dispatches, not longer than an operator who
 * looks at the record would notice. */
#define HISTORY_KEEP_NS		(10 * CLOCK_MS)
/* It is in each step; a UUID has 36 bytes. */
#define HISTORY_CONVERSATION_MAX 1024
#define HISTORY_CLOSED_BY_CALLER "the caller closed the conversation"
#define HISTORY_TOO_LARGE "the answer is larger than the dispatch record takes (32 MiB)"

/* A step under construction. */
struct history_draft {
	struct record_operations operations;
	uint32_t flags;
};

static struct frame_view
history_view(const void *data, size_t len)
{
	struct frame_view view = { data, len };

	return view;
}

static void
history_add(struct history_draft *draft, enum record_operation_kind kind,
    enum record_activity activity, int is_retry_eligible)
{
	struct record_operation *operation = &draft->operations.list[draft->operations.n++];

	operation->kind = (uint8_t)kind;
	operation->activity = (uint8_t)activity;
	operation->is_retry_eligible = is_retry_eligible != 0;
	operation->at_ns = draft->operations.at_ns;
}

/* A draft of a request's next step; its first one begins with the opening, or with what was kept
 * back of it. */
static void
history_begin(struct history_draft *draft, const struct request *request)
{
	struct record_operations *operations = &draft->operations;

	memset(draft, 0, sizeof *draft);
	operations->at_ns = clock_realtime_ns();
	operations->has_ordinal = request->history.has_ordinal;
	operations->ordinal = request->history.ordinal;
	operations->conversation_id = request->history.conversation_id;
	if (request->history.is_opened)
		return;
	operations->activity_type = request->demand.type;
	draft->flags |= HISTORY_OPENS;
	history_add(draft, RECORD_OPENED, RECORD_ACTIVITY_SCHEDULED, 0);
}

static void
history_begin_kept(struct history_draft *draft, const struct request *request)
{
	const struct request_history *history = &request->history;
	struct record_operations *operations = &draft->operations;

	history_begin(draft, request);
	if (!history->is_kept)
		return;
	operations->activity_type = request->demand.type;
	draft->flags |= HISTORY_OPENS;
	operations->n = history->n_kept;
	memcpy(operations->list, history->kept, history->n_kept * sizeof *history->kept);
	if (history->worker != NULL)
		operations->worker_id = history_view(history->worker, strlen(history->worker));
}

static void
history_close(struct history_draft *draft, enum record_activity activity, int is_retry_eligible)
{
	draft->flags |= HISTORY_CLOSES;
	history_add(draft, RECORD_CONVERSATION_CLOSED, activity, is_retry_eligible);
}

/* Append the body of the step's inbox entry to OUT. */
static int
history_pack(const struct connection *c, const struct request *request,
    const struct conversation *conversation, struct history_draft *draft, struct buf *out)
{
	struct history_step step = {
		.awaiter_slot = c->context->slot, .flags = draft->flags,
		.has_ordinal = request->history.has_ordinal, .ordinal = request->history.ordinal,
		.workflow_id = request->workflow_id
	};
	struct buf image = { 0 };
	int rc;

	step.channel = history_view(conversation->subject, conversation->subject_len);
	draft->operations.channel = step.channel;
	rc = record_pack_operations(&draft->operations, &image);
	if (rc == 0) {
		step.image = history_view(buf_head(&image), buf_len(&image));
		rc = history_step_pack(&step, out);
	}
	buf_free(&image);
	return rc;
}

/* The same; what is too large for a record is left out of it: *IS_CUT. */
static int
history_pack_fitting(const struct connection *c, const struct request *request,
    struct history_draft *draft, struct buf *out, int *is_cut)
{
	int rc = history_pack(c, request, request->conversation, draft, out);

	*is_cut = rc == ERR_FULL;
	if (rc != ERR_FULL)
		return rc;
	draft->operations.result = history_view(NULL, 0);
	draft->operations.message = history_view(HISTORY_TOO_LARGE, sizeof HISTORY_TOO_LARGE - 1);
	draft->flags &= ~(uint32_t)(HISTORY_FINAL | HISTORY_AWAITED);
	return history_pack(c, request, request->conversation, draft, out);
}

/* Hand DRAFT over with this turn, and with it what it has taken of what was kept back. 1 if it was too
 * large. */
static int
history_post_later(struct connection *c, struct request *request, struct history_draft *draft)
{
	struct intent *intent = turn_add(c, INTENT_OPERATIONS);
	struct buf step = { 0 };
	int is_cut;

	if (intent == NULL)
		return 0;
	intent->correlation = request->id;
	intent->was_kept = request->history.is_kept;
	if (request->history.is_kept)
		TAILQ_REMOVE(&c->kept, request, history.kept_link);
	request->history.is_kept = 0;
	if (history_pack_fitting(c, request, draft, &step, &is_cut) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the dispatch record");
	intent->owned = step.data;
	intent->body = history_view(buf_head(&step), buf_len(&step));
	return is_cut;
}

/* What was kept back cannot wait for the end. */
static void
history_post_kept(struct connection *c, struct request *request)
{
	struct history_draft draft;

	if (!request->history.is_kept)
		return;
	history_begin_kept(&draft, request);
	history_post_later(c, request, &draft);
}

int64_t
history_next_deadline(const struct connection *c)
{
	const struct request *first = TAILQ_FIRST(&c->kept);

	return first != NULL ? first->history.kept_until_ns : INT64_MAX;
}

void
history_tick(struct connection *c, int64_t now_ns)
{
	while (history_next_deadline(c) <= now_ns)
		history_post_kept(c, TAILQ_FIRST(&c->kept));
}

int
history_apply_operations(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	int rc;

	if (intent->body.data == NULL)
		return 0;	/* memory ran out, and the connection ends */
	rc = operations_post(txn, c->peer->conn_id, intent->correlation, intent->body.data,
	    intent->body.len);
	if (rc == 0 && intent->was_kept)
		rc = operations_del(txn, c->peer->conn_id, intent->correlation);
	return rc;
}

/* Answers from the record. */

/* The outcome for REQUEST's ordinal into OUT; 0, ERR_NOTFOUND, or an error with its text. */
static int
history_look_up(struct connection *c, const struct request *request,
    struct record_operations *out, struct err *err)
{
	const struct conversation *conversation = request->conversation;
	struct frame_view channel = history_view(conversation->subject, conversation->subject_len);
	struct state_txn *txn;
	int rc;

	if ((rc = connection_open_store(c, err)) != 0)
		return rc;
	if ((rc = state_begin_read(c->store, &txn)) == 0) {
		rc = history_find_outcome(txn, &request->workflow_id, &channel,
		    request->history.ordinal, c->conf->record_keep_age_ns, out);
		state_abort(txn);
	}
	if (rc == ERR_CORRUPT)
		(void)err_set(err, rc, "what persist_dir %.100s has for this ordinal does not "
		    "read back", c->conf->persist_dir);
	else if (rc != 0 && rc != ERR_NOTFOUND)
		(void)err_set(err, rc, "%s", state_error_text(c->store));
	return rc;
}

static void
history_answer(struct connection *c, struct request *request,
    const struct record_operations *outcome)
{
	board_count(c->mine, BOARD_REPLAYED, 1);
	if (outcome->code == 0)
		request_reply(c, request, outcome->result.data, outcome->result.len);
	else
		request_fail(c, request, (uint16_t)outcome->code,
		    (const char *)outcome->message.data, outcome->message.len);
}

/* 1 if REQUEST was refused because one of its names is too long for the record. */
static int
history_refuse_names(struct connection *c, struct request *request)
{
	const char *name = "workflow_id";
	int max = HISTORY_WORKFLOW_MAX;

	if (request->workflow_id.len <= HISTORY_WORKFLOW_MAX) {
		if (request->history.conversation_id.len <= HISTORY_CONVERSATION_MAX)
			return 0;
		name = "conversation_id";
		max = HISTORY_CONVERSATION_MAX;
	}
	if (request_apply_turn(c, request))
		request_failf(c, request, FRAME_REASON_OTHER,
		    "%s is longer than %d bytes, which the dispatch record does not take", name,
		    max);
	return 1;
}

int
history_admit(struct connection *c, struct request *request)
{
	struct record_operations outcome;
	struct err err = { 0 };
	int rc;

	if (history_refuse_names(c, request))
		return 0;
	request->history.is_recorded = 1;
	if (!request->history.has_ordinal)
		return 1;
	rc = history_look_up(c, request, &outcome, &err);
	if (rc == ERR_NOTFOUND)
		return 1;
	/* It was not opened, so its end is nothing for the record. */
	request->history.is_recorded = 0;
	if (request_apply_turn(c, request)) {
		if (rc == 0)
			history_answer(c, request, &outcome);
		else
			request_failf(c, request, FRAME_REASON_OTHER,
			    "the dispatch record cannot be read: %s", err.text);
	}
	if (rc == 0)
		record_free_operations(&outcome);
	return 0;
}

/* Placing. */

/* A worker got it: chosen, and the message is on its way. */
static int
history_draft_selected(struct state_txn *txn, struct request *request,
    const struct intent *intent, struct history_draft *draft)
{
	char id[WORKERS_ID_SIZE];

	workers_id(txn, intent->conn_id, id);
	free(request->history.worker);
	if ((request->history.worker = strdup(id)) == NULL)
		return ERR_NOMEM;
	draft->operations.worker_id = history_view(request->history.worker, strlen(id));
	history_add(draft, RECORD_WORKER_SELECTED, RECORD_ACTIVITY_STARTED, 0);
	history_add(draft, RECORD_MESSAGE_SENT, RECORD_ACTIVITY_NONE, 0);
	return 0;
}

/* Hand the step of a placement over, or keep it back if it is the first and more is to come. */
static int
history_apply_draft(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct history_draft *draft)
{
	struct request *request = intent->request;
	struct buf body = { 0 };
	int rc;

	rc = history_pack(c, request, intent->conversation, draft, &body);
	if (rc == 0 && (draft->flags & HISTORY_OPENS) && !(draft->flags & HISTORY_CLOSES)) {
		request->history.n_kept = draft->operations.n;
		memcpy(request->history.kept, draft->operations.list,
		    sizeof request->history.kept);
		rc = operations_put(txn, c->peer->conn_id, request->id, buf_head(&body),
		    buf_len(&body));
	} else if (rc == 0) {
		rc = operations_post(txn, c->peer->conn_id, request->id, buf_head(&body),
		    buf_len(&body));
	}
	buf_free(&body);
	return rc;
}

int
history_apply_placed(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct request *request = intent->request;
	struct history_draft draft;
	int rc = 0;

	if (!request->history.is_recorded)
		return 0;
	if (!c->has_history && (rc = connections_mark_recorded(txn, c->peer->conn_id)) != 0)
		return rc;
	request->history.n_kept = 0;
	history_begin(&draft, request);
	if (intent->error != 0) {
		draft.operations.code = intent->error;
		draft.operations.message = history_view(intent->text, strlen(intent->text));
		history_close(&draft, RECORD_ACTIVITY_FAILED, 1);
	} else if (!intent->is_queued) {
		rc = history_draft_selected(txn, request, intent, &draft);
	}
	/* Closed by what came behind it in the same turn: the worker has it all the same. */
	if (request->conversation == NULL && !(draft.flags & HISTORY_CLOSES)) {
		draft.operations.message = history_view(HISTORY_CLOSED_BY_CALLER,
		    sizeof HISTORY_CLOSED_BY_CALLER - 1);
		history_close(&draft, RECORD_ACTIVITY_FAILED, 1);
	}
	return rc == 0 && draft.operations.n > 0 ? history_apply_draft(c, txn, intent, &draft) :
	    rc;
}

void
history_placed(struct connection *c, struct request *request, const struct intent *intent)
{
	struct request_history *history = &request->history;

	if (!history->is_recorded || intent->result != 0)
		return;
	c->has_history = 1;
	history->is_opened = 1;
	history->is_closed |= intent->error != 0;
	if (history->n_kept == 0)
		return;
	history->is_kept = 1;
	history->kept_until_ns = clock_now_ns() + HISTORY_KEEP_NS;
	TAILQ_INSERT_TAIL(&c->kept, request, history.kept_link);
}

void
history_started(struct connection *c, struct request *request, const char *worker, size_t len)
{
	struct history_draft draft;

	if (!request->history.is_recorded)
		return;
	history_post_kept(c, request);
	free(request->history.worker);
	if ((request->history.worker = strndup(worker, len)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the dispatch record");
		return;
	}
	history_begin(&draft, request);
	draft.operations.worker_id = history_view(worker, len);
	history_add(&draft, RECORD_WORKER_SELECTED, RECORD_ACTIVITY_STARTED, 0);
	history_add(&draft, RECORD_MESSAGE_SENT, RECORD_ACTIVITY_NONE, 0);
	(void)history_post_later(c, request, &draft);
}

void
history_worker_exited(struct connection *c, struct request *request, const char *worker,
    size_t worker_len, const char *reason, size_t reason_len)
{
	struct history_draft draft;

	if (!request->history.is_recorded)
		return;
	history_post_kept(c, request);
	history_begin(&draft, request);
	draft.operations.worker_id = history_view(worker, worker_len);
	draft.operations.message = history_view(reason, reason_len);
	history_add(&draft, RECORD_WORKER_EXITED, RECORD_ACTIVITY_FAILED, 1);
	(void)history_post_later(c, request, &draft);
}

/* The end. */

/* 1 if a dispatch that ends with ERROR is over for good; 0 if it may be tried again. */
static int
history_is_final(uint16_t error)
{
	return error == 0 || error == FRAME_REASON_ACTIVITY_FAILED ||
	    error == FRAME_REASON_TIMED_OUT;
}

static void
history_draft_end(struct history_draft *draft, const struct request *request, uint16_t error,
    const void *body, size_t len)
{
	struct record_operations *operations = &draft->operations;
	enum record_activity activity = error == 0 ? RECORD_ACTIVITY_COMPLETED :
	    RECORD_ACTIVITY_FAILED;

	operations->code = error;
	if (error == 0)
		operations->result = history_view(body, len);
	else
		operations->message = history_view(body, len);
	if (error == 0 || error == FRAME_REASON_ACTIVITY_FAILED) {
		if (request->history.worker != NULL)
			operations->worker_id = history_view(request->history.worker,
			    strlen(request->history.worker));
		history_add(draft, RECORD_MESSAGE_RECEIVED, activity, 0);
		activity = RECORD_ACTIVITY_NONE;
	}
	history_close(draft, activity, activity == RECORD_ACTIVITY_FAILED &&
	    !history_is_final(error));
}

int
history_finish(struct connection *c, struct request *request, uint16_t *error, const void **body,
    size_t *len)
{
	static const char too_large[] = "the outcome could not be recorded: " HISTORY_TOO_LARGE;
	struct request_history *history = &request->history;
	struct history_draft draft;
	int is_final;

	if (!history->is_opened || history->is_closed)
		return 0;
	history_begin_kept(&draft, request);
	history_draft_end(&draft, request, *error, *body, *len);
	history->is_closed = 1;
	is_final = history->has_ordinal && history_is_final(*error);
	if (is_final)
		draft.flags |= HISTORY_FINAL | HISTORY_AWAITED;
	if (!history_post_later(c, request, &draft))
		return is_final;
	/* Whoever counts on the record must not get what is not in it. */
	if (is_final) {
		*error = FRAME_REASON_OTHER;
		*body = too_large;
		*len = sizeof too_large - 1;
	}
	return 0;
}

void
history_dropped(struct connection *c, struct request *request)
{
	struct history_draft draft;

	if (!request->history.is_opened || request->history.is_closed)
		return;
	history_begin_kept(&draft, request);
	draft.operations.message = history_view(HISTORY_CLOSED_BY_CALLER,
	    sizeof HISTORY_CLOSED_BY_CALLER - 1);
	history_close(&draft, RECORD_ACTIVITY_FAILED, 1);
	request->history.is_closed = 1;
	(void)history_post_later(c, request, &draft);
}

/* An answer that waits cannot be made durable: its caller gets this instead of it. */
static void
history_unrecorded(struct connection *c, struct request *request, uint16_t code,
    const char *text, size_t len)
{
	static struct log_limit limit;
	char shown[512];
	unsigned held;

	if (log_limit_allows(&limit, 1, CLOCK_SECOND, &held))
		log_warnx("outcome not recorded conn=%llu reason=\"%s\" suppressed=%u",
		    (unsigned long long)c->peer->conn_id, log_vis(shown, sizeof shown, text, len),
		    held);
	buf_consume(&request->answer, buf_len(&request->answer));
	request->state = REQUEST_PUSHED;
	request_failf(c, request, code, "the outcome could not be recorded: %.*s", (int)len, text);
}

void
history_operations_refused(struct connection *c, const struct intent *intent)
{
	struct request *request = request_find(c, intent->correlation);

	if (request != NULL && request->state == REQUEST_RECORDING)
		history_unrecorded(c, request, intent->error, intent->text, strlen(intent->text));
}

/* Another dispatch of the same ordinal was first: its outcome is the one. */
static void
history_answer_first(struct connection *c, struct request *request)
{
	struct record_operations outcome;
	struct err err = { 0 };
	int rc = history_look_up(c, request, &outcome, &err);

	/* It has grown too old just now: as if it had been before. */
	if (rc == ERR_NOTFOUND) {
		request_answer_kept(c, request);
		return;
	}
	if (rc != 0) {
		history_unrecorded(c, request, FRAME_REASON_OTHER, err.text, strlen(err.text));
		return;
	}
	buf_consume(&request->answer, buf_len(&request->answer));
	request->state = REQUEST_PUSHED;
	history_answer(c, request, &outcome);
	record_free_operations(&outcome);
}

void
history_recorded(struct connection *c, const struct inbox_entry *entry, const void *body)
{
	struct request *request = request_find(c, entry->request);

	if (request == NULL || request->state != REQUEST_RECORDING)
		return;
	if (entry->code == HISTORY_RECORDED)
		request_answer_kept(c, request);
	else if (entry->code == HISTORY_RECORDED_ELSEWHERE)
		history_answer_first(c, request);
	else
		history_unrecorded(c, request, (uint16_t)entry->code, body, entry->len);
}
