/*
 * client: libliminal against a scripted server, over real sockets: what it says, and
 * what it makes of what it hears, however that is cut, ordered or broken.
 */
#include <poll.h>
#include <sys/time.h>
#include <time.h>

#include "fake.h"

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- opening ---- */

static void
script_checks_connect(struct fake *fake)
{
	struct frame frame;

	fake_expect(fake, FRAME_CONNECT, &frame);
	FAKE_CHECK(frame.stream == 0 && frame.flags == 0);
	FAKE_CHECK(frame.u.connect.min.major == 1 && frame.u.connect.min.minor == 0);
	FAKE_CHECK(frame.u.connect.max.major == 1 && frame.u.connect.max.minor == 0);
	FAKE_CHECK(fake_is(frame.u.connect.token, "secret"));
	fake_put_ack(fake, 0x00030000);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client, opens_with_version_and_token_and_leaves_with_a_disconnect)
{
	struct fake fake;
	struct liminal *conn = liminal_new();

	fake_start(&fake, script_checks_connect);
	cr_assert(eq(int, liminal_set_token(conn, "secret", 6), LIMINAL_OK));
	cr_assert(eq(int, liminal_is_open(conn), 0));
	cr_assert(eq(int, liminal_fd(conn), -1));
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(int, liminal_is_open(conn), 1));
	cr_assert(eq(u32, liminal_capabilities(conn), 0x00030000));
	cr_assert(eq(int, liminal_open(conn, fake.address, 0), LIMINAL_INVALID));
	liminal_close(conn);
	cr_assert(eq(int, liminal_is_open(conn), 0));
	fake_end(&fake);

	/* the object serves again */
	fake_start(&fake, script_checks_connect);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

Test(client, opens_a_unix_socket)
{
	char dir[] = "/tmp/liminal-client.XXXXXX", path[64];
	struct liminal *conn = liminal_new();
	struct fake fake;

	cr_assert(ne(ptr, mkdtemp(dir), NULL));
	snprintf(path, sizeof(path), "%s/socket", dir);
	fake_start_at(&fake, script_checks_connect, path);
	liminal_set_token(conn, "secret", 6);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
	unlink(path);
	rmdir(dir);
}

static void
script_refuses(struct fake *fake)
{
	struct frame frame = { .type = FRAME_CONNECT_ERROR };

	frame.u.error.reason = FRAME_REASON_AUTHENTICATION;
	frame.u.error.message.present = 1;
	frame.u.error.message.view = fake_view("wrong\n\033[31mtoken");
	fake_put(fake, &frame);
	/* before a byte is read, as a server at its limit does */
	fake_send(fake);
	shutdown(fake->fd, SHUT_WR);
	fake_expect(fake, FRAME_CONNECT, NULL);
}

Test(client, tells_why_the_server_refused)
{
	struct liminal *conn = liminal_new();
	struct fake fake;

	fake_start(&fake, script_refuses);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_REFUSED));
	cr_assert(eq(int, liminal_reason(conn), LIMINAL_REASON_AUTHENTICATION));
	fake_assert_error(conn, "wrong  [31mtoken");
	cr_assert(eq(int, liminal_is_open(conn), 0));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_wrong_version(struct fake *fake)
{
	struct frame frame = { .type = FRAME_CONNECT_ACK };

	fake_expect(fake, FRAME_CONNECT, NULL);
	frame.u.connect_ack.selected.major = 2;
	fake_put(fake, &frame);
	fake_send(fake);
	fake_expect_end(fake);
}

static void
script_hangs_up(struct fake *fake)
{
	fake_expect(fake, FRAME_CONNECT, NULL);
}

static void
script_says_nothing(struct fake *fake)
{
	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_expect_end(fake);
}

Test(client, tells_apart_how_opening_fails)
{
	struct liminal *conn = liminal_new();
	struct fake fake;
	int64_t began;

	fake_start(&fake, script_wrong_version);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_PROTOCOL));
	fake_end(&fake);

	fake_start(&fake, script_hangs_up);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_DISCONNECTED));
	fake_end(&fake);

	/* nobody listens there any more */
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_DISCONNECTED));

	fake_start(&fake, script_says_nothing);
	began = now_ms();
	cr_assert(eq(int, liminal_open(conn, fake.address, 100), LIMINAL_TIMED_OUT));
	cr_assert(le(i64, 100, now_ms() - began));
	fake_end(&fake);
	liminal_free(conn);
}

Test(client, knows_an_address_when_it_sees_one)
{
	static const char *const bad[] = { "", "localhost", ":1", "a:", "a:0", "a:65536", "a:x",
		"a:1x", "::1:80", "[]:1", "[::1]", "[::1]80", "unix:", NULL };
	struct liminal *conn = liminal_new();

	for (size_t i = 0; bad[i] != NULL; i++)
		cr_assert(eq(int, liminal_open(conn, bad[i], 0), LIMINAL_INVALID), "%s", bad[i]);
	cr_assert(eq(int, liminal_open(conn, NULL, 0), LIMINAL_INVALID));
	cr_assert(eq(int, liminal_open(conn, "unix:/nonexistent/socket", 0),
	    LIMINAL_DISCONNECTED));
	liminal_free(conn);
	liminal_free(NULL);
}

/* ---- nothing is lost ---- */

static void
script_all_at_once(struct fake *fake)
{
	const struct frame ping = { .type = FRAME_PING }, unknown = { .type = 0x7f, .stream = 9 };

	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, 0);
	fake_put(fake, &ping);
	fake_put_push(fake, 7, "early");
	fake_put(fake, &unknown);
	fake_send(fake);
	fake_expect(fake, FRAME_WORKER_REGISTER, NULL);
	fake_expect(fake, FRAME_PONG, NULL);
	fake_put_push(fake, 8, "before");
	fake_put_registered(fake, NULL);
	fake_put_push(fake, 9, "after");
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client, keeps_frames_that_arrive_with_an_acknowledgement)
{
	const char *const namespaces[] = { "default" };
	const struct liminal_worker worker = { .namespaces = namespaces, .n_namespaces = 1,
		.task_queue = "q" };
	const char *const expected[] = { "early", "before", "after" };
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_all_at_once);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_register(conn, &worker, FAKE_WAIT_MS), LIMINAL_OK));
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
		cr_assert(eq(u64, job->correlation, 7 + i));
		fake_assert_text(job, expected[i]);
	}
	cr_assert(eq(int, liminal_next_job(conn, 0, &job), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_slow(struct fake *fake)
{
	struct frame frame;

	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, 0);
	fake_send_slowly(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_put_answer(fake, 1, frame.stream, fake_view("one letter at a time"));
	fake_put_push(fake, 1, "and a job");
	fake_send_slowly(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	fake_expect_goodbye(fake);
}

Test(client, reads_what_comes_byte_by_byte)
{
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_slow);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_ask(conn, "s", "?", 1, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	fake_assert_text(answer, "one letter at a time");
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
	fake_assert_text(job, "and a job");
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_ends_in_mid_frame(struct fake *fake)
{
	struct frame frame;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_put_answer(fake, 1, frame.stream, fake_view("whole"));
	fake_put_answer(fake, 1, frame.stream + 1, fake_view("broken"));
	fake->out.end -= 3;
	fake_send(fake);
}

Test(client, hands_out_what_came_whole_and_then_says_disconnected)
{
	const struct liminal_answer *answer;
	uint64_t conversation, request;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_ends_in_mid_frame);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	liminal_send_request(conn, conversation, "?", 1, &request);
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
	fake_end(&fake);
	cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	cr_assert(eq(u64, answer->request, request));
	cr_assert(eq(int, liminal_next_answer(conn, -1, &answer), LIMINAL_DISCONNECTED));
	cr_assert(ne(ptr, strstr(liminal_error_text(conn), "middle of a frame"), NULL));
	/* from now on, everywhere, and without waiting */
	cr_assert(eq(int, liminal_next_answer(conn, -1, &answer), LIMINAL_DISCONNECTED));
	cr_assert(eq(int, liminal_send_request(conn, conversation, "?", 1, NULL),
	    LIMINAL_DISCONNECTED));
	cr_assert(eq(int, liminal_flush(conn, -1), LIMINAL_DISCONNECTED));
	cr_assert(eq(int, liminal_process(conn), LIMINAL_DISCONNECTED));
	cr_assert(eq(int, liminal_is_open(conn), 0));
	liminal_free(conn);
}

/* ---- asking ---- */

static void
script_answers_once_each(struct fake *fake)
{
	struct frame frame;

	fake_shake_hands(fake);
	/* an answer */
	fake_expect(fake, FRAME_CONVERSATION_OPEN, &frame);
	FAKE_CHECK(fake_is(frame.u.conversation_open.subject, "aion.dispatch.default.emails"));
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	FAKE_CHECK(frame.flags == FRAME_FLAG_REPLY);
	FAKE_CHECK(fake_is(frame.u.conversation_message.envelope.payload, "hello"));
	fake_put_answer(fake, frame.u.conversation_message.conversation, frame.stream,
	    fake_view("HELLO"));
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	/* an error */
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_put_error(fake, frame.u.conversation_message.conversation, frame.stream,
	    FRAME_REASON_NO_WORKER, "no dispatch workers");
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	/* a refused conversation: the error for it, and one for the request */
	fake_expect(fake, FRAME_CONVERSATION_OPEN, &frame);
	fake_put_error(fake, frame.u.conversation_open.conversation, frame.stream,
	    FRAME_REASON_PRESSURE, "too many conversations");
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_put_error(fake, frame.u.conversation_message.conversation, frame.stream,
	    FRAME_REASON_INVALID_STATE, "not open");
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	fake_expect_goodbye(fake);
}

Test(client, asks_and_is_answered_or_told_why_not)
{
	const struct liminal_answer *answer;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_answers_once_each);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_dispatch(conn, "default", "emails", "hello", 5, FAKE_WAIT_MS,
	    &answer), LIMINAL_OK));
	cr_assert(eq(int, answer->is_error, 0));
	fake_assert_text(answer, "HELLO");

	cr_assert(eq(int, liminal_ask(conn, "s", "x", 1, FAKE_WAIT_MS, &answer),
	    LIMINAL_REFUSED));
	cr_assert(eq(int, answer->is_error, 1));
	cr_assert(eq(int, answer->reason, LIMINAL_REASON_NO_WORKER));
	cr_assert(eq(int, liminal_reason(conn), LIMINAL_REASON_NO_WORKER));
	fake_assert_error(conn, "no dispatch workers");

	cr_assert(eq(int, liminal_ask(conn, "s", "x", 1, FAKE_WAIT_MS, &answer),
	    LIMINAL_REFUSED));
	cr_assert(eq(int, answer->reason, LIMINAL_REASON_PRESSURE));
	cr_assert(eq(u64, answer->request, 0));
	/* the second error belongs to nobody any more */
	cr_assert(eq(int, liminal_next_answer(conn, 100, &answer), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_answers_too_late(struct fake *fake)
{
	struct frame first, second;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &first);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &second);
	fake_put_answer(fake, first.u.conversation_message.conversation, first.stream,
	    fake_view("late"));
	fake_put_answer(fake, second.u.conversation_message.conversation, second.stream,
	    fake_view("in time"));
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_CLOSE, NULL);
	/* and gone while it is asked again */
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
}

Test(client, timed_out_and_disconnected_are_different_and_late_answers_are_dropped)
{
	const struct liminal_answer *answer;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_answers_too_late);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_ask(conn, "s", "1", 1, 50, &answer), LIMINAL_TIMED_OUT));
	cr_assert(eq(ptr, (void *)(uintptr_t)answer, NULL));
	cr_assert(eq(int, liminal_ask(conn, "s", "2", 1, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	fake_assert_text(answer, "in time");
	cr_assert(eq(int, liminal_ask(conn, "s", "3", 1, FAKE_WAIT_MS, &answer),
	    LIMINAL_DISCONNECTED));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- many at once ---- */

#define N_CONVERSATIONS	100
#define N_REQUESTS	100	/* on each */

/* Reads all, then answers from the last conversation to the first; every tenth with an error. */
static void
script_out_of_order(struct fake *fake)
{
	static uint32_t streams[N_CONVERSATIONS + 1][N_REQUESTS], n[N_CONVERSATIONS + 1];
	struct frame frame;
	char text[64];
	uint64_t id;

	fake_shake_hands(fake);
	for (int left = N_CONVERSATIONS * (N_REQUESTS + 1); left > 0; left--) {
		FAKE_CHECK(fake_receive(fake, &frame));
		if (frame.type == FRAME_CONVERSATION_OPEN)
			continue;
		id = frame.u.conversation_message.conversation;
		FAKE_CHECK(id >= 1 && id <= N_CONVERSATIONS);
		streams[id][n[id]++] = frame.stream;
	}
	for (id = N_CONVERSATIONS; id > 0; id--)
		for (uint32_t i = 0; i < n[id]; i++) {
			snprintf(text, sizeof(text), "%d/%u", (int)id, i);
			if (i % 10 == 9)
				fake_put_error(fake, id, streams[id][i],
				    FRAME_REASON_TIMED_OUT, text);
			else
				fake_put_answer(fake, id, streams[id][i], fake_view(text));
		}
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client, matches_pipelined_answers_to_requests_over_many_conversations)
{
	static uint64_t ids[N_CONVERSATIONS], requests[N_CONVERSATIONS][N_REQUESTS];
	const struct liminal_answer *answer;
	struct liminal *conn;
	struct fake fake;
	char text[64];

	fake_start(&fake, script_out_of_order);
	conn = fake_connect(&fake);
	for (int c = 0; c < N_CONVERSATIONS; c++)
		cr_assert(eq(int, liminal_open_conversation(conn, "s", SIZE_MAX, &ids[c]), 0));
	for (int i = 0; i < N_REQUESTS; i++)
		for (int c = 0; c < N_CONVERSATIONS; c++)
			cr_assert(eq(int, liminal_send_request(conn, ids[c], "?", 1,
			    &requests[c][i]), LIMINAL_OK));
	for (int c = N_CONVERSATIONS - 1; c >= 0; c--)
		for (int i = 0; i < N_REQUESTS; i++) {
			cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), 0));
			cr_assert(eq(u64, answer->conversation, ids[c]));
			cr_assert(eq(u64, answer->request, requests[c][i]));
			cr_assert(eq(int, answer->is_error, i % 10 == 9));
			snprintf(text, sizeof(text), "%d/%d", c + 1, i);
			fake_assert_text(answer, text);
		}
	liminal_free(conn);
	fake_end(&fake);
}

/* Odd conversations are closed by the client while everything is under way. */
static void
script_answers_all(struct fake *fake)
{
	struct frame frame;
	int closed = 0;

	fake_shake_hands(fake);
	while (closed < N_CONVERSATIONS / 2) {
		FAKE_CHECK(fake_receive(fake, &frame));
		if (frame.type == FRAME_CONVERSATION_MESSAGE)
			fake_put_answer(fake, frame.u.conversation_message.conversation,
			    frame.stream, fake_view("x"));
		closed += frame.type == FRAME_CONVERSATION_CLOSE;
	}
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client, drops_the_answers_of_closed_conversations_only)
{
	uint64_t ids[N_CONVERSATIONS];
	const struct liminal_answer *answer;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_answers_all);
	conn = fake_connect(&fake);
	for (int c = 0; c < N_CONVERSATIONS; c++) {
		cr_assert(eq(int, liminal_open_pool(conn, "default", "q", &ids[c]), 0));
		cr_assert(eq(int, liminal_send_request(conn, ids[c], "?", 1, NULL), 0));
	}
	for (int c = 1; c < N_CONVERSATIONS; c += 2) {
		cr_assert(eq(int, liminal_close_conversation(conn, ids[c]), LIMINAL_OK));
		cr_assert(eq(int, liminal_close_conversation(conn, ids[c]), LIMINAL_INVALID));
		cr_assert(eq(int, liminal_send_request(conn, ids[c], "?", 1, NULL),
		    LIMINAL_INVALID));
	}
	for (int c = 0; c < N_CONVERSATIONS; c += 2) {
		cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
		cr_assert(eq(u64, answer->conversation, ids[c]));
	}
	cr_assert(eq(int, liminal_next_answer(conn, 50, &answer), LIMINAL_TIMED_OUT));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- large ---- */

#define LARGE_OVERHEAD	54	/* of a message in a frame: ids, lengths, an empty envelope */

/* Sends a large job before it reads anything, and echoes. */
static void
script_large(struct fake *fake)
{
	struct frame frame = { .type = FRAME_PUSH, .stream = 1 };
	uint8_t *bytes = malloc(LIMINAL_DEFAULT_MAX_FRAME);

	fake_shake_hands(fake);
	memset(bytes, 'j', LIMINAL_DEFAULT_MAX_FRAME);
	frame.u.push.correlation = 1;
	frame.u.push.payload.data = bytes;
	frame.u.push.payload.len = LIMINAL_DEFAULT_MAX_FRAME - 12;
	fake_put(fake, &frame);
	fake_send(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	FAKE_CHECK(frame.u.conversation_message.envelope.payload.len ==
	    LIMINAL_DEFAULT_MAX_FRAME - LARGE_OVERHEAD);
	fake_put_answer(fake, frame.u.conversation_message.conversation, frame.stream,
	    frame.u.conversation_message.envelope.payload);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client, moves_the_largest_payloads_in_both_directions_at_once)
{
	const size_t largest = LIMINAL_DEFAULT_MAX_FRAME - LARGE_OVERHEAD;
	uint8_t *payload = malloc(largest + 1);
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	uint64_t conversation;
	struct liminal *conn;
	struct fake fake;

	for (size_t i = 0; i <= largest; i++)
		payload[i] = (uint8_t)(i * 2654435761u >> 13);
	fake_start(&fake, script_large);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	cr_assert(eq(int, liminal_send_request(conn, conversation, payload, largest + 1, NULL),
	    LIMINAL_INVALID));
	cr_assert(eq(int, liminal_send_request(conn, conversation, payload, largest, NULL), 0));
	/* the server does not read before its own is read */
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	cr_assert(eq(sz, answer->len, largest));
	cr_assert(eq(int, memcmp(answer->payload, payload, largest), 0));
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
	cr_assert(eq(sz, job->len, LIMINAL_DEFAULT_MAX_FRAME - 12));
	liminal_free(conn);
	fake_end(&fake);
	free(payload);
}

static void
script_floods(struct fake *fake)
{
	struct frame frame;
	char text[60000];

	fake_shake_hands(fake);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (uint64_t i = 0; i < 1000; i++) {
		fake_put_push(fake, i, text);
		fake_send(fake);
	}
	do
		FAKE_CHECK(fake_receive(fake, &frame));
	while (frame.type != FRAME_DISCONNECT);
	fake_expect_end(fake);
}

/* 60 MB of jobs come while the program waits for something else. */
Test(client, bounds_what_it_keeps_for_later)
{
	static uint8_t payload[8 * 1024 * 1024];
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	uint64_t conversation, n = 0;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_floods);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	cr_assert(eq(int, liminal_ask(conn, "s", "x", 1, FAKE_WAIT_MS, &answer), LIMINAL_BUSY));
	cr_assert(eq(int, liminal_ping(conn, FAKE_WAIT_MS), LIMINAL_BUSY));
	cr_assert(eq(int, liminal_send_message(conn, conversation, payload, sizeof(payload),
	    NULL), LIMINAL_OK));
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_BUSY));
	cr_assert(eq(int, liminal_poll_events(conn), POLLOUT));
	while (n < 1000) {
		cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
		cr_assert(eq(u64, job->correlation, n++));
	}
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_reads_late(struct fake *fake)
{
	struct frame frame;

	fake_shake_hands(fake);
	fake_await(fake);
	do
		FAKE_CHECK(fake_receive(fake, &frame));
	while (frame.type != FRAME_DISCONNECT);
	fake_expect_end(fake);
}

Test(client, is_busy_when_the_server_does_not_read)
{
	static uint8_t payload[65536];
	uint64_t conversation;
	struct liminal *conn;
	struct fake fake;
	int r, n = 0;

	fake_start(&fake, script_reads_late);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	while ((r = liminal_send_message(conn, conversation, payload, sizeof(payload), NULL)) == 0)
		cr_assert(le(int, n++, 100000));
	cr_assert(eq(int, r, LIMINAL_BUSY));
	cr_assert(eq(int, liminal_poll_events(conn), POLLIN | POLLOUT));
	cr_assert(eq(int, liminal_flush(conn, 50), LIMINAL_TIMED_OUT));
	fake_go(&fake);
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(int, liminal_send_message(conn, conversation, payload, 1, NULL), 0));
	liminal_free(conn);
	fake_end(&fake);
}

/* ---- a server that misbehaves, or is gone ---- */

static void
script_too_large(struct fake *fake)
{
	static const uint8_t header[] = { FRAME_PUSH, 0, 0, 0, 0, 1, 0x01, 0, 0, 1 };

	fake_shake_hands(fake);
	buf_append(&fake->out, header, sizeof(header));
	fake_send(fake);
	fake_expect_end(fake);
}

static void
script_wrong_stream(struct fake *fake)
{
	static const uint8_t ping[] = { FRAME_PING, 0, 0, 0, 0, 1, 0, 0, 0, 0 };

	fake_shake_hands(fake);
	fake_put_push(fake, 1, "good");
	buf_append(&fake->out, ping, sizeof(ping));
	fake_send(fake);
	fake_expect_end(fake);
}

Test(client, gives_up_on_a_server_that_breaks_the_protocol)
{
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_too_large);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_PROTOCOL));
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_PROTOCOL));
	cr_assert(eq(int, liminal_reply(conn, 1, "", 0), LIMINAL_PROTOCOL));
	liminal_close(conn);
	fake_end(&fake);

	fake_start(&fake, script_wrong_stream);
	cr_assert(eq(int, liminal_open(conn, fake.address, FAKE_WAIT_MS), LIMINAL_OK));
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_PROTOCOL));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_vanishes(struct fake *fake)
{
	fake_shake_hands(fake);
}

/* The default disposition of SIGPIPE would end this test's process. */
Test(client, never_raises_sigpipe)
{
	const struct liminal_job *job;
	uint8_t payload[1000] = { 0 };
	struct liminal *conn;
	struct fake fake;
	int r = LIMINAL_OK;

	signal(SIGPIPE, SIG_DFL);
	fake_start(&fake, script_vanishes);
	conn = fake_connect(&fake);
	fake_end(&fake);
	for (int i = 0; i < 1000 && r == LIMINAL_OK; i++) {
		cr_assert(le(int, liminal_reply(conn, 1, payload, sizeof(payload)), 0));
		r = liminal_flush(conn, FAKE_WAIT_MS);
	}
	cr_assert(eq(int, r, LIMINAL_DISCONNECTED));
	cr_assert(eq(int, liminal_next_job(conn, -1, &job), LIMINAL_DISCONNECTED));
	liminal_free(conn);
}

static void
script_says_goodbye(struct fake *fake)
{
	const struct frame goodbye = { .type = FRAME_DISCONNECT };

	fake_shake_hands(fake);
	fake_put_push(fake, 1, "the last");
	fake_put(fake, &goodbye);
	fake_send(fake);
	fake_expect_end(fake);
}

Test(client, takes_a_disconnect_as_the_end)
{
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_says_goodbye);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
	cr_assert(eq(int, liminal_next_job(conn, -1, &job), LIMINAL_DISCONNECTED));
	liminal_free(conn);
	fake_end(&fake);
}
