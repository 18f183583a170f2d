/* process: see process.h. */
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <bsd/stdlib.h>
#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "os/process.h"
#include "os/signals.h"

#define PROCESS_OOM_FILE	"/proc/self/oom_score_adj"

/* The master goes last: without it nobody cleans up. The same value that the service unit
 * sets; -1000 would exempt it from killing altogether, even when it is the one that leaks. */
#define PROCESS_OOM_MASTER	"-900"

static int process_title_width = -1;	/* -1 = titles are not set up */

void
process_init_title(int argc, char **argv, char **envp)
{
	/* A title that is shorter than argv[0] was shows a stray dot behind it (libbsd's mark for
	 * the kernel): so it is padded to that length. */
	process_title_width = (int)strlen(argv[0]) - (int)strlen(getprogname()) -
	    (int)strlen(": ");
	if (process_title_width < 0)
		process_title_width = 0;
	setproctitle_init(argc, argv, envp);
}

void
process_set_title(const char *fmt, ...)
{
	char title[128];
	va_list ap;

	if (process_title_width < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(title, sizeof(title), fmt, ap);
	va_end(ap);
	setproctitle("%-*s", process_title_width, title);
}

int
process_init(struct process_family *family, struct err *err)
{
	int fds[2];

	*family = (struct process_family){ .master = getpid() };
	if (pipe2(fds, O_CLOEXEC) == -1)
		return err_sys(err, errno, "pipe for the watch on the master");
	family->watch_fd = fds[0];
	family->watch_master_fd = fds[1];
	/* Inherited by every child, and cheaper to say once. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return err_sys(err, errno, "no_new_privs");
	return 0;
}

void
process_keep_lock(struct process_family *family, int lock_fd)
{
	if (family->n_locks == PROCESS_LOCKS_MAX)
		log_panic("more than %d locks", PROCESS_LOCKS_MAX);
	family->lock_fds[family->n_locks++] = lock_fd;
}

void
process_fini(struct process_family *family)
{
	close(family->watch_fd);
	close(family->watch_master_fd);
}

static int
process_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ok;

	if (fd == -1)
		return -1;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok ? 0 : -1;
}

static long
process_read_oom_score(void)
{
	char text[16] = "";
	int fd = open(PROCESS_OOM_FILE, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strtol(text, NULL, 10);
}

void
process_shun_oom_killer(struct process_family *family)
{
	if (process_read_oom_score() >= 0)
		(void)process_write_file(PROCESS_OOM_FILE, PROCESS_OOM_MASTER);
	/* A service manager may have lowered it before. */
	family->oom_is_lowered = process_read_oom_score() < 0;
}

/* Close every descriptor from 3 on but the N in KEEP (sorted here). */
static void
process_close_all_but(int *keep, int n)
{
	unsigned from = STDERR_FILENO + 1;

	for (int i = 1; i < n; i++)
		for (int j = i; j > 0 && keep[j] < keep[j - 1]; j--) {
			int swap = keep[j];

			keep[j] = keep[j - 1];
			keep[j - 1] = swap;
		}
	for (int i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from &&
		    close_range(from, (unsigned)keep[i] - 1, 0) == -1)
			for (int fd = (int)from; fd < keep[i]; fd++)
				close(fd);
		from = (unsigned)keep[i] + 1;
	}
	if (close_range(from, UINT_MAX, 0) == -1)
		closefrom((int)from);	/* an old kernel or a strict sandbox */
}

static int
process_set_up_child(const struct process_family *family, const struct process_child *child)
{
	int keep[PROCESS_LOCKS_MAX + 2] = { family->watch_fd, child->keep_fd }, n = 2;
	char name[24];

	/* Its own group before the mask opens: a terminal's ^C is the master's business. */
	if (setpgid(0, 0) == -1)
		return -1;
	signals_reset_child();
	for (int i = 0; i < family->n_locks; i++)
		keep[n++] = family->lock_fds[i];
	process_close_all_but(keep, n);

	/* The master may have died before the first line had its effect; it is never assumed
	 * that an orphan's parent is pid 1. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		return -1;
	if (getppid() != family->master)
		_exit(child->failure_status);

	if (family->oom_is_lowered)
		(void)process_write_file(PROCESS_OOM_FILE, "0");
	if (child->conn_id != 0) {
		snprintf(name, sizeof(name), "%llu", (unsigned long long)child->conn_id);
		process_set_title("%s %s", name, child->title);
		log_set_name(name);
	} else {
		process_set_title("%s", child->title);
		log_set_name(child->title);
	}
	return board_own(child->board, child->slot);
}

pid_t
process_fork(const struct process_family *family, const struct process_child *child)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (process_set_up_child(family, child) == -1) {
		log_warn("child set-up failed");
		_exit(child->failure_status);
	}
	return 0;
}

/* What a child needs to become a foreign program. */
struct process_start {
	char *const *argv, *const *envp;
	int fds[3];			/* its 0, 1 and 2 */
	pid_t parent;
	struct rlimit files;
	volatile int error;		/* the child's: errno of what failed */
};

/* In the child, which shares our memory and holds us up until it is another program: system
 * calls only, and nothing written but ERROR. */
static void __attribute__((noreturn))
process_become(struct process_start *start)
{
	static const struct sigaction fresh = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &fresh, NULL);
	if (setpgid(0, 0) == -1 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		goto failed;
	/* The parent may have been killed before the line above had its effect. */
	if (getppid() != start->parent)
		_exit(127);
	/* Ours are above 2: process_fill_standard_fds(). */
	for (int fd = 0; fd < 3; fd++)
		if (dup2(start->fds[fd], fd) == -1)
			goto failed;
	if (close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC) == -1 &&
	    errno != ENOSYS && errno != EINVAL && errno != EPERM)
		goto failed;	/* those: everything of ours is closed on exec in any case */
	(void)setrlimit(RLIMIT_NOFILE, &start->files);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execve(start->argv[0], start->argv, start->envp);
failed:
	start->error = errno;
	_exit(127);
}

/*
 * vfork, not fork: its cost does not follow the size of this process, the mapped state is not even
 * copied as page tables, and whether the program could be executed is known when it
 * returns. Signals wait, so that no handler of ours runs in the child.
 */
static pid_t
process_vfork(struct process_start *start)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	if (pid == 0)
		process_become(start);
	if (pid == -1)
		start->error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

/* A program needs several descriptors of ours: take what we may have. It gets the limit that we
 * were started with; a high one makes some programs slow and breaks select(2). */
static void
process_raise_files(struct rlimit *before)
{
	static struct rlimit first;
	struct rlimit most;

	if (first.rlim_max == 0 && getrlimit(RLIMIT_NOFILE, &first) == 0 &&
	    first.rlim_cur < first.rlim_max) {
		most = first;
		most.rlim_cur = most.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &most);
	}
	*before = first;
}

static int
process_open_pipe(int *ours, int *its, int is_its_input)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) == -1)
		return -1;
	*ours = fds[is_its_input];
	*its = fds[!is_its_input];
	/* Only our end: the other is what the program expects of a pipe. */
	return fcntl(*ours, F_SETFL, O_NONBLOCK);
}

static int
process_start_program(struct process_start *start, struct process_program *program)
{
	if (process_open_pipe(&program->in_fd, &start->fds[0], 1) == -1 ||
	    process_open_pipe(&program->out_fd, &start->fds[1], 0) == -1 ||
	    process_open_pipe(&program->err_fd, &start->fds[2], 0) == -1)
		return errno;
	program->pid = process_vfork(start);
	if (program->pid == -1)
		return start->error;
	if (start->error == 0 &&
	    (program->pid_fd = pidfd_open(program->pid, 0)) != -1)
		return 0;
	if (start->error == 0) {
		start->error = errno;
		process_signal_group(program, SIGKILL);
	}
	/* It has ended, or is about to. */
	while (waitpid(program->pid, NULL, 0) == -1 && errno == EINTR)
		continue;
	return start->error;
}

int
process_spawn(char *const *argv, char *const *envp, struct process_program *program,
    struct err *err)
{
	struct process_start start = {
		.argv = argv, .envp = envp, .fds = { -1, -1, -1 }, .parent = getpid()
	};
	int error, fd;

	*program = (struct process_program){
		.pid = -1, .pid_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1
	};
	process_raise_files(&start.files);
	error = process_start_program(&start, program);
	for (fd = 0; fd < 3; fd++)
		if (start.fds[fd] != -1)
			close(start.fds[fd]);
	if (error == 0)
		return 0;
	process_close_program(program);
	err_sys(err, error, "the program cannot be started");
	switch (error) {
	case EAGAIN:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		if (err != NULL)
			err->code = ERR_FULL;
		return ERR_FULL;
	default:
		return ERR_SYSTEM;
	}
}

void
process_signal_group(const struct process_program *program, int sig)
{
	if (program->pid <= 1)
		return;
	(void)kill(-program->pid, sig);
	/* It may have moved to another group. Not twice otherwise: a second TERM means more to some. */
	if (getpgid(program->pid) != program->pid)
		(void)kill(program->pid, sig);
}

void
process_close_program(struct process_program *program)
{
	int *fds[] = {
		&program->pid_fd, &program->in_fd, &program->out_fd, &program->err_fd
	};

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (*fds[i] != -1)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

char
process_state(pid_t pid)
{
	char path[40], text[512];
	const char *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The name in parentheses may itself contain any of these characters. */
	end = strrchr(text, ')');
	return end != NULL && end[1] == ' ' ? end[2] : 0;
}

int
process_fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd == -1)
		return -1;
	close(fd);
	return 0;
}
