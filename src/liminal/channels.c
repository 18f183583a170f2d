/*
 * liminal channels: what is configured, how much of it is kept, and who listens.
 */
#include <string.h>

#include "base/clock.h"
#include "liminal/inspect.h"
#include "state/channels.h"

struct channels_item { struct channels_row row; uint64_t messages; };

/* How many messages a reader that came now would find. A durable channel's log is in the store, which
 * is not looked at: what its publishers were told of is counted, up to its bound of messages. */
static int
channels_count(struct state_txn *txn, uint32_t number, struct channels_item *item)
{
	const struct log log = { txn, STATE_MESSAGES, number };
	const struct channels_row *row = &item->row;
	uint64_t oldest = row->mark.first;
	int rc = 0;

	if (!row->is_durable)
		rc = log_oldest(&log, &row->mark, &row->bound, clock_realtime_ns(), &oldest);
	if (oldest == 0 || oldest > row->mark.head + 1)
		return ERR_CORRUPT;
	item->messages = row->mark.head + 1 - oldest;
	if (row->bound.messages > 0 && item->messages > row->bound.messages)
		item->messages = row->bound.messages;
	return rc;
}

static int
channels_copy(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	struct channels_item *item = arg;
	uint32_t number;
	int rc;

	(void)row;
	if (key->len != sizeof(number))
		return ERR_CORRUPT;
	memcpy(&number, key->data, sizeof(number));
	number = __builtin_bswap32(number);
	rc = channels_get(txn, number, &item->row);
	return rc != 0 ? rc : channels_count(txn, number, item);
}

static int
channels_show_row(void *arg, void *row)
{
	const struct channels_item *item = row;
	struct show *show = arg;
	struct listing *listing = &show->listing;

	listing_begin_row(listing, NULL);
	listing_string(listing, "channel", item->row.name);
	listing_bool(listing, "durable", item->row.is_durable);
	listing_number(listing, "messages", item->messages);
	listing_number(listing, "subscriptions", item->row.n_subscriptions);
	listing_number(listing, "head", item->row.mark.head);
	listing_end_row(listing);
	return 0;
}

int
command_channels(struct cli *cli)
{
	static const struct walk walk = {
		.table = STATE_CHANNELS, .item_size = sizeof(struct channels_item),
		.copy = channels_copy, .show = channels_show_row, .flush = show_flush,
	};
	static const char *const columns[] = {
		"channel", "durable", "messages", "subscriptions", "head"
	};

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	return show_table(cli, &walk, columns, sizeof(columns) / sizeof(columns[0]));
}
