/*
 * liminal history: what the record in the store says about one workflow, or which workflows it
 * knows.
 *
 * It asks the daemon nothing, and reads in short transactions: the pages that a reader sees are not
 * used again, so a pager at the other end of the pipe must not hold one. Of one dispatch at a
 * time, people's lines are gathered: its head line says how it ended.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "liminal/history.h"

#define HISTORY_LAST_MAX	65536	/* of -n; eight bytes each */

/* ---- one dispatch ---- */

static int
history_copy_step(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct history_item *item = arg;

	(void)txn;
	if (history_step_key_read(key, &item->dispatch, &item->step) != 0)
		return ERR_CORRUPT;
	return record_unpack_operations(row->data, row->len, &item->operations);
}

static void
history_release_step(void *arg)
{
	struct history_item *item = arg;

	record_free_operations(&item->operations);
}

static int
history_show_step(void *arg, void *item)
{
	struct history *history = arg;

	history->n_steps++;
	return history->look.cli->json ? history_json_show(history, item) :
	    history_text_show(history, item);
}

static int
history_show_dispatch(struct history *history, uint64_t dispatch)
{
	uint8_t from[HISTORY_STEP_KEY_SIZE];
	const struct walk walk = {
		.table = STORE_HISTORY, .item_size = sizeof(struct history_item),
		.copy = history_copy_step, .show = history_show_step,
		.release = history_release_step, .from = from,
		.from_len = sizeof(dispatch), .prefix_len = sizeof(dispatch),
	};

	history_step_key(from, dispatch, 0);
	return walk_table(&history->look, &walk, history);
}

/* ---- the dispatches of one workflow ---- */

static int
history_copy_dispatch(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *dispatch)
{
	struct history_workflow_key parts;

	(void)txn, (void)row;
	if (history_workflow_key_read(key, &parts) != 0)
		return ERR_CORRUPT;
	memcpy(dispatch, &parts.n, sizeof(parts.n));
	return 0;
}

static int
history_show_next(void *arg, void *dispatch)
{
	return history_show_dispatch(arg, *(const uint64_t *)dispatch);
}

static int
history_flush(void *arg)
{
	return history_text_flush(arg);
}

/* The numbers of the last dispatches, a ring. */
struct history_last { uint64_t *numbers; size_t size, n; };

static int
history_note_dispatch(void *arg, void *dispatch)
{
	struct history_last *last = arg;

	last->numbers[last->n++ % last->size] = *(const uint64_t *)dispatch;
	return 0;
}

/* *BEFORE gets the number of the one before the last COUNT, or 0 if there are no more. 0 or -1. */
static int
history_find_last(struct history *history, const struct walk *dispatches, size_t count,
    uint64_t *before)
{
	struct history_last last = { .size = count + 1 };
	struct walk walk = *dispatches;
	int r;

	walk.show = history_note_dispatch;
	walk.flush = NULL;
	if ((last.numbers = calloc(last.size, sizeof(last.numbers[0]))) == NULL) {
		cli_complain(history->look.cli, "out of memory");
		return -1;
	}
	r = walk_table(&history->look, &walk, &last);
	*before = last.n > count ? last.numbers[last.n % last.size] : 0;
	free(last.numbers);
	return r;
}

static int
history_show_workflow(struct history *history, const struct frame_view *workflow, size_t count)
{
	struct history_workflow_key parts = { *workflow, HISTORY_DISPATCH, 0, 0 };
	uint8_t from[HISTORY_WORKFLOW_KEY_MAX];
	struct walk walk = {
		.table = STORE_WORKFLOWS, .item_size = sizeof(uint64_t),
		.copy = history_copy_dispatch, .show = history_show_next,
		.flush = history_flush, .from = from,
	};
	int r = 0;

	/* Without its number, the key stands before those of all dispatches. */
	walk.from_len = walk.prefix_len = history_workflow_key(from, &parts) - sizeof(parts.n);
	if (count > 0) {
		if ((r = history_find_last(history, &walk, count, &parts.n)) != 0)
			return r;
		if (parts.n > 0)
			walk.from_len = history_workflow_key(from, &parts);
	}
	r = walk_table(&history->look, &walk, history);
	return r == 0 ? history_text_end(history) : r;
}

/* ---- the workflows ---- */

struct history_workflow {
	size_t len;
	int64_t at_ns;			/* of one of its dispatches */
	uint8_t id[HISTORY_WORKFLOW_MAX];
};

struct history_list {
	struct listing listing;
	struct history_workflow current;
	uint64_t n_dispatches;
	int64_t first_ns;
};

static int
history_copy_workflow(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *arg)
{
	struct history_workflow *item = arg;
	struct history_workflow_key parts;

	(void)txn;
	if (history_workflow_key_read(key, &parts) != 0)
		return ERR_CORRUPT;
	if (parts.kind != HISTORY_DISPATCH)
		return WALK_SKIP;
	if (row->len != sizeof(item->at_ns))
		return ERR_CORRUPT;
	memcpy(&item->at_ns, row->data, row->len);
	memcpy(item->id, parts.workflow.data, parts.workflow.len);
	item->len = parts.workflow.len;
	return 0;
}

static void
history_end_workflow(struct history_list *list)
{
	struct listing *listing = &list->listing;

	if (list->n_dispatches == 0)
		return;
	listing_begin_row(listing, NULL);
	listing_text(listing, "workflow_id", list->current.id, list->current.len);
	listing_number(listing, "dispatches", list->n_dispatches);
	listing_time(listing, "first", list->first_ns);
	listing_time(listing, "last", list->current.at_ns);
	listing_end_row(listing);
	list->n_dispatches = 0;
}

static int
history_show_listed(void *arg, void *row)
{
	const struct history_workflow *item = row;
	struct history_list *list = arg;

	if (item->len != list->current.len ||
	    memcmp(item->id, list->current.id, item->len) != 0) {
		history_end_workflow(list);
		list->first_ns = item->at_ns;
	}
	list->current = *item;
	list->n_dispatches++;
	return 0;
}

static int
history_flush_list(void *arg)
{
	struct history_list *list = arg;

	return listing_flush(&list->listing);
}

static int
history_list(struct look *look)
{
	static const char *const columns[] = { "dispatches", "first", "last", "workflow_id" };
	static const struct walk walk = {
		.table = STORE_WORKFLOWS, .item_size = sizeof(struct history_workflow),
		.copy = history_copy_workflow, .show = history_show_listed,
		.flush = history_flush_list,
	};
	struct history_list list = { 0 };
	int r;

	listing_open(&list.listing, look->cli, columns, sizeof(columns) / sizeof(columns[0]));
	r = walk_table(look, &walk, &list);
	if (r != 0) {
		listing_free(&list.listing);
		return r;
	}
	history_end_workflow(&list);
	return listing_close(&list.listing);
}

/* ---- the subcommand ---- */

static int
history_run(struct look *look, const char *workflow, size_t count)
{
	struct frame_view id = { (const uint8_t *)workflow, workflow ? strlen(workflow) : 0 };
	struct history history = { .look = *look, .workflow = id };
	char shown[512];
	int r;

	if (workflow == NULL)
		return history_list(look);
	r = id.len == 0 || id.len > HISTORY_WORKFLOW_MAX ? 0 :
	    history_show_workflow(&history, &id, count);
	history_text_free(&history);
	*look = history.look;
	if (r == 0 && history.n_steps == 0) {
		cli_complain(look->cli, "no record of workflow \"%s\"",
		    log_vis(shown, sizeof(shown), id.data, id.len));
		r = -1;
	}
	return r;
}

int
command_history(struct cli *cli)
{
	static const struct option longs[] = {
		{ "last", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	struct look look;
	char **arguments;
	size_t count = 0;

	while (cli_next_option(cli, "n:", longs) == 'n')
		count = (size_t)cli_number(cli, optarg, 1, HISTORY_LAST_MAX, "number");
	arguments = cli_arguments(cli, 0, 1);
	if (arguments[0] == NULL && count > 0) {
		cli_complain(cli, "--last (-n) needs a WORKFLOW_ID");
		return cli_usage(cli);
	}
	if (look_open_store(&look, cli) != 0)
		return CLI_FAILED;
	return look_close(&look, history_run(&look, arguments[0], count) == 0 ? CLI_DONE :
	    CLI_FAILED);
}
