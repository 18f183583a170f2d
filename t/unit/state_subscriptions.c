/* subscriptions: their rows, those whom publishers wake, who holds a name, and the count agree. */
#include "unit/state_channels.h"

static void
subscriptions_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	channels_make(4, 2);
	txn = write_begin();
	add_connections(txn, 1, 9);
	commit(txn);
}

TestSuite(state_subscriptions, .init = subscriptions_setup, .fini = fixture_fini);

/* CONN_ID subscribes to CHANNEL; with a CONSUMER, durably. */
static int
subscribe(uint64_t conn_id, uint64_t id, uint32_t channel, const char *consumer)
{
	struct subscriptions_row row = { .channel = channel, .stream = (uint32_t)id + 100,
	    .max_in_flight = 5, .since_ns = 77, .is_durable = consumer != NULL };
	struct frame_view name = act_view(consumer);
	struct state_txn *txn = write_begin();
	int rc = subscriptions_add(txn, conn_id, (uint32_t)conn_id, id, &row, &name);

	if (rc == 0)
		commit(txn);
	else
		state_abort(txn);
	return rc;
}

static int
unsubscribe(uint64_t conn_id, uint64_t id)
{
	struct state_txn *txn = write_begin();
	int rc = subscriptions_del(txn, conn_id, id);

	commit(txn);
	return rc;
}

static int
describe(void *arg, uint64_t id, const struct subscriptions_row *row,
    const struct frame_view *consumer)
{
	char *out = arg;

	sprintf(out + strlen(out), " %llu:%u@%llu%s%.*s", (unsigned long long)id, row->channel,
	    (unsigned long long)row->base, row->is_durable ? "=" : "", (int)consumer->len,
	    (const char *)consumer->data);
	cr_assert(eq(u32, row->stream, (uint32_t)id + 100));
	cr_assert(eq(u32, row->max_in_flight, 5));
	cr_assert(eq(i64, row->since_ns, 77));
	return 0;
}

/* " id:channel@base=consumer" for each of CONN_ID's. */
static const char *
subscriptions_of(uint64_t conn_id)
{
	struct state_txn *txn = read_begin();
	static char out[1024];

	out[0] = '\0';
	cr_assert(zero(int, subscriptions_each_of(txn, conn_id, describe, out)));
	state_abort(txn);
	return out;
}

static int
describe_listener(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	char *out = arg;

	cr_assert(eq(u32, listener->slot, (uint32_t)conn_id));
	sprintf(out + strlen(out), " %llux%u", (unsigned long long)conn_id, listener->n);
	return 0;
}

/* " connection x subscriptions" for each who listens, and "=" the channel's count. */
static const char *
listeners_of(uint32_t channel)
{
	struct state_txn *txn = read_begin();
	static char out[1024];

	out[0] = '\0';
	cr_assert(zero(int, subscriptions_each_listener(txn, channel, describe_listener, out)));
	state_abort(txn);
	sprintf(out + strlen(out), " =%u", channel_row(channel).n_subscriptions);
	return out;
}

#define SAME(actual, expected)	cr_assert(eq(str, (char *)(uintptr_t)(actual), \
	    (char *)(uintptr_t)(expected)))

Test(state_subscriptions, a_subscription_is_listed_with_those_who_listen)
{
	publish_each(1, 3, 10);
	cr_assert(zero(int, subscribe(5, 1, 0, NULL)));
	cr_assert(zero(int, subscribe(5, 2, 1, NULL)));
	cr_assert(zero(int, subscribe(3, 3, 1, NULL)));
	cr_assert(zero(int, subscribe(5, 4, 1, NULL)));
	SAME(subscriptions_of(5), " 1:0@0 2:1@3 4:1@3");
	SAME(subscriptions_of(3), " 3:1@3");
	SAME(subscriptions_of(4), "");
	SAME(listeners_of(0), " 5x1 =1");
	SAME(listeners_of(1), " 3x1 5x2 =3");
	SAME(listeners_of(2), " =0");
}

Test(state_subscriptions, it_ends_without_the_others)
{
	subscribe(5, 1, 1, NULL);
	subscribe(5, 2, 1, NULL);
	subscribe(6, 3, 1, NULL);
	cr_assert(zero(int, unsubscribe(5, 1)));
	SAME(subscriptions_of(5), " 2:1@0");
	SAME(listeners_of(1), " 5x1 6x1 =2");
	cr_assert(zero(int, unsubscribe(5, 2)));
	SAME(listeners_of(1), " 6x1 =1");
	cr_assert(eq(int, unsubscribe(5, 2), ERR_NOTFOUND), "again");
	cr_assert(eq(int, unsubscribe(5, 3), ERR_NOTFOUND), "another's");
	cr_assert(eq(int, unsubscribe(6, 9), ERR_NOTFOUND));
	SAME(listeners_of(1), " 6x1 =1");
}

Test(state_subscriptions, a_channel_that_is_not_there)
{
	cr_assert(eq(int, subscribe(5, 1, 4, NULL), ERR_NOTFOUND));
	SAME(subscriptions_of(5), "");
}

Test(state_subscriptions, a_name_is_held_by_one)
{
	char longest[SUBSCRIPTIONS_CONSUMER_MAX + 2];

	cr_assert(zero(int, subscribe(5, 1, 2, "me")));
	cr_assert(eq(int, subscribe(6, 2, 2, "me"), ERR_BUSY));
	cr_assert(eq(int, subscribe(5, 2, 2, "me"), ERR_BUSY), "nor by itself twice");
	cr_assert(zero(int, subscribe(6, 3, 3, "me")), "each channel has its own names");
	cr_assert(zero(int, subscribe(6, 4, 2, "m")), "no beginning of another's");
	cr_assert(zero(int, subscribe(6, 5, 2, NULL)));
	SAME(subscriptions_of(5), " 1:2@0=me");
	SAME(subscriptions_of(6), " 3:3@0=me 4:2@0=m 5:2@0");
	SAME(listeners_of(2), " 5x1 6x2 =3");
	cr_assert(eq(u64, rows_in(STATE_CONSUMERS), 3));
	cr_assert(zero(int, unsubscribe(5, 1)));
	cr_assert(zero(int, subscribe(6, 6, 2, "me")), "free again");

	cr_assert(eq(int, subscribe(5, 7, 2, ""), ERR_INVALID));
	memset(longest, 'x', sizeof longest);
	longest[SUBSCRIPTIONS_CONSUMER_MAX + 1] = '\0';
	cr_assert(eq(int, subscribe(5, 7, 2, longest), ERR_INVALID));
	longest[SUBSCRIPTIONS_CONSUMER_MAX] = '\0';
	cr_assert(zero(int, subscribe(5, 7, 2, longest)));
	cr_assert(zero(int, unsubscribe(5, 7)));
}

Test(state_subscriptions, all_of_a_connection)
{
	struct state_txn *txn;
	uint64_t id;

	for (id = 1; id <= 100; id++)
		cr_assert(zero(int, subscribe(5, id, (uint32_t)(id % 2), NULL)));
	subscribe(5, 200, 2, "me");
	subscribe(5, UINT64_MAX, 3, "me");
	subscribe(4, 201, 0, NULL);
	subscribe(6, 202, 0, NULL);
	txn = write_begin();
	cr_assert(zero(int, subscriptions_del_all(txn, 5)));
	cr_assert(zero(int, subscriptions_del_all(txn, 5)), "again");
	cr_assert(zero(int, subscriptions_del_all(txn, 7)), "who has none");
	commit(txn);
	SAME(subscriptions_of(5), "");
	SAME(listeners_of(0), " 4x1 6x1 =2");
	SAME(listeners_of(1), " =0");
	SAME(listeners_of(2), " =0");
	cr_assert(zero(u64, rows_in(STATE_CONSUMERS)));
}

static int
first_only(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	(void)listener;
	*(uint64_t *)arg += conn_id;
	return 42;
}

Test(state_subscriptions, a_visitor_ends_the_walk)
{
	struct state_txn *txn;
	uint64_t sum = 0;

	subscribe(5, 1, 0, NULL);
	subscribe(6, 2, 0, NULL);
	txn = read_begin();
	cr_assert(eq(int, subscriptions_each_listener(txn, 0, first_only, &sum), 42));
	state_abort(txn);
	cr_assert(eq(u64, sum, 5));
}

/* What a process may have left half-done cannot be made by one: the checker is shown it by hand. */
static void
assert_seen(enum state_table table)
{
	struct stored_row { uint8_t key[64], row[1024]; size_t key_len, len; } saved;
	struct state_cursor *cursor;
	struct state_view key, row;
	struct state_txn *txn = write_begin();

	cr_assert(zero(int, state_cursor_open(txn, table, &cursor)));
	cr_assert(zero(int, state_next(cursor, &key, &row)));
	saved.key_len = key.len;
	saved.len = row.len;
	memcpy(saved.key, key.data, key.len);
	memcpy(saved.row, row.data, row.len);
	cr_assert(zero(int, state_cursor_del(cursor)));
	state_cursor_close(cursor);
	commit(txn);
	fixture_close();
	cr_assert(eq(int, fixture_check(NULL), 1), "without a row of %s",
	    state_table_names[table]);
	fixture_open();
	txn = write_begin();
	cr_assert(zero(int, state_put(txn, table, saved.key, saved.key_len, saved.row,
	    saved.len)));
	commit(txn);
}

Test(state_subscriptions, the_checker_sees_what_is_missing)
{
	subscribe(5, 1, 0, "me");
	assert_seen(STATE_SUBSCRIPTIONS);
	assert_seen(STATE_LISTENERS);
	assert_seen(STATE_CONSUMERS);
	assert_seen(STATE_CHANNELS);
}

Test(state_subscriptions, ids_begin_at_one_and_never_come_again)
{
	struct state_txn *txn = write_begin();
	uint64_t id;

	cr_assert(zero(int, channels_subscription_id(txn, &id)));
	cr_assert(eq(u64, id, 1));
	cr_assert(zero(int, channels_subscription_id(txn, &id)));
	cr_assert(eq(u64, id, 2));
	cr_assert(zero(int, channels_message_ids(txn, 10, &id)));
	cr_assert(eq(u64, id, 1));
	commit(txn);
	txn = write_begin();
	cr_assert(zero(int, channels_message_ids(txn, 0, &id)));
	cr_assert(zero(int, channels_message_ids(txn, 1, &id)));
	cr_assert(eq(u64, id, 11));
	state_abort(txn);
	txn = write_begin();
	cr_assert(zero(int, channels_message_ids(txn, 1, &id)));
	cr_assert(eq(u64, id, 11), "what was not committed was not given out");
	commit(txn);
}

Test(state_subscriptions, the_master_makes_the_channels)
{
	struct conf_channel list[3] = { { .name = (char *)(uintptr_t)"news" },
	    { .name = (char *)(uintptr_t)"orders", .durable = true },
	    { .name = (char *)(uintptr_t)"last" } };
	struct conf conf = { .channels = list, .n_channels = 3 };
	struct channels_row row;
	char longest[CONF_CHANNEL_NAME_MAX + 1];
	struct err err = { 0 };

	fixture_close();
	fixture_create(16);
	memset(longest, 'n', CONF_CHANNEL_NAME_MAX);
	longest[CONF_CHANNEL_NAME_MAX] = '\0';
	list[2].name = longest;
	cr_assert(zero(int, channels_create(fixture_dir, &conf, &err)), "%s", err.text);
	fixture_open();
	cr_assert(eq(u64, rows_in(STATE_CHANNELS), 3));
	row = channel_row(1);
	SAME(row.name, "orders");
	cr_assert(row.is_durable);
	cr_assert(zero(u64, row.mark.head));
	cr_assert(eq(u64, row.mark.first, 1));
	row = channel_row(2);
	SAME(row.name, longest);
	cr_assert(not(row.is_durable));
	cr_assert(eq(int, channels_create("/nowhere/at/all", &conf, &err), ERR_SYSTEM));
}
