/* history: the dispatch record as its writer writes it and its readers read it. */
#include "unit/store_fixture.h"

static int is_spoilt;	/* on purpose */

static void
checked_fini(void)
{
	int rules;

	state_close(store_env);
	store_env = NULL;
	rules = is_spoilt ? 0 : store_check();
	store_fini();
	fixture_must_be_kept(rules);
}

TestSuite(history, .init = store_init, .fini = checked_fini);

static void
has_story(const char *workflow, const char *expected)
{
	const char *found = story(workflow);

	cr_assert(strcmp(found, expected) == 0, "%s: \"%s\", not \"%s\"", workflow, found,
	    expected);
}

static void
has_outcome(const char *workflow, uint64_t ordinal, const char *expected)
{
	const char *found = outcome(workflow, ordinal);

	if (expected == NULL)
		cr_assert(found == NULL, "%s has an outcome: %s", workflow, found);
	else
		cr_assert(found != NULL && strcmp(found, expected) == 0, "%s: %s, not %s",
		    workflow, found == NULL ? "nothing" : found, expected);
}

/* One whole dispatch, in a transaction of its own. */
static enum history_recorded
dispatch(uint64_t request, const char *workflow, uint64_t ordinal, const char *result)
{
	struct state_txn *txn = store_begin();
	enum history_recorded recorded;

	apply((struct step_spec) { .conn_id = 1, .request = request, .flags = OPENS,
	    .workflow = workflow, .ordinal = ordinal });
	recorded = apply((struct step_spec) { .conn_id = 1, .request = request, .flags = ENDS,
	    .workflow = workflow, .ordinal = ordinal, .result = result });
	store_commit(txn);
	return recorded;
}

static int
trim(int limit, int is_lazy)
{
	struct state_txn *txn = store_begin();
	int64_t next_ns;
	int n = history_trim(&writer, limit, is_lazy, &next_ns);

	cr_assert(le(int, 0, n));
	store_commit(txn);
	return n;
}

/* Steps on their way. */

Test(history, a_step_comes_back_as_it_was_packed)
{
	struct step_spec spec = { .conn_id = 7, .request = 9, .flags = ENDS, .ordinal = 5,
	    .result = "r" };
	struct buf body = { 0 };
	struct history_step step;
	size_t len;

	cr_assert(eq(int, step_body(&spec, &body), 0));
	cr_assert(eq(int, history_step_unpack(buf_head(&body), buf_len(&body), &step), 0));
	cr_assert(eq(u32, step.flags, ENDS));
	cr_assert(eq(u32, step.awaiter_slot, 7));
	cr_assert(eq(int, step.has_ordinal, 1));
	cr_assert(eq(u64, step.ordinal, 5));
	cr_assert(eq(sz, step.workflow_id.len, 2));
	cr_assert(eq(int, memcmp(step.workflow_id.data, "wf", 2), 0));
	cr_assert(eq(sz, step.channel.len, strlen("aion.dispatch.ns.q")));
	/* every shorter body, and every longer one */
	for (len = 0; len < buf_len(&body); len++)
		cr_assert(eq(int, history_step_unpack(buf_head(&body), len, &step), ERR_CORRUPT));
	cr_assert(eq(int, buf_append(&body, "", 1), 0));
	cr_assert(eq(int, history_step_unpack(buf_head(&body), buf_len(&body), &step),
	    ERR_CORRUPT));
	/* lengths that only fit when they are added up carelessly */
	memset(buf_head(&body) + 12, 0xff, 12);
	cr_assert(eq(int, history_step_unpack(buf_head(&body), buf_len(&body), &step),
	    ERR_CORRUPT));
	buf_free(&body);
}

Test(history, a_workflow_that_no_key_holds_is_refused)
{
	static char id[HISTORY_WORKFLOW_MAX + 2];
	struct history_step step;
	struct buf body = { 0 };

	memset(&step, 0, sizeof step);
	memset(id, 'w', sizeof id);
	step.workflow_id.data = (const uint8_t *)id;
	cr_assert(eq(int, history_step_pack(&step, &body), ERR_INVALID));
	step.workflow_id.len = HISTORY_WORKFLOW_MAX + 1;
	cr_assert(eq(int, history_step_pack(&step, &body), ERR_INVALID));
	step.workflow_id.len = HISTORY_WORKFLOW_MAX;
	cr_assert(eq(int, history_step_pack(&step, &body), 0));
	id[100] = '\0';
	cr_assert(eq(int, history_step_pack(&step, &body), ERR_INVALID));
	buf_free(&body);
}

Test(history, the_longest_names_are_recorded)
{
	static char id[HISTORY_WORKFLOW_MAX + 1], channel[500];

	memset(id, 'w', sizeof id - 1);
	memset(channel, 'c', sizeof channel - 1);
	struct state_txn *txn = store_begin();
	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS | ENDS,
	    .workflow = id, .channel = channel, .ordinal = 1, .result = "r" });
	store_commit(txn);
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome_in(store_env, id, channel, 1, 0), NULL));
	has_story(id, "1.0:6");
}

/* Order. */

Test(history, steps_are_in_the_order_of_their_dispatches)
{
	struct state_txn *txn = store_begin();

	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS });
	apply((struct step_spec) { .conn_id = 2, .request = 1, .flags = OPENS });
	apply((struct step_spec) { .conn_id = 1, .request = 2, .flags = OPENS, .workflow = "w" });
	apply((struct step_spec) { .conn_id = 2, .request = 1,
	    .kind = RECORD_WORKER_SELECTED });
	store_commit(txn);
	store_reopen();
	txn = store_begin();
	apply((struct step_spec) { .conn_id = 1, .request = 1, .kind = RECORD_WORKER_EXITED });
	apply((struct step_spec) { .conn_id = 2, .request = 1, .flags = HISTORY_CLOSES });
	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = HISTORY_CLOSES });
	store_commit(txn);
	has_story("wf", "1.0:1 1.1:5 1.2:6 2.0:1 2.1:2 2.2:6");
	has_story("w", "3.0:1");
	has_story("wfx", "");
	has_story("", "");
	cr_assert(eq(u64, stored_in(STORE_OPEN), 1));
	cr_assert(eq(u64, stored_in(STORE_CLOSED), 2));
}

struct walk { unsigned left; uint64_t dispatch; uint32_t step; };

static int
walk_some(void *arg, uint64_t number, uint32_t step, const struct record_operations *operations)
{
	struct walk *walk = arg;

	(void)operations;
	walk->dispatch = number;
	walk->step = step;
	return walk->left-- == 0 ? 42 : 0;
}

Test(history, a_walk_can_be_interrupted)
{
	struct frame_view id = act_view("wf");
	struct state_txn *txn = store_begin();
	struct walk walk = { 3, 0, 0 };

	for (uint64_t request = 1; request <= 2; request++)
		for (int i = 0; i < 3; i++)
			apply((struct step_spec) { .conn_id = 1, .request = request });
	store_commit(txn);
	txn = store_look();
	cr_assert(eq(int, history_each(txn, &id, walk_some, &walk), 42));
	cr_assert(eq(u64, walk.dispatch, 2));
	cr_assert(eq(u32, walk.step, 0));
	walk.left = 100;
	cr_assert(eq(int, history_each_from(txn, &id, 2, 1, walk_some, &walk), 0));
	cr_assert(eq(u32, walk.left, 98));
	walk.left = 100;
	cr_assert(eq(int, history_each_from(txn, &id, 1, 2, walk_some, &walk), 0));
	cr_assert(eq(u32, walk.left, 96));
	state_abort(txn);
}

/* What comes without its beginning (lost while the disk was full) is recorded as it is. */
Test(history, a_step_of_a_dispatch_that_is_not_open_opens_it)
{
	struct state_txn *txn = store_begin();

	apply((struct step_spec) { .conn_id = 1, .request = 1, .kind = RECORD_WORKER_EXITED });
	apply((struct step_spec) { .conn_id = 1, .request = 2, .flags = ENDS, .ordinal = 4,
	    .result = "late" });
	store_commit(txn);
	has_story("wf", "1.0:5 2.0:6");
	has_outcome("wf", 4, "late");
	cr_assert(eq(u64, stored_in(STORE_OPEN), 1));
}

/* Outcomes. */

Test(history, the_first_final_outcome_stands)
{
	cr_assert(eq(int, (int)dispatch(1, "wf", 1, "first"), HISTORY_RECORDED));
	cr_assert(eq(int, (int)dispatch(2, "wf", 1, "second"), HISTORY_RECORDED_ELSEWHERE));
	has_outcome("wf", 1, "first");
	has_story("wf", "1.0:1 1.1:6 2.0:1 2.1:6");
	/* another ordinal, workflow or channel is another matter */
	cr_assert(eq(int, (int)dispatch(3, "wf", 2, "other"), HISTORY_RECORDED));
	cr_assert(eq(int, (int)dispatch(4, "wf2", 1, "other"), HISTORY_RECORDED));
	has_outcome("wf", 1, "first");
	cr_assert(eq(ptr, (void *)(uintptr_t)outcome_in(store_env, "wf", "aion.dispatch.ns.r", 1,
	    0), NULL));
}

Test(history, only_a_final_end_is_an_outcome)
{
	struct state_txn *txn = store_begin();

	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = HISTORY_CLOSES,
	    .ordinal = 1, .result = "to be tried again" });
	apply((struct step_spec) { .conn_id = 1, .request = 2, .flags = HISTORY_FINAL,
	    .ordinal = 1, .result = "not its end" });
	apply((struct step_spec) { .conn_id = 1, .request = 3, .flags = ENDS,
	    .result = "without an ordinal" });
	store_commit(txn);
	has_outcome("wf", 1, NULL);
	has_outcome("wf", 0, NULL);
	cr_assert(eq(int, (int)dispatch(4, "wf", 1, "it"), HISTORY_RECORDED));
	has_outcome("wf", 1, "it");
}

/* Channels that share a hash share a row: written by hand, because none are known. */
Test(history, channels_of_one_hash_do_not_answer_for_each_other)
{
	struct history_workflow_key parts = { act_view("wf"), HISTORY_OUTCOME, 1, 0 };
	struct frame_view channel = act_view("aion.dispatch.ns.q");
	struct history_outcome entry = { .version = HISTORY_OUTCOME_VERSION, .channel_len = 5,
	    .dispatch = 77 };
	uint8_t key[HISTORY_WORKFLOW_KEY_MAX], row[sizeof entry + 5];
	struct state_txn *txn = store_begin();
	struct state_view view;

	is_spoilt = 1;		/* there is no dispatch 77 */
	parts.channel_hash = history_channel_hash(&channel);
	memcpy(row, &entry, sizeof entry);
	memcpy(row + sizeof entry, "other", 5);
	cr_assert(eq(int, state_put(txn, STORE_WORKFLOWS, key, history_workflow_key(key, &parts),
	    row, sizeof row), 0));
	store_commit(txn);
	has_outcome("wf", 1, NULL);
	cr_assert(eq(int, (int)dispatch(1, "wf", 1, "mine"), HISTORY_RECORDED));
	has_outcome("wf", 1, "mine");
	/* mine is forgotten, and the other stays */
	writer.keep_age_ns = 1;
	cr_assert(eq(int, trim(10, 0), 1));
	has_outcome("wf", 1, NULL);
	txn = store_look();
	cr_assert(eq(int, state_get(txn, STORE_WORKFLOWS, key, history_workflow_key(key, &parts),
	    &view), 0));
	cr_assert(eq(sz, view.len, sizeof row));
	state_abort(txn);
}

/* Callers and lives that end. */

Test(history, what_an_ended_caller_left_open_is_closed)
{
	struct state_txn *txn = store_begin();

	for (uint64_t request = 1; request <= 5; request++)
		apply((struct step_spec) { .conn_id = 1, .request = request, .flags = OPENS });
	apply((struct step_spec) { .conn_id = 2, .request = 1, .flags = OPENS, .workflow = "x" });
	cr_assert(eq(int, history_write_ended(&writer, 1), 0));
	cr_assert(eq(int, history_write_ended(&writer, 3), 0));	/* had nothing open */
	store_commit(txn);
	/* bounded, and it goes on where it stopped */
	txn = store_begin();
	cr_assert(eq(int, history_close_ended(&writer, 3), 3));
	store_commit(txn);
	store_reopen();
	cr_assert(eq(u64, stored_in(STORE_OPEN), 3));
	txn = store_begin();
	cr_assert(eq(int, history_close_ended(&writer, 3), 2));
	cr_assert(eq(int, history_close_ended(&writer, 3), 0));
	store_commit(txn);
	cr_assert(eq(u64, stored_in(STORE_OPEN), 1));
	cr_assert(eq(u64, stored_in(STORE_CLOSED), 5));
	cr_assert(eq(u64, stored_in(STORE_META), 2));	/* no mark is left */
	has_story("wf", "1.0:1 1.1:6(the caller's connection ended) "
	    "2.0:1 2.1:6(the caller's connection ended) "
	    "3.0:1 3.1:6(the caller's connection ended) "
	    "4.0:1 4.1:6(the caller's connection ended) "
	    "5.0:1 5.1:6(the caller's connection ended)");
	has_story("x", "6.0:1");
}

static int
see_closing(void *arg, uint64_t number, uint32_t step, const struct record_operations *operations)
{
	(void)number;
	if (step != 1)
		return 0;
	*(int *)arg = 1;
	cr_assert(eq(u32, operations->n, 1));
	cr_assert(eq(u8, operations->list[0].kind, RECORD_CONVERSATION_CLOSED));
	cr_assert(eq(u8, operations->list[0].activity, RECORD_ACTIVITY_FAILED));
	cr_assert(eq(u8, operations->list[0].is_retry_eligible, 1));
	cr_assert(eq(u64, operations->ordinal, 3));
	cr_assert(eq(sz, operations->conversation_id.len, strlen("the conversation")));
	cr_assert(eq(sz, operations->channel.len, strlen("aion.dispatch.ns.q")));
	return 0;
}

Test(history, a_new_life_closes_all_that_is_open)
{
	struct frame_view id = act_view("wf");
	struct state_txn *txn = store_begin();
	int seen = 0;

	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS, .ordinal = 3 });
	apply((struct step_spec) { .conn_id = UINT64_MAX, .request = UINT64_MAX,
	    .flags = OPENS, .workflow = "x" });
	store_commit(txn);
	txn = store_begin();
	cr_assert(eq(int, history_close_all(&writer, 10), 2));
	cr_assert(eq(int, history_close_all(&writer, 10), 0));
	store_commit(txn);
	has_story("wf", "1.0:1 1.1:6(the daemon ended)");
	has_story("x", "2.0:1 2.1:6(the daemon ended)");
	has_outcome("wf", 3, NULL);
	txn = store_look();
	cr_assert(eq(int, history_each(txn, &id, see_closing, &seen), 0));
	state_abort(txn);
	cr_assert(eq(int, seen, 1));
	/* the same numbers are other dispatches now */
	txn = store_begin();
	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS });
	store_commit(txn);
	has_story("wf", "1.0:1 1.1:6(the daemon ended) 3.0:1");
}

/* Retention. */

Test(history, by_count_the_oldest_closed_are_forgotten)
{
	struct state_txn *txn = store_begin();

	apply((struct step_spec) { .conn_id = 9, .request = 9, .flags = OPENS,
	    .workflow = "open" });
	store_commit(txn);
	for (uint64_t i = 1; i <= 10; i++)
		dispatch(i, i % 2 ? "odd" : "even", i, "r");
	writer.keep = 4;
	cr_assert(eq(int, trim(5, 0), 5));	/* bounded */
	cr_assert(eq(int, trim(5, 0), 1));
	cr_assert(eq(int, trim(5, 0), 0));
	has_story("odd", "8.0:1 8.1:6 10.0:1 10.1:6");
	has_story("even", "9.0:1 9.1:6 11.0:1 11.1:6");
	has_story("open", "1.0:1");		/* however old */
	has_outcome("even", 6, NULL);
	has_outcome("odd", 7, "r");
	cr_assert(eq(u64, stored_in(STORE_CLOSED), 4));
	cr_assert(eq(u64, stored_in(STORE_HISTORY), 9));
	cr_assert(eq(u64, stored_in(STORE_WORKFLOWS), 9));
	writer.keep = 0;			/* no limit */
	cr_assert(eq(int, trim(5, 0), 0));
}

Test(history, while_there_is_other_work_they_are_forgotten_in_lumps)
{
	struct state_txn *txn = store_begin();

	for (uint64_t i = 1; i <= HISTORY_TRIM_SLACK + 3; i++)
		apply((struct step_spec) { .conn_id = 1, .request = i, .flags = ENDS });
	store_commit(txn);
	writer.keep = 3;
	cr_assert(eq(int, trim(1000, 1), 0));
	dispatch(1, "wf", 1, "r");
	cr_assert(eq(int, trim(1000, 1), HISTORY_TRIM_SLACK + 1));
	cr_assert(eq(u64, stored_in(STORE_CLOSED), 3));
}

Test(history, by_age_nothing_is_read_that_is_too_old)
{
	int64_t next_ns, until = clock_now_ns() + 200 * CLOCK_MS;
	struct state_txn *txn;

	dispatch(1, "wf", 1, "r");
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome_in(store_env, "wf", "aion.dispatch.ns.q", 1,
	    600 * CLOCK_SECOND), NULL));
	while (clock_now_ns() < until)
		usleep(10000);
	/* not trimmed yet, but too old for who asks */
	cr_assert(eq(ptr, (void *)(uintptr_t)outcome_in(store_env, "wf", "aion.dispatch.ns.q", 1,
	    100 * CLOCK_MS), NULL));
	/* and so another may take its place */
	writer.keep_age_ns = 100 * CLOCK_MS;
	cr_assert(eq(int, (int)dispatch(2, "wf", 1, "again"), HISTORY_RECORDED));
	has_outcome("wf", 1, "again");
	/* the first goes, the second is told when */
	txn = store_begin();
	writer.keep_age_ns = 150 * CLOCK_MS;
	cr_assert(eq(int, history_trim(&writer, 10, 0, &next_ns), 1));
	cr_assert(lt(i64, writer.now_ns, next_ns));
	cr_assert(le(i64, next_ns, writer.now_ns + 151 * CLOCK_MS));
	store_commit(txn);
	has_outcome("wf", 1, "again");
	has_story("wf", "2.0:1 2.1:6");
}

/* Applied again, after a death between the two commits. */

Test(history, what_was_applied_is_answered_again_as_it_stands)
{
	struct step_spec spec = { .conn_id = 1, .request = 1, .flags = OPENS | ENDS,
	    .ordinal = 1, .result = "r" };
	enum history_recorded recorded;
	struct history_step step;
	struct buf body = { 0 };
	struct state_txn *txn;

	dispatch(1, "wf", 1, "r");
	cr_assert(eq(int, step_body(&spec, &body), 0));
	cr_assert(eq(int, history_step_unpack(buf_head(&body), buf_len(&body), &step), 0));
	txn = store_begin();
	cr_assert(eq(int, history_write_again(&writer, &step, &recorded), 0));
	cr_assert(eq(int, (int)recorded, HISTORY_RECORDED_ELSEWHERE));
	step.ordinal = 2;	/* forgotten meanwhile */
	cr_assert(eq(int, history_write_again(&writer, &step, &recorded), 0));
	cr_assert(eq(int, (int)recorded, HISTORY_RECORDED));
	store_commit(txn);
	has_story("wf", "1.0:1 1.1:6");
	buf_free(&body);
}

Test(history, what_is_noted_comes_back)
{
	struct state_txn *txn = store_begin();

	cr_assert(eq(u64, writer.meta.epoch, 0));
	writer.meta.epoch = 77;
	writer.meta.applied = 88;
	store_commit(txn);
	store_reopen();
	memset(&writer.meta, 0xff, sizeof writer.meta);
	txn = store_begin();
	cr_assert(eq(u64, writer.meta.epoch, 77));
	cr_assert(eq(u64, writer.meta.applied, 88));
	state_abort(txn);
}

/* Rows that are not what they should be. */

static const enum state_table tables[] = {
	STORE_HISTORY, STORE_WORKFLOWS, STORE_OPEN, STORE_CLOSED
};

/* The N-th row of TABLE: its key to KEY. 0 when there are fewer. */
static size_t
key_of(struct state_txn *txn, enum state_table table, unsigned n, uint8_t *key, size_t size,
    struct buf *row)
{
	struct state_cursor *cursor;
	struct state_view k, v;
	size_t len = 0;
	int rc;

	cr_assert(eq(int, state_cursor_open(txn, table, &cursor), 0));
	rc = state_next(cursor, &k, &v);
	while (rc == 0 && n-- > 0)
		rc = state_next(cursor, &k, &v);
	if (rc == 0 && k.len <= size) {
		memcpy(key, k.data, k.len);
		len = k.len;
		cr_assert(eq(int, buf_append(row, v.data, v.len), 0));
	}
	state_cursor_close(cursor);
	return len;
}

/* Everything that reads or writes, after a row was spoilt: nothing may crash or hang. */
static void
use_everything(struct state_txn *txn)
{
	struct frame_view id = act_view("wf"), channel = act_view("aion.dispatch.ns.q");
	struct record_operations operations;
	enum history_recorded recorded;
	static struct told told;
	int64_t next_ns;

	told.len = 0;
	history_each(txn, &id, tell_step, &told);
	if (history_find_outcome(txn, &id, &channel, 1, 0, &operations) == 0)
		record_free_operations(&operations);
	apply_step((struct step_spec) { .conn_id = 1, .request = 2, .flags = ENDS, .ordinal = 1,
	    .result = "again" }, &recorded);
	cr_assert(eq(int, history_write_ended(&writer, 1), 0));
	cr_assert(le(int, 0, history_close_ended(&writer, 10)));
	cr_assert(le(int, 0, history_close_all(&writer, 10)));
	cr_assert(eq(u64, state_count(txn, STORE_OPEN), 0));
	writer.now_ns += 1000;
	cr_assert(le(int, 0, history_trim(&writer, 100, 0, &next_ns)));
	/* by age those wait that come behind one from the future */
	writer.keep = 1;
	cr_assert(le(int, 0, history_trim(&writer, 100, 0, &next_ns)));
	cr_assert(le(u64, state_count(txn, STORE_CLOSED), 1));
	writer.keep = 0;
}

Test(history, no_flipped_bit_in_any_row_does_harm)
{
	struct buf row = { 0 };
	uint8_t key[512];
	struct state_txn *txn;
	size_t len, bit, i;
	unsigned n;

	dispatch(1, "wf", 1, "r");
	txn = store_begin();
	apply((struct step_spec) { .conn_id = 1, .request = 2, .flags = OPENS });
	apply((struct step_spec) { .conn_id = 2, .request = 2, .flags = OPENS });
	store_commit(txn);
	writer.keep_age_ns = 1;
	for (i = 0; i < sizeof tables / sizeof tables[0]; i++)
		for (n = 0; ; n++) {
			txn = store_begin();
			buf_consume(&row, buf_len(&row));
			len = key_of(txn, tables[i], n, key, sizeof key, &row);
			state_abort(txn);
			if (len == 0)
				break;
			for (bit = 0; bit < 8 * buf_len(&row); bit++) {
				buf_head(&row)[bit / 8] ^= (uint8_t)(1 << bit % 8);
				txn = store_begin();
				cr_assert(eq(int, state_put(txn, tables[i], key, len,
				    buf_head(&row), buf_len(&row)), 0));
				use_everything(txn);
				state_abort(txn);
				buf_head(&row)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			}
			/* and every shorter row */
			for (bit = 0; bit < buf_len(&row); bit++) {
				txn = store_begin();
				cr_assert(eq(int, state_put(txn, tables[i], key, len,
				    buf_head(&row), bit), 0));
				use_everything(txn);
				state_abort(txn);
			}
		}
	buf_free(&row);
}

Test(history, keys_of_other_lengths_do_no_harm)
{
	uint8_t key[511];
	struct state_txn *txn;
	size_t i, len;

	writer.keep_age_ns = 1;
	for (i = 0; i < sizeof tables / sizeof tables[0]; i++)
		for (len = 1; len <= sizeof key; len += len < 40 ? 1 : 157) {
			memset(key, 0, sizeof key);
			txn = store_begin();
			cr_assert(eq(int, state_put(txn, tables[i], key, len, "x", 1), 0));
			memset(key, 0xff, sizeof key);
			cr_assert(eq(int, state_put(txn, tables[i], key, len, NULL, 0), 0));
			use_everything(txn);
			state_abort(txn);
		}
}

/* A row in `closed` that names a dispatch of another workflow removes nothing of it. */
Test(history, a_wrong_number_in_a_closed_row_does_not_cost_another_dispatch)
{
	struct history_closed closed = { .version = HISTORY_CLOSED_VERSION, .dispatch = 1 };
	uint8_t row[sizeof closed + 5], key[8] = { 0 };
	struct state_txn *txn = store_begin();

	is_spoilt = 1;
	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS });
	memcpy(row, &closed, sizeof closed);
	memcpy(row + sizeof closed, "other", 5);
	cr_assert(eq(int, state_put(txn, STORE_CLOSED, key, sizeof key, row, sizeof row), 0));
	store_commit(txn);
	writer.keep_age_ns = 1;
	cr_assert(eq(int, trim(10, 0), 1));
	has_story("wf", "1.0:1");
}

Test(history, an_outcome_that_does_not_read_back_is_no_licence_to_do_it_again)
{
	struct frame_view id = act_view("wf"), channel = act_view("aion.dispatch.ns.q");
	uint8_t key[HISTORY_STEP_KEY_SIZE];
	struct record_operations operations;
	struct state_txn *txn;

	is_spoilt = 1;
	dispatch(1, "wf", 1, "r");
	txn = store_begin();
	history_step_key(key, 1, 1);
	cr_assert(eq(int, state_put(txn, STORE_HISTORY, key, sizeof key, "spoilt", 6), 0));
	cr_assert(eq(int, history_find_outcome(txn, &id, &channel, 1, 0, &operations),
	    ERR_CORRUPT));
	cr_assert(eq(int, state_del(txn, STORE_HISTORY, key, sizeof key), 0));
	cr_assert(eq(int, history_find_outcome(txn, &id, &channel, 1, 0, &operations),
	    ERR_CORRUPT));
	cr_assert(eq(int, state_put(txn, STORE_HISTORY, key, sizeof key, "spoilt", 6), 0));
	store_commit(txn);
	has_story("wf", "1.0:1 1.1:0(this step does not read back)");
}

Test(history, a_store_of_another_version_is_refused)
{
	struct history_meta meta = { .version = HISTORY_META_VERSION + 1 };
	struct state_txn *txn = store_begin();

	cr_assert(eq(int, state_put(txn, STORE_META, HISTORY_META_KEY,
	    sizeof HISTORY_META_KEY - 1, &meta, sizeof meta), 0));
	cr_assert(eq(int, history_write_begin(&writer, txn), ERR_CORRUPT));
	state_abort(txn);
}
