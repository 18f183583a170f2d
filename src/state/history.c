/* Steps on their way to the store, and what readers of the record need. */
#include <string.h>

#include "state/history.h"

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
