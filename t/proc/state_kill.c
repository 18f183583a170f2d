/*
 * state: processes that use one environment as hard as they can and are killed at any
 * instruction. After each death a keeper of the test's own cleans up, as the daemon's does;
 * then every rule of check-state has to hold. At the end the living finish what they owe, and
 * each of their requests must have had exactly one outcome: none is lost, none is told
 * twice, and who slept was woken for it.
 */
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "unit/state_fixture.h"

#define PEERS		6
#define KEEPER_SLOT	0
#define KILLS		250
#define KEEPER_DIES	16	/* one in so many is killed over its work */
#define OUTSTANDING	24	/* requests of one peer */
#define PATIENCE_NS	(60 * CLOCK_SECOND)
#define LARGE		(70 * 1000)

/* What the peers count for the test, in memory that all share. */
struct shared {
	_Atomic uint64_t committed, pushed, queued, refused, replied, exited, orphaned, started;
	_Atomic uint64_t direct, slept, registered, cancelled, ended;
	_Atomic int is_draining;	/* no new requests */
};
static struct shared *shared;

enum { PEER_OK, PEER_SETUP = 10, PEER_STATE, PEER_UNKNOWN_EVENT, PEER_LOST_POKE, PEER_UNANSWERED };

/*
 * The peers: each is a caller, and a worker as well, most of the time.
 */
struct peer_request {
	uint64_t id;		/* 0: free */
	int is_queued;
	struct pending_key where;
	const char *space;
};

struct peer {
	uint64_t conn_id;
	uint32_t slot;
	unsigned seed;
	struct wake wake;
	struct state *state;
	struct workers_pools pools;
	int is_worker;
	uint64_t inbox_seen, next_request;
	int is_inbox_dirty;
	struct peer_request requests[OUTSTANDING];
	unsigned n_requests;
	struct pushed_one *owed;
	unsigned n_owed;
};

static const char *const spaces[] = { "a", "b", "c" };
static const char *const types[] = { NULL, "red", "green", "blue" };

static unsigned
roll(struct peer *p, unsigned sides)
{
	return (unsigned)rand_r(&p->seed) % sides;
}

static void
tally(_Atomic uint64_t *count)
{
	atomic_fetch_add(count, 1);
}

static void __attribute__((noreturn))
peer_fail(const struct peer *p, int status, const char *what, int rc)
{
	fprintf(stderr, "peer %llu: %s: %d (%s)\n", (unsigned long long)p->conn_id, what, rc,
	    p->state == NULL ? "" : state_error_text(p->state));
	_exit(status);
}

static struct peer_request *
peer_request_find(struct peer *p, uint64_t id)
{
	for (unsigned i = 0; i < OUTSTANDING; i++)
		if (p->requests[i].id == id)
			return &p->requests[i];
	return NULL;
}

/* Exactly one outcome for each request; STARTED is none. */
static int
peer_event(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct peer *p = arg;
	struct peer_request *request = peer_request_find(p, entry->request);

	(void)body;
	if (entry->request == 0 || request == NULL)
		peer_fail(p, PEER_UNKNOWN_EVENT, "an event for no request", (int)entry->kind);
	switch (entry->kind) {
	case INBOX_STARTED:
		if (!request->is_queued)
			peer_fail(p, PEER_UNKNOWN_EVENT, "started twice", (int)entry->request);
		request->is_queued = 0;
		tally(&shared->started);
		return 0;
	case INBOX_REPLY:
		tally(&shared->replied);
		break;
	case INBOX_WORKER_EXITED:
	case INBOX_DISCONNECTED:
		tally(&shared->exited);
		break;
	case INBOX_NO_WORKERS:
		tally(&shared->orphaned);
		break;
	default:
		peer_fail(p, PEER_UNKNOWN_EVENT, "an event of no kind", (int)entry->kind);
	}
	request->id = 0;
	p->n_requests--;
	return 0;
}

static int
peer_owe(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	struct peer *p = arg;

	(void)target, (void)row, (void)payload;
	p->owed[p->n_owed++].correlation = correlation;
	return p->n_owed == 32;
}

/* Look at the inbox and at what is owed. */
static void
peer_look(struct peer *p)
{
	struct state_txn *txn;
	uint64_t seen;
	unsigned rows;
	int rc;

	if ((rc = state_begin_read(p->state, &txn)) != 0)
		peer_fail(p, PEER_STATE, "read", rc);
	seen = state_snapshot_id(txn);
	if ((rc = inbox_read(txn, p->conn_id, p->inbox_seen, &rows, peer_event, p)) != 0)
		peer_fail(p, PEER_STATE, "inbox", rc);
	p->n_owed = 0;
	if ((rc = pushes_each_of(txn, p->conn_id, 0, peer_owe, p)) < 0)
		peer_fail(p, PEER_STATE, "pushes", rc);
	state_abort(txn);
	p->inbox_seen = seen;
	p->is_inbox_dirty |= rows > 0;
}

static int
peer_register(struct peer *p, struct state_txn *txn)
{
	static const char *const in[] = { "a", "b", "a b", "c b", "a b c" };
	static const char *const can[] = { NULL, "red", "red green", "green blue" };
	struct worker_spec spec = { .spaces = in[roll(p, 5)], .types = can[roll(p, 4)],
	    .node = roll(p, 2) ? "n1" : NULL, .max = roll(p, 4) + 1 };
	int rc;

	workers_pools_free(&p->pools);
	rc = act_register(txn, p->conn_id, p->slot, spec, &p->pools);
	if (rc == 0)
		rc = workers_settle(txn, p->conn_id, &p->pools, 0);
	p->is_worker = 1;
	tally(&shared->registered);
	return rc;
}

static int
peer_place(struct peer *p, struct state_txn *txn)
{
	struct request_spec spec = { .space = spaces[roll(p, 3)], .type = types[roll(p, 4)],
	    .payload = "payload", .limit = 30, .flags = PENDING_TELL_START };
	struct peer_request *request = peer_request_find(p, 0);
	struct act_placed placed;
	int rc;

	if (atomic_load(&shared->is_draining) || request == NULL)
		return 0;
	if (roll(p, 8) == 0) {
		spec.node = "n1";
		spec.flags |= PENDING_NODE_REQUIRED;
	}
	rc = act_place(txn, p->conn_id, p->slot, ++p->next_request, spec, &placed);
	if (rc == ERR_FULL) {
		tally(&shared->refused);
		return 0;
	}
	if (rc != 0 || placed.outcome == ACT_REFUSED)
		return rc;
	request->id = p->next_request;
	request->is_queued = placed.outcome == ACT_QUEUED;
	request->where = placed.where;
	request->space = spec.space;
	p->n_requests++;
	tally(request->is_queued ? &shared->queued : &shared->pushed);
	return 0;
}

struct target { uint64_t conn_id, after; uint32_t slot; };

static int
peer_pick(void *arg, uint64_t conn_id, const struct connections_row *row)
{
	struct target *target = arg;

	target->conn_id = conn_id;
	target->slot = row->slot;
	return target->after-- == 0;
}

/* A push to any connection, itself included. */
static int
peer_direct(struct peer *p, struct state_txn *txn)
{
	struct pushes_row push = { .kind = PUSHES_DIRECT, .awaiter = p->conn_id,
	    .awaiter_slot = p->slot };
	struct target target = { 0, roll(p, PEERS), 0 };
	struct peer_request *request = peer_request_find(p, 0);
	struct frame_view payload = act_view("direct");
	uint64_t correlation;
	int rc;

	if (atomic_load(&shared->is_draining) || request == NULL)
		return 0;
	if ((rc = connections_each(txn, peer_pick, &target)) < 0)
		return rc;
	push.request = ++p->next_request;
	rc = pushes_add(txn, target.conn_id, target.slot, &push, &payload, &correlation);
	request->id = push.request;
	request->is_queued = 0;
	p->n_requests++;
	tally(&shared->direct);
	return rc;
}

static int
peer_cancel(struct peer *p, struct state_txn *txn)
{
	struct peer_request *request = &p->requests[roll(p, OUTSTANDING)];
	struct pool_name name;
	int rc;

	if (request->id == 0 || !request->is_queued)
		return 0;
	name = act_pool(request->space);
	rc = pending_remove(txn, &name, &request->where);
	if (rc == 0) {
		request->id = 0;
		p->n_requests--;
		tally(&shared->cancelled);
	}
	return rc == ERR_NOTFOUND ? 0 : rc;
}

static int
peer_converse(struct peer *p, struct state_txn *txn)
{
	struct record_conversation record;

	if (roll(p, 2))
		return conversations_del(txn, p->conn_id, roll(p, 5));
	memset(&record, 0, sizeof record);
	record.subject = act_view("echo");
	return conversations_put(txn, p->conn_id, roll(p, 5), &record);
}

/* Answer some of what is owed, and take as much. */
static int
peer_answer(struct peer *p, struct state_txn *txn)
{
	static char body[LARGE];
	uint32_t freed = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < p->n_owed; i++) {
		if (roll(p, 3) == 0 && !atomic_load(&shared->is_draining))
			continue;
		rc = act_reply(txn, p->conn_id, p->owed[i].correlation, body,
		    roll(p, 20) == 0 ? LARGE : roll(p, 100), &freed);
		if (rc == ERR_NOTFOUND)	/* answered in the last turn, and looked at before */
			rc = 0;
	}
	if (rc == 0 && freed > 0)
		rc = workers_settle(txn, p->conn_id, &p->pools, freed);
	return rc;
}

/* One turn: one transaction with a bit of everything. */
static void
peer_turn(struct peer *p)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(p->state, &txn)) != 0)
		peer_fail(p, PEER_STATE, "begin", rc);
	if (p->is_inbox_dirty)
		rc = inbox_remove(txn, p->conn_id, p->inbox_seen);
	if (rc == 0)
		rc = peer_answer(p, txn);
	for (unsigned i = roll(p, 6); rc == 0 && i > 0; i--)
		rc = peer_place(p, txn);
	if (rc == 0 && roll(p, 8) == 0)
		rc = peer_direct(p, txn);
	if (rc == 0 && roll(p, 4) == 0)
		rc = peer_cancel(p, txn);
	if (rc == 0 && roll(p, 8) == 0)
		rc = peer_converse(p, txn);
	if (rc == 0 && roll(p, 50) == 0)
		rc = peer_register(p, txn);
	if (rc != 0)
		peer_fail(p, PEER_STATE, "turn", rc);
	if ((rc = state_commit(txn)) != 0)
		peer_fail(p, PEER_STATE, "commit", rc);
	p->is_inbox_dirty = 0;
	tally(&shared->committed);
}

/* Until there is something new. A poke that never comes is seen by what lies there. */
static void
peer_sleep(struct peer *p)
{
	struct pollfd fd = { .fd = p->wake.fd, .events = POLLIN };
	unsigned before = p->n_requests;
	int n;

	wake_will_sleep(&p->wake);
	peer_look(p);
	if (p->n_owed > 0 || p->n_requests < before || p->is_inbox_dirty) {
		wake_is_awake(&p->wake);
		return;
	}
	tally(&shared->slept);
	n = poll(&fd, 1, (int)(PATIENCE_NS / 2 / CLOCK_MS));
	wake_is_awake(&p->wake);
	wake_drain(&p->wake);
	if (n == 1)
		return;
	peer_look(p);
	if (p->n_owed > 0 || p->is_inbox_dirty)
		peer_fail(p, PEER_LOST_POKE, "something new, but no poke", (int)p->n_owed);
	peer_fail(p, PEER_UNANSWERED, "requests without an answer", (int)p->n_requests);
}

static void
peer_leave(struct peer *p)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(p->state, &txn)) != 0 ||
	    (rc = end_connection(txn, p->conn_id, "left")) != 1 ||
	    (rc = state_commit(txn)) != 0)
		peer_fail(p, PEER_STATE, "end", rc);
	state_close(p->state);
	tally(&shared->ended);
	_exit(PEER_OK);
}

static void
peer_enter(struct peer *p)
{
	struct state_txn *txn;
	int rc;

	if (board_own(fixture_board, p->slot) != 0 ||
	    wake_open(&p->wake, fixture_board, p->slot, NULL) != 0 ||
	    state_open(&p->state, fixture_dir, &p->wake, NULL) != 0 ||
	    (p->owed = calloc(64, sizeof *p->owed)) == NULL)
		_exit(PEER_SETUP);
	if ((rc = state_begin_write(p->state, &txn)) != 0)
		peer_fail(p, PEER_STATE, "begin", rc);
	p->inbox_seen = state_snapshot_id(txn);
	rc = act_connect(txn, p->conn_id, p->slot);
	if (rc == 0 && roll(p, 4) > 0)
		rc = peer_register(p, txn);
	if (rc == 0)
		rc = state_commit(txn);
	if (rc != 0)
		peer_fail(p, PEER_STATE, "enter", rc);
}

static void __attribute__((noreturn))
peer_main(uint64_t conn_id, uint32_t slot)
{
	struct peer p = { .conn_id = conn_id, .slot = slot, .seed = (unsigned)conn_id * 7919 };

	peer_enter(&p);
	for (;;) {
		peer_look(&p);
		if (atomic_load(&shared->is_draining)) {
			if (p.n_owed == 0 && p.n_requests == 0)
				peer_leave(&p);
			if (p.n_owed > 0 || p.is_inbox_dirty)
				peer_turn(&p);
			else
				peer_sleep(&p);
		} else if (p.n_requests == OUTSTANDING && p.n_owed == 0 && !p.is_inbox_dirty) {
			peer_sleep(&p);
		} else {
			peer_turn(&p);
			if (roll(&p, 2000) == 0)
				peer_leave(&p);
		}
	}
}

/*
 * The keeper: told who has ended, it says when nothing is left of them.
 */
struct keeper_poke { struct state_txn *txn; struct wake *wake; };

static int
keeper_poke_owner(void *arg, uint64_t conn_id)
{
	struct keeper_poke *poke = arg;
	struct connections_row row;

	if (connections_get(poke->txn, conn_id, &row) == 0)
		wake_poke_always(poke->wake, row.slot, conn_id);
	return 0;
}

static int
keeper_clean(struct state *state, struct wake *wake, uint64_t conn_id)
{
	struct keeper_poke poke = { NULL, wake };
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_write(state, &txn)) != 0)
		return rc;
	if ((rc = end_connection(txn, conn_id, "killed by signal 9 (SIGKILL)")) < 0)
		return rc;
	if ((rc = state_commit(txn)) != 0 || (rc = state_check_readers(state)) != 0 ||
	    (rc = state_begin_read(state, &poke.txn)) != 0)
		return rc;
	rc = state_each_owner(poke.txn, STATE_INBOX, keeper_poke_owner, &poke);
	if (rc == 0)
		rc = state_each_owner(poke.txn, STATE_PUSHES, keeper_poke_owner, &poke);
	state_abort(poke.txn);
	return rc;
}

static void __attribute__((noreturn))
keeper_main(int notices)
{
	struct state *state = NULL;
	struct wake wake;
	uint64_t conn_id;
	int rc = 0;

	if (board_own(fixture_board, KEEPER_SLOT) != 0 ||
	    wake_open(&wake, fixture_board, KEEPER_SLOT, NULL) != 0 ||
	    state_open(&state, fixture_dir, &wake, NULL) != 0)
		_exit(PEER_SETUP);
	while (rc == 0 && recv(notices, &conn_id, sizeof conn_id, 0) == sizeof conn_id) {
		rc = keeper_clean(state, &wake, conn_id);
		if (rc == 0)
			send(notices, &conn_id, sizeof conn_id, MSG_NOSIGNAL);
		else
			fprintf(stderr, "keeper: %d (%s)\n", rc, state_error_text(state));
	}
	_exit(rc == 0 ? PEER_OK : PEER_STATE);
}

/*
 * The test: the master, who alone forks, and opens no environment.
 */
static pid_t peers[PEERS + 1];		/* by slot; the keeper's is slot 0 */
static uint64_t conn_ids[PEERS + 1], last_conn_id;
static int keeper_fd = -1;
static unsigned in_transaction;		/* how many died there */
static int64_t give_up_ns;

static void
start_peer(uint32_t slot)
{
	board_take(fixture_board, slot, BOARD_CONNECTION, ++last_conn_id);
	conn_ids[slot] = last_conn_id;
	if ((peers[slot] = fork_child()) == 0)
		peer_main(conn_ids[slot], slot);
	cr_assert(ne(int, peers[slot], -1));
}

static void
start_keeper(void)
{
	int fds[2];

	cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0));
	if ((peers[KEEPER_SLOT] = fork_child()) == 0) {
		close(fds[0]);
		keeper_main(fds[1]);
	}
	cr_assert(ne(int, peers[KEEPER_SLOT], -1));
	close(fds[1]);
	if (keeper_fd != -1)
		close(keeper_fd);
	keeper_fd = fds[0];
}

static void
note_death(uint32_t slot)
{
	in_transaction += atomic_load(&fixture_board->slots[slot].write_txn_ns) != 0;
	board_release(fixture_board, slot);
}

static void
kill_keeper(void)
{
	int status;

	cr_assert(eq(int, kill(peers[KEEPER_SLOT], SIGKILL), 0));
	cr_assert(eq(int, waitpid(peers[KEEPER_SLOT], &status, 0), peers[KEEPER_SLOT]));
	cr_assert(status == SIGKILL, "the keeper ended by itself: 0x%x", (unsigned)status);
	note_death(KEEPER_SLOT);
	start_keeper();
}

/* Have CONN_ID cleaned up; if so wanted, by a keeper that is killed after DIES_AFTER_NS, and by
 * its successor, which gets the unanswered notice again. */
static void
clean_up(uint64_t conn_id, long dies_after_ns)
{
	struct timespec moment = { 0, dies_after_ns };
	struct pollfd fd = { .events = POLLIN };
	uint64_t answer = 0;

	cr_assert(eq(int, (int)send(keeper_fd, &conn_id, sizeof conn_id, MSG_NOSIGNAL), 8));
	if (dies_after_ns > 0) {
		nanosleep(&moment, NULL);
		kill_keeper();
		cr_assert(eq(int, (int)send(keeper_fd, &conn_id, sizeof conn_id,
		    MSG_NOSIGNAL), 8));
	}
	fd.fd = keeper_fd;
	cr_assert(eq(int, poll(&fd, 1, (int)(PATIENCE_NS / CLOCK_MS)), 1));
	cr_assert(eq(int, (int)recv(keeper_fd, &answer, sizeof answer, 0), 8));
	cr_assert(eq(u64, answer, conn_id));
}

/* Returns 1 if the peer was killed, 0 if it had left by then. */
static int
reap(uint32_t slot)
{
	int status;

	cr_assert(eq(int, waitpid(peers[slot], &status, 0), peers[slot]));
	peers[slot] = 0;
	note_death(slot);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return 1;
	cr_assert(exit_status(status) == PEER_OK, "peer %llu failed: 0x%x",
	    (unsigned long long)conn_ids[slot], (unsigned)status);
	return 0;
}

static void
storm_fini(void)
{
	int status;

	for (uint32_t slot = 0; slot <= PEERS; slot++)
		if (peers[slot] > 0) {
			kill(peers[slot], SIGKILL);
			waitpid(peers[slot], &status, 0);
		}
	fixture_remove_dir();
}

static void
storm_init(void)
{
	fixture_make_dir();
	fixture_board = board_create(FIXTURE_SLOTS);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	cr_assert(ne(ptr, shared, MAP_FAILED));
	fixture_create(PEERS + 2);
	give_up_ns = clock_now_ns() + 4 * PATIENCE_NS;
}

TestSuite(state_kill, .init = storm_init, .fini = storm_fini);

/* Everybody left finishes, while nobody is killed, and goes. The peers' own patience bounds it. */
static void
drain(void)
{
	uint32_t slot;

	atomic_store(&shared->is_draining, 1);
	for (slot = 1; slot <= PEERS; slot++)
		cr_assert(eq(int, reap(slot), 0));
}

Test(state_kill, deaths_at_any_moment_leave_every_rule_kept)
{
	unsigned seed = 20260105, kills = 0, round;
	struct timespec moment = { 0, 0 };
	uint32_t slot;

	start_keeper();
	for (slot = 1; slot <= PEERS; slot++)
		start_peer(slot);
	for (round = 1; kills < KILLS; round++) {
		cr_assert(clock_now_ns() < give_up_ns, "only %u kills", kills);
		moment.tv_nsec = rand_r(&seed) % 8000000;
		nanosleep(&moment, NULL);
		slot = (uint32_t)rand_r(&seed) % PEERS + 1;
		cr_assert(eq(int, kill(peers[slot], SIGKILL), 0));
		kills += (unsigned)reap(slot);
		clean_up(conn_ids[slot], round % KEEPER_DIES == 0 ?
		    rand_r(&seed) % 300000 + 1 : 0);
		cr_assert(fixture_check(NULL) == 0, "after %u kills", kills);
		start_peer(slot);
	}
	drain();
	cr_assert(eq(int, fixture_check("empty"), 0));
	fprintf(stderr, "# %u kills (%u in a transaction): %llu turns, %llu registrations, "
	    "%llu pushed, %llu queued (%llu started, %llu cancelled, %llu orphaned), "
	    "%llu direct, %llu replies, %llu lost workers, %llu full, %llu sleeps, %llu left\n",
	    kills, in_transaction, (unsigned long long)shared->committed,
	    (unsigned long long)shared->registered, (unsigned long long)shared->pushed,
	    (unsigned long long)shared->queued, (unsigned long long)shared->started,
	    (unsigned long long)shared->cancelled, (unsigned long long)shared->orphaned,
	    (unsigned long long)shared->direct, (unsigned long long)shared->replied,
	    (unsigned long long)shared->exited, (unsigned long long)shared->refused,
	    (unsigned long long)shared->slept, (unsigned long long)shared->ended);
	/* it was what it says */
	cr_assert(lt(uint, 5, in_transaction));
	cr_assert(lt(u64, KILLS, shared->committed));
	cr_assert(lt(u64, 50, shared->started));
	cr_assert(lt(u64, 50, shared->exited));
	cr_assert(lt(u64, 5, shared->orphaned));
	cr_assert(lt(u64, 5, shared->cancelled));
}
