/* pending: requests that wait, in which order they leave, and who is told when they cannot. */
#include "base/hash.h"
#include "unit/state_fixture.h"

static void
pending_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	txn = write_begin();
	add_connections(txn, 1, 40);
	commit(txn);
}

static void
pending_teardown(void)
{
	struct state_txn *txn = write_begin();
	int left;

	for (uint64_t id = 1; id <= 40; id++)
		cr_assert(le(int, 0, end_connection(txn, id, "over")));
	commit(txn);
	fixture_close();
	left = fixture_check("empty");
	fixture_fini();
	cr_assert(eq(int, left, 0));
}

TestSuite(state_pending, .init = pending_setup, .fini = pending_teardown);

/* The first push of WORKER is answered. */
static void
finish_one(uint64_t worker)
{
	const struct pushed *pushed = pushed_to(worker);
	struct state_txn *txn;

	cr_assert(lt(uint, 0, pushed->n));
	txn = write_begin();
	reply(txn, worker, pushed->list[0].correlation, "ok");
	commit(txn);
}

Test(state_pending, the_first_worker_with_room_takes_the_oldest_that_it_accepts)
{
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .types = "red blue" });
	add_worker(txn, 6, (struct worker_spec){ .types = "green", .node = "n" });
	place(txn, 1, 1, (struct request_spec){ .type = "red" });
	place(txn, 1, 2, (struct request_spec){ .type = "green" });
	/* all busy */
	place(txn, 1, 10, (struct request_spec){ .type = "green" });
	place(txn, 2, 11, (struct request_spec){ .type = "blue" });
	place(txn, 3, 12, (struct request_spec){ .type = "red" });
	place(txn, 1, 13, (struct request_spec){ 0 });
	place(txn, 1, 14, (struct request_spec){ .type = "blue" });
	place(txn, 1, 15, (struct request_spec){ .node = "n",
	    .flags = PENDING_NODE_REQUIRED });
	place(txn, 1, 16, (struct request_spec){ .type = "red", .node = "n" });
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 7));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "11"), 0));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "12"), 0));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "13"), 0));
	finish_one(6);
	cr_assert(eq(int, strcmp(requests_at(6), "10"), 0));
	finish_one(6);
	cr_assert(eq(int, strcmp(requests_at(6), "15"), 0));
	finish_one(6);
	cr_assert(eq(int, strcmp(requests_at(6), ""), 0));
	finish_one(5);
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "16"), 0));
	cr_assert(eq(int, waiting_in("ns"), 0));
	cr_assert(eq(int, in_flight(6, "ns"), 0));
	cr_assert(eq(int, in_flight(5, "ns"), 1));
}

Test(state_pending, a_request_goes_with_everything_that_it_had)
{
	const struct pushed_one *one;
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .identity = "w", .types = "t" });
	place(txn, 1, 1, (struct request_spec){ .type = "t" });
	place(txn, 7, 2, (struct request_spec){ .type = "t", .payload = "the payload",
	    .flags = PENDING_TYPED | PENDING_TELL_START });
	place(txn, 8, 3, (struct request_spec){ .type = "t" });
	commit(txn);
	cr_assert(eq(uint, inbox_of(7)->n, 0));
	finish_one(5);
	cr_assert(eq(uint, pushed_to(5)->n, 1));
	one = &pushed_to(5)->list[0];
	cr_assert(eq(u64, one->request, 2));
	cr_assert(eq(u64, one->awaiter, 7));
	cr_assert(eq(u8, one->kind, PUSHES_JOB));
	cr_assert(eq(u8, one->flags, PUSHES_TYPED));
	cr_assert(eq(u64, one->pool, fixture_pools[5].list[0].id));
	cr_assert(eq(int, strcmp(one->text, "the payload"), 0));
	cr_assert(eq(uint, inbox_of(7)->n, 1));
	cr_assert(eq(u32, inbox_of(7)->list[0].kind, INBOX_STARTED));
	cr_assert(eq(u64, inbox_of(7)->list[0].request, 2));
	cr_assert(eq(u64, inbox_of(7)->list[0].conn_id, 5));
	cr_assert(eq(int, strcmp(inbox_of(7)->list[0].text, "w#5"), 0));
	/* who did not ask for it is not told */
	finish_one(5);
	cr_assert(eq(uint, inbox_of(8)->n, 0));
	cr_assert(eq(u8, pushed_to(5)->list[0].flags, 0));
}

Test(state_pending, room_is_filled_from_all_pools_by_age)
{
	static const char *const spaces[] = { "a", "b", "c" };
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b c", .not_ready = 1, .max = 4 });
	for (uint64_t i = 1; i <= 9; i++)
		place(txn, 1, i, (struct request_spec){ .space = spaces[i * 7 % 3] });
	commit(txn);
	cr_assert(eq(uint, pushed_to(5)->n, 0));
	cr_assert(eq(u64, rows_in(STATE_PENDING), 9));
	txn = write_begin();
	cr_assert(eq(int, workers_make_ready(txn, 5, &fixture_pools[5]), 0));
	settle(txn, 5, 0);
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "1 2 3 4"), 0));
	cr_assert(eq(int, in_flight(5, "c"), 4));
	for (int i = 0; i < 3; i++)
		finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "4 5 6 7"), 0));
}

Test(state_pending, several_answers_in_one_turn_make_room_for_as_many)
{
	struct state_txn *txn = write_begin();
	const struct pushed *pushed;
	uint32_t freed = 0;

	add_worker(txn, 5, (struct worker_spec){ .max = 5 });
	for (uint64_t i = 1; i <= 9; i++)
		place(txn, 1, i, (struct request_spec){ 0 });
	commit(txn);
	pushed = pushed_to(5);
	txn = write_begin();
	for (unsigned i = 0; i < 5; i += 2)
		cr_assert(eq(int, act_reply(txn, 5, pushed->list[i].correlation, "", 0, &freed),
		    0));
	/* the same answer again frees nothing */
	cr_assert(eq(int, act_reply(txn, 5, pushed->list[0].correlation, "", 0, &freed),
	    ERR_NOTFOUND));
	cr_assert(eq(u32, freed, 3));
	settle(txn, 5, freed);
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "2 4 6 7 8"), 0));
	cr_assert(eq(int, in_flight(5, "ns"), 5));
	cr_assert(eq(int, waiting_in("ns"), 1));
}

/* Requests whose worker has ended come back to where they were, before all that came after
 * them, over the limit too. */
Test(state_pending, who_comes_back_keeps_the_place)
{
	struct state_txn *txn = write_begin();
	struct act_placed first, second;

	add_worker(txn, 5, (struct worker_spec){ 0 });
	add_worker(txn, 6, (struct worker_spec){ 0 });
	first = place(txn, 1, 1, (struct request_spec){ 0 });
	second = place(txn, 1, 2, (struct request_spec){ 0 });
	place(txn, 1, 3, (struct request_spec){ 0 });
	place(txn, 1, 4, (struct request_spec){ .type = "t" });
	commit(txn);
	cr_assert(eq(u64, second.worker, 6));
	txn = write_begin();
	end(txn, 6, "crashed");
	commit(txn);
	/* places in the queue and correlation ids are of one sequence */
	txn = write_begin();
	cr_assert(eq(int, (int)place(txn, 1, 2, (struct request_spec){ .limit = 1,
	    .arrival = second.correlation, .type = "u" }).outcome, ACT_QUEUED));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 3));
	txn = write_begin();
	end(txn, 5, "crashed");
	add_worker(txn, 7, (struct worker_spec){ .not_ready = 1 });
	commit(txn);
	/* nobody was left: all are refused */
	cr_assert(eq(int, waiting_in("ns"), 0));
	cr_assert(eq(uint, inbox_of(1)->n, 5));
	txn = write_begin();
	place(txn, 1, 4, (struct request_spec){ .arrival = second.correlation + 5 });
	place(txn, 1, 2, (struct request_spec){ .arrival = second.correlation, .type = "u" });
	place(txn, 1, 9, (struct request_spec){ 0 });
	place(txn, 1, 1, (struct request_spec){ .arrival = first.correlation, .type = "v" });
	cr_assert(eq(int, workers_make_ready(txn, 7, &fixture_pools[7]), 0));
	settle(txn, 7, 0);
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(7), "1"), 0));
	finish_one(7);
	cr_assert(eq(int, strcmp(requests_at(7), "2"), 0));
	finish_one(7);
	cr_assert(eq(int, strcmp(requests_at(7), "4"), 0));
	finish_one(7);
	cr_assert(eq(int, strcmp(requests_at(7), "9"), 0));
}

Test(state_pending, the_queue_of_a_pool_has_a_limit)
{
	struct request_spec spec = { .limit = 3 };
	struct state_txn *txn = write_begin();
	struct act_placed placed;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "ns b" });
	for (uint64_t i = 1; i <= 4; i++)
		place(txn, 1, i, spec);
	cr_assert(eq(int, act_place(txn, 1, 1, 5, spec, &placed), ERR_FULL));
	spec.type = "another lane";
	cr_assert(eq(int, act_place(txn, 1, 1, 5, spec, &placed), ERR_FULL));
	spec.space = "b";
	cr_assert(eq(int, (int)place(txn, 1, 6, spec).outcome, ACT_QUEUED));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 3));
	cr_assert(eq(int, waiting_in("b"), 1));
	finish_one(5);
	txn = write_begin();
	spec.space = NULL;
	cr_assert(eq(int, (int)place(txn, 1, 7, spec).outcome, ACT_QUEUED));
	commit(txn);
}

Test(state_pending, a_request_is_taken_back_once)
{
	struct pool_name name = act_pool("ns");
	struct pending_item item;
	struct act_placed placed, other;
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ 0 });
	place(txn, 1, 1, (struct request_spec){ 0 });
	placed = place(txn, 1, 2, (struct request_spec){ 0 });
	other = place(txn, 1, 3, (struct request_spec){ 0 });
	commit(txn);
	txn = write_begin();
	cr_assert(eq(int, pending_get(txn, &placed.where, &item), 0));
	cr_assert(eq(u64, item.row.awaiter, 1));
	cr_assert(eq(u64, item.row.request, 2));
	cr_assert(eq(u64, item.key.arrival, placed.where.arrival));
	cr_assert(eq(sz, item.payload.len, 0));
	cr_assert(eq(int, pending_remove(txn, &name, &placed.where), 0));
	cr_assert(eq(int, pending_get(txn, &placed.where, &item), ERR_NOTFOUND));
	cr_assert(eq(int, pending_remove(txn, &name, &placed.where), ERR_NOTFOUND));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 1));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "3"), 0));
	txn = write_begin();
	cr_assert(eq(int, pending_remove(txn, &name, &other.where), ERR_NOTFOUND));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 0));
}

/* Orphans. */

/* The requests that CONN_ID was told have no worker: "1 2 3". */
static const char *
refused_of(uint64_t conn_id)
{
	const struct events *events = inbox_of(conn_id);
	static char out[512];
	size_t len = 0;
	unsigned i;

	out[0] = '\0';
	for (i = 0; i < events->n; i++)
		if (events->list[i].kind == INBOX_NO_WORKERS)
			len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu",
			    len > 0 ? " " : "",
			    (unsigned long long)events->list[i].request);
	return out;
}

Test(state_pending, the_end_of_the_last_worker_of_a_type_refuses_what_waits_for_it)
{
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .types = "red green" });
	add_worker(txn, 6, (struct worker_spec){ .types = "green blue" });
	add_worker(txn, 7, (struct worker_spec){ .types = "blue" });
	place(txn, 1, 1, (struct request_spec){ .type = "red" });
	place(txn, 1, 2, (struct request_spec){ .type = "green" });
	place(txn, 1, 3, (struct request_spec){ .type = "blue" });
	place(txn, 2, 11, (struct request_spec){ .type = "red" });
	place(txn, 2, 12, (struct request_spec){ .type = "green" });
	place(txn, 3, 13, (struct request_spec){ .type = "red" });
	place(txn, 2, 14, (struct request_spec){ 0 });
	place(txn, 2, 15, (struct request_spec){ .type = "blue" });
	commit(txn);
	txn = write_begin();
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, strcmp(refused_of(2), "11"), 0));
	cr_assert(eq(int, strcmp(refused_of(3), "13"), 0));
	cr_assert(eq(int, waiting_in("ns"), 3));
	txn = write_begin();
	end(txn, 6, "gone");
	commit(txn);
	cr_assert(eq(int, strcmp(refused_of(2), "11 12"), 0));
	txn = write_begin();
	end(txn, 7, "gone");
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), -1));
	cr_assert(eq(u64, rows_in(STATE_PENDING), 0));
	cr_assert(eq(uint, inbox_of(2)->n, 4));
}

Test(state_pending, the_end_of_the_last_worker_of_a_node_refuses_what_requires_it)
{
	struct request_spec here = { .node = "n1", .flags = PENDING_NODE_REQUIRED };
	struct request_spec red = { .type = "red", .node = "n1", .flags = PENDING_NODE_REQUIRED };
	struct request_spec wish = { .node = "n1" };
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .node = "n1" });
	add_worker(txn, 6, (struct worker_spec){ .node = "n1", .types = "green" });
	add_worker(txn, 7, (struct worker_spec){ .node = "n2" });
	add_worker(txn, 8, (struct worker_spec){ 0 });
	for (uint64_t i = 1; i <= 4; i++)
		place(txn, 1, i, (struct request_spec){ .type = "green" });
	place(txn, 2, 11, here);
	place(txn, 2, 12, red);
	place(txn, 2, 13, wish);
	place(txn, 2, 14, here);
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 4));
	txn = write_begin();
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, strcmp(refused_of(2), "12"), 0));
	txn = write_begin();
	end(txn, 6, "gone");
	commit(txn);
	cr_assert(eq(uint, inbox_of(2)->n, 3));
	cr_assert(eq(int, waiting_in("ns"), 1));
	finish_one(8);
	cr_assert(eq(int, strcmp(requests_at(8), "13"), 0));
}

/* A worker that is there but holds back, or is busy, is a worker. */
Test(state_pending, busy_workers_keep_the_queue)
{
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .types = "red", .not_ready = 1 });
	add_worker(txn, 6, (struct worker_spec){ .types = "red" });
	place(txn, 1, 1, (struct request_spec){ .type = "red" });
	place(txn, 1, 2, (struct request_spec){ .type = "red" });
	commit(txn);
	txn = write_begin();
	end(txn, 6, "gone");
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 1));
	cr_assert(eq(int, strcmp(refused_of(1), ""), 0));
}

/* Demands that look alike when written one behind the other are different ones. */
Test(state_pending, types_and_nodes_are_not_run_together)
{
	static const uint8_t odd[] = { 't', 0, 'n' };
	struct pool_demand plain = { { odd, 3 }, { NULL, 0 }, 0 };
	struct pool_demand noded = { { odd, 1 }, { odd + 2, 1 }, 1 };
	struct frame_view payload = act_view("p");
	struct pool_name name = act_pool("ns");
	struct pending_key one, two;
	struct pool_snapshot pool;
	struct pending_row row;
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ .types = "other", .node = "n" });
	memset(&pool, 0, sizeof pool);
	memset(&row, 0, sizeof row);
	row.awaiter = 1;
	cr_assert(eq(int, pool_snapshot_read(txn, &name, &pool), 0));
	cr_assert(eq(int, pending_add(txn, &pool, 10, 0, &row, &plain, &payload, &one), 0));
	cr_assert(eq(int, pending_add(txn, &pool, 10, 0, &row, &noded, &payload, &two), 0));
	cr_assert(ne(u64, one.lane, two.lane));
	state_abort(txn);
	pool_snapshot_free(&pool);
}

/* An awaiter's end: its own requests are forgotten, in all pools and lanes, over many pages. */
Test(state_pending, an_awaiters_end_takes_its_requests_and_no_others)
{
	static const char *const spaces[] = { "a", "b", "c" };
	static const char *const types[] = { "red", "green", "blue", NULL };
	static char payload[3000];
	struct state_txn *txn = write_begin();
	unsigned seed = 1;
	uint64_t mine = 0, n = 3000, i;

	memset(payload, 'p', sizeof payload - 1);
	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b c", .not_ready = 1 });
	for (i = 1; i <= n; i++) {
		uint64_t awaiter = (uint64_t)(rand_r(&seed) % 3) + 1;

		place(txn, awaiter, i, (struct request_spec){
		    .space = spaces[rand_r(&seed) % 3], .type = types[rand_r(&seed) % 4],
		    .limit = 10000, .payload = payload + rand_r(&seed) % 2999 });
		mine += awaiter == 2;
	}
	commit(txn);
	txn = write_begin();
	end(txn, 2, "gone");
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_PENDING), n - mine));
	cr_assert(eq(int, waiting_in("a") + waiting_in("b") + waiting_in("c"), (int)(n - mine)));
	cr_assert(eq(int, fixture_check(NULL), 0));
	txn = write_begin();
	end(txn, 1, "gone");
	end(txn, 3, "gone");
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_PENDING), 0));
	cr_assert(eq(int, waiting_in("b"), 0));
}

/* All that wait in many lanes are refused in one transaction. */
Test(state_pending, many_lanes_are_refused_together)
{
	struct state_txn *txn = write_begin();
	char type[16];

	add_worker(txn, 5, (struct worker_spec){ .not_ready = 1 });
	add_worker(txn, 6, (struct worker_spec){ .not_ready = 1, .types = "t7" });
	for (uint64_t i = 0; i < 1000; i++) {
		snprintf(type, sizeof type, "t%d", (int)(i % 500));
		place(txn, i % 40 + 1, i, (struct request_spec){ .type = type });
	}
	commit(txn);
	txn = write_begin();
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 2));
	cr_assert(eq(uint, inbox_of(39)->n, 25));
}

/* Two names whose hashes the lanes are made of are the same. They were made so, as a peer could. */
#define TWIN_ONE "STKPjCynYhsJ"
#define TWIN_TWO "DZr[zCsYSGN~"

static uint64_t
first_lane(const char *type)
{
	uint64_t len = strlen(type);

	return hash_fnv1a(hash_fnv1a(HASH_FNV1A_START, &len, sizeof len), type, len);
}

/* They share neither a place in the line nor the other's end. */
Test(state_pending, demands_with_one_hash_have_a_lane_each)
{
	struct state_txn *txn = write_begin();
	struct act_placed one, two, again;

	cr_assert(eq(u64, first_lane(TWIN_ONE), first_lane(TWIN_TWO)));
	add_worker(txn, 5, (struct worker_spec){ .types = TWIN_ONE });
	add_worker(txn, 6, (struct worker_spec){ .types = TWIN_TWO });
	place(txn, 1, 1, (struct request_spec){ .type = TWIN_ONE });
	place(txn, 1, 2, (struct request_spec){ .type = TWIN_TWO });
	one = place(txn, 1, 10, (struct request_spec){ .type = TWIN_ONE });
	two = place(txn, 2, 20, (struct request_spec){ .type = TWIN_TWO });
	again = place(txn, 1, 11, (struct request_spec){ .type = TWIN_ONE });
	cr_assert(ne(u64, one.where.lane, two.where.lane));
	cr_assert(eq(u64, one.where.lane, again.where.lane));
	commit(txn);
	/* behind a request of the other's, and still the oldest that it may take */
	finish_one(6);
	cr_assert(eq(int, strcmp(requests_at(6), "20"), 0));
	txn = write_begin();
	place(txn, 2, 21, (struct request_spec){ .type = TWIN_TWO });
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, strcmp(refused_of(1), "10 11"), 0));
	cr_assert(eq(int, strcmp(refused_of(2), ""), 0));
	cr_assert(eq(int, waiting_in("ns"), 1));
	finish_one(6);
	cr_assert(eq(int, strcmp(requests_at(6), "21"), 0));
}

/* What the router's module is asked about. */

static struct act_placed
ask_router(struct state_txn *txn, uint64_t caller, uint64_t request, struct request_spec spec)
{
	struct pool_name name = act_pool(spec.space);
	struct pool_snapshot pool;
	struct act_placed placed;

	memset(&pool, 0, sizeof pool);
	memset(&placed, 0, sizeof placed);
	spec.flags |= PENDING_ASKED | PENDING_TELL_START;
	cr_assert(eq(int, pool_snapshot_read(txn, &name, &pool), 0));
	cr_assert(eq(int, act_queue(txn, caller, (uint32_t)caller, request, spec, &pool, &placed),
	    0));
	cr_assert(eq(int, pool_snapshot_write(txn, &pool), 0));
	pool_snapshot_free(&pool);
	return placed;
}

Test(state_pending, no_worker_takes_what_the_router_is_asked_about)
{
	struct state_txn *txn = write_begin();
	struct act_placed asked, waits;
	struct pending_key where;
	struct pool_name name = act_pool("ns");

	add_worker(txn, 5, (struct worker_spec){ 0 });
	asked = ask_router(txn, 1, 1, (struct request_spec){ .payload = "first" });
	cr_assert(eq(u64, asked.where.pool & PENDING_ROUTING, PENDING_ROUTING));
	commit(txn);
	cr_assert(eq(int, fixture_check(NULL), 0));
	cr_assert(eq(int, waiting_in("ns"), 1));
	txn = write_begin();
	place(txn, 2, 2, (struct request_spec){ 0 });
	waits = place(txn, 2, 3, (struct request_spec){ .payload = "second" });
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "2"), 0));

	/* nobody has room: into the queue, where its arrival has kept its place */
	txn = write_begin();
	where = asked.where;
	cr_assert(eq(int, pending_queue(txn, &name, &where), 0));
	cr_assert(eq(u64, where.pool, waits.where.pool));
	cr_assert(eq(u64, where.lane, waits.where.lane));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 2));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "1"), 0));
	cr_assert(eq(int, strcmp(pushed_to(5)->list[0].text, "first"), 0));
	cr_assert(eq(uint, inbox_of(1)->n, 1));
	cr_assert(eq(u32, inbox_of(1)->list[0].kind, INBOX_STARTED));
	finish_one(5);
	cr_assert(eq(int, strcmp(requests_at(5), "3"), 0));
}

Test(state_pending, what_the_router_is_asked_about_ends_like_what_waits)
{
	struct state_txn *txn = write_begin();
	struct act_placed one, three;
	struct pending_key where;
	struct pool_name name = act_pool("ns");

	add_worker(txn, 5, (struct worker_spec){ .types = "red" });
	add_worker(txn, 6, (struct worker_spec){ .types = "blue" });
	one = ask_router(txn, 1, 1, (struct request_spec){ .type = "red" });
	ask_router(txn, 1, 2, (struct request_spec){ .type = "blue" });
	three = ask_router(txn, 2, 3, (struct request_spec){ .type = "red" });
	ask_router(txn, 3, 4, (struct request_spec){ .type = "red" });
	ask_router(txn, 3, 5, (struct request_spec){ .type = "blue" });
	commit(txn);
	/* taken back, also by who does not know where it has gone meanwhile */
	txn = write_begin();
	where = three.where;
	cr_assert(eq(int, pending_queue(txn, &name, &where), 0));
	cr_assert(eq(int, pending_remove(txn, &name, &three.where), ERR_NOTFOUND));
	cr_assert(eq(int, pending_find(txn, 2, three.where.arrival, &where), 0));
	cr_assert(eq(int, pending_remove(txn, &name, &where), 0));
	cr_assert(eq(int, pending_find(txn, 2, three.where.arrival, &where), ERR_NOTFOUND));
	cr_assert(eq(int, pending_find(txn, 2, one.where.arrival, &where), ERR_NOTFOUND));
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 4));
	/* the caller ends */
	txn = write_begin();
	end(txn, 3, "gone");
	commit(txn);
	cr_assert(eq(int, waiting_in("ns"), 2));
	/* nobody accepts it any more */
	txn = write_begin();
	end(txn, 5, "gone");
	commit(txn);
	cr_assert(eq(int, strcmp(refused_of(1), "1"), 0));
	cr_assert(eq(int, waiting_in("ns"), 1));
	cr_assert(eq(int, fixture_check(NULL), 0));
}
