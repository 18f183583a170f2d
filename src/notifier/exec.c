/*
 * exec.so: a notifier that runs a program for each event; liminal-exec-notifier(8) is its contract.
 *
 * Knows nothing of the daemon but liminal/notifier.h. One program at a time, started without a
 * shell, waited for; nothing of it is left when a call returns, and when the notifier's process is
 * killed over a call, the kernel kills the program with it. Between fork and exec only what
 * is safe there is called: everything is prepared before.
 */
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <liminal/notifier.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXEC_TAP	"--tap="
#define EXEC_OWN_PREFIX	"LIMINAL_"	/* the daemon's own: may hold its token */
#define EXEC_READ	4096

extern char **environ;

static const char *const *exec_taps;	/* "--tap=CHANNEL" each */
static int exec_n_taps;
static const char *const *exec_program;	/* and its own arguments */
static int exec_n_program;

/* One run of the program. */
struct exec_run {
	const char **argv;
	char **envp;
	const char *input;		/* NULL: it reads end-of-file */
	size_t input_len, written;
	char *line;			/* gets the first line of its output; NULL: thrown away */
	size_t line_size, line_len;
	int is_line_full;
	int in[2], out[2];		/* pipes; -1 = none */
	pid_t pid;
	int pidfd;
	int status;			/* as wait(2) gave it */
};

static void __attribute__((format(printf, 1, 2)))
exec_say(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = snprintf(text, sizeof text, "exec.so: ");
	len += vsnprintf(text + len, sizeof text - (size_t)len - 1, fmt, ap);
	va_end(ap);
	if ((size_t)len > sizeof text - 2)
		len = sizeof text - 2;
	text[len++] = '\n';
	/* One write, so that lines of different processes do not mix. */
	if (write(STDERR_FILENO, text, (size_t)len) == -1)
		return;
}

/* NAME=A,B,C; NULL when out of memory. */
static char *
exec_variable(const char *name, const char *const *values, size_t n)
{
	size_t len = strlen(name) + 2, i;
	char *text, *at;

	for (i = 0; i < n; i++)
		len += strlen(values[i]) + 1;
	if ((text = malloc(len)) == NULL)
		return NULL;
	at = stpcpy(stpcpy(text, name), "=");
	for (i = 0; i < n; i++) {
		if (i > 0)
			*at++ = ',';
		at = stpcpy(at, values[i]);
	}
	return text;
}

static void
exec_free_environment(char **envp, size_t inherited)
{
	size_t i;

	if (envp == NULL)
		return;
	for (i = inherited; envp[i] != NULL; i++)
		free(envp[i]);
	free(envp);
}

/* The daemon's environment without what is its own, and the registration (may be NULL). *INHERITED
 * gets the number of those that are not ours to free. */
static char **
exec_environment(const struct liminal_registration *r, size_t *inherited)
{
	size_t n = 0, at = 0, i;
	char **envp;

	while (environ != NULL && environ[n] != NULL)
		n++;
	if ((envp = calloc(n + 6, sizeof *envp)) == NULL)
		return NULL;
	for (i = 0; i < n; i++)
		if (strncmp(environ[i], EXEC_OWN_PREFIX, sizeof EXEC_OWN_PREFIX - 1) != 0)
			envp[at++] = environ[i];
	*inherited = n = at;
	if (r == NULL)
		return envp;
	envp[at++] = exec_variable("LIMINAL_NAMESPACES", r->namespaces, r->n_namespaces);
	envp[at++] = exec_variable("LIMINAL_TASK_QUEUE", &r->task_queue, 1);
	envp[at++] = exec_variable("LIMINAL_ACTIVITY_TYPES", r->activity_types,
	    r->n_activity_types);
	envp[at++] = exec_variable("LIMINAL_IDENTITY", &r->identity, 1);
	if (r->node != NULL)
		envp[at++] = exec_variable("LIMINAL_NODE", &r->node, 1);
	for (i = n; i < at; i++) {
		if (envp[i] == NULL) {
			/* What lies behind the first missing one. */
			while (++i < at)
				free(envp[i]);
			exec_free_environment(envp, n);
			return NULL;
		}
	}
	return envp;
}

/* The configured program and arguments, the event, its connection, and MORE (may be NULL). */
static const char **
exec_arguments(const char *event, const char *conn_id, const char *more)
{
	const char **argv = calloc((size_t)exec_n_program + 4, sizeof *argv);
	int i;

	if (argv == NULL)
		return NULL;
	for (i = 0; i < exec_n_program; i++)
		argv[i] = exec_program[i];
	argv[i++] = event;
	argv[i++] = conn_id;
	argv[i] = more;
	return argv;
}

/* In the child. Its standard error stays the log. */
static void __attribute__((noreturn))
exec_become(const struct exec_run *run, pid_t parent, int null)
{
	const char *text;
	sigset_t none;
	int in = run->in[0] != -1 ? run->in[0] : null;
	int out = run->out[1] != -1 ? run->out[1] : null;

	/* The parent may have been killed before the first line had its effect. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 || getppid() != parent ||
	    dup2(in, STDIN_FILENO) == -1 || dup2(out, STDOUT_FILENO) == -1)
		_exit(127);
	close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(run->argv[0], (char *const *)(uintptr_t)run->argv, run->envp);
	/* Who asked reads it as the reason. */
	text = strerrordesc_np(errno);
	if (write(STDOUT_FILENO, "the notifier's program cannot be run: ", 38) == -1 ||
	    write(STDOUT_FILENO, text, strlen(text)) == -1)
		_exit(127);
	_exit(127);
}

static void
exec_close(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

static int
exec_open_pipes(struct exec_run *run)
{
	if (run->input != NULL && pipe2(run->in, O_CLOEXEC) == -1)
		return -1;
	if (run->line != NULL && pipe2(run->out, O_CLOEXEC) == -1)
		return -1;
	/* Our ends only: each end has its own flags. */
	if (run->in[1] != -1)
		fcntl(run->in[1], F_SETFL, O_NONBLOCK);
	if (run->out[0] != -1)
		fcntl(run->out[0], F_SETFL, O_NONBLOCK);
	return 0;
}

static int
exec_start(struct exec_run *run)
{
	pid_t parent = getpid();
	int null;

	if (exec_open_pipes(run) == -1 || (null = open("/dev/null", O_RDWR | O_CLOEXEC)) == -1)
		return -1;
	run->pid = fork();
	if (run->pid == 0)
		exec_become(run, parent, null);
	close(null);
	if (run->pid == -1)
		return -1;
	exec_close(&run->in[0]);
	exec_close(&run->out[1]);
	/* Not yet waited for, so its number is still its own. */
	if ((run->pidfd = pidfd_open(run->pid, 0)) == -1) {
		kill(run->pid, SIGKILL);
		return -1;
	}
	return 0;
}

static void
exec_write(struct exec_run *run)
{
	ssize_t n = write(run->in[1], run->input + run->written, run->input_len - run->written);

	if (n > 0)
		run->written += (size_t)n;
	/* A program need not read what it gets. */
	if ((n == -1 && errno != EAGAIN && errno != EINTR) || run->written == run->input_len)
		exec_close(&run->in[1]);
}

/* Keep the first line, as much of it as there is room for; the rest is read and thrown away, so
 * that a talkative program does not wait for us. 0 = there is no more for now. */
static int
exec_read(struct exec_run *run)
{
	char some[EXEC_READ];
	ssize_t n = read(run->out[0], some, sizeof some), i;

	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
		exec_close(&run->out[0]);
	for (i = 0; i < n && !run->is_line_full; i++) {
		if (some[i] == '\n' || run->line_len + 1 == run->line_size)
			run->is_line_full = 1;
		else
			run->line[run->line_len++] = some[i];
	}
	run->line[run->line_len] = '\0';
	return n > 0;
}

/* Until the program has ended: a child of it that goes on with its output does not keep us. */
static void
exec_attend(struct exec_run *run)
{
	struct pollfd fds[3];

	for (;;) {
		fds[0] = (struct pollfd){ .fd = run->pidfd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = run->in[1], .events = POLLOUT };
		fds[2] = (struct pollfd){ .fd = run->out[0], .events = POLLIN };
		if (poll(fds, 3, -1) == -1 && errno != EINTR)
			return;
		if (fds[1].revents != 0)
			exec_write(run);
		if (fds[2].revents != 0)
			exec_read(run);
		if (fds[0].revents != 0)
			break;
	}
	/* What it wrote last is there; how much its children write is not waited for. */
	if (run->out[0] != -1 && !run->is_line_full)
		while (exec_read(run) && !run->is_line_full && run->out[0] != -1)
			;
}

/* Run it to its end. 0 with STATUS, or -1: it could not be started. */
static int
exec_run(struct exec_run *run)
{
	int rc, saved;

	run->in[0] = run->in[1] = run->out[0] = run->out[1] = run->pidfd = -1;
	run->pid = -1;
	rc = exec_start(run);
	saved = errno;
	if (rc == 0)
		exec_attend(run);
	exec_close(&run->in[0]);
	exec_close(&run->in[1]);
	exec_close(&run->out[0]);
	exec_close(&run->out[1]);
	exec_close(&run->pidfd);
	if (run->pid > 0)
		while (waitpid(run->pid, &run->status, 0) == -1 && errno == EINTR)
			;
	errno = saved;
	return rc;
}

/* Run the program for EVENT. 1 if it exited with status 0; else WHY, if it has nothing to say
 * itself, gets the reason. */
static int
exec_event(struct exec_run *run, const char *event, uint64_t conn_id, const char *more,
    const struct liminal_registration *registration, char *why, size_t why_size)
{
	size_t inherited = 0;
	char id[24];
	int rc = -1;

	snprintf(id, sizeof id, "%llu", (unsigned long long)conn_id);
	errno = ENOMEM;
	run->argv = exec_arguments(event, id, more);
	run->envp = exec_environment(registration, &inherited);
	if (run->argv != NULL && run->envp != NULL)
		rc = exec_run(run);
	if (rc == -1)
		snprintf(why, why_size, "the notifier's program cannot be started: %s",
		    strerror(errno));
	else if (WIFSIGNALED(run->status))
		snprintf(why, why_size, "the notifier's program was killed by signal %d",
		    WTERMSIG(run->status));
	else
		snprintf(why, why_size, "the notifier's program exited with status %d",
		    WEXITSTATUS(run->status));
	free(run->argv);
	exec_free_environment(run->envp, inherited);
	return rc == 0 && WIFEXITED(run->status) && WEXITSTATUS(run->status) == 0;
}

static int
exec_worker_registered(uint64_t conn_id, const struct liminal_registration *registration,
    char *reason, size_t reason_size)
{
	struct exec_run run = { .line = reason, .line_size = reason_size };
	char why[160];

	if (exec_event(&run, "registered", conn_id, NULL, registration, why, sizeof why))
		return 0;
	while (run.line_len > 0 && reason[run.line_len - 1] == '\r')
		reason[--run.line_len] = '\0';
	if (reason[0] == '\0')
		snprintf(reason, reason_size, "%s", why);
	return 1;
}

static void
exec_worker_unregistered(uint64_t conn_id)
{
	struct exec_run run = { 0 };
	char why[160];

	if (!exec_event(&run, "unregistered", conn_id, NULL, NULL, why, sizeof why))
		exec_say("unregistered conn=%llu: %s", (unsigned long long)conn_id, why);
}

static int
exec_is_tapped(const char *channel)
{
	int i;

	for (i = 0; i < exec_n_taps; i++)
		if (strcmp(exec_taps[i] + sizeof EXEC_TAP - 1, channel) == 0)
			return 1;
	return 0;
}

/* Another exit status is the program's way to leave the message to others: not told. */
static int
exec_channel_publish(uint64_t conn_id, const char *channel, const void *payload, size_t length)
{
	struct exec_run run = { .input = payload, .input_len = length };
	char why[160];

	return exec_is_tapped(channel) &&
	    exec_event(&run, "publish", conn_id, channel, NULL, why, sizeof why);
}

static int
exec_init(int argc, const char *const *argv)
{
	struct stat st;
	int n = 0;

	while (n < argc && strncmp(argv[n], EXEC_TAP, sizeof EXEC_TAP - 1) == 0)
		n++;
	if (n == argc) {
		exec_say("notifier args has no program");
		return 1;
	}
	if (argv[n][0] != '/') {
		exec_say("notifier args: '%s' is neither " EXEC_TAP
		    "CHANNEL nor a program's absolute path", argv[n]);
		return 1;
	}
	if (access(argv[n], X_OK) == -1 || stat(argv[n], &st) == -1) {
		exec_say("notifier args: %s: %s", argv[n], strerror(errno));
		return 1;
	}
	/* May be "executable", too. */
	if (!S_ISREG(st.st_mode)) {
		exec_say("notifier args: %s: not a regular file", argv[n]);
		return 1;
	}
	exec_taps = argv;
	exec_n_taps = n;
	exec_program = argv + n;
	exec_n_program = argc - n;
	return 0;
}

const struct liminal_notifier liminal_notifier = {
	.version = LIMINAL_NOTIFIER_VERSION,
	.init = exec_init,
	.worker_registered = exec_worker_registered,
	.worker_unregistered = exec_worker_unregistered,
	.channel_publish = exec_channel_publish,
};
