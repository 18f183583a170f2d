/*
 * A turn's messages for channels of the state: their keys, one append per channel, the ids of those that
 * are acknowledged; and, after the commit, the pokes for who listens.
 */
#include <string.h>

#include "base/clock.h"
#include "role/publish.h"
#include "state/keys.h"

/* Rows that one turn trims of a channel at most; more than it appends. */
#define PUBLISH_TRIM		128
/* Keys that one publish removes when their time has passed. */
#define PUBLISH_KEYS_TRIM	8

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
	const struct log_bound bound = channels_bound(channel);
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
		bound = channels_bound(&c->conf->channels[log.channel]);
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
void
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
