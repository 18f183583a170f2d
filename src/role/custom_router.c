/*
 * The router's process: see custom_router.h.
 *
 * One question at a time: look, ask the module, place. Between looking and placing others go
 * on, so placing looks again; only the module's choice is carried over.
 */
#include <liminal/router.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/custom_router.h"
#include "role/module.h"
#include "role/router.h"
#include "state/workers.h"

/* How often the module is asked about one request whose chosen workers are gone each time. */
#define ROUTING_TRIES		8
/* Memory for one question beyond this is given back. */
#define ROUTING_KEEP		(1024 * 1024)
#define ROUTING_LOG_BURST	5
#define ROUTING_LOG_WINDOW_NS	(10 * CLOCK_SECOND)

/* The question at hand. Its memory is kept for the next one. */
struct routing {
	const char **argv;		/* of init; the module may hold on to it */
	struct module *module;
	const struct inbox_entry *entry;
	struct custom_router_question question;

	struct pool_snapshot pool;
	struct router_candidates candidates;
	struct buf text;		/* what the pointers below point to */
	uint8_t *at;			/* the free part of it */
	struct liminal_router_request request;
	struct liminal_router_worker *workers;
	const char **excluded;
	size_t n_workers, size_workers, size_excluded;

	uint64_t chosen;		/* conn id; 0 = nobody was there to choose from */
	uint16_t code;			/* of a refusal */
	char reason[512];
};

/* The head of a packed question; the parts follow in this order. */
struct routing_head {
	struct pending_key where;
	uint32_t n_excluded, pool_len, workflow_len, ids_len;
};

int
custom_router_pack(const struct custom_router_question *question, struct buf *out)
{
	struct routing_head head = {
		.where = question->where, .n_excluded = (uint32_t)question->n_excluded,
		.pool_len = (uint32_t)question->pool.len,
		.workflow_len = (uint32_t)question->workflow_id.len,
		.ids_len = (uint32_t)question->excluded_ids.len
	};
	int rc;

	rc = buf_append(out, &head, sizeof head);
	if (rc == 0 && head.n_excluded > 0)
		rc = buf_append(out, question->excluded, head.n_excluded * sizeof(uint64_t));
	if (rc == 0)
		rc = buf_append(out, question->pool.text, head.pool_len);
	if (rc == 0 && head.workflow_len > 0)
		rc = buf_append(out, question->workflow_id.data, head.workflow_len);
	if (rc == 0)
		rc = buf_append(out, "", 1);
	if (rc == 0 && head.ids_len > 0)
		rc = buf_append(out, question->excluded_ids.data, head.ids_len);
	return rc;
}

int
custom_router_unpack(const void *body, size_t len, struct custom_router_question *question)
{
	const uint8_t *at = body;
	struct routing_head head;
	size_t i, ids = 0;

	if (len < sizeof head)
		return ERR_CORRUPT;
	memcpy(&head, at, sizeof head);
	at += sizeof head;
	if (head.pool_len > sizeof question->pool.text || len != sizeof head + 1 +
	    (uint64_t)head.n_excluded * sizeof(uint64_t) + head.pool_len +
	    (uint64_t)head.workflow_len + head.ids_len)
		return ERR_CORRUPT;
	memset(question, 0, sizeof *question);
	question->where = head.where;
	question->excluded = (const void *)at;
	question->n_excluded = head.n_excluded;
	at += head.n_excluded * sizeof(uint64_t);
	memcpy(question->pool.text, at, head.pool_len);
	question->pool.len = head.pool_len;
	at += head.pool_len;
	question->workflow_id = (struct frame_view){ at, head.workflow_len };
	at += head.workflow_len + 1;
	question->excluded_ids = (struct frame_view){ at, head.ids_len };
	for (i = 0; i < head.ids_len; i++)
		ids += at[i] == '\0';
	return at[-1] == '\0' && ids == head.n_excluded ? 0 : ERR_CORRUPT;
}

int
custom_router_ask(struct state_txn *txn, uint64_t conn_id, uint64_t request,
    const struct custom_router_question *question)
{
	struct inbox_entry entry;
	struct buf body = { 0 };
	int rc;

	if ((rc = custom_router_pack(question, &body)) == 0) {
		memset(&entry, 0, sizeof entry);
		entry.kind = INBOX_ROUTE;
		entry.conn_id = conn_id;
		entry.request = request;
		entry.len = (uint32_t)buf_len(&body);
		rc = inbox_post(txn, INBOX_SERVICE(BOARD_ROUTER),
		    BOARD_SERVICE_SLOT(BOARD_ROUTER), &entry, buf_head(&body));
	}
	buf_free(&body);
	return rc;
}

/* What the module gets to see. */

/* A terminated copy in the room that was reserved. */
static const char *
routing_copy(struct routing *r, const void *bytes, size_t len)
{
	uint8_t *to = r->at;

	if (len > 0)
		memcpy(to, bytes, len);
	to[len] = '\0';
	r->at += len + 1;
	return (const char *)to;
}

static int
routing_reserve(struct routing *r, const struct pending_item *item)
{
	size_t n = r->n_workers + 1, n_excluded = r->question.n_excluded + 1, size;
	void *more;

	if (n > r->size_workers) {
		if ((more = realloc(r->workers, n * sizeof *r->workers)) == NULL)
			return ERR_NOMEM;
		r->workers = more;
		r->size_workers = n;
	}
	if (n_excluded > r->size_excluded) {
		if ((more = realloc(r->excluded, n_excluded * sizeof *r->excluded)) == NULL)
			return ERR_NOMEM;
		r->excluded = more;
		r->size_excluded = n_excluded;
	}
	size = sizeof POOL_SUBJECT_PREFIX + r->question.pool.len + item->demand.type.len +
	    item->demand.node.len + item->payload.len + 4 +
	    r->n_workers * (WORKERS_ID_SIZE + WORKERS_IDENTITY_MAX + 1);
	buf_consume(&r->text, buf_len(&r->text));
	buf_trim(&r->text, ROUTING_KEEP);
	r->at = buf_reserve(&r->text, size);
	return r->at == NULL ? ERR_NOMEM : 0;
}

static void
routing_show_request(struct routing *r, const struct pending_item *item)
{
	const char *id = (const char *)r->question.excluded_ids.data;
	uint8_t *channel = r->at;
	size_t i;

	memset(&r->request, 0, sizeof r->request);
	memcpy(channel, POOL_SUBJECT_PREFIX, sizeof POOL_SUBJECT_PREFIX - 1);
	r->at += sizeof POOL_SUBJECT_PREFIX - 1;
	routing_copy(r, r->question.pool.text, r->question.pool.len);
	r->request.channel = (const char *)channel;
	if (r->question.workflow_id.len > 0)
		r->request.workflow_id = (const char *)r->question.workflow_id.data;
	if (item->demand.type.len > 0)
		r->request.activity_type = routing_copy(r, item->demand.type.data,
		    item->demand.type.len);
	if (item->demand.node.len > 0)
		r->request.node = routing_copy(r, item->demand.node.data, item->demand.node.len);
	r->request.node_required = item->demand.node_required;
	r->request.payload = routing_copy(r, item->payload.data, item->payload.len);
	r->request.length = item->payload.len;
	for (i = 0; i < r->question.n_excluded; i++, id += strlen(id) + 1)
		r->excluded[i] = id;
	r->request.excluded = r->excluded;
	r->request.n_excluded = r->question.n_excluded;
}

static int
routing_show_worker(struct routing *r, struct state_txn *txn, const struct pool_worker *worker,
    struct liminal_router_worker *out)
{
	const struct record_registration *registration;
	int rc, len;

	rc = workers_known(txn, worker->conn_id, worker->row.sequence, &registration);
	if (rc != 0)
		return rc;
	*out = (struct liminal_router_worker){
		.conn_id = worker->conn_id, .in_flight = worker->row.in_flight,
		.max_concurrent = worker->row.max_concurrent, .since = worker->row.since_ns
	};
	if (registration->node.present)
		out->node = routing_copy(r, registration->node.view.data,
		    registration->node.view.len);
	out->worker_id = (const char *)r->at;
	len = snprintf((char *)r->at, WORKERS_ID_SIZE, "%.*s#%llu",
	    (int)registration->identity.len, registration->identity.len > 0 ?
	    (const char *)registration->identity.data : "",
	    (unsigned long long)worker->conn_id);
	r->at += len + 1;
	return 0;
}

static int
routing_find_candidates(struct routing *r, struct state_txn *txn,
    const struct pending_item *item)
{
	int rc = pool_snapshot_read(txn, &r->question.pool, &r->pool);

	return rc != 0 ? rc : router_find_candidates(txn, &r->pool, &item->demand,
	    r->question.excluded, r->question.n_excluded, &r->candidates);
}

/* Everything is copied: nothing of the map is in the module's hands, and no transaction open. */
static int
routing_look(struct routing *r)
{
	struct pending_item item;
	struct state_txn *txn;
	size_t i;
	int rc;

	if ((rc = state_begin_read(r->module->state, &txn)) != 0)
		return rc;
	if ((rc = pending_get(txn, &r->question.where, &item)) == 0 &&
	    (rc = routing_find_candidates(r, txn, &item)) == 0) {
		r->n_workers = r->candidates.n < LIMINAL_ROUTER_WORKERS_MAX ? r->candidates.n :
		    LIMINAL_ROUTER_WORKERS_MAX;
		rc = routing_reserve(r, &item);
	}
	if (rc == 0)
		routing_show_request(r, &item);
	for (i = 0; rc == 0 && i < r->n_workers; i++)
		rc = routing_show_worker(r, txn, r->candidates.list[i], &r->workers[i]);
	state_abort(txn);
	return rc;
}

/* What comes of it. */

static int
routing_apply_refusal(struct state_txn *txn, void *arg)
{
	struct pending_item item;
	struct routing *r = arg;
	int rc = pending_get(txn, &r->question.where, &item);

	if (rc != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	return pending_refuse(txn, &r->question.pool, &item, r->code, r->reason);
}

static int __attribute__((format(printf, 3, 4)))
routing_refuse(struct routing *r, uint16_t code, const char *fmt, ...)
{
	va_list ap;

	r->code = code;
	va_start(ap, fmt);
	vsnprintf(r->reason, sizeof r->reason, fmt, ap);
	va_end(ap);
	return module_write(r->module, routing_apply_refusal, r);
}

static int
routing_queue(struct routing *r, struct state_txn *txn, const struct pending_item *item)
{
	struct pending_key where = r->question.where;
	struct pending_row row = item->row;
	struct inbox_entry entry;
	int rc;

	if ((rc = pending_queue(txn, &r->question.pool, &where)) != 0)
		return rc;
	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_ROUTED;
	entry.request = row.request;
	return inbox_post(txn, row.awaiter, row.awaiter_slot, &entry, NULL);
}

static int
routing_give(struct routing *r, struct state_txn *txn, const struct pending_item *item,
    struct pool_worker *worker)
{
	int rc;

	rc = workers_take(txn, worker->conn_id, worker->row.slot, item, &r->question.pool);
	if (rc != 0)
		return rc;
	worker->row.in_flight++;
	worker->changed = 1;
	return pool_snapshot_write(txn, &r->pool);
}

/* Give it to the chosen worker, or queue it. ERR_BUSY: that one is taken, others are there. */
static int
routing_apply(struct state_txn *txn, void *arg)
{
	struct pending_item item;
	struct routing *r = arg;
	size_t i;
	int rc;

	if ((rc = pending_get(txn, &r->question.where, &item)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;	/* nobody wants it any more */
	if ((rc = routing_find_candidates(r, txn, &item)) != 0)
		return rc;
	if (r->candidates.n_accepting == 0)
		return pending_refuse(txn, &r->question.pool, &item, FRAME_REASON_NO_WORKER,
		    ROUTER_NO_WORKERS);
	if (!state_fits(txn, item.payload.len))
		return pending_refuse(txn, &r->question.pool, &item, FRAME_REASON_PRESSURE,
		    STATE_FULL_TEXT);
	if (r->candidates.n == 0)
		return routing_queue(r, txn, &item);
	for (i = 0; i < r->candidates.n; i++)
		if (r->candidates.list[i]->conn_id == r->chosen)
			return routing_give(r, txn, &item,
			    &r->pool.workers[r->candidates.list[i] - r->pool.workers]);
	return ERR_BUSY;
}

/* The module. */

static struct routing routing;

/* What a module wrote becomes text that can go to a peer. */
static void
routing_clean(char *text)
{
	int is_utf8 = frame_is_utf8((const uint8_t *)text, strlen(text));

	for (; *text != '\0'; text++)
		if ((uint8_t)*text < 0x20 || *text == 0x7f || (!is_utf8 && (uint8_t)*text >= 0x80))
			*text = '?';
}

/* 0: CHOSEN is set; ERR_INVALID: there is no choice, and the code and the reason are. */
static int
routing_select(struct routing *r)
{
	const struct liminal_router *router = r->module->symbol;
	char reason[256] = "";
	long choice;

	module_begin(r->module, r->entry);
	choice = router->select(&r->request, r->workers, r->n_workers, reason, sizeof reason);
	module_end(r->module, (uint64_t)choice);
	if (choice >= 0 && (unsigned long)choice < r->n_workers) {
		r->chosen = r->workers[choice].conn_id;
		return 0;
	}
	if (choice != -1) {
		r->code = FRAME_REASON_OTHER;
		snprintf(r->reason, sizeof r->reason, ROUTER_NO_CANDIDATE
		    " (index %ld of %zu)", choice, r->n_workers);
		return ERR_INVALID;
	}
	reason[sizeof reason - 1] = '\0';
	routing_clean(reason);
	r->code = FRAME_REASON_NO_WORKER;
	snprintf(r->reason, sizeof r->reason, "NoWorkersAvailable: the dispatch router selected "
	    "none of %zu workers%s%s", r->n_workers, reason[0] != '\0' ? ": " : "", reason);
	return ERR_INVALID;
}

static void
routing_log(const struct routing *r, const char *what)
{
	static struct log_limit limit;
	unsigned held;

	if (log_limit_allows(&limit, ROUTING_LOG_BURST, ROUTING_LOG_WINDOW_NS, &held))
		log_warnx("router conn=%llu failed: %s suppressed=%u",
		    (unsigned long long)r->entry->conn_id, what, held);
}

static int
custom_router_handle(struct module *module, const struct inbox_entry *entry, const void *body,
    enum board_call lost)
{
	struct routing *r = &routing;
	int rc, tries;

	r->module = module;
	r->entry = entry;
	if (entry->kind != INBOX_ROUTE ||
	    custom_router_unpack(body, entry->len, &r->question) != 0) {
		routing_log(r, "a question that cannot be read");
		return 0;
	}
	if (lost == BOARD_CALL_BEGUN) {
		routing_log(r, "the module's process ended during the call");
		return routing_refuse(r, FRAME_REASON_OTHER, "dispatch router: its module crashed, "
		    "or took longer than router_timeout (%lld ms), while it selected a worker",
		    (long long)(module->timeout_ns / CLOCK_MS));
	}
	for (tries = 0; tries < ROUTING_TRIES; tries++) {
		if ((rc = routing_look(r)) != 0)
			return rc == ERR_NOTFOUND ? 0 : rc;
		r->chosen = 0;
		if (r->n_workers > 0 && routing_select(r) != 0) {
			if (r->code != FRAME_REASON_NO_WORKER)
				routing_log(r, r->reason);
			return module_write(module, routing_apply_refusal, r);
		}
		if ((rc = module_write(module, routing_apply, r)) != ERR_BUSY)
			return rc;
	}
	return routing_refuse(r, FRAME_REASON_OTHER, "dispatch router: each of the %d workers that "
	    "it selected was gone or busy by then", ROUTING_TRIES);
}

static int
custom_router_start(struct module *module, const void *symbol, struct err *err)
{
	const struct liminal_router *router = symbol;
	const char **argv;
	unsigned i;
	int rc;

	if (router->select == NULL)
		return err_set(err, ERR_INVALID, "router module %s has no select", module->path);
	if (router->init == NULL)
		return 0;
	if ((argv = calloc(module->args->n + 1, sizeof *argv)) == NULL)
		return err_set(err, ERR_INVALID, "out of memory for dispatch router_args");
	routing.argv = argv;
	for (i = 0; i < module->args->n; i++)
		argv[i] = module->args->texts[i];
	if ((rc = router->init((int)module->args->n, argv)) != 0)
		return err_set(err, ERR_INVALID, "router module %s: init returned %d",
		    module->path, rc);
	return 0;
}

static const struct module_kind custom_router_kind = {
	.service = BOARD_ROUTER, .name = "router", .symbol = "liminal_router",
	.header = "liminal/router.h", .version = LIMINAL_ROUTER_VERSION,
	.start = custom_router_start, .handle = custom_router_handle
};

int
router_main(const struct role_context *context, int control)
{
	const struct conf *conf = context->conf;

	return module_main(&custom_router_kind, context, control, conf->router_module,
	    &conf->router_args, conf->router_timeout_ns);
}
