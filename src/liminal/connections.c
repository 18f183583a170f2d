/*
 * liminal connections: who is connected, and whether the process behind it lives.
 */
#include "liminal/inspect.h"

static int
connections_copy(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct connections_item *item = arg;

	(void)row;
	if (key->len != 8)
		return ERR_CORRUPT;
	item->conn_id = state_key_get(key->data);
	return connections_get(txn, item->conn_id, &item->row);
}

void
connections_show(struct show *show, const struct connections_item *item)
{
	enum look_process process = look_child(&show->look, item->row.pid);
	struct listing *listing = &show->listing;

	listing_number(listing, "conn_id", item->conn_id);
	listing_number(listing, "pid", (uint64_t)item->row.pid);
	listing_string(listing, "peer", item->row.peer);
	listing_string(listing, "role", item->row.is_worker ? "worker" : "client");
	listing_time(listing, "since", item->row.since_ns);
	listing_string(listing, "state", look_process_names[process]);
	listing_bool(listing, "live", process != LOOK_ENDED);
}

static int
connections_show_row(void *arg, void *item)
{
	struct show *show = arg;

	listing_begin_row(&show->listing, NULL);
	connections_show(show, item);
	listing_end_row(&show->listing);
	return 0;
}

int
command_connections(struct cli *cli)
{
	static const struct walk walk = {
		.table = STATE_CONNECTIONS, .item_size = sizeof(struct connections_item),
		.copy = connections_copy, .show = connections_show_row, .flush = show_flush,
	};
	static const char *const columns[] = {
		"conn_id", "pid", "role", "state", "since", "peer"
	};

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	return show_table(cli, &walk, columns, sizeof(columns) / sizeof(columns[0]));
}
