/*
 * store_process: a real store process on directories of the test's own, started, killed and drained
 * as the master does it.
 */
#ifndef LIMINAL_T_PROC_STORE_PROCESS_H
#define LIMINAL_T_PROC_STORE_PROCESS_H

#include <sys/stat.h>

#include "form/conf.h"
#include "form/frame.h"
#include "os/process.h"
#include "role/role.h"
#include "unit/store_fixture.h"

#define STORE_SLOT	BOARD_SERVICE_SLOT(BOARD_STORE)
#define PATIENCE_NS	(20 * CLOCK_SECOND)

static struct conf conf;
static int master_pipe[2], control = -1;
static pid_t store_pid;

/* The store process. */

static inline void
await_ready(void)
{
	struct pollfd fd = { .fd = control, .events = POLLIN };
	struct role_answer answer;

	cr_assert(eq(int, poll(&fd, 1, (int)(PATIENCE_NS / CLOCK_MS)), 1));
	cr_assert(eq(sz, (size_t)recv(control, &answer, sizeof answer, 0), sizeof answer));
	cr_assert(eq(u32, answer.kind, ROLE_ANSWER_READY));
}

static inline void
spawn_store(void)
{
	struct role_context context = { &conf, fixture_board, STORE_SLOT, master_pipe[0] };
	int fds[2];

	cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0));
	board_take(fixture_board, STORE_SLOT, BOARD_STORE, 0);
	if ((store_pid = fork_child()) == 0) {
		close(fds[0]);
		close(master_pipe[1]);
		if (board_own(fixture_board, STORE_SLOT) != 0)
			_exit(99);
		_exit(store_main(&context, fds[1]));
	}
	cr_assert(ne(int, store_pid, -1));
	close(fds[1]);
	if (control != -1)
		close(control);
	control = fds[0];
}

static inline int
reap_store(void)
{
	int status;

	cr_assert(eq(int, waitpid(store_pid, &status, 0), store_pid));
	store_pid = 0;
	board_release(fixture_board, STORE_SLOT);
	return status;
}

static inline void
kill_store(void)
{
	int status;

	cr_assert(eq(int, kill(store_pid, SIGKILL), 0));
	status = reap_store();
	cr_assert(status == SIGKILL, "the store ended by itself: 0x%x", (unsigned)status);
}

/* Stop it in its sleep, where it sees all that has come meanwhile at once. */
static inline void
stop_store(void)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	int status;

	while (!atomic_load(&fixture_board->slots[STORE_SLOT].sleeping) ||
	    process_state(store_pid) != 'S') {
		cr_assert(clock_now_ns() < give_up_ns, "it does not sleep");
		usleep(1000);
	}
	cr_assert(eq(int, kill(store_pid, SIGSTOP), 0));
	cr_assert(eq(int, waitpid(store_pid, &status, WUNTRACED), store_pid));
	cr_assert(eq(int, status & 0xff, 0x7f), "it has ended");
}

/* As the master at its end: the store finishes what it has. */
static inline int
drain_store(void)
{
	close(control);
	control = -1;
	kill(store_pid, SIGCONT);	/* if it was stopped */
	return exit_status(reap_store());
}

/* SPEC as a step of CONN_ID in SLOT, in TXN. */
static inline int
post_step(struct state_txn *txn, uint64_t conn_id, uint32_t slot, uint64_t request,
    struct step_spec spec)
{
	struct inbox_entry entry = { .kind = INBOX_OPERATIONS, .request = request,
	    .conn_id = conn_id };
	struct buf body = { 0 };
	int rc;

	spec.conn_id = slot;		/* step_body makes it the awaiter's slot */
	rc = step_body(&spec, &body);
	entry.len = (uint32_t)buf_len(&body);
	if (rc == 0)
		rc = inbox_post(txn, INBOX_SERVICE(BOARD_STORE), STORE_SLOT, &entry,
		    buf_head(&body));
	buf_free(&body);
	return rc;
}

/* As .init and .fini of a suite. */
static inline void
proc_init(void)
{
	struct err err = { 0 };

	fixture_make_dir();
	store_make_dir();
	fixture_board = board_create(FIXTURE_SLOTS);
	cr_assert(eq(int, pipe2(master_pipe, O_CLOEXEC), 0));
	fixture_create(FIXTURE_SLOTS);
	cr_assert(eq(int, store_create(store_dir, FIXTURE_SLOTS, &err), 0), "%s", err.text);
	memset(&conf, 0, sizeof conf);
	conf.runtime_dir = fixture_dir;
	conf.persist_dir = store_dir;
	cr_assert(eq(int, wake_open(&fixture_wake, fixture_board, 63, &err), 0));
}

static inline void
proc_fini(void)
{
	int status;

	if (store_pid > 0) {
		kill(store_pid, SIGKILL);
		waitpid(store_pid, &status, 0);
	}
	state_close(store_env);
	fixture_close();
	fixture_remove_dir();
	store_remove_dir();
}

/* Wait for N entries in CONN_ID's inbox and take them. */
static inline const struct events *
answers(uint64_t conn_id, unsigned n)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	struct pollfd fd = { .fd = fixture_wake.fd, .events = POLLIN };
	const struct events *events;
	struct state_txn *txn;

	for (;;) {
		wake_will_sleep(&fixture_wake);
		events = inbox_of(conn_id);
		if (events->n >= n)
			break;
		cr_assert(clock_now_ns() < give_up_ns, "%u answers, not %u", events->n, n);
		poll(&fd, 1, 1000);
		wake_drain(&fixture_wake);
	}
	wake_is_awake(&fixture_wake);
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, conn_id, UINT64_MAX), 0));
	commit(txn);
	return events;
}

#endif
