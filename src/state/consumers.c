/* The store's consumers table: rows in and out, each checked for its version and size. */
#include <stdlib.h>
#include <string.h>

#include "state/consumers.h"
#include "state/subscriptions.h"

#define CONSUMERS_KEY_MAX	(4 + SUBSCRIPTIONS_CONSUMER_MAX)

static int
consumers_key(uint8_t key[CONSUMERS_KEY_MAX], uint32_t store_channel,
    const struct frame_view *name, size_t *len)
{
	if (name->len == 0 || name->len > SUBSCRIPTIONS_CONSUMER_MAX)
		return ERR_INVALID;
	store_channel = __builtin_bswap32(store_channel);
	memcpy(key, &store_channel, 4);
	memcpy(key + 4, name->data, name->len);
	*len = 4 + name->len;
	return 0;
}

int
consumers_get(struct state_txn *txn, uint32_t store_channel, const struct frame_view *name,
    struct consumers_row *row, struct frame_view *ranges)
{
	uint8_t key[CONSUMERS_KEY_MAX];
	struct state_view view;
	size_t len;
	int rc;

	if ((rc = consumers_key(key, store_channel, name, &len)) != 0 ||
	    (rc = state_get(txn, STORE_CONSUMERS, key, len, &view)) != 0)
		return rc;
	return consumers_unpack(view.data, view.len, row, ranges);
}

int
consumers_unpack(const void *image, size_t len, struct consumers_row *row,
    struct frame_view *ranges)
{
	if (len < sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, image, sizeof *row);
	if (row->version != CONSUMERS_VERSION || row->n_ranges > CONSUMERS_RANGES_MAX ||
	    len - sizeof *row != row->n_ranges * sizeof(struct consumers_range))
		return ERR_CORRUPT;
	ranges->data = (const uint8_t *)image + sizeof *row;
	ranges->len = len - sizeof *row;
	return 0;
}

int
consumers_put(struct state_txn *txn, uint32_t store_channel, const struct frame_view *name,
    const struct consumers_row *row, const void *ranges)
{
	size_t ranges_len = row->n_ranges * sizeof(struct consumers_range), len;
	uint8_t key[CONSUMERS_KEY_MAX];
	uint8_t *image;
	int rc;

	if (row->n_ranges > CONSUMERS_RANGES_MAX)
		return ERR_INVALID;
	if ((rc = consumers_key(key, store_channel, name, &len)) != 0)
		return rc;
	/* Not reserved in the map: RANGES may be a view into it. */
	if ((image = malloc(sizeof *row + ranges_len)) == NULL)
		return ERR_NOMEM;
	memcpy(image, row, sizeof *row);
	if (ranges_len > 0)
		memcpy(image + sizeof *row, ranges, ranges_len);
	rc = state_put(txn, STORE_CONSUMERS, key, len, image, sizeof *row + ranges_len);
	free(image);
	return rc;
}
