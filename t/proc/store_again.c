/*
 * A store process that is killed when its commit has reached the disk and nobody has been
 * answered: its successor answers as it would have, and writes nothing again.
 *
 * The test holds the state's write lock, so that the process stops between the two.
 */
#include "proc/store_publishing.h"

static struct state_txn *lock;

static void
hold(void)
{
	lock = hold_answers();
}

static void
kill_and_begin_again(void)
{
	kill_store();
	state_abort(lock);
	spawn_store();
	await_ready();
}

static void
again_init(void)
{
	publishing_init();
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	stop_store();
}

TestSuite(store_again, .init = again_init, .fini = proc_fini);

Test(store_again, messages_are_there_once_and_copies_come_once)
{
	uint64_t number;

	publish(5, 1, "0:a 3>b 1:x 2:c 0>d");
	hold();
	assert_text(stored(DURABLE), "1 a d");
	/* nobody has been told, and no head has moved */
	kill_and_begin_again();
	assert_text(told_next(5), "1:SSS");
	number = state_last_number(store_env);
	assert_text(stored(DURABLE), "1 a d");
	assert_text(stored(OTHER), "1 x");
	assert_text(kept(COPIES), "1 b");
	assert_text(kept(LEADING), "2");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 2));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	/* no commit was needed for that */
	cr_assert(eq(u64, state_last_number(store_env), number));
	publish(5, 2, "0:e");
	assert_text(told_next(5), "4:S");
	assert_text(stored(DURABLE), "1 a d e");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Heads move with the answers, not before: also those that the successor finds in the store. */
Test(store_again, a_head_waits_for_the_answers)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	struct channels_row row;
	struct events events;
	struct state_txn *txn;

	publish(5, 1, "0:a");
	hold();
	kill_store();
	state_abort(lock);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 0));
	spawn_store();
	do {
		cr_assert(clock_now_ns() < give_up_ns);
		events.n = 0;
		txn = read_begin();
		cr_assert(eq(int, channels_get(txn, DURABLE, &row), 0));
		cr_assert(eq(int, inbox_read(txn, 5, 0, &events.rows, events_collect, &events), 0));
		state_abort(txn);
		cr_assert(eq(u64, row.mark.head, events.n));
	} while (events.n == 0);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_again, a_key_is_told_from_its_double)
{
	publish(5, 1, "0#k:a 3>b 0#k:c 3>d 0#l:e 2#m:f 0>g 2#m:h 0>i");
	publish(5, 2, "0#l:j 3#l>n 0#n:o 3#n>p");
	hold();
	kill_and_begin_again();
	assert_text(told(&answers(5, 2)->list[0]), "1:S=SS=");
	assert_text(stored(DURABLE), "1 a e g o");
	assert_text(kept(COPIES), "1 b p");
	publish(5, 3, "0#n:q 3>r 2#m:s 0>t");
	assert_text(told_next(5), "8:==");
	assert_text(stored(DURABLE), "1 a e g o");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* The second of the two answers. */
Test(store_again, every_publisher_is_answered)
{
	connect_to(6);
	publish(5, 1, "0#k:a 0:b");
	publish(6, 9, "0#k:c 0:d");
	hold();
	kill_and_begin_again();
	assert_text(told_next(6), "3:=S");
	assert_text(told_next(5), "1:SS");
	assert_text(stored(DURABLE), "1 a b d");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

static void
begin_with(int64_t window_ns, uint64_t keys)
{
	kill(store_pid, SIGCONT);
	kill_store();
	channels[DURABLE].dedup_window_ns = window_ns;
	channels[DURABLE].dedup_keys = keys;
	spawn_store();
	await_ready();
	stop_store();
}

/* Judged by the time of the first judgement. */
Test(store_again, a_key_whose_time_has_passed_meanwhile)
{
	begin_with(100 * CLOCK_MS, 2);
	publish(5, 1, "0#k:a 0#l:b 0#k:c 0#m:d 0:e");
	hold();
	usleep(150000);
	kill_and_begin_again();
	assert_text(told_next(5), "1:SS=FS");
	assert_text(stored(DURABLE), "1 a b e");
	publish(5, 2, "0#k:f");
	assert_text(told_next(5), "5:S");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* What has come since is another batch. */
Test(store_again, what_came_later_is_written)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;

	publish(5, 1, "0#k:a 3>b");
	hold();
	kill_store();
	state_abort(lock);
	publish(5, 2, "0#k:c 0:d 3>e");
	spawn_store();
	await_ready();
	while (inbox_of(5)->n < 2) {
		cr_assert(clock_now_ns() < give_up_ns);
		usleep(2000);
	}
	assert_text(told(&inbox_of(5)->list[0]), "1:S");
	assert_text(told(&inbox_of(5)->list[1]), "2:=S");
	assert_text(stored(DURABLE), "1 a d");
	assert_text(kept(COPIES), "1 b e");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A publisher that is gone is no reason to write its messages anew, or to forget the copies. */
Test(store_again, the_publisher_is_gone_meanwhile)
{
	struct state_txn *txn;

	connect_to(6);
	publish(6, 1, "0:a 3>b");
	publish(5, 1, "0:c");
	hold();
	kill_store();
	state_abort(lock);
	txn = write_begin();
	cr_assert(eq(int, end_connection(txn, 6, "over"), 1));
	commit(txn);
	spawn_store();
	await_ready();
	assert_text(told_next(5), "2:S");
	assert_text(stored(DURABLE), "1 a c");
	assert_text(kept(COPIES), "1 b");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}
