/* What a foreign program starts with, and that it does not outlive who started it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/process.h"

#define PATIENCE_MS 20000

static char sh[] = "/bin/sh", dash_c[] = "-c";

/* Start the shell with COMMAND: nothing but a program that is always there. */
static int
spawn_shell(const char *command, struct process_program *program, struct err *err)
{
	char text[512], name[] = "NAME=value", path[] = "PATH=/usr/bin:/bin";
	char *argv[] = { sh, dash_c, text, NULL }, *envp[] = { path, name, NULL };

	snprintf(text, sizeof text, "%s", command);
	return process_spawn(argv, envp, program, err);
}

/* What comes from FD until its end. */
static char *
read_all(int fd, char *out, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	while (len + 1 < size && poll(&p, 1, PATIENCE_MS) == 1) {
		n = read(fd, out + len, size - 1 - len);
		if (n == 0 || (n == -1 && errno != EAGAIN))
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	out[len] = '\0';
	return out;
}

static int
await_end(struct process_program *program)
{
	struct pollfd p = { .fd = program->pid_fd, .events = POLLIN };
	int status = -1;

	if (poll(&p, 1, PATIENCE_MS) == 1)
		waitpid(program->pid, &status, WNOHANG);
	else
		kill(-program->pid, SIGKILL);
	process_close_program(program);
	return status;
}

Test(spawn, a_program_starts_clean)
{
	struct process_program program;
	unsigned long long blocked, ignored;
	char out[4096];
	char *at;
	sigset_t mask;

	/* What must not be handed on: ignored and blocked signals, descriptors, variables. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigfillset(&mask);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	cr_assert(ne(int, dup2(STDERR_FILENO, 77), -1));
	setenv("LIMINAL_AUTH_TOKEN", "secret", 1);

	cr_assert(zero(int, spawn_shell("env | sort; ls /proc/self/fd | wc -l;"
	    "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; cat; echo oops >&2; exit 3",
	    &program, NULL)));
	cr_assert(eq(int, (int)write(program.in_fd, "to it\n", 6), 6));
	close(program.in_fd);
	program.in_fd = -1;
	read_all(program.out_fd, out, sizeof out);
	cr_expect(eq(int, (int)getpgid(program.pid), (int)program.pid), "its own group");
	cr_expect(ne(ptr, strstr(out, "NAME=value\n"), NULL));
	cr_expect(eq(ptr, strstr(out, "secret"), NULL));
	cr_expect(ne(ptr, strstr(out, "\n4\n"), NULL), "0, 1, 2 and ls's own, but: %s", out);
	at = strstr(out, "SigBlk:");
	cr_assert(ne(ptr, at, NULL));
	cr_expect(eq(int, sscanf(at, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2));
	/* libc keeps 32 and 33 from everybody: whoever runs the tests may ignore them. */
	cr_expect(zero(llong, (long long)blocked), "%s", out);
	cr_expect(zero(llong, (long long)(ignored & ~(3ULL << 31))), "%s", out);
	cr_expect(ne(ptr, strstr(out, "to it\n"), NULL));
	cr_expect(zero(int, strcmp(read_all(program.err_fd, out, sizeof out), "oops\n")));
	cr_expect(eq(int, await_end(&program), 3 << 8));

	sigset_t after;
	sigprocmask(SIG_SETMASK, NULL, &after);
	cr_expect(eq(int, sigismember(&after, SIGUSR1), 1), "ours are as they were");
}

Test(spawn, failure_is_told_with_its_reason)
{
	static const struct { const char *path; int error; } cases[] = {
		{ "/nonexistent/program", ENOENT }, { "/etc/passwd", EACCES },
		{ "/", EACCES }, { "/etc/passwd/x", ENOTDIR }
	};
	struct process_program program;
	struct err err;
	char path[64], *argv[] = { path, NULL }, *envp[] = { NULL };
	int next;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		snprintf(path, sizeof path, "%s", cases[i].path);
		cr_expect(eq(int, process_spawn(argv, envp, &program, &err), ERR_SYSTEM));
		cr_expect(eq(int, err.sys, cases[i].error), "%s: %s", path, err.text);
	}
	/* No zombie, no descriptor. */
	cr_expect(eq(int, (int)waitpid(-1, NULL, WNOHANG), -1));
	next = dup(0);
	cr_expect(lt(int, next, 20));
	close(next);
}

Test(spawn, no_room_is_told_as_such)
{
	struct rlimit few = { 8, 8 };
	struct process_program program;
	struct err err;

	setrlimit(RLIMIT_NOFILE, &few);
	cr_expect(eq(int, spawn_shell("exit 0", &program, &err), ERR_FULL));
	cr_expect(eq(int, err.sys, EMFILE));
	cr_expect(eq(int, err.code, ERR_FULL));
}

Test(spawn, it_gets_the_limit_of_files_that_we_were_started_with)
{
	struct rlimit soft = { 100, 200 }, now;
	struct process_program program;
	char out[64];

	setrlimit(RLIMIT_NOFILE, &soft);
	cr_assert(zero(int, spawn_shell("ulimit -n", &program, NULL)));
	cr_expect(zero(int, strcmp(read_all(program.out_fd, out, sizeof out), "100\n")));
	cr_expect(zero(int, await_end(&program)));
	getrlimit(RLIMIT_NOFILE, &now);
	cr_expect(eq(u64, now.rlim_cur, 200), "we take all that we may have");
}

Test(spawn, a_signal_reaches_the_whole_group)
{
	struct process_program program;
	char out[64];
	int status;

	cr_assert(zero(int, spawn_shell("sleep 1000 & echo on; wait", &program, NULL)));
	cr_assert(eq(int, (int)read_all(program.out_fd, out, 4)[0], 'o'));
	process_signal_group(&program, SIGKILL);
	/* Ends only when nobody has it open for writing, the grandchild neither. */
	cr_expect(zero(int, strcmp(read_all(program.out_fd, out, sizeof out), "")));
	status = await_end(&program);
	cr_expect(eq(int, status, SIGKILL));
}

Test(spawn, it_dies_with_who_started_it)
{
	struct pollfd p = { .events = POLLIN };
	struct process_program program;
	int ends[2];
	char byte;
	pid_t pid;

	cr_assert(zero(int, pipe(ends)));
	pid = fork();
	if (pid == 0) {
		alarm(2 * PATIENCE_MS / 1000);
		dup2(ends[1], STDERR_FILENO);
		if (spawn_shell("echo on; trap '' TERM; while :; do sleep 1000; done",
		    &program, NULL) != 0)
			_exit(1);
		/* The end of the pipe that tells of its death is its standard output's. */
		while (read(program.out_fd, &byte, 1) != 1)
			continue;
		(void)!write(ends[1], &program.pid, sizeof program.pid);
		for (;;)
			pause();
	}
	close(ends[1]);
	cr_assert(eq(int, (int)read(ends[0], &program.pid, sizeof program.pid),
	    (int)sizeof program.pid));
	program.pid_fd = pidfd_open(program.pid, 0);
	cr_assert(ne(int, program.pid_fd, -1));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	p.fd = program.pid_fd;
	cr_expect(eq(int, poll(&p, 1, PATIENCE_MS), 1), "the kernel has killed it");
	kill(-program.pid, SIGKILL);
}
