/*
 * dump_rows: the rows of each table, through the functions of the files that own them. Payloads
 * are shown by their sizes: they may be large, and are nobody's business here.
 */
#include <stddef.h>
#include <string.h>

#include "liminal/dump.h"
#include "state/counters.h"
#include "state/history.h"
#include "state/registrations.h"
#include "state/workers.h"

/* The N-th number of a key. */
static uint64_t
dump_key(const struct dump_item *item, size_t n)
{
	return state_key_get(item->key + 8 * n);
}

/* Begin to copy a row whose key is N numbers (0: anything). 1 if it can go on. */
static int
dump_take(struct dump_item *item, const struct state_view *key, const struct state_view *row,
    size_t n)
{
	item->key_len = key->len < sizeof(item->key) ? key->len : sizeof(item->key);
	memcpy(item->key, key->data, item->key_len);
	item->row_len = row->len;
	if (n != 0 && key->len != 8 * n)
		item->reading = DUMP_UNREADABLE;
	return item->reading == DUMP_DECODED;
}

/* What does not read back is shown as such; only no memory ends the dump. */
static int
dump_judge(struct dump_item *item, int rc)
{
	if (rc == ERR_NOMEM)
		return rc;
	if (rc != 0)
		item->reading = DUMP_UNREADABLE;
	return 0;
}

/* ---- connections ---- */

static int
dump_copy_connection(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;

	if (!dump_take(item, key, row, 1))
		return 0;
	return dump_judge(item, connections_get(txn, dump_key(item, 0), &item->u.connection));
}

static void
dump_show_connection(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct connections_row *row = &item->u.connection;

	(void)now_ns;
	listing_number(listing, "conn_id", dump_key(item, 0));
	listing_number(listing, "pid", (uint64_t)row->pid);
	listing_number(listing, "slot", row->slot);
	listing_string(listing, "peer", row->peer);
	listing_bool(listing, "is_local", row->is_local);
	listing_string(listing, "role", row->is_worker ? "worker" : "client");
	listing_time(listing, "since", row->since_ns);
}

/* ---- workers ---- */

static void
dump_release_worker(struct dump_item *item)
{
	record_free_registration(&item->u.registration);
}

static int
dump_copy_worker(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	int rc;

	if (!dump_take(item, key, row, 1))
		return 0;
	rc = workers_get(txn, dump_key(item, 0), &item->u.registration);
	if (rc == 0)
		item->release = dump_release_worker;
	return dump_judge(item, rc);
}

static void
dump_show_worker(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct record_registration *row = &item->u.registration;

	(void)now_ns;
	listing_number(listing, "conn_id", dump_key(item, 0));
	listing_text(listing, "identity", row->identity.data, row->identity.len);
	listing_list(listing, "namespaces", &row->namespaces);
	listing_text(listing, "task_queue", row->task_queue.data, row->task_queue.len);
	if (row->node.present)
		listing_text(listing, "node", row->node.view.data, row->node.view.len);
	else
		listing_absent(listing, "node");
	listing_list(listing, "activity_types", &row->activity_types);
	listing_number(listing, "max_concurrent", row->max_concurrent);
	listing_number(listing, "sequence", row->sequence);
	listing_number(listing, "pools", row->pools.len / sizeof(uint64_t));
	listing_time(listing, "since", row->since_ns);
}

/* ---- pool ---- */

static int
dump_copy_pool(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;

	if (!dump_take(item, key, row, 2))
		return 0;
	return dump_judge(item,
	    pool_row_get(txn, dump_key(item, 0), dump_key(item, 1), &item->u.pool));
}

static void
dump_show_pool(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct pool_row *row = &item->u.pool;

	(void)now_ns;
	listing_number(listing, "pool_id", dump_key(item, 0));
	listing_number(listing, "conn_id", dump_key(item, 1));
	listing_number(listing, "slot", row->slot);
	listing_bool(listing, "ready", row->flags & POOL_ROW_READY);
	listing_bool(listing, "all_types", row->flags & POOL_ROW_ALL_TYPES);
	listing_bool(listing, "has_node", row->flags & POOL_ROW_HAS_NODE);
	listing_number(listing, "in_flight", row->in_flight);
	listing_number(listing, "max_concurrent", row->max_concurrent);
	listing_number(listing, "pools", row->n_pools);
	listing_number(listing, "sequence", row->sequence);
	listing_time(listing, "since", row->since_ns);
}

/* ---- pushes ---- */

static int
dump_copy_push(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct frame_view payload = { NULL, 0 };
	int rc;

	if (!dump_take(item, key, row, 2))
		return 0;
	rc = pushes_get(txn, dump_key(item, 0), dump_key(item, 1), &item->u.push, &payload);
	item->n_payload = payload.len;
	return dump_judge(item, rc);
}

static void
dump_show_push(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct pushes_row *row = &item->u.push;

	listing_number(listing, "target", dump_key(item, 0));
	listing_number(listing, "correlation_id", dump_key(item, 1));
	listing_string(listing, "kind", row->kind == PUSHES_JOB ? "job" :
	    row->kind == PUSHES_DIRECT ? "direct" : "?");
	listing_bool(listing, "typed", row->flags & PUSHES_TYPED);
	listing_bool(listing, "no_reply", row->flags & PUSHES_NO_REPLY);
	listing_number(listing, "awaiter", row->awaiter);
	listing_number(listing, "awaiter_slot", row->awaiter_slot);
	listing_number(listing, "request", row->request);
	listing_number(listing, "pool_id", row->pool);
	listing_age(listing, "age_ms", row->since_ns, now_ns);
	listing_number(listing, "payload_bytes", item->n_payload);
}

/* ---- inbox ---- */

struct dump_inbox { const unsigned *rows; struct buf *entries; };

static int
dump_note_entry(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct dump_inbox *inbox = arg;

	(void)body;
	/* The walk goes on to the next rows; only the first one was asked for. */
	if (*inbox->rows > 1)
		return 1;
	return buf_append(inbox->entries, entry, sizeof(*entry));
}

static int
dump_copy_inbox(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	unsigned rows = 0;
	struct dump_inbox inbox = { &rows, &item->text };
	int rc;

	if (!dump_take(item, key, row, 2))
		return 0;
	rc = inbox_read(txn, dump_key(item, 0), dump_key(item, 1) - 1, &rows, dump_note_entry,
	    &inbox);
	/* A fault in a later row is not this one's. */
	return dump_judge(item, rc == 1 || (rc == ERR_CORRUPT && rows > 1) ? 0 : rc);
}

static const char *
dump_inbox_kind(uint32_t kind)
{
	static const char *const names[] = {
		[INBOX_REPLY] = "reply", [INBOX_FAILED] = "failed",
		[INBOX_WORKER_EXITED] = "worker_exited", [INBOX_NO_WORKERS] = "no_workers",
		[INBOX_STARTED] = "started", [INBOX_DISCONNECTED] = "disconnected",
		[INBOX_NOTIFY_SHUTDOWN] = "notify_shutdown",
		[INBOX_FORCE_CLOSE] = "force_close",
		[INBOX_RECORDED] = "recorded", [INBOX_NOTIFIED] = "notified",
		[INBOX_ROUTED] = "routed", [INBOX_OPERATIONS] = "operations",
		[INBOX_CALLER_ENDED] = "caller_ended", [INBOX_REGISTER] = "register",
		[INBOX_UNREGISTER] = "unregister", [INBOX_PUBLISH] = "publish",
		[INBOX_ROUTE] = "route",
	};

	return kind < sizeof(names) / sizeof(names[0]) && names[kind] != NULL ?
	    names[kind] : "?";
}

/* Whose inbox it is: a connection's, or a service's. */
static void
dump_show_owner(struct listing *listing, uint64_t target)
{
	uint64_t kind = UINT64_MAX - target;

	if (!INBOX_IS_SERVICE(target)) {
		listing_number(listing, "conn_id", target);
		listing_absent(listing, "service");
		return;
	}
	listing_absent(listing, "conn_id");
	listing_string(listing, "service", kind > BOARD_FREE && kind <= BOARD_N_SERVICES ?
	    board_service_names[BOARD_SERVICE_SLOT(kind)] : "?");
}

/* A row is a batch: one line for each entry. */
static void
dump_show_inbox(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const uint8_t *at = buf_head(&item->text);
	size_t n = buf_len(&item->text) / sizeof(struct inbox_entry);
	struct inbox_entry entry;

	(void)now_ns;
	for (size_t i = 0; i < n; i++) {
		if (i > 0) {
			listing_end_row(listing);
			listing_begin_row(listing, state_table_names[STATE_INBOX]);
		}
		memcpy(&entry, at + i * sizeof(entry), sizeof(entry));
		dump_show_owner(listing, dump_key(item, 0));
		listing_number(listing, "id", dump_key(item, 1));
		listing_string(listing, "kind", dump_inbox_kind(entry.kind));
		listing_number(listing, "request", entry.request);
		listing_number(listing, "from", entry.conn_id);
		listing_number(listing, "code", entry.code);
		listing_number(listing, "body_bytes", entry.len);
	}
}

/* ---- pending ---- */

static int
dump_copy_pending(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct pending_item pending;
	struct pending_key where;
	int rc;

	if (!dump_take(item, key, row, 3))
		return 0;
	where = (struct pending_key){ dump_key(item, 0), dump_key(item, 1), dump_key(item, 2) };
	if ((rc = pending_get(txn, &where, &pending)) != 0)
		return dump_judge(item, rc);
	item->u.pending = pending.row;
	item->n_payload = pending.payload.len;
	rc = buf_append(&item->text, pending.demand.type.data, pending.demand.type.len);
	if (rc == 0)
		rc = buf_append(&item->text, pending.demand.node.data, pending.demand.node.len);
	return rc;
}

static void
dump_show_pending(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct pending_row *row = &item->u.pending;
	const uint8_t *type = buf_head(&item->text);

	listing_number(listing, "pool_id", dump_key(item, 0) & ~PENDING_ROUTING);
	listing_bool(listing, "routing", row->flags & PENDING_ASKED);
	listing_number(listing, "lane", dump_key(item, 1));
	listing_number(listing, "arrival", dump_key(item, 2));
	listing_bool(listing, "typed", row->flags & PENDING_TYPED);
	listing_number(listing, "awaiter", row->awaiter);
	listing_number(listing, "awaiter_slot", row->awaiter_slot);
	listing_number(listing, "request", row->request);
	if (row->type_len > 0)
		listing_text(listing, "activity_type", type, row->type_len);
	else
		listing_absent(listing, "activity_type");
	if (row->node_len > 0)
		listing_text(listing, "node", type + row->type_len, row->node_len);
	else
		listing_absent(listing, "node");
	listing_bool(listing, "node_required", row->flags & PENDING_NODE_REQUIRED);
	listing_age(listing, "age_ms", row->since_ns, now_ns);
	listing_number(listing, "payload_bytes", item->n_payload);
}

/* ---- conversations ---- */

static void
dump_release_conversation(struct dump_item *item)
{
	record_free_conversation(&item->u.conversation);
}

static int
dump_copy_conversation(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	int rc;

	(void)txn;
	if (!dump_take(item, key, row, 2))
		return 0;
	rc = record_unpack_conversation(row->data, row->len, &item->u.conversation);
	if (rc == 0)
		item->release = dump_release_conversation;
	return dump_judge(item, rc);
}

static void
dump_show_conversation(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct record_conversation *row = &item->u.conversation;

	(void)now_ns;
	listing_number(listing, "conn_id", dump_key(item, 0));
	listing_number(listing, "conversation_id", dump_key(item, 1));
	listing_text(listing, "subject", row->subject.data, row->subject.len);
	listing_text(listing, "uuid", row->uuid.data, row->uuid.len);
	listing_string(listing, "phase", record_phase_names[row->phase]);
	listing_string(listing, "participant", record_participant_names[row->participant]);
	listing_number(listing, "target", row->target);
	listing_time(listing, "since", row->since_ns);
}

/* ---- counters ---- */

#define DUMP_COUNT_PREFIX	"count/"	/* state/counters.h */
#define DUMP_POOL_PREFIX	"pool/"		/* state/pool.h */
#define DUMP_STORE_PREFIX	"store/"	/* state/history.h: texts */

/* What follows PREFIX in the key, or NULL. */
static const char *
dump_name(const struct dump_item *item, const char *prefix, size_t *len)
{
	size_t n = strlen(prefix);

	if (item->key_len <= n || memcmp(item->key, prefix, n) != 0)
		return NULL;
	*len = item->key_len - n;
	return (const char *)item->key + n;
}

static int
dump_copy_counter(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct pool_name name;
	const char *text;
	size_t len;
	int rc = 0;

	dump_take(item, key, row, 0);
	if ((text = dump_name(item, DUMP_POOL_PREFIX, &len)) != NULL &&
	    len <= sizeof(name.text)) {
		memcpy(name.text, text, len);
		name.len = len;
		rc = pool_meta_get(txn, &name, &item->u.meta);
	} else if (dump_name(item, DUMP_STORE_PREFIX, &len) != NULL) {
		rc = row->len == 0 ? 0 : buf_append(&item->text, row->data, row->len);
	} else if (row->len == sizeof(item->u.counter)) {
		memcpy(&item->u.counter, row->data, row->len);
	} else {
		item->reading = DUMP_RAW;
	}
	return dump_judge(item, rc);
}

static void
dump_show_counter(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct pool_meta *meta = &item->u.meta;
	const char *text;
	size_t len;

	(void)now_ns;
	if ((text = dump_name(item, DUMP_POOL_PREFIX, &len)) != NULL) {
		listing_text(listing, "pool", text, len);
		listing_number(listing, "pool_id", meta->id);
		listing_number(listing, "workers", meta->n_workers);
		listing_number(listing, "pending", meta->n_pending);
		listing_number(listing, "last_selected", meta->last_selected);
		return;
	}
	if (dump_name(item, DUMP_STORE_PREFIX, &len) != NULL) {
		listing_text(listing, "name", item->key, item->key_len);
		listing_text(listing, "text", buf_head(&item->text), buf_len(&item->text));
		return;
	}
	if ((text = dump_name(item, DUMP_COUNT_PREFIX, &len)) == NULL) {
		text = (const char *)item->key;
		len = item->key_len;
	}
	listing_text(listing, "name", text, len);
	listing_number(listing, "value", item->u.counter);
}

/* ---- registrations, operations ---- */

static int
dump_copy_asked(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	struct dump_item *item = arg;
	enum registrations_phase phase;
	int rc;

	if (!dump_take(item, key, row, 2))
		return 0;
	rc = registrations_get(txn, dump_key(item, 0), dump_key(item, 1), &phase, NULL, NULL);
	if (rc == 0)
		item->u.counter = (uint64_t)phase;
	return dump_judge(item, rc);
}

static void
dump_show_asked(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	static const char *const phases[] = {
		[REGISTRATIONS_ASKED] = "asked", [REGISTRATIONS_ACCEPTED] = "accepted",
		[REGISTRATIONS_WITHDRAWN] = "withdrawn", [REGISTRATIONS_DUE] = "due",
	};

	(void)now_ns;
	listing_number(listing, "conn_id", dump_key(item, 0));
	listing_number(listing, "registration", dump_key(item, 1));
	listing_string(listing, "phase", phases[item->u.counter]);
}

static int
dump_copy_operations(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct history_step step;
	int rc;

	(void)txn;
	if (!dump_take(item, key, row, 2))
		return 0;
	rc = history_step_unpack(row->data, row->len, &step);
	if (rc == 0)
		rc = buf_append(&item->text, step.workflow_id.data, step.workflow_id.len);
	return dump_judge(item, rc);
}

static void
dump_show_operations(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	(void)now_ns;
	listing_number(listing, "conn_id", dump_key(item, 0));
	listing_number(listing, "request", dump_key(item, 1));
	listing_text(listing, "workflow_id", buf_head(&item->text), buf_len(&item->text));
}

const struct dump_table dump_tables[STATE_N_TABLES] = {
	[STATE_CONNECTIONS] = { dump_copy_connection, dump_show_connection },
	[STATE_WORKERS] = { dump_copy_worker, dump_show_worker },
	[STATE_POOL] = { dump_copy_pool, dump_show_pool },
	[STATE_PUSHES] = { dump_copy_push, dump_show_push },
	[STATE_INBOX] = { dump_copy_inbox, dump_show_inbox },
	[STATE_PENDING] = { dump_copy_pending, dump_show_pending },
	[STATE_CONVERSATIONS] = { dump_copy_conversation, dump_show_conversation },
	[STATE_COUNTERS] = { dump_copy_counter, dump_show_counter },
	[STATE_REGISTRATIONS] = { dump_copy_asked, dump_show_asked },
	[STATE_OPERATIONS] = { dump_copy_operations, dump_show_operations },
};
