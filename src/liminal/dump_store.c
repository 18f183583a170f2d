/*
 * dump_store: the rows of the store's tables, through the functions of the files that own them.
 */
#include <string.h>

#include "liminal/dump.h"
#include "state/history_rows.h"

/* Key and row as they are; they are small, except those of history. */
static int
dump_take_row(struct dump_item *item, const struct state_view *key,
    const struct state_view *row)
{
	item->key_len = key->len < sizeof(item->key) ? key->len : sizeof(item->key);
	memcpy(item->key, key->data, item->key_len);
	item->row_len = row->len;
	return row->len == 0 ? 0 : buf_append(&item->text, row->data, row->len);
}

static struct state_view
dump_key_view(const struct dump_item *item)
{
	return (struct state_view){ item->key, item->key_len };
}

static struct state_view
dump_row_view(const struct dump_item *item)
{
	return (struct state_view){ buf_head(&item->text), buf_len(&item->text) };
}

/* ---- history ---- */

static void
dump_release_step(struct dump_item *item)
{
	record_free_operations(&item->u.operations);
}

static int
dump_copy_step(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	const struct state_view none = { NULL, 0 };
	uint64_t dispatch;
	uint32_t step;
	int rc;

	(void)txn;
	if ((rc = dump_take_row(item, key, &none)) != 0)
		return rc;
	item->row_len = row->len;
	rc = history_step_key_read(key, &dispatch, &step);
	if (rc == 0)
		rc = record_unpack_operations(row->data, row->len, &item->u.operations);
	if (rc == 0)
		item->release = dump_release_step;
	else if (rc == ERR_CORRUPT)
		item->reading = DUMP_UNREADABLE;
	return rc == ERR_CORRUPT ? 0 : rc;
}

static void
dump_put_text(struct listing *listing, const char *key, const struct frame_view *view)
{
	if (view->len > 0)
		listing_text(listing, key, view->data, view->len);
	else
		listing_absent(listing, key);
}

static void
dump_show_step(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct record_operations *row = &item->u.operations;
	const struct state_view key = dump_key_view(item);
	char names[256] = "";
	uint64_t dispatch = 0;
	uint32_t step = 0;
	size_t used = 0;

	(void)now_ns;
	history_step_key_read(&key, &dispatch, &step);
	for (uint32_t i = 0; i < row->n && i < RECORD_OPERATIONS_MAX && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
		    i > 0 ? ", " : "", row->list[i].kind <= RECORD_CONVERSATION_CLOSED ?
		    record_operation_names[row->list[i].kind] : "?");
	listing_number(listing, "dispatch", dispatch);
	listing_number(listing, "step", step);
	listing_string(listing, "operations", names);
	if (row->has_ordinal)
		listing_number(listing, "ordinal", row->ordinal);
	else
		listing_absent(listing, "ordinal");
	dump_put_text(listing, "conversation_id", &row->conversation_id);
	dump_put_text(listing, "channel", &row->channel);
	dump_put_text(listing, "activity_type", &row->activity_type);
	dump_put_text(listing, "worker_id", &row->worker_id);
	dump_put_text(listing, "message", &row->message);
	listing_number(listing, "code", row->code);
	listing_number(listing, "result_bytes", row->result.len);
	listing_time(listing, "time", row->at_ns);
}

/* ---- workflows ---- */

static int
dump_copy_workflow(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct history_workflow_key parts;
	struct history_outcome outcome;
	struct dump_item *item = arg;
	struct state_view rest = *row;
	struct frame_view channel;
	int rc;

	(void)txn;
	if ((rc = dump_take_row(item, key, row)) != 0)
		return rc;
	rc = history_workflow_key_read(key, &parts);
	if (rc == 0 && parts.kind == HISTORY_DISPATCH)
		rc = row->len == sizeof(int64_t) ? 0 : ERR_CORRUPT;
	else if (rc == 0) {
		while ((rc = history_outcome_next(&rest, &outcome, &channel)) == 0)
			continue;
		rc = rc == ERR_NOTFOUND ? 0 : rc;
	}
	if (rc != 0)
		item->reading = DUMP_UNREADABLE;
	return 0;
}

static void
dump_show_outcomes(struct listing *listing, const struct dump_item *item,
    const struct history_workflow_key *parts)
{
	struct state_view rest = dump_row_view(item);
	struct history_outcome outcome;
	struct frame_view channel;
	int n = 0;

	while (history_outcome_next(&rest, &outcome, &channel) == 0) {
		if (n++ > 0) {
			listing_end_row(listing);
			listing_begin_row(listing, state_table_names[STORE_WORKFLOWS]);
		}
		listing_text(listing, "workflow_id", parts->workflow.data, parts->workflow.len);
		listing_string(listing, "kind", "outcome");
		listing_number(listing, "ordinal", parts->n);
		listing_text(listing, "channel", channel.data, channel.len);
		listing_number(listing, "dispatch", outcome.dispatch);
		listing_number(listing, "step", outcome.step);
		listing_time(listing, "time", outcome.at_ns);
	}
}

static void
dump_show_workflow(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct state_view key = dump_key_view(item);
	struct history_workflow_key parts;
	int64_t at_ns;

	(void)now_ns;
	if (history_workflow_key_read(&key, &parts) != 0)
		return;
	if (parts.kind != HISTORY_DISPATCH) {
		dump_show_outcomes(listing, item, &parts);
		return;
	}
	memcpy(&at_ns, buf_head(&item->text), sizeof(at_ns));
	listing_text(listing, "workflow_id", parts.workflow.data, parts.workflow.len);
	listing_string(listing, "kind", "dispatch");
	listing_number(listing, "dispatch", parts.n);
	listing_time(listing, "time", at_ns);
}

/* ---- open, closed ---- */

static int
dump_copy_open(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct frame_view workflow;
	struct history_open open;
	int rc;

	(void)txn;
	if ((rc = dump_take_row(item, key, row)) != 0)
		return rc;
	if (key->len != HISTORY_OPEN_KEY_SIZE || history_open_read(row, &open, &workflow) != 0)
		item->reading = DUMP_UNREADABLE;
	return 0;
}

static void
dump_show_open(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct state_view row = dump_row_view(item);
	struct frame_view workflow;
	struct history_open open;

	(void)now_ns;
	if (history_open_read(&row, &open, &workflow) != 0)
		return;
	listing_number(listing, "conn_id", state_key_get(item->key));
	listing_number(listing, "request", state_key_get(item->key + 8));
	listing_number(listing, "dispatch", open.dispatch);
	listing_number(listing, "next_step", open.next_step);
	listing_text(listing, "workflow_id", workflow.data, workflow.len);
}

static int
dump_copy_closed(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	struct history_closed closed;
	struct frame_view workflow;
	int rc;

	(void)txn;
	if ((rc = dump_take_row(item, key, row)) != 0)
		return rc;
	if (key->len != 8 || history_closed_read(row, &closed, &workflow) != 0)
		item->reading = DUMP_UNREADABLE;
	return 0;
}

static void
dump_show_closed(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct state_view row = dump_row_view(item);
	struct history_closed closed;
	struct frame_view workflow;

	(void)now_ns;
	if (history_closed_read(&row, &closed, &workflow) != 0)
		return;
	listing_number(listing, "number", state_key_get(item->key));
	listing_number(listing, "dispatch", closed.dispatch);
	if (closed.has_outcome)
		listing_number(listing, "ordinal", closed.ordinal);
	else
		listing_absent(listing, "ordinal");
	listing_text(listing, "workflow_id", workflow.data, workflow.len);
	listing_time(listing, "time", closed.at_ns);
}

/* ---- meta ---- */

static int
dump_is_meta(const struct dump_item *item)
{
	return item->key_len == sizeof(HISTORY_META_KEY) - 1 &&
	    memcmp(item->key, HISTORY_META_KEY, item->key_len) == 0;
}

static int
dump_is_ended(const struct dump_item *item)
{
	return item->key_len == sizeof(HISTORY_ENDED_KEY) - 1 + 8 &&
	    memcmp(item->key, HISTORY_ENDED_KEY, sizeof(HISTORY_ENDED_KEY) - 1) == 0;
}

static int
dump_is_published(const struct dump_item *item)
{
	return item->key_len == sizeof(STORE_PUBLISHED_KEY) - 1 &&
	    memcmp(item->key, STORE_PUBLISHED_KEY, item->key_len) == 0;
}

static int
dump_copy_meta(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct dump_item *item = arg;
	int rc;

	if ((rc = dump_take_row(item, key, row)) != 0)
		return rc;
	if (dump_is_meta(item))
		item->reading = history_meta_get(txn, &item->u.history_meta) == 0 ?
		    DUMP_DECODED : DUMP_UNREADABLE;
	else if (dump_is_published(item))
		item->reading = store_published_get(txn, &item->u.published) == 0 ?
		    DUMP_DECODED : DUMP_UNREADABLE;
	else if (!dump_is_ended(item))
		item->reading = DUMP_RAW;
	return 0;
}

static void
dump_show_meta(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const struct history_meta *meta = &item->u.history_meta;

	(void)now_ns;
	if (dump_is_ended(item)) {
		listing_string(listing, "name", "ended");
		listing_number(listing, "conn_id",
		    state_key_get(item->key + sizeof(HISTORY_ENDED_KEY) - 1));
		return;
	}
	if (dump_is_published(item)) {
		listing_string(listing, "name", STORE_PUBLISHED_KEY);
		listing_bool(listing, "refused", item->u.published.is_refused);
		listing_time(listing, "time", item->u.published.now_ns);
		return;
	}
	listing_string(listing, "name", HISTORY_META_KEY);
	listing_number(listing, "epoch", meta->epoch);
	listing_number(listing, "applied", meta->applied);
	listing_number(listing, "next_dispatch", meta->next_dispatch);
	listing_number(listing, "next_close", meta->next_close);
}

const struct dump_table dump_store_tables[STORE_TABLES_END - STATE_N_TABLES] = {
	[STORE_HISTORY - STATE_N_TABLES] = { dump_copy_step, dump_show_step },
	[STORE_WORKFLOWS - STATE_N_TABLES] = { dump_copy_workflow, dump_show_workflow },
	[STORE_OPEN - STATE_N_TABLES] = { dump_copy_open, dump_show_open },
	[STORE_CLOSED - STATE_N_TABLES] = { dump_copy_closed, dump_show_closed },
	[STORE_META - STATE_N_TABLES] = { dump_copy_meta, dump_show_meta },
};
