/*
 * The keeper: what nobody else is left to do.
 *
 * When the master has seen a connection's end, the keeper makes sure that nothing of it is left in
 * the state, and says so; only then is the connection's slot given out again. After an
 * abnormal end it frees the reader slots of the dead and pokes whoever has something to look
 * at, because the dead one may have committed and not poked any more: also all who are subscribed
 * to something. Once a second it pokes those who owe something to others, tells the master of those
 * who do not move for it (a stopped or looping process that blocks others has to be ended), and
 * removes what nobody needs any more of channels that nobody publishes to. It may itself be killed
 * at any point; its successor gets the unanswered notices again.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/wake.h"
#include "role/announce.h"
#include "role/role.h"
#include "role/sweep.h"
#include "state/connections.h"
#include "state/counters.h"
#include "state/end.h"
#include "state/inbox.h"
#include "state/state.h"

#define KEEPER_TICK_NS		CLOCK_SECOND
/* Who was poked and has not gone round its loop for so long does not run. Generous: a healthy
 * process on a machine that is overloaded a hundredfold still manages. */
#define KEEPER_STUCK_NS		(5 * CLOCK_SECOND)
/* Ends that one transaction cleans up. */
#define KEEPER_BATCH		64

struct keeper_suspect {
	uint64_t conn_id, looked;
	uint32_t slot;
	int64_t since_ns;
};

struct keeper_suspects {
	struct keeper_suspect *list;	/* in the order of conn ids */
	size_t n, size;
};

struct keeper {
	const struct role_context *context;
	struct board *board;
	struct wake wake;
	struct state *state;
	int notices;
	struct keeper_suspects suspects, fresh;
	struct sweep sweep;
	uint64_t counted;		/* a sum over what was last written to the counters */
	struct state_txn *txn;		/* for the visitors */
};

/* The board's record of a connection, if it is still its. */
static struct board_slot *
keeper_slot(struct keeper *k, uint64_t conn_id, uint32_t slot)
{
	if (slot >= k->board->n_slots ||
	    atomic_load(&k->board->slots[slot].conn_id) != conn_id)
		return NULL;
	return &k->board->slots[slot];
}

static int
keeper_answer(struct keeper *k, const struct role_answer *answer)
{
	ssize_t n;

	do
		n = send(k->notices, answer, sizeof *answer, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return n == sizeof *answer ? 0 : ERR_CLOSED;
}

/* Visitors for the owners of rows: poke, or note as suspects. */

/* Services have no rows, and whether they move is the master's business. */
static void
keeper_poke_service(struct keeper *k, uint64_t target)
{
	uint64_t kind = UINT64_MAX - target;

	if (kind > BOARD_FREE && kind <= BOARD_N_SERVICES)
		wake_poke_always(&k->wake, BOARD_SERVICE_SLOT(kind), 0);
}

static int
keeper_poke_owner(void *arg, uint64_t conn_id)
{
	struct connections_row row;
	struct keeper *k = arg;

	if (INBOX_IS_SERVICE(conn_id))
		keeper_poke_service(k, conn_id);
	else if (connections_get(k->txn, conn_id, &row) == 0)
		wake_poke_always(&k->wake, row.slot, conn_id);
	return 0;
}

static int
keeper_note_owner(void *arg, uint64_t conn_id)
{
	struct connections_row row;
	struct keeper_suspect *more;
	struct board_slot *slot;
	struct keeper *k = arg;
	size_t size;

	if (INBOX_IS_SERVICE(conn_id)) {
		keeper_poke_service(k, conn_id);
		return 0;
	}
	if (connections_get(k->txn, conn_id, &row) != 0 ||
	    (slot = keeper_slot(k, conn_id, row.slot)) == NULL)
		return 0;
	if (k->fresh.n == k->fresh.size) {
		size = k->fresh.size ? k->fresh.size * 2 : 64;
		more = realloc(k->fresh.list, size * sizeof *more);
		if (more == NULL)
			return ERR_NOMEM;
		k->fresh.list = more;
		k->fresh.size = size;
	}
	k->fresh.list[k->fresh.n].conn_id = conn_id;
	k->fresh.list[k->fresh.n].slot = row.slot;
	k->fresh.list[k->fresh.n].looked = atomic_load(&slot->looked);
	k->fresh.list[k->fresh.n++].since_ns = clock_now_ns();
	wake_poke_always(&k->wake, row.slot, conn_id);
	return 0;
}

static int
keeper_each_owner(struct keeper *k, int (*visit)(void *arg, uint64_t conn_id))
{
	int rc;

	if ((rc = state_begin_read(k->state, &k->txn)) != 0)
		return rc;
	rc = state_each_owner(k->txn, STATE_INBOX, visit, k);
	if (rc == 0)
		rc = state_each_owner(k->txn, STATE_PUSHES, visit, k);
	state_abort(k->txn);
	return rc;
}

/* Somebody has died: poke whoever may have something to look at. To those who are subscribed a
 * publisher, or the store, may have committed a message. */
static int
keeper_poke_all(struct keeper *k)
{
	int rc = keeper_each_owner(k, keeper_poke_owner);

	if (rc != 0 || (rc = state_begin_read(k->state, &k->txn)) != 0)
		return rc;
	rc = state_each_owner(k->txn, STATE_SUBSCRIPTIONS, keeper_poke_owner, k);
	state_abort(k->txn);
	return rc;
}

static const struct keeper_suspect *
keeper_known(const struct keeper_suspects *suspects, uint64_t conn_id)
{
	size_t low = 0, high = suspects->n, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (suspects->list[mid].conn_id < conn_id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < suspects->n && suspects->list[low].conn_id == conn_id ?
	    &suspects->list[low] : NULL;
}

static int
keeper_compare(const void *a, const void *b)
{
	const struct keeper_suspect *x = a, *y = b;

	return x->conn_id < y->conn_id ? -1 : x->conn_id > y->conn_id;
}

/* Who owes something and has not moved since it was last poked. */
static int
keeper_watch(struct keeper *k)
{
	const struct keeper_suspect *known;
	struct role_answer answer;
	struct keeper_suspects swap;
	size_t i;
	int rc;

	k->fresh.n = 0;
	if ((rc = keeper_each_owner(k, keeper_note_owner)) != 0)
		return rc;
	if (k->fresh.n > 0)
		qsort(k->fresh.list, k->fresh.n, sizeof *k->fresh.list, keeper_compare);
	for (i = 0; i < k->fresh.n; i++) {
		known = keeper_known(&k->suspects, k->fresh.list[i].conn_id);
		if (known == NULL || known->looked != k->fresh.list[i].looked)
			continue;
		memset(&answer, 0, sizeof answer);
		answer.stuck_ns = k->fresh.list[i].since_ns - known->since_ns;
		k->fresh.list[i].since_ns = known->since_ns;
		if (answer.stuck_ns < KEEPER_STUCK_NS)
			continue;
		answer.kind = ROLE_ANSWER_STUCK;
		answer.slot = k->fresh.list[i].slot;
		answer.conn_id = k->fresh.list[i].conn_id;
		if ((rc = keeper_answer(k, &answer)) != 0)
			return rc;
	}
	swap = k->suspects;
	k->suspects = k->fresh;
	k->fresh = swap;
	return 0;
}

static uint64_t
keeper_service_pid(const struct keeper *k, uint32_t slot)
{
	return (uint64_t)atomic_load(&k->board->slots[slot].pid);
}

/* Who serves, for those who look from outside; 0 = nobody at the moment. */
static int
keeper_write_pids(struct keeper *k, struct state_txn *txn)
{
	char name[32];
	uint32_t slot;
	int rc;

	rc = counters_put(txn, "master_pid", (uint64_t)atomic_load(&k->board->master_pid));
	for (slot = 0; rc == 0 && slot < BOARD_N_SERVICES; slot++) {
		snprintf(name, sizeof name, "%s_pid", board_service_names[slot]);
		rc = counters_put(txn, name, keeper_service_pid(k, slot));
	}
	return rc;
}

static int
keeper_write_counts(struct keeper *k)
{
	struct state_txn *txn;
	int rc, i;

	if ((rc = state_begin_write(k->state, &txn)) != 0)
		return rc;
	for (i = 0; rc == 0 && i < BOARD_N_COUNTERS; i++)
		rc = counters_put(txn, board_counter_names[i],
		    board_sum(k->board, (enum board_counter)i));
	if (rc == 0)
		rc = counters_put(txn, "connections_accepted",
		    atomic_load(&k->board->connections_accepted));
	if (rc == 0)
		rc = counters_put(txn, "connections_refused",
		    atomic_load(&k->board->connections_refused));
	if (rc == 0)
		rc = counters_put(txn, "connections_crashed",
		    atomic_load(&k->board->connections_crashed));
	if (rc == 0)
		rc = keeper_write_pids(k, txn);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

/* Copy the board's counters into the state when they have moved. */
static int
keeper_count(struct keeper *k)
{
	uint64_t sum = 1;
	int i, rc;

	for (i = 0; i < BOARD_N_COUNTERS; i++)
		sum += board_sum(k->board, (enum board_counter)i);
	sum += atomic_load(&k->board->connections_accepted) +
	    atomic_load(&k->board->connections_refused) +
	    atomic_load(&k->board->connections_crashed);
	/* Pids go up and down; spread apart, they do not make up for what was counted. */
	for (i = 0; i < BOARD_N_SERVICES; i++)
		sum = sum * UINT64_C(0x100000001b3) + keeper_service_pid(k, (uint32_t)i);
	if (sum == k->counted)
		return 0;
	rc = keeper_write_counts(k);
	if (rc == 0)
		k->counted = sum;
	return rc == ERR_FULL ? 0 : rc;
}

/* Clean up after N ended connections, those that had not done it themselves. */
static int
keeper_clean(struct keeper *k, const struct role_notice *notices, size_t n)
{
	struct state_txn *txn;
	char reason[128];
	size_t i, left = 0;
	int rc;

	/* Whoever has ended may have asked for a row just before: that comes first. */
	if ((rc = announce_serve(&k->wake, k->state)) != 0)
		return rc;
	if ((rc = state_begin_read(k->state, &txn)) != 0)
		return rc;
	for (i = 0; i < n; i++)
		left += connections_exists(txn, notices[i].conn_id) == 0;
	state_abort(txn);
	if (left == 0)
		return 0;
	if ((rc = state_begin_write(k->state, &txn)) != 0)
		return rc;
	for (i = 0; i < n && rc >= 0; i++) {
		role_describe_end(notices[i].wait_status, reason, sizeof reason);
		rc = end_connection(txn, notices[i].conn_id, reason);
	}
	if (rc < 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

static int
keeper_ended(struct keeper *k, const struct role_notice *notices, size_t n)
{
	struct role_answer answer;
	int rc, abnormal = 0;
	size_t i;

	for (i = 0; i < n; i++)
		abnormal |= !WIFEXITED(notices[i].wait_status);
	if ((rc = keeper_clean(k, notices, n)) != 0)
		return rc;
	if (abnormal && (rc = keeper_poke_all(k)) != 0)
		return rc;
	for (i = 0; rc == 0 && i < n; i++) {
		memset(&answer, 0, sizeof answer);
		answer.kind = ROLE_ANSWER_CLEAN;
		answer.slot = notices[i].slot;
		answer.conn_id = notices[i].conn_id;
		rc = keeper_answer(k, &answer);
	}
	return rc;
}

static int
keeper_tell_one(void *arg, uint64_t conn_id)
{
	struct connections_row row;
	struct inbox_entry entry;
	struct keeper *k = arg;

	if (connections_get(k->txn, conn_id, &row) != 0)
		return 0;
	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_NOTIFY_SHUTDOWN;
	return inbox_post(k->txn, conn_id, row.slot, &entry, NULL);
}

/* Shutdown begins: those with subscriptions learn it (systems.md A9); to all others it says nothing. */
static int
keeper_tell_subscribers(struct keeper *k)
{
	int rc;

	if ((rc = state_begin_write(k->state, &k->txn)) != 0)
		return rc;
	rc = state_each_owner(k->txn, STATE_SUBSCRIPTIONS, keeper_tell_one, k);
	if (rc != 0) {
		state_abort(k->txn);
		return rc;
	}
	return state_commit(k->txn);
}

/* Everything that the master has to say. 0, ERR_CLOSED when it is done with us, or worse. */
static int
keeper_receive(struct keeper *k)
{
	struct role_notice ended[KEEPER_BATCH], notice;
	size_t n = 0;
	ssize_t got;
	int rc = 0, drain = 0, poke = 0;

	while (n < KEEPER_BATCH) {
		got = recv(k->notices, &notice, sizeof notice, MSG_DONTWAIT);
		if (got == 0)
			return ERR_CLOSED;
		if (got == -1)
			break;
		if (got != sizeof notice)
			log_panic("a notice of %zd bytes", got);
		if (notice.kind == ROLE_NOTICE_ENDED)
			ended[n++] = notice;
		drain |= notice.kind == ROLE_NOTICE_DRAIN;
		poke |= notice.kind == ROLE_NOTICE_SERVICE_ENDED;
	}
	if (n > 0)
		rc = keeper_ended(k, ended, n);
	if (rc == 0 && poke)
		rc = keeper_poke_all(k);
	if (rc == 0 && drain)
		rc = keeper_tell_subscribers(k);
	return rc;
}

static int
keeper_tick(struct keeper *k)
{
	int rc = keeper_watch(k);

	if (rc == 0)
		rc = keeper_count(k);
	if (rc == 0)
		rc = sweep_channels(&k->sweep);
	/* The dead may be onlookers of whose end nobody tells; what they had seen cannot be
	 * used again before. Cheap: few slots are taken at any moment. */
	if (rc == 0)
		rc = state_check_readers(k->state);
	return rc;
}

static int
keeper_loop(struct keeper *k)
{
	int64_t tick_at = clock_now_ns() + KEEPER_TICK_NS, now;
	struct pollfd fds[3] = {
		{ .fd = k->notices, .events = POLLIN },
		{ .fd = k->context->master_fd, .events = POLLIN },
		{ .fd = k->wake.fd, .events = POLLIN },
	};
	struct board_slot *mine = &k->board->slots[k->context->slot];
	int rc = 0;

	while (rc == 0) {
		atomic_store(&mine->looked, atomic_load(&mine->looked) + 1);
		if (poll(fds, 3, clock_poll_ms(tick_at, clock_now_ns())) == -1 &&
		    errno != EINTR)
			return ERR_SYSTEM;
		if (fds[1].revents != 0)
			return ERR_CLOSED;
		if (fds[2].revents != 0)
			rc = announce_serve(&k->wake, k->state);
		if (rc == 0 && fds[0].revents != 0)
			rc = keeper_receive(k);
		now = clock_now_ns();
		if (rc == 0 && now >= tick_at) {
			rc = keeper_tick(k);
			tick_at = now + KEEPER_TICK_NS;
		}
	}
	return rc;
}

int
keeper_main(const struct role_context *context, int notices)
{
	struct keeper k = { .context = context, .board = context->board, .notices = notices };
	struct err err;
	int rc;

	log_set_name("keeper");
	rc = wake_open(&k.wake, k.board, context->slot, &err);
	if (rc == 0)
		rc = announce_listen(&k.wake, &err);
	if (rc == 0)
		rc = state_open(&k.state, context->conf->runtime_dir, &k.wake, &err);
	if (rc != 0) {
		log_errorx("keeper cannot start: %s", err.text);
		return ROLE_EXIT_STATE;
	}
	k.sweep = (struct sweep){ .conf = context->conf, .board = k.board, .state = k.state };
	/* Whatever the last keeper left: dead readers, lost pokes. */
	rc = state_check_readers(k.state);
	if (rc == 0)
		rc = keeper_poke_all(&k);
	if (rc == 0)
		rc = keeper_count(&k);
	if (rc == 0)
		rc = keeper_loop(&k);
	if (rc == ERR_CLOSED)
		keeper_write_counts(&k);
	else
		log_errorx("keeper ends: %s", state_error_text(k.state));
	state_close(k.state);
	wake_close(&k.wake);
	free(k.suspects.list);
	free(k.fresh.list);
	return rc == ERR_CLOSED ? ROLE_EXIT_OK : ROLE_EXIT_STATE;
}
