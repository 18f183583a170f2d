/* end: the close path leaves nothing, tells everybody, and may be walked again. */
#include "state/operations.h"
#include "unit/state_channels.h"

static void
end_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	txn = write_begin();
	add_connections(txn, 1, 9);
	commit(txn);
	channels_make(2, 2);
}

TestSuite(state_end, .init = end_setup, .fini = fixture_fini);

static void
converse(struct state_txn *txn, uint64_t conn_id, uint64_t conversation)
{
	struct record_conversation record;

	memset(&record, 0, sizeof record);
	record.subject = act_view("echo");
	record.uuid = act_view("123e4567-e89b-42d3-a456-426614174000");
	record.phase = RECORD_ACTIVE;
	record.participant = RECORD_ECHO;
	cr_assert(eq(int, conversations_put(txn, conn_id, conversation, &record), 0));
}

static void
push_to(struct state_txn *txn, uint64_t target, uint64_t awaiter, uint64_t request)
{
	struct pushes_row row = { .kind = PUSHES_DIRECT, .awaiter = awaiter,
	    .awaiter_slot = (uint32_t)awaiter, .request = request };
	struct frame_view payload = act_view("p");
	uint64_t correlation;

	cr_assert(eq(int, pushes_add(txn, target, (uint32_t)target, &row, &payload,
	    &correlation), 0));
}

static void
subscribe(struct state_txn *txn, uint64_t conn_id, uint32_t channel, const char *consumer)
{
	struct subscriptions_row row = { .channel = channel, .stream = 1,
	    .is_durable = consumer != NULL };
	struct frame_view name = act_view(consumer);
	uint64_t id;

	cr_assert(zero(int, channels_subscription_id(txn, &id)));
	cr_assert(zero(int, subscriptions_add(txn, conn_id, (uint32_t)conn_id, id, &row, &name)));
}

/* Connection 5 has one of everything: it works in two pools, awaits, waits, converses, is
 * pushed to, is subscribed and holds a name, and has unread entries. */
static void
entangle(void)
{
	struct state_txn *txn = write_begin();
	struct inbox_entry entry = { .kind = INBOX_FORCE_CLOSE, .len = 2 };

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b", .max = 2, .types = "red" });
	add_worker(txn, 6, (struct worker_spec){ .spaces = "b" });
	place(txn, 6, 61, (struct request_spec){ .space = "b" });	/* 5 or 6 */
	place(txn, 1, 11, (struct request_spec){ .space = "a" });
	place(txn, 1, 12, (struct request_spec){ .space = "b" });
	place(txn, 1, 13, (struct request_spec){ .space = "a", .type = "red" });
	place(txn, 5, 51, (struct request_spec){ .space = "b" });	/* waits for itself */
	place(txn, 5, 52, (struct request_spec){ .space = "a" });
	push_to(txn, 5, 1, 14);
	push_to(txn, 5, 5, 53);			/* to itself */
	push_to(txn, 2, 5, 54);			/* its own, to another */
	converse(txn, 5, 1);
	converse(txn, 5, UINT64_MAX);
	converse(txn, 4, 1);
	subscribe(txn, 5, 0, NULL);
	subscribe(txn, 5, 1, NULL);
	subscribe(txn, 5, 1, "name");
	subscribe(txn, 4, 1, NULL);
	cr_assert(eq(int, inbox_post(txn, 5, 5, &entry, "hi"), 0));
	commit(txn);
	cr_assert(eq(int, fixture_check(NULL), 0));
}

static int
no_trace(void *arg, uint64_t conn_id)
{
	(void)arg;
	cr_assert(ne(u64, conn_id, 5));
	return 0;
}

static int
not_its_conversation(void *arg, uint64_t conn_id, uint64_t conversation,
    const struct record_conversation *record)
{
	(void)conversation, (void)record;
	++*(int *)arg;
	cr_assert(ne(u64, conn_id, 5));
	return 0;
}

static int
not_waiting(void *arg, const struct pending_item *item)
{
	(void)arg;
	cr_assert(ne(u64, item->row.awaiter, 5));
	return 0;
}

static void
assert_gone(void)
{
	struct record_registration record;
	struct state_txn *txn = read_begin();
	int n = 0;

	cr_assert(eq(int, connections_exists(txn, 5), ERR_NOTFOUND));
	cr_assert(eq(int, workers_get(txn, 5, &record), ERR_NOTFOUND));
	cr_assert(eq(int, state_each_owner(txn, STATE_PUSHES, no_trace, NULL), 0));
	cr_assert(eq(int, state_each_owner(txn, STATE_INBOX, no_trace, NULL), 0));
	cr_assert(eq(int, state_each_owner(txn, STATE_SUBSCRIPTIONS, no_trace, NULL), 0));
	cr_assert(zero(u64, state_count(txn, STATE_CONSUMERS)));
	cr_assert(eq(u64, state_count(txn, STATE_LISTENERS), 1), "another connection's stays");
	cr_assert(eq(int, conversations_each(txn, not_its_conversation, &n), 0));
	cr_assert(eq(int, pending_each(txn, not_waiting, NULL), 0));
	state_abort(txn);
	cr_assert(eq(int, n, 1));
	cr_assert(eq(int, in_flight(5, "a"), -1));
	cr_assert(eq(int, in_flight(5, "b"), -1));
	cr_assert(zero(u32, channel_row(0).n_subscriptions));
	cr_assert(eq(u32, channel_row(1).n_subscriptions, 1));
}

/* Every event of CONN_ID as "<request>:<kind> ...", in order of arrival. */
static const char *
story_of(uint64_t conn_id)
{
	static const char *const kinds[] = { [INBOX_REPLY] = "reply",
		[INBOX_FAILED] = "failed", [INBOX_WORKER_EXITED] = "worker-exited",
		[INBOX_NO_WORKERS] = "no-workers", [INBOX_STARTED] = "started",
		[INBOX_DISCONNECTED] = "disconnected", [INBOX_NOTIFY_SHUTDOWN] = "shutdown",
		[INBOX_FORCE_CLOSE] = "force-close" };
	const struct events *events = inbox_of(conn_id);
	static char out[1024];
	size_t len = 0;
	unsigned i;

	out[0] = '\0';
	for (i = 0; i < events->n; i++)
		len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu:%s",
		    i > 0 ? " " : "", (unsigned long long)events->list[i].request,
		    kinds[events->list[i].kind]);
	return out;
}

Test(state_end, one_end_leaves_nothing_and_tells_everybody)
{
	struct state_txn *txn;

	entangle();
	txn = write_begin();
	end(txn, 5, "killed");
	commit(txn);
	assert_gone();
	/* 61 and 11 were at work there; 12 is at work elsewhere; 13 can be taken by nobody */
	cr_assert(strcmp(story_of(1), "11:worker-exited 14:disconnected 13:no-workers") == 0,
	    "%s", story_of(1));
	cr_assert(strcmp(story_of(6), "61:worker-exited") == 0, "%s", story_of(6));
	cr_assert(eq(int, strcmp(requests_at(6), "12"), 0));
	/* its own push to another stays owed */
	cr_assert(eq(int, strcmp(requests_at(2), "54"), 0));
	cr_assert(eq(int, waiting_in("a"), -1));
	cr_assert(eq(int, waiting_in("b"), 0));
}

Test(state_end, ending_again_does_nothing)
{
	struct state_txn *txn;
	uint64_t before;

	entangle();
	txn = write_begin();
	end(txn, 5, "killed");
	/* in the same transaction, in the next, and for one that never was */
	cr_assert(eq(int, end_connection(txn, 5, "again"), 0));
	commit(txn);
	before = rows_in(STATE_INBOX);
	txn = write_begin();
	cr_assert(eq(int, end_connection(txn, 5, "again"), 0));
	cr_assert(eq(int, end_connection(txn, 12345, "never was"), 0));
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_INBOX), before));
	assert_gone();
}

/* The answer of a worker to an awaiter that has ended: dropped, and the worker has room. */
Test(state_end, an_awaiters_end_leaves_its_worker_occupied_until_it_answers)
{
	struct state_txn *txn = write_begin();
	struct act_placed placed;

	add_worker(txn, 6, (struct worker_spec){ 0 });
	placed = place(txn, 5, 1, (struct request_spec){ 0 });
	place(txn, 1, 2, (struct request_spec){ 0 });
	commit(txn);
	txn = write_begin();
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, in_flight(6, "ns"), 1));
	cr_assert(eq(int, waiting_in("ns"), 1));
	txn = write_begin();
	reply(txn, 6, placed.correlation, "too late");
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(6), "2"), 0));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
}

/* Worker and awaiter end in one transaction, as after a power cut of their machine. */
Test(state_end, those_who_owe_each_other_can_end_together)
{
	struct state_txn *txn;

	entangle();
	txn = write_begin();
	for (uint64_t id = 9; id >= 1; id--)
		end(txn, id, "all gone");
	commit(txn);
	fixture_close();
	cr_assert(eq(int, fixture_check("empty"), 0));
}

/* In any order, each in its own transaction. */
Test(state_end, every_order_of_ends_leaves_nothing)
{
	unsigned seed = 7;

	for (int round = 0; round < 30; round++) {
		uint64_t order[9];
		struct state_txn *txn;
		int i, j;

		if (round > 0) {
			txn = write_begin();
			add_connections(txn, 1, 9);
			commit(txn);
		}
		entangle();
		for (i = 0; i < 9; i++) {
			j = rand_r(&seed) % (i + 1);
			order[i] = order[j];
			order[j] = (uint64_t)i + 1;
		}
		for (i = 0; i < 9; i++) {
			txn = write_begin();
			end(txn, order[i], "gone");
			commit(txn);
		}
		for (i = 0; i < STATE_N_TABLES; i++)
			if (i != STATE_COUNTERS && i != STATE_CHANNELS)
				cr_assert(eq(u64, rows_in((enum state_table)i), 0));
	}
}

struct last_conversation { int n; uint64_t id; };

static int
one_conversation(void *arg, uint64_t conn_id, uint64_t conversation,
    const struct record_conversation *record)
{
	struct last_conversation *last = arg;

	(void)conn_id;
	last->n++;
	last->id = conversation;
	return record->phase == RECORD_CLOSED ? 9 : 0;
}

Test(state_end, conversations_are_put_changed_and_deleted)
{
	struct last_conversation last = { 0, 0 };
	struct record_conversation record;
	struct state_txn *txn = write_begin();

	for (uint64_t id = 1; id <= 300; id++)
		converse(txn, 3, id * id);
	converse(txn, 4, 0);
	memset(&record, 0, sizeof record);
	record.phase = RECORD_CLOSED;
	cr_assert(eq(int, conversations_put(txn, 3, 9, &record), 0));
	cr_assert(eq(int, conversations_each(txn, one_conversation, &last), 9));
	cr_assert(eq(int, last.n, 3));
	cr_assert(eq(u64, last.id, 9));
	cr_assert(eq(int, conversations_del(txn, 3, 9), 0));
	cr_assert(eq(int, conversations_del(txn, 3, 9), 0));
	cr_assert(eq(u64, state_count(txn, STATE_CONVERSATIONS), 300));
	cr_assert(eq(int, conversations_del_all(txn, 3), 0));
	cr_assert(eq(u64, state_count(txn, STATE_CONVERSATIONS), 1));
	cr_assert(eq(int, conversations_del_all(txn, 3), 0));
	commit(txn);
}

struct for_store { char kinds[16]; uint64_t requests[16]; unsigned n; };

static int
note_for_store(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct for_store *found = arg;

	cr_assert(eq(u64, entry->conn_id, 2));
	if (entry->kind == INBOX_OPERATIONS)
		cr_assert(zero(int, memcmp(body, "step", 4)));
	found->kinds[found->n] = entry->kind == INBOX_OPERATIONS ? 'o' :
	    entry->kind == INBOX_CALLER_ENDED ? 'e' : '?';
	found->requests[found->n++] = entry->request;
	return 0;
}

/* What a caller has kept back of the record goes to the store before the news of its end. */
Test(state_end, hands_over_what_was_kept_back)
{
	struct for_store found = { .n = 0 };
	struct state_txn *txn = write_begin();
	unsigned rows;

	cr_assert(zero(int, connections_mark_recorded(txn, 2)));
	cr_assert(zero(int, connections_mark_recorded(txn, 3)));
	cr_assert(zero(int, operations_put(txn, 2, 70, "step", 4)));
	cr_assert(zero(int, operations_put(txn, 2, 7, "step", 4)));
	cr_assert(zero(int, operations_put(txn, 3, 7, "other", 5)));
	cr_assert(zero(int, operations_del(txn, 2, 8)), "one that is not there");
	commit(txn);
	txn = write_begin();
	cr_assert(eq(int, end_connection(txn, 2, "gone"), 1));
	commit(txn);

	txn = read_begin();
	cr_assert(zero(int, inbox_read(txn, INBOX_SERVICE(BOARD_STORE), 0, &rows, note_for_store,
	    &found)));
	cr_assert(zero(int, strcmp(found.kinds, "ooe")));
	cr_assert(eq(u64, found.requests[0], 7));
	cr_assert(eq(u64, found.requests[1], 70));
	cr_assert(eq(u64, state_count(txn, STATE_OPERATIONS), 1), "another connection's stays");
	state_abort(txn);
}
