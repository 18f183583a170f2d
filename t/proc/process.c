/* What a forked child starts with, and that it does not outlive its master. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/prctl.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/process.h"
#include "os/signals.h"

#define PATIENCE_MS 20000

/* 1 when FD reads end-of-file in time: every process that could write to it is gone. */
static int
all_writers_left(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&p, 1, PATIENCE_MS) == 1 && read(fd, &byte, 1) == 0;
}

static int
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 3;	/* ".", ".." and the directory itself */
}

/* The exit status tells which line did not hold. */
static int
check_child(const struct process_family *family, int keep_fd, int master_fd)
{
	sigset_t mask;
	struct sigaction sa;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int sig = 1; sig < 32; sig++)
		if (sigismember(&mask, sig) != (sig == SIGTERM))
			return 2;
	for (int sig = 1; sig < 32; sig++) {
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGABRT ||
		    sig == SIGILL)
			continue;	/* the test runner's and the sanitizers' */
		sigaction(sig, NULL, &sa);
		if (sa.sa_handler != (sig == SIGPIPE ? SIG_IGN : SIG_DFL))
			return 3;
	}
	if (getpgrp() != getpid())
		return 4;
	if (fcntl(keep_fd, F_GETFD) == -1 || fcntl(family->watch_fd, F_GETFD) == -1 ||
	    fcntl(family->lock_fds[0], F_GETFD) == -1 ||
	    fcntl(family->lock_fds[1], F_GETFD) == -1)
		return 5;
	if (fcntl(master_fd, F_GETFD) != -1 || fcntl(family->watch_master_fd, F_GETFD) != -1)
		return 6;
	if (count_fds() != 7)
		return 7;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 8;
	return 0;
}

Test(process, a_child_starts_clean)
{
	struct process_family family;
	struct board *board = board_create(32);
	sigset_t wait_mask;
	int ends[2], status;
	pid_t pid;

	signals_init(&wait_mask);
	cr_assert(zero(int, pipe(ends)));
	cr_assert(zero(int, process_init(&family, NULL)));
	for (int i = 0; i < PROCESS_LOCKS_MAX; i++)
		process_keep_lock(&family, open("/dev/null", O_RDWR));
	for (int order = 0; order < 2; order++) {
		/* The descriptor to keep below and above those to close. */
		struct process_child child = { .board = board, .slot = 3, .conn_id = 17,
		    .title = "10.0.0.7:40112", .keep_fd = ends[order], .failure_status = 1 };

		pid = process_fork(&family, &child);
		if (pid == 0)
			_exit(check_child(&family, ends[order], ends[!order]));
		cr_assert(eq(int, waitpid(pid, &status, 0), pid));
		cr_expect(eq(int, status, 0), "failed at check %d", WEXITSTATUS(status));
		cr_expect(eq(int, atomic_load(&board->slots[3].pid), pid));
	}
	process_fini(&family);
}

/* A master that forks one child and then waits to be killed. The child holds FD. */
static void __attribute__((noreturn))
be_master(int fd, int ignores_death)
{
	struct process_family family;
	struct process_child child = { .board = board_create(1), .title = "child",
	    .keep_fd = fd, .failure_status = 1 };
	sigset_t wait_mask;

	/* Whatever goes wrong here must not outlive the test. */
	alarm(2 * PATIENCE_MS / 1000);
	signals_init(&wait_mask);
	if (process_init(&family, NULL) != 0)
		_exit(1);
	if (process_fork(&family, &child) == 0) {
		struct pollfd p = { .fd = family.watch_fd, .events = POLLIN };

		/* Without the kernel's signal there is still the watch. */
		alarm(2 * PATIENCE_MS / 1000);
		if (ignores_death)
			prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
		(void)!write(fd, "r", 1);
		if (ignores_death)
			poll(&p, 1, -1);
		else
			for (;;)
				pause();
		_exit(0);
	}
	close(fd);
	for (;;)
		pause();
}

static void
kill_master(int ignores_death)
{
	int ends[2];
	char byte;
	pid_t pid;

	cr_assert(zero(int, pipe(ends)));
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		be_master(ends[1], ignores_death);
	}
	close(ends[1]);
	cr_assert(eq(int, (int)read(ends[0], &byte, 1), 1), "the child runs");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_expect(eq(int, all_writers_left(ends[0]), 1), "the child has ended");
	close(ends[0]);
}

Test(process, the_kernel_kills_the_children_of_a_dead_master)
{
	kill_master(0);
}

Test(process, the_watch_tells_the_children_of_a_dead_master)
{
	kill_master(1);
}

Test(process, state_of_a_process)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	cr_expect(eq(chr, process_state(pid), 'T'));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_expect(eq(chr, process_state(pid), 0));
	cr_expect(eq(chr, process_state(getpid()), 'R'));
}

Test(process, signals_are_counted_while_blocked)
{
	struct timespec soon = { .tv_nsec = 1 };
	sigset_t wait_mask;

	signals_init(&wait_mask);
	kill(getpid(), SIGTERM);
	kill(getpid(), SIGHUP);
	cr_expect(zero(int, signals_take(SIGNALS_SHUTDOWN)));
	/* One at a time: while a handler runs, the other signals wait. */
	cr_expect(eq(int, ppoll(NULL, 0, &soon, &wait_mask), -1));
	cr_expect(eq(int, ppoll(NULL, 0, &soon, &wait_mask), -1));
	cr_expect(eq(int, signals_take(SIGNALS_SHUTDOWN), 1));
	cr_expect(eq(int, signals_take(SIGNALS_RELOAD), 1));
	cr_expect(zero(int, signals_take(SIGNALS_SHUTDOWN)));
	cr_expect(zero(int, signals_take(SIGNALS_STATUS)));
}
