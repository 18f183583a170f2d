/*
 * Publishes: all of a batch are one row for each channel and one commit, whoever they are of.
 *
 * Messages for durable channels are written with the batch. Copies for ephemeral ones follow with
 * the answers, in the transaction of the state that takes the batch out of the inbox: once. Keys
 * decide what is written at all, so those of every channel that leads to a durable one are in the
 * store; those of the other channels, which only copies are for, are in the state.
 *
 * A process that finds a batch written and not answered judges it again as it was judged: by the
 * time that the store has noted, and a key that the batch itself brought tells whose it is.
 * Nothing is removed of the keys before that.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/store.h"
#include "role/sweep.h"
#include "state/channels.h"
#include "state/connections.h"
#include "state/keys.h"
#include "state/publication.h"
#include "state/store_channels.h"
#include "state/subscriptions.h"

/* Rows of an ephemeral channel that one answer removes at most; more than it appends. */
#define STORE_PUBLISH_TRIM	128
/* The same where nobody needs them, or there is no room. */
#define STORE_PUBLISH_EMPTY	4096
/* Keys besides as many as are brought. */
#define STORE_PUBLISH_KEYS	8
/* Memory for more items is given back after a batch. */
#define STORE_PUBLISH_KEEP	16384

#define STORE_PUBLISH_UNREADABLE "the store process cannot read what was published"

static void
store_publish_free_items(struct store_publish *p)
{
	free(p->items);
	free(p->sorted);
	free(p->sources);
	free(p->kept);
	p->items = NULL;
	p->sorted = p->kept = NULL;
	p->sources = NULL;
	p->size_items = p->size_sorted = 0;
}

void
store_publish_begin(struct store *s)
{
	struct store_publish *p = &s->publish;
	uint32_t i;

	if (p->size_items > STORE_PUBLISH_KEEP)
		store_publish_free_items(p);
	for (i = 0; i < p->n_touched; i++) {
		struct store_channel *channel = &s->log.channels[p->touched[i]];

		channel->n_keyed = channel->n = 0;
		channel->is_awake = 0;
	}
	p->n_touched = 0;
	p->n_publications = p->n_items = 0;
	p->is_refused = 0;
	p->last_row = 0;
}

/* Taking. */

struct store_taking {
	struct store *s;
	struct store_publication *publication;
	const struct store_item *published;	/* that copies are of */
};

static int
store_publish_take_item(void *arg, const struct publication_item *from)
{
	struct store_taking *taking = arg;
	struct store *s = taking->s;
	struct store_publish *p = &s->publish;
	int is_routed = (from->flags & PUBLICATION_ROUTED) != 0;
	struct store_item *item;

	/* The first one is no copy. */
	if (from->channel >= s->log.n_channels ||
	    (is_routed && taking->publication->n_published == 0))
		return ERR_CORRUPT;
	if (store_room(&p->items, &p->size_items, sizeof *p->items, p->n_items + 1) != 0)
		return ERR_NOMEM;
	item = &p->items[p->n_items++];
	item->message = (struct log_message){ from->causal, from->payload };
	item->key = from->key;
	item->row = s->row_id;
	item->item = p->last_item++;
	item->channel = from->channel;
	item->is_routed = (uint8_t)is_routed;
	item->has_key = (from->flags & PUBLICATION_KEYED) != 0 &&
	    s->log.channels[from->channel].conf->dedup_window_ns > 0;
	item->outcome = PUBLICATION_STORED;
	item->is_refused = 0;
	taking->publication->n++;
	taking->publication->n_published += !is_routed;
	return 0;
}

int
store_publish_take(struct store *s, const struct inbox_entry *entry, const void *body)
{
	struct store_publish *p = &s->publish;
	struct store_taking taking = { .s = s };
	int rc;

	if (p->touched == NULL && s->log.n_channels > 0 &&
	    (p->touched = calloc(s->log.n_channels, sizeof *p->touched)) == NULL)
		return ERR_NOMEM;
	if (store_room(&p->publications, &p->size_publications, sizeof *p->publications,
	    p->n_publications + 1) != 0)
		return ERR_NOMEM;
	if (p->last_row != s->row_id)
		p->last_item = 0;
	p->last_row = s->row_id;
	taking.publication = &p->publications[p->n_publications++];
	*taking.publication = (struct store_publication){
		.conn_id = entry->conn_id, .request = entry->request, .first = p->n_items
	};
	rc = publication_each(body, entry->len, store_publish_take_item, &taking);
	if (rc == ERR_CORRUPT) {
		p->n_items = taking.publication->first;
		taking.publication->n = 0;
		taking.publication->is_unreadable = 1;
		rc = 0;
	}
	return rc;
}

/* Judging. */

/* Which of the batch's channels there are, and how many keys each gets. */
static void
store_publish_touch(struct store *s)
{
	struct store_publish *p = &s->publish;
	struct store_channel *channel;
	size_t i;

	/* N counts what may come; it is counted again when it is known. */
	for (i = 0; i < p->n_items; i++) {
		channel = &s->log.channels[p->items[i].channel];
		if (channel->n++ == 0)
			p->touched[p->n_touched++] = p->items[i].channel;
		channel->n_keyed += p->items[i].has_key;
	}
}

static int
store_publish_has_room(struct store *s, struct state_txn *txn)
{
	const struct store_publish *p = &s->publish;
	size_t i, bytes = 0;

	for (i = 0; i < p->n_items; i++)
		if (s->log.channels[p->items[i].channel].conf->durable)
			bytes += log_message_bytes(&p->items[i].message);
	return !state_is_tight(txn) && state_fits(txn, bytes);
}

/* May the batch be written? As it was decided, when it has been. */
static int
store_publish_decide(struct store *s, struct state_txn *txn)
{
	struct store_published row = { .version = STORE_PUBLISHED_VERSION };
	struct store_publish *p = &s->publish;
	const char *why = STORE_FAULT_TIGHT;
	int rc;

	if (s->is_old) {
		rc = store_published_get(txn, &row);
	} else {
		row.is_refused = 1;
		if (store_fault_is_disk(s))
			why = STORE_FAULT_DISK;
		else
			row.is_refused = !store_publish_has_room(s, txn);
		row.now_ns = s->history.writer.now_ns;
		rc = store_published_put(txn, &row);
	}
	if (rc != 0)
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	p->now_ns = row.now_ns;
	p->is_refused = row.is_refused;
	store_fault_text(s, why, p->text);
	return 0;
}

/* Make room for the keys that may come. */
static int
store_publish_trim_keys(struct store *s, struct state_txn *txn)
{
	struct keys keys = { .txn = txn, .place = KEYS_IN_STORE };
	const struct store_channel *channel;
	uint32_t i;
	int rc = 0;

	for (i = 0; rc >= 0 && i < s->publish.n_touched; i++) {
		channel = &s->log.channels[s->publish.touched[i]];
		keys.channel = channel->number;
		if (channel->number != 0 && channel->n_keyed > 0)
			rc = keys_trim(&keys, s->publish.now_ns,
			    (int)channel->n_keyed + STORE_PUBLISH_KEYS, NULL);
	}
	return rc < 0 ? rc : 0;
}

/* ITEM has a key, and comes with its channel's turn: is it the first? */
static int
store_publish_judge(struct store *s, const struct keys *keys, struct store_item *item, int is_old)
{
	const struct conf_channel *conf = s->log.channels[item->channel].conf;
	struct keys_row found, row = {
		.until_ns = s->publish.now_ns + conf->dedup_window_ns,
		.row = item->row, .item = item->item
	};
	int rc = keys_find(keys, item->key.data, item->key.len, s->publish.now_ns, &found);

	if (rc < 0)
		return rc;
	item->outcome = PUBLICATION_STORED;
	item->is_refused = 0;
	if (rc == 1) {
		/* Rows are numbered anew in each life of the daemon; with the time it is
		 * certain. */
		if (found.row != row.row || found.item != row.item ||
		    found.until_ns != row.until_ns)
			item->outcome = PUBLICATION_DUPLICATE;
		return 0;
	}
	rc = is_old ? ERR_BUSY :
	    keys_put(keys, item->key.data, item->key.len, &row, conf->dedup_keys);
	if (rc == ERR_BUSY) {
		item->outcome = PUBLICATION_KEYS_FULL;
		item->is_refused = 1;
		rc = 0;
	}
	return rc;
}

static int
store_publish_judge_all(struct store *s, struct state_txn *txn)
{
	struct store_item *item, *published = NULL;
	struct store_publish *p = &s->publish;
	struct keys keys = { .txn = txn, .place = KEYS_IN_STORE };
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < p->n_items; i++) {
		item = &p->items[i];
		if (!item->is_routed)
			published = item;
		else if (published->outcome != PUBLICATION_STORED) {
			item->outcome = published->outcome;
			continue;
		}
		keys.channel = s->log.channels[item->channel].number;
		if (item->has_key && keys.channel != 0)
			rc = store_publish_judge(s, &keys, item, s->is_old);
	}
	return rc;
}

/* What is to be appended, channel by channel. */
static int
store_publish_sort(struct store *s)
{
	struct store_publish *p = &s->publish;
	struct store_channel *channel;
	size_t i, at = 0, size = p->size_sorted;
	uint32_t t;

	if (p->n_items > p->size_sorted) {
		/* One size for the three of them. */
		size_t sizes[3] = { size, size, size };

		if (store_room(&p->sorted, &sizes[0], sizeof *p->sorted, p->n_items) != 0 ||
		    store_room(&p->sources, &sizes[1], sizeof *p->sources, p->n_items) != 0 ||
		    store_room(&p->kept, &sizes[2], sizeof *p->kept, p->n_items) != 0)
			return ERR_NOMEM;
		p->size_sorted = sizes[0];
	}
	for (t = 0; t < p->n_touched; t++)
		s->log.channels[p->touched[t]].n = 0;
	for (i = 0; i < p->n_items; i++)
		if (p->items[i].outcome == PUBLICATION_STORED)
			s->log.channels[p->items[i].channel].n++;
	for (t = 0; t < p->n_touched; t++) {
		channel = &s->log.channels[p->touched[t]];
		channel->first = at;
		at += channel->n;
		channel->n = 0;
	}
	for (i = 0; i < p->n_items; i++) {
		if (p->items[i].outcome != PUBLICATION_STORED)
			continue;
		channel = &s->log.channels[p->items[i].channel];
		at = channel->first + channel->n++;
		p->sorted[at] = p->items[i].message;
		p->sources[at] = i;
	}
	return 0;
}

int
store_publish_write(struct store *s, struct state_txn *txn)
{
	struct store_publish *p = &s->publish;
	struct store_channel *channel;
	uint32_t t;
	int rc;

	if (p->n_publications == 0)
		return 0;
	store_publish_touch(s);
	if ((rc = store_publish_decide(s, txn)) != 0 || p->is_refused)
		return rc;
	if (!s->is_old)
		rc = store_publish_trim_keys(s, txn);
	if (rc == 0)
		rc = store_publish_judge_all(s, txn);
	if (rc == 0)
		rc = store_publish_sort(s);
	for (t = 0; rc == 0 && !s->is_old && t < p->n_touched; t++) {
		channel = &s->log.channels[p->touched[t]];
		if (channel->conf->durable && channel->n > 0)
			rc = store_log_append(s, txn, p->touched[t], p->sorted + channel->first,
			    channel->n);
	}
	return rc;
}

void
store_publish_refuse(struct store *s)
{
	s->publish.is_refused = 1;
	memcpy(s->publish.text, s->fault.text, sizeof s->publish.text);
	s->has_lost |= s->is_draining && s->publish.n_publications > 0;
}

/* In the state. */

/* Copies for a channel whose keys are in the state: without those whose key was known there. */
static int
store_publish_judge_copies(struct store *s, struct state_txn *txn, uint32_t number, size_t *n)
{
	const struct store_channel *channel = &s->log.channels[number];
	const struct keys keys = { txn, KEYS_IN_STATE, number };
	struct store_publish *p = &s->publish;
	struct store_item *item;
	size_t i;
	int rc;

	*n = 0;
	rc = keys_trim(&keys, p->now_ns, (int)channel->n_keyed + STORE_PUBLISH_KEYS, NULL);
	for (i = channel->first; rc >= 0 && i < channel->first + channel->n; i++) {
		item = &p->items[p->sources[i]];
		item->outcome = PUBLICATION_STORED;	/* it may be the second try */
		if (item->has_key)
			rc = store_publish_judge(s, &keys, item, 0);
		if (rc >= 0 && item->outcome == PUBLICATION_STORED)
			p->kept[(*n)++] = p->sorted[i];
	}
	return rc < 0 ? rc : 0;
}

/* Append the batch's messages to an ephemeral channel. They were acknowledged with what is
 * durable: if the state has no room for them, what the channel keeps is given up, and who has
 * not read it is shed. */
static int
store_publish_copy(struct store *s, struct state_txn *txn, uint32_t number,
    struct channels_row *row)
{
	const struct store_channel *channel = &s->log.channels[number];
	const struct log_message *messages = s->publish.sorted + channel->first;
	const struct log log = { txn, STATE_MESSAGES, number };
	const struct log_bound bound = channels_bound(channel->conf);
	int64_t now = clock_realtime_ns();
	uint64_t consumed = UINT64_MAX;
	int rc = 0, is_skipped = row->n_subscriptions == 0 || state_is_crowded(txn);
	size_t n = channel->n;

	if (channel->number == 0 && channel->n_keyed > 0) {
		rc = store_publish_judge_copies(s, txn, number, &n);
		messages = s->publish.kept;
	}
	if (rc == 0 && !is_skipped && row->mark.first <= row->mark.head)
		rc = sweep_consumed(s->context->board, txn, number, &consumed);
	if (rc == 0)
		rc = log_trim(&log, &row->mark, &bound, consumed, now,
		    is_skipped ? STORE_PUBLISH_EMPTY : STORE_PUBLISH_TRIM);
	if (rc < 0 || n == 0)
		return rc < 0 ? rc : channels_put(txn, number, row);
	rc = 0;
	if (is_skipped && row->mark.first > row->mark.head)
		log_skip(&row->mark, messages, n);
	else
		rc = log_append(&log, &row->mark, channel->conf->schema_id, messages, n, now);
	return rc != 0 ? rc : channels_put(txn, number, row);
}

static int
store_publish_copy_all(struct store *s, struct state_txn *txn)
{
	struct store_publish *p = &s->publish;
	struct store_channel *channel;
	struct channels_row row;
	uint32_t t;
	int rc = 0;

	for (t = 0; rc == 0 && t < p->n_touched; t++) {
		channel = &s->log.channels[p->touched[t]];
		if (channel->n == 0)
			continue;
		if ((rc = channels_get(txn, p->touched[t], &row)) != 0)
			break;
		channel->n_subscriptions = row.n_subscriptions;
		channel->is_awake = row.n_subscriptions > 0;
		if (!channel->conf->durable)
			rc = store_publish_copy(s, txn, p->touched[t], &row);
	}
	return rc;
}

static unsigned
store_publish_outcome(const struct store *s, const struct store_item *item)
{
	return item->outcome == PUBLICATION_STORED &&
	    s->log.channels[item->channel].n_subscriptions > 0 ? PUBLICATION_DELIVERED :
	    item->outcome;
}

/* The answer's body; *N_ACKNOWLEDGED of the ids from FIRST_ID on are its own. */
static int
store_publish_body(struct store *s, const struct store_publication *publication,
    uint64_t first_id, uint64_t *n_acknowledged)
{
	struct publication_answer answer = { .first_id = first_id, .n = publication->n_published };
	struct buf *body = &s->publish.answer;
	const struct store_item *item = &s->publish.items[publication->first];
	const struct store_item *end = item + publication->n;
	uint8_t *at;

	*n_acknowledged = 0;
	buf_consume(body, buf_len(body));
	if ((at = buf_reserve(body, sizeof answer + answer.n)) == NULL)
		return ERR_NOMEM;
	buf_commit(body, sizeof answer + answer.n);
	memcpy(at, &answer, sizeof answer);
	at += sizeof answer;
	for (; item < end; item++) {
		if (item->is_routed)
			continue;
		*at = (uint8_t)store_publish_outcome(s, item);
		*n_acknowledged += *at++ <= PUBLICATION_DUPLICATE;
	}
	return 0;
}

static int
store_publish_post(struct store *s, struct state_txn *txn,
    const struct store_publication *publication, uint64_t first_id, uint64_t *n_acknowledged)
{
	struct inbox_entry entry = { .kind = INBOX_APPENDED, .request = publication->request };
	const char *text = publication->is_unreadable ? STORE_PUBLISH_UNREADABLE : s->publish.text;
	struct connections_row row;
	const void *body = text;
	int rc;

	*n_acknowledged = 0;
	if (publication->is_unreadable || s->publish.is_refused) {
		entry.code = FRAME_REASON_OTHER;
		entry.len = (uint32_t)strlen(text);
	} else {
		rc = store_publish_body(s, publication, first_id, n_acknowledged);
		if (rc != 0)
			return rc;
		body = buf_head(&s->publish.answer);
		entry.len = (uint32_t)buf_len(&s->publish.answer);
	}
	rc = connections_get(txn, publication->conn_id, &row);
	if (rc != 0)	/* nobody is left to be told */
		return rc == ERR_NOTFOUND ? 0 : rc;
	return inbox_post(txn, publication->conn_id, row.slot, &entry, body);
}

static uint64_t
store_publish_count(const struct store_publish *p)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < p->n_items; i++)
		n += !p->items[i].is_routed && p->items[i].outcome <= PUBLICATION_DUPLICATE;
	return n;
}

int
store_publish_answer(struct store *s, struct state_txn *txn)
{
	struct store_publish *p = &s->publish;
	uint64_t next = 0, n;
	size_t i;
	int rc = 0;

	if (p->n_publications == 0)
		return 0;
	if (!p->is_refused) {
		rc = store_publish_copy_all(s, txn);
		if (rc == 0 && (n = store_publish_count(p)) > 0)
			rc = channels_message_ids(txn, n, &next);
	}
	for (i = 0; rc == 0 && i < p->n_publications; i++) {
		rc = store_publish_post(s, txn, &p->publications[i], next, &n);
		next += n;
	}
	return rc;
}

/* Afterwards. */

static int
store_publish_poke(void *arg, uint64_t conn_id, const struct subscriptions_listener *listener)
{
	struct store *s = arg;

	wake_poke(&s->wake, listener->slot, conn_id);
	return 0;
}

/* Copies that their target had no room for, for `liminal status`: nobody else is told. */
static void
store_publish_tally(struct store *s)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < s->publish.n_items; i++)
		n += s->publish.items[i].is_routed && s->publish.items[i].is_refused;
	board_count(s->mine, BOARD_ROUTE_ERRORS, n);
}

int
store_publish_wake(struct store *s)
{
	struct store_publish *p = &s->publish;
	struct state_txn *txn = NULL;
	uint32_t t;
	int rc = 0;

	if (p->n_publications == 0 || p->is_refused)
		return 0;
	store_publish_tally(s);
	/* Dying in here loses pokes: the keeper pokes all who listen after a service's end. */
	for (t = 0; rc == 0 && t < p->n_touched; t++) {
		if (!s->log.channels[p->touched[t]].is_awake)
			continue;
		if (txn == NULL && (rc = state_begin_read(s->state, &txn)) != 0)
			return rc;
		rc = subscriptions_each_listener(txn, p->touched[t], store_publish_poke, s);
	}
	if (txn != NULL)
		state_abort(txn);
	return rc;
}

void
store_publish_free(struct store *s)
{
	struct store_publish *p = &s->publish;

	store_publish_free_items(p);
	free(p->publications);
	free(p->touched);
	buf_free(&p->answer);
}
