/* See check_channels.h. Nothing here trusts what it reads. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "state/channels.h"
#include "state/connections.h"
#include "state/consumers.h"
#include "state/store_channels.h"
#include "state/subscriptions.h"
#include "tools/check_channels.h"

#define KEYS_HASH	32

static struct state_txn *txn;
static check_say *violation;

#define LLU(n)	((unsigned long long)(n))

static uint32_t
get_u32(const void *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof value);
	return __builtin_bswap32(value);
}

static void
put_u32(void *at, uint32_t value)
{
	value = __builtin_bswap32(value);
	memcpy(at, &value, sizeof value);
}

/* Logs. */

/* One message: its pieces are there, and together they are the frame that its head promises. */
static uint64_t
check_message(struct log_reader *reader, struct buf *whole)
{
	const struct log_entry *entry = &reader->entry;
	struct frame_view piece;
	struct frame frame;
	uint64_t rows = 0;
	size_t used;
	int rc;

	buf_consume(whole, buf_len(whole));
	if (buf_append(whole, entry->frame, entry->here) != 0)
		abort();
	while ((rc = log_next_piece(reader, &piece)) == 0) {
		rows++;
		if (buf_append(whole, piece.data, piece.len) != 0)
			abort();
	}
	if (rc != ERR_NOTFOUND || buf_len(whole) != entry->len) {
		violation("channel %u: message %llu is not whole", reader->log.channel,
		    LLU(entry->sequence));
		return rows;
	}
	/* Stream 0 is not to be seen on the wire: a subscriber's process puts its own in. */
	if (get_u32(buf_head(whole) + LOG_HEAD_STREAM) != 0)
		violation("channel %u: message %llu has a stream", reader->log.channel,
		    LLU(entry->sequence));
	put_u32(buf_head(whole) + LOG_HEAD_STREAM, 1);
	if (frame_decode(buf_head(whole), buf_len(whole), UINT32_MAX, &frame, &used, NULL) !=
	    FRAME_OK || frame.type != FRAME_DELIVER || used != entry->len ||
	    frame.u.deliver.sequence != entry->sequence)
		violation("channel %u: message %llu is not its Deliver frame",
		    reader->log.channel, LLU(entry->sequence));
	return rows;
}

static uint64_t
count_first_rows(const struct log *log, uint64_t first)
{
	uint8_t start[16] = { 0 };
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t n = 0;
	int rc;

	put_u32(start, log->channel);
	state_key_put(start + 4, first);
	if (state_cursor_open(log->txn, log->table, &cursor) != 0)
		return 0;
	rc = state_seek(cursor, start, sizeof start, &key, &row);
	while (rc == 0 && key.len == sizeof start && memcmp(key.data, start, 4) == 0) {
		n += get_u32((const uint8_t *)key.data + 12) == 0;
		rc = state_next(cursor, &key, &row);
	}
	state_cursor_close(cursor);
	return n;
}

uint64_t
check_log(const struct log *log, const struct log_mark *mark, check_say *say)
{
	uint64_t next = mark->first, before = mark->first_bytes, rows = 0;
	struct buf whole = { 0 };
	struct log_reader reader;
	int rc;

	violation = say;
	if (mark->first == 0 || mark->first > mark->head + 1)
		violation("channel %u: first is %llu, head %llu", log->channel, LLU(mark->first),
		    LLU(mark->head));
	if (mark->first > mark->head)
		return 0;
	if ((rc = log_open(&reader, log, mark->first)) != 0) {
		violation("channel %u: its first message %llu cannot be read: %d", log->channel,
		    LLU(mark->first), rc);
		return 0;
	}
	while ((rc = log_next(&reader)) == 0) {
		if (reader.entry.sequence != next || reader.entry.before != before)
			violation("channel %u: message %llu with %llu bytes before it, expected "
			    "%llu with %llu", log->channel, LLU(reader.entry.sequence),
			    LLU(reader.entry.before), LLU(next), LLU(before));
		next = reader.entry.sequence + 1;
		before = reader.entry.before + reader.entry.len;
		rows += check_message(&reader, &whole);
	}
	log_close(&reader);
	buf_free(&whole);
	if (rc != ERR_NOTFOUND)
		violation("channel %u: what is behind message %llu cannot be read: %d",
		    log->channel, LLU(next - 1), rc);
	else if (next != mark->head + 1 || before != mark->bytes)
		violation("channel %u: ends with %llu after %llu bytes, its mark says %llu, %llu",
		    log->channel, LLU(next - 1), LLU(before), LLU(mark->head),
		    LLU(mark->bytes));
	return rows + count_first_rows(log, mark->first);
}

void
check_log_rows(struct state_txn *t, enum state_table table, uint64_t total, check_say *say)
{
	if (total != state_count(t, table))
		say("%s: %llu rows, %llu of them in channels' logs", state_table_names[table],
		    LLU(state_count(t, table)), LLU(total));
}

/* Keys. */

struct key_counts { uint32_t channel; int is_known; uint64_t said, found; };

static void
check_count(const struct key_counts *counts)
{
	if (counts->is_known && counts->said != counts->found)
		violation("channel %u: %llu keys, its count says %llu", counts->channel,
		    LLU(counts->found), LLU(counts->said));
}

static void
check_key(enum state_table ages, const uint8_t *key, const struct state_view *row)
{
	uint8_t age[4 + 8 + KEYS_HASH];
	struct state_view view;
	struct keys_row stored;

	if (row->len != sizeof stored) {
		violation("channel %u: a key does not read back", get_u32(key));
		return;
	}
	memcpy(&stored, row->data, sizeof stored);
	memcpy(age, key, 4);
	state_key_put(age + 4, (uint64_t)stored.until_ns);
	memcpy(age + 12, key + 4, KEYS_HASH);
	if (state_get(txn, ages, age, sizeof age, &view) != 0)
		violation("channel %u: a key is not among those by age", get_u32(key));
}

void
check_keys(struct state_txn *t, enum keys_place place, check_say *say)
{
	enum state_table table = place == KEYS_IN_STATE ? STATE_KEYS : STORE_KEYS;
	enum state_table ages = place == KEYS_IN_STATE ? STATE_KEYS_BY_AGE : STORE_KEYS_BY_AGE;
	struct key_counts counts = { 0 };
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t total = 0;
	int rc;

	txn = t;
	violation = say;
	if ((rc = state_cursor_open(txn, table, &cursor)) != 0)
		violation("keys cannot be read: %d", rc);
	for (; rc == 0 && (rc = state_next(cursor, &key, &row)) == 0; ) {
		if (key.len == 4 && row.len == sizeof counts.said) {
			check_count(&counts);
			counts = (struct key_counts){ .channel = get_u32(key.data), .is_known = 1 };
			memcpy(&counts.said, row.data, sizeof counts.said);
		} else if (key.len != 4 + KEYS_HASH) {
			violation("a row of keys does not read back");
		} else {
			if (!counts.is_known || counts.channel != get_u32(key.data))
				violation("channel %u: its keys are not counted",
				    get_u32(key.data));
			counts.found++;
			total++;
			check_key(ages, key.data, &row);
		}
	}
	state_cursor_close(cursor);
	check_count(&counts);
	/* Each key has its row by age; as many of these are all of them. */
	if (total != state_count(txn, ages))
		violation("%llu keys, %llu by age", LLU(total), LLU(state_count(txn, ages)));
}

/* Subscriptions. */

struct of_connection {
	uint64_t conn_id, n;
	uint32_t channel;		/* NO_CHANNEL = any */
};

static uint64_t n_durable, n_listened;

static int
check_subscription(void *arg, uint64_t id, const struct subscriptions_row *row,
    const struct frame_view *consumer)
{
	struct of_connection *of = arg;
	struct channels_row channel;
	struct state_view view;
	uint8_t key[4 + SUBSCRIPTIONS_CONSUMER_MAX];
	uint64_t holder[2] = { 0, 0 };

	if (channels_get(txn, row->channel, &channel) != 0)
		violation("subscription %llu: no channel %u", LLU(id), row->channel);
	else if (row->base > channel.mark.head)
		violation("subscription %llu begins behind %llu, the head of channel %u is %llu",
		    LLU(id), LLU(row->base), row->channel, LLU(channel.mark.head));
	if (row->is_durable == (consumer->len == 0))
		violation("subscription %llu: durable is %d, its consumer has %zu bytes", LLU(id),
		    row->is_durable, consumer->len);
	if (!row->is_durable || consumer->len > SUBSCRIPTIONS_CONSUMER_MAX)
		return 0;
	n_durable++;
	put_u32(key, row->channel);
	memcpy(key + 4, consumer->data, consumer->len);
	if (state_get(txn, STATE_CONSUMERS, key, 4 + consumer->len, &view) == 0 &&
	    view.len == sizeof holder)
		memcpy(holder, view.data, sizeof holder);
	if (holder[0] != of->conn_id || holder[1] != id)
		violation("subscription %llu of %llu: its consumer's name is held by %llu of %llu",
		    LLU(id), LLU(of->conn_id), LLU(holder[1]), LLU(holder[0]));
	return 0;
}

static int
check_owner(void *arg, uint64_t conn_id)
{
	struct of_connection of = { .conn_id = conn_id };
	int rc;

	(void)arg;
	if (connections_exists(txn, conn_id) != 0)
		violation("subscriptions of %llu: no such connection", LLU(conn_id));
	if ((rc = subscriptions_each_of(txn, conn_id, check_subscription, &of)) != 0)
		violation("subscriptions of %llu cannot be read: %d", LLU(conn_id), rc);
	return 0;
}

static int
count_of_channel(void *arg, uint64_t id, const struct subscriptions_row *row,
    const struct frame_view *consumer)
{
	struct of_connection *of = arg;

	(void)id, (void)consumer;
	of->n += row->channel == of->channel;
	return 0;
}

struct of_channel { uint32_t number; uint64_t n; };

static int
check_listener(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	struct of_channel *channel = arg;
	struct of_connection of = { .conn_id = conn_id, .channel = channel->number };
	struct connections_row connection;

	subscriptions_each_of(txn, conn_id, count_of_channel, &of);
	if (listener->n == 0 || of.n != listener->n)
		violation("channel %u: %llu has %llu subscriptions and listens with %u",
		    channel->number, LLU(conn_id), LLU(of.n), listener->n);
	if (connections_get(txn, conn_id, &connection) == 0 && connection.slot != listener->slot)
		violation("channel %u: %llu is in slot %u and listens in %u", channel->number,
		    LLU(conn_id), connection.slot, listener->slot);
	channel->n += listener->n;
	return 0;
}

static int
check_channel(void *arg, uint32_t number, const struct channels_row *row)
{
	const struct log log = { txn, STATE_MESSAGES, number };
	struct of_channel channel = { .number = number };
	uint64_t *rows = arg;

	if (!row->is_durable)
		*rows += check_log(&log, &row->mark, violation);
	subscriptions_each_listener(txn, number, check_listener, &channel);
	if (channel.n != row->n_subscriptions)
		violation("channel %u: %u subscriptions are counted, %llu listen", number,
		    row->n_subscriptions, LLU(channel.n));
	n_listened += channel.n;
	return 0;
}

void
check_channels(struct state_txn *t, check_say *say)
{
	uint64_t rows = 0;
	int rc;

	txn = t;
	violation = say;
	if ((rc = state_each_owner(txn, STATE_SUBSCRIPTIONS, check_owner, NULL)) != 0 ||
	    (rc = channels_each(txn, check_channel, &rows)) != 0)
		violation("channels cannot be read: %d", rc);
	check_log_rows(txn, STATE_MESSAGES, rows, violation);
	if (n_listened != state_count(txn, STATE_SUBSCRIPTIONS))
		violation("%llu subscriptions, %llu listen",
		    LLU(state_count(txn, STATE_SUBSCRIPTIONS)), LLU(n_listened));
	if (n_durable != state_count(txn, STATE_CONSUMERS))
		violation("%llu durable subscriptions, %llu consumers' names are held",
		    LLU(n_durable), LLU(state_count(txn, STATE_CONSUMERS)));
	check_keys(txn, KEYS_IN_STATE, violation);
}

/* The store's. */

struct store_channel { uint32_t number; uint64_t head; };

static struct store_channel *store_channels;
static size_t n_store_channels;

static const struct store_channel *
find_store_channel(uint32_t number)
{
	size_t i;

	for (i = 0; i < n_store_channels; i++)
		if (store_channels[i].number == number)
			return &store_channels[i];
	return NULL;
}

static int
check_store_channel(void *arg, const struct state_view *name,
    const struct store_channels_row *row)
{
	const struct log log = { txn, STORE_MESSAGES, row->number };
	struct store_channel *more;
	uint64_t *rows = arg;

	if (row->number == 0 || find_store_channel(row->number) != NULL)
		violation("channel %.*s has number %u, which is none or another's",
		    (int)name->len, (const char *)name->data, row->number);
	more = realloc(store_channels, (n_store_channels + 1) * sizeof *more);
	if (more == NULL)
		abort();
	store_channels = more;
	more[n_store_channels++] = (struct store_channel){ row->number, row->mark.head };
	*rows += check_log(&log, &row->mark, violation);
	return 0;
}

/* Where it is, then what it has accepted behind that: never what is no message. */
static void
check_consumer(const struct state_view *key, const struct state_view *row)
{
	const struct store_channel *channel = find_store_channel(get_u32(key->data));
	struct consumers_range range;
	struct consumers_row consumer;
	struct frame_view ranges;
	uint64_t last;
	size_t at;

	if (consumers_unpack(row->data, row->len, &consumer, &ranges) != 0) {
		violation("a consumer of channel %u does not read back", get_u32(key->data));
		return;
	}
	if (channel == NULL || consumer.cursor > channel->head)
		violation("channel %u: a consumer is at %llu, the head is %llu",
		    get_u32(key->data), LLU(consumer.cursor),
		    LLU(channel == NULL ? 0 : channel->head));
	last = consumer.cursor;
	for (at = 0; at < ranges.len; at += sizeof range) {
		memcpy(&range, ranges.data + at, sizeof range);
		if (range.from <= last + 1 || range.to < range.from)
			violation("channel %u: a consumer has accepted %llu to %llu behind %llu",
			    get_u32(key->data), LLU(range.from), LLU(range.to), LLU(last));
		last = range.to;
	}
	if (channel != NULL && last > channel->head)
		violation("channel %u: a consumer has accepted %llu, the head is %llu",
		    get_u32(key->data), LLU(last), LLU(channel->head));
}

void
check_store_channels(struct state_txn *t, check_say *say)
{
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t rows = 0;
	int rc;

	txn = t;
	violation = say;
	if ((rc = store_channels_each(txn, check_store_channel, &rows)) != 0)
		violation("channels cannot be read: %d", rc);
	check_log_rows(txn, STORE_MESSAGES, rows, violation);
	if ((rc = state_cursor_open(txn, STORE_CONSUMERS, &cursor)) != 0) {
		violation("consumers cannot be read: %d", rc);
		return;
	}
	while ((rc = state_next(cursor, &key, &row)) == 0)
		if (key.len > 4 && key.len <= 4 + SUBSCRIPTIONS_CONSUMER_MAX)
			check_consumer(&key, &row);
		else
			violation("a row of consumers does not read back");
	state_cursor_close(cursor);
	check_keys(txn, KEYS_IN_STORE, violation);
	free(store_channels);
	store_channels = NULL;
	n_store_channels = 0;
}
