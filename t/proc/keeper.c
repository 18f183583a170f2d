/*
 * The keeper and the services' inboxes: what somebody left in one without waking the service, since
 * it died just then, is found, at once when the master tells of a death, else within a second.
 * And what channels have: who is subscribed is poked and told, what nobody needs is removed.
 */
#include "base/clock.h"
#include "role/role.h"
#include "state/inbox.h"
#include "state/keys.h"
#include "unit/state_channels.h"

#define PATIENCE_NS	(20 * CLOCK_SECOND)

/* A connection that is subscribed, when a test says so. */
#define SUBSCRIBER	5
#define SLOT		20

static struct wake store_wake, subscriber_wake;
static struct conf_channel channels[2];
static int notices;
static pid_t keeper_pid;

static void
init(void)
{
	static struct conf conf;
	struct role_context context;
	struct err err = { 0 };
	int ends[2];

	fixture_make_dir();
	fixture_board = board_create(FIXTURE_SLOTS);
	cr_assert(ne(ptr, fixture_board, NULL));
	cr_assert(zero(int, wake_open(&store_wake, fixture_board, BOARD_SERVICE_SLOT(BOARD_STORE),
	    &err)), "%s", err.text);
	board_take(fixture_board, SLOT, BOARD_CONNECTION, SUBSCRIBER);
	cr_assert(zero(int, wake_open(&subscriber_wake, fixture_board, SLOT, &err)), "%s",
	    err.text);
	fixture_create(16);
	conf.runtime_dir = fixture_dir;
	channels[0].name = (char *)(uintptr_t)"one";
	channels[1].name = (char *)(uintptr_t)"two";
	conf.channels = channels;
	conf.n_channels = 2;
	cr_assert(zero(int, channels_create(fixture_dir, &conf, &err)), "%s", err.text);
	context = (struct role_context){ .conf = &conf, .board = fixture_board,
	    .slot = BOARD_SERVICE_SLOT(BOARD_KEEPER), .master_fd = -1 };
	cr_assert(zero(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)));
	keeper_pid = fork();
	if (keeper_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		_exit(keeper_main(&context, ends[1]));
	}
	close(ends[1]);
	notices = ends[0];
	/* Nobody is woken: as if the process had died before it came to that. */
	cr_assert(zero(int, state_open(&fixture_state, fixture_dir, NULL, &err)), "%s", err.text);
}

static void
fini(void)
{
	kill(keeper_pid, SIGKILL);
	fixture_close();
	fixture_remove_dir();
}

TestSuite(keeper, .init = init, .fini = fini);

static void
leave_something(enum board_kind service)
{
	const struct inbox_entry entry = { .kind = INBOX_CALLER_ENDED, .conn_id = 1 };
	struct state_txn *txn;

	cr_assert(zero(int, state_begin_write(fixture_state, &txn)));
	cr_assert(zero(int, inbox_post(txn, INBOX_SERVICE(service), BOARD_SERVICE_SLOT(service),
	    &entry, NULL)));
	cr_assert(zero(int, state_commit(txn)));
}

/* Wait for a poke; how long it took. */
static int64_t
wait_for_poke(struct wake *wake)
{
	struct pollfd p = { .fd = wake->fd, .events = POLLIN };
	int64_t begin = clock_now_ns();

	cr_assert(eq(int, poll(&p, 1, (int)(PATIENCE_NS / CLOCK_MS)), 1), "no poke");
	cr_assert(eq(int, wake_drain(wake), WAKE_POKE));
	return clock_now_ns() - begin;
}

static int64_t
poked_after(void)
{
	return wait_for_poke(&store_wake);
}

static void
tell_keeper(const struct role_notice *notice)
{
	cr_assert(eq(sz, (size_t)send(notices, notice, sizeof *notice, 0), sizeof *notice));
}

/* Connections 4 and SUBSCRIBER, which subscribes to channel NUMBER. */
static void
subscribe(uint32_t number)
{
	struct subscriptions_row row = { .channel = number, .stream = 1 };
	struct state_txn *txn = write_begin();

	cr_assert(zero(int, act_connect(txn, 4, SLOT - 1)));
	cr_assert(zero(int, act_connect(txn, SUBSCRIBER, SLOT)));
	cr_assert(zero(int, subscriptions_add(txn, SUBSCRIBER, SLOT, 1, &row, NULL)));
	commit(txn);
}

#define UNTIL(condition)	do {					\
	int64_t until_ = clock_now_ns() + PATIENCE_NS;			\
	while (!(condition) && clock_now_ns() < until_)			\
		usleep(2000);						\
	cr_assert(condition, "not in time: " #condition);		\
} while (0)

Test(keeper, a_service_is_woken_for_what_was_left_in_its_inbox)
{
	const struct role_notice died = { .kind = ROLE_NOTICE_SERVICE_ENDED };

	leave_something(BOARD_STORE);
	poked_after();
	/* The next look of its own is a second away. */
	cr_assert(eq(int, (int)send(notices, &died, sizeof(died), 0), (int)sizeof(died)));
	cr_expect(lt(i64, poked_after(), 700 * CLOCK_MS));
}

Test(keeper, a_row_for_nobody_disturbs_nobody)
{
	const struct inbox_entry entry = { .kind = INBOX_CALLER_ENDED };
	struct state_txn *txn;

	/* A service that this version does not have. */
	cr_assert(zero(int, state_begin_write(fixture_state, &txn)));
	cr_assert(zero(int, inbox_post(txn, UINT64_MAX - 63, 7, &entry, NULL)));
	cr_assert(zero(int, state_commit(txn)));
	leave_something(BOARD_ROUTER);
	leave_something(BOARD_STORE);
	poked_after();
	poked_after();
	cr_expect(zero(int, waitpid(keeper_pid, NULL, WNOHANG)), "the keeper lives");
}

/* A publisher may have died between its commit and its pokes. */
Test(keeper, who_is_subscribed_is_poked_when_somebody_died)
{
	const struct role_notice killed = { .kind = ROLE_NOTICE_ENDED, .slot = 40, .conn_id = 77,
	    .wait_status = SIGKILL };
	const struct role_notice service = { .kind = ROLE_NOTICE_SERVICE_ENDED };

	subscribe(0);
	tell_keeper(&killed);
	wait_for_poke(&subscriber_wake);
	tell_keeper(&service);
	wait_for_poke(&subscriber_wake);
}

Test(keeper, who_is_subscribed_is_told_of_the_shutdown)
{
	const struct role_notice drain = { .kind = ROLE_NOTICE_DRAIN };

	subscribe(1);
	tell_keeper(&drain);
	UNTIL(inbox_of(SUBSCRIBER)->n > 0);
	cr_assert(eq(u32, inbox_of(SUBSCRIBER)->n, 1));
	cr_assert(eq(u32, inbox_of(SUBSCRIBER)->list[0].kind, INBOX_NOTIFY_SHUTDOWN));
	cr_assert(zero(u32, inbox_of(4)->n), "to others it says nothing");
}

Test(keeper, what_nobody_needs_of_a_channel_goes)
{
	struct state_txn *txn;
	uint64_t number;

	subscribe(1);
	publish_each(1, 3, 10);
	txn = read_begin();
	number = state_txn_number(txn);
	state_abort(txn);
	publish_each(1, 2, 10);
	publish_each(0, 300, 70000);	/* two rows each; more than one transaction's */
	UNTIL(channel_row(0).mark.first == 301);
	cr_assert(eq(u64, channel_row(1).mark.first, 1), "somebody has not said that he has it");
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 5));
	atomic_store(&fixture_board->slots[SLOT].consumed, number);
	UNTIL(channel_row(1).mark.first == 4);
	cr_assert(eq(u64, rows_in(STATE_MESSAGES), 2), "not what he has not read");
	txn = write_begin();
	cr_assert(eq(int, end_connection(txn, SUBSCRIBER, "over"), 1));
	commit(txn);
	UNTIL(rows_in(STATE_MESSAGES) == 0);
	cr_assert(zero(int, fixture_check(NULL)));
}

Test(keeper, keys_whose_time_has_passed_go)
{
	struct keys_row row = { .until_ns = 1 };
	struct state_txn *txn = write_begin();
	const struct keys keys = { txn, KEYS_IN_STATE, 1 };
	char key[16];
	int i;

	for (i = 0; i < 1000; i++) {
		sprintf(key, "key %d", i);
		row.until_ns = i == 500 ? INT64_MAX : i;
		cr_assert(zero(int, keys_put(&keys, key, strlen(key), &row, 1000)));
	}
	commit(txn);
	UNTIL(rows_in(STATE_KEYS_BY_AGE) == 1);
	cr_assert(eq(u64, rows_in(STATE_KEYS), 2), "the one, and how many there are");
	cr_assert(zero(int, fixture_check(NULL)));
}
