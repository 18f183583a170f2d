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

/* What one subscription gets in one turn, so that others get theirs, and what all of them do, so that the
 * client's frames get theirs, and nobody's snapshot keeps what publishers trim for long. */
#define DELIVER_ONE_BYTES	((size_t)1 << 20)
#define DELIVER_TURN_BYTES	((size_t)4 << 20)
/* What one call to the kernel takes, and how much of it from small frames. */
#define DELIVER_WRITE_BYTES	((size_t)256 << 10)
/* Frames up to this are copied: cheaper than the two parts of the vector that they would be. */
#define DELIVER_SMALL		2048
#define DELIVER_MESSAGES	2048

#define DELIVER_LOG_WINDOW_NS	(10 * CLOCK_SECOND)
#define DELIVER_UNREADABLE_TEXT \
	"what the channel has stored does not read back here; a later message may"
#define DELIVER_SHED_TEXT \
	"the subscription fell behind what the channel keeps (keep_messages, keep_bytes, keep_age)"

/* What is gathered for one call to the kernel. Nothing of it outlives a turn. */
struct deliver_batch {
	struct iovec iov[IOV_MAX];
	unsigned n_iov;
	size_t bytes;
	size_t lens[DELIVER_MESSAGES];		/* of the frames that were gathered */
	unsigned n_messages;
	uint8_t heads[IOV_MAX / 2][LOG_HEAD_SIZE];
	unsigned n_heads;
	size_t n_small;
	uint8_t small[DELIVER_WRITE_BYTES + DELIVER_SMALL];
};

struct deliverer {
	struct deliver_batch *batch;	/* NULL = idle: thousands may be, and it is large */
	int is_batch_used;		/* since deliver_tidy() */

	uint64_t looked;		/* number of the state's transaction that was delivered from */
	int64_t expires_ns;		/* monotonic: while the socket is full, when something is too old */
	int is_behind;			/* there may be more to deliver than was, whatever is new */
	int is_blocked;			/* the socket takes no more */
	uint64_t turn;			/* id of the subscription that comes first next */
	size_t left;			/* bytes of this turn */
	struct state_txn *txn, *store;	/* of this turn; NULL = not begun */
	struct channels_row row;	/* of the channel that was looked at last */
	uint32_t row_number;
	int has_row;
};

/* One subscription's run within a turn. */
struct delivery {
	struct connection *c;
	struct deliverer *d;
	struct deliver_batch *batch;
	struct subscription *s;
	struct log_reader reader;
	size_t left;			/* bytes of this turn, for this one */
	uint64_t written;		/* messages of the run */
};

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

static void
deliver_reset(struct deliver_batch *b)
{
	b->n_iov = b->n_messages = b->n_heads = 0;
	b->n_small = b->bytes = 0;
}

/* NULL: no memory. */
static struct deliver_batch *
deliver_batch(struct connection *c, struct deliverer *d)
{
	if (d->batch == NULL && (d->batch = malloc(sizeof *d->batch)) != NULL)
		deliver_reset(d->batch);
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
deliver_is_full(const struct deliver_batch *b)
{
	return b->bytes >= DELIVER_WRITE_BYTES || b->n_messages == DELIVER_MESSAGES ||
	    b->n_iov + 3 > IOV_MAX || b->n_heads == IOV_MAX / 2;
}

static void
deliver_add(struct deliver_batch *b, const void *bytes, size_t len)
{
	b->iov[b->n_iov].iov_base = (void *)(uintptr_t)bytes;
	b->iov[b->n_iov++].iov_len = len;
}

static void
deliver_gather_small(struct deliver_batch *b, const struct subscription *s,
    const struct log_entry *entry)
{
	uint8_t *at = b->small + b->n_small;
	struct iovec *last = b->n_iov > 0 ? &b->iov[b->n_iov - 1] : NULL;

	memcpy(at, entry->frame, entry->len);
	deliver_patch(s, at, entry->sequence);
	b->n_small += entry->len;
	if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at)
		last->iov_len += entry->len;
	else
		deliver_add(b, at, entry->len);
}

static void
deliver_gather_large(struct deliver_batch *b, const struct subscription *s,
    const struct log_entry *entry)
{
	uint8_t *head = b->heads[b->n_heads++];

	memcpy(head, entry->frame, LOG_HEAD_SIZE);
	deliver_patch(s, head, entry->sequence);
	deliver_add(b, head, LOG_HEAD_SIZE);
	deliver_add(b, entry->frame + LOG_HEAD_SIZE, entry->here - LOG_HEAD_SIZE);
}

/* Writing. */

/* To the output, which is empty or has the frame's beginning: REST bytes of what was gathered, from SKIP on. */
static int
deliver_keep_rest(struct connection *c, const struct deliver_batch *b, size_t skip, size_t rest)
{
	unsigned i;
	size_t part;

	for (i = 0; i < b->n_iov && rest > 0; i++) {
		if (skip >= b->iov[i].iov_len) {
			skip -= b->iov[i].iov_len;
			continue;
		}
		part = b->iov[i].iov_len - skip;
		if (part > rest)
			part = rest;
		if (buf_append(&c->out, (const uint8_t *)b->iov[i].iov_base + skip, part) != 0)
			return ERR_NOMEM;
		rest -= part;
		skip = 0;
	}
	c->rest = buf_len(&c->out);
	return 0;
}

/* N bytes of what was gathered went out: how many messages is that? One that was begun is finished
 * from the output buffer. */
static unsigned
deliver_count(struct connection *c, const struct deliver_batch *b, size_t n)
{
	size_t end = 0;
	unsigned i;

	for (i = 0; i < b->n_messages && end + b->lens[i] <= n; i++)
		end += b->lens[i];
	if (i == b->n_messages || end == n)
		return i;
	if (deliver_keep_rest(c, b, n, end + b->lens[i] - n) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
	return i + 1;
}

/* Send what was gathered; the run has got as far as the socket took it. */
static void
deliver_write(struct delivery *run)
{
	struct deliver_batch *b = run->batch;
	struct msghdr message = { .msg_iov = b->iov, .msg_iovlen = b->n_iov };
	unsigned done;
	ssize_t n;

	if (b->n_messages == 0)
		return;
	do
		n = sendmsg(run->c->peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			connection_end(run->c, ROLE_EXIT_OK, "the connection was lost: %s",
			    strerror(errno));
		run->d->is_blocked = 1;
	} else {
		run->d->is_blocked = (size_t)n < b->bytes;
		done = deliver_count(run->c, b, (size_t)n);
		run->written += done;
		run->c->frames_out += done;
	}
	deliver_reset(b);
}

/* A message in pieces: what is gathered goes first, then it is written piece by piece from the map. The
 * reader ends behind it. */
static int
deliver_pieces(struct delivery *run)
{
	struct deliver_batch *b = run->batch;
	struct connection *c = run->c;
	struct frame_view piece;
	int rc;

	deliver_write(run);
	if (run->d->is_blocked)
		return 0;
	b->lens[0] = run->reader.entry.len;
	b->n_messages = 1;
	b->bytes = run->reader.entry.len;
	deliver_gather_large(b, run->s, &run->reader.entry);
	while ((rc = log_next_piece(&run->reader, &piece)) == 0) {
		if (b->n_iov == IOV_MAX) {
			/* Longer than a vector: through the output buffer as a whole. */
			if (deliver_keep_rest(c, b, 0, SIZE_MAX) != 0)
				return ERR_NOMEM;
			b->n_iov = 0;
		}
		deliver_add(b, piece.data, piece.len);
	}
	if (rc != ERR_NOTFOUND) {
		deliver_reset(b);
		return rc;
	}
	if (buf_len(&c->out) > 0) {
		if (deliver_keep_rest(c, b, 0, SIZE_MAX) != 0)
			return ERR_NOMEM;
		run->written++;
		c->frames_out++;
		run->d->is_blocked = 1;	/* until that is out */
		deliver_reset(b);
	} else {
		deliver_write(run);
	}
	return 0;
}

static void
deliver_gather(struct delivery *run)
{
	const struct log_entry *entry = &run->reader.entry;
	struct deliver_batch *b = run->batch;

	b->lens[b->n_messages++] = entry->len;
	b->bytes += entry->len;
	if (entry->len <= DELIVER_SMALL)
		deliver_gather_small(b, run->s, entry);
	else
		deliver_gather_large(b, run->s, entry);
	if (deliver_is_full(b))
		deliver_write(run);
}

/* The run WHAT of messages, as far as the turn and the socket go. 0, or a code: ERR_NOTFOUND
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
		if (reader->missing == 0)
			deliver_gather(run);
		else if ((rc = deliver_pieces(run)) != 0)
			break;
	}
	/* What comes before a damaged row is good. */
	if (rc == 0 || rc == ERR_CORRUPT)
		deliver_write(run);
	deliver_reset(run->batch);
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
	const struct log_bound bound = channel_bound(s->channel);
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
		bound = channel_bound(s->channel);
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
