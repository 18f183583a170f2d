/*
 * client_activity: requests in the typed form, as the server reads them.
 */
#include "form/typed.h"

#include "fake.h"

#define RESPONSE \
	"{\"content_type\":\"" TYPED_RESPONSE_TYPE "\",\"worker_id\":\"w#1\"," \
	"\"result\":{\"status\":\"completed\",\"output\":null}}"

static int
fake_is_string(const char *have, const char *want)
{
	return have == want || (have != NULL && want != NULL && strcmp(have, want) == 0);
}

/* The next request as the daemon would take it, and its input. Returns its stream. */
static uint32_t
fake_expect_activity(struct fake *fake, struct typed_request *request, struct buf *input)
{
	struct frame frame;
	struct frame_view payload;
	struct err err;

	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	FAKE_CHECK(frame.flags == FRAME_FLAG_REPLY);
	payload = frame.u.conversation_message.envelope.payload;
	if (typed_request_parse(payload.data, payload.len, request, &err) != TYPED_REQUEST)
		fake_die("no typed request: %.*s", (int)payload.len, (const char *)payload.data);
	buf_consume(input, buf_len(input));
	FAKE_CHECK(typed_request_input(payload.data, payload.len, input, &err) == 0);
	return frame.stream;
}

static void
script_takes_activities(struct fake *fake)
{
	struct typed_request request;
	struct buf input = { 0 };
	uint32_t stream;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	stream = fake_expect_activity(fake, &request, &input);
	FAKE_CHECK(strcmp(request.activity_type, "shrink") == 0);
	FAKE_CHECK(fake_is_string(request.workflow_id, "w\xc3\xb6rk\n\"1\""));
	FAKE_CHECK(request.has_ordinal && request.ordinal == INT64_C(9007199254740991));
	FAKE_CHECK(fake_is_string(request.node, "here") && request.node_required);
	FAKE_CHECK(request.schedule_to_close_ns == INT64_C(300000000000));
	FAKE_CHECK(request.start_to_close_ns == 1000000);
	FAKE_CHECK(buf_len(&input) == 4 && memcmp(buf_head(&input), "\0\xff\"x", 4) == 0);
	typed_request_free(&request);
	fake_put_answer(fake, 1, stream, fake_view(RESPONSE));
	fake_send(fake);

	/* the next one has only what it must, in the same buffer */
	stream = fake_expect_activity(fake, &request, &input);
	FAKE_CHECK(strcmp(request.activity_type, "t") == 0);
	FAKE_CHECK(request.workflow_id == NULL && request.node == NULL);
	FAKE_CHECK(!request.has_ordinal && !request.node_required);
	FAKE_CHECK(request.schedule_to_close_ns == 0 && request.start_to_close_ns == 0);
	FAKE_CHECK(buf_len(&input) == 0);
	typed_request_free(&request);
	fake_put_error(fake, 1, stream, FRAME_REASON_ACTIVITY_FAILED, "worker 'w#1' failed");
	fake_send(fake);
	fake_expect_goodbye(fake);
	buf_free(&input);
}

Test(client_activity, says_all_that_a_typed_request_can_say)
{
	const struct liminal_activity full = {
		.activity_type = "shrink", .task_queue = "q", .input = "\0\xff\"x", .len = 4,
		.content_type = "image/png", .workflow_id = "w\xc3\xb6rk\n\"1\"",
		.ordinal = UINT64_C(9007199254740991), .has_ordinal = 1,
		.node = "here", .node_required = 1,
		.schedule_to_close_ms = 300000, .start_to_close_ms = 1,
	};
	const struct liminal_activity bare = { .activity_type = "t", .task_queue = "q" };
	const struct liminal_answer *answer;
	uint64_t conversation, first, second;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_takes_activities);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_open_pool(conn, "n", "q", &conversation), LIMINAL_OK));
	cr_assert(eq(int, liminal_send_activity(conn, conversation, &full, &first), LIMINAL_OK));
	cr_assert(eq(int, liminal_send_activity(conn, conversation, &bare, &second), LIMINAL_OK));
	cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	cr_assert(eq(u64, answer->request, first));
	cr_assert(eq(int, answer->is_error, 0));
	fake_assert_text(answer, RESPONSE);
	cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	cr_assert(eq(u64, answer->request, second));
	cr_assert(eq(int, answer->reason, LIMINAL_REASON_ACTIVITY_FAILED));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_takes_one(struct fake *fake)
{
	struct typed_request request;
	struct buf input = { 0 };
	struct frame frame;
	uint32_t stream;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, &frame);
	FAKE_CHECK(fake_is(frame.u.conversation_open.subject, "aion.dispatch.default.emails"));
	stream = fake_expect_activity(fake, &request, &input);
	FAKE_CHECK(fake_is_string(request.workflow_id, "wf") && request.ordinal == 0);
	FAKE_CHECK(request.has_ordinal);
	typed_request_free(&request);
	fake_put_answer(fake, frame.u.conversation_open.conversation, stream,
	    fake_view(RESPONSE));
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	fake_expect_goodbye(fake);
	buf_free(&input);
}

Test(client_activity, dispatches_one_and_waits_for_it)
{
	const struct liminal_activity activity = {
		.activity_type = "send", .task_queue = "emails", .input = "hello", .len = 5,
		.workflow_id = "wf", .has_ordinal = 1,
	};
	const struct liminal_answer *answer;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_takes_one);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_dispatch_activity(conn, "default", &activity, FAKE_WAIT_MS,
	    &answer), LIMINAL_OK), "%s", liminal_error_text(conn));
	fake_assert_text(answer, RESPONSE);
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_hears_nothing(struct fake *fake)
{
	fake_shake_hands(fake);
	fake_expect_goodbye(fake);
}

Test(client_activity, refuses_what_makes_no_sense_before_anything_is_sent)
{
	const struct liminal_activity bad[] = {
		{ .task_queue = "q" },
		{ .activity_type = "", .task_queue = "q" },
		{ .activity_type = "t" },
		{ .activity_type = "t", .task_queue = "q", .len = 1 },
		{ .activity_type = "t", .task_queue = "q", .node_required = 1 },
		{ .activity_type = "t", .task_queue = "q", .has_ordinal = 1 },
		{ .activity_type = "t", .task_queue = "q", .workflow_id = "w", .has_ordinal = 1,
		    .ordinal = UINT64_MAX },
		{ .activity_type = "t", .task_queue = "q", .schedule_to_close_ms = -1 },
		{ .activity_type = "t", .task_queue = "q", .start_to_close_ms = INT64_MAX },
		{ .activity_type = "t\xff", .task_queue = "q" },
		{ .activity_type = "t", .task_queue = "q", .workflow_id = "\xc3" },
	};
	const struct liminal_answer *answer = (const struct liminal_answer *)bad;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_hears_nothing);
	conn = fake_connect(&fake);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(eq(int, liminal_dispatch_activity(conn, "n", &bad[i], FAKE_WAIT_MS,
		    &answer), LIMINAL_INVALID), "%zu", i);
		cr_assert(answer == NULL);
		cr_assert(liminal_error_text(conn)[0] != '\0');
	}
	cr_assert(eq(int, liminal_dispatch_activity(conn, "n", NULL, 0, NULL), LIMINAL_INVALID));
	liminal_free(conn);
	fake_end(&fake);
}
