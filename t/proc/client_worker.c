/*
 * client_worker: libliminal's worker side, both sides on one connection, and event loops,
 * against a scripted server.
 */
#include <poll.h>
#include <sys/time.h>
#include <time.h>

#include "fake.h"

static const char *const namespaces[] = { "default", "other" };
static const char *const types[] = { "send", "resize" };

static void
check_strings(struct frame_vec vec, const char *const *texts)
{
	struct frame_view string;

	for (; *texts != NULL; texts++)
		FAKE_CHECK(frame_vec_next(&vec.encoded, &string) && fake_is(string, *texts));
	FAKE_CHECK(!frame_vec_next(&vec.encoded, &string));
}

static void
script_registers(struct fake *fake)
{
	struct frame frame;

	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, FRAME_CAPABILITY_WORKER_CAPACITY);
	fake_send(fake);
	fake_expect(fake, FRAME_WORKER_REGISTER, &frame);
	FAKE_CHECK(frame.u.worker_register.has_capacity);
	FAKE_CHECK(frame.u.worker_register.max_concurrent == 64);
	FAKE_CHECK(fake_is(frame.u.worker_register.task_queue, "emails"));
	FAKE_CHECK(fake_is(frame.u.worker_register.identity, "me"));
	FAKE_CHECK(frame.u.worker_register.node.present);
	FAKE_CHECK(fake_is(frame.u.worker_register.node.view, "eu-1"));
	check_strings(frame.u.worker_register.namespaces,
	    (const char *const[]){ "default", "other", NULL });
	check_strings(frame.u.worker_register.activity_types,
	    (const char *const[]){ "send", "resize", NULL });
	fake_put_registered(fake, "no room\nfor you");
	fake_send(fake);
	fake_expect(fake, FRAME_WORKER_REGISTER, &frame);
	FAKE_CHECK(!frame.u.worker_register.has_capacity && frame.flags == 0);
	FAKE_CHECK(!frame.u.worker_register.node.present);
	FAKE_CHECK(memchr(frame.u.worker_register.identity.data, ':',
	    frame.u.worker_register.identity.len) != NULL);
	fake_put_registered(fake, NULL);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_worker, registers_what_it_declares)
{
	const struct liminal_worker full = { .namespaces = namespaces, .n_namespaces = 2,
		.task_queue = "emails", .node = "eu-1", .activity_types = types,
		.n_activity_types = 2, .identity = "me", .max_concurrent = 64 };
	const struct liminal_worker least = { .namespaces = namespaces, .n_namespaces = 1,
		.task_queue = "emails" };
	struct liminal_worker wrong = least;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_registers);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_register(conn, &full, FAKE_WAIT_MS), LIMINAL_REFUSED));
	fake_assert_error(conn, "no room for you");
	wrong.task_queue = NULL;
	cr_assert(eq(int, liminal_register(conn, &wrong, FAKE_WAIT_MS), LIMINAL_INVALID));
	wrong.task_queue = "\xff";
	cr_assert(eq(int, liminal_register(conn, &wrong, FAKE_WAIT_MS), LIMINAL_INVALID));
	cr_assert(eq(int, liminal_register(conn, &least, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_knows_no_capacity(struct fake *fake)
{
	struct frame frame;

	fake_expect(fake, FRAME_CONNECT, NULL);
	fake_put_ack(fake, 0);
	fake_send(fake);
	fake_expect(fake, FRAME_WORKER_REGISTER, &frame);
	FAKE_CHECK(!frame.u.worker_register.has_capacity && frame.flags == 0);
	/* answers when the client has given up waiting, and then to its second try */
	fake_expect(fake, FRAME_WORKER_REGISTER, &frame);
	fake_put_registered(fake, "late");
	fake_put_registered(fake, NULL);
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_worker, declares_no_capacity_to_a_server_that_knows_none)
{
	const struct liminal_worker worker = { .namespaces = namespaces, .n_namespaces = 1,
		.task_queue = "emails", .max_concurrent = 8 };
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_knows_no_capacity);
	conn = fake_connect(&fake);
	cr_assert(eq(int, liminal_register(conn, &worker, 50), LIMINAL_TIMED_OUT));
	/* the acknowledgement of the first is not taken for that of the second */
	cr_assert(eq(int, liminal_register(conn, &worker, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

#define N_JOBS 20000

static void
script_many_jobs(struct fake *fake)
{
	struct frame frame;
	char text[32];
	unsigned sent = 0, got = 0;

	fake_shake_hands(fake);
	for (got = 0; got < N_JOBS; got++) {
		while (sent < N_JOBS && sent < got + 64) {
			snprintf(text, sizeof(text), "job %u", sent);
			fake_put_push(fake, sent++, text);
		}
		fake_send(fake);
		fake_expect(fake, FRAME_PUSH_REPLY, &frame);
		snprintf(text, sizeof(text), "job %u", got);
		FAKE_CHECK(frame.stream >= 1);
		FAKE_CHECK(frame.u.push.correlation == got);
		FAKE_CHECK(fake_is(frame.u.push.payload, text));
	}
	fake_expect_goodbye(fake);
}

/* The job's own payload is the reply: sending does not disturb the view. */
Test(client_worker, answers_jobs_with_their_own_bytes)
{
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_many_jobs);
	conn = fake_connect(&fake);
	for (int i = 0; i < N_JOBS; i++) {
		cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_OK));
		cr_assert(eq(int, liminal_reply(conn, job->correlation, job->payload, job->len),
		    LIMINAL_OK));
	}
	cr_assert(eq(int, liminal_flush(conn, FAKE_WAIT_MS), LIMINAL_OK));
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_both_roles(struct fake *fake)
{
	struct frame frame;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
	fake_put_push(fake, 1, "job 1");
	fake_put_answer(fake, 1, frame.stream, fake_view("answer 1"));
	fake_put_push(fake, 2, "job 2");
	fake_send(fake);
	fake_expect(fake, FRAME_PING, NULL);
	fake_put_push(fake, 3, "job 3");
	fake_put(fake, &(struct frame){ .type = FRAME_PONG });
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_worker, keeps_jobs_and_answers_for_those_who_want_them)
{
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	enum liminal_event event;
	uint64_t conversation;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_both_roles);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	liminal_send_request(conn, conversation, "?", 1, NULL);
	cr_assert(eq(int, liminal_next_answer(conn, FAKE_WAIT_MS, &answer), LIMINAL_OK));
	cr_assert(eq(int, liminal_ping(conn, FAKE_WAIT_MS), LIMINAL_OK));
	for (uint64_t i = 1; i <= 3; i++) {
		cr_assert(eq(int, liminal_next(conn, FAKE_WAIT_MS, &event, &answer, &job),
		    LIMINAL_OK));
		cr_assert(eq(int, event, LIMINAL_EVENT_JOB));
		cr_assert(eq(u64, job->correlation, i));
		cr_assert(eq(ptr, (void *)(uintptr_t)answer, NULL));
	}
	liminal_free(conn);
	fake_end(&fake);
}

static void
script_for_event_loop(struct fake *fake)
{
	struct frame frame;

	fake_shake_hands(fake);
	fake_expect(fake, FRAME_CONVERSATION_OPEN, NULL);
	for (int i = 0; i < 1000; i++) {
		fake_expect(fake, FRAME_CONVERSATION_MESSAGE, &frame);
		fake_put_answer(fake, 1, frame.stream, fake_view("x"));
		if (i % 7 == 0)
			fake_send(fake);
	}
	fake_send(fake);
	fake_expect_goodbye(fake);
}

Test(client_worker, serves_an_event_loop_without_waiting)
{
	const struct liminal_answer *answer;
	struct pollfd pfd;
	uint64_t conversation;
	struct liminal *conn;
	struct fake fake;
	int sent = 0, got = 0, r;

	fake_start(&fake, script_for_event_loop);
	conn = fake_connect(&fake);
	liminal_open_conversation(conn, "s", SIZE_MAX, &conversation);
	while (got < 1000) {
		for (int i = 0; i < 10 && sent < 1000; i++, sent++)
			liminal_send_request(conn, conversation, "?", 1, NULL);
		pfd.fd = liminal_fd(conn);
		pfd.events = liminal_poll_events(conn);
		cr_assert(eq(int, poll(&pfd, 1, FAKE_WAIT_MS), 1));
		cr_assert(eq(int, liminal_process(conn), LIMINAL_OK));
		while ((r = liminal_next_answer(conn, 0, &answer)) == LIMINAL_OK)
			got++;
		cr_assert(eq(int, r, LIMINAL_TIMED_OUT));
	}
	cr_assert(eq(int, liminal_poll_events(conn), POLLIN));
	liminal_free(conn);
	fake_end(&fake);
}

static void
on_alarm(int sig)
{
	(void)sig;
}

static void
script_waits(struct fake *fake)
{
	fake_shake_hands(fake);
	fake_expect(fake, FRAME_PING, NULL);
	fake_expect_goodbye(fake);
}

Test(client_worker, a_signal_interrupts_waiting_for_a_job)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 50000 },
		.it_interval = { .tv_usec = 50000 } }, never = { .it_value = { 0 } };
	const struct sigaction action = { .sa_handler = on_alarm };
	const struct liminal_job *job;
	struct liminal *conn;
	struct fake fake;

	fake_start(&fake, script_waits);
	conn = fake_connect(&fake);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	cr_assert(eq(int, liminal_next_job(conn, -1, &job), LIMINAL_INTERRUPTED));
	cr_assert(eq(int, liminal_next_job(conn, FAKE_WAIT_MS, &job), LIMINAL_INTERRUPTED));
	/* but not what must not be left half done */
	cr_assert(eq(int, liminal_ping(conn, 300), LIMINAL_TIMED_OUT));
	setitimer(ITIMER_REAL, &never, NULL);
	liminal_free(conn);
	fake_end(&fake);
}
