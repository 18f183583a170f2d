/*
 * Registrations that the notifier is asked about (systems.md C1, C2).
 *
 * A connection asks about one at a time, in the order in which they came, and acknowledges each when
 * it is decided; its other frames do not wait. The notifier answers in its own time: what it
 * accepted it will be told of again by the ledger (state/registrations.h), whatever becomes of
 * this process. Answers are noted while the inbox is read, and acted upon after that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/connection.h"
#include "state/connections.h"
#include "state/registrations.h"

/* A client that sends more before it has its answers wants no answers. */
#define REGISTRATION_WAITING_MAX	64

/* Move a view into COPY, which is filled up to *AT. */
static void
registration_keep(struct frame_view *view, uint8_t *copy, size_t *at)
{
	if (view->len > 0)
		memcpy(copy + *at, view->data, view->len);
	view->data = copy + *at;
	*at += view->len;
}

static struct registration *
registration_copy(const struct registration *in)
{
	const struct record_registration *record = &in->record;
	size_t at = 0, len = record->namespaces.encoded.len + record->task_queue.len +
	    record->node.view.len + record->activity_types.encoded.len + record->identity.len;
	struct registration *copy;

	/* A rejected one is nothing but its reason. */
	if (in->reason[0] != '\0')
		len = 0;
	if ((copy = malloc(sizeof *copy + len)) == NULL)
		return NULL;
	*copy = *in;
	copy->len = len;
	copy->state = REGISTRATION_REJECTED;
	if (in->reason[0] != '\0')
		return copy;
	copy->state = REGISTRATION_NEW;
	registration_keep(&copy->record.namespaces.encoded, copy->bytes, &at);
	registration_keep(&copy->record.task_queue, copy->bytes, &at);
	registration_keep(&copy->record.node.view, copy->bytes, &at);
	registration_keep(&copy->record.activity_types.encoded, copy->bytes, &at);
	registration_keep(&copy->record.identity, copy->bytes, &at);
	return copy;
}

void
registration_add(struct connection *c, const struct registration *in)
{
	struct registration *registration;

	if (c->registration_bytes > c->conf->outbound_bytes ||
	    c->n_registrations >= REGISTRATION_WAITING_MAX) {
		connection_end(c, ROLE_EXIT_SHED,
		    "the peer registers again and again without waiting for an answer");
		return;
	}
	if ((registration = registration_copy(in)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a registration");
		return;
	}
	TAILQ_INSERT_TAIL(&c->registrations, registration, link);
	c->registration_bytes += registration->len;
	c->n_registrations++;
	registration_continue(c);
}

static struct registration *
registration_asked(struct connection *c, uint64_t id)
{
	struct registration *first = TAILQ_FIRST(&c->registrations);

	return first != NULL && first->state == REGISTRATION_ASKED && first->id == id ? first :
	    NULL;
}

static void
registration_ask(struct connection *c)
{
	turn_add(c, INTENT_ASK);
	turn_apply(c);
}

int
registration_apply_ask(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	return registrations_ask(txn, c->peer->conn_id, c->context->slot,
	    &TAILQ_FIRST(&c->registrations)->record, &intent->correlation);
}

void
registration_done_ask(struct connection *c, struct intent *intent)
{
	struct registration *registration = TAILQ_FIRST(&c->registrations);

	if (intent->result != 0) {
		registration->state = REGISTRATION_REJECTED;
		snprintf(registration->reason, sizeof registration->reason, "%s", intent->text);
		return;
	}
	registration->state = REGISTRATION_ASKED;
	registration->id = intent->correlation;
	registration->deadline_ns = clock_now_ns() + c->conf->notifier_timeout_ns +
	    NOTIFIER_GRACE_NS;
}

void
registration_notified(struct connection *c, const struct inbox_entry *entry, const void *body)
{
	struct registration *registration = registration_asked(c, entry->request);

	/* Also when it is the answer to a question that was given up. */
	c->is_disowned |= entry->code == INBOX_NOTIFIED_LOST;
	if (registration == NULL)
		return;
	if (entry->code == INBOX_NOTIFIED_YES) {
		registration->state = REGISTRATION_ACCEPTED;
		return;
	}
	registration->state = REGISTRATION_REJECTED;
	snprintf(registration->reason, sizeof registration->reason, "%.*s", (int)entry->len,
	    (const char *)body);
}

/* Out of the state with the one that the notifier does not know any more. */
static void
registration_disown(struct connection *c)
{
	turn_apply(c);		/* what was answered before it still counts for the pools */
	c->is_disowned = 0;
	if (!c->is_worker)
		return;
	turn_add(c, INTENT_DISCARD);
	turn_apply(c);
	worker_forget(c);
}

int
registration_apply_discard(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct connections_row row;
	enum registrations_phase phase;
	int rc = 0;

	if (intent->correlation != 0)
		rc = registrations_give_up(txn, c->peer->conn_id, intent->correlation, &phase);
	if (rc == 0 || rc == ERR_NOTFOUND)
		rc = workers_unregister(txn, c->peer->conn_id);
	if (rc == 0)
		rc = connections_get(txn, c->peer->conn_id, &row);
	if (rc != 0)
		return rc;
	row.is_worker = 0;
	return connections_put(txn, c->peer->conn_id, &row);
}

/* The first one's fate is known. */
static void
registration_finish(struct connection *c, struct registration *registration)
{
	TAILQ_REMOVE(&c->registrations, registration, link);
	c->registration_bytes -= registration->len;
	c->n_registrations--;
	if (registration->state == REGISTRATION_ACCEPTED) {
		worker_register(c, registration);
		return;
	}
	worker_acknowledge(c, registration->reason);
	free(registration);
}

void
registration_continue(struct connection *c)
{
	struct registration *first;

	if (c->is_disowned && !c->is_ending)
		registration_disown(c);
	while (!c->is_ending && (first = TAILQ_FIRST(&c->registrations)) != NULL) {
		if (first->state == REGISTRATION_NEW)
			registration_ask(c);
		else if (first->state == REGISTRATION_ASKED)
			break;
		else
			registration_finish(c, first);
	}
}

int64_t
registration_next_deadline(struct connection *c)
{
	const struct registration *first = TAILQ_FIRST(&c->registrations);

	return first != NULL && first->state == REGISTRATION_ASKED ? first->deadline_ns :
	    INT64_MAX;
}

void
registration_expire(struct connection *c, int64_t now_ns)
{
	struct intent *intent;

	if (registration_next_deadline(c) > now_ns)
		return;
	if ((intent = turn_add(c, INTENT_GIVE_UP)) != NULL)
		intent->correlation = TAILQ_FIRST(&c->registrations)->id;
	turn_apply(c);
	registration_continue(c);
}

/* It may have been accepted in this moment: its answer is then in the inbox. */
int
registration_apply_give_up(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	enum registrations_phase phase = REGISTRATIONS_ASKED;
	int rc;

	rc = registrations_get(txn, c->peer->conn_id, intent->correlation, &phase, NULL, NULL);
	intent->error = rc == 0 && phase == REGISTRATIONS_ACCEPTED;
	if (rc == 0 && !intent->error)
		rc = registrations_give_up(txn, c->peer->conn_id, intent->correlation, &phase);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

void
registration_done_give_up(struct connection *c, struct intent *intent)
{
	struct registration *registration = registration_asked(c, intent->correlation);

	if (registration == NULL)
		return;
	if (intent->error) {
		registration->deadline_ns = INT64_MAX;
		return;
	}
	registration->state = REGISTRATION_REJECTED;
	snprintf(registration->reason, sizeof registration->reason,
	    "the notifier did not answer within notifier timeout (%lld ms): it is stopped, or busy "
	    "with others; try again",
	    (long long)(c->conf->notifier_timeout_ns / CLOCK_MS));
}
