/*
 * state_fixture: a real environment in a directory of its own for each test of the state
 * layer, and state_actions.h with assertions. Connection N has slot N of the board.
 * After each test check-state must find every rule kept.
 */
#ifndef LIMINAL_T_UNIT_STATE_FIXTURE_H
#define LIMINAL_T_UNIT_STATE_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/state_actions.h"

#define FIXTURE_SLOTS	64

static char fixture_dir[64];
static struct board *fixture_board;
static struct wake fixture_wake;
static struct state *fixture_state;
static struct workers_pools fixture_pools[FIXTURE_SLOTS];
static int fixture_is_quiet;	/* a complaint of check-state's is expected */

/* A new empty directory, the test's runtime_dir. */
static inline void
fixture_make_dir(void)
{
	strcpy(fixture_dir, "/dev/shm/liminal-state-XXXXXX");
	cr_assert(ne(ptr, mkdtemp(fixture_dir), NULL));
}

static inline void
fixture_open(void)
{
	struct err err = { 0 };

	cr_assert(eq(int, state_open(&fixture_state, fixture_dir, &fixture_wake, &err), 0),
	    "%s", err.text);
}

static inline void
fixture_close(void)
{
	state_close(fixture_state);
	fixture_state = NULL;
}

static inline void
fixture_create(uint32_t max_connections)
{
	struct err err = { 0 };

	cr_assert(eq(int, state_create(fixture_dir, max_connections, &err), 0), "%s", err.text);
}

/* As .init of a suite: an open environment, a board, a wake socket in slot 0. */
static inline void
fixture_init(void)
{
	struct err err = { 0 };

	fixture_make_dir();
	fixture_board = board_create(FIXTURE_SLOTS);
	cr_assert(ne(ptr, fixture_board, NULL));
	cr_assert(eq(int, wake_open(&fixture_wake, fixture_board, 0, &err), 0), "%s", err.text);
	fixture_create(16);
	fixture_open();
}

static inline void
fixture_remove_dir(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/state/data.mdb", fixture_dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/state/lock.mdb", fixture_dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/state", fixture_dir);
	rmdir(path);
	rmdir(fixture_dir);
}

/* fork, and in the child none of what the test runner does about signals. The child uses
 * no environment of its parent's, must leave with _exit, and ends with its parent. */
static inline pid_t
fork_child(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL };
	pid_t pid = fork();
	size_t i;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 0; i < sizeof signals / sizeof signals[0]; i++)
			signal(signals[i], SIG_DFL);
	}
	return pid;
}

/* Of a process that has exited; -1 otherwise. */
static inline int
exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Run check-state with these arguments: its exit status. */
static inline int
fixture_run_check(const char *first, const char *second)
{
	const char *program = getenv("LIMINAL_CHECK_STATE");
	char beside[PATH_MAX + 32];
	ssize_t len;
	int status;
	pid_t pid;

	if (program == NULL) {
		/* <build>/t/unit/<this> */
		len = readlink("/proc/self/exe", beside, PATH_MAX - 1);
		cr_assert(len > 0);
		beside[len] = '\0';
		dirname(dirname(dirname(beside)));
		strcat(beside, "/check-state");
		program = beside;
	}
	if ((pid = fork_child()) == 0) {
		if (fixture_is_quiet)
			close(STDERR_FILENO);
		execl(program, "check-state", first, second, (char *)NULL);
		_exit(127);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	status = exit_status(status);
	cr_assert(status != 127, "cannot run %s", program);
	return status;
}

/* For .fini functions: Criterion shows an assertion that fails there and lets the test pass all the
 * same; only a crash makes the program fail. */
static inline void
fixture_must_be_kept(int rules)
{
	if (rules == 0)
		return;
	fprintf(stderr, "check-state: %d\n", rules);
	abort();
}

/* On the test's environment. */
static inline int
fixture_check(const char *empty)
{
	return fixture_run_check(fixture_dir, empty);
}

static inline void
fixture_fini(void)
{
	int rules;
	size_t i;

	fixture_close();
	rules = fixture_check(NULL);
	for (i = 0; i < FIXTURE_SLOTS; i++)
		workers_pools_free(&fixture_pools[i]);
	wake_close(&fixture_wake);
	fixture_remove_dir();
	fixture_must_be_kept(rules);
}

/* Transactions. */

static inline struct state_txn *
write_begin(void)
{
	struct state_txn *txn;

	cr_assert(eq(int, state_begin_write(fixture_state, &txn), 0));
	return txn;
}

static inline struct state_txn *
read_begin(void)
{
	struct state_txn *txn;

	cr_assert(eq(int, state_begin_read(fixture_state, &txn), 0));
	return txn;
}

static inline void
commit(struct state_txn *txn)
{
	int rc = state_commit(txn);

	cr_assert(rc == 0, "commit: %d, %s", rc, state_error_text(fixture_state));
}

/* Actions, each as part of TXN. */

static inline void
add_connections(struct state_txn *txn, uint64_t first, uint64_t last)
{
	uint64_t id;

	for (id = first; id <= last; id++)
		cr_assert(eq(int, act_connect(txn, id, (uint32_t)id), 0));
}

static inline void
settle(struct state_txn *txn, uint64_t conn_id, uint32_t freed)
{
	cr_assert(eq(int, workers_settle(txn, conn_id, &fixture_pools[conn_id], freed), 0));
}

static inline void
add_worker(struct state_txn *txn, uint64_t conn_id, struct worker_spec spec)
{
	workers_pools_free(&fixture_pools[conn_id]);
	cr_assert(eq(int, act_register(txn, conn_id, (uint32_t)conn_id, spec,
	    &fixture_pools[conn_id]), 0));
	if (!spec.not_ready)
		settle(txn, conn_id, 0);
}

static inline struct act_placed
place(struct state_txn *txn, uint64_t caller, uint64_t request, struct request_spec spec)
{
	struct act_placed placed;

	cr_assert(eq(int, act_place(txn, caller, (uint32_t)caller, request, spec, &placed), 0));
	return placed;
}

/* WORKER answers with TEXT and takes what waits. */
static inline void
reply(struct state_txn *txn, uint64_t worker, uint64_t correlation, const char *text)
{
	uint32_t freed = 0;

	cr_assert(eq(int, act_reply(txn, worker, correlation, text, strlen(text), &freed), 0));
	settle(txn, worker, freed);
}

static inline void
end(struct state_txn *txn, uint64_t conn_id, const char *reason)
{
	cr_assert(eq(int, end_connection(txn, conn_id, reason), 1));
}

/* Looking. Each opens a read transaction of its own. */

#define EVENTS_MAX	64
#define EVENT_TEXT	512

struct event {
	uint32_t kind, code, len;
	uint64_t request, conn_id;
	char text[EVENT_TEXT];	/* the beginning of the body */
};

struct events {
	unsigned n, rows;
	struct event list[EVENTS_MAX];
};

static inline int
events_collect(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct events *events = arg;
	struct event *event = &events->list[events->n];

	cr_assert(events->n < EVENTS_MAX);
	memset(event, 0, sizeof *event);
	event->kind = entry->kind;
	event->code = entry->code;
	event->len = entry->len;
	event->request = entry->request;
	event->conn_id = entry->conn_id;
	memcpy(event->text, body, entry->len < EVENT_TEXT ? entry->len : EVENT_TEXT - 1);
	events->n++;
	return 0;
}

/* What CONN_ID's inbox holds. */
static inline const struct events *
inbox_of(uint64_t conn_id)
{
	static struct events events;
	struct state_txn *txn = read_begin();

	memset(&events, 0, sizeof events);
	cr_assert(eq(int, inbox_read(txn, conn_id, 0, &events.rows, events_collect, &events), 0));
	state_abort(txn);
	return &events;
}

#define PUSHES_MAX	64

struct pushed {
	unsigned n;
	struct pushed_one {
		uint64_t correlation, request, awaiter, pool;
		uint8_t kind, flags;
		uint32_t len;
		char text[EVENT_TEXT];
	} list[PUSHES_MAX];
};

static inline int
pushed_collect(void *arg, uint64_t target, uint64_t correlation, const struct pushes_row *row,
    const struct frame_view *payload)
{
	struct pushed *pushed = arg;
	struct pushed_one *one = &pushed->list[pushed->n];

	(void)target;
	cr_assert(pushed->n < PUSHES_MAX);
	one->correlation = correlation;
	one->request = row->request;
	one->awaiter = row->awaiter;
	one->pool = row->pool;
	one->kind = row->kind;
	one->flags = row->flags;
	one->len = (uint32_t)payload->len;
	memset(one->text, 0, sizeof one->text);
	memcpy(one->text, payload->data, payload->len < EVENT_TEXT ? payload->len :
	    EVENT_TEXT - 1);
	pushed->n++;
	return 0;
}

/* What CONN_ID owes. */
static inline const struct pushed *
pushed_to(uint64_t conn_id)
{
	static struct pushed pushed;
	struct state_txn *txn = read_begin();

	pushed.n = 0;
	cr_assert(eq(int, pushes_each_of(txn, conn_id, 0, pushed_collect, &pushed), 0));
	state_abort(txn);
	return &pushed;
}

/* The numbers of CONN_ID's requests, "1 2 3", in the order in which it was pushed to. */
static inline const char *
requests_at(uint64_t conn_id)
{
	const struct pushed *pushed = pushed_to(conn_id);
	static char out[1024];
	size_t len = 0;
	unsigned i;

	out[0] = '\0';
	for (i = 0; i < pushed->n; i++)
		len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu", i > 0 ? " " : "",
		    (unsigned long long)pushed->list[i].request);
	return out;
}

/* CONN_ID's in-flight count in a pool; -1 = it is not in it. */
static inline int
in_flight(uint64_t conn_id, const char *space)
{
	struct pool_name name = act_pool(space);
	struct state_txn *txn = read_begin();
	struct pool_meta meta;
	struct pool_row row;
	int n = -1;

	if (pool_meta_get(txn, &name, &meta) == 0 &&
	    pool_row_get(txn, meta.id, conn_id, &row) == 0)
		n = (int)row.in_flight;
	state_abort(txn);
	return n;
}

/* How many requests wait in a pool; -1 = there is no such pool. */
static inline int
waiting_in(const char *space)
{
	struct pool_name name = act_pool(space);
	struct state_txn *txn = read_begin();
	struct pool_meta meta;
	int rc = pool_meta_get(txn, &name, &meta);

	state_abort(txn);
	return rc == 0 ? (int)meta.n_pending : -1;
}

static inline uint64_t
rows_in(enum state_table table)
{
	struct state_txn *txn = read_begin();
	uint64_t n = state_count(txn, table);

	state_abort(txn);
	return n;
}

#endif
