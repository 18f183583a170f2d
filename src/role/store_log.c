/*
 * The channels' logs in the store: where each stands, what it keeps, and the heads that the state
 * shows.
 *
 * This process is the only one that writes them, so it keeps the marks in memory; they are as its
 * last commit left them. The state's row of a durable channel follows in the transaction that
 * answers the publishers. A process that begins takes the marks from the store; if its predecessor
 * died between the two commits, the state's rows follow with its first answers.
 *
 * What is beyond a channel's bound is not there for readers (state/log.h), so it is removed for
 * many messages at a time: each removal touches pages that an append alone would not.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/store.h"
#include "state/channels.h"
#include "state/keys.h"
#include "state/store_channels.h"

/* Rows and keys of one channel that one commit removes at most, and when it is done: so long
 * after an append, or at once when so much was appended since. */
#define STORE_LOG_ROWS		512
#define STORE_LOG_KEYS		2048
#define STORE_LOG_KEEP_NS	(50 * CLOCK_MS)
#define STORE_LOG_KEEP_BYTES	((uint64_t)4 << 20)
/* What only grows old is removed with more of its kind: behind its time by this part of it. */
#define STORE_LOG_SLACK_DIVISOR	16
#define STORE_LOG_SLACK_MIN_NS	(20 * CLOCK_MS)
#define STORE_LOG_SLACK_MAX_NS	(5 * CLOCK_SECOND)
/* A channel whose rows do not read back is not looked at again before. */
#define STORE_LOG_BAD_NS	(60 * CLOCK_SECOND)

/* The beginning. */

static int
store_log_enter(struct store *s, struct state_txn *txn)
{
	struct store_channels_row row;
	struct store_channel *channel;
	uint32_t i;
	int rc;

	for (i = 0; i < s->log.n_channels; i++) {
		channel = &s->log.channels[i];
		if (!channel->conf->durable && !channel->conf->is_by_store)
			continue;
		rc = s->is_readonly ? store_channels_get(txn, channel->conf->name, &row) :
		    store_channels_enter(txn, channel->conf->name, &row);
		if (rc == ERR_NOTFOUND)
			continue;	/* nothing of it is stored */
		if (rc != 0)
			return rc;
		channel->number = row.number;
		channel->mark = row.mark;
		channel->keep_at_ns = 0;	/* retention may have become shorter */
		s->log.keep_at_ns = 0;
		if (!channel->conf->durable || channel->is_moved)
			continue;
		channel->is_moved = 1;
		s->log.moved[s->log.n_moved++] = i;
	}
	return 0;
}

/* The state knows nothing yet of what the store has: from now on it does. In a state that has
 * been told heads move with answers only. */
static int
store_log_introduce(struct store *s, struct state_txn *txn)
{
	struct channels_row row;
	uint32_t i, number;
	int rc;

	for (i = 0; i < s->log.n_moved; i++) {
		number = s->log.moved[i];
		if ((rc = channels_get(txn, number, &row)) != 0)
			return rc;
		if (row.store_number != 0)
			continue;
		row.store_number = s->log.channels[number].number;
		row.mark = s->log.channels[number].mark;
		if ((rc = channels_put(txn, number, &row)) != 0)
			return rc;
	}
	return 0;
}

static int
store_log_within(struct store *s, struct state *state, int is_readonly,
    int (*apply)(struct store *s, struct state_txn *txn))
{
	struct state_txn *txn;
	int rc;

	rc = is_readonly ? state_begin_read(state, &txn) : state_begin_write(state, &txn);
	if (rc != 0)
		return rc;
	if ((rc = apply(s, txn)) == 0 && !is_readonly)
		return state_commit(txn);
	state_abort(txn);
	return rc;
}

static int
store_log_make(struct store *s)
{
	const struct conf *conf = s->context->conf;
	struct store_log *log = &s->log;
	uint32_t i;

	log->n_channels = conf->n_channels;
	log->channels = calloc(log->n_channels, sizeof *log->channels);
	log->changed = calloc(log->n_channels, sizeof *log->changed);
	log->moved = calloc(log->n_channels, sizeof *log->moved);
	if (log->channels == NULL || log->changed == NULL || log->moved == NULL)
		return ERR_NOMEM;
	for (i = 0; i < log->n_channels; i++) {
		log->channels[i].conf = &conf->channels[i];
		log->channels[i].keep_at_ns = INT64_MAX;
	}
	return 0;
}

int
store_log_open(struct store *s)
{
	int rc;

	s->log.keep_at_ns = INT64_MAX;
	if (s->context->conf->n_channels == 0)
		return 0;
	if ((s->log.channels == NULL && (rc = store_log_make(s)) != 0) ||
	    (rc = store_log_within(s, s->store, s->is_readonly, store_log_enter)) != 0)
		return rc;
	return store_log_within(s, s->state, 0, store_log_introduce);
}

void
store_log_free(struct store *s)
{
	free(s->log.channels);
	free(s->log.changed);
	free(s->log.moved);
}

/* In a transaction. */

static struct store_channel *
store_log_change(struct store *s, uint32_t number)
{
	struct store_channel *channel = &s->log.channels[number];

	if (!channel->is_changed) {
		channel->is_changed = 1;
		channel->next = channel->mark;
		s->log.changed[s->log.n_changed++] = number;
	}
	return channel;
}

static void
store_log_keep_by(struct store *s, struct store_channel *channel, int64_t at_ns)
{
	if (at_ns < channel->keep_at_ns)
		channel->keep_at_ns = at_ns;
	if (at_ns < s->log.keep_at_ns)
		s->log.keep_at_ns = at_ns;
}

int
store_log_append(struct store *s, struct state_txn *txn, uint32_t number,
    const struct log_message *messages, size_t n)
{
	struct store_channel *channel = store_log_change(s, number);
	const struct log log = { txn, STORE_MESSAGES, channel->number };
	int rc;

	rc = log_append(&log, &channel->next, channel->conf->schema_id, messages, n,
	    s->publish.now_ns);
	if (rc == 0)
		store_log_keep_by(s, channel,
		    channel->next.bytes - channel->trimmed >= STORE_LOG_KEEP_BYTES ? 0 :
		    clock_now_ns() + STORE_LOG_KEEP_NS);
	return rc;
}

/* Retention. */

static int64_t
store_log_slack(int64_t period_ns)
{
	int64_t slack_ns = period_ns / STORE_LOG_SLACK_DIVISOR;

	if (slack_ns < STORE_LOG_SLACK_MIN_NS)
		return STORE_LOG_SLACK_MIN_NS;
	return slack_ns < STORE_LOG_SLACK_MAX_NS ? slack_ns : STORE_LOG_SLACK_MAX_NS;
}

/* The real time at which the oldest row will be too old; INT64_MAX: never. */
static int
store_log_old_at(const struct log *log, const struct log_mark *mark,
    const struct conf_channel *conf, int64_t *at_ns)
{
	struct log_reader reader;
	int rc;

	*at_ns = INT64_MAX;
	if (conf->keep_age_ns == 0 || mark->first > mark->head)
		return 0;
	if ((rc = log_open(&reader, log, mark->first)) != 0)
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	*at_ns = reader.entry.time_ns + conf->keep_age_ns + store_log_slack(conf->keep_age_ns);
	log_close(&reader);
	return 0;
}

/* Returns how much was removed; *AT_NS (real time) when there will be more. */
static int
store_log_keep_messages(struct store *s, struct state_txn *txn, uint32_t number, int64_t now,
    int64_t *at_ns)
{
	struct store_channel *channel = &s->log.channels[number];
	const struct log log = { txn, STORE_MESSAGES, channel->number };
	const struct log_bound bound = channels_bound(channel->conf);
	struct log_mark mark = channel->is_changed ? channel->next : channel->mark;
	int rc, n;

	*at_ns = INT64_MAX;
	if (!channel->conf->durable)
		return 0;
	if ((n = log_trim(&log, &mark, &bound, 0, now, STORE_LOG_ROWS)) < 0)
		return n;
	if (n > 0)
		store_log_change(s, number)->next = mark;
	channel->trimmed = mark.bytes;
	if ((rc = store_log_old_at(&log, &mark, channel->conf, at_ns)) != 0)
		return rc;
	if (n >= STORE_LOG_ROWS)
		*at_ns = now;
	return n;
}

static int
store_log_keep_keys(const struct store_channel *channel, struct state_txn *txn, int64_t now,
    int64_t *at_ns)
{
	const struct keys keys = { txn, KEYS_IN_STORE, channel->number };
	int n = keys_trim(&keys, now, STORE_LOG_KEYS, at_ns);

	if (n >= 0 && *at_ns != INT64_MAX)
		*at_ns += n >= STORE_LOG_KEYS ? 0 : store_log_slack(channel->conf->dedup_window_ns);
	return n;
}

static int
store_log_keep_channel(struct store *s, struct state_txn *txn, uint32_t number, unsigned *n_done)
{
	struct store_channel *channel = &s->log.channels[number];
	int64_t now = clock_realtime_ns(), messages_ns, keys_ns = INT64_MAX, next_ns;
	int n, n_keys = 0;

	n = store_log_keep_messages(s, txn, number, now, &messages_ns);
	if (n >= 0)
		n_keys = store_log_keep_keys(channel, txn, now, &keys_ns);
	if (n == ERR_CORRUPT || n_keys == ERR_CORRUPT) {
		/* It must not keep the others from being written. */
		log_errorx("channel \"%s\": what is stored does not read back, and is not removed",
		    channel->conf->name);
		channel->keep_at_ns = clock_now_ns() + STORE_LOG_BAD_NS;
		return 0;
	}
	if (n < 0 || n_keys < 0)
		return n < 0 ? n : n_keys;
	*n_done += (unsigned)(n + n_keys);
	next_ns = messages_ns < keys_ns ? messages_ns : keys_ns;
	channel->keep_at_ns = INT64_MAX;
	if (next_ns != INT64_MAX)
		channel->keep_at_ns = clock_now_ns() + (next_ns > now ? next_ns - now : 0);
	return 0;
}

int
store_log_keep(struct store *s, struct state_txn *txn, unsigned *n_done)
{
	int64_t now = clock_now_ns(), next_ns = INT64_MAX;
	struct store_channel *channel;
	uint32_t i;
	int rc;

	if (now < s->log.keep_at_ns)
		return 0;
	for (i = 0; i < s->log.n_channels; i++) {
		channel = &s->log.channels[i];
		if (now >= channel->keep_at_ns &&
		    (rc = store_log_keep_channel(s, txn, i, n_done)) != 0)
			return rc;
		if (channel->keep_at_ns < next_ns)
			next_ns = channel->keep_at_ns;
	}
	s->log.keep_at_ns = next_ns;
	return 0;
}

/* The end of a transaction. */

int
store_log_put(struct store *s, struct state_txn *txn)
{
	struct store_channels_row row = { .version = STORE_CHANNELS_VERSION };
	const struct store_channel *channel;
	uint32_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < s->log.n_changed; i++) {
		channel = &s->log.channels[s->log.changed[i]];
		row.number = channel->number;
		row.mark = channel->next;
		rc = store_channels_put(txn, channel->conf->name, &row);
	}
	return rc;
}

void
store_log_committed(struct store *s)
{
	struct store_channel *channel;
	uint32_t i, number;

	for (i = 0; i < s->log.n_changed; i++) {
		number = s->log.changed[i];
		channel = &s->log.channels[number];
		channel->mark = channel->next;
		channel->is_changed = 0;
		if (!channel->is_moved)
			s->log.moved[s->log.n_moved++] = number;
		channel->is_moved = 1;
	}
	s->log.n_changed = 0;
}

void
store_log_aborted(struct store *s)
{
	uint32_t i;

	for (i = 0; i < s->log.n_changed; i++)
		s->log.channels[s->log.changed[i]].is_changed = 0;
	s->log.n_changed = 0;
	/* What it would have removed is there. */
	for (i = 0; i < s->log.n_channels; i++)
		if (s->log.channels[i].number != 0)
			store_log_keep_by(s, &s->log.channels[i], 0);
}

/* In the state. */

int
store_log_tell(struct store *s, struct state_txn *txn)
{
	const struct store_channel *channel;
	struct channels_row row;
	uint32_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < s->log.n_moved; i++) {
		channel = &s->log.channels[s->log.moved[i]];
		if ((rc = channels_get(txn, s->log.moved[i], &row)) != 0)
			break;
		if (memcmp(&row.mark, &channel->mark, sizeof row.mark) == 0)
			continue;
		row.mark = channel->mark;
		rc = channels_put(txn, s->log.moved[i], &row);
	}
	return rc;
}

void
store_log_told(struct store *s)
{
	uint32_t i;

	for (i = 0; i < s->log.n_moved; i++)
		s->log.channels[s->log.moved[i]].is_moved = 0;
	s->log.n_moved = 0;
}
