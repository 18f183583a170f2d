/*
 * job: one run of a worker's program: its input, its output, and how it ended.
 *
 * Nothing here blocks. The program runs in a process group of its own, so that a terminal's ^C
 * reaches only `liminal work`, which lets it finish.
 */
#ifndef LIMINAL_LIMINAL_JOB_H
#define LIMINAL_LIMINAL_JOB_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "form/typed.h"

#define JOB_LINE_SIZE	1024
#define JOB_TEXT_SIZE	(JOB_LINE_SIZE + 128)

/* A program that has ended, but whose output somebody still holds open, is waited for no
 * longer than this; what it wrote until then is the result. */
#define JOB_GRACE_NS	(INT64_C(1000000000))

enum job_pipe { JOB_STDIN, JOB_STDOUT, JOB_STDERR, JOB_N_PIPES };

enum job_state { JOB_FREE, JOB_RUNNING, JOB_ENDED };

struct job {
	enum job_state state;
	uint64_t correlation;
	pid_t pid;
	int fds[JOB_N_PIPES];		/* our ends; -1 = closed */
	struct buf input, output;
	size_t output_max;
	int64_t started_ns, ended_ns;	/* monotonic; 0 = it has not ended */
	int64_t deadline_ns;		/* INT64_MAX = none */
	int wait_status;
	const char *verdict;		/* why it failed whatever its status, or NULL */
	int typed;
	struct typed_request request;	/* if typed */
	char line[JOB_LINE_SIZE];	/* of standard error, so far */
	size_t line_len;
	char last_line[JOB_LINE_SIZE];	/* the last that was complete */
};

/*
 * Run ARGV for the job's input, which is set already. 0, or -1 with errno; the job is then
 * JOB_ENDED and failed.
 */
int	job_start(struct job *job, char *const argv[], int64_t now_ns);

/* Append what to poll for to FDS; returns how many (up to JOB_N_PIPES). */
size_t	job_poll(const struct job *job, struct pollfd *fds);

/* Read and write what goes. */
void	job_move(struct job *job);

/* Look whether the program has ended; the state becomes JOB_ENDED when all of its output is
 * there, or the grace is over. */
void	job_check(struct job *job, int64_t now_ns);

/* When job_check() has to be called without any event; INT64_MAX = never. */
int64_t	job_deadline_ns(const struct job *job);

void	job_kill(const struct job *job, int sig);

/* 1 if it ended with exit status 0 and nothing else was wrong. */
int	job_is_good(const struct job *job);

/* In words, with the last line of standard error. Returns OUT. */
char	*job_describe(const struct job *job, char out[JOB_TEXT_SIZE]);

/* Make it JOB_FREE. It must not be running. */
void	job_clear(struct job *job);

#endif
