/*
 * Deliver frames, from the logs to the socket.
 *
 * In one read transaction, without the write lock: each subscription goes on from its own position, up
 * to what one turn writes. Small frames are gathered in one place, large ones are written from the
 * map where they lie; either way only the head of a frame is this subscriber's. The socket is
 * written without blocking, inside the transaction, because the map is only good as long as it lasts.
 *
 * What the socket does not take stays in the log, and no copy of it is made but of the rest of one
 * frame. So the channel's bound is the bound of what a slow subscriber costs: beyond it, a plain
 * subscription is shed, also while its client reads nothing at all, and a durable one goes on with
 * what is still kept.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/channel.h"

/* What one subscription gets in one turn, so that others, and the client's frames, get theirs. */
#define DELIVER_TURN_BYTES	((size_t)1 << 20)
/* What one call to the kernel takes, and how much of it from small frames. */
#define DELIVER_WRITE_BYTES	((size_t)256 << 10)
/* Frames up to this are copied: cheaper than the two parts of the vector that they would be. */
#define DELIVER_SMALL		2048
#define DELIVER_MESSAGES	2048

#define DELIVER_LOG_WINDOW_NS	(10 * CLOCK_SECOND)
#define DELIVER_SHED_TEXT \
	"the subscription fell behind what the channel keeps (keep_messages, keep_bytes, keep_age)"

struct deliverer {
	struct iovec iov[IOV_MAX];
	unsigned n_iov;
	size_t bytes;
	size_t lens[DELIVER_MESSAGES];		/* of the frames that were gathered */
	unsigned n_messages;
	uint8_t heads[IOV_MAX / 2][LOG_HEAD_SIZE];
	unsigned n_heads;
	size_t n_small;
	uint8_t small[DELIVER_WRITE_BYTES + DELIVER_SMALL];

	uint64_t looked;		/* number of the state's transaction that was delivered from */
	int is_behind;			/* there may be more to deliver than was, whatever is new */
	int is_blocked;			/* the socket takes no more */
	uint64_t turn;			/* id of the subscription that comes first next */
	struct state_txn *txn, *store;	/* of this turn; NULL = not begun */
	struct channels_row row;	/* of the channel that was looked at last */
	uint32_t row_number;
	int has_row;
};

/* One subscription's run within a turn. */
struct delivery {
	struct connection *c;
	struct deliverer *d;
	struct subscription *s;
	struct log_reader reader;
	size_t left;			/* bytes of this turn */
	uint64_t written;		/* messages of the run */
};

static struct deliverer *
deliver_deliverer(struct connection *c)
{
	if (c->deliverer == NULL &&
	    (c->deliverer = calloc(1, sizeof *c->deliverer)) == NULL)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for deliveries");
	return c->deliverer;
}

void
deliver_again(struct connection *c)
{
	struct deliverer *d = deliver_deliverer(c);

	if (d != NULL)
		d->looked = 0;
}

/* Gathering. */

static void
deliver_patch(const struct subscription *s, uint8_t *head, uint64_t sequence)
{
	uint32_t stream = __builtin_bswap32(s->stream);

	head[LOG_HEAD_FLAGS] = s->consumer != NULL ? FRAME_FLAG_DURABLE : 0;
	memcpy(head + LOG_HEAD_STREAM, &stream, sizeof stream);
	state_key_put(head + LOG_HEAD_SEQUENCE, s->consumer != NULL ? sequence :
	    sequence - s->base);
}

static int
deliver_is_full(const struct deliverer *d)
{
	return d->bytes >= DELIVER_WRITE_BYTES || d->n_messages == DELIVER_MESSAGES ||
	    d->n_iov + 3 > IOV_MAX || d->n_heads == IOV_MAX / 2;
}

static void
deliver_add(struct deliverer *d, const void *bytes, size_t len)
{
	d->iov[d->n_iov].iov_base = (void *)(uintptr_t)bytes;
	d->iov[d->n_iov++].iov_len = len;
}

static void
deliver_gather_small(struct deliverer *d, const struct subscription *s,
    const struct log_entry *entry)
{
	uint8_t *at = d->small + d->n_small;
	struct iovec *last = d->n_iov > 0 ? &d->iov[d->n_iov - 1] : NULL;

	memcpy(at, entry->frame, entry->len);
	deliver_patch(s, at, entry->sequence);
	d->n_small += entry->len;
	if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at)
		last->iov_len += entry->len;
	else
		deliver_add(d, at, entry->len);
}

static void
deliver_gather_large(struct deliverer *d, const struct subscription *s,
    const struct log_entry *entry)
{
	uint8_t *head = d->heads[d->n_heads++];

	memcpy(head, entry->frame, LOG_HEAD_SIZE);
	deliver_patch(s, head, entry->sequence);
	deliver_add(d, head, LOG_HEAD_SIZE);
	deliver_add(d, entry->frame + LOG_HEAD_SIZE, entry->here - LOG_HEAD_SIZE);
}

/* Writing. */

/* The rest of the frame number FROM of those that were gathered, SKIP bytes of all were written. */
static int
deliver_keep_rest(struct connection *c, const struct deliverer *d, size_t skip, size_t rest)
{
	unsigned i;
	size_t part;

	for (i = 0; i < d->n_iov && rest > 0; i++) {
		if (skip >= d->iov[i].iov_len) {
			skip -= d->iov[i].iov_len;
			continue;
		}
		part = d->iov[i].iov_len - skip;
		if (part > rest)
			part = rest;
		if (buf_append(&c->out, (const uint8_t *)d->iov[i].iov_base + skip, part) != 0)
			return ERR_NOMEM;
		rest -= part;
		skip = 0;
	}
	return 0;
}

static void
deliver_reset(struct deliverer *d)
{
	d->n_iov = d->n_messages = d->n_heads = 0;
	d->n_small = d->bytes = 0;
}

/* N bytes of what was gathered went out: how many messages is that? One that was begun is finished
 * from the output buffer. */
static unsigned
deliver_count(struct connection *c, struct deliverer *d, size_t n)
{
	size_t end = 0;
	unsigned i;

	for (i = 0; i < d->n_messages && end + d->lens[i] <= n; i++)
		end += d->lens[i];
	if (i == d->n_messages || end == n)
		return i;
	if (deliver_keep_rest(c, d, n, end + d->lens[i] - n) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
	return i + 1;
}

/* Send what was gathered; the run has got as far as the socket took it. */
static void
deliver_write(struct delivery *run)
{
	struct deliverer *d = run->d;
	struct msghdr message = { .msg_iov = d->iov, .msg_iovlen = d->n_iov };
	unsigned done;
	ssize_t n;

	if (d->n_messages == 0)
		return;
	do
		n = sendmsg(run->c->peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			connection_end(run->c, ROLE_EXIT_OK, "the connection was lost: %s",
			    strerror(errno));
		d->is_blocked = 1;
	} else {
		d->is_blocked = (size_t)n < d->bytes;
		done = deliver_count(run->c, d, (size_t)n);
		run->written += done;
		run->c->frames_out += done;
	}
	deliver_reset(d);
}

/* A message in pieces: what is gathered goes first, then it is written piece by piece from the map. The
 * reader ends behind it. */
static int
deliver_pieces(struct delivery *run)
{
	struct deliverer *d = run->d;
	struct connection *c = run->c;
	struct frame_view piece;
	int rc;

	deliver_write(run);
	if (d->is_blocked)
		return 0;
	d->lens[0] = run->reader.entry.len;
	d->n_messages = 1;
	d->bytes = run->reader.entry.len;
	deliver_gather_large(d, run->s, &run->reader.entry);
	while ((rc = log_next_piece(&run->reader, &piece)) == 0) {
		if (d->n_iov == IOV_MAX) {
			/* Longer than a vector: through the output buffer as a whole. */
			if (deliver_keep_rest(c, d, 0, SIZE_MAX) != 0)
				return ERR_NOMEM;
			d->n_iov = 0;
		}
		deliver_add(d, piece.data, piece.len);
	}
	if (rc != ERR_NOTFOUND)
		return rc;
	if (buf_len(&c->out) > 0) {
		if (deliver_keep_rest(c, d, 0, SIZE_MAX) != 0)
			return ERR_NOMEM;
		run->written++;
		c->frames_out++;
		d->is_blocked = 1;	/* until that is out */
		deliver_reset(d);
	} else {
		deliver_write(run);
	}
	return 0;
}

/* One run of messages from COUNT on, as far as the turn and the socket go. 0, or a code: ERR_NOTFOUND
 * when the next one is not kept any more. */
static int
deliver_run(struct delivery *run, const struct log *log, const struct channel_run *what,
    const struct log_bound *bound, int64_t now)
{
	const struct log_mark *mark = &run->d->row.mark;
	struct log_reader *reader = &run->reader;
	uint64_t last = what->first + what->count - 1;
	int rc;

	if ((rc = log_open(reader, log, what->first)) != 0)
		return rc;
	while (!run->d->is_blocked && run->left > 0 && reader->next <= last) {
		if ((rc = log_next(reader)) != 0)
			break;
		/* What comes behind a message that is kept is newer, so only the first may not be. */
		if (reader->entry.sequence == what->first &&
		    !log_is_kept(&reader->entry, mark, bound, now)) {
			rc = ERR_NOTFOUND;
			break;
		}
		run->left -= reader->entry.len < run->left ? reader->entry.len : run->left;
		if (reader->missing > 0) {
			if ((rc = deliver_pieces(run)) != 0)
				break;
			continue;
		}
		run->d->lens[run->d->n_messages++] = reader->entry.len;
		run->d->bytes += reader->entry.len;
		if (reader->entry.len <= DELIVER_SMALL)
			deliver_gather_small(run->d, run->s, &reader->entry);
		else
			deliver_gather_large(run->d, run->s, &reader->entry);
		if (deliver_is_full(run->d))
			deliver_write(run);
	}
	if (rc == 0)
		deliver_write(run);
	deliver_reset(run->d);
	log_close(reader);
	return rc;
}

/* Subscriptions. */

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
	const struct log_bound bound = channel_bound(s->channel);
	struct delivery run = { .c = c, .d = d, .s = s, .left = DELIVER_TURN_BYTES };
	int64_t now = clock_realtime_ns();
	struct channel_run what;
	int rc = 0;

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
	if (!d->is_blocked && run.left == 0)
		d->is_behind = 1;
	return rc;
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
	first = subscription_from(c, d->turn);
	s = first;
	while (rc == 0 && s != NULL && !c->is_ending) {
		if (s->is_live)
			rc = deliver_look(d, s);
		if (rc == 0 && s->is_live && deliver_next(s, clock_now_ns(), &what)) {
			if (d->is_blocked) {
				d->turn = s->id;
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
	int64_t now = clock_realtime_ns();
	struct log_bound bound;
	struct subscription *s;
	struct log log;
	int rc;

	RB_FOREACH(s, subscription_tree, &c->subscriptions) {
		if (!s->is_live || s->consumer != NULL)
			continue;
		if ((rc = deliver_look(d, s)) != 0)
			return rc;
		if (s->next > s->head)
			continue;
		bound = channel_bound(s->channel);
		if ((rc = deliver_log(c, d, s, &log)) == 0)
			rc = log_keeps(&log, s->next, &d->row.mark, &bound, now);
		if (rc < 0)
			return rc;
		if (rc == 0)
			deliver_shed(c, s);
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

	RB_FOREACH_SAFE(s, subscription_tree, &c->subscriptions, next)
		if (s->is_shed && !s->is_over)
			subscription_end(c, s, FRAME_REASON_SHED, DELIVER_SHED_TEXT);
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

/* One look at the state, and as much as goes out. 0, ERR_BUSY, or a code that ends the connection. */
static int
deliver_turn(struct connection *c, struct deliverer *d)
{
	int rc = state_begin_read(c->state, &d->txn);

	if (rc != 0)
		return rc;
	d->looked = state_txn_number(d->txn);
	d->has_row = 0;
	rc = deliver_can_write(c) ? deliver_all(c, d) : deliver_find_overtaken(c, d);
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
	if (rc != 0) {
		connection_end(c, ROLE_EXIT_STATE, "a channel's log cannot be read: state \"%s\"%s%s",
		    state_error_text(c->state), c->store != NULL ? ", store " : "",
		    c->store != NULL ? state_error_text(c->store) : "");
		return;
	}
	RB_FOREACH(s, subscription_tree, &c->subscriptions)
		is_any_shed |= s->is_shed;
	if (is_any_shed)
		deliver_end_shed(c);
	if (!d->is_behind)
		deliver_tell(c, d->looked);
}
