/*
 * state_actions: what the daemon's processes do with the state, in a few lines each, for
 * tests of the state layer: connect, register, place a request, answer a push. Every function
 * returns 0 or a negative code and asserts nothing, so that forked processes can
 * use it too.
 */
#ifndef LIMINAL_T_UNIT_STATE_ACTIONS_H
#define LIMINAL_T_UNIT_STATE_ACTIONS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "state/connections.h"
#include "state/conversations.h"
#include "state/counters.h"
#include "state/end.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/pushes.h"
#include "state/workers.h"

/* What a worker registers; words are separated by blanks. */
struct worker_spec {
	const char *spaces;	/* NULL: "ns" */
	const char *types;	/* NULL: all */
	const char *node;	/* NULL: none */
	const char *identity;	/* NULL: "w" */
	uint32_t max;		/* 0: one */
	int not_ready;
};

/* What a request demands. */
struct request_spec {
	const char *space;	/* NULL: "ns" */
	const char *type;	/* NULL: any worker will do */
	const char *node;	/* NULL: none */
	const char *payload;	/* NULL: empty */
	uint32_t limit;		/* of the queue; 0: 1000 */
	uint64_t arrival;
	uint8_t flags;		/* PENDING_* */
};

enum act_outcome { ACT_PUSHED, ACT_QUEUED, ACT_REFUSED };

struct act_placed {
	enum act_outcome outcome;
	uint64_t worker, correlation;	/* ACT_PUSHED */
	struct pending_key where;	/* ACT_QUEUED */
};

static inline struct frame_view
act_view(const char *text)
{
	struct frame_view view = { (const uint8_t *)text, text == NULL ? 0 : strlen(text) };

	return view;
}

static inline struct pool_name
act_pool(const char *space)
{
	struct frame_view view = act_view(space == NULL ? "ns" : space), queue = act_view("q");
	struct pool_name name;

	memset(&name, 0, sizeof name);
	pool_name_set(&name, &view, &queue);
	return name;
}

/* The vec(string) of WORDS, in memory of OUT. */
static inline struct frame_vec
act_words(struct buf *out, const char *words)
{
	struct frame_vec vec = { 0, { NULL, 0 } };
	size_t n;

	for (; words != NULL && *words != '\0'; words += n + (words[n] == ' ')) {
		n = strcspn(words, " ");
		if (frame_encode_string(out, words, n) != 0)
			abort();
		vec.count++;
	}
	vec.encoded.data = buf_head(out);
	vec.encoded.len = buf_len(out);
	return vec;
}

static inline int
act_connect(struct state_txn *txn, uint64_t conn_id, uint32_t slot)
{
	struct connections_row row;

	memset(&row, 0, sizeof row);
	row.version = CONNECTIONS_VERSION;
	row.slot = slot;
	row.pid = (int32_t)conn_id;
	snprintf(row.peer, sizeof row.peer, "127.0.0.1:%llu", (unsigned long long)conn_id);
	return connections_put(txn, conn_id, &row);
}

static inline int
act_register(struct state_txn *txn, uint64_t conn_id, uint32_t slot, struct worker_spec spec,
    struct workers_pools *pools)
{
	struct buf spaces = { 0 }, types = { 0 };
	struct record_registration record;
	int rc;

	memset(&record, 0, sizeof record);
	record.namespaces = act_words(&spaces, spec.spaces == NULL ? "ns" : spec.spaces);
	record.activity_types = act_words(&types, spec.types);
	record.task_queue = act_view("q");
	record.node.present = spec.node != NULL;
	record.node.view = act_view(spec.node);
	record.identity = act_view(spec.identity == NULL ? "w" : spec.identity);
	record.max_concurrent = spec.max == 0 ? 1 : spec.max;
	rc = workers_register(txn, conn_id, slot, !spec.not_ready, &record, pools);
	buf_free(&spaces);
	buf_free(&types);
	return rc;
}

static inline struct pool_demand
act_demand(struct request_spec spec)
{
	struct pool_demand demand = { act_view(spec.type), act_view(spec.node),
	    (spec.flags & PENDING_NODE_REQUIRED) != 0 };

	return demand;
}

static inline int
act_push(struct state_txn *txn, uint64_t caller, uint32_t slot, uint64_t request,
    const struct frame_view *payload, struct pool_snapshot *pool, struct pool_worker *worker,
    struct act_placed *out)
{
	struct pushes_row push;

	memset(&push, 0, sizeof push);
	push.kind = PUSHES_JOB;
	push.awaiter = caller;
	push.awaiter_slot = slot;
	push.request = request;
	push.pool = pool->meta.id;
	worker->row.in_flight++;
	worker->changed = 1;
	out->outcome = ACT_PUSHED;
	out->worker = worker->conn_id;
	return pushes_add(txn, worker->conn_id, worker->row.slot, &push, payload,
	    &out->correlation);
}

static inline int
act_queue(struct state_txn *txn, uint64_t caller, uint32_t slot, uint64_t request,
    struct request_spec spec, struct pool_snapshot *pool, struct act_placed *out)
{
	struct pool_demand demand = act_demand(spec);
	struct frame_view payload = act_view(spec.payload);
	struct pending_row row;

	memset(&row, 0, sizeof row);
	row.flags = spec.flags;
	row.awaiter = caller;
	row.awaiter_slot = slot;
	row.request = request;
	out->outcome = ACT_QUEUED;
	return pending_add(txn, pool, spec.limit == 0 ? 1000 : spec.limit, spec.arrival, &row,
	    &demand, &payload, &out->where);
}

/* CALLER's request number REQUEST: to the first least loaded worker, or into the queue. */
static inline int
act_place(struct state_txn *txn, uint64_t caller, uint32_t slot, uint64_t request,
    struct request_spec spec, struct act_placed *out)
{
	struct pool_name name = act_pool(spec.space);
	struct pool_demand demand = act_demand(spec);
	struct frame_view payload = act_view(spec.payload);
	struct pool_snapshot pool;
	struct pool_worker *best = NULL, *worker;
	int rc, accepting = 0;
	size_t i;

	memset(out, 0, sizeof *out);
	out->outcome = ACT_REFUSED;
	memset(&pool, 0, sizeof pool);
	if ((rc = pool_snapshot_read(txn, &name, &pool)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	for (i = 0; rc >= 0 && i < pool.n; i++) {
		worker = &pool.workers[i];
		if ((rc = pool_accepts(txn, worker->conn_id, &worker->row, &demand)) != 1)
			continue;
		accepting++;
		if ((worker->row.flags & POOL_ROW_READY) &&
		    worker->row.in_flight < worker->row.max_concurrent &&
		    (best == NULL || worker->row.in_flight < best->row.in_flight))
			best = worker;
	}
	if (rc >= 0)
		rc = 0;
	if (rc == 0 && best != NULL)
		rc = act_push(txn, caller, slot, request, &payload, &pool, best, out);
	else if (rc == 0 && accepting > 0)
		rc = act_queue(txn, caller, slot, request, spec, &pool, out);
	if (rc == 0)
		rc = pool_snapshot_write(txn, &pool);
	pool_snapshot_free(&pool);
	return rc;
}

/* WORKER answers a push; *FREED counts what it then has room for. ERR_NOTFOUND: not its. */
static inline int
act_reply(struct state_txn *txn, uint64_t worker, uint64_t correlation, const void *body,
    size_t len, uint32_t *freed)
{
	struct inbox_entry entry;
	struct pushes_row push;
	int rc;

	if ((rc = pushes_get(txn, worker, correlation, &push, NULL)) != 0)
		return rc;
	if (!(push.flags & PUSHES_NO_REPLY)) {
		memset(&entry, 0, sizeof entry);
		entry.kind = INBOX_REPLY;
		entry.request = push.request;
		entry.conn_id = worker;
		entry.len = (uint32_t)len;
		rc = inbox_post(txn, push.awaiter, push.awaiter_slot, &entry, body);
	}
	if (rc == 0)
		rc = pushes_del(txn, worker, correlation);
	if (rc == 0 && push.kind == PUSHES_JOB)
		++*freed;
	return rc;
}

#endif
