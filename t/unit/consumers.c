/* consumers: a durable subscription's row comes back as it was put, or is refused. */
#include "state/consumers.h"
#include "state/store_channels.h"
#include "unit/store_fixture.h"

TestSuite(consumers, .init = store_init, .fini = store_fini);

static int
put(uint32_t channel, const char *name, const struct consumers_row *row, const void *ranges)
{
	const struct frame_view view = act_view(name);
	struct state_txn *txn;
	int rc;

	cr_assert(zero(int, state_begin_write(store_env, &txn)));
	rc = consumers_put(txn, channel, &view, row, ranges);
	cr_assert(zero(int, state_commit(txn)));
	return rc;
}

/* The ranges in COPY, as many as ROW says. */
static int
get(uint32_t channel, const char *name, struct consumers_row *row, struct consumers_range *copy)
{
	const struct frame_view view = act_view(name);
	struct state_txn *txn = store_look();
	struct frame_view ranges;
	int rc = consumers_get(txn, channel, &view, row, &ranges);

	if (rc == 0) {
		cr_assert(eq(sz, ranges.len, row->n_ranges * sizeof *copy));
		memcpy(copy, ranges.data, ranges.len);
	}
	state_abort(txn);
	return rc;
}

Test(consumers, a_row_comes_back)
{
	static struct consumers_range ranges[CONSUMERS_RANGES_MAX], copy[CONSUMERS_RANGES_MAX];
	struct consumers_row row = { .version = CONSUMERS_VERSION, .cursor = 12, .since_ns = 34 };
	struct consumers_row found;
	uint32_t i;

	for (i = 0; i < CONSUMERS_RANGES_MAX; i++)
		ranges[i] = (struct consumers_range){ 100 + 10 * i, 105 + 10 * i };
	cr_assert(eq(int, get(1, "me", &found, copy), ERR_NOTFOUND));
	cr_assert(zero(int, put(1, "me", &row, NULL)));
	cr_assert(zero(int, get(1, "me", &found, copy)));
	cr_assert(eq(u64, found.cursor, 12));
	cr_assert(eq(i64, found.since_ns, 34));
	cr_assert(zero(u32, found.n_ranges));
	cr_assert(eq(int, get(2, "me", &found, copy), ERR_NOTFOUND));
	cr_assert(eq(int, get(1, "m", &found, copy), ERR_NOTFOUND));
	cr_assert(eq(int, get(1, "mee", &found, copy), ERR_NOTFOUND));

	row.n_ranges = CONSUMERS_RANGES_MAX;
	cr_assert(zero(int, put(1, "me", &row, ranges)));
	cr_assert(zero(int, get(1, "me", &found, copy)));
	cr_assert(eq(u32, found.n_ranges, CONSUMERS_RANGES_MAX));
	cr_assert(zero(int, memcmp(ranges, copy, sizeof ranges)));

	row.n_ranges = 1;
	cr_assert(zero(int, put(1, "me", &row, ranges)));
	cr_assert(zero(int, get(1, "me", &found, copy)));
	cr_assert(eq(u32, found.n_ranges, 1));
}

Test(consumers, what_cannot_be_stored_is_refused)
{
	static struct consumers_range ranges[CONSUMERS_RANGES_MAX + 1];
	struct consumers_row row = { .version = CONSUMERS_VERSION,
	    .n_ranges = CONSUMERS_RANGES_MAX + 1 };
	char name[257];

	cr_assert(eq(int, put(1, "me", &row, ranges), ERR_INVALID));
	row.n_ranges = 0;
	cr_assert(eq(int, put(1, "", &row, NULL), ERR_INVALID));
	memset(name, 'n', 256);
	name[256] = '\0';
	cr_assert(eq(int, put(1, name, &row, NULL), ERR_INVALID));
	name[255] = '\0';
	cr_assert(zero(int, put(1, name, &row, NULL)));
}

Test(consumers, damaged_images_are_found_out)
{
	struct {
		struct consumers_row row;
		struct consumers_range ranges[3];
	} image = { .row = { .version = CONSUMERS_VERSION, .n_ranges = 2 } };
	const size_t whole = sizeof image.row + 2 * sizeof image.ranges[0];
	struct consumers_row row;
	struct frame_view ranges;
	size_t len;

	for (len = 0; len <= sizeof image; len++)
		cr_assert(eq(int, consumers_unpack(&image, len, &row, &ranges),
		    len == whole ? 0 : ERR_CORRUPT), "%zu bytes", len);
	image.row.version++;
	cr_assert(eq(int, consumers_unpack(&image, whole, &row, &ranges), ERR_CORRUPT));
	image.row.version--;
	/* So many that their size is too large for 32 bits. */
	image.row.n_ranges = UINT32_C(0x10000002);
	cr_assert(eq(int, consumers_unpack(&image, whole, &row, &ranges), ERR_CORRUPT));
}

/* What check-state says with this row of a consumer of channel 1, whose head is 20. */
static int
judged(uint64_t cursor, struct consumers_range first, struct consumers_range second)
{
	const struct consumers_range ranges[2] = { first, second };
	const struct consumers_row row = { .version = CONSUMERS_VERSION, .cursor = cursor,
	    .n_ranges = first.from == 0 ? 0 : second.from == 0 ? 1 : 2 };

	cr_assert(zero(int, put(1, "me", &row, ranges)));
	return store_check();
}

Test(consumers, the_checker_knows_what_a_row_may_say)
{
	const struct log_message message = { { (const uint8_t *)"\0\0", 2 }, { NULL, 0 } };
	const struct consumers_range none = { 0, 0 };
	struct store_channels_row channel;
	struct state_txn *txn;
	int i;

	cr_assert(eq(int, judged(0, none, none), 1), "there is no such channel");
	cr_assert(zero(int, state_begin_write(store_env, &txn)));
	cr_assert(zero(int, store_channels_enter(txn, "orders", &channel)));
	cr_assert(eq(u32, channel.number, 1));
	for (i = 0; i < 20; i++)
		log_skip(&channel.mark, &message, 1);
	cr_assert(zero(int, store_channels_put(txn, "orders", &channel)));
	cr_assert(zero(int, state_commit(txn)));

	cr_assert(zero(int, judged(20, none, none)));
	cr_assert(eq(int, judged(21, none, none), 1), "beyond the head");
	cr_assert(zero(int, judged(3, (struct consumers_range){ 5, 5 },
	    (struct consumers_range){ 7, 20 })));
	cr_assert(eq(int, judged(3, (struct consumers_range){ 4, 5 }, none), 1), "no gap");
	cr_assert(eq(int, judged(3, (struct consumers_range){ 6, 5 }, none), 1), "backwards");
	cr_assert(eq(int, judged(3, (struct consumers_range){ 5, 21 }, none), 1), "too far");
	cr_assert(eq(int, judged(3, (struct consumers_range){ 9, 10 },
	    (struct consumers_range){ 5, 6 }), 1), "not in order");
}
