/*
 * Durable subscriptions: where each goes on, and the cursors that are saved of them.
 *
 * Entries are taken in the order of the inbox: what the last holder of a name has saved is there
 * before the next one asks.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/store.h"
#include "state/channels.h"
#include "state/connections.h"
#include "state/consumers.h"

/* consumers_open.start; wire.md. */
enum store_consumers_start {
	STORE_CONSUMERS_LEFT_OFF, STORE_CONSUMERS_OLDEST, STORE_CONSUMERS_SEQUENCE
};

#define STORE_CONSUMERS_UNREADABLE "the store process cannot read what was asked for"
#define STORE_CONSUMERS_DAMAGED \
	"what the store knows of this consumer does not read back: it can begin anew from the " \
	"oldest message or from a sequence"
#define STORE_CONSUMERS_LOG_WINDOW_NS (10 * CLOCK_SECOND)

void
store_consumers_begin(struct store *s)
{
	s->consumers.n = 0;
	buf_consume(&s->consumers.bodies, buf_len(&s->consumers.bodies));
}

/* Room for LEN bytes of an answer to ENTRY. NULL = out of memory. */
static uint8_t *
store_consumers_note(struct store *s, const struct inbox_entry *entry, uint32_t code, size_t len)
{
	struct store_consumers *consumers = &s->consumers;
	uint8_t *at;

	if (store_room(&consumers->opened, &consumers->size, sizeof *consumers->opened,
	    consumers->n + 1) != 0 || (at = buf_reserve(&consumers->bodies, len)) == NULL)
		return NULL;
	consumers->opened[consumers->n++] = (struct store_opened){
		entry->conn_id, entry->request, code, buf_len(&consumers->bodies), len
	};
	buf_commit(&consumers->bodies, len);
	return at;
}

static int
store_consumers_note_text(struct store *s, const struct inbox_entry *entry, const char *text)
{
	uint8_t *at = store_consumers_note(s, entry, FRAME_REASON_OTHER, strlen(text));

	if (at == NULL)
		return ERR_NOMEM;
	memcpy(at, text, strlen(text));
	return 0;
}

/* What ROW says from OLDEST on: what came before is not kept any more; *LOST of that it had not accepted. */
static int
store_consumers_note_row(struct store *s, const struct inbox_entry *entry,
    const struct consumers_row *row, const struct frame_view *ranges, uint64_t oldest,
    uint64_t *lost)
{
	struct consumers_row moved = *row;
	struct consumers_range range;
	uint8_t *at, *start;
	size_t i;

	at = start = store_consumers_note(s, entry, 0, sizeof moved + ranges->len);
	if (at == NULL)
		return ERR_NOMEM;
	*lost = 0;
	if (moved.cursor < oldest - 1) {
		*lost = oldest - 1 - moved.cursor;
		moved.cursor = oldest - 1;
	}
	moved.n_ranges = 0;
	at += sizeof moved;
	for (i = 0; i < ranges->len / sizeof range; i++) {
		memcpy(&range, ranges->data + i * sizeof range, sizeof range);
		if (range.from < oldest)
			*lost -= (range.to < oldest ? range.to + 1 : oldest) - range.from;
		if (range.from <= moved.cursor + 1) {
			if (range.to > moved.cursor)
				moved.cursor = range.to;
			continue;
		}
		memcpy(at, &range, sizeof range);
		at += sizeof range;
		moved.n_ranges++;
	}
	memcpy(start, &moved, sizeof moved);
	s->consumers.opened[s->consumers.n - 1].len = (size_t)(at - start);
	return 0;
}

/* The row that the consumer has, or gets (1: it is to be written). ERR_CORRUPT: it has one that does not read
 * back, and asks to go on there. */
static int
store_consumers_find(struct store *s, struct state_txn *txn, const struct consumers_open *open,
    const struct frame_view *name, struct consumers_row *row, struct frame_view *ranges)
{
	int rc = consumers_get(txn, s->log.channels[open->channel].number, name, row, ranges);

	if (rc == ERR_CORRUPT && open->start == STORE_CONSUMERS_LEFT_OFF)
		return rc;
	if (rc != ERR_NOTFOUND && rc != ERR_CORRUPT)
		return rc;
	memset(row, 0, sizeof *row);
	row->version = CONSUMERS_VERSION;
	row->cursor = open->now;
	row->since_ns = clock_realtime_ns();
	*ranges = (struct frame_view){ NULL, 0 };
	return 1;
}

/* Its client has to say where it begins anew: only "where it left off" cannot be answered. */
static int
store_consumers_refuse_damaged(struct store *s, const struct inbox_entry *entry,
    const struct store_channel *channel)
{
	unsigned held;

	if (log_limit_allows(&s->consumers.damaged, 1, STORE_CONSUMERS_LOG_WINDOW_NS, &held))
		log_errorx("consumer does not read back conn=%llu channel=\"%s\" suppressed=%u",
		    (unsigned long long)entry->conn_id, channel->conf->name, held);
	return store_consumers_note_text(s, entry, STORE_CONSUMERS_DAMAGED);
}

static void
store_consumers_log_lost(struct store *s, const struct inbox_entry *entry,
    const struct store_channel *channel, uint64_t lost, uint64_t oldest)
{
	unsigned held;

	if (log_limit_allows(&s->consumers.missed, 1, STORE_CONSUMERS_LOG_WINDOW_NS, &held))
		log_warnx("consumer missed messages conn=%llu channel=\"%s\" lost=%llu "
		    "oldest=%llu suppressed=%u", (unsigned long long)entry->conn_id,
		    channel->conf->name, (unsigned long long)lost, (unsigned long long)oldest,
		    held);
}

static int
store_consumers_start(struct store *s, struct state_txn *txn, const struct inbox_entry *entry,
    const struct consumers_open *open, const struct frame_view *name)
{
	const struct store_channel *channel = &s->log.channels[open->channel];
	const struct log log = { txn, STORE_MESSAGES, channel->number };
	const struct log_bound bound = channels_bound(channel->conf);
	struct consumers_row row;
	struct frame_view ranges;
	uint64_t oldest, lost;
	int rc, is_new;

	rc = is_new = store_consumers_find(s, txn, open, name, &row, &ranges);
	if (rc == ERR_CORRUPT)
		return store_consumers_refuse_damaged(s, entry, channel);
	if (rc < 0)
		return rc;
	rc = log_oldest(&log, &channel->mark, &bound, clock_realtime_ns(), &oldest);
	if (rc != 0)
		return rc;
	if (!s->is_old && open->start != STORE_CONSUMERS_LEFT_OFF) {
		is_new = 1;
		row.cursor = open->start == STORE_CONSUMERS_OLDEST ? oldest - 1 :
		    open->sequence - (open->sequence > 0);
		row.n_ranges = 0;
		ranges.len = 0;
	}
	/* Copied before it is written, which moves the views. */
	rc = store_consumers_note_row(s, entry, &row, &ranges, oldest, &lost);
	if (rc == 0 && lost > 0 && open->start == STORE_CONSUMERS_LEFT_OFF)
		store_consumers_log_lost(s, entry, channel, lost, oldest);
	if (rc == 0 && is_new && !s->is_old)
		rc = consumers_put(txn, channel->number, name, &row, ranges.data);
	return rc;
}

int
store_consumers_open(struct store *s, struct state_txn *txn, const struct inbox_entry *entry,
    const void *body)
{
	struct consumers_open open;
	struct frame_view name;
	int rc = ERR_INVALID;

	if (entry->len > sizeof open) {
		memcpy(&open, body, sizeof open);
		name.data = (const uint8_t *)body + sizeof open;
		name.len = entry->len - sizeof open;
		if (open.channel < s->log.n_channels && s->log.channels[open.channel].conf->durable)
			rc = store_consumers_start(s, txn, entry, &open, &name);
	}
	return rc == ERR_INVALID || rc == ERR_CORRUPT ?
	    store_consumers_note_text(s, entry, STORE_CONSUMERS_UNREADABLE) : rc;
}

int
store_consumers_save(struct store *s, struct state_txn *txn, const struct inbox_entry *entry,
    const void *body)
{
	struct consumers_cursor cursor;
	struct frame_view name, ranges;
	struct consumers_row row;
	size_t len = entry->len;
	int rc;

	if (s->is_old || len < sizeof cursor)
		return 0;
	memcpy(&cursor, body, sizeof cursor);
	len -= sizeof cursor;
	if (cursor.name_len > len || cursor.channel >= s->log.n_channels ||
	    !s->log.channels[cursor.channel].conf->durable)
		return 0;
	len -= cursor.name_len;
	body = (const uint8_t *)body + sizeof cursor;
	name.data = (const uint8_t *)body + len;
	name.len = cursor.name_len;
	if (consumers_unpack(body, len, &row, &ranges) != 0)
		return 0;
	rc = consumers_put(txn, s->log.channels[cursor.channel].number, &name, &row, ranges.data);
	return rc == ERR_INVALID ? 0 : rc;
}

int
store_consumers_refuse(struct store *s, const struct inbox_entry *entry)
{
	return store_consumers_note_text(s, entry, s->fault.text);
}

int
store_consumers_answer(struct store *s, struct state_txn *txn)
{
	struct inbox_entry entry = { .kind = INBOX_CONSUMER };
	const struct store_opened *opened;
	struct connections_row row;
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < s->consumers.n; i++) {
		opened = &s->consumers.opened[i];
		entry.request = opened->request;
		entry.code = opened->code;
		entry.len = (uint32_t)opened->len;
		rc = connections_get(txn, opened->conn_id, &row);
		if (rc == 0)
			rc = inbox_post(txn, opened->conn_id, row.slot, &entry,
			    buf_head(&s->consumers.bodies) + opened->at);
		else if (rc == ERR_NOTFOUND)
			rc = 0;		/* nobody is left to be told */
	}
	return rc;
}

void
store_consumers_free(struct store *s)
{
	free(s->consumers.opened);
	buf_free(&s->consumers.bodies);
}
