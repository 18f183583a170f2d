/*
 * Durable subscriptions, as far as the client sees them: their beginning, verdicts, redelivery, and the cursor
 * that the store keeps for them. What is outstanding and what follows is inflight.c's.
 *
 * What a turn's verdicts have changed is handed to the store with the same turn, one entry for each
 * consumer: an answer to a Ping behind an Accept says that it will not be forgotten, whoever is killed. Where
 * the store cannot keep up, so that more would wait for it than one connection may have there, or where the
 * state is full, it is handed over a little later, and whatever was not when the process is killed is
 * delivered again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/channel.h"
#include "role/inflight.h"
#include "state/consumers.h"

/* Of the cursors of one connection, what may lie in the store's inbox before it is looked whether the store
 * has taken them. */
#define CONSUMER_POSTED_BYTES	((size_t)128 << 10)
#define CONSUMER_POSTED_WAIT_NS	(10 * CLOCK_MS)
/* When a cursor that did not fit into the state is tried again. */
#define CONSUMER_RETRY_NS	CLOCK_SECOND
#define CONSUMER_LOG_WINDOW_NS	(10 * CLOCK_SECOND)

struct consumer {
	RB_ENTRY(consumer) link;
	TAILQ_ENTRY(consumer) moved_link;
	struct connection *c;
	struct subscription *subscription;
	uint64_t key;		/* its stream in the high half, my number for it in the low one */
	int is_moved;		/* the store has not been told */
	uint8_t start;		/* as the client asked */
	uint64_t sequence;
	int64_t since_ns;	/* the row's */
	struct inflight inflight;
	struct frame_view name;
	uint8_t bytes[];
};

static int
consumer_compare(const struct consumer *a, const struct consumer *b)
{
	return a->key < b->key ? -1 : a->key > b->key;
}

RB_GENERATE_INTERNAL(consumer_tree, consumer, link, consumer_compare,
    static __attribute__((unused)))

/* Beginning and end. */

int
consumer_new(struct connection *c, struct subscription *s, const struct frame *frame)
{
	const struct frame_view *name = &frame->u.subscribe.consumer;
	struct consumer *consumer = calloc(1, sizeof *consumer + name->len);

	if (consumer == NULL)
		return ERR_NOMEM;
	memcpy(consumer->bytes, name->data, name->len);
	consumer->name = (struct frame_view){ consumer->bytes, name->len };
	consumer->c = c;
	consumer->subscription = s;
	consumer->start = frame->u.subscribe.start;
	consumer->sequence = frame->u.subscribe.sequence;
	do
		consumer->key = (uint64_t)s->stream << 32 | ++c->last_consumer;
	while (RB_INSERT(consumer_tree, &c->consumers, consumer) != NULL);
	s->consumer = consumer;
	return 0;
}

void
consumer_free(struct consumer *consumer)
{
	if (consumer->is_moved)
		TAILQ_REMOVE(&consumer->c->moved, consumer, moved_link);
	RB_REMOVE(consumer_tree, &consumer->c->consumers, consumer);
	inflight_fini(&consumer->inflight);
	free(consumer);
}

const struct frame_view *
consumer_name(const struct consumer *consumer)
{
	return &consumer->name;
}

static struct consumer *
consumer_find(struct connection *c, uint64_t key)
{
	struct consumer wanted;

	wanted.key = key;
	return RB_FIND(consumer_tree, &c->consumers, &wanted);
}

static int
consumer_post(struct connection *c, struct state_txn *txn, enum inbox_kind kind, uint64_t key,
    const void *body, size_t len)
{
	struct inbox_entry entry;

	memset(&entry, 0, sizeof entry);
	entry.kind = kind;
	entry.conn_id = c->peer->conn_id;
	entry.request = key;
	entry.len = (uint32_t)len;
	return inbox_post(txn, INBOX_SERVICE(BOARD_STORE), BOARD_SERVICE_SLOT(BOARD_STORE), &entry,
	    body);
}

int
consumer_ask(struct connection *c, struct state_txn *txn, struct subscription *s,
    const struct subscriptions_row *row)
{
	const struct consumer *consumer = s->consumer;
	struct consumers_open question = {
		.channel = s->number, .start = consumer->start, .sequence = consumer->sequence,
		.now = row->base
	};
	uint8_t body[sizeof question + SUBSCRIPTIONS_CONSUMER_MAX];

	if (consumer->name.len > SUBSCRIPTIONS_CONSUMER_MAX)
		return ERR_INVALID;
	memcpy(body, &question, sizeof question);
	memcpy(body + sizeof question, consumer->name.data, consumer->name.len);
	return consumer_post(c, txn, INBOX_CONSUMER_OPEN, consumer->key, body,
	    sizeof question + consumer->name.len);
}

/* 0, or the text for the client. */
static const char *
consumer_begin(struct consumer *consumer, const void *body, size_t len)
{
	struct consumers_row row;
	struct frame_view ranges;

	if (consumers_unpack(body, len, &row, &ranges) == 0) {
		consumer->since_ns = row.since_ns;
		switch (inflight_init(&consumer->inflight, consumer->subscription->max_in_flight,
		    row.cursor, ranges.data, row.n_ranges)) {
		case 0:
			return NULL;
		case ERR_NOMEM:
			return "out of memory for what this consumer has accepted";
		}
	}
	return "where this consumer left off cannot be read";
}

void
consumer_opened(struct connection *c, const struct inbox_entry *entry, const void *body)
{
	struct consumer *consumer = consumer_find(c, entry->request);
	struct subscription *s;
	const char *fault;
	char text[512];

	/* The client may have unsubscribed meanwhile. */
	if (consumer == NULL || (s = consumer->subscription)->is_live || s->is_over)
		return;
	if (entry->code != 0) {
		snprintf(text, sizeof text, "%.*s", (int)entry->len, (const char *)body);
		subscription_end(c, s, (uint16_t)entry->code, text);
	} else if ((fault = consumer_begin(consumer, body, entry->len)) != NULL) {
		log_warnx("consumer not opened conn=%llu channel=\"%s\" reason=\"%s\"",
		    (unsigned long long)c->peer->conn_id, s->channel->name, fault);
		subscription_end(c, s, FRAME_REASON_OTHER, fault);
	} else
		subscription_go(c, s);
}

/* Saving. */

static void
consumer_moved(struct consumer *consumer)
{
	if (consumer->is_moved)
		return;
	consumer->is_moved = 1;
	TAILQ_INSERT_TAIL(&consumer->c->moved, consumer, moved_link);
}

/* Where it is now: struct consumers_cursor, row, ranges, name. Outside the transaction, which others wait
 * for. */
static void *
consumer_pack(const struct consumer *consumer, size_t *len)
{
	struct consumers_cursor head = {
		.channel = consumer->subscription->number,
		.name_len = (uint32_t)consumer->name.len
	};
	struct consumers_row row = {
		.version = CONSUMERS_VERSION, .cursor = inflight_cursor(&consumer->inflight),
		.since_ns = consumer->since_ns
	};
	size_t max = inflight_count_ranges(&consumer->inflight), size;
	uint8_t *body;

	if (max > CONSUMERS_RANGES_MAX)
		max = CONSUMERS_RANGES_MAX;
	body = malloc(sizeof head + sizeof row + max * sizeof(struct consumers_range) +
	    consumer->name.len);
	if (body == NULL)
		return NULL;
	*len = sizeof head + sizeof row;
	row.n_ranges = (uint32_t)inflight_ranges(&consumer->inflight, (void *)(body + *len), max);
	memcpy(body, &head, sizeof head);
	memcpy(body + sizeof head, &row, sizeof row);
	size = row.n_ranges * sizeof(struct consumers_range);
	memcpy(body + *len + size, consumer->name.data, consumer->name.len);
	*len += size + consumer->name.len;
	return body;
}

_Static_assert((sizeof(struct consumers_cursor) + sizeof(struct consumers_row)) %
    _Alignof(struct consumers_range) == 0, "ranges are written in place");

static void
consumer_note_cursor(struct consumer *consumer)
{
	struct connection *c = consumer->c;
	struct intent *intent;
	size_t len;
	void *body;

	TAILQ_REMOVE(&c->moved, consumer, moved_link);
	consumer->is_moved = 0;
	if ((body = consumer_pack(consumer, &len)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a cursor");
	} else if ((intent = turn_add(c, INTENT_CURSOR)) == NULL) {
		free(body);
	} else {
		intent->correlation = consumer->key;
		intent->owned = body;
		intent->body = (struct frame_view){ body, len };
	}
}

static void
consumer_wake_at(struct connection *c, int64_t when_ns)
{
	if (when_ns < c->consumer_deadline_ns)
		c->consumer_deadline_ns = when_ns;
}

static void
consumer_hold(struct connection *c, int64_t for_ns)
{
	c->cursors_held_ns = clock_now_ns() + for_ns;
	consumer_wake_at(c, c->cursors_held_ns);
}

static int
consumer_take_id(void *arg, uint64_t id, const void *entries, size_t len)
{
	uint64_t *first = arg;

	(void)entries, (void)len;
	*first = id;
	return 1;
}

/* May more cursors be posted? Not while the store has not taken those that were, when they are many. */
static int
consumer_may_post(struct connection *c)
{
	uint64_t first = UINT64_MAX;
	struct state_txn *txn;
	int rc;

	if (c->cursor_bytes < CONSUMER_POSTED_BYTES)
		return 1;
	if (state_begin_read(c->state, &txn) != 0)
		return 0;
	rc = inbox_read_rows(txn, INBOX_SERVICE(BOARD_STORE), 0, consumer_take_id, &first);
	if (c->cursor_mark == 0)
		c->cursor_mark = state_snapshot_id(txn);
	state_abort(txn);
	if (rc < 0 || first <= c->cursor_mark)
		return 0;
	c->cursor_bytes = 0;
	c->cursor_mark = 0;
	return 1;
}

void
consumer_note_moved(struct connection *c)
{
	struct consumer *consumer;

	if (TAILQ_EMPTY(&c->moved) || c->cursors_held_ns != 0)
		return;
	if (!consumer_may_post(c)) {
		consumer_hold(c, CONSUMER_POSTED_WAIT_NS);
		return;
	}
	while ((consumer = TAILQ_FIRST(&c->moved)) != NULL)
		consumer_note_cursor(consumer);
}

void
consumer_save(struct connection *c, struct subscription *s)
{
	(void)c;
	if (s->consumer->is_moved)
		consumer_note_cursor(s->consumer);
}

int
consumer_apply_cursor(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	return consumer_post(c, txn, INBOX_CURSOR, intent->correlation, intent->body.data,
	    intent->body.len);
}

void
consumer_done_cursor(struct connection *c, struct intent *intent)
{
	static struct log_limit limit;
	struct consumer *consumer = consumer_find(c, intent->correlation);
	int is_over = c->is_ending || consumer == NULL || !consumer->subscription->is_live;
	unsigned held;

	if (intent->result == 0) {
		c->cursor_bytes += sizeof(struct inbox_entry) + intent->body.len;
		return;
	}
	if (log_limit_allows(&limit, 1, CONSUMER_LOG_WINDOW_NS, &held))
		log_warnx("cursor not saved conn=%llu reason=\"%s\" suppressed=%u%s",
		    (unsigned long long)c->peer->conn_id, intent->text, held,
		    is_over ? "" : "; it will be tried again");
	if (!is_over) {
		consumer_moved(consumer);
		consumer_hold(c, CONSUMER_RETRY_NS);
	}
}

/* Delivery. */

int
consumer_next(struct subscription *s, int64_t now_ns, struct channel_run *run)
{
	struct inflight *inflight = &s->consumer->inflight;

	inflight_expire(inflight, now_ns);
	run->count = inflight_next(inflight, s->head, &run->first);
	return run->count > 0;
}

void
consumer_sent(struct subscription *s, uint64_t first, uint64_t n)
{
	struct connection *c = s->consumer->c;
	struct inflight *inflight = &s->consumer->inflight;

	if (first != inflight->next)
		board_count(c->mine, BOARD_REDELIVERED, n);
	if (inflight_sent(inflight, first, n) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for what is outstanding");
}

uint64_t
consumer_lost(struct subscription *s, uint64_t oldest)
{
	uint64_t lost = inflight_lose(&s->consumer->inflight, oldest);

	if (lost > 0)
		consumer_moved(s->consumer);
	return lost;
}

int64_t
consumer_next_deadline(const struct connection *c)
{
	return c->consumer_deadline_ns;
}

void
consumer_tick(struct connection *c, int64_t now_ns)
{
	struct consumer *consumer;

	if (now_ns < c->consumer_deadline_ns)
		return;
	c->consumer_deadline_ns = INT64_MAX;
	if (c->cursors_held_ns <= now_ns)
		c->cursors_held_ns = 0;
	else
		consumer_wake_at(c, c->cursors_held_ns);
	RB_FOREACH(consumer, consumer_tree, &c->consumers) {
		if (inflight_expire(&consumer->inflight, now_ns))
			deliver_again(c);
		consumer_wake_at(c, inflight_next_due(&consumer->inflight));
	}
}

/* Verdicts. */

/* A sequence as it is written in decimal. 0: it is none. */
static uint64_t
consumer_read_sequence(const struct frame_view *text)
{
	uint64_t sequence = 0;
	size_t i;

	if (text->len == 0 || text->data[0] == '0')
		return 0;
	for (i = 0; i < text->len; i++) {
		if (text->data[i] < '0' || text->data[i] > '9' ||
		    __builtin_mul_overflow(sequence, 10, &sequence) ||
		    __builtin_add_overflow(sequence, text->data[i] - '0', &sequence))
			return 0;
	}
	return sequence;
}

/* Of those on STREAM, the one whose client has SEQUENCE, or else one that waits to deliver it again. */
static struct consumer *
consumer_meant(struct connection *c, uint32_t stream, uint64_t sequence)
{
	struct consumer wanted, *consumer, *found = NULL;
	enum inflight_state state;

	wanted.key = (uint64_t)stream << 32;
	for (consumer = RB_NFIND(consumer_tree, &c->consumers, &wanted);
	    consumer != NULL && consumer->key >> 32 == stream;
	    consumer = RB_NEXT(consumer_tree, &c->consumers, consumer)) {
		state = consumer->subscription->is_live ?
		    inflight_state_of(&consumer->inflight, sequence) : INFLIGHT_NONE;
		if (state == INFLIGHT_SENT)
			return consumer;
		if (state != INFLIGHT_NONE && found == NULL)
			found = consumer;
	}
	return found;
}

static void
consumer_judge(struct consumer *consumer, uint64_t sequence, enum inflight_verdict verdict)
{
	struct connection *c = consumer->c;
	struct inflight *inflight = &consumer->inflight;
	int is_full = inflight->n >= inflight->max;
	int64_t due_ns = 0;

	if (verdict == INFLIGHT_DEFER)
		due_ns = clock_now_ns() + consumer->subscription->channel->redelivery_delay_ns;
	switch (inflight_judge(inflight, sequence, verdict, due_ns)) {
	case 0:
		break;
	case ERR_NOTFOUND:
		c->frames_ignored++;
		return;
	default:
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for what is outstanding");
		return;
	}
	if (verdict == INFLIGHT_DEFER) {
		consumer_wake_at(c, inflight_next_due(inflight));
		return;
	}
	consumer_moved(consumer);
	if (is_full)
		deliver_again(c);
}

void
consumer_verdict_frame(struct connection *c, const struct frame *frame)
{
	uint64_t sequence = consumer_read_sequence(&frame->u.verdict.message);
	struct consumer *consumer = NULL;

	if (sequence != 0)
		consumer = consumer_meant(c, frame->stream, sequence);
	if (consumer == NULL)
		c->frames_ignored++;
	else
		consumer_judge(consumer, sequence, frame->type == FRAME_ACCEPT ? INFLIGHT_ACCEPT :
		    frame->type == FRAME_REJECT ? INFLIGHT_REJECT : INFLIGHT_DEFER);
}
