/*
 * One subscription's Deliver frames, from the log to the socket.
 *
 * Small frames are gathered in one place, large ones are written from the map where they lie; either way
 * only the head of a frame is this subscriber's. The socket is written without blocking, inside the read
 * transaction, because the map is only good as long as it lasts. What the socket does not take
 * stays in the log, and no copy of it is made but of the rest of one frame.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "role/deliver.h"

static void
deliver_reset(struct deliver_batch *b)
{
	b->n_iov = b->n_messages = b->n_heads = 0;
	b->n_small = b->bytes = 0;
}

struct deliver_batch *
deliver_batch_new(void)
{
	struct deliver_batch *b = malloc(sizeof *b);

	if (b != NULL)
		deliver_reset(b);
	return b;
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

int
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
