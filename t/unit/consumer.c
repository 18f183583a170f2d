/*
 * consumer: a connection's durable subscriptions between its client's frames and the store's inbox, on a real
 * state. The store process is the test.
 */
#include "role/channel.h"
#include "role/inflight.h"
#include "state/consumers.h"
#include "unit/state_fixture.h"

#define STORE	INBOX_SERVICE(BOARD_STORE)

static struct conf conf;
static struct role_context context;
static struct role_peer peer = { .conn_id = 9 };
static struct connection c;

static void
setup(void)
{
	char path[128];
	struct conf_source source = { .file = path };
	struct channels_row row = { .version = CHANNELS_VERSION, .is_durable = 1 };
	struct state_txn *txn;
	uint32_t number;
	FILE *file;

	fixture_init();
	snprintf(path, sizeof path, "%s/conf", fixture_dir);
	file = fopen(path, "w");
	fputs("channel \"a\" { durable = true redelivery_delay = \"1s\" }\n"
	    "channel \"b\" { durable = true redelivery_delay = \"1s\" }\n", file);
	fclose(file);
	cr_assert(zero(int, conf_load(&conf, &source, stderr)));
	unlink(path);
	context = (struct role_context){ .conf = &conf, .board = fixture_board, .slot = 9 };
	c.context = &context;
	c.peer = &peer;
	c.conf = &conf;
	c.mine = &fixture_board->slots[9];
	c.state = fixture_state;
	c.store = fixture_state;	/* it is not read here */
	c.is_open = c.is_recorded = 1;
	c.consumer_deadline_ns = INT64_MAX;
	TAILQ_INIT(&c.moved);
	txn = write_begin();
	add_connections(txn, 9, 9);
	for (number = 0; number < 2; number++) {
		snprintf(row.name, sizeof row.name, "%s", conf.channels[number].name);
		row.mark = (struct log_mark){ .head = 10, .first = 11 };
		cr_assert(zero(int, channels_put(txn, number, &row)));
	}
	commit(txn);
}

static void
teardown(void)
{
	struct subscription *s;

	turn_apply(&c);
	while ((s = RB_ROOT(&c.subscriptions)) != NULL) {
		subscription_end(&c, s, 0, NULL);
		turn_apply(&c);
	}
	free(c.deliverer);
	free(c.intents);
	buf_free(&c.out);
	conf_free(&conf);
	fixture_fini();
}

TestSuite(consumer, .init = setup, .fini = teardown);

/* The client. */

static void
subscribe(const char *channel, uint32_t stream, uint32_t max, const char *name, uint8_t start)
{
	struct frame frame = { .type = FRAME_SUBSCRIBE, .stream = stream };

	frame.u.subscribe.channel = act_view(channel);
	frame.u.subscribe.max_in_flight = max;
	frame.u.subscribe.durable = 1;
	frame.u.subscribe.consumer = act_view(name);
	frame.u.subscribe.start = start;
	frame.u.subscribe.sequence = start == 2 ? 7 : 0;
	channel_subscribe_frame(&c, &frame);
}

/* "accept 5" */
static void
say(enum frame_type verdict, uint32_t stream, const char *id)
{
	struct frame frame = { .type = verdict, .stream = stream };

	frame.u.verdict.message = act_view(id);
	consumer_verdict_frame(&c, &frame);
}

/* The next frame that was sent to the client: its type, 0 = none. */
static int
read_frame(struct frame *frame)
{
	struct frame_fault fault;
	size_t used = 0;

	if (frame_decode(buf_head(&c.out), buf_len(&c.out), 1 << 20, frame, &used, &fault) !=
	    FRAME_OK)
		return 0;
	buf_consume(&c.out, used);
	return frame->type;
}

/* The store. */

static struct events *
store_inbox(void)
{
	static struct events events;

	events = *inbox_of(STORE);
	return &events;
}

static void
store_takes_all(void)
{
	struct state_txn *txn = write_begin();

	cr_assert(zero(int, inbox_remove(txn, STORE, UINT64_MAX)));
	commit(txn);
}

static void
store_answers(uint64_t request, uint32_t code, const void *body, size_t len)
{
	struct inbox_entry entry = { .kind = INBOX_CONSUMER, .request = request, .code = code,
	    .len = (uint32_t)len };
	struct state_txn *txn = write_begin();

	cr_assert(zero(int, inbox_post(txn, 9, 9, &entry, body)));
	commit(txn);
	turn_look(&c);
	c.inbox_rows = 0;
	turn_apply(&c);
}

/* A consumer's row with ranges "from to", ended by 0. */
static size_t
row_image(uint8_t *out, uint64_t cursor, const uint64_t *ranges)
{
	struct consumers_row row = { .version = CONSUMERS_VERSION, .cursor = cursor,
	    .since_ns = 4711 };

	while (ranges[2 * row.n_ranges] != 0)
		row.n_ranges++;
	memcpy(out, &row, sizeof row);
	memcpy(out + sizeof row, ranges, row.n_ranges * sizeof(struct consumers_range));
	return sizeof row + row.n_ranges * sizeof(struct consumers_range);
}

/* Subscribe, and have the store answer with a row. */
static struct subscription *
open_consumer(const char *channel, uint32_t stream, uint32_t max, const char *name,
    uint64_t cursor, const uint64_t *ranges)
{
	static const uint64_t none[2];
	uint8_t row[512];
	struct frame frame;
	struct events *asked;
	struct subscription *s;

	subscribe(channel, stream, max, name, 0);
	asked = store_inbox();
	store_takes_all();
	store_answers(asked->list[asked->n - 1].request, 0, row,
	    row_image(row, cursor, ranges != NULL ? ranges : none));
	cr_assert(eq(int, read_frame(&frame), FRAME_SUBSCRIBE_ACK));
	s = subscription_find(&c, frame.u.subscribe_ack.subscription);
	cr_assert(ne(ptr, s, NULL));
	s->head = 100;
	return s;
}

static void
deliver_run(struct subscription *s, uint64_t first, uint64_t n)
{
	struct channel_run run;

	cr_assert(eq(int, consumer_next(s, clock_now_ns(), &run), 1));
	cr_assert(eq(u64, run.first, first));
	cr_assert(eq(u64, run.count, n));
	consumer_sent(s, first, n);
}

static int
may_deliver(struct subscription *s)
{
	struct channel_run run;

	return consumer_next(s, clock_now_ns(), &run);
}

/* The cursors in the store's inbox, "name@channel cursor from-to, …"; it takes them. */
static const char *
saved(void)
{
	static char text[1024];
	struct events *events = store_inbox();
	struct consumers_cursor head;
	struct consumers_range range;
	struct consumers_row row;
	struct frame_view ranges;
	size_t len = 0, i, at;
	unsigned n;

	text[0] = '\0';
	for (n = 0; n < events->n; n++) {
		const struct event *event = &events->list[n];

		if (event->kind != INBOX_CURSOR)
			continue;
		cr_assert(eq(u64, event->conn_id, 9));
		memcpy(&head, event->text, sizeof head);
		at = event->len - head.name_len;
		cr_assert(zero(int, consumers_unpack(event->text + sizeof head, at - sizeof head,
		    &row, &ranges)));
		cr_assert(eq(i64, row.since_ns, 4711), "it keeps when it was first seen");
		len += (size_t)snprintf(text + len, sizeof text - len, "%s%.*s@%u %llu",
		    len > 0 ? ", " : "", (int)head.name_len, event->text + at, head.channel,
		    (unsigned long long)row.cursor);
		for (i = 0; i < row.n_ranges; i++) {
			memcpy(&range, ranges.data + i * sizeof range, sizeof range);
			len += (size_t)snprintf(text + len, sizeof text - len, " %llu-%llu",
			    (unsigned long long)range.from, (unsigned long long)range.to);
		}
	}
	store_takes_all();
	return text;
}

static uint64_t
ignored(void)
{
	uint64_t n = c.frames_ignored;

	c.frames_ignored = 0;
	return n;
}

#define expect_text(got, want) cr_expect(eq(str, (char *)(uintptr_t)(got), \
	    (char *)(uintptr_t)(want)))

Test(consumer, asks_the_store_where_to_go_on)
{
	struct consumers_open question;
	struct events *events;
	struct frame frame;

	subscribe("b", 3, 10, "billing", 2);
	events = store_inbox();
	cr_assert(eq(u32, events->n, 1));
	cr_expect(eq(u32, events->list[0].kind, INBOX_CONSUMER_OPEN));
	cr_expect(eq(u64, events->list[0].conn_id, 9));
	cr_assert(eq(u32, events->list[0].len, sizeof question + 7));
	memcpy(&question, events->list[0].text, sizeof question);
	cr_expect(eq(u32, question.channel, 1));
	cr_expect(eq(u32, question.start, 2));
	cr_expect(eq(u64, question.sequence, 7));
	cr_expect(eq(u64, question.now, 10), "the channel's head");
	expect_text(events->list[0].text + sizeof question, "billing");
	cr_expect(zero(int, read_frame(&frame)), "no answer before the store's");
}

Test(consumer, begins_where_the_store_says)
{
	static const uint64_t ranges[] = { 8, 9, 0, 0 };
	struct subscription *s = open_consumer("a", 3, 4, "c", 5, ranges);

	deliver_run(s, 6, 2);
	deliver_run(s, 10, 2);
	cr_expect(zero(int, may_deliver(s)));
	turn_apply(&c);
	expect_text(saved(), "");
}

Test(consumer, is_refused_with_the_stores_reason)
{
	struct frame frame;

	subscribe("a", 3, 4, "c", 0);
	store_answers(store_inbox()->list[0].request, FRAME_REASON_PRESSURE, "the disk is full", 16);
	cr_assert(eq(int, read_frame(&frame), FRAME_SUBSCRIBE_ERROR));
	cr_expect(eq(u32, frame.stream, 3));
	cr_expect(eq(int, frame.u.error.reason, FRAME_REASON_PRESSURE));
	cr_expect(eq(sz, frame.u.error.message.view.len, 16));
	cr_expect(zero(u32, c.n_subscriptions));
	/* and its name is free */
	open_consumer("a", 3, 4, "c", 5, NULL);
}

Test(consumer, a_row_that_cannot_be_is_refused)
{
	static const uint64_t ranges[] = { 6, 9, 0, 0 };
	uint8_t row[512];
	size_t len = row_image(row, 5, ranges);
	struct frame frame;
	int i;

	for (i = 0; i < 3; i++) {
		subscribe("a", 3, 4, "c", 0);
		store_answers(store_inbox()->list[0].request, 0, row, i == 0 ? len : i == 1 ? 0 :
		    len - 1);
		store_takes_all();
		cr_assert(eq(int, read_frame(&frame), FRAME_SUBSCRIBE_ERROR));
		cr_expect(eq(int, frame.u.error.reason, FRAME_REASON_OTHER));
	}
}

Test(consumer, an_answer_after_its_end_is_nobodys)
{
	uint64_t request;
	uint8_t row[512];
	static const uint64_t none[2];
	struct frame frame;

	subscribe("a", 3, 4, "c", 0);
	request = store_inbox()->list[0].request;
	subscription_end(&c, RB_ROOT(&c.subscriptions), 0, NULL);
	store_answers(request, 0, row, row_image(row, 5, none));
	store_answers(request, 0, row, row_image(row, 5, none));
	cr_expect(zero(int, read_frame(&frame)));
	cr_expect(zero(u32, c.n_subscriptions));
	expect_text(saved(), "");
}

Test(consumer, a_turns_verdicts_are_one_cursor)
{
	struct subscription *s = open_consumer("a", 3, 10, "c", 5, NULL);

	deliver_run(s, 6, 10);
	say(FRAME_ACCEPT, 3, "6");
	say(FRAME_REJECT, 3, "7");
	say(FRAME_ACCEPT, 3, "9");
	expect_text(saved(), "");
	turn_apply(&c);
	expect_text(saved(), "c@0 7 9-9");
	turn_apply(&c);
	expect_text(saved(), "");
	say(FRAME_DEFER, 3, "8");
	turn_apply(&c);
	expect_text(saved(), "");
	say(FRAME_ACCEPT, 3, "8");
	turn_apply(&c);
	expect_text(saved(), "c@0 9");
	cr_expect(zero(u64, ignored()));
}

Test(consumer, ignores_and_counts_verdicts_about_nothing)
{
	static const char *const ids[] = {
		"", "0", "06", "+6", "-6", " 6", "6 ", "6x", "0x6", "6.0", "66666666666666666666",
		"18446744073709551622", "18446744073709551615", "5", "16", "six", "\xd9\xa6"
	};
	struct subscription *s = open_consumer("a", 3, 10, "c", 5, NULL);
	struct frame frame = { .type = FRAME_ACCEPT, .stream = 3 };
	size_t i;

	deliver_run(s, 6, 10);
	for (i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		say(FRAME_ACCEPT, 3, ids[i]);
		cr_expect(eq(u64, ignored(), 1), "%s", ids[i]);
	}
	frame.u.verdict.message = (struct frame_view){ (const uint8_t *)"6\0", 2 };
	consumer_verdict_frame(&c, &frame);
	cr_expect(eq(u64, ignored(), 1), "a NUL is no digit");
	say(FRAME_ACCEPT, 2, "6");
	say(FRAME_ACCEPT, 4, "6");
	say(FRAME_DEFER, UINT32_MAX, "6");
	cr_expect(eq(u64, ignored(), 3), "other streams");
	say(FRAME_REJECT, 3, "6");
	say(FRAME_REJECT, 3, "6");
	cr_expect(eq(u64, ignored(), 1), "once only");
	turn_apply(&c);
	expect_text(saved(), "c@0 6");
}

Test(consumer, the_one_that_has_it_is_meant)
{
	struct subscription *a = open_consumer("a", 3, 10, "one", 5, NULL);
	struct subscription *b = open_consumer("b", 3, 10, "two", 7, NULL);
	struct subscription *other = open_consumer("b", 2, 10, "three", 5, NULL);

	deliver_run(a, 6, 10);
	deliver_run(b, 8, 10);
	deliver_run(other, 6, 10);
	say(FRAME_ACCEPT, 3, "16");
	turn_apply(&c);
	expect_text(saved(), "two@1 7 16-16");
	say(FRAME_DEFER, 3, "8");
	say(FRAME_ACCEPT, 3, "8");
	turn_apply(&c);
	expect_text(saved(), "two@1 8 16-16");
	say(FRAME_ACCEPT, 3, "8");
	turn_apply(&c);
	expect_text(saved(), "one@0 5 8-8");
	say(FRAME_ACCEPT, 2, "6");
	say(FRAME_ACCEPT, 3, "6");
	turn_apply(&c);
	expect_text(saved(), "three@1 6, one@0 6 8-8");
	cr_expect(zero(u64, ignored()));
}

Test(consumer, defers_with_the_channels_delay)
{
	struct subscription *s = open_consumer("a", 3, 2, "c", 5, NULL);
	int64_t due;

	cr_expect(eq(i64, consumer_next_deadline(&c), INT64_MAX));
	deliver_run(s, 6, 2);
	say(FRAME_DEFER, 3, "6");
	due = consumer_next_deadline(&c);
	cr_expect(le(i64, llabs(due - clock_now_ns() - CLOCK_SECOND), CLOCK_SECOND / 2));
	cr_expect(zero(int, may_deliver(s)), "it keeps its place");
	consumer_tick(&c, due - 1);
	cr_expect(eq(i64, consumer_next_deadline(&c), due));
	cr_expect(zero(int, may_deliver(s)));
	consumer_tick(&c, due);
	cr_expect(eq(i64, consumer_next_deadline(&c), INT64_MAX));
	cr_expect(zero(u64, atomic_load(&c.mine->counters[BOARD_REDELIVERED])));
	deliver_run(s, 6, 1);
	cr_expect(eq(u64, atomic_load(&c.mine->counters[BOARD_REDELIVERED]), 1));
	cr_expect(zero(int, may_deliver(s)));
}

Test(consumer, one_timer_for_all)
{
	struct subscription *a = open_consumer("a", 3, 2, "one", 5, NULL);
	struct subscription *b = open_consumer("b", 4, 2, "two", 5, NULL);
	int64_t first;

	deliver_run(a, 6, 2);
	deliver_run(b, 6, 2);
	say(FRAME_DEFER, 4, "7");
	first = consumer_next_deadline(&c);
	while (clock_now_ns() < first - CLOCK_SECOND + 1)
		;
	say(FRAME_DEFER, 3, "6");
	cr_expect(eq(i64, consumer_next_deadline(&c), first));
	consumer_tick(&c, first);
	cr_expect(zero(int, may_deliver(a)));
	deliver_run(b, 7, 1);
	cr_expect(lt(i64, first, consumer_next_deadline(&c)));
	cr_expect(lt(i64, consumer_next_deadline(&c), INT64_MAX));
	consumer_tick(&c, consumer_next_deadline(&c));
	deliver_run(a, 6, 1);
}

Test(consumer, its_end_saves_what_the_turn_has_changed)
{
	struct subscription *s = open_consumer("a", 3, 10, "c", 5, NULL);

	deliver_run(s, 6, 10);
	say(FRAME_ACCEPT, 3, "6");
	subscription_end(&c, s, 0, NULL);
	say(FRAME_ACCEPT, 3, "7");
	cr_expect(eq(u64, ignored(), 1), "it is over");
	turn_apply(&c);
	expect_text(saved(), "c@0 6");
	/* The name is free behind it. */
	subscribe("a", 3, 10, "c", 0);
	cr_expect(eq(u32, store_inbox()->list[0].kind, INBOX_CONSUMER_OPEN));
}

Test(consumer, goes_on_behind_what_is_lost)
{
	struct subscription *s = open_consumer("a", 3, 4, "c", 5, NULL);

	deliver_run(s, 6, 4);
	say(FRAME_ACCEPT, 3, "6");
	say(FRAME_DEFER, 3, "8");
	cr_expect(eq(u64, consumer_lost(s, 50), 1 + 40));
	turn_apply(&c);
	expect_text(saved(), "c@0 6 8-8 10-49");
	deliver_run(s, 50, 2);
	say(FRAME_ACCEPT, 3, "7");
	say(FRAME_ACCEPT, 3, "9");
	cr_expect(zero(u64, ignored()), "the client still had them");
	turn_apply(&c);
	expect_text(saved(), "c@0 49");
}

/* A store that takes nothing must not have its inbox filled, and gets the last word when it goes on. */
Test(consumer, does_not_fill_the_inbox_of_a_store_that_stands_still)
{
	struct subscription *s = open_consumer("a", 3, 100000, "c", 5, NULL);
	struct subscription *other = open_consumer("b", 4, 10, "other", 5, NULL);
	unsigned rows;
	char id[32];
	int i;

	s->head = 100000;
	deliver_run(s, 6, 99995);
	deliver_run(other, 6, 10);
	for (i = 0; i < 20000; i++) {
		snprintf(id, sizeof id, "%d", 6 + i);
		say(FRAME_ACCEPT, 3, id);
		turn_apply(&c);
		if (c.cursors_held_ns != 0)
			break;
	}
	cr_assert(lt(int, i, 5000));
	cr_assert(lt(int, 100, i), "it is not stingy either");
	rows = (unsigned)rows_in(STATE_INBOX);
	for (i = 0; i < 200; i++) {
		say(FRAME_ACCEPT, 3, id);
		snprintf(id, sizeof id, "%d", 30000 + i);
		consumer_tick(&c, INT64_MAX - 1);
		turn_apply(&c);
	}
	cr_expect(eq(u32, (unsigned)rows_in(STATE_INBOX), rows));
	/* What ends says so all the same. */
	say(FRAME_ACCEPT, 4, "6");
	subscription_end(&c, other, 0, NULL);
	turn_apply(&c);
	cr_expect(eq(u32, (unsigned)rows_in(STATE_INBOX), rows + 1));
	store_takes_all();
	cr_expect(lt(i64, consumer_next_deadline(&c), INT64_MAX));
	consumer_tick(&c, consumer_next_deadline(&c));
	turn_apply(&c);
	cr_expect(eq(int, strncmp(saved(), "c@0 ", 4), 0), "the last word");
	cr_expect(eq(i64, consumer_next_deadline(&c), INT64_MAX));
}

Test(consumer, hostile_number_of_messages_at_once)
{
	struct subscription *s = open_consumer("a", 3, UINT32_MAX, "c", 5, NULL);

	s->head = UINT64_MAX - 1;
	deliver_run(s, 6, INFLIGHT_MAX);
	cr_expect(zero(int, may_deliver(s)));
	say(FRAME_ACCEPT, 3, "6");
	deliver_run(s, 6 + INFLIGHT_MAX, 1);
}

Test(consumer, delivery_goes_on_when_there_is_room_or_something_is_due)
{
	struct subscription *s = open_consumer("a", 3, 2, "c", 5, NULL);

	deliver_run(s, 6, 2);
	deliver(&c);
	cr_assert(zero(int, deliver_has_news(&c)));
	say(FRAME_DEFER, 3, "6");
	cr_expect(zero(int, deliver_has_news(&c)));
	consumer_tick(&c, consumer_next_deadline(&c));
	cr_expect(eq(int, deliver_has_news(&c), 1));
	consumer_sent(s, 6, 1);
	deliver(&c);
	cr_assert(zero(int, deliver_has_news(&c)));
	say(FRAME_ACCEPT, 3, "6");
	cr_expect(eq(int, deliver_has_news(&c), 1));
}

Test(consumer, a_cursor_that_does_not_fit_is_tried_again)
{
	struct subscription *s = open_consumer("a", 3, 2, "c", 5, NULL);
	struct intent refused = { .kind = INTENT_CURSOR, .result = ERR_FULL, .text = "full" };

	deliver_run(s, 6, 2);
	say(FRAME_ACCEPT, 3, "6");
	consumer_note_moved(&c);
	cr_assert(eq(sz, c.n_intents, 1));
	refused.correlation = c.intents[0].correlation;
	free(c.intents[0].owned);
	c.n_intents = 0;
	consumer_done_cursor(&c, &refused);
	turn_apply(&c);
	expect_text(saved(), "");
	say(FRAME_ACCEPT, 3, "7");
	turn_apply(&c);
	expect_text(saved(), "");
	consumer_tick(&c, consumer_next_deadline(&c));
	turn_apply(&c);
	expect_text(saved(), "c@0 7");
	/* Of one that is over nothing can be tried again. */
	subscription_end(&c, s, 0, NULL);
	turn_apply(&c);
	consumer_done_cursor(&c, &refused);
	cr_expect(eq(i64, consumer_next_deadline(&c), INT64_MAX));
}
