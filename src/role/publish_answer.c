/*
 * Answers to publishes: those of a turn, and those of the store, which come later.
 *
 * On one stream they come in the order of the publishes, because nothing else in them says which one
 * is meant: what could be answered at once waits behind what the store has yet to answer there. Other
 * streams do not wait for the disk. While more than PUBLISH_WAITING bytes wait, nothing is read from
 * the client.
 */
#include <stdlib.h>
#include <string.h>

#include "role/publish.h"
#include "state/inbox.h"

#define PUBLISH_WAITING		((size_t)1 << 20)
#define PUBLISH_ACK_SIZE	(FRAME_HEADER_SIZE + 8)

#define PUBLISH_KEYS_TEXT \
	"the channel remembers as many idempotency keys as its dedup_keys allows"

static int
publish_has_stream(const struct publish_batch *batch, uint32_t stream)
{
	uint32_t i;

	if (batch->may_have & publish_stream_bit(stream))
		for (i = 0; i < batch->n; i++)
			if (batch->streams[i] == stream)
				return 1;
	return 0;
}

/* Where the next answer on STREAM goes. */
static struct buf *
publish_out(struct connection *c, uint32_t stream)
{
	struct publisher *p = c->publisher;
	struct publish_batch *batch;

	if (p != NULL && !p->is_answering)
		TAILQ_FOREACH_REVERSE(batch, &p->waiting, publish_queue, link)
			if (publish_has_stream(batch, stream))
				return &batch->behind;
	return &c->out;
}

/* N bytes of an answer went to OUT. */
static void
publish_wrote(struct connection *c, const struct buf *out, size_t n)
{
	if (out != &c->out)
		c->publisher->behind_bytes += n;
}

void
publish_error(struct connection *c, uint32_t stream, uint16_t reason, const char *text, size_t len)
{
	struct buf *out = publish_out(c, stream);
	size_t before = buf_len(out);

	board_count(c->mine, BOARD_PUBLISH_ERRORS, 1);
	channel_error(c, out, FRAME_PUBLISH_ERROR, stream, reason, text, len);
	publish_wrote(c, out, buf_len(out) - before);
}

void
channel_publish_error(struct connection *c, uint32_t stream, const char *text)
{
	turn_apply(c);	/* answers keep the order of what they answer */
	publish_error(c, stream, FRAME_REASON_OTHER, text, strlen(text));
}

/* By hand: one for each message that is published. */
static void
publish_acknowledge(struct connection *c, uint32_t stream, uint64_t id, int is_delivered)
{
	struct buf *out = publish_out(c, stream);
	uint8_t *at = buf_reserve(out, PUBLISH_ACK_SIZE);
	const uint32_t len = __builtin_bswap32(8);

	if (at == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
		return;
	}
	stream = __builtin_bswap32(stream);
	at[0] = FRAME_PUBLISH_ACK;
	at[1] = is_delivered ? FRAME_FLAG_DELIVERED : 0;
	memcpy(at + 2, &stream, 4);
	memcpy(at + 6, &len, 4);
	state_key_put(at + FRAME_HEADER_SIZE, id);
	buf_commit(out, PUBLISH_ACK_SIZE);
	publish_wrote(c, out, PUBLISH_ACK_SIZE);
	c->frames_out++;
}

/* TEXT: for PUBLICATION_REFUSED. *ID moves with each that is acknowledged. */
static void
publish_answer(struct connection *c, uint32_t stream, unsigned outcome, uint64_t *id,
    const char *text, size_t len)
{
	switch (outcome) {
	case PUBLICATION_DUPLICATE:
		board_count(c->mine, BOARD_DUPLICATES, 1);
		/* FALLTHROUGH */
	case PUBLICATION_STORED:
	case PUBLICATION_DELIVERED:
		publish_acknowledge(c, stream, (*id)++, outcome == PUBLICATION_DELIVERED);
		break;
	case PUBLICATION_KEYS_FULL:
		publish_error(c, stream, FRAME_REASON_OTHER, PUBLISH_KEYS_TEXT,
		    sizeof PUBLISH_KEYS_TEXT - 1);
		break;
	default:
		publish_error(c, stream, FRAME_REASON_OTHER, text, len);
		break;
	}
}

void
publish_done(struct connection *c, struct intent *intent)
{
	struct publisher *p = c->publisher;
	uint64_t id = p->first_id;
	size_t i;

	for (i = 0; i < p->n; i++) {
		if (p->items[i].is_routed)
			continue;
		publish_answer(c, p->items[i].stream, intent->result != 0 ? PUBLICATION_REFUSED :
		    p->items[i].outcome, &id, intent->text, strlen(intent->text));
	}
	if (intent->result == 0) {
		board_count(c->mine, BOARD_PUBLISHED, id - p->first_id);
		publish_wake(c);
	}
	p->n = 0;
	p->state_streams = 0;
}

/* Through the store. */

int
publish_apply_append(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct publisher *p = c->publisher;
	const struct inbox_entry entry = {
		.kind = INBOX_APPEND, .len = (uint32_t)buf_len(&p->body),
		.request = p->n_batches + 1, .conn_id = c->peer->conn_id
	};

	(void)intent;
	if (state_is_crowded(txn))
		return ERR_FULL;
	return inbox_post(txn, INBOX_SERVICE(BOARD_STORE), BOARD_SERVICE_SLOT(BOARD_STORE), &entry,
	    buf_head(&p->body));
}

static void
publish_refuse_all(struct connection *c, const uint32_t *streams, size_t n, const char *text,
    size_t len)
{
	size_t i;

	for (i = 0; i < n; i++)
		publish_error(c, streams[i], FRAME_REASON_OTHER, text, len);
}

void
publish_done_append(struct connection *c, struct intent *intent)
{
	struct publisher *p = c->publisher;
	size_t i, n = buf_len(&p->streams) / sizeof(uint32_t);
	struct publish_batch *batch;

	if (intent->result != 0) {
		publish_refuse_all(c, (const uint32_t *)(void *)buf_head(&p->streams), n,
		    intent->text, strlen(intent->text));
	} else if ((batch = calloc(1, sizeof *batch + n * sizeof *batch->streams)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
	} else {
		batch->number = ++p->n_batches;
		batch->bytes = buf_len(&p->body);
		batch->n = (uint32_t)n;
		memcpy(batch->streams, buf_head(&p->streams), n * sizeof *batch->streams);
		for (i = 0; i < n; i++)
			batch->may_have |= publish_stream_bit(batch->streams[i]);
		TAILQ_INSERT_TAIL(&p->waiting, batch, link);
		p->waiting_bytes += batch->bytes;
	}
	buf_consume(&p->body, buf_len(&p->body));
	buf_consume(&p->streams, buf_len(&p->streams));
	p->store_streams = 0;
}

static void
publish_appended_each(struct connection *c, const struct publish_batch *batch, const uint8_t *body,
    size_t len)
{
	struct publication_answer answer;
	const uint8_t *outcomes = body + sizeof answer;
	uint64_t id;
	uint32_t i;

	if (len >= sizeof answer)
		memcpy(&answer, body, sizeof answer);
	if (len < sizeof answer || answer.n != batch->n || len - sizeof answer != answer.n) {
		connection_end(c, ROLE_EXIT_STATE, "an answer of the store cannot be read");
		return;
	}
	id = answer.first_id;
	for (i = 0; i < batch->n; i++)
		publish_answer(c, batch->streams[i], outcomes[i], &id, "", 0);
	board_count(c->mine, BOARD_PUBLISHED, id - answer.first_id);
}

void
publish_appended(struct connection *c, const struct inbox_entry *entry, const void *body)
{
	struct publish_batch *first = NULL;
	struct publisher *p = c->publisher;

	if (p != NULL)
		first = TAILQ_FIRST(&p->waiting);
	/* The store answers in the order of its inbox. */
	if (first == NULL || first->number != entry->request) {
		connection_end(c, ROLE_EXIT_STATE, "an answer of the store that nobody waits for");
		return;
	}
	TAILQ_REMOVE(&p->waiting, first, link);
	p->is_answering = 1;
	if (entry->code != 0)
		publish_refuse_all(c, first->streams, first->n, body, entry->len);
	else
		publish_appended_each(c, first, body, entry->len);
	p->is_answering = 0;
	if (buf_append(&c->out, buf_head(&first->behind), buf_len(&first->behind)) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
	p->waiting_bytes -= first->bytes;
	p->behind_bytes -= buf_len(&first->behind);
	buf_free(&first->behind);
	free(first);
}

int
publish_is_full(const struct connection *c)
{
	return c->publisher != NULL &&
	    c->publisher->waiting_bytes + c->publisher->behind_bytes >= PUBLISH_WAITING;
}
