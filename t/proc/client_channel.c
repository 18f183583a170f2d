/*
 * client_channel: libliminal's publisher and subscriber against a scripted server.
 */
#include "fake.h"

static void
shake_hands(struct fake *fake)
{
	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, FRAME_CAPABILITY_DURABLE_SUBSCRIPTION);
	fake_send(fake);
}

static void
put_published(struct fake *fake, uint32_t stream, uint64_t message, int delivered)
{
	struct frame frame = { .type = FRAME_PUBLISH_ACK, .stream = stream,
		.flags = delivered ? FRAME_FLAG_DELIVERED : 0 };

	frame.u.publish_ack.message = message;
	fake_put(fake, &frame);
}

static void
put_error(struct fake *fake, uint8_t type, uint32_t stream, uint16_t reason, const char *text)
{
	struct frame frame = { .type = type, .stream = stream };

	frame.u.error.reason = reason;
	frame.u.error.message.present = text != NULL;
	if (text != NULL)
		frame.u.error.message.view = fake_view(text);
	fake_put(fake, &frame);
}

static void
put_subscribed(struct fake *fake, uint32_t stream, uint64_t id)
{
	struct frame frame = { .type = FRAME_SUBSCRIBE_ACK, .stream = stream };

	frame.u.subscribe_ack.subscription = id;
	fake_put(fake, &frame);
}

static void
put_message(struct fake *fake, uint32_t stream, uint64_t sequence, const char *payload)
{
	struct frame frame = { .type = FRAME_DELIVER, .stream = stream };

	frame.u.deliver.sequence = sequence;
	frame.u.deliver.envelope.payload = fake_view(payload);
	fake_put(fake, &frame);
}

/* ---- publishing ---- */

static const uint8_t schema[LIMINAL_SCHEMA_ID_SIZE] = { 1, 2, 3, [31] = 32 };

static void
script_checks_publishes(struct fake *fake)
{
	const struct frame_envelope *envelope;
	struct frame frame;

	shake_hands(fake);
	fake_expect(fake, FRAME_PUBLISH, &frame);
	envelope = &frame.u.publish.envelope;
	FAKE_CHECK(frame.flags == 0 && frame.stream == 1);
	FAKE_CHECK(fake_is(frame.u.publish.channel, "news") && !frame.u.publish.key.present);
	FAKE_CHECK(fake_is(envelope->payload, "plain"));
	FAKE_CHECK(!envelope->parent_id.present && !envelope->has_vector_clock);
	for (int i = 0; i < FRAME_SCHEMA_ID_SIZE; i++)
		FAKE_CHECK(envelope->schema_id[i] == 0);
	fake_expect(fake, FRAME_PUBLISH, &frame);
	FAKE_CHECK(frame.flags == FRAME_FLAG_IDEMPOTENCY && frame.stream == 2);
	FAKE_CHECK(fake_is(frame.u.publish.key.view, "k-1"));
	FAKE_CHECK(fake_is(envelope->payload, "") && fake_is(envelope->parent_id.view, "17"));
	FAKE_CHECK(envelope->has_vector_clock && envelope->vector_clock == 9);
	FAKE_CHECK(memcmp(envelope->schema_id, schema, sizeof(schema)) == 0);
	put_published(fake, 1, 41, 1);
	put_error(fake, FRAME_PUBLISH_ERROR, 2, FRAME_REASON_SCHEMA, "/a: type: not a string");
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_channel, publishes_and_hears_what_became_of_it)
{
	const struct liminal_publication full = { .channel = "news", .key = "k-1",
		.schema_id = schema, .parent_id = "17", .vector_clock = 9, .has_vector_clock = 1 };
	const struct liminal_ack *ack;
	uint64_t first, second;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_checks_publishes);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_publish(conn, "news", "plain", 5, &first), LIMINAL_OK));
	cr_assert(eq(int, liminal_publish_with(conn, &full, &second), LIMINAL_OK));
	cr_assert(eq(u64, liminal_publishes_due(conn), 2));
	cr_assert(eq(int, liminal_next_ack(conn, FAKE_WAIT_MS, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->publish, first));
	cr_assert(eq(u64, ack->message, 41));
	cr_assert(eq(int, ack->delivered, 1));
	cr_assert(eq(int, ack->is_error, 0));
	cr_assert(eq(int, liminal_next_ack(conn, FAKE_WAIT_MS, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->publish, second));
	cr_assert(eq(int, ack->is_error, 1));
	cr_assert(eq(u64, ack->message, 0));
	cr_assert(eq(int, ack->reason, LIMINAL_REASON_SCHEMA));
	fake_assert_bytes(ack->text, ack->len, "/a: type: not a string");
	cr_assert(eq(u64, liminal_publishes_due(conn), 0));
	liminal_free(conn);
	fake_end(&fake);
}

Test(client_channel, sends_no_publish_that_would_cost_it_the_connection)
{
	static const struct liminal_publication bad[] = {
		{ .channel = NULL }, { .channel = "\xff" }, { .channel = "c", .len = 1 },
		{ .channel = "c", .key = "\xff" }, { .channel = "c", .parent_id = "\xff" },
	};
	const struct liminal_subscription worse[] = {
		{ .channel = NULL }, { .channel = "\xff" }, { .channel = "c", .n_accepted = 1 },
		{ .channel = "c", .consumer = "" }, { .channel = "c", .consumer = "\xff" },
		{ .channel = "c", .start = LIMINAL_START_OLDEST }, { .channel = "c", .sequence = 1 },
		{ .channel = "c", .consumer = "me", .sequence = 1 },
		{ .channel = "c", .consumer = "me", .start = LIMINAL_START_SEQUENCE + 1 },
	};
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, shake_hands);
	conn = fake_connect(&fake);
	liminal_set_max_frame(conn, 200);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(eq(int, liminal_publish_with(conn, &bad[i], NULL), LIMINAL_INVALID));
		cr_assert(eq(int, liminal_publish_wait(conn, &bad[i], 0, NULL), LIMINAL_INVALID));
	}
	cr_assert(eq(int, liminal_publish(conn, "c", schema, 32, NULL), LIMINAL_OK));
	cr_assert(eq(int, liminal_publish(conn, "c", shake_hands, 200, NULL), LIMINAL_INVALID));
	for (size_t i = 0; i < sizeof(worse) / sizeof(worse[0]); i++)
		cr_assert(eq(int, liminal_subscribe(conn, &worse[i], 0, &number), LIMINAL_INVALID),
		    "%zu", i);
	cr_assert(eq(int, liminal_subscribe(conn, NULL, 0, &number), LIMINAL_INVALID));
	cr_assert(eq(u64, liminal_publishes_due(conn), 1));
	liminal_free(conn);
	fake_end(&fake);
}

#define N_PUBLISHES	30000

/* Every third is never answered, every tenth is refused, and the last ones are answered first. */
static void
script_answers_some(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	for (uint32_t i = 1; i <= N_PUBLISHES; i++) {
		fake_expect(fake, FRAME_PUBLISH, &frame);
		FAKE_CHECK(frame.stream == i);
	}
	for (uint32_t i = N_PUBLISHES; i > 0; i--)
		if (i % 3 != 0 && i % 10 == 0)
			put_error(fake, FRAME_PUBLISH_ERROR, i, FRAME_REASON_PRESSURE, NULL);
		else if (i % 3 != 0)
			put_published(fake, i, i + 1000000, i % 2 == 0);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_channel, matches_outcomes_to_publishes_when_some_never_come)
{
	const struct liminal_ack *ack;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_answers_some);
	conn = fake_connect(&fake);
	for (uint64_t i = 1; i <= N_PUBLISHES; i++) {
		cr_assert(eq(int, liminal_publish(conn, "c", "x", 1, &number), LIMINAL_OK));
		cr_assert(eq(u64, number, i));
	}
	for (uint64_t i = N_PUBLISHES; i > 0; i--) {
		if (i % 3 == 0)
			continue;
		cr_assert(eq(int, liminal_next_ack(conn, FAKE_WAIT_MS, &ack), LIMINAL_OK));
		cr_assert(eq(u64, ack->publish, i));
		cr_assert(eq(int, ack->is_error, i % 10 == 0));
		cr_assert(eq(int, ack->delivered, i % 10 != 0 && i % 2 == 0));
	}
	cr_assert(eq(int, liminal_next_ack(conn, 50, &ack), LIMINAL_TIMED_OUT));
	cr_assert(eq(u64, liminal_publishes_due(conn), N_PUBLISHES / 3));
	cr_assert(eq(int, liminal_await_acks(conn, 50), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_refuses_two(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	for (uint32_t i = 1; i <= N_PUBLISHES; i++) {
		fake_expect(fake, FRAME_PUBLISH, &frame);
		if (i == 7 || i == N_PUBLISHES)
			put_error(fake, FRAME_PUBLISH_ERROR, i, FRAME_REASON_OTHER, "no");
		else
			put_published(fake, i, i, 0);
		if (i % 1000 == 0)
			fake_send(fake);
	}
	fake_expect_goodbye(fake);
}

Test(client_channel, shows_only_what_failed_to_a_program_that_wants_no_more)
{
	const struct liminal_ack *ack;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_refuses_two);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_await_acks(conn, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_set_ack_events(conn, LIMINAL_ACKS_ERRORS);
	for (int i = 1; i <= N_PUBLISHES; i++)
		cr_assert(eq(int, liminal_publish(conn, "c", "x", 1, NULL), LIMINAL_OK));
	cr_assert(eq(int, liminal_await_acks(conn, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(u64, liminal_publishes_due(conn), 0));
	cr_assert(eq(int, liminal_next_ack(conn, 0, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->publish, 7));
	cr_assert(eq(int, liminal_next_ack(conn, 0, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->publish, N_PUBLISHES));
	fake_assert_bytes(ack->text, ack->len, "no");
	cr_assert(eq(int, liminal_next_ack(conn, 0, &ack), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

#define N_FLOOD		1000000

/* Acknowledges a million at once, and reads on when all of that is read. */
static void
script_acknowledges_a_flood(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	for (uint32_t i = 1; i <= N_FLOOD; i++)
		fake_expect(fake, FRAME_PUBLISH, NULL);
	for (uint32_t i = 1; i <= N_FLOOD; i++)
		put_published(fake, i, i, 0);
	fake_send(fake);
	do
		FAKE_CHECK(fake_receive(fake, &frame));
	while (frame.type != FRAME_DISCONNECT);
	fake_expect_end(fake);
}

Test(client_channel, flushes_whatever_comes_meanwhile_that_nobody_wants)
{
	static uint8_t large[65536];
	struct liminal *conn;
	struct fake fake;
	int r;

	fake_start(&fake, script_acknowledges_a_flood);
	conn = fake_connect(&fake);
	liminal_set_ack_events(conn, LIMINAL_ACKS_ERRORS);
	liminal_set_max_frame(conn, 2 * sizeof(large));
	for (int i = 0; i < N_FLOOD; i++)
		if (liminal_publish(conn, "c", "x", 1, NULL) == LIMINAL_BUSY) {
			cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
			i--;
		}
	while ((r = liminal_publish(conn, "c", large, sizeof(large), NULL)) == LIMINAL_OK)
		continue;
	cr_assert(eq(int, r, LIMINAL_BUSY));
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK), "%s",
	    liminal_error_text(conn));
	liminal_free(conn);
	fake_end(&fake);
}

/* The answer to the first wait comes after its time, before that of an event and of the second. */
static void
script_answers_a_wait_late(struct fake *fake)
{
	struct frame first, event, second;

	shake_hands(fake);
	fake_expect(fake, FRAME_PUBLISH, &first);
	fake_expect(fake, FRAME_PUBLISH, &event);
	fake_expect(fake, FRAME_PUBLISH, &second);
	FAKE_CHECK(fake_is(second.u.publish.envelope.payload, "second"));
	FAKE_CHECK(second.stream != first.stream && first.stream != event.stream);
	put_published(fake, first.stream, 1, 1);
	put_published(fake, event.stream, 2, 1);
	put_published(fake, second.stream, 3, 0);
	fake_send(fake);
	fake_expect(fake, FRAME_PUBLISH, &second);
	put_error(fake, FRAME_PUBLISH_ERROR, second.stream,
	    FRAME_REASON_CHANNEL_NOT_CONFIGURED, "channel 'c' is not configured");
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_channel, publishes_and_waits)
{
	const struct liminal_publication second = { .channel = "c", .payload = "second",
		.len = 6 };
	const struct liminal_ack *ack;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_answers_a_wait_late);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_publish_wait(conn, &second, 30, &ack), LIMINAL_TIMED_OUT));
	cr_assert(eq(ptr, (void *)(uintptr_t)ack, NULL));
	cr_assert(eq(int, liminal_publish(conn, "c", "event", 5, &number), LIMINAL_OK));
	cr_assert(eq(int, liminal_publish_wait(conn, &second, FAKE_WAIT_MS, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->message, 3));
	cr_assert(eq(u64, ack->publish, 0));
	cr_assert(eq(int, liminal_next_ack(conn, 0, &ack), LIMINAL_OK));
	cr_assert(eq(u64, ack->publish, number));
	cr_assert(eq(u64, ack->message, 2));
	cr_assert(eq(int, liminal_publish_wait(conn, &second, FAKE_WAIT_MS, &ack),
	    LIMINAL_REFUSED));
	cr_assert(eq(int, liminal_reason(conn), LIMINAL_REASON_NOT_CONFIGURED));
	fake_assert_error(conn, "channel 'c' is not configured");
	cr_assert(eq(int, ack->is_error, 1));
	cr_assert(eq(int, liminal_next_ack(conn, 0, &ack), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- subscribing ---- */

static void
script_serves_two_subscriptions(struct fake *fake)
{
	struct frame frame, clock = { .type = FRAME_DELIVER, .stream = 2 };
	uint8_t ids[2 * LIMINAL_SCHEMA_ID_SIZE] = { 0 };

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, &frame);
	FAKE_CHECK(fake_is(frame.u.subscribe.channel, "news") && frame.stream == 1);
	FAKE_CHECK(frame.u.subscribe.max_in_flight > 0 && !frame.u.subscribe.durable);
	FAKE_CHECK(frame.u.subscribe.accepted.count == 0 && frame.flags == 0);
	put_subscribed(fake, 1, 71);
	put_message(fake, 1, 1, "first");
	put_message(fake, 1, 2, "second");
	fake_send(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, &frame);
	memcpy(ids + LIMINAL_SCHEMA_ID_SIZE, schema, sizeof(schema));
	FAKE_CHECK(frame.u.subscribe.accepted.count == 2);
	FAKE_CHECK(memcmp(frame.u.subscribe.accepted.encoded.data, ids, sizeof(ids)) == 0);
	put_message(fake, 1, 3, "before the acknowledgement");
	put_subscribed(fake, 2, 72);
	clock.u.deliver.sequence = 1;
	clock.u.deliver.envelope.payload = fake_view("clock");
	clock.u.deliver.envelope.schema_id = schema;
	clock.u.deliver.envelope.parent_id.present = 1;
	clock.u.deliver.envelope.parent_id.view = fake_view("parent");
	clock.u.deliver.envelope.has_vector_clock = 1;
	clock.u.deliver.envelope.vector_clock = 5;
	fake_put(fake, &clock);
	fake_send(fake);
	fake_expect(fake, FRAME_PING, NULL);
	put_message(fake, 1, 4, "set aside");
	fake_put(fake, &(struct frame){ .type = FRAME_PONG });
	fake_send(fake);
	fake_expect(fake, FRAME_UNSUBSCRIBE, &frame);
	FAKE_CHECK(frame.u.unsubscribe.subscription == 71 && frame.stream == 1);
	put_message(fake, 1, 5, "too late");
	put_message(fake, 2, 2, "still there");
	put_error(fake, FRAME_SUBSCRIBE_ERROR, 2, FRAME_REASON_SHED, "too slow");
	fake_send(fake);
	fake_expect_goodbye(fake);
}

static void
next_message(struct liminal *conn, const struct liminal_message **message, uint64_t sequence,
    const char *payload)
{
	cr_assert(eq(int, liminal_next_message(conn, FAKE_WAIT_MS, message), LIMINAL_OK), "%s",
	    liminal_error_text(conn));
	cr_assert(eq(u64, (*message)->sequence, sequence));
	fake_assert_text(*message, payload);
}

Test(client_channel, takes_the_messages_of_its_subscriptions_until_they_end)
{
	uint8_t ids[2 * LIMINAL_SCHEMA_ID_SIZE] = { 0 };
	struct liminal_subscription wanted = { .channel = "news", .context = ids };
	const struct liminal_message *message;
	uint64_t news, clock, number;
	struct liminal *conn;
	struct fake fake;

	memcpy(ids + LIMINAL_SCHEMA_ID_SIZE, schema, sizeof(schema));
	fake_start(&fake, script_serves_two_subscriptions);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &news), LIMINAL_OK));
	next_message(conn, &message, 1, "first");
	cr_assert(eq(ptr, message->context, ids));
	wanted = (struct liminal_subscription){ .channel = "clock", .accepted = ids,
		.n_accepted = 2 };
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &clock), LIMINAL_OK));
	next_message(conn, &message, 2, "second");
	cr_assert(eq(u64, message->subscription, news));
	next_message(conn, &message, 3, "before the acknowledgement");
	next_message(conn, &message, 1, "clock");
	cr_assert(eq(u64, message->subscription, clock));
	cr_assert(eq(ptr, message->context, NULL));
	cr_assert(eq(int, memcmp(message->schema_id, schema, sizeof(schema)), 0));
	fake_assert_bytes(message->parent_id, message->parent_id_len, "parent");
	cr_assert(eq(u64, message->vector_clock, 5));
	cr_assert(eq(int, liminal_accept(conn, clock, 1), LIMINAL_INVALID), "not durable");
	cr_assert(eq(int, liminal_ping(conn, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(int, liminal_unsubscribe(conn, news), LIMINAL_OK));
	cr_assert(eq(int, liminal_unsubscribe(conn, news), LIMINAL_INVALID));
	next_message(conn, &message, 2, "still there");
	cr_assert(eq(int, message->is_error, 0));
	next_message(conn, &message, 0, "too slow");
	cr_assert(eq(int, message->is_error, 1));
	cr_assert(eq(u64, message->subscription, clock));
	cr_assert(eq(int, message->reason, LIMINAL_REASON_SHED));
	cr_assert(eq(int, liminal_unsubscribe(conn, clock), LIMINAL_INVALID));
	cr_assert(eq(int, liminal_next_message(conn, 50, &message), LIMINAL_TIMED_OUT));
	wanted.channel = "late";
	liminal_close(conn);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, 0, &number), LIMINAL_DISCONNECTED));
	liminal_free(conn);
	fake_end(&fake);
}

/* The first Subscribe is answered when nobody waits any more. */
static void
script_subscribes_late(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	put_subscribed(fake, 1, 1001);
	put_message(fake, 1, 1, "nobody's");
	put_error(fake, FRAME_SUBSCRIBE_ERROR, 2, FRAME_REASON_OTHER, "nobody's");
	put_error(fake, FRAME_SUBSCRIBE_ERROR, 3, FRAME_REASON_CHANNEL_NOT_CONFIGURED,
	    "channel 'c' is not configured");
	fake_send(fake);
	fake_expect(fake, FRAME_UNSUBSCRIBE, &frame);
	FAKE_CHECK(frame.u.unsubscribe.subscription == 1001);
	fake_expect_goodbye(fake);
}

Test(client_channel, ends_a_subscription_that_comes_too_late)
{
	const struct liminal_subscription wanted = { .channel = "c" };
	const struct liminal_message *message;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_subscribes_late);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, 20, &number), LIMINAL_TIMED_OUT));
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, 20, &number), LIMINAL_TIMED_OUT));
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number),
	    LIMINAL_REFUSED));
	cr_assert(eq(int, liminal_reason(conn), LIMINAL_REASON_NOT_CONFIGURED));
	fake_assert_error(conn, "channel 'c' is not configured");
	cr_assert(eq(int, liminal_next_message(conn, 20, &message), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- durable ---- */

static void
expect_verdict(struct fake *fake, uint8_t type, const char *sequence, const char *reason)
{
	struct frame frame;

	fake_expect(fake, type, &frame);
	FAKE_CHECK(frame.stream == 1 && fake_is(frame.u.verdict.message, sequence));
	FAKE_CHECK(frame.u.verdict.reason.present == (reason != NULL));
	FAKE_CHECK(reason == NULL || fake_is(frame.u.verdict.reason.view, reason));
}

static void
script_serves_a_consumer(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, &frame);
	FAKE_CHECK(frame.flags == FRAME_FLAG_DURABLE && frame.u.subscribe.durable);
	FAKE_CHECK(fake_is(frame.u.subscribe.consumer, "billing"));
	FAKE_CHECK(frame.u.subscribe.start == 2 && frame.u.subscribe.sequence == 12);
	FAKE_CHECK(frame.u.subscribe.max_in_flight == 3);
	put_subscribed(fake, 1, 1);
	for (uint64_t i = 0; i < 3; i++)
		put_message(fake, 1, UINT64_MAX - i, "x");
	fake_send(fake);
	expect_verdict(fake, FRAME_ACCEPT, "18446744073709551615", NULL);
	expect_verdict(fake, FRAME_DEFER, "18446744073709551614", "busy");
	expect_verdict(fake, FRAME_REJECT, "18446744073709551613", NULL);
	fake_expect_goodbye(fake);
}

Test(client_channel, judges_the_messages_of_a_durable_subscription)
{
	const struct liminal_subscription wanted = { .channel = "orders", .consumer = "billing",
		.max_in_flight = 3, .start = LIMINAL_START_SEQUENCE, .sequence = 12 };
	const struct liminal_message *message;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_serves_a_consumer);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number), LIMINAL_OK));
	next_message(conn, &message, UINT64_MAX, "x");
	cr_assert(eq(int, liminal_accept(conn, number, message->sequence), LIMINAL_OK));
	fake_assert_text(message, "x");
	next_message(conn, &message, UINT64_MAX - 1, "x");
	cr_assert(eq(int, liminal_defer(conn, number, message->sequence, "busy"), LIMINAL_OK));
	next_message(conn, &message, UINT64_MAX - 2, "x");
	cr_assert(eq(int, liminal_reject(conn, number, message->sequence, "\xff"),
	    LIMINAL_INVALID));
	cr_assert(eq(int, liminal_reject(conn, number, message->sequence, NULL), LIMINAL_OK));
	cr_assert(eq(int, liminal_accept(conn, number + 1, 1), LIMINAL_INVALID));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_knows_no_extension(struct fake *fake)
{
	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, 0);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_channel, does_not_take_a_plain_subscription_for_a_durable_one)
{
	const struct liminal_subscription wanted = { .channel = "orders", .consumer = "billing" };
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_knows_no_extension);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number),
	    LIMINAL_INVALID));
	fake_assert_error(conn, "the server has no durable subscriptions");
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- all at once ---- */

static void
script_mixes_everything(struct fake *fake)
{
	struct frame frame;

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	put_subscribed(fake, 1, 1);
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_expect(fake, FRAME_PUBLISH, NULL);
	put_message(fake, 1, 1, "message");
	fake_put_push(fake, 3, "job");
	put_published(fake, 1, 12, 1);
	fake_put_answer(fake, 1, frame.stream, fake_view("answer"));
	fake_send(fake);
	fake_expect_goodbye(fake);
}

/* Once as they come, once taken by kind, which sets the others aside. */
static void
mix(int by_kind)
{
	const enum liminal_event order[2][4] = {
		{ LIMINAL_EVENT_MESSAGE, LIMINAL_EVENT_JOB, LIMINAL_EVENT_ACK, LIMINAL_EVENT_ANSWER },
		{ LIMINAL_EVENT_ANSWER, LIMINAL_EVENT_JOB, LIMINAL_EVENT_ACK, LIMINAL_EVENT_MESSAGE },
	};
	const struct liminal_subscription wanted = { .channel = "c" };
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	enum liminal_event event;
	uint64_t number, publish;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_mixes_everything);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number), LIMINAL_OK));
	liminal_open_conversation(conn, "s", SIZE_MAX, &number);
	liminal_send_request(conn, number, "?", 1, NULL);
	liminal_publish(conn, "c", "x", 1, &publish);
	if (by_kind)
		cr_assert(eq(int, liminal_await_acks(conn, FAKE_WAIT_MS), LIMINAL_OK));
	for (int i = 0; i < 4; i++) {
		if (by_kind && i == 0) {
			cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), 0));
			fake_assert_text(answer, "answer");
			continue;
		}
		cr_assert(eq(int, liminal_next(conn, FAKE_WAIT_MS, &event, &answer, &job), 0));
		cr_assert(eq(int, event, order[by_kind][i]));
		cr_assert(eq(int, answer != NULL, event == LIMINAL_EVENT_ANSWER));
		cr_assert(eq(int, job != NULL, event == LIMINAL_EVENT_JOB));
		cr_assert(eq(int, liminal_event_ack(conn) != NULL, event == LIMINAL_EVENT_ACK));
		cr_assert(eq(int, liminal_event_message(conn) != NULL,
		    event == LIMINAL_EVENT_MESSAGE));
		if (event == LIMINAL_EVENT_ACK)
			cr_assert(eq(u64, liminal_event_ack(conn)->publish, publish));
		if (event == LIMINAL_EVENT_MESSAGE)
			fake_assert_text(liminal_event_message(conn), "message");
	}
	cr_assert(eq(int, liminal_next(conn, 0, &event, &answer, &job), LIMINAL_TIMED_OUT));
	cr_assert(eq(ptr, (void *)(uintptr_t)liminal_event_message(conn), NULL));
	liminal_free(conn);
	fake_end(&fake);
}

Test(client_channel, hands_out_every_kind_of_event)
{
	mix(0);
	mix(1);
}

static void
script_floods(struct fake *fake)
{
	struct frame frame;
	char text[60000];

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	put_subscribed(fake, 1, 1);
	fake_send(fake);
	fake_expect(fake, FRAME_PUBLISH, &frame);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (uint64_t i = 1; i <= 500; i++) {
		put_message(fake, 1, i, text);
		fake_send(fake);
	}
	put_published(fake, frame.stream, 1, 1);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

/* 30 MB of messages come before the acknowledgement. */
Test(client_channel, bounds_the_messages_that_it_keeps)
{
	const struct liminal_subscription wanted = { .channel = "c" };
	const struct liminal_message *message;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	fake_start(&fake, script_floods);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number), LIMINAL_OK));
	liminal_publish(conn, "c", "x", 1, NULL);
	cr_assert(eq(int, liminal_await_acks(conn, FAKE_WAIT_MS), LIMINAL_BUSY));
	cr_assert(ne(ptr, strstr(liminal_error_text(conn), "messages"), NULL));
	for (uint64_t i = 1; i <= 500; i++) {
		cr_assert(eq(int, liminal_next_message(conn, FAKE_WAIT_MS, &message), 0));
		cr_assert(eq(u64, message->sequence, i));
	}
	cr_assert(eq(int, liminal_await_acks(conn, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- a server that misbehaves ---- */

static void
script_answers_what_was_not_asked(struct fake *fake)
{
	char go;

	shake_hands(fake);
	fake_expect(fake, FRAME_SUBSCRIBE, NULL);
	put_subscribed(fake, 1, 1);
	fake_send(fake);
	fake_expect(fake, FRAME_PUBLISH, NULL);
	put_published(fake, 1, 1, 1);
	FAKE_CHECK(read(fake->go_fd, &go, 1) == 1);
	switch (go) {
	case 'a':
		put_published(fake, 1, 1, 1);		/* a second time */
		break;
	case 'b':
		put_published(fake, 2, 1, 1);
		break;
	case 'c':
		put_published(fake, 0x80000001, 1, 1);	/* nobody waits */
		break;
	case 'd':
		put_subscribed(fake, 1, 1);		/* a second time */
		break;
	case 'e':
		put_subscribed(fake, 2, 1);
		break;
	case 'f':
		put_message(fake, 2, 1, "");
		break;
	case 'g':
		put_error(fake, FRAME_SUBSCRIBE_ERROR, 2, FRAME_REASON_SHED, NULL);
		break;
	case 'h':
		put_error(fake, FRAME_PUBLISH_ERROR, 9, FRAME_REASON_OTHER, NULL);
		break;
	}
	fake_send(fake);
	fake_expect_end(fake);
}

Test(client_channel, gives_up_on_a_server_that_answers_what_was_not_sent)
{
	const struct liminal_subscription wanted = { .channel = "c" };
	const struct liminal_message *message;
	struct liminal *conn;
	struct fake fake;
	uint64_t number;

	for (const char *how = "abcdefgh"; *how != '\0'; how++) {
		fake_start(&fake, script_answers_what_was_not_asked);
		conn = fake_connect(&fake);
		cr_assert(eq(int, (int)write(fake.go, how, 1), 1));
		cr_assert(eq(int, liminal_subscribe(conn, &wanted, FAKE_WAIT_MS, &number), 0));
		liminal_publish(conn, "c", "x", 1, NULL);
		cr_assert(eq(int, liminal_next_message(conn, FAKE_WAIT_MS, &message),
		    LIMINAL_PROTOCOL), "%c: %s", *how, liminal_error_text(conn));
		cr_assert(eq(int, liminal_publish(conn, "c", "x", 1, NULL), LIMINAL_PROTOCOL));
		liminal_free(conn);
		fake_end(&fake);
	}
}
