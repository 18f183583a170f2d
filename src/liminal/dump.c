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

static int
dump_show(void *arg, void *row)
{
	const struct dump_item *item = row;
	struct dump *dump = arg;
	struct listing *listing = &dump->listing;

	listing_begin_row(listing, state_table_names[dump->table]);
	if (item->reading == DUMP_DECODED) {
		dump_tables[dump->table].show(listing, item, dump->now_ns);
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
		.copy = dump_tables[table].copy, .show = dump_show, .release = dump_release,
		.flush = dump_flush,
	};

	dump->table = table;
	return walk_table(&dump->look, &walk, dump);
}

/* The number of the table NAME, or STATE_N_TABLES. */
static int
dump_find(const char *name)
{
	int i;

	for (i = 0; i < STATE_N_TABLES; i++)
		if (strcmp(name, state_table_names[i]) == 0)
			break;
	return i;
}

static int
dump_usage(struct cli *cli, const char *name)
{
	char names[256] = "";
	size_t used = 0;

	for (int i = 0; i < STATE_N_TABLES && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, " %s",
		    state_table_names[i]);
	cli_complain(cli, "no table \"%s\"; there are%s", name, names);
	return CLI_USAGE;
}

int
command_dump(struct cli *cli)
{
	struct dump dump = { .now_ns = clock_now_ns() };
	int first = 0, last = STATE_N_TABLES - 1, r = 0;
	char **arguments;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	arguments = cli_arguments(cli, 0, 1);
	if (arguments[0] != NULL) {
		first = last = dump_find(arguments[0]);
		if (first == STATE_N_TABLES)
			return dump_usage(cli, arguments[0]);
	}
	if (look_open(&dump.look, cli) != 0)
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
