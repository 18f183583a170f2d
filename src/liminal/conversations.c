/*
 * liminal conversations: which are open, and who answers them.
 */
#include "liminal/inspect.h"

struct conversations_item {
	uint64_t conn_id, id;
	struct record_conversation record;	/* owned */
};

static int
conversations_copy(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct conversations_item *item = arg;

	(void)txn;
	if (key->len != 16)
		return ERR_CORRUPT;
	item->conn_id = state_key_get(key->data);
	item->id = state_key_get((const uint8_t *)key->data + 8);
	return record_unpack_conversation(row->data, row->len, &item->record);
}

static void
conversations_release(void *arg)
{
	struct conversations_item *item = arg;

	record_free_conversation(&item->record);
}

static int
conversations_show(void *arg, void *row)
{
	const struct conversations_item *item = row;
	struct show *show = arg;
	struct listing *listing = &show->listing;

	listing_begin_row(listing, NULL);
	listing_number(listing, "conn_id", item->conn_id);
	listing_number(listing, "conversation_id", item->id);
	listing_text(listing, "subject", item->record.subject.data, item->record.subject.len);
	listing_string(listing, "phase", record_phase_names[item->record.phase]);
	listing_string(listing, "participant",
	    record_participant_names[item->record.participant]);
	if (item->record.participant == RECORD_CONNECTION)
		listing_number(listing, "target", item->record.target);
	else
		listing_absent(listing, "target");
	if (item->record.participant == RECORD_RESPONDER)
		listing_number(listing, "pid", item->record.target);
	else
		listing_absent(listing, "pid");
	listing_text(listing, "uuid", item->record.uuid.data, item->record.uuid.len);
	listing_time(listing, "since", item->record.since_ns);
	listing_end_row(listing);
	return 0;
}

int
command_conversations(struct cli *cli)
{
	static const struct walk walk = {
		.table = STATE_CONVERSATIONS, .item_size = sizeof(struct conversations_item),
		.copy = conversations_copy, .show = conversations_show,
		.release = conversations_release, .flush = show_flush,
	};
	static const char *const columns[] = {
		"conn_id", "conversation_id", "phase", "participant", "pid", "since", "subject"
	};

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	return show_table(cli, &walk, columns, sizeof(columns) / sizeof(columns[0]));
}
