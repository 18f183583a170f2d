/* Steps on their way to the store, and what readers of the record need. */
#include <string.h>

#include "base/clock.h"
#include "state/history.h"
#include "state/history_rows.h"

#define HISTORY_BODY_VERSION	1
/* In the counters of the state. */
#define HISTORY_FAULT_KEY	"store/fault"

/* The head of an INBOX_OPERATIONS body; workflow id, channel and image follow. */
struct history_body {
	uint16_t version;
	uint8_t has_ordinal, pad;
	uint32_t flags;
	uint32_t awaiter_slot;
	uint32_t workflow_len, channel_len, image_len;
	uint64_t ordinal;
};

static int
history_is_workflow(const struct frame_view *id)
{
	return id->len > 0 && id->len <= HISTORY_WORKFLOW_MAX &&
	    memchr(id->data, '\0', id->len) == NULL;
}

static uint8_t *
history_put_view(uint8_t *at, const struct frame_view *view)
{
	if (view->len > 0)
		memcpy(at, view->data, view->len);
	return at + view->len;
}

int
history_step_pack(const struct history_step *step, struct buf *out)
{
	struct history_body body = {
		.version = HISTORY_BODY_VERSION, .has_ordinal = step->has_ordinal != 0,
		.flags = step->flags, .awaiter_slot = step->awaiter_slot,
		.workflow_len = (uint32_t)step->workflow_id.len,
		.channel_len = (uint32_t)step->channel.len,
		.image_len = (uint32_t)step->image.len, .ordinal = step->ordinal
	};
	size_t size = sizeof body + step->workflow_id.len + step->channel.len + step->image.len;
	uint8_t *at;

	if (!history_is_workflow(&step->workflow_id))
		return ERR_INVALID;
	if ((at = buf_reserve(out, size)) == NULL)
		return ERR_NOMEM;
	memcpy(at, &body, sizeof body);
	at = history_put_view(at + sizeof body, &step->workflow_id);
	at = history_put_view(at, &step->channel);
	history_put_view(at, &step->image);
	buf_commit(out, size);
	return 0;
}

int
history_step_unpack(const void *bytes, size_t len, struct history_step *step)
{
	const uint8_t *at = bytes;
	struct history_body body;

	if (len < sizeof body)
		return ERR_CORRUPT;
	memcpy(&body, at, sizeof body);
	if (body.version != HISTORY_BODY_VERSION ||
	    len - sizeof body != (uint64_t)body.workflow_len + body.channel_len + body.image_len)
		return ERR_CORRUPT;
	at += sizeof body;
	step->flags = body.flags;
	step->awaiter_slot = body.awaiter_slot;
	step->has_ordinal = body.has_ordinal != 0;
	step->ordinal = body.ordinal;
	step->workflow_id.data = at;
	step->workflow_id.len = body.workflow_len;
	step->channel.data = at += body.workflow_len;
	step->channel.len = body.channel_len;
	step->image.data = at + body.channel_len;
	step->image.len = body.image_len;
	return history_is_workflow(&step->workflow_id) ? 0 : ERR_CORRUPT;
}

int
history_fault(struct state_txn *txn, char *text, size_t size)
{
	struct state_view row;
	size_t len;
	int rc;

	rc = state_get(txn, STATE_COUNTERS, HISTORY_FAULT_KEY, sizeof HISTORY_FAULT_KEY - 1, &row);
	if (rc != 0 || size == 0)
		return rc;
	len = row.len < size ? row.len : size - 1;
	memcpy(text, row.data, len);
	text[len] = '\0';
	return 0;
}

int
history_set_fault(struct state_txn *txn, const char *text)
{
	int rc;

	if (text != NULL)
		return state_put(txn, STATE_COUNTERS, HISTORY_FAULT_KEY,
		    sizeof HISTORY_FAULT_KEY - 1, text, strlen(text));
	rc = state_del(txn, STATE_COUNTERS, HISTORY_FAULT_KEY, sizeof HISTORY_FAULT_KEY - 1);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
history_where(struct state_txn *txn, const struct frame_view *workflow,
    const struct frame_view *channel, uint64_t ordinal, int64_t keep_age_ns,
    struct history_outcome *out)
{
	struct history_workflow_key parts = {
		*workflow, HISTORY_OUTCOME, ordinal, history_channel_hash(channel)
	};
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX];
	struct frame_view found;
	struct state_view row;
	int rc;

	if (!history_is_workflow(workflow))
		return ERR_NOTFOUND;
	rc = state_get(txn, STORE_WORKFLOWS, key, history_workflow_key(key, &parts), &row);
	while (rc == 0) {
		if ((rc = history_outcome_next(&row, out, &found)) != 0)
			break;
		if (found.len == channel->len && memcmp(found.data, channel->data, found.len) == 0)
			return history_is_old(out->at_ns, clock_realtime_ns(), keep_age_ns) ?
			    ERR_NOTFOUND : 0;
	}
	return rc;
}

static int
history_is_same(const struct frame_view *a, const struct frame_view *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int
history_find_outcome(struct state_txn *txn, const struct frame_view *workflow,
    const struct frame_view *channel, uint64_t ordinal, int64_t keep_age_ns,
    struct record_operations *out)
{
	uint8_t key[HISTORY_STEP_KEY_SIZE];
	struct history_outcome where;
	struct state_view row;
	int rc;

	rc = history_where(txn, workflow, channel, ordinal, keep_age_ns, &where);
	if (rc != 0)
		return rc;
	history_step_key(key, where.dispatch, where.step);
	rc = state_get(txn, STORE_HISTORY, key, sizeof key, &row);
	if (rc == 0)
		rc = record_unpack_operations(row.data, row.len, out);
	/* Keys have no checksum: an answer to something else is worse than none. */
	if (rc == 0 && (!out->has_ordinal || out->ordinal != ordinal ||
	    !history_is_same(&out->channel, channel))) {
		record_free_operations(out);
		return ERR_CORRUPT;
	}
	return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
}

static int
history_visit_step(const struct state_view *row, uint64_t dispatch, uint32_t step,
    int (*visit)(void *arg, uint64_t dispatch, uint32_t step,
    const struct record_operations *operations), void *arg)
{
	static const char unreadable[] = "this step does not read back";
	struct record_operations operations;
	int rc = record_unpack_operations(row->data, row->len, &operations);

	if (rc == ERR_CORRUPT) {
		memset(&operations, 0, sizeof operations);
		operations.message.data = (const uint8_t *)unreadable;
		operations.message.len = sizeof unreadable - 1;
		rc = 0;
	}
	if (rc == 0) {
		rc = visit(arg, dispatch, step, &operations);
		record_free_operations(&operations);
	}
	return rc;
}

static int
history_each_step(struct state_txn *txn, uint64_t dispatch, uint32_t from,
    int (*visit)(void *arg, uint64_t dispatch, uint32_t step,
    const struct record_operations *operations), void *arg)
{
	uint8_t start[HISTORY_STEP_KEY_SIZE];
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t found;
	uint32_t step;
	int rc;

	history_step_key(start, dispatch, from);
	if ((rc = state_cursor_open(txn, STORE_HISTORY, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &row);
	while (rc == 0) {
		rc = history_step_key_read(&key, &found, &step);
		if (rc != 0 || found != dispatch)
			break;
		if ((rc = history_visit_step(&row, dispatch, step, visit, arg)) == 0)
			rc = state_next(cursor, &key, &row);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
history_each_from(struct state_txn *txn, const struct frame_view *workflow, uint64_t dispatch,
    uint32_t step, int (*visit)(void *arg, uint64_t dispatch, uint32_t step,
    const struct record_operations *operations), void *arg)
{
	struct history_workflow_key parts = { *workflow, HISTORY_DISPATCH, dispatch, 0 };
	uint8_t start[HISTORY_WORKFLOW_KEY_MAX];
	struct state_cursor *cursor;
	struct state_view key, row;
	size_t len;
	int rc;

	if (!history_is_workflow(workflow))
		return 0;
	len = history_workflow_key(start, &parts);
	if ((rc = state_cursor_open(txn, STORE_WORKFLOWS, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, len, &key, &row);
	while (rc == 0 && key.len == len && memcmp(key.data, start, len - 8) == 0) {
		parts.n = state_key_get((const uint8_t *)key.data + len - 8);
		rc = history_each_step(txn, parts.n, parts.n == dispatch ? step : 0, visit, arg);
		if (rc == 0)
			rc = state_next(cursor, &key, &row);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
history_each(struct state_txn *txn, const struct frame_view *workflow,
    int (*visit)(void *arg, uint64_t dispatch, uint32_t step,
    const struct record_operations *operations), void *arg)
{
	return history_each_from(txn, workflow, 0, 0, visit, arg);
}
