/*
 * Publish: what has arrived in one turn becomes one append per channel, in the turn's transaction; the
 * acknowledgements follow its commit.
 *
 * Channels that are durable, or whose rules lead to durable ones, go through the store process:
 * the turn's messages for them are one entry in its inbox, and its answer acknowledges them.
 * Until then no more than PUBLISH_WAITING bytes of them are read from the client.
 *
 * On one stream, answers come in the order of the publishes, because nothing else in them says which one
 * is meant: what could be answered at once waits behind what the store has yet to answer there. Other
 * streams do not wait for the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/channel.h"
#include "role/route.h"
#include "state/inbox.h"
#include "state/keys.h"
#include "state/publication.h"

/* Rows that one turn trims of a channel at most; more than it appends. */
#define PUBLISH_TRIM		128
/* Of messages that wait for the store: then the client's socket is left alone. */
#define PUBLISH_WAITING		((size_t)1 << 20)
/* What one entry for the store holds at most, unless one message is larger. */
#define PUBLISH_ENTRY		((size_t)256 << 10)
/* Keys that one publish removes when their time has passed. */
#define PUBLISH_KEYS_TRIM	8
#define PUBLISH_ACK_SIZE	(FRAME_HEADER_SIZE + 8)

#define PUBLISH_KEYS_TEXT \
	"the channel remembers as many idempotency keys as its dedup_keys allows"

/* A message of this turn, or a copy of the one before it that a rule made. */
struct published {
	uint32_t channel;		/* number */
	uint32_t stream;
	uint8_t is_routed, has_key;
	uint8_t outcome;		/* enum publication_outcome */
	uint8_t is_done;		/* its channel's turn has come */
	struct frame_view key;
};

/* What is known of a channel between turns. */
struct publisher_channel {
	uint64_t consumed;		/* everybody has what was appended up to this transaction */
	int has_moved;			/* somebody is to be woken */
};

/* Handed over to the store. */
struct publish_batch {
	TAILQ_ENTRY(publish_batch) link;
	uint64_t number;
	size_t bytes;
	struct buf behind;			/* answers to what came behind it on its streams */
	uint64_t may_have;			/* a bit for each of its streams; several share one */
	uint32_t n;
	uint32_t streams[];
};

TAILQ_HEAD(publish_queue, publish_batch);

struct publisher {
	/* The turn's, for the state. Views into the input. */
	struct published *items;
	struct log_message *messages, *gathered;
	size_t n, size;
	uint64_t first_id;
	struct publisher_channel *channels;	/* by number */
	const struct conf_channel *last;	/* that was published to */

	/* The turn's, for the store. */
	struct buf body;
	struct buf streams;			/* uint32_t each */
	int is_used;				/* since publish_tidy() */

	struct publish_queue waiting;		/* oldest first */
	uint64_t n_batches;
	size_t waiting_bytes, behind_bytes;
	int is_answering;			/* what the store has answered: it waits for nothing */
};

static struct publisher *
publish_publisher(struct connection *c)
{
	struct publisher *p = c->publisher;

	if (p != NULL)
		return p;
	if ((p = calloc(1, sizeof *p)) == NULL ||
	    (p->channels = calloc(c->conf->n_channels, sizeof *p->channels)) == NULL) {
		free(p);
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
		return NULL;
	}
	TAILQ_INIT(&p->waiting);
	return c->publisher = p;
}

static uint64_t
publish_stream_bit(uint32_t stream)
{
	return UINT64_C(1) << stream % 64;
}

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

static void
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

/* Noting. */

static int
publish_grow(struct publisher *p)
{
	size_t size = p->size ? p->size * 2 : 64;
	struct log_message *messages, *gathered;
	struct published *items;

	/* Each is taken over as it comes, so that a failure in between leaves them whole. */
	if ((items = realloc(p->items, size * sizeof *items)) == NULL)
		return ERR_NOMEM;
	p->items = items;
	if ((messages = realloc(p->messages, size * sizeof *messages)) == NULL)
		return ERR_NOMEM;
	p->messages = messages;
	if ((gathered = realloc(p->gathered, size * sizeof *gathered)) == NULL)
		return ERR_NOMEM;
	p->gathered = gathered;
	p->size = size;
	return 0;
}

static int
publish_note(struct connection *c, const struct conf_channel *channel, const struct frame *frame,
    int is_routed)
{
	struct publisher *p = c->publisher;
	struct published *item;

	if (!is_routed && buf_len(&p->streams) > 0)
		turn_apply(c);		/* what the store gets comes before it */
	if (p->n == p->size && publish_grow(p) != 0)
		return ERR_NOMEM;
	if (p->n == 0 && turn_add(c, INTENT_PUBLISH) == NULL)
		return ERR_NOMEM;
	p->messages[p->n].causal = frame->u.publish.envelope.causal;
	p->messages[p->n].payload = frame->u.publish.envelope.payload;
	item = &p->items[p->n++];
	item->channel = channel_number(c, channel);
	item->stream = frame->stream;
	item->is_routed = (uint8_t)is_routed;
	item->has_key = (uint8_t)frame->u.publish.key.present;
	item->key = frame->u.publish.key.view;
	return 0;
}

static int
publish_note_for_store(struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, int is_routed)
{
	struct publication_item item = {
		.channel = channel_number(c, channel),
		.flags = (is_routed ? PUBLICATION_ROUTED : 0) |
		    (frame->u.publish.key.present ? PUBLICATION_KEYED : 0),
		.key = frame->u.publish.key.view,
		.causal = frame->u.publish.envelope.causal,
		.payload = frame->u.publish.envelope.payload,
	};
	struct publisher *p = c->publisher;

	if (!is_routed && (p->n > 0 || buf_len(&p->body) >= PUBLISH_ENTRY))
		turn_apply(c);
	if (buf_len(&p->streams) == 0 && turn_add(c, INTENT_APPEND) == NULL)
		return ERR_NOMEM;
	if (!is_routed && buf_append(&p->streams, &frame->stream, sizeof frame->stream) != 0)
		return ERR_NOMEM;
	return publication_add(&p->body, &item);
}

struct publish_copying {
	struct connection *c;
	const struct frame *frame;
	int (*note)(struct connection *c, const struct conf_channel *channel,
	    const struct frame *frame, int is_routed);
};

static int
publish_copy(void *arg, const struct conf_channel *target)
{
	struct publish_copying *copying = arg;

	return copying->note(copying->c, target, copying->frame, 1);
}

static int
publish_note_all(struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, json_t *json, size_t bytes)
{
	struct publish_copying copying = {
		.c = c, .frame = frame,
		.note = channel->is_by_store ? publish_note_for_store : publish_note
	};
	int rc = copying.note(c, channel, frame, 0);

	return rc != 0 ? rc :
	    route_message(c, channel, json, bytes, publish_copy, &copying);
}

/* The size that it counts; 0 with the reason when it is too large. */
static size_t
publish_size(const struct connection *c, const struct conf_channel *channel,
    const struct frame *frame, struct err *err)
{
	const struct log_message message = {
		frame->u.publish.envelope.causal, frame->u.publish.envelope.payload
	};
	size_t bytes = log_message_bytes(&message);

	if (channel->keep_bytes != 0 && bytes > channel->keep_bytes) {
		(void)err_set(err, ERR_INVALID, "the message counts %zu bytes, more than the "
		    "channel's keep_bytes (%llu)", bytes,
		    (unsigned long long)channel->keep_bytes);
		return 0;
	}
	if (bytes - FRAME_HEADER_SIZE > c->conf->max_frame_bytes) {
		(void)err_set(err, ERR_INVALID, "the message would be delivered in a frame larger "
		    "than limits max_frame_bytes (%u)", c->conf->max_frame_bytes);
		return 0;
	}
	return bytes;
}

static void
publish_not_configured(struct connection *c, uint32_t stream, const struct frame_view *name)
{
	struct buf text = { 0 };

	if (channel_not_configured_text(&text, name) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for an answer");
	else
		publish_error(c, stream, FRAME_REASON_CHANNEL_NOT_CONFIGURED,
		    (const char *)buf_head(&text), buf_len(&text));
	buf_free(&text);
}

static const struct conf_channel *
publish_find(struct connection *c, struct publisher *p, const struct frame_view *name)
{
	const struct conf_channel *last = p->last;

	if (last != NULL && last->name_len == name->len &&
	    memcmp(last->name, name->data, name->len) == 0)
		return last;
	return p->last = conf_channel_find(c->conf, name->data, name->len);
}

void
channel_publish(struct connection *c, const struct frame *frame)
{
	const struct frame_view *name = &frame->u.publish.channel;
	const struct conf_channel *channel = NULL;
	struct publisher *p;
	struct err err = { 0 };
	json_t *json = NULL;
	size_t bytes;
	int rc = 0;

	if ((p = publish_publisher(c)) == NULL)
		return;
	p->is_used = 1;
	if (name->len > 0 && name->len <= CONF_CHANNEL_NAME_MAX)
		channel = publish_find(c, p, name);
	if (channel == NULL) {
		turn_apply(c);
		publish_not_configured(c, frame->stream, name);
		return;
	}
	bytes = publish_size(c, channel, frame, &err);
	if (bytes > 0)
		rc = route_check(channel, &frame->u.publish.envelope.payload, &json, &err);
	if (bytes == 0 || rc != 0)
		channel_publish_error(c, frame->stream, err.text);
	else if (publish_note_all(c, channel, frame, json, bytes) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
	json_decref(json);
}

void
channel_publish_frame(struct connection *c, const struct frame *frame)
{
	if (tap_is_wanted(c))
		tap_add(c, frame);
	else
		channel_publish(c, frame);
}

/* Applying, for channels of the state. */

static int
publish_is_acknowledged(const struct published *item)
{
	return item->outcome <= PUBLICATION_DUPLICATE;
}

/* The keys of the turn, in the order of its messages: whose was known, is not published. */
static int
publish_apply_keys(struct connection *c, struct state_txn *txn, int64_t now)
{
	struct keys keys = { .txn = txn, .place = KEYS_IN_STATE };
	struct keys_row row = { 0 };
	struct publisher *p = c->publisher;
	const struct conf_channel *channel;
	struct published *item, *source = NULL;
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < p->n; i++) {
		item = &p->items[i];
		if (!item->is_routed)
			source = item;
		item->outcome = source->outcome;	/* a copy falls away with its source */
		if (!item->is_routed)
			item->outcome = PUBLICATION_STORED;
		if (!item->has_key || !publish_is_acknowledged(item) ||
		    item->outcome == PUBLICATION_DUPLICATE)
			continue;
		channel = &c->conf->channels[item->channel];
		keys.channel = item->channel;
		rc = keys_find(&keys, item->key.data, item->key.len, now, NULL);
		if (rc == 1) {
			item->outcome = PUBLICATION_DUPLICATE;
			rc = 0;
			continue;
		}
		if (rc == 0)
			rc = keys_trim(&keys, now, PUBLISH_KEYS_TRIM, NULL);
		row.until_ns = now + channel->dedup_window_ns;
		if (rc >= 0)
			rc = keys_put(&keys, item->key.data, item->key.len, &row,
			    channel->dedup_keys);
		if (rc == ERR_BUSY) {
			item->outcome = PUBLICATION_KEYS_FULL;
			rc = 0;
		}
	}
	return rc;
}

/* Everything of the turn for one channel, from item FIRST on. */
static int
publish_apply_channel(struct connection *c, struct state_txn *txn, size_t first, int64_t now)
{
	struct publisher *p = c->publisher;
	uint32_t number = p->items[first].channel;
	const struct conf_channel *channel = &c->conf->channels[number];
	const struct log log = { txn, STATE_MESSAGES, number };
	const struct log_bound bound = channel_bound(channel);
	struct channels_row row;
	size_t i, n = 0;
	int rc;

	if ((rc = channels_get(txn, number, &row)) != 0)
		return rc;
	for (i = first; i < p->n; i++) {
		if (p->items[i].channel != number)
			continue;
		p->items[i].is_done = 1;
		if (p->items[i].outcome != PUBLICATION_STORED)
			continue;
		p->gathered[n++] = p->messages[i];
		if (row.n_subscriptions > 0)
			p->items[i].outcome = PUBLICATION_DELIVERED;
	}
	/* What is left when nobody listens any more is of no use to anybody. */
	rc = log_trim(&log, &row.mark, &bound,
	    row.n_subscriptions > 0 ? p->channels[number].consumed : UINT64_MAX, now,
	    PUBLISH_TRIM);
	if (rc >= 0 && n > 0 && row.n_subscriptions == 0 && row.mark.first > row.mark.head) {
		log_skip(&row.mark, p->gathered, n);
	} else if (rc >= 0 && n > 0) {
		rc = log_append(&log, &row.mark, channel->schema_id, p->gathered, n, now);
		if (rc >= 0)
			rc = log_trim(&log, &row.mark, &bound, 0, now, PUBLISH_TRIM);
		p->channels[number].has_moved = 1;
	}
	return rc < 0 ? rc : channels_put(txn, number, &row);
}

/* There is no room for more: what is over goes, and the turn's messages are refused. */
static int
publish_apply_refusal(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct publisher *p = c->publisher;
	struct channels_row row;
	struct log_bound bound;
	struct log log = { .txn = txn, .table = STATE_MESSAGES };
	size_t i;
	int rc = 0;

	strncpy(intent->text, STATE_FULL_TEXT, sizeof intent->text - 1);
	intent->error = FRAME_REASON_OTHER;
	for (i = 0; rc >= 0 && i < p->n; i++) {
		p->items[i].outcome = PUBLICATION_REFUSED;
		log.channel = p->items[i].channel;
		if (i > 0 && p->items[i - 1].channel == log.channel)
			continue;
		if ((rc = channels_get(txn, log.channel, &row)) != 0)
			break;
		bound = channel_bound(&c->conf->channels[log.channel]);
		rc = log_trim(&log, &row.mark, &bound, row.n_subscriptions > 0 ?
		    p->channels[log.channel].consumed : UINT64_MAX, clock_realtime_ns(),
		    PUBLISH_TRIM);
		if (rc > 0)
			rc = channels_put(txn, log.channel, &row);
	}
	return rc < 0 ? rc : 0;
}

static size_t
publish_turn_bytes(const struct publisher *p)
{
	size_t i, bytes = 0;

	for (i = 0; i < p->n; i++)
		bytes += log_message_bytes(&p->messages[i]);
	return bytes;
}

int
publish_apply(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	struct publisher *p = c->publisher;
	int64_t now = clock_realtime_ns();
	uint64_t n = 0;
	size_t i;
	int rc;

	intent->error = 0;
	if (state_is_crowded(txn) || !state_fits(txn, publish_turn_bytes(p)))
		return publish_apply_refusal(c, txn, intent);
	if ((rc = publish_apply_keys(c, txn, now)) < 0)
		return rc;
	for (i = 0; i < p->n; i++)
		p->items[i].is_done = 0;
	for (i = 0; rc >= 0 && i < p->n; i++)
		if (!p->items[i].is_done)
			rc = publish_apply_channel(c, txn, i, now);
	for (i = 0; i < p->n; i++)
		n += !p->items[i].is_routed && publish_is_acknowledged(&p->items[i]);
	return rc < 0 ? rc : channels_message_ids(txn, n, &p->first_id);
}

/* Waking. */

struct publish_waking {
	struct connection *c;
	uint64_t consumed;
};

static int
publish_wake_one(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	struct publish_waking *waking = arg;
	struct board *board = waking->c->context->board;
	struct board_slot *slot;
	uint64_t consumed;

	if (listener->slot >= board->n_slots)
		return 0;
	slot = &board->slots[listener->slot];
	if (atomic_load_explicit(&slot->conn_id, memory_order_relaxed) != conn_id)
		return 0;	/* has ended: waits for nothing */
	consumed = atomic_load_explicit(&slot->consumed, memory_order_acquire);
	if (consumed < waking->consumed)
		waking->consumed = consumed;
	wake_poke(&waking->c->wake, listener->slot, conn_id);
	return 0;
}

/* After the commit, and without the write lock: there may be many. Dying before or in here loses pokes:
 * the keeper pokes all who listen after an abnormal end. */
static void
publish_wake(struct connection *c)
{
	struct publisher *p = c->publisher;
	struct state_txn *txn;
	uint32_t number;
	size_t i;

	if (state_begin_read(c->state, &txn) != 0) {
		connection_end(c, ROLE_EXIT_STATE, "the state cannot be read: %s",
		    state_error_text(c->state));
		return;
	}
	for (i = 0; i < p->n; i++) {
		struct publish_waking waking = { c, UINT64_MAX };

		number = p->items[i].channel;
		if (!p->channels[number].has_moved)
			continue;
		p->channels[number].has_moved = 0;
		if (subscriptions_each_listener(txn, number, publish_wake_one, &waking) == 0)
			p->channels[number].consumed = waking.consumed == UINT64_MAX ? 0 :
			    waking.consumed;
	}
	state_abort(txn);
}

/* Answering. */

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

/* TEXT: of PUBLICATION_REFUSED. *ID moves with each that is acknowledged. */
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
	if (len < sizeof answer || answer.n != batch->n ||
	    len - sizeof answer != (size_t)answer.n + answer.text_len) {
		connection_end(c, ROLE_EXIT_STATE, "an answer of the store cannot be read");
		return;
	}
	id = answer.first_id;
	for (i = 0; i < batch->n; i++)
		publish_answer(c, batch->streams[i], outcomes[i], &id,
		    (const char *)outcomes + answer.n, answer.text_len);
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

int
publish_tidy(struct connection *c)
{
	struct publisher *p = c->publisher;

	if (p == NULL || (p->size == 0 && p->body.size == 0))
		return 0;
	if (p->is_used || p->n > 0 || buf_len(&p->streams) > 0) {
		p->is_used = 0;
		return 1;
	}
	free(p->items);
	free(p->messages);
	free(p->gathered);
	p->items = NULL;
	p->messages = p->gathered = NULL;
	p->size = 0;
	buf_free(&p->body);
	buf_free(&p->streams);
	return 0;
}
