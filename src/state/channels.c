/* The channels table, and the counters that all channels share. */
#include <string.h>

#include "state/channels.h"

#define CHANNELS_MESSAGE_KEY		"next/message"
#define CHANNELS_SUBSCRIPTION_KEY	"next/subscription"

static void
channels_key(uint8_t key[4], uint32_t number)
{
	number = __builtin_bswap32(number);
	memcpy(key, &number, 4);
}

static int
channels_read(const struct state_view *view, struct channels_row *row)
{
	if (view->len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	if (row->version != CHANNELS_VERSION)
		return ERR_CORRUPT;
	row->name[sizeof row->name - 1] = '\0';
	return 0;
}

int
channels_get(struct state_txn *txn, uint32_t number, struct channels_row *row)
{
	struct state_view view;
	uint8_t key[4];
	int rc;

	channels_key(key, number);
	rc = state_get(txn, STATE_CHANNELS, key, sizeof key, &view);
	return rc != 0 ? rc : channels_read(&view, row);
}

int
channels_put(struct state_txn *txn, uint32_t number, const struct channels_row *row)
{
	uint8_t key[4];

	channels_key(key, number);
	return state_put(txn, STATE_CHANNELS, key, sizeof key, row, sizeof *row);
}

int
channels_each(struct state_txn *txn,
    int (*visit)(void *arg, uint32_t number, const struct channels_row *row), void *arg)
{
	struct state_cursor *cursor;
	struct state_view key, view;
	struct channels_row row;
	uint32_t number;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_CHANNELS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		rc = key.len == sizeof number ? channels_read(&view, &row) : ERR_CORRUPT;
		if (rc != 0)
			break;
		memcpy(&number, key.data, sizeof number);
		if ((rc = visit(arg, __builtin_bswap32(number), &row)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
channels_trim(struct state_txn *txn, uint32_t number, const struct log_bound *bound,
    uint64_t consumed, int64_t now_ns, int limit)
{
	const struct log log = { txn, STATE_MESSAGES, number };
	struct channels_row row;
	int n, rc;

	if ((rc = channels_get(txn, number, &row)) != 0)
		return rc;
	n = log_trim(&log, &row.mark, bound, consumed, now_ns, limit);
	if (n <= 0)
		return n;
	rc = channels_put(txn, number, &row);
	return rc != 0 ? rc : n;
}

/* The next one of some ids lies under KEY; no row: 1. */
static int
channels_take_ids(struct state_txn *txn, const char *key, size_t key_len, uint64_t n,
    uint64_t *first)
{
	struct state_view view;
	uint64_t next = 1;
	int rc;

	rc = state_get(txn, STATE_COUNTERS, key, key_len, &view);
	if (rc == 0 && view.len != sizeof next)
		rc = ERR_CORRUPT;
	if (rc == 0)
		memcpy(&next, view.data, sizeof next);
	else if (rc != ERR_NOTFOUND)
		return rc;
	*first = next;
	next += n;
	return state_put(txn, STATE_COUNTERS, key, key_len, &next, sizeof next);
}

int
channels_message_ids(struct state_txn *txn, uint64_t n, uint64_t *first)
{
	return channels_take_ids(txn, CHANNELS_MESSAGE_KEY, sizeof CHANNELS_MESSAGE_KEY - 1, n,
	    first);
}

int
channels_subscription_id(struct state_txn *txn, uint64_t *id)
{
	return channels_take_ids(txn, CHANNELS_SUBSCRIPTION_KEY,
	    sizeof CHANNELS_SUBSCRIPTION_KEY - 1, 1, id);
}

static int
channels_create_rows(struct state_txn *txn, const struct conf *conf)
{
	struct channels_row row;
	unsigned i;
	int rc = 0;

	for (i = 0; rc == 0 && i < conf->n_channels; i++) {
		memset(&row, 0, sizeof row);
		row.version = CHANNELS_VERSION;
		row.is_durable = conf->channels[i].durable;
		row.mark.first = 1;
		row.bound = channels_bound(&conf->channels[i]);
		/* The configuration takes no longer name. */
		strncpy(row.name, conf->channels[i].name, sizeof row.name - 1);
		rc = channels_put(txn, i, &row);
	}
	return rc;
}

int
channels_create(const char *runtime_dir, const struct conf *conf, struct err *err)
{
	struct state_txn *txn;
	struct state *state;
	int rc;

	if ((rc = state_open(&state, runtime_dir, NULL, err)) != 0)
		return rc;
	if ((rc = state_begin_write(state, &txn)) == 0) {
		if ((rc = channels_create_rows(txn, conf)) == 0)
			rc = state_commit(txn);
		else
			state_abort(txn);
	}
	if (rc != 0)
		err_set(err, rc, "cannot write the channels to the state in %s: %s", runtime_dir,
		    state_error_text(state));
	state_close(state);
	return rc;
}
