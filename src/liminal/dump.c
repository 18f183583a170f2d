/*
 * liminal dump: the rows of one table or of all, decoded, row by row as they are stored.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "liminal/dump.h"

struct dump {
	struct look look;
	struct listing listing;
	enum state_table table;
	int64_t now_ns;
};

static const struct dump_table *
dump_of(enum state_table table)
{
	const struct dump_table *found = table < STATE_N_TABLES ? &dump_tables[table] :
	    &dump_store_tables[table - STATE_N_TABLES];

	return found->copy != NULL ? found : &dump_channel_tables[table];
}

static int
dump_show(void *arg, void *row)
{
	const struct dump_item *item = row;
	struct dump *dump = arg;
	struct listing *listing = &dump->listing;

	listing_begin_row(listing, state_table_names[dump->table]);
	if (item->reading == DUMP_DECODED) {
		dump_of(dump->table)->show(listing, item, dump->now_ns);
	} else {
		listing_hex(listing, "key", item->key, item->key_len);
		listing_number(listing, "row_bytes", item->row_len);
		if (item->reading == DUMP_UNREADABLE) {
			listing_bool(listing, "unreadable", 1);
			dump->look.n_unreadable++;
		}
	}
	listing_end_row(listing);
	return 0;
}

static void
dump_release(void *row)
{
	struct dump_item *item = row;

	if (item->release != NULL)
		item->release(item);
	buf_free(&item->text);
}

static int
dump_flush(void *arg)
{
	struct dump *dump = arg;

	return listing_flush(&dump->listing);
}

static int
dump_table(struct dump *dump, enum state_table table)
{
	struct walk walk = {
		.table = table, .item_size = sizeof(struct dump_item),
		.copy = dump_of(table)->copy, .show = dump_show, .release = dump_release,
		.flush = dump_flush,
	};

	dump->table = table;
	return walk_table(&dump->look, &walk, dump);
}

/* The number of the table NAME, one from FIRST to LAST; -1: there is none. */
static int
dump_find(const char *name, int first, int last)
{
	for (int i = first; i <= last; i++)
		if (strcmp(name, state_table_names[i]) == 0)
			return i;
	return -1;
}

static int
dump_usage(struct cli *cli, const char *name, int first, int last)
{
	char names[256] = "";
	size_t used = 0;

	for (int i = first; i <= last && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, " %s",
		    state_table_names[i]);
	cli_complain(cli, "no table \"%s\"; there are%s", name, names);
	return CLI_USAGE;
}

int
command_dump(struct cli *cli)
{
	static const struct option longs[] = {
		{ "persist-dir", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	struct dump dump = { .now_ns = clock_now_ns() };
	int first = 0, last = STATE_N_TABLES - 1, found, is_store = 0, r = 0;
	char **arguments;

	while (cli_next_option(cli, "p:", longs) == 'p') {
		cli->dir = optarg;
		is_store = 1;
	}
	if (is_store) {
		first = STATE_N_TABLES;
		last = STORE_TABLES_END - 1;
	}
	arguments = cli_arguments(cli, 0, 1);
	if (arguments[0] != NULL) {
		if ((found = dump_find(arguments[0], first, last)) < 0)
			return dump_usage(cli, arguments[0], first, last);
		first = last = found;
	}
	if ((is_store ? look_open_store(&dump.look, cli) : look_open(&dump.look, cli)) != 0)
		return CLI_FAILED;
	listing_open(&dump.listing, cli, NULL, 0);
	for (int i = first; i <= last && r == 0; i++)
		r = dump_table(&dump, (enum state_table)i);
	if (r == 0)
		r = listing_close(&dump.listing);
	else
		listing_free(&dump.listing);
	return look_close(&dump.look, r == 0 ? CLI_DONE : CLI_FAILED);
}
