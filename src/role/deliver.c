/*
 * Delivering: in one read transaction, without the write lock, each subscription goes on from its own
 * position, up to what one turn writes.
 *
 * The channel's bound is the bound of what a slow subscriber costs: beyond it, a plain
 * subscription is shed, also while its client reads nothing at all, and a durable one goes on with
 * what is still kept.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/deliver.h"

/* What one subscription gets in one turn, so that others get theirs, and what all of them do, so that the
 * client's frames get theirs, and nobody's snapshot keeps what publishers trim for long. */
#define DELIVER_ONE_BYTES	((size_t)1 << 20)
#define DELIVER_TURN_BYTES	((size_t)4 << 20)
#define DELIVER_LOG_WINDOW_NS	(10 * CLOCK_SECOND)
#define DELIVER_UNREADABLE_TEXT \
	"what the channel has stored does not read back here; a later message may"
#define DELIVER_SHED_TEXT \
	"the subscription fell behind what the channel keeps (keep_messages, keep_bytes, keep_age)"

static struct deliverer *
deliver_deliverer(struct connection *c)
{
	if (c->deliverer != NULL)
		return c->deliverer;
	if ((c->deliverer = calloc(1, sizeof *c->deliverer)) == NULL)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for deliveries");
	else
		c->deliverer->expires_ns = INT64_MAX;
	return c->deliverer;
}

/* NULL: no memory. */
static struct deliver_batch *
deliver_batch(struct connection *c, struct deliverer *d)
{
	if (d->batch == NULL)
		d->batch = deliver_batch_new();
	d->is_batch_used = 1;
	c->has_grown = 1;
	return d->batch;
}

int
deliver_tidy(struct connection *c)
{
	struct deliverer *d = c->deliverer;

	if (d == NULL || d->batch == NULL)
		return 0;
	if (!d->is_batch_used) {
		free(d->batch);
		d->batch = NULL;
	}
	d->is_batch_used = 0;
	return d->batch != NULL;
}

void
deliver_again(struct connection *c)
{
	struct deliverer *d = deliver_deliverer(c);

	if (d != NULL)
		d->looked = 0;
}

static void
deliver_shed(struct connection *c, struct subscription *s)
{
	static struct log_limit limit;
	unsigned held;

	board_count(c->mine, BOARD_SHED, 1);
	if (log_limit_allows(&limit, 1, DELIVER_LOG_WINDOW_NS, &held))
		log_warnx("shed conn=%llu subscription=%llu channel=\"%s\" suppressed=%u",
		    (unsigned long long)c->peer->conn_id, (unsigned long long)s->id,
		    s->channel->name, held);
	s->is_shed = 1;		/* its end is written when the transaction is over */
}

/* The channel's log is damaged where S goes on; the connection's other subscriptions are not. 0; or
 * ERR_CORRUPT when a part of the frame is in the output already. */
static int
deliver_give_up(struct connection *c, struct subscription *s)
{
	static struct log_limit limit;
	unsigned held;

	if (c->deliverer->is_blocked)
		return 0;	/* what comes before it goes first */
	if (log_limit_allows(&limit, 1, DELIVER_LOG_WINDOW_NS, &held))
		log_errorx("channel \"%s\": what is stored does not read back conn=%llu "
		    "subscription=%llu suppressed=%u", s->channel->name,
		    (unsigned long long)c->peer->conn_id, (unsigned long long)s->id, held);
	s->is_unreadable = 1;
	return buf_len(&c->out) > 0 ? ERR_CORRUPT : 0;
}

/* What a durable subscription waits for is not kept any more: it goes on with what is. */
static int
deliver_skip(struct connection *c, struct deliverer *d, struct subscription *s,
    const struct log *log, const struct log_bound *bound, int64_t now)
{
	static struct log_limit limit;
	uint64_t oldest, lost;
	unsigned held;
	int rc;

	if ((rc = log_oldest(log, &d->row.mark, bound, now, &oldest)) != 0)
		return rc;
	lost = consumer_lost(s, oldest);
	if (lost > 0 && log_limit_allows(&limit, 1, DELIVER_LOG_WINDOW_NS, &held))
		log_warnx("consumer missed messages conn=%llu subscription=%llu channel=\"%s\" "
		    "lost=%llu oldest=%llu suppressed=%u", (unsigned long long)c->peer->conn_id,
		    (unsigned long long)s->id, s->channel->name, (unsigned long long)lost,
		    (unsigned long long)oldest, held);
	return lost > 0 ? 0 : ERR_CORRUPT;
}

/* The next run of S. 1, or 0: nothing now. */
static int
deliver_next(struct subscription *s, int64_t now, struct channel_run *what)
{
	if (s->consumer != NULL)
		return consumer_next(s, now, what);
	what->first = s->next;
	what->count = s->head + 1 - s->next;
	return s->next <= s->head;
}

/* One subscription's turn. 0 or a code that ends the connection. */
static int
deliver_one(struct connection *c, struct deliverer *d, struct subscription *s, struct log *log)
{
	const struct log_bound bound = channels_bound(s->channel);
	struct delivery run = {
		.c = c, .d = d, .batch = deliver_batch(c, d), .s = s, .left = DELIVER_ONE_BYTES
	};
	int64_t now = clock_realtime_ns();
	struct channel_run what;
	int rc = 0;

	if (run.batch == NULL)
		return ERR_NOMEM;
	while (rc == 0 && !d->is_blocked && run.left > 0 &&
	    deliver_next(s, clock_now_ns(), &what)) {
		run.written = 0;
		rc = deliver_run(&run, log, &what, &bound, now);
		board_count(c->mine, BOARD_DELIVERED, run.written);
		if (s->consumer != NULL)
			consumer_sent(s, what.first, run.written);
		else
			s->next += run.written;
		if (rc != ERR_NOTFOUND)
			continue;
		if (s->consumer == NULL) {
			deliver_shed(c, s);
			return 0;
		}
		rc = deliver_skip(c, d, s, log, &bound, now);
	}
	d->is_behind |= run.left == 0;
	run.left = DELIVER_ONE_BYTES - run.left;
	d->left -= run.left < d->left ? run.left : d->left;
	return rc == ERR_CORRUPT ? deliver_give_up(c, s) : rc;
}

static int
deliver_look(struct deliverer *d, struct subscription *s)
{
	int rc = 0;

	if (!d->has_row || d->row_number != s->number)
		rc = channels_get(d->txn, s->number, &d->row);
	d->has_row = rc == 0;
	d->row_number = s->number;
	s->head = d->row.mark.head;
	return rc;
}

/* Where the messages of S lie, in the snapshots of this turn. */
static int
deliver_log(struct connection *c, struct deliverer *d, const struct subscription *s,
    struct log *log)
{
	int rc;

	if (!s->channel->durable) {
		*log = (struct log){ d->txn, STATE_MESSAGES, s->number };
		return 0;
	}
	if (d->store == NULL && (rc = state_begin_read(c->store, &d->store)) != 0)
		return rc;
	*log = (struct log){ d->store, STORE_MESSAGES, d->row.store_number };
	return 0;
}

/* Every subscription that has something to get, beginning with the one whose turn it is. */
static int
deliver_all(struct connection *c, struct deliverer *d)
{
	struct subscription *s, *first;
	struct channel_run what;
	struct log log;
	int rc = 0;

	d->is_behind = 0;
	d->left = DELIVER_TURN_BYTES;
	first = subscription_from(c, d->turn);
	s = first;
	while (rc == 0 && s != NULL && !c->is_ending) {
		if (s->is_live)
			rc = deliver_look(d, s);
		if (rc == 0 && s->is_live && deliver_next(s, clock_now_ns(), &what)) {
			if (d->is_blocked || d->left == 0) {
				d->turn = s->id;
				d->is_behind = 1;
				break;
			}
			if ((rc = deliver_log(c, d, s, &log)) == 0)
				rc = deliver_one(c, d, s, &log);
		}
		s = subscription_after(c, s);
		if (s == first)
			break;
	}
	/* What is left has to be seen again when the socket takes it, though nothing is new then. */
	d->is_behind |= d->is_blocked;
	return rc;
}

/* The socket takes nothing. Which plain subscriptions has their channel overtaken meanwhile? They are
 * not waited for, though the client may never read on. */
static int
deliver_find_overtaken(struct connection *c, struct deliverer *d)
{
	int64_t now = clock_realtime_ns(), time, expires;
	struct log_bound bound;
	struct subscription *s;
	struct log log;
	int rc;

	d->expires_ns = INT64_MAX;
	RB_FOREACH(s, subscription_tree, &c->subscriptions) {
		if (!s->is_live || s->consumer != NULL)
			continue;
		if ((rc = deliver_look(d, s)) != 0)
			return rc;
		if (s->next > s->head)
			continue;
		bound = channels_bound(s->channel);
		if ((rc = deliver_log(c, d, s, &log)) == 0)
			rc = log_keeps(&log, s->next, &d->row.mark, &bound, now, &time);
		if (rc == ERR_CORRUPT)
			continue;	/* said when it is its turn */
		if (rc < 0)
			return rc;
		if (rc == 0) {
			deliver_shed(c, s);
		} else if (bound.age_ns != 0) {
			/* Nobody need publish for it to become too old. */
			expires = clock_now_ns() + time + bound.age_ns - now + CLOCK_MS;
			if (expires < d->expires_ns)
				d->expires_ns = expires;
		}
	}
	d->is_behind = 1;
	return 0;
}

/* What this connection has read of the ephemeral channels' transactions. */
static void
deliver_tell(struct connection *c, uint64_t number)
{
	struct subscription *s;
	uint64_t consumed = number;

	RB_FOREACH(s, subscription_tree, &c->subscriptions)
		if (!s->is_over && !s->channel->durable && s->is_live && s->next <= s->head) {
			consumed = 0;
			break;
		}
	if (consumed != 0)
		atomic_store_explicit(&c->mine->consumed, consumed, memory_order_release);
}

static void
deliver_end_shed(struct connection *c)
{
	struct subscription *s, *next;

	RB_FOREACH_SAFE(s, subscription_tree, &c->subscriptions, next) {
		if (s->is_over)
			continue;
		if (s->is_unreadable)
			subscription_end(c, s, FRAME_REASON_OTHER, DELIVER_UNREADABLE_TEXT);
		else if (s->is_shed)
			subscription_end(c, s, FRAME_REASON_SHED, DELIVER_SHED_TEXT);
	}
	turn_apply(c);
}

static int
deliver_can_write(const struct connection *c)
{
	return !c->deliverer->is_blocked && buf_len(&c->out) == 0;
}

int
deliver_has_news(struct connection *c)
{
	const struct deliverer *d = c->deliverer;

	return c->n_subscriptions > 0 && d != NULL && ((d->is_behind && deliver_can_write(c)) ||
	    d->looked != state_last_number(c->state));
}

int
deliver_is_blocked(const struct connection *c)
{
	return c->deliverer != NULL && c->deliverer->is_blocked;
}

void
deliver_unblock(struct connection *c)
{
	if (c->deliverer != NULL)
		c->deliverer->is_blocked = 0;
}

int64_t
deliver_next_deadline(const struct connection *c)
{
	return c->deliverer != NULL ? c->deliverer->expires_ns : INT64_MAX;
}

void
deliver_tick(struct connection *c, int64_t now_ns)
{
	if (now_ns < deliver_next_deadline(c))
		return;
	c->deliverer->expires_ns = INT64_MAX;
	c->deliverer->looked = 0;
}

/* One look at the state, and as much as goes out. 0, ERR_BUSY, or a code that ends the connection. */
static int
deliver_turn(struct connection *c, struct deliverer *d)
{
	int rc = state_begin_read(c->state, &d->txn);

	if (rc != 0)
		return rc;
	d->looked = state_txn_number(d->txn);
	d->has_row = 0;
	if (deliver_can_write(c))
		rc = deliver_all(c, d);
	if (rc == 0 && !deliver_can_write(c))
		rc = deliver_find_overtaken(c, d);
	state_abort(d->txn);
	if (d->store != NULL)
		state_abort(d->store);
	d->txn = d->store = NULL;
	return rc;
}

void
deliver(struct connection *c)
{
	struct deliverer *d = c->deliverer;
	struct subscription *s;
	int rc, is_any_shed = 0;

	if (!deliver_has_news(c))
		return;
	if ((rc = deliver_turn(c, d)) == ERR_BUSY) {
		d->looked = 0;	/* readers come and go */
		return;
	}
	if (rc == ERR_NOMEM) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for deliveries");
		return;
	}
	if (rc != 0) {
		connection_end(c, ROLE_EXIT_STATE, "a channel's log cannot be read: state \"%s\"%s%s",
		    state_error_text(c->state), c->store != NULL ? ", store " : "",
		    c->store != NULL ? state_error_text(c->store) : "");
		return;
	}
	RB_FOREACH(s, subscription_tree, &c->subscriptions)
		is_any_shed |= s->is_shed | s->is_unreadable;
	if (is_any_shed)
		deliver_end_shed(c);
	if (!d->is_behind)
		deliver_tell(c, d->looked);
}
