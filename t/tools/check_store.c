/*
 * check-store: verifies every rule that must hold in the dispatch record between any two
 * transactions: each dispatch is open or closed, its steps are there without a gap and read back,
 * its workflow knows it, and what is said to be an outcome is one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/history_rows.h"
#include "state/store.h"
#include "tools/check_channels.h"
#include "tools/check_store.h"

#define SHOWN	50

struct known {
	uint64_t dispatch, workflow_hash;
	uint32_t next_step;		/* open ones */
	uint32_t n_steps;		/* found */
	int is_open, has_outcome, is_listed, has_end;
};

static struct known *known;
static size_t n_known, size_known;
static struct history_meta meta;
static struct state_txn *txn;
static int violations;

static void __attribute__((format(printf, 1, 2)))
violation(const char *fmt, ...)
{
	va_list ap;

	if (++violations > SHOWN)
		return;		/* one cause can have a hundred thousand */
	fputs("store: ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static void
each_row(enum state_table table,
    void (*visit)(const struct state_view *key, const struct state_view *row))
{
	struct state_cursor *cursor;
	struct state_view key, row;
	int rc;

	if ((rc = state_cursor_open(txn, table, &cursor)) != 0) {
		violation("%s cannot be read: %d", state_table_names[table], rc);
		return;
	}
	for (rc = state_next(cursor, &key, &row); rc == 0; rc = state_next(cursor, &key, &row))
		visit(&key, &row);
	if (rc != ERR_NOTFOUND)
		violation("%s: the walk ends with %d", state_table_names[table], rc);
	state_cursor_close(cursor);
}

static struct known *
learn(uint64_t dispatch, const struct frame_view *workflow)
{
	struct known *more, *one;

	if (n_known == size_known) {
		size_known = size_known ? size_known * 2 : 1024;
		if ((more = realloc(known, size_known * sizeof *more)) == NULL)
			abort();
		known = more;
	}
	one = &known[n_known++];
	memset(one, 0, sizeof *one);
	one->dispatch = dispatch;
	one->workflow_hash = history_channel_hash(workflow);
	if (dispatch == 0 || dispatch >= meta.next_dispatch)
		violation("dispatch %llu: the next one has number %llu",
		    (unsigned long long)dispatch, (unsigned long long)meta.next_dispatch);
	return one;
}

static int
compare(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->dispatch < y->dispatch ? -1 : x->dispatch > y->dispatch;
}

static struct known *
find(uint64_t dispatch)
{
	struct known key = { .dispatch = dispatch };

	return n_known == 0 ? NULL : bsearch(&key, known, n_known, sizeof key, compare);
}

static void
visit_open(const struct state_view *key, const struct state_view *row)
{
	struct history_open open;
	struct frame_view workflow;
	struct known *one;

	if (key->len != HISTORY_OPEN_KEY_SIZE || history_open_read(row, &open, &workflow) != 0) {
		violation("a row of open does not read back");
		return;
	}
	one = learn(open.dispatch, &workflow);
	one->is_open = 1;
	one->next_step = open.next_step;
}

static void
visit_closed(const struct state_view *key, const struct state_view *row)
{
	struct history_closed closed;
	struct frame_view workflow;

	if (key->len != 8 || history_closed_read(row, &closed, &workflow) != 0) {
		violation("a row of closed does not read back");
		return;
	}
	if (state_key_get(key->data) >= meta.next_close)
		violation("close %llu: the next one has number %llu",
		    (unsigned long long)state_key_get(key->data),
		    (unsigned long long)meta.next_close);
	learn(closed.dispatch, &workflow)->has_outcome = closed.has_outcome;
}

static void
visit_step(const struct state_view *key, const struct state_view *row)
{
	struct record_operations operations;
	struct known *one;
	uint64_t dispatch;
	uint32_t step, i;

	if (history_step_key_read(key, &dispatch, &step) != 0) {
		violation("a key of history does not read back");
		return;
	}
	if ((one = find(dispatch)) == NULL) {
		violation("step %llu.%u is neither of an open nor of a closed dispatch",
		    (unsigned long long)dispatch, step);
		return;
	}
	if (step != one->n_steps++)
		violation("step %llu.%u comes as number %u", (unsigned long long)dispatch, step,
		    one->n_steps - 1);
	if (one->has_end)
		violation("step %llu.%u comes behind the end", (unsigned long long)dispatch,
		    step);
	if (record_unpack_operations(row->data, row->len, &operations) != 0) {
		violation("step %llu.%u does not read back", (unsigned long long)dispatch, step);
		return;
	}
	for (i = 0; i < operations.n; i++)
		one->has_end |= operations.list[i].kind == RECORD_CONVERSATION_CLOSED;
	record_free_operations(&operations);
}

static void
check_outcome(const struct history_workflow_key *parts, const struct history_outcome *outcome,
    const struct frame_view *channel)
{
	const struct known *one = find(outcome->dispatch);

	if (history_channel_hash(channel) != parts->channel_hash)
		violation("the outcome of dispatch %llu stands under another channel",
		    (unsigned long long)outcome->dispatch);
	if (one == NULL || one->is_open || !one->has_outcome)
		violation("there is an outcome of dispatch %llu, which has none",
		    (unsigned long long)outcome->dispatch);
	else if (one->workflow_hash != history_channel_hash(&parts->workflow))
		violation("the outcome of dispatch %llu stands under another workflow",
		    (unsigned long long)outcome->dispatch);
	else if (outcome->step + 1 != one->n_steps)
		violation("the outcome of dispatch %llu is step %u of %u",
		    (unsigned long long)outcome->dispatch, outcome->step, one->n_steps);
}

static void
visit_workflow(const struct state_view *key, const struct state_view *row)
{
	struct history_workflow_key parts;
	struct history_outcome outcome;
	struct state_view left = *row;
	struct frame_view channel;
	struct known *one;
	int rc;

	if (history_workflow_key_read(key, &parts) != 0) {
		violation("a key of workflows does not read back");
		return;
	}
	if (parts.kind == HISTORY_OUTCOME) {
		while ((rc = history_outcome_next(&left, &outcome, &channel)) == 0)
			check_outcome(&parts, &outcome, &channel);
		if (rc != ERR_NOTFOUND || row->len == 0)
			violation("a row of outcomes does not read back");
		return;
	}
	one = find(parts.n);
	if (one == NULL || one->workflow_hash != history_channel_hash(&parts.workflow))
		violation("a workflow has dispatch %llu, which is not its",
		    (unsigned long long)parts.n);
	else
		one->is_listed = 1;
}

static void
check_dispatches(void)
{
	const struct known *one;
	size_t i;

	for (i = 0; i < n_known; i++) {
		one = &known[i];
		if (i > 0 && one->dispatch == known[i - 1].dispatch)
			violation("dispatch %llu is open or closed twice",
			    (unsigned long long)one->dispatch);
		if (!one->is_listed)
			violation("dispatch %llu is none of its workflow's",
			    (unsigned long long)one->dispatch);
		if (one->n_steps == 0)
			violation("dispatch %llu has no steps",
			    (unsigned long long)one->dispatch);
		if (one->is_open && one->next_step != one->n_steps)
			violation("dispatch %llu: step %u is next, %u are there",
			    (unsigned long long)one->dispatch, one->next_step, one->n_steps);
		if (one->is_open == one->has_end)
			violation("dispatch %llu is %s by its row and not by its steps",
			    (unsigned long long)one->dispatch, one->is_open ? "open" : "closed");
	}
}

int
check_store(const char *persist_dir)
{
	struct state *store;
	struct err err;
	int rc;

	if (store_open_readonly(&store, persist_dir, &err) != 0) {
		fprintf(stderr, "check-state: %s\n", err.text);
		return -1;
	}
	if (state_begin_read(store, &txn) != 0) {
		fprintf(stderr, "check-state: %s\n", state_error_text(store));
		state_close(store);
		return -1;
	}
	rc = history_meta_get(txn, &meta);
	if (rc != 0 && rc != ERR_NOTFOUND)
		violation("meta does not read back");
	each_row(STORE_OPEN, visit_open);
	each_row(STORE_CLOSED, visit_closed);
	if (n_known > 0)
		qsort(known, n_known, sizeof *known, compare);
	each_row(STORE_HISTORY, visit_step);
	each_row(STORE_WORKFLOWS, visit_workflow);
	check_dispatches();
	check_store_channels(txn, violation);
	state_abort(txn);
	state_close(store);
	free(known);
	return violations;
}
