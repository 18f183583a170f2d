/*
 * log: what was appended is read back, byte by byte, from any message on; bounds hold exactly, whatever
 * was removed; what is damaged is found out.
 */
#include <math.h>

#include "base/hash.h"
#include "state/env.h"
#include "unit/state_channels.h"
#include "unit/store_fixture.h"

/* The largest payload that fits into a row beside its head, alone. */
#define ROW_HEAD	48
#define ROW_PAYLOAD	(LOG_ROW_MAX - ROW_HEAD - LOG_MESSAGE_OVERHEAD - 2)
#define MESSAGE(size)	(LOG_MESSAGE_OVERHEAD + 2 + (uint64_t)(size))

static void
log_setup(void)
{
	fixture_init();
	channels_make(3, 3);
}

TestSuite(log, .init = log_setup, .fini = fixture_fini);

/* The whole frame of the reader's last entry; to be freed. */
static uint8_t *
read_frame(struct log_reader *reader)
{
	uint8_t *frame = malloc(reader->entry.len);
	size_t at = reader->entry.here;
	struct frame_view piece;
	int rc;

	memcpy(frame, reader->entry.frame, at);
	while ((rc = log_next_piece(reader, &piece)) == 0) {
		cr_assert(le(sz, piece.len, reader->entry.len - at));
		memcpy(frame + at, piece.data, piece.len);
		at += piece.len;
	}
	cr_assert(eq(int, rc, ERR_NOTFOUND));
	cr_assert(eq(sz, at, reader->entry.len));
	return frame;
}

/* The reader's last entry is message SEQUENCE with a payload of SIZE bytes. */
static void
assert_message(struct log_reader *reader, uint64_t sequence, size_t size)
{
	uint8_t *bytes = read_frame(reader), *expected = malloc(size + 1);
	struct frame frame;
	size_t used;

	cr_assert(eq(u64, reader->entry.sequence, sequence));
	bytes[LOG_HEAD_STREAM + 3] = 7;
	cr_assert(eq(int, frame_decode(bytes, reader->entry.len, UINT32_MAX, &frame, &used, NULL),
	    FRAME_OK));
	cr_assert(eq(sz, used, reader->entry.len));
	cr_assert(eq(int, frame.type, FRAME_DELIVER));
	cr_assert(eq(u32, frame.stream, 7));
	cr_assert(eq(u64, frame.u.deliver.sequence, sequence));
	cr_assert(zero(int, memcmp(frame.u.deliver.envelope.schema_id, channels_schema, 32)));
	cr_assert(zero(int, frame.u.deliver.envelope.parent_id.present));
	cr_assert(eq(sz, frame.u.deliver.envelope.payload.len, size));
	channels_fill(expected, size, reader->log.channel, sequence);
	cr_assert(zero(int, memcmp(frame.u.deliver.envelope.payload.data, expected, size)),
	    "message %llu", (unsigned long long)sequence);
	free(expected);
	free(bytes);
}

/* Messages FIRST to HEAD of CHANNEL, whose payloads have SIZES, are all that there is from FIRST on. */
static void
assert_reads(uint32_t channel, uint64_t first, uint64_t head, const size_t *sizes)
{
	struct state_txn *txn = read_begin();
	const struct log log = { txn, STATE_MESSAGES, channel };
	struct log_reader reader;
	uint64_t sequence;

	cr_assert(zero(int, log_open(&reader, &log, first)), "from %llu",
	    (unsigned long long)first);
	for (sequence = first; sequence <= head; sequence++) {
		cr_assert(zero(int, log_next(&reader)));
		assert_message(&reader, sequence, sizes[sequence - 1]);
	}
	cr_assert(eq(int, log_next(&reader), ERR_NOTFOUND));
	cr_assert(eq(int, log_next(&reader), ERR_NOTFOUND), "the end stays the end");
	log_close(&reader);
	state_abort(txn);
}

static int
can_open(uint32_t channel, uint64_t sequence)
{
	struct state_txn *txn = read_begin();
	const struct log log = { txn, STATE_MESSAGES, channel };
	struct log_reader reader;
	int rc = log_open(&reader, &log, sequence);

	if (rc == 0)
		log_close(&reader);
	state_abort(txn);
	return rc;
}

static uint64_t
oldest(uint32_t channel, struct log_bound bound, int64_t now_ns)
{
	struct channels_row row = channel_row(channel);
	struct state_txn *txn = read_begin();
	const struct log log = { txn, STATE_MESSAGES, channel };
	uint64_t sequence;

	cr_assert(zero(int, log_oldest(&log, &row.mark, &bound, now_ns, &sequence)));
	state_abort(txn);
	return sequence;
}

Test(log, what_is_appended_at_once_is_read_in_order)
{
	const size_t sizes[] = { 0, 1, 10, 64, 1024, 40000, 30000, 3, 70000, 5, 65535, 0 };
	const size_t n = sizeof sizes / sizeof sizes[0];
	struct channels_row row;
	uint64_t first;

	publish(1, sizes, n, 0);
	row = channel_row(1);
	cr_assert(eq(u64, row.mark.head, n));
	cr_assert(eq(u64, row.mark.first, 1));
	for (first = 1; first <= n; first++)
		assert_reads(1, first, n, sizes);
}

Test(log, small_messages_of_one_append_share_a_row)
{
	size_t sizes[1000];
	size_t i;

	for (i = 0; i < 1000; i++)
		sizes[i] = 10;
	publish(0, sizes, 800, 0);	/* 74 bytes each */
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 1));
	publish(0, sizes, 1000, 0);
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 3));
	for (i = 0; i < 1000; i++)
		cr_assert(zero(int, can_open(0, i + 801)));
}

Test(log, sizes_around_that_of_a_row)
{
	size_t sizes[] = { ROW_PAYLOAD - 1, ROW_PAYLOAD, ROW_PAYLOAD + 1, 1, ROW_PAYLOAD - 65, 1,
	    ROW_PAYLOAD - 64, 0, ROW_PAYLOAD * 2, ROW_PAYLOAD * 2 + LOG_MESSAGE_OVERHEAD + 2 };
	uint64_t first;

	publish(2, sizes, 10, 0);
	for (first = 1; first <= 10; first++)
		assert_reads(2, first, 10, sizes);
	/* The first 1 shares a row with the one behind it, the second does not, and the 0 does with the one
	 * before it. The last two fill two rows each, the last one exactly. */
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 1 + 1 + 2 + 1 + 1 + 1 + 2 + 2));
}

Test(log, the_largest_message)
{
	size_t sizes[] = { 1, CHANNELS_LARGEST, 2 };
	uint64_t first;

	publish(0, sizes, 3, 0);
	for (first = 1; first <= 3; first++)
		assert_reads(0, first, 3, sizes);
}

/* A client's causal context may be anything; also larger than a row. */
Test(log, causal_contexts_of_any_size)
{
	static const size_t parents[] = { 0, 1, 300, 66000, 200000 };
	struct state_txn *txn = write_begin();
	const struct log log = { txn, STATE_MESSAGES, 0 };
	struct log_message messages[5];
	struct log_reader reader;
	struct channels_row row;
	struct frame frame;
	uint8_t *bytes;
	size_t i, used;

	cr_assert(zero(int, channels_get(txn, 0, &row)));
	for (i = 0; i < 5; i++) {
		messages[i].causal = channels_causal(malloc(parents[i] + 6), parents[i]);
		messages[i].payload = (struct frame_view){ (const uint8_t *)"payload", i };
	}
	cr_assert(zero(int, log_append(&log, &row.mark, channels_schema, messages, 5, 0)));
	cr_assert(zero(int, channels_put(txn, 0, &row)));
	cr_assert(zero(int, log_open(&reader, &log, 1)));
	for (i = 0; i < 5; i++) {
		cr_assert(zero(int, log_next(&reader)));
		bytes = read_frame(&reader);
		bytes[LOG_HEAD_STREAM] = 1;
		cr_assert(eq(int, frame_decode(bytes, reader.entry.len, UINT32_MAX, &frame, &used,
		    NULL), FRAME_OK));
		cr_assert(eq(sz, frame.u.deliver.envelope.causal.len, messages[i].causal.len));
		cr_assert(zero(int, memcmp(frame.u.deliver.envelope.causal.data,
		    messages[i].causal.data, messages[i].causal.len)));
		cr_assert(eq(sz, frame.u.deliver.envelope.payload.len, i));
		cr_assert(zero(int, memcmp(frame.u.deliver.envelope.payload.data, "payload", i)));
		free(bytes);
		free((void *)(uintptr_t)messages[i].causal.data);
	}
	log_close(&reader);
	commit(txn);
}

Test(log, a_reader_may_leave_a_large_message_unread)
{
	size_t sizes[] = { 1, 300000, 3 };
	struct state_txn *txn;
	struct log_reader reader;
	struct frame_view piece;

	publish(0, sizes, 3, 0);
	txn = read_begin();
	cr_assert(zero(int, log_open(&reader, &(struct log){ txn, STATE_MESSAGES, 0 }, 2)));
	cr_assert(zero(int, log_next(&reader)));
	cr_assert(zero(int, log_next_piece(&reader, &piece)));
	cr_assert(zero(int, log_next(&reader)));
	assert_message(&reader, 3, 3);
	log_close(&reader);
	state_abort(txn);
}

Test(log, what_is_not_stored_is_not_found)
{
	size_t size = 100000;

	cr_assert(eq(int, can_open(1, 1), ERR_NOTFOUND), "an empty table");
	publish_each(0, 2, 10);
	publish(2, &size, 1, 0);
	cr_assert(eq(int, can_open(1, 1), ERR_NOTFOUND), "neighbours are not it");
	cr_assert(eq(int, can_open(0, 0), ERR_NOTFOUND));
	cr_assert(eq(int, can_open(0, 3), ERR_NOTFOUND));
	cr_assert(eq(int, can_open(0, UINT64_MAX), ERR_NOTFOUND));
	cr_assert(eq(int, can_open(2, 2), ERR_NOTFOUND), "behind a large one");
	cr_assert(eq(int, can_open(3, 1), ERR_NOTFOUND));
	cr_assert(zero(int, can_open(0, 2)));
	cr_assert(zero(int, can_open(2, 1)));
}

/* Bounds. */

Test(log, the_count_is_exact)
{
	const size_t sizes[100] = { 0 };
	uint64_t keep;

	publish(0, sizes, 100, 0);
	publish(0, sizes, 100, 0);
	for (keep = 1; keep <= 200; keep++)
		cr_assert(eq(u64, oldest(0, (struct log_bound){ .messages = keep }, 0),
		    201 - keep));
	cr_assert(eq(u64, oldest(0, (struct log_bound){ .messages = 1000 }, 0), 1));
	cr_assert(eq(u64, oldest(0, channels_no_bound, 0), 1));
	/* A row goes when all of it is over. */
	cr_assert(zero(int, trim(0, (struct log_bound){ .messages = 101 }, 0, 0, 10)));
	cr_assert(eq(int, trim(0, (struct log_bound){ .messages = 100 }, 0, 0, 10), 1));
	cr_assert(eq(u64, channel_row(0).mark.first, 101));
	cr_assert(eq(u64, oldest(0, (struct log_bound){ .messages = 150 }, 0), 101));
	cr_assert(zero(int, trim(0, (struct log_bound){ .messages = 1 }, 0, 0, 10)),
	    "the newest is always kept");
}

Test(log, bytes_are_exact)
{
	const size_t sizes[] = { 0, 10, 20, 100000, 30, 40 };
	struct log_bound bound = { .bytes = 0 };
	uint64_t newer = 0, first;

	publish(0, sizes, 2, 0);
	publish(0, sizes + 2, 2, 0);
	publish(0, sizes + 4, 2, 0);
	for (first = 6; first >= 1; first--) {
		newer += MESSAGE(sizes[first - 1]);
		bound.bytes = newer;
		cr_assert(eq(u64, oldest(0, bound, 0), first));
		bound.bytes = newer - 1;
		cr_assert(eq(u64, oldest(0, bound, 0), first + 1));
	}
	cr_assert(eq(u64, channel_row(0).mark.bytes, newer));
	bound.bytes = MESSAGE(30) + MESSAGE(40) - 1;	/* the message of 100000 bytes is over */
	cr_assert(eq(int, trim(0, bound, 0, 0, 1000), 1 + 1 + 2));
	cr_assert(eq(u64, channel_row(0).mark.first, 5));
	cr_assert(eq(u64, channel_row(0).mark.first_bytes, newer - MESSAGE(30) - MESSAGE(40)));
}

Test(log, age_is_exact)
{
	const struct log_bound bound = { .age_ns = 100 };
	size_t size = 5;

	publish(0, &size, 1, 1000);
	publish(0, &size, 1, 1050);
	cr_assert(eq(u64, oldest(0, bound, 1100), 1));
	cr_assert(eq(u64, oldest(0, bound, 1101), 2));
	cr_assert(eq(u64, oldest(0, bound, 1150), 2));
	cr_assert(eq(u64, oldest(0, bound, 1151), 3), "nothing is kept");
	cr_assert(eq(u64, oldest(0, bound, 900), 1), "the clock was set back");
	cr_assert(eq(int, trim(0, bound, 0, 1101, 10), 1));
	cr_assert(eq(int, trim(0, bound, 0, 1151, 10), 1));
	cr_assert(zero(u64, rows_in(STATE_MESSAGES)));
	cr_assert(eq(u64, channel_row(0).mark.first, 3));
}

/* The store trims with its commit, and the state learns of it a moment later. */
Test(log, the_oldest_is_found_by_a_mark_of_before)
{
	static const struct log_bound bound = { .messages = 2 };
	struct log_mark before;
	struct state_txn *txn;
	struct log log;
	uint64_t sequence;

	publish_each(0, 3, 10);
	publish_each(1, 1, 10);
	before = channel_row(0).mark;
	publish_each(0, 1, 10);
	cr_assert(eq(int, trim(0, bound, 0, 0, 10), 2));
	txn = read_begin();
	log = (struct log){ txn, STATE_MESSAGES, 0 };
	cr_assert(zero(int, log_oldest(&log, &before, &channels_no_bound, 0, &sequence)));
	cr_assert(eq(u64, sequence, 3));
	before.head = 2;
	cr_assert(zero(int, log_oldest(&log, &before, &channels_no_bound, 0, &sequence)));
	cr_assert(eq(u64, sequence, 3), "all of its time are gone");
	state_abort(txn);
	publish_each(0, 3, 10);
	trim(0, (struct log_bound){ .messages = 1 }, 0, 0, 10);
	txn = read_begin();
	log.txn = txn;
	cr_assert(zero(int, log_oldest(&log, &before, &channels_no_bound, 0, &sequence)));
	cr_assert(eq(u64, sequence, 3));
	state_abort(txn);
}

Test(log, an_empty_log_begins_again)
{
	const size_t sizes[] = { 7, 8, 9 };
	struct channels_row row;

	publish(0, sizes, 2, 0);
	cr_assert(eq(int, trim(0, channels_no_bound, UINT64_MAX, 0, 10), 1));
	cr_assert(eq(u64, oldest(0, channels_no_bound, 0), 3));
	publish(0, sizes + 2, 1, 0);
	row = channel_row(0);
	cr_assert(eq(u64, row.mark.first, 3));
	cr_assert(eq(u64, row.mark.first_bytes, MESSAGE(7) + MESSAGE(8)));
	assert_reads(0, 3, 3, sizes);
	cr_assert(eq(u64, oldest(0, (struct log_bound){ .messages = 10 }, 0), 3));
}

Test(log, what_everybody_has_read_goes)
{
	uint64_t number;
	struct state_txn *txn;
	int n;

	publish_each(0, 3, 10);
	txn = read_begin();
	number = state_txn_number(txn);		/* everything so far */
	state_abort(txn);
	publish_each(0, 2, 10);
	cr_assert(zero(int, trim(0, channels_no_bound, 0, 0, 10)), "nobody can say");
	txn = write_begin();
	n = channels_trim(txn, 0, &channels_no_bound, number, 0, 2);
	cr_assert(eq(int, n, 2), "the limit");
	n = channels_trim(txn, 0, &channels_no_bound, number, 0, 2);
	cr_assert(eq(int, n, 1));
	commit(txn);
	cr_assert(eq(u64, channel_row(0).mark.first, 4));
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 2));
}

Test(log, a_large_message_goes_as_a_whole)
{
	const size_t sizes[] = { 1, 1 << 20, 1 };

	publish(0, sizes, 3, 0);
	publish(1, sizes, 3, 0);
	cr_assert(eq(int, trim(0, channels_no_bound, UINT64_MAX, 0, 1), 1));
	assert_reads(0, 2, 3, sizes);
	cr_assert(gt(int, trim(0, channels_no_bound, UINT64_MAX, 0, 1), 16));
	assert_reads(0, 3, 3, sizes);
	cr_assert(eq(int, can_open(0, 2), ERR_NOTFOUND));
	assert_reads(1, 1, 3, sizes);
}

Test(log, what_is_over_is_known_without_writing)
{
	struct channels_row row;
	struct state_txn *txn;
	struct log log;

	publish_each(0, 3, 10);
	row = channel_row(0);
	txn = read_begin();
	log = (struct log){ txn, STATE_MESSAGES, 0 };
	cr_assert(zero(int, log_is_over(&log, &row.mark, &channels_no_bound, 0, 0)));
	cr_assert(eq(int, log_is_over(&log, &row.mark, &channels_no_bound, UINT64_MAX, 0), 1));
	cr_assert(eq(int, log_is_over(&log, &row.mark, &(struct log_bound){ .messages = 2 }, 0, 0),
	    1));
	cr_assert(zero(int, log_is_over(&log, &row.mark, &(struct log_bound){ .messages = 3 }, 0,
	    0)));
	row.mark.first = 4;
	cr_assert(zero(int, log_is_over(&log, &row.mark, &channels_no_bound, UINT64_MAX, 0)));
	state_abort(txn);
}

Test(log, what_nobody_reads_is_counted_only)
{
	const struct log_message message = { { (const uint8_t *)"\0\0", 2 },
	    { (const uint8_t *)"12345", 5 } };
	struct log_message three[3] = { message, message, message };
	struct state_txn *txn = write_begin();
	size_t size = 9;
	struct channels_row row;

	cr_assert(zero(int, channels_get(txn, 0, &row)));
	log_skip(&row.mark, three, 3);
	cr_assert(zero(int, channels_put(txn, 0, &row)));
	commit(txn);
	cr_assert(eq(u64, row.mark.head, 3));
	cr_assert(eq(u64, row.mark.bytes, 3 * MESSAGE(5)));
	cr_assert(zero(u64, rows_in(STATE_MESSAGES)));
	cr_assert(eq(u64, oldest(0, channels_no_bound, 0), 4));
	publish(0, &size, 1, 0);
	row = channel_row(0);
	cr_assert(eq(u64, row.mark.first, 4));
	cr_assert(eq(u64, row.mark.first_bytes, 3 * MESSAGE(5)));
}

/* Against a list of sizes and times: any appends, any trims. */
#define MODEL	3000

static struct { size_t size[MODEL]; int64_t time[MODEL]; uint64_t bytes[MODEL + 1]; } model;

static uint64_t
model_oldest(uint64_t head, struct log_bound bound, int64_t now)
{
	uint64_t sequence = head;

	for (; sequence > 0; sequence--)
		if ((bound.messages > 0 && head - sequence + 1 > bound.messages) ||
		    (bound.bytes > 0 && model.bytes[head] - model.bytes[sequence - 1] >
		    bound.bytes) ||
		    (bound.age_ns > 0 && now - model.time[sequence - 1] > bound.age_ns))
			break;
	return sequence + 1;
}

static struct log_bound
any_bound(void)
{
	struct log_bound bound = { 0 };

	if (drand48() < 0.5)
		bound.messages = 1 + (uint64_t)(drand48() * 300);
	if (drand48() < 0.5)
		bound.bytes = 1 + (uint64_t)(drand48() * 400000);
	if (drand48() < 0.5)
		bound.age_ns = 1 + (int64_t)(drand48() * 3000);
	return bound;
}

Test(log, any_appends_and_trims)
{
	uint64_t head = 0, expected, first, mark_first;
	struct log_bound bound;
	size_t n, i;
	int64_t now = 10;

	srand48(4711);
	while (head + 64 < MODEL) {
		n = 1 + (size_t)(drand48() * drand48() * 63);
		for (i = 0; i < n; i++) {
			model.size[head + i] = (size_t)pow(150000, drand48());
			model.time[head + i] = now;
			model.bytes[head + i + 1] = model.bytes[head + i] +
			    MESSAGE(model.size[head + i]);
		}
		publish(1, model.size + head, n, now);
		head += n;
		now += (int64_t)(drand48() * 100);
		bound = any_bound();
		mark_first = channel_row(1).mark.first;
		expected = model_oldest(head, bound, now);
		first = expected > mark_first ? expected : mark_first;
		cr_assert(eq(u64, oldest(1, bound, now), first));
		/* Trimming takes nothing that is kept, and leaves it to be read. */
		trim(1, bound, 0, now, (int)(drand48() * 200));
		cr_assert(eq(u64, oldest(1, bound, now), first));
		cr_assert(le(u64, channel_row(1).mark.first, first));
		if (first <= head)
			assert_reads(1, first, head, model.size);
	}
	cr_assert(gt(u64, channel_row(1).mark.first, 100));
}

/* Damage. */

struct stored { size_t key_len, len; uint8_t key[16], *row; };

static size_t
take_rows(struct stored *rows, size_t max)
{
	struct state_txn *txn = read_begin();
	struct state_cursor *cursor;
	struct state_view key, row;
	size_t n = 0;

	cr_assert(zero(int, state_cursor_open(txn, STATE_MESSAGES, &cursor)));
	while (n < max && state_next(cursor, &key, &row) == 0) {
		rows[n].key_len = key.len;
		memcpy(rows[n].key, key.data, key.len);
		rows[n].len = row.len;
		rows[n].row = malloc(row.len);
		memcpy(rows[n++].row, row.data, row.len);
	}
	state_cursor_close(cursor);
	state_abort(txn);
	return n;
}

static int
is_answer(int rc)
{
	return rc == 0 || rc == ERR_NOTFOUND || rc == ERR_CORRUPT;
}

/* Read all that can be read; every byte that is shown is touched. */
static void
read_damaged(struct state_txn *txn, const struct log_mark *mark)
{
	const struct log log = { txn, STATE_MESSAGES, 0 };
	const struct log_bound bound = { .messages = 3, .bytes = 100000, .age_ns = 50 };
	struct log_reader reader;
	struct frame_view piece;
	static volatile uint64_t sink;
	uint64_t sequence;
	int rc, n = 0;
	size_t len;

	for (sequence = 1; sequence <= mark->head; sequence++) {
		if ((rc = log_open(&reader, &log, sequence)) != 0) {
			cr_assert(is_answer(rc));
			continue;
		}
		while ((rc = log_next(&reader)) == 0 && n++ < 10000) {
			cr_assert(ge(sz, reader.entry.here, LOG_HEAD_SIZE));
			sink += hash_checksum(reader.entry.frame, reader.entry.here);
			len = reader.entry.here;
			while ((rc = log_next_piece(&reader, &piece)) == 0) {
				sink += hash_checksum(piece.data, piece.len);
				len += piece.len;
			}
			cr_assert(le(sz, len, reader.entry.len), "never more than promised");
			cr_assert(is_answer(rc));
		}
		cr_assert(is_answer(rc));
		log_close(&reader);
	}
	cr_assert(lt(int, n, 10000), "it ends");
	cr_assert(is_answer(log_oldest(&log, mark, &bound, 100, &sequence)));
}

/* Put a row in place of another, read, trim, and undo all. */
static void
try_damage(const struct stored *row, const void *image, size_t len)
{
	struct state_txn *txn = write_begin();
	const struct log log = { txn, STATE_MESSAGES, 0 };
	struct channels_row channel;
	int rc;

	cr_assert(zero(int, channels_get(txn, 0, &channel)));
	if (image == NULL)
		cr_assert(zero(int, state_del(txn, STATE_MESSAGES, row->key, row->key_len)));
	else
		cr_assert(zero(int, state_put(txn, STATE_MESSAGES, row->key, row->key_len, image,
		    len)));
	read_damaged(txn, &channel.mark);
	rc = log_trim(&log, &channel.mark, &channels_no_bound, UINT64_MAX, 0, 1000);
	cr_assert(rc >= 0 || is_answer(rc));
	state_abort(txn);
}

Test(log, damaged_rows_are_found_out)
{
	const size_t sizes[] = { 3, 0, 60, 200000, 5 };
	struct stored rows[32];
	uint8_t *image;
	size_t n, i, at;

	publish(0, sizes, 3, 10);
	publish(0, sizes + 3, 2, 20);
	publish(1, sizes, 1, 20);
	n = take_rows(rows, 32);
	cr_assert(eq(sz, n, 1 + 4 + 1 + 1));
	for (i = 0; i < n; i++) {
		try_damage(&rows[i], NULL, 0);
		image = malloc(rows[i].len + 100);
		memcpy(image, rows[i].row, rows[i].len);
		for (at = 0; at < rows[i].len && at < 400; at++) {
			image[at] ^= 0xff;
			try_damage(&rows[i], image, rows[i].len);
			image[at] ^= 0xfe;	/* the lowest bit differs */
			try_damage(&rows[i], image, rows[i].len);
			image[at] = rows[i].row[at];
			try_damage(&rows[i], image, at);	/* cut off there */
		}
		memset(image + rows[i].len, 0, 100);
		try_damage(&rows[i], image, rows[i].len + 100);
		try_damage(&rows[i], rows[(i + 1) % n].row, rows[(i + 1) % n].len);
		free(image);
	}
	for (i = 0; i < n; i++)
		free(rows[i].row);
}

/* A damaged log is one of check-state's violations. */
Test(log, the_checker_sees_damage)
{
	const size_t sizes[] = { 3, 200000, 60 };
	struct stored rows[16];
	struct state_txn *txn;
	size_t n, i;

	publish(0, sizes, 3, 10);
	n = take_rows(rows, 16);
	for (i = 0; i < n; i++) {
		txn = write_begin();
		cr_assert(zero(int, state_del(txn, STATE_MESSAGES, rows[i].key,
		    rows[i].key_len)));
		commit(txn);
		fixture_close();
		cr_assert(eq(int, fixture_check(NULL), 1), "without row %zu", i);
		fixture_open();
		txn = write_begin();
		cr_assert(zero(int, state_put(txn, STATE_MESSAGES, rows[i].key, rows[i].key_len,
		    rows[i].row, rows[i].len)));
		commit(txn);
		free(rows[i].row);
	}
}

/*
 * A log that is appended to and trimmed for ever, with messages from 10 bytes to 1 MiB, in a map of
 * twice its bound: rows are runs of pages, and what is freed has to be found again.
 */
#define SPACE_MAP	((size_t)16 << 20)
#define SPACE_BOUND	((uint64_t)6 << 20)
#define SPACE_ROUNDS	6000

static void
space_setup(void)
{
	struct err err = { 0 };

	fixture_init();
	store_make_dir();
	cr_assert(zero(int, store_create_sized(store_dir, 16, SPACE_MAP, &err)), "%s", err.text);
	store_reopen();
}

static void
space_fini(void)
{
	store_fini();
	fixture_fini();
}

TestSuite(log_space, .init = space_setup, .fini = space_fini);

Test(log_space, is_used_again_for_ever)
{
	static uint8_t payload[1 << 20];
	const struct log_bound bound = { .bytes = SPACE_BOUND };
	struct log_mark mark = { .first = 1 };
	struct log_message messages[4];
	struct state_txn *txn;
	struct log log = { .table = STORE_MESSAGES };
	uint64_t last = 0;
	size_t i, n;
	int rc, round;

	srand48(815);
	for (round = 0; round < SPACE_ROUNDS; round++) {
		n = 1 + (size_t)(drand48() * 4);
		for (i = 0; i < n; i++) {
			messages[i].causal = (struct frame_view){ payload, 2 };
			messages[i].payload = (struct frame_view){ payload,
			    (size_t)(10 * pow(104857.6, drand48())) };
		}
		cr_assert(zero(int, state_begin_write(store_env, &txn)));
		log.txn = txn;
		rc = log_append(&log, &mark, channels_schema, messages, n, 0);
		if (rc == 0)
			rc = log_trim(&log, &mark, &bound, 0, 0, 128);
		cr_assert(rc >= 0, "round %d: %d, %s", round, rc, state_error_text(store_env));
		rc = state_commit(txn);
		cr_assert(zero(int, rc), "round %d: %s", round, state_error_text(store_env));
	}
	cr_assert(gt(u64, mark.bytes, 50 * SPACE_BOUND));
	cr_assert(zero(int, env_last_page(store_env, &last)));
	cr_assert(lt(u64, last * 4096, 2 * SPACE_BOUND));
}
