/* What the store process does with publishes, really: what is on disk when it answers, and what
 * each is answered. */
#include "proc/store_publishing.h"

TestSuite(store_publish, .init = publishing_init, .fini = proc_fini);

Test(store_publish, what_is_acknowledged_is_on_disk_and_heads_go_on_after_a_restart)
{
	spawn_store();
	await_ready();
	connect_to(5);
	cr_assert(eq(u32, channel_row(DURABLE).store_number, 1));
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 0));
	publish(5, 1, "0:a 0:b 1:x");
	assert_text(told_next(5), "1:SSS");
	kill_store();
	assert_text(stored(DURABLE), "1 a b");
	assert_text(stored(OTHER), "1 x");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 2));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	/* the daemon itself begins anew */
	fixture_close();
	fixture_create(FIXTURE_SLOTS);
	create_channels();
	spawn_store();
	await_ready();
	connect_to(5);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 2));
	publish(5, 1, "0:c");
	assert_text(told_next(5), "1:S");
	assert_text(stored(DURABLE), "1 a b c");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 3));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_publish, what_many_publish_at_once_is_one_row_in_the_order_of_the_inbox)
{
	uint64_t before;

	spawn_store();
	await_ready();
	connect_to(5);
	connect_to(6);
	publish(5, 1, "0:first");
	answers(5, 1);
	look_readonly();
	before = stored_in(STORE_MESSAGES);
	stop_store();
	publish(5, 2, "0:a 0:b");
	publish(6, 1, "0:c 1:x");
	publish(5, 3, "0:d");
	kill(store_pid, SIGCONT);
	assert_text(told(&answers(5, 2)->list[0]), "2:SS");
	assert_text(told_next(6), "4:SS");
	assert_text(stored(DURABLE), "1 first a b c d");
	cr_assert(eq(u64, stored_in(STORE_MESSAGES), before + 2));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* The store waits for more of what nobody waits for; of this it does not. */
Test(store_publish, a_publish_is_not_kept_waiting)
{
	unsigned n_quick = 0;
	int64_t since_ns;
	uint64_t i;

	spawn_store();
	await_ready();
	connect_to(5);
	for (i = 1; i <= 50; i++) {
		since_ns = clock_now_ns();
		publish(5, i, "0:a");
		answers(5, 1);
		n_quick += clock_now_ns() - since_ns < 4 * CLOCK_MS;
	}
	cr_assert(le(u32, 15, n_quick), "%u", n_quick);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_publish, a_channel_keeps_its_number_and_its_messages_whatever_else_is_configured)
{
	spawn_store();
	await_ready();
	connect_to(5);
	publish(5, 1, "0:a 1:x");
	answers(5, 1);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	/* the first one is not configured any more, the second has its place, and there is a
	 * third */
	conf.channels = channels + 1;
	conf.n_channels = 2;
	channels[LEADING].durable = true;
	fixture_close();
	fixture_create(FIXTURE_SLOTS);
	create_channels();
	spawn_store();
	await_ready();
	connect_to(5);
	cr_assert(eq(u32, channel_row(0).store_number, 2));
	publish(5, 1, "0:y 1:new");
	answers(5, 1);
	assert_text(stored(OTHER), "1 x y");
	assert_text(stored(LEADING), "1 new");
	assert_text(stored(DURABLE), "1 a");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_publish, a_subscription_makes_it_delivered_and_is_woken)
{
	struct pollfd fd = { .fd = fixture_wake.fd, .events = POLLIN };

	spawn_store();
	await_ready();
	connect_to(6);
	connect_to(5);
	/* 5 is the one in the slot that is woken; 6 publishes, and its poke goes nowhere */
	cr_assert(eq(u64, subscribe(5, DURABLE), 0));
	wake_will_sleep(&fixture_wake);
	publish(6, 1, "0:a 1:x");
	cr_assert(eq(int, poll(&fd, 1, (int)(PATIENCE_NS / CLOCK_MS)), 1));
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 1));
	assert_text(told_next(6), "1:DS");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_publish, copies_for_ephemeral_channels_come_with_the_answers)
{
	spawn_store();
	await_ready();
	connect_to(5);
	/* nobody listens: counted, not kept */
	publish(5, 1, "0:a 3>b 2:c 0>d");
	assert_text(told_next(5), "1:SS");
	assert_text(stored(DURABLE), "1 a d");
	assert_text(kept(COPIES), "2");
	assert_text(kept(LEADING), "2");
	subscribe(5, COPIES);
	publish(5, 2, "0:e 3>f 2:g 3>h");
	assert_text(told_next(5), "3:SS");
	assert_text(kept(COPIES), "2 f h");
	assert_text(kept(LEADING), "3");
	assert_text(stored(DURABLE), "1 a d e");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* What everybody who listens has got is not kept. */
Test(store_publish, copies_that_were_read_are_removed)
{
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	publish(5, 1, "0:a 3>b");
	answers(5, 1);
	assert_text(kept(COPIES), "1 b");
	atomic_store(&fixture_board->slots[63].consumed, state_last_number(fixture_state));
	publish(5, 2, "0:c 3>d");
	answers(5, 1);
	assert_text(kept(COPIES), "2 d");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Keys. */

Test(store_publish, a_key_is_taken_once)
{
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	publish(5, 1, "0#k:a 3>b 0#k:c 3>d 1#k:x 0#l:e");
	assert_text(told_next(5), "1:S=SS");
	publish(5, 2, "0#l:f 3>g 0:h");
	assert_text(told_next(5), "5:=S");
	assert_text(stored(DURABLE), "1 a e h");
	assert_text(stored(OTHER), "1 x");
	assert_text(kept(COPIES), "1 b");
	/* also by another process, and by another daemon */
	kill_store();
	spawn_store();
	await_ready();
	publish(5, 3, "0#k:i");
	assert_text(told_next(5), "7:=");
	kill_store();
	fixture_close();
	fixture_create(FIXTURE_SLOTS);
	create_channels();
	spawn_store();
	await_ready();
	connect_to(5);
	publish(5, 1, "0#k:j 1#m:y");
	assert_text(told_next(5), "1:=S");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A copy has its source's key in the target's own list. */
Test(store_publish, keys_go_with_the_copies)
{
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	subscribe(5, LEADING);
	publish(5, 1, "0#k:a 3#k>a 2#k:b 0#k>b 3#k>c");
	assert_text(told_next(5), "1:SD");
	assert_text(stored(DURABLE), "1 a");
	assert_text(kept(LEADING), "1 b");
	assert_text(kept(COPIES), "1 a");
	publish(5, 2, "2#k:d 0#m>e 1#k:x 3#m>y");
	assert_text(told_next(5), "3:=S");
	assert_text(stored(DURABLE), "1 a");
	assert_text(kept(COPIES), "1 a y");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Nobody is told of such a copy; it is counted. */
Test(store_publish, a_copy_that_finds_no_room_for_its_key_is_counted)
{
	channels[DURABLE].dedup_keys = channels[COPIES].dedup_keys = 1;
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	publish(5, 1, "2#a:a 0#a>b 3#a>c 2#d:d 0#d>e 3#d>f 0#g:g 3>h");
	assert_text(told_next(5), "1:SSF");
	assert_text(stored(DURABLE), "1 b");
	assert_text(kept(COPIES), "1 c");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	cr_assert(eq(u64, board_sum(fixture_board, BOARD_ROUTE_ERRORS), 2));
}

Test(store_publish, keys_are_bounded_and_their_time_passes)
{
	channels[DURABLE].dedup_keys = 2;
	channels[DURABLE].dedup_window_ns = 200 * CLOCK_MS;
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	publish(5, 1, "0#a:a 0#b:b 0#c:c 3>d 0#a:e 0:f");
	assert_text(told_next(5), "1:SSF=S");
	assert_text(stored(DURABLE), "1 a b f");
	assert_text(kept(COPIES), "1");
	usleep(210000);
	publish(5, 2, "0#c:c 0#a:e");
	assert_text(told_next(5), "5:SS");
	assert_text(stored(DURABLE), "1 a b f c e");
	/* and they go by themselves */
	for (int64_t until = clock_now_ns() + PATIENCE_NS; stored_in(STORE_KEYS) > 0; usleep(2000))
		cr_assert(clock_now_ns() < until);
	cr_assert(eq(u64, stored_in(STORE_KEYS_BY_AGE), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Retention. */

static void
await_first(uint32_t number, uint64_t first)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	uint64_t found;

	while ((found = channel_row(number).mark.first) != first) {
		cr_assert(clock_now_ns() < give_up_ns, "first %llu, not %llu",
		    (unsigned long long)found, (unsigned long long)first);
		usleep(2000);
	}
}

Test(store_publish, what_is_beyond_the_bound_goes)
{
	uint64_t i;

	channels[DURABLE].keep_messages = 3;
	channels[OTHER].keep_bytes = 2 * (LOG_MESSAGE_OVERHEAD + 3);
	spawn_store();
	await_ready();
	connect_to(5);
	for (i = 1; i <= 20; i++) {
		publish(5, i, "0:a 1:x");
		answers(5, 1);
	}
	await_first(DURABLE, 18);
	await_first(OTHER, 19);
	assert_text(stored(DURABLE), "18 a a a");
	assert_text(stored(OTHER), "19 x x");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store_publish, what_is_too_old_goes_when_nothing_else_happens)
{
	channels[DURABLE].keep_age_ns = 300 * CLOCK_MS;
	spawn_store();
	await_ready();
	connect_to(5);
	publish(5, 1, "0:a 0:b");
	answers(5, 1);
	assert_text(stored(DURABLE), "1 a b");
	await_first(DURABLE, 3);
	assert_text(stored(DURABLE), "3");
	cr_assert(eq(u64, stored_in(STORE_MESSAGES), 0));
	publish(5, 2, "0:c");
	answers(5, 1);
	assert_text(stored(DURABLE), "3 c");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* With less to keep, what is too much goes at the start. */
Test(store_publish, a_shorter_retention_counts_from_the_start)
{
	spawn_store();
	await_ready();
	connect_to(5);
	publish(5, 1, "0:a");
	answers(5, 1);
	publish(5, 2, "0:b");
	answers(5, 1);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	channels[DURABLE].keep_messages = 1;
	spawn_store();
	await_first(DURABLE, 2);
	assert_text(stored(DURABLE), "2 b");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* The end. */

Test(store_publish, what_was_handed_over_is_written_and_answered_before_the_end)
{
	uint64_t i;

	spawn_store();
	await_ready();
	connect_to(5);
	stop_store();
	for (i = 1; i <= 20; i++)
		publish(5, i, "0:a");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	cr_assert(eq(u32, answers(5, 20)->n, 20));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 20));
}

/* What cannot be read is said to be so, and does not keep the others. */
Test(store_publish, what_does_not_read_back_is_refused)
{
	struct state_txn *txn;
	struct buf body = { 0 };

	spawn_store();
	await_ready();
	connect_to(5);
	stop_store();
	cr_assert(eq(int, publication_body("0:a 77:b", &body), 0));
	txn = write_begin();
	cr_assert(eq(int, post_publication(txn, 5, 1, &body), 0));
	buf_free(&body);
	commit(txn);
	publish(5, 2, "0:c");
	kill(store_pid, SIGCONT);
	assert_text(told(&answers(5, 2)->list[0]),
	    "the store process cannot read what was published");
	assert_text(stored(DURABLE), "1 c");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}
