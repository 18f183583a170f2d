/*
 * The connection as a worker: registration, the pushes that go out, the replies that come back.
 *
 * A client that declared no capacity may be one that throws away what arrives together with its
 * acknowledgement: it gets nothing before first_push_delay has passed, and is not selected
 * until then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "form/typed.h"
#include "os/process.h"
#include "role/connection.h"

/* Bounds of one registration: what one transaction can take. */
#define WORKER_NAMESPACES_MAX	256
#define WORKER_TYPES_MAX	4096
#define WORKER_TYPE_MAX		255

static int
worker_job_compare(const struct worker_job *a, const struct worker_job *b)
{
	return a->correlation < b->correlation ? -1 : a->correlation > b->correlation;
}

RB_GENERATE_INTERNAL(worker_jobs, worker_job, link, worker_job_compare,
    static __attribute__((unused)))

static int
worker_check_types(const struct connection *c, const struct frame_vec *types, char *reason,
    size_t size)
{
	struct frame_view next = types->encoded, type;

	if (types->count > WORKER_TYPES_MAX) {
		snprintf(reason, size, "more than %d activity types", WORKER_TYPES_MAX);
		return ERR_INVALID;
	}
	while (frame_vec_next(&next, &type)) {
		if (type.len == 0 || type.len > WORKER_TYPE_MAX) {
			snprintf(reason, size, "an activity type %s", type.len == 0 ? "is empty" :
			    "is longer than 255 bytes");
			return ERR_INVALID;
		}
		/* The module gets them as C strings, and must not be shown others than those
		 * that the dispatch compares. */
		if (c->conf->notifier_module != NULL && memchr(type.data, 0, type.len) != NULL) {
			snprintf(reason, size, "an activity type contains a NUL byte");
			return ERR_INVALID;
		}
	}
	return 0;
}

static int
worker_check_names(const struct connection *c, const struct record_registration *record,
    char *reason, size_t size)
{
	struct frame_view next = record->namespaces.encoded, space;
	const char *fault;

	if (record->namespaces.count == 0) {
		snprintf(reason, size, "no namespaces were declared");
		return ERR_INVALID;
	}
	if (record->namespaces.count > WORKER_NAMESPACES_MAX) {
		snprintf(reason, size, "more than %d namespaces", WORKER_NAMESPACES_MAX);
		return ERR_INVALID;
	}
	while (frame_vec_next(&next, &space)) {
		if ((fault = pool_part_fault(&space)) != NULL) {
			snprintf(reason, size, "a namespace %s", fault);
			return ERR_INVALID;
		}
	}
	if ((fault = pool_part_fault(&record->task_queue)) != NULL) {
		snprintf(reason, size, "the task queue %s", fault);
		return ERR_INVALID;
	}
	if (record->identity.len > WORKERS_IDENTITY_MAX ||
	    record->node.view.len > WORKERS_IDENTITY_MAX) {
		snprintf(reason, size, "the %s is longer than %d bytes",
		    record->identity.len > WORKERS_IDENTITY_MAX ? "identity" : "node",
		    WORKERS_IDENTITY_MAX);
		return ERR_INVALID;
	}
	/* They are shown and compared as text from here on. */
	if ((record->identity.len > 0 && memchr(record->identity.data, 0, record->identity.len)) ||
	    (record->node.view.len > 0 &&
	    memchr(record->node.view.data, 0, record->node.view.len))) {
		snprintf(reason, size, "the identity or the node contains a NUL byte");
		return ERR_INVALID;
	}
	return worker_check_types(c, &record->activity_types, reason, size);
}

void
worker_acknowledge(struct connection *c, const char *rejection)
{
	struct frame frame = { .type = FRAME_WORKER_REGISTER_ACK };

	frame.u.worker_register_ack.accepted = rejection == NULL;
	if (rejection != NULL) {
		frame.u.worker_register_ack.reason.data = (const uint8_t *)rejection;
		frame.u.worker_register_ack.reason.len = strlen(rejection);
	}
	connection_send(c, &frame);
}

void
worker_register_frame(struct connection *c, const struct frame *frame)
{
	struct registration registration, *owned;

	turn_apply(c);
	memset(&registration, 0, sizeof registration);
	registration.record.namespaces = frame->u.worker_register.namespaces;
	registration.record.task_queue = frame->u.worker_register.task_queue;
	registration.record.node = frame->u.worker_register.node;
	registration.record.activity_types = frame->u.worker_register.activity_types;
	registration.record.identity = frame->u.worker_register.identity;
	registration.record.max_concurrent = frame->u.worker_register.has_capacity ?
	    frame->u.worker_register.max_concurrent : c->conf->default_capacity;
	registration.is_ready = frame->u.worker_register.has_capacity ||
	    c->conf->first_push_delay_ns == 0;
	if (registration.record.max_concurrent > c->conf->max_pushes)
		snprintf(registration.reason, sizeof registration.reason,
		    "max_concurrent %u is beyond limits pushes_per_connection (%u)",
		    registration.record.max_concurrent, c->conf->max_pushes);
	else
		worker_check_names(c, &registration.record, registration.reason,
		    sizeof registration.reason);
	if (c->conf->notifier_module != NULL)
		registration_add(c, &registration);
	else if (registration.reason[0] != '\0')
		worker_acknowledge(c, registration.reason);
	else if ((owned = malloc(sizeof *owned)) == NULL)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a registration");
	else {
		*owned = registration;
		worker_register(c, owned);
	}
}

void
worker_register(struct connection *c, struct registration *registration)
{
	struct intent *intent;

	/* By itself: it moves the rows that others in a turn settle. */
	turn_apply(c);
	intent = turn_add(c, INTENT_REGISTER);
	if (intent == NULL) {
		free(registration);
		return;
	}
	intent->owned = registration;
	turn_apply(c);
}

int
worker_apply_register(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct registration *registration = intent->owned;
	int rc;

	workers_pools_free(&registration->pools);
	/* One that the notifier has accepted had its room promised. */
	if (registration->id == 0 && state_is_tight(txn))
		return ERR_FULL;
	rc = workers_register(txn, c->peer->conn_id, c->context->slot, registration->is_ready,
	    &registration->record, &registration->pools);
	if (rc == 0 && registration->is_ready)
		rc = workers_settle(txn, c->peer->conn_id, &registration->pools, 0);
	return rc;
}

static void
worker_set_title(const struct connection *c, const struct record_registration *record)
{
	char space[POOL_NAME_MAX * 4 + 1], queue[POOL_NAME_MAX * 4 + 1];
	struct frame_view next = record->namespaces.encoded, first = { NULL, 0 };

	frame_vec_next(&next, &first);
	log_vis(space, sizeof space, first.data, first.len);
	log_vis(queue, sizeof queue, record->task_queue.data, record->task_queue.len);
	process_set_title("%llu %s worker %s/%s", (unsigned long long)c->peer->conn_id,
	    c->peer->address, space, queue);
}

void
worker_done_register(struct connection *c, struct intent *intent)
{
	struct registration *registration = intent->owned;
	const struct frame_view *identity = &registration->record.identity;
	struct intent *discard;

	if (intent->result != 0) {
		workers_pools_free(&registration->pools);
		if (registration->id != 0 && (discard = turn_add(c, INTENT_DISCARD)) != NULL) {
			/* The notifier knows this one instead of the last one. */
			discard->correlation = registration->id;
			worker_forget(c);
		}
		worker_acknowledge(c, intent->text);
		return;
	}
	workers_pools_free(&c->pools);
	c->pools = registration->pools;
	c->is_worker = 1;
	memcpy(c->worker_id, identity->data, identity->len);
	snprintf(c->worker_id + identity->len, sizeof c->worker_id - identity->len, "#%llu",
	    (unsigned long long)c->peer->conn_id);
	c->is_holding = !registration->is_ready;
	c->ready_at_ns = registration->is_ready ? INT64_MAX :
	    clock_now_ns() + c->conf->first_push_delay_ns;
	worker_set_title(c, &registration->record);
	worker_acknowledge(c, NULL);
}

void
worker_forget(struct connection *c)
{
	workers_pools_free(&c->pools);
	c->is_worker = 0;
	c->is_holding = 0;
	c->ready_at_ns = INT64_MAX;
	process_set_title("%llu %s", (unsigned long long)c->peer->conn_id, c->peer->address);
}

void
worker_push(struct connection *c, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	struct frame frame = { .type = FRAME_PUSH, .stream = FRAME_PUSH_STREAM };
	struct worker_job *job;
	struct intent *intent;

	if (row->flags & PUSHES_TYPED) {
		if ((job = calloc(1, sizeof *job)) == NULL) {
			connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a push");
			return;
		}
		job->correlation = correlation;
		RB_INSERT(worker_jobs, &c->typed_jobs, job);
	}
	/* Nobody waits for its reply: once it is on its way it is done. */
	if ((row->flags & PUSHES_NO_REPLY) && (intent = turn_add(c, INTENT_CANCEL_DIRECT)) != NULL) {
		intent->conn_id = c->peer->conn_id;
		intent->correlation = correlation;
	}
	frame.u.push.correlation = correlation;
	frame.u.push.payload = *payload;
	connection_send(c, &frame);
	board_count(c->mine, BOARD_PUSHES, 1);
}

static void
worker_resolve_failed(struct connection *c, struct intent *intent, const char *error, size_t len)
{
	struct buf text = { 0 };

	intent->inbox_kind = INBOX_FAILED;
	intent->code = FRAME_REASON_ACTIVITY_FAILED;
	if (buf_append(&text, "worker '", 8) != 0 ||
	    buf_append(&text, c->worker_id, strlen(c->worker_id)) != 0 ||
	    buf_append(&text, "' failed activity: ", 19) != 0 ||
	    buf_append(&text, error, len) != 0) {
		buf_free(&text);
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
		return;
	}
	intent->owned = text.data;
	intent->body.data = text.data + text.start;
	intent->body.len = buf_len(&text);
}

/* The answer to a typed request has to be a typed response; its worker's failure is the
 * caller's error. */
static void
worker_resolve_typed(struct connection *c, struct intent *intent, const struct frame_view *payload)
{
	struct typed_response response;
	struct err err = { 0 };
	struct buf named = { 0 };
	char text[320];

	switch (typed_response_parse(payload->data, payload->len, &response, &err)) {
	case TYPED_COMPLETED:
		if (!response.has_worker_id &&
		    typed_response_with_worker(payload->data, payload->len, c->worker_id,
		    &named) == 0) {
			intent->owned = named.data;
			intent->body.data = named.data + named.start;
			intent->body.len = buf_len(&named);
		}
		break;
	case TYPED_FAILED:
		worker_resolve_failed(c, intent, response.error, strlen(response.error));
		break;
	case TYPED_RESULT_INVALID:
		snprintf(text, sizeof text, "its answer is not a typed response: %s", err.text);
		worker_resolve_failed(c, intent, text, strlen(text));
		return;
	}
	typed_response_free(&response);
}

void
worker_reply_frame(struct connection *c, const struct frame *frame)
{
	struct worker_job key = { .correlation = frame->u.push.correlation }, *job;
	struct intent *intent = turn_add(c, INTENT_RESOLVE);

	if (intent == NULL)
		return;
	intent->correlation = frame->u.push.correlation;
	intent->inbox_kind = INBOX_REPLY;
	intent->body = frame->u.push.payload;
	if (RB_EMPTY(&c->typed_jobs))
		return;
	job = RB_FIND(worker_jobs, &c->typed_jobs, &key);
	if (job != NULL) {
		RB_REMOVE(worker_jobs, &c->typed_jobs, job);
		free(job);
		worker_resolve_typed(c, intent, &frame->u.push.payload);
	}
}

int
worker_apply_resolve(struct connection *c, struct state_txn *txn, struct intent *intent,
    uint32_t *freed)
{
	struct inbox_entry entry;
	struct pushes_row push;
	int rc;

	intent->error = 0;
	rc = pushes_get(txn, c->peer->conn_id, intent->correlation, &push, NULL);
	if (rc == ERR_NOTFOUND) {
		intent->error = FRAME_REASON_OTHER;	/* ignored, counted */
		return 0;
	}
	if (rc == 0 && !(push.flags & PUSHES_NO_REPLY)) {
		memset(&entry, 0, sizeof entry);
		entry.kind = intent->inbox_kind;
		entry.code = intent->code;
		entry.request = push.request;
		entry.conn_id = c->peer->conn_id;
		entry.len = (uint32_t)intent->body.len;
		rc = inbox_post(txn, push.awaiter, push.awaiter_slot, &entry, intent->body.data);
	}
	if (rc == 0)
		rc = pushes_del(txn, c->peer->conn_id, intent->correlation);
	if (rc == 0 && push.kind == PUSHES_JOB)
		++*freed;
	return rc;
}

void
worker_done_resolve(struct connection *c, struct intent *intent)
{
	board_count(c->mine, intent->error == 0 ? BOARD_REPLIES : BOARD_REPLIES_IGNORED, 1);
}
