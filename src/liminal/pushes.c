/*
 * liminal pushes: what somebody has and has not answered.
 */
#include "liminal/inspect.h"
#include "state/pushes.h"

struct pushes_item {
	uint64_t target, correlation;
	struct pushes_row row;
};

static int
pushes_copy(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	struct pushes_item *item = arg;

	(void)row;
	if (key->len != 16)
		return ERR_CORRUPT;
	item->target = state_key_get(key->data);
	item->correlation = state_key_get((const uint8_t *)key->data + 8);
	return pushes_get(txn, item->target, item->correlation, &item->row, NULL);
}

static int
pushes_show(void *arg, void *row)
{
	const struct pushes_item *item = row;
	struct show *show = arg;
	struct listing *listing = &show->listing;

	listing_begin_row(listing, NULL);
	listing_number(listing, "correlation_id", item->correlation);
	listing_number(listing, "target", item->target);
	if (item->row.flags & PUSHES_NO_REPLY)
		listing_absent(listing, "awaiter");
	else
		listing_number(listing, "awaiter", item->row.awaiter);
	listing_age(listing, "age_ms", item->row.since_ns, show->now_ns);
	listing_string(listing, "kind", item->row.kind == PUSHES_JOB ? "job" : "direct");
	listing_end_row(listing);
	return 0;
}

int
command_pushes(struct cli *cli)
{
	static const struct walk walk = {
		.table = STATE_PUSHES, .item_size = sizeof(struct pushes_item),
		.copy = pushes_copy, .show = pushes_show, .flush = show_flush,
	};
	static const char *const columns[] = {
		"correlation_id", "target", "awaiter", "age_ms", "kind"
	};

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	return show_table(cli, &walk, columns, sizeof(columns) / sizeof(columns[0]));
}
