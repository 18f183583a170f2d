/* Subscriptions: three tables and the channel's count, changed by one piece of code each. */
#include <string.h>

#include "state/channels.h"
#include "state/subscriptions.h"

#define SUBSCRIPTIONS_KEY	16
#define LISTENER_KEY		12
#define CONSUMER_KEY_MAX	(4 + SUBSCRIPTIONS_CONSUMER_MAX)

static void
subscriptions_key(uint8_t key[SUBSCRIPTIONS_KEY], uint64_t conn_id, uint64_t id)
{
	state_key_put(key, conn_id);
	state_key_put(key + 8, id);
}

static void
subscriptions_channel_key(uint8_t *key, uint32_t channel)
{
	channel = __builtin_bswap32(channel);
	memcpy(key, &channel, 4);
}

static void
listener_key(uint8_t key[LISTENER_KEY], uint32_t channel, uint64_t conn_id)
{
	subscriptions_channel_key(key, channel);
	state_key_put(key + 4, conn_id);
}

static size_t
consumer_key(uint8_t key[CONSUMER_KEY_MAX], uint32_t channel, const struct frame_view *consumer)
{
	subscriptions_channel_key(key, channel);
	memcpy(key + 4, consumer->data, consumer->len);
	return 4 + consumer->len;
}

static int
subscriptions_read(const struct state_view *view, struct subscriptions_row *row,
    struct frame_view *consumer)
{
	if (view->len < sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	consumer->data = (const uint8_t *)view->data + sizeof *row;
	consumer->len = view->len - sizeof *row;
	return row->version == SUBSCRIPTIONS_VERSION && consumer->len == row->consumer_len ?
	    0 : ERR_CORRUPT;
}

/* One more, or one less (BY is -1), of CONN_ID's among the listeners of CHANNEL. */
static int
listener_change(struct state_txn *txn, uint32_t channel, uint64_t conn_id, uint32_t slot, int by)
{
	struct subscriptions_listener listener = { .slot = slot };
	struct state_view view;
	uint8_t key[LISTENER_KEY];
	int rc;

	listener_key(key, channel, conn_id);
	rc = state_get(txn, STATE_LISTENERS, key, sizeof key, &view);
	if (rc == 0) {
		if (view.len != sizeof listener)
			return ERR_CORRUPT;
		memcpy(&listener, view.data, sizeof listener);
	} else if (rc != ERR_NOTFOUND)
		return rc;
	if (by < 0 && listener.n == 0)
		return ERR_CORRUPT;
	listener.n += (uint32_t)by;
	return listener.n == 0 ? state_del(txn, STATE_LISTENERS, key, sizeof key) :
	    state_put(txn, STATE_LISTENERS, key, sizeof key, &listener, sizeof listener);
}

static int
consumer_take(struct state_txn *txn, uint32_t channel, const struct frame_view *consumer,
    uint64_t conn_id, uint64_t id)
{
	const struct subscriptions_holder holder = { conn_id, id };
	uint8_t key[CONSUMER_KEY_MAX];
	struct state_view view;
	size_t len;
	int rc;

	if (consumer->len == 0 || consumer->len > SUBSCRIPTIONS_CONSUMER_MAX)
		return ERR_INVALID;
	len = consumer_key(key, channel, consumer);
	rc = state_get(txn, STATE_CONSUMERS, key, len, &view);
	if (rc != ERR_NOTFOUND)
		return rc == 0 ? ERR_BUSY : rc;
	return state_put(txn, STATE_CONSUMERS, key, len, &holder, sizeof holder);
}

static int
subscriptions_put(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    const struct subscriptions_row *row, const struct frame_view *consumer)
{
	uint8_t key[SUBSCRIPTIONS_KEY], image[sizeof *row + SUBSCRIPTIONS_CONSUMER_MAX];

	subscriptions_key(key, conn_id, id);
	memcpy(image, row, sizeof *row);
	if (row->consumer_len > 0)
		memcpy(image + sizeof *row, consumer->data, row->consumer_len);
	return state_put(txn, STATE_SUBSCRIPTIONS, key, sizeof key, image,
	    sizeof *row + row->consumer_len);
}

int
subscriptions_add(struct state_txn *txn, uint64_t conn_id, uint32_t slot, uint64_t id,
    struct subscriptions_row *row, const struct frame_view *consumer)
{
	struct channels_row channel;
	int rc;

	/* What is published for it, and its end, has to be written some day. */
	if (state_is_tight(txn))
		return ERR_FULL;
	if ((rc = channels_get(txn, row->channel, &channel)) != 0)
		return rc;
	row->version = SUBSCRIPTIONS_VERSION;
	row->base = channel.mark.head;
	row->consumer_len = 0;
	if (row->is_durable) {
		if ((rc = consumer_take(txn, row->channel, consumer, conn_id, id)) != 0)
			return rc;
		row->consumer_len = (uint8_t)consumer->len;
	}
	if ((rc = subscriptions_put(txn, conn_id, id, row, consumer)) != 0 ||
	    (rc = listener_change(txn, row->channel, conn_id, slot, 1)) != 0)
		return rc;
	channel.n_subscriptions++;
	return channels_put(txn, row->channel, &channel);
}

int
subscriptions_get(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    struct subscriptions_row *row, struct frame_view *consumer)
{
	uint8_t key[SUBSCRIPTIONS_KEY];
	struct state_view view;
	int rc;

	subscriptions_key(key, conn_id, id);
	rc = state_get(txn, STATE_SUBSCRIPTIONS, key, sizeof key, &view);
	return rc != 0 ? rc : subscriptions_read(&view, row, consumer);
}

/* Remove the subscription of KEY with everything that was made with it. */
static int
subscriptions_remove(struct state_txn *txn, const uint8_t key[SUBSCRIPTIONS_KEY],
    const struct state_view *view)
{
	uint8_t name[CONSUMER_KEY_MAX];
	struct subscriptions_row row;
	struct channels_row channel;
	struct frame_view consumer;
	size_t name_len = 0;
	int rc;

	if ((rc = subscriptions_read(view, &row, &consumer)) != 0)
		return rc;
	/* The view is gone with the first write. */
	if (row.is_durable)
		name_len = consumer_key(name, row.channel, &consumer);
	rc = state_del(txn, STATE_SUBSCRIPTIONS, key, SUBSCRIPTIONS_KEY);
	if (rc == 0 && name_len > 0)
		rc = state_del(txn, STATE_CONSUMERS, name, name_len);
	if (rc == 0)
		rc = listener_change(txn, row.channel, state_key_get(key), 0, -1);
	if (rc == 0)
		rc = channels_get(txn, row.channel, &channel);
	if (rc == 0 && channel.n_subscriptions-- == 0)
		rc = ERR_CORRUPT;
	if (rc == 0)
		rc = channels_put(txn, row.channel, &channel);
	return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
}

int
subscriptions_del(struct state_txn *txn, uint64_t conn_id, uint64_t id)
{
	uint8_t key[SUBSCRIPTIONS_KEY];
	struct state_view view;
	int rc;

	subscriptions_key(key, conn_id, id);
	rc = state_get(txn, STATE_SUBSCRIPTIONS, key, sizeof key, &view);
	return rc != 0 ? rc : subscriptions_remove(txn, key, &view);
}

int
subscriptions_del_all(struct state_txn *txn, uint64_t conn_id)
{
	uint8_t start[SUBSCRIPTIONS_KEY], key[SUBSCRIPTIONS_KEY];
	struct state_cursor *cursor;
	struct state_view found, view;
	int rc;

	subscriptions_key(start, conn_id, 0);
	do {
		if ((rc = state_cursor_open(txn, STATE_SUBSCRIPTIONS, &cursor)) != 0)
			return rc;
		rc = state_seek(cursor, start, sizeof start, &found, &view);
		state_cursor_close(cursor);
		if (rc == 0 && found.len != sizeof key)
			rc = ERR_CORRUPT;
		if (rc == 0 && state_key_get(found.data) != conn_id)
			rc = ERR_NOTFOUND;
		if (rc == 0) {
			memcpy(key, found.data, sizeof key);
			rc = subscriptions_remove(txn, key, &view);
		}
	} while (rc == 0);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
subscriptions_each_of(struct state_txn *txn, uint64_t conn_id,
    int (*visit)(void *arg, uint64_t id, const struct subscriptions_row *row,
    const struct frame_view *consumer), void *arg)
{
	uint8_t start[SUBSCRIPTIONS_KEY];
	struct subscriptions_row row;
	struct state_cursor *cursor;
	struct state_view key, view;
	struct frame_view consumer;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_SUBSCRIPTIONS, &cursor)) != 0)
		return rc;
	subscriptions_key(start, conn_id, 0);
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	while (rc == 0 && key.len == sizeof start && state_key_get(key.data) == conn_id) {
		if ((rc = subscriptions_read(&view, &row, &consumer)) == 0 &&
		    (rc = visit(arg, state_key_get((const uint8_t *)key.data + 8), &row,
		    &consumer)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
subscriptions_each_listener(struct state_txn *txn, uint32_t channel,
    int (*visit)(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener),
    void *arg)
{
	struct subscriptions_listener listener;
	struct state_cursor *cursor;
	struct state_view key, view;
	uint8_t start[LISTENER_KEY];
	int rc;

	if ((rc = state_cursor_open(txn, STATE_LISTENERS, &cursor)) != 0)
		return rc;
	listener_key(start, channel, 0);
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	while (rc == 0 && key.len == sizeof start && memcmp(key.data, start, 4) == 0) {
		if (view.len != sizeof listener) {
			rc = ERR_CORRUPT;
			break;
		}
		memcpy(&listener, view.data, sizeof listener);
		rc = visit(arg, state_key_get((const uint8_t *)key.data + 4), &listener);
		if (rc == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
