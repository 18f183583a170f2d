/*
 * failover: from the kill -9 of the worker that holds a job to the job at another worker.
 *
 * Two workers. The first that gets the job keeps it and says so; it is killed; the other
 * one notes when the job came, and answers. A new worker takes the dead one's place before the
 * next job. Both instants are of one clock, the first read just before kill(2).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MIN_ROUNDS	20u

struct failover {
	const struct bench_server *server;
	char queue[32];
	pid_t worker[2], caller;
	int go[2], event[2];		/* pipes: to the caller; from everybody */
};

/* The byte that a worker sends when it holds the job is its index; the caller sends this. */
#define EVENT_ANSWERED	'A'

_Noreturn static void
work(const struct failover *f, unsigned index)
{
	struct bench_client client = { .role = BENCH_WORKER };
	struct bench_view job;
	char byte = (char)index;
	int nobody;

	close(f->go[1]);	/* the caller ends when the last one is closed */
	if (bench_client_open(&client, f->server, BENCH_WORKER, f->queue, index, 1) != 0 ||
	    bench_client_flush(&client) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	for (;;) {
		if (bench_client_next(&client, &job) != 0)
			_exit(1);
		nobody = -1;
		if (atomic_compare_exchange_strong(&bench_shared->holder, &nobody, (int)index)) {
			if (write(f->event[1], &byte, 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		atomic_store(&bench_shared->arrival_ns, bench_now_ns());
		if (f->server->driver->reply(&client, job) != 0)
			_exit(1);
	}
}

_Noreturn static void
call(const struct failover *f)
{
	struct bench_client client = { .role = BENCH_CALLER };
	size_t size = f->server->options->size;
	uint8_t *bytes = malloc(size);
	struct bench_view job = { bytes, size }, answer;
	uint64_t id = 0;
	char byte;

	bench_fill_job(bytes, size, 0);
	if (bench_client_open(&client, f->server, BENCH_CALLER, f->queue, 0, 1) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	while (read(f->go[0], &byte, 1) == 1) {
		id++;
		memcpy(bytes, &id, sizeof id);
		if (f->server->driver->send(&client, job) != 0 ||
		    bench_client_next(&client, &answer) != 0)
			_exit(1);
		if (answer.len != size || memcmp(answer.data, bytes, size) != 0) {
			bench_complain("a wrong answer");
			_exit(1);
		}
		/* What the driver still owes the server for this answer. */
		if (bench_client_flush(&client) != 0)
			_exit(1);
		byte = EVENT_ANSWERED;
		if (write(f->event[1], &byte, 1) != 1)
			_exit(1);
	}
	f->server->driver->bye(&client);
	_exit(0);
}

static int
start_worker(struct failover *f, unsigned index)
{
	f->worker[index] = bench_fork();
	if (f->worker[index] == 0)
		work(f, index);
	return f->worker[index] > 0 ? 0 : bench_complain("fork: %s", strerror(errno));
}

static int
await_event(struct failover *f, char *event)
{
	struct pollfd pfd = { .fd = f->event[0], .events = POLLIN };

	if (poll(&pfd, 1, (int)(BENCH_WAIT_NS / 1000000)) != 1 ||
	    read(f->event[0], event, 1) != 1)
		return bench_complain("%s: the job did not come back",
		    f->server->driver->name);
	return 0;
}

static int
run_round(struct failover *f, int64_t *took_ns)
{
	int64_t killed_ns;
	char event;

	atomic_store(&bench_shared->holder, -1);
	if (write(f->go[1], "", 1) != 1 || await_event(f, &event) != 0)
		return -1;
	if (event != 0 && event != 1)
		return bench_complain("the job was answered before the kill");
	killed_ns = bench_now_ns();
	kill(f->worker[(int)event], SIGKILL);
	waitpid(f->worker[(int)event], NULL, 0);
	f->worker[(int)event] = 0;
	atomic_store(&bench_shared->ready, 0);
	if (start_worker(f, (unsigned)event) != 0)
		return -1;
	if (await_event(f, &event) != 0)
		return -1;
	if (event != EVENT_ANSWERED)
		return bench_complain("the job came twice");
	*took_ns = atomic_load(&bench_shared->arrival_ns) - killed_ns;
	return bench_await_ready(1, f->worker, 2);
}

static int
run_rounds(struct failover *f)
{
	int64_t end, took_ns = 0;
	unsigned n = 0;

	if (bench_await_ready(3, f->worker, 2) != 0 || run_round(f, &took_ns) != 0)
		return -1;
	end = bench_now_ns() + (int64_t)(f->server->options->seconds * 1e9);
	while ((n < MIN_ROUNDS || bench_now_ns() < end) && n < BENCH_MAX_SAMPLES) {
		if (bench_interrupted || run_round(f, &took_ns) != 0)
			return -1;
		bench_shared->sample[n++] = (uint32_t)took_ns;
	}
	atomic_store(&bench_shared->n_samples, n);
	return 0;
}

int
bench_run_failover(const struct bench_server *server, struct bench_result *result)
{
	struct failover f = { .server = server };
	int r;

	bench_queue_name(f.queue);
	atomic_store(&bench_shared->ready, 0);
	atomic_store(&bench_shared->holder, -1);
	if (pipe(f.go) != 0 || pipe(f.event) != 0)
		return bench_complain("pipe: %s", strerror(errno));
	start_worker(&f, 0);
	start_worker(&f, 1);
	f.caller = bench_fork();
	if (f.caller == 0) {
		close(f.go[1]);
		call(&f);
	}
	r = run_rounds(&f);
	close(f.go[1]);
	if (r == 0)
		r = bench_await_exit(&f.caller, 1);
	bench_kill(&f.caller, 1);
	bench_kill(f.worker, 2);
	close(f.go[0]);
	close(f.event[0]);
	close(f.event[1]);
	memset(result, 0, sizeof *result);
	if (r == 0) {
		result->p50_us = bench_percentile_us(50);
		result->p99_us = bench_percentile_us(99);
	}
	return r;
}
