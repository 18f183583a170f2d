/* pool and workers: who is in which pool, how busy, and what a registration changes. */
#include "base/hash.h"
#include "unit/state_fixture.h"

static void
pool_setup(void)
{
	struct state_txn *txn;

	fixture_init();
	txn = write_begin();
	add_connections(txn, 1, 40);
	commit(txn);
}

/* Every test's end: all connections end, and nothing is left. */
static void
pool_teardown(void)
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

TestSuite(state_pool, .init = pool_setup, .fini = pool_teardown);

/* Names. */

static const char *
fault(const char *text)
{
	struct frame_view view = act_view(text);

	return pool_part_fault(&view);
}

Test(state_pool, names_are_two_parts_without_dots)
{
	char text[202];

	cr_assert(eq(ptr, (void *)(uintptr_t)fault("ns"), NULL));
	cr_assert(eq(ptr, (void *)(uintptr_t)fault("a b/c:\xc3\xa4"), NULL));
	cr_assert(strstr(fault(""), "empty") != NULL);
	cr_assert(strstr(fault("a.b"), "dot") != NULL);
	cr_assert(strstr(fault("a\nb"), "control") != NULL);
	cr_assert(strstr(fault("a\x7f"), "control") != NULL);
	memset(text, 'x', 201);
	text[201] = '\0';
	cr_assert(strstr(fault(text), "longer") != NULL);
	text[200] = '\0';
	cr_assert(eq(ptr, (void *)(uintptr_t)fault(text), NULL));
}

Test(state_pool, a_subject_names_a_pool_or_says_why_not)
{
	static const struct { const char *subject, *what; } bad[] = {
		{ "", "begin" }, { "aion.dispatch", "begin" }, { "aion.dispatchx.a.b", "begin" },
		{ "aion.dispatch.", "<task queue>" }, { "aion.dispatch.ns", "<task queue>" },
		{ "aion.dispatch..q", "namespace is empty" },
		{ "aion.dispatch.ns.", "task queue is empty" },
		{ "aion.dispatch.ns.q.r", "task queue contains a dot" },
		{ "aion.dispatch.n\ts.q", "namespace contains a control" },
	};
	struct frame_view subject = act_view("aion.dispatch.ns.q");
	struct pool_name name, same = act_pool("ns");
	struct err err;
	size_t i;

	cr_assert(eq(int, pool_name_from_subject(&name, &subject, &err), 0));
	cr_assert(eq(sz, name.len, same.len));
	cr_assert(eq(int, memcmp(name.text, same.text, name.len), 0));
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		subject = act_view(bad[i].subject);
		cr_assert(eq(int, pool_name_from_subject(&name, &subject, &err), ERR_INVALID));
		cr_assert(strstr(err.text, bad[i].what) != NULL, "'%s': %s", bad[i].subject,
		    err.text);
	}
}

Test(state_pool, the_longest_names_fit)
{
	char space[201], subject[500];
	struct frame_view view;
	struct pool_name name;
	struct state_txn *txn = write_begin();
	struct pool_meta meta;

	memset(space, 's', 200);
	space[200] = '\0';
	add_worker(txn, 1, (struct worker_spec){ .spaces = space });
	snprintf(subject, sizeof subject, "aion.dispatch.%s.q", space);
	view = act_view(subject);
	cr_assert(eq(int, pool_name_from_subject(&name, &view, NULL), 0));
	cr_assert(eq(int, pool_meta_get(txn, &name, &meta), 0));
	/* as a dispatch may ask: both parts at their longest */
	snprintf(subject, sizeof subject, "aion.dispatch.%s.%s", space, space);
	view = act_view(subject);
	cr_assert(eq(int, pool_name_from_subject(&name, &view, NULL), 0));
	cr_assert(eq(sz, name.len, 401));
	cr_assert(eq(int, pool_meta_get(txn, &name, &meta), ERR_NOTFOUND));
	meta.id = 77;
	meta.n_workers = 1;
	meta.n_pending = 0;
	cr_assert(eq(int, pool_meta_put(txn, &name, &meta), 0));
	cr_assert(eq(int, pool_meta_get(txn, &name, &meta), 0));
	cr_assert(eq(int, (int)meta.id, 77));
	state_abort(txn);
	workers_pools_free(&fixture_pools[1]);
}

/* Snapshots. */

/* The workers of a pool: "<conn id>:<in flight>/<maximum> ...", "!" behind those that are not
 * ready; "none" without a pool. */
static const char *
snapshot(const char *space)
{
	static char out[1024];
	struct pool_name name = act_pool(space);
	struct pool_snapshot pool;
	struct state_txn *txn = read_begin();
	size_t i, len = 0;
	int rc;

	memset(&pool, 0, sizeof pool);
	rc = pool_snapshot_read(txn, &name, &pool);
	state_abort(txn);
	if (rc == ERR_NOTFOUND)
		return "none";
	cr_assert(eq(int, rc, 0));
	out[0] = '\0';
	for (i = 0; i < pool.n; i++)
		len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu:%u/%u%s",
		    i > 0 ? " " : "", (unsigned long long)pool.workers[i].conn_id,
		    pool.workers[i].row.in_flight, pool.workers[i].row.max_concurrent,
		    pool.workers[i].row.flags & POOL_ROW_READY ? "" : "!");
	cr_assert(eq(u32, pool.meta.n_workers, (uint32_t)pool.n));
	pool_snapshot_free(&pool);
	return out;
}

#define assert_snapshot(space, want) do {				\
	const char *got_ = snapshot(space);				\
	cr_assert(strcmp(got_, want) == 0, "%s: '%s', not '%s'", space, got_, want); \
} while (0)

Test(state_pool, a_snapshot_lists_exactly_the_registered_workers)
{
	struct state_txn *txn;

	assert_snapshot("ns", "none");
	txn = write_begin();
	add_worker(txn, 30, (struct worker_spec){ .max = 3 });
	add_worker(txn, 4, (struct worker_spec){ .spaces = "ns other" });
	commit(txn);
	assert_snapshot("ns", "4:0/1 30:0/3");
	assert_snapshot("other", "4:0/1");
	txn = write_begin();
	add_worker(txn, 17, (struct worker_spec){ .not_ready = 1 });
	commit(txn);
	assert_snapshot("ns", "4:0/1 17:0/1! 30:0/3");
	txn = write_begin();
	cr_assert(eq(int, workers_make_ready(txn, 17, &fixture_pools[17]), 0));
	end(txn, 4, "over");
	commit(txn);
	assert_snapshot("ns", "17:0/1 30:0/3");
	assert_snapshot("other", "none");
	txn = write_begin();
	end(txn, 17, "over");
	end(txn, 30, "over");
	commit(txn);
	assert_snapshot("ns", "none");
}

Test(state_pool, a_worker_in_several_pools_is_equally_busy_in_all)
{
	struct state_txn *txn = write_begin();
	struct act_placed one, two;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b c", .max = 3 });
	add_worker(txn, 6, (struct worker_spec){ .spaces = "b" });
	one = place(txn, 1, 1, (struct request_spec){ .space = "a" });
	two = place(txn, 1, 2, (struct request_spec){ .space = "c" });
	commit(txn);
	assert_snapshot("a", "5:2/3");
	assert_snapshot("b", "5:2/3 6:0/1");
	assert_snapshot("c", "5:2/3");
	cr_assert(eq(u64, one.worker, 5));
	txn = write_begin();
	reply(txn, 5, two.correlation, "ok");
	commit(txn);
	assert_snapshot("a", "5:1/3");
	assert_snapshot("b", "5:1/3 6:0/1");
	assert_snapshot("c", "5:1/3");
	cr_assert(eq(u64, pushed_to(5)->list[0].correlation, one.correlation));
}

Test(state_pool, a_namespace_that_is_named_twice_is_joined_once)
{
	struct state_txn *txn = write_begin();
	struct act_placed placed;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a a b a" });
	commit(txn);
	cr_assert(eq(sz, fixture_pools[5].n, 2));
	assert_snapshot("a", "5:0/1");
	txn = write_begin();
	placed = place(txn, 1, 1, (struct request_spec){ .space = "a" });
	commit(txn);
	assert_snapshot("a", "5:1/1");
	assert_snapshot("b", "5:1/1");
	txn = write_begin();
	reply(txn, 5, placed.correlation, "ok");
	commit(txn);
	assert_snapshot("b", "5:0/1");
}

/* Registration. */

Test(state_pool, registering_again_replaces_the_pools_and_keeps_what_is_owed)
{
	struct state_txn *txn = write_begin();
	struct pushes_row direct = { .kind = PUSHES_DIRECT, .awaiter = 1, .awaiter_slot = 1 };
	struct frame_view payload = act_view("no job");
	struct record_registration record;
	struct act_placed first;
	uint64_t correlation;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b", .max = 4 });
	cr_assert(eq(int, pushes_add(txn, 5, 5, &direct, &payload, &correlation), 0));
	first = place(txn, 1, 1, (struct request_spec){ .space = "a" });
	place(txn, 1, 2, (struct request_spec){ .space = "b" });
	commit(txn);
	txn = write_begin();
	add_worker(txn, 5, (struct worker_spec){ .spaces = "b c", .max = 3, .types = "t" });
	commit(txn);
	assert_snapshot("a", "none");
	assert_snapshot("b", "5:2/3");
	assert_snapshot("c", "5:2/3");
	/* the answer to a job of a pool that it has left counts all the same */
	txn = write_begin();
	reply(txn, 5, first.correlation, "ok");
	commit(txn);
	assert_snapshot("b", "5:1/3");
	assert_snapshot("c", "5:1/3");
	txn = read_begin();
	cr_assert(eq(int, workers_get(txn, 5, &record), 0));
	cr_assert(eq(u32, record.namespaces.count, 2));
	cr_assert(eq(u32, record.activity_types.count, 1));
	cr_assert(eq(sz, record.pools.len, 16));
	cr_assert(eq(int, memcmp(record.pools.data + 8, &fixture_pools[5].list[1].id, 8), 0));
	record_free_registration(&record);
	state_abort(txn);
}

Test(state_pool, registering_again_as_the_last_worker_keeps_what_waits)
{
	struct state_txn *txn = write_begin();
	uint64_t pool;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a b" });
	pool = fixture_pools[5].list[0].id;
	for (uint64_t i = 1; i <= 4; i++)
		place(txn, 2, i, (struct request_spec){ .space = "a", .payload = "p" });
	place(txn, 2, 5, (struct request_spec){ .space = "b" });
	commit(txn);
	cr_assert(eq(int, waiting_in("a"), 3));
	txn = write_begin();
	add_worker(txn, 5, (struct worker_spec){ .spaces = "c a" });
	commit(txn);
	cr_assert(eq(int, waiting_in("a"), 3));
	cr_assert(eq(u64, fixture_pools[5].list[1].id, pool));
	/* in b there is nobody any more */
	cr_assert(eq(uint, inbox_of(2)->n, 1));
	cr_assert(eq(u32, inbox_of(2)->list[0].kind, INBOX_NO_WORKERS));
	cr_assert(eq(u64, inbox_of(2)->list[0].request, 5));
	/* and more room at once takes more */
	txn = write_begin();
	add_worker(txn, 5, (struct worker_spec){ .spaces = "c a", .max = 3 });
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "1 2 3"), 0));
	cr_assert(eq(int, waiting_in("a"), 1));
	assert_snapshot("c", "5:3/3");
}

Test(state_pool, registering_with_other_types_refuses_what_nobody_takes_any_more)
{
	struct state_txn *txn = write_begin();
	uint64_t correlation;

	add_worker(txn, 5, (struct worker_spec){ .types = "red green" });
	place(txn, 2, 1, (struct request_spec){ .type = "red" });
	place(txn, 2, 2, (struct request_spec){ .type = "red" });
	place(txn, 2, 3, (struct request_spec){ .type = "green" });
	commit(txn);
	txn = write_begin();
	add_worker(txn, 5, (struct worker_spec){ .types = "green blue" });
	commit(txn);
	cr_assert(eq(uint, inbox_of(2)->n, 1));
	cr_assert(eq(u64, inbox_of(2)->list[0].request, 2));
	cr_assert(eq(int, waiting_in("ns"), 1));
	correlation = pushed_to(5)->list[0].correlation;
	txn = write_begin();
	cr_assert(eq(int, (int)place(txn, 2, 4, (struct request_spec){ .type = "red" }).outcome,
	    ACT_REFUSED));
	reply(txn, 5, correlation, "ok");
	commit(txn);
	cr_assert(eq(int, strcmp(requests_at(5), "3"), 0));
}

Test(state_pool, a_worker_of_every_type_is_replaced_by_one_of_some)
{
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ 0 });
	cr_assert(eq(int, (int)place(txn, 2, 1, (struct request_spec){ .type = "x" }).outcome,
	    ACT_PUSHED));
	add_worker(txn, 5, (struct worker_spec){ .types = "y", .max = 2 });
	cr_assert(eq(int, (int)place(txn, 2, 2, (struct request_spec){ .type = "x" }).outcome,
	    ACT_REFUSED));
	cr_assert(eq(int, (int)place(txn, 2, 3, (struct request_spec){ .type = "y" }).outcome,
	    ACT_PUSHED));
	commit(txn);
}

/* What a process remembers about a worker's types must be about its present registration, even
 * if transactions share a number because one of them was given up, or both are one. */
Test(state_pool, types_are_those_of_the_present_registration)
{
	struct frame_view red = act_view("red"), green = act_view("green");
	struct state_txn *txn = write_begin();
	uint64_t number = state_txn_number(txn);
	struct pool_row row;

	add_worker(txn, 5, (struct worker_spec){ .types = "red" });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[5].list[0].id, 5, &row), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &red), 1));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &green), 0));
	state_abort(txn);
	txn = write_begin();
	cr_assert(eq(u64, state_txn_number(txn), number));
	add_worker(txn, 5, (struct worker_spec){ .types = "green" });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[5].list[0].id, 5, &row), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &red), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &green), 1));
	add_worker(txn, 5, (struct worker_spec){ .types = "red" });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[5].list[0].id, 5, &row), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &red), 1));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &green), 0));
	commit(txn);
}

/* Nor may it be about an earlier one, when the worker's own process has changed it. */
Test(state_pool, types_are_known_anew_when_another_process_registers)
{
	struct frame_view red = act_view("red"), green = act_view("green");
	struct state_txn *txn = write_begin();
	uint64_t pool;
	struct pool_row row;
	int status;
	pid_t pid;

	add_worker(txn, 5, (struct worker_spec){ .types = "red" });
	add_worker(txn, 6, (struct worker_spec){ 0 });	/* so that it stays the same pool */
	commit(txn);
	pool = fixture_pools[5].list[0].id;
	txn = read_begin();
	cr_assert(eq(int, pool_row_get(txn, pool, 5, &row), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &red), 1));
	state_abort(txn);
	fixture_close();
	if ((pid = fork_child()) == 0) {
		struct worker_spec spec = { .types = "green", .max = 2 };
		struct workers_pools pools;

		if (state_open(&fixture_state, fixture_dir, NULL, NULL) != 0 ||
		    state_begin_write(fixture_state, &txn) != 0 ||
		    act_register(txn, 5, 5, spec, &pools) != 0 || state_commit(txn) != 0)
			_exit(1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	cr_assert(eq(int, exit_status(status), 0));
	fixture_open();
	txn = read_begin();
	cr_assert(eq(int, pool_row_get(txn, pool, 5, &row), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &red), 0));
	cr_assert(eq(int, workers_has_type(txn, 5, row.sequence, &green), 1));
	state_abort(txn);
}

/* More workers than are remembered at once, whose numbers collide. */
Test(state_pool, types_of_many_workers_are_told_apart)
{
	struct state_txn *txn = write_begin();
	struct pool_demand demand;
	struct pool_snapshot pool;
	struct pool_name name = act_pool("ns");
	struct workers_pools pools;
	struct worker_spec spec = { 0 };
	char type[2] = "";
	uint64_t id;
	size_t i;

	for (id = 1000; id < 1300; id++) {
		type[0] = (char)('a' + (int)(id % 26));
		spec.types = type;
		cr_assert(eq(int, act_connect(txn, id, 1), 0));
		cr_assert(eq(int, act_register(txn, id, 1, spec, &pools), 0));
		workers_pools_free(&pools);
	}
	commit(txn);
	memset(&pool, 0, sizeof pool);
	memset(&demand, 0, sizeof demand);
	txn = read_begin();
	cr_assert(eq(int, pool_snapshot_read(txn, &name, &pool), 0));
	cr_assert(eq(sz, pool.n, 300));
	for (type[0] = 'a'; type[0] <= 'z'; type[0]++) {
		demand.type = act_view(type);
		for (i = 0; i < pool.n; i++)
			cr_assert(eq(int, pool_accepts(txn, pool.workers[i].conn_id,
			    &pool.workers[i].row, &demand),
			    pool.workers[i].conn_id % 26 == (uint64_t)(type[0] - 'a')));
	}
	state_abort(txn);
	pool_snapshot_free(&pool);
	txn = write_begin();
	for (id = 1000; id < 1300; id++)
		end(txn, id, "over");
	commit(txn);
}

Test(state_pool, a_required_node_is_required_and_a_wished_one_is_not)
{
	struct state_txn *txn = write_begin();
	struct pool_demand demand = { act_view(NULL), act_view("n1"), 0 };
	struct pool_row on, off, bare;

	add_worker(txn, 5, (struct worker_spec){ .spaces = "a", .node = "n1" });
	add_worker(txn, 6, (struct worker_spec){ .spaces = "a", .node = "n2" });
	add_worker(txn, 7, (struct worker_spec){ .spaces = "a" });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[5].list[0].id, 5, &on), 0));
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[6].list[0].id, 6, &off), 0));
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[7].list[0].id, 7, &bare), 0));
	cr_assert(eq(int, pool_accepts(txn, 5, &on, &demand), 1));
	cr_assert(eq(int, pool_accepts(txn, 6, &off, &demand), 1));
	cr_assert(eq(int, pool_accepts(txn, 7, &bare, &demand), 1));
	demand.node_required = 1;
	cr_assert(eq(int, pool_accepts(txn, 5, &on, &demand), 1));
	cr_assert(eq(int, pool_accepts(txn, 6, &off, &demand), 0));
	cr_assert(eq(int, pool_accepts(txn, 7, &bare, &demand), 0));
	demand.type = act_view("t");
	cr_assert(eq(int, pool_accepts(txn, 5, &on, &demand), 1));
	commit(txn);
}

/* Two names with one FNV-1a hash: a peer can make such, and must not get what is another's. */
Test(state_pool, names_count_not_their_hashes)
{
	const char *one = "l]}kFoqBP{Wb", *two = "iFSiPoxZO{na";
	struct state_txn *txn = write_begin();
	struct pool_demand node = { act_view(NULL), act_view(one), 1 };
	struct pool_demand type = { act_view(one), act_view(NULL), 0 };
	struct pool_row first, second;

	cr_assert(eq(u64, hash_fnv1a(HASH_FNV1A_START, one, strlen(one)),
	    hash_fnv1a(HASH_FNV1A_START, two, strlen(two))));
	add_worker(txn, 5, (struct worker_spec){ .node = one, .types = one });
	add_worker(txn, 6, (struct worker_spec){ .node = two, .types = two });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[5].list[0].id, 5, &first), 0));
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[6].list[0].id, 6, &second), 0));
	cr_assert(eq(int, pool_accepts(txn, 5, &first, &node), 1));
	cr_assert(eq(int, pool_accepts(txn, 6, &second, &node), 0));
	cr_assert(eq(int, pool_accepts(txn, 5, &first, &type), 1));
	cr_assert(eq(int, pool_accepts(txn, 6, &second, &type), 0));
	/* and one worker may have both */
	add_worker(txn, 6, (struct worker_spec){ .types = "iFSiPoxZO{na x l]}kFoqBP{Wb" });
	cr_assert(eq(int, pool_row_get(txn, fixture_pools[6].list[0].id, 6, &second), 0));
	cr_assert(eq(int, pool_accepts(txn, 6, &second, &type), 1));
	type.type = act_view(two);
	cr_assert(eq(int, pool_accepts(txn, 6, &second, &type), 1));
	cr_assert(eq(int, pool_accepts(txn, 5, &first, &type), 0));
	commit(txn);
}

Test(state_pool, worker_ids_name_identity_and_connection)
{
	struct state_txn *txn = write_begin();
	char id[WORKERS_ID_SIZE], longest[WORKERS_IDENTITY_MAX + 1];

	memset(longest, 'i', WORKERS_IDENTITY_MAX);
	longest[WORKERS_IDENTITY_MAX] = '\0';
	add_worker(txn, 5, (struct worker_spec){ .identity = "builder-1" });
	add_worker(txn, 6, (struct worker_spec){ .identity = "" });
	add_worker(txn, 7, (struct worker_spec){ .identity = longest });
	cr_assert(eq(int, strcmp(workers_id(txn, 5, id), "builder-1#5"), 0));
	cr_assert(eq(int, strcmp(workers_id(txn, 6, id), "#6"), 0));
	cr_assert(eq(int, strcmp(workers_id(txn, 7, id) + WORKERS_IDENTITY_MAX, "#7"), 0));
	cr_assert(eq(int, strcmp(workers_id(txn, UINT64_MAX, id), "#18446744073709551615"), 0));
	commit(txn);
}

static int
count_worker(void *arg, uint64_t conn_id, const struct record_registration *registration)
{
	uint64_t *last = arg;

	cr_assert(lt(u64, *last, conn_id));
	cr_assert(eq(u32, registration->max_concurrent, (uint32_t)conn_id));
	*last = conn_id;
	return conn_id == 9 ? 5 : 0;
}

Test(state_pool, workers_are_listed_and_marked_on_their_connections)
{
	struct connections_row row;
	struct state_txn *txn = write_begin();
	uint64_t last = 0;

	for (uint64_t id = 3; id <= 12; id += 3)
		add_worker(txn, id, (struct worker_spec){ .max = (uint32_t)id });
	cr_assert(eq(int, workers_each(txn, count_worker, &last), 5));
	cr_assert(eq(u64, last, 9));
	cr_assert(eq(int, connections_get(txn, 9, &row), 0));
	cr_assert(eq(u8, row.is_worker, 1));
	cr_assert(eq(int, connections_get(txn, 8, &row), 0));
	cr_assert(eq(u8, row.is_worker, 0));
	cr_assert(eq(int, workers_unregister(txn, 8), 0));
	commit(txn);
}

Test(state_pool, nobody_registers_who_has_no_connection)
{
	struct workers_pools pools;
	struct worker_spec spec = { 0 };
	struct state_txn *txn = write_begin();

	cr_assert(eq(int, act_register(txn, 999, 1, spec, &pools), ERR_NOTFOUND));
	state_abort(txn);
}
