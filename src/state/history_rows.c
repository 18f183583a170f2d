/* Keys and rows of the store: see history_rows.h. */
#include <string.h>

#include "base/hash.h"
#include "state/history_rows.h"

static void
history_put_u32(uint8_t *at, uint32_t value)
{
	value = __builtin_bswap32(value);
	memcpy(at, &value, 4);
}

void
history_step_key(uint8_t key[HISTORY_STEP_KEY_SIZE], uint64_t dispatch, uint32_t step)
{
	state_key_put(key, dispatch);
	history_put_u32(key + 8, step);
}

int
history_step_key_read(const struct state_view *key, uint64_t *dispatch, uint32_t *step)
{
	uint32_t value;

	if (key->len != HISTORY_STEP_KEY_SIZE)
		return ERR_CORRUPT;
	*dispatch = state_key_get(key->data);
	memcpy(&value, (const uint8_t *)key->data + 8, 4);
	*step = __builtin_bswap32(value);
	return 0;
}

size_t
history_workflow_key(uint8_t key[HISTORY_WORKFLOW_KEY_MAX],
    const struct history_workflow_key *parts)
{
	uint8_t *at = key + parts->workflow.len;

	memcpy(key, parts->workflow.data, parts->workflow.len);
	*at++ = '\0';
	*at++ = (uint8_t)parts->kind;
	state_key_put(at, parts->n);
	at += 8;
	if (parts->kind == HISTORY_OUTCOME) {
		state_key_put(at, parts->channel_hash);
		at += 8;
	}
	return (size_t)(at - key);
}

int
history_workflow_key_read(const struct state_view *key, struct history_workflow_key *parts)
{
	const uint8_t *data = key->data, *end = memchr(data, '\0', key->len);
	size_t left;

	if (end == NULL || end == data || end - data > HISTORY_WORKFLOW_MAX)
		return ERR_CORRUPT;
	left = key->len - (size_t)(end - data) - 1;
	if (left < 9 || (end[1] != HISTORY_DISPATCH && end[1] != HISTORY_OUTCOME) ||
	    left != (end[1] == HISTORY_DISPATCH ? 9 : 17))
		return ERR_CORRUPT;
	parts->workflow.data = data;
	parts->workflow.len = (size_t)(end - data);
	parts->kind = (enum history_workflow_kind)end[1];
	parts->n = state_key_get(end + 2);
	parts->channel_hash = parts->kind == HISTORY_OUTCOME ? state_key_get(end + 10) : 0;
	return 0;
}

uint64_t
history_channel_hash(const struct frame_view *channel)
{
	return hash_fnv1a(HASH_FNV1A_START, channel->data, channel->len);
}

/* The fixed part of ROW, whose version comes first, to OUT; what follows it to REST. */
static int
history_row_read(const struct state_view *row, void *out, size_t size, uint16_t version,
    struct frame_view *rest)
{
	uint16_t found;

	if (row->len < size)
		return ERR_CORRUPT;
	memcpy(&found, row->data, sizeof found);
	if (found != version)
		return ERR_CORRUPT;
	memcpy(out, row->data, size);
	rest->data = (const uint8_t *)row->data + size;
	rest->len = row->len - size;
	return 0;
}

int
history_outcome_next(struct state_view *row, struct history_outcome *outcome,
    struct frame_view *channel)
{
	struct frame_view rest;

	if (row->len == 0)
		return ERR_NOTFOUND;
	if (history_row_read(row, outcome, sizeof *outcome, HISTORY_OUTCOME_VERSION, &rest) != 0 ||
	    rest.len < outcome->channel_len)
		return ERR_CORRUPT;
	channel->data = rest.data;
	channel->len = outcome->channel_len;
	row->data = rest.data + outcome->channel_len;
	row->len = rest.len - outcome->channel_len;
	return 0;
}

void
history_open_key(uint8_t key[HISTORY_OPEN_KEY_SIZE], uint64_t conn_id, uint64_t request)
{
	state_key_put(key, conn_id);
	state_key_put(key + 8, request);
}

static int
history_is_workflow_len(const struct frame_view *workflow)
{
	return workflow->len > 0 && workflow->len <= HISTORY_WORKFLOW_MAX;
}

int
history_open_read(const struct state_view *row, struct history_open *open,
    struct frame_view *workflow)
{
	int rc = history_row_read(row, open, sizeof *open, HISTORY_OPEN_VERSION, workflow);

	return rc == 0 && !history_is_workflow_len(workflow) ? ERR_CORRUPT : rc;
}

int
history_closed_read(const struct state_view *row, struct history_closed *closed,
    struct frame_view *workflow)
{
	int rc = history_row_read(row, closed, sizeof *closed, HISTORY_CLOSED_VERSION, workflow);

	return rc == 0 && !history_is_workflow_len(workflow) ? ERR_CORRUPT : rc;
}

int
history_meta_get(struct state_txn *txn, struct history_meta *meta)
{
	struct frame_view rest;
	struct state_view row;
	int rc;

	rc = state_get(txn, STORE_META, HISTORY_META_KEY, sizeof HISTORY_META_KEY - 1, &row);
	if (rc == 0)
		rc = history_row_read(&row, meta, sizeof *meta, HISTORY_META_VERSION, &rest);
	return rc == 0 && rest.len != 0 ? ERR_CORRUPT : rc;
}
