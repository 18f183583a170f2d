/* sweep: see sweep.h. */
#include "base/clock.h"
#include "base/log.h"
#include "role/sweep.h"
#include "state/channels.h"
#include "state/keys.h"
#include "state/subscriptions.h"

/* Of one transaction: 4 MiB of messages, some milliseconds. */
#define SWEEP_ROWS		64
#define SWEEP_KEYS		512
/* Of one call: a channel's usual bound is gone at once. */
#define SWEEP_TRANSACTIONS	64
#define SWEEP_LOG_WINDOW_NS	(60 * CLOCK_SECOND)

struct sweep_listeners {
	const struct board *board;
	uint64_t consumed;
};

static int
sweep_listener(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	struct sweep_listeners *listeners = arg;
	const struct board_slot *slot;
	uint64_t consumed = 0;

	if (listener->slot < listeners->board->n_slots) {
		slot = &listeners->board->slots[listener->slot];
		/* Read first: if the slot is the connection's still, this was as well. */
		consumed = atomic_load(&slot->consumed);
		if (atomic_load(&slot->conn_id) != conn_id)
			return 0;	/* has ended: reads nothing any more */
	}
	if (consumed < listeners->consumed)
		listeners->consumed = consumed;
	return 0;
}

int
sweep_consumed(const struct board *board, struct state_txn *txn, uint32_t number,
    uint64_t *consumed)
{
	struct sweep_listeners listeners = { board, UINT64_MAX };
	int rc = subscriptions_each_listener(txn, number, sweep_listener, &listeners);

	*consumed = listeners.consumed;
	return rc;
}

/* Is there something to remove? 1, 0 or a negative code. */
static int
sweep_is_due(const struct sweep *sweep, struct state_txn *txn, uint32_t number, int64_t now_ns)
{
	const struct log log = { txn, STATE_MESSAGES, number };
	const struct keys keys = { txn, KEYS_IN_STATE, number };
	const struct log_bound bound = channels_bound(&sweep->conf->channels[number]);
	struct channels_row row;
	uint64_t consumed;
	int64_t next_ns;
	int rc;

	if ((rc = channels_get(txn, number, &row)) != 0)
		return rc;
	if (row.is_durable)
		return 0;
	if (row.mark.first <= row.mark.head) {
		if ((rc = sweep_consumed(sweep->board, txn, number, &consumed)) != 0 ||
		    (rc = log_is_over(&log, &row.mark, &bound, consumed, now_ns)) != 0)
			return rc;
	}
	rc = keys_trim(&keys, now_ns, 0, &next_ns);
	return rc != 0 ? rc : next_ns <= now_ns;
}

/* Go on to the first channel from *NUMBER on that has something to remove. 1; 0 = none before END has; or
 * what is wrong with that channel. */
static int
sweep_find(const struct sweep *sweep, uint32_t *number, uint32_t end, int64_t now_ns)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(sweep->state, &txn)) != 0)
		return rc;
	while (*number < end && (rc = sweep_is_due(sweep, txn, *number, now_ns)) == 0)
		++*number;
	state_abort(txn);
	return rc;
}

static int
sweep_one(const struct sweep *sweep, uint32_t number, int64_t now_ns)
{
	const struct log_bound bound = channels_bound(&sweep->conf->channels[number]);
	struct state_txn *txn;
	struct keys keys = { .place = KEYS_IN_STATE, .channel = number };
	uint64_t consumed;
	int rc;

	if ((rc = state_begin_write(sweep->state, &txn)) != 0)
		return rc;
	keys.txn = txn;
	rc = sweep_consumed(sweep->board, txn, number, &consumed);
	if (rc == 0)
		rc = channels_trim(txn, number, &bound, consumed, now_ns, SWEEP_ROWS);
	if (rc >= 0)
		rc = keys_trim(&keys, now_ns, SWEEP_KEYS, NULL);
	if (rc >= 0)
		return state_commit(txn);
	state_abort(txn);
	return rc;
}

/* What is wrong with one channel must not keep the keeper from its other duties. */
static int
sweep_pass_over(const struct sweep *sweep, uint32_t number, int rc)
{
	static struct log_limit limit;
	unsigned held;

	if (rc != ERR_CORRUPT && rc != ERR_NOTFOUND && rc != ERR_FULL)
		return rc;
	if (log_limit_allows(&limit, 1, SWEEP_LOG_WINDOW_NS, &held))
		log_warnx("sweep channel=%s failed: %s; held=%u",
		    sweep->conf->channels[number].name, state_error_text(sweep->state), held);
	return 0;
}

/* From NUMBER up to END: how far it came. */
static int
sweep_range(const struct sweep *sweep, uint32_t *number, uint32_t end, int *left)
{
	int64_t now_ns = clock_realtime_ns();
	int rc = 0;

	while (rc == 0 && *number < end && *left > 0) {
		rc = sweep_find(sweep, number, end, now_ns);
		if (rc == 1) {
			--*left;
			rc = sweep_one(sweep, *number, now_ns);
		}
		if (rc != 0 && (rc = sweep_pass_over(sweep, *number, rc)) == 0)
			++*number;
	}
	return rc;
}

int
sweep_channels(struct sweep *sweep)
{
	uint32_t first = sweep->next, number = first;
	int rc, left = SWEEP_TRANSACTIONS;

	rc = sweep_range(sweep, &number, sweep->conf->n_channels, &left);
	if (rc == 0 && number == sweep->conf->n_channels) {
		number = 0;
		rc = sweep_range(sweep, &number, first, &left);
	}
	sweep->next = number < sweep->conf->n_channels ? number : 0;
	return rc;
}
