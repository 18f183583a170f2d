/*
 * The store process, really: fed by processes that stand for connections, killed at any
 * instruction, restarted as the master does. Every step must be in the record exactly once and in
 * order, and every outcome that somebody was told of must be there.
 */
#include <sys/mman.h>
#include <time.h>

#include "proc/store_process.h"

#define FEEDERS		4
#define SLOT_OF(feeder)	(8 + (uint32_t)(feeder))
#define REQUESTS	20000	/* of one feeder, at most */
#define OUTSTANDING	16
#define STEPS_MAX	6
#define KILLS		120

/* What has happened to each request, written by its feeder after the commit. */
struct request_log {
	uint8_t posted;			/* steps, for sure; one more when it died meanwhile */
	uint8_t answered;		/* INBOX_RECORDED came, that often */
};
struct shared {
	struct request_log logs[FEEDERS][REQUESTS];
	_Atomic uint32_t n_requests[FEEDERS];
	_Atomic uint64_t answers, elsewhere;
	_Atomic int is_draining;
};
static struct shared *shared;

static pid_t feeders[FEEDERS];
static uint64_t last_conn_id;

/* As the keeper after an abnormal end. */
static void
poke_all(void)
{
	cr_assert(eq(int, state_check_readers(fixture_state), 0));
	for (uint32_t slot = SLOT_OF(0); slot < SLOT_OF(FEEDERS); slot++)
		wake_poke_always(&fixture_wake, slot,
		    atomic_load(&fixture_board->slots[slot].conn_id));
	wake_poke_always(&fixture_wake, STORE_SLOT, 0);
}

/*
 * Feeders.
 */
struct feeder {
	unsigned number, seed;
	uint64_t conn_id;
	struct wake wake;
	struct state *state;
	uint64_t seen;
	int is_dirty;
	struct { uint32_t request; uint8_t next, last; } open[OUTSTANDING];
	uint32_t waiting;		/* for answers */
};

static void __attribute__((noreturn))
feeder_fail(const struct feeder *f, const char *what, int rc)
{
	fprintf(stderr, "feeder %u: %s: %d (%s)\n", f->number, what, rc,
	    f->state == NULL ? "" : state_error_text(f->state));
	_exit(1);
}

static void
workflow_name(char *out, size_t size, unsigned number, uint32_t request)
{
	/* Some share one, as they do. */
	snprintf(out, size, "w%u-%u", number, request / 3);
}

static int
feeder_step(struct feeder *f, struct state_txn *txn, unsigned i)
{
	static char large[100001];
	struct step_spec spec = { 0 };
	char workflow[64], text[64];
	int is_last = f->open[i].next == f->open[i].last;

	workflow_name(workflow, sizeof workflow, f->number, f->open[i].request);
	snprintf(text, sizeof text, "%u.%u", f->open[i].request, f->open[i].next);
	spec.workflow = workflow;
	spec.ordinal = f->open[i].request + 1;
	spec.result = text;
	spec.flags = (f->open[i].next == 0 ? OPENS : 0) | (is_last ? ENDS : 0);
	if (is_last && rand_r(&f->seed) % 500 == 0) {
		memset(large, 'x', sizeof large - 1);
		snprintf(large, sizeof large, "%s", text);
		large[strlen(text)] = ' ';
		spec.result = large;
	}
	return post_step(txn, f->conn_id, SLOT_OF(f->number), f->open[i].request, spec);
}

static int
feeder_event(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct feeder *f = arg;

	(void)body;
	if (entry->kind != INBOX_RECORDED || entry->code > HISTORY_RECORDED_ELSEWHERE)
		feeder_fail(f, "an unexpected answer", (int)entry->code);
	if (++shared->logs[f->number][entry->request].answered != 1)
		feeder_fail(f, "answered twice", (int)entry->request);
	atomic_fetch_add(&shared->answers, 1);
	if (entry->code == HISTORY_RECORDED_ELSEWHERE)
		atomic_fetch_add(&shared->elsewhere, 1);
	f->waiting--;
	return 0;
}

static unsigned
feeder_look(struct feeder *f)
{
	struct state_txn *txn;
	uint64_t seen;
	unsigned rows;
	int rc;

	if ((rc = state_begin_read(f->state, &txn)) != 0)
		feeder_fail(f, "read", rc);
	seen = state_snapshot_id(txn);
	if ((rc = inbox_read(txn, f->conn_id, f->seen, &rows, feeder_event, f)) != 0)
		feeder_fail(f, "inbox", rc);
	state_abort(txn);
	f->seen = seen;
	f->is_dirty |= rows > 0;
	return rows;
}

/* One step of some of its requests, in one transaction; new ones in free places. */
static void
feeder_turn(struct feeder *f)
{
	unsigned i, did[OUTSTANDING], n = 0;
	struct state_txn *txn;
	uint32_t n_requests;
	int rc;

	if ((rc = state_begin_write(f->state, &txn)) != 0)
		feeder_fail(f, "begin", rc);
	if (f->is_dirty)
		rc = inbox_remove(txn, f->conn_id, f->seen);
	for (i = 0; rc == 0 && i < OUTSTANDING; i++) {
		n_requests = atomic_load(&shared->n_requests[f->number]);
		if (f->open[i].last == 0 && f->waiting < OUTSTANDING &&
		    n_requests < REQUESTS && !atomic_load(&shared->is_draining)) {
			f->open[i].request = n_requests;
			f->open[i].next = 0;
			f->open[i].last = (uint8_t)(1 + (unsigned)rand_r(&f->seed) % STEPS_MAX);
			atomic_store(&shared->n_requests[f->number], n_requests + 1);
		}
		if (f->open[i].last == 0 || rand_r(&f->seed) % 2)
			continue;
		rc = feeder_step(f, txn, i);
		did[n++] = i;
	}
	if (rc != 0)
		feeder_fail(f, "step", rc);
	if ((rc = state_commit(txn)) != 0)
		feeder_fail(f, "commit", rc);
	f->is_dirty = 0;
	while (n-- > 0) {
		i = did[n];
		shared->logs[f->number][f->open[i].request].posted++;
		if (f->open[i].next++ == f->open[i].last) {
			f->open[i].last = 0;
			f->waiting++;
		}
	}
}

static int
feeder_is_idle(const struct feeder *f)
{
	for (unsigned i = 0; i < OUTSTANDING; i++)
		if (f->open[i].last != 0)
			return 0;
	return 1;
}

static void
feeder_sleep(struct feeder *f)
{
	struct pollfd fd = { .fd = f->wake.fd, .events = POLLIN };
	int n = 1;

	wake_will_sleep(&f->wake);
	if (feeder_look(f) == 0)
		n = poll(&fd, 1, (int)(PATIENCE_NS / CLOCK_MS));
	wake_is_awake(&f->wake);
	wake_drain(&f->wake);
	if (n != 1)
		feeder_fail(f, "no answer", (int)f->waiting);
}

static void __attribute__((noreturn))
feeder_main(unsigned number, uint64_t conn_id)
{
	struct feeder f = { .number = number, .conn_id = conn_id, .seed = (unsigned)conn_id * 31 };
	struct state_txn *txn;
	int rc;

	if (board_own(fixture_board, SLOT_OF(number)) != 0 ||
	    wake_open(&f.wake, fixture_board, SLOT_OF(number), NULL) != 0 ||
	    state_open(&f.state, fixture_dir, &f.wake, NULL) != 0)
		_exit(2);
	if ((rc = state_begin_write(f.state, &txn)) != 0 ||
	    (rc = act_connect(txn, conn_id, SLOT_OF(number))) != 0 ||
	    (rc = connections_mark_recorded(txn, conn_id)) != 0 ||
	    (rc = state_commit(txn)) != 0)
		feeder_fail(&f, "enter", rc);
	for (;;) {
		feeder_look(&f);
		if (!feeder_is_idle(&f) || (f.waiting < OUTSTANDING &&
		    !atomic_load(&shared->is_draining) &&
		    atomic_load(&shared->n_requests[number]) < REQUESTS))
			feeder_turn(&f);
		else if (f.waiting > 0)
			feeder_sleep(&f);
		else
			_exit(0);
	}
}

static void
spawn_feeder(unsigned number)
{
	board_take(fixture_board, SLOT_OF(number), BOARD_CONNECTION, ++last_conn_id);
	if ((feeders[number] = fork_child()) == 0)
		feeder_main(number, last_conn_id);
	cr_assert(ne(int, feeders[number], -1));
}

/* As the keeper does it for one that has died. */
static void
clean_up(uint64_t conn_id)
{
	struct state_txn *txn = write_begin();

	cr_assert(le(int, 0, end_connection(txn, conn_id, "killed by signal 9 (SIGKILL)")));
	commit(txn);
}

static int
reap_feeder(unsigned number)
{
	uint64_t conn_id = atomic_load(&fixture_board->slots[SLOT_OF(number)].conn_id);
	int status;

	cr_assert(eq(int, waitpid(feeders[number], &status, 0), feeders[number]));
	feeders[number] = 0;
	board_release(fixture_board, SLOT_OF(number));
	fixture_close();
	fixture_open();
	clean_up(conn_id);
	return status;
}

/*
 * What must be in the record.
 */
struct expected {
	unsigned number;
	uint32_t request, step;
	int is_closed;			/* by the store, for its caller */
	unsigned n;			/* steps found of it */
};

/* Each step says "request.step" in its result; steps of one dispatch follow each other. */
static int
expect_step(void *arg, uint64_t dispatch, uint32_t step, const struct record_operations *operations)
{
	struct expected *expected = arg;
	char text[64];
	unsigned request, number;

	(void)dispatch;
	if (operations->message.len > 0) {
		cr_assert(expected->step == step && step > 0, "a closing at step %u", step);
		expected->is_closed = 1;
		return 0;
	}
	snprintf(text, sizeof text, "%.*s", (int)(operations->result.len < 60 ?
	    operations->result.len : 60), (const char *)operations->result.data);
	cr_assert(eq(int, sscanf(text, "%u.%u", &request, &number), 2));
	if (step == 0) {
		expected->request = request;
		expected->step = 0;
		expected->is_closed = 0;
	}
	cr_assert(request == expected->request && number == step && step == expected->step,
	    "feeder %u: step %u of request %u at %u.%u", expected->number, number, request,
	    expected->request, expected->step);
	cr_assert(expected->is_closed == 0, "a step after the end");
	expected->step++;
	shared->logs[expected->number][request].posted |= 0x80;	/* seen */
	if (step == 0) {
		cr_assert(shared->logs[expected->number][request].answered < 0x80,
		    "request %u is in it twice", request);
		shared->logs[expected->number][request].answered |= 0x80;
	}
	expected->n++;
	return 0;
}

struct counted { uint64_t dispatches, steps, closed, answered; };

static void
check_request(struct state_txn *txn, unsigned number, uint32_t request, struct counted *counted)
{
	struct frame_view channel = act_view("aion.dispatch.ns.q"), id;
	const struct request_log *log = &shared->logs[number][request];
	struct record_operations outcome_;
	char workflow[64], text[64];
	int rc;

	workflow_name(workflow, sizeof workflow, number, request);
	id = act_view(workflow);
	rc = history_find_outcome(txn, &id, &channel, request + 1, 0, &outcome_);
	if (log->answered & 0x7f) {
		counted->answered++;
		cr_assert(rc == 0, "request %u of feeder %u was answered, and is not there: %d",
		    request, number, rc);
	}
	if (log->posted != 0)
		cr_assert(log->posted >= 0x80, "request %u of feeder %u is missing: %u", request,
		    number, log->posted);
	if (rc == 0) {
		snprintf(text, sizeof text, "%u.", request);
		cr_assert(eq(int, strncmp((const char *)outcome_.result.data, text,
		    strlen(text)), 0));
		record_free_operations(&outcome_);
	}
}

static struct counted
check_record(void)
{
	struct counted counted = { 0, 0, 0, 0 };
	struct expected expected;
	struct state_txn *txn;
	struct err err = { 0 };
	struct frame_view id;
	char workflow[64];
	uint32_t i;

	cr_assert(eq(int, store_open_readonly(&store_env, store_dir, &err), 0), "%s", err.text);
	txn = store_look();
	for (unsigned number = 0; number < FEEDERS; number++) {
		memset(&expected, 0, sizeof expected);
		expected.number = number;
		for (i = 0; i < shared->n_requests[number]; i += 3) {
			workflow_name(workflow, sizeof workflow, number, i);
			id = act_view(workflow);
			cr_assert(eq(int, history_each(txn, &id, expect_step, &expected), 0));
		}
		counted.steps += expected.n;
		for (i = 0; i < shared->n_requests[number]; i++)
			check_request(txn, number, i, &counted);
	}
	counted.closed = state_count(txn, STORE_CLOSED);
	cr_assert(eq(u64, state_count(txn, STORE_OPEN), 0));
	cr_assert(eq(u64, state_count(txn, STORE_META), 2));
	state_abort(txn);
	state_close(store_env);
	store_env = NULL;
	return counted;
}

static void
storm_fini(void)
{
	int status;

	for (unsigned i = 0; i < FEEDERS; i++)
		if (feeders[i] > 0) {
			kill(feeders[i], SIGKILL);
			waitpid(feeders[i], &status, 0);
		}
	proc_fini();
}

static void
storm_init(void)
{
	proc_init();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	cr_assert(ne(ptr, shared, MAP_FAILED));
}

TestSuite(store_kill, .init = storm_init, .fini = storm_fini);

static void
wait_a_moment(unsigned *seed, long up_to_us)
{
	struct timespec moment = { 0, (long)rand_r(seed) % up_to_us * 1000 };

	nanosleep(&moment, NULL);
}

Test(store_kill, killed_at_any_moment_it_neither_loses_nor_repeats)
{
	int64_t give_up_ns = clock_now_ns() + 6 * PATIENCE_NS;
	unsigned seed = 20260106, kills, i, status;
	struct counted counted;

	for (i = 0; i < FEEDERS; i++)
		spawn_feeder(i);
	fixture_open();
	spawn_store();
	for (kills = 0; kills < KILLS; kills++) {
		cr_assert(clock_now_ns() < give_up_ns, "only %u kills", kills);
		if (kills % 4 != 0)
			await_ready();
		wait_a_moment(&seed, 12000);
		kill_store();
		if (kills % 10 == 9) {
			/* a caller, too: what it has open is closed for it */
			i = (unsigned)rand_r(&seed) % FEEDERS;
			kill(feeders[i], SIGKILL);
			status = (unsigned)reap_feeder(i);
			cr_assert(status == SIGKILL || status == 0, "feeder: 0x%x", status);
			spawn_feeder(i);
		}
		spawn_store();
		poke_all();
	}
	await_ready();
	atomic_store(&shared->is_draining, 1);
	poke_all();
	for (i = 0; i < FEEDERS; i++)
		cr_assert(eq(int, reap_feeder(i), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	cr_assert(eq(int, store_check(), 0));
	counted = check_record();
	fprintf(stderr, "# %u kills: %llu steps, %llu dispatches closed, %llu answered "
	    "(%llu again)\n", kills, (unsigned long long)counted.steps,
	    (unsigned long long)counted.closed, (unsigned long long)counted.answered,
	    (unsigned long long)shared->elsewhere);
	cr_assert(lt(u64, 1000, counted.answered));
	cr_assert(lt(u64, 0, shared->elsewhere));
}
