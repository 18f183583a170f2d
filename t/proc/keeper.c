/*
 * The keeper and the services' inboxes: what somebody left in one without waking the service, since
 * it died just then, is found, at once when the master tells of a death, else within a second.
 */
#include "base/clock.h"
#include "role/role.h"
#include "state/inbox.h"
#include "unit/state_fixture.h"

#define PATIENCE_NS	(20 * CLOCK_SECOND)

static struct wake store_wake;
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
	fixture_create(16);
	conf.runtime_dir = fixture_dir;
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
poked_after(void)
{
	struct pollfd p = { .fd = store_wake.fd, .events = POLLIN };
	int64_t begin = clock_now_ns();

	cr_assert(eq(int, poll(&p, 1, (int)(PATIENCE_NS / CLOCK_MS)), 1), "no poke");
	cr_assert(eq(int, wake_drain(&store_wake), WAKE_POKE));
	return clock_now_ns() - begin;
}

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
