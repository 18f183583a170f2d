/*
 * channels: processes that publish, subscribe and read as hard as they can and are killed at any
 * instruction. After each death a keeper of the test's own cleans up, as the daemon's does; then every
 * rule of check-state has to hold. Each reader gets every message of its channel that was appended behind
 * its subscription, in order, whole, once: whatever publishers trimmed, because everybody had it,
 * and whoever died over it.
 */
#include <sys/mman.h>

#include "base/clock.h"
#include "unit/state_channels.h"

#define PEERS		5
#define CHANNELS	3
#define SUBSCRIPTIONS	6	/* of one peer, at most */
#define KILLS		120
#define PATIENCE_NS	(60 * CLOCK_SECOND)
#define LARGEST		200000

/* What the peers count for the test, in memory that all share. */
struct shared {
	_Atomic uint64_t appended, skipped, trimmed, read, subscribed, unsubscribed;
	_Atomic int is_draining;	/* nobody publishes any more */
};
static struct shared *shared;

enum { PEER_OK, PEER_SETUP = 10, PEER_STATE, PEER_LOST, PEER_DAMAGED };

struct peer_subscription { uint64_t id, next; uint32_t channel; };

struct peer {
	uint64_t conn_id;
	uint32_t slot;
	unsigned seed;
	struct wake wake;
	struct state *state;
	struct peer_subscription subscriptions[SUBSCRIPTIONS];
	unsigned n;
	uint64_t consumed[CHANNELS];	/* as was known after the last publish */
	uint8_t *payload, *expected;
};

static const struct log_bound bound = { .bytes = (uint64_t)64 << 20 };

static unsigned
roll(struct peer *p, unsigned sides)
{
	return (unsigned)rand_r(&p->seed) % sides;
}

static void __attribute__((noreturn))
peer_fail(const struct peer *p, int status, const char *what, uint64_t value)
{
	fprintf(stderr, "peer %llu: %s: %lld (%s)\n", (unsigned long long)p->conn_id, what,
	    (long long)value, p->state == NULL ? "" : state_error_text(p->state));
	_exit(status);
}

static void
must(const struct peer *p, const char *what, int rc)
{
	if (rc < 0)
		peer_fail(p, PEER_STATE, what, (uint64_t)rc);
}

static void
peer_subscribe(struct peer *p)
{
	struct peer_subscription *mine = &p->subscriptions[p->n];
	struct subscriptions_row row = { .stream = 1 };
	struct state_txn *txn;

	must(p, "begin", state_begin_write(p->state, &txn));
	row.channel = mine->channel = roll(p, CHANNELS);
	must(p, "id", channels_subscription_id(txn, &mine->id));
	must(p, "subscribe", subscriptions_add(txn, p->conn_id, p->slot, mine->id, &row, NULL));
	must(p, "commit", state_commit(txn));
	mine->next = row.base + 1;
	p->n++;
	atomic_fetch_add(&shared->subscribed, 1);
}

static void
peer_unsubscribe(struct peer *p)
{
	unsigned i = roll(p, p->n);
	struct state_txn *txn;

	must(p, "begin", state_begin_write(p->state, &txn));
	must(p, "unsubscribe", subscriptions_del(txn, p->conn_id, p->subscriptions[i].id));
	must(p, "commit", state_commit(txn));
	p->subscriptions[i] = p->subscriptions[--p->n];
	atomic_fetch_add(&shared->unsubscribed, 1);
}

/* One to twenty messages; each is what its channel and sequence say. */
static void
peer_append(struct peer *p, struct state_txn *txn, uint32_t channel, struct log_mark *mark,
    int is_read)
{
	const struct log log = { txn, STATE_MESSAGES, channel };
	struct log_message messages[20];
	size_t n = 1 + roll(p, 20), i, size;
	uint8_t *at = p->payload;

	for (i = 0; i < n; i++) {
		size = roll(p, 40) == 0 ? roll(p, LARGEST) : roll(p, 300);
		channels_fill(at, size, channel, mark->head + 1 + i);
		messages[i].causal = (struct frame_view){ (const uint8_t *)"\0\0", 2 };
		messages[i].payload = (struct frame_view){ at, size };
		at += size;
	}
	if (!is_read && mark->first > mark->head) {
		log_skip(mark, messages, n);
		atomic_fetch_add(&shared->skipped, n);
		return;
	}
	must(p, "append", log_append(&log, mark, channels_schema, messages, n, 0));
	atomic_fetch_add(&shared->appended, n);
}

static int
peer_listener(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	uint64_t *least = arg, consumed;
	const struct board_slot *slot = &fixture_board->slots[listener->slot];

	consumed = atomic_load(&slot->consumed);
	if (atomic_load(&slot->conn_id) == conn_id && consumed < *least)
		*least = consumed;
	return 0;
}

static void
peer_publish(struct peer *p)
{
	uint32_t channel = roll(p, CHANNELS);
	struct log log = { .table = STATE_MESSAGES, .channel = channel };
	uint64_t least = UINT64_MAX;
	struct channels_row row;
	struct state_txn *txn;
	int n;

	must(p, "begin", state_begin_write(p->state, &txn));
	log.txn = txn;
	must(p, "channel", channels_get(txn, channel, &row));
	n = log_trim(&log, &row.mark, &bound, row.n_subscriptions > 0 ? p->consumed[channel] :
	    UINT64_MAX, 0, 64);
	must(p, "trim", n);
	atomic_fetch_add(&shared->trimmed, (unsigned)n);
	peer_append(p, txn, channel, &row.mark, row.n_subscriptions > 0);
	must(p, "channel", channels_put(txn, channel, &row));
	must(p, "commit", state_commit(txn));
	must(p, "begin", state_begin_read(p->state, &txn));
	must(p, "listeners", subscriptions_each_listener(txn, channel, peer_listener, &least));
	state_abort(txn);
	p->consumed[channel] = least == UINT64_MAX ? 0 : least;
}

/* The reader's last message is whole, and the one that has to come. */
static void
peer_compare(struct peer *p, struct log_reader *reader, uint64_t sequence)
{
	size_t at = reader->entry.here, size;
	struct frame_view piece;
	int rc;

	if (reader->entry.sequence != sequence || reader->entry.len > LARGEST + 100)
		peer_fail(p, PEER_DAMAGED, "another message", reader->entry.sequence);
	memcpy(p->payload, reader->entry.frame, at);
	while ((rc = log_next_piece(reader, &piece)) == 0) {
		memcpy(p->payload + at, piece.data, piece.len);
		at += piece.len;
	}
	size = reader->entry.len - LOG_MESSAGE_OVERHEAD - 2;
	channels_fill(p->expected, size, reader->log.channel, sequence);
	if (rc != ERR_NOTFOUND || at != reader->entry.len ||
	    memcmp(p->payload + LOG_MESSAGE_OVERHEAD + 2, p->expected, size) != 0)
		peer_fail(p, PEER_DAMAGED, "not the message that was published", sequence);
}

static void
peer_read_one(struct peer *p, struct state_txn *txn, struct peer_subscription *mine)
{
	const struct log log = { txn, STATE_MESSAGES, mine->channel };
	struct channels_row row;
	struct log_reader reader;

	must(p, "channel", channels_get(txn, mine->channel, &row));
	if (mine->next > row.mark.head)
		return;
	if (log_open(&reader, &log, mine->next) != 0)
		peer_fail(p, PEER_LOST, "a message is gone unread", mine->next);
	for (; mine->next <= row.mark.head; mine->next++) {
		if (log_next(&reader) != 0)
			peer_fail(p, PEER_LOST, "a message is missing", mine->next);
		peer_compare(p, &reader, mine->next);
		atomic_fetch_add(&shared->read, 1);
	}
	log_close(&reader);
}

static void
peer_read(struct peer *p)
{
	struct state_txn *txn;
	uint64_t number;
	unsigned i;

	must(p, "begin", state_begin_read(p->state, &txn));
	number = state_txn_number(txn);
	for (i = 0; i < p->n; i++)
		peer_read_one(p, txn, &p->subscriptions[i]);
	state_abort(txn);
	atomic_store(&p->wake.mine->consumed, number);
}

static void __attribute__((noreturn))
peer_main(uint64_t conn_id, uint32_t slot)
{
	struct peer p = { .conn_id = conn_id, .slot = slot, .seed = (unsigned)conn_id * 7919 };
	struct state_txn *txn;
	struct err err;

	p.payload = malloc(20 * LARGEST);
	p.expected = malloc(LARGEST + 100);
	if (wake_open(&p.wake, fixture_board, slot, &err) != 0 ||
	    state_open(&p.state, fixture_dir, &p.wake, &err) != 0)
		peer_fail(&p, PEER_SETUP, err.text, 0);
	must(&p, "begin", state_begin_write(p.state, &txn));
	must(&p, "connect", act_connect(txn, conn_id, slot));
	must(&p, "commit", state_commit(txn));
	while (!atomic_load(&shared->is_draining)) {
		switch (roll(&p, 8)) {
		case 0:
			if (p.n < SUBSCRIPTIONS)
				peer_subscribe(&p);
			break;
		case 1:
			if (p.n > 0 && roll(&p, 4) == 0)
				peer_unsubscribe(&p);
			break;
		case 2:
		case 3:
		case 4:
			peer_publish(&p);
			break;
		default:
			peer_read(&p);
			break;
		}
	}
	peer_read(&p);
	_exit(PEER_OK);
}

/* The test: master and keeper. */

static struct { pid_t pid; uint64_t conn_id; } peers[PEERS];
static uint64_t next_conn_id = 1;

static void
start_peer(uint32_t i)
{
	uint32_t slot = i + 1;

	peers[i].conn_id = next_conn_id++;
	board_take(fixture_board, slot, BOARD_CONNECTION, peers[i].conn_id);
	/* No environment of ours goes through the fork. */
	peers[i].pid = fork_child();
	cr_assert(ne(int, peers[i].pid, -1));
	if (peers[i].pid == 0)
		peer_main(peers[i].conn_id, slot);
}

/* What the keeper does, in a process of its own. */
static void
clean_up(uint64_t conn_id)
{
	pid_t pid = fork_child();
	struct state_txn *txn;
	struct state *state;
	struct err err;
	int status, rc;

	if (pid == 0) {
		rc = state_open(&state, fixture_dir, &fixture_wake, &err);
		if (rc == 0)
			rc = state_check_readers(state);
		if (rc == 0)
			rc = state_begin_write(state, &txn);
		if (rc == 0 && (rc = end_connection(txn, conn_id, "killed")) >= 0)
			rc = state_commit(txn);
		_exit(rc == 0 ? 0 : 1);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(zero(int, exit_status(status)));
}

static void
setup(void)
{
	fixture_init();
	channels_make(CHANNELS, CHANNELS);
	fixture_close();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	cr_assert(ne(ptr, shared, MAP_FAILED));
}

TestSuite(channels_kill, .init = setup, .fini = fixture_fini, .timeout = 280);

Test(channels_kill, nothing_unread_is_lost_and_every_rule_holds)
{
	unsigned seed = 20;
	int status, kills;
	uint32_t i;

	for (i = 0; i < PEERS; i++)
		start_peer(i);
	for (kills = 0; kills < KILLS; kills++) {
		usleep((useconds_t)(rand_r(&seed) % 20000));
		i = (uint32_t)rand_r(&seed) % PEERS;
		kill(peers[i].pid, SIGKILL);
		cr_assert(eq(int, waitpid(peers[i].pid, &status, 0), peers[i].pid));
		cr_assert(eq(int, exit_status(status), -1), "peer %llu has ended: %d",
		    (unsigned long long)peers[i].conn_id, exit_status(status));
		clean_up(peers[i].conn_id);
		board_release(fixture_board, i + 1);
		cr_assert(zero(int, fixture_check(NULL)), "after %d kills", kills + 1);
		start_peer(i);
	}
	atomic_store(&shared->is_draining, 1);
	for (i = 0; i < PEERS; i++) {
		cr_assert(eq(int, waitpid(peers[i].pid, &status, 0), peers[i].pid));
		cr_assert(zero(int, exit_status(status)));
		clean_up(peers[i].conn_id);
	}
	cr_assert(zero(int, fixture_check("empty")));
	/* All of it has happened, and much of it. */
	cr_assert(gt(u64, shared->appended, 1000));
	cr_assert(gt(u64, shared->trimmed, 100));
	cr_assert(gt(u64, shared->read, 1000));
	cr_assert(gt(u64, shared->subscribed, 100));
	cr_assert(gt(u64, shared->unsubscribed, 10));
	fixture_open();
}
