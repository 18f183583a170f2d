/* The body of INBOX_APPEND: items, one behind the other. */
#include <string.h>

#include "base/err.h"
#include "state/publication.h"

/* At the head of each item; the key, the causal context and the payload follow. Both sides are of one
 * daemon, and the state is emptied at each start: no version is needed. */
struct publication_head {
	uint32_t channel, flags;
	uint32_t key_len, causal_len, payload_len;	/* parts of a frame: none is longer than it */
};

static uint8_t *
publication_put(uint8_t *at, const struct frame_view *view)
{
	if (view->len > 0)
		memcpy(at, view->data, view->len);
	return at + view->len;
}

int
publication_add(struct buf *body, const struct publication_item *item)
{
	const struct publication_head head = {
		.channel = item->channel, .flags = item->flags,
		.key_len = (uint32_t)item->key.len, .causal_len = (uint32_t)item->causal.len,
		.payload_len = (uint32_t)item->payload.len
	};
	size_t len = sizeof head + item->key.len + item->causal.len + item->payload.len;
	uint8_t *at = buf_reserve(body, len);

	if (at == NULL)
		return ERR_NOMEM;
	memcpy(at, &head, sizeof head);
	at = publication_put(at + sizeof head, &item->key);
	at = publication_put(at, &item->causal);
	(void)publication_put(at, &item->payload);
	buf_commit(body, len);
	return 0;
}

/* The LEN bytes at *AT, which moves behind them. */
static int
publication_take(const uint8_t **at, const uint8_t *end, uint32_t len, struct frame_view *view)
{
	if ((size_t)(end - *at) < len)
		return ERR_CORRUPT;
	view->data = *at;
	view->len = len;
	*at += len;
	return 0;
}

int
publication_each(const void *body, size_t len,
    int (*visit)(void *arg, const struct publication_item *item), void *arg)
{
	const uint8_t *at = body, *end = at + len;
	struct publication_head head;
	struct publication_item item;
	int rc;

	while (at < end) {
		if ((size_t)(end - at) < sizeof head)
			return ERR_CORRUPT;
		memcpy(&head, at, sizeof head);
		at += sizeof head;
		item.channel = head.channel;
		item.flags = head.flags;
		if (publication_take(&at, end, head.key_len, &item.key) != 0 ||
		    publication_take(&at, end, head.causal_len, &item.causal) != 0 ||
		    publication_take(&at, end, head.payload_len, &item.payload) != 0)
			return ERR_CORRUPT;
		if ((rc = visit(arg, &item)) != 0)
			return rc;
	}
	return 0;
}
