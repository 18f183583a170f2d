/*
 * job: see job.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "liminal/job.h"

#define JOB_READ_SIZE	65536
#define JOB_N_VARIABLES	5	/* that are put into the program's environment */

/* ---- starting ---- */

static void
job_close(struct job *job, enum job_pipe which)
{
	if (job->fds[which] >= 0)
		close(job->fds[which]);
	job->fds[which] = -1;
}

/* What the program may want to know about a typed job, before what it inherits. */
static char **
job_environment(const struct job *job)
{
	static const char *const names[] = { "LIMINAL_ACTIVITY_TYPE",
		"LIMINAL_CONVERSATION_ID", "LIMINAL_WORKFLOW_ID", "LIMINAL_ORDINAL" };
	const struct typed_request *request = &job->request;
	const char *values[] = { request->activity_type, request->conversation_id,
		request->workflow_id, NULL };
	char ordinal[32], **env;
	size_t n = 0, inherited = 0;

	while (environ[inherited] != NULL)
		inherited++;
	if ((env = calloc(inherited + JOB_N_VARIABLES, sizeof(*env))) == NULL)
		return NULL;
	snprintf(ordinal, sizeof(ordinal), "%" PRId64, request->ordinal);
	if (request->has_ordinal)
		values[3] = ordinal;
	for (size_t i = 0; job->typed && i < sizeof(names) / sizeof(names[0]); i++)
		if (values[i] != NULL && asprintf(&env[n], "%s=%s", names[i], values[i]) >= 0)
			n++;
	for (size_t i = 0; i < inherited; i++) {
		int ours = 0;

		for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			ours |= strncmp(environ[i], names[k], strlen(names[k])) == 0 &&
			    environ[i][strlen(names[k])] == '=';
		if (!ours && (env[n] = strdup(environ[i])) != NULL)
			n++;
	}
	return env;
}

static void
job_free_environment(char **env)
{
	for (size_t i = 0; env != NULL && env[i] != NULL; i++)
		free(env[i]);
	free(env);
}

/* The three pipes; THEIRS gets the program's ends. 0 or an errno. */
static int
job_make_pipes(struct job *job, int theirs[JOB_N_PIPES])
{
	int both[2];

	for (int i = 0; i < JOB_N_PIPES; i++)
		job->fds[i] = theirs[i] = -1;
	for (int i = 0; i < JOB_N_PIPES; i++) {
		if (pipe2(both, O_CLOEXEC) != 0)
			return errno;
		job->fds[i] = both[i == JOB_STDIN ? 1 : 0];
		theirs[i] = both[i == JOB_STDIN ? 0 : 1];
		/* Only ours: what the program inherits has to be as programs expect it. */
		if (fcntl(job->fds[i], F_SETFL, O_NONBLOCK) != 0)
			return errno;
	}
	return 0;
}

/* 0 or an errno. */
static int
job_spawn(struct job *job, char *const argv[], const int theirs[JOB_N_PIPES])
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	char **env;
	int error;

	if ((env = job_environment(job)) == NULL)
		return ENOMEM;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	for (int i = 0; i < JOB_N_PIPES; i++)
		posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
	    POSIX_SPAWN_SETSIGDEF);
	error = posix_spawnp(&job->pid, argv[0], &actions, &attributes, argv, env);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	job_free_environment(env);
	return error;
}

int
job_start(struct job *job, char *const argv[], int64_t now_ns)
{
	int theirs[JOB_N_PIPES], error;

	job->started_ns = now_ns;
	job->pid = -1;
	if ((error = job_make_pipes(job, theirs)) == 0)
		error = job_spawn(job, argv, theirs);
	for (int i = 0; i < JOB_N_PIPES; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	if (error == 0) {
		job->state = JOB_RUNNING;
		job_move(job);
		return 0;
	}
	for (int i = 0; i < JOB_N_PIPES; i++)
		job_close(job, i);
	job->state = JOB_ENDED;
	job->ended_ns = now_ns;
	job->verdict = "the program cannot be started";
	errno = error;
	return -1;
}

/* ---- moving bytes ---- */

static void
job_write_input(struct job *job)
{
	ssize_t n;

	while (job->fds[JOB_STDIN] >= 0) {
		/* A program need not read its input: EPIPE is no failure. */
		n = buf_len(&job->input) == 0 ? -1 :
		    write(job->fds[JOB_STDIN], buf_head(&job->input), buf_len(&job->input));
		if (n > 0)
			buf_consume(&job->input, (size_t)n);
		else if (buf_len(&job->input) > 0 && (errno == EAGAIN || errno == EINTR))
			return;
		else
			job_close(job, JOB_STDIN);
	}
	buf_free(&job->input);
}

static void
job_read_output(struct job *job)
{
	uint8_t *room;
	ssize_t n;

	while (job->fds[JOB_STDOUT] >= 0) {
		if ((room = buf_reserve(&job->output, JOB_READ_SIZE)) == NULL) {
			job->verdict = "its output does not fit into memory";
		} else {
			n = read(job->fds[JOB_STDOUT], room, JOB_READ_SIZE);
			if (n < 0 && (errno == EAGAIN || errno == EINTR))
				return;
			if (n > 0)
				buf_commit(&job->output, (size_t)n);
			if (n <= 0) {
				job_close(job, JOB_STDOUT);
				return;
			}
			if (buf_len(&job->output) > job->output_max)
				job->verdict = "its output is larger than a frame (-m)";
		}
		if (job->verdict != NULL) {
			job_close(job, JOB_STDOUT);
			job_kill(job, SIGKILL);
		}
	}
}

/* Standard error goes on to ours, by whole lines, so that programs that run at once do
 * not mix theirs. */
static void
job_pass_line(struct job *job)
{
	size_t len = job->line_len;

	if (len == 0)
		return;
	job->line[len] = '\n';
	if (write(STDERR_FILENO, job->line, len + 1) < 0) {
		/* Nobody reads it; the program's result does not depend on that. */
	}
	job->line[len] = '\0';
	memcpy(job->last_line, job->line, len + 1);
	job->line_len = 0;
}

static void
job_read_errors(struct job *job)
{
	char bytes[JOB_LINE_SIZE];
	ssize_t n;

	while (job->fds[JOB_STDERR] >= 0) {
		n = read(job->fds[JOB_STDERR], bytes, sizeof(bytes));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != '\n')
				job->line[job->line_len++] = bytes[i];
			if (bytes[i] == '\n' || job->line_len == sizeof(job->line) - 2)
				job_pass_line(job);
		}
		if (n <= 0) {
			job_pass_line(job);
			job_close(job, JOB_STDERR);
		}
	}
}

void
job_move(struct job *job)
{
	job_write_input(job);
	job_read_output(job);
	job_read_errors(job);
}

size_t
job_poll(const struct job *job, struct pollfd *fds)
{
	size_t n = 0;

	for (int i = 0; i < JOB_N_PIPES; i++)
		if (job->fds[i] >= 0)
			fds[n++] = (struct pollfd){ .fd = job->fds[i],
				.events = i == JOB_STDIN ? POLLOUT : POLLIN };
	return n;
}

/* ---- ending ---- */

void
job_kill(const struct job *job, int sig)
{
	/* Not yet reaped, so the number is still its own. */
	if (job->state == JOB_RUNNING && job->ended_ns == 0)
		kill(-job->pid, sig);
}

void
job_check(struct job *job, int64_t now_ns)
{
	if (job->state != JOB_RUNNING)
		return;
	if (job->ended_ns == 0 && now_ns >= job->deadline_ns) {
		job->verdict = "it took too long (-l)";
		job->deadline_ns = INT64_MAX;
		job_kill(job, SIGKILL);
	}
	if (job->ended_ns == 0 && waitpid(job->pid, &job->wait_status, WNOHANG) == job->pid)
		job->ended_ns = now_ns;
	if (job->ended_ns == 0)
		return;
	job_move(job);
	if ((job->fds[JOB_STDOUT] >= 0 || job->fds[JOB_STDERR] >= 0) &&
	    now_ns < job->ended_ns + JOB_GRACE_NS)
		return;
	job_pass_line(job);
	for (int i = 0; i < JOB_N_PIPES; i++)
		job_close(job, i);
	job->state = JOB_ENDED;
}

int64_t
job_deadline_ns(const struct job *job)
{
	if (job->state != JOB_RUNNING)
		return INT64_MAX;
	return job->ended_ns == 0 ? job->deadline_ns : job->ended_ns + JOB_GRACE_NS;
}

int
job_is_good(const struct job *job)
{
	return job->verdict == NULL && WIFEXITED(job->wait_status) &&
	    WEXITSTATUS(job->wait_status) == 0;
}

char *
job_describe(const struct job *job, char out[JOB_TEXT_SIZE])
{
	const char *colon = job->last_line[0] != '\0' ? ": " : "";
	int sig;

	if (job->verdict != NULL) {
		snprintf(out, JOB_TEXT_SIZE, "%s%s%s", job->verdict, colon, job->last_line);
	} else if (WIFSIGNALED(job->wait_status)) {
		sig = WTERMSIG(job->wait_status);
		snprintf(out, JOB_TEXT_SIZE, "killed by signal %d (SIG%s)%s%s", sig,
		    sigabbrev_np(sig) != NULL ? sigabbrev_np(sig) : "?", colon, job->last_line);
	} else {
		snprintf(out, JOB_TEXT_SIZE, "exit status %d%s%s",
		    WEXITSTATUS(job->wait_status), colon, job->last_line);
	}
	return out;
}

void
job_clear(struct job *job)
{
	if (job->typed)
		typed_request_free(&job->request);
	buf_free(&job->input);
	buf_free(&job->output);
	memset(job, 0, sizeof(*job));
	for (int i = 0; i < JOB_N_PIPES; i++)
		job->fds[i] = -1;
}
