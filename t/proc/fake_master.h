/*
 * A real master in a process of its own, with the stand-ins for its roles that a test defines:
 * the including file has `roles`. The test reads the master's log, dials it, and sees how it
 * ends.
 */
#ifndef LIMINAL_T_PROC_FAKE_MASTER_H
#define LIMINAL_T_PROC_FAKE_MASTER_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/master.h"

#define PATIENCE_NS (20 * CLOCK_SECOND)

static const struct master_roles roles;

static struct {
	pid_t pid;
	int log_fd, port;
	char log[65536];
	size_t log_len;
} master_process;

static char *addresses[] = { (char *)(uintptr_t)"127.0.0.1:0" };
static struct conf conf;

static void __attribute__((noreturn))
be_master(int log_fd)
{
	const struct rlimit no_core = { 0 };
	struct master *master = calloc(1, sizeof(*master));
	struct err err;
	int status = 70;

	dup2(log_fd, STDERR_FILENO);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGABRT, SIG_DFL);
	log_set_level(LOG_LEVEL_DEBUG);
	if (master_init(master, &conf, &roles, &err) == 0 &&
	    master_listen(master, &err) == 0 && master_start(master, &err) == 0)
		status = master_run(master);
	else
		log_errorx("%s", err.text);
	master_fini(master);
	_exit(status);
}

/* Wait until the log contains TEXT; returns where, or NULL after a while. */
static char *
log_shows(const char *text)
{
	int64_t give_up = clock_now_ns() + PATIENCE_NS;
	struct pollfd p = { .fd = master_process.log_fd, .events = POLLIN };
	char *found;
	ssize_t n;

	while ((found = strstr(master_process.log, text)) == NULL) {
		if (poll(&p, 1, clock_poll_ms(give_up, clock_now_ns())) != 1)
			return NULL;
		n = read(p.fd, master_process.log + master_process.log_len,
		    sizeof(master_process.log) - 1 - master_process.log_len);
		if (n <= 0)
			return NULL;
		master_process.log_len += (size_t)n;
	}
	return found;
}

#define EXPECT_LOG(text)	\
	cr_expect(ne(ptr, log_shows(text), NULL), "no \"%s\" in:\n%s", text, master_process.log)

/* Wait until CONDITION holds. */
#define UNTIL(condition)	do {					\
	int64_t until_ = clock_now_ns() + PATIENCE_NS;			\
	while (!(condition) && clock_now_ns() < until_)			\
		usleep(1000);						\
	cr_assert(clock_now_ns() < until_, "not in time: " #condition);	\
} while (0)

/* 1 when PID does not run any more; whoever inherits it may take his time to bury it. */
static int __attribute__((unused))
is_gone(int pid)
{
	char state = process_state(pid);

	return state == 0 || state == 'Z' || state == 'X';
}

/* Start the master; it may not get ready. */
static void
launch(void)
{
	int ends[2];

	cr_assert(zero(int, pipe2(ends, O_CLOEXEC)));
	master_process.pid = fork();
	if (master_process.pid == 0) {
		setpgid(0, 0);
		be_master(ends[1]);
	}
	close(ends[1]);
	master_process.log_fd = ends[0];
}

static void
await_ready(void)
{
	char *ready = log_shows("ready: listening on 127.0.0.1:");

	cr_assert(ne(ptr, ready, NULL), "%s", master_process.log);
	master_process.port = atoi(ready + strlen("ready: listening on 127.0.0.1:"));
}

static void
start(void)
{
	launch();
	await_ready();
}

static void
tear_down(void)
{
	/* Its children go with it. */
	if (master_process.pid != 0)
		kill(master_process.pid, SIGKILL);
}

static int
dial(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
	    .sin_port = htons((uint16_t)master_process.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = PATIENCE_NS / CLOCK_SECOND };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(zero(int, connect(fd, (struct sockaddr *)&to, sizeof(to))));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* The master's exit status, within LIMIT_NS from now. */
static int
exit_status(int64_t limit_ns)
{
	int64_t begin = clock_now_ns(), took;
	int status;

	(void)log_shows("nothing: this reads to the end of the log");
	UNTIL(waitpid(master_process.pid, &status, WNOHANG) == master_process.pid);
	master_process.pid = 0;
	took = clock_now_ns() - begin;
	cr_expect(lt(i64, took, limit_ns), "took %lld ms", (long long)(took / CLOCK_MS));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
