/*
 * The master with services that misbehave on request: they die before they are ready, never get
 * ready, die later, do not leave. (systems.md A10, C4; services.h, drain.h)
 *
 * The stand-ins leave their traces in a shared page, where they also find what to do.
 */
#include <sys/mman.h>

#include <stdio.h>

#include "fake_master.h"
#include "state/inbox.h"

enum before { GET_READY, WAIT_FOR_GO, NEVER_READY, DIE, ABORT };
enum then { SERVE, DIE_IN_A_CALL, HANG_UP };
enum after { LEAVE, LEAVE_WHEN_TOLD, STAY, LEAVE_FAILING, DIE_ONCE };

/* What one service does, and what came of it. */
struct script {
	_Atomic int before, then, after;
	_Atomic int status;		/* for DIE and LEAVE_FAILING */
	_Atomic int pid, starts;
	_Atomic int left;		/* at which place in the order of leaving */
};

struct trace {
	struct script of[BOARD_N_SERVICES];
	_Atomic int go;
	_Atomic int n_left;
	_Atomic int service_notices;
};
static struct trace *trace;

static struct script *
script(enum board_kind kind)
{
	return &trace->of[BOARD_SERVICE_SLOT(kind)];
}

/* The stand-ins. */

static void
await_go(void)
{
	while (!atomic_load(&trace->go))
		usleep(1000);
}

static int
leave(struct script *s)
{
	int n = atomic_fetch_add(&trace->n_left, 1) + 1;

	switch (atomic_load(&s->after)) {
	case STAY:
		for (;;)
			pause();
	case LEAVE_WHEN_TOLD:
		await_go();
		break;
	case LEAVE_FAILING:
		return atomic_load(&s->status);
	case DIE_ONCE:
		atomic_store(&s->after, LEAVE);
		raise(SIGKILL);
	}
	atomic_store(&s->left, n);
	return ROLE_EXIT_OK;
}

static int
service(const struct role_context *context, int control)
{
	struct board_slot *mine = &context->board->slots[context->slot];
	struct script *s = &trace->of[context->slot];
	struct role_answer ready = { .kind = ROLE_ANSWER_READY };
	char byte;

	atomic_fetch_add(&s->starts, 1);
	atomic_store(&s->pid, (int)getpid());
	switch (atomic_load(&s->before)) {
	case NEVER_READY:
		for (;;)
			pause();
	case DIE:
		return atomic_load(&s->status);
	case ABORT:
		raise(SIGKILL);
		break;
	case WAIT_FOR_GO:
		await_go();
		break;
	}
	if (send(control, &ready, sizeof(ready), MSG_NOSIGNAL) != (ssize_t)sizeof(ready))
		return ROLE_EXIT_SYSTEM;
	if (atomic_exchange(&s->then, SERVE) == DIE_IN_A_CALL) {
		await_go();
		atomic_store(&mine->call_kind, INBOX_REGISTER);
		atomic_store(&mine->call_conn_id, 7);
		atomic_store(&mine->call_request, 9);
		atomic_store(&mine->call_phase, BOARD_CALL_BEGUN);
		signal(SIGSEGV, SIG_DFL);	/* a sanitizer would call it an error of the test */
		raise(SIGSEGV);
	}
	if (recv(control, &byte, 1, 0) == 0)
		return leave(s);
	return ROLE_EXIT_SYSTEM;
}

static int
hanging_up(const struct role_context *context, int control)
{
	const struct role_answer ready = { .kind = ROLE_ANSWER_READY };
	struct script *s = &trace->of[context->slot];

	if (atomic_exchange(&s->then, SERVE) != HANG_UP)
		return service(context, control);
	atomic_fetch_add(&s->starts, 1);
	(void)!send(control, &ready, sizeof(ready), MSG_NOSIGNAL);
	close(control);
	for (;;)
		pause();
}

static int
keeper(const struct role_context *context, int notices)
{
	struct script *s = &trace->of[context->slot];
	struct role_answer answer;
	struct role_notice notice;

	atomic_fetch_add(&s->starts, 1);
	atomic_store(&s->pid, (int)getpid());
	while (recv(notices, &notice, sizeof(notice), 0) > 0) {
		if (notice.kind == ROLE_NOTICE_SERVICE_ENDED)
			atomic_fetch_add(&trace->service_notices, 1);
		if (notice.kind != ROLE_NOTICE_ENDED)
			continue;
		answer = (struct role_answer){ .kind = ROLE_ANSWER_CLEAN, .slot = notice.slot,
		    .conn_id = notice.conn_id };
		send(notices, &answer, sizeof(answer), MSG_NOSIGNAL);
	}
	return leave(s);
}

/* Serves until its client leaves. */
static int
connection(const struct role_context *context, const struct role_peer *peer)
{
	struct pollfd p = { .fd = peer->fd, .events = POLLIN };
	char byte;

	(void)context;
	do
		(void)poll(&p, 1, -1);
	while (recv(peer->fd, &byte, 1, 0) > 0 && send(peer->fd, &byte, 1, MSG_NOSIGNAL) == 1);
	return ROLE_EXIT_OK;
}

static const struct master_roles roles = { .connection = connection, .keeper = keeper,
    .store = service, .notifier = service, .router = hanging_up };

/* The test's side. */

static void
set_up(void)
{
	static char module[] = "/nowhere/module.so";

	trace = mmap(NULL, sizeof(*trace), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	conf = (struct conf){ .listen = addresses, .n_listen = 1,
	    .drain_timeout_ns = 10 * CLOCK_SECOND, .max_connections = 100, .record = true,
	    .notifier_module = module, .notifier_timeout_ns = CLOCK_MS,
	    .router = CONF_ROUTER_MODULE, .router_module = module,
	    .router_timeout_ns = CLOCK_MS };
}

TestSuite(services, .init = set_up, .fini = tear_down);

static void
await_start(enum board_kind kind)
{
	UNTIL(atomic_load(&script(kind)->pid) != 0);
}

/* Kill it; wait for another one. */
static void
await_replacement(enum board_kind kind, int sig)
{
	int pid = atomic_load(&script(kind)->pid);

	kill(pid, sig);
	UNTIL(atomic_load(&script(kind)->pid) != pid);
}

static int
nobody_is_left(void)
{
	for (int i = 0; i < BOARD_N_SERVICES; i++)
		if (atomic_load(&trace->of[i].pid) != 0 &&
		    !is_gone(atomic_load(&trace->of[i].pid)))
			return 0;
	return 1;
}

static void
echo(int fd)
{
	char byte = 'x';

	cr_assert(eq(int, (int)send(fd, &byte, 1, MSG_NOSIGNAL), 1));
	cr_assert(eq(int, (int)recv(fd, &byte, 1, 0), 1));
}

/* Start */

Test(services, all_of_them_are_ready_before_the_master_is)
{
	atomic_store(&script(BOARD_STORE)->before, WAIT_FOR_GO);
	launch();
	await_start(BOARD_STORE);
	await_start(BOARD_NOTIFIER);
	await_start(BOARD_ROUTER);
	EXPECT_LOG("notifier ready");
	EXPECT_LOG("router ready");
	kill(master_process.pid, SIGUSR1);
	EXPECT_LOG("status pid=");
	cr_expect(eq(ptr, strstr(master_process.log, "ready: listening"), NULL));
	atomic_store(&trace->go, 1);
	await_ready();
	echo(dial());
}

Test(services, only_what_is_configured_is_started)
{
	conf.record = false;
	conf.notifier_module = NULL;
	conf.router = CONF_ROUTER_LEAST_LOADED;
	start();
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	for (int i = 1; i < BOARD_N_SERVICES; i++)
		cr_expect(zero(int, atomic_load(&trace->of[i].starts)));
}

/* A service that cannot start: the log line, the exit status, and nobody is left. */
static void
cannot_start(const char *line, int status)
{
	launch();
	EXPECT_LOG(line);
	cr_expect(eq(int, exit_status(2 * CLOCK_SECOND), status));
	cr_expect(eq(ptr, strstr(master_process.log, "ready: listening"), NULL));
	UNTIL(nobody_is_left());
}

Test(services, a_module_that_cannot_be_loaded_is_an_error_of_the_configuration)
{
	atomic_store(&script(BOARD_NOTIFIER)->before, DIE);
	atomic_store(&script(BOARD_NOTIFIER)->status, ROLE_EXIT_MODULE);
	cannot_start("error start failed service=notifier", 1);
	EXPECT_LOG("the module cannot be loaded, or refused to start");
	EXPECT_LOG("setting=\"notifier module\"");
}

Test(services, a_module_that_crashes_at_its_start)
{
	atomic_store(&script(BOARD_ROUTER)->before, ABORT);
	cannot_start("error start failed service=router", 1);
	EXPECT_LOG("reason=\"killed by signal 9 (SIGKILL)\"");
}

Test(services, a_store_that_cannot_be_used)
{
	atomic_store(&script(BOARD_STORE)->before, DIE);
	atomic_store(&script(BOARD_STORE)->status, ROLE_EXIT_STATE);
	cannot_start("error start failed service=store", 3);
	EXPECT_LOG("setting=\"persist_dir\"");
}

Test(services, one_that_never_gets_ready_is_not_waited_for)
{
	atomic_store(&script(BOARD_NOTIFIER)->before, NEVER_READY);
	cannot_start("error start failed service=notifier", 1);
	EXPECT_LOG("reason=\"it did not get ready in time\"");
}

Test(services, a_start_can_be_interrupted)
{
	atomic_store(&script(BOARD_STORE)->before, NEVER_READY);
	launch();
	await_start(BOARD_STORE);
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(3 * CLOCK_SECOND)));
	UNTIL(nobody_is_left());
}

/* Later ends */

Test(services, each_is_replaced_and_the_keeper_told)
{
	char text[96];
	int fd;

	start();
	fd = dial();
	for (int kind = BOARD_STORE; kind <= BOARD_ROUTER; kind++) {
		await_start((enum board_kind)kind);
		snprintf(text, sizeof(text), "ended pid=%d reason=\"killed by signal 9 (SIGKILL)\"",
		    atomic_load(&script((enum board_kind)kind)->pid));
		await_replacement((enum board_kind)kind, SIGKILL);
		EXPECT_LOG(text);
		UNTIL(atomic_load(&trace->service_notices) == kind - BOARD_STORE + 1);
		echo(fd);
	}
	kill(master_process.pid, SIGUSR1);
	snprintf(text, sizeof(text), " store_pid=%d notifier_pid=%d router_pid=%d ",
	    atomic_load(&script(BOARD_STORE)->pid), atomic_load(&script(BOARD_NOTIFIER)->pid),
	    atomic_load(&script(BOARD_ROUTER)->pid));
	EXPECT_LOG(text);
}

Test(services, a_module_that_went_away_is_tried_again_and_again)
{
	int64_t begin;

	start();
	await_start(BOARD_NOTIFIER);
	atomic_store(&script(BOARD_NOTIFIER)->status, ROLE_EXIT_MODULE);
	atomic_store(&script(BOARD_NOTIFIER)->before, DIE);
	begin = clock_now_ns();
	kill(atomic_load(&script(BOARD_NOTIFIER)->pid), SIGKILL);
	EXPECT_LOG("exited with status 16 (the module cannot be loaded, or refused to start)\" "
	    "restart_in_ms=500");
	UNTIL(atomic_load(&script(BOARD_NOTIFIER)->starts) >= 4);
	cr_expect(lt(i64, 900 * CLOCK_MS, clock_now_ns() - begin), "with pauses");
	atomic_store(&script(BOARD_NOTIFIER)->before, GET_READY);
	master_process.log[0] = '\0';
	master_process.log_len = 0;
	EXPECT_LOG("notifier ready");
	echo(dial());
}

Test(services, the_call_that_a_module_died_in_is_named)
{
	atomic_store(&script(BOARD_NOTIFIER)->then, DIE_IN_A_CALL);
	start();
	atomic_store(&trace->go, 1);
	EXPECT_LOG("notifier ended inside its module call=worker_registered conn=7 request=9");
}

Test(services, one_that_hangs_up_is_ended)
{
	int64_t begin = clock_now_ns();

	atomic_store(&script(BOARD_ROUTER)->then, HANG_UP);
	start();
	UNTIL(atomic_load(&script(BOARD_ROUTER)->starts) == 2);
	EXPECT_LOG("cause=\"it left its master\"");
	cr_expect(lt(i64, 900 * CLOCK_MS, clock_now_ns() - begin), "not without some patience");
}

Test(services, one_that_is_stopped_does_not_keep_others_waiting_for_ever)
{
	int pid;

	start();
	echo(dial());
	await_start(BOARD_STORE);
	pid = atomic_load(&script(BOARD_STORE)->pid);
	await_replacement(BOARD_STORE, SIGSTOP);
	EXPECT_LOG("cause=\"it was stopped\"");
	UNTIL(is_gone(pid));
}

/* Shutdown */

Test(services, they_leave_after_the_keeper)
{
	atomic_store(&script(BOARD_KEEPER)->after, LEAVE_WHEN_TOLD);
	start();
	UNTIL(atomic_load(&script(BOARD_KEEPER)->pid) != 0);
	kill(master_process.pid, SIGTERM);
	UNTIL(atomic_load(&trace->n_left) == 1);
	/* The keeper works; the others would need no more than this to be asked and to go. */
	usleep(100000);
	cr_expect(eq(int, atomic_load(&trace->n_left), 1));
	atomic_store(&trace->go, 1);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	cr_expect(eq(int, atomic_load(&script(BOARD_KEEPER)->left), 1));
	for (int i = 0; i < BOARD_N_SERVICES; i++)
		cr_expect(ne(int, atomic_load(&trace->of[i].left), 0), "service %d", i);
	cr_expect(eq(ptr, strstr(master_process.log, "warn"), NULL), "%s", master_process.log);
}

Test(services, a_store_that_flushes_is_waited_for)
{
	atomic_store(&script(BOARD_STORE)->after, LEAVE_WHEN_TOLD);
	start();
	kill(master_process.pid, SIGTERM);
	EXPECT_LOG("shutdown store_flushes pid=");
	atomic_store(&trace->go, 1);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
}

Test(services, a_failed_flush_is_an_error)
{
	atomic_store(&script(BOARD_STORE)->status, ROLE_EXIT_FLUSH);
	atomic_store(&script(BOARD_STORE)->after, LEAVE_FAILING);
	start();
	kill(master_process.pid, SIGTERM);
	cr_expect(eq(int, exit_status(CLOCK_SECOND), 4));
	EXPECT_LOG("error store did not flush");
	EXPECT_LOG("what had to be durable could not be written");
}

Test(services, a_store_that_is_killed_while_it_flushes_is_replaced_to_finish)
{
	atomic_store(&script(BOARD_STORE)->after, DIE_ONCE);
	start();
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	EXPECT_LOG("killed by signal 9 (SIGKILL)");
	cr_expect(eq(int, atomic_load(&script(BOARD_STORE)->starts), 2));
	cr_expect(ne(int, atomic_load(&script(BOARD_STORE)->left), 0));
}

Test(services, a_store_that_is_just_not_there_is_started_to_flush)
{
	start();
	await_start(BOARD_STORE);
	atomic_store(&script(BOARD_STORE)->status, ROLE_EXIT_MODULE);
	atomic_store(&script(BOARD_STORE)->before, DIE);
	kill(atomic_load(&script(BOARD_STORE)->pid), SIGKILL);
	EXPECT_LOG("restart_in_ms=500");
	atomic_store(&script(BOARD_STORE)->before, GET_READY);
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	cr_expect(ne(int, atomic_load(&script(BOARD_STORE)->left), 0));
}

Test(services, a_notifier_that_dies_while_it_leaves_is_replaced_to_finish)
{
	atomic_store(&script(BOARD_NOTIFIER)->after, DIE_ONCE);
	start();
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	cr_expect(eq(int, atomic_load(&script(BOARD_NOTIFIER)->starts), 2));
	cr_expect(ne(int, atomic_load(&script(BOARD_NOTIFIER)->left), 0));
}

Test(services, modules_that_do_not_leave_are_killed)
{
	atomic_store(&script(BOARD_NOTIFIER)->after, STAY);
	atomic_store(&script(BOARD_ROUTER)->after, STAY);
	start();
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(2 * CLOCK_SECOND)));
	EXPECT_LOG("shutdown kill service=notifier");
	EXPECT_LOG("shutdown kill service=router");
	UNTIL(nobody_is_left());
}
