/*
 * process: the only place that forks.
 *
 * Owns the order of the set-up in a child. A child has its own process group, none of the
 * master's descriptors but the locks and the watch on the master, and dies with the
 * master: the kernel kills it (PR_SET_PDEATHSIG), and where that fails it reads
 * end-of-file from the watch. The locks are kept on purpose: a new master refuses to
 * start while a process of the old one is alive.
 *
 * A parent that forks must be single-threaded and must not hold an LMDB environment. One that
 * starts a foreign program (process_spawn) may hold one: that child runs nothing but system calls
 * until it has become the program.
 */
#ifndef LIMINAL_OS_PROCESS_H
#define LIMINAL_OS_PROCESS_H

#include <sys/types.h>

#include <stdint.h>

#include "base/err.h"
#include "os/board.h"

#define PROCESS_LOCKS_MAX 2

/* What the master and all its children have in common. */
struct process_family {
	pid_t master;
	int lock_fds[PROCESS_LOCKS_MAX];	/* n_locks of them, kept by the children */
	int n_locks;
	int watch_fd;		/* read end of the watch, for the children */
	int watch_master_fd;	/* the end whose closing tells them; never written to */
	int oom_is_lowered;	/* children have to raise theirs again */
};

struct process_child {
	struct board *board;
	uint32_t slot;
	uint64_t conn_id;	/* 0 for a service */
	const char *title;	/* "keeper", or a connection's peer */
	int keep_fd;		/* the child's own descriptor */
	int failure_status;	/* to exit with when the set-up fails */
};

/* First thing in main(): ARGV and ENVP may move. Without it titles do nothing. */
void	process_init_title(int argc, char **argv, char **envp);

/* What ps(1) shows: "liminald: TITLE". */
void	process_set_title(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* In the master, once, before the first fork. Children will not gain privileges. */
int	process_init(struct process_family *family, struct err *err);

/* From now on children keep LOCK_FD open. It stays the caller's; at most PROCESS_LOCKS_MAX. */
void	process_keep_lock(struct process_family *family, int lock_fd);

void	process_fini(struct process_family *family);

/* Make the out-of-memory killer look elsewhere first, if this process may. */
void	process_shun_oom_killer(struct process_family *family);

/* fork(2). In the child everything common is done when it returns 0; it must leave by
 * _exit(2). -1 with errno: there is no child. */
pid_t	process_fork(const struct process_family *family, const struct process_child *child);

/* A foreign program that was started, and our ends of its pipes: non-blocking, closed on exec,
 * the caller's to close. */
struct process_program {
	pid_t pid;		/* the caller's to reap; also the number of its process group */
	int pid_fd;		/* readable when it has ended */
	int in_fd;		/* its standard input: write */
	int out_fd, err_fd;	/* its standard output and error: read */
};

/*
 * Start ARGV[0], an absolute path, with exactly the environment ENVP, without a shell. It
 * gets its own process group, every signal as a fresh program has it, no descriptor
 * but its pipes as 0, 1 and 2, and SIGKILL when the calling process ends. Blocks
 * until the program runs or cannot be started. 0; ERR_FULL when there is no room for one
 * more process or descriptor; ERR_SYSTEM when it cannot be executed. ERR.SYS is the errno,
 * and ERR.TEXT a sentence without the path.
 */
int	process_spawn(char *const *argv, char *const *envp, struct process_program *program,
	    struct err *err);
/* End it and everything that is left of its group. To be called before it is reaped: only until
 * then is the number known to be its own. */
void	process_signal_group(const struct process_program *program, int sig);
/* Close what is still open (-1 = closed already). */
void	process_close_program(struct process_program *program);

/* The state letter of /proc/PID/stat ('R', 'S', 'T', ...), or 0 when unknown. */
char	process_state(pid_t pid);

/* Make sure that descriptors 0, 1 and 2 are open, so that no socket ever gets their numbers. */
int	process_fill_standard_fds(void);

#endif
