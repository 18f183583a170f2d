/*
 * A turn's dealings with the state: intents in one write transaction, the inbox in a read
 * transaction.
 *
 * When the transaction does not fit into the map, each intent is tried by itself, and the one that
 * does not fit is refused to its peer: nothing is lost in silence.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/channel.h"
#include "state/end.h"

#define TURN_LOG_WINDOW_NS	(10 * CLOCK_SECOND)
/* Rows of the inbox that were read and may lie there until the connection is idle. */
#define TURN_INBOX_ROWS	32

struct intent *
turn_add(struct connection *c, enum intent_kind kind)
{
	struct intent *more;
	size_t size;

	if (c->n_intents == c->size_intents) {
		size = c->size_intents ? c->size_intents * 2 : 16;
		more = realloc(c->intents, size * sizeof *more);
		if (more == NULL) {
			connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a turn");
			return NULL;
		}
		c->intents = more;
		c->size_intents = size;
	}
	more = &c->intents[c->n_intents++];
	memset(more, 0, sizeof *more);
	more->kind = kind;
	return more;
}

static int
turn_apply_one(struct connection *c, struct state_txn *txn, struct intent *intent,
    struct dispatch_turn *dispatch, uint32_t *freed)
{
	int rc;

	switch (intent->kind) {
	case INTENT_CONVERSATION_PUT:
		return conversation_apply_put(c, txn, intent);
	case INTENT_CONVERSATION_DEL:
		return conversation_apply_del(c, txn, intent);
	case INTENT_PLACE:
		return dispatch_apply_place(c, txn, intent, dispatch);
	case INTENT_DIRECT:
		return conversation_apply_direct(c, txn, intent);
	case INTENT_CANCEL:
		return dispatch_apply_cancel(c, txn, intent);
	case INTENT_CANCEL_DIRECT:
		rc = pushes_del(txn, intent->conn_id, intent->correlation);
		return rc == ERR_NOTFOUND ? 0 : rc;
	case INTENT_RESOLVE:
		return worker_apply_resolve(c, txn, intent, freed);
	case INTENT_REGISTER:
		return worker_apply_register(c, txn, intent);
	case INTENT_OPERATIONS:
		return history_apply_operations(c, txn, intent);
	case INTENT_ASK:
		return registration_apply_ask(c, txn, intent);
	case INTENT_GIVE_UP:
		return registration_apply_give_up(c, txn, intent);
	case INTENT_DISCARD:
		return registration_apply_discard(c, txn, intent);
	case INTENT_TAP:
		return tap_apply(c, txn, intent);
	case INTENT_PUBLISH:
		return publish_apply(c, txn, intent);
	case INTENT_APPEND:
		return publish_apply_append(c, txn, intent);
	case INTENT_SUBSCRIBE:
		return subscription_apply(c, txn, intent);
	case INTENT_UNSUBSCRIBE:
		return subscription_apply_end(c, txn, intent);
	case INTENT_CURSOR:
		return consumer_apply_cursor(c, txn, intent);
	case INTENT_READY:
		return c->is_worker ?
		    workers_make_ready(txn, c->peer->conn_id, &c->pools) : 0;
	}
	return ERR_INVALID;
}

/* Dispatch rows that are held in memory go back before others touch the same rows. */
static int
turn_shares_rows(enum intent_kind kind)
{
	return kind == INTENT_REGISTER || kind == INTENT_READY || kind == INTENT_CANCEL ||
	    kind == INTENT_DISCARD;
}

static int
turn_apply_range(struct connection *c, size_t from, size_t to)
{
	struct dispatch_turn *dispatch = &c->dispatch;
	struct state_txn *txn;
	uint32_t freed = 0;
	int rc, settle = 0, is_tidied = 0;
	size_t i;

	if ((rc = state_begin_write(c->state, &txn)) != 0)
		return rc;
	dispatch->is_loaded = 0;
	/* Not in each turn: a page less to write in most of them. */
	if (c->inbox_rows > TURN_INBOX_ROWS || (from == to && c->inbox_rows > 0)) {
		is_tidied = 1;
		rc = inbox_remove(txn, c->peer->conn_id, c->inbox_seen);
	}
	for (i = from; rc == 0 && i < to; i++) {
		if (turn_shares_rows(c->intents[i].kind))
			rc = dispatch_finish_place(txn, dispatch);
		if (rc == 0)
			rc = turn_apply_one(c, txn, &c->intents[i], dispatch, &freed);
		c->intents[i].result = rc;
		settle |= c->intents[i].kind == INTENT_READY;
	}
	if (rc == 0)
		rc = dispatch_finish_place(txn, dispatch);
	if (rc == 0 && c->is_worker && (freed > 0 || settle))
		rc = workers_settle(txn, c->peer->conn_id, &c->pools, freed);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	/* Dying here, or in the commit: none of it has happened, or all of it. */
	rc = state_commit(txn);
	if (rc == 0 && is_tidied)
		c->inbox_rows = 0;
	return rc;
}

static void
turn_done(struct connection *c, struct intent *intent)
{
	switch (intent->kind) {
	case INTENT_CONVERSATION_PUT:
	case INTENT_CONVERSATION_DEL:
		conversation_done(c, intent);
		break;
	case INTENT_PLACE:
		dispatch_done_place(c, intent);
		break;
	case INTENT_DIRECT:
		conversation_done_direct(c, intent);
		break;
	case INTENT_RESOLVE:
		worker_done_resolve(c, intent);
		break;
	case INTENT_REGISTER:
		worker_done_register(c, intent);
		break;
	case INTENT_CANCEL:
		conversation_release(intent->conversation);
		break;
	case INTENT_OPERATIONS:
		if (intent->result != 0)
			history_operations_refused(c, intent);
		break;
	case INTENT_ASK:
		registration_done_ask(c, intent);
		break;
	case INTENT_GIVE_UP:
		registration_done_give_up(c, intent);
		break;
	case INTENT_TAP:
		tap_done(c, intent);
		break;
	case INTENT_PUBLISH:
		publish_done(c, intent);
		break;
	case INTENT_APPEND:
		publish_done_append(c, intent);
		break;
	case INTENT_SUBSCRIBE:
		subscription_done(c, intent);
		break;
	case INTENT_UNSUBSCRIBE:
		subscription_done_end(c, intent);
		break;
	case INTENT_CURSOR:
		consumer_done_cursor(c, intent);
		break;
	case INTENT_DISCARD:
	case INTENT_CANCEL_DIRECT:
	case INTENT_READY:
		break;
	}
	free(intent->owned);
}

static void
turn_refuse(struct intent *intent)
{
	intent->result = ERR_FULL;
	intent->error = FRAME_REASON_PRESSURE;
	strncpy(intent->text, STATE_FULL_TEXT, sizeof intent->text - 1);
}

/* What asks for something new can be refused; what finishes something old must not be lost. An
 * outcome that cannot be handed to the store is not lost in silence: its caller learns it. */
static int
turn_can_refuse(enum intent_kind kind)
{
	return kind == INTENT_CONVERSATION_PUT || kind == INTENT_PLACE || kind == INTENT_DIRECT ||
	    kind == INTENT_REGISTER || kind == INTENT_OPERATIONS || kind == INTENT_ASK ||
	    kind == INTENT_TAP || kind == INTENT_PUBLISH || kind == INTENT_APPEND ||
	    kind == INTENT_SUBSCRIBE || kind == INTENT_CURSOR;
}

/* Each by itself: only those that do not fit are refused. */
static int
turn_apply_each(struct connection *c, size_t n)
{
	size_t i;
	int rc;

	for (i = 0; i < n; i++) {
		rc = turn_apply_range(c, i, i + 1);
		if (rc == ERR_FULL && c->intents[i].kind == INTENT_RESOLVE) {
			/* The slot has to go all the same, and a short answer may fit. */
			c->intents[i].inbox_kind = INBOX_FAILED;
			c->intents[i].code = FRAME_REASON_PRESSURE;
			c->intents[i].body.data = (const uint8_t *)STATE_FULL_TEXT;
			c->intents[i].body.len = sizeof STATE_FULL_TEXT - 1;
			rc = turn_apply_range(c, i, i + 1);
		}
		/* Not even that: the connection ends, and the keeper finishes for it when there
		 * is room, so that whoever waits learns of it. */
		if (rc != 0 && (rc != ERR_FULL || !turn_can_refuse(c->intents[i].kind)))
			return rc;
		if (rc == ERR_FULL)
			turn_refuse(&c->intents[i]);
	}
	return 0;
}

void
turn_apply(struct connection *c)
{
	struct intent done;
	size_t i, n;
	int rc;

	consumer_note_moved(c);
	if (c->n_intents > 0)
		handshake_open(c);
	/* What the results lead to (a retry) is noted behind and applied in the next round. */
	while (c->n_intents > 0 && c->is_open) {
		n = c->n_intents;
		rc = turn_apply_range(c, 0, n);
		if (rc == ERR_FULL)
			rc = turn_apply_each(c, n);
		if (rc != 0) {
			connection_end(c, ROLE_EXIT_STATE, "the state cannot be used: %s",
			    state_error_text(c->state));
			return;
		}
		for (i = 0; i < n; i++) {
			/* A copy: what it leads to may move the array. */
			done = c->intents[i];
			turn_done(c, &done);
		}
		memmove(c->intents, c->intents + n, (c->n_intents - n) * sizeof *c->intents);
		c->n_intents -= n;
	}
}

int
turn_has_news(struct connection *c)
{
	return state_last_number(c->state) != c->seen_number;
}

/* Once, whoever asks for it first, and how often. */
static void
turn_disconnect(struct connection *c)
{
	struct frame disconnect = { .type = FRAME_DISCONNECT };

	if (!c->is_disconnect_sent)
		connection_send(c, &disconnect);
	c->is_disconnect_sent = 1;
}

static int
turn_visit_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct connection *c = arg;

	switch (entry->kind) {
	case INBOX_NOTIFY_SHUTDOWN:	/* comes to those with subscriptions only */
		turn_disconnect(c);
		break;
	case INBOX_FORCE_CLOSE:
		turn_disconnect(c);
		connection_end(c, ROLE_EXIT_OK, "closed by the daemon");
		break;
	case INBOX_RECORDED:
		history_recorded(c, entry, body);
		break;
	case INBOX_APPENDED:
		publish_appended(c, entry, body);
		break;
	case INBOX_CONSUMER:
		consumer_opened(c, entry, body);
		break;
	case INBOX_NOTIFIED:
		if (entry->request & TAP_REQUEST)
			tap_notified(c, entry);
		else
			registration_notified(c, entry, body);
		break;
	default:
		dispatch_event(c, entry, body);
		break;
	}
	return 0;
}

static int
turn_visit_push(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	struct connection *c = arg;

	(void)target;
	worker_push(c, correlation, row, payload);
	c->pushes_seen = correlation;
	/* More than the peer may leave unread: the end comes, the rest goes to others. */
	return buf_len(&c->out) - c->rest > c->conf->outbound_bytes;
}

/* Everything is copied out before the transaction ends: nothing is sent inside one. */
void
turn_look(struct connection *c)
{
	struct state_txn *txn;
	unsigned rows = 0;
	uint64_t seen;
	int rc;

	if ((rc = state_begin_read(c->state, &txn)) != 0) {
		connection_end(c, ROLE_EXIT_STATE, "the state cannot be read: %s",
		    state_error_text(c->state));
		return;
	}
	seen = state_snapshot_id(txn);
	rc = inbox_read(txn, c->peer->conn_id, c->inbox_seen, &rows, turn_visit_entry, c);
	if (rc == 0 && !c->is_holding)
		rc = pushes_each_of(txn, c->peer->conn_id, c->pushes_seen, turn_visit_push, c);
	c->seen_number = state_txn_number(txn);
	state_abort(txn);
	if (rc < 0) {
		connection_end(c, ROLE_EXIT_STATE, "a row of the state cannot be read");
		return;
	}
	c->inbox_rows += rows;
	c->inbox_seen = seen;
	if (!c->is_holding && rc == 0)
		c->pushes_seen = seen;
}

void
turn_tidy(struct connection *c)
{
	static struct log_limit limit;
	unsigned held;

	if (c->is_open && c->inbox_rows > 0 && turn_apply_range(c, 0, 0) != 0 &&
	    log_limit_allows(&limit, 1, TURN_LOG_WINDOW_NS, &held))
		log_warnx("tidy conn=%llu failed: %s; it will be tried again",
		    (unsigned long long)c->peer->conn_id, state_error_text(c->state));
}
