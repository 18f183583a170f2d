/*
 * state_channels: channels for tests of the state layer, and what is published to them. Message N of a
 * channel has a payload that begins with its number; what lies in the log is compared with
 * that, byte by byte.
 */
#ifndef LIMINAL_T_UNIT_STATE_CHANNELS_H
#define LIMINAL_T_UNIT_STATE_CHANNELS_H

#include "state/channels.h"
#include "state/subscriptions.h"
#include "unit/state_fixture.h"

#define CHANNELS_LARGEST	((size_t)16 << 20)

static const uint8_t channels_schema[FRAME_SCHEMA_ID_SIZE] = "the schema of every channel";
static const struct log_bound channels_no_bound;

/* Rows for N empty channels; those from DURABLE on are durable. */
static inline void
channels_make(uint32_t n, uint32_t durable)
{
	struct state_txn *txn = write_begin();
	struct channels_row row;
	uint32_t i;

	for (i = 0; i < n; i++) {
		memset(&row, 0, sizeof row);
		row.version = CHANNELS_VERSION;
		row.is_durable = i >= durable;
		row.mark.first = 1;
		snprintf(row.name, sizeof row.name, "channel %u", i);
		cr_assert(zero(int, channels_put(txn, i, &row)));
	}
	commit(txn);
}

static inline struct channels_row
channel_row(uint32_t channel)
{
	struct state_txn *txn = read_begin();
	struct channels_row row;

	cr_assert(zero(int, channels_get(txn, channel, &row)));
	state_abort(txn);
	return row;
}

/* What message SEQUENCE consists of: bytes that nobody else has there. */
static inline void
channels_fill(uint8_t *at, size_t len, uint32_t channel, uint64_t sequence)
{
	uint64_t x = (sequence + 1) * UINT64_C(0x9e3779b97f4a7c15) + channel;
	size_t i;

	for (i = 0; i < len; i++) {
		if (i % 8 == 0)
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		at[i] = (uint8_t)(x >> (i % 8 * 8));
	}
}

/* The causal context of a message: absent twice, or a parent's name of LEN bytes. */
static inline struct frame_view
channels_causal(uint8_t *at, size_t len)
{
	uint32_t be = __builtin_bswap32((uint32_t)len);

	memset(at, 0, 2);
	if (len == 0)
		return (struct frame_view){ at, 2 };
	at[0] = 1;
	memcpy(at + 1, &be, 4);
	memset(at + 5, 'p', len);
	at[5 + len] = 0;
	return (struct frame_view){ at, 6 + len };
}

/* Append N messages whose payloads have these sizes, at NOW_NS. Part of TXN. */
static inline int
channels_append(struct state_txn *txn, uint32_t channel, const size_t *sizes, size_t n,
    int64_t now_ns)
{
	const struct log log = { txn, STATE_MESSAGES, channel };
	struct log_message *messages = calloc(n, sizeof *messages);
	uint8_t causal[2];
	struct channels_row row;
	size_t i;
	int rc;

	cr_assert(zero(int, channels_get(txn, channel, &row)));
	for (i = 0; i < n; i++) {
		uint8_t *payload = malloc(sizes[i] + 1);

		channels_fill(payload, sizes[i], channel, row.mark.head + 1 + i);
		messages[i].causal = channels_causal(causal, 0);
		messages[i].payload = (struct frame_view){ payload, sizes[i] };
	}
	rc = log_append(&log, &row.mark, channels_schema, messages, n, now_ns);
	for (i = 0; i < n; i++)
		free((void *)(uintptr_t)messages[i].payload.data);
	free(messages);
	return rc != 0 ? rc : channels_put(txn, channel, &row);
}

static inline void
publish(uint32_t channel, const size_t *sizes, size_t n, int64_t now_ns)
{
	struct state_txn *txn = write_begin();

	cr_assert(zero(int, channels_append(txn, channel, sizes, n, now_ns)));
	commit(txn);
}

/* N messages of SIZE bytes, in one transaction each. */
static inline void
publish_each(uint32_t channel, size_t n, size_t size)
{
	while (n-- > 0)
		publish(channel, &size, 1, 0);
}

/* Trim with a limit; how many rows went. */
static inline int
trim(uint32_t channel, struct log_bound bound, uint64_t consumed, int64_t now_ns, int limit)
{
	struct state_txn *txn = write_begin();
	int n = channels_trim(txn, channel, &bound, consumed, now_ns, limit);

	cr_assert(ge(int, n, 0));
	commit(txn);
	return n;
}

#endif
