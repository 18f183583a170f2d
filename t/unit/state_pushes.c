/* pushes: slots of outstanding pushes, from their writing to their end. */
#include "unit/state_fixture.h"

static void
pushes_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	txn = write_begin();
	add_connections(txn, 1, 12);
	commit(txn);
}

static void
pushes_teardown(void)
{
	struct state_txn *txn = write_begin();

	for (uint64_t id = 1; id <= 12; id++)
		cr_assert(le(int, 0, end_connection(txn, id, "over")));
	commit(txn);
	for (int i = 0; i < STATE_N_TABLES; i++)
		if (i != STATE_COUNTERS)
			cr_assert(eq(u64, rows_in((enum state_table)i), 0));
	fixture_fini();
}

TestSuite(state_pushes, .init = pushes_setup, .fini = pushes_teardown);

static uint64_t
push(struct state_txn *txn, uint64_t target, struct pushes_row row, const char *text)
{
	struct frame_view payload = act_view(text);
	uint64_t correlation;

	if (row.kind == 0)
		row.kind = PUSHES_DIRECT;
	row.awaiter_slot = (uint32_t)row.awaiter;
	cr_assert(eq(int, pushes_add(txn, target, (uint32_t)target, &row, &payload,
	    &correlation), 0));
	return correlation;
}

Test(state_pushes, a_slot_holds_what_was_pushed_until_it_is_resolved)
{
	struct frame_view payload;
	struct pushes_row row = { .awaiter = 1, .request = 42, .flags = PUSHES_TYPED,
	    .pool = 7, .since_ns = 99 };
	struct state_txn *txn = write_begin();
	uint64_t correlation = push(txn, 2, row, "hello");

	commit(txn);
	txn = write_begin();
	memset(&row, 0, sizeof row);
	cr_assert(eq(int, pushes_get(txn, 2, correlation, &row, &payload), 0));
	cr_assert(eq(sz, payload.len, 5));
	cr_assert(eq(int, memcmp(payload.data, "hello", 5), 0));
	cr_assert(eq(u64, row.awaiter, 1));
	cr_assert(eq(u32, row.awaiter_slot, 1));
	cr_assert(eq(u64, row.request, 42));
	cr_assert(eq(u8, row.flags, PUSHES_TYPED));
	cr_assert(eq(u8, row.kind, PUSHES_DIRECT));
	cr_assert(eq(u64, row.pool, 7));
	cr_assert(eq(i64, row.since_ns, 99));
	/* another connection's reply, and an unknown one */
	cr_assert(eq(int, pushes_get(txn, 3, correlation, &row, NULL), ERR_NOTFOUND));
	cr_assert(eq(int, pushes_get(txn, 2, correlation + 1, &row, NULL), ERR_NOTFOUND));
	cr_assert(eq(int, pushes_del(txn, 3, correlation), ERR_NOTFOUND));
	cr_assert(eq(int, pushes_del(txn, 2, correlation), 0));
	/* resolved once */
	cr_assert(eq(int, pushes_get(txn, 2, correlation, &row, NULL), ERR_NOTFOUND));
	cr_assert(eq(int, pushes_del(txn, 2, correlation), ERR_NOTFOUND));
	commit(txn);
}

Test(state_pushes, correlation_ids_grow_and_are_never_given_twice)
{
	struct pushes_row row = { .awaiter = 1 };
	struct state_txn *txn;
	uint64_t last = 0, id;

	for (int i = 0; i < 30; i++) {
		txn = write_begin();
		for (uint64_t target = 2; target <= 12; target += 5) {
			id = push(txn, target, row, "");
			cr_assert(lt(u64, last, id));
			last = id;
		}
		commit(txn);
	}
	cr_assert(eq(uint, pushed_to(7)->n, 30));
}

Test(state_pushes, a_target_reads_its_new_slots_in_order)
{
	struct pushes_row row = { .awaiter = 1 };
	struct pushed *pushed = calloc(1, sizeof *pushed);
	struct state_txn *txn = write_begin();
	uint64_t middle;
	uint32_t count;

	row.request = 1;
	push(txn, 5, row, "one");
	push(txn, 6, row, "another's");
	row.request = 2;
	push(txn, 5, row, "two");
	commit(txn);
	txn = read_begin();
	middle = state_snapshot_id(txn);
	state_abort(txn);
	txn = write_begin();
	push(txn, 4, row, "another's");
	row.request = 3;
	push(txn, 5, row, "three");
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "1 2 3"), 0));
	txn = read_begin();
	cr_assert(eq(int, pushes_each_of(txn, 5, middle, pushed_collect, pushed), 0));
	cr_assert(eq(uint, pushed->n, 1));
	cr_assert(eq(int, strcmp(pushed->list[0].text, "three"), 0));
	/* beyond a slot is without it */
	pushed->n = 0;
	cr_assert(eq(int, pushes_each_of(txn, 5, pushed->list[0].correlation, pushed_collect,
	    pushed), 0));
	cr_assert(eq(uint, pushed->n, 0));
	cr_assert(eq(int, pushes_each(txn, pushed_collect, pushed), 0));
	cr_assert(eq(uint, pushed->n, 5));
	cr_assert(eq(int, pushes_count(txn, 5, 100, &count), 0));
	cr_assert(eq(u32, count, 3));
	cr_assert(eq(int, pushes_count(txn, 5, 2, &count), 0));
	cr_assert(eq(u32, count, 2));
	cr_assert(eq(int, pushes_count(txn, 9, 2, &count), 0));
	cr_assert(eq(u32, count, 0));
	state_abort(txn);
	free(pushed);
}

Test(state_pushes, large_payloads_are_kept_whole)
{
	const size_t len = 16 << 20;
	struct pushes_row row = { .kind = PUSHES_DIRECT, .awaiter = 1 };
	struct state_txn *txn = write_begin();
	uint8_t *body = malloc(len);
	struct frame_view payload = { body, len };
	uint64_t correlation;
	size_t i;

	for (i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 2654435761U >> 11);
	cr_assert(eq(int, pushes_add(txn, 2, 2, &row, &payload, &correlation), 0));
	commit(txn);
	txn = read_begin();
	cr_assert(eq(int, pushes_get(txn, 2, correlation, &row, &payload), 0));
	cr_assert(eq(sz, payload.len, len));
	cr_assert(eq(int, memcmp(payload.data, body, len), 0));
	state_abort(txn);
	free(body);
}

/* The end of a target: every awaiter learns which of its requests that was, who the worker was
 * and why, each once. */
Test(state_pushes, the_targets_end_is_told_to_each_awaiter)
{
	struct state_txn *txn = write_begin();
	const struct events *events;

	add_worker(txn, 5, (struct worker_spec){ .max = 9, .identity = "builder" });
	cr_assert(eq(int, (int)place(txn, 1, 11, (struct request_spec){ 0 }).outcome,
	    ACT_PUSHED));
	place(txn, 2, 21, (struct request_spec){ 0 });
	place(txn, 1, 12, (struct request_spec){ 0 });
	push(txn, 5, (struct pushes_row){ .awaiter = 1, .request = 13 }, "direct");
	push(txn, 5, (struct pushes_row){ .awaiter = 3, .request = 31,
	    .flags = PUSHES_NO_REPLY }, "nobody waits");
	push(txn, 6, (struct pushes_row){ .awaiter = 1, .request = 14 }, "another target");
	commit(txn);
	txn = write_begin();
	cr_assert(eq(int, pushes_cancel_all(txn, 5, "killed by signal 9 (SIGKILL)"), 0));
	cr_assert(eq(int, workers_unregister(txn, 5), 0));
	commit(txn);

	events = inbox_of(1);
	cr_assert(eq(uint, events->n, 3));
	cr_assert(eq(u32, events->list[0].kind, INBOX_WORKER_EXITED));
	cr_assert(eq(u64, events->list[0].request, 11));
	cr_assert(eq(u64, events->list[0].conn_id, 5));
	cr_assert(eq(u32, events->list[0].len, 38));
	cr_assert(eq(int, memcmp(events->list[0].text,
	    "builder#5\0killed by signal 9 (SIGKILL)", 39), 0));
	cr_assert(eq(u32, events->list[1].kind, INBOX_WORKER_EXITED));
	cr_assert(eq(u64, events->list[1].request, 12));
	cr_assert(eq(u32, events->list[2].kind, INBOX_DISCONNECTED));
	cr_assert(eq(u64, events->list[2].request, 13));
	cr_assert(eq(int, strcmp(events->list[2].text, "killed by signal 9 (SIGKILL)"), 0));
	cr_assert(eq(uint, inbox_of(2)->n, 1));
	cr_assert(eq(u64, inbox_of(2)->list[0].request, 21));
	cr_assert(eq(uint, inbox_of(3)->n, 0));
	cr_assert(eq(uint, pushed_to(5)->n, 0));
	cr_assert(eq(uint, pushed_to(6)->n, 1));
	/* again: nothing more */
	txn = write_begin();
	cr_assert(eq(int, pushes_cancel_all(txn, 5, "again"), 0));
	commit(txn);
	cr_assert(eq(uint, inbox_of(1)->n, 3));
}

Test(state_pushes, a_reason_that_is_too_long_is_cut_and_a_worker_without_identity_has_a_name)
{
	static char reason[2000];
	struct state_txn *txn = write_begin();
	const struct events *events;

	memset(reason, 'r', sizeof reason - 1);
	add_worker(txn, 5, (struct worker_spec){ .identity = "" });
	place(txn, 1, 11, (struct request_spec){ 0 });
	end(txn, 5, reason);
	commit(txn);
	events = inbox_of(1);
	cr_assert(eq(uint, events->n, 1));
	cr_assert(eq(int, strcmp(events->list[0].text, "#5"), 0));
	cr_assert(lt(u32, 200, events->list[0].len));
	cr_assert(lt(u32, events->list[0].len, 2000));
	cr_assert(eq(chr, events->list[0].text[3], 'r'));
}

static int
tally(void *arg, const struct inbox_entry *entry, const void *body)
{
	(void)body;
	cr_assert(eq(u32, entry->kind, INBOX_DISCONNECTED));
	++*(unsigned *)arg;
	return 0;
}

/* Ten thousand outstanding ones to one target and their end in one transaction. */
Test(state_pushes, any_number_may_be_outstanding)
{
	struct state_txn *txn = write_begin();
	struct pushes_row row = { 0 };
	uint32_t count;
	unsigned rows, n = 0;

	for (uint64_t i = 0; i < 10000; i++) {
		row.awaiter = i % 4 + 1;
		row.request = i;
		push(txn, 8, row, "some payload that takes a few bytes");
	}
	commit(txn);
	txn = read_begin();
	cr_assert(eq(int, pushes_count(txn, 8, UINT32_MAX, &count), 0));
	cr_assert(eq(u32, count, 10000));
	state_abort(txn);
	txn = write_begin();
	end(txn, 8, "gone");
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_PUSHES), 0));
	txn = read_begin();
	for (uint64_t id = 1; id <= 4; id++)
		cr_assert(eq(int, inbox_read(txn, id, 0, &rows, tally, &n), 0));
	state_abort(txn);
	cr_assert(eq(uint, n, 10000));
}
