/*
 * The master with real children that misbehave on request.
 *
 * The roles are stand-ins: a connection does what its client tells it in one word (it
 * stops, loops, crashes, claims the write lock ...), the keeper answers or is silent. Both leave
 * their traces in a shared page. Each test is a transcript: dial, tell, look at the log.
 */
#include <sys/mman.h>

#include <errno.h>
#include <stdio.h>

#include "fake_master.h"
#include "form/frame.h"

/* What the processes tell the test, and the test them. */
struct trace {
	_Atomic int keeper_is_silent;
	_Atomic int keeper_pid;
	_Atomic int notices, drains;
	_Atomic uint64_t last_ended;
	_Atomic int last_status;
	_Atomic uint64_t stuck_conn;	/* the keeper reports this one with its next answer */
};
static struct trace *trace;

/* The stand-ins. */

static volatile sig_atomic_t asked_to_go;

static void
go(int sig)
{
	(void)sig;
	asked_to_go = 1;
}

static void
loop(void)
{
	for (;;)
		__asm__ volatile("");
}

/* Do what was asked; an exit status, or -1 to go on. */
static int
obey(const struct role_context *context, const struct role_peer *peer, const char *word)
{
	struct board_slot *mine = &context->board->slots[context->slot];
	char text[32];

	if (strcmp(word, "abort") == 0)
		abort();
	if (strcmp(word, "protocol") == 0)
		return ROLE_EXIT_PROTOCOL;
	if (strcmp(word, "state") == 0)
		return ROLE_EXIT_STATE;
	if (strcmp(word, "write") == 0)
		atomic_store(&mine->write_txn_ns, clock_now_ns());
	if (strcmp(word, "read") == 0)
		atomic_store(&mine->read_txn_ns, clock_now_ns());
	if (strncmp(word, "wait", 4) == 0)
		atomic_store(&mine->write_wait_ns, clock_now_ns());
	snprintf(text, sizeof(text), "%llu %u %d", (unsigned long long)peer->conn_id,
	    context->slot, (int)getpid());
	send(peer->fd, text, strlen(text), MSG_NOSIGNAL);
	if (strcmp(word, "wait-stop") == 0 || strcmp(word, "stop") == 0)
		raise(SIGSTOP);
	if (strcmp(word, "wait-loop") == 0)
		loop();
	return -1;
}

static int
connection(const struct role_context *context, const struct role_peer *peer)
{
	struct sigaction action = { .sa_handler = go };
	struct pollfd p = { .fd = peer->fd, .events = POLLIN };
	char word[32];
	sigset_t mask;
	ssize_t n;
	int status;

	sigaction(SIGTERM, &action, NULL);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	sigdelset(&mask, SIGTERM);
	while (!asked_to_go) {
		if (ppoll(&p, 1, NULL, &mask) == -1)
			continue;
		n = recv(peer->fd, word, sizeof(word) - 1, 0);
		if (n <= 0)
			return ROLE_EXIT_OK;
		word[n] = '\0';
		status = obey(context, peer, word);
		if (status != -1)
			return status;
	}
	return ROLE_EXIT_OK;
}

static int
keeper(const struct role_context *context, int notices)
{
	struct role_answer answer = { 0 };
	struct role_notice notice;

	(void)context;
	atomic_store(&trace->keeper_pid, (int)getpid());
	for (;;) {
		if (recv(notices, &notice, sizeof(notice), 0) <= 0)
			return 0;
		if (notice.kind == ROLE_NOTICE_DRAIN) {
			atomic_fetch_add(&trace->drains, 1);
			continue;
		}
		atomic_store(&trace->last_ended, notice.conn_id);
		atomic_store(&trace->last_status, notice.wait_status);
		atomic_fetch_add(&trace->notices, 1);
		if (atomic_load(&trace->keeper_is_silent))
			continue;
		if (atomic_load(&trace->stuck_conn) != 0) {
			/* Slots are given out from the services' end in the order of ids. */
			answer = (struct role_answer){ .kind = ROLE_ANSWER_STUCK,
			    .conn_id = atomic_load(&trace->stuck_conn), .stuck_ns = CLOCK_SECOND };
			for (answer.slot = 0; answer.slot < context->board->n_slots; answer.slot++)
				if (atomic_load(&context->board->slots[answer.slot].conn_id) ==
				    answer.conn_id)
					break;
			send(notices, &answer, sizeof(answer), MSG_NOSIGNAL);
			atomic_store(&trace->stuck_conn, 0);
		}
		answer = (struct role_answer){ .kind = ROLE_ANSWER_CLEAN, .slot = notice.slot,
		    .conn_id = notice.conn_id };
		send(notices, &answer, sizeof(answer), MSG_NOSIGNAL);
	}
}

static const struct master_roles roles = { .connection = connection, .keeper = keeper };

/* The test's side. */

static void
set_up(void)
{
	trace = mmap(NULL, sizeof(*trace), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	conf = (struct conf){ .listen = addresses, .n_listen = 1,
	    .drain_timeout_ns = 10 * CLOCK_SECOND, .max_connections = 100 };
}

TestSuite(master, .init = set_up, .fini = tear_down);

struct child {
	unsigned long long conn_id;
	unsigned slot;
	int pid;
};

/* Say WORD; the answer tells who answered. */
static struct child
tell(int fd, const char *word)
{
	struct child child = { 0 };
	char text[64] = "";

	cr_assert(eq(int, (int)send(fd, word, strlen(word), MSG_NOSIGNAL), (int)strlen(word)));
	cr_assert(lt(int, 0, (int)recv(fd, text, sizeof(text) - 1, 0)), "no answer to %s", word);
	cr_assert(eq(int, sscanf(text, "%llu %u %d", &child.conn_id, &child.slot, &child.pid), 3));
	return child;
}

/* 1 when the connection ends (in time). */
static int
ends(int fd)
{
	char bytes[64];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), 0);
	while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

/* The message of the ConnectError that FD receives before its end. */
static char *
refusal(int fd)
{
	static char text[256];
	uint8_t bytes[512];
	struct frame frame;
	size_t len = 0, used;
	ssize_t n;

	while ((n = recv(fd, bytes + len, sizeof(bytes) - len, 0)) > 0)
		len += (size_t)n;
	cr_expect(zero(i64, n), "an orderly end, not a reset: %s", strerror(errno));
	cr_assert(eq(int, frame_decode(bytes, len, sizeof(bytes), &frame, &used, NULL), FRAME_OK));
	cr_expect(eq(int, frame.type, FRAME_CONNECT_ERROR));
	cr_expect(eq(int, frame.u.error.reason, 0xffff));
	cr_expect(eq(sz, used, len));
	snprintf(text, sizeof(text), "%.*s", (int)frame.u.error.message.view.len,
	    (const char *)frame.u.error.message.view.data);
	return text;
}

/* Ends */

Test(master, every_end_is_logged_with_its_reason)
{
	struct child a, c;
	int one, two, three, four;
	char text[128];

	start();
	one = dial();
	two = dial();
	three = dial();
	four = dial();
	a = tell(one, "who");
	c = tell(three, "who");
	cr_expect(eq(u64, a.conn_id, 1));

	kill(a.pid, SIGKILL);
	cr_expect(eq(int, ends(one), 1));
	snprintf(text, sizeof(text), "ended conn=1 pid=%d peer=127.0.0.1:", a.pid);
	EXPECT_LOG(text);
	EXPECT_LOG("reason=\"killed by signal 9 (SIGKILL)\"");

	send(two, "protocol", 8, 0);
	cr_expect(eq(int, ends(two), 1));
	EXPECT_LOG("exited with status 10 (the peer sent bytes that do not decode");
	send(four, "abort", 5, 0);
	cr_expect(eq(int, ends(four), 1));
	EXPECT_LOG("killed by signal 6 (SIGABRT)");

	UNTIL(atomic_load(&trace->notices) == 3);
	cr_expect(eq(int, tell(three, "who").pid, c.pid), "undisturbed");
}

Test(master, a_slot_is_given_out_again_only_after_the_keeper_has_answered)
{
	struct child first, second, third;
	int fd;

	start();
	atomic_store(&trace->keeper_is_silent, 1);
	fd = dial();
	first = tell(fd, "who");
	close(fd);
	UNTIL(atomic_load(&trace->notices) == 1);
	cr_expect(eq(u64, atomic_load(&trace->last_ended), first.conn_id));
	cr_expect(zero(int, atomic_load(&trace->last_status)));

	fd = dial();
	second = tell(fd, "who");
	cr_expect(ne(u32, second.slot, first.slot));
	cr_expect(eq(u64, second.conn_id, first.conn_id + 1));

	/* The next keeper is told again, and answers. */
	atomic_store(&trace->keeper_is_silent, 0);
	kill(atomic_load(&trace->keeper_pid), SIGKILL);
	UNTIL(atomic_load(&trace->notices) == 2);
	cr_expect(eq(u64, atomic_load(&trace->last_ended), first.conn_id));
	close(fd);
	UNTIL(atomic_load(&trace->notices) == 3);
	EXPECT_LOG("keeper ended");
	/* Both are free again; the one freed last is taken first. */
	for (int i = 0; i < 1000; i++) {
		fd = dial();
		third = tell(fd, "who");
		close(fd);
		if (third.slot == first.slot || third.slot == second.slot)
			break;
	}
	cr_expect(third.slot == first.slot || third.slot == second.slot);
}

Test(master, a_keeper_that_keeps_dying_is_throttled)
{
	int64_t begin;
	int pid;

	start();
	UNTIL(atomic_load(&trace->keeper_pid) != 0);
	for (int i = 0; i < 4; i++) {
		pid = atomic_load(&trace->keeper_pid);
		begin = clock_now_ns();
		kill(pid, SIGKILL);
		UNTIL(atomic_load(&trace->keeper_pid) != pid);
		/* 0, 10, 20, 40 ms */
		if (i > 0)
			cr_expect(le(i64, (5 << i) * CLOCK_MS, clock_now_ns() - begin));
	}
}

Test(master, what_the_keeper_calls_stuck_is_killed)
{
	struct child stuck;
	int one, two;

	start();
	one = dial();
	two = dial();
	stuck = tell(one, "stop");
	tell(two, "who");
	atomic_store(&trace->stuck_conn, stuck.conn_id);
	close(two);
	cr_expect(eq(int, ends(one), 1));
	EXPECT_LOG("cause=\"it did not look at its inbox\"");
}

/* Limits */

Test(master, the_limit_is_told_without_a_process)
{
	int fd[3], refused;

	conf.max_connections = 3;
	start();
	for (int i = 0; i < 3; i++) {
		fd[i] = dial();
		tell(fd[i], "who");
	}
	refused = dial();
	send(refused, "bytes that nobody reads", 23, MSG_NOSIGNAL);
	cr_expect(zero(int, strcmp(refusal(refused),
	    "the server is at its limit: limits connections = 3")));
	close(refused);
	EXPECT_LOG("refused peer=127.0.0.1:");

	close(fd[0]);
	UNTIL(atomic_load(&trace->notices) == 1);
	refused = dial();
	cr_expect(eq(u64, tell(refused, "who").conn_id, 4), "room again, no id was wasted");
}

Test(master, the_limit_per_address)
{
	int one, two;

	conf.max_connections_per_address = 1;
	start();
	one = dial();
	tell(one, "who");
	two = dial();
	cr_expect(ne(ptr, strstr(refusal(two), "limits connections_per_address = 1"), NULL));
	close(two);
	close(one);
	UNTIL(atomic_load(&trace->notices) == 1);
	one = dial();
	tell(one, "who");
}

Test(master, a_thousand_refused_at_once_leave_nothing)
{
	static int fd[1000];
	int one;

	conf.max_connections = 1;
	start();
	one = dial();
	tell(one, "who");
	for (int i = 0; i < 1000; i++)
		fd[i] = dial();
	for (int i = 0; i < 1000; i++)
		close(fd[i]);
	close(one);
	UNTIL(atomic_load(&trace->notices) == 1);
	one = dial();
	tell(one, "who");
	kill(master_process.pid, SIGUSR1);
	EXPECT_LOG("status pid=");
	EXPECT_LOG(" connections=1 ");
	EXPECT_LOG(" refused=1000 ");
}

Test(master, descriptors_run_out_for_a_while)
{
	struct rlimit none = { .rlim_cur = 3, .rlim_max = 1024 }, enough;
	int fd;

	start();
	cr_assert(zero(int, prlimit(master_process.pid, RLIMIT_NOFILE, NULL, &enough)));
	none.rlim_max = enough.rlim_max;
	prlimit(master_process.pid, RLIMIT_NOFILE, &none, NULL);
	fd = dial();
	EXPECT_LOG("accept failed error=\"Too many open files\"");
	prlimit(master_process.pid, RLIMIT_NOFILE, &enough, NULL);
	tell(fd, "who");
}

Test(master, processes_run_out_for_a_while)
{
	struct rlimit none = { 0 }, enough;
	int fd;

	/* Root has no such limit. */
	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		cr_skip("cannot give up being root");
	start();
	UNTIL(atomic_load(&trace->keeper_pid) != 0);
	cr_assert(zero(int, prlimit(master_process.pid, RLIMIT_NPROC, NULL, &enough)));
	none.rlim_max = enough.rlim_max;
	prlimit(master_process.pid, RLIMIT_NPROC, &none, NULL);
	fd = dial();
	cr_expect(ne(ptr, strstr(refusal(fd), "cannot start a process"), NULL));
	EXPECT_LOG("fork failed error=");
	prlimit(master_process.pid, RLIMIT_NPROC, &enough, NULL);
	fd = dial();
	cr_expect(eq(u64, tell(fd, "who").conn_id, 2));
}

/* The watchdog */

Test(master, who_holds_the_write_lock_too_long_is_killed)
{
	int64_t begin = clock_now_ns();
	int one, two;

	start();
	one = dial();
	two = dial();
	tell(one, "write");
	cr_expect(eq(int, ends(one), 1));
	cr_expect(lt(i64, 1900 * CLOCK_MS, clock_now_ns() - begin));
	EXPECT_LOG("cause=\"it held the write lock\"");
	tell(two, "who");
}

Test(master, who_was_stopped_with_the_lock_is_found_among_the_waiters)
{
	struct child waiter;
	int one, two;

	start();
	one = dial();
	two = dial();
	waiter = tell(two, "wait");
	tell(one, "wait-stop");
	cr_expect(eq(int, ends(one), 1));
	EXPECT_LOG("cause=\"it was stopped while it asked for the write lock\"");
	cr_expect(eq(int, tell(two, "who").pid, waiter.pid), "who only waits stays");
}

Test(master, who_loops_with_the_lock_is_found_among_the_waiters)
{
	struct child waiter;
	int one, two;

	start();
	one = dial();
	two = dial();
	waiter = tell(two, "wait");
	tell(one, "wait-loop");
	cr_expect(eq(int, ends(one), 1));
	EXPECT_LOG("cause=\"it loops and seems to hold the write lock\"");
	cr_expect(eq(int, tell(two, "who").pid, waiter.pid), "who only waits stays");
}

/* Shutdown */

Test(master, drain_ends_with_the_last_connection)
{
	int one, two;

	start();
	one = dial();
	tell(one, "who");
	kill(master_process.pid, SIGTERM);
	EXPECT_LOG("shutdown begins connections=1");
	UNTIL(atomic_load(&trace->drains) == 1);
	two = socket(AF_INET, SOCK_STREAM, 0);
	cr_expect(eq(int, connect(two, (struct sockaddr *)&(struct sockaddr_in){
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)master_process.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, sizeof(struct sockaddr_in)), -1));
	tell(one, "who");
	close(one);
	cr_expect(zero(int, exit_status(2 * CLOCK_SECOND)));
	cr_expect(eq(int, atomic_load(&trace->notices), 1));
}

Test(master, a_stopped_connection_does_not_hold_up_the_shutdown)
{
	int one, two;

	conf.drain_timeout_ns = CLOCK_SECOND;
	start();
	one = dial();
	two = dial();
	tell(one, "stop");
	tell(two, "who");
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(2 * CLOCK_SECOND)));
	EXPECT_LOG("shutdown force_close=2");
	EXPECT_LOG("shutdown kill=1");
	cr_expect(eq(int, atomic_load(&trace->notices), 2));
	cr_expect(eq(int, ends(one), 1));
	cr_expect(eq(int, ends(two), 1));
}

Test(master, asked_twice_it_does_not_wait)
{
	int one;

	start();
	one = dial();
	tell(one, "who");
	kill(master_process.pid, SIGINT);
	EXPECT_LOG("shutdown begins connections=1");
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
	cr_expect(eq(int, ends(one), 1));
}

Test(master, a_stuck_keeper_does_not_hold_up_the_shutdown)
{
	start();
	UNTIL(atomic_load(&trace->keeper_pid) != 0);
	kill(atomic_load(&trace->keeper_pid), SIGSTOP);
	kill(master_process.pid, SIGTERM);
	cr_expect(zero(int, exit_status(CLOCK_SECOND)));
}

Test(master, no_child_outlives_a_killed_master)
{
	int one;

	start();
	UNTIL(atomic_load(&trace->keeper_pid) != 0);
	one = dial();
	tell(one, "stop");
	kill(master_process.pid, SIGKILL);
	cr_expect(eq(int, ends(one), 1));
	UNTIL(is_gone(atomic_load(&trace->keeper_pid)));
}
