/*
 * run: forking clients, and the runs that count jobs.
 *
 * Callers count in the shared mapping and this process looks at the counters before and after
 * a sleep, so nothing is sent around while it measures. At the end callers take in what is
 * outstanding and exit: a lost answer is seen. Workers wait for a job for ever and are ended.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define TICK_NS	INT64_C(1000000)

struct bench_shared *bench_shared;
volatile sig_atomic_t bench_interrupted;

int64_t
bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void
bench_sleep_ns(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (!bench_interrupted && nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

pid_t
bench_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_IGN);
	return 0;
}

/* Reap one of PIDS if it has ended: its status, or -1 while it runs. */
static int
reap(pid_t *pid)
{
	int status;

	if (*pid <= 0 || waitpid(*pid, &status, WNOHANG) != *pid)
		return -1;
	*pid = 0;
	return status;
}

int
bench_await_ready(unsigned n, pid_t *pids, unsigned n_pids)
{
	int64_t end = bench_now_ns() + 6 * BENCH_WAIT_NS;
	unsigned i;

	while (atomic_load(&bench_shared->ready) < n) {
		for (i = 0; i < n_pids; i++)
			if (reap(&pids[i]) >= 0)
				return bench_complain("a client ended early");
		if (bench_interrupted)
			return -1;
		if (bench_now_ns() > end)
			return bench_complain("clients are not ready in time");
		bench_sleep_ns(TICK_NS);
	}
	return 0;
}

int
bench_await_exit(pid_t *pids, unsigned n_pids)
{
	int64_t end = bench_now_ns() + BENCH_WAIT_NS;
	unsigned i, left;
	int status, result = 0;

	do {
		for (i = left = 0; i < n_pids; i++) {
			status = reap(&pids[i]);
			if (status > 0)
				result = bench_complain("a client failed (%#x)", (unsigned)status);
			left += pids[i] > 0;
		}
		if (left > 0 && (bench_now_ns() > end || bench_interrupted)) {
			bench_kill(pids, n_pids);
			return bench_complain("%u clients did not finish", left);
		}
		if (left > 0)
			bench_sleep_ns(TICK_NS);
	} while (left > 0);
	return result;
}

void
bench_kill(pid_t *pids, unsigned n_pids)
{
	unsigned i;

	for (i = 0; i < n_pids; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	for (i = 0; i < n_pids; i++) {
		if (pids[i] > 0)
			waitpid(pids[i], NULL, 0);
		pids[i] = 0;
	}
}

void
bench_queue_name(char out[32])
{
	static unsigned n;

	snprintf(out, 32, "q%d-%u", (int)getpid(), ++n);
}

/* Bytes 0..7 are the job's id, 8..15 its caller (drivers may look at it), then a pattern. */
void
bench_fill_job(uint8_t *job, size_t size, unsigned caller)
{
	size_t i;

	memset(job, 0, size);
	job[15] = (uint8_t)caller;
	for (i = BENCH_MIN_SIZE; i < size; i++)
		job[i] = (uint8_t)(i * 7 + caller * 31);
}

_Noreturn static void
work(const struct bench_server *server, const char *queue, unsigned index, unsigned capacity)
{
	struct bench_client client = { .role = BENCH_WORKER };
	struct bench_view job;

	if (bench_client_open(&client, server, BENCH_WORKER, queue, index, capacity) != 0 ||
	    bench_client_flush(&client) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	while (bench_client_next(&client, &job) == 0)
		if (server->driver->reply(&client, job) != 0)
			break;
	_exit(1);
}

static void
add_sample(int64_t ns)
{
	unsigned n = atomic_load_explicit(&bench_shared->n_samples, memory_order_relaxed);

	if (n >= BENCH_MAX_SAMPLES)
		return;
	bench_shared->sample[n] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
	atomic_store_explicit(&bench_shared->n_samples, n + 1, memory_order_relaxed);
}

static int
send_job(struct bench_client *client, uint8_t *job, uint64_t id)
{
	struct bench_view view = { job, client->server->options->size };

	memcpy(job, &id, sizeof id);
	return client->server->driver->send(client, view);
}

/*
 * Keep WINDOW jobs outstanding. A job's id tells its place in the window and grows there
 * with each job, so an answer that comes twice or to the wrong caller is found.
 */
static int
call(struct bench_client *client, unsigned window, uint8_t *job, int timed)
{
	struct bench_counter *counter = &bench_shared->counter[client->index];
	size_t size = client->server->options->size;
	uint64_t *expected = calloc(window, sizeof *expected), id, done = 0;
	unsigned slot, outstanding = window;
	struct bench_view answer;
	int phase = BENCH_WARM_UP;
	int64_t sent_ns = timed ? bench_now_ns() : 0;

	for (slot = 0; slot < window; slot++) {
		expected[slot] = window + slot;
		if (send_job(client, job, expected[slot]) != 0)
			return -1;
	}
	while (outstanding > 0) {
		if (bench_client_next(client, &answer) != 0)
			return -1;
		if (answer.len != size)
			return bench_complain("an answer of %zu bytes", answer.len);
		memcpy(&id, answer.data, sizeof id);
		slot = (unsigned)(id % window);
		if (id != expected[slot] || memcmp(answer.data + 8, job + 8, size - 8) != 0)
			return bench_complain("a wrong answer");
		expected[slot] += window;
		atomic_store_explicit(&counter->count, ++done, memory_order_relaxed);
		if (timed && phase == BENCH_MEASURE)
			add_sample(bench_now_ns() - sent_ns);
		phase = atomic_load_explicit(&bench_shared->phase, memory_order_relaxed);
		if (timed)
			sent_ns = bench_now_ns();
		if (phase == BENCH_STOP)
			outstanding--;
		else if (send_job(client, job, expected[slot]) != 0)
			return -1;
	}
	return 0;
}

static pid_t
fork_client(const struct bench_server *server, enum bench_role role, const char *queue,
    unsigned index, const struct bench_shape *shape)
{
	struct bench_client client = { .role = role };
	pid_t pid = bench_fork();
	uint8_t *job;

	if (pid != 0)
		return pid;
	if (role == BENCH_WORKER)
		work(server, queue, index, shape->capacity);
	job = malloc(server->options->size);
	bench_fill_job(job, server->options->size, index);
	if (bench_client_open(&client, server, role, queue, index, shape->window) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	if (call(&client, shape->window, job, index == 0 && shape->window == 1) != 0)
		_exit(1);
	server->driver->bye(&client);
	_exit(0);
}

static uint64_t
count_all(unsigned callers)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < callers; i++)
		sum += atomic_load_explicit(&bench_shared->counter[i].count,
		    memory_order_relaxed);
	return sum;
}

static int
compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

double
bench_percentile_us(double p)
{
	unsigned n = atomic_load(&bench_shared->n_samples), at;

	if (n == 0)
		return 0;
	qsort(bench_shared->sample, n, sizeof *bench_shared->sample, compare_samples);
	at = (unsigned)ceil(p / 100 * n);
	return bench_shared->sample[at > 0 ? at - 1 : 0] / 1e3;
}

static void
reset_shared(void)
{
	unsigned i;

	atomic_store(&bench_shared->phase, BENCH_WARM_UP);
	atomic_store(&bench_shared->ready, 0);
	atomic_store(&bench_shared->n_samples, 0);
	for (i = 0; i < BENCH_MAX_CLIENTS; i++)
		atomic_store(&bench_shared->counter[i].count, 0);
}

int
bench_run_jobs(const struct bench_server *server, const struct bench_shape *shape,
    struct bench_result *result)
{
	pid_t worker[BENCH_MAX_CLIENTS] = { 0 }, caller[BENCH_MAX_CLIENTS] = { 0 };
	uint64_t before, after;
	int64_t from, to;
	char queue[32];
	unsigned i;
	int r = -1;

	memset(result, 0, sizeof *result);
	bench_queue_name(queue);
	reset_shared();
	for (i = 0; i < shape->workers; i++)
		worker[i] = fork_client(server, BENCH_WORKER, queue, i, shape);
	if (bench_await_ready(shape->workers, worker, shape->workers) != 0)
		goto end;
	for (i = 0; i < shape->callers; i++)
		caller[i] = fork_client(server, BENCH_CALLER, queue, i, shape);
	if (bench_await_ready(shape->workers + shape->callers, caller, shape->callers) != 0)
		goto end;
	bench_sleep_ns((int64_t)(server->options->warm_up * 1e9));
	atomic_store(&bench_shared->phase, BENCH_MEASURE);
	before = count_all(shape->callers);
	from = bench_now_ns();
	bench_sleep_ns((int64_t)(server->options->seconds * 1e9));
	after = count_all(shape->callers);
	to = bench_now_ns();
	atomic_store(&bench_shared->phase, BENCH_STOP);
	if (bench_await_exit(caller, shape->callers) != 0 || bench_interrupted)
		goto end;
	if (after == before) {
		bench_complain("not one job was done");
		goto end;
	}
	result->rate = (double)(after - before) * 1e9 / (double)(to - from);
	result->p50_us = bench_percentile_us(50);
	result->p99_us = bench_percentile_us(99);
	r = 0;
end:
	bench_kill(caller, shape->callers);
	bench_kill(worker, shape->workers);
	return r;
}
