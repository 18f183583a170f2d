/*
 * dump_channels: the rows of the tables that channels have, in the state and in the store. Messages,
 * keys and contexts are shown by their sizes or hashes: they are nobody's business here.
 */
#include <string.h>

#include "liminal/dump.h"
#include "state/channels.h"
#include "state/consumers.h"
#include "state/keys.h"
#include "state/subscriptions.h"

#define DUMP_HASH	32	/* SHA-256 */

/* A row is what its key says and this. */
union dump_row {
	struct channels_row channel;
	struct store_channels_row store_channel;
	struct log_row_view log;
	struct subscriptions_row subscription;
	struct subscriptions_listener listener;
	struct subscriptions_holder holder;
	struct consumers_row consumer;
	struct keys_row key;
	uint64_t count;
};

static uint32_t
dump_channel(const struct dump_item *item)
{
	uint32_t channel;

	memcpy(&channel, item->key, sizeof(channel));
	return __builtin_bswap32(channel);
}

/* What was decoded lies in item->text, and behind it what is of no fixed size. */
static union dump_row
dump_decoded(const struct dump_item *item)
{
	union dump_row row;

	memcpy(&row, buf_head(&item->text), sizeof(row));
	return row;
}

static int
dump_keep(struct dump_item *item, const struct state_view *key, const struct state_view *row,
    int rc, const union dump_row *decoded, const struct frame_view *rest)
{
	item->key_len = key->len < sizeof(item->key) ? key->len : sizeof(item->key);
	memcpy(item->key, key->data, item->key_len);
	item->row_len = row->len;
	if (rc != 0) {
		item->reading = DUMP_UNREADABLE;
		return 0;
	}
	if (buf_append(&item->text, decoded, sizeof(*decoded)) != 0)
		return ERR_NOMEM;
	return rest == NULL ? 0 : buf_append(&item->text, rest->data, rest->len);
}

static void
dump_show_name(struct listing *listing, const char *key, const void *name, size_t len)
{
	if (len > 0)
		listing_text(listing, key, name, len);
	else
		listing_absent(listing, key);
}

/* A row that is a struct of SIZE bytes under a key of KEY_LEN. */
static int
dump_copy_fixed(const struct state_view *key, const struct state_view *row, void *arg,
    size_t key_len, size_t size)
{
	union dump_row decoded;
	int rc = key->len == key_len && row->len == size ? 0 : ERR_CORRUPT;

	memset(&decoded, 0, sizeof(decoded));
	if (rc == 0)
		memcpy(&decoded, row->data, size);
	return dump_keep(arg, key, row, rc, &decoded, NULL);
}

/* ---- channels ---- */

static int
dump_copy_channel(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	union dump_row decoded;
	uint32_t number = 0;
	int rc;

	memset(&decoded, 0, sizeof(decoded));
	if (key->len == sizeof(number))
		memcpy(&number, key->data, sizeof(number));
	rc = key->len == sizeof(number) ?
	    channels_get(txn, __builtin_bswap32(number), &decoded.channel) : ERR_CORRUPT;
	return dump_keep(arg, key, row, rc, &decoded, NULL);
}

static void
dump_show_mark(struct listing *listing, const struct log_mark *mark)
{
	listing_number(listing, "head", mark->head);
	listing_number(listing, "first", mark->first);
	listing_number(listing, "bytes", mark->bytes);
	listing_number(listing, "first_bytes", mark->first_bytes);
}

static void
dump_show_channel(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "number", dump_channel(item));
	listing_string(listing, "channel", row.channel.name);
	listing_bool(listing, "durable", row.channel.is_durable);
	listing_number(listing, "subscriptions", row.channel.n_subscriptions);
	listing_number(listing, "store_number", row.channel.store_number);
	dump_show_mark(listing, &row.channel.mark);
}

/* The store's: under their names. */

static int
dump_copy_store_channel(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	char name[CHANNELS_NAME_SIZE] = "";
	union dump_row decoded;
	int rc = ERR_CORRUPT;

	memset(&decoded, 0, sizeof(decoded));
	if (key->len < sizeof(name)) {
		memcpy(name, key->data, key->len);
		rc = store_channels_get(txn, name, &decoded.store_channel);
	}
	return dump_keep(arg, key, row, rc, &decoded, NULL);
}

static void
dump_show_store_channel(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "number", row.store_channel.number);
	listing_text(listing, "channel", item->key, item->key_len);
	dump_show_mark(listing, &row.store_channel.mark);
}

/* ---- messages ---- */

static int
dump_copy_messages(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	union dump_row decoded;
	int rc;

	(void)txn;
	memset(&decoded, 0, sizeof(decoded));
	rc = log_row_look(key, row, &decoded.log);
	return dump_keep(arg, key, row, rc, &decoded, NULL);
}

static void
dump_show_messages(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "channel_number", row.log.channel);
	listing_number(listing, "sequence", row.log.first);
	listing_number(listing, "piece", row.log.piece);
	listing_number(listing, "messages", row.log.count);
	listing_number(listing, "bytes", row.log.bytes);
	listing_number(listing, "bytes_before", row.log.before);
	listing_number(listing, "row_bytes", item->row_len);
	listing_number(listing, "transaction", row.log.stamp);
	listing_time(listing, "time", row.log.time_ns);
}

/* ---- subscriptions, listeners, who holds consumers' names ---- */

static int
dump_copy_subscription(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct frame_view consumer = { NULL, 0 };
	union dump_row decoded;
	int rc = ERR_CORRUPT;

	memset(&decoded, 0, sizeof(decoded));
	if (key->len == 16)
		rc = subscriptions_get(txn, state_key_get(key->data),
		    state_key_get((const uint8_t *)key->data + 8), &decoded.subscription,
		    &consumer);
	return dump_keep(arg, key, row, rc, &decoded, &consumer);
}

static void
dump_show_subscription(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "conn_id", state_key_get(item->key));
	listing_number(listing, "subscription", state_key_get(item->key + 8));
	listing_number(listing, "channel_number", row.subscription.channel);
	listing_number(listing, "stream", row.subscription.stream);
	listing_number(listing, "max_in_flight", row.subscription.max_in_flight);
	listing_number(listing, "base", row.subscription.base);
	dump_show_name(listing, "consumer", buf_head(&item->text) + sizeof(row),
	    buf_len(&item->text) - sizeof(row));
	listing_time(listing, "since", row.subscription.since_ns);
}

static int
dump_copy_listener(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	(void)txn;
	return dump_copy_fixed(key, row, arg, 12, sizeof(struct subscriptions_listener));
}

static void
dump_show_listener(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "channel_number", dump_channel(item));
	listing_number(listing, "conn_id", state_key_get(item->key + 4));
	listing_number(listing, "slot", row.listener.slot);
	listing_number(listing, "subscriptions", row.listener.n);
}

static int
dump_copy_holder(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	(void)txn;
	return dump_copy_fixed(key, row, arg, key->len > 4 ? key->len : 0,
	    sizeof(struct subscriptions_holder));
}

static void
dump_show_holder(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "channel_number", dump_channel(item));
	dump_show_name(listing, "consumer", item->key + 4, item->key_len - 4);
	listing_number(listing, "conn_id", row.holder.conn_id);
	listing_number(listing, "subscription", row.holder.subscription);
}

/* ---- consumers: what the store knows of them ---- */

static int
dump_copy_consumer(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct frame_view ranges;
	union dump_row decoded;
	int rc = ERR_CORRUPT;

	(void)txn;
	memset(&decoded, 0, sizeof(decoded));
	if (key->len > 4)
		rc = consumers_unpack(row->data, row->len, &decoded.consumer, &ranges);
	return dump_keep(arg, key, row, rc, &decoded, NULL);
}

static void
dump_show_consumer(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "channel_number", dump_channel(item));
	dump_show_name(listing, "consumer", item->key + 4, item->key_len - 4);
	listing_number(listing, "cursor", row.consumer.cursor);
	listing_number(listing, "ranges", row.consumer.n_ranges);
	listing_time(listing, "since", row.consumer.since_ns);
}

/* ---- keys ---- */

static int
dump_copy_key(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	(void)txn;
	if (key->len == 4)	/* how many there are */
		return dump_copy_fixed(key, row, arg, 4, sizeof(uint64_t));
	return dump_copy_fixed(key, row, arg, 4 + DUMP_HASH, sizeof(struct keys_row));
}

static void
dump_show_key(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	const union dump_row row = dump_decoded(item);

	(void)now_ns;
	listing_number(listing, "channel_number", dump_channel(item));
	if (item->key_len == 4) {
		listing_number(listing, "keys", row.count);
		return;
	}
	listing_hex(listing, "sha256", item->key + 4, DUMP_HASH);
	listing_time(listing, "until", row.key.until_ns);
	listing_number(listing, "inbox_row", row.key.row);
	listing_number(listing, "item", row.key.item);
}

static int
dump_copy_key_by_age(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	(void)txn;
	return dump_copy_fixed(key, row, arg, 4 + 8 + DUMP_HASH, 0);
}

static void
dump_show_key_by_age(struct listing *listing, const struct dump_item *item, int64_t now_ns)
{
	(void)now_ns;
	listing_number(listing, "channel_number", dump_channel(item));
	listing_time(listing, "until", (int64_t)state_key_get(item->key + 4));
	listing_hex(listing, "sha256", item->key + 12, DUMP_HASH);
}

const struct dump_table dump_channel_tables[STORE_TABLES_END] = {
	[STATE_CHANNELS] = { dump_copy_channel, dump_show_channel },
	[STATE_MESSAGES] = { dump_copy_messages, dump_show_messages },
	[STATE_SUBSCRIPTIONS] = { dump_copy_subscription, dump_show_subscription },
	[STATE_LISTENERS] = { dump_copy_listener, dump_show_listener },
	[STATE_CONSUMERS] = { dump_copy_holder, dump_show_holder },
	[STATE_KEYS] = { dump_copy_key, dump_show_key },
	[STATE_KEYS_BY_AGE] = { dump_copy_key_by_age, dump_show_key_by_age },
	[STORE_CHANNELS] = { dump_copy_store_channel, dump_show_store_channel },
	[STORE_MESSAGES] = { dump_copy_messages, dump_show_messages },
	[STORE_CONSUMERS] = { dump_copy_consumer, dump_show_consumer },
	[STORE_KEYS] = { dump_copy_key, dump_show_key },
	[STORE_KEYS_BY_AGE] = { dump_copy_key_by_age, dump_show_key_by_age },
};
