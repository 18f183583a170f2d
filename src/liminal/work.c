/*
 * work: a worker that runs a program once per job, up to MAX of them at once.
 *
 * One poll loop over the connection, the signals and the programs' pipes. A program that has
 * ended leaves its reply; a job is given back to the daemon (by disconnecting) rather than
 * failed when it was us who killed its program.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminal/cli.h"
#include "liminal/job.h"

#define WORK_MAX_JOBS		1024
#define WORK_MAX_TYPES		256
#define WORK_DEFAULT_TIMEOUT_MS	10000		/* to connect, and to register */
#define WORK_KILL_AFTER_NS	(5 * CLOCK_SECOND)	/* programs whose daemon is gone */
#define WORK_LEAVE_TIMEOUT_MS	2000
#define WORK_REPLY_OVERHEAD	12		/* of a reply in its frame */

enum work_phase {
	WORK_SERVING,
	WORK_LEAVING,		/* finish what runs, take nothing new */
	WORK_KILLED,		/* leaving, and nothing that still runs gets a reply */
	WORK_LOST,		/* the same: there is nobody to reply to */
};

struct work {
	struct cli *cli;
	struct liminal *conn;
	int signals;			/* signalfd */
	enum work_phase phase;
	int status;			/* exit code */
	int64_t kill_at_ns;		/* INT64_MAX = never */

	const char *name_space, *task_queue;
	const char *types[WORK_MAX_TYPES];
	size_t n_types;
	const char *node, *identity;
	int64_t limit_ns;		/* of one run; 0 = none */
	char **program;

	struct job *jobs;		/* MAX of them */
	size_t max, n_busy;		/* not JOB_FREE */
	struct pollfd *fds;
};

static const struct option work_options[] = {
	{ "activity-type", required_argument, NULL, 'a' },
	{ "max", required_argument, NULL, 'n' },
	{ "node", required_argument, NULL, 'N' },
	{ "identity", required_argument, NULL, 'i' },
	{ "limit", required_argument, NULL, 'l' },
	{ NULL, 0, NULL, 0 },
};

static void
work_read_options(struct work *work)
{
	struct cli *cli = work->cli;
	int c;

	while ((c = cli_next_option(cli, "a:n:N:i:l:", work_options)) != -1) {
		switch (c) {
		case 'a':
			if (work->n_types == WORK_MAX_TYPES) {
				cli_complain(cli, "at most %d activity types", WORK_MAX_TYPES);
				exit(CLI_USAGE);
			}
			work->types[work->n_types++] = optarg;
			break;
		case 'n':
			work->max = (size_t)cli_number(cli, optarg, 1, WORK_MAX_JOBS, "MAX");
			break;
		case 'N':
			work->node = optarg;
			break;
		case 'i':
			work->identity = optarg;
			break;
		case 'l':
			work->limit_ns = cli_duration_ns(cli, optarg);
			break;
		}
	}
}

/* A worker whose program does not exist would fail every job it gets. */
static int
work_find_program(const struct work *work)
{
	const char *name = work->program[0], *path = getenv("PATH"), *next;
	char file[4096];

	if (strchr(name, '/') != NULL)
		return access(name, X_OK);
	for (path = path == NULL ? "/bin:/usr/bin" : path; path != NULL; path = next) {
		next = strchr(path, ':');
		snprintf(file, sizeof(file), "%.*s/%s",
		    next == NULL ? (int)strlen(path) : (int)(next - path), path, name);
		if (access(file, X_OK) == 0)
			return 0;
		next = next == NULL ? NULL : next + 1;
	}
	errno = ENOENT;
	return -1;
}

static int
work_register(struct work *work, const char *task_queue, int timeout_ms)
{
	const struct liminal_worker worker = {
		.namespaces = &work->name_space, .n_namespaces = 1,
		.task_queue = task_queue,
		.node = work->node,
		.activity_types = work->types, .n_activity_types = work->n_types,
		.identity = work->identity,
		.max_concurrent = (uint32_t)work->max,
	};

	return liminal_register(work->conn, &worker, timeout_ms);
}

/* ---- replies ---- */

static int
work_reply_failed(struct work *work, struct job *job, const char *text)
{
	struct buf reply = { 0 };
	int r = LIMINAL_NOMEM;

	if (!job->typed)
		return liminal_reply(work->conn, job->correlation, NULL, 0);
	if (typed_response_build_failed(NULL, text, &reply) == 0)
		r = liminal_reply(work->conn, job->correlation, buf_head(&reply), buf_len(&reply));
	buf_free(&reply);
	return r;
}

static int
work_reply_completed(struct work *work, struct job *job)
{
	struct buf reply = { 0 };
	int r = LIMINAL_NOMEM;

	if (!job->typed)
		return liminal_reply(work->conn, job->correlation, buf_head(&job->output),
		    buf_len(&job->output));
	if (typed_response_build_completed(NULL, NULL, buf_head(&job->output),
	    buf_len(&job->output), &reply) == 0)
		r = liminal_reply(work->conn, job->correlation, buf_head(&reply), buf_len(&reply));
	buf_free(&reply);
	return r;
}

static void
work_report(struct work *work, const struct job *job, int good, const char *text)
{
	json_t *object;

	if (!good)
		cli_complain(work->cli, "job %llu failed: %s",
		    (unsigned long long)job->correlation, text);
	if (!work->cli->json)
		return;
	object = json_pack("{sI,ss,sI}", "correlation_id", (json_int_t)job->correlation,
	    "status", good ? "completed" : "failed", "took_ms",
	    (json_int_t)((job->ended_ns - job->started_ns) / CLOCK_MS));
	if (job->typed)
		json_object_set_new(object, "activity_type",
		    json_string(job->request.activity_type));
	if (!good)
		cli_json_bytes(object, "error", text, strlen(text));
	cli_print_json(work->cli, object);
}

/* 0 if JOB can be cleared, -1 if its reply has to be tried again later. */
static int
work_reply(struct work *work, struct job *job)
{
	char text[JOB_TEXT_SIZE];
	int good = job_is_good(job), r;

	if (work->phase == WORK_KILLED || work->phase == WORK_LOST)
		return 0;
	job_describe(job, text);
	r = good ? work_reply_completed(work, job) : work_reply_failed(work, job, text);
	if (r == LIMINAL_INVALID || r == LIMINAL_NOMEM) {
		good = 0;
		snprintf(text, sizeof(text), "%s", liminal_error_text(work->conn));
		r = work_reply_failed(work, job, text);
	}
	if (r == LIMINAL_BUSY)
		return -1;
	work_report(work, job, good, text);
	return 0;
}

/* ---- jobs ---- */

static void
work_end_job(struct work *work, struct job *job)
{
	if (work_reply(work, job) != 0)
		return;
	job_clear(job);
	work->n_busy--;
}

static void
work_start(struct work *work, const struct liminal_job *taken)
{
	struct job *job = work->jobs;
	int64_t now_ns = clock_now_ns();
	struct err err;
	int r;

	while (job->state != JOB_FREE)
		job++;
	work->n_busy++;
	job->correlation = taken->correlation;
	job->output_max = work->cli->max_frame - WORK_REPLY_OVERHEAD;
	job->deadline_ns = work->limit_ns == 0 ? INT64_MAX : now_ns + work->limit_ns;
	job->typed = typed_request_parse(taken->payload, taken->len, &job->request, &err) ==
	    TYPED_REQUEST;
	r = job->typed ? typed_request_input(taken->payload, taken->len, &job->input, &err) :
	    buf_append(&job->input, taken->payload, taken->len);
	if (r != 0) {
		job->state = JOB_ENDED;
		job->started_ns = job->ended_ns = now_ns;
		job->verdict = "its input cannot be used";
	} else if (job_start(job, work->program, now_ns) != 0) {
		snprintf(job->last_line, sizeof(job->last_line), "%s: %s", work->program[0],
		    strerror(errno));
	}
	if (job->state == JOB_ENDED)
		work_end_job(work, job);
}

static void
work_kill_all(struct work *work, int sig)
{
	for (size_t i = 0; i < work->max; i++)
		job_kill(&work->jobs[i], sig);
}

/* Nobody is there any more who wants results. */
static void
work_lose(struct work *work, int r)
{
	cli_complain(work->cli, "%s", liminal_error_text(work->conn));
	work->status = cli_exit_of(r, 0);
	work->phase = WORK_LOST;
	work_kill_all(work, SIGTERM);
	work->kill_at_ns = clock_now_ns() + WORK_KILL_AFTER_NS;
}

/* Take what there is room for; the connection is read and written in any case. */
static void
work_take(struct work *work)
{
	const struct liminal_job *job;
	int r = LIMINAL_OK;

	while (r == LIMINAL_OK && work->phase == WORK_SERVING && work->n_busy < work->max)
		if ((r = liminal_next_job(work->conn, 0, &job)) == LIMINAL_OK)
			work_start(work, job);
	if (r == LIMINAL_OK)
		r = liminal_process(work->conn);
	if (r != LIMINAL_OK && r != LIMINAL_TIMED_OUT && r != LIMINAL_INTERRUPTED)
		work_lose(work, r);
}

/* ---- leaving ---- */

/*
 * The protocol knows no unregistering. So register in a pool that nobody calls: the daemon sends no
 * new job here, and still takes the replies that are owed. What arrived before is
 * not started, and goes to another worker when this one disconnects.
 */
static void
work_leave(struct work *work)
{
	char queue[256];
	int r;

	work->phase = WORK_LEAVING;
	if (work->n_busy == 0)
		return;
	cli_complain(work->cli, "finishing %zu job%s; a second signal kills", work->n_busy,
	    work->n_busy == 1 ? "" : "s");
	snprintf(queue, sizeof(queue), "%.200s-leaving", work->task_queue);
	r = work_register(work, queue, WORK_LEAVE_TIMEOUT_MS);
	if (r == LIMINAL_DISCONNECTED || r == LIMINAL_PROTOCOL)
		work_lose(work, r);
}

static void
work_read_signals(struct work *work)
{
	struct signalfd_siginfo info;

	while (read(work->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		if (work->phase == WORK_SERVING) {
			work_leave(work);
		} else {
			work_kill_all(work, SIGKILL);
			if (work->phase == WORK_LEAVING) {
				work->phase = WORK_KILLED;
				work->status = CLI_FAILED;
			}
		}
	}
}

static int
work_open_signals(struct work *work)
{
	sigset_t set;

	/* Writing to a program that does not read must not end us. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	work->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return work->signals < 0 ? -1 : 0;
}

/* ---- the loop ---- */

static void
work_wait(struct work *work)
{
	int64_t now_ns = clock_now_ns(), until_ns = work->kill_at_ns, job_ns;
	size_t n = 0;

	work->fds[n++] = (struct pollfd){ .fd = work->signals, .events = POLLIN };
	if (work->phase != WORK_LOST)
		work->fds[n++] = (struct pollfd){ .fd = liminal_fd(work->conn),
			.events = liminal_poll_events(work->conn) };
	for (size_t i = 0; i < work->max; i++)
		if (work->jobs[i].state == JOB_RUNNING) {
			n += job_poll(&work->jobs[i], &work->fds[n]);
			if ((job_ns = job_deadline_ns(&work->jobs[i])) < until_ns)
				until_ns = job_ns;
		}
	poll(work->fds, n, clock_poll_ms(until_ns, now_ns));
}

static void
work_loop(struct work *work)
{
	int64_t now_ns;

	for (;;) {
		if (work->phase != WORK_LOST)
			work_take(work);
		if (work->phase != WORK_SERVING && work->n_busy == 0)
			return;
		work_wait(work);
		work_read_signals(work);
		now_ns = clock_now_ns();
		if (now_ns >= work->kill_at_ns) {
			work_kill_all(work, SIGKILL);
			work->kill_at_ns = INT64_MAX;
		}
		for (size_t i = 0; i < work->max; i++) {
			if (work->jobs[i].state == JOB_RUNNING)
				job_move(&work->jobs[i]);
			job_check(&work->jobs[i], now_ns);
			if (work->jobs[i].state == JOB_ENDED)
				work_end_job(work, &work->jobs[i]);
		}
	}
}

static int
work_prepare(struct work *work)
{
	work->jobs = calloc(work->max, sizeof(*work->jobs));
	work->fds = calloc(2 + work->max * JOB_N_PIPES, sizeof(*work->fds));
	if (work->jobs == NULL || work->fds == NULL) {
		cli_complain(work->cli, "out of memory");
		return -1;
	}
	for (size_t i = 0; i < work->max; i++)
		job_clear(&work->jobs[i]);
	if (work_find_program(work) != 0) {
		cli_complain(work->cli, "%s: %s", work->program[0], strerror(errno));
		return -1;
	}
	if (work_open_signals(work) != 0) {
		cli_complain(work->cli, "signals: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int
work_serve(struct work *work)
{
	struct cli *cli = work->cli;
	int r;

	if (work_prepare(work) != 0)
		return CLI_FAILED;
	if ((work->conn = cli_open(cli, cli->timeout_ms, &work->status)) == NULL)
		return work->status;
	if ((r = work_register(work, work->task_queue, cli->timeout_ms)) != LIMINAL_OK) {
		cli_complain(cli, "%s", liminal_error_text(work->conn));
		return cli_exit_of(r, liminal_reason(work->conn));
	}
	cli_complain(cli, "serving %s/%s, %zu at once", work->name_space, work->task_queue,
	    work->max);
	work->status = CLI_DONE;
	work_loop(work);
	if (work->phase != WORK_LOST)
		liminal_flush(work->conn, WORK_LEAVE_TIMEOUT_MS);
	return work->status;
}

int
command_work(struct cli *cli)
{
	struct work work = { .cli = cli, .max = 1, .signals = -1, .kill_at_ns = INT64_MAX };
	char **arguments;
	int status;

	cli->timeout_ms = WORK_DEFAULT_TIMEOUT_MS;
	work_read_options(&work);
	arguments = cli_arguments(cli, 2, cli->argc);
	cli_split_pool(cli, arguments[0], &work.name_space, &work.task_queue);
	work.program = arguments + 1;
	status = work_serve(&work);
	liminal_free(work.conn);
	free(work.jobs);
	free(work.fds);
	return status;
}
