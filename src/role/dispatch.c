/*
 * The worker pool as a participant: each message with the reply flag is one activity (systems.md E).
 *
 * A request is placed in the turn's write transaction: snapshot of the pool, route, slot, the
 * worker's in-flight count, all or nothing. Its worker's end comes back as an event; the
 * request then goes out again, without that worker, until max_attempts workers have
 * been tried. Placing, unlike everything else here, runs inside the transaction and may run twice.
 *
 * Where a module is the router, a request that somebody has room for is put before its process
 * instead (custom_router.h), which gives it to a worker as a worker takes one from the queue.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "form/typed.h"
#include "role/connection.h"
#include "role/custom_router.h"
#include "state/history.h"

/* Retries are told in the log, but not ten thousand of them. */
#define DISPATCH_LOG_BURST	20
#define DISPATCH_LOG_WINDOW_NS	(10 * CLOCK_SECOND)

static int
dispatch_open(struct connection *c, struct conversation *conversation, struct err *err)
{
	struct frame_view subject = {
		(const uint8_t *)conversation->subject, conversation->subject_len
	};

	(void)c;
	return pool_name_from_subject(&conversation->pool, &subject, err);
}

/* Only a message with the reply flag is an activity; to any other the protocol has no answer. */
static int
dispatch_tell(struct connection *c, struct conversation *conversation,
    const struct frame_view *payload, struct err *err)
{
	(void)conversation, (void)payload, (void)err;
	c->frames_ignored++;
	return 0;
}

/* Keep what a typed request asks for, its texts in one block. */
static int
dispatch_take_typed(struct request *request, const struct typed_request *typed)
{
	const char *parts[] = {
		typed->activity_type, typed->node, typed->workflow_id, typed->conversation_id
	};
	struct frame_view *views[] = {
		&request->demand.type, &request->demand.node, &request->workflow_id,
		&request->history.conversation_id
	};
	const size_t n = sizeof parts / sizeof parts[0];
	size_t i, at = 0, lens[sizeof parts / sizeof parts[0]];

	for (i = 0; i < n; i++) {
		lens[i] = parts[i] != NULL ? strlen(parts[i]) : 0;
		at += lens[i];
	}
	if ((request->text = malloc(at + 1)) == NULL)
		return ERR_NOMEM;
	for (i = 0, at = 0; i < n; at += lens[i++]) {
		if (lens[i] > 0)
			memcpy(request->text + at, parts[i], lens[i]);
		views[i]->data = (const uint8_t *)request->text + at;
		views[i]->len = lens[i];
	}
	request->is_typed = 1;
	request->history.has_ordinal = typed->has_ordinal;
	request->history.ordinal = (uint64_t)typed->ordinal;
	request->demand.node_required = typed->node_required;
	request->attempt_ns = typed->start_to_close_ns;
	if (typed->schedule_to_close_ns > 0)
		request->total_deadline_ns = clock_now_ns() + typed->schedule_to_close_ns;
	return 0;
}

static void
dispatch_ask(struct connection *c, struct request *request)
{
	struct typed_request typed;
	struct err err = { 0 };
	int rc;

	board_count(c->mine, BOARD_DISPATCHED, 1);
	if (c->request_bytes > c->conf->outbound_bytes) {
		request_failf(c, request, FRAME_REASON_PRESSURE,
		    "limits outbound_bytes (%llu) of requests wait for answers on this connection",
		    (unsigned long long)c->conf->outbound_bytes);
		return;
	}
	switch (typed_request_parse(request->payload, request->len, &typed, &err)) {
	case TYPED_INVALID:
		if (request_apply_turn(c, request))
			request_fail(c, request, FRAME_REASON_OTHER, err.text,
			    strlen(err.text));
		return;
	case TYPED_REQUEST:
		rc = dispatch_take_typed(request, &typed);
		typed_request_free(&typed);
		if (rc != 0) {
			connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a request");
			return;
		}
		request_set_deadline(c, request);
		if (c->conf->record && request->workflow_id.len > 0 && !history_admit(c, request))
			return;
		break;
	case TYPED_OPAQUE:
		break;
	}
	request_place_later(c, request, INTENT_PLACE);
}

const struct participant participant_pool = {
	RECORD_POOL, dispatch_open, dispatch_ask, dispatch_tell, NULL
};

static int
dispatch_refuse(struct intent *intent, uint16_t error, const char *text)
{
	intent->error = error;
	snprintf(intent->text, sizeof intent->text, "%s", text);
	return 0;
}

/* The pool's rows as this transaction has made them so far. */
static int
dispatch_load(struct state_txn *txn, const struct pool_name *name, struct dispatch_turn *turn)
{
	int rc;

	if (turn->is_loaded && turn->pool.name.len == name->len &&
	    memcmp(turn->pool.name.text, name->text, name->len) == 0)
		return 0;
	if ((rc = dispatch_finish_place(txn, turn)) != 0)
		return rc;
	rc = pool_snapshot_read(txn, name, &turn->pool);
	turn->is_loaded = rc == 0;
	return rc;
}

int
dispatch_finish_place(struct state_txn *txn, struct dispatch_turn *turn)
{
	if (!turn->is_loaded)
		return 0;
	turn->is_loaded = 0;
	return pool_snapshot_write(txn, &turn->pool);
}

/* Link before send (systems.md E4): the slot, which the worker's end resolves, is what carries
 * the request to it. */
static int
dispatch_push(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct dispatch_turn *turn)
{
	struct request *request = intent->request;
	struct frame_view payload = { request->payload, request->len };
	struct router_request question = {
		.workflow_id = request->workflow_id, .pool = &turn->pool.name,
		.demand = &request->demand, .last_selected = turn->pool.meta.last_selected,
		.excluded = request->excluded, .n_excluded = request->attempts
	};
	struct pool_worker *worker;
	struct pushes_row push;
	size_t choice;

	choice = c->router->select(&question, turn->candidates.list, turn->candidates.n);
	if (choice >= turn->candidates.n)
		return dispatch_refuse(intent, FRAME_REASON_OTHER, ROUTER_NO_CANDIDATE);
	worker = &turn->pool.workers[turn->candidates.list[choice] - turn->pool.workers];
	memset(&push, 0, sizeof push);
	push.kind = PUSHES_JOB;
	push.flags = request->is_typed ? PUSHES_TYPED : 0;
	push.awaiter = c->peer->conn_id;
	push.awaiter_slot = c->context->slot;
	push.request = request->id;
	push.pool = turn->pool.meta.id;
	push.since_ns = clock_now_ns();
	worker->row.in_flight++;
	worker->changed = 1;
	if (c->conf->router == CONF_ROUTER_ROUND_ROBIN) {
		turn->pool.meta.last_selected = worker->conn_id;
		turn->pool.meta_changed = 1;
	}
	intent->conn_id = worker->conn_id;
	return pushes_add(txn, worker->conn_id, worker->row.slot, &push, &payload,
	    &intent->correlation);
}

/* Ask the router's module who gets what has been put where it finds it. */
static int
dispatch_ask_router(struct connection *c, struct state_txn *txn, struct intent *intent,
    const struct dispatch_turn *turn)
{
	const struct request *request = intent->request;
	struct custom_router_question question = {
		.where = intent->where, .pool = turn->pool.name,
		.workflow_id = request->workflow_id,
		.excluded = request->excluded, .n_excluded = request->attempts,
		.excluded_ids = { buf_head(&request->excluded_ids),
		    buf_len(&request->excluded_ids) }
	};

	return custom_router_ask(txn, c->peer->conn_id, request->id, &question);
}

/* It waits: for room, or (IS_ASKED) for the router's module. */
static int
dispatch_queue(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct dispatch_turn *turn, int is_asked)
{
	struct request *request = intent->request;
	struct frame_view payload = { request->payload, request->len };
	struct pending_row row;
	int rc;

	if (request->conversation == NULL)
		return 0;	/* closed meanwhile: nobody would take the answer */
	if (request->where.arrival == 0 && turn->pool.meta.n_pending >= c->conf->queue_limit) {
		intent->error = FRAME_REASON_PRESSURE;
		snprintf(intent->text, sizeof intent->text,
		    "dispatch queue_limit: %u requests wait for this pool already",
		    c->conf->queue_limit);
		return 0;
	}
	memset(&row, 0, sizeof row);
	row.flags = (uint8_t)((request->is_typed ? PENDING_TYPED : 0) |
	    (request->attempt_ns > 0 || request->history.is_recorded ? PENDING_TELL_START : 0));
	if (is_asked)
		row.flags |= PENDING_ASKED | PENDING_TELL_START;
	row.awaiter = c->peer->conn_id;
	row.awaiter_slot = c->context->slot;
	row.request = request->id;
	row.since_ns = clock_now_ns();
	intent->is_queued = 1;
	intent->is_asked = is_asked;
	rc = pending_add(txn, &turn->pool, c->conf->queue_limit, request->where.arrival, &row,
	    &request->demand, &payload, &intent->where);
	return rc == 0 && is_asked ? dispatch_ask_router(c, txn, intent, turn) : rc;
}

/* 1 if REQUEST is to be refused because the record cannot take its operations. */
static int
dispatch_record_is_shut(struct state_txn *txn, const struct request *request,
    struct intent *intent)
{
	char text[sizeof intent->text - 40];

	if (!request->history.is_recorded || request->history.is_opened ||
	    history_fault(txn, text, sizeof text) != 0)
		return 0;
	intent->error = FRAME_REASON_PRESSURE;
	snprintf(intent->text, sizeof intent->text, "the dispatch record cannot be written: %s",
	    text);
	return 1;
}

static int
dispatch_place(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct dispatch_turn *turn)
{
	struct request *request = intent->request;
	int rc;

	if (dispatch_record_is_shut(txn, request, intent))
		return 0;
	rc = dispatch_load(txn, &intent->conversation->pool, turn);
	if (rc == ERR_NOTFOUND)
		return dispatch_refuse(intent, FRAME_REASON_NO_WORKER, DISPATCH_NO_WORKERS);
	if (rc == 0)
		rc = router_find_candidates(txn, &turn->pool, &request->demand, request->excluded,
		    request->attempts, &turn->candidates);
	if (rc != 0)
		return rc;
	if (turn->candidates.n_accepting == 0)
		return dispatch_refuse(intent, FRAME_REASON_NO_WORKER, DISPATCH_NO_WORKERS);
	if (request->attempts == 0 && state_is_tight(txn))
		return dispatch_refuse(intent, FRAME_REASON_PRESSURE, STATE_FULL_TEXT);
	if (turn->candidates.n == 0 || c->router->select == NULL)
		return dispatch_queue(c, txn, intent, turn, turn->candidates.n > 0);
	return dispatch_push(c, txn, intent, turn);
}

int
dispatch_apply_place(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct dispatch_turn *turn)
{
	int rc;

	intent->error = 0;
	intent->is_queued = 0;
	rc = dispatch_place(c, txn, intent, turn);
	return rc == 0 ? history_apply_placed(c, txn, intent) : rc;
}

static void
dispatch_log_retry(struct connection *c, struct request *request)
{
	static struct log_limit limit;
	char shown[4 * sizeof request->exited];
	unsigned held;

	if (log_limit_allows(&limit, DISPATCH_LOG_BURST, DISPATCH_LOG_WINDOW_NS, &held))
		log_info("worker-exited conn=%llu worker=\"%s\" attempt=%u suppressed=%u",
		    (unsigned long long)c->peer->conn_id,
		    log_vis(shown, sizeof shown, request->exited, strlen(request->exited)),
		    request->attempts, held);
	request->exited[0] = '\0';
}

static void
dispatch_cancel_later(struct connection *c, struct conversation *conversation,
    const struct pending_key *where)
{
	struct intent *intent = turn_add(c, INTENT_CANCEL);

	if (intent == NULL)
		return;
	intent->where = *where;
	intent->conversation = conversation;
	conversation->n_intents++;
}

/* It waits: for the router's module or, perhaps after that, for room. */
static void
dispatch_waits(struct connection *c, struct request *request, enum request_state state)
{
	int was_routing = request->state == REQUEST_ROUTING;

	request->state = state;
	if (state == REQUEST_QUEUED)
		board_count(c->mine, BOARD_QUEUED, 1);
	if (state == REQUEST_ROUTING || was_routing)
		request_set_deadline(c, request);
}

void
dispatch_done_place(struct connection *c, struct intent *intent)
{
	struct conversation *conversation = intent->conversation;
	struct request *request = intent->request;

	if (request_release(c, request)) {
		/* Closed by what came before it in this turn: nobody would take the answer. */
		if (intent->error == 0 && intent->is_queued)
			dispatch_cancel_later(c, conversation, &intent->where);
	} else {
		if (request->exited[0] != '\0')
			dispatch_log_retry(c, request);
		history_placed(c, request, intent);
		if (intent->error != 0) {
			request->state = REQUEST_PUSHED;
			request_fail(c, request, intent->error, intent->text,
			    strlen(intent->text));
		} else if (intent->is_queued) {
			request->where = intent->where;
			dispatch_waits(c, request,
			    intent->is_asked ? REQUEST_ROUTING : REQUEST_QUEUED);
		} else {
			request->state = REQUEST_PUSHED;
			/* Its place in the queue, should it have to come back. */
			if (request->where.arrival == 0)
				request->where.arrival = intent->correlation;
			if (request->attempt_ns > 0)
				request_set_deadline(c, request);
		}
	}
	conversation_release(conversation);
}

/* Take REQUEST out of the queue, if it is still there. */
void
dispatch_cancel_queued(struct connection *c, struct request *request)
{
	dispatch_cancel_later(c, request->conversation, &request->where);
}

int
dispatch_apply_cancel(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct pending_key where;
	int rc;

	/* The router's process may have moved it meanwhile. */
	rc = pending_find(txn, c->peer->conn_id, intent->where.arrival, &where);
	if (rc == 0)
		rc = pending_remove(txn, &intent->conversation->pool, &where);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* That worker has had its attempt. A module wants to know it by its id. */
static int
dispatch_exclude(struct connection *c, struct request *request, uint64_t conn_id, const char *id,
    size_t id_len)
{
	uint64_t *more;

	more = realloc(request->excluded, (request->attempts + 1) * sizeof *more);
	if (more == NULL)
		return ERR_NOMEM;
	request->excluded = more;
	request->excluded[request->attempts++] = conn_id;
	if (c->router->select != NULL)
		return 0;
	if (buf_append(&request->excluded_ids, id, id_len) != 0)
		return ERR_NOMEM;
	return buf_append(&request->excluded_ids, "", 1);
}

/* The worker has ended: another one, or the end of it. */
static void
dispatch_retry(struct connection *c, struct request *request, const struct inbox_entry *entry,
    const char *body)
{
	size_t id_len = strnlen(body, entry->len);
	int reason_len = entry->len > id_len ? (int)(entry->len - id_len - 1) : 0;
	const char *reason = body + id_len + (reason_len > 0);

	/* Told to the log when it is placed again: this is inside a transaction. */
	snprintf(request->exited, sizeof request->exited, "%.*s: %.*s", (int)id_len, body,
	    reason_len, reason);
	if (dispatch_exclude(c, request, entry->conn_id, body, id_len) != 0) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a retry");
		return;
	}
	history_worker_exited(c, request, body, id_len, reason, (size_t)reason_len);
	if (request->attempts >= c->conf->max_attempts) {
		request_failf(c, request, FRAME_REASON_DISCONNECTED,
		    "worker '%.*s' exited before it answered (%.*s); "
		    "given up after %u attempts (dispatch max_attempts)", (int)id_len, body,
		    reason_len, reason, request->attempts);
		return;
	}
	board_count(c->mine, BOARD_RETRIED, 1);
	request_place_later(c, request, INTENT_PLACE);
	request_set_deadline(c, request);	/* an attempt's own limit ended with it */
}

/* What the inbox has for one of this connection's requests. */
void
dispatch_event(struct connection *c, const struct inbox_entry *entry, const void *body)
{
	struct request *request = request_find(c, entry->request);

	/* Timed out or closed meanwhile: what comes late is dropped. */
	if (request == NULL || request->state >= REQUEST_RECORDING)
		return;
	switch (entry->kind) {
	case INBOX_REPLY:
		request_reply(c, request, body, entry->len);
		break;
	case INBOX_FAILED:
		request_fail(c, request, (uint16_t)entry->code, body, entry->len);
		break;
	case INBOX_NO_WORKERS:
		request_fail(c, request, FRAME_REASON_NO_WORKER, DISPATCH_NO_WORKERS,
		    sizeof DISPATCH_NO_WORKERS - 1);
		break;
	case INBOX_ROUTED:
		dispatch_waits(c, request, REQUEST_QUEUED);
		break;
	case INBOX_STARTED:
		request->state = REQUEST_PUSHED;
		history_started(c, request, body, entry->len);
		request_set_deadline(c, request);
		break;
	case INBOX_WORKER_EXITED:
		dispatch_retry(c, request, entry, body);
		break;
	case INBOX_DISCONNECTED:
		conversation_crashed(c, request->conversation);
		request_failf(c, request, FRAME_REASON_DISCONNECTED,
		    "connection %llu ended before it answered: %.*s",
		    (unsigned long long)entry->conn_id, (int)entry->len, (const char *)body);
		break;
	default:
		log_warnx("inbox conn=%llu has an entry of unknown kind %u",
		    (unsigned long long)c->peer->conn_id, entry->kind);
		break;
	}
}
