/*
 * Writing the dispatch record.
 *
 * A closed dispatch's rows are found again from its row in `closed`, which outlives them all: it
 * goes last, in the transaction in which they go. A row that does not read back, or that contradicts
 * the others, is removed when it is in the way, and nothing is removed because of what it says.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "state/history_write.h"

#define HISTORY_ANY_KEY		512	/* longer than LMDB's longest key */

#define HISTORY_CALLER_ENDED	"the caller's connection ended"
#define HISTORY_UNRECORDED	"how it ended could not be recorded"
#define HISTORY_DAEMON_ENDED	"the daemon ended"

/* Of `closed`, which has the largest fixed part, or `open`. */
#define HISTORY_ROW_MAX		(sizeof(struct history_closed) + HISTORY_WORKFLOW_MAX)

/* A row of `open`, copied out of the map. */
struct history_dispatch {
	uint8_t key[HISTORY_OPEN_KEY_SIZE];
	struct history_open row;
	uint8_t workflow_bytes[HISTORY_WORKFLOW_MAX];
	struct frame_view workflow;
};

/* What closes a dispatch, for its row in `closed`. */
struct history_end { int has_outcome; uint64_t ordinal, channel_hash; };

int
history_write_begin(struct history_writer *writer, struct state_txn *txn)
{
	int rc = history_meta_get(txn, &writer->meta);

	writer->txn = txn;
	writer->now_ns = clock_realtime_ns();
	if (rc != ERR_NOTFOUND)
		return rc;
	memset(&writer->meta, 0, sizeof writer->meta);
	writer->meta.version = HISTORY_META_VERSION;
	writer->meta.next_dispatch = writer->meta.next_close = 1;
	return 0;
}

int
history_write_end(struct history_writer *writer)
{
	return state_put(writer->txn, STORE_META, HISTORY_META_KEY, sizeof HISTORY_META_KEY - 1,
	    &writer->meta, sizeof writer->meta);
}

void
history_write_free(struct history_writer *writer)
{
	buf_free(&writer->scratch);
}

/* A row whose key most probably is the last one of TABLE. */
static int
history_put_last(struct history_writer *writer, enum state_table table, const void *key,
    size_t key_len, const void *row, size_t len)
{
	int rc = state_append(writer->txn, table, key, key_len, row, len);

	return rc == ERR_INVALID ? state_put(writer->txn, table, key, key_len, row, len) : rc;
}

/* SIZE fixed bytes and the workflow id, to ROW; the length of it. */
static size_t
history_join(uint8_t row[HISTORY_ROW_MAX], const void *fixed, size_t size,
    const struct frame_view *workflow)
{
	memcpy(row, fixed, size);
	memcpy(row + size, workflow->data, workflow->len);
	return size + workflow->len;
}

/* Copy a row of `open`. */
static int
history_take(struct history_dispatch *dispatch, const struct state_view *row)
{
	struct frame_view workflow;
	int rc = history_open_read(row, &dispatch->row, &workflow);

	if (rc != 0)
		return rc;
	memcpy(dispatch->workflow_bytes, workflow.data, workflow.len);
	dispatch->workflow.data = dispatch->workflow_bytes;
	dispatch->workflow.len = workflow.len;
	return 0;
}

/* Give STEP's dispatch its number and its place among those of its workflow. */
static int
history_open(struct history_writer *writer, const struct history_step *step,
    struct history_dispatch *dispatch)
{
	struct history_workflow_key parts = {
		step->workflow_id, HISTORY_DISPATCH, writer->meta.next_dispatch++, 0
	};
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX];

	memset(&dispatch->row, 0, sizeof dispatch->row);
	dispatch->row.version = HISTORY_OPEN_VERSION;
	dispatch->row.dispatch = parts.n;
	dispatch->workflow = step->workflow_id;
	return state_put(writer->txn, STORE_WORKFLOWS, key, history_workflow_key(key, &parts),
	    &writer->now_ns, sizeof writer->now_ns);
}

/* The dispatch of STEP, opened if it is not: its first steps may have been lost while the store could not be
 * written. *IS_STORED: it has a row in `open`. */
static int
history_find(struct history_writer *writer, const struct history_step *step,
    struct history_dispatch *dispatch, int *is_stored)
{
	struct state_view row;
	int rc;

	*is_stored = 0;
	history_open_key(dispatch->key, step->conn_id, step->request);
	if (step->flags & HISTORY_OPENS)	/* each has one first step */
		return history_open(writer, step, dispatch);
	rc = state_get(writer->txn, STORE_OPEN, dispatch->key, sizeof dispatch->key, &row);
	*is_stored = rc == 0;
	if (rc == 0)
		rc = history_take(dispatch, &row);
	/* What does not read back is written over. */
	return rc == ERR_NOTFOUND || rc == ERR_CORRUPT ? history_open(writer, step, dispatch) : rc;
}

static int
history_append(struct history_writer *writer, struct history_dispatch *dispatch,
    const void *image, size_t len)
{
	uint8_t key[HISTORY_STEP_KEY_SIZE];
	int is_first = dispatch->row.next_step == 0;

	if (!state_fits(writer->txn, len))
		return ERR_FULL;
	history_step_key(key, dispatch->row.dispatch, dispatch->row.next_step++);
	/* Later steps lie before those of the dispatches that were opened meanwhile. */
	return is_first ? history_put_last(writer, STORE_HISTORY, key, sizeof key, image, len) :
	    state_put(writer->txn, STORE_HISTORY, key, sizeof key, image, len);
}

static int
history_close(struct history_writer *writer, const struct history_dispatch *dispatch,
    int is_stored, const struct history_end *end)
{
	uint8_t bytes[HISTORY_ROW_MAX], key[8];
	struct history_closed row;
	int rc = 0;

	memset(&row, 0, sizeof row);
	row.version = HISTORY_CLOSED_VERSION;
	row.has_outcome = end->has_outcome != 0;
	row.dispatch = dispatch->row.dispatch;
	row.at_ns = writer->now_ns;
	row.ordinal = end->ordinal;
	row.channel_hash = end->channel_hash;
	if (is_stored)
		rc = state_del(writer->txn, STORE_OPEN, dispatch->key, sizeof dispatch->key);
	state_key_put(key, writer->meta.next_close++);
	return rc != 0 ? rc : history_put_last(writer, STORE_CLOSED, key, sizeof key, bytes,
	    history_join(bytes, &row, sizeof row, &dispatch->workflow));
}

/* Outcomes. */

/* The row at KEY without the entries of CHANNEL (NULL: of dispatch number DISPATCH), in the scratch
 * buffer. */
static int
history_outcomes_without(struct history_writer *writer, const uint8_t *key, size_t key_len,
    const struct frame_view *channel, uint64_t dispatch)
{
	struct history_outcome outcome;
	struct state_view row, entry;
	struct frame_view found;
	int rc, n = 0;

	buf_consume(&writer->scratch, buf_len(&writer->scratch));
	rc = state_get(writer->txn, STORE_WORKFLOWS, key, key_len, &row);
	for (; rc == 0 && n < HISTORY_OUTCOMES_MAX; n++) {
		entry = row;
		if ((rc = history_outcome_next(&row, &outcome, &found)) != 0)
			break;
		if (channel == NULL ? outcome.dispatch == dispatch :
		    found.len == channel->len && memcmp(found.data, channel->data, found.len) == 0)
			continue;
		rc = buf_append(&writer->scratch, entry.data, entry.len - row.len);
	}
	/* What does not read back is forgotten. */
	return rc == ERR_NOTFOUND || rc == ERR_CORRUPT ? 0 : rc;
}

static int
history_put_outcome(struct history_writer *writer, const struct history_step *step,
    const struct history_dispatch *dispatch, const struct history_end *end)
{
	struct history_workflow_key parts = {
		step->workflow_id, HISTORY_OUTCOME, end->ordinal, end->channel_hash
	};
	struct history_outcome outcome = {
		.version = HISTORY_OUTCOME_VERSION, .channel_len = (uint16_t)step->channel.len,
		.step = dispatch->row.next_step - 1, .dispatch = dispatch->row.dispatch,
		.at_ns = writer->now_ns
	};
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX];
	size_t len = history_workflow_key(key, &parts);
	struct buf row = { 0 };
	int rc;

	rc = history_outcomes_without(writer, key, len, &step->channel, 0);
	/* The newest first: the last ones of too many are cut off. */
	if (rc == 0)
		rc = buf_append(&row, &outcome, sizeof outcome);
	if (rc == 0)
		rc = buf_append(&row, step->channel.data, step->channel.len);
	if (rc == 0)
		rc = buf_append(&row, buf_head(&writer->scratch), buf_len(&writer->scratch));
	if (rc == 0)
		rc = state_put(writer->txn, STORE_WORKFLOWS, key, len, buf_head(&row),
		    buf_len(&row));
	buf_free(&row);
	return rc;
}

/* STEP ends its dispatch with an outcome: the first one that is final stands. */
static int
history_settle(struct history_writer *writer, const struct history_step *step,
    const struct history_dispatch *dispatch, struct history_end *end,
    enum history_recorded *recorded)
{
	struct history_outcome other;
	int rc;

	end->ordinal = step->ordinal;
	end->channel_hash = history_channel_hash(&step->channel);
	rc = history_where(writer->txn, &step->workflow_id, &step->channel, step->ordinal,
	    writer->keep_age_ns, &other);
	if (rc == 0) {
		*recorded = HISTORY_RECORDED_ELSEWHERE;
		return 0;
	}
	if (rc != ERR_NOTFOUND && rc != ERR_CORRUPT)
		return rc;
	end->has_outcome = 1;
	return history_put_outcome(writer, step, dispatch, end);
}

/* Steps. */

static int
history_is_final(const struct history_step *step)
{
	return (step->flags & HISTORY_CLOSES) && (step->flags & HISTORY_FINAL) &&
	    step->has_ordinal && step->channel.len <= UINT16_MAX;
}

int
history_write_step(struct history_writer *writer, const struct history_step *step,
    enum history_recorded *recorded)
{
	uint8_t bytes[HISTORY_ROW_MAX];
	struct history_dispatch dispatch;
	struct history_end end = { 0, 0, 0 };
	int rc, is_stored;

	*recorded = HISTORY_RECORDED;
	rc = history_find(writer, step, &dispatch, &is_stored);
	if (rc == 0)
		rc = history_append(writer, &dispatch, step->image.data, step->image.len);
	if (rc != 0)
		return rc;
	if (!(step->flags & HISTORY_CLOSES))
		return state_put(writer->txn, STORE_OPEN, dispatch.key, sizeof dispatch.key, bytes,
		    history_join(bytes, &dispatch.row, sizeof dispatch.row,
		    &dispatch.workflow));
	if (history_is_final(step))
		rc = history_settle(writer, step, &dispatch, &end, recorded);
	return rc != 0 ? rc : history_close(writer, &dispatch, is_stored, &end);
}

int
history_write_again(struct history_writer *writer, const struct history_step *step,
    enum history_recorded *recorded)
{
	struct history_outcome where;
	int rc;

	*recorded = HISTORY_RECORDED;
	if (!history_is_final(step))
		return 0;
	/* Its own or another's: either way it is the one to answer with. */
	rc = history_where(writer->txn, &step->workflow_id, &step->channel, step->ordinal,
	    writer->keep_age_ns, &where);
	if (rc == 0)
		*recorded = HISTORY_RECORDED_ELSEWHERE;
	return rc == ERR_NOTFOUND || rc == ERR_CORRUPT ? 0 : rc;
}

/* Closing for those who cannot do it any more. */

#define HISTORY_ENDED_KEY_SIZE	(sizeof HISTORY_ENDED_KEY - 1 + 8)

static void
history_ended_key(uint8_t key[HISTORY_ENDED_KEY_SIZE], uint64_t conn_id)
{
	memcpy(key, HISTORY_ENDED_KEY, sizeof HISTORY_ENDED_KEY - 1);
	state_key_put(key + sizeof HISTORY_ENDED_KEY - 1, conn_id);
}

int
history_write_ended(struct history_writer *writer, uint64_t conn_id)
{
	uint8_t key[HISTORY_ENDED_KEY_SIZE];

	history_ended_key(key, conn_id);
	return state_put(writer->txn, STORE_META, key, sizeof key, NULL, 0);
}

/* The first row of TABLE at or after START: its key to KEY, and the row. */
static int
history_first(struct history_writer *writer, enum state_table table, const void *start,
    size_t len, struct state_view *key, struct state_view *row)
{
	struct state_cursor *cursor;
	int rc = state_cursor_open(writer->txn, table, &cursor);

	if (rc != 0)
		return rc;
	rc = state_seek(cursor, start, len, key, row);
	state_cursor_close(cursor);
	return rc;
}

/* The closing step of DISPATCH, packed into the scratch buffer: what its first one said, and MESSAGE. */
static int
history_pack_closing(struct history_writer *writer, const struct history_dispatch *dispatch,
    const char *message)
{
	struct record_operations first, closing;
	uint8_t key[HISTORY_STEP_KEY_SIZE];
	struct state_view row;
	int rc;

	memset(&first, 0, sizeof first);
	history_step_key(key, dispatch->row.dispatch, 0);
	rc = state_get(writer->txn, STORE_HISTORY, key, sizeof key, &row);
	if (rc == 0)
		rc = record_unpack_operations(row.data, row.len, &first);
	if (rc != 0 && rc != ERR_NOTFOUND && rc != ERR_CORRUPT)
		return rc;
	memset(&closing, 0, sizeof closing);
	closing.n = 1;
	closing.list[0].kind = RECORD_CONVERSATION_CLOSED;
	closing.list[0].activity = RECORD_ACTIVITY_FAILED;
	closing.list[0].is_retry_eligible = 1;
	closing.at_ns = closing.list[0].at_ns = writer->now_ns;
	closing.has_ordinal = first.has_ordinal;
	closing.ordinal = first.ordinal;
	closing.conversation_id = first.conversation_id;
	closing.channel = first.channel;
	closing.message.data = (const uint8_t *)message;
	closing.message.len = strlen(message);
	buf_consume(&writer->scratch, buf_len(&writer->scratch));
	rc = record_pack_operations(&closing, &writer->scratch);
	record_free_operations(&first);
	return rc;
}

/* Close up to LIMIT open dispatches whose keys begin with the PREFIX_LEN bytes of PREFIX. */
static int
history_close_open(struct history_writer *writer, const uint8_t *prefix, size_t prefix_len,
    const char *message, int limit)
{
	static const struct history_end no_outcome;
	struct history_dispatch dispatch;
	struct state_view key, row;
	int rc = 0, n;

	for (n = 0; n < limit; n++) {
		rc = history_first(writer, STORE_OPEN, prefix, prefix_len > 0 ? prefix_len : 1,
		    &key, &row);
		if (rc != 0 || memcmp(key.data, prefix, prefix_len) != 0)
			break;
		if (key.len != HISTORY_OPEN_KEY_SIZE || history_take(&dispatch, &row) != 0) {
			uint8_t bad[HISTORY_ANY_KEY];

			memcpy(bad, key.data, key.len);
			rc = state_del(writer->txn, STORE_OPEN, bad, key.len);
		} else {
			memcpy(dispatch.key, key.data, key.len);
			rc = history_pack_closing(writer, &dispatch, message);
			if (rc == 0)
				rc = history_append(writer, &dispatch, buf_head(&writer->scratch),
				    buf_len(&writer->scratch));
			if (rc == 0)
				rc = history_close(writer, &dispatch, 1, &no_outcome);
		}
		if (rc != 0)
			return rc;
	}
	return rc == 0 || rc == ERR_NOTFOUND ? n : rc;
}

int
history_write_unrecorded(struct history_writer *writer, uint64_t conn_id, uint64_t request)
{
	uint8_t key[HISTORY_OPEN_KEY_SIZE];
	int rc;

	history_open_key(key, conn_id, request);
	rc = history_close_open(writer, key, sizeof key, HISTORY_UNRECORDED, 1);
	return rc < 0 ? rc : 0;
}

int
history_close_ended(struct history_writer *writer, int limit)
{
	const size_t prefix = sizeof HISTORY_ENDED_KEY - 1;
	uint8_t start[HISTORY_ENDED_KEY_SIZE], marker[HISTORY_ENDED_KEY_SIZE];
	struct state_view key, row;
	int rc, done = 0;

	history_ended_key(start, 0);
	while (done < limit) {
		rc = history_first(writer, STORE_META, start, sizeof start, &key, &row);
		if (rc == ERR_NOTFOUND || (rc == 0 && (key.len != sizeof marker ||
		    memcmp(key.data, start, prefix) != 0)))
			return done;
		if (rc != 0)
			return rc;
		memcpy(marker, key.data, sizeof marker);
		rc = history_close_open(writer, marker + prefix, 8, HISTORY_CALLER_ENDED,
		    limit - done);
		if (rc < 0)
			return rc;
		done += rc;
		if (done < limit &&
		    (rc = state_del(writer->txn, STORE_META, marker, sizeof marker)) != 0)
			return rc;
	}
	return done;
}

int
history_close_all(struct history_writer *writer, int limit)
{
	static const uint8_t start[1];

	return history_close_open(writer, start, 0, HISTORY_DAEMON_ENDED, limit);
}

/* Retention. */

/* Remove the steps of a dispatch. */
static int
history_del_steps(struct history_writer *writer, uint64_t dispatch)
{
	uint8_t start[HISTORY_STEP_KEY_SIZE];
	struct state_cursor *cursor;
	struct state_view key, row;
	uint64_t found;
	uint32_t step;
	int rc;

	history_step_key(start, dispatch, 0);
	if ((rc = state_cursor_open(writer->txn, STORE_HISTORY, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &row);
	while (rc == 0 && history_step_key_read(&key, &found, &step) == 0 && found == dispatch)
		if ((rc = state_cursor_del(cursor)) == 0)
			rc = state_next(cursor, &key, &row);
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

/* Remove a dispatch's outcome, unless another's has taken its place. */
static int
history_del_outcome(struct history_writer *writer, const struct frame_view *workflow,
    const struct history_closed *closed)
{
	struct history_workflow_key parts = {
		*workflow, HISTORY_OUTCOME, closed->ordinal, closed->channel_hash
	};
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX];
	size_t len = history_workflow_key(key, &parts);
	int rc = history_outcomes_without(writer, key, len, NULL, closed->dispatch);

	if (rc != 0)
		return rc;
	if (buf_len(&writer->scratch) > 0)
		return state_put(writer->txn, STORE_WORKFLOWS, key, len,
		    buf_head(&writer->scratch), buf_len(&writer->scratch));
	rc = state_del(writer->txn, STORE_WORKFLOWS, key, len);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

static int
history_forget(struct history_writer *writer, const struct frame_view *workflow,
    const struct history_closed *closed)
{
	struct history_workflow_key parts = { *workflow, HISTORY_DISPATCH, closed->dispatch, 0 };
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX];
	int rc;

	/* Only if the workflow knows it as its own: else the row is wrong. */
	rc = state_del(writer->txn, STORE_WORKFLOWS, key, history_workflow_key(key, &parts));
	if (rc != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	rc = history_del_steps(writer, closed->dispatch);
	if (rc == 0 && closed->has_outcome)
		rc = history_del_outcome(writer, workflow, closed);
	return rc;
}

/* By how many the closed dispatches are more than what is kept. */
static uint64_t
history_excess(struct history_writer *writer)
{
	uint64_t n = state_count(writer->txn, STORE_CLOSED);

	return writer->keep > 0 && n > writer->keep ? n - writer->keep : 0;
}

/* 1 if the oldest closed dispatch is to be kept; *NEXT_NS gets when that will have changed. */
static int
history_is_kept(struct history_writer *writer, const struct history_closed *closed, int is_lazy,
    int64_t *next_ns)
{
	int64_t slack_ns = is_lazy ? HISTORY_TRIM_SLACK * CLOCK_MS : 0;

	if (history_is_old(closed->at_ns, writer->now_ns - slack_ns, writer->keep_age_ns))
		return 0;
	*next_ns = INT64_MAX;
	if (history_excess(writer) > (is_lazy ? HISTORY_TRIM_SLACK : 0))
		return 0;
	if (writer->keep_age_ns > 0 && closed->at_ns < INT64_MAX - writer->keep_age_ns)
		*next_ns = closed->at_ns + writer->keep_age_ns + 1;
	if (history_excess(writer) > 0)
		*next_ns = writer->now_ns;
	return 1;
}

int
history_trim(struct history_writer *writer, int limit, int is_lazy, int64_t *next_ns)
{
	static const uint8_t start[8];
	struct state_view key, row;
	struct history_closed closed;
	struct frame_view workflow;
	uint8_t bytes[HISTORY_WORKFLOW_MAX], number[HISTORY_ANY_KEY];
	size_t number_len;
	int rc, n;

	*next_ns = INT64_MAX;
	for (n = 0; n < limit; n++) {
		rc = history_first(writer, STORE_CLOSED, start, sizeof start, &key, &row);
		if (rc != 0)
			return rc == ERR_NOTFOUND ? n : rc;
		memcpy(number, key.data, key.len);
		number_len = key.len;
		if (history_closed_read(&row, &closed, &workflow) == 0) {
			if (history_is_kept(writer, &closed, is_lazy && n == 0, next_ns))
				return n;
			memcpy(bytes, workflow.data, workflow.len);
			workflow.data = bytes;
			if ((rc = history_forget(writer, &workflow, &closed)) != 0)
				return rc;
		}
		if ((rc = state_del(writer->txn, STORE_CLOSED, number, number_len)) != 0)
			return rc;
	}
	*next_ns = writer->now_ns;
	return n;
}
