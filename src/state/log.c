/* Channels' logs: rows of messages, appended at the end, removed at the beginning. See log.h. */
#include <string.h>

#include "state/log.h"

#define LOG_VERSION	1
#define LOG_KEY_SIZE	16

/* At the head of each row. To change it: raise the version, and read the old one where it lies in
 * a store. */
struct log_row {
	uint16_t version;
	uint16_t is_piece;	/* a later piece of the message before */
	uint32_t count;		/* messages that begin here */
	uint64_t bytes;		/* of their frames, with what of them lies in pieces */
	uint64_t last;		/* of these, the bytes before the last one */
	uint64_t before;	/* bytes of all messages of the channel before this row */
	int64_t time_ns;	/* real time of the append */
	uint64_t stamp;		/* number of the transaction */
};

#define LOG_ROOM	(LOG_ROW_MAX - sizeof(struct log_row))

static void
log_key_put(uint8_t key[LOG_KEY_SIZE], uint32_t channel, uint64_t sequence, uint32_t piece)
{
	/* Channel and piece are each half of a 64-bit number. */
	channel = __builtin_bswap32(channel);
	piece = __builtin_bswap32(piece);
	memcpy(key, &channel, 4);
	state_key_put(key + 4, sequence);
	memcpy(key + 12, &piece, 4);
}

static int
log_key_is_of(const struct state_view *key, uint32_t channel)
{
	channel = __builtin_bswap32(channel);
	return key->len == LOG_KEY_SIZE && memcmp(key->data, &channel, 4) == 0;
}

static uint64_t
log_key_sequence(const struct state_view *key)
{
	return state_key_get((const uint8_t *)key->data + 4);
}

static int
log_row_get(const struct state_view *view, struct log_row *row)
{
	if (view->len < sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	return row->version == LOG_VERSION ? 0 : ERR_CORRUPT;
}

static inline uint32_t
log_get_u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return __builtin_bswap32(value);
}

static inline void
log_put_u32(uint8_t *at, uint32_t value)
{
	value = __builtin_bswap32(value);
	memcpy(at, &value, 4);
}

int
log_row_look(const struct state_view *key, const struct state_view *row,
    struct log_row_view *view)
{
	struct log_row head;

	if (key->len != LOG_KEY_SIZE || log_row_get(row, &head) != 0)
		return ERR_CORRUPT;
	*view = (struct log_row_view){
		.channel = log_get_u32(key->data), .first = log_key_sequence(key),
		.piece = log_get_u32((const uint8_t *)key->data + 12),
		.count = head.is_piece ? 0 : head.count, .bytes = head.bytes,
		.before = head.before, .time_ns = head.time_ns, .stamp = head.stamp
	};
	return 0;
}

/* Appending. */

/* What of a frame comes before its payload. */
static uint8_t *
log_put_head(uint8_t *at, const struct log_message *message, uint64_t sequence,
    const uint8_t *schema_id)
{
	size_t envelope = FRAME_SCHEMA_ID_SIZE + 4 + message->causal.len + 4 + message->payload.len;

	at[0] = FRAME_DELIVER;
	at[1] = 0;
	log_put_u32(at + 2, 0);
	log_put_u32(at + 6, (uint32_t)(8 + 4 + envelope));
	state_key_put(at + LOG_HEAD_SEQUENCE, sequence);
	log_put_u32(at + LOG_HEAD_SIZE, (uint32_t)envelope);
	at += LOG_HEAD_SIZE + 4;
	memcpy(at, schema_id, FRAME_SCHEMA_ID_SIZE);
	at += FRAME_SCHEMA_ID_SIZE;
	log_put_u32(at, (uint32_t)message->causal.len);
	at += 4;
	if (message->causal.len > 0)
		memcpy(at, message->causal.data, message->causal.len);
	at += message->causal.len;
	log_put_u32(at, (uint32_t)message->payload.len);
	return at + 4;
}

static int
log_reserve(const struct log *log, uint64_t sequence, uint32_t piece, const struct log_row *row,
    size_t len, uint8_t **at)
{
	uint8_t key[LOG_KEY_SIZE];
	void *room;
	int rc;

	log_key_put(key, log->channel, sequence, piece);
	rc = state_reserve(log->txn, log->table, key, sizeof key, sizeof *row + len, &room);
	if (rc != 0)
		return rc;
	memcpy(room, row, sizeof *row);
	*at = (uint8_t *)room + sizeof *row;
	return 0;
}

static void
log_advance(struct log_mark *mark, const struct log_row *row)
{
	mark->head += row->count;
	mark->bytes += row->bytes;
}

/* As many of the N messages as fit into one row; *USED of them. */
static int
log_append_row(const struct log *log, struct log_mark *mark, const uint8_t *schema_id,
    const struct log_message *messages, size_t n, struct log_row *row, size_t *used)
{
	size_t i, len = 0, bytes;
	uint8_t *at;
	int rc;

	row->count = 0;
	row->bytes = 0;
	for (i = 0; i < n; i++) {
		bytes = log_message_bytes(&messages[i]);
		if (len + bytes > LOG_ROOM)
			break;
		row->last = len;
		len += bytes;
	}
	row->count = (uint32_t)i;
	row->bytes = len;
	row->before = mark->bytes;
	if ((rc = log_reserve(log, mark->head + 1, 0, row, len, &at)) != 0)
		return rc;
	for (i = 0; i < row->count; i++) {
		at = log_put_head(at, &messages[i], mark->head + 1 + i, schema_id);
		if (messages[i].payload.len > 0)
			memcpy(at, messages[i].payload.data, messages[i].payload.len);
		at += messages[i].payload.len;
	}
	log_advance(mark, row);
	*used = row->count;
	return 0;
}

/* One message that is larger than a row. Its causal context may be as well. */
static int
log_append_large(const struct log *log, struct log_mark *mark, const uint8_t *schema_id,
    const struct log_message *message, struct log_row *row)
{
	size_t total = log_message_bytes(message), done, part, head;
	struct log_message bare = *message;
	struct frame_view sources[4];
	uint8_t fixed[LOG_MESSAGE_OVERHEAD], *at = NULL;
	uint32_t piece = 0;
	unsigned s = 0;
	int rc;

	/* The parts around the causal context are written as if it were empty, and set right. */
	bare.causal.len = 0;
	(void)log_put_head(fixed, &bare, mark->head + 1, schema_id);
	head = LOG_HEAD_SIZE + 4 + FRAME_SCHEMA_ID_SIZE + 4;
	log_put_u32(fixed + 6, (uint32_t)(total - FRAME_HEADER_SIZE));
	log_put_u32(fixed + LOG_HEAD_SIZE, (uint32_t)(total - LOG_HEAD_SIZE - 4));
	log_put_u32(fixed + head - 4, (uint32_t)message->causal.len);
	sources[0] = (struct frame_view){ fixed, head };
	sources[1] = message->causal;
	sources[2] = (struct frame_view){ fixed + head, 4 };
	sources[3] = message->payload;
	row->count = 1;
	row->bytes = total;
	row->last = 0;
	row->before = mark->bytes;
	row->is_piece = 0;
	for (done = 0; done < total; ) {
		size_t room = total - done < LOG_ROOM ? total - done : LOG_ROOM;

		if ((rc = log_reserve(log, mark->head + 1, piece++, row, room, &at)) != 0)
			return rc;
		done += room;
		while (room > 0) {
			while (sources[s].len == 0)
				s++;
			part = sources[s].len < room ? sources[s].len : room;
			memcpy(at, sources[s].data, part);
			sources[s].data += part;
			sources[s].len -= part;
			at += part;
			room -= part;
		}
		row->is_piece = 1;
	}
	row->is_piece = 0;
	log_advance(mark, row);
	return 0;
}

int
log_append(const struct log *log, struct log_mark *mark,
    const uint8_t schema_id[FRAME_SCHEMA_ID_SIZE], const struct log_message *messages, size_t n,
    int64_t now_ns)
{
	struct log_row row = {
		.version = LOG_VERSION, .time_ns = now_ns, .stamp = state_txn_number(log->txn)
	};
	size_t done = 0, used;
	int rc = 0;

	while (rc == 0 && done < n) {
		used = 1;
		if (log_message_bytes(&messages[done]) > LOG_ROOM)
			rc = log_append_large(log, mark, schema_id, &messages[done], &row);
		else
			rc = log_append_row(log, mark, schema_id, messages + done, n - done, &row,
			    &used);
		done += used;
	}
	return rc;
}

void
log_skip(struct log_mark *mark, const struct log_message *messages, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		mark->bytes += log_message_bytes(&messages[i]);
	mark->head += n;
	mark->first = mark->head + 1;
	mark->first_bytes = mark->bytes;
}

/* Bounds. */

static int
log_is_within(uint64_t sequence, uint64_t before, int64_t time_ns, const struct log_mark *mark,
    const struct log_bound *bound, int64_t now_ns)
{
	/* What the mark does not count yet is within any bound but that of its age. */
	return (bound->messages == 0 || sequence > mark->head ||
	    mark->head - sequence < bound->messages) &&
	    (bound->bytes == 0 || before >= mark->bytes ||
	    mark->bytes - before <= bound->bytes) &&
	    (bound->age_ns == 0 || now_ns - time_ns <= bound->age_ns);
}

int
log_is_kept(const struct log_entry *entry, const struct log_mark *mark,
    const struct log_bound *bound, int64_t now_ns)
{
	return log_is_within(entry->sequence, entry->before, entry->time_ns, mark, bound, now_ns);
}

/* Is the row, whose last message is SEQUENCE, of no use any more? */
static int
log_row_is_over(const struct log_row *row, uint64_t sequence, const struct log_mark *mark,
    const struct log_bound *bound, uint64_t consumed, int64_t now_ns)
{
	return (consumed != 0 && row->stamp <= consumed) ||
	    !log_is_within(sequence, row->before + row->last, row->time_ns, mark, bound, now_ns);
}

int
log_is_over(const struct log *log, const struct log_mark *mark, const struct log_bound *bound,
    uint64_t consumed, int64_t now_ns)
{
	uint8_t key[LOG_KEY_SIZE];
	struct state_view view;
	struct log_row row;
	int rc;

	if (mark->first > mark->head)
		return 0;
	log_key_put(key, log->channel, mark->first, 0);
	rc = state_get(log->txn, log->table, key, sizeof key, &view);
	if (rc == 0)
		rc = log_row_get(&view, &row);
	if (rc != 0)
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	return log_row_is_over(&row, mark->first + row.count - 1, mark, bound, consumed, now_ns);
}

int
log_trim(const struct log *log, struct log_mark *mark, const struct log_bound *bound,
    uint64_t consumed, int64_t now_ns, int limit)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	uint8_t start[LOG_KEY_SIZE];
	uint64_t last = 0;
	struct log_row row;
	int rc, n = 0;

	if (mark->first > mark->head)
		return 0;
	log_key_put(start, log->channel, mark->first, 0);
	if ((rc = state_cursor_open(log->txn, log->table, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	/* Not in the middle of a message: pieces go with their first row, whatever the limit. */
	while (rc == 0 && log_key_is_of(&key, log->channel)) {
		if ((rc = log_row_get(&view, &row)) != 0)
			break;
		if (!row.is_piece) {
			last = log_key_sequence(&key) + row.count - 1;
			if (n >= limit || !log_row_is_over(&row, last, mark, bound, consumed, now_ns))
				break;
			mark->first = last + 1;
			mark->first_bytes = row.before + row.bytes;
		}
		n++;
		if ((rc = state_cursor_del(cursor)) == 0)
			rc = state_seek(cursor, start, sizeof start, &key, &view);
	}
	state_cursor_close(cursor);
	return rc != 0 && rc != ERR_NOTFOUND ? rc : n;
}

/* Reading. */

static int
log_enter_row(struct log_reader *reader, const struct state_view *key,
    const struct state_view *view)
{
	struct log_row row;
	int rc = log_row_get(view, &row);

	if (rc != 0 || row.is_piece)
		return ERR_CORRUPT;
	reader->at = (const uint8_t *)view->data + sizeof row;
	reader->end = (const uint8_t *)view->data + view->len;
	reader->next = log_key_sequence(key);
	reader->before = row.before;
	reader->entry.time_ns = row.time_ns;
	reader->entry.stamp = row.stamp;
	reader->missing = 0;
	return 0;
}

int
log_open(struct log_reader *reader, const struct log *log, uint64_t sequence)
{
	struct state_view key, view;
	uint8_t start[LOG_KEY_SIZE];
	int rc;

	reader->log = *log;
	log_key_put(start, log->channel, sequence, 0);
	if ((rc = state_cursor_open(log->txn, log->table, &reader->cursor)) != 0)
		return rc;
	rc = state_seek_back(reader->cursor, start, sizeof start, &key, &view);
	if (rc == 0)
		rc = log_key_is_of(&key, log->channel) ? 0 : ERR_NOTFOUND;
	/* A piece: it is of the message before the one that is asked for, which is not there. */
	if (rc == 0 && log_get_u32((const uint8_t *)key.data + 12) != 0)
		rc = ERR_NOTFOUND;
	if (rc == 0)
		rc = log_enter_row(reader, &key, &view);
	/* Not beyond the row: the next one would have been found. */
	while (rc == 0 && (reader->at == reader->end || reader->next < sequence)) {
		if (reader->at == reader->end)
			rc = ERR_NOTFOUND;
		else
			rc = log_next(reader);
	}
	if (rc != 0)
		state_cursor_close(reader->cursor);
	return rc;
}

void
log_close(struct log_reader *reader)
{
	state_cursor_close(reader->cursor);
}

static int
log_next_row(struct log_reader *reader)
{
	struct state_view key, view;
	struct log_row row;
	int rc;

	do {
		if ((rc = state_next(reader->cursor, &key, &view)) != 0)
			return rc;
		if (!log_key_is_of(&key, reader->log.channel))
			return ERR_NOTFOUND;
		if ((rc = log_row_get(&view, &row)) != 0)
			return rc;
	} while (row.is_piece);
	return log_enter_row(reader, &key, &view);
}

int
log_next(struct log_reader *reader)
{
	struct log_entry *entry = &reader->entry;
	size_t left;
	int rc;

	if (reader->at == reader->end && (rc = log_next_row(reader)) != 0)
		return rc;
	left = (size_t)(reader->end - reader->at);
	if (left < LOG_HEAD_SIZE)
		return ERR_CORRUPT;
	entry->frame = reader->at;
	entry->len = FRAME_HEADER_SIZE + (size_t)log_get_u32(reader->at + 6);
	if (entry->len < LOG_MESSAGE_OVERHEAD)
		return ERR_CORRUPT;
	entry->here = entry->len < left ? entry->len : left;
	entry->sequence = reader->next++;
	entry->before = reader->before;
	reader->before += entry->len;
	reader->missing = entry->len - entry->here;
	reader->piece = 0;
	reader->at += entry->here;
	return 0;
}

int
log_next_piece(struct log_reader *reader, struct frame_view *piece)
{
	struct state_view key, view;
	struct log_row row;
	int rc;

	if (reader->missing == 0)
		return ERR_NOTFOUND;
	if ((rc = state_next(reader->cursor, &key, &view)) != 0)
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	if (!log_key_is_of(&key, reader->log.channel) || log_row_get(&view, &row) != 0 ||
	    !row.is_piece || log_key_sequence(&key) != reader->entry.sequence)
		return ERR_CORRUPT;
	piece->data = (const uint8_t *)view.data + sizeof row;
	piece->len = view.len - sizeof row;
	if (piece->len > reader->missing)
		return ERR_CORRUPT;
	reader->missing -= piece->len;
	return 0;
}

int
log_keeps(const struct log *log, uint64_t sequence, const struct log_mark *mark,
    const struct log_bound *bound, int64_t now_ns, int64_t *time_ns)
{
	struct log_reader reader;
	int rc = log_open(&reader, log, sequence);

	if (rc != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	rc = log_next(&reader);
	log_close(&reader);
	*time_ns = reader.entry.time_ns;
	return rc != 0 ? rc : log_is_kept(&reader.entry, mark, bound, now_ns);
}

/* The first row with a message that is kept; *SEQUENCE is its first one. ERR_NOTFOUND = there is none. */
static int
log_oldest_row(const struct log *log, const struct log_mark *mark, const struct log_bound *bound,
    int64_t now_ns, uint64_t *sequence)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	uint8_t start[LOG_KEY_SIZE];
	struct log_row row;
	int rc;

	log_key_put(start, log->channel, mark->first, 0);
	if ((rc = state_cursor_open(log->txn, log->table, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	while (rc == 0) {
		if (!log_key_is_of(&key, log->channel))
			rc = ERR_NOTFOUND;
		else if ((rc = log_row_get(&view, &row)) == 0) {
			*sequence = log_key_sequence(&key);
			if (!row.is_piece && !log_row_is_over(&row, *sequence + row.count - 1,
			    mark, bound, 0, now_ns))
				break;
			rc = state_next(cursor, &key, &view);
		}
	}
	state_cursor_close(cursor);
	return rc;
}

int
log_oldest(const struct log *log, const struct log_mark *mark, const struct log_bound *bound,
    int64_t now_ns, uint64_t *sequence)
{
	struct log_reader reader;
	uint64_t row;
	int rc;

	*sequence = mark->head + 1;
	if (mark->first > mark->head)
		return 0;
	/* Row by row, for nobody may have trimmed for long, then within one. A durable channel's mark is the
	 * state's, and its log may have been trimmed since: the first row is then a later one. */
	if ((rc = log_oldest_row(log, mark, bound, now_ns, &row)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	if ((rc = log_open(&reader, log, row)) != 0)
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	while ((rc = log_next(&reader)) == 0 && reader.entry.sequence <= mark->head)
		if (log_is_kept(&reader.entry, mark, bound, now_ns)) {
			*sequence = reader.entry.sequence;
			break;
		}
	log_close(&reader);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
